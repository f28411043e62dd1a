//go:build !cgo

package signing

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWithoutCgoAModuleSaysSo(t *testing.T) {
	const says = "built without cgo, which PKCS#11 modules need"
	_, err := Open(t.Context(), Config{Module: "m.so", PIN: func(context.Context, PINRequest) ([]byte, error) { return nil, nil }})
	assert.ErrorContains(t, err, says)
	_, err = Cards(t.Context(), CardsConfig{Module: "m.so"})
	assert.ErrorContains(t, err, says)
	assert.ErrorContains(t, WatchCards(t.Context(), CardsConfig{Module: "m.so"}, func(CardEvent) {}), says)
}
