package advisory

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// exemplary has nothing that Lint would mention.
func exemplary(t testing.TB) string {
	return edited(t, plain,
		edit{clause0, `{"issuer": {"aki": ["0102"]}, "serials": {"inline": ["1", "2"]}}`},
		edit{"basis", `"serial_list"`}, edit{"expected_count", `2`},
		edit{"remedies", `[{"kind": "renew", "text": "Renew."}, {"kind": "registration_authority", "text": "See the RA."}, {"kind": "paper", "text": "Use paper."}]`})
}

func TestLintIsSilentAboutAGoodAdvisory(t *testing.T) {
	assert.Empty(t, mustParse(t, exemplary(t)).Lint())
}

func TestLintWarns(t *testing.T) {
	remedy := func(r string) edit {
		return edit{"remedies", `[{"kind": "registration_authority", "text": "See the RA."}, {"kind": "paper", "text": "Use paper."}, ` + r + `]`}
	}
	window := `"not_before": {"from": "2026-02-01T00:00:00Z", "to": "2026-02-02T00:00:00Z"}`
	for _, tt := range []struct {
		name  string
		edits []edit
		want  string
	}{
		{"a long title", []edit{{"title", `"` + strings.Repeat("a", 121) + `"`}}, "title: 121 characters"},
		{"active without announcement", []edit{{"block_from", ""}}, "block_from: absent"},
		{"active without a date", []edit{{"renew_by", ""}}, "renew_by: absent"},
		{"a draft", []edit{{"state", `"draft"`}}, "state: draft"},
		{"a window without serials", []edit{{clause0, `{"issuer": {"aki": ["0102"]}, ` + window + `}`}, {"basis", `"issuance_log"`}}, "match.any[0].not_before: a window without serials"},
		{"an open-ended window", []edit{{clause0 + ".not_before", `{"from": "2026-02-01T00:00:00Z"}`}}, "match.any[0].not_before.to: open-ended"},
		{"a whole issuer", []edit{{clause0, `{"issuer": {"aki": ["0102"]}}`}, {"basis", `"issuance_log"`}}, "match.any[0]: neither window"},
		{"an issuer by key alone", []edit{{clause0 + ".issuer", anyKey}}, "match.any[0].issuer.aki: absent"},
		{"any issuer", []edit{{clause0, `{"issuer": "any", ` + window + `}`}, {"basis", `"assumed"`}}, `match.any[0].issuer: "any"`},
		{"an assumption", []edit{{"basis", `"assumed"`}}, "basis: assumed"},
		{"a basis without note", []edit{{"basis_note", ""}}, "basis_note: absent"},
		{"no RA", []edit{{"remedies", `[{"kind": "paper", "text": "Use paper."}]`}}, "remedies: no registration_authority"},
		{"no paper", []edit{{"remedies", `[{"kind": "registration_authority", "text": "See the RA."}]`}}, "remedies: no paper"},
		{"a renewal that cannot work", []edit{{"card_may_authenticate", `false`}, remedy(`{"kind": "renew", "text": "Renew."}`)}, "remedies: renew is offered"},
		{"a service desk without phone", []edit{remedy(`{"kind": "service_desk", "text": "Call."}`)}, "remedies[2].phone: absent"},
		{"a portal without TLS", []edit{remedy(`{"kind": "portal", "text": "Go.", "url": "http://portal.example"}`)}, "remedies[2].url: http"},
		{"a long remedy", []edit{remedy(`{"kind": "portal", "text": "` + strings.Repeat("a", 301) + `"}`)}, "remedies[2].text: 301 characters"},
		{"a short message", []edit{{"message", `"Renew."`}}, "message: 6 characters: too short"},
		{"a long message", []edit{{"message", `"` + strings.Repeat("é", 601) + `"`}}, "message: 601 characters, better at most 600"},
		{"jargon", []edit{{"message", `"Your Certificate was issued badly, please renew it."`}}, `message: "certificate" is not a word`},
		{"no reference", []edit{{"references", ""}}, "references: absent"},
		{"no expected count", []edit{{"expected_count", ""}}, "expected_count: absent"},
		{"another count than listed", []edit{{"expected_count", `3`}}, "expected_count: 3, but 2 serials are listed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc := exemplary(t)
			if strings.HasPrefix(tt.want, "match.any[0].not_before.to") {
				tt.edits = append(tt.edits, edit{"fixed_when", `[{"not_before": {"from": "2026-02-02T00:00:00Z"}}]`})
			}
			assert.Contains(t, strings.Join(mustParse(t, edited(t, doc, tt.edits...)).Lint(), "\n"), tt.want)
		})
	}
	assert.NotEmpty(t, (&Advisory{}).Lint(), "a zero advisory does not panic")
}
