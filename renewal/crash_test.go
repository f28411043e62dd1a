package renewal

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/testcard"
)

// crashing makes a Renewer whose crash points ask f.
func (w *world) crashing(f func(point string) error) *Renewer {
	w.t.Helper()
	r, err := New(Config{Card: w.card, Guard: w.g, Recorder: w.rec, Enroller: &confirmer{authority: w.ca, w: w}, AsOf: w.clock})
	require.NoError(w.t, err)
	r.crash = f
	return r
}

var errCrash = errors.New("the process was killed by the test")

// scenario is a renewal that is interrupted, and what it must come to.
type scenario struct {
	name  string
	order func(*testcard.Profile, *any, *testcard.IssueOptions)
	ends  Outcome // of the last Renew
}

var scenarios = []scenario{
	{name: "renewed", ends: ReseatCard},
	{name: "affected again", ends: NotOffered, order: func(_ *testcard.Profile, _ *any, o *testcard.IssueOptions) { o.NotBefore = issued }},
}

// points collects the crash points of an undisturbed run.
func (s scenario) points(t *testing.T) (points []string) {
	w := newWorld(t)
	w.ca.order = s.order
	r := w.crashing(func(p string) error { points = append(points, p); return nil })
	res, _ := r.Renew(t.Context(), nil)
	require.Equal(t, s.ends, res.Outcome)
	return points
}

// sound asserts what holds at every moment, however a renewal was interrupted.
func (w *world) sound(what string) {
	w.t.Helper()
	p := (&journal{entries: journalOf(w)}).last()
	if p == nil || !p.done[StepProve] {
		w.oldIsThere() // P5
	}
	pairs := 0
	for _, p := range w.onCard() {
		if p.key && p.cert != nil {
			pairs++
		}
	}
	require.Positive(w.t, pairs, "%s: nothing is left to sign with", what)
	if len(w.ops(changes...)) > 0 {
		require.NotNil(w.t, w.hold(), "%s: the card was changed and is on no hold", what) // P4
		for _, p := range w.onCard() {
			if p.key && p.cert != nil { // and goes by its certificates to other modules
				h, err := w.dir.Hold(sumOfDER(p.cert.Raw))
				require.NoError(w.t, err)
				require.NotNil(w.t, h, "%s: serial %x is on no hold", what, p.cert.SerialNumber)
			}
		}
	}
	retired := 0
	for _, e := range w.ops(testcard.OpDestroy) {
		if e.Class == card.PrivateKeyObject && string(e.ID) == string(testcard.SigningID()) {
			retired++
		}
	}
	require.LessOrEqual(w.t, retired, 1, "%s: two retirements", what)
	require.Zero(w.t, w.sim.Signatures(testcard.SigningID()), what) // P1
}

// settled asserts the one valid end state of a scenario: the new pair alone, or the
// old one, usable after the re-seat.
func (w *world) settled(s scenario, what string) {
	w.t.Helper()
	ctx := w.t.Context()
	res, err := w.renewer().Renew(ctx, nil)
	switch s.ends {
	case ReseatCard:
		require.NoError(w.t, err, what)
		if res.Outcome == ReseatCard {
			require.True(w.t, w.refused().Has(guard.OnHold), what)
			w.reseat()
			res, err = w.renewer().Finish(ctx, w.signer())
			require.NoError(w.t, err, what)
			require.Equal(w.t, Completed, res.Outcome, what)
		}
		require.True(w.t, w.newAlone().NotBefore.After(issued), what)
		w.mustSign()
	default:
		if err == nil {
			require.Equal(w.t, ReseatCard, res.Outcome, what)
		} else {
			require.Equal(w.t, s.ends, res.Outcome, "%s: %v", what, err)
		}
		w.oldAlone()
		w.reseat()
		res, err = w.renewer().Finish(ctx, w.signer())
		require.NoError(w.t, err, what)
		require.Equal(w.t, GivenUp, res.Outcome, what)
		require.Empty(w.t, w.ops(testcard.OpWriteCertificate), what) // P6
		v := w.refused()
		require.True(w.t, v.Has(guard.Affected) && !v.Has(guard.OnHold), what)
	}
	require.Nil(w.t, w.hold(), what)
	es := w.journal()
	last := es[len(es)-1]
	require.Contains(w.t, []Step{StepDone, StepGivenUp}, last.Step, what)
	require.Equal(w.t, Done, last.Act, what)
}

