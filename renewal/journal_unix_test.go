//go:build unix

package renewal

import (
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A disk that is full, in a process of its own whose files may not grow: the
// journal says so, holds whole lines only, and goes on when there is room.
func TestAFullDisk(t *testing.T) {
	const name = "RXGUARD_TEST_FULL_DISK"
	dir := os.Getenv(name)
	if dir == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAFullDisk$", "-test.v")
		cmd.Env = append(os.Environ(), name+"="+t.TempDir())
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "the disk was full")
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	var was syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was))
	j := &journal{path: journalPath(dir, "card")}
	require.NoError(t, j.add(JournalEntry{Renewal: "r", Card: "card", Step: StepPlanned, Act: Done, OldID: []byte{1}, NewID: []byte{2}, OldCertificate: "x"}))
	limit := was
	limit.Cur = uint64(j.size) + 300 // in the middle of a line
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	add := func() error {
		return j.add(JournalEntry{Renewal: "r", Card: "card", Step: StepEnrol, Act: Note, Text: strings.Repeat("x", 400)})
	}
	err := add()
	before := j.size
	var je *JournalError
	require.ErrorAs(t, err, &je)
	assert.ErrorIs(t, err, syscall.EFBIG)
	assert.ErrorContains(t, err, "make room")
	b, err := os.ReadFile(j.path)
	require.NoError(t, err)
	assert.Len(t, b, int(before), "no part of a line stays")
	t.Log("the disk was full")

	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was))
	require.NoError(t, add())
	es, _, err := ReadJournal(j.path)
	require.NoError(t, err)
	assert.Len(t, es, 2)
}
