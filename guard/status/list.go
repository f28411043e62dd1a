package status

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// DefaultMaxBytes is how long a list may be where no limit is given: a million entries.
const DefaultMaxBytes = 64 << 20

// What the errors of this package wrap that refuse a list for a reason of its own. Any
// other error says that it is damaged.
var (
	ErrTooLarge   = errors.New("the list is larger than the limit")
	ErrDelta      = errors.New("the list is a delta list, which is not used: fetch the complete one")
	ErrUnverified = errors.New("the list is not verified")
	ErrOlder      = errors.New("the list goes backwards")
	ErrFuture     = errors.New("the list is from the future")
)

// List is a certificate revocation list, a CRL or an ARL (RFC 5280 5), read and
// indexed, but not verified: that is for a [Snapshot]. It is immutable and safe for
// concurrent use.
type List struct {
	number     *big.Int // nil: it has none
	thisUpdate time.Time
	nextUpdate time.Time // zero: it has none

	issuer   nameKey
	issuedBy string // the issuer's name, to be read
	keyID    []byte
	series   [sha256.Size]byte
	sum      [sha256.Size]byte // of the DER
	scope    scope
	unusable string // why it may say good of nobody
	entries  *index

	// tbs, algorithm and signature are what is verified. A list that a Snapshot holds
	// has no tbs, which is long.
	tbs       []byte
	algorithm x509.SignatureAlgorithm
	signature []byte
}

// Parse reads a list, in DER or as one PEM block, at most maxBytes of DER; 0:
// DefaultMaxBytes. It reads strictly (X.690 section 10, RFC 5280 5): an error names
// the place and what was wanted. A delta list is refused with ErrDelta, a list that is
// too long with ErrTooLarge before it is looked at. The list refers to b until a
// Snapshot takes it.
func Parse(b []byte, maxBytes int64) (*List, error) {
	if maxBytes <= 0 {
		maxBytes = DefaultMaxBytes
	}
	der, err := listDER(b, maxBytes)
	if err == nil {
		var l *List
		if l, err = parseList(der); err == nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("status: revocation list: %w", err)
}

// pemRoom is how much longer than its DER PEM text can be, and then some.
const pemRoom = 2

func listDER(b []byte, maxBytes int64) ([]byte, error) {
	text := len(b) > 0 && b[0] != tagSequence
	limit := maxBytes
	if text {
		limit *= pemRoom
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(b), limit)
	}
	if !text {
		return b, nil
	}
	const begin = "-----BEGIN"
	trimmed := bytes.TrimSpace(b)
	if !bytes.HasPrefix(trimmed, []byte(begin)) {
		return nil, fmt.Errorf("it starts with %q, wanted DER or one PEM block", clipBytes(b))
	}
	// Counted first, because pem.Decode passes over damaged blocks in silence.
	if n := bytes.Count(trimmed, []byte(begin)); n > 1 {
		return nil, fmt.Errorf("%d PEM blocks, wanted one X509 CRL block", n)
	}
	block, rest := pem.Decode(trimmed)
	switch {
	case block == nil:
		return nil, errors.New("the PEM text is damaged, wanted one X509 CRL block")
	case block.Type != "X509 CRL":
		return nil, fmt.Errorf("the PEM block is %q, wanted X509 CRL", block.Type)
	case len(rest) > 0:
		return nil, errors.New("text follows the PEM block, wanted one X509 CRL block")
	case int64(len(block.Bytes)) > maxBytes:
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(block.Bytes), maxBytes)
	}
	return block.Bytes, nil
}

// outline is where the parts of a CertificateList are (RFC 5280 5.1).
type outline struct {
	tbs                    element
	issuer                 element
	thisUpdate, nextUpdate element // nextUpdate: tag 0 where there is none
	entries                element // tag 0 where there are none
	extensions             element
	head                   []byte // the list without its entries, in DER
}

