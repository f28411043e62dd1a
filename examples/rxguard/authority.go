package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rxguard/rxguard/guard/status"
)

// The largest files of certificates and of lists that are read, in bytes. A list with
// a million entries has some 40 MB.
const (
	maxCertificates = 16 << 20
	maxLists        = 256 << 20
)

const (
	aCertificate = "a certificate"
	aList        = "a CRL"
	aKey         = "a private key"
)

// labels are what is in a PEM block by its label (RFC 7468). Every label with PRIVATE
// KEY in it is a key.
var labels = map[string]string{
	"CERTIFICATE":             aCertificate,
	"X509 CERTIFICATE":        aCertificate,
	"X509 CRL":                aList,
	"TRUSTED CERTIFICATE":     "a certificate in a form of openssl's own",
	"CERTIFICATE REQUEST":     "a certificate request",
	"NEW CERTIFICATE REQUEST": "a certificate request",
	"PUBLIC KEY":              "a public key",
	"PKCS7":                   "a PKCS #7 file",
	"CMS":                     "a CMS file",
}

// advice says what helps against a wrong kind.
var advice = map[string]string{
	aCertificate:     "; --ca takes it",
	aList:            "; --crl takes it",
	aKey:             "; rxguard needs no key, and nothing of it was used",
	"a PKCS #7 file": "; openssl pkcs7 -print_certs takes the certificates out of it",
	"a certificate in a form of openssl's own": "; openssl x509 -out FILE writes it as others read it",
}

// readCertificates reads the CA certificates of a file in PEM or DER.
func readCertificates(ctx context.Context, path string) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	err := readObjects(ctx, path, maxCertificates, aCertificate, func(der []byte) error {
		found, err := x509.ParseCertificates(der)
		certs = append(certs, found...)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, c := range certs {
		// A certificate before version 3 cannot say that it is a CA's.
		if c.Version == 3 && !(c.BasicConstraintsValid && c.IsCA) {
			return nil, fmt.Errorf("certificate %x is not a CA's (basicConstraints, RFC 5280 4.2.1.9), wanted that of an issuing CA", c.SerialNumber)
		}
	}
	return certs, nil
}

// readLists reads the CRLs and ARLs of a file in PEM or DER.
func readLists(ctx context.Context, path string) ([]*status.List, error) {
	var lists []*status.List
	err := readObjects(ctx, path, maxLists, aList, func(der []byte) error {
		list, err := status.Parse(der, maxLists)
		lists = append(lists, list)
		return err
	})
	return lists, err
}

func readObjects(ctx context.Context, path string, limit int64, wanted string, parse func(der []byte) error) error {
	b, err := read(ctx, path, nil, limit, wanted+" in PEM or DER")
	if err != nil {
		return err
	}
	return objects(b, wanted, parse)
}

// objects has each object of a file parsed; all are to be of one kind. No error shows
// what is in the file.
func objects(b []byte, wanted string, parse func(der []byte) error) error {
	if bytes.HasPrefix(b, []byte{0xff, 0xfe}) || bytes.HasPrefix(b, []byte{0xfe, 0xff}) {
		return fmt.Errorf("is text in UTF-16, wanted %s in PEM (save it as ANSI or UTF-8 text) or DER", wanted)
	}
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	blocks, err := pemBlocks(b)
	if err != nil {
		return err
	}
	if len(blocks) == 0 {
		err := parse(b)
		if err == nil {
			return nil
		}
		switch kind := derKind(b); kind {
		case "":
			return fmt.Errorf("is not %s in PEM or DER: %w", wanted, unprefixed(err))
		case wanted:
			return fmt.Errorf("is %s that cannot be read: %w", wanted, unprefixed(err))
		default:
			return fmt.Errorf("is %s, wanted %s%s", kind, wanted, advice[kind])
		}
	}
	for _, block := range blocks {
		if kind := block.kind(); kind != wanted {
			return fmt.Errorf("line %d: is %s (BEGIN %s), wanted %s%s", block.line, kind, clip(block.label), wanted, advice[kind])
		}
	}
	for _, block := range blocks {
		if err := parse(block.der); err != nil {
			return fmt.Errorf("line %d: %s that cannot be read: %w", block.line, wanted, unprefixed(err))
		}
	}
	return nil
}

// unprefixed takes the names of packages off their errors.
func unprefixed(err error) error {
	text := strings.TrimPrefix(err.Error(), "status: revocation list: ")
	return errors.New(strings.TrimPrefix(text, "x509: "))
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}

// pemBlock is one block of a PEM file.
type pemBlock struct {
	label string
	line  int // of its BEGIN, from 1
	der   []byte
}

func (b pemBlock) kind() string {
	if strings.Contains(b.label, "PRIVATE KEY") {
		return aKey
	}
	if kind := labels[b.label]; kind != "" {
		return kind
	}
	return "something else"
}

var begin = []byte("-----BEGIN ")

// pemBlocks reads every block of a file; text between them is passed over, as openssl
// writes it. pem.Decode passes over broken blocks too, so that each is decoded from
// where it begins.
func pemBlocks(b []byte) ([]pemBlock, error) {
	var blocks []pemBlock
	line := 1
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n') + 1
		if end == 0 {
			end = len(b)
		}
		if !bytes.HasPrefix(b, begin) {
			line, b = line+1, b[end:]
			continue
		}
		// Up to the next BEGIN, so that a broken block does not show the next.
		whole := b
		if next := bytes.Index(b[end-1:], slices.Concat([]byte("\n"), begin)); next >= 0 {
			whole = b[:end+next]
		}
		block, rest := pem.Decode(whole)
		if block == nil {
			return nil, fmt.Errorf("line %d: a PEM block that is cut off or broken, wanted base64 between its BEGIN and its END", line)
		}
		blocks = append(blocks, pemBlock{label: block.Type, line: line, der: block.Bytes})
		used := len(whole) - len(rest)
		line, b = line+bytes.Count(b[:used], []byte("\n")), b[used:]
	}
	return blocks, nil
}

// derKind tells what DER is; empty: nothing that is known here.
func derKind(b []byte) string {
	if _, err := x509.ParseCertificates(b); err == nil {
		return aCertificate
	}
	if _, err := x509.ParseRevocationList(b); err == nil {
		return aList
	}
	if _, err := x509.ParsePKCS8PrivateKey(b); err == nil {
		return aKey
	}
	if _, err := x509.ParsePKCS1PrivateKey(b); err == nil {
		return aKey
	}
	if _, err := x509.ParseECPrivateKey(b); err == nil {
		return aKey
	}
	if _, err := x509.ParseCertificateRequest(b); err == nil {
		return labels["CERTIFICATE REQUEST"]
	}
	var contentInfo struct { // RFC 5652 3
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"optional"`
	}
	if _, err := asn1.Unmarshal(b, &contentInfo); err == nil && contentInfo.Type.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}) {
		return labels["PKCS7"]
	}
	return ""
}
