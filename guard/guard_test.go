package guard

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/advisory"
)

// source is a source of rules that a test refreshes.
type source struct{ set atomic.Pointer[advisory.Set] }

func (s *source) Current() *advisory.Set { return s.set.Load() }

func sourceOf(s *advisory.Set) *source {
	src := &source{}
	src.set.Store(s)
	return src
}

func TestNewSaysWhichFieldIsWrong(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	for _, tt := range []struct {
		name string
		c    Config
		want string
	}{
		{"a source without a set", Config{Advisories: &source{}}, "guard: Config.Advisories has no current set, or an empty one; leave it nil for the built-in one"},
		{"a nil set", Config{Advisories: (*advisory.Set)(nil)}, "guard: Config.Advisories has no current set"},
		{"an empty set", Config{Advisories: new(advisory.Set)}, "guard: Config.Advisories has no current set, or an empty one"},
		{"a nil issuer", Config{Issuers: []*x509.Certificate{ca.cert, nil}}, "guard: Config.Issuers[1] is nil; wanted a CA certificate"},
		{"an issuer that is not a CA", Config{Issuers: []*x509.Certificate{testCard(t).X509()}}, "guard: Config.Issuers[0] (CN=000000000012_Test_Card,OU=People,O=rxguard simulation) is not a CA certificate; wanted basic constraints with cA"},
		{"an issuer that nobody parsed", Config{Issuers: []*x509.Certificate{{IsCA: true}}}, "guard: Config.Issuers[0] does not parse; wanted a certificate from x509.ParseCertificate: x509: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, err := New(tt.c)
			assert.Nil(t, g)
			assert.ErrorContains(t, err, tt.want)
		})
	}
}

func TestTheZeroConfigJudgesByTheBuiltInAdvisories(t *testing.T) {
	v := newGuard(t, Config{}).Judge(Snapshot{Certificate: testCard(t)}, at("2020-11-01T00:00:00Z"))
	assert.Equal(t, RuleSet{Version: advisory.Builtin().Version(), Issued: advisory.Builtin().Issued()}, v.RuleSet)
	assert.Equal(t, []NotChecked{
		{CheckChain, "the guard has no trusted roots to judge by"},
		{CheckRevocation, "the guard has no revocation lists to judge by"},
	}, v.NotChecked)
}

func TestWhatNobodyMadeRefuses(t *testing.T) {
	good := fakeCard{s: Snapshot{Certificate: testCard(t)}}
	for name, g := range map[string]*Guard{"nil": nil, "zero": {}} {
		t.Run(name, func(t *testing.T) {
			assert.False(t, g.Live())
			v, err := g.Check(t.Context(), good)
			var refused *Refused
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, []Reason{Unspecified}, reasonsOf(v))
			assert.Equal(t, DecisionRefused, v.Decision)
			assert.NotNil(t, v.NotChecked)
			v, err = g.CheckAt(t.Context(), nil, time.Time{})
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, DecisionRefused, v.Decision)
		})
	}
	// A Guard without a set cannot come from New.
	g := newGuard(t, Config{})
	g.source = &source{}
	g.last.Store(nil)
	v := g.Judge(good.s, at("2020-11-01T00:00:00Z"))
	assert.Equal(t, []Reason{RulesMissing}, reasonsOf(v))
	assert.Equal(t, DecisionUndecided, v.Decision)
}

func TestCheckIsNowAndCheckAtIsThen(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	started := time.Now()
	fresh := fakeCard{s: Snapshot{Certificate: ca.issue(t, started.AddDate(0, -1, 0).Truncate(time.Second))}}
	g := newGuard(t, Config{})
	v, err := g.Check(t.Context(), fresh)
	require.NoError(t, err)
	assert.Equal(t, DecisionAllowed, v.Decision)
	assert.False(t, v.At.Before(started.Round(0)) || v.At.After(time.Now()), v.At)
	assert.True(t, v.At == v.At.Round(0), "what the clock shows, without the monotonic reading that nobody can set back")
	v, err = g.CheckAt(t.Context(), fresh, started.AddDate(3, 0, 0))
	require.Error(t, err)
	assert.Equal(t, []Reason{Expired}, reasonsOf(v))

	v, err = Check(t.Context(), fresh)
	require.NoError(t, err)
	assert.Equal(t, advisory.Builtin().Version(), v.RuleSet.Version)
	old := fakeCard{s: Snapshot{Certificate: testCard(t)}}
	_, err = Check(t.Context(), old)
	var refused *Refused
	assert.ErrorAs(t, err, &refused)
}

