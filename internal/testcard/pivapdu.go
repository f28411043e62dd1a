package testcard

import (
	"encoding/binary"
)

// SW is the status word that ends each answer of a smartcard (ISO/IEC 7816-4
// 5.6).
type SW uint16

// The status words that the PIV face answers with (NIST SP 800-73-4 part 2, 5.6).
const (
	SWOK          SW = 0x9000
	SWMore        SW = 0x6100 // low byte: how many bytes GET RESPONSE brings; 0: 256 or more
	SWTries       SW = 0x63C0 // low digit: the tries left
	SWMemory      SW = 0x6581 // the card could not be saved
	SWLength      SW = 0x6700
	SWLastOfChain SW = 0x6883
	SWSecurity    SW = 0x6982 // not logged in, or the management key was not presented
	SWBlocked     SW = 0x6983 // no tries left
	SWConditions  SW = 0x6985
	SWData        SW = 0x6A80
	SWUnsupported SW = 0x6A81
	SWNotFound    SW = 0x6A82
	SWFull        SW = 0x6A84
	SWParameters  SW = 0x6A86
	SWReference   SW = 0x6A88 // no such key or secret
	SWInstruction SW = 0x6D00
	SWClass       SW = 0x6E00
	SWFault       SW = 0x6F00
)

// Answer is the whole answer of a card that has nothing else to say.
func (s SW) Answer() []byte { return binary.BigEndian.AppendUint16(nil, uint16(s)) }

// The instructions of SP 800-73-4 part 2, table 3, and the extensions of the
// YubiKey that its tools need
// (https://docs.yubico.com/yesdk/users-manual/application-piv/apdu.html).
const (
	insVerify          = 0x20
	insChangeReference = 0x24
	insResetRetry      = 0x2C
	insGenerate        = 0x47
	insAuthenticate    = 0x87
	insSelect          = 0xA4
	insGetResponse     = 0xC0
	insGetData         = 0xCB
	insPutData         = 0xDB
	insMetadata        = 0xF7
	insSerial          = 0xF8
	insReset           = 0xFB
	insVersion         = 0xFD
	insImport          = 0xFE
	insSetManagement   = 0xFF
)

// maxCommand bounds the data of a command, chained or of extended length: a
// certificate of the greatest length with its tags.
const maxCommand = maxCertificate + 1<<10

// apdu is a command (ISO/IEC 7816-4 5.1).
type apdu struct {
	cla, ins, p1, p2 byte
	data             []byte
	le               int // bytes wanted at most; 0: Le is absent
}

// parseAPDU reads the four cases of short and extended length. The status is SWOK
// when it is one.
func parseAPDU(b []byte) (apdu, SW) {
	if len(b) < 4 {
		return apdu{}, SWLength
	}
	q := apdu{cla: b[0], ins: b[1], p1: b[2], p2: b[3]}
	body := b[4:]
	wide := func(b []byte) int { return int(binary.BigEndian.Uint16(b)) }
	most := func(le, all int) int {
		if le == 0 {
			return all
		}
		return le
	}
	switch {
	case len(body) == 0:
	case len(body) == 1:
		q.le = most(int(body[0]), 1<<8)
	case body[0] != 0: // short Lc
		n := int(body[0])
		switch len(body) {
		case 1 + n:
		case 2 + n:
			q.le = most(int(body[1+n]), 1<<8)
		default:
			return q, SWLength
		}
		q.data = body[1 : 1+n]
	case len(body) == 3:
		q.le = most(wide(body[1:]), 1<<16)
	case len(body) > 3: // extended Lc
		n := wide(body[1:3])
		switch {
		case n == 0:
			return q, SWLength
		case len(body) == 3+n:
		case len(body) == 5+n:
			q.le = most(wide(body[3+n:]), 1<<16)
		default:
			return q, SWLength
		}
		q.data = body[3 : 3+n]
	default:
		return q, SWLength
	}
	return q, SWOK
}

// nextTLV reads one BER-TLV (ISO/IEC 7816-4 5.2.2): tags of up to three bytes,
// lengths of up to two.
func nextTLV(b []byte) (tag uint32, value, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, nil, false
	}
	tag, b = uint32(b[0]), b[1:]
	if tag&0x1F == 0x1F {
		for more := true; more; {
			if len(b) == 0 || tag > 0xFFFF {
				return 0, nil, nil, false
			}
			more = b[0]&0x80 != 0
			tag, b = tag<<8|uint32(b[0]), b[1:]
		}
	}
	if len(b) == 0 {
		return 0, nil, nil, false
	}
	n := int(b[0])
	b = b[1:]
	switch {
	case n < 0x80:
	case n == 0x81 && len(b) >= 1:
		n, b = int(b[0]), b[1:]
	case n == 0x82 && len(b) >= 2:
		n, b = int(binary.BigEndian.Uint16(b)), b[2:]
	default:
		return 0, nil, nil, false
	}
	if n > len(b) {
		return 0, nil, nil, false
	}
	return tag, b[:n], b[n:], true
}

// only reads a value that is the whole of b.
func only(b []byte, want uint32) ([]byte, bool) {
	tag, value, rest, ok := nextTLV(b)
	return value, ok && tag == want && len(rest) == 0
}

// fields reads a sequence of values, each tag at most once.
func fields(b []byte) (map[uint32][]byte, bool) {
	m := make(map[uint32][]byte)
	for len(b) > 0 {
		tag, value, rest, ok := nextTLV(b)
		if _, twice := m[tag]; !ok || twice {
			return nil, false
		}
		m[tag], b = value, rest
	}
	return m, true
}

// tlv writes one BER-TLV of up to 65,535 bytes.
func tlv(tag uint32, values ...[]byte) []byte {
	n := 0
	for _, v := range values {
		n += len(v)
	}
	var b []byte
	for shift := 16; shift >= 0; shift -= 8 {
		if x := tag >> shift; x != 0 {
			b = append(b, byte(x))
		}
	}
	switch {
	case n < 0x80:
		b = append(b, byte(n))
	case n < 0x100:
		b = append(b, 0x81, byte(n))
	default:
		b = append(b, 0x82, byte(n>>8), byte(n))
	}
	for _, v := range values {
		b = append(b, v...)
	}
	return b
}
