package p11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

// certificate makes one for a public key, with so many bytes in it that mean
// nothing.
func certificate(t testing.TB, pub crypto.PublicKey, padding int) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "large", Organization: []string{testcard.Organization}},
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 25, 1}, Value: make([]byte, padding)}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, cachedKey(t, 5))
	require.NoError(t, err)
	return der
}

// generate makes a pair in a vacant place.
func generate(t testing.TB, s card.Session) card.Object {
	t.Helper()
	id, err := s.Vacant(t.Context())
	require.NoError(t, err)
	require.Empty(t, with(objects(t, s), 0, id))
	o, err := s.Generate(t.Context(), card.KeySpec{ID: id, Label: "made"})
	require.NoError(t, err)
	require.Equal(t, id, o.ID)
	return o
}

// clean takes a pair away again that the test made, where that is possible: a
// software token outlives the test.
func (d *deck) clean(t *testing.T, id []byte) {
	t.Cleanup(func() {
		if d.c != nil {
			return
		}
		ctx := context.Background()
		s, err := d.Open(ctx)
		require.NoError(t, err)
		defer s.Close()
		require.NoError(t, s.Login(ctx, d.pin))
		for _, class := range []card.Class{card.CertificateObject, card.PublicKeyObject, card.PrivateKeyObject} {
			if err := s.Destroy(ctx, class, id); !card.IsKind(err, card.NotFound) {
				require.NoError(t, err)
			}
		}
	})
}

