package p11

import (
	"bytes"
	"context"
	"crypto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

// behindEnv names the module behind the shim to a process of a test's own. Its tokens
// are those that SOFTHSM2_CONF of the environment names.
const behindEnv = "RXGUARD_TEST_BEHIND"

// behind is what the environment of such a process has.
func behind(t testing.TB) string {
	t.Helper()
	if os.Getenv(aloneEnv) != "" {
		return ""
	}
	return behindEnv + "=" + softHSM(t).tokens[0].Module
}

// ownTokens gives this process a copy of the tokens in SoftHSM: one that another
// process is changing is left out of its lists for moments, and loses objects.
func ownTokens(t testing.TB) {
	t.Helper()
	conf, err := os.ReadFile(os.Getenv("SOFTHSM2_CONF"))
	require.NoError(t, err)
	const key = "directories.tokendir = "
	var own []string
	dir := t.TempDir()
	for line := range strings.Lines(string(conf)) {
		if from, ok := strings.CutPrefix(line, key); ok {
			require.NoError(t, os.CopyFS(filepath.Join(dir, "tokens"), os.DirFS(strings.TrimSpace(from))))
			line = key + filepath.Join(dir, "tokens") + "\n"
		}
		own = append(own, line)
	}
	name := filepath.Join(dir, "softhsm2.conf")
	require.NoError(t, os.WriteFile(name, []byte(strings.Join(own, "")), 0o600))
	require.NoError(t, os.Setenv("SOFTHSM2_CONF", name)) // of a process that ends with the test
}

// TestHang has a module sleep for ever in one call after the other. The watchdog
// answers in its bound, later calls at once, whoever waits is woken, everything can
// be closed, and the process ends by itself.
func TestHang(t *testing.T) {
	const bound = 3 * time.Second
	cells := []struct {
		name string
		call string
		step string // which meets it
		pad  bool
		long int // bounds that the step may take; 0: one
	}{
		{name: "Initialize", call: "Initialize", step: "load"},
		{name: "GetInfo", call: "GetInfo", step: "load"},
		{name: "GetSlotList", call: "GetSlotList", step: "token"},
		{name: "GetSlotInfo", call: "GetSlotInfo", step: "token"},
		{name: "GetTokenInfo", call: "GetTokenInfo", step: "token"},
		{name: "OpenSession", call: "OpenSession", step: "open"},
		{name: "GetMechanismList", call: "GetMechanismList", step: "info"},
		{name: "Login", call: "Login", step: "login"},
		{name: "LoginOnPad", call: "Login", step: "login", pad: true, long: 6},
		{name: "FindObjectsInit", call: "FindObjectsInit", step: "login"},
		{name: "FindObjects", call: "FindObjects", step: "login"},
		{name: "FindObjectsFinal", call: "FindObjectsFinal", step: "login"},
		{name: "GetAttributeValue", call: "GetAttributeValue", step: "login"},
		{name: "SignInit", call: "SignInit", step: "sign"},
		{name: "Sign", call: "Sign", step: "sign"},
		{name: "GenerateKeyPair", call: "GenerateKeyPair", step: "generate", long: 10},
		{name: "CreateObject", call: "CreateObject", step: "write"},
		{name: "DestroyObject", call: "DestroyObject", step: "destroy"},
		{name: "Logout", call: "Logout", step: "logout"},
		{name: "CloseSession", call: "CloseSession", step: "close"},
	}
	names := []string{"beside others"}
	for _, c := range cells {
		names = append(names, c.name)
	}
	elsewhere := alone(t, names, behind(t))
	t.Run(names[0], func(t *testing.T) {
		if !elsewhere(t) {
			hangsBesideOthers(t)
		}
	})
	for _, c := range cells {
		t.Run(c.name, func(t *testing.T) {
			if elsewhere(t) {
				return
			}
			ownTokens(t)
			ctx := t.Context()
			path := os.Getenv(behindEnv)
			plain := load(t, path, "")
			sh := newShim(t, path)
			if c.pad {
				sh.flags(0x100, 0) // CKF_PROTECTED_AUTHENTICATION_PATH
			}
			sh.on(c.call, fault{mode: hang})
			j := &journey{made: []byte("none"), shim: sh, label: "token 1", pad: c.pad, opts: Options{Bound: bound, Arguments: sh.control}}
			long := bound * time.Duration(max(c.long, 1))
			wedged := false
			for _, step := range j.steps() {
				began := time.Now()
				err := step.do(ctx)
				if step.name == "close" && c.call == "CloseSession" { // which waits for nobody
					assert.Less(t, time.Since(began), bound)
					eventually(t, func() bool {
						_, err := j.m.Slots(ctx)
						return card.IsKind(err, card.Wedged)
					}, "the watchdog does not know of it")
				}
				took := time.Since(began)
				switch {
				case wedged:
					// The card was not asked, and nobody waited.
					if err != nil && !card.IsKind(err, card.NotLoggedIn) {
						assert.Truef(t, card.IsKind(err, card.Wedged), "%s after it: %v", step.name, err)
					}
					assert.Lessf(t, took, bound, "%s after it", step.name)
				case step.name == c.step:
					wedged = true
					// Closing has no error to tell; whoever comes next is told.
					if step.name != "close" {
						require.Truef(t, card.IsKind(err, card.Wedged), "%s: %v", step.name, err)
						assert.ErrorContains(t, err, "stopped answering")
						assert.ErrorContains(t, err, sh.path)
					}
					// It may have waited for a look at the slots that began just before, too.
					assert.GreaterOrEqualf(t, took, long-time.Millisecond, "%s before its bound", step.name)
					assert.Lessf(t, took, long+2*bound, "%s", step.name)
					t.Logf("%s hangs: %s answers after %v of %v", c.call, step.name, took.Round(time.Millisecond), long)
				default:
					require.NoErrorf(t, err, step.name)
				}
			}
			require.True(t, wedged)

			// The same module again is the same wedged one, and says so at once.
			began := time.Now()
			m, err := Open(context.Background(), sh.path, j.opts)
			require.NoError(t, err)
			_, err = m.Slots(ctx)
			assert.True(t, card.IsKind(err, card.Wedged), "%v", err)
			var e *card.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, "restart the application; nothing was signed", e.Advice())
			_, err = m.Token(ctx, Select{Token: j.label}, nil)
			assert.True(t, card.IsKind(err, card.Wedged), "%v", err)
			assert.True(t, card.IsKind(m.Watch(ctx, func(Event) {}), card.Wedged))
			assert.Less(t, time.Since(began), bound)
			// Who watched is told; the event that ended the watch is that one.
			for _, w := range j.watching {
				err := <-w
				assert.True(t, card.IsKind(err, card.Wedged), "%v", err)
			}
			if c.pad {
				assert.Zero(t, sh.padded())
			}
			// Another module is not touched by it.
			_, err = plain.Slots(ctx)
			assert.NoError(t, err)
		})
	}
}

