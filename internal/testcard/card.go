// Package testcard is the simulated smartcard, with the test certificate
// authority ([CA]) and the test enrolment server ([Server]) that tests, examples
// and vendors' integration kits use. Everything it issues is marked with
// [Organization] and hangs under a root of its own, so that it cannot be mistaken
// for real.
//
// A [Card] is one state machine: passcode with tries, containers with key pairs
// and certificates, insertion and removal. It has two faces. [Card.Token] is the one
// for this module (card.Token); a [Card.Hook] before and after every operation lets
// a test refuse it, lose its answer, or pull the card in the middle. [Card.Plug]
// puts the card into a virtual reader, where it is a PIV smartcard (NIST SP 800-73-4)
// that PC/SC and every PKCS#11 module above it take for a real one;
// [Card.HookCommands] scripts its faults.
package testcard

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/rxguard/rxguard/internal/card"
)

// What every simulated card says of itself.
const (
	Manufacturer = "rxguard"
	Model        = "simulated card"
	DefaultPIN   = "123456"

	MinPIN = 4 // bytes
	MaxPIN = 8 // bytes
)

const (
	maxID          = 64       // bytes of a CKA_ID
	maxLabel       = 64       // bytes of a CKA_LABEL
	maxCertificate = 16 << 10 // bytes of a certificate
	maxContainers  = 64
	maxTries       = 15 // the counter of a PIV card has four bits
)

// Config says what card to make. The zero value is a card that can do everything
// but RSASSA-PSS.
type Config struct {
	Serial     string // empty: 16 random hexadecimal digits
	Label      string // empty: "simulated card"
	PIN        []byte // nil: DefaultPIN. It is copied.
	Tries      int    // for the passcode; 0: 3
	Containers int    // key pairs that fit; 0: 4

	ReadOnly           bool // nothing on it can be changed
	PSS                bool // signs RSASSA-PSS
	NoGenerate         bool // cannot make a key pair
	NoDestroy          bool // cannot remove an object
	NoPublicKeys       bool // shows no public key objects
	AlwaysAuthenticate bool // the signing key, and each generated one, wants a login for each signature

	// Of the PIV face. Both are copied.
	PUK           []byte // unblocking key, 4 to 8 bytes; nil: DefaultPUK
	ManagementKey []byte // card management key; nil: DefaultManagementKey. 24 bytes are for 3DES, 16 or 32 for AES
}

// Card is a simulated smartcard. It is made inserted. Its methods may be called
// from several goroutines, and from hooks.
type Card struct {
	mu         sync.Mutex
	cfg        Config // its secrets are the card's own copies
	triesLeft  int
	containers []*container
	personal   // of the PIV face

	present   bool
	insertion uint64
	first     card.Presence // when this value was made
	moved     chan struct{} // closed at the next insertion or removal

	makeKey func(bits int) (*rsa.PrivateKey, error)

	hook   func(Event) error
	events int
	trace  []Event

	commandHook  func(Command) []byte
	commandCount int
	commands     []Command

	path    string // of the automatic save; empty: none
	saveErr error  // of the last automatic save
}

// personal is what the PIV face keeps beside passcode and containers.
type personal struct {
	pukLeft       int
	managementAlg byte
	objects       map[uint32][]byte // other data objects than certificates, by tag
}

// container holds a key pair and its certificate under one CKA_ID. It is free
// again when nothing is left in it.
type container struct {
	id                 []byte
	label              string // of the keys
	private            crypto.Signer
	public             crypto.PublicKey
	alwaysAuthenticate bool
	local              bool // the card made the key, CKA_LOCAL
	certificateLabel   string
	certificate        []byte
	signatures         int
}

func (k *container) empty() bool {
	return k.private == nil && k.public == nil && k.certificate == nil
}

