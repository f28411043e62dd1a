//go:build unix

package state

import (
	"fmt"
	"os"
	"runtime"
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
