package guard

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/need"
)

// P2: the decision is the weightiest effect, whatever the findings and their order.
func TestTheDecisionIsTheWeightiestEffect(t *testing.T) {
	need.Cases(t, 2000)
	rapid.Check(t, func(t *rapid.T) {
		effects := rapid.SliceOfN(rapid.IntRange(int(DecisionRefused), int(DecisionAllowed)), 0, 12).Draw(t, "effects")
		fs, want := []Finding{}, DecisionAllowed
		for i, e := range effects {
			f := finding(Reason(rapid.IntRange(0, int(reasons)-1).Draw(t, "reason")))
			f.Effect, f.Is = Decision(e), fmt.Sprint(i)
			fs, want = append(fs, f), min(want, f.Effect)
		}
		again := slices.Clone(fs)
		slices.SortStableFunc(again, func(a, b Finding) int { return int(a.Effect) - int(b.Effect) })

		require.Equal(t, want, weigh(fs))
		require.Equal(t, again, fs, "in order of weight, equal ones as they came")
		v := Verdict{Decision: want, Findings: fs}
		var refused *Refused
		var undecided *Undecided
		err := v.Err()
		require.Equal(t, want == DecisionRefused, errors.As(err, &refused))
		require.Equal(t, want == DecisionUndecided, errors.As(err, &undecided))
		require.Equal(t, want.Permits(), err == nil)
		for _, f := range fs {
			require.True(t, f.Effect.Permits() || err != nil, "one refusal is enough")
		}
	})
}

// P2: whatever a card shows, a signature is permitted only where everything could
// be judged and nothing speaks against it; and what could not be judged is not
// reported as affected.
func TestWhateverACardShows(t *testing.T) {
	ca, unknown := newAuthority(t, "CA", []byte{1}), newAuthority(t, "CA", []byte{1})
	when := at("2026-03-10T00:00:00Z")
	type kind struct {
		c                           *Certificate
		good, affected, undecidable bool
	}
	certificate := func(by authority, issued string, changes ...func(*x509.Certificate)) *Certificate {
		return by.issue(t, at(issued), changes...)
	}
	login := func(x *x509.Certificate) { x.KeyUsage = x509.KeyUsageDigitalSignature }
	kinds := map[string]kind{
		"none":                               {},
		"not parsed":                         {c: &Certificate{}},
		"good":                               {c: certificate(ca, "2026-01-15T00:00:00Z"), good: true},
		"affected":                           {c: certificate(ca, "2026-02-01T12:00:00Z"), affected: true},
		"of an unknown issuer":               {c: certificate(unknown, "2026-02-01T12:00:00Z"), undecidable: true},
		"of an unknown issuer, outside":      {c: certificate(unknown, "2026-02-03T12:00:00Z"), good: true},
		"for logging in":                     {c: certificate(ca, "2026-01-15T00:00:00Z", login)},
		"for logging in, and affected":       {c: certificate(ca, "2026-02-01T12:00:00Z", login), affected: true},
		"of the simulation":                  {c: testCard(t)},
		"valid from the judged instant":      {c: certificate(ca, "2026-03-10T00:00:00Z")},
		"valid from a second before":         {c: certificate(ca, "2026-03-09T23:59:59Z"), good: true},
		"valid until the judged instant":     {c: certificate(ca, "2024-03-10T00:00:00Z")},
		"valid until a second after":         {c: certificate(ca, "2024-03-10T00:00:01Z"), good: true},
		"unusual, but not for being refused": {c: certificate(ca, "2026-01-15T00:00:00Z", func(x *x509.Certificate) { x.Policies = nil }), good: true},
	}
	names := []string{}
	for n := range kinds {
		names = append(names, n)
	}
	slices.Sort(names)
	cardErrors := []error{nil, nil, nil, ErrNoCard, ErrNoSigningCertificate, ErrSeveralCertificates, ErrCertificateDamaged, context.Canceled}
	g := map[bool]*Guard{}
	for _, live := range []bool{false, true} {
		g[live] = newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(ca)), Issuers: []*x509.Certificate{ca.cert}, Live: live})
	}
	need.Cases(t, 2000)
	rapid.Check(t, func(t *rapid.T) {
		k := kinds[rapid.SampledFrom(names).Draw(t, "certificate")]
		s := Snapshot{
			Certificate: k.c,
			Err:         rapid.SampledFrom(cardErrors).Draw(t, "snapshot error"),
			Simulated:   rapid.IntRange(0, 3).Draw(t, "simulated") == 0,
			Hold:        Hold{State: HoldState(max(0, rapid.IntRange(-6, int(HoldUnread)+2).Draw(t, "hold")))},
		}
		live := rapid.Bool().Draw(t, "live")
		cardErr := rapid.SampledFrom(cardErrors).Draw(t, "card error")
		v, err := g[live].CheckAt(context.Background(), fakeCard{s, cardErr}, when)

		seen := s.Err == nil && cardErr == nil
		require.Equal(t, seen && k.good && s.Hold.State == NotHeld && !(live && s.Simulated), err == nil, v)
		require.Equal(t, err == nil, v.Decision.Permits())
		require.Equal(t, seen && k.affected, v.Has(Affected), v)
		require.Equal(t, seen && k.undecidable, v.Has(AffectedUndecidable), v)
		var refused *Refused
		var undecided *Undecided
		require.False(t, errors.As(err, &refused) && errors.As(err, &undecided))
		if errors.As(err, &undecided) {
			require.False(t, v.Has(Affected), "undecided is not affected")
		}
		if err != nil {
			require.NotEmpty(t, v.Findings)
			require.False(t, v.Findings[0].Effect.Permits())
		}
	})
}

