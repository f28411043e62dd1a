//go:build cgo

package renewal_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
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
// The seed decides how often, at which operation and how long after it a process is
// killed. How far the process came by then, the machine decides.
func TestKill(t *testing.T) {
	seed := rand.Uint64()
	if s := os.Getenv(seedEnv); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err, seedEnv)
	}
	p := newPractice(t)
	for _, m := range []struct {
		name      string
		runs      int // make soak: ten times as many
		workers   int
		desks     func(*practice, *testing.T) func(testing.TB) *desk
		reseating bool
	}{
		{"SoftHSM", 60, 2, (*practice).softDesks, false},
		{"ykcs11 with a PIV card", 40, 1, (*practice).pivDesks, true}, // there is one reader
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

	// Of a run that nobody disturbed: the time before each tick, and how many ticks
	// there are before the first step.
	gaps  []time.Duration
	first int

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
	r := &killed{desk: k.make(t), k: k}
	defer r.leave()
	last := time.Time{}
	step := false
	r.child(0, 0, func(word, rest string) {
		if word != sayTick {
			last = time.Now()
			return
		}
		if last.IsZero() {
			last = time.Now()
		}
		step = step || strings.HasPrefix(rest, `"step`)
		if !step {
			k.first++
		}
		k.gaps = append(k.gaps, time.Since(last))
		last = time.Now()
	})
	require.True(t, r.ended)
	r.settled()
	require.Greater(t, len(k.gaps), 40)
	k.ended = 0
}

// killed is one run: a card, and the processes that renew it.
type killed struct {
	*desk
	k     *killing
	n     int
	kills int
	ended bool
	end   ending

	reseated bool // the card was taken out and put back, as a process saw
	retired  int  // said to have been
	log      []string
}

// run kills the processes of one card.
func (k *killing) run(t *testing.T, n int) {
	r := &killed{desk: k.make(t), k: k, n: n}
	defer r.leave()
	defer func() {
		if t.Failed() {
			t.Logf("run %d, seed %d:\n%s", n, k.seed, strings.Join(r.log, "\n"))
		}
	}()
	random := rand.New(rand.NewPCG(k.seed, uint64(n)))
	passed := 0
	for range 1 + random.IntN(4) {
		at := 1 + random.IntN(len(k.gaps)-passed)
		gap := k.gaps[min(passed+at, len(k.gaps)-1)]
		passed = max(0, passed+r.child(at, time.Duration(random.Int64N(int64(gap)+1)), nil)-k.first)
		passed = min(passed, len(k.gaps)-k.first)
		if r.ended {
			break
		}
	}
	for range 3 { // a re-seat that a killed process saw has to be done again
		if r.ended {
			break
		}
		r.child(0, 0, nil)
	}
	require.True(t, r.ended)
	r.settled()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended++
	k.kills[r.kills]++
}

// leave ends a run: the reader is free for the next card.
func (r *killed) leave() {
	if r.reader != nil {
		_ = r.reader.Close()
	}
}

// child lets a process go on with the renewal, and kills it when so much time has gone
// since the tick at; 0 never does. It answers how many ticks there were. Before the
// process goes on, what the last one left is judged.
func (r *killed) child(at int, delay time.Duration, each func(word, rest string)) (ticks int) {
	r.t.Helper()
	if r.sim != nil {
		r.sim.Insert()
		require.NoError(r.t, r.reader.Seen(r.t.Context()))
	}
	left := r.journal()
	p := r.start("renew")
	var found findings
	p.until(sayFound, &found)
	r.sound(left, found)
	strike := func() {
		time.Sleep(delay) // the moment is a random one
		_ = p.cmd.Process.Kill()
	}
	for {
		word, rest := p.next()
		if word == "" {
			break
		}
		if each != nil {
			each(word, rest)
		}
		switch word {
		case sayTick:
			if rest == strconv.Quote(tickRetired) {
				r.retired++
			}
			if ticks++; ticks == at {
				go strike()
			}
			r.log = append(r.log, rest)
		case sayReseat:
			r.sim.Remove()
		case sayOut:
			r.reseated = true
			r.sim.Insert()
		case sayEnd:
			require.NoError(r.t, json.Unmarshal([]byte(rest), &r.end))
			r.ended = true
			r.log = append(r.log, rest)
		}
	}
	err := p.cmd.Wait()
	require.Empty(r.t, p.errs.String())
	if r.ended {
		return ticks
	}
	require.Error(r.t, err)
	require.Equal(r.t, "signal: killed", p.cmd.ProcessState.String())
	r.kills++
	step := renewal.StepPlanned
	if es := r.journal(); len(es) > 0 {
		step = es[len(es)-1].Step
		if i := slices.Index(renewal.Steps, step); es[len(es)-1].Act == renewal.Done && i+1 < len(renewal.Steps) {
			step = renewal.Steps[i+1]
		}
	}
	r.log = append(r.log, fmt.Sprintf("killed at step %s, %s after tick %d", step, delay, at))
	r.k.mu.Lock()
	r.k.struck[step]++
	r.k.mu.Unlock()
	return ticks
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
	holds, err := filepath.Glob(filepath.Join(r.job.State, "holds", "*"))
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
	left, err := filepath.Glob(filepath.Join(r.job.State, "locks", "*.owner"))
	require.NoError(r.t, err)
	require.Empty(r.t, left, "nobody renews it")
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

