//go:build cgo

package p11

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/rxguard/rxguard/internal/card"
)

// slot is what was seen of a reader.
type slot struct {
	Slot
	arrivals uint64 // of cards, and resets
	reset    bool   // the last of them was a reset
	doubted  bool   // a session found its card gone
	unseen   bool   // nobody saw what happened to its card since
}

// watcher is somebody who is told of events.
type watcher struct{ queue chan Event }

// Slots lists the readers that the module knows, those without a card too, as they
// are now.
func (m *Module) Slots(ctx context.Context) ([]Slot, error) {
	if err := m.look(ctx); err != nil {
		return nil, err
	}
	ids, err := do(ctx, m, "list readers", 1, func() ([]uint, error) { return m.list(false) })
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	list := make(map[uint]Slot)
	for id, s := range m.slots {
		if s.Present {
			list[id] = s.Slot
		}
	}
	m.mu.Unlock()
	for _, id := range ids {
		if _, there := list[id]; there {
			continue
		}
		empty, err := do(ctx, m, "list readers", 1, func() (Slot, error) { return m.reader(id) })
		if err != nil {
			if ctx.Err() != nil || card.IsKind(err, card.Wedged) {
				return nil, err
			}
			continue // gone since
		}
		list[id] = empty
	}
	return slices.SortedFunc(maps.Values(list), func(a, b Slot) int { return int(int64(a.ID) - int64(b.ID)) }), nil
}

// Watch calls f, from this goroutine, for each card that is in a reader now, and
// then for each that is put in or taken out, until ctx ends, whose error it returns.
func (m *Module) Watch(ctx context.Context, f func(Event)) error {
	if err := m.look(ctx); err != nil {
		return err
	}
	w := &watcher{queue: make(chan Event, 64)}
	m.mu.Lock()
	for _, id := range slices.Sorted(maps.Keys(m.slots)) {
		if s := m.slots[id]; s.Present {
			w.tell(Event{Slot: s.Slot})
		}
	}
	m.events[w] = struct{}{}
	m.follow()
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.events, w)
		m.unfollow()
		m.mu.Unlock()
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.wedged:
			return m.stuck("watch readers")
		case e := <-w.queue:
			f(e)
		}
	}
}

// tell drops the oldest event of one who does not listen.
func (w *watcher) tell(e Event) {
	for {
		select {
		case w.queue <- e:
			return
		default:
		}
		select {
		case <-w.queue:
		default:
		}
	}
}

// list is C_GetSlotList. A reader that comes between its two calls is no error.
func (m *Module) list(present bool) (ids []uint, err error) {
	for range 5 {
		ids, err = m.ctx.GetSlotList(present)
		if !is(err, pkcs11.CKR_BUFFER_TOO_SMALL) {
			break
		}
	}
	return ids, err
}

// reader reads what a slot is, without what is in it.
func (m *Module) reader(id uint) (Slot, error) {
	info, err := m.ctx.GetSlotInfo(id)
	return Slot{ID: id, Reader: clean(info.SlotDescription), Removable: info.Flags&pkcs11.CKF_REMOVABLE_DEVICE != 0}, err
}

// clean is a padded field of PKCS#11 as people read it.
func clean(s string) string { return strings.TrimRight(s, " \x00") }

// same tells whether two looks saw the same card, as far as it says who it is.
func (x Slot) same(y Slot) bool {
	return x.Err != nil || y.Err != nil ||
		x.Serial == y.Serial && x.Label == y.Label && x.Manufacturer == y.Manufacturer && x.Model == y.Model
}

// named takes in what a token says of itself.
func (x Slot) named(i pkcs11.TokenInfo) Slot {
	x.Manufacturer, x.Model, x.Serial, x.Label = clean(i.ManufacturerID), clean(i.Model), clean(i.SerialNumber), clean(i.Label)
	return x
}

// details reads who a card is that has just come.
func (m *Module) details(ctx context.Context, id uint) (Slot, error) {
	return do(ctx, m, "read", 1, func() (Slot, error) {
		s, err := m.reader(id)
		if err != nil {
			return s, err
		}
		s.Present = true
		info, err := m.ctx.GetTokenInfo(id)
		switch {
		case is(err, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_SLOT_ID_INVALID):
			return s, err
		case err != nil:
			s.Err = typed("read", err)
			return s, nil
		}
		s = s.named(info)
		s.Initialized = info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0
		s.LoginRequired = info.Flags&pkcs11.CKF_LOGIN_REQUIRED != 0
		return s, nil
	})
}

// glitch bounds the time between the two lists that have to lack a card.
const glitch = 50 * time.Millisecond

