package renewaltest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rxguard/rxguard/renewal"
)

// suite is one test of an Enroller.
type suite struct {
	c       Config
	subject []byte // of each request, DER
	made    renewal.Enroller
	keys    func(bits int) (*rsa.PrivateKey, error)

	learnt sync.Once
	wishes renewal.Attributes // of an Attributer

	mu   sync.Mutex
	late []string // calls after whose end their Transport was used
}

func generate(bits int) (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) }

func newSuite(c Config, keys func(bits int) (*rsa.PrivateKey, error)) (*suite, error) {
	switch {
	case c.New == nil:
		return nil, errors.New("renewaltest: Config.New is missing; wanted what makes the Enroller")
	case c.At == nil:
		return nil, errors.New("renewaltest: Config.At is missing; wanted what makes the Enroller for another address")
	case c.Transport == nil:
		return nil, errors.New("renewaltest: Config.Transport is missing; renewal.SoftwareTransport makes one")
	case c.Patience < 0:
		return nil, fmt.Errorf("renewaltest: Config.Patience is %s; wanted 0 or more", c.Patience)
	case c.Patience == 0:
		c.Patience = time.Minute
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &suite{c: c, keys: keys}
	t := c.Transport(c.Now)
	switch {
	case t == nil:
		return nil, errors.New("renewaltest: Config.Transport made none")
	case t.AuthenticatesAs() != nil:
		s.subject = t.AuthenticatesAs().RawSubject
	case c.Current != nil:
		s.subject = c.Current.RawSubject
	default:
		return nil, errors.New("renewaltest: the Transport has no certificate and Config.Current is missing; wanted one of them, for the subject of the requests")
	}
	e, err := s.enroller()
	if err != nil {
		return nil, err
	}
	s.made = e
	return s, nil
}

// enroller is another process's.
func (s *suite) enroller() (renewal.Enroller, error) {
	e, err := s.c.New()
	if err == nil && e == nil {
		err = errors.New("no Enroller")
	}
	if err != nil {
		return nil, fmt.Errorf("renewaltest: Config.New: %w", err)
	}
	return e, nil
}

func (s *suite) whyNot(p sentence) string {
	if p.applies == nil {
		return ""
	}
	return p.applies(s)
}

func isProber(s *suite) string {
	if _, ok := s.made.(renewal.Prober); !ok {
		return "the Enroller is no renewal.Prober"
	}
	return ""
}

func isConfirmer(s *suite) string {
	if _, ok := s.made.(renewal.Confirmer); !ok {
		return "the Enroller is no renewal.Confirmer"
	}
	return ""
}

// issued counts the authority's certificates; always 0 where nobody counts.
func (s *suite) issued() int {
	if s.c.Issued == nil {
		return 0
	}
	return s.c.Issued()
}

// order is a renewal's request, with the key that a card would hold.
type order struct {
	key *rsa.PrivateKey
	csr []byte
	id  string
	now time.Time
	old *x509.Certificate
}

// order makes a request as package renewal does.
func (s *suite) order() (*order, error) {
	w := s.wished()
	key, err := s.keys(w.KeyBits)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		RawSubject: s.subject, SignatureAlgorithm: w.Signature, ExtraExtensions: w.Extensions,
	}, key)
	if err != nil {
		return nil, err
	}
	var id [16]byte
	rand.Read(id[:])
	return &order{key, csr, hex.EncodeToString(id[:]), s.c.Now(), s.c.Current}, nil
}

// request is what the Enroller gets, and may not change: each time its own copy.
func (o *order) request() renewal.Request {
	return renewal.Request{ID: o.id, CSR: bytes.Clone(o.csr), Current: o.old, Now: o.now}
}

// call is one call of a method, with a Transport of its own.
type call struct {
	what string
	// handshake is called when the Transport is used: each time that TLS asks for the
	// time, to judge a server's certificate. May be nil.
	handshake func()
	// ends says that ctx ends in the call: a handshake of crypto/tls may then still be
	// under way when it has returned.
	ends bool
}

