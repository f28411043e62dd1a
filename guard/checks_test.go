package guard

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestValidityIsStrictAtBothEnds(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	from, to := at("2026-02-01T12:00:00Z"), at("2028-02-01T12:00:00Z")
	plain := ca.issue(t, from)
	usage := ca.issue(t, from, privateKeyUsage("20270625000000Z"))
	ended := at("2027-06-25T00:00:00Z")
	g := newGuard(t, Config{})
	for _, tt := range []struct {
		name string
		c    *Certificate
		at   time.Time
		want []Reason
		is   string
	}{
		{"a second before notBefore", plain, from.Add(-time.Second), []Reason{NotYetValid}, "notBefore 2026-02-01 12:00:00 UTC, judged at 2026-02-01 11:59:59 UTC"},
		{"at notBefore", plain, from, []Reason{NotYetValid}, "notBefore 2026-02-01 12:00:00 UTC, judged at 2026-02-01 12:00:00 UTC"},
		{"a nanosecond after notBefore", plain, from.Add(1), nil, ""},
		{"a second after notBefore", plain, from.Add(time.Second), nil, ""},
		{"a second before notAfter", plain, to.Add(-time.Second), nil, ""},
		{"a nanosecond before notAfter", plain, to.Add(-1), nil, ""},
		{"at notAfter", plain, to, []Reason{Expired}, "notAfter 2028-02-01 12:00:00 UTC, judged at 2028-02-01 12:00:00 UTC"},
		{"a second after notAfter", plain, to.Add(time.Second), []Reason{Expired}, "notAfter 2028-02-01 12:00:00 UTC, judged at 2028-02-01 12:00:01 UTC"},
		{"no instant", plain, time.Time{}, []Reason{NotYetValid}, "notBefore 2026-02-01 12:00:00 UTC, judged at 0001-01-01 00:00:00 UTC"},
		{"in another time zone, a second before notAfter", plain, to.Add(-time.Second).In(time.FixedZone("BST", 3600)), nil, ""},
		{"in another time zone, at notAfter", plain, to.In(time.FixedZone("", -5*3600)), []Reason{Expired}, "notAfter 2028-02-01 12:00:00 UTC, judged at 2028-02-01 12:00:00 UTC"},
		{"a second before the end of the private key usage period", usage, ended.Add(-time.Second), nil, ""},
		{"at the end of the private key usage period", usage, ended, nil, ""},
		{"a second after the end of the private key usage period", usage, ended.Add(time.Second), []Reason{PrivateKeyUsagePassed}, "private key usage period ended 2027-06-25 00:00:00 UTC"},
		{"expired outweighs the private key usage period", usage, to, []Reason{Expired}, "notAfter 2028-02-01 12:00:00 UTC, judged at 2028-02-01 12:00:00 UTC"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := g.Judge(Snapshot{Certificate: tt.c}, tt.at)
			require.ElementsMatch(t, tt.want, reasonsOf(v))
			if len(tt.want) > 0 {
				assert.Equal(t, tt.is, v.Findings[0].Is)
				assert.Equal(t, CheckValidity, v.Findings[0].Check)
			}
			assert.Equal(t, time.UTC, v.At.Location())
		})
	}
	v := g.Judge(Snapshot{Certificate: usage}, ended.Add(time.Second))
	assert.Equal(t, DecisionWarned, v.Decision, "a warning, never a refusal")
	assert.Equal(t, to, v.Findings[0].By)
}

