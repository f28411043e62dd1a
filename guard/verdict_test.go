package guard

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/advisory"
)

// goldenGuard judges by the notices of testdata: one on trial, one that was
// resolved on 1 October 2020.
func goldenGuard(t testing.TB, changes ...func(*Config)) *Guard {
	t.Helper()
	docs := map[string][]byte{}
	for order, name := range map[string]string{"1": "trial.json", "2": "notice.json"} {
		b, err := os.ReadFile("testdata/" + name)
		require.NoError(t, err)
		docs[order] = b
	}
	set, err := advisory.ParseSet(12, at("2020-10-01T14:00:00Z"), docs, nil)
	require.NoError(t, err)
	c := Config{Advisories: set}
	for _, change := range changes {
		change(&c)
	}
	return newGuard(t, c)
}

var goldenVerdicts = map[string]string{
	"refused":  "2020-09-30T09:00:00Z",
	"allowed":  "2020-10-02T09:00:00Z",
	"weakened": "2020-09-30T09:00:00Z",
}

// rooted is a Guard that trusts the authority of the card, and is weaker than the
// default, but offers renewal late.
func rooted(t testing.TB) func(*Config) {
	return func(c *Config) {
		b, err := os.ReadFile("testdata/ca.pem")
		require.NoError(t, err)
		ca, err := ParseCertificate(b)
		require.NoError(t, err)
		c.Roots = []*x509.Certificate{ca.X509()}
		c.Policy = Policy{Validity: UnsafeWarn, WeakKey: UnsafeOff, RenewalWindow: SelfRenewalWindow}
	}
}

func goldenVerdict(t testing.TB, name string) Verdict {
	var changes []func(*Config)
	if name == "weakened" {
		changes = append(changes, rooted(t))
	}
	return goldenGuard(t, changes...).Judge(Snapshot{Certificate: testCard(t), Serial: "0123456789", Label: "test card", Simulated: true}, at(goldenVerdicts[name]))
}

func golden(t *testing.T, name string) string {
	b, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	return string(b)
}

// The JSON form is kept in records and read by others: it changes with
// VerdictVersion only. The files were checked by hand against the notices and what
// openssl prints of the certificate; nothing rewrites them.
func TestVerdictAsJSON(t *testing.T) {
	for name := range goldenVerdicts {
		v := goldenVerdict(t, name)
		b, err := json.MarshalIndent(v, "", "  ")
		require.NoError(t, err)
		assert.Equal(t, golden(t, "verdict-"+name+".json"), string(b)+"\n")

		var back Verdict
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		require.NoError(t, d.Decode(&back))
		assert.Equal(t, v, back, "what is written reads back")
	}
}

func TestVerdictForAPerson(t *testing.T) {
	for name := range goldenVerdicts {
		assert.Equal(t, golden(t, "verdict-"+name+".txt"), goldenVerdict(t, name).String())
	}
}

func TestEveryVerdictReadsBack(t *testing.T) {
	names, of := screens(t)
	for r, s := range situations(t) {
		for i, p := range []Policy{{}, {RenewalWindow: SelfRenewalWindow}, {Validity: UnsafeWarn, Chain: UnsafeOff, KeySize: Refuse}} {
			name := fmt.Sprintf("%s by policy %d", r, i)
			names = append(names, name)
			of[name] = s.judge(t, p)
		}
	}
	for _, name := range names {
		v := of[name]
		b, err := json.Marshal(v)
		require.NoError(t, err, name)
		if v.Version != 0 { // 0: nobody made it
			assert.Equal(t, VerdictVersion, v.Version)
			assert.NotContains(t, string(b), "null", name)
		}
		var back Verdict
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		require.NoError(t, d.Decode(&back), name)
		assert.Equal(t, v, back, name)
		assert.Equal(t, v.String(), back.String(), name)
		assert.Equal(t, v.ForPrescriber(), back.ForPrescriber(), name)
		assert.Equal(t, v.Err() == nil, back.Err() == nil, name)
	}
}

func TestAVerdictHasListsAndNotNull(t *testing.T) {
	for name, g := range map[string]*Guard{"nil": nil, "made": newGuard(t, Config{})} {
		for _, s := range []Snapshot{{}, {Certificate: testCard(t)}} {
			b, err := json.Marshal(g.Judge(s, at("2021-01-01T00:00:00Z")))
			require.NoError(t, err)
			assert.NotContains(t, string(b), "null", name)
			assert.Contains(t, string(b), `"version":2,`)
		}
	}
	v := newGuard(t, Config{}).Judge(Snapshot{Certificate: newAuthority(t, "CA", nil).issue(t, at("2020-12-01T00:00:00Z"))}, at("2021-01-01T00:00:00Z"))
	b, err := json.Marshal(v)
	require.NoError(t, err)
	assert.Contains(t, string(b), `"findings":[],`)
}

