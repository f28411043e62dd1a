package guard

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDecisionsInTheOrderOfTheirWeight(t *testing.T) {
	assert.Less(t, DecisionRefused, DecisionUndecided)
	assert.Less(t, DecisionUndecided, DecisionWarned)
	assert.Less(t, DecisionWarned, DecisionAllowed)
	assert.Equal(t, DecisionRefused, Decision(0), "what nobody filled in refuses")
}

func TestOnlyWarnedAndAllowedPermit(t *testing.T) {
	for d, want := range map[Decision]bool{
		DecisionRefused: false, DecisionUndecided: false, DecisionWarned: true, DecisionAllowed: true,
		-1: false, DecisionAllowed + 1: false, 1 << 20: false,
	} {
		assert.Equal(t, want, d.Permits(), d.String())
	}
}

func TestDecisionAsText(t *testing.T) {
	for d, name := range map[Decision]string{
		DecisionRefused: "refused", DecisionUndecided: "undecided", DecisionWarned: "warned", DecisionAllowed: "allowed",
	} {
		assert.Equal(t, name, d.String())
		b, err := json.Marshal(d)
		require.NoError(t, err)
		assert.Equal(t, `"`+name+`"`, string(b))
		back := Decision(99)
		require.NoError(t, json.Unmarshal(b, &back))
		assert.Equal(t, d, back)
	}
	for _, d := range []Decision{-1, 4} {
		_, err := d.MarshalText()
		assert.ErrorContains(t, err, "guard: no decision has the number")
		assert.Contains(t, d.String(), "decision ")
	}
	d := DecisionWarned
	assert.EqualError(t, d.UnmarshalText([]byte("fine")), `guard: "fine" is no decision; the decisions are [refused undecided warned allowed]`)
	assert.Equal(t, DecisionWarned, d, "a text that is refused changes nothing")
}
