package advisory

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// A serial number has at most 20 octets (RFC 5280 section 4.1.2.2).
const serialBytes = 20

// serialList is a set of serial numbers, exact, in at most as many bytes as they
// have. It is in memory and not a mapped file: a page that has to be read is a disk
// that a check waits for, and a file that is cut short under the map ends the
// process.
//
// Kept is the distance of each serial from the least one. Its top bits choose a
// bucket; what they tell is left out of the bucket, where the rest of each distance
// stands in ascending order. Where serials are spread evenly, a bucket has 4 to 8;
// however they are spread, the search in it is a binary one.
type serialList struct {
	n           int
	least, span integer  // the least serial, and how far the greatest is from it
	shift       uint     // the bucket of a distance is distance >> shift
	starts      []uint32 // bucket b is the entries from starts[b] to starts[b+1]; nil: one bucket
	width       int
	entries     []byte // the low width bytes of each distance
}

// newSerialList packs n serials, which at yields in strictly ascending order.
func newSerialList(n int, at func(int) integer) serialList {
	l := serialList{n: n}
	if n == 0 {
		return l
	}
	l.least = at(0)
	l.span = at(n - 1).minus(l.least)
	tableBits := bits.Len(uint(n)) - 3 // at most a byte of table for each serial, and
	if tableBits < 8 {                 // at least a byte of each less to keep
		tableBits = 0
	}
	rest := l.span.bitLen() - tableBits
	l.shift = uint(rest)
	l.width = (rest + 7) / 8
	l.entries = make([]byte, n*l.width)
	if tableBits > 0 {
		l.starts = make([]uint32, 1<<tableBits+1)
	}
	for i := range n {
		d := at(i).minus(l.least)
		b := d.bytes()
		copy(l.entries[i*l.width:], b[serialBytes-l.width:])
		if l.starts != nil {
			l.starts[d.shifted(l.shift)+1] = uint32(i + 1)
		}
	}
	for b := 1; b < len(l.starts); b++ {
		l.starts[b] = max(l.starts[b], l.starts[b-1]) // buckets without an entry
	}
	return l
}

// find tells how many serials of the list are below x, and whether x is in it.
func (l *serialList) find(x integer) (below int, found bool) {
	if l.n == 0 || x.less(l.least) {
		return 0, false
	}
	d := x.minus(l.least)
	if l.span.less(d) {
		return l.n, false
	}
	lo, hi := 0, l.n
	if l.starts != nil {
		b := d.shifted(l.shift)
		lo, hi = int(l.starts[b]), int(l.starts[b+1])
	}
	whole := d.bytes()
	key := whole[serialBytes-l.width:]
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch c := bytes.Compare(l.entries[mid*l.width:][:l.width], key); {
		case c == 0:
			return mid, true
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return lo, false
}

// serialRanges are ranges that do not overlap, both ends inside.
type serialRanges struct{ first, last serialList }

func (r *serialRanges) contains(x integer) bool {
	began, first := r.first.find(x)
	ended, _ := r.last.find(x)
	return first || began > ended // of the ranges that begin below x one has not ended
}

// integer is an unsigned number of 160 bits; high has 32 of them.
type integer struct{ high, mid, low uint64 }

func integerOf(b *[serialBytes]byte) integer {
	return integer{uint64(binary.BigEndian.Uint32(b[:])), binary.BigEndian.Uint64(b[4:]), binary.BigEndian.Uint64(b[12:])}
}

// narrow reads a big-endian integer of 1 to 20 bytes.
func narrow(b []byte) integer {
	var wide [serialBytes]byte
	copy(wide[serialBytes-len(b):], b)
	return integerOf(&wide)
}

func (x integer) bytes() (b [serialBytes]byte) {
	binary.BigEndian.PutUint32(b[:], uint32(x.high))
	binary.BigEndian.PutUint64(b[4:], x.mid)
	binary.BigEndian.PutUint64(b[12:], x.low)
	return b
}

func (x integer) less(y integer) bool {
	_, borrow := bits.Sub64(x.low, y.low, 0)
	_, borrow = bits.Sub64(x.mid, y.mid, borrow)
	_, borrow = bits.Sub64(x.high, y.high, borrow)
	return borrow == 1
}

// minus wants y at or below x.
func (x integer) minus(y integer) (d integer) {
	var borrow uint64
	d.low, borrow = bits.Sub64(x.low, y.low, 0)
	d.mid, borrow = bits.Sub64(x.mid, y.mid, borrow)
	d.high, _ = bits.Sub64(x.high, y.high, borrow)
	return d
}

func (x integer) bitLen() int {
	switch {
	case x.high > 0:
		return 128 + bits.Len64(x.high)
	case x.mid > 0:
		return 64 + bits.Len64(x.mid)
	}
	return bits.Len64(x.low)
}

// shifted is x >> n, of which 64 bits are enough for what is asked.
func (x integer) shifted(n uint) uint64 {
	switch {
	case n >= 128:
		return x.high >> (n - 128)
	case n >= 64:
		return x.mid>>(n-64) | x.high<<(128-n)
	}
	return x.low>>n | x.mid<<(64-n)
}
