package renewal

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
	"github.com/rxguard/rxguard/signing/eps"
)

// The cards of these tests are issued inside the window of an advisory that names
// the test CA by its key; what is issued at theTime is outside.
var (
	issued  = time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC)
	theTime = time.Date(2031, 5, 6, 9, 30, 0, 0, time.UTC)
	thePIN  = "qz7wxk" // no hexadecimal digits, so that it is in no digest by chance
)

const uid = "555000000001"

var theCA = sync.OnceValue(func() *testcard.CA {
	ca, err := testcard.NewCA(testcard.CAConfig{Now: func() time.Time { return theTime }, CachedKeys: true})
	if err != nil {
		panic(err)
	}
	return ca
})

const notice = `{
  "id": "cards-of-may-2031", "revision": 1, "state": "active", "title": "Smartcards issued on 1 May 2031",
  "published": "2031-05-02T09:00:00Z", "modified": "2031-05-02T09:00:00Z",
  "block_from": %q,
  "match": {"any": [{
    "issuer": {"spki_sha256": ["%x"]},
    "not_before": {"from": "2031-05-01T00:00:00Z", "to": "2031-05-02T00:00:00Z"}
  }]},
  "basis": "not_before_window", "card_may_authenticate": %t,
  "remedies": [
    {"kind": "renew", "text": "Renew this card here."},
    {"kind": "portal", "text": "Open the self-renewal page and choose \"Renew Certificate\"."},
    {"kind": "registration_authority", "text": "Ask the Registration Authority of the notice."},
    {"kind": "service_desk", "text": "Call the service desk of the notice.", "phone": "0300 303 5035"}
  ],
  "message": "Please renew your smartcard before you sign another prescription."
}`

type noticeConfig struct {
	blockFrom string
	mayNot    bool // the card may not authenticate
}

// guardBy makes a guard with one advisory against the test CA's cards.
func guardBy(t testing.TB, n noticeConfig) *guard.Guard {
	t.Helper()
	if n.blockFrom == "" {
		n.blockFrom = "2031-05-02T09:00:00Z"
	}
	ca := theCA().IssuingCertificate()
	a, err := advisory.Parse(fmt.Appendf(nil, notice, n.blockFrom, testcard.SPKIHash(ca), !n.mayNot), nil)
	require.NoError(t, err)
	set, err := advisory.NewSet(1, time.Date(2031, 5, 2, 9, 0, 0, 0, time.UTC), a)
	require.NoError(t, err)
	g, err := guard.New(guard.Config{Advisories: set, Issuers: []*x509.Certificate{ca}})
	require.NoError(t, err)
	return g
}

// person enters passcodes and counts how often.
type person struct {
	mu    sync.Mutex
	pin   string
	err   error
	yes   bool // to spending the last try
	asked []signing.Purpose
}

func (p *person) enter(ctx context.Context, r signing.PINRequest) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, r.Purpose)
	if p.err != nil {
		return nil, p.err
	}
	return []byte(p.pin), ctx.Err()
}

func (p *person) lastTry(context.Context, signing.PINRequest) (bool, error) { return p.yes, nil }

// take returns how often the passcode was asked since it was last called.
func (p *person) take() []signing.Purpose {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.asked
	p.asked = nil
	return a
}

// memory is a decision record that can fail.
type memory struct {
	mu      sync.Mutex
	entries []signing.Entry
	fail    func(signing.Entry) error
}

func (m *memory) Record(_ context.Context, e signing.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		if err := m.fail(e); err != nil {
			return err
		}
	}
	m.entries = append(m.entries, e)
	return nil
}

func (m *memory) events() []signing.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []signing.Event
	for _, e := range m.entries {
		out = append(out, e.Event)
	}
	return out
}

// authority is an Enroller over the test CA.
type authority struct {
	mu       sync.Mutex
	requests []Request
	issued   []*x509.Certificate
	// answer replaces the nth answer, from 1; nil: a certificate.
	answer func(n int, r Request) (Answer, error)
	// order changes what is issued; nil: the signing profile at theTime.
	order func(profile *testcard.Profile, pub *any, o *testcard.IssueOptions)
}

func (a *authority) Enrol(_ context.Context, _ *Transport, r Request) (Answer, error) {
	a.mu.Lock()
	r.CSR = bytes.Clone(r.CSR)
	a.requests = append(a.requests, r)
	n, answer := len(a.requests), a.answer
	a.mu.Unlock()
	if answer != nil {
		return answer(n, r)
	}
	return a.issue(r)
}

