package testcard

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
)

func object(id uint32) []byte { return tlv(0x5C, tlv(id)[:len(tlv(id))-1]) }

// get reads a data object; the status word when it is not there.
func (h host) get(id uint32) (string, string) {
	h.t.Helper()
	b, sw := h.send(insGetData, 0x3F, 0xFF, object(id)...)
	return hex.EncodeToString(b), hex.EncodeToString(sw.Answer())
}

// write stores a data object.
func (h host) write(id uint32, value ...byte) string {
	h.t.Helper()
	return h.status(insPutData, 0x3F, 0xFF, append(object(id), tlv(0x53, value)...)...)
}

func certificateObject(der []byte) []byte {
	return bytes.Join([][]byte{tlv(0x70, der), tlv(0x71, []byte{0}), tlv(0xFE)}, nil)
}

func TestGetData(t *testing.T) {
	c := newCard(t, Config{Serial: "77"})
	require.NoError(t, c.Provision(Pair{ID: []byte{2}, Key: ecKey(), Certificate: []byte("certificate")}))
	h := plug(t, c)
	b, _ := h.get(0x5FC10A)
	assert.Equal(t, "5312700b"+hex.EncodeToString([]byte("certificate"))+"710100fe00", b)
	b, _ = h.get(objectDiscovery)
	assert.Equal(t, "7e124f0ba0000003080000100001005f2f024000", b)
	b, _ = h.get(objectCHUID)
	assert.Regexp(t, "^533b3019d4e739da739ced39ce739d836858210842108421c84210c3eb3410[0-9a-f]{32}350832303939313233313e00fe00$", b)
	other, _ := plug(t, newCard(t, Config{Serial: "78"})).get(objectCHUID)
	assert.NotEqual(t, b, other, "the GUID is the card's own")
	b, _ = h.get(objectCCC)
	assert.Regexp(t, "^5333f015a000000116ff02", b)
	for _, none := range []uint32{0x5FC105, 0x5FC10D, objectKeyHistory, 0x5FC106, 0x5FFF00} {
		_, sw := h.get(none)
		assert.Equal(t, "6a82", sw, "%X", none)
	}
	assert.Equal(t, "6a86", h.status(insGetData, 0, 0, object(objectCHUID)...))
	assert.Equal(t, "6a80", h.status(insGetData, 0x3F, 0xFF, append(object(objectCHUID), 0)...))
	assert.Equal(t, "6a80", h.status(insGetData, 0x3F, 0xFF, 0x5C, 0))
	assert.Equal(t, "6a80", h.status(insGetData, 0x3F, 0xFF, 0x5C, 4, 1, 2, 3, 4))
}

func TestWriteCertificateByCommand(t *testing.T) {
	c := newCard(t, Config{Containers: 2})
	require.NoError(t, c.Provision(Pair{ID: []byte{5}, Key: ecKey()}))
	h := plug(t, c)
	assert.Equal(t, "6982", h.write(0x5FC10D, certificateObject([]byte("one"))...))
	h.login()
	assert.Equal(t, "6982", h.write(0x5FC10D, certificateObject([]byte("one"))...), "the passcode does not do")
	h.manage()
	assert.Equal(t, "9000", h.write(0x5FC10D, certificateObject([]byte("one"))...))
	assert.Equal(t, "9000", h.write(0x5FC10D, certificateObject([]byte("two"))...), "over the one that is there")
	list, err := open(t, c).Objects(t.Context())
	require.NoError(t, err)
	assert.Equal(t, card.Object{Class: card.CertificateObject, ID: []byte{5}, Label: "Retired Key Management 1", DER: []byte("two")}, list[0])

	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write([]byte("packed"))
	require.NoError(t, w.Close())
	assert.Equal(t, "9000", h.write(0x5FC105, bytes.Join([][]byte{tlv(0x70, z.Bytes()), tlv(0x71, []byte{1}), tlv(0xFE)}, nil)...), "without a key too")
	b, _ := h.get(0x5FC105)
	assert.Equal(t, hex.EncodeToString(tlv(0x53, certificateObject([]byte("packed")))), b)
	assert.Equal(t, "6a84", h.write(0x5FC10B, certificateObject([]byte("three"))...), "full")

	z.Reset()
	w = gzip.NewWriter(&z)
	w.Write(make([]byte, maxCertificate+1))
	require.NoError(t, w.Close())
	for want, value := range map[string][]byte{
		"6a84": bytes.Join([][]byte{tlv(0x70, z.Bytes()), tlv(0x71, []byte{1})}, nil),
		"6a80": bytes.Join([][]byte{tlv(0x70, []byte("not gzip")), tlv(0x71, []byte{1})}, nil),
	} {
		assert.Equal(t, want, h.write(0x5FC10D, value...))
	}
	assert.Equal(t, "6a80", h.write(0x5FC10D, 1, 2, 3))
	assert.Equal(t, "6a80", h.status(insPutData, 0x3F, 0xFF, object(0x5FC10D)...), "no object")
}

