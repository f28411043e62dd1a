package signing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/need"
)

// numbered is an entry that is told from others by its cause.
func numbered(n int) Entry {
	return Entry{ID: fmt.Sprint("id", n), Time: allowedAt, Event: EventNotSigned, At: allowedAt, Verdict: guard.DecisionAllowed,
		Reasons: []guard.Reason{guard.AffectedEnded}, Cause: fmt.Sprint(n)}
}

// recordOf makes a record of n entries and returns its path.
func recordOf(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "decisions.jsonl")
	r, err := OpenRecord(path)
	require.NoError(t, err)
	for i := range n {
		require.NoError(t, r.Record(t.Context(), numbered(i+1)))
	}
	require.NoError(t, r.Close())
	return path
}

// causes verifies a record and returns the causes of its entries.
func causes(t *testing.T, path string) []string {
	t.Helper()
	var got []string
	n, err := VerifyRecord(path, func(e Entry) error {
		got = append(got, e.Cause)
		return nil
	})
	require.NoError(t, err)
	assert.EqualValues(t, len(got), n)
	return got
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.SplitAfter(strings.TrimSuffix(string(b), "\n"), "\n")
}

func TestARecordGivesBackWhatWasRecorded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "decisions.jsonl")
	r, err := OpenRecord(path)
	require.NoError(t, err)
	w := newWorld(t)
	w.signer.rec = r
	_, err = Sign(t.Context(), w.signer, document(t, "one"))
	require.NoError(t, err)
	w.setClock(refusedAt)
	_, err = Sign(t.Context(), w.signer, document(t, "two"))
	require.Error(t, err)
	require.NoError(t, r.Close())

	again, err := OpenRecord(path)
	require.NoError(t, err)
	require.NoError(t, again.Record(t.Context(), numbered(3)))
	require.NoError(t, again.Close())
	var got []Event
	n, err := VerifyRecord(path, func(e Entry) error {
		got = append(got, e.Event)
		return nil
	})
	require.NoError(t, err)
	assert.EqualValues(t, 3, n)
	assert.Equal(t, []Event{EventSigned, EventRefused, EventNotSigned}, got)
	for _, suffix := range []string{"", ".head"} {
		fi, err := os.Stat(path + suffix)
		require.NoError(t, err)
		assert.EqualValues(t, 0o600, fi.Mode().Perm(), suffix)
	}
}

// The chain can be followed with tools that know nothing of this module.
func TestTheChainIsTheDigestOfEachLine(t *testing.T) {
	sum := need.Tool(t, "sha256sum", "coreutils")
	path := recordOf(t, 3)
	prev := ""
	for i, l := range lines(t, path) {
		var got struct {
			Seq  int
			Prev string
		}
		require.NoError(t, json.Unmarshal([]byte(l), &got))
		assert.Equal(t, i+1, got.Seq)
		assert.Equal(t, prev, got.Prev)
		cmd := exec.Command(sum)
		cmd.Stdin = strings.NewReader(strings.TrimSuffix(l, "\n"))
		out, err := cmd.Output()
		require.NoError(t, err)
		prev = string(out[:64])
	}
	b, err := os.ReadFile(path + ".head")
	require.NoError(t, err)
	assert.JSONEq(t, `{"seq":3,"sha256":"`+prev+`"}`, string(b))
}

