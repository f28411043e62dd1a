package renewal

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
)

func TestTheWholeWay(t *testing.T) {
	w := newWorld(t)
	record := filepath.Join(filepath.Dir(w.dir.Path()), "record.jsonl")
	file, err := signing.OpenRecord(record)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, file.Close()) })
	w.rec.fail = func(e signing.Entry) error { return file.Record(context.Background(), e) }
	keys := []*rsa.PrivateKey{}
	source := testcard.CachedKeys()
	for range 3 { // authentication, old, new
		k, err := source(2048)
		require.NoError(t, err)
		keys = append(keys, k)
	}
	r := w.renewer()

	plan, err := r.Plan(t.Context())
	require.NoError(t, err)
	assert.Equal(t, Ready, plan.Outcome)
	assert.Contains(t, plan.String(), "takes: about 3 minutes")
	assert.Empty(t, w.person.take(), "a plan asks for no passcode")

	var events []Progress
	res, err := r.Renew(t.Context(), func(p Progress) { events = append(events, p) })
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome)
	assert.Equal(t, StepReseat, res.Step)
	assert.Equal(t, []signing.Purpose{signing.ToRenew}, w.person.take())
	progressed(t, events, true)
	renewed := w.newAlone()
	assert.Equal(t, renewed.NotBefore.UTC(), res.New.NotBefore)
	require.NotNil(t, w.hold())
	assert.Equal(t, state.Reseat, w.hold().Phase)
	assert.True(t, w.refused().Has(guard.OnHold))
	assert.Zero(t, w.sim.Signatures(testcard.SigningID()), "the old signing key takes part in nothing")

	// Called again it neither works on the card nor asks.
	before := len(w.ops(changes...))
	again, err := r.Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, again.Outcome)
	assert.Empty(t, w.person.take())
	assert.Len(t, w.ops(changes...), before)

	w.reseat()
	res, err = r.Finish(t.Context(), w.signer())
	require.NoError(t, err)
	assert.Equal(t, Completed, res.Outcome)
	assert.Equal(t, StepDone, res.Step)
	assert.Equal(t, []signing.Purpose{signing.ToReseat}, w.person.take(), "the passcode is asked once")
	assert.Nil(t, w.hold())
	w.mustSign()
	assert.Equal(t, []signing.Event{
		signing.EventHoldBegun, signing.EventJudgedNew, signing.EventRenewed, signing.EventRefused, signing.EventHoldEnded, signing.EventSigned,
	}, w.rec.events())
	id := w.journal()[0].Renewal
	for _, e := range w.rec.entries {
		assert.NotEmpty(t, e.ID)
		switch e.Event {
		case signing.EventHoldBegun, signing.EventJudgedNew, signing.EventRenewed, signing.EventHoldEnded:
			assert.Equal(t, id, e.Renewal, e.Event)
			assert.True(t, e.Simulated)
			assert.Equal(t, w.now, e.At)
		}
		wanted := renewed
		if e.Event == signing.EventHoldBegun {
			wanted = w.old
			assert.Equal(t, "cards-of-may-2031", e.Notices[0].ID)
		}
		assert.Equal(t, fmt.Sprintf("%x", wanted.SerialNumber), e.Serial, e.Event)
	}

	w.person.take()
	again, err = r.Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, NotNeeded, again.Outcome)
	assert.Empty(t, w.person.take())
	assert.Equal(t, 1, w.ca.asked())

	es := w.journal()
	assert.Equal(t, StepDone, es[len(es)-1].Step)
	noSecrets(t, filepath.Dir(w.dir.Path()), keys)
}

