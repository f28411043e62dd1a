package renewal

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
)

// kind is what a renewal does at a point where it can be interrupted.
type kind int

const (
	atJournal  kind = iota // a line of the journal
	atHold                 // the files of a hold
	atRecord               // a line of the decision record
	atNetwork              // the authority, as the renewal sees it
	atExchange             // the authority itself, about to answer
	atCard                 // an operation of the card
	atPrompt               // the passcode is asked
	atConsent              // it is asked whether the old pair may be given up
	atClock                // the clock is read
)

// point is one of them, as it was come by.
type point struct {
	kind  kind
	name  string
	after bool        // the side effect; false: before it
	op    testcard.Op // atCard
}

func (p point) String() string {
	if p.after {
		return "after " + p.name
	}
	return "before " + p.name
}

// reads tells that the operation changes nothing, on the card or elsewhere.
func (p point) reads() bool {
	return slices.Contains([]testcard.Op{testcard.OpOpen, testcard.OpInfo, testcard.OpObjects, testcard.OpClose}, p.op)
}

// injection is a fault at the nth point, from 1, of a case. leave tells that
// another process goes on, on another day, where the fault does not end this one.
type injection struct {
	at    int
	fault *fault
	leave bool
}

// rig is a world whose renewal is interrupted, by points counted through all its
// processes, and watched at each.
type rig struct {
	*world
	s       *scenario
	slot    *slot
	other   *testcard.Card // of somebody else, with which nothing is wrong
	otherID string
	renewal *Renewer
	signs   *signing.Signer
	enrols  *office
	asks    *holder

	mu     sync.Mutex
	n      int     // points so far
	points []point // all of them, where they are wanted
	keep   bool
	todo   []injection
	fired  []injection
	quiet  bool // the test itself does something
	dead   bool // the process was killed
	wrong  []string

	firstStop  int    // points before the first stop after a fault
	left       string // what it left behind
	leave      bool   // after this stop another process goes on
	rightClock *time.Duration
	holdsWere  map[string][]byte
	watch
}

// newRig makes a case's world in a folder of its own, which is empty.
func newRig(t testing.TB, s *scenario, folder string, todo ...injection) *rig {
	p := provisioned()
	c := testcard.Config{Serial: "c0ffee", Label: "card one", PSS: true, PIN: []byte(thePIN)}
	if s.card != nil {
		s.card(&c)
	}
	sim := p.put(t, c, p.auth, p.old)
	c.Serial, c.Label = "0ddba11", "card two"
	other := p.put(t, c, p.otherAuth, p.good)
	other.Remove()
	id := func(serial string) string {
		return card.Info{Manufacturer: testcard.Manufacturer, Model: testcard.Model, Serial: serial}.ID()
	}
	r := &rig{s: s, slot: newSlot(sim), other: other, otherID: id("0ddba11"), todo: todo}
	r.says = true
	r.world = &world{t: t, sim: sim, old: p.old, dir: state.At(filepath.Join(folder, "state")), rec: &memory{}, id: id("c0ffee"), g: theGuard(), now: theTime}
	r.asks = &holder{r: r, yes: true}
	r.enrols = &office{r: r, csr: map[string][]byte{}}
	if s.mood != "" {
		r.enrols.mood = s.mood
	}
	r.start()
	return r
}

// start opens the card as a new process does.
func (r *rig) start() {
	var err error
	r.card, err = signing.Open(context.Background(), signing.Config{
		Reader: card.NewReader(tapped{r.slot.Token(), r}, r.dir.Path()), PIN: r.asks.enter, LastTry: r.asks.lastTry,
	})
	require.NoError(r.t, err)
	rec := recorder{r}
	r.renewal, err = New(Config{Card: r.card, Guard: r.g, Recorder: rec, Enroller: r.enrols, Replace: r.replace})
	require.NoError(r.t, err)
	r.renewal.now, r.renewal.crash = r.clock, r.crash
	r.signs, err = signing.NewAsOf(r.card, r.g, rec, r.clock)
	require.NoError(r.t, err)
	r.dead, r.outUnder, r.seenReseat, r.proved, r.consented, r.there = false, "", false, false, false, false
}

// replace says yes to giving up the old pair.
func (r *rig) replace(context.Context, Plan) (bool, error) {
	if err := r.at(point{kind: atConsent, name: "it is asked whether the old pair may go"}); err != nil {
		return false, err
	}
	r.consented, r.there = r.says, false
	return r.says, nil
}

