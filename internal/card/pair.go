package card

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/rxguard/rxguard/guard"
)

// Pair is a certificate and the CKA_ID that it shares with its private key.
type Pair struct {
	ID          []byte
	Label       string
	Certificate *guard.Certificate // nil: it is damaged

	// KeyShown tells that the private key was seen. Before a login it may be hidden
	// (PKCS#11 v3.0 4.4, CKA_PRIVATE), and what it wants is not known.
	KeyShown           bool
	AlwaysAuthenticate bool
}

// Role is what a certificate on a card is taken for.
type Role string

// The roles. A certificate has its role by profile and key, never by slot, label
// or age.
const (
	RoleSigning        Role = "signing"        // the one that documents are signed with
	RoleCandidate      Role = "candidate"      // one of several for signing, none of which is taken
	RoleAuthentication Role = "authentication" // for logging in
	RoleOld            Role = "old"            // its key is not the card's any more
	RoleOther          Role = "other"          // for neither, or for logging in with a key that also signs
	RoleDamaged        Role = "damaged"        // it cannot be read
)

// Taken is a certificate on a card, with what it is taken for and why.
type Taken struct {
	Pair
	Role Role
	Why  string // in words for who looks after the card
	Err  error  // why it is damaged

	der  []byte
	is   profile
	key  keyState
	x509 *x509.Certificate
}

// Certificates are all that a card shows, in the order of their CKA_IDs. They do
// not depend on the order of the objects that they were made of.
type Certificates []Taken

type profile int

const (
	forNeither profile = iota
	forSigning
	forAuthentication
)

type keyState int

const (
	keyUnseen keyState = iota // hidden until the login, or not there
	keyGone                   // not there
	keyShown
	keyOther // the key with its CKA_ID is not its own
)

var keyText = map[keyState]string{
	keyUnseen: "its private key is not seen: hidden until the passcode is entered, or not there",
	keyGone:   "its private key is not on the card",
	keyShown:  "its private key is on the card",
	keyOther:  "the key with its CKA_ID is not its own",
}

var profileText = map[profile]string{
	forNeither:        "neither for signing nor for authentication by its key usage",
	forSigning:        "for signing by its key usage",
	forAuthentication: "for authentication by its key usage",
}

// SigningPair chooses the signing certificate among what a card shows, where it is
// not known whether anybody is logged in: Certificates.Signing.
func SigningPair(objects []Object) (Pair, error) { return CertificatesOf(objects, false).Signing() }

// AuthenticationPair chooses the certificate that the card logs in with, as
// SigningPair does: Certificates.Authentication.
func AuthenticationPair(objects []Object) (Pair, error) {
	return CertificatesOf(objects, false).Authentication()
}

// CertificatesOf tells what each certificate among a card's objects is taken for.
// Read after a login, the objects hold every private key that there is.
func CertificatesOf(objects []Object, loggedIn bool) Certificates {
	var cs Certificates
	for _, o := range objects {
		if o.Class != CertificateObject {
			continue
		}
		t := read(o, objects)
		if loggedIn && t.key == keyUnseen {
			t.key = keyGone
		}
		cs = append(cs, t)
	}
	slices.SortFunc(cs, func(a, b Taken) int {
		return cmp.Or(bytes.Compare(a.ID, b.ID), bytes.Compare(a.der, b.der), cmp.Compare(a.Label, b.Label))
	})
	// Some modules list an object twice.
	cs = slices.CompactFunc(cs, func(a, b Taken) bool { return bytes.Equal(a.ID, b.ID) && bytes.Equal(a.der, b.der) })
	cs.explain()
	return cs
}

// read reads one certificate and looks for its key.
func read(o Object, objects []Object) Taken {
	t := Taken{Pair: Pair{ID: o.ID, Label: o.Label}, der: o.DER}
	c, err := guard.ParseCertificate(o.DER)
	if err != nil {
		t.Err = err
		return t
	}
	t.Certificate, t.x509 = c, c.X509()
	switch {
	case isAuthentication(t.x509):
		t.is = forAuthentication
	case t.x509.KeyUsage&x509.KeyUsageContentCommitment != 0:
		t.is = forSigning
	}
	// CKA_ID is a label that software sets; the public key is the proof. Some cards
	// show none, and the CKA_ID is believed until a signature was verified.
	var beside, own bool
	for _, k := range objects {
		if k.Class == PublicKeyObject && k.Public != nil && bytes.Equal(k.ID, o.ID) {
			beside, own = true, own || SameKey(k.Public, t.x509.PublicKey)
		}
	}
	if beside && !own {
		t.key = keyOther
	}
	for _, k := range objects {
		if k.Class != PrivateKeyObject || !bytes.Equal(k.ID, o.ID) {
			continue
		}
		its := own || !beside
		if k.Public != nil {
			its = SameKey(k.Public, t.x509.PublicKey)
		}
		switch {
		case its:
			t.key, t.KeyShown = keyShown, true
			t.AlwaysAuthenticate = t.AlwaysAuthenticate || k.AlwaysAuthenticate
		case t.key != keyShown:
			t.key = keyOther
		}
	}
	return t
}

