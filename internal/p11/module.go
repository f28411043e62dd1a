//go:build cgo

package p11

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/miekg/pkcs11"

	"github.com/rxguard/rxguard/internal/card"
)

// Module is a loaded PKCS#11 module. It is safe for concurrent use.
type Module struct {
	path string
	opts Options
	ctx  *pkcs11.Ctx
	piv  bool          // its CKA_IDs name PIV slots
	one  chan struct{} // taken for each call of a module that cannot lock

	single  atomic.Bool // the module cannot lock
	adopted atomic.Bool // another component of this process initialised it, and may be logged in

	mu      sync.Mutex
	bound   time.Duration      // of an ordinary call
	chosen  bool               // somebody chose bound
	calls   map[*call]struct{} // under way
	wedged  chan struct{}      // closed when a call did not answer
	wedger  string             // what it was doing
	idle    chan func()        // to a goroutine that waits for the next call
	looking chan struct{}      // taken by whoever polls

	// Held while a session is opened or closed in the module, which may give the handle
	// of one that it closed itself to the next.
	handles sync.Mutex

	slots   map[uint]*slot
	tokens  map[*Token]struct{}
	opened  map[*session]struct{} // and not closed in the module
	events  map[*watcher]struct{}
	polling context.CancelFunc // nil: nobody watches
}

// call is a call that the module works on.
type call struct {
	since, until time.Time
	single       bool        // it has Module.one
	dog          *time.Timer // guarded by Module.mu
}

const (
	ordinary   = 30 * time.Second
	everyPoll  = 200 * time.Millisecond
	generating = 10 // bounds
	typing     = 6  // bounds
)

// modules are those of this process, by the path that they were found at. They are
// never unloaded.
var modules = struct {
	sync.Mutex
	m map[string]*loading
}{m: make(map[string]*loading)}

// loading is a module, or one that is being loaded.
type loading struct {
	arguments string
	done      chan struct{} // closed when m or err is there
	m         *Module
	err       error
}

// Open loads and initialises the module at path, or returns the one that this
// process loaded already. Initialised by another component, it is shared. The error
// says what is wrong with the file or the module: it is a *card.Error only for one that
// does not answer, of Kind Wedged. When ctx ends, its error is answered at once; the
// module goes on loading, for those who ask for it later.
func Open(ctx context.Context, path string, o Options) (*Module, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.Poll == 0 {
		o.Poll = everyPoll
	}
	real, err := filepath.Abs(path)
	if err == nil {
		real, err = filepath.EvalSymlinks(real)
	}
	if err == nil {
		var i os.FileInfo
		if i, err = os.Stat(real); err == nil && i.IsDir() {
			err = errors.New("it is a folder; wanted the module's file")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("p11: module %s: %w", path, err)
	}
	for {
		modules.Lock()
		l := modules.m[real]
		if l == nil {
			l = &loading{arguments: o.Arguments, done: make(chan struct{})}
			modules.m[real] = l
			go l.load(path, real, o)
		}
		modules.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.done:
		}
		switch {
		case l.m != nil && l.arguments == o.Arguments:
			if err := l.m.choose(o.Bound); err != nil {
				return nil, err
			}
			return l.m, nil
		case l.m != nil:
			return nil, fmt.Errorf("p11: module %s was loaded with other arguments; one process can load it once", path)
		case l.arguments == o.Arguments:
			return nil, l.err
		}
	}
}

// load loads the module, which runs code of its own. One that fails may be tried again.
func (l *loading) load(path, real string, o Options) {
	m := &Module{
		path: path, opts: o, bound: cmp.Or(o.Bound, ordinary), chosen: o.Bound != 0,
		calls: make(map[*call]struct{}), one: make(chan struct{}, 1), idle: make(chan func()), wedged: make(chan struct{}), looking: make(chan struct{}, 1),
		slots: make(map[uint]*slot), tokens: make(map[*Token]struct{}), opened: make(map[*session]struct{}), events: make(map[*watcher]struct{}),
	}
	failed, err := do(context.Background(), m, "load", 1, func() (error, error) { return m.load(real), nil })
	modules.Lock()
	defer modules.Unlock()
	defer close(l.done)
	switch {
	case err != nil: // the stuck call has the file's lock
		l.err = err
		modules.m[real] = &loading{arguments: l.arguments, done: l.done, m: m}
	case failed != nil:
		l.err = failed
		delete(modules.m, real)
	default:
		l.m = m
	}
}

// choose has calls take as long as somebody says who asks for the module; 0 says nothing.
func (m *Module) choose(bound time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case bound == 0:
	case m.chosen && bound != m.bound:
		return fmt.Errorf("p11: module %s was loaded with a bound of %v for its calls, expected %v; a process has one for a module", m.path, m.bound, bound)
	default:
		m.bound, m.chosen = bound, true
	}
	return nil
}

func (m *Module) load(path string) error {
	path, err := probe(path)
	if err != nil {
		return fmt.Errorf("p11: module %s %w", m.path, err)
	}
	ctx := pkcs11.New(path)
	if ctx == nil {
		return fmt.Errorf("p11: module %s cannot be loaded a second time", m.path)
	}
	if err := m.initialise(ctx); err != nil {
		if is(err, pkcs11.CKR_ARGUMENTS_BAD) && m.opts.Arguments == "" {
			err = fmt.Errorf("%w; it may want ModuleArguments, as NSS softokn does", err)
		}
		return fmt.Errorf("p11: module %s cannot be initialised: %w", m.path, err)
	}
	info, err := ctx.GetInfo()
	if err != nil {
		return fmt.Errorf("p11: module %s does not tell what it is: %w", m.path, err)
	}
	m.piv = isPIV(info)
	m.ctx = ctx
	return nil
}

