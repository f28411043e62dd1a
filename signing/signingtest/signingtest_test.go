package signingtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
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
	"github.com/rxguard/rxguard/signing"
	"github.com/rxguard/rxguard/signing/eps"
)

func newKit(t *testing.T, c Config) *Kit {
	t.Helper()
	k, err := New(c)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, k.Close()) })
	return k
}

func open(t *testing.T, k *Kit) *signing.Card {
	t.Helper()
	c, err := signing.Open(t.Context(), signing.Config{Reader: k.Reader(), PIN: k.PIN})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}

// nobody forgets what is recorded.
type nobody struct{}

func (nobody) Record(context.Context, signing.Entry) error { return nil }

func sign(t *testing.T, c *signing.Card) (*eps.Signed, error) {
	t.Helper()
	g, err := guard.New(guard.Config{})
	require.NoError(t, err)
	s, err := signing.New(c, g, nobody{})
	require.NoError(t, err)
	digest := sha256.Sum256([]byte("fragments"))
	info, err := eps.SignedInfo(eps.RS256, digest[:])
	require.NoError(t, err)
	p, err := eps.ParsePrepared(fmt.Appendf(nil, `{"resourceType": "Parameters", "parameter": [
		{"name": "digest", "valueString": %q}, {"name": "timestamp", "valueString": %q}, {"name": "algorithm", "valueString": "RS256"}]}`,
		base64.StdEncoding.EncodeToString(info), time.Now().Format(time.RFC3339)))
	require.NoError(t, err)
	return signing.Sign(t.Context(), s, p)
}

func TestTheKitIsACardThatSigns(t *testing.T) {
	k := newKit(t, Config{})
	s, err := sign(t, open(t, k))
	require.NoError(t, err)
	assert.Equal(t, 1, k.SigningKeyUses())
	assert.Equal(t, 3, k.TriesLeft())
	roots := x509.NewCertPool()
	roots.AddCert(k.Issuers()[1])
	between := x509.NewCertPool()
	between.AddCert(k.Issuers()[0])
	_, err = s.Certificate().Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	assert.NoError(t, err)
	assert.Equal(t, s.Certificate().NotBefore.AddDate(2, 0, 0), s.Certificate().NotAfter)
	_, err = guard.New(guard.Config{Issuers: k.Issuers()})
	assert.NoError(t, err)
}

// Everything that the simulation issues says so, in subject and issuer.
func TestTheSimulationCannotBeMistaken(t *testing.T) {
	require.Equal(t, guard.SimulatedOrganization, testcard.Organization)
	k := newKit(t, Config{})
	e, err := k.StartEnrolment()
	require.NoError(t, err)
	u, err := url.Parse(e.URL)
	require.NoError(t, err)
	conn, err := tls.Dial("tcp", u.Host, &tls.Config{RootCAs: e.Roots})
	require.NoError(t, err)
	defer conn.Close()
	all := slices.Concat(k.Issuers(), conn.ConnectionState().PeerCertificates)
	s, err := k.card.Token().Open(t.Context())
	require.NoError(t, err)
	objects, err := s.Objects(t.Context())
	require.NoError(t, err)
	for _, o := range objects {
		if o.Class == card.CertificateObject {
			x, err := x509.ParseCertificate(o.DER)
			require.NoError(t, err)
			all = append(all, x)
		}
	}
	require.GreaterOrEqual(t, len(all), 5)
	for _, x := range all {
		assert.Equal(t, []string{guard.SimulatedOrganization}, x.Subject.Organization, "%s", x.Subject)
		assert.Equal(t, []string{guard.SimulatedOrganization}, x.Issuer.Organization, "%s", x.Subject)
		c, err := guard.ParseCertificate(x.Raw)
		require.NoError(t, err)
		assert.True(t, c.Simulated(), "%s", x.Subject)
	}
}