// notice is what the model of the rules below knows of an advisory.
type notice struct {
	id         string
	revision   int
	state      advisory.State
	day        int // of issue, 0 to 2
	published  time.Time
	block, end time.Time
	next       string // superseded by
}

// refuses says it without the package under test.
func (n *notice) refuses(day int, t time.Time) bool {
	switch n.state {
	case advisory.Active:
		return n.day == day && !t.Before(n.block)
	case advisory.Resolved, advisory.Superseded:
		return n.day == day && !t.Before(n.block) && t.Before(n.end)
	}
	return false
}

// announces tells, likewise, whether the notice warns of what it will refuse.
func (n *notice) announces(day int, t time.Time) bool {
	will := n.state == advisory.Active || n.state == advisory.Resolved || n.state == advisory.Superseded
	return will && n.day == day && t.Before(n.block)
}

// rulesModel publishes sets that follow one another, and ones that do not, sets the
// clock, records runs, and has revocation lists come and go.
type rulesModel struct {
	ca      authority
	cards   []*Certificate // by day of issue
	g       *Guard
	src     *dated
	notices []*notice
	version uint64
	good    *advisory.Set
	bad     bool // what the source has now does not follow

	clock    time.Time
	lists    *lists
	revoked  []RevocationStatus // by day of issue
	record   *lastRun
	refused  int // of what was judged
	permits  int
	wasWrong int // how often the clock was behind
}

var modelStart = at("2026-03-01T00:00:00Z")

func hour(h int) time.Time { return modelStart.Add(time.Duration(h) * time.Hour) }

func (m *rulesModel) advisory(n *notice) *advisory.Advisory {
	return noticeBy(m.ca, func(a *advisory.Advisory) {
		a.ID, a.Revision, a.State, a.SupersededBy = n.id, n.revision, n.state, n.next
		a.Published, a.Modified, a.BlockFrom, a.EndedAt = n.published, n.published, n.block, n.end
		from := at("2026-02-01T00:00:00Z").AddDate(0, 0, n.day)
		a.Match[0].NotBefore = &advisory.Window{From: from, To: from.AddDate(0, 0, 1)}
	})
}

func (m *rulesModel) set(t *rapid.T, version uint64, notices []*notice) *advisory.Set {
	var all []*advisory.Advisory
	for _, n := range notices {
		all = append(all, m.advisory(n))
	}
	s, err := advisory.NewSet(version, hour(int(version)), all...)
	require.NoError(t, err)
	return s
}

