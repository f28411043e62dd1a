package signing

import (
	"context"
	"crypto"
	"errors"
	"slices"
	"sync"
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
	w := &watcher{h: h, t: token, dir: dir, out: make(map[string]bool)}
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
	require.NoError(t, w.dir.ReleaseHold(theHoldID, w.id))
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
	w.refresh(t.Context(), false)
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
	w.refresh(t.Context(), false)
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
	w.refresh(t.Context(), false)
	h.Phase = state.Reseat
	require.NoError(t, dir.SetHold(h))
	sim.Insert()
	w.refresh(t.Context(), false)
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
		w.refresh(t.Context(), false)
		if step.shows == guard.HoldLogin {
			sim.Remove()
			sim.Insert()
			w.refresh(t.Context(), false)
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
	w.refresh(t.Context(), false)
	reader.reset()
	w.refresh(t.Context(), false)
	assert.EqualValues(t, 2, w.shows(t).Insertion, "it is read afresh")
	assert.NotNil(t, w.shows(t).Certificate)
	assert.Equal(t, guard.HoldReseat, w.shows(t).Hold.State)
	// Nor does one that comes directly after.
	reader.reset()
	w.refresh(t.Context(), false)
	assert.Equal(t, guard.HoldReseat, w.shows(t).Hold.State)
	reader.remove()
	w.refresh(t.Context(), false)
	reader.insert(sim)
	w.refresh(t.Context(), false)
	assert.Equal(t, guard.HoldLogin, w.shows(t).Hold.State, "seen out and in")
	// What was seen before the reset was of another insertion.
	reader.reset()
	w.refresh(t.Context(), false)
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
	w.refresh(t.Context(), false)
	sim.Insert()
	w.refresh(t.Context(), false)
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
	w.refresh(t.Context(), false)
	for _, op := range []testcard.Op{testcard.OpOpen, testcard.OpInfo, testcard.OpObjects} {
		sim.Remove()
		sim.Insert()
		sim.Hook(func(e testcard.Event) error {
			if e.Op == op {
				return card.Errorf(card.Fault, string(op), "dirty contacts")
			}
			return nil
		})
		w.refresh(t.Context(), false)
		assert.True(t, card.IsKind(w.shows(t).Err, card.Fault))
		assert.NotEqual(t, guard.HoldLogin, w.shows(t).Hold.State)
		sim.Hook(nil)
		w.refresh(t.Context(), false)
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
	w.refresh(t.Context(), false)
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

// reads counts how often a card's objects were read.
func reads(c *testcard.Card) int { return reached(c, testcard.OpObjects) }

// A card that was read and cannot sign is not read again and again.
func TestACardThatCannotSignIsReadOnce(t *testing.T) {
	for name, make := range map[string]func(*testing.T) *testcard.Card{
		"no signing certificate": func(t *testing.T) *testcard.Card {
			c, err := testcard.New(testcard.Config{Serial: "c0ffee"})
			require.NoError(t, err)
			return c
		},
		"several": func(t *testing.T) *testcard.Card {
			c := newCard(t, testcard.Config{Serial: "c0ffee"})
			require.NoError(t, c.Provision(testcard.Pair{ID: []byte{9}, Label: "too", Key: otherKey(), Certificate: signingCertificate(t, otherKey()).Raw}))
			return c
		},
		"another key": func(t *testing.T) *testcard.Card {
			c, err := testcard.New(testcard.Config{Serial: "c0ffee"})
			require.NoError(t, err)
			require.NoError(t, c.Provision(testcard.Pair{ID: []byte{9}, Label: "other", Key: otherKey(), Certificate: signingCertificate(t, signingKey()).Raw}))
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			sim := make(t)
			w := stepped(t, sim.Token(), state.At(t.TempDir()))
			require.Error(t, w.shows(t).Err)
			for range 100 {
				w.glance(t.Context())
			}
			w.refresh(t.Context(), false)
			assert.Equal(t, 1, reads(sim))
			w.refresh(t.Context(), true) // this process changed the card
			assert.Equal(t, 2, reads(sim))
			sim.Remove()
			sim.Insert()
			w.glance(t.Context())
			assert.Equal(t, 3, reads(sim), "each insertion is read")
		})
	}
}

func TestACertificateThatThisProcessWroteIsSeen(t *testing.T) {
	tickEvery(t, time.Hour)
	sim, err := testcard.New(testcard.Config{Serial: "c0ffee"})
	require.NoError(t, err)
	w := newWorld(t, func(u *setUp) { u.sim = sim })
	require.NoError(t, sim.Provision(testcard.Pair{ID: []byte{9}, Label: "new", Key: otherKey(), Certificate: signingCertificate(t, otherKey()).Raw}))
	card.Reread(w.card)
	assert.NotNil(t, w.certificate())
	assert.Equal(t, 2, reads(sim))
	card.Reread(w.card)
	assert.Equal(t, 2, reads(sim), "there is nothing to find out")
}

// A card that may be readable the next time is read again, less and less often.
func TestACardThatCannotBeReadIsReadAgainMoreAndMoreRarely(t *testing.T) {
	sim := newCard(t, testcard.Config{Serial: "c0ffee"})
	fails := func(e testcard.Event) error {
		if e.Op == testcard.OpObjects {
			return card.Errorf(card.Fault, "objects", "dirty contacts")
		}
		return nil
	}
	sim.Hook(fails)
	w := stepped(t, sim.Token(), state.At(t.TempDir()))
	var at []int // the ticks at which it was read
	for i := 1; i <= 100; i++ {
		before := reads(sim)
		w.glance(t.Context())
		if reads(sim) > before {
			at = append(at, i)
		}
	}
	assert.Equal(t, []int{1, 2, 4, 8, 16, 32, 64, 96}, at)
	before := reads(sim)
	w.refresh(t.Context(), false)
	assert.Equal(t, before+1, reads(sim), "at once for one who waits for it")
	sim.Remove()
	sim.Insert()
	w.glance(t.Context())
	before = reads(sim)
	w.glance(t.Context())
	assert.Equal(t, before+1, reads(sim), "another insertion begins anew")
	sim.Hook(nil)
	w.glance(t.Context())
	assert.NoError(t, w.shows(t).Err)
	w.glance(t.Context())
	assert.Equal(t, before+2, reads(sim), "and it was read")
}

func TestWhichErrorsHeal(t *testing.T) {
	assert.False(t, heals(nil))
	assert.True(t, heals(context.DeadlineExceeded), "the module did not say what it was")
	heal := []card.Kind{card.Other, card.Absent, card.Removed, card.Fault, card.BadObject, card.Busy}
	for k := card.Other; k <= card.Busy; k++ {
		assert.Equal(t, slices.Contains(heal, k), heals(card.Errorf(k, "read", "")), "%v", k)
	}
}

// stale is a session that the module says is of an earlier insertion, in some of its
// answers, though the card is in.
type stale struct {
	card.Session
	says func(testcard.Op) bool
}

func (s stale) err(op testcard.Op) error {
	if s.says(op) {
		return &card.Error{Kind: card.Removed, Op: string(op), Code: 0xb3, TriesLeft: -1} // CKR_SESSION_HANDLE_INVALID
	}
	return nil
}

func (s stale) Info(ctx context.Context) (card.Info, error) {
	if err := s.err(testcard.OpInfo); err != nil {
		return card.Info{}, err
	}
	return s.Session.Info(ctx)
}

func (s stale) Login(ctx context.Context, pin []byte) error {
	if err := s.err(testcard.OpLogin); err != nil {
		return err
	}
	return s.Session.Login(ctx, pin)
}

func (s stale) Sign(ctx context.Context, id, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := s.err(testcard.OpSign); err != nil {
		return nil, err
	}
	return s.Session.Sign(ctx, id, digest, opts)
}

// A session that its module calls stale is opened again for reading, once; a passcode is
// not presented again and nothing is signed again.
func TestAStaleSessionIsOpenedAgainForReadingAlone(t *testing.T) {
	tickEvery(t, time.Hour)
	var mu sync.Mutex
	left := map[testcard.Op]int{} // wrong answers
	says := func(op testcard.Op) bool {
		mu.Lock()
		defer mu.Unlock()
		left[op]--
		return left[op] >= 0
	}
	set := func(op testcard.Op, n int) {
		mu.Lock()
		defer mu.Unlock()
		left[op] = n
	}
	w := newWorld(t, func(u *setUp) {
		set(testcard.OpInfo, 1)
		u.token = func(t card.Token) card.Token {
			return amended{t, func(s card.Session) card.Session { return stale{s, says} }}
		}
	})
	assert.NotNil(t, w.certificate(), "the watcher read it")
	for _, c := range []struct {
		op      testcard.Op
		answers int
		signs   bool
		asked   int
	}{
		{testcard.OpInfo, 1, true, 1}, // the Signer's reading
		{testcard.OpInfo, 2, false, 0},
		{testcard.OpLogin, 1, false, 1},
		{testcard.OpSign, 1, false, 1},
	} {
		require.NoError(t, w.signer.Close())
		asked, presented, signed := len(w.person.requests()), reached(w.sim, testcard.OpLogin), w.signed()
		set(c.op, c.answers)
		_, err := Sign(t.Context(), w.signer, document(t, "one"))
		if c.signs {
			require.NoError(t, err)
		} else {
			require.True(t, card.IsKind(err, card.Removed), "%v", err)
			assert.Equal(t, signed, w.signed())
		}
		assert.Len(t, w.person.requests(), asked+c.asked)
		assert.LessOrEqual(t, reached(w.sim, testcard.OpLogin), presented+c.asked)
	}
	list, err := func() ([]CardInfo, error) {
		set(testcard.OpInfo, 1)
		return Cards(t.Context(), CardsConfig{Readers: []*Reader{card.NewReader(card.TokenOf(w.card), w.dir.Path())}})
	}()
	require.NoError(t, err)
	assert.NoError(t, list[0].Err)
	set(testcard.OpInfo, 1)
	serial, _, err := who(t.Context(), card.TokenOf(w.card))
	require.NoError(t, err)
	assert.Equal(t, "c0ffee", serial)
}

// A re-seating counts for one end of a renewal: not for the next, when it went on and
// the card was out in the middle of it.
func TestAReseatingCountsOnce(t *testing.T) {
	dir := state.At(t.TempDir())
	sim := newCard(t, testcard.Config{Serial: "c0ffee"})
	w := stepped(t, sim.Token(), dir)
	h := state.Hold{ID: theHoldID, Card: idOf("c0ffee"), Phase: state.Reseat, Since: refusedAt, Expect: w.shows(t).Certificate.Info().SHA256}
	require.NoError(t, dir.SetHold(h))
	w.refresh(t.Context(), false)
	sim.Remove()
	sim.Insert()
	w.refresh(t.Context(), false)
	require.Equal(t, guard.HoldLogin, w.shows(t).Hold.State)
	h.Phase = state.Renewing
	require.NoError(t, dir.SetHold(h))
	w.refresh(t.Context(), false)
	sim.Remove()
	sim.Insert()
	h.Phase = state.Reseat
	require.NoError(t, dir.SetHold(h))
	w.refresh(t.Context(), false)
	assert.Equal(t, guard.HoldReseat, w.shows(t).Hold.State)
}
