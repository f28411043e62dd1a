package signing

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing/eps"
)

func documents(t *testing.T, n int) []*eps.Prepared {
	t.Helper()
	var ds []*eps.Prepared
	for i := range n {
		ds = append(ds, document(t, fmt.Sprint("document ", i)))
	}
	return ds
}

// split tells how the outcomes of a batch divide.
func split[T any](outcomes []Outcome[T]) (signed, failed, notReached []int) {
	for i, o := range outcomes {
		var not *NotReached
		switch {
		case o.Err == nil:
			signed = append(signed, i)
		case errors.As(o.Err, &not):
			notReached = append(notReached, i)
		default:
			failed = append(failed, i)
		}
	}
	return signed, failed, notReached
}

func TestABatchIsSignedUnderOnePasscode(t *testing.T) {
	w := newWorld(t)
	ds := documents(t, 20)
	var told []int
	outcomes, err := SignEach(t.Context(), w.signer, ds, func(i int, o Outcome[*eps.Signed]) {
		told = append(told, i)
		assert.NoError(t, o.Err)
	})
	require.NoError(t, err)
	require.Len(t, outcomes, 20)
	require.Len(t, told, 20)
	for i, o := range outcomes {
		assert.Equal(t, i, told[i])
		assert.True(t, verified(t, o.Signed, ds[i]), "%d is the signature of another", i)
	}
	assert.Len(t, w.person.requests(), 1)
	assert.Equal(t, 20, w.signed())
	entries := w.rec.all()
	require.Len(t, entries, 20)
	sums := make(map[string]bool)
	for _, e := range entries {
		assert.Equal(t, EventSigned, e.Event)
		sums[e.SHA256] = true
	}
	assert.Len(t, sums, 20)
}

func TestABatchOfNothingIsSigned(t *testing.T) {
	w := newWorld(t)
	outcomes, err := SignEach(t.Context(), w.signer, []*eps.Prepared(nil), nil)
	require.NoError(t, err)
	assert.Empty(t, outcomes)
	w.untouched()
}

func TestACardPulledInABatchLeavesAClearSplit(t *testing.T) {
	for _, c := range []struct {
		name string
		pull func(w *world)
		kind card.Kind
	}{
		{"before a signature", func(w *world) {
			w.sim.Hook(testcard.On(testcard.OpSign, false, 4, func() error { w.sim.Remove(); return nil }))
		}, card.Absent},
		{"after a signature was made, before it was released", func(w *world) {
			w.sim.Hook(testcard.On(testcard.OpSign, true, 4, func() error { w.sim.Remove(); return nil }))
		}, card.Absent},
		{"and put back at once", func(w *world) {
			w.sim.Hook(testcard.On(testcard.OpSign, false, 4, func() error { w.reseat(); return nil }))
		}, card.Removed},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.pull(w)
			ds := documents(t, 10)
			outcomes, err := SignEach(t.Context(), w.signer, ds, nil)
			signed, failed, notReached := split(outcomes)
			assert.Equal(t, []int{0, 1, 2}, signed)
			assert.Equal(t, []int{3}, failed)
			assert.Equal(t, []int{4, 5, 6, 7, 8, 9}, notReached)
			var be *BatchError
			require.ErrorAs(t, err, &be)
			assert.Equal(t, 3, be.Signed)
			assert.Equal(t, 10, be.Documents)
			assert.ErrorContains(t, err, "3 of 10 documents were signed")
			assert.True(t, card.IsKind(err, c.kind), "%v", err)
			assert.Nil(t, outcomes[3].Signed)
			w.only(EventSigned, EventSigned, EventSigned, EventNotSigned)

			w.sim.Insert()
			again, err := SignEach(t.Context(), w.signer, ds[3:], nil)
			require.NoError(t, err)
			assert.True(t, verified(t, again[0].Signed, ds[3]))
			assert.Len(t, w.person.requests(), 2)
		})
	}
}

// Between two signatures nothing is under way that could fail; the batch ends all the
// same, because what comes after is another passcode entry.
func TestACardReseatedBetweenTwoSignaturesEndsTheBatch(t *testing.T) {
	w := newWorld(t)
	outcomes, err := SignEach(t.Context(), w.signer, documents(t, 5), func(i int, _ Outcome[*eps.Signed]) {
		if i == 1 {
			w.reseat()
		}
	})
	assert.True(t, card.IsKind(err, card.Removed), "%v", err)
	signed, failed, notReached := split(outcomes)
	assert.Equal(t, []int{0, 1}, signed)
	assert.Equal(t, []int{2}, failed)
	assert.Equal(t, []int{3, 4}, notReached)
	assert.Len(t, w.person.requests(), 1)
	w.only(EventSigned, EventSigned, EventNotSigned)
}

