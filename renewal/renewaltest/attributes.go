package renewaltest

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/rxguard/rxguard/renewal"
)

func isAttributer(s *suite) string {
	if _, ok := s.made.(renewal.Attributer); !ok {
		return "the Enroller is no renewal.Attributer"
	}
	return ""
}

// asking calls Attributes.
func asking(into *renewal.Attributes) method {
	return func(ctx context.Context, s *suite, e renewal.Enroller, c call) error {
		a, ok := e.(renewal.Attributer)
		if !ok {
			return fmt.Errorf("the Enroller is of type %T, which is no renewal.Attributer; the first was one", e)
		}
		var w renewal.Attributes
		err := s.do(ctx, c, func(ctx context.Context, t *renewal.Transport) (err error) {
			w, err = a.Attributes(ctx, t)
			return err
		})
		if err == nil && into != nil {
			*into = w
		}
		return err
	}
}

func wishes(ctx context.Context, s *suite) error {
	issued := s.issued()
	var w renewal.Attributes
	for range 2 {
		if err := asking(&w)(ctx, s, s.made, call{what: "Attributes"}); err != nil {
			return fmt.Errorf("the Attributes of an authority that answers: %w", err)
		}
	}
	if n := s.issued() - issued; n != 0 {
		return fmt.Errorf("the Attributes had %d certificates issued; wanted none", n)
	}
	return possible(w)
}

// possible tells whether package renewal makes such requests.
func possible(w renewal.Attributes) error {
	switch {
	case !slices.Contains([]int{0, 2048, 3072, 4096}, w.KeyBits):
		return fmt.Errorf("Attributes.KeyBits is %d; wanted 2048, 3072 or 4096, or 0 for no wish; what no card can do is Rejected", w.KeyBits)
	case !slices.Contains([]x509.SignatureAlgorithm{0, x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA}, w.Signature):
		return fmt.Errorf("Attributes.Signature is %s; wanted RSASSA-PKCS1-v1_5 with SHA-256, SHA-384 or SHA-512, or 0 for no wish; what no card can do is Rejected", w.Signature)
	}
	return nil
}

func wishesEnd(ctx context.Context, s *suite) error { return ends(ctx, s, "Attributes", asking(nil)) }

// wished is what requests should carry, as package renewal makes them; nothing where
// the Enroller does not say or fails, which has a sentence of its own.
func (s *suite) wished() renewal.Attributes {
	s.learnt.Do(func() {
		var w renewal.Attributes
		if isAttributer(s) == "" && asking(&w)(context.Background(), s, s.made, call{what: "Attributes"}) == nil && possible(w) == nil {
			s.wishes = w
		}
	})
	w := s.wishes
	if w.KeyBits == 0 {
		w.KeyBits = 2048
	}
	if w.Signature == x509.UnknownSignatureAlgorithm {
		w.Signature = x509.SHA256WithRSA
	}
	return w
}
