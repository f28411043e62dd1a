package est

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/renewal"
)

func testServer(t *testing.T, w *world, chain bool) *testcard.Server {
	t.Helper()
	s, err := testcard.NewServer(testcard.ServerConfig{CA: w.ca, Chain: chain})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func TestEnrol(t *testing.T) {
	w := newWorld(t)
	for name, row := range map[string]struct {
		chain   bool
		anchors *x509.CertPool
	}{
		"the leaf alone, anchors of cacerts":  {false, nil},
		"the leaf alone, anchors given":       {false, w.ca.Roots()},
		"leaf and authority, anchors given":   {true, w.ca.Roots()},
		"leaf and authority, cacerts' anchor": {true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := testServer(t, w, row.chain)
			a, err := w.client(t, s.URL(), func(c *Config) { c.Anchors = row.anchors }).Enrol(t.Context(), w.transport, w.request)
			require.NoError(t, err)
			require.Len(t, s.Issued(), 1)
			require.Equal(t, s.Issued()[0].Certificate.Raw, a.Certificate)
			require.Equal(t, testcard.Signing, s.Issued()[0].Profile)
			require.Equal(t, w.request.CSR, s.Issued()[0].Request)
			require.True(t, a.Pending.IsZero())
			require.NotEmpty(t, a.Chain)
			require.Equal(t, w.ca.IssuingCertificate().Raw, a.Chain[0])

			requests := s.Requests()
			require.Len(t, requests, 2)
			require.Equal(t, "/.well-known/est/signing/cacerts", requests[0].Path)
			post := requests[1]
			require.Equal(t, "/.well-known/est/signing/simplereenroll", post.Path)
			require.Equal(t, "application/pkcs10", post.Header.Get("Content-Type"))
			require.Equal(t, w.transport.AuthenticatesAs().Raw, post.Client.Raw)
			for line := range strings.Lines(string(post.Body)) {
				require.LessOrEqual(t, len(line), 65)
				require.True(t, strings.HasSuffix(line, "\n"))
			}
			der, err := base64.StdEncoding.DecodeString(string(post.Body))
			require.NoError(t, err)
			require.Equal(t, w.request.CSR, der)
		})
	}
}

func TestEnrolOverEachTLSVersion(t *testing.T) {
	w := newWorld(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			cert := w.issued(t)
			var seen *http.Request
			s := w.server(t, func(rw http.ResponseWriter, r *http.Request) {
				seen = r
				rw.Header().Set("Content-Type", pkcs7Type)
				rw.Write(lines(certsOnly(t, cert)))
			}, func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
			a, err := w.client(t, s.URL, nil).Enrol(t.Context(), w.transport, w.request)
			require.NoError(t, err)
			require.Equal(t, cert.Raw, a.Certificate)
			require.Equal(t, version, seen.TLS.Version)
			require.Equal(t, w.transport.AuthenticatesAs().Raw, seen.TLS.PeerCertificates[0].Raw)
			require.Positive(t, seen.ContentLength)
			require.Empty(t, seen.TransferEncoding)
		})
	}
}

func TestEnrolReadsEveryFormOfAGoodAnswer(t *testing.T) {
	w := newWorld(t)
	cert := w.issued(t)
	der := certsOnly(t, cert)
	line := base64.StdEncoding.EncodeToString(der)
	for name, row := range map[string]struct{ media, body string }{
		"lines ended by LF":              {pkcs7Type, string(lines(der))},
		"lines ended by CRLF":            {pkcs7Type, strings.ReplaceAll(string(lines(der)), "\n", "\r\n")},
		"one line":                       {pkcs7Type, line},
		"one line with spaces and tabs":  {pkcs7Type, " \t" + line[:50] + " " + line[50:] + "\r\n\r\n"},
		"the usual parameter":            {pkcs7Type + "; smime-type=certs-only", line},
		"a broken parameter":             {"Application/PKCS7-mime; smime-type", line},
		"the same certificate twice":     {pkcs7Type, string(lines(certsOnly(t, cert, cert)))},
		"the leaf last":                  {pkcs7Type, string(lines(certsOnly(t, w.ca.RootCertificate(), w.ca.IssuingCertificate(), cert)))},
		"with a certificate of somebody": {pkcs7Type, string(lines(certsOnly(t, w.transport.AuthenticatesAs(), cert)))},
	} {
		t.Run(name, func(t *testing.T) {
			s := w.server(t, func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Content-Type", row.media)
				fmt.Fprint(rw, row.body)
			}, nil)
			a, err := w.client(t, s.URL, nil).Enrol(t.Context(), w.transport, w.request)
			require.NoError(t, err)
			require.Equal(t, cert.Raw, a.Certificate)
		})
	}
}