// initialise initialises the module, which may be done already.
func (m *Module) initialise(ctx *pkcs11.Ctx) error {
	try := func(flags uint) error {
		opts := []pkcs11.InitializeOption{pkcs11.InitializeWithFlags(flags)}
		if m.opts.Arguments != "" {
			args := append([]byte(m.opts.Arguments), 0) // a C string, read during the call alone
			opts = append(opts, pkcs11.InitializeWithReserved(unsafe.Pointer(&args[0])))
		}
		return ctx.Initialize(opts...)
	}
	err := try(pkcs11.CKF_OS_LOCKING_OK)
	if is(err, pkcs11.CKR_CANT_LOCK, pkcs11.CKR_NEED_TO_CREATE_THREADS) {
		if err = try(0); err == nil {
			m.single.Store(true)
		}
	}
	if is(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		m.adopted.Store(true)
		return nil
	}
	return err
}

// do is the one way to the module: f runs on a goroutine of its own and may take
// so many bounds. It answers ctx's error as soon as ctx ends, and Kind Wedged when
// the module is stuck; f goes on then, and what it brings is dropped.
func do[T any](ctx context.Context, m *Module, op string, bounds int, f func() (T, error)) (T, error) {
	return detached(ctx, m, op, bounds, nil, nil, f, nil)
}

// detached is do. turn, where there is one, is taken while f is at work, and must be
// free; first is called before f begins, in this goroutine, when f will run; late
// when f ends after nobody waits any more.
func detached[T any](ctx context.Context, m *Module, op string, bounds int, turn chan struct{}, first func(), f func() (T, error), late func(T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	c, err := m.begin(ctx, op, bounds)
	if err != nil {
		return none, err
	}
	if turn != nil {
		select {
		case turn <- struct{}{}:
		default:
			m.end(c)
			return none, card.Errorf(card.Removed, op, "an earlier call in the session is still at work")
		}
	}
	if first != nil {
		first()
	}
	type answer struct {
		v   T
		err error
	}
	done, gone := make(chan answer), make(chan struct{})
	defer close(gone)
	m.work(func() {
		var a answer
		a.v, a.err = f()
		if turn != nil {
			<-turn
		}
		m.end(c)
		select {
		case done <- a:
		case <-gone:
			if late != nil {
				late(a.v, a.err)
			}
		}
	})
	select {
	case a := <-done:
		return a.v, typed(op, a.err)
	case <-ctx.Done():
		return none, ctx.Err()
	case <-m.wedged:
		return none, m.stuck(op)
	}
}

// work runs f on a goroutine of its own: one that has ended its last call, or else a
// new one. To start one for each call takes longer than all else around the call.
func (m *Module) work(f func()) {
	select {
	case m.idle <- f:
	default:
		go func() {
			for {
				f()
				f = <-m.idle
			}
		}()
	}
}

// begin registers a call and arms its watchdog.
func (m *Module) begin(ctx context.Context, op string, bounds int) (*call, error) {
	single := m.single.Load()
	if single {
		select {
		case m.one <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-m.wedged:
			return nil, m.stuck(op)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wedger != "" {
		if single {
			<-m.one
		}
		return nil, m.stuckLocked(op)
	}
	now, bound := time.Now(), time.Duration(bounds)*m.bound
	c := &call{since: now, until: now.Add(bound), single: single}
	m.calls[c] = struct{}{}
	m.arm(c, op, bound)
	return c, nil
}

// arm has the module wedged when c is still under way at its bound. A call may have
// to wait inside the module for others, so it has the time of those too that began
// within its bound; not of later ones, or a busy module would never be wedged.
func (m *Module) arm(c *call, op string, in time.Duration) {
	c.dog = time.AfterFunc(in, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if _, there := m.calls[c]; !there || m.wedger != "" {
			return
		}
		until := c.until
		for o := range m.calls {
			if o.since.Before(c.until) && o.until.After(until) {
				until = o.until
			}
		}
		if wait := time.Until(until); wait > 0 {
			m.arm(c, op, wait)
			return
		}
		m.wedger = op
		close(m.wedged)
		for t := range m.tokens {
			t.wake()
		}
	})
}

func (m *Module) end(c *call) {
	m.mu.Lock()
	delete(m.calls, c)
	c.dog.Stop()
	m.mu.Unlock()
	if c.single {
		<-m.one
	}
}

// Rest waits until the module is at work on nothing: no call is under way, and no session
// that was closed is still to be closed in it. It waits no longer than ctx, nor than a
// second, and not for a module that stopped answering.
func (m *Module) Rest(ctx context.Context) { m.rest(ctx, time.Second, m.wedged) }

func (m *Module) rest(ctx context.Context, atMost time.Duration, unless <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	for !m.rests() {
		select {
		case <-ctx.Done():
			return
		case <-unless:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func (m *Module) rests() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.opened {
		s.mu.Lock()
		closed := s.closed
		s.mu.Unlock()
		if closed {
			return false
		}
	}
	return len(m.calls) == 0
}

func (m *Module) isWedged() bool {
	select {
	case <-m.wedged:
		return true
	default:
		return false
	}
}

// stuck is the error of a module that stopped answering.
func (m *Module) stuck(op string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stuckLocked(op)
}

func (m *Module) stuckLocked(op string) error {
	return card.Errorf(card.Wedged, op, "module %s did not answer to %q", m.path, m.wedger)
}
