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
	took []time.Duration // of each round
}

// median of one signature in µs, of the so many that a turn makes.
func median(turns []time.Duration, signatures int) float64 {
	sorted := slices.Sorted(slices.Values(turns))
	return float64(sorted[len(sorted)/2]) / float64(signatures) / 1000
}

func (p *peer) µs(signatures int) float64 { return median(p.took, signatures) }

// over is by how much p is slower than o: the median of what it took longer in a round.
// A machine that gets slower or faster between rounds, or is busy for a while, does so
// for both.
func (p *peer) over(o *peer, signatures int) float64 {
	longer := make([]time.Duration, len(p.took))
	for i := range p.took {
		longer[i] = p.took[i] - o.took[i]
	}
	return median(longer, signatures)
}

// turns has each peer take its turn once in a round, in another order each time: who
// comes after whom finds the processor in another state.
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
	b.ReportMetric(p.over(bare, signatures), "µs-over-bare")
	b.ReportMetric(100*p.over(bare, signatures)/bare.µs(signatures), "%over-bare(goal:3)")
	b.ReportMetric(100*p.over(crypto11, signatures)/crypto11.µs(signatures), "%over-crypto11(goal:0)")
}

// row is how many signatures of its own a peer makes in a turn. With one, the code of
// the module that all others use would always be at hand to them, and that of the guarded
// one, which nobody else uses, never.
const row = 8

// inARow signs so often.
func inARow(sign func() error) func() error {
	return func() error {
		for range row {
			if err := sign(); err != nil {
				return err
			}
		}
		return nil
	}
}

// BenchmarkGuarded: the signature that the guard allowed and the Signer verified, its
// record kept nowhere, beside the same without a guard: C_SignInit, C_Sign and
// rsa.VerifyPKCS1v15, by github.com/miekg/pkcs11 and by crypto11. All sign the same
// bytes with the same key on the same token, each in a session of its own, eight at a turn.
//
// What the guarded one takes longer is told apart, each step beside the one before:
//
//	µs-goroutine  a bare one handed to a goroutine that waits for it, and its answer handed
//	              back: no less lets the caller of a module that hangs go. Most of it is
//	              the system waking a thread for a processor that is idle, twice; on
//	              one processor (-cpu 1) there is none to wake
//	µs-module     the watchdog, the session's and the card's state
//	µs-guard      the certificate's lock, the holds and the clock floor on disk, the
//	              judgement, the record's entry
//
// µs-noise is what a second bare one takes longer than the first.
func BenchmarkGuarded(b *testing.B) {
	w := theWorld(b)
	g := &peer{name: "guarded", sign: inARow(guarded(b, w, w.card(b), noRecord{}, unchecked{w.document}))}
	bare := &peer{name: "bare", sign: inARow(w.bareSign(b))}
	again := &peer{name: "bare again", sign: inARow(w.bareSign(b))}
	other := &peer{name: "crypto11", sign: inARow(w.crypto11Sign(b))}
	handed := &peer{name: "handed over", sign: inARow(handedOver(b, w.bareSign(b)))}
	module := &peer{name: "module", sign: inARow(w.moduleSign(b))}
	turns(b, g, bare, again, other, handed, module)
	against(b, row, g, bare, other)
	b.ReportMetric(again.over(bare, row), "µs-noise")
	b.ReportMetric(handed.over(bare, row), "µs-goroutine")
	b.ReportMetric(module.over(handed, row), "µs-module")
	b.ReportMetric(g.over(module, row), "µs-guard")
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
// the one card. One Signer makes its signatures one after the other. A µs is a turn's
// share: what all processors together made in it, of each signature.
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
	plain := &peer{name: "guarded", sign: inARow(guarded(b, w, c, noRecord{}, unchecked{w.document}))}
	checked := &peer{name: "checked", sign: inARow(guarded(b, w, c, noRecord{}, w.document))}
	recorded := &peer{name: "recorded", sign: inARow(guarded(b, w, c, r, w.document))}
	turns(b, plain, checked, recorded)
	b.ReportMetric(plain.µs(row), "guarded-µs")
	b.ReportMetric(checked.over(plain, row), "checks-µs")
	b.ReportMetric(recorded.over(checked, row), "record-with-fsync-µs")
}
