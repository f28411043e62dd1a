package est

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mozilla.org/pkcs7"

	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/renewal"
)

// instant is what every clock of these tests shows.
var instant = time.Date(2031, 5, 6, 9, 30, 0, 0, time.UTC)

func clock() time.Time { return instant }

// world is an authority, a person who authenticates with a key in memory, and that
// person's request for a new signing key.
type world struct {
	ca        *testcard.CA
	transport *renewal.Transport
	key       crypto.Signer // of the request
	request   renewal.Request
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ca, err := testcard.NewCA(testcard.CAConfig{Now: clock, CachedKeys: true})
	require.NoError(t, err)
	w := &world{ca: ca, key: newKey(t)}
	w.transport = w.authenticating(t, testcard.Authentication)
	w.request = renewal.Request{ID: "one", CSR: requestFor(t, w.key, w.transport.AuthenticatesAs().RawSubject), Now: instant}
	return w
}

func (w *world) authenticating(t *testing.T, p testcard.Profile) *renewal.Transport {
	t.Helper()
	key := newKey(t)
	c := w.issue(t, p, key.Public(), testcard.IssueOptions{Subject: testcard.Subject("555000000001")})
	return renewal.SoftwareTransport(&tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}, clock)
}

func (w *world) issue(t *testing.T, p testcard.Profile, pub crypto.PublicKey, o testcard.IssueOptions) *x509.Certificate {
	t.Helper()
	c, err := w.ca.Issue(p, pub, o)
	require.NoError(t, err)
	return c
}

// issued is a certificate as asked for.
func (w *world) issued(t *testing.T) *x509.Certificate {
	t.Helper()
	return w.issue(t, testcard.Signing, w.key.Public(), testcard.IssueOptions{RawSubject: w.transport.AuthenticatesAs().RawSubject})
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return k
}

func requestFor(t testing.TB, key crypto.Signer, subject []byte) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: subject}, key)
	require.NoError(t, err)
	return der
}

// certsOnly makes the DER of an answer.
func certsOnly(t testing.TB, certs ...*x509.Certificate) []byte {
	t.Helper()
	var raw []byte
	for _, c := range certs {
		raw = append(raw, c.Raw...)
	}
	der, err := pkcs7.DegenerateCertificate(raw)
	require.NoError(t, err)
	return der
}

// server answers cacerts as it should, and enrolment as the handler does. It wants
// the client to authenticate.
func (w *world) server(t *testing.T, enrol http.HandlerFunc, change func(*tls.Config)) *httptest.Server {
	t.Helper()
	return w.serverOf(t, reply(200, pkcs7Type, string(lines(certsOnly(t, w.ca.RootCertificate(), w.ca.IssuingCertificate())))), enrol, change)
}

// serverOf answers cacerts as its handler does too.
func (w *world) serverOf(t *testing.T, cacerts, enrol http.HandlerFunc, change func(*tls.Config)) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/cacerts") {
			cacerts(rw, r)
			return
		}
		io.Copy(io.Discard, r.Body) // only then does net/http see that the client is gone
		enrol(rw, r)
	}))
	key := newKey(t)
	c := w.issue(t, testcard.TLSServer, key.Public(), testcard.IssueOptions{Subject: testcard.Subject("localhost")})
	clients := w.ca.Roots()
	clients.AddCert(w.ca.IssuingCertificate())
	s.TLS = &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{{Certificate: [][]byte{c.Raw, w.ca.IssuingCertificate().Raw}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: clients, Time: clock,
	}
	if change != nil {
		change(s.TLS)
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what tests are about
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (w *world) client(t *testing.T, url string, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{URL: url, Label: testcard.SigningESTLabel, Roots: w.ca.Roots()}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	require.NoError(t, err)
	return c
}

// enrolment asserts that err is an EnrolError of this kind and says all of these.
func enrolment(t *testing.T, err error, kind renewal.EnrolKind, says ...string) *renewal.EnrolError {
	t.Helper()
	var e *renewal.EnrolError
	require.ErrorAs(t, err, &e)
	require.Equal(t, kind, e.Kind, "%v", err)
	for _, s := range says {
		require.ErrorContains(t, err, s)
	}
	require.NotContains(t, err.Error(), "\n")
	return e
}
