package advisory

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The bounds of a document.
const (
	maxDocument = 64 << 20
	maxElements = 2_000_000 // of an array
	maxClauses  = 10_000    // of a list of clauses
	maxInteger  = 1<<31 - 1 // the same on every platform
)

// place is where in the document a value stands.
type place struct {
	parent *place
	field  string
	index  int // of an array element, where field is empty
}

func (p *place) String() string {
	if p == nil {
		return "$"
	}
	var up string
	if p.parent != nil {
		up = p.parent.String()
	}
	switch {
	case p.field == "":
		return up + "[" + strconv.Itoa(p.index) + "]"
	case strings.Trim(p.field, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" || len(p.field) > 40:
		return up + "[" + quote(p.field) + "]"
	case up == "":
		return p.field
	}
	return up + "." + p.field
}

// decoder reads a document value by value, as the handlers of its fields ask for
// them. It keeps the first problem; from then on every method returns a zero
// value and reads nothing. It enters only what a handler wants to be an object or
// an array, so a document nests as deep as its form does and no deeper.
type decoder struct {
	doc  []byte
	json *json.Decoder
	err  *Error
}

func newDecoder(doc []byte) *decoder {
	d := &decoder{doc: doc, json: json.NewDecoder(bytes.NewReader(doc))}
	d.json.UseNumber()
	switch {
	case len(doc) > maxDocument:
		d.fail(nil, "found %d bytes, wanted at most %d: put serials into a serial file", len(doc), maxDocument)
	case len(bytes.TrimSpace(doc)) == 0:
		d.fail(nil, "found an empty document, wanted a JSON object")
	case !utf8.Valid(doc):
		// encoding/json would replace it instead of refusing it.
		for i := 0; i < len(doc); {
			r, n := utf8.DecodeRune(doc[i:])
			if r == utf8.RuneError && n == 1 {
				d.fail(nil, "found invalid UTF-8 at byte offset %d, wanted UTF-8 throughout (RFC 8259 section 8.1)", i)
				break
			}
			i += n
		}
	}
	return d
}

func (d *decoder) fail(at *place, format string, args ...any) {
	if d.err == nil {
		d.err = problem(at.String(), format, args...)
	}
}

func (d *decoder) token(at *place) json.Token {
	if d.err != nil {
		return nil
	}
	t, err := d.json.Token()
	if err == nil {
		return t
	}
	offset := min(int(d.json.InputOffset()), len(d.doc))
	line := 1 + bytes.Count(d.doc[:offset], []byte{'\n'})
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		d.fail(at, "not JSON: found the end of the document, line %d, in the middle of a value", line)
	case errors.As(err, &syntax):
		d.fail(at, "not JSON: %v after byte offset %d, line %d", syntax, offset, line)
	default:
		d.fail(at, "not JSON: %v", err)
	}
	return nil
}

// end makes sure that nothing follows the document's value.
func (d *decoder) end() {
	if d.err != nil {
		return
	}
	offset := d.json.InputOffset()
	if _, err := d.json.Token(); !errors.Is(err, io.EOF) {
		d.fail(nil, "found more after the end of the object at byte offset %d, wanted one object and nothing else", offset)
	}
}

// fields are the handlers of an object's fields. Each takes exactly one value.
type fields map[string]func(at *place)

// object reads an object with none but the given fields, each at most once, and
// all of the required ones.
func (d *decoder) object(at *place, known fields, required ...string) {
	if t := d.token(at); t != json.Delim('{') {
		d.wrong(at, t, "an object")
		return
	}
	d.members(at, known, required...)
}

// members is object after its opening brace.
func (d *decoder) members(at *place, known fields, required ...string) {
	seen := make(map[string]bool, len(known))
	for d.err == nil && d.json.More() {
		key, ok := d.token(at).(string)
		if !ok {
			break // a syntax error, kept by token
		}
		here := &place{parent: at, field: key}
		read, ok := known[key]
		switch {
		case !ok:
			d.fail(here, "found an unknown field, wanted %s", wantedField(key, known))
		case seen[key]:
			d.fail(here, "found the field twice, wanted it once")
		default:
			seen[key] = true
			read(here)
		}
	}
	d.token(at) // closing brace
	for _, key := range required {
		if !seen[key] {
			d.fail(&place{parent: at, field: key}, "found nothing, wanted this required field")
		}
	}
}

