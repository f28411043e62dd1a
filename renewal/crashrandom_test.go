package renewal

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/internal/need"
)

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

// TestCrashesInRandomSequences interrupts the renewals of one card up to 30 times, by any
// fault anywhere, over many days, until one has succeeded: they are given up or not, the
// card re-seated at any moment, seen or not, and another process goes on or the same. Then
// nothing disturbs it.
func TestCrashesInRandomSequences(t *testing.T) {
	t.Parallel()
	need.Cases(t, 1000)
	base := memoryFolder(t)
	sequences, happened, ends := 0, 0, map[string]int{}
	rapid.Check(t, func(q *rapid.T) {
		s := *rapid.SampledFrom(scenarios).Draw(q, "scenario")
		s.random, s.mood = true, ""
		sequences++
		folder := filepath.Join(base, fmt.Sprint(sequences))
		r := newRig(rapidTB{t, q}, &s, folder)
		defer func() { _, _ = r.card.Close(), os.RemoveAll(folder) }()
		n := rapid.IntRange(10, 30).Draw(q, "interruptions")
		// Most come soon, so that the renewal gets on in small steps only.
		soon := rapid.OneOf(rapid.IntRange(1, 14), rapid.IntRange(1, 14), rapid.IntRange(1, 70))
		for i := 0; i < n; i++ {
			f := &faults[rapid.IntRange(0, len(faults)-1).Draw(q, "fault")]
			if f.ends == late && i < n-2 {
				continue // nothing much happens after the certificates' end
			}
			r.todo = []injection{{r.n + soon.Draw(q, "point"), f, rapid.Bool().Draw(q, "another process")}}
			s.abandon = rapid.IntRange(0, 5).Draw(q, "given up") == 0
			before := len(r.fired)
			over := r.live(1)
			if len(r.fired) > before {
				q.Logf("%s at point %d", f.name, r.n)
			}
			r.todo = nil
			r.stopped()
			if over && r.oldGone() {
				break
			}
			if rapid.Bool().Draw(q, "as ever again") {
				r.asEver()
			}
			switch rapid.IntRange(0, 5).Draw(q, "meanwhile") {
			case 0:
				r.reseat()
			case 1: // with nobody looking
				r.stop()
				r.takeOut()
				r.putBack()
				r.start()
			case 2:
				r.now = r.now.Add(50 * time.Hour)
			}
			r.sound()
		}
		happened += len(r.fired)
		r.asEver()
		s.abandon = false
		end := ""
		for tries := 0; ; tries++ {
			require.Less(r.t, tries, 8, "it does not come to an end")
			over := r.live(tries + 1) // where nothing but giving up helps, the person does
			r.stopped()
			if !over {
				continue
			}
			// What was given up can be begun again, unless that would be a loop.
			if end = r.end(); end != oldEnd || r.lastRenewal().why == whyAffectedAgain {
				break
			}
		}
		ends[end]++
	})
	t.Logf("%d sequences, %d interruptions: %v (make soak: %d)", sequences, happened, ends, 1000)
}

// asEver ends what a fault changed for good.
func (r *rig) asEver() {
	r.enrols.mood, r.enrols.refuse, r.full, r.says = "", nil, false, true
}
