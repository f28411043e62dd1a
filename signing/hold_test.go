package signing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
)

// refusedFor asserts that err is a refusal for the reason.
func refusedFor(t *testing.T, err error, r guard.Reason) {
	t.Helper()
	var refused *guard.Refused
	if assert.ErrorAs(t, err, &refused) {
		assert.True(t, refused.Verdict.Has(r), "%v", refused.Verdict)
	}
}

func (failing) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (failing) FailNow()                          { panic("failed") }
func (failing) Helper()                           {}

func TestACardOnHoldSignsNowhere(t *testing.T) {
	for phase, reason := range map[state.Phase]guard.Reason{state.Renewing: guard.OnHoldRenewal, state.Reseat: guard.OnHold} {
		t.Run(string(phase), func(t *testing.T) {
			w := newWorld(t)
			require.Empty(t, w.elsewhere(ask{Do: "sign"}).Error, "without a hold the other process signs")
			w.hold(phase)

			_, err := Sign(t.Context(), w.signer, document(t, "one"))
			refusedFor(t, err, reason)
			_, err = Sign(t.Context(), w.sign(w.card), document(t, "one"))
			refusedFor(t, err, reason)
			_, err = Sign(t.Context(), w.sign(w.open(w.sim.Token())), document(t, "one"))
			refusedFor(t, err, reason)
			other := w.elsewhere(ask{Do: "sign"})
			assert.Contains(t, other.Reasons, reason)
			assert.Zero(t, other.Signed)
			assert.Zero(t, other.Asked)

			require.NoError(t, w.card.Close()) // and after a restart
			again := w.open(w.sim.Token())
			_, err = Sign(t.Context(), w.sign(again), document(t, "one"))
			refusedFor(t, err, reason)
			_, err = builtin(t).CheckAt(t.Context(), again, allowedAt)
			refusedFor(t, err, reason)
			w.untouched()
			w.only(EventRefused, EventRefused, EventRefused, EventRefused)
		})
	}
}

func TestARemovalThatNobodySawLeavesTheHold(t *testing.T) {
	w := newWorld(t)
	w.seenHold(state.Reseat)
	require.NoError(t, w.card.Close())
	w.reseat()
	again := w.open(w.sim.Token())
	_, err := Sign(t.Context(), w.sign(again), document(t, "one"))
	refusedFor(t, err, guard.OnHold)
	refusedFor(t, w.sign(again).EndHold(t.Context()), guard.OnHold)
	w.untouched()
	// The same with the card put in after the start.
	require.NoError(t, again.Close())
	w.sim.Remove()
	late := w.open(w.sim.Token())
	w.sim.Insert()
	_, err = Sign(t.Context(), w.sign(late), document(t, "one"))
	refusedFor(t, err, guard.OnHold)
	w.untouched()
	// Seen at last.
	w.sim.Remove()
	w.sim.Insert()
	_, err = Sign(t.Context(), w.sign(late), document(t, "one"))
	require.NoError(t, err)
}

func TestSeenReseatedTheHoldWaitsForThePasscode(t *testing.T) {
	ends := map[string]func(*world) error{
		"EndHold": func(w *world) error { return w.signer.EndHold(w.t.Context()) },
		"Sign": func(w *world) error {
			_, err := Sign(w.t.Context(), w.signer, document(w.t, "one"))
			return err
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			hold := w.seenHold(state.Reseat)
			refusedFor(t, end(w), guard.OnHold)
			w.reseat()
			s := until(t, w.card, holdIs(guard.HoldLogin))
			assert.Equal(t, hold.Since, s.Hold.Since)
			_, err := builtin(t).CheckAt(t.Context(), w.card, allowedAt)
			refusedFor(t, err, guard.OnHoldLogin)

			w.person.enters(wrongPIN)
			err = end(w)
			assert.True(t, card.IsKind(err, card.PINIncorrect), "%v", err)
			still, err := w.dir.Hold(w.id)
			require.NoError(t, err)
			assert.NotNil(t, still, "a wrong passcode leaves the hold")
			assert.Zero(t, w.signed())

			w.person.enters(thePIN)
			require.NoError(t, end(w))
			gone, err := w.dir.Hold(w.id)
			require.NoError(t, err)
			assert.Nil(t, gone)
			until(t, w.card, holdIs(guard.NotHeld))
			_, err = Sign(t.Context(), w.signer, document(t, "two"))
			require.NoError(t, err)
			asked := w.person.requests()
			require.Len(t, asked, 2, "the login that ended the hold serves what follows")
			assert.Equal(t, ToReseat, asked[0].Purpose)
			assert.Equal(t, ToReseat, asked[1].Purpose)

			var ended []Entry
			for _, e := range w.rec.all() {
				if e.Event == EventHoldEnded {
					ended = append(ended, e)
				}
			}
			require.Len(t, ended, 1)
			assert.Equal(t, theHoldID, ended[0].Renewal)
			assert.Equal(t, guard.DecisionAllowed, ended[0].Verdict)
			assert.Equal(t, w.certificate().Serial, ended[0].Serial)
			assert.Empty(t, w.elsewhere(ask{Do: "sign"}).Error, "it ended for all processes")
		})
	}
}

