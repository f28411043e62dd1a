package testcard

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// padded256 is the block that a host signs for RSASSA-PKCS1-v1_5 with SHA-256 (RFC
// 8017 9.2).
func padded256(t testing.TB, size int, digest []byte) []byte {
	t.Helper()
	info, err := asn1.Marshal(struct {
		Algorithm struct {
			OID  asn1.ObjectIdentifier
			Null asn1.RawValue
		}
		Digest []byte
	}{struct {
		OID  asn1.ObjectIdentifier
		Null asn1.RawValue
	}{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, asn1.NullRawValue}, digest})
	require.NoError(t, err)
	b := bytes.Repeat([]byte{0xFF}, size)
	b[0], b[1] = 0, 1
	b[size-len(info)-1] = 0
	copy(b[size-len(info):], info)
	return b
}

// signature asks for a signature.
func (h host) signature(alg, reference byte, block []byte) ([]byte, SW) {
	h.t.Helper()
	b, sw := h.send(insAuthenticate, alg, reference, tlv(0x7C, tlv(0x82), tlv(0x81, block))...)
	if sw != SWOK {
		return nil, sw
	}
	inner, ok := only(b, 0x7C)
	require.True(h.t, ok)
	sig, ok := only(inner, 0x82)
	require.True(h.t, ok)
	return sig, sw
}

func TestGeneralAuthenticateSigns(t *testing.T) {
	c := newCard(t, Config{})
	require.NoError(t, c.Provision(Pair{ID: []byte{1}, Key: rsaKey()}))
	require.NoError(t, c.Provision(Pair{ID: []byte{5}, Key: ecKey()}))
	h := plug(t, c)
	block := padded256(t, 256, digest[:])
	_, sw := h.signature(algRSA2048, 0x9A, block)
	assert.Equal(t, SWSecurity, sw)
	h.login()
	sig, sw := h.signature(algRSA2048, 0x9A, block)
	require.Equal(t, SWOK, sw)
	assert.NoError(t, rsa.VerifyPKCS1v15(&rsaKey().PublicKey, crypto.SHA256, digest[:], sig))
	sig, sw = h.signature(algP256, 0x82, digest[:])
	require.Equal(t, SWOK, sw)
	assert.True(t, ecdsa.VerifyASN1(&ecKey().PublicKey, digest[:], sig))
	assert.Equal(t, 1, c.Signatures([]byte{1}))
	assert.Equal(t, 1, c.Signatures([]byte{5}))

	for name, x := range map[string]struct {
		alg, reference byte
		block          []byte
		want           SW
	}{
		"another algorithm":           {algP256, 0x9A, digest[:], SWData},
		"a block of another length":   {algRSA2048, 0x9A, block[1:], SWData},
		"a block beyond the modulus":  {algRSA2048, 0x9A, bytes.Repeat([]byte{0xFF}, 256), SWData},
		"a digest beyond the curve's": {algP256, 0x82, make([]byte, 33), SWData},
		"no digest":                   {algP256, 0x82, nil, SWData},
		"no key in the slot":          {algP256, 0x9D, digest[:], SWReference},
		"no such slot":                {algP256, 0x96, digest[:], SWReference},
	} {
		_, sw := h.signature(x.alg, x.reference, x.block)
		assert.Equal(t, x.want, sw, name)
	}
	assert.Equal(t, "6a80", h.status(insAuthenticate, algP256, 0x82, tlv(0x7C, tlv(0x81, digest[:]))...), "nothing is asked for")
	assert.Equal(t, "6a80", h.status(insAuthenticate, algP256, 0x82, tlv(0x7C, tlv(0x82), tlv(0x85, digest[:]))...), "key agreement")
	assert.Equal(t, 1, c.Signatures([]byte{5}))
}

