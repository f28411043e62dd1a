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
	CheckClock      CheckName = "clock"             // this computer's clock is not behind what is known
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
	RulesStale          // warned: the rule set is past its expiry

	OnHold        // refused: the card was not seen taken out and put back
	OnHoldRenewal // refused: a renewal of the card is not finished
	OnHoldLogin   // refused: the card was re-seated, the passcode is missing
	HoldUnknown   // undecided: the holds of this machine cannot be read

	ClockBehind // undecided: this computer's clock is behind the newest evidence

	NotYetValid           // refused
	Expired               // refused
	DatesImpossible       // refused: notAfter is not after notBefore
	LifetimeUnusual       // warned: valid for far longer than signing certificates are
	PrivateKeyUsagePassed // warned

	NotForSigning       // refused: key usage without contentCommitment
	CriticalExtension   // refused: a critical extension that is not known here
	KeyUsageNotCritical // warned
	KeyUsageExtra       // warned: more than contentCommitment
	ExtendedKeyUsage    // warned: a signing certificate has none
	PolicyMissing       // warned
	UserIDMissing       // warned: no 12-digit user id in the subject
	SerialUnusual       // warned: zero, negative, or more than 20 octets; or no issuer name

	ChainUntrusted // refused: no chain to a configured root
	ChainExpired   // refused: a chain, but not at the judged instant
	ChainInvalid   // refused: a chain that breaks a rule of RFC 5280 6.1

	Revoked           // refused
	CARevoked         // refused: a CA above it is revoked
	RevocationLapsed  // undecided: no list that covers it can be relied on
	RevocationUnknown // warned: no list covers it
	RevocationStale   // warned: a list is past its nextUpdate, but within the grace

	WeakKey      // refused: a known weakness
	KeyTooSmall  // refused: below Policy.RefuseRSABelow
	KeySmall     // warned: below Policy.WarnRSABelow
	KeyNotJudged // undecided: a key of a kind whose strength is not known
	reasons      // their number
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
