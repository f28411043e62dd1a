package guard

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/rxguard/rxguard/guard/advisory"
)

// VerdictVersion is the version of a Verdict's JSON form.
const VerdictVersion = 2

// Verdict is the guard's answer for one certificate on one card at one instant.
// The zero value refuses. It marshals to JSON and back, and prints. What its
// slices and pointers lead to may be shared between verdicts: do not change it.
type Verdict struct {
	Version  int       `json:"version"` // VerdictVersion; 0: no Guard made it
	Decision Decision  `json:"decision"`
	At       time.Time `json:"at"` // the judged instant, UTC

	Card        CardInfo        `json:"card"`
	Certificate CertificateInfo `json:"certificate,omitzero"` // zero: none could be read
	RuleSet     RuleSet         `json:"rule_set"`

	// Findings are ordered by weight: what refuses comes first.
	Findings []Finding `json:"findings"`
	// NotChecked lists the checks that this Guard does not make. Silence is not
	// approval.
	NotChecked []NotChecked `json:"not_checked"`
	// Weakened lists the settings of the Guard that are weaker than their defaults.
	Weakened []Weakening `json:"weakened"`
}

// CardInfo is how a verdict names the card.
type CardInfo struct {
	Serial    string `json:"serial,omitempty"` // token serial number
	Label     string `json:"label,omitempty"`  // token label
	Simulated bool   `json:"simulated,omitempty"`
}

// RuleSet names the set of advisories that was judged by.
type RuleSet struct {
	Version uint64    `json:"version"`
	Issued  time.Time `json:"issued"`
}

// NotChecked is a check that was not made, and why.
type NotChecked struct {
	Check CheckName `json:"check"`
	Why   string    `json:"why"`
}

// Finding is one thing that a check found.
type Finding struct {
	Reason   Reason            `json:"reason"`
	Effect   Decision          `json:"effect"`
	Check    CheckName         `json:"check"`
	Advisory *AdvisoryRef      `json:"advisory,omitempty"`
	Text     string            `json:"text"`             // for the prescriber, in plain words
	Is       string            `json:"is,omitempty"`     // what is there
	Wanted   string            `json:"wanted,omitempty"` // what should be there
	Remedies []advisory.Remedy `json:"remedies,omitempty"`
	By       time.Time         `json:"by,omitzero"` // until when to act, UTC
	Link     string            `json:"link,omitempty"`
	// RenewalFrom is from when on the holder can renew the certificate, by
	// Policy.RenewalWindow: until then only the Registration Authority can. Zero: at
	// once, or it is not about a renewal.
	RenewalFrom time.Time `json:"renewal_from,omitzero"`
}

// AdvisoryRef is the advisory that a finding rests on.
type AdvisoryRef struct {
	ID       string         `json:"id"`
	Revision int            `json:"revision"`
	Title    string         `json:"title"`
	State    advisory.State `json:"state"`
	Basis    advisory.Basis `json:"basis"`
	Note     string         `json:"basis_note,omitempty"`
	// CardMayAuthenticate: the card may still ask for its own renewal.
	CardMayAuthenticate bool `json:"card_may_authenticate"`
	// From and To are the affected window of notBefore, half-open, UTC; zero
	// where the advisory's clause has none.
	From time.Time `json:"not_before_from,omitzero"`
	To   time.Time `json:"not_before_to,omitzero"`
	// EndedAt is when an advisory ended that is resolved, withdrawn or superseded.
	EndedAt time.Time `json:"ended_at,omitzero"`
}

// Err returns nil when the verdict permits a signature, else a *Refused or
// an *Undecided that carries it.
func (v Verdict) Err() error {
	switch {
	case v.Decision.Permits():
		return nil
	case v.Decision == DecisionUndecided:
		return &Undecided{Verdict: v}
	default:
		return &Refused{Verdict: v}
	}
}

// Has tells whether a finding has the reason r.
func (v Verdict) Has(r Reason) bool {
	for i := range v.Findings {
		if v.Findings[i].Reason == r {
			return true
		}
	}
	return false
}

