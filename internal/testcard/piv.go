package testcard

import (
	"bytes"
	"slices"
	"sync"
)

// pivAID names the PIV card application (SP 800-73-4 part 1, 2.2). It is selected
// by any prefix that holds the registered provider identifier.
var pivAID = []byte{0xA0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00, 0x01, 0x00}

const ridLength = 5

// otherAIDs name the YubiKey's management and OTP applications, which its library
// libykpiv selects to end the security status of the PIV application. They do nothing
// else here.
var otherAIDs = [][]byte{
	{0xA0, 0x00, 0x00, 0x05, 0x27, 0x47, 0x11, 0x17},
	{0xA0, 0x00, 0x00, 0x05, 0x27, 0x20, 0x01},
}

// pivVersion is what the card answers to the YubiKey's GET VERSION: the first
// line of firmware with AES management keys and with what tools ask for today.
var pivVersion = []byte{5, 4, 3}

// ATR is the answer to reset of the card: T=1, and historical bytes that name the
// PIV application (SP 800-73-4 part 1, 2.2; ISO/IEC 7816-4 8.1.1).
func ATR() []byte {
	b := append([]byte{0x8B, 0x01, 0x80, 0xF9}, pivAID[:9]...)
	check := byte(0)
	for _, x := range b {
		check ^= x
	}
	return append(append([]byte{0x3B}, b...), check)
}

// PIVReference answers the key reference of PIV (SP 800-73-4 part 1, table 4b) and
// the CKA_ID under which OpenSC, ykcs11 and this package's in-process face show the
// key and its certificate: 9A is 01, 9C is 02, 9D is 03, 9E is 04, and the retired
// key management keys 82 to 95 are 05 to 18 (hexadecimal). A container with another
// CKA_ID is invisible to the PIV face.
func PIVReference(id []byte) (reference byte, ok bool) {
	if len(id) != 1 || id[0] == 0 || int(id[0]) > len(pivSlots) {
		return 0, false
	}
	return pivSlots[id[0]-1].reference, true
}

// PIVID answers the CKA_ID of a key reference of PIV; nil where it names no
// container.
func PIVID(reference byte) []byte {
	i := slices.IndexFunc(pivSlots, func(s pivSlot) bool { return s.reference == reference })
	if i < 0 {
		return nil
	}
	return []byte{byte(i + 1)}
}

// applet is the PIV application on the card from one power-up to the next: the
// security status, and what is left of the answer. One connection uses it, one
// command after the other; what it shares with the in-process face is the Card.
type applet struct {
	c         *Card
	insertion uint64

	mu     sync.Mutex // orders commands and resets
	status security

	selected bool
	chain    []byte // data of a chained command so far
	head     [3]byte
	rest     []byte   // of an answer, for GET RESPONSE
	sent     *Command // told once the whole answer has gone
}

// security is the security status of the application (SP 800-73-4 part 1, 2.4.2).
type security struct {
	verified bool   // the passcode was right
	fresh    bool   // and no private key was used since
	managed  bool   // the management key was presented
	pending  []byte // what the other side has to show to have it so
	external bool   // pending is the answer to a challenge, not to a witness
}

func newApplet(c *Card, insertion uint64) *applet {
	a := &applet{c: c, insertion: insertion}
	a.reset()
	return a
}

// reset is what power-up and reset leave: the PIV application selected, and no
// security status (SP 800-73-4 part 1, 2.3).
func (a *applet) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clear()
	a.status, a.selected = security{}, true
}

func (a *applet) clear() {
	clear(a.chain)
	a.chain, a.rest, a.sent = nil, nil, nil
}

// alive tells whether the card is still in the reader since the applet was
// powered.
func (a *applet) alive() bool {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	return a.present()
}

func (a *applet) present() bool { return a.c.present && a.c.insertion == a.insertion }

// transmit answers one APDU; nil when the card is out. Whoever sent the answer on
// calls the second result.
func (a *applet) transmit(b []byte) (answer []byte, sent func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.alive() {
		return nil, func() {}
	}
	q, sw := parseAPDU(b)
	switch {
	case sw != SWOK:
	case q.cla&^0x10 != 0: // no secure messaging, no logical channels
		sw = SWClass
	case q.cla == 0 && q.ins == insGetResponse:
		answer = a.next(q.le)
	default:
		if q, sw = a.assemble(q); sw == SWMore { // to come
			answer, sw = SWOK.Answer(), SWOK
		} else if sw == SWOK {
			if answer = a.command(q); answer == nil {
				return nil, func() {}
			}
		}
	}
	if sw != SWOK {
		a.clear()
		answer = sw.Answer()
	}
	cmd := a.sent
	if len(a.rest) > 0 || cmd == nil {
		return answer, func() {}
	}
	a.sent = nil
	return answer, func() { a.c.tellCommand(*cmd, After) }
}

