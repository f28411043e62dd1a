package signing

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/testcard"
)

// An entry names certificates by issuer, serial and notBefore, and nobody by name.
func TestAnEntryIsTheVerdictWithoutThePerson(t *testing.T) {
	x := signingCertificate(t, signingKey())
	c, err := guard.ParseCertificate(x.Raw)
	require.NoError(t, err)
	v := builtin(t).Judge(guard.Snapshot{Certificate: c, Serial: "c0ffee", Label: "card of somebody", Simulated: true}, refusedAt)
	e := EntryOf(EventRefused, v)
	assert.WithinDuration(t, time.Now(), e.Time, time.Hour)
	assert.NotEqual(t, e.ID, EntryOf(EventRefused, v).ID)

	e.ID, e.Time, e.Serial = "id", refusedAt, "serial"
	b, err := json.MarshalIndent(e, "", " ")
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"id": "id", "time": "2020-09-30T09:00:00Z", "event": "refused", "at": "2020-09-30T09:00:00Z",
		"verdict": "refused", "reasons": ["affected"],
		"advisories": [{"id": "`+v.Findings[0].Advisory.ID+`", "revision": `+"1"+`, "reason": "affected"}],
		"rule_set": {"version": 1, "issued": "2020-10-01T13:50:00Z"},
		"card": "c0ffee", "issuer": "CN=rxguard simulation issuing - not trusted,O=`+testcard.Organization+`",
		"serial": "serial", "not_before": "2020-09-29T12:00:00Z", "simulated": true
	}`, string(b))
	for _, personal := range []string{x.Subject.CommonName, "123456789012", "somebody"} {
		assert.False(t, strings.Contains(string(b), personal), personal)
	}

	var again Entry
	require.NoError(t, json.Unmarshal(b, &again))
	assert.Equal(t, e, again)
}

func TestAnEntryOfACardThatWasNotRead(t *testing.T) {
	e := EntryOf(EventRefused, builtin(t).Judge(guard.Snapshot{Err: guard.ErrNoCard}, refusedAt))
	assert.Equal(t, guard.DecisionUndecided, e.Verdict)
	b, err := json.Marshal(e)
	require.NoError(t, err)
	for _, absent := range []string{`"serial"`, `"issuer"`, `"not_before"`, `"card"`, `"simulated"`, `"cause"`, `"renewal"`} {
		assert.NotContains(t, string(b), absent)
	}
}
