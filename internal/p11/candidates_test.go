package p11

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func none(string) string { return "" }

func TestPlacesOfEachSystem(t *testing.T) {
	env := map[string]string{"SystemRoot": `D:\Win`, "ProgramFiles": `D:\Programs`}
	for _, c := range []struct {
		name, goos string
		env        func(string) string
		has        []string
		root       string // with which every place begins
	}{
		{"Windows", "windows", none, []string{
			`C:\Windows\System32\gclib.dll`,
			`C:\Windows\System32\eTPKCS11.dll`,
			`C:\Program Files\SafeNet\Authentication\SAC\x64\IDPrimePKCS1164.dll`,
			`C:\Program Files\OpenSC Project\OpenSC\pkcs11\opensc-pkcs11.dll`,
			`C:\Program Files\Yubico\Yubico PIV Tool\bin\libykcs11.dll`,
		}, `C:\`},
		{"Windows on another drive", "windows", func(k string) string { return env[k] }, []string{
			`D:\Win\System32\OcsCryptoki.dll`,
			`D:\Programs\Yubico\Yubico PIV Tool\bin\libykcs11.dll`,
		}, `D:\`},
		{"macOS", "darwin", none, []string{
			"/Library/OpenSC/lib/opensc-pkcs11.so",
			"/opt/homebrew/lib/libykcs11.dylib",
			"/Library/Frameworks/eToken.framework/Versions/Current/libeToken.dylib",
		}, "/"},
		{"Linux", "linux", none, []string{
			"/usr/lib/*-linux-gnu*/opensc-pkcs11.so",
			"/usr/lib64/pkcs11/opensc-pkcs11.so",
			"/usr/lib/libeTPkcs11.so",
			"/usr/local/AWP/lib/libOcsCryptoki.so",
		}, "/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := places(c.goos, c.env)
			assert.Subset(t, got, c.has)
			seen := make(map[string]bool)
			for _, p := range got {
				assert.True(t, strings.HasPrefix(p, c.root), p)
				assert.False(t, seen[p], "%s is there twice", p)
				seen[p] = true
				_, err := filepath.Match(p, "")
				assert.NoError(t, err, p)
			}
			assert.Equal(t, got, places(c.goos, c.env), "in a fixed order")
		})
	}
}

func TestFilesAreListedOnce(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"a/pkcs11", "b", "c/module.so"} {
		require.NoError(t, os.MkdirAll(at(d), 0o700))
	}
	require.NoError(t, os.WriteFile(at("a/module.so"), nil, 0o600))
	require.NoError(t, os.WriteFile(at("b/other.so"), nil, 0o600))
	want := []string{at("a/module.so"), at("b/other.so")}
	if runtime.GOOS != "windows" { // where links want a right of their own
		require.NoError(t, os.Symlink("../module.so", at("a/pkcs11/module.so")))
		require.NoError(t, os.Symlink("nowhere", at("b/module.so")))
	}
	assert.Equal(t, want, files([]string{at("*/module.so"), at("*/pkcs11/module.so"), at("[/module.so"), at("missing/module.so"), at("b/other.so"), at("b/other.so")}))
	assert.Empty(t, files(nil))
}

func TestCandidatesAreFiles(t *testing.T) {
	for _, p := range Candidates() {
		i, err := os.Stat(p)
		require.NoError(t, err)
		assert.True(t, i.Mode().IsRegular(), p)
	}
}
