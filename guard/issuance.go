package guard

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"time"

	"github.com/rxguard/rxguard/guard/advisory"
)

// judgeIssuance asks every advisory of the set whether the certificate is in its
// population, and what the advisory does at the instant.
func (g *Guard) judgeIssuance(fs []Finding, set *advisory.Set, c *Certificate, at time.Time) []Finding {
	facts := c.facts
	if len(g.issuers) > 0 {
		keys := g.issuerKeys(c)
		facts.IssuerSPKI, facts.NotIssuerSPKI = keys.by, keys.notBy
		facts.IssuerKnown = len(keys.by) > 0
	}
	for i := range set.Len() {
		a := set.At(i)
		m := a.Judge(&facts)
		if m.In == advisory.No && !m.Fixed {
			continue // nearly always, so it is asked before the dates are
		}
		phase := a.At(at)
		if r, speaks := issuanceReason(phase, m); speaks {
			fs = append(fs, issuanceFinding(r, a, phase, m, c, at))
		}
	}
	return fs
}

// issuanceReason is what an advisory has to say of a certificate, if anything.
func issuanceReason(phase advisory.Phase, m advisory.Membership) (r Reason, speaks bool) {
	enforceable := phase == advisory.Enforced || phase == advisory.Announced
	switch {
	case phase == advisory.Silent:
		return Unspecified, false
	case m.In == advisory.No:
		return AffectedFixed, m.Fixed && enforceable
	case m.In == advisory.Unknown:
		return AffectedUndecidable, enforceable // else it refuses nobody, whatever the answer
	case phase == advisory.Ended:
		return AffectedEnded, true
	case phase == advisory.Observed:
		return AffectedShadow, true
	case phase == advisory.Announced:
		return AffectedSoon, true
	}
	return Affected, true
}

func issuanceFinding(r Reason, a *advisory.Advisory, phase advisory.Phase, m advisory.Membership, c *Certificate, at time.Time) Finding {
	f := finding(r)
	f.Is = c.is()
	f.Advisory = &AdvisoryRef{
		ID: a.ID, Revision: a.Revision, Title: a.Title, State: a.State, Basis: a.Basis, Note: a.BasisNote,
		CardMayAuthenticate: a.CardMayAuthenticate, EndedAt: a.EndedAt,
	}
	if m.Clause >= 0 {
		if w := a.Match[m.Clause].NotBefore; w != nil {
			f.Advisory.From, f.Advisory.To = w.From, w.To
		}
	}
	if len(a.References) > 0 {
		f.Link = a.References[0]
	}
	switch r {
	case Affected, AffectedSoon:
		// Only these tell what to do: the message and the remedies of an ended
		// advisory still ask for what is no longer wanted.
		f.Text += " " + a.Message
		f.Wanted += windowText(f.Advisory.From, f.Advisory.To)
		f.Remedies = remedies(r, a, at)
		f.By = a.RenewBy
	case AffectedUndecidable:
		f.Is += "; not known: " + m.NotKnown
	}
	if phase == advisory.Announced && r != AffectedFixed {
		f.By = a.EnforcedFrom()
		if r == AffectedUndecidable { // a yes would do no more than warn
			f.Effect, f.Text = DecisionWarned, undecidableYet
		}
	}
	return f
}

func windowText(from, to time.Time) string {
	switch {
	case from.IsZero():
		return ""
	case to.IsZero():
		return ": affected are those issued from " + instant(from) + " on"
	}
	return ": affected are those issued from " + instant(from) + " and before " + instant(to)
}

// remedies gives the advisory's own in their order. Once renew_by has passed, or
// where the card may not ask for its own renewal, the Registration Authority comes
// first. A refusal stops work, so it always names paper.
func remedies(r Reason, a *advisory.Advisory, at time.Time) []advisory.Remedy {
	late := !a.RenewBy.IsZero() && !at.Before(a.RenewBy)
	toRAFirst := late || !a.CardMayAuthenticate
	addPaper := r == Affected && !slices.ContainsFunc(a.Remedies, func(m advisory.Remedy) bool { return m.Kind == advisory.Paper })
	if !toRAFirst && !addPaper {
		return a.Remedies
	}
	out := make([]advisory.Remedy, 0, len(a.Remedies)+2)
	if toRAFirst {
		out = append(out, toRA)
	}
	for _, m := range a.Remedies {
		switch {
		case m.Kind == advisory.RegistrationAuthority && toRAFirst:
			out[0] = m
		case m.Kind == advisory.Renew && !a.CardMayAuthenticate: // not offered
		default:
			out = append(out, m)
		}
	}
	if addPaper {
		out = append(out, toPaper)
	}
	return out
}

// issuer is a configured CA: what identifies it is its key.
type issuer struct {
	cert *x509.Certificate
	spki [32]byte
}

func newIssuer(ca *x509.Certificate) issuer {
	return issuer{ca, sha256.Sum256(ca.RawSubjectPublicKeyInfo)}
}

// maxKnown bounds the memory of issuerKeys.
const maxKnown = 4096

// issued says which configured CA keys signed a certificate, and which did not.
type issued struct{ by, notBy [][32]byte }

// issuerKeys tells, by signature, which configured CA keys issued c. A key that did
// not, though c names its CA by key identifier (or, where there is none, by name),
// is in neither list: such a certificate contradicts itself.
func (g *Guard) issuerKeys(c *Certificate) issued {
	g.mu.Lock()
	keys, ok := g.known[c.info.SHA256]
	g.mu.Unlock()
	if ok {
		return keys
	}
	for _, i := range g.issuers {
		claimed := bytes.Equal(i.cert.SubjectKeyId, c.x.AuthorityKeyId)
		if len(i.cert.SubjectKeyId) == 0 || len(c.x.AuthorityKeyId) == 0 {
			claimed = bytes.Equal(i.cert.RawSubject, c.x.RawIssuer)
		}
		switch signed := i.cert.CheckSignature(c.x.SignatureAlgorithm, c.x.RawTBSCertificate, c.x.Signature) == nil; {
		case signed:
			keys.by = append(keys.by, i.spki)
		case !claimed:
			keys.notBy = append(keys.notBy, i.spki)
		}
	}
	g.mu.Lock()
	if len(g.known) >= maxKnown {
		clear(g.known)
	}
	g.known[c.info.SHA256] = keys
	g.mu.Unlock()
	return keys
}
