package advisory_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/need"
)

// The authorities of the model: one that the guard is configured with, and one that
// it is not, so that only a key identifier tells who signed.
const (
	configured = 0
	foreign    = 1
)

// rule is what the model knows of an advisory.
type rule struct {
	id        string
	revision  int
	state     advisory.State
	issuer    int
	byKey     bool // names its issuer by key, else by key identifier
	day       int  // of issue
	block     int  // hours
	renew     int  // hours after block; 0: no date
	end       int  // hours, of an ended state
	successor string
}

func (r *rule) ended() bool {
	return r.state == advisory.Resolved || r.state == advisory.Withdrawn || r.state == advisory.Superseded
}

// answer is yes, no or perhaps for a card of an authority and day.
func (r *rule) answer(issuer, day int) could {
	switch {
	case r.day != day:
		return never
	case r.byKey && r.issuer == foreign && issuer == foreign:
		return perhaps // nobody configured the key
	}
	return tells(r.issuer == issuer)
}

// speaks is what the rule does to a card at an instant, by the promises.
func (r *rule) speaks(issuer, day int, at time.Time) guard.Reason {
	inForce := r.state == advisory.Active || (r.state == advisory.Resolved || r.state == advisory.Superseded) && at.Before(hour(r.end))
	switch a := r.answer(issuer, day); {
	case a == never || r.state == advisory.Draft:
		return guard.Unspecified
	case a == perhaps && inForce:
		return guard.AffectedUndecidable
	case a == perhaps:
		return guard.Unspecified
	case r.state == advisory.Shadow:
		return guard.AffectedShadow
	case !inForce:
		return guard.AffectedEnded
	case at.Before(hour(r.block)):
		return guard.AffectedSoon
	}
	return guard.Affected
}

func hour(h int) time.Time {
	return time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(h) * time.Hour)
}

func dayOfIssue(d int) time.Time { return time.Date(2026, 2, 1+d, 0, 0, 0, 0, time.UTC) }

// edition is a rule set as the model has it.
type edition struct {
	version, issued int
	rules           []rule
}

// mayFollow says P8 in the model's words.
func (e *edition) mayFollow(old *edition) bool {
	if e.version < old.version || e.issued < old.issued || e.version == old.version && len(e.rules) != len(old.rules) {
		return false
	}
	for _, was := range old.rules {
		i := slices.IndexFunc(e.rules, func(r rule) bool { return r.id == was.id })
		if i < 0 {
			if was.state == advisory.Active || e.version == old.version {
				return false
			}
			continue
		}
		now := e.rules[i]
		switch {
		case now.revision < was.revision,
			now != was && (now.revision == was.revision || e.version == old.version),
			was.ended() && !now.ended(),
			was.state == advisory.Active && (now.state == advisory.Draft || now.state == advisory.Shadow):
			return false
		}
	}
	return true
}

// orderModel publishes whatever chance makes of the rules.
type orderModel struct {
	authorities [2]*x509.Certificate
	cards       [2][3]*guard.Certificate // by authority and day
	g           *guard.Guard
	source      *changing
	now         edition // what was published last
	good        edition // the last that may be in force
	backwards   bool    // now may not follow good
	rules       int     // ever
}

type changing struct{ set atomic.Pointer[advisory.Set] }

func (c *changing) Current() *advisory.Set { return c.set.Load() }

func (m *orderModel) document(r *rule) []byte {
	issuer := object{"aki": []string{fmt.Sprintf("%x", m.authorities[r.issuer].SubjectKeyId)}}
	if r.byKey {
		issuer = object{"spki_sha256": []string{fmt.Sprintf("%x", sha256.Sum256(m.authorities[r.issuer].RawSubjectPublicKeyInfo))}}
	}
	d := object{
		"id": r.id, "revision": r.revision, "state": r.state, "title": "t", "message": "m", "basis": "issuance_log",
		"published": hour(0).Format(layout), "modified": hour(0).Format(layout), "block_from": hour(r.block).Format(layout),
		"match": object{"any": []object{{"issuer": issuer, "not_before": object{
			"from": dayOfIssue(r.day).Format(layout), "to": dayOfIssue(r.day + 1).Format(layout)}}}},
		"card_may_authenticate": true, "remedies": []object{{"kind": "renew", "text": "Renew."}},
	}
	if r.renew > 0 {
		d["renew_by"] = hour(r.block + r.renew).Format(layout)
	}
	if r.ended() {
		d["ended_at"] = hour(r.end).Format(layout)
	}
	if r.successor != "" {
		d["superseded_by"] = r.successor
	}
	doc, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	return doc
}

