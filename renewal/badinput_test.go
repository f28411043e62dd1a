package renewal

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A bad journal is what an earlier renewal left for the four calls.
type badJournal struct {
	name string
	// lines makes it of the good one's lines, each with its line feed.
	lines func(t *testing.T, good []string) []string
	says  string // in the error of each call that reads it
	way   string // out, in the same error
}

// resealed changes a line and gives it a checksum that fits.
func resealed(t *testing.T, line string, change func(*JournalEntry)) string {
	t.Helper()
	e := first(t, line)
	change(&e)
	e.Sum = sumOf(e)
	b, err := json.Marshal(e)
	require.NoError(t, err)
	return string(b) + "\n"
}

const moveAway = "move the file away and start the renewal again, or renew at your Registration Authority"

var badJournals = []badJournal{
	{"of a newer version", func(t *testing.T, good []string) []string {
		return append(good, strings.Replace(good[len(good)-1], `"version":1`, `"version":2`, 1))
	}, "written by a newer version of this program", "go on with that one"},
	{"of a newer version from its first line", func(t *testing.T, good []string) []string {
		return []string{"{\"version\":2,\"form\":\"another\"}\n"}
	}, "written by a newer version of this program", "go on with that one"},
	{"of another card", func(t *testing.T, good []string) []string {
		for i := range good {
			good[i] = resealed(t, good[i], func(e *JournalEntry) { e.Card = strings.Repeat("0", 32) })
		}
		return good
	}, "line 1: is of another card", moveAway},
	{"of another card from the second line", func(t *testing.T, good []string) []string {
		return append(good, resealed(t, good[len(good)-1], func(e *JournalEntry) {
			e.Card, e.Seq, e.Act = strings.Repeat("0", 32), e.Seq+1, Note
		}))
	}, "of another card than the lines before", moveAway},
	{"edited by hand", func(t *testing.T, good []string) []string {
		good[0] = strings.Replace(good[0], "card one", "card two", 1)
		return good
	}, "line 1: is damaged or was edited", moveAway},
	{"edited by hand, as an editor stores it", func(t *testing.T, good []string) []string {
		for i := range good {
			good[i] = strings.TrimSuffix(good[i], "\n") + "\r\n"
		}
		return good
	}, "line 1: is damaged or was edited", moveAway},
	{"with two intents of one step", func(t *testing.T, good []string) []string {
		return append(good, resealed(t, good[len(good)-1], func(e *JournalEntry) { e.Seq, e.Step, e.Act = e.Seq+1, StepHold, Intent }))
	}, "it is the second intent of step hold", moveAway},
	{"with two dones of one step", func(t *testing.T, good []string) []string {
		return append(good, resealed(t, good[len(good)-1], func(e *JournalEntry) { e.Seq, e.Step, e.Act = e.Seq+1, StepHold, Done }))
	}, "it is the second done of step hold", moveAway},
	{"with two renewals at a time", func(t *testing.T, good []string) []string {
		return append(good, resealed(t, good[0], func(e *JournalEntry) { e.Seq, e.Renewal = len(good)+1, strings.Repeat("0", 32) }))
	}, "it begins a renewal before the last one ended", moveAway},
	{"with a line twice", func(t *testing.T, good []string) []string { return append(good, good[len(good)-1]) },
		"a line was removed or put in", moveAway},
	{"without its first line", func(t *testing.T, good []string) []string { return good[1:] },
		"line 1: is damaged or was edited", moveAway},
	{"of nothing but zeros", func(t *testing.T, good []string) []string { return []string{strings.Repeat("\x00", 512) + "\n", "\n"} },
		"line 1: is damaged or was edited", moveAway},
}

// untouched asserts that calls change neither the card nor what is written down, and
// do not ask for the passcode.
func (w *world) untouched(t *testing.T, f func()) {
	t.Helper()
	file := journalPath(w.dir.Path(), w.id)
	before, err := os.ReadFile(file)
	require.NoError(t, err)
	trace, held, asked := len(w.sim.Trace()), w.hold(), w.ca.asked()
	w.person.take()
	f()
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(before), string(after), "the evidence is left as it is")
	assert.Equal(t, held, w.hold())
	assert.Equal(t, asked, w.ca.asked(), "the authority is not asked")
	assert.Empty(t, w.person.take(), "the passcode is not asked")
	for _, e := range w.sim.Trace()[trace:] {
		assert.NotContains(t, changes, e.Op)
	}
}

