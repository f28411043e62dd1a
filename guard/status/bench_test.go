package status_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/status"
)

// bigList is a list of n random serials of 16 bytes, with reasons, as large CAs have
// them. The same n gives the same serials.
func bigList(b testing.TB, by *authority, n int) (der []byte, serials []*big.Int) {
	b.Helper()
	random := mrand.New(mrand.NewPCG(1, uint64(n)))
	entries := make([][]byte, n)
	for i := range entries {
		var s [16]byte
		binary.BigEndian.PutUint64(s[:], random.Uint64()>>1|1<<62)
		binary.BigEndian.PutUint64(s[8:], random.Uint64())
		serials = append(serials, new(big.Int).SetBytes(s[:]))
		entries[i] = entry(serials[i], yesterday, because(4))
	}
	return crl{by: by, number: 1, entries: entries}.der(b), serials
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1000, 500_000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			w := newWorld(b)
			der, serials := bigList(b, w.ca, n)
			l, err := status.Parse(der, 0)
			require.NoError(b, err)
			s := w.snapshot(b, []*status.List{l})
			chain := func(serial *big.Int) []*x509.Certificate {
				c := certificateOf(w.ca.cert, serial)
				return []*x509.Certificate{c, w.ca.cert, w.root.cert}
			}
			var subjects []*status.Subject // half of them revoked
			for i := range 4096 {
				serial := serials[i%len(serials)]
				if i%2 == 1 {
					serial, err = rand.Int(rand.Reader, bigSerial(16))
					require.NoError(b, err)
				}
				subjects = append(subjects, subjectOf(b, chain(serial)...))
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if r := s.Status(subjects[i%len(subjects)], now); r.State == status.Unknown {
					b.Fatal(r)
				}
				i++
			}
			b.ReportMetric(float64(s.Bytes())/float64(n), "bytes/entry")
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for _, n := range []int{1000, 500_000} {
		w := newWorld(b)
		der, _ := bigList(b, w.ca, n)
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(der)))
			var l *status.List
			for b.Loop() {
				var err error
				if l, err = status.Parse(der, 0); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(l.Bytes())/float64(n), "bytes/entry")
		})
		b.Run(fmt.Sprintf("crypto/x509/entries=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(der)))
			for b.Loop() {
				if _, err := x509.ParseRevocationList(der); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHeld reports the memory of a snapshot of one list, as the garbage collector
// sees it.
func BenchmarkHeld(b *testing.B) {
	w := newWorld(b)
	const n = 500_000
	der, _ := bigList(b, w.ca, n)
	var held uint64
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		own := append([]byte(nil), der...)
		l, err := status.Parse(own, 0)
		require.NoError(b, err)
		s := w.snapshot(b, []*status.List{l})
		own, l = nil, nil
		runtime.GC()
		runtime.ReadMemStats(&after)
		held = after.HeapAlloc - before.HeapAlloc
		runtime.KeepAlive(s)
	}
	b.ReportMetric(float64(held)/n, "held-bytes/entry")
}
