// Package signing makes signatures with a smartcard's signing key, and none that
// the guard has not allowed.
//
// The calls, in order: [Open] gives a [Card] and starts watching it; [New] binds
// it to a guard and a [Recorder] as a [Signer]; [Sign] signs one document:
//
//	card, err := signing.Open(ctx, signing.Config{Module: path, PIN: askPasscode})
//	signer, err := signing.New(card, g, recorder)
//	signed, err := signing.Sign(ctx, signer, prepared) // an eps.Prepared
//
// For every signature the Signer itself asks the guard, about the certificate that
// it read in the very session that signs (one for each insertion of the card; read
// again after the login where the card hides its private keys until then) and the
// machine's holds as they are on disk now. It asks the person for the passcode when
// the card wants it, signs, verifies the signature with the certificate's key,
// and records the decision; only then is the signature released. There is no other
// way to the key: a Card is opaque, and only documents that this module parsed can
// be signed.
//
// A Signer judges by the clock of this machine, which must not be behind the newest
// decision that was recorded here ([LastRun]): a clock that was turned back is
// guard.ClockBehind, and undecided.
//
// A card that was renewed, or whose renewal was given up, is on hold until this or
// another running process saw it taken out and put back and its passcode was
// entered afresh ([Signer.EndHold]; Sign does the same when it meets such a card).
//
// [Cards] lists the cards in the readers with the verdict on each, without a
// passcode, and [WatchCards] tells which are put in and taken out.
//
// Errors: a *guard.Refused or *guard.Undecided where the guard says no, which
// carries the verdict; a *[CardError] where the card does; anything else is an
// error of the document, the record or the machine's state folder. With each of them
// nothing was signed.
package signing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/p11"
	"github.com/rxguard/rxguard/internal/state"
)

// Card is a smartcard, opaque: its methods tell what was seen of it, for
// guard.Check, and close it.
type Card = card.Handle

// Reader is where the simulated card is: see package signing/signingtest.
type Reader = card.Reader

// PINRequest says for which card and why a passcode is asked.
type PINRequest = card.PINRequest

// Purpose says what a passcode is asked for.
type Purpose = card.Purpose

// The purposes of a passcode.
const (
	ToSign   = card.ToSign   // sign a prescription
	ToRenew  = card.ToRenew  // renew the card's certificate
	ToReseat = card.ToReseat // end the hold after the card was put back
)

// CardError is what went wrong with a card: its Kind, the module's raw code, and
// in What and Advice plain words for the person.
type CardError = card.Error

// CardErrorKind is the meaning of a CardError.
type CardErrorKind = card.Kind

// The kinds of CardError.
const (
	CardOther       = card.Other
	CardAbsent      = card.Absent
	CardRemoved     = card.Removed
	CardFault       = card.Fault
	CardWedged      = card.Wedged
	PINIncorrect    = card.PINIncorrect
	PINLocked       = card.PINLocked
	PINNotSet       = card.PINNotSet
	PINLength       = card.PINLength
	PINCancelled    = card.PINCancelled
	PINLastTry      = card.LastTry
	NotLoggedIn     = card.NotLoggedIn
	CardUnsupported = card.Unsupported
	CardFull        = card.Full
	CardReadOnly    = card.ReadOnly
	NotFound        = card.NotFound
	NoCertificate   = card.NoCertificate
	Ambiguous       = card.Ambiguous
	KeyMismatch     = card.KeyMismatch
	BadSignature    = card.BadSignature
	BadObject       = card.BadObject
	CardBusy        = card.Busy
)

