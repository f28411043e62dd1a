//go:build cgo

package p11

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

func init() {
	rest = func() {
		modules.Lock()
		defer modules.Unlock()
		for _, l := range modules.m {
			switch {
			case l.m == nil:
			case l.m.isWedged(): // one call sleeps for ever, and others may be at work
				l.m.rest(context.Background(), time.Second, nil)
			default:
				l.m.rest(context.Background(), patience, l.m.wedged)
			}
		}
	}
}

func TestRestWaitsForWhatTheModuleIsAt(t *testing.T) {
	s := behindShim(t, 1)
	s.m.rest(t.Context(), patience, nil) // of the tests before
	for _, c := range []struct {
		name string
		call string
		f    func(sess card.Session)
	}{
		{"a session that is closed", "CloseSession", func(sess card.Session) { _ = sess.Close() }},
		{"a call that nobody waits for any more", "Sign", func(sess card.Session) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.signs(ctx, sess) }()
			s.held("Sign")
			cancel()
			assert.ErrorIs(t, <-done, context.Canceled)
		}},
		{"and the end of its session", "Sign", func(sess card.Session) {
			done := make(chan error, 1)
			go func() { done <- s.signs(t.Context(), sess) }()
			s.held("Sign")
			_ = sess.Close()
			go func() { <-done }()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sess := s.session(t)
			s.on(c.call, fault{mode: hold})
			defer s.well()
			c.f(sess)
			s.held(c.call)
			rested := make(chan struct{})
			go func() {
				defer close(rested)
				s.m.rest(t.Context(), patience, nil)
			}()
			select {
			case <-rested:
				require.FailNow(t, "it does not wait")
			case <-time.After(50 * time.Millisecond): // a look at what does not happen
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			s.m.Rest(ended) // who does not want to wait does not
			s.well()
			<-rested
			for _, call := range shimCalls {
				if call != "GetSlotList" { // somebody watches the card
					assert.Equal(t, s.began(call), s.ended(call), call)
				}
			}
		})
	}
}

// A module takes the bound that somebody chose, whoever comes first.
func TestTheBoundIsTheModules(t *testing.T) {
	sh := newShim(t, softHSM(t).tokens[0].Module)
	open := func(bound time.Duration) (*Module, error) {
		return Open(context.Background(), sh.path, Options{Arguments: sh.control, Bound: bound})
	}
	m, err := open(0)
	require.NoError(t, err)
	assert.Equal(t, ordinary, m.bound)
	for _, bound := range []time.Duration{patience, 0, patience} {
		again, err := open(bound)
		require.NoError(t, err)
		assert.Same(t, m, again)
		assert.Equal(t, patience, m.bound)
	}
	again, err := open(patience + time.Second)
	assert.ErrorContains(t, err, "was loaded with a bound of 1m0s for its calls, expected 1m1s")
	assert.ErrorContains(t, err, sh.path)
	assert.Nil(t, again)
	assert.Equal(t, patience, m.bound)
}

