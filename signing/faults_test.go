package signing

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

func TestAWrongSignatureIsThrownAway(t *testing.T) {
	w := newWorld(t, func(u *setUp) {
		u.sim, _ = testcard.New(testcard.Config{Serial: "c0ffee", PIN: []byte(thePIN)})
		_ = u.sim.Provision(testcard.Pair{ID: testcard.SigningID(), Key: otherKey(), Public: signingKey().Public(),
			Certificate: signingCertificate(t, signingKey()).Raw})
	})
	s, err := Sign(t.Context(), w.signer, document(t, "one"))
	assert.True(t, card.IsKind(err, card.BadSignature), "%v", err)
	assert.Nil(t, s)
	assert.Equal(t, 1, w.signed(), "the card did sign")
	e := w.only(EventNotSigned)[0]
	assert.Equal(t, "bad_signature", e.Cause)
	assert.True(t, e.Verdict.Permits())
}

// A card pulled at any moment of a signature: the error says so, nothing is
// released, and the same Signer goes on once the card is back.
func TestACardPulledInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		op    testcard.Op
		after bool
		kind  card.Kind // of the first signature of an insertion
		event Event
	}{
		{testcard.OpOpen, false, card.Absent, EventRefused},
		{testcard.OpOpen, true, card.Absent, EventRefused},
		{testcard.OpInfo, false, card.Absent, EventRefused},
		{testcard.OpObjects, false, card.Absent, EventRefused},
		{testcard.OpObjects, true, card.Absent, EventRefused},
		{testcard.OpLogin, false, card.Absent, EventNotSigned},
		{testcard.OpLogin, true, card.Absent, EventNotSigned},
		{testcard.OpSign, false, card.Absent, EventNotSigned},
		{testcard.OpSign, true, card.Absent, EventNotSigned},
	} {
		t.Run(fmt.Sprintf("%s after=%v", c.op, c.after), func(t *testing.T) {
			w := newWorld(t)
			w.sim.Hook(testcard.On(c.op, c.after, 1, func() error {
				w.sim.Remove()
				return nil
			}))
			s, err := Sign(t.Context(), w.signer, document(t, "one"))
			assert.Nil(t, s)
			var ce *CardError
			require.ErrorAs(t, err, &ce)
			assert.Equal(t, c.kind, ce.Kind, "%v", err)
			assert.NotEmpty(t, ce.Advice())
			e := w.only(c.event)[0]
			if c.event == EventNotSigned {
				assert.Equal(t, c.kind.String(), e.Cause)
			} else {
				var undecided *guard.Undecided
				assert.ErrorAs(t, err, &undecided)
			}
			w.sim.Insert()
			p := document(t, "two")
			s, err = Sign(t.Context(), w.signer, p)
			require.NoError(t, err)
			assert.True(t, verified(t, s, p))
		})
	}
	t.Run("between two signatures", func(t *testing.T) {
		w := newWorld(t)
		_, err := Sign(t.Context(), w.signer, document(t, "one"))
		require.NoError(t, err)
		w.sim.Remove()
		_, err = Sign(t.Context(), w.signer, document(t, "two"))
		assert.ErrorIs(t, err, guard.ErrNoCard)
		w.sim.Insert()
		_, err = Sign(t.Context(), w.signer, document(t, "two"))
		require.NoError(t, err)
		assert.Len(t, w.person.requests(), 2, "a new insertion wants the passcode again")
	})
	t.Run("while the passcode is asked", func(t *testing.T) {
		w := newWorld(t)
		w.person.during = func(context.Context) { w.reseat() }
		_, err := Sign(t.Context(), w.signer, document(t, "one"))
		assert.True(t, card.IsKind(err, card.Removed), "%v", err)
		assert.Zero(t, reached(w.sim, testcard.OpLogin), "the passcode was entered for the card as it was")
		w.person.wiped(t)
	})
}

func TestAnAnswerThatWasLostIsNotReleased(t *testing.T) {
	w := newWorld(t)
	w.sim.Hook(testcard.On(testcard.OpSign, true, 1, func() error { return errors.New("the reader hiccuped") }))
	s, err := Sign(t.Context(), w.signer, document(t, "one"))
	assert.True(t, card.IsKind(err, card.Other), "%v", err)
	assert.Nil(t, s)
	assert.Equal(t, 1, w.signed())
	assert.Equal(t, "other", w.only(EventNotSigned)[0].Cause)
	_, err = Sign(t.Context(), w.signer, document(t, "one"))
	require.NoError(t, err)
	assert.Len(t, w.person.requests(), 2, "the session was thrown away")
}