func TestEndHoldOfACardThatIsNotHeldAsksNothing(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.signer.EndHold(t.Context()))
	w.untouched()
	w.only()
	w.sim.Remove()
	assert.True(t, card.IsKind(w.signer.EndHold(t.Context()), card.Absent))
}

func TestEndHoldRefusesForTheHoldAlone(t *testing.T) {
	w := newWorld(t)
	w.setClock(refusedAt) // the certificate is affected too, which is not the question
	w.hold(state.Renewing)
	err := w.signer.EndHold(t.Context())
	refusedFor(t, err, guard.OnHoldRenewal)
	var refused *guard.Refused
	require.ErrorAs(t, err, &refused)
	assert.Len(t, refused.Verdict.Findings, 1)
	w.untouched()
}

func TestAnAffectedCardCanEndItsHoldButNotSign(t *testing.T) {
	w := newWorld(t)
	w.seenHold(state.Reseat) // of a renewal that was given up
	w.reseat()
	w.setClock(refusedAt)
	require.NoError(t, w.signer.EndHold(t.Context()))
	e := w.only(EventHoldEnded)[0]
	assert.Equal(t, guard.DecisionRefused, e.Verdict)
	_, err := Sign(t.Context(), w.signer, document(t, "one"))
	refusedFor(t, err, guard.Affected)
	assert.Zero(t, w.signed())
}

func TestReseatingDoesNotEndARenewalUnderWay(t *testing.T) {
	w := newWorld(t)
	h := w.seenHold(state.Renewing)
	w.reseat()
	_, err := Sign(t.Context(), w.signer, document(t, "one"))
	refusedFor(t, err, guard.OnHoldRenewal)
	// Nor does that removal count once the renewal has come to its end.
	h.Phase, h.Expect = state.Reseat, w.certificate().SHA256
	require.NoError(t, w.dir.SetHold(h))
	_, err = Sign(t.Context(), w.signer, document(t, "one"))
	refusedFor(t, err, guard.OnHold)
	card.Refresh(w.card)
	w.reseat()
	_, err = Sign(t.Context(), w.signer, document(t, "one"))
	require.NoError(t, err)
}

func TestAnotherCardInBetweenIsAnotherCard(t *testing.T) {
	first := newCard(t, testcard.Config{Serial: "c0ffee", Label: "card one"})
	second := newCard(t, testcard.Config{Serial: "decade", Label: "card two"})
	second.Remove()
	reader := newSlot(first)
	w := newWorld(t, func(u *setUp) { u.sim, u.token = first, func(card.Token) card.Token { return reader } })
	w.seenHold(state.Reseat)
	reader.remove()
	reader.insert(second)
	_, err := Sign(t.Context(), w.signer, document(t, "one"))
	require.NoError(t, err, "the other card is not on hold")
	require.NoError(t, w.signer.EndHold(t.Context()))
	assert.Equal(t, 1, second.Signatures(testcard.SigningID()))
	hold, err := w.dir.Hold(w.id)
	require.NoError(t, err)
	assert.NotNil(t, hold, "the other card ended nothing")

	reader.remove()
	reader.insert(first)
	s := until(t, w.card, holdIs(guard.HoldLogin))
	assert.Equal(t, "c0ffee", s.Serial)
	_, err = Sign(t.Context(), w.signer, document(t, "two"))
	require.NoError(t, err)
	assert.Equal(t, 1, w.signed())
}