// progressed asserts that events are those of one run, in which the new pair is made
// beside the old one: never back, from the first step to the last.
func progressed(t *testing.T, events []Progress, whole bool) {
	t.Helper()
	require.NotEmpty(t, events)
	share, index := 0.0, 0
	for _, p := range events {
		assert.GreaterOrEqual(t, p.Share, share, p.Step)
		assert.LessOrEqual(t, p.Share, 1.0, p.Step)
		assert.GreaterOrEqual(t, p.Index, index, p.Step)
		assert.GreaterOrEqual(t, p.Remaining, time.Duration(0), p.Step)
		assert.GreaterOrEqual(t, p.Elapsed, time.Duration(0))
		assert.Equal(t, 11, p.Of)
		assert.Equal(t, Steps[p.Index-1], p.Step)
		assert.Equal(t, slices.Contains([]Step{StepKey, StepWrite, StepSwitch, StepRetire}, p.Step), p.Uninterrupted, p.Step)
		assert.NotEmpty(t, p.Text, p.Step)
		share, index = p.Share, p.Index
	}
	assert.InDelta(t, 1, share, 1e-9)
	assert.Equal(t, 11, index)
	if whole {
		assert.Zero(t, events[0].Share)
		assert.Len(t, events, 22)
	}
}

// noSecrets looks for the passcode and for private keys in every file of a folder.
func noSecrets(t *testing.T, dir string, keys []*rsa.PrivateKey) {
	t.Helper()
	needles := map[string][]byte{"the passcode": []byte(thePIN), "the passcode in base64": []byte(base64.RawStdEncoding.EncodeToString([]byte(thePIN)))}
	for i, k := range keys {
		for name, n := range map[string][]byte{"d": k.D.Bytes(), "p": k.Primes[0].Bytes(), "q": k.Primes[1].Bytes()} {
			for at := range 3 { // base64 depends on where the bytes stand
				needles[fmt.Sprintf("%s of key %d in base64 at %d", name, i, at)] = []byte(base64.RawStdEncoding.EncodeToString(n[at : at+60]))
			}
			needles[fmt.Sprintf("%s of key %d", name, i)] = n
			needles[fmt.Sprintf("%s of key %d in hexadecimal", name, i)] = []byte(hex.EncodeToString(n))
			needles[fmt.Sprintf("%s of key %d in digits", name, i)] = []byte(k.D.String())
		}
	}
	files := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		for name, n := range needles {
			assert.False(t, bytes.Contains(b, n), "%s is in %s", name, path)
		}
		return err
	}))
	assert.Greater(t, files, 2)
}

func TestACardThatNothingIsWrongWithIsLeftAlone(t *testing.T) {
	w := newWorld(t, func(u *setUp) { u.good = true })
	res, err := w.renewer().Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, NotNeeded, res.Outcome)
	assert.Empty(t, w.person.take())
	assert.Empty(t, w.ops(changes...))
	assert.Nil(t, w.hold())
	w.mustSign()
}

func TestTheHoldIsOnDiskBeforeTheCardIsChanged(t *testing.T) {
	w := newWorld(t)
	n := 0
	w.sim.Hook(func(e testcard.Event) error {
		if !e.After && slices.Contains(changes, e.Op) {
			n++
			h := w.hold()
			if assert.NotNil(t, h, e.Op) {
				assert.Equal(t, state.Renewing, h.Phase, e.Op)
			}
		}
		return nil
	})
	w.mustRenew()
	assert.GreaterOrEqual(t, n, 4)
}

func TestAHoldSurvivesARestartAndARemovalThatNobodySaw(t *testing.T) {
	w := newWorld(t)
	w.mustRenew()
	w.restart()
	assert.True(t, w.refused().Has(guard.OnHold))
	require.NoError(t, w.card.Close())
	w.sim.Remove()
	w.sim.Insert()
	w.restart()
	assert.True(t, w.refused().Has(guard.OnHold))
	w.reseat()
	res, err := w.renewer().Finish(t.Context(), w.signer())
	require.NoError(t, err)
	assert.Equal(t, Completed, res.Outcome)
	w.mustSign()
}

