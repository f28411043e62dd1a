package state

import (
	"path/filepath"

	"golang.org/x/sys/windows" // KnownFolderPath: the environment's ProgramData can be changed by the user
)

func machinePath() (string, error) {
	p, err := windows.KnownFolderPath(windows.FOLDERID_ProgramData, 0)
	if err != nil {
		return "", err
	}
	return filepath.Join(p, "rxguard"), nil
}

// SyncDir does nothing: NTFS journals names itself.
func SyncDir(string) error { return nil }
