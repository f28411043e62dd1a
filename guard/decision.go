package guard

import "fmt"

// Decision is what a Verdict comes to. The zero value is DecisionRefused, so that a
// Verdict that nobody filled in stops a signature. The order is the order of
// weight: the decision of a verdict is the smallest effect among its findings.
type Decision int

// The decisions. DecisionUndecided is neither "affected" nor "fine": something could not
// be judged. Only DecisionWarned and DecisionAllowed permit a signature.
const (
	DecisionRefused Decision = iota
	DecisionUndecided
	DecisionWarned
	DecisionAllowed
)

var decisionNames = [...]string{"refused", "undecided", "warned", "allowed"}

// String returns refused, undecided, warned or allowed.
func (d Decision) String() string {
	if d < 0 || int(d) >= len(decisionNames) {
		return fmt.Sprintf("decision %d", int(d))
	}
	return decisionNames[d]
}

// Permits tells whether a signature may be made: DecisionWarned or DecisionAllowed.
func (d Decision) Permits() bool { return d == DecisionWarned || d == DecisionAllowed }

// MarshalText writes the decision's name.
func (d Decision) MarshalText() ([]byte, error) {
	if d < 0 || int(d) >= len(decisionNames) {
		return nil, fmt.Errorf("guard: no decision has the number %d", int(d))
	}
	return []byte(decisionNames[d]), nil
}

// UnmarshalText reads a decision's name.
func (d *Decision) UnmarshalText(b []byte) error {
	for i, n := range decisionNames {
		if n == string(b) {
			*d = Decision(i)
			return nil
		}
	}
	return fmt.Errorf("guard: %q is no decision; the decisions are %v", b, decisionNames)
}
