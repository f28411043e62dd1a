package renewal

import (
	"context"
	"errors"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/signing"
)

// giveUp ends a renewal without a new certificate.
type giveUp struct {
	outcome Outcome
	text    string
	why     string // for the journal
	err     error
}

func (g *giveUp) Error() string { return g.err.Error() }
func (g *giveUp) Unwrap() error { return g.err }

// pendingError says that the authority wants to be asked later.
type pendingError struct{ until time.Time }

func (p *pendingError) Error() string { return "renewal: the authority decides later" }

// named fills in which card a result is about.
func (r *Renewer) named(res Result, v *view) Result {
	res.Serial, res.Label = v.info.Serial, v.info.Label
	return res
}

// result starts a result with what the run knows.
func (r *run) result(o Outcome, text string, rs ...advisory.Remedy) Result {
	res := r.named(Result{Outcome: o, Text: text, Remedies: rs}, r.v)
	if r.p != nil && !r.p.finished {
		res.Step = next(r.p)
		res.OldKeyKept = r.p.keptKey
		if c, err := guard.ParseCertificate(r.p.cert); err == nil {
			i := c.Info()
			res.New = &i
		}
	}
	if c := r.v.signing.Certificate; c != nil && (r.p == nil || c.Info().SHA256 == r.p.plan.OldCertificate) {
		i := c.Info()
		res.Old = &i
	}
	return res
}

// stopped is the result of a run that can be gone on with.
func (r *run) stopped(cause error) (Result, error) {
	begun := r.p != nil && !r.p.finished && r.p.begun[StepHold]
	res := r.result(Resumable, "", again, askIT, usePaper)
	switch {
	case begun:
		res.Text = "The renewal stopped before it was finished. " + atStep(res.Step) + " " + advice(cause) +
			" Nothing is lost. The card cannot sign until its renewal is finished or given up."
	default:
		res.Text = "The renewal did not begin. The card was not changed. " + advice(cause)
	}
	return ended(res, cause)
}

// advice is the next step that an error has for a person.
func advice(err error) string {
	var ce *card.Error
	var ee *EnrolError
	switch {
	case errors.As(err, &ce):
		return upper(ce.What()) + ": " + ce.Advice() + "."
	case errors.Is(err, context.Canceled):
		return "It was stopped on request."
	case errors.As(err, &ee):
		return upper(enrolText[ee.Kind]) + ". Try again later."
	}
	return "Try again, or contact your local IT support."
}

func upper(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return string(s[0]-'a'+'A') + s[1:]
}

func (r *run) pending(until time.Time) (Result, error) {
	res := r.result(Pending, "The renewal service has the request and decides later. Start the renewal again after "+
		until.Format("15:04 on 2 January 2006 UTC")+".", again, askRA, usePaper)
	res.Until = until
	return ended(res, nil)
}

func (r *run) reseatResult() Result {
	res := r.result(ReseatCard, "The card was renewed. Take it out, put it back in and enter your passcode.", reseat)
	res.Step = StepReseat
	if res.OldKeyKept {
		res.Text += " The card could not remove the old key; it is there without a certificate and signs nothing."
	}
	return res
}

// abandon writes down why the renewal ends, then puts the card back.
func (r *run) abandon(ctx context.Context, g *giveUp) (Result, error) {
	if err := r.write(JournalEntry{Step: StepGivenUp, Act: Intent, Text: g.why}); err != nil {
		return r.stopped(err)
	}
	r.p = r.j.last()
	if _, err := r.putBack(ctx); err != nil {
		var e *Error
		if errors.As(err, &e) && e.Result.Outcome == Resumable {
			return r.stopped(errors.Join(g.err, err))
		}
	}
	return ended(r.result(g.outcome, g.text+" Your old card still works as before, once you took it out and put it back in.", askRA, askIT, usePaper), g.err)
}

// putBack removes what a renewal that was given up left on the card, and turns the
// hold into one that re-seating ends, with the old certificate.
func (r *run) putBack(ctx context.Context) (Result, error) {
	hard := context.WithoutCancel(ctx)
	if r.p.done[StepSwitch] || len(r.find(card.CertificateObject, r.p.plan.OldID)) == 0 {
		return ended(r.result(Refusal, "This renewal can only go on: the old certificate is no longer on the card.", again, askRA), errPastSwitch)
	}
	for _, class := range []card.Class{card.CertificateObject, card.PrivateKeyObject, card.PublicKeyObject} {
		if len(r.find(class, r.p.plan.NewID)) == 0 {
			continue
		}
		err := r.v.s.Destroy(hard, class, r.p.plan.NewID)
		if err != nil && !card.IsKind(err, card.NotFound) && !card.IsKind(err, card.Unsupported) {
			return r.stopped(err)
		}
	}
	if err := r.v.look(hard); err != nil {
		return r.stopped(err)
	}
	if hold, err := r.dir.Hold(r.id); err != nil {
		return r.stopped(err)
	} else if hold != nil {
		if err := r.setHold(ctx, state.Reseat, r.p.plan.OldCertificate); err != nil {
			return r.stopped(err)
		}
	}
	if err := r.record(signing.EventGivenUp, r.c.Guard.Judge(r.v.snapshot(r.simulated()), r.now()), r.p.why); err != nil {
		return r.stopped(err)
	}
	if err := r.write(JournalEntry{Step: StepGivenUp, Act: Done, Text: r.p.why}); err != nil {
		return r.stopped(err)
	}
	r.p = r.j.last()
	return r.result(ReseatCard, "The renewal was given up. Take the card out, put it back in and enter your passcode.", reseat, askRA), nil
}

