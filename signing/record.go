package signing

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/gofrs/flock"           // one line at a time, also from two processes
	"github.com/moby/sys/atomicwriter" // replaces the head file atomically
)

// Record is a decision record on a file: one JSON line for each entry, each line
// with the SHA-256 of the line before it, so that a line that was altered, removed
// or put in shows ([VerifyRecord]). Beside it, PATH.head names the last line, so
// that lines removed from the end show too; who can rewrite both files can forge
// the record, so keep copies of the head elsewhere where that matters.
//
// It is safe for concurrent use, also by several processes with the same path.
type Record struct {
	path string
	lock *flock.Flock

	mu   sync.Mutex
	f    *os.File
	head head  // of what this process knows
	size int64 // of the file at head
}

// line is one line of the record.
type line struct {
	Version int    `json:"version"`
	Seq     uint64 `json:"seq"`  // from 1
	Prev    string `json:"prev"` // SHA-256 of the line before, without its line feed; empty for the first
	Entry   Entry  `json:"entry"`
}

// head names a line.
type head struct {
	Seq    uint64 `json:"seq"`
	SHA256 string `json:"sha256"`
}

const recordVersion = 1

// maxLine bounds a line of the record.
const maxLine = 1 << 20

// OpenRecord opens the record at path, creating it where there is none. A record
// that does not verify is not opened: the error is a *RecordError. The last line
// may be torn by a crash; its entry was never acknowledged, and it is removed.
func OpenRecord(path string) (*Record, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("signing: record: %w", err)
	}
	r := &Record{path: path, f: f, lock: flock.New(path + ".lock")}
	if err := r.lock.Lock(); err != nil {
		f.Close()
		return nil, fmt.Errorf("signing: record: %w", err)
	}
	defer r.lock.Unlock()
	if err := r.catchUp(); err != nil {
		f.Close()
		return nil, err
	}
	if err := checkHead(path, r.head, nil); err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

// Record appends an entry and syncs it to disk.
func (r *Record) Record(_ context.Context, e Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f == nil {
		return errors.New("signing: the record is closed")
	}
	if err := r.lock.Lock(); err != nil {
		return fmt.Errorf("signing: record: %w", err)
	}
	defer r.lock.Unlock()
	if fi, err := r.f.Stat(); err != nil {
		return fmt.Errorf("signing: record: %w", err)
	} else if fi.Size() != r.size { // another process wrote
		if err := r.catchUp(); err != nil {
			return err
		}
	}
	b, err := json.Marshal(line{Version: recordVersion, Seq: r.head.Seq + 1, Prev: r.head.SHA256, Entry: e})
	if err != nil {
		return fmt.Errorf("signing: record: %w", err)
	}
	if _, err := r.f.WriteAt(append(b, '\n'), r.size); err != nil {
		return errors.Join(fmt.Errorf("signing: record: %w", err), r.f.Truncate(r.size))
	}
	if err := r.f.Sync(); err != nil {
		return fmt.Errorf("signing: record %s could not be synced: %w", r.path, err)
	}
	r.size += int64(len(b)) + 1
	r.head = headOf(r.head.Seq+1, b)
	return writeHead(r.path, r.head)
}

// Close closes the file.
func (r *Record) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f == nil {
		return nil
	}
	err := r.f.Close()
	r.f = nil
	return err
}

// catchUp verifies what was appended since head and takes it in. A line without
// its line feed was torn by a crash before it was acknowledged.
func (r *Record) catchUp() error {
	if fi, err := r.f.Stat(); err != nil {
		return fmt.Errorf("signing: record: %w", err)
	} else if fi.Size() < r.size {
		return &RecordError{Path: r.path, Line: r.head.Seq, Problem: "lines were removed from the end while it was open"}
	}
	if _, err := r.f.Seek(r.size, io.SeekStart); err != nil {
		return fmt.Errorf("signing: record: %w", err)
	}
	h, n, torn, err := walk(r.path, r.f, r.head, nil)
	if err != nil {
		return err
	}
	r.head, r.size = h, r.size+n
	if torn {
		if err := r.f.Truncate(r.size); err != nil {
			return fmt.Errorf("signing: record: %w", err)
		}
	}
	return nil
}

