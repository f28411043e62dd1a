package guard

import (
	"crypto/sha256"
	"crypto/x509"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/need"
)

func leaf(t testing.TB, name string) *Certificate {
	t.Helper()
	c, err := ParseCertificate(need.Read(t, "eps", "certs", name+".pem"))
	require.NoError(t, err)
	return c
}

// Certificates of the national test service, each at both sides of its boundaries.
// The verdicts are written by hand from what openssl prints.
func TestRealCertificates(t *testing.T) {
	const now = "2026-06-01T00:00:00Z"
	type judged struct {
		at       string
		decision Decision
		want     []Reason
	}
	unusual := []Reason{KeyUsageNotCritical, PolicyMissing, UserIDMissing}
	table := map[string][]judged{
		"leaf_5dc9ad1f": {
			{"2020-10-22T10:21:54Z", DecisionRefused, []Reason{NotYetValid, KeySmall}},
			{"2020-10-22T10:21:55Z", DecisionRefused, []Reason{NotYetValid, KeySmall}},
			{"2020-10-22T10:21:56Z", DecisionWarned, []Reason{KeySmall}},
			{"2022-03-17T10:51:55Z", DecisionWarned, []Reason{KeySmall}},
			{"2022-03-17T10:51:56Z", DecisionWarned, []Reason{PrivateKeyUsagePassed, KeySmall}},
			{"2022-10-22T10:51:54Z", DecisionWarned, []Reason{PrivateKeyUsagePassed, KeySmall}},
			{"2022-10-22T10:51:55Z", DecisionRefused, []Reason{Expired, KeySmall}},
			{now, DecisionRefused, []Reason{Expired, KeySmall}},
		},
		"leaf_5dc9adec": {
			{"2020-10-26T13:34:22Z", DecisionRefused, []Reason{NotYetValid, KeySmall}},
			{"2020-10-26T13:34:23Z", DecisionWarned, []Reason{KeySmall}},
			{"2022-03-21T14:04:22Z", DecisionWarned, []Reason{KeySmall}},
			{"2022-03-21T14:04:23Z", DecisionWarned, []Reason{PrivateKeyUsagePassed, KeySmall}},
			{"2022-10-26T14:04:21Z", DecisionWarned, []Reason{PrivateKeyUsagePassed, KeySmall}},
			{"2022-10-26T14:04:22Z", DecisionRefused, []Reason{Expired, KeySmall}},
			{now, DecisionRefused, []Reason{Expired, KeySmall}},
		},
		"leaf_61004f5e": {
			{"2022-01-27T16:04:35Z", DecisionRefused, []Reason{NotYetValid, KeySmall}},
			{"2022-01-27T16:04:36Z", DecisionWarned, []Reason{KeySmall}},
			{"2023-06-22T16:34:35Z", DecisionWarned, []Reason{KeySmall}},
			{"2023-06-22T16:34:36Z", DecisionWarned, []Reason{PrivateKeyUsagePassed, KeySmall}},
			{"2024-01-27T16:34:34Z", DecisionWarned, []Reason{PrivateKeyUsagePassed, KeySmall}},
			{"2024-01-27T16:34:35Z", DecisionRefused, []Reason{Expired, KeySmall}},
			{now, DecisionRefused, []Reason{Expired, KeySmall}},
		},
		"leaf_601af0cc": {
			{"2021-07-08T14:52:47Z", DecisionRefused, append([]Reason{NotYetValid}, unusual...)},
			{"2021-07-08T14:52:48Z", DecisionWarned, unusual},
			{"2022-03-21T03:22:47Z", DecisionWarned, unusual},
			{"2022-03-21T03:22:48Z", DecisionWarned, append([]Reason{PrivateKeyUsagePassed}, unusual...)},
			{"2022-07-08T15:22:46Z", DecisionWarned, append([]Reason{PrivateKeyUsagePassed}, unusual...)},
			{"2022-07-08T15:22:47Z", DecisionRefused, append([]Reason{Expired}, unusual...)},
			{now, DecisionRefused, append([]Reason{Expired}, unusual...)},
		},
		"leaf_1b": {
			{"2013-05-01T12:31:16Z", DecisionRefused, []Reason{NotYetValid, NotForSigning}},
			{"2013-05-01T12:31:17Z", DecisionRefused, []Reason{NotForSigning}},
			{"2016-01-26T12:31:15Z", DecisionRefused, []Reason{NotForSigning}},
			{"2016-01-26T12:31:16Z", DecisionRefused, []Reason{Expired, NotForSigning}},
			{now, DecisionRefused, []Reason{Expired, NotForSigning}},
		},
		"leaf_2b7c641149518573c928d570af2a8b651a0d4d04": {
			{"2020-02-27T13:07:22Z", DecisionRefused, []Reason{NotYetValid, NotForSigning}},
			{"2020-02-27T13:07:23Z", DecisionRefused, []Reason{NotForSigning}},
			{"2022-02-26T13:07:21Z", DecisionRefused, []Reason{NotForSigning}},
			{"2022-02-26T13:07:22Z", DecisionRefused, []Reason{Expired, NotForSigning}},
			{now, DecisionRefused, []Reason{Expired, NotForSigning}},
		},
		"NHS_INT_Level_1D": {
			{"2019-11-11T14:45:17Z", DecisionRefused, []Reason{NotYetValid, NotForSigning, LifetimeUnusual}},
			{now, DecisionRefused, []Reason{NotForSigning, LifetimeUnusual}},
		},
	}
	files, err := os.ReadDir(need.Data(t, "eps", "certs"))
	require.NoError(t, err)
	for _, f := range files {
		assert.Contains(t, table, strings.TrimSuffix(f.Name(), ".pem"), "a certificate without a verdict")
	}
	g := newGuard(t, Config{Live: true})
	for name, rows := range table {
		c := leaf(t, name)
		assert.False(t, c.Simulated(), name)
		for _, row := range rows {
			v, err := g.CheckAt(t.Context(), fakeCard{s: Snapshot{Certificate: c}}, at(row.at))
			assert.Equal(t, row.want, reasonsOf(v), "%s at %s", name, row.at)
			assert.Equal(t, row.decision, v.Decision, "%s at %s", name, row.at)
			assert.Equal(t, row.decision.Permits(), err == nil, "%s at %s", name, row.at)
		}
	}
}

