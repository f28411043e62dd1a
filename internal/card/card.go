// Package card is what signing and renewal need of a smartcard: two small
// interfaces that internal/p11 and internal/testcard implement, the opaque
// [Handle] that vendors hold (as signing.Card), and typed errors that keep a
// module's raw code and say what the person should do.
//
// "Card" is the person's object, "token" the PKCS#11 one. A [Session] belongs to
// one insertion of the card: once the card was out, every call on it fails with
// Kind Removed, and a new Session must be opened.
//
// What a card goes by in the state folder is made of what it says of itself and of
// its certificates: [Certificates.ID] and [Certificates.Names].
package card

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
)

// Presence is what the reader says about a card.
type Presence struct {
	Present bool
	// Insertion counts the insertions that this token's owner saw; it grows by
	// one with each.
	Insertion uint64
	// Reset tells that this insertion began without the card having been seen out:
	// the module says that the card was reset, or taken out and put back too quickly
	// to be seen. It ends every session, and no hold. Read opens a session again that
	// such an insertion ended, to read alone.
	Reset bool
}

// Before tells whether p was seen earlier than q: within one insertion a card is
// in first and out afterwards.
func (p Presence) Before(q Presence) bool {
	return p.Insertion < q.Insertion || p.Insertion == q.Insertion && p.Present && !q.Present
}

// Token is one card in one reader. Its methods may be called from several
// goroutines.
type Token interface {
	// Presence answers at once.
	Presence() Presence
	// Wait returns when the presence differs from since, or with ctx's error.
	// It reports every insertion and removal, also when they follow quickly.
	Wait(ctx context.Context, since Presence) (Presence, error)
	// Open starts a session on the card as it is now: an *Error of Kind Absent
	// when it is out.
	Open(ctx context.Context) (Session, error)
	// Simulated tells whether this is the simulated card.
	Simulated() bool
}

// Session is a logical connection to a card for one insertion. It is used by one
// goroutine at a time. Every error is an *Error, ctx's error, or wraps one.
type Session interface {
	// Insertion is the insertion that the session belongs to.
	Insertion() uint64
	// Info reads identity and passcode flags afresh. It needs no login.
	Info(ctx context.Context) (Info, error)
	// Objects lists certificates, and the keys that are visible: private keys
	// may be hidden before Login (PKCS#11 v3.0 4.4, CKA_PRIVATE).
	Objects(ctx context.Context) ([]Object, error)
	// Login presents the passcode once; a nil pin asks on the reader's own pad
	// (Info.ProtectedPath). It never tries again by itself. It keeps a copy of pin
	// only where the module needs it once more, for a key that wants it at each
	// signature or after the security officer was logged in, and wipes that with
	// the signature, at Logout or at Close. Where the card is still at work when ctx
	// ends, it works on a copy too, because the caller wipes pin.
	Login(ctx context.Context, pin []byte) error
	// Logout ends the login, if there is one.
	Logout(ctx context.Context) error
	// Sign signs digest with the private key that has the given CKA_ID. It needs
	// a login, and a key that is always-authenticate one for each signature. For
	// RSA a nil *rsa.PSSOptions in opts means RSASSA-PKCS1-v1_5; ECDSA is
	// answered as ASN.1 DER.
	Sign(ctx context.Context, id []byte, digest []byte, opts crypto.SignerOpts) ([]byte, error)
	// Vacant names a CKA_ID under which a pair can be made beside all that is on the
	// card: any where the module leaves that free, the one of an empty slot on a card
	// that has fixed ones (PIV, NIST SP 800-73-4 part 1, 4.3). Kind Full when there is
	// none.
	Vacant(ctx context.Context) ([]byte, error)
	// Generate makes a key pair in a container of its own, never over a key that
	// is there: CKA_ID and CKA_LABEL as given. It answers Kind Full before
	// anything is touched when there is no room. With KeySpec.Over the new pair takes
	// the place of the one with this CKA_ID, which is gone then, and its certificate
	// with it or of no more use; a token that is known to make no pair answers Kind
	// Unsupported before that.
	Generate(ctx context.Context, spec KeySpec) (Object, error)
	// WriteCertificate stores a certificate beside the key of the same CKA_ID.
	WriteCertificate(ctx context.Context, id []byte, label string, der []byte) error
	// Destroy removes the objects of one class with this CKA_ID. Nothing to
	// remove is an *Error of Kind NotFound.
	Destroy(ctx context.Context, class Class, id []byte) error
	// Close ends the session and its login.
	Close() error
}

// Class is the class of an object, PKCS#11 v3.0 4.1.1 (CKO_).
type Class int

// The classes of objects.
const (
	CertificateObject Class = iota + 1
	PublicKeyObject
	PrivateKeyObject
)

// Object is one object on a card.
type Object struct {
	Class Class
	ID    []byte // CKA_ID
	Label string // CKA_LABEL
	DER   []byte // of a certificate

	// Public is the public key of a key object; nil where the card does not show
	// it.
	Public crypto.PublicKey
	// AlwaysAuthenticate is CKA_ALWAYS_AUTHENTICATE of a private key.
	AlwaysAuthenticate bool
}

// KeySpec says which key pair to make.
type KeySpec struct {
	ID    []byte
	Label string
	Bits  int // of an RSA key

	// Over: the pair that has this CKA_ID is given up for the new one.
	Over bool
}

// Info is what a token says of itself, read afresh.
type Info struct {
	Manufacturer, Model, Serial, Label string

	// PIN flags, PKCS#11 v3.0 3.2 (CKF_USER_PIN_...). CountLow is not dependable
	// on every module; FinalTry and Locked are.
	CountLow, FinalTry, Locked bool
	MinPIN, MaxPIN             int // bytes; 0 unknown
	ProtectedPath              bool
	PSS                        bool // the token signs RSASSA-PSS
	NoKeyPairs                 bool // the token says that it makes no RSA key pairs
	Room                       int  // containers free for a new pair; -1 unknown
}

// ID is a digest of manufacturer, model and serial number, as this module words them:
// another module may word them otherwise. Without a serial number it is that of all
// cards of the model.
func (i Info) ID() string { return digest(i.Manufacturer, i.Model, i.Serial) }

func digest(parts ...string) string {
	h := sha256.New()
	for _, s := range parts {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
