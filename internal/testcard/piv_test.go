package testcard

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// host speaks to the PIV face as a driver does: chained commands, answers in parts.
type host struct {
	t testing.TB
	a *applet
}

func plug(t testing.TB, c *Card) host {
	return host{t, newApplet(c, c.Token().Presence().Insertion)}
}

// raw sends one APDU.
func (h host) raw(b []byte) ([]byte, SW) {
	h.t.Helper()
	answer, sent := h.a.transmit(bytes.Clone(b))
	sent()
	require.GreaterOrEqual(h.t, len(answer), 2)
	n := len(answer) - 2
	return answer[:n], SW(answer[n])<<8 | SW(answer[n+1])
}

// send sends one command.
func (h host) send(ins, p1, p2 byte, data ...byte) ([]byte, SW) {
	h.t.Helper()
	for len(data) > 0xFF {
		_, sw := h.raw(append([]byte{0x10, ins, p1, p2, 0xFF}, data[:0xFF]...))
		if sw != SWOK {
			return nil, sw
		}
		data = data[0xFF:]
	}
	b := []byte{0, ins, p1, p2}
	if len(data) > 0 {
		b = append(append(b, byte(len(data))), data...)
	}
	answer, sw := h.raw(append(b, 0))
	for sw&0xFF00 == SWMore {
		var more []byte
		more, sw = h.raw([]byte{0, insGetResponse, 0, 0, byte(sw)})
		answer = append(answer, more...)
	}
	return answer, sw
}

// ok sends a command that has to be carried out.
func (h host) ok(ins, p1, p2 byte, data ...byte) []byte {
	h.t.Helper()
	answer, sw := h.send(ins, p1, p2, data...)
	require.Equal(h.t, SWOK, sw, "%04X", uint16(sw))
	return answer
}

// status sends a command and answers its status word in hexadecimal.
func (h host) status(ins, p1, p2 byte, data ...byte) string {
	h.t.Helper()
	_, sw := h.send(ins, p1, p2, data...)
	return hex.EncodeToString(sw.Answer())
}

// pin fills a passcode up.
func pin(s string) []byte { return []byte(s + strings.Repeat("\xff", 8-len(s))) }

func (h host) login() { h.t.Helper(); h.ok(insVerify, 0, 0x80, pin(DefaultPIN)...) }

func TestATRNamesThePIVApplication(t *testing.T) {
	assert.Equal(t, "3b8b0180f9a0000003080000100048", hex.EncodeToString(ATR()), "TCK makes the exclusive or of the rest zero")
}

func TestReferencesAndIDs(t *testing.T) {
	for reference, id := range map[byte]byte{0x9A: 1, 0x9C: 2, 0x9D: 3, 0x9E: 4, 0x82: 5, 0x83: 6, 0x95: 0x18} {
		assert.Equal(t, []byte{id}, PIVID(reference))
		back, ok := PIVReference([]byte{id})
		assert.True(t, ok)
		assert.Equal(t, reference, back)
	}
	for _, none := range []byte{0, 0x80, 0x81, 0x96, 0x9B, 0xF9} {
		assert.Nil(t, PIVID(none))
	}
	for _, none := range [][]byte{nil, {0}, {0x19}, {0xFF}, {1, 1}} {
		_, ok := PIVReference(none)
		assert.False(t, ok, "%x", none)
	}
}

func TestSelect(t *testing.T) {
	h := plug(t, newCard(t, Config{}))
	want := "61334f0600001000010079074f05a0000003085016" + hex.EncodeToString([]byte("rxguard simulated card")) + "ac"
	for _, aid := range []string{"a000000308", "a00000030800001000", "a000000308000010000100"} {
		b, err := hex.DecodeString(aid)
		require.NoError(t, err)
		assert.Contains(t, hex.EncodeToString(h.ok(insSelect, 4, 0, b...)), want[4:])
	}
	assert.Equal(t, "6a82", h.status(insSelect, 4, 0, 0xA0, 0, 0, 3), "too short to name anybody")
	assert.Equal(t, "6a82", h.status(insSelect, 4, 0, []byte("\xa0\x00\x00\x00\x79\x01")...), "another application")
	assert.Equal(t, "6a86", h.status(insSelect, 0, 0, pivAID...), "by file")

	h.login()
	h.ok(insSelect, 4, 0, pivAID...)
	h.ok(insVerify, 0, 0x80) // SP 800-73-4 part 2, 3.1.1: the security status stays
	assert.Equal(t, "6a82", h.status(insSelect, 4, 0, []byte("\xa0\x00\x00\x00\x79\x01")...), "an application that is not there")
	h.ok(insVerify, 0, 0x80)
}

// SP 800-73-4 part 2, 3.1.1: another application of the card ends the security status,
// and commands of PIV are unknown until PIV is selected again.
func TestSelectOfAnotherApplicationLogsOut(t *testing.T) {
	for name, aid := range map[string]string{"management": "\xa0\x00\x00\x05\x27\x47\x11\x17", "OTP": "\xa0\x00\x00\x05\x27\x20\x01"} {
		t.Run(name, func(t *testing.T) {
			h := plug(t, withKey(t, Config{}))
			h.login()
			h.manage()
			h.ok(insSelect, 4, 0, []byte(aid)...)
			assert.Equal(t, "6d00", h.status(insVerify, 0, 0x80))
			h.ok(insSelect, 4, 0, pivAID...)
			assert.Equal(t, "63c3", h.status(insVerify, 0, 0x80))
			assert.Equal(t, "6982", h.status(insPutData, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xC1, 0x02, 0x53, 0))
			h.ok(insSelect, 4, 0, []byte(aid)...)
			h.a.reset()
			assert.Equal(t, "63c3", h.status(insVerify, 0, 0x80), "a reset selects PIV")
		})
	}
}

