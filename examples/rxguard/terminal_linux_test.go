package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/rxguard/rxguard/signing/signingtest"
)

// onTerminal runs the program at a terminal of a width, and returns what it shows.
func onTerminal(t *testing.T, width uint16, args ...string) (code int, shows string) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs a pseudo-terminal, /dev/ptmx of devpts: %v", err)
	}
	defer screen.Close()
	require.NoError(t, unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: width}))
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	cmd := start(t, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	require.NoError(t, cmd.Start())
	require.NoError(t, tty.Close())
	var got bytes.Buffer
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(&got, screen) }) // until the last one closes it: EIO
	_ = cmd.Wait()
	reading.Wait()
	return cmd.ProcessState.ExitCode(), strings.ReplaceAll(got.String(), "\r\n", "\n")
}

func TestLinesFitATerminal(t *testing.T) {
	s := simulate(t, signingtest.MessageConfig{})
	t.Chdir(s.dir) // a name of a file is not broken
	for _, width := range []uint16{80, 100} {
		code, shows := onTerminal(t, width, "verify", "--ca", s.ca, "message.xml")
		assert.Equal(t, exitUndecided, code)
		assert.Contains(t, shows, "\x1b[1mmessage.xml, line ")
		for l := range strings.Lines(shows) {
			l = strings.NewReplacer("\x1b[1m", "", "\x1b[0m", "", "\n", "").Replace(l)
			assert.Less(t, utf8.RuneCountInString(l), int(width), l)
			assert.NotContains(t, l, "\x1b")
		}
	}
	code, shows := onTerminal(t, 80, "verify", "--json", "message.xml")
	assert.Equal(t, exitUndecided, code)
	assert.Len(t, rows(t, shows), 1)
}
