//go:build cgo

package renewal_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
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

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/renewal"
	"github.com/rxguard/rxguard/signing"
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
	for _, m := range []struct {
		name    string
		runs    int // make soak: ten times as many
		workers int
		desks   func(*practice, *testing.T) func(testing.TB) *desk
	}{
		{"SoftHSM", 80, 2, (*practice).softDesks},
		{"ykcs11 with a PIV card", 20, 1, (*practice).pivDesks}, // there is one reader
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			runs := m.runs
			if os.Getenv("RXGUARD_SOAK") != "" {
				runs *= 10
			}
			k := &killing{seed: seed, make: m.desks(p, t), struck: map[renewal.Step]int{}, kills: map[int]int{}}
			k.measure(t)
			var next atomic.Int64
			t.Run("runs", func(t *testing.T) {
				for worker := range m.workers {
					t.Run(fmt.Sprint("worker ", worker+1), func(t *testing.T) {
						t.Parallel()
						for n := int(next.Add(1)); n <= runs; n = int(next.Add(1)) {
							k.run(t, n)
						}
					})
				}
			})
			assert.Equal(t, runs, k.ended, "each run comes to its end")
			t.Logf("%d runs (make soak: %d), seed %d: %s", k.ended, 10*m.runs, seed, k.summary())
		})
	}
}

