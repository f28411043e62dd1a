package signing

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing/eps"
)

// The card of these tests ends two years after it was issued.
var theEnd = issued.AddDate(2, 0, 0)

// byClock makes a Signer for which w's clock is the machine's.
func (w *world) byClock(c *Card, g *guard.Guard) *Signer {
	w.t.Helper()
	s, err := New(c, g, w.rec)
	require.NoError(w.t, err)
	s.now = w.clock
	return s
}

// restarted is byClock in a process that was just started.
func (w *world) restarted() *Signer {
	w.t.Helper()
	require.NoError(w.t, w.card.Close())
	w.card = w.open(w.sim.Token())
	return w.byClock(w.card, builtin(w.t))
}

// kept is the clock floor on disk.
func (w *world) kept() time.Time {
	w.t.Helper()
	c := w.dir.Clock()
	require.NoError(w.t, c.Refresh())
	return c.Floor()
}

// clockBehind asserts that err is undecided for the clock alone, and returns the
// finding.
func clockBehind(t *testing.T, err error) guard.Finding {
	t.Helper()
	var undecided *guard.Undecided
	require.ErrorAs(t, err, &undecided)
	var found []guard.Finding
	for _, f := range undecided.Verdict.Findings {
		if !f.Effect.Permits() {
			found = append(found, f)
		}
	}
	require.Len(t, found, 1, "%v", undecided.Verdict)
	require.Equal(t, guard.ClockBehind, found[0].Reason)
	assert.NotEmpty(t, found[0].Text)
	assert.NotEmpty(t, found[0].Remedies)
	return found[0]
}

// floorOf is the floor that a decision leaves: the minute before.
func floorOf(at time.Time) time.Time { return at.UTC().Truncate(time.Minute).Add(-time.Minute) }

func signs(t *testing.T, s *Signer) {
	t.Helper()
	_, err := Sign(t.Context(), s, document(t, "one"))
	require.NoError(t, err)
}

func doesNot(t *testing.T, s *Signer) error {
	t.Helper()
	out, err := Sign(t.Context(), s, document(t, "one"))
	require.Error(t, err)
	require.Nil(t, out)
	return err
}

// floorAt is the caller's own floor.
type floorAt time.Time

func (f floorAt) Floor() time.Time { return time.Time(f) }