// TestGivenUp ends the context of whoever waits, in each call that a module can be at:
// the answer is at once, and is ctx's.
func TestGivenUp(t *testing.T) {
	s := behindShim(t, 0) // its signing key wants a login for each signature
	d := s.d
	d.Token = s.tok
	made := []byte("given up")
	type cell struct {
		call string
		skip uint32 // calls of the step that still pass
	}
	logs := func(ctx context.Context, sess card.Session) error { return sess.Login(ctx, d.pin) }
	for _, c := range []struct {
		step    string
		login   bool
		changes bool // what is on the token
		cells   []cell
		do      func(ctx context.Context, sess card.Session) error
	}{
		{"slots", false, false, []cell{{"GetSlotList", 0}}, func(ctx context.Context, _ card.Session) error {
			_, err := s.m.Slots(ctx)
			return err
		}},
		{"watch", false, false, []cell{{"GetSlotList", 0}}, func(ctx context.Context, _ card.Session) error {
			return s.m.Watch(ctx, func(Event) {})
		}},
		{"token", false, false, []cell{{"GetSlotList", 0}}, func(ctx context.Context, _ card.Session) error {
			_, err := s.m.Token(ctx, d.sel, nil)
			return err
		}},
		{"open", false, false, []cell{{"GetSlotList", 0}, {"OpenSession", 0}, {"GetTokenInfo", 0}}, func(ctx context.Context, _ card.Session) error {
			_, err := s.tok.Open(ctx)
			return err
		}},
		{"info", false, false, []cell{{"GetSlotList", 0}, {"GetTokenInfo", 0}, {"GetMechanismList", 0}}, func(ctx context.Context, sess card.Session) error {
			_, err := sess.Info(ctx)
			return err
		}},
		{"objects", false, false, []cell{{"FindObjectsInit", 0}, {"FindObjects", 0}, {"FindObjectsFinal", 1}, {"GetAttributeValue", 3}}, func(ctx context.Context, sess card.Session) error {
			_, err := sess.Objects(ctx)
			return err
		}},
		{"login", false, false, []cell{{"Login", 0}, {"FindObjects", 0}, {"GetAttributeValue", 0}}, logs},
		{"logout", true, false, []cell{{"Logout", 0}}, func(ctx context.Context, sess card.Session) error { return sess.Logout(ctx) }},
		{"sign", true, false, []cell{{"FindObjects", 0}, {"GetAttributeValue", 0}, {"SignInit", 0}, {"Login", 0}, {"Sign", 0}, {"Sign", 1}}, func(ctx context.Context, sess card.Session) error {
			return s.signs(ctx, sess)
		}},
		{"generate", true, true, []cell{{"FindObjects", 0}, {"GenerateKeyPair", 0}, {"GetAttributeValue", 0}}, func(ctx context.Context, sess card.Session) error {
			_, err := sess.Generate(ctx, card.KeySpec{ID: made, Label: "given up"})
			return err
		}},
		{"write", true, true, []cell{{"FindObjects", 0}, {"CreateObject", 0}, {"DestroyObject", 0}}, func(ctx context.Context, sess card.Session) error {
			return sess.WriteCertificate(ctx, testcard.SigningID(), testcard.SigningLabel, d.signing.Raw)
		}},
		{"destroy", true, true, []cell{{"FindObjects", 0}, {"DestroyObject", 0}}, func(ctx context.Context, sess card.Session) error {
			return sess.Destroy(ctx, card.PublicKeyObject, made)
		}},
	} {
		for _, cell := range c.cells {
			t.Run(fmt.Sprintf("%s/%s %d", c.step, cell.call, cell.skip), func(t *testing.T) {
				// What was given up goes on in the module, and a logout would end the next login.
				defer s.m.rest(t.Context(), patience, nil)
				sess, err := s.tok.Open(t.Context())
				require.NoError(t, err)
				defer sess.Close()
				if c.login {
					require.NoError(t, logs(t.Context(), sess))
				}
				if c.changes {
					d.clean(t, made)
				}
				if c.step == "destroy" {
					_, err := sess.Generate(t.Context(), card.KeySpec{ID: made, Label: "given up"})
					require.NoError(t, err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				before := s.began(cell.call)
				s.on(cell.call, fault{mode: hold, skip: cell.skip})
				defer s.well()
				done := make(chan error, 1)
				go func() { done <- c.do(ctx, sess) }()
				if cell.skip > 0 { // the one before it is under way for a moment, too
					eventually(t, func() bool { return s.began(cell.call) > before+int(cell.skip) }, "it is not called")
				}
				s.held(cell.call)
				cancel()
				select {
				case err := <-done:
					assert.ErrorIs(t, err, context.Canceled)
				case <-time.After(patience / 2): // the module's bound is longer
					require.FailNow(t, "it waits for the module")
				}
				assert.Greater(t, s.began(cell.call), s.ended(cell.call), "the module answered before")
			})
		}
	}
	require.NoError(t, s.signs(t.Context(), s.session(t)))
}
