package guard

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

// Revocation is a source of revocation status: lists that are known, fixed or
// refreshed in the background. It answers from memory, waits for nobody, and is
// safe for concurrent use.
type Revocation interface {
	// Prepare makes ready what is asked of chain[0], whose issuer is chain[1], and so on
	// to the root; chain[1:] may be empty, where nobody knows the issuer, and is what
	// signatures tell where there is no valid chain. Prepare must not change the
	// certificates, which are what is judged. It is called seldom; the function that it
	// returns is called for every check, answers by the newest lists, and should allocate
	// nothing where the status is good. The error says why nothing can be asked of the
	// certificate.
	Prepare(chain []*x509.Certificate) (func(at time.Time) RevocationStatus, error)

	// Floor is the newest thisUpdate (RFC 5280 5.1.2.4) of lists that were verified: a
	// clock that shows less is wrong. Zero: there is none.
	Floor() time.Time
}

// RevocationState says what is known of a certificate's revocation.
type RevocationState int

// The states.
const (
	StatusUnknown RevocationState = iota
	StatusGood
	StatusRevoked
)

// RevocationStatus is what lists say of a certificate as of an instant: whether a
// signature made then stands. The zero value is unknown, and covered by no list.
type RevocationStatus struct {
	State RevocationState

	Late    bool // of good: by a list that is past its nextUpdate, but within the grace
	Covered bool // of unknown: a list is about the certificate, but cannot be relied on

	Reason string    // of revoked: as RFC 5280 5.3.1 spells it
	Since  time.Time // of revoked

	// Detail is what it rests on, for those who look after the lists: one sentence
	// without a full stop. It may be empty where the state is good.
	Detail string
}

// path is a chain, from the certificate up, with what is asked of each of its
// certificates but the root.
type path struct {
	names  []string
	status []func(time.Time) RevocationStatus
}

func (g *Guard) newPath(chain []*x509.Certificate) path {
	var p path
	if g.revocation == nil {
		return p
	}
	for i, c := range chain[:max(1, len(chain)-1)] {
		ask, err := g.revocation.Prepare(chain[i:len(chain):len(chain)])
		switch {
		case err != nil:
			cannot := RevocationStatus{Covered: true, Detail: err.Error()}
			ask = func(time.Time) RevocationStatus { return cannot }
		case ask == nil:
			ask = func(time.Time) RevocationStatus { return RevocationStatus{} }
		}
		name := isCertificate
		if i > 0 {
			name = fmt.Sprintf(isCA, nameOf(c.RawSubject, c.Subject))
		}
		p.names, p.status = append(p.names, name), append(p.status, ask)
	}
	return p
}

// reasonOf is what a status comes to; Unspecified: it is good.
func (s *RevocationStatus) reasonOf(ca bool) Reason {
	switch {
	case s.State == StatusRevoked && ca:
		return CARevoked
	case s.State == StatusRevoked:
		return Revoked
	case s.State == StatusGood && !s.Late:
		return Unspecified
	case s.State == StatusGood:
		return RevocationStale
	case s.Covered:
		return RevocationLapsed
	}
	return RevocationUnknown
}

// worst are the reasons of this file, the gravest first.
var worst = [...]Reason{Revoked, CARevoked, RevocationLapsed, RevocationUnknown, RevocationStale, Unspecified}

func gravity(r Reason) int {
	for i, w := range worst {
		if w == r {
			return len(worst) - i
		}
	}
	return len(worst)
}

// gravest is the gravest that is to be said of a path, and whether that is of every
// path: a certificate that is revoked, or a CA whose key is in wrong hands.
func (p *path) gravest(at time.Time) (worst Reason, ofAll bool) {
	for i, ask := range p.status {
		s := ask(at)
		r := s.reasonOf(i > 0)
		if gravity(r) > gravity(worst) {
			worst = r
		}
		ofAll = ofAll || r == Revoked || r == CARevoked && compromised[s.Reason]
	}
	return worst, ofAll
}

// compromised are the reasons (RFC 5280 5.3.1) for which no other certificate of the
// same CA helps: they are of its key.
var compromised = map[string]bool{"keyCompromise": true, "cACompromise": true}

// judgeRevocation asks for the certificate and the CAs above it. Of several chains
// one is enough (RFC 5280 6.1), but what is of every path counts in any.
func judgeRevocation(fs []Finding, s *span, at time.Time) []Finding {
	var best *path
	least := Unspecified
	for i := range s.paths {
		p := &s.paths[i]
		r, ofAll := p.gravest(at)
		if ofAll {
			best, least = p, r
			break
		}
		if best == nil || gravity(r) < gravity(least) {
			best, least = p, r
		}
	}
	if best == nil || least == Unspecified {
		return fs
	}
	return best.findings(fs, at)
}

// findings has one finding for each reason, with all the certificates that it is of.
func (p *path) findings(fs []Finding, at time.Time) []Finding {
	is := map[Reason][]string{}
	for i, ask := range p.status {
		s := ask(at)
		r := s.reasonOf(i > 0)
		says := p.names[i]
		if s.State == StatusRevoked {
			says += fmt.Sprintf(isRevoked, instant(s.Since), s.Reason)
		}
		if s.Detail != "" {
			says += ": " + s.Detail
		}
		is[r] = append(is[r], says)
	}
	for _, r := range worst {
		if r != Unspecified && len(is[r]) > 0 {
			f := finding(r)
			f.Is = strings.Join(is[r], "; ")
			fs = append(fs, f)
		}
	}
	return fs
}
