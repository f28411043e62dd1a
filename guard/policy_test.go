package guard

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/need"
)

// settingRow is what the documentation of Policy says of reasons under each action of
// a field. An empty outcome: the action is not legal there.
type settingRow struct {
	field                         string
	reasons                       []Reason
	byDefault, refuse, warn, none string
}

const off = "off"

// What the documentation says, written down once more by hand.
var settingRows = []settingRow{
	{"Validity", []Reason{NotYetValid, Expired, DatesImpossible}, "refused", "refused", "warned", off},
	{"Profile", []Reason{NotForSigning, CriticalExtension}, "refused", "refused", "warned", off},
	{"ProfileDetails", []Reason{KeyUsageNotCritical, KeyUsageExtra, ExtendedKeyUsage, PolicyMissing, UserIDMissing, SerialUnusual}, "warned", "refused", "", off},
	{"Chain", []Reason{ChainUntrusted, ChainExpired, ChainInvalid}, "refused", "refused", "warned", off},
	{"RevocationUnknown", []Reason{RevocationUnknown}, "warned", "undecided", "", ""},
	{"RevocationLapsed", []Reason{RevocationLapsed}, "undecided", "undecided", "warned", ""},
	{"WeakKey", []Reason{WeakKey}, "refused", "refused", "warned", off},
	{"WeakKey", []Reason{KeyNotJudged}, "undecided", "undecided", "undecided", off},
	{"KeySize", []Reason{KeyTooSmall}, "refused", "refused", "warned", off},
	{"KeySize", []Reason{KeySmall}, "warned", "refused", "warned", off},
	{"StaleRules", []Reason{RulesStale}, "warned", "undecided", "", ""},
	// Below what these reasons have of their own, since off turns the whole check off.
	{"Revocation", []Reason{Revoked, CARevoked}, "refused", "refused", "warned", off},
}

// What no policy has a say in.
var (
	alwaysStop = []Reason{
		Unspecified, CardAbsent, CardUnreadable, NoSigningCertificate, SeveralCertificates, CertificateDamaged, SimulatedCard,
		Affected, AffectedUndecidable, RulesMissing, OnHold, OnHoldRenewal, OnHoldLogin, HoldUnknown, ClockBehind,
	}
	alwaysSaid = []Reason{AffectedSoon, AffectedShadow, AffectedEnded, AffectedFixed, RulesBackwards, LifetimeUnusual, PrivateKeyUsagePassed}
)

func fieldOf(p *Policy, name string) *Action {
	return map[string]*Action{
		"Validity": &p.Validity, "Profile": &p.Profile, "ProfileDetails": &p.ProfileDetails, "Chain": &p.Chain,
		"Revocation": &p.Revocation, "RevocationUnknown": &p.RevocationUnknown, "RevocationLapsed": &p.RevocationLapsed,
		"WeakKey": &p.WeakKey, "KeySize": &p.KeySize, "StaleRules": &p.StaleRules,
	}[name]
}

func fieldNames() (names []string) {
	for _, row := range settingRows {
		if !slices.Contains(names, row.field) {
			names = append(names, row.field)
		}
	}
	return names
}

func (row *settingRow) outcome(a Action) string {
	return [...]string{row.byDefault, row.refuse, row.warn, row.none}[a]
}

func legal(field string, a Action) bool {
	i := slices.IndexFunc(settingRows, func(row settingRow) bool { return row.field == field })
	return settingRows[i].outcome(a) != ""
}

// outcome is what a policy makes of a reason: the name of an effect, or off.
func outcome(p *Policy, r Reason) string {
	if p.Revocation == UnsafeOff && slices.Contains([]Reason{Revoked, CARevoked, RevocationUnknown, RevocationLapsed, RevocationStale}, r) {
		return off
	}
	for _, row := range settingRows {
		if slices.Contains(row.reasons, r) {
			return row.outcome(*fieldOf(p, row.field))
		}
	}
	return descriptions[r].effect.String()
}

func TestEveryReasonHasASettingOrNone(t *testing.T) {
	all := append(slices.Clone(alwaysStop), alwaysSaid...)
	all = append(all, RevocationStale) // for Revocation alone, as off
	for _, row := range settingRows {
		all = append(all, row.reasons...)
	}
	slices.Sort(all)
	require.Equal(t, len(all), len(slices.Compact(slices.Clone(all))), "each once")
	assert.Len(t, all, int(reasons))
	byField := map[string][]Reason{}
	for _, row := range settingRows {
		byField[row.field] = append(byField[row.field], row.reasons...)
	}
	require.Len(t, settings, len(byField))
	for _, s := range settings {
		assert.ElementsMatch(t, byField[s.field], s.reasons, s.field)
	}
}

