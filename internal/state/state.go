// Package state is what this module keeps for the whole machine, whoever runs it:
// the holds that keep a card from signing until it was re-seated, the locks of cards,
// and the clock floor. Renewal writes holds; the Signer reads them for every signature
// and ends one when its conditions are met.
//
// A card has several names here, because two PKCS#11 modules word one card's maker,
// model and serial number differently: the one that the module in use makes of those
// (card.Info.ID), and the SHA-256 of each certificate that it can sign with, which all
// modules read alike. A hold is kept in a file for each of its names, so that looking
// one up opens a file for each name of a card, however many holds there are, and a
// file that is damaged stops the card that goes by its name and no other.
//
// The clock floor ([Clock]) tells when the newest decision about a card was recorded
// here, in the file clock.json: a clock that shows less was turned back. It is the start
// of the minute before, and so written once a minute at most; a clock that is set right
// by less than a minute is not found behind, one that is turned back by two or more is.
// It only goes forward. What cannot be read is not known, which is an error
// that names the file, and nothing is signed; a file that is not there is no floor,
// so whoever may remove files from the folder is trusted with it.
//
// A clock that is wrong goes into the floor too, and what is right then is behind it.
// One that shows more than a year after the end of the card's certificate does not: no
// card bears it out. For one that is less far in the future, whoever looks after the
// machine sets it right and removes clock.json, which each such refusal names; running
// programs go on at once. Until then nothing is signed and paper is the way out.
//
// The folder is fixed (see [Machine]) so that every process of the machine, and a
// second vendor's application, honours the same holds. Only simulated cards and
// tests use another. It must be writable for those who prescribe on the machine;
// a folder that is not there holds nothing.
package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/gofrs/flock" // file locks on Linux, macOS and Windows alike; kept by its owners since 2015, needs x/sys only
)

// Dir is a state folder.
type Dir struct{ path string }

// Machine is the state folder of this machine: /var/lib/rxguard,
// /Library/Application Support/rxguard or the ProgramData folder of Windows.
func Machine() (Dir, error) {
	p, err := machinePath()
	if err != nil {
		return Dir{}, fmt.Errorf("state: the machine-wide folder cannot be found: %w", err)
	}
	return Dir{p}, nil
}

// At is another folder, for simulated cards and tests.
func At(path string) Dir { return Dir{path} }

// Path returns the folder.
func (d Dir) Path() string { return d.path }

// Phase says how far a held card's renewal is.
type Phase string

// The phases of a hold.
const (
	Renewing Phase = "renewing" // not finished: re-seating does not end it
	Reseat   Phase = "reseat"   // finished or given up: ends when re-seated
)

// Hold keeps one card from signing.
type Hold struct {
	Version int    `json:"version"`
	ID      string `json:"id"`   // of the renewal
	Card    string `json:"card"` // the name of the card under which its renewal is kept
	// Certificates are the SHA-256 of the certificates that the card can sign with
	// while it is on hold, lower-case hexadecimal: by these it is known to every
	// module. Older holds have none, and bind the card by the name Card alone.
	Certificates []string `json:"certificates,omitempty"`

	Serial string    `json:"serial"`
	Label  string    `json:"label"`
	Phase  Phase     `json:"phase"`
	Since  time.Time `json:"since"` // UTC
	// Expect is the SHA-256 of the signing certificate that must be read after
	// the card was put back, lower-case hexadecimal; set in phase reseat.
	Expect string `json:"expect,omitempty"`
}

// holdVersion is the version of the hold file's form.
const holdVersion = 1

// maxHold bounds a hold file.
const maxHold = 64 << 10

// check tells what is missing in a hold.
func (h Hold) check() error {
	switch {
	case h.ID == "":
		return errors.New("it has no id")
	case h.Phase != Renewing && h.Phase != Reseat:
		return fmt.Errorf("its phase is %q; wanted %s or %s", h.Phase, Renewing, Reseat)
	case h.Phase == Reseat && h.Expect == "":
		return errors.New("it does not say which certificate to expect")
	case h.Since.IsZero():
		return errors.New("it does not say since when")
	}
	for i, n := range h.names() {
		if !isName(n) {
			return fmt.Errorf("it names the card %q; wanted letters and digits", n)
		}
		if slices.Contains(h.names()[:i], n) {
			return fmt.Errorf("it names the card %s twice", n)
		}
	}
	return nil
}

// names are all under which the hold is kept.
func (h Hold) names() []string { return append([]string{h.Card}, h.Certificates...) }

// isName tells whether s can be part of a file's name: names are digests.
func isName(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z')
	})
}

