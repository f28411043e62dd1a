package signing

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
)

// namedHold is hold with the certificates of the card, as a renewal sets it.
func (w *world) namedHold(phase state.Phase) state.Hold {
	w.t.Helper()
	h := state.Hold{ID: theHoldID, Card: w.id, Certificates: []string{w.certificate().SHA256}, Serial: "c0ffee", Phase: phase, Since: refusedAt}
	if phase == state.Reseat {
		h.Expect = w.certificate().SHA256
	}
	require.NoError(w.t, w.dir.SetHold(h))
	return h
}

func TestACardOnHoldSignsThroughNoModule(t *testing.T) {
	for phase, reason := range map[state.Phase]guard.Reason{state.Renewing: guard.OnHoldRenewal, state.Reseat: guard.OnHold} {
		t.Run(string(phase), func(t *testing.T) {
			w := newWorld(t)
			other := w.open(otherwise(w.sim.Token()))
			signer := w.sign(other)
			w.namedHold(phase)

			_, err := Sign(t.Context(), signer, document(t, "one"))
			refusedFor(t, err, reason)
			refusedFor(t, signer.EndHold(t.Context()), reason)
			_, err = Sign(t.Context(), w.sign(w.open(otherwise(w.sim.Token()))), document(t, "one"))
			refusedFor(t, err, reason)
			card.Refresh(other)
			_, err = builtin(t).CheckAt(t.Context(), other, allowedAt)
			refusedFor(t, err, reason)
			elsewhere := w.elsewhere(ask{Do: "sign", Otherwise: true})
			assert.Contains(t, elsewhere.Reasons, reason)
			assert.Zero(t, elsewhere.Signed)

			list, err := Cards(t.Context(), CardsConfig{Readers: []*Reader{card.NewReader(otherwise(w.sim.Token()), w.dir.Path())}})
			require.NoError(t, err)
			assert.Equal(t, "b8c0ffee", list[0].Serial)
			assert.True(t, list[0].Verdict.Has(reason))
			w.untouched()
		})
	}
}

func TestAHoldEndsThroughAnotherModuleByTheSameRules(t *testing.T) {
	w := newWorld(t)
	other := w.open(otherwise(w.sim.Token()))
	signer := w.sign(other)
	h := w.namedHold(state.Reseat)
	card.Refresh(other)
	w.reseat()
	until(t, other, holdIs(guard.HoldLogin))

	w.person.enters(wrongPIN)
	assert.True(t, card.IsKind(signer.EndHold(t.Context()), card.PINIncorrect))
	w.person.enters(thePIN)
	h.Expect = "0123"
	require.NoError(t, w.dir.SetHold(h))
	refusedFor(t, signer.EndHold(t.Context()), guard.OnHold) // another certificate is wanted
	h.Expect = w.certificate().SHA256
	require.NoError(t, w.dir.SetHold(h))
	require.NoError(t, signer.EndHold(t.Context()))
	left, err := os.ReadDir(filepath.Join(w.dir.Path(), "holds"))
	require.NoError(t, err)
	assert.Empty(t, left, "it ended under all names")

	all := w.rec.all()
	e := all[len(all)-1]
	assert.Equal(t, EventHoldEnded, e.Event)
	assert.Equal(t, theHoldID, e.Renewal)
	assert.Equal(t, "b8c0ffee", e.Card)
	assert.Equal(t, "held_by_certificate", e.Cause)
	for _, s := range []*Signer{w.signer, signer} {
		_, err = Sign(t.Context(), s, document(t, "one"))
		require.NoError(t, err)
	}
}

// A renewal takes the locks of all the card's names to set its hold: it does not get
// them during a signature through another module.
func TestNoHoldBeginsWhileAnotherModuleSigns(t *testing.T) {
	w := newWorld(t)
	signer := w.sign(w.open(otherwise(w.sim.Token())))
	ended, cancel := context.WithCancel(t.Context())
	cancel() // a lock that is free is given all the same
	names := []string{w.id, w.certificate().SHA256}
	looked := false
	w.sim.Hook(testcard.On(testcard.OpSign, false, 1, func() error {
		looked = true
		_, err := w.dir.LockAll(ended, names...)
		assert.ErrorIs(t, err, context.Canceled, "a signature is under way")
		return nil
	}))
	_, err := Sign(t.Context(), signer, document(t, "one"))
	require.NoError(t, err)
	assert.True(t, looked)
	unlock, err := w.dir.LockAll(ended, names...)
	require.NoError(t, err)
	unlock()
}

// A signature that the login showed to be by another certificate is excluded by that
// one's lock.
func TestTheLockIsOfTheCertificateThatSigns(t *testing.T) {
	w := hidingWorld(t, testcard.Config{}, old(t))
	sum := sumOn(t, w.sim.Token(), testcard.SigningID())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		looked := false
		w.sim.Hook(testcard.On(testcard.OpSign, false, 1, func() error {
			looked = true
			_, err := w.dir.LockAll(ended, sum)
			assert.ErrorIs(t, err, context.Canceled)
			return nil
		}))
		_, err := Sign(t.Context(), w.signer, document(t, "one"))
		require.NoError(t, err)
		assert.True(t, looked)
	}
}

