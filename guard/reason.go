package guard

import (
	"fmt"

	"github.com/rxguard/rxguard/guard/advisory"
)

// CheckName names one of the guard's checks.
type CheckName string

// The checks. Those that a Guard does not make are listed in each verdict's
// NotChecked.
const (
	CheckCard       CheckName = "card"              // the card and its certificate can be read
	CheckIssuance   CheckName = "affected_issuance" // no advisory covers the certificate
	CheckHold       CheckName = "hold"              // no renewal waits for the card to be re-seated
	CheckValidity   CheckName = "validity"          // RFC 5280 4.1.2.5
	CheckProfile    CheckName = "profile"           // key usage and policy of a signing certificate
	CheckChain      CheckName = "chain"             // RFC 5280 6.1
	CheckRevocation CheckName = "revocation"        // RFC 5280 6.3
	CheckStrength   CheckName = "key_strength"      // size and weakness of the key
)

// Reason says why a finding was made. Every value has a text: see Finding.Text.
type Reason int

// The reasons. The comment gives the effect that each has by default.
const (
	Unspecified Reason = iota // refused: a finding that nobody filled in

	CardAbsent           // undecided
	CardUnreadable       // undecided
	NoSigningCertificate // undecided
	SeveralCertificates  // undecided
	CertificateDamaged   // undecided
	SimulatedCard        // refused, by a live Guard only

	Affected            // refused: an enforced advisory covers the certificate
	AffectedSoon        // warned: an advisory covers it and will be enforced
	AffectedShadow      // allowed: an advisory in trial covers it
	AffectedEnded       // allowed: an advisory covered it and has ended
	AffectedFixed       // allowed: an advisory's population, but reissued well
	AffectedUndecidable // undecided: an advisory may cover it; warned while it is not yet enforced
	RulesMissing        // undecided: there is no rule set
	RulesBackwards      // warned: a newer rule set was refused, the last good one is in force

	OnHold        // refused: the card was not seen taken out and put back
	OnHoldRenewal // refused: a renewal of the card is not finished
	OnHoldLogin   // refused: the card was re-seated, the passcode is missing
	HoldUnknown   // undecided: the holds of this machine cannot be read

	NotYetValid           // refused
	Expired               // refused
	PrivateKeyUsagePassed // warned

	NotForSigning       // refused: key usage without contentCommitment
	KeyUsageNotCritical // warned
	KeyUsageExtra       // warned: more than contentCommitment
	ExtendedKeyUsage    // warned: a signing certificate has none
	PolicyMissing       // warned
	UserIDMissing       // warned: no 12-digit user id in the subject
	reasons             // their number
)

// description is what is known of a reason apart from the case at hand.
type description struct {
	name     string
	check    CheckName
	effect   Decision
	text     string // for the prescriber; where an advisory speaks, its message follows
	wanted   string // for those who look after the card
	remedies []advisory.Remedy
}

// String is the reason's name, as JSON and decision records use it.
func (r Reason) String() string {
	if r < 0 || r >= reasons {
		return fmt.Sprintf("reason %d", int(r))
	}
	return descriptions[r].name
}

// MarshalText writes the reason's name.
func (r Reason) MarshalText() ([]byte, error) {
	if r < 0 || r >= reasons {
		return nil, fmt.Errorf("guard: no reason has the number %d", int(r))
	}
	return []byte(descriptions[r].name), nil
}

// UnmarshalText reads a reason's name.
func (r *Reason) UnmarshalText(b []byte) error {
	for i := range descriptions {
		if descriptions[i].name == string(b) {
			*r = Reason(i)
			return nil
		}
	}
	return fmt.Errorf("guard: %q is no reason", b)
}
