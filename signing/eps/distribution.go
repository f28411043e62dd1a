package eps

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Extensions (RFC 5280 4.2.1, 5.2, 5.3).
var (
	oidKeyUsage           = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidCRLNumber          = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidReasonCode         = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidInvalidityDate     = asn1.ObjectIdentifier{2, 5, 29, 24}
	oidDeltaIndicator     = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingPoint       = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidCertificateIssuer  = asn1.ObjectIdentifier{2, 5, 29, 29}
	oidDistributionPoints = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidAuthorityKeyID     = asn1.ObjectIdentifier{2, 5, 29, 35}
)

// extension returns the value of an extension, and nil where it is not there.
func extension(all []pkix.Extension, oid asn1.ObjectIdentifier) *pkix.Extension {
	for i := range all {
		if all[i].Id.Equal(oid) {
			return &all[i]
		}
	}
	return nil
}

// reasons is a set of revocation reasons (ReasonFlags, RFC 5280 4.2.1.13).
type reasons uint16

// allReasons are keyCompromise to aACompromise; the first bit is unused.
const allReasons reasons = 0x1fe

func readReasons(b asn1.BitString) reasons {
	if b.BitLength == 0 {
		return allReasons
	}
	var r reasons
	for i := 1; i <= 8; i++ {
		r |= reasons(b.At(i)) << i
	}
	return r
}

// pointName is a DistributionPointName (RFC 5280 4.2.1.13).
type pointName struct {
	FullName []asn1.RawValue `asn1:"optional,tag:0"`
	Relative asn1.RawValue   `asn1:"optional,tag:1"`
}

// names are its GeneralNames in DER. One that is relative is made whole with the name
// of the CRL issuer.
func (n pointName) names(issuer []byte) ([][]byte, error) {
	switch relative := len(n.Relative.FullBytes) > 0; {
	case relative && len(n.FullName) > 0:
		return nil, errors.New("has a full and a relative name, wanted one of them")
	case relative:
		var name asn1.RawValue
		if err := unmarshalDER(issuer, &name); err != nil {
			return nil, err
		}
		set, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: n.Relative.Bytes})
		if err != nil {
			return nil, err
		}
		whole, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: slices.Concat(name.Bytes, set)})
		return [][]byte{directoryName(whole)}, err
	}
	return rawValues(n.FullName), nil
}

func rawValues(values []asn1.RawValue) [][]byte {
	var raw [][]byte
	for _, v := range values {
		raw = append(raw, v.FullBytes)
	}
	return raw
}

// The context tags of a GeneralName (RFC 5280 4.2.1.6).
const (
	tagDirectoryName = 4
	tagURI           = 6
)

// directoryName is a Name in DER as a GeneralName. Its tag is explicit, as a Name is a
// CHOICE.
func directoryName(name []byte) []byte {
	b, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagDirectoryName, IsCompound: true, Bytes: name})
	if err != nil { // bytes alone can always be marshalled
		return nil
	}
	return b
}

// unmarshalDER reads a value that is in DER, with no bytes after it or passed over in
// it: what it reads is what it would write.
func unmarshalDER[T any](der []byte, v *T) error {
	rest, err := asn1.Unmarshal(der, v)
	if err != nil {
		return err
	}
	if again, err := asn1.Marshal(*v); len(rest) > 0 || err != nil || !bytes.Equal(again, der) {
		return errors.New("is not its value's DER encoding")
	}
	return nil
}

// scope is what a list says that it is about (IssuingDistributionPoint, RFC 5280
// 5.2.5). The zero scope is of a list without one: of all of its issuer's certificates.
type scope struct {
	names                              [][]byte // GeneralNames in DER; nil: of any point
	onlyUsers, onlyCAs, onlyAttributes bool
	indirect                           bool
	reasons                            reasons
}