// publish makes what the notices are now the newest good set.
func (m *rulesModel) publish(t *rapid.T) {
	m.version++
	m.good, m.bad = m.set(t, m.version, m.notices), false
	m.src.set.Store(m.good)
}

func (m *rulesModel) pick(t *rapid.T, want func(*notice) bool) *notice {
	var some []*notice
	for _, n := range m.notices {
		if want(n) {
			some = append(some, n)
		}
	}
	if len(some) == 0 {
		need.Another(t, "no notice is in the state that this one needs")
	}
	return rapid.SampledFrom(some).Draw(t, "notice")
}

func (m *rulesModel) add(t *rapid.T) {
	if len(m.notices) > 8 {
		need.Another(t, "the rule set is long enough")
	}
	n := &notice{
		id: fmt.Sprintf("notice-%d", m.version+1), revision: 1, day: rapid.IntRange(0, 2).Draw(t, "day"),
		state:     rapid.SampledFrom([]advisory.State{advisory.Draft, advisory.Shadow, advisory.Active, advisory.Active}).Draw(t, "state"),
		published: hour(0), block: hour(rapid.IntRange(0, 20).Draw(t, "block_from")),
	}
	m.notices = append(m.notices, n)
	m.publish(t)
}

func (m *rulesModel) activate(t *rapid.T) {
	n := m.pick(t, func(n *notice) bool { return n.state == advisory.Draft || n.state == advisory.Shadow })
	n.state, n.revision = advisory.Active, n.revision+1
	m.publish(t)
}

func (m *rulesModel) end(t *rapid.T) {
	n := m.pick(t, func(n *notice) bool { return n.end.IsZero() })
	state := rapid.SampledFrom([]advisory.State{advisory.Resolved, advisory.Withdrawn, advisory.Superseded}).Draw(t, "end")
	if state == advisory.Superseded {
		var after []*notice // never in a circle, and enforced
		for _, o := range m.notices[slices.Index(m.notices, n)+1:] {
			if o.state != advisory.Draft && o.state != advisory.Shadow {
				after = append(after, o)
			}
		}
		if len(after) == 0 {
			need.Another(t, "no later notice can supersede this one")
		}
		n.next = rapid.SampledFrom(after).Draw(t, "successor").id
	}
	n.state, n.revision = state, n.revision+1
	n.end = n.block.Add(time.Duration(rapid.IntRange(0, 10).Draw(t, "hours")) * time.Hour)
	m.publish(t)
}

// named tells whether a notice is the successor of another.
func (m *rulesModel) named(n *notice) bool {
	return slices.ContainsFunc(m.notices, func(o *notice) bool { return o.next == n.id })
}

// forget drops an ended notice that no other names.
func (m *rulesModel) forget(t *rapid.T) {
	n := m.pick(t, func(n *notice) bool { return !n.end.IsZero() && !m.named(n) })
	if len(m.notices) == 1 {
		need.Another(t, "the last notice is never dropped")
	}
	m.notices = slices.DeleteFunc(slices.Clone(m.notices), func(o *notice) bool { return o == n })
	m.publish(t)
}

