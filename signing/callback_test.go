package signing

import (
	"context"
	"crypto/x509"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/signing/eps"
)

// looks is a document of another module, whose code looks at the certificate.
type looks struct {
	*eps.Prepared
	f func()
}

func (l looks) Accepts(*x509.Certificate) error {
	l.f()
	return nil
}

// Whatever takes its time while others are asked, the guard's word is the last
// before the key is used.
func TestTheGuardIsAskedAfterEverybodyElse(t *testing.T) {
	for _, loggedIn := range []bool{false, true} {
		w := newWorld(t)
		if loggedIn {
			_, err := Sign(t.Context(), w.signer, document(t, "before"))
			require.NoError(t, err)
		}
		before := w.signed()
		_, err := Sign(t.Context(), w.signer, Document[*eps.Signed](looks{document(t, "x"), func() { w.setClock(refusedAt) }}))
		var refused *guard.Refused
		assert.ErrorAs(t, err, &refused)
		assert.Equal(t, before, w.signed(), "logged in: %v", loggedIn)
	}
}

func TestADocumentMayCloseTheSigner(t *testing.T) {
	w := newWorld(t)
	_, err := Sign(t.Context(), w.signer, Document[*eps.Signed](looks{document(t, "x"), func() { _ = w.signer.Close() }}))
	assert.ErrorIs(t, err, errClosed)
	assert.Zero(t, w.signed())
	_, err = Sign(t.Context(), w.signer, document(t, "y"))
	assert.NoError(t, err)
}

// Close ends the signature that waits behind the one under way, too: it would ask
// somebody for a passcode, and Close would wait for that.
func TestCloseEndsTheSignaturesThatWait(t *testing.T) {
	w := newWorld(t)
	asked := make(chan struct{}, 2)
	w.person.during = func(ctx context.Context) {
		asked <- struct{}{}
		<-ctx.Done()
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 2)
	sign := func(name string) { _, err := Sign(ctx, w.signer, document(t, name)); done <- err }
	go sign("a")
	<-asked
	go sign("b")
	for range 1000 { // it most likely waits by then; when not, it is asked after Close
		runtime.Gosched()
	}
	require.NoError(t, w.signer.Close())
	assert.ErrorIs(t, <-done, errClosed)
	cancel()
	assert.Error(t, <-done)
}

// The last try may become the last while the prompt is open.
func TestALastTryThatOthersLeftWantsAYes(t *testing.T) {
	w := newWorld(t) // whose person says no
	w.person.enters(wrongPIN)
	other := w.sign(w.open(w.sim.Token()))
	var once atomic.Bool
	w.person.during = func(context.Context) {
		if !once.CompareAndSwap(false, true) {
			return
		}
		for range 2 { // in another window
			_, err := Sign(context.Background(), other, document(t, "b"))
			assert.True(t, card.IsKind(err, card.PINIncorrect), "%v", err)
		}
	}
	_, err := Sign(t.Context(), w.signer, document(t, "a"))
	assert.True(t, card.IsKind(err, card.LastTry), "%v", err)
	assert.Equal(t, 1, w.sim.TriesLeft())
}

func TestNothingIsNoTrap(t *testing.T) {
	w := newWorld(t)
	assert.Error(t, (&Record{}).Record(t.Context(), Entry{}))
	assert.Error(t, (*Record)(nil).Record(t.Context(), Entry{}))
	assert.NoError(t, (&Record{}).Close())
	assert.NoError(t, (*Record)(nil).Close())
	assert.Nil(t, (*Card)(nil).Changed())
	s, err := New(w.card, w.signer.g, (*Record)(nil))
	require.NoError(t, err)
	_, err = Sign(t.Context(), s, document(t, "x"))
	assert.ErrorIs(t, err, errNoRecord, "what cannot be recorded is not released")
	var c *guard.Certificate
	assert.Nil(t, c.X509())
	assert.Zero(t, c.Info())
}

// A hold that may not be ended yet is a refusal like any other.
func TestARefusedEndOfAHoldIsRecorded(t *testing.T) {
	w := newWorld(t)
	w.seenHold(state.Reseat)
	var refused *guard.Refused
	require.ErrorAs(t, w.signer.EndHold(t.Context()), &refused)
	e := w.only(EventRefused)
	require.Len(t, e, 1)
	assert.Contains(t, e[0].Reasons, guard.OnHold)
}
