package renewal

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Enroller is the channel to the authority that issues certificates. Package
// renewal/est implements it for EST; a vendor plugs in another.
//
// Enrol may be called again with the same Request, after a lost answer, a crash
// or a 202: Request.ID and the bytes of Request.CSR stay the same, so that the
// authority can tell a repetition. It must not keep the Transport after it
// returns.
type Enroller interface {
	// Enrol asks for a certificate. Errors are an *EnrolError, or ctx's.
	Enrol(ctx context.Context, t *Transport, r Request) (Answer, error)
}

// Prober is an Enroller that can tell whether the authority answers, before the
// card is changed. Probe changes nothing. It is called first for the plan, when t has
// no client authentication, and again when the passcode was entered. Its errors are
// those of Enrol.
type Prober interface {
	Probe(ctx context.Context, t *Transport) error
}

// Request is a certificate request for the card's new signing key.
type Request struct {
	ID  string // of the renewal; the same for each repetition
	CSR []byte // PKCS #10 (RFC 2986), DER, signed by the new key
	// Current is the signing certificate that is renewed.
	Current *x509.Certificate
	// Now is the instant to judge validity at.
	Now time.Time
}

// Answer is the authority's answer: a certificate, or a time to ask again.
type Answer struct {
	Certificate []byte   // DER; nil while pending
	Chain       [][]byte // DER, issuing CA first; may be empty
	// Pending is the absolute time before which the authority wants no repetition
	// (RFC 7030 4.2.3); zero when Certificate is there.
	Pending time.Time
}

// EnrolKind says what an enrolment failed of.
type EnrolKind int

// The kinds of enrolment error. Only Rejected and WrongCertificate end a renewal;
// after the others it can be resumed.
const (
	Unreachable      EnrolKind = iota + 1 // no answer: network, TLS, timeout
	Unavailable                           // the authority answers that it cannot now: 5xx, 429
	Rejected                              // the authority says no: 4xx
	Malformed                             // what came is not an enrolment answer
	WrongCertificate                      // the certificate is not the one asked for
)

var enrolText = map[EnrolKind]string{
	Unreachable:      "the enrolment server cannot be reached",
	Unavailable:      "the enrolment server cannot issue certificates now",
	Rejected:         "the enrolment server refused the request",
	Malformed:        "the enrolment server's answer is not an enrolment answer",
	WrongCertificate: "the enrolment server issued a certificate that was not asked for",
}

// EnrolError is a failed enrolment.
type EnrolError struct {
	Kind   EnrolKind
	Status int    // HTTP status; 0: none
	Detail string // names the thing: the URL, what was found, what was wanted
	Err    error
}

// Error says what failed, with its detail and status.
func (e *EnrolError) Error() string {
	s := "renewal: " + enrolText[e.Kind]
	if e.Status != 0 {
		s += fmt.Sprintf(" (HTTP %d)", e.Status)
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *EnrolError) Unwrap() error { return e.Err }

// Transport lets an Enroller speak TLS as the card: client authentication is made
// by the card's authentication key inside it (RFC 8446 4.4.2), never by the
// signing key, and the key cannot be taken out.
type Transport struct {
	certificate *tls.Certificate // its PrivateKey is the card's; nil: no client authentication
	maxVersion  uint16
	now         func() time.Time
	proxy       *url.URL // nil: as the environment says
}

// Client returns an HTTP client that trusts the given roots for the server (nil:
// the system's), refuses plain http and redirects, and authenticates as the card
// where the server asks.
func (t *Transport) Client(roots *x509.CertPool) *http.Client {
	cfg := &tls.Config{
		RootCAs:    roots,
		MinVersion: tls.VersionTLS12,
		MaxVersion: t.maxVersion,
		Time:       t.now,
	}
	if t.certificate != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return t.certificate, nil
		}
	}
	return &http.Client{
		Transport: &roundTripper{&http.Transport{
			Proxy:                  t.via,
			OnProxyConnectResponse: connected,
			TLSClientConfig:        cfg,
			TLSHandshakeTimeout:    time.Minute, // a card signs in the middle of it
			ResponseHeaderTimeout:  time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives:      true, // the card's session ends with the renewal
			DisableCompression:     true,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// AuthenticatesAs returns the certificate that the card authenticates with; nil
// without client authentication.
func (t *Transport) AuthenticatesAs() *x509.Certificate {
	if t == nil || t.certificate == nil {
		return nil
	}
	return t.certificate.Leaf
}

// roundTripper hides the http.Transport, whose TLS configuration would lead to the
// card's key.
type roundTripper struct{ t *http.Transport }

func (r *roundTripper) RoundTrip(q *http.Request) (*http.Response, error) {
	if q.URL.Scheme != "https" {
		return nil, errors.New("renewal: the card authenticates over https only, not " + q.URL.Scheme)
	}
	resp, err := r.t.RoundTrip(q)
	if err != nil {
		if u, perr := r.t.Proxy(q); perr == nil && u != nil {
			err = fmt.Errorf("through the proxy %s: %w", nameOf(u), err)
		}
	}
	return resp, err
}

// SoftwareTransport is a Transport without a card, for tests of an Enroller: it
// authenticates with a key held in memory, or not at all when certificate is nil.
func SoftwareTransport(certificate *tls.Certificate, now func() time.Time) *Transport {
	return &Transport{certificate: certificate, now: now}
}