// stop ends the process.
func (r *rig) stop() {
	r.quietly(func() { require.NoError(r.t, r.card.Close()) })
}

type mine struct{}

// ours is the context of the renewal that is interrupted; what is done in another
// is the watcher's or the test's own.
var ours = context.WithValue(context.Background(), mine{}, true)

// at is the one way past a point. The error is what the operation answers.
func (r *rig) at(p point) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.dead: // a killed process does nothing more
		return errCrash
	case r.quiet:
		return nil
	}
	r.n++
	if r.keep {
		r.points = append(r.points, p)
	}
	if len(r.todo) == 0 || !r.due(p) {
		return nil
	}
	i := r.todo[0]
	r.todo, r.fired, r.leave = r.todo[1:], append(r.fired, i), i.leave
	return i.fault.fire(r, p)
}

// patient is how many points a fault of a random sequence waits for its own.
const patient = 20

// due tells whether the next injection is for this point.
func (r *rig) due(p point) bool {
	i := r.todo[0]
	if r.s.random {
		if r.n > i.at+patient { // what cannot happen is a kill
			r.todo[0].fault = &faults[0]
		}
		return r.n >= i.at && r.todo[0].fault.at(p)
	}
	if r.n != i.at {
		return false
	}
	if !i.fault.at(p) {
		r.violated("point %d is %s, where %q cannot happen: the run was another than the one before", r.n, p, i.fault.name)
	}
	return true
}

// die is a kill.
func (r *rig) die() error {
	r.dead = true
	return errCrash
}

// quietly lets the test itself use the card, the clock and the record.
func (r *rig) quietly(f func()) {
	r.mu.Lock()
	r.quiet = true
	r.mu.Unlock()
	f()
	r.mu.Lock()
	r.quiet = false
	r.mu.Unlock()
}

// crash is the Renewer's own points: journal, hold and network.
func (r *rig) crash(name string) error {
	when, name, _ := strings.Cut(name, " ")
	p := point{kind: atNetwork, name: name, after: when == "after"}
	switch _, last, _ := strings.Cut(name, " "); last {
	case string(Intent), string(Done), string(Note):
		p.kind = atJournal
	case string(state.Renewing), string(state.Reseat):
		p.kind = atHold
		if !p.after {
			r.holdsWere = filesIn(filepath.Join(r.dir.Path(), "holds"))
		}
	}
	return r.at(p)
}

// peek is the clock as the test reads it.
func (r *rig) peek() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) clock() time.Time {
	_ = r.at(point{kind: atClock, name: "the clock is read"})
	return r.peek()
}

// recorder is the decision record.
type recorder struct{ r *rig }

func (c recorder) Record(ctx context.Context, e signing.Entry) error {
	p := point{kind: atRecord, name: "record " + string(e.Event)}
	if err := c.r.at(p); err != nil {
		return err
	}
	if err := c.r.rec.Record(ctx, e); err != nil {
		return err
	}
	p.after = true
	return c.r.at(p)
}

// holder enters the passcode.
type holder struct {
	r       *rig
	wrong   bool // the next entry
	yes     bool // to the last try
	yeses   int
	entries []entry
}

type entry struct {
	pin       []byte // as it was handed over
	was       string
	why       signing.Purpose
	presented bool
}

func (h *holder) enter(_ context.Context, q signing.PINRequest) ([]byte, error) {
	if err := h.r.at(point{kind: atPrompt, name: "the passcode is asked to " + string(q.Purpose)}); err != nil {
		return nil, err
	}
	e := entry{was: thePIN, why: q.Purpose}
	if h.wrong {
		e.was, h.wrong = "zyxzyx", false
	}
	e.pin = []byte(e.was)
	h.entries = append(h.entries, e)
	return e.pin, nil
}

func (h *holder) lastTry(context.Context, signing.PINRequest) (bool, error) {
	if h.yes {
		h.yeses++
	}
	return h.yes, nil
}

// filesIn reads a folder.
func filesIn(dir string) map[string][]byte {
	files := map[string][]byte{}
	es, _ := os.ReadDir(dir)
	for _, e := range es {
		if b, err := os.ReadFile(filepath.Join(dir, e.Name())); err == nil {
			files[e.Name()] = b
		}
	}
	return files
}

var theGuard = sync.OnceValue(func() *guard.Guard { return guardBy(panicTB{}, noticeConfig{}) })
