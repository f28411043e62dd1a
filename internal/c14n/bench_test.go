package c14n

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// prescription is a made-up one of 12 kB, in the shape of the messages of the national
// service.
func prescription(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/prescription.xml")
	require.NoError(t, err)
	return b
}

// many puts n prescriptions into one message.
func many(t testing.TB, n int) []byte {
	t.Helper()
	_, root, found := bytes.Cut(prescription(t), []byte("?>"))
	require.True(t, found)
	return append(append([]byte("<batch>"), bytes.Repeat(root, n)...), "</batch>"...)
}

// BenchmarkC14N: a prescription read and written canonically, and ten and nearly a
// thousand of them in one message, which takes that many times as long.
func BenchmarkC14N(b *testing.B) {
	for _, n := range []int{1, 10, 100, 850} {
		source := many(b, n)
		if n == 1 {
			source = prescription(b)
		}
		b.Run(fmt.Sprintf("%dkB", len(source)/1000), func(b *testing.B) {
			var form []byte
			b.SetBytes(int64(len(source)))
			b.ReportAllocs()
			for b.Loop() {
				d, err := Parse(source, Options{MaxBytes: len(source)})
				if err != nil {
					b.Fatal(err)
				}
				form = d.Canonical(form[:0])
			}
		})
	}
}
