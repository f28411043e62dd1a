package p11

import (
	"context"
	"crypto"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

// calls are all calls of a session, for what must be true of each.
var calls = []struct {
	name string
	f    func(ctx context.Context, d *deck, s card.Session) error
}{
	{"info", func(ctx context.Context, _ *deck, s card.Session) error { _, err := s.Info(ctx); return err }},
	{"objects", func(ctx context.Context, _ *deck, s card.Session) error { _, err := s.Objects(ctx); return err }},
	{"login", func(ctx context.Context, d *deck, s card.Session) error { return s.Login(ctx, d.pin) }},
	{"sign", func(ctx context.Context, _ *deck, s card.Session) error {
		_, err := s.Sign(ctx, testcard.AuthenticationID(), digest(crypto.SHA256, "a"), crypto.SHA256)
		return err
	}},
	{"vacant", func(ctx context.Context, _ *deck, s card.Session) error { _, err := s.Vacant(ctx); return err }},
	{"generate", func(ctx context.Context, _ *deck, s card.Session) error {
		_, err := s.Generate(ctx, card.KeySpec{ID: []byte{0x10}})
		return err
	}},
	{"write certificate", func(ctx context.Context, d *deck, s card.Session) error {
		return s.WriteCertificate(ctx, testcard.SigningID(), "x", d.authentication.Raw)
	}},
	{"destroy", func(ctx context.Context, _ *deck, s card.Session) error {
		return s.Destroy(ctx, card.CertificateObject, testcard.SigningID())
	}},
	{"logout", func(ctx context.Context, _ *deck, s card.Session) error { return s.Logout(ctx) }},
}

var sessionCases = []clause{
	{"a closed session does nothing, and can be closed again", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		s := d.login(t)
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
		for _, c := range calls {
			err := c.f(t.Context(), d, s)
			assert.True(t, card.IsKind(err, card.Removed), "%s: %v", c.name, err)
		}
		require.NoError(t, s.Close())
		d.works(t)
	}},
	{"a session without a login of its own does not sign beside one that has it", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		one, two := d.login(t), d.open(t)
		authentication, _ := d.pairs(t, one)
		d.pairs(t, two)
		_, err := two.Sign(t.Context(), authentication.ID, digest(crypto.SHA256, "a"), crypto.SHA256)
		refused(t, w, err, card.NotLoggedIn, false)
		signs(t, one, authentication.ID, d.authentication.PublicKey, crypto.SHA256, "a")
	}},
	{"a wrong passcode is wrong beside a session that is logged in", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		one, two := d.login(t), d.open(t)
		authentication, _ := d.pairs(t, one)
		if w.cannot.apart {
			left := d.tries()
			require.NoError(t, two.Login(t.Context(), d.wrong()), "nobody looks at it")
			assert.Equal(t, left, d.tries())
			require.NoError(t, one.Logout(t.Context()))
			_, err := two.Sign(t.Context(), authentication.ID, digest(crypto.SHA256, "a"), crypto.SHA256)
			refused(t, w, err, card.NotLoggedIn, false)
			return
		}
		refused(t, w, two.Login(t.Context(), d.wrong()), card.PINIncorrect, true)
		_, err := two.Sign(t.Context(), authentication.ID, digest(crypto.SHA256, "a"), crypto.SHA256)
		refused(t, w, err, card.NotLoggedIn, false)
		require.NoError(t, two.Login(t.Context(), d.pin))
		signs(t, two, authentication.ID, d.authentication.PublicKey, crypto.SHA256, "a")
		refused(t, w, two.Login(t.Context(), d.wrong()), card.PINIncorrect, true)
		_, err = two.Sign(t.Context(), authentication.ID, digest(crypto.SHA256, "a"), crypto.SHA256)
		refused(t, w, err, card.NotLoggedIn, false)
	}},
	{"two sessions work at once, and one ends without the other", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		one, two := d.login(t), d.login(t)
		authentication, signing := d.pairs(t, one)
		for range 3 {
			signs(t, one, authentication.ID, d.authentication.PublicKey, crypto.SHA256, "one")
			signs(t, two, authentication.ID, d.authentication.PublicKey, crypto.SHA256, "two")
		}
		require.NoError(t, one.Close())
		signs(t, two, authentication.ID, d.authentication.PublicKey, crypto.SHA256, "two")
		require.NoError(t, two.Login(t.Context(), d.pin))
		signs(t, two, signing.ID, d.signing.PublicKey, crypto.SHA256, "two")
	}},
	{"two cards at once do not mix", func(t *testing.T, w *world) {
		a, b := w.card(t, 0), w.card(t, 1)
		one, two := a.login(t), b.login(t)
		authentication, signing := a.pairs(t, one)
		other, _ := b.pairs(t, two)
		for range 3 {
			signs(t, one, authentication.ID, a.authentication.PublicKey, crypto.SHA256, "one")
			signs(t, two, other.ID, b.authentication.PublicKey, crypto.SHA256, "two")
		}
		first, err := one.Info(t.Context())
		require.NoError(t, err)
		second, err := two.Info(t.Context())
		require.NoError(t, err)
		assert.NotEqual(t, first.Serial+first.Label, second.Serial+second.Label)

		require.NoError(t, one.Logout(t.Context()))
		left := b.tries()
		refused(t, w, one.Login(t.Context(), a.wrong()), card.PINIncorrect, true)
		assert.Equal(t, left, b.tries())
		signs(t, two, other.ID, b.authentication.PublicKey, crypto.SHA256, "two")
		require.NoError(t, one.Login(t.Context(), a.pin))
		signs(t, one, signing.ID, a.signing.PublicKey, crypto.SHA256, "one")

		if w.cannot.move {
			return
		}
		b.c.Remove()
		b.reaches(t, false)
		require.NoError(t, one.Login(t.Context(), a.pin))
		signs(t, one, signing.ID, a.signing.PublicKey, crypto.SHA256, "one")
		_, err = two.Sign(t.Context(), other.ID, digest(crypto.SHA256, "two"), crypto.SHA256)
		require.Error(t, err)
		b.c.Insert()
		b.reaches(t, true)
		b.works(t)
		signs(t, one, authentication.ID, a.authentication.PublicKey, crypto.SHA256, "one")
	}},
}
