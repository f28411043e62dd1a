package status

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"time"
)

// maxSerial is the longest content of a serial number's INTEGER that is read, in
// bytes. RFC 5280 4.1.2.2 allows 20; some CAs take one more for the sign.
const maxSerial = 32

// index finds the entries of a list by serial number, and in an indirect list by
// issuer and serial. Entries stand in rows of bytes, all of one length, sorted, in a
// table for each length of serial: a serial of 16 bytes costs 22 bytes.
type index struct {
	tables  []*table
	issuers map[nameKey]uint32 // of an indirect list
	firsts  map[string]Entry   // the first of several that are not alike, by issuer and serial
}

// table holds the entries whose serials are of one length. A row is the issuer (4
// bytes, indirect lists alone), the serial as in DER, the revocation date (5 bytes),
// the reason (1 byte), and the invalidity date (5 bytes, where the table has any).
type table struct {
	serial  int // bytes of a serial
	prefix  int // bytes of the issuer
	invalid bool
	rows    []byte
}

const (
	dateBytes   = 5
	reasonBytes = 1
)

func (t *table) key() int { return t.prefix + t.serial }

func (t *table) row() int {
	n := t.key() + dateBytes + reasonBytes
	if t.invalid {
		n += dateBytes
	}
	return n
}

// count is how many entries there are, of several for one certificate counted one.
func (x *index) count() int {
	n := 0
	for _, t := range x.tables {
		n += len(t.rows) / t.row()
	}
	return n
}

// bytes is the memory that the rows take.
func (x *index) bytes() int {
	n := 0
	for _, t := range x.tables {
		n += cap(t.rows)
	}
	return n
}

// find looks an entry up: of several for one certificate the first, or what revokes the
// most. It allocates nothing.
func (x *index) find(issuer nameKey, serial []byte, first bool) (Entry, bool) {
	var key [4 + maxSerial]byte
	if len(serial) > maxSerial {
		return Entry{}, false
	}
	prefix := 0
	if x.issuers != nil {
		i, ok := x.issuers[issuer]
		if !ok {
			return Entry{}, false
		}
		binary.BigEndian.PutUint32(key[:], i)
		prefix = 4
	}
	n := prefix + copy(key[prefix:], serial)
	if first && x.firsts != nil {
		if e, ok := x.firsts[string(key[:n])]; ok {
			return e, true
		}
	}
	for _, t := range x.tables {
		if t.serial == len(serial) {
			return t.find(key[:n])
		}
	}
	return Entry{}, false
}

func (t *table) find(key []byte) (Entry, bool) {
	row := t.row()
	lo, hi := 0, len(t.rows)/row
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if bytes.Compare(t.rows[mid*row:mid*row+len(key)], key) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if r := t.rows[lo*row:]; len(r) >= row && bytes.Equal(r[:len(key)], key) {
		return t.entry(r[:row]), true
	}
	return Entry{}, false
}

func (t *table) entry(row []byte) Entry {
	r := row[t.key():]
	e := Entry{Revoked: readDate(r), Reason: Reason(r[dateBytes])}
	if t.invalid {
		e.Invalid = readDate(r[dateBytes+reasonBytes:])
	}
	return e
}

// yearZero is the first second that GeneralizedTime has, in Unix time: dates count
// from a second before it. 0 is the zero time, as some authorities write it for none.
const yearZero = -62167219200

func putDate(b []byte, t time.Time) {
	var n uint64
	if !t.IsZero() {
		n = uint64(t.Unix()-yearZero) + 1
	}
	b[0] = byte(n >> 32)
	binary.BigEndian.PutUint32(b[1:], uint32(n))
}

func readDate(b []byte) time.Time {
	n := uint64(b[0])<<32 | uint64(binary.BigEndian.Uint32(b[1:]))
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(int64(n-1)+yearZero, 0).UTC()
}

// indexer collects entries in the order of the list.
type indexer struct {
	tables  [maxSerial + 1]*table
	issuers map[nameKey]uint32
	current uint32 // the issuer of the entries to come
}

func newIndexer(issuer nameKey, indirect bool) *indexer {
	x := &indexer{}
	if indirect {
		x.issuers = map[nameKey]uint32{issuer: 0}
	}
	return x
}