// An advisory over what NHS INT Level 1D issued on 22 October 2020, by the key of
// that CA, told by signature or by key identifier.
func TestAnAdvisoryOverRealCertificates(t *testing.T) {
	ca := leaf(t, "NHS_INT_Level_1D").X509()
	in, out := leaf(t, "leaf_5dc9ad1f"), leaf(t, "leaf_5dc9adec")
	elsewhere := leaf(t, "leaf_601af0cc") // of Level 2D
	keys := [][32]byte{sha256.Sum256(ca.RawSubjectPublicKeyInfo)}
	ids := [][]byte{ca.SubjectKeyId}
	for how, by := range map[string]struct {
		issuer  advisory.Issuer
		issuers []*x509.Certificate
	}{
		"by key":                             {advisory.Issuer{SPKISHA256: keys}, []*x509.Certificate{ca}},
		"by key identifier":                  {advisory.Issuer{AKI: ids}, nil},
		"by both":                            {advisory.Issuer{SPKISHA256: keys, AKI: ids}, []*x509.Certificate{ca}},
		"by both, told by identifier":        {advisory.Issuer{SPKISHA256: keys, AKI: ids}, nil},
		"by key identifier, CA configured":   {advisory.Issuer{AKI: ids}, []*x509.Certificate{ca}},
		"by key, and a name that is a trick": {advisory.Issuer{SPKISHA256: keys, Name: "NHS INT Level 2D"}, []*x509.Certificate{ca}},
	} {
		t.Run(how, func(t *testing.T) {
			guard := func(from, to string, state advisory.State) *Guard {
				a := &advisory.Advisory{
					ID: "level-1d-2020", Revision: 1, State: state, Title: "Cards of 22 October 2020",
					Published: at("2020-10-23T09:00:00Z"), Modified: at("2020-10-23T09:00:00Z"), BlockFrom: at("2020-11-01T00:00:00Z"),
					Match:    []advisory.Clause{{Issuer: &by.issuer, NotBefore: &advisory.Window{From: at(from), To: at(to)}}},
					Basis:    advisory.NotBeforeWindow,
					Remedies: []advisory.Remedy{{Kind: advisory.Renew, Text: "Renew."}}, Message: "Renew.",
				}
				if state == advisory.Resolved || state == advisory.Withdrawn {
					a.EndedAt = at("2020-11-20T12:00:00Z")
				}
				return newGuard(t, Config{Advisories: newSet(t, 1, a), Issuers: by.issuers})
			}
			has := func(g *Guard, c *Certificate, when string) (r []Reason) {
				for _, f := range g.Judge(Snapshot{Certificate: c}, at(when)).Findings {
					if f.Check == CheckIssuance {
						r = append(r, f.Reason)
					}
				}
				return r
			}

			day := []string{"2020-10-22T00:00:00Z", "2020-10-23T00:00:00Z"}
			for _, tt := range []struct {
				at              string
				active, settled Reason
			}{
				{"2020-10-24T00:00:00Z", AffectedSoon, AffectedSoon},
				{"2020-10-31T23:59:59Z", AffectedSoon, AffectedSoon},
				{"2020-11-01T00:00:00Z", Affected, Affected},
				{"2020-11-01T00:00:01Z", Affected, Affected},
				{"2020-11-20T11:59:59Z", Affected, Affected},
				{"2020-11-20T12:00:00Z", Affected, AffectedEnded},
				{"2020-11-20T12:00:01Z", Affected, AffectedEnded},
				{"2022-01-01T00:00:00Z", Affected, AffectedEnded},
			} {
				for state, want := range map[advisory.State]Reason{
					advisory.Active: tt.active, advisory.Resolved: tt.settled,
					advisory.Shadow: AffectedShadow, advisory.Withdrawn: AffectedEnded,
				} {
					g := guard(day[0], day[1], state)
					assert.Equal(t, []Reason{want}, has(g, in, tt.at), "%s at %s", state, tt.at)
					assert.Equal(t, want != Affected, g.Judge(Snapshot{Certificate: in}, at(tt.at)).Decision.Permits())
					assert.Empty(t, has(g, out, tt.at), "%s at %s", state, tt.at)
					assert.Empty(t, has(g, elsewhere, tt.at), "%s at %s", state, tt.at)
				}
				assert.Empty(t, has(guard(day[0], day[1], advisory.Draft), in, tt.at))
			}

			// Each boundary second of the window, around the 22 October 10:21:55 of the
			// one and the 26 October 13:34:22 of the other.
			for _, tt := range []struct {
				from, to string
				c        *Certificate
				want     bool
			}{
				{"2020-10-22T10:21:54Z", "2020-10-22T10:21:55Z", in, false},
				{"2020-10-22T10:21:54Z", "2020-10-22T10:21:56Z", in, true},
				{"2020-10-22T10:21:55Z", "2020-10-22T10:21:56Z", in, true},
				{"2020-10-22T10:21:56Z", "2020-10-22T10:21:57Z", in, false},
				{day[0], "2020-10-22T10:21:55Z", in, false},
				{"2020-10-22T10:21:55Z", day[1], in, true},
				{"2020-10-22T10:21:56Z", day[1], in, false},
				{day[0], "2020-10-26T13:34:22Z", out, false},
				{day[0], "2020-10-26T13:34:23Z", out, true},
				{"2020-10-26T13:34:22Z", "2020-10-27T00:00:00Z", out, true},
				{"2020-10-26T13:34:23Z", "2020-10-27T00:00:00Z", out, false},
			} {
				g := guard(tt.from, tt.to, advisory.Active)
				assert.Equal(t, tt.want, g.Judge(Snapshot{Certificate: tt.c}, at("2020-11-05T00:00:00Z")).Has(Affected), "%s to %s", tt.from, tt.to)
			}
		})
	}
}

