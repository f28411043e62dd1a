//go:build cgo

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/internal/testcard/modules"
	"github.com/rxguard/rxguard/signing/eps"
)

// asCommand makes this test program the command itself, so that each run has a
// process of its own: a PKCS#11 module is loaded once a process and keeps what it saw.
const asCommand = "RXGUARD_TEST_IS_PRESCRIBER"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

// patience is for outside programs on a busy machine.
const patience = 5 * time.Minute

// process runs the command in a process of its own. heard is called with each line
// that it prints, and may be nil.
func process(t *testing.T, heard func(line string), args ...string) (code int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) } // it says where it waits
	cmd.WaitDelay = 10 * time.Second
	var errs bytes.Buffer
	cmd.Stderr = &errs
	pipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var told strings.Builder
	for r := bufio.NewReader(pipe); ; {
		line, err := r.ReadString('\n')
		told.WriteString(line)
		if heard != nil && line != "" {
			heard(line)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}
	err = cmd.Wait()
	require.NoError(t, ctx.Err(), "not done in time:\n%s%s", told.String(), errs.String())
	if exit := new(exec.ExitError); !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return cmd.ProcessState.ExitCode(), told.String() + errs.String()
}

// secretFile is a file with a line.
func secretFile(t *testing.T, secret string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(f, []byte(secret+"\n"), 0o600))
	return f
}

// pivCard is an empty PIV card in a reader of pcscd, and the command line for it.
func pivCard(t *testing.T) (*testcard.Card, []string) {
	t.Helper()
	d := modules.PCSCD(t, 1)
	module := modules.YKCS11(t)
	c, err := testcard.New(testcard.Config{})
	require.NoError(t, err)
	d.Plug(t, 0, c)
	return c, []string{
		"--module", module, "--token", fmt.Sprintf("YubiKey PIV #%d", c.PIVSerial()), "--dir", filepath.Join(t.TempDir(), "token"),
		"--pin-file", secretFile(t, testcard.DefaultPIN), "--so-file", secretFile(t, modules.ManagementKey),
	}
}

// person takes the card out when the program asks for it, and puts it back.
func person(c *testcard.Card) func(line string) {
	return func(line string) {
		switch {
		case strings.Contains(line, "Take the card out and put it back in. This program waits"):
			c.Remove()
		case strings.Contains(line, "The watcher saw the card taken out."):
			c.Insert()
		}
	}
}

// inserted puts the card in and runs the command once the reader has noticed.
func inserted(t *testing.T, c *testcard.Card, heard func(string), args ...string) (code int, told string) {
	t.Helper()
	c.Insert()
	for deadline := time.Now().Add(patience); ; {
		code, told = process(t, heard, args...)
		if !strings.Contains(told, "No token ") || time.Now().After(deadline) {
			return code, told
		}
	}
}

// objectsOn lists what is in the card itself, by class and CKA_ID.
func objectsOn(t *testing.T, c *testcard.Card) map[card.Class]map[byte][]byte {
	t.Helper()
	s, err := c.Token().Open(t.Context())
	require.NoError(t, err)
	defer s.Close()
	objects, err := s.Objects(t.Context())
	require.NoError(t, err)
	list := map[card.Class]map[byte][]byte{card.CertificateObject: {}, card.PublicKeyObject: {}, card.PrivateKeyObject: {}}
	for _, o := range objects {
		require.Len(t, o.ID, 1)
		list[o.Class][o.ID[0]] = o.DER
	}
	return list
}

