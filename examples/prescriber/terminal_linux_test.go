//go:build cgo

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// screen is a terminal with somebody before it.
type screen struct {
	person  *os.File // the person's side
	program *os.File

	mu  sync.Mutex
	got strings.Builder
}

func newScreen(t *testing.T) *screen {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs a pseudo-terminal, /dev/ptmx of devpts: %v", err)
	}
	require.NoError(t, unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	s := &screen{person: person, program: program}
	go io.Copy(s, person)
	t.Cleanup(func() { program.Close(); person.Close() })
	return s
}

// Write takes in what the screen shows.
func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(b)
}

func (s *screen) shows() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.String()
}

func (s *screen) echoes(t *testing.T) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(s.program.Fd()), unix.TCGETS)
	require.NoError(t, err)
	return state.Lflag&unix.ECHO != 0
}

// start runs the command at the screen.
func (s *screen) start(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.program, s.program, s.program
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// asked waits until the passcode is asked for the nth time, and nothing echoes.
func (s *screen) asked(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		return strings.Count(s.shows(), "Passcode of token") >= n && !s.echoes(t)
	}, patience, 10*time.Millisecond)
}

func TestThePasscodeIsAskedWithoutEcho(t *testing.T) {
	k, args := softToken(t)
	s := newScreen(t)
	cmd := s.start(t, args[:6]...)
	for n := range 2 { // to provision, to renew
		s.asked(t, n+1)
		_, err := fmt.Fprintln(s.person, k.PIN)
		require.NoError(t, err)
	}
	_ = cmd.Wait()
	assert.Equal(t, exitOnHold, cmd.ProcessState.ExitCode(), s.shows())
	assert.NotContains(t, s.shows(), k.PIN)
	assert.True(t, s.echoes(t))
}

func TestAnInterruptedQuestionLeavesTheTerminalAsItWas(t *testing.T) {
	_, args := softToken(t)
	s := newScreen(t)
	cmd := s.start(t, args[:6]...)
	s.asked(t, 1)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	_ = cmd.Wait()
	assert.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode(), s.shows())
	assert.True(t, s.echoes(t))
	require.Eventually(t, func() bool { return strings.Contains(s.shows(), "Interrupted.") }, patience, 10*time.Millisecond)
	assert.Contains(t, s.shows(), "The card was not changed.")
}

// Ctrl-D in place of a passcode gives up, Ctrl-C interrupts.
func TestKeysThatEndAQuestion(t *testing.T) {
	for name, c := range map[string]struct {
		keys string
		code int
		want string
	}{
		"Ctrl-D":                {"\x04", exitNotSigned, "nothing was entered"},
		"Ctrl-D after a letter": {"1\x04", exitNotSigned, "nothing was entered"},
		"Ctrl-C":                {"\x03", exitInterrupted, "Interrupted."},
	} {
		t.Run(name, func(t *testing.T) {
			_, args := softToken(t)
			s := newScreen(t)
			cmd := s.start(t, args[:6]...)
			s.asked(t, 1)
			_, err := s.person.WriteString(c.keys)
			require.NoError(t, err)
			_ = cmd.Wait()
			assert.Equal(t, c.code, cmd.ProcessState.ExitCode(), s.shows())
			require.Eventually(t, func() bool { return strings.Contains(s.shows(), "The card was not changed.") }, patience, 10*time.Millisecond)
			assert.Contains(t, s.shows(), c.want)
			assert.True(t, s.echoes(t))
		})
	}
}