// backwards puts into the source what does not follow the newest good set.
func (m *rulesModel) backwards(t *rapid.T) {
	changed := func(version uint64, want func(*notice) bool, change func(*notice)) *advisory.Set {
		n := m.pick(t, want)
		other := slices.Clone(m.notices)
		c := *n
		change(&c)
		other[slices.Index(m.notices, n)] = &c
		return m.set(t, version, other)
	}
	active := func(n *notice) bool { return n.state == advisory.Active && !m.named(n) }
	var bad *advisory.Set
	switch rapid.SampledFrom([]string{"nil", "empty", "version", "dropped", "draft again", "active again", "same version", "revision"}).Draw(t, "how") {
	case "nil":
	case "empty":
		bad = new(advisory.Set)
	case "version":
		if m.version == 1 {
			need.Another(t, "there is no version before the first")
		}
		bad = m.set(t, m.version-1, m.notices)
	case "dropped":
		n := m.pick(t, active)
		filler := &notice{id: "filler", revision: 1, state: advisory.Draft, published: hour(0), block: hour(0)}
		kept := slices.DeleteFunc(slices.Clone(m.notices), func(o *notice) bool { return o == n || o.state == advisory.Superseded })
		bad = m.set(t, m.version+5, append(kept, filler))
	case "draft again":
		bad = changed(m.version+5, active, func(n *notice) { n.state, n.revision = advisory.Draft, n.revision+1 })
	case "active again":
		bad = changed(m.version+5, func(n *notice) bool { return !n.end.IsZero() }, func(n *notice) {
			n.state, n.revision, n.end, n.next = advisory.Active, n.revision+1, time.Time{}, ""
		})
	case "same version":
		bad = changed(m.version, func(*notice) bool { return true }, func(n *notice) { n.revision++ })
	case "revision":
		bad = changed(m.version+5, func(n *notice) bool { return n.revision > 1 }, func(n *notice) { n.revision-- })
	}
	m.src.set.Store(bad)
	m.bad = true
}

// setClock moves the clock, forwards or back, to an instant near one at which something is
// known to have been.
func (m *rulesModel) setClock(t *rapid.T) {
	near := []time.Time{m.good.Issued(), hour(rapid.IntRange(-5, 40).Draw(t, "hour"))}
	if !m.lists.floor.IsZero() {
		near = append(near, m.lists.floor)
	}
	if !m.record.t.IsZero() {
		near = append(near, m.record.t)
	}
	m.clock = rapid.SampledFrom(near).Draw(t, "near").Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, "seconds")) * time.Second)
}

// run signs with a card where that is permitted, and records it: no record is older
// than the one before it.
func (m *rulesModel) run(t *rapid.T) {
	card := rapid.SampledFrom(m.cards).Draw(t, "card")
	if m.g.JudgeNow(Snapshot{Certificate: card}, m.clock).Err() != nil {
		need.Another(t, "the card may not sign")
	}
	require.False(t, m.clock.Before(m.record.t), "a run after the last one")
	m.record.t = m.clock
}

// listsCome brings lists that say something of each card.
func (m *rulesModel) listsCome(t *rapid.T) {
	m.lists.floor = hour(rapid.IntRange(-2, 30).Draw(t, "thisUpdate"))
	good := RevocationStatus{State: StatusGood}
	for day, card := range m.cards {
		m.revoked[day] = rapid.SampledFrom([]RevocationStatus{good, good, good, revoked, late1, lapsed, unknown}).Draw(t, "status")
		m.lists.says[string(card.x.Raw)] = m.revoked[day]
	}
}

func (m *rulesModel) listsGo(*rapid.T) {
	m.lists.floor = time.Time{}
	for day, card := range m.cards {
		m.revoked[day] = RevocationStatus{}
		m.lists.says[string(card.x.Raw)] = m.revoked[day]
	}
}

func (m *rulesModel) expire(t *rapid.T) {
	m.src.expires = hour(rapid.IntRange(-5, 40).Draw(t, "expires"))
}

// behind tells whether the clock is behind what the model knows to be past (P12).
func (m *rulesModel) behind() bool {
	return m.clock.Before(m.good.Issued()) || m.clock.Before(m.lists.floor) || m.clock.Before(m.record.t)
}

// check judges each card by the clock, and asks about it around every instant at which
// something changes.
func (m *rulesModel) check(t *rapid.T) {
	m.judge(t, m.clock, true)
	for _, n := range m.notices {
		instants := []time.Time{n.block, hour(50)}
		if !n.end.IsZero() {
			instants = append(instants, n.end)
		}
		for _, i := range instants {
			for _, off := range []time.Duration{-time.Second, 0, time.Second} {
				m.judge(t, i.Add(off), false)
			}
		}
	}
}

