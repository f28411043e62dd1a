package state

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"

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

// access is who may do what in the machine's folder: the system and administrators
// everything, users change what is in it. What ProgramData gives on would let a user
// change only what that user made, and so nobody else end a hold.
const access = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1301bf;;;BU)"

// makeTop makes the state folder; the machine's for all its users.
func makeTop(path string) error {
	if machine, err := machinePath(); err != nil || path != machine {
		return os.MkdirAll(path, 0o777)
	}
	return makeForUsers(path)
}

func makeForUsers(path string) error {
	sd, err := windows.SecurityDescriptorFromString(access)
	if err != nil {
		return &os.PathError{Op: "mkdir", Path: path, Err: err}
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return &os.PathError{Op: "mkdir", Path: path, Err: err}
	}
	err = windows.CreateDirectory(name, &windows.SecurityAttributes{
		Length:             uint32(reflect.TypeFor[windows.SecurityAttributes]().Size()),
		SecurityDescriptor: sd,
	})
	if i, serr := os.Stat(path); serr == nil && i.IsDir() { // it was there
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "mkdir", Path: path, Err: err}
	}
	return nil
}

// makeBelow makes a folder in the state folder, whose access it takes over.
func makeBelow(_, dir string) error { return os.Mkdir(dir, 0o777) }

// open lets others remove and replace the file while it is read, unlike os.Open.
func open(path string) (*os.File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
		nil, windows.OPEN_EXISTING, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

// transient tells whether another process may be the reason, that has the file open
// or is just removing it.
func transient(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED) ||
		errors.Is(err, windows.ERROR_DELETE_PENDING)
}

// isFile tells that there is a file, and no folder, where an error says that
// something below it does not exist: Windows calls both the same.
func isFile(path string) bool {
	i, err := os.Stat(path)
	return err == nil && !i.IsDir()
}

// keepsOpen: an open file would stay in the way of whoever removes the folder.
const keepsOpen = false

func tryShared(*os.File) bool { return false }

func endShared(*os.File) {}
