package renewal

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/signing"
)

// Renew renews the card that is in the reader, or goes on with its unfinished
// renewal. It asks for the passcode, reports progress (show may be nil; it is
// called from this goroutine), and ends with the card on hold: Result.Outcome is
// then ReseatCard and the error nil, and Finish goes on. For a card that needs
// nothing the outcome is NotNeeded and the error nil. Every other end is an
// *Error, which carries the same Result.
//
// When ctx ends, Renew stops at the next safe point: between two steps, or while
// the passcode or the authority is asked. What the card does in one step is not
// broken off.
func (r *Renewer) Renew(ctx context.Context, show func(Progress)) (Result, error) {
	return r.renew(ctx, nil, show)
}

// renew is Renew of a card that accept, where it is not nil, has no error for.
func (r *Renewer) renew(ctx context.Context, accept func(*view) error, show func(Progress)) (Result, error) {
	run, leave, err := r.enterIf(ctx, accept)
	if err != nil {
		return resultOf(err)
	}
	defer leave()
	if run.p.reseated(run.held) {
		if err := run.write(JournalEntry{Step: StepDone, Act: Done}); err != nil {
			return run.stopped(err)
		}
	}
	if plan, err := r.planned(ctx, run.v, run.p, run.held); plan.Outcome != Ready {
		return run.notNow(ctx, plan, err)
	}
	run.m.show = show
	return run.all(ctx)
}

// notNow ends a call that finds nothing to do, or nothing that it may do; cause is what
// stands in the way beside the guard's verdict.
func (r *run) notNow(ctx context.Context, plan Plan, cause error) (Result, error) {
	res := Result{Outcome: plan.Outcome, Text: plan.Text, Remedies: plan.Remedies, Serial: plan.Serial, Label: plan.Label}
	if plan.Old.Serial != "" {
		res.Old = &plan.Old
	}
	if orphaned(r.v, r.p, r.held) {
		if err := r.reexpect(ctx, whyChanged); err != nil {
			return r.stopped(err)
		}
	}
	switch res.Outcome {
	case ReseatCard:
		// The person takes the card out now, and the watcher must have seen it in
		// under this hold by then.
		if r.held != nil {
			card.Refresh(r.c.Card)
		}
		res.Step = StepReseat
		return res, nil
	case NotNeeded:
		return res, nil
	}
	if res.Outcome == Resumable { // nothing was decided
		return ended(res, cause)
	}
	why := ""
	if errors.Is(cause, errNotReplaced) {
		why = whyNotReplaced
	}
	err := plan.Verdict.Err()
	if err != nil {
		if rerr := r.record("", signing.EventRefused, plan.Verdict, why); rerr != nil {
			err = errors.Join(err, rerr)
		}
	}
	return ended(res, errors.Join(cause, err))
}

// run is one call on one card, under the card's renewal lock.
type run struct {
	*Renewer
	v    *view
	j    *journal
	id   string      // of the card
	p    *progress   // of the last renewal in the journal; nil: none
	held *state.Hold // when the run began
	m    meter

	proof  Proof       // made in this run
	yes    bool        // to giving up the old pair, said in this run
	wishes *Attributes // of the authority; nil: not asked in this run, or it cannot be
}

// all does the steps that are not done yet.
func (r *run) all(ctx context.Context) (Result, error) {
	last := r.p
	fresh := last == nil || last.finished
	if fresh {
		r.p = nil
	} else if r.now().Before(r.p.askFrom) && !r.p.done[StepEnrol] && !r.p.givenUp {
		return r.pending(r.p.askFrom)
	}
	if err := r.login(ctx); err != nil {
		return r.stopped(err)
	}
	r.m.start = time.Now()
	if fresh {
		// Private keys may be visible only now, and show that they do not fit.
		plan := r.plan(r.v, last, r.held)
		if plan.Outcome != Ready {
			return r.notNow(ctx, plan, nil)
		}
		if err := r.probe(ctx); err != nil {
			return r.stopped(err)
		}
		if plan.Destructive {
			switch err := r.consent(ctx, plan); {
			case errors.Is(err, errNotReplaced):
				return r.notNow(ctx, full(plan), err)
			case err != nil:
				return r.stopped(err)
			}
		}
		r.m.of(plan.Destructive, nil)
		if err := r.plant(ctx, plan.Destructive); err != nil {
			return r.stopped(err)
		}
	} else {
		r.m.of(r.p.replaces(), r.p.done)
	}
	switch {
	case r.p.givenUp:
		return r.giveUp(ctx, &giveUp{why: r.p.why})
	case r.changed():
		return r.giveUp(ctx, &giveUp{whyChanged, errChanged})
	}
	if err := r.keepHold(ctx); err != nil {
		return r.stopped(err)
	}
	// What an earlier run was issued is judged by the rules of now, until the old
	// certificate is about to be removed.
	if r.p.done[StepEnrol] && !r.p.begun[StepSwitch] {
		csr, err := x509.ParseCertificateRequest(r.p.csr)
		if err == nil {
			err = r.judgeNew(r.p.cert, csr)
		}
		if err != nil {
			if up := r.ends(err); up != nil {
				return r.giveUp(ctx, up)
			}
			return r.stopped(err)
		}
	}
	steps := r.p.steps()
	for _, step := range steps[1 : len(steps)-1] {
		if r.p.done[step] {
			continue
		}
		// A safe point: what is done is written down, what is not was not begun.
		if err := ctx.Err(); err != nil {
			return r.stopped(err)
		}
		if card.Closed(r.c.Card) {
			return r.stopped(fmt.Errorf("renewal: %w", card.ErrClosed))
		}
		r.m.at(step, false)
		if err := r.step(ctx, step); err != nil {
			var wait *pendingError
			if errors.As(err, &wait) {
				return r.pending(wait.until)
			}
			if up := r.ends(err); up != nil {
				return r.giveUp(ctx, up)
			}
			return r.stopped(err)
		}
		r.m.at(step, true)
	}
	return r.renewed(), nil
}

