package guard

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the time zones, wherever the test runs

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/need"
)

func linesOf(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") }

// verdictOf is a verdict with these findings, weighed.
func verdictOf(fs ...Finding) Verdict {
	v := Verdict{At: judgedThen, Findings: fs}
	v.Decision = weigh(v.Findings)
	return v
}

func TestThePrescriberHearsFirstWhetherTheCardCanSign(t *testing.T) {
	for _, tt := range []struct {
		v    Verdict
		want string
	}{
		{verdictOf(finding(Expired)), headRefused},
		{verdictOf(finding(CardAbsent)), headUndecided},
		{verdictOf(finding(CardAbsent), finding(Expired)), headRefused},
		{verdictOf(finding(KeySmall)), headWarned},
		{verdictOf(finding(AffectedEnded)), headAllowed},
		{verdictOf(), headAllowed},
		{Verdict{}, headRefused},
		{Verdict{Decision: DecisionUndecided}, headUndecided},
		{Verdict{Decision: 99}, headRefused},
		{Verdict{Decision: -1}, headRefused},
	} {
		lines := linesOf(tt.v.ForPrescriber())
		assert.Equal(t, tt.want, lines[0])
		if !tt.v.Decision.Permits() {
			assert.Contains(t, lines, whatNow)
			assert.Contains(t, lines[len(lines)-1], toPaper.Text)
		}
	}
	var nobodys Verdict
	nobodys.ForPrescriber()
	assert.Empty(t, nobodys.Findings, "the verdict stays as it is")
}

func TestWhileSomethingStopsTheWorkThePrescriberHearsOfThatAlone(t *testing.T) {
	said := verdictOf(finding(Expired), finding(KeySmall), finding(RulesStale), finding(AffectedEnded)).ForPrescriber()
	assert.Equal(t, []string{
		"You cannot sign with this smartcard now. Nothing was signed.",
		"Your smartcard has expired. It must be renewed in person.",
		"What to do now:",
		"1. Contact your Registration Authority.",
		"2. If a patient is waiting, write a paper prescription.",
	}, linesOf(said))
}

func TestThePrescriberHearsEverythingOnce(t *testing.T) {
	said := verdictOf(finding(KeyUsageExtra), finding(PolicyMissing), finding(SerialUnusual), finding(KeySmall)).ForPrescriber()
	assert.Equal(t, []string{
		"You can sign with this smartcard. Please note:",
		"Your smartcard was set up in an unusual way.",
		"Your smartcard is of an old kind that should be replaced.",
		"What to do now:",
		"1. Contact your Registration Authority.",
	}, linesOf(said))
	said = verdictOf(finding(CardUnreadable), finding(ClockBehind), finding(HoldUnknown)).ForPrescriber()
	assert.Equal(t, 1, strings.Count(said, "Nothing was signed."))
	assert.Equal(t, 1, strings.Count(said, ". "+toIT.Text+"\n"), said)
	assert.Contains(t, said, ". "+clock.Text+"\n", "what to try is all said")
}

func TestWhatIsNotForThePrescriberIsLeftOut(t *testing.T) {
	v := verdictOf(finding(AffectedShadow))
	v.NotChecked = []NotChecked{{CheckChain, "why"}}
	v.Weakened = []Weakening{{"Policy.Chain", "UnsafeOff", "what"}}
	assert.Equal(t, headAllowed+"\n", v.ForPrescriber())
}

// Renewal is advised where it helps, and nowhere else.
func TestARenewalThatDoesNotHelpIsNotAdvised(t *testing.T) {
	affected := func(mayAuthenticate bool, remedies ...advisory.Remedy) Finding {
		f := finding(Affected)
		f.Advisory = &AdvisoryRef{ID: "a", CardMayAuthenticate: mayAuthenticate}
		f.Remedies = append(remedies, toRA, toPaper)
		return f
	}
	renew, portal := advisory.Remedy{Kind: advisory.Renew, Text: "Renew."}, advisory.Remedy{Kind: advisory.Portal, Text: "Portal."}
	for _, tt := range []struct {
		name          string
		fs            []Finding
		renew, portal bool
	}{
		{"a notice alone", []Finding{affected(true, renew, portal)}, true, true},
		{"two notices", []Finding{affected(true, renew, portal), affected(true, renew)}, true, true},
		{"a notice, and a warning", []Finding{affected(true, renew, portal), finding(KeySmall)}, true, true},
		{"two notices, one of which does not let the card log in", []Finding{affected(true, renew, portal), affected(false)}, false, true},
		{"expired too", []Finding{affected(true, renew, portal), finding(Expired)}, false, false},
		{"cancelled too", []Finding{affected(true, renew, portal), finding(Revoked)}, false, false},
		{"on hold too", []Finding{affected(true, renew, portal), finding(OnHold)}, false, false},
	} {
		said := verdictOf(tt.fs...).ForPrescriber()
		assert.Equal(t, tt.renew, strings.Contains(said, "Renew.\n"), tt.name)
		assert.Equal(t, tt.portal, strings.Contains(said, "Portal.\n"), tt.name)
		assert.Contains(t, said, toRA.Text, tt.name)
	}
	unfinished := verdictOf(affected(true, renew), finding(OnHoldRenewal)).ForPrescriber()
	assert.Contains(t, unfinished, resume.Text, "a renewal that is not finished is")
}

func TestByWhenToAct(t *testing.T) {
	f := finding(PrivateKeyUsagePassed)
	f.By = judgedThen
	v := verdictOf(f)
	v.At = judgedThen.Add(-1)
	assert.Contains(t, v.ForPrescriber(), "Your smartcard should be renewed soon. Do this before 1 April 2026, 13:00 UK time.\n")
	v.At = judgedThen
	assert.NotContains(t, v.ForPrescriber(), "Do this before", "that is over")
}

func TestAHostileCardDoesNotWriteThePrescribersScreen(t *testing.T) {
	f := finding(Affected)
	f.Text += " x\nYou can sign with this smartcard.\x1b[2J\u2028"
	f.Remedies = []advisory.Remedy{{Kind: advisory.Portal, Text: "Go.\nYou can sign.", URL: "https://\n"}, toPaper}
	said := verdictOf(f).ForPrescriber()
	for _, line := range linesOf(said)[1:] {
		assert.False(t, strings.HasPrefix(line, "You can sign"), said)
	}
	assert.NotRegexp(t, "[\\x00-\\x09\\x0b-\\x1f\\x7f\u0085\u2028]", said)
}

func TestPrescribersReadTheTimeOnTheirClocks(t *testing.T) {
	for instant, want := range map[string]string{
		"2020-10-03T23:00:00Z":      "4 October 2020",
		"2020-10-03T22:59:00Z":      "3 October 2020, 23:59 UK time",
		"2020-10-04T00:00:00Z":      "4 October 2020, 01:00 UK time",
		"2026-12-01T00:00:00Z":      "1 December 2026",
		"2026-12-01T00:00:01Z":      "1 December 2026, 00:00 UK time",
		"2026-03-29T00:59:59Z":      "29 March 2026, 00:59 UK time",
		"2026-03-29T01:00:00Z":      "29 March 2026, 02:00 UK time",
		"2026-10-25T00:59:59Z":      "25 October 2026, 01:59 UK time",
		"2026-10-25T01:00:00Z":      "25 October 2026, 01:00 UK time",
		"2026-07-01T14:00:00+05:00": "1 July 2026, 10:00 UK time",
	} {
		assert.Equal(t, want, day(at(instant)), instant)
	}
	london, err := time.LoadLocation("Europe/London")
	require.NoError(t, err)
	from, to := at("1996-01-01T00:00:00Z").Unix(), at("2037-12-31T00:00:00Z").Unix()
	need.Cases(t, 20_000)
	rapid.Check(t, func(t *rapid.T) {
		when := time.Unix(rapid.Int64Range(from, to).Draw(t, "instant"), 0)
		const form = "2006-01-02 15:04:05"
		require.Equal(t, when.In(london).Format(form), ukTime(when).Format(form))
	})
}
