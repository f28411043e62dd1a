//go:build cgo

package signing

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/p11"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard/modules"
)

// givenUp calls f and ends its context once the module hangs; f must answer that though
// the module goes on hanging.
func givenUp(t *testing.T, h *modules.Hanging, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	h.Met(t)
	select {
	case err := <-done:
		require.FailNow(t, "it did not hang", "%v", err)
	default:
	}
	cancel()
	select {
	case err := <-done:
		require.ErrorIs(t, err, context.Canceled)
	case <-time.After(20 * time.Second): // the module's bound is longer
		require.FailNow(t, "it waits for the module")
	}
}

func enterHanging(context.Context, PINRequest) ([]byte, error) { return []byte("123456"), nil }

// A context that ends is heeded at once, whatever call the module is at.
func TestWhoGivesUpWaitsForNoModule(t *testing.T) {
	loading := []string{"C_Initialize", "C_GetInfo"}
	looking := []string{"C_GetSlotList", "C_GetSlotInfo", "C_GetTokenInfo"}
	reading := []string{"C_OpenSession", "C_GetMechanismList", "C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_GetAttributeValue"}
	for _, c := range []struct {
		name      string
		functions [][]string
		f         func(ctx context.Context, module string) error
	}{
		{"Open", [][]string{loading, looking, reading}, func(ctx context.Context, module string) error {
			opened, err := Open(ctx, Config{Module: module, PIN: enterHanging})
			if opened != nil {
				panic("a card beside an error")
			}
			return err
		}},
		{"Cards", [][]string{loading, looking, reading}, func(ctx context.Context, module string) error {
			list, err := Cards(ctx, CardsConfig{Module: module})
			if list != nil {
				panic("cards beside an error")
			}
			return err
		}},
		{"WatchCards", [][]string{loading, looking}, func(ctx context.Context, module string) error {
			return WatchCards(ctx, CardsConfig{Module: module}, func(CardEvent) {})
		}},
	} {
		for _, functions := range c.functions {
			for _, function := range functions {
				t.Run(c.name+"/"+function, func(t *testing.T) {
					h := modules.HangingModule(t, function)
					givenUp(t, h, func(ctx context.Context) error { return c.f(ctx, h.Module) })
					// When it goes on, it is as if nobody had asked before.
					h.Release(t)
					list, err := Cards(t.Context(), CardsConfig{Module: h.Module})
					require.NoError(t, err)
					require.Len(t, list, 1)
					assert.NoError(t, list[0].Err)
					assert.Equal(t, h.Label, list[0].Label)
				})
			}
		}
	}
	for _, function := range []string{"C_GetSlotList", "C_GetTokenInfo", "C_OpenSession", "C_FindObjects", "C_GetAttributeValue", "C_Login", "C_SignInit", "C_Sign"} {
		t.Run("Sign/"+function, func(t *testing.T) {
			signer, rec, h, _ := hangingSigner(t, function)
			givenUp(t, h, func(ctx context.Context) error {
				signed, err := Sign(ctx, signer, documentAt(t, "one", time.Now()))
				if signed != nil {
					panic("a signature beside an error")
				}
				return err
			})
			for _, e := range rec.all() {
				assert.NotEqual(t, EventSigned, e.Event)
			}
		})
	}
	for _, function := range []string{"C_GetTokenInfo", "C_OpenSession", "C_Logout", "C_Login"} {
		t.Run("EndHold/"+function, func(t *testing.T) {
			signer, rec, h, dir := hangingSigner(t, function)
			sum := fmt.Sprintf("%x", sha256.Sum256(h.Certificate.Raw))
			require.NoError(t, dir.SetHold(state.Hold{ID: theHoldID, Card: "another", Certificates: []string{sum}, Phase: state.Reseat, Since: time.Now(), Expect: sum}))
			card.SetReseated(signer.card, theHoldID)
			givenUp(t, h, signer.EndHold)
			assert.Empty(t, rec.all())
			still, err := dir.Hold(sum)
			require.NoError(t, err)
			assert.NotNil(t, still)
		})
	}
}

