// Package est asks an authority for certificates over EST, Enrolment over Secure
// Transport (RFC 7030, clarified by RFC 8951). It decides whether what the server
// sent is the certificate that was asked for; whether that certificate may sign is
// the guard's to decide.
//
// New comes first. Its Client is a renewal.Enroller, Prober and Attributer: package
// renewal calls Probe and Attributes before the card is changed, then Enrol as often
// as the authority answers that it is not done.
//
// Enrol makes two requests, each on a TLS connection of its own: GET cacerts
// (RFC 7030 4.1), so that a server that cannot tell its authority fails before it
// issues anything, then POST simplereenroll (RFC 7030 4.2.2) under the label of the
// signing profile (RFC 7030 3.2.2). Simplereenroll binds the request to the TLS
// client certificate: both have one subject, and the card proves possession of its
// authentication key in the handshake and of the new signing key in the request.
//
// What is trusted:
//
//   - The server, by Config.Roots, for its TLS certificate. Redirects are refused;
//     so is plain http.
//   - The certificate, by its signatures up to Config.Anchors. Without Anchors the
//     roots of cacerts take their place, of each name the newest: that they came over
//     the authenticated connection is then all that speaks for them, and who can pass
//     for the server can issue. A program that knows its authority sets Anchors.
//   - When an authority changes its root, the certificates of cacerts that say so, the
//     new key signed by the old and the old by the new (RFC 7030 4.1.3, RFC 4210 4.4),
//     are steps on the way to an anchor like every other.
//   - Nothing in the answer else: its signers and revocation lists are not read.
//
// Answers are read with go.mozilla.org/pkcs7, which package signing/cms needs too,
// but never before they are known to be short (64 KiB) and definite in every length.
package est

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rxguard/rxguard/renewal"
)

// Config says which server is asked and who is trusted. URL must be set.
type Config struct {
	// URL is the base, such as https://est.example.org or https://host:8443/path:
	// https only, without user info, query and fragment. "/.well-known/est" is
	// appended (RFC 7030 3.2.2).
	URL string
	// Label is the EST label of the authority's signing profile (RFC 7030 3.2.2):
	// letters, digits, '-', '.', '_' and '~', and none of EST's operations. Empty:
	// the server's default profile.
	Label string
	// Roots are the trust anchors for the server's TLS certificate (the explicit ones
	// of RFC 7030 3.6.1); nil: the system's (the implicit ones, 3.6.2). None is learnt
	// from a server (4.1.1).
	Roots *x509.CertPool
	// Anchors are the trust anchors that an issued certificate must chain to by
	// signature; authorities in between are taken from the answer and from cacerts.
	// nil: the roots of cacerts, trusted because of the authenticated connection that
	// they came over.
	Anchors *x509.CertPool
	// Proxy is what stands between, such as http://proxy.example.org:8080: http
	// (CONNECT) or socks5, and user info where it wants it, which goes to it as it is.
	// Empty: the environment says, HTTPS_PROXY and NO_PROXY.
	Proxy string
	// Timeout bounds one request from dialling to the last byte of the answer, the
	// card's work in the handshake included; 0: 1 minute. Enrol makes two requests.
	Timeout time.Duration
}

// Client asks one EST server. It may be used from several goroutines.
type Client struct {
	base    string // up to and with the label
	roots   *x509.CertPool
	anchors *x509.CertPool
	proxy   *url.URL // nil: of the environment
	timeout time.Duration
}

var (
	_ renewal.Enroller   = (*Client)(nil)
	_ renewal.Prober     = (*Client)(nil)
	_ renewal.Attributer = (*Client)(nil)
)

// New makes a client. It sends nothing. Its error names the field of Config that
// cannot be used.
func New(cfg Config) (*Client, error) {
	base, err := baseURL(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("est: Config.URL: %w", err)
	}
	if cfg.Label != "" {
		if err := checkLabel(cfg.Label); err != nil {
			return nil, fmt.Errorf("est: Config.Label: %w", err)
		}
		base += "/" + cfg.Label
	}
	c := &Client{base: base, timeout: cfg.Timeout}
	switch {
	case cfg.Timeout < 0:
		return nil, fmt.Errorf("est: Config.Timeout: %s, expected 0 or more", cfg.Timeout)
	case cfg.Timeout == 0:
		c.timeout = time.Minute
	}
	if cfg.Proxy != "" {
		if c.proxy, err = proxyURL(cfg.Proxy); err != nil {
			return nil, fmt.Errorf("est: Config.Proxy: %w", err)
		}
	}
	if c.roots, err = pool(cfg.Roots); err != nil {
		return nil, fmt.Errorf("est: Config.Roots: %w the system's roots", err)
	}
	if c.anchors, err = pool(cfg.Anchors); err != nil {
		return nil, fmt.Errorf("est: Config.Anchors: %w the certificates that the server's cacerts sends", err)
	}
	return c, nil
}