func TestALostHoldIsPutBackBeforeTheCardIsChangedFurther(t *testing.T) {
	w := newWorld(t)
	w.sim.Hook(testcard.On(testcard.OpWriteCertificate, false, 1, func() error { return errors.New("broken") }))
	res, err := w.renewer().Renew(t.Context(), nil)
	ends(t, res, err, Resumable)
	require.NoError(t, w.dir.ReleaseHold(w.hold().ID, w.id))

	w.sim.Hook(testcard.On(testcard.OpWriteCertificate, false, 1, func() error {
		assert.NotNil(t, w.hold())
		return nil
	}))
	w.mustRenew()
	assert.Equal(t, state.Reseat, w.hold().Phase)

	w = newWorld(t)
	w.mustBegin(StepKey)
	require.NoError(t, w.dir.ReleaseHold(w.hold().ID, w.id))
	w.sim.Hook(testcard.On(testcard.OpDestroy, false, 1, func() error {
		assert.NotNil(t, w.hold())
		return nil
	}))
	res, err = w.renewer().Abandon(t.Context())
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome)
	w.oldAlone()
}

func TestARecordThatFailsStopsTheRenewalBeforeTheCardIsTouchedFurther(t *testing.T) {
	for _, x := range []struct {
		event signing.Event
		after []testcard.Op // what the card may have done until then
	}{
		{signing.EventHoldBegun, nil},
		{signing.EventJudgedNew, []testcard.Op{testcard.OpGenerate}},
	} {
		t.Run(string(x.event), func(t *testing.T) {
			w := newWorld(t)
			broken := errors.New("the disk is full")
			w.rec.fail = func(e signing.Entry) error {
				if e.Event == x.event {
					return broken
				}
				return nil
			}
			res, err := w.renewer().Renew(t.Context(), nil)
			ends(t, res, err, Resumable, "could not be recorded")
			assert.ErrorIs(t, err, broken)
			for _, e := range w.ops(changes...) {
				assert.Contains(t, x.after, e.Op)
			}
			w.oldIsThere()
			w.rec.fail = nil
			w.mustRenew()
		})
	}
}

func TestThePasscode(t *testing.T) {
	for _, x := range []struct {
		name   string
		set    func(*world)
		kind   signing.CardErrorKind
		left   int // tries, afterwards
		remedy advisory.RemedyKind
		says   string
	}{
		{"wrong", func(w *world) { w.person.pin = "zyxzyx" }, signing.PINIncorrect, 2, advisory.Renew, "2 tries left"},
		{"too short", func(w *world) { w.person.pin = "zy" }, signing.PINLength, 3, advisory.Renew, "no try was spent"},
		{"cancelled", func(w *world) { w.person.err = errors.New("the person closed the window") }, signing.PINCancelled, 3, advisory.Renew, "no passcode was entered"},
		{"last try, nobody says yes", func(w *world) { w.spend(2) }, signing.PINLastTry, 1, advisory.RegistrationAuthority, "only one try is left"},
		{"last try, wrong", func(w *world) { w.spend(2); w.person.yes = true; w.person.pin = "zyxzyx" }, signing.PINIncorrect, 0, advisory.RegistrationAuthority, "now locked"},
		{"locked", func(w *world) { w.spend(3) }, signing.PINLocked, 0, advisory.RegistrationAuthority, "locked"},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t)
			x.set(w)
			res, err := w.renewer().Renew(t.Context(), nil)
			e := ends(t, res, err, Resumable, "The card was not changed.", x.says)
			var ce *signing.CardError
			require.ErrorAs(t, e, &ce)
			assert.Equal(t, x.kind, ce.Kind)
			if x.kind == signing.PINIncorrect {
				assert.Equal(t, x.left, ce.TriesLeft)
			}
			assert.Equal(t, x.left, w.sim.TriesLeft())
			assert.Equal(t, x.remedy, res.Remedies[0].Kind)
			assert.Empty(t, res.Step, "nothing was begun")
			assert.LessOrEqual(t, len(w.person.take()), 1)
			assert.NotContains(t, err.Error(), "zyxzyx")

			assert.Empty(t, w.ops(changes...))
			assert.Zero(t, w.ca.asked())
			assert.Nil(t, w.hold())
			assert.Empty(t, w.rec.events())
			_, err = os.Stat(journalPath(w.dir.Path(), w.id))
			assert.ErrorIs(t, err, fs.ErrNotExist)
		})
	}
}

