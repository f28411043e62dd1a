package signing

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
)

// affecting is a guard by whose rules the certificates with these serial numbers,
// in hexadecimal, are affected now.
func affecting(t fataler, serials ...string) *guard.Guard {
	t.Helper()
	ca := theCA().IssuingCertificate()
	doc, err := json.Marshal(map[string]any{
		"id": "simulated-serials", "revision": 1, "state": "active", "title": "t",
		"published": "2026-03-01T09:00:00Z", "modified": "2026-03-01T09:00:00Z",
		"match": map[string]any{"any": []any{map[string]any{
			"issuer":  map[string]any{"aki": []string{fmt.Sprintf("%x", ca.SubjectKeyId)}},
			"serials": map[string]any{"inline": serials},
		}}},
		"basis": "serial_list", "card_may_authenticate": true, "message": "Renew.",
		"remedies": []any{map[string]any{"kind": "renew", "text": "Renew."}},
	})
	require.NoError(t, err)
	a, err := advisory.Parse(doc, nil)
	require.NoError(t, err)
	set, err := advisory.NewSet(1, time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC), a)
	require.NoError(t, err)
	g, err := guard.New(guard.Config{Advisories: set})
	require.NoError(t, err)
	return g
}

// current issues a certificate that is valid now.
func current(t fataler, p testcard.Profile, key crypto.PublicKey) *x509.Certificate {
	t.Helper()
	c, err := theCA().Issue(p, key, testcard.IssueOptions{Subject: testcard.Subject("123456789012"), NotBefore: time.Now().Add(-time.Hour)})
	require.NoError(t, err)
	return c
}

// currentCard is a card whose certificates are valid now.
func currentCard(t fataler, serial string) (*testcard.Card, *x509.Certificate) {
	t.Helper()
	c, err := testcard.New(testcard.Config{Serial: serial, Label: "card " + serial, PIN: []byte(thePIN)})
	require.NoError(t, err)
	require.NoError(t, c.Provision(testcard.Pair{ID: []byte{1}, Label: "log in", Key: authKey(), Certificate: current(t, testcard.Authentication, authKey().Public()).Raw}))
	x := current(t, testcard.Signing, signingKey().Public())
	require.NoError(t, c.Provision(testcard.Pair{ID: []byte{2}, Label: "sign", Key: signingKey(), Certificate: x.Raw}))
	return c, x
}

func TestCardsShowsWhichAreAffected(t *testing.T) {
	fine, fineCertificate := currentCard(t, "f1e")
	bad, badCertificate := currentCard(t, "bad")
	broken, _ := currentCard(t, "b0")
	broken.Hook(func(e testcard.Event) error {
		if e.Op == testcard.OpObjects {
			return card.Errorf(card.Fault, "objects", "dirty contacts")
		}
		return nil
	})
	dead, _ := currentCard(t, "dead")
	dead.Hook(func(testcard.Event) error { return card.Errorf(card.Fault, "open", "no answer") })
	out, _ := currentCard(t, "0f")
	out.Remove()
	several, _ := currentCard(t, "2")
	require.NoError(t, several.Provision(testcard.Pair{ID: []byte{3}, Label: "sign too", Key: otherKey(), Certificate: current(t, testcard.Signing, otherKey().Public()).Raw}))
	held, heldCertificate := currentCard(t, "ad")
	dir := state.At(filepath.Join(t.TempDir(), "state"))
	require.NoError(t, dir.SetHold(state.Hold{ID: theHoldID, Card: idOf("ad"), Phase: state.Reseat, Since: refusedAt,
		Expect: fmt.Sprintf("%x", sha256.Sum256(heldCertificate.Raw))}))

	cfg := CardsConfig{Guard: affecting(t, fmt.Sprintf("%x", badCertificate.SerialNumber))}
	all := []*testcard.Card{fine, bad, broken, dead, out, several, held}
	for _, c := range all {
		cfg.Readers = append(cfg.Readers, card.NewReader(c.Token(), dir.Path()))
	}
	list, err := Cards(t.Context(), cfg)
	require.NoError(t, err)
	require.Len(t, list, len(all))
	for i, c := range list {
		assert.Equal(t, fmt.Sprintf("simulated reader %d", i+1), c.Reader)
		assert.Equal(t, c.Reader != "simulated reader 5", c.Present)
		assert.WithinDuration(t, time.Now(), c.Verdict.At, time.Hour)
		assert.True(t, c.Verdict.Card.Simulated)
		assert.Equal(t, c.Serial, c.Verdict.Card.Serial)
		assert.Equal(t, c.Err == nil && c.Present, c.Certificate.Serial != "")
		assert.Equal(t, c.Certificate, c.Verdict.Certificate)
		assert.Zero(t, reached(all[i], testcard.OpLogin), "no passcode is presented")
		assert.Zero(t, reached(all[i], testcard.OpSign))
	}

	c := list[0]
	assert.Equal(t, "f1e", c.Serial)
	assert.Equal(t, "card f1e", c.Label)
	assert.Equal(t, testcard.Manufacturer, c.Manufacturer)
	assert.Equal(t, testcard.Model, c.Model)
	assert.Equal(t, guard.DecisionAllowed, c.Verdict.Decision, "%s", c.Verdict)
	assert.Equal(t, fmt.Sprintf("%x", fineCertificate.SerialNumber), c.Certificate.Serial)
	assert.False(t, c.KeyHidden)
	assert.Equal(t, guard.NotHeld, c.Hold.State)
	require.Len(t, c.Certificates, 2)
	assert.Equal(t, RoleAuthentication, c.Certificates[0].Role)
	assert.Equal(t, "01", c.Certificates[0].ID)
	assert.Equal(t, RoleSigning, c.Certificates[1].Role)
	assert.Equal(t, c.Certificate, c.Certificates[1].CertificateInfo)
	assert.Equal(t, "sign", c.Certificates[1].Label)
	assert.True(t, c.Certificates[1].KeyShown)

	c = list[1]
	assert.Equal(t, guard.DecisionRefused, c.Verdict.Decision)
	assert.True(t, c.Verdict.Has(guard.Affected))
	assert.NoError(t, c.Err)

	c = list[2]
	assert.True(t, card.IsKind(c.Err, card.Fault), "%v", c.Err)
	assert.Equal(t, "b0", c.Serial, "who it is was told")
	assert.True(t, c.Verdict.Has(guard.CardUnreadable))
	assert.Empty(t, c.Certificates)

	c = list[3]
	assert.True(t, card.IsKind(c.Err, card.Fault), "%v", c.Err)
	assert.Empty(t, c.Serial)
	assert.True(t, c.Verdict.Has(guard.CardUnreadable))

	c = list[4]
	assert.NoError(t, c.Err)
	assert.True(t, c.Verdict.Has(guard.CardAbsent))
	assert.Equal(t, CardInfo{Reader: c.Reader, Verdict: c.Verdict}, c)

	c = list[5]
	var ce *CardError
	require.ErrorAs(t, c.Err, &ce)
	assert.Equal(t, Ambiguous, ce.Kind)
	assert.ErrorContains(t, ce, `"sign too"`)
	assert.ErrorContains(t, ce, "its private key is on the card")
	assert.True(t, c.Verdict.Has(guard.SeveralCertificates))
	require.Len(t, c.Certificates, 3)
	assert.Equal(t, RoleCandidate, c.Certificates[2].Role)

	c = list[6]
	assert.Equal(t, guard.HoldReseat, c.Hold.State)
	assert.Equal(t, refusedAt, c.Hold.Since.UTC())
	assert.True(t, c.Verdict.Has(guard.OnHold))

	list, err = Cards(t.Context(), CardsConfig{Readers: cfg.Readers[1:2]})
	require.NoError(t, err)
	assert.Equal(t, guard.DecisionAllowed, list[0].Verdict.Decision, "by the built-in advisories")
}

