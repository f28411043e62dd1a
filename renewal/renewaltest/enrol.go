package renewaltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rxguard/rxguard/renewal"
)

func answers(ctx context.Context, s *suite) error {
	o, err := s.order()
	if err != nil {
		return err
	}
	_, err = s.must(ctx, s.made, o, "Enrol")
	return err
}

func repeats(ctx context.Context, s *suite) error {
	o, err := s.order()
	if err != nil {
		return err
	}
	another, err := s.enroller()
	if err != nil {
		return err
	}
	if _, err = s.must(ctx, s.made, o, "Enrol"); err != nil {
		return err
	}
	o.now = o.now.Add(time.Minute)
	_, first := s.must(ctx, s.made, o, "Enrol, asked again")
	o.now = o.now.Add(time.Minute)
	_, second := s.must(ctx, another, o, "Enrol, asked again by an Enroller that was made anew")
	return errors.Join(first, second)
}

func atOnce(ctx context.Context, s *suite) error {
	const requests = 4
	errs := make([]error, requests)
	var wg sync.WaitGroup
	for i := range requests {
		o, err := s.order()
		if err != nil {
			return err
		}
		wg.Go(func() { _, errs[i] = s.must(ctx, s.made, o, "Enrol, called several times at once") })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// brokenOff ends ctx in the middle, at the first use of the Transport, at the second
// and so on, and asks again.
func brokenOff(ctx context.Context, s *suite) error {
	const most = 8 // uses of the Transport in one call
	for at := 1; at <= most; at++ {
		o, err := s.order()
		if err != nil {
			return err
		}
		within, cancel := context.WithCancel(ctx)
		var mu sync.Mutex
		uses := 0
		what := fmt.Sprintf("Enrol, broken off at use %d of the Transport", at)
		_, err = s.enrol(within, s.made, o, call{what: what, ends: true, handshake: func() {
			mu.Lock()
			defer mu.Unlock()
			if uses++; uses == at {
				cancel()
			}
		}})
		cancel()
		mu.Lock()
		done := uses < at
		mu.Unlock()
		if err != nil && (done || !errors.Is(err, context.Canceled)) {
			return fmt.Errorf("%s; wanted an answer, or ctx's error, context.Canceled: %w", what, err)
		}
		another, err := s.enroller()
		if err != nil {
			return err
		}
		if _, err := s.must(ctx, another, o, "Enrol, asked again after it was broken off"); err != nil {
			return err
		}
		if done {
			return nil
		}
	}
	return nil
}

func untouched(ctx context.Context, s *suite) error {
	o, err := s.order()
	if err != nil {
		return err
	}
	// Behind the request lies what an append to it would overwrite.
	q := o.request()
	room := append(bytes.Clone(q.CSR), "untouched"...)
	q.CSR = room[:len(q.CSR)]
	var current []byte
	if q.Current != nil {
		current = bytes.Clone(q.Current.Raw)
	}
	var a renewal.Answer
	err = s.do(ctx, call{what: "Enrol"}, func(ctx context.Context, t *renewal.Transport) (err error) {
		a, err = s.made.Enrol(ctx, t, q)
		return err
	})
	switch {
	case err != nil:
		return err
	case !bytes.Equal(room, append(bytes.Clone(o.csr), "untouched"...)):
		return errors.New("the Enroller changed Request.CSR, or wrote behind it")
	case current != nil && !bytes.Equal(q.Current.Raw, current):
		return errors.New("the Enroller changed Request.Current")
	}
	was := copied(a)
	second, err := s.order()
	if err != nil {
		return err
	}
	for _, next := range []*order{second, o} {
		if _, err := s.must(ctx, s.made, next, "Enrol"); err != nil {
			return err
		}
		if !same(a, was) {
			return errors.New("the Enroller changed an Answer that it had given before")
		}
	}
	return nil
}

func copied(a renewal.Answer) renewal.Answer {
	c := renewal.Answer{Certificate: bytes.Clone(a.Certificate), Pending: a.Pending}
	for _, ca := range a.Chain {
		c.Chain = append(c.Chain, bytes.Clone(ca))
	}
	return c
}

func same(a, b renewal.Answer) bool {
	return bytes.Equal(a.Certificate, b.Certificate) && slices.EqualFunc(a.Chain, b.Chain, bytes.Equal) && a.Pending.Equal(b.Pending)
}

func rejects(ctx context.Context, s *suite) error {
	o, err := s.order()
	if err != nil {
		return err
	}
	forged := bytes.Clone(o.csr)
	forged[len(forged)-1] ^= 1 // of the signature
	var errs []error
	for _, r := range []struct {
		what string
		csr  []byte
	}{
		{"Enrol of a request whose signature is wrong", forged},
		{"Enrol of half a request", o.csr[:len(o.csr)/2]},
		{"Enrol of no request", nil},
	} {
		o.csr = r.csr
		_, err := s.enrol(ctx, s.made, o, call{what: r.what})
		errs = append(errs, kind(r.what, err, renewal.Rejected))
	}
	return errors.Join(errs...)
}

// kind tells whether an error is of the kind that it should be.
func kind(what string, err error, want renewal.EnrolKind) error {
	known := new(renewal.EnrolError)
	switch {
	case err == nil:
		return fmt.Errorf("%s succeeded; wanted a *renewal.EnrolError of kind %s", what, kinds[want])
	case errors.As(err, new(*fatal)):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s ended with a ctx's error, but ctx had not ended; wanted a *renewal.EnrolError of kind %s: %w", what, kinds[want], err)
	case !errors.As(err, &known):
		return fmt.Errorf("%s ended with an error of type %T; wanted a *renewal.EnrolError of kind %s: %w", what, err, kinds[want], err)
	case known.Kind != want:
		return fmt.Errorf("%s ended with kind %s; wanted %s: %w", what, kindName(known.Kind), kinds[want], err)
	}
	return nil
}

var kinds = map[renewal.EnrolKind]string{
	renewal.Unreachable: "Unreachable", renewal.Unavailable: "Unavailable", renewal.Rejected: "Rejected",
	renewal.Malformed: "Malformed", renewal.WrongCertificate: "WrongCertificate",
}

func kindName(k renewal.EnrolKind) string {
	if s, ok := kinds[k]; ok {
		return s
	}
	return fmt.Sprintf("%d, which is none", int(k))
}

// transports is last: it looks at the Transports of all calls before.
func transports(ctx context.Context, s *suite) error {
	o, err := s.order()
	if err != nil {
		return err
	}
	for range 2 { // the first call's is not used by the second
		if _, err := s.must(ctx, s.made, o, "Enrol"); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.late) > 0 {
		return fmt.Errorf("a Transport was used after its call had returned, %d times: after %s", len(s.late), s.late[0])
	}
	return nil
}
