package cms

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tlv writes one element of DER.
func tlv(identifier byte, parts ...[]byte) []byte {
	b := bytes.Join(parts, nil)
	head := must(asn1.Marshal(asn1.RawValue{Tag: 4, Bytes: b}))
	head[0] = identifier
	return head
}

func der(v any) []byte { return must(asn1.Marshal(v)) }

func oid(text string) []byte {
	var id asn1.ObjectIdentifier
	for part := range strings.SplitSeq(text, ".") {
		n, _ := new(big.Int).SetString(part, 10)
		id = append(id, int(n.Int64()))
	}
	return der(id)
}

const (
	sha256OID = "2.16.840.1.101.3.4.2.1"
	rsaOID    = "1.2.840.113549.1.1.1"
)

// parts are what a SignedData is put together from, with nothing of this package.
type parts struct {
	outer, version, digests, content, certs, crls []byte
	signerVersion, sid, digest                    []byte
	attrs                                         [][]byte
	unsorted, unsigned                            bool
	method, after                                 []byte // after: in the SignerInfo
	signers                                       int
	key                                           crypto.Signer
	trailing                                      []byte
	afterSigners, afterData, afterContent         []byte
}

func attribute(id string, values ...[]byte) []byte { return tlv(0x30, oid(id), tlv(0x31, values...)) }

// giant is as large as what would take a verifier's time.
var giant = &rsa.PublicKey{N: new(big.Int).SetBit(new(big.Int).Lsh(big.NewInt(1), 8192), 0, 1), E: 65537}

// plain is a certificate without extensions.
func plain(pub any) *x509.Certificate {
	template := &x509.Certificate{SerialNumber: big.NewInt(5), NotBefore: issued, NotAfter: issued.AddDate(1, 0, 0)}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, pub, rsaKey()))))
}

// sound are the parts of a signature that is right.
func sound(cert *x509.Certificate) *parts {
	sum := digestOf(text)
	return &parts{
		outer: oid("1.2.840.113549.1.7.2"), version: der(1), digests: tlv(0x31, tlv(0x30, oid(sha256OID))),
		content: tlv(0x30, oid("1.2.840.113549.1.7.1"), tlv(0xa0, tlv(4, text))), certs: tlv(0xa0, cert.Raw),
		signerVersion: der(1), sid: tlv(0x30, cert.RawIssuer, der(cert.SerialNumber)), digest: tlv(0x30, oid(sha256OID)),
		attrs: [][]byte{
			attribute("1.2.840.113549.1.9.3", oid("1.2.840.113549.1.7.1")),
			attribute("1.2.840.113549.1.9.4", tlv(4, sum)),
			attribute("1.2.840.113549.1.9.5", der(signed)),
			attribute("1.2.840.113549.1.9.16.2.47", ess(tlv(4, digestOf(cert.Raw)), tlv(0x30, tlv(0x30, tlv(0xa4, cert.RawIssuer)), der(cert.SerialNumber)))),
		},
		method: tlv(0x30, oid(rsaOID), []byte{5, 0}), signers: 1, key: rsaKey(),
	}
}

func ess(id ...[]byte) []byte { return tlv(0x30, tlv(0x30, tlv(0x30, id...))) }

func (p *parts) signedAttrs() []byte {
	if !p.unsorted {
		slices.SortFunc(p.attrs, bytes.Compare)
	}
	return bytes.Join(p.attrs, nil)
}

func (p *parts) signerInfo() []byte {
	attrs := p.signedAttrs()
	value := must(p.key.Sign(rand.Reader, digestOf(tlv(0x31, attrs)), crypto.SHA256))
	if p.unsigned {
		return tlv(0x30, p.signerVersion, p.sid, p.digest, p.method, tlv(4, value))
	}
	return tlv(0x30, p.signerVersion, p.sid, p.digest, tlv(0xa0, attrs), p.method, tlv(4, value), p.after)
}

func (p *parts) der() []byte {
	sd := tlv(0x30, p.version, p.digests, p.content, p.certs, p.crls, tlv(0x31, bytes.Repeat(p.signerInfo(), p.signers)), p.afterSigners)
	return append(tlv(0x30, p.outer, tlv(0xa0, sd, p.afterData), p.afterContent), p.trailing...)
}

