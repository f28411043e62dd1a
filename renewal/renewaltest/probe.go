package renewaltest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/rxguard/rxguard/renewal"
)

// probing calls Probe.
func probing(ctx context.Context, s *suite, e renewal.Enroller, c call) error {
	p, ok := e.(renewal.Prober)
	if !ok {
		return fmt.Errorf("the Enroller is of type %T, which is no renewal.Prober; the first was one", e)
	}
	return s.do(ctx, c, p.Probe)
}

func probes(ctx context.Context, s *suite) error {
	issued := s.issued()
	for range 2 {
		if err := probing(ctx, s, s.made, call{what: "Probe"}); err != nil {
			return fmt.Errorf("the Probe of an authority that answers: %w", err)
		}
	}
	if n := s.issued() - issued; n != 0 {
		return fmt.Errorf("the Probe had %d certificates issued; wanted none", n)
	}
	return nil
}

func probeEnds(ctx context.Context, s *suite) error { return ends(ctx, s, "Probe", probing) }

// ends holds a method to the rules for the errors of Enrol.
func ends(ctx context.Context, s *suite, name string, m method) error {
	return errors.Join(before(ctx, s, name, m), within(ctx, s, name, m), nobody(ctx, s, name, m))
}

// delivered is an order whose certificate is on the card.
type delivered struct {
	*order
	certificate []byte
}

// deliver enrols; nil for an authority that lets everybody wait.
func (s *suite) deliver(ctx context.Context) (*delivered, error) {
	o, err := s.order()
	if err != nil {
		return nil, err
	}
	a, err := s.must(ctx, s.made, o, "Enrol")
	if err != nil {
		return nil, err
	}
	if len(a.Certificate) == 0 {
		return nil, errors.New("the authority of tests lets the request wait; wanted one that issues at once, for Confirm to be tested")
	}
	return &delivered{o, bytes.Clone(a.Certificate)}, nil
}

// prove makes a proof as package renewal does, by the key.
func prove(key *rsa.PrivateKey) (renewal.Proof, error) {
	nonce := make([]byte, 32)
	rand.Read(nonce)
	p := renewal.Proof{Challenge: append([]byte(renewal.ChallengeDomain), nonce...)}
	sum := sha256.Sum256(p.Challenge)
	var err error
	p.Signature, err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	return p, err
}

// confirm calls Confirm with a proof by the key, and looks at what it got afterwards.
func (s *suite) confirm(ctx context.Context, e renewal.Enroller, d *delivered, key *rsa.PrivateKey, c call) error {
	confirmer, ok := e.(renewal.Confirmer)
	if !ok {
		return fmt.Errorf("the Enroller is of type %T, which is no renewal.Confirmer; the first was one", e)
	}
	p, err := prove(key)
	if err != nil {
		return err
	}
	q, cert := d.request(), bytes.Clone(d.certificate)
	given := renewal.Proof{Challenge: bytes.Clone(p.Challenge), Signature: bytes.Clone(p.Signature)}
	err = s.do(ctx, c, func(ctx context.Context, t *renewal.Transport) error {
		return confirmer.Confirm(ctx, t, q, cert, given)
	})
	if errors.As(err, new(*fatal)) {
		return err
	}
	if !bytes.Equal(q.CSR, d.csr) || !bytes.Equal(cert, d.certificate) || !bytes.Equal(given.Challenge, p.Challenge) || !bytes.Equal(given.Signature, p.Signature) {
		return fmt.Errorf("%s changed the request, the certificate or the proof", c.what)
	}
	return err
}

func confirms(ctx context.Context, s *suite) error {
	d, err := s.deliver(ctx)
	if err != nil {
		return err
	}
	another, err := s.enroller()
	if err != nil {
		return err
	}
	for _, r := range []struct {
		what string
		e    renewal.Enroller
	}{{"Confirm", s.made}, {"Confirm, called again", s.made}, {"Confirm, called again on an Enroller that was made anew", another}} {
		if err := s.confirm(ctx, r.e, d, d.key, call{what: r.what}); err != nil {
			return fmt.Errorf("%s failed: %w", r.what, err)
		}
	}
	return nil
}

func rejectsProof(ctx context.Context, s *suite) error {
	d, err := s.deliver(ctx)
	if err != nil {
		return err
	}
	stranger, err := s.order()
	if err != nil {
		return err
	}
	const what = "Confirm with a proof by another key"
	return kind(what, s.confirm(ctx, s.made, d, stranger.key, call{what: what}), renewal.Rejected)
}

func confirmEnds(ctx context.Context, s *suite) error {
	d, err := s.deliver(ctx)
	if err != nil {
		return err
	}
	return ends(ctx, s, "Confirm", func(ctx context.Context, s *suite, e renewal.Enroller, c call) error {
		return s.confirm(ctx, e, d, d.key, c)
	})
}
