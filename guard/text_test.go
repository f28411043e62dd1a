package guard

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/rxguard/rxguard/guard/advisory"
)

// jargon is what a prescriber need not know.
var jargon = regexp.MustCompile(`(?i)certificat|notbefore|notafter|\boids?\b|x\.?509|\bkeys?\b|issuer|serial|policy|extension|` +
	`\bcrl\b|\bpki\b|spki|\bder\b|\bpem\b|\brsa\b|token|pkcs|contentcommitment|repudiation|advisory|sha-?\d`)

func TestTextsAreForPeopleWhoDoNotKnowWhatACertificateIs(t *testing.T) {
	plain := func(what, text string) {
		assert.NotRegexp(t, jargon, text, what)
		assert.Regexp(t, `^[A-Z][^!]*\.$`, text, "%s: whole sentences", what)
	}
	for r := Unspecified; r < reasons; r++ {
		plain(r.String(), descriptions[r].text)
		for _, m := range descriptions[r].remedies {
			plain(r.String(), m.Text)
		}
	}
	plain("announced and undecidable", undecidableYet)
	assert.Regexp(t, jargon, "an instant before notAfter", "the test finds jargon")
}

// A text stands beside others: only what stops a signature may say that nothing
// was signed, and nothing may promise that something will be.
func TestTextsSayWhetherTheyStopASignature(t *testing.T) {
	const signed, alone = "Nothing was signed.", "stop you from signing"
	for r := Unspecified; r < reasons; r++ {
		d := descriptions[r]
		switch d.effect {
		case DecisionRefused, DecisionUndecided:
			assert.Contains(t, d.text, signed, r)
			assert.NotContains(t, d.text, alone, r)
		case DecisionWarned:
			assert.NotContains(t, d.text, signed, r)
			assert.Contains(t, d.text, alone, r)
		case DecisionAllowed:
			assert.NotContains(t, d.text, signed, r)
			assert.True(t, strings.HasSuffix(d.text, "You need not do anything about it."), r)
		}
		assert.NotContains(t, d.text, "You can still", r)
	}
	assert.NotContains(t, undecidableYet, signed)
	assert.Contains(t, undecidableYet, alone)
}

func TestWhatStopsWorkNamesPaperLast(t *testing.T) {
	for r := Unspecified; r < reasons; r++ {
		if d := descriptions[r]; !d.effect.Permits() {
			assert.Equal(t, advisory.Paper, d.remedies[len(d.remedies)-1].Kind, r)
			assert.Greater(t, len(d.remedies), 1, "%s: paper is not the only way out", r)
		}
	}
}

func TestWhatIsNotCheckedHasAText(t *testing.T) {
	g := newGuard(t, Config{})
	assert.Len(t, g.notChecked, len(notCheckedText))
	for _, n := range g.notChecked {
		assert.NotEmpty(t, n.Why, n.Check)
	}
}
