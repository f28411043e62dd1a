package testcard

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
)

// What a card made without its own has. Both are well known.
const DefaultPUK = "12345678"

// DefaultManagementKey is the card management key of a card made without its own,
// for 3DES.
func DefaultManagementKey() []byte {
	return bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 3)
}

// Key references of SP 800-73-4 part 1, table 4b.
const (
	referencePIN        = 0x80
	referencePUK        = 0x81
	referenceManagement = 0x9B
)

const (
	pinLength = 8 // bytes of a passcode in a command, filled up with FF
	pukTries  = 3
)

// padded reads a passcode from a command. One that cannot be right costs no try.
func padded(b []byte) ([]byte, bool) {
	if len(b) != pinLength {
		return nil, false
	}
	pin := bytes.TrimRight(b, "\xff")
	return pin, len(pin) >= MinPIN
}

// verify is VERIFY (SP 800-73-4 part 2, 3.2.1).
func (a *applet) verify(q apdu) SW {
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !a.present():
		return SWFault
	case q.p2 != referencePIN:
		return SWReference
	case q.p1 == 0xFF && len(q.data) == 0:
		a.status.verified, a.status.fresh = false, false
		return SWOK
	case q.p1 != 0:
		return SWParameters
	case len(q.data) == 0 && c.triesLeft == 0:
		return SWBlocked
	case len(q.data) == 0 && a.status.verified:
		return SWOK
	case len(q.data) == 0:
		return SWTries | SW(c.triesLeft)
	}
	pin, ok := padded(q.data)
	if !ok {
		return SWData
	}
	sw := a.tryPIN(pin)
	a.status.verified = sw == SWOK
	a.status.fresh = a.status.verified
	return sw
}

// tryPIN spends a try of the card's passcode. The card's lock is held.
func (a *applet) tryPIN(pin []byte) SW {
	c := a.c
	if c.triesLeft == 0 {
		return SWBlocked
	}
	right, err := c.try(pin)
	switch {
	case err != nil:
		return SWMemory
	case right:
		return SWOK
	}
	a.status.verified, a.status.fresh = false, false
	return SWTries | SW(c.triesLeft)
}

// tryPUK spends a try of the unblocking key. The card's lock is held.
func (a *applet) tryPUK(puk []byte) SW {
	c := a.c
	if c.pukLeft == 0 {
		return SWBlocked
	}
	right := subtle.ConstantTimeCompare(puk, c.cfg.PUK) == 1
	if right {
		c.pukLeft = pukTries
	} else {
		c.pukLeft--
	}
	switch {
	case c.changed() != nil:
		return SWMemory
	case right:
		return SWOK
	}
	return SWTries | SW(c.pukLeft)
}

// changeReference is CHANGE REFERENCE DATA: the old passcode, then the new one
// (SP 800-73-4 part 2, 3.2.2).
func (a *applet) changeReference(q apdu) SW {
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !a.present() {
		return SWFault
	}
	if q.p1 != 0 {
		return SWParameters
	}
	if q.p2 != referencePIN && q.p2 != referencePUK {
		return SWReference
	}
	if len(q.data) != 2*pinLength {
		return SWData
	}
	old, oldOK := padded(q.data[:pinLength])
	fresh, freshOK := padded(q.data[pinLength:])
	if !oldOK || !freshOK {
		return SWData
	}
	if q.p2 == referencePUK {
		if sw := a.tryPUK(old); sw != SWOK {
			return sw
		}
		clear(c.cfg.PUK)
		c.cfg.PUK = bytes.Clone(fresh)
	} else {
		if sw := a.tryPIN(old); sw != SWOK {
			return sw
		}
		a.status.verified, a.status.fresh = true, true
		clear(c.cfg.PIN)
		c.cfg.PIN = bytes.Clone(fresh)
	}
	return a.save()
}

// resetRetry is RESET RETRY COUNTER: the unblocking key, then a new passcode (SP
// 800-73-4 part 2, 3.2.3).
func (a *applet) resetRetry(q apdu) SW {
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !a.present() {
		return SWFault
	}
	if q.p1 != 0 {
		return SWParameters
	}
	if q.p2 != referencePIN {
		return SWReference
	}
	if len(q.data) != 2*pinLength {
		return SWData
	}
	puk, pukOK := padded(q.data[:pinLength])
	pin, pinOK := padded(q.data[pinLength:])
	if !pukOK || !pinOK {
		return SWData
	}
	if sw := a.tryPUK(puk); sw != SWOK {
		return sw
	}
	if c.setPIN(pin) != nil {
		return SWMemory
	}
	return SWOK
}

// save answers what became of a change. The card's lock is held.
func (a *applet) save() SW {
	if a.c.changed() != nil {
		return SWMemory
	}
	return SWOK
}

// random makes n bytes.
func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
