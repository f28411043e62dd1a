package renewal_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
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

var (
	issued  = time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC)
	theTime = time.Date(2031, 5, 6, 9, 30, 0, 0, time.UTC)
)

// office is a card, an EST server and what renews the one at the other.
type office struct {
	sim    *testcard.Card
	server *testcard.Server
	card   *signing.Card
	record *signing.Record
	g      *guard.Guard
	now    time.Time
	enrol  renewal.Enroller
}

func newOffice(t *testing.T, cfg testcard.Config) *office {
	t.Helper()
	o := &office{now: theTime}
	ca, err := testcard.NewCA(testcard.CAConfig{Now: o.clock, CachedKeys: true})
	require.NoError(t, err)
	o.server, err = testcard.NewServer(testcard.ServerConfig{CA: ca})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, o.server.Close()) })
	o.sim, err = testcard.New(cfg)
	require.NoError(t, err)
	keys := testcard.CachedKeys()
	o.sim.MakeKeys(keys)
	auth, err := keys(2048)
	require.NoError(t, err)
	sign, err := keys(2048)
	require.NoError(t, err)
	_, _, err = o.sim.ProvisionPrescriber(ca, testcard.Prescriber{NotBefore: issued, AuthenticationKey: auth, SigningKey: sign})
	require.NoError(t, err)
	a, err := advisory.Parse(fmt.Appendf(nil, `{
	  "id": "cards-of-may-2031", "revision": 1, "state": "active", "title": "Smartcards issued on 1 May 2031",
	  "published": "2031-05-02T09:00:00Z", "modified": "2031-05-02T09:00:00Z",
	  "match": {"any": [{
	    "issuer": {"spki_sha256": ["%x"]},
	    "not_before": {"from": "2031-05-01T00:00:00Z", "to": "2031-05-02T00:00:00Z"}
	  }]},
	  "basis": "not_before_window", "card_may_authenticate": true,
	  "remedies": [{"kind": "renew", "text": "Renew this card here."}],
	  "message": "Please renew your smartcard before you sign another prescription."
	}`, testcard.SPKIHash(ca.IssuingCertificate())), nil)
	require.NoError(t, err)
	set, err := advisory.NewSet(1, theTime, a)
	require.NoError(t, err)
	o.g, err = guard.New(guard.Config{Advisories: set, Issuers: []*x509.Certificate{ca.IssuingCertificate()}})
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
	o.enrol, err = est.New(est.Config{URL: o.server.URL(), Label: testcard.SigningESTLabel, Roots: o.server.Roots(), Anchors: ca.Roots()})
	require.NoError(t, err)
	return o
}

func (o *office) clock() time.Time { return o.now }

func (o *office) renew(t *testing.T) (renewal.Result, error) {
	t.Helper()
	r, err := renewal.New(renewal.Config{Card: o.card, Guard: o.g, Recorder: o.record, Enroller: o.enrol, AsOf: o.clock})
	require.NoError(t, err)
	return r.Renew(t.Context(), nil)
}

