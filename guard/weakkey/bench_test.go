package weakkey

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"math/big"
	"testing"
)

// BenchmarkWeakKey: a certificate whose key was never seen, everything included (goal:
// RSA-2048 under 50 µs), the same key without its encoding, and a remembered key.
func BenchmarkWeakKey(b *testing.B) {
	keys := []struct {
		name string
		pub  any
	}{
		{"RSA-1024", freshKey(b, 1024)},
		{"RSA-2048", freshKey(b, 2048)},
		{"RSA-4096", freshKey(b, 4096)},
		{"RSA-2048-roca", keyOf(rocaModulus(2048))},
		{"ECDSA-P256", freshECDSA(b)},
	}
	for _, k := range keys {
		b.Run("never-seen/"+k.name, func(b *testing.B) {
			b.ReportAllocs()
			cert := unseen(b, k.pub)
			c := New(Config{BlockedModuli: millionHashes(), BlockedSPKI: millionHashes()})
			for b.Loop() {
				c.CheckCertificate(cert())
			}
		})
	}
	pub := keys[1].pub.(*rsa.PublicKey)
	b.Run("never-seen-key/RSA-2048", func(b *testing.B) {
		b.ReportAllocs()
		c, n := New(Config{}), new(big.Int).Set(pub.N)
		for b.Loop() {
			n.Add(n, big.NewInt(2))
			c.Check(keyOf(n))
		}
	})
	b.Run("remembered/RSA-2048", func(b *testing.B) {
		b.ReportAllocs()
		c, cert := New(Config{}), certificateOf(b, pub)
		c.CheckCertificate(cert)
		for b.Loop() {
			c.CheckCertificate(cert)
		}
	})
	b.Run("known/RSA-2048", func(b *testing.B) {
		b.ReportAllocs()
		c, cert, spki := New(Config{}), certificateOf(b, pub), spkiOf(b, pub)
		c.CheckCertificate(cert)
		for b.Loop() {
			if _, ok := c.Known(spki); !ok {
				b.Fatal("forgotten")
			}
		}
	})
}

func rocaModulus(bits int) *big.Int {
	rng, m := seeded(14), primorial(126)
	return new(big.Int).Mul(rocaCandidate(rng, bits/2, m), rocaCandidate(rng, bits/2, m))
}

// unseen gives the key another encoding, and so another hash, each time.
func unseen(b *testing.B, pub any) func() *x509.Certificate {
	cert := certificateOf(b, pub)
	raw, count := cert.RawSubjectPublicKeyInfo, uint64(0)
	return func() *x509.Certificate {
		count++
		binary.BigEndian.PutUint64(raw[len(raw)-8:], count)
		return cert
	}
}

func millionHashes() Hashes {
	sorted := make([]byte, 1_000_000*32)
	for i := range uint64(1_000_000) {
		binary.BigEndian.PutUint64(sorted[i*32:], i<<44)
	}
	return Hashes{sorted}
}
