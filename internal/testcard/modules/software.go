package modules

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rxguard/rxguard/internal/need"
)

// SoftHSM makes a token in SoftHSM. All tokens of a process are in one folder, which
// SOFTHSM2_CONF of the process names; a module that is initialised already does not
// see a new one. Beside the tokens SoftHSM always shows a slot with an uninitialised
// one.
func SoftHSM(t testing.TB, label, pin, soPIN string) Token {
	t.Helper()
	need.Tool(t, "softhsm2-util", "softhsm2")
	if err := softHSMConfig(); err != nil {
		t.Fatalf("modules: configuration of SoftHSM: %v", err)
	}
	return SoftHSMIn(t, os.Getenv("SOFTHSM2_CONF"), label, pin, soPIN)
}

// SoftHSMIn makes a token in SoftHSM for other processes, whose environment names conf
// (SOFTHSM2_CONF=conf): a configuration that SoftHSMConfig wrote.
func SoftHSMIn(t testing.TB, conf, label, pin, soPIN string) Token {
	t.Helper()
	util := need.Tool(t, "softhsm2-util", "softhsm2")
	path := library(t, "SoftHSM", "softhsm2", "softhsm/libsofthsm2.so", "libsofthsm2.so")
	cmd := exec.Command(util, "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", soPIN)
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+conf)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("modules: softhsm2-util: %v\n%s", err, out)
	}
	return Token{Module: path, Label: label, PIN: pin, SOPIN: soPIN}
}

// SoftHSMConfig writes a configuration of SoftHSM into dir, with tokens in dir/softhsm,
// and returns its path. A copy of that folder is a copy of the tokens.
func SoftHSMConfig(dir string) (conf string, err error) {
	tokens := filepath.Join(dir, "softhsm")
	if err := os.MkdirAll(tokens, 0o700); err != nil {
		return "", err
	}
	conf = filepath.Join(dir, "softhsm2.conf")
	text := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", tokens)
	return conf, os.WriteFile(conf, []byte(text), 0o600)
}

var softHSMConfig = sync.OnceValue(func() error {
	dir, err := processDir()
	if err != nil {
		return err
	}
	conf, err := SoftHSMConfig(dir)
	if err != nil {
		return err
	}
	return os.Setenv("SOFTHSM2_CONF", conf)
})

// NSSPIN is the passcode of an NSS database that NSS makes.
const NSSPIN = "nss passcode"

// NSS makes a database of NSS softokn for one test. C_Initialize wants Init; the
// token with keys and certificates is the second slot.
func NSS(t testing.TB) Token {
	t.Helper()
	certutil := need.Tool(t, "certutil", "libnss3-tools")
	path := library(t, "NSS softokn", "libnss3", "libsoftokn3.so", "nss/libsoftokn3.so")
	dir := t.TempDir()
	passcode := filepath.Join(t.TempDir(), "passcode")
	if err := os.WriteFile(passcode, []byte(NSSPIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, certutil, "-N", "-d", "sql:"+dir, "-f", passcode)
	return Token{
		Module: path,
		Init:   fmt.Sprintf("configdir='sql:%s' certPrefix='' keyPrefix='' secmod='secmod.db' flags=", dir),
		Label:  "NSS Certificate DB",
		PIN:    NSSPIN,
	}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("modules: %s %s: %v\n%s", filepath.Base(name), args[0], err, out)
	}
}
