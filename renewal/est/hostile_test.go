package est_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mozilla.org/pkcs7"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/renewal"
	"github.com/rxguard/rxguard/renewal/est"
)

// certsType is the media type of certificates, RFC 7030 4.2.3.
const certsType = "application/pkcs7-mime; smime-type=certs-only"

// hostile is an authority with a server of its own, which answers one operation as a
// test says and the others as it should, until it is honest.
type hostile struct {
	*httptest.Server
	t      *testing.T
	o      *office
	at     string // the operation
	answer http.HandlerFunc
	honest atomic.Bool

	mu   sync.Mutex
	sent [][]byte // bodies of simplereenroll
}

func newHostile(t *testing.T, o *office, of *testcard.CA) *hostile {
	t.Helper()
	h := &hostile{t: t, o: o}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c, err := of.Issue(testcard.TLSServer, key.Public(), testcard.IssueOptions{Subject: testcard.Subject("localhost"), NotBefore: theTime.AddDate(-1, 0, 0)})
	require.NoError(t, err)
	h.Server = httptest.NewUnstartedServer(h)
	h.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{c.Raw, of.IssuingCertificate().Raw}, PrivateKey: key}},
		ClientAuth:   tls.RequireAnyClientCert,
	}
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.StartTLS()
	t.Cleanup(h.Close)
	return h
}

func (h *hostile) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	// Whoever it is, it is the card, by its authentication key and over TLS 1.3.
	assert.Equal(h.t, h.o.auth.Raw, r.TLS.PeerCertificates[0].Raw)
	assert.Equal(h.t, uint16(tls.VersionTLS13), r.TLS.Version)
	body, _ := io.ReadAll(r.Body) // only then does net/http see that the client is gone
	r.Body = io.NopCloser(bytes.NewReader(body))
	op := path.Base(r.URL.Path)
	if op == "simplereenroll" {
		h.mu.Lock()
		h.sent = append(h.sent, body)
		h.mu.Unlock()
	}
	switch {
	case op == h.at && !h.honest.Load():
		h.answer(rw, r)
	case op == "cacerts":
		h.certificates(rw, h.o.ca.RootCertificate(), h.o.ca.IssuingCertificate())
	case op == "csrattrs":
		rw.WriteHeader(http.StatusNoContent)
	case op == "simplereenroll":
		h.certificates(rw, h.issue(r, h.o.ca, nil))
	}
}

func (h *hostile) certificates(rw http.ResponseWriter, certs ...*x509.Certificate) {
	var raw []byte
	for _, c := range certs {
		raw = append(raw, c.Raw...)
	}
	der, err := pkcs7.DegenerateCertificate(raw)
	assert.NoError(h.t, err)
	rw.Header().Set("Content-Type", certsType)
	rw.Write(base64.StdEncoding.AppendEncode(nil, der))
}

// order is what is issued for a request.
type order struct {
	profile testcard.Profile
	public  any
	testcard.IssueOptions
}

// issue makes what a request asks for, but for what change changes.
func (h *hostile) issue(r *http.Request, ca *testcard.CA, change func(*order)) *x509.Certificate {
	body, err := io.ReadAll(r.Body)
	assert.NoError(h.t, err)
	r.Body = io.NopCloser(bytes.NewReader(body))
	der, err := base64.StdEncoding.DecodeString(string(body))
	assert.NoError(h.t, err)
	csr, err := x509.ParseCertificateRequest(der)
	if !assert.NoError(h.t, err) {
		panic(http.ErrAbortHandler)
	}
	od := order{testcard.Signing, csr.PublicKey, testcard.IssueOptions{RawSubject: csr.RawSubject}}
	if change != nil {
		change(&od)
	}
	c, err := ca.Issue(od.profile, od.public, od.IssueOptions)
	if !assert.NoError(h.t, err) {
		panic(http.ErrAbortHandler)
	}
	return c
}

const gigabyte = 1 << 30

// endless writes up to a gigabyte of base64, as long as somebody reads.
func endless(media string) http.HandlerFunc {
	chunk := bytes.Repeat([]byte("MIIB"), 16<<10)
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", media)
		for n := 0; n < gigabyte; n += len(chunk) {
			if _, err := rw.Write(chunk); err != nil {
				return
			}
		}
	}
}

