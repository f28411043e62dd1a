package guard

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// lists is a source of revocation status that says what a test wants, by the SHA-256
// of the certificate; of others, that it is good.
type lists struct {
	mu       sync.Mutex
	says     map[string]RevocationStatus
	fails    map[string]error
	nothing  bool // Prepare returns neither function nor error
	floor    time.Time
	prepared []string // common names of chains
}

func (l *lists) Prepare(chain []*x509.Certificate) (func(time.Time) RevocationStatus, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := ""
	for _, c := range chain {
		names += "/" + c.Subject.CommonName
	}
	l.prepared = append(l.prepared, names)
	key := string(chain[0].Raw)
	if err := l.fails[key]; err != nil {
		return nil, err
	}
	if l.nothing {
		return nil, nil
	}
	return func(time.Time) RevocationStatus {
		if s, ok := l.says[key]; ok {
			return s
		}
		return RevocationStatus{State: StatusGood}
	}, nil
}

func (l *lists) Floor() time.Time { return l.floor }

// about is a source that says one thing of one certificate.
func about(c *x509.Certificate, s RevocationStatus) *lists {
	return &lists{says: map[string]RevocationStatus{string(c.Raw): s}}
}

var (
	revoked = RevocationStatus{State: StatusRevoked, Reason: "keyCompromise", Since: at("2026-03-01T00:00:00Z"), Detail: "on the list of CA"}
	late1   = RevocationStatus{State: StatusGood, Late: true, Detail: "ended yesterday"}
	lapsed  = RevocationStatus{Covered: true, Detail: "ended last week"}
	unknown = RevocationStatus{Detail: "no list covers the certificate"}
)

func TestRevocationOfTheCertificateAndOfTheCAsAboveIt(t *testing.T) {
	root := newAuthority(t, "Root", []byte{1})
	middle := root.below(t, "Middle")
	issuing := middle.below(t, "Issuing")
	card := issuing.issue(t, issuedThen)
	for _, tt := range []struct {
		name     string
		of       *x509.Certificate
		says     RevocationStatus
		want     Reason
		decision Decision
		is       string
	}{
		{"revoked", card.x, revoked, Revoked, DecisionRefused, "the certificate is revoked since 2026-03-01 00:00:00 UTC, reason keyCompromise: on the list of CA"},
		{"the issuing CA is revoked", issuing.cert, revoked, CARevoked, DecisionRefused, "CA CN=Issuing,O=test is revoked since 2026-03-01 00:00:00 UTC, reason keyCompromise: on the list of CA"},
		{"the CA above it is revoked", middle.cert, revoked, CARevoked, DecisionRefused, "CA CN=Middle,O=test is revoked since 2026-03-01 00:00:00 UTC, reason keyCompromise: on the list of CA"},
		{"nobody asks about the root", root.cert, revoked, Unspecified, DecisionAllowed, ""},
		{"good", card.x, RevocationStatus{State: StatusGood}, Unspecified, DecisionAllowed, ""},
		{"good, by a list that is late", card.x, late1, RevocationStale, DecisionWarned, "the certificate: ended yesterday"},
		{"never covered", card.x, unknown, RevocationUnknown, DecisionWarned, "the certificate: no list covers the certificate"},
		{"a status that nobody filled in", card.x, RevocationStatus{}, RevocationUnknown, DecisionWarned, "the certificate"},
		{"a status of the future", card.x, RevocationStatus{State: StatusRevoked + 1}, RevocationUnknown, DecisionWarned, "the certificate"},
		{"covered by nothing to rely on", card.x, lapsed, RevocationLapsed, DecisionUndecided, "the certificate: ended last week"},
		{"the CA is covered by nothing to rely on", middle.cert, lapsed, RevocationLapsed, DecisionUndecided, "CA CN=Middle,O=test: ended last week"},
		{"the CA was never covered", issuing.cert, unknown, RevocationUnknown, DecisionWarned, "CA CN=Issuing,O=test: no list covers the certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src := about(tt.of, tt.says)
			g := newGuard(t, Config{Roots: certs(root), Issuers: certs(middle, issuing), Revocation: src})
			for range 3 {
				v := g.Judge(Snapshot{Certificate: card}, judgedThen)
				assert.Equal(t, tt.decision, v.Decision)
				assert.Empty(t, v.NotChecked)
				if tt.want == Unspecified {
					require.Empty(t, v.Findings)
					continue
				}
				require.Equal(t, []Reason{tt.want}, reasonsOf(v))
				assert.Equal(t, tt.is, v.Findings[0].Is)
				assert.Equal(t, CheckRevocation, v.Findings[0].Check)
			}
			assert.Equal(t, []string{"/123456789012_Test_Card/Issuing/Middle/Root", "/Issuing/Middle/Root", "/Middle/Root"}, src.prepared, "once")
		})
	}
}

