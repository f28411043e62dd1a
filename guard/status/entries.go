package status

import (
	"fmt"
	"slices"
)

// The content of the OBJECT IDENTIFIERs of an entry's extensions (RFC 5280 5.3), as
// they stand in DER: they are compared a million times.
var (
	derReasonCode        = []byte{0x55, 0x1d, 21}
	derInvalidityDate    = []byte{0x55, 0x1d, 24}
	derCertificateIssuer = []byte{0x55, 0x1d, 29}
)

// readEntries reads revokedCertificates (RFC 5280 5.1.2.6) into an index. unusable
// says why the list may say good of nobody.
func readEntries(list element, issuer nameKey, indirect bool) (_ *index, unusable string, err error) {
	x := newIndexer(issuer, indirect)
	w := entryReader{x: x, indirect: indirect}
	for r := list.inside(); !r.empty(); {
		if err := w.read(&r); err != nil {
			return nil, "", err
		}
	}
	return x.index(), w.unusable, nil
}

type entryReader struct {
	x        *indexer
	indirect bool
	issuer   []byte // the certificate issuer that was named last, in DER
	unusable string
}

func (w *entryReader) read(list *reader) error {
	outer, err := list.next(tagSequence, "an entry")
	if err != nil {
		return err
	}
	r := outer.inside()
	serial, err := r.next(tagInteger, "the serial number of an entry")
	if err != nil {
		return err
	}
	if !minimalInteger(serial.body) || len(serial.body) > maxSerial {
		return fmt.Errorf("at byte offset %d: serial number %x of %d bytes, wanted an INTEGER of 1 to %d", serial.at, clipBytes(serial.body), len(serial.body), maxSerial)
	}
	date, err := r.any("the revocation date of an entry")
	if err != nil {
		return err
	}
	var e Entry
	if e.Revoked, err = instantOf(date); err != nil {
		return fmt.Errorf("entry %x: %w", serial.body, err)
	}
	more, ok, err := r.optional(tagSequence, "the extensions of an entry")
	if err == nil {
		err = r.end("the entry")
	}
	if err == nil && ok {
		err = w.extensions(more, &e, serial.body)
	}
	if err != nil {
		return fmt.Errorf("entry %x: %w", serial.body, err)
	}
	w.x.add(serial.body, e)
	return nil
}

// extensions reads what is said of an entry (RFC 5280 5.3.1 to 5.3.3).
func (w *entryReader) extensions(all element, e *Entry, serial []byte) error {
	var seen [3]bool
	once := func(i int) error {
		if seen[i] {
			return fmt.Errorf("at byte offset %d: an extension is there twice", all.at)
		}
		seen[i] = true
		return nil
	}
	for r := all.inside(); !r.empty(); {
		x, err := readExtension(&r)
		if err != nil {
			return err
		}
		switch {
		case slices.Equal(x.oid.body, derReasonCode):
			if err = once(0); err == nil {
				e.Reason, err = readReason(x.value)
			}
		case slices.Equal(x.oid.body, derInvalidityDate):
			if err = once(1); err == nil {
				err = readInvalidity(x.value, e)
			}
		case slices.Equal(x.oid.body, derCertificateIssuer) && w.indirect:
			// It goes on for the entries that follow (RFC 5280 5.3.3).
			if err = once(2); err == nil && !slices.Equal(w.issuer, x.value.body) {
				var name nameKey
				if name, err = readCertificateIssuer(x.value); err == nil {
					w.x.issuer(name)
					w.issuer = x.value.body
				}
			}
		case x.critical && w.unusable == "": // RFC 5280 5.3: then the list must not be used
			w.unusable = fmt.Sprintf("the critical extension %s of its entry %x is not known here", x.name(), serial)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// extension is an Extension (RFC 5280 4.1.2.9).
type extension struct {
	oid      element
	critical bool
	value    element // the content of its OCTET STRING
}

// name is how messages call the extension.
func (x extension) name() string {
	oid, err := parseOID(x.oid.full)
	if err != nil {
		return fmt.Sprintf("%x", clipBytes(x.oid.body))
	}
	return oid
}

func readExtension(r *reader) (x extension, err error) {
	outer, err := r.next(tagSequence, "an extension")
	if err != nil {
		return x, err
	}
	in := outer.inside()
	x.oid, err = in.next(tagOID, "the identifier of an extension")
	if err == nil && !minimalOID(x.oid.body) {
		err = fmt.Errorf("at byte offset %d: content %x, wanted an OBJECT IDENTIFIER", x.oid.at, clipBytes(x.oid.body))
	}
	if err != nil {
		return x, err
	}
	critical, ok, err := in.optional(tagBoolean, "whether an extension is critical")
	if err == nil && ok {
		x.critical, err = boolean(critical)
	}
	if err != nil {
		return x, err
	}
	if x.value, err = in.next(tagOctetString, "the value of an extension"); err != nil {
		return x, err
	}
	return x, in.end("the extension")
}

// only reads the one value that an extension holds.
func only(value element, tag byte, what string) (element, error) {
	r := value.inside()
	e, err := r.next(tag, what)
	if err == nil {
		err = r.end(what)
	}
	return e, err
}

func readReason(value element) (Reason, error) {
	e, err := only(value, tagEnumerated, "a reason code")
	if err == nil && (len(e.body) != 1 || e.body[0] > 127) {
		err = fmt.Errorf("at byte offset %d: reason code %x, wanted one of RFC 5280 5.3.1", e.at, clipBytes(e.body))
	}
	if err != nil {
		return 0, err
	}
	return Reason(e.body[0]), nil
}

func readInvalidity(value element, to *Entry) error {
	e, err := only(value, tagGeneralizedTime, "an invalidity date")
	if err == nil {
		to.Invalid, err = instantOf(e)
	}
	return err
}

// readCertificateIssuer returns whose certificates the entries are from here on.
func readCertificateIssuer(value element) (key nameKey, err error) {
	e, err := only(value, tagSequence, "a certificate issuer")
	if err != nil {
		return key, err
	}
	names, err := generalNames(e.inside(), "a name of a certificate issuer")
	if err != nil {
		return key, err
	}
	found := 0
	for _, n := range names {
		if n.tag == tagDirectoryName {
			key = keyOfName(n.body)
			found++
		}
	}
	if found != 1 {
		return key, fmt.Errorf("at byte offset %d: a certificate issuer of %d directory names, wanted one", value.at, found)
	}
	return key, nil
}