func TestTwoCardsOnHoldAreReseatedEach(t *testing.T) {
	first := newCard(t, testcard.Config{Serial: "c0ffee", Label: "card one"})
	second := newCard(t, testcard.Config{Serial: "decade", Label: "card two"})
	expected := certificateOn(t, second).SHA256
	second.Remove()
	reader := newSlot(first)
	w := newWorld(t, func(u *setUp) { u.sim, u.token = first, func(card.Token) card.Token { return reader } })
	h := w.seenHold(state.Reseat)
	h.Card, h.ID = idOf("decade"), "fedcba"
	h.Expect = expected
	require.NoError(t, w.dir.SetHold(h))

	reader.remove()
	reader.insert(second)
	_, err := Sign(t.Context(), w.signer, document(t, "one"))
	refusedFor(t, err, guard.OnHold) // it was the first that was taken out
	assert.Zero(t, second.Signatures(testcard.SigningID()))
	reader.remove()
	reader.insert(second)
	_, err = Sign(t.Context(), w.signer, document(t, "one"))
	require.NoError(t, err)
	assert.Equal(t, 1, second.Signatures(testcard.SigningID()))
}

func TestAnotherCertificateThanExpectedKeepsTheHold(t *testing.T) {
	w := newWorld(t)
	h := w.hold(state.Reseat)
	h.Expect = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	require.NoError(t, w.dir.SetHold(h))
	card.Refresh(w.card)
	w.reseat()
	s := until(t, w.card, func(s guard.Snapshot) bool { return s.Insertion == 2 && s.Certificate != nil })
	assert.Equal(t, guard.HoldReseat, s.Hold.State)
	want := "signing: the certificate read after the card was put back is SHA-256 " + w.certificate().SHA256[:16] +
		"; wanted SHA-256 0011223344556677"
	assert.EqualError(t, s.Hold.Err, want)
	_, err := Sign(t.Context(), w.signer, document(t, "one"))
	refusedFor(t, err, guard.OnHold)
	assert.ErrorContains(t, err, want)
	w.untouched()
}

