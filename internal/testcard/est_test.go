package testcard

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mozilla.org/pkcs7"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/need"
)

const (
	reenrolSigning = "/.well-known/est/signing/simplereenroll"
	reenrol        = "/.well-known/est/simplereenroll"
)

func newServer(t testing.TB, cfg ServerConfig) *Server {
	t.Helper()
	s, err := NewServer(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// client speaks to s as of then, with a certificate or without.
func client(t testing.TB, s *Server, key crypto.Signer, cert *x509.Certificate) *http.Client {
	t.Helper()
	cfg := &tls.Config{RootCAs: s.Roots(), Time: at(then)}
	if cert != nil {
		// Sent whatever issuers the server asks for.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}, nil
		}
	}
	tr := &http.Transport{TLSClientConfig: cfg}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func requestFor(t testing.TB, key crypto.Signer, subject []byte) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: subject}, key)
	require.NoError(t, err)
	return der
}

// lines is base64 as most clients send it.
func lines(der []byte) string {
	return regexp.MustCompile(`.{1,64}`).ReplaceAllString(base64.StdEncoding.EncodeToString(der), "$0\r\n")
}

type answer struct {
	status int
	header http.Header
	body   string
}

func post(t testing.TB, c *http.Client, url, body string) answer {
	t.Helper()
	resp, err := c.Post(url, "application/pkcs10", strings.NewReader(body))
	require.NoError(t, err)
	return read(t, resp)
}

func read(t testing.TB, resp *http.Response) answer {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func certsIn(t testing.TB, a answer) []*x509.Certificate {
	t.Helper()
	require.Equal(t, http.StatusOK, a.status, a.body)
	assert.Equal(t, "application/pkcs7-mime; smime-type=certs-only", a.header.Get("Content-Type"))
	assert.NotContains(t, a.body, "\n", "on one line")
	der, err := base64.StdEncoding.DecodeString(a.body)
	require.NoError(t, err)
	p7, err := pkcs7.Parse(der)
	require.NoError(t, err)
	return p7.Certificates
}

// world is a CA, its server and an authentication certificate.
type world struct {
	ca     *CA
	server *Server
	auth   *x509.Certificate
	http   *http.Client
	newKey *ecdsa.PrivateKey
	body   string // a request for newKey with the subject of auth
}

func newWorld(t testing.TB) world {
	t.Helper()
	w := world{ca: testCA(t, CAConfig{Now: at(then)})}
	w.server = newServer(t, ServerConfig{CA: w.ca})
	w.auth = issue(t, w.ca, Authentication, ecKey().Public(), IssueOptions{})
	w.http = client(t, w.server, ecKey(), w.auth)
	var err error
	w.newKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	w.body = lines(requestFor(t, w.newKey, w.auth.RawSubject))
	return w
}

func TestEnrol(t *testing.T) {
	w := newWorld(t)
	for path, profile := range map[string]Profile{
		reenrolSigning:                          Signing,
		reenrol:                                 Authentication,
		"/.well-known/est/signing/simpleenroll": Signing,
		"/.well-known/est/simpleenroll":         Authentication,
	} {
		t.Run(path, func(t *testing.T) {
			certs := certsIn(t, post(t, w.http, w.server.URL()+path, w.body))
			require.Len(t, certs, 1)
			c := certs[0]
			assert.Equal(t, w.newKey.Public(), c.PublicKey)
			assert.Equal(t, w.auth.RawSubject, c.RawSubject)
			assert.Equal(t, then.Add(-5*time.Minute), c.NotBefore)
			assert.NoError(t, c.CheckSignatureFrom(w.ca.IssuingCertificate()))
			assert.Equal(t, profile == Signing, c.KeyUsage == x509.KeyUsageContentCommitment)

			issued := w.server.Issued()
			last := issued[len(issued)-1]
			assert.Equal(t, c.Raw, last.Certificate.Raw)
			assert.Equal(t, profile, last.Profile)
			assert.Equal(t, w.auth.Raw, last.Client.Raw)
			csr, err := x509.ParseCertificateRequest(last.Request)
			require.NoError(t, err)
			assert.Equal(t, w.newKey.Public(), csr.PublicKey)
		})
	}
	requests := w.server.Requests()
	require.Len(t, requests, 4)
	for _, r := range requests {
		assert.Equal(t, w.body, string(r.Body))
		assert.Equal(t, w.auth.Raw, r.Client.Raw)
		assert.Equal(t, uint16(tls.VersionTLS13), r.TLS)
		assert.Equal(t, "application/pkcs10", r.Header.Get("Content-Type"))
	}
}

func TestEnrolTakesBase64InLinesAndOnOne(t *testing.T) {
	w := newWorld(t)
	one := strings.NewReplacer("\r", "", "\n", "").Replace(w.body)
	for _, body := range []string{w.body, one, one + "\n", " \t" + strings.ReplaceAll(w.body, "\r", "")} {
		assert.Len(t, certsIn(t, post(t, w.http, w.server.URL()+reenrol, body)), 1)
	}
}

func TestEnrolWithChain(t *testing.T) {
	w := newWorld(t)
	s := newServer(t, ServerConfig{CA: w.ca, Chain: true})
	certs := certsIn(t, post(t, w.http, s.URL()+reenrol, w.body))
	require.Len(t, certs, 2)
	assert.Equal(t, w.newKey.Public(), certs[0].PublicKey)
	assert.Equal(t, w.ca.IssuingCertificate().Raw, certs[1].Raw)
}

func TestCACertsNeedsNoClientCertificate(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/.well-known/est/cacerts", "/.well-known/est/signing/cacerts"} {
		resp, err := client(t, w.server, nil, nil).Get(w.server.URL() + path)
		require.NoError(t, err)
		certs := certsIn(t, read(t, resp))
		require.Len(t, certs, 2)
		assert.Equal(t, w.ca.RootCertificate().Raw, certs[0].Raw)
		assert.Equal(t, w.ca.IssuingCertificate().Raw, certs[1].Raw)
	}
}

