package advisory

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/internal/need"
)

// mostSerial is 2^160-1.
var mostSerial = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 160), big.NewInt(1))

func integerOfBig(n *big.Int) integer {
	var b [20]byte
	n.FillBytes(b[:])
	return integerOf(&b)
}

// listOf packs the numbers, and returns them sorted, each once.
func listOf(numbers []*big.Int) (serialList, []*big.Int) {
	sorted := slices.Clone(numbers)
	slices.SortFunc(sorted, (*big.Int).Cmp)
	sorted = slices.CompactFunc(sorted, func(a, b *big.Int) bool { return a.Cmp(b) == 0 })
	return newSerialList(len(sorted), func(i int) integer { return integerOfBig(sorted[i]) }), sorted
}

// below is n less a distance, or 0.
func below(n *big.Int, distance *big.Int) *big.Int {
	if n.Cmp(distance) < 0 {
		return new(big.Int)
	}
	return new(big.Int).Sub(n, distance)
}

func TestAnIntegerCountsLikeMathBig(t *testing.T) {
	number := rapid.Custom(func(t *rapid.T) *big.Int {
		b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0x7f, 0x80, 0xff}), 0, 20).Draw(t, "bytes")
		return new(big.Int).SetBytes(b)
	})
	need.Cases(t, 20_000)
	rapid.Check(t, func(t *rapid.T) {
		a, b := number.Draw(t, "a"), number.Draw(t, "b")
		x, y := integerOfBig(a), integerOfBig(b)
		require.Equal(t, a.Cmp(b) < 0, x.less(y))
		require.Equal(t, a.BitLen(), x.bitLen())
		raw := x.bytes()
		require.Zero(t, new(big.Int).SetBytes(raw[:]).Cmp(a))
		require.Equal(t, x, narrow(append([]byte{}, raw[(160-a.BitLen())/8:]...)))
		if a.Cmp(b) >= 0 {
			require.Equal(t, integerOfBig(new(big.Int).Sub(a, b)), x.minus(y))
		}
		n := uint(rapid.IntRange(max(0, a.BitLen()-64), 160).Draw(t, "shift"))
		require.Equal(t, new(big.Int).Rsh(a, n).Uint64(), x.shifted(n))
	})
}

// However the serials are spread, and with and without a table, a list has what was
// put into it and nothing beside it.
func TestAListOfSerialsIsExact(t *testing.T) {
	need.Cases(t, 3000)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{1, 2, 3, 12, 500, 1023, 1024, 1025, 2047, 2048, 5000}).Draw(t, "count")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		random := func(bits int) *big.Int {
			var b []byte
			for range 3 {
				b = binary.BigEndian.AppendUint64(b, r.Uint64())
			}
			x := new(big.Int).SetBytes(b)
			return x.Rsh(x, uint(192-bits))
		}
		var next func(i int) *big.Int
		switch rapid.SampledFrom([]string{"anywhere", "narrow", "one after the other", "at the top", "in heaps", "one far off"}).Draw(t, "spread") {
		case "anywhere":
			next = func(int) *big.Int { return random(160) }
		case "narrow":
			bits := rapid.IntRange(8, 159).Draw(t, "bits")
			next = func(int) *big.Int { return random(bits) }
		case "one after the other":
			start := random(140)
			next = func(i int) *big.Int { return new(big.Int).Add(start, big.NewInt(int64(i))) }
		case "at the top":
			next = func(i int) *big.Int { return below(mostSerial, big.NewInt(int64(i))) }
		case "in heaps":
			heaps := []*big.Int{random(159), random(120), random(64), new(big.Int)}
			next = func(i int) *big.Int { return new(big.Int).Add(heaps[i%4], random(12)) }
		case "one far off":
			next = func(i int) *big.Int {
				if i == 0 {
					return mostSerial
				}
				return random(20)
			}
		}
		numbers := make([]*big.Int, n)
		for i := range numbers {
			numbers[i] = next(i)
		}
		list, sorted := listOf(numbers)
		require.Equal(t, len(sorted), list.n)
		require.LessOrEqual(t, len(list.entries)+4*len(list.starts), 20*list.n+4)

		ask := func(x *big.Int) {
			if x.Sign() < 0 || x.BitLen() > 160 {
				return
			}
			at, want := slices.BinarySearchFunc(sorted, x, (*big.Int).Cmp)
			below, found := list.find(integerOfBig(x))
			if found != want || below != at {
				t.Fatalf("%x among %d: found %t below %d, wanted %t below %d", x, list.n, found, below, want, at)
			}
		}
		one := big.NewInt(1)
		for _, x := range sorted {
			ask(x)
			ask(new(big.Int).Sub(x, one))
			ask(new(big.Int).Add(x, one))
			ask(new(big.Int).Xor(x, new(big.Int).Lsh(one, uint(r.IntN(160)))))
		}
		for range 100 {
			ask(random(160))
		}
		ask(new(big.Int))
		ask(mostSerial)
	})
}

func TestRangesAreExact(t *testing.T) {
	need.Cases(t, 3000)
	rapid.Check(t, func(t *rapid.T) {
		type span struct{ first, last int64 }
		var spans []span
		doc, at := "", int64(rapid.IntRange(0, 3).Draw(t, "start"))
		step := rapid.SampledFrom([]int64{1, 1 << 20, 1 << 40}).Draw(t, "step")
		for i := range rapid.IntRange(1, 40).Draw(t, "ranges") {
			s := span{first: at}
			s.last = s.first + step*int64(rapid.IntRange(0, 3).Draw(t, "length"))
			at = s.last + 1 + step*int64(rapid.IntRange(0, 3).Draw(t, "gap")) // 1: they touch
			spans = append(spans, s)
			if i > 0 {
				doc = ", " + doc // descending in the document
			}
			doc = fmt.Sprintf(`{"first": "%x", "last": "%x"}`, s.first, s.last) + doc
		}
		set := mustParseT(t, `{"ranges": [`+doc+`]}`)
		ask := func(x int64) {
			if x < 0 {
				return
			}
			want := slices.ContainsFunc(spans, func(s span) bool { return s.first <= x && x <= s.last })
			var serial [20]byte
			big.NewInt(x).FillBytes(serial[:])
			require.Equal(t, want, set.Contains(&serial), "%x in %s", x, doc)
		}
		for _, s := range spans {
			for _, x := range []int64{s.first - 1, s.first, s.first + 1, (s.first + s.last) / 2, s.last - 1, s.last, s.last + 1} {
				ask(x)
			}
		}
		ask(0)
		ask(at)
	})
}

// mustParseT reads a serials field under rapid.
func mustParseT(t *rapid.T, field string) *Serials {
	d := newDecoder([]byte(field))
	s := d.serials(nil, nil)
	d.end()
	require.Nil(t, d.err)
	return s
}

// At every size, 20-byte serials that are spread as far as they can be cost no more
// than they are long.
func TestNoListIsLargerThanItsSerials(t *testing.T) {
	for _, n := range []int{2, 255, 256, 1023, 1024, 1500, 2047, 2048, 10_000, 65_535, 65_536, 131_072, 300_000} {
		step := new(big.Int).Div(mostSerial, big.NewInt(int64(n)))
		list := newSerialList(n, func(i int) integer {
			return integerOfBig(new(big.Int).Mul(step, big.NewInt(int64(i))))
		})
		assert.LessOrEqual(t, len(list.entries)+4*len(list.starts), 20*n+4, n)
	}
}
