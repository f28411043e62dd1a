package card

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/rxguard/rxguard/guard"
)

// Handle is a card as vendors hold it: opaque, known to them as signing.Card. Its
// exported methods are harmless; what works on the card goes through [TokenOf],
// which only this module can call. Use it by pointer; the zero value is a card
// that is out.
type Handle struct {
	t    Token
	opts Options

	snap atomic.Pointer[guard.Snapshot]

	mu       sync.Mutex
	changed  chan struct{} // closed at each new snapshot
	reseated string        // the hold under which the card was seen out and in
	closed   bool
	onClose  []func() error
	refresh  func(changed bool)
}

// Options are what a Handle is opened with.
type Options struct {
	// PIN asks the person for the passcode. Its answer is wiped after use.
	PIN Prompt
	// LastTry asks for an explicit yes before the last try is spent; nil never
	// spends it.
	LastTry func(context.Context, PINRequest) (bool, error)
	// StateDir overrides the machine-wide state folder, for simulated cards and this
	// module's own tests and examples; empty is the machine's.
	StateDir string
}

// Prompt asks the person for the passcode. The returned slice is wiped by the
// caller, which keeps no copy.
type Prompt func(ctx context.Context, r PINRequest) ([]byte, error)

// PINRequest says for which card and why the passcode is asked.
type PINRequest struct {
	Serial, Label string // of the token
	Purpose       Purpose
	MinLength     int // 0: not known
	MaxLength     int
	FewTries      bool // a wrong passcode was entered since the last right one
	LastTry       bool // one try is left before the card locks
	// OnPad tells that the passcode is entered on the reader's own pad
	// (CKF_PROTECTED_AUTHENTICATION_PATH): the callback says so to the person and
	// returns nothing; the card asks when it has returned.
	OnPad bool
}

// Purpose says what the passcode is asked for.
type Purpose string

// The purposes.
const (
	ToSign   Purpose = "sign"   // sign a prescription
	ToRenew  Purpose = "renew"  // renew the card's certificate
	ToReseat Purpose = "reseat" // end the hold after the card was put back
)

// NewHandle makes a Handle over a token.
func NewHandle(t Token, opts Options) *Handle {
	return &Handle{t: t, opts: opts, changed: make(chan struct{})}
}

// TokenOf returns the token behind h; nil for the zero Handle.
func TokenOf(h *Handle) Token { return h.t }

// OptionsOf returns what h was opened with.
func OptionsOf(h *Handle) Options { return h.opts }

// ErrClosed is the error of a card that was closed.
var ErrClosed = errors.New("card: the card was closed; open it again")

// Snapshot returns the card as it was last seen, from memory, for guard.Check. It
// does not wait. The error wraps guard.ErrNoCard for a card that was never read;
// it says so when the card was closed.
func (h *Handle) Snapshot(context.Context) (guard.Snapshot, error) {
	if h == nil {
		return guard.Snapshot{}, fmt.Errorf("card: the card is nil: %w", guard.ErrNoCard)
	}
	s := h.snap.Load()
	switch {
	case s == &closed:
		return guard.Snapshot{}, ErrClosed
	case s == nil:
		return guard.Snapshot{}, guard.ErrNoCard
	}
	return *s, nil
}

// closed stands in for the snapshot of a card that was closed.
var closed guard.Snapshot

// Changed returns a channel that is closed when the next snapshot replaces the
// one that Snapshot returns now: the card was taken out, put in or closed, or its
// hold changed. Ask for the channel before the snapshot, so that no change is
// missed.
func (h *Handle) Changed() <-chan struct{} {
	if h == nil {
		return nil // no card never changes
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.changed == nil {
		h.changed = make(chan struct{})
	}
	return h.changed
}

// Close stops what watches the card, ends a signature under way and the Signers'
// sessions, and waits for their ends, for a module that is still at work a second at the
// most; a renewal under way stops after its step. A closed card cannot be used again.
// Closing twice is harmless.
func (h *Handle) Close() error {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	fs := h.onClose
	h.onClose = nil
	if !h.closed {
		h.closed = true
		h.publish(&closed)
	}
	h.mu.Unlock()
	var errs []error
	for i := len(fs) - 1; i >= 0; i-- {
		errs = append(errs, fs[i]())
	}
	return errors.Join(errs...)
}

// Closed tells whether h was closed.
func Closed(h *Handle) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}

// OnClose has f called by Close, last registered first; at once when h is closed.
func OnClose(h *Handle, f func() error) {
	h.mu.Lock()
	closed := h.closed
	if !closed {
		h.onClose = append(h.onClose, f)
	}
	h.mu.Unlock()
	if closed {
		_ = f()
	}
}

// Publish replaces h's snapshot and wakes those who wait for a change.
func Publish(h *Handle, s guard.Snapshot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.publish(&s)
}

// publish needs h.mu.
func (h *Handle) publish(s *guard.Snapshot) {
	h.snap.Store(s)
	if h.changed != nil {
		close(h.changed)
	}
	h.changed = make(chan struct{})
}

// OnRefresh sets what Refresh and Reread call; changed tells that it is Reread.
func OnRefresh(h *Handle, f func(changed bool)) {
	h.mu.Lock()
	h.refresh = f
	h.mu.Unlock()
}

// Refresh brings h's snapshot up to date now: after a hold was set or ended, and
// before something is decided for which a removal must not be missed.
func Refresh(h *Handle) { refresh(h, false) }

// Reread is Refresh after this process changed what is on the card: one that had no
// certificate to sign with may have one.
func Reread(h *Handle) { refresh(h, true) }

func refresh(h *Handle, changed bool) {
	h.mu.Lock()
	f := h.refresh
	h.mu.Unlock()
	if f != nil {
		f(changed)
	}
}

// SetReseated records that the card was seen to be taken out and put back under
// the hold with this id; empty forgets it. It lives in memory only: a removal that
// no running process saw leaves the hold.
func SetReseated(h *Handle, hold string) {
	h.mu.Lock()
	h.reseated = hold
	h.mu.Unlock()
}

// Reseated returns the hold under which the card was seen re-seated.
func Reseated(h *Handle) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reseated
}

// Reader is where a card is opened from that has a state folder of its own: the
// simulated one. Vendors know it as signing.Reader and get it from
// signing/signingtest.
type Reader struct {
	t        Token
	stateDir string
}

// NewReader makes a Reader over a token, with the state folder that its holds live
// in. Only this module can, and gives away those of simulated tokens alone.
func NewReader(t Token, stateDir string) *Reader { return &Reader{t, stateDir} }

// InReader returns the token and state folder behind r.
func InReader(r *Reader) (Token, string) { return r.t, r.stateDir }
