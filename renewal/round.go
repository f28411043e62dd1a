package renewal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/signing"
)

// Round renews all cards of one person that need it, in one guided run: those in
// several readers, and those that are put into a reader one after the other. The
// notice of 2020 asks for that: repeat it for every affected card.
//
// The card in the first seat comes first, which is the one that the person
// authenticated with, then the others in the order of the seats, then what is put
// in. Each card is renewed as Renew does it, authenticates with its own key, and is
// taken out, put back and free to sign again before the next one begins. So no card
// waits on hold for the others, whoever is called away to a patient can sign with those
// that are done, and nobody has to remember which of several is still to be put back.
//
// Whose the cards are is told by the certificates: by the 12-digit user id at the
// beginning of the common name, or without one by the whole subject. A card of
// somebody else, and one that needs nothing, is looked at, left alone and named. A
// card that cannot be renewed, waits for the authority's decision or stopped is named
// with what to do, and the next one is seen to. What would stop every card ends the
// Round: a renewal service that does not answer, a decision record or a journal that
// cannot be written, card software that does not answer, the end of the context. The
// cards that were not reached are named too, and nobody is asked for their passcodes.
//
// What was done is in each card's journal: after a crash, a new Round goes on.
type Round struct {
	// Seats are the readers; at least one.
	Seats []Seat

	// UserID says whose cards these are: 12 digits. Empty: those of the person whose
	// card is seen first.
	UserID string

	// NextCard asks the person to put in the next card, and returns nil when the person
	// says that was all, or an error to stop. It is called when all cards in the readers
	// have been seen to, with what they came to so far, and runs on a goroutine of its own.
	// Its context ends as soon as a card is put in; nobody waits for it then. Nil: the
	// cards that are in the readers are all.
	//
	// A card whose renewal stopped, or waits for its re-seat, is gone on with when it is
	// put in again after NextCard was called; any other card is seen to once.
	NextCard func(ctx context.Context, sofar RoundResult) error

	// Show is told what happens, from the goroutine of Run; it may be nil.
	Show func(RoundEvent)
}

// Seat is a reader of a Round with what works on the card in it.
type Seat struct {
	// Reader is its name, for the person, who puts a card back into the same one.
	Reader string
	// Renewer renews the card in it, one Renewer for each Seat. Where cards are changed
	// one after the other its Card is whatever card is in the reader: opened with
	// signing.Config.ReaderName, or without a condition, but not with Token.
	Renewer *Renewer
	// Signer is over the same Card. It asks for the passcode that ends the hold.
	Signer *signing.Signer
}

// RoundEvent tells what happens with one card of a Round.
type RoundEvent struct {
	Reader        string // of the Seat
	Serial, Label string // of the card

	// Number counts the cards that are to be renewed, from 1, and Of is how many of
	// them are known of: those so far and those that are in the readers; more may be put
	// in. Both are 0 for a card that is left alone.
	Number, Of int

	// Outcome is Ready when the card's turn begins, ReseatCard when the person is to
	// take it out and put it back, WrongCard when another one was put in its place, and
	// at last what became of the card. It is empty with Progress.
	Outcome Outcome
	// Progress is that of the card's renewal; nil: see Outcome.
	Progress *Progress
	Text     string // in plain words
}

// String prints the event on one line.
func (e RoundEvent) String() string {
	s := nameCard(e.Label, e.Serial, e.Reader)
	if e.Number > 0 {
		s = fmt.Sprintf("%d of %d, %s", e.Number, e.Of, s)
	}
	if p := e.Progress; p != nil {
		s += fmt.Sprintf(", step %d of %d", p.Index, p.Of)
	}
	return s + ": " + e.Text
}

// Run goes the round. It returns when all cards were seen to, and waits for the
// person, at a re-seat and in NextCard, as long as ctx lets it. When ctx ends, Run
// stops as Renew and Finish do.
//
// The error is nil when each of the person's cards was renewed and re-seated or
// needed nothing, and otherwise a *RoundError, which carries the same RoundResult, or
// an error of the Round's fields. A Round can be run again, one Run at a time.
func (r *Round) Run(ctx context.Context) (RoundResult, error) {
	if err := r.check(); err != nil {
		return RoundResult{}, err
	}
	run := &roundRun{Round: r, ctx: ctx, person: r.UserID, seen: make([]uint64, len(r.Seats))}
	cause := run.all()
	if cause != nil {
		run.leave(cause)
	}
	return run.ended(cause)
}

func (r *Round) check() error {
	switch {
	case r == nil || len(r.Seats) == 0:
		return errors.New("renewal: Round.Seats is empty; wanted one Seat for each reader")
	case r.UserID != "" && !isUserID(r.UserID):
		return fmt.Errorf("renewal: Round.UserID is %q; wanted 12 digits", r.UserID)
	}
	for i, s := range r.Seats {
		switch {
		case s.Renewer == nil || s.Renewer.c.Card == nil:
			return fmt.Errorf("renewal: Round.Seats[%d] has no Renewer; wanted one from New", i)
		case s.Signer == nil:
			return fmt.Errorf("renewal: Round.Seats[%d] has no Signer; wanted one from signing.New, over the Renewer's card", i)
		case slices.ContainsFunc(r.Seats[:i], func(o Seat) bool { return o.Renewer.c.Card == s.Renewer.c.Card }):
			return fmt.Errorf("renewal: Round.Seats[%d] has the same card as one before it; wanted one Seat for each reader", i)
		}
	}
	return nil
}

// personOf tells whose a certificate is.
func personOf(c *guard.Certificate) string {
	if id, _, ok := strings.Cut(c.X509().Subject.CommonName, "_"); ok && isUserID(id) {
		return id
	}
	return c.Info().Subject
}

func isUserID(s string) bool { return len(s) == 12 && strings.Trim(s, "0123456789") == "" }