func TestProfileOfASigningCertificate(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	issued := at("2026-02-01T12:00:00Z")
	usage := func(critical bool, bits ...byte) func(*x509.Certificate) {
		return extension(oidKeyUsage, critical, append([]byte{3, byte(1 + len(bits))}, append([]byte{0}, bits...)...))
	}
	policies := func(oids ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.Policies = nil
			for _, s := range oids {
				oid, err := x509.ParseOID(s)
				require.NoError(t, err)
				c.Policies = append(c.Policies, oid)
			}
		}
	}
	name := func(cn string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: cn} }
	}
	for _, tt := range []struct {
		name    string
		changes []func(*x509.Certificate)
		want    []Reason
		is      string
	}{
		{"as it should be", nil, nil, ""},
		{"key usage absent", []func(*x509.Certificate){func(c *x509.Certificate) { c.KeyUsage = 0 }}, []Reason{NotForSigning}, "key usage none; issuer CN=CA,O=test, serial 5dc9ad00, issued 2026-02-01 12:00:00 UTC"},
		{"key usage empty", []func(*x509.Certificate){usage(true, 0)}, []Reason{NotForSigning}, "key usage none; issuer CN=CA,O=test, serial 5dc9ad00, issued 2026-02-01 12:00:00 UTC"},
		{"for logging in", []func(*x509.Certificate){usage(true, 0xa0)}, []Reason{NotForSigning}, "key usage digitalSignature, keyEncipherment; issuer CN=CA,O=test, serial 5dc9ad00, issued 2026-02-01 12:00:00 UTC"},
		{"of a CA", []func(*x509.Certificate){usage(false, 0x06)}, []Reason{NotForSigning}, "key usage keyCertSign, cRLSign; issuer CN=CA,O=test, serial 5dc9ad00, issued 2026-02-01 12:00:00 UTC"},
		{"not for signing is all that is said", []func(*x509.Certificate){usage(false, 0x80), policies(), name("x")}, []Reason{NotForSigning}, "key usage digitalSignature; issuer CN=CA,O=test, serial 5dc9ad00, issued 2026-02-01 12:00:00 UTC"},
		{"key usage not critical", []func(*x509.Certificate){usage(false, 0x40)}, []Reason{KeyUsageNotCritical}, ""},
		{"digitalSignature too", []func(*x509.Certificate){usage(true, 0xc0)}, []Reason{KeyUsageExtra}, "key usage digitalSignature, contentCommitment"},
		{"every usage", []func(*x509.Certificate){usage(true, 0xff, 0x80)}, []Reason{KeyUsageExtra}, "key usage digitalSignature, contentCommitment, keyEncipherment, dataEncipherment, keyAgreement, keyCertSign, cRLSign, encipherOnly, decipherOnly"},
		{"an extended key usage", []func(*x509.Certificate){func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }}, []Reason{ExtendedKeyUsage}, "extended key usage clientAuth"},
		{"an extended key usage that nobody knows", []func(*x509.Certificate){func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} }}, []Reason{ExtendedKeyUsage}, "extended key usage 1.2.3"},
		{"no policy", []func(*x509.Certificate){policies()}, []Reason{PolicyMissing}, "certificate policies none"},
		{"another policy", []func(*x509.Certificate){policies("1.2.826.0.1275.102.0.3.2.1", "1.2.3")}, []Reason{PolicyMissing}, "certificate policies 1.2.826.0.1275.102.0.3.2.1, 1.2.3"},
		{"another policy too", []func(*x509.Certificate){policies("1.2.3", SigningPolicy)}, nil, ""},
		{"no common name", []func(*x509.Certificate){name("")}, []Reason{UserIDMissing}, "subject "},
		{"a name alone", []func(*x509.Certificate){name("Test_Card")}, []Reason{UserIDMissing}, "subject CN=Test_Card"},
		{"eleven digits", []func(*x509.Certificate){name("12345678901_Test")}, []Reason{UserIDMissing}, "subject CN=12345678901_Test"},
		{"twelve digits", []func(*x509.Certificate){name("123456789012_Test")}, nil, ""},
		{"thirteen digits", []func(*x509.Certificate){name("1234567890123_Test")}, []Reason{UserIDMissing}, "subject CN=1234567890123_Test"},
		{"a letter among the digits", []func(*x509.Certificate){name("12345678901x_Test")}, []Reason{UserIDMissing}, "subject CN=12345678901x_Test"},
		{"digits of another script", []func(*x509.Certificate){name("١٢٣٤٥٦_Test")}, []Reason{UserIDMissing}, "subject CN=١٢٣٤٥٦_Test"},
		{"digits without a name", []func(*x509.Certificate){name("123456789012")}, []Reason{UserIDMissing}, "subject CN=123456789012"},
		{"everything unusual", []func(*x509.Certificate){usage(false, 0xc0), policies(), name("x"), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }},
			[]Reason{KeyUsageNotCritical, KeyUsageExtra, ExtendedKeyUsage, PolicyMissing, UserIDMissing}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newGuard(t, Config{}).Judge(Snapshot{Certificate: ca.issue(t, issued, tt.changes...)}, issued.AddDate(0, 1, 0))
			require.ElementsMatch(t, tt.want, reasonsOf(v), v)
			if len(tt.want) == 0 {
				assert.Equal(t, DecisionAllowed, v.Decision)
				return
			}
			assert.Equal(t, tt.is, v.Findings[0].Is)
			for _, f := range v.Findings {
				assert.Equal(t, CheckProfile, f.Check)
			}
		})
	}
}