var errPastSwitch = errors.New("renewal: the old certificate was already removed; the renewal can only be finished")

// Abandon gives up the unfinished renewal of the card in the reader, as long as the
// old certificate is on it: what was made is removed, and the card signs again, by
// its old certificate and judged as ever, once it was re-seated (Outcome
// ReseatCard). It asks for the passcode. Errors are an *Error.
func (r *Renewer) Abandon(ctx context.Context) (Result, error) {
	v, err := r.open(ctx)
	if err != nil {
		return ended(Result{Outcome: Resumable, Text: "The card could not be read. " + advice(err)}, err)
	}
	defer v.s.Close()
	id := v.info.ID()
	unlock, err := r.dir.TryRenewal(ctx, id)
	if err != nil {
		return ended(r.named(Result{Outcome: Refusal, Text: "This card is being renewed by another program."}, v), err)
	}
	defer unlock()
	j, err := openJournal(r.dir.Path(), id)
	if err != nil {
		return ended(r.named(Result{Outcome: Refusal, Text: "What was written down about the renewal cannot be read.", Remedies: []advisory.Remedy{askIT, askRA}}, v), err)
	}
	run := &run{Renewer: r, v: v, j: j, id: id, p: j.last()}
	if run.p == nil || run.p.finished || run.p.done[StepReseat] {
		return ended(r.named(Result{Outcome: Refusal, Text: "No renewal of this card is under way."}, v), errNothingBegun)
	}
	if run.p.done[StepSwitch] || run.p.begun[StepSwitch] {
		return ended(run.result(Refusal, "This renewal can only go on: the old certificate is being replaced.", again, askRA), errPastSwitch)
	}
	if err := card.Login(ctx, r.c.Card, v.s, card.ToRenew); err != nil {
		return run.stopped(err)
	}
	if err := v.look(ctx); err != nil {
		return run.stopped(err)
	}
	if !run.p.givenUp {
		if err := run.write(JournalEntry{Step: StepGivenUp, Act: Intent, Text: "on request"}); err != nil {
			return run.stopped(err)
		}
		run.p = j.last()
	}
	return run.putBack(ctx)
}

// complete writes down that the card was re-seated.
func (r *Renewer) complete(v *view, j *journal, p *progress) (Result, error) {
	run := &run{Renewer: r, v: v, j: j, id: v.info.ID(), p: p}
	res := run.result(Completed, "The card was renewed and put back in. It can sign again.")
	if err := run.write(JournalEntry{Step: StepDone, Act: Done}); err != nil {
		return run.stopped(err)
	}
	res.Step = StepDone
	return res, nil
}

// Finish waits until the renewed card was taken out and put back, as the card's
// watcher sees it, asks for the passcode through the Signer and ends the hold. It
// waits for the person as long as ctx lets it. A card that is not on hold needs no
// waiting. Another card in the reader is Outcome WrongCard.
func (r *Renewer) Finish(ctx context.Context, s *signing.Signer) (Result, error) {
	var serial string
	for {
		changed := r.c.Card.Changed()
		snap, err := r.c.Card.Snapshot(ctx)
		if err != nil && !errors.Is(err, guard.ErrNoCard) {
			return ended(Result{Outcome: Resumable, Text: "The card could not be read."}, err)
		}
		here := err == nil && snap.Err == nil
		if here && serial == "" {
			serial = snap.Serial
		}
		switch {
		case here && snap.Serial != serial:
			return ended(Result{Outcome: WrongCard, Serial: snap.Serial, Label: snap.Label, Remedies: []advisory.Remedy{reseat},
				Text: "This is another card. Put the card with serial " + serial + " back in."}, nil)
		case here && snap.Hold.State == guard.HoldLogin, here && snap.Hold.State == guard.NotHeld:
			if err := s.EndHold(ctx); err != nil {
				return ended(Result{Outcome: ReseatCard, Serial: snap.Serial, Label: snap.Label, Remedies: []advisory.Remedy{reseat},
					Text: "The card is still on hold. " + advice(err)}, err)
			}
			return r.Renew(ctx, nil)
		case here && snap.Hold.State == guard.HoldRenewal, here && snap.Hold.State == guard.HoldUnread:
			return ended(Result{Outcome: Resumable, Serial: snap.Serial, Label: snap.Label, Remedies: []advisory.Remedy{again},
				Text: "The renewal of this card is not finished."}, snap.Hold.Err)
		}
		select {
		case <-ctx.Done():
			return ended(Result{Outcome: ReseatCard, Serial: serial, Remedies: []advisory.Remedy{reseat},
				Text: "The card is on hold until it is taken out and put back in."}, ctx.Err())
		case <-changed:
		}
	}
}
