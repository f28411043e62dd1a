package cms

import (
	"crypto"
	"crypto/rsa"
	_ "crypto/sha256" // of algorithms
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"math/big"

	"go.mozilla.org/pkcs7"
)

// algorithms are the digests that are accepted, with what signs by them: RFC 5754 2,
// 3.2 and 3.3.
var algorithms = map[crypto.Hash]struct{ digest, rsa, ecdsa asn1.ObjectIdentifier }{
	crypto.SHA256: {pkcs7.OIDDigestAlgorithmSHA256, pkcs7.OIDEncryptionAlgorithmRSASHA256, pkcs7.OIDDigestAlgorithmECDSASHA256},
	crypto.SHA384: {pkcs7.OIDDigestAlgorithmSHA384, pkcs7.OIDEncryptionAlgorithmRSASHA384, pkcs7.OIDDigestAlgorithmECDSASHA384},
	crypto.SHA512: {pkcs7.OIDDigestAlgorithmSHA512, pkcs7.OIDEncryptionAlgorithmRSASHA512, pkcs7.OIDDigestAlgorithmECDSASHA512},
}

// signature is a SignedData with one signer, as it was read.
type signature struct {
	content  []byte // aliases the input
	attached bool
	certs    []*x509.Certificate
	signer   signerInfo
}

// signerInfo is RFC 5652 5.3.
type signerInfo struct {
	issuer []byte // DER; nil: named by keyID
	serial *big.Int
	keyID  []byte
	digest algorithm
	attrs  attributeSet
	method algorithm
	value  []byte
}

// parse reads a ContentInfo with a SignedData (RFC 5652 3, 5.1). It parses nothing
// but certificates beyond their elements, and of those maxCertificates of MaxRest
// bytes in all. Every error is a *FormatError.
func parse(der []byte) (*signature, error) {
	if len(der) > MaxContent+MaxRest {
		return nil, formatErrorf("ContentInfo", 0, "%d bytes, wanted at most %d", len(der), MaxContent+MaxRest)
	}
	top := &reader{in: der}
	info, err := top.enter("ContentInfo", tagSequence)
	if err != nil {
		return nil, err
	}
	if err := top.end("ContentInfo"); err != nil {
		return nil, err
	}
	if err := info.oid("contentType", oidSignedData, "id-signedData"); err != nil {
		return nil, err
	}
	explicit, err := info.enter("content", tagContext0)
	if err != nil {
		return nil, err
	}
	if err := info.end("ContentInfo"); err != nil {
		return nil, err
	}
	sd, err := explicit.enter("SignedData", tagSequence)
	if err != nil {
		return nil, err
	}
	if err := explicit.end("content"); err != nil {
		return nil, err
	}

	s := &signature{}
	at := sd.at
	var version int
	if err := sd.value("version", tagInteger, &version); err != nil {
		return nil, err
	}
	if version != 1 && (version < 3 || version > 5) {
		return nil, formatErrorf("version", at, "%d, wanted 1, 3, 4 or 5", version)
	}
	if _, err := sd.take("digestAlgorithms", tagSet); err != nil {
		return nil, err
	}
	if err := s.readContent(sd); err != nil {
		return nil, err
	}
	if rest := len(der) - len(s.content); rest > MaxRest {
		return nil, formatErrorf("SignedData", at, "%d bytes beside the content, wanted at most %d", rest, MaxRest)
	}
	if sd.is(tagContext0) {
		if err := s.readCertificates(sd); err != nil {
			return nil, err
		}
	}
	if sd.is(tagContext1) { // revocation lists, which are not read
		if _, err := sd.take("crls", tagContext1); err != nil {
			return nil, err
		}
	}
	at = sd.at
	signers, err := sd.enter("signerInfos", tagSet)
	if err != nil {
		return nil, err
	}
	if err := sd.end("SignedData"); err != nil {
		return nil, err
	}
	if !signers.more() {
		return nil, formatErrorf("signerInfos", at, "no signer, wanted exactly one")
	}
	if err := s.signer.read(signers); err != nil {
		return nil, err
	}
	if signers.more() {
		return nil, formatErrorf("signerInfos", signers.at, "more than one signer, wanted exactly one")
	}
	return s, nil
}

