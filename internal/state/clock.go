package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Clock is the clock floor of a state folder: the minute before that of the newest
// decision that was recorded on this machine. See the package comment. It is safe for
// concurrent use; several of one folder, in whatever process, work on the one file.
type Clock struct {
	d     Dir
	path  string
	floor atomic.Pointer[time.Time] // nil: nothing is known

	mu   sync.Mutex
	read []byte // the file as it was last read whole; nil: it was not there

	// The file that was read stays open where the system lets it: no other gets its
	// identity then, and a look at that tells whether it was replaced.
	open *os.File
	was  os.FileInfo
}

// clockStep is the unit in which the floor is kept, so that it is written once a minute
// at most, and how much it stays below that: a clock that a time service sets right by a
// moment was not turned back, and neither was that of one who asked it just before
// another process raised the floor.
const clockStep = time.Minute

// clockSlack is how long after its end a certificate still tells something of the
// time. A later clock is likelier to be wrong than the card to be that old.
const clockSlack = 365 * 24 * time.Hour

// maxClock bounds the file.
const maxClock = 1 << 10

// clockVersion is the version of the file's form.
const clockVersion = 1

type clockFile struct {
	Version int       `json:"version"`
	Floor   time.Time `json:"floor"` // UTC
}

// Clock returns the folder's clock floor. Nothing is read yet.
func (d Dir) Clock() *Clock { return &Clock{d: d, path: filepath.Join(d.path, "clock.json")} }

// Path returns the file that the floor is kept in.
func (c *Clock) Path() string { return c.path }

// Dir returns the folder.
func (c *Clock) Dir() Dir { return c.d }

// Floor returns the floor as it was last read or raised, in UTC, from memory. Zero:
// none is known.
func (c *Clock) Floor() time.Time {
	if f := c.floor.Load(); f != nil {
		return *f
	}
	return time.Time{}
}

// Refresh reads the floor: other processes raise it. A file that is not there, or is
// no longer there, is none. After an error Floor is what it was: the error names the
// file, and says that the floor is not known.
func (c *Clock) Refresh() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refresh()
}

// refresh needs c.mu.
func (c *Clock) refresh() error {
	if c.unchanged() {
		return nil
	}
	c.letGo()
	f, b, err := readOpen(c.path, maxClock)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !isFile(c.d.path):
		if c.read != nil { // what was never on disk is in memory alone
			c.read = nil
			c.floor.Store(nil)
		}
		return nil
	case err != nil:
		return fmt.Errorf("state: clock floor: %w", err)
	}
	if c.read == nil || !bytes.Equal(b, c.read) {
		floor, err := parseClock(b)
		if err != nil {
			_ = f.Close()
			return fmt.Errorf("state: clock floor %s is damaged: %w; remove it when the clock of this computer is right", c.path, err)
		}
		c.read = b
		c.floor.Store(&floor)
	}
	if was, err := f.Stat(); err == nil && keepsOpen {
		c.open, c.was = f, was
	} else {
		_ = f.Close()
	}
	return nil
}

// unchanged tells whether the file is the one that was read last.
func (c *Clock) unchanged() bool {
	if c.open == nil {
		return false
	}
	i, err := os.Stat(c.path)
	return err == nil && os.SameFile(i, c.was) && i.Size() == c.was.Size() && i.ModTime().Equal(c.was.ModTime())
}

// letGo closes the file that was read.
func (c *Clock) letGo() {
	if c.open != nil {
		_ = c.open.Close()
		c.open = nil
	}
}

func parseClock(b []byte) (time.Time, error) {
	if len(b) > maxClock {
		return time.Time{}, fmt.Errorf("it is longer than %d bytes", maxClock)
	}
	var f clockFile
	if err := strictJSON(b, &f); err != nil {
		return time.Time{}, err
	}
	switch {
	case f.Version != clockVersion:
		return time.Time{}, fmt.Errorf("it has version %d; this program knows %d", f.Version, clockVersion)
	case f.Floor.IsZero():
		return time.Time{}, errors.New("it does not say which instant")
	}
	return f.Floor.UTC(), nil
}

// Raise raises the floor to the start of the minute before that of now, the machine's
// clock at a decision about a certificate whose validity ends at end. It never lowers
// it, and leaves it alone where now is more than a year after end, or end is zero: no
// certificate bears out that clock. When it returns nil the floor is on disk, durably; where there is no
// state folder, and this user cannot make one, it is in memory. It waits for other
// processes that raise it until ctx ends.
func (c *Clock) Raise(ctx context.Context, now, end time.Time) error {
	to := now.UTC().Truncate(clockStep).Add(-clockStep)
	if end.IsZero() || now.After(end.Add(clockSlack)) || !to.After(c.Floor()) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	unlock, err := c.d.Lock(ctx, "clock", true)
	if err != nil {
		if !c.d.Exists() {
			c.floor.Store(&to)
			return nil
		}
		return err
	}
	defer unlock()
	if err := c.refresh(); err != nil {
		return err
	}
	if c.read != nil && !to.After(c.Floor()) { // another process was first
		return nil
	}
	b, err := json.Marshal(clockFile{clockVersion, to})
	if err != nil {
		return fmt.Errorf("state: clock floor: %w", err)
	}
	b = append(b, '\n')
	if err := WriteFile(c.path, b, 0o666); err != nil {
		return fmt.Errorf("state: the clock floor could not be written: %w", err)
	}
	c.read = b
	c.floor.Store(&to)
	return SyncDir(c.d.path)
}
