package guard

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/advisory"
)

// lastRun is a ClockFloor.
type lastRun struct{ t time.Time }

func (r *lastRun) Floor() time.Time { return r.t }

// dated is a source of rules that says until when its set is fresh.
type dated struct {
	*source
	expires time.Time
}

func (d *dated) Expires() time.Time { return d.expires }

// P12: the clock cannot be turned back past evidence.
func TestAClockBehindTheEvidenceIsUndecided(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	card := ca.issue(t, issuedThen)
	early, newest := at("2026-03-01T00:00:00Z"), at("2026-03-15T09:30:00Z")
	other := newAuthority(t, "Other", nil)
	for _, tt := range []struct {
		name                 string
		rules, lists, record time.Time
		of                   string
	}{
		{"the rules alone", newest, time.Time{}, time.Time{}, "the rules"},
		{"the rules are the newest", newest, early, early, "the rules"},
		{"the lists are the newest", early, newest, early, "the revocation lists"},
		{"the last run is the newest", early, early, newest, "the records of this computer"},
		{"lists without a date, the last run", early, time.Time{}, newest, "the records of this computer"},
		{"no last run, the lists", early, newest, time.Time{}, "the revocation lists"},
		{"all are of one instant", newest, newest, newest, "the rules"},
		{"in another time zone", early, newest.In(time.FixedZone("BST", 3600)), early, "the revocation lists"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set, err := advisory.NewSet(1, tt.rules, noticeBy(other))
			require.NoError(t, err)
			g := newGuard(t, Config{Advisories: set, Roots: certs(ca), Revocation: &lists{floor: tt.lists}, Floor: &lastRun{tt.record}})
			s := Snapshot{Certificate: card}
			for _, off := range []time.Duration{-30 * 24 * time.Hour, -time.Hour, -time.Second, -1, 0, 1, time.Second, time.Hour} {
				now := newest.Add(off)
				v := g.JudgeNow(s, now)
				require.Equal(t, off < 0, v.Has(ClockBehind), off)
				require.Equal(t, off >= 0, v.Decision.Permits(), off)
				assert.Empty(t, g.Judge(s, now).Findings, "as of an instant is a question")
				asked, err := g.CheckAt(t.Context(), fakeCard{s: s}, now)
				assert.NoError(t, err)
				assert.Equal(t, DecisionAllowed, asked.Decision)
				if off >= 0 {
					assert.Empty(t, v.Findings)
					continue
				}
				require.Equal(t, []Reason{ClockBehind}, reasonsOf(v))
				var undecided *Undecided
				require.ErrorAs(t, v.Err(), &undecided)
				f := v.Findings[0]
				assert.Equal(t, CheckClock, f.Check)
				assert.Equal(t, DecisionUndecided, f.Effect)
				assert.Equal(t, "this computer says "+instant(now)+", "+tt.of+" are of 2026-03-15 09:30:00 UTC", f.Is)
			}
		})
	}
}

func TestAClockWithoutEvidenceIsBelieved(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	card := ca.issue(t, issuedThen)
	g := newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(newAuthority(t, "Other", nil))), Issuers: certs(ca), Floor: &lastRun{}})
	for _, now := range []time.Time{issuedThen.Add(time.Second), judgedThen} {
		assert.Equal(t, DecisionAllowed, g.JudgeNow(Snapshot{Certificate: card}, now).Decision, now)
	}
	v := g.JudgeNow(Snapshot{Certificate: card}, time.Time{})
	assert.True(t, v.Has(ClockBehind), "a clock that shows nothing is behind the rules")
}

// The evidence is asked anew for each judgement, and only the present counts.
func TestTheFloorMovesWithTheEvidence(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	card := ca.issue(t, issuedThen)
	record, crls := &lastRun{}, &lists{}
	src := sourceOf(newSet(t, 1, noticeBy(newAuthority(t, "Other", nil))))
	g := newGuard(t, Config{Advisories: src, Roots: certs(ca), Revocation: crls, Floor: record})
	behind := func() bool { return g.JudgeNow(Snapshot{Certificate: card}, judgedThen).Has(ClockBehind) }
	require.False(t, behind())
	record.t = judgedThen.Add(time.Second)
	assert.True(t, behind())
	record.t = judgedThen
	assert.False(t, behind())
	crls.floor = judgedThen.Add(time.Second)
	assert.True(t, behind())
	crls.floor = time.Time{}
	assert.False(t, behind())

	newer, err := advisory.NewSet(2, judgedThen.Add(time.Hour), noticeBy(ca, func(a *advisory.Advisory) { a.State = advisory.Shadow }))
	require.NoError(t, err)
	src.set.Store(newer) // the active notice is gone: not followed, so no evidence
	v := g.JudgeNow(Snapshot{Certificate: card}, judgedThen)
	assert.True(t, v.Has(RulesBackwards))
	assert.False(t, v.Has(ClockBehind))
}