// Hold reads the hold on a card that has these names; nil when there is none. Of
// several, which a crash can leave, it is one in phase renewing where there is one.
// An error means that it is not known: it is of a file that goes by one of the names.
func (d Dir) Hold(names ...string) (*Hold, error) {
	var found *Hold
	for _, n := range names {
		h, err := d.hold(n)
		if err != nil {
			return nil, err
		}
		if h != nil && (found == nil || found.Phase != Renewing && h.Phase == Renewing) {
			found = h
		}
	}
	return found, nil
}

// hold reads the hold that is kept under one name.
func (d Dir) hold(name string) (*Hold, error) {
	file := d.holdFile(name)
	b, err := ReadFile(file, maxHold)
	if errors.Is(err, fs.ErrNotExist) && !isFile(d.path) && !isFile(filepath.Dir(file)) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state: hold: %w", err)
	}
	h, err := parseHold(b)
	if err == nil && !slices.Contains(h.names(), name) {
		err = errors.New("it is of another card")
	}
	if err != nil {
		return nil, fmt.Errorf("state: hold %s is damaged: %w", file, err)
	}
	return h, nil
}

func parseHold(b []byte) (*Hold, error) {
	if len(b) > maxHold {
		return nil, fmt.Errorf("it is longer than %d bytes", maxHold)
	}
	var h Hold
	if err := strictJSON(b, &h); err != nil {
		return nil, err
	}
	if h.Version != holdVersion {
		return nil, fmt.Errorf("it has version %d; this program knows %d", h.Version, holdVersion)
	}
	return &h, h.check()
}

// strictJSON reads one JSON value without unknown fields.
func strictJSON(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows its JSON object")
	}
	return nil
}

// SetHold writes a hold under each of its names, durably: when it returns nil, the
// hold survives a crash and a power loss. It takes the place of the hold that the card
// had under the name Card, and keeps that one's other names. After an error some names
// may have the new hold and others still the old. A hold that Hold would not read is
// not written.
func (d Dir) SetHold(h Hold) error {
	h.Version, h.Since = holdVersion, h.Since.UTC()
	if h.Card == "" {
		return errors.New("state: the hold names no card")
	}
	if old, err := d.hold(h.Card); err == nil && old != nil {
		h.Certificates = slices.Clone(h.Certificates)
		for _, c := range old.Certificates {
			if !slices.Contains(h.Certificates, c) {
				h.Certificates = append(h.Certificates, c)
			}
		}
	}
	if err := h.check(); err != nil {
		return fmt.Errorf("state: the hold is incomplete: %w", err)
	}
	b, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return fmt.Errorf("state: hold: %w", err)
	}
	if len(b) >= maxHold {
		return fmt.Errorf("state: the hold is longer than %d bytes", maxHold)
	}
	dir := filepath.Dir(d.holdFile(h.Card))
	if err := d.make(dir); err != nil {
		return err
	}
	for _, n := range h.names() {
		if err := WriteFile(d.holdFile(n), append(b, '\n'), 0o666); err != nil {
			return fmt.Errorf("state: the hold could not be written: %w", err)
		}
	}
	return SyncDir(dir)
}

// ReleaseHold ends the hold on a card that has these names, under all that the hold
// has, if it is still the one with this id. A card that is not on hold is no error.
func (d Dir) ReleaseHold(id string, names ...string) error {
	h, err := d.Hold(names...)
	if err != nil || h == nil {
		return err
	}
	if h.ID != id {
		return fmt.Errorf("state: the card is on another hold since %s; it was not ended", h.Since.Format(time.RFC3339))
	}
	for _, n := range slices.Concat(h.Certificates, names, []string{h.Card}) {
		// What another name of the card holds is left to those who read it by that.
		if at, err := d.hold(n); err != nil || at == nil || at.ID != id {
			continue
		}
		if err := patiently(time.Sleep, transient, func() error { return os.Remove(d.holdFile(n)) }); err != nil {
			return fmt.Errorf("state: the hold could not be ended: %w", err)
		}
	}
	return SyncDir(filepath.Dir(d.holdFile(h.Card)))
}

// holdFile is asked at each signature for each name, and so not joined by filepath.Join,
// which takes longer to clean it.
func (d Dir) holdFile(name string) string {
	const sep = string(filepath.Separator)
	return d.path + sep + "holds" + sep + name + ".json"
}

func (d Dir) lockFile(name string) string { return filepath.Join(d.path, "locks", name+".lock") }

// Lock takes the lock of one of a card's names: shared for a signature, by the name of
// the certificate that it is made with. It waits until ctx ends. The returned function
// releases it.
func (d Dir) Lock(ctx context.Context, name string, exclusive bool) (func(), error) {
	return d.lock(ctx, d.lockFile(name), exclusive, true)
}

