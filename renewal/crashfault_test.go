package renewal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
)

// fault is something that can happen to a renewal.
type fault struct {
	name string
	// at says at which points; thin, where it is set, at which of them in the second
	// place: where nothing changes between two points one stands for both.
	at, thin func(point) bool
	// fire makes it happen, and gives what is answered at the point. It is called once,
	// under the rig's lock.
	fire func(*rig, point) error
	// kills: the process is gone. Otherwise it goes on, or another one in its place.
	kills bool
	ends  ending
}

// ending is what a fault lets a renewal come to.
type ending int

const (
	noMatter  ending = iota // what the scenario comes to
	endsOld                 // it is given up
	mayEndOld               // it may be given up
	late                    // the certificates have ended
)

func on(ks ...kind) func(point) bool {
	return func(p point) bool { return slices.Contains(ks, p.kind) }
}

func both(fs ...func(point) bool) func(point) bool {
	return func(p point) bool {
		return !slices.ContainsFunc(fs, func(f func(point) bool) bool { return !f(p) })
	}
}

func before(p point) bool { return !p.after }
func after(p point) bool  { return p.after }

// nowhere is for what is the same, in the second place, as another fault: a journal that
// is torn here or there is read alike.
func nowhere(point) bool { return false }

// worth leaves out what stands after an operation that changed nothing: the same as
// before the next.
func worth(p point) bool { return !p.after || !p.reads() }

// changing leaves out the operations that change nothing.
func changing(p point) bool { return !p.reads() }

func ops(list ...testcard.Op) func(point) bool {
	return func(p point) bool { return p.kind == atCard && slices.Contains(list, p.op) }
}

func named(name string) func(point) bool { return func(p point) bool { return p.name == name } }

var (
	answers = both(on(atExchange), named("the authority answers"))
	probes  = both(on(atExchange), named("the authority says that it is there"))
	proofs  = both(on(atExchange), named("the authority takes the proof"))
	works   = ops(testcard.OpSign, testcard.OpGenerate, testcard.OpWriteCertificate, testcard.OpDestroy)
)

// broken is what a card answers that stopped in the midst of an operation.
func broken(p point) error { return card.Errorf(card.Fault, string(p.op), "of the test") }

// spendElsewhere spends tries of the card in another window.
func (r *rig) spendElsewhere(n int) {
	s, err := r.sim.Token().Open(context.Background())
	if err != nil {
		return // it is out
	}
	defer s.Close()
	for range n {
		_ = s.Login(context.Background(), []byte("zyxzyx"))
	}
}

var errFull = fmt.Errorf("of the test: %w", syscall.ENOSPC)

// diskFull is what a write answers when the disk is full.
func diskFull(r *rig, p point) error {
	if p.kind == atJournal {
		return &JournalError{Path: journalPath(r.dir.Path(), r.id), Problem: "cannot be written", Err: errFull}
	}
	return errFull
}

// tear leaves of the journal's last line what left says.
func tear(r *rig, left func(line []byte) []byte) {
	path := journalPath(r.dir.Path(), r.id)
	b, err := os.ReadFile(path)
	if err != nil {
		r.violated("a journal line is written, and there is none: %v", err)
		return
	}
	start := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
	if err := os.WriteFile(path, append(bytes.Clone(b[:start]), left(bytes.Clone(b[start:]))...), 0o666); err != nil {
		r.violated("%v", err)
	}
}

func torn(name string, thin func(point) bool, left func([]byte) []byte) fault {
	return fault{name: "killed, the journal " + name, at: both(on(atJournal), after), thin: thin, kills: true, fire: func(r *rig, _ point) error {
		tear(r, left)
		return r.die()
	}}
}

// unwrite undoes the last files of a hold that was just written, and leaves n as they
// are: a hold has one for each name of the card.
func (r *rig) unwrite(n int) {
	dir := filepath.Join(r.dir.Path(), "holds")
	h := r.hold()
	if h == nil {
		r.violated("a hold was written, and there is none")
		return
	}
	for i, name := range append([]string{h.Card}, h.Certificates...) {
		if i < n {
			continue
		}
		path := filepath.Join(dir, name+".json")
		if was, ok := r.holdsWere[name+".json"]; ok {
			_ = os.WriteFile(path, was, 0o666)
		} else {
			_ = os.Remove(path)
		}
	}
}

// releasePart removes the first n files of a hold that is about to be ended.
func (r *rig) releasePart(n int) {
	h := r.hold()
	if h == nil {
		return
	}
	for i, name := range append(slices.Clone(h.Certificates), h.Card) {
		if i < n {
			_ = os.Remove(filepath.Join(r.dir.Path(), "holds", name+".json"))
		}
	}
}

