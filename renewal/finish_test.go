package renewal

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
)

func TestFinishWaitsForTheCardToBeTakenOutAndPutBack(t *testing.T) {
	w := newWorld(t)
	w.mustRenew()
	w.person.take()
	r, s := w.renewer(), w.signer()
	type end struct {
		res Result
		err error
	}
	done := make(chan end)
	go func() {
		res, err := r.Finish(t.Context(), s)
		done <- end{res, err}
	}()
	w.sim.Remove()
	w.see(func(s guard.Snapshot) bool { return errors.Is(s.Err, guard.ErrNoCard) })
	select {
	case e := <-done:
		t.Fatal("it did not wait", e)
	default:
	}
	assert.Empty(t, w.person.take())
	w.sim.Insert()
	e := <-done
	require.NoError(t, e.err)
	assert.Equal(t, Completed, e.res.Outcome)
	assert.Equal(t, []signing.Purpose{signing.ToReseat}, w.person.take())
	w.mustSign()
}

func TestFinishIsStoppedByItsContext(t *testing.T) {
	w := newWorld(t)
	w.mustRenew()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	res, err := w.renewer().Finish(ctx, w.signer())
	e := ends(t, res, err, ReseatCard)
	assert.ErrorIs(t, e, context.Canceled)
	assert.Equal(t, state.Reseat, w.hold().Phase)
}

func TestAWrongPasscodeLeavesTheHold(t *testing.T) {
	w := newWorld(t)
	w.mustRenew()
	w.reseat()
	w.person.take()
	w.person.pin = "zyxzyx"
	res, err := w.renewer().Finish(t.Context(), w.signer())
	e := ends(t, res, err, ReseatCard, "2 tries left")
	assert.True(t, card.IsKind(e, card.PINIncorrect))
	assert.Len(t, w.person.take(), 1, "no second try by itself")
	assert.Equal(t, 2, w.sim.TriesLeft())
	assert.NotNil(t, w.hold())
	w.person.pin = thePIN
	res, err = w.renewer().Finish(t.Context(), w.signer())
	require.NoError(t, err)
	assert.Equal(t, Completed, res.Outcome)
}

func TestFinishNeverStartsARenewal(t *testing.T) {
	w := newWorld(t) // affected
	res, err := w.renewer().Finish(t.Context(), w.signer())
	require.NoError(t, err)
	assert.Equal(t, NotNeeded, res.Outcome)
	assert.Empty(t, w.person.take())
	assert.Empty(t, w.ops(changes...))

	w.mustBegin(StepKey)
	res, err = w.renewer().Finish(t.Context(), w.signer())
	ends(t, res, err, Resumable, "not finished")
	w.oldIsThere()
	assert.Zero(t, w.ca.asked())
	res, err = w.renewer().Finish(t.Context(), nil)
	ends(t, res, err, Refusal, "signing.New")
}

// Signing ends a hold too; the journal learns of it from the next call.
func TestAHoldThatSigningEnded(t *testing.T) {
	for _, ask := range []string{"Finish", "Renew", "Plan and Renew"} {
		w := newWorld(t)
		w.mustRenew()
		w.reseat()
		w.mustSign()
		r := w.renewer()
		switch ask {
		case "Finish":
			res, err := r.Finish(t.Context(), w.signer())
			require.NoError(t, err)
			assert.Equal(t, Completed, res.Outcome)
		default:
			plan, err := r.Plan(t.Context())
			require.NoError(t, err)
			assert.Equal(t, NotNeeded, plan.Outcome)
			res, err := r.Renew(t.Context(), nil)
			require.NoError(t, err)
			assert.Equal(t, NotNeeded, res.Outcome)
		}
		es := w.journal()
		assert.Equal(t, StepDone, es[len(es)-1].Step)
		assert.Equal(t, 1, w.ca.asked())
	}
}