func TestAChangedRecordShows(t *testing.T) {
	join := func(ls ...string) string { return strings.Join(ls, "") }
	other := lines(t, recordOf(t, 5))
	for _, c := range []struct {
		name   string
		change func(ls []string) string
		head   func(string) string
		line   uint64
		says   string
	}{
		{name: "first line altered", change: func(l []string) string {
			return join(strings.Replace(l[0], `"cause":"1"`, `"cause":"9"`, 1)) + join(l[1:]...)
		}, line: 1, says: "was altered"},
		{name: "middle line altered", change: func(l []string) string {
			return join(l[:2]...) + strings.Replace(l[2], `"allowed"`, `"refused"`, 1) + join(l[3:]...)
		}, line: 3, says: "was altered: the next line names another digest"},
		{name: "last line altered", change: func(l []string) string {
			return join(l[:4]...) + strings.Replace(l[4], `"cause":"5"`, `"cause":"6"`, 1)
		}, line: 5, says: "was altered: the head names another digest"},
		{name: "white space put in", change: func(l []string) string {
			return l[0] + strings.Replace(l[1], `{`, `{ `, 1) + join(l[2:]...)
		}, line: 2, says: "was altered"},
		{name: "first line removed", change: func(l []string) string { return join(l[1:]...) }, line: 1, says: "is numbered 2"},
		{name: "middle line removed", change: func(l []string) string { return join(l[:2]...) + join(l[3:]...) }, line: 3, says: "is numbered 4"},
		{name: "last line removed", change: func(l []string) string { return join(l[:4]...) }, line: 5, says: "lines were removed from the end, the head names line 5"},
		{name: "last line feed removed", change: func(l []string) string { return strings.TrimSuffix(join(l...), "\n") }, line: 5, says: "lines were removed from the end"},
		{name: "all lines removed", change: func([]string) string { return "" }, line: 1, says: "the head names line 5"},
		{name: "line put in", change: func(l []string) string { return join(l[:2]...) + l[1] + join(l[2:]...) }, line: 3, says: "is numbered 2"},
		{name: "empty line put in", change: func(l []string) string { return l[0] + "\n" + join(l[1:]...) }, line: 2, says: "is not a line of a record"},
		{name: "two lines exchanged", change: func(l []string) string { return l[0] + l[2] + l[1] + join(l[3:]...) }, line: 2, says: "is numbered 3"},
		{name: "a line of another record", change: func(l []string) string {
			return join(l[:2]...) + strings.Replace(other[2], "not_signed", "signed", 1) + join(l[3:]...)
		}, line: 3, says: "was altered"},
		{name: "renumbered after a removal", change: func(l []string) string {
			return l[0] + strings.Replace(l[2], `"seq":3`, `"seq":2`, 1)
		}, line: 1, says: "was altered"},
		{name: "the end forged onwards", change: func(l []string) string {
			return join(l[:3]...) + forged(l[2], 4, 5, 6)
		}, line: 5, says: "was altered: the head names another digest"},
		{name: "the beginning forged", change: func(l []string) string {
			return strings.Replace(l[0], `"prev":""`, `"prev":"00"`, 1) + join(l[1:]...)
		}, line: 1, says: "names a line before it"},
		{name: "another version", change: func(l []string) string {
			return join(l[:4]...) + strings.Replace(l[4], `"version":1`, `"version":2`, 1)
		}, line: 5, says: "version 2; this program knows 1"},
		{name: "an unknown field", change: func(l []string) string {
			return strings.Replace(l[0], `"cause"`, `"because"`, 1) + join(l[1:]...)
		}, line: 1, says: "was altered"},
		{name: "something behind a line", change: func(l []string) string {
			return strings.Replace(l[0], "}\n", "} {}\n", 1) + join(l[1:]...)
		}, line: 1, says: "something follows"},
		{name: "an endless line", change: func(l []string) string { return strings.Repeat("x", 3<<20) }, line: 1, says: "longer than 1048576 bytes"},
		{name: "head altered", head: func(h string) string { return strings.Replace(h, `"sha256":"`, `"sha256":"0`, 1) }, line: 5, says: "the head names another digest"},
		{name: "head moved on", head: func(h string) string { return strings.Replace(h, `"seq":5`, `"seq":6`, 1) }, line: 6, says: "lines were removed from the end"},
		{name: "head moved back", head: func(h string) string { return strings.Replace(h, `"seq":5`, `"seq":4`, 1) }, line: 4, says: "the head names another digest"},
		{name: "head emptied", head: func(string) string { return "" }, line: 1, says: "is damaged"},
		{name: "head removed", head: func(string) string { return "-" }, line: 5, says: "has no head file beside it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := recordOf(t, 5)
			if c.change != nil {
				was := lines(t, path)
				was[4] += "\n"
				changed := c.change(was)
				require.NotEqual(t, join(was...), changed)
				require.NoError(t, os.WriteFile(path, []byte(changed), 0o600))
			}
			if c.head != nil {
				b, err := os.ReadFile(path + ".head")
				require.NoError(t, err)
				if h := c.head(string(b)); h == "-" {
					require.NoError(t, os.Remove(path+".head"))
				} else {
					require.NotEqual(t, string(b), h)
					require.NoError(t, os.WriteFile(path+".head", []byte(h), 0o600))
				}
			}
			before, err := os.ReadFile(path)
			require.NoError(t, err)
			var re *RecordError
			_, err = VerifyRecord(path, nil)
			require.ErrorAs(t, err, &re)
			assert.Equal(t, c.line, re.Line, "%v", err)
			assert.Contains(t, re.Problem, c.says)
			assert.Contains(t, err.Error(), path)

			r, err := OpenRecord(path)
			assert.ErrorAs(t, err, &re)
			assert.Nil(t, r)
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(before, after), "the evidence stays as it is")
		})
	}
}

