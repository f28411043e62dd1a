package est

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/renewal"
)

// reply is a handler with a status, a media type and a body.
func reply(status int, media, body string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", media)
		rw.WriteHeader(status)
		rw.Write([]byte(body))
	}
}

func redirect(status int, to string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Location", to)
		rw.WriteHeader(status)
	}
}

func TestHostileAnswersAreRefusedByName(t *testing.T) {
	w := newWorld(t)
	encoded := func(b string) string { return base64.StdEncoding.EncodeToString([]byte(b)) }
	good := string(lines(certsOnly(t, w.issued(t))))
	for name, row := range map[string]struct {
		handler http.HandlerFunc
		kind    renewal.EnrolKind
		status  int
		says    []string
	}{
		"redirect to plain http": {redirect(302, "http://evil.example/take?token=hunter2"), renewal.Malformed, 302,
			[]string{`a redirect to "http://evil.example/take"; redirects are not followed`}},
		"redirect to another https":  {redirect(307, "https://evil.example/"), renewal.Malformed, 307, []string{`"https://evil.example/"`}},
		"redirect to itself":         {redirect(308, "/.well-known/est/other/simplereenroll"), renewal.Malformed, 308, []string{"/.well-known/est/other/simplereenroll"}},
		"redirect to nowhere":        {reply(303, "text/plain", ""), renewal.Malformed, 303, []string{"a redirect to nowhere"}},
		"not modified":               {redirect(304, ""), renewal.Malformed, 304, []string{"a redirect to nowhere"}},
		"no content":                 {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(204) }, renewal.Malformed, 204, []string{"expected status 200"}},
		"created":                    {reply(201, pkcs7Type, good), renewal.Malformed, 201, []string{"expected status 200"}},
		"empty":                      {reply(200, pkcs7Type, ""), renewal.Malformed, 200, []string{"an empty answer, expected PKCS #7"}},
		"white space":                {reply(200, pkcs7Type, " \r\n\r\n"), renewal.Malformed, 200, []string{"an empty answer"}},
		"an HTML page":               {reply(200, "text/html; charset=utf-8", "<!DOCTYPE html>\n<title>Log in</title>"), renewal.Malformed, 200, []string{"text/html page instead of PKCS #7: a proxy or portal may stand between", `"<!DOCTYPE html> <title>Log in</title>"`}},
		"HTML under PKCS #7's type":  {reply(200, pkcs7Type, "\n<html>"), renewal.Malformed, 200, []string{"text/html page instead of PKCS #7"}},
		"another type":               {reply(200, "application/octet-stream", good), renewal.Malformed, 200, []string{`content type "application/octet-stream", expected application/pkcs7-mime`}},
		"a type that is none":        {reply(200, "\u202e;;;", good), renewal.Malformed, 200, []string{`content type ";;;", expected application/pkcs7-mime`}},
		"PEM":                        {reply(200, pkcs7Type, "-----BEGIN PKCS7-----\n"+good), renewal.Malformed, 200, []string{`not base64, expected base64 of PKCS #7; the answer begins "-----BEGIN PKCS7-----`}},
		"DER without base64":         {reply(200, pkcs7Type, string(certsOnly(t, w.issued(t)))), renewal.Malformed, 200, []string{"not base64"}},
		"cut off":                    {reply(200, pkcs7Type, good[:len(good)/2/4*4]), renewal.Malformed, 200, []string{"not"}},
		"base64 of something else":   {reply(200, pkcs7Type, encoded("this is not PKCS #7")), renewal.Malformed, 200, []string{"not PKCS #7"}},
		"a certificate without more": {reply(200, pkcs7Type, encoded(string(w.issued(t).Raw))), renewal.Malformed, 200, []string{"not PKCS #7"}},
		"bytes after it":             {reply(200, pkcs7Type, encoded(string(certsOnly(t, w.issued(t)))+"x")), renewal.Malformed, 200, []string{"1 bytes after the PKCS #7, expected none"}},
		"no certificate":             {reply(200, pkcs7Type, encoded(string(certsOnly(t)))), renewal.Malformed, 200, []string{"no certificate in the PKCS #7"}},
		"indefinite lengths within the limit": {reply(200, pkcs7Type, encoded(strings.Repeat("\x30\x80", 24_000))), renewal.Malformed, 200,
			[]string{"an indefinite length, expected DER"}},
		"indefinite lengths, 400 KB": {reply(200, pkcs7Type, encoded(strings.Repeat("\x30\x80", 200_000))), renewal.Malformed, 200,
			[]string{"longer than the limit of 65536 bytes"}},
		"indefinite lengths, 4 MB": {reply(200, pkcs7Type, encoded(strings.Repeat("\x30\x80", 2_000_000))), renewal.Malformed, 200,
			[]string{"longer than the limit of 65536 bytes"}},
		"a byte over the limit": {reply(200, pkcs7Type, good+strings.Repeat("\n", maxAnswer-len(good)+1)), renewal.Malformed, 200, []string{"longer than the limit"}},
		"bad request":           {reply(400, "text/plain", "no\x00such\x1b[31m\u202erequest\r\n"), renewal.Rejected, 400, []string{`the server says "no such [31m request"`}},
		"unauthorised":          {reply(401, "text/plain", ""), renewal.Rejected, 401, []string{"wants a user to log in over HTTP"}},
		"forbidden, in HTML":    {reply(403, "text/html", "<html>"+strings.Repeat("no ", 1<<20)), renewal.Rejected, 403, []string{`"<html>no no`, `…"`}},
		"not found":             {reply(404, "text/plain", "404 page not found"), renewal.Rejected, 404, []string{"or no such label", `"404 page not found"`}},
		"gone":                  {reply(410, "text/plain", ""), renewal.Rejected, 410, []string{"refused the request"}},
		"request timed out":     {reply(408, "text/plain", ""), renewal.Unavailable, 408, []string{"cannot issue certificates now"}},
		"too many requests":     {reply(429, "text/plain", "slow down"), renewal.Unavailable, 429, []string{`"slow down"`}},
		"server error":          {reply(500, "text/plain", "oops"), renewal.Unavailable, 500, []string{`"oops"`}},
		"unavailable":           {reply(503, "text/plain", "\xff\xfe"), renewal.Unavailable, 503, []string{"(HTTP 503)"}},
		"a status of no class":  {reply(799, "text/plain", ""), renewal.Malformed, 799, []string{"expected status 200"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := w.server(t, row.handler, nil)
			a, err := w.client(t, s.URL, nil).Enrol(t.Context(), w.transport, w.request)
			e := enrolment(t, err, row.kind, append(row.says, "POST "+s.URL+"/.well-known/est/signing/simplereenroll")...)
			require.Equal(t, row.status, e.Status)
			require.NotContains(t, err.Error(), "hunter2")
			require.Less(t, len(err.Error()), 1000)
			require.Zero(t, a)
		})
	}
}