// renewed asserts what a journey leaves on a PIV card: a new pair in a retired slot,
// and in slot 9c a key that no certificate names.
func renewed(t *testing.T, c *testcard.Card, out string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(out, "new-certificate.pem"))
	require.NoError(t, err)
	block, _ := pem.Decode(b)
	require.NotNil(t, block)
	on := objectsOn(t, c)
	certificates, keys := on[card.CertificateObject], on[card.PrivateKeyObject]
	assert.Len(t, certificates, 2)
	assert.Contains(t, certificates, testcard.AuthenticationID()[0])
	assert.NotContains(t, certificates, testcard.SigningID()[0], "the old certificate is gone")
	for id, der := range certificates {
		if id == testcard.AuthenticationID()[0] {
			continue
		}
		ref, ok := testcard.PIVReference([]byte{id})
		require.True(t, ok)
		assert.GreaterOrEqual(t, ref, byte(0x82), "a retired key management slot")
		assert.Equal(t, block.Bytes, der)
		assert.Contains(t, keys, id)
	}
}

func TestTheWholeWayOnAPIVCard(t *testing.T) {
	openssl := need.Tool(t, "openssl", "openssl")
	c, args := pivCard(t)
	out := t.TempDir()
	args = append(args, "--json", "--out", out)
	code, told := process(t, person(c), args...)
	require.Equal(t, exitDone, code, told)
	var outcomes []string
	for _, e := range steps(t, told) {
		if e.Progress == nil && e.Outcome != "passcode" {
			outcomes = append(outcomes, fmt.Sprint(e.Step, " ", e.Outcome))
		}
	}
	assert.Equal(t, []string{"0 empty", "0 pair", "0 pair", "1 read", "2 refused", "3 refused", "4 plan", "4 reseat", "5 refused",
		"6 waiting", "6 removed", "6 inserted", "6 completed", "7 allowed", "7 signed", "7 record", "7 done"}, outcomes)
	witness(t, openssl, out, "-sha256")
	renewed(t, c, out)
	assert.Contains(t, told, "could not remove the old key", "a PIV card has no command for that")
	assert.NotContains(t, told, testcard.DefaultPIN)
	assert.NotContains(t, told, modules.ManagementKey)

	t.Run("the same command signs again", func(t *testing.T) {
		code, told := process(t, nil, args...)
		require.Equal(t, exitDone, code, told)
		witness(t, openssl, out, "-sha256")
		assert.Len(t, verdicts(t, out), 2)
		assert.NotContains(t, told, `"step":4`)
	})
}

// In plain words, with a $prepare answer of now, and a person who is quick.
func TestTheWholeWayInPlainWords(t *testing.T) {
	openssl := need.Tool(t, "openssl", "openssl")
	c, args := pivCard(t)
	out := t.TempDir()
	args = append(args, "--out", out, "--prepare", answerOf(t, time.Now()))
	code, told := process(t, func(line string) {
		if strings.Contains(line, "The card was renewed. Take it out") {
			c.Remove()
		}
		person(c)(line)
	}, args...)
	require.Equal(t, exitDone, code, told)
	last := -1
	for n := range 8 {
		at := strings.Index(told, fmt.Sprintf("\n%d. ", n))
		require.Greater(t, at, last, "step %d", n)
		last = at
	}
	witness(t, openssl, out, "-sha256")
	renewed(t, c, out)
}

// answerOf is a $prepare answer of an instant, in a file.
func answerOf(t *testing.T, at time.Time) string {
	t.Helper()
	info, err := eps.SignedInfo(eps.RS256, make([]byte, 32))
	require.NoError(t, err)
	b, err := json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": []any{
		map[string]any{"name": "digest", "valueString": info},
		map[string]any{"name": "timestamp", "valueString": at.UTC().Format("2006-01-02T15:04:05+00:00")},
		map[string]any{"name": "algorithm", "valueString": "RS256"},
	}})
	require.NoError(t, err)
	f := filepath.Join(t.TempDir(), "answer.json")
	require.NoError(t, os.WriteFile(f, b, 0o600))
	return f
}