// replace puts another attribute in the place of the one of that type.
func (p *parts) replace(i int, with ...[]byte) { p.attrs = slices.Replace(p.attrs, i, i+1, with...) }

func asEither[A, B error](err error, a *A, b *B) bool { return errors.As(err, a) || errors.As(err, b) }

func TestForgeries(t *testing.T) {
	cert := certify(rsaKey())
	twin := certify(rsaKey()) // the same key and issuer, another serial number
	o := VerifyOptions{Roots: theCA().Roots(), Intermediates: pool(authorities()...), At: signed, RequireSigningCertificate: true}
	contentType, messageDigest, signingTime, essID := 0, 1, 2, 3
	timed := func(tag byte, s string) []byte { return attribute("1.2.840.113549.1.9.5", tlv(tag, []byte(s))) }
	id := func(b ...[]byte) []byte { return attribute("1.2.840.113549.1.9.16.2.47", ess(b...)) }
	hash := tlv(4, digestOf(cert.Raw))
	null := []byte{5, 0}

	for name, row := range map[string]struct {
		change func(*parts)
		says   string // empty: it is accepted
	}{
		"nothing changed":                          {func(p *parts) {}, ""},
		"signer by key identifier":                 {func(p *parts) { p.signerVersion, p.sid = der(3), tlv(0x80, cert.SubjectKeyId) }, ""},
		"sha256WithRSAEncryption":                  {func(p *parts) { p.method = tlv(0x30, oid("1.2.840.113549.1.1.11"), null) }, ""},
		"no parameters of the method":              {func(p *parts) { p.method = tlv(0x30, oid(rsaOID)) }, ""},
		"NULL parameters of the digest":            {func(p *parts) { p.digest = tlv(0x30, oid(sha256OID), null) }, ""},
		"revocation lists and unsigned attributes": {func(p *parts) { p.crls, p.after = tlv(0xa1, tlv(0x30)), tlv(0xa1, tlv(0x30)) }, ""},
		"an unknown attribute":                     {func(p *parts) { p.attrs = append(p.attrs, attribute("1.2.3", null, der(1))) }, ""},
		"the hash algorithm spelled out":           {func(p *parts) { p.replace(essID, id(tlv(0x30, oid(sha256OID)), hash)) }, ""},
		"a century back":                           {func(p *parts) { p.replace(signingTime, timed(23, "500101000000Z")) }, "signing_time: 1950-01-01T00:00:00Z"},

		"trailing bytes":                    {func(p *parts) { p.trailing = []byte{0, 0} }, "2 more bytes, wanted none"},
		"more after the signers":            {func(p *parts) { p.afterSigners = null }, "SignedData at byte"},
		"more after the SignedData":         {func(p *parts) { p.afterData = null }, "content at byte"},
		"more in the content info":          {func(p *parts) { p.afterContent = null }, "ContentInfo at byte"},
		"another content info":              {func(p *parts) { p.outer = oid("1.2.840.113549.1.7.1") }, "wanted id-signedData"},
		"version 2":                         {func(p *parts) { p.version = der(2) }, "version at byte"},
		"version too large":                 {func(p *parts) { p.version = tlv(2, bytes.Repeat([]byte{1}, 20)) }, "version at byte"},
		"digest algorithms of another type": {func(p *parts) { p.digests = tlv(0x30) }, "digestAlgorithms at byte 26: tag 0x30, wanted a SET"},
		"content in pieces":                 {func(p *parts) { p.content = tlv(0x30, oid("1.2.840.113549.1.7.1"), tlv(0xa0, tlv(0x24, tlv(4, text)))) }, "tag 0x24, wanted an OCTET STRING"},
		"two contents": {func(p *parts) {
			p.content = tlv(0x30, oid("1.2.840.113549.1.7.1"), tlv(0xa0, tlv(4, text), tlv(4, text)))
		}, "eContent at byte"},
		"more after the content":            {func(p *parts) { p.content = tlv(0x30, oid("1.2.840.113549.1.7.1"), tlv(0xa0, tlv(4, text)), null) }, "encapContentInfo at byte"},
		"no signer":                         {func(p *parts) { p.signers = 0 }, "no signer, wanted exactly one"},
		"two signers":                       {func(p *parts) { p.signers = 2 }, "more than one signer"},
		"an attribute certificate":          {func(p *parts) { p.certs = tlv(0xa0, tlv(0xa2)) }, "certificates at byte"},
		"a broken certificate":              {func(p *parts) { p.certs = tlv(0xa0, tlv(0x30, null)) }, "certificate 1 is not one"},
		"seventeen certificates":            {func(p *parts) { p.certs = tlv(0xa0, bytes.Repeat(cert.Raw, 17)) }, "more than 16"},
		"too much beside the content":       {func(p *parts) { p.crls = tlv(0xa1, make([]byte, MaxRest)) }, "beside the content, wanted at most 65536"},
		"version against the signer's name": {func(p *parts) { p.signerVersion = der(3) }, "SignerInfo version at byte"},
		"no signed attributes":              {func(p *parts) { p.unsigned = true }, "a signature over the content alone"},
		"more after the signature":          {func(p *parts) { p.after = null }, "SignerInfo at byte"},
		"attributes out of order":           {func(p *parts) { p.signedAttrs(); slices.Reverse(p.attrs); p.unsorted = true }, "not in the order of DER"},
		"an attribute that is not one":      {func(p *parts) { p.attrs = append(p.attrs, null) }, "signedAttrs at byte"},
		"an attribute without values":       {func(p *parts) { p.attrs = append(p.attrs, tlv(0x30, oid("1.2.3"))) }, "signedAttrs at byte"},
		"an attribute with more":            {func(p *parts) { p.attrs = append(p.attrs, tlv(0x30, oid("1.2.3"), tlv(0x31), null)) }, "signedAttrs at byte"},

		"an endless type": {func(p *parts) {
			p.attrs = append(p.attrs, tlv(0x30, tlv(6, bytes.Repeat([]byte{1}, 30_000)), tlv(0x31)))
		}, "an OBJECT IDENTIFIER of 30000 bytes, wanted at most 64"},
		"no content type":              {func(p *parts) { p.replace(contentType) }, "no content type, wanted exactly one"},
		"two content types":            {func(p *parts) { p.attrs = append(p.attrs, attribute("1.2.840.113549.1.9.3", oid("1.2.3"))) }, "attribute 1.2.840.113549.1.9.3 is there twice"},
		"a content type of two values": {func(p *parts) { p.replace(contentType, attribute("1.2.840.113549.1.9.3", oid("1.2.3"), oid("1.2.4"))) }, "content type attribute at byte"},
		"a content type of no value":   {func(p *parts) { p.replace(contentType, attribute("1.2.840.113549.1.9.3")) }, "content type attribute at byte"},
		"a wrong content type":         {func(p *parts) { p.replace(contentType, attribute("1.2.840.113549.1.9.3", oid("1.2.3"))) }, "content_type: the attribute says 1.2.3"},

		"no message digest":   {func(p *parts) { p.replace(messageDigest) }, "no message digest, wanted exactly one"},
		"two message digests": {func(p *parts) { p.attrs = append(p.attrs, attribute("1.2.840.113549.1.9.4", tlv(4, []byte{1}))) }, "1.2.840.113549.1.9.4 is there twice"},
		"a message digest of two values": {func(p *parts) {
			p.replace(messageDigest, attribute("1.2.840.113549.1.9.4", tlv(4, digestOf(text)), tlv(4, []byte{1})))
		}, "message digest attribute at byte"},
		"a message digest of another": {func(p *parts) { p.replace(messageDigest, attribute("1.2.840.113549.1.9.4", tlv(4, digestOf(nil)))) }, "message_digest: the content's SHA-256 is"},
		"an endless message digest": {func(p *parts) {
			p.replace(messageDigest, attribute("1.2.840.113549.1.9.4", tlv(4, make([]byte, 30_000))))
		}, "0000…: it is other content"},
		"an empty message digest":         {func(p *parts) { p.replace(messageDigest, attribute("1.2.840.113549.1.9.4", tlv(4))) }, "message_digest: the content's SHA-256 is"},
		"a message digest that is no one": {func(p *parts) { p.replace(messageDigest, attribute("1.2.840.113549.1.9.4", null)) }, "message digest attribute at byte"},

		"a time of another type":    {func(p *parts) { p.replace(signingTime, timed(22, "210601093015Z")) }, "signing time attribute at byte"},
		"a time without seconds":    {func(p *parts) { p.replace(signingTime, timed(23, "2106010930Z")) }, "wanted 06MMDDhhmmssZ in UTC"},
		"a time with an offset":     {func(p *parts) { p.replace(signingTime, timed(23, "210601093015+0100")) }, "signing time attribute at byte"},
		"a time that is none":       {func(p *parts) { p.replace(signingTime, timed(23, "210231093015Z")) }, "signing time attribute at byte"},
		"a time with a fraction":    {func(p *parts) { p.replace(signingTime, timed(24, "20510601093015.5Z")) }, "signing time attribute at byte"},
		"generalized before 2050":   {func(p *parts) { p.replace(signingTime, timed(24, "20210601093015Z")) }, "wanted UTCTime"},
		"generalized after 2050":    {func(p *parts) { p.replace(signingTime, timed(24, "20510601093015Z")) }, ""},
		"a time after its validity": {func(p *parts) { p.replace(signingTime, timed(24, "20990601093015Z")) }, "signing_time: 2099-06-01T09:30:15Z, and the certificate is valid from 2021-03-01"},

		"no signing certificate":        {func(p *parts) { p.replace(essID) }, "signing_certificate: the attribute is not there"},
		"the signing certificate twice": {func(p *parts) { p.attrs = append(p.attrs, id(hash)) }, "is there twice"},
		"of another certificate":        {func(p *parts) { p.replace(essID, id(tlv(4, digestOf(twin.Raw)))) }, "names another certificate"},
		"of another serial number":      {func(p *parts) { p.replace(essID, id(hash, tlv(0x30, tlv(0x30, tlv(0xa4, cert.RawIssuer)), der(1)))) }, "by issuer and serial number"},
		"of another issuer": {func(p *parts) {
			p.replace(essID, id(hash, tlv(0x30, tlv(0x30, tlv(0xa4, cert.RawSubject)), der(cert.SerialNumber))))
		}, "by issuer and serial number"},
		"with an issuer of another form": {func(p *parts) { p.replace(essID, id(hash, tlv(0x30, tlv(0x30, tlv(0x82)), der(1)))) }, "wanted a directoryName"},
		"with two issuers": {func(p *parts) {
			p.replace(essID, id(hash, tlv(0x30, tlv(0x30, tlv(0xa4, cert.RawIssuer), tlv(0xa4, cert.RawIssuer)), der(1))))
		}, "signing-certificate-v2 attribute at byte"},
		"with two names in one": {func(p *parts) {
			p.replace(essID, id(hash, tlv(0x30, tlv(0x30, tlv(0xa4, cert.RawIssuer, cert.RawIssuer)), der(1))))
		}, "signing-certificate-v2 attribute at byte"},
		"with more than a serial number": {func(p *parts) {
			p.replace(essID, id(hash, tlv(0x30, tlv(0x30, tlv(0xa4, cert.RawIssuer)), der(1), der(2))))
		}, "signing-certificate-v2 attribute at byte"},
		"with more than an IssuerSerial": {func(p *parts) {
			p.replace(essID, id(hash, tlv(0x30, tlv(0x30, tlv(0xa4, cert.RawIssuer)), der(1)), null))
		}, "signing-certificate-v2 attribute at byte"},
		"by SHA-1":                            {func(p *parts) { p.replace(essID, id(tlv(0x30, oid("1.3.14.3.2.26")), tlv(4, make([]byte, 20)))) }, "signing_certificate: digest 1.3.14.3.2.26"},
		"a signing certificate of nothing":    {func(p *parts) { p.replace(essID, attribute("1.2.840.113549.1.9.16.2.47", tlv(0x30, tlv(0x30)))) }, "is missing"},
		"a signing certificate of other form": {func(p *parts) { p.replace(essID, attribute("1.2.840.113549.1.9.16.2.47", null)) }, "wanted a SEQUENCE"},

		"no certificate":        {func(p *parts) { p.certs = nil }, "none of the 0 certificates is the signer's"},
		"another certificate":   {func(p *parts) { p.certs = tlv(0xa0, twin.Raw) }, "none of the 1 certificates is the signer's"},
		"the certificate twice": {func(p *parts) { p.certs = tlv(0xa0, cert.Raw, cert.Raw) }, "2 certificates are named as the signer's, wanted one"},
		"two of one key identifier": {func(p *parts) {
			p.signerVersion, p.sid, p.certs = der(3), tlv(0x80, cert.SubjectKeyId), tlv(0xa0, cert.Raw, twin.Raw)
		}, "2 certificates are named"},
		"no key identifier": {func(p *parts) { p.signerVersion, p.sid = der(3), tlv(0x80) }, "none of the 1 certificates"},
		"another key":       {func(p *parts) { p.key = otherKey() }, "signature: it does not verify with the key of certificate"},
		"the twin's name, the same key": {func(p *parts) {
			p.certs, p.sid = tlv(0xa0, twin.Raw), tlv(0x30, twin.RawIssuer, der(twin.SerialNumber))
		}, "signing_certificate: it names another certificate than " + serialOf(twin)},
		"another issuer's name": {func(p *parts) { p.sid = tlv(0x30, cert.RawSubject, der(cert.SerialNumber)) }, "none of the 1 certificates"},
		"no key identifier on both sides": {func(p *parts) {
			p.signerVersion, p.sid, p.certs = der(3), tlv(0x80), tlv(0xa0, plain(rsaKey().Public()).Raw)
		}, "none of the 1 certificates"},
		"a giant key beside":              {func(p *parts) { p.certs = tlv(0xa0, cert.Raw, plain(giant).Raw) }, "certificate 2 has an RSA key of 8193 bits, wanted at most 8192"},
		"a method that is for other keys": {func(p *parts) { p.method = tlv(0x30, oid("1.2.840.10045.4.3.2")) }, "key: a key of type RSA, and the signature is of type ECDSA"},
		"a method of another digest":      {func(p *parts) { p.method = tlv(0x30, oid("1.2.840.113549.1.1.13"), null) }, "algorithms: digest " + sha256OID},
		"a digest that is none":           {func(p *parts) { p.digest = tlv(0x30, oid("1.2.3")) }, "algorithms: digest 1.2.3"},
		"parameters of the digest":        {func(p *parts) { p.digest = tlv(0x30, oid(sha256OID), der(1)) }, "algorithms: digest"},
		"parameters of the method":        {func(p *parts) { p.method = tlv(0x30, oid(rsaOID), der(1)) }, "algorithms: digest"},
		"two parameters":                  {func(p *parts) { p.method = tlv(0x30, oid(rsaOID), null, null) }, "signatureAlgorithm at byte"},
	} {
		t.Run(name, func(t *testing.T) {
			p := sound(cert)
			row.change(p)
			r, err := Verify(p.der(), o)
			if row.says == "" {
				require.NoError(t, err)
				assert.Equal(t, text, r.Content)
				return
			}
			assert.ErrorContains(t, err, row.says)
			assert.Less(t, len(err.Error()), 1000)
			var fe *FormatError
			var ce *CheckError
			assert.True(t, asEither(err, &fe, &ce), "%T", err)
			if ce == nil {
				assert.Nil(t, r)
				return
			}
			require.NotNil(t, r)
			assert.Nil(t, r.Content, "nothing of what is refused")
		})
	}
}

