//go:build cgo

package bench

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/titanous/rocacheck"

	"github.com/rxguard/rxguard/guard/weakkey"
)

// BenchmarkWeakKey: every check of a key that was never seen (goal: 50 µs for RSA-2048)
// and of a remembered one, beside rocacheck, which makes the one check for the
// fingerprint of ROCA and remembers nothing.
func BenchmarkWeakKey(b *testing.B) {
	for _, size := range []struct {
		name string
		bits int
	}{{"RSA-1024", 1024}, {"RSA-2048", 2048}, {"RSA-4096", 4096}} {
		b.Run(size.name, func(b *testing.B) {
			k, err := rsa.GenerateKey(rand.Reader, size.bits)
			require.NoError(b, err)
			weakKeyTurns(b, &k.PublicKey, false)
		})
	}
	// Both have to look at every prime. No primes, but the structure of a weak key.
	b.Run("RSA-2048-roca", func(b *testing.B) { weakKeyTurns(b, &rsa.PublicKey{N: rocaModulus(b), E: 65537}, true) })
}

// weakKeyTurns makes so many checks in a turn that the clock does not matter.
func weakKeyTurns(b *testing.B, pub *rsa.PublicKey, weak bool) {
	const checks = 100
	der, err := x509.MarshalPKIXPublicKey(pub)
	require.NoError(b, err)
	checker := weakkey.New(weakkey.Config{})
	remembered := &x509.Certificate{RawSubjectPublicKeyInfo: der, PublicKey: pub}
	require.Equal(b, weak, checker.CheckCertificate(remembered).Weak())
	require.Equal(b, weak, rocacheck.IsWeak(pub))

	// Another encoding each time, and so another hash.
	unseen, count := &x509.Certificate{RawSubjectPublicKeyInfo: append([]byte(nil), der...), PublicKey: pub}, uint64(0)
	tail := unseen.RawSubjectPublicKeyInfo[len(der)-8:]
	repeat := func(check func()) func() error {
		return func() error {
			for range checks {
				check()
			}
			return nil
		}
	}
	never := &peer{name: "never-seen", sign: repeat(func() {
		count++
		binary.BigEndian.PutUint64(tail, count)
		checker.CheckCertificate(unseen)
	})}
	again := &peer{name: "remembered", sign: repeat(func() { checker.CheckCertificate(remembered) })}
	other := &peer{name: "rocacheck", sign: repeat(func() { rocacheck.IsWeak(pub) })}
	turns(b, never, again, other)
	for _, p := range []*peer{never, again, other} {
		b.ReportMetric(p.µs(checks), p.name+"-µs")
	}
	b.ReportMetric(never.µs(checks)/other.µs(checks), "of-rocacheck")
}

// rocaModulus is a product of two k*M + (65537^a mod M), M the product of the first 126
// primes: Nemec et al., ACM CCS 2017, section 2.
func rocaModulus(b *testing.B) *big.Int {
	m, prime := big.NewInt(1), int64(2)
	for found := 0; found < 126; prime++ {
		if big.NewInt(prime).ProbablyPrime(0) {
			m.Mul(m, big.NewInt(prime))
			found++
		}
	}
	n := big.NewInt(1)
	for range 2 {
		a, err := rand.Int(rand.Reader, m)
		require.NoError(b, err)
		k, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 53))
		require.NoError(b, err)
		k.SetBit(k, 52, 1)
		n.Mul(n, k.Mul(k, m).Add(k, a.Exp(big.NewInt(65537), a, m)))
	}
	return n
}
