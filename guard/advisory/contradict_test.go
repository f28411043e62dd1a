package advisory_test

import (
	"crypto/x509"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
)

// Advisories that contradict one another over one card: the strictest that is active
// wins, whatever the order of the set, and every one of them is shown.
func TestTheStrictestOfContradictingAdvisoriesWins(t *testing.T) {
	authorities, cards := modelCards(t)
	key := fmt.Sprintf(`{"aki": ["%x"]}`, authorities[configured].SubjectKeyId)
	unknown := fmt.Sprintf(`{"spki_sha256": ["%064x"]}`, 1)
	const (
		active   = `"state": "active", "block_from": "2026-03-02T00:00:00Z"`
		later    = `"state": "active", "block_from": "2026-03-20T00:00:00Z"`
		shadow   = `"state": "shadow"`
		resolved = `"state": "resolved", "ended_at": "2026-03-05T00:00:00Z"`
		withdraw = `"state": "withdrawn", "ended_at": "2026-03-05T00:00:00Z"`
		window   = `"not_before": {"from": "2026-02-01T00:00:00Z", "to": "2026-02-02T00:00:00Z"}`
		good     = `, "fixed_when": [{"policy_oid": ["` + guard.SigningPolicy + `"]}]`
		excepted = `, "except": [{"policy_oid": ["` + guard.SigningPolicy + `"]}]`
	)
	document := func(id, issuer, state, more string) string {
		return fmt.Sprintf(`{"id": "%s", "revision": 1, %s, "title": "t", "message": "m", "basis": "issuance_log",
			"published": "2026-03-01T00:00:00Z", "modified": "2026-03-01T00:00:00Z", "match": {"any": [{"issuer": %s, %s}]}%s,
			"card_may_authenticate": true, "remedies": [{"kind": "renew", "text": "Renew."}]}`, id, state, issuer, window, more)
	}
	for _, tt := range []struct {
		name     string
		docs     []string
		decision guard.Decision
		shown    []guard.Reason // the first is the strictest
	}{
		{"one refuses, one calls the card good", []string{document("bad", key, active, ""), document("good", key, active, good)},
			guard.DecisionRefused, []guard.Reason{guard.Affected, guard.AffectedFixed}},
		{"one refuses, one makes an exception", []string{document("bad", key, active, ""), document("but", key, active, excepted)},
			guard.DecisionRefused, []guard.Reason{guard.Affected}},
		{"one refuses now, one later", []string{document("now", key, active, ""), document("soon", key, later, "")},
			guard.DecisionRefused, []guard.Reason{guard.Affected, guard.AffectedSoon}},
		{"one refuses, one is in trial", []string{document("bad", key, active, ""), document("trial", key, shadow, "")},
			guard.DecisionRefused, []guard.Reason{guard.Affected, guard.AffectedShadow}},
		{"one refuses, one has ended", []string{document("bad", key, active, ""), document("over", key, resolved, "")},
			guard.DecisionRefused, []guard.Reason{guard.Affected, guard.AffectedEnded}},
		{"one refuses, one was wrong", []string{document("bad", key, active, ""), document("wrong", key, withdraw, "")},
			guard.DecisionRefused, []guard.Reason{guard.Affected, guard.AffectedEnded}},
		{"two refuse", []string{document("one", key, active, ""), document("two", key, active, "")},
			guard.DecisionRefused, []guard.Reason{guard.Affected, guard.Affected}},
		{"one refuses, of one it cannot be told", []string{document("bad", key, active, ""), document("who", unknown, active, "")},
			guard.DecisionRefused, []guard.Reason{guard.Affected, guard.AffectedUndecidable}},
		{"of one it cannot be told, one calls the card good", []string{document("who", unknown, active, ""), document("good", key, active, good)},
			guard.DecisionUndecided, []guard.Reason{guard.AffectedUndecidable, guard.AffectedFixed}},
		{"of one it cannot be told, one refuses later", []string{document("who", unknown, active, ""), document("soon", key, later, "")},
			guard.DecisionUndecided, []guard.Reason{guard.AffectedUndecidable, guard.AffectedSoon}},
		{"one refuses later, one has ended", []string{document("soon", key, later, ""), document("over", key, resolved, "")},
			guard.DecisionWarned, []guard.Reason{guard.AffectedSoon, guard.AffectedEnded}},
	} {
		for _, order := range []string{"the strictest first", "the strictest last"} {
			t.Run(tt.name+", "+order, func(t *testing.T) {
				var all []*advisory.Advisory
				for _, doc := range tt.docs {
					a, err := advisory.Parse([]byte(doc), nil)
					require.NoError(t, err)
					all = append(all, a)
				}
				if order == "the strictest last" {
					slices.Reverse(all)
				}
				set, err := advisory.NewSet(1, hour(0), all...)
				require.NoError(t, err)
				c := guard.Config{Advisories: set}
				if !slices.Contains(tt.shown, guard.AffectedUndecidable) {
					c.Issuers = []*x509.Certificate{authorities[configured]}
				}
				g, err := guard.New(c)
				require.NoError(t, err)
				v := g.Judge(guard.Snapshot{Certificate: cards[configured][0]}, time.Date(2026, 3, 10, 0, 0, 0, 0, time.UTC))
				assert.Equal(t, tt.decision, v.Decision)
				var shown []guard.Reason
				for _, f := range v.Findings {
					if f.Advisory != nil {
						shown = append(shown, f.Reason)
					}
				}
				assert.ElementsMatch(t, tt.shown, shown, "all are shown")
				require.NotEmpty(t, shown)
				assert.Equal(t, tt.shown[0], shown[0], "the strictest comes first")
			})
		}
	}
}