func (a *authority) issue(r Request) (Answer, error) {
	csr, err := x509.ParseCertificateRequest(r.CSR)
	if err != nil {
		return Answer{}, err
	}
	profile, pub, o := testcard.Signing, csr.PublicKey, testcard.IssueOptions{RawSubject: csr.RawSubject}
	if a.order != nil {
		a.order(&profile, &pub, &o)
	}
	c, err := theCA().Issue(profile, pub, o)
	if err != nil {
		return Answer{}, err
	}
	a.mu.Lock()
	a.issued = append(a.issued, c)
	a.mu.Unlock()
	return Answer{Certificate: c.Raw, Chain: [][]byte{theCA().IssuingCertificate().Raw}}, nil
}

func (a *authority) asked() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.requests)
}

// world is one process with a card, its holder, an authority and a record.
type world struct {
	t      testing.TB
	sim    *testcard.Card
	old    *x509.Certificate // the signing certificate of the beginning
	id     string            // of the card
	dir    state.Dir
	person *person
	ca     *authority
	rec    *memory
	g      *guard.Guard
	now    time.Time
	card   *signing.Card
	as     func(card.Token) card.Token // how the module words the card; nil: as it is
}

type setUp struct {
	card   testcard.Config
	notice noticeConfig
	good   bool // the card is not affected
	dir    string
	as     func(card.Token) card.Token
}

func newWorld(t testing.TB, how ...func(*setUp)) *world {
	t.Helper()
	u := setUp{card: testcard.Config{Serial: "c0ffee", Label: "card one", PSS: true}, dir: filepath.Join(t.TempDir(), "state")}
	for _, f := range how {
		f(&u)
	}
	u.card.PIN = []byte(thePIN)
	sim, err := testcard.New(u.card)
	require.NoError(t, err)
	keys := testcard.CachedKeys()
	sim.MakeKeys(keys)
	auth, err := keys(2048)
	require.NoError(t, err)
	sign, err := keys(2048)
	require.NoError(t, err)
	at := issued
	if u.good {
		at = at.AddDate(0, 0, -10)
	}
	_, old, err := sim.ProvisionPrescriber(theCA(), testcard.Prescriber{UID: uid, NotBefore: at, AuthenticationKey: auth, SigningKey: sign})
	require.NoError(t, err)
	w := &world{
		t: t, sim: sim, old: old, dir: state.At(u.dir), person: &person{pin: thePIN}, ca: &authority{}, rec: &memory{},
		id: card.Info{Manufacturer: testcard.Manufacturer, Model: testcard.Model, Serial: u.card.Serial}.ID(),
		g:  guardBy(t, u.notice), now: theTime, as: u.as,
	}
	w.restart()
	t.Cleanup(func() { assert.NoError(t, w.card.Close()) })
	return w
}

// restart opens the card anew, as another process would.
func (w *world) restart() {
	w.t.Helper()
	if w.card != nil {
		require.NoError(w.t, w.card.Close())
	}
	var err error
	token := w.sim.Token()
	if w.as != nil {
		token = w.as(token)
	}
	w.card, err = signing.Open(context.Background(), signing.Config{
		Reader: card.NewReader(token, w.dir.Path()), PIN: w.person.enter, LastTry: w.person.lastTry,
	})
	require.NoError(w.t, err)
}

func (w *world) clock() time.Time { return w.now }

func (w *world) renewer() *Renewer {
	w.t.Helper()
	r, err := New(Config{Card: w.card, Guard: w.g, Recorder: w.rec, Enroller: w.ca, AsOf: w.clock})
	require.NoError(w.t, err)
	return r
}

func (w *world) signer() *signing.Signer {
	w.t.Helper()
	s, err := signing.NewAsOf(w.card, w.g, w.rec, w.clock)
	require.NoError(w.t, err)
	return s
}

// reseat takes the card out and puts it back, as its watcher sees.
func (w *world) reseat() {
	w.t.Helper()
	w.sim.Remove()
	w.see(func(s guard.Snapshot) bool { return errors.Is(s.Err, guard.ErrNoCard) })
	w.sim.Insert()
	w.see(func(s guard.Snapshot) bool { return !errors.Is(s.Err, guard.ErrNoCard) })
}

// hook has f called for one operation on the card at a time, the watcher's too,
// until end is called.
func (w *world) hook(f func(testcard.Event) error) (end func()) {
	var mu sync.Mutex
	over := false
	w.sim.Hook(func(e testcard.Event) error {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return nil
		}
		return f(e)
	})
	return func() {
		w.sim.Hook(nil)
		mu.Lock()
		over = true
		mu.Unlock()
	}
}

