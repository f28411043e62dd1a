package signing

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
)

// tickEvery has watchers that are made from now on look at the hold so often.
func tickEvery(t *testing.T, d time.Duration) {
	was := holdEvery
	holdEvery = d
	t.Cleanup(func() { holdEvery = was })
}

// stepped is a watcher whose steps the test takes itself.
func stepped(t *testing.T, token card.Token, dir state.Dir) *watcher {
	t.Helper()
	h := card.NewHandle(token, card.Options{StateDir: dir.Path()})
	w := &watcher{h: h, t: token, dir: dir, out: make(map[string]string)}
	w.take(t.Context(), token.Presence())
	return w
}

func (w *watcher) shows(t *testing.T) guard.Snapshot {
	t.Helper()
	s, err := w.h.Snapshot(t.Context())
	require.NoError(t, err)
	return s
}

func TestTheWatcherPublishesWhatTheReaderShows(t *testing.T) {
	tickEvery(t, time.Hour) // events alone
	w := newWorld(t)
	s, err := w.card.Snapshot(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "c0ffee", s.Serial)
	assert.Equal(t, "card one", s.Label)
	assert.EqualValues(t, 1, s.Insertion)
	assert.True(t, s.Simulated)
	assert.NoError(t, s.Err)
	assert.Equal(t, signingKey().Public(), s.Certificate.X509().PublicKey)

	w.sim.Remove()
	s = until(t, w.card, func(s guard.Snapshot) bool { return s.Err != nil })
	assert.ErrorIs(t, s.Err, guard.ErrNoCard)
	assert.Nil(t, s.Certificate)
	assert.Equal(t, "c0ffee", s.Serial, "which card it was")

	w.sim.Insert()
	s = until(t, w.card, func(s guard.Snapshot) bool { return s.Certificate != nil })
	assert.EqualValues(t, 2, s.Insertion)
}

func TestAQuickReseatIsSeen(t *testing.T) {
	tickEvery(t, time.Hour)
	w := newWorld(t)
	w.seenHold(state.Reseat)
	w.reseat()
	s := until(t, w.card, holdIs(guard.HoldLogin))
	assert.EqualValues(t, 2, s.Insertion)
}

func TestTheWatcherFindsTheHoldsOfOtherProcesses(t *testing.T) {
	tickEvery(t, time.Millisecond)
	w := newWorld(t)
	w.hold(state.Renewing)
	until(t, w.card, holdIs(guard.HoldRenewal))
	w.hold(state.Reseat)
	until(t, w.card, holdIs(guard.HoldReseat))
	require.NoError(t, w.dir.ReleaseHold(w.id, theHoldID))
	until(t, w.card, holdIs(guard.NotHeld))
}

func TestChangedTellsChangesAndNothingElse(t *testing.T) {
	tickEvery(t, time.Hour)
	w := newWorld(t)
	changed := w.card.Changed()
	assert.Equal(t, changed, w.card.Changed(), "it is the same until something changes")
	for range 3 {
		card.Refresh(w.card)
	}
	select {
	case <-changed:
		t.Fatal("nothing changed")
	default:
	}
	w.seenHold(state.Renewing)
	<-changed
	assert.NotEqual(t, changed, w.card.Changed())

	w.sim.Hook(func(e testcard.Event) error {
		if e.Op == testcard.OpInfo {
			return card.Errorf(card.Fault, "info", "the same each time")
		}
		return nil
	})
	w.reseat()
	until(t, w.card, func(s guard.Snapshot) bool { return s.Insertion == 2 && card.IsKind(s.Err, card.Fault) })
	changed = w.card.Changed()
	card.Refresh(w.card)
	select {
	case <-changed:
		t.Fatal("a card that still cannot be read is no change")
	default:
	}
	require.NoError(t, w.card.Close())
	<-changed
	_, err := w.card.Snapshot(t.Context())
	assert.ErrorIs(t, err, card.ErrClosed)
}

func TestCloseEndsTheWatcher(t *testing.T) {
	sim := newCard(t, testcard.Config{Serial: "c0ffee"})
	reader := newSlot(sim)
	w := newWorld(t, func(u *setUp) { u.sim, u.token = sim, func(card.Token) card.Token { return reader } })
	for range 10 {
		require.NoError(t, w.open(reader).Close())
	}
	require.NoError(t, w.card.Close())
	reader.mu.Lock()
	defer reader.mu.Unlock()
	assert.Zero(t, reader.waiting)
	require.NoError(t, w.card.Close(), "closing twice is harmless")
}

