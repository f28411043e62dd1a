package advisory

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/internal/need"
)

// answer is what one advisory says.
type answer struct {
	id string
	m  Membership
}

// answersOf collects what the set yields.
func answersOf(s *Set, f *Facts) (out []answer) {
	for a, m := range s.Judge(f) {
		out = append(out, answer{a.ID, m})
	}
	return out
}

// oneByOne asks each advisory.
func oneByOne(s *Set, f *Facts) (out []answer) {
	for a := range s.All() {
		if m := a.Judge(f); m.In != No || m.Fixed {
			out = append(out, answer{a.ID, m})
		}
	}
	return out
}

// drawn makes clauses and certificates out of so few keys, identifiers and instants
// that they often meet.
type drawn struct{ *rapid.T }

var (
	fewKeys = [][32]byte{sum("a"), sum("b"), sum("c")}
	fewIDs  = [][]byte{{1}, {2}, {1, 2}}
	noon    = at("2026-02-01T12:00:00Z")
	moments = []time.Time{
		{}, time.Unix(-1<<62, 0), noon.Add(-time.Second), noon, noon.Add(time.Nanosecond), noon.Add(time.Second - 1),
		noon.Add(time.Second).In(time.FixedZone("", 3600)), noon.Add(2 * time.Second), at("9999-12-31T23:59:59Z"), time.Unix(1<<40, 0),
		time.Unix(math.MaxInt64, 0), // which wraps, and is before everything
	}
)

func (t drawn) keys(most int) [][32]byte {
	return rapid.SliceOfN(rapid.SampledFrom(fewKeys), 0, most).Draw(t.T, "keys")
}

func (t drawn) one(n int, what string) bool { return rapid.IntRange(1, n).Draw(t.T, what) == 1 }

func (t drawn) clause() (c Clause) {
	if !t.one(6, "no issuer") {
		c.Issuer = &Issuer{SPKISHA256: t.keys(2), AKI: rapid.SliceOfN(rapid.SampledFrom(fewIDs), 0, 2).Draw(t.T, "aki")}
		c.Issuer.Any = t.one(8, "any")
	}
	if !t.one(3, "no window") {
		c.NotBefore = &Window{From: rapid.SampledFrom(moments).Draw(t.T, "from"), To: rapid.SampledFrom(moments).Draw(t.T, "to")}
	}
	if t.one(4, "weak key") {
		c.WeakKey = []string{"roca"}
	}
	return c
}

func (t drawn) clauses(least, most int) (out []Clause) {
	for range rapid.IntRange(least, most).Draw(t.T, "clauses") {
		out = append(out, t.clause())
	}
	return out
}

func (t drawn) facts() Facts {
	return Facts{
		NotBefore:      rapid.SampledFrom(moments).Draw(t.T, "issued"),
		AKI:            rapid.SampledFrom(append(fewIDs, nil)).Draw(t.T, "aki"),
		IssuerSPKI:     t.keys(10),
		NotIssuerSPKI:  t.keys(2),
		IssuerKnown:    rapid.Bool().Draw(t.T, "issuer known"),
		WeakKeysJudged: rapid.Bool().Draw(t.T, "judged"),
		WeakKeys:       rapid.SampledFrom([][]string{nil, {"roca"}}).Draw(t.T, "weak"),
	}
}

// P2: what cannot be told stays unknown, for every advisory of a set.
func TestASetSaysWhatEachOfItsAdvisoriesSays(t *testing.T) {
	said := map[Truth]int{}
	need.Cases(t, 50_000)
	rapid.Check(t, func(rt *rapid.T) {
		t := drawn{rt}
		s := &Set{}
		for i := range rapid.IntRange(0, 12).Draw(rt, "advisories") {
			s.advisories = append(s.advisories, &Advisory{ID: fmt.Sprint(i), Match: t.clauses(1, 4), Except: t.clauses(0, 1), FixedWhen: t.clauses(0, 1)})
		}
		s.index = newIndex(s.advisories)
		s = s.Clone()
		for range 20 {
			f := t.facts()
			want := oneByOne(s, &f)
			require.Equal(rt, want, answersOf(s, &f))
			for _, a := range want {
				said[a.m.In]++
			}
		}
	})
	t.Logf("answers: %d yes, %d unknown, %d fixed", said[Yes], said[Unknown], said[No])
	assert.NotZero(t, said[Yes])
	assert.NotZero(t, said[Unknown])
	assert.NotZero(t, said[No])
}