// Config says which card to open and how to ask its holder. The card is behind
// Module, or simulated in Reader; one of the two is set.
type Config struct {
	// Module is the path of the PKCS#11 module that the card's maker delivers.
	// ModuleCandidates lists those that are at known places. A module is loaded once
	// for the process, and stays so.
	Module string
	// ModuleArguments is what the module wants at its initialisation beyond the
	// standard (CK_C_INITIALIZE_ARGS.pReserved); most want nothing.
	ModuleArguments string
	// ModuleBound is how long the module may take for an ordinary call, 5 seconds to 5
	// minutes; 0 is 30 seconds. It may take ten times that to make a key, and six times
	// for a passcode that is entered on the reader's pad. A module that takes longer is
	// given up for as long as the process lives (CardWedged), so the bound is no way to
	// be quick: the context that each function takes is, which is heeded at once. A
	// process has one bound for a module. 0 takes the one that it has; one that differs
	// from another's is an error.
	ModuleBound time.Duration
	// Token is the label or the serial number of the card, and ReaderName the name of
	// the reader that it is in, where there are several; Cards lists them. Both empty:
	// the one card in the readers, or the first that is put in.
	Token      string
	ReaderName string
	// SecurityOfficer asks for the security officer's secret, in a renewal with a
	// module that wants one to change the card: on a PIV card its management key, in
	// the module's own notation. It is called as PIN is, with the card's name and no
	// lengths. Nil: such a card cannot be renewed here.
	SecurityOfficer func(context.Context, PINRequest) ([]byte, error)

	// Reader is where the simulated card is.
	Reader *Reader

	// PIN asks the person for the passcode, when the card wants it. The slice that
	// it returns is wiped after use. It is called for one entry each: a wrong
	// passcode is an error, never a second call. It runs on a goroutine of its own
	// and should return when its context ends; nobody waits for it then, and what
	// it still returns is wiped unused. With PINRequest.OnPad it tells the person to
	// use the reader's pad, and returns nothing.
	PIN func(context.Context, PINRequest) ([]byte, error)

	// LastTry asks the person for an explicit yes before the last try is spent;
	// nil never spends it. It is called as PIN is. Which try is the last is what the
	// module tells: one that does not notice the tries of other programs (ykcs11, while
	// the card is in) may be wrong.
	LastTry func(context.Context, PINRequest) (bool, error)
}

// Open opens the card, reads it once, and watches it until Close. A reader without
// a card is no error: the Card says that it is out. Errors: a *[CardError] of Kind
// Ambiguous where Module has several cards that Token and ReaderName do not tell
// apart, of Kind CardWedged where the module does not answer; anything else is an
// error of the Config, of the module's file, or ctx's: when ctx ends, Open returns at
// once, whatever the module is at.
func Open(ctx context.Context, c Config) (*Card, error) {
	switch {
	case c.Reader == nil && c.Module == "":
		return nil, errors.New("signing: neither Config.Module nor Config.Reader is set; Module is the card's PKCS#11 module, and signing/signingtest has a Reader with a simulated card")
	case c.Reader != nil && (c.Module != "" || c.ModuleArguments != "" || c.ModuleBound != 0 || c.Token != "" || c.ReaderName != ""):
		return nil, errors.New("signing: Config.Reader is a simulated card; it does not go together with Module, ModuleArguments, ModuleBound, Token and ReaderName")
	case !isBound(c.ModuleBound):
		return nil, fmt.Errorf("signing: Config.ModuleBound is %v; wanted %s", c.ModuleBound, wantedBound)
	case c.PIN == nil:
		return nil, errors.New("signing: Config.PIN is nil; wanted a function that asks the person for the passcode")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	opts := card.Options{PIN: c.PIN, LastTry: c.LastTry}
	if c.Reader == nil {
		m, err := p11.Open(ctx, c.Module, p11.Options{Arguments: c.ModuleArguments, Bound: c.ModuleBound})
		if err != nil {
			return nil, fmt.Errorf("signing: %w", err)
		}
		t, err := m.Token(ctx, p11.Select{Token: c.Token, Reader: c.ReaderName}, c.SecurityOfficer)
		if err != nil {
			return nil, fmt.Errorf("signing: %w", err)
		}
		h, err := open(ctx, t, opts, func() error {
			err := t.Close()
			m.Rest(context.Background())
			return err
		})
		if err != nil {
			return nil, errors.Join(err, t.Close())
		}
		return h, nil
	}
	var t card.Token
	if t, opts.StateDir = card.InReader(c.Reader); t == nil || opts.StateDir == "" {
		return nil, errors.New("signing: Config.Reader is empty; it comes from signing/signingtest")
	}
	return open(ctx, t, opts, func() error { return nil })
}

// open has a token watched. closed is called when the card is closed, after all else.
func open(ctx context.Context, t card.Token, opts card.Options, closed func() error) (*Card, error) {
	h := card.NewHandle(t, opts)
	card.OnClose(h, closed)
	dir, err := stateOf(h)
	if err == nil {
		err = watch(ctx, h, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return h, nil
}

const leastBound, mostBound = 5 * time.Second, 5 * time.Minute

// isBound tells whether a module can be held to a bound. Cards that are well take
// seconds for some calls.
func isBound(d time.Duration) bool { return d == 0 || d >= leastBound && d <= mostBound }

var wantedBound = fmt.Sprintf("%v to %v, or 0 for the usual 30 seconds", leastBound, mostBound)

// stateOf returns the state folder whose holds bind the card: the machine's, unless
// this module itself made a Reader with another.
func stateOf(c *Card) (state.Dir, error) {
	if p := card.OptionsOf(c).StateDir; p != "" {
		return state.At(p), nil
	}
	return state.Machine()
}