func TestAnAnswerAtTheLimitIsRead(t *testing.T) {
	w := newWorld(t)
	good := string(lines(certsOnly(t, w.issued(t))))
	s := w.server(t, reply(200, pkcs7Type, good+strings.Repeat("\n", maxAnswer-len(good))), nil)
	_, err := w.client(t, s.URL, nil).Enrol(t.Context(), w.transport, w.request)
	require.NoError(t, err)
}

// What the server could write is what the client read and what the sockets held.
func TestAnEndlessAnswerIsNotRead(t *testing.T) {
	w := newWorld(t)
	const whole = 1 << 30
	for name, row := range map[string]struct {
		status int
		kind   renewal.EnrolKind
	}{
		"certificates": {200, renewal.Malformed},
		"pending":      {202, 0},
		"an error":     {403, renewal.Rejected},
	} {
		t.Run(name, func(t *testing.T) {
			var written atomic.Int64
			done := make(chan struct{})
			s := w.server(t, func(rw http.ResponseWriter, _ *http.Request) {
				defer close(done)
				rw.Header().Set("Content-Type", pkcs7Type)
				rw.WriteHeader(row.status)
				chunk := []byte(strings.Repeat("MIIB", 16<<10))
				for written.Load() < whole {
					n, err := rw.Write(chunk)
					written.Add(int64(n))
					if err != nil {
						return
					}
				}
			}, nil)
			_, err := w.client(t, s.URL, nil).Enrol(t.Context(), w.transport, w.request)
			if row.kind == 0 {
				require.NoError(t, err)
			} else {
				enrolment(t, err, row.kind)
			}
			<-done
			require.Less(t, written.Load(), int64(whole/8))
		})
	}
}

