package promises

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// edge is one import: of a package, by a file.
type edge struct {
	file string // relative to the module's top folder
	from string // the file's folder: signing/eps
	to   string // a package of ours by its folder, else its import path
	test bool   // in a _test.go file
}

func (e edge) String() string { return e.file + " imports " + e.to }

// graph reads the imports of every Go file of the module, whatever its build tags,
// so that what is for another platform counts too. Planted files, by name, are
// added. The packages of the dot folders are tools of the build, apart from it, and
// what has a go.mod of its own is another module.
func graph(planted map[string]string) ([]edge, error) {
	var edges []edge
	add := func(name string, src any) error {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root(), name), src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			to, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if ours(to) {
				to = short(to)
			}
			edges = append(edges, edge{file: name, from: path.Dir(name), to: to, test: strings.HasSuffix(name, "_test.go")})
		}
		return nil
	}
	err := filepath.WalkDir(root(), func(name string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root(), name)
		switch {
		case err != nil:
			return err
		case d.IsDir() && rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() && rel != "." && nested(name):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		return add(filepath.ToSlash(rel), nil)
	})
	for name, src := range planted {
		if err == nil {
			err = add(name, src)
		}
	}
	return edges, err
}

// nested tells whether a folder is a module of its own.
func nested(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, "go.mod"))
	return err == nil
}

// standard tells whether an import path is of the standard library.
func standard(to string) bool {
	first, _, _ := strings.Cut(to, "/")
	return !strings.Contains(first, ".") && !slices.Contains(tops, first)
}

// below tells whether p is the folder or lies in it.
func below(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }

// An arrow is a rule about imports. Its broken says of one import whether it breaks
// the rule; tests may import more, where a rule does not say otherwise.
type arrow struct {
	rule   string
	broken func(e edge) bool
}

// among tells whether e's package is one of the folders or in one.
func (e edge) among(folders ...string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return below(e.from, f) })
}

// leads tells whether e leads to one of the folders or into one.
func (e edge) leads(folders ...string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return below(e.to, f) })
}

// product tells whether e is of code that vendors build: not a test, not the
// examples, not these checks or the helpers of tests.
func (e edge) product() bool {
	return !e.test && !e.among("examples") && !e.among(testHelpers...)
}

// testHelpers are packages that tests alone use.
var testHelpers = []string{"internal/promises", "internal/need", "internal/testcard/modules"}

// onlyStandard are the packages that import the standard library alone, apart from
// what is named.
var onlyStandard = map[string][]string{
	"guard":          {"guard/advisory", "guard/weakkey"},
	"guard/advisory": nil,
	"guard/weakkey":  nil,
	"internal/tbs":   nil,
	"internal/c14n":  nil,
	"internal/card":  {"guard"},
}

// quiet are packages of the standard library that reach disk, network, processes
// or past the type system: the decision is made without them.
var quiet = []string{"C", "unsafe", "os", "net", "net/http", "net/rpc", "net/smtp", "net/textproto", "syscall", "plugin", "database", "log/syslog"}

// inTests are modules that tests alone use.
var inTests = []string{
	"github.com/stretchr/testify", "pgregory.net/rapid", "github.com/santhosh-tekuri/jsonschema",
	"golang.org/x/tools",
}

