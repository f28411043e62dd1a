package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

const module = "example.org/m"

// stream writes events as go test -json does; a line that does not begin with an
// action is handed on as it is.
func stream(lines ...string) *strings.Reader {
	var b strings.Builder
	for _, l := range lines {
		f := strings.SplitN(l, " ", 4)
		switch f[0] {
		case "start", "run", "pause", "cont", "pass", "fail", "skip", "output":
			f = append(f, "", "", "")[:4]
			out := strings.ReplaceAll(f[3], "~", "\\n")
			fmt.Fprintf(&b, `{"Time":"2026-01-02T03:04:05Z","Action":%q,"Package":"%s/%s","Test":%q,"Elapsed":0.5,"Output":"%s"}`+"\n",
				f[0], module, f[1], f[2], out)
		default:
			b.WriteString(l + "\n")
		}
	}
	return strings.NewReader(b.String())
}

func TestReport(t *testing.T) {
	cases := []struct {
		name    string
		lines   []string
		missing []string
		require bool
		exit    error
		logs    bool
		good    bool
		closing string
		shows   []string
		hides   []string
	}{
		{
			name: "tests and subtests that pass",
			lines: []string{
				"start a", "run a TestX", "run a TestX/one", "output a TestX/one chatter~", "pass a TestX/one",
				"run a TestX/two/three", "pass a TestX/two/three", "pass a TestX", "run a TestY", "pass a TestY",
				"output a  PASS~", "pass a",
			},
			good: true, closing: "3 passed, 0 failed, 0 skipped",
			shows: []string{"ok    a  0.5s  3 passed\n"},
			hides: []string{"chatter", "not run", "PASS"},
		},
		{
			name: "the log of passing tests, where asked for",
			lines: []string{
				"run a TestSoak", "output a TestSoak === RUN   TestSoak~", "output a TestSoak     a_test.go:3: 100000 cases~",
				"output a TestSoak --- PASS: TestSoak (0.50s)~", "pass a TestSoak", "pass a",
			},
			logs: true, good: true, closing: "1 passed, 0 failed, 0 skipped",
			shows: []string{"a.TestSoak (0.5s)\n", "100000 cases"},
			hides: []string{"===", "---"},
		},
		{
			name: "a failed subtest is shown in full and counted once",
			lines: []string{
				"run a TestX", "run a TestX/one", "output a TestX/one === RUN   TestX/one~",
				"output a TestX/one     a_test.go:9: wanted 1~", "output a TestX/one         got 2~", "fail a TestX/one",
				"output a TestX --- FAIL: TestX (0.00s)~", "fail a TestX", "fail a",
			},
			exit: errors.New("exit status 1"), closing: "0 passed, 1 failed, 0 skipped",
			shows: []string{"--- FAIL: a.TestX/one (0.50s)\n", "wanted 1\n", "got 2\n", "FAIL  a  0.5s  1 failed\n"},
			hides: []string{"=== RUN", "--- FAIL: a.TestX ", "without naming"},
		},
		{
			name:    "a failed test that go test did not answer for",
			lines:   []string{"run a TestX", "fail a TestX", "pass a"},
			closing: "0 passed, 1 failed, 0 skipped",
			shows:   []string{"FAIL  a"},
		},
		{
			name: "skipped tests are listed under their reasons",
			lines: []string{
				"run a TestX", "run a TestX/one", "output a TestX/one     a_test.go:3: first this~",
				"output a TestX/one     need.go:4: needs the program foo:~", "output a TestX/one         apt-get install foo~",
				"output a TestX/one --- SKIP: TestX/one (0.00s)~", "skip a TestX/one", "pass a TestX", "pass a",
				"run b TestY", "output b TestY     need.go:4: needs the program foo: apt-get install foo~", "skip b TestY",
				"run b TestZ", "skip b TestZ", "run b TestA", "pass b TestA", "pass b",
			},
			good: true, closing: "1 passed, 0 failed, 3 skipped",
			shows: []string{
				"ok    b  0.5s  1 passed, 2 skipped\n",
				"not run:\n  needs the program foo: apt-get install foo\n      a.TestX/one\n      b.TestY\n" +
					"  the test gave no reason\n      b.TestZ\n",
			},
			hides: []string{"first this", "RXGUARD_REQUIRE"},
		},
		{
			name: "a skipped test fails where everything is required",
			lines: []string{
				"run a TestX", "output a TestX     need.go:4: needs foo~", "skip a TestX", "run a TestY", "pass a TestY", "pass a",
			},
			require: true, closing: "1 passed, 0 failed, 1 skipped",
			shows: []string{"needs foo", "RXGUARD_REQUIRE=all is set"},
		},
		{
			name:    "a missing tool is listed",
			lines:   []string{"run a TestX", "pass a TestX", "pass a"},
			missing: []string{"staticcheck: could not be fetched"},
			good:    true, closing: "1 passed, 0 failed, 0 skipped",
			shows: []string{"not run:\n  staticcheck: could not be fetched\n"},
		},
		{
			name:    "a missing tool fails where everything is required",
			lines:   []string{"run a TestX", "pass a TestX", "pass a"},
			missing: []string{"staticcheck: could not be fetched"},
			require: true, closing: "1 passed, 0 failed, 0 skipped",
			shows: []string{"staticcheck: could not be fetched", "RXGUARD_REQUIRE=all is set"},
		},
		{
			name: "everything required and everything run",
			lines: []string{
				"run a TestX", "pass a TestX", "pass a", "output b  ?   \\t" + module + "/b\\t[no test files]~", "skip b",
			},
			require: true, good: true, closing: "1 passed, 0 failed, 0 skipped",
			shows: []string{"-     b  no test files\n"},
			hides: []string{"[no test files]", "RXGUARD_REQUIRE", "not run"},
		},
		{
			name:    "nothing at all",
			closing: "0 passed, 0 failed, 0 skipped",
			shows:   []string{"no test ran"},
		},
		{
			name:    "only skipped tests",
			lines:   []string{"run a TestX", "run a TestX/one", "skip a TestX/one", "pass a TestX", "pass a"},
			closing: "0 passed, 0 failed, 1 skipped",
			shows:   []string{"no test ran"},
		},
		{
			name:    "a TestMain that runs nothing says why",
			lines:   []string{"start a", "output a  not today~", "output a  ok  \\t" + module + "/a\\t0.01s~", "pass a"},
			closing: "0 passed, 0 failed, 0 skipped",
			shows:   []string{"    not today\n", "ok    a  0.5s  no test ran\n"},
		},
		{
			name:    "a TestMain that fails after its tests",
			lines:   []string{"run a TestX", "pass a TestX", "output a  leaked a goroutine~", "output a  exit status 7~", "fail a"},
			exit:    errors.New("exit status 1"),
			closing: "1 passed, 1 failed, 0 skipped",
			shows:   []string{"leaked a goroutine", "exit status 7", "FAIL  a  0.5s  1 failed, outside its tests\n"},
		},
		{
			name: "a package that does not build",
			lines: []string{
				`{"ImportPath":"example.org/m/a [example.org/m/a.test]","Action":"build-output","Output":"a.go:3:1: undefined: x\n"}`,
				`{"ImportPath":"example.org/m/a [example.org/m/a.test]","Action":"build-fail"}`,
				`{"Action":"start","Package":"example.org/m/a"}`,
				`{"Action":"output","Package":"example.org/m/a","Output":"FAIL\texample.org/m/a [build failed]\n"}`,
				`{"Action":"fail","Package":"example.org/m/a","Elapsed":0,"FailedBuild":"example.org/m/a [example.org/m/a.test]"}`,
				"run b TestX", "pass b TestX", "pass b",
			},
			exit:    errors.New("exit status 1"),
			closing: "1 passed, 1 failed, 0 skipped",
			shows:   []string{"a.go:3:1: undefined: x", "FAIL  a  0.0s  1 failed, did not build\n"},
		},
		{
			name: "what the compiler warned of is kept",
			lines: []string{
				`{"ImportPath":"example.org/m/a","Action":"build-output","Output":"warning: deprecated\n"}`,
				"run a TestX", "pass a TestX", "pass a",
			},
			good: true, closing: "1 passed, 0 failed, 0 skipped",
			shows: []string{"warning: deprecated"},
		},
		{
			name: "a test that never ends, its parent and its waiting neighbour",
			lines: []string{
				"run a TestW", "output a TestW === PAUSE TestW~", "pause a TestW", "run a TestX", "run a TestX/one",
				"output a TestX/one panic: test timed out after 1s~", "fail a",
			},
			exit: errors.New("exit status 1"), closing: "0 passed, 2 failed, 0 skipped",
			shows: []string{"--- FAIL: a.TestX/one", "test timed out", "--- FAIL: a.TestW", "the test did not end"},
		},
		{
			name:    "go test dies",
			lines:   []string{"run a TestX", "pass a TestX", "pass a", "start b", "run b TestY", "start c", `{"Action":"outp`},
			exit:    errors.New("signal: killed"),
			closing: "1 passed, 2 failed, 0 skipped",
			shows:   []string{"--- FAIL: b.TestY", "FAIL  c", "go test ended before this package did", `{"Action":"outp`},
		},
		{
			name:    "go test fails without a word",
			lines:   []string{"run a TestX", "pass a TestX", "pass a"},
			exit:    errors.New("exit status 2"),
			closing: "1 passed, 1 failed, 0 skipped",
			shows:   []string{"without naming a test: exit status 2"},
		},
		{
			name:  "lines that are no events are printed",
			lines: []string{"warning: odd", `{"some":"json"}`, "[1]", "run a TestX", "pass a TestX", "pass a"},
			good:  true, closing: "1 passed, 0 failed, 0 skipped",
			shows: []string{"warning: odd\n", `{"some":"json"}` + "\n", "[1]\n"},
		},
		{
			name:    "the root package is the dot",
			lines:   []string{`{"Action":"run","Package":"example.org/m","Test":"TestX"}`, `{"Action":"fail","Package":"example.org/m","Test":"TestX"}`, `{"Action":"fail","Package":"example.org/m"}`},
			closing: "0 passed, 1 failed, 0 skipped",
			shows:   []string{"FAIL  .  "},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			r := newReport(&out, module)
			r.logs = c.logs
			if err := r.read(stream(c.lines...)); err != nil {
				t.Fatal(err)
			}
			if good := r.finish(c.missing, c.require, c.exit); good != c.good {
				t.Errorf("good is %v, want %v", good, c.good)
			}
			if !strings.HasSuffix("\n"+out.String(), "\n"+c.closing+"\n") {
				t.Errorf("does not close with %q", c.closing)
			}
			for _, s := range c.shows {
				if !strings.Contains(out.String(), s) {
					t.Errorf("does not show %q", s)
				}
			}
			for _, s := range c.hides {
				if strings.Contains(out.String(), s) {
					t.Errorf("shows %q", s)
				}
			}
			if t.Failed() {
				t.Logf("output:\n%s", out.String())
			}
		})
	}
}