// walk verifies lines after from and returns the last one, the bytes that whole
// lines took, and whether a torn line follows. each may be nil.
func walk(path string, in io.Reader, from head, each func(head, Entry) error) (head, int64, bool, error) {
	br := bufio.NewReaderSize(in, 64<<10)
	var n int64
	for {
		b, err := readLine(br)
		if errors.Is(err, io.EOF) {
			return from, n, len(b) > 0, nil
		}
		if err != nil {
			return from, n, false, &RecordError{Path: path, Line: from.Seq + 1, Problem: err.Error()}
		}
		var l line
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.DisallowUnknownFields()
		switch err := dec.Decode(&l); {
		case err != nil:
			return from, n, false, &RecordError{Path: path, Line: from.Seq + 1, Problem: "is not a line of a record: " + err.Error()}
		case l.Version != recordVersion:
			return from, n, false, &RecordError{Path: path, Line: from.Seq + 1, Problem: fmt.Sprintf("has version %d; this program knows %d", l.Version, recordVersion)}
		case l.Seq != from.Seq+1:
			return from, n, false, &RecordError{Path: path, Line: from.Seq + 1, Problem: fmt.Sprintf("is numbered %d: a line was removed or put in before it", l.Seq)}
		case l.Prev != from.SHA256:
			return from, n, false, &RecordError{Path: path, Line: from.Seq, Problem: "was altered: the next line names another digest"}
		}
		from = headOf(l.Seq, b)
		n += int64(len(b)) + 1
		if each != nil {
			if err := each(from, l.Entry); err != nil {
				return from, n, false, err
			}
		}
	}
}

// readLine reads up to a line feed, which it takes off; io.EOF with what was read
// when there is none.
func readLine(br *bufio.Reader) ([]byte, error) {
	var b []byte
	for {
		part, err := br.ReadSlice('\n')
		b = append(b, part...)
		switch {
		case len(b) > maxLine:
			return nil, fmt.Errorf("is longer than %d bytes", maxLine)
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil:
			return b, err
		default:
			return b[:len(b)-1], nil
		}
	}
}

func headOf(seq uint64, lineBytes []byte) head {
	sum := sha256.Sum256(lineBytes)
	return head{seq, hex.EncodeToString(sum[:])}
}

func writeHead(path string, h head) error {
	b, err := json.Marshal(h)
	if err == nil {
		err = atomicwriter.WriteFile(path+".head", append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("signing: record: the head could not be written: %w", err)
	}
	return nil
}

// checkHead compares the head file with the last line. The head may lag behind by
// what a crash left unwritten; heads holds the digests of earlier lines, nil where
// only the last line is known, and then a lagging head is accepted by its number.
func checkHead(path string, last head, heads map[uint64]string) error {
	b, err := os.ReadFile(path + ".head")
	if errors.Is(err, fs.ErrNotExist) {
		if last.Seq > 1 { // a crash can lose the head of the first line alone
			return &RecordError{Path: path, Line: last.Seq, Problem: "has no head file beside it"}
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("signing: record: %w", err)
	}
	var h head
	if err := json.Unmarshal(b, &h); err != nil {
		return &RecordError{Path: path + ".head", Line: 1, Problem: "is damaged: " + err.Error()}
	}
	switch {
	case h.Seq > last.Seq:
		return &RecordError{Path: path, Line: last.Seq + 1, Problem: fmt.Sprintf("is missing: lines were removed from the end, the head names line %d", h.Seq)}
	case h.Seq == last.Seq && h.SHA256 != last.SHA256,
		heads != nil && h.Seq > 0 && heads[h.Seq] != h.SHA256:
		return &RecordError{Path: path, Line: h.Seq, Problem: "was altered: the head names another digest"}
	}
	return nil
}

// RecordError says where a record does not verify.
type RecordError struct {
	Path    string
	Line    uint64 // from 1
	Problem string
}

// Error names the file, the line and the problem.
func (e *RecordError) Error() string {
	return fmt.Sprintf("signing: record %s: line %d %s", e.Path, e.Line, e.Problem)
}

// VerifyRecord reads the record at path, verifies that no line was removed, altered
// or put in, and calls each (which may be nil) for every entry. The error is a
// *RecordError where the record does not verify. A torn last line is no error: its
// entry was never acknowledged.
func VerifyRecord(path string, each func(Entry) error) (lines uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("signing: record: %w", err)
	}
	defer f.Close()
	heads := make(map[uint64]string)
	want := namedHead(path)
	last, _, _, err := walk(path, f, head{}, func(h head, e Entry) error {
		if h.Seq == want {
			heads[h.Seq] = h.SHA256
		}
		if each == nil {
			return nil
		}
		return each(e)
	})
	if err != nil {
		return last.Seq, err
	}
	return last.Seq, checkHead(path, last, heads)
}

// namedHead is the number of the line that the head file names; 0 for none.
func namedHead(path string) uint64 {
	var h head
	b, err := os.ReadFile(path + ".head")
	if err != nil || json.NewDecoder(strings.NewReader(string(b))).Decode(&h) != nil {
		return 0
	}
	return h.Seq
}
