package status

import (
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
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/moby/sys/atomicwriter"
)

// cache is a folder with the newest list of each series, in DER as it was fetched: a
// file for each issuer and issuing distribution point. A list is signed, so a file
// that is torn, damaged or changed does not verify, and nothing else need be written
// to tell. Beside them is a note for each URL: when it was asked last, and the
// validators of HTTP, which count only with the list that they belong to.
//
// Several processes may share the folder. A file is replaced as a whole, under a lock,
// and never by an older list.
type cache struct {
	dir   string
	trust *Trust
	max   int64
}

const (
	listSuffix = ".crl"
	noteSuffix = ".json"
	lockFile   = "lock"
	maxNote    = 64 << 10
)

// open makes the folder.
func (c *cache) open() error {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return fmt.Errorf("status: the folder of lists: %w", err)
	}
	return nil
}

// lockRetry is how often a lock that another process has is asked for again.
const lockRetry = 20 * time.Millisecond

func (c *cache) lock(ctx context.Context) (unlock func(), err error) {
	file := filepath.Join(c.dir, lockFile)
	l := flock.New(file, flock.SetPermissions(0o666))
	if _, err := l.TryLockContext(ctx, lockRetry); err != nil {
		return nil, fmt.Errorf("status: lock %s: %w", file, err)
	}
	return func() { _ = l.Close() }, nil
}

func (c *cache) file(series [sha256.Size]byte) string {
	return filepath.Join(c.dir, hex.EncodeToString(series[:])+listSuffix)
}

// load reads what is there. What cannot be used is left aside, and told. On Windows a
// file that is read stands in the way of who replaces it, so it takes the lock if that
// is free; without it, it reads files that are whole all the same.
func (c *cache) load() (lists []*held, problems []error) {
	l := flock.New(filepath.Join(c.dir, lockFile), flock.SetPermissions(0o666))
	if ok, err := l.TryRLock(); ok && err == nil {
		defer l.Close()
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, []error{fmt.Errorf("status: the folder of lists: %w", err)}
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), listSuffix)
		if !ok || len(name) != 2*sha256.Size {
			continue
		}
		file := filepath.Join(c.dir, e.Name())
		if h, err := c.read(file); err == nil {
			lists = append(lists, h)
		} else if !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, fmt.Errorf("status: %s is ignored: %w", file, err))
		}
	}
	return lists, problems
}

func (c *cache) read(file string) (*held, error) {
	b, err := readFile(file, c.max)
	if err != nil {
		return nil, err
	}
	l, err := Parse(b, c.max)
	if err != nil {
		return nil, err
	}
	if c.file(l.series) != file {
		return nil, errors.New("it holds another list than its name says")
	}
	h := hold(c.trust, l)
	if len(h.by) == 0 {
		return nil, fmt.Errorf("%w: of %s, %s", ErrUnverified, l, h.why)
	}
	return h, nil
}

func readFile(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	i, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !i.Mode().IsRegular():
		return nil, errors.New("it is no regular file")
	case i.Size() > limit:
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, i.Size(), limit)
	}
	return io.ReadAll(io.LimitReader(f, limit+1))
}

// put writes a list that is verified. Where the folder has a newer one, which another
// process wrote, that one is returned, and the error of the list that is older.
func (c *cache) put(ctx context.Context, h *held, der []byte) (newer *held, err error) {
	unlock, err := c.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	file := c.file(h.list.series)
	if there, err := c.read(file); err == nil {
		if err := h.list.follows(there.list); err != nil {
			return there, err
		}
		if there.list.sum == h.list.sum {
			return nil, nil
		}
	}
	if err := atomicwriter.WriteFile(file, der, 0o644); err != nil {
		return nil, fmt.Errorf("status: %s could not be written: %w", file, err)
	}
	return nil, nil
}

// note is what is known of a URL beside its list.
type note struct {
	URL          string    `json:"url"`
	Checked      time.Time `json:"checked"` // when it last answered with a list that counts, or that nothing changed
	List         string    `json:"list"`    // SHA-256 of the list's DER, lower-case hexadecimal
	ETag         string    `json:"etag,omitempty"`
	LastModified string    `json:"last_modified,omitempty"`
}

func (c *cache) noteFile(url string) string {
	sum := sha256.Sum256([]byte(url))
	return filepath.Join(c.dir, hex.EncodeToString(sum[:])+noteSuffix)
}

// note reads the note of a URL; none, or one that is damaged, is the zero note, with
// which the list is fetched anew.
func (c *cache) note(url string) note {
	var n note
	b, err := readFile(c.noteFile(url), maxNote)
	if err != nil || json.Unmarshal(b, &n) != nil || n.URL != url {
		return note{}
	}
	return n
}

func (c *cache) setNote(n note) error {
	b, err := json.Marshal(n)
	if err == nil {
		err = atomicwriter.WriteFile(c.noteFile(n.URL), append(b, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("status: the note of %s could not be written: %w", n.URL, err)
	}
	return nil
}
