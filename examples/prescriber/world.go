package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"           // one run at a time on one simulated card
	"github.com/moby/sys/atomicwriter" // an interrupted run leaves a whole world.json

	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/signing"
	"github.com/rxguard/rxguard/signing/eps"
	"github.com/rxguard/rxguard/signing/signingtest"
)

// kit is a card with its test authority: the simulated one of package signingtest,
// or a token.
type kit interface {
	Reader() *signing.Reader
	PIN(context.Context, passcodeRequest) ([]byte, error)
	Issuers() []*x509.Certificate
	SigningKeyUses() int
	StartEnrolment() (*signingtest.Enrolment, error)
	Close() error
}

// world is the simulated world: one card, its authority, the rules, and a clock.
// It lies in a folder, so that an interrupted journey can be gone on with.
type world struct {
	World worldFile
	dir   string
	made  bool // this run made the folder
	lock  *flock.Flock
	kit   kit
	sim   *signingtest.Kit // the kit, where the card is simulated
	test  *testToken       // the kit, where it is a token
	rules *advisory.Set
	ahead atomic.Int64 // of World.At, in nanoseconds
}

// worldFile is what a later run must know.
type worldFile struct {
	At      time.Time `json:"at,omitzero"` // where its clock started; zero: the clock of this machine
	Ahead   int64     `json:"ahead_ns"`    // how far that clock has moved since
	Issued  time.Time `json:"issued"`
	Builtin bool      `json:"builtin"` // judged by the built-in notice alone
	Prepare []byte    `json:"prepare,omitempty"`
}

// newWorld makes the world that the flags ask for, or opens the one of an earlier
// run, which it never removes.
func newWorld(o options) (_ *world, err error) {
	w := &world{dir: o.resume}
	if o.resume != "" {
		b, err := readFile(filepath.Join(w.dir, worldName))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &usageError{fmt.Errorf("%s holds no simulated card to go on with", w.dir)}
		}
		if err == nil {
			err = json.Unmarshal(b, &w.World)
		}
		if err != nil {
			return nil, &usageError{fmt.Errorf("%s: %w", filepath.Join(w.dir, worldName), err)}
		}
		w.ahead.Store(w.World.Ahead)
	} else {
		if err := w.fromFlags(o); err != nil {
			return nil, &usageError{err}
		}
		if w.dir, err = os.MkdirTemp("", "rxguard-prescriber-"); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, os.RemoveAll(w.dir))
			}
		}()
		if err := w.save(); err != nil {
			return nil, err
		}
	}
	if err := w.lockFolder("card"); err != nil {
		return nil, err
	}
	if w.sim, err = signingtest.New(signingtest.Config{Dir: w.dir, Issued: w.World.Issued, Now: w.asOf()}); err == nil {
		w.kit = w.sim
		w.rules, err = w.advisories()
	}
	if err != nil {
		return nil, errors.Join(err, w.close(false))
	}
	return w, nil
}

// lockFolder keeps other runs out of the folder.
func (w *world) lockFolder(what string) error {
	w.lock = flock.New(filepath.Join(w.dir, "world.lock"))
	if free, err := w.lock.TryLock(); err != nil {
		return &usageError{err}
	} else if !free {
		return &usageError{fmt.Errorf("another run works on the %s in %s; wait until it has ended", what, w.dir)}
	}
	return nil
}

const worldName = "world.json"

// save writes down what a later run must know.
func (w *world) save() error {
	w.World.Ahead = w.ahead.Load()
	b, err := json.MarshalIndent(w.World, "", "  ")
	if err != nil {
		return err
	}
	return atomicwriter.WriteFile(filepath.Join(w.dir, worldName), b, 0o600)
}

// maxFile is more than any file that is read here has.
const maxFile = 4 << 20

// readFile reads a whole file, if it is not absurdly long.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is longer than %d bytes", name, maxFile)
	}
	return b, err
}