func TestALostConnectionIsUnreachable(t *testing.T) {
	w := newWorld(t)
	s := w.server(t, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", pkcs7Type)
		rw.Header().Set("Content-Length", "5000")
		rw.Write([]byte("MIIC"))
		rw.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}, nil)
	_, err := w.client(t, s.URL, nil).Enrol(t.Context(), w.transport, w.request)
	e := enrolment(t, err, renewal.Unreachable, "the connection was lost within the answer")
	require.Equal(t, 200, e.Status)
}

func TestNobodyListens(t *testing.T) {
	w := newWorld(t)
	s := w.server(t, nil, nil)
	s.Close()
	err := w.client(t, s.URL, nil).Probe(t.Context(), w.transport)
	enrolment(t, err, renewal.Unreachable, "GET "+s.URL, "refused")
	require.Equal(t, 1, strings.Count(err.Error(), s.URL))
}

func TestTLSFailuresAreUnreachable(t *testing.T) {
	w := newWorld(t)
	foreign, err := testcard.NewCA(testcard.CAConfig{Now: clock})
	require.NoError(t, err)
	t.Run("an unknown server", func(t *testing.T) {
		s := w.server(t, nil, nil)
		c := w.client(t, s.URL, func(c *Config) { c.Roots = foreign.Roots() })
		err := c.Probe(t.Context(), w.transport)
		enrolment(t, err, renewal.Unreachable, "the server's certificate is not one that Config.Roots trusts", "unknown authority")
		require.ErrorAs(t, err, new(*tls.CertificateVerificationError))
	})
	t.Run("a server that has expired by the card's clock", func(t *testing.T) {
		s := w.server(t, nil, func(c *tls.Config) {
			key := newKey(t)
			cert := w.issue(t, testcard.TLSServer, key.Public(), testcard.IssueOptions{
				Subject: testcard.Subject("localhost"), NotBefore: instant.AddDate(-2, 0, 0), NotAfter: instant.AddDate(-1, 0, 0),
			})
			c.Certificates = []tls.Certificate{{Certificate: [][]byte{cert.Raw, w.ca.IssuingCertificate().Raw}, PrivateKey: key}}
		})
		enrolment(t, w.client(t, s.URL, nil).Probe(t.Context(), w.transport), renewal.Unreachable, "expired")
	})
	t.Run("the server does not know the card", func(t *testing.T) {
		s := w.server(t, nil, func(c *tls.Config) { c.ClientCAs = foreign.Roots() })
		enrolment(t, w.client(t, s.URL, nil).Probe(t.Context(), w.transport), renewal.Unreachable, "remote error: tls")
	})
	t.Run("an old version", func(t *testing.T) {
		s := w.server(t, nil, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })
		enrolment(t, w.client(t, s.URL, nil).Probe(t.Context(), w.transport), renewal.Unreachable, "tls")
	})
	t.Run("plain http behind https", func(t *testing.T) {
		s := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(s.Close)
		err := w.client(t, strings.Replace(s.URL, "http:", "https:", 1), nil).Probe(t.Context(), w.transport)
		enrolment(t, err, renewal.Unreachable, "HTTP response to HTTPS client")
	})
}

func TestNoErrorRepeatsWhatAServerSentAtLength(t *testing.T) {
	w := newWorld(t)
	raw := func(header string) *httptest.Server {
		return w.serverOf(t, func(rw http.ResponseWriter, _ *http.Request) {
			c, _, err := rw.(http.Hijacker).Hijack()
			if err == nil {
				io.WriteString(c, "HTTP/1.1 200 OK\r\n"+header+"\r\n\r\n")
				c.Close()
			}
		}, nil, nil)
	}
	for name, row := range map[string]struct {
		s    *httptest.Server
		says string
	}{
		"a header that is none": {raw(strings.Repeat("y\x1b", 20<<10)), "malformed MIME header"},
		"two lengths":           {raw("Content-Length: 1\r\nContent-Length: 2" + strings.Repeat("2", 40<<10)), "multiple Content-Length headers"},
		"the names of a certificate": {w.server(t, nil, func(c *tls.Config) {
			key := newKey(t)
			of := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: instant.AddDate(1, 0, 0)}
			for i := range 90 {
				of.DNSNames = append(of.DNSNames, fmt.Sprintf("%d\x1b[2J\n%s", i, strings.Repeat("x", 200)))
			}
			der, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
			require.NoError(t, err)
			c.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
		}), "the server's certificate is not one that Config.Roots trusts: tls: failed to verify certificate: x509: certificate is valid for"},
	} {
		t.Run(name, func(t *testing.T) {
			url := strings.Replace(row.s.URL, "127.0.0.1", "localhost", 1)
			e := enrolment(t, w.client(t, url, nil).Probe(t.Context(), w.transport), renewal.Unreachable, row.says)
			require.Less(t, len(e.Error()), 1000)
			require.NotContains(t, e.Error(), "\x1b")
		})
	}
}