// Renew, Plan and Abandon name the file, the line, what is wrong and the way out, and
// touch nothing; Finish does so where no hold is before the journal.
func TestABadJournalIsNamedByEveryCallAndNothingIsGuessed(t *testing.T) {
	t.Parallel()
	for _, begun := range []Step{StepPlanned, StepHold, StepEnrol, StepRetire} {
		w := newWorld(t)
		w.mustBegin(begun)
		file, good := w.lines()
		good[len(good)-1] += "\n"
		whole := strings.Join(good, "")
		for _, x := range badJournals {
			if begun == StepPlanned && (strings.Contains(x.name, "of one step") || x.name == "without its first line") {
				continue // there is one line yet
			}
			t.Run(string(begun)+"/"+x.name, func(t *testing.T) {
				bad := strings.Join(x.lines(t, append([]string{}, good...)), "")
				require.NoError(t, os.WriteFile(file, []byte(bad), 0o600))
				w.restart()
				named := func(err error) {
					t.Helper()
					var je *JournalError
					require.ErrorAs(t, err, &je)
					assert.Equal(t, file, je.Path)
					assert.Positive(t, je.Line)
					assert.ErrorContains(t, err, file)
					assert.ErrorContains(t, err, x.says)
					assert.ErrorContains(t, err, x.way)
				}
				w.untouched(t, func() {
					res, err := w.renewer().Renew(t.Context(), nil)
					named(ends(t, res, err, Refusal, "cannot be read"))
					_, err = w.renewer().Plan(t.Context())
					named(err)
					res, err = w.renewer().Abandon(t.Context())
					named(ends(t, res, err, Refusal, "cannot be read"))
				})
				if begun == StepPlanned {
					w.untouchedButForTheCheck(t, func() {
						res, err := w.renewer().Finish(t.Context(), w.signer())
						named(ends(t, res, err, Refusal, "cannot be read"))
					})
					return
				}
				w.untouched(t, func() { // whatever its journal says, the card is on hold
					res, err := w.renewer().Finish(t.Context(), w.signer())
					ends(t, res, err, Resumable, "is not finished")
				})
			})
		}
		// With the good journal in its place the renewal goes on.
		require.NoError(t, os.WriteFile(file, []byte(whole), 0o600))
		w.restart()
		w.finish(string(begun))
		w.newAlone()
	}
}

// untouchedButForTheCheck is untouched where the passcode may be asked.
func (w *world) untouchedButForTheCheck(t *testing.T, f func()) {
	t.Helper()
	w.untouched(t, func() {
		f()
		w.person.take()
	})
}

// The hold of a renewed card ends when it is re-seated, whatever became of the journal:
// it is the hold that keeps the card from signing. That the journal is bad is told.
func TestABadJournalAfterTheRenewal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustRenew()
	file, good := w.lines()
	bad := strings.Replace(strings.Join(good, "")+"\n", "card one", "card two", 1)
	require.NoError(t, os.WriteFile(file, []byte(bad), 0o600))
	w.reseat()
	res, err := w.renewer().Finish(t.Context(), w.signer())
	var je *JournalError
	require.ErrorAs(t, ends(t, res, err, Refusal, "cannot be read"), &je)
	assert.Equal(t, 1, je.Line)
	assert.ErrorContains(t, err, moveAway)
	assert.Nil(t, w.hold())
	w.newAlone()
	w.mustSign()

	// The way out that the error names.
	require.NoError(t, os.Rename(file, file+".away"))
	res, err = w.renewer().Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, NotNeeded, res.Outcome)
}

// The way out of a journal that cannot be gone on with is to move it away: the card and
// the hold are looked at afresh, and a renewal begins anew.
func TestABadJournalThatWasMovedAway(t *testing.T) {
	t.Parallel()
	for _, begun := range []Step{StepPlanned, StepHold, StepKey, StepRequest, StepEnrol} {
		w := newWorld(t)
		w.mustBegin(begun)
		file, _ := w.lines()
		require.NoError(t, os.Rename(file, file+".away"))
		w.restart()
		w.oldIsThere()
		assert.Equal(t, Completed, w.finish(string(begun)).Outcome)
		assert.NotEqual(t, first(t, w.firstLine(file+".away")).Renewal, w.journal()[0].Renewal)
		w.mustSign()
	}
}

func (w *world) firstLine(file string) string {
	w.t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(w.t, err)
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

func TestWhereARenewalStandsByItsJournal(t *testing.T) {
	t.Parallel()
	_, ok := StandingOf(nil)
	assert.False(t, ok)
	w := newWorld(t)
	until := theTime.Add(time.Hour)
	w.ca.answer = func(n int, r Request) (Answer, error) {
		if n == 1 {
			return Answer{Pending: until}, nil
		}
		return w.ca.issue(r)
	}
	_, err := w.renewer().Renew(t.Context(), nil)
	require.Error(t, err)
	s, ok := StandingOf(w.journal())
	require.True(t, ok)
	assert.Equal(t, Pending, s.Outcome)
	assert.Equal(t, StepEnrol, s.Step)
	assert.Equal(t, until, s.Until)
	assert.False(t, s.Ended())

	w.now = until
	w.mustRenew()
	es := w.journal()
	for i := range es {
		s, ok := StandingOf(es[:i+1])
		require.True(t, ok)
		assert.Equal(t, es[0].Renewal, s.Renewal)
		assert.NotEmpty(t, s.Text)
		assert.NotEmpty(t, s.Remedies, "what a person does next")
		assert.NotEmpty(t, s.Step.Text(), "%s in plain words", s.Step)
		assert.False(t, s.Ended())
	}
	s, _ = StandingOf(es)
	assert.Equal(t, ReseatCard, s.Outcome)
	w.reseat()
	_, err = w.renewer().Finish(t.Context(), w.signer())
	require.NoError(t, err)
	s, _ = StandingOf(w.journal())
	assert.Equal(t, Completed, s.Outcome)
	assert.True(t, s.Ended())

	w = newWorld(t)
	w.mustBegin(StepKey)
	_, err = w.renewer().Abandon(t.Context())
	require.NoError(t, err)
	es = w.journal()
	s, _ = StandingOf(es)
	assert.Equal(t, GivenUp, s.Outcome)
	assert.True(t, s.Ended())
	s, _ = StandingOf(es[:len(es)-1])
	assert.Equal(t, GivenUp, s.Outcome)
	assert.False(t, s.Ended(), "what was begun to be put back")
}