// forged continues a record as somebody who knows its form would.
func forged(last string, seqs ...int) string {
	out := ""
	for _, seq := range seqs {
		prev := headOf(0, []byte(strings.TrimSuffix(last, "\n"))).SHA256
		b, _ := json.Marshal(line{Version: 1, Seq: uint64(seq), Prev: prev, Entry: asJSON(numbered(seq + 100))})
		last = string(b) + "\n"
		out += last
	}
	return out
}

func TestALineThatACrashToreIsRemoved(t *testing.T) {
	path := recordOf(t, 3)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	next := []byte(forged(lines(t, path)[2], 4))
	for _, n := range []int{1, len(next) / 2, len(next) - 1} {
		require.NoError(t, os.WriteFile(path, slices.Concat(whole, next[:n]), 0o600))
		assert.Equal(t, []string{"1", "2", "3"}, causes(t, path))
		r, err := OpenRecord(path)
		require.NoError(t, err)
		now, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, whole, now)
		require.NoError(t, r.Close())
	}
	// The same seen by a process that has the record open.
	r, err := OpenRecord(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, slices.Concat(whole, bytes.Repeat([]byte("x"), 5000)), 0o600))
	require.NoError(t, r.Record(t.Context(), numbered(4)))
	require.NoError(t, r.Close())
	assert.Equal(t, []string{"1", "2", "3", "4"}, causes(t, path))
	now, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, bytes.HasSuffix(now, []byte("}\n")), "nothing of it is left")
}

func TestAHeadThatACrashLeftBehindIsTakenForward(t *testing.T) {
	for n := range 2 { // also for the very first line, which has no head yet
		path := recordOf(t, n)
		last := ""
		if n > 0 {
			last = lines(t, path)[n-1]
		}
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		if n == 0 {
			b, err := json.Marshal(line{Version: 1, Seq: 1, Entry: asJSON(numbered(101))})
			require.NoError(t, err)
			_, err = f.Write(append(b, '\n'))
			require.NoError(t, err)
		} else {
			_, err = f.WriteString(forged(last, n+1))
			require.NoError(t, err)
		}
		require.NoError(t, f.Close())
		r, err := OpenRecord(path)
		require.NoError(t, err)
		require.NoError(t, r.Record(t.Context(), numbered(3)))
		require.NoError(t, r.Close())
		assert.Len(t, causes(t, path), n+2)
	}
}

func TestManyWritersOfOneRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "decisions.jsonl")
	var all sync.WaitGroup
	for range 3 {
		r, err := OpenRecord(path)
		require.NoError(t, err)
		defer r.Close()
		for range 2 {
			all.Go(func() {
				for i := range 10 {
					assert.NoError(t, r.Record(context.Background(), numbered(i)))
				}
			})
		}
	}
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		for range 20 {
			_, err := VerifyRecord(path, nil)
			assert.NoError(t, err, "a record that grows verifies")
		}
	}()
	all.Wait()
	<-reading
	assert.Len(t, causes(t, path), 60)
}

func TestTwoProcessesWriteOneRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "decisions.jsonl")
	r, err := OpenRecord(path)
	require.NoError(t, err)
	defer r.Close()
	in, err := json.Marshal(ask{Do: "record", Card: path})
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(in), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	for range 20 {
		require.NoError(t, r.Record(t.Context(), numbered(1)))
	}
	require.NoError(t, cmd.Wait())
	assert.Len(t, causes(t, path), 40)
}

