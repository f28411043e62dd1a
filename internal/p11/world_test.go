package p11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/testcard"
	rig "github.com/rxguard/rxguard/internal/testcard/modules"
)

// patience bounds every wait for a module or a card service. Nothing takes that
// long; a machine that is busy must not fail a test.
const patience = 60 * time.Second

// folder is for what lives as long as the process: a module is loaded once.
var folder string

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "rxguard-p11-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	rest()
	os.RemoveAll(folder)
	os.Exit(code)
}

// rest waits for what the modules of this process are still at: with -race it ends as C
// programs do, and a call that is under way then crashes it. Without cgo there are none.
var rest = func() {}

// cannot is what an implementation of the card interfaces cannot do.
type cannot struct {
	change      bool // nothing on the card: no keys made, nothing written or removed
	destroyKeys bool // a key goes only when another one is made in its place
	always      bool // no keys that want a login for each signature
	lock        bool // wrong passcodes are never too many
	move        bool // the card cannot be taken out
	moment      bool // a signature with a card that is out and in again at once never ends
	swap        bool // there is no reader into which another card could be put
	apart       bool // the sessions of a process share one login (PKCS#11 v3.0 5.6.8)
	code        bool // there is no module with codes of its own
	tellService bool // a card service that is down looks like a card that is out
}

// world is an implementation of the card interfaces.
type world struct {
	cannot  cannot
	module  *Module     // nil: the in-process card
	service *rig.Daemon // nil: no card service and no readers
	// card is a person's card in reader 0 or 1, where it is until the test ends. Both
	// hold an authentication pair and a signing pair, which are other ones. The
	// authentication key in reader 1 is on P-256. A software token is the same one
	// each time.
	card func(t *testing.T, reader int) *deck

	// tool runs pkcs11-tool on a card, logged in; nil where that can add nothing.
	tool func(t *testing.T, d *deck, args ...string) string

	// Each case has the other two readers: pcscd takes its time to notice that a card
	// has gone.
	others bool
}

// name is the reader's.
func (w *world) name(reader int) string { return w.service.Name(w.place(reader)) }

func (w *world) place(reader int) int {
	if w.others {
		reader += 2
	}
	return reader
}

// deck is a card with what the test knows about it.
type deck struct {
	card.Token
	sel                     Select // of the Token, behind a module
	pin                     []byte
	authentication, signing *x509.Certificate
	c                       *testcard.Card   // nil: a software token
	r                       *testcard.Reader // where it is plugged in
}

var (
	keysMu sync.Mutex
	keys   []*rsa.PrivateKey
	more   = testcard.CachedKeys()
)

// cachedKey is the nth RSA-2048 key of this process.
func cachedKey(t testing.TB, n int) *rsa.PrivateKey {
	t.Helper()
	keysMu.Lock()
	defer keysMu.Unlock()
	for len(keys) <= n {
		k, err := more(2048)
		require.NoError(t, err)
		keys = append(keys, k)
	}
	return keys[n]
}

var elliptical = sync.OnceValues(func() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) })

var authority = sync.OnceValues(func() (*testcard.CA, error) { return testcard.NewCA(testcard.CAConfig{CachedKeys: true}) })

func issuer(t testing.TB) *testcard.CA {
	t.Helper()
	ca, err := authority()
	require.NoError(t, err)
	return ca
}

// person says whose card is in reader 0 or 1, or (2) in nobody's hand yet.
func person(t testing.TB, n int) testcard.Prescriber {
	t.Helper()
	p := testcard.Prescriber{
		UID:               fmt.Sprintf("%012d", 100_000_000_000+n),
		AuthenticationKey: cachedKey(t, 2*n), SigningKey: cachedKey(t, 2*n+1),
	}
	if n == 1 {
		ec, err := elliptical()
		require.NoError(t, err)
		p.AuthenticationKey = ec
	}
	return p
}

// newCard makes a person's simulated card. The keys that it makes are ready.
func newCard(t testing.TB, n int) *deck {
	t.Helper()
	c, err := testcard.New(testcard.Config{Label: fmt.Sprintf("card of %d", n), Containers: 24, PSS: true, AlwaysAuthenticate: n == 0})
	require.NoError(t, err)
	next := 6
	c.MakeKeys(func(bits int) (*rsa.PrivateKey, error) {
		if bits != 2048 {
			return rsa.GenerateKey(rand.Reader, bits)
		}
		next++
		return cachedKey(t, next-1), nil
	})
	d := &deck{pin: []byte(testcard.DefaultPIN), c: c}
	d.authentication, d.signing, err = c.ProvisionPrescriber(issuer(t), person(t, n))
	require.NoError(t, err)
	return d
}

