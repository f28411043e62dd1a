package state

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is kept open between two locks is no lock, and each one that is taken keeps
// others out.
func TestASharedLockIsTakenAgainAndAgain(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	d := At(filepath.Join(t.TempDir(), "state"))
	l := d.Shared("card")
	defer l.Close()
	exclusive := func() error {
		unlock, err := d.Lock(ended, "card", true)
		if err == nil {
			unlock()
		}
		return err
	}
	for range 3 {
		unlock, err := l.Lock(t.Context())
		require.NoError(t, err)
		other := d.Shared("card")
		both, err := other.Lock(ended)
		require.NoError(t, err, "shared with another")
		both()
		other.Close()
		require.ErrorIs(t, exclusive(), context.Canceled)
		unlock()
		require.NoError(t, exclusive())
	}
	for range 2 { // kept open, it waits too
		_, end := elsewhere(t, "exclusive", d)
		_, err := l.Lock(ended)
		require.ErrorIs(t, err, context.Canceled)
		end()
		unlock, err := l.Lock(t.Context())
		require.NoError(t, err)
		unlock()
	}
	unlock, err := l.Lock(t.Context())
	require.NoError(t, err)
	l.Close()
	assert.NoError(t, exclusive(), "closed")
	unlock()
	l.Close()
	(*SharedLock)(nil).Close()
}

// A lock in a file that is gone from its place would keep nobody out.
func TestASharedLockFollowsItsFile(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, change := range map[string]func(Dir) error{
		"removed":            func(d Dir) error { return os.Remove(d.lockFile("card")) },
		"the folder removed": func(d Dir) error { return os.RemoveAll(d.Path()) },
		"the folder moved":   func(d Dir) error { return os.Rename(d.Path(), d.Path()+".old") },
		"another in its place": func(d Dir) error {
			return os.Rename(d.lockFile("another"), d.lockFile("card"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := At(filepath.Join(t.TempDir(), "state"))
			l := d.Shared("card")
			defer l.Close()
			unlock, err := l.Lock(t.Context())
			require.NoError(t, err)
			unlock()
			unlock, err = d.Lock(t.Context(), "another", false)
			require.NoError(t, err)
			unlock()
			require.NoError(t, change(d))
			unlock, err = l.Lock(t.Context())
			require.NoError(t, err)
			_, err = d.Lock(ended, "card", true)
			assert.ErrorIs(t, err, context.Canceled)
			unlock()
		})
	}
}