func readOutline(der []byte) (o outline, err error) {
	in := reader{rest: der}
	outer, err := in.next(tagSequence, "a certificate list")
	if err == nil {
		err = in.end("the certificate list")
	}
	if err != nil {
		return o, err
	}
	r := outer.inside()
	if o.tbs, err = r.next(tagSequence, "the part that is signed"); err != nil {
		return o, err
	}
	algorithm, err := r.next(tagSequence, "the signature algorithm")
	if err != nil {
		return o, err
	}
	signature, err := r.next(tagBitString, "the signature")
	if err == nil {
		err = r.end("the certificate list")
	}
	if err != nil {
		return o, err
	}
	r = o.tbs.inside()
	if !r.is(tagInteger, tagInteger) {
		return o, r.fail("a list without a version, wanted version 2 (RFC 5280 5.1.2.1)")
	}
	for _, part := range []struct {
		to   *element
		tag  byte
		what string
	}{{&element{}, tagInteger, "the version"}, {&element{}, tagSequence, "the signature algorithm"}, {&o.issuer, tagSequence, "the issuer"}} {
		if *part.to, err = r.next(part.tag, part.what); err != nil {
			return o, err
		}
	}
	if o.thisUpdate, err = r.any("thisUpdate"); err != nil {
		return o, err
	}
	if r.is(tagUTCTime, tagGeneralizedTime) {
		if o.nextUpdate, err = r.any("nextUpdate"); err != nil {
			return o, err
		}
	}
	before := len(o.tbs.body) - len(r.rest)
	if o.entries, _, err = r.optional(tagSequence, "the entries"); err != nil {
		return o, err
	}
	after := len(o.tbs.body) - len(r.rest)
	if o.extensions, _, err = r.optional(tagContextOf, "the extensions"); err != nil {
		return o, err
	}
	o.head = wrap(tagSequence, wrap(tagSequence, o.tbs.body[:before], o.tbs.body[after:]), algorithm.full, signature.full)
	return o, r.end("the part that is signed")
}

func parseList(der []byte) (*List, error) {
	o, err := readOutline(der)
	if err != nil {
		return nil, err
	}
	// crypto/x509 reads all but the entries, of each of which it would keep half a
	// kilobyte.
	head, err := x509.ParseRevocationList(o.head)
	if err != nil {
		return nil, err
	}
	l := &List{
		number: head.Number, issuer: keyOfName(head.RawIssuer), issuedBy: textOf(head.RawIssuer), sum: sha256.Sum256(der),
		tbs: o.tbs.full, algorithm: head.SignatureAlgorithm, signature: head.Signature,
	}
	if l.thisUpdate, err = instantOf(o.thisUpdate); err != nil {
		return nil, fmt.Errorf("thisUpdate: %w", err)
	}
	if o.nextUpdate.tag != 0 {
		if l.nextUpdate, err = instantOf(o.nextUpdate); err != nil {
			return nil, fmt.Errorf("nextUpdate: %w", err)
		}
	}
	point, err := l.readExtensions(o.extensions)
	if err != nil {
		return nil, err
	}
	l.scope = scope{reasons: AllReasons}
	if point != nil {
		if l.scope, err = readScope(point, head.RawIssuer); err != nil {
			return nil, fmt.Errorf("issuing distribution point: %w", err)
		}
	}
	l.keyID = head.AuthorityKeyId
	l.series = sha256.Sum256(fmt.Appendf(nil, "%x %x %x", l.issuer, head.AuthorityKeyId, point))
	l.entries = &index{}
	if o.entries.tag != 0 {
		var unusable string
		if l.entries, unusable, err = readEntries(o.entries, l.issuer, l.scope.indirect); err != nil {
			return nil, err
		}
		if l.unusable == "" {
			l.unusable = unusable
		}
	}
	return l, nil
}

// readExtensions reads what is said of the whole list (RFC 5280 5.2) and returns the
// value of its issuing distribution point; nil: it has none.
func (l *List) readExtensions(all element) (point []byte, err error) {
	if all.tag == 0 {
		return nil, nil
	}
	list, err := only(all, tagSequence, "the extensions")
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for r := list.inside(); !r.empty(); {
		x, err := readExtension(&r)
		if err != nil {
			return nil, err
		}
		if seen[string(x.oid.body)] {
			return nil, fmt.Errorf("at byte offset %d: the extension %s is there twice", x.oid.at, x.name())
		}
		seen[string(x.oid.body)] = true
		switch name := x.name(); {
		case name == oidDeltaIndicator.String():
			return nil, ErrDelta
		case name == oidIssuingPoint.String():
			point = x.value.body
		case !x.critical || l.unusable != "":
		case name == oidCRLNumber.String(), name == oidAuthorityKeyID.String():
			l.unusable = "its extension " + name + " is critical, which RFC 5280 5.2 forbids"
		default: // RFC 5280 5.2: then it must not be used
			l.unusable = "its critical extension " + name + " is not known here"
		}
	}
	return point, nil
}