func TestARenewalOverEST(t *testing.T) {
	for _, pss := range []bool{true, false} {
		t.Run(fmt.Sprintf("RSASSA-PSS %t", pss), func(t *testing.T) {
			o := newOffice(t, testcard.Config{PSS: pss})
			res, err := o.renew(t)
			require.NoError(t, err)
			require.Equal(t, renewal.ReseatCard, res.Outcome)
			require.Len(t, o.server.Issued(), 1)
			got := o.server.Issued()[0]
			assert.Equal(t, testcard.Signing, got.Profile)
			assert.Equal(t, fmt.Sprintf("%x", got.Certificate.SerialNumber), res.New.Serial)
			assert.Contains(t, got.Client.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
			assert.Zero(t, o.sim.Signatures(testcard.SigningID()))

			o.sim.Remove()
			see(t, o.card, func(s guard.Snapshot) bool { return errors.Is(s.Err, guard.ErrNoCard) })
			o.sim.Insert()
			s, err := signing.NewAsOf(o.card, o.g, o.record, o.clock)
			require.NoError(t, err)
			r, err := renewal.New(renewal.Config{Card: o.card, Guard: o.g, Recorder: o.record, Enroller: o.enrol, AsOf: o.clock})
			require.NoError(t, err)
			res, err = r.Finish(t.Context(), s)
			require.NoError(t, err)
			assert.Equal(t, renewal.Completed, res.Outcome)
			v, err := o.g.CheckAt(t.Context(), o.card, o.now)
			require.NoError(t, err)
			assert.Equal(t, guard.DecisionAllowed, v.Decision)
		})
	}
}

func see(t *testing.T, c *signing.Card, wanted func(guard.Snapshot) bool) {
	t.Helper()
	for {
		changed := c.Changed()
		s, err := c.Snapshot(t.Context())
		require.NoError(t, err)
		if wanted(s) {
			return
		}
		<-changed
	}
}

// What a server that misbehaves comes to, on the wire: the old pair stays, and a
// renewal that can go on sends the same bytes.
func TestAServerThatMisbehaves(t *testing.T) {
	later := theTime.Add(time.Hour)
	for _, x := range []struct {
		name    string
		reply   *testcard.Reply
		outcome renewal.Outcome
		kind    renewal.EnrolKind // 0: not an error of the authority
	}{
		{"4xx", testcard.Failure(403, "no"), renewal.NotOffered, renewal.Rejected},
		{"5xx", testcard.Failure(503, "later"), renewal.Resumable, renewal.Unavailable},
		{"HTML", testcard.Page(), renewal.Resumable, renewal.Malformed},
		{"a redirect", testcard.Redirect("http://127.0.0.1:1/"), renewal.Resumable, renewal.Malformed},
		{"nothing", testcard.Empty(), renewal.Resumable, renewal.Malformed},
		{"the answer lost", testcard.Lost(), renewal.Resumable, renewal.Unreachable},
		{"another key", testcard.OtherKey(), renewal.NotOffered, renewal.WrongCertificate},
		{"another subject", testcard.OtherSubject(), renewal.NotOffered, renewal.WrongCertificate},
		{"another root", testcard.OtherRoot(), renewal.NotOffered, renewal.WrongCertificate},
		{"expired", testcard.Expired(), renewal.NotOffered, renewal.WrongCertificate},
		{"not valid yet", testcard.NotYetValid(), renewal.NotOffered, renewal.WrongCertificate},
		{"another profile", testcard.OtherProfile(), renewal.NotOffered, 0},
		{"an affected certificate again", testcard.IssuedAt(issued), renewal.NotOffered, 0},
		{"pending", testcard.PendingUntil(later), renewal.Pending, 0},
	} {
		t.Run(x.name, func(t *testing.T) {
			o := newOffice(t, testcard.Config{PSS: true})
			o.server.Script(testcard.Sequence(x.reply))
			res, err := o.renew(t)
			require.Equal(t, x.outcome, res.Outcome, "%v", err)
			var ee *renewal.EnrolError
			require.Equal(t, x.kind != 0, errors.As(err, &ee), "%v", err)
			if x.kind != 0 {
				assert.Equal(t, x.kind, ee.Kind, "%v", err)
			}
			for _, e := range o.sim.Trace() {
				assert.NotEqual(t, testcard.OpWriteCertificate, e.Op)
			}
			if x.outcome == renewal.NotOffered {
				assert.Equal(t, advisory.RegistrationAuthority, res.Remedies[0].Kind)
				return
			}
			if x.outcome == renewal.Pending {
				assert.True(t, later.Equal(res.Until))
				res, err = o.renew(t)
				require.Error(t, err)
				assert.Equal(t, renewal.Pending, res.Outcome)
				assert.Len(t, enrolments(o), 1)
			}
			o.now = later
			res, err = o.renew(t)
			require.NoError(t, err)
			assert.Equal(t, renewal.ReseatCard, res.Outcome)
			sent := enrolments(o)
			require.Len(t, sent, 2)
			assert.Equal(t, sent[0].Body, sent[1].Body)
		})
	}
}

func enrolments(o *office) (out []testcard.Request) {
	for _, q := range o.server.Requests() {
		if q.Operation == "simplereenroll" {
			out = append(out, q)
		}
	}
	return out
}

func TestAServerThatIsAwayIsToldBeforeTheCardIsTouched(t *testing.T) {
	o := newOffice(t, testcard.Config{PSS: true})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	working := o.enrol
	o.enrol, err = est.New(est.Config{URL: "https://" + l.Addr().String(), Roots: o.server.Roots()})
	require.NoError(t, err)
	res, err := o.renew(t)
	var ee *renewal.EnrolError
	require.ErrorAs(t, err, &ee)
	assert.Equal(t, renewal.Unreachable, ee.Kind)
	assert.Equal(t, renewal.Resumable, res.Outcome)
	assert.Empty(t, res.Step)
	assert.Contains(t, res.Text, "The card was not changed.")
	for _, e := range o.sim.Trace() {
		assert.NotContains(t, []testcard.Op{testcard.OpGenerate, testcard.OpWriteCertificate, testcard.OpDestroy}, e.Op)
	}
	o.enrol = working
	_, err = o.renew(t)
	require.NoError(t, err)
}
