package p11

import (
	"bytes"
	"crypto"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
)

var loginCases = []clause{
	{"the right passcode logs in", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		s := d.login(t)
		authentication, _ := d.pairs(t, s)
		signs(t, s, authentication.ID, d.authentication.PublicKey, crypto.SHA256, "a")
	}},
	{"a wrong passcode does not, and the right one does afterwards", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		s := d.open(t)
		authentication, _ := d.pairs(t, s)
		before := d.tries()
		refused(t, w, s.Login(t.Context(), d.wrong()), card.PINIncorrect, true)
		if before > 0 {
			assert.Equal(t, before-1, d.tries(), "one try was spent, once")
		}
		_, err := s.Sign(t.Context(), authentication.ID, digest(crypto.SHA256, "a"), crypto.SHA256)
		refused(t, w, err, card.NotLoggedIn, false)
		require.NoError(t, s.Login(t.Context(), d.pin))
		assert.Equal(t, before, d.tries())
		signs(t, s, authentication.ID, d.authentication.PublicKey, crypto.SHA256, "a")
	}},
	{"an empty passcode costs no try", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		s := d.open(t)
		before := d.tries()
		refused(t, w, s.Login(t.Context(), []byte{}), card.PINLength, false)
		assert.Equal(t, before, d.tries())
		require.NoError(t, s.Login(t.Context(), d.pin))
	}},
	{"a passcode that is too short or too long costs no try", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		s := d.open(t)
		for _, pin := range [][]byte{[]byte("1"), []byte("123"), []byte("123456789"), bytes.Repeat([]byte("1"), 1000)} {
			before := d.tries()
			err := s.Login(t.Context(), pin)
			if d.c == nil && card.IsKind(err, card.PINIncorrect) {
				continue // software compares passcodes of any length
			}
			refused(t, w, err, card.PINLength, true)
			assert.Equal(t, before, d.tries(), "%d characters", len(pin))
		}
		require.NoError(t, s.Login(t.Context(), d.pin))
	}},
	{"wrong passcodes lock the card", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		s := d.open(t)
		if w.cannot.lock {
			for range 12 {
				refused(t, w, s.Login(t.Context(), d.wrong()), card.PINIncorrect, true)
			}
			info, err := s.Info(t.Context())
			require.NoError(t, err)
			assert.False(t, info.Locked || info.FinalTry, "%+v", info)
			require.NoError(t, s.Login(t.Context(), d.pin))
			return
		}
		for left := d.tries() - 1; left >= 0; left-- {
			refused(t, w, s.Login(t.Context(), d.wrong()), card.PINIncorrect, true)
			assert.Equal(t, left, d.tries())
			info, err := s.Info(t.Context())
			require.NoError(t, err)
			assert.Equal(t, left == 1, info.FinalTry, "%d tries left: %+v", left, info)
			assert.Equal(t, left == 0, info.Locked, "%d tries left: %+v", left, info)
		}
		e := refused(t, w, s.Login(t.Context(), d.pin), card.PINLocked, true)
		assert.Contains(t, e.Advice(), "Registration Authority")
		assert.Zero(t, d.tries())
	}},
	{"a logout ends the login", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		s := d.login(t)
		authentication, _ := d.pairs(t, s)
		require.NoError(t, s.Logout(t.Context()))
		require.NoError(t, s.Logout(t.Context()), "there is no login to end")
		_, err := s.Sign(t.Context(), authentication.ID, digest(crypto.SHA256, "a"), crypto.SHA256)
		refused(t, w, err, card.NotLoggedIn, false)
		d.pairs(t, s)
		require.NoError(t, s.Login(t.Context(), d.pin))
		signs(t, s, authentication.ID, d.authentication.PublicKey, crypto.SHA256, "a")
	}},
}