func TestALiveGuardRefusesTheSimulation(t *testing.T) {
	k := newKit(t, Config{})
	live, err := guard.New(guard.Config{Live: true})
	require.NoError(t, err)
	c := open(t, k)
	v, err := live.Check(t.Context(), c)
	var refused *guard.Refused
	require.ErrorAs(t, err, &refused)
	assert.True(t, v.Has(guard.SimulatedCard))
	assert.True(t, v.Card.Simulated)
	_, err = signing.New(c, live, nobody{})
	assert.ErrorContains(t, err, "the guard is live and the card is simulated")
	// The mark of the certificate is enough.
	snap, err := c.Snapshot(t.Context())
	require.NoError(t, err)
	snap.Simulated = false
	assert.True(t, live.Judge(snap, time.Now()).Has(guard.SimulatedCard))
	assert.Zero(t, k.SigningKeyUses())
}

func TestHoldsOfASimulatedCardAreTheKits(t *testing.T) {
	k := newKit(t, Config{})
	c := open(t, k)
	snap, err := c.Snapshot(t.Context())
	require.NoError(t, err)
	id := card.Info{Manufacturer: testcard.Manufacturer, Model: testcard.Model, Serial: snap.Serial}.ID()
	require.NoError(t, state.At(filepath.Join(k.Dir(), "state")).SetHold(
		state.Hold{ID: "x", Card: id, Phase: state.Renewing, Since: time.Now()}))
	_, err = sign(t, c)
	var refused *guard.Refused
	require.ErrorAs(t, err, &refused)
	assert.True(t, refused.Verdict.Has(guard.OnHoldRenewal))
}

func TestALaterProcessGoesOnWithTheFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kit")
	issued := time.Now().AddDate(0, -1, 0).Truncate(time.Second).UTC()
	k, err := New(Config{Dir: dir, Passcode: []byte("9876"), Issued: issued})
	require.NoError(t, err)
	c, err := signing.Open(t.Context(), signing.Config{Reader: k.Reader(), PIN: k.PIN})
	require.NoError(t, err)
	first, err := sign(t, c)
	require.NoError(t, err)
	assert.True(t, first.Certificate().NotBefore.Equal(issued))
	s, err := k.card.Token().Open(t.Context())
	require.NoError(t, err)
	require.Error(t, s.Login(t.Context(), []byte("1111")))
	require.NoError(t, c.Close())
	k.Remove()
	require.NoError(t, k.Close())
	require.NoError(t, k.Close(), "closing twice is harmless")

	k = newKit(t, Config{Dir: dir})
	assert.Equal(t, dir, k.Dir())
	assert.Equal(t, 2, k.TriesLeft(), "the card remembers")
	assert.Equal(t, 1, k.SigningKeyUses())
	again, err := sign(t, open(t, k))
	require.NoError(t, err, "the passcode is the card's, and it is in its reader")
	assert.Equal(t, first.Certificate().Raw, again.Certificate().Raw)
	assert.Equal(t, 3, k.TriesLeft())
	for _, file := range []string{"card.json", "ca.json", "passcode"} {
		fi, err := os.Stat(filepath.Join(dir, file))
		require.NoError(t, err)
		assert.EqualValues(t, 0o600, fi.Mode().Perm(), file)
	}
}

func TestATemporaryKitLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	k, err := New(Config{})
	require.NoError(t, err)
	_, err = os.Stat(k.Dir())
	require.NoError(t, err)
	require.NoError(t, k.Close())
	_, err = os.Stat(k.Dir())
	assert.ErrorIs(t, err, os.ErrNotExist)

	_, err = New(Config{Passcode: []byte("123")})
	assert.ErrorContains(t, err, "signingtest: ")
	assert.ErrorContains(t, err, "expected 4 to 8")
	left, err := os.ReadDir(os.TempDir())
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestAFolderThatIsDamagedIsNotTakenForAnEmptyOne(t *testing.T) {
	for _, file := range []string{"card.json", "ca.json", "passcode"} {
		dir := t.TempDir()
		k, err := New(Config{Dir: dir})
		require.NoError(t, err)
		require.NoError(t, k.Close())
		require.NoError(t, os.RemoveAll(filepath.Join(dir, file)))
		if file == "card.json" {
			require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte("{}"), 0o600))
		}
		_, err = New(Config{Dir: dir})
		assert.ErrorContains(t, err, "signingtest: ", file)
	}
}

