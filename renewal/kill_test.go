//go:build cgo

package renewal_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/renewal"
)

// seedEnv sets the seed of TestKill.
const seedEnv = "RXGUARD_TEST_SEED"

// TestKill kills processes with SIGKILL while they renew a card behind a PKCS#11 module,
// each card one to four times, at any moment; then one goes on to the end. Before each
// goes on, it looks at the card as another vendor's application, to which nothing but a
// hold matters, and tries to sign.
//
// The seed decides how often a process is killed, at which step, and how long after which
// of the ticks in it. How far the process came by then, the machine decides.
func TestKill(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv(seedEnv); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err, seedEnv)
	}
	p := newPractice(t)
	var modules sync.WaitGroup
	for _, m := range []struct {
		name    string
		runs    int // make soak: ten times as many
		workers int
		desks   func(*practice, *testing.T) func(testing.TB) *desk
	}{
		{"SoftHSM", 60, 2, (*practice).softDesks},
		{"ykcs11 with a PIV card", 40, 4, (*practice).pivDesks}, // which waits, most of the time
	} {
		// Not t.Parallel, which runs as many at once as there are processors.
		modules.Go(func() {
			t.Run(m.name, func(t *testing.T) {
				runs := m.runs
				if os.Getenv("RXGUARD_SOAK") != "" {
					runs *= 10
				}
				k := &killing{seed: seed, runs: int64(runs), struck: map[renewal.Step]int{}, kills: map[int]int{}}
				var desks []func(testing.TB) *desk
				for range m.workers {
					desks = append(desks, m.desks(p, t))
				}
				k.measure(t, desks[0])
				k.all(t, desks)
				assert.Equal(t, runs, k.ended, "each run comes to its end")
				t.Logf("%d runs (make soak: %d), %s=%d: %s", k.ended, 10*m.runs, seedEnv, seed, k.summary())
			})
		})
	}
	modules.Wait()
}

// all shares the runs out among workers, each with desks of its own.
func (k *killing) all(t *testing.T, desks []func(testing.TB) *desk) {
	var workers sync.WaitGroup
	for i, desks := range desks {
		workers.Go(func() {
			t.Run(fmt.Sprint("worker ", i+1), func(t *testing.T) {
				for n := k.next.Add(1); n <= k.runs; n = k.next.Add(1) {
					k.run(t, int(n), desks)
				}
			})
		})
	}
	workers.Wait()
}

// killing is the runs with one module.
type killing struct {
	seed uint64
	runs int64
	next atomic.Int64 // run

	// Of a run that nobody disturbed: the time before each tick, by the step that it
	// belongs to. Those before the first step belong to none.
	gaps map[renewal.Step][]time.Duration

	mu     sync.Mutex
	ended  int
	kills  map[int]int          // runs, by how often their processes were killed
	struck map[renewal.Step]int // kills, by the step that the journal says was next or under way
}

func (k *killing) summary() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	total := 0
	var runs, steps []string
	for _, n := range slices.Sorted(maps.Keys(k.kills)) {
		total += n * k.kills[n]
		runs = append(runs, fmt.Sprintf("%d runs %d times", k.kills[n], n))
	}
	for _, s := range renewal.Steps {
		steps = append(steps, fmt.Sprintf("%s %d", s, k.struck[s]))
	}
	return fmt.Sprintf("%d kills (%s), at step %s", total, strings.Join(runs, ", "), strings.Join(steps, ", "))
}

// measure lets one process do it all.
func (k *killing) measure(t *testing.T, desks func(testing.TB) *desk) {
	k.gaps = map[renewal.Step][]time.Duration{}
	r := &killed{desk: desks(t), k: k}
	defer r.leave()
	last := time.Now()
	r.child(nil, func(s renewal.Step) {
		k.gaps[s] = append(k.gaps[s], time.Since(last))
		last = time.Now()
	})
	require.True(t, r.ended)
	r.settled()
	for _, s := range renewal.Steps[:len(renewal.Steps)-1] {
		require.NotEmpty(t, k.gaps[s], s)
	}
}

// moment is when a process is killed: so long after a tick of a step.
type moment struct {
	step  renewal.Step // empty: before the first
	tick  int          // of the step, from 1
	delay time.Duration
}

// reached tells whether the moment's tick is there, or was left out.
func (m *moment) reached(step renewal.Step, tick int) bool {
	at, wanted := slices.Index(renewal.Steps, step), slices.Index(renewal.Steps, m.step)
	return at > wanted || at == wanted && tick >= m.tick
}

// moment draws one for a process that goes on with this step.
func (k *killing) moment(random *rand.Rand, next renewal.Step) *moment {
	steps := []renewal.Step{""}
	for _, s := range renewal.Steps[slices.Index(renewal.Steps, next):] {
		if len(k.gaps[s]) > 0 {
			steps = append(steps, s)
		}
	}
	m := &moment{step: steps[random.IntN(len(steps))]}
	m.tick = 1 + random.IntN(len(k.gaps[m.step]))
	after := append(k.gaps[m.step][m.tick:len(k.gaps[m.step]):len(k.gaps[m.step])], 5*time.Millisecond)[0]
	m.delay = time.Duration(random.Int64N(int64(after) + 1))
	return m
}

