package weakkey

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzCheck: whatever the modulus and the exponent, the verdict is that of each check
// in its plainest form, and it is the same the second time.
func FuzzCheck(f *testing.F) {
	small := big.NewInt(1)
	for _, p := range smallPrimes {
		small.Mul(small, big.NewInt(int64(p)))
	}
	one := big.NewInt(1)
	f.Add([]byte{}, int64(0), false)
	f.Add([]byte{1}, int64(65537), true)
	f.Fuzz(func(t *testing.T, modulus []byte, exponent int64, negative bool) {
		n := new(big.Int).SetBytes(modulus)
		if negative {
			n.Neg(n)
		}
		key := &rsa.PublicKey{N: n, E: int(exponent)}
		var c Checker
		r := c.Check(key)
		require.Equal(t, r, c.Check(key))
		require.Equal(t, new(big.Int).Abs(n), new(big.Int).SetBytes(modulus), "the modulus is left alone")
		requireTelling(t, r)

		require.Equal(t, n.BitLen() <= 16384, r.Judged)
		if !r.Judged {
			require.False(t, r.Weak())
			return
		}
		e := int64(key.E)
		want := WeaknessesOf()
		if e%2 == 0 || e < 65537 || e > 1<<31-1 {
			want |= WeaknessesOf(Exponent)
		}
		if n.BitLen() <= 829 || n.Sign() < 0 {
			want |= WeaknessesOf(Modulus)
		}
		if n.Sign() > 0 {
			if new(big.Int).GCD(nil, nil, n, small).Cmp(one) != 0 {
				want |= WeaknessesOf(SmallFactor)
			}
			if isPowerOf65537(n) {
				want |= WeaknessesOf(ROCA)
			}
			if plainFermat(n) {
				want |= WeaknessesOf(ClosePrimes)
			}
		}
		require.Equal(t, want.Names(), r.Weaknesses.Names())
	})
}

// FuzzCheckSPKI: whatever key crypto/x509 reads, it is judged alike with and without its
// encoding.
func FuzzCheckSPKI(f *testing.F) {
	f.Fuzz(func(t *testing.T, der []byte) {
		pub, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			return
		}
		var c Checker
		r := c.CheckCertificate(&x509.Certificate{RawSubjectPublicKeyInfo: der, PublicKey: pub})
		require.Equal(t, r, new(Checker).Check(pub))
		known, ok := c.Known(sha256.Sum256(der))
		require.True(t, ok)
		require.Equal(t, r, known)
		requireTelling(t, r)
	})
}

func requireTelling(t *testing.T, r Result) {
	t.Helper()
	require.NotEmpty(t, r.Key)
	require.Equal(t, r.Weak() || !r.Judged, r.Detail != "", "a detail wherever there is something to say: %v", r)
	require.Less(t, len(r.Detail), 1000)
	b, err := json.Marshal(r)
	require.NoError(t, err)
	assert.True(t, json.Valid(b))
	require.NotEmpty(t, r.String())
}
