package signing

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/p11"
	"github.com/rxguard/rxguard/internal/state"
)

// CardsConfig says where to look for cards, and by which rules to judge them. The
// cards are behind Module, or simulated in Readers; one of the two is set.
type CardsConfig struct {
	// Module, ModuleArguments and ModuleBound are those of Config.
	Module          string
	ModuleArguments string
	ModuleBound     time.Duration

	// Readers are where the simulated cards are; they are named "simulated reader 1"
	// and so on.
	Readers []*Reader

	// Guard judges the certificates; nil judges as guard.Check does, by the built-in
	// advisories.
	Guard *guard.Guard
}

// CardInfo is a reader and the card that is in it, as Cards found it.
type CardInfo struct {
	Reader  string // the reader's name, for Config.ReaderName
	Present bool   // a card is in it; else all that follows but Verdict is empty

	// What the card says of itself. Serial goes into Config.Token to open it, or Label
	// where the card has no serial number or shares it with another.
	Serial, Label       string
	Manufacturer, Model string

	// Certificates are all that the card shows, ordered by their CKA_IDs.
	Certificates []CardCertificate

	// Certificate is the one that the card signs with; zero: see Err. KeyHidden tells
	// that its private key was not seen. Many cards hide their private keys until the
	// passcode is entered, and the certificate is then chosen by its profile alone: a
	// Signer looks again after the login, and judges what it finds then.
	Certificate guard.CertificateInfo
	KeyHidden   bool

	// Hold tells whether the card waits for the end of a renewal. What another Card
	// saw of its re-seating is not known here: such a card shows as one that was not
	// re-seated yet.
	Hold guard.Hold

	// Verdict is the guard's, as of now; of an empty reader it is undecided.
	Verdict guard.Verdict

	// Err is why the card has no Certificate here: a *[CardError] where the card
	// could not be read, is not set up, or holds no certificate or several to sign
	// with.
	Err error
}

// CardCertificate is a certificate on a card and what it is taken for.
type CardCertificate struct {
	guard.CertificateInfo        // zero: it is damaged
	Label                 string // CKA_LABEL
	ID                    string // CKA_ID, lower-case hexadecimal
	Role                  CertificateRole
	Why                   string // for who looks after the card: by its profile and its key
	KeyShown              bool   // its private key was seen
}

// CertificateRole is what a certificate on a card is taken for: by its key usage and
// its private key, never by slot, label or age.
type CertificateRole = card.Role

// The roles of certificates.
const (
	RoleSigning        = card.RoleSigning        // documents are signed with it
	RoleCandidate      = card.RoleCandidate      // one of several for signing, none of which is taken
	RoleAuthentication = card.RoleAuthentication // the card logs in with it
	RoleOld            = card.RoleOld            // its private key is not on the card
	RoleOther          = card.RoleOther          // for something else
	RoleDamaged        = card.RoleDamaged        // it cannot be read
)

// ModuleCandidates lists the PKCS#11 modules that are on this machine at places
// where card makers' software is known to put them, in a fixed order, for a list
// from which Config.Module is chosen. It loads none of them, and which of them is
// for a person's card it does not know.
func ModuleCandidates() []string { return p11.Candidates() }

// Cards lists the readers and the cards in them, with each card's certificates and
// the verdict on the one that it signs with. It asks for no passcode and changes
// nothing, so that an application can show which of a person's cards are affected.
// Tokens that keep nothing behind a passcode are no cards of a person and are left
// out.
//
// The error is one of CardsConfig, of the module or ctx's; what is wrong with one
// card is in its CardInfo. Cards takes as long as the cards take to be read, one
// after the other, and returns at once when ctx ends. It may be called from several
// goroutines, and while cards are open.
func Cards(ctx context.Context, c CardsConfig) ([]CardInfo, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.Module != "" {
		return c.behindModule(ctx)
	}
	var list []CardInfo
	for i, r := range c.Readers {
		t, dir := card.InReader(r)
		info := CardInfo{Reader: simulatedReader(i), Present: t.Presence().Present}
		c.look(ctx, t, state.At(dir), &info)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		list = append(list, info)
	}
	return list, nil
}

func simulatedReader(i int) string { return fmt.Sprintf("simulated reader %d", i+1) }

func (c CardsConfig) check() error {
	switch {
	case c.Module == "" && len(c.Readers) == 0:
		return errors.New("signing: neither CardsConfig.Module nor CardsConfig.Readers is set; Module is the cards' PKCS#11 module, and signing/signingtest has a Reader with a simulated card")
	case len(c.Readers) > 0 && (c.Module != "" || c.ModuleArguments != "" || c.ModuleBound != 0):
		return errors.New("signing: CardsConfig.Readers are simulated cards; they do not go together with Module, ModuleArguments and ModuleBound")
	case !isBound(c.ModuleBound):
		return fmt.Errorf("signing: CardsConfig.ModuleBound is %v; wanted %s", c.ModuleBound, wantedBound)
	}
	for i, r := range c.Readers {
		if r == nil {
			return fmt.Errorf("signing: CardsConfig.Readers[%d] is nil; wanted one from signing/signingtest", i)
		}
		if t, dir := card.InReader(r); t == nil || dir == "" {
			return fmt.Errorf("signing: CardsConfig.Readers[%d] is empty; it comes from signing/signingtest", i)
		}
	}
	return nil
}

