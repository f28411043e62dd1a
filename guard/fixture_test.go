package guard

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/advisory"
)

// at reads an RFC 3339 instant.
func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

// fakeCard answers what it is told to.
type fakeCard struct {
	s   Snapshot
	err error
}

func (c fakeCard) Snapshot(context.Context) (Snapshot, error) { return c.s, c.err }

// cardKey is the RSA key of all synthetic cards: making one takes a while.
var cardKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// issuedThen is when the cards of most tests were issued, judgedThen when they are
// judged.
var (
	issuedThen = at("2026-02-01T12:00:00Z")
	judgedThen = at("2026-04-01T12:00:00Z")
)

// certs are the certificates of CAs, as Config takes them.
func certs(as ...authority) (all []*x509.Certificate) {
	for _, a := range as {
		all = append(all, a.cert)
	}
	return all
}

// authority is a synthetic issuing CA.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(t testing.TB, name string, keyID []byte) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"test"}, CommonName: name},
		NotBefore: at("2019-01-01T00:00:00Z"), NotAfter: at("2040-01-01T00:00:00Z"),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: keyID,
	}, &x509.Certificate{Subject: pkix.Name{Organization: []string{"test"}, CommonName: name}, SubjectKeyId: keyID}, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return authority{cert, key}
}

// below makes a CA under this one.
func (a authority) below(t testing.TB, name string, changes ...func(*x509.Certificate)) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	id := sha256.Sum256(elliptic.MarshalCompressed(elliptic.P256(), key.X, key.Y))
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{Organization: []string{"test"}, CommonName: name},
		NotBefore: at("2019-01-01T00:00:00Z"), NotAfter: at("2040-01-01T00:00:00Z"),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: id[:20],
	}
	for _, change := range changes {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return authority{cert, key}
}

func (a authority) spki() [32]byte { return sha256.Sum256(a.cert.RawSubjectPublicKeyInfo) }

// issue makes a certificate with the profile of a signing card, valid for two
// years from notBefore, after each change.
func (a authority) issue(t testing.TB, notBefore time.Time, changes ...func(*x509.Certificate)) *Certificate {
	t.Helper()
	c, err := ParseCertificate(a.issueDER(t, notBefore, changes...))
	require.NoError(t, err)
	return c
}

func (a authority) issueDER(t testing.TB, notBefore time.Time, changes ...func(*x509.Certificate)) []byte {
	t.Helper()
	policy, err := x509.ParseOID(SigningPolicy)
	require.NoError(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(0x5dc9ad00),
		Subject:      pkix.Name{Organization: []string{"test"}, OrganizationalUnit: []string{"People"}, CommonName: "123456789012_Test_Card"},
		NotBefore:    notBefore, NotAfter: notBefore.AddDate(2, 0, 0),
		KeyUsage: x509.KeyUsageContentCommitment, Policies: []x509.OID{policy},
		PublicKey: cardKey().Public(),
	}
	for _, change := range changes {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, c.PublicKey, a.key)
	require.NoError(t, err)
	return der
}

// extension adds a DER extension, in place of what crypto/x509 would make.
func extension(oid asn1.ObjectIdentifier, critical bool, value []byte) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oid, Critical: critical, Value: value})
	}
}

// privateKeyUsage is the extension of RFC 3280 4.2.1.4 with notAfter alone.
func privateKeyUsage(notAfter string) func(*x509.Certificate) {
	return extension(oidPrivateKeyUsagePeriod, false, append([]byte{0x30, byte(2 + len(notAfter)), 0x81, byte(len(notAfter))}, notAfter...))
}

// noticeBy is an active advisory, enforced from 3 March 2026, over the cards that a
// issued on 1 February 2026.
func noticeBy(a authority, changes ...func(*advisory.Advisory)) *advisory.Advisory {
	n := &advisory.Advisory{
		ID: "test-2026", Revision: 1, State: advisory.Active, Title: "Cards issued on one day",
		Published: at("2026-03-01T09:00:00Z"), Modified: at("2026-03-01T09:00:00Z"), BlockFrom: at("2026-03-03T00:00:00Z"),
		Match: []advisory.Clause{{
			Issuer:    &advisory.Issuer{SPKISHA256: [][32]byte{a.spki()}, Name: "Test CA"},
			NotBefore: &advisory.Window{From: at("2026-02-01T00:00:00Z"), To: at("2026-02-02T00:00:00Z")},
		}},
		Basis: advisory.NotBeforeWindow, CardMayAuthenticate: true,
		Remedies: []advisory.Remedy{
			{Kind: advisory.Renew, Text: "Renew here."},
			{Kind: advisory.RegistrationAuthority, Text: "Go to the office on the ground floor."},
			{Kind: advisory.Paper, Text: "Write on paper."},
		},
		Message: "Please renew your card.", References: []string{"https://example.org/notice"},
	}
	for _, change := range changes {
		change(n)
	}
	return n
}

