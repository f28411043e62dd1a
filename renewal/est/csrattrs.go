package est

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/rxguard/rxguard/renewal"
)

const csrAttrs = "csrattrs"

// Attributes asks what a request should carry (RFC 7030 4.5), and answers what of it a
// signing card can do: an RSA key of 2048, 3072 or 4096 bits, a hash of the SHA-2
// family, key usage and certificate policies. Status 204, 404 and 501, and an empty
// answer, are no wishes. What is not known is ignored, as the RFC demands.
//
// What the card cannot do is Rejected by name: another kind or size of key, another kind
// of signature, a key usage that is not for signing, and a request that is linked to its
// TLS connection (challengePassword, RFC 7030 3.5), which TLS 1.3 has no tls-unique for.
//
// Errors are an *renewal.EnrolError, or ctx's.
func (c *Client) Attributes(ctx context.Context, t *renewal.Transport) (renewal.Attributes, error) {
	a, err := c.exchange(ctx, t, http.MethodGet, csrAttrs, nil)
	if err != nil {
		var e *renewal.EnrolError
		if errors.As(err, &e) && slices.Contains([]int{http.StatusNoContent, http.StatusNotFound, http.StatusNotImplemented}, e.Status) {
			return renewal.Attributes{}, nil
		}
		return renewal.Attributes{}, err
	}
	if a.pending {
		return renewal.Attributes{}, a.malformed("the server asks to come back later, expected its CSR attributes now (RFC 7030 4.5.2)", nil)
	}
	w, err := parseAttributes(a.body)
	if err != nil {
		return renewal.Attributes{}, a.malformed("", err)
	}
	found, err := w.choose()
	if err != nil {
		return renewal.Attributes{}, &renewal.EnrolError{Kind: renewal.Rejected, Detail: a.what, Err: err}
	}
	return found, nil
}

// wishes are what this client knows of the attributes that a server sent.
type wishes struct {
	linked     bool     // to the TLS connection
	rsa        bool     // as a kind of key
	otherKeys  []string // kinds of key that a signing card does not have
	bits       []int    // of an RSA key; -1: a number that is no size
	signatures []x509.SignatureAlgorithm
	otherSigns []string // of an RSA key, that it does not make
	extensions []pkix.Extension
	noSigning  bool // a key usage without contentCommitment
}

// Contents of OBJECT IDENTIFIERs.
var (
	oidChallengePassword = encoded(1, 2, 840, 113549, 1, 9, 7)  // RFC 2985 5.4.1
	oidExtensionRequest  = encoded(1, 2, 840, 113549, 1, 9, 14) // RFC 2985 5.4.2
	oidRSA               = encoded(1, 2, 840, 113549, 1, 1, 1)  // RFC 8017 A.1
	oidKeyUsage          = encoded(2, 5, 29, 15)                // RFC 5280 4.2.1.3
	oidPolicies          = encoded(2, 5, 29, 32)                // RFC 5280 4.2.1.4

	otherKeys = map[string]string{
		encoded(1, 2, 840, 10045, 2, 1):    "id-ecPublicKey", // RFC 5480 2.1.1
		encoded(1, 2, 840, 10045, 4, 3, 2): "ecdsa-with-SHA256",
		encoded(1, 2, 840, 10045, 4, 3, 3): "ecdsa-with-SHA384",
		encoded(1, 2, 840, 10045, 4, 3, 4): "ecdsa-with-SHA512",
		encoded(1, 2, 840, 10040, 4, 1):    "id-dsa",
		encoded(1, 3, 101, 112):            "id-Ed25519", // RFC 8410 3
		encoded(1, 3, 101, 113):            "id-Ed448",
	}
	signatures = map[string]x509.SignatureAlgorithm{ // RFC 8017 A.2.4
		encoded(1, 2, 840, 113549, 1, 1, 11): x509.SHA256WithRSA,
		encoded(1, 2, 840, 113549, 1, 1, 12): x509.SHA384WithRSA,
		encoded(1, 2, 840, 113549, 1, 1, 13): x509.SHA512WithRSA,
	}
	otherSignatures = map[string]string{
		encoded(1, 2, 840, 113549, 1, 1, 4):  "md5WithRSAEncryption",
		encoded(1, 2, 840, 113549, 1, 1, 5):  "sha1WithRSAEncryption",
		encoded(1, 2, 840, 113549, 1, 1, 14): "sha224WithRSAEncryption",
		encoded(1, 2, 840, 113549, 1, 1, 10): "id-RSASSA-PSS",
	}
)