// spend enters wrong passcodes.
func (w *world) spend(n int) {
	s, err := w.sim.Token().Open(context.Background())
	require.NoError(w.t, err)
	defer s.Close()
	for range n {
		require.Error(w.t, s.Login(context.Background(), []byte("zyxzyx")))
	}
}

func TestACardThatWantsALoginForEachSignatureIsAskedForOne(t *testing.T) {
	w := newWorld(t, func(u *setUp) { u.card.AlwaysAuthenticate = true })
	w.mustRenew()
	assert.Len(t, w.person.take(), 3)
	w.newAlone()
}

func TestACardThatShowsNoPublicKeysIsRenewed(t *testing.T) {
	w := newWorld(t, func(u *setUp) { u.card.NoPublicKeys = true })
	w.mustRenew()
	w.newAlone()
}

func TestAStateFolderThatCannotBeWrittenIsToldBeforeAnythingIsTouched(t *testing.T) {
	for _, x := range []struct {
		name, blocked string
		asks          bool
	}{
		{"the folder", "", false},
		{"its journals", "journals", true},
		{"its holds", "holds", true},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t)
			file := filepath.Join(w.dir.Path(), x.blocked)
			require.NoError(t, os.RemoveAll(file))
			require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o777))
			require.NoError(t, os.WriteFile(file, nil, 0o600)) // a file where the folder should be
			res, err := w.renewer().Renew(t.Context(), nil)
			require.Error(t, err)
			ends(t, res, err, res.Outcome, file)
			assert.Contains(t, []Outcome{Refusal, Resumable}, res.Outcome)
			assert.Empty(t, w.ops(changes...))
			assert.Zero(t, w.ca.asked())
			assert.NotContains(t, res.Text, "cannot sign until", "the card is on no hold")

			require.NoError(t, os.Remove(file))
			w.mustRenew()
		})
	}
}

func TestOneRenewalOfACardAtATime(t *testing.T) {
	w := newWorld(t)
	first, second := w.renewer(), w.renewer()
	tried := false
	w.ca.answer = func(_ int, r Request) (Answer, error) {
		tried = true
		res, err := second.Renew(t.Context(), nil)
		e := ends(t, res, err, Refusal, "another program", fmt.Sprintf("process %d", os.Getpid()))
		assert.ErrorIs(t, e, state.ErrBusy)
		res, err = second.Abandon(t.Context())
		ends(t, res, err, Refusal, "another program")
		return w.ca.issue(r)
	}
	res, err := first.Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome)
	assert.True(t, tried)
	w.newAlone()
}

func TestARenewalThatWaitedForTheLockLooksAtTheCardAgain(t *testing.T) {
	w := newWorld(t)
	r := w.renewer()
	// Between its first look and the lock, another process renews and finishes.
	w.sim.Hook(testcard.On(testcard.OpObjects, true, 1, func() error {
		w.sim.Hook(nil)
		w.mustRenew()
		h := w.hold()
		require.NoError(t, w.dir.ReleaseHold(h.ID, w.id))
		return nil
	}))
	res, err := r.Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, NotNeeded, res.Outcome)
	assert.Equal(t, 1, w.ca.asked())
	assert.Len(t, w.person.take(), 1, "by the other process")
	w.newAlone()
}

