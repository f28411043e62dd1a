package advisory

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
)

func TestBuiltinIsTheNoticeOf2020(t *testing.T) {
	s := Builtin()
	assert.Same(t, s, Builtin())
	assert.Equal(t, uint64(1), s.Version())
	require.Equal(t, 1, s.Len())
	a := s.At(0)
	assert.Equal(t, Resolved, a.State)
	assert.Equal(t, at("2020-10-01T13:50:00Z"), a.EndedAt)
	assert.Equal(t, Assumed, a.Basis)
	assert.Contains(t, a.BasisNote, "Assumed by the rxguard project")
	assert.True(t, a.CardMayAuthenticate)
	assert.Equal(t, []Clause{{Issuer: &Issuer{Any: true}, NotBefore: &Window{From: at("2020-09-23T00:00:00Z"), To: at("2020-09-30T00:00:00Z")}}}, a.Match)
	requireSchemaAccepts(t, string(notice2020))
}

func TestBuiltinPhasesAtTheirBoundaries(t *testing.T) {
	a := Builtin().At(0)
	for _, tt := range []struct {
		at   string
		want Phase
	}{
		{"2020-09-29T23:59:59Z", Announced},
		{"2020-09-30T00:00:00Z", Enforced},
		{"2020-09-30T09:00:00Z", Enforced},
		{"2020-10-01T13:49:59Z", Enforced},
		{"2020-10-01T13:50:00Z", Ended},
		{"2020-10-02T09:00:00Z", Ended},
		{"2026-01-01T00:00:00Z", Ended},
	} {
		assert.Equal(t, tt.want, a.At(at(tt.at)), tt.at)
	}
}

func TestBuiltinPopulationAtItsBoundaries(t *testing.T) {
	a := Builtin().At(0)
	for _, tt := range []struct {
		issued string
		want   Truth
	}{
		{"2020-09-22T23:59:59Z", No},
		{"2020-09-23T00:00:00Z", Yes},
		{"2020-09-23T00:00:01Z", Yes},
		{"2020-09-29T12:00:00Z", Yes},
		{"2020-09-29T23:59:59Z", Yes},
		{"2020-09-30T00:00:00Z", No},
		{"2020-09-30T00:00:01Z", No},
	} {
		m := a.Judge(&Facts{NotBefore: at(tt.issued)})
		assert.Equal(t, tt.want, m.In, tt.issued)
		assert.False(t, m.Fixed, tt.issued)
	}
}

// What the notice says and the document repeats: the steps in their order, the
// phone number, the date and the end.
func TestBuiltinAgreesWithTheNotice(t *testing.T) {
	notice := strings.Join(strings.Fields(string(need.Read(t, "notice-2020.txt"))), " ")
	a := Builtin().At(0)
	var kinds []RemedyKind
	for _, r := range a.Remedies {
		kinds = append(kinds, r.Kind)
		if r.Phone != "" {
			assert.Contains(t, notice, r.Phone)
		}
	}
	assert.Equal(t, []RemedyKind{Renew, Portal, Reseat, ITSupport, RegistrationAuthority, ServiceDesk, Paper}, kinds)
	assert.Contains(t, notice, "before 4 October 2020")
	assert.Equal(t, at("2020-10-04T00:00:00+01:00"), a.RenewBy.In(at("2020-10-04T00:00:00+01:00").Location()), "midnight in UK time")
	assert.Contains(t, notice, "Last edited: 1 October 2020 2:50 pm")
	assert.True(t, at("2020-10-01T14:50:00+01:00").Equal(a.EndedAt))

	// Our own words: no run of eight words is the notice's.
	word := regexp.MustCompile(`[a-z0-9]+`)
	theirs := " " + strings.Join(word.FindAllString(strings.ToLower(notice), -1), " ") + " "
	ours := []string{a.Title, a.Message, a.BasisNote}
	for _, r := range a.Remedies {
		ours = append(ours, r.Text)
	}
	for _, text := range ours {
		words := word.FindAllString(strings.ToLower(text), -1)
		for i := 0; i+8 <= len(words); i++ {
			assert.NotContains(t, theirs, " "+strings.Join(words[i:i+8], " ")+" ")
		}
	}
}

func TestBuiltinSaysWhatIsWeakAboutIt(t *testing.T) {
	lint := strings.Join(Builtin().At(0).Lint(), "\n")
	assert.Contains(t, lint, `match.any[0].issuer: "any"`)
	assert.Contains(t, lint, "basis: assumed")
	assert.NotContains(t, lint, "message:", "plain words, and not too many")
}