// others is a set of n advisories, each of another authority and day, of which the
// last is of the usual one.
func others(t testing.TB, n int, id func(i int) string) *Set {
	t.Helper()
	docs := make([]string, n)
	for i := range docs {
		day := at("2026-02-01T00:00:00Z").AddDate(0, 0, -i)
		if i == n-1 {
			day = at("2026-02-01T00:00:00Z")
		}
		docs[i] = edited(t, plain, edit{"id", fmt.Sprintf(`"test-%d"`, i)},
			edit{clause0 + ".issuer", id(i)},
			edit{clause0 + ".not_before", fmt.Sprintf(`{"from": "%s", "to": "%s"}`, show(day), show(day.AddDate(0, 0, 1)))},
			edit{"fixed_when", fmt.Sprintf(`[{"not_before": {"from": "%s"}}]`, show(day.AddDate(0, 0, 1)))})
	}
	return mustSet(t, 1, issued, docs...)
}

func TestOnlyAdvisoriesOfTheIssuerAreLookedAt(t *testing.T) {
	const n = 100
	key := func(i int) string { return fmt.Sprintf(`{"spki_sha256": ["%064x"]}`, i+1) }
	aki := func(i int) string { return fmt.Sprintf(`{"aki": ["%04x"]}`, i+1) }
	both := func(i int) string { return fmt.Sprintf(`{"spki_sha256": ["%064x"], "aki": ["%04x"]}`, i+1, i+1) }
	f := usual()
	f.AKI, f.IssuerSPKI = []byte{0, n}, [][32]byte{{31: n}}
	for name, id := range map[string]func(int) string{"by key": key, "by key identifier": aki, "by both": both} {
		t.Run(name, func(t *testing.T) {
			s := others(t, n, id)
			var lists [maxLists][]entry
			looked := 0
			for _, l := range lists[:s.index.lists(&f, &lists)] {
				looked += len(l)
			}
			assert.LessOrEqual(t, looked, 2, "one advisory, by key and by identifier")
			assert.Equal(t, []answer{{"test-99", Membership{In: Yes}}}, answersOf(s, &f))

			unknown := f
			unknown.IssuerKnown, unknown.AKI = false, nil
			got := answersOf(s, &unknown)
			require.Len(t, got, 2, "those whose window has it")
			for _, a := range got {
				assert.Equal(t, Membership{In: Unknown, Clause: -1, NotKnown: issuerUnknown}, a.m)
			}
			assert.Equal(t, oneByOne(s, &unknown), got)
		})
	}
}

func TestASetCanBeLeftEarly(t *testing.T) {
	s := mustSet(t, 1, issued, openEnded, edited(t, openEnded, edit{"id", `"test-open-2"`}))
	f := usual()
	f.NotBefore = at("2026-02-01T12:00:00Z")
	require.Len(t, answersOf(s, &f), 2)
	for a := range s.Judge(&f) {
		assert.Equal(t, "test-open", a.ID)
		break
	}
	var none Set
	assert.Empty(t, answersOf(&none, &f))
}

func TestJudgingBySetAllocatesNothing(t *testing.T) {
	s := others(t, 50, func(i int) string { return fmt.Sprintf(`{"spki_sha256": ["%064x"], "aki": ["%04x"]}`, i%3, i%3) })
	f := usual()
	f.AKI, f.IssuerSPKI = []byte{0, 1}, [][32]byte{{31: 1}}
	n := 0
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		for a, m := range s.Judge(&f) {
			if m.In == Yes && a.State == Active {
				n++
			}
		}
	}))
	assert.Equal(t, 101, n)
}

func BenchmarkJudgeSet(b *testing.B) {
	f := usual()
	f.AKI, f.IssuerSPKI = []byte{0, 1}, [][32]byte{{31: 1}}
	f.NotBefore = at("2026-03-01T12:00:00Z")
	for _, tt := range []struct {
		name string
		n    int
		id   func(i int) string
	}{
		{"own=1", 1, func(int) string { return fmt.Sprintf(`{"spki_sha256": ["%064x"]}`, 1) }},
		{"own=100", 100, func(int) string { return fmt.Sprintf(`{"spki_sha256": ["%064x"]}`, 1) }},
		{"others=1000", 1000, func(i int) string { return fmt.Sprintf(`{"spki_sha256": ["%064x"]}`, i+2) }},
	} {
		b.Run(tt.name, func(b *testing.B) {
			s := others(b, tt.n, tt.id)
			b.ReportAllocs()
			for b.Loop() {
				for range s.Judge(&f) {
					b.Fatal("nobody is affected")
				}
			}
		})
	}
}
