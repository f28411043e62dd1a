//go:build cgo

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/testcard/modules"
)

var tokens atomic.Int64 // that softToken made

// softToken is an empty token of SoftHSM, and the command line for it.
func softToken(t *testing.T) (modules.Token, []string) {
	t.Helper()
	k := modules.SoftHSM(t, fmt.Sprintf("token %d", tokens.Add(1)), "271828", "31415926")
	return k, []string{"--module", k.Module, "--token", k.Label, "--dir", filepath.Join(t.TempDir(), "token"), "--pin-file", secretFile(t, k.PIN)}
}

// listed is what another program finds on the token.
func listed(t *testing.T, k modules.Token) string {
	t.Helper()
	return tool(t, k, "--login", "--pin", k.PIN, "--list-objects")
}

func tool(t *testing.T, k modules.Token, args ...string) string {
	t.Helper()
	b, err := exec.Command(need.Tool(t, "pkcs11-tool", "opensc"), append([]string{"--module", k.Module, "--token-label", k.Label}, args...)...).Output()
	require.NoError(t, err, string(b))
	return string(b)
}

// SoftHSM's tokens cannot be taken out, so the hold cannot end there.
func TestATokenThatCannotBeReseatedStaysOnHold(t *testing.T) {
	k, args := softToken(t)
	out := t.TempDir()
	args = append(args, "--json", "--out", out)
	code, told := process(t, nil, args...)
	require.Equal(t, exitOnHold, code, told)
	es := steps(t, told)
	last := es[len(es)-1]
	assert.Equal(t, "on_hold", last.Outcome)
	assert.Equal(t, 6, last.Step)
	assert.Contains(t, last.Text, "take it out and put it back while this program runs")
	assert.NotContains(t, told, k.PIN)
	assert.NoFileExists(t, filepath.Join(out, "signature.bin"))
	after := listed(t, k)
	assert.Contains(t, after, "rxguard ", "the new pair")
	assert.NotContains(t, after, "Digital signature", "the old pair is gone")

	code, told = process(t, nil, args...)
	require.Equal(t, exitOnHold, code, told)
	assert.Equal(t, after, listed(t, k))
	renewed := 0
	for _, e := range steps(t, told) {
		renewed += strings.Count(e.Text, "This card was renewed. Take it out")
	}
	assert.Equal(t, 1, renewed, told)
	assert.Len(t, verdicts(t, out), 6, "both runs are one journey")
}

// NSS softokn wants arguments.
func TestAnNSSDatabaseStaysOnHold(t *testing.T) {
	k := modules.NSS(t)
	args := []string{"--module", k.Module, "--module-arguments", k.Init, "--token", k.Label, "--dir", filepath.Join(t.TempDir(), "token"),
		"--pin-file", secretFile(t, k.PIN)}
	for range 2 {
		code, told := process(t, nil, args...)
		require.Equal(t, exitOnHold, code, told)
		assert.Contains(t, told, "it cannot be taken out of its reader")
	}
}

