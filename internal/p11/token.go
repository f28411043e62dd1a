//go:build cgo

package p11

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rxguard/rxguard/internal/card"
)

// Token is one card behind a module, as a Select names it: a card that is taken out
// and put back, into another reader too, is the same Token; without a condition it
// is whatever card is in the reader where the last one was found, or else the only card
// that is in any. It is safe for concurrent use.
type Token struct {
	m       *Module
	sel     Select
	officer Officer

	// Guarded by m.mu.
	bound    bool // to slot
	slot     uint
	arrivals uint64 // of the slot, when the card was taken in
	now      card.Presence
	log      []card.Presence // what followed what
	changed  chan struct{}
	several  []string        // cards that the Select fits alike
	always   map[string]bool // keys of this insertion, by CKA_ID, that turned out to want a login for each signature
}

// kept is how many changes are kept for one who waits for each.
const kept = 256

// Token returns the card that sel names, and watches it until Close. A card that is
// not there is no error; several that sel fits alike are a *card.Error of Kind
// Ambiguous that names them.
func (m *Module) Token(ctx context.Context, sel Select, officer Officer) (*Token, error) {
	if err := m.look(ctx); err != nil {
		return nil, err
	}
	t := &Token{m: m, sel: sel, officer: officer, changed: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	t.take()
	if len(t.several) > 0 {
		return nil, ambiguous("find", t.several)
	}
	if len(t.log) == 0 {
		t.log = []card.Presence{t.now}
	}
	m.tokens[t] = struct{}{}
	m.follow()
	return t, nil
}

func ambiguous(op string, several []string) error {
	return card.Errorf(card.Ambiguous, op, "several cards: %s; name one by label, serial number or reader", strings.Join(several, ", "))
}

// Close ends the watch over the card.
func (t *Token) Close() error {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	delete(t.m.tokens, t)
	t.m.unfollow()
	return nil
}

// fits tells whether a slot's card is the one.
func (s Select) fits(x Slot) bool {
	switch {
	case !x.Present || s.Reader != "" && s.Reader != x.Reader:
		return false
	case s.Token != "":
		return x.Initialized && (s.Token == x.Label || s.Token == x.Serial)
	case x.Err != nil:
		return true // that it cannot be read is to be told
	}
	// A software token beside the card, which keeps nothing behind a passcode, or one
	// that was never set up, is no card of a person.
	return x.Initialized && x.LoginRequired
}

// take looks for the card among the module's slots. It needs m.mu.
func (t *Token) take() {
	t.several = nil
	if s := t.m.slots[t.slot]; t.now.Present && t.bound && s != nil && s.Present {
		switch {
		case s.arrivals == t.arrivals:
			return
		case s.reset && s.arrivals == t.arrivals+1 && t.sel.fits(s.Slot):
			t.arrivals = s.arrivals
			t.move(card.Presence{Present: true, Insertion: t.now.Insertion + 1, Reset: true})
			return
		}
	}
	if t.now.Present {
		t.move(card.Presence{Present: false, Insertion: t.now.Insertion})
	}
	var found []*slot
	for _, id := range slices.Sorted(maps.Keys(t.m.slots)) {
		if s := t.m.slots[id]; t.sel.fits(s.Slot) {
			found = append(found, s)
		}
	}
	if t.sel == (Select{}) && t.bound {
		if i := slices.IndexFunc(found, func(s *slot) bool { return s.ID == t.slot }); i >= 0 {
			found = found[i : i+1]
		} else if len(found) > 1 {
			found = nil // it is not known which one is meant
		}
	}
	if len(found) > 1 {
		for _, s := range found {
			t.several = append(t.several, fmt.Sprintf("%q (serial %s, in %s)", s.Label, s.Serial, s.Reader))
		}
		return
	}
	if len(found) == 1 {
		s := found[0]
		reset := s.reset && (!t.bound || t.slot == s.ID) // in another reader it was out of this one
		t.bound, t.slot, t.arrivals = true, s.ID, s.arrivals
		t.move(card.Presence{Present: true, Insertion: t.now.Insertion + 1, Reset: reset})
	}
}

// absent is the error of a card that is out.
func (t *Token) absent(op string) error {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	if t.sel == (Select{}) && t.bound {
		return card.Errorf(card.Absent, op, "expected one in reader %q", t.m.slots[t.slot].Reader)
	}
	return card.Errorf(card.Absent, op, "%s", t.sel)
}

// learn keeps for the insertion that a key wants a login for each signature.
func (t *Token) learn(insertion uint64, id []byte) {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	if t.now.Insertion != insertion {
		return
	}
	if t.always == nil {
		t.always = make(map[string]bool)
	}
	t.always[string(id)] = true
}

// unlearn corrects that.
func (t *Token) unlearn(id []byte) {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	delete(t.always, string(id))
}

// learned tells whether that is known of a key, or of any where id is nil.
func (t *Token) learned(insertion uint64, id []byte) bool {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	return t.now.Insertion == insertion && (t.always[string(id)] || id == nil && len(t.always) > 0)
}

func (t *Token) move(p card.Presence) {
	if p.Insertion != t.now.Insertion {
		clear(t.always)
	}
	t.now = p
	t.log = append(t.log, p)
	if len(t.log) > kept {
		t.log = slices.Delete(t.log, 0, len(t.log)-kept)
	}
	t.wake()
}

func (t *Token) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// Simulated tells that this is a real card.
func (t *Token) Simulated() bool { return false }

// Presence is what the last look saw.
func (t *Token) Presence() card.Presence {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	return t.now
}

// Wait answers the presence that followed since.
func (t *Token) Wait(ctx context.Context, since card.Presence) (card.Presence, error) {
	for {
		t.m.mu.Lock()
		now, changed, wedged := t.now, t.changed, t.m.wedger != ""
		next := now
		if i := slices.Index(t.log, since); i >= 0 && i+1 < len(t.log) {
			next = t.log[i+1]
		}
		t.m.mu.Unlock()
		switch {
		case next != since:
			return next, nil
		case wedged:
			return now, t.m.stuck("watch")
		}
		select {
		case <-ctx.Done():
			return now, ctx.Err()
		case <-changed:
		}
	}
}

// settle looks again, until the presence is another than that of an insertion, or it
// is clear that it stays: the card service notices a pulled card only after a while.
func (t *Token) settle(ctx context.Context, insertion uint64) card.Presence {
	const (
		patience = time.Second
		step     = 100 * time.Millisecond
	)
	for end := time.Now().Add(patience); ; {
		_ = t.m.look(ctx)
		p := t.Presence()
		if !p.Present || p.Insertion != insertion || time.Now().After(end) {
			return p
		}
		select {
		case <-ctx.Done():
			return p
		case <-t.m.wedged:
			return p
		case <-time.After(step):
		}
	}
}

// Open looks for the card, and opens a session on it.
func (t *Token) Open(ctx context.Context) (card.Session, error) {
	if err := t.m.look(ctx); err != nil {
		return nil, err
	}
	s := &session{t: t, m: t.m, turn: make(chan struct{}, 1), over: make(chan struct{})}
	t.m.mu.Lock()
	p, several := t.now, t.several
	if p.Present {
		s.slot, s.arrivals, s.insertion, s.seen = t.slot, t.arrivals, p.Insertion, t.m.slots[t.slot].Slot
	}
	t.m.mu.Unlock()
	switch {
	case len(several) > 0:
		return nil, ambiguous("open", several)
	case !p.Present:
		return nil, t.absent("open")
	}
	if err := t.m.endEarlier(ctx, s.slot, s.arrivals); err != nil {
		return nil, err
	}
	_, err := detached(ctx, t.m, "open", 1, nil, nil, func() (struct{}, error) { return struct{}{}, s.begin() },
		func(_ struct{}, err error) {
			if err == nil {
				_ = s.Close()
			}
		})
	if err != nil {
		return nil, s.told(ctx, err)
	}
	return s, nil
}

// String says which card is meant.
func (s Select) String() string {
	var parts []string
	if s.Token != "" {
		parts = append(parts, fmt.Sprintf("card %q", s.Token))
	}
	if s.Reader != "" {
		parts = append(parts, fmt.Sprintf("reader %q", s.Reader))
	}
	if len(parts) == 0 {
		return "no card is in any reader"
	}
	return strings.Join(parts, ", ")
}
