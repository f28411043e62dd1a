package promises

import "regexp"

const (
	cardPath  = module + "/internal/card"
	tbsPath   = module + "/internal/tbs"
	statePath = module + "/internal/state"
	p11Path   = module + "/internal/p11"
)

// keyInterfaces are what a holder of a value could sign or decrypt with. No type
// that can be reached from the exported API may have their methods.
var keyInterfaces = [][2]string{
	{"crypto", "Signer"},
	{"crypto", "MessageSigner"},
	{"crypto", "Decrypter"},
	{cardPath, "Token"},
	{cardPath, "Session"},
}

// forbidden are types that are a key, or lead to one, or to what keeps a card from
// signing. They occur nowhere in the exported API, neither as what it gives nor as
// what it takes: a parameter that is a pointer, a callback or a struct gives too.
var forbidden = map[string]string{
	"crypto.PrivateKey":         "is a private key",
	"crypto.Signer":             "signs",
	"crypto.MessageSigner":      "signs",
	"crypto.Decrypter":          "decrypts",
	"crypto/rsa.PrivateKey":     "is a private key",
	"crypto/ecdsa.PrivateKey":   "is a private key",
	"crypto/ecdh.PrivateKey":    "is a private key",
	"crypto/ed25519.PrivateKey": "is a private key",
	"crypto/tls.Certificate":    "holds a private key",
	"crypto/tls.Config":         "leads to a private key",
	"net/http.Transport":        "shows its TLS configuration, which leads to a private key",
	"net/http.Server":           "shows its TLS configuration, which leads to a private key",
	"unsafe.Pointer":            "leads anywhere",
	"reflect.Value":             "leads anywhere",
	cardPath + ".Token":         "is the card itself",
	cardPath + ".Session":       "is the card itself",
	cardPath + ".Options":       "holds the passcode's callback",
	cardPath + ".Pair":          "is how a key on the card is named",
	p11Path + ".Module":         "is what all cards are behind",
	p11Path + ".Token":          "is the card itself",
	statePath + ".Dir":          "can end a hold",
}

// allowedTypes are uses of a forbidden type, as "function: type", with the reason.
var allowedTypes = map[string]string{
	"renewal.SoftwareTransport: crypto/tls.Certificate": "it is taken, not given: a key in memory that the caller made",
}

// allowedNames are functions and methods whose name says that they sign, with the
// reason.
var allowedNames = map[string]string{
	"signing.Sign":     "the one way to sign: it asks the guard, and takes documents, not bytes",
	"signing.SignEach": "Sign for one document after the other",
}

// allowedBytes are functions that turn bytes or a digest into bytes, as a raw
// signature would be made, with the reason.
var allowedBytes = map[string]string{
	"signing/eps.SignedInfo": "writes the XML around a digest; no key takes part",
	"guard/advisory.Files":   "a callback of the caller's own: a file by its hash",
}

// allowedInterfaces are results and fields of an interface type, whose value may be
// more than the type shows, with the reason.
var allowedInterfaces = map[string]string{
	"guard.Config.Advisories": "the caller's own",
	"guard.Config.Revocation": "the caller's own",
	"guard.Config.Floor":      "the caller's own",
	"renewal.Config.Recorder": "the caller's own",
	"renewal.Config.Enroller": "the caller's own",

	"renewal/renewaltest.Config.New": "a callback of the caller's own",
	"renewal/renewaltest.Config.At":  "a callback of the caller's own",
}

// documents are the types that may give out a tbs.Message and take a
// tbs.Signature, with the reason.
var documents = map[string]string{
	"signing.Document":         "the interface itself",
	"signing/eps.Prepared":     "its bytes were parsed by this module and are exactly a SignedInfo",
	"signing/eps.Prescription": "its bytes are a SignedInfo that this module writes over the prescription that it parsed",
	"signing/cms.Content":      "its bytes are signed attributes that this module writes about the content, never the content",
}

// internals are the internal types that holders may see, with the reason. What is
// behind an alias of one is public, whatever its package is called.
var internals = map[string]string{
	"internal/card.Handle":     "signing.Card, opaque",
	"internal/card.Reader":     "signing.Reader, opaque",
	"internal/card.Error":      "signing.CardError, data",
	"internal/card.Kind":       "signing.CardErrorKind, data",
	"internal/card.PINRequest": "signing.PINRequest, data",
	"internal/card.Purpose":    "signing.Purpose, data",
	"internal/card.Role":       "signing.CertificateRole, data",
	"internal/tbs.Message":     "what documents give to Sign; only this module makes one",
	"internal/tbs.Signature":   "what Sign gives to documents; only this module reads it",
}

// opaque lists all that a holder can do with the types that are close to a key. A
// new method is to be looked at here before it is let through.
var opaque = map[string][]string{
	"internal/card.Handle":   {"Changed", "Close", "Snapshot"},
	"internal/card.Reader":   {},
	"internal/tbs.Message":   {"IsZero", "Kind"},
	"internal/tbs.Signature": {"Format", "GoString", "IsZero", "String"},
	"signing.Signer":         {"Close", "EndHold"},
	"renewal.Transport":      {"AuthenticatesAs", "Client", "Through"},
}

// signs matches the names of functions that say that they sign or unlock.
var signs = regexp.MustCompile(`^(Sign|SignMessage|SignDigest|SignRaw|RawSign|Decrypt|Unseal|PrivateKey|TokenOf)([A-Z0-9_]|$)`)