// What others put on a token stays as it is, and so does the token.
func TestATokenOfOthersIsLeftAlone(t *testing.T) {
	generate := []string{"--login", "--keypairgen", "--key-type", "rsa:2048", "--id", "0a", "--label", "somebody"}
	for name, put := range map[string]func(t *testing.T, k modules.Token, args []string){
		"a key pair": func(t *testing.T, k modules.Token, _ []string) {
			tool(t, k, append(generate, "--pin", k.PIN)...)
		},
		"a private key that is hidden without the passcode": func(t *testing.T, k modules.Token, _ []string) {
			tool(t, k, append(generate, "--pin", k.PIN)...)
			tool(t, k, "--login", "--pin", k.PIN, "--delete-object", "--type", "pubkey", "--id", "0a")
		},
		"a certificate": func(t *testing.T, k modules.Token, _ []string) {
			writeForeign(t, k)
		},
		"a secret key": func(t *testing.T, k modules.Token, _ []string) {
			tool(t, k, "--login", "--pin", k.PIN, "--keygen", "--key-type", "AES:32", "--label", "somebody", "--id", "0c")
		},
		"a data object": func(t *testing.T, k modules.Token, _ []string) {
			writeData(t, k)
		},
		"a data object that is hidden without the passcode": func(t *testing.T, k modules.Token, _ []string) {
			writeData(t, k, "--private")
		},
		"a data object beside the example's own": func(t *testing.T, k modules.Token, args []string) {
			code, told := process(t, nil, args...)
			require.Equal(t, exitOnHold, code, told)
			writeData(t, k)
		},
		"a certificate beside the example's own": func(t *testing.T, k modules.Token, args []string) {
			code, told := process(t, nil, args...)
			require.Equal(t, exitOnHold, code, told)
			writeForeign(t, k)
		},
		"what another folder's authority issued": func(t *testing.T, k modules.Token, args []string) {
			args = append(append([]string(nil), args...), "--dir", filepath.Join(t.TempDir(), "other"))
			code, told := process(t, nil, args...)
			require.Equal(t, exitOnHold, code, told)
		},
	} {
		t.Run(name, func(t *testing.T) {
			k, args := softToken(t)
			put(t, k, args)
			before := listed(t, k)
			code, told := process(t, nil, args...)
			require.Equal(t, exitNotSigned, code, told)
			assert.Contains(t, told, "so it is left alone")
			assert.Contains(t, told, "The card was not changed.")
			assert.Equal(t, before, listed(t, k))
		})
	}
}

// writeData puts a data object on the token.
func writeData(t *testing.T, k modules.Token, args ...string) {
	t.Helper()
	tool(t, k, append([]string{"--login", "--pin", k.PIN, "--write-object", secretFile(t, "a note"), "--type", "data", "--label", "somebody"}, args...)...)
}

// writeForeign puts a certificate on the token that openssl made.
func writeForeign(t *testing.T, k modules.Token) {
	t.Helper()
	openssl := need.Tool(t, "openssl", "openssl")
	der := filepath.Join(t.TempDir(), "certificate.der")
	b, err := exec.Command(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", os.DevNull, "-subj", "/CN=somebody",
		"-outform", "DER", "-out", der).CombinedOutput()
	require.NoError(t, err, string(b))
	tool(t, k, "--login", "--pin", k.PIN, "--write-object", der, "--type", "cert", "--id", "0b", "--label", "somebody")
}