// CACerts fetches the authority's certificates (RFC 7030 4.1), in the server's
// order. They are as trustworthy as the connection. Errors are an
// *renewal.EnrolError, or ctx's.
func (c *Client) CACerts(ctx context.Context, t *renewal.Transport) ([]*x509.Certificate, error) {
	a, err := c.exchange(ctx, t, "GET", "cacerts", nil)
	if err != nil {
		return nil, err
	}
	if a.pending {
		return nil, a.malformed("the server asks to come back later, expected its certificates now (RFC 7030 4.1.3)", nil)
	}
	certs, err := parseAnswer(a.body)
	if err != nil {
		return nil, a.malformed("", err)
	}
	return certs, nil
}

// Probe tells whether the server answers now, and as an EST server does: it sends
// the authority's certificates. Nothing is enrolled. Errors are an
// *renewal.EnrolError, or ctx's.
func (c *Client) Probe(ctx context.Context, t *renewal.Transport) error {
	_, err := c.CACerts(ctx, t)
	return err
}

const (
	wellKnown = "/.well-known/est"
	wantURL   = "expected one such as https://est.example.org:8443"
)

// baseURL answers the base with the well-known path. Its errors repeat nothing that
// may hold a password.
func baseURL(s string) (string, error) {
	if s == "" {
		return "", errors.New("empty, " + wantURL)
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", errors.New("not a URL, " + wantURL)
	}
	switch {
	case u.User != nil:
		return "", errors.New("holds user info; the card authenticates in TLS, " + wantURL)
	case u.Scheme != "https":
		return "", fmt.Errorf("scheme %q, expected https: EST is spoken over TLS only (RFC 7030 3.3)", u.Scheme)
	case u.Hostname() == "":
		return "", errors.New("no host, " + wantURL)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", errors.New("holds a query or fragment, " + wantURL)
	case strings.Contains(u.Path, "/.well-known"):
		return "", fmt.Errorf("path %q, expected none of it: %s is appended, and the label is Config.Label", u.Path, wellKnown)
	}
	return u.JoinPath(wellKnown).String(), nil
}

// proxyURL refuses what Transport.Through cannot use. Its errors repeat nothing that
// may hold a password.
func proxyURL(s string) (*url.URL, error) {
	const want = "expected one such as http://proxy.example.org:8080"
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("not a URL, " + want)
	case !slices.Contains([]string{"http", "socks5", "socks5h"}, u.Scheme) || u.Hostname() == "":
		// A scheme that is not known may be a user name before a password.
		return nil, errors.New("not http or socks5 and a host, " + want)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("holds more than a host and port, " + want)
	}
	return u, nil
}

// operations may not be labels, RFC 7030 3.2.2.
var operations = []string{"cacerts", "simpleenroll", "simplereenroll", "fullcmc", "serverkeygen", "csrattrs"}

// checkLabel accepts unreserved characters (RFC 3986 2.3) only: one path segment,
// which no server reads in two ways.
func checkLabel(s string) error {
	const limit = 128
	outside := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~", r))
	}
	switch {
	case len(s) > limit:
		return fmt.Errorf("%d bytes, expected at most %d", len(s), limit)
	case strings.ContainsFunc(s, outside):
		return fmt.Errorf("%q, expected letters, digits, '-', '.', '_' and '~' only", s)
	case strings.Trim(s, ".") == "":
		return fmt.Errorf("%q is a relative path, expected a name", s)
	case slices.Contains(operations, s):
		return fmt.Errorf("%q is an EST operation, expected the name of a profile (RFC 7030 3.2.2)", s)
	}
	return nil
}

// pool copies p, so that the caller's later additions are not trusted unseen.
func pool(p *x509.CertPool) (*x509.CertPool, error) {
	if p == nil {
		return nil, nil
	}
	if p.Equal(x509.NewCertPool()) {
		return nil, errors.New("an empty pool trusts nobody, expected certificates, or nil for")
	}
	return p.Clone(), nil
}
