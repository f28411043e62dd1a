package status_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/status"
)

// at reads an RFC 3339 instant.
func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

// now is when most tests judge: in date of all that newList makes.
var now = at("2026-03-10T12:00:00Z")

// tlv writes one DER value.
func tlv(tag byte, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	n := len(body)
	switch {
	case n < 0x80:
		return slices.Concat([]byte{tag, byte(n)}, body)
	case n < 0x100:
		return slices.Concat([]byte{tag, 0x81, byte(n)}, body)
	case n < 0x10000:
		return slices.Concat([]byte{tag, 0x82, byte(n >> 8), byte(n)}, body)
	}
	return slices.Concat([]byte{tag, 0x84, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, body)
}

func derOf(v any) []byte {
	b, err := asn1.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func generalized(t time.Time) []byte { return tlv(0x18, []byte(t.UTC().Format("20060102150405Z"))) }

// nameOf is a distinguished name in DER.
func nameOf(cn string) []byte {
	return derOf(pkix.Name{Organization: []string{"test"}, CommonName: cn}.ToRDNSequence())
}

// dirName and uriName are GeneralNames.
func dirName(name []byte) []byte { return tlv(0xa4, name) }
func uriName(uri string) []byte  { return tlv(0x86, []byte(uri)) }

// fullName and relativeName are the contents of a distribution point's name.
func fullName(names ...[]byte) []byte { return tlv(0xa0, tlv(0xa0, names...)) }
func relativeName(cn string) []byte {
	return tlv(0xa0, tlv(0xa1, tlv(0x30, derOf(asn1.ObjectIdentifier{2, 5, 4, 3}), tlv(0x13, []byte(cn)))))
}

func flag(n byte) []byte { return tlv(0x80|n, []byte{0xff}) }

// reasonBits is a BIT STRING's content.
func reasonBits(reasons ...int) []byte {
	b := []byte{7, 0, 0}
	for _, r := range reasons {
		b[1+r/8] |= 0x80 >> (r % 8)
	}
	return b
}

func ext(oid asn1.ObjectIdentifier, critical bool, value []byte) []byte {
	parts := [][]byte{derOf(oid)}
	if critical {
		parts = append(parts, tlv(1, []byte{0xff}))
	}
	return tlv(0x30, append(parts, tlv(4, value))...)
}

var (
	oidReason      = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidInvalidity  = asn1.ObjectIdentifier{2, 5, 29, 24}
	oidNumber      = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidDelta       = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIDP         = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidEntryIssuer = asn1.ObjectIdentifier{2, 5, 29, 29}
	oidCDP         = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidUnknown     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}
)

func idp(parts ...[]byte) []byte { return ext(oidIDP, true, tlv(0x30, parts...)) }

// authority is a CA, or a CRL issuer.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// certify makes a certificate for a key, self-signed where by is nil.
func certify(t testing.TB, cn string, key crypto.Signer, by *authority, changes ...func(*x509.Certificate)) *authority {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serials()), Subject: pkix.Name{Organization: []string{"test"}, CommonName: cn},
		NotBefore: at("2020-01-01T00:00:00Z"), NotAfter: at("2040-01-01T00:00:00Z"),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	for _, change := range changes {
		change(c)
	}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	require.NoError(t, err)
	cert, err := status.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{cert, key}
}

var lastSerial int64 = 1000

func serials() int64 { lastSerial++; return lastSerial }

// crlSigner makes a certificate that signs nothing but lists.
func crlSigner(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = false, false, x509.KeyUsageCRLSign
}

// leafAt makes a leaf whose distribution points are these.
func leafAt(points ...[]byte) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage = false, x509.KeyUsageContentCommitment
		if len(points) > 0 {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oidCDP, Value: tlv(0x30, points...)})
		}
	}
}

// world is a root, a CA below it and a leaf of the CA, without distribution points.
type world struct {
	root, ca *authority
	leaf     *x509.Certificate
}

func newWorld(t testing.TB, points ...[]byte) *world {
	t.Helper()
	w := &world{root: certify(t, "Root", newKey(t), nil)}
	w.ca = certify(t, "CA", newKey(t), w.root)
	w.leaf = certify(t, "Leaf", newKey(t), w.ca, leafAt(points...)).cert
	return w
}

