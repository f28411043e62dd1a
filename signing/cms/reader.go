package cms

import (
	"crypto"
	"encoding/asn1"
	"fmt"
	"strings"
)

// FormatError says that bytes are not a SignedData that this package reads.
type FormatError struct {
	// Field is the part, by its name in RFC 5652 or RFC 5035, such as signerInfos.
	Field string
	// Problem is what was found and what was wanted.
	Problem string
	// Offset is where, in bytes from 0.
	Offset int
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("cms: not a CMS signature that can be read: %s at byte %d: %s", e.Field, e.Offset, e.Problem)
}

func formatErrorf(field string, offset int, format string, args ...any) *FormatError {
	return &FormatError{Field: field, Problem: fmt.Sprintf(format, args...), Offset: offset}
}

func excerpt(b []byte) string { return clip(fmt.Sprintf("%q", b), 64) }

// clip keeps what came from outside from filling an error.
func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}

// element is one element of DER and where it begins.
type element struct {
	asn1.RawValue
	at int
}

// inside reads what a constructed element holds.
func (e element) inside() *reader {
	return &reader{in: e.Bytes, at: e.at + len(e.FullBytes) - len(e.Bytes)}
}

// reader takes elements one after another, under the rules of DER for tags and
// lengths (X.690 8.1.2, 10.1). It looks into none by itself, so that depth costs
// nothing.
type reader struct {
	in []byte // what is left
	at int    // where that begins
}

func (r *reader) more() bool { return len(r.in) > 0 }

// is tells whether the next element has an identifier octet (X.690 8.1.2).
func (r *reader) is(identifier byte) bool { return r.more() && r.in[0] == identifier }

// Identifier octets.
const (
	tagInteger    = 0x02
	tagOctets     = 0x04
	tagOID        = 0x06
	tagSequence   = 0x30
	tagSet        = 0x31
	tagImplicit0  = 0x80 // [0], primitive
	tagContext0   = 0xa0 // [0], constructed
	tagContext1   = 0xa1
	tagDirectory  = 0xa4 // GeneralName directoryName, RFC 5280 4.2.1.6
	indefinite    = 0x80 // as a length, X.690 8.1.3.6
	highTagNumber = 0x1f
)

var tagNames = map[byte]string{
	tagInteger: "an INTEGER", tagOctets: "an OCTET STRING", tagOID: "an OBJECT IDENTIFIER", tagSequence: "a SEQUENCE", tagSet: "a SET",
	tagImplicit0: "[0], primitive", tagContext0: "[0]", tagContext1: "[1]", tagDirectory: "a directoryName",
}

// any takes the next element, whatever it is.
func (r *reader) any(field string) (element, error) {
	if !r.more() {
		return element{}, formatErrorf(field, r.at, "is missing")
	}
	if len(r.in) > 1 && r.in[0]&highTagNumber != highTagNumber && r.in[1] == indefinite {
		return element{}, formatErrorf(field, r.at, "an indefinite length, wanted DER, which has definite lengths only")
	}
	e := element{at: r.at}
	rest, err := asn1.Unmarshal(r.in, &e.RawValue)
	if err != nil {
		return element{}, formatErrorf(field, r.at, "not DER: %s", strings.TrimPrefix(err.Error(), "asn1: "))
	}
	r.in, r.at = rest, r.at+len(e.FullBytes)
	return e, nil
}

// take takes the next element, which must have an identifier octet.
func (r *reader) take(field string, identifier byte) (element, error) {
	if r.more() && !r.is(identifier) {
		return element{}, formatErrorf(field, r.at, "tag %#02x, wanted %s", r.in[0], tagNames[identifier])
	}
	return r.any(field)
}

// enter takes the next element, which must have an identifier octet, and reads what
// it holds.
func (r *reader) enter(field string, identifier byte) (*reader, error) {
	e, err := r.take(field, identifier)
	if err != nil {
		return nil, err
	}
	return e.inside(), nil
}

// end says what is left where nothing was to be.
func (r *reader) end(field string) error {
	if r.more() {
		return formatErrorf(field, r.at, "%d more bytes, wanted none", len(r.in))
	}
	return nil
}

// maxOID is how many bytes an OBJECT IDENTIFIER may have.
const maxOID = 64

// value takes a primitive element into a variable of its type.
func (r *reader) value(field string, identifier byte, into any) error {
	e, err := r.take(field, identifier)
	if err != nil {
		return err
	}
	if identifier == tagOID && len(e.Bytes) > maxOID {
		return formatErrorf(field, e.at, "an OBJECT IDENTIFIER of %d bytes, wanted at most %d", len(e.Bytes), maxOID)
	}
	if _, err := asn1.Unmarshal(e.FullBytes, into); err != nil {
		return formatErrorf(field, e.at, "not DER: %s", strings.TrimPrefix(err.Error(), "asn1: "))
	}
	return nil
}

// only takes the one member of a SET OF.
func (r *reader) only(field string) (element, error) {
	set, err := r.enter(field, tagSet)
	if err != nil {
		return element{}, err
	}
	e, err := set.any(field)
	if err != nil {
		return element{}, err
	}
	if set.more() {
		return element{}, formatErrorf(field, set.at, "more than one, wanted exactly one")
	}
	return e, nil
}

// algorithm is an AlgorithmIdentifier (RFC 5280 4.1.1.2).
type algorithm struct {
	oid  asn1.ObjectIdentifier
	null bool // its parameters are NULL
	bare bool // it has none
}

func (r *reader) algorithm(field string) (a algorithm, err error) {
	in, err := r.enter(field, tagSequence)
	if err != nil {
		return a, err
	}
	if err := in.value(field, tagOID, &a.oid); err != nil {
		return a, err
	}
	if a.bare = !in.more(); a.bare {
		return a, nil
	}
	parameters, err := in.any(field)
	if err != nil {
		return a, err
	}
	a.null = parameters.Class == asn1.ClassUniversal && parameters.Tag == asn1.TagNull && len(parameters.FullBytes) == 2
	return a, in.end(field)
}

// hash is the digest algorithm, of those that are secure; 0: another. Its
// parameters are absent or NULL (RFC 5754 2).
func (a algorithm) hash() crypto.Hash {
	if a.bare || a.null {
		for h, oids := range algorithms {
			if a.oid.Equal(oids.digest) {
				return h
			}
		}
	}
	return 0
}