func TestEverythingIsSaidOfAChain(t *testing.T) {
	root := newAuthority(t, "Root", []byte{1})
	middle := root.below(t, "Middle")
	issuing := middle.below(t, "Issuing")
	card := issuing.issue(t, issuedThen)
	src := &lists{says: map[string]RevocationStatus{string(card.x.Raw): revoked, string(issuing.cert.Raw): unknown, string(middle.cert.Raw): unknown}}
	g := newGuard(t, Config{Roots: certs(root), Issuers: certs(middle, issuing), Revocation: src})
	v := g.Judge(Snapshot{Certificate: card}, judgedThen)
	require.Equal(t, []Reason{Revoked, RevocationUnknown}, reasonsOf(v))
	assert.Equal(t, "CA CN=Issuing,O=test: no list covers the certificate; CA CN=Middle,O=test: no list covers the certificate", v.Findings[1].Is)
}

// One good chain is enough, but evidence against the certificate itself counts in
// whichever chain it is found.
func TestOfSeveralChainsTheBestCounts(t *testing.T) {
	root := newAuthority(t, "Root", []byte{1})
	ca := root.below(t, "CA")
	again := authority{key: ca.key} // the same CA, certified again
	der, err := x509.CreateCertificate(rand.Reader, ca.cert, root.cert, ca.key.Public(), root.key)
	require.NoError(t, err)
	again.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	require.NotEqual(t, ca.cert.Raw, again.cert.Raw)
	card := ca.issue(t, issuedThen)
	compromised, revoked := revoked, revoked
	revoked.Reason = "superseded"
	for _, tt := range []struct {
		name string
		says map[string]RevocationStatus
		want []Reason
	}{
		{"both good", nil, []Reason{}},
		{"one revoked because its key is in wrong hands, which is the other's too", map[string]RevocationStatus{string(ca.cert.Raw): compromised}, []Reason{CARevoked}},
		{"one revoked", map[string]RevocationStatus{string(ca.cert.Raw): revoked}, []Reason{}},
		{"the other revoked", map[string]RevocationStatus{string(again.cert.Raw): revoked}, []Reason{}},
		{"one revoked, the other unknown", map[string]RevocationStatus{string(again.cert.Raw): revoked, string(ca.cert.Raw): unknown}, []Reason{RevocationUnknown}},
		{"one late, the other lapsed", map[string]RevocationStatus{string(again.cert.Raw): late1, string(ca.cert.Raw): lapsed}, []Reason{RevocationStale}},
		{"both revoked", map[string]RevocationStatus{string(again.cert.Raw): revoked, string(ca.cert.Raw): revoked}, []Reason{CARevoked}},
	} {
		for _, issuers := range [][]authority{{ca, again}, {again, ca}} {
			g := newGuard(t, Config{Roots: certs(root), Issuers: certs(issuers...), Revocation: &lists{says: tt.says}})
			assert.Equal(t, tt.want, reasonsOf(g.Judge(Snapshot{Certificate: card}, judgedThen)), tt.name)
		}
	}

	onlyOne := func(chain []*x509.Certificate) RevocationStatus {
		if chain[0].Equal(card.x) && chain[1].Equal(again.cert) {
			return revoked
		}
		return RevocationStatus{State: StatusGood}
	}
	g := newGuard(t, Config{Roots: certs(root), Issuers: certs(ca, again), Revocation: byChain(onlyOne)})
	assert.Equal(t, []Reason{Revoked}, reasonsOf(g.Judge(Snapshot{Certificate: card}, judgedThen)))
}

