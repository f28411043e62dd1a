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
	"crypto/x509"
)

// Message is a parsed document's bytes to be signed. The zero Message is not a
// document and the Signer refuses it. Two Messages are equal when they are the same
// bytes of the same kind, for the same digest.
type Message struct {
	b       string // a string, because nobody can change it in place
	h       crypto.Hash
	kind    string
	rsaOnly bool
}

// New makes a Message over b, which is copied. kind names the document in the
// decision record, such as "eps". rsaOnly says that the document's verifiers
// know RSASSA-PKCS1-v1_5 alone.
func New(kind string, b []byte, h crypto.Hash, rsaOnly bool) Message {
	return Message{b: string(b), h: h, kind: kind, rsaOnly: rsaOnly}
}

// Kind names the document type; empty for the zero Message.
func (m Message) Kind() string { return m.kind }

// IsZero tells whether m was not made by New.
func (m Message) IsZero() bool { return m.kind == "" || m.b == "" || m.h == 0 }

// Bytes returns a copy of the bytes that are signed.
func Bytes(m Message) []byte { return []byte(m.b) }

// Hash returns the digest algorithm.
func Hash(m Message) crypto.Hash { return m.h }

// RSAOnly tells whether only an RSA key can sign m.
func RSAOnly(m Message) bool { return m.rsaOnly }

// Digest hashes the message.
func Digest(m Message) []byte {
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