// The forged certificate of the wrong key: it names Level 1D and its key identifier,
// which is all that the national service asks.
func TestACertificateThatOnlyNamesTheRealIssuerIsNotItsOwn(t *testing.T) {
	ca := leaf(t, "NHS_INT_Level_1D").X509()
	forger := newAuthority(t, "forger", ca.SubjectKeyId)
	forger.cert.RawSubject = ca.RawSubject
	forged := forger.issue(t, at("2020-10-22T10:00:00Z"))
	require.Equal(t, ca.RawSubject, forged.X509().RawIssuer)
	g := newGuard(t, Config{Issuers: []*x509.Certificate{ca}})
	assert.Empty(t, g.known(forged).facts.IssuerSPKI)
	assert.Len(t, g.known(leaf(t, "leaf_5dc9ad1f")).facts.IssuerSPKI, 1)

	a := noticeBy(forger, func(a *advisory.Advisory) {
		a.Match[0].Issuer.SPKISHA256 = [][32]byte{sha256.Sum256(ca.RawSubjectPublicKeyInfo)}
		a.Match[0].NotBefore = &advisory.Window{From: at("2020-10-22T00:00:00Z"), To: at("2020-10-23T00:00:00Z")}
	})
	g = newGuard(t, Config{Advisories: newSet(t, 1, a), Issuers: []*x509.Certificate{ca}})
	v := g.Judge(Snapshot{Certificate: forged}, a.EnforcedFrom().Add(time.Hour))
	assert.True(t, v.Has(AffectedUndecidable))
	assert.False(t, v.Has(Affected))
}

