package status_test

import (
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/status"
)

func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return b
}

func goldenCA(t testing.TB) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(golden(t, "ca.pem"))
	require.NotNil(t, block)
	ca, err := status.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return ca
}

func number(hex string) *big.Int {
	n, ok := new(big.Int).SetString(hex, 16)
	if !ok {
		panic(hex)
	}
	return n
}

// certificateOf is a certificate of the CA, as far as lists look at one.
func certificateOf(ca *x509.Certificate, serial *big.Int) *x509.Certificate {
	return &x509.Certificate{RawIssuer: ca.RawSubject, SerialNumber: serial}
}

func TestListsOfOpenSSLAreReadAsTheyWereWritten(t *testing.T) {
	ca := goldenCA(t)
	for _, name := range []string{"plain.crl", "plain.pem"} {
		l, err := status.Parse(golden(t, name), 0)
		require.NoError(t, err)
		assert.Equal(t, 10, l.Len())
		assert.Equal(t, big.NewInt(0x1001), l.Number())
		assert.Equal(t, at("2026-03-01T00:00:00Z"), l.ThisUpdate())
		assert.Equal(t, at("2026-03-08T00:00:00Z"), l.NextUpdate())
		assert.Equal(t, ca.SubjectKeyId, l.AuthorityKeyID())
		assert.Equal(t, "CN=Test CA of lists,O=rxguard simulation", l.Issuer())
		for serial, want := range map[string]status.Entry{
			"1":                                {Revoked: at("2026-01-01T00:00:00Z")},
			"2":                                {Reason: status.KeyCompromise, Revoked: at("2026-01-02T03:04:05Z")},
			"80":                               {Reason: status.CertificateHold, Revoked: at("2026-01-03T00:00:00Z")},
			"5dc9ad1f":                         {Reason: status.Superseded, Revoked: at("2026-01-04T00:00:00Z")},
			"ffffffff00000001":                 {Reason: status.CessationOfOperation, Revoked: at("2026-01-05T00:00:00Z")},
			"fedcba9876543210fedcba9876543210": {Reason: status.AffiliationChanged, Revoked: at("2026-01-06T00:00:00Z")},
			"7edcba9876543210fedcba98765432100a0b0c0d": {Reason: status.RemoveFromCRL, Revoked: at("2026-01-07T00:00:00Z")},
			"3": {Reason: status.KeyCompromise, Revoked: at("2026-01-08T00:00:00Z"), Invalid: at("2025-12-24T18:00:00Z")},
			"4": {Reason: status.CACompromise, Revoked: at("2026-01-09T00:00:00Z"), Invalid: at("2025-12-25T18:00:00Z")},
			"5": {Reason: status.CACompromise, Revoked: at("2049-12-31T23:59:59Z")},
		} {
			e, ok := l.Find(subjectOf(t, certificateOf(ca, number(serial))))
			assert.True(t, ok, serial)
			assert.Equal(t, want, e, serial)
		}
		for _, serial := range []string{"0", "6", "7f", "-1", "-80", "5dc9ad1e", "5dc9ad20", "ff5dc9ad1f", "-a1365ae1", "fedcba9876543210fedcba987654321"} {
			_, ok := l.Find(subjectOf(t, certificateOf(ca, number(serial))))
			assert.False(t, ok, serial)
		}
		_, ok := l.Find(subjectOf(t, &x509.Certificate{RawIssuer: nameOf("Another"), SerialNumber: big.NewInt(1)}))
		assert.False(t, ok, "another issuer's")
		trust, err := status.NewTrust([]*x509.Certificate{ca}, nil)
		require.NoError(t, err)
		assert.NoError(t, trust.Verify(l))
	}
}

func TestScopesOfOpenSSLAreRead(t *testing.T) {
	ca := goldenCA(t)
	of := func(isCA bool, points ...[]byte) *status.Subject {
		c := certificateOf(ca, big.NewInt(9))
		c.BasicConstraintsValid, c.IsCA = true, isCA
		if points != nil {
			c.Extensions = append(c.Extensions, x509Extension(oidCDP, tlv(0x30, points...)))
		}
		return subjectOf(t, c)
	}
	here := tlv(0x30, fullName(uriName("http://lists.example/users.crl")))
	l, err := status.Parse(golden(t, "users.crl"), 0)
	require.NoError(t, err)
	assert.Equal(t, status.Reasons(1<<1|1<<2), l.Covers(of(false, here)))
	assert.Zero(t, l.Covers(of(true, here)))
	assert.Zero(t, l.Covers(of(false)))

	users := l
	l, err = status.Parse(golden(t, "relative.crl"), 0)
	require.NoError(t, err)
	assert.NotEqual(t, users.Series(), l.Series())
	point := tlv(0x30, tlv(0xa0, tlv(0xa1, tlv(0x30, []byte("\x06\x03\x55\x04\x03"), tlv(0x0c, []byte("point"))))))
	assert.Equal(t, status.AllReasons, l.Covers(of(true, point)))
	assert.Zero(t, l.Covers(of(false, point)))
	assert.Zero(t, l.Covers(of(true, here)))

	_, err = status.Parse(golden(t, "delta.crl"), 0)
	assert.ErrorIs(t, err, status.ErrDelta)
}

// The golden files are for the days of their validity, whenever they are made anew.
func TestListsOfOpenSSLAreJudged(t *testing.T) {
	ca := goldenCA(t)
	l, err := status.Parse(golden(t, "plain.crl"), 0)
	require.NoError(t, err)
	trust, err := status.NewTrust([]*x509.Certificate{ca}, nil)
	require.NoError(t, err)
	s, err := status.NewSnapshot(trust, 0, l)
	require.NoError(t, err)
	when := at("2026-03-02T00:00:00Z")
	ask := func(serial string, at time.Time) status.Result {
		return s.Status(subjectOf(t, certificateOf(ca, number(serial)), ca), at)
	}
	good().check(t, ask("6", when))
	revoked().check(t, ask("80", when))
	good().check(t, ask("5dc9ad1e", when))
	r := ask("5dc9ad1f", when)
	assert.Equal(t, "on the list number 4097 of 2026-03-01T00:00:00Z by CN=Test CA of lists,O=rxguard simulation, revoked at 2026-01-04T00:00:00Z, reason 4 (superseded)", r.String())
	assert.Equal(t, l.SHA256(), r.List.SHA256())
}