func parseOID(der []byte) (string, error) {
	var oid asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(der, &oid)
	if err == nil && len(rest) > 0 {
		err = errors.New("bytes follow")
	}
	return oid.String(), err
}

// Issuer is the name of the list's issuer (RFC 4514), clipped.
func (l *List) Issuer() string { return l.issuedBy }

// Number is the list's CRL number (RFC 5280 5.2.3); nil: it has none.
func (l *List) Number() *big.Int {
	if l.number == nil {
		return nil
	}
	return new(big.Int).Set(l.number)
}

// ThisUpdate is when the list was issued, in UTC.
func (l *List) ThisUpdate() time.Time { return l.thisUpdate }

// NextUpdate is by when the next list is issued, in UTC; zero: it does not say.
func (l *List) NextUpdate() time.Time { return l.nextUpdate }

// AuthorityKeyID is the key identifier of the list's issuer (RFC 5280 5.2.1); nil: the
// list has none.
func (l *List) AuthorityKeyID() []byte { return bytes.Clone(l.keyID) }

// Series is the same of all copies of one list, older and newer: they share issuer,
// authority key identifier and issuing distribution point.
func (l *List) Series() [sha256.Size]byte { return l.series }

// SHA256 is the digest of the list's DER.
func (l *List) SHA256() [sha256.Size]byte { return l.sum }

// Len is how many certificates the list revokes.
func (l *List) Len() int { return l.entries.count() }

// Bytes is how much memory the list's entries take.
func (l *List) Bytes() int { return l.entries.bytes() }

// String says which list it is.
func (l *List) String() string {
	if l == nil {
		return "no list"
	}
	number := ""
	if l.number != nil {
		number = " number " + l.number.String()
		if len(number) > 60 {
			number = number[:60] + "…"
		}
	}
	return fmt.Sprintf("the list%s of %s by %s", number, text(l.thisUpdate), l.issuedBy)
}

// Covers tells for which reasons the list is one of the certificate's, by its points
// and the list's own scope alone (RFC 5280 6.3.3 (b) to (d)); 0: it is not. It
// verifies nothing.
func (l *List) Covers(c *Subject) Reasons {
	switch {
	case l.scope.onlyAttributes, l.scope.onlyUsers && c.ca, l.scope.onlyCAs && !c.ca:
		return 0
	}
	var found Reasons
	for i := range c.points {
		found |= l.scope.covers(l.issuer, l.issuer == c.issuer, &c.points[i])
	}
	return found
}

// Find returns what the list says of the certificate; false: nothing. Of several
// entries it is one that revokes whenever any of them does. It verifies nothing and
// allocates nothing.
func (l *List) Find(c *Subject) (Entry, bool) {
	if !l.scope.indirect && l.issuer != c.issuer {
		return Entry{}, false
	}
	return l.entries.find(c.issuer, c.serial, false)
}

// First is Find, but of several entries it is the one that comes first in the list,
// where the national service stops.
func (l *List) First(c *Subject) (Entry, bool) {
	if !l.scope.indirect && l.issuer != c.issuer {
		return Entry{}, false
	}
	return l.entries.find(c.issuer, c.serial, true)
}

// ByIssuerOf tells whether the list's issuer has the name of the certificate's; a list
// about it that has another is an indirect one.
func (l *List) ByIssuerOf(c *Subject) bool { return l.issuer == c.issuer }

// follows says why the list may not take the place of another of its series; nil: it
// may, or is the same.
func (l *List) follows(other *List) error {
	switch {
	case l.sum == other.sum:
		return nil
	case l.thisUpdate.Before(other.thisUpdate):
		return fmt.Errorf("%w: %s comes after one of %s", ErrOlder, l, text(other.thisUpdate))
	case l.number != nil && other.number != nil && l.number.Cmp(other.number) < 0:
		return fmt.Errorf("%w: %s comes after %s", ErrOlder, l, other)
	case l.thisUpdate.Equal(other.thisUpdate) && l.number != nil && other.number != nil && l.number.Cmp(other.number) == 0:
		return fmt.Errorf("%w: %s is another one of the same number and date", ErrOlder, l)
	}
	return nil
}
