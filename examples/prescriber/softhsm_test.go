//go:build cgo

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
		"an instant":                         {with("--at", "2020-09-30"), exitUsage, "judged by the clock of this machine"},
		"an instant of issue":                {with("--issued", "2020-09-29"), exitUsage, "judged by the clock of this machine"},
		"resume":                             {with("--resume", t.TempDir()), exitUsage, "the same command goes on by itself"},
		"a token without a module":           {[]string{"--token", k.Label}, exitUsage, "--module names its module"},
		"a passcode without a module":        {[]string{"--pin-file", "x"}, exitUsage, "--module names its module"},
		"a wait without a module":            {[]string{"--wait", "1s"}, exitUsage, "--module names its module"},
		"a wait that is negative":            {with("--wait", "-1s"), exitUsage, "--wait is negative"},
		"no such module":                     {[]string{"--module", filepath.Join(t.TempDir(), "none.so"), "--token", "x"}, exitUsage, "none.so"},
		"a module that is none":              {[]string{"--module", args[len(args)-1], "--token", "x"}, exitUsage, "cannot be loaded"},
		"no token named":                     {[]string{"--module", k.Module}, exitUsage, `"` + k.Label + `" (serial `},
		"a token that is not there":          {[]string{"--module", k.Module, "--token", "none"}, exitNotSigned, `No token "none" is in a reader`},
		"out in the token's folder":          {with("--out", args[5]), exitUsage, "in the folder of the simulated card or token"},
		"a folder of a simulated card":       {with("--dir", simulated), exitUsage, "is the folder of a simulated card"},
		"a prepare answer that is none":      {with("--prepare", args[len(args)-1]), exitUsage, "JSON"},
		"a passcode file that is not there":  {with("--pin-file", filepath.Join(t.TempDir(), "none")), exitNotSigned, "no such file"},
		"a passcode file that is empty":      {with("--pin-file", secretFile(t, "")), exitNotSigned, "is empty, expected a passcode"},
		"a passcode file that has no end":    {with("--pin-file", "/dev/zero"), exitNotSigned, "longer than 1024 bytes"},
		"a wrong passcode":                   {with("--pin-file", secretFile(t, "999999")), exitNotSigned, "wrong passcode"},
		"no passcode and nobody to ask":      {args[:6], exitNotSigned, "name a file with --pin-file, set RXGUARD_EXAMPLE_PIN, or run this on a terminal"},
		"a simulated card's folder to go on": {[]string{"--resume", args[5]}, exitUsage, "no simulated card"},
	} {
		t.Run(name, func(t *testing.T) {
			code, told := process(t, nil, c.args...)
			assert.Equal(t, c.code, code, told)
			assert.Contains(t, told, c.want)
			assert.NotContains(t, told, "999999")
			assert.NotContains(t, told, "Authentication pair", "nothing is put on the token")
		})
	}
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