func (w *world) fromFlags(o options) error {
	w.World = worldFile{At: o.at, Issued: o.issued, Builtin: !o.at.IsZero() || !o.issued.IsZero()}
	if o.prepare != "" {
		if err := w.prepareFrom(o.prepare); err != nil {
			return err
		}
		p, err := w.prepared()
		if err != nil {
			return err
		}
		if err := simulable(p.Time()); err != nil {
			return fmt.Errorf("%s: its timestamp %w", o.prepare, err)
		}
		switch {
		case !o.at.IsZero():
		case !o.issued.IsZero():
			w.World.At = p.Time()
		default: // renewed before it was prepared, signed after: see advance
			w.World.At = p.Time().Add(-reseating / 2)
		}
	}
	if w.World.Issued.IsZero() {
		ago := 3 * 24 * time.Hour
		if w.World.Builtin {
			ago = 24 * time.Hour
		}
		w.World.Issued = w.now().Add(-ago).Truncate(time.Second)
	}
	return nil
}

// prepareFrom takes a $prepare answer from a file.
func (w *world) prepareFrom(file string) error {
	b, err := readFile(file)
	if err != nil {
		return err
	}
	if _, err := eps.ParsePrepared(b); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	w.World.Prepare = b
	return nil
}

// simulable tells whether the simulation can be judged at an instant: its authority
// lives from 2000 to 2099.
func simulable(t time.Time) error {
	if y := t.UTC().Year(); y < 2001 || y > 2090 {
		return fmt.Errorf("%s is outside the years 2001 to 2090 of the simulation", t.UTC().Format(time.RFC3339))
	}
	return nil
}

// now is the world's clock: the machine's, or one that stands at the judged instant
// and moves by advance alone.
func (w *world) now() time.Time {
	if w.World.At.IsZero() {
		return time.Now()
	}
	return w.World.At.Add(time.Duration(w.ahead.Load()))
}

// reseating is how long a person takes to take a card out and put it back, by a
// clock of the world's own. A certificate issued just before is not yet valid, for
// the national service, in the second of its notBefore.
const reseating = time.Minute

// advance lets that time pass.
func (w *world) advance() error {
	w.ahead.Add(int64(reseating))
	return w.save()
}

// asOf is the clock for a Signer and a Renewer; nil where it is the machine's.
func (w *world) asOf() func() time.Time {
	if w.World.At.IsZero() {
		return nil
	}
	return w.now
}

