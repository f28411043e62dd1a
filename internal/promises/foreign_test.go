package promises

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"
)

// attempt is one file of testdata/foreign: a module of a vendor's that tries to get
// round the guard, what stops it, and a violation of ours that would let it through.
//
// The file's comment says what is tried. Its lines "build: TEXT" are what the
// compiler must say, each of them; a line "run: TEXT" is what the program must
// print, having been refused, before it exits with 0. A program that was not
// refused prints GOT THROUGH and exits with 3. "plant module: PATH" builds the
// planted module under another path. A violation is a new file, plant/PATH.go; or
// "plant/FOLDER func Type.Method", statements put before those of that function; or
// "plant/FOLDER type Type", fields put before those of that struct; or
// "plant/PATH.go edit", the old text, a line "====", the new text.
type attempt struct {
	build, run  []string
	plantModule string
	files       []txtar.File
	plant       []txtar.File
}

func readAttempt(name string) (attempt, error) {
	ar, err := txtar.ParseFile(name)
	if err != nil {
		return attempt{}, err
	}
	var a attempt
	for line := range strings.Lines(string(ar.Comment)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "build":
			a.build = append(a.build, value)
		case "run":
			a.run = append(a.run, value)
		case "plant module":
			a.plantModule = value
		}
	}
	if (len(a.build) == 0) == (len(a.run) == 0) {
		return a, fmt.Errorf("%s: wanted lines build: or lines run:", name)
	}
	for _, f := range ar.Files {
		if path, ok := strings.CutPrefix(f.Name, "plant/"); ok {
			a.plant = append(a.plant, txtar.File{Name: path, Data: f.Data})
		} else {
			a.files = append(a.files, f)
		}
	}
	return a, nil
}

// errThrough is the error of try for an attempt that was not stopped.
var errThrough = errors.New("it got through")

// try makes an attempt in dir and returns nil when it was stopped as it says.
func (a attempt) try(ctx context.Context, dir string, plant bool) error {
	path := "example.org/vendor"
	overlay := make(map[string]string)
	if plant {
		if a.plantModule != "" {
			path = a.plantModule
		}
		var err error
		if overlay, err = a.overlay(dir); err != nil {
			return err
		}
	}
	if err := a.write(dir, path); err != nil {
		return err
	}
	arg := []string{"build"}
	if len(overlay) > 0 {
		b, err := json.Marshal(map[string]any{"Replace": overlay})
		if err != nil {
			return err
		}
		file := filepath.Join(dir, "overlay.json")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			return err
		}
		arg = append(arg, "-overlay", file)
	}
	program := filepath.Join(dir, "program")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	if len(a.run) > 0 {
		arg = append(arg, "-ldflags=-s -w", "-o", program)
	}
	_, said, err := goCommand(ctx, dir, nil, append(arg, "./...")...)
	if len(a.build) > 0 {
		return compare(a.build, said, err)
	}
	if err != nil {
		return fmt.Errorf("it does not compile: %w: %s", err, said)
	}
	return a.start(ctx, dir, program)
}

// compare holds what the compiler said against what it was to say.
func compare(want []string, said string, err error) error {
	if err == nil {
		return fmt.Errorf("%w: it compiles", errThrough)
	}
	for _, w := range want {
		if !strings.Contains(said, w) {
			return fmt.Errorf("it does not compile, but the compiler was to say %q and said: %s", w, said)
		}
	}
	return nil
}

// start runs the built program.
func (a attempt) start(ctx context.Context, dir, program string) error {
	out, errs, err := command(ctx, dir, []string{"TMPDIR=" + dir, "TEMP=" + dir, "TMP=" + dir}, program)
	switch {
	case strings.Contains(out, "GOT THROUGH"):
		return fmt.Errorf("%w: %s", errThrough, strings.TrimSpace(out))
	case err != nil:
		return fmt.Errorf("the program failed: %w: %s%s", err, out, errs)
	}
	for _, w := range a.run {
		if !strings.Contains(out, w) {
			return fmt.Errorf("the program was to print %q and printed: %s%s", w, out, errs)
		}
	}
	return nil
}

