//go:build cgo

package signing

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/p11"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/internal/testcard/modules"
)

const softPIN, softSOPIN = "123456", "87654321"

const aloneEnv = "RXGUARD_TEST_ALONE"

// alone runs a test in a process of its own, because a module is loaded once in a
// process, and tells whether this is that process. What it skips is skipped here.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneEnv) != "" {
		return true
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), aloneEnv+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	if strings.Contains(string(out), "--- SKIP: "+t.Name()+" ") {
		t.Skipf("%s", out)
	}
	require.Contains(t, string(out), "--- PASS: "+t.Name()+" ")
	return false
}

// tokenOf opens a token of a module.
func tokenOf(t *testing.T, m *p11.Module, sel p11.Select) *p11.Token {
	t.Helper()
	token, err := m.Token(t.Context(), sel, nil)
	require.NoError(t, err)
	closeAtEnd(t, m, token)
	return token
}

// closeAtEnd closes a token with the test, and waits for what its module is still at:
// the process may end next.
func closeAtEnd(t *testing.T, m *p11.Module, token *p11.Token) {
	t.Cleanup(func() {
		assert.NoError(t, token.Close())
		m.Rest(context.Background())
	})
}

// issueOn makes a key pair on a token and a certificate for it.
func issueOn(t *testing.T, s card.Session, id byte, p testcard.Profile) *x509.Certificate {
	t.Helper()
	key, err := s.Generate(t.Context(), card.KeySpec{ID: []byte{id}, Label: p.String(), Bits: 2048})
	require.NoError(t, err)
	x := current(t, p, key.Public)
	require.NoError(t, s.WriteCertificate(t.Context(), []byte{id}, p.String(), x.Raw))
	return x
}

// loggedIn opens a session on a token and logs in.
func loggedIn(t *testing.T, token card.Token) card.Session {
	t.Helper()
	s, err := token.Open(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Login(t.Context(), []byte(softPIN)))
	return s
}

// found returns the entry of one card.
func found(t *testing.T, list []CardInfo, label string) CardInfo {
	t.Helper()
	for _, c := range list {
		if c.Label == label {
			return c
		}
	}
	require.FailNow(t, "not listed", "%s among %+v", label, list)
	return CardInfo{}
}