func newSet(t testing.TB, version uint64, advisories ...*advisory.Advisory) *advisory.Set {
	t.Helper()
	s, err := advisory.NewSet(version, at("2026-01-01T00:00:00Z").Add(time.Duration(version)*time.Hour), advisories...)
	require.NoError(t, err)
	return s
}

func newGuard(t testing.TB, c Config) *Guard {
	t.Helper()
	g, err := New(c)
	require.NoError(t, err)
	return g
}

// reasonsOf lists the reasons of a verdict in the order of its findings.
func reasonsOf(v Verdict) []Reason {
	rs := []Reason{}
	for _, f := range v.Findings {
		rs = append(rs, f.Reason)
	}
	return rs
}

func findingOf(t testing.TB, v Verdict, r Reason) Finding {
	t.Helper()
	for _, f := range v.Findings {
		if f.Reason == r {
			return f
		}
	}
	require.FailNow(t, "no such finding", "%s in\n%s", r, v)
	return Finding{}
}

// testCard is the certificate of testdata, issued on 29 September 2020.
func testCard(t testing.TB) *Certificate {
	t.Helper()
	b, err := os.ReadFile("testdata/card.pem")
	require.NoError(t, err)
	c, err := ParseCertificate(b)
	require.NoError(t, err)
	return c
}

// The fields of a TBSCertificate (RFC 5280 4.1) of version 3 without unique identifiers.
const (
	tbsVersion = iota
	tbsSerial
	tbsAlgorithm
	tbsIssuer
	tbsValidity
	tbsSubject
	tbsKey
	tbsExtensions
)

// rewrite changes the fields of a certificate and signs it again, as a CA would that
// knows no rules.
func (a authority) rewrite(t testing.TB, der []byte, change func(fields []asn1.RawValue) []asn1.RawValue) []byte {
	t.Helper()
	out, err := a.sign(der, change)
	require.NoError(t, err)
	return out
}

func (a authority) sign(der []byte, change func(fields []asn1.RawValue) []asn1.RawValue) ([]byte, error) {
	var whole, fields []asn1.RawValue
	if _, err := asn1.Unmarshal(der, &whole); err != nil {
		return nil, err
	}
	if _, err := asn1.Unmarshal(whole[0].FullBytes, &fields); err != nil {
		return nil, err
	}
	tbs, err := asn1.Marshal(change(fields))
	if err != nil {
		return nil, err
	}
	digest, hash := sha256.Sum256(tbs), crypto.SHA256
	message := digest[:]
	if _, ok := a.key.(ed25519.PrivateKey); ok {
		message, hash = tbs, 0
	}
	signature, err := a.key.Sign(rand.Reader, message, hash)
	if err != nil {
		return nil, err
	}
	bits, err := asn1.Marshal(asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)})
	if err != nil {
		return nil, err
	}
	algorithm, err := asn1.Marshal(pkix.AlgorithmIdentifier{Algorithm: signedWith(a.key)})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal([]asn1.RawValue{{FullBytes: tbs}, {FullBytes: algorithm}, {FullBytes: bits}})
}

// signedWith is ecdsa-with-SHA256 (RFC 5758 3.2) or Ed25519 (RFC 8410 3).
func signedWith(key crypto.Signer) asn1.ObjectIdentifier {
	if _, ok := key.(ed25519.PrivateKey); ok {
		return asn1.ObjectIdentifier{1, 3, 101, 112}
	}
	return asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
}

// field puts DER in the place of a field.
func field(n int, der []byte) func([]asn1.RawValue) []asn1.RawValue {
	return func(fields []asn1.RawValue) []asn1.RawValue {
		fields[n] = asn1.RawValue{FullBytes: der}
		return fields
	}
}
