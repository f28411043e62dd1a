package signing

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing/eps"
)

// hidingWorld is a world with a card that hides its private keys until the login,
// and more on it: certificates may be there without their keys.
func hidingWorld(t *testing.T, cfg testcard.Config, more ...testcard.Pair) *world {
	return newWorld(t, func(u *setUp) {
		cfg.Serial, cfg.Label = "c0ffee", "card one"
		u.config = cfg
		u.sim = newCard(t, cfg)
		for _, p := range more {
			require.NoError(t, u.sim.Provision(p))
		}
		u.token = func(t card.Token) card.Token { return hiding{Token: t} }
	})
}

// old is a signing certificate on the card whose key is not: left behind.
func old(t fataler) testcard.Pair {
	return testcard.Pair{ID: []byte{9}, Label: "old", Certificate: signingCertificate(t, otherKey()).Raw}
}

func TestAHiddenKeyThatWantsThePasscodeEachTime(t *testing.T) {
	w := hidingWorld(t, testcard.Config{AlwaysAuthenticate: true})
	for i, name := range []string{"one", "two", "three"} {
		_, err := Sign(t.Context(), w.signer, document(t, name))
		require.NoError(t, err)
		assert.Len(t, w.person.requests(), i+1)
	}
	assert.Equal(t, 1, w.readsBySigner(), "read again once, after the first login")
	w.seenHold(state.Reseat)
	w.reseat()
	require.NoError(t, w.signer.EndHold(t.Context()))
	_, err := Sign(t.Context(), w.signer, document(t, "four"))
	require.NoError(t, err)
	assert.Len(t, w.person.requests(), 5)
}

// readsBySigner counts the times that objects were read after a login.
func (w *world) readsBySigner() int {
	n, loggedIn := 0, false
	for _, e := range w.sim.Trace() {
		loggedIn = loggedIn || e.Op == testcard.OpLogin
		if loggedIn && e.Op == testcard.OpObjects && !e.After {
			n++
		}
	}
	return n
}

// Before the login an old certificate and the new one look alike: nobody guesses,
// and the login shows which has its key.
func TestOldAndNewAreToldApartByTheLogin(t *testing.T) {
	w := hidingWorld(t, testcard.Config{}, old(t))
	s, err := w.card.Snapshot(t.Context())
	require.NoError(t, err)
	assert.ErrorIs(t, s.Err, guard.ErrSeveralCertificates)
	assert.ErrorContains(t, s.Err, "hidden until the passcode is entered")
	for range 2 {
		signed, err := Sign(t.Context(), w.signer, document(t, "one"))
		require.NoError(t, err)
		assert.Equal(t, signingKey().Public(), signed.Certificate().PublicKey)
	}
	assert.Len(t, w.person.requests(), 1)
	for _, e := range w.only(EventSigned, EventSigned) {
		assert.Equal(t, guard.DecisionAllowed, e.Verdict)
	}
}

// Where no certificate would be permitted, nobody is asked for a passcode.
func TestOldAndNewThatAreBothRefused(t *testing.T) {
	w := hidingWorld(t, testcard.Config{}, old(t))
	w.setClock(refusedAt)
	_, err := Sign(t.Context(), w.signer, document(t, "one"))
	var undecided *guard.Undecided
	require.ErrorAs(t, err, &undecided)
	assert.True(t, undecided.Verdict.Has(guard.SeveralCertificates))
	assert.True(t, card.IsKind(err, card.Ambiguous))
	w.untouched()
	w.only(EventRefused)
}

// What was judged before the login is not what decides.
func TestTheCertificateThatTheLoginShowsIsJudged(t *testing.T) {
	good, err := theCA().Issue(testcard.Signing, otherKey().Public(), testcard.IssueOptions{
		Subject: testcard.Subject("123456789012"), NotBefore: time.Date(2020, 9, 1, 0, 0, 0, 0, time.UTC)})
	require.NoError(t, err)
	w := hidingWorld(t, testcard.Config{}, testcard.Pair{ID: []byte{9}, Label: "old", Certificate: good.Raw})
	w.setClock(refusedAt) // refuses the card's, and permits the one whose key is gone
	_, err = Sign(t.Context(), w.signer, document(t, "one"))
	var refused *guard.Refused
	require.ErrorAs(t, err, &refused)
	assert.True(t, refused.Verdict.Has(guard.Affected))
	assert.Zero(t, w.signed())
	assert.Len(t, w.person.requests(), 1)
	w.only(EventRefused)
}

// A document that the certificate does not suit is not signed with it either.
func TestTheCertificateThatTheLoginShowsMustSuit(t *testing.T) {
	w := hidingWorld(t, testcard.Config{}, old(t))
	var shown []*x509.Certificate
	_, err := Sign(t.Context(), w.signer, picky{document(t, "one"), func(x *x509.Certificate) error {
		shown = append(shown, x)
		return assert.AnError
	}})
	assert.ErrorIs(t, err, assert.AnError)
	require.Len(t, shown, 1)
	assert.Equal(t, signingKey().Public(), shown[0].PublicKey)
	assert.Zero(t, w.signed())
	w.only(EventNotSigned)
}

// picky is a document that looks at the certificate itself.
type picky struct {
	*eps.Prepared
	accepts func(*x509.Certificate) error
}

func (p picky) Accepts(x *x509.Certificate) error { return p.accepts(x) }