// fits tells whether a certificate that is issued now would fit the answer that is to
// be signed: the national service wants notBefore < timestamp < notAfter.
func (w *world) fits() error {
	if w.World.Prepare == nil {
		return nil
	}
	p, err := w.prepared()
	if err != nil {
		return err
	}
	from := w.now()
	if w.asOf() == nil {
		from = from.Add(-5 * time.Minute) // the authority back-dates
	}
	if until := from.AddDate(2, 0, 0); !from.Before(p.Time()) || !p.Time().Before(until) {
		return fmt.Errorf("the answer was prepared at %s, and a certificate renewed now is valid from %s to %s: the national service would answer \"Certificate expired when signed\"",
			p.Timestamp(), from.Format(time.RFC3339), until.Format(time.RFC3339))
	}
	return nil
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

// close ends the simulation. When remove is set, what the simulation wrote goes too,
// and the folder with it unless it holds something else.
func (w *world) close(remove bool) error {
	var err error
	if w.kit != nil {
		err = w.kit.Close()
	}
	if remove {
		for _, name := range []string{worldName, "card.json", "ca.json", "passcode", oldName, recordName, recordName + ".head", recordName + ".lock", "state"} {
			err = errors.Join(err, os.RemoveAll(w.file(name)))
		}
	}
	if w.lock == nil {
		return err
	}
	if w.test != nil {
		return errors.Join(err, w.leave(), w.lock.Close())
	}
	err = errors.Join(err, w.lock.Close())
	if remove {
		err = errors.Join(err, os.RemoveAll(w.lock.Path()))
		_ = os.Remove(w.dir) // not when something else is in it
	}
	return err
}

// leave removes what a run made in a token's folder that wrote down nothing there.
func (w *world) leave() error {
	if _, err := os.Stat(w.file(tokenName)); !w.lock.Locked() || !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.Remove(w.lock.Path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if w.made {
		_ = os.Remove(w.dir) // not when something else is in it
		if w.test.o.dir == "" {
			_ = os.Remove(filepath.Dir(w.dir)) // nor when another token's folder is
		}
	}
	return nil
}

const (
	oldName    = "old-certificate.pem"
	recordName = "record.jsonl"
)

// advisories is the rule set: the built-in notice, and unless the flags ask for
// that alone, a notice of the simulation that is in force and covers the card.
func (w *world) advisories() (*advisory.Set, error) {
	if w.World.Builtin {
		return advisory.Builtin(), nil
	}
	ca := w.kit.Issuers()[0]
	spki := sha256.Sum256(ca.RawSubjectPublicKeyInfo)
	from := w.World.Issued.Truncate(24 * time.Hour)
	to := from.Add(2 * 24 * time.Hour)
	stamp := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	doc, err := json.Marshal(map[string]any{
		"id": "simulated-renewal", "revision": 1, "state": "active",
		"title":     "Simulated notice: smartcards to be renewed before signing",
		"published": stamp(to), "modified": stamp(to), "block_from": stamp(to), "renew_by": stamp(to.Add(7 * 24 * time.Hour)),
		"match": map[string]any{"any": []any{map[string]any{
			"issuer":     map[string]any{"spki_sha256": []string{hex.EncodeToString(spki[:])}, "aki": []string{hex.EncodeToString(ca.SubjectKeyId)}, "name": ca.Subject.String()},
			"not_before": map[string]any{"from": stamp(from), "to": stamp(to)},
		}}},
		"fixed_when":            []any{map[string]any{"not_before": map[string]any{"from": stamp(to)}}},
		"basis":                 "not_before_window",
		"card_may_authenticate": true,
		"message":               "Your smartcard was issued in the last few days. Please renew it before you sign another prescription. This takes about three minutes. Then take the card out, put it back and enter your passcode.",
		"remedies": []any{
			map[string]any{"kind": "renew", "text": "Renew this card here and now."},
			map[string]any{"kind": "registration_authority", "text": "If the renewal does not work, ask your local Registration Authority."},
			map[string]any{"kind": "paper", "text": "If a patient is waiting, write a paper prescription."},
		},
	})
	if err != nil {
		return nil, err
	}
	a, err := advisory.Parse(doc, nil)
	if err != nil {
		return nil, err
	}
	list := []*advisory.Advisory{a}
	for b := range advisory.Builtin().All() {
		list = append(list, b)
	}
	return advisory.NewSet(2, to, list...)
}

// prepared is the $prepare answer to sign: the one given, or a synthetic one of
// this instant.
func (w *world) prepared() (*eps.Prepared, error) {
	answer := w.World.Prepare
	if answer == nil {
		digest := sha256.Sum256([]byte("a synthetic prescription: no patient, no medicine"))
		info, err := eps.SignedInfo(eps.RS256, digest[:])
		if err != nil {
			return nil, err
		}
		answer, err = json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": []any{
			map[string]any{"name": "digest", "valueString": base64.StdEncoding.EncodeToString(info)},
			map[string]any{"name": "timestamp", "valueString": w.now().UTC().Format("2006-01-02T15:04:05+00:00")},
			map[string]any{"name": "algorithm", "valueString": "RS256"},
		}})
		if err != nil {
			return nil, err
		}
	}
	return eps.ParsePrepared(answer)
}

// lastTry asks for a yes before a token's last try is spent; the simulated holder
// never mistypes.
func (w *world) lastTry() func(context.Context, passcodeRequest) (bool, error) {
	if w.test == nil {
		return nil
	}
	return w.test.secrets.lastTry
}

// ask is the holder of the simulated card: told, then typing the passcode.
func (w *world) ask(t *teller) func(context.Context, passcodeRequest) ([]byte, error) {
	return func(ctx context.Context, r passcodeRequest) ([]byte, error) {
		t.asked(r, "the simulated holder types it")
		return w.kit.PIN(ctx, r)
	}
}
