package guard_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/status"
)

// Package status fits the interface that guard declares for it, with real lists.
func TestAGuardJudgesByRevocationLists(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 2, n, 0, 0, 0, 0, time.UTC) }
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	make := func(c, parent *x509.Certificate, pub any) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, key)
		require.NoError(t, err)
		c, err = x509.ParseCertificate(der)
		require.NoError(t, err)
		return c
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, SubjectKeyId: []byte{1}, NotBefore: day(1), NotAfter: day(1).AddDate(5, 0, 0),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	ca = make(ca, ca, key.Public())
	policy, err := x509.ParseOID(guard.SigningPolicy)
	require.NoError(t, err)
	card := func(serial int64) *guard.Certificate {
		c := make(&x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "123456789012_Test_Card"}, NotBefore: day(1), NotAfter: day(1).AddDate(2, 0, 0),
			KeyUsage: x509.KeyUsageContentCommitment, Policies: []x509.OID{policy},
		}, ca, key.Public())
		parsed, err := guard.ParseCertificate(c.Raw)
		require.NoError(t, err)
		return parsed
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: day(10), NextUpdate: day(12),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: day(9), ReasonCode: 4}, {SerialNumber: big.NewInt(8), RevocationTime: day(9), ReasonCode: 1}},
	}, ca, key)
	require.NoError(t, err)
	list, err := status.Parse(der, 0)
	require.NoError(t, err)
	trust, err := status.NewTrust([]*x509.Certificate{ca}, nil)
	require.NoError(t, err)
	known, err := status.NewSnapshot(trust, 0, list)
	require.NoError(t, err)
	none, err := status.NewSnapshot(trust, 0)
	require.NoError(t, err)

	for _, tt := range []struct {
		name     string
		s        *status.Snapshot
		serial   int64
		at       time.Time
		decision guard.Decision
		want     []guard.Reason
	}{
		{"good", known, 6, day(11), guard.DecisionAllowed, nil},
		{"revoked", known, 7, day(11), guard.DecisionRefused, []guard.Reason{guard.Revoked}},
		{"revoked, by a list that ended long ago", known, 7, day(28), guard.DecisionRefused, []guard.Reason{guard.Revoked}},
		{"before it was superseded", known, 7, day(9).Add(-time.Second), guard.DecisionUndecided, []guard.Reason{guard.RevocationLapsed}},
		{"a compromised key, before that was known", known, 8, day(5), guard.DecisionRefused, []guard.Reason{guard.Revoked}},
		{"within the grace", known, 6, day(12).Add(time.Hour), guard.DecisionWarned, []guard.Reason{guard.RevocationStale}},
		{"after the grace", known, 6, day(13).Add(time.Hour), guard.DecisionUndecided, []guard.Reason{guard.RevocationLapsed}},
		{"no list", none, 6, day(11), guard.DecisionWarned, []guard.Reason{guard.RevocationUnknown}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, err := guard.New(guard.Config{Roots: []*x509.Certificate{ca}, Revocation: tt.s})
			require.NoError(t, err)
			v := g.Judge(guard.Snapshot{Certificate: card(tt.serial)}, tt.at)
			assert.Equal(t, tt.decision, v.Decision, v)
			var reasons []guard.Reason
			for _, f := range v.Findings {
				reasons = append(reasons, f.Reason)
			}
			assert.Equal(t, tt.want, reasons)
		})
	}

	g, err := guard.New(guard.Config{Roots: []*x509.Certificate{ca}, Revocation: known})
	require.NoError(t, err)
	c := card(6)
	assert.Zero(t, testing.AllocsPerRun(200, func() { g.Judge(guard.Snapshot{Certificate: c}, day(11)) }))
	behind := g.JudgeNow(guard.Snapshot{Certificate: c}, day(10).Add(-time.Second))
	assert.True(t, behind.Has(guard.ClockBehind), "the newest list is of a later instant")
}