// drip writes a byte now and then, until the client is gone.
func drip(header string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		write := func(b string) bool {
			_, err := io.WriteString(rw, b)
			rw.(http.Flusher).Flush()
			return err == nil
		}
		if header != "" { // one that does not end
			c, _, err := rw.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			write = func(b string) bool {
				_, err := io.WriteString(c, b)
				return err == nil
			}
			write(header)
		} else {
			rw.Header().Set("Content-Type", certsType)
		}
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for write("M") {
			<-tick.C
		}
	}
}

func say(status int, media, body string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", media)
		rw.WriteHeader(status)
		io.WriteString(rw, body)
	}
}

// What a hostile authority, or who passes for it, does to a renewal of a card: each is
// refused by name, no certificate is written, the old pair stays, and where the renewal
// can go on, it does with the same request when the authority is honest.
func TestAHostileAuthority(t *testing.T) {
	foreign, err := testcard.NewCA(testcard.CAConfig{Now: func() time.Time { return theTime }})
	require.NoError(t, err)
	stray, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	t.Cleanup(evil.Close)
	evilTLS := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	t.Cleanup(evilTLS.Close)
	redirect := func(to string) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Location", to+r.URL.Path+"?token=hunter2")
			rw.WriteHeader(http.StatusTemporaryRedirect) // which keeps method and body
		}
	}
	// indefinite is a SEQUENCE, and in it indefinite lengths, each in the one before.
	indefinite := func(n int) string {
		head := []byte{0x30, 0x82, byte(2 * n >> 8), byte(2 * n)}
		if 2*n > 0xffff {
			head = []byte{0x30, 0x83, byte(2 * n >> 16), byte(2 * n >> 8), byte(2 * n)}
		}
		return base64.StdEncoding.EncodeToString(append(head, bytes.Repeat([]byte{0x30, 0x80}, n)...))
	}

	const (
		whole = renewal.Resumable  // the renewal can go on
		over  = renewal.NotOffered // it is given up, and the card is as it was
	)
	for _, x := range []struct {
		name    string
		at      string // ""; simplereenroll
		answer  func(*hostile) http.HandlerFunc
		outcome renewal.Outcome
		kind    renewal.EnrolKind // 0: the guard's refusal
		says    []string
		timeout time.Duration
	}{
		{"1 GB of certificates", "", always(endless(certsType)), whole, renewal.Malformed, []string{"longer than the limit of 65536 bytes"}, 0},
		{"1 GB of authorities", "cacerts", always(endless(certsType)), whole, renewal.Malformed, []string{"longer than the limit of 65536 bytes", "GET "}, 0},
		{"1 GB of attributes", "csrattrs", always(endless("application/csrattrs")), whole, renewal.Malformed, []string{"longer than the limit of 65536 bytes", "GET "}, 0},
		{"1 GB of a page", "", always(endless("text/html")), whole, renewal.Malformed, []string{"text/html page instead of PKCS #7"}, 0},
		{"1 GB of reasons", "", always(func(rw http.ResponseWriter, r *http.Request) {
			rw.WriteHeader(http.StatusServiceUnavailable)
			endless("text/plain")(rw, r)
		}), whole, renewal.Unavailable, []string{"(HTTP 503)"}, 0},
		{"a header without end", "", always(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("X-Padding", strings.Repeat("M", 1<<20))
		}), whole, renewal.Unreachable, []string{"server response headers exceeded"}, 0},
		{"a slow drip", "", always(drip("")), whole, renewal.Unreachable, []string{"no whole answer in time, at most 1s"}, time.Second},
		{"a slow drip of authorities", "cacerts", always(drip("")), whole, renewal.Unreachable, []string{"no whole answer in time, at most 1s"}, time.Second},
		{"a slow drip of a header", "csrattrs", always(drip("HTTP/1.1 200 OK\r\nX-Padding: ")), whole, renewal.Unreachable, []string{"no whole answer in time, at most 1s"}, time.Second},
		{"nested indefinite lengths", "", always(say(200, certsType, indefinite(24_000))), whole, renewal.Malformed, []string{"an indefinite length, expected DER"}, 0},
		{"nested indefinite lengths, 4 MB", "", always(say(200, certsType, indefinite(2_000_000))), whole, renewal.Malformed, []string{"longer than the limit"}, 0},
		{"nested indefinite lengths in attributes", "csrattrs", always(say(200, "application/csrattrs", indefinite(24_000))), whole, renewal.Malformed, []string{"an indefinite length, expected DER"}, 0},
		{"attributes that no card has", "csrattrs", always(say(200, "application/csrattrs", "MAsGCSqGSIb3DQEJBw==")), whole, renewal.Rejected, []string{"challengePassword", "TLS 1.3 has no tls-unique"}, 0},
		{"another content type", "", always(say(200, "application/octet-stream", "MIIB")), whole, renewal.Malformed, []string{`content type "application/octet-stream", expected application/pkcs7-mime`}, 0},
		{"HTML", "", always(say(200, "text/html", "<html>You have been logged out")), whole, renewal.Malformed, []string{"text/html page instead of PKCS #7: a proxy or portal may stand between"}, 0},
		{"HTML for authorities", "cacerts", always(say(200, "text/html", "<html>You have been logged out")), whole, renewal.Malformed, []string{"a proxy or portal may stand between"}, 0},
		{"a redirect to plain http", "", always(redirect(evil.URL)), whole, renewal.Malformed, []string{"a redirect to \"" + evil.URL, "redirects are not followed"}, 0},
		{"a redirect to another server", "", always(redirect(evilTLS.URL)), whole, renewal.Malformed, []string{"a redirect to \"" + evilTLS.URL, "redirects are not followed"}, 0},
		{"a redirect of the first question", "cacerts", always(redirect(evil.URL)), whole, renewal.Malformed, []string{"redirects are not followed"}, 0},
		{"nothing", "", always(say(200, certsType, "")), whole, renewal.Malformed, []string{"an empty answer, expected PKCS #7"}, 0},
		{"no certificate", "", func(h *hostile) http.HandlerFunc {
			return func(rw http.ResponseWriter, _ *http.Request) { h.certificates(rw) }
		}, whole, renewal.Malformed, []string{"no certificate in the PKCS #7"}, 0},
		{"for another subject", "", issuing(func(od *order) { od.RawSubject, od.Subject = nil, testcard.Subject("000000000000") }), over, renewal.WrongCertificate, []string{"a certificate for another subject"}, 0},
		{"for another key", "", issuing(func(od *order) { od.public = stray.Public() }), over, renewal.WrongCertificate, []string{"a certificate for another key"}, 0},
		{"expired", "", issuing(func(od *order) { od.NotBefore, od.NotAfter = theTime.AddDate(-3, 0, 0), theTime.AddDate(-1, 0, 0) }), over, renewal.WrongCertificate, []string{"the certificate has expired"}, 0},
		{"not yet valid", "", issuing(func(od *order) { od.NotBefore = theTime.AddDate(0, 0, 1) }), over, renewal.WrongCertificate, []string{"the certificate is not yet valid"}, 0},
		{"affected again", "", issuing(func(od *order) { od.NotBefore = issued }), over, 0, []string{"affected by the same problem"}, 0},
		{"to log in with", "", issuing(func(od *order) { od.profile = testcard.Authentication }), over, 0, []string{"not good enough to sign with"}, 0},
		{"under another root", "", func(h *hostile) http.HandlerFunc {
			return func(rw http.ResponseWriter, r *http.Request) { h.certificates(rw, h.issue(r, foreign, nil)) }
		}, over, renewal.WrongCertificate, []string{"does not chain to Config.Anchors"}, 0},
		{"under another root, which is sent too", "", func(h *hostile) http.HandlerFunc {
			return func(rw http.ResponseWriter, r *http.Request) {
				h.certificates(rw, h.issue(r, foreign, nil), foreign.IssuingCertificate(), foreign.RootCertificate())
			}
		}, over, renewal.WrongCertificate, []string{"does not chain to Config.Anchors"}, 0},
		{"two for the key", "", func(h *hostile) http.HandlerFunc {
			return func(rw http.ResponseWriter, r *http.Request) {
				h.certificates(rw, h.issue(r, h.o.ca, nil), h.issue(r, h.o.ca, nil))
			}
		}, over, renewal.WrongCertificate, []string{"two certificates for the request's key"}, 0},
		{"many of others", "", func(h *hostile) http.HandlerFunc {
			c, err := h.o.ca.Issue(testcard.Signing, stray.Public(), testcard.IssueOptions{Subject: testcard.Subject("000000000000")})
			require.NoError(h.t, err)
			return func(rw http.ResponseWriter, _ *http.Request) { h.certificates(rw, repeated(c, 40)...) }
		}, over, renewal.WrongCertificate, []string{"a certificate for another key", "and 37 more"}, 0},
		{"more than an answer holds", "", func(h *hostile) http.HandlerFunc {
			return func(rw http.ResponseWriter, r *http.Request) {
				h.certificates(rw, repeated(h.issue(r, h.o.ca, nil), 80)...)
			}
		}, whole, renewal.Malformed, []string{"longer than the limit of 65536 bytes"}, 0},
	} {
		t.Run(x.name, func(t *testing.T) {
			o := newOffice(t, testcard.Config{PSS: true})
			h := newHostile(t, o, o.ca)
			if h.at = x.at; h.at == "" {
				h.at = "simplereenroll"
			}
			h.answer = x.answer(h)
			before := o.objects(t)
			cfg := est.Config{URL: h.URL, Label: testcard.SigningESTLabel, Roots: o.ca.Roots(), Anchors: o.ca.Roots(), Timeout: x.timeout}

			var atFirst, atLast runtime.MemStats
			runtime.ReadMemStats(&atFirst)
			res, err := o.renew(t, cfg)
			runtime.ReadMemStats(&atLast)
			assert.Less(t, atLast.TotalAlloc-atFirst.TotalAlloc, uint64(gigabyte/8), "bytes allocated, by the server too")

			require.Equal(t, x.outcome, res.Outcome, "%v", err)
			for _, s := range x.says {
				require.Contains(t, res.Text+" "+err.Error(), s)
			}
			require.NotContains(t, err.Error(), "hunter2")
			require.Less(t, len(err.Error()), 1000)
			require.NotEmpty(t, res.Remedies)
			var ee *renewal.EnrolError
			if x.kind == 0 {
				require.ErrorAs(t, err, new(*guard.Refused))
				require.False(t, errors.As(err, &ee), "%v", err)
			} else {
				require.ErrorAs(t, err, &ee)
				require.Equal(t, x.kind, ee.Kind, "%v", err)
			}
			switch {
			case x.outcome == over:
				o.onlyKeys(t, before, 0)
			case x.at != "":
				o.onlyKeys(t, before, 0)
				require.Zero(t, o.changes(testcard.OpGenerate, testcard.OpDestroy), "nothing was done to the card")
				require.Contains(t, res.Text, "The card was not changed.")
			default:
				o.onlyKeys(t, before, 1)
			}
			if x.outcome == over {
				return
			}

			h.honest.Store(true)
			cfg.Timeout = 0
			res, err = o.renew(t, cfg)
			require.NoError(t, err)
			require.Equal(t, renewal.ReseatCard, res.Outcome)
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, body := range h.sent {
				require.Equal(t, h.sent[0], body, "the same request each time")
			}
		})
	}
}

