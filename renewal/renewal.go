// Package renewal replaces the affected signing certificate of a card in process:
// a new key pair on the card, a certificate from the authority, judged by the
// guard before it is written, proved, put in the old one's place, and the card kept
// from signing until it was taken out and put back.
//
// The calls, in order: [New]; [Renewer.Plan] shows what would happen; Renew does
// it, with progress, and ends with the card on hold; [Renewer.Finish] waits for the
// card to be taken out and put back, asks the passcode, and completes. Renew called
// again after a crash, a pulled card or a pending answer goes on where it stopped:
// every step looks first, acts, and reads back, so that running it twice is running
// it once. [Renewer.Abandon] gives a renewal up. A [Round] does all of it for the
// cards of one person, one after the other.
//
// What is kept: the old key stays until the new pair has signed and verified. A card
// that has no room for both is left alone, or renewed over its only pair where
// [Config].Replace says yes to that and the authority has just answered. The
// old signing key takes part in nothing: the request and the challenge are signed
// by the new key, TLS is authenticated by the card's authentication key. From
// before the first change to the card until its re-seat no process of the machine
// signs with it. A journal of what was begun and done lies beside the holds in the
// machine-wide state folder; it holds nothing secret.
//
// The channel to the authority is an [Enroller]; package renewal/est has one for
// EST (RFC 7030), and package renewal/renewaltest tests whether another keeps the
// contract.
//
// # The form of a journal
//
// Each card has one, journals/CARD.jsonl in the machine's state folder, where CARD is the
// name in each of its lines. [ReadJournal] reads it, [StandingOf] says where it stands,
// and so does "rxguard renewal show". Another program reads it so:
//
// It is UTF-8 text of at most 16 MiB, one JSON object (RFC 8259) a line, each ended by
// one line feed, the last too. A line is what encoding/json makes of a [JournalEntry]:
// its fields in that order, no white space, no unknown or repeated field; a field with
// nothing in it is left out where its tag says so. Instants are RFC 3339 in UTC, "time"
// to the millisecond; bytes are base64 with padding (RFC 4648 4).
//
// The fields of each line: "version", "seq", "renewal", "card", "time", "step", "act"
// and, last, "sum". "version" is 1. A reader refuses a line of a larger one, whatever
// else is in it; an added field or step is a new version. "seq" counts the lines from 1.
// "renewal" is 32 hexadecimal digits, the [Request].ID. "sum" is the first 32
// hexadecimal digits, in lower case, of the SHA-256 of the same line, without its line
// feed, with "sum":"" in it: it shows an accident, not malice.
//
// "step" is one of [Steps], "replace" or "given_up", "act" one of "intent", "done" and
// "note". A renewal begins with planned, done, which says of what card and certificate it
// is and where on the card the new pair goes: with "old_key" in the old one's container,
// and then replace is a step in the place of key, and switch and retire are none. Each
// step has an intent before it is done and a done after it was read back, each once; only
// done, done has no intent. A note comes any number of times. Beyond that request, done
// has "csr"; enrol, done "certificate" and "chain"; a note of enrol "ask_from" while the
// authority decides later; given_up why, in "text". A renewal ends with done, done or
// given_up, done. Only then another follows, in the same file.
//
// What follows the last line feed was torn by a crash, and so was a last line that holds
// a zero byte: it was not acknowledged, is to be left out, and is overwritten by the next
// line. Nothing else in the file is ever changed: a line is appended and synced before
// what it announces is begun. Anything else that does not read was damaged or edited,
// and nobody goes on by guessing. The journal is a hint: what is on the card is seen
// there, what was issued is the authority's to know.
package renewal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/signing"
)

