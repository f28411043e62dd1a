//go:build unix

package main

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/signing/signingtest"
)

func TestAMessageThatMayNotBeRead(t *testing.T) {
	s := simulate(t, signingtest.MessageConfig{})
	require.NoError(t, os.Chmod(s.message, 0))
	cmd := start(t, "verify", s.message)
	if os.Getuid() == 0 { // who may read everything
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	d := finish(t, cmd)
	assert.Equal(t, exitNotRead, d.code)
	assert.Equal(t, "rxguard: "+s.message+": permission denied\n", d.errors)

	if runtime.GOOS == "linux" {
		d = run(t, "verify", "/proc/self/mem")
		assert.Equal(t, exitNotRead, d.code)
		assert.Equal(t, "rxguard: /proc/self/mem: input/output error\n", d.errors)
	}
}

// It is interrupted where it waits for what nobody writes.
func TestAnInterruption(t *testing.T) {
	s := simulate(t, signingtest.MessageConfig{})
	fifo := filepath.Join(s.dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"at a message": {s.args(s.message, fifo, s.message), "interrupted; 1 of 3 messages judged"},
		"at a CA":      {[]string{"verify", "--ca", fifo, s.message}, "interrupted; nothing was judged"},
		"at a list":    {[]string{"verify", "--crl", s.crl, "--crl", fifo, "--crl", s.arl, s.message}, "interrupted; nothing was judged"},
	} {
		for _, asJSON := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				args := c.args
				if asJSON {
					args = append([]string{"verify", "--json"}, args[1:]...)
				}
				cmd := start(t, args...)
				ended := make(chan done, 1)
				started := make(chan struct{})
				go func() { ended <- finishWith(t, cmd, started) }()
				<-started
				w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits for the program to read
				require.NoError(t, err)
				defer w.Close()
				require.NoError(t, cmd.Process.Signal(os.Interrupt))
				d := <-ended
				assert.Equal(t, exitInterrupted, d.code, d.errors)
				if !asJSON {
					assert.Equal(t, "rxguard: "+c.says+"\n", d.errors)
					return
				}
				assert.Empty(t, d.errors)
				r := rows(t, d.out)
				require.NotNil(t, r[len(r)-1].Error)
				assert.Equal(t, "interrupted", r[len(r)-1].Error.Kind)
				assert.Equal(t, c.says, r[len(r)-1].Error.Text)
			})
		}
	}
	t.Run("at standard input", func(t *testing.T) {
		stdin, w, err := os.Pipe()
		require.NoError(t, err)
		defer w.Close()
		cmd := start(t, s.args(s.message, "-")...)
		cmd.Stdin = stdin
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = io.ReadFull(out, make([]byte, 100)) // of the first message
		require.NoError(t, err)
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		assert.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode())
	})
}
