// Package tbs is the seam between documents and the card: a [Message] is what
// the Signer hands to a card, and only this module can make one, so a foreign
// module cannot have bytes of its own signed ("to be signed"). A document type
// of ours parses its input, makes the Message, and later turns the [Signature]
// into its output.
//
// The exported methods of both types are harmless; what reads them out or makes
// them are functions of this package, which only this module can import.
package tbs

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"time"
)

// Message is a parsed document's bytes to be signed. The zero Message is not a
// document and the Signer refuses it. Two Messages are equal when they are the same
// bytes of the same kind, for the same digest.
type Message struct {
	b       string // a string, because nobody can change it in place
	h       crypto.Hash
	kind    string
	rsaOnly bool
	content string // of Bound: its SHA-256
	bind    *func(*x509.Certificate, time.Time) ([]byte, error)
}

// New makes a Message over b, which is copied. kind names the document in the
// decision record, such as "eps". rsaOnly says that the document's verifiers
// know RSASSA-PKCS1-v1_5 alone.
func New(kind string, b []byte, h crypto.Hash, rsaOnly bool) Message {
	return Message{b: string(b), h: h, kind: kind, rsaOnly: rsaOnly}
}

// Bound makes a Message whose bytes name the certificate whose key signs them and
// the instant of signing. The Signer, which alone knows both, has bind make them
// (Bind); until then there are none, and nothing to sign. sum is the SHA-256 of
// the document's content.
func Bound(kind string, sum [sha256.Size]byte, h crypto.Hash, bind func(*x509.Certificate, time.Time) ([]byte, error)) Message {
	return Message{h: h, kind: kind, content: string(sum[:]), bind: &bind}
}

// Bind returns the message that cert's key signs at an instant: m itself where New
// made it. On an error, which is bind's, it is still m.
func Bind(m Message, cert func() *x509.Certificate, at time.Time) (Message, error) {
	if m.bind == nil {
		return m, nil
	}
	b, err := (*m.bind)(cert(), at)
	if err == nil && len(b) == 0 {
		err = errors.New("tbs: a document of no bytes; nothing was signed")
	}
	if err != nil {
		return m, err
	}
	m.b, m.bind = string(b), nil
	return m, nil
}

// Kind names the document type; empty for the zero Message.
func (m Message) Kind() string { return m.kind }

// IsZero tells whether m is no document: neither New nor Bound made it.
func (m Message) IsZero() bool { return m.kind == "" || m.h == 0 || m.b == "" && m.bind == nil }

// Bytes returns a copy of the bytes that are signed; none before Bind.
func Bytes(m Message) []byte { return []byte(m.b) }

// Sum is the SHA-256 that names the document in the decision record: of the bytes
// that are signed, and where those depend on the certificate, of the content.
func Sum(m Message) [sha256.Size]byte {
	if m.content != "" {
		return [sha256.Size]byte([]byte(m.content))
	}
	return sha256.Sum256([]byte(m.b))
}

// Hash returns the digest algorithm.
func Hash(m Message) crypto.Hash { return m.h }

// RSAOnly tells whether only an RSA key can sign m.
func RSAOnly(m Message) bool { return m.rsaOnly }

// Digest hashes the message. Before Bind it is nil, which no key signs.
func Digest(m Message) []byte {
	if m.bind != nil {
		return nil
	}
	h := m.h.New()
	h.Write([]byte(m.b))
	return h.Sum(nil)
}

// Signature is a raw signature over a Message and the certificate whose key made
// it. The zero Signature is none. What it holds is behind a function, so that not
// even printing it shows the value before a document's Finish has checked it.
type Signature struct {
	held func() held
}

type held struct {
	value []byte
	cert  func() *x509.Certificate
	msg   Message
}

func (s Signature) open() held {
	if s.held == nil {
		return held{}
	}
	return s.held()
}

// IsZero tells whether s holds no signature.
func (s Signature) IsZero() bool {
	h := s.open()
	return len(h.value) == 0 || h.cert == nil
}

// Signed makes a Signature. The caller has verified value with cert's key. cert
// parses the certificate anew each time: a document may change what it gets.
func Signed(m Message, value []byte, cert func() *x509.Certificate) Signature {
	h := held{bytes.Clone(value), cert, m}
	return Signature{held: func() held { return h }}
}

// Value returns the raw signature: RSASSA-PKCS1-v1_5, or ECDSA as ASN.1 DER.
func Value(s Signature) []byte { return s.open().value }

// Certificate returns the certificate whose key signed.
func Certificate(s Signature) *x509.Certificate {
	if cert := s.open().cert; cert != nil {
		return cert()
	}
	return nil
}

// Of returns the message that was signed.
func Of(s Signature) Message { return s.open().msg }