func TestEverySettingDoesWhatItSays(t *testing.T) {
	all := situations(t)
	before := map[Reason][]advisory.Remedy{}
	for r := range descriptions {
		before[Reason(r)] = slices.Clone(descriptions[r].remedies)
	}
	for _, row := range settingRows {
		for a := ByDefault; a < actions; a++ {
			for _, r := range row.reasons {
				t.Run(fmt.Sprintf("%s %s %s", row.field, a, r), func(t *testing.T) {
					var p Policy
					*fieldOf(&p, row.field) = a
					want := row.outcome(a)
					if want == "" {
						_, err := New(Config{Policy: p})
						assert.ErrorContains(t, err, "guard: Config.Policy."+row.field+" is "+a.String()+"; wanted ByDefault")
						return
					}
					v := all[r].judge(t, p)
					if want == off {
						assert.Empty(t, v.Findings)
						assert.Equal(t, DecisionAllowed, v.Decision)
						return
					}
					f := findingOf(t, v, r)
					assert.Equal(t, want, f.Effect.String())
					assert.Equal(t, want, v.Decision.String())
					paper := slices.ContainsFunc(f.Remedies, func(m advisory.Remedy) bool { return m.Kind == advisory.Paper })
					if f.Effect.Permits() {
						assert.True(t, strings.HasSuffix(f.Text, ". This alone does not stop you from signing."), f.Text)
						assert.NotContains(t, f.Text, "Nothing was signed")
						assert.False(t, paper, "who can still sign needs no paper")
					} else {
						assert.True(t, strings.HasSuffix(f.Text, ". Nothing was signed."), f.Text)
						assert.NotContains(t, f.Text, "stop you from signing")
						assert.True(t, paper, "what stops work names paper")
						assert.Greater(t, len(f.Remedies), 1, "and a way out")
					}
					assert.Equal(t, before[r], descriptions[r].remedies, "what is shared was left alone")
				})
			}
		}
	}
}

func TestRevocationOffTurnsTheWholeCheckOff(t *testing.T) {
	all := situations(t)
	for _, r := range []Reason{Revoked, CARevoked, RevocationLapsed, RevocationUnknown, RevocationStale} {
		for _, p := range []Policy{
			{Revocation: UnsafeOff}, {Revocation: UnsafeOff, RevocationUnknown: Refuse, RevocationLapsed: Refuse}, {Revocation: UnsafeOff, RevocationLapsed: UnsafeWarn},
		} {
			v := all[r].judge(t, p)
			assert.Empty(t, v.Findings, r)
			assert.Equal(t, CheckRevocation, v.NotChecked[0].Check, r)
		}
	}
}

func TestASettingThatDoesNotExistIsRefused(t *testing.T) {
	for _, field := range fieldNames() {
		for _, a := range []Action{-1, actions, 99} {
			var p Policy
			*fieldOf(&p, field) = a
			_, err := New(Config{Policy: p})
			assert.ErrorContains(t, err, fmt.Sprintf("guard: Config.Policy.%s is action %d; wanted ByDefault", field, int(a)))
		}
	}
	for want, p := range map[string]Policy{
		"guard: Config.Policy.RevocationUnknown is UnsafeOff; wanted ByDefault or Refuse":               {RevocationUnknown: UnsafeOff},
		"guard: Config.Policy.RevocationLapsed is UnsafeOff; wanted ByDefault, Refuse or UnsafeWarn":    {RevocationLapsed: UnsafeOff},
		"guard: Config.Policy.ProfileDetails is UnsafeWarn; wanted ByDefault, Refuse or UnsafeOff":      {ProfileDetails: UnsafeWarn},
		"guard: Config.Policy.Validity is action 7; wanted ByDefault, Refuse, UnsafeWarn or UnsafeOff":  {Validity: 7},
		"guard: Config.Policy.RefuseRSABelow is 1023; wanted 1024 to 16384 bits, or 0 for 1024":         {RefuseRSABelow: 1023},
		"guard: Config.Policy.RefuseRSABelow is -1; wanted 1024 to 16384 bits, or 0 for 1024":           {RefuseRSABelow: -1},
		"guard: Config.Policy.WarnRSABelow is 1024; wanted 2048 to 16384 bits, or 0 for 2048":           {WarnRSABelow: 1024},
		"guard: Config.Policy.WarnRSABelow is 16385; wanted 2048 to 16384 bits, or 0 for 2048":          {WarnRSABelow: 16385},
		"guard: Config.Policy.RenewalWindow is -1ns; wanted 0 for at any time, or how long before its ": {RenewalWindow: -1},
	} {
		_, err := New(Config{Policy: p})
		assert.ErrorContains(t, err, want)
	}
}

