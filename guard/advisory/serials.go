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

const (
	maxSerialDigits = 2 * serialBytes
	maxSerialFile   = 256 << 20
)

// Serials is a set of certificate serial numbers: a list, inclusive ranges, a
// serial file, or any of them together. Serials are compared as integers, and
// exactly: what the set does not list it does not contain. A listed serial costs
// at most 20 bytes of memory, a range twice that, and a look-up among a million
// little more than one among a dozen.
type Serials struct {
	listed serialList
	file   serialList
	ranges serialRanges
}

// Contains tells whether the set has the serial number, a 20-byte big-endian
// integer. It allocates nothing.
func (s *Serials) Contains(serial *[20]byte) bool {
	x := integerOf(serial)
	if _, found := s.listed.find(x); found {
		return true
	}
	if _, found := s.file.find(x); found {
		return true
	}
	return s.ranges.contains(x)
}

// Len is how many serials are listed one by one, in the document and in its
// serial file. Ranges do not count.
func (s *Serials) Len() int { return s.listed.n + s.file.n }

func (s *Serials) empty() bool { return s.Len() == 0 && s.ranges.first.n == 0 }

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
	if s == "" || len(s) > maxSerialDigits {
		d.wrong(at, s, want)
		return serial
	}
	for i, next := len(s)-1, 2*serialBytes-1; i >= 0; i, next = i-1, next-1 {
		digit := strings.IndexByte("0123456789abcdef", s[i])
		if digit < 0 {
			d.wrong(at, s, want)
			return serial
		}
		serial[next/2] |= byte(digit) << (4 * (1 - next%2))
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
	sorted := all
	if !slices.IsSortedFunc(all, compareSerials) {
		sorted = slices.Clone(all)
		slices.SortFunc(sorted, compareSerials)
	}
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
	return newSerialList(len(sorted), func(i int) integer { return integerOf(&sorted[i]) })
}

func (d *decoder) serialRanges(at *place) serialRanges {
	type indexed struct {
		first, last [serialBytes]byte
		index       int
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
		return serialRanges{}
	}
	slices.SortFunc(all, func(a, b indexed) int {
		return cmp.Or(compareSerials(a.first, b.first), cmp.Compare(a.index, b.index))
	})
	for i := 1; i < len(all); i++ {
		if before, r := &all[i-1], &all[i]; compareSerials(before.last, r.first) >= 0 {
			d.fail(&place{parent: at, index: r.index}, "found an overlap with the range at index %d, which ends at %s; this one starts at %s; both ends are inside",
				before.index, serialHex(before.last[:]), serialHex(r.first[:]))
			return serialRanges{}
		}
	}
	return serialRanges{
		first: newSerialList(len(all), func(i int) integer { return integerOf(&all[i].first) }),
		last:  newSerialList(len(all), func(i int) integer { return integerOf(&all[i].last) }),
	}
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
	case width < 4 && count > 1<<(8*width):
		d.fail(at, "found %d serials of width %d, wanted at most the %d that there are of this width", count, width, 1<<(8*width))
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

// parseSerialFile verifies and packs a serial file: count integers of width
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
	entry := func(i int) []byte { return content[i*width:][:width] }
	for i := 1; i < count; i++ {
		if bytes.Compare(entry(i-1), entry(i)) >= 0 {
			return serialList{}, fmt.Errorf("found %s in entry %d at byte offset %d after %s, wanted strictly ascending integers",
				serialHex(entry(i)), i, i*width, serialHex(entry(i-1)))
		}
	}
	return newSerialList(count, func(i int) integer { return narrow(entry(i)) }), nil
}
