//go:build cgo

package p11

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
)

// dllsEnv names a folder with the libraries of TestWindowsModules, for a machine
// without a compiler (Wine): the test says there which are wanted.
const dllsEnv = "RXGUARD_TEST_DLLS"

// A module that answers CKR_GENERAL_ERROR to everything, once it is loaded.
const refusing = `
#pragma pack(push,1)
static struct { unsigned char v[2]; void *f[68]; } list;
#pragma pack(pop)
__declspec(dllexport) unsigned long C_GetFunctionList(void **p)
{
	list.v[0] = 2; list.v[1] = 40;
	for (int i = 0; i < 68; i++) list.f[i] = (void *)refuse;
	*p = &list;
	return 0;
}
`

// dlls makes the libraries, of which module.dll wants beside.dll.
func dlls(t *testing.T) string {
	t.Helper()
	dir := os.Getenv(dllsEnv)
	if dir != "" {
		return dir
	}
	cc := need.Tool(t, "gcc", "mingw-w64")
	dir = folder // a library that is loaded cannot be removed
	make := func(name, source string, more ...string) {
		c := filepath.Join(dir, name+".c")
		file(t, c, []byte(source))
		run(t, nil, cc, append([]string{"-shared", "-o", filepath.Join(dir, name+".dll"), c}, more...)...)
	}
	make("beside", "__declspec(dllexport) unsigned long beside(void) { return 5; }")
	make("module", "__declspec(dllimport) unsigned long beside(void);\nstatic unsigned long refuse(void) { return beside(); }"+refusing, filepath.Join(dir, "beside.dll"))
	make("plain", "static unsigned long refuse(void) { return 5; }"+refusing)
	make("refuses", "__declspec(dllexport) unsigned long C_GetFunctionList(void **p) { (void)p; return 5; }")
	make("empty", "__declspec(dllexport) unsigned long C_GetFunctionList(void **p) { *p = 0; return 0; }")
	make("other", "__declspec(dllexport) int other(void) { return 0; }")
	return dir
}

func TestWindowsModules(t *testing.T) {
	dir := dlls(t)
	elsewhere := filepath.Join(folder, "bín-ü€日")
	require.NoError(t, os.MkdirAll(elsewhere, 0o700))
	plain, err := os.ReadFile(filepath.Join(dir, "plain.dll"))
	require.NoError(t, err)
	file(t, filepath.Join(elsewhere, "plain.dll"), plain)
	file(t, filepath.Join(elsewhere, "text.dll"), []byte("no library"))
	for _, c := range []struct{ name, path, says string }{
		{"plain", filepath.Join(dir, "plain.dll"), "cannot be initialised: pkcs11: 0x5: CKR_GENERAL_ERROR"},
		{"with a library beside it", filepath.Join(dir, "module.dll"), "cannot be initialised: pkcs11: 0x5: CKR_GENERAL_ERROR"},
		{"in a folder outside the code page", filepath.Join(elsewhere, "plain.dll"), "cannot be initialised: pkcs11: 0x5: CKR_GENERAL_ERROR"},
		{"no library", filepath.Join(elsewhere, "text.dll"), "cannot be loaded: "},
		{"a library of something else", filepath.Join(dir, "other.dll"), "C_GetFunctionList"},
		{"no function list", filepath.Join(dir, "refuses.dll"), "C_GetFunctionList answered pkcs11: 0x5: CKR_GENERAL_ERROR"},
		{"an empty function list", filepath.Join(dir, "empty.dll"), "C_GetFunctionList gave no list"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(context.Background(), c.path, Options{Bound: patience})
			require.Error(t, err)
			t.Log(err)
			assert.ErrorContains(t, err, c.path)
			if c.name == "in a folder outside the code page" && !shortNames(t, elsewhere) {
				c.says = "install it in a folder with a plain name"
			}
			assert.ErrorContains(t, err, c.says)
		})
	}
}

// shortNames tells whether the drive keeps short names.
func shortNames(t *testing.T, dir string) bool {
	t.Helper()
	s, err := narrow(dir)
	return err == nil && s != dir
}
