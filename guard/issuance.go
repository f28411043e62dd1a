package guard

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"time"

	"github.com/rxguard/rxguard/guard/advisory"
)

// judgeIssuance asks every advisory of the set whether the certificate is in its
// population, and what the advisory does at the instant.
func (g *Guard) judgeIssuance(fs []Finding, set *advisory.Set, c *Certificate, at time.Time) []Finding {
	facts := c.facts
	if len(g.issuers) > 0 {
		facts.IssuerSPKI = g.issuerKeys(c)
		facts.IssuerKnown = len(facts.IssuerSPKI) > 0
	}
	for a := range set.All() {
		phase := a.At(at)
		if phase == advisory.Silent {
			continue
		}
		m := a.Judge(&facts)
		var r Reason
		switch {
		case m.In == advisory.No && m.Fixed && phase != advisory.Ended:
			r = AffectedFixed
		case m.In == advisory.No:
			continue
		case m.In == advisory.Unknown && (phase == advisory.Ended || phase == advisory.Observed):
			continue // it would not refuse whatever the answer
		case m.In == advisory.Unknown:
			r = AffectedUndecidable
		case phase == advisory.Ended:
			r = AffectedEnded
		case phase == advisory.Observed:
			r = AffectedShadow
		case phase == advisory.Announced:
			r = AffectedSoon
		default:
			r = Affected
		}
		f := finding(r)
		if r == AffectedUndecidable && phase == advisory.Announced {
			f.Effect = DecisionWarned
		}
		describeAdvisory(&f, a, m, c, at)
		fs = append(fs, f)
	}
	return fs
}

func describeAdvisory(f *Finding, a *advisory.Advisory, m advisory.Membership, c *Certificate, at time.Time) {
	ref := &AdvisoryRef{
		ID: a.ID, Revision: a.Revision, Title: a.Title, State: a.State, Basis: a.Basis, Note: a.BasisNote,
		CardMayAuthenticate: a.CardMayAuthenticate, EndedAt: a.EndedAt,
	}
	f.Advisory = ref
	f.Is = c.is()
	if m.NotKnown != "" {
		f.Is += "; not known: " + m.NotKnown
	}
	if len(a.References) > 0 {
		f.Link = a.References[0]
	}
	if m.Clause >= 0 && m.Clause < len(a.Match) {
		if w := a.Match[m.Clause].NotBefore; w != nil {
			ref.From, ref.To = w.From, w.To
		}
	}
	switch f.Reason {
	case Affected, AffectedSoon:
	case AffectedEnded:
		// Nothing to do, and nothing else to say: the message of an ended
		// advisory still asks for what is no longer wanted.
		if a.State != advisory.Withdrawn && !a.EndedAt.IsZero() {
			f.Is += "; the notice ended " + instant(a.EndedAt)
		}
		return
	default:
		return
	}
	if !ref.From.IsZero() {
		f.Wanted += ": affected are those issued from " + instant(ref.From)
		if !ref.To.IsZero() {
			f.Wanted += " and before " + instant(ref.To)
		}
	}
	if a.Message != "" {
		f.Text += " " + a.Message
	}
	if f.Reason == AffectedSoon {
		f.By = a.EnforcedFrom()
	} else {
		f.By = a.RenewBy
	}
	f.Remedies = remedies(a, at)
}

// remedies gives the advisory's own in their order. Once renew_by has passed, or
// where the card may not ask for its own renewal, the Registration Authority
// comes first.
func remedies(a *advisory.Advisory, at time.Time) []advisory.Remedy {
	late := !a.RenewBy.IsZero() && !at.Before(a.RenewBy)
	if len(a.Remedies) > 0 && !late && a.CardMayAuthenticate {
		return a.Remedies
	}
	out := make([]advisory.Remedy, 0, len(a.Remedies)+2)
	ra := toRA
	rest := a.Remedies
	if len(rest) == 0 {
		rest = []advisory.Remedy{toRA, toPaper}
	}
	for _, r := range rest {
		switch {
		case r.Kind == advisory.RegistrationAuthority:
			ra = r
		case r.Kind == advisory.Renew && !a.CardMayAuthenticate: // not offered
		default:
			out = append(out, r)
		}
	}
	return append([]advisory.Remedy{ra}, out...)
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

// issuerKeys tells, by signature, which configured CA keys issued c. Names and key
// identifiers only choose whom to try.
func (g *Guard) issuerKeys(c *Certificate) [][32]byte {
	g.mu.Lock()
	keys, ok := g.known[c.info.SHA256]
	g.mu.Unlock()
	if ok {
		return keys
	}
	for _, i := range g.issuers {
		named := bytes.Equal(i.cert.RawSubject, c.x.RawIssuer)
		keyed := len(c.x.AuthorityKeyId) > 0 && bytes.Equal(i.cert.SubjectKeyId, c.x.AuthorityKeyId)
		if !named && !keyed {
			continue
		}
		if i.cert.CheckSignature(c.x.SignatureAlgorithm, c.x.RawTBSCertificate, c.x.Signature) == nil {
			keys = append(keys, i.spki)
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
