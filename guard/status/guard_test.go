package status_test

import (
	"crypto/x509"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/status"
)

// A Guard that is given a Refresher follows the lists that its certificates name: the
// check itself only asks, and is answered by what is known.
func TestAGuardFollowsTheListsThatItsCertificatesName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(world).since1990(t)
		old := func(c *x509.Certificate) { c.NotBefore = at("1990-01-01T00:00:00Z") }
		w.leaf = certify(t, "Leaf", newKey(t), w.ca, old, leafAt(tlv(0x30, fullName(uriName(listURL))))).cert
		s := &site{}
		s.serve(w.issue(t, 1), "")
		r, err := status.NewRefresher(status.RefresherConfig{Trust: w.trust(t), Client: s.client()})
		require.NoError(t, err)
		g, err := guard.New(guard.Config{Roots: []*x509.Certificate{w.root.cert}, Issuers: []*x509.Certificate{w.ca.cert}, Revocation: r})
		require.NoError(t, err)
		card, err := guard.ParseCertificate(w.leaf.Raw)
		require.NoError(t, err)
		judge := func() guard.Verdict { return g.Judge(guard.Snapshot{Certificate: card}, time.Now()) }

		assert.True(t, judge().Has(guard.RevocationUnknown))
		assert.Zero(t, s.times(), "a check fetches nothing")
		assert.Empty(t, r.Sources())
		stop := run(t, r)
		defer stop()
		synctest.Wait()
		assert.Equal(t, 1, s.times())
		assert.Equal(t, listURL, r.Sources()[0].URL)
		v := judge()
		assert.True(t, v.Has(guard.RevocationUnknown), "of the CA there is no list")
		assert.False(t, r.Floor().IsZero())

		s.serve(w.issue(t, 2, entry(w.leaf.SerialNumber, time.Now())), "")
		time.Sleep(68 * time.Minute)
		synctest.Wait()
		assert.True(t, judge().Has(guard.Revoked), "the running Guard sees it")
	})
}

// Whoever is known to nobody does not say where this machine connects to.
func TestListsOfUnknownCertificatesAreNotFollowed(t *testing.T) {
	w, stranger := newWorld(t), newWorld(t, tlv(0x30, fullName(uriName(listURL))))
	r, err := status.NewRefresher(status.RefresherConfig{Trust: w.trust(t), Client: (&site{}).client()})
	require.NoError(t, err)
	g, err := guard.New(guard.Config{Roots: []*x509.Certificate{w.root.cert}, Revocation: r})
	require.NoError(t, err)
	card, err := guard.ParseCertificate(stranger.leaf.Raw)
	require.NoError(t, err)
	assert.True(t, g.Judge(guard.Snapshot{Certificate: card}, now).Has(guard.ChainUntrusted))
	require.NoError(t, r.Refresh(t.Context()))
	assert.Empty(t, r.Sources())
}

// A Snapshot answers a Guard for ever as it is.
func TestASnapshotAnswersAGuard(t *testing.T) {
	w := newWorld(t)
	lists := []*status.List{crl{by: w.ca}.list(t), crl{by: w.root}.list(t)}
	for _, tt := range []struct {
		name  string
		lists []*status.List
		at    time.Time
		want  guard.RevocationStatus
	}{
		{"good", lists, now, guard.RevocationStatus{State: guard.StatusGood}},
		{"late", lists, now.Add(7 * 24 * time.Hour), guard.RevocationStatus{State: guard.StatusGood, Late: true}},
		{"ended", lists, now.Add(9 * 24 * time.Hour), guard.RevocationStatus{Covered: true}},
		{"never covered", lists[1:], now, guard.RevocationStatus{}},
		{"no lists", nil, now, guard.RevocationStatus{}},
		{"revoked", []*status.List{crl{by: w.ca, entries: [][]byte{entry(w.leaf.SerialNumber, now.Add(-time.Hour), because(4))}}.list(t)}, now,
			guard.RevocationStatus{State: guard.StatusRevoked, Reason: "superseded", Since: now.Add(-time.Hour)}},
	} {
		s := w.snapshot(t, tt.lists)
		assert.Same(t, s, s.Current())
		ask, err := s.Prepare(w.chain())
		require.NoError(t, err)
		got := ask(tt.at)
		assert.Equal(t, tt.want == guard.RevocationStatus{State: guard.StatusGood}, got.Detail == "", tt.name)
		got.Detail = ""
		assert.Equal(t, tt.want, got, tt.name)
	}
	_, err := w.snapshot(t, nil).Prepare(nil)
	assert.Error(t, err)
}