// sumOn is the SHA-256 of the certificate with a CKA_ID.
func sumOn(t *testing.T, token card.Token, id []byte) string {
	s, err := token.Open(t.Context())
	require.NoError(t, err)
	defer s.Close()
	objects, err := s.Objects(t.Context())
	require.NoError(t, err)
	for _, o := range objects {
		if o.Class == card.CertificateObject && bytes.Equal(o.ID, id) {
			return fmt.Sprintf("%x", sha256.Sum256(o.DER))
		}
	}
	require.FailNow(t, "no such certificate", "%x", id)
	return ""
}

func TestACardWithoutASerialNumberIsReseated(t *testing.T) {
	for name, hold := range map[string]func(*world) state.Hold{
		"by its certificate": func(w *world) state.Hold {
			return state.Hold{Card: "any", Certificates: []string{w.certificate().SHA256}}
		},
		"by the name of an earlier version": func(*world) state.Hold { return state.Hold{Card: idOf("")} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(u *setUp) { u.token = serialless })
			h := hold(w)
			h.ID, h.Phase, h.Since, h.Expect = theHoldID, state.Reseat, refusedAt, w.certificate().SHA256
			require.NoError(t, w.dir.SetHold(h))
			card.Refresh(w.card)
			_, err := builtin(t).CheckAt(t.Context(), w.card, allowedAt)
			refusedFor(t, err, guard.OnHold) // as the Signer says
			_, err = Sign(t.Context(), w.signer, document(t, "one"))
			refusedFor(t, err, guard.OnHold)
			list, err := Cards(t.Context(), CardsConfig{Readers: []*Reader{card.NewReader(serialless(w.sim.Token()), w.dir.Path())}})
			require.NoError(t, err)
			assert.Equal(t, guard.HoldReseat, list[0].Hold.State)
			assert.Equal(t, "card one", list[0].Label)

			w.reseat()
			until(t, w.card, holdIs(guard.HoldLogin))
			_, err = Sign(t.Context(), w.signer, document(t, "one"))
			require.NoError(t, err)
		})
	}
}

func TestTwoCardsWithoutSerialNumbersShareNothing(t *testing.T) {
	w := newWorld(t, func(u *setUp) { u.token = serialless })
	sim, err := testcard.New(testcard.Config{Label: "card two", PIN: []byte(thePIN)})
	require.NoError(t, err)
	_, _, err = sim.ProvisionPrescriber(theCA(), testcard.Prescriber{
		UID: "123456789013", NotBefore: issued, AuthenticationKey: newKey(), SigningKey: otherKey(),
	})
	require.NoError(t, err)
	second := w.sign(w.open(serialless(sim.Token())))
	first := namesOf(t, serialless(w.sim.Token()))
	require.NoError(t, w.dir.SetHold(state.Hold{ID: theHoldID, Card: first[0], Certificates: []string{w.certificate().SHA256}, Phase: state.Renewing, Since: refusedAt}))

	_, err = Sign(t.Context(), w.signer, document(t, "one"))
	refusedFor(t, err, guard.OnHoldRenewal)
	unlock, err := w.dir.LockAll(t.Context(), first[0], w.certificate().SHA256)
	require.NoError(t, err)
	defer unlock()
	_, err = Sign(t.Context(), second, document(t, "one"))
	require.NoError(t, err)
}

// namesOf are the names by which a card's hold is found.
func namesOf(t *testing.T, token card.Token) []string {
	s, err := token.Open(t.Context())
	require.NoError(t, err)
	defer s.Close()
	info, certificates, err := readCard(t.Context(), s)
	require.NoError(t, err)
	return certificates.Names(info)
}

// A damaged file stops the card that goes by its name, through whatever module where
// that is a certificate's, and no other card.
func TestADamagedHoldStopsItsOwnCardAlone(t *testing.T) {
	w := newWorld(t)
	other := w.sign(w.open(otherwise(w.sim.Token())))
	w.namedHold(state.Renewing)
	damage := func(name string) {
		require.NoError(t, os.WriteFile(filepath.Join(w.dir.Path(), "holds", name+".json"), []byte("?"), 0o600))
	}
	signs := func(s *Signer) guard.Reason {
		_, err := Sign(t.Context(), s, document(t, "one"))
		var no *guard.Refused
		var unknown *guard.Undecided
		switch {
		case errors.As(err, &unknown):
			return unknown.Verdict.Findings[0].Reason
		case errors.As(err, &no):
			return no.Verdict.Findings[0].Reason
		}
		require.NoError(t, err)
		return 0
	}
	damage(w.id)
	assert.Equal(t, guard.HoldUnknown, signs(w.signer))
	assert.Equal(t, guard.OnHoldRenewal, signs(other), "it is on hold by its certificate")
	damage(w.certificate().SHA256)
	assert.Equal(t, guard.HoldUnknown, signs(other))
	w.untouched()

	_, err := Sign(t.Context(), w.sign(w.open(newCard(t, testcard.Config{Serial: "decade"}).Token())), document(t, "one"))
	require.NoError(t, err)
}
