//go:build unix

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

// The test binary plays go test, and testrun itself where a process of its own is
// needed, in the role that this variable names.
const roleVariable = "RXGUARD_TESTRUN_ROLE"

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Exit(m.Run())
	}
	event := func(action, test string) {
		fmt.Printf("{\"Action\":%q,\"Package\":\"p\",\"Test\":%q}\n", action, test)
	}
	switch role {
	case "passes":
		event("run", "TestX")
		event("pass", "TestX")
		event("pass", "")
	case "fails":
		event("run", "TestX")
		event("fail", "TestX")
		event("fail", "")
		os.Exit(1)
	case "dies":
		event("run", "TestX")
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "waits for a signal":
		caught := make(chan os.Signal, 1)
		signal.Notify(caught, os.Interrupt, syscall.SIGTERM)
		event("run", "TestX")
		fmt.Println("go test is ready")
		<-caught
		fmt.Println("go test was told")
	case "testrun":
		os.Exit(run(self("waits for a signal"), newReport(os.Stdout, ""), nil, false))
	}
	os.Exit(0)
}

func self(role string) *exec.Cmd {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), roleVariable+"="+role)
	return c
}

func TestRunExitCode(t *testing.T) {
	for role, want := range map[string]int{"passes": 0, "fails": 1, "dies": 1, "says nothing": 1} {
		t.Run(role, func(t *testing.T) {
			var out bytes.Buffer
			if got := run(self(role), newReport(&out, ""), nil, false); got != want {
				t.Errorf("exit code %d, want %d\n%s", got, want, out.String())
			}
		})
	}
	t.Run("is not there", func(t *testing.T) {
		if got := run(exec.Command("/nonexistent/go"), newReport(&bytes.Buffer{}, ""), nil, false); got != 1 {
			t.Errorf("exit code %d", got)
		}
	})
}

func TestSignalIsHandedOn(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(s.String(), func(t *testing.T) {
			c := self("testrun")
			stdout, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			var seen []string
			for in := bufio.NewScanner(stdout); in.Scan(); {
				seen = append(seen, in.Text())
				if in.Text() == "go test is ready" {
					if err := c.Process.Signal(s); err != nil {
						t.Fatal(err)
					}
				}
			}
			_ = c.Wait()
			if got, want := c.ProcessState.ExitCode(), 128+int(s); got != want {
				t.Errorf("exit code %d, want %d", got, want)
			}
			text := strings.Join(seen, "\n")
			for _, want := range []string{"go test was told", "interrupted: "} {
				if !strings.Contains(text, want) {
					t.Errorf("does not say %q:\n%s", want, text)
				}
			}
		})
	}
}
