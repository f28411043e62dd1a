package weakkey

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
)

func keyOf(n *big.Int) *rsa.PublicKey { return &rsa.PublicKey{N: n, E: 65537} }

func number(t testing.TB, hex string) *big.Int {
	t.Helper()
	n, ok := new(big.Int).SetString(hex, 16)
	require.True(t, ok, hex)
	return n
}

// random is an integer of exactly so many bits.
func random(rng *rand.Rand, bits int) *big.Int {
	b := make([]byte, (bits+7)/8)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	n := new(big.Int).SetBytes(b)
	n.Rsh(n, uint(8*len(b)-bits))
	return n.SetBit(n, bits-1, 1)
}

func randomPrime(rng *rand.Rand, bits int) *big.Int {
	for {
		if p := random(rng, bits); p.Bit(0) == 1 && p.ProbablyPrime(0) {
			return p
		}
	}
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// fileKey is the public key in a file of the test data: a certificate, a request, a
// public key, or a modulus in hexadecimal.
func fileKey(t testing.TB, elem ...string) *rsa.PublicKey {
	t.Helper()
	b := need.Read(t, elem...)
	block, _ := pem.Decode(b)
	if block == nil {
		return keyOf(number(t, strings.TrimPrefix(strings.TrimSpace(string(b)), "0x")))
	}
	var pub any
	switch block.Type {
	case "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		pub = c.PublicKey
	case "CERTIFICATE REQUEST":
		c, err := x509.ParseCertificateRequest(block.Bytes)
		require.NoError(t, err)
		pub = c.PublicKey
	case "PUBLIC KEY":
		var err error
		pub, err = x509.ParsePKIXPublicKey(block.Bytes)
		require.NoError(t, err)
	default:
		require.FailNow(t, "a PEM block of another kind", block.Type)
	}
	require.IsType(t, &rsa.PublicKey{}, pub)
	return pub.(*rsa.PublicKey)
}

// certificateOf is as much of a certificate as a Checker looks at.
func certificateOf(t testing.TB, pub any) *x509.Certificate {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	require.NoError(t, err)
	return &x509.Certificate{RawSubjectPublicKeyInfo: der, PublicKey: pub}
}

func spkiOf(t testing.TB, pub any) [32]byte {
	t.Helper()
	return sha256.Sum256(certificateOf(t, pub).RawSubjectPublicKeyInfo)
}
