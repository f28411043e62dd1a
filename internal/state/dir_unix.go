//go:build unix

package state

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix" // flock(2), as github.com/gofrs/flock takes it
)

func machinePath() (string, error) {
	if runtime.GOOS == "darwin" {
		return "/Library/Application Support/rxguard", nil
	}
	return "/var/lib/rxguard", nil
}

// SyncDir makes a file's new name durable: fsync of the file alone does not.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("state: %s could not be synced: %w", dir, err)
	}
	return nil
}

// makeTop makes the state folder. Below /var/lib only root can, so an installer does.
func makeTop(path string) error { return os.MkdirAll(path, 0o777) }

// makeBelow makes a folder in the state folder, for the same people: whose umask the
// first of them has must not keep out the others.
func makeBelow(top, dir string) error {
	if err := os.Mkdir(dir, 0o777); err != nil {
		return err
	}
	i, err := os.Stat(top)
	if err != nil {
		return err
	}
	return os.Chmod(dir, i.Mode()&(os.ModePerm|os.ModeSetgid|os.ModeSticky))
}

// open looks first whether the file is there, which is told sooner than that it cannot be
// opened: of a hold, which is asked for at each signature, there is none almost always.
func open(path string) (*os.File, error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err == unix.ENOENT {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.Open(path)
}

// transient: whoever has a file open keeps nobody from replacing it.
func transient(error) bool { return false }

// isFile tells that there is a file, and no folder, where an error says that
// something below it does not exist: here that is an error of its own (ENOTDIR).
func isFile(string) bool { return false }

const keepsOpen = true

func tryShared(f *os.File) bool { return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil }

func endShared(f *os.File) { _ = unix.Flock(int(f.Fd()), unix.LOCK_UN) }