func TestTokenCommandLines(t *testing.T) {
	k, args := softToken(t)
	with := func(more ...string) []string { return append(append([]string(nil), args...), more...) }
	simulated := interrupted(t, 12)
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"an instant":                          {with("--at", "2020-09-30"), exitUsage, "judged by the clock of this machine"},
		"an instant of issue":                 {with("--issued", "2020-09-29"), exitUsage, "judged by the clock of this machine"},
		"resume":                              {with("--resume", t.TempDir()), exitUsage, "the same command goes on by itself"},
		"a token without a module":            {[]string{"--token", k.Label}, exitUsage, "--module names its module"},
		"a passcode without a module":         {[]string{"--pin-file", "x"}, exitUsage, "--module names its module"},
		"a wait without a module":             {[]string{"--wait", "1s"}, exitUsage, "--module names its module"},
		"a wait that is negative":             {with("--wait", "-1s"), exitUsage, "it is negative"},
		"no such module":                      {[]string{"--module", filepath.Join(t.TempDir(), "none.so"), "--token", "x"}, exitUsage, "none.so"},
		"a module that is none":               {[]string{"--module", args[len(args)-1], "--token", "x"}, exitUsage, "cannot be loaded"},
		"no token named":                      {[]string{"--module", k.Module}, exitUsage, `"` + k.Label + `" (serial `},
		"a token that is not there":           {[]string{"--module", k.Module, "--token", "none"}, exitNotSigned, `No token "none" is in a reader`},
		"out in the token's folder":           {with("--out", args[5]), exitUsage, "in the folder of the simulated card or token"},
		"a folder of a simulated card":        {with("--dir", simulated), exitUsage, "is the folder of a simulated card"},
		"a prepare answer that is none":       {with("--prepare", args[len(args)-1]), exitUsage, "JSON"},
		"a passcode file that is not there":   {with("--pin-file", filepath.Join(t.TempDir(), "none")), exitUsage, "no such file"},
		"a passcode file that is empty":       {with("--pin-file", secretFile(t, "")), exitUsage, "is empty; expected a passcode"},
		"a passcode file that has no end":     {with("--pin-file", "/dev/zero"), exitUsage, "is a device or pipe"},
		"a passcode file that is a folder":    {with("--pin-file", t.TempDir()), exitUsage, "is a folder"},
		"a passcode file that is too long":    {with("--pin-file", secretFile(t, strings.Repeat("9", 1025))), exitUsage, "longer than 1024 bytes"},
		"a passcode file with another line":   {with("--pin-file", secretFile(t, k.PIN+"\n999999")), exitUsage, "has more than one line; expected a passcode"},
		"a secret of the officer not there":   {with("--so-file", filepath.Join(t.TempDir(), "none")), exitUsage, "--so-file: "},
		"a secret of the officer as a folder": {with("--so-file", t.TempDir()), exitUsage, "--so-file: "},
		"a wait without a unit":               {with("--wait", "5"), exitUsage, "for seconds say 5s"},
		"an empty module":                     {[]string{"--module", "", "--token", k.Label}, exitUsage, "--module is empty"},
		"a wrong passcode":                    {with("--pin-file", secretFile(t, "999999")), exitNotSigned, "wrong passcode"},
		"no passcode and nobody to ask":       {args[:6], exitNotSigned, "name a file with --pin-file, set RXGUARD_EXAMPLE_PIN, or run this on a terminal"},
		"a simulated card's folder to go on":  {[]string{"--resume", args[5]}, exitUsage, "no simulated card"},
	} {
		t.Run(name, func(t *testing.T) {
			code, told := process(t, nil, c.args...)
			assert.Equal(t, c.code, code, told)
			assert.Contains(t, told, c.want)
			assert.NotContains(t, told, "999999")
			assert.NotContains(t, told, "Authentication pair", "nothing is put on the token")
		})
	}
	t.Run("a refused run leaves nothing behind", func(t *testing.T) {
		require.NoDirExists(t, args[5])
		caches := t.TempDir()
		t.Setenv("XDG_CACHE_HOME", caches)
		tool(t, k, "--login", "--pin", k.PIN, "--keygen", "--key-type", "AES:32", "--label", "somebody", "--id", "0c")
		defer tool(t, k, "--login", "--pin", k.PIN, "--delete-object", "--type", "secrkey", "--id", "0c")
		code, told := process(t, nil, append(append([]string(nil), args[:4]...), args[6:]...)...)
		assert.Equal(t, exitNotSigned, code, told)
		left, err := os.ReadDir(caches)
		require.NoError(t, err)
		assert.Empty(t, left)
		require.NoError(t, os.Mkdir(args[5], 0o700))
		_, _ = process(t, nil, args...)
		assert.DirExists(t, args[5], "it was there before")
		assert.NoFileExists(t, filepath.Join(args[5], "world.lock"))
	})
	t.Run("a folder in which nothing can be written", func(t *testing.T) {
		code, told := process(t, nil, with("--dir", "/proc/self")...)
		assert.Equal(t, exitUsage, code, told)
		assert.Contains(t, told, "prescriber: ")
	})
	t.Run("interrupted at once", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var out, errs bytes.Buffer
		assert.Equal(t, exitInterrupted, command(ctx, args, &out, &errs))
		assert.Equal(t, "\nInterrupted.\nThe card was not changed.\n", out.String())
		assert.Empty(t, errs.String())
	})
	t.Run("a configuration that is not there", func(t *testing.T) {
		t.Setenv("SOFTHSM2_CONF", "/nope")
		code, told := process(t, nil, args...)
		assert.Equal(t, exitUsage, code, told)
		assert.Contains(t, told, "the file that SOFTHSM2_CONF names, /nope")
	})
	t.Run("an answer from before the renewal", func(t *testing.T) {
		code, told := process(t, nil, with("--prepare", answerOf(t, time.Now().Add(-time.Hour)))...)
		assert.Equal(t, exitNotSigned, code, told)
		assert.Contains(t, told, "Certificate expired when signed")
		assert.NotContains(t, told, "An attempt to sign", "told before the renewal")
	})
	t.Run("the passcode from the environment", func(t *testing.T) {
		t.Setenv(pinEnv, k.PIN)
		code, told := process(t, nil, args[:6]...)
		assert.Equal(t, exitOnHold, code, told)
		assert.NotContains(t, told, k.PIN)
	})
	t.Run("another token in the folder", func(t *testing.T) {
		other, _ := softToken(t)
		code, told := process(t, nil, with("--token", other.Label)...)
		assert.Equal(t, exitUsage, code, told)
		assert.Contains(t, told, "belongs to another token")
	})
	t.Run("another run on the token", func(t *testing.T) {
		w := &world{dir: args[5]}
		require.NoError(t, w.lockFolder("token"))
		defer func() { require.NoError(t, w.lock.Close()) }()
		code, told := process(t, nil, args...)
		assert.Equal(t, exitUsage, code, told)
		assert.Contains(t, told, "another run works on the token")
	})
}