// SoftHSM hides private keys until the login, and always shows one slot with a token
// that is not set up.
func TestCardsOnSoftHSM(t *testing.T) {
	if !alone(t) {
		return
	}
	var module string
	for _, label := range []string{"fine", "bad", "renewed", "blank"} {
		module = modules.SoftHSM(t, label, softPIN, softSOPIN).Module
	}
	m, err := p11.Open(context.Background(), module, p11.Options{})
	require.NoError(t, err)
	issued := make(map[string]*x509.Certificate)
	for _, label := range []string{"fine", "bad", "renewed"} {
		s := loggedIn(t, tokenOf(t, m, p11.Select{Token: label}))
		issueOn(t, s, 1, testcard.Authentication)
		issued[label] = issueOn(t, s, 2, testcard.Signing)
		if label == "renewed" { // and the old certificate left behind, without its key
			issueOn(t, s, 3, testcard.Signing)
			require.NoError(t, s.Destroy(t.Context(), card.PrivateKeyObject, []byte{3}))
			require.NoError(t, s.Destroy(t.Context(), card.PublicKeyObject, []byte{3}))
		}
		require.NoError(t, s.Logout(t.Context()))
		require.NoError(t, s.Close())
	}
	cfg := CardsConfig{Module: module, Guard: affecting(t, fmt.Sprintf("%x", issued["bad"].SerialNumber))}
	list, err := Cards(t.Context(), cfg)
	require.NoError(t, err)

	c := found(t, list, "fine")
	assert.True(t, c.Present)
	assert.NoError(t, c.Err)
	assert.NotEmpty(t, c.Reader)
	assert.NotEmpty(t, c.Serial)
	assert.Equal(t, "SoftHSM project", c.Manufacturer)
	assert.True(t, c.KeyHidden)
	assert.False(t, c.Verdict.Card.Simulated)
	assert.Equal(t, guard.DecisionAllowed, c.Verdict.Decision, "%s", c.Verdict)
	assert.Equal(t, fmt.Sprintf("%x", issued["fine"].SerialNumber), c.Certificate.Serial)
	require.Len(t, c.Certificates, 2)
	assert.Equal(t, []CertificateRole{RoleAuthentication, RoleSigning}, []CertificateRole{c.Certificates[0].Role, c.Certificates[1].Role})

	c = found(t, list, "bad")
	assert.NoError(t, c.Err)
	assert.True(t, c.Verdict.Has(guard.Affected), "%s", c.Verdict)

	c = found(t, list, "renewed")
	assert.True(t, card.IsKind(c.Err, card.Ambiguous), "%v", c.Err)
	assert.True(t, c.Verdict.Has(guard.SeveralCertificates))

	c = found(t, list, "blank")
	assert.True(t, card.IsKind(c.Err, card.NoCertificate), "%v", c.Err)
	assert.True(t, c.Verdict.Has(guard.NoSigningCertificate))

	c = found(t, list, "") // the token that is not set up
	assert.True(t, c.Present)
	assert.True(t, card.IsKind(c.Err, card.PINNotSet), "%v", c.Err)
	assert.Equal(t, guard.DecisionUndecided, c.Verdict.Decision)
	assert.Len(t, list, 5)

	t.Run("a card is opened as it was listed", func(t *testing.T) {
		c := found(t, list, "bad")
		opened, err := Open(t.Context(), Config{Module: module, Token: c.Serial, ReaderName: c.Reader,
			PIN: func(context.Context, PINRequest) ([]byte, error) { return nil, assert.AnError }})
		require.NoError(t, err)
		defer opened.Close()
		v, err := cfg.Guard.Check(t.Context(), opened)
		assert.Error(t, err)
		assert.Equal(t, c.Certificate, v.Certificate)
		_, err = Open(t.Context(), Config{Module: module, PIN: func(context.Context, PINRequest) ([]byte, error) { return nil, nil }})
		assert.True(t, card.IsKind(err, card.Ambiguous), "%v", err)
		assert.ErrorContains(t, err, `"fine"`)
	})
	t.Run("the login shows which certificate has its key", func(t *testing.T) {
		token := tokenOf(t, m, p11.Select{Token: "renewed"})
		p, rec := &person{pin: softPIN}, &memory{}
		opened, err := Open(t.Context(), Config{Reader: card.NewReader(token, t.TempDir()), PIN: p.enter})
		require.NoError(t, err)
		defer opened.Close()
		signer, err := New(opened, cfg.Guard, rec)
		require.NoError(t, err)
		for range 2 {
			signed, err := Sign(t.Context(), signer, documentAt(t, "one", time.Now()))
			require.NoError(t, err)
			assert.Equal(t, issued["renewed"].Raw, signed.Certificate().Raw)
		}
		assert.Len(t, p.requests(), 1)
		p.wiped(t)
	})
	t.Run("each card is told to who watches", func(t *testing.T) {
		next, end := watched(t, CardsConfig{Module: module})
		labels := make(map[string]CardEvent)
		for range list {
			e := next()
			assert.Equal(t, CardIn, e.Change)
			labels[e.Label] = e
		}
		for _, c := range list {
			assert.Equal(t, c.Serial, labels[c.Label].Serial)
			assert.Equal(t, c.Reader, labels[c.Label].Reader)
			assert.Equal(t, c.Label == "", labels[c.Label].Err != nil)
		}
		assert.ErrorIs(t, end(), context.Canceled)
	})
}