var arrows = []arrow{
	{"guard imports nothing outside guard", func(e edge) bool {
		return e.product() && e.among("guard") && !standard(e.to) && !e.leads("guard") &&
			!e.among("guard/status", "guard/feed") // which may use what they need, but nothing of ours
	}},
	{"guard/status and guard/feed import nothing of ours outside guard", func(e edge) bool {
		return !e.test && e.among("guard/status", "guard/feed") && !e.leads("guard") && e.leads(tops...)
	}},
	{"packages of the standard library alone stay so", func(e edge) bool {
		more, ok := onlyStandard[e.from]
		return ok && e.product() && !standard(e.to) && !slices.Contains(more, e.to)
	}},
	{"guard does not know status and feed: they hand it sources", func(e edge) bool {
		return !e.test && e.among("guard") && !e.among("guard/status", "guard/feed") && e.leads("guard/status", "guard/feed")
	}},
	{"the decision reaches no disk, no network, no cgo", func(e edge) bool {
		return e.product() && e.among("guard", "internal/tbs") && !e.among("guard/status", "guard/feed") && slices.Contains(quiet, e.to)
	}},
	{"signing does not import renewal", func(e edge) bool {
		return e.product() && e.among("signing") && e.leads("renewal")
	}},
	// guard/status reads and judges lists for both guard and preflight, and leads to
	// nothing of ours outside guard: neither to a card nor to cgo.
	{"signing/eps imports of ours internal/tbs, internal/c14n and guard/status alone: preflight needs no card and no cgo", func(e edge) bool {
		return e.product() && e.among("signing/eps") && e.leads(tops...) && !e.leads("internal/tbs", "internal/c14n", "signing/eps") && e.to != "guard/status"
	}},
	{"signing/cms imports of ours internal/tbs alone", func(e edge) bool {
		return e.product() && e.among("signing/cms") && e.leads(tops...) && !e.leads("internal/tbs", "signing/cms")
	}},
	{"pkcs11 and cgo are in internal/p11 alone", func(e edge) bool {
		return !e.among("internal/p11") && (e.leads("github.com/miekg/pkcs11") || e.to == "C" || e.to == "unsafe" || e.to == "runtime/cgo")
	}},
	{"signing alone opens internal/p11", func(e edge) bool {
		return e.product() && e.leads("internal/p11") && e.from != "signing" && !e.among("internal/p11")
	}},
	{"the simulated card is in signing/signingtest, examples and tests alone", func(e edge) bool {
		return e.product() && e.leads("internal/testcard") && !e.among("internal/testcard", "signing/signingtest")
	}},
	{"signing/signingtest is in examples and tests alone", func(e edge) bool {
		return e.product() && e.leads("signing/signingtest") && !e.among("signing/signingtest")
	}},
	{"renewal/renewaltest tests through what a vendor sees: it imports of ours renewal alone, and is in tests alone", func(e edge) bool {
		from, to := e.among("renewal/renewaltest"), e.leads("renewal/renewaltest")
		return !e.test && (to && !from || from && e.leads(tops...) && e.to != "renewal" && !to)
	}},
	{"cards are for signing, renewal, internal/p11 and the simulated card", func(e edge) bool {
		return e.product() && e.leads("internal/card") && !slices.Contains([]string{"internal/card", "signing", "signing/signingtest", "renewal", "internal/p11"}, e.from) && !e.among("internal/testcard")
	}},
	{"messages are for signing and its documents", func(e edge) bool {
		return e.product() && e.leads("internal/tbs") && !slices.Contains([]string{"internal/tbs", "signing", "signing/eps", "signing/cms"}, e.from)
	}},
	{"holds are for signing and renewal", func(e edge) bool {
		return e.product() && e.leads("internal/state") && !slices.Contains([]string{"internal/state", "signing", "renewal"}, e.from)
	}},
	{"internal/state knows nothing else of ours", func(e edge) bool {
		return !e.test && e.among("internal/state") && e.leads(tops...)
	}},
	{"internal/testcard knows of ours internal/card alone", func(e edge) bool {
		return e.product() && e.among("internal/testcard") && e.leads(tops...) && !e.leads("internal/card", "internal/testcard")
	}},
	{"nobody imports an example", func(e edge) bool { return e.leads("examples") && !e.among("examples") }},
	{"helpers of tests are in tests alone", func(e edge) bool {
		return !e.test && !e.among(testHelpers...) && e.leads(testHelpers...)
	}},
	{"modules for tests are in tests alone", func(e edge) bool {
		suite := e.from == "renewal/renewaltest" && e.to == "testing" // for the tests of vendors
		return !e.test && (e.leads(inTests...) || e.leads("testing")) && !e.among(testHelpers...) && !suite
	}},
}

// breaks returns the imports that break an arrow.
func breaks(edges []edge) []string {
	var list []string
	for _, e := range edges {
		for _, a := range arrows {
			if a.broken(e) {
				list = append(list, e.String()+"; "+a.rule)
			}
		}
	}
	return list
}

