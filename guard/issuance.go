package guard

import (
	"fmt"
	"slices"
	"time"

	"github.com/rxguard/rxguard/guard/advisory"
)

// judgeIssuance asks every advisory of the set whether the certificate is in its
// population, and what the advisory does at the instant.
func (g *Guard) judgeIssuance(fs []Finding, set *advisory.Set, r *record, c *Certificate, at time.Time) []Finding {
	for a, m := range set.Judge(&r.facts) {
		phase := a.At(at)
		if r, speaks := issuanceReason(phase, m); speaks {
			fs = append(fs, g.issuanceFinding(r, a, phase, m, c, at))
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

func (g *Guard) issuanceFinding(r Reason, a *advisory.Advisory, phase advisory.Phase, m advisory.Membership, c *Certificate, at time.Time) Finding {
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
		if a.CardMayAuthenticate { // else the holder cannot renew it at any time
			f.RenewalFrom = g.renewalFrom(c, at)
		}
		f.Text += " " + a.Message + renewalText(a, f.RenewalFrom, at)
		f.Wanted += windowText(f.Advisory.From, f.Advisory.To)
		f.Remedies = remedies(r, a, !f.RenewalFrom.IsZero(), at)
		f.By = a.RenewBy
	case AffectedUndecidable:
		f.Is += fmt.Sprintf(isNotKnown, m.NotKnown)
	}
	if phase == advisory.Announced && r != AffectedFixed {
		f.By = a.EnforcedFrom()
		if r == AffectedUndecidable { // a yes would do no more than warn
			f.Effect, f.Text = DecisionWarned, undecidableYet
			f.Remedies = suited(f.Remedies, f.Effect)
		}
	}
	return f
}

// renewalFrom is from when on the holder can renew the certificate, by the policy;
// zero: at once.
func (g *Guard) renewalFrom(c *Certificate, at time.Time) time.Time {
	if g.renewalWindow == 0 {
		return time.Time{}
	}
	if from := c.info.NotAfter.Add(-g.renewalWindow); at.Before(from) {
		return from
	}
	return time.Time{}
}

// renewalText says what keeps a renewal from being done as the message asks.
func renewalText(a *advisory.Advisory, from, at time.Time) (s string) {
	if late(a, at) {
		s += " " + renewalLate
	}
	if !from.IsZero() {
		s += " " + fmt.Sprintf(renewalEarly, day(from))
	}
	return s
}

func late(a *advisory.Advisory, at time.Time) bool {
	return !a.RenewBy.IsZero() && !at.Before(a.RenewBy)
}

func windowText(from, to time.Time) string {
	switch {
	case from.IsZero():
		return ""
	case to.IsZero():
		return fmt.Sprintf(wantedOpenWindow, instant(from))
	}
	return fmt.Sprintf(wantedWindow, instant(from), instant(to))
}

// remedies gives the advisory's own in their order. Once renew_by has passed, or where
// the holder cannot renew the card, because it may not ask for that or because it is too
// early, the Registration Authority comes first. A refusal stops work, so it always names
// paper; who can still sign needs none.
func remedies(r Reason, a *advisory.Advisory, early bool, at time.Time) []advisory.Remedy {
	all := suited(a.Remedies, descriptions[r].effect)
	byHolder := a.CardMayAuthenticate && !early
	if byHolder && !late(a, at) {
		return all
	}
	out := []advisory.Remedy{toRA}
	for _, m := range all {
		switch {
		case m.Kind == advisory.RegistrationAuthority:
			out[0] = m
		case !byHolder && (m.Kind == advisory.Renew || m.Kind == advisory.Portal): // not offered
		default:
			out = append(out, m)
		}
	}
	return out
}

// suited fits remedies to an effect: what stops work names paper, what does not does not.
func suited(remedies []advisory.Remedy, d Decision) []advisory.Remedy {
	isPaper := func(m advisory.Remedy) bool { return m.Kind == advisory.Paper }
	switch has := slices.ContainsFunc(remedies, isPaper); {
	case d.Permits() && has:
		return slices.DeleteFunc(slices.Clone(remedies), isPaper)
	case !d.Permits() && !has:
		return append(slices.Clone(remedies), toPaper)
	}
	return remedies
}
