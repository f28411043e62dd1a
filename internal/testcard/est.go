package testcard

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"mime"
	"net"
	"net/http"
	"path"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.mozilla.org/pkcs7"
)

// SigningESTLabel is the EST label (RFC 7030 3.2.2) under which the server issues
// the signing profile; without a label it issues the authentication profile.
const SigningESTLabel = "signing"

const maxRequest = 64 << 10 // bytes of a request's body

// ServerConfig says how an enrolment server works. CA must be set.
type ServerConfig struct {
	CA *CA
	// Chain puts the issuing certificate into answers to enrolment too, which
	// RFC 7030 4.2.3 does not want but servers do.
	Chain bool
	// Attributes are what requests should carry: CsrAttrs in DER (RFC 7030 4.5.2), sent
	// by csrattrs; nil: none, which is 404.
	Attributes []byte
	// User and Password let simpleenroll in over HTTP (RFC 7030 3.2.3), as for a first
	// certificate; with an empty Password nobody gets in so.
	User, Password string
}

// Server is a test enrolment server: EST (RFC 7030, RFC 8951) over TLS on
// loopback. It enrols whoever proves by TLS client authentication to hold one of
// the CA's authentication certificates, valid by the CA's clock, and asks for the
// same subject. Its own certificate is valid at every instant of 2000 to 2099.
type Server struct {
	cfg      ServerConfig
	listener net.Listener
	http     *http.Server
	done     chan struct{}

	mu       sync.Mutex
	script   Script
	requests []Request
	count    map[bool]int // enrolment requests and others
	issued   []Issuance
}

// Request is one request that arrived.
type Request struct {
	Operation string // "cacerts", "csrattrs", "simpleenroll", "simplereenroll": the path's last element
	Path      string
	Header    http.Header
	Body      []byte
	Client    *x509.Certificate // of TLS client authentication; nil without
	TLS       uint16            // version
}

// Issuance is one certificate that the server issued.
type Issuance struct {
	Certificate *x509.Certificate
	Profile     Profile
	Request     []byte            // PKCS #10, DER
	Client      *x509.Certificate // who asked; nil: who knew the password
}

// NewServer starts a server on a free port of 127.0.0.1. Close ends it.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.CA == nil {
		return nil, errors.New("testcard: enrolment server: no CA, expected one")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("testcard: enrolment server: %w", err)
	}
	cert, err := cfg.CA.Issue(TLSServer, key.Public(), IssueOptions{Subject: Subject("localhost"), NotBefore: always, NotAfter: end})
	if err != nil {
		return nil, err
	}
	clients := cfg.CA.Roots()
	clients.AddCert(cfg.CA.issuing)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw, cfg.CA.issuing.Raw}, PrivateKey: key}},
		// The certificate is judged by the CA's clock, in authenticate; crypto/tls
		// would use the machine's.
		ClientAuth: tls.RequestClientCert,
		ClientCAs:  clients,
		NextProtos: []string{"http/1.1"},
		// Some clients read an answer in no more than two pieces.
		DynamicRecordSizingDisabled: true,
	})
	if err != nil {
		return nil, fmt.Errorf("testcard: enrolment server: %w", err)
	}
	s := &Server{cfg: cfg, listener: l, done: make(chan struct{}), count: map[bool]int{}}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // refused handshakes are what tests are about
	}
	go func() {
		defer close(s.done)
		s.http.Serve(l)
	}()
	return s, nil
}

// URL is the server's base: https, 127.0.0.1 and the port, without path.
func (s *Server) URL() string { return "https://" + s.listener.Addr().String() }

// Roots holds what a client trusts: the CA's root.
func (s *Server) Roots() *x509.CertPool { return s.cfg.CA.Roots() }

// Close stops the server and its connections.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.done
	return err
}

// Requests lists what arrived, oldest first: at least the newest 256.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Issued lists what was issued, oldest first, whether or not the answer arrived:
// at least the newest 256.
func (s *Server) Issued() []Issuance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.issued)
}

// refusal is an answer with a status of 4xx and a short reason.
type refusal struct {
	status int
	reason string
}