func TestImportsFollowTheArrows(t *testing.T) {
	edges, err := graph(nil)
	require.NoError(t, err)
	assert.Empty(t, breaks(edges))
	for _, must := range []edge{ // the graph sees what is there
		{from: "renewal", to: "signing"}, {from: "signing", to: "guard"}, {from: "signing", to: "internal/card"},
		{from: "renewal", to: "internal/card"}, {from: "internal/testcard", to: "internal/card"},
		{from: "signing/signingtest", to: "internal/testcard"}, {from: "signing/eps", to: "internal/tbs"}, {from: "signing/eps", to: "guard/status"},
		{from: "signing", to: "internal/tbs"}, {from: "signing", to: "internal/state"}, {from: "renewal", to: "internal/state"},
		{from: "signing", to: "internal/p11"}, {from: "internal/p11", to: "internal/card"}, {from: "internal/p11", to: "github.com/miekg/pkcs11"},
	} {
		assert.True(t, slices.ContainsFunc(edges, func(e edge) bool { return e.from == must.from && e.to == must.to && !e.test }),
			"the arrow %s -> %s is not seen", must.from, must.to)
	}
}

func TestPlantedWrongArrowsAreSeen(t *testing.T) {
	for _, p := range []struct{ file, to, rule string }{
		{"guard/planted.go", module + "/internal/state", "guard imports nothing outside guard"},
		{"guard/planted.go", module + "/signing", "guard imports nothing outside guard"},
		{"guard/planted.go", "github.com/gofrs/flock", "packages of the standard library alone"},
		{"guard/planted.go", "os", "no disk"},
		{"guard/planted.go", module + "/guard/status", "guard does not know status"},
		{"guard/planted_windows.go", "net/http", "no network"},
		{"guard/advisory/planted.go", module + "/guard/feed", "guard does not know status"},
		{"guard/advisory/planted.go", module + "/guard", "packages of the standard library alone"},
		{"guard/feed/planted.go", module + "/internal/state", "guard/status and guard/feed"},
		{"internal/tbs/planted.go", module + "/guard", "packages of the standard library alone"},
		{"internal/c14n/planted.go", "golang.org/x/text/unicode/norm", "packages of the standard library alone"},
		{"internal/card/planted.go", module + "/internal/state", "packages of the standard library alone"},
		{"signing/planted.go", module + "/renewal", "signing does not import renewal"},
		{"signing/signingtest/planted.go", module + "/renewal/est", "signing does not import renewal"},
		{"signing/planted.go", module + "/internal/testcard", "the simulated card is in"},
		{"signing/planted.go", module + "/signing/signingtest", "signing/signingtest is in"},
		{"signing/planted_cgo.go", "github.com/miekg/pkcs11", "pkcs11 and cgo"},
		{"signing/planted_cgo.go", "C", "pkcs11 and cgo"},
		{"renewal/planted.go", "unsafe", "pkcs11 and cgo"},
		{"renewal/planted.go", module + "/internal/p11", "signing alone opens"},
		{"renewal/planted.go", module + "/internal/tbs", "messages are for"},
		{"renewal/est/planted.go", module + "/internal/card", "cards are for"},
		{"renewal/est/planted.go", module + "/internal/state", "holds are for"},
		{"renewal/est/planted.go", module + "/renewal/renewaltest", "renewal/renewaltest tests through"},
		{"renewal/renewaltest/planted.go", module + "/internal/testcard", "renewal/renewaltest tests through"},
		{"renewal/renewaltest/planted.go", module + "/renewal/est", "renewal/renewaltest tests through"},
		{"renewal/renewaltest/planted.go", "testing/fstest", "modules for tests"},
		{"renewal/est/planted.go", "testing", "modules for tests"},
		{"signing/eps/planted.go", module + "/signing", "signing/eps imports"},
		{"signing/eps/planted.go", module + "/internal/card", "signing/eps imports"},
		{"signing/eps/planted.go", module + "/guard", "signing/eps imports"},
		{"signing/eps/planted.go", module + "/guard/feed", "signing/eps imports"},
		{"guard/status/planted.go", module + "/internal/card", "guard/status and guard/feed"},
		{"signing/cms/planted.go", module + "/signing", "signing/cms imports"},
		{"internal/state/planted.go", module + "/internal/card", "internal/state knows"},
		{"internal/testcard/planted.go", module + "/signing", "internal/testcard knows"},
		{"signing/planted.go", module + "/examples/prescriber", "nobody imports an example"},
		{"renewal/planted.go", module + "/internal/need", "helpers of tests"},
		{"signing/signingtest/planted.go", module + "/internal/testcard/modules", "helpers of tests"},
		{"internal/testcard/planted.go", module + "/internal/need", "internal/testcard knows"},
		{"internal/testcard/modules/planted.go", "github.com/miekg/pkcs11", "pkcs11 and cgo"},
		{"renewal/planted.go", "github.com/stretchr/testify/assert", "modules for tests"},
		{"examples/rxguard/planted.go", "pgregory.net/rapid", "modules for tests"},
		{"guard/advisory/planted.go", "github.com/santhosh-tekuri/jsonschema/v6", "modules for tests"},
	} {
		t.Run(path.Dir(p.file)+" to "+short(p.to), func(t *testing.T) {
			edges, err := graph(map[string]string{p.file: fmt.Sprintf("package planted\nimport _ %q\n", p.to)})
			require.NoError(t, err)
			assert.True(t, slices.ContainsFunc(breaks(edges), func(s string) bool {
				return strings.HasPrefix(s, p.file+" imports") && strings.Contains(s, p.rule)
			}), "not seen; seen: %v", breaks(edges))
		})
	}
}

