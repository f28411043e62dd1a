package testcard

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"slices"
	"strconv"
)

// Data objects (SP 800-73-4 part 1, table 3, and part 2, table 2).
const (
	objectDiscovery  = 0x7E
	objectCHUID      = 0x5FC102
	objectCCC        = 0x5FC107
	objectKeyHistory = 0x5FC10C
)

// Further data objects that the card keeps as they are.
const (
	maxObjects = 32
	maxObject  = 3 << 10 // bytes, as on the YubiKey
)

// behindPIN lists the objects that are read with the passcode only: fingerprints,
// facial image, printed information, iris images.
var behindPIN = []uint32{0x5FC103, 0x5FC108, 0x5FC109, 0x5FC121}

// objectID reads the tag list with which GET DATA and PUT DATA name an object, and
// what follows it.
func objectID(data []byte) (id uint32, rest []byte, ok bool) {
	tag, value, rest, ok := nextTLV(data)
	if !ok || tag != 0x5C || len(value) == 0 || len(value) > 3 {
		return 0, nil, false
	}
	for _, b := range value {
		id = id<<8 | uint32(b)
	}
	return id, rest, true
}

// certificateSlot answers the container of a certificate object, or nil.
func certificateSlot(object uint32) (pivSlot, []byte) {
	for i, s := range pivSlots {
		if s.object == object {
			return s, []byte{byte(i + 1)}
		}
	}
	return pivSlot{}, nil
}

// getData is GET DATA (SP 800-73-4 part 2, 3.1.2).
func (a *applet) getData(q apdu) ([]byte, SW) {
	if q.p1 != 0x3F || q.p2 != 0xFF {
		return nil, SWParameters
	}
	object, rest, ok := objectID(q.data)
	if !ok || len(rest) != 0 {
		return nil, SWData
	}
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !a.present() {
		return nil, SWFault
	}
	if slices.Contains(behindPIN, object) && !a.status.verified {
		return nil, SWSecurity
	}
	if object == objectDiscovery { // part 1, 3.3.2: it has no outer tag
		return tlv(objectDiscovery, tlv(0x4F, pivAID), tlv(0x5F2F, []byte{0x40, 0x00})), SWOK
	}
	value := c.objectValue(object)
	if value == nil {
		return nil, SWNotFound
	}
	return tlv(0x53, value), SWOK
}

// objectValue is what an object holds; nil where it is not there. The card's lock
// is held.
func (c *Card) objectValue(object uint32) []byte {
	if _, id := certificateSlot(object); id != nil {
		k := c.find(id)
		if k == nil || k.certificate == nil {
			return nil
		}
		return bytes.Join([][]byte{tlv(0x70, k.certificate), tlv(0x71, []byte{0}), tlv(0xFE)}, nil)
	}
	if v, ok := c.objects[object]; ok {
		return v
	}
	switch object {
	case objectCHUID:
		return c.chuid()
	case objectCCC:
		return c.capabilities()
	case objectKeyHistory:
		return c.keyHistory()
	}
	return nil
}

// keyHistory is computed, so that readers look for every retired certificate that
// is there: they look at the first ones, as many as the object counts (SP 800-73-4
// part 1, 3.3.3).
func (c *Card) keyHistory() []byte {
	highest := byte(0)
	for i := range retiredSlots {
		if k := c.find([]byte{byte(5 + i)}); k != nil && k.certificate != nil {
			highest = byte(i + 1)
		}
	}
	if highest == 0 {
		return nil
	}
	return bytes.Join([][]byte{tlv(0xC1, []byte{highest}), tlv(0xC2, []byte{0}), tlv(0xFE)}, nil)
}

// chuid is the card holder unique identifier of a non-federal issuer, with a GUID of
// the card's own (SP 800-73-4 part 1, 3.1.2).
func (c *Card) chuid() []byte {
	fascn := []byte{0xd4, 0xe7, 0x39, 0xda, 0x73, 0x9c, 0xed, 0x39, 0xce, 0x73, 0x9d, 0x83, 0x68,
		0x58, 0x21, 0x08, 0x42, 0x10, 0x84, 0x21, 0xc8, 0x42, 0x10, 0xc3, 0xeb} // 9999-9999-999999-0-1...: nobody's
	guid := sha256.Sum256([]byte("rxguard GUID " + c.cfg.Serial))
	return bytes.Join([][]byte{
		tlv(0x30, fascn), tlv(0x34, guid[:16]), tlv(0x35, []byte("20991231")), tlv(0x3E), tlv(0xFE),
	}, nil)
}

