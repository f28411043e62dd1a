//go:build cgo

package p11

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
)

// swapped is a module in whose first two tokens' slots the tokens can change places
// between two looks at the slot list.
func swapped(t *testing.T) (m *Module, a, b Slot, swap func(on bool)) {
	t.Helper()
	sh := newShim(t, softHSM(t).tokens[0].Module)
	m = sh.open(Options{Bound: patience, Poll: time.Hour})
	slots, err := m.Slots(t.Context())
	require.NoError(t, err)
	for _, s := range slots {
		switch s.Label {
		case "token 0":
			a = s
		case "token 1":
			b = s
		}
	}
	require.NotEmpty(t, a.Serial)
	require.NotEmpty(t, b.Serial)
	return m, a, b, func(on bool) {
		if on {
			sh.swap(a.ID, b.ID)
		} else {
			sh.swap(0, 0)
		}
	}
}

// follow answers every presence that followed one.
func follow(t *testing.T, tok *Token, p card.Presence) (all []card.Presence) {
	t.Helper()
	for p != tok.Presence() {
		var err error
		p, err = tok.Wait(t.Context(), p)
		require.NoError(t, err)
		all = append(all, p)
	}
	return all
}

func TestACardSwappedBetweenTwoLooksIsNotOpenedForTheOther(t *testing.T) {
	for _, by := range []struct {
		name string
		sel  func(a Slot) Select
	}{
		{"serial number", func(a Slot) Select { return Select{Token: a.Serial} }},
		{"label and reader", func(a Slot) Select { return Select{Token: a.Label, Reader: a.Reader} }},
	} {
		t.Run(by.name, func(t *testing.T) {
			m, a, _, swap := swapped(t)
			tok, err := m.Token(t.Context(), by.sel(a), nil)
			require.NoError(t, err)
			defer tok.Close()
			require.True(t, tok.Presence().Present)
			swap(true)
			s, err := tok.Open(t.Context())
			if err == nil {
				info, err := s.Info(t.Context())
				t.Fatalf("the card %s was opened for %s (%v)", info.Serial, a.Serial, err)
			}
			assert.True(t, card.IsKind(err, card.Removed), "%v", err)
			assert.Empty(t, m.opened)
			assert.False(t, tok.Presence().Present)
			_, err = tok.Open(t.Context())
			assert.True(t, card.IsKind(err, card.Absent), "%v", err)
		})
	}
}

func TestACardSwappedInAReaderIsOutAndInAndNoReset(t *testing.T) {
	m, a, b, swap := swapped(t)
	tok, err := m.Token(t.Context(), Select{Reader: a.Reader}, nil)
	require.NoError(t, err)
	defer tok.Close()
	p := tok.Presence()
	swap(true)
	_, err = tok.Open(t.Context())
	assert.True(t, card.IsKind(err, card.Removed), "%v", err)
	assert.Equal(t, []card.Presence{{Insertion: p.Insertion}, {Present: true, Insertion: p.Insertion + 1}}, follow(t, tok, p))
	s, err := tok.Open(t.Context())
	require.NoError(t, err)
	defer s.Close()
	info, err := s.Info(t.Context())
	require.NoError(t, err)
	assert.Equal(t, b.Serial, info.Serial)
}

func TestASessionDoesNotTellOfACardThatItWasNotOpenedOn(t *testing.T) {
	m, a, _, swap := swapped(t)
	tok, err := m.Token(t.Context(), Select{Token: a.Serial}, nil)
	require.NoError(t, err)
	defer tok.Close()
	s, err := tok.Open(t.Context())
	require.NoError(t, err)
	defer s.Close()
	_, err = s.Info(t.Context())
	require.NoError(t, err)
	swap(true)
	_, err = s.Info(t.Context())
	var e *card.Error
	require.ErrorAs(t, err, &e)
	assert.Contains(t, []card.Kind{card.Absent, card.Removed}, e.Kind, "%v", err)
	assert.Error(t, s.Login(t.Context(), []byte("123456")))
	assert.False(t, tok.Presence().Present)
}
