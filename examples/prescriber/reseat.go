package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/renewal"
	"github.com/rxguard/rxguard/signing"
)

// errOnHold ends a journey whose card was renewed and not seen taken out and put
// back: exit code 3.
var errOnHold = errors.New("the card is on hold until it is taken out and put back")

// isOut tells whether an error says that the card is out, or was.
func isOut(err error) bool {
	var ce *signing.CardError
	return errors.Is(err, guard.ErrNoCard) || errors.Is(err, errAsked) ||
		errors.As(err, &ce) && (ce.Kind == signing.CardAbsent || ce.Kind == signing.CardRemoved)
}

// reseat is step 6: the card is taken out and put back, as its watcher sees.
func (t *trip) reseat(ctx context.Context) error {
	t.tell.begin(6, "reseat", "The card is taken out and put back")
	reseated := t.simulated
	if t.w.test != nil {
		reseated = t.byHand
	}
	if err := reseated(ctx); err != nil {
		return err
	}
	r, err := t.renewer(nothing{})
	if err != nil {
		return err
	}
	res, err := r.Finish(ctx, t.signer)
	if err != nil {
		return stopOf(err)
	}
	t.tell.say(string(res.Outcome), res.Text, res)
	return nil
}

// simulated takes the simulated card out and puts it back.
func (t *trip) simulated(ctx context.Context) error {
	t.w.sim.Remove()
	if err := t.see(ctx, func(s guard.Snapshot) bool { return errors.Is(s.Err, guard.ErrNoCard) }); err != nil {
		return err
	}
	t.tell.say("removed", "The watcher saw the card taken out.", nil)
	if err := t.w.advance(); err != nil {
		return err
	}
	pause(ctx, t.o.pace)
	t.w.sim.Insert()
	if err := t.see(ctx, func(s guard.Snapshot) bool { return s.Err == nil }); err != nil {
		return err
	}
	t.tell.say("inserted", "The watcher saw the card put back.", nil)
	return nil
}

// nothing is no authority: the end of a renewal asks none.
type nothing struct{}

func (nothing) Enrol(context.Context, *renewal.Transport, renewal.Request) (renewal.Answer, error) {
	return renewal.Answer{}, &renewal.EnrolError{Kind: renewal.Unreachable, Detail: "no authority is needed any more"}
}

// see waits until the card's snapshot is as wanted.
func (t *trip) see(ctx context.Context, wanted func(guard.Snapshot) bool) error {
	for {
		changed := t.card.Changed()
		s, err := t.card.Snapshot(ctx)
		if err == nil && wanted(s) {
			return nil
		}
		var stuck *signing.CardError
		if errors.As(s.Err, &stuck) && stuck.Kind == signing.CardWedged {
			return stuck // this process will not see the card again
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// byHand waits for the person to take the token out and put it back, until --wait
// has passed.
func (t *trip) byHand(ctx context.Context) error {
	test := t.w.test
	if !test.removable {
		return t.onHold("Its module says that it cannot be taken out of its reader (CKF_REMOVABLE_DEVICE is not set), so its hold cannot end here. " +
			"Where it can be: take it out and put it back while this program runs.")
	}
	if t.o.wait == 0 {
		return t.onHold("Take it out and put it back while this program runs: with --wait it waits for that.")
	}
	// What happened meanwhile counts.
	if s, err := t.card.Snapshot(ctx); err != nil || s.Hold.State != guard.HoldLogin {
		t.tell.say("waiting", fmt.Sprintf("Take the card out and put it back in. This program waits %s for it.", t.o.wait), nil)
	}
	limit := time.NewTimer(t.o.wait)
	defer limit.Stop()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	others := ""
	var out bool
	var insertion uint64
	for first := true; ; first = false {
		changed := t.card.Changed()
		s, err := t.card.Snapshot(ctx)
		if err != nil {
			return err
		}
		if first {
			insertion = s.Insertion
		}
		switch {
		case errors.Is(s.Err, guard.ErrNoCard):
			if !out {
				out = true
				t.tell.say("removed", "The watcher saw the card taken out.", nil)
			}
		case s.Hold.State == guard.HoldLogin && s.Hold.Err == nil:
			t.tell.say("inserted", "The watcher saw the card put back.", nil)
			return nil
		case s.Err == nil && (s.Hold.State == guard.NotHeld || s.Hold.Err != nil):
			return nil // ended elsewhere, or never to end this way: Finish tells
		case s.Err == nil && s.Insertion != insertion:
			insertion, out = s.Insertion, false
			t.tell.say("unseen", "The card is back, and was not seen out for certain. Take it out for a moment longer, and put it back in.", nil)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			if now := test.others(ctx); now != others && ctx.Err() == nil {
				if others = now; now == "" {
					now = "The readers answer, and no other card is in them."
				}
				t.tell.say("readers", now, nil)
			}
		case <-limit.C:
			return t.onHold(fmt.Sprintf("It was not seen taken out and put back within %s. That is done while this program runs.", t.o.wait))
		case <-changed:
		}
	}
}

// onHold ends the journey before the re-seat.
func (t *trip) onHold(why string) error {
	return &stopError{text: "The card was renewed, and is on hold until it is taken out and put back in. " + why +
		"\nOnce a re-seat was seen, the hold ends with the passcode, and the prescription is signed.", err: errOnHold}
}