func TestUnknownCommands(t *testing.T) {
	h := plug(t, newCard(t, Config{}))
	for want, b := range map[string][]byte{
		"6d00": {0, 0x01, 0, 0},                // no such instruction
		"6e00": {0x80, insVerify, 0, 0x80},     // proprietary class
		"6985": {0, insGetResponse, 0, 0, 0},   // nothing is left
		"6700": {0, insVerify, 0, 0x80, 8, 1},  // Lc and no more
		"6a88": {0, insVerify, 0, 0x00, 1, 0},  // the global passcode
		"6a86": {0, insVerify, 0x01, 0x80},     // P1
		"6a80": {0, insGetData, 0x3F, 0xFF, 0}, // no tag list
	} {
		_, sw := h.raw(b)
		assert.Equal(t, want, hex.EncodeToString(sw.Answer()), "%x", b)
	}
	assert.Equal(t, "6d00", h.status(0xF9, 0x9A, 0), "no attestation")
}

func TestCommandChaining(t *testing.T) {
	h := plug(t, newCard(t, Config{}))
	answer, sw := h.raw(append([]byte{0x10, insVerify, 0, 0x80, 3}, pin(DefaultPIN)[:3]...))
	assert.Equal(t, SWOK, sw)
	assert.Empty(t, answer)
	_, sw = h.raw(append([]byte{0x00, insVerify, 0, 0x80, 5}, pin(DefaultPIN)[3:]...))
	assert.Equal(t, SWOK, sw)
	h.ok(insVerify, 0, 0x80)

	_, sw = h.raw([]byte{0x10, insPutData, 0x3F, 0xFF, 1, 0x5C})
	assert.Equal(t, SWOK, sw)
	_, sw = h.raw([]byte{0x00, insVerify, 0, 0x80})
	assert.Equal(t, SWLastOfChain, sw, "another command in the middle")
	h.ok(insVerify, 0, 0x80)

	long := make([]byte, 0xFF)
	for range maxCommand / len(long) {
		_, sw = h.raw(append([]byte{0x10, insPutData, 0x3F, 0xFF, 0xFF}, long...))
		require.Equal(t, SWOK, sw)
	}
	_, sw = h.raw(append([]byte{0x10, insPutData, 0x3F, 0xFF, 0xFF}, long...))
	assert.Equal(t, SWLength, sw, "what is kept of a chain is bounded")
	h.ok(insVerify, 0, 0x80)
}

func TestAnswersInParts(t *testing.T) {
	c := newCard(t, Config{})
	der := bytes.Repeat([]byte{7}, 580)
	require.NoError(t, c.Provision(Pair{ID: []byte{1}, Key: ecKey(), Certificate: der}))
	h := plug(t, c)
	get := []byte{0, insGetData, 0x3F, 0xFF, 5, 0x5C, 3, 0x5F, 0xC1, 0x05}

	whole, sw := h.raw([]byte{0, insGetData, 0x3F, 0xFF, 0, 0, 5, 0x5C, 3, 0x5F, 0xC1, 0x05, 0, 0})
	require.Equal(t, SWOK, sw, "extended length")
	first, sw := h.raw(append(get, 0))
	assert.Len(t, first, 256)
	assert.Equal(t, SWMore, sw, "more than 255 are left")
	second, sw := h.raw([]byte{0, insGetResponse, 0, 0, 100})
	assert.Len(t, second, 100)
	assert.Equal(t, SWMore|SW(len(whole)-356), sw)
	third, sw := h.raw([]byte{0, insGetResponse, 0, 0, 0})
	assert.Equal(t, SWOK, sw)
	assert.Equal(t, whole, bytes.Join([][]byte{first, second, third}, nil))

	_, sw = h.raw(get) // no Le is as much as a short answer holds
	assert.Equal(t, SWMore, sw)
	h.ok(insVersion, 0, 0)
	_, sw = h.raw([]byte{0, insGetResponse, 0, 0, 0})
	assert.Equal(t, SWConditions, sw, "another command drops the rest")
}

func TestResetEndsTheSecurityStatus(t *testing.T) {
	c := withKey(t, Config{})
	h := plug(t, c)
	h.login()
	h.manage()
	h.ok(insVerify, 0, 0x80)
	h.a.reset()
	assert.Equal(t, "63c3", h.status(insVerify, 0, 0x80))
	assert.Equal(t, "6982", h.status(insPutData, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xC1, 0x02, 0x53, 0))
}

func TestACardThatIsOutAnswersNothing(t *testing.T) {
	c := withKey(t, Config{})
	h := plug(t, c)
	h.login()
	c.Remove()
	answer, _ := h.a.transmit([]byte{0, insVersion, 0, 0})
	assert.Nil(t, answer)
	c.Insert()
	answer, _ = h.a.transmit([]byte{0, insVersion, 0, 0})
	assert.Nil(t, answer, "the connection belongs to the insertion of before")
	h = plug(t, c)
	assert.Equal(t, "63c3", h.status(insVerify, 0, 0x80))
}

func TestVersionAndSerial(t *testing.T) {
	h := plug(t, newCard(t, Config{Serial: "12345678"}))
	assert.Equal(t, pivVersion, h.ok(insVersion, 0, 0))
	assert.Equal(t, []byte{0x00, 0xbc, 0x61, 0x4e}, h.ok(insSerial, 0, 0))
	one, other := newCard(t, Config{Serial: "card one"}), newCard(t, Config{Serial: "card two"})
	assert.NotEqual(t, one.PIVSerial(), other.PIVSerial())
	assert.Equal(t, one.PIVSerial(), newCard(t, Config{Serial: "card one"}).PIVSerial())
	assert.NotZero(t, newCard(t, Config{Serial: "0"}).PIVSerial())
}