func wantedField(key string, known fields) string {
	names := make([]string, 0, len(known))
	for name := range known {
		if strings.EqualFold(name, key) {
			return name
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return oneOf(names)
}

func oneOf[T ~string](names []T) string {
	var b strings.Builder
	for i, name := range names {
		switch {
		case i == 0 && len(names) > 1:
			b.WriteString("one of ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(string(name))
	}
	return b.String()
}

// array reads a non-empty array, one element for each call of element, which must
// not keep the place.
func (d *decoder) array(at *place, element func(at *place)) {
	if t := d.token(at); t != json.Delim('[') {
		d.wrong(at, t, "an array")
		return
	}
	n := 0
	here := &place{parent: at} // one for all elements: there may be a million
	for ; d.err == nil && d.json.More(); n++ {
		if n == maxElements {
			d.fail(at, "found more than %d elements, wanted at most as many; a serial file takes more serials", n)
			return
		}
		here.index = n
		element(here)
	}
	d.token(at) // closing bracket
	if n == 0 {
		d.fail(at, "found an empty array, wanted at least one element, or the field left out")
	}
}

// wrong reports a value of another type than wanted.
func (d *decoder) wrong(at *place, t json.Token, want string) {
	var found string
	switch t := t.(type) {
	case nil:
		found = "null"
	case bool:
		found = strconv.FormatBool(t)
	case json.Number:
		found = "the number " + quote(t.String())
	case string:
		found = "the text " + quote(t)
	case json.Delim:
		switch t {
		case '{':
			found = "an object"
		case '[':
			found = "an array"
		default:
			found = "the end of the value around it"
		}
	}
	d.fail(at, "found %s, wanted %s", found, want)
}

func (d *decoder) text(at *place, want string) string {
	t := d.token(at)
	s, ok := t.(string)
	if !ok {
		d.wrong(at, t, want)
	}
	return s
}

func (d *decoder) boolean(at *place) bool {
	t := d.token(at)
	b, ok := t.(bool)
	if !ok {
		d.wrong(at, t, "true or false")
	}
	return b
}

// integer takes whole numbers only, written without fraction or exponent.
func (d *decoder) integer(at *place, least int) int {
	t := d.token(at)
	n, ok := t.(json.Number)
	i, err := strconv.ParseInt(string(n), 10, 64)
	if !ok || err != nil || i < int64(least) || i > maxInteger {
		d.wrong(at, t, "a whole number from "+strconv.Itoa(least)+" to "+strconv.Itoa(maxInteger))
		return 0
	}
	return int(i)
}

const instantLayout = "2006-01-02T15:04:05Z"

// instant takes RFC 3339 with whole seconds and a capital Z, which is how
// certificates tell time (RFC 5280 section 4.1.2.5) and leaves one spelling for
// each instant.
func (d *decoder) instant(at *place) time.Time {
	const want = "an instant in UTC, RFC 3339 with whole seconds, years 1950 to 9999, such as 2020-09-30T00:00:00Z"
	s := d.text(at, want)
	t, err := time.Parse(instantLayout, s)
	if err != nil || t.Format(instantLayout) != s || t.Year() < 1950 {
		d.wrong(at, s, want)
		return time.Time{}
	}
	return t
}

// hex takes lower-case hexadecimal digits, two for each byte.
func (d *decoder) hex(at *place, least, most int, want string) []byte {
	s := d.text(at, want)
	b, err := hex.DecodeString(s)
	if err != nil || len(b) < least || len(b) > most || strings.ToLower(s) != s {
		d.wrong(at, s, want)
		return nil
	}
	return b
}

func (d *decoder) sha256(at *place) (sum [32]byte) {
	copy(sum[:], d.hex(at, 32, 32, "a SHA-256 in 64 lower-case hex digits"))
	return sum
}

func (d *decoder) sha256s(at *place) (sums [][32]byte) {
	d.array(at, func(at *place) { sums = append(sums, d.sha256(at)) })
	return sums
}

func (d *decoder) texts(at *place) (texts []string) {
	d.array(at, func(at *place) { texts = append(texts, d.text(at, "a text")) })
	return texts
}