func TestTheCardGetsTheContext(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "value")
	_, err := newGuard(t, Config{}).Check(ctx, cardFunc(func(got context.Context) (Snapshot, error) {
		assert.Equal(t, "value", got.Value(key{}))
		return Snapshot{}, ErrNoCard
	}))
	assert.ErrorContains(t, err, "card_absent")
}

type cardFunc func(context.Context) (Snapshot, error)

func (f cardFunc) Snapshot(ctx context.Context) (Snapshot, error) { return f(ctx) }

func TestARefreshReachesARunningGuardAndNeverGoesBack(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	in := Snapshot{Certificate: ca.issue(t, at("2026-02-01T12:00:00Z"))}
	when := at("2026-03-10T00:00:00Z")
	active := noticeBy(ca)
	resolved := noticeBy(ca, func(a *advisory.Advisory) { a.State, a.Revision, a.EndedAt = advisory.Resolved, 2, when })
	draft := noticeBy(ca, func(a *advisory.Advisory) { a.State, a.Revision = advisory.Draft, 2 })
	other := noticeBy(ca, func(a *advisory.Advisory) { a.ID, a.State = "other-2026", advisory.Draft })
	src := sourceOf(newSet(t, 2, active))
	g := newGuard(t, Config{Advisories: src, Issuers: []*x509.Certificate{ca.cert}})
	require.Equal(t, []Reason{Affected}, reasonsOf(g.Judge(in, when)))

	for _, bad := range []struct {
		name string
		set  *advisory.Set
		is   string
	}{
		{"no set", nil, "guard: the source of advisories has no set, or an empty one"},
		{"an empty set", new(advisory.Set), "guard: the source of advisories has no set, or an empty one"},
		{"a lower version", newSet(t, 1, resolved), "found set version 1 after version 2"},
		{"the advisory is gone", newSet(t, 3, other), "test-2026: found it gone while it is active"},
		{"the advisory is a draft again", newSet(t, 3, draft), "test-2026: state: found draft after active"},
		{"other content in the same version", newSet(t, 2, resolved), "found other content in a set of the same version"},
	} {
		src.set.Store(bad.set)
		for range 2 { // the second answer comes from what is known
			v := g.Judge(in, when)
			require.Equal(t, []Reason{Affected, RulesBackwards}, reasonsOf(v), bad.name)
			assert.Equal(t, uint64(2), v.RuleSet.Version, bad.name)
			assert.Contains(t, v.Findings[1].Is, bad.is, bad.name)
			assert.Equal(t, DecisionWarned, v.Findings[1].Effect)
		}
	}
	v := g.Judge(Snapshot{Certificate: ca.issue(t, at("2026-03-01T12:00:00Z"))}, when)
	assert.Equal(t, DecisionWarned, v.Decision, "the last good rules allow whom they allowed, and the warning shows")

	src.set.Store(newSet(t, 3, resolved))
	v = g.Judge(in, when)
	assert.Equal(t, []Reason{AffectedEnded}, reasonsOf(v))
	assert.Equal(t, uint64(3), v.RuleSet.Version)
	assert.True(t, g.Judge(in, when.Add(-time.Second)).Has(Affected))
}

// Two goroutines may see different sets. A set that does not follow an old one may
// well follow the one between: what was said of the first must not stick.
func TestARejectionHoldsForTheSetThatItWasComparedWith(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	s1 := newSet(t, 1, noticeBy(ca))
	resolved := noticeBy(ca, func(a *advisory.Advisory) {
		a.State, a.Revision, a.EndedAt = advisory.Resolved, 2, at("2026-03-10T00:00:00Z")
	})
	other := noticeBy(ca, func(a *advisory.Advisory) { a.ID, a.State = "other-2026", advisory.Draft })
	s2, s3 := newSet(t, 2, resolved, other), newSet(t, 3, other)
	require.Error(t, s3.Follows(s1))
	require.NoError(t, s3.Follows(s2))

	g := newGuard(t, Config{Advisories: s1})
	step := 0
	g.source = sourceFunc(func() *advisory.Set { // between this goroutine's two looks another one takes s2
		if step++; step == 1 {
			g.last.Store(adopt(s2))
		}
		return s3
	})
	set, err := g.rules()
	require.NoError(t, err)
	assert.Equal(t, s3.Version(), set.Version())

	src := sourceOf(s1)
	g = newGuard(t, Config{Advisories: src})
	src.set.Store(s3)
	_, err = g.rules()
	require.Error(t, err)
	src.set.Store(s2)
	_, err = g.rules()
	require.NoError(t, err)
	src.set.Store(s3)
	set, err = g.rules()
	require.NoError(t, err)
	assert.Equal(t, s3.Version(), set.Version())
}

