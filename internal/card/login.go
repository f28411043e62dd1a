package card

import (
	"context"
	"errors"
	"fmt"
)

// Login asks the person for the passcode and presents it to the card once. It
// reads the card's flags first: a locked card is not asked, and the last try is
// spent only after an explicit yes. Nothing is tried again. The passcode is wiped
// before Login returns; when ctx ends, Login returns and wipes what the person
// still enters.
func Login(ctx context.Context, h *Handle, s Session, why Purpose) error {
	info, err := s.Info(ctx)
	if err != nil {
		return err
	}
	if info.Locked {
		return Errorf(PINLocked, "login", "%s", info.name())
	}
	req := PINRequest{
		Serial: info.Serial, Label: info.Label, Purpose: why,
		MinLength: info.MinPIN, MaxLength: info.MaxPIN,
		FewTries: info.CountLow, LastTry: info.FinalTry, OnPad: info.ProtectedPath,
	}
	if info.FinalTry {
		if err := lastTry(ctx, h, req); err != nil {
			return &Error{Kind: LastTry, Op: "login", TriesLeft: 1, Detail: info.name(), Err: err}
		}
	}
	if h.opts.PIN == nil {
		return Errorf(PINCancelled, "login", "%s: no passcode callback is configured", info.name())
	}
	pin, err := Ask(ctx, func() ([]byte, error) { return h.opts.PIN(ctx, req) }, func(late []byte) { clear(late) })
	defer clear(pin)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return &Error{Kind: PINCancelled, Op: "login", TriesLeft: -1, Detail: info.name(), Err: err}
	}
	// An empty passcode would reach a PKCS#11 module as NULL, which asks on a PIN
	// pad; a wrong length can spend a try on some cards.
	switch {
	case info.ProtectedPath:
		clear(pin)
		pin = nil
	case len(pin) == 0:
		return Errorf(PINLength, "login", "it is empty")
	case info.MinPIN > 0 && len(pin) < info.MinPIN:
		return Errorf(PINLength, "login", "it is shorter than %d characters", info.MinPIN)
	case info.MaxPIN > 0 && len(pin) > info.MaxPIN:
		return Errorf(PINLength, "login", "it is longer than %d characters", info.MaxPIN)
	}
	// The prompt may have taken minutes, in which another window spent tries.
	now, err := s.Info(ctx)
	if err != nil {
		return err
	}
	if now.Locked {
		return Errorf(PINLocked, "login", "%s", info.name())
	}
	if now.FinalTry && !info.FinalTry {
		req.FewTries, req.LastTry = now.CountLow, true
		if err := lastTry(ctx, h, req); err != nil {
			return &Error{Kind: LastTry, Op: "login", TriesLeft: 1, Detail: info.name(), Err: err}
		}
	}
	return s.Login(ctx, pin)
}

// lastTry returns nil when the person said yes to spending the last try.
func lastTry(ctx context.Context, h *Handle, req PINRequest) error {
	if h.opts.LastTry == nil {
		return errors.New("nobody can be asked: no callback for the last try is configured")
	}
	yes, err := Ask(ctx, func() (bool, error) { return h.opts.LastTry(ctx, req) }, nil)
	if err == nil && !yes {
		err = errors.New("the answer was no")
	}
	return err
}

// Ask calls a callback of the application and waits for its answer or for ctx,
// which the callback need not heed: it may be waiting for a person, or for the
// very goroutine that ended ctx. late takes an answer that comes afterwards. A
// panic of the callback happens in the caller.
func Ask[T any](ctx context.Context, f func() (T, error), late func(T)) (T, error) {
	type answer struct {
		v        T
		err      error
		panicked any
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	c, gone := make(chan answer), make(chan struct{})
	defer close(gone)
	go func() {
		a := answer{err: errors.New("the callback did not return")} // but ended its goroutine
		defer func() {
			a.panicked = recover()
			select {
			case c <- a:
			case <-gone:
				if late != nil {
					late(a.v)
				}
			}
		}()
		a.v, a.err = f()
	}()
	select {
	case <-ctx.Done():
		return none, ctx.Err()
	case a := <-c:
		if a.panicked != nil {
			panic(a.panicked)
		}
		return a.v, a.err
	}
}

func (i Info) name() string { return fmt.Sprintf("card %q, serial %s", i.Label, i.Serial) }