// softokn crashes on arguments that name no folder, so it does not get them.
func TestArgumentsOfSoftokn(t *testing.T) {
	k := modules.NSS(t)
	pin := secretFile(t, k.PIN)
	for _, arguments := range []string{"", "garbage", "configdir=", "configdir=''", "noconfigdir='x'"} {
		args := []string{"--module", k.Module, "--token", k.Label, "--dir", filepath.Join(t.TempDir(), "token"), "--pin-file", pin}
		if arguments != "" {
			args = append(args, "--module-arguments", arguments)
		}
		code, told := process(t, nil, args...)
		assert.Equal(t, exitUsage, code, told)
		assert.Contains(t, told, "configdir='sql:FOLDER'")
	}
	code, told := process(t, nil, "--module", k.Module, "--token", k.Label, "--module-arguments", "configdir='sql:"+t.TempDir()+"/none'")
	assert.Equal(t, exitUsage, code, told)
	assert.Contains(t, told, "certutil -N")
}

// The label of two tokens names neither.
func TestTwoTokensWithOneLabel(t *testing.T) {
	k, args := softToken(t)
	modules.SoftHSM(t, k.Label, k.PIN, k.SOPIN)
	code, told := process(t, nil, args...)
	assert.Equal(t, exitNotSigned, code, told)
	assert.Contains(t, told, fmt.Sprintf("More than one token is called %q; in the readers: ", k.Label))
	assert.Contains(t, told, "--token SERIAL.\nThe card was not changed.\n")
	serial := regexp.MustCompile(regexp.QuoteMeta(strconv.Quote(k.Label)) + ` \(serial ([^)]+)\)`).FindStringSubmatch(told)
	require.NotNil(t, serial, told)
	code, told = process(t, nil, append(args, "--token", serial[1])...)
	assert.Equal(t, exitOnHold, code, told)
}

// What was written down and is damaged is said in words that help.
func TestDamagedFilesOfAToken(t *testing.T) {
	_, args := softToken(t)
	code, told := process(t, nil, args...)
	require.Equal(t, exitOnHold, code, told)
	for name, c := range map[string]struct {
		files, want string
		code        int
	}{
		"the authority": {"ca.json", "empty the token with its own software", exitUsage},
		"the token":     {tokenName, "empty the token with its own software", exitUsage},
		"the hold":      {"state/holds/*.json", "To begin again, empty the token", exitNotSigned},
		"the journal":   {"state/journals/*.jsonl", "To begin again, empty the token", exitNotSigned},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join(args[5], c.files))
			require.NoError(t, err)
			require.NotEmpty(t, files)
			for _, f := range files {
				was, err := os.ReadFile(f)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(f, []byte("garbage\n"), 0o600))
				defer func() { require.NoError(t, os.WriteFile(f, was, 0o600)) }()
			}
			code, told := process(t, nil, args...)
			assert.Equal(t, c.code, code, told)
			assert.Contains(t, told, c.want)
			assert.NotContains(t, told, "To go on where this stopped")
		})
	}
}

func TestTheTokensFolder(t *testing.T) {
	k, args := softToken(t)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	code, told := process(t, nil, "--module", k.Module, "--token", k.Label, "--pin-file", args[len(args)-1])
	require.Equal(t, exitOnHold, code, told)
	found, err := filepath.Glob(filepath.Join(cache, "rxguard-prescriber", "*", tokenName))
	require.NoError(t, err)
	assert.Len(t, found, 1)
}
