package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/moby/sys/atomicwriter"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/p11"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
	"github.com/rxguard/rxguard/signing/signingtest"
)

// testToken is a token behind a PKCS#11 module that this example provisioned, with
// its test authority. What belongs to it lies in a folder of its own, so that the
// same command goes on where an earlier run stopped.
type testToken struct {
	o       options
	dir     string
	module  *p11.Module
	token   *p11.Token
	secrets *secrets
	ca      *testcard.CA
	file    tokenFile
	touched bool // this run changed the token

	removable bool
	uses      atomic.Int64
	server    *testcard.Server
}

const (
	tokenName   = "token.json"
	caName      = "ca.json"
	tokenNotice = "This is a test token of the rxguard example. Its keys are test keys, not for patients and not for any real system."
)

// tokenFile is what a later run must know of the token.
type tokenFile struct {
	Notice string `json:"test_token"`
	Card   string `json:"card"` // card.Info.ID
	Serial string `json:"serial"`
	Label  string `json:"label"`

	UID         string    `json:"uid"`
	Issued      time.Time `json:"issued"`
	Provisioned bool      `json:"provisioned"` // both pairs were put on it
	Signed      bool      `json:"signed"`      // a journey ended
	Made        []madeKey `json:"made"`
}

// madeKey is a key pair that this example made, written down before it is made.
type madeKey struct {
	ID  []byte `json:"id"`            // CKA_ID
	Key string `json:"key,omitempty"` // SHA-256 of its SubjectPublicKeyInfo; empty: not known
}

// openToken finds the token and its folder. It changes nothing on the token, and
// asks for nothing.
func openToken(ctx context.Context, o options, questions io.Writer) (_ *world, err error) {
	t := &testToken{o: o, secrets: &secrets{pinFile: o.pinFile, soFile: o.soFile, out: questions, interrupt: o.interrupt}}
	if err := t.secrets.check(); err != nil {
		return nil, &usageError{err}
	}
	if t.module, err = openModule(ctx, o); err != nil {
		return nil, err
	}
	if o.token == "" {
		return nil, &usageError{fmt.Errorf("--module needs --token, the label or serial number of a token; %s", tokensOf(ctx, t.module))}
	}
	if t.token, err = t.module.Token(ctx, p11.Select{Token: o.token}, t.secrets.officer); err != nil {
		return nil, t.notFound(ctx, err)
	}
	w := &world{kit: t, test: t}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close(false))
		}
	}()
	info, err := t.info(ctx)
	if err != nil {
		return nil, t.notFound(ctx, err)
	}
	slots, err := t.module.Slots(ctx)
	if err != nil {
		return nil, t.notFound(ctx, err)
	}
	for _, s := range slots {
		if s.Present && s.Serial == info.Serial && s.Label == info.Label {
			t.removable = s.Removable
		}
	}
	if err := w.tokenWorld(o, info); err != nil {
		return nil, err
	}
	return w, nil
}

func (t *testToken) info(ctx context.Context) (card.Info, error) {
	s, err := t.token.Open(ctx)
	if err != nil {
		return card.Info{}, err
	}
	defer s.Close()
	return s.Info(ctx)
}

