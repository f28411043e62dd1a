// Package modules starts real PKCS#11 modules for tests, each in temporary folders:
// SoftHSM, NSS softokn, and OpenSC and ykcs11 over a pcscd of the test's own, in
// whose virtual readers a testcard.Card is a real smartcard. There is a module that
// hangs, too.
//
// What is missing on the machine skips the test, by package need. Nothing here
// touches a token, a pcscd or a configuration of the machine. Modules read their
// settings from the process's environment when they are initialised, which this
// package sets once a process: call it before the module's C_Initialize.
package modules

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rxguard/rxguard/internal/need"
)

// Token is a token of a module, ready for use.
type Token struct {
	Module     string // path of the PKCS#11 module
	Init       string // what C_Initialize takes as pReserved; empty: nothing
	Label      string // CKA_LABEL of the token
	PIN, SOPIN string // SOPIN is empty where the module has none
}

// library finds a PKCS#11 module where distributions keep it.
func library(t testing.TB, what, debian string, names ...string) string {
	t.Helper()
	var patterns []string
	for _, name := range names {
		for _, dir := range []string{"/usr/lib/*-linux-gnu*", "/usr/lib64", "/usr/lib", "/usr/local/lib"} {
			patterns = append(patterns, filepath.Join(dir, name))
		}
	}
	return need.File(t, what, debian, patterns...)
}

// OpenSC returns the path of OpenSC's PKCS#11 module, and has it (and OpenSC's tools)
// use a configuration of the test's own: the PIV driver alone, and no cache of
// files.
func OpenSC(t testing.TB) string {
	t.Helper()
	path := library(t, "OpenSC's PKCS#11 module", "opensc-pkcs11", "opensc-pkcs11.so", "pkcs11/opensc-pkcs11.so")
	if err := openscConfig(); err != nil {
		t.Fatalf("modules: configuration of OpenSC: %v", err)
	}
	return path
}

var openscConfig = sync.OnceValue(func() error {
	dir, err := processDir()
	if err != nil {
		return err
	}
	conf := filepath.Join(dir, "opensc.conf")
	err = os.WriteFile(conf, []byte(`app default {
	card_drivers = PIV-II;
	framework pkcs15 {
		use_file_caching = no;
	}
}
`), 0o600)
	if err != nil {
		return err
	}
	return os.Setenv("OPENSC_CONF", conf)
})

// YKCS11 returns the path of Yubico's PKCS#11 module. It serves readers whose name
// begins with Yubico, as those of PCSCD do. Its security officer's PIN is the card
// management key in hexadecimal: ManagementKey for a card made without its own.
func YKCS11(t testing.TB) string {
	t.Helper()
	return library(t, "Yubico's PKCS#11 module", "ykcs11", "libykcs11.so.2", "libykcs11.so")
}

// ManagementKey is testcard.DefaultManagementKey as ykcs11's security officer enters
// it.
const ManagementKey = "010203040506070801020304050607080102030405060708"

// processDir is a folder for what lives as long as the process.
func processDir() (string, error) {
	h, err := processHome()
	return h.dir, err
}

// home is that folder, and what it goes with.
type home struct {
	dir string
	// lifeline is the input of a shell that removes the folder at its end, which is
	// that of the process, however that comes. It is kept here, because the garbage
	// collector closes a pipe that nobody holds.
	lifeline io.Closer
}

var processHome = sync.OnceValues(func() (h home, err error) {
	// Not in TMPDIR: the path of a socket is short, and /run is hidden from pcscd.
	if h.dir, err = os.MkdirTemp("/tmp", "rxguard-modules-"); err != nil {
		return home{}, err
	}
	reaper := exec.Command("sh", "-c", `trap '' INT TERM HUP; cat >/dev/null; rm -rf -- "$0"`, h.dir)
	apart(reaper)
	if h.lifeline, err = reaper.StdinPipe(); err != nil {
		return home{}, err
	}
	return h, reaper.Start()
})