// String prints the verdict for those who look after cards: the decision, each
// finding with what to do, what was not checked and what is weakened. Each is on
// lines of its own; control characters from the card or its certificate are shown as
// U+FFFD. What the prescriber needs is ForPrescriber.
func (v Verdict) String() string {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(oneLine(fmt.Sprintf(format, args...)))
		b.WriteByte('\n')
	}
	line(lineVerdict, strings.ToUpper(v.Decision.String()), instant(v.At))
	if v.Card != (CardInfo{}) {
		line(lineCard, v.Card)
	}
	if c := v.Certificate; c != (CertificateInfo{}) {
		line(lineCertificate, c.Issuer, c.Serial, instant(c.NotBefore))
	}
	for _, f := range v.Findings {
		line(lineFinding, f.Effect, f.Text)
		if a := f.Advisory; a != nil {
			state := string(a.State)
			if !a.EndedAt.IsZero() {
				state += " " + instant(a.EndedAt)
			}
			line(lineNotice, a.Title, a.ID, a.Revision, state, a.Basis)
			if a.Note != "" {
				line(lineBasis, a.Note)
			}
		}
		if f.Is != "" {
			line(lineIs, f.Is)
		}
		if f.Wanted != "" {
			line(lineWanted, f.Wanted)
		}
		for i, r := range f.Remedies {
			line(lineRemedy, i+1, remedyText(r))
		}
		if !f.By.IsZero() {
			line(lineBy, instant(f.By))
		}
		if !f.RenewalFrom.IsZero() {
			line(lineRenewal, instant(f.RenewalFrom))
		}
		if f.Link != "" {
			line(lineLink, f.Link)
		}
	}
	for _, n := range v.NotChecked {
		line(lineNotChecked, n.Check, n.Why)
	}
	for _, w := range v.Weakened {
		line(lineWeakened, w.Setting, w.Value, w.Text)
	}
	return b.String()
}

// String names the card: its serial, its label, and that it is a simulated one.
func (c CardInfo) String() string {
	var parts []string
	if c.Serial != "" {
		parts = append(parts, fmt.Sprintf(cardSerial, c.Serial))
	}
	if c.Label != "" {
		parts = append(parts, fmt.Sprintf(cardLabel, c.Label))
	}
	if c.Simulated {
		parts = append(parts, cardSimulated)
	}
	return oneLine(strings.Join(parts, ", "))
}

// oneLine keeps what a card or a certificate says from looking like a line of ours.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// instant writes a time as people and machines can both read it.
func instant(t time.Time) string { return t.UTC().Format(instantForm) }

// Refused is the error of a verdict that refuses.
type Refused struct{ Verdict Verdict }

// Error gives the weightiest finding's text and what it rests on.
func (e *Refused) Error() string { return errorText("refused", e.Verdict) }

// RenewalHelps tells whether renewing the certificate in process can lift the
// refusal: an advisory refuses, it lets the card ask for its own renewal, it is not
// too early for that by the policy, and nothing else refuses or is undecided.
func (e *Refused) RenewalHelps() bool { return e.Verdict.renewalHelps() }

func (v *Verdict) renewalHelps() bool {
	helps := false
	for _, f := range v.Findings {
		switch {
		case f.Effect.Permits():
		case f.Reason == Affected && f.Advisory != nil && f.Advisory.CardMayAuthenticate && f.RenewalFrom.IsZero():
			helps = true
		default:
			return false
		}
	}
	return helps
}

// Undecided is the error of a verdict that could not be reached.
type Undecided struct{ Verdict Verdict }

// Error gives the weightiest finding's text and what it rests on.
func (e *Undecided) Error() string { return errorText("undecided", e.Verdict) }

func errorText(what string, v Verdict) string {
	s := "guard: " + what
	if len(v.Findings) == 0 {
		return s + ": no check was made"
	}
	f := v.Findings[0]
	s += ": " + f.Reason.String()
	if f.Advisory != nil {
		s += " by " + f.Advisory.ID
	}
	s += ": " + strings.TrimSuffix(f.Text, ".")
	if f.Is != "" {
		s += " (" + f.Is + ")"
	}
	return oneLine(s)
}