// inProcess is the simulated card without a module.
func inProcess(*testing.T) *world {
	return &world{
		cannot: cannot{swap: true, code: true},
		card: func(t *testing.T, reader int) *deck {
			d := newCard(t, reader)
			d.Token = d.c.Token()
			return d
		},
	}
}

// virtual is a module over the virtual readers, where the same cards are PIV
// smartcards.
func virtual(path func(testing.TB) string, limits cannot) func(*testing.T) *world {
	return func(t *testing.T) *world {
		w := &world{cannot: limits, service: rig.PCSCD(t, 4)}
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("the card service at last:\n%s", w.service.Log())
			}
		})
		w.module = load(t, path(t), "")
		w.card = func(t *testing.T, reader int) *deck {
			d := newCard(t, reader)
			w.plug(t, reader, d)
			d.sel = Select{Reader: w.name(reader)}
			d.Token = w.token(t, d.sel)
			return d
		}
		return w
	}
}

// plug puts a card into a reader for the time of the test.
func (w *world) plug(t testing.TB, reader int, d *deck) {
	t.Helper()
	w.sees(t, reader, false) // of the last one
	d.r = w.service.Plug(t, w.place(reader), d.c)
	w.sees(t, reader, true)
}

func (w *world) unplug(t testing.TB, reader int, d *deck) {
	t.Helper()
	require.NoError(t, d.r.Close())
	w.sees(t, reader, false)
}

// sees waits until the module sees a card in a reader, or none.
func (w *world) sees(t testing.TB, reader int, want bool) {
	t.Helper()
	var slots []Slot
	var err error
	eventually(t, func() bool {
		slots, err = w.module.Slots(context.Background())
		present := false
		for _, s := range slots {
			present = present || s.Reader == w.name(reader) && s.Present
		}
		return err == nil && present == want
	}, "a card in reader %d: %t; the module sees %+v, %v", reader, want, &slots, &err)
}

func (w *world) token(t testing.TB, sel Select) *Token {
	t.Helper()
	token, err := w.module.Token(t.Context(), sel, managementKey)
	require.NoError(t, err)
	t.Cleanup(func() { token.Close() })
	return token
}

// managementKey answers for the security officer that ykcs11 wants.
func managementKey(context.Context, card.PINRequest) ([]byte, error) {
	return []byte(rig.ManagementKey), nil
}

// load loads a module, or takes the one that was.
func load(t testing.TB, path, arguments string) *Module {
	t.Helper()
	m, err := Open(context.Background(), path, Options{Arguments: arguments, Poll: 20 * time.Millisecond})
	if errors.Is(err, ErrNoCgo) {
		t.Skip(err)
	}
	require.NoError(t, err)
	return m
}

// soft are the software tokens of this process, which are made before their module
// is loaded.
type soft struct {
	made   bool
	tokens []rig.Token
	decks  []deck // with the persons' pairs on them; tokens beyond are empty
}

var (
	softMu   sync.Mutex
	softHSMs soft
	nssDBs   soft
)

const softTokens = 4

// softHSM makes the process's tokens in SoftHSM: the first two are persons' cards,
// the rest are for other tests.
func softHSM(t testing.TB) soft {
	t.Helper()
	softMu.Lock()
	defer softMu.Unlock()
	if softHSMs.made {
		return softHSMs
	}
	need.Tool(t, "pkcs11-tool", "opensc")
	var s soft
	for n := range softTokens {
		s.tokens = append(s.tokens, rig.SoftHSM(t, fmt.Sprintf("token %d", n), testcard.DefaultPIN, "12345678"))
	}
	for n := range 2 {
		d := soften(t, s.tokens[n], n, softHSMImport)
		s.decks = append(s.decks, d)
	}
	s.made = true
	softHSMs = s
	return s
}

// nss makes two databases of NSS, which one softokn serves as two tokens. All have
// the same serial number.
func nss(t testing.TB) soft {
	t.Helper()
	softMu.Lock()
	defer softMu.Unlock()
	if nssDBs.made {
		return nssDBs
	}
	need.Tool(t, "pk12util", "libnss3-tools")
	need.Tool(t, "openssl", "openssl")
	var s soft
	arguments := "tokens=<"
	for n := range 2 {
		token := rig.NSS(t) // for the path, and for what is missing
		dir := filepath.Join(folder, fmt.Sprintf("nss%d", n))
		require.NoError(t, os.MkdirAll(dir, 0o700))
		file(t, filepath.Join(dir, "passcode"), []byte(token.PIN+"\n"))
		run(t, nil, "certutil", "-N", "-d", "sql:"+dir, "-f", filepath.Join(dir, "passcode"))
		token.Label = fmt.Sprintf("database %d", n)
		arguments += fmt.Sprintf("%d=[configDir='sql:%s' tokenDescription='%s' slotDescription='reader %d'] ", 4+n, dir, token.Label, n)
		s.tokens = append(s.tokens, token)
		s.decks = append(s.decks, soften(t, token, n, nssImport(dir)))
	}
	for n := range s.tokens {
		s.tokens[n].Init = arguments + ">"
	}
	s.made = true
	nssDBs = s
	return s
}

