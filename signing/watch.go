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
var holdEvery = time.Second // changed by tests

// watcher keeps a card's snapshot up to date beside it: the certificate, read once
// for each insertion, and the hold. It is what sees a card taken out and put back.
type watcher struct {
	h     *card.Handle
	t     card.Token
	dir   state.Dir
	every time.Duration

	mu       sync.Mutex // one look at a time
	presence card.Presence
	seen     guard.Snapshot // without the hold
	names    []string       // of the card in the reader, or the last one, by which its hold is found
	cert     string         // SHA-256 of its signing certificate

	// pause is how many ticks a card that could not be read is left alone for, and rest
	// how many it will be after the next failure.
	pause, rest int

	// under is the hold in phase reseat that the card was under while it was in, for
	// certain; out are those under which a card was taken out.
	under string
	out   map[string]bool
}

// watch reads the card once and goes on watching until the card is closed. When first
// ends before the card is read, its error is answered and nobody watches.
func watch(first context.Context, h *card.Handle, dir state.Dir) error {
	w := &watcher{h: h, t: card.TokenOf(h), dir: dir, every: holdEvery, out: make(map[string]bool)}
	ctx, cancel := context.WithCancel(context.Background())
	readLastRun(dir)
	stays := context.AfterFunc(first, cancel)
	w.take(ctx, w.t.Presence())
	if !stays() {
		cancel()
		return first.Err()
	}
	var running sync.WaitGroup
	running.Go(func() { w.follow(ctx) })
	running.Go(func() { w.tick(ctx) })
	card.OnRefresh(h, func(changed bool) { w.refresh(ctx, changed) })
	card.OnClose(h, func() error {
		cancel()
		running.Wait()
		return nil
	})
	return nil
}

// follow takes in each change of presence.
func (w *watcher) follow(ctx context.Context) {
	for ctx.Err() == nil {
		w.mu.Lock()
		since := w.presence
		w.mu.Unlock()
		p, err := w.t.Wait(ctx, since)
		if err == nil {
			w.mu.Lock()
			w.look(ctx, p)
			w.mu.Unlock()
			continue
		}
		if card.IsKind(err, card.Wedged) {
			w.mu.Lock()
			w.seen = guard.Snapshot{
				Err: err, Serial: w.seen.Serial, Label: w.seen.Label,
				Insertion: w.seen.Insertion, Simulated: w.seen.Simulated,
			}
			w.publish() // nobody will see the card again in this process: say so
			w.mu.Unlock()
		}
		select { // the reader itself fails: not too often
		case <-ctx.Done():
		case <-time.After(w.every):
		}
	}
}

// tick looks from time to time.
func (w *watcher) tick(ctx context.Context) {
	t := time.NewTicker(w.every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			w.glance(ctx)
			readLastRun(w.dir)
		}
	}
}

// restMost bounds the ticks between two readings of a card that cannot be read.
const restMost = 31

// glance looks for what other processes did to the hold. A card that could not be read
// and may be readable now is read again, less and less often: on some cards that takes
// seconds.
func (w *watcher) glance(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.look(ctx, w.t.Presence()) {
		return
	}
	if w.presence.Present && heals(w.seen.Err) {
		if w.pause > 0 {
			w.pause--
		} else {
			w.arrived(ctx)
			w.pause, w.rest = w.rest, min(2*w.rest+1, restMost)
		}
	}
	w.publish()
}

// refresh takes in what changed since the last look, presence first, for one who waits
// for it. A card that could not be read is read again at once: where it may be readable
// now, and where this process changed it, whatever kept it from signing.
func (w *watcher) refresh(ctx context.Context, changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.look(ctx, w.t.Presence()) {
		return
	}
	if w.presence.Present && (heals(w.seen.Err) || changed && w.seen.Err != nil) {
		w.arrived(ctx)
	}
	w.publish()
}

// heals tells whether a card that could not be read with this error may be readable
// another time without being taken out: not one that was read and cannot sign, nor one
// behind a module that does not answer.
func heals(err error) bool {
	var ce *card.Error
	switch {
	case err == nil:
		return false
	case !errors.As(err, &ce):
		return true
	}
	switch ce.Kind {
	case card.Other, card.Fault, card.Absent, card.Removed, card.BadObject, card.Busy:
		return true
	}
	return false
}

// look takes in a presence that is news. What Wait tells can be older than what
// refresh saw meanwhile.
func (w *watcher) look(ctx context.Context, p card.Presence) bool {
	if !w.presence.Before(p) {
		return false
	}
	w.take(ctx, p)
	return true
}