type byChain func([]*x509.Certificate) RevocationStatus

func (f byChain) Prepare(chain []*x509.Certificate) (func(time.Time) RevocationStatus, error) {
	chain = slices.Clone(chain)
	return func(time.Time) RevocationStatus { return f(chain) }, nil
}

func (byChain) Floor() time.Time { return time.Time{} }

// Evidence of revocation counts whatever is known of the chain.
func TestRevocationWithoutAChain(t *testing.T) {
	root, ca := newAuthority(t, "Root", []byte{1}), newAuthority(t, "CA", nil)
	card := ca.issue(t, issuedThen)
	for _, tt := range []struct {
		name     string
		c        Config
		want     []Reason
		prepared []string
	}{
		{"the issuer is configured, no root is", Config{Issuers: certs(ca)}, []Reason{Revoked}, []string{"/123456789012_Test_Card/CA"}},
		{"no chain, but the issuer is known", Config{Roots: certs(root), Issuers: certs(ca)}, []Reason{ChainUntrusted, Revoked}, []string{"/123456789012_Test_Card/CA"}},
		{"nobody knows the issuer", Config{Roots: certs(root)}, []Reason{ChainUntrusted, Revoked}, []string{"/123456789012_Test_Card"}},
	} {
		src := about(card.x, revoked)
		tt.c.Revocation = src
		g := newGuard(t, tt.c)
		assert.Equal(t, tt.want, reasonsOf(g.Judge(Snapshot{Certificate: card}, judgedThen)), tt.name)
		assert.Equal(t, tt.prepared, src.prepared, tt.name)
	}
	_, err := New(Config{Revocation: about(card.x, revoked)})
	assert.EqualError(t, err, "guard: Config.Revocation without Roots and Issuers; wanted the CA certificates, because a list is told by its issuer's key")
}

func TestACertificateThatNoListCanBeAskedAbout(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	card := ca.issue(t, issuedThen)
	src := &lists{fails: map[string]error{string(card.x.Raw): errors.New("the serial number is too long")}}
	v := newGuard(t, Config{Roots: certs(ca), Revocation: src}).Judge(Snapshot{Certificate: card}, judgedThen)
	require.Equal(t, []Reason{RevocationLapsed}, reasonsOf(v))
	assert.Equal(t, "the certificate: the serial number is too long", v.Findings[0].Is)
	v = newGuard(t, Config{Roots: certs(ca), Revocation: &lists{nothing: true}}).Judge(Snapshot{Certificate: card}, judgedThen)
	assert.Equal(t, []Reason{RevocationUnknown}, reasonsOf(v))
}

func TestNewListsReachARunningGuard(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	card := ca.issue(t, issuedThen)
	src := &lists{says: map[string]RevocationStatus{}}
	g := newGuard(t, Config{Roots: certs(ca), Revocation: src})
	require.Empty(t, g.Judge(Snapshot{Certificate: card}, judgedThen).Findings)
	src.says[string(card.x.Raw)] = revoked
	assert.Equal(t, []Reason{Revoked}, reasonsOf(g.Judge(Snapshot{Certificate: card}, judgedThen)))
}

func TestACheckWithChainAndRevocationAllocatesNothing(t *testing.T) {
	root := newAuthority(t, "Root", []byte{1})
	ca := root.below(t, "CA")
	card := Card(fakeCard{s: Snapshot{Certificate: ca.issue(t, issuedThen)}})
	g := newGuard(t, Config{Roots: certs(root), Issuers: certs(ca), Revocation: &lists{}})
	ctx := t.Context()
	var err error
	assert.Zero(t, testing.AllocsPerRun(200, func() { _, err = g.CheckAt(ctx, card, judgedThen) }))
	require.NoError(t, err)
	assert.Zero(t, testing.AllocsPerRun(200, func() { g.JudgeNow(Snapshot{Certificate: card.(fakeCard).s.Certificate}, judgedThen) }))
}
