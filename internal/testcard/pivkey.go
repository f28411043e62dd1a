package testcard

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"math/big"
)

// Algorithm identifiers of key pairs (SP 800-78-4 table 6-2; RSA-4096 and import as
// on the YubiKey). The card has no other curve than P-256.
const (
	algRSA3072 = 0x05
	algRSA1024 = 0x06
	algRSA2048 = 0x07
	algP256    = 0x11
	algRSA4096 = 0x16
)

var rsaBits = map[byte]int{algRSA1024: 1024, algRSA2048: 2048, algRSA3072: 3072, algRSA4096: 4096}

// pivSlot is a container of the PIV application; its CKA_ID is its place in the
// list.
type pivSlot struct {
	reference byte
	object    uint32 // tag of its certificate (SP 800-73-4 part 1, table 3)
	name      string
}

var pivSlots = func() []pivSlot {
	list := []pivSlot{
		{0x9A, 0x5FC105, "PIV Authentication"},
		{0x9C, 0x5FC10A, "Digital Signature"},
		{0x9D, 0x5FC10B, "Key Management"},
		{0x9E, 0x5FC101, "Card Authentication"},
	}
	for i := range retiredSlots {
		list = append(list, pivSlot{0x82 + byte(i), 0x5FC10D + uint32(i), fmt.Sprintf("Retired Key Management %d", i+1)})
	}
	return list
}()

const retiredSlots = 20

// authenticate is GENERAL AUTHENTICATE (SP 800-73-4 part 2, 3.2.4): with the
// management key, or a private key's raw operation on a padded block (RSA) or a
// digest (ECDSA, answered as DER).
func (a *applet) authenticate(q apdu) ([]byte, SW) {
	if q.p2 == referenceManagement {
		return a.manage(q)
	}
	id := PIVID(q.p2)
	if id == nil {
		return nil, SWReference
	}
	template, ok := only(q.data, 0x7C)
	if !ok {
		return nil, SWData
	}
	f, ok := fields(template)
	if !ok {
		return nil, SWData
	}
	challenge, response := f[0x81], f[0x82]
	if len(challenge) == 0 || f[0x82] == nil || len(response) != 0 || len(f) != 2 {
		return nil, SWData
	}
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !a.present() {
		return nil, SWFault
	}
	k := c.find(id)
	if k == nil || k.private == nil {
		return nil, SWReference
	}
	if q.p1 != keyAlgorithm(k.private.Public()) {
		return nil, SWData
	}
	if sw := a.authorised(q.p2, k); sw != SWOK {
		return nil, sw
	}
	sig, ok := rawSign(k.private, challenge)
	if !ok {
		return nil, SWData
	}
	a.status.fresh = false
	k.signatures++
	return tlv(0x7C, tlv(0x82, sig)), a.save()
}

// authorised tells whether the key may be used now: 9C, and each key marked
// always-authenticate, wants the passcode since the last use of any key; 9E wants
// none (SP 800-73-4 part 1, table 4b). A card locked from elsewhere meanwhile signs
// nothing. The card's lock is held.
func (a *applet) authorised(reference byte, k *container) SW {
	switch {
	case pinPolicy(reference, k) == policyNever:
		return SWOK
	case a.c.triesLeft == 0 || !a.status.verified:
		return SWSecurity
	case pinPolicy(reference, k) == policyAlways && !a.status.fresh:
		return SWSecurity
	}
	return SWOK
}

// PIN policies as the YubiKey numbers them.
const (
	policyDefault = 0
	policyNever   = 1
	policyOnce    = 2
	policyAlways  = 3
)

func pinPolicy(reference byte, k *container) byte {
	switch {
	case reference == 0x9C || k.alwaysAuthenticate:
		return policyAlways
	case reference == 0x9E:
		return policyNever
	}
	return policyOnce
}

// rawSign is what the chip does with a block that the host has padded.
func rawSign(key crypto.Signer, block []byte) ([]byte, bool) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		m := new(big.Int).SetBytes(block)
		if len(block) != k.Size() || m.Cmp(k.N) >= 0 {
			return nil, false
		}
		// RFC 8017 5.2.1. The simulated card has no side channel to guard.
		return m.Exp(m, k.D, k.N).FillBytes(make([]byte, k.Size())), true
	case *ecdsa.PrivateKey:
		if len(block) > (k.Params().BitSize+7)/8 {
			return nil, false
		}
		sig, err := ecdsa.SignASN1(rand.Reader, k, block)
		return sig, err == nil
	}
	return nil, false
}