func TestARecordThatCannotBeKeptSaysSo(t *testing.T) {
	t.Run("no folder", func(t *testing.T) {
		_, err := OpenRecord(filepath.Join(t.TempDir(), "missing", "decisions.jsonl"))
		assert.ErrorIs(t, err, fs.ErrNotExist)
		assert.ErrorContains(t, err, "signing: record: ")
		_, err = VerifyRecord(filepath.Join(t.TempDir(), "decisions.jsonl"), nil)
		assert.ErrorIs(t, err, fs.ErrNotExist)
	})
	t.Run("a folder in its place", func(t *testing.T) {
		_, err := OpenRecord(t.TempDir())
		assert.ErrorContains(t, err, "is a directory")
	})
	t.Run("closed", func(t *testing.T) {
		path := recordOf(t, 1)
		r, err := OpenRecord(path)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		require.NoError(t, r.Close())
		assert.ErrorContains(t, r.Record(t.Context(), numbered(2)), "the record "+path+" is closed")
	})
	t.Run("full disk", func(t *testing.T) {
		path := recordOf(t, 1)
		r, err := OpenRecord(path)
		require.NoError(t, err)
		whole := r.f
		full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			t.Skip("needs /dev/full: run the tests on Linux")
		}
		require.NoError(t, err)
		defer full.Close()
		r.f = full
		err = r.store([]byte("x\n"), head{})
		assert.ErrorContains(t, err, "no space left on device")
		r.f = whole
		require.NoError(t, r.Close())
	})
	t.Run("read only", func(t *testing.T) {
		path := recordOf(t, 1)
		r, err := OpenRecord(path)
		require.NoError(t, err)
		writable := r.f
		r.f, err = os.Open(path)
		require.NoError(t, err)
		assert.ErrorContains(t, r.Record(t.Context(), numbered(2)), "signing: record: ")
		require.NoError(t, r.Close())
		require.NoError(t, writable.Close())
		assert.Equal(t, []string{"1"}, causes(t, path))
	})
	t.Run("its head cannot be written", func(t *testing.T) {
		path := recordOf(t, 2)
		r, err := OpenRecord(path)
		require.NoError(t, err)
		defer r.Close()
		require.NoError(t, os.Rename(path+".head", path+".away"))
		require.NoError(t, os.Mkdir(path+".head", 0o700))
		assert.ErrorContains(t, r.Record(t.Context(), numbered(3)), "the head could not be written")
		require.NoError(t, os.Remove(path+".head"))
		require.NoError(t, os.Rename(path+".away", path+".head"))
		assert.Equal(t, []string{"1", "2"}, causes(t, path), "the entry was taken back")
		require.NoError(t, r.Record(t.Context(), numbered(4)))
		assert.Equal(t, []string{"1", "2", "4"}, causes(t, path))
	})
	t.Run("taken away while open", func(t *testing.T) {
		path := recordOf(t, 1)
		r, err := OpenRecord(path)
		require.NoError(t, err)
		defer r.Close()
		require.NoError(t, os.Rename(path, path+".old"))
		assert.ErrorContains(t, r.Record(t.Context(), numbered(2)), "the file was taken away while it was open")
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		assert.ErrorContains(t, r.Record(t.Context(), numbered(2)), "another file was put at "+path)
	})
	t.Run("cut while open", func(t *testing.T) {
		path := recordOf(t, 3)
		r, err := OpenRecord(path)
		require.NoError(t, err)
		defer r.Close()
		require.NoError(t, os.WriteFile(path, []byte(lines(t, path)[0]), 0o600))
		var re *RecordError
		require.ErrorAs(t, r.Record(t.Context(), numbered(4)), &re)
		assert.Contains(t, re.Problem, "lines were removed from the end while it was open")
	})
	t.Run("an entry too long to read back", func(t *testing.T) {
		path := recordOf(t, 1)
		r, err := OpenRecord(path)
		require.NoError(t, err)
		defer r.Close()
		e := numbered(2)
		e.Cause = strings.Repeat("x", maxLine)
		assert.ErrorContains(t, r.Record(t.Context(), e), "wanted at most 1048576")
		e.Cause, e.At = "", time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
		assert.ErrorContains(t, r.Record(t.Context(), e), "signing: record: ")
		require.NoError(t, r.Record(t.Context(), numbered(2)))
		assert.Equal(t, []string{"1", "2"}, causes(t, path))
	})
	t.Run("another process holds the lock", func(t *testing.T) {
		path := recordOf(t, 1)
		r, err := OpenRecord(path)
		require.NoError(t, err)
		defer r.Close()
		l := flock.New(path + ".lock")
		require.NoError(t, l.Lock())
		defer l.Unlock()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		assert.ErrorIs(t, r.Record(ctx, numbered(2)), context.Canceled)
		_, err = r.exclusive(ctx)
		assert.ErrorIs(t, err, context.Canceled)
		assert.ErrorContains(t, err, path+".lock, which another process may hold")
		// Nor do others of this process wait for the one that waits.
		r.turn <- struct{}{}
		assert.ErrorIs(t, r.Record(ctx, numbered(3)), context.Canceled)
		<-r.turn
		assert.Equal(t, []string{"1"}, causes(t, path))
	})
}