func always(f http.HandlerFunc) func(*hostile) http.HandlerFunc {
	return func(*hostile) http.HandlerFunc { return f }
}

func issuing(change func(*order)) func(*hostile) http.HandlerFunc {
	return func(h *hostile) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) { h.certificates(rw, h.issue(r, h.o.ca, change)) }
	}
}

func repeated(c *x509.Certificate, n int) (list []*x509.Certificate) {
	for range n {
		list = append(list, c)
	}
	return list
}

// A server that Config.Roots does not know is told nothing, and the card does not
// authenticate to it.
func TestAServerOfAnotherRoot(t *testing.T) {
	foreign, err := testcard.NewCA(testcard.CAConfig{Now: func() time.Time { return theTime }})
	require.NoError(t, err)
	o := newOffice(t, testcard.Config{PSS: true})
	h := newHostile(t, o, foreign)
	before := o.objects(t)
	res, err := o.renew(t, est.Config{URL: h.URL, Label: testcard.SigningESTLabel, Roots: o.ca.Roots(), Anchors: o.ca.Roots()})
	require.Equal(t, renewal.Resumable, res.Outcome)
	var ee *renewal.EnrolError
	require.ErrorAs(t, err, &ee)
	require.Equal(t, renewal.Unreachable, ee.Kind)
	require.ErrorContains(t, err, "the server's certificate is not one that Config.Roots trusts")
	o.onlyKeys(t, before, 0)
	require.Zero(t, o.sim.Signatures(testcard.AuthenticationID()))
}
