package testcard

import (
	"slices"
	"sync/atomic"

	"github.com/rxguard/rxguard/internal/card"
)

// Operations of the PIV face alone. The others go by the names of the in-process
// face: OpLogin is VERIFY with a passcode, OpLogout VERIFY that ends the login,
// OpObjects GET DATA of a certificate and GET METADATA of a key, OpSign GENERAL
// AUTHENTICATE with a private key, OpGenerate, OpWriteCertificate PUT DATA of a
// certificate, OpDestroy PUT DATA that removes one.
const (
	OpSelect    Op = "select"
	OpTries     Op = "tries"      // VERIFY that asks for the tries left
	OpChangePIN Op = "change_pin" // CHANGE REFERENCE DATA
	OpUnblock   Op = "unblock"    // RESET RETRY COUNTER
	OpManage    Op = "manage"     // GENERAL AUTHENTICATE with the management key
	OpImport    Op = "import"     // of a private key
	OpGetData   Op = "get_data"   // of another object than a certificate
	OpPutData   Op = "put_data"   // of another object than a certificate
	OpOther     Op = "other"
)

// Phase is where in a command a hook is called.
type Phase int

// The phases.
const (
	Before Phase = iota // the command has arrived and nothing was done
	During              // the card has done it, and nothing was answered
	After               // the whole answer has gone
)

// String is the phase's name.
func (p Phase) String() string {
	return [...]string{"before", "during", "after"}[p]
}

// Command is one command that reached the PIV face, whole: chained APDUs are one
// command, and so is an answer that is fetched in parts.
type Command struct {
	Op        Op
	Phase     Phase
	Insertion uint64
	ID        []byte // CKA_ID, where the command names a container
	Class     card.Class
	Object    uint32 // tag of the data object, where it names one
	INS       byte
	P1, P2    byte
	SW        SW  // what the card made of it; 0 before
	N         int // number of the command and phase since the card was made or loaded, from 1
}

// HookCommands makes h be called in each phase of every command of the PIV face;
// nil ends that. It may use the card's methods, also to pull the card: before, the
// command then is not carried out; during, its answer is lost. It may wait for as
// long as it likes: the reader waits with it.
//
// A result of h that is not nil is the whole answer, status word included: before,
// in place of the command, which is not carried out; during, in place of its own
// answer. After, it is ignored. With an empty one, which is no answer, the card loses
// its connection to the reader and takes up another.
func (c *Card) HookCommands(h func(Command) []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.commandHook = h
}

// OnCommand makes a hook for HookCommands that calls act at the nth command, from
// 1, of op in one phase.
func OnCommand(op Op, p Phase, nth int, act func() []byte) func(Command) []byte {
	var n atomic.Int64
	return func(cmd Command) []byte {
		if cmd.Op == op && cmd.Phase == p && n.Add(1) == int64(nth) {
			return act()
		}
		return nil
	}
}

// Commands lists the commands that reached the PIV face, oldest first; of a long
// life at least the newest 16,384 phases.
func (c *Card) Commands() []Command {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.commands)
}

// tellCommand numbers and records a phase and asks the hook, outside the card's
// lock.
func (c *Card) tellCommand(cmd Command, p Phase) []byte {
	c.mu.Lock()
	c.commandCount++
	cmd.Phase, cmd.N = p, c.commandCount
	c.commands = newest(append(c.commands, cmd), keptEvents)
	h := c.commandHook
	c.mu.Unlock()
	if h == nil {
		return nil
	}
	return h(cmd)
}

// describe names what a command is about to do.
func describe(q apdu) Command {
	cmd := Command{Op: OpOther, INS: q.ins, P1: q.p1, P2: q.p2}
	container := func(op Op, class card.Class) {
		cmd.Op, cmd.Class, cmd.ID = op, class, PIVID(q.p2)
	}
	switch q.ins {
	case insSelect:
		cmd.Op = OpSelect
	case insVerify:
		switch {
		case q.p1 == 0xFF:
			cmd.Op = OpLogout
		case len(q.data) == 0:
			cmd.Op = OpTries
		default:
			cmd.Op = OpLogin
		}
	case insChangeReference:
		cmd.Op = OpChangePIN
	case insResetRetry:
		cmd.Op = OpUnblock
	case insAuthenticate:
		if container(OpSign, card.PrivateKeyObject); q.p2 == referenceManagement {
			cmd.Op, cmd.Class = OpManage, 0
		}
	case insGenerate:
		container(OpGenerate, card.PrivateKeyObject)
	case insImport:
		container(OpImport, card.PrivateKeyObject)
	case insMetadata:
		if PIVID(q.p2) != nil {
			container(OpObjects, card.PrivateKeyObject)
		}
	case insGetData, insPutData:
		object, rest, ok := objectID(q.data)
		if !ok {
			break
		}
		cmd.Object = object
		_, cmd.ID = certificateSlot(object)
		value, _ := only(rest, 0x53)
		switch {
		case cmd.ID != nil:
			cmd.Class = card.CertificateObject
			switch {
			case q.ins == insGetData:
				cmd.Op = OpObjects
			case len(value) == 0:
				cmd.Op = OpDestroy
			default:
				cmd.Op = OpWriteCertificate
			}
		case q.ins == insGetData:
			cmd.Op = OpGetData
		default:
			cmd.Op = OpPutData
		}
	}
	return cmd
}
