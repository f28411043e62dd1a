//go:build cgo

package renewal_test

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"strings"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/renewal"
	"github.com/rxguard/rxguard/renewal/est"
	"github.com/rxguard/rxguard/signing"
)

// tickingToken tells of each operation on the card.
type tickingToken struct {
	card.Token
	p *process
}

func (t tickingToken) Open(ctx context.Context) (card.Session, error) {
	defer t.p.around("open")()
	s, err := t.Token.Open(ctx)
	if err != nil {
		return nil, err
	}
	return tickingSession{s, t.p}, nil
}

func (p *process) around(what string) (after func()) {
	p.tick("before " + what)
	return func() { p.tick("after " + what) }
}

type tickingSession struct {
	card.Session
	p *process
}

func (s tickingSession) Info(ctx context.Context) (card.Info, error) {
	defer s.p.around("info")()
	return s.Session.Info(ctx)
}

func (s tickingSession) Objects(ctx context.Context) ([]card.Object, error) {
	defer s.p.around("objects")()
	return s.Session.Objects(ctx)
}

func (s tickingSession) Login(ctx context.Context, pin []byte) error {
	defer s.p.around("login")()
	if s.p.Fragile {
		s.p.say(sayFragile, "")
		<-s.p.lines
		defer s.p.tick(tickSafe)
	}
	return s.Session.Login(ctx, pin)
}

func (s tickingSession) Sign(ctx context.Context, id, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	defer s.p.around("sign")()
	if bytes.Equal(id, testcard.SigningID()) && !s.p.Replace { // where the new key is in its place
		return nil, errors.New("a renewal signs nothing with the old key")
	}
	return s.Session.Sign(ctx, id, digest, opts)
}

func (s tickingSession) Generate(ctx context.Context, spec card.KeySpec) (card.Object, error) {
	defer s.p.around("generate")()
	return s.Session.Generate(ctx, spec)
}

func (s tickingSession) WriteCertificate(ctx context.Context, id []byte, label string, der []byte) error {
	defer s.p.around("write")()
	return s.Session.WriteCertificate(ctx, id, label, der)
}

func (s tickingSession) Destroy(ctx context.Context, class card.Class, id []byte) error {
	defer s.p.around("destroy")()
	err := s.Session.Destroy(ctx, class, id)
	if err == nil && class == card.PrivateKeyObject && bytes.Equal(id, testcard.SigningID()) {
		s.p.tick(tickRetired)
	}
	return err
}

// tickStep is said, with the step, when a step begins and when it is done.
const tickStep = "step "

// tickSafe is said when what must not be broken off is done.
const tickSafe = "safe"

// tickRetired is said when the old key was destroyed.
const tickRetired = "retired the old key"

// tickingRecord tells of each line of the decision record.
type tickingRecord struct {
	signing.Recorder
	p *process
}

func (r tickingRecord) Record(ctx context.Context, e signing.Entry) error {
	defer r.p.around("record " + strings.ReplaceAll(string(e.Event), " ", "_"))()
	return r.Recorder.Record(ctx, e)
}

// tickingEnroller tells of each request to the authority.
type tickingEnroller struct {
	*est.Client
	p *process
}

func (e tickingEnroller) Probe(ctx context.Context, t *renewal.Transport) error {
	defer e.p.around("probe")()
	return e.Client.Probe(ctx, t)
}

func (e tickingEnroller) Enrol(ctx context.Context, t *renewal.Transport, r renewal.Request) (renewal.Answer, error) {
	defer e.p.around("enrol")()
	return e.Client.Enrol(ctx, t, r)
}