// do calls f and waits for it as long as patience lets it. A panic is an error.
func (s *suite) do(ctx context.Context, c call, f func(context.Context, *renewal.Transport) error) error {
	var mu sync.Mutex
	returned := false
	t := s.c.Transport(func() time.Time {
		mu.Lock()
		over := returned
		mu.Unlock()
		switch {
		case over && !c.ends:
			s.mu.Lock()
			s.late = append(s.late, c.what)
			s.mu.Unlock()
		case !over && c.handshake != nil:
			c.handshake()
		}
		return s.c.Now()
	})
	end := make(chan error, 1)
	go func() {
		defer func() {
			if fault := recover(); fault != nil {
				end <- &fatal{fmt.Sprintf("%s panicked: %v\n%s", c.what, fault, debug.Stack())}
			}
		}()
		err := f(ctx, t)
		mu.Lock()
		returned = true
		mu.Unlock()
		end <- err
	}()
	late := time.NewTimer(s.c.Patience)
	defer late.Stop()
	select {
	case err := <-end:
		return err
	case <-late.C:
		return &fatal{fmt.Sprintf("%s did not return within %s", c.what, s.c.Patience)}
	}
}

// fatal is the error of a call that did not end as a call does.
type fatal struct{ text string }

func (f *fatal) Error() string { return f.text }

// enrol calls Enrol and holds its answer or error against the contract. A certificate
// is nil for a wait.
func (s *suite) enrol(ctx context.Context, e renewal.Enroller, o *order, c call) (renewal.Answer, error) {
	var a renewal.Answer
	q := o.request()
	err := s.do(ctx, c, func(ctx context.Context, t *renewal.Transport) (err error) {
		a, err = e.Enrol(ctx, t, q)
		return err
	})
	if f := (*fatal)(nil); errors.As(err, &f) {
		return renewal.Answer{}, err // it may still be under way
	}
	if !bytes.Equal(q.CSR, o.csr) {
		return renewal.Answer{}, fmt.Errorf("%s changed Request.CSR", c.what)
	}
	if err != nil {
		if a.Certificate != nil || a.Chain != nil || !a.Pending.IsZero() {
			return renewal.Answer{}, fmt.Errorf("%s gave an Answer beside its error; wanted a zero one; the error: %v", c.what, err)
		}
		return renewal.Answer{}, err
	}
	if err := o.fits(a); err != nil {
		return renewal.Answer{}, fmt.Errorf("%s: %w", c.what, err)
	}
	return a, nil
}

// must is enrol where an error is not right.
func (s *suite) must(ctx context.Context, e renewal.Enroller, o *order, what string) (renewal.Answer, error) {
	a, err := s.enrol(ctx, e, o, call{what: what})
	if known := new(renewal.EnrolError); errors.As(err, &known) {
		return a, fmt.Errorf("%s failed; wanted a certificate or a wait: %w", what, err)
	}
	return a, err
}

// fits tells whether an answer is one to the order.
func (o *order) fits(a renewal.Answer) error {
	switch {
	case len(a.Certificate) == 0 && a.Pending.IsZero():
		return errors.New("neither a certificate nor a wait; wanted one of them, or an error")
	case len(a.Certificate) > 0 && !a.Pending.IsZero():
		return errors.New("a certificate and a wait; wanted one of them")
	case len(a.Certificate) == 0 && !a.Pending.After(o.now):
		return fmt.Errorf("a wait until %s; wanted an instant after Request.Now, %s", stamp(a.Pending), stamp(o.now))
	case len(a.Certificate) == 0:
		return nil
	}
	leaf, err := parse(a.Certificate)
	if err != nil {
		return fmt.Errorf("Answer.Certificate is not one certificate in DER: %w", err)
	}
	key, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !key.Equal(&o.key.PublicKey) {
		return fmt.Errorf("the certificate %x is for another key than the request's", leaf.SerialNumber)
	}
	if subject := parsedSubject(o.csr); !bytes.Equal(leaf.RawSubject, subject) {
		return fmt.Errorf("the certificate's subject is %s; wanted that of the request, byte for byte", leaf.Subject)
	}
	for i, der := range a.Chain {
		ca, err := parse(der)
		if err != nil {
			return fmt.Errorf("Answer.Chain[%d] is not one certificate in DER: %w", i, err)
		}
		if i > 0 {
			continue
		}
		if err := leaf.CheckSignatureFrom(ca); err != nil {
			return fmt.Errorf("Answer.Chain[0] is %s, which did not issue the certificate; wanted the issuing CA first: %w", ca.Subject, err)
		}
	}
	return nil
}

func parse(der []byte) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err == nil && !bytes.Equal(c.Raw, der) {
		err = errors.New("there is more than the certificate")
	}
	return c, err
}

func parsedSubject(csr []byte) []byte {
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil
	}
	return r.RawSubject
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
