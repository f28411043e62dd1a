package signing

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/p11"
)

// CardChange is what happened to a card in a reader.
type CardChange string

// The changes.
const (
	CardIn    CardChange = "in"    // it was put in, or was in when the watch began
	CardOut   CardChange = "out"   // it was taken out, or the module shows a card service that is down so
	CardReset CardChange = "reset" // it was reset, or taken out and put back too quickly to be seen
)

// CardEvent tells that a card was put into a reader or taken out.
type CardEvent struct {
	Change        CardChange
	Reader        string // the reader's name
	Serial, Label string // of the card; empty: it could not be read
	Err           error  // why it could not be read, a *[CardError]; nil: it could
}

// WatchCards calls f for each card that is in a reader, and then for each that is
// put in, taken out or reset, until ctx ends, whose error it returns; for user
// interfaces that show the readers, beside Card.Changed, which tells of one card
// that is open. Module or Readers of c say where; Guard is not used. Another error is
// one of CardsConfig, or of the module, and ends the watch.
//
// f is called from the goroutine of WatchCards, one event at a time and of each
// reader in order. What it holds up is kept for it, up to some dozens of events; then
// the oldest are dropped.
func WatchCards(ctx context.Context, c CardsConfig, f func(CardEvent)) error {
	if err := c.check(); err != nil {
		return err
	}
	if f == nil {
		return errors.New("signing: WatchCards has no function to call; wanted one that takes a CardEvent")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.Module == "" {
		return c.watchReaders(ctx, f)
	}
	m, err := p11.Open(ctx, c.Module, p11.Options{Arguments: c.ModuleArguments, Bound: c.ModuleBound})
	if err != nil {
		return fmt.Errorf("signing: %w", err)
	}
	in := make(map[uint]CardEvent) // by slot: a slot that is empty does not say whose it was
	err = m.Watch(ctx, func(e p11.Event) {
		last, was := in[e.Slot.ID]
		delete(in, e.Slot.ID)
		if !e.Slot.Present {
			if was {
				last.Change, last.Err = CardOut, nil
				f(last)
			}
			return
		}
		if !ofAPerson(e.Slot) {
			return
		}
		now := CardEvent{Change: CardIn, Reader: e.Slot.Reader, Serial: e.Slot.Serial, Label: e.Slot.Label, Err: unfit(e.Slot)}
		if e.Reset {
			now.Change = CardReset
		}
		in[e.Slot.ID] = now
		f(now)
	})
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("signing: %w", err)
	}
	return err
}

// watchReaders watches simulated readers.
func (c CardsConfig) watchReaders(ctx context.Context, f func(CardEvent)) error {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	events, failed := make(chan CardEvent), make(chan error, len(c.Readers))
	for i, r := range c.Readers {
		t, _ := card.InReader(r)
		watching.Go(func() {
			failed <- watchReader(ctx, t, simulatedReader(i), func(e CardEvent) {
				select {
				case events <- e:
				case <-ctx.Done():
				}
			})
		})
	}
	for {
		select {
		case e := <-events:
			f(e)
		case err := <-failed:
			if ctx.Err() == nil {
				err = fmt.Errorf("signing: %w", err)
			}
			return err
		}
	}
}

// watchReader tells what happens in one reader, until ctx ends.
func watchReader(ctx context.Context, t card.Token, reader string, tell func(CardEvent)) error {
	e := CardEvent{Reader: reader}
	for p := t.Presence(); ; {
		switch {
		case p.Present:
			e = CardEvent{Change: CardIn, Reader: reader}
			if p.Reset {
				e.Change = CardReset
			}
			e.Serial, e.Label, e.Err = who(ctx, t)
			tell(e)
		case e.Change != "":
			e.Change, e.Err = CardOut, nil
			tell(e)
		}
		var err error
		if p, err = t.Wait(ctx, p); err != nil {
			return err
		}
	}
}

// who reads which card it is.
func who(ctx context.Context, t card.Token) (serial, label string, err error) {
	var info card.Info
	s, err := card.Read(ctx, t, func(s card.Session) (err error) {
		info, err = s.Info(ctx)
		return err
	})
	if err == nil {
		_ = s.Close()
	}
	return info.Serial, info.Label, err
}
