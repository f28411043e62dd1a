package tbs

import (
	"crypto"
	_ "crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestAMessageKeepsItsBytes(t *testing.T) {
	b := []byte("abc")
	m := New("kind", b, crypto.SHA256, true)
	b[0] = 'x'
	assert.Equal(t, []byte("abc"), Bytes(m))
	assert.Equal(t, "kind", m.Kind())
	assert.Equal(t, crypto.SHA256, Hash(m))
	assert.True(t, RSAOnly(m))
	assert.False(t, m.IsZero())
	// FIPS 180-4 test vectors for "abc".
	assert.Equal(t, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", hex.EncodeToString(Digest(m)))
	assert.Equal(t, "a9993e364706816aba3e25717850c26c9cd0d89d", hex.EncodeToString(Digest(New("kind", []byte("abc"), crypto.SHA1, false))))
}

func TestWhatIsNoMessageIsZero(t *testing.T) {
	for name, m := range map[string]Message{
		"zero":     {},
		"no kind":  New("", []byte("abc"), crypto.SHA256, false),
		"no bytes": New("kind", nil, crypto.SHA256, false),
		"no hash":  New("kind", []byte("abc"), 0, false),

		"bound, no kind": Bound("", [32]byte{1}, crypto.SHA256, bindTo),
		"bound, no hash": Bound("kind", [32]byte{1}, 0, bindTo),
	} {
		assert.True(t, m.IsZero(), name)
	}
}

// bindTo makes bytes that name the certificate and the instant.
func bindTo(cert *x509.Certificate, at time.Time) ([]byte, error) {
	if cert.Version == 0 {
		return nil, errors.New("no certificate")
	}
	return fmt.Appendf(nil, "%d at %s", cert.Version, at), nil
}

func TestABoundMessageWaitsForItsCertificate(t *testing.T) {
	sum, at := sha256.Sum256([]byte("content")), time.Date(2021, 6, 1, 9, 0, 0, 0, time.UTC)
	version := func(n int) func() *x509.Certificate {
		return func() *x509.Certificate { return &x509.Certificate{Version: n} }
	}
	m := Bound("kind", sum, crypto.SHA256, bindTo)
	assert.False(t, m.IsZero())
	assert.Equal(t, "kind", m.Kind())
	assert.Empty(t, Bytes(m))
	assert.Nil(t, Digest(m), "there is nothing to sign yet")
	assert.Equal(t, sum, Sum(m))

	b, err := Bind(m, version(3), at)
	assert.NoError(t, err)
	assert.Equal(t, "3 at "+at.String(), string(Bytes(b)))
	want := sha256.Sum256(Bytes(b))
	assert.Equal(t, want[:], Digest(b))
	assert.Equal(t, sum, Sum(b), "the record names the content as before")
	again, err := Bind(Bound("kind", sum, crypto.SHA256, bindTo), version(3), at)
	assert.NoError(t, err)
	assert.True(t, b == again, "the same content, certificate and instant")
	for name, other := range map[string]Message{
		"another certificate": must(Bind(m, version(4), at)),
		"another instant":     must(Bind(m, version(3), at.Add(1))),
		"another content":     must(Bind(Bound("kind", sha256.Sum256(nil), crypto.SHA256, bindTo), version(3), at)),
		"bytes of no content": New("kind", Bytes(b), crypto.SHA256, false),
		"not bound":           m,
	} {
		assert.False(t, b == other, name)
	}
	twice, err := Bind(b, version(4), at)
	assert.NoError(t, err)
	assert.True(t, b == twice, "bound once for all")
}

func must(m Message, err error) Message {
	if err != nil {
		panic(err)
	}
	return m
}

func TestWhatCannotBeBoundIsNotSigned(t *testing.T) {
	none := func(*x509.Certificate, time.Time) ([]byte, error) { return nil, nil }
	for says, bind := range map[string]func(*x509.Certificate, time.Time) ([]byte, error){"no certificate": bindTo, "no bytes": none} {
		m := Bound("kind", [32]byte{1}, crypto.SHA256, bind)
		b, err := Bind(m, func() *x509.Certificate { return &x509.Certificate{} }, time.Time{})
		assert.ErrorContains(t, err, says)
		assert.True(t, b == m)
		assert.Nil(t, Digest(b))
	}
	m := New("kind", []byte("abc"), crypto.SHA256, false)
	b, err := Bind(m, nil, time.Time{})
	assert.NoError(t, err)
	assert.True(t, b == m, "a message of New needs nothing")
	assert.Equal(t, sha256.Sum256([]byte("abc")), Sum(m))
}

func TestASignatureKeepsItsValue(t *testing.T) {
	value, m := []byte{1, 2}, New("kind", []byte("abc"), crypto.SHA256, false)
	parsed := 0
	cert := func() *x509.Certificate {
		parsed++
		return &x509.Certificate{Version: parsed}
	}
	s := Signed(m, value, cert)
	value[0] = 9
	assert.Equal(t, []byte{1, 2}, Value(s))
	assert.Equal(t, 1, Certificate(s).Version)
	assert.Equal(t, 2, Certificate(s).Version, "one of its own for each document")
	assert.Nil(t, Certificate(Signature{}))
	assert.Equal(t, m, Of(s))
	assert.False(t, s.IsZero())
	assert.True(t, Signature{}.IsZero())
	assert.True(t, Signed(m, nil, cert).IsZero())
	assert.True(t, Signed(m, value, nil).IsZero())
}

func TestASignatureDoesNotPrintItsValue(t *testing.T) {
	s := Signed(New("kind", []byte("abc"), crypto.SHA256, false), []byte("raw signature"), func() *x509.Certificate { return &x509.Certificate{} })
	for _, form := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		out := fmt.Sprintf(form, s)
		assert.NotContains(t, out, "raw signature", form)
		assert.NotContains(t, out, hex.EncodeToString([]byte("raw signature")), form)
		assert.NotContains(t, out, "114 97 119", form)
	}
}
