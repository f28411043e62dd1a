package testcard

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"fmt"
)

// Algorithm identifiers of the card management key (SP 800-78-4 table 6-2).
const (
	algTripleDES = 0x03
	algAES128    = 0x08
	algAES192    = 0x0A
	algAES256    = 0x0C
)

// managementCipher answers the block cipher of a card management key.
func managementCipher(alg byte, key []byte) (cipher.Block, error) {
	want := map[byte]int{algTripleDES: 24, algAES128: 16, algAES192: 24, algAES256: 32}[alg]
	if want == 0 || len(key) != want {
		return nil, fmt.Errorf("management key of %d bytes for algorithm %02X, expected 24 for 3DES (03), or 16, 24 or 32 for AES (08, 0A, 0C)", len(key), alg)
	}
	if alg == algTripleDES {
		return des.NewTripleDESCipher(key)
	}
	return aes.NewCipher(key)
}

// manage is GENERAL AUTHENTICATE with the card management key: mutual with a
// witness, or external with a challenge of the card's (SP 800-73-4 part 2, 3.2.4
// and appendix A.1). A template that is neither ends what was begun.
func (a *applet) manage(q apdu) ([]byte, SW) {
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !a.present() {
		return nil, SWFault
	}
	alg := q.p1
	if alg == 0 { // SP 800-78-4 table 6-2: 3DES too
		alg = algTripleDES
	}
	if alg != c.managementAlg {
		return nil, SWParameters
	}
	block, err := managementCipher(alg, c.cfg.ManagementKey)
	if err != nil {
		return nil, SWConditions
	}
	template, ok := only(q.data, 0x7C)
	if !ok {
		return nil, SWData
	}
	f, ok := fields(template)
	if !ok {
		return nil, SWData
	}
	pending, external := a.status.pending, a.status.external
	a.status.pending = nil
	n := block.BlockSize()
	encrypt := func(b []byte) []byte {
		out := make([]byte, n)
		block.Encrypt(out, b)
		return out
	}
	witness, hasWitness := f[0x80]
	challenge, hasChallenge := f[0x81]
	response, hasResponse := f[0x82]
	switch {
	case hasWitness && len(witness) == 0 && len(f) == 1:
		a.status.pending, a.status.external = random(n), false
		return tlv(0x7C, tlv(0x80, encrypt(a.status.pending))), SWOK
	case hasChallenge && len(challenge) == 0 && !hasWitness && len(response) == 0:
		ours := random(n)
		a.status.pending, a.status.external = encrypt(ours), true
		return tlv(0x7C, tlv(0x81, ours)), SWOK
	case hasWitness && hasChallenge && len(challenge) == n && len(response) == 0:
		if pending == nil || external || subtle.ConstantTimeCompare(witness, pending) != 1 {
			a.status.managed = false
			return nil, SWSecurity
		}
		a.status.managed = true
		return tlv(0x7C, tlv(0x82, encrypt(challenge))), SWOK
	case hasResponse && len(f) == 1:
		if pending == nil || !external || subtle.ConstantTimeCompare(response, pending) != 1 {
			a.status.managed = false
			return nil, SWSecurity
		}
		a.status.managed = true
		return nil, SWOK
	}
	return nil, SWData
}

// setManagement is the YubiKey's SET MANAGEMENT KEY.
func (a *applet) setManagement(q apdu) SW {
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !a.present():
		return SWFault
	case q.p1 != 0xFF || q.p2 != 0xFF && q.p2 != 0xFE: // FE: to be touched, which nobody can
		return SWParameters
	case !a.status.managed:
		return SWSecurity
	case len(q.data) < 3 || q.data[1] != referenceManagement || int(q.data[2]) != len(q.data)-3:
		return SWData
	}
	alg, key := q.data[0], q.data[3:]
	if _, err := managementCipher(alg, key); err != nil {
		return SWData
	}
	clear(c.cfg.ManagementKey)
	c.cfg.ManagementKey, c.managementAlg = bytes.Clone(key), alg
	return a.save()
}

// resetApplication is the YubiKey's RESET: with no tries left for passcode and
// unblocking key, everything on the card goes.
func (a *applet) resetApplication() SW {
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !a.present():
		return SWFault
	case c.triesLeft > 0 || c.pukLeft > 0:
		return SWConditions
	}
	c.containers, c.objects = nil, nil
	clear(c.cfg.PUK)
	clear(c.cfg.ManagementKey)
	c.cfg.PUK, c.pukLeft = []byte(DefaultPUK), pukTries
	c.cfg.ManagementKey, c.managementAlg = DefaultManagementKey(), algTripleDES
	a.status = security{}
	if c.setPIN([]byte(DefaultPIN)) != nil {
		return SWMemory
	}
	return SWOK
}
