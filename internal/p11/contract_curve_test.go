//go:build cgo

package p11

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
)

// parameters has openssl write a curve's name or all of its parameters.
func parameters(t *testing.T, curve, form string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "params.der")
	run(t, nil, need.Tool(t, "openssl", "openssl"), "ecparam", "-name", curve, "-param_enc", form, "-outform", "DER", "-out", out)
	der, err := os.ReadFile(out)
	require.NoError(t, err)
	return der
}

func TestACurveIsKnownByItsNameAndByItsParameters(t *testing.T) {
	for name, curve := range map[string]elliptic.Curve{
		"prime256v1": elliptic.P256(), "secp384r1": elliptic.P384(), "secp521r1": elliptic.P521(),
		"secp256k1": nil, "brainpoolP256r1": nil, "sect233r1": nil,
	} {
		for _, form := range []string{"named_curve", "explicit"} {
			der := parameters(t, name, form)
			assert.Equal(t, curve, curveOf(der), "%s, %s", name, form)
			assert.Nil(t, curveOf(append(der, 0)), "%s, %s and a byte", name, form)
			assert.Nil(t, curveOf(der[:len(der)-1]), "%s, %s without its end", name, form)
		}
	}
	assert.Nil(t, curveOf(nil))
}

// FuzzECKey: a key that was read is the same one when it is written and read again.
func FuzzECKey(f *testing.F) {
	oid := []byte("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07")
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(f, err)
	point, err := k.PublicKey.Bytes()
	require.NoError(f, err)
	f.Add(oid, point)
	f.Fuzz(func(t *testing.T, params, point []byte) {
		k, ok := ecKey(params, point).(*ecdsa.PublicKey)
		if !ok {
			return
		}
		bare, err := k.Bytes()
		require.NoError(t, err)
		wrapped, err := asn1.Marshal(bare)
		require.NoError(t, err)
		require.True(t, k.Equal(ecKey(params, bare)))
		require.True(t, k.Equal(ecKey(params, wrapped)))
	})
}
