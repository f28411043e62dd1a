// Package signingtest is a simulated smartcard, with a test certificate authority
// and an enrolment server, for integration tests of applications that embed this
// library. It behaves as a real card: passcode with tries, a reader it can be taken
// out of and put back into, an authentication and a signing pair.
//
//	kit, err := signingtest.New(signingtest.Config{})
//	card, err := signing.Open(ctx, signing.Config{Reader: kit.Reader(), PIN: kit.PIN})
//	signer, err := signing.New(card, g, recorder)
//
// It cannot be mistaken for a real one: everything is issued under a root of its
// own that nobody trusts, every subject carries the organisation
// guard.SimulatedOrganization, verdicts and decision records say "simulated", and a
// guard whose Config.Live is set refuses the card and its certificates. Holds of
// simulated cards live in the kit's folder, never in the machine's.
package signingtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
)

// Config says what to simulate. The zero value works.
type Config struct {
	// Dir keeps the card, its passcode, the authority and the card's holds, so that
	// a later process can go on with them; not two at a time. A folder that holds
	// them already is gone on with, the card put into its reader, and the other
	// fields but Now then have no meaning. Empty is a temporary folder that Close
	// removes.
	Dir string

	// Issued is notBefore of the card's two certificates; they are valid for two
	// years. Zero is an hour before now.
	Issued time.Time

	// Now is the clock of the authority; nil is time.Now. By the machine's clock it
	// back-dates notBefore by five minutes, as authorities do; by another it does
	// not.
	Now func() time.Time

	// Passcode is the card's, 4 to 8 bytes; nil is "123456". It is copied. Three
	// wrong tries lock the card.
	Passcode []byte

	// UserID is the prescriber's, 12 digits; empty is a random one.
	UserID string

	// Authority is another Kit, whose authority issues this card too, and in whose
	// folder its holds live: so several cards of one person, or of several, are
	// simulated. It is to be closed last. Nil is an authority of this Kit's own.
	Authority *Kit

	// ECKey gives the card a P-256 signing key in place of an RSA one.
	ECKey bool
}

// Kit is one simulated card and what belongs to it. Its methods may be called from
// several goroutines.
type Kit struct {
	dir       string
	temporary bool
	passcode  []byte
	state     string
	card      *testcard.Card
	ca        *testcard.CA
	slot      *testcard.Slot // the reader

	mu      sync.Mutex
	in      *testcard.Slot // where the card was put last
	servers []*testcard.Server
	closed  bool
}

// New makes a simulated card that is in its reader, or goes on with the one in
// Config.Dir.
func New(c Config) (*Kit, error) {
	k := &Kit{dir: c.Dir, passcode: slices.Clone(c.Passcode)}
	if k.passcode == nil {
		k.passcode = []byte(testcard.DefaultPIN)
	}
	if k.dir == "" {
		dir, err := os.MkdirTemp("", "rxguard-simulated-")
		if err != nil {
			return nil, fmt.Errorf("signingtest: %w", err)
		}
		k.dir, k.temporary = dir, true
	}
	if err := k.start(c); err != nil {
		_ = k.Close()
		return nil, fmt.Errorf("signingtest: %w", err)
	}
	k.slot = testcard.NewSlot(k.card)
	k.in = k.slot
	return k, nil
}

func (k *Kit) start(c Config) error {
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return err
	}
	cardFile, caFile := filepath.Join(k.dir, "card.json"), filepath.Join(k.dir, "ca.json")
	pinFile := filepath.Join(k.dir, "passcode")
	k.state = filepath.Join(k.dir, "state")
	if c.Authority != nil {
		k.ca, k.state = c.Authority.ca, c.Authority.state
	}
	cfg := testcard.CAConfig{Now: c.Now}
	if c.Now != nil {
		cfg.Backdate = -1
	}
	if _, err := os.Stat(cardFile); err == nil {
		if k.ca == nil {
			if k.ca, err = testcard.LoadCA(caFile, cfg); err != nil {
				return err
			}
		}
		if k.passcode, err = os.ReadFile(pinFile); err != nil {
			return err
		}
		if k.card, err = testcard.Load(cardFile); err != nil {
			return err
		}
		k.card.Insert()
		return k.card.SaveTo(cardFile)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var err error
	if k.ca == nil {
		if k.ca, err = testcard.NewCA(cfg); err != nil {
			return err
		}
	}
	if k.card, err = testcard.New(testcard.Config{PIN: k.passcode, PSS: true}); err != nil {
		return err
	}
	who := testcard.Prescriber{UID: c.UserID, NotBefore: c.Issued}
	if who.NotBefore.IsZero() {
		who.NotBefore = k.ca.Now().Add(-time.Hour)
	}
	who.NotAfter = who.NotBefore.AddDate(2, 0, 0)
	if c.ECKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		who.SigningKey = key
	}
	if _, _, err := k.card.ProvisionPrescriber(k.ca, who); err != nil {
		return err
	}
	if c.Authority == nil {
		if err := k.ca.Save(caFile); err != nil {
			return err
		}
	}
	if err := os.WriteFile(pinFile, k.passcode, 0o600); err != nil {
		return err
	}
	return k.card.SaveTo(cardFile)
}