// write writes the vendor's module: it requires what this one does, so that it
// builds offline wherever this one does.
func (a attempt) write(dir, path string) error {
	mod, err := os.ReadFile(filepath.Join(root(), "go.mod"))
	if err != nil {
		return err
	}
	sum, err := os.ReadFile(filepath.Join(root(), "go.sum"))
	if err != nil {
		return err
	}
	text := strings.Replace(string(mod), "module "+module+"\n", "module "+path+"\n", 1) +
		fmt.Sprintf("\nrequire %s v0.0.0\n\nreplace %s => %q\n", module, module, root())
	files := append([]txtar.File{{Name: "go.mod", Data: []byte(text)}, {Name: "go.sum", Data: sum}}, a.files...)
	if len(a.run) > 0 {
		kit, err := os.ReadFile(filepath.Join("testdata", "foreign", "kit.go.txt"))
		if err != nil {
			return err
		}
		files = append(files, txtar.File{Name: "kit.go", Data: kit})
	}
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(name, f.Data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// overlay writes the planted files and returns what they stand in for.
func (a attempt) overlay(dir string) (map[string]string, error) {
	edited := make(map[string]string)
	for _, f := range a.plant {
		if err := plantIn(edited, f.Name, string(f.Data)); err != nil {
			return nil, fmt.Errorf("plant/%s: %w", f.Name, err)
		}
	}
	planted := make(map[string]string)
	for path, text := range edited {
		file := filepath.Join(dir, fmt.Sprintf("planted%d.go.txt", len(planted)))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, err
		}
		planted[path] = file
	}
	return planted, nil
}

// plantIn adds one planted file or edit to the files that were edited so far.
func plantIn(edited map[string]string, name, data string) error {
	where, what, _ := strings.Cut(name, " ")
	path := filepath.Join(root(), filepath.FromSlash(where))
	kind, decl, _ := strings.Cut(what, " ")
	switch kind {
	case "":
		edited[path] = data
		return nil
	case "edit":
		text, err := textOf(edited, path)
		if err != nil {
			return err
		}
		was, now, ok := strings.Cut(data, "\n====\n")
		if !ok || strings.Count(text, was) != 1 {
			return fmt.Errorf("the old text is there %d times, wanted once: %s", strings.Count(text, was), was)
		}
		edited[path] = strings.Replace(text, was, strings.TrimSuffix(now, "\n"), 1)
		return nil
	}
	files, err := filepath.Glob(filepath.Join(path, "*.go"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := textOf(edited, file)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, file, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if at := opening(tree, kind, decl); at.IsValid() {
			i := fset.Position(at).Offset + 1
			edited[file] = text[:i] + "\n" + data + text[i:]
			return nil
		}
	}
	return fmt.Errorf("there is no %s %s", kind, decl)
}

func textOf(edited map[string]string, path string) (string, error) {
	if text, ok := edited[path]; ok {
		return text, nil
	}
	b, err := os.ReadFile(path)
	return string(b), err
}

// opening is where the body of a function or the fields of a struct begin.
func opening(tree *ast.File, kind, name string) (at token.Pos) {
	receiver, method, ok := strings.Cut(name, ".")
	if !ok {
		receiver, method = "", name
	}
	for n := range ast.Preorder(tree) {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if kind == "func" && n.Name.Name == method && receiverOf(n) == receiver && n.Body != nil {
				at = n.Body.Lbrace
			}
		case *ast.TypeSpec:
			if s, ok := n.Type.(*ast.StructType); ok && kind == "type" && n.Name.Name == name {
				at = s.Fields.Opening
			}
		}
	}
	return at
}

func receiverOf(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return ""
	}
	t := f.Recv.List[0].Type
	if p, ok := t.(*ast.StarExpr); ok {
		t = p.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name
	}
	return "?"
}

// P1: a module outside this one cannot get at the key, nor sign what the guard did
// not allow; and each of these tests notices a violation that would let it.
func TestForeignModulesCannotGetRoundTheGuard(t *testing.T) {
	if testing.Short() {
		t.Skip("builds some thirty programs: run without -short")
	}
	names, err := filepath.Glob(filepath.Join("testdata", "foreign", "*.txtar"))
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		a, err := readAttempt(name)
		require.NoError(t, err)
		name := strings.TrimSuffix(filepath.Base(name), ".txtar")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			assert.NoError(t, a.try(ctx, t.TempDir(), false))
			if name == "control" {
				assert.Empty(t, a.plant)
				return
			}
			require.True(t, len(a.plant) > 0 || a.plantModule != "", "%s plants no violation", name)
			assert.ErrorIs(t, a.try(ctx, t.TempDir(), true), errThrough, "with a violation planted")
		})
	}
}