func (w *watcher) take(ctx context.Context, p card.Presence) {
	last := w.presence
	w.presence, w.pause, w.rest = p, 0, 0
	switch {
	case p.Reset: // nobody saw it out
		w.under = ""
		clear(w.out)
		card.SetReseated(w.h, "")
	case last.Present:
		w.removed()
	}
	if p.Present {
		w.arrived(ctx)
	} else {
		w.seen = guard.Snapshot{
			Err: guard.ErrNoCard, Serial: w.seen.Serial, Label: w.seen.Label,
			Insertion: p.Insertion, Simulated: w.t.Simulated(),
		}
	}
	w.publish()
}

// removed notes under which hold the card was taken out. This may come late, when
// the card is in again and a renewal has gone on with it: a hold counts only if the
// card was under it while it was in, or is still out with it.
func (w *watcher) removed() {
	card.SetReseated(w.h, "")
	if hold, err := w.dir.Hold(w.names...); err == nil && hold != nil && hold.Phase == state.Reseat {
		if hold.ID == w.under || !w.presence.Present && w.t.Presence() == w.presence {
			w.out[hold.ID] = true
		}
	}
	w.under = ""
}

// arrived reads the card that is in, and notes whether it was seen to be taken out
// under the hold that it is on.
func (w *watcher) arrived(ctx context.Context) {
	w.seen, w.cert = guard.Snapshot{Insertion: w.presence.Insertion, Simulated: w.t.Simulated()}, ""
	info, certificates, err := w.read(ctx)
	w.seen.Serial, w.seen.Label, w.names = info.Serial, info.Label, certificates.Names(info)
	var pair card.Pair
	if err == nil {
		pair, err = certificates.Signing()
	}
	if err != nil {
		w.seen.Err = readError(err)
	} else {
		w.seen.Certificate, w.cert = pair.Certificate, pair.Certificate.Info().SHA256
	}
	hold, err := w.dir.Hold(w.names...)
	if err != nil || hold == nil {
		return
	}
	if hold.Phase == state.Reseat && w.out[hold.ID] {
		card.SetReseated(w.h, hold.ID)
	}
	delete(w.out, hold.ID)
}

func (w *watcher) read(ctx context.Context) (info card.Info, certificates card.Certificates, err error) {
	s, err := card.Read(ctx, w.t, func(s card.Session) (err error) {
		if s.Insertion() != w.presence.Insertion { // a later one, which will be looked at in its turn
			return card.Errorf(card.Removed, "read", "while it was looked at")
		}
		info, certificates, err = readCard(ctx, s)
		return err
	})
	if err == nil {
		_ = s.Close()
	}
	return info, certificates, err
}

// readCard reads who a card is and the certificates on it, before anybody logged in.
func readCard(ctx context.Context, s card.Session) (card.Info, card.Certificates, error) {
	info, err := s.Info(ctx)
	if err != nil {
		return card.Info{}, nil, err
	}
	objects, err := s.Objects(ctx)
	if err != nil {
		return info, nil, err
	}
	return info, card.CertificatesOf(objects, false), nil
}

// readError adds guard's sentinel to a card error that means it.
func readError(err error) error {
	if card.IsKind(err, card.Absent) && !errors.Is(err, guard.ErrNoCard) {
		return fmt.Errorf("%w: %w", guard.ErrNoCard, err)
	}
	return err
}

// publish reads the hold and publishes what changed.
func (w *watcher) publish() {
	s := w.seen
	if len(w.names) > 0 {
		hold, err := w.dir.Hold(w.names...)
		switch {
		case err != nil || !w.presence.Present:
		case hold == nil || hold.Phase != state.Reseat:
			// What was seen before the card's renewal went on does not count.
			w.under = ""
			card.SetReseated(w.h, "")
		case w.t.Presence() == w.presence:
			// Asked after the hold was read: had the card been out, it would tell.
			w.under = hold.ID
		}
		s.Hold = heldBy(w.h, hold, err, w.cert)
	}
	if now, err := w.h.Snapshot(context.Background()); err != nil || !same(now, s) {
		card.Publish(w.h, s)
	}
}

func same(a, b guard.Snapshot) bool {
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	return a.Certificate == b.Certificate && text(a.Err) == text(b.Err) &&
		a.Serial == b.Serial && a.Label == b.Label && a.Insertion == b.Insertion &&
		a.Hold.State == b.Hold.State && a.Hold.Since.Equal(b.Hold.Since) && text(a.Hold.Err) == text(b.Hold.Err)
}

// holdOf reads the hold on a card that has these names from disk and says what it waits
// for: cert is the SHA-256 of the signing certificate that is on the card now.
func holdOf(h *card.Handle, dir state.Dir, names []string, cert string) guard.Hold {
	hold, err := dir.Hold(names...)
	return heldBy(h, hold, err, cert)
}

func heldBy(h *card.Handle, hold *state.Hold, err error, cert string) guard.Hold {
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
