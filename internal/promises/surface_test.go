package promises

import (
	"context"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bare returns the exported identifiers of a package that have no doc comment, and
// says whether it has an Example. Planted files, by name, are added to the folder's.
func bare(folder string, planted map[string]string) (missing []string, example bool, err error) {
	fset := token.NewFileSet()
	names, err := filepath.Glob(filepath.Join(root(), folder, "*.go"))
	if err != nil {
		return nil, false, err
	}
	var files []*ast.File
	parse := func(name string, src any) error {
		f, err := parser.ParseFile(fset, name, src, parser.ParseComments)
		files = append(files, f)
		return err
	}
	for _, name := range names {
		if err := parse(name, nil); err != nil {
			return nil, false, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(planted)) {
		if err := parse(filepath.Join(root(), folder, name), planted[name]); err != nil {
			return nil, false, err
		}
	}
	p, err := doc.NewFromFiles(fset, files, module+"/"+folder, doc.AllMethods)
	if err != nil {
		return nil, false, err
	}
	without := func(what, text string) {
		if strings.TrimSpace(text) == "" {
			missing = append(missing, what)
		}
	}
	without("the package", p.Doc)
	values := func(list []*doc.Value) {
		for _, v := range list {
			for _, s := range v.Decl.Specs {
				s := s.(*ast.ValueSpec)
				for _, n := range s.Names {
					// A group's comment speaks for all of it; each line may add its own.
					if n.IsExported() {
						without(n.Name, v.Doc+s.Doc.Text()+s.Comment.Text())
					}
				}
			}
		}
	}
	functions := func(of string, list []*doc.Func) {
		for _, f := range list {
			without(of+f.Name, f.Doc)
		}
	}
	example = len(p.Examples) > 0
	values(p.Consts)
	values(p.Vars)
	functions("", p.Funcs)
	for _, f := range p.Funcs {
		example = example || len(f.Examples) > 0
	}
	for _, t := range p.Types {
		without(t.Name, t.Doc)
		values(t.Consts)
		values(t.Vars)
		functions("", t.Funcs)
		// Methods that every error has need no words where the type has them.
		for _, m := range t.Methods {
			if (m.Name != "Error" && m.Name != "Unwrap") || m.Doc != "" {
				functions(t.Name+".", []*doc.Func{m})
			}
		}
		example = example || len(t.Examples) > 0
		for _, f := range append(slices.Clone(t.Funcs), t.Methods...) {
			example = example || len(f.Examples) > 0
		}
	}
	return missing, example, nil
}

func TestEveryExportedIdentifierHasADocComment(t *testing.T) {
	for _, p := range append(publicPackages(t), cardPath, tbsPath) {
		missing, _, err := bare(strings.TrimPrefix(short(p), "rxguard"), nil)
		require.NoError(t, err)
		assert.Empty(t, missing, "%s: without a doc comment", short(p))
	}
	missing, _, err := bare("signing", map[string]string{"planted.go": `package signing
		type Planted int
		func (Planted) Method() {}
		func PlantedFunc() {}
		const PlantedConst = 1
		var PlantedVar int`})
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"Planted", "Planted.Method", "PlantedFunc", "PlantedConst", "PlantedVar"}, missing, "planted without a comment")
}

func TestEveryPublicPackageHasAnExample(t *testing.T) {
	for _, p := range publicPackages(t) {
		if p == module {
			continue // words, no code
		}
		_, example, err := bare(short(p), nil)
		require.NoError(t, err)
		assert.True(t, example, "%s has no Example", short(p))
	}
	_, example, err := bare("internal/tbs", nil)
	require.NoError(t, err)
	assert.False(t, example, "internal/tbs, which has none, is said to have an Example")
}

