//go:build cgo

package p11

import (
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	rig "github.com/rxguard/rxguard/internal/testcard/modules"
)

// watched is SoftHSM's first token, looked at often.
func watched(t *testing.T) (*shim, *Module, *Token) {
	t.Helper()
	s := softHSM(t)
	sh := newShim(t, s.tokens[0].Module)
	m := sh.open(Options{Bound: patience, Poll: 5 * time.Millisecond})
	tok, err := m.Token(t.Context(), s.decks[0].sel, nil)
	require.NoError(t, err)
	t.Cleanup(func() { tok.Close() })
	require.True(t, tok.Presence().Present)
	return sh, m, tok
}

// looks waits for some looks at the slot list.
func looks(t *testing.T, sh *shim) {
	t.Helper()
	n := sh.ended("GetSlotList")
	eventually(t, func() bool { return sh.ended("GetSlotList") > n+8 }, "nobody looks")
}

func TestACardThatIsSeenOutAndInIsNoResetThoughAListBetweenFailed(t *testing.T) {
	sh, _, tok := watched(t)
	p := tok.Presence()
	sh.take(true)
	eventually(t, func() bool { return !tok.Presence().Present }, "out")
	sh.on("GetSlotList", fault{mode: refuse, code: pkcs11.CKR_DEVICE_ERROR, times: 1})
	looks(t, sh)
	sh.take(false)
	eventually(t, func() bool { return tok.Presence().Present }, "in")
	assert.Equal(t, card.Presence{Present: true, Insertion: p.Insertion + 1}, tok.Presence())
}

func TestACardThatOneListLacksIsNotOut(t *testing.T) {
	sh, _, tok := watched(t)
	p := tok.Presence()
	s, err := tok.Open(t.Context())
	require.NoError(t, err)
	defer s.Close()
	for range 3 {
		sh.blink(1)
		looks(t, sh)
		require.Equal(t, p, tok.Presence())
		_, err = s.Info(t.Context())
		require.NoError(t, err)
	}
	sh.blink(2)
	eventually(t, func() bool { return tok.Presence().Insertion > p.Insertion }, "two lists in a row without it")
}

// With -race.
func TestSeveralCardsAreToldWhileSomebodyLooks(t *testing.T) {
	sh := newShim(t, softHSM(t).tokens[0].Module)
	sh.take(true)
	m := sh.open(Options{Bound: patience, Poll: time.Millisecond})
	tok, err := m.Token(t.Context(), Select{}, nil)
	require.NoError(t, err)
	defer tok.Close()
	sh.take(false)
	for range 20 {
		eventually(t, func() bool {
			_, err := tok.Open(t.Context())
			return card.IsKind(err, card.Ambiguous)
		}, "several cards")
	}
	looks(t, sh)
}

func TestTheLooksLeaveTheModuleToOthers(t *testing.T) {
	assert.Equal(t, 200*time.Millisecond, pause(200*time.Millisecond, time.Millisecond))
	assert.Equal(t, 200*time.Millisecond, pause(200*time.Millisecond, 40*time.Millisecond))
	assert.Equal(t, 500*time.Millisecond, pause(200*time.Millisecond, 100*time.Millisecond))
	assert.Equal(t, 3*time.Second, pause(200*time.Millisecond, time.Minute), "a card that is pulled is noticed all the same")
	assert.Equal(t, time.Hour, pause(time.Hour, time.Minute))
}

func TestTheOnlyCardIsFoundInAnotherReader(t *testing.T) {
	w := virtual(rig.OpenSC, cannot{})(t)
	d := newCard(t, 0)
	w.plug(t, 0, d)
	d.Token = w.token(t, Select{})
	p := d.Presence()
	require.True(t, p.Present)
	w.unplug(t, 0, d)
	d.reaches(t, false)
	_, err := d.Open(t.Context())
	e := refused(t, w, err, card.Absent, false)
	assert.Contains(t, e.Detail, w.name(0), "where it was expected")
	assert.NotContains(t, err.Error(), "in any reader")

	// Of two it is not known which one is meant.
	other := newCard(t, 1)
	w.plug(t, 2, other)
	d.reaches(t, true)
	w.plug(t, 1, d)
	assert.True(t, d.Presence().Present, "the one that was taken")
	w.unplug(t, 2, other)
	d.reaches(t, true)
	d.works(t)
	assert.Greater(t, d.Presence().Insertion, p.Insertion+1)
}

func TestOfTwoCardsInOtherReadersNoneIsTaken(t *testing.T) {
	in := func(id uint, reader string) *slot {
		return &slot{arrivals: 1, reset: true, Slot: Slot{ID: id, Reader: reader, Present: true, Initialized: true, LoginRequired: true, Serial: reader}}
	}
	m := &Module{slots: map[uint]*slot{1: in(1, "one")}}
	tok := &Token{m: m, changed: make(chan struct{})}
	tok.take()
	first := tok.now
	require.True(t, first.Present)
	m.slots[1].Slot = m.slots[1].empty()
	m.slots[2], m.slots[3] = in(2, "two"), in(3, "three")
	tok.take()
	assert.False(t, tok.now.Present)
	assert.Empty(t, tok.several)
	assert.ErrorContains(t, tok.absent("open"), `expected one in reader "one"`)
	delete(m.slots, 2)
	tok.take()
	assert.Equal(t, card.Presence{Present: true, Insertion: first.Insertion + 1}, tok.now, "it is another insertion, and no reset")
	assert.EqualValues(t, 3, tok.slot)
}
