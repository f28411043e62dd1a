package guard

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// roots are the trusted roots and what may stand between them and a certificate.
type roots struct {
	roots, below *x509.CertPool // nil: none are configured
	top          []configuredCA
	edges        []time.Time // ascending: when a CA begins or ceases to be valid
}

func newRoots(top, below []configuredCA) roots {
	if len(top) == 0 {
		return roots{}
	}
	r := roots{roots: x509.NewCertPool(), below: x509.NewCertPool(), top: top}
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
	paths    []path    // to ask for revocation

	reason       Reason    // why there is no valid chain; Unspecified: there is one
	first, until time.Time // of ChainExpired: when there is one
	unknown      string    // critical extensions of CAs, in words
	is           string    // for the instant that was asked about
}

func (s *span) covers(at time.Time) bool {
	return !at.Before(s.from) && (s.to.IsZero() || at.Before(s.to))
}

const (
	maxSpans = 16 // of one certificate
	maxPaths = 8  // of one span
	maxTries = 64 // of other instants, and of signatures, to tell why there is no chain
)

// chains returns what is known of a certificate's chains at an instant. Whether the
// certificate itself is valid then is the validity check's to say: where it is not,
// its chains are those of the nearest instant at which it is.
func (g *Guard) chains(r *record, c *Certificate, at time.Time) *span {
	near := inside(at, c.info.NotBefore, c.info.NotAfter)
	s := g.span(r, c, near)
	if s.reason == Unspecified {
		return s
	}
	told := *s // crypto/x509 names the instant, so its error is not kept
	_, err := g.roots.verify(c, near)
	told.is = fmt.Sprintf("%s; %v%s", c.is(), err, s.unknown)
	if s.reason == ChainExpired {
		told.is = fmt.Sprintf(isChainElsewhere, told.is, instant(at), instant(s.first), instant(s.until))
	}
	return &told
}

func (g *Guard) span(r *record, c *Certificate, at time.Time) *span {
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
	case from.After(to): // never: the validity check says so
	case at.After(to):
		at = to
	case at.Before(from):
		at = from
	}
	return at
}

func (g *Guard) newSpan(r *record, c *Certificate, at time.Time) *span {
	s := &span{}
	var found [][]*x509.Certificate
	var err error
	if g.roots.roots != nil {
		s.from, s.to = g.roots.around(at)
		found, err = g.roots.verify(c, at)
	}
	if len(found) == 0 { // CAs that signed the certificate can still revoke it
		found = g.signers(r, c)
	}
	if err != nil {
		g.whyNoChain(s, c, found)
	}
	for _, chain := range found[:min(len(found), maxPaths)] {
		s.paths = append(s.paths, g.newPath(chain))
	}
	return s
}

// signers are the chains that signatures make, from the certificate up to a root, or as
// far as there are configured CAs: whether they are valid is not asked.
func (g *Guard) signers(r *record, c *Certificate) (all [][]*x509.Certificate) {
	checks := 0
	var climb func(chain, parents []*x509.Certificate)
	climb = func(chain, parents []*x509.Certificate) {
		ends := true
		for _, ca := range parents {
			if len(all) >= maxPaths {
				return
			}
			same := func(below *x509.Certificate) bool {
				return bytes.Equal(below.RawSubject, ca.RawSubject) && bytes.Equal(below.RawSubjectPublicKeyInfo, ca.RawSubjectPublicKeyInfo)
			}
			if slices.ContainsFunc(chain, same) {
				continue
			}
			ends = false
			if longer := append(slices.Clone(chain), ca); g.roots.has(ca) {
				all = append(all, longer)
			} else {
				climb(longer, g.signersOf(ca, &checks))
			}
		}
		if ends {
			all = append(all, chain)
		}
	}
	climb([]*x509.Certificate{c.x}, r.issuers)
	return all
}

// signersOf are the configured CAs that ca names as its issuer and whose key signed it.
func (g *Guard) signersOf(ca *x509.Certificate, checks *int) (all []*x509.Certificate) {
	for _, above := range g.authorities {
		if *checks == maxTries || !bytes.Equal(above.cert.RawSubject, ca.RawIssuer) {
			continue
		}
		*checks++
		if above.cert.CheckSignature(ca.SignatureAlgorithm, ca.RawTBSCertificate, ca.Signature) == nil {
			all = append(all, above.cert)
		}
	}
	return all
}

func (r *roots) has(ca *x509.Certificate) bool {
	return slices.ContainsFunc(r.top, func(root configuredCA) bool { return root.cert.Equal(ca) })
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
// to it, which no signing certificate has. What other checks say of the certificate
// itself, which are its dates and its critical extensions, is left to them.
func (r *roots) verify(c *Certificate, at time.Time) ([][]*x509.Certificate, error) {
	if at.IsZero() { // which it would take for now
		at = at.Add(1)
	}
	leaf := *c.x
	leaf.NotBefore, leaf.NotAfter, leaf.UnhandledCriticalExtensions = at, at, nil
	found, err := leaf.Verify(x509.VerifyOptions{
		Roots: r.roots, Intermediates: r.below, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	for _, chain := range found {
		chain[0] = c.x
	}
	return found, err
}

// whyNoChain tells a CA that is not valid at the instant, where there is a chain at
// another one, from a chain that breaks a rule and from a CA that nobody knows. The
// errors of crypto/x509 do not: they are about the first candidate that failed.
func (g *Guard) whyNoChain(s *span, c *Certificate, signers [][]*x509.Certificate) {
	var ok bool
	if s.first, s.until, ok = g.validElsewhere(c); ok {
		s.reason = ChainExpired
		return
	}
	s.reason = ChainUntrusted
	for _, chain := range signers {
		if !g.roots.has(chain[len(chain)-1]) {
			continue
		}
		s.reason = ChainInvalid
		for _, ca := range chain[1:] { // RFC 5280 4.2 lets no chain lead through these
			for _, oid := range ca.UnhandledCriticalExtensions {
				says := "; " + fmt.Sprintf(isCriticalOfCA, nameOf(ca.RawSubject, ca.Subject), oid)
				if !strings.Contains(s.unknown, says) {
					s.unknown += says
				}
			}
		}
	}
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

func judgeChain(fs []Finding, s *span) []Finding {
	if s.reason == Unspecified {
		return fs
	}
	f := finding(s.reason)
	f.Is = s.is
	return append(fs, f)
}