// killed is one run: a card, and the processes that renew it.
type killed struct {
	*desk
	k     *killing
	kills int
	ended bool
	end   ending

	reseated bool // the card was taken out and put back, as a process saw
	retired  int  // said to have been
	log      []string
}

// run kills the processes of one card.
func (k *killing) run(t *testing.T, n int, desks func(testing.TB) *desk) {
	random := rand.New(rand.NewPCG(k.seed, uint64(n)))
	for !k.card(t, n, random, desks(t)) {
	}
}

// card renews one, and tells whether a process was killed before it had done so.
func (k *killing) card(t *testing.T, n int, random *rand.Rand, d *desk) bool {
	r := &killed{desk: d, k: k}
	defer r.leave()
	defer func() {
		if t.Failed() {
			t.Logf("run %d, %s=%d:\n%s", n, seedEnv, k.seed, strings.Join(r.log, "\n"))
		}
	}()
	for range 1 + random.IntN(4) {
		if r.child(k.moment(random, r.next()), nil); r.ended {
			break
		}
	}
	for range 3 { // a re-seat that a killed process saw has to be done again
		if r.ended {
			break
		}
		r.child(nil, nil)
	}
	require.True(t, r.ended)
	r.settled()
	if r.kills == 0 { // it was too quick
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended++
	k.kills[r.kills]++
	return true
}

// leave ends a run: the reader is free for the next card.
func (r *killed) leave() {
	if r.reader != nil {
		_ = r.reader.Close()
	}
}

// child lets a process go on with the renewal, and kills it at a moment; nil: never.
// ticked is called at each tick with its step, and may be nil. Before the process goes
// on, what the last one left is judged.
func (r *killed) child(at *moment, ticked func(renewal.Step)) {
	r.t.Helper()
	if r.sim != nil {
		r.sim.Insert()
		require.NoError(r.t, r.reader.Seen(r.t.Context()))
	}
	left := r.journal()
	// SoftHSM writes the token's own file at each login, in place: broken off there, the
	// token is gone. A card's chip is in no process that is killed.
	p := r.start("look and renew", func(j *job) { j.Fragile = r.sim == nil })
	var found findings
	p.until(sayFound, &found)
	r.sound(left, found)
	var fragile sync.Mutex
	strike := func() {
		time.Sleep(at.delay) // a random moment
		fragile.Lock()
		defer fragile.Unlock()
		_ = p.cmd.Process.Kill()
	}
	var step renewal.Step
	ticks, struck := 0, at == nil
	for {
		word, rest := p.next()
		if word == "" {
			break
		}
		r.log = append(r.log, word+" "+rest)
		switch word {
		case sayTick:
			var tick string
			unmarshal(r.t, rest, &tick)
			switch s, isStep := strings.CutPrefix(tick, tickStep); {
			case isStep && renewal.Step(s) != step:
				step, ticks = renewal.Step(s), 0
			case tick == tickRetired:
				r.retired++
			case tick == tickSafe:
				fragile.Unlock()
			}
			if ticks++; !struck && at.reached(step, ticks) {
				struck = true
				go strike()
			}
			if ticked != nil {
				ticked(step)
			}
		case sayFragile:
			fragile.Lock()
			if p.goOn() != nil { // it was killed before
				fragile.Unlock()
			}
		case sayReseat:
			step, ticks = renewal.StepDone, 0
			r.sim.Remove()
		case sayOut:
			r.reseated = true
			r.sim.Insert()
		case sayEnd:
			unmarshal(r.t, rest, &r.end)
			r.ended = true
		}
	}
	err := p.cmd.Wait()
	require.Empty(r.t, p.errs.String())
	if r.ended {
		return
	}
	require.Error(r.t, err)
	require.Equal(r.t, "signal: killed", p.cmd.ProcessState.String())
	r.kills++
	r.log = append(r.log, fmt.Sprintf("killed at step %s, %s after tick %d of %q", r.next(), at.delay, at.tick, at.step))
	r.k.mu.Lock()
	r.k.struck[r.next()]++
	r.k.mu.Unlock()
}

// next is the step that the journal says is under way or comes next.
func (r *killed) next() renewal.Step {
	r.t.Helper()
	es := r.journal()
	if len(es) == 0 {
		return renewal.StepPlanned
	}
	last := es[len(es)-1]
	if i := slices.Index(renewal.Steps, last.Step); last.Act == renewal.Done && i+1 < len(renewal.Steps) {
		return renewal.Steps[i+1]
	}
	return last.Step
}

// journal reads the card's journal as the last process left it.
func (r *killed) journal() []renewal.JournalEntry {
	r.t.Helper()
	files, err := filepath.Glob(filepath.Join(r.job.State, "journals", "*"))
	require.NoError(r.t, err)
	if len(files) == 0 {
		return nil
	}
	require.Len(r.t, files, 1)
	es, _, err := renewal.ReadJournal(files[0])
	require.NoError(r.t, err)
	return es
}
