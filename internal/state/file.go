package state

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/moby/sys/atomicwriter" // replaces a file atomically, synced, on all three; kept by the Moby project, needs x/sys only
)

// ReadFile reads a file that other processes replace and remove, at most max bytes
// of it and one more, by which the caller tells that it is longer. It keeps nobody
// from doing so, on Windows neither.
func ReadFile(path string, max int64) ([]byte, error) {
	f, b, err := readOpen(path, max)
	if err != nil {
		return nil, err
	}
	_ = f.Close()
	return b, nil
}

// readOpen is ReadFile, and leaves the file open.
func readOpen(path string, max int64) (*os.File, []byte, error) {
	var f *os.File
	if err := patiently(time.Sleep, transient, func() (err error) {
		f, err = open(path)
		return err
	}); err != nil {
		return nil, nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		_ = f.Close()
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, b, nil
}

// WriteFile replaces a file as a whole, synced. Where another process reads it just
// then it is written all the same, on Windows a moment later. The new name is durable
// after SyncDir.
func WriteFile(path string, b []byte, perm os.FileMode) error {
	return patiently(time.Sleep, transient, func() error { return atomicwriter.WriteFile(path, b, perm) })
}

// patiently does f again while it fails for a reason that passes: on Windows a file
// that another process has open can often be neither replaced nor removed, and one
// that is going away not be opened. It waits about a quarter of a second in all.
func patiently(sleep func(time.Duration), passes func(error) bool, f func() error) error {
	for wait := time.Millisecond; ; wait *= 2 {
		err := f()
		if err == nil || wait > 128*time.Millisecond || !passes(err) {
			return err
		}
		sleep(wait)
	}
}