func TestServerIsWhoItSaysAtEveryInstant(t *testing.T) {
	s := newServer(t, ServerConfig{CA: testCA(t, CAConfig{Now: at(then)})})
	for _, instant := range []time.Time{time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC), then, time.Now(), time.Date(2099, 12, 30, 0, 0, 0, 0, time.UTC)} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Roots(), Time: at(instant)}}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Get(s.URL() + "/.well-known/est/cacerts")
		require.NoError(t, err, "%s", instant)
		resp.Body.Close()
	}
	old := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Roots(), MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}}
	_, err := (&http.Client{Transport: old}).Get(s.URL())
	assert.ErrorContains(t, err, "protocol version")
}

// cardSigner is a card's key as crypto/tls wants it.
type cardSigner struct {
	s   card.Session
	pub crypto.PublicKey
}

func (k cardSigner) Public() crypto.PublicKey { return k.pub }
func (k cardSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.s.Sign(context.Background(), AuthenticationID(), digest, opts)
}

func TestCardAuthenticatesTheClient(t *testing.T) {
	w := newWorld(t)
	for name, x := range map[string]struct {
		pss     bool
		version uint16
	}{"TLS 1.3 with RSASSA-PSS": {true, tls.VersionTLS13}, "TLS 1.2 without": {false, tls.VersionTLS12}} {
		t.Run(name, func(t *testing.T) {
			c := newCard(t, Config{PSS: x.pss})
			auth, _, err := c.ProvisionPrescriber(w.ca, Prescriber{AuthenticationKey: rsaKey(), SigningKey: ecKey()})
			require.NoError(t, err)
			signer := cardSigner{login(t, c), auth.PublicKey}
			cfg := &tls.Config{RootCAs: w.server.Roots(), Time: at(then), MaxVersion: x.version, Certificates: []tls.Certificate{{
				Certificate: [][]byte{auth.Raw}, PrivateKey: signer,
			}}}
			if !x.pss {
				cfg.Certificates[0].SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.PKCS1WithSHA256}
			}
			tr := &http.Transport{TLSClientConfig: cfg}
			defer tr.CloseIdleConnections()
			a := post(t, &http.Client{Transport: tr}, w.server.URL()+reenrolSigning, lines(requestFor(t, w.newKey, auth.RawSubject)))
			assert.Len(t, certsIn(t, a), 1)
			assert.Equal(t, 1, c.Signatures(AuthenticationID()))
			assert.Zero(t, c.Signatures(SigningID()), "the signing key has no part in it")
			requests := w.server.Requests()
			assert.Equal(t, x.version, requests[len(requests)-1].TLS)
		})
	}
}

