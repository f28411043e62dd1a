package eps

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// batch is a message with n copies of a signed prescription.
func batch(t testing.TB, signed []byte, n int) []byte {
	t.Helper()
	from, to := bytes.Index(signed, []byte("<ParentPrescription")), bytes.Index(signed, []byte("</ParentPrescription>"))
	require.Positive(t, from)
	one := string(signed[from:to]) + "</ParentPrescription>\n"
	return []byte(`<PORX_IN020101SM31 xmlns="` + hl7 + `">` + strings.Repeat(one, n) + "</PORX_IN020101SM31>")
}

// live is what is reachable on the heap now.
func live() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestAThousandPrescriptionsTakeTheMemoryOfOne looks at the live heap while they are
// judged: beside the message and the reader's copy of it there is one prescription.
func TestAThousandPrescriptionsTakeTheMemoryOfOne(t *testing.T) {
	w := newPKI(t)
	const n = 1000
	in := batch(t, w.sample(t), n)
	v := w.verifier()
	judge(t, v, batch(t, w.sample(t), 1)) // what is worked out once
	before := live()
	var at []int
	seen := 0
	require.NoError(t, v.VerifyMessage(in, ReadOptions{MaxBytes: len(in)}, func(r Report) error {
		if r.Rxguard.Accept != Passed {
			t.Fatalf("%+v", r)
		}
		if seen++; seen%(n/4) == 1 {
			at = append(at, live()-before)
		}
		return nil
	}))
	assert.Equal(t, n, seen)
	t.Logf("%d bytes of message, live heap beside it at every %dth prescription: %v", len(in), n/4, at)
	one := len(in) / n
	for i, bytes := range at {
		assert.Less(t, bytes, len(in)+50*one, "one copy of the message and one prescription's tree, after %d", i*n/4)
		assert.Less(t, bytes-at[0], 300*n, "a prescription that was judged leaves its element alone") // of 13 kB each
	}
	runtime.KeepAlive(in)
}

// TestTensOfThousandsOfEmptyPrescriptions are each told with their place.
func TestTensOfThousandsOfEmptyPrescriptions(t *testing.T) {
	in := "<a>" + strings.Repeat("<ParentPrescription/>\n", 40_000) + "</a>"
	line := 0
	require.NoError(t, (&Verifier{}).VerifyMessage([]byte(in), ReadOptions{}, func(r Report) error {
		line++
		if r.Line != line || r.Rxguard.Accept != Failed {
			t.Fatalf("%+v", r)
		}
		return nil
	}))
	assert.Equal(t, 40_000, line)
}
