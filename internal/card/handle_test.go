package card

import (
	"errors"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
)

func TestAHandleShowsWhatWasPublished(t *testing.T) {
	h := NewHandle(nil, Options{})
	_, err := h.Snapshot(t.Context())
	assert.ErrorIs(t, err, guard.ErrNoCard, "never read")
	changed := h.Changed()
	Publish(h, guard.Snapshot{Serial: "one"})
	<-changed
	changed = h.Changed()
	s, err := h.Snapshot(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "one", s.Serial)

	require.NoError(t, h.Close())
	<-changed
	_, err = h.Snapshot(t.Context())
	assert.ErrorIs(t, err, ErrClosed)
	assert.NotErrorIs(t, err, guard.ErrNoCard)
	Publish(h, guard.Snapshot{Serial: "two"})
	_, err = h.Snapshot(t.Context())
	assert.ErrorIs(t, err, ErrClosed, "a closed card stays closed")
}

func TestTheZeroHandleIsACardThatIsOut(t *testing.T) {
	for _, h := range []*Handle{nil, {}} {
		_, err := h.Snapshot(t.Context())
		assert.ErrorIs(t, err, guard.ErrNoCard)
		_, err = guard.Check(t.Context(), h)
		var undecided *guard.Undecided
		require.ErrorAs(t, err, &undecided)
		assert.True(t, undecided.Verdict.Has(guard.CardAbsent))
		assert.NoError(t, h.Close())
	}
	h := &Handle{}
	assert.Nil(t, TokenOf(h))
	assert.NotNil(t, h.Changed())
	Publish(&Handle{}, guard.Snapshot{})
	Refresh(h)
	token, dir := InReader(&Reader{})
	assert.Nil(t, token)
	assert.Empty(t, dir)
}

func TestCloseGoesBackwardsOnce(t *testing.T) {
	h := NewHandle(nil, Options{})
	var order []string
	failed := errors.New("failed")
	OnClose(h, func() error { order = append(order, "first"); return failed })
	OnClose(h, func() error { order = append(order, "second"); return nil })
	assert.False(t, Closed(h))
	assert.ErrorIs(t, h.Close(), failed)
	assert.True(t, Closed(h))
	assert.NoError(t, h.Close())
	assert.Equal(t, []string{"second", "first"}, order)
	OnClose(h, func() error { order = append(order, "late"); return nil })
	assert.Equal(t, []string{"second", "first", "late"}, order)
}

func TestWhatWasSeenIsRemembered(t *testing.T) {
	h := NewHandle(nil, Options{StateDir: "dir"})
	assert.Empty(t, Reseated(h))
	SetReseated(h, "hold")
	assert.Equal(t, "hold", Reseated(h))
	SetReseated(h, "")
	assert.Empty(t, Reseated(h))
	var called []bool
	Refresh(h)
	OnRefresh(h, func(changed bool) { called = append(called, changed) })
	Refresh(h)
	Reread(h)
	assert.Equal(t, []bool{false, true}, called)
	assert.Equal(t, "dir", OptionsOf(h).StateDir)
	_, dir := InReader(NewReader(nil, "dir"))
	assert.Equal(t, "dir", dir)
}

// A vendor who has a card has nothing that works on it.
func TestAHandleIsOpaque(t *testing.T) {
	var methods []string
	for _, v := range []any{&Handle{}, &Reader{}} {
		rt := reflect.TypeOf(v)
		for i := range rt.NumMethod() {
			methods = append(methods, rt.Method(i).Name)
		}
		for i := range rt.Elem().NumField() {
			assert.False(t, rt.Elem().Field(i).IsExported(), rt.Elem().Field(i).Name)
		}
	}
	assert.Equal(t, []string{"Changed", "Close", "Snapshot"}, methods)
}

var _ guard.Card = (*Handle)(nil)
