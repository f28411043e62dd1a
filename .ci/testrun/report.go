package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// event is one line of go test -json (go doc test2json, and go help buildjson for the
// two build actions).
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// report follows a run of go test. A test with subtests is not counted beside them,
// unless it failed or was skipped itself; a package that failed without a failed test
// counts as one failure.
type report struct {
	out    io.Writer
	module string
	logs   bool // print what passing tests log

	packages                map[string]*testedPackage // those not ended yet
	builds                  map[string]*output        // compiler output not printed yet
	passed, failed, skipped int
	notRun                  []notRun
}

type testedPackage struct {
	name                    string
	tests                   map[string]*test
	output                  output
	passed, failed, skipped int
}

type test struct {
	output                    output
	ended, parent, childFails bool
}

// notRun is one reason and what was not run for it.
type notRun struct {
	reason string
	tests  []string
}

func newReport(out io.Writer, module string) *report {
	return &report{
		out: out, module: module,
		packages: map[string]*testedPackage{},
		builds:   map[string]*output{},
	}
}

// read follows the stream to its end. A line that is no event is printed as it is.
func (r *report) read(stream io.Reader) error {
	in := bufio.NewReader(stream)
	for {
		line, err := in.ReadBytes('\n')
		if text := strings.TrimSpace(string(line)); text != "" {
			var e event
			if json.Unmarshal(line, &e) != nil || e.Action == "" {
				fmt.Fprintln(r.out, text)
			} else {
				r.handle(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the output of go test could not be read: %w", err)
		}
	}
}

func (r *report) handle(e event) {
	switch {
	case e.Action == "build-output":
		if r.builds[e.ImportPath] == nil {
			r.builds[e.ImportPath] = &output{}
		}
		r.builds[e.ImportPath].write(e.Output)
	case e.Package == "":
	case e.Test != "":
		r.handleTest(r.pkg(e.Package), e)
	case e.Action == "output":
		r.pkg(e.Package).output.write(e.Output)
	case e.Action == "pass" || e.Action == "fail" || e.Action == "skip":
		r.endPackage(r.pkg(e.Package), e)
		delete(r.packages, e.Package)
	default:
		r.pkg(e.Package)
	}
}

func (r *report) pkg(path string) *testedPackage {
	p := r.packages[path]
	if p == nil {
		name := strings.TrimPrefix(strings.TrimPrefix(path, r.module), "/")
		if r.module == "" {
			name = path
		}
		if name == "" {
			name = "."
		}
		p = &testedPackage{name: name, tests: map[string]*test{}}
		r.packages[path] = p
	}
	return p
}

func (r *report) handleTest(p *testedPackage, e event) {
	t := p.tests[e.Test]
	if t == nil {
		t = &test{}
		p.tests[e.Test] = t
		if up := p.parentOf(e.Test); up != nil {
			up.parent = true
		}
	}
	switch e.Action {
	case "output":
		if t.ended {
			p.output.write(e.Output)
		} else {
			t.output.write(e.Output)
		}
	case "pass", "fail", "skip":
		if !t.ended {
			t.ended = true
			r.endTest(p, e.Test, t, e.Action, e.Elapsed)
			t.output = output{}
		}
	}
}

// parentOf returns the test that the named one is a subtest of. A subtest's own name
// may hold slashes, so the nearest test that ran is looked for.
func (p *testedPackage) parentOf(name string) *test {
	for {
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return nil
		}
		name = name[:i]
		if t := p.tests[name]; t != nil {
			return t
		}
	}
}

func (r *report) endTest(p *testedPackage, name string, t *test, action string, elapsed float64) {
	full := p.name + "." + name
	switch action {
	case "pass":
		if !t.parent {
			p.passed++
		}
		lines := t.output.lines()
		if !r.logs { // a count that is reduced here is told all the same
			lines = slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return !strings.Contains(l, "(make soak: ") })
		}
		if len(lines) > 0 {
			fmt.Fprintf(r.out, "%s (%.1fs)\n", full, elapsed)
			r.indent(lines)
		}
	case "skip":
		p.skipped++
		r.addNotRun(t.output.reason(), full)
	case "fail":
		if up := p.parentOf(name); up != nil {
			up.childFails = true
		}
		lines := t.output.lines()
		if !t.childFails {
			p.failed++
		} else if len(lines) == 0 {
			return
		}
		fmt.Fprintf(r.out, "--- FAIL: %s (%.2fs)\n", full, elapsed)
		r.indent(lines)
	}
}