func TestAnErrorOfTheReaderOfARecordEndsIt(t *testing.T) {
	stop := errors.New("enough")
	n, err := VerifyRecord(recordOf(t, 3), func(e Entry) error {
		if e.Cause == "2" {
			return stop
		}
		return nil
	})
	assert.ErrorIs(t, err, stop)
	assert.EqualValues(t, 2, n)
}

// FuzzVerifyRecord: what verifies is a chain, changing one byte of it shows, and
// what does not verify names a line.
func FuzzVerifyRecord(f *testing.F) {
	one := forgedFrom("", 1)
	two := one + forgedFrom(one, 2)
	for _, r := range []string{"", "\n", "{}\n", one, two, two[:len(two)-1], two + two, strings.Replace(two, "1", "2", 1)} {
		f.Add([]byte(r), []byte(nil), 0)
		h, _ := json.Marshal(headOf(2, []byte(strings.TrimSuffix(two[len(one):], "\n"))))
		f.Add([]byte(r), h, 7)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, record, headFile []byte, at int) {
		path := filepath.Join(dir, "record")
		require.NoError(t, os.WriteFile(path, record, 0o600))
		_ = os.Remove(path + ".head")
		if len(headFile) > 0 {
			require.NoError(t, os.WriteFile(path+".head", headFile, 0o600))
		}
		var ls []string
		n, err := VerifyRecord(path, func(e Entry) error {
			ls = append(ls, e.ID)
			return nil
		})
		var re *RecordError
		if err != nil {
			require.ErrorAs(t, err, &re)
			require.NotEmpty(t, re.Problem)
			return
		}
		require.EqualValues(t, len(ls), n)
		require.Equal(t, int(n), bytes.Count(record, []byte("\n")))
		if n == 0 || len(headFile) == 0 {
			return
		}
		whole := record[:bytes.LastIndexByte(record, '\n')+1]
		var h head
		require.NoError(t, json.Unmarshal(headFile, &h))
		if h.Seq != n {
			return
		}
		changed := bytes.Clone(whole)
		changed[uint(at)%uint(len(changed))] ^= 1
		require.NoError(t, os.WriteFile(path, changed, 0o600))
		_, err = VerifyRecord(path, nil)
		require.ErrorAs(t, err, &re, "one bit was changed")
	})
}

// forgedFrom is the line of this number after a record.
func forgedFrom(record string, seq int) string {
	if record == "" {
		b, _ := json.Marshal(line{Version: 1, Seq: 1, Entry: asJSON(numbered(1))})
		return string(b) + "\n"
	}
	return forged(record[strings.LastIndexByte(strings.TrimSuffix(record, "\n"), '\n')+1:], seq)
}

func asJSON(e Entry) json.RawMessage {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return b
}

// After an upgrade was taken back, an older program finds lines that it cannot read.
// They must not keep it from signing; who reads them is told.
func TestALineOfANewerVersionIsALinkOfTheChain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "decisions.jsonl")
	entry := strings.Replace(string(asJSON(numbered(1))), `"event":`, `"reasons":["a_reason_of_2035"],"event":`, 1)
	b, err := json.Marshal(line{Version: recordVersion, Seq: 1, Entry: json.RawMessage(entry)})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(b, '\n'), 0o600))
	r, err := OpenRecord(path)
	require.NoError(t, err)
	require.NoError(t, r.Record(t.Context(), numbered(2)))
	require.NoError(t, r.Close())
	n, err := VerifyRecord(path, nil)
	require.NoError(t, err)
	assert.EqualValues(t, 2, n)
	_, err = VerifyRecord(path, func(Entry) error { return nil })
	var re *RecordError
	require.ErrorAs(t, err, &re)
	assert.EqualValues(t, 1, re.Line)
	assert.ErrorContains(t, err, "a_reason_of_2035")
}
