//go:build cgo

package p11

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/rxguard/rxguard/internal/card"
)

// session is a C_OpenSession session of its own, for one insertion.
type session struct {
	t         *Token
	m         *Module
	slot      uint
	arrivals  uint64
	insertion uint64
	h         pkcs11.SessionHandle

	turn chan struct{} // taken for each call, until the module has answered
	over chan struct{} // closed when the module has closed the session

	mu     sync.Mutex
	dead   string // why it cannot be used any more
	closed bool

	keys   map[string]key // private keys found, by CKA_ID
	read   bool           // the module has read the card to the end, see whole
	login  login
	always map[string]bool // keys that turned out to want a login for each signature
	pss    *bool
}

// key is a private key that was found.
type key struct {
	handle pkcs11.ObjectHandle
	always bool
	rsa    bool
	order  int // of an EC key's group, in bytes; 0 unknown
}

func (s *session) Insertion() uint64 { return s.insertion }

// alive tells whether the session still has its card.
func (s *session) alive(op string) error {
	s.mu.Lock()
	dead := s.dead
	s.mu.Unlock()
	p := s.t.Presence()
	switch {
	case s.m.isWedged():
		return s.m.stuck(op)
	case dead != "":
		return card.Errorf(card.Removed, op, "%s", dead)
	case p.Present && p.Insertion == s.insertion:
		return nil
	case !p.Present:
		return card.Errorf(card.Absent, op, "%s", s.t.sel)
	}
	return card.Errorf(card.Removed, op, "the session is of an earlier insertion")
}

func (s *session) kill(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead == "" {
		s.dead = why
	}
}

// work runs f as this session's one call to the module. When ctx ends first, the
// session is given up: f may still be at work in it.
func work[T any](ctx context.Context, s *session, op string, bounds int, f func() (T, error)) (T, error) {
	return workWith(ctx, s, op, bounds, nil, func([]byte) (T, error) { return f() })
}

// workWith is work with a secret, of which f gets a copy that is wiped after it: the
// caller may wipe its own while f is still at work.
func workWith[T any](ctx context.Context, s *session, op string, bounds int, secret []byte, f func(secret []byte) (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if err := s.alive(op); err != nil {
		return none, err
	}
	var mine []byte
	v, err := detached(ctx, s.m, op, bounds, s.turn, func() { mine = bytes.Clone(secret) }, func() (T, error) {
		defer clear(mine)
		return f(mine)
	}, nil)
	if err != nil {
		if len(s.turn) > 0 { // nobody waits for it any more
			s.kill("an earlier call in it was not waited for")
		}
		return none, s.told(ctx, err)
	}
	// What comes from a card that is another by now is not this card's.
	if err := s.alive(op); err != nil {
		return none, err
	}
	return v, nil
}

// told makes the best of a module's error: with a card that was pulled they answer
// almost anything.
func (s *session) told(ctx context.Context, err error) error {
	var e *card.Error
	if !errors.As(err, &e) || e.Code == 0 {
		return err
	}
	switch e.Kind {
	case card.Removed, card.Absent:
		s.kill("the module says that the card was taken out or reset")
	case card.Fault:
		s.kill("the module failed in it")
	case card.Other:
	default:
		return err
	}
	return s.seated(ctx, e)
}

// seated looks where the card is after an error, which says that if it is not in.
func (s *session) seated(ctx context.Context, e *card.Error) error {
	p := s.t.settle(ctx, s.insertion)
	k := e.Kind
	switch {
	case !p.Present:
		k = card.Absent
	case p.Insertion != s.insertion:
		k = card.Removed
	case is(e, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED):
		// It is in, and was not seen out.
		s.m.doubt(s.slot, s.arrivals)
		_ = s.m.look(ctx)
		k = card.Removed
	}
	return &card.Error{Kind: k, Op: e.Op, Code: e.Code, TriesLeft: e.TriesLeft, Detail: e.Detail, Err: e.Err}
}

// Close ends the session. A call that is still at work in it is waited for by
// nobody; the session is closed after it.
func (s *session) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	if s.dead == "" {
		s.dead = "the session is closed"
	}
	s.mu.Unlock()
	if closed {
		return nil
	}
	s.login.mu.Lock()
	officer := s.login.officer
	s.login.mu.Unlock()
	s.login.forget()
	end := func() {
		_, _ = do(context.Background(), s.m, "close", 1, func() (struct{}, error) {
			if officer { // whose login would go on while another session is open
				if i, err := s.m.ctx.GetSessionInfo(s.h); err == nil && i.State == pkcs11.CKS_RW_SO_FUNCTIONS {
					_ = s.m.ctx.Logout(s.h)
				}
			}
			return struct{}{}, s.m.ctx.CloseSession(s.h)
		})
		s.m.mu.Lock()
		delete(s.m.opened, s)
		s.m.mu.Unlock()
		close(s.over)
	}
	select {
	case s.turn <- struct{}{}: // and kept: no call comes after
		end()
	default:
		go func() {
			select {
			case s.turn <- struct{}{}:
				end()
			case <-s.m.wedged:
			}
		}()
	}
	return nil
}

