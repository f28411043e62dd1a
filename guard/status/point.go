package status

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Extensions (RFC 5280 4.2.1, 5.2).
var (
	oidKeyUsage           = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidCRLNumber          = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidDeltaIndicator     = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingPoint       = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidDistributionPoints = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidAuthorityKeyID     = asn1.ObjectIdentifier{2, 5, 29, 35}
)

// Reasons is a set of reasons for which certificates are revoked (ReasonFlags, RFC 5280
// 4.2.1.13): bit 1 is keyCompromise, bit 8 aACompromise.
type Reasons uint16

// AllReasons is the set of every reason: what a certificate's lists must cover
// together.
const AllReasons Reasons = 0x1fe

// reasonFlags reads the content of ReasonFlags.
func reasonFlags(e element) (Reasons, error) {
	b := e.body
	if len(b) == 0 || b[0] > 7 || len(b) == 1 && b[0] != 0 || len(b) > 1 && b[len(b)-1]&(1<<b[0]-1) != 0 {
		return 0, fmt.Errorf("at byte offset %d: reason flags of content %x, wanted a BIT STRING", e.at, clipBytes(b))
	}
	var r Reasons
	for i := 1; i <= 8; i++ {
		if octet := 1 + i/8; octet < len(b) && b[octet]&(0x80>>(i%8)) != 0 {
			r |= 1 << i
		}
	}
	return r, nil
}

// pointName reads a DistributionPointName (RFC 5280 4.2.1.13) and returns the keys of
// its names. One that is relative is made whole with each of the CRL issuer's names.
// urls are those that are http or https URLs.
func pointName(outer element, issuers [][]byte) (keys []nameKey, urls []string, err error) {
	r := outer.inside()
	e, err := r.any("the name of a distribution point")
	if err == nil {
		err = r.end("the name of a distribution point")
	}
	if err != nil {
		return nil, nil, err
	}
	switch e.tag {
	case tagContextOf:
		names, err := generalNames(e.inside(), "a general name of a distribution point")
		for _, n := range names {
			keys = append(keys, keyOfGeneralName(n))
			if u := string(n.body); n.tag == tagURI && (hasPrefix(u, "http://") || hasPrefix(u, "https://")) {
				urls = append(urls, u)
			}
		}
		return keys, urls, err
	case tagContextOf | 1:
		for _, issuer := range issuers {
			whole := reader{rest: issuer}
			name, err := whole.next(tagSequence, "the name of the CRL issuer")
			if err != nil {
				return nil, nil, err
			}
			keys = append(keys, keyOfName(wrap(tagSequence, name.body, wrap(tagSet, e.body))))
		}
		return keys, nil, nil
	}
	return nil, nil, fmt.Errorf("at byte offset %d: tag 0x%02x, wanted a full name or one relative to the CRL issuer", e.at, e.tag)
}