func TestWhatOnlyTheLoginShowsIsNoGround(t *testing.T) {
	foreign := newKey()
	for _, c := range []struct {
		name string
		make func(t *testing.T) *testcard.Card
		kind card.Kind
		has  guard.Reason
	}{
		{"a key that is not there", func(t *testing.T) *testcard.Card {
			sim, err := testcard.New(testcard.Config{Serial: "c0ffee", PIN: []byte(thePIN)})
			require.NoError(t, err)
			require.NoError(t, sim.Provision(old(t)))
			return sim
		}, card.NoCertificate, guard.NoSigningCertificate},
		{"the key of another", func(t *testing.T) *testcard.Card {
			sim, err := testcard.New(testcard.Config{Serial: "c0ffee", PIN: []byte(thePIN)})
			require.NoError(t, err)
			p := old(t)
			p.Key = foreign
			require.NoError(t, sim.Provision(p))
			return sim
		}, card.KeyMismatch, guard.CardUnreadable},
		{"two whole pairs", func(t *testing.T) *testcard.Card {
			sim := newCard(t, testcard.Config{Serial: "c0ffee"})
			p := old(t)
			p.Key = otherKey()
			require.NoError(t, sim.Provision(p))
			return sim
		}, card.Ambiguous, guard.SeveralCertificates},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(u *setUp) {
				u.sim = c.make(t)
				u.token = func(t card.Token) card.Token { return hiding{Token: t} }
			})
			for i := range 2 {
				_, err := Sign(t.Context(), w.signer, document(t, "one"))
				var undecided *guard.Undecided
				require.ErrorAs(t, err, &undecided)
				assert.True(t, undecided.Verdict.Has(c.has), "%v", err)
				assert.True(t, card.IsKind(err, c.kind), "%v", err)
				assert.Len(t, w.person.requests(), i+1)
			}
			assert.Zero(t, reached(w.sim, testcard.OpSign))
			w.only(EventRefused, EventRefused)
			w.person.wiped(t)
		})
	}
}

func TestAWrongPasscodeIsToldAsSuchWhateverIsHidden(t *testing.T) {
	w := hidingWorld(t, testcard.Config{}, old(t))
	w.person.enters(wrongPIN)
	_, err := Sign(t.Context(), w.signer, document(t, "one"))
	assert.True(t, card.IsKind(err, card.PINIncorrect), "%v", err)
	assert.Equal(t, "passcode_incorrect", w.only(EventNotSigned)[0].Cause)
}

func TestACardPulledWhileItsKeysAreLookedFor(t *testing.T) {
	w := hidingWorld(t, testcard.Config{})
	w.sim.Hook(func(e testcard.Event) error {
		if e.Op == testcard.OpObjects && !e.After && reached(w.sim, testcard.OpLogin) > 0 {
			w.sim.Remove()
		}
		return nil
	})
	_, err := Sign(t.Context(), w.signer, document(t, "one"))
	assert.True(t, card.IsKind(err, card.Absent), "%v", err)
	assert.Zero(t, reached(w.sim, testcard.OpSign))
	w.only(EventNotSigned)
	w.sim.Hook(nil)
	w.sim.Insert()
	_, err = Sign(t.Context(), w.signer, document(t, "two"))
	require.NoError(t, err)
}

// Keys that show without a login say nothing of those that do not.
func TestOneKeyThatShowsAmongHiddenOnes(t *testing.T) {
	showing := func(u *setUp, id []byte) {
		u.token = func(t card.Token) card.Token { return hiding{Token: t, but: id} }
	}
	t.Run("the authentication key", func(t *testing.T) {
		w := newWorld(t, func(u *setUp) { showing(u, testcard.AuthenticationID()) })
		assert.Equal(t, signingKey().Public(), w.shownCertificate().PublicKey)
		_, err := Sign(t.Context(), w.signer, document(t, "one"))
		require.NoError(t, err)
	})
	t.Run("the key of one of two whole pairs", func(t *testing.T) {
		w := newWorld(t, func(u *setUp) {
			u.sim = newCard(t, testcard.Config{Serial: "c0ffee"})
			p := old(t)
			p.Key = otherKey()
			require.NoError(t, u.sim.Provision(p))
			showing(u, testcard.SigningID())
		})
		assert.Equal(t, signingKey().Public(), w.shownCertificate().PublicKey, "the one whose key shows")
		_, err := Sign(t.Context(), w.signer, document(t, "one"))
		assert.True(t, card.IsKind(err, card.Ambiguous), "%v", err)
		assert.Zero(t, reached(w.sim, testcard.OpSign))
	})
}

func (w *world) shownCertificate() *x509.Certificate {
	s, err := w.card.Snapshot(w.t.Context())
	require.NoError(w.t, err)
	require.NoError(w.t, s.Err)
	return s.Certificate.X509()
}

// The hold ends with the certificate that the login proves, and no other.
func TestAHoldDoesNotEndWithAKeyThatIsNotThere(t *testing.T) {
	w := newWorld(t, func(u *setUp) {
		var err error
		u.sim, err = testcard.New(testcard.Config{Serial: "c0ffee", PIN: []byte(thePIN)})
		require.NoError(t, err)
		require.NoError(t, u.sim.Provision(old(t)))
		u.token = func(t card.Token) card.Token { return hiding{Token: t} }
	})
	w.seenHold(state.Reseat)
	w.reseat()
	until(t, w.card, holdIs(guard.HoldLogin))
	err := w.signer.EndHold(t.Context())
	assert.True(t, card.IsKind(err, card.NoCertificate), "%v", err)
	h, err := w.dir.Hold(w.id)
	require.NoError(t, err)
	assert.NotNil(t, h, "the hold is still there")
}