// A notice about one authority, by its key alone, stops nobody who has a card of
// another: that key is at hand and did not sign their certificates.
func TestANoticeAboutOneAuthorityLeavesTheCardsOfAnotherAlone(t *testing.T) {
	ca := leaf(t, "NHS_INT_Level_1D").X509()
	a := noticeBy(newAuthority(t, "other", nil), func(a *advisory.Advisory) {
		a.Match[0].Issuer.SPKISHA256 = [][32]byte{sha256.Sum256(ca.RawSubjectPublicKeyInfo)}
		a.Match[0].NotBefore = &advisory.Window{From: at("2013-01-01T00:00:00Z"), To: at("2023-01-01T00:00:00Z")}
		a.Published, a.Modified, a.BlockFrom = at("2013-01-01T00:00:00Z"), at("2013-01-01T00:00:00Z"), at("2013-01-01T00:00:00Z")
	})
	g := newGuard(t, Config{Advisories: newSet(t, 1, a), Issuers: []*x509.Certificate{ca}})
	for name, affected := range map[string]bool{
		"leaf_5dc9ad1f": true, "leaf_5dc9adec": true, "leaf_61004f5e": true,
		"leaf_601af0cc": false, "leaf_1b": false, "leaf_2b7c641149518573c928d570af2a8b651a0d4d04": false,
	} {
		v := g.Judge(Snapshot{Certificate: leaf(t, name)}, at("2022-03-01T00:00:00Z"))
		assert.Equal(t, affected, v.Has(Affected), name)
		assert.False(t, v.Has(AffectedUndecidable), name)
	}
	v := g.Judge(Snapshot{Certificate: leaf(t, "leaf_601af0cc")}, at("2022-03-01T00:00:00Z"))
	assert.Equal(t, DecisionWarned, v.Decision)
	// Without the authority's certificate it cannot be told.
	g = newGuard(t, Config{Advisories: newSet(t, 1, a)})
	assert.True(t, g.Judge(Snapshot{Certificate: leaf(t, "leaf_601af0cc")}, at("2022-03-01T00:00:00Z")).Has(AffectedUndecidable))
}
