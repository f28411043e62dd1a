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
	"path/filepath"
	"time"

	"github.com/gofrs/flock" // one line at a time, also from two processes

	"github.com/rxguard/rxguard/internal/state"
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
	lock *flock.Flock // between processes
	turn chan struct{}

	// Guarded by turn.
	f    *os.File // nil: closed
	head head     // of what this process knows
	size int64    // of the file at head
}

// line is one line of the record.
type line struct {
	Version int    `json:"version"`
	Seq     uint64 `json:"seq"`  // from 1
	Prev    string `json:"prev"` // SHA-256 of the line before, without its line feed; empty for the first
	// Entry is read only where somebody asks for it: a line of a newer version of
	// this program is as good a link of the chain.
	Entry json.RawMessage `json:"entry"`
}

// head names a line.
type head struct {
	Seq    uint64 `json:"seq"`
	SHA256 string `json:"sha256"`
}

const recordVersion = 1

// maxHead bounds the head file.
const maxHead = 1 << 10

// maxLine bounds a line of the record.
const maxLine = 1 << 20

// patience bounds the wait for another process that is writing to the record,
// where no context does.
const patience = 10 * time.Second

// OpenRecord opens the record at path, creating it where there is none. A record
// that does not verify is not opened: the error is a *RecordError. The last line
// may be torn by a crash; its entry was never acknowledged, and it is removed.
func OpenRecord(path string) (*Record, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("signing: record: %w", err)
	}
	r := &Record{path: path, f: f, lock: flock.New(path + ".lock"), turn: make(chan struct{}, 1)}
	if err := r.open(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

func (r *Record) open() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	unlock, err := r.exclusive(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	var torn bool
	if r.head, r.size, torn, err = verifyFile(r.path, r.f, nil); err != nil {
		return err
	}
	if torn {
		if err := r.cut(); err != nil {
			return err
		}
	}
	return state.SyncDir(filepath.Dir(r.path)) // the file may be new
}

var errNoRecord = errors.New("signing: no record; wanted one from OpenRecord")

// Record appends an entry and syncs it to disk. It waits for other writers until
// ctx ends. An entry that could not be stored whole is taken back.
func (r *Record) Record(ctx context.Context, e Entry) error {
	if r == nil || r.turn == nil {
		return errNoRecord
	}
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return fmt.Errorf("signing: record: %w", ctx.Err())
	}
	if r.f == nil {
		return fmt.Errorf("signing: the record %s is closed", r.path)
	}
	unlock, err := r.exclusive(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.catchUp(); err != nil {
		return err
	}
	eb, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("signing: record: %w", err)
	}
	b, err := json.Marshal(line{Version: recordVersion, Seq: r.head.Seq + 1, Prev: r.head.SHA256, Entry: eb})
	if err == nil && len(b) > maxLine {
		err = fmt.Errorf("the entry takes %d bytes; wanted at most %d", len(b), maxLine)
	}
	if err != nil {
		return fmt.Errorf("signing: record: %w", err)
	}
	next := headOf(r.head.Seq+1, b)
	if err := r.store(append(b, '\n'), next); err != nil {
		return errors.Join(fmt.Errorf("signing: record: %w", err), r.cut())
	}
	r.head, r.size = next, r.size+int64(len(b))+1
	return nil
}

func (r *Record) store(b []byte, h head) error {
	if _, err := r.f.WriteAt(b, r.size); err != nil {
		return err
	}
	if err := r.f.Sync(); err != nil {
		return err
	}
	return writeHead(r.path, h)
}

// cut removes what follows the last whole line.
func (r *Record) cut() error {
	if err := r.f.Truncate(r.size); err != nil {
		return fmt.Errorf("signing: record: %w", err)
	}
	return nil
}

// Close closes the file. It waits for an entry that is being appended.
func (r *Record) Close() error {
	if r == nil || r.turn == nil {
		return nil
	}
	r.turn <- struct{}{}
	defer func() { <-r.turn }()
	if r.f == nil {
		return nil
	}
	err := r.f.Close()
	r.f = nil
	return err
}

// exclusive takes the lock between processes.
func (r *Record) exclusive(ctx context.Context) (func(), error) {
	ok, err := r.lock.TryLock()
	if err == nil && !ok {
		_, err = r.lock.TryLockContext(ctx, 5*time.Millisecond)
	}
	if err != nil {
		return nil, fmt.Errorf("signing: record: its lock %s, which another process may hold: %w", r.lock.Path(), err)
	}
	return func() { _ = r.lock.Unlock() }, nil
}

// catchUp verifies what other processes appended since head and takes it in. A
// line without its line feed was torn by a crash before it was acknowledged.
func (r *Record) catchUp() error {
	mine, err := r.f.Stat()
	if err != nil {
		return fmt.Errorf("signing: record: %w", err)
	}
	switch there, err := os.Stat(r.path); {
	case err != nil:
		return fmt.Errorf("signing: record: the file was taken away while it was open: %w", err)
	case !os.SameFile(mine, there):
		return fmt.Errorf("signing: record: another file was put at %s while it was open; open it again", r.path)
	}
	switch {
	case mine.Size() == r.size:
		return nil
	case mine.Size() < r.size:
		return &RecordError{Path: r.path, Line: r.head.Seq, Problem: "is missing: lines were removed from the end while it was open"}
	}
	h, n, torn, err := walk(r.path, io.NewSectionReader(r.f, r.size, mine.Size()-r.size), r.head, nil)
	if err != nil {
		return err
	}
	r.head, r.size = h, r.size+n
	if torn {
		return r.cut()
	}
	return nil
}