// see waits for a snapshot.
func (w *world) see(wanted func(guard.Snapshot) bool) {
	w.t.Helper()
	for {
		changed := w.card.Changed()
		s, err := w.card.Snapshot(context.Background())
		require.NoError(w.t, err)
		if wanted(s) {
			return
		}
		<-changed
	}
}

// mustRenew renews up to the re-seat.
func (w *world) mustRenew() Result {
	w.t.Helper()
	res, err := w.renewer().Renew(context.Background(), nil)
	require.NoError(w.t, err)
	require.Equal(w.t, ReseatCard, res.Outcome, res.Text)
	return res
}

// ends asserts how a call ended, with an *Error that carries the same result.
func ends(t testing.TB, res Result, err error, want Outcome, says ...string) *Error {
	t.Helper()
	require.Equal(t, want, res.Outcome, "%v: %s", err, res.Text)
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, res, e.Result)
	require.NotEmpty(t, res.Text)
	require.NotEmpty(t, res.Remedies)
	for _, s := range says {
		require.Contains(t, res.Text+"\n"+err.Error(), s)
	}
	return e
}

// prepared is a synthetic answer of the service's $prepare operation.
func prepared(t testing.TB) *eps.Prepared {
	t.Helper()
	digest := sha256.Sum256([]byte("a prescription"))
	info, err := eps.SignedInfo(eps.RS256, digest[:])
	require.NoError(t, err)
	p, err := eps.ParsePrepared(fmt.Appendf(nil, `{"resourceType": "Parameters", "parameter": [
		{"name": "digest", "valueString": %q},
		{"name": "timestamp", "valueString": "2031-05-06T09:29:00+00:00"},
		{"name": "algorithm", "valueString": "RS256"}]}`, base64.StdEncoding.EncodeToString(info)))
	require.NoError(t, err)
	return p
}

// mustSign signs, with one question for the passcode at most.
func (w *world) mustSign() {
	w.t.Helper()
	_, err := signing.Sign(context.Background(), w.signer(), prepared(w.t))
	require.NoError(w.t, err)
}

// refused is the verdict on an attempt to sign, which reached no key.
func (w *world) refused() guard.Verdict {
	w.t.Helper()
	before := len(w.ops(testcard.OpSign))
	_, err := signing.Sign(context.Background(), w.signer(), prepared(w.t))
	var no *guard.Refused
	var dontKnow *guard.Undecided
	require.Equal(w.t, before, len(w.ops(testcard.OpSign)))
	if errors.As(err, &dontKnow) {
		return dontKnow.Verdict
	}
	require.ErrorAs(w.t, err, &no)
	return no.Verdict
}

// ops lists the operations of these kinds that the card did.
func (w *world) ops(kinds ...testcard.Op) (out []testcard.Event) {
	for _, e := range w.sim.Trace() {
		if e.After && slices.Contains(kinds, e.Op) {
			out = append(out, e)
		}
	}
	return out
}

// changes are the operations that change a card.
var changes = []testcard.Op{testcard.OpGenerate, testcard.OpWriteCertificate, testcard.OpDestroy}

// pair is a certificate with its private key, as it is on the card.
type pair struct {
	cert *x509.Certificate
	key  bool
}

// onCard reads the card itself, whatever the reader or a hook does, by CKA_ID: of
// the authentication pair nothing.
func (w *world) onCard() map[string]pair {
	w.t.Helper()
	return onCard(w.t, w.sim)
}

func onCard(t testing.TB, sim *testcard.Card) map[string]pair {
	t.Helper()
	file := filepath.Join(t.TempDir(), "card.json")
	require.NoError(t, sim.Save(file))
	copied, err := testcard.Load(file)
	require.NoError(t, err)
	copied.Insert()
	if copied.TriesLeft() == 0 {
		require.NoError(t, copied.SetPIN([]byte(thePIN)))
	}
	s, err := copied.Token().Open(context.Background())
	require.NoError(t, err)
	require.NoError(t, s.Login(context.Background(), []byte(thePIN)))
	objects, err := s.Objects(context.Background())
	require.NoError(t, err)
	out := map[string]pair{}
	for _, o := range objects {
		id := string(o.ID)
		if bytes.Equal(o.ID, testcard.AuthenticationID()) {
			continue
		}
		p := out[id]
		switch o.Class {
		case card.CertificateObject:
			p.cert, err = x509.ParseCertificate(o.DER)
			require.NoError(t, err)
		case card.PrivateKeyObject:
			p.key = true
		}
		out[id] = p
	}
	// A certificate and its key are a pair, or the card is worth nothing.
	for id, p := range out {
		for _, o := range objects {
			if p.cert != nil && o.Class == card.PrivateKeyObject && string(o.ID) == id {
				require.True(t, card.SameKey(o.Public, p.cert.PublicKey), "container %x", id)
			}
		}
	}
	return out
}

