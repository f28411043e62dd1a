package guard

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Action says what becomes of what a check finds. The zero value is the default of
// the setting, which is the safe one. What is weaker than a default is named Unsafe,
// and each verdict lists it (Verdict.Weakened).
type Action int

// The actions.
const (
	ByDefault Action = iota
	// Refuse refuses where the default would warn. What could not be judged does not
	// become refused but undecided, which permits no signature either.
	Refuse
	UnsafeWarn // warn where the default would refuse
	UnsafeOff  // find nothing
	actions    // their number
)

var actionNames = [actions]string{"ByDefault", "Refuse", "UnsafeWarn", "UnsafeOff"}

// String returns the name of the constant.
func (a Action) String() string {
	if a < 0 || a >= actions {
		return fmt.Sprintf("action %d", int(a))
	}
	return actionNames[a]
}

// Policy says how strict a Guard is. The zero value is the default, and safe. New
// refuses a setting that does not exist. Affected issuance, a hold, a card that
// cannot be read and a clock that is behind have no setting: they always stop a
// signature.
type Policy struct {
	// Validity is for certificates that are not valid at the judged instant
	// (NotYetValid, Expired, DatesImpossible). Default: refuse.
	Validity Action

	// Profile is for certificates that are not for signing or hold a critical
	// extension that nobody knows (NotForSigning, CriticalExtension). Default: refuse.
	Profile Action

	// ProfileDetails is for what real signing certificates are seen to lack or to have
	// too much of (KeyUsageNotCritical, KeyUsageExtra, ExtendedKeyUsage, PolicyMissing,
	// UserIDMissing, SerialUnusual). Default: warn. Legal are Refuse and UnsafeOff.
	ProfileDetails Action

	// Chain is for certificates without a valid chain to a configured root
	// (ChainUntrusted, ChainExpired, ChainInvalid). Default: refuse.
	Chain Action

	// Revocation is for certificates that are revoked, or whose CA is (Revoked,
	// CARevoked). Default: refuse. UnsafeOff turns the whole check off.
	Revocation Action

	// RevocationUnknown is for certificates that no list is known to cover. Default:
	// warn. Legal is Refuse, which makes it undecided.
	RevocationUnknown Action

	// RevocationLapsed is for certificates that a list covers, but none that can be
	// relied on, because it ended longer ago than its grace, is not verified, or is not
	// understood. Default: undecided. Legal are Refuse, which is the same, and
	// UnsafeWarn.
	RevocationLapsed Action

	// WeakKey is for keys with a known weakness. Default: refuse. A key that cannot be
	// judged (KeyNotJudged) stays undecided unless this is UnsafeOff.
	WeakKey Action

	// KeySize is for small RSA keys. Default: refuse below RefuseRSABelow
	// (KeyTooSmall), warn below WarnRSABelow (KeySmall). Refuse refuses both,
	// UnsafeWarn warns of both.
	KeySize Action

	RefuseRSABelow int // bits; 0: 1024, which is the least
	WarnRSABelow   int // bits; 0: 2048, which is the least

	// StaleRules is for a rule set that is past its expiry, where the source of
	// advisories tells one. Default: warn. Legal is Refuse, which makes it undecided.
	StaleRules Action

	// RenewalWindow is how long before the end of its validity a certificate can be
	// renewed by its holder; before, only the Registration Authority can do it, and
	// verdicts say so. 0: at any time. See SelfRenewalWindow.
	RenewalWindow time.Duration
}

// SelfRenewalWindow is the national service's Policy.RenewalWindow: it offers
// self-renewal in the last 90 days alone.
const SelfRenewalWindow = 90 * 24 * time.Hour

// The sizes of RSA keys, in bits: cards of 2020 to 2022 have 1024.
const (
	refuseRSABelow = 1024
	warnRSABelow   = 2048
	maxRSABits     = 16384
)

// setting is what is known of a field of Policy.
type setting struct {
	field   string
	action  func(*Policy) Action
	legal   []Action // beside ByDefault
	check   CheckName
	reasons []Reason
}

var (
	refusing = []Action{Refuse, UnsafeWarn, UnsafeOff}
	warning  = []Action{Refuse, UnsafeOff}
)

