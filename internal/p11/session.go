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
	seen      Slot // who the card is
	h         pkcs11.SessionHandle

	// Guarded by m.mu.
	freed  bool // the module closed the session itself, and gave its handle to another
	ending bool // Close has it closed in the module, and nothing else is at work in it

	turn chan struct{} // taken for each call, until the module has answered
	over chan struct{} // closed when the module has closed the session

	mu     sync.Mutex
	dead   string // why it cannot be used any more
	closed bool

	keys  map[string]key // private keys found, by CKA_ID
	read  bool           // the module has read the card to the end, see whole
	login login
	can   *abilities // nil: not asked yet
}

// key is a private key that was found.
type key struct {
	handle pkcs11.ObjectHandle
	always bool // it wants a login for each signature
	silent bool // and the module does not say so
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
		return s.t.absent(op)
	}
	return card.Errorf(card.Removed, op, "the session is of an earlier insertion")
}

func (s *session) kill(why string) {
	s.mu.Lock()
	if s.dead == "" {
		s.dead = why
	}
	s.mu.Unlock()
	s.login.forget()
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

// begin is C_OpenSession. The card may have become another one since the slot list was
// asked; nobody gets a session on that.
func (s *session) begin() error {
	m := s.m
	err := func() error {
		m.handles.Lock()
		defer m.handles.Unlock()
		h, err := m.ctx.OpenSession(s.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if is(err, pkcs11.CKR_TOKEN_WRITE_PROTECTED) {
			h, err = m.ctx.OpenSession(s.slot, pkcs11.CKF_SERIAL_SESSION)
		}
		if err != nil {
			return err
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		for o := range m.opened {
			if o.h == h { // OpenSC closes those of a card that is out
				o.freed = true
				o.kill("the module closed the session")
			}
		}
		s.h = h
		m.opened[s] = struct{}{}
		return nil
	}()
	if err != nil {
		return err
	}
	info, err := m.ctx.GetTokenInfo(s.slot)
	if err == nil {
		err = s.same("open", info)
	}
	if err != nil {
		_ = s.end(state{})
	}
	return err
}

// same refuses a card that is another than the session's, and has the next look read
// who it is.
func (s *session) same(op string, info pkcs11.TokenInfo) error {
	if now := s.seen.named(info); !s.seen.same(now) {
		s.m.doubt(s.slot, s.arrivals)
		s.kill("another card is in the reader")
		return card.Errorf(card.Removed, op, "another card is in reader %q: %q, serial %s; expected %q, serial %s", now.Reader, now.Label, now.Serial, s.seen.Label, s.seen.Serial)
	}
	return nil
}

// end closes the session in the module, once, and unless that has done so itself. The
// last one that was logged in on its card logs out first: some modules leave the card
// itself open to other programs otherwise, without a passcode.
func (s *session) end(was state) error {
	m := s.m
	m.handles.Lock()
	defer m.handles.Unlock()
	m.mu.Lock()
	_, open := m.opened[s]
	freed := s.freed
	for o := range m.opened {
		if o != s && o.slot == s.slot && o.login.wanted.Load() {
			was.user = false
		}
	}
	m.mu.Unlock()
	if !open {
		return nil
	}
	defer func() {
		m.mu.Lock()
		delete(m.opened, s)
		m.mu.Unlock()
	}()
	if freed {
		return nil
	}
	switch {
	case was.officer: // whose login would go on while another session is open
		if i, err := m.ctx.GetSessionInfo(s.h); err == nil && i.State == pkcs11.CKS_RW_SO_FUNCTIONS {
			_ = m.ctx.Logout(s.h)
		}
	case was.user && !m.adopted.Load():
		_ = m.ctx.Logout(s.h)
	}
	return m.ctx.CloseSession(s.h)
}

// told makes the best of a module's error: with a card that was pulled they answer
// almost anything.
func (s *session) told(ctx context.Context, err error) error {
	var e *card.Error
	if !errors.As(err, &e) {
		return err
	}
	if e.Code == 0 {
		if e.Kind == card.Removed { // another card may be in
			_ = s.m.look(ctx)
		}
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

// Close ends the session, and waits for nobody: the module closes it after the call
// that is still at work in it, alone, and whoever opens the next session on the card or
// logs in waits for that. Of a process that ends at once the card service closes what
// the module did not.
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
	was := s.login.state
	s.login.mu.Unlock()
	s.login.forget()
	s.login.wanted.Store(was.user) // by a call that is still at work
	end := func() {
		_, _ = do(context.Background(), s.m, "close", 1, func() (struct{}, error) { return struct{}{}, s.end(was) })
		s.m.mu.Lock()
		delete(s.m.opened, s)
		s.m.mu.Unlock()
		close(s.over)
	}
	select {
	case s.turn <- struct{}{}: // and kept: no call comes after
		s.m.mu.Lock()
		s.ending = true
		s.m.mu.Unlock()
		go end()
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
// a slot earlier, and waits for those that are being closed. Until then ykcs11 answers
// with the objects of the card that was, and a login goes on.
func (m *Module) endEarlier(ctx context.Context, slot uint, arrivals uint64) error {
	m.mu.Lock()
	var ending []*session
	for s := range m.opened {
		switch {
		case s.slot != slot:
		case s.arrivals < arrivals:
			s.kill("the session is of an earlier insertion")
			ending = append(ending, s)
		case s.ending:
			ending = append(ending, s)
		}
	}
	m.mu.Unlock()
	for _, s := range ending {
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

// abilities are what a token's mechanism list says of it (PKCS#11 v3.0 5.5,
// C_GetMechanismList).
type abilities struct{ pss, noKeyPairs bool }

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
		if err == nil {
			err = s.same("read", i)
		}
		if err != nil {
			return card.Info{}, err
		}
		if s.can == nil {
			s.can = new(abilities)
			if ms, err := s.m.ctx.GetMechanismList(s.slot); err == nil {
				s.can.noKeyPairs = true
				for _, m := range ms {
					s.can.pss = s.can.pss || m.Mechanism == pkcs11.CKM_RSA_PKCS_PSS
					s.can.noKeyPairs = s.can.noKeyPairs && m.Mechanism != pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN
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
			PSS:           s.can.pss,
			NoKeyPairs:    s.can.noKeyPairs,
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