func TestTheClockCannotBeTurnedBackPastTheLastSignature(t *testing.T) {
	signedAt := allowedAt.Add(100 * time.Second)
	require.Equal(t, allowedAt, floorOf(signedAt))
	bst := time.FixedZone("BST", 3600)
	asMachine(t, state.At(filepath.Join(t.TempDir(), "machine")))
	for _, c := range []struct {
		name   string
		to     time.Time
		behind bool
	}{
		{"a year", allowedAt.AddDate(-1, 0, 0), true}, // before the rules too
		{"to when the rules were made", time.Date(2020, 10, 1, 13, 50, 0, 0, time.UTC), true},
		{"an hour", signedAt.Add(-time.Hour), true},
		{"an hour, which another time zone hides", signedAt.Add(-time.Hour).In(bst), true},
		{"two minutes", signedAt.Add(-2 * time.Minute), true},
		{"to just before the floor", allowedAt.Add(-1), true},
		{"to the floor", allowedAt, false},
		{"to the floor, in another time zone", allowedAt.In(bst), false},
		{"a minute", signedAt.Add(-time.Minute), false},
		{"not at all", signedAt, false},
		{"forward", signedAt.Add(time.Hour), false},
	} {
		for name, g := range map[string]*guard.Guard{
			"no floor":  builtin(t),
			"the same":  must(guard.New(guard.Config{Floor: floorAt(allowedAt)})),
			"an older":  must(guard.New(guard.Config{Floor: floorAt(allowedAt.AddDate(-3, 0, 0))})),
			"a zero":    must(guard.New(guard.Config{Floor: floorAt{}})),
			"a machine": must(guard.New(guard.Config{Floor: LastRun{}})),
		} {
			t.Run(c.name+", a guard with "+name+" floor", func(t *testing.T) {
				w := newWorld(t)
				s := w.byClock(w.card, g)
				w.setClock(signedAt)
				signs(t, s)
				assert.Equal(t, allowedAt, w.kept())
				w.setClock(c.to)
				if !c.behind {
					signs(t, s)
					w.only(EventSigned, EventSigned)
					return
				}
				// With the passcode entered, without, and in the next process.
				for _, next := range []func() *Signer{
					func() *Signer { return s },
					func() *Signer { return w.byClock(w.card, g) },
					w.restarted,
				} {
					s = next()
					err := doesNot(t, s)
					var refused *guard.Refused
					if c.to.Before(issued) {
						require.ErrorAs(t, err, &refused, "not valid yet")
						assert.True(t, refused.Verdict.Has(guard.ClockBehind))
						continue
					}
					f := clockBehind(t, err)
					assert.Contains(t, f.Is, w.dir.Clock().Path())
					assert.Contains(t, f.Is, "up to 2020-10-02 09:00:00 UTC, as ")
				}
				assert.Equal(t, 1, reached(w.sim, testcard.OpSign), "nothing reaches the key")
				assert.Len(t, w.person.requests(), 1, "nobody is asked")
				assert.Equal(t, allowedAt, w.kept())
				for _, e := range w.only(EventSigned, EventRefused, EventRefused, EventRefused)[1:] {
					assert.Contains(t, e.Reasons, guard.ClockBehind)
					assert.NotEqual(t, guard.DecisionAllowed, e.Verdict)
					assert.True(t, e.At.Equal(c.to))
				}
				w.setClock(signedAt.Add(time.Minute))
				signs(t, s)
				assert.Equal(t, allowedAt.Add(time.Minute), w.kept())
			})
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// The passcode that was entered before the clock was turned back is no way round.
func TestTheClockIsAskedForEachSignature(t *testing.T) {
	w := newWorld(t)
	s := w.byClock(w.card, builtin(t))
	signs(t, s)
	w.setClock(allowedAt.Add(-time.Hour))
	clockBehind(t, doesNot(t, s))
	assert.Equal(t, 1, reached(w.sim, testcard.OpSign))

	// Turned back while the passcode is entered.
	w.setClock(allowedAt)
	require.NoError(t, s.Close())
	w.person.during = func(context.Context) { w.setClock(allowedAt.Add(-time.Hour)) }
	clockBehind(t, doesNot(t, s))
	assert.Equal(t, 1, reached(w.sim, testcard.OpSign))
	assert.Len(t, w.person.requests(), 2)
	w.only(EventSigned, EventRefused, EventRefused)
}

func TestABatchEndsWhenTheClockIsTurnedBack(t *testing.T) {
	w := newWorld(t)
	s := w.byClock(w.card, builtin(t))
	outcomes, err := SignEach(t.Context(), s, documents(t, 3), func(i int, _ Outcome[*eps.Signed]) {
		w.setClock(allowedAt.Add(-time.Hour))
	})
	var be *BatchError
	require.ErrorAs(t, err, &be)
	assert.Equal(t, 1, be.Signed)
	clockBehind(t, outcomes[1].Err)
	var notReached *NotReached
	assert.ErrorAs(t, outcomes[2].Err, &notReached)
}

func TestTheClockFloorIsOfAllProcesses(t *testing.T) {
	later := allowedAt.Add(6 * time.Hour)
	w := newWorld(t)
	s := w.byClock(w.card, builtin(t))
	signs(t, s)
	there := w.elsewhere(ask{Do: "sign", Clock: allowedAt.Add(-time.Hour)})
	assert.Contains(t, there.Reasons, guard.ClockBehind)
	assert.Zero(t, there.Signed)
	assert.Zero(t, there.Asked)

	there = w.elsewhere(ask{Do: "sign", Clock: later})
	require.Empty(t, there.Error)
	assert.Equal(t, 1, there.Signed)
	clockBehind(t, doesNot(t, s))
	clockBehind(t, doesNot(t, w.restarted()))
	assert.Equal(t, 1, w.signed())
	w.setClock(later)
	signs(t, w.restarted())
}

// Why a clock would be turned back at all: to before what refused.
func TestARefusalIsEvidenceOfTheTimeToo(t *testing.T) {
	expired := theEnd.AddDate(0, 6, 0)
	for _, c := range []struct {
		name  string
		at    time.Time
		first func(*world, *Signer) error
		kept  bool
	}{
		{"expired", expired, nil, true},
		{"the passcode was wrong", allowedAt.AddDate(1, 0, 0), func(w *world, s *Signer) error {
			w.person.enters(wrongPIN)
			defer w.person.enters(thePIN)
			return doesNot(w.t, s)
		}, true},
		{"on hold", allowedAt.AddDate(1, 0, 0), func(w *world, s *Signer) error {
			w.hold(state.Renewing)
			defer func() { require.NoError(w.t, w.dir.ReleaseHold(theHoldID, w.id)) }()
			return s.EndHold(w.t.Context())
		}, true},
		{"the record failed", allowedAt.AddDate(1, 0, 0), func(w *world, s *Signer) error {
			w.rec.fail = errors.New("the disk is full")
			defer func() { w.rec.fail = nil }()
			return doesNot(w.t, s)
		}, true},
		{"no card", allowedAt.AddDate(1, 0, 0), func(w *world, s *Signer) error {
			w.sim.Remove()
			defer w.sim.Insert()
			return doesNot(w.t, s)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			s := w.byClock(w.card, builtin(t))
			w.setClock(c.at)
			if c.first == nil {
				c.first = func(w *world, s *Signer) error { return doesNot(w.t, s) }
			}
			require.Error(t, c.first(w, s))
			before := w.signed()
			w.setClock(allowedAt)
			if !c.kept {
				assert.Zero(t, w.kept())
				signs(t, s)
				return
			}
			assert.Equal(t, floorOf(c.at), w.kept())
			clockBehind(t, doesNot(t, s))
			clockBehind(t, doesNot(t, w.restarted()))
			assert.Equal(t, before, w.signed())
		})
	}
}

func TestTheEndOfAHoldIsEvidenceOfTheTime(t *testing.T) {
	w := newWorld(t)
	s := w.byClock(w.card, builtin(t))
	begin := func() {
		w.seenHold(state.Reseat)
		w.reseat()
		card.Refresh(w.card)
	}
	begin()
	w.setClock(allowedAt.Add(time.Hour))
	require.NoError(t, s.EndHold(t.Context()))
	assert.Equal(t, floorOf(allowedAt.Add(time.Hour)), w.kept())

	// It does not depend on the clock; the next signature does.
	begin()
	w.setClock(allowedAt)
	require.NoError(t, s.EndHold(t.Context()))
	clockBehind(t, doesNot(t, s))
	entries := w.only(EventHoldEnded, EventHoldEnded, EventRefused)
	assert.NotContains(t, entries[0].Reasons, guard.ClockBehind)
	assert.Contains(t, entries[1].Reasons, guard.ClockBehind, "the record tells")
}

// A clock that was wrong once must not keep a clinic from signing for ever.
func TestAClockThatWasWrongIsHealed(t *testing.T) {
	t.Run("far in the future, by itself", func(t *testing.T) {
		for _, at := range []time.Time{theEnd.AddDate(2, 0, 0), time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(12020, 1, 1, 0, 0, 0, 0, time.UTC)} {
			w := newWorld(t)
			s := w.byClock(w.card, builtin(t))
			w.setClock(at)
			refusedFor(t, doesNot(t, s), guard.Expired)
			assert.Zero(t, w.kept())
			w.setClock(allowedAt)
			signs(t, s)
		}
	})
	for name, wrong := range map[string]func(*world, *Signer){
		"while the card was valid": func(w *world, s *Signer) {
			w.setClock(theEnd.AddDate(0, -1, 0))
			signs(w.t, s)
		},
		"by a file of the year 9999": func(w *world, _ *Signer) {
			require.NoError(w.t, os.Mkdir(w.dir.Path(), 0o700))
			require.NoError(w.t, os.WriteFile(w.dir.Clock().Path(), []byte(`{"version":1,"floor":"9999-12-31T23:59:59Z"}`), 0o600))
		},
	} {
		t.Run("in the future "+name+", by hand", func(t *testing.T) {
			w := newWorld(t)
			s := w.byClock(w.card, builtin(t))
			wrong(w, s)
			w.setClock(allowedAt)
			f := clockBehind(t, doesNot(t, s))
			path := filepath.Join(w.dir.Path(), "clock.json")
			assert.Contains(t, f.Is, "as "+path+" says: remove that file if this instant is yet to come")
			require.NoError(t, os.Remove(path))
			signs(t, s)
			assert.Equal(t, floorOf(allowedAt), w.kept())
		})
	}
}

func TestWhatIsNotKnownOfTheClockSignsNothing(t *testing.T) {
	for name, damage := range map[string]func(*world, string){
		"damaged": func(w *world, path string) {
			require.NoError(w.t, os.WriteFile(path, []byte(`{"version":1,"flo`), 0o600))
		},
		"empty": func(w *world, path string) { require.NoError(w.t, os.WriteFile(path, nil, 0o600)) },
		"unreadable": func(w *world, path string) {
			_ = os.Remove(path)
			require.NoError(w.t, os.Mkdir(path, 0o700))
		},
	} {
		for _, loggedIn := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, logged in %t", name, loggedIn), func(t *testing.T) {
				w := newWorld(t)
				s := w.byClock(w.card, builtin(t))
				signs(t, s)
				if !loggedIn {
					s = w.restarted()
				}
				path := w.dir.Clock().Path()
				damage(w, path)
				for range 2 {
					err := doesNot(t, s)
					assert.ErrorIs(t, err, errClockUnknown)
					assert.ErrorContains(t, err, path)
				}
				// What is certain is told as ever, and where the clock was known to be behind it still is.
				w.setClock(theEnd.AddDate(0, 1, 0))
				refusedFor(t, doesNot(t, s), guard.Expired)
				if loggedIn {
					w.setClock(allowedAt.Add(-time.Hour))
					clockBehind(t, doesNot(t, s))
				}
				assert.Equal(t, 1, reached(w.sim, testcard.OpSign))
				assert.Len(t, w.person.requests(), 1)
				for _, e := range w.rec.all()[1:3] {
					assert.Equal(t, EventNotSigned, e.Event)
					assert.Equal(t, "clock_unknown", e.Cause)
				}
				w.setClock(allowedAt)
				require.NoError(t, os.Remove(path))
				signs(t, s)
			})
		}
	}
	t.Run("it cannot be kept", func(t *testing.T) {
		w := newWorld(t)
		s := w.byClock(w.card, builtin(t))
		lock := filepath.Join(w.dir.Path(), "locks", "clock.lock")
		require.NoError(t, os.MkdirAll(lock, 0o700))
		assert.ErrorContains(t, doesNot(t, s), "could not be kept for this computer's clock")
		assert.Zero(t, reached(w.sim, testcard.OpSign))
		assert.Equal(t, "error", w.only(EventNotSigned)[0].Cause)
		require.NoError(t, os.Remove(lock))
		signs(t, s)
	})
	t.Run("a hold still ends", func(t *testing.T) {
		w := newWorld(t)
		s := w.byClock(w.card, builtin(t))
		w.seenHold(state.Reseat)
		w.reseat()
		card.Refresh(w.card)
		require.NoError(t, os.WriteFile(w.dir.Clock().Path(), nil, 0o600))
		require.NoError(t, s.EndHold(t.Context()))
		assert.ErrorIs(t, doesNot(t, s), errClockUnknown)
	})
}