// keyAlgorithm is a public key's algorithm identifier, or 0.
func keyAlgorithm(pub crypto.PublicKey) byte {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		for alg, bits := range rsaBits {
			if k.N.BitLen() == bits {
				return alg
			}
		}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return algP256
		}
	}
	return 0
}

// publicTemplate is a public key as GENERATE answers it (SP 800-73-4 part 2, 3.3.2).
func publicTemplate(pub crypto.PublicKey) []byte {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return append(tlv(0x81, k.N.Bytes()), tlv(0x82, big.NewInt(int64(k.E)).Bytes())...)
	case *ecdsa.PublicKey:
		if point, err := k.Bytes(); err == nil {
			return tlv(0x86, point)
		}
	}
	return nil
}

// changeable tells whether the management key was presented and the card can be
// changed. The card's lock is held.
func (a *applet) changeable() SW {
	switch {
	case !a.present():
		return SWFault
	case !a.status.managed:
		return SWSecurity
	case a.c.cfg.ReadOnly:
		return SWConditions
	}
	return SWOK
}

// newPair is what GENERATE and import put into a container, over the pair that was
// there; the certificate stays.
type newPair struct {
	slot   pivSlot
	always bool
	local  bool // made by the card
	key    crypto.Signer
}

// room tells whether the pair has a place. The card's lock is held.
func (a *applet) room(id []byte) SW {
	if a.c.find(id) == nil && len(a.c.containers) >= a.c.cfg.Containers {
		return SWFull
	}
	return SWOK
}

// put stores the pair. The card's lock is held.
func (a *applet) put(p newPair) SW {
	c, id := a.c, PIVID(p.slot.reference)
	if sw := a.room(id); sw != SWOK {
		return sw
	}
	k := c.find(id)
	if k == nil {
		k = &container{id: id, certificateLabel: p.slot.name}
		c.containers = append(c.containers, k)
	}
	k.label, k.private, k.public, k.local = p.slot.name, p.key, nil, p.local
	if !c.cfg.NoPublicKeys {
		k.public = p.key.Public()
	}
	k.alwaysAuthenticate, k.signatures = p.always, 0
	return a.save()
}

// policy reads the YubiKey's PIN policy for a new key.
func (a *applet) policy(reference byte, f map[uint32][]byte) (always bool, ok bool) {
	switch p, asked := f[0xAA]; {
	case !asked || len(p) == 1 && p[0] == policyDefault:
		return reference == 0x9C || a.c.cfg.AlwaysAuthenticate, true
	case len(p) != 1 || p[0] > policyAlways:
		return false, false
	case p[0] == policyAlways:
		return true, reference != 0x9E
	case p[0] == policyNever:
		return false, reference == 0x9E
	}
	return false, reference != 0x9C && reference != 0x9E
}

