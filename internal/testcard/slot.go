package testcard

import (
	"context"
	"sync"

	"github.com/rxguard/rxguard/internal/card"
)

// Slot is a reader into which one card after the other can be put. Its methods may
// be called from several goroutines, and from hooks. A card is in one Slot at a time.
type Slot struct {
	mu    sync.Mutex
	in    *Card
	last  uint64 // insertions until the card that is in, or the last one, was put in
	ahead uint64 // of in's own count: the slot's is ahead + in's
	moved chan struct{}
}

// NewSlot makes a reader with a card in it; nil: it is empty.
func NewSlot(c *Card) *Slot {
	s := &Slot{moved: make(chan struct{})}
	if c != nil {
		s.Put(c)
	}
	return s
}

// Put puts a card in, after what was in was taken out. A card that is in already is
// put in again.
func (s *Slot) Put(c *Card) {
	s.Take()
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Remove()
	s.ahead = s.last - c.inserted()
	c.Insert()
	s.in = c
	s.wake()
}

// Take takes the card out. With none in it does nothing.
func (s *Slot) Take() { s.take(func(*Card) bool { return true }) }

// TakeOut takes out this card. With another or none in it does nothing.
func (s *Slot) TakeOut(c *Card) { s.take(func(in *Card) bool { return in == c }) }

func (s *Slot) take(which func(in *Card) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in == nil || !which(s.in) {
		return
	}
	s.in.Remove()
	s.last = s.ahead + s.in.inserted()
	s.in = nil
	s.wake()
}

func (s *Slot) wake() {
	close(s.moved)
	s.moved = make(chan struct{})
}

func (c *Card) inserted() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.insertion
}

// Token is whatever card is in the reader.
func (s *Slot) Token() card.Token { return slotToken{s} }

type slotToken struct{ s *Slot }

func (t slotToken) Simulated() bool { return true }

func (t slotToken) Presence() card.Presence {
	p, _, _ := t.look()
	return p
}

// look returns the presence, and what is closed when it changes.
func (t slotToken) look() (p card.Presence, slot, in <-chan struct{}) {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in == nil {
		return card.Presence{Insertion: s.last}, s.moved, nil
	}
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	p = s.in.presence()
	p.Insertion += s.ahead
	return p, s.moved, s.in.moved
}

// Wait answers the presence that followed since, as a card's own token does.
func (t slotToken) Wait(ctx context.Context, since card.Presence) (card.Presence, error) {
	for {
		now, slot, in := t.look()
		if since.Before(now) {
			if since.Present {
				return card.Presence{Insertion: since.Insertion}, nil
			}
			return card.Presence{Present: true, Insertion: since.Insertion + 1}, nil
		}
		if since != now {
			return now, nil // one that never was
		}
		select {
		case <-ctx.Done():
			return now, ctx.Err()
		case <-slot:
		case <-in:
		}
	}
}

func (t slotToken) Open(ctx context.Context) (card.Session, error) {
	t.s.mu.Lock()
	in, ahead := t.s.in, t.s.ahead
	t.s.mu.Unlock()
	if in == nil {
		return nil, card.Errorf(card.Absent, string(OpOpen), "the reader is empty")
	}
	sess, err := in.Token().Open(ctx)
	if err != nil {
		return nil, err
	}
	return slotSession{sess, ahead + sess.Insertion()}, nil
}

// slotSession counts insertions as its slot does.
type slotSession struct {
	card.Session
	insertion uint64
}

func (s slotSession) Insertion() uint64 { return s.insertion }
