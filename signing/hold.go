package signing

import (
	"context"
	"fmt"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
)

// EndHold asks for the passcode and ends the hold on a card that this process saw
// taken out and put back after its renewal, with the certificate on it that the
// renewal left. A card that is not on hold needs nothing, and nothing is asked.
// The login serves the signatures that follow, unless the key wants one for each.
// Which PKCS#11 module the renewal was made through does not matter.
//
// Errors: a *guard.Refused while the conditions are not met (the card was not seen
// re-seated, its renewal is not finished, another certificate is on it), a
// *[CardError] from the card or its passcode. A wrong passcode leaves the hold.
func (s *Signer) EndHold(ctx context.Context) error {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	return closed(ctx, s.endHoldInTurn(ctx))
}

func (s *Signer) endHoldInTurn(ctx context.Context) error {
	d, err := s.desk(ctx)
	if err != nil {
		return err
	}
	switch snap := s.snapshot(d); snap.Hold.State {
	case guard.NotHeld:
		return nil
	case guard.HoldLogin:
		if err := s.endHold(ctx, d); err != nil {
			err = card.Pulled(card.TokenOf(s.card), d.s.Insertion(), err)
			s.drop()
			return err
		}
		d.loggedIn, d.signed = !d.pair.AlwaysAuthenticate, 0
		if !d.loggedIn && d.s.Logout(ctx) != nil {
			s.drop() // nothing is kept that no signature will use
		}
		return nil
	default:
		v, _ := s.judge(snap, s.now())
		v = onlyHold(v)
		return s.record(ctx, EntryOf(EventRefused, v), v, v.Err())
	}
}

// onlyHold is the verdict on a card, of which the hold alone is asked.
func onlyHold(v guard.Verdict) guard.Verdict {
	var fs []guard.Finding
	for _, f := range v.Findings {
		if f.Check == guard.CheckHold {
			fs = append(fs, f)
		}
	}
	v.Findings = fs
	if len(fs) > 0 {
		v.Decision = fs[0].Effect
	}
	return v
}

// endHold asks for the passcode in d's session, which opened after the card was
// put back, and ends the hold under the exclusive locks of the card's names.
func (s *Signer) endHold(ctx context.Context, d *desk) error {
	id := card.Reseated(s.card)
	// Log out first: a login that another session of this application still had
	// would let any passcode pass for entered.
	if err := d.s.Logout(ctx); err != nil {
		return err
	}
	if err := s.enter(ctx, d, card.ToReseat); err != nil {
		return err
	}
	unlock, err := s.dir.LockAll(ctx, d.names...)
	if err != nil {
		return err
	}
	defer unlock()
	// The prompt may have taken minutes: the same insertion must still be there.
	if _, err := d.s.Info(ctx); err != nil {
		return err
	}
	if card.Reseated(s.card) != id {
		return card.Errorf(card.Removed, "end the hold", "the card was taken out while its passcode was asked")
	}
	hold, err := s.dir.Hold(d.names...)
	if err != nil || hold == nil {
		return err
	}
	if hold.ID != id || hold.Phase != state.Reseat || hold.Expect != d.pair.Certificate.Info().SHA256 {
		return card.Errorf(card.Busy, "end the hold", "another renewal of the card began")
	}
	// The end of a hold does not depend on the clock: what is wrong with it is recorded,
	// and stops what is signed next.
	v, unknown := s.judge(s.unheld(d), s.now())
	if unknown == nil {
		if err := s.keep(ctx, v); err != nil {
			return err
		}
	}
	e := EntryOf(EventHoldEnded, v)
	e.Renewal = hold.ID
	if hold.Card != d.names[0] {
		e.Cause = "held_by_certificate" // under another name of the card, as another module words it
	}
	if err := s.rec.Record(ctx, e); err != nil {
		return fmt.Errorf("signing: the end of the hold could not be recorded, so the card stays on hold: %w", err)
	}
	if err := s.dir.ReleaseHold(hold.ID, d.names...); err != nil {
		return err
	}
	card.SetReseated(s.card, "")
	_ = refreshed(ctx, s.card) // the hold has ended, whoever waits
	return nil
}