// As of an instant is a question: it is not held to the floor, and raises none.
func TestAnAsOfInstantIsNoClock(t *testing.T) {
	w := newWorld(t)
	w.setClock(allowedAt.AddDate(1, 0, 0))
	signs(t, w.signer)
	assert.NoFileExists(t, w.dir.Clock().Path())
	w.setClock(allowedAt)
	signs(t, w.signer)

	w.setClock(allowedAt.AddDate(1, 0, 0))
	signs(t, w.byClock(w.card, builtin(t)))
	w.setClock(allowedAt)
	signs(t, w.signer)
	_, err := builtin(t).CheckAt(t.Context(), w.card, allowedAt)
	assert.NoError(t, err)
}

// dated is a revocation list that says nothing but its date.
type dated time.Time

func (d dated) Floor() time.Time { return time.Time(d) }

func (dated) Prepare([]*x509.Certificate) (func(time.Time) guard.RevocationStatus, error) {
	return func(time.Time) guard.RevocationStatus { return guard.RevocationStatus{State: guard.StatusGood} }, nil
}

func TestTheRulesAndListsOfAGuardAreAFloorForItsSigner(t *testing.T) {
	newer := allowedAt.Add(24 * time.Hour)
	notices := slices.Collect(advisory.Builtin().All())
	set, err := advisory.NewSet(2, newer, notices...)
	require.NoError(t, err)
	for name, c := range map[string]guard.Config{
		"rules": {Advisories: set},
		"lists": {Revocation: dated(newer), Issuers: []*x509.Certificate{theCA().IssuingCertificate()}},
		"own":   {Floor: floorAt(newer)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			g, err := guard.New(c)
			require.NoError(t, err)
			s := w.byClock(w.card, g)
			f := clockBehind(t, doesNot(t, s))
			assert.NotContains(t, f.Is, "clock.json", "which says nothing of it")
			w.untouched()
			w.setClock(newer.Add(-1))
			clockBehind(t, doesNot(t, s))
			w.setClock(newer)
			signs(t, s)
		})
	}
}