func TestRemoveCertificateByCommand(t *testing.T) {
	c := newCard(t, Config{})
	require.NoError(t, c.Provision(Pair{ID: []byte{5}, Key: ecKey(), Certificate: []byte("one")}))
	require.NoError(t, c.Provision(Pair{ID: []byte{6}, Certificate: []byte("alone")}))
	h := plug(t, c)
	h.manage()
	assert.Equal(t, "9000", h.write(0x5FC10D))
	assert.Equal(t, "9000", h.write(0x5FC10E))
	assert.Equal(t, "9000", h.write(0x5FC10E), "there is nothing to remove")
	info, err := open(t, c).Info(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 3, info.Room, "the key stays, the container without one is free")
	_, sw := h.get(0x5FC10D)
	assert.Equal(t, "6a82", sw)

	h = plug(t, withKey(t, Config{NoDestroy: true}))
	h.manage()
	assert.Equal(t, "6a81", h.write(0x5FC10A))
}

func TestKeyHistory(t *testing.T) {
	c := newCard(t, Config{Containers: 8})
	require.NoError(t, c.Provision(Pair{ID: []byte{1}, Key: ecKey(), Certificate: []byte("x")}))
	require.NoError(t, c.Provision(Pair{ID: []byte{5}, Key: ecKey()}))
	h := plug(t, c)
	_, sw := h.get(objectKeyHistory)
	assert.Equal(t, "6a82", sw, "no retired key has a certificate")
	h.manage()
	assert.Equal(t, "9000", h.write(0x5FC10F, certificateObject([]byte("third"))...))
	b, _ := h.get(objectKeyHistory)
	assert.Equal(t, "5308c10103c20100fe00", b, "readers look as far as the third")
	assert.Equal(t, "9000", h.write(0x5FC120, certificateObject([]byte("last"))...))
	b, _ = h.get(objectKeyHistory)
	assert.Equal(t, "5308c10114c20100fe00", b)
	assert.Equal(t, "6a81", h.write(objectKeyHistory, 0xC1, 1, 0), "the card keeps it")
}

func TestOtherObjects(t *testing.T) {
	c := newCard(t, Config{})
	h := plug(t, c)
	h.manage()
	assert.Equal(t, "9000", h.write(objectCHUID, 1, 2, 3))
	b, _ := h.get(objectCHUID)
	assert.Equal(t, "5303010203", b)
	assert.Equal(t, "9000", h.write(0x5FC109, 7))
	_, sw := h.get(0x5FC109)
	assert.Equal(t, "6982", sw, "printed information is behind the passcode")
	h.login()
	b, _ = h.get(0x5FC109)
	assert.Equal(t, "530107", b)

	again, err := decode([]byte(state(t, c)))
	require.NoError(t, err)
	b, _ = plug(t, again).get(objectCHUID)
	assert.Equal(t, "5303010203", b, "saved with the card")

	assert.Equal(t, "9000", h.write(objectCHUID))
	b, _ = h.get(objectCHUID)
	assert.Regexp(t, "^533b3019", b, "the card's own again")
	assert.Equal(t, "6a84", h.write(0x5FFF00, make([]byte, maxObject+1)...))
	assert.Equal(t, "6a81", h.write(objectDiscovery, 1))
	for i := range maxObjects - 1 {
		require.Equal(t, "9000", h.write(0x5FFF00+uint32(i), 1))
	}
	assert.Equal(t, "6a84", h.write(0x5FFFFF, 1))
	_, err = decode(bytes.Replace([]byte(state(t, c)), []byte(`"objects": {`), []byte(`"objects": {"9": "",`), 1))
	assert.ErrorContains(t, err, "expected")
}

func TestAReadOnlyCardTakesNothing(t *testing.T) {
	h := plug(t, withKey(t, Config{ReadOnly: true}))
	h.manage()
	assert.Equal(t, "6985", h.write(0x5FC10A))
	assert.Equal(t, "6985", h.write(objectCHUID, 1))
}
