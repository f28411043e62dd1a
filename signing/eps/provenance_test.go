package eps

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func goodInfo() ProvenanceInfo {
	return ProvenanceInfo{
		ID:     "0b5c9c3e-7e1f-4e55-8a55-1d2f6c0e9a01",
		Target: []string{"urn:uuid:5f1c0b70-1c7e-4d9b-9d43-3a4a2f6f7b02", "MedicationRequest/line-2"},
		Who:    "urn:uuid:9d6cfd0a-2f6b-4a0c-8a51-0f4f0b8e6c03",
	}
}

func TestProvenanceIsTheResourceTheServiceTakes(t *testing.T) {
	s := signed(t, RS256)
	want := `{
  "resourceType": "Provenance",
  "id": "0b5c9c3e-7e1f-4e55-8a55-1d2f6c0e9a01",
  "target": [
    {
      "reference": "urn:uuid:5f1c0b70-1c7e-4d9b-9d43-3a4a2f6f7b02"
    },
    {
      "reference": "MedicationRequest/line-2"
    }
  ],
  "recorded": "2020-10-02T09:00:00+00:00",
  "agent": [
    {
      "who": {
        "reference": "urn:uuid:9d6cfd0a-2f6b-4a0c-8a51-0f4f0b8e6c03"
      }
    }
  ],
  "signature": [
    {
      "type": [
        {
          "system": "urn:iso-astm:E1762-95:2013",
          "code": "1.2.840.10065.1.12.1.1"
        }
      ],
      "when": "2020-10-02T09:00:00+00:00",
      "who": {
        "reference": "urn:uuid:9d6cfd0a-2f6b-4a0c-8a51-0f4f0b8e6c03"
      },
      "data": "` + base64.StdEncoding.EncodeToString(s.XML()) + `"
    }
  ]
}`
	for range 2 {
		got, err := s.Provenance(goodInfo())
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}

	info := goodInfo()
	info.Recorded = "2020-10-02T10:00:05.5+01:00"
	got, err := s.Provenance(info)
	require.NoError(t, err)
	assert.Contains(t, string(got), `"recorded": "2020-10-02T10:00:05.5+01:00"`)
	assert.Contains(t, string(got), `"when": "2020-10-02T09:00:00+00:00"`)
}

func TestProvenanceInfoIsValidated(t *testing.T) {
	s := signed(t, RS256)
	const uuid = "5f1c0b70-1c7e-4d9b-9d43-3a4a2f6f7b02"
	for _, c := range []struct {
		name, says string
		change     func(*ProvenanceInfo)
	}{
		{"no id", `id "" is not a UUID`, func(p *ProvenanceInfo) { p.ID = "" }},
		{"an id with prefix", "is not a UUID", func(p *ProvenanceInfo) { p.ID = "urn:uuid:" + uuid }},
		{"an id with a line break", `\n" is not a UUID`, func(p *ProvenanceInfo) { p.ID = uuid + "\n" }},
		{"no target", "no target", func(p *ProvenanceInfo) { p.Target = nil }},
		{"an empty target", `target 0: ""`, func(p *ProvenanceInfo) { p.Target[0] = "" }},
		{"a target that is an id alone", "target 1", func(p *ProvenanceInfo) { p.Target[1] = uuid }},
		{"a target in lower case", "target 1", func(p *ProvenanceInfo) { p.Target[1] = "medicationRequest/1" }},
		{"a target with a control character", `\x00`, func(p *ProvenanceInfo) { p.Target[1] = "MedicationRequest/1\x00" }},
		{"a target that is a fragment", "target 1", func(p *ProvenanceInfo) { p.Target[1] = "#line" }},
		{"a very long target", "…", func(p *ProvenanceInfo) { p.Target[1] = strings.Repeat("x", 1<<20) }},
		{"a target twice", "given twice", func(p *ProvenanceInfo) { p.Target[1] = p.Target[0] }},
		{"no who", `who: ""`, func(p *ProvenanceInfo) { p.Who = "" }},
		{"a Practitioner", "wanted the prescriber's PractitionerRole", func(p *ProvenanceInfo) { p.Who = "Practitioner/1" }},
		{"a who with a blank", "who: ", func(p *ProvenanceInfo) { p.Who = "PractitionerRole/1 2" }},
		{"a bad uuid", "who: ", func(p *ProvenanceInfo) { p.Who = "urn:uuid:1" }},
		{"recorded a day", "recorded: ", func(p *ProvenanceInfo) { p.Recorded = "2020-10-02" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			info := goodInfo()
			c.change(&info)
			_, err := s.Provenance(info)
			require.ErrorContains(t, err, c.says)
			assert.True(t, strings.HasPrefix(err.Error(), "eps: provenance: "))
			assert.Less(t, len(err.Error()), 400)
		})
	}
	info := goodInfo()
	info.Who = "PractitionerRole/r-1"
	_, err := s.Provenance(info)
	assert.NoError(t, err)
}