var changeCases = []clause{
	{"a card that cannot be changed says so and stays as it is", func(t *testing.T, w *world) {
		if !w.cannot.change {
			return
		}
		d := w.card(t, 0)
		s := d.login(t)
		before := objects(t, s)
		authentication, signing := d.pairs(t, s)
		id, err := s.Vacant(t.Context())
		require.NoError(t, err)
		_, err = s.Generate(t.Context(), card.KeySpec{ID: id})
		e := refused(t, w, err, card.Unsupported, true)
		assert.Contains(t, e.Advice(), "Registration Authority")
		refused(t, w, s.WriteCertificate(t.Context(), signing.ID, "new", d.signing.Raw), card.Unsupported, true)
		for _, class := range []card.Class{card.CertificateObject, card.PublicKeyObject, card.PrivateKeyObject} {
			refused(t, w, s.Destroy(t.Context(), class, signing.ID), card.Unsupported, true)
		}
		assert.Equal(t, before, objects(t, s))
		signs(t, s, authentication.ID, d.authentication.PublicKey, crypto.SHA256, "after it")
	}},
	{"a pair is made beside what is there, and signs", func(t *testing.T, w *world) {
		if w.cannot.change {
			return
		}
		d := w.card(t, 0)
		s := d.login(t)
		o := generate(t, s)
		d.clean(t, o.ID)
		pub, ok := o.Public.(*rsa.PublicKey)
		require.True(t, ok, "%T", o.Public)
		assert.Equal(t, 2048, pub.N.BitLen())
		require.NoError(t, s.Login(t.Context(), d.pin))
		private := with(objects(t, s), card.PrivateKeyObject, o.ID)
		require.Len(t, private, 1)
		assert.Equal(t, o.AlwaysAuthenticate, private[0].AlwaysAuthenticate)
		signs(t, s, o.ID, pub, crypto.SHA256, "made")
		require.NoError(t, s.Close())

		s = d.login(t)
		d.pairs(t, s)
		signs(t, s, o.ID, pub, crypto.SHA256, "found again")
		next, err := s.Vacant(t.Context())
		require.NoError(t, err)
		assert.NotEqual(t, o.ID, next)
		d.works(t)
	}},
	{"no pair is made over one that is there", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		s := d.login(t)
		before := objects(t, s)
		authentication, signing := d.pairs(t, s)
		for _, id := range [][]byte{authentication.ID, signing.ID, nil} {
			_, err := s.Generate(t.Context(), card.KeySpec{ID: id})
			refused(t, w, err, card.Unsupported, false)
		}
		_, err := s.Generate(t.Context(), card.KeySpec{ID: []byte{7}, Bits: 1024})
		refused(t, w, err, card.Unsupported, false)
		require.NoError(t, s.Login(t.Context(), d.pin))
		assert.Equal(t, before, objects(t, s))
		d.works(t)
	}},
	{"a pair is made over one that is to be given up, and signs", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		s := d.login(t)
		if w.cannot.change {
			_, signing := d.pairs(t, s)
			before := objects(t, s)
			_, err := s.Generate(t.Context(), card.KeySpec{ID: signing.ID, Over: true})
			refused(t, w, err, card.Unsupported, false) // told by its mechanisms, before it is asked
			assert.Equal(t, before, objects(t, s), "the only pair stays")
			d.works(t)
			return
		}
		old := generate(t, s)
		d.clean(t, old.ID)
		require.NoError(t, s.Login(t.Context(), d.pin))
		require.NoError(t, s.WriteCertificate(t.Context(), old.ID, "old", certificate(t, old.Public, 100)))
		o, err := s.Generate(t.Context(), card.KeySpec{ID: old.ID, Label: "over", Over: true})
		require.NoError(t, err)
		require.NotNil(t, o.Public)
		assert.False(t, card.SameKey(old.Public, o.Public), "the old key is there still")
		require.NoError(t, s.Login(t.Context(), d.pin))
		for _, c := range with(objects(t, s), card.CertificateObject, old.ID) {
			assert.NotEqual(t, certificate(t, old.Public, 100), c.DER, "the old certificate stands beside the new key")
		}
		require.NoError(t, s.WriteCertificate(t.Context(), o.ID, "over", certificate(t, o.Public, 100)))
		require.Len(t, with(objects(t, s), card.CertificateObject, o.ID), 1)
		require.Len(t, with(objects(t, s), card.PrivateKeyObject, o.ID), 1)
		signs(t, s, o.ID, o.Public.(*rsa.PublicKey), crypto.SHA256, "over the old")
		require.NoError(t, s.Close())
		s = d.login(t)
		d.pairs(t, s)
		signs(t, s, o.ID, o.Public.(*rsa.PublicKey), crypto.SHA256, "found again")
		d.works(t)
	}},
	{"a full card says so before anything is touched", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		if d.c == nil || w.cannot.change {
			return // software has room
		}
		d.c.Remove()
		d.reaches(t, false)
		for id := byte(3); id <= 24; id++ {
			require.NoError(t, d.c.Provision(testcard.Pair{ID: []byte{id}, Key: cachedKey(t, 4), Certificate: certificate(t, cachedKey(t, 4).Public(), 10)}))
		}
		d.c.Insert()
		d.reaches(t, true)
		s := d.login(t)
		before := objects(t, s)
		_, err := s.Vacant(t.Context())
		e := refused(t, w, err, card.Full, false)
		assert.Contains(t, e.Advice(), "Registration Authority")
		info, err := s.Info(t.Context())
		require.NoError(t, err)
		assert.Zero(t, info.Room)
		assert.Equal(t, before, objects(t, s))
	}},
	{"a certificate is written, replaced and read back", func(t *testing.T, w *world) {
		if w.cannot.change {
			return
		}
		d := w.card(t, 0)
		s := d.login(t)
		o := generate(t, s)
		d.clean(t, o.ID)
		for _, profile := range []testcard.Profile{testcard.Signing, testcard.Authentication, testcard.Signing} {
			c, err := issuer(t).Issue(profile, o.Public, testcard.IssueOptions{Subject: testcard.Subject("999999999999")})
			require.NoError(t, err)
			require.NoError(t, s.WriteCertificate(t.Context(), o.ID, "written", c.Raw))
			found := with(objects(t, s), card.CertificateObject, o.ID)
			require.Len(t, found, 1)
			assert.True(t, bytes.Equal(c.Raw, found[0].DER))
			found = with(objects(t, d.open(t)), card.CertificateObject, o.ID)
			require.Len(t, found, 1, "another session sees it")
			assert.True(t, bytes.Equal(c.Raw, found[0].DER))
		}
		require.NoError(t, s.Close())
		s = d.login(t)
		_, err := card.SigningPair(objects(t, s))
		refused(t, w, err, card.Ambiguous, false)
	}},
	{"a certificate without its key is not written", func(t *testing.T, w *world) {
		if w.cannot.change {
			return
		}
		d := w.card(t, 0)
		s := d.login(t)
		before := objects(t, s)
		refused(t, w, s.WriteCertificate(t.Context(), []byte{9}, "alone", d.signing.Raw), card.NotFound, false)
		assert.Equal(t, before, objects(t, s))
	}},
	{"a large certificate is written, and one that is too large leaves what was", func(t *testing.T, w *world) {
		if w.cannot.change {
			return
		}
		d := w.card(t, 0)
		s := d.login(t)
		o := generate(t, s)
		d.clean(t, o.ID)
		large := certificate(t, o.Public, 1800)
		require.NoError(t, s.WriteCertificate(t.Context(), o.ID, "large", large))
		found := with(objects(t, s), card.CertificateObject, o.ID)
		require.Len(t, found, 1)
		assert.True(t, bytes.Equal(large, found[0].DER))
		if d.c == nil {
			return // nothing is too large for it
		}
		err := s.WriteCertificate(t.Context(), o.ID, "too large", certificate(t, o.Public, 20<<10))
		var e *card.Error
		require.ErrorAs(t, err, &e)
		assert.Contains(t, []card.Kind{card.Full, card.Unsupported, card.Fault}, e.Kind, "%v", err)
		require.NoError(t, s.Close())
		found = with(objects(t, d.login(t)), card.CertificateObject, o.ID)
		require.Len(t, found, 1)
		assert.True(t, bytes.Equal(large, found[0].DER))
	}},
	{"each class is removed, once", func(t *testing.T, w *world) {
		if w.cannot.change {
			return
		}
		d := w.card(t, 0)
		s := d.login(t)
		o := generate(t, s)
		d.clean(t, o.ID)
		c, err := issuer(t).Issue(testcard.Signing, o.Public, testcard.IssueOptions{Subject: testcard.Subject("999999999999")})
		require.NoError(t, err)
		require.NoError(t, s.WriteCertificate(t.Context(), o.ID, "written", c.Raw))
		for _, class := range []card.Class{card.PrivateKeyObject, card.PublicKeyObject, card.CertificateObject} {
			require.NoError(t, s.Login(t.Context(), d.pin))
			require.Len(t, with(objects(t, s), class, o.ID), 1)
			if w.cannot.destroyKeys && class != card.CertificateObject {
				refused(t, w, s.Destroy(t.Context(), class, o.ID), card.Unsupported, false)
				require.NoError(t, s.Login(t.Context(), d.pin))
				require.Len(t, with(objects(t, s), class, o.ID), 1)
				continue
			}
			require.NoError(t, s.Destroy(t.Context(), class, o.ID))
			assert.Empty(t, with(objects(t, s), class, o.ID))
			refused(t, w, s.Destroy(t.Context(), class, o.ID), card.NotFound, false)
		}
		require.NoError(t, s.Close())
		s = d.login(t)
		if !w.cannot.destroyKeys {
			assert.Empty(t, with(objects(t, s), 0, o.ID), "nothing is left of it")
		}
		assert.Empty(t, with(objects(t, s), card.CertificateObject, o.ID))
		d.pairs(t, s)
		d.works(t)
	}},
	{"nothing is changed without a login", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		s := d.open(t)
		before := objects(t, s)
		_, signing := d.pairs(t, s)
		id, err := s.Vacant(t.Context())
		require.NoError(t, err)
		_, err = s.Generate(t.Context(), card.KeySpec{ID: id})
		refused(t, w, err, card.NotLoggedIn, false)
		refused(t, w, s.WriteCertificate(t.Context(), signing.ID, "x", d.signing.Raw), card.NotLoggedIn, false)
		refused(t, w, s.Destroy(t.Context(), card.CertificateObject, signing.ID), card.NotLoggedIn, false)
		assert.Equal(t, before, objects(t, s))
	}},
	{"a module that wants its security officer says so when there is none", func(t *testing.T, w *world) {
		if !w.cannot.destroyKeys {
			return // a PIV card's management key is what it is about
		}
		d := w.card(t, 0)
		token, err := w.module.Token(t.Context(), d.sel, nil)
		require.NoError(t, err)
		t.Cleanup(func() { token.Close() })
		d.Token = token
		s := d.login(t)
		before := objects(t, s)
		id, err := s.Vacant(t.Context())
		require.NoError(t, err)
		_, err = s.Generate(t.Context(), card.KeySpec{ID: id})
		e := refused(t, w, err, card.Unsupported, true)
		assert.Contains(t, e.Error(), "security officer")
		assert.Equal(t, before, objects(t, s))
		d.works(t)
	}},
}