func TestAHoldThatCannotBeReadSignsNothing(t *testing.T) {
	good := `{"version":1,"id":"x","card":"CARD","serial":"","label":"","phase":"renewing","since":"2020-10-01T00:00:00Z"}`
	for name, damage := range map[string]func(*testing.T, string){
		"empty":          func(t *testing.T, p string) { require.NoError(t, os.WriteFile(p, nil, 0o600)) },
		"not JSON":       func(t *testing.T, p string) { require.NoError(t, os.WriteFile(p, []byte("hold"), 0o600)) },
		"cut off":        func(t *testing.T, p string) { require.NoError(t, os.WriteFile(p, []byte(good[:40]), 0o600)) },
		"of another one": func(t *testing.T, p string) { require.NoError(t, os.WriteFile(p, []byte(good), 0o600)) },
		"a folder":       func(t *testing.T, p string) { require.NoError(t, os.Mkdir(p, 0o700)) },
		"a loop":         func(t *testing.T, p string) { require.NoError(t, os.Symlink(p, p)) },
		"no folder": func(t *testing.T, p string) {
			require.NoError(t, os.Remove(filepath.Dir(p)))
			require.NoError(t, os.WriteFile(filepath.Dir(p), nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			_, err := Sign(t.Context(), w.signer, document(t, "one"))
			require.NoError(t, err)
			file := filepath.Join(w.dir.Path(), "holds", w.id+".json")
			require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
			damage(t, file)
			for _, s := range []*Signer{w.signer, w.sign(w.open(w.sim.Token()))} {
				_, err = Sign(t.Context(), s, document(t, "two"))
				var undecided *guard.Undecided
				require.ErrorAs(t, err, &undecided)
				assert.True(t, undecided.Verdict.Has(guard.HoldUnknown))
				assert.ErrorAs(t, s.EndHold(t.Context()), &undecided)
			}
			assert.Equal(t, 1, w.signed())
			card.Refresh(w.card)
			until(t, w.card, holdIs(guard.HoldUnread))
			w.reseat()
			_, err = Sign(t.Context(), w.signer, document(t, "three"))
			assert.Error(t, err)
			assert.Equal(t, 1, w.signed())
		})
	}
}

func TestAHoldFromElsewhereStopsASessionThatIsLoggedIn(t *testing.T) {
	w := newWorld(t)
	_, err := Sign(t.Context(), w.signer, document(t, "one"))
	require.NoError(t, err)
	hold := state.Hold{ID: "other", Card: w.id, Phase: state.Renewing, Since: refusedAt}
	require.Empty(t, w.elsewhere(ask{Do: "hold", Hold: hold}).Error)
	_, err = Sign(t.Context(), w.signer, document(t, "two"))
	refusedFor(t, err, guard.OnHoldRenewal)
	assert.Equal(t, 1, w.signed())
}

func TestAHoldSetWhileThePasscodeIsAskedStopsTheSignature(t *testing.T) {
	w := newWorld(t)
	w.person.during = func(context.Context) { w.hold(state.Renewing) }
	_, err := Sign(t.Context(), w.signer, document(t, "one"))
	refusedFor(t, err, guard.OnHoldRenewal)
	assert.Zero(t, w.signed())
	assert.Zero(t, reached(w.sim, testcard.OpSign))
	w.only(EventRefused)
}

// A renewal takes the card's lock exclusively to set its hold: it gets it neither
// between the judgement and the signature nor during the signature.
func TestNoHoldBeginsWhileASignatureIsUnderWay(t *testing.T) {
	for _, after := range []bool{false, true} {
		w := newWorld(t)
		ended, cancel := context.WithCancel(t.Context())
		cancel() // a lock that is free is given all the same
		looked := false
		w.sim.Hook(testcard.On(testcard.OpSign, after, 1, func() error {
			looked = true
			_, err := w.dir.Lock(ended, w.certificate().SHA256, true)
			assert.ErrorIs(t, err, context.Canceled, "a signature is under way")
			shared, err := w.dir.Lock(ended, w.certificate().SHA256, false)
			if assert.NoError(t, err, "another signature may be made") {
				shared()
			}
			return nil
		}))
		_, err := Sign(t.Context(), w.signer, document(t, "one"))
		require.NoError(t, err)
		assert.True(t, looked)
		unlock, err := w.dir.Lock(ended, w.certificate().SHA256, true)
		require.NoError(t, err, "the signature is over")
		unlock()
	}
}

func TestASignatureWaitsForAHoldThatIsBeingSet(t *testing.T) {
	w := newWorld(t)
	unlock, err := w.dir.Lock(t.Context(), w.certificate().SHA256, true)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	w.sim.Hook(testcard.On(testcard.OpLogin, true, 1, func() error {
		cancel()
		return nil
	}))
	_, err = Sign(ctx, w.signer, document(t, "one"))
	assert.ErrorIs(t, err, context.Canceled)
	done := make(chan error)
	go func() {
		_, err := Sign(t.Context(), w.signer, document(t, "one"))
		done <- err
	}()
	w.hold(state.Renewing)
	unlock()
	refusedFor(t, <-done, guard.OnHoldRenewal)
	assert.Zero(t, w.signed())
}

func TestTheEndOfAHoldLooksAgainAfterThePasscode(t *testing.T) {
	begin := func(t *testing.T, how ...func(*setUp)) *world {
		w := newWorld(t, how...)
		w.seenHold(state.Reseat)
		w.reseat()
		until(t, w.card, holdIs(guard.HoldLogin))
		return w
	}
	held := func(w *world) {
		w.t.Helper()
		h, err := w.dir.Hold(w.id)
		require.NoError(w.t, err)
		assert.NotNil(w.t, h)
		assert.Zero(w.t, w.signed())
	}
	t.Run("another renewal began", func(t *testing.T) {
		w := begin(t)
		w.person.during = func(context.Context) {
			h := w.hold(state.Renewing)
			h.ID = "another"
			require.NoError(t, w.dir.SetHold(h))
		}
		assert.True(t, card.IsKind(w.signer.EndHold(t.Context()), card.Busy))
		held(w)
	})
	t.Run("the card was taken out", func(t *testing.T) {
		w := begin(t)
		w.person.during = func(context.Context) { w.sim.Remove() }
		assert.True(t, card.IsKind(w.signer.EndHold(t.Context()), card.Removed))
		held(w)
	})
	t.Run("the card was taken out after its passcode", func(t *testing.T) {
		w := begin(t)
		w.sim.Hook(testcard.On(testcard.OpLogin, true, 1, func() error {
			w.reseat()
			return nil
		}))
		_, err := Sign(t.Context(), w.signer, document(t, "one"))
		assert.True(t, card.IsKind(err, card.Removed), "%v", err)
		held(w)
	})
	t.Run("the card was taken out before the hold was ended", func(t *testing.T) {
		m := &meddler{}
		w := begin(t, func(u *setUp) { u.token = func(t card.Token) card.Token { m.Token = t; return m } })
		m.afterLogin = w.reseat
		assert.True(t, card.IsKind(w.signer.EndHold(t.Context()), card.Removed))
		held(w)
	})
	t.Run("another renewal came to its end", func(t *testing.T) {
		w := begin(t)
		w.person.during = func(context.Context) {
			h := w.hold(state.Reseat)
			h.ID = "another"
			require.NoError(t, w.dir.SetHold(h))
		}
		assert.True(t, card.IsKind(w.signer.EndHold(t.Context()), card.Busy))
		held(w)
	})
	t.Run("another process ended it", func(t *testing.T) {
		w := begin(t)
		w.person.during = func(context.Context) { require.NoError(t, w.dir.ReleaseHold(theHoldID, w.id)) }
		require.NoError(t, w.signer.EndHold(t.Context()))
		w.only()
	})
	t.Run("it could not be read", func(t *testing.T) {
		w := begin(t)
		w.person.during = func(context.Context) {
			require.NoError(t, os.WriteFile(filepath.Join(w.dir.Path(), "holds", w.id+".json"), []byte("x"), 0o600))
		}
		assert.ErrorContains(t, w.signer.EndHold(t.Context()), "is damaged")
	})
	t.Run("it could not be recorded", func(t *testing.T) {
		w := begin(t)
		w.rec.fail = errors.New("the disk is full")
		assert.ErrorContains(t, w.signer.EndHold(t.Context()), "could not be recorded, so the card stays on hold: the disk is full")
		held(w)
	})
	t.Run("it waits for signatures of other processes", func(t *testing.T) {
		w := begin(t)
		unlock, err := w.dir.Lock(t.Context(), w.certificate().SHA256, false)
		require.NoError(t, err)
		defer unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // as long as it likes to wait
		defer cancel()
		assert.ErrorIs(t, w.signer.EndHold(ctx), context.DeadlineExceeded)
		held(w)
	})
	t.Run("the login is made afresh", func(t *testing.T) {
		w := begin(t)
		require.NoError(t, w.signer.EndHold(t.Context()))
		var ops []testcard.Op
		for _, e := range w.sim.Trace() {
			if !e.After && (e.Op == testcard.OpLogin || e.Op == testcard.OpLogout) {
				ops = append(ops, e.Op)
			}
		}
		assert.Equal(t, []testcard.Op{testcard.OpLogout, testcard.OpLogin}, ops)
	})
}

func TestARecordOfTheJudgementWithoutTheHold(t *testing.T) {
	g := builtin(t)
	s := guard.Snapshot{Err: guard.ErrNoCard, Hold: guard.Hold{State: guard.HoldReseat}}
	v := onlyHold(g.Judge(s, allowedAt))
	require.Len(t, v.Findings, 1)
	assert.Equal(t, guard.OnHold, v.Findings[0].Reason)
	assert.Equal(t, guard.DecisionRefused, v.Decision)
	assert.Len(t, g.Judge(s, allowedAt).Findings, 2, "the card was not changed by it")
}