func TestAClockBehindIsFoundBesideWhatElseIsFound(t *testing.T) {
	w := newWorld(t)
	w.setClock(theEnd.AddDate(0, 6, 0))
	doesNot(t, w.byClock(w.card, builtin(t)))
	snap, err := w.card.Snapshot(t.Context())
	require.NoError(t, err)
	for _, c := range []struct {
		name string
		at   time.Time
		hold guard.HoldState
		want []guard.Reason
	}{
		{"the clock alone", allowedAt, guard.NotHeld, []guard.Reason{guard.ClockBehind, guard.AffectedEnded}},
		{"what refuses comes first", theEnd.AddDate(0, 1, 0), guard.NotHeld, []guard.Reason{guard.Expired, guard.ClockBehind, guard.AffectedEnded}},
		{"on hold", allowedAt, guard.HoldReseat, []guard.Reason{guard.OnHold, guard.ClockBehind, guard.AffectedEnded}},
	} {
		t.Run(c.name, func(t *testing.T) {
			snap := snap
			snap.Hold.State = c.hold
			g := builtin(t)
			alone := g.JudgeNow(snap, c.at)
			v, err := JudgeNow(w.card, g, snap, c.at)
			require.NoError(t, err)
			var got []guard.Reason
			for _, f := range v.Findings {
				got = append(got, f.Reason)
			}
			assert.Equal(t, c.want, got)
			assert.Equal(t, v.Findings[0].Effect, v.Decision)
			assert.False(t, v.Decision.Permits())
			assert.False(t, alone.Has(guard.ClockBehind))
			assert.Equal(t, alone, g.JudgeNow(snap, c.at), "the guard's own is left alone")
		})
	}
	v, err := JudgeNow(w.card, builtin(t), snap, theEnd.AddDate(0, 7, 0))
	require.NoError(t, err)
	assert.False(t, v.Has(guard.ClockBehind))
	require.NoError(t, os.WriteFile(w.dir.Clock().Path(), nil, 0o600))
	_, err = JudgeNow(w.card, builtin(t), snap, allowedAt)
	assert.ErrorIs(t, err, errClockUnknown)
}