func TestEnrolSendsNothingThatWouldBeRefused(t *testing.T) {
	w := newWorld(t)
	var asked atomic.Int64
	s := w.server(t, nil, func(c *tls.Config) {
		c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { asked.Add(1); return nil, nil }
	})
	tampered := bytes.Clone(w.request.CSR)
	tampered[len(tampered)-1] ^= 1
	other, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: testcard.Subject("555000000002")}, w.key)
	require.NoError(t, err)
	for name, row := range map[string]struct {
		transport *renewal.Transport
		csr       []byte
		now       time.Time
		says      string
	}{
		"no client certificate": {renewal.SoftwareTransport(nil, clock), w.request.CSR, instant, "no TLS client certificate, expected the card's authentication certificate"},
		"another subject":       {w.transport, other, instant, "expected that of the TLS client certificate, \"CN=555000000001"},
		"a signature altered":   {w.transport, tampered, instant, "is not signed by the key that it names"},
		"not PKCS #10":          {w.transport, []byte("hello"), instant, "is not PKCS #10"},
		"bytes after it":        {w.transport, append(bytes.Clone(w.request.CSR), 0), instant, "is not PKCS #10"},
		"no instant":            {w.transport, w.request.CSR, time.Time{}, "Request.Now is zero"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.client(t, s.URL, nil).Enrol(t.Context(), row.transport, renewal.Request{CSR: row.csr, Now: row.now})
			e := enrolment(t, err, renewal.Rejected, "nothing was sent", row.says)
			require.Zero(t, e.Status)
		})
	}
	require.Zero(t, asked.Load(), "connections made")
}

func TestEnrolRefusesWhatWasNotAskedFor(t *testing.T) {
	w := newWorld(t)
	s := testServer(t, w, false)
	foreign, err := testcard.NewCA(testcard.CAConfig{Now: clock})
	require.NoError(t, err)
	for name, row := range map[string]struct {
		reply   *testcard.Reply
		anchors *x509.CertPool
		says    []string
	}{
		"another key":              {testcard.OtherKey(), nil, []string{"a certificate for another key: key sha256:", "expected one for the request's key sha256:"}},
		"another subject":          {testcard.OtherSubject(), nil, []string{`a certificate for another subject: "CN=000000000000`, "CN=555000000001"}},
		"another root, same names": {testcard.OtherRoot(), nil, []string{"does not chain to the roots that cacerts sends", "unknown authority"}},
		"another root, given":      {testcard.OtherRoot(), w.ca.Roots(), []string{"does not chain to Config.Anchors"}},
		"anchors are another's":    {nil, foreign.Roots(), []string{"does not chain to Config.Anchors"}},
		"expired":                  {testcard.Expired(), nil, []string{"the certificate has expired: notAfter 2030-05-06T09:30:00Z, judged at 2031-05-06T09:30:00Z"}},
		"not yet valid":            {testcard.NotYetValid(), nil, []string{"not yet valid: notBefore 2031-05-07T09:30:00Z"}},
		"a second beyond the skew": {testcard.IssuedAt(instant.Add(10*time.Minute + time.Second)), nil, []string{"not yet valid: notBefore 2031-05-06T09:40:01Z", "at most 10m0s later"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.Script(func(r *http.Request, _ int) *testcard.Reply {
				if strings.HasSuffix(r.URL.Path, "/cacerts") {
					return nil
				}
				return row.reply
			})
			a, err := w.client(t, s.URL(), func(c *Config) { c.Anchors = row.anchors }).Enrol(t.Context(), w.transport, w.request)
			enrolment(t, err, renewal.WrongCertificate, row.says...)
			require.Zero(t, a)
		})
	}
}

func TestEnrolAllowsForTheAuthoritysClock(t *testing.T) {
	w := newWorld(t)
	s := testServer(t, w, false)
	for name, notBefore := range map[string]time.Time{
		"begins now":            instant,
		"begins in ten minutes": instant.Add(10 * time.Minute),
		"began long ago":        instant.AddDate(-1, 0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			s.Script(func(*http.Request, int) *testcard.Reply { return testcard.IssuedAt(notBefore) })
			a, err := w.client(t, s.URL(), nil).Enrol(t.Context(), w.transport, w.request)
			require.NoError(t, err)
			require.NotEmpty(t, a.Certificate)
		})
	}
}

