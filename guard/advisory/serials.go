package advisory

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// A serial number has at most 20 octets (RFC 5280 section 4.1.2.2).
const serialBytes = 20

const (
	maxSerialDigits = 2 * serialBytes
	maxSerialFile   = 256 << 20
)

// Serials is a set of certificate serial numbers: a list, inclusive ranges, a
// serial file, or any of them together. Serials are compared as integers. A
// listed serial costs at most 20 bytes of memory.
type Serials struct {
	listed serialList
	file   serialList
	ranges []serialRange // ascending, not overlapping
}

// serialList holds big-endian integers of one width, strictly ascending.
type serialList struct {
	width int
	bytes []byte
}

type serialRange struct {
	first, last [serialBytes]byte
}

// Contains tells whether the set has the serial number, a 20-byte big-endian
// integer. It allocates nothing.
func (s *Serials) Contains(serial *[20]byte) bool {
	if s.listed.contains(serial) || s.file.contains(serial) {
		return true
	}
	lo, hi := 0, len(s.ranges)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if bytes.Compare(s.ranges[mid].last[:], serial[:]) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo < len(s.ranges) && bytes.Compare(s.ranges[lo].first[:], serial[:]) <= 0
}

// Len is how many serials are listed one by one, in the document and in its
// serial file. Ranges do not count.
func (s *Serials) Len() int { return s.listed.len() + s.file.len() }

func (s *Serials) empty() bool { return s.Len() == 0 && len(s.ranges) == 0 }

func (l serialList) len() int {
	if l.width == 0 {
		return 0
	}
	return len(l.bytes) / l.width
}

func (l serialList) at(i int) []byte { return l.bytes[i*l.width:][:l.width] }