// Pulled at any point, the text says how to go on, and the same command does.
func TestACardThatIsPulledGoesOn(t *testing.T) {
	openssl := need.Tool(t, "openssl", "openssl")
	for name, at := range map[string]struct {
		op    testcard.Op
		phase testcard.Phase
		n     int // counted from the first of the whole journey
	}{
		"before the first key":                  {testcard.OpGenerate, testcard.Before, 1},
		"while the second key is made":          {testcard.OpGenerate, testcard.During, 2},
		"before the first certificate":          {testcard.OpWriteCertificate, testcard.Before, 2}, // after its placeholder
		"while the new key is made":             {testcard.OpGenerate, testcard.During, 3},
		"before the new certificate is written": {testcard.OpWriteCertificate, testcard.Before, 6},
		"while the new certificate is written":  {testcard.OpWriteCertificate, testcard.During, 6},
		"while the old one is removed":          {testcard.OpDestroy, testcard.During, 1},
	} {
		t.Run(name, func(t *testing.T) {
			c, args := pivCard(t)
			out := t.TempDir()
			args = append(args, "--out", out)
			c.HookCommands(testcard.OnCommand(at.op, at.phase, at.n, func() []byte { c.Remove(); return nil }))
			code, told := process(t, nil, args...)
			require.Equal(t, exitNotSigned, code, told)
			assert.Contains(t, told, "To go on where this stopped:\n  go run ./examples/prescriber --module ")
			assert.Contains(t, told, fmt.Sprintf("--token 'YubiKey PIV #%d'", c.PIVSerial()))

			code, out2 := process(t, nil, args...)
			require.Equal(t, exitNotSigned, code, out2)
			assert.Contains(t, out2, "Put it in, and run this again.")

			c.HookCommands(nil)
			code, told = inserted(t, c, person(c), args...)
			require.Equal(t, exitDone, code, told)
			witness(t, openssl, out, "-sha256")
			renewed(t, c, out)
		})
	}
}

// A card that nobody takes out stays on hold, until somebody does.
func TestACardOnHoldWaits(t *testing.T) {
	openssl := need.Tool(t, "openssl", "openssl")
	c, args := pivCard(t)
	out := t.TempDir()
	args = append(args, "--out", out)
	for _, wait := range []string{"0s", "1ms"} {
		code, told := process(t, nil, append(args, "--wait", wait)...)
		require.Equal(t, exitOnHold, code, told)
		assert.Contains(t, told, "on hold until it is taken out and put back")
		assert.NoFileExists(t, filepath.Join(out, "signature.bin"))
	}
	c.Remove() // seen by nobody
	code, told := inserted(t, c, nil, append(args, "--wait", "1ms")...)
	require.Equal(t, exitOnHold, code, told)

	code, told = process(t, person(c), args...)
	require.Equal(t, exitDone, code, told)
	witness(t, openssl, out, "-sha256")
	renewed(t, c, out)
}

// A token that was emptied begins anew, with nothing of its earlier life.
func TestAnEmptiedTokenIsProvisionedAnew(t *testing.T) {
	d := modules.PCSCD(t, 2)
	args := []string{"--module", modules.YKCS11(t), "--dir", filepath.Join(t.TempDir(), "token"), "--wait", "0",
		"--pin-file", secretFile(t, testcard.DefaultPIN), "--so-file", secretFile(t, modules.ManagementKey)}
	for i := range 2 {
		c, err := testcard.New(testcard.Config{Serial: "c0ffee"})
		require.NoError(t, err)
		r := d.Plug(t, i, c)
		code, told := inserted(t, c, nil, append(args, "--token", fmt.Sprintf("YubiKey PIV #%d", c.PIVSerial()))...)
		require.Equal(t, exitOnHold, code, told)
		assert.Contains(t, told, "is empty. It gets")
		assert.Contains(t, told, "An attempt to sign anyway\n   Refused by the Signer itself: Your smartcard must be renewed")
		require.NoError(t, r.Close())
	}
}

