// Package renewaltest tells whether a renewal.Enroller keeps the contract that package
// renewal relies on. Who plugs in a channel to an authority runs it in a test of their
// own, against an authority of tests:
//
//	func TestEnroller(t *testing.T) {
//		renewaltest.Run(t, renewaltest.Config{
//			New: func() (renewal.Enroller, error) { return channel.New(authority.URL) },
//			At:  func(address string) (renewal.Enroller, error) { return channel.New("https://" + address) },
//			Transport: func(now func() time.Time) *renewal.Transport {
//				return renewal.SoftwareTransport(&certificate, now)
//			},
//		})
//	}
//
// Each subtest is a sentence of the contract. [Check] is the same outside a test.
//
// What it cannot tell, and an Enroller keeps as well: that a call ends by itself, after
// a bound of its own, where ctx does not; that nothing uses the Transport long after a
// call has returned; that the authority is the right one. Run it with the race
// detector.
package renewaltest

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rxguard/rxguard/renewal"
)

// Config says which Enroller is tested, and against what. New, At and Transport are
// needed.
type Config struct {
	// New makes the Enroller as the application does, for an authority of tests that
	// answers. It is called often, and each Enroller stands for another process that asks
	// the same authority. An authority that lets everybody wait leaves Confirm and half
	// of the rest untested.
	New func() (renewal.Enroller, error)

	// At makes the same Enroller for an authority at another address, host:port on
	// loopback: nobody listens there, or somebody who says nothing.
	At func(address string) (renewal.Enroller, error)

	// Transport makes a transport that the authority of tests knows, with
	// renewal.SoftwareTransport and the clock that it is given. Each call gets one of its
	// own.
	Transport func(now func() time.Time) *renewal.Transport

	// Current is the signing certificate that is renewed. It may be nil where the
	// Transport has a certificate: requests have the subject of that one, else of this.
	Current *x509.Certificate

	// Now is the clock of all requests and transports; nil is time.Now.
	Now func() time.Time

	// Issued counts the certificates that the authority has issued so far; nil: that a
	// probe and a call whose ctx has ended have nothing issued is not tested.
	Issued func() int

	// Patience is how long a call may take before it counts as one that does not return;
	// 0: a minute.
	Patience time.Duration
}

// sentence is one of the contract, and what finds out whether it is kept.
type sentence struct {
	text string
	// applies says why it cannot be tested with this Enroller; nil or empty: it can.
	applies func(*suite) (whyNot string)
	broken  func(context.Context, *suite) error
}

// sentences are tested in this order; the last looks at what all others did.
var sentences = []sentence{
	{"Enrol answers with a certificate for the key and subject of the request, or with a wait", nil, answers},
	{"Enrol answers a repetition for the same key, or with a wait, in another process too", nil, repeats},
	{"Enrol answers several requests at once, each with its own", nil, atOnce},
	{"Enrol answers a repetition after a call that was broken off", nil, brokenOff},
	{"Enrol changes neither its request nor what it answered before", nil, untouched},
	{"Enrol says Rejected of a request that its key did not sign", nil, rejects},
	{"Enrol returns the error of a ctx that has ended", nil, endedBefore},
	{"Enrol returns when ctx ends, whatever the authority does", nil, endedWithin},
	{"Enrol says Unreachable of an authority that is not there", nil, unreachable},
	{"Probe has nothing requested or issued", isProber, probes},
	{"Probe ends as Enrol does", isProber, probeEnds},
	{"Attributes has nothing requested or issued, and wishes for what a card can do", isAttributer, wishes},
	{"Attributes ends as Enrol does", isAttributer, wishesEnd},
	{"Confirm may come again, with another proof", isConfirmer, confirms},
	{"Confirm says Rejected of a proof by another key", isConfirmer, rejectsProof},
	{"Confirm ends as Enrol does", isConfirmer, confirmEnds},
	{"The Transport is not used after a call has returned", nil, transports},
}

// Run tests an Enroller, each sentence of the contract in a subtest. What does not
// apply to it is logged.
func Run(t *testing.T, c Config) {
	t.Helper()
	s, err := newSuite(c, generate)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range sentences {
		if why := s.whyNot(p); why != "" {
			t.Logf("not tested: %s: %s", p.text, why)
			continue
		}
		t.Run(p.text, func(t *testing.T) {
			if err := p.broken(t.Context(), s); err != nil {
				t.Error(err)
			}
		})
	}
}

// Check tests an Enroller and returns what it found, joined: each error begins with the
// sentence of the contract that is not kept. nil: all are that apply to it.
func Check(ctx context.Context, c Config) error {
	s, err := newSuite(c, generate)
	if err != nil {
		return err
	}
	return s.check(ctx)
}

func (s *suite) check(ctx context.Context) error {
	var errs []error
	for _, p := range sentences {
		if s.whyNot(p) != "" {
			continue
		}
		if err := p.broken(ctx, s); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.text, err))
		}
	}
	return errors.Join(errs...)
}
