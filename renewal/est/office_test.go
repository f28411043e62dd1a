package est_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/renewal"
	"github.com/rxguard/rxguard/renewal/est"
	"github.com/rxguard/rxguard/signing"
)

// The card of these tests was issued inside the window of an advisory; what is issued
// at theTime is outside.
var (
	issued  = time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC)
	theTime = time.Date(2031, 5, 6, 9, 30, 0, 0, time.UTC)
)

const notice = `{
  "id": "cards-of-may-2031", "revision": 1, "state": "active", "title": "Smartcards issued on 1 May 2031",
  "published": "2031-05-02T09:00:00Z", "modified": "2031-05-02T09:00:00Z",
  "match": {"any": [{
    "issuer": {"spki_sha256": ["%x"]},
    "not_before": {"from": "2031-05-01T00:00:00Z", "to": "2031-05-02T00:00:00Z"}
  }]},
  "basis": "not_before_window", "card_may_authenticate": true,
  "remedies": [{"kind": "renew", "text": "Renew this card here."}],
  "message": "Please renew your smartcard before you sign another prescription."
}`

// office is a card that is to be renewed, and what is needed for it but the server.
type office struct {
	ca     *testcard.CA
	sim    *testcard.Card
	auth   *x509.Certificate // the card's authentication certificate
	card   *signing.Card
	record *signing.Record
	g      *guard.Guard
	now    time.Time
}

func newOffice(t *testing.T, cfg testcard.Config) *office {
	t.Helper()
	o := &office{now: theTime}
	var err error
	o.ca, err = testcard.NewCA(testcard.CAConfig{Now: o.clock, CachedKeys: true})
	require.NoError(t, err)
	o.sim, err = testcard.New(cfg)
	require.NoError(t, err)
	keys := testcard.CachedKeys()
	o.sim.MakeKeys(keys)
	auth, err := keys(2048)
	require.NoError(t, err)
	sign, err := keys(2048)
	require.NoError(t, err)
	o.auth, _, err = o.sim.ProvisionPrescriber(o.ca, testcard.Prescriber{NotBefore: issued, AuthenticationKey: auth, SigningKey: sign})
	require.NoError(t, err)
	issuing := o.ca.IssuingCertificate()
	a, err := advisory.Parse(fmt.Appendf(nil, notice, testcard.SPKIHash(issuing)), nil)
	require.NoError(t, err)
	set, err := advisory.NewSet(1, theTime, a)
	require.NoError(t, err)
	o.g, err = guard.New(guard.Config{Advisories: set, Issuers: []*x509.Certificate{issuing}})
	require.NoError(t, err)
	dir := t.TempDir()
	o.record, err = signing.OpenRecord(filepath.Join(dir, "record.jsonl"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, o.record.Close()) })
	o.card, err = signing.Open(t.Context(), signing.Config{
		Reader: card.NewReader(o.sim.Token(), filepath.Join(dir, "state")),
		PIN:    func(context.Context, signing.PINRequest) ([]byte, error) { return []byte(testcard.DefaultPIN), nil },
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, o.card.Close()) })
	return o
}

func (o *office) clock() time.Time { return o.now }

func (o *office) renew(t *testing.T, cfg est.Config) (renewal.Result, error) {
	t.Helper()
	enroller, err := est.New(cfg)
	require.NoError(t, err)
	r, err := renewal.New(renewal.Config{Card: o.card, Guard: o.g, Recorder: o.record, Enroller: enroller, AsOf: o.clock})
	require.NoError(t, err)
	return r.Renew(t.Context(), nil)
}

// object is one of the card's, as it is on the card.
type object struct {
	class card.Class
	id    string
	label string
	der   string // of a certificate, or of the public key where it is known
}

// objects reads a copy of the card, whatever its sessions do.
func (o *office) objects(t *testing.T) (list []object) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "card.json")
	require.NoError(t, o.sim.Save(file))
	copied, err := testcard.Load(file)
	require.NoError(t, err)
	copied.Insert()
	s, err := copied.Token().Open(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Login(t.Context(), []byte(testcard.DefaultPIN)))
	all, err := s.Objects(t.Context())
	require.NoError(t, err)
	for _, x := range all {
		n := object{x.Class, string(x.ID), x.Label, string(x.DER)}
		if x.Public != nil {
			spki, err := x509.MarshalPKIXPublicKey(x.Public)
			require.NoError(t, err)
			n.der = string(spki)
		}
		list = append(list, n)
	}
	return list
}

// changes are the operations that changed the card.
func (o *office) changes(ops ...testcard.Op) (n int) {
	for _, e := range o.sim.Trace() {
		if e.After && slices.Contains(ops, e.Op) {
			n++
		}
	}
	return n
}

// onlyKeys asserts that the card has what it had, and beside it at most one new key in
// a container of its own.
func (o *office) onlyKeys(t *testing.T, before []object, most int) {
	t.Helper()
	added, ids := []object(nil), map[string]bool{}
	after := o.objects(t)
	for _, x := range before {
		require.Contains(t, after, x, "an object of before is gone or another one")
		ids[x.id] = true
	}
	fresh := map[string]bool{}
	for _, x := range after {
		if !slices.Contains(before, x) {
			added, fresh[x.id] = append(added, x), true
			require.False(t, ids[x.id], "in a container of before")
			require.NotEqual(t, card.CertificateObject, x.class)
		}
	}
	require.LessOrEqual(t, len(fresh), most, "%v", added)
	require.Zero(t, o.changes(testcard.OpWriteCertificate), "a certificate was written")
	require.Zero(t, o.sim.Signatures(testcard.SigningID()), "the old signing key signed")
}
