package renewal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/signing"
)

// giveUp ends a renewal without a new certificate.
type giveUp struct {
	why string // one of the words below
	err error  // nil when an earlier run had it
}

func (g *giveUp) Error() string { return g.err.Error() }
func (g *giveUp) Unwrap() error { return g.err }

// Why a renewal was given up, as the journal and the decision record say it.
const (
	whyAsked         = "on_request"
	whyCannot        = "card_cannot"
	whyFull          = "card_full"
	whyNotReplaced   = "not_replaced"
	whyKeepsOld      = "card_cannot_remove"
	whyRejected      = "rejected"
	whyWrong         = "wrong_certificate"
	whyAffectedAgain = "affected_again"
	whyExpired       = "expired"
	whyNotYetValid   = "not_yet_valid"
	whyJudged        = "not_good_enough"
	whyChanged       = "changed_elsewhere"
)

var whyText = map[string]string{
	whyAsked:         "The renewal was given up.",
	whyCannot:        "This card cannot be renewed here.",
	whyFull:          textFull,
	whyNotReplaced:   textFull,
	whyKeepsOld:      "This card cannot remove its old certificate.",
	whyRejected:      "The renewal service said no.",
	whyWrong:         "The renewal service sent a certificate that is not for this card. It is not used.",
	whyAffectedAgain: "The new certificate is affected by the same problem. It is not used.",
	whyExpired:       "The new certificate has expired already. It is not used.",
	whyNotYetValid:   "The new certificate is not valid yet. It is not used.",
	whyJudged:        "The new certificate is not good enough to sign with. It is not used.",
	whyChanged:       "The card was changed elsewhere before its renewal was finished.",
}

// ends tells whether an error ends the renewal; nil: it can be gone on with.
func (r *run) ends(err error) *giveUp {
	var up *giveUp
	var ee *EnrolError
	switch {
	case errors.As(err, &up) && r.replaced() && (up.why == whyNotYetValid || errors.As(err, new(*guard.Undecided))):
		return nil // it may be good later
	case errors.As(err, &up):
		return up
	case r.onlyOn():
		return nil
	case isFull(err):
		return &giveUp{whyFull, err}
	case cannot(err):
		return &giveUp{whyCannot, err}
	case errors.As(err, &ee) && ee.Kind == Rejected:
		return &giveUp{whyRejected, err}
	case errors.As(err, &ee) && ee.Kind == WrongCertificate:
		return &giveUp{whyWrong, err}
	}
	return nil
}

// onlyOn tells whether the renewal can only be finished: of the old pair something is gone.
func (r *run) onlyOn() bool { return r.p.begun[StepSwitch] || r.replaced() }

// pendingError says that the authority wants to be asked later.
type pendingError struct{ until time.Time }

func (p *pendingError) Error() string { return "renewal: the authority decides later" }

// result starts a result with what the run knows.
func (r *run) result(o Outcome, text string, rs ...advisory.Remedy) Result {
	res := Result{Outcome: o, Text: text, Remedies: rs, Serial: r.v.info.Serial, Label: r.v.info.Label}
	old := r.v.signing.Certificate
	if r.p != nil {
		old = r.oldCertificate()
		res.Step, res.OldKeyKept = r.p.next(), r.p.keptKey
		if c, err := guard.ParseCertificate(r.p.cert); err == nil && !r.p.givenUp {
			i := c.Info()
			res.New = &i
		}
	}
	if old != nil {
		i := old.Info()
		res.Old = &i
	}
	return res
}