// software is a module that needs no reader.
func software(make func(testing.TB) soft, limits cannot) func(*testing.T) *world {
	return func(t *testing.T) *world {
		s := make(t)
		w := &world{cannot: limits, module: load(t, s.tokens[0].Module, s.tokens[0].Init)}
		w.card = func(t *testing.T, reader int) *deck {
			d := s.decks[reader]
			d.Token = w.token(t, d.sel)
			return &d
		}
		if s.tokens[0].Init == "" { // which the tool could not tell the module
			w.tool = func(t *testing.T, d *deck, args ...string) string {
				return run(t, nil, "pkcs11-tool", append([]string{
					"--module", s.tokens[0].Module, "--token-label", d.sel.Token, "--login", "--pin", string(d.pin),
				}, args...)...)
			}
		}
		return w
	}
}

// soften puts a person's pairs on a software token with the tools of its makers.
func soften(t testing.TB, token rig.Token, n int, put func(t testing.TB, token rig.Token, p pair)) deck {
	t.Helper()
	who := person(t, n)
	d := deck{sel: Select{Token: token.Label}, pin: []byte(token.PIN)}
	for _, p := range []pair{
		{testcard.AuthenticationID(), testcard.AuthenticationLabel, who.AuthenticationKey, nil, false},
		{testcard.SigningID(), testcard.SigningLabel, who.SigningKey, nil, n == 0},
	} {
		profile, to := testcard.Authentication, &d.authentication
		if p.label == testcard.SigningLabel {
			profile, to = testcard.Signing, &d.signing
		}
		c, err := issuer(t).Issue(profile, p.key.Public(), testcard.IssueOptions{Subject: testcard.Subject(who.UID)})
		require.NoError(t, err)
		*to, p.certificate = c, c
		put(t, token, p)
	}
	return d
}

// pair is what is imported.
type pair struct {
	id          []byte
	label       string
	key         crypto.Signer
	certificate *x509.Certificate
	always      bool
}

func softHSMImport(t testing.TB, token rig.Token, p pair) {
	t.Helper()
	private, err := x509.MarshalPKCS8PrivateKey(p.key)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(p.key.Public())
	require.NoError(t, err)
	for kind, der := range map[string][]byte{"privkey": private, "pubkey": public, "cert": p.certificate.Raw} {
		path := filepath.Join(t.TempDir(), kind)
		file(t, path, der)
		args := []string{
			"--module", token.Module, "--token-label", token.Label, "--login", "--pin", token.PIN,
			"--write-object", path, "--type", kind, "--id", fmt.Sprintf("%x", p.id), "--label", p.label,
		}
		switch {
		case kind == "privkey" && p.always:
			args = append(args, "--usage-sign", "--always-auth")
		case kind != "cert":
			args = append(args, "--usage-sign")
		}
		run(t, nil, "pkcs11-tool", args...)
	}
}

func nssImport(dir string) func(testing.TB, rig.Token, pair) {
	return func(t testing.TB, token rig.Token, p pair) {
		t.Helper()
		private, err := x509.MarshalPKCS8PrivateKey(p.key)
		require.NoError(t, err)
		in, out := filepath.Join(t.TempDir(), "in.pem"), filepath.Join(t.TempDir(), "out.p12")
		file(t, in, append(
			pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
			pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.certificate.Raw})...))
		run(t, nil, "openssl", "pkcs12", "-export", "-in", in, "-out", out, "-name", p.label, "-passout", "pass:import")
		run(t, nil, "pk12util", "-i", out, "-d", "sql:"+dir, "-k", filepath.Join(dir, "passcode"), "-W", "import")
	}
}

func file(t testing.TB, path string, b []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

// run runs an outside program and answers what it printed.
func run(t testing.TB, in []byte, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %q: %s", name, args, out)
	return string(out)
}

// eventually polls for what somebody else does. Errors in the message are pointed at,
// so that they are those of the last time.
func eventually(t testing.TB, f func() bool, format string, args ...any) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); {
		if time.Now().After(end) {
			for i, a := range args {
				if err, ok := a.(*error); ok {
					args[i] = *err
				}
			}
			t.Fatalf("never came true: "+format, args...)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
