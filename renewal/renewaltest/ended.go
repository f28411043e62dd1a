package renewaltest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/rxguard/rxguard/renewal"
)

// method calls one of an Enroller's methods, whose errors follow one rule.
type method func(ctx context.Context, s *suite, e renewal.Enroller, c call) error

// enrolling calls Enrol, each time for a request of its own.
func enrolling(ctx context.Context, s *suite, e renewal.Enroller, c call) error {
	o, err := s.order()
	if err != nil {
		return err
	}
	_, err = s.enrol(ctx, e, o, c)
	return err
}

func endedBefore(ctx context.Context, s *suite) error { return before(ctx, s, "Enrol", enrolling) }
func endedWithin(ctx context.Context, s *suite) error { return within(ctx, s, "Enrol", enrolling) }
func unreachable(ctx context.Context, s *suite) error { return nobody(ctx, s, "Enrol", enrolling) }

// before calls with a ctx that has ended.
func before(ctx context.Context, s *suite, name string, m method) error {
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	late, cancel := context.WithDeadline(ctx, time.Unix(1, 0))
	defer cancel()
	issued := s.issued()
	for _, ended := range []context.Context{canceled, late} {
		what := fmt.Sprintf("%s with a ctx that had ended (%v)", name, ended.Err())
		if err := m(ended, s, s.made, call{what: what, ends: true}); !errors.Is(err, ended.Err()) {
			return fmt.Errorf("%s ended with: %w; wanted ctx's error, for errors.Is", what, orNil(err))
		}
	}
	if n := s.issued() - issued; n != 0 {
		return fmt.Errorf("%s with a ctx that had ended had %d certificates issued; wanted none", name, n)
	}
	return nil
}

// orNil is err, or what says that there was none.
func orNil(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

// silent is an authority that takes every connection and says nothing. heard is closed
// at the first.
type silent struct {
	net.Listener
	heard chan struct{}
}

// listen starts one. With hangUp it closes each connection at once.
func listen(hangUp bool) (*silent, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("renewaltest: no authority that says nothing could be started: %w", err)
	}
	s := &silent{l, make(chan struct{})}
	go func() {
		for first := true; ; first = false {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if first {
				close(s.heard)
			}
			if hangUp {
				_ = c.Close()
				continue
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return s, nil
}

func (s *suite) at(address string) (renewal.Enroller, error) {
	e, err := s.c.At(address)
	if err == nil && e == nil {
		err = errors.New("no Enroller")
	}
	if err != nil {
		return nil, fmt.Errorf("renewaltest: Config.At: %w", err)
	}
	return e, nil
}

// within ends ctx while an authority that says nothing is asked.
func within(ctx context.Context, s *suite, name string, m method) error {
	authority, err := listen(false)
	if err != nil {
		return err
	}
	defer authority.Close()
	e, err := s.at(authority.Addr().String())
	if err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	defer cancel()
	over := make(chan struct{})
	defer close(over)
	go func() {
		const unheard = time.Second // for one that waits without having connected
		select {
		case <-authority.heard:
		case <-time.After(unheard):
		case <-over:
			return
		}
		cancel()
	}()
	what := name + " while the authority says nothing"
	err = m(ended, s, e, call{what: what, ends: true})
	switch {
	case errors.As(err, new(*fatal)):
		return fmt.Errorf("%w after ctx had ended", err)
	case ended.Err() == nil: // it came back by itself: nobody could be reached
		return kind(what, err, renewal.Unreachable)
	case !errors.Is(err, context.Canceled):
		return fmt.Errorf("%s, when ctx ended, ended with: %w; wanted ctx's error, for errors.Is", what, orNil(err))
	}
	return nil
}

// nobody calls where nobody listens, and where who listens hangs up.
func nobody(ctx context.Context, s *suite, name string, m method) error {
	gone, err := listen(false)
	if err != nil {
		return err
	}
	_ = gone.Close()
	rude, err := listen(true)
	if err != nil {
		return err
	}
	defer rude.Close()
	var errs []error
	for _, r := range []struct{ what, address string }{
		{name + " where nobody listens", gone.Addr().String()},
		{name + " where who listens hangs up", rude.Addr().String()},
	} {
		e, err := s.at(r.address)
		if err != nil {
			return err
		}
		errs = append(errs, kind(r.what, m(ctx, s, e, call{what: r.what}), renewal.Unreachable))
	}
	return errors.Join(errs...)
}