// assemble joins chained commands (ISO/IEC 7816-4 5.3.3): SWMore until the last
// one.
func (a *applet) assemble(q apdu) (apdu, SW) {
	head := [3]byte{q.ins, q.p1, q.p2}
	if a.chain != nil && head != a.head {
		return q, SWLastOfChain
	}
	if len(a.chain)+len(q.data) > maxCommand {
		return q, SWLength
	}
	a.rest, a.sent = nil, nil
	chain := append(a.chain, q.data...)
	if q.cla&0x10 != 0 {
		if chain == nil {
			chain = []byte{}
		}
		a.chain, a.head = chain, head
		return q, SWMore
	}
	a.chain, q.data = nil, chain
	return q, SWOK
}

// command carries out one whole command, with the hooks before and after it; nil
// when the card is out.
func (a *applet) command(q apdu) []byte {
	defer clear(q.data)
	cmd := describe(q)
	cmd.Insertion = a.insertion
	answer := a.c.tellCommand(cmd, Before)
	if !a.alive() {
		return nil
	}
	if answer == nil {
		data, sw := a.execute(q)
		if !a.alive() {
			return nil
		}
		answer = append(data, sw.Answer()...)
		cmd.SW = sw
		if other := a.c.tellCommand(cmd, During); other != nil {
			answer = other
		}
		if !a.alive() {
			return nil
		}
	}
	a.sent = &cmd
	if len(answer) < 2 { // scripted, and not even a status word
		return answer
	}
	a.rest = answer
	return a.next(q.le)
}

// next answers the next part of an answer: all of it, or as much as was asked for
// and SWMore.
func (a *applet) next(le int) []byte {
	if len(a.rest) == 0 {
		return SWConditions.Answer()
	}
	if le == 0 {
		le = 1 << 8
	}
	body := len(a.rest) - 2
	if body <= le {
		part := a.rest
		a.rest = nil
		return part
	}
	part := bytes.Clone(a.rest[:le])
	a.rest = a.rest[le:]
	return append(part, (SWMore | SW(left(body-le))).Answer()...)
}

func left(n int) int {
	if n > 0xFF {
		return 0
	}
	return n
}

// execute does what a command says.
func (a *applet) execute(q apdu) ([]byte, SW) {
	if q.ins == insSelect {
		return a.selectApplication(q)
	}
	if !a.selected {
		return nil, SWInstruction
	}
	switch q.ins {
	case insVerify:
		return nil, a.verify(q)
	case insChangeReference:
		return nil, a.changeReference(q)
	case insResetRetry:
		return nil, a.resetRetry(q)
	case insGetData:
		return a.getData(q)
	case insPutData:
		return nil, a.putData(q)
	case insAuthenticate:
		return a.authenticate(q)
	case insGenerate:
		return a.generate(q)
	case insImport:
		return nil, a.importKey(q)
	case insMetadata:
		return a.metadata(q)
	case insSetManagement:
		return nil, a.setManagement(q)
	case insReset:
		return nil, a.resetApplication()
	case insVersion:
		return bytes.Clone(pivVersion), SWOK
	case insSerial:
		return a.serial(), SWOK
	}
	return nil, SWInstruction
}

// selectApplication is SELECT by name (SP 800-73-4 part 2, 3.1.1). Selecting the
// application again leaves the security status, and so does a name that no application
// has; another application ends it, and is the selected one from then on.
func (a *applet) selectApplication(q apdu) ([]byte, SW) {
	named := func(aid []byte) bool { return len(q.data) >= ridLength && bytes.HasPrefix(aid, q.data) }
	switch {
	case q.p1 != 0x04 || q.p2&^0x0C != 0:
		return nil, SWParameters
	case slices.ContainsFunc(otherAIDs, named):
		a.status, a.selected = security{}, false
		return nil, SWOK
	case !named(pivAID):
		return nil, SWNotFound
	}
	a.selected = true
	return tlv(0x61, // application property template, table 3
		tlv(0x4F, pivAID[ridLength:]),
		tlv(0x79, tlv(0x4F, pivAID[:ridLength])),
		tlv(0x50, []byte("rxguard "+Model)),
		tlv(0xAC, // cryptographic algorithms, SP 800-78-4 table 6-2
			tlv(0x80, []byte{algTripleDES}), tlv(0x80, []byte{algRSA2048}), tlv(0x80, []byte{algP256}), tlv(0x06, []byte{0x00})),
	), SWOK
}