// ahead is how far a clock goes wrong that shows an instant after the end of every
// certificate.
const ahead = 2*365*24*time.Hour + 30*24*time.Hour

var faults = []fault{
	{name: "killed", at: func(p point) bool { return p.kind != atClock }, thin: both(func(p point) bool { return p.kind != atClock && p.kind != atExchange }, changing), kills: true,
		fire: func(r *rig, _ point) error { return r.die() }},
	torn("torn before its line's end", nowhere, func(l []byte) []byte { return l[:len(l)-1] }),
	torn("torn in the middle", nil, func(l []byte) []byte { return l[:len(l)/2] }),
	torn("torn after a byte", nowhere, func(l []byte) []byte { return l[:1] }),
	torn("without its last line", nowhere, func([]byte) []byte { return nil }),
	torn("with zeros in its last line", nowhere, func(l []byte) []byte { clear(l[len(l)/2 : len(l)-1]); return l }),
	torn("with zeros for its last line", nowhere, func(l []byte) []byte { clear(l); return l }),
	{name: "the disk is full", at: both(on(atJournal, atHold, atRecord), before), fire: diskFull},
	{name: "the disk is full, half a line stays", at: both(on(atJournal), after), fire: func(r *rig, p point) error {
		tear(r, func(l []byte) []byte { return l[:len(l)/2] })
		return diskFull(r, p)
	}},
	{name: "the disk is full after one name of the hold", at: both(on(atHold), after), fire: func(r *rig, p point) error {
		r.unwrite(1)
		return diskFull(r, p)
	}},
	{name: "killed after one name of the hold", at: both(on(atHold), after), kills: true, fire: func(r *rig, _ point) error {
		r.unwrite(1)
		return r.die()
	}},
	{name: "killed after two names of the hold", at: both(on(atHold), after), kills: true, fire: func(r *rig, _ point) error {
		r.unwrite(2)
		return r.die()
	}},
	{name: "killed while the hold is ended, one name gone", at: both(on(atRecord), after, named("record hold_ended")), kills: true, fire: func(r *rig, _ point) error {
		r.releasePart(1)
		return r.die()
	}},
	{name: "killed while the hold is ended, all names gone but one", at: both(on(atRecord), after, named("record hold_ended")), kills: true, fire: func(r *rig, _ point) error {
		if h := r.hold(); h != nil {
			r.releasePart(len(h.Certificates))
		}
		return r.die()
	}},
	{name: "the record fails after it was written", at: both(on(atRecord), after), fire: diskFull},

	{name: "card pulled", at: on(atCard, atPrompt, atConsent, atNetwork, atHold), thin: both(on(atCard, atPrompt, atConsent, atNetwork), worth), fire: func(r *rig, p point) error {
		r.takeOut()
		if p.kind == atCard {
			return broken(p)
		}
		return nil
	}},
	{name: "wrong card put back", at: on(atCard, atPrompt, atConsent, atNetwork, atHold), thin: both(on(atCard, atPrompt, atConsent, atNetwork), worth), fire: func(r *rig, p point) error {
		r.takeOut()
		r.slot.putIn(r.other)
		if p.kind == atCard {
			return broken(p)
		}
		return nil
	}},
	{name: "card answers an error", at: on(atCard), thin: both(on(atCard), worth), fire: func(_ *rig, p point) error { return broken(p) }},
	{name: "card locked elsewhere", at: both(works, before), fire: func(r *rig, _ point) error { r.spendElsewhere(3); return nil }},
	{name: "card full", at: both(ops(testcard.OpGenerate, testcard.OpWriteCertificate), before), ends: endsOld, fire: func(r *rig, _ point) error {
		r.full, r.foundFull = true, true
		return nil
	}},

	{name: "wrong passcode", at: on(atPrompt), fire: func(r *rig, _ point) error { r.asks.wrong = true; return nil }},
	{name: "no passcode", at: on(atPrompt), fire: func(*rig, point) error { return errors.New("the person walked away") }},
	{name: "locked elsewhere while the passcode is asked", at: on(atPrompt), fire: func(r *rig, _ point) error { r.spendElsewhere(3); return nil }},
	{name: "one try left, no to spending it", at: on(atPrompt), fire: func(r *rig, _ point) error {
		r.spendElsewhere(r.sim.TriesLeft() - 1)
		r.asks.yes = false
		return nil
	}},
	{name: "one try left, spent and wrong: locked", at: on(atPrompt), fire: func(r *rig, _ point) error {
		r.spendElsewhere(r.sim.TriesLeft() - 1)
		r.asks.wrong = true
		return nil
	}},

	{name: "no to giving up the old pair", at: on(atConsent), ends: endsOld, fire: func(r *rig, _ point) error {
		r.says = false
		return nil
	}},

	{name: "no authority answers before the renewal begins", at: probes, fire: func(r *rig, _ point) error { return &EnrolError{Kind: Unreachable} }},
	{name: "202", at: answers, fire: answer(func(r *rig, _ func() Answer) (Answer, error) {
		return Answer{Pending: r.now.Add(30 * time.Minute)}, nil
	})},
	{name: "503", at: answers, fire: answer(func(*rig, func() Answer) (Answer, error) {
		return Answer{}, &EnrolError{Kind: Unavailable, Status: 503}
	})},
	{name: "no answer", at: answers, fire: answer(func(*rig, func() Answer) (Answer, error) {
		return Answer{}, &EnrolError{Kind: Unreachable}
	})},
	{name: "answer lost", at: answers, fire: answer(func(_ *rig, issue func() Answer) (Answer, error) {
		issue()
		return Answer{}, &EnrolError{Kind: Unreachable}
	})},
	{name: "issued twice", at: answers, fire: answer(func(_ *rig, issue func() Answer) (Answer, error) {
		issue()
		return issue(), nil
	})},
	{name: "neither certificate nor time", at: answers, fire: answer(func(*rig, func() Answer) (Answer, error) { return Answer{}, nil })},
	mood("affected again"), mood("another key"), mood("another subject"), mood("expired"), mood("not yet valid"), mood("rejects"),
	{name: "503 for the proof", at: proofs, fire: func(r *rig, _ point) error {
		r.enrols.lose = &EnrolError{Kind: Unavailable, Status: 503}
		return nil
	}},
	{name: "answer to the proof lost", at: proofs, fire: func(r *rig, _ point) error {
		r.enrols.lose = &EnrolError{Kind: Unreachable}
		return nil
	}},
	{name: "proof rejected", at: proofs, ends: endsOld, fire: func(r *rig, _ point) error {
		r.enrols.refuse = &EnrolError{Kind: Rejected, Status: 409}
		return nil
	}},

	{name: "clock an hour back", at: on(atClock), ends: mayEndOld, fire: func(r *rig, _ point) error { r.clockOff(-time.Hour, true); return nil }},
	{name: "clock past the certificates' end, set right later", at: on(atClock), ends: mayEndOld, fire: func(r *rig, _ point) error {
		r.clockOff(ahead, true)
		return nil
	}},
	{name: "two years pass", at: on(atClock), ends: late, fire: func(r *rig, _ point) error { r.clockOff(ahead, false); return nil }},
}

