package eps

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"slices"
)

// Signed is a signature over a $prepare answer that was verified and put into its
// XML. Only Finish makes one, so the zero Signed holds nothing. A Signed does not
// change and may be used by several goroutines; what its methods return is the
// caller's, apart from the certificate, which must not be changed.
type Signed struct {
	xml        []byte
	signedInfo []byte
	value      []byte
	cert       *x509.Certificate
	checks     []Check
	timestamp  string
}

// writeSignature writes the Signature element (XML-DSig 1.1 4.2) around the bytes
// that were signed. Inside it SignedInfo inherits the namespace, so its own
// declaration goes, and exclusive canonicalisation of it gives the signed bytes
// again; nothing else of it is touched. Base64 is without white space, and there
// is exactly one certificate.
func writeSignature(signedInfo, value, der []byte) []byte {
	b := make([]byte, 0, len(signedInfo)+2*(len(value)+len(der))+256)
	b = append(b, `<Signature xmlns="`+dsig+`">`+signedInfoOpenChild...)
	b = append(b, signedInfo[len(signedInfoOpen):]...)
	b = append(b, `<SignatureValue>`...)
	b = base64.StdEncoding.AppendEncode(b, value)
	b = append(b, `</SignatureValue><KeyInfo><X509Data><X509Certificate>`...)
	b = base64.StdEncoding.AppendEncode(b, der)
	return append(b, `</X509Certificate></X509Data></KeyInfo></Signature>`...)
}

// XML returns the XML-DSig Signature, in UTF-8, on one line, without XML
// declaration. Its base64 is the data of the Provenance's signature.
func (s *Signed) XML() []byte {
	if s == nil {
		return nil
	}
	return bytes.Clone(s.xml)
}

// SignedInfo returns exactly the bytes that were signed: what
// "openssl dgst -verify" takes together with SignatureValue.
func (s *Signed) SignedInfo() []byte {
	if s == nil {
		return nil
	}
	return bytes.Clone(s.signedInfo)
}

// SignatureValue returns the raw RSASSA-PKCS1-v1_5 signature.
func (s *Signed) SignatureValue() []byte {
	if s == nil {
		return nil
	}
	return bytes.Clone(s.value)
}

// Certificate returns the certificate whose key signed; nil of the zero Signed.
func (s *Signed) Certificate() *x509.Certificate {
	if s == nil {
		return nil
	}
	return s.cert
}

// Checks returns all nine checks of the national service in its order: those that
// could be decided passed, the others say why they could not be.
func (s *Signed) Checks() []Check {
	if s == nil {
		return nil
	}
	return slices.Clone(s.checks)
}
