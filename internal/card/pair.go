package card

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/rxguard/rxguard/guard"
)

// Pair is a certificate and the CKA_ID that it shares with its private key.
type Pair struct {
	ID                 []byte
	Label              string
	Certificate        *guard.Certificate
	AlwaysAuthenticate bool
}

// SigningPair chooses the signing certificate among a card's objects, by profile
// and key, never by slot or label: the one certificate with contentCommitment
// whose private key is there. Where none has the profile, the one certificate
// that is not for authentication is taken, so that the guard can say what is wrong
// with it. Several candidates are refused by name. Errors are *Error; those
// without a certificate also wrap one of package guard's sentinels.
func SigningPair(objects []Object) (Pair, error) {
	ps, damaged, err := pairs(objects)
	if err != nil {
		return Pair{}, err
	}
	signing := slices.DeleteFunc(slices.Clone(ps), func(p Pair) bool { return !isSigning(p.Certificate.X509()) })
	if len(signing) == 0 && damaged == nil {
		signing = slices.DeleteFunc(slices.Clone(ps), func(p Pair) bool { return isAuthentication(p.Certificate.X509()) })
	}
	switch {
	case len(signing) == 1:
		return signing[0], nil
	case len(signing) > 1:
		return Pair{}, &Error{Kind: Ambiguous, Op: "find", TriesLeft: -1, Detail: names(signing), Err: guard.ErrSeveralCertificates}
	case damaged != nil:
		return Pair{}, damaged
	case len(ps) > 0:
		return Pair{}, &Error{Kind: NoCertificate, Op: "find", TriesLeft: -1, Detail: "found for authentication: " + names(ps), Err: guard.ErrNoSigningCertificate}
	}
	return Pair{}, &Error{Kind: NoCertificate, Op: "find", TriesLeft: -1, Err: guard.ErrNoSigningCertificate}
}

// AuthenticationPair chooses the certificate that the card logs in with: the one
// with digitalSignature and clientAuth, whose key is not the signing key. Errors
// as SigningPair.
func AuthenticationPair(objects []Object) (Pair, error) {
	ps, _, err := pairs(objects)
	if err != nil {
		return Pair{}, err
	}
	auth := slices.DeleteFunc(slices.Clone(ps), func(p Pair) bool { return !isAuthentication(p.Certificate.X509()) })
	// A key that also signs prescriptions must not be used for TLS.
	auth = slices.DeleteFunc(auth, func(a Pair) bool {
		return slices.ContainsFunc(ps, func(p Pair) bool {
			return isSigning(p.Certificate.X509()) && SameKey(p.Certificate.X509().PublicKey, a.Certificate.X509().PublicKey)
		})
	})
	switch len(auth) {
	case 1:
		return auth[0], nil
	case 0:
		return Pair{}, Errorf(NoCertificate, "find", "no authentication certificate with a key of its own is on the card")
	}
	return Pair{}, Errorf(Ambiguous, "find", "several authentication certificates: %s", names(auth))
}

// pairs lists the certificates whose private key is on the card. Where no private
// key is visible (before the login of most cards) every certificate counts.
func pairs(objects []Object) (ps []Pair, damaged, mismatch error) {
	hidden := !slices.ContainsFunc(objects, func(o Object) bool { return o.Class == PrivateKeyObject })
	for _, o := range objects {
		if o.Class != CertificateObject {
			continue
		}
		c, err := guard.ParseCertificate(o.DER)
		if err != nil {
			damaged = &Error{Kind: BadObject, Op: "find", TriesLeft: -1,
				Detail: fmt.Sprintf("certificate %q (CKA_ID %x)", o.Label, o.ID),
				Err:    fmt.Errorf("%w: %w", guard.ErrCertificateDamaged, err)}
			continue
		}
		p := Pair{ID: o.ID, Label: o.Label, Certificate: c}
		if hidden {
			ps = append(ps, p)
			continue
		}
		var other bool
		for _, k := range objects {
			if k.Class != PrivateKeyObject || !bytes.Equal(k.ID, o.ID) {
				continue
			}
			// CKA_ID is a label that software sets; the public key is the proof.
			if pub := publicOf(objects, k); pub != nil && !SameKey(pub, c.X509().PublicKey) {
				other = true
				continue
			}
			p.AlwaysAuthenticate, other = k.AlwaysAuthenticate, false
			ps = append(ps, p)
			break
		}
		if other && isSigning(c.X509()) {
			return nil, nil, Errorf(KeyMismatch, "find", "certificate %q, serial %s, and the key with the same CKA_ID %x",
				o.Label, c.Info().Serial, o.ID)
		}
	}
	return ps, damaged, nil
}

// publicOf returns the public key of a private key object, from itself or from the
// public key object beside it; nil where the card shows neither.
func publicOf(objects []Object, private Object) crypto.PublicKey {
	if private.Public != nil {
		return private.Public
	}
	for _, o := range objects {
		if o.Class == PublicKeyObject && bytes.Equal(o.ID, private.ID) && o.Public != nil {
			return o.Public
		}
	}
	return nil
}

// SameKey compares public keys.
func SameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func isSigning(c *x509.Certificate) bool {
	return c.KeyUsage&x509.KeyUsageContentCommitment != 0 && !isAuthentication(c)
}

func isAuthentication(c *x509.Certificate) bool {
	return c.KeyUsage&x509.KeyUsageDigitalSignature != 0 && slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
}

func names(ps []Pair) string {
	var s []string
	for _, p := range ps {
		i := p.Certificate.Info()
		s = append(s, fmt.Sprintf("%q (issuer %s, serial %s, CKA_ID %x)", p.Label, i.Issuer, i.Serial, p.ID))
	}
	return strings.Join(s, ", ")
}
