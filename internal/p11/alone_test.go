package p11

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// aloneEnv names the test that a process of its own is for.
const aloneEnv = "RXGUARD_TEST_ALONE"

// lifetime bounds such a process.
const lifetime = 10 * time.Minute

// launched is a test in a process of its own.
type launched struct {
	done chan struct{} // closed when it has ended
	out  []byte
	err  error
}

// several bounds how many of them run at once; most only wait.
var several = make(chan struct{}, 8)

// alone runs subtests of t in processes of their own, because a module is loaded once
// in a process and one that is wedged stays so. Each has env in its environment, beside
// this one's, and has to end by itself. All are started at once. Each subtest then
// calls the result, which is true when it has passed in its process, and false in that
// process itself, where the work is to be done.
func alone(t testing.TB, subtests []string, env ...string) func(*testing.T) (elsewhere bool) {
	t.Helper()
	running := make(map[string]*launched)
	if os.Getenv(aloneEnv) == "" {
		for _, name := range subtests {
			name = t.Name() + "/" + strings.ReplaceAll(name, " ", "_") // as testing does
			running[name] = launch(name, env)
		}
	}
	return func(t *testing.T) bool {
		t.Helper()
		if os.Getenv(aloneEnv) == t.Name() {
			return false
		}
		require.Contains(t, running, t.Name(), "it was not named")
		running[t.Name()].report(t)
		return true
	}
}

func launch(name string, env []string) *launched {
	var pattern []string
	for part := range strings.SplitSeq(name, "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(part)+"$")
	}
	l := &launched{done: make(chan struct{})}
	go func() {
		defer close(l.done)
		several <- struct{}{}
		defer func() { <-several }()
		ctx, cancel := context.WithTimeout(context.Background(), lifetime)
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run="+strings.Join(pattern, "/"), "-test.v", "-test.count=1", "-test.timeout="+lifetime.String())
		cmd.Env = append(append(os.Environ(), aloneEnv+"="+name, "GORACE=atexit_sleep_ms=0"), env...)
		cmd.WaitDelay = time.Second
		if l.out, l.err = cmd.CombinedOutput(); ctx.Err() != nil {
			l.err = fmt.Errorf("it did not end within %v: %w", lifetime, l.err)
		}
	}()
	return l
}

// report is the process's result as that of the test t.
func (l *launched) report(t *testing.T) {
	t.Helper()
	<-l.done
	text := string(l.out)
	require.NoError(t, l.err, "in its own process:\n%s", text)
	var said []string
	for _, line := range logged.FindAllStringSubmatch(text, -1) {
		said = append(said, line[1])
	}
	if strings.Contains(text, "--- SKIP: "+t.Name()+" (") {
		t.Skip(strings.Join(said, "\n"))
	}
	require.Contains(t, text, "--- PASS: "+t.Name()+" (")
	for _, line := range said {
		t.Log(line)
	}
}

// logged finds what the tests of a process logged.
var logged = regexp.MustCompile(`(?m)^\s+\w+\.go:\d+: (.*)$`)
