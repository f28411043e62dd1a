package eps

import "testing"

// BenchmarkVerify judges one prescription of a real one's size, from the bytes of its
// message to the Report: of a batch, whose signing certificate was seen before, and one
// of another certificate each time.
func BenchmarkVerify(b *testing.B) {
	w := newPKI(b)
	in := w.sample(b)
	run := func(b *testing.B, v *Verifier, each func()) {
		b.SetBytes(int64(len(in)))
		b.ReportAllocs()
		for b.Loop() {
			each()
			err := v.VerifyMessage(in, ReadOptions{}, func(r Report) error {
				if r.Rxguard.Accept != Passed {
					b.Fatalf("%+v", r)
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("batch", func(b *testing.B) { run(b, w.verifier(), func() {}) })
	b.Run("1,000 in one message", func(b *testing.B) {
		const n = 1000
		in, v := batch(b, in, n), w.verifier()
		b.SetBytes(int64(len(in)))
		for b.Loop() {
			err := v.VerifyMessage(in, ReadOptions{MaxBytes: len(in)}, func(Report) error { return nil })
			if err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/prescription")
	})
	b.Run("new certificate", func(b *testing.B) {
		v := w.verifier()
		run(b, v, func() { clear(v.prepare().leaves) })
	})
}
