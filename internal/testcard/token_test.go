package testcard

import (
	"context"
	"math"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
)

func TestWaitReportsEachChangeInOrder(t *testing.T) {
	c := newCard(t, Config{})
	tok := c.Token()
	p := tok.Presence()
	assert.Equal(t, card.Presence{Present: true, Insertion: 1}, p)

	c.Insert() // in already
	c.Remove()
	c.Remove() // out already
	c.Insert()
	c.Remove()
	c.Insert()
	for _, want := range []card.Presence{{Present: false, Insertion: 1}, {Present: true, Insertion: 2}, {Present: false, Insertion: 2}, {Present: true, Insertion: 3}} {
		var err error
		p, err = tok.Wait(t.Context(), p)
		require.NoError(t, err)
		assert.Equal(t, want, p)
	}
	assert.Equal(t, tok.Presence(), p)
}

func TestWaitAnswersAStrangePresenceWithTheRealOne(t *testing.T) {
	c := newCard(t, Config{})
	c.Remove()
	now := card.Presence{Present: false, Insertion: 1}
	for _, since := range []card.Presence{{}, {Present: true, Insertion: 7}, {Present: false, Insertion: math.MaxUint64}, {Present: true, Insertion: math.MaxUint64}} {
		got, err := c.Token().Wait(t.Context(), since)
		require.NoError(t, err)
		assert.Equal(t, now, got, "%v", since)
	}
}

func TestWaitWakesForAChangeAndForItsContext(t *testing.T) {
	c := newCard(t, Config{})
	tok := c.Token()
	type answer struct {
		p   card.Presence
		err error
	}
	changed, ended := make(chan answer), make(chan answer)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		p, err := tok.Wait(context.Background(), card.Presence{Present: true, Insertion: 1})
		changed <- answer{p, err}
	}()
	c.Remove()
	assert.Equal(t, answer{p: card.Presence{Present: false, Insertion: 1}}, <-changed)

	go func() {
		p, err := tok.Wait(ctx, tok.Presence())
		ended <- answer{p, err}
	}()
	cancel()
	assert.ErrorIs(t, (<-ended).err, context.Canceled)
}

func TestSessionEndsWithTheInsertion(t *testing.T) {
	c := withKey(t, Config{})
	s := login(t, c)
	assert.Equal(t, uint64(1), s.Insertion())
	c.Remove()

	_, err := c.Token().Open(t.Context())
	assert.Equal(t, card.Absent, kindOf(t, err))
	dead := func() {
		t.Helper()
		for op, call := range calls() {
			assert.Equal(t, card.Removed, kindOf(t, call(s)), "%s", op)
		}
		assert.NoError(t, s.Close())
	}
	dead()
	c.Insert()
	events := len(c.Trace())
	dead()
	assert.Len(t, c.Trace(), events, "nothing reached the card")
	assert.Zero(t, c.Signatures(SigningID()))

	fresh := open(t, c)
	assert.Equal(t, uint64(2), fresh.Insertion())
	assert.Equal(t, card.NotLoggedIn, kindOf(t, trySign(fresh)), "the login ended with the insertion")
}

func TestClosedSession(t *testing.T) {
	c := withKey(t, Config{})
	s := login(t, c)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	for op, call := range calls() {
		assert.Equal(t, card.Removed, kindOf(t, call(s)), "%s", op)
	}
}

func TestContextEndsAnOperationThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := withKey(t, Config{})
		s := login(t, c)
		reached, release := make(chan bool), make(chan bool)
		c.Hook(On(OpSign, false, 1, func() error {
			close(reached)
			<-release
			return nil
		}))
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-reached; cancel() }()
		sig, err := s.Sign(ctx, SigningID(), digest[:], crypto256)
		assert.ErrorIs(t, err, context.Canceled)
		assert.Nil(t, sig)
		close(release)
		synctest.Wait()
		assert.Equal(t, 1, c.Signatures(SigningID()), "the card went on; what it signed was dropped")

		_, err = s.Sign(ctx, SigningID(), digest[:], crypto256)
		assert.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, 1, c.Signatures(SigningID()), "an ended context reaches nothing")
	})
}

func TestLoginNeedsNoPasscodeOfTheCallersOnceItReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCard(t, Config{})
		s := open(t, c)
		reached, release := make(chan bool), make(chan bool)
		c.Hook(On(OpLogin, false, 1, func() error {
			close(reached)
			<-release
			return nil
		}))
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-reached; cancel() }()
		pin := []byte(DefaultPIN)
		require.ErrorIs(t, s.Login(ctx, pin), context.Canceled)
		clear(pin)
		close(release)
		synctest.Wait()
		assert.Equal(t, 3, c.TriesLeft(), "the card compared what was presented")
	})
}

func TestLoginLeavesTheCallersPasscodeToTheCaller(t *testing.T) {
	pin := []byte(DefaultPIN)
	require.NoError(t, open(t, newCard(t, Config{})).Login(t.Context(), pin))
	assert.Equal(t, DefaultPIN, string(pin))
}

func TestHookThatPanicsOrEndsItsGoroutineDoesSoInTheCaller(t *testing.T) {
	c := newCard(t, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for name, ctx := range map[string]context.Context{"without an end": context.Background(), "with one": ctx} {
		t.Run(name, func(t *testing.T) {
			c.Hook(func(Event) error { panic("crash") })
			assert.PanicsWithValue(t, "crash", func() { c.Token().Open(ctx) })
			c.Hook(func(Event) error { runtime.Goexit(); return nil })
			ended := make(chan bool)
			go func() {
				returned := false
				defer func() { ended <- !returned }()
				c.Token().Open(ctx)
				returned = true
			}()
			assert.True(t, <-ended)
		})
	}
}