// New makes a card that is in the reader and has nothing on it.
func New(cfg Config) (*Card, error) {
	if cfg.Serial == "" {
		var b [8]byte
		rand.Read(b[:])
		cfg.Serial = hex.EncodeToString(b[:])
	}
	if cfg.Label == "" {
		cfg.Label = Model
	}
	if cfg.PIN == nil {
		cfg.PIN = []byte(DefaultPIN)
	}
	if cfg.Tries == 0 {
		cfg.Tries = 3
	}
	if cfg.Containers == 0 {
		cfg.Containers = 4
	}
	return build(cfg, cfg.Tries, nil, personal{pukLeft: pukTries}, card.Presence{Present: true, Insertion: 1})
}

// build checks what New and Load bring.
func build(cfg Config, triesLeft int, containers []*container, piv personal, p card.Presence) (*Card, error) {
	if cfg.PUK == nil {
		cfg.PUK = []byte(DefaultPUK)
	}
	if cfg.ManagementKey == nil {
		cfg.ManagementKey = DefaultManagementKey()
	}
	if piv.managementAlg == 0 {
		piv.managementAlg = map[int]byte{16: algAES128, 24: algTripleDES, 32: algAES256}[len(cfg.ManagementKey)]
	}
	if _, err := managementCipher(piv.managementAlg, cfg.ManagementKey); err != nil {
		return nil, fmt.Errorf("testcard: %w", err)
	}
	switch {
	case badLabel(cfg.Serial) || badLabel(cfg.Label):
		return nil, fmt.Errorf("testcard: serial %q, label %q, expected UTF-8 of at most %d bytes", cfg.Serial, cfg.Label, maxLabel)
	case len(cfg.PIN) < MinPIN || len(cfg.PIN) > MaxPIN:
		return nil, fmt.Errorf("testcard: passcode has %d bytes, expected %d to %d", len(cfg.PIN), MinPIN, MaxPIN)
	case cfg.Tries < 1 || cfg.Tries > maxTries || triesLeft < 0 || triesLeft > cfg.Tries:
		return nil, fmt.Errorf("testcard: %d of %d tries, expected at most %d", triesLeft, cfg.Tries, maxTries)
	case len(cfg.PUK) < MinPIN || len(cfg.PUK) > MaxPIN:
		return nil, fmt.Errorf("testcard: unblocking key has %d bytes, expected %d to %d", len(cfg.PUK), MinPIN, MaxPIN)
	case piv.pukLeft < 0 || piv.pukLeft > pukTries || len(piv.objects) > maxObjects:
		return nil, fmt.Errorf("testcard: %d of %d tries for the unblocking key, %d data objects, expected at most %d", piv.pukLeft, pukTries, len(piv.objects), maxObjects)
	case cfg.Containers < 1 || cfg.Containers > maxContainers:
		return nil, fmt.Errorf("testcard: %d containers, expected 1 to %d", cfg.Containers, maxContainers)
	case p.Insertion == 0:
		return nil, errors.New("testcard: insertion 0, expected a count from 1")
	}
	c := &Card{
		cfg:       cfg,
		triesLeft: triesLeft,
		personal:  piv,
		present:   p.Present,
		insertion: p.Insertion,
		first:     p,
		moved:     make(chan struct{}),
		makeKey:   generate,
	}
	c.cfg.PIN, c.cfg.PUK, c.cfg.ManagementKey = bytes.Clone(cfg.PIN), bytes.Clone(cfg.PUK), bytes.Clone(cfg.ManagementKey)
	for object, value := range piv.objects {
		if len(value) == 0 || len(value) > maxObject {
			return nil, fmt.Errorf("testcard: data object %X has %d bytes, expected 1 to %d", object, len(value), maxObject)
		}
	}
	for _, k := range containers {
		if err := c.add(k); err != nil {
			return nil, fmt.Errorf("testcard: %w", err)
		}
	}
	return c, nil
}

// Remove takes the card out of the reader: every session ends. Out already, it
// does nothing.
func (c *Card) Remove() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.present {
		c.present = false
		c.move()
	}
}

// Insert puts the card back. In already, it does nothing.
func (c *Card) Insert() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.present {
		c.present = true
		c.insertion++
		c.move()
	}
}