func (l serialList) contains(serial *[serialBytes]byte) bool {
	if l.width == 0 {
		return false
	}
	head, tail := serial[:serialBytes-l.width], serial[serialBytes-l.width:]
	for _, b := range head {
		if b != 0 {
			return false // wider than any integer of this list
		}
	}
	lo, hi := 0, l.len()
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch c := bytes.Compare(l.at(mid), tail); {
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

func (d *decoder) serials(at *place, files Files) *Serials {
	s := &Serials{}
	d.object(at, fields{
		"inline": func(at *place) { s.listed = d.serialList(at) },
		"ranges": func(at *place) { s.ranges = d.serialRanges(at) },
		"file":   func(at *place) { s.file = d.serialFile(at, files) },
	})
	return s
}

func (d *decoder) serial(at *place) (serial [serialBytes]byte) {
	const want = "a serial number as 1 to 40 lower-case hex digits, without 0x or colons"
	s := d.text(at, want)
	digits := strings.Repeat("0", max(0, maxSerialDigits-len(s))) + s
	_, err := hex.Decode(serial[:], []byte(digits[:maxSerialDigits]))
	if err != nil || s == "" || len(s) > maxSerialDigits || strings.ToLower(s) != s {
		d.wrong(at, s, want)
	}
	return serial
}

func compareSerials(a, b [serialBytes]byte) int { return bytes.Compare(a[:], b[:]) }

func serialHex(s []byte) string {
	if t := strings.TrimLeft(hex.EncodeToString(s), "0"); t != "" {
		return t
	}
	return "0"
}

func (d *decoder) serialList(at *place) serialList {
	var all [][serialBytes]byte
	d.array(at, func(at *place) { all = append(all, d.serial(at)) })
	if d.err != nil {
		return serialList{}
	}
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, compareSerials)
	for i := 1; i < len(sorted); i++ {
		if sorted[i] != sorted[i-1] {
			continue
		}
		first := slices.Index(all, sorted[i])
		second := first + 1 + slices.Index(all[first+1:], sorted[i])
		d.fail(&place{parent: at, index: second}, "found serial %s a second time, first at index %d; wanted each once",
			serialHex(sorted[i][:]), first)
		return serialList{}
	}
	widest := sorted[len(sorted)-1]
	width := max(1, (len(serialHex(widest[:]))+1)/2)
	list := serialList{width: width, bytes: make([]byte, 0, width*len(sorted))}
	for i := range sorted {
		list.bytes = append(list.bytes, sorted[i][serialBytes-width:]...)
	}
	return list
}

func (d *decoder) serialRanges(at *place) []serialRange {
	type indexed struct {
		serialRange
		index int
	}
	var all []indexed
	d.array(at, func(at *place) {
		r := indexed{index: at.index}
		d.object(at, fields{
			"first": func(at *place) { r.first = d.serial(at) },
			"last":  func(at *place) { r.last = d.serial(at) },
		}, "first", "last")
		if compareSerials(r.first, r.last) > 0 {
			d.fail(at, "found first %s above last %s, wanted first at or below last", serialHex(r.first[:]), serialHex(r.last[:]))
		}
		all = append(all, r)
	})
	if d.err != nil {
		return nil
	}
	slices.SortFunc(all, func(a, b indexed) int {
		return cmp.Or(compareSerials(a.first, b.first), cmp.Compare(a.index, b.index))
	})
	ranges := make([]serialRange, len(all))
	for i, r := range all {
		ranges[i] = r.serialRange
		if i > 0 && compareSerials(all[i-1].last, r.first) >= 0 {
			d.fail(&place{parent: at, index: r.index}, "found an overlap with the range at index %d, which ends at %s; this one starts at %s; both ends are inside",
				all[i-1].index, serialHex(all[i-1].last[:]), serialHex(r.first[:]))
			return nil
		}
	}
	return ranges
}

func (d *decoder) serialFile(at *place, files Files) (list serialList) {
	var sum [32]byte
	var width, count int
	d.object(at, fields{
		"sha256": func(at *place) { sum = d.sha256(at) },
		"width": func(at *place) {
			if width = d.integer(at, 1); width > serialBytes {
				d.fail(at, "found %d, wanted 1 to %d bytes for each serial", width, serialBytes)
			}
		},
		"count": func(at *place) { count = d.integer(at, 1) },
	}, "sha256", "width", "count")
	switch {
	case d.err != nil:
		return list
	case count > maxSerialFile/width:
		d.fail(at, "found %d serials of %d bytes, wanted a file of at most %d bytes", count, width, maxSerialFile)
		return list
	case files == nil:
		d.fail(at, "found a serial file (SHA-256 %x), but no source of files was given", sum)
		return list
	}
	content, err := files(sum)
	if err != nil {
		d.fail(at, "the serial file with SHA-256 %x could not be read: %v", sum, err)
		return list
	}
	list, err = parseSerialFile(content, sum, width, count)
	if err != nil {
		d.fail(at, "serial file with SHA-256 %x: %v", sum, err)
	}
	return list
}

// parseSerialFile verifies and copies a serial file: count integers of width
// bytes each, big-endian, strictly ascending, nothing before, between or after.
func parseSerialFile(content []byte, sum [32]byte, width, count int) (serialList, error) {
	switch want, found := width*count, len(content); {
	case found < want:
		return serialList{}, fmt.Errorf("found the end at byte offset %d, in entry %d; wanted %d entries of %d bytes, %d bytes in all",
			found, found/width, count, width, want)
	case found > want:
		return serialList{}, fmt.Errorf("found more at byte offset %d, after the last entry; wanted %d entries of %d bytes, %d bytes in all but not %d",
			want, count, width, want, found)
	}
	if found := sha256.Sum256(content); found != sum {
		return serialList{}, fmt.Errorf("found content with SHA-256 %x, wanted the named one: fetch the file again", found)
	}
	list := serialList{width: width, bytes: make([]byte, len(content))}
	copy(list.bytes, content)
	for i := 1; i < count; i++ {
		if bytes.Compare(list.at(i-1), list.at(i)) >= 0 {
			return serialList{}, fmt.Errorf("found %s in entry %d at byte offset %d after %s, wanted strictly ascending integers",
				serialHex(list.at(i)), i, i*width, serialHex(list.at(i-1)))
		}
	}
	return list, nil
}
