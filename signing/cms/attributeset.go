package cms

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"errors"
	"math/big"
	"time"
)

// attributeSet is what the signed attributes say.
type attributeSet struct {
	der           []byte // as it is signed: a SET OF, RFC 5652 5.4
	contentType   asn1.ObjectIdentifier
	messageDigest []byte
	signingTime   time.Time // zero: there is none
	certificate   *certID   // nil: there is no signing-certificate-v2
}

// certID is the first ESSCertIDv2, which names the signer's certificate (RFC 5035 4).
type certID struct {
	hash   algorithm
	digest []byte
	issuer []byte // DER; nil: there is no issuerSerial
	serial *big.Int
}

// readAttributes reads signed attributes, which are a SET OF in DER whatever their
// tag is (RFC 5652 5.3). Those that it does not know, it passes over.
func readAttributes(set element) (attributeSet, error) {
	a := attributeSet{der: bytes.Clone(set.FullBytes)}
	a.der[0] = tagSet
	seen := make(map[string]bool)
	var before []byte
	for in := set.inside(); in.more(); {
		e, err := in.take("signedAttrs", tagSequence)
		if err != nil {
			return a, err
		}
		if bytes.Compare(before, e.FullBytes) >= 0 { // X.690 11.6
			return a, formatErrorf("signedAttrs", e.at, "not in the order of DER, or twice the same")
		}
		before = e.FullBytes
		attr := e.inside()
		var oid asn1.ObjectIdentifier
		if err := attr.value("signedAttrs", tagOID, &oid); err != nil {
			return a, err
		}
		if seen[oid.String()] {
			return a, formatErrorf("signedAttrs", e.at, "attribute %v is there twice, wanted it once", oid)
		}
		seen[oid.String()] = true
		switch {
		case oid.Equal(oidContentType):
			err = a.readContentType(attr)
		case oid.Equal(oidMessageDigest):
			err = a.readMessageDigest(attr)
		case oid.Equal(oidSigningTime):
			err = a.readSigningTime(attr)
		case oid.Equal(oidSigningCertificateV2):
			err = a.readCertificate(attr)
		default:
			_, err = attr.take("signedAttrs", tagSet)
		}
		if err != nil {
			return a, err
		}
		if err := attr.end("signedAttrs"); err != nil {
			return a, err
		}
	}
	switch {
	case !seen[oidContentType.String()]:
		return a, formatErrorf("signedAttrs", set.at, "no content type, wanted exactly one")
	case !seen[oidMessageDigest.String()]:
		return a, formatErrorf("signedAttrs", set.at, "no message digest, wanted exactly one")
	}
	return a, nil
}

// RFC 5652 11.1.
func (a *attributeSet) readContentType(attr *reader) error {
	e, err := attr.only("content type attribute")
	if err != nil {
		return err
	}
	return (&reader{e.FullBytes, e.at}).value("content type attribute", tagOID, &a.contentType)
}

// RFC 5652 11.2.
func (a *attributeSet) readMessageDigest(attr *reader) error {
	e, err := attr.only("message digest attribute")
	if err != nil {
		return err
	}
	return (&reader{e.FullBytes, e.at}).value("message digest attribute", tagOctets, &a.messageDigest)
}

// RFC 5652 11.3.
func (a *attributeSet) readSigningTime(attr *reader) error {
	e, err := attr.only("signing time attribute")
	if err != nil {
		return err
	}
	if a.signingTime, err = signingTimeOf(e.RawValue); err != nil {
		return formatErrorf("signing time attribute", e.at, "%v", err)
	}
	return nil
}

// RFC 5035 3 and 4. The policies are not read, nor the certificates after the
// first.
func (a *attributeSet) readCertificate(attr *reader) error {
	const field = "signing-certificate-v2 attribute"
	e, err := attr.only(field)
	if err != nil {
		return err
	}
	in, err := (&reader{e.FullBytes, e.at}).enter(field, tagSequence)
	if err != nil {
		return err
	}
	certs, err := in.enter(field, tagSequence)
	if err != nil {
		return err
	}
	first, err := certs.enter(field, tagSequence)
	if err != nil {
		return err
	}
	id := &certID{hash: algorithm{oid: algorithms[crypto.SHA256].digest, bare: true}}
	if first.is(tagSequence) {
		if id.hash, err = first.algorithm(field); err != nil {
			return err
		}
	}
	if err := first.value(field, tagOctets, &id.digest); err != nil {
		return err
	}
	if first.more() {
		is, err := first.enter(field, tagSequence)
		if err != nil {
			return err
		}
		if err := first.end(field); err != nil {
			return err
		}
		if id.issuer, id.serial, err = is.issuerSerial(field); err != nil {
			return err
		}
	}
	a.certificate = id
	return nil
}

// issuerSerial reads an IssuerSerial (RFC 5035 5) whose GeneralNames are the one
// name that a certificate's issuer has.
func (r *reader) issuerSerial(field string) (issuer []byte, serial *big.Int, err error) {
	names, err := r.enter(field, tagSequence)
	if err != nil {
		return nil, nil, err
	}
	directory, err := names.enter(field, tagDirectory)
	if err != nil {
		return nil, nil, err
	}
	if err := names.end(field); err != nil {
		return nil, nil, err
	}
	name, err := directory.take(field, tagSequence)
	if err != nil {
		return nil, nil, err
	}
	if err := directory.end(field); err != nil {
		return nil, nil, err
	}
	if err := r.value(field, tagInteger, &serial); err != nil {
		return nil, nil, err
	}
	return name.FullBytes, serial, r.end(field)
}

// signingTimeOf reads a signing time (RFC 5652 11.3): UTCTime for the years 1950 to
// 2049, else GeneralizedTime, in UTC with seconds and no fraction.
func signingTimeOf(v asn1.RawValue) (time.Time, error) {
	layout := ""
	switch {
	case v.Class != asn1.ClassUniversal || v.IsCompound:
	case v.Tag == asn1.TagUTCTime:
		layout = "060102150405Z"
	case v.Tag == asn1.TagGeneralizedTime:
		layout = "20060102150405Z"
	}
	if layout == "" {
		return time.Time{}, errors.New("is of another type, wanted UTCTime or GeneralizedTime")
	}
	t, err := time.Parse(layout, string(v.Bytes))
	if err != nil || t.Format(layout) != string(v.Bytes) {
		return time.Time{}, errors.New("found " + excerpt(v.Bytes) + ", wanted " + layout[:len(layout)-len("0102150405Z")] + "MMDDhhmmssZ in UTC")
	}
	if v.Tag == asn1.TagUTCTime && t.Year() >= 2050 { // 50 to 99 are of the last century, RFC 5652 11.3
		t = t.AddDate(-100, 0, 0)
	}
	if v.Tag == asn1.TagGeneralizedTime && t.Year() >= 1950 && t.Year() < 2050 {
		return time.Time{}, errors.New("is GeneralizedTime for a year until 2049, wanted UTCTime")
	}
	return t, nil
}