func TestAKeyThatDoesNotFitItsCertificateIsSeenAfterTheLogin(t *testing.T) {
	w := newWorld(t, func(u *setUp) { u.card.NoPublicKeys = true })
	keys := testcard.CachedKeys()
	for range 4 {
		keys(2048)
	}
	other, err := keys(2048)
	require.NoError(t, err)
	sim, err := testcard.New(testcard.Config{Serial: "c0ffee", PIN: []byte(thePIN), NoPublicKeys: true})
	require.NoError(t, err)
	auth, _, err := sim.ProvisionPrescriber(theCA(), testcard.Prescriber{UID: uid, NotBefore: issued})
	require.NoError(t, err)
	require.NotNil(t, auth)
	s, err := sim.Token().Open(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Login(t.Context(), []byte(thePIN)))
	require.NoError(t, s.WriteCertificate(t.Context(), testcard.SigningID(), "other", certificate(t, other, issued).Raw))
	require.NoError(t, s.Close())
	w.sim = sim
	w.restart()

	res, err := w.renewer().Renew(t.Context(), nil)
	e := ends(t, res, err, Refusal)
	var dontKnow *guard.Undecided
	assert.ErrorAs(t, e, &dontKnow)
	assert.Zero(t, w.ca.asked())
	assert.Nil(t, w.hold())
}

func TestRenewStopsAtTheNextSafePoint(t *testing.T) {
	t.Run("while the authority is asked", func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		w.ca.answer = func(int, Request) (Answer, error) { cancel(); return Answer{}, ctx.Err() }
		res, err := w.renewer().Renew(ctx, nil)
		e := ends(t, res, err, Resumable, "on request")
		assert.ErrorIs(t, e, context.Canceled)
		assert.Equal(t, StepEnrol, res.Step)
		w.ca.answer = nil
		w.mustRenew()
		assert.Equal(t, w.ca.requests[0].CSR, w.ca.requests[1].CSR)
		assert.Equal(t, w.ca.requests[0].ID, w.ca.requests[1].ID)
	})
	t.Run("the card's part of a step is not broken off", func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		w.sim.Hook(testcard.On(testcard.OpGenerate, false, 1, func() error { cancel(); return nil }))
		res, err := w.renewer().Renew(ctx, nil)
		ends(t, res, err, Resumable, "on request")
		assert.Equal(t, StepRequest, res.Step)
		assert.Len(t, w.ops(testcard.OpGenerate), 1)
		w.mustRenew()
		assert.Len(t, w.ops(testcard.OpGenerate), 1)
	})
	t.Run("before it began", func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		res, err := w.renewer().Renew(ctx, nil)
		ends(t, res, err, Resumable, "on request")
		assert.Empty(t, w.ops(testcard.OpLogin))
		assert.Nil(t, w.hold())
	})
}

func TestProgressOfARunThatGoesOnCountsWhatWasDone(t *testing.T) {
	w := newWorld(t)
	w.ca.answer = func(int, Request) (Answer, error) { return Answer{}, &EnrolError{Kind: Unavailable, Status: 503} }
	var events []Progress
	show := func(p Progress) { events = append(events, p) }
	res, err := w.renewer().Renew(t.Context(), show)
	ends(t, res, err, Resumable)
	last := events[len(events)-1]
	assert.Equal(t, StepEnrol, last.Step)
	events = nil
	w.ca.answer = nil
	_, err = w.renewer().Renew(t.Context(), show)
	require.NoError(t, err)
	assert.Equal(t, StepEnrol, events[0].Step)
	assert.InDelta(t, last.Share, events[0].Share, 1e-9)
	progressed(t, events, false)
}

func TestAnAbsentCard(t *testing.T) {
	w := newWorld(t)
	r := w.renewer()
	w.sim.Remove()
	res, err := r.Renew(t.Context(), nil)
	e := ends(t, res, err, Resumable)
	assert.True(t, card.IsKind(e, card.Absent))
	assert.Contains(t, res.Remedies[0].Text, "into the reader")
	_, err = r.Plan(t.Context())
	assert.True(t, card.IsKind(err, card.Absent))
	res, err = r.Abandon(t.Context())
	ends(t, res, err, Resumable)
}
