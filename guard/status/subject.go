package status

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Subject is a certificate with all that lists are asked about it worked out once. It
// is immutable and safe for concurrent use.
type Subject struct {
	issuer  nameKey
	issuers []nameKey // whose lists are asked: the certificate's issuer, and who its points name
	serial  []byte    // the content of its INTEGER
	ca      bool
	ends    time.Time // notAfter
	points  []point   // with the one that each certificate has without naming it
	bad     error     // why its points are not known

	// issuerKey and rootKey are SHA-256 of subject public key infos.
	issuerKey, rootKey [sha256.Size]byte
	issued             bool // they are known
}

// NewSubject prepares a certificate for [Snapshot.Status]: chain[0], with the
// certificate of the CA that issued it after it, and so on to the root, as
// x509.Certificate.Verify returns it. Nothing of the chain is verified here. With
// chain[0] alone lists can be searched, but its status stays unknown. The error is of
// a certificate that has no serial number to be looked up.
//
// Distribution points that cannot be read are no error: the status is then unknown
// and says so, unless a list of the certificate's issuer revokes it.
func NewSubject(chain []*x509.Certificate) (*Subject, error) {
	if len(chain) == 0 || slices.Contains(chain, nil) {
		return nil, errors.New("status: no certificate, wanted it and those above it")
	}
	cert := chain[0]
	if cert.SerialNumber == nil {
		return nil, errors.New("status: the certificate has no serial number")
	}
	serial, err := asn1.Marshal(cert.SerialNumber)
	if err != nil {
		return nil, fmt.Errorf("status: serial number: %w", err)
	}
	r := reader{rest: serial}
	e, err := r.next(tagInteger, "the serial number")
	if err != nil || len(e.body) > maxSerial {
		return nil, fmt.Errorf("status: the certificate's serial number has %d bytes, wanted at most %d", len(e.body), maxSerial)
	}
	s := &Subject{issuer: keyOfName(cert.RawIssuer), serial: e.body, ca: cert.BasicConstraintsValid && cert.IsCA, ends: cert.NotAfter}
	s.points, s.bad = readPoints(cert)
	// RFC 5280 6.3.3, last paragraph: a list that no point names, but of the
	// certificate's issuer.
	s.points = append(s.points, point{names: []nameKey{s.issuer}, reasons: AllReasons})
	s.issuers = []nameKey{s.issuer}
	for _, p := range s.points {
		for _, k := range p.issuers {
			if !slices.Contains(s.issuers, k) {
				s.issuers = append(s.issuers, k)
			}
		}
	}
	if len(chain) > 1 {
		s.issuerKey = sha256.Sum256(chain[1].RawSubjectPublicKeyInfo)
		s.rootKey = sha256.Sum256(chain[len(chain)-1].RawSubjectPublicKeyInfo)
		s.issued = true
	}
	return s, nil
}

// NewSubjects prepares every certificate of a chain but the last, the root, which no
// list is about. The error is as that of NewSubject.
func NewSubjects(chain []*x509.Certificate) ([]*Subject, error) {
	var all []*Subject
	for i := range max(0, len(chain)-1) {
		s, err := NewSubject(chain[i:])
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// ByHTTP returns the certificate as whoever fetches lists over http or https alone sees
// it: by the distribution points that have such a URL, and no others, not even the one
// that goes without saying. ok is false where it has none. The national service does so.
func (s *Subject) ByHTTP() (_ *Subject, ok bool) {
	t := *s
	t.points = nil
	for _, p := range s.points {
		if len(p.urls) > 0 {
			t.points = append(t.points, p)
		}
	}
	return &t, len(t.points) > 0
}

// Err says why the certificate's distribution points cannot be read; nil: they can.
func (s *Subject) Err() error {
	if s.bad == nil {
		return nil
	}
	return fmt.Errorf("status: CRL distribution points: %w", s.bad)
}

// URLs are the http URLs of the certificate's distribution points, each once, in
// their order. https, over which a Refresher fetches nothing, is left out.
func (s *Subject) URLs() []string {
	var all []string
	for _, p := range s.points {
		for _, u := range p.urls {
			if hasPrefix(u, "http:") && !slices.Contains(all, u) {
				all = append(all, u)
			}
		}
	}
	return all
}