// Config says what to renew, by which rules, and where. Card, Guard, Recorder and
// Enroller are needed.
//
// A renewal goes by the clock of this machine. Where that is behind the newest decision
// that was recorded here it does not begin, and goes on only when the clock is right:
// whatever Guard.Check says (see signing.LastRun).
type Config struct {
	Card     *signing.Card
	Guard    *guard.Guard
	Recorder signing.Recorder
	Enroller Enroller

	// Window is how long before its end the channel behind Enroller renews a
	// certificate; 0: at any time. A card that is affected earlier needs a renewal that
	// is not offered here: NotOffered, with the Registration Authority as the way.
	Window time.Duration

	// Replace is asked about a card that has no room for a new pair beside the old
	// one: whether the old pair may be given up before there is a new certificate. Who
	// says yes has been told that the card signs nothing if the renewal then fails. It
	// is called only when the authority has just answered, after the passcode was
	// entered; a plan to ask is one with Plan.Destructive. nil, and an Enroller that is
	// no Prober, renew no such card.
	Replace func(ctx context.Context, p Plan) (bool, error)

	// AsOf is another clock for a simulated card; a real card takes none.
	AsOf func() time.Time
}

// Renewer renews the certificate of the card that is in the reader. It is safe for
// concurrent use; one renewal of a card runs at a time on a machine.
type Renewer struct {
	c   Config
	dir state.Dir
	now func() time.Time

	clock *state.Clock // the floor under now, of dir; unused with AsOf

	// crash lets tests stop a run at any side effect, as a crash would.
	crash func(point string) error

	mu   sync.Mutex
	last who // worked on last
}

// New validates c and makes a Renewer. It touches nothing.
func New(c Config) (*Renewer, error) {
	switch {
	case c.Card == nil || card.TokenOf(c.Card) == nil:
		return nil, errors.New("renewal: Config.Card is missing; wanted one from signing.Open")
	case c.Guard == nil:
		return nil, errors.New("renewal: Config.Guard is missing; wanted one from guard.New")
	case c.Recorder == nil:
		return nil, errors.New("renewal: Config.Recorder is missing; signing.OpenRecord makes one on a file")
	case c.Enroller == nil:
		return nil, errors.New("renewal: Config.Enroller is missing; renewal/est has one")
	case c.Window < 0:
		return nil, fmt.Errorf("renewal: Config.Window is %s; wanted 0 or more", c.Window)
	}
	simulated := card.TokenOf(c.Card).Simulated()
	r := &Renewer{c: c, now: time.Now, crash: func(string) error { return nil }}
	if c.AsOf != nil {
		if !simulated {
			return nil, errors.New("renewal: a real card renews by the clock of this machine only; Config.AsOf is for simulated cards")
		}
		r.now = c.AsOf
	}
	dir, err := state.Machine()
	if p := card.OptionsOf(c.Card).StateDir; p != "" {
		dir, err = state.At(p), nil
	}
	if err != nil {
		return nil, fmt.Errorf("renewal: %w", err)
	}
	r.dir, r.clock = dir, dir.Clock()
	return r, nil
}

// view is the card as one run finds it.
type view struct {
	s       card.Session
	info    card.Info
	objects []card.Object
	id      string   // under which the card's renewals are kept
	certs   []string // SHA-256 of the certificates that it may sign with
	names   []string // by which a hold on it is found
	signing card.Pair
	serr    error // why there is no signing pair
	auth    card.Pair
	aerr    error // why there is no authentication pair
}

// who tells a card from another.
type who struct {
	serial string // as the card's snapshot has it; empty: it does not say
	id     string // view.id
}

func (v *view) who() who { return who{v.info.Serial, v.id} }