type sourceFunc func() *advisory.Set

func (f sourceFunc) Current() *advisory.Set { return f() }

func TestAGuardIsForManyGoroutines(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	in := ca.issue(t, at("2026-02-01T12:00:00Z"))
	when := at("2026-03-10T00:00:00Z")
	sets := []*advisory.Set{newSet(t, 1, noticeBy(ca))}
	for v := uint64(2); v < 20; v++ {
		sets = append(sets, newSet(t, v, noticeBy(ca)))
	}
	src := sourceOf(sets[0])
	g := newGuard(t, Config{Advisories: src, Issuers: []*x509.Certificate{ca.cert}})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			last := uint64(0)
			for {
				v := g.Judge(Snapshot{Certificate: in}, when)
				if !assert.Equal(t, []Reason{Affected}, reasonsOf(v)) || !assert.GreaterOrEqual(t, v.RuleSet.Version, last) {
					return
				}
				last = v.RuleSet.Version
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for _, s := range sets[1:] {
		src.set.Store(s)
		g.Judge(Snapshot{Certificate: in}, when)
	}
	close(stop)
	wg.Wait()
	assert.Equal(t, uint64(19), g.Judge(Snapshot{Certificate: in}, when).RuleSet.Version)
}

func TestFindingsAreSharedByNoTwoVerdicts(t *testing.T) {
	g := newGuard(t, Config{})
	a, b := g.Judge(Snapshot{}, time.Time{}), g.Judge(Snapshot{Err: ErrNoCard}, time.Time{})
	assert.Equal(t, []Reason{NoSigningCertificate}, reasonsOf(a))
	assert.Equal(t, []Reason{CardAbsent}, reasonsOf(b))
	assert.Empty(t, noFindings)
	assert.Zero(t, cap(noFindings))
}

// A vendor may do what it likes with what it was handed: the next answer is the
// same.
func TestWhatWasHandedOutIsNotWhatIsJudged(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	when := at("2026-03-10T00:00:00Z")
	issuers := []*x509.Certificate{ca.cert}
	g := newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(ca)), Issuers: issuers})
	alter := func(x *x509.Certificate) {
		clear(x.Raw)
		clear(x.RawTBSCertificate)
		clear(x.AuthorityKeyId)
		x.KeyUsage, x.ExtKeyUsage, x.PublicKey = x509.KeyUsageContentCommitment, nil, nil
		x.NotBefore, x.NotAfter = when.Add(-time.Hour), when.Add(time.Hour)
		x.SerialNumber.SetInt64(1)
	}
	for name, c := range map[string]*Certificate{
		"affected": ca.issue(t, at("2026-02-01T12:00:00Z")),
		"expired":  ca.issue(t, at("2020-02-01T12:00:00Z")),
		"good":     ca.issue(t, at("2026-02-03T12:00:00Z")),
		"login":    ca.issue(t, at("2026-02-03T12:00:00Z"), func(x *x509.Certificate) { x.KeyUsage = x509.KeyUsageDigitalSignature }),
	} {
		fresh := func() *Guard {
			return newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(ca)), Issuers: []*x509.Certificate{ca.cert}})
		}
		want, info := fresh().Judge(Snapshot{Certificate: c}, when), c.Info()
		alter(c.X509())
		v := fresh().Judge(Snapshot{Certificate: c}, when)
		if name != "good" {
			v.Certificate = CertificateInfo{NotBefore: when.Add(-time.Hour), NotAfter: when.Add(time.Hour)}
		}
		for i := range v.Findings {
			v.Findings[i] = Finding{Effect: DecisionAllowed}
		}
		assert.Equal(t, want, fresh().Judge(Snapshot{Certificate: c}, when), name)
		assert.Equal(t, info, c.Info(), name)
	}
	c := ca.issue(t, at("2026-02-03T12:00:00Z"))
	v := g.Judge(Snapshot{Certificate: c}, when)
	v.Certificate.NotAfter = when.Add(-time.Hour)
	assert.NotEqual(t, v.Certificate.NotAfter, c.Info().NotAfter)
	assert.Equal(t, DecisionAllowed, g.Judge(Snapshot{Certificate: c}, when).Decision, "also where findings are none")

	in := ca.issue(t, at("2026-02-01T13:00:00Z"))
	alter(issuers[0])
	assert.True(t, g.Judge(Snapshot{Certificate: in}, when).Has(Affected), "the issuers too")
}

