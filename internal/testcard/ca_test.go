package testcard

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
)

var then = time.Date(2020, 9, 30, 9, 0, 0, 0, time.UTC)

func testCA(t testing.TB, cfg CAConfig) *CA {
	t.Helper()
	cfg.CachedKeys = true
	ca, err := NewCA(cfg)
	require.NoError(t, err)
	return ca
}

func at(instant time.Time) func() time.Time { return func() time.Time { return instant } }

func issue(t testing.TB, ca *CA, p Profile, pub crypto.PublicKey, o IssueOptions) *x509.Certificate {
	t.Helper()
	if o.RawSubject == nil && o.Subject.CommonName == "" {
		o.Subject = Subject("123456789012")
	}
	c, err := ca.Issue(p, pub, o)
	require.NoError(t, err)
	return c
}

func pemOf(certs ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

func TestProfilesAsOpenSSLSeesThem(t *testing.T) {
	openssl := need.Tool(t, "openssl", "openssl")
	ca := testCA(t, CAConfig{Now: at(then)})
	subject := "subject=O = rxguard simulation, OU = rxguard simulation - not for patients, CN = 123456789012_Simulated_Prescriber"
	common := []string{
		"Version: 3 (0x2)", "Signature Algorithm: sha256WithRSAEncryption",
		"Issuer: O = rxguard simulation, CN = rxguard simulation issuing - not trusted",
		"Not Before: Sep 30 08:55:00 2020 GMT", "Not After : Sep 30 08:55:00 2022 GMT",
		"X509v3 Subject Key Identifier:", "X509v3 Authority Key Identifier:",
	}
	for _, x := range []struct {
		name    string
		profile Profile
		pub     crypto.PublicKey
		purpose string
		want    []string
		without []string
	}{
		{"signing", Signing, rsaKey().Public(), "any",
			[]string{"X509v3 Key Usage: critical\n                Non Repudiation\n", "Policy: 1.2.826.0.1275.102.0.3.2.0", "Public-Key: (2048 bit)"},
			[]string{"Extended Key Usage", "Digital Signature", "Private Key Usage Period", "CRL Distribution", "Alternative Name"}},
		{"signing with an EC key", Signing, ecKey().Public(), "any",
			[]string{"Non Repudiation\n", "ASN1 OID: prime256v1"}, []string{"Extended Key Usage"}},
		{"authentication", Authentication, rsaKey().Public(), "sslclient",
			[]string{"X509v3 Key Usage: critical\n                Digital Signature\n", "TLS Web Client Authentication\n"},
			[]string{"Non Repudiation", "Policy"}},
		{"server", TLSServer, ecKey().Public(), "sslserver",
			[]string{"Digital Signature\n", "TLS Web Server Authentication\n", "DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1"},
			[]string{"Key Encipherment"}},
		{"server with an RSA key", TLSServer, rsaKey().Public(), "sslserver",
			[]string{"Digital Signature, Key Encipherment\n"}, nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir := t.TempDir()
			leaf := issue(t, ca, x.profile, x.pub, IssueOptions{})
			write(t, dir, "root.pem", pemOf(ca.RootCertificate()))
			write(t, dir, "issuing.pem", pemOf(ca.IssuingCertificate()))
			write(t, dir, "leaf.pem", pemOf(leaf))

			verify := []string{"verify", "-x509_strict", "-purpose", x.purpose, "-attime", strconv.FormatInt(then.Unix(), 10),
				"-CAfile", "root.pem", "-untrusted", "issuing.pem", "leaf.pem"}
			assert.Equal(t, "leaf.pem: OK\n", run(t, dir, openssl, verify...))

			text := run(t, dir, openssl, "x509", "-in", "leaf.pem", "-noout", "-text")
			for _, want := range append(common, x.want...) {
				assert.Contains(t, text, want)
			}
			for _, without := range x.without {
				assert.NotContains(t, text, without)
			}
			assert.Contains(t, run(t, dir, openssl, "x509", "-in", "leaf.pem", "-noout", "-subject"), subject)

			ids := regexp.MustCompile(`Key Identifier: \n +([0-9A-F:]+)`)
			ski := ids.FindStringSubmatch(run(t, dir, openssl, "x509", "-in", "issuing.pem", "-noout", "-ext", "subjectKeyIdentifier"))
			aki := ids.FindStringSubmatch(run(t, dir, openssl, "x509", "-in", "leaf.pem", "-noout", "-ext", "authorityKeyIdentifier"))
			require.Len(t, ski, 2)
			require.Len(t, aki, 2)
			assert.Equal(t, ski[1], aki[1])
		})
	}
}