// The desktops of prescribers are Windows; developers' are anything. Where cgo is
// not there the module still builds, and says so when a card is opened.
func TestBuildsWithoutCgoOnEachPlatform(t *testing.T) {
	if testing.Short() {
		t.Skip("builds everything for four platforms: run without -short")
	}
	for _, platform := range []string{"linux/amd64", "linux/386", "windows/amd64", "darwin/arm64"} {
		t.Run(platform, func(t *testing.T) {
			goos, goarch, _ := strings.Cut(platform, "/")
			env := []string{"CGO_ENABLED=0", "GOOS=" + goos, "GOARCH=" + goarch}
			assert.NoError(t, builds(t.Context(), env))
		})
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "planted.go")
	require.NoError(t, os.WriteFile(file, []byte("package state\n\nvar planted = syscall.Getuid\n"), 0o600))
	overlay := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(overlay, fmt.Appendf(nil, `{"Replace": {%q: %q}}`,
		filepath.Join(root(), "internal", "state", "planted_windows.go"), file), 0o600))
	assert.ErrorContains(t, builds(t.Context(), []string{"CGO_ENABLED=0", "GOOS=windows", "GOARCH=amd64"}, "-overlay", overlay),
		"syscall", "planted for Windows alone")
}

func builds(ctx context.Context, env []string, arg ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	_, errs, err := goCommand(ctx, root(), env, append(append([]string{"build"}, arg...), "./...")...)
	if err != nil {
		return fmt.Errorf("%v: %w: %s", env, err, errs)
	}
	return nil
}

// named is a test, fuzz target or example as prose names it.
var named = regexp.MustCompile(`\b(Test|Fuzz|Example|Benchmark)[A-Z_][A-Za-z0-9_]*`)

// stale returns the tests that a text names and no test file has.
func stale(text string, tests map[string]bool) []string {
	list := slices.DeleteFunc(named.FindAllString(text, -1), func(n string) bool { return tests[n] })
	slices.Sort(list)
	return slices.Compact(list)
}

var inPackages = regexp.MustCompile("((?:`Test\\w+`(?:, )?)+) \\(([^)]*)\\)")

// elsewhere lists the tests that a paper names, as `TestX`, `TestY` (package), in a
// package where they are not.
func elsewhere(text string, in map[string]bool) []string {
	var list []string
	for _, m := range inPackages.FindAllStringSubmatch(text, -1) {
		for _, test := range named.FindAllString(m[1], -1) {
			for pkg := range strings.SplitSeq(m[2], ", ") {
				if !in[pkg+" "+test] {
					list = append(list, pkg+" "+test)
				}
			}
		}
	}
	return list
}

// SECURITY.md names the test of each promise: a test that was renamed or is gone
// leaves a promise that nobody keeps.
func TestPapersNameTestsThatAreThere(t *testing.T) {
	tests := make(map[string]bool)
	in := make(map[string]bool) // "package test"
	require.NoError(t, filepath.WalkDir(root(), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range f.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Recv == nil {
				tests[d.Name.Name] = true
				dir, err := filepath.Rel(root(), filepath.Dir(name))
				if err != nil {
					return err
				}
				in[filepath.ToSlash(dir)+" "+d.Name.Name] = true
			}
		}
		return nil
	}))
	papers, err := filepath.Glob(filepath.Join(root(), "*.md"))
	require.NoError(t, err)
	require.NotEmpty(t, papers)
	for _, p := range papers {
		b, err := os.ReadFile(p)
		require.NoError(t, err)
		assert.Empty(t, stale(string(b), tests), "%s names tests that are not there", filepath.Base(p))
		assert.Empty(t, elsewhere(string(b), in), "%s names tests in packages where they are not", filepath.Base(p))
	}
	assert.Equal(t, []string{"guard TestPapersNameTestsThatAreThere"}, elsewhere("kept by `TestPapersNameTestsThatAreThere` (guard)", in), "planted")
	assert.Equal(t, []string{"TestThatIsNotThere"}, stale("kept by `TestThatIsNotThere` and `TestPapersNameTestsThatAreThere`", tests), "planted")
}
