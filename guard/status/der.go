package status

import (
	"fmt"
	"time"
)

// The tags that lists and their extensions are made of (X.690 section 8.1.2).
const (
	tagBoolean         = 0x01
	tagInteger         = 0x02
	tagBitString       = 0x03
	tagOctetString     = 0x04
	tagOID             = 0x06
	tagEnumerated      = 0x0a
	tagUTCTime         = 0x17
	tagGeneralizedTime = 0x18
	tagSequence        = 0x30
	tagSet             = 0x31
	tagContext         = 0x80 // context class, primitive, [0]
	tagContextOf       = 0xa0 // context class, constructed, [0]
)

// element is one DER value.
type element struct {
	tag  byte
	body []byte // its content
	full []byte // with tag and length
	at   int    // offset of the content in the whole input
}

// inside reads the values that e's content is made of.
func (e element) inside() reader { return reader{e.body, e.at} }

// reader goes through the DER values (X.690 section 10) that stand one after the
// other. It copies nothing: a list of a million entries is read through it.
type reader struct {
	rest []byte
	at   int // offset of rest in the whole input
}

func (r *reader) empty() bool { return len(r.rest) == 0 }

// is tells whether the next value has one of two tags.
func (r *reader) is(a, b byte) bool {
	return len(r.rest) > 0 && (r.rest[0] == a || r.rest[0] == b)
}

func (r *reader) fail(format string, args ...any) error {
	return fmt.Errorf("at byte offset %d: %s", r.at, fmt.Sprintf(format, args...))
}

// next reads one value of the tag.
func (r *reader) next(tag byte, what string) (element, error) {
	switch {
	case len(r.rest) == 0:
		return element{}, r.fail("the end, wanted %s", what)
	case r.rest[0] != tag:
		return element{}, r.fail("tag 0x%02x, wanted 0x%02x of %s", r.rest[0], tag, what)
	}
	return r.any(what)
}

// any reads one value, whatever its tag.
func (r *reader) any(what string) (element, error) {
	if len(r.rest) < 2 {
		return element{}, r.fail("the end, wanted %s", what)
	}
	if r.rest[0]&0x1f == 0x1f {
		return element{}, r.fail("a tag of several bytes, wanted %s", what)
	}
	head, length := 2, int(r.rest[1])
	if length >= 0x80 {
		n := length & 0x7f
		if n == 0 || n > 4 || len(r.rest) < 2+n || r.rest[2] == 0 {
			return element{}, r.fail("a length that is not DER, of %s", what)
		}
		length = 0
		for _, b := range r.rest[2 : 2+n] {
			length = length<<8 | int(b)
		}
		if length < 0x80 || length > len(r.rest) {
			return element{}, r.lengthError(length, what)
		}
		head += n
	}
	if length > len(r.rest)-head {
		return element{}, r.lengthError(length, what)
	}
	e := element{r.rest[0], r.rest[head : head+length : head+length], r.rest[: head+length : head+length], r.at + head}
	r.rest, r.at = r.rest[head+length:], r.at+head+length
	return e, nil
}

func (r *reader) lengthError(length int, what string) error {
	if length >= 0 && length < 0x80 {
		return r.fail("a length that is not DER, of %s", what)
	}
	return r.fail("%s of %d bytes, but the input ends after %d: it is truncated", what, length, len(r.rest))
}

// optional reads the next value if it has the tag.
func (r *reader) optional(tag byte, what string) (element, bool, error) {
	if !r.is(tag, tag) {
		return element{}, false, nil
	}
	e, err := r.any(what)
	return e, err == nil, err
}

// end fails where something is left.
func (r *reader) end(what string) error {
	if len(r.rest) > 0 {
		return r.fail("%d bytes more, wanted the end of %s", len(r.rest), what)
	}
	return nil
}

// wrap writes a DER value of the tag around parts.
func wrap(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b := make([]byte, 0, n+6)
	b = append(b, tag)
	if n < 0x80 {
		b = append(b, byte(n))
	} else {
		octets := 1
		for n>>(8*octets) > 0 {
			octets++
		}
		b = append(b, 0x80|byte(octets))
		for i := octets - 1; i >= 0; i-- {
			b = append(b, byte(n>>(8*i)))
		}
	}
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// boolean reads a BOOLEAN's content. DER writes no default, but crypto/x509 takes one
// that is written, and so do we.
func boolean(e element) (bool, error) {
	if len(e.body) != 1 || e.body[0] != 0 && e.body[0] != 0xff {
		return false, fmt.Errorf("at byte offset %d: a BOOLEAN of content %x, wanted 00 or ff", e.at, clipBytes(e.body))
	}
	return e.body[0] != 0, nil
}

// minimalInteger tells whether b is the content of an INTEGER in DER (X.690 8.3.2).
func minimalInteger(b []byte) bool {
	return len(b) > 0 && (len(b) == 1 || (b[0] != 0 || b[1]&0x80 != 0) && (b[0] != 0xff || b[1]&0x80 == 0))
}

// minimalOID tells whether b is the content of an OBJECT IDENTIFIER in DER (X.690 8.19)
// whose arcs have 31 bits at most, as crypto/x509 wants.
func minimalOID(b []byte) bool {
	if len(b) == 0 || b[len(b)-1]&0x80 != 0 {
		return false
	}
	arc, start := 0, true
	for _, c := range b {
		if start && c == 0x80 || arc >= 1<<24 {
			return false
		}
		arc, start = arc<<7|int(c&0x7f), false
		if c&0x80 == 0 {
			arc, start = 0, true
		}
	}
	return true
}

// instantOf reads a Time, as RFC 5280 4.1.2.5 and 5.1.2.4 want it: UTC, with seconds,
// without fractions. A year of two digits is 1950 to 2049.
func instantOf(e element) (time.Time, error) {
	b, year := e.body, 0
	fail := func() (time.Time, error) {
		return time.Time{}, fmt.Errorf("at byte offset %d: time %q, wanted UTCTime YYMMDDHHMMSSZ or GeneralizedTime YYYYMMDDHHMMSSZ", e.at, clipBytes(e.body))
	}
	for i, c := range b {
		if i == len(b)-1 {
			if c != 'Z' {
				return fail()
			}
		} else if c < '0' || c > '9' {
			return fail()
		}
	}
	two := func(i int) int { return int(b[i]-'0')*10 + int(b[i+1]-'0') }
	switch {
	case e.tag == tagUTCTime && len(b) == 13:
		if year = 1900 + two(0); year < 1950 {
			year += 100
		}
		b = b[2:]
	case e.tag == tagGeneralizedTime && len(b) == 15:
		year = two(0)*100 + two(2)
		b = b[4:]
	default:
		return fail()
	}
	month, day, hour, minute, second := time.Month(two(0)), two(2), two(4), two(6), two(8)
	t := time.Date(year, month, day, hour, minute, second, 0, time.UTC)
	if t.Month() != month || hour > 23 || minute > 59 || second > 59 {
		return fail()
	}
	return t, nil
}

func clipBytes(b []byte) []byte { return b[:min(len(b), 40)] }