func TestBytesThatAreNoCMS(t *testing.T) {
	whole := sound(certify(rsaKey())).der()
	o := VerifyOptions{Certificate: certify(rsaKey())}
	rows := map[string]struct {
		in   []byte
		says string
	}{
		"nothing":                    {nil, "ContentInfo at byte 0: is missing"},
		"one byte":                   {[]byte{0x30}, "ContentInfo at byte 0: not DER: "},
		"text":                       {[]byte("-----BEGIN CMS-----"), "tag 0x2d, wanted a SEQUENCE"},
		"a length in too many bytes": {[]byte{0x30, 0x81, 0x05, 0, 0, 0, 0, 0}, "not DER: "},
		"a length of five bytes":     {[]byte{0x30, 0x85, 1, 0, 0, 0, 0}, "not DER: "},
		"a length that is not there": {[]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff}, "not DER: "},
		"an empty sequence":          {[]byte{0x30, 0}, "contentType at byte 2: is missing"},
		"too large":                  {make([]byte, MaxContent+MaxRest+1), "16842753 bytes, wanted at most 16842752"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			r, err := Verify(row.in, o)
			var fe *FormatError
			require.ErrorAs(t, err, &fe)
			assert.ErrorContains(t, err, row.says)
			assert.Nil(t, r)
		})
	}
	t.Run("cut off anywhere", func(t *testing.T) {
		for n := range whole {
			_, err := Verify(whole[:n], o)
			var fe *FormatError
			require.ErrorAs(t, err, &fe, "%d bytes", n)
		}
	})
}