// SP 800-73-4 part 1, table 4b.
func TestWhenThePasscodeIsWanted(t *testing.T) {
	c := newCard(t, Config{Containers: 6})
	for _, id := range []byte{1, 2, 3, 4, 5} {
		require.NoError(t, c.Provision(Pair{ID: []byte{id}, Key: ecKey()}))
	}
	require.NoError(t, c.Provision(Pair{ID: []byte{6}, Key: ecKey(), AlwaysAuthenticate: true}))
	h := plug(t, c)
	sign := func(reference byte) SW {
		_, sw := h.signature(algP256, reference, digest[:])
		return sw
	}
	assert.Equal(t, SWOK, sign(0x9E), "never")
	for _, reference := range []byte{0x9A, 0x9C, 0x9D, 0x82, 0x83} {
		assert.Equal(t, SWSecurity, sign(reference))
	}
	for _, once := range []byte{0x9A, 0x9D, 0x82} {
		h.login()
		assert.Equal(t, SWOK, sign(once))
		assert.Equal(t, SWOK, sign(once))
	}
	for _, always := range []byte{0x9C, 0x83} {
		assert.Equal(t, SWSecurity, sign(always), "another key was used since")
		h.login()
		assert.Equal(t, SWOK, sign(always))
		assert.Equal(t, SWSecurity, sign(always))
		assert.Equal(t, SWOK, sign(0x9A), "which the login still serves")
	}
	assert.Equal(t, []byte{2, 2, policyAlways, 1}, h.ok(insMetadata, 0, 0x9C)[3:7])
	assert.Equal(t, []byte{2, 2, policyOnce, 1}, h.ok(insMetadata, 0, 0x9A)[3:7])
	assert.Equal(t, []byte{2, 2, policyNever, 1}, h.ok(insMetadata, 0, 0x9E)[3:7])
}

func TestALockedCardSignsNothingByCommand(t *testing.T) {
	c := newCard(t, Config{Tries: 1})
	require.NoError(t, c.Provision(Pair{ID: []byte{1}, Key: ecKey()}))
	h := plug(t, c)
	h.login()
	require.Error(t, open(t, c).Login(t.Context(), []byte("000000")))
	_, sw := h.signature(algP256, 0x9A, digest[:])
	assert.Equal(t, SWSecurity, sw)
}

// publicKey reads what GENERATE answers.
func publicKey(t testing.TB, b []byte) crypto.PublicKey {
	t.Helper()
	inner, ok := only(b, 0x7F49)
	require.True(t, ok)
	f, ok := fields(inner)
	require.True(t, ok)
	if point, ok := f[0x86]; ok {
		k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		require.NoError(t, err)
		return k
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(f[0x81]), E: int(new(big.Int).SetBytes(f[0x82]).Int64())}
}