// asMachine makes another folder that of the machine.
func asMachine(t *testing.T, dir state.Dir) {
	was, c := machineClock, dir.Clock()
	machineClock = func() *state.Clock { return c }
	t.Cleanup(func() { machineClock = was })
}

func TestLastRunIsReadBesideTheCheck(t *testing.T) {
	tickEvery(t, time.Millisecond)
	dir := state.At(filepath.Join(t.TempDir(), "state"))
	asMachine(t, dir)
	require.Zero(t, LastRun{}.Floor())
	require.NoError(t, dir.Clock().Raise(t.Context(), allowedAt.Add(time.Minute), theEnd))
	require.Zero(t, LastRun{}.Floor(), "it answers from memory")

	w := newWorld(t, func(u *setUp) { u.dir = dir })
	require.Equal(t, allowedAt, LastRun{}.Floor(), "Open reads it")
	g := must(guard.New(guard.Config{Floor: LastRun{}}))
	judge := func(at time.Time) guard.Verdict {
		s, err := w.card.Snapshot(t.Context())
		require.NoError(t, err)
		return g.JudgeNow(s, at)
	}
	assert.True(t, judge(allowedAt).Decision.Permits())
	assert.True(t, judge(allowedAt.Add(-1)).Has(guard.ClockBehind), "the screen says what the Signer will say")

	later := allowedAt.Add(time.Hour)
	require.Empty(t, w.elsewhere(ask{Do: "sign", Clock: later}).Error)
	for !(LastRun{}).Floor().Equal(floorOf(later)) { // the watcher looks
		runtime.Gosched()
	}
	assert.True(t, judge(allowedAt).Has(guard.ClockBehind))
	w.setClock(later.Add(time.Hour))
	signs(t, w.byClock(w.card, g))
	assert.Equal(t, floorOf(later.Add(time.Hour)), LastRun{}.Floor(), "at once, of this process")
	assert.Zero(t, testing.AllocsPerRun(100, func() { LastRun{}.Floor() }))

	require.NoError(t, os.Remove(dir.Clock().Path()))
	for !(LastRun{}).Floor().IsZero() {
		runtime.Gosched()
	}
}

