package tbs

import (
	"crypto"
	_ "crypto/sha1"
	_ "crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"testing"

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
	} {
		assert.True(t, m.IsZero(), name)
	}
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
