package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/signing/eps"
	"github.com/rxguard/rxguard/signing/signingtest"
)

// world is the simulated world: one card, its authority, the rules, and a clock.
// It lies in a folder, so that an interrupted journey can be gone on with.
type world struct {
	World worldFile
	kit   *signingtest.Kit
	rules *advisory.Set
	start time.Time
	ahead time.Duration
	keep  bool // the folder is wanted after the journey
}

// worldFile is what a later run must know.
type worldFile struct {
	At      time.Time `json:"at,omitzero"` // zero: the clock of this machine
	Issued  time.Time `json:"issued"`
	Builtin bool      `json:"builtin"` // judged by the built-in notice alone
	Prepare []byte    `json:"prepare,omitempty"`
}

// newWorld makes the world that the flags ask for, or opens the one of an earlier
// run.
func newWorld(o options) (*world, error) {
	w := &world{start: time.Now()}
	dir := o.resume
	if dir != "" {
		b, err := os.ReadFile(filepath.Join(dir, "world.json"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &usageError{fmt.Errorf("%s holds no simulated card to go on with", dir)}
		}
		if err != nil {
			return nil, &usageError{err}
		}
		if err := json.Unmarshal(b, &w.World); err != nil {
			return nil, &usageError{fmt.Errorf("%s: %w", filepath.Join(dir, "world.json"), err)}
		}
	} else if err := w.fromFlags(o); err != nil {
		return nil, &usageError{err}
	}
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "rxguard-prescriber-"); err != nil {
			return nil, err
		}
		b, err := json.MarshalIndent(w.World, "", "  ")
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "world.json"), b, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	kit, err := signingtest.New(signingtest.Config{Dir: dir, Issued: w.World.Issued, Now: w.asOf()})
	if err != nil {
		return nil, err
	}
	w.kit = kit
	if w.rules, err = w.advisories(); err != nil {
		_ = w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) fromFlags(o options) error {
	w.World = worldFile{At: o.at, Issued: o.issued, Builtin: !o.at.IsZero() || !o.issued.IsZero()}
	if o.prepare != "" {
		b, err := os.ReadFile(o.prepare)
		if err != nil {
			return err
		}
		p, err := eps.ParsePrepared(b)
		if err != nil {
			return fmt.Errorf("%s: %w", o.prepare, err)
		}
		w.World.Prepare = b
		if w.World.At.IsZero() && o.issued.IsZero() {
			// Renewed before it was prepared, signed after: see advance.
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

// now is the world's clock: the machine's, or one that runs on from the judged
// instant.
func (w *world) now() time.Time {
	if w.World.At.IsZero() {
		return time.Now()
	}
	return w.World.At.Add(w.ahead + time.Since(w.start))
}

// reseating is how long a person takes to take a card out and put it back, by a
// clock of the world's own. A certificate issued just before is not yet valid, for
// the national service, in the second of its notBefore.
const reseating = time.Minute

// advance lets that time pass.
func (w *world) advance() { w.ahead += reseating }

// asOf is the clock for a Signer and a Renewer; nil where it is the machine's.
func (w *world) asOf() func() time.Time {
	if w.World.At.IsZero() {
		return nil
	}
	return w.now
}

func (w *world) file(name string) string { return filepath.Join(w.kit.Dir(), name) }

// close ends the simulation. Its folder goes too, unless it is wanted.
func (w *world) close() error {
	err := w.kit.Close()
	if !w.keep {
		err = errors.Join(err, os.RemoveAll(w.kit.Dir()))
	}
	return err
}

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

// ask is the holder of the simulated card: told, then typing the passcode.
func (w *world) ask(t *teller) func(context.Context, passcodeRequest) ([]byte, error) {
	return func(ctx context.Context, r passcodeRequest) ([]byte, error) {
		t.progressEnds()
		t.say("passcode", fmt.Sprintf("Passcode for card %s, to %s: the simulated holder types it.", r.Label, r.Purpose), nil)
		return w.kit.PIN(ctx, r)
	}
}
