package guard

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// roots are the trusted roots and what may stand between them and a certificate.
type roots struct {
	roots, below *x509.CertPool // nil: none are configured
	edges        []time.Time    // ascending: when a CA begins or ceases to be valid
}

func newRoots(top, below []configuredCA) roots {
	if len(top) == 0 {
		return roots{}
	}
	r := roots{roots: x509.NewCertPool(), below: x509.NewCertPool()}
	for _, ca := range top {
		r.roots.AddCert(ca.cert)
	}
	for _, ca := range below {
		r.below.AddCert(ca.cert)
	}
	for _, ca := range append(slices.Clone(top), below...) {
		// RFC 5280 4.1.2.5 includes both ends.
		r.edges = append(r.edges, ca.cert.NotBefore, ca.cert.NotAfter.Add(1))
	}
	slices.SortFunc(r.edges, time.Time.Compare)
	r.edges = slices.CompactFunc(r.edges, time.Time.Equal)
	return r
}

// span is what is known of a certificate's chains from one instant until before
// another: between two edges crypto/x509 gives the same answer.
type span struct {
	from, to time.Time // zero: open
	reason   Reason    // why there is no valid chain; Unspecified: there is one
	is       string
	paths    []path // to ask for revocation
}

func (s *span) covers(at time.Time) bool {
	return !at.Before(s.from) && (s.to.IsZero() || at.Before(s.to))
}

const (
	maxSpans = 16 // of one certificate
	maxPaths = 8  // of one span
	maxTries = 64 // of other instants, to tell an expired CA from an unknown one
)

// chains returns what is known of a certificate's chains at an instant. Whether the
// certificate itself is valid then is the validity check's to say: where it is not,
// its chains are those of the nearest instant at which it is.
func (g *Guard) chains(r *record, c *Certificate, at time.Time) *span {
	at = inside(at, c.info.NotBefore, c.info.NotAfter)
	known := r.spans.Load()
	if known != nil {
		for _, s := range *known {
			if s.covers(at) {
				return s
			}
		}
	}
	s := g.newSpan(r, c, at)
	all := []*span{s}
	if known != nil && len(*known) < maxSpans {
		all = append(all, *known...)
	}
	r.spans.Store(&all) // one that another goroutine stores meanwhile is lost, and made again
	return s
}

func inside(at, from, to time.Time) time.Time {
	switch {
	case at.After(to):
		at = to
	case at.Before(from):
		at = from
	}
	if at.IsZero() { // crypto/x509 would take it for now
		at = at.Add(1)
	}
	return at
}

func (g *Guard) newSpan(r *record, c *Certificate, at time.Time) *span {
	s := &span{}
	var found [][]*x509.Certificate
	if g.roots.roots != nil {
		s.from, s.to = g.roots.around(at)
		var err error
		if found, err = g.roots.verify(c, at); err != nil {
			s.reason, s.is = g.whyNoChain(c, at, err)
		}
	}
	if len(found) == 0 { // a CA that signed the certificate can still revoke it
		for _, ca := range r.issuers {
			found = append(found, []*x509.Certificate{c.x, ca})
		}
	}
	if len(found) == 0 {
		found = [][]*x509.Certificate{{c.x}}
	}
	for _, chain := range found[:min(len(found), maxPaths)] {
		s.paths = append(s.paths, g.newPath(chain))
	}
	return s
}

// around returns the edges on both sides of an instant.
func (r *roots) around(at time.Time) (from, to time.Time) {
	i, at1 := slices.BinarySearchFunc(r.edges, at, time.Time.Compare)
	if at1 {
		i++
	}
	if i > 0 {
		from = r.edges[i-1]
	}
	if i < len(r.edges) {
		to = r.edges[i]
	}
	return from, to
}

// verify asks crypto/x509 alone (RFC 5280 6.1). Empty KeyUsages would mean ServerAuth
// to it, which no signing certificate has.
func (r *roots) verify(c *Certificate, at time.Time) ([][]*x509.Certificate, error) {
	leaf := *c.x
	leaf.UnhandledCriticalExtensions = nil // the profile check says which
	return leaf.Verify(x509.VerifyOptions{
		Roots: r.roots, Intermediates: r.below, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
}

// whyNoChain tells a CA that is not valid at the instant, where there is a chain at
// another one, from a CA that nobody knows and from a chain that breaks a rule.
func (g *Guard) whyNoChain(c *Certificate, at time.Time, err error) (Reason, string) {
	is := c.is() + "; " + err.Error()
	if from, to, ok := g.validElsewhere(c); ok {
		return ChainExpired, fmt.Sprintf(isChainElsewhere, is, instant(at), instant(from), instant(to))
	}
	if unknown := g.unknownCritical(c.x); len(unknown) > 0 {
		return ChainInvalid, is + "; " + strings.Join(unknown, "; ")
	}
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority), errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return ChainUntrusted, is
	}
	return ChainInvalid, is
}

// validElsewhere looks for another instant in the certificate's life at which it has
// a chain, and returns from when until when that is so.
func (g *Guard) validElsewhere(c *Certificate) (from, to time.Time, ok bool) {
	tries := 0
	for _, edge := range append([]time.Time{c.info.NotBefore}, g.roots.edges...) {
		if edge.Before(c.info.NotBefore) || edge.After(c.info.NotAfter) {
			continue
		}
		if tries++; tries > maxTries {
			break
		}
		if _, err := g.roots.verify(c, edge); err != nil {
			continue
		}
		from, to = g.roots.around(edge)
		if from.Before(c.info.NotBefore) {
			from = c.info.NotBefore
		}
		if to.IsZero() || to.After(c.info.NotAfter) {
			to = c.info.NotAfter
		}
		return from, to, true
	}
	return from, to, false
}

// unknownCritical names the critical extensions that crypto/x509 does not know of the
// CAs above a certificate, by name: RFC 5280 4.2 lets no chain lead through them.
func (g *Guard) unknownCritical(below *x509.Certificate) (all []string) {
	wanted := [][]byte{below.RawIssuer}
	for i := 0; i < len(wanted) && i < maxTries; i++ {
		for _, ca := range g.authorities {
			if string(ca.cert.RawSubject) != string(wanted[i]) {
				continue
			}
			for _, oid := range ca.cert.UnhandledCriticalExtensions {
				all = append(all, fmt.Sprintf(isCriticalOfCA, nameOf(ca.cert.RawSubject, ca.cert.Subject), oid))
			}
			if !slices.ContainsFunc(wanted, func(n []byte) bool { return string(n) == string(ca.cert.RawIssuer) }) {
				wanted = append(wanted, ca.cert.RawIssuer)
			}
		}
	}
	return all
}

func judgeChain(fs []Finding, s *span) []Finding {
	if s.reason == Unspecified {
		return fs
	}
	f := finding(s.reason)
	f.Is = s.is
	return append(fs, f)
}