func TestAClosedSignerEndsTheBatch(t *testing.T) {
	w := newWorld(t)
	outcomes, err := SignEach(t.Context(), w.signer, documents(t, 3), func(i int, _ Outcome[*eps.Signed]) {
		if i == 0 {
			require.NoError(t, w.signer.Close())
		}
	})
	require.Error(t, err)
	signed, failed, notReached := split(outcomes)
	assert.Equal(t, []int{0}, signed)
	assert.Equal(t, []int{1}, failed)
	assert.Equal(t, []int{2}, notReached)
	assert.Len(t, w.person.requests(), 1)
}

func TestABatchEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	outcomes, err := SignEach(ctx, w.signer, documents(t, 4), func(i int, _ Outcome[*eps.Signed]) {
		if i == 1 {
			cancel()
		}
	})
	assert.ErrorIs(t, err, context.Canceled)
	signed, failed, notReached := split(outcomes)
	assert.Equal(t, []int{0, 1}, signed)
	assert.Equal(t, []int{2}, failed)
	assert.Equal(t, []int{3}, notReached)
}

func TestARefusalInABatchEndsIt(t *testing.T) {
	w := newWorld(t)
	outcomes, err := SignEach(t.Context(), w.signer, documents(t, 4), func(i int, _ Outcome[*eps.Signed]) {
		if i == 1 {
			w.hold(state.Renewing) // by another process
		}
	})
	var refused *guard.Refused
	assert.ErrorAs(t, err, &refused)
	signed, failed, notReached := split(outcomes)
	assert.Equal(t, []int{0, 1}, signed)
	assert.Equal(t, []int{2}, failed)
	assert.Equal(t, []int{3}, notReached)
	var not *NotReached
	require.ErrorAs(t, outcomes[3].Err, &not)
	assert.ErrorAs(t, not.Cause, &refused)
	w.only(EventSigned, EventSigned, EventRefused)
}

func TestAWrongPasscodeEndsTheBatch(t *testing.T) {
	w := newWorld(t)
	w.person.enters(wrongPIN)
	outcomes, err := SignEach(t.Context(), w.signer, documents(t, 3), nil)
	assert.True(t, card.IsKind(err, card.PINIncorrect), "%v", err)
	signed, failed, notReached := split(outcomes)
	assert.Empty(t, signed)
	assert.Equal(t, []int{0}, failed)
	assert.Equal(t, []int{1, 2}, notReached)
	assert.Len(t, w.person.requests(), 1, "one wrong entry costs one try")
}

func TestARecordThatCannotBeKeptEndsTheBatch(t *testing.T) {
	w := newWorld(t)
	outcomes, err := SignEach(t.Context(), w.signer, documents(t, 3), func(i int, _ Outcome[*eps.Signed]) {
		w.rec.mu.Lock()
		defer w.rec.mu.Unlock()
		w.rec.fail = errors.New("disk full")
	})
	assert.ErrorContains(t, err, "disk full")
	signed, failed, notReached := split(outcomes)
	assert.Equal(t, []int{0}, signed)
	assert.Equal(t, []int{1}, failed)
	assert.Equal(t, []int{2}, notReached)
}

// unlike is a document whose format or certificate does not suit.
type unlike struct {
	*eps.Prepared
	accepts error
}

func (u unlike) Accepts(c *x509.Certificate) error {
	if u.accepts != nil {
		return u.accepts
	}
	return u.Prepared.Accepts(c)
}

func TestOneBadDocumentDoesNotStopTheOthers(t *testing.T) {
	w := newWorld(t)
	ds := []unlike{
		{Prepared: document(t, "one")},
		{Prepared: &eps.Prepared{}},
		{Prepared: document(t, "two")},
		{Prepared: document(t, "three"), accepts: errors.New("not with this one")},
		{Prepared: documentAt(t, "late", issued.AddDate(-1, 0, 0))},
		{Prepared: document(t, "four")},
	}
	outcomes, err := SignEach(t.Context(), w.signer, ds, nil)
	var be *BatchError
	require.ErrorAs(t, err, &be)
	assert.Equal(t, 3, be.Signed)
	signed, failed, notReached := split(outcomes)
	assert.Equal(t, []int{0, 2, 5}, signed)
	assert.Equal(t, []int{1, 3, 4}, failed)
	assert.Empty(t, notReached)
	assert.ErrorContains(t, outcomes[3].Err, "not with this one")
	var ce *eps.CertificateError
	assert.ErrorAs(t, outcomes[4].Err, &ce)
	assert.Len(t, w.person.requests(), 1)
}

func TestAKeyThatWantsItsPasscodeEachTimeIsAskedInABatch(t *testing.T) {
	w := newWorld(t, func(u *setUp) { u.config.AlwaysAuthenticate = true })
	outcomes, err := SignEach(t.Context(), w.signer, documents(t, 3), nil)
	require.NoError(t, err)
	assert.Len(t, outcomes, 3)
	assert.Len(t, w.person.requests(), 3)
}