// encoded is the content of an OBJECT IDENTIFIER. Those of a server are compared, and
// never decoded: any may come.
func encoded(arcs ...int) string {
	der, err := asn1.Marshal(asn1.ObjectIdentifier(arcs))
	if err != nil {
		panic(err)
	}
	return string(der[2:])
}

// parseAttributes reads the body of an answer: base64 of CsrAttrs (RFC 7030 4.5.2, with
// the ASN.1 of RFC 8951 4), or nothing.
func parseAttributes(body []byte) (wishes, error) {
	if len(body) == 0 {
		return wishes{}, nil
	}
	der, err := decode(body, csrAttrsForm)
	if err != nil {
		return wishes{}, err
	}
	return parseCSRAttrs(der)
}

const (
	tagInteger  = 0x02
	tagOctets   = 0x04
	tagOID      = 0x06
	tagSequence = 0x30
	tagSet      = 0x31
)

// parseCSRAttrs reads CsrAttrs in DER: a SEQUENCE of object identifiers and attributes.
func parseCSRAttrs(b []byte) (w wishes, err error) {
	content, err := sequence(b, csrAttrsForm)
	if err != nil {
		return wishes{}, err
	}
	for _, e := range elements(content) {
		oid, values := e, []tlv(nil)
		if e.tag == tagSequence {
			parts := elements(e.content)
			if len(parts) != 2 || parts[0].tag != tagOID || parts[1].tag != tagSet {
				return wishes{}, errors.New("not CSR attributes: an attribute that is not a type and a SET of values")
			}
			oid, values = parts[0], elements(parts[1].content)
		}
		if oid.tag != tagOID {
			return wishes{}, fmt.Errorf("not CSR attributes: tag %#02x, expected an OBJECT IDENTIFIER or an attribute", e.tag)
		}
		if err := w.add(string(oid.content), values); err != nil {
			return wishes{}, err
		}
	}
	return w, nil
}

// elements lists what checkLengths has walked.
func elements(b []byte) (list []tlv) {
	for len(b) > 0 {
		e, rest, err := element(b)
		if err != nil {
			return list
		}
		list, b = append(list, e), rest
	}
	return list
}

// add takes one object identifier, with the values of its attribute.
func (w *wishes) add(oid string, values []tlv) error {
	if s, ok := signatures[oid]; ok {
		w.signatures, w.rsa = append(w.signatures, s), true
	}
	if name, ok := otherSignatures[oid]; ok {
		w.otherSigns = append(w.otherSigns, name)
	}
	if name, ok := otherKeys[oid]; ok {
		w.otherKeys = append(w.otherKeys, name)
	}
	switch oid {
	case oidChallengePassword:
		w.linked = true
	case oidRSA:
		w.rsa = true
		for _, v := range values {
			if v.tag == tagInteger { // the size of the modulus, RFC 9908
				w.bits = append(w.bits, number(v.content))
			}
		}
	case oidExtensionRequest:
		for _, v := range values {
			if err := w.addExtensions(v); err != nil {
				return err
			}
		}
	}
	return nil
}

// number is a small INTEGER; -1: another one.
func number(b []byte) int {
	if len(b) == 0 || len(b) > 3 || b[0] >= 0x80 {
		return -1
	}
	n := 0
	for _, x := range b {
		n = n<<8 | int(x)
	}
	return n
}

