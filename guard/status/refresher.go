package status

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// RefresherConfig configures a [Refresher].
type RefresherConfig struct {
	// Trust says who may sign lists. A list that nobody of it signed is not taken.
	Trust *Trust

	// URLs are where lists are, http alone. More can be added by Follow.
	URLs []string

	// Lists are known from the start, from files for instance.
	Lists []*List

	// Folder keeps lists across restarts; several processes may share it. Empty: lists
	// are kept in memory alone.
	Folder string

	// Client fetches. Nil: one that goes through the proxy of the environment
	// (HTTP_PROXY, NO_PROXY).
	Client *http.Client

	Grace    time.Duration // after nextUpdate; as that of NewSnapshot
	Interval time.Duration // between two fetches of a list, give or take an eighth; 0: an hour; at least a minute
	Timeout  time.Duration // of one fetch; 0: two minutes
	MaxBytes int64         // of one list; 0: DefaultMaxBytes

	// Trouble is called, from any goroutine, for each problem: a file or a list that is
	// not used, a fetch that failed. Nil: nobody is told; see Sources.
	Trouble func(error)
}

// maxSources bounds how many URLs are followed.
const maxSources = 256

// maxFetches bounds how many fetches go on at once.
const maxFetches = 4

// Refresher keeps lists fresh. Current always has an answer at once; what Run or Refresh
// finds is put in its place as a whole. It is safe for concurrent use.
type Refresher struct {
	config RefresherConfig
	grace  time.Duration
	client *http.Client
	cache  *cache // nil: none
	jitter func(time.Duration) time.Duration

	current atomic.Pointer[Snapshot]
	running atomic.Bool
	wake    chan struct{}

	mu      sync.Mutex // of what follows; never held during I/O
	newest  map[[sha256.Size]byte]*held
	given   []*held // Config.Lists
	sources map[string]*source

	wanting sync.Mutex      // of what follows; never held during I/O
	asked   map[string]bool // URLs of certificates that were ever wanted
	wanted  []string        // those that are not yet followed
}

// source is a URL with what came of it.
type source struct {
	Source
	note     note
	failures int
	busy     bool
}

// Source is what is known of a URL. Instants are UTC; zero: never.
type Source struct {
	URL     string
	Checked time.Time // when it last answered with a list that counts, or that nothing changed
	Next    time.Time // when it is asked again by Run
	List    *List     // the list that it last gave; nil: none yet
	Err     error     // why the last fetch failed; nil: it did not
}

