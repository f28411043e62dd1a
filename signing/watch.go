package signing

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
)

// holdEvery is how often the watcher looks whether another process set or ended a
// hold. Signing does not depend on it: it reads the hold for every signature.
const holdEvery = time.Second

// watcher keeps a card's snapshot up to date beside it: the certificate, read once
// for each insertion, and the hold. It is what sees a card taken out and put back.
type watcher struct {
	h   *card.Handle
	t   card.Token
	dir state.Dir

	mu       sync.Mutex // one look at a time
	presence card.Presence
	seen     guard.Snapshot // without the hold
	id       string         // of the card in the reader, or the last one
	cert     string         // SHA-256 of its signing certificate
	// out holds, by card, the hold that the card was under when it was seen to be
	// taken out.
	out map[string]string
}

// watch reads the card once and goes on watching until the card is closed.
func watch(h *card.Handle, dir state.Dir) {
	w := &watcher{h: h, t: card.TokenOf(h), dir: dir, out: make(map[string]string)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	w.look(ctx, w.t.Presence())
	card.OnRefresh(h, func() { w.refresh() })
	card.OnClose(h, func() error {
		cancel()
		<-done
		return nil
	})
	go func() {
		defer close(done)
		w.run(ctx)
	}()
}

func (w *watcher) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.mu.Lock()
		since := w.presence
		w.mu.Unlock()
		tick, cancel := context.WithTimeout(ctx, holdEvery)
		p, err := w.t.Wait(tick, since)
		cancel()
		switch {
		case err == nil:
			w.look(ctx, p)
		case ctx.Err() != nil:
			return
		default:
			w.refresh()
			if !errors.Is(err, context.DeadlineExceeded) { // the reader itself fails
				select {
				case <-ctx.Done():
				case <-time.After(holdEvery):
				}
			}
		}
	}
}

// look takes in a change of presence.
func (w *watcher) look(ctx context.Context, p card.Presence) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := w.presence
	w.presence = p
	if !p.Present || last.Present && p.Insertion != last.Insertion {
		w.removed()
	}
	if !p.Present {
		w.seen = guard.Snapshot{
			Err: guard.ErrNoCard, Serial: w.seen.Serial, Label: w.seen.Label,
			Insertion: p.Insertion, Simulated: w.t.Simulated(),
		}
		w.publish()
		return
	}
	w.read(ctx, p)
	if hold, err := w.dir.Hold(w.id); err == nil && hold != nil && hold.Phase == state.Reseat && w.out[w.id] == hold.ID {
		card.SetReseated(w.h, hold.ID)
	}
	delete(w.out, w.id)
	w.publish()
}

// removed notes under which hold the card was seen to be taken out.
func (w *watcher) removed() {
	card.SetReseated(w.h, "")
	if w.id == "" {
		return
	}
	if hold, err := w.dir.Hold(w.id); err == nil && hold != nil && hold.Phase == state.Reseat {
		w.out[w.id] = hold.ID
	}
}

// read reads the card's identity and signing certificate, without a passcode.
func (w *watcher) read(ctx context.Context, p card.Presence) {
	w.seen = guard.Snapshot{Insertion: p.Insertion, Simulated: w.t.Simulated()}
	w.id, w.cert = "", ""
	s, err := w.t.Open(ctx)
	if err != nil {
		w.seen.Err = readError(err)
		return
	}
	defer s.Close()
	info, pair, err := readCard(ctx, s)
	w.seen.Serial, w.seen.Label = info.Serial, info.Label
	if info.Serial != "" {
		w.id = info.ID()
	}
	if err != nil {
		w.seen.Err = readError(err)
		return
	}
	w.seen.Certificate, w.cert = pair.Certificate, pair.Certificate.Info().SHA256
}

// readCard reads who a card is and which certificate it signs with.
func readCard(ctx context.Context, s card.Session) (card.Info, card.Pair, error) {
	info, err := s.Info(ctx)
	if err != nil {
		return card.Info{}, card.Pair{}, err
	}
	objects, err := s.Objects(ctx)
	if err != nil {
		return info, card.Pair{}, err
	}
	pair, err := card.SigningPair(objects)
	return info, pair, err
}

// readError adds guard's sentinel to a card error that means it.
func readError(err error) error {
	if card.IsKind(err, card.Absent) && !errors.Is(err, guard.ErrNoCard) {
		return fmt.Errorf("%w: %w", guard.ErrNoCard, err)
	}
	return err
}

// refresh reads the hold again and publishes where it changed. A card that could
// not be read is read again too.
func (w *watcher) refresh() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.presence.Present && w.seen.Err != nil {
		w.read(context.Background(), w.presence)
	}
	now, err := w.h.Snapshot(context.Background())
	h := w.hold()
	if err == nil && now.Hold.State == h.State && now.Hold.Since.Equal(h.Since) && errors.Is(now.Err, w.seen.Err) && now.Certificate == w.seen.Certificate {
		return
	}
	w.publish()
}

func (w *watcher) publish() {
	s := w.seen
	s.Hold = w.hold()
	card.Publish(w.h, s)
}

func (w *watcher) hold() guard.Hold {
	if w.id == "" {
		return guard.Hold{}
	}
	return holdOf(w.h, w.dir, w.id, w.cert)
}

// holdOf reads the hold on a card from disk and says what it waits for: cert is
// the SHA-256 of the signing certificate that is on the card now.
func holdOf(h *card.Handle, dir state.Dir, id, cert string) guard.Hold {
	hold, err := dir.Hold(id)
	switch {
	case err != nil:
		return guard.Hold{State: guard.HoldUnread, Err: err}
	case hold == nil:
		return guard.Hold{}
	case hold.Phase == state.Renewing:
		return guard.Hold{State: guard.HoldRenewal, Since: hold.Since}
	case card.Reseated(h) != hold.ID:
		return guard.Hold{State: guard.HoldReseat, Since: hold.Since}
	case cert != hold.Expect:
		return guard.Hold{State: guard.HoldReseat, Since: hold.Since, Err: fmt.Errorf(
			"signing: the certificate read after the card was put back is %s; wanted %s", short(cert), short(hold.Expect))}
	}
	return guard.Hold{State: guard.HoldLogin, Since: hold.Since}
}

func short(sum string) string {
	if sum == "" {
		return "none"
	}
	return "SHA-256 " + sum[:min(16, len(sum))]
}
