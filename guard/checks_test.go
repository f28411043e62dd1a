package guard

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strings"
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

// Certificates that no CA should issue, each under a CA that did: an error that says
// what is wrong, or a verdict that does. None is allowed.
func TestBadCertificates(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	good := ca.issueDER(t, issuedThen)
	der := func(v any) []byte {
		b, err := asn1.Marshal(v)
		require.NoError(t, err)
		return b
	}
	with := func(n int, value []byte) []byte { return ca.rewrite(t, good, field(n, value)) }
	serial := func(content ...byte) []byte {
		return with(tbsSerial, append([]byte{2, byte(len(content))}, content...))
	}
	validity := func(tag byte, from, to string) []byte {
		one := func(s string) []byte { return append([]byte{tag, byte(len(s))}, s...) }
		return with(tbsValidity, der([]asn1.RawValue{{FullBytes: one(from)}, {FullBytes: one(to)}}))
	}
	const utc, generalized = 0x17, 0x18
	rsaKey := func(n *big.Int, e int64) []byte {
		algorithm := der(pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue})
		key := der([]*big.Int{n, big.NewInt(e)})
		return with(tbsKey, der([]asn1.RawValue{{FullBytes: algorithm}, {FullBytes: der(asn1.BitString{Bytes: key, BitLength: 8 * len(key)})}}))
	}
	key := func(algorithm asn1.ObjectIdentifier, parameters asn1.RawValue, point []byte) []byte {
		a := der(pkix.AlgorithmIdentifier{Algorithm: algorithm, Parameters: parameters})
		return with(tbsKey, der([]asn1.RawValue{{FullBytes: a}, {FullBytes: der(asn1.BitString{Bytes: point, BitLength: 8 * len(point)})}}))
	}
	ec, ed25519 := asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, asn1.ObjectIdentifier{1, 3, 101, 112}
	p256 := asn1.RawValue{FullBytes: der(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})}
	brainpool := asn1.RawValue{FullBytes: der(asn1.ObjectIdentifier{1, 3, 36, 3, 3, 2, 8, 1, 1, 7})}
	offCurve := append([]byte{4}, bytes.Repeat([]byte{1}, 64)...)
	n := cardKey().N
	even := new(big.Int).Sub(n, big.NewInt(1))
	square := new(big.Int).Mul(cardKey().Primes[0], cardKey().Primes[0])
	bits := func(n int) *big.Int { return new(big.Int).SetBit(big.NewInt(1), n-1, 1) }

	for _, tt := range []struct {
		name string
		der  []byte
		err  string   // of ParseCertificate; "": it is one
		want []Reason // else
		is   string
	}{
		{"as it should be", ca.rewrite(t, good, field(tbsSerial, []byte{2, 1, 1})), "", []Reason{}, ""},

		{"no serial number", ca.rewrite(t, good, func(f []asn1.RawValue) []asn1.RawValue { return slices.Delete(f, tbsSerial, tbsSerial+1) }),
			"guard: not a certificate: x509: malformed serial number", nil, ""},
		{"serial number null", with(tbsSerial, []byte{5, 0}), "x509: malformed serial number", nil, ""},
		{"serial number of no octets", with(tbsSerial, []byte{2, 0}), "x509: malformed serial number", nil, ""},
		{"serial number not in its shortest form", serial(0, 1), "x509: malformed serial number", nil, ""},
		{"serial number 0", serial(0), "", []Reason{SerialUnusual}, "serial 0,"},
		{"serial number -1", serial(0xff), "x509: negative serial number", nil, ""},
		{"serial number of 20 octets", serial(append([]byte{0x7f}, make([]byte, 19)...)...), "", []Reason{}, ""},
		{"serial number of 20 octets, the sign in one more", serial(append([]byte{0, 0xff}, make([]byte, 19)...)...), "", []Reason{}, ""},
		{"serial number of 21 octets", serial(append([]byte{1}, make([]byte, 20)...)...), "", []Reason{SerialUnusual}, "serial 10000000"},
		{"serial number of 100 octets", serial(append([]byte{1}, make([]byte, 99)...)...), "", []Reason{SerialUnusual}, "serial 10000000"},

		{"notAfter before notBefore", validity(utc, "270201120000Z", "260201120000Z"), "", []Reason{DatesImpossible}, "notBefore 2027-02-01 12:00:00 UTC, notAfter 2026-02-01 12:00:00 UTC"},
		{"notAfter is notBefore", validity(utc, "260401120000Z", "260401120000Z"), "", []Reason{DatesImpossible}, ""},
		{"until the year 9999", validity(generalized, "20260201120000Z", "99991231235959Z"), "", []Reason{LifetimeUnusual}, "notAfter 9999-12-31 23:59:59 UTC"},
		{"from the year 1950", validity(utc, "500101000000Z", "280101000000Z"), "", []Reason{LifetimeUnusual}, "notBefore 1950-01-01 00:00:00 UTC"},
		{"until the year 1950", validity(utc, "500101000000Z", "510101000000Z"), "", []Reason{Expired}, ""},
		{"from the year 9999", validity(generalized, "99980101000000Z", "99991231235959Z"), "", []Reason{NotYetValid}, ""},
		{"from the year 0", validity(generalized, "00000101000000Z", "99991231235959Z"), "", []Reason{LifetimeUnusual}, ""},
		{"from the year 1", validity(generalized, "00010101000000Z", "00010101000000Z"), "", []Reason{DatesImpossible}, ""},
		{"on 30 February", validity(utc, "260230000000Z", "280101000000Z"), "x509: malformed UTCTime", nil, ""},
		{"dates of another kind", with(tbsValidity, der([]string{"2026", "2028"})), "x509: unsupported time format", nil, ""},

		{"a critical extension that nobody knows", ca.issueDER(t, issuedThen, extension(asn1.ObjectIdentifier{1, 2, 3}, true, []byte{5, 0})), "", []Reason{CriticalExtension}, "critical extension 1.2.3; "},
		{"two critical extensions that nobody knows", ca.issueDER(t, issuedThen, extension(asn1.ObjectIdentifier{1, 2, 3}, true, nil), extension(asn1.ObjectIdentifier{1, 2, 4}, true, nil)),
			"", []Reason{CriticalExtension}, "critical extension 1.2.3, 1.2.4; "},
		{"an extension twice", ca.issueDER(t, issuedThen, extension(asn1.ObjectIdentifier{1, 2, 3}, false, nil), extension(asn1.ObjectIdentifier{1, 2, 3}, false, nil)),
			`x509: certificate contains duplicate extension with OID "1.2.3"`, nil, ""},
		{"key usage that is no bit string", ca.issueDER(t, issuedThen, extension(oidKeyUsage, true, []byte{5, 0})), "x509: invalid key usage", nil, ""},

		{"a key that is null", with(tbsKey, []byte{5, 0}), "x509: malformed spki", nil, ""},
		{"a key without bits", key(ec, p256, nil), "ecdsa: invalid uncompressed public key", nil, ""},
		{"a key of a kind that nobody knows", key(asn1.ObjectIdentifier{1, 2, 3}, asn1.NullRawValue, []byte{1}), "", []Reason{KeyNotJudged}, ""},
		{"an RSA key that is no sequence", key(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, asn1.NullRawValue, []byte{5, 0}), "x509: invalid RSA public key", nil, ""},
		{"an RSA key without parameters", key(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, asn1.RawValue{}, der([]*big.Int{n, big.NewInt(65537)})), "x509: RSA key missing NULL parameters", nil, ""},
		{"RSA, an even modulus", rsaKey(even, 65537), "", []Reason{WeakKey}, "modulus"},
		{"RSA, modulus 0", rsaKey(big.NewInt(0), 65537), "x509: RSA modulus is not a positive number", nil, ""},
		{"RSA, a negative modulus", rsaKey(new(big.Int).Neg(n), 65537), "x509: RSA modulus is not a positive number", nil, ""},
		{"RSA, modulus 1", rsaKey(big.NewInt(1), 65537), "", []Reason{WeakKey, KeyTooSmall}, ""},
		{"RSA, modulus of 8 bits", rsaKey(big.NewInt(0xe3), 65537), "", []Reason{WeakKey, KeyTooSmall}, ""},
		{"RSA, modulus a square", rsaKey(square, 65537), "", []Reason{WeakKey}, ""},
		{"RSA, modulus a power of two and one", rsaKey(bits(2048), 65537), "", []Reason{WeakKey}, ""},
		{"RSA, modulus of 40000 bits", rsaKey(bits(40000), 65537), "", []Reason{KeyNotJudged}, ""},
		{"RSA, exponent 1", rsaKey(n, 1), "", []Reason{WeakKey}, "exponent"},
		{"RSA, exponent 2", rsaKey(n, 2), "", []Reason{WeakKey}, "exponent"},
		{"RSA, an even exponent", rsaKey(n, 65536), "", []Reason{WeakKey}, "exponent"},
		{"RSA, exponent 0", rsaKey(n, 0), "x509: RSA public exponent is not a positive number", nil, ""},
		{"RSA, a negative exponent", rsaKey(n, -3), "x509: RSA public exponent is not a positive number", nil, ""},
		{"RSA, a huge exponent", rsaKey(n, 1<<62+1), "", []Reason{WeakKey}, "exponent"},
		{"a point that is off the curve", key(ec, p256, offCurve), "P256 point not on curve", nil, ""},
		{"a point at infinity", key(ec, p256, []byte{0}), "ecdsa: invalid uncompressed public key", nil, ""},
		{"a curve that nobody knows", key(ec, brainpool, offCurve), "x509: unsupported elliptic curve", nil, ""},
		{"Ed25519, too short", key(ed25519, asn1.RawValue{}, []byte{1}), "x509: wrong Ed25519 public key size", nil, ""},
		{"Ed25519", key(ed25519, asn1.RawValue{}, bytes.Repeat([]byte{1}, 32)), "", []Reason{KeyNotJudged}, ""},

		{"cut off", good[:len(good)-1], "guard: not a certificate: x509: malformed certificate", nil, ""},
		{"cut off in the middle", good[:len(good)/2], "guard: not a certificate: x509: malformed certificate", nil, ""},
		{"cut off after the first byte", good[:1], "guard: not a certificate: x509: malformed certificate", nil, ""},
		{"trailing bytes", append(slices.Clone(good), 0), "x509: trailing data", nil, ""},
		{"an empty issuer", with(tbsIssuer, []byte{0x30, 0}), "", []Reason{SerialUnusual}, "issuer none, serial 5dc9ad00,"},
		{"an issuer that is null", with(tbsIssuer, []byte{5, 0}), "x509: malformed issuer", nil, ""},
		{"an empty subject", with(tbsSubject, []byte{0x30, 0}), "", []Reason{UserIDMissing}, ""},
		{"version 1", ca.rewrite(t, good, func(f []asn1.RawValue) []asn1.RawValue { return f[tbsSerial:tbsExtensions] }), "", []Reason{NotForSigning}, ""},
		{"version 1 with extensions", ca.rewrite(t, good, func(f []asn1.RawValue) []asn1.RawValue { return f[tbsSerial:] }), "", []Reason{NotForSigning}, ""},
	} {
		noChain := map[string]bool{"until the year 1950": true, "from the year 9999": true, "from the year 1": true, "an empty issuer": true}
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseCertificate(tt.der)
			if tt.want == nil {
				require.ErrorContains(t, err, tt.err)
				assert.True(t, strings.HasPrefix(err.Error(), "guard: "), err)
				return
			}
			require.NoError(t, err)
			for _, config := range []Config{{Roots: certs(ca)}, {Issuers: certs(ca)}, {}, {Roots: certs(ca), Revocation: &lists{}}} {
				g := newGuard(t, config)
				for range 2 {
					v := g.Judge(Snapshot{Certificate: c}, judgedThen)
					want := slices.Clone(tt.want)
					if len(config.Roots) > 0 && noChain[tt.name] {
						want = append(want, ChainInvalid)
					}
					require.ElementsMatch(t, want, reasonsOf(v), v)
					require.Equal(t, len(tt.want) == 0, v.Decision == DecisionAllowed)
					if len(tt.want) > 0 {
						assert.Contains(t, v.Findings[0].Is, tt.is)
					}
					_, err := json.Marshal(v)
					require.NoError(t, err)
				}
			}
		})
	}
}

// Every prefix of a certificate is an error, and so is none.
func TestEveryCutOffCertificateIsAnError(t *testing.T) {
	good := newAuthority(t, "CA", []byte{1}).issueDER(t, issuedThen)
	for n := range good {
		_, err := ParseCertificate(good[:n])
		require.ErrorContains(t, err, "guard: not a certificate: ", n)
	}
}
