package eps

import (
	"bytes"
	"crypto"
	_ "crypto/sha1"   // RS1
	_ "crypto/sha256" // RS256
	"encoding/base64"
	"errors"
	"fmt"
)

// Algorithm is what a $prepare answer wants the SignedInfo signed with. The zero
// Algorithm is none.
type Algorithm int

const (
	// RS256 is RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 8.2, RFC 6931 2.3.2). It
	// is what the service asks for unless told otherwise.
	RS256 Algorithm = iota + 1
	// RS1 is RSASSA-PKCS1-v1_5 with SHA-1 (RFC 8017 8.2, XML-DSig 1.1 6.4.2), which
	// the service still asks some applications for and still verifies.
	RS1
)

// String returns the name as the answer's algorithm parameter spells it: RS256 or
// RS1.
func (a Algorithm) String() string {
	if m, ok := methods[a]; ok {
		return m.name
	}
	return fmt.Sprintf("algorithm %d", int(a))
}

// dsig is the namespace of XML-DSig, excC14N the method that both the SignedInfo
// and the fragments are made canonical with (Exclusive XML Canonicalization 1.0).
const (
	dsig    = "http://www.w3.org/2000/09/xmldsig#"
	excC14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
)

// method is what an Algorithm means in a SignedInfo.
type method struct {
	name            string
	hash            crypto.Hash
	signatureMethod string
	digestMethod    string
	head, tail      []byte // the canonical SignedInfo before and after the digest
}

var methods = map[Algorithm]*method{
	RS256: newMethod("RS256", crypto.SHA256,
		"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", "http://www.w3.org/2001/04/xmlenc#sha256"),
	RS1: newMethod("RS1", crypto.SHA1,
		"http://www.w3.org/2000/09/xmldsig#rsa-sha1", "http://www.w3.org/2000/09/xmldsig#sha1"),
}

const (
	signedInfoOpen      = `<SignedInfo xmlns="` + dsig + `">`
	signedInfoOpenChild = `<SignedInfo>`
	signedInfoTail      = `</DigestValue></Reference></SignedInfo>`
)

// newMethod spells out the SignedInfo. The service compares the whole of it with
// the one it rebuilds, so there is one spelling: one line, start and end tags for
// empty elements, and a Reference without URI.
func newMethod(name string, h crypto.Hash, signatureMethod, digestMethod string) *method {
	return &method{
		name: name, hash: h, signatureMethod: signatureMethod, digestMethod: digestMethod,
		head: []byte(signedInfoOpen +
			`<CanonicalizationMethod Algorithm="` + excC14N + `"></CanonicalizationMethod>` +
			`<SignatureMethod Algorithm="` + signatureMethod + `"></SignatureMethod>` +
			`<Reference><Transforms><Transform Algorithm="` + excC14N + `"></Transform></Transforms>` +
			`<DigestMethod Algorithm="` + digestMethod + `"></DigestMethod><DigestValue>`),
		tail: []byte(signedInfoTail),
	}
}

// algorithmNamed finds an Algorithm by its name in an answer.
func algorithmNamed(name string) (Algorithm, bool) {
	for a, m := range methods {
		if m.name == name {
			return a, true
		}
	}
	return 0, false
}

// SignedInfo writes the canonical SignedInfo (XML-DSig 1.1 4.4, Exclusive XML
// Canonicalization 1.0) of an EPS signature: the bytes that a $prepare answer
// carries in its digest parameter, base64-encoded, and that the card signs.
// digest is the hash of the prescription's canonical fragments, 32 bytes for
// RS256 and 20 for RS1; another length or another Algorithm is an error. Tests
// and simulators make answers with it; ParsePrepared accepts nothing else.
func SignedInfo(a Algorithm, digest []byte) ([]byte, error) {
	m, ok := methods[a]
	if !ok {
		return nil, fmt.Errorf("eps: %v is not an algorithm of the service, wanted RS256 or RS1", a)
	}
	if len(digest) != m.hash.Size() {
		return nil, fmt.Errorf("eps: a digest of %d bytes, wanted the %d of %v for %v", len(digest), m.hash.Size(), m.hash, a)
	}
	b := bytes.Clone(m.head)
	b = base64.StdEncoding.AppendEncode(b, digest)
	return append(b, m.tail...), nil
}

// digestIn returns the digest in d if d is, byte for byte, a SignedInfo that the
// function SignedInfo writes for a.
func digestIn(a Algorithm, d []byte) ([]byte, bool) {
	m := methods[a]
	d, begins := bytes.CutPrefix(d, m.head)
	d, ends := bytes.CutSuffix(d, m.tail)
	if !begins || !ends {
		return nil, false
	}
	digest, _, err := strictBase64(string(d))
	return digest, err == nil && len(digest) == m.hash.Size()
}

// strictBase64 decodes the padded standard alphabet (RFC 4648 4) without white
// space and with zero trailing bits (3.5), so that each value has one spelling.
// On an error the int is the byte of s where it is.
func strictBase64(s string) ([]byte, int, error) {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '+', c == '/', c == '=':
		case c == ' ', c == '\t', c == '\r', c == '\n':
			return nil, i, fmt.Errorf("white space at byte %d, wanted none", i)
		default:
			return nil, i, fmt.Errorf("%s at byte %d", excerpt(s[i:i+1]), i)
		}
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err == nil {
		return b, 0, nil
	}
	off := len(s)
	var corrupt base64.CorruptInputError
	if errors.As(err, &corrupt) {
		off = min(int(corrupt), len(s))
	}
	switch _, loose := base64.StdEncoding.DecodeString(s); {
	case loose == nil:
		return nil, off, fmt.Errorf("its trailing bits at byte %d are not zero", off)
	case len(s)%4 != 0:
		return nil, off, fmt.Errorf("%d characters, wanted a multiple of four, padded with =", len(s))
	}
	return nil, off, fmt.Errorf("misplaced padding at byte %d", off)
}