// want is what a card comes to, said without the package under test.
func (m *rulesModel) want(day int, when time.Time, isNow bool) (refusing []string, d Decision) {
	d = DecisionAllowed
	atMost := func(most Decision, found bool) {
		if found {
			d = min(d, most)
		}
	}
	for _, n := range m.notices {
		if n.refuses(day, when) {
			refusing = append(refusing, n.id)
		}
		atMost(DecisionWarned, n.announces(day, when))
	}
	s := m.revoked[day]
	atMost(DecisionRefused, len(refusing) > 0 || s.State == StatusRevoked)
	atMost(DecisionUndecided, isNow && m.behind() || s.State == StatusUnknown && s.Covered)
	stale := isNow && !m.src.expires.IsZero() && !when.Before(m.src.expires)
	atMost(DecisionWarned, m.bad || stale || s.Late || s.State == StatusUnknown)
	return refusing, d
}

func (m *rulesModel) judge(t *rapid.T, when time.Time, isNow bool) {
	for day, card := range m.cards {
		want, decision := m.want(day, when, isNow)
		judge := m.g.Judge
		if isNow {
			judge = m.g.JudgeNow
		}
		v := judge(Snapshot{Certificate: card}, when)
		var got []string
		for _, f := range v.Findings {
			switch {
			case f.Effect.Permits():
			case f.Reason == Affected:
				got = append(got, f.Advisory.ID)
			default:
				require.Contains(t, []Reason{Revoked, RevocationLapsed, ClockBehind}, f.Reason)
			}
		}
		require.Equal(t, want, got, "card of day %d judged at %s", day, when)
		require.Equal(t, decision, v.Decision, "card of day %d judged at %s: %s", day, when, v)
		require.Equal(t, decision.Permits(), v.Err() == nil)
		require.Equal(t, isNow && m.behind(), v.Has(ClockBehind))
		require.Equal(t, m.bad, v.Has(RulesBackwards))
		require.Equal(t, m.version, v.RuleSet.Version)
		m.count(v)
	}
}

func (m *rulesModel) count(v Verdict) {
	switch {
	case v.Has(ClockBehind):
		m.wasWrong++
	case v.Decision.Permits():
		m.permits++
	default:
		m.refused++
	}
}

// P2, P3, P8 and P12: an advisory refuses until the instant it ended and nobody from
// then on, whatever becomes of it; rules that would go backwards are not followed; a
// clock that is behind the newest evidence permits nothing, and as of an instant it is
// not asked; and each answer is a yes, a no or neither, by what was found alone.
func TestNoGhostRefusals(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	var cards []*Certificate
	for day := range 3 {
		cards = append(cards, ca.issue(t, at("2026-02-01T12:00:00Z").AddDate(0, 0, day)))
	}
	refused, permits, wrong := 0, 0, 0
	need.Cases(t, 2000)
	rapid.Check(t, func(t *rapid.T) {
		m := &rulesModel{
			ca: ca, cards: cards, src: &dated{source: &source{}}, clock: hour(5), record: &lastRun{},
			lists: &lists{says: map[string]RevocationStatus{}}, revoked: make([]RevocationStatus, len(cards)),
		}
		m.listsGo(t)
		m.add(t)
		g, err := New(Config{Advisories: m.src, Roots: certs(ca), Revocation: m.lists, Floor: m.record})
		require.NoError(t, err)
		m.g = g
		t.Repeat(map[string]func(*rapid.T){
			"add": m.add, "activate": m.activate, "end": m.end, "forget": m.forget, "backwards": m.backwards,
			"recover":   func(*rapid.T) { m.src.set.Store(m.good); m.bad = false },
			"set clock": m.setClock, "run": m.run, "lists come": m.listsCome, "lists go": m.listsGo, "expire": m.expire,
			"": m.check,
		})
		refused, permits, wrong = refused+m.refused, permits+m.permits, wrong+m.wasWrong
	})
	t.Logf("judged: %d permitted, %d not, %d by a clock that was behind", permits, refused, wrong)
	for what, n := range map[string]int{"permitted": permits, "not permitted": refused, "by a clock that was behind": wrong} {
		require.NotZero(t, n, what)
	}
}