func TestTheZeroVerdictRefuses(t *testing.T) {
	var v Verdict
	assert.False(t, v.Decision.Permits())
	var refused *Refused
	require.ErrorAs(t, v.Err(), &refused)
	assert.EqualError(t, v.Err(), "guard: refused: no check was made")
	assert.False(t, refused.RenewalHelps())
	assert.False(t, v.Has(Unspecified))
	assert.Equal(t, "REFUSED as of 0001-01-01 00:00:00 UTC\n", v.String())
	b, err := json.Marshal(v)
	require.NoError(t, err)
	assert.Contains(t, string(b), `"decision":"refused"`)
	assert.EqualError(t, &Undecided{}, "guard: undecided: no check was made")
}

func TestAnErrorNamesTheWeightiestFinding(t *testing.T) {
	v := goldenVerdict(t, "refused")
	assert.EqualError(t, v.Err(), "guard: refused: affected by test-2020: Your smartcard must be renewed before you sign any further prescriptions. "+
		"Nothing was signed. Please renew your card. It takes three minutes "+
		"(issuer CN=Test Issuing CA,OU=CA,O=rxguard simulation, serial 5f72f6d1, issued 2020-09-29 09:00:00 UTC)")
	v = goldenGuard(t).Judge(Snapshot{Err: errors.Join(ErrNoCard, errors.New("slot 3"))}, at("2020-10-02T09:00:00Z"))
	assert.EqualError(t, v.Err(), "guard: undecided: card_absent: There is no smartcard in the reader. Nothing was signed (no card is in the reader\uFFFDslot 3)")
}

func TestWhetherRenewalHelps(t *testing.T) {
	affected := func(mayAuthenticate bool) Finding {
		f := finding(Affected)
		f.Advisory = &AdvisoryRef{ID: "a", CardMayAuthenticate: mayAuthenticate}
		return f
	}
	for _, tt := range []struct {
		name string
		fs   []Finding
		want bool
	}{
		{"nothing was found", nil, false},
		{"affected", []Finding{affected(true)}, true},
		{"affected twice", []Finding{affected(true), affected(true)}, true},
		{"affected, the card may not log in", []Finding{affected(false)}, false},
		{"affected twice, once the card may not log in", []Finding{affected(true), affected(false)}, false},
		{"affected by nobody knows what", []Finding{finding(Affected)}, false},
		{"affected, and a warning", []Finding{affected(true), finding(PrivateKeyUsagePassed)}, true},
		{"affected, and expired", []Finding{affected(true), finding(Expired)}, false},
		{"affected, and on hold", []Finding{affected(true), finding(OnHold)}, false},
		{"affected, and undecidable by another", []Finding{affected(true), finding(AffectedUndecidable)}, false},
		{"expired", []Finding{finding(Expired)}, false},
		{"affected soon", []Finding{finding(AffectedSoon)}, false},
	} {
		assert.Equal(t, tt.want, (&Refused{Verdict{Findings: tt.fs}}).RenewalHelps(), tt.name)
	}
}

// A card says what it likes: its label or its certificate's names must not look
// like a line of the verdict, nor steer a terminal.
func TestAHostileCardDoesNotWriteTheVerdict(t *testing.T) {
	hostile := "x\n  allowed: all is well\x1b[2J\u2028\x00\u0085"
	v := Verdict{
		Card:        CardInfo{Serial: hostile, Label: hostile, Simulated: true},
		Certificate: CertificateInfo{Issuer: hostile, Serial: "1"},
		Findings:    []Finding{{Text: "t", Is: hostile, Wanted: hostile, Advisory: &AdvisoryRef{Title: hostile, Note: hostile}}},
		NotChecked:  []NotChecked{{Why: hostile}},
	}
	for name, s := range map[string]string{"verdict": v.String(), "card": v.Card.String(), "error": v.Err().Error()} {
		for line := range strings.Lines(s) {
			assert.NotRegexp(t, `^\s*allowed`, line, name)
			assert.NotContains(t, strings.TrimSuffix(line, "\n"), "\n", name)
		}
		assert.NotRegexp(t, "[\\x00-\\x09\\x0b-\\x1f\\x7f\u0085\u2028]", s, name)
	}
}

func TestCardInfoForAPerson(t *testing.T) {
	for want, c := range map[string]CardInfo{
		"":                                   {},
		"serial 01":                          {Serial: "01"},
		"label a card, simulated":            {Label: "a card", Simulated: true},
		"serial 01, label a card, simulated": {Serial: "01", Label: "a card", Simulated: true},
	} {
		assert.Equal(t, want, c.String())
	}
}

func TestHas(t *testing.T) {
	v := goldenVerdict(t, "refused")
	assert.True(t, v.Has(Affected))
	assert.True(t, v.Has(AffectedShadow))
	assert.False(t, v.Has(Expired))
}
