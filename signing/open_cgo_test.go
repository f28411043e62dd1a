//go:build cgo

package signing

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAModuleThatIsNone(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "module.so")
	require.NoError(t, os.WriteFile(text, []byte("no module"), 0o600))
	for name, c := range map[string]struct{ path, says string }{
		"a missing file":           {filepath.Join(dir, "missing.so"), "no such file"},
		"a folder":                 {dir, "it is a folder; wanted the module's file"},
		"a file that is no module": {text, "wanted a PKCS#11 library"},
	} {
		t.Run(name, func(t *testing.T) {
			pin := func(context.Context, PINRequest) ([]byte, error) { return nil, nil }
			opened, err := Open(t.Context(), Config{Module: c.path, PIN: pin})
			assert.ErrorContains(t, err, "signing: ")
			assert.ErrorContains(t, err, c.path)
			assert.ErrorContains(t, err, c.says)
			assert.Nil(t, opened)

			cards, err := Cards(t.Context(), CardsConfig{Module: c.path})
			assert.ErrorContains(t, err, c.says)
			assert.Nil(t, cards)
			assert.ErrorContains(t, WatchCards(t.Context(), CardsConfig{Module: c.path}, func(CardEvent) {}), c.says)
		})
	}
}
