//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/renewal"
)

// It is interrupted where it waits for a journal that nobody writes.
func TestAnInterruptionAtAJournal(t *testing.T) {
	f := newFiles(t)
	good := f.write("good.jsonl", []byte(journal(t, begun(t, renewal.StepDone)...)))
	fifo := filepath.Join(f.dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	cmd := start(t, "renewal", "show", good, fifo)
	ended := make(chan done, 1)
	started := make(chan struct{})
	go func() { ended <- finishWith(t, cmd, started) }()
	<-started
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits for the program to read
	require.NoError(t, err)
	defer w.Close()
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	d := <-ended
	assert.Equal(t, exitInterrupted, d.code)
	assert.Equal(t, "rxguard: interrupted; 1 of 2 files shown\n", d.errors)
	assert.Contains(t, d.out, "good.jsonl: 1 renewal")
}

func TestAJournalThatMayNotBeRead(t *testing.T) {
	f := newFiles(t)
	file := f.write("card.jsonl", []byte(journal(t, begun(t, renewal.StepDone)...)))
	require.NoError(t, os.Chmod(file, 0))
	cmd := start(t, "renewal", "show", file)
	if os.Getuid() == 0 { // who may read everything
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	d := finish(t, cmd)
	assert.Equal(t, exitNotRead, d.code)
	assert.True(t, strings.HasPrefix(d.errors, "rxguard: "+file+": "), d.errors)
	assert.Contains(t, d.errors, "permission denied\n")
}
