package renewal

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/signing"
)

func TestNewSaysWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	whole := Config{Card: w.card, Guard: w.g, Recorder: w.rec, Enroller: w.ca}
	for _, x := range []struct {
		field  string
		remove func(*Config)
	}{
		{"Config.Card", func(c *Config) { c.Card = nil }},
		{"Config.Card", func(c *Config) { c.Card = &signing.Card{} }},
		{"Config.Guard", func(c *Config) { c.Guard = nil }},
		{"Config.Recorder", func(c *Config) { c.Recorder = nil }},
		{"Config.Enroller", func(c *Config) { c.Enroller = nil }},
	} {
		c := whole
		x.remove(&c)
		_, err := New(c)
		require.ErrorContains(t, err, x.field)
	}
	_, err := New(whole)
	require.NoError(t, err)
}

// realToken stands for a card that is none of the simulation's.
type realToken struct{ card.Token }

func (realToken) Simulated() bool { return false }

func TestARealCardTakesNoOtherClock(t *testing.T) {
	w := newWorld(t)
	h := card.NewHandle(realToken{w.sim.Token()}, card.Options{})
	_, err := New(Config{Card: h, Guard: w.g, Recorder: w.rec, Enroller: w.ca, AsOf: w.clock})
	require.ErrorContains(t, err, "simulated cards")

	r, err := New(Config{Card: h, Guard: w.g, Recorder: w.rec, Enroller: w.ca})
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now(), r.now(), time.Hour)
}

// A folder of its own has a card from a Reader alone, which only this module makes.
func TestARealCardIsBoundByTheHoldsOfTheMachine(t *testing.T) {
	machine, err := state.Machine()
	require.NoError(t, err)
	w := newWorld(t)
	for dir, want := range map[string]string{"": machine.Path(), w.dir.Path(): w.dir.Path()} {
		h := card.NewHandle(realToken{w.sim.Token()}, card.Options{StateDir: dir})
		r, err := New(Config{Card: h, Guard: w.g, Recorder: w.rec, Enroller: w.ca})
		require.NoError(t, err)
		assert.Equal(t, want, r.dir.Path())
	}
}

func TestSessionsAreClosed(t *testing.T) {
	w := newWorld(t)
	count := &countingToken{Token: w.sim.Token()}
	require.NoError(t, w.card.Close())
	w.card = openToken(t, w, count)
	r := w.renewer()
	_, err := r.Plan(t.Context())
	require.NoError(t, err)
	_, err = r.Renew(t.Context(), nil)
	require.NoError(t, err)
	w.reseat()
	_, err = r.Finish(t.Context(), w.signer())
	require.NoError(t, err)
	_, err = r.Abandon(t.Context())
	require.Error(t, err)
	require.NoError(t, w.card.Close())
	assert.Positive(t, count.opened.Load())
	assert.Equal(t, count.opened.Load(), count.closed.Load())
}

type countingToken struct {
	card.Token
	opened, closed atomic.Int64 // the watcher opens sessions too
}

func (c *countingToken) Open(ctx context.Context) (card.Session, error) {
	s, err := c.Token.Open(ctx)
	if err != nil {
		return nil, err
	}
	c.opened.Add(1)
	return &countingSession{s, c, false}, nil
}

type countingSession struct {
	card.Session
	c    *countingToken
	done bool
}

func (s *countingSession) Close() error {
	if !s.done {
		s.done = true
		s.c.closed.Add(1)
	}
	return s.Session.Close()
}