func TestACancelledSignatureIsNotReleased(t *testing.T) {
	for _, c := range []struct {
		op    testcard.Op
		after bool
		cause string
	}{
		{testcard.OpOpen, false, "cancelled"},
		{testcard.OpObjects, false, "cancelled"},
		{testcard.OpLogin, false, "cancelled"},
		{testcard.OpSign, false, "cancelled"},
		{testcard.OpSign, true, "cancelled"},
	} {
		t.Run(fmt.Sprintf("%s after=%v", c.op, c.after), func(t *testing.T) {
			w := newWorld(t)
			ctx, cancel := context.WithCancel(t.Context())
			goOn := make(chan struct{})
			defer close(goOn)
			w.sim.Hook(testcard.On(c.op, c.after, 1, func() error {
				cancel()
				<-goOn // the card is at work for as long as it likes
				return nil
			}))
			s, err := Sign(ctx, w.signer, document(t, "one"))
			assert.ErrorIs(t, err, context.Canceled)
			assert.Nil(t, s)
			var undecided *guard.Undecided
			assert.False(t, errors.As(err, &undecided), "nothing was found out about the card")
			assert.Equal(t, c.cause, w.only(EventNotSigned)[0].Cause)
		})
	}
	t.Run("when the card answered all the same", func(t *testing.T) {
		m := &meddler{}
		w := newWorld(t, func(u *setUp) { u.token = func(t card.Token) card.Token { m.Token = t; return m } })
		ctx, cancel := context.WithCancel(t.Context())
		m.afterSign = cancel
		s, err := Sign(ctx, w.signer, document(t, "one"))
		assert.ErrorIs(t, err, context.Canceled)
		assert.Nil(t, s)
		assert.Equal(t, 1, w.signed())
		assert.Equal(t, "cancelled", w.only(EventNotSigned)[0].Cause)
	})
	t.Run("before it begins", func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := Sign(ctx, w.signer, document(t, "one"))
		assert.ErrorIs(t, err, context.Canceled)
		w.untouched()
	})
	t.Run("while it waits for its turn", func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		w.person.during = func(context.Context) {
			second := make(chan error)
			go func() {
				_, err := Sign(ctx, w.signer, document(t, "two"))
				second <- err
			}()
			cancel()
			assert.ErrorIs(t, <-second, context.Canceled)
		}
		_, err := Sign(t.Context(), w.signer, document(t, "one"))
		require.NoError(t, err)
		w.only(EventSigned)
	})
}

func TestOneSignerForManyGoroutines(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 4 {
				p := document(t, fmt.Sprint(i, j))
				s, err := Sign(t.Context(), w.signer, p)
				if assert.NoError(t, err) {
					assert.True(t, verified(t, s, p), "the signatures are not mixed up")
				}
			}
		})
	}
	all.Wait()
	assert.Equal(t, 32, w.signed())
	assert.Len(t, w.rec.all(), 32)
	assert.Len(t, w.person.requests(), 1)
}

func TestCloseDuringASignature(t *testing.T) {
	for name, closes := range map[string]func(*world) error{
		"the signer": func(w *world) error { return w.signer.Close() },
		"the card":   func(w *world) error { return w.card.Close() },
	} {
		for _, when := range []string{"in the prompt", "from another goroutine", "while the card signs"} {
			t.Run(name+" "+when, func(t *testing.T) {
				w := newWorld(t)
				closed := make(chan error, 1)
				switch when {
				case "in the prompt":
					w.person.during = func(context.Context) { closed <- closes(w) }
				case "from another goroutine":
					w.person.during = func(ctx context.Context) {
						go func() { closed <- closes(w) }()
						<-ctx.Done()
					}
				case "while the card signs":
					begun := make(chan struct{})
					w.sim.Hook(testcard.On(testcard.OpSign, false, 1, func() error {
						go func() {
							close(begun)
							closed <- closes(w)
						}()
						<-begun
						return nil
					}))
				}
				p := document(t, "one")
				s, err := Sign(t.Context(), w.signer, p)
				if when == "while the card signs" && err == nil { // Close came after it
					assert.True(t, verified(t, s, p))
				} else {
					assert.ErrorIs(t, err, errClosed)
					assert.Nil(t, s)
				}
				require.NoError(t, <-closed)
				w.person.during = nil
				_, err = Sign(t.Context(), w.signer, document(t, "two"))
				if name == "the card" {
					assert.ErrorIs(t, err, card.ErrClosed)
				} else {
					assert.NoError(t, err, "a signer can be used again")
				}
			})
		}
	}
}

func TestCloseUnderLoad(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := 0; ; j++ {
				p := document(t, fmt.Sprint(i, j))
				s, err := Sign(t.Context(), w.signer, p)
				if errors.Is(err, card.ErrClosed) {
					return
				}
				if err == nil {
					assert.True(t, verified(t, s, p))
				} else if !errors.Is(err, errClosed) {
					assert.NoError(t, err)
				}
			}
		})
	}
	all.Go(func() {
		for range 3 {
			_ = w.signer.Close()
		}
		_ = w.card.Close()
	})
	all.Wait()
	_, err := w.card.Snapshot(t.Context())
	assert.ErrorIs(t, err, card.ErrClosed)
}
