package renewal

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/signing"
)

// Confirmer is an Enroller whose authority waits for the card's proof before it
// counts the certificate as delivered.
type Confirmer interface {
	// Confirm tells the authority that the certificate is on the card and that its key
	// signs: p was made by the new key, a moment ago. It comes after Enrol with the same
	// Request answered with this certificate (DER), in this process or another, and may
	// come again, after a lost answer or a crash, with the same Request and certificate
	// and another Proof: what was confirmed before is confirmed, not refused. Nothing that
	// it is given is changed. Errors and ctx are as those of Enrol: Rejected and
	// WrongCertificate end the renewal, and the card keeps its old certificate.
	Confirm(ctx context.Context, t *Transport, r Request, certificate []byte, p Proof) error
}

// probe asks an authority that can be probed whether it answers, and what it wants
// requests to carry, before the card is touched.
func (r *run) probe(ctx context.Context) error {
	if pr, ok := r.c.Enroller.(Prober); ok {
		if err := r.ask(ctx, func(t *Transport) error { return pr.Probe(ctx, t) }); err != nil {
			return err
		}
	}
	return r.learn(ctx)
}

// reach asks an authority that can be probed whether it answers, before the person is
// asked for anything. The card does not authenticate: a server that wants it to is
// there.
func (r *Renewer) reach(ctx context.Context) error {
	pr, ok := r.c.Enroller.(Prober)
	if !ok {
		return nil
	}
	err := pr.Probe(ctx, &Transport{now: r.now})
	var refused *EnrolError
	var alert *net.OpError
	switch {
	case errors.As(err, &alert) && alert.Op == "remote error": // a TLS alert, RFC 8446 6.2
		return nil
	case errors.As(err, &refused) && refused.Kind == Rejected:
		return nil
	}
	return err
}

// asked is the request as the authority gets it, the same in each repetition.
func (r *run) asked() Request {
	q := Request{ID: r.p.id, CSR: bytes.Clone(r.p.csr), Now: r.now()}
	if old := r.oldCertificate(); old != nil {
		q.Current = old.X509()
	}
	return q
}

// oldCertificate is the one that is renewed; nil when it is not on the card.
func (r *run) oldCertificate() *guard.Certificate {
	for _, o := range r.find(card.CertificateObject, r.p.plan.OldID) {
		if c, err := guard.ParseCertificate(o.DER); err == nil && c.Info().SHA256 == r.p.plan.OldCertificate {
			return c
		}
	}
	return nil
}

// hasCertificate tells whether the card shows a certificate, by its SHA-256.
func (v *view) hasCertificate(sum string) bool {
	return slices.ContainsFunc(v.objects, func(o card.Object) bool { return o.Class == card.CertificateObject && sumOfDER(o.DER) == sum })
}

