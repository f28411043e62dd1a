package renewal

import (
	"context"
	"crypto"
	"fmt"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

// tapped is the card as the interrupted renewal uses it.
type tapped struct {
	card.Token
	r *rig
}

func (t tapped) Open(ctx context.Context) (card.Session, error) {
	if ctx.Value(mine{}) == nil {
		return t.Token.Open(ctx)
	}
	return tap(t.r, event{Op: testcard.OpOpen}, func() (card.Session, error) {
		s, err := t.Token.Open(ctx)
		return tapSession{s, t.r}, err
	})
}

type tapSession struct {
	card.Session
	r *rig
}

type event = testcard.Event

// tap does an operation of the card between its two points.
func tap[T any](r *rig, e event, f func() (T, error)) (T, error) {
	var none T
	p := point{kind: atCard, op: e.Op, name: string(e.Op)}
	if e.Op == testcard.OpDestroy {
		p.name += fmt.Sprintf(" class %d", e.Class)
	}
	if err := r.at(p); err != nil {
		return none, err
	}
	v, err := f()
	if err != nil {
		return none, err
	}
	p.after = true
	if err := r.at(p); err != nil {
		return none, err
	}
	return v, nil
}

func act(r *rig, e event, f func() error) error {
	_, err := tap(r, e, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

func (s tapSession) Info(ctx context.Context) (card.Info, error) {
	return tap(s.r, event{Op: testcard.OpInfo}, func() (card.Info, error) { return s.Session.Info(ctx) })
}

func (s tapSession) Objects(ctx context.Context) ([]card.Object, error) {
	return tap(s.r, event{Op: testcard.OpObjects}, func() ([]card.Object, error) { return s.Session.Objects(ctx) })
}

func (s tapSession) Login(ctx context.Context, pin []byte) error {
	return act(s.r, event{Op: testcard.OpLogin}, func() error {
		s.r.presents(pin)
		err := s.Session.Login(ctx, pin)
		if err == nil {
			s.r.loggedIn()
		}
		return err
	})
}

func (s tapSession) Logout(ctx context.Context) error {
	return act(s.r, event{Op: testcard.OpLogout}, func() error { return s.Session.Logout(ctx) })
}

func (s tapSession) Sign(ctx context.Context, id, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return tap(s.r, event{Op: testcard.OpSign}, func() ([]byte, error) {
		sig, err := s.Session.Sign(ctx, id, digest, o)
		if err == nil {
			s.r.signed(id, digest, sig)
		}
		return sig, err
	})
}

func (s tapSession) Generate(ctx context.Context, k card.KeySpec) (card.Object, error) {
	return tap(s.r, event{Op: testcard.OpGenerate}, func() (card.Object, error) {
		s.r.changes(testcard.OpGenerate, 0, k.ID, nil)
		s.r.gives(k)
		if s.r.full {
			return card.Object{}, card.Errorf(card.Full, "generate", "")
		}
		o, err := s.Session.Generate(ctx, k)
		if err == nil {
			s.r.over = s.r.over || k.Over
			s.r.did(testcard.OpGenerate, 0, k.ID)
		}
		return o, err
	})
}

func (s tapSession) WriteCertificate(ctx context.Context, id []byte, label string, der []byte) error {
	return act(s.r, event{Op: testcard.OpWriteCertificate}, func() error {
		s.r.changes(testcard.OpWriteCertificate, card.CertificateObject, id, der)
		if s.r.full {
			return card.Errorf(card.Full, "write_certificate", "")
		}
		err := s.Session.WriteCertificate(ctx, id, label, der)
		if err == nil {
			s.r.did(testcard.OpWriteCertificate, card.CertificateObject, id)
		}
		return err
	})
}

func (s tapSession) Destroy(ctx context.Context, c card.Class, id []byte) error {
	return act(s.r, event{Op: testcard.OpDestroy, Class: c}, func() error {
		s.r.changes(testcard.OpDestroy, c, id, nil)
		err := s.Session.Destroy(ctx, c, id)
		if err == nil {
			s.r.did(testcard.OpDestroy, c, id)
		}
		return err
	})
}

func (s tapSession) Close() error {
	return act(s.r, event{Op: testcard.OpClose}, s.Session.Close)
}

// slot is the reader, with the card that was put in last.
type slot struct {
	*testcard.Slot
	card *testcard.Card
}

func newSlot(c *testcard.Card) *slot { return &slot{testcard.NewSlot(c), c} }

func (s *slot) putIn(c *testcard.Card) {
	s.card = c
	s.Put(c)
}

func (s *slot) in() bool { return s.Token().Presence().Present }
