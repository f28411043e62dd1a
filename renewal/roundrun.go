package renewal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
)

// roundRun is one Run of a Round.
type roundRun struct {
	*Round
	ctx    context.Context
	person string   // whose cards; empty: not known yet
	seen   []uint64 // by seat: the insertion that was seen to last
	cards  []*roundCard
	asked  int // calls of NextCard
	number int // of cards to be renewed so far
}

// roundCard is a card that was seen to.
type roundCard struct {
	CardResult
	id     string   // view.id; empty: it could not be read
	sums   []string // SHA-256 of the signing certificates that it had and has
	seat   int
	asked  int // calls of NextCard until then
	number int // among the cards to be renewed; 0: it is none
}

// all sees to the cards in the readers, and to what NextCard brings. An error ends
// the run for all cards.
func (r *roundRun) all() error {
	for {
		for news := true; news; {
			news = false
			for seat := range r.Seats {
				found, err := r.look(seat)
				if err != nil {
					return err
				}
				news = news || found
			}
		}
		if r.NextCard == nil {
			return nil
		}
		if more, err := r.next(); err != nil || !more {
			return err
		}
	}
}

// look sees to the card in a seat, if it is one that came since the last look.
func (r *roundRun) look(seat int) (news bool, err error) {
	handle := r.Seats[seat].Renewer.c.Card
	if _, err := card.Ask(r.ctx, func() (struct{}, error) { card.Refresh(handle); return struct{}{}, nil }, nil); err != nil {
		return false, err
	}
	snap, news := r.newcomer(seat)
	if !news {
		return false, r.ctx.Err()
	}
	if r.person == "" && snap.Certificate != nil {
		r.person = personOf(snap.Certificate)
	}
	err = r.see(seat, snap)
	r.seen[seat] = snap.Insertion
	if err == nil {
		err = r.ctx.Err()
	}
	return true, err
}

// newcomer returns the card in a seat, and whether it came since it was seen to last.
func (r *roundRun) newcomer(seat int) (guard.Snapshot, bool) {
	s, err := r.Seats[seat].Renewer.c.Card.Snapshot(r.ctx)
	return s, err == nil && !errors.Is(s.Err, guard.ErrNoCard) && s.Insertion != r.seen[seat]
}

// What a card is left alone for, before anything is done with it.
var (
	errSeen    = errors.New("renewal: this card was seen to before")
	errSwapped = errors.New("renewal: another card is in the reader now")
)

// see sees to the card of a snapshot. An error ends the run for all cards.
func (r *roundRun) see(seat int, snap guard.Snapshot) error {
	s := r.Seats[seat]
	c := r.known(seat, snap)
	if c != nil && !r.again(c) {
		if c.asked < r.asked { // after its re-seat it is in by itself
			r.tell(c, c.Outcome, "This card was seen to before. "+c.Text)
		}
		return nil
	}
	now := &roundCard{seat: seat, asked: r.asked}
	now.Reader, now.Serial, now.Label = s.Reader, snap.Serial, snap.Label
	if c != nil {
		now.number = c.number
	}
	now.has(snap.Certificate)
	fresh := now.number == 0 && r.due(seat, snap)
	if fresh {
		r.number++
		now.number = r.number
	}
	uncount := func() { // it turned out to be none of those
		if fresh {
			r.number--
			now.number = 0
		}
	}
	if now.number > 0 {
		r.tell(now, Ready, "It is this card's turn.")
	}
	res, err := s.Renewer.renew(r.ctx, func(v *view) error { return r.accept(now, snap.Insertion, v) }, func(p Progress) {
		r.show(now, RoundEvent{Progress: &p, Text: p.Text})
	})
	switch {
	case errors.Is(err, errSeen), errors.Is(err, errSwapped):
		uncount()
		return nil
	case err == nil && res.Outcome == ReseatCard:
		r.tell(now, ReseatCard, res.Text)
		now.had(res)
		res, err = r.reseat(now, s, res)
	}
	if res.Serial == "" {
		res.Serial, res.Label = now.Serial, now.Label
	}
	now.Result, now.Err = res, err
	now.had(res)
	if now.leftAlone() {
		uncount()
	}
	r.keep(c, now)
	r.tell(now, res.Outcome, res.Text)
	return stopsAll(r.ctx, res, err)
}