// endEarlier closes the sessions that this process still has of cards which were in
// a slot earlier. Until then ykcs11 answers with the objects of the card that was; and
// a module may give the handle of one that it closed itself to a new session.
func (m *Module) endEarlier(ctx context.Context, slot uint, arrivals uint64) error {
	m.mu.Lock()
	var earlier []*session
	for s := range m.opened {
		if s.slot == slot && s.arrivals != arrivals {
			earlier = append(earlier, s)
		}
	}
	m.mu.Unlock()
	for _, s := range earlier {
		s.kill("the session is of an earlier insertion")
		if err := s.Close(); err != nil {
			return err
		}
		select {
		case <-s.over:
		case <-ctx.Done():
			return ctx.Err()
		case <-m.wedged:
			return m.stuck("open")
		}
	}
	return nil
}

// unavailable is CK_UNAVAILABLE_INFORMATION, and what some modules say instead.
func known(n uint) int {
	if n == 0 || n >= 1<<31-1 {
		return 0
	}
	return int(n)
}

// Info reads the token's flags afresh. The slot list is asked first: a module may
// hang that is asked about a card which is out.
func (s *session) Info(ctx context.Context) (card.Info, error) {
	if err := s.m.look(ctx); err != nil {
		return card.Info{}, err
	}
	info, err := work(ctx, s, "read", 1, func() (card.Info, error) {
		i, err := s.m.ctx.GetTokenInfo(s.slot)
		if err != nil {
			return card.Info{}, err
		}
		if s.pss == nil {
			s.pss = new(bool)
			if ms, err := s.m.ctx.GetMechanismList(s.slot); err == nil {
				for _, m := range ms {
					*s.pss = *s.pss || m.Mechanism == pkcs11.CKM_RSA_PKCS_PSS
				}
			}
		}
		return card.Info{
			Manufacturer: clean(i.ManufacturerID), Model: clean(i.Model), Serial: clean(i.SerialNumber), Label: clean(i.Label),
			CountLow: i.Flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0,
			FinalTry: i.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0,
			Locked:   i.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0,
			MinPIN:   known(i.MinPinLen), MaxPIN: known(i.MaxPinLen),
			ProtectedPath: i.Flags&pkcs11.CKF_PROTECTED_AUTHENTICATION_PATH != 0,
			PSS:           *s.pss,
			Room:          -1,
		}, nil
	})
	if err != nil || !s.m.piv {
		return info, err
	}
	vacant, err := s.vacant(ctx)
	info.Room = len(vacant)
	return info, err
}

// Sign signs with one key; see sign.go for the mechanisms.
func (s *session) Sign(ctx context.Context, id, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.sign(ctx, id, digest, opts)
}
