package renewal

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
)

func TestAbandonAtEachStepBeforeTheSwitch(t *testing.T) {
	for _, step := range []Step{StepPlanned, StepHold, StepKey, StepRequest, StepEnrol, StepWrite, StepProve, StepConfirm} {
		t.Run(string(step), func(t *testing.T) {
			w := newWorld(t)
			w.mustBegin(step)
			w.person.take()
			w.restart()
			res, err := w.renewer().Abandon(t.Context())
			require.NoError(t, err)
			w.oldAlone()
			asks := len(w.person.take())
			if step == StepPlanned {
				assert.Equal(t, GivenUp, res.Outcome)
				assert.Contains(t, res.Text, "The card was not changed.")
				assert.Nil(t, w.hold())
				assert.Zero(t, asks)
			} else {
				assert.Equal(t, ReseatCard, res.Outcome)
				assert.Contains(t, res.Text, "put it back in")
				assert.Equal(t, state.Reseat, w.hold().Phase)
				assert.True(t, w.refused().Has(guard.OnHold))
				w.reseat()
			}
			assert.Equal(t, StepGivenUp, res.Step)
			require.NotNil(t, res.Old)
			res, err = w.renewer().Finish(t.Context(), w.signer())
			require.NoError(t, err)
			assert.Equal(t, GivenUp, res.Outcome)
			v := w.refused()
			assert.True(t, v.Has(guard.Affected), "the old certificate is judged as ever")
			assert.False(t, v.Has(guard.OnHold))
			assert.Contains(t, w.rec.events(), signing.EventGivenUp)

			// It was not started again by itself, and can be.
			w.oldAlone()
			w.mustRenew()
		})
	}
}

func TestAbandonAfterTheSwitchIsRefused(t *testing.T) {
	for _, step := range []Step{StepSwitch, StepRetire} {
		w := newWorld(t)
		w.mustBegin(step)
		res, err := w.renewer().Abandon(t.Context())
		e := ends(t, res, err, Refusal, "can only go on")
		assert.ErrorIs(t, e, errPastSwitch)
		w.mustRenew()
		w.newAlone()
	}
	// Also when it is not known whether the old certificate was removed.
	w := newWorld(t)
	r := w.renewer()
	r.crash = func(point string) error {
		if point == "after switch intent" {
			return errors.New("stopped here")
		}
		return nil
	}
	res, err := r.Renew(t.Context(), nil)
	ends(t, res, err, Resumable)
	res, err = r.Abandon(t.Context())
	ends(t, res, err, Refusal, "can only go on")
}

func TestAbandonWithoutARenewal(t *testing.T) {
	w := newWorld(t)
	nothing := func() {
		res, err := w.renewer().Abandon(t.Context())
		var e *Error
		require.ErrorAs(t, err, &e)
		assert.ErrorIs(t, e, errNothingBegun)
		assert.Equal(t, Refusal, res.Outcome)
		assert.Empty(t, res.Step)
	}
	nothing()
	w.finish("")
	nothing()
	w.newAlone()
}

func TestAnAbandonThatIsInterruptedIsGoneOnWith(t *testing.T) {
	t.Parallel()
	points := []string{"before given_up intent", "after given_up intent", "before hold reseat", "after hold reseat", "before given_up done", "after given_up done"}
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			w := newWorld(t)
			w.mustBegin(StepWrite)
			w.restart()
			r := w.renewer()
			fired := false
			r.crash = func(p string) error {
				if p == point && !fired {
					fired = true
					return errors.New("stopped here")
				}
				return nil
			}
			res, err := r.Abandon(t.Context())
			require.True(t, fired)
			ends(t, res, err, Resumable, "stopped here")
			w.oldIsThere()
			w.restart()
			res, err = w.renewer().Renew(t.Context(), nil)
			if point == "before given_up intent" { // nothing was decided yet: it goes on
				require.NoError(t, err)
				assert.Equal(t, ReseatCard, res.Outcome)
				w.newAlone()
				return
			}
			require.NoError(t, err)
			assert.Equal(t, ReseatCard, res.Outcome)
			w.oldAlone()
			assert.Equal(t, state.Reseat, w.hold().Phase)
			w.reseat()
			res, err = w.renewer().Finish(t.Context(), w.signer())
			require.NoError(t, err)
			assert.Equal(t, GivenUp, res.Outcome)
		})
	}
	for _, op := range []testcard.Op{testcard.OpDestroy, testcard.OpObjects, testcard.OpLogin, testcard.OpOpen, testcard.OpInfo} {
		for _, after := range []bool{false, true} {
			for nth := 1; nth <= 3; nth++ {
				w := newWorld(t)
				w.mustBegin(StepProve)
				w.sim.Hook(testcard.On(op, after, nth, func() error { return errors.New("broken") }))
				if res, err := w.renewer().Abandon(t.Context()); err != nil {
					ends(t, res, err, Resumable)
				}
				w.sim.Hook(nil)
				w.oldIsThere()
				if res, err := w.renewer().Abandon(t.Context()); err != nil {
					assert.ErrorIs(t, err, errNothingBegun, "%s", res.Text) // the first was enough
				}
				w.oldAlone()
			}
		}
	}
}

