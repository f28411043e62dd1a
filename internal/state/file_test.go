package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhatPassesIsTriedAgainAndNothingElse(t *testing.T) {
	busy, broken := errors.New("another process has it open"), errors.New("no such disk")
	for _, c := range []struct {
		name   string
		fails  []error
		want   error
		waited time.Duration
	}{
		{"at once", nil, nil, 0},
		{"after three tries", []error{busy, busy, busy}, nil, 7 * time.Millisecond},
		{"what does not pass", []error{broken}, broken, 0},
		{"what does not pass, after what does", []error{busy, broken}, broken, time.Millisecond},
		{"what never passes", []error{busy, busy, busy, busy, busy, busy, busy, busy, busy, broken}, busy, 255 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			var waited time.Duration
			tries := 0
			err := patiently(func(d time.Duration) { waited += d }, func(err error) bool { return err == busy }, func() error {
				tries++
				if tries <= len(c.fails) {
					return c.fails[tries-1]
				}
				return nil
			})
			assert.Equal(t, c.want, err)
			assert.Equal(t, c.waited, waited)
		})
	}
}

func TestAFileIsReplacedAsAWholeAndReadInBounds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	_, err := ReadFile(path, 10)
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, text := range []string{"the first", "2nd"} {
		require.NoError(t, WriteFile(path, []byte(text), 0o600))
		b, err := ReadFile(path, 10)
		require.NoError(t, err)
		assert.Equal(t, text, string(b))
	}
	require.NoError(t, WriteFile(path, []byte("longer than ten"), 0o600))
	b, err := ReadFile(path, 10)
	require.NoError(t, err)
	assert.Len(t, b, 11, "one more tells that it is longer")
	_, err = ReadFile(filepath.Dir(path), 10)
	assert.Error(t, err, "a folder")
}

// Whoever reads a file keeps nobody from replacing and removing it.
func TestAReaderIsInNobodysWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
	f, err := open(path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, os.Rename(path, path+".moved"))
	require.NoError(t, os.Remove(path+".moved"))
	b := make([]byte, 3)
	_, err = f.Read(b)
	require.NoError(t, err)
	assert.Equal(t, "old", string(b))
}
