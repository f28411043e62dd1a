package testcard

import (
	"crypto/rsa"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The cases of ISO/IEC 7816-4 5.1, table 1.
func TestParseAPDU(t *testing.T) {
	data := func(n int) string { return hex.EncodeToString(make([]byte, n)) }
	for name, x := range map[string]struct {
		apdu string
		n    int // bytes of data
		le   int
		sw   SW
	}{
		"1":                         {"00010203", 0, 0, SWOK},
		"2, short":                  {"0001020305", 0, 5, SWOK},
		"2, short, all":             {"0001020300", 0, 256, SWOK},
		"3, short":                  {"0001020302aabb", 2, 0, SWOK},
		"4, short":                  {"0001020302aabb05", 2, 5, SWOK},
		"4, short, all":             {"0001020302aabb00", 2, 256, SWOK},
		"2, extended":               {"00010203000100", 0, 256, SWOK},
		"2, extended, all":          {"00010203000000", 0, 65536, SWOK},
		"3, extended":               {"00010203000100" + data(256), 256, 0, SWOK},
		"4, extended":               {"00010203000100" + data(256) + "0200", 256, 512, SWOK},
		"4, extended, all":          {"00010203000100" + data(256) + "0000", 256, 65536, SWOK},
		"empty":                     {"", 0, 0, SWLength},
		"no P2":                     {"000102", 0, 0, SWLength},
		"Lc without data":           {"0001020302", 0, 2, SWOK}, // which is Le
		"too little data":           {"0001020303aabb", 0, 0, SWLength},
		"too much data":             {"0001020302aabb0000", 0, 0, SWLength},
		"half an extended length":   {"000102030001", 0, 0, SWLength},
		"extended Lc of zero":       {"0001020300000000", 0, 0, SWLength},
		"extended, too little data": {"00010203000100" + data(255), 0, 0, SWLength},
		"extended, half an Le":      {"00010203000100" + data(256) + "02", 0, 0, SWLength},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := hex.DecodeString(x.apdu)
			require.NoError(t, err)
			q, sw := parseAPDU(b)
			require.Equal(t, x.sw, sw)
			if sw == SWOK {
				assert.Equal(t, [4]byte{0, 1, 2, 3}, [4]byte{q.cla, q.ins, q.p1, q.p2})
				assert.Len(t, q.data, x.n)
				assert.Equal(t, x.le, q.le)
			}
		})
	}
}

func TestTLV(t *testing.T) {
	for tag, first := range map[uint32]string{0x53: "53", 0x7E: "7e", 0x5F2F: "5f2f", 0x7F49: "7f49", 0x5FC105: "5fc105"} {
		for n, length := range map[int]string{0: "00", 127: "7f", 128: "8180", 255: "81ff", 256: "820100", 65535: "82ffff"} {
			b := tlv(tag, make([]byte, n))
			assert.Equal(t, first+length, hex.EncodeToString(b[:len(b)-n]))
			got, value, rest, ok := nextTLV(append(slices.Clone(b), 1))
			assert.True(t, ok)
			assert.Equal(t, []byte{1}, rest)
			assert.Len(t, value, n)
			if tag != 0x5FC105 { // which is no BER-TLV tag, and is never read as one
				assert.Equal(t, tag, got)
			}
		}
	}
	for _, bad := range []string{"", "53", "5f", "5f81", "5f818101", "5f8181810100", "5301", "5381", "538200", "5380", "53830000", "5302aa"} {
		b, err := hex.DecodeString(bad)
		require.NoError(t, err)
		_, _, _, ok := nextTLV(b)
		assert.False(t, ok, bad)
	}
	_, ok := fields([]byte{0x80, 0, 0x80, 0})
	assert.False(t, ok, "twice")
}

// FuzzAPDUs: whatever a reader sends, each command gets an answer that ends with a
// status word, and the card is as consistent as ever: it loads from its own file. The
// input is messages, each after one byte of length.
func FuzzAPDUs(f *testing.F) {
	message := func(b ...byte) []byte { return append([]byte{byte(len(b))}, b...) }
	f.Add(message(append([]byte{0, insVerify, 0, 0x80, 8}, pin(DefaultPIN)...)...))
	f.Add(slices.Concat(
		message(append([]byte{0, insSelect, 4, 0, 5}, pivAID[:5]...)...),
		message(0, insGetData, 0x3F, 0xFF, 3, 0x5C, 1, 0x7E, 0),
		message(0, insMetadata, 0, 0x9A)))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newCard(t, Config{})
		require.NoError(t, c.Provision(Pair{ID: []byte{1}, Label: "a pair", Key: ecKey(), Certificate: []byte("certificate")}))
		c.MakeKeys(func(int) (*rsa.PrivateKey, error) { return rsaKey(), nil })
		a := newApplet(c, 1)
		a.status = security{verified: true, fresh: true, managed: true}
		for n := 0; len(b) > 0 && n < 16; n++ {
			length := min(int(b[0]), len(b)-1)
			answer, sent := a.transmit(slices.Clone(b[1 : 1+length]))
			require.GreaterOrEqual(t, len(answer), 2)
			sent()
			b = b[1+length:]
		}
		first := state(t, c)
		again, err := decode([]byte(first))
		require.NoError(t, err)
		require.Equal(t, first, state(t, again))
	})
}