// A renewal that was given up keeps its new pair when somebody took the old one
// away: it is all that the card has.
func TestTheLastPairIsNeverRemoved(t *testing.T) {
	w := newWorld(t)
	w.mustBegin(StepConfirm)
	r := w.renewer()
	r.crash = func(point string) error {
		if point == "after given_up intent" {
			return errors.New("stopped here")
		}
		return nil
	}
	res, err := r.Abandon(t.Context())
	ends(t, res, err, Resumable)
	w.clear(testcard.SigningID())
	res, err = w.renewer().Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome)
	assert.Contains(t, res.Text, "another certificate now")
	w.newAlone()
	w.reseat()
	_, err = w.renewer().Finish(t.Context(), w.signer())
	require.NoError(t, err)
	w.mustSign()
}

// What a card cannot do ends a renewal only as long as the old pair is there.
func TestNothingEndsARenewalAfterTheSwitch(t *testing.T) {
	w := newWorld(t)
	w.mustBegin(StepSwitch)
	w.sim.Hook(func(e testcard.Event) error {
		if e.Op == testcard.OpSign && !e.After {
			return card.Errorf(card.Unsupported, "sign", "")
		}
		return nil
	})
	res, err := w.renewer().Renew(t.Context(), nil)
	ends(t, res, err, Resumable)
	assert.Equal(t, StepRetire, res.Step)
	assert.False(t, w.onCard()[string(w.journal()[0].NewID)].cert == nil)
	w.sim.Hook(nil)
	w.mustRenew()
	w.newAlone()
}

func TestALockedCardIsAbandonedWhenItIsUnlocked(t *testing.T) {
	w := newWorld(t)
	w.mustBegin(StepKey)
	w.spend(3)
	res, err := w.renewer().Abandon(t.Context())
	ends(t, res, err, Resumable, "locked")
	assert.Equal(t, advisory.RegistrationAuthority, res.Remedies[0].Kind)
	assert.NotNil(t, w.hold())
	require.NoError(t, w.sim.SetPIN([]byte(thePIN)))
	_, err = w.renewer().Abandon(t.Context())
	require.NoError(t, err)
	w.oldAlone()
}

func TestEveryReasonToGiveUpHasItsText(t *testing.T) {
	for _, why := range []string{whyAsked, whyCannot, whyFull, whyNotReplaced, whyKeepsOld, whyRejected, whyWrong, whyAffectedAgain, whyExpired, whyNotYetValid, whyJudged, whyChanged} {
		assert.NotEmpty(t, whyText[why], why)
	}
	assert.Len(t, whyText, 12)
	for k := Unreachable; k <= WrongCertificate; k++ {
		assert.NotEmpty(t, enrolAdvice[k])
		assert.NotEmpty(t, enrolText[k])
	}
	for _, s := range append(Steps[:len(Steps)-1:len(Steps)-1], StepReplace) {
		assert.NotEmpty(t, stepText[s], s)
		assert.NotZero(t, typical[s], s)
	}
	assert.NotContains(t, typical, StepDone)
}