func (r *refusal) Error() string { return r.reason }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		http.Error(w, fmt.Sprintf("request longer than %d bytes, or cut off", maxRequest), http.StatusRequestEntityTooLarge)
		return
	}
	reply := s.note(r, body)
	if reply != nil && reply.Status != 0 {
		reply.write(w)
		return
	}
	answer, header := []byte(nil), certsOnlyHeader()
	if err = s.route(r); err == nil {
		switch operation(r) {
		case "cacerts":
			answer, err = certsOnly(s.cfg.CA.root.Raw, s.cfg.CA.issuing.Raw)
		case "csrattrs":
			header = http.Header{"Content-Type": {"application/csrattrs"}, "Content-Transfer-Encoding": {"base64"}}
			answer = base64.StdEncoding.AppendEncode(nil, s.cfg.Attributes)
		default:
			answer, err = s.enrol(r, body, reply)
		}
	}
	if err != nil {
		status := http.StatusInternalServerError
		var known *refusal
		if errors.As(err, &known) {
			status = known.status
		}
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Basic realm="enrolment"`)
		}
		http.Error(w, err.Error(), status)
		return
	}
	if reply != nil && reply.Lost {
		panic(http.ErrAbortHandler) // closes the connection without an answer
	}
	(&Reply{Status: http.StatusOK, Header: reply.over(header), Body: answer}).write(w)
}

func operation(r *http.Request) string { return path.Base(r.URL.Path) }

func enrols(op string) bool { return op == "simpleenroll" || op == "simplereenroll" }

// note records a request and asks the script.
func (s *Server) note(r *http.Request, body []byte) *Reply {
	q := Request{Operation: operation(r), Path: r.URL.Path, Header: r.Header.Clone(), Body: body, TLS: r.TLS.Version}
	if len(r.TLS.PeerCertificates) > 0 {
		q.Client = r.TLS.PeerCertificates[0]
	}
	s.mu.Lock()
	s.requests = newest(append(s.requests, q), keptRequests)
	class := enrols(q.Operation)
	s.count[class]++
	n, script := s.count[class], s.script
	s.mu.Unlock()
	if script == nil {
		return nil
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return script(r, n)
}

// route refuses what is not one of the server's paths (RFC 7030 3.2.2).
func (s *Server) route(r *http.Request) error {
	op, method := operation(r), http.MethodPost
	if op == "cacerts" || op == "csrattrs" && s.cfg.Attributes != nil {
		method = http.MethodGet
	} else if !enrols(op) {
		return refuse(http.StatusNotFound, "no operation %q, expected cacerts, simpleenroll or simplereenroll", op)
	}
	if _, err := profileOf(r); err != nil {
		return err
	}
	if r.Method != method {
		return refuse(http.StatusMethodNotAllowed, "method %s, expected %s", r.Method, method)
	}
	return nil
}

func profileOf(r *http.Request) (Profile, error) {
	switch path.Dir(r.URL.Path) {
	case "/.well-known/est":
		return Authentication, nil
	case "/.well-known/est/" + SigningESTLabel:
		return Signing, nil
	}
	return 0, refuse(http.StatusNotFound, "no path %q, expected /.well-known/est/ with the label %q or none", r.URL.Path, SigningESTLabel)
}

// enrol answers simpleenroll and simplereenroll, RFC 7030 4.2.
func (s *Server) enrol(r *http.Request, body []byte, reply *Reply) ([]byte, error) {
	client, err := s.authenticate(r)
	if err != nil {
		return nil, err
	}
	if r.ContentLength < 0 {
		return nil, refuse(http.StatusLengthRequired, "no Content-Length")
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/pkcs10" {
		return nil, refuse(http.StatusUnsupportedMediaType, "Content-Type %q, expected application/pkcs10", r.Header.Get("Content-Type"))
	}
	csr, err := parseRequest(body)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	// RFC 7030 4.2.2 demands it of simplereenroll. Of simpleenroll this server
	// demands it too: it enrols further keys of people it knows by their certificate.
	if client != nil && !bytes.Equal(csr.RawSubject, client.RawSubject) {
		return nil, refuse(http.StatusForbidden, "the request's subject %q is not the client certificate's %q", csr.Subject, client.Subject)
	}
	profile, err := profileOf(r)
	if err != nil {
		return nil, err
	}
	order := Order{CA: s.cfg.CA, Profile: profile, Public: csr.PublicKey, Options: IssueOptions{RawSubject: csr.RawSubject}}
	if reply != nil && reply.Alter != nil {
		if err := reply.Alter(&order); err != nil {
			return nil, err
		}
	}
	cert, err := order.CA.Issue(order.Profile, order.Public, order.Options)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.issued = newest(append(s.issued, Issuance{Certificate: cert, Profile: order.Profile, Request: csr.Raw, Client: client}), keptRequests)
	s.mu.Unlock()
	if s.cfg.Chain {
		return certsOnly(cert.Raw, order.CA.issuing.Raw)
	}
	return certsOnly(cert.Raw)
}

// authenticate judges the client certificate by the CA's clock, RFC 7030 3.3.2; nil
// without an error is who knows the password.
func (s *Server) authenticate(r *http.Request) (*x509.Certificate, error) {
	state := r.TLS
	if len(state.PeerCertificates) == 0 && operation(r) == "simpleenroll" && s.cfg.Password != "" {
		if user, password, _ := r.BasicAuth(); user != s.cfg.User || password != s.cfg.Password {
			return nil, refuse(http.StatusUnauthorized, "no TLS client certificate, and not the user and password")
		}
		return nil, nil
	}
	if len(state.PeerCertificates) == 0 {
		return nil, refuse(http.StatusForbidden, "no TLS client certificate, expected an authentication certificate")
	}
	leaf, intermediates := state.PeerCertificates[0], x509.NewCertPool()
	intermediates.AddCert(s.cfg.CA.issuing)
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: s.cfg.CA.Roots(), Intermediates: intermediates, CurrentTime: s.cfg.CA.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return nil, refuse(http.StatusForbidden, "client certificate: %v", err)
	}
	// A certificate without any EKU passes Verify.
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, refuse(http.StatusForbidden, "client certificate is not for TLS client authentication")
	}
	return leaf, nil
}

// parseRequest reads base64 in lines or on one (RFC 8951 3.1) of a PKCS #10
// request that proves possession of an acceptable key.
func parseRequest(body []byte) (*x509.CertificateRequest, error) {
	if len(body) > maxRequest {
		return nil, fmt.Errorf("request longer than %d bytes", maxRequest)
	}
	text := slices.DeleteFunc(bytes.Clone(body), func(b byte) bool { return b == ' ' || b == '\t' || b == '\r' || b == '\n' })
	der, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil {
		return nil, errors.New("the request is not base64")
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("the request is not PKCS #10: %w", err)
	}
	if err := usable(csr.PublicKey); err != nil {
		return nil, fmt.Errorf("the request's key: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the request's signature: %w", err)
	}
	if len(csr.DNSNames)+len(csr.EmailAddresses)+len(csr.IPAddresses)+len(csr.URIs) > 0 {
		return nil, errors.New("the request names a subjectAltName, expected none")
	}
	return csr, nil
}

// certsOnly makes a degenerate SignedData (RFC 7030 4.1.3) in base64 on one line.
func certsOnly(certs ...[]byte) ([]byte, error) {
	der, err := pkcs7.DegenerateCertificate(slices.Concat(certs...))
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.AppendEncode(nil, der), nil
}

func certsOnlyHeader() http.Header {
	return http.Header{
		"Content-Type":              {"application/pkcs7-mime; smime-type=certs-only"},
		"Content-Transfer-Encoding": {"base64"},
	}
}

// write sends the reply with its Content-Length.
func (p *Reply) write(w http.ResponseWriter) {
	for k, v := range p.Header {
		w.Header()[http.CanonicalHeaderKey(k)] = v
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(p.Body)))
	w.WriteHeader(p.Status)
	w.Write(p.Body)
}