// stuck is a token that does not answer Open until its context ends.
type stuck struct {
	card.Token
	hangs  atomic.Bool
	opened chan struct{}
}

func (s *stuck) Open(ctx context.Context) (card.Session, error) {
	if !s.hangs.Load() {
		return s.Token.Open(ctx)
	}
	select {
	case s.opened <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestACardThatHangsHoldsNobodyUp(t *testing.T) {
	tickEvery(t, time.Hour)
	var token *stuck
	w := newWorld(t, func(u *setUp) {
		u.token = func(t card.Token) card.Token {
			token = &stuck{Token: t, opened: make(chan struct{}, 1)}
			return token
		}
	})
	token.hangs.Store(true)
	w.reseat()
	<-token.opened
	s, err := w.card.Snapshot(t.Context())
	require.NoError(t, err, "a snapshot is at hand")
	assert.ErrorIs(t, s.Err, guard.ErrNoCard, "the last that was seen")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := Sign(ctx, w.signer, document(t, "one"))
		done <- err
	}()
	cancel()
	assert.ErrorIs(t, <-done, context.Canceled)
	require.NoError(t, w.card.Close())
}

// broken is a token whose reader fails.
type broken struct {
	card.Token
	waits atomic.Int64
}

func (b *broken) Wait(context.Context, card.Presence) (card.Presence, error) {
	b.waits.Add(1)
	return card.Presence{}, errors.New("the reader is gone")
}

func TestAReaderThatFailsIsNotAskedWithoutPause(t *testing.T) {
	tickEvery(t, time.Hour)
	var token *broken
	w := newWorld(t, func(u *setUp) {
		u.token = func(t card.Token) card.Token {
			token = &broken{Token: t}
			return token
		}
	})
	for token.waits.Load() == 0 {
		card.Refresh(w.card)
	}
	assert.EqualValues(t, 1, token.waits.Load())
	w.seenHold(state.Reseat)
	w.reseat()
	_, err := Sign(t.Context(), w.signer, document(t, "one"))
	require.NoError(t, err, "presence tells the re-seating all the same")
}

func TestNewsThatAreOldAreNoNews(t *testing.T) {
	sim := newCard(t, testcard.Config{Serial: "c0ffee"})
	w := stepped(t, sim.Token(), state.At(t.TempDir()))
	sim.Remove()
	sim.Insert()
	w.refresh(t.Context())
	require.EqualValues(t, 2, w.shows(t).Insertion)
	for _, p := range []card.Presence{{Present: true, Insertion: 1}, {Insertion: 1}, {Present: true, Insertion: 2}} {
		assert.False(t, w.look(t.Context(), p))
	}
	assert.EqualValues(t, 2, w.shows(t).Insertion)
	assert.NotNil(t, w.shows(t).Certificate)
}

// A watcher that comes late must not take a removal from the middle of a renewal
// for the one that was to follow it.
func TestARemovalBeforeTheEndOfTheRenewalDoesNotCount(t *testing.T) {
	dir := state.At(t.TempDir())
	sim := newCard(t, testcard.Config{Serial: "c0ffee"})
	w := stepped(t, sim.Token(), dir)
	h := state.Hold{ID: theHoldID, Card: idOf("c0ffee"), Phase: state.Renewing, Since: refusedAt}
	require.NoError(t, dir.SetHold(h))
	sim.Remove()
	sim.Insert()
	h.Phase, h.Expect = state.Reseat, w.shows(t).Certificate.Info().SHA256
	require.NoError(t, dir.SetHold(h))
	for _, p := range []card.Presence{{Insertion: 1}, {Present: true, Insertion: 2}} {
		require.True(t, w.look(t.Context(), p))
	}
	assert.Equal(t, guard.HoldReseat, w.shows(t).Hold.State)
	// What follows counts, and needs no luck in between.
	sim.Remove()
	sim.Insert()
	w.refresh(t.Context())
	assert.Equal(t, guard.HoldLogin, w.shows(t).Hold.State)
}

// Nor does a removal during the renewal count that came to its end while the card
// was out.
func TestARemovalDuringTheRenewalDoesNotCount(t *testing.T) {
	dir := state.At(t.TempDir())
	sim := newCard(t, testcard.Config{Serial: "c0ffee"})
	w := stepped(t, sim.Token(), dir)
	h := state.Hold{ID: theHoldID, Card: idOf("c0ffee"), Phase: state.Renewing, Since: refusedAt}
	require.NoError(t, dir.SetHold(h))
	h.Expect = w.shows(t).Certificate.Info().SHA256
	sim.Remove()
	w.refresh(t.Context())
	h.Phase = state.Reseat
	require.NoError(t, dir.SetHold(h))
	sim.Insert()
	w.refresh(t.Context())
	assert.Equal(t, guard.HoldReseat, w.shows(t).Hold.State)
}

// Nor does a re-seating count after which the renewal went on.
func TestAReseatingBeforeTheRenewalWentOnDoesNotCount(t *testing.T) {
	dir := state.At(t.TempDir())
	sim := newCard(t, testcard.Config{Serial: "c0ffee"})
	w := stepped(t, sim.Token(), dir)
	reseat := state.Hold{ID: theHoldID, Card: idOf("c0ffee"), Phase: state.Reseat, Since: refusedAt,
		Expect: w.shows(t).Certificate.Info().SHA256}
	renewing := reseat
	renewing.Phase = state.Renewing
	for _, step := range []struct {
		hold  state.Hold
		shows guard.HoldState
	}{{reseat, guard.HoldLogin}, {renewing, guard.HoldRenewal}, {reseat, guard.HoldReseat}} {
		require.NoError(t, dir.SetHold(step.hold))
		w.refresh(t.Context())
		if step.shows == guard.HoldLogin {
			sim.Remove()
			sim.Insert()
			w.refresh(t.Context())
		}
		assert.Equal(t, step.shows, w.shows(t).Hold.State)
	}
}

// A module that finds its card reset saw it neither out nor in.
func TestAResetIsNoReseating(t *testing.T) {
	dir := state.At(t.TempDir())
	sim := newCard(t, testcard.Config{Serial: "c0ffee"})
	reader := newSlot(sim)
	w := stepped(t, reader, dir)
	require.NoError(t, dir.SetHold(state.Hold{ID: theHoldID, Card: idOf("c0ffee"), Phase: state.Reseat, Since: refusedAt,
		Expect: w.shows(t).Certificate.Info().SHA256}))
	w.refresh(t.Context())
	reader.reset()
	w.refresh(t.Context())
	assert.EqualValues(t, 2, w.shows(t).Insertion, "it is read afresh")
	assert.NotNil(t, w.shows(t).Certificate)
	assert.Equal(t, guard.HoldReseat, w.shows(t).Hold.State)
	// Nor does one that comes directly after.
	reader.reset()
	w.refresh(t.Context())
	assert.Equal(t, guard.HoldReseat, w.shows(t).Hold.State)
	reader.remove()
	w.refresh(t.Context())
	reader.insert(sim)
	w.refresh(t.Context())
	assert.Equal(t, guard.HoldLogin, w.shows(t).Hold.State, "seen out and in")
	// What was seen before the reset was of another insertion.
	reader.reset()
	w.refresh(t.Context())
	assert.Equal(t, guard.HoldReseat, w.shows(t).Hold.State)
}

func TestAResetEndsASession(t *testing.T) {
	reader := newSlot(newCard(t, testcard.Config{Serial: "c0ffee"}))
	w := newWorld(t, func(u *setUp) { u.sim, u.token = reader.in, func(card.Token) card.Token { return reader } })
	_, err := Sign(t.Context(), w.signer, document(t, "one"))
	require.NoError(t, err)
	reader.reset()
	_, err = Sign(t.Context(), w.signer, document(t, "two"))
	require.NoError(t, err)
	assert.Len(t, w.person.requests(), 2, "the passcode is asked again")
}

func TestACardThatIsOutDoesNotWaitForItsPasscode(t *testing.T) {
	w := newWorld(t)
	w.seenHold(state.Reseat)
	w.reseat()
	until(t, w.card, holdIs(guard.HoldLogin))
	w.sim.Remove()
	s := until(t, w.card, func(s guard.Snapshot) bool { return s.Err != nil })
	assert.Equal(t, guard.HoldReseat, s.Hold.State)
	w.sim.Insert()
	until(t, w.card, holdIs(guard.HoldLogin))
}

// A hold of another process that the watcher had not seen yet counts when the card
// is found out.
func TestARemovalThatIsSeenWhileItLastsCounts(t *testing.T) {
	dir := state.At(t.TempDir())
	sim := newCard(t, testcard.Config{Serial: "c0ffee"})
	w := stepped(t, sim.Token(), dir)
	require.NoError(t, dir.SetHold(state.Hold{ID: theHoldID, Card: idOf("c0ffee"), Phase: state.Reseat, Since: refusedAt,
		Expect: w.shows(t).Certificate.Info().SHA256}))
	sim.Remove()
	w.refresh(t.Context())
	sim.Insert()
	w.refresh(t.Context())
	assert.Equal(t, guard.HoldLogin, w.shows(t).Hold.State)
}

// A card that could not be read at once, after it was put back, was re-seated all
// the same.
func TestAReseatSurvivesAReadThatFailed(t *testing.T) {
	dir := state.At(t.TempDir())
	sim := newCard(t, testcard.Config{Serial: "c0ffee"})
	w := stepped(t, sim.Token(), dir)
	require.NoError(t, dir.SetHold(state.Hold{ID: theHoldID, Card: idOf("c0ffee"), Phase: state.Reseat, Since: refusedAt,
		Expect: w.shows(t).Certificate.Info().SHA256}))
	w.refresh(t.Context())
	for _, op := range []testcard.Op{testcard.OpOpen, testcard.OpInfo, testcard.OpObjects} {
		sim.Remove()
		sim.Insert()
		sim.Hook(func(e testcard.Event) error {
			if e.Op == op {
				return card.Errorf(card.Fault, string(op), "dirty contacts")
			}
			return nil
		})
		w.refresh(t.Context())
		assert.True(t, card.IsKind(w.shows(t).Err, card.Fault))
		assert.NotEqual(t, guard.HoldLogin, w.shows(t).Hold.State)
		sim.Hook(nil)
		w.refresh(t.Context())
		assert.Equal(t, guard.HoldLogin, w.shows(t).Hold.State, "after %s failed", op)
	}
}

func TestACardThatIsChangedWhileItIsReadIsNotTakenForTheOther(t *testing.T) {
	first, second := newCard(t, testcard.Config{Serial: "c0ffee"}), newCard(t, testcard.Config{Serial: "decade"})
	second.Remove()
	reader := newSlot(first)
	w := stepped(t, reader, state.At(t.TempDir()))
	reader.remove()
	reader.insert(first)
	p := reader.Presence()
	reader.remove()
	reader.insert(second)
	require.True(t, w.look(t.Context(), p))
	assert.True(t, card.IsKind(w.shows(t).Err, card.Removed))
	assert.Empty(t, w.shows(t).Serial)
	w.refresh(t.Context())
	assert.Equal(t, "decade", w.shows(t).Serial)
}

// stuckToken is a card whose module stops answering.
type stuckToken struct {
	card.Token
	stuck chan struct{} // closed when it does
}

func (s stuckToken) Wait(ctx context.Context, since card.Presence) (card.Presence, error) {
	select {
	case <-s.stuck:
		return since, card.Errorf(card.Wedged, "watch", "the test's module")
	case <-ctx.Done():
		return since, ctx.Err()
	}
}

func (s stuckToken) Open(ctx context.Context) (card.Session, error) {
	select {
	case <-s.stuck:
		return nil, card.Errorf(card.Wedged, "open", "the test's module")
	default:
		return s.Token.Open(ctx)
	}
}

// Who waits for a card behind a module that stopped answering is told, or would wait
// for ever: this process will not see the card again.
func TestAModuleThatStopsAnsweringIsTold(t *testing.T) {
	sim := newCard(t, testcard.Config{Serial: "c0ffee"})
	token := stuckToken{sim.Token(), make(chan struct{})}
	c, err := Open(t.Context(), Config{
		Reader: card.NewReader(token, t.TempDir()),
		PIN:    func(context.Context, PINRequest) ([]byte, error) { return nil, errors.New("not asked for") },
	})
	require.NoError(t, err)
	defer c.Close()
	close(token.stuck)
	until(t, c, func(s guard.Snapshot) bool { return card.IsKind(s.Err, card.Wedged) })
	s, err := c.Snapshot(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "c0ffee", s.Serial)
	assert.Nil(t, s.Certificate)
	v, err := guard.Check(t.Context(), c)
	require.Error(t, err)
	assert.Equal(t, guard.DecisionUndecided, v.Decision)
}