// NewRefresher makes a Refresher with the lists of its folder. It fetches nothing. The
// error names the setting that is wrong, or is of a folder that cannot be made.
func NewRefresher(c RefresherConfig) (*Refresher, error) {
	grace, err := graceOf(c.Grace)
	switch {
	case err != nil:
		return nil, err
	case c.Trust == nil:
		return nil, errors.New("status: RefresherConfig.Trust is missing: wanted who may sign lists")
	case c.Interval != 0 && c.Interval < time.Minute:
		return nil, fmt.Errorf("status: RefresherConfig.Interval is %v, wanted at least a minute, or 0 for an hour", c.Interval)
	case c.Timeout < 0 || c.MaxBytes < 0:
		return nil, errors.New("status: RefresherConfig.Timeout or MaxBytes is negative")
	}
	if c.Interval == 0 {
		c.Interval = time.Hour
	}
	if c.Timeout == 0 {
		c.Timeout = 2 * time.Minute
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	r := &Refresher{
		config: c, grace: grace, client: clientOf(c.Client), jitter: eighth, wake: make(chan struct{}, 1),
		newest: map[[sha256.Size]byte]*held{}, sources: map[string]*source{}, asked: map[string]bool{},
	}
	for _, l := range c.Lists {
		if l != nil {
			r.given = append(r.given, hold(c.Trust, l))
		}
	}
	if c.Folder != "" {
		r.cache = &cache{c.Folder, c.Trust, c.MaxBytes}
		if err := r.cache.open(); err != nil {
			return nil, err
		}
		lists, problems := r.cache.load()
		for _, h := range lists {
			r.newest[h.list.series] = h
		}
		for _, p := range problems {
			r.tell(p)
		}
	}
	r.publish()
	if err := r.Follow(c.URLs...); err != nil {
		return nil, err
	}
	return r, nil
}

// eighth varies a duration by up to an eighth of it, so that not all of a nation ask at
// one time.
func eighth(d time.Duration) time.Duration {
	return d - d/8 + rand.N(max(d/4, 1))
}

func (r *Refresher) tell(err error) {
	if r.config.Trouble != nil {
		r.config.Trouble(err)
	}
}

// Current is the newest Snapshot. It never waits.
func (r *Refresher) Current() *Snapshot { return r.current.Load() }

// Follow adds URLs, such as [Subject.URLs] of a certificate whose path was verified:
// nobody else should say where this machine connects to. Those that are followed
// already stay as they are. The error is of a URL that is not http, of which none is
// added, or of too many.
func (r *Refresher) Follow(urls ...string) error {
	for _, u := range urls {
		if err := checkURL(u); err != nil {
			return err
		}
	}
	fresh := map[string]note{}
	for _, u := range urls {
		fresh[u] = note{}
		if r.cache != nil {
			fresh[u] = r.cache.note(u)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range urls {
		if r.sources[u] != nil {
			continue
		}
		if len(r.sources) >= maxSources {
			return fmt.Errorf("status: more than %d URLs of lists", maxSources)
		}
		s := &source{Source: Source{URL: u}, note: fresh[u]}
		if h := r.listed(s.note.List); h != nil {
			s.List, s.Checked = h.list, s.note.Checked
			if !s.Checked.After(time.Now()) { // else the clock was wrong, or is
				s.Next = s.Checked.Add(r.jitter(r.config.Interval))
			}
		} else {
			s.note = note{} // its validators are of a list that is not here
		}
		r.sources[u] = s
	}
	r.wakeUp()
	return nil
}

// listed finds a list by its digest.
func (r *Refresher) listed(sum string) *held {
	for _, h := range r.newest {
		if hex.EncodeToString(h.list.sum[:]) == sum {
			return h
		}
	}
	return nil
}

func (r *Refresher) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Sources are the URLs that are followed, in their order, with what came of them.
func (r *Refresher) Sources() []Source {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Source
	for _, u := range slices.Sorted(maps.Keys(r.sources)) {
		all = append(all, r.sources[u].Source)
	}
	return all
}

// publish makes the snapshot of what is held.
func (r *Refresher) publish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current.Store(newSnapshot(r.config.Trust, r.grace, slices.AppendSeq(slices.Clone(r.given), maps.Values(r.newest))))
}

// Run fetches lists until ctx ends, whose error it returns: each when it is due, one
// that failed again after a minute, then two, and so on up to the interval. It returns
// another error where it runs already.
func (r *Refresher) Run(ctx context.Context) error {
	if !r.running.CompareAndSwap(false, true) {
		return errors.New("status: Refresher.Run runs already")
	}
	defer r.running.Store(false)
	var fetches sync.WaitGroup
	defer fetches.Wait()
	for {
		r.followWanted()
		due, next := r.due(time.Now())
		for _, u := range due {
			fetches.Go(func() {
				_ = r.fetch(ctx, u) // told, and in Sources
				r.wakeUp()
			})
		}
		wait := time.Duration(math.MaxInt64)
		if !next.IsZero() {
			wait = time.Until(next)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// due takes the URLs whose time has come, as many as may be fetched at once, and says
// when there is more to do; zero: when a fetch ends.
func (r *Refresher) due(now time.Time) (urls []string, next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	free := maxFetches
	for _, s := range r.sources {
		if s.busy {
			free--
		}
	}
	for _, u := range slices.Sorted(maps.Keys(r.sources)) {
		switch s := r.sources[u]; {
		case s.busy:
		case s.Next.After(now):
			if next.IsZero() || s.Next.Before(next) {
				next = s.Next
			}
		case free > 0:
			s.busy = true
			free--
			urls = append(urls, u)
		}
	}
	return urls, next
}

// Refresh fetches every list once, now, and returns what failed, joined; lists that
// could be fetched count all the same. Lists that Run is fetching just then are left
// to it.
func (r *Refresher) Refresh(ctx context.Context) error {
	r.followWanted()
	var urls []string
	r.mu.Lock()
	for u, s := range r.sources {
		if !s.busy {
			s.busy = true
			urls = append(urls, u)
		}
	}
	r.mu.Unlock()
	slices.Sort(urls)
	failed := make([]error, len(urls))
	var fetches sync.WaitGroup
	free := make(chan struct{}, maxFetches)
	for i, u := range urls {
		free <- struct{}{}
		fetches.Go(func() {
			failed[i] = r.fetch(ctx, u)
			<-free
		})
	}
	fetches.Wait()
	r.wakeUp()
	return errors.Join(failed...)
}

// fetch asks one URL, which the caller marked as busy.
func (r *Refresher) fetch(ctx context.Context, from string) error {
	r.mu.Lock()
	known := r.sources[from].note
	r.mu.Unlock()
	h, n, err := r.ask(ctx, from, known)
	now := time.Now().UTC()
	r.mu.Lock()
	s := r.sources[from]
	s.busy = false
	if err != nil && ctx.Err() != nil { // given up, not failed
		r.mu.Unlock()
		return err
	}
	s.Err = err
	if err != nil {
		s.failures++
		wait := min(time.Minute<<min(s.failures-1, 20), r.config.Interval)
		s.Next = now.Add(r.jitter(wait))
	} else {
		s.failures, s.Checked, s.note = 0, n.Checked, n
		s.Next = now.Add(r.jitter(r.config.Interval))
		if h != nil {
			s.List = h.list
		}
	}
	r.mu.Unlock()
	if err != nil {
		r.tell(err)
	}
	return err
}

// ask fetches and takes one list. A nil list with no error: nothing changed.
func (r *Refresher) ask(ctx context.Context, from string, known note) (*held, note, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	a, err := get(ctx, r.client, from, known, r.config.MaxBytes)
	if err != nil {
		return nil, note{}, err
	}
	now := time.Now().UTC()
	if a.same {
		known.Checked = now
		r.keepNote(known)
		return nil, known, nil
	}
	h, der, err := r.read(a.body, now)
	if err == nil {
		err = r.take(ctx, h, der)
	}
	if err != nil {
		return nil, note{}, fmt.Errorf("status: %s: %w", from, err)
	}
	n := note{URL: from, Checked: now, List: hex.EncodeToString(h.list.sum[:]), ETag: a.etag, LastModified: a.lastModified}
	r.keepNote(n)
	return h, n, nil
}

func (r *Refresher) keepNote(n note) {
	if r.cache == nil {
		return
	}
	if err := r.cache.setNote(n); err != nil {
		r.tell(err)
	}
}

// read reads and verifies what was fetched.
func (r *Refresher) read(body []byte, now time.Time) (*held, []byte, error) {
	der, err := listDER(body, r.config.MaxBytes)
	if err != nil {
		return nil, nil, err
	}
	l, err := parseList(der)
	if err != nil {
		return nil, nil, err
	}
	h := hold(r.config.Trust, l)
	switch {
	case len(h.by) == 0:
		return nil, nil, fmt.Errorf("%w: of %s, %s", ErrUnverified, l, h.why)
	case l.thisUpdate.After(now):
		return nil, nil, fmt.Errorf("%w: %s, but this machine's clock shows %s: one of the two is wrong", ErrFuture, l, text(now))
	}
	return h, der, nil
}

// take puts a list that is verified in the place of the one before, on disk and in the
// snapshot, unless it is older.
func (r *Refresher) take(ctx context.Context, h *held, der []byte) error {
	if err := r.adopt(h); err != nil {
		return err
	}
	if r.cache == nil {
		return nil
	}
	newer, err := r.cache.put(ctx, h, der)
	switch {
	case newer != nil: // of another process
		_ = r.adopt(newer)
		return err
	case err != nil: // it counts until this process ends
		r.tell(err)
	}
	return nil
}

func (r *Refresher) adopt(h *held) error {
	r.mu.Lock()
	if before := r.newest[h.list.series]; before != nil {
		if err := h.list.follows(before.list); err != nil || before.list.sum == h.list.sum {
			r.mu.Unlock()
			return err
		}
	}
	r.newest[h.list.series] = h
	r.mu.Unlock()
	r.publish()
	return nil
}
