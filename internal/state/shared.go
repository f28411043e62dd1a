package state

import (
	"context"
	"os"
)

// SharedLock takes the shared lock of one name of a card again and again, as a Signer does:
// it keeps the lock's file open where the system lets it. It is used by one goroutine
// at a time. Close it when it is not needed any more.
type SharedLock struct {
	d    Dir
	name string
	path string
	f    *os.File // nil: opened by the next Lock
	file os.FileInfo
}

// Shared makes a SharedLock.
func (d Dir) Shared(name string) *SharedLock {
	return &SharedLock{d: d, name: name, path: d.lockFile(name)}
}

// Lock is Dir.Lock, not exclusive.
func (l *SharedLock) Lock(ctx context.Context) (func(), error) {
	if l.again() {
		return l.unlock, nil
	}
	l.Close()
	unlock, err := l.d.Lock(ctx, l.name, false)
	if err == nil {
		l.keep()
	}
	return unlock, err
}

// again takes the lock in the file that is open, if that is still the lock's: a file
// that somebody removed locks nobody out.
func (l *SharedLock) again() bool {
	if l.f == nil {
		return false
	}
	i, err := os.Stat(l.path)
	return err == nil && os.SameFile(i, l.file) && tryShared(l.f)
}

// keep opens the lock's file for the next time.
func (l *SharedLock) keep() {
	if !keepsOpen {
		return
	}
	f, err := os.Open(l.path)
	if err != nil {
		return
	}
	if l.file, err = f.Stat(); err != nil {
		_ = f.Close()
		return
	}
	l.f = f
}

func (l *SharedLock) unlock() {
	if l.f != nil {
		endShared(l.f)
	}
}

// Close closes the file, and with it ends the lock.
func (l *SharedLock) Close() {
	if l != nil && l.f != nil {
		_ = l.f.Close()
		l.f = nil
	}
}
