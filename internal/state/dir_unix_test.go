//go:build unix

package state

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whoever may work in the state folder may end a hold that somebody else set, with
// whatever umask; and nobody else may.
func TestWhatIsBelowTheFolderIsForThoseWhoMayUseIt(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	for _, mode := range []fs.FileMode{0o777, 0o770 | fs.ModeSetgid, 0o700} {
		top := filepath.Join(t.TempDir(), "state")
		require.NoError(t, os.Mkdir(top, 0o700))
		require.NoError(t, os.Chmod(top, mode))
		d := At(top)
		require.NoError(t, d.SetHold(aHold()))
		unlock, err := d.Lock(t.Context(), "card", false)
		require.NoError(t, err)
		unlock()
		for _, name := range []string{"holds/card.json", "locks/card.lock"} {
			i, err := os.Stat(filepath.Join(top, name))
			require.NoError(t, err)
			assert.Equal(t, fs.FileMode(0o666), i.Mode(), name)
		}
		for _, name := range []string{"holds", "locks"} {
			i, err := os.Stat(filepath.Join(top, name))
			require.NoError(t, err)
			assert.Equal(t, mode, i.Mode()&^fs.ModeDir, name)
		}
	}
}