// stopped is the result of a run that can be gone on with.
func (r *run) stopped(cause error) (Result, error) {
	cause = card.Pulled(card.TokenOf(r.c.Card), r.v.s.Insertion(), cause)
	begun := r.p != nil && !r.p.finished
	more := []advisory.RemedyKind{advisory.Portal, advisory.ServiceDesk}
	// The portal would change a card that this renewal works on, and helps no card that
	// cannot be worked with.
	if begun || errors.As(cause, new(*card.Error)) {
		more = more[1:]
	}
	next, ways := advice(cause), waysOn(cause, begun)
	// What is said of a card's refusal elsewhere, that nothing was removed, is not so here.
	if begun && r.onlyOn() && (cannot(cause) || isFull(cause)) {
		next, ways = "The card did not do what is left to be done. Contact your Registration Authority.", []advisory.Remedy{askRA, again, askIT, usePaper}
	}
	res := r.result(Resumable, "The renewal did not begin. The card was not changed. "+next, noticed(r.judge(), ways, more...)...)
	if begun {
		res.Text = "The renewal stopped before it was finished. " + atStep(res.Step) + " " + next
		if h, err := r.dir.Hold(r.v.names...); h != nil || err != nil {
			res.Text += r.untilWhen()
		}
	}
	return ended(res, cause)
}

// untilWhen says how long the card signs nothing.
func (r *run) untilWhen() string {
	switch {
	case r.replaced():
		return " The card cannot sign until its renewal is finished, or until your Registration Authority has renewed it."
	case r.p.begun[StepSwitch]:
		return " Nothing is lost. The card cannot sign until its renewal is finished."
	}
	return " Nothing is lost. The card cannot sign until its renewal is finished or given up."
}

func (r *run) pending(until time.Time) (Result, error) {
	res := r.result(Pending, "The renewal service has the request and decides later. Start the renewal again after "+
		until.Format("15:04 on 2 January 2006 UTC")+".", again, askRA, usePaper)
	res.Until = until
	return ended(res, nil)
}

// renewed is the result of a renewal that waits for the re-seat alone.
func (r *run) renewed() Result {
	res := r.result(ReseatCard, "The card was renewed. Take it out, put it back in and enter your passcode.", reseat)
	res.Step = StepReseat
	if res.OldKeyKept {
		res.Text += " The card could not remove the old key; it is there without a certificate and signs nothing."
	}
	return res
}

// giveUp writes down why the renewal ends, puts the card back, and says how it is
// now.
func (r *run) giveUp(ctx context.Context, up *giveUp) (Result, error) {
	var err error
	if !r.p.givenUp {
		err = r.write(JournalEntry{Step: StepGivenUp, Act: Intent, Text: up.why})
	}
	if err == nil {
		err = r.putBack(ctx)
	}
	var hold *state.Hold
	if err == nil {
		hold, err = r.dir.Hold(r.v.names...)
	}
	if err != nil {
		if up.err != nil {
			err = fmt.Errorf("%w; it was being given up because of: %w", err, up.err)
		}
		return r.stopped(err)
	}
	res := r.result(NotOffered, whyText[up.why], noticed(r.judge(), []advisory.Remedy{askRA, askIT, usePaper}, advisory.ServiceDesk)...)
	switch up.why {
	case whyAsked:
		res.Outcome, res.Remedies = GivenUp, []advisory.Remedy{askRA, usePaper}
	case whyChanged:
		res.Outcome = GivenUp
	}
	switch {
	case r.v.serr != nil:
		res.Text += " The card cannot sign now."
		return ended(res, up.err)
	case r.v.signing.Certificate.Info().SHA256 != r.p.plan.OldCertificate:
		res.Text += " The card has another certificate now."
	case hold == nil:
		res.Text += " The card was not changed."
	default:
		res.Text += " The old certificate is still on the card."
	}
	if hold != nil {
		res.Text += " Take the card out, put it back in and enter your passcode."
		res.Remedies = withReseat(res.Remedies)
	}
	if up.why == whyAsked {
		if hold != nil {
			res.Outcome = ReseatCard
		}
		return res, nil
	}
	return ended(res, up.err)
}

// withReseat adds the re-seat to remedies, after the one that comes first.
func withReseat(rs []advisory.Remedy) []advisory.Remedy {
	if len(rs) == 0 {
		return []advisory.Remedy{reseat}
	}
	return slices.Insert(slices.Clone(rs), 1, reseat)
}