// accept tells, of a card that was just opened, whether it is to be renewed, as far
// as that is not the guard's to say.
func (r *roundRun) accept(now *roundCard, insertion uint64, v *view) error {
	if v.s.Insertion() != insertion {
		return errSwapped
	}
	now.id = v.id
	now.Serial, now.Label = v.info.Serial, v.info.Label
	if c := r.byID(v.id); c != nil && !r.again(c) {
		return errSeen
	}
	whose := v.person()
	switch {
	case whose == "": // Renew says what is wrong with it
	case r.person == "":
		r.person = whose
	case whose != r.person:
		res := Result{Outcome: WrongCard, Text: textOthers, Serial: v.info.Serial, Label: v.info.Label}
		if old := v.signing.Certificate; old != nil {
			i := old.Info()
			res.Old = &i
		}
		return &Error{Result: res}
	}
	return nil
}

const textOthers = "This card is not in the same person's name. It was left alone."

// person tells whose the card is, where it says so: while it is being renewed it has
// two signing certificates, but one to log in with.
func (v *view) person() string {
	for _, p := range []card.Pair{v.signing, v.auth} {
		if p.Certificate != nil {
			return personOf(p.Certificate)
		}
	}
	return ""
}

// reseat waits until the card was taken out and put back, whatever is put in
// meanwhile.
func (r *roundRun) reseat(c *roundCard, s Seat, renewed Result) (Result, error) {
	for {
		res, err := s.Renewer.finish(r.ctx, s.Signer, who{c.Serial, c.id})
		if res.Outcome != WrongCard {
			return res, err
		}
		r.tell(c, WrongCard, res.Text)
		for wrong := true; wrong; {
			changed := s.Renewer.c.Card.Changed()
			snap, serr := s.Renewer.c.Card.Snapshot(r.ctx)
			back := snap.Certificate != nil && slices.Contains(c.sums, snap.Certificate.Info().SHA256)
			wrong = serr == nil && !errors.Is(snap.Err, guard.ErrNoCard) && snap.Serial == res.Serial && !back
			if !wrong {
				break
			}
			select {
			case <-changed:
			case <-r.ctx.Done():
				renewed.Text = textOnHold
				return ended(renewed, r.ctx.Err())
			}
		}
	}
}

// stopsAll returns the error where it would stop every other card as well.
func stopsAll(ctx context.Context, res Result, err error) error {
	var e *Error
	var ce *card.Error
	var ee *EnrolError
	switch {
	case err == nil, !errors.As(err, &e) || e.Err == nil:
		return nil
	case ctx.Err() != nil, card.IsKind(err, card.Wedged):
		return err
	case errors.As(err, &ee) && (ee.Kind == Rejected || ee.Kind == WrongCertificate), errors.As(err, new(*giveUp)):
		return nil // of this card's request or certificate
	case res.Outcome == Resumable && !errors.As(err, &ce):
		return err // of the service, the record, the journal or the machine's folder
	}
	return nil
}

// known finds a card among those seen to, by what its snapshot says; nil: it was not,
// or it is not known.
func (r *roundRun) known(seat int, s guard.Snapshot) *roundCard {
	for _, c := range r.cards {
		switch {
		case c.id == "" && c.Serial == "": // it could not be read
			if c.seat == seat && s.Serial == "" && s.Certificate == nil {
				return c
			}
		case c.Serial != s.Serial || c.Label != s.Label:
		case s.Certificate == nil:
			if s.Serial != "" {
				return c
			}
		default:
			if slices.Contains(c.sums, s.Certificate.Info().SHA256) {
				return c
			}
		}
	}
	return nil
}

func (r *roundRun) byID(id string) *roundCard {
	i := slices.IndexFunc(r.cards, func(c *roundCard) bool { return c.id == id })
	if i < 0 {
		return nil
	}
	return r.cards[i]
}

// again tells whether a card that was seen to is gone on with: the person was told
// of it since, and put it in again.
func (r *roundRun) again(c *roundCard) bool {
	return c.asked < r.asked && (c.Outcome == Resumable || c.Outcome == ReseatCard)
}

// keep keeps what a card came to, in the place of what it came to before, was.
func (r *roundRun) keep(was, now *roundCard) {
	if was == nil && now.id != "" {
		was = r.byID(now.id)
	}
	if i := slices.Index(r.cards, was); i >= 0 {
		r.cards[i] = now
		return
	}
	r.cards = append(r.cards, now)
}

