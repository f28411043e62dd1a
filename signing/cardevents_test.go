package signing

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

// watched runs WatchCards and returns its events, and how to end it.
func watched(t *testing.T, c CardsConfig) (next func() CardEvent, end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events, done := make(chan CardEvent), make(chan error, 1)
	go func() {
		done <- WatchCards(ctx, c, func(e CardEvent) {
			select {
			case events <- e:
			case <-ctx.Done():
			}
		})
	}()
	next = func() CardEvent {
		select {
		case e := <-events:
			return e
		case err := <-done:
			require.NoError(t, err)
			require.FailNow(t, "the watch ended")
		case <-time.After(time.Minute): // a card service may take its time
			require.FailNow(t, "no event came")
		}
		return CardEvent{}
	}
	return next, func() error { cancel(); return <-done }
}

func TestWatchCardsTellsWhatHappens(t *testing.T) {
	one, _ := currentCard(t, "0ne")
	two, _ := currentCard(t, "2")
	two.Remove()
	reader := newSlot(one)
	next, end := watched(t, CardsConfig{Readers: []*Reader{card.NewReader(reader, t.TempDir()), card.NewReader(two.Token(), t.TempDir())}})
	first := CardEvent{Reader: "simulated reader 1", Serial: "0ne", Label: "card 0ne"}
	second := CardEvent{Reader: "simulated reader 2", Serial: "2", Label: "card 2"}
	is := func(e CardEvent, c CardChange) CardEvent { e.Change = c; return e }

	assert.Equal(t, is(first, CardIn), next(), "it was in before")
	two.Insert()
	assert.Equal(t, is(second, CardIn), next())
	reader.remove()
	assert.Equal(t, is(first, CardOut), next(), "which it was")
	two.Remove()
	assert.Equal(t, is(second, CardOut), next())
	reader.insert(one)
	assert.Equal(t, is(first, CardIn), next())
	reader.reset()
	assert.Equal(t, is(first, CardReset), next())
	assert.ErrorIs(t, end(), context.Canceled)
	reader.mu.Lock()
	defer reader.mu.Unlock()
	assert.Zero(t, reader.waiting, "nobody waits any more")
}

func TestWatchCardsOfACardThatCannotBeRead(t *testing.T) {
	sim, _ := currentCard(t, "c0ffee")
	sim.Hook(func(testcard.Event) error { return card.Errorf(card.Fault, "open", "no answer") })
	next, end := watched(t, CardsConfig{Readers: []*Reader{card.NewReader(sim.Token(), t.TempDir())}})
	e := next()
	assert.Equal(t, CardIn, e.Change)
	assert.True(t, card.IsKind(e.Err, card.Fault))
	sim.Remove()
	assert.Equal(t, CardEvent{Change: CardOut, Reader: "simulated reader 1"}, next())
	assert.ErrorIs(t, end(), context.Canceled)
}

func TestWatchCardsEndsWhenAReaderFails(t *testing.T) {
	sim, _ := currentCard(t, "c0ffee")
	other, _ := currentCard(t, "decade")
	token := &broken{Token: sim.Token()}
	err := WatchCards(t.Context(), CardsConfig{Readers: []*Reader{card.NewReader(token, t.TempDir()), card.NewReader(other.Token(), t.TempDir())}}, func(CardEvent) {})
	assert.ErrorContains(t, err, "signing: the reader is gone")
}

// A callback may end the watch that it is called by, and what panics in it does so
// in the caller.
func TestWatchCardsCallsInTheCallersGoroutine(t *testing.T) {
	sim, _ := currentCard(t, "c0ffee")
	c := CardsConfig{Readers: []*Reader{card.NewReader(sim.Token(), t.TempDir())}}
	ctx, cancel := context.WithCancel(t.Context())
	assert.ErrorIs(t, WatchCards(ctx, c, func(CardEvent) { cancel() }), context.Canceled)
	cause := errors.New("out of paper")
	assert.PanicsWithValue(t, cause, func() { _ = WatchCards(t.Context(), c, func(CardEvent) { panic(cause) }) })
}
