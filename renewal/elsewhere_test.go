package renewal

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
)

// through is the world as another PKCS#11 module words its card.
func (w *world) through(as func(card.Token) card.Token) *world {
	w.t.Helper()
	other := *w
	other.card, other.as = nil, as
	other.restart()
	w.t.Cleanup(func() { assert.NoError(w.t, other.card.Close()) })
	return &other
}

func TestARenewalBindsTheCardThroughEveryModule(t *testing.T) {
	for _, step := range []Step{StepHold, StepKey, StepWrite, StepProve, StepSwitch, StepRetire} {
		t.Run(string(step), func(t *testing.T) {
			w := newWorld(t)
			w.mustBegin(step)
			other := w.through(otherwise)
			assert.True(t, other.refused().Has(guard.OnHoldRenewal))
			before := len(w.ops(changes...))
			plan, err := other.renewer().Plan(t.Context())
			require.NoError(t, err)
			assert.Equal(t, Refusal, plan.Outcome)
			assert.Contains(t, plan.Text, "other card software")
			res, err := other.renewer().Renew(t.Context(), nil)
			ends(t, res, err, Refusal, "other card software")
			assert.Len(t, w.ops(changes...), before)
			// With the software that began it, it goes on as if nothing had been.
			w.mustRenew()
			w.reseat()
			other.see(func(s guard.Snapshot) bool { return s.Insertion == 2 && s.Certificate != nil })
			_, err = w.renewer().Finish(t.Context(), w.signer())
			require.NoError(t, err)
			w.newAlone()
			other.mustSign()
		})
	}
}

func TestARenewalThatWasBegunElsewhereEndsThroughAnotherModule(t *testing.T) {
	w := newWorld(t)
	other := w.through(otherwise)
	w.mustRenew()
	assert.True(t, other.refused().Has(guard.OnHold))
	plan, err := other.renewer().Plan(t.Context())
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, plan.Outcome)
	held := *w.hold()
	res, err := other.renewer().Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome)
	assert.Equal(t, held, *w.hold(), "the hold is as it was")

	card.Refresh(other.card)
	other.reseat()
	_, err = other.renewer().Finish(t.Context(), other.signer())
	require.NoError(t, err)
	left, err := os.ReadDir(filepath.Join(w.dir.Path(), "holds"))
	require.NoError(t, err)
	assert.Empty(t, left)
	last := w.rec.entries[len(w.rec.entries)-1]
	assert.Equal(t, signing.EventHoldEnded, last.Event)
	assert.Equal(t, held.ID, last.Renewal)
	other.mustSign()

	w.see(func(s guard.Snapshot) bool { return s.Insertion == 2 && s.Certificate != nil })
	res, err = w.renewer().Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, NotNeeded, res.Outcome)
	es := w.journal()
	assert.Equal(t, StepDone, es[len(es)-1].Step)
}

// The card's old certificate, seen through another module after the renewal, does not
// make that one expect it.
func TestAnotherModuleDoesNotChangeWhatAHoldExpects(t *testing.T) {
	w := newWorld(t)
	w.mustRenew()
	keys := testcard.CachedKeys()
	_, err := keys(2048)
	require.NoError(t, err)
	key, err := keys(2048) // of the old pair
	require.NoError(t, err)
	w.clear(w.journal()[0].NewID)
	require.NoError(t, w.sim.Provision(testcard.Pair{ID: testcard.SigningID(), Key: key, Certificate: w.old.Raw}))
	expect := w.hold().Expect
	other := w.through(otherwise)
	res, err := other.renewer().Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome)
	assert.Equal(t, expect, w.hold().Expect)
}