var settings = []setting{
	{"Validity", func(p *Policy) Action { return p.Validity }, refusing, CheckValidity, []Reason{NotYetValid, Expired, DatesImpossible}},
	{"Profile", func(p *Policy) Action { return p.Profile }, refusing, CheckProfile, []Reason{NotForSigning, CriticalExtension}},
	{"ProfileDetails", func(p *Policy) Action { return p.ProfileDetails }, warning, CheckProfile,
		[]Reason{KeyUsageNotCritical, KeyUsageExtra, ExtendedKeyUsage, PolicyMissing, UserIDMissing, SerialUnusual}},
	{"Chain", func(p *Policy) Action { return p.Chain }, refusing, CheckChain, []Reason{ChainUntrusted, ChainExpired, ChainInvalid}},
	{"Revocation", func(p *Policy) Action { return p.Revocation }, refusing, CheckRevocation, []Reason{Revoked, CARevoked}},
	{"RevocationUnknown", func(p *Policy) Action { return p.RevocationUnknown }, []Action{Refuse}, CheckRevocation, []Reason{RevocationUnknown}},
	{"RevocationLapsed", func(p *Policy) Action { return p.RevocationLapsed }, []Action{Refuse, UnsafeWarn}, CheckRevocation, []Reason{RevocationLapsed}},
	{"WeakKey", func(p *Policy) Action { return p.WeakKey }, refusing, CheckStrength, []Reason{WeakKey, KeyNotJudged}},
	{"KeySize", func(p *Policy) Action { return p.KeySize }, refusing, CheckStrength, []Reason{KeyTooSmall, KeySmall}},
	{"StaleRules", func(p *Policy) Action { return p.StaleRules }, []Action{Refuse}, CheckIssuance, []Reason{RulesStale}},
}

// Weakening is a setting that is weaker than its default.
type Weakening struct {
	Setting string `json:"setting"` // the field of Config
	Value   string `json:"value"`
	Text    string `json:"text"` // what that means
}

// treatment is what the policy makes of a reason.
type treatment struct {
	effect Decision
	off    bool
}

// check returns an error that names the field which is wrong.
func (p *Policy) check() error {
	for _, s := range settings {
		if found := s.action(p); found != ByDefault && !slices.Contains(s.legal, found) {
			return fmt.Errorf("guard: Config.Policy.%s is %s; wanted %s", s.field, found, s.wanted())
		}
	}
	for _, n := range []struct {
		field        string
		found, least int
	}{{"RefuseRSABelow", p.RefuseRSABelow, refuseRSABelow}, {"WarnRSABelow", p.WarnRSABelow, warnRSABelow}} {
		if n.found != 0 && (n.found < n.least || n.found > maxRSABits) {
			return fmt.Errorf("guard: Config.Policy.%s is %d; wanted %d to %d bits, or 0 for %d; what smaller keys come to is for KeySize",
				n.field, n.found, n.least, maxRSABits, n.least)
		}
	}
	if p.RenewalWindow < 0 {
		return fmt.Errorf("guard: Config.Policy.RenewalWindow is %s; wanted 0 for at any time, or how long before its end a card can be renewed", p.RenewalWindow)
	}
	return nil
}

// wanted lists the actions that are legal.
func (s *setting) wanted() string {
	names := ByDefault.String()
	for i, legal := range s.legal {
		if i == len(s.legal)-1 {
			names += " or " + legal.String()
		} else {
			names += ", " + legal.String()
		}
	}
	return names
}

// treatments says what becomes of each reason.
func (p *Policy) treatments() (t [reasons]treatment) {
	for r := range t {
		t[r].effect = descriptions[r].effect
	}
	for _, s := range settings {
		for _, r := range s.reasons {
			t[r] = s.treat(r, s.action(p))
		}
	}
	if p.Revocation == UnsafeOff {
		for _, r := range []Reason{RevocationUnknown, RevocationLapsed, RevocationStale} {
			t[r].off = true
		}
	}
	return t
}

func (s *setting) treat(r Reason, action Action) treatment {
	t := treatment{effect: descriptions[r].effect}
	switch {
	case action == UnsafeOff:
		t.off = true
	case action == Refuse && (r == RulesStale || r == RevocationUnknown): // not known is not affected
		t.effect = DecisionUndecided
	case action == Refuse && t.effect == DecisionWarned:
		t.effect = DecisionRefused
	case action == UnsafeWarn && (t.effect == DecisionRefused || r == RevocationLapsed):
		t.effect = DecisionWarned
	}
	return t
}

// weakened lists what is weaker than its default, and notChecked what is not checked
// for that reason.
func (p *Policy) weakened() (all []Weakening, notChecked []NotChecked) {
	for _, s := range settings {
		value := s.action(p)
		if value != UnsafeWarn && value != UnsafeOff {
			continue
		}
		all = append(all, Weakening{"Policy." + s.field, value.String(), weakenedText[s.field][value]})
		if value == UnsafeOff {
			notChecked = append(notChecked, NotChecked{s.check, fmt.Sprintf(offText, s.field, weakenedText[s.field][value])})
		}
	}
	return all, notChecked
}

// apply makes of the findings what the policy wants of them.
func (g *Guard) apply(fs []Finding) []Finding {
	kept := fs[:0]
	for _, f := range fs {
		t := &g.treatments[f.Reason]
		if t.off {
			continue
		}
		if t.effect != descriptions[f.Reason].effect {
			f.become(t.effect)
		}
		kept = append(kept, f)
	}
	if len(kept) == 0 {
		return noFindings
	}
	return kept
}

// become changes the effect of a finding, and what its text and its remedies say of
// that.
func (f *Finding) become(d Decision) {
	f.Text = strings.TrimSuffix(f.Text, endings[f.Effect]) + endings[d]
	f.Remedies = suited(f.Remedies, d)
	f.Effect = d
}