// LockAll takes the locks of all of a card's names, exclusively: for setting and
// ending a hold, so that no signature is under way then, through whatever module. It
// waits until ctx ends. The returned function releases them.
func (d Dir) LockAll(ctx context.Context, names ...string) (func(), error) {
	// In one order, so that two do not wait for each other.
	names = slices.Sorted(slices.Values(names))
	return all(slices.Compact(names), func(n string) (func(), error) { return d.Lock(ctx, n, true) })
}

// ErrBusy is wrapped by TryRenewal when another process renews the card.
var ErrBusy = errors.New("another process renews this card")

// TryRenewal takes the locks that one renewal of a card holds from its first step
// to its last, of all its names. It does not wait: the error that wraps ErrBusy names
// the process that holds one.
func (d Dir) TryRenewal(ctx context.Context, names ...string) (func(), error) {
	return all(names, func(n string) (func(), error) {
		return d.lock(ctx, filepath.Join(d.path, "locks", n+".renewal"), true, false)
	})
}

// all takes a lock for each name, or none.
func all(names []string, take func(string) (func(), error)) (func(), error) {
	var taken []func()
	release := func() {
		for _, f := range slices.Backward(taken) {
			f()
		}
	}
	for _, n := range names {
		f, err := take(n)
		if err != nil {
			release()
			return nil, err
		}
		taken = append(taken, f)
	}
	return release, nil
}

func (d Dir) lock(ctx context.Context, file string, exclusive, wait bool) (func(), error) {
	l := flock.New(file, flock.SetPermissions(0o666))
	try, patience := l.TryRLock, l.TryRLockContext
	if exclusive {
		try, patience = l.TryLock, l.TryLockContext
	}
	ok, err := try()
	if err != nil { // most likely the first lock here
		if err := d.make(filepath.Dir(file)); err != nil {
			return nil, err
		}
		ok, err = try()
	}
	if err == nil && !ok {
		if !wait {
			_ = l.Close()
			return nil, fmt.Errorf("state: %w: %s", ErrBusy, whoHolds(l.Path()))
		}
		_, err = patience(ctx, 10*time.Millisecond)
	}
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("state: lock %s: %w", l.Path(), err)
	}
	// Whoever made the file, with whatever umask, it is for all who may use the folder.
	if i, err := os.Stat(file); err == nil && i.Mode().Perm() != 0o666 {
		_ = os.Chmod(file, 0o666)
	}
	if wait {
		return func() { _ = l.Close() }, nil
	}
	// Who holds it, for the process that comes second.
	owner := l.Path() + ".owner"
	_ = os.Remove(owner) // left by a crash, perhaps another user's
	_ = os.WriteFile(owner, fmt.Appendf(nil, "process %d since %s, %s", os.Getpid(), time.Now().UTC().Format(time.RFC3339), ourselves()), 0o666)
	return func() {
		_ = os.Remove(owner)
		_ = l.Close()
	}, nil
}

// ourselves says which program this is, whose, and on which computer: several people
// may be logged in to one.
func ourselves() string {
	program, who, where := "a program", "somebody", "this computer"
	if p, err := os.Executable(); err == nil {
		program = filepath.Base(p)
	}
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		where = h
	}
	return fmt.Sprintf("%s of %s on %s", program, who, where)
}

const maxOwner = 512 // bytes of what is read about the holder of a lock

func whoHolds(lock string) string {
	f, err := os.Open(lock + ".owner")
	if err != nil {
		return "which process is not known"
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxOwner))
	if err != nil || len(b) == 0 {
		return "which process is not known"
	}
	return strings.Map(func(r rune) rune { // whoever may use the folder wrote it, and a person reads it
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, string(b))
}

// Exists tells whether the folder is there. One that is not holds nothing.
func (d Dir) Exists() bool {
	_, err := os.Stat(d.path)
	return !errors.Is(err, fs.ErrNotExist)
}

// Make makes a folder in the state folder, where it is not there, for the same people
// as that.
func (d Dir) Make(name string) error { return d.make(filepath.Join(d.path, name)) }

func (d Dir) make(dir string) error {
	if i, err := os.Stat(dir); err == nil && i.IsDir() {
		return nil
	}
	err := makeTop(d.path)
	if err == nil {
		err = makeBelow(d.path, dir)
	}
	if i, serr := os.Stat(dir); serr == nil && i.IsDir() { // another process was first
		return nil
	}
	if err != nil {
		return fmt.Errorf("state: the folder %s must exist and be writable for those who prescribe on this machine: %w", d.path, err)
	}
	return nil
}