// answer has the authority answer once what f says.
func answer(f func(*rig, func() Answer) (Answer, error)) func(*rig, point) error {
	return func(r *rig, _ point) error {
		r.enrols.answer = func(issue func() Answer) (Answer, error) { return f(r, issue) }
		return nil
	}
}

// mood has the authority answer so from now on.
func mood(name string) fault {
	return fault{name: "authority: " + name, at: answers, ends: endsOld, fire: func(r *rig, _ point) error {
		r.enrols.mood = name
		return nil
	}}
}

// clockOff moves the clock; wrong says that it is set right again later.
func (r *rig) clockOff(by time.Duration, wrong bool) {
	r.now = r.now.Add(by)
	if wrong {
		if r.rightClock == nil {
			r.rightClock = new(time.Duration)
		}
		*r.rightClock -= by
	}
}

// takeOut pulls the card.
func (r *rig) takeOut() {
	if h, err := r.dir.Hold(r.id); err == nil && h != nil && !r.dead && r.slot.card == r.sim {
		r.outUnder = h.ID
		if h.Phase != state.Reseat {
			r.outUnder = ""
		}
	}
	r.slot.Take()
}

// putBack puts the right card in.
func (r *rig) putBack() {
	if r.slot.in() {
		return
	}
	r.slot.putIn(r.sim)
	if r.outUnder != "" {
		r.seenReseat = true
	}
}

// reseat is what the person does at the end, and waits for the card's watcher.
func (r *rig) reseat() {
	r.takeOut()
	r.see(func(s guard.Snapshot) bool { return errors.Is(s.Err, guard.ErrNoCard) })
	r.putBack()
	r.see(func(s guard.Snapshot) bool { return !errors.Is(s.Err, guard.ErrNoCard) })
}
