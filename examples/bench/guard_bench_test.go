//go:build cgo

package bench

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/titanous/rocacheck"
	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"github.com/rxguard/rxguard/guard"
)

// BenchmarkJudge: what the guard says of a certificate that it knows (goal: less than a
// microsecond) and of one that was never seen, parsing, path and the checks of the key
// included (goal: 100 µs), beside the parts that others offer: parsing and Verify of
// crypto/x509, the one check of rocacheck, and the RFC 5280 lints of zlint. None of
// those judges a certificate against notices, and the guard's answer is all of its
// checks together.
func BenchmarkJudge(b *testing.B) {
	const checks = 100
	now := time.Now().UTC().Truncate(time.Second)
	caKey, err := rsa.GenerateKey(rand.Reader, 2048) // as the national service's CAs have
	require.NoError(b, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"test"}, CommonName: "CA"}, SubjectKeyId: []byte{1},
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(9, 0, 0),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, caKey.Public(), caKey)
	require.NoError(b, err)
	ca, err := x509.ParseCertificate(der)
	require.NoError(b, err)
	policy, err := x509.ParseOID(guard.SigningPolicy)
	require.NoError(b, err)
	var ders [][]byte
	for i := range checks {
		if i%10 == 0 { // keys take long to make; each certificate is another anyway
			template.PublicKey, err = rsa.GenerateKey(rand.Reader, 2048)
			require.NoError(b, err)
		}
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 2)), Subject: pkix.Name{CommonName: "123456789012_Test_Card"},
			NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(2, 0, 0), KeyUsage: x509.KeyUsageContentCommitment, Policies: []x509.OID{policy},
		}, ca, &template.PublicKey.(*rsa.PrivateKey).PublicKey, caKey)
		require.NoError(b, err)
		ders = append(ders, der)
	}
	newGuard := func() *guard.Guard {
		g, err := guard.New(guard.Config{Roots: []*x509.Certificate{ca}})
		require.NoError(b, err)
		return g
	}
	known := newGuard()
	var cards []*guard.Certificate
	var parsed []*x509.Certificate
	var linted []*zx509.Certificate
	for _, der := range ders {
		c, err := guard.ParseCertificate(der)
		require.NoError(b, err)
		require.NoError(b, known.Judge(guard.Snapshot{Certificate: c}, now).Err())
		x, err := x509.ParseCertificate(der)
		require.NoError(b, err)
		z, err := zx509.ParseCertificate(der)
		require.NoError(b, err)
		cards, parsed, linted = append(cards, c), append(parsed, x), append(linted, z)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	rfc5280, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: lint.SourceList{lint.RFC5280}})
	require.NoError(b, err)

	each := func(name string, do func(i int) error) *peer {
		return &peer{name: name, sign: func() error {
			for i := range checks {
				if err := do(i); err != nil {
					return err
				}
			}
			return nil
		}}
	}
	fresh := &peer{name: "first-seen", sign: func() error {
		g := newGuard() // which is once for all of them
		for _, der := range ders {
			c, err := guard.ParseCertificate(der)
			if err != nil {
				return err
			}
			if err := g.Judge(guard.Snapshot{Certificate: c}, now).Err(); err != nil {
				return err
			}
		}
		return nil
	}}
	peers := []*peer{
		each("known", func(i int) error { return known.Judge(guard.Snapshot{Certificate: cards[i]}, now).Err() }),
		fresh,
		each("x509-parse", func(i int) error { _, err := x509.ParseCertificate(ders[i]); return err }),
		each("x509-verify", func(i int) error {
			_, err := parsed[i].Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			return err
		}),
		each("rocacheck", func(i int) error { rocacheck.IsWeak(parsed[i].PublicKey.(*rsa.PublicKey)); return nil }),
		each("zlint-rfc5280", func(i int) error { zlint.LintCertificateEx(linted[i], rfc5280); return nil }),
	}
	turns(b, peers...)
	for _, p := range peers {
		b.ReportMetric(p.µs(checks), p.name+"-µs")
	}
}
