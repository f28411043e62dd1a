package renewal

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
)

// byClock makes a Renewer for which w's clock is the machine's.
func (w *world) byClock() *Renewer {
	w.t.Helper()
	r, err := New(Config{Card: w.card, Guard: w.g, Recorder: w.rec, Enroller: w.ca})
	require.NoError(w.t, err)
	r.now = w.clock
	return r
}

// kept is the clock floor on disk.
func (w *world) kept() time.Time {
	w.t.Helper()
	c := w.dir.Clock()
	require.NoError(w.t, c.Refresh())
	return c.Floor()
}

// floorOf is the floor that a decision leaves: the minute before.
func floorOf(at time.Time) time.Time { return at.UTC().Truncate(time.Minute).Add(-time.Minute) }

// of lists what the record holds of one event.
func (m *memory) of(ev signing.Event) (list []signing.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries {
		if e.Event == ev {
			list = append(list, e)
		}
	}
	return list
}

// textOf is what a verdict says for a reason.
func textOf(v guard.Verdict, r guard.Reason) string {
	for _, f := range v.Findings {
		if f.Reason == r {
			return f.Text
		}
	}
	return ""
}

func TestARenewalRaisesTheClockFloor(t *testing.T) {
	w := newWorld(t)
	// The authority's clock is a little ahead: what it issues is not valid yet.
	w.ca.order = func(_ *testcard.Profile, _ *any, o *testcard.IssueOptions) {
		o.NotBefore = theTime.Add(5 * time.Minute)
	}
	res, err := w.byClock().Renew(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, ReseatCard, res.Outcome)
	judged := w.rec.of(signing.EventJudgedNew)
	require.Len(t, judged, 1)
	assert.Equal(t, theTime.Add(5*time.Minute+time.Second), judged[0].At, "judged as of an instant to come")
	assert.Equal(t, floorOf(theTime), w.kept(), "which is no clock")

	w = newWorld(t)
	w.mustRenew()
	assert.NoFileExists(t, w.dir.Clock().Path(), "neither is an as-of instant")
}

func TestByAClockThatIsBehindNoRenewalBegins(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.dir.Clock().Raise(t.Context(), theTime.Add(3*time.Hour), w.old.NotAfter))
	r := w.byClock()
	plan, err := r.Plan(t.Context())
	require.NoError(t, err)
	assert.Equal(t, Refusal, plan.Outcome)
	assert.True(t, plan.Verdict.Has(guard.ClockBehind))
	res, err := r.Renew(t.Context(), nil)
	e := ends(t, res, err, Refusal)
	assert.Equal(t, textOf(plan.Verdict, guard.ClockBehind), res.Text)
	var refused *guard.Refused // the card is affected too
	require.ErrorAs(t, e, &refused)
	assert.True(t, refused.Verdict.Has(guard.ClockBehind))
	require.Equal(t, []signing.Event{signing.EventRefused}, w.rec.events())
	assert.Contains(t, w.rec.of(signing.EventRefused)[0].Reasons, guard.ClockBehind)
	w.oldAlone()
	assert.Nil(t, w.hold())
	assert.Empty(t, w.person.take(), "no passcode is asked for nothing")
	assert.Zero(t, w.ca.asked())

	w.now = theTime.Add(3 * time.Hour)
	res, err = w.byClock().Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome)
}

// What was issued would not be valid yet by such a clock, and the renewal be given up.
func TestByAClockThatIsBehindNoRenewalGoesOn(t *testing.T) {
	for _, point := range []string{"after hold done", "after request done", "after enrol done", "after write done", "after switch done"} {
		t.Run(point, func(t *testing.T) {
			w := newWorld(t)
			r := w.byClock()
			r.crash = crashAt(point)
			_, err := r.Renew(t.Context(), nil)
			require.Error(t, err)
			before, asked := len(w.ops(changes...)), w.ca.asked()
			w.person.take()

			w.now = theTime.Add(-time.Hour)
			w.restart()
			plan, err := w.byClock().Plan(t.Context())
			require.NoError(t, err)
			assert.Equal(t, Refusal, plan.Outcome)
			assert.NotEmpty(t, plan.Resumes)
			assert.Empty(t, plan.Asks)
			res, err := w.byClock().Renew(t.Context(), nil)
			ends(t, res, err, Refusal)
			assert.Equal(t, textOf(plan.Verdict, guard.ClockBehind), res.Text)
			assert.Len(t, w.ops(changes...), before)
			assert.Equal(t, asked, w.ca.asked())
			assert.Empty(t, w.person.take())
			assert.NotNil(t, w.hold(), "it stays on hold")

			w.now = theTime.Add(time.Minute)
			res, err = w.byClock().Renew(t.Context(), nil)
			require.NoError(t, err, "nothing was given up")
			assert.Equal(t, ReseatCard, res.Outcome)
			w.newAlone()
		})
	}
}

// In the middle of a renewal the certificate that was issued is not lost by it.
func TestAClockThatIsTurnedBackWhileTheAuthorityIsAskedLosesNoCertificate(t *testing.T) {
	w := newWorld(t)
	w.ca.answer = func(_ int, r Request) (Answer, error) {
		w.now = theTime.AddDate(0, 0, -3)
		return w.ca.issue(r)
	}
	res, err := w.byClock().Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome)
	w.newAlone()
	renewed := w.rec.of(signing.EventRenewed)
	require.Len(t, renewed, 1)
	assert.Contains(t, renewed[0].Reasons, guard.ClockBehind, "the record tells")
	assert.Equal(t, floorOf(theTime), w.kept())
}

func TestWhatIsNotKnownOfTheClockRenewsNothing(t *testing.T) {
	t.Run("damaged", func(t *testing.T) {
		w := newWorld(t)
		require.NoError(t, os.Mkdir(w.dir.Path(), 0o700))
		path := w.dir.Clock().Path()
		require.NoError(t, os.WriteFile(path, []byte("?"), 0o600))
		_, err := w.byClock().Plan(t.Context())
		assert.ErrorContains(t, err, "it is not known whether the clock of this computer is behind: state: clock floor "+path+" is damaged")
		res, err := w.byClock().Renew(t.Context(), nil)
		ends(t, res, err, Refusal, "It cannot be told whether the date and time of this computer are right", path)
		w.oldAlone()
		assert.Nil(t, w.hold())
		assert.Empty(t, w.person.take())
		_, err = w.renewer().Plan(t.Context())
		assert.NoError(t, err, "as of an instant it is not asked")

		require.NoError(t, os.Remove(path))
		_, err = w.byClock().Renew(t.Context(), nil)
		require.NoError(t, err)
	})
	t.Run("it cannot be kept", func(t *testing.T) {
		w := newWorld(t)
		lock := filepath.Join(w.dir.Path(), "locks", "clock.lock")
		require.NoError(t, os.MkdirAll(lock, 0o700))
		res, err := w.byClock().Renew(t.Context(), nil)
		ends(t, res, err, Resumable, "could not be kept for this computer's clock; nothing further was done to the card")
		w.oldAlone()
		require.NoError(t, os.Remove(lock))
		_, err = w.byClock().Renew(t.Context(), nil)
		require.NoError(t, err)
	})
}