func TestEnrolRefusesTheClient(t *testing.T) {
	w := newWorld(t)
	other, err := foreignCA()
	require.NoError(t, err)
	for _, x := range []struct {
		name string
		cert *x509.Certificate
		want string
	}{
		{"without a certificate", nil, "no TLS client certificate"},
		{"with a signing certificate", issue(t, w.ca, Signing, ecKey().Public(), IssueOptions{}), "not for TLS client authentication"},
		{"with a server certificate", issue(t, w.ca, TLSServer, ecKey().Public(), IssueOptions{}), "incompatible key usage"},
		{"of another CA with the same names", issue(t, other, Authentication, ecKey().Public(), IssueOptions{NotBefore: then.AddDate(0, 0, -1)}), "unknown authority"},
		{"expired by the CA's clock", issue(t, w.ca, Authentication, ecKey().Public(), IssueOptions{NotBefore: then.AddDate(-2, 0, 0), NotAfter: then.AddDate(0, 0, -1)}), "expired"},
		{"valid today but not by the CA's clock", issue(t, w.ca, Authentication, ecKey().Public(), IssueOptions{NotBefore: time.Now().AddDate(0, 0, -1)}), "not yet valid"},
	} {
		t.Run(x.name, func(t *testing.T) {
			a := post(t, client(t, w.server, ecKey(), x.cert), w.server.URL()+reenrolSigning, w.body)
			assert.Equal(t, http.StatusForbidden, a.status)
			assert.Contains(t, a.header.Get("Content-Type"), "text/plain")
			assert.Contains(t, a.body, x.want)
		})
	}
	assert.Empty(t, w.server.Issued())
}

func TestEnrolRefusesTheRequest(t *testing.T) {
	w := newWorld(t)
	good := requestFor(t, w.newKey, w.auth.RawSubject)
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1
	withName, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: w.auth.RawSubject, DNSNames: []string{"localhost"}}, w.newKey)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	stranger := issue(t, w.ca, Authentication, ecKey().Public(), IssueOptions{Subject: Subject("999999999999")})
	for _, x := range []struct {
		name, path, contentType, body string
		status                        int
		want                          string
	}{
		{"empty", reenrol, "application/pkcs10", "", 400, "not PKCS #10"},
		{"not base64", reenrol, "application/pkcs10", "****", 400, "not base64"},
		{"not PKCS #10", reenrol, "application/pkcs10", "aGVsbG8=", 400, "not PKCS #10"},
		{"a certificate", reenrol, "application/pkcs10", lines(w.auth.Raw), 400, "not PKCS #10"},
		{"a signature by another key", reenrol, "application/pkcs10", lines(forged), 400, "signature"},
		{"a key that the CA does not take", reenrol, "application/pkcs10", lines(requestFor(t, p384, w.auth.RawSubject)), 400, "expected P-256"},
		{"a subjectAltName", reenrol, "application/pkcs10", lines(withName), 400, "subjectAltName"},
		{"somebody else's subject", reenrol, "application/pkcs10", lines(requestFor(t, w.newKey, stranger.RawSubject)), 403, "is not the client certificate's"},
		{"somebody else's subject to simpleenroll", "/.well-known/est/simpleenroll", "application/pkcs10", lines(requestFor(t, w.newKey, stranger.RawSubject)), 403, "is not the client certificate's"},
		{"no content type", reenrol, "", w.body, 415, "expected application/pkcs10"},
		{"another content type", reenrol, "application/x-pem-file", w.body, 415, "expected application/pkcs10"},
		{"too long", reenrol, "application/pkcs10", strings.Repeat("A", maxRequest+1), 413, "longer than 65536"},
		{"an unknown label", "/.well-known/est/other/simplereenroll", "application/pkcs10", w.body, 404, `label "signing" or none`},
		{"an unknown operation", "/.well-known/est/serverkeygen", "application/pkcs10", w.body, 404, "no operation"},
		{"cacerts by POST", "/.well-known/est/cacerts", "application/pkcs10", w.body, 405, "expected GET"},
		{"no path", "/", "application/pkcs10", w.body, 404, "no operation"},
	} {
		t.Run(x.name, func(t *testing.T) {
			resp, err := w.http.Post(w.server.URL()+x.path, x.contentType, strings.NewReader(x.body))
			require.NoError(t, err)
			a := read(t, resp)
			assert.Equal(t, x.status, a.status)
			assert.Contains(t, a.header.Get("Content-Type"), "text/plain")
			assert.Contains(t, a.body, x.want)
		})
	}
	t.Run("by GET", func(t *testing.T) {
		resp, err := w.http.Get(w.server.URL() + reenrol)
		require.NoError(t, err)
		assert.Equal(t, 405, read(t, resp).status)
	})
	t.Run("without Content-Length", func(t *testing.T) {
		resp, err := w.http.Post(w.server.URL()+reenrol, "application/pkcs10", io.MultiReader(strings.NewReader(w.body)))
		require.NoError(t, err)
		assert.Equal(t, 411, read(t, resp).status)
	})
	assert.Empty(t, w.server.Issued())
}