func (w *world) chain() []*x509.Certificate {
	return []*x509.Certificate{w.leaf, w.ca.cert, w.root.cert}
}

func (w *world) subject(t testing.TB) *status.Subject { return subjectOf(t, w.chain()...) }

func subjectOf(t testing.TB, chain ...*x509.Certificate) *status.Subject {
	t.Helper()
	s, err := status.NewSubject(chain)
	require.NoError(t, err)
	return s
}

// snapshot is of lists that the world's CAs, and more, may have signed.
func (w *world) snapshot(t testing.TB, lists []*status.List, more ...*authority) *status.Snapshot {
	t.Helper()
	s, err := status.NewSnapshot(w.trust(t, more...), 0, lists...)
	require.NoError(t, err)
	return s
}

func (w *world) trust(t testing.TB, more ...*authority) *status.Trust {
	t.Helper()
	below := []*x509.Certificate{w.ca.cert}
	for _, a := range more {
		below = append(below, a.cert)
	}
	trust, err := status.NewTrust([]*x509.Certificate{w.root.cert}, below)
	require.NoError(t, err)
	return trust
}

// crl is a list to be made: what is nil or zero is as usual, or not there.
type crl struct {
	by         *authority
	issuer     []byte // the name; nil: by's
	thisUpdate time.Time
	nextUpdate time.Time
	noNext     bool
	number     int64 // 0: none
	entries    [][]byte
	exts       [][]byte
	change     func(body []byte) []byte // of what is signed
}

var ecdsaSHA256 = tlv(0x30, derOf(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}))

func (c crl) der(t require.TestingT) []byte {
	if c.thisUpdate.IsZero() {
		c.thisUpdate = now.Add(-time.Hour)
	}
	if c.nextUpdate.IsZero() {
		c.nextUpdate = c.thisUpdate.Add(7 * 24 * time.Hour)
	}
	if c.issuer == nil {
		c.issuer = c.by.cert.RawSubject
	}
	parts := [][]byte{{2, 1, 1}, ecdsaSHA256, c.issuer, derOf(c.thisUpdate.UTC())}
	if !c.noNext {
		parts = append(parts, derOf(c.nextUpdate.UTC()))
	}
	if c.entries != nil {
		parts = append(parts, tlv(0x30, c.entries...))
	}
	exts := slices.Clone(c.exts)
	if c.number != 0 {
		exts = append(exts, ext(oidNumber, false, derOf(c.number)))
	}
	if exts != nil {
		parts = append(parts, tlv(0xa0, tlv(0x30, exts...)))
	}
	body := slices.Concat(parts...)
	if c.change != nil {
		body = c.change(body)
	}
	tbs := tlv(0x30, body)
	sum := sha256.Sum256(tbs)
	sig, err := c.by.key.Sign(rand.Reader, sum[:], crypto.SHA256)
	require.NoError(t, err)
	return tlv(0x30, tbs, ecdsaSHA256, tlv(3, []byte{0}, sig))
}

func (c crl) list(t testing.TB) *status.List {
	t.Helper()
	l, err := status.Parse(c.der(t), 0)
	require.NoError(t, err)
	return l
}

// entry is one revoked certificate.
func entry(serial *big.Int, revoked time.Time, exts ...[]byte) []byte {
	parts := [][]byte{derOf(serial), derOf(revoked.UTC())}
	if len(exts) > 0 {
		parts = append(parts, tlv(0x30, exts...))
	}
	return tlv(0x30, parts...)
}

func because(reason byte) []byte { return ext(oidReason, false, []byte{0x0a, 1, reason}) }

func of(name []byte) []byte { return ext(oidEntryIssuer, true, tlv(0x30, dirName(name))) }

func x509Extension(oid asn1.ObjectIdentifier, value []byte) pkix.Extension {
	return pkix.Extension{Id: oid, Value: value}
}

// leafPoint gives a certificate distribution points.
func leafPoint(points ...[]byte) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, x509Extension(oidCDP, tlv(0x30, points...)))
	}
}

func big1() *big.Int { return big.NewInt(1) }
