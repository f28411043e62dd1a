package status

import (
	"fmt"
	"time"
)

// Reason is why a certificate was revoked, by its code (CRLReason, RFC 5280 5.3.1).
type Reason uint8

// The reasons.
const (
	Unspecified          Reason = 0
	KeyCompromise        Reason = 1
	CACompromise         Reason = 2
	AffiliationChanged   Reason = 3
	Superseded           Reason = 4
	CessationOfOperation Reason = 5
	CertificateHold      Reason = 6
	RemoveFromCRL        Reason = 8
	PrivilegeWithdrawn   Reason = 9
	AACompromise         Reason = 10
)

var reasonNames = [...]string{"unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded",
	"cessationOfOperation", "certificateHold", "reason 7", "removeFromCRL", "privilegeWithdrawn", "aACompromise"}

// String is the reason's name as RFC 5280 spells it; of a code without a name, its
// number.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason %d", r)
}

// MarshalText writes the reason's name.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// always tells whether a certificate revoked for the reason is no good at any instant:
// of a compromised key, nobody knows since when it is. For all other reasons, and for
// none, a signature made before the revocation stands, as the national service has it.
func (r Reason) always() bool { return r == KeyCompromise || r == CACompromise || r == AACompromise }

// Entry is what a list says of one revoked certificate (RFC 5280 5.3). Instants are
// UTC, in whole seconds.
type Entry struct {
	Reason  Reason    `json:"reason"`  // Unspecified where the list gives none
	Revoked time.Time `json:"revoked"` // revocationDate
	// Invalid is invalidityDate (RFC 5280 5.3.2): since when the certificate is, or may
	// be, no good. The zero time: the list gives none.
	Invalid time.Time `json:"invalid,omitzero"`
}

// Revokes tells whether the entry revokes its certificate for a signature of an
// instant, by the rule of the national service: for the reasons 1, 2 and 10 (a
// compromised key, CA or attribute authority) always, for any other, and for none,
// from the revocation date on. It has no regard for Invalid, and takes removeFromCRL,
// which belongs in delta lists alone, as one more reason.
func (e Entry) Revokes(at time.Time) bool { return e.Reason.always() || !at.Before(e.Revoked) }

// revokes is Revokes, and refuses from Invalid on, where that is earlier.
func (e Entry) revokes(at time.Time) bool {
	return e.Revokes(at) || !e.Invalid.IsZero() && !at.Before(e.Invalid)
}

// String says when and why the certificate was revoked.
func (e Entry) String() string {
	s := fmt.Sprintf("revoked at %s, reason %d (%s)", text(e.Revoked), uint8(e.Reason), e.Reason)
	if !e.Invalid.IsZero() {
		s += ", invalid since " + text(e.Invalid)
	}
	return s
}

func text(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