// has notes a certificate that the card signs with, and had those of a result.
func (c *roundCard) has(certificate *guard.Certificate) {
	if certificate != nil {
		c.sums = append(c.sums, certificate.Info().SHA256)
	}
}

func (c *roundCard) had(res Result) {
	for _, i := range []*guard.CertificateInfo{res.Old, res.New} {
		if i != nil {
			c.sums = append(c.sums, i.SHA256)
		}
	}
}

// due tells from memory whether a card is one to be renewed.
func (r *roundRun) due(seat int, s guard.Snapshot) bool {
	if s.Certificate != nil && r.person != "" && personOf(s.Certificate) != r.person {
		return false
	}
	v := r.Seats[seat].Renewer.judgeNow(s)
	return s.Hold.State != guard.NotHeld || v.Has(guard.Affected) || v.Has(guard.AffectedSoon)
}

// tell shows what became of a card.
func (r *roundRun) tell(c *roundCard, o Outcome, text string) {
	r.show(c, RoundEvent{Outcome: o, Text: text})
}

func (r *roundRun) show(c *roundCard, e RoundEvent) {
	if r.Show == nil {
		return
	}
	e.Reader, e.Serial, e.Label, e.Number = c.Reader, c.Serial, c.Label, c.number
	if e.Number > 0 {
		e.Of = r.number
		for seat := range r.Seats {
			if s, news := r.newcomer(seat); news && seat != c.seat && r.known(seat, s) == nil && r.due(seat, s) {
				e.Of++
			}
		}
	}
	r.Show(e)
}

func (r *roundRun) sofar() RoundResult {
	res := RoundResult{Cards: make([]CardResult, 0, len(r.cards))}
	for _, c := range r.cards {
		res.Cards = append(res.Cards, c.CardResult)
	}
	return res
}

// next asks the person for another card, until one is put in (true) or the person
// says that was all.
func (r *roundRun) next() (more bool, err error) {
	r.asked++
	ctx, stop := context.WithCancel(r.ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	for seat, s := range r.Seats {
		watching.Go(func() {
			for {
				changed := s.Renewer.c.Card.Changed()
				if _, news := r.newcomer(seat); news {
					stop()
					return
				}
				select {
				case <-changed:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	sofar := r.sofar()
	_, err = card.Ask(ctx, func() (struct{}, error) { return struct{}{}, r.NextCard(ctx, sofar) }, nil)
	switch {
	case r.ctx.Err() != nil:
		return false, r.ctx.Err()
	case ctx.Err() != nil:
		return true, nil
	case err != nil:
		return false, fmt.Errorf("renewal: the next card could not be asked for: %w", err)
	}
	return false, nil
}

// leave names the cards that were not reached when the run ended for all, from
// memory.
func (r *roundRun) leave(cause error) {
	for seat, s := range r.Seats {
		snap, news := r.newcomer(seat)
		if !news || r.known(seat, snap) != nil {
			continue
		}
		c := &roundCard{seat: seat}
		c.Reader = s.Reader
		v := s.Renewer.judgeNow(snap)
		switch {
		case snap.Certificate != nil && r.person != "" && personOf(snap.Certificate) != r.person:
			c.Result = Result{Outcome: WrongCard, Text: textOthers}
		case snap.Hold.State == guard.HoldReseat, snap.Hold.State == guard.HoldLogin:
			c.Result = Result{Outcome: ReseatCard, Text: textReseat, Remedies: withReseat(nil)}
		case snap.Hold.State != guard.NotHeld:
			c.Result = Result{Outcome: Resumable, Text: "The renewal of this card is not finished.", Remedies: waysOn(cause, true)}
		case r.due(seat, snap):
			c.Result = Result{Outcome: Resumable, Text: "The renewal of this card did not begin. The card was not changed.", Remedies: waysOn(cause, false)}
		case v.Decision.Permits():
			c.Result = Result{Outcome: NotNeeded, Text: textNotNeeded}
		default:
			c.Result = Result{Outcome: Refusal, Text: v.Findings[0].Text, Remedies: v.Findings[0].Remedies}
		}
		c.Serial, c.Label = snap.Serial, snap.Label
		if snap.Certificate != nil {
			i := snap.Certificate.Info()
			c.Old = &i
		}
		r.cards = append(r.cards, c)
	}
}