func TestASlowDripEndsAtTheTimeout(t *testing.T) {
	w := newWorld(t)
	s := w.server(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", pkcs7Type)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
				rw.Write([]byte("M"))
				rw.(http.Flusher).Flush()
			}
		}
	}, nil)
	c := w.client(t, s.URL, func(c *Config) { c.Timeout = 300 * time.Millisecond })
	_, err := c.Enrol(t.Context(), w.transport, w.request)
	enrolment(t, err, renewal.Unreachable, "no whole answer in time, at most 300ms")
	require.NotErrorIs(t, err, context.DeadlineExceeded, "the caller's context has no deadline")
}

func TestTheCallersContextEndsIt(t *testing.T) {
	w := newWorld(t)
	arrived := make(chan struct{})
	s := w.server(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", pkcs7Type)
		rw.Write([]byte("M"))
		rw.(http.Flusher).Flush()
		close(arrived)
		<-r.Context().Done()
	}, nil)
	c := w.client(t, s.URL, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, err := c.Enrol(ctx, w.transport, w.request)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "est: POST "+s.URL)
	require.False(t, errors.As(err, new(*renewal.EnrolError)))

	ctx, cancel = context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	require.ErrorIs(t, c.Probe(ctx, w.transport), context.DeadlineExceeded)
}

func TestPendingUntil(t *testing.T) {
	date := func(d time.Duration) string { return instant.Add(d).Format(http.TimeFormat) }
	for name, row := range map[string]struct {
		retryAfter string
		want       time.Duration
	}{
		"seconds":                    {"120", 2 * time.Minute},
		"one second":                 {"1", time.Second},
		"a date":                     {date(3 * time.Hour), 3 * time.Hour},
		"a date in RFC 850's form":   {"Tuesday, 06-May-31 10:30:00 GMT", time.Hour},
		"missing":                    {"", time.Minute},
		"zero":                       {"0", time.Minute},
		"negative":                   {"-5", time.Minute},
		"a fraction":                 {"1.5", time.Minute},
		"words":                      {"soon", time.Minute},
		"a date that is past":        {date(-time.Hour), time.Minute},
		"a date that is now":         {date(0), time.Minute},
		"thirty days":                {"2592000", longestWait},
		"more than thirty days":      {"2592001", longestWait},
		"a number beyond a duration": {"9223372036854775807", longestWait},
		"a number beyond any":        {strings.Repeat("9", 400), longestWait},
		"a date in another century":  {instant.AddDate(500, 0, 0).Format(http.TimeFormat), longestWait},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, instant.Add(row.want), pendingUntil(row.retryAfter, instant))
		})
	}
}

func TestExcerpt(t *testing.T) {
	require.Equal(t, "a b c", excerpt([]byte(" a\r\n\tb\x00\x1b\x7f\u200b\u2028c\xff ")))
	require.Empty(t, excerpt(nil))
	long := excerpt([]byte(strings.Repeat("é", 500)))
	require.Equal(t, maxExcerpt, utf8.RuneCountInString(long))
	require.True(t, strings.HasSuffix(long, "…"))
}

// A server that sees the client leave may end half an answer in good form.
func TestAnAnswerThatEndsAfterTheTimeIsNotJudged(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	resp := &http.Response{
		StatusCode: 200, Header: http.Header{"Content-Type": {pkcs7Type}},
		Body:    io.NopCloser(strings.NewReader("MIIC")),
		Request: (&http.Request{}).WithContext(gone),
	}
	c := &Client{timeout: time.Second}
	enrolment(t, c.read(t.Context(), &answer{what: "POST"}, resp), renewal.Unreachable)
	err := c.read(gone, &answer{what: "POST"}, resp)
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, errors.As(err, new(*renewal.EnrolError)))
}