func TestCardsThatHidesItsKeysSaysSo(t *testing.T) {
	sim, _ := currentCard(t, "c0ffee")
	list, err := Cards(t.Context(), CardsConfig{Readers: []*Reader{card.NewReader(hiding{Token: sim.Token()}, t.TempDir())}})
	require.NoError(t, err)
	assert.True(t, list[0].KeyHidden)
	assert.Equal(t, guard.DecisionAllowed, list[0].Verdict.Decision)
	assert.Contains(t, list[0].Certificates[1].Why, "hidden until the passcode is entered")
}

func TestCardsOfACardThatIsPulled(t *testing.T) {
	sim, _ := currentCard(t, "c0ffee")
	sim.Hook(testcard.On(testcard.OpObjects, false, 1, func() error { sim.Remove(); return nil }))
	list, err := Cards(t.Context(), CardsConfig{Readers: []*Reader{card.NewReader(sim.Token(), t.TempDir())}})
	require.NoError(t, err)
	assert.True(t, card.IsKind(list[0].Err, card.Absent), "%v", list[0].Err)
	assert.True(t, list[0].Verdict.Has(guard.CardAbsent))
}

func TestCardsConfigThatIsWrong(t *testing.T) {
	sim, _ := currentCard(t, "c0ffee")
	r := card.NewReader(sim.Token(), t.TempDir())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		cfg  CardsConfig
		says string
	}{
		{"nothing", t.Context(), CardsConfig{ModuleArguments: "a"}, "neither CardsConfig.Module nor CardsConfig.Readers is set"},
		{"both", t.Context(), CardsConfig{Module: "m.so", Readers: []*Reader{r}}, "do not go together with Module"},
		{"a module's arguments", t.Context(), CardsConfig{ModuleArguments: "a", Readers: []*Reader{r}}, "do not go together with Module"},
		{"no reader", t.Context(), CardsConfig{Readers: []*Reader{r, nil}}, "CardsConfig.Readers[1] is nil"},
		{"an empty reader", t.Context(), CardsConfig{Readers: []*Reader{{}}}, "CardsConfig.Readers[0] is empty"},
		{"an ended context", ended, CardsConfig{Readers: []*Reader{r}}, "context canceled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := Cards(c.ctx, c.cfg)
			assert.ErrorContains(t, err, c.says)
			assert.Nil(t, list)
			assert.ErrorContains(t, WatchCards(c.ctx, c.cfg, func(CardEvent) { t.Error("called") }), c.says)
		})
	}
	assert.ErrorContains(t, WatchCards(t.Context(), CardsConfig{Readers: []*Reader{r}}, nil), "no function to call")
	assert.Empty(t, sim.Trace())
}

func TestCardsEndsWithItsContext(t *testing.T) {
	sim, _ := currentCard(t, "c0ffee")
	ctx, cancel := context.WithCancel(t.Context())
	sim.Hook(testcard.On(testcard.OpInfo, false, 1, func() error { cancel(); return nil }))
	list, err := Cards(ctx, CardsConfig{Readers: []*Reader{card.NewReader(sim.Token(), t.TempDir())}})
	assert.ErrorIs(t, err, context.Canceled)
	assert.Nil(t, list)
}

// What is found can be opened.
func TestModuleCandidatesAreThoseOfTheMachine(t *testing.T) {
	for _, p := range ModuleCandidates() {
		assert.True(t, filepath.IsAbs(p), p)
	}
}