func TestARenewalThatWasBegunElsewhereCanBeGivenUp(t *testing.T) {
	w := newWorld(t)
	w.mustBegin(StepKey)
	other := w.through(otherwise)
	id := w.hold().ID
	res, err := other.renewer().Abandon(t.Context())
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome)
	h := w.hold()
	assert.Equal(t, state.Reseat, h.Phase)
	assert.NotEqual(t, id, h.ID)
	assert.Equal(t, w.id, h.Card, "it is kept under its name")
	assert.True(t, other.refused().Has(guard.OnHold))
	assert.True(t, w.refused().Has(guard.OnHold))
	other.reseat()
	_, err = other.renewer().Finish(t.Context(), other.signer())
	require.NoError(t, err)
	assert.Nil(t, w.hold())
	assert.True(t, other.refused().Has(guard.Affected), "the old certificate is judged as ever")
	w.oldIsThere()
	// The software that began it can still go on, and holds the card again.
	w.see(func(s guard.Snapshot) bool { return s.Insertion == 2 && s.Certificate != nil })
	w.mustRenew()
	assert.True(t, other.refused().Has(guard.OnHold))

	// While it is at work nobody gives it up, nor where several certificates could sign.
	w = newWorld(t)
	other = w.through(otherwise)
	w.ca.answer = func(_ int, r Request) (Answer, error) {
		res, err := other.renewer().Abandon(t.Context())
		ends(t, res, err, Refusal, "being renewed by another program")
		return w.ca.issue(r)
	}
	w.mustBegin(StepWrite)
	res, err = other.renewer().Abandon(t.Context())
	ends(t, res, err, Refusal, "other card software")
	assert.Equal(t, state.Renewing, w.hold().Phase)
}

func TestACardWithoutASerialNumberIsRenewed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	make := func() *world {
		w := newWorld(t, func(u *setUp) { u.dir, u.as, u.card.Serial = dir, serialless, "" })
		r, err := w.renewer().open(t.Context())
		require.NoError(t, err)
		w.id = r.id
		require.NoError(t, r.s.Close())
		return w
	}
	first, second := make(), make()
	first.mustBegin(StepKey)
	assert.True(t, first.refused().Has(guard.OnHoldRenewal))
	plan, err := second.renewer().Plan(t.Context())
	require.NoError(t, err)
	assert.Equal(t, Ready, plan.Outcome)
	assert.Empty(t, plan.Resumes, "the other card's renewal is not this one's")
	assert.False(t, second.refused().Has(guard.OnHoldRenewal))
	for _, w := range []*world{first, second} {
		w.mustRenew()
		w.newAlone()
		assert.True(t, w.refused().Has(guard.OnHold))
		w.reseat()
		res, err := w.renewer().Finish(t.Context(), w.signer())
		require.NoError(t, err)
		assert.Equal(t, Completed, res.Outcome)
		w.mustSign()
	}
}

// One renewal of a card at a time, through whatever module: before its hold is set, when
// the card goes by one certificate, and when that was replaced.
func TestOneRenewalAtATimeThroughEveryModule(t *testing.T) {
	for _, at := range []string{"after planned done", "after write done", "after switch done"} {
		w := newWorld(t)
		other := w.through(otherwise)
		reached := false
		r := w.renewer()
		r.crash = func(point string) error {
			if point != at || reached {
				return nil
			}
			reached = true
			for _, f := range []func() (Result, error){
				func() (Result, error) { return other.renewer().Renew(t.Context(), nil) },
				func() (Result, error) { return other.renewer().Abandon(t.Context()) },
			} {
				res, err := f()
				ends(t, res, err, Refusal, "being renewed by another program")
			}
			return nil
		}
		_, err := r.Renew(t.Context(), nil)
		require.NoError(t, err)
		assert.True(t, reached, at)
	}
}

// A renewal waits with its hold for a signature that is under way through another
// module.
func TestAHoldWaitsForASignatureThroughAnotherModule(t *testing.T) {
	w := newWorld(t)
	unlock, err := w.dir.Lock(t.Context(), sumOfDER(w.old.Raw), false) // as its Signer has it
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	r := w.renewer()
	r.crash = func(point string) error {
		if point == "after hold intent" {
			cancel() // a lock that is free would be given all the same
		}
		return nil
	}
	res, err := r.Renew(ctx, nil)
	ends(t, res, err, Resumable)
	assert.ErrorIs(t, err, context.Canceled)
	assert.Nil(t, w.hold())
	assert.Empty(t, w.ops(changes...))
	unlock()
	w.mustRenew()
}