// tokenWorld opens the folder of the token, or makes it.
func (w *world) tokenWorld(o options, info card.Info) error {
	t := w.test
	w.dir = o.dir
	if w.dir == "" {
		caches, err := os.UserCacheDir()
		if err != nil {
			return &usageError{fmt.Errorf("there is no folder for what belongs to the token; name one with --dir: %w", err)}
		}
		w.dir = filepath.Join(caches, "rxguard-prescriber", info.ID())
	}
	t.dir = w.dir
	if _, err := os.Stat(w.dir); errors.Is(err, fs.ErrNotExist) {
		w.made = true
	}
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return &usageError{err}
	}
	if _, err := os.Stat(w.file(worldName)); err == nil {
		return &usageError{fmt.Errorf("%s is the folder of a simulated card; name another with --dir", w.dir)}
	}
	if err := w.lockFolder("token"); err != nil {
		return err
	}
	b, err := readFile(w.file(tokenName))
	switch {
	case errors.Is(err, fs.ErrNotExist): // nothing is on the token yet that is ours
		t.file = tokenFile{Card: info.ID()}
	case err != nil:
		return &usageError{err}
	default:
		if err := json.Unmarshal(b, &t.file); err != nil {
			return &usageError{fmt.Errorf("%s: %w. %s", w.file(tokenName), err, t.elsewhere())}
		}
		if t.file.Notice != tokenNotice {
			return &usageError{fmt.Errorf("%s was not written by this example", w.file(tokenName))}
		}
		if t.file.Card != info.ID() {
			return &usageError{fmt.Errorf("%s belongs to another token, %q with serial %s; name another with --dir", w.dir, t.file.Label, t.file.Serial)}
		}
	}
	t.file.Serial, t.file.Label = info.Serial, info.Label
	if t.ca, err = testcard.LoadCA(w.file(caName), testcard.CAConfig{}); errors.Is(err, fs.ErrNotExist) {
		t.ca, err = testcard.NewCA(testcard.CAConfig{}) // kept once it issues something
	}
	if err != nil {
		return &usageError{fmt.Errorf("%w. %s", err, t.elsewhere())}
	}
	if o.prepare != "" {
		if err := w.prepareFrom(o.prepare); err != nil {
			return &usageError{err}
		}
	}
	return nil
}

// begin writes down that an empty token becomes one of this example's. What the
// folder held of an earlier life of it is no more.
func (t *testToken) begin() error {
	for _, name := range []string{oldName, recordName, recordName + ".head", recordName + ".lock", "state"} {
		if err := os.RemoveAll(filepath.Join(t.dir, name)); err != nil {
			return err
		}
	}
	if err := t.ca.Save(filepath.Join(t.dir, caName)); err != nil {
		return err
	}
	n, err := rand.Int(rand.Reader, big.NewInt(1_000_000_000_000))
	if err != nil {
		return err
	}
	t.file = tokenFile{
		Notice: tokenNotice, Card: t.file.Card, Serial: t.file.Serial, Label: t.file.Label,
		UID: fmt.Sprintf("%012d", n), Issued: time.Now().Add(-affectedFor).UTC().Truncate(time.Second),
	}
	return t.save()
}

func (t *testToken) save() error {
	b, err := json.MarshalIndent(t.file, "", "  ")
	if err != nil {
		return err
	}
	return atomicwriter.WriteFile(filepath.Join(t.dir, tokenName), append(b, '\n'), 0o600)
}

// underWay tells whether an earlier run began a journey and did not end it.
func (t *testToken) underWay() bool { return t.file.Provisioned && !t.file.Signed }

// signed notes that a journey ended.
func (t *testToken) signed() error {
	t.file.Signed = true
	return t.save()
}

// Reader is where the token is, for signing.Config. An application writes
//
//	signing.Open(ctx, signing.Config{Module: path, Token: label, PIN: ask, SecurityOfficer: askOfficer})
//
// and its holds and journals are the machine's. Those of a test token are nobody
// else's business, so this one has a state folder of its own.
func (t *testToken) Reader() *signing.Reader {
	return card.NewReader(ledger{t.token, t}, filepath.Join(t.dir, "state"))
}

// PIN asks the token's holder.
func (t *testToken) PIN(ctx context.Context, r passcodeRequest) ([]byte, error) {
	return t.secrets.passcode(ctx, r)
}

// Issuers are the test authority's certificates, the issuing one first.
func (t *testToken) Issuers() []*x509.Certificate {
	return []*x509.Certificate{t.ca.IssuingCertificate(), t.ca.RootCertificate()}
}

// SigningKeyUses counts the signatures that this run asked the token for.
func (t *testToken) SigningKeyUses() int { return int(t.uses.Load()) }