// capabilities is the card capability container (SP 800-73-4 part 1, 3.1.1).
func (c *Card) capabilities() []byte {
	id := sha256.Sum256([]byte("rxguard CCC " + c.cfg.Serial))
	card := append([]byte{0xA0, 0x00, 0x00, 0x01, 0x16, 0xFF, 0x02}, id[:14]...)
	parts := [][]byte{tlv(0xF0, card), tlv(0xF1, []byte{0x21}), tlv(0xF2, []byte{0x21}), tlv(0xF3), tlv(0xF4, []byte{0}),
		tlv(0xF5, []byte{0x10}), tlv(0xF6), tlv(0xF7), tlv(0xFA), tlv(0xFB), tlv(0xFC), tlv(0xFD), tlv(0xFE)}
	return bytes.Join(parts, nil)
}

// PIVSerial is the number under which the YubiKey's tools show the card: its serial
// number where that is a decimal one of 32 bits, else one made from it.
func (c *Card) PIVSerial() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pivSerial()
}

func (c *Card) pivSerial() uint32 {
	if n, err := strconv.ParseUint(c.cfg.Serial, 10, 32); err == nil && n > 0 {
		return uint32(n)
	}
	sum := sha256.Sum256([]byte("rxguard serial " + c.cfg.Serial))
	return binary.BigEndian.Uint32(sum[:])>>4 | 1 // at most nine digits, never 0
}

func (a *applet) serial() []byte { return binary.BigEndian.AppendUint32(nil, a.c.PIVSerial()) }

// putData is PUT DATA (SP 800-73-4 part 2, 3.3.1): an empty object removes the one
// that is there.
func (a *applet) putData(q apdu) SW {
	if q.p1 != 0x3F || q.p2 != 0xFF {
		return SWParameters
	}
	object, rest, ok := objectID(q.data)
	if !ok {
		return SWData
	}
	value, ok := only(rest, 0x53)
	if !ok {
		return SWData
	}
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if sw := a.changeable(); sw != SWOK {
		return sw
	}
	if slot, id := certificateSlot(object); id != nil {
		return a.putCertificate(slot, id, value)
	}
	switch {
	case object == objectKeyHistory || object>>16 != 0x5F:
		return SWUnsupported // the card keeps the first itself
	case len(value) == 0:
		delete(c.objects, object)
		return a.save()
	case len(value) > maxObject || c.objects[object] == nil && len(c.objects) >= maxObjects:
		return SWFull
	}
	if c.objects == nil {
		c.objects = make(map[uint32][]byte)
	}
	c.objects[object] = bytes.Clone(value)
	return a.save()
}

// putCertificate stores or removes the certificate of a container. The card's lock
// is held.
func (a *applet) putCertificate(slot pivSlot, id, value []byte) SW {
	c := a.c
	der, sw := certificateOf(value)
	if sw != SWOK {
		return sw
	}
	k := c.find(id)
	if len(der) == 0 {
		if c.cfg.NoDestroy {
			return SWUnsupported
		}
		if k != nil {
			k.certificate, k.certificateLabel = nil, ""
			c.drop(k)
		}
		return a.save()
	}
	if sw := a.room(id); sw != SWOK {
		return sw
	}
	if k == nil {
		k = &container{id: id}
		c.containers = append(c.containers, k)
	}
	k.certificate, k.certificateLabel = der, slot.name
	return a.save()
}

// certificateOf reads a certificate object (SP 800-73-4 part 1, appendix A, table
// 10): the certificate, and whether it is compressed.
func certificateOf(value []byte) (der []byte, sw SW) {
	if len(value) == 0 {
		return nil, SWOK
	}
	f, ok := fields(value)
	if !ok {
		return nil, SWData
	}
	der = f[0x70]
	if info := f[0x71]; len(info) == 1 && info[0]&0x01 != 0 {
		z, err := gzip.NewReader(bytes.NewReader(der))
		if err != nil {
			return nil, SWData
		}
		if der, err = io.ReadAll(io.LimitReader(z, maxCertificate+1)); err != nil {
			return nil, SWData
		}
	}
	if len(der) > maxCertificate {
		return nil, SWFull
	}
	return bytes.Clone(der), SWOK
}