func TestHoldRefusesInEveryState(t *testing.T) {
	good, when := testCard(t), at("2020-11-01T00:00:00Z")
	since := at("2020-10-31T10:00:00Z")
	for _, tt := range []struct {
		name     string
		hold     Hold
		want     Reason
		decision Decision
		is       string
	}{
		{"a renewal is not finished", Hold{State: HoldRenewal, Since: since}, OnHoldRenewal, DecisionRefused, "on hold since 2020-10-31 10:00:00 UTC"},
		{"to be re-seated", Hold{State: HoldReseat, Since: since}, OnHold, DecisionRefused, "on hold since 2020-10-31 10:00:00 UTC"},
		{"re-seated with another certificate", Hold{State: HoldReseat, Since: since, Err: errors.New("another certificate")}, OnHold, DecisionRefused, "on hold since 2020-10-31 10:00:00 UTC; another certificate"},
		{"the passcode is missing", Hold{State: HoldLogin}, OnHoldLogin, DecisionRefused, ""},
		{"not read", Hold{State: HoldUnread, Err: errors.New("no such folder")}, HoldUnknown, DecisionUndecided, "no such folder"},
		{"a state of the future", Hold{State: HoldUnread + 1}, HoldUnknown, DecisionUndecided, ""},
		{"a negative state", Hold{State: -1}, HoldUnknown, DecisionUndecided, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newGuard(t, Config{}).Judge(Snapshot{Certificate: good, Hold: tt.hold}, when)
			require.Equal(t, tt.want, v.Findings[0].Reason)
			assert.Equal(t, tt.decision, v.Decision)
			assert.Equal(t, tt.is, v.Findings[0].Is)
			assert.Equal(t, CheckHold, v.Findings[0].Check)
		})
	}
	v := newGuard(t, Config{}).Judge(Snapshot{Certificate: good, Hold: Hold{State: NotHeld}}, when)
	assert.Equal(t, DecisionAllowed, v.Decision)
	v = newGuard(t, Config{}).Judge(Snapshot{Err: ErrNoCard, Hold: Hold{State: HoldReseat}}, when)
	assert.Equal(t, []Reason{OnHold, CardAbsent}, reasonsOf(v), "a card on hold stays so while it is out")
}

func TestALiveGuardRefusesTheSimulation(t *testing.T) {
	real := newAuthority(t, "CA", []byte{1}).issue(t, at("2020-09-29T09:00:00Z"))
	marked := testCard(t)
	require.True(t, marked.Simulated())
	require.False(t, real.Simulated())
	issuerMarked := newAuthority(t, "CA", []byte{1})
	issuerMarked.cert.RawSubject, issuerMarked.cert.Subject = nil, pkix.Name{Organization: []string{SimulatedOrganization}}
	byMarked := issuerMarked.issue(t, at("2020-09-29T09:00:00Z"))
	for _, tt := range []struct {
		name string
		s    Snapshot
		want []Reason // of a live Guard
	}{
		{"a real card", Snapshot{Certificate: real}, []Reason{}},
		{"the simulated card", Snapshot{Certificate: real, Simulated: true}, []Reason{SimulatedCard}},
		{"a subject that is marked", Snapshot{Certificate: marked}, []Reason{SimulatedCard}},
		{"an issuer that is marked", Snapshot{Certificate: byMarked}, []Reason{SimulatedCard}},
		{"the simulated card, empty", Snapshot{Simulated: true}, []Reason{SimulatedCard, NoSigningCertificate}},
		{"the simulated card, damaged", Snapshot{Simulated: true, Certificate: &Certificate{}}, []Reason{SimulatedCard, CertificateDamaged}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			when := at("2020-10-20T00:00:00Z")
			live, other := newGuard(t, Config{Live: true}), newGuard(t, Config{})
			// The card of September falls under the built-in notice, which has ended.
			ended := func(rs []Reason) []Reason {
				if tt.s.Certificate.readable() {
					return append(rs, AffectedEnded)
				}
				return rs
			}
			assert.True(t, live.Live())
			assert.False(t, other.Live())
			v := live.Judge(tt.s, when)
			assert.Equal(t, ended(tt.want), reasonsOf(v))
			assert.Equal(t, len(tt.want) == 0, v.Decision.Permits())
			assert.NotContains(t, reasonsOf(other.Judge(tt.s, when)), SimulatedCard)
		})
	}
}