func readScope(l *x509.RevocationList) (scope, error) {
	e := extension(l.Extensions, oidIssuingPoint)
	if e == nil {
		return scope{reasons: allReasons}, nil
	}
	var p struct {
		Name           pointName      `asn1:"optional,tag:0"`
		OnlyUsers      bool           `asn1:"optional,tag:1"`
		OnlyCAs        bool           `asn1:"optional,tag:2"`
		OnlySome       asn1.BitString `asn1:"optional,tag:3"`
		Indirect       bool           `asn1:"optional,tag:4"`
		OnlyAttributes bool           `asn1:"optional,tag:5"`
	}
	if err := unmarshalDER(e.Value, &p); err != nil {
		return scope{}, fmt.Errorf("its issuing distribution point cannot be read: %w", err)
	}
	names, err := p.Name.names(l.RawIssuer)
	if err != nil {
		return scope{}, fmt.Errorf("its issuing distribution point %w", err)
	}
	return scope{names: names, onlyUsers: p.OnlyUsers, onlyCAs: p.OnlyCAs, onlyAttributes: p.OnlyAttributes,
		indirect: p.Indirect, reasons: readReasons(p.OnlySome)}, nil
}

// point is where a certificate says that its list is (RFC 5280 4.2.1.13).
type point struct {
	names   [][]byte // GeneralNames in DER
	issuers [][]byte // of the list, where it is not the certificate's: GeneralNames in DER
	http    bool     // one of the names is an http URL, which the service fetches
	reasons reasons
}

func readPoints(c *x509.Certificate) ([]point, error) {
	e := extension(c.Extensions, oidDistributionPoints)
	if e == nil {
		return nil, nil
	}
	var list []struct {
		Name    pointName       `asn1:"optional,tag:0"`
		Reasons asn1.BitString  `asn1:"optional,tag:1"`
		Issuer  []asn1.RawValue `asn1:"optional,tag:2"`
	}
	if err := unmarshalDER(e.Value, &list); err != nil {
		return nil, fmt.Errorf("its CRL distribution points cannot be read: %w", err)
	}
	var points []point
	for _, d := range list {
		p := point{issuers: rawValues(d.Issuer), reasons: readReasons(d.Reasons)}
		issuer := c.RawIssuer
		if len(d.Issuer) > 0 && d.Issuer[0].Class == asn1.ClassContextSpecific && d.Issuer[0].Tag == tagDirectoryName {
			issuer = d.Issuer[0].Bytes
		}
		var err error
		if p.names, err = d.Name.names(issuer); err != nil {
			return nil, fmt.Errorf("its CRL distribution point %w", err)
		}
		for _, n := range d.Name.FullName {
			if n.Class == asn1.ClassContextSpecific && n.Tag == tagURI && strings.HasPrefix(strings.ToLower(string(n.Bytes)), "http") {
				p.http = true
			}
		}
		points = append(points, p)
	}
	return points, nil
}

// covers tells for which reasons a list is the one at one of the points of a
// certificate; 0: it is not (RFC 5280 6.3.3).
func (l *list) covers(c *listed, points []point) reasons {
	s := &l.scope
	switch {
	case s.onlyAttributes, s.onlyUsers && c.cert.IsCA, s.onlyCAs && !c.cert.IsCA:
		return 0
	}
	own := l.issuer == c.issuer
	if !own && !s.indirect {
		return 0
	}
	var found reasons
	for i := range points {
		p := &points[i]
		at := p.names
		if len(p.issuers) > 0 {
			if !overlap(p.issuers, [][]byte{directoryName(l.crl.RawIssuer)}) {
				continue
			}
			if len(at) == 0 {
				at = p.issuers
			}
		} else if !own {
			continue
		}
		if s.names == nil || overlap(s.names, at) {
			found |= s.reasons & p.reasons
		}
	}
	return found
}

func overlap(a, b [][]byte) bool {
	return slices.ContainsFunc(a, func(x []byte) bool {
		return slices.ContainsFunc(b, func(y []byte) bool { return bytes.Equal(x, y) })
	})
}