// journey makes every call that there is, in the order of a card's life.
type journey struct {
	shim  *shim
	opts  Options
	label string
	pad   bool

	cert     []byte // on the token
	m        *Module
	tok      *Token
	s        card.Session
	made     []byte
	watching []chan error
}

type step struct {
	name string
	do   func(context.Context) error
}

// steps answers the calls; those that want what an earlier one did not bring answer
// nothing.
func (j *journey) steps() []step {
	session := func(f func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			if j.s == nil {
				return nil
			}
			return f(ctx)
		}
	}
	return []step{
		{"load", func(context.Context) (err error) {
			j.m, err = Open(context.Background(), j.shim.path, j.opts)
			return err
		}},
		{"token", func(ctx context.Context) (err error) {
			if j.m == nil {
				return nil
			}
			j.tok, err = j.m.Token(ctx, Select{Token: j.label}, nil)
			return err
		}},
		{"watch", func(ctx context.Context) error {
			if j.tok == nil {
				return nil
			}
			watch, wait := make(chan error, 1), make(chan error, 1)
			first := make(chan struct{})
			go func() {
				once := false
				watch <- j.m.Watch(ctx, func(Event) {
					if !once {
						close(first)
					}
					once = true
				})
			}()
			go func() {
				_, err := j.tok.Wait(ctx, j.tok.Presence())
				wait <- err
			}()
			j.watching = append(j.watching, watch, wait)
			<-first
			return nil
		}},
		{"open", func(ctx context.Context) (err error) {
			if j.tok == nil {
				return nil
			}
			j.s, err = j.tok.Open(ctx)
			return err
		}},
		{"info", session(func(ctx context.Context) error {
			_, err := j.s.Info(ctx)
			return err
		})},
		{"login", session(func(ctx context.Context) error {
			if j.pad {
				return j.s.Login(ctx, nil)
			}
			return j.s.Login(ctx, []byte(testcard.DefaultPIN))
		})},
		{"find", session(func(ctx context.Context) error {
			os, err := j.s.Objects(ctx)
			for _, o := range os {
				if o.Class == card.CertificateObject && bytes.Equal(o.ID, testcard.SigningID()) {
					j.cert = o.DER
				}
			}
			return err
		})},
		{"sign", session(func(ctx context.Context) error {
			sig, err := j.s.Sign(ctx, testcard.SigningID(), digest(crypto.SHA256, "a prescription"), crypto.SHA256)
			if err != nil && sig != nil {
				panic("a signature with an error")
			}
			return err
		})},
		{"generate", session(func(ctx context.Context) error {
			id, err := j.s.Vacant(ctx)
			if err != nil {
				return err
			}
			j.made = id
			_, err = j.s.Generate(ctx, card.KeySpec{ID: id, Label: "new"})
			return err
		})},
		{"write", session(func(ctx context.Context) error {
			if j.cert == nil {
				return nil
			}
			return j.s.WriteCertificate(ctx, j.made, "new", j.cert)
		})},
		{"destroy", session(func(ctx context.Context) error {
			return j.s.Destroy(ctx, card.PublicKeyObject, j.made)
		})},
		{"logout", session(func(ctx context.Context) error { return j.s.Logout(ctx) })},
		{"close", session(func(context.Context) error { return j.s.Close() })},
		{"close token", func(context.Context) error {
			if j.tok == nil {
				return nil
			}
			return j.tok.Close()
		}},
	}
}