// Third parties that come with those that vendors build must not bring the tests'
// modules along either.
func TestNothingThatVendorsBuildNeedsATestModule(t *testing.T) {
	patterns := publicPackages(t)
	list, errs, err := goCommand(t.Context(), root(), nil, append([]string{"list", "-deps"}, patterns...)...)
	require.NoError(t, err, errs)
	deps := strings.Fields(list)
	require.Contains(t, deps, module+"/internal/card")
	for _, d := range deps {
		for _, m := range inTests {
			assert.False(t, below(d, m), "%s is among what vendors build", d)
		}
		for _, h := range testHelpers {
			assert.False(t, below(d, module+"/"+h), "%s is among what vendors build", d)
		}
	}
}

// tops are the folders of the module's top level.
var tops = []string{"signing", "guard", "renewal", "examples", "internal"}

// internalFolders are the folders of internal, with the reason for each.
var internalFolders = map[string]string{
	"card":     "what signing and renewal need of a card",
	"tbs":      "the messages that this module alone can make",
	"state":    "the machine-wide folder of locks and holds",
	"p11":      "PKCS #11, the only cgo",
	"c14n":     "the strict XML reader and canonical writer",
	"testcard": "the simulated card, its authority and enrolment server",
	"need":     "how tests ask for data and programs",
	"promises": "these checks",
}

// vague are names that say nothing of what a package decides.
var vague = []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "base", "lib", "manager", "types", "pkg"}

// layout says what is wrong with the names of folders, given relative to the top.
func layout(folders []string) []string {
	var list []string
	for _, f := range folders {
		parts := strings.Split(f, "/")
		switch {
		case strings.HasPrefix(parts[0], "."):
			continue
		case !slices.Contains(tops, parts[0]):
			list = append(list, f+": the top level has "+strings.Join(tops, ", ")+" alone")
		case parts[0] == "internal" && len(parts) > 1 && internalFolders[parts[1]] == "":
			list = append(list, f+": a folder of internal that has no reason on record here")
		case slices.Contains(vague, parts[len(parts)-1]):
			list = append(list, f+": a name that says nothing")
		}
	}
	return list
}

func TestFoldersAreThoseOfTheDesign(t *testing.T) {
	var folders []string
	require.NoError(t, fs.WalkDir(os.DirFS(root()), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !d.IsDir() || name == ".":
			return nil
		case strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata":
			return fs.SkipDir
		}
		folders = append(folders, name)
		return nil
	}))
	assert.Empty(t, layout(folders))
	assert.Contains(t, folders, "internal/promises")
	for _, planted := range []string{"pkg", "cmd", "cmd/rxguard", "internal/pki", "signing/util", "guard/common", "util"} {
		assert.Len(t, layout(append(folders, planted)), 1, "planted %s is not seen", planted)
	}
}