// look asks the slot list and takes in what changed. One look at a time. A card is out
// that two lists in a row lack: SoftHSM leaves a token out of one now and then.
func (m *Module) look(ctx context.Context) error {
	select {
	case m.looking <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-m.wedged:
		return m.stuck("look for cards")
	}
	defer func() { <-m.looking }()
	ids, err := m.occupied(ctx)
	if err == nil && m.misses(ids) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.wedged:
			return m.stuck("look for cards")
		case <-time.After(min(glitch, m.opts.Poll/4)):
		}
		ids, err = m.occupied(ctx)
	}
	if ctx.Err() != nil || card.IsKind(err, card.Wedged) {
		return err
	}
	blind := err != nil // the card service is down: nobody sees what happens to the cards
	m.mu.Lock()
	var fresh []uint
	for _, id := range ids {
		if s := m.slots[id]; s == nil || !s.Present || s.doubted || s.unseen || s.Err != nil {
			fresh = append(fresh, id)
		}
	}
	m.mu.Unlock()
	read := make(map[uint]Slot)
	for _, id := range fresh {
		s, derr := m.details(ctx, id)
		if ctx.Err() != nil || card.IsKind(derr, card.Wedged) {
			return derr
		}
		if derr != nil { // gone again
			ids = slices.DeleteFunc(ids, func(x uint) bool { return x == id })
			continue
		}
		read[id] = s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.take(ids, read, blind)
	return err
}

// occupied lists the slots with a card.
func (m *Module) occupied(ctx context.Context) ([]uint, error) {
	return do(ctx, m, "look for cards", 1, func() ([]uint, error) {
		ids, err := m.list(true)
		if is(err, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED) { // another component finalised it
			m.doubtAll()
			if err = m.initialise(m.ctx); err == nil {
				ids, err = m.list(true)
			}
		}
		return ids, err
	})
}

// misses tells whether a list lacks a card that was in.
func (m *Module) misses(ids []uint) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, s := range m.slots {
		if s.Present && !slices.Contains(ids, id) {
			return true
		}
	}
	return false
}

// take replaces what was seen by what is seen now. It needs m.mu.
func (m *Module) take(ids []uint, read map[uint]Slot, blind bool) {
	var events []Event
	for _, id := range slices.Sorted(maps.Keys(m.slots)) {
		s := m.slots[id]
		switch {
		case slices.Contains(ids, id):
		case blind:
			s.unseen = s.unseen || s.Present
		case s.Present:
			s.Slot = s.empty()
			s.doubted = false
			events = append(events, Event{Slot: s.Slot})
		}
	}
	for _, id := range ids {
		now, news := read[id]
		if !news {
			continue
		}
		s := m.slots[id]
		if s == nil {
			s = &slot{}
			m.slots[id] = s
		}
		switch {
		case !s.Present, s.doubted, s.unseen:
			s.arrivals++
			s.reset = s.Present && s.same(now) || !s.Present && s.unseen
			if s.Present && !s.reset { // another card is in, so this one is out
				events = append(events, Event{Slot: s.empty()})
			}
			events = append(events, Event{Slot: now, Reset: s.reset})
		case s.Err != nil && now.Err == nil: // only now it is known who it is
			events = append(events, Event{Slot: now})
		}
		s.Slot, s.doubted, s.unseen = now, false, false
	}
	for t := range m.tokens {
		t.take()
	}
	for o := range m.opened {
		if s := m.slots[o.slot]; s == nil || !s.Present || s.arrivals != o.arrivals {
			o.login.forget()
		}
	}
	for _, e := range events {
		for w := range m.events {
			w.tell(e)
		}
	}
}

// empty is the slot without its card.
func (s *slot) empty() Slot { return Slot{ID: s.ID, Reader: s.Reader, Removable: s.Removable} }

// doubt has the next look treat a card that is in as one that was reset: a session
// found it gone.
func (m *Module) doubt(id uint, arrivals uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.slots[id]; s != nil && s.Present && s.arrivals == arrivals {
		s.doubted = true
	}
}

func (m *Module) doubtAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.slots {
		s.unseen = s.unseen || s.Present
	}
}

// follow begins to poll, and unfollow ends that when nobody watches. They need m.mu.
func (m *Module) follow() {
	if m.polling != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.polling = cancel
	go func() {
		t := time.NewTimer(m.opts.Poll)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-m.wedged:
				return
			case <-t.C:
				began := time.Now()
				_ = m.look(ctx) // told by the next look of somebody who waits
				t.Reset(pause(m.opts.Poll, time.Since(began)))
			}
		}
	}()
}

// pause is the time to the next look. Some modules read a card that they do not know
// at each look, and have nobody else work meanwhile: they are left alone five times as
// long as the last look took, though a card that is pulled is noticed in a few seconds.
func pause(poll, took time.Duration) time.Duration {
	return max(poll, min(5*took, 3*time.Second))
}

func (m *Module) unfollow() {
	if m.polling != nil && len(m.tokens) == 0 && len(m.events) == 0 {
		m.polling()
		m.polling = nil
	}
}