// The hold may be given free by a run that dies before it wrote that down.
func TestAHoldThatWasEndedBeforeTheJournalKnew(t *testing.T) {
	w := newWorld(t)
	r := w.renewer()
	r.crash = func(point string) error {
		if point == "after hold reseat" {
			return errors.New("stopped here")
		}
		return nil
	}
	res, err := r.Renew(t.Context(), nil)
	ends(t, res, err, Resumable)
	w.restart()
	w.reseat()
	w.mustSign()
	w.person.take()
	res, err = w.renewer().Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, NotNeeded, res.Outcome)
	assert.Empty(t, w.person.take())
	assert.Nil(t, w.hold(), "the card need not be re-seated twice")
}

func TestAnotherCardInTheReader(t *testing.T) {
	w := newWorld(t)
	other, err := testcard.New(testcard.Config{Serial: "other", PIN: []byte(thePIN)})
	require.NoError(t, err)
	_, _, err = other.ProvisionPrescriber(theCA(), testcard.Prescriber{UID: uid, NotBefore: issued})
	require.NoError(t, err)
	reader := testcard.NewSlot(w.sim)
	require.NoError(t, w.card.Close())
	w.card = openToken(t, w, reader.Token())
	r, s := w.renewer(), w.signer()
	_, err = r.Renew(t.Context(), nil)
	require.NoError(t, err)
	w.person.take()

	for range 2 { // also when it is asked again while the other card is in
		reader.Put(other)
		w.see(func(s guard.Snapshot) bool { return s.Serial == "other" && s.Err == nil })
		res, err := r.Finish(t.Context(), s)
		ends(t, res, err, WrongCard, "c0ffee")
		assert.Equal(t, "other", res.Serial)
	}
	assert.Empty(t, w.person.take())
	assert.NotNil(t, w.hold())

	reader.Put(w.sim)
	w.see(func(s guard.Snapshot) bool { return s.Serial == "c0ffee" && s.Err == nil })
	res, err := r.Finish(t.Context(), s)
	require.NoError(t, err)
	assert.Equal(t, Completed, res.Outcome)
}

func TestAClosedCard(t *testing.T) {
	w := newWorld(t)
	r, s := w.renewer(), w.signer()
	require.NoError(t, w.card.Close())
	res, err := r.Finish(t.Context(), s)
	ends(t, res, err, Resumable)
}

// A process that is killed directly after it set the hold has told nobody of it. The
// next one says "take it out", and a card that comes out and in at that very moment
// must count: the watcher has to have seen the card in under the hold before.
func TestACardThatIsReseatedAtOnceAfterAResumedRenewalCounts(t *testing.T) {
	for _, at := range []string{"after hold reseat", "before reseat done", "after reseat done"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			killed := false
			_, err := w.crashing(func(point string) error {
				if killed = killed || point == at; killed {
					return errCrash
				}
				return nil
			}).Renew(t.Context(), nil)
			require.ErrorIs(t, err, errCrash)
			w.mustRenew()
			w.sim.Remove()
			w.sim.Insert()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			res, err := w.renewer().Finish(ctx, w.signer())
			require.NoError(t, err)
			require.Equal(t, Completed, res.Outcome, res.Text)
			w.mustSign()
		})
	}
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

func TestFinishDoesNotWaitForAModuleThatStoppedAnswering(t *testing.T) {
	w := newWorld(t)
	w.mustRenew()
	require.NoError(t, w.card.Close())
	token := stuckToken{w.sim.Token(), make(chan struct{})}
	w.card = openToken(t, w, token)
	r, s := w.renewer(), w.signer()
	close(token.stuck)
	res, err := r.Finish(t.Context(), s)
	require.Error(t, err)
	assert.True(t, card.IsKind(err, card.Wedged), "%v", err)
	assert.Equal(t, Resumable, res.Outcome)
	assert.Contains(t, res.Text, "restart the application")
	require.NotNil(t, w.hold())
}