// issuer says whose the entries to come are.
func (x *indexer) issuer(name nameKey) {
	n, ok := x.issuers[name]
	if !ok {
		n = uint32(len(x.issuers))
		x.issuers[name] = n
	}
	x.current = n
}

func (x *indexer) add(serial []byte, e Entry) {
	t := x.tables[len(serial)]
	if t == nil {
		t = &table{serial: len(serial), invalid: true}
		if x.issuers != nil {
			t.prefix = 4
		}
		x.tables[len(serial)] = t
	}
	var row [4 + maxSerial + dateBytes + reasonBytes + dateBytes]byte
	n := t.prefix
	if n > 0 {
		binary.BigEndian.PutUint32(row[:], x.current)
	}
	n += copy(row[n:], serial)
	putDate(row[n:], e.Revoked)
	row[n+dateBytes] = byte(e.Reason)
	putDate(row[n+dateBytes+reasonBytes:], e.Invalid)
	t.rows = append(t.rows, row[:t.row()]...)
}

func (x *indexer) index() *index {
	done := &index{issuers: x.issuers}
	for _, t := range x.tables {
		if t != nil {
			done.tables = append(done.tables, t.sorted(&done.firsts))
		}
	}
	return done
}

// sorted returns the table in order and without spare room. Of several entries for one
// certificate it keeps what revokes the most: the first of those that revoke always,
// else the earliest; where that is not the first of all, firsts gets that one.
func (t *table) sorted(firsts *map[string]Entry) *table {
	row, key := t.row(), t.key()
	type place struct {
		head uint64 // the first bytes of the key
		at   uint32
	}
	order := make([]place, len(t.rows)/row)
	invalid := false
	ordered := true
	for i := range order {
		r := t.rows[i*row:][:row]
		order[i] = place{head(r[:key]), uint32(i)}
		invalid = invalid || !readDate(r[row-dateBytes:]).IsZero()
		ordered = ordered && (i == 0 || bytes.Compare(t.rows[(i-1)*row:][:key], r[:key]) < 0)
	}
	if !ordered {
		slices.SortFunc(order, func(a, b place) int {
			if c := cmp.Compare(a.head, b.head); c != 0 {
				return c
			}
			return cmp.Or(bytes.Compare(t.rows[int(a.at)*row:][:key], t.rows[int(b.at)*row:][:key]), cmp.Compare(a.at, b.at))
		})
	}
	count := 0
	for i, p := range order {
		if i == 0 || !bytes.Equal(t.rows[int(order[i-1].at)*row:][:key], t.rows[int(p.at)*row:][:key]) {
			count++
		}
	}
	s := &table{serial: t.serial, prefix: t.prefix, invalid: invalid}
	short := s.row()
	s.rows = make([]byte, 0, count*short)
	for _, p := range order {
		r := t.rows[int(p.at)*row:][:row]
		if n := len(s.rows) - short; n >= 0 && bytes.Equal(s.rows[n:n+key], r[:key]) {
			first := s.entry(s.rows[n:])
			e := stronger(first, t.entry(r))
			if e != first {
				keepFirst(firsts, r[:key], first)
			}
			putDate(s.rows[n+key:], e.Revoked)
			s.rows[n+key+dateBytes] = byte(e.Reason)
			if invalid {
				putDate(s.rows[n+key+dateBytes+reasonBytes:], e.Invalid)
			}
			continue
		}
		s.rows = append(s.rows, r[:short]...)
	}
	return s
}

// keepFirst notes an entry, unless one is noted already.
func keepFirst(firsts *map[string]Entry, key []byte, e Entry) {
	if *firsts == nil {
		*firsts = map[string]Entry{}
	}
	if _, ok := (*firsts)[string(key)]; !ok {
		(*firsts)[string(key)] = e
	}
}

// stronger is one entry for two of one certificate: it revokes at every instant at
// which either does.
func stronger(a, b Entry) Entry {
	e := a
	if b.Reason.always() && !a.Reason.always() || b.Reason.always() == a.Reason.always() && b.Revoked.Before(a.Revoked) {
		e = b
	}
	for _, invalid := range []time.Time{a.Invalid, b.Invalid} {
		if !invalid.IsZero() && (e.Invalid.IsZero() || invalid.Before(e.Invalid)) {
			e.Invalid = invalid
		}
	}
	return e
}

func head(key []byte) uint64 {
	var b [8]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}