func TestGenerateByCommand(t *testing.T) {
	c := newCard(t, Config{Containers: 3})
	c.MakeKeys(func(int) (*rsa.PrivateKey, error) { return rsaKey(), nil })
	h := plug(t, c)
	rsa2048 := []byte{0xAC, 3, 0x80, 1, algRSA2048}
	assert.Equal(t, "6982", h.status(insGenerate, 0, 0x82, rsa2048...))
	h.login()
	assert.Equal(t, "6982", h.status(insGenerate, 0, 0x82, rsa2048...), "the passcode does not do")
	h.manage()
	pub := publicKey(t, h.ok(insGenerate, 0, 0x82, rsa2048...))
	assert.True(t, rsaKey().PublicKey.Equal(pub))
	ec := publicKey(t, h.ok(insGenerate, 0, 0x9C, 0xAC, 3, 0x80, 1, algP256)).(*ecdsa.PublicKey)
	h.login()
	sig, sw := h.signature(algP256, 0x9C, digest[:])
	require.Equal(t, SWOK, sw)
	assert.True(t, ecdsa.VerifyASN1(ec, digest[:], sig))

	list, err := login(t, c).Objects(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 4)
	assert.Equal(t, []byte{5}, list[1].ID)
	assert.Equal(t, "Retired Key Management 1", list[1].Label)
	assert.False(t, list[1].AlwaysAuthenticate)
	assert.True(t, rsaKey().PublicKey.Equal(list[1].Public))
	assert.Equal(t, SigningID(), list[3].ID)
	assert.True(t, list[3].AlwaysAuthenticate, "9C is")
	assert.Equal(t, []byte{3, 1, 1}, h.ok(insMetadata, 0, 0x9C)[7:10], "made by the card")

	h.ok(insGenerate, 0, 0x83, 0xAC, 6, 0x80, 1, algP256, 0xAA, 1, policyAlways)
	assert.Equal(t, byte(policyAlways), h.ok(insMetadata, 0, 0x83)[5])
	assert.Equal(t, "6a84", h.status(insGenerate, 0, 0x84, rsa2048...), "full")
	for want, x := range map[string][]byte{
		"6a86": {0, 0xF9, 0xAC, 3, 0x80, 1, algP256},
		"6a80": {0, 0x83, 0xAC, 3, 0x80, 1, algRSA1024},
		"6a84": {0, 0x84, 0xAC, 3, 0x80, 1, algP256},
	} {
		assert.Equal(t, want, h.status(insGenerate, x[0], x[1], x[2:]...))
	}
	for _, bad := range [][]byte{{}, {0xAC, 0}, {0xAC, 3, 0x80, 1, 0x14}, {0xAC, 2, 0x80, 0}, {0xAC, 6, 0x80, 1, algP256, 0xAA, 1, 4},
		{0xAC, 6, 0x80, 1, algP256, 0xAA, 1, policyNever}, {0x53, 3, 0x80, 1, algP256}} {
		assert.Equal(t, "6a80", h.status(insGenerate, 0, 0x83, bad...), "%x", bad)
	}
}

func TestGenerateInATakenSlotReplacesTheKeyAndLeavesTheCertificate(t *testing.T) {
	c := withKey(t, Config{Containers: 1})
	h := plug(t, c)
	h.manage()
	pub := publicKey(t, h.ok(insGenerate, 0, 0x9C, 0xAC, 3, 0x80, 1, algP256))
	list, err := login(t, c).Objects(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 3)
	assert.Equal(t, []byte("certificate"), list[0].DER)
	assert.True(t, pub.(*ecdsa.PublicKey).Equal(list[2].Public))
	assert.Zero(t, c.Signatures(SigningID()))
}

func TestGenerateOnCardsThatCannot(t *testing.T) {
	for name, x := range map[string]struct {
		cfg  Config
		want string
	}{
		"makes no keys": {Config{NoGenerate: true}, "6a81"},
		"read-only":     {Config{ReadOnly: true}, "6985"},
	} {
		h := plug(t, newCard(t, x.cfg))
		h.manage()
		assert.Equal(t, x.want, h.status(insGenerate, 0, 0x9A, 0xAC, 3, 0x80, 1, algP256), name)
	}
	c := newCard(t, Config{NoPublicKeys: true})
	c.MakeKeys(func(int) (*rsa.PrivateKey, error) { return nil, errors.New("no entropy") })
	h := plug(t, c)
	h.manage()
	assert.Equal(t, "6f00", h.status(insGenerate, 0, 0x9A, 0xAC, 3, 0x80, 1, algRSA2048))
	h.ok(insGenerate, 0, 0x9A, 0xAC, 3, 0x80, 1, algP256)
	list, err := open(t, c).Objects(t.Context())
	require.NoError(t, err)
	assert.Len(t, list, 1, "the private key alone")
}

func TestCardPulledWhileItMakesAKeyByCommandHasNone(t *testing.T) {
	c := newCard(t, Config{})
	h := plug(t, c)
	h.manage()
	c.MakeKeys(func(int) (*rsa.PrivateKey, error) {
		c.Remove()
		return rsaKey(), nil
	})
	answer, _ := h.a.transmit([]byte{0, insGenerate, 0, 0x9A, 5, 0xAC, 3, 0x80, 1, algRSA2048})
	assert.Nil(t, answer)
	c.Insert()
	assert.Equal(t, "6a88", plug(t, c).status(insMetadata, 0, 0x9A))
}

