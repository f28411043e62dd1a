//go:build cgo

package p11

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/miekg/pkcs11"

	"github.com/rxguard/rxguard/internal/card"
)

// login is who is logged in through a session, and what must be presented once
// more: the passcode for a key that wants it at each signature, or after the
// security officer was logged in, and the officer's secret for the next change.
type login struct {
	wanted atomic.Bool // the person's is there, or on its way

	mu sync.Mutex
	state
	fresh  bool // no signature of an always-authenticate key since the login
	pad    bool // the passcode was entered on the reader's pad
	pin    []byte
	secret []byte
}

// state is who is logged in.
type state struct {
	user    bool
	officer bool
}

// forget wipes what is kept.
func (l *login) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.pin)
	clear(l.secret)
	l.pin, l.secret = nil, nil
	l.state, l.fresh, l.pad = state{}, false, false
	l.wanted.Store(false)
}

// signed wipes the passcode, unless this session changes the card as its security
// officer and has to come back.
func (l *login) signed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.secret == nil {
		clear(l.pin)
		l.pin = nil
	}
}

// text lends a passcode to the binding, which wants a string, without a copy that
// could not be wiped. The binding's own copy in C memory is freed after the call and
// not wiped.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// present is C_Login.
func (s *session) present(ctx context.Context, user uint, pin []byte) error {
	bounds := 1
	if pin == nil {
		bounds = typing
	}
	_, err := workWith(ctx, s, "login", bounds, pin, func(pin []byte) (struct{}, error) {
		err := s.m.ctx.Login(s.h, user, text(pin))
		if user == pkcs11.CKU_USER && is(err, pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN) {
			// The security officer of a session that was given up. The passcode was not
			// looked at.
			if err = s.m.ctx.Logout(s.h); err == nil {
				err = s.m.ctx.Login(s.h, user, text(pin))
			}
		}
		if is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
			err = nil
		}
		if user == pkcs11.CKU_USER {
			err = s.left("login", err)
		}
		return struct{}{}, err
	})
	return err
}

// left adds to the error of a wrong passcode what the token's flags tell of the tries
// that are left. They are read now: those of before are of another count on OpenSC. It is
// called in the session's turn. The slot list is asked first: a module may hang that is
// asked about a card which is out.
func (s *session) left(op string, err error) error {
	var e *card.Error
	if !is(err, pkcs11.CKR_PIN_INCORRECT) || !errors.As(typed(op, err), &e) {
		return err
	}
	if ids, err := s.m.list(true); err != nil || !slices.Contains(ids, s.slot) {
		return e
	}
	i, err := s.m.ctx.GetTokenInfo(s.slot)
	switch {
	case err != nil || s.same(op, i) != nil:
	case i.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		e.TriesLeft = 0
	case i.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		e.TriesLeft = 1
	}
	return e
}

// Login logs the person in (CKU_USER).
func (s *session) Login(ctx context.Context, pin []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(pin) == 0 { // the binding makes it NULL, which asks on a pad
		pin = nil
		if i, err := s.Info(ctx); err != nil {
			return err
		} else if !i.ProtectedPath {
			return card.Errorf(card.PINLength, "login", "it is empty")
		}
	}
	if err := s.alive("login"); err != nil {
		return err
	}
	s.login.wanted.Store(true)
	if err := s.m.endEarlier(ctx, s.slot, s.arrivals); err != nil { // a login that still goes on would be taken for this one
		s.login.forget()
		return err
	}
	if err := s.notOfficer(ctx); err != nil {
		s.login.forget()
		return err
	}
	if err := s.present(ctx, pkcs11.CKU_USER, pin); err != nil {
		s.login.forget()
		return err
	}
	clear(s.keys) // those that a login shows have other handles on some modules
	again, err := s.wantedAgain(ctx)
	if err != nil {
		return err
	}
	s.login.mu.Lock()
	clear(s.login.pin)
	s.login.pin = nil
	s.login.user, s.login.fresh, s.login.pad = true, true, pin == nil
	if again {
		s.login.pin = bytes.Clone(pin)
	}
	s.login.mu.Unlock()
	return s.keeps("login")
}

// keeps forgets what was just kept in a session that has ended meanwhile.
func (s *session) keeps(op string) error {
	err := s.alive(op)
	if err != nil {
		s.login.forget()
	}
	return err
}

// wantedAgain tells whether the passcode will be wanted once more: by a key that
// wants it at each signature, or after the security officer was logged in.
func (s *session) wantedAgain(ctx context.Context) (bool, error) {
	if s.t.officer != nil || s.t.learned(s.insertion, nil) {
		return true, nil
	}
	return work(ctx, s, "read", 1, func() (bool, error) {
		hs, err := s.find(pkcs11.CKO_PRIVATE_KEY, nil)
		for _, h := range hs {
			always, err := s.flag(h, pkcs11.CKA_ALWAYS_AUTHENTICATE)
			if always || err != nil {
				return always, err
			}
		}
		return false, err
	})
}