// enrol asks the authority and judges its answer before anything is written. again
// says that an earlier run may have asked.
func (r *run) enrol(ctx context.Context, again bool) (certificate []byte, chain [][]byte, err error) {
	csr, err := x509.ParseCertificateRequest(r.p.csr)
	if err != nil {
		return nil, nil, &JournalError{Path: r.j.path, Problem: "holds a request that cannot be read" + wayOut, Err: err}
	}
	if again {
		text := "asked again, at the time that the authority gave"
		if !r.p.answered {
			text = "asked again; the authority may have issued a certificate before that nobody has"
		}
		if err := r.write(JournalEntry{Step: StepEnrol, Act: Note, Text: text}); err != nil {
			return nil, nil, err
		}
	}
	if err := r.crash("before authority"); err != nil {
		return nil, nil, err
	}
	var a Answer
	err = r.ask(ctx, func(t *Transport) error {
		a, err = r.c.Enroller.Enrol(ctx, t, r.asked())
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if err := r.crash("after authority"); err != nil {
		return nil, nil, err
	}
	a.Certificate = bytes.Clone(a.Certificate) // what is judged is what is written
	for i, c := range a.Chain {
		if i == 0 {
			a.Chain = slices.Clone(a.Chain)
		}
		a.Chain[i] = bytes.Clone(c)
	}
	if len(a.Certificate) == 0 {
		if a.Pending.IsZero() {
			return nil, nil, &EnrolError{Kind: Malformed, Detail: "the Enroller gave neither a certificate nor a time to ask again"}
		}
		until := a.Pending.UTC()
		if err := r.write(JournalEntry{Step: StepEnrol, Act: Note, AskFrom: until, Text: "the authority decides later"}); err != nil {
			return nil, nil, err
		}
		return nil, nil, &pendingError{until}
	}
	if err := r.judgeNew(a.Certificate, csr); err != nil {
		return nil, nil, err
	}
	return a.Certificate, a.Chain, nil
}

// skew is how far an authority's clock may be ahead of this machine's.
const skew = 10 * time.Minute

// judgeNew asks of the new certificate what is asked of every one, the guard's
// verdict by the same rules, and that the card would sign with it.
func (r *run) judgeNew(der []byte, csr *x509.CertificateRequest) error {
	wrong := func(format string, args ...any) error {
		return &EnrolError{Kind: WrongCertificate, Detail: fmt.Sprintf(format, args...)}
	}
	c, err := guard.ParseCertificate(der)
	switch {
	case err != nil:
		return wrong("%v", err)
	case !bytes.Equal(c.X509().Raw, der):
		return wrong("it is not DER")
	case !card.SameKey(csr.PublicKey, c.X509().PublicKey):
		return wrong("it is for another key than the card's new one")
	case !bytes.Equal(c.X509().RawSubject, csr.RawSubject):
		return wrong("its subject is %s; wanted %s", c.Info().Subject, csr.Subject)
	}
	// A question, and so as of an instant: whether it is good when it comes to signing.
	at := r.now()
	if floor := r.clock.Floor(); at.Before(floor) {
		at = floor // the clock was turned back since the renewal began
	}
	if nb := c.Info().NotBefore; !nb.Before(at) && nb.Before(at.Add(skew)) {
		at = nb.Add(time.Second) // valid by the time the card was re-seated
	}
	s := r.v.snapshot(r.simulated())
	s.Certificate, s.Err = c, nil
	v := r.c.Guard.Judge(s, at)
	if err := r.record(r.p.id, signing.EventJudgedNew, v, ""); err != nil {
		return err
	}
	err = v.Err()
	switch {
	case v.Has(guard.Affected), v.Has(guard.AffectedSoon):
		if err == nil {
			err = errors.New("renewal: a notice will cover the new certificate from " + v.Findings[0].By.UTC().Format(time.RFC3339))
		}
		return &giveUp{whyAffectedAgain, err}
	case v.Has(guard.Expired):
		return &giveUp{whyExpired, err}
	case v.Has(guard.NotYetValid):
		return &giveUp{whyNotYetValid, err}
	case err != nil:
		return &giveUp{whyJudged, err}
	}
	if err := r.fits(c); err != nil {
		return &giveUp{whyJudged, err}
	}
	return nil
}

// fits tells whether the card, with c in the place of the old certificate, would
// sign with c and log in as before.
func (r *run) fits(c *guard.Certificate) error {
	after := slices.DeleteFunc(slices.Clone(r.v.objects), func(o card.Object) bool {
		return bytes.Equal(o.ID, r.p.plan.OldID) && !r.p.replaces() || o.Class == card.CertificateObject && bytes.Equal(o.ID, r.p.plan.NewID)
	})
	after = append(after, card.Object{Class: card.CertificateObject, ID: r.p.plan.NewID, DER: c.X509().Raw})
	p, err := card.SigningPair(after)
	if err != nil {
		return fmt.Errorf("renewal: the card could not sign with the new certificate: %w", err)
	}
	if p.Certificate.Info().SHA256 != c.Info().SHA256 {
		return fmt.Errorf("renewal: the card would not sign with the new certificate but with %s", p.Certificate.Info().Serial)
	}
	if _, err := card.AuthenticationPair(after); err != nil {
		return fmt.Errorf("renewal: the card could not log in beside the new certificate: %w", err)
	}
	return nil
}

// confirm tells an authority that waits for the card's proof.
func (r *run) confirm(ctx context.Context) error {
	c, ok := r.c.Enroller.(Confirmer)
	if !ok {
		return nil
	}
	if err := r.prove(ctx); err != nil {
		return err
	}
	if err := r.crash("before confirm"); err != nil {
		return err
	}
	if err := r.ask(ctx, func(t *Transport) error {
		return c.Confirm(ctx, t, r.asked(), bytes.Clone(r.p.cert), Proof{bytes.Clone(r.proof.Challenge), bytes.Clone(r.proof.Signature)})
	}); err != nil {
		return err
	}
	return r.crash("after confirm")
}
