package eps

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/status"
	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/tbs"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing/signingtest"
)

const (
	crlURL = "http://crl.example/crl1.crl"
	arlURL = "http://crl.example/arl.crl"
	user   = "123456789012"
)

// pki is a test CA with a signing certificate for testKey, and both lists in date at
// testTime.
type pki struct {
	ca       *testcard.CA
	leaf     *x509.Certificate
	crl, arl *x509.RevocationList
}

func newPKI(t testing.TB) *pki {
	t.Helper()
	plain, err := testcard.NewCA(testcard.CAConfig{Now: func() time.Time { return testTime }, CachedKeys: true})
	require.NoError(t, err)
	w := &pki{}
	w.ca, err = plain.Listed(arlURL)
	require.NoError(t, err)
	w.leaf = w.issue(t, crlURL)
	w.crl, w.arl = w.list(t, testcard.ListOptions{}), w.caList(t, testcard.ListOptions{})
	return w
}

func (w *pki) issue(t testing.TB, urls ...string) *x509.Certificate {
	t.Helper()
	c, err := w.ca.IssueListed(testcard.Signing, testKey().Public(), testcard.IssueOptions{
		Subject: testcard.Subject(user), NotBefore: testTime.AddDate(0, -1, 0)}, urls...)
	require.NoError(t, err)
	return c
}

// list makes a CRL that is an hour old at testTime.
func (w *pki) list(t testing.TB, o testcard.ListOptions) *x509.RevocationList {
	t.Helper()
	if o.ThisUpdate.IsZero() {
		o.ThisUpdate = testTime.Add(-time.Hour)
	}
	l, err := w.ca.CRL(o)
	require.NoError(t, err)
	return l
}

func (w *pki) caList(t testing.TB, o testcard.ListOptions) *x509.RevocationList {
	t.Helper()
	if o.ThisUpdate.IsZero() {
		o.ThisUpdate = testTime.Add(-time.Hour)
	}
	l, err := w.ca.ARL(o)
	require.NoError(t, err)
	return l
}

func (w *pki) cas() []*x509.Certificate {
	return []*x509.Certificate{w.ca.IssuingCertificate(), w.ca.RootCertificate()}
}

// verifier is one with all that is needed; lists stand in for the two in date.
func (w *pki) verifier(lists ...*x509.RevocationList) *Verifier {
	if lists == nil {
		lists = []*x509.RevocationList{w.crl, w.arl}
	}
	return &Verifier{CAs: w.cas(), Lists: read(lists...)}
}

// read reads lists as users do.
func read(lists ...*x509.RevocationList) []*status.List {
	var all []*status.List
	for _, l := range lists {
		var list *status.List
		if l != nil {
			var err error
			if list, err = status.Parse(l.Raw, 0); err != nil {
				panic(err)
			}
		}
		all = append(all, list)
	}
	return all
}

// tbsList is the part of a list that is signed (RFC 5280 5.1).
type tbsList struct {
	Version    int
	Algorithm  pkix.AlgorithmIdentifier
	Issuer     asn1.RawValue
	ThisUpdate time.Time
	NextUpdate time.Time        `asn1:"optional"`
	Revoked    []asn1.RawValue  `asn1:"optional"`
	Extensions []pkix.Extension `asn1:"tag:0,explicit"`
}

func (l *tbsList) without(oid asn1.ObjectIdentifier) {
	l.Extensions = slices.DeleteFunc(l.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oid) })
}