// killing is the runs with one module.
type killing struct {
	seed uint64
	make func(testing.TB) *desk

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
func (k *killing) measure(t *testing.T) {
	k.gaps = map[renewal.Step][]time.Duration{}
	r := &killed{desk: k.make(t), k: k}
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
func (k *killing) run(t *testing.T, n int) {
	random := rand.New(rand.NewPCG(k.seed, uint64(n)))
	for !k.card(t, n, random) {
	}
}

// card renews one, and tells whether a process was killed before it had done so.
func (k *killing) card(t *testing.T, n int, random *rand.Rand) bool {
	r := &killed{desk: k.make(t), k: k}
	defer r.leave()
	defer func() {
		if t.Failed() {
			t.Logf("run %d, seed %d:\n%s", n, k.seed, strings.Join(r.log, "\n"))
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

// has tells whether a journal holds an entry.
func has(es []renewal.JournalEntry, s renewal.Step, a renewal.Act) bool {
	return slices.ContainsFunc(es, func(e renewal.JournalEntry) bool { return e.Step == s && e.Act == a })
}

// held are the reasons for which a card on hold is refused.
var held = []guard.Reason{guard.OnHold, guard.OnHoldRenewal, guard.OnHoldLogin}

// sound asserts what holds at every moment: es is the journal, and found what another
// application found on the card.
func (r *killed) sound(es []renewal.JournalEntry, found findings) {
	r.t.Helper()
	on := found.Objects
	if r.sim != nil {
		on = r.inside()
	}
	certs, keys := certificates(on), privateKeys(on)
	auth, old := hex.EncodeToString(testcard.AuthenticationID()), hex.EncodeToString(testcard.SigningID())
	was := certificates(r.before)

	// P5: the old pair stays until the new one has signed and verified.
	if !has(es, renewal.StepProve, renewal.Done) {
		require.Equal(r.t, was[old], certs[old], "the old certificate is gone")
	}
	if !has(es, renewal.StepRetire, renewal.Intent) {
		require.Equal(r.t, was[old].Key, keys[old].Key, "the old key is gone")
	}
	require.Equal(r.t, was[auth], certs[auth])
	require.Equal(r.t, was[auth].Key, keys[auth].Key)

	// P4: from before the first change on nothing signs, until the card was re-seated.
	changed := len(on) != len(r.before) || slices.ContainsFunc(on, func(o object) bool { return !slices.Contains(r.before, o) })
	require.Empty(r.t, found.Err)
	switch {
	case found.Signed == "":
		require.True(r.t, slices.ContainsFunc(found.Reasons, func(x guard.Reason) bool { return slices.Contains(held, x) }), "%v", found.Reasons)
	case r.reseated && has(es, renewal.StepReseat, renewal.Done):
		require.NotEqual(r.t, r.old, found.Signed)
	default:
		require.Equal(r.t, r.old, found.Signed)
		require.False(r.t, changed, "a card that was changed signs")
		require.False(r.t, has(es, renewal.StepHold, renewal.Done), "a card on hold signs")
	}

	// One renewal, one new key, one retirement.
	for _, e := range es {
		require.Equal(r.t, es[0].Renewal, e.Renewal)
		require.NotEqual(r.t, renewal.StepGivenUp, e.Step)
	}
	for id := range keys {
		if id != auth && id != old {
			require.NotEmpty(r.t, es)
			require.Equal(r.t, hex.EncodeToString(es[0].NewID), id, "a stray key")
		}
	}
	require.LessOrEqual(r.t, r.retired, 1)
	r.nothingSecret()
}

// settled asserts the one valid end: the new pair alone, apart from what the module
// cannot remove; re-seated and signing, or where the card cannot be taken out, on hold.
func (r *killed) settled() {
	r.t.Helper()
	es := r.journal()
	found := r.look()
	r.sound(es, found)
	require.Empty(r.t, r.end.Err)
	on := found.Objects
	if r.sim != nil {
		on = r.inside()
	}
	certs, keys := certificates(on), privateKeys(on)
	auth, old, fresh := hex.EncodeToString(testcard.AuthenticationID()), hex.EncodeToString(testcard.SigningID()), hex.EncodeToString(es[0].NewID)
	require.ElementsMatch(r.t, []string{auth, fresh}, slices.Collect(maps.Keys(certs)))
	require.NotEmpty(r.t, certs[fresh].Key)
	require.Equal(r.t, certs[fresh].Key, keys[fresh].Key)
	last := es[len(es)-1]
	require.Equal(r.t, renewal.Done, last.Act)
	holds, err := filepath.Glob(filepath.Join(r.job.State, "holds", "*.json"))
	require.NoError(r.t, err)
	if r.sim == nil {
		require.Len(r.t, keys, 2)
		require.Equal(r.t, renewal.ReseatCard, r.end.Outcome)
		require.Positive(r.t, r.end.Remedies)
		require.Equal(r.t, renewal.StepReseat, last.Step)
		require.Empty(r.t, found.Signed)
		require.Contains(r.t, found.Reasons, guard.OnHold)
		require.NotEmpty(r.t, holds)
	} else {
		require.ElementsMatch(r.t, []string{auth, old, fresh}, slices.Collect(maps.Keys(keys)), "a PIV card removes no key")
		require.True(r.t, r.end.Completed, r.end.Text)
		require.Equal(r.t, renewal.StepDone, last.Step)
		require.Equal(r.t, certs[fresh].Sum, found.Signed)
		require.Equal(r.t, certs[fresh].Sum, sum(r.end.Certificate))
		digest := sha256.Sum256(r.end.SignedInfo)
		require.NoError(r.t, rsa.VerifyPKCS1v15(parsed(r.t, r.end.Certificate).PublicKey.(*rsa.PublicKey), crypto.SHA256, digest[:], r.end.Signature))
		require.Empty(r.t, holds)
		r.once()
	}
	_, err = signing.VerifyRecord(r.job.Record, nil)
	require.NoError(r.t, err)
}

// once asserts of the commands that reached a PIV card: the old certificate was removed
// once, after the new key had signed the request and a challenge.
func (r *killed) once() {
	r.t.Helper()
	signed, removed := 0, 0
	for _, c := range r.sim.Commands() {
		switch {
		case c.Phase != testcard.During || c.SW != testcard.SWOK:
		case c.Op == testcard.OpSign && !bytes.Equal(c.ID, testcard.AuthenticationID()) && !bytes.Equal(c.ID, testcard.SigningID()):
			signed++
		case c.Op == testcard.OpDestroy && bytes.Equal(c.ID, testcard.SigningID()):
			require.GreaterOrEqual(r.t, signed, 2)
			removed++
		}
	}
	require.Equal(r.t, 1, removed)
}

// nothingSecret asserts that no file of the machine holds the passcode, the security
// officer's secret or a private key.
func (r *killed) nothingSecret() {
	r.t.Helper()
	secrets := map[string][]byte{"the passcode": []byte(processPIN), "a private key": []byte("PRIVATE KEY")}
	if r.job.Officer != "" {
		secrets["the management key"] = testcard.DefaultManagementKey()
		secrets["the management key as it is entered"] = []byte(r.job.Officer)
		keys := testcard.CachedKeys()
		for i := range 4 {
			k, err := keys(2048)
			require.NoError(r.t, err)
			secrets[fmt.Sprintf("private key %d", i)] = k.D.Bytes()
			secrets[fmt.Sprintf("a prime of key %d", i)] = k.Primes[0].Bytes()
		}
	}
	err := filepath.WalkDir(r.job.State, func(file string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
			return nil
		}
		require.NoError(r.t, err)
		b, err := os.ReadFile(file)
		require.NoError(r.t, err)
		for what, s := range secrets {
			for _, form := range [][]byte{s, []byte(hex.EncodeToString(s)), []byte(base64.RawStdEncoding.EncodeToString(s))} {
				require.False(r.t, bytes.Contains(b, form), "%s holds %s", file, what)
			}
		}
		return nil
	})
	require.NoError(r.t, err)
}