// TestCrashMatrix kills a renewal at every point where it touches the journal, the
// hold or the authority, and before and after every operation of the card; then a
// new process goes on. Each case ends in one of the valid end states.
func TestCrashMatrix(t *testing.T) {
	t.Parallel()
	cases := 0
	for _, s := range scenarios {
		points := s.points(t)
		require.Greater(t, len(points), 20)
		for i, point := range points {
			what := fmt.Sprintf("%s: killed at point %d of %d, %s", s.name, i+1, len(points), point)
			w := newWorld(t)
			w.ca.order = s.order
			n := 0
			r := w.crashing(func(p string) error {
				if n++; n == i+1 {
					require.Equal(t, point, p)
					return errCrash
				}
				return nil
			})
			res, err := r.Renew(t.Context(), nil)
			require.ErrorIs(t, err, errCrash, what)
			require.Equal(t, Resumable, res.Outcome, what)
			w.sound(what)
			require.LessOrEqual(t, len(w.ops(testcard.OpGenerate)), 1, what)
			w.restart()
			w.settled(s, what)
			require.LessOrEqual(t, len(w.ca.issued), 2, what)
			t.Log(what)
			cases++
		}

		w := newWorld(t)
		w.ca.order = s.order
		events := 0
		end := w.hook(func(testcard.Event) error { events++; return nil })
		_, _ = w.crashing(func(string) error { return nil }).Renew(t.Context(), nil)
		end()
		for at := 1; at <= events; at++ {
			w := newWorld(t)
			w.ca.order = s.order
			n, what := 0, ""
			end := w.hook(func(e testcard.Event) error {
				if n++; n < at {
					return nil
				}
				if n == at {
					what = fmt.Sprintf("%s: killed at operation %d of %d, %s, after it: %t", s.name, at, events, e.Op, e.After)
				}
				return errCrash // a killed process does nothing more
			})
			_, err := w.crashing(func(string) error { return nil }).Renew(t.Context(), nil)
			end()
			w.sound(what)
			require.LessOrEqual(t, len(w.ops(testcard.OpGenerate)), 1, what)
			w.restart()
			w.settled(s, what)
			require.LessOrEqual(t, len(w.ca.issued), 2, what)
			t.Log(what, "stopped:", err != nil)
			cases++
		}
	}
	t.Logf("%d cases", cases)
}

// rapidTB makes a world of a rapid check.
type rapidTB struct {
	testing.TB
	r *rapid.T
}

func (t rapidTB) Helper()                   {}
func (t rapidTB) Errorf(f string, a ...any) { t.r.Errorf(f, a...) }
func (t rapidTB) FailNow()                  { t.r.FailNow() }
func (t rapidTB) Fatalf(f string, a ...any) { t.r.Fatalf(f, a...) }
func (t rapidTB) Logf(f string, a ...any)   { t.r.Logf(f, a...) }

// TestCrashesInRandomSequences interrupts one renewal up to four times, by anything
// in any order, and gives it up or not; then it is gone on with.
func TestCrashesInRandomSequences(t *testing.T) {
	t.Parallel()
	need.Cases(t, 500)
	rapid.Check(t, func(r *rapid.T) {
		w := newWorld(rapidTB{t, r})
		defer func() { _ = w.card.Close() }() // the one of the last restart
		s := rapid.SampledFrom(scenarios).Draw(r, "scenario")
		w.ca.order = s.order
		for range rapid.IntRange(1, 4).Draw(r, "interruptions") {
			w.ca.answer = nil
			crash, end := func(string) error { return nil }, func() {}
			switch fault := rapid.SampledFrom([]string{"killed", "pulled", "broken", "answer lost", "unavailable", "pending", "wrong passcode"}).Draw(r, "fault"); fault {
			case "killed":
				at, n := rapid.IntRange(1, 55).Draw(r, "point"), 0
				crash = func(string) error {
					if n++; n >= at {
						return errCrash
					}
					return nil
				}
			case "pulled", "broken":
				at, n := rapid.IntRange(1, 60).Draw(r, "event"), 0
				end = w.hook(func(e testcard.Event) error {
					if n++; n != at {
						return nil
					}
					if fault == "pulled" {
						w.sim.Remove()
						return nil
					}
					return card.Errorf(card.Fault, string(e.Op), "broken by the test")
				})
			case "answer lost":
				w.ca.answer = func(_ int, q Request) (Answer, error) {
					_, err := w.ca.issue(q)
					return Answer{}, errors.Join(err, &EnrolError{Kind: Unreachable})
				}
			case "unavailable":
				w.ca.answer = func(int, Request) (Answer, error) { return Answer{}, &EnrolError{Kind: Unavailable} }
			case "pending":
				w.ca.answer = func(int, Request) (Answer, error) { return Answer{Pending: w.now.Add(1)}, nil }
			case "wrong passcode":
				w.spend(1)
				w.person.pin = "zyxzyx"
			}
			renewer := w.crashing(crash)
			if rapid.IntRange(0, 5).Draw(r, "abandon") == 0 {
				_, _ = renewer.Abandon(t.Context())
			} else {
				_, _ = renewer.Renew(t.Context(), nil)
			}
			w.person.pin = thePIN
			end()
			require.NoError(w.t, w.sim.SetPIN([]byte(thePIN)))
			w.sim.Insert()
			w.see(func(s guard.Snapshot) bool { return !errors.Is(s.Err, guard.ErrNoCard) })
			w.now = w.now.Add(2)
			w.sound("in a random sequence")
			if rapid.Bool().Draw(r, "restart") {
				w.restart()
			}
		}
		w.ca.answer = nil
		for range 6 {
			res, err := w.renewer().Renew(t.Context(), nil)
			if res.Outcome == GivenUp && w.hold() == nil {
				continue // nothing had been touched yet
			}
			if res.Outcome == NotNeeded || w.hold() == nil {
				break
			}
			require.Contains(w.t, []Outcome{ReseatCard, NotOffered}, res.Outcome, "%v", err)
			w.reseat()
			res, err = w.renewer().Finish(t.Context(), w.signer())
			require.NoError(w.t, err)
			require.Contains(w.t, []Outcome{Completed, GivenUp}, res.Outcome)
		}
		require.Nil(w.t, w.hold())
		if s.ends == ReseatCard {
			w.newAlone()
			w.mustSign()
		} else {
			w.oldAlone()
			require.True(w.t, w.refused().Has(guard.Affected))
		}
		es := w.journal()
		require.Contains(w.t, []Step{StepDone, StepGivenUp}, es[len(es)-1].Step)
	})
}
