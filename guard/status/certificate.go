package status

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
)

// ParseCertificate is x509.ParseCertificate, and also reads a certificate that that one
// refuses because a CRL distribution point's name is relative to the CRL issuer (RFC
// 5280 4.2.1.13), which crypto/x509 does not know. Its CRLDistributionPoints then has
// no URL; everything else, signature and path included, is as with any other. The
// certificate refers to der. Errors are those of crypto/x509.
func ParseCertificate(der []byte) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err == nil {
		return c, nil
	}
	if c, other := parseWithoutPoints(der); other == nil {
		return c, nil
	}
	return nil, fmt.Errorf("status: %w", err)
}

// parseWithoutPoints has crypto/x509 read the certificate without its distribution
// points, and puts the bytes that are signed and the extension back.
func parseWithoutPoints(der []byte) (*x509.Certificate, error) {
	in := reader{rest: der}
	outer, err := in.next(tagSequence, "a certificate")
	if err == nil {
		err = in.end("the certificate")
	}
	if err != nil {
		return nil, err
	}
	r := outer.inside()
	tbs, err := r.next(tagSequence, "the part that is signed")
	if err != nil {
		return nil, err
	}
	fields := tbs.inside()
	for !fields.empty() && !fields.is(tagContextOf|3, tagContextOf|3) {
		if _, err := fields.any("a field of the certificate"); err != nil {
			return nil, err
		}
	}
	before := tbs.body[:len(tbs.body)-len(fields.rest)]
	holder, err := fields.next(tagContextOf|3, "the extensions")
	if err == nil {
		err = fields.end("the part that is signed")
	}
	if err != nil {
		return nil, err
	}
	all, err := only(holder, tagSequence, "the extensions")
	if err != nil {
		return nil, err
	}
	var kept []byte
	var points []pkix.Extension
	for list := all.inside(); !list.empty(); {
		start := list.rest
		x, err := readExtension(&list)
		if err != nil {
			return nil, err
		}
		if x.name() == oidDistributionPoints.String() {
			points = append(points, pkix.Extension{Id: oidDistributionPoints, Critical: x.critical, Value: x.value.body})
		} else {
			kept = append(kept, start[:len(start)-len(list.rest)]...)
		}
	}
	if len(points) != 1 {
		return nil, errors.New("it has no distribution points, or has them twice")
	}
	extensions := wrap(tagContextOf|3, wrap(tagSequence, kept))
	if len(kept) == 0 {
		extensions = nil
	}
	c, err := x509.ParseCertificate(wrap(tagSequence, wrap(tagSequence, before, extensions), r.rest))
	if err != nil {
		return nil, err
	}
	c.Raw, c.RawTBSCertificate = der, tbs.full
	c.Extensions = append(c.Extensions, points...)
	_, err = readPoints(c)
	return c, err
}
