package testcard

import (
	"bytes"
	"crypto/cipher"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// managementBlock is the host's side of the management key.
func managementBlock(t testing.TB, alg byte, key []byte) cipher.Block {
	t.Helper()
	block, err := managementCipher(alg, key)
	require.NoError(t, err)
	return block
}

// manage presents the default management key.
func (h host) manage() {
	h.t.Helper()
	require.Equal(h.t, "9000", h.manageWith(algTripleDES, DefaultManagementKey(), true))
}

// manageWith authenticates mutually, or externally.
func (h host) manageWith(alg byte, key []byte, mutual bool) string {
	h.t.Helper()
	block := managementBlock(h.t, alg, key)
	n := block.BlockSize()
	if !mutual {
		b := h.ok(insAuthenticate, alg, 0x9B, 0x7C, 2, 0x81, 0)
		challenge := b[4:]
		require.Len(h.t, challenge, n)
		response := make([]byte, n)
		block.Encrypt(response, challenge)
		return h.status(insAuthenticate, alg, 0x9B, tlv(0x7C, tlv(0x82, response))...)
	}
	b := h.ok(insAuthenticate, alg, 0x9B, 0x7C, 2, 0x80, 0)
	witness := make([]byte, n)
	block.Decrypt(witness, b[4:])
	challenge := bytes.Repeat([]byte{5}, n)
	b, sw := h.send(insAuthenticate, alg, 0x9B, tlv(0x7C, tlv(0x80, witness), tlv(0x81, challenge))...)
	if sw == SWOK {
		want := make([]byte, n)
		block.Encrypt(want, challenge)
		assert.Equal(h.t, tlv(0x7C, tlv(0x82, want)), b, "the card shows that it has the key")
	}
	return fmt.Sprintf("%04x", uint16(sw))
}

// writes tells whether the management key counts as presented.
func (h host) writes() bool {
	h.t.Helper()
	return h.status(insPutData, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xC1, 0x02, 0x53, 1, 7) == "9000"
}

func TestManagementKey(t *testing.T) {
	keys := map[byte][]byte{
		algTripleDES: []byte("abcdefghijklmnopqrstuvwx"), algAES128: []byte("abcdefghijklmnop"),
		algAES256: []byte("abcdefghijklmnopqrstuvwxyzabcdef"),
	}
	for alg, key := range keys {
		for _, mutual := range []bool{true, false} {
			h := plug(t, newCard(t, Config{ManagementKey: key}))
			assert.False(t, h.writes())
			wrong := bytes.Clone(key)
			wrong[3] ^= 0x10
			assert.Equal(t, "6982", h.manageWith(alg, wrong, mutual))
			assert.False(t, h.writes())
			assert.Equal(t, "9000", h.manageWith(alg, key, mutual))
			assert.True(t, h.writes())
			assert.Equal(t, "6982", h.manageWith(alg, wrong, mutual))
			assert.False(t, h.writes(), "a wrong key ends it")
		}
	}
}

func TestManagementKeyRefuses(t *testing.T) {
	h := plug(t, newCard(t, Config{}))
	auth := func(alg byte, template ...byte) string { return h.status(insAuthenticate, alg, 0x9B, template...) }
	block := func(b ...byte) []byte { return append(b, 1, 2, 3, 4, 5, 6, 7, 8) }
	assert.Equal(t, "6a86", auth(algAES128, 0x7C, 2, 0x80, 0), "another algorithm than the key's")
	assert.Equal(t, "9000", auth(0, 0x7C, 2, 0x80, 0), "algorithm 0 is 3DES")
	assert.Equal(t, "6a80", auth(algTripleDES), "nothing")
	assert.Equal(t, "6a80", auth(algTripleDES, 0x7C, 0), "an empty template")
	assert.Equal(t, "6a80", auth(algTripleDES, 0x7C, 2, 0x83, 0), "a tag that means nothing")
	assert.Equal(t, "6a80", auth(algTripleDES, 0x7C, 4, 0x80, 0, 0x80, 0), "twice")
	assert.Equal(t, "6982", auth(algTripleDES, append([]byte{0x7C, 10}, block(0x82, 8)...)...), "an answer to nothing")
	assert.Equal(t, "6982", auth(algTripleDES, append([]byte{0x7C, 20}, append(block(0x80, 8), block(0x81, 8)...)...)...), "a witness of nothing")

	// A witness is good once, and no answer to a challenge.
	k := managementBlock(t, algTripleDES, DefaultManagementKey())
	b := h.ok(insAuthenticate, algTripleDES, 0x9B, 0x7C, 2, 0x80, 0)
	witness := make([]byte, 8)
	k.Decrypt(witness, b[4:])
	assert.Equal(t, "6982", auth(algTripleDES, tlv(0x7C, tlv(0x82, witness))...))
	assert.Equal(t, "6982", auth(algTripleDES, tlv(0x7C, tlv(0x80, witness), tlv(0x81, make([]byte, 8)))...))
	assert.False(t, h.writes())
}

func TestSetManagementKey(t *testing.T) {
	c := newCard(t, Config{})
	h := plug(t, c)
	key := []byte("abcdefghijklmnop")
	set := append([]byte{algAES128, 0x9B, 16}, key...)
	assert.Equal(t, "6982", h.status(insSetManagement, 0xFF, 0xFF, set...))
	h.manage()
	assert.Equal(t, "6a80", h.status(insSetManagement, 0xFF, 0xFF, set[:10]...))
	assert.Equal(t, "6a80", h.status(insSetManagement, 0xFF, 0xFF, append([]byte{algAES256, 0x9B, 16}, key...)...))
	assert.Equal(t, "6a86", h.status(insSetManagement, 0, 0, set...))
	h.ok(insSetManagement, 0xFF, 0xFF, set...)

	again, err := decode([]byte(state(t, c)))
	require.NoError(t, err)
	h = plug(t, again)
	assert.Equal(t, "9000", h.manageWith(algAES128, key, true), "it is saved with the card")
	meta := h.ok(insMetadata, 0, 0x9B)
	assert.Equal(t, []byte{1, 1, algAES128, 2, 2, 0, 1, 5, 1, 0}, meta)
}

func TestResetOfTheApplication(t *testing.T) {
	c := withKey(t, Config{Tries: 1, PIN: []byte("2468"), PUK: []byte("1357"), ManagementKey: []byte("abcdefghijklmnop")})
	h := plug(t, c)
	assert.Equal(t, "6985", h.status(insReset, 0, 0))
	assert.Equal(t, "63c0", h.status(insVerify, 0, 0x80, pin("000000")...))
	assert.Equal(t, "6985", h.status(insReset, 0, 0), "the unblocking key has tries left")
	for range pukTries {
		h.send(insResetRetry, 0, 0x80, append(pin("00000000"), pin(DefaultPIN)...)...)
	}
	h.ok(insReset, 0, 0)
	h.login()
	h.manage()
	assert.Equal(t, "6a88", h.status(insMetadata, 0, 0x9C), "the keys are gone")
}

func TestConfigRefusesSecretsThatNoCardHas(t *testing.T) {
	for name, cfg := range map[string]Config{
		"management key of 3 bytes": {ManagementKey: []byte("abc")},
		"unblocking key too long":   {PUK: []byte("123456789")},
		"unblocking key empty":      {PUK: []byte{}},
	} {
		_, err := New(cfg)
		assert.ErrorContains(t, err, "expected", name)
	}
}
