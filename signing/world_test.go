package signing

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing/eps"
)

// The certificates of these tests are issued inside the window of the built-in
// notice: refused while it was active, allowed once it was resolved.
var (
	issued     = time.Date(2020, 9, 29, 12, 0, 0, 0, time.UTC)
	refusedAt  = time.Date(2020, 9, 30, 9, 0, 0, 0, time.UTC)
	allowedAt  = time.Date(2020, 10, 2, 9, 0, 0, 0, time.UTC)
	theHoldID  = "0123456789abcdef"
	thePIN     = "qz7wxk" // no hexadecimal digits, so that it is in no digest by chance
	wrongPIN   = "zyxzyx"
	signingKey = sync.OnceValue(newKey)
	otherKey   = sync.OnceValue(newKey)
	authKey    = sync.OnceValue(newKey)
)

func newKey() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

var theCA = sync.OnceValue(func() *testcard.CA {
	ca, err := testcard.NewCA(testcard.CAConfig{CachedKeys: true})
	if err != nil {
		panic(err)
	}
	return ca
})

// fataler is what testing and rapid have in common.
type fataler interface {
	require.TestingT
	Helper()
}

// newCard makes a card with an authentication and a signing pair.
func newCard(t fataler, cfg testcard.Config) *testcard.Card {
	t.Helper()
	cfg.PIN = []byte(thePIN)
	c, err := testcard.New(cfg)
	require.NoError(t, err)
	_, _, err = c.ProvisionPrescriber(theCA(), testcard.Prescriber{
		UID: "123456789012", NotBefore: issued, AuthenticationKey: authKey(), SigningKey: signingKey(),
	})
	require.NoError(t, err)
	return c
}

// signingCertificate issues another certificate of the profile for a key.
func signingCertificate(t fataler, key *rsa.PrivateKey) *x509.Certificate {
	t.Helper()
	c, err := theCA().Issue(testcard.Signing, key.Public(), testcard.IssueOptions{Subject: testcard.Subject("123456789012"), NotBefore: issued})
	require.NoError(t, err)
	return c
}

// idOf is the name of a simulated card for locks and holds.
func idOf(serial string) string {
	return card.Info{Manufacturer: testcard.Manufacturer, Model: testcard.Model, Serial: serial}.ID()
}

// world is one process with a card, a person who knows its passcode, and a Signer.
type world struct {
	t      *testing.T
	sim    *testcard.Card
	id     string // of sim
	dir    state.Dir
	person *person
	card   *Card
	rec    *memory
	signer *Signer

	mu sync.Mutex
	at time.Time
}

// setUp changes a world before its card is opened.
type setUp struct {
	config testcard.Config
	sim    *testcard.Card
	token  func(card.Token) card.Token
	dir    state.Dir // zero: a new one
}

func newWorld(t *testing.T, how ...func(*setUp)) *world {
	t.Helper()
	u := setUp{config: testcard.Config{Serial: "c0ffee", Label: "card one"}}
	for _, f := range how {
		f(&u)
	}
	if u.sim == nil {
		u.sim = newCard(t, u.config)
	}
	w := &world{t: t, sim: u.sim, id: idOf("c0ffee"), dir: state.At(filepath.Join(t.TempDir(), "state")),
		person: &person{pin: thePIN}, rec: &memory{}, at: allowedAt}
	if u.dir != (state.Dir{}) {
		w.dir = u.dir
	}
	token := w.sim.Token()
	if u.token != nil {
		token = u.token(token)
	}
	w.card = w.open(token)
	w.signer = w.sign(w.card)
	return w
}

// open opens a card as another window of the application would.
func (w *world) open(t card.Token) *Card {
	w.t.Helper()
	c, err := Open(w.t.Context(), Config{Reader: card.NewReader(t, w.dir.Path()), PIN: w.person.enter, LastTry: w.person.lastTry})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { assert.NoError(w.t, c.Close()) })
	return c
}

func (w *world) sign(c *Card) *Signer {
	w.t.Helper()
	s, err := NewAsOf(c, builtin(w.t), w.rec, w.clock)
	require.NoError(w.t, err)
	return s
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *world) setClock(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = at
}

// hold sets a hold in phase reseat that expects the certificate on the card, as
// another process does: nobody is told.
func (w *world) hold(phase state.Phase) state.Hold {
	w.t.Helper()
	h := state.Hold{ID: theHoldID, Card: w.id, Serial: "c0ffee", Phase: phase, Since: refusedAt}
	if phase == state.Reseat {
		h.Expect = w.certificate().SHA256
	}
	require.NoError(w.t, w.dir.SetHold(h))
	return h
}

// seenHold is hold, and the watcher has seen it.
func (w *world) seenHold(phase state.Phase) state.Hold {
	w.t.Helper()
	h := w.hold(phase)
	card.Refresh(w.card)
	return h
}