// What keeps nothing behind a passcode is software's, and no card.
func TestCardsOnNSS(t *testing.T) {
	if !alone(t) {
		return
	}
	nss := modules.NSS(t)
	list, err := Cards(t.Context(), CardsConfig{Module: nss.Module, ModuleArguments: nss.Init})
	require.NoError(t, err)
	require.Len(t, list, 1, "%+v", list)
	assert.Equal(t, nss.Label, list[0].Label)
	assert.True(t, card.IsKind(list[0].Err, card.NoCertificate), "%v", list[0].Err)
	_, err = Cards(t.Context(), CardsConfig{Module: nss.Module, ModuleArguments: "configdir='elsewhere'"})
	assert.ErrorContains(t, err, "loaded with other arguments")
}

// A real card in a reader, as the two PIV modules see it.
func TestCardsInAVirtualReader(t *testing.T) {
	if !alone(t) {
		return
	}
	paths := map[string]string{"opensc": modules.OpenSC(t), "ykcs11": modules.YKCS11(t)}
	daemon := modules.PCSCD(t, 2)
	for _, name := range []string{"opensc", "ykcs11"} {
		t.Run(name, func(t *testing.T) {
			path := paths[name]
			sim, x := currentCard(t, "c0ffee")
			sim.Remove()
			r, err := sim.Plug(daemon.Addr(0))
			require.NoError(t, err)
			t.Cleanup(func() { _ = r.Close() })
			cfg := CardsConfig{Module: path, Guard: affecting(t, fmt.Sprintf("%x", x.SerialNumber))}

			list, err := Cards(t.Context(), cfg)
			require.NoError(t, err)
			require.NotEmpty(t, list)
			for _, c := range list {
				assert.False(t, c.Present, "%+v", c)
				assert.True(t, c.Verdict.Has(guard.CardAbsent))
			}

			next, end := watched(t, cfg)
			sim.Insert()
			in := next()
			assert.Equal(t, CardIn, in.Change)
			assert.NoError(t, in.Err)
			assert.NotEmpty(t, in.Serial)
			assert.Contains(t, in.Reader, "Yubico")

			list, err = Cards(t.Context(), cfg)
			require.NoError(t, err)
			c := found(t, list, in.Label)
			assert.Equal(t, in.Serial, c.Serial)
			assert.Equal(t, in.Reader, c.Reader)
			assert.NoError(t, c.Err)
			assert.True(t, c.Verdict.Has(guard.Affected), "%s", c.Verdict)
			assert.Equal(t, fmt.Sprintf("%x", x.SerialNumber), c.Certificate.Serial)
			assert.True(t, c.KeyHidden)
			assert.Zero(t, passcodes(sim), "no passcode is presented")

			sim.Remove()
			out := CardEvent{Change: CardOut, Reader: in.Reader, Serial: in.Serial, Label: in.Label}
			assert.Equal(t, out, next())
			sim.Insert()
			assert.Equal(t, in, next())
			sim.Remove()
			assert.Equal(t, out, next())
			assert.ErrorIs(t, end(), context.Canceled)
		})
	}
}

// passcodes counts the passcodes that a real card was given.
func passcodes(c *testcard.Card) int {
	n := 0
	for _, e := range c.Commands() {
		if e.Op == testcard.OpLogin {
			n++
		}
	}
	return n
}

// seated waits until a module's card is in.
func seated(t *testing.T, m *p11.Module, officer p11.Officer) *p11.Token {
	t.Helper()
	token, err := m.Token(t.Context(), p11.Select{}, officer)
	require.NoError(t, err)
	closeAtEnd(t, m, token)
	for p := token.Presence(); !p.Present; {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		p, err = token.Wait(ctx, p)
		cancel()
		require.NoError(t, err, "the card was put in")
	}
	return token
}

