package p11

import (
	"bytes"
	"crypto"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

var readCases = []clause{
	{"info says which card it is", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		info, err := d.open(t).Info(t.Context())
		require.NoError(t, err)
		assert.NotEmpty(t, info.Manufacturer)
		assert.NotEmpty(t, info.Model)
		assert.NotEmpty(t, info.Serial)
		assert.NotEmpty(t, info.Label)
		assert.False(t, info.CountLow || info.FinalTry || info.Locked, "%+v", info)
		assert.False(t, info.ProtectedPath)
		assert.LessOrEqual(t, info.MinPIN, len(d.pin))
		assert.GreaterOrEqual(t, info.MaxPIN, len(d.pin))
		again, err := d.open(t).Info(t.Context())
		require.NoError(t, err)
		assert.Equal(t, info, again)
		assert.Equal(t, w.module == nil, d.Simulated())
	}},
	{"certificates are read without a login, keys are found with one", func(t *testing.T, w *world) {
		for reader := range 2 {
			d := w.card(t, reader)
			s := d.open(t)
			list := objects(t, s)
			var ders [][]byte
			for _, o := range list {
				assert.NotEmpty(t, o.ID)
				if o.Class == card.CertificateObject {
					ders = append(ders, o.DER)
				}
			}
			assert.ElementsMatch(t, [][]byte{d.authentication.Raw, d.signing.Raw}, ders)
			d.pairs(t, s)

			require.NoError(t, s.Login(t.Context(), d.pin))
			authentication, signing := d.pairs(t, s)
			list = objects(t, s)
			for _, p := range []struct {
				card.Pair
				pub crypto.PublicKey
			}{{authentication, d.authentication.PublicKey}, {signing, d.signing.PublicKey}} {
				private := with(list, card.PrivateKeyObject, p.ID)
				require.Len(t, private, 1)
				assert.Equal(t, p.AlwaysAuthenticate, private[0].AlwaysAuthenticate)
				public := with(list, card.PublicKeyObject, p.ID)
				require.Len(t, public, 1)
				assert.True(t, card.SameKey(p.pub, public[0].Public), "%v", public[0].Public)
				if private[0].Public != nil {
					assert.True(t, card.SameKey(p.pub, private[0].Public), "%v", private[0].Public)
				}
			}
			assert.False(t, authentication.AlwaysAuthenticate)
			if reader == 0 {
				assert.Equal(t, !w.cannot.always, signing.AlwaysAuthenticate)
			}
		}
	}},
	{"a large certificate is read whole", func(t *testing.T, w *world) {
		d := w.card(t, 0)
		if d.c == nil {
			return // written and read back elsewhere
		}
		large := certificate(t, cachedKey(t, 4).Public(), 1800)
		d.c.Remove()
		d.reaches(t, false)
		require.NoError(t, d.c.Provision(testcard.Pair{ID: []byte{5}, Label: "large", Key: cachedKey(t, 4), Certificate: large}))
		d.c.Insert()
		d.reaches(t, true)
		found := with(objects(t, d.login(t)), card.CertificateObject, []byte{5})
		require.Len(t, found, 1)
		assert.True(t, bytes.Equal(large, found[0].DER))
	}},
}