func (r *report) addNotRun(reason, test string) {
	i := slices.IndexFunc(r.notRun, func(n notRun) bool { return n.reason == reason })
	if i < 0 {
		i = len(r.notRun)
		r.notRun = append(r.notRun, notRun{reason: reason})
	}
	r.notRun[i].tests = append(r.notRun[i].tests, test)
}

func (r *report) endPackage(p *testedPackage, e event) {
	r.endUnfinished(p)
	r.printBuild(e.FailedBuild)
	failed := e.Action == "fail" || p.failed > 0
	note := ""
	if e.Action == "fail" && p.failed == 0 {
		p.failed = 1
		note = ", outside its tests"
		if e.FailedBuild != "" {
			note = ", did not build"
		}
	}
	// A TestMain that ends before any test has only this to say why.
	if failed || len(p.tests) == 0 {
		r.indent(p.output.lines())
	}
	switch {
	case failed:
		fmt.Fprintf(r.out, "FAIL  %s  %.1fs  %d failed%s\n", p.name, e.Elapsed, p.failed, note)
	case e.Action == "skip" && len(p.tests) == 0:
		fmt.Fprintf(r.out, "-     %s  no test files\n", p.name)
	case p.passed+p.skipped == 0:
		fmt.Fprintf(r.out, "ok    %s  %.1fs  no test ran\n", p.name, e.Elapsed)
	case p.skipped > 0:
		fmt.Fprintf(r.out, "ok    %s  %.1fs  %d passed, %d skipped\n", p.name, e.Elapsed, p.passed, p.skipped)
	default:
		fmt.Fprintf(r.out, "ok    %s  %.1fs  %d passed\n", p.name, e.Elapsed, p.passed)
	}
	r.passed += p.passed
	r.failed += p.failed
	r.skipped += p.skipped
}

// endUnfinished fails the tests that began and never ended, as after a time-out or an
// exit in their midst.
func (r *report) endUnfinished(p *testedPackage) {
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(p.tests))) {
		if t := p.tests[name]; !t.ended {
			t.ended = true
			t.output.write("the test did not end\n")
			r.endTest(p, name, t, "fail", 0)
		}
	}
}

func (r *report) printBuild(path string) {
	if o := r.builds[path]; o != nil {
		r.indent(o.lines())
		delete(r.builds, path)
	}
}

func (r *report) indent(lines []string) {
	for _, l := range lines {
		fmt.Fprintln(r.out, "    "+l)
	}
}

// interrupted closes a run that a signal ended, without the line that closes a whole one.
func (r *report) interrupted() {
	for _, p := range r.packages {
		r.passed += p.passed
		r.failed += p.failed
	}
	fmt.Fprintf(r.out, "interrupted: until then %d tests passed, %d failed; the rest is not known\n", r.passed, r.failed)
}

// finish prints the list of what was not run and the closing line, and reports whether
// the run is good. goTest is how go test ended.
func (r *report) finish(missing []string, requireAll bool, goTest error) bool {
	for _, path := range slices.Sorted(maps.Keys(r.packages)) {
		p := r.packages[path]
		p.output.write("go test ended before this package did\n")
		r.endPackage(p, event{Action: "fail"})
		delete(r.packages, path)
	}
	for _, path := range slices.Sorted(maps.Keys(r.builds)) {
		r.printBuild(path)
	}
	if goTest != nil && r.failed == 0 {
		r.failed++
		fmt.Fprintf(r.out, "go test failed without naming a test: %v\n", goTest)
	}
	good := r.failed == 0
	if r.passed+r.failed == 0 {
		good = false
		fmt.Fprintln(r.out, "no test ran: that is a failure")
	}
	if len(missing)+len(r.notRun) > 0 {
		fmt.Fprintln(r.out, "not run:")
		for _, m := range missing {
			fmt.Fprintln(r.out, "  "+m)
		}
		for _, n := range r.notRun {
			fmt.Fprintln(r.out, "  "+n.reason)
			for _, t := range n.tests {
				fmt.Fprintln(r.out, "      "+t)
			}
		}
		if requireAll {
			good = false
			fmt.Fprintln(r.out, "RXGUARD_REQUIRE=all is set, so what was not run counts as a failure")
		}
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	return good
}