// Logout ends the login, of every session that this process has on the card.
func (s *session) Logout(ctx context.Context) error {
	s.login.forget()
	clear(s.keys)
	_, err := work(ctx, s, "logout", 1, func() (struct{}, error) {
		err := s.m.ctx.Logout(s.h)
		if is(err, pkcs11.CKR_USER_NOT_LOGGED_IN) {
			err = nil
		}
		return struct{}{}, err
	})
	return err
}

// notOfficer ends the security officer's login, where there is one.
func (s *session) notOfficer(ctx context.Context) error {
	s.login.mu.Lock()
	officer := s.login.officer
	s.login.mu.Unlock()
	if !officer {
		return nil
	}
	_, err := work(ctx, s, "logout", 1, func() (struct{}, error) { return struct{}{}, s.m.ctx.Logout(s.h) })
	if err != nil && !is(err, pkcs11.CKR_USER_NOT_LOGGED_IN) {
		return err
	}
	s.login.mu.Lock()
	s.login.officer = false
	s.login.mu.Unlock()
	return nil
}

// asUser restores the person's login after the security officer's.
func (s *session) asUser(ctx context.Context, op string) error {
	s.login.mu.Lock()
	officer, user, pin := s.login.officer, s.login.user, bytes.Clone(s.login.pin)
	s.login.mu.Unlock()
	defer clear(pin)
	if err := s.alive(op); err != nil { // asked afterwards: Close forgets the login
		return err
	}
	switch {
	case !user:
		return card.Errorf(card.NotLoggedIn, op, "")
	case !officer:
		return nil
	}
	if err := s.notOfficer(ctx); err != nil {
		return err
	}
	s.login.mu.Lock()
	pad := s.login.pad
	s.login.mu.Unlock()
	if pin == nil && !pad {
		return card.Errorf(card.NotLoggedIn, op, "the passcode is wanted again")
	}
	if err := s.present(ctx, pkcs11.CKU_USER, pin); err != nil {
		s.login.forget()
		return err
	}
	return nil
}

// change does something that changes the card: as the person, and where the module
// wants its security officer for that, as that.
func change[T any](ctx context.Context, s *session, op string, bounds int, f func() (T, error)) (T, error) {
	var none T
	s.login.mu.Lock()
	officer, user := s.login.officer, s.login.user
	s.login.mu.Unlock()
	if err := s.alive(op); err != nil {
		return none, err
	}
	if !user {
		return none, card.Errorf(card.NotLoggedIn, op, "")
	}
	v, err := work(ctx, s, op, bounds, f)
	if officer || !is(err, pkcs11.CKR_USER_TYPE_INVALID, pkcs11.CKR_USER_NOT_LOGGED_IN) {
		return v, err
	}
	if err := s.asOfficer(ctx, op, err); err != nil {
		return none, err
	}
	return work(ctx, s, op, bounds, f)
}

// asOfficer logs the security officer in (CKU_SO), asking for the secret once in a
// session. why is what the module answered without.
func (s *session) asOfficer(ctx context.Context, op string, why error) error {
	s.login.mu.Lock()
	secret := bytes.Clone(s.login.secret)
	s.login.mu.Unlock()
	if secret == nil {
		if s.t.officer == nil {
			e := card.Errorf(card.Unsupported, op, "the module wants its security officer's secret (on a PIV card the management key) for this, and no callback for it is configured")
			var told *card.Error
			if errors.As(why, &told) {
				e.Code, e.Err = told.Code, told.Err
			}
			return e
		}
		info, err := s.Info(ctx)
		if err != nil {
			return err
		}
		secret, err = card.Ask(ctx, func() ([]byte, error) {
			return s.t.officer(ctx, card.PINRequest{Serial: info.Serial, Label: info.Label, Purpose: card.ToRenew})
		}, func(late []byte) { clear(late) })
		if err == nil && len(secret) == 0 {
			err = errors.New("the security officer's secret is empty")
		}
		if err != nil {
			clear(secret)
			return &card.Error{Kind: card.PINCancelled, Op: op, TriesLeft: -1, Detail: "security officer", Err: err}
		}
	}
	defer clear(secret)
	_, err := work(ctx, s, "logout", 1, func() (struct{}, error) { return struct{}{}, s.m.ctx.Logout(s.h) })
	if err != nil && !is(err, pkcs11.CKR_USER_NOT_LOGGED_IN) {
		return err
	}
	clear(s.keys)
	s.login.mu.Lock()
	s.login.officer = true // nobody, for the moment; asUser restores the person's
	s.login.mu.Unlock()
	if err := s.present(ctx, pkcs11.CKU_SO, secret); err != nil {
		var e *card.Error
		if errors.As(err, &e) {
			e.Detail = "security officer"
			if e.Kind == card.PINIncorrect { // as ykcs11 calls a card that was pulled, too
				err = s.seated(ctx, e)
			}
		}
		if errors.As(err, &e) {
			switch e.Kind { // it is not the person's passcode that is wrong
			case card.PINIncorrect, card.PINLocked, card.PINNotSet, card.PINLength:
				e.Kind, e.Detail = card.Unsupported, "the card refused its security officer's secret"
			}
		}
		return err
	}
	s.login.mu.Lock()
	clear(s.login.secret)
	s.login.secret = bytes.Clone(secret)
	s.login.mu.Unlock()
	return s.keeps(op)
}
