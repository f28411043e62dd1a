package renewal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
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

// crashPoints collects the crash points of an undisturbed run.
func crashPoints(t *testing.T) (points []string) {
	r := newWorld(t).crashing(func(p string) error { points = append(points, p); return nil })
	res, err := r.Renew(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, ReseatCard, res.Outcome)
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

// scenario is a renewal that is interrupted, and what it comes to.
type scenario struct {
	name    string
	card    func(*testcard.Config)
	mood    string // of the authority, from the beginning
	abandon bool   // after its first stop it is given up
	noRoom  bool   // the new pair is made in the old one's place, after a yes
	ends    ending
	random  bool // faults happen at the next point where they can
}

var scenarios = []*scenario{
	{name: "a card"},
	{name: "a card that asks for each signature", card: func(c *testcard.Config) { c.AlwaysAuthenticate = true }},
	{name: "a card that gets an affected certificate again", mood: "affected again", ends: endsOld},
	{name: "a card without room", noRoom: true, card: func(c *testcard.Config) { c.Containers = 2 }},
	{name: "a renewal that is given up", abandon: true, ends: mayEndOld},
}

// crashCase is one run of the matrix.
type crashCase struct {
	s    *scenario
	todo []injection
	keep bool // its points are wanted
}

type crashResult struct {
	end     string
	points  []point
	stopped int    // how many points there were before the first stop
	left    string // what the first stop left behind; empty: not known
	failure string
}

// run plays a case in a folder, which it empties.
func (c crashCase) run(folder string) (res crashResult) {
	var failures []string
	done := make(chan struct{})
	var r *rig
	go func() {
		defer close(done)
		r = newRig(caseTB{failures: &failures}, c.s, folder, c.todo...)
		r.keep = c.keep
		defer func() { _ = r.card.Close() }()
		res.end = r.play()
		res.points, res.stopped, res.left = r.points, r.firstStop, r.left
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Minute): // far beyond what a case takes: it waits for what does not come
		stacks := make([]byte, 1<<20)
		return crashResult{failure: "it hangs:\n" + string(stacks[:runtime.Stack(stacks, true)])}
	}
	if len(failures) > 0 {
		res.failure = fmt.Sprintf("%s: %s\n  %s", c.s.name, describe(c, r), strings.Join(failures, "\n  "))
	} else if res.end == "" {
		res.failure = fmt.Sprintf("%s: %s: it panicked", c.s.name, describe(c, r))
	}
	if err := os.RemoveAll(filepath.Join(folder, "state")); err != nil {
		res.failure += err.Error()
	}
	return res
}

// describe says what happened in a case.
func describe(c crashCase, r *rig) string {
	if len(c.todo) == 0 {
		return "undisturbed"
	}
	var b bytes.Buffer
	for i, j := range c.todo {
		if i > 0 {
			b.WriteString(", then ")
		}
		fmt.Fprintf(&b, "%s at point %d", j.fault.name, j.at)
		if r != nil && r.keep && j.at <= len(r.points) {
			fmt.Fprintf(&b, " (%s)", r.points[j.at-1])
		}
		if j.leave {
			b.WriteString(", another process goes on")
		}
	}
	return b.String()
}

// matrix runs cases on all processors and counts what they came to.
type matrix struct {
	t       *testing.T
	mu      sync.Mutex
	cases   int
	ends    map[string]int
	faults  map[string]int
	failed  int
	folders []string
}

func newMatrix(t *testing.T) *matrix {
	m := &matrix{t: t, ends: map[string]int{}, faults: map[string]int{}}
	base := memoryFolder(t)
	for i := range runtime.GOMAXPROCS(0) {
		m.folders = append(m.folders, filepath.Join(base, fmt.Sprint(i)))
		require.NoError(t, os.Mkdir(m.folders[i], 0o700))
	}
	return m
}

// memoryFolder is in memory where the system has a place for that: a case syncs a
// hundred times.
func memoryFolder(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "rxguard-crash-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// all runs cases, and hands each result on in their order.
func (m *matrix) all(cases []crashCase) []crashResult {
	results := make([]crashResult, len(cases))
	var next atomic.Int64
	var workers sync.WaitGroup
	for _, folder := range m.folders {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(cases) {
					return
				}
				results[i] = cases[i].run(folder)
				m.count(cases[i], results[i])
			}
		})
	}
	workers.Wait()
	return results
}