// Reader is where the card is, for signing.Config.
func (k *Kit) Reader() *signing.Reader {
	return card.NewReader(k.slot.Token(), k.state)
}

// PIN is a holder who knows the passcode, for signing.Config.
func (k *Kit) PIN(ctx context.Context, _ signing.PINRequest) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return slices.Clone(k.passcode), nil
}

// Remove takes the card out of the reader that it is in. Out already, it does nothing.
func (k *Kit) Remove() { k.card.Remove() }

// Insert puts the card back. In already, it does nothing.
func (k *Kit) Insert() { k.card.Insert() }

// Put puts the card of another Kit into this one's reader, from wherever it is; the
// card that was in is taken out. Put(k) puts k's own back in.
func (k *Kit) Put(other *Kit) {
	other.mu.Lock()
	defer other.mu.Unlock()
	other.in.TakeOut(other.card)
	k.slot.Put(other.card)
	other.in = k.slot
}

// TriesLeft is the passcode counter inside the card.
func (k *Kit) TriesLeft() int { return k.card.TriesLeft() }

// SigningKeyUses counts the signatures that the card's first signing key made,
// whether or not they were released.
func (k *Kit) SigningKeyUses() int { return k.card.Signatures(testcard.SigningID()) }

// Hook has f called before and after each operation that reaches the card: open,
// info, objects, login, logout, sign, generate, write_certificate, destroy, close.
// An error before an operation is the card's answer, and it does not happen; an
// error after it loses the answer. f may call Remove and Insert. Nil ends it.
func (k *Kit) Hook(f func(op string, after bool) error) {
	if f == nil {
		k.card.Hook(nil)
		return
	}
	k.card.Hook(func(e testcard.Event) error { return f(string(e.Op), e.After) })
}

// Issuers are the test authority's certificates, the issuing one first, for
// guard.Config.
func (k *Kit) Issuers() []*x509.Certificate {
	return []*x509.Certificate{k.ca.IssuingCertificate(), k.ca.RootCertificate()}
}

// Dir is the kit's folder.
func (k *Kit) Dir() string { return k.dir }

// Enrolment is a running enrolment server: EST (RFC 7030) over TLS on loopback,
// which renews the simulated card. Its fields are what package renewal/est wants.
type Enrolment struct {
	URL   string
	Label string
	Roots *x509.CertPool
}

// StartEnrolment starts the enrolment server of the test authority. Close stops it.
func (k *Kit) StartEnrolment() (*Enrolment, error) {
	s, err := testcard.NewServer(testcard.ServerConfig{CA: k.ca})
	if err != nil {
		return nil, fmt.Errorf("signingtest: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		_ = s.Close()
		return nil, errors.New("signingtest: the kit is closed")
	}
	k.servers = append(k.servers, s)
	return &Enrolment{URL: s.URL(), Label: testcard.SigningESTLabel, Roots: k.ca.Roots()}, nil
}

// Close stops the kit's servers and removes a temporary folder. Close the cards
// that were opened from it first.
func (k *Kit) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for _, s := range k.servers {
		errs = append(errs, s.Close())
	}
	k.servers, k.closed = nil, true
	if k.card != nil {
		errs = append(errs, k.card.SaveTo(""))
	}
	if k.temporary {
		errs = append(errs, os.RemoveAll(k.dir))
	}
	return errors.Join(errs...)
}
