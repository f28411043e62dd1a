package p11

import (
	"context"
	"crypto"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
)

// gone checks the error of a session whose card is out, or was.
func gone(t testing.TB, w *world, err error, present bool) {
	t.Helper()
	var e *card.Error
	require.ErrorAs(t, err, &e)
	if present {
		require.Equal(t, card.Removed, e.Kind, "%v", err)
	} else {
		require.Contains(t, []card.Kind{card.Absent, card.Removed}, e.Kind, "%v", err)
	}
	assert.Contains(t, e.Advice(), "your", "the person is told to put the card in")
}

var readerCases = []clause{
	{"a card that cannot be taken out is in for good", func(t *testing.T, w *world) {
		if !w.cannot.move {
			return
		}
		d := w.card(t, 0)
		p := d.Presence()
		assert.Equal(t, card.Presence{Present: true, Insertion: 1}, p)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // some looks
		defer cancel()
		now, err := d.Wait(ctx, p)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, p, now)
		assert.Equal(t, p.Insertion, d.open(t).Insertion())
	}},
	{"a session ends when its card goes, and a new one finds the same card", func(t *testing.T, w *world) {
		if w.cannot.move {
			return
		}
		d := w.card(t, 0)
		s := d.login(t)
		info, err := s.Info(t.Context())
		require.NoError(t, err)
		assert.Equal(t, d.Presence().Insertion, s.Insertion())
		made := d.c.Signatures([]byte{1})

		d.c.Remove()
		out := d.reaches(t, false)
		assert.Equal(t, s.Insertion(), out.Insertion)
		for _, c := range calls {
			err := c.f(t.Context(), d, s)
			gone(t, w, err, false)
		}
		_, err = d.Open(t.Context())
		e := refused(t, w, err, card.Absent, false)
		assert.Contains(t, e.Advice(), "insert your smartcard")

		d.c.Insert()
		in := d.reaches(t, true)
		assert.Greater(t, in.Insertion, out.Insertion)
		assert.False(t, in.Reset)
		for _, c := range calls {
			err := c.f(t.Context(), d, s)
			gone(t, w, err, true)
		}
		assert.Equal(t, made, d.c.Signatures([]byte{1}))
		require.NoError(t, s.Close())

		again := d.login(t)
		assert.Equal(t, in.Insertion, again.Insertion())
		now, err := again.Info(t.Context())
		require.NoError(t, err)
		assert.Equal(t, info.ID(), now.ID())
		d.pairs(t, again)
		d.works(t)
	}},
	{"a card that was out for a moment is not the session's any more", func(t *testing.T, w *world) {
		if w.cannot.move || w.cannot.moment {
			return
		}
		d := w.card(t, 0)
		s := d.login(t)
		authentication, _ := d.pairs(t, s)
		d.c.Remove()
		d.c.Insert()
		_, err := s.Sign(t.Context(), authentication.ID, digest(crypto.SHA256, "a"), crypto.SHA256)
		var e *card.Error
		require.ErrorAs(t, err, &e)
		assert.Contains(t, []card.Kind{card.Absent, card.Removed, card.Fault}, e.Kind, "%v", err)
		assert.Zero(t, d.c.Signatures(authentication.ID))
		if e.Kind == card.Fault {
			assert.Contains(t, e.Advice(), "take the card out and put it back")
		}
		// As it is told: ykcs11 does not find the card again before.
		d.c.Remove()
		d.reaches(t, false)
		d.c.Insert()
		d.reaches(t, true)
		d.works(t)
	}},
	{"another card in the same reader is another card", func(t *testing.T, w *world) {
		if w.cannot.move || w.cannot.swap {
			return
		}
		d := w.card(t, 0)
		s := d.login(t)
		info, err := s.Info(t.Context())
		require.NoError(t, err)
		bySerial := w.token(t, Select{Token: info.Serial})
		require.True(t, bySerial.Presence().Present)
		serial := *d
		serial.Token = bySerial

		w.unplug(t, 0, d)
		d.reaches(t, false)
		other := newCard(t, 2)
		w.plug(t, 0, other)
		d.reaches(t, true)
		other.Token = d.Token // of the reader
		gone(t, w, s.Login(t.Context(), d.pin), true)
		now, err := other.open(t).Info(t.Context())
		require.NoError(t, err)
		assert.NotEqual(t, info.Serial, now.Serial)
		assert.NotEqual(t, info.ID(), now.ID())
		other.works(t)

		assert.False(t, bySerial.Presence().Present, "the card with this serial number is out")
		_, err = bySerial.Open(t.Context())
		refused(t, w, err, card.Absent, false)

		// It comes back, into the other reader.
		w.plug(t, 1, d)
		serial.reaches(t, true)
		serial.works(t)
		other.works(t)
	}},
	{"every removal and insertion is told in order", func(t *testing.T, w *world) {
		if w.cannot.move {
			return
		}
		d := w.card(t, 0)
		first := d.Presence()
		const times = 3
		for range times {
			d.c.Remove()
			d.reaches(t, false)
			d.c.Insert()
			d.reaches(t, true)
		}
		// Whoever waits from the beginning learns of each.
		p := first
		for i := range times {
			for _, want := range []card.Presence{{Insertion: first.Insertion + uint64(i)}, {Present: true, Insertion: first.Insertion + uint64(i) + 1}} {
				next, err := d.Wait(t.Context(), p)
				require.NoError(t, err)
				require.Equal(t, want, next)
				assert.True(t, p.Before(next))
				p = next
			}
		}
		assert.Equal(t, p, d.Presence())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := d.Wait(ctx, p)
		assert.ErrorIs(t, err, context.Canceled)
	}},
	{"insertions and removals are events of their readers", func(t *testing.T, w *world) {
		if w.service == nil {
			return
		}
		eventually(t, func() bool {
			slots, err := w.module.Slots(t.Context())
			return err == nil && !slices.ContainsFunc(slots, func(s Slot) bool { return s.Present })
		}, "the cards of the last case are gone")
		ctx, cancel := context.WithCancel(t.Context())
		events, done := make(chan Event, 64), make(chan error, 1)
		go func() { done <- w.module.Watch(ctx, func(e Event) { events <- e }) }()
		next := func(reader int, present bool) {
			t.Helper()
			select {
			case e := <-events:
				assert.Equal(t, w.name(reader), e.Slot.Reader)
				assert.Equal(t, present, e.Slot.Present)
				assert.False(t, e.Reset)
				assert.Equal(t, present, e.Slot.Serial != "")
			case <-time.After(patience):
				t.Fatalf("no event of reader %d", reader)
			}
		}
		a := w.card(t, 0)
		next(0, true)
		b := w.card(t, 1)
		next(1, true)
		a.c.Remove()
		next(0, false)
		b.c.Remove()
		next(1, false)
		b.c.Insert()
		next(1, true)
		a.c.Insert()
		next(0, true)
		cancel()
		assert.ErrorIs(t, <-done, context.Canceled)
		assert.Empty(t, events)
	}},
	{"work goes on after the card service was restarted", func(t *testing.T, w *world) {
		if w.service == nil {
			return
		}
		d := w.card(t, 0)
		s := d.login(t)
		authentication, _ := d.pairs(t, s)
		signs(t, s, authentication.ID, d.authentication.PublicKey, crypto.SHA256, "before")
		before := d.Presence()
		w.service.Stop()
		_, err := s.Sign(t.Context(), authentication.ID, digest(crypto.SHA256, "without"), crypto.SHA256)
		var e *card.Error
		require.ErrorAs(t, err, &e)
		// ykcs11 may have connected anew by itself, without the login.
		assert.Contains(t, []card.Kind{card.Absent, card.Removed, card.Fault, card.NotLoggedIn}, e.Kind, "%v", err)
		// The module has noticed: it says so, or shows no card.
		eventually(t, func() bool {
			slots, err := w.module.Slots(t.Context())
			return err != nil || !slices.ContainsFunc(slots, func(s Slot) bool { return s.Present })
		}, "the module notices")
		require.NoError(t, w.service.Start())
		d.comesBack(t)
		for _, c := range calls {
			gone(t, w, c.f(t.Context(), d, s), true)
		}
		require.NoError(t, s.Close())
		d.works(t)

		// Where the module tells a service that is down from a card that is out, the card
		// was not seen out, and no hold of it ends.
		last := d.Presence()
		require.True(t, last.Present)
		assert.Greater(t, last.Insertion, before.Insertion)
		assert.Equal(t, !w.cannot.tellService, last.Reset)

		// Of a quick restart the module may notice less.
		require.NoError(t, w.service.Restart())
		d.comesBack(t)
		d.works(t)
	}},
}

// comesBack waits until the card can be logged in to, without anything being started
// anew.
func (d *deck) comesBack(t testing.TB) {
	t.Helper()
	var err error
	eventually(t, func() bool {
		var s card.Session
		if s, err = d.Open(t.Context()); err != nil {
			return false
		}
		defer s.Close()
		err = s.Login(t.Context(), d.pin)
		return err == nil
	}, "the card works again: %v", &err)
}
