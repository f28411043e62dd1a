package cms

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"time"

	"go.mozilla.org/pkcs7"
)

var (
	// RFC 5652 4, 5.1, 11.
	oidData          = pkcs7.OIDData
	oidSignedData    = pkcs7.OIDSignedData
	oidContentType   = pkcs7.OIDAttributeContentType
	oidMessageDigest = pkcs7.OIDAttributeMessageDigest
	oidSigningTime   = pkcs7.OIDAttributeSigningTime
	// RFC 5035 3.
	oidSigningCertificateV2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}
)

// signingCertificateV2 is RFC 5035 3 as it is written here: one ESSCertIDv2 (section
// 4) by SHA-256, which is the default, so that DER leaves the algorithm out. Issuer
// and serial number, optional there, name the signer already and are in the hash.
type signingCertificateV2 struct {
	Certs []essCertIDv2
}

type essCertIDv2 struct {
	CertHash []byte
}

// attributes returns the DER of the signed attributes, in the form that is signed:
// with the tag of a SET OF (RFC 5652 5.4).
func (c *Content) attributes(cert *x509.Certificate, at time.Time) ([]byte, error) {
	if err := c.Accepts(cert); err != nil {
		return nil, err
	}
	sd, err := c.signedData(cert, at)
	if err != nil {
		return nil, err
	}
	return asn1.MarshalWithParams(sd.GetSignedData().SignerInfos[0].AuthenticatedAttributes, "set")
}

// signedData makes a SignedData over c in which only the signature is not right: it
// is a throw-away key's.
func (c *Content) signedData(cert *x509.Certificate, at time.Time) (*pkcs7.SignedData, error) {
	sd, err := pkcs7.NewSignedData(c.content)
	if err != nil {
		return nil, err
	}
	sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	before, after := around(cert, c.extra)
	for _, x := range before {
		sd.AddCertificate(x)
	}
	hash := sha256.Sum256(cert.Raw)
	if err := sd.AddSigner(cert, key, pkcs7.SignerInfoConfig{ExtraSignedAttributes: []pkcs7.Attribute{
		{Type: oidSigningCertificateV2, Value: signingCertificateV2{[]essCertIDv2{{hash[:]}}}},
	}}); err != nil {
		return nil, err
	}
	for _, x := range after {
		sd.AddCertificate(x)
	}

	// The digest is the library's own of what it holds, the time that of its clock. A
	// set is ordered by the lengths first, and no time is as long as the next member.
	si := &sd.GetSignedData().SignerInfos[0]
	for i, a := range si.AuthenticatedAttributes {
		var value any
		switch {
		case a.Type.Equal(oidMessageDigest):
			value = c.digest[:]
		case a.Type.Equal(oidSigningTime):
			value = at.UTC() // UTCTime until 2049, GeneralizedTime after (RFC 5652 11.3)
		default:
			continue
		}
		b, err := asn1.Marshal(value)
		if err != nil {
			return nil, err
		}
		si.AuthenticatedAttributes[i].Value.Bytes = b
	}
	if _, ok := cert.PublicKey.(*rsa.PublicKey); ok { // else ecdsa-with-SHA256 stays
		si.DigestEncryptionAlgorithm = pkix.AlgorithmIdentifier{Algorithm: pkcs7.OIDEncryptionAlgorithmRSA, Parameters: asn1.NullRawValue}
	}
	return sd, nil
}

// around returns what goes before and after a signer's certificate in a SET OF,
// which DER keeps in order (X.690 11.6), each certificate once.
func around(cert *x509.Certificate, extra []*x509.Certificate) (before, after []*x509.Certificate) {
	order := func(a, b *x509.Certificate) int { return bytes.Compare(a.Raw, b.Raw) }
	list := append(slices.Clone(extra), cert)
	slices.SortFunc(list, order)
	list = slices.CompactFunc(list, (*x509.Certificate).Equal)
	i := slices.IndexFunc(list, cert.Equal)
	return list[:i], list[i+1:]
}
