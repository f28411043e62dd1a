package p11

import (
	"context"
	"crypto"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

// asked counts what reached a card that can be looked into. When its answer has gone is
// told later than whoever waits for the answer has it.
func (d *deck) asked() int {
	if d.c == nil {
		return 0
	}
	n := len(d.c.Trace())
	for _, c := range d.c.Commands() {
		if c.Phase == testcard.Before {
			n++
		}
	}
	return n
}

// sessionsOf counts a module's sessions, those too that are ending; without cgo there is
// none.
var sessionsOf = func(*Module) int { return 0 }

// quiet waits until the sessions that were closed are over, all but the last one: what
// ends them is asked in the background.
func (w *world) quiet(t testing.TB) {
	t.Helper()
	if w.module != nil {
		eventually(t, func() bool { return sessionsOf(w.module) <= 1 }, "the sessions of before are over")
	}
}

// hold has a simulated card stop before it does something for the first time, and
// tells when it does.
func (d *deck) hold(t testing.TB, op testcard.Op) (begun <-chan struct{}, release func()) {
	t.Helper()
	here, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	stop := func() {
		first := false
		once.Do(func() { first = true })
		if first {
			close(here)
			<-leave
		}
	}
	d.c.Hook(func(e testcard.Event) error {
		if e.Op == op && !e.After {
			stop()
		}
		return nil
	})
	d.c.HookCommands(func(c testcard.Command) []byte {
		if c.Op == op && c.Phase == testcard.Before {
			stop()
		}
		return nil
	})
	release = sync.OnceFunc(func() { close(leave) })
	t.Cleanup(release)
	return here, release
}

// left calls f and ends its context once begun is closed; f must return although the
// card still holds.
func left(t testing.TB, begun <-chan struct{}, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	select {
	case <-begun:
	case err := <-done:
		t.Fatalf("it never began: %v", err)
	}
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

var contextCases = []clause{
	{"a context that has ended asks nothing of the card", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		s := d.login(t)
		authentication, _ := d.pairs(t, s)
		w.quiet(t)
		before := d.asked()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := d.Open(ctx)
		assert.ErrorIs(t, err, context.Canceled)
		_, err = d.Wait(ctx, d.Presence())
		assert.ErrorIs(t, err, context.Canceled)
		for _, c := range calls {
			if c.name == "logout" {
				continue // which ends the login in any case
			}
			assert.ErrorIs(t, c.f(ctx, d, s), context.Canceled, c.name)
		}
		if !assert.Equal(t, before, d.asked()) {
			t.Logf("all that it was asked:\n%v\n%v", d.c.Trace(), d.c.Commands())
		}
		signs(t, s, authentication.ID, d.authentication.PublicKey, crypto.SHA256, "after it")
	}},
	{"a signature that nobody waits for any more is not released", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		if d.c == nil {
			return // nothing holds its signatures up
		}
		s := d.login(t)
		authentication, _ := d.pairs(t, s)
		begun, release := d.hold(t, testcard.OpSign)
		left(t, begun, func(ctx context.Context) error {
			sig, err := s.Sign(ctx, authentication.ID, digest(crypto.SHA256, "left"), crypto.SHA256)
			assert.Nil(t, sig)
			return err
		})
		assert.Zero(t, d.c.Signatures(authentication.ID), "it returned while the card was at work")
		release()
		eventually(t, func() bool { return d.c.Signatures(authentication.ID) == 1 }, "the card signs what it was asked to")
		sig, err := s.Sign(t.Context(), authentication.ID, digest(crypto.SHA256, "next"), crypto.SHA256)
		if err == nil {
			require.NoError(t, verify(d.authentication.PublicKey, digest(crypto.SHA256, "next"), sig, crypto.SHA256), "the late one is not the next one's")
		} else {
			refused(t, w, err, card.Removed, false)
			assert.Nil(t, sig)
		}
		require.NoError(t, s.Close())
		d.works(t)
	}},
	{"a login that nobody waits for any more has the passcode of before", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		if d.c == nil {
			return
		}
		s := d.open(t)
		pin := []byte(string(d.pin))
		begun, release := d.hold(t, testcard.OpLogin)
		left(t, begun, func(ctx context.Context) error { return s.Login(ctx, pin) })
		clear(pin) // as its owner does
		release()
		require.NoError(t, s.Close())
		d.works(t)
		assert.Equal(t, 3, d.tries())
	}},
	{"a pair that nobody waits for any more hurts nothing", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		if d.c == nil || w.cannot.change {
			return
		}
		s := d.login(t)
		id, err := s.Vacant(t.Context())
		require.NoError(t, err)
		begun, release := d.hold(t, testcard.OpGenerate)
		left(t, begun, func(ctx context.Context) error {
			_, err := s.Generate(ctx, card.KeySpec{ID: id})
			return err
		})
		release()
		require.NoError(t, s.Close())
		d.works(t)
	}},
}