func (m *matrix) count(c crashCase, res crashResult) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cases++
	if res.failure != "" {
		if m.failed++; m.failed <= 20 {
			m.t.Error(res.failure)
		}
		return
	}
	m.ends[c.s.name+": "+res.end]++
	for _, i := range c.todo {
		m.faults[i.fault.name]++
	}
}

// TestCrashMatrix interrupts a renewal at every point, before and after each side
// effect on card, journal, holds, record and network, by every fault that can happen
// there; and once more at every point of what follows. Points are found by running:
// the first ones in an undisturbed renewal, the second in the one that the first
// interrupted. Each case ends in one end state, and the promises are looked at in
// each step of it.
func TestCrashMatrix(t *testing.T) {
	t.Parallel()
	m := newMatrix(t)
	var firsts, seconds []crashCase
	for _, s := range scenarios {
		firsts = append(firsts, s.firsts(t, m)...)
	}
	found, alike := map[string]bool{}, 0
	for i, res := range m.all(firsts) {
		if !firsts[i].todo[0].worthTwo(res) {
			continue
		}
		cases, same := firsts[i].seconds(i, res, found[res.left])
		seconds, alike = append(seconds, cases...), alike+same
		found[res.left] = res.left != ""
	}
	some := seconds
	if !soak() {
		some = spread(seconds, sampled)
	}
	m.all(some)
	for _, f := range faults {
		t.Logf("%7d times: %s", m.faults[f.name], f.name)
		assert.Positive(t, m.faults[f.name], "the fault %q never happened", f.name)
	}
	t.Logf("%d single interruptions, %d of %d double ones, which stand for %d (make soak: all)", len(firsts), len(some), len(seconds), len(seconds)+alike)
	for _, end := range slices.Sorted(maps.Keys(m.ends)) {
		t.Logf("%7d: %s (make soak: more)", m.ends[end], end)
	}
	require.Zero(t, m.failed, "cases failed; the first are shown")
}

// sampled is how many double interruptions make test plays, evenly spread over all.
const sampled = 500

// soak tells whether this is make soak.
func soak() bool { return os.Getenv("RXGUARD_SOAK") != "" }

// firsts are the cases with one interruption: every fault at every point of an
// undisturbed renewal. The same process goes on afterwards or another one, in turn; under
// make soak both are tried.
func (s *scenario) firsts(t *testing.T, m *matrix) (cases []crashCase) {
	whole := crashCase{s: s, keep: true}.run(m.folders[0])
	require.Empty(t, whole.failure)
	for i, p := range whole.points {
		for f := range faults {
			f := &faults[f]
			if !f.at(p) || s.abandon && f.name != "killed" || s != scenarios[0] && !thin(f, p) {
				continue
			}
			if f.kills {
				cases = append(cases, crashCase{s, []injection{{i + 1, f, false}}, true})
				continue
			}
			for _, leave := range []bool{false, true} {
				if s == scenarios[0] && soak() || leave == (i%2 == 0) {
					cases = append(cases, crashCase{s, []injection{{i + 1, f, leave}}, true})
				}
			}
		}
	}
	return cases
}

// seconds are the cases with a second interruption after the one of c, the ith: every
// fault at every point that was come by afterwards. Where the first one left behind what
// another one did, found tells, what follows is the same, and those cases are counted
// as alike.
func (c crashCase) seconds(i int, res crashResult, found bool) (cases []crashCase, alike int) {
	first := c.todo[0]
	for j := first.at; j < len(res.points); j++ {
		for f := range faults {
			switch f := &faults[f]; {
			case !f.at(res.points[j]) || !thin(f, res.points[j]):
			case found && j >= res.stopped:
				alike++
			default:
				cases = append(cases, crashCase{s: c.s, todo: []injection{first, {j + 1, f, !f.kills && (i+j)%2 == 0}}})
			}
		}
	}
	return cases, alike
}

// worthTwo tells whether a second interruption is tried after this first one.
func (i injection) worthTwo(res crashResult) bool {
	return res.failure == "" && thin(i.fault, res.points[i.at-1]) && (i.fault.kills || i.leave == (i.at%2 == 1))
}

// thin tells whether a fault is worth playing at a point where it can happen, beside
// others that come to the same.
func thin(f *fault, p point) bool { return f.thin == nil || f.thin(p) }

// spread picks n of a list, evenly.
func spread[T any](list []T, n int) (some []T) {
	for i := range list {
		if i*n/len(list) != (i+1)*n/len(list) {
			some = append(some, list[i])
		}
	}
	return some
}