// hasPrefix is strings.HasPrefix without regard to case.
func hasPrefix(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// scope is what a list says that it is about (IssuingDistributionPoint, RFC 5280
// 5.2.5). A list without one is about all of its issuer's certificates.
type scope struct {
	names                              []nameKey // nil: of any point
	onlyUsers, onlyCAs, onlyAttributes bool
	indirect                           bool
	reasons                            Reasons
}

func readScope(der, issuer []byte) (scope, error) {
	s := scope{reasons: AllReasons}
	outer := reader{rest: der}
	e, err := outer.next(tagSequence, "an issuing distribution point")
	if err == nil {
		err = outer.end("the issuing distribution point")
	}
	if err != nil {
		return s, err
	}
	r := e.inside()
	if name, ok, err := r.optional(tagContextOf, "its name"); err != nil {
		return s, err
	} else if ok {
		if s.names, _, err = pointName(name, [][]byte{issuer}); err != nil {
			return s, err
		}
	}
	flag := func(n byte, to *bool) {
		if err != nil {
			return
		}
		var e element
		var ok bool
		if e, ok, err = r.optional(tagContext|n, "a flag"); ok {
			*to, err = boolean(e)
		}
	}
	flag(1, &s.onlyUsers)
	flag(2, &s.onlyCAs)
	if err == nil {
		var some element
		var ok bool
		if some, ok, err = r.optional(tagContext|3, "onlySomeReasons"); ok {
			s.reasons, err = reasonFlags(some)
		}
	}
	flag(4, &s.indirect)
	flag(5, &s.onlyAttributes)
	if err == nil {
		err = r.end("the issuing distribution point")
	}
	if err == nil && (s.onlyUsers && s.onlyCAs || s.onlyUsers && s.onlyAttributes || s.onlyCAs && s.onlyAttributes) {
		err = errors.New("it says that it is about several kinds of certificates alone, wanted at most one kind")
	}
	return s, err
}

// point is where a certificate says that its list is (DistributionPoint, RFC 5280
// 4.2.1.13).
type point struct {
	names   []nameKey
	issuers []nameKey // of the list, where the certificate names them
	reasons Reasons
	urls    []string // the names that are http or https URLs
}

// readPoints reads a certificate's distribution points; none: it has no extension.
func readPoints(c *x509.Certificate) ([]point, error) {
	i := slices.IndexFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidDistributionPoints) })
	if i < 0 {
		return nil, nil
	}
	outer := reader{rest: c.Extensions[i].Value}
	e, err := outer.next(tagSequence, "CRL distribution points")
	if err == nil {
		err = outer.end("the CRL distribution points")
	}
	if err != nil {
		return nil, err
	}
	var points []point
	for r := e.inside(); !r.empty(); {
		e, err := r.next(tagSequence, "a CRL distribution point")
		if err != nil {
			return nil, err
		}
		p, err := readPoint(e, c.RawIssuer)
		if err != nil {
			return nil, err
		}
		points = append(points, p)
	}
	if points == nil {
		return nil, errors.New("the extension names none")
	}
	return points, nil
}

func readPoint(e element, certificateIssuer []byte) (point, error) {
	p, r := point{reasons: AllReasons}, e.inside()
	name, named, err := r.optional(tagContextOf, "its name")
	if err != nil {
		return p, err
	}
	some, limited, err := r.optional(tagContext|1, "its reasons")
	if err == nil && limited {
		p.reasons, err = reasonFlags(some)
	}
	if err != nil {
		return p, err
	}
	by, other, err := r.optional(tagContextOf|2, "its CRL issuer")
	if err == nil {
		err = r.end("the CRL distribution point")
	}
	if err != nil {
		return p, err
	}
	issuers := [][]byte{certificateIssuer}
	if other {
		names, err := generalNames(by.inside(), "a name of the CRL issuer")
		if err != nil {
			return p, err
		}
		issuers = nil
		for _, n := range names {
			p.issuers = append(p.issuers, keyOfGeneralName(n))
			if n.tag == tagDirectoryName {
				issuers = append(issuers, n.body)
			}
		}
	}
	switch {
	case named:
		p.names, p.urls, err = pointName(name, issuers)
	case !other:
		err = fmt.Errorf("at byte offset %d: a CRL distribution point without a name or a CRL issuer", e.at)
	}
	return p, err
}

// covers tells for which reasons a list of this scope is the one of the point, for a
// certificate of the list's issuer (own) or of another (RFC 5280 6.3.3 (b)).
func (s *scope) covers(listIssuer nameKey, own bool, p *point) Reasons {
	at := p.names
	if len(p.issuers) > 0 {
		if !s.indirect || !slices.Contains(p.issuers, listIssuer) {
			return 0
		}
		if len(at) == 0 {
			at = p.issuers
		}
	} else if !own {
		return 0
	}
	if s.names != nil && !slices.ContainsFunc(at, func(n nameKey) bool { return slices.Contains(s.names, n) }) {
		return 0
	}
	return s.reasons & p.reasons
}
