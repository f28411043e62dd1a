package signing

import (
	"context"
	"crypto"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
)

func TestAKeyThatWantsThePasscodeEachTimeWithoutSayingSo(t *testing.T) {
	w := newWorld(t, func(u *setUp) {
		u.config.AlwaysAuthenticate = true
		u.token = func(t card.Token) card.Token {
			return amended{t, func(s card.Session) card.Session { return undeclared{s} }}
		}
	})
	_, err := Sign(t.Context(), w.signer, document(t, "first"))
	require.NoError(t, err)
	_, err = Sign(t.Context(), w.signer, document(t, "second"))
	require.True(t, card.IsKind(err, card.NotLoggedIn), "%v", err)
	assert.Len(t, w.person.requests(), 1, "no second prompt in one Sign")
	for i := range 3 {
		_, err = Sign(t.Context(), w.signer, document(t, "more"))
		require.NoError(t, err)
		assert.Len(t, w.person.requests(), 2+i)
	}
	// Nor is it forgotten with the session.
	w.person.enters(wrongPIN)
	_, err = Sign(t.Context(), w.signer, document(t, "wrong"))
	require.True(t, card.IsKind(err, card.PINIncorrect), "%v", err)
	w.person.enters(thePIN)
	for range 3 {
		w.reseat()
		_, err = Sign(t.Context(), w.signer, document(t, "more"))
		require.NoError(t, err)
		_, err = Sign(t.Context(), w.signer, document(t, "more"))
		require.NoError(t, err)
	}
	w.person.wiped(t)
}

// loggedOut is a session whose login something else ends before one signature.
type loggedOut struct {
	card.Session
	before *int // signatures until then
}

func (s loggedOut) Sign(ctx context.Context, id, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if *s.before == 0 {
		if err := s.Logout(ctx); err != nil {
			return nil, err
		}
	}
	*s.before--
	return s.Session.Sign(ctx, id, digest, opts)
}

func TestALoginThatEndedElsewhereIsMadeAgainOnce(t *testing.T) {
	before := 2
	w := newWorld(t, func(u *setUp) {
		u.token = func(t card.Token) card.Token {
			return amended{t, func(s card.Session) card.Session { return loggedOut{s, &before} }}
		}
	})
	for range 2 {
		_, err := Sign(t.Context(), w.signer, document(t, "one"))
		require.NoError(t, err)
	}
	_, err := Sign(t.Context(), w.signer, document(t, "three"))
	require.True(t, card.IsKind(err, card.NotLoggedIn), "%v", err)
	for range 3 {
		_, err = Sign(t.Context(), w.signer, document(t, "four"))
		require.NoError(t, err)
	}
	assert.Len(t, w.person.requests(), 2, "the key does not want it each time")
}

// What no signature will use is not kept.
func TestEndHoldLeavesNoLoginForAKeyThatWantsItEachTime(t *testing.T) {
	for _, always := range []bool{true, false} {
		w := newWorld(t, func(u *setUp) { u.config.AlwaysAuthenticate = always })
		w.seenHold(state.Reseat)
		w.reseat()
		require.NoError(t, w.signer.EndHold(t.Context()))
		var last testcard.Op
		for _, e := range w.sim.Trace() {
			if !e.After && (e.Op == testcard.OpLogin || e.Op == testcard.OpLogout) {
				last = e.Op
			}
		}
		assert.Equal(t, always, last == testcard.OpLogout)
		_, err := Sign(t.Context(), w.signer, document(t, "one"))
		require.NoError(t, err)
		assert.Equal(t, always, len(w.person.requests()) == 2)
	}
	t.Run("and none where the card cannot log out", func(t *testing.T) {
		w := newWorld(t, func(u *setUp) { u.config.AlwaysAuthenticate = true })
		w.seenHold(state.Reseat)
		w.reseat()
		w.sim.Hook(testcard.On(testcard.OpLogout, false, 2, func() error { return card.Errorf(card.Fault, "logout", "no answer") }))
		require.NoError(t, w.signer.EndHold(t.Context()))
		assert.Nil(t, w.signer.cur)
	})
}