// Through OpenSC no key can be made: that is said, and the card stays empty.
func TestAModuleThatMakesNoKeys(t *testing.T) {
	d := modules.PCSCD(t, 1)
	module := modules.OpenSC(t)
	c, err := testcard.New(testcard.Config{})
	require.NoError(t, err)
	d.Plug(t, 0, c)
	code, told := process(t, nil, "--module", module)
	require.Equal(t, exitUsage, code, told)
	serial := regexp.MustCompile(`\(serial ([^)]+)\)`).FindStringSubmatch(told)
	require.NotNil(t, serial, told)
	code, told = process(t, nil, "--module", module, "--token", serial[1], "--dir", t.TempDir(), "--pin-file", secretFile(t, testcard.DefaultPIN))
	require.Equal(t, exitNotSigned, code, told)
	assert.Contains(t, told, "cannot be provisioned through the module")
	assert.Contains(t, told, "SoftHSM")
	assert.Contains(t, told, "The card was not changed.")
	assert.NotContains(t, told, "To go on where this stopped")
	on := objectsOn(t, c)
	assert.Empty(t, on[card.PrivateKeyObject])
	assert.Empty(t, on[card.CertificateObject])
	assert.Equal(t, 3, c.TriesLeft())
}

// A management key that is wrong is not called a passcode, and nothing was changed.
func TestAWrongManagementKey(t *testing.T) {
	c, args := pivCard(t)
	for name, key := range map[string]string{
		"another":   strings.Repeat("f1", 24),
		"too short": "0102",
		"no hex":    strings.Repeat("zz", 24),
	} {
		t.Run(name, func(t *testing.T) {
			code, told := process(t, nil, append(args, "--so-file", secretFile(t, key))...)
			require.Equal(t, exitNotSigned, code, told)
			assert.Contains(t, told, "the management key, 48 hexadecimal digits. It comes from --so-file")
			assert.Contains(t, told, "The card was not changed.")
			assert.NotContains(t, strings.ToLower(told), "check your passcode")
			assert.NotContains(t, told, "passcode of this length")
			assert.NotContains(t, told, key)
			assert.Empty(t, objectsOn(t, c)[card.PrivateKeyObject])
			assert.Equal(t, 3, c.TriesLeft())
		})
	}
	code, told := process(t, nil, append(args, "--wait", "0")...)
	assert.Equal(t, exitOnHold, code, told)
}

func TestAModuleWithoutItsCardService(t *testing.T) {
	module := modules.YKCS11(t)
	t.Setenv("PCSCLITE_CSOCK_NAME", filepath.Join(t.TempDir(), "none"))
	code, told := process(t, nil, "--module", module, "--token", "x")
	assert.Equal(t, exitNotSigned, code, told)
	assert.Contains(t, told, "Is the card service running? On Linux that is pcscd.\nThe card was not changed.\n")
}

// While the program waits for its card, it says what else happens to the readers.
func TestWhatHappensToTheReadersMeanwhileIsTold(t *testing.T) {
	d := modules.PCSCD(t, 2)
	c, err := testcard.New(testcard.Config{Serial: "1001"})
	require.NoError(t, err)
	d.Plug(t, 0, c)
	other, err := testcard.New(testcard.Config{Serial: "1002"})
	require.NoError(t, err)
	other.Remove()
	_, err = other.Plug(d.Addr(1))
	require.NoError(t, err)
	var stopped bool
	code, told := process(t, func(line string) {
		switch {
		case strings.Contains(line, "This program waits"):
			other.Insert()
		case strings.Contains(line, `Another card is in a reader: "YubiKey PIV #1002" (serial 1002).`):
			other.Remove()
		case strings.Contains(line, "The readers answer") && !stopped:
			stopped = true
			d.Stop()
		case strings.Contains(line, "Is the card service running?"):
			require.NoError(t, d.Start())
		case strings.Contains(line, "Take it out for a moment longer"):
			c.Remove()
		case strings.Contains(line, "The watcher saw the card taken out."):
			c.Insert()
		}
	}, "--module", modules.YKCS11(t), "--token", "1001", "--dir", filepath.Join(t.TempDir(), "token"),
		"--pin-file", secretFile(t, testcard.DefaultPIN), "--so-file", secretFile(t, modules.ManagementKey))
	require.Equal(t, exitDone, code, told)
	assert.True(t, stopped, told)
}