// The two PIV modules give one card different names; a hold that was set through the
// one binds it through the other, and ends through either.
func TestAHoldBindsThroughBothPIVModules(t *testing.T) {
	if !alone(t) {
		return
	}
	paths := []string{modules.YKCS11(t), modules.OpenSC(t)}
	daemon := modules.PCSCD(t, 2)
	sim, x := currentCard(t, "77")
	r, err := sim.Plug(daemon.Addr(0))
	require.NoError(t, err)
	defer r.Close()
	dir := state.At(t.TempDir())
	p, rec := &person{pin: thePIN}, &memory{}
	var cards []*Card
	var names [][]string
	for _, path := range paths {
		m, err := p11.Open(context.Background(), path, p11.Options{})
		require.NoError(t, err)
		token := seated(t, m, nil)
		opened, err := Open(t.Context(), Config{Reader: card.NewReader(token, dir.Path()), PIN: p.enter})
		require.NoError(t, err)
		defer opened.Close()
		cards, names = append(cards, opened), append(names, namesOf(t, token))
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(x.Raw))
	assert.NotEqual(t, names[0][0], names[1][0])
	for i := range paths {
		assert.Contains(t, names[i], sum)
	}
	for i, h := range cards { // set through the other
		require.NoError(t, dir.SetHold(state.Hold{ID: fmt.Sprint("renewal", i), Card: names[1-i][0], Certificates: []string{sum}, Phase: state.Reseat, Since: time.Now(), Expect: sum}))
		for _, h := range cards {
			card.Refresh(h)
		}
		signer, err := New(h, affecting(t, "00"), rec)
		require.NoError(t, err)
		asked := len(p.requests())
		_, err = Sign(t.Context(), signer, documentAt(t, "one", time.Now()))
		refusedFor(t, err, guard.OnHold)
		assert.Len(t, p.requests(), asked)

		sim.Remove()
		for _, h := range cards {
			until(t, h, func(s guard.Snapshot) bool { return errors.Is(s.Err, guard.ErrNoCard) })
		}
		sim.Insert()
		for _, h := range cards {
			until(t, h, holdIs(guard.HoldLogin))
		}
		require.NoError(t, signer.EndHold(t.Context()))
		for _, id := range append(names[0], names[1]...) {
			hold, err := dir.Hold(id)
			require.NoError(t, err)
			assert.Nil(t, hold)
		}
		_, err = Sign(t.Context(), signer, documentAt(t, "two", time.Now()))
		require.NoError(t, err)
		require.NoError(t, signer.Close())
	}
}

// A key that ykcs11 made wants the passcode each time on this card, and the module does
// not say so.
func TestAKeyThatYKCS11DoesNotDeclare(t *testing.T) {
	if !alone(t) {
		return
	}
	path := modules.YKCS11(t)
	daemon := modules.PCSCD(t, 2)
	sim, err := testcard.New(testcard.Config{Serial: "77", Label: "card", PIN: []byte(thePIN), AlwaysAuthenticate: true, Containers: 24})
	require.NoError(t, err)
	r, err := sim.Plug(daemon.Addr(0))
	require.NoError(t, err)
	defer r.Close()
	m, err := p11.Open(context.Background(), path, p11.Options{})
	require.NoError(t, err)
	token := seated(t, m, func(context.Context, card.PINRequest) ([]byte, error) { return []byte(modules.ManagementKey), nil })
	s, err := token.Open(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Login(t.Context(), []byte(thePIN)))
	id, err := s.Vacant(t.Context())
	require.NoError(t, err)
	key, err := s.Generate(t.Context(), card.KeySpec{ID: id, Label: "sign", Bits: 2048})
	require.NoError(t, err)
	require.NoError(t, s.WriteCertificate(t.Context(), id, "sign", current(t, testcard.Signing, key.Public).Raw))
	require.NoError(t, s.Close())

	p := &person{pin: thePIN}
	opened, err := Open(t.Context(), Config{Reader: card.NewReader(token, t.TempDir()), PIN: p.enter})
	require.NoError(t, err)
	defer opened.Close()
	signer, err := New(opened, affecting(t, "00"), &memory{})
	require.NoError(t, err)
	failed := 0
	for i := range 8 {
		if _, err := Sign(t.Context(), signer, documentAt(t, fmt.Sprint(i), time.Now())); err != nil {
			require.True(t, card.IsKind(err, card.NotLoggedIn), "%v", err)
			failed++
		}
	}
	assert.LessOrEqual(t, failed, 1, "found out by failing, once")
	assert.Len(t, p.requests(), 8-failed, "asked for each signature")
	p.wiped(t)
}