// hundred is a Guard with n active advisories, none of which covers the card:
// half by the key of its issuer, half by key identifier, each with its own window.
func hundred(t testing.TB, n int) (*Guard, fakeCard, time.Time) {
	ca := newAuthority(t, "CA", []byte{1, 2, 3})
	advisories := make([]*advisory.Advisory, n)
	for i := range advisories {
		day := at("2025-01-01T00:00:00Z").AddDate(0, 0, i)
		advisories[i] = noticeBy(ca, func(a *advisory.Advisory) {
			a.ID = fmt.Sprintf("test-%d", i)
			a.Match[0].NotBefore = &advisory.Window{From: day, To: day.AddDate(0, 0, 1)}
			if i%2 == 0 {
				a.Match[0].Issuer = &advisory.Issuer{AKI: [][]byte{{1, 2, 3}}}
			}
		})
	}
	g := newGuard(t, Config{Advisories: newSet(t, 1, advisories...), Issuers: []*x509.Certificate{ca.cert}})
	return g, fakeCard{s: Snapshot{Certificate: ca.issue(t, at("2026-02-01T12:00:00Z"))}}, at("2026-03-10T00:00:00Z")
}

func TestACheckWithoutFindingsAllocatesNothing(t *testing.T) {
	g, card, when := hundred(t, 100)
	ctx, c := t.Context(), Card(card)
	var err error
	assert.Zero(t, testing.AllocsPerRun(200, func() { _, err = g.CheckAt(ctx, c, when) }))
	require.NoError(t, err)
}

func TestErrorsAreToldApart(t *testing.T) {
	var refused *Refused
	var undecided *Undecided
	no, dontKnow := error(Verdict{}.Err()), Verdict{Decision: DecisionUndecided}.Err()
	assert.ErrorAs(t, no, &refused)
	assert.False(t, errors.As(no, &undecided))
	assert.ErrorAs(t, dontKnow, &undecided)
	assert.NotErrorAs(t, dontKnow, new(*Refused))
	for _, d := range []Decision{-1, 4, 99} {
		assert.ErrorAs(t, Verdict{Decision: d}.Err(), &refused)
	}
	assert.NoError(t, Verdict{Decision: DecisionWarned}.Err())
	assert.NoError(t, Verdict{Decision: DecisionAllowed}.Err())
}

// The decision must not be able to wait for a disk, a network or a card.
func TestImportsAreTheStandardLibraryAdvisoriesAndWeakKeys(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, i := range file.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			require.NoError(t, err)
			host, _, _ := strings.Cut(path, "/")
			assert.True(t, !strings.Contains(host, ".") || slices.Contains([]string{"github.com/rxguard/rxguard/guard/advisory", "github.com/rxguard/rxguard/guard/weakkey"}, path), "%s imports %s", name, path)
			assert.NotContains(t, []string{"C", "net", "net/http", "os", "os/exec", "io/fs", "syscall"}, path, name)
		}
	}
}

// A rule set is the source's to replace, never a holder's to edit in place.
func TestNobodyCanChangeTheRulesInForce(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	c := ca.issue(t, at("2026-02-01T12:00:00Z"))
	set := newSet(t, 1, noticeBy(ca))
	g := newGuard(t, Config{Advisories: set, Issuers: []*x509.Certificate{ca.cert}})
	when := at("2026-03-05T00:00:00Z")
	require.True(t, g.Judge(Snapshot{Certificate: c}, when).Has(Affected))

	a := set.At(0)
	a.State = advisory.Withdrawn
	a.Match[0].NotBefore.To = a.Match[0].NotBefore.From.Add(time.Second)
	a.Match[0].Issuer.AKI, a.Match[0].Issuer.SPKISHA256 = nil, nil
	v := g.Judge(Snapshot{Certificate: c}, when)
	assert.True(t, v.Has(Affected))
	assert.Equal(t, DecisionRefused, v.Decision)
}
