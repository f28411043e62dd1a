// Command testrun runs go test over the module, tells its progress in one line a
// package, and ends with what was not run and the line
// "N passed, N failed, N skipped".
//
//	go run ./.ci/testrun [flags] [flags and packages for go test]
//
// Without packages it tests ./... and itself. It exits with 0 when every test that
// ran passed and at least one ran, with 1 otherwise, with 128 plus its number on a
// signal. The environment variable RXGUARD_REQUIRE=all makes a failure of every test
// that was skipped and of everything handed in with -missing.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// grace is how long an interrupted go test may take to end before it is killed.
const grace = 10 * time.Second

type list []string

func (l *list) String() string     { return strings.Join(*l, "; ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func main() {
	var missing list
	race := flag.Bool("race", true, "test with the race detector")
	logs := flag.Bool("logs", false, "print what passing tests log too")
	timeout := flag.Duration("timeout", 20*time.Minute, "limit for the tests of one package")
	flag.Var(&missing, "missing", "something that could not be run and how to get it (repeatable)")
	flag.Parse()

	args := []string{"test", "-json", "-count=1", "-timeout", timeout.String()}
	if *race {
		args = append(args, "-race")
	}
	if flag.NArg() > 0 {
		args = append(args, flag.Args()...)
	} else {
		args = append(args, "./...", "./.ci/testrun")
	}
	r := newReport(os.Stdout, modulePath())
	r.logs = *logs
	os.Exit(run(exec.Command("go", args...), r, missing, os.Getenv("RXGUARD_REQUIRE") == "all"))
}

// modulePath returns the path of the main module, by which package names are
// shortened, or nothing if go does not tell.
func modulePath() string {
	out, err := exec.Command("go", "list", "-m").Output()
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(first)
}

// run starts go test, feeds the report with what it prints and returns the exit code.
// A signal goes on to go test and to the tests it started; if they have not ended
// after the grace, or at a second signal, they are killed.
func run(goTest *exec.Cmd, r *report, missing []string, requireAll bool) int {
	goTest.Stderr = os.Stderr
	stdout, err := goTest.StdoutPipe()
	if err != nil {
		fmt.Fprintf(os.Stderr, "testrun: %v\n", err)
		return 1
	}
	ownGroup(goTest)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := goTest.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "testrun: go test did not start: %v\n", err)
		return 1
	}

	var caught atomic.Int32
	ended := make(chan struct{})
	go func() {
		var late <-chan time.Time
		for {
			select {
			case s := <-signals:
				if !caught.CompareAndSwap(0, int32(number(s))) {
					killGroup(goTest.Process)
					continue
				}
				signalGroup(goTest.Process, s)
				late = time.After(grace)
			case <-late:
				killGroup(goTest.Process)
			case <-ended:
				return
			}
		}
	}()

	readErr := r.read(stdout)
	if readErr != nil {
		// go test must not wait for a reader that has gone.
		_, _ = io.Copy(io.Discard, stdout)
	}
	waitErr := goTest.Wait()
	close(ended)
	var exit *exec.ExitError
	if errors.As(waitErr, &exit) && exit.ExitCode() == -1 {
		killGroup(goTest.Process) // go test was killed: its tests may be running still
	}
	if n := caught.Load(); n != 0 {
		r.interrupted()
		return 128 + int(n)
	}
	if !r.finish(missing, requireAll, errors.Join(readErr, waitErr)) {
		return 1
	}
	return 0
}

func number(s os.Signal) int {
	if n, ok := s.(syscall.Signal); ok {
		return int(n)
	}
	return int(syscall.SIGINT)
}
