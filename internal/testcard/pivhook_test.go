package testcard

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
)

// commands sends one command of each operation; those of long data are chained.
func commands(h host) map[Op]func() ([]byte, SW) {
	send := func(ins, p1, p2 byte, data ...byte) func() ([]byte, SW) {
		return func() ([]byte, SW) { return h.send(ins, p1, p2, data...) }
	}
	put := func(id uint32, value []byte) func() ([]byte, SW) {
		return send(insPutData, 0x3F, 0xFF, append(object(id), tlv(0x53, value)...)...)
	}
	scalar, _ := ecKey().Bytes()
	return map[Op]func() ([]byte, SW){
		OpSelect:           send(insSelect, 4, 0, pivAID...),
		OpLogin:            send(insVerify, 0, 0x80, pin(DefaultPIN)...),
		OpTries:            send(insVerify, 0, 0x80),
		OpLogout:           send(insVerify, 0xFF, 0x80),
		OpChangePIN:        send(insChangeReference, 0, 0x80, append(pin(DefaultPIN), pin("246824")...)...),
		OpUnblock:          send(insResetRetry, 0, 0x80, append(pin(DefaultPUK), pin("246824")...)...),
		OpManage:           send(insAuthenticate, algTripleDES, 0x9B, 0x7C, 2, 0x80, 0),
		OpSign:             send(insAuthenticate, algP256, 0x9C, tlv(0x7C, tlv(0x82), tlv(0x81, digest[:]))...),
		OpGenerate:         send(insGenerate, 0, 0x82, 0xAC, 3, 0x80, 1, algP256),
		OpImport:           send(insImport, algP256, 0x82, tlv(0x06, scalar)...),
		OpWriteCertificate: put(0x5FC10A, certificateObject(make([]byte, 600))),
		OpDestroy:          put(0x5FC10A, nil),
		OpObjects:          send(insGetData, 0x3F, 0xFF, object(0x5FC10A)...),
		OpGetData:          send(insGetData, 0x3F, 0xFF, object(objectCHUID)...),
		OpPutData:          put(objectCHUID, []byte{1}),
		OpOther:            send(insVersion, 0, 0),
	}
}

// ready is a card with a pair in 9C, and a host that is logged in and has presented
// the management key.
func ready(t testing.TB) (*Card, host) {
	t.Helper()
	c := newCard(t, Config{})
	require.NoError(t, c.Provision(Pair{ID: SigningID(), Label: SigningLabel, Key: ecKey(), Certificate: make([]byte, 600)}))
	h := plug(t, c)
	h.manage()
	h.login()
	return c, h
}

func TestHookAtEachPhaseOfEachCommand(t *testing.T) {
	_, any := ready(t)
	for op := range commands(any) {
		t.Run(string(op), func(t *testing.T) {
			c, h := ready(t)
			before := len(c.Commands())
			answer, sw := commands(h)[op]()
			require.Equal(t, SWOK, sw, "%04X", uint16(sw))
			told := c.Commands()[before:]
			require.Len(t, told, 3, "chained and in parts, it is one command")
			for i, p := range []Phase{Before, During, After} {
				assert.Equal(t, op, told[i].Op)
				assert.Equal(t, p, told[i].Phase)
				assert.Equal(t, before+1+i, told[i].N)
				assert.Equal(t, uint64(1), told[i].Insertion)
			}
			assert.Equal(t, SW(0), told[0].SW)
			assert.Equal(t, SWOK, told[1].SW)
			assert.Equal(t, SWOK, told[2].SW)

			c, h = ready(t)
			untouched := state(t, c)
			c.HookCommands(OnCommand(op, Before, 1, func() []byte { return SWFull.Answer() }))
			_, sw = commands(h)[op]()
			assert.Equal(t, SWFull, sw)
			assert.Equal(t, untouched, state(t, c), "answered before, it is not carried out")
			_, sw = commands(h)[op]()
			assert.Equal(t, SWOK, sw, "the second time is as ever")

			c, h = ready(t)
			c.HookCommands(OnCommand(op, During, 1, func() []byte { return []byte{0xDE, 0xAD, 0x90, 0x00} }))
			garbage, sw := commands(h)[op]()
			assert.Equal(t, SWOK, sw)
			assert.Equal(t, []byte{0xDE, 0xAD}, garbage)
			assert.NotEqual(t, answer, garbage)
			if op == OpSign {
				assert.Equal(t, 1, c.Signatures(SigningID()), "answered during, it was carried out")
			}
		})
	}
}

func TestACardPulledAtEachPhase(t *testing.T) {
	for phase, signed := range map[Phase]int{Before: 0, During: 1, After: 1} {
		t.Run(phase.String(), func(t *testing.T) {
			c, h := ready(t)
			c.HookCommands(OnCommand(OpSign, phase, 1, func() []byte { c.Remove(); return nil }))
			message := append([]byte{0, insAuthenticate, algP256, 0x9C, 38}, tlv(0x7C, tlv(0x82), tlv(0x81, digest[:]))...)
			answer, sent := h.a.transmit(append(message, 0))
			sent()
			assert.Equal(t, phase == After, answer != nil)
			assert.Equal(t, signed, c.Signatures(SigningID()))
			answer, _ = h.a.transmit([]byte{0, insVersion, 0, 0})
			assert.Nil(t, answer)
		})
	}
}

func TestCommandsNameWhatTheyWorkOn(t *testing.T) {
	c, h := ready(t)
	commands(h)[OpSign]()
	commands(h)[OpWriteCertificate]()
	list := c.Commands()
	sign, write := list[len(list)-4], list[len(list)-1]
	assert.Equal(t, Command{Op: OpSign, Phase: After, Insertion: 1, ID: SigningID(), Class: card.PrivateKeyObject,
		INS: insAuthenticate, P1: algP256, P2: 0x9C, SW: SWOK, N: sign.N}, sign)
	assert.Equal(t, Command{Op: OpWriteCertificate, Phase: After, Insertion: 1, ID: SigningID(), Class: card.CertificateObject,
		Object: 0x5FC10A, INS: insPutData, P1: 0x3F, P2: 0xFF, SW: SWOK, N: write.N}, write)
}

func TestTheListOfCommandsIsBounded(t *testing.T) {
	c := newCard(t, Config{})
	h := plug(t, c)
	for range keptEvents {
		h.ok(insVersion, 0, 0)
	}
	list := c.Commands()
	assert.GreaterOrEqual(t, len(list), keptEvents)
	assert.Less(t, len(list), 2*keptEvents)
	assert.Equal(t, 3*keptEvents, list[len(list)-1].N)
}