func TestTheEnrolmentServer(t *testing.T) {
	k, err := New(Config{})
	require.NoError(t, err)
	e, err := k.StartEnrolment()
	require.NoError(t, err)
	assert.NotEmpty(t, e.Label)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: e.Roots}}}
	defer client.CloseIdleConnections()
	get := func() error {
		r, err := client.Get(e.URL + "/.well-known/est/cacerts")
		if err == nil {
			_ = r.Body.Close()
		}
		return err
	}
	require.NoError(t, get())
	client.CloseIdleConnections()
	require.NoError(t, k.Close())
	assert.Error(t, get(), "Close stopped it")
	_, err = k.StartEnrolment()
	assert.ErrorContains(t, err, "the kit is closed")
}

func TestAHookFailsTheCard(t *testing.T) {
	k := newKit(t, Config{})
	c := open(t, k)
	var mu sync.Mutex // the card is watched too
	var ops []string
	k.Hook(func(op string, after bool) error {
		mu.Lock()
		defer mu.Unlock()
		ops = append(ops, fmt.Sprint(op, after))
		if op == "sign" && !after {
			return errors.New("the reader hiccuped")
		}
		return nil
	})
	_, err := sign(t, c)
	assert.ErrorContains(t, err, "the reader hiccuped")
	assert.Zero(t, k.SigningKeyUses())
	k.Hook(nil)
	mu.Lock()
	assert.Contains(t, ops, "logintrue")
	mu.Unlock()
	_, err = sign(t, c)
	require.NoError(t, err)
}

func TestAPersonWhoIsNoLongerAsked(t *testing.T) {
	k := newKit(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := k.PIN(ctx, signing.PINRequest{})
	assert.ErrorIs(t, err, context.Canceled)
	pin, err := k.PIN(t.Context(), signing.PINRequest{})
	require.NoError(t, err)
	clear(pin)
	again, err := k.PIN(t.Context(), signing.PINRequest{})
	require.NoError(t, err)
	assert.Equal(t, []byte("123456"), again, "what was wiped was a copy")
}

func TestAKitWithAnECKeyIsRefusedByEPS(t *testing.T) {
	k := newKit(t, Config{ECKey: true})
	c := open(t, k)
	snap, err := c.Snapshot(t.Context())
	require.NoError(t, err)
	assert.IsType(t, &ecdsa.PublicKey{}, snap.Certificate.X509().PublicKey)
	_, err = sign(t, c)
	assert.ErrorContains(t, err, "RSA")
	assert.Zero(t, k.SigningKeyUses())
}

// Several cards of one person, by one authority; readers in which cards are changed.
func TestSeveralCards(t *testing.T) {
	first := newKit(t, Config{UserID: "555000000001"})
	second := newKit(t, Config{UserID: "555000000001", Authority: first})
	assert.Equal(t, first.Issuers(), second.Issuers())
	open := func(k *Kit) *signing.Card {
		c, err := signing.Open(t.Context(), signing.Config{Reader: k.Reader(), PIN: k.PIN})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, c.Close()) })
		return c
	}
	serial := func(c *signing.Card, wanted func(guard.Snapshot) bool) string {
		for {
			changed := c.Changed()
			s, err := c.Snapshot(t.Context())
			require.NoError(t, err)
			if wanted(s) {
				if s.Certificate != nil {
					assert.Contains(t, s.Certificate.Info().Subject, "CN=555000000001_")
				}
				return s.Serial
			}
			<-changed
		}
	}
	in := func(s guard.Snapshot) bool { return s.Err == nil }
	out := func(s guard.Snapshot) bool { return errors.Is(s.Err, guard.ErrNoCard) }
	left, right := open(first), open(second)
	a, b := serial(left, in), serial(right, in)
	require.NotEqual(t, a, b)

	first.Put(second) // the right reader is empty now
	serial(right, out)
	assert.Equal(t, b, serial(left, func(s guard.Snapshot) bool { return in(s) && s.Serial != a }))
	second.Put(first) // both are in, the other way round
	assert.Equal(t, a, serial(right, in))
	assert.Equal(t, b, serial(left, in))
	second.Remove() // the card, wherever it is
	serial(left, out)
	second.Insert()
	assert.Equal(t, b, serial(left, in))
	first.Put(first)
	serial(right, out)
	assert.Equal(t, a, serial(left, func(s guard.Snapshot) bool { return in(s) && s.Serial != b }))
}