// Signing chooses the signing certificate, by profile and key: the one of those
// with contentCommitment (RFC 5280 4.2.1.3) whose private key is seen; where none of
// their keys is, the one whose key may be hidden. Where none has the profile, the one
// certificate that is not for authentication is taken, so that the guard can say what
// is wrong with it. Several candidates are refused by name. Errors are *Error; those
// without a certificate also wrap one of package guard's sentinels.
func (cs Certificates) Signing() (Pair, error) {
	found := cs.signing()
	if len(found) == 1 {
		return found[0].Pair, nil
	}
	fail := func(k Kind, err error, detail string) (Pair, error) {
		return Pair{}, &Error{Kind: k, Op: "find", TriesLeft: -1, Detail: detail, Err: err}
	}
	if len(found) > 1 {
		return fail(Ambiguous, guard.ErrSeveralCertificates, told(found))
	}
	for _, t := range cs {
		if t.is == forSigning && t.key == keyOther {
			return fail(KeyMismatch, nil, told(Certificates{t}))
		}
	}
	for _, t := range cs {
		if t.Err != nil {
			return fail(BadObject, fmt.Errorf("%w: %w", guard.ErrCertificateDamaged, t.Err), t.name())
		}
	}
	return fail(NoCertificate, guard.ErrNoSigningCertificate, told(cs))
}

// Settled tells whether a login can show nothing new: no certificate that could sign
// has a key that may be hidden.
func (cs Certificates) Settled() bool {
	return !slices.ContainsFunc(cs, func(t Taken) bool {
		return t.Err == nil && t.key == keyUnseen && t.is != forAuthentication
	})
}

// Rivals returns the candidates for signing where there are several and the card
// shows the private key of none: which of them has one shows after a login.
func (cs Certificates) Rivals() []Pair {
	found := cs.signing()
	if len(found) < 2 || found[0].KeyShown {
		return nil
	}
	ps := make([]Pair, len(found))
	for i, t := range found {
		ps[i] = t.Pair
	}
	return ps
}

// signing lists the candidates.
func (cs Certificates) signing() Certificates {
	if slices.ContainsFunc(cs, func(t Taken) bool { return t.is == forSigning }) {
		return cs.keyed(func(t Taken) bool { return t.is == forSigning })
	}
	if slices.ContainsFunc(cs, func(t Taken) bool { return t.Err != nil }) {
		return nil // it may be the one
	}
	return cs.keyed(func(t Taken) bool { return t.is == forNeither })
}

// keyed lists those that fit and whose key is seen; where there are none, those
// whose key may be hidden.
func (cs Certificates) keyed(fits func(Taken) bool) Certificates {
	with := func(k keyState) (list Certificates) {
		for _, t := range cs {
			if t.Err == nil && t.key == k && fits(t) {
				list = append(list, t)
			}
		}
		return list
	}
	if list := with(keyShown); len(list) > 0 {
		return list
	}
	return with(keyUnseen)
}

// Authentication chooses the certificate that the card logs in with: the one with
// digitalSignature and clientAuth, whose key is seen or may be hidden, and is not
// that of a signing certificate. Errors as those of Signing.
func (cs Certificates) Authentication() (Pair, error) {
	auth := cs.authentication()
	switch len(auth) {
	case 1:
		return auth[0].Pair, nil
	case 0:
		return Pair{}, Errorf(NoCertificate, "find", "no authentication certificate with a key of its own is on the card")
	}
	return Pair{}, Errorf(Ambiguous, "find", "several authentication certificates: %s", told(auth))
}

func (cs Certificates) authentication() Certificates {
	return cs.keyed(func(t Taken) bool { return t.is == forAuthentication && !cs.signsToo(t) })
}

// signsToo tells whether a certificate's key is also that of a signing certificate:
// such a key must not be used for TLS (RFC 8446 4.4.2.2).
func (cs Certificates) signsToo(t Taken) bool {
	return slices.ContainsFunc(cs, func(s Taken) bool {
		return s.is == forSigning && SameKey(s.x509.PublicKey, t.x509.PublicKey)
	})
}

// explain gives each certificate its role and says why.
func (cs Certificates) explain() {
	signing, auth := cs.signing(), cs.authentication()
	among := func(list Certificates, t Taken) bool {
		return slices.ContainsFunc(list, func(o Taken) bool { return bytes.Equal(o.ID, t.ID) && bytes.Equal(o.der, t.der) })
	}
	for i := range cs {
		t := &cs[i]
		t.Why = profileText[t.is] + "; " + keyText[t.key]
		switch {
		case t.Err != nil:
			t.Role, t.Why = RoleDamaged, t.Err.Error()
		case among(signing, *t) && len(signing) > 1:
			t.Role = RoleCandidate
		case among(signing, *t):
			t.Role = RoleSigning
			if t.is == forNeither {
				t.Why += "; no other could be meant"
			}
		case among(auth, *t):
			t.Role = RoleAuthentication
		case t.is == forNeither:
			t.Role = RoleOther
		case t.is == forAuthentication && cs.signsToo(*t):
			t.Role = RoleOther
			t.Why += "; its key is also that of a signing certificate"
		default:
			t.Role = RoleOld
			if t.key == keyUnseen {
				t.Why += "; another's is on the card"
			}
		}
	}
}

// SameKey compares public keys.
func SameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func isAuthentication(c *x509.Certificate) bool {
	return c.KeyUsage&x509.KeyUsageDigitalSignature != 0 && slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
}

// name names a certificate on the card.
func (t Taken) name() string {
	if t.Certificate == nil {
		return fmt.Sprintf("certificate %q (CKA_ID %x)", t.Label, t.ID)
	}
	i := t.Certificate.Info()
	return fmt.Sprintf("certificate %q (issuer %s, serial %s, CKA_ID %x)", t.Label, i.Issuer, i.Serial, t.ID)
}

// told names each and says why it is what it is.
func told(ts Certificates) string {
	var list []string
	for _, t := range ts {
		list = append(list, t.name()+": "+t.Why)
	}
	return strings.Join(list, "; ")
}