// P2, and what always refuses, under every policy: two Guards judge the same, one by
// the default policy, the other by any, and the difference is what the documentation
// says and no more.
func TestNoPolicyTurnsAroundWhatMustStop(t *testing.T) {
	all := situations(t)
	// The holds and errors that are laid over a situation, so that they meet all others.
	holds := []HoldState{NotHeld, NotHeld, HoldRenewal, HoldReseat, HoldLogin, HoldUnread, 77}
	cardErrors := []error{nil, nil, nil, ErrNoCard, ErrSeveralCertificates, context.DeadlineExceeded}
	legalOf := map[string][]Action{}
	for _, field := range fieldNames() {
		for a := ByDefault; a < actions; a++ {
			if legal(field, a) {
				legalOf[field] = append(legalOf[field], a)
			}
		}
	}
	need.Cases(t, 10_000)
	rapid.Check(t, func(t *rapid.T) {
		var p Policy
		for _, field := range fieldNames() {
			*fieldOf(&p, field) = rapid.SampledFrom(legalOf[field]).Draw(t, field)
		}
		p.RenewalWindow = rapid.SampledFrom([]time.Duration{0, SelfRenewalWindow}).Draw(t, "renewal window")
		s := all[Reason(rapid.IntRange(0, int(reasons)-1).Draw(t, "reason"))]
		s.seen.Hold.State = rapid.SampledFrom(holds).Draw(t, "hold")
		if err := rapid.SampledFrom(cardErrors).Draw(t, "card"); err != nil {
			s.seen.Err = err
		}
		if rapid.IntRange(0, 3).Draw(t, "behind") == 0 {
			config := s.config
			s.config = func() Config {
				c := config()
				c.Floor = knownPast(s.now.Add(time.Second))
				return c
			}
		}
		plain, v := s.judge(t, Policy{RenewalWindow: p.RenewalWindow}), s.judge(t, p)

		var want, got []string
		for _, f := range plain.Findings {
			if slices.Contains(alwaysStop, f.Reason) {
				require.Contains(t, v.Findings, f, "as it was: no setting speaks of it")
				require.False(t, v.Decision.Permits())
				require.Error(t, v.Err())
			}
			o := outcome(&p, f.Reason)
			if o != off {
				want = append(want, f.Reason.String()+" "+o)
			}
			if f.Effect == DecisionUndecided { // never a silent yes
				require.NotEqual(t, "allowed", o)
				require.True(t, o != off || slices.ContainsFunc(v.NotChecked, func(n NotChecked) bool { return n.Check == f.Check }), f.Reason)
			}
		}
		for _, f := range v.Findings {
			got = append(got, f.Reason.String()+" "+f.Effect.String())
		}
		slices.Sort(want)
		slices.Sort(got)
		require.Equal(t, want, got)
		require.True(t, slices.IsSortedFunc(v.Findings, func(a, b Finding) int { return int(a.Effect) - int(b.Effect) }))
	})
}