// oldIsThere asserts P5: the old key and certificate are on the card.
func (w *world) oldIsThere() {
	w.t.Helper()
	p := w.onCard()[string(testcard.SigningID())]
	require.True(w.t, p.key, "the old key is gone")
	require.True(w.t, p.cert != nil && p.cert.Equal(w.old), "the old certificate is gone")
}

// oldAlone asserts that the card is as it was made.
func (w *world) oldAlone() {
	w.t.Helper()
	w.oldIsThere()
	require.Len(w.t, w.onCard(), 1)
}

// newAlone asserts that one new pair is in the place of the old, and returns its
// certificate.
func (w *world) newAlone() *x509.Certificate {
	w.t.Helper()
	all := w.onCard()
	require.Len(w.t, all, 1)
	for id, p := range all {
		require.NotEqual(w.t, string(testcard.SigningID()), id)
		require.True(w.t, p.key)
		require.NotNil(w.t, p.cert)
		require.False(w.t, p.cert.Equal(w.old))
		return p.cert
	}
	return nil
}

// hold is the hold on disk; nil: none.
func (w *world) hold() *state.Hold {
	w.t.Helper()
	h, err := w.dir.Hold(w.id)
	require.NoError(w.t, err)
	return h
}

func (w *world) journal() []JournalEntry {
	w.t.Helper()
	es, _, err := ReadJournal(journalPath(w.dir.Path(), w.id))
	require.NoError(w.t, err)
	return es
}

// certificate issues one of the signing profile for a key of its own.
func certificate(t testing.TB, key *rsa.PrivateKey, notBefore time.Time) *x509.Certificate {
	t.Helper()
	c, err := theCA().Issue(testcard.Signing, key.Public(), testcard.IssueOptions{Subject: testcard.Subject(uid), NotBefore: notBefore})
	require.NoError(t, err)
	return c
}

// lyingToken is a card whose module answers that it removed certificates and does
// not, until it is honest.
type lyingToken struct {
	card.Token
	honest atomic.Bool
}

func (l *lyingToken) Open(ctx context.Context) (card.Session, error) {
	s, err := l.Token.Open(ctx)
	if err != nil {
		return nil, err
	}
	return lyingSession{s, l}, nil
}

type lyingSession struct {
	card.Session
	l *lyingToken
}

func (s lyingSession) Destroy(ctx context.Context, c card.Class, id []byte) error {
	if c == card.CertificateObject && !s.l.honest.Load() {
		return nil
	}
	return s.Session.Destroy(ctx, c, id)
}

// openToken opens another token in the world's place.
func openToken(t *testing.T, w *world, token card.Token) *signing.Card {
	t.Helper()
	c, err := signing.Open(t.Context(), signing.Config{Reader: card.NewReader(token, w.dir.Path()), PIN: w.person.enter})
	require.NoError(t, err)
	return c
}

// renamed is a token of which the module says something else than the card's own.
type renamed struct {
	card.Token
	to func(*card.Info)
}

func (r renamed) Open(ctx context.Context) (card.Session, error) {
	s, err := r.Token.Open(ctx)
	if err != nil {
		return nil, err
	}
	return renamedSession{s, r.to}, nil
}

type renamedSession struct {
	card.Session
	to func(*card.Info)
}

func (s renamedSession) Info(ctx context.Context) (card.Info, error) {
	i, err := s.Session.Info(ctx)
	if err == nil {
		s.to(&i)
	}
	return i, err
}

// otherwise is the card as another PKCS#11 module words it.
func otherwise(t card.Token) card.Token {
	return renamed{t, func(i *card.Info) {
		i.Manufacturer, i.Model, i.Serial = "piv_II", "PKCS#15 emulated", "b8"+i.Serial
	}}
}

// serialless is a card that does not say its serial number.
func serialless(t card.Token) card.Token {
	return renamed{t, func(i *card.Info) { i.Serial = "" }}
}

// silentAboutKeys is a card of which it is not known that it makes no keys.
func silentAboutKeys(t card.Token) card.Token {
	return renamed{t, func(i *card.Info) { i.NoKeyPairs = false }}
}

// silentAboutRoom is a card of which it is not known how many pairs it holds.
func silentAboutRoom(t card.Token) card.Token {
	return renamed{t, func(i *card.Info) { i.Room = -1 }}
}

// crashAt stops a run at a point, as a crash would.
func crashAt(point string) func(string) error {
	return func(p string) error {
		if p == point {
			return errors.New("crash")
		}
		return nil
	}
}
