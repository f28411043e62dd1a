//go:build cgo

package bench

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/signing"
)

// peer is one of those who take turns.
type peer struct {
	name string
	sign func() error
	took []time.Duration
}

// µs is the median of one signature, of the so many that a turn makes.
func (p *peer) µs(signatures int) float64 {
	slices.Sort(p.took)
	return float64(p.took[len(p.took)/2]) / float64(signatures) / 1000
}

// turns has each peer sign once in a round, in another order each time: who comes
// after whom finds the processor in another state.
func turns(b *testing.B, peers ...*peer) {
	b.Helper()
	for _, p := range peers { // the login and the first look at the card are no part of it
		require.NoError(b, p.sign(), p.name)
	}
	for b.Loop() {
		for _, i := range rand.Perm(len(peers)) {
			p := peers[i]
			start := time.Now()
			err := p.sign()
			p.took = append(p.took, time.Since(start))
			if err != nil {
				b.Fatalf("%s: %v", p.name, err)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // of all together
}

// against reports how much slower the first peer is than the two that it is
// measured by, beside the goals.
func against(b *testing.B, signatures int, p, bare, crypto11 *peer) {
	b.Helper()
	for _, x := range []*peer{p, bare, crypto11} {
		b.ReportMetric(x.µs(signatures), x.name+"-µs")
	}
	b.ReportMetric(100*(p.µs(signatures)/bare.µs(signatures)-1), "%slower-than-bare(goal:3)")
	b.ReportMetric(100*(p.µs(signatures)/crypto11.µs(signatures)-1), "%slower-than-crypto11(goal:0)")
}

// BenchmarkGuarded: the signature that the guard allowed and the Signer verified, its
// record kept nowhere, beside the same without a guard. "abandonable" is the bare one
// on a goroutine of its own, which is what it takes to give up a module that hangs.
func BenchmarkGuarded(b *testing.B) {
	w := theWorld(b)
	g := &peer{name: "guarded", sign: guarded(b, w, w.card(b), noRecord{}, unchecked{w.document})}
	bare := &peer{name: "bare", sign: w.bareSign(b)}
	other := &peer{name: "crypto11", sign: w.crypto11Sign(b)}
	apart := w.bareSign(b)
	abandonable := &peer{name: "abandonable", sign: func() error {
		done := make(chan error)
		go func() { done <- apart() }()
		return <-done
	}}
	turns(b, g, bare, other, abandonable)
	against(b, 1, g, bare, other)
	b.ReportMetric(abandonable.µs(1), "abandonable-µs")
}

const (
	workers = 8
	each    = 4 // signatures of a worker in one turn
)

// inParallel has 8 sign at a time, each in a session of its own.
func inParallel(worker func() func() error) func() error {
	var signs []func() error
	for range workers {
		signs = append(signs, worker())
	}
	return func() error {
		errs := make([]error, workers)
		var working sync.WaitGroup
		for i, sign := range signs {
			working.Go(func() {
				for range each {
					errs[i] = errors.Join(errs[i], sign())
				}
			})
		}
		working.Wait()
		return errors.Join(errs...)
	}
}

// BenchmarkGuardedInParallel: the same, 8 at a time, each with a Signer of its own on
// the one card. One Signer makes its signatures one after the other.
func BenchmarkGuardedInParallel(b *testing.B) {
	w := theWorld(b)
	c := w.card(b)
	g := &peer{name: "guarded", sign: inParallel(func() func() error { return guarded(b, w, c, noRecord{}, unchecked{w.document}) })}
	bare := &peer{name: "bare", sign: inParallel(func() func() error { return w.bareSign(b) })}
	other := &peer{name: "crypto11", sign: inParallel(func() func() error { return w.crypto11Sign(b) })}
	turns(b, g, bare, other)
	against(b, workers*each, g, bare, other)
}

// BenchmarkRecord: what the record costs with its fsync, and before it what the
// checks of a prescription's signature do, each beside the same without.
func BenchmarkRecord(b *testing.B) {
	w := theWorld(b)
	c := w.card(b)
	r, err := signing.OpenRecord(filepath.Join(b.TempDir(), "record.jsonl"))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, r.Close()) })
	plain := &peer{name: "guarded", sign: guarded(b, w, c, noRecord{}, unchecked{w.document})}
	checked := &peer{name: "checked", sign: guarded(b, w, c, noRecord{}, w.document)}
	recorded := &peer{name: "recorded", sign: guarded(b, w, c, r, w.document)}
	turns(b, plain, checked, recorded)
	b.ReportMetric(plain.µs(1), "guarded-µs")
	b.ReportMetric(checked.µs(1)-plain.µs(1), "checks-µs")
	b.ReportMetric(recorded.µs(1)-checked.µs(1), "record-with-fsync-µs")
}