// set parses the rules, in their order.
func (m *orderModel) set(e *edition) (*advisory.Set, error) {
	var all []*advisory.Advisory
	for i := range e.rules {
		a, err := advisory.Parse(m.document(&e.rules[i]), nil)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return advisory.NewSet(uint64(e.version), hour(e.issued), all...)
}

func (m *orderModel) newRule(t *rapid.T) rule {
	m.rules++
	r := rule{
		id: fmt.Sprintf("rule-%d", m.rules), revision: 1,
		issuer: rapid.IntRange(0, 1).Draw(t, "issuer"), byKey: rapid.Bool().Draw(t, "by key"), day: rapid.IntRange(0, 2).Draw(t, "day"),
		block: rapid.IntRange(1, 20).Draw(t, "block_from"),
	}
	m.enter(t, &r, advisory.Draft, advisory.Shadow, advisory.Active, advisory.Active, advisory.Resolved)
	return r
}

// enter puts a rule into a state.
func (m *orderModel) enter(t *rapid.T, r *rule, states ...advisory.State) {
	r.state, r.end, r.successor = rapid.SampledFrom(states).Draw(t, "state"), 0, ""
	if r.ended() {
		r.end = r.block + rapid.IntRange(0, 10).Draw(t, "lasts")
	}
	if r.state == advisory.Superseded {
		r.successor = fmt.Sprintf("rule-%d", rapid.IntRange(1, m.rules).Draw(t, "successor"))
	}
}

// change makes one change, which may be one that rules must not make.
func (m *orderModel) change(t *rapid.T, e *edition) {
	kinds := []string{"appear", "forget", "reorder", "state", "state", "state", "dates", "population", "revision"}
	kind := rapid.SampledFrom(kinds).Draw(t, "change")
	if len(e.rules) == 0 || kind == "appear" {
		e.rules = append(e.rules, m.newRule(t))
		return
	}
	i := rapid.IntRange(0, len(e.rules)-1).Draw(t, "rule")
	r := &e.rules[i]
	switch kind {
	case "forget":
		e.rules = slices.Delete(e.rules, i, i+1)
		return
	case "reorder":
		e.rules[0], e.rules[i] = e.rules[i], e.rules[0]
		return
	case "state":
		m.enter(t, r, advisory.Draft, advisory.Shadow, advisory.Active, advisory.Active,
			advisory.Resolved, advisory.Withdrawn, advisory.Superseded, advisory.Superseded)
	case "dates":
		r.block, r.renew = rapid.IntRange(1, 20).Draw(t, "block_from"), rapid.IntRange(0, 9).Draw(t, "renew_by")
		r.end = max(r.end, r.block)
		if !r.ended() {
			r.end = 0
		}
	case "population":
		r.day, r.byKey = rapid.IntRange(0, 2).Draw(t, "day"), rapid.Bool().Draw(t, "by key")
	}
	r.revision = max(1, r.revision+rapid.SampledFrom([]int{1, 1, 1, 1, 0, -1}).Draw(t, "revision"))
}

// publish makes a few changes and puts the outcome into the source.
func (m *orderModel) publish(t *rapid.T) {
	base := m.good
	if rapid.IntRange(0, 4).Draw(t, "on what was refused") == 0 {
		base = m.now
	}
	next := edition{
		version: base.version + rapid.SampledFrom([]int{1, 1, 1, 1, 5, 0, -1}).Draw(t, "version"),
		issued:  base.issued + rapid.SampledFrom([]int{0, 0, 1, 1, 1, -1}).Draw(t, "issued"),
		rules:   slices.Clone(base.rules),
	}
	for range rapid.IntRange(0, 3).Draw(t, "changes") {
		m.change(t, &next)
	}
	set, err := m.set(&next)
	if err != nil {
		var wrong *advisory.Error
		require.True(t, errors.As(err, &wrong))
		known := next.version < 1 || len(next.rules) == 0 || wrong.Path == "superseded_by"
		require.True(t, known, err)
		need.Another(t, "the changes make no rule set")
	}
	m.now, m.backwards = next, !next.mayFollow(&m.good)
	if !m.backwards {
		m.good = next
	}
	m.source.set.Store(set)
	m.look(t, hour(rapid.IntRange(0, 40).Draw(t, "hour"))) // the guard sees it
}

// vanish leaves the source without rules.
func (m *orderModel) vanish(t *rapid.T) {
	m.source.set.Store(rapid.SampledFrom([]*advisory.Set{nil, new(advisory.Set)}).Draw(t, "nothing"))
	m.backwards = true
	m.look(t, hour(0))
}

// recover publishes the last good rules again.
func (m *orderModel) recover(t *rapid.T) {
	set, err := m.set(&m.good)
	require.NoError(t, err)
	m.source.set.Store(set)
	m.now, m.backwards = m.good, false
	m.look(t, hour(0))
}

// check looks around every instant at which a rule changes.
func (m *orderModel) check(t *rapid.T) {
	r := rapid.SampledFrom(m.good.rules).Draw(t, "watched")
	for _, h := range []int{r.block, r.end, r.block + r.renew, 100} {
		for _, off := range []time.Duration{-time.Second, 0, time.Second} {
			m.look(t, hour(h).Add(off))
		}
	}
}

// look judges every card.
func (m *orderModel) look(t *rapid.T, at time.Time) {
	for issuer := range m.cards {
		for day, card := range m.cards[issuer] {
			want, decision := map[string]guard.Reason{}, guard.DecisionAllowed
			for _, r := range m.good.rules {
				speaks := r.speaks(issuer, day, at)
				if speaks == guard.Unspecified {
					continue
				}
				want[r.id] = speaks
				switch {
				case speaks == guard.Affected:
					decision = min(decision, guard.DecisionRefused)
				case speaks == guard.AffectedUndecidable && !at.Before(hour(r.block)):
					decision = min(decision, guard.DecisionUndecided)
				}
			}
			v := m.g.Judge(guard.Snapshot{Certificate: card}, at)
			got := map[string]guard.Reason{}
			for _, f := range v.Findings {
				if f.Advisory == nil {
					continue
				}
				got[f.Advisory.ID] = f.Reason
				if f.Reason == guard.Affected {
					i := slices.IndexFunc(m.good.rules, func(r rule) bool { return r.id == f.Advisory.ID })
					r := m.good.rules[i]
					late := r.renew > 0 && !at.Before(hour(r.block+r.renew))
					require.Equal(t, late, f.Remedies[0].Kind == advisory.RegistrationAuthority, "renew_by passed, and still refused")
				}
			}
			require.Equal(t, want, got, "card of authority %d, day %d, at %s", issuer, day, at)
			require.Equal(t, decision.Permits(), v.Decision.Permits(), v)
			if !decision.Permits() {
				require.Equal(t, decision, v.Decision, v)
			}
			require.Equal(t, m.backwards, v.Has(guard.RulesBackwards))
			require.Equal(t, uint64(m.good.version), v.RuleSet.Version)
			require.True(t, hour(m.good.issued).Equal(v.RuleSet.Issued))
		}
	}
}

// P2, P3 and P8: advisories appear, change their state, expire, are superseded and
// forgotten in any order, and also in orders that they must not: unknown is never
// affected and never fine, what ended refuses nobody, and rules go forwards only.
func TestAdvisoriesInAnyOrder(t *testing.T) {
	authorities, cards := modelCards(t)
	adopted, refused := 0, 0
	need.Cases(t, 3000)
	rapid.Check(t, func(t *rapid.T) {
		m := &orderModel{authorities: authorities, cards: cards, source: &changing{}}
		m.good = edition{version: 1, rules: []rule{m.newRule(t)}}
		m.now = m.good
		set, err := m.set(&m.good)
		require.NoError(t, err)
		m.source.set.Store(set)
		m.g, err = guard.New(guard.Config{Advisories: m.source, Issuers: authorities[:foreign]})
		require.NoError(t, err)
		t.Repeat(map[string]func(*rapid.T){
			"publish": func(t *rapid.T) {
				m.publish(t)
				if m.backwards {
					refused++
				} else {
					adopted++
				}
			},
			"vanish": m.vanish, "recover": m.recover,
			"": m.check,
		})
	})
	t.Logf("%d rule sets followed, %d that would have gone backwards", adopted, refused)
	require.NotZero(t, adopted)
	require.NotZero(t, refused)
}

// modelCards makes two authorities of one name, and a card of each for each day.
func modelCards(t *testing.T) (cas [2]*x509.Certificate, cards [2][3]*guard.Certificate) {
	cardKey, err := rsa.GenerateKey(crand.Reader, 2048)
	require.NoError(t, err)
	policy, err := x509.ParseOID(guard.SigningPolicy)
	require.NoError(t, err)
	for i := range cas {
		key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
		require.NoError(t, err)
		ca := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, SubjectKeyId: []byte{byte(i + 1)},
			NotBefore: dayOfIssue(0), NotAfter: dayOfIssue(5000), BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
		}
		der, err := x509.CreateCertificate(crand.Reader, ca, ca, key.Public(), key)
		require.NoError(t, err)
		cas[i], err = x509.ParseCertificate(der)
		require.NoError(t, err)
		for day := range cards[i] {
			der, err := x509.CreateCertificate(crand.Reader, &x509.Certificate{
				SerialNumber: big.NewInt(int64(100 + day)), Subject: pkix.Name{CommonName: strings.Repeat("1", 12) + "_Test_Card"},
				NotBefore: dayOfIssue(day).Add(12 * time.Hour), NotAfter: dayOfIssue(1000),
				KeyUsage: x509.KeyUsageContentCommitment, Policies: []x509.OID{policy},
			}, cas[i], cardKey.Public(), key)
			require.NoError(t, err)
			cards[i][day], err = guard.ParseCertificate(der)
			require.NoError(t, err)
		}
	}
	return cas, cards
}