// open opens a session and looks at the card.
func (r *Renewer) open(ctx context.Context) (*view, error) {
	if r == nil || r.c.Card == nil {
		return nil, errors.New("renewal: no renewer; wanted one from New")
	}
	if card.Closed(r.c.Card) {
		return nil, fmt.Errorf("renewal: %w", card.ErrClosed)
	}
	var v *view
	_, err := card.Read(ctx, card.TokenOf(r.c.Card), func(s card.Session) (err error) {
		v = &view{s: s}
		if v.info, err = s.Info(ctx); err == nil {
			err = v.look(ctx)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return v, nil
}

// look reads the card's objects afresh.
func (v *view) look(ctx context.Context) error {
	objects, err := v.s.Objects(ctx)
	if err != nil {
		return err
	}
	v.objects = objects
	cs := card.CertificatesOf(objects, false)
	v.signing, v.serr = cs.Signing()
	v.auth, v.aerr = cs.Authentication()
	v.certs, v.names = cs.Candidates(), cs.Names(v.info)
	if v.id == "" { // it stays what it was when the card was opened
		v.id = cs.ID(v.info)
	}
	return nil
}

// enter opens the card for work on its renewal, which nobody else does until leave
// is called. The error is an *Error.
func (r *Renewer) enter(ctx context.Context) (_ *run, leave func(), err error) {
	return r.enterIf(ctx, nil)
}

// enterIf is enter for a card that accept, which may be nil, has no error for.
func (r *Renewer) enterIf(ctx context.Context, accept func(*view) error) (_ *run, leave func(), err error) {
	v, err := r.open(ctx)
	if err != nil {
		return nil, nil, &Error{Result{Outcome: Resumable, Text: "The card could not be read. " + advice(err), Remedies: waysOn(err, false)}, err}
	}
	if accept != nil {
		if err := accept(v); err != nil {
			_ = v.s.Close()
			return nil, nil, err
		}
	}
	unlock := func() {}
	leave = func() {
		_ = v.s.Close()
		unlock()
	}
	fail := func(o Outcome, text string, err error, ways ...advisory.Remedy) (*run, func(), error) {
		leave()
		return nil, nil, &Error{Result{Outcome: o, Text: text, Serial: v.info.Serial, Label: v.info.Label, Remedies: ways}, err}
	}
	for {
		certs := v.certs
		names := append([]string{v.id}, certs...)
		if h, err := r.dir.Hold(v.names...); err == nil && elsewhere(v, h) {
			names = append(names, h.Card)
		}
		free, err := r.dir.TryRenewal(ctx, names...)
		switch {
		case errors.Is(err, state.ErrBusy):
			_, who, _ := strings.Cut(err.Error(), state.ErrBusy.Error()+": ")
			return fail(Refusal, "This card is being renewed by another program ("+who+"). Wait until it has finished.", err, askIT, usePaper)
		case err != nil:
			return fail(Refusal, "The renewal cannot start. This computer's folder for renewals cannot be written. The card was not changed.", err, askIT, usePaper)
		}
		unlock = free
		// Whoever had the lock until now may have changed the card.
		if err := v.look(ctx); err != nil {
			return fail(Resumable, "The card could not be read. "+advice(err), err, waysOn(err, false)...)
		}
		if slices.Equal(certs, v.certs) {
			break
		}
		free() // it goes by other names now
		unlock = func() {}
	}
	j, err := openJournal(r.dir.Path(), v.id)
	if err != nil {
		return fail(Refusal, "What was written down about an earlier renewal of this card cannot be read.", err, askIT, askRA, usePaper)
	}
	hold, err := r.dir.Hold(v.names...)
	if err != nil {
		return fail(Refusal, "It cannot be told whether this card waits for the end of a renewal.", err, askIT, askRA, usePaper)
	}
	if err := r.lookAtClock(); err != nil {
		return fail(Refusal, "It cannot be told whether the date and time of this computer are right.", err, askIT, usePaper)
	}
	r.mu.Lock()
	r.last = v.who()
	r.mu.Unlock()
	return &run{Renewer: r, v: v, j: j, id: v.id, p: j.last(), held: hold}, leave, nil
}

// lookAtClock reads what is known of the time. As of an instant nothing is asked.
func (r *Renewer) lookAtClock() error {
	if r.c.AsOf != nil {
		return nil
	}
	if err := r.clock.Refresh(); err != nil {
		return fmt.Errorf("renewal: it is not known whether the clock of this computer is behind: %w", err)
	}
	return nil
}

// judgeNow asks the guard about a card by this Renewer's clock. What is wrong with the
// clock's floor was found before the card was touched, by lookAtClock.
func (r *Renewer) judgeNow(s guard.Snapshot) guard.Verdict {
	if r.c.AsOf != nil {
		return r.c.Guard.Judge(s, r.now())
	}
	v, _ := signing.JudgeNow(r.c.Card, r.c.Guard, s, r.now())
	return v
}

// snapshot is the view for the guard, without the hold.
func (v *view) snapshot(simulated bool) guard.Snapshot {
	return guard.Snapshot{
		Certificate: v.signing.Certificate, Err: v.serr,
		Serial: v.info.Serial, Label: v.info.Label,
		Insertion: v.s.Insertion(), Simulated: simulated,
	}
}

func (r *Renewer) simulated() bool { return card.TokenOf(r.c.Card).Simulated() }