// What the library follows to any depth, in quadratic time (400 KB take it 15 s)
// until the stack overflows, which nothing can catch: refused at the first byte.
func TestNestedIndefiniteLengths(t *testing.T) {
	for _, n := range []int{16, 200_000, 2_000_000} {
		deep := bytes.Repeat([]byte{0x30, 0x80}, n)
		inside := sound(certify(rsaKey()))
		for name, in := range map[string][]byte{
			"alone":           deep,
			"closed":          append(bytes.Clone(deep), make([]byte, 2*n)...),
			"in a SignedData": tlv(0x30, inside.outer, tlv(0xa0, deep)),
		} {
			_, err := Verify(in, VerifyOptions{Certificate: certify(rsaKey())})
			assert.ErrorContains(t, err, "an indefinite length, wanted DER", "%s, %d", name, n)
		}
		if len(deep) < MaxRest/2 { // where nothing is read, nothing is followed
			inside.crls = tlv(0xa1, deep)
			r, err := Verify(inside.der(), VerifyOptions{PublicKey: certify(rsaKey()).RawSubjectPublicKeyInfo})
			require.NoError(t, err)
			assert.Equal(t, text, r.Content)
		}
	}
}

// Definite lengths nested as deep as they go.
func TestNestedDefiniteLengths(t *testing.T) {
	deep := []byte{}
	for len(deep) < MaxRest/2 {
		deep = tlv(0x30, deep)
	}
	p := sound(certify(rsaKey()))
	p.attrs = append(p.attrs, attribute("1.2.3", deep))
	_, err := Verify(p.der(), VerifyOptions{PublicKey: certify(rsaKey()).RawSubjectPublicKeyInfo})
	assert.NoError(t, err)
	_, err = Verify(deep, VerifyOptions{})
	assert.ErrorContains(t, err, "contentType at byte")
}

func TestASignatureOverEmptyContent(t *testing.T) {
	p := sound(certify(rsaKey()))
	p.content = tlv(0x30, oid("1.2.840.113549.1.7.1"), tlv(0xa0, tlv(4)))
	p.replace(1, attribute("1.2.840.113549.1.9.4", tlv(4, digestOf(nil))))
	o := VerifyOptions{PublicKey: certify(rsaKey()).RawSubjectPublicKeyInfo, At: time.Time{}}
	r, err := Verify(p.der(), o)
	require.NoError(t, err)
	assert.True(t, r.Attached)
	assert.Equal(t, []byte{}, r.Content, "empty, not missing")
	p.content = tlv(0x30, oid("1.2.840.113549.1.7.1"))
	_, err = Verify(p.der(), o)
	assert.ErrorContains(t, err, "was not given")
	o.Content = []byte{}
	_, err = Verify(p.der(), o)
	assert.NoError(t, err)
}
