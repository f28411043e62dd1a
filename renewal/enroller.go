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
// renewal/est implements it for EST; a vendor plugs in another. Package
// renewal/renewaltest tests whether one keeps what is said here.
//
// What it gets. A Transport that authenticates as the card, for the one call: it is
// not kept, nothing uses it after the call has returned, and what was connected
// through it is closed by then. Never a key: the card proves that it holds its new
// key by the signature of Request.CSR, and its authentication key in TLS. The card is
// in the reader and its holder waits, so a call bounds its own waiting (a minute for
// each exchange is long); the ctx that it gets need not have a deadline. A handshake
// can take seconds, and cards that want their passcode for each signature ask for it
// in there: one connection is better than three.
//
// What may be called twice. Enrol is called again with the same Request after a lost
// answer, a crash, a pulled card or a wait: by the same Enroller or by one in another
// process, minutes or weeks later, and once at a time. Request.ID is the idempotency
// key: it and the bytes of Request.CSR are the same in each repetition and in no other
// renewal, Now and the Transport are not. An authority that knows such keys is given
// it; one that does not may issue again, for the same key. A repetition is answered
// with a certificate for the key of the CSR, the earlier one or another, or with a
// wait, and is not refused for being one: Rejected ends the renewal. What an Enroller
// needs for that, it has from the authority, not from its memory.
//
// What it may rely on. The CSR was signed by the card, and its subject is that of the
// certificate that the Transport authenticates with, byte for byte. Whether the
// certificate that comes is the right one, and may sign, is judged again by who calls;
// nothing that an Enroller answers is written to the card unseen.
//
// Errors are an *EnrolError, which says by its kind whether the renewal ends or can be
// gone on with, or ctx's error, for errors.Is. Every other error is taken for one that
// going on may help against. An Enroller does not try again by itself, but for what
// the authority's protocol wants.
//
// It may be a Prober, an Attributer and a Confirmer too, and is then asked as they say.
//
// One Enroller serves the renewals of several cards at once: its methods may be called
// from several goroutines.
type Enroller interface {
	// Enrol asks for a certificate for r.CSR. It changes nothing that r holds. When ctx
	// ends it returns at once, with ctx's error, whatever the authority does; what the
	// authority may have issued by then is for the repetition. With an error the Answer
	// is zero.
	Enrol(ctx context.Context, t *Transport, r Request) (Answer, error)
}

// Prober is an Enroller that can tell whether the authority answers, before the
// card is changed. An Enroller that can should: a card is then not put on hold for an
// authority that is not there.
type Prober interface {
	// Probe asks whether the authority answers now, to this card where that can be
	// asked. It changes nothing there: nothing is requested or issued. It is called for a
	// plan, before anybody entered a passcode, when t has no client authentication: an
	// authority that refuses that, with a TLS alert or with Rejected, has answered. It is
	// called again when the passcode was entered, before the card is changed, and before
	// a card's only pair is given up. Errors and ctx are as those of Enrol.
	Probe(ctx context.Context, t *Transport) error
}

// Request is a certificate request for the card's new signing key.
type Request struct {
	// ID is the idempotency key: of the renewal, 32 hexadecimal digits, the same in each
	// repetition, and of no other renewal. It is random and tells nothing of the card.
	ID string
	// CSR is a PKCS #10 request (RFC 2986) in DER, signed by the new key: with SHA-256 and
	// without attributes, unless the Enroller is an Attributer whose authority wished for
	// something else. The same bytes in each repetition.
	CSR []byte
	// Current is the signing certificate that is renewed; nil where the card no longer
	// shows it. Its key signs nothing.
	Current *x509.Certificate
	// Now is the instant to judge validity at, and to count a wait from, in place of
	// time.Now.
	Now time.Time
}

// Answer is the authority's answer: a certificate, or a time to ask again, and not
// both. What it holds is not changed once it was returned.
type Answer struct {
	// Certificate is for the key and the subject of the CSR, byte for byte; one, in DER;
	// nil while pending.
	Certificate []byte
	// Chain are the CAs above it, DER, the issuing one first; may be empty. It is written
	// to the journal and nobody is trusted because of it.
	Chain [][]byte
	// Pending is the absolute time before which the authority wants no repetition
	// (RFC 7030 4.2.3), after Request.Now; zero when Certificate is there. No Enrol with
	// this Request comes before it.
	Pending time.Time
}

// EnrolKind says what an enrolment failed of.
type EnrolKind int

// The kinds of enrolment error. Only Rejected and WrongCertificate end a renewal, and
// the card is put back as it was; after the others it can be resumed with the same
// Request. In doubt an Enroller takes one of the others: what can be asked again loses
// nothing.
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
// signing key, and the key cannot be taken out. Once the call that it was given to has
// returned, the card no longer authenticates through it.
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