// oid takes an OBJECT IDENTIFIER that must be a certain one.
func (r *reader) oid(field string, want asn1.ObjectIdentifier, name string) error {
	at := r.at
	var oid asn1.ObjectIdentifier
	if err := r.value(field, tagOID, &oid); err != nil {
		return err
	}
	if !oid.Equal(want) {
		return formatErrorf(field, at, "%v, wanted %s (%v)", oid, name, want)
	}
	return nil
}

// readContent reads the EncapsulatedContentInfo (RFC 5652 5.2).
func (s *signature) readContent(sd *reader) error {
	in, err := sd.enter("encapContentInfo", tagSequence)
	if err != nil {
		return err
	}
	if err := in.oid("eContentType", oidData, "id-data"); err != nil {
		return err
	}
	if !in.more() {
		return nil
	}
	explicit, err := in.enter("eContent", tagContext0)
	if err != nil {
		return err
	}
	octets, err := explicit.take("eContent", tagOctets)
	if err != nil {
		return err
	}
	s.content, s.attached = octets.Bytes, true
	if err := explicit.end("eContent"); err != nil {
		return err
	}
	return in.end("encapContentInfo")
}

// readCertificates reads a CertificateSet of X.509 certificates (RFC 5652 10.2.3).
func (s *signature) readCertificates(sd *reader) error {
	in, err := sd.enter("certificates", tagContext0)
	if err != nil {
		return err
	}
	for in.more() {
		if len(s.certs) == maxCertificates {
			return formatErrorf("certificates", in.at, "more than %d, wanted fewer", maxCertificates)
		}
		e, err := in.take("certificates", tagSequence)
		if err != nil {
			return err
		}
		cert, err := x509.ParseCertificate(e.FullBytes)
		if err != nil {
			return formatErrorf("certificates", e.at, "certificate %d is not one: %s", len(s.certs)+1, clip(err.Error(), 512))
		}
		if key, ok := cert.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxBits {
			return formatErrorf("certificates", e.at, "certificate %d has an RSA key of %d bits, wanted at most %d", len(s.certs)+1, key.N.BitLen(), maxBits)
		}
		s.certs = append(s.certs, cert)
	}
	return nil
}

func (s *signerInfo) read(signers *reader) error {
	in, err := signers.enter("SignerInfo", tagSequence)
	if err != nil {
		return err
	}
	at := in.at
	var version int
	if err := in.value("SignerInfo version", tagInteger, &version); err != nil {
		return err
	}
	want := 1
	if in.is(tagImplicit0) {
		want = 3
		e, err := in.take("subjectKeyIdentifier", tagImplicit0)
		if err != nil {
			return err
		}
		s.keyID = e.Bytes
	} else {
		sid, err := in.enter("issuerAndSerialNumber", tagSequence)
		if err != nil {
			return err
		}
		if s.issuer, s.serial, err = sid.issuerAndSerial("issuerAndSerialNumber"); err != nil {
			return err
		}
	}
	if version != want { // RFC 5652 5.3
		return formatErrorf("SignerInfo version", at, "%d, wanted %d for how the signer is named", version, want)
	}
	if s.digest, err = in.algorithm("digestAlgorithm"); err != nil {
		return err
	}
	if !in.is(tagContext0) {
		return formatErrorf("signedAttrs", in.at, "are missing: a signature over the content alone is not accepted")
	}
	attrs, err := in.take("signedAttrs", tagContext0)
	if err != nil {
		return err
	}
	if s.attrs, err = readAttributes(attrs); err != nil {
		return err
	}
	if s.method, err = in.algorithm("signatureAlgorithm"); err != nil {
		return err
	}
	if err := in.value("signature", tagOctets, &s.value); err != nil {
		return err
	}
	if in.is(tagContext1) { // not signed, so not read
		if _, err := in.take("unsignedAttrs", tagContext1); err != nil {
			return err
		}
	}
	return in.end("SignerInfo")
}

// issuerAndSerial reads a name and a serial number up to the end.
func (r *reader) issuerAndSerial(field string) (issuer []byte, serial *big.Int, err error) {
	name, err := r.take(field, tagSequence)
	if err != nil {
		return nil, nil, err
	}
	if err := r.value(field, tagInteger, &serial); err != nil {
		return nil, nil, err
	}
	return name.FullBytes, serial, r.end(field)
}
