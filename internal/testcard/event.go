package testcard

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/rxguard/rxguard/internal/card"
)

// Op is an operation of a card.
type Op string

// The operations that reach a card.
const (
	OpOpen             Op = "open"
	OpInfo             Op = "info"
	OpObjects          Op = "objects"
	OpLogin            Op = "login"
	OpLogout           Op = "logout"
	OpSign             Op = "sign"
	OpGenerate         Op = "generate"
	OpWriteCertificate Op = "write_certificate"
	OpDestroy          Op = "destroy"
	OpClose            Op = "close"
)

// OpProvision names Card.Provision in errors; it is no operation of a session
// and makes no event.
const OpProvision Op = "provision"

// Ops lists the operations that make events.
func Ops() []Op {
	return []Op{OpOpen, OpInfo, OpObjects, OpLogin, OpLogout, OpSign, OpGenerate, OpWriteCertificate, OpDestroy, OpClose}
}

// Event is one operation that reached the card: first with After false; when it
// happened, and did not fail, once more with After true.
type Event struct {
	Op        Op
	After     bool
	Insertion uint64 // of the session
	ID        []byte // CKA_ID, where the operation names one
	Label     string
	Class     card.Class
	N         int // number of the event since the card was made or loaded, from 1
}

// How many of the newest are kept for tests to look at.
const (
	keptEvents   = 1 << 14
	keptRequests = 1 << 8
)

// Hook makes h be called before and after every operation; nil ends that. It may
// use the card's methods, also to pull the card.
//
// An error before an operation is its answer, and the operation does not happen.
// An error after it is its answer too, but the card has done it: the answer was
// lost. A card pulled by a hook that returns nil answers with Kind Fault (with
// Absent to open). An error that is neither a *card.Error nor a context's is
// wrapped in one of Kind Other.
func (c *Card) Hook(h func(Event) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hook = h
}

// On makes a hook that calls act at the nth event, from 1, of op in one phase.
func On(op Op, after bool, nth int, act func() error) func(Event) error {
	var n atomic.Int64
	return func(e Event) error {
		if e.Op == op && e.After == after && n.Add(1) == int64(nth) {
			return act()
		}
		return nil
	}
}

// Trace lists the operations that reached the card, oldest first; of a long life
// at least the newest 16,384 events.
func (c *Card) Trace() []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.trace)
}

// tell numbers and records an event and asks the hook, outside the card's lock.
func (c *Card) tell(e Event) error {
	c.mu.Lock()
	c.events++
	e.N = c.events
	c.trace = newest(append(c.trace, e), keptEvents)
	h := c.hook
	c.mu.Unlock()
	if h == nil {
		return nil
	}
	err := h(e)
	var known *card.Error
	if err == nil || errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &card.Error{Kind: card.Other, Op: string(e.Op), TriesLeft: -1, Err: err}
}

// newest drops the older half of a list that has grown to twice the length to
// keep.
func newest[T any](list []T, keep int) []T {
	if len(list) < 2*keep {
		return list
	}
	return slices.Clone(list[keep:])
}