func TestAMachineWithoutAFolderHasNoLastRun(t *testing.T) {
	was := machineClock
	t.Cleanup(func() { machineClock = was })
	machineClock = func() *state.Clock { return nil }
	assert.Zero(t, LastRun{}.Floor())
	readLastRun(state.At("/nowhere"))
	assert.Equal(t, state.At("/nowhere"), clockOf(state.At("/nowhere")).Dir())
}

// clockWalk drives two Signers, as of two processes, and the clock at random beside a
// model of the floor.
type clockWalk struct {
	w       *world
	signers [2]*Signer
	floor   time.Time
	damaged bool
	signed  int
}

func (m *clockWalk) restart(t *rapid.T, i int) {
	s, err := New(m.w.card, builtin(t), m.w.rec)
	require.NoError(t, err)
	s.now = m.w.clock
	m.signers[i] = s
}

func TestTheClockIsNeverBehindWhateverHappens(t *testing.T) {
	need.Cases(t, 1000)
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		require.NoError(t, os.RemoveAll(w.dir.Path()))
		m := &clockWalk{w: w, signed: w.signed()}
		m.restart(t, 0)
		m.restart(t, 1)
		defer func() {
			for _, s := range m.signers {
				require.NoError(t, s.Close())
			}
		}()
		path := w.dir.Clock().Path()
		t.Repeat(map[string]func(*rapid.T){
			"sign": func(t *rapid.T) {
				at := rapid.SampledFrom([]time.Time{allowedAt, theEnd, theEnd.AddDate(1, 0, 0)}).Draw(t, "about").
					Add(time.Duration(rapid.Int64Range(-200, 200).Draw(t, "seconds")) * time.Second)
				w.setClock(at)
				asked, err := builtin(t).CheckAt(context.Background(), w.card, at)
				if err == nil {
					require.True(t, asked.Decision.Permits())
				}
				behind := at.Before(m.floor)
				_, serr := Sign(context.Background(), m.signers[rapid.IntRange(0, 1).Draw(t, "process")], document(t, "one"))
				v := verdictOf(serr)
				switch {
				case err == nil && !behind && !m.damaged:
					require.NoError(t, serr)
					m.signed++
				case m.damaged:
					require.Error(t, serr)
				default:
					require.Equal(t, behind, v.Has(guard.ClockBehind), "%v", serr)
					require.Equal(t, err != nil, v.Decision == guard.DecisionRefused, "%v", serr)
				}
				if to := floorOf(at); !m.damaged && to.After(m.floor) && !at.After(theEnd.AddDate(1, 0, 0)) {
					m.floor = to
				}
			},
			"restart": func(t *rapid.T) {
				i := rapid.IntRange(0, 1).Draw(t, "process")
				require.NoError(t, m.signers[i].Close())
				m.restart(t, i)
			},
			"remove": func(t *rapid.T) {
				_ = os.Remove(path)
				m.floor, m.damaged = time.Time{}, false
			},
			"damage": func(t *rapid.T) {
				require.NoError(t, os.MkdirAll(w.dir.Path(), 0o700))
				require.NoError(t, os.WriteFile(path, []byte("?"), 0o600))
				m.damaged = true
			},
			"": func(t *rapid.T) {
				require.Equal(t, m.signed, w.signed(), "signatures")
				if m.damaged {
					return
				}
				c := w.dir.Clock()
				require.NoError(t, c.Refresh())
				require.Equal(t, m.floor, c.Floor())
			},
		})
	})
}

// verdictOf is the verdict that an error carries.
func verdictOf(err error) guard.Verdict {
	var refused *guard.Refused
	var undecided *guard.Undecided
	switch {
	case errors.As(err, &refused):
		return refused.Verdict
	case errors.As(err, &undecided):
		return undecided.Verdict
	}
	return guard.Verdict{}
}

// One guard and one card, many Signers at once: for the race detector.
func TestManySignersRaiseTheClockFloorAtOnce(t *testing.T) {
	w := newWorld(t)
	var working sync.WaitGroup
	var mu sync.Mutex
	at := allowedAt.Add(50 * time.Second)
	tick := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		at = at.Add(500 * time.Millisecond)
		return at
	}
	g := builtin(t)
	for range 4 {
		s := w.byClock(w.card, g)
		s.now = tick
		working.Go(func() {
			for range 5 {
				// Another raises the floor between this clock's answer and the judgement.
				_, err := Sign(t.Context(), s, document(t, "one"))
				assert.NoError(t, err)
			}
		})
	}
	working.Wait()
	assert.False(t, w.kept().After(at))
	assert.Equal(t, allowedAt, w.kept())
}
