package renewal

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
)

// Attributer is an Enroller whose authority says what requests should carry
// (RFC 7030 4.5).
type Attributer interface {
	// Attributes asks the authority, as the card, what its request should carry; it
	// changes nothing there. It is called when the passcode was entered, before the card
	// is changed, and again by a later run that makes the key or the request. Errors and
	// ctx are as those of Enrol; what no card can do, as another kind of key, is Rejected.
	Attributes(ctx context.Context, t *Transport) (Attributes, error)
}

// Attributes are what a request should carry. The zero value wishes for nothing; what is
// not one of the values here is Malformed, and the card is left as it is.
type Attributes struct {
	KeyBits    int                     // of the new RSA key: 2048, 3072 or 4096; 0: 2048
	Signature  x509.SignatureAlgorithm // RSASSA-PKCS1-v1_5 with SHA-256, SHA-384 or SHA-512; 0: with SHA-256
	Extensions []pkix.Extension        // of the extensionRequest (RFC 2985 5.4.2)
}

// learn asks an authority that has wishes for requests, once in a run.
func (r *run) learn(ctx context.Context) error {
	a, ok := r.c.Enroller.(Attributer)
	if !ok || r.wishes != nil {
		return nil
	}
	return r.ask(ctx, func(t *Transport) error {
		w, err := a.Attributes(ctx, t)
		if err == nil {
			err = w.check()
		}
		if err == nil {
			r.wishes = &w
		}
		return err
	})
}

// check refuses what would stop a renewal with the card half changed, or make a weak key.
func (w Attributes) check() error {
	switch {
	case !slices.Contains([]int{0, 2048, 3072, 4096}, w.KeyBits):
		return &EnrolError{Kind: Malformed, Detail: fmt.Sprintf("the Enroller's Attributes.KeyBits is %d; wanted 2048, 3072 or 4096, or 0", w.KeyBits)}
	case !slices.Contains([]x509.SignatureAlgorithm{0, x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA}, w.Signature):
		return &EnrolError{Kind: Malformed, Detail: fmt.Sprintf("the Enroller's Attributes.Signature is %s; wanted RSASSA-PKCS1-v1_5 with SHA-256, SHA-384 or SHA-512, or 0", w.Signature)}
	}
	return nil
}

// wished is what learn learnt, with the defaults in their places.
func (r *run) wished() Attributes {
	w := Attributes{}
	if r.wishes != nil {
		w = *r.wishes
	}
	if w.KeyBits == 0 {
		w.KeyBits = 2048
	}
	if w.Signature == x509.UnknownSignatureAlgorithm {
		w.Signature = x509.SHA256WithRSA
	}
	return w
}

// suits refuses a key that is not as the authority wishes: one of an earlier run,
// to which it had said something else. Without a wish every key is good.
func (r *run) suits(bits int) error {
	if r.wishes == nil || r.wishes.KeyBits == 0 || r.wishes.KeyBits == bits {
		return nil
	}
	return &EnrolError{Kind: Rejected, Detail: fmt.Sprintf("it takes RSA keys of %d bits, and the card's new key has %d; begin again, for a key of that size", r.wishes.KeyBits, bits)}
}