// login asks for the passcode and looks at the card again: private keys may be
// visible only then.
func (r *run) login(ctx context.Context) error {
	if err := card.Login(ctx, r.c.Card, r.v.s, card.ToRenew); err != nil {
		return err
	}
	return r.v.look(ctx)
}

// plant begins a renewal: the plan is on disk before anything is touched. over says
// that the new pair takes the place of the old one.
func (r *run) plant(ctx context.Context, over bool) error {
	var id [16]byte
	rand.Read(id[:])
	e := JournalEntry{
		Renewal: hex.EncodeToString(id[:]), Step: StepPlanned, Act: Done,
		Serial: r.v.info.Serial, Label: r.v.info.Label,
		OldID: r.v.signing.ID, OldCertificate: r.v.signing.Certificate.Info().SHA256,
		NewID: r.v.signing.ID, NewLabel: "rxguard " + hex.EncodeToString(id[:4]),
	}
	r.m.at(StepPlanned, false)
	if over {
		e.OldKey = keyDigest(r.v.signing.Certificate.X509().PublicKey)
	} else {
		var err error
		if e.NewID, err = r.v.s.Vacant(ctx); err != nil {
			return err
		}
	}
	if err := r.write(e); err != nil {
		return err
	}
	r.m.at(StepPlanned, true)
	return nil
}

// write appends to the journal, with the points at which tests crash.
func (r *run) write(e JournalEntry) error {
	e.Card, e.Time = r.id, time.Now()
	if e.Renewal == "" {
		e.Renewal = r.p.id
	}
	point := string(e.Step) + " " + string(e.Act)
	if err := r.crash("before " + point); err != nil {
		return err
	}
	if err := r.j.add(e); err != nil {
		return err
	}
	r.p = r.j.last()
	return r.crash("after " + point)
}

// step does one step: intent, probe, act, read back, done.
func (r *run) step(ctx context.Context, step Step) error {
	again := r.p.begun[step]
	if !again {
		if err := r.write(JournalEntry{Step: step, Act: Intent}); err != nil {
			return err
		}
	}
	hard := context.WithoutCancel(ctx) // the card's part of a step is not broken off
	done := JournalEntry{Step: step, Act: Done}
	var err error
	switch step {
	case StepHold:
		err = r.hold(ctx)
	case StepReplace:
		if err = r.learn(ctx); err == nil {
			err = r.replaceKey(ctx)
		}
	case StepKey:
		if err = r.learn(ctx); err == nil {
			err = r.makeKey(hard)
		}
	case StepRequest:
		if err = r.learn(ctx); err == nil {
			done.CSR, err = r.request(ctx)
		}
	case StepEnrol:
		done.Certificate, done.Chain, err = r.enrol(ctx, again)
	case StepWrite:
		err = r.writeCertificate(hard)
	case StepProve:
		err = r.prove(ctx)
	case StepConfirm:
		err = r.confirm(ctx)
	case StepSwitch:
		err = r.switchPair(ctx)
	case StepRetire:
		err = r.retire(ctx)
	case StepReseat:
		err = r.release(ctx)
	}
	if err != nil {
		return err
	}
	return r.write(done)
}

// patience bounds the wait for another process that raises the clock floor.
const patience = 10 * time.Second

// record adds a line about renewal id to the decision record, and raises the clock
// floor to now.
func (r *run) record(id string, ev signing.Event, v guard.Verdict, cause string) error {
	e := signing.EntryOf(ev, v)
	e.Renewal, e.Cause = id, cause
	if err := r.c.Recorder.Record(context.Background(), e); err != nil {
		return fmt.Errorf("renewal: the decision could not be recorded; nothing further was done to the card: %w", err)
	}
	if r.c.AsOf != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.clock.Raise(ctx, r.now(), v.Certificate.NotAfter); err != nil {
		return fmt.Errorf("renewal: the instant of the decision could not be kept for this computer's clock; nothing further was done to the card: %w", err)
	}
	return nil
}

// judge asks the guard about the card as it was last looked at.
func (r *run) judge() guard.Verdict {
	return r.judgeNow(r.v.snapshot(r.simulated()))
}
