package signing

import (
	"bytes"
	"context"
	"crypto"
	"slices"
	"sync"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

// meddler is a token on which something happens between an answer and the next
// step, whatever the card itself makes of it.
type meddler struct {
	card.Token
	afterLogin, afterSign func()
}

func (m *meddler) Open(ctx context.Context) (card.Session, error) {
	s, err := m.Token.Open(ctx)
	if err != nil {
		return nil, err
	}
	return meddled{s, m}, nil
}

type meddled struct {
	card.Session
	m *meddler
}

func (s meddled) Login(ctx context.Context, pin []byte) error {
	err := s.Session.Login(ctx, pin)
	if s.m.afterLogin != nil {
		s.m.afterLogin()
	}
	return err
}

func (s meddled) Sign(ctx context.Context, id, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	value, err := s.Session.Sign(ctx, id, digest, opts)
	if s.m.afterSign != nil {
		s.m.afterSign()
	}
	return value, err
}

// hiding is a token that shows its private keys after a login alone, as many do, but
// the one with a CKA_ID.
type hiding struct {
	card.Token
	but []byte
}

func (h hiding) Open(ctx context.Context) (card.Session, error) {
	s, err := h.Token.Open(ctx)
	if err != nil {
		return nil, err
	}
	return &hidden{Session: s, but: h.but}, nil
}

type hidden struct {
	card.Session
	but      []byte
	loggedIn bool
}

func (s *hidden) Login(ctx context.Context, pin []byte) error {
	err := s.Session.Login(ctx, pin)
	s.loggedIn = err == nil
	return err
}

func (s *hidden) Logout(ctx context.Context) error {
	s.loggedIn = false
	return s.Session.Logout(ctx)
}

func (s *hidden) Objects(ctx context.Context) ([]card.Object, error) {
	objects, err := s.Session.Objects(ctx)
	if !s.loggedIn {
		objects = slices.DeleteFunc(objects, func(o card.Object) bool {
			return o.Class != card.CertificateObject && !bytes.Equal(o.ID, s.but)
		})
	}
	return objects, err
}

// slot is a reader into which one or the other card can be put. Every removal and
// insertion is told, in order.
type slot struct {
	mu      sync.Mutex
	in      *testcard.Card
	history []card.Presence
	moved   chan struct{}
	waiting int // calls of Wait
}

func newSlot(c *testcard.Card) *slot {
	return &slot{in: c, history: []card.Presence{{Present: true, Insertion: 1}}, moved: make(chan struct{})}
}

func (s *slot) now() card.Presence { return s.history[len(s.history)-1] }

func (s *slot) remove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in != nil {
		s.in.Remove()
		s.in = nil
		s.move(card.Presence{Insertion: s.now().Insertion})
	}
}

func (s *slot) insert(c *testcard.Card) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in == nil {
		c.Insert()
		s.in = c
		s.move(card.Presence{Present: true, Insertion: s.now().Insertion + 1})
	}
}

// reset has the card begin another insertion without having been seen out.
func (s *slot) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in.Remove()
	s.in.Insert()
	s.move(card.Presence{Present: true, Insertion: s.now().Insertion + 1, Reset: true})
}

func (s *slot) move(p card.Presence) {
	s.history = append(s.history, p)
	close(s.moved)
	s.moved = make(chan struct{})
}

func (s *slot) Simulated() bool { return true }

func (s *slot) Presence() card.Presence {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now()
}

func (s *slot) Wait(ctx context.Context, since card.Presence) (card.Presence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting++
	defer func() { s.waiting-- }()
	for {
		if i := slices.Index(s.history, since); i >= 0 && i+1 < len(s.history) {
			return s.history[i+1], nil
		} else if i < 0 {
			return s.now(), nil
		}
		moved := s.moved
		s.mu.Unlock()
		select {
		case <-moved:
			s.mu.Lock()
		case <-ctx.Done():
			s.mu.Lock()
			return s.now(), ctx.Err()
		}
	}
}

func (s *slot) Open(ctx context.Context) (card.Session, error) {
	s.mu.Lock()
	in, p := s.in, s.now()
	s.mu.Unlock()
	if in == nil {
		return nil, card.Errorf(card.Absent, "open", "the reader is empty")
	}
	sess, err := in.Token().Open(ctx)
	if err != nil {
		return nil, err
	}
	return slotSession{sess, p.Insertion}, nil
}

type slotSession struct {
	card.Session
	insertion uint64
}

func (s slotSession) Insertion() uint64 { return s.insertion }

// renamed is a token of which the module says something else than the card's own.
type renamed struct {
	card.Token
	to func(card.Info) card.Info
}

func (r renamed) Open(ctx context.Context) (card.Session, error) {
	s, err := r.Token.Open(ctx)
	if err != nil {
		return nil, err
	}
	return renamedSession{s, r.to}, nil
}

type renamedSession struct {
	card.Session
	to func(card.Info) card.Info
}

func (s renamedSession) Info(ctx context.Context) (card.Info, error) {
	i, err := s.Session.Info(ctx)
	if err == nil {
		i = s.to(i)
	}
	return i, err
}

// otherwise is the card as another PKCS#11 module words it.
func otherwise(t card.Token) card.Token {
	return renamed{t, func(i card.Info) card.Info {
		i.Manufacturer, i.Model, i.Serial = "piv_II", "PKCS#15 emulated", "b8"+i.Serial
		return i
	}}
}

// otherwiseID is the name of such a card for locks and holds.
func otherwiseID(serial string) string {
	return card.Info{Manufacturer: "piv_II", Model: "PKCS#15 emulated", Serial: "b8" + serial}.ID()
}

// serialless is a card that does not say its serial number.
func serialless(t card.Token) card.Token {
	return renamed{t, func(i card.Info) card.Info {
		i.Serial = ""
		return i
	}}
}

// amended is a token whose sessions are changed by a test.
type amended struct {
	card.Token
	session func(card.Session) card.Session
}

func (a amended) Open(ctx context.Context) (card.Session, error) {
	s, err := a.Token.Open(ctx)
	if err != nil {
		return nil, err
	}
	return a.session(s), nil
}

// undeclared is a session that does not say which keys want the passcode each time.
type undeclared struct{ card.Session }

func (s undeclared) Objects(ctx context.Context) ([]card.Object, error) {
	objects, err := s.Session.Objects(ctx)
	for i := range objects {
		objects[i].AlwaysAuthenticate = false
	}
	return objects, err
}