func TestImportAKey(t *testing.T) {
	c := newCard(t, Config{})
	h := plug(t, c)
	k := rsaKey()
	parts := slices.Concat(tlv(0x01, k.Primes[0].Bytes()), tlv(0x02, k.Primes[1].Bytes()),
		tlv(0x03, k.Precomputed.Dp.Bytes()), tlv(0x04, k.Precomputed.Dq.Bytes()), tlv(0x05, k.Precomputed.Qinv.Bytes()))
	assert.Equal(t, "6982", h.status(insImport, algRSA2048, 0x9A, parts...))
	h.manage()
	h.ok(insImport, algRSA2048, 0x9A, parts...)
	scalar, err := ecKey().Bytes()
	require.NoError(t, err)
	h.ok(insImport, algP256, 0x9D, tlv(0x06, scalar)...)
	h.login()
	sig, sw := h.signature(algRSA2048, 0x9A, padded256(t, 256, digest[:]))
	require.Equal(t, SWOK, sw)
	assert.NoError(t, rsa.VerifyPKCS1v15(&k.PublicKey, crypto.SHA256, digest[:], sig))
	sig, sw = h.signature(algP256, 0x9D, digest[:])
	require.Equal(t, SWOK, sw)
	assert.True(t, ecdsa.VerifyASN1(&ecKey().PublicKey, digest[:], sig))
	assert.Equal(t, []byte{3, 1, 2}, h.ok(insMetadata, 0, 0x9D)[7:10], "brought from outside")

	p, q := k.Primes[0], k.Primes[1]
	composite := new(big.Int).Add(p, big.NewInt(1))
	sum := sha256.Sum256(nil)
	for name, x := range map[string]struct {
		alg  byte
		data []byte
	}{
		"nothing":             {algRSA2048, nil},
		"one prime":           {algRSA2048, tlv(0x01, p.Bytes())},
		"one prime twice":     {algRSA2048, slices.Concat(tlv(0x01, p.Bytes()), tlv(0x02, p.Bytes()))},
		"not a prime":         {algRSA2048, slices.Concat(tlv(0x01, composite.Bytes()), tlv(0x02, q.Bytes()))},
		"another length":      {algRSA1024, slices.Concat(tlv(0x01, p.Bytes()), tlv(0x02, q.Bytes()))},
		"no algorithm":        {0x99, slices.Concat(tlv(0x01, p.Bytes()), tlv(0x02, q.Bytes()))},
		"a scalar of zero":    {algP256, tlv(0x06, make([]byte, 32))},
		"a scalar too short":  {algP256, tlv(0x06, sum[:31])},
		"P-384":               {0x14, tlv(0x06, make([]byte, 48))},
		"a policy of nothing": {algP256, append(tlv(0x06, sum[:]), 0xAA, 1, 9)},
	} {
		assert.Equal(t, "6a80", h.status(insImport, x.alg, 0x9E, x.data...), name)
	}
}

func TestKeyUses(t *testing.T) {
	c := withKey(t, Config{})
	require.NoError(t, c.Provision(Pair{ID: PIVID(0x82), Key: ecKey()}))
	require.NoError(t, c.Provision(Pair{ID: PIVID(0x9D), Certificate: []byte{1}}))
	uses := c.KeyUses()
	require.Len(t, uses, 2, "%v", uses)
	assert.Equal(t, KeyUse{Reference: 0x82}, uses[1])
	h := plug(t, c)
	h.login()
	h.ok(insAuthenticate, algP256, 0x82, tlv(0x7C, tlv(0x82), tlv(0x81, digest[:]))...)
	assert.Equal(t, KeyUse{0x82, 1}, c.KeyUses()[1])
}
