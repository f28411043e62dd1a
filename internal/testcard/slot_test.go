package testcard

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
)

func TestASlotTellsEachChangeOfCardsInOrder(t *testing.T) {
	newCard := func(serial string) *Card {
		c, err := New(Config{Serial: serial})
		require.NoError(t, err)
		return c
	}
	a, b := newCard("a"), newCard("b")
	b.Remove()
	b.Insert() // its own count is ahead of a's
	s := NewSlot(a)
	token := s.Token()
	assert.True(t, token.Simulated())
	p := token.Presence()
	assert.Equal(t, card.Presence{Present: true, Insertion: 1}, p)
	sess, err := token.Open(t.Context())
	require.NoError(t, err)
	assert.Equal(t, uint64(1), sess.Insertion())

	s.Put(b)
	a.Insert()   // it lies beside the reader
	s.TakeOut(a) // not this one
	s.TakeOut(b)
	s.Take()
	s.Put(a)
	a.Remove()
	a.Insert()
	var seen []card.Presence
	for p != token.Presence() {
		p, err = token.Wait(t.Context(), p)
		require.NoError(t, err)
		seen = append(seen, p)
	}
	assert.Equal(t, []card.Presence{
		{Insertion: 1}, {Present: true, Insertion: 2}, // b
		{Insertion: 2}, {Present: true, Insertion: 3}, // a
		{Insertion: 3}, {Present: true, Insertion: 4}, // a, moved by itself
	}, seen)
	_, err = sess.Info(t.Context())
	assert.True(t, card.IsKind(err, card.Fault) || card.IsKind(err, card.Removed), "%v", err)
	sess, err = token.Open(t.Context())
	require.NoError(t, err)
	assert.Equal(t, uint64(4), sess.Insertion())
	info, err := sess.Info(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "a", info.Serial)

	p, err = token.Wait(t.Context(), card.Presence{Present: true, Insertion: 9})
	require.NoError(t, err)
	assert.Equal(t, uint64(4), p.Insertion, "an insertion that never was is answered with the present one")

	s.Take()
	_, err = token.Open(t.Context())
	assert.True(t, card.IsKind(err, card.Absent), "%v", err)
	ctx, cancel := context.WithCancel(t.Context())
	woken, empty := make(chan card.Presence), token.Presence()
	go func() {
		p, _ := token.Wait(ctx, empty)
		woken <- p
	}()
	s.Put(b)
	assert.True(t, (<-woken).Present)
	cancel()
	_, err = token.Wait(ctx, token.Presence())
	assert.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, uint64(0), NewSlot(nil).Token().Presence().Insertion)
}