func TestOpenSSLMakesTheRequestAndReadsTheAnswer(t *testing.T) {
	openssl := need.Tool(t, "openssl", "openssl")
	w, dir := newWorld(t), t.TempDir()
	run(t, dir, openssl, "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-utf8", "-outform", "DER", "-out", "csr.der",
		"-subj", "/O=rxguard simulation/OU=rxguard simulation - not for patients/CN=123456789012_Simulated_Prescriber",
		"-config", "/dev/null")
	run(t, dir, openssl, "base64", "-in", "csr.der", "-out", "csr.b64")
	// openssl writes UTF8String where Go writes PrintableString; the subject is
	// compared as DER, so the client's certificate is made with openssl's.
	csr, err := x509.ParseCertificateRequest(readBytes(t, dir, "csr.der"))
	require.NoError(t, err)
	auth := issue(t, w.ca, Authentication, ecKey().Public(), IssueOptions{RawSubject: csr.RawSubject})

	a := post(t, client(t, w.server, ecKey(), auth), w.server.URL()+reenrolSigning, string(readBytes(t, dir, "csr.b64")))
	require.Equal(t, 200, a.status, a.body)
	write(t, dir, "answer.b64", []byte(a.body))
	run(t, dir, openssl, "base64", "-d", "-A", "-in", "answer.b64", "-out", "answer.der")
	write(t, dir, "new.pem", []byte(run(t, dir, openssl, "pkcs7", "-inform", "DER", "-in", "answer.der", "-print_certs")))
	assert.Equal(t,
		run(t, dir, openssl, "pkey", "-in", "key.pem", "-pubout"),
		run(t, dir, openssl, "x509", "-in", "new.pem", "-noout", "-pubkey"))

	// And the other way round: our request, as openssl reads it.
	write(t, dir, "ours.der", requestFor(t, rsaKey(), auth.RawSubject))
	assert.Contains(t, run(t, dir, openssl, "req", "-inform", "DER", "-in", "ours.der", "-noout", "-verify", "-subject"), "CN = 123456789012_Simulated_Prescriber")
}

func TestServerLife(t *testing.T) {
	_, err := NewServer(ServerConfig{})
	assert.ErrorContains(t, err, "no CA")
	s, err := NewServer(ServerConfig{CA: testCA(t, CAConfig{})})
	require.NoError(t, err)
	assert.Regexp(t, `^https://127\.0\.0\.1:[0-9]+$`, s.URL())
	require.NoError(t, s.Close())
	_, err = http.Get(s.URL())
	assert.Error(t, err)
	s.Close()
}

// FuzzRequest: whatever a client sends is refused or is a request that proves
// possession of its key.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(lines(requestFor(f, ecKey(), issue(f, testCA(f, CAConfig{}), Signing, ecKey().Public(), IssueOptions{}).RawSubject))))
	f.Add([]byte("aGVsbG8="))
	f.Fuzz(func(t *testing.T, b []byte) {
		csr, err := parseRequest(b)
		if err != nil {
			return
		}
		require.NoError(t, csr.CheckSignature())
		switch csr.PublicKey.(type) {
		case *rsa.PublicKey, *ecdsa.PublicKey:
		default:
			t.Fatalf("a key of type %T", csr.PublicKey)
		}
	})
}
