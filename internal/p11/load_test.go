//go:build cgo

package p11

import (
	"context"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/need"
)

// library compiles a shared library for this machine.
func library(t *testing.T, source string) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("for Windows: see TestWindows")
	}
	cc := need.Tool(t, "cc", "gcc libc6-dev")
	dir := t.TempDir()
	file(t, filepath.Join(dir, "module.c"), []byte(source))
	so := filepath.Join(dir, "module.so")
	run(t, nil, cc, "-shared", "-fPIC", "-o", so, filepath.Join(dir, "module.c"))
	return so
}

func TestAFileThatIsNoModuleIsToldWithTheReason(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text.so")
	file(t, text, []byte("no library"))
	for _, c := range []struct{ name, path, says string }{
		{"no library", text, "cannot be loaded: "},
		{"a library of something else", library(t, "int nothing(void) { return 0; }"), "C_GetFunctionList"},
		{"no function list", library(t, "unsigned long C_GetFunctionList(void **p) { return 5; }"), "C_GetFunctionList answered pkcs11: 0x5: CKR_GENERAL_ERROR"},
		{"an empty function list", library(t, "unsigned long C_GetFunctionList(void **p) { *p = 0; return 0; }"), "C_GetFunctionList gave no list"},
		{"another library is missing", library(t, "extern int nowhere(void); int x(void); int (*y)(void) = nowhere;"), "nowhere"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 2 {
				_, err := Open(context.Background(), c.path, Options{Bound: patience})
				require.ErrorContains(t, err, c.says)
				assert.ErrorContains(t, err, c.path)
				var e *card.Error
				assert.NotErrorAs(t, err, &e, "it is no error of a card")
			}
		})
	}
}

func TestAModuleThatCannotBeInitialisedIsNoErrorOfACard(t *testing.T) {
	for _, call := range []string{"Initialize", "GetInfo"} {
		sh := newShim(t, softHSM(t).tokens[0].Module)
		sh.on(call, fault{mode: refuse, code: pkcs11.CKR_GENERAL_ERROR})
		_, err := Open(context.Background(), sh.path, Options{Arguments: sh.control, Bound: patience})
		require.ErrorContains(t, err, "CKR_GENERAL_ERROR")
		assert.ErrorContains(t, err, sh.path)
		assert.NotContains(t, err.Error(), "card")
		var e *card.Error
		assert.NotErrorAs(t, err, &e)
		// It can be tried again.
		sh.well()
		_, err = Open(context.Background(), sh.path, Options{Arguments: sh.control, Bound: patience})
		assert.NoError(t, err)
	}
}

func TestAModuleThatWantsArgumentsSaysSo(t *testing.T) {
	sh := newShim(t, softHSM(t).tokens[0].Module) // which wants the path of its control
	_, err := Open(context.Background(), sh.path, Options{})
	require.ErrorIs(t, err, pkcs11.Error(pkcs11.CKR_ARGUMENTS_BAD))
	assert.ErrorContains(t, err, "it may want ModuleArguments")
	sh.on("Initialize", fault{mode: refuse, code: pkcs11.CKR_ARGUMENTS_BAD})
	_, err = Open(context.Background(), sh.path, Options{Arguments: sh.control})
	require.ErrorIs(t, err, pkcs11.Error(pkcs11.CKR_ARGUMENTS_BAD))
	assert.NotContains(t, err.Error(), "ModuleArguments", "it has some")
}

func TestLoadingIsGivenUpAtOnceAndGoesOnAlone(t *testing.T) {
	soft := softHSM(t)
	load(t, soft.tokens[0].Module, "")
	sh := newShim(t, soft.tokens[0].Module)
	sh.on("Initialize", fault{mode: hold})
	defer sh.well()
	opts := Options{Arguments: sh.control, Bound: patience}
	open := func(ctx context.Context) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := Open(ctx, sh.path, opts)
			done <- err
		}()
		return done
	}
	soon := func(done chan error) error {
		select {
		case err := <-done:
			return err
		case <-time.After(patience / 2):
			require.FailNow(t, "it waits for the module that loads")
			return nil
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := open(ctx)
	sh.held("Initialize")
	second, stays := open(ctx), open(t.Context())

	// A module that is loaded, and one that can be, wait for neither.
	other := make(chan error, 1)
	go func() {
		load(t, soft.tokens[0].Module, "")
		_, err := Open(context.Background(), newShim(t, soft.tokens[0].Module).path, Options{})
		other <- err
	}()
	assert.Error(t, soon(other), "the shim wants arguments")

	cancel()
	assert.ErrorIs(t, soon(first), context.Canceled)
	assert.ErrorIs(t, soon(second), context.Canceled)
	_, err := Open(ctx, sh.path, opts)
	assert.ErrorIs(t, err, context.Canceled)
	sh.well()
	assert.NoError(t, soon(stays))
	m, err := Open(context.Background(), sh.path, opts)
	require.NoError(t, err)
	_, err = m.Slots(t.Context())
	assert.NoError(t, err)
	assert.Equal(t, 1, sh.began("Initialize"), "it is loaded once")
}

func TestAModuleThatLoadedAfterItsBoundStaysWedged(t *testing.T) {
	sh := newShim(t, softHSM(t).tokens[0].Module)
	sh.on("Initialize", fault{mode: hold})
	opts := Options{Arguments: sh.control, Bound: 50 * time.Millisecond}
	_, err := Open(context.Background(), sh.path, opts)
	require.True(t, card.IsKind(err, card.Wedged), "%v", err)
	sh.well()
	m, err := Open(context.Background(), sh.path, opts)
	require.NoError(t, err)
	_, err = m.Slots(t.Context())
	assert.True(t, card.IsKind(err, card.Wedged), "%v", err)
}
