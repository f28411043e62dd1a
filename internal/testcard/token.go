package testcard

import (
	"context"
	"runtime"

	"github.com/rxguard/rxguard/internal/card"
)

// Token is the card as a token in its reader.
func (c *Card) Token() card.Token { return token{c} }

type token struct{ c *Card }

func (t token) Simulated() bool { return true }

func (t token) Presence() card.Presence {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	return t.c.presence()
}

func (c *Card) presence() card.Presence {
	return card.Presence{Present: c.present, Insertion: c.insertion}
}

// Wait answers the presence that followed since, so that a caller who passes on
// each answer sees every removal and insertion in order, however quick they were.
// A since that this card never had, or had before it was loaded, is answered with
// the present one.
func (t token) Wait(ctx context.Context, since card.Presence) (card.Presence, error) {
	for {
		t.c.mu.Lock()
		now, next, moved := t.c.presence(), t.c.after(since), t.c.moved
		t.c.mu.Unlock()
		if next != since {
			return next, nil
		}
		select {
		case <-ctx.Done():
			return now, ctx.Err()
		case <-moved:
		}
	}
}

// after returns the presence that followed since; since itself when that is the
// present one.
func (c *Card) after(since card.Presence) card.Presence {
	now := c.presence()
	earlier := func(a, b card.Presence) bool {
		return a.Insertion < b.Insertion || a.Insertion == b.Insertion && a.Present && !b.Present
	}
	switch {
	case earlier(since, c.first) || !earlier(since, now):
		return now
	case since.Present:
		return card.Presence{Present: false, Insertion: since.Insertion}
	default:
		return card.Presence{Present: true, Insertion: since.Insertion + 1}
	}
}

func (t token) Open(ctx context.Context) (card.Session, error) {
	s := &session{c: t.c, insertion: t.Presence().Insertion}
	return perform(ctx, s, Event{Op: OpOpen}, func() (card.Session, error) {
		s.c.mu.Lock()
		defer s.c.mu.Unlock()
		return s, s.alive(OpOpen, card.Fault)
	})
}

// perform is the one way to the card: the event before, the act, the event after,
// and no answer from a card that was pulled meanwhile. It returns at once when ctx
// ends; what was begun then goes on, and its answer is dropped.
func perform[T any](ctx context.Context, s *session, e Event, act func() (T, error)) (T, error) {
	e.Insertion = s.insertion
	return detached(ctx, func() (answer T, err error) {
		var none T
		if err := s.check(e.Op, card.Removed); err != nil {
			return none, err
		}
		if err := s.c.tell(e); err != nil {
			return none, err
		}
		answer, err = act()
		if saveErr := s.c.SaveError(); saveErr != nil {
			return none, &card.Error{Kind: card.Fault, Op: string(e.Op), TriesLeft: -1, Err: saveErr}
		}
		if err != nil {
			return none, err
		}
		e.After = true
		if err := s.c.tell(e); err != nil {
			return none, err
		}
		if e.Op == OpClose {
			return answer, nil
		}
		if err := s.check(e.Op, card.Fault); err != nil {
			return none, err
		}
		return answer, nil
	})
}

// detached runs f and waits for it or for ctx. A panic or runtime.Goexit in f
// (a failed test's hook) happens in the caller.
func detached[T any](ctx context.Context, f func() (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if ctx.Done() == nil {
		return f()
	}
	type result struct {
		answer   T
		err      error
		returned bool
		panicked any
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if !r.returned {
				r.panicked = recover()
			}
			done <- r
		}()
		r.answer, r.err = f()
		r.returned = true
	}()
	select {
	case <-ctx.Done():
		return none, ctx.Err()
	case r := <-done:
		if r.panicked != nil {
			panic(r.panicked)
		}
		if !r.returned {
			runtime.Goexit()
		}
		return r.answer, r.err
	}
}