// Whatever else a card shows, a clock that is behind is said; and a refusal stays one.
func TestAClockBehindIsSaidBesideWhatElseIsFound(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	g := newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(ca)), Issuers: certs(ca), Floor: &lastRun{judgedThen.Add(1)}})
	for name, tt := range map[string]struct {
		s        Snapshot
		decision Decision
		want     []Reason
	}{
		"affected":    {Snapshot{Certificate: ca.issue(t, issuedThen)}, DecisionRefused, []Reason{Affected, ClockBehind}},
		"good":        {Snapshot{Certificate: ca.issue(t, at("2026-01-01T00:00:00Z"))}, DecisionUndecided, []Reason{ClockBehind}},
		"no card":     {Snapshot{Err: ErrNoCard}, DecisionUndecided, []Reason{CardAbsent, ClockBehind}},
		"not yet one": {Snapshot{Certificate: ca.issue(t, judgedThen.Add(time.Hour))}, DecisionRefused, []Reason{NotYetValid, ClockBehind}},
	} {
		v := g.JudgeNow(tt.s, judgedThen)
		assert.Equal(t, tt.decision, v.Decision, name)
		assert.Equal(t, tt.want, reasonsOf(v), name)
	}
}

// No policy makes a clock that is behind good enough.
func TestNoPolicyPermitsAClockThatIsBehind(t *testing.T) {
	card := newAuthority(t, "CA", nil).issue(t, issuedThen)
	lax := Policy{
		Validity: UnsafeOff, Profile: UnsafeOff, ProfileDetails: UnsafeOff, Chain: UnsafeOff, Revocation: UnsafeOff,
		RevocationLapsed: UnsafeWarn, WeakKey: UnsafeOff, KeySize: UnsafeOff,
	}
	g := newGuard(t, Config{Policy: lax, Floor: &lastRun{judgedThen.Add(time.Second)}})
	v := g.JudgeNow(Snapshot{Certificate: card}, judgedThen)
	assert.Equal(t, DecisionUndecided, v.Decision)
	assert.True(t, v.Has(ClockBehind))
}

func TestRulesAreStaleFromTheirExpiryOn(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	in, out := ca.issue(t, issuedThen), ca.issue(t, at("2026-01-01T00:00:00Z"))
	expires := at("2026-03-15T09:30:00Z")
	rules := &dated{sourceOf(newSet(t, 1, noticeBy(ca))), expires}
	for _, tt := range []struct {
		name   string
		policy Policy
		effect Decision
	}{
		{"by default", Policy{}, DecisionWarned},
		{"by a strict policy", Policy{StaleRules: Refuse}, DecisionUndecided},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuard(t, Config{Advisories: rules, Issuers: certs(ca), Policy: tt.policy})
			for _, off := range []time.Duration{-time.Hour, -time.Second, -1, 0, 1, time.Second, 365 * 24 * time.Hour} {
				now := expires.Add(off)
				v := g.JudgeNow(Snapshot{Certificate: out}, now)
				require.Equal(t, off >= 0, v.Has(RulesStale), off)
				assert.Empty(t, g.Judge(Snapshot{Certificate: out}, now).Findings, "as of an instant is a question")
				if off < 0 {
					assert.Equal(t, DecisionAllowed, v.Decision)
					continue
				}
				assert.Equal(t, tt.effect, v.Decision)
				assert.Equal(t, "the rules expired 2026-03-15 09:30:00 UTC", findingOf(t, v, RulesStale).Is)
				v = g.JudgeNow(Snapshot{Certificate: in}, now)
				assert.Equal(t, []Reason{Affected, RulesStale}, reasonsOf(v), "known blocks stay")
			}
		})
	}
	rules.expires = time.Time{}
	g := newGuard(t, Config{Advisories: rules, Issuers: certs(ca)})
	assert.Equal(t, DecisionAllowed, g.JudgeNow(Snapshot{Certificate: out}, at("2027-12-01T00:00:00Z")).Decision, "no expiry: always fresh")
}

// Check asks the clock of this machine.
func TestCheckComparesTheClockOfThisMachine(t *testing.T) {
	now := time.Now()
	card := fakeCard{s: Snapshot{Certificate: newAuthority(t, "CA", nil).issue(t, now.AddDate(0, -1, 0))}}
	record := &lastRun{now}
	g := newGuard(t, Config{Floor: record})
	v, err := g.Check(t.Context(), card)
	require.NoError(t, err, v)
	record.t = now.AddDate(0, 0, 1)
	v, err = g.Check(t.Context(), card)
	var undecided *Undecided
	require.ErrorAs(t, err, &undecided)
	assert.Equal(t, []Reason{ClockBehind}, reasonsOf(v))
	_, err = g.CheckAt(t.Context(), card, now)
	assert.NoError(t, err)
}
