package weakkey

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
)

// Hashes is a set of SHA-256 hashes: exact, never probabilistic, 32 bytes for each.
// The zero value is empty. It is immutable and safe for concurrent use.
type Hashes struct {
	sorted []byte // strictly ascending
}

// NewHashes makes a set of hashes, which may come in any order and more than once.
func NewHashes(hashes ...[sha256.Size]byte) Hashes {
	all := slices.Clone(hashes)
	slices.SortFunc(all, func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	all = slices.Compact(all)
	sorted := make([]byte, 0, len(all)*sha256.Size)
	for i := range all {
		sorted = append(sorted, all[i][:]...)
	}
	return Hashes{sorted}
}

// ParseHashes takes the content of a file of hashes: 32 bytes each, strictly ascending,
// nothing before, between or after. It keeps b, which may be mapped memory and must not
// change. The error says what was found, and at which offset.
func ParseHashes(b []byte) (Hashes, error) {
	if torn := len(b) % sha256.Size; torn != 0 {
		return Hashes{}, fmt.Errorf("weakkey: block list: found %d bytes, which end %d bytes into entry %d at byte offset %d; wanted entries of %d bytes",
			len(b), torn, len(b)/sha256.Size, len(b)-torn, sha256.Size)
	}
	h := Hashes{b}
	for i := 1; i < h.Len(); i++ {
		if bytes.Compare(h.at(i-1), h.at(i)) >= 0 {
			return Hashes{}, fmt.Errorf("weakkey: block list: found %x in entry %d at byte offset %d after %x, wanted strictly ascending hashes",
				h.at(i), i, i*sha256.Size, h.at(i-1))
		}
	}
	return h, nil
}

// Len is how many hashes the set has.
func (h Hashes) Len() int { return len(h.sorted) / sha256.Size }

// Contains tells whether the set has a hash. It allocates nothing.
func (h Hashes) Contains(hash *[sha256.Size]byte) bool {
	lo, hi := 0, h.Len()
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch c := bytes.Compare(h.at(mid), hash[:]); {
		case c == 0:
			return true
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return false
}

func (h Hashes) at(i int) []byte { return h.sorted[i*sha256.Size:][:sha256.Size] }