func (w *world) reseat() {
	w.sim.Remove()
	w.sim.Insert()
}

func (w *world) certificate() guard.CertificateInfo {
	w.t.Helper()
	s, err := w.card.Snapshot(w.t.Context())
	require.NoError(w.t, err)
	require.NotNil(w.t, s.Certificate)
	return s.Certificate.Info()
}

// until waits for a snapshot of the card.
func until(t fataler, c *Card, is func(guard.Snapshot) bool) guard.Snapshot {
	t.Helper()
	for {
		changed := c.Changed()
		s, err := c.Snapshot(context.Background())
		require.NoError(t, err)
		if is(s) {
			return s
		}
		<-changed
	}
}

func holdIs(state guard.HoldState) func(guard.Snapshot) bool {
	return func(s guard.Snapshot) bool { return s.Hold.State == state }
}

// signed counts the signatures that the card's key made.
func (w *world) signed() int { return w.sim.Signatures(testcard.SigningID()) }

// reached counts the operations of one kind that began on the card.
func reached(c *testcard.Card, op testcard.Op) int {
	n := 0
	for _, e := range c.Trace() {
		if e.Op == op && !e.After {
			n++
		}
	}
	return n
}

// untouched asserts that nothing reached the card's key and nobody was asked.
func (w *world) untouched() {
	w.t.Helper()
	assert.Zero(w.t, w.signed())
	assert.Zero(w.t, reached(w.sim, testcard.OpSign))
	assert.Zero(w.t, reached(w.sim, testcard.OpLogin))
	assert.Empty(w.t, w.person.requests())
}

// only asserts the events of the record, oldest first, and returns the entries.
func (w *world) only(events ...Event) []Entry {
	w.t.Helper()
	var got []Event
	entries := w.rec.all()
	for _, e := range entries {
		got = append(got, e.Event)
	}
	require.Equal(w.t, events, got)
	return entries
}

// person answers the questions for the passcode.
type person struct {
	mu       sync.Mutex
	pin      string // what is entered
	err      error  // of the prompt
	yes      bool   // to the last try
	during   func(context.Context)
	asked    []PINRequest
	lastAsks int
	handed   [][]byte // what was returned
}

func (p *person) enter(ctx context.Context, r PINRequest) ([]byte, error) {
	p.mu.Lock()
	p.asked = append(p.asked, r)
	pin, err, during := []byte(p.pin), p.err, p.during
	p.handed = append(p.handed, pin)
	p.mu.Unlock()
	if during != nil {
		during(ctx)
	}
	return pin, err
}

func (p *person) lastTry(_ context.Context, r PINRequest) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastAsks++
	if !r.LastTry {
		return false, errors.New("asked for the last try though it is not")
	}
	return p.yes, nil
}

// enters changes what is entered from now on.
func (p *person) enters(pin string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pin = pin
}

func (p *person) requests() []PINRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// wiped asserts that every passcode that was handed over is gone.
func (p *person) wiped(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, b := range p.handed {
		assert.Equal(t, make([]byte, len(b)), b, "passcode of prompt %d", i+1)
	}
}

// memory is a Recorder.
type memory struct {
	mu      sync.Mutex
	entries []Entry
	fail    error
}

func (m *memory) Record(ctx context.Context, e Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.fail != nil {
		return m.fail
	}
	m.entries = append(m.entries, e)
	return nil
}

func (m *memory) all() []Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.entries)
}

func builtin(t fataler) *guard.Guard {
	g, err := guard.New(guard.Config{})
	require.NoError(t, err)
	return g
}

// document is a $prepare answer with a digest of its own.
func document(t fataler, name string) *eps.Prepared {
	t.Helper()
	return documentAt(t, name, allowedAt)
}

func documentAt(t fataler, name string, at time.Time) *eps.Prepared {
	t.Helper()
	digest := sha256.Sum256([]byte(name))
	info, err := eps.SignedInfo(eps.RS256, digest[:])
	require.NoError(t, err)
	type parameter struct {
		Name  string `json:"name"`
		Value string `json:"valueString"`
	}
	answer, err := json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": []parameter{
		{"digest", base64.StdEncoding.EncodeToString(info)},
		{"timestamp", at.Format(time.RFC3339)},
		{"algorithm", "RS256"},
	}})
	require.NoError(t, err)
	p, err := eps.ParsePrepared(answer)
	require.NoError(t, err)
	return p
}

// nowhere asserts that a secret is in none of the files below a folder.
func nowhere(t *testing.T, secret string, root string) {
	t.Helper()
	err := filepath.Walk(root, func(path string, fi os.FileInfo, err error) error {
		if err != nil || !fi.Mode().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && bytes.Contains(b, []byte(secret)) {
			err = fmt.Errorf("%s holds the passcode", path)
		}
		return err
	})
	assert.NoError(t, err)
}
