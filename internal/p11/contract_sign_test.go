package p11

import (
	"crypto"
	"crypto/rsa"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
)

var hashes = []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}

var signCases = []clause{
	{"RSASSA-PKCS1-v1_5", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		s := d.login(t)
		authentication, _ := d.pairs(t, s)
		for _, h := range hashes {
			signs(t, s, authentication.ID, d.authentication.PublicKey, h, h.String())
		}
	}},
	{"RSASSA-PSS, where the card says so", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		s := d.login(t)
		authentication, _ := d.pairs(t, s)
		info, err := s.Info(t.Context())
		require.NoError(t, err)
		for _, h := range hashes {
			for _, salt := range []int{rsa.PSSSaltLengthEqualsHash, h.Size()} {
				opts := &rsa.PSSOptions{Hash: h, SaltLength: salt}
				if info.PSS {
					signs(t, s, authentication.ID, d.authentication.PublicKey, opts, h.String())
					continue
				}
				_, err := s.Sign(t.Context(), authentication.ID, digest(h, "a"), opts)
				refused(t, w, err, card.Unsupported, true)
				s = d.login(t)
			}
		}
	}},
	{"ECDSA on P-256, as DER", func(t *testing.T, w *world) {
		d := w.card(t, 1)
		s := d.login(t)
		authentication, _ := d.pairs(t, s)
		for _, h := range hashes {
			for i := range 3 { // r and s of several lengths
				signs(t, s, authentication.ID, d.authentication.PublicKey, h, fmt.Sprint(h, i))
			}
		}
	}},
	{"a digest that its hash does not make is refused", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		s := d.login(t)
		authentication, _ := d.pairs(t, s)
		_, err := s.Sign(t.Context(), authentication.ID, make([]byte, 31), crypto.SHA256)
		refused(t, w, err, card.Unsupported, false)
		signs(t, s, authentication.ID, d.authentication.PublicKey, crypto.SHA256, "after it")
	}},
	{"an always-authenticate key wants a login for each signature", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		s := d.login(t)
		_, signing := d.pairs(t, s)
		count := func() int {
			if d.c == nil {
				return 0
			}
			return d.c.Signatures(signing.ID)
		}
		if w.cannot.always {
			require.False(t, signing.AlwaysAuthenticate, "it does not pretend")
			signs(t, s, signing.ID, d.signing.PublicKey, crypto.SHA256, "one")
			signs(t, s, signing.ID, d.signing.PublicKey, crypto.SHA256, "two")
			return
		}
		for range 2 {
			before := count()
			signs(t, s, signing.ID, d.signing.PublicKey, crypto.SHA256, "one")
			made := count()
			_, err := s.Sign(t.Context(), signing.ID, digest(crypto.SHA256, "two"), crypto.SHA256)
			refused(t, w, err, card.NotLoggedIn, false)
			if d.c != nil {
				assert.Equal(t, before+1, made)
			}
			assert.Equal(t, made, count(), "the card was not asked for a second one")
			require.NoError(t, s.Login(t.Context(), d.pin))
		}
	}},
	{"no signature without a login", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		s := d.open(t)
		authentication, signing := d.pairs(t, s)
		for _, id := range [][]byte{authentication.ID, signing.ID} {
			_, err := s.Sign(t.Context(), id, digest(crypto.SHA256, "a"), crypto.SHA256)
			refused(t, w, err, card.NotLoggedIn, false)
		}
	}},
	{"a key that is not there is not found", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		s := d.login(t)
		for _, id := range [][]byte{{0x77}, []byte("nobody's"), {}} {
			_, err := s.Sign(t.Context(), id, digest(crypto.SHA256, "a"), crypto.SHA256)
			refused(t, w, err, card.NotFound, false)
		}
		authentication, _ := d.pairs(t, s)
		signs(t, s, authentication.ID, d.authentication.PublicKey, crypto.SHA256, "after it")
	}},
}
