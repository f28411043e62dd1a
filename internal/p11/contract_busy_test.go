//go:build cgo

package p11

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
)

func init() {
	contextCases = append(contextCases, clause{"software that nobody waits for any more hurts nothing", busy})
}

// busy leaves a call to software, which nothing holds up: a large pair takes long
// enough to make.
func busy(t *testing.T, w *world) {
	if w.module == nil || w.service != nil {
		return
	}
	d := w.card(t, 0)
	s := d.login(t).(*session)
	id, err := s.Vacant(t.Context())
	require.NoError(t, err)
	begun, stop := make(chan struct{}), make(chan struct{})
	defer close(stop)
	go func() {
		for len(s.turn) == 0 {
			select {
			case <-stop:
				return
			default:
			}
		}
		close(begun)
	}()
	left(t, begun, func(ctx context.Context) error {
		_, err := s.Generate(ctx, card.KeySpec{ID: id, Bits: 4096})
		return err
	})
	assert.True(t, card.IsKind(s.Login(t.Context(), d.pin), card.Removed), "the session is used for nothing else")
	require.NoError(t, s.Close())
	d.works(t)
	<-s.over // now the pair is there
	d.clean(t, id)
}