// hangsBesideOthers hangs one of many calls. The others, which go on well, do not
// keep the watchdog from answering, and are answered with it.
func hangsBesideOthers(t *testing.T) {
	const (
		bound  = 3 * time.Second
		others = 4
	)
	ownTokens(t)
	ctx := t.Context()
	sh := newShim(t, os.Getenv(behindEnv))
	m := sh.open(Options{Bound: bound, Poll: 10 * time.Millisecond})
	tok, err := m.Token(ctx, Select{Token: "token 1"}, nil)
	require.NoError(t, err)
	sign := func(s card.Session) error {
		_, err := s.Sign(ctx, testcard.SigningID(), digest(crypto.SHA256, "a prescription"), crypto.SHA256)
		return err
	}
	var sessions []card.Session
	for range others {
		s, err := tok.Open(ctx)
		require.NoError(t, err)
		require.NoError(t, s.Login(ctx, []byte(testcard.DefaultPIN)))
		require.NoError(t, sign(s))
		sessions = append(sessions, s)
	}
	sh.on("SignInit", fault{mode: hang, times: 1})
	began := time.Now()
	ends := make(chan error, others)
	for _, s := range sessions {
		go func() {
			for {
				if err := sign(s); err != nil {
					ends <- err
					return
				}
			}
		}()
	}
	for range others {
		err := <-ends
		assert.True(t, card.IsKind(err, card.Wedged), "%v", err)
	}
	took := time.Since(began)
	assert.GreaterOrEqual(t, took, bound-time.Millisecond)
	assert.Less(t, took, 4*bound)
	assert.Greater(t, sh.ended("Sign"), 2*others, "nothing went on beside it")
	t.Logf("one of %d calls at once hangs: all answer after %v of %v, %d signatures beside it", others, took.Round(time.Millisecond), bound, sh.ended("Sign")/2)
	for _, s := range sessions {
		assert.NoError(t, s.Close())
	}
	assert.NoError(t, tok.Close())
	assert.Less(t, time.Since(began)-took, bound)
}