// addExtensions takes a value of an extensionRequest: Extensions (RFC 5280 4.1), or, as
// in the example of RFC 7030 4.5.2, the object identifier of one.
func (w *wishes) addExtensions(value tlv) error {
	if value.tag == tagOID {
		return w.addExtension([]tlv{value})
	}
	for _, e := range elements(value.content) {
		var err error
		switch {
		case value.tag != tagSequence:
		case e.tag == tagSequence:
			err = w.addExtension(elements(e.content))
		case e.tag == tagOID:
			err = w.addExtension([]tlv{e})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// addExtension takes one extension: its object identifier, whether it is critical, and
// its value. Of the same twice the first counts. Without a value only key usage is of
// use: what a signing certificate has, critical (RFC 5280 4.2.1.3).
func (w *wishes) addExtension(parts []tlv) error {
	if len(parts) == 0 || parts[0].tag != tagOID {
		return nil
	}
	var value []byte
	if last := parts[len(parts)-1]; last.tag == tagOctets {
		value = last.content
	}
	x := pkix.Extension{Critical: len(parts) == 3 && bytes.Equal(parts[1].content, []byte{0xff}), Value: value}
	switch oid := string(parts[0].content); {
	case oid == oidKeyUsage && len(value) == 0:
		x.Id, x.Critical, x.Value = asn1.ObjectIdentifier{2, 5, 29, 15}, true, []byte{0x03, 2, 6, 0x40} // contentCommitment
	case oid == oidKeyUsage:
		x.Id = asn1.ObjectIdentifier{2, 5, 29, 15}
		var bits asn1.BitString
		if rest, err := asn1.Unmarshal(value, &bits); err != nil || len(rest) > 0 {
			return errors.New("not CSR attributes: a key usage that is not a BIT STRING in DER")
		}
		w.noSigning = w.noSigning || bits.At(1) == 0
	case oid == oidPolicies && len(value) > 0:
		x.Id = asn1.ObjectIdentifier{2, 5, 29, 32}
		if _, err := sequence(value, form{name: "CSR attributes: certificate policies"}); err != nil {
			return err
		}
	default:
		return nil
	}
	if !slices.ContainsFunc(w.extensions, func(o pkix.Extension) bool { return o.Id.Equal(x.Id) }) {
		w.extensions = append(w.extensions, x)
	}
	return nil
}

// choose answers what a signing card does of the wishes, or which of them it cannot.
func (w wishes) choose() (a renewal.Attributes, err error) {
	const ways = "; ask the authority for a profile for signing cards, under a label of its own"
	switch {
	case w.linked:
		return a, errors.New("the authority wants the request linked to its TLS connection (challengePassword, RFC 7030 3.5), " +
			"but TLS 1.3 has no tls-unique, and a renewal sends the same request over several connections; ask the authority to do without")
	case len(w.otherKeys) > 0 && !w.rsa:
		return a, fmt.Errorf("the authority wants a key or signature of another kind, %s, expected rsaEncryption%s", strings.Join(w.otherKeys, ", "), ways)
	case w.noSigning:
		return a, errors.New("the authority wants a key usage without contentCommitment, which a signing certificate must have" + ways)
	case len(w.otherSigns) > 0 && len(w.signatures) == 0:
		return a, fmt.Errorf("the authority wants the request signed with %s, expected RSASSA-PKCS1-v1_5 with SHA-256, SHA-384 or SHA-512%s", strings.Join(w.otherSigns, ", "), ways)
	}
	if len(w.bits) > 0 {
		// A server may give several: the least of what cards make is what most of them do.
		sizes := []int{2048, 3072, 4096}
		i := slices.IndexFunc(sizes, func(n int) bool { return slices.Contains(w.bits, n) })
		if i < 0 {
			return a, fmt.Errorf("the authority wants an RSA key of %v bits, expected one of %v%s", w.bits, sizes, ways)
		}
		a.KeyBits = sizes[i]
	}
	if len(w.signatures) > 0 {
		a.Signature = w.signatures[0]
	}
	a.Extensions = w.extensions
	return a, nil
}
