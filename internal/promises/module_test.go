package promises

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/packages"
)

// module is the path of the module whose promises these are.
const module = "github.com/rxguard/rxguard"

// root is the module's top folder.
var root = sync.OnceValue(func() string {
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		panic(err)
	}
	return dir
})

// short names a package of the module without the module's path.
func short(path string) string {
	if path == module {
		return "rxguard"
	}
	return strings.TrimPrefix(path, module+"/")
}

// ours tells whether a package belongs to the module.
func ours(path string) bool { return path == module || strings.HasPrefix(path, module+"/") }

// public tells whether a foreign module can import a package of ours as a library.
func public(path string) bool {
	p := short(path)
	return !strings.HasPrefix(p, "internal/") && !strings.Contains(p, "/internal/") && !strings.HasPrefix(p, "examples/")
}

// command runs a program in dir, with more environment.
func command(ctx context.Context, dir string, env []string, name string, arg ...string) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, name, arg...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "PWD="+dir), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// goCommand runs the go command in dir, offline, with more environment.
func goCommand(ctx context.Context, dir string, env []string, arg ...string) (stdout, stderr string, err error) {
	env = append([]string{"GOPROXY=off", "GOWORK=off", "GOTOOLCHAIN=local", "GOFLAGS=-mod=mod -buildvcs=false"}, env...)
	return command(ctx, dir, env, "go", arg...)
}

// publicPackages lists the public packages of the module.
func publicPackages(t *testing.T) []string {
	t.Helper()
	out, errs, err := goCommand(t.Context(), root(), nil, "list", "./...")
	require.NoError(t, err, errs)
	list := slices.DeleteFunc(strings.Fields(out), func(p string) bool { return !public(p) })
	require.Contains(t, list, module+"/signing")
	return list
}

// load type-checks packages, with files of the overlay in place of those on disk.
// The overlay's names are relative to the module's top folder.
func load(t *testing.T, overlay map[string]string, patterns ...string) []*packages.Package {
	t.Helper()
	over := make(map[string][]byte)
	for name, text := range overlay {
		over[filepath.Join(root(), filepath.FromSlash(name))] = []byte(text)
	}
	pkgs, err := packages.Load(&packages.Config{
		Context: t.Context(),
		Mode:    packages.NeedName | packages.NeedTypes | packages.NeedImports | packages.NeedSyntax | packages.NeedTypesInfo,
		Dir:     root(),
		Env:     append(os.Environ(), "GOPROXY=off", "GOWORK=off", "GOTOOLCHAIN=local"),
		Overlay: over,
	}, patterns...)
	require.NoError(t, err)
	var errs []error
	for _, p := range pkgs {
		for _, e := range p.Errors {
			errs = append(errs, e)
		}
	}
	require.NoError(t, errors.Join(errs...))
	return pkgs
}