// hangingSigner is a Signer on a card that was read already, whose module hangs in a
// function from now on.
func hangingSigner(t *testing.T, function string) (*Signer, *memory, *modules.Hanging, state.Dir) {
	t.Helper()
	h := modules.HangingModule(t, function)
	h.Release(t)
	m, err := p11.Open(t.Context(), h.Module, p11.Options{Poll: time.Hour}) // the first to hang is who is asked here
	require.NoError(t, err)
	dir := state.At(t.TempDir())
	opened, err := Open(t.Context(), Config{Reader: card.NewReader(tokenOf(t, m, p11.Select{}), dir.Path()), PIN: enterHanging})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, opened.Close()) })
	until(t, opened, func(s guard.Snapshot) bool { return s.Certificate != nil })
	rec := &memory{}
	signer, err := New(opened, affecting(t, "00"), rec)
	require.NoError(t, err)
	h.Hang(t)
	return signer, rec, h, dir
}

// A card whose module hangs is closed at once, and a second later at the latest for
// whoever has a real one.
func TestClosingACardWaitsForNoModule(t *testing.T) {
	for _, function := range []string{"C_Sign", "C_CloseSession", "C_GetSlotList"} {
		t.Run(function, func(t *testing.T) {
			h := modules.HangingModule(t, function)
			h.Release(t)
			opened, err := Open(t.Context(), Config{Module: h.Module, PIN: enterHanging})
			require.NoError(t, err)
			signer, err := New(opened, affecting(t, "00"), &memory{})
			require.NoError(t, err)
			h.Hang(t)
			done := make(chan error, 1)
			go func() {
				_, err := Sign(t.Context(), signer, documentAt(t, "one", time.Now()))
				done <- err
			}()
			h.Met(t)
			closed := make(chan error, 1)
			go func() { closed <- opened.Close() }()
			select {
			case err := <-closed:
				assert.NoError(t, err)
			case <-time.After(20 * time.Second): // the module's bound is longer
				require.FailNow(t, "it waits for the module")
			}
			assert.Error(t, <-done)
		})
	}
}

// The bound is the module's, for all who use it in the process; nobody else's guess
// comes before what somebody chose.
func TestTheBoundOfAModule(t *testing.T) {
	h := modules.HangingModule(t, "C_OpenSession")
	h.Release(t)
	_, err := Cards(t.Context(), CardsConfig{Module: h.Module})
	require.NoError(t, err)
	opened, err := Open(t.Context(), Config{Module: h.Module, ModuleBound: leastBound, PIN: enterHanging})
	require.NoError(t, err)
	defer opened.Close()
	const says = "was loaded with a bound of 5s for its calls, expected 6s"
	_, err = Open(t.Context(), Config{Module: h.Module, ModuleBound: 6 * time.Second, PIN: enterHanging})
	assert.ErrorContains(t, err, says)
	_, err = Cards(t.Context(), CardsConfig{Module: h.Module, ModuleBound: 6 * time.Second})
	assert.ErrorContains(t, err, says)
	assert.ErrorContains(t, WatchCards(t.Context(), CardsConfig{Module: h.Module, ModuleBound: 6 * time.Second}, func(CardEvent) {}), says)

	h.Hang(t)
	began := time.Now()
	list, err := Cards(t.Context(), CardsConfig{Module: h.Module})
	took := time.Since(began)
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.True(t, card.IsKind(list[0].Err, card.Wedged), "%v", list[0].Err)
	assert.True(t, list[0].Verdict.Has(guard.CardUnreadable), "%s", list[0].Verdict)
	assert.GreaterOrEqual(t, took, leastBound)
	assert.Less(t, took, 25*time.Second, "the usual bound")
	_, err = Cards(t.Context(), CardsConfig{Module: h.Module})
	assert.True(t, card.IsKind(err, card.Wedged), "%v", err)
}

func TestABoundThatIsNoneIsRefused(t *testing.T) {
	for _, bound := range []time.Duration{-1, 1, leastBound - 1, mostBound + 1} {
		const says = "wanted 5s to 5m0s, or 0 for the usual 30 seconds"
		_, err := Open(t.Context(), Config{Module: "m.so", ModuleBound: bound, PIN: enterHanging})
		assert.ErrorContains(t, err, "signing: Config.ModuleBound is "+bound.String())
		assert.ErrorContains(t, err, says)
		_, err = Cards(t.Context(), CardsConfig{Module: "m.so", ModuleBound: bound})
		assert.ErrorContains(t, err, "signing: CardsConfig.ModuleBound is "+bound.String())
		assert.ErrorContains(t, WatchCards(t.Context(), CardsConfig{Module: "m.so", ModuleBound: bound}, func(CardEvent) {}), says)
	}
}