// walk verifies lines after from and returns the last one, the bytes that whole
// lines took, and whether a torn line follows. each may be nil.
func walk(path string, in io.Reader, from head, each func(head, json.RawMessage) error) (head, int64, bool, error) {
	br := bufio.NewReaderSize(in, 64<<10)
	var n int64
	for {
		bad := func(line uint64, format string, args ...any) (head, int64, bool, error) {
			return from, n, false, &RecordError{Path: path, Line: line, Problem: fmt.Sprintf(format, args...)}
		}
		b, err := readLine(br)
		if errors.Is(err, io.EOF) {
			return from, n, len(b) > 0, nil
		}
		if err != nil {
			return bad(from.Seq+1, "%v", err)
		}
		l, err := parseLine(b)
		switch {
		case err != nil:
			return bad(from.Seq+1, "is not a line of a record: %v", err)
		case l.Seq != from.Seq+1:
			return bad(from.Seq+1, "is numbered %d: a line was removed, put in or moved before it", l.Seq)
		case l.Prev != from.SHA256 && from.Seq == 0:
			return bad(1, "was altered: it names a line before it")
		case l.Prev != from.SHA256:
			return bad(from.Seq, "was altered: the next line names another digest")
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

func parseLine(b []byte) (line, error) {
	var l line
	if err := strictJSON(b, &l); err != nil {
		return l, err
	}
	if l.Version != recordVersion {
		return l, fmt.Errorf("it has version %d; this program knows %d", l.Version, recordVersion)
	}
	return l, nil
}

// strictJSON reads one JSON value without unknown fields.
func strictJSON(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows its JSON object")
	}
	return nil
}

// readLine reads up to a line feed, which it takes off; io.EOF with what was read
// when there is none.
func readLine(br *bufio.Reader) ([]byte, error) {
	var b []byte
	for {
		part, err := br.ReadSlice('\n')
		b = append(b, part...)
		switch {
		case len(b) > maxLine+1:
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
		err = state.WriteFile(path+".head", append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("the head could not be written: %w", err)
	}
	return nil
}

// readHead reads the head file; nil when there is none.
func readHead(path string) (*head, error) {
	b, err := state.ReadFile(path+".head", maxHead)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("signing: record: %w", err)
	}
	var h head
	if err := strictJSON(b, &h); err != nil {
		return nil, &RecordError{Path: path + ".head", Line: 1, Problem: "is damaged: " + err.Error()}
	}
	return &h, nil
}

// verifyFile verifies a whole record with its head. The head, which is read first
// because the record may be growing, may lag behind by what a crash left unwritten;
// the line that it names must be there as it was.
func verifyFile(path string, in io.Reader, each func(Entry) error) (last head, size int64, torn bool, err error) {
	h, err := readHead(path)
	if err != nil {
		return last, 0, false, err
	}
	var named string // digest of the line that the head names
	last, size, torn, err = walk(path, in, head{}, func(l head, e json.RawMessage) error {
		if h != nil && l.Seq == h.Seq {
			named = l.SHA256
		}
		if each == nil {
			return nil
		}
		var entry Entry
		if err := json.Unmarshal(e, &entry); err != nil {
			return &RecordError{Path: path, Line: l.Seq, Problem: "has an entry that this version of the program cannot read: " + err.Error()}
		}
		return each(entry)
	})
	if err == nil && h == nil && last.Seq > 1 { // perhaps the record grew since
		if h, err = readHead(path); h != nil {
			return last, size, torn, err
		}
	}
	switch {
	case err != nil:
	case h == nil && last.Seq > 1: // a crash can lose the head of the first line alone
		err = &RecordError{Path: path, Line: last.Seq, Problem: "has no head file beside it"}
	case h != nil && h.Seq > last.Seq:
		err = &RecordError{Path: path, Line: last.Seq + 1,
			Problem: fmt.Sprintf("is missing: lines were removed from the end, the head names line %d", h.Seq)}
	case h != nil && h.SHA256 != named:
		err = &RecordError{Path: path, Line: h.Seq, Problem: "was altered: the head names another digest"}
	}
	return last, size, torn, err
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
// or put in, and calls each (which may be nil) for every entry; an error of each
// ends it. The error is a *RecordError where the record does not verify; what each
// was given before it is then not to be relied on. A torn last line is no error:
// its entry was never acknowledged. The record may be in use.
func VerifyRecord(path string, each func(Entry) error) (lines uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("signing: record: %w", err)
	}
	defer f.Close()
	last, _, _, err := verifyFile(path, f, each)
	return last.Seq, err
}
