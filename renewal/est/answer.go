package est

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	"go.mozilla.org/pkcs7"
)

const (
	// maxDepth is far more than certificates nest, and little for the recursion
	// below and in pkcs7.
	maxDepth = 32
	// maxRSA is crypto/tls's limit of RSA keys, for the same reason: to verify with
	// one that fills an answer takes seconds.
	maxRSA = 8192
)

// parseAnswer reads the body of an answer: base64 of a certs-only PKCS #7 (RFC 7030
// 4.1.3), with or without line breaks and other white space (RFC 8951 3.1).
func parseAnswer(body []byte) ([]*x509.Certificate, error) {
	der, err := decode(body, pkcs7Form)
	if err != nil {
		return nil, err
	}
	return parseCertsOnly(der)
}

// decode reads the base64 of an answer of this form.
func decode(body []byte, f form) ([]byte, error) {
	text := make([]byte, 0, len(body))
	for _, b := range body {
		if b != ' ' && b != '\t' && b != '\r' && b != '\n' {
			text = append(text, b)
		}
	}
	der, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return nil, fmt.Errorf("not base64, expected base64 of %s; the answer begins %q", f.name, excerpt(body))
	}
	return der, nil
}

// sequence answers what b, which must be one SEQUENCE in DER, holds. Its errors name
// the form that b was to be.
func sequence(b []byte, f form) ([]byte, error) {
	outer, rest, err := element(b)
	switch {
	case err != nil:
		return nil, fmt.Errorf("not %s: %w", f.name, err)
	case outer.tag != 0x30:
		return nil, fmt.Errorf("not %s: tag %#02x, expected a SEQUENCE", f.name, outer.tag)
	case len(rest) > 0:
		return nil, fmt.Errorf("%d bytes after the %s, expected none", len(rest), f.name)
	}
	// pkcs7 follows indefinite lengths in quadratic time and to any depth, and
	// elements that reach beyond their parents more than once.
	if err := checkLengths(outer.content, maxDepth); err != nil {
		return nil, fmt.Errorf("not %s: %w", f.name, err)
	}
	return outer.content, nil
}

// parseCertsOnly reads the certificates of a degenerate SignedData (RFC 5652 5), at
// least one, in DER. Its signers, content and revocation lists are not judged: each
// certificate stands on its own signature.
func parseCertsOnly(b []byte) ([]*x509.Certificate, error) {
	if _, err := sequence(b, pkcs7Form); err != nil {
		return nil, err
	}
	p7, err := pkcs7.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("not PKCS #7: %w", err)
	}
	if len(p7.Certificates) == 0 {
		return nil, errors.New("no certificate in the PKCS #7, expected at least one")
	}
	for _, c := range p7.Certificates {
		if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxRSA {
			return nil, fmt.Errorf("certificate %x: RSA key of %d bits, expected at most %d", c.SerialNumber, k.N.BitLen(), maxRSA)
		}
	}
	return p7.Certificates, nil
}

// checkLengths walks what a constructed element holds.
func checkLengths(b []byte, depth int) error {
	for len(b) > 0 {
		e, rest, err := element(b)
		if err != nil {
			return err
		}
		if e.tag&0x20 != 0 { // constructed, X.690 8.1.2.5
			if depth == 0 {
				return fmt.Errorf("elements nested deeper than %d", maxDepth)
			}
			if err := checkLengths(e.content, depth-1); err != nil {
				return err
			}
		}
		b = rest
	}
	return nil
}

type tlv struct {
	tag     byte
	content []byte
}

// element reads the first element of b under the rules of DER for lengths: definite,
// in as few bytes as possible (X.690 10.1), and within b.
func element(b []byte) (e tlv, rest []byte, err error) {
	if len(b) < 2 {
		return tlv{}, nil, errors.New("an element is cut off")
	}
	if b[0]&0x1f == 0x1f {
		return tlv{}, nil, errors.New("a tag number above 30, which nothing here has")
	}
	e.tag = b[0]
	n, at := int(b[1]), 2
	switch {
	case n == 0x80:
		return tlv{}, nil, errors.New("an indefinite length, expected DER: definite lengths only")
	case n > 0x84:
		return tlv{}, nil, fmt.Errorf("a length of %d bytes, expected at most 4", n&0x7f)
	case n > 0x80:
		size := n & 0x7f
		if len(b) < at+size {
			return tlv{}, nil, errors.New("a length is cut off")
		}
		var v uint64
		for _, x := range b[at : at+size] {
			v = v<<8 | uint64(x)
		}
		if v < 0x80 || bytes.HasPrefix(b[at:], []byte{0}) {
			return tlv{}, nil, errors.New("a length in more bytes than it needs, expected DER")
		}
		if v > uint64(len(b)) {
			return tlv{}, nil, fmt.Errorf("an element of %d bytes, more than are there", v)
		}
		n, at = int(v), at+size
	}
	if n > len(b)-at {
		return tlv{}, nil, fmt.Errorf("an element of %d bytes, more than the %d that are there", n, len(b)-at)
	}
	e.content = b[at : at+n]
	return e, b[at+n:], nil
}