// StartEnrolment starts the enrolment server of the test authority.
func (t *testToken) StartEnrolment() (*signingtest.Enrolment, error) {
	if t.server == nil {
		var err error
		if t.server, err = testcard.NewServer(testcard.ServerConfig{CA: t.ca}); err != nil {
			return nil, err
		}
	}
	return &signingtest.Enrolment{URL: t.server.URL(), Label: testcard.SigningESTLabel, Roots: t.ca.Roots()}, nil
}

// Close stops the server and the watch over the token.
func (t *testToken) Close() error {
	t.secrets.close()
	var err error
	if t.server != nil {
		err = t.server.Close()
		t.server = nil
	}
	err = errors.Join(err, t.token.Close())
	t.module.Rest(context.Background())
	return err
}

// again is the command that goes on.
func (t *testToken) again() string {
	line := "go run ./examples/prescriber --module " + quoted(t.o.module)
	for _, f := range []struct{ name, value string }{
		{"module-arguments", t.o.arguments}, {"token", t.o.token}, {"dir", t.o.dir}, {"pin-file", t.o.pinFile},
		{"so-file", t.o.soFile}, {"prepare", t.o.prepare}, {"out", t.o.out},
	} {
		if f.value != "" {
			line += " --" + f.name + " " + quoted(f.value)
		}
	}
	if t.o.json {
		line += " --json"
	}
	return line
}

// elsewhere says what to do about a file of this token's that cannot be read.
func (t *testToken) elsewhere() string {
	return "What belongs to the token is lost with it: empty the token with its own software, and remove " + t.dir + " or name another folder with --dir"
}

var plainWord = regexp.MustCompile(`^[\w@%+=:,./\\-]+$`)

// quoted is a word as a shell reads it.
func quoted(s string) string {
	switch {
	case runtime.GOOS == "windows":
		if strings.ContainsAny(s, " #&") {
			return `"` + s + `"`
		}
		return s
	case plainWord.MatchString(s) && !strings.Contains(s, `\`):
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// ledger is the token as the library gets it: it counts signatures, and has each key
// that is made written down before.
type ledger struct {
	card.Token
	t *testToken
}

func (l ledger) Open(ctx context.Context) (card.Session, error) {
	s, err := l.Token.Open(ctx)
	if err != nil {
		return nil, err
	}
	return entered{s, l.t}, nil
}

type entered struct {
	card.Session
	t *testToken
}

// lister is a session that names what is on the token beside certificates and the keys
// of pairs, as one of a module does.
type lister interface {
	Others(context.Context) ([]string, error)
}

func (e entered) Others(ctx context.Context) ([]string, error) {
	if l, ok := e.Session.(lister); ok {
		return l.Others(ctx)
	}
	return nil, nil
}

func (e entered) Sign(ctx context.Context, id, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	e.t.uses.Add(1)
	return e.Session.Sign(ctx, id, digest, opts)
}

func (e entered) Generate(ctx context.Context, spec card.KeySpec) (card.Object, error) {
	e.t.file.Made = slices.DeleteFunc(e.t.file.Made, func(m madeKey) bool { return bytes.Equal(m.ID, spec.ID) })
	e.t.file.Made = append(e.t.file.Made, madeKey{ID: bytes.Clone(spec.ID)})
	if err := e.t.save(); err != nil {
		return card.Object{}, err
	}
	made, err := e.Session.Generate(ctx, spec)
	last := len(e.t.file.Made) - 1
	switch {
	case untouched(err): // or another's key under this CKA_ID would count as this example's
		e.t.file.Made = e.t.file.Made[:last]
		return made, errors.Join(err, e.t.save())
	case err != nil:
		e.t.touched = true
		return made, err
	}
	e.t.touched = true
	e.t.file.Made[last].Key = keySum(made.Public)
	return made, e.t.save()
}

// keySum names a public key; empty for one that is not shown.
func keySum(pub crypto.PublicKey) string {
	if pub == nil {
		return ""
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