func TestAuthorities(t *testing.T) {
	ca := testCA(t, CAConfig{})
	root, issuing := ca.RootCertificate(), ca.IssuingCertificate()
	assert.Equal(t, "CN=rxguard simulation root - not trusted,O=rxguard simulation", root.Subject.String())
	assert.Equal(t, root.RawSubject, root.RawIssuer)
	assert.NotEqual(t, root.SubjectKeyId, issuing.SubjectKeyId)
	assert.True(t, issuing.MaxPathLenZero)
	for _, c := range []*x509.Certificate{root, issuing} {
		assert.True(t, c.IsCA)
		assert.Equal(t, 2000, c.NotBefore.Year())
		assert.Equal(t, 2099, c.NotAfter.Year())
	}
	other, err := NewCA(CAConfig{})
	require.NoError(t, err)
	assert.Equal(t, other.IssuingCertificate().RawSubject, issuing.RawSubject, "two CAs share their names")
	assert.NotEqual(t, SPKIHash(other.IssuingCertificate()), SPKIHash(issuing), "and are told apart by key")
	leaf := issue(t, other, Signing, ecKey().Public(), IssueOptions{})
	_, err = leaf.Verify(x509.VerifyOptions{Roots: ca.Roots(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	assert.Error(t, err)
}

func TestSPKIHashAsOpenSSLSeesIt(t *testing.T) {
	openssl := need.Tool(t, "openssl", "openssl")
	ca, dir := testCA(t, CAConfig{}), t.TempDir()
	write(t, dir, "c.pem", pemOf(ca.IssuingCertificate()))
	write(t, dir, "key.pem", []byte(run(t, dir, openssl, "x509", "-in", "c.pem", "-noout", "-pubkey")))
	run(t, dir, openssl, "pkey", "-pubin", "-in", "key.pem", "-outform", "DER", "-out", "key.der")
	hash := SPKIHash(ca.IssuingCertificate())
	assert.Contains(t, run(t, dir, openssl, "dgst", "-sha256", "key.der"), hex.EncodeToString(hash[:]))
}

func TestValidityAndSerial(t *testing.T) {
	clock := then.Add(123 * time.Millisecond)
	ca := testCA(t, CAConfig{Now: at(clock)})
	assert.Equal(t, clock, ca.Now())
	plain := issue(t, ca, Signing, ecKey().Public(), IssueOptions{})
	assert.Equal(t, then.Add(-5*time.Minute), plain.NotBefore)
	assert.Equal(t, plain.NotBefore.AddDate(2, 0, 0), plain.NotAfter)
	assert.Greater(t, plain.SerialNumber.BitLen(), 64)
	assert.LessOrEqual(t, plain.SerialNumber.BitLen(), 128)
	assert.NotEqual(t, plain.SerialNumber, issue(t, ca, Signing, ecKey().Public(), IssueOptions{}).SerialNumber)

	prompt := testCA(t, CAConfig{Now: at(then), Backdate: -1})
	assert.Equal(t, then, issue(t, prompt, Signing, ecKey().Public(), IssueOptions{}).NotBefore)
	hour := testCA(t, CAConfig{Now: at(then), Backdate: time.Hour})
	assert.Equal(t, then.Add(-time.Hour), issue(t, hour, Signing, ecKey().Public(), IssueOptions{}).NotBefore)

	from, to := time.Date(2020, 9, 29, 1, 2, 3, 0, time.FixedZone("BST", 3600)), time.Date(2060, 1, 1, 0, 0, 0, 0, time.UTC)
	given := issue(t, ca, Signing, ecKey().Public(), IssueOptions{NotBefore: from, NotAfter: to, Serial: big.NewInt(0x5dc9ad1f)})
	assert.Equal(t, from.UTC(), given.NotBefore)
	assert.Equal(t, to, given.NotAfter)
	assert.Equal(t, big.NewInt(0x5dc9ad1f), given.SerialNumber)
}

func TestIssueRefuses(t *testing.T) {
	ca := testCA(t, CAConfig{})
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	marked := Subject("123456789012")
	for _, x := range []struct {
		name    string
		profile Profile
		pub     crypto.PublicKey
		o       IssueOptions
		want    string
	}{
		{"a subject that could be mistaken for real", Signing, ecKey().Public(), IssueOptions{Subject: pkix.Name{CommonName: "A Person", Organization: []string{"hospital"}}}, `expected "rxguard simulation"`},
		{"a second organisation", Signing, ecKey().Public(), IssueOptions{Subject: pkix.Name{Organization: []string{Organization, "hospital"}}}, `expected "rxguard simulation"`},
		{"no subject", Signing, ecKey().Public(), IssueOptions{}, `expected "rxguard simulation"`},
		{"a raw subject that is none", Signing, ecKey().Public(), IssueOptions{RawSubject: []byte("name")}, "not a name in DER"},
		{"no profile", 0, ecKey().Public(), IssueOptions{Subject: marked}, "expected Signing, Authentication or TLSServer"},
		{"no key", Signing, nil, IssueOptions{Subject: marked}, "expected an RSA or EC public key"},
		{"another curve", Signing, p384.Public(), IssueOptions{Subject: marked}, "expected P-256"},
		{"an end before the beginning", Signing, ecKey().Public(), IssueOptions{Subject: marked, NotBefore: then, NotAfter: then}, "expected one after notBefore"},
		{"a negative serial", Signing, ecKey().Public(), IssueOptions{Subject: marked, Serial: big.NewInt(-1)}, "serial"},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, err := ca.Issue(x.profile, x.pub, x.o)
			assert.ErrorContains(t, err, "testcard: issue: ")
			assert.ErrorContains(t, err, x.want)
		})
	}
	assert.Equal(t, "signing authentication server profile 9", strings.Join([]string{Signing.String(), Authentication.String(), TLSServer.String(), Profile(9).String()}, " "))
}

func TestServerCertificateNames(t *testing.T) {
	c := issue(t, testCA(t, CAConfig{}), TLSServer, ecKey().Public(), IssueOptions{})
	for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
		assert.NoError(t, c.VerifyHostname(host))
	}
	assert.True(t, c.IPAddresses[1].Equal(net.IPv6loopback))
}