// generate is GENERATE ASYMMETRIC KEY PAIR (SP 800-73-4 part 2, 3.3.2). The key is
// made outside the card's lock, so that the card can be pulled while it is.
func (a *applet) generate(q apdu) ([]byte, SW) {
	id := PIVID(q.p2)
	if q.p1 != 0 || id == nil {
		return nil, SWParameters
	}
	template, ok := only(q.data, 0xAC)
	if !ok {
		return nil, SWData
	}
	f, ok := fields(template)
	if !ok || len(f[0x80]) != 1 {
		return nil, SWData
	}
	c := a.c
	possible := func() SW {
		if sw := a.changeable(); sw != SWOK {
			return sw
		}
		if c.cfg.NoGenerate {
			return SWUnsupported
		}
		return a.room(id)
	}
	c.mu.Lock()
	always, ok := a.policy(q.p2, f)
	sw := possible()
	c.mu.Unlock()
	if sw != SWOK {
		return nil, sw
	}
	if !ok {
		return nil, SWData
	}
	var key crypto.Signer
	var err error
	switch alg := f[0x80][0]; alg {
	case algRSA2048, algRSA3072, algRSA4096:
		key, err = c.make()(rsaBits[alg])
	case algP256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		return nil, SWData
	}
	if err != nil {
		return nil, SWFault
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if sw := possible(); sw != SWOK {
		return nil, sw
	}
	p := newPair{slot: pivSlots[id[0]-1], always: always, local: true, key: key}
	return tlv(0x7F49, publicTemplate(key.Public())), a.put(p)
}

// importKey is the YubiKey's IMPORT ASYMMETRIC KEY; RSA keys have the exponent
// 65537.
func (a *applet) importKey(q apdu) SW {
	id := PIVID(q.p2)
	if id == nil {
		return SWParameters
	}
	f, ok := fields(q.data)
	if !ok {
		return SWData
	}
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if sw := a.changeable(); sw != SWOK {
		return sw
	}
	always, ok := a.policy(q.p2, f)
	if !ok {
		return SWData
	}
	key := importedKey(q.p1, f)
	if key == nil {
		return SWData
	}
	return a.put(newPair{slot: pivSlots[id[0]-1], always: always, key: key})
}

func importedKey(alg byte, f map[uint32][]byte) crypto.Signer {
	if alg == algP256 {
		k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), f[0x06])
		if err != nil {
			return nil
		}
		return k
	}
	bits := rsaBits[alg]
	p, q := new(big.Int).SetBytes(f[0x01]), new(big.Int).SetBytes(f[0x02])
	if bits == 0 || p.BitLen() != bits/2 || q.BitLen() != bits/2 || p.Cmp(q) == 0 {
		return nil
	}
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537}, Primes: []*big.Int{p, q}}
	if k.D = new(big.Int).ModInverse(big.NewInt(int64(k.E)), phi); k.D == nil || k.N.BitLen() != bits {
		return nil
	}
	k.Precompute()
	if k.Validate() != nil || !p.ProbablyPrime(0) || !q.ProbablyPrime(0) {
		return nil
	}
	return k
}

// metadata is the YubiKey's GET METADATA of a key, a passcode or the management
// key.
func (a *applet) metadata(q apdu) ([]byte, SW) {
	c := a.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !a.present() {
		return nil, SWFault
	}
	if q.p1 != 0 || len(q.data) != 0 {
		return nil, SWParameters
	}
	const never = 1 // touch policy
	isDefault := func(is bool) []byte {
		if is {
			return tlv(0x05, []byte{1})
		}
		return tlv(0x05, []byte{0})
	}
	join := func(parts ...[]byte) ([]byte, SW) { return bytes.Join(parts, nil), SWOK }
	switch q.p2 {
	case referencePIN:
		return join(tlv(0x01, []byte{0xFF}), isDefault(bytes.Equal(c.cfg.PIN, []byte(DefaultPIN))), tlv(0x06, []byte{byte(c.cfg.Tries), byte(c.triesLeft)}))
	case referencePUK:
		return join(tlv(0x01, []byte{0xFF}), isDefault(bytes.Equal(c.cfg.PUK, []byte(DefaultPUK))), tlv(0x06, []byte{pukTries, byte(c.pukLeft)}))
	case referenceManagement:
		return join(tlv(0x01, []byte{c.managementAlg}), tlv(0x02, []byte{0, never}),
			isDefault(c.managementAlg == algTripleDES && bytes.Equal(c.cfg.ManagementKey, DefaultManagementKey())))
	}
	k := c.find(PIVID(q.p2))
	if k == nil || k.private == nil {
		return nil, SWReference
	}
	origin := byte(2)
	if k.local {
		origin = 1
	}
	pub := k.private.Public()
	return join(tlv(0x01, []byte{keyAlgorithm(pub)}), tlv(0x02, []byte{pinPolicy(q.p2, k), never}), tlv(0x03, []byte{origin}), tlv(0x04, publicTemplate(pub)))
}

// KeyUse is a private key on a card and how many signatures it made.
type KeyUse struct {
	Reference  byte // PIV key reference, see PIVReference
	Signatures int
}

// KeyUses lists the private keys that the PIV face has, in the order of their CKA_IDs.
func (c *Card) KeyUses() []KeyUse {
	c.mu.Lock()
	defer c.mu.Unlock()
	var uses []KeyUse
	for i, s := range pivSlots {
		if k := c.find([]byte{byte(i + 1)}); k != nil && k.private != nil {
			uses = append(uses, KeyUse{s.reference, k.signatures})
		}
	}
	return uses
}
