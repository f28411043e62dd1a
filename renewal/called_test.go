package renewal

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
)

// What fmt.Print brings to a terminal is one line where it is one line.
func TestWhatACardIsCalledDoesNothingToATerminal(t *testing.T) {
	const bad = "A\x1b]0;owned\a\u009b2J\nRenewed:\u2028"
	w := newWorld(t, func(u *setUp) { u.card.Label = bad[:len(bad)-3] })
	plan, err := w.renewer().Plan(t.Context())
	require.NoError(t, err)
	require.Equal(t, Ready, plan.Outcome)
	e := RoundEvent{Reader: bad, Serial: bad, Label: bad, Number: 1, Of: 1, Text: "Done."}
	r := RoundResult{Cards: []CardResult{{Reader: bad, Result: Result{Outcome: Completed, Serial: bad, Label: bad, Text: "Done."}}}}
	for _, s := range []string{plan.Text + "\n", e.String() + "\n", strings.TrimPrefix(r.String(), "Renewed:\n")} {
		require.NotContains(t, strings.TrimSuffix(s, "\n"), "\n")
		require.False(t, strings.ContainsAny(s, "\x1b\a\u009b\u2028"), "%q", s)
		require.Contains(t, s, "A\ufffd]0;owned\ufffd\ufffd2J\ufffdRenewed:")
	}
	assert.Equal(t, plan.Label, bad[:len(bad)-3], "a field is what the card says")
}

func TestACardThatDoesNotSayWhoItIsIsNamedAllTheSame(t *testing.T) {
	for serial, want := range map[string]string{"": "A card will get a new signing certificate.", "7": "The card, serial 7, will get a new signing certificate."} {
		w := newWorld(t, func(u *setUp) {
			u.as = func(c card.Token) card.Token {
				return renamed{c, func(i *card.Info) { i.Label, i.Serial = "", serial }}
			}
		})
		plan, err := w.renewer().Plan(t.Context())
		require.NoError(t, err)
		assert.Equal(t, want, plan.Text)
	}
	assert.Equal(t, "This is another card. Put the one that was renewed back in.", wrongCardText(""))
}