// The guard judges key usage, profile and policy, not the client.
func TestEnrolLeavesTheProfileToTheGuard(t *testing.T) {
	w := newWorld(t)
	s := testServer(t, w, false)
	s.Script(testcard.Sequence(testcard.OtherProfile()))
	_, err := w.client(t, s.URL(), nil).Enrol(t.Context(), w.transport, w.request)
	require.NoError(t, err)
}

func TestEnrolRefusesTwoCertificatesForTheKey(t *testing.T) {
	w := newWorld(t)
	two := lines(certsOnly(t, w.issued(t), w.issued(t)))
	s := w.server(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", pkcs7Type)
		rw.Write(two)
	}, nil)
	_, err := w.client(t, s.URL, nil).Enrol(t.Context(), w.transport, w.request)
	enrolment(t, err, renewal.WrongCertificate, "two certificates for the request's key")
}

// A self-signed certificate in the answer is no anchor.
func TestEnrolTrustsNoAnchorOfTheAnswer(t *testing.T) {
	w := newWorld(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: w.ca.RootCertificate().SerialNumber, RawSubject: w.ca.RootCertificate().RawSubject,
		NotBefore: instant.AddDate(-1, 0, 0), NotAfter: instant.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	root, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	der, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: root.SerialNumber, RawSubject: w.transport.AuthenticatesAs().RawSubject,
		NotBefore: root.NotBefore, NotAfter: root.NotAfter,
	}, root, w.key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	body := lines(certsOnly(t, leaf, root))
	s := w.server(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", pkcs7Type)
		rw.Write(body)
	}, nil)
	_, err = w.client(t, s.URL, nil).Enrol(t.Context(), w.transport, w.request)
	enrolment(t, err, renewal.WrongCertificate, "does not chain to the roots that cacerts sends")
}

func TestEnrolPending(t *testing.T) {
	w := newWorld(t)
	s := testServer(t, w, false)
	s.Script(testcard.Sequence(testcard.Pending(90*time.Second), testcard.PendingUntil(instant.Add(48*time.Hour))))
	c := w.client(t, s.URL(), nil)
	for _, want := range []time.Duration{90 * time.Second, 48 * time.Hour} {
		a, err := c.Enrol(t.Context(), w.transport, w.request)
		require.NoError(t, err)
		require.Equal(t, renewal.Answer{Pending: instant.Add(want)}, a)
	}
	a, err := c.Enrol(t.Context(), w.transport, w.request)
	require.NoError(t, err)
	require.NotEmpty(t, a.Certificate)
	require.True(t, a.Pending.IsZero())
}

// After a lost answer the same bytes are sent again.
func TestEnrolMayBeRepeated(t *testing.T) {
	w := newWorld(t)
	s := testServer(t, w, false)
	s.Script(testcard.Sequence(testcard.Lost()))
	c := w.client(t, s.URL(), nil)
	_, err := c.Enrol(t.Context(), w.transport, w.request)
	enrolment(t, err, renewal.Unreachable, "POST "+s.URL())
	a, err := c.Enrol(t.Context(), w.transport, w.request)
	require.NoError(t, err)
	require.Len(t, s.Issued(), 2)
	require.Equal(t, s.Issued()[0].Request, s.Issued()[1].Request)
	require.Equal(t, s.Issued()[1].Certificate.Raw, a.Certificate)
}

// The authority in between may be known from the answer alone.
func TestEnrolTakesAuthoritiesFromTheAnswer(t *testing.T) {
	w := newWorld(t)
	root := &testcard.Reply{Status: 200, Header: http.Header{"Content-Type": {pkcs7Type}}, Body: lines(certsOnly(t, w.ca.RootCertificate()))}
	for _, chain := range []bool{true, false} {
		s := testServer(t, w, chain)
		s.Script(func(r *http.Request, _ int) *testcard.Reply {
			if strings.HasSuffix(r.URL.Path, "/cacerts") {
				return root
			}
			return nil
		})
		a, err := w.client(t, s.URL(), nil).Enrol(t.Context(), w.transport, w.request)
		if !chain {
			enrolment(t, err, renewal.WrongCertificate, "does not chain to the roots that cacerts sends")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, [][]byte{w.ca.IssuingCertificate().Raw, w.ca.RootCertificate().Raw}, a.Chain)
	}
}