// putBack removes what a renewal that was given up left on the card, as long as
// something else there can sign, and turns the hold into one that re-seating ends.
func (r *run) putBack(ctx context.Context) error {
	hard := context.WithoutCancel(ctx)
	ours := slices.ContainsFunc(r.v.objects, func(o card.Object) bool { return bytes.Equal(o.ID, r.p.plan.NewID) })
	if ours && !r.p.replaces() && r.signsWithout(r.p.plan.NewID) {
		if hold, err := r.dir.Hold(r.v.names...); err != nil {
			return err
		} else if hold == nil {
			if err := r.hold(hard); err != nil {
				return err
			}
		}
		if err := r.destroy(hard, r.p.plan.NewID, cannot, classes...); err != nil {
			return err
		}
	}
	if err := r.record(r.p.id, signing.EventGivenUp, r.judge(), r.p.why); err != nil {
		return err
	}
	if hold, err := r.dir.Hold(r.v.names...); err != nil {
		return err
	} else if hold != nil {
		expect := r.p.plan.OldCertificate
		if r.v.serr == nil {
			expect = r.v.signing.Certificate.Info().SHA256
		}
		if err := r.setHold(hard, hold.ID, state.Reseat, expect); err != nil {
			return err
		}
	}
	return r.write(JournalEntry{Step: StepGivenUp, Act: Done, Text: r.p.why})
}

// signsWithout tells whether a pair that can sign is left when the objects with
// this CKA_ID are gone.
func (r *run) signsWithout(id []byte) bool {
	left := slices.DeleteFunc(slices.Clone(r.v.objects), func(o card.Object) bool { return bytes.Equal(o.ID, id) })
	p, err := card.SigningPair(left)
	if card.IsKind(err, card.Ambiguous) {
		return true
	}
	return err == nil && len(r.find(card.PrivateKeyObject, p.ID)) > 0
}

var (
	errNothingBegun = errors.New("renewal: no renewal of this card is under way")
	errPastSwitch   = errors.New("renewal: the old pair is being removed or was; the renewal can only be finished")
)

// Abandon gives up the unfinished renewal of the card in the reader, until the old pair
// is about to be removed. What was made is removed, and the card signs again, with its
// old certificate and judged as ever, once it was re-seated: the outcome is then
// ReseatCard, or GivenUp where the card was not touched yet, and the error nil. It asks
// for the passcode where something is to be removed. Every other end is an *Error;
// Refusal where the renewal can only go on, or the card be renewed in person.
func (r *Renewer) Abandon(ctx context.Context) (Result, error) {
	run, leave, err := r.enter(ctx)
	if err != nil {
		return resultOf(err)
	}
	defer leave()
	p, up := run.p, &giveUp{why: whyAsked}
	switch {
	case elsewhere(run.v, run.held) && run.held.Phase == state.Renewing:
		return run.leaveElsewhere(ctx)
	case p == nil || p.finished || p.done[StepReseat] || p.reseated(run.held):
		res := run.result(Refusal, "No renewal of this card is under way.")
		res.Step = ""
		return ended(res, errNothingBegun)
	case p.givenUp:
		up.why = p.why
	case p.begun[StepSwitch]:
		return ended(run.result(Refusal, "This renewal can only go on: the old certificate is being replaced.", again, askRA), errPastSwitch)
	}
	if p.begun[StepKey] || p.begun[StepReplace] {
		if err := run.login(ctx); err != nil {
			return run.stopped(err)
		}
	}
	if !p.givenUp && run.replaced() && !run.changed() {
		return ended(run.result(Refusal, "This renewal can only go on: the old key was given up for the new one.", again, askRA), errPastSwitch)
	}
	return run.giveUp(ctx, up)
}

// leaveElsewhere gives up a renewal that was begun through other card software, whose
// journal is not at hand: what it left on the card stays, and the card signs again with
// the certificate that is on it, judged as ever, once it was re-seated.
func (r *run) leaveElsewhere(ctx context.Context) (Result, error) {
	if r.v.serr != nil {
		return ended(r.result(Refusal, textElsewhere, askIT, askRA, usePaper), r.v.serr)
	}
	if err := r.reexpect(ctx, whyAsked); err != nil {
		return r.stopped(err)
	}
	res := r.result(ReseatCard, whyText[whyAsked]+" Take the card out, put it back in and enter your passcode.", reseat, askRA)
	res.Step = StepReseat
	return res, nil
}