func TestWhatIsWeakerThanTheDefaultShowsInEveryVerdict(t *testing.T) {
	seen := situations(t)
	cards := map[string]Card{
		"good":       fakeCard{s: seen[RulesStale].seen},
		"refused":    fakeCard{s: seen[Expired].seen},
		"undecided":  fakeCard{err: ErrNoCard},
		"no card":    nil,
		"on hold":    fakeCard{s: seen[OnHold].seen},
		"unreadable": fakeCard{s: Snapshot{}},
	}
	for _, field := range fieldNames() {
		for a := ByDefault; a < actions; a++ {
			if !legal(field, a) {
				continue
			}
			var p Policy
			*fieldOf(&p, field) = a
			c := seen[Expired].config()
			c.Policy = p
			g := newGuard(t, c)
			for name, card := range cards {
				v, _ := g.CheckAt(t.Context(), card, judgedThen)
				now, _ := g.Check(t.Context(), card)
				assert.Equal(t, v.Weakened, now.Weakened)
				what := fmt.Sprintf("%s %s: %s", field, a, name)
				if a == ByDefault || a == Refuse {
					assert.Equal(t, []Weakening{}, v.Weakened, what)
					assert.Equal(t, []NotChecked{}, v.NotChecked, what)
					continue
				}
				require.Len(t, v.Weakened, 1, what)
				w := v.Weakened[0]
				assert.Equal(t, Weakening{"Policy." + field, a.String(), weakenedText[field][a]}, w, what)
				assert.NotEmpty(t, w.Text, what)
				assert.Contains(t, v.String(), "  weaker than the default: Policy."+field+" is "+a.String()+": "+w.Text+"\n", what)
				if a == UnsafeOff {
					require.Len(t, v.NotChecked, 1, what)
					assert.Contains(t, v.NotChecked[0].Why, "the policy turned it off ("+field+"): "+w.Text, what)
					assert.Contains(t, v.String(), "  not checked: "+string(v.NotChecked[0].Check)+": "+v.NotChecked[0].Why+"\n", what)
				} else {
					assert.Empty(t, v.NotChecked, what)
				}
			}
		}
	}
	v := newGuard(t, Config{Policy: Policy{Chain: UnsafeOff, Validity: UnsafeWarn}}).Judge(Snapshot{}, judgedThen)
	assert.Len(t, v.Weakened, 2)
	assert.Len(t, v.NotChecked, 3, "turned off, and never configured")
}

func TestSizesOfRSAKeys(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	for _, tt := range []struct {
		name string
		p    Policy
		want map[int]string // by length
	}{
		{"by default", Policy{}, map[int]string{1023: "key_too_small refused 1024", 1024: "key_small warned 2048", 2047: "key_small warned 2048", 2048: ""}},
		{"below 2048 refused", Policy{RefuseRSABelow: 2048}, map[int]string{1024: "key_too_small refused 2048", 2047: "key_too_small refused 2048", 2048: ""}},
		{"below 3072 warned", Policy{WarnRSABelow: 3072}, map[int]string{1023: "key_too_small refused 1024", 2048: "key_small warned 3072", 3072: ""}},
		{"refuse", Policy{KeySize: Refuse}, map[int]string{1023: "key_too_small refused 1024", 1024: "key_small refused 2048", 2047: "key_small refused 2048", 2048: ""}},
		{"warn", Policy{KeySize: UnsafeWarn}, map[int]string{1023: "key_too_small warned 1024", 2047: "key_small warned 2048", 2048: ""}},
		{"off", Policy{KeySize: UnsafeOff}, map[int]string{1023: "", 1024: "", 2047: "", 2048: ""}},
		{"refused below more than warned below", Policy{RefuseRSABelow: 3072}, map[int]string{2048: "key_too_small refused 3072", 3072: ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for bits, want := range tt.want {
				v := newGuard(t, Config{Policy: tt.p}).Judge(Snapshot{Certificate: ca.issue(t, at("2026-02-10T12:00:00Z"), withKey(rsaKeyOf(t, bits)))}, judgedThen)
				if want == "" {
					assert.Empty(t, v.Findings, bits)
					continue
				}
				require.Len(t, v.Findings, 1, bits)
				f := v.Findings[0]
				var least int
				_, err := fmt.Sscanf(f.Wanted, "an RSA key that is long enough: at least %d bits", &least)
				require.NoError(t, err, f.Wanted)
				assert.Equal(t, want, fmt.Sprintf("%s %s %d", f.Reason, f.Effect, least), bits)
				assert.Equal(t, fmt.Sprintf("RSA, %d bits", bits), f.Is)
			}
		})
	}
}

func TestActionsByName(t *testing.T) {
	assert.Equal(t, []string{"ByDefault", "Refuse", "UnsafeWarn", "UnsafeOff"}, []string{ByDefault.String(), Refuse.String(), UnsafeWarn.String(), UnsafeOff.String()})
	assert.Equal(t, "action -1", Action(-1).String())
	assert.Equal(t, ByDefault, Action(0), "what nobody filled in is the default")
}
