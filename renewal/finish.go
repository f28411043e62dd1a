package renewal

import (
	"context"
	"errors"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/signing"
)

// Finish waits until the card was taken out and put back, as its watcher sees it,
// asks for the passcode through the Signer, and ends the hold. It waits for the
// person as long as ctx lets it, and never starts a renewal. The card is the one
// that this Renewer worked on last; for a new Renewer, the one that was in the
// reader last.
//
// The outcome is Completed after a renewal, GivenUp after one that was given up,
// NotNeeded for a card that no renewal is known of; the error is then nil. Every
// other end is an *Error: ReseatCard when ctx ended first or the passcode was not
// right, Resumable for a renewal that is not finished, WrongCard for another card
// in the reader, Refusal for a card that cannot sign as it is.
func (r *Renewer) Finish(ctx context.Context, s *signing.Signer) (Result, error) {
	if s == nil || r == nil || r.c.Card == nil {
		return ended(Result{Outcome: Refusal, Text: "The renewal could not be finished.", Remedies: []advisory.Remedy{askIT}},
			errors.New("renewal: no signer or no renewer; wanted one from signing.New and one from New, for the same card"))
	}
	r.mu.Lock()
	last := r.last
	r.mu.Unlock()
	return r.finish(ctx, s, last)
}

// finish is Finish for one card; the zero who is the one that was in the reader last.
func (r *Renewer) finish(ctx context.Context, s *signing.Signer, of who) (Result, error) {
	serial := of.serial
	for {
		changed := r.c.Card.Changed()
		snap, err := r.c.Card.Snapshot(ctx)
		if err == nil && serial == "" {
			serial = snap.Serial
		}
		end := func(o Outcome, text string, cause error, rs ...advisory.Remedy) (Result, error) {
			res := Result{Outcome: o, Text: text, Serial: snap.Serial, Label: snap.Label, Remedies: rs}
			if o == ReseatCard {
				res.Step = StepReseat
			}
			return ended(res, cause)
		}
		switch {
		case err != nil:
			return end(Resumable, "The card could not be read.", err, again, askIT)
		case errors.Is(snap.Err, guard.ErrNoCard):
		case snap.Serial != "" && snap.Serial != serial:
			return end(WrongCard, wrongCardText(serial), nil, insert)
		case snap.Hold.State == guard.HoldRenewal, snap.Hold.State == guard.HoldUnread:
			return end(Resumable, "The renewal of this card is not finished.", snap.Hold.Err, again)
		case errors.Is(snap.Err, guard.ErrSeveralCertificates), errors.Is(snap.Err, guard.ErrNoSigningCertificate), errors.Is(snap.Err, guard.ErrCertificateDamaged):
			return end(Refusal, "This card cannot sign as it is.", snap.Err, askRA, usePaper)
		case card.IsKind(snap.Err, card.Wedged):
			return end(Resumable, "The card could not be read. "+advice(snap.Err), snap.Err, again, askIT)
		case snap.Err != nil: // it could not be read this time
		case snap.Hold.State == guard.HoldReseat && snap.Hold.Err != nil:
			return end(Refusal, "This card does not have the certificate that its renewal left on it.", snap.Hold.Err, again, askRA, usePaper)
		case snap.Hold.State == guard.HoldReseat:
		default:
			if err := s.EndHold(ctx); err != nil {
				return end(ReseatCard, "The card is still on hold. "+advice(err), err, reseat)
			}
			return r.settle(ctx, of, serial)
		}
		select {
		case <-ctx.Done():
			return end(ReseatCard, textOnHold, ctx.Err(), reseat)
		case <-changed:
		}
	}
}

const textOnHold = "The card is on hold until it is taken out and put back in."

// settle writes down that the card was re-seated, and says what it was for. Another card
// may have been put in since the last look, also one that does not say its serial number.
func (r *Renewer) settle(ctx context.Context, of who, serial string) (Result, error) {
	run, leave, err := r.enterIf(ctx, func(v *view) error {
		if v.info.Serial == serial && (of.id == "" || of.id == v.id) {
			return nil
		}
		text := wrongCardText(serial)
		if v.info.Serial == serial {
			text = wrongCardText("")
		}
		return &Error{Result: Result{Outcome: WrongCard, Text: text, Serial: v.info.Serial, Label: v.info.Label, Remedies: []advisory.Remedy{insert}}}
	})
	if err != nil {
		return resultOf(err)
	}
	defer leave()
	if run.p.reseated(run.held) {
		if err := run.write(JournalEntry{Step: StepDone, Act: Done}); err != nil {
			return run.stopped(err)
		}
	}
	switch p := run.p; {
	case run.held != nil, p != nil && !p.finished:
		return ended(run.result(Resumable, "The renewal of this card is not finished.", again), nil)
	case p == nil:
		return run.result(NotNeeded, "This card is not on hold."), nil
	case p.givenUp:
		return run.result(GivenUp, "The card was put back in. Its renewal was given up.", askRA), nil
	}
	return run.result(Completed, "The card was renewed and put back in. It can sign again."), nil
}

// wrongCardText names the card that is wanted, where it says its serial number.
func wrongCardText(serial string) string {
	if serial == "" {
		return "This is another card. Put the one that was renewed back in."
	}
	return oneLine("This is another card. Put the card with serial " + serial + " back in.")
}