// changed is a list of the CA's, changed in a way that x509 does not write, and signed
// again by the issuing CA.
func changed(t testing.TB, ca *testcard.CA, l *x509.RevocationList, change func(*tbsList)) *x509.RevocationList {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca")
	require.NoError(t, ca.Save(file))
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	var saved struct {
		Key []byte `json:"issuing_key"`
	}
	require.NoError(t, json.Unmarshal(b, &saved))
	key, err := x509.ParsePKCS8PrivateKey(saved.Key)
	require.NoError(t, err)
	var list tbsList
	_, err = asn1.Unmarshal(l.RawTBSRevocationList, &list)
	require.NoError(t, err)
	change(&list)
	tbs, err := asn1.Marshal(list)
	require.NoError(t, err)
	hash := sha256.Sum256(tbs)
	signature, err := key.(crypto.Signer).Sign(rand.Reader, hash[:], crypto.SHA256)
	require.NoError(t, err)
	der, err := asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, list.Algorithm, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
	require.NoError(t, err)
	out, err := x509.ParseRevocationList(der)
	require.NoError(t, err)
	return out
}

// revoked is an entry for a certificate.
func revoked(c *x509.Certificate, at time.Time, reason int) []x509.RevocationListEntry {
	return []x509.RevocationListEntry{{SerialNumber: c.SerialNumber, RevocationTime: at, ReasonCode: reason}}
}

// signedMessage signs every prescription of a message, as a card would.
func signedMessage(t testing.TB, m string, a Algorithm, key *rsa.PrivateKey, cert *x509.Certificate) []byte {
	t.Helper()
	read := parsed(t, m)
	var all []*SignedPrescription
	for _, p := range read.Prescriptions() {
		p, err := p.WithAlgorithm(a)
		require.NoError(t, err)
		msg, err := p.ToBeSigned()
		require.NoError(t, err)
		value, err := rsa.SignPKCS1v15(nil, key, tbs.Hash(msg), tbs.Digest(msg))
		require.NoError(t, err)
		s, err := p.Finish(tbs.Signed(msg, value, parsing(cert)))
		require.NoError(t, err)
		all = append(all, s)
	}
	out, err := read.Fill(all...)
	require.NoError(t, err)
	return out
}

// sample is a signed message with one prescription.
func (w *pki) sample(t testing.TB) []byte {
	return signedMessage(t, message(signingtest.MessageConfig{User: user}), RS256, testKey(), w.leaf)
}

// judge verifies a message with one prescription.
func judge(t testing.TB, v *Verifier, message []byte) Report {
	t.Helper()
	var reports []Report
	require.NoError(t, v.VerifyMessage(message, ReadOptions{MaxBytes: 64 << 20}, func(r Report) error {
		reports = append(reports, r)
		return nil
	}))
	require.Len(t, reports, 1)
	return reports[0]
}

// check is a check of a report by its name, the national one of two.
func check(t testing.TB, r Report, name string) Check {
	t.Helper()
	for _, c := range slices.Concat(r.National.Checks, r.Rxguard.Checks) {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %s", name)
	return Check{}
}

// not lists the checks of an opinion that are of another result than passed.
func not(o Opinion) map[string]Result {
	m := map[string]Result{}
	for _, c := range o.Checks {
		if c.Result != Passed {
			m[c.Name] = c.Result
		}
	}
	return m
}

func warnings(o Opinion) []string {
	var w []string
	for _, c := range o.Checks {
		if c.Warning != "" {
			w = append(w, c.Name)
		}
	}
	return w
}

func readCert(t testing.TB, elem ...string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(need.Read(t, elem...))
	require.NotNil(t, block)
	c, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return c
}

func base64Of(b []byte) []byte {
	return base64.StdEncoding.AppendEncode(nil, b)
}

// replaceCert puts another certificate into a signed message.
func replaceCert(t testing.TB, in []byte, leaf *x509.Certificate) []byte {
	t.Helper()
	const open, end = "<X509Certificate>", "</X509Certificate>"
	before, rest, ok := bytes.Cut(in, []byte(open))
	require.True(t, ok)
	_, after, ok := bytes.Cut(rest, []byte(end))
	require.True(t, ok)
	return slices.Concat(before, []byte(open), base64Of(leaf.Raw), []byte(end), after)
}

func serial(n int64) *big.Int { return big.NewInt(n) }

func oid(t testing.TB, s string) x509.OID {
	t.Helper()
	o, err := x509.ParseOID(s)
	require.NoError(t, err)
	return o
}
