package renewal

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
)

// Attributer is an Enroller whose authority says what requests should carry
// (RFC 7030 4.5). It is asked before the card is changed, and again by a later run
// that makes the key or the request. What no card can do, as another kind of key,
// is an *EnrolError of kind Rejected; its other errors are those of Enrol.
type Attributer interface {
	Attributes(ctx context.Context, t *Transport) (Attributes, error)
}

// Attributes are what a request should carry. The zero value wishes for nothing.
type Attributes struct {
	KeyBits    int                     // of the new RSA key; 0: 2048
	Signature  x509.SignatureAlgorithm // RSASSA-PKCS1-v1_5; 0: with SHA-256
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
			r.wishes = &w
		}
		return err
	})
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
