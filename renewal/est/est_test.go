package est

import (
	"crypto/x509"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/renewal"
)

func TestNewRefuses(t *testing.T) {
	const good = "https://est.example.org"
	for name, row := range map[string]struct {
		cfg  Config
		says string
	}{
		"no URL":                         {Config{}, "Config.URL: empty, expected one such as https://"},
		"plain http":                     {Config{URL: "http://est.example.org"}, `scheme "http", expected https`},
		"no scheme":                      {Config{URL: "est.example.org"}, `scheme "", expected https`},
		"host and port for a scheme":     {Config{URL: "localhost:8443"}, `scheme "localhost", expected https`},
		"no host":                        {Config{URL: "https:///path"}, "no host"},
		"opaque":                         {Config{URL: "https:est.example.org"}, "no host"},
		"port alone":                     {Config{URL: "https://:8443"}, "no host"},
		"not a URL":                      {Config{URL: "https://[::1"}, "not a URL"},
		"control character":              {Config{URL: "https://est.example.org/\n"}, "not a URL"},
		"user info":                      {Config{URL: "https://user:hunter2@est.example.org"}, "holds user info; the card authenticates in TLS"},
		"query":                          {Config{URL: good + "?a=b"}, "holds a query or fragment"},
		"empty query":                    {Config{URL: good + "?"}, "holds a query or fragment"},
		"fragment":                       {Config{URL: good + "#a"}, "holds a query or fragment"},
		"well-known path already":        {Config{URL: good + "/.well-known/est/"}, "/.well-known/est is appended"},
		"label with a slash":             {Config{URL: good, Label: "a/b"}, `Config.Label: "a/b", expected letters, digits`},
		"label with a percent":           {Config{URL: good, Label: "%2e"}, "expected letters, digits"},
		"label beyond ASCII":             {Config{URL: good, Label: "señal"}, "expected letters, digits"},
		"label that goes up":             {Config{URL: good, Label: ".."}, "is a relative path"},
		"label that is an operation":     {Config{URL: good, Label: "simpleenroll"}, "is an EST operation"},
		"label that is long":             {Config{URL: good, Label: string(make([]byte, 129))}, "129 bytes, expected at most 128"},
		"negative timeout":               {Config{URL: good, Timeout: -1}, "Config.Timeout: -1ns, expected 0 or more"},
		"roots that trust nobody":        {Config{URL: good, Roots: x509.NewCertPool()}, "Config.Roots: an empty pool trusts nobody, expected certificates, or nil for the system's roots"},
		"anchors that trust nobody":      {Config{URL: good, Anchors: x509.NewCertPool()}, "Config.Anchors: an empty pool trusts nobody"},
		"secret in what is not a URL":    {Config{URL: "https://user:hunter2@host:port"}, "not a URL"},
		"secret before a missing scheme": {Config{URL: "//user:hunter2@host"}, "holds user info"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := New(row.cfg)
			require.ErrorContains(t, err, row.says)
			require.ErrorContains(t, err, "est: Config.")
			require.NotContains(t, err.Error(), "hunter2")
			require.Nil(t, c)
		})
	}
}

func TestNewBuildsThePath(t *testing.T) {
	for _, row := range []struct{ url, label, want string }{
		{"https://est.example.org", "", "https://est.example.org/.well-known/est"},
		{"HTTPS://est.example.org/", "Sign-1.2_x~", "https://est.example.org/.well-known/est/Sign-1.2_x~"},
		{"https://[::1]:8443/a/b/", "x", "https://[::1]:8443/a/b/.well-known/est/x"},
	} {
		c, err := New(Config{URL: row.url, Label: row.label})
		require.NoError(t, err)
		require.Equal(t, row.want, c.base)
		require.Equal(t, time.Minute, c.timeout)
	}
}

func TestNewDoesNotTrustLaterAdditions(t *testing.T) {
	w := newWorld(t)
	p := w.ca.Roots()
	c, err := New(Config{URL: "https://est.example.org", Roots: p, Anchors: p})
	require.NoError(t, err)
	p.AddCert(w.ca.IssuingCertificate())
	require.True(t, c.roots.Equal(w.ca.Roots()))
	require.True(t, c.anchors.Equal(w.ca.Roots()))
}

func TestCACertsAndProbe(t *testing.T) {
	w := newWorld(t)
	s, err := testcard.NewServer(testcard.ServerConfig{CA: w.ca})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	c := w.client(t, s.URL(), nil)

	certs, err := c.CACerts(t.Context(), w.transport)
	require.NoError(t, err)
	require.Len(t, certs, 2)
	require.True(t, certs[0].Equal(w.ca.RootCertificate()))
	require.True(t, certs[1].Equal(w.ca.IssuingCertificate()))
	require.NoError(t, c.Probe(t.Context(), w.transport))
	require.NoError(t, c.Probe(t.Context(), renewal.SoftwareTransport(nil, clock)), "cacerts needs no client authentication (RFC 7030 4.1.2)")
	for _, q := range s.Requests() {
		require.Equal(t, "/.well-known/est/signing/cacerts", q.Path)
	}

	for name, row := range map[string]struct {
		reply *testcard.Reply
		kind  renewal.EnrolKind
		says  string
	}{
		"no service":     {testcard.Failure(503, "closed for the night"), renewal.Unavailable, `the server says "closed for the night"`},
		"unknown label":  {testcard.Failure(404, ""), renewal.Rejected, "no EST server at this address, or no such label"},
		"pending":        {testcard.Pending(time.Minute), renewal.Malformed, "(HTTP 202)"},
		"a page":         {testcard.Page(), renewal.Malformed, "a proxy or portal may stand between"},
		"no certificate": {testcard.NoCertificate(), renewal.Malformed, "no certificate in the PKCS #7"},
	} {
		t.Run(name, func(t *testing.T) {
			s.Script(func(*http.Request, int) *testcard.Reply { return row.reply })
			enrolment(t, c.Probe(t.Context(), w.transport), row.kind, row.says, "GET "+s.URL()+"/.well-known/est/signing/cacerts")
			// A failure here costs nothing: nothing is asked for after it.
			_, err := c.Enrol(t.Context(), w.transport, w.request)
			enrolment(t, err, row.kind, row.says)
		})
	}
	require.Empty(t, s.Issued())
}

func TestNoTransportIsAnErrorNotAPanic(t *testing.T) {
	w := newWorld(t)
	c := w.client(t, "https://127.0.0.1:1", nil)
	enrolment(t, c.Probe(t.Context(), nil), renewal.Unreachable, "no transport was given")
	_, err := c.Enrol(t.Context(), nil, w.request)
	enrolment(t, err, renewal.Rejected, "no TLS client certificate")
}