func TestReadFails(t *testing.T) {
	err := newReport(&bytes.Buffer{}, module).read(failingReader{})
	if err == nil || !strings.Contains(err.Error(), "could not be read") {
		t.Fatalf("got %v", err)
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("gone") }

func TestInterruptedHasNoClosingLine(t *testing.T) {
	var out bytes.Buffer
	r := newReport(&out, module)
	if err := r.read(stream("run a TestX", "pass a TestX", "pass a", "run b TestY", "pass b TestY", "run b TestZ")); err != nil {
		t.Fatal(err)
	}
	r.interrupted()
	if want := "interrupted: until then 2 tests passed, 0 failed; the rest is not known\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("got %q", out.String())
	}
}

func TestOutputIsBounded(t *testing.T) {
	var o output
	o.write("the first line\n")
	for i := range 10 * keep / 100 {
		o.write(fmt.Sprintf("%099d\n", i))
	}
	o.write("the last line\n")
	if n := len(o.head) + len(o.tail); n > 3*keep {
		t.Errorf("keeps %d bytes", n)
	}
	lines := o.lines()
	if lines[0] != "the first line" || lines[len(lines)-1] != "the last line" {
		t.Errorf("lost an end: %q … %q", lines[0], lines[len(lines)-1])
	}
	if !strings.Contains(strings.Join(lines, "\n"), "output left out") {
		t.Error("does not say that something was left out")
	}
}