func TestSaveAndLoadCA(t *testing.T) {
	ca := testCA(t, CAConfig{})
	dir := t.TempDir()
	path := filepath.Join(dir, "ca.json")
	require.NoError(t, ca.Save(path))
	again, err := LoadCA(path, CAConfig{Now: at(then)})
	require.NoError(t, err)
	assert.Equal(t, ca.RootCertificate().Raw, again.RootCertificate().Raw)
	leaf := issue(t, again, Authentication, ecKey().Public(), IssueOptions{})
	assert.NoError(t, leaf.CheckSignatureFrom(ca.IssuingCertificate()))

	other, err := foreignCA()
	require.NoError(t, err)
	require.NoError(t, other.Save(filepath.Join(dir, "other.json")))
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	foreign, err := os.ReadFile(filepath.Join(dir, "other.json"))
	require.NoError(t, err)
	line := func(b []byte, field string) string {
		m := regexp.MustCompile(`"` + field + `": "[^"]*"`).Find(b)
		require.NotNil(t, m)
		return string(m)
	}
	swap := func(field string) string {
		return strings.Replace(string(good), line(good, field), line(foreign, field), 1)
	}
	both := strings.Replace(swap("issuing"), line(good, "issuing_key"), line(foreign, "issuing_key"), 1)
	for name, text := range map[string]string{
		"not JSON":                           "ca",
		"a card":                             state(t, newCard(t, Config{})),
		"a root that is not the key's":       swap("root"),
		"a key that is not the root's":       swap("root_key"),
		"an issuing key that is another's":   swap("issuing_key"),
		"an issuing CA of another root":      both,
		"a later version":                    strings.Replace(string(good), `"version": 1`, `"version": 2`, 1),
		"a certificate that cannot be read":  strings.Replace(string(good), `"root": "M`, `"root": "A`, 1),
		"a private key that cannot be read":  strings.Replace(string(good), `"root_key": "M`, `"root_key": "A`, 1),
		"a CA that does not say it is a toy": strings.Replace(string(good), "Trust nothing", "Trust all", 1),
	} {
		write(t, dir, "bad.json", []byte(text))
		_, err := LoadCA(filepath.Join(dir, "bad.json"), CAConfig{})
		assert.ErrorContains(t, err, "testcard: load", name)
	}
	_, err = LoadCA(filepath.Join(dir, "none"), CAConfig{})
	assert.ErrorIs(t, err, os.ErrNotExist)
}