func (c CardsConfig) behindModule(ctx context.Context) ([]CardInfo, error) {
	m, err := p11.Open(ctx, c.Module, p11.Options{Arguments: c.ModuleArguments, Bound: c.ModuleBound})
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	dir, err := state.Machine()
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	slots, err := m.Slots(ctx)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	readLastRun(dir)
	var list []CardInfo
	for _, x := range slots {
		if !ofAPerson(x) {
			continue
		}
		info := CardInfo{Reader: x.Reader, Present: x.Present,
			Serial: x.Serial, Label: x.Label, Manufacturer: x.Manufacturer, Model: x.Model}
		if t, err := tokenIn(ctx, m, x, slots); t != nil {
			c.look(ctx, t, dir, &info)
			_ = t.Close()
		} else {
			info.Err = err
			c.judge(ctx, &info, guard.Snapshot{Err: err}, dir, nil)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		list = append(list, info)
	}
	m.Rest(ctx)
	return list, nil
}

// tokenIn returns the card in a slot, to be closed; nil where the slot is empty or
// its card cannot be read, with the reason.
func tokenIn(ctx context.Context, m *p11.Module, x p11.Slot, slots []p11.Slot) (*p11.Token, error) {
	if err := unfit(x); err != nil || !x.Present {
		return nil, err
	}
	sel, err := only(x, slots)
	if err != nil {
		return nil, err
	}
	return m.Token(ctx, sel, nil)
}

// ofAPerson tells whether a slot is a reader for cards: not a token of software that
// keeps nothing behind a passcode.
func ofAPerson(x p11.Slot) bool {
	return !x.Present || x.Err != nil || !x.Initialized || x.LoginRequired
}

// unfit says why the card in a slot cannot be read; nil: it can.
func unfit(x p11.Slot) error {
	switch {
	case !x.Present:
		return nil
	case x.Err != nil:
		return x.Err
	case !x.Initialized:
		return card.Errorf(card.PINNotSet, "read", "the card in %q", x.Reader)
	}
	return nil
}

// only names the card of one slot, so that it fits none of the others: by serial
// number, or by label, in its reader.
func only(x p11.Slot, slots []p11.Slot) (p11.Select, error) {
	for _, name := range []string{x.Serial, x.Label} {
		n := 0
		for _, o := range slots {
			if o.Present && o.Reader == x.Reader && (o.Serial == name || o.Label == name) {
				n++
			}
		}
		if name != "" && n == 1 {
			return p11.Select{Token: name, Reader: x.Reader}, nil
		}
	}
	return p11.Select{}, card.Errorf(card.Ambiguous, "find", "several cards, or none that has a name, in %q: serial %q, label %q", x.Reader, x.Serial, x.Label)
}

// look reads the card and judges it.
func (c CardsConfig) look(ctx context.Context, t card.Token, dir state.Dir, i *CardInfo) {
	snap := guard.Snapshot{Simulated: t.Simulated()}
	var certificates card.Certificates
	if i.Present {
		certificates = i.read(ctx, t, &snap)
	}
	c.judge(ctx, i, snap, dir, certificates)
}

func (i *CardInfo) read(ctx context.Context, t card.Token, snap *guard.Snapshot) (certificates card.Certificates) {
	var info card.Info
	var pair card.Pair
	s, err := card.Read(ctx, t, func(s card.Session) (err error) {
		snap.Insertion = s.Insertion()
		if info, certificates, err = readCard(ctx, s); err == nil {
			pair, err = certificates.Signing()
		}
		return err
	})
	if err == nil {
		defer s.Close()
	}
	if info != (card.Info{}) {
		i.Serial, i.Label, i.Manufacturer, i.Model = info.Serial, info.Label, info.Manufacturer, info.Model
	}
	for _, t := range certificates {
		i.Certificates = append(i.Certificates, CardCertificate{
			CertificateInfo: t.Certificate.Info(), Label: t.Label, ID: hex.EncodeToString(t.ID),
			Role: t.Role, Why: t.Why, KeyShown: t.KeyShown,
		})
	}
	if err != nil {
		i.Err, snap.Err = err, readError(err)
		return certificates
	}
	snap.Certificate = pair.Certificate
	i.Certificate, i.KeyHidden = pair.Certificate.Info(), !pair.KeyShown
	return certificates
}

// judge fills in hold and verdict.
func (c CardsConfig) judge(ctx context.Context, i *CardInfo, snap guard.Snapshot, dir state.Dir, certificates card.Certificates) {
	if !i.Present {
		snap.Err = guard.ErrNoCard
	}
	snap.Serial, snap.Label = i.Serial, i.Label
	names := certificates.Names(card.Info{Manufacturer: i.Manufacturer, Model: i.Model, Serial: i.Serial})
	snap.Hold = holdOf(&card.Handle{}, dir, names, snap.Certificate.Info().SHA256)
	i.Hold = snap.Hold
	check := guard.Check
	if c.Guard != nil {
		check = c.Guard.Check
	}
	i.Verdict, _ = check(ctx, seen(snap)) // the error is the verdict's
}

// seen is a card as it was just seen, for guard.Check.
type seen guard.Snapshot

func (s seen) Snapshot(context.Context) (guard.Snapshot, error) { return guard.Snapshot(s), nil }