func (c *Card) move() {
	close(c.moved)
	c.moved = make(chan struct{})
	c.changed()
}

// SetPIN gives the card a new passcode and all its tries, as a Registration
// Authority does that unlocks a card.
func (c *Card) SetPIN(pin []byte) error {
	if len(pin) < MinPIN || len(pin) > MaxPIN {
		return fmt.Errorf("testcard: passcode has %d bytes, expected %d to %d", len(pin), MinPIN, MaxPIN)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.setPIN(pin)
}

func (c *Card) setPIN(pin []byte) error {
	clear(c.cfg.PIN)
	c.cfg.PIN = bytes.Clone(pin)
	c.triesLeft = c.cfg.Tries
	return c.changed()
}

// try compares a passcode in constant time and counts. It is for a card with tries
// left. The error is one of saving the count.
func (c *Card) try(pin []byte) (right bool, err error) {
	right = subtle.ConstantTimeCompare(pin, c.cfg.PIN) == 1
	switch {
	case !right:
		c.triesLeft--
	case c.triesLeft == c.cfg.Tries:
		return true, c.saveErr
	default:
		c.triesLeft = c.cfg.Tries
	}
	return right, c.changed()
}

// TriesLeft is the passcode counter inside the card.
func (c *Card) TriesLeft() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.triesLeft
}

// Signatures counts what the private key with this CKA_ID has signed in its
// life, whether or not the answer arrived.
func (c *Card) Signatures(id []byte) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.find(id); k != nil {
		return k.signatures
	}
	return 0
}

// find returns the container with this CKA_ID, or nil.
func (c *Card) find(id []byte) *container {
	i := slices.IndexFunc(c.containers, func(k *container) bool { return bytes.Equal(k.id, id) })
	if i < 0 {
		return nil
	}
	return c.containers[i]
}

// room tells whether a new container with this CKA_ID and label may be made.
func (c *Card) room(op Op, id []byte, label string) error {
	switch {
	case len(id) == 0 || len(id) > maxID:
		return card.Errorf(card.Unsupported, string(op), "CKA_ID of %d bytes, expected 1 to %d", len(id), maxID)
	case badLabel(label):
		return card.Errorf(card.Unsupported, string(op), "label %q, expected UTF-8 of at most %d bytes", label, maxLabel)
	case c.find(id) != nil:
		return card.Errorf(card.Unsupported, string(op), "CKA_ID %x is taken, expected a new one", id)
	case len(c.containers) >= c.cfg.Containers:
		return card.Errorf(card.Full, string(op), "all %d containers are taken", c.cfg.Containers)
	}
	return nil
}

func badLabel(label string) bool { return len(label) > maxLabel || !utf8.ValidString(label) }

// add puts a container on the card.
func (c *Card) add(k *container) error {
	if err := c.room(OpProvision, k.id, k.label); err != nil {
		return err
	}
	switch {
	case k.empty():
		return fmt.Errorf("container %x has neither key nor certificate", k.id)
	case badLabel(k.certificateLabel) || len(k.certificate) > maxCertificate:
		return fmt.Errorf("the certificate of container %x or its label is too long, expected at most %d bytes", k.id, maxCertificate)
	case k.signatures < 0:
		return fmt.Errorf("container %x signed %d times", k.id, k.signatures)
	}
	switch k.private.(type) {
	case nil:
	case *rsa.PrivateKey, *ecdsa.PrivateKey:
		if err := usable(k.private.Public()); err != nil {
			return fmt.Errorf("container %x: %w", k.id, err)
		}
	default:
		return fmt.Errorf("container %x: %T, expected an RSA or EC private key", k.id, k.private)
	}
	if k.public != nil {
		if err := usable(k.public); err != nil {
			return fmt.Errorf("container %x: %w", k.id, err)
		}
	}
	c.containers = append(c.containers, k)
	return nil
}

// drop frees a container in which nothing is left.
func (c *Card) drop(k *container) {
	if k.empty() {
		c.containers = slices.DeleteFunc(c.containers, func(x *container) bool { return x == k })
	}
}
