package advisory

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	keyA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	keyB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// plain is a valid document with the usual fields.
const plain = `{
  "id": "test-2026",
  "revision": 3,
  "state": "active",
  "title": "Cards issued on one day",
  "published": "2026-03-01T09:00:00Z",
  "modified": "2026-03-02T09:00:00Z",
  "block_from": "2026-03-03T00:00:00Z",
  "renew_by": "2026-03-10T00:00:00Z",
  "match": {"any": [{
    "issuer": {"spki_sha256": ["` + keyA + `"], "aki": ["0102"], "name": "Test CA"},
    "not_before": {"from": "2026-02-01T00:00:00Z", "to": "2026-02-02T00:00:00Z"}
  }]},
  "fixed_when": [{"not_before": {"from": "2026-02-02T00:00:00Z"}}],
  "basis": "not_before_window",
  "basis_note": "log of the authority",
  "card_may_authenticate": true,
  "remedies": [
    {"kind": "renew", "text": "Renew here."},
    {"kind": "portal", "text": "Use the portal.", "url": "https://portal.example/renew"},
    {"kind": "service_desk", "text": "Call.", "phone": "0300 000 0000"}
  ],
  "message": "Please renew your card before you sign again.",
  "references": ["https://example.org/notice"],
  "expected_count": 12
}`

// full has every field that plain leaves out.
const full = `{
  "id": "test-full",
  "revision": 1,
  "state": "superseded",
  "superseded_by": "test-2026",
  "title": "Every field",
  "published": "2026-03-01T09:00:00Z",
  "modified": "2026-03-02T09:00:00Z",
  "block_from": "2026-03-03T00:00:00Z",
  "ended_at": "2026-03-04T00:00:00Z",
  "match": {"any": [
    {"issuer": {"aki": ["0102", "0304"]}, "serials": {
      "inline": ["1", "00ff", "abcdef0123456789abcdef0123456789abcdef01"],
      "ranges": [{"first": "20", "last": "2f"}, {"first": "10", "last": "1f"}]}},
    {"spki_sha256": ["` + keyA + `", "` + keyB + `"], "key_usage": ["contentCommitment", "digitalSignature"]},
    {"modulus_sha256": ["` + keyA + `"], "policy_oid": ["1.2.826.0.1275.102.0.3.2.0"], "signature_algorithm": ["SHA1-RSA", "SHA256-RSA"]}
  ]},
  "except": [{"key_bits": {"min": 3072}}],
  "fixed_when": [{"issuer": {"spki_sha256": ["` + keyB + `"]}, "serials": {"inline": ["1"]}, "weak_key": ["roca", "fermat", "small_factor", "exponent", "blocklisted"]}],
  "basis": "serial_list",
  "card_may_authenticate": false,
  "remedies": [
    {"kind": "registration_authority", "text": "See the RA."},
    {"kind": "it_support", "text": "Ask IT."},
    {"kind": "reseat", "text": "Take it out."},
    {"kind": "paper", "text": "Write on paper."}
  ],
  "message": "Please go to your Registration Authority."
}`

// openEnded has a window without an end, under issuer any.
const openEnded = `{
  "id": "test-open",
  "revision": 1,
  "state": "shadow",
  "title": "Open-ended",
  "published": "2026-03-01T09:00:00Z",
  "modified": "2026-03-01T09:00:00Z",
  "match": {"any": [{"issuer": "any", "not_before": {"from": "2026-02-01T00:00:00Z"}}]},
  "fixed_when": [{"not_before": {"from": "2026-02-02T00:00:00Z"}}],
  "basis": "assumed",
  "basis_note": "assumed by this test",
  "card_may_authenticate": true,
  "remedies": [{"kind": "renew", "text": "Renew here."}],
  "message": "Please renew your card before you sign again."
}`

func mustParse(t testing.TB, doc string) *Advisory {
	t.Helper()
	a, err := Parse([]byte(doc), nil)
	require.NoError(t, err)
	return a
}

// edit is one change of a document: the value at the path is replaced, or
// removed where the value is empty.
type edit struct{ path, value string }

var steps = regexp.MustCompile(`[^.\[\]]+`)

// edited applies changes to a document.
func edited(t testing.TB, doc string, edits ...edit) string {
	t.Helper()
	var root any
	require.NoError(t, json.Unmarshal([]byte(doc), &root))
	for _, e := range edits {
		path := steps.FindAllString(e.path, -1)
		at := root
		for _, step := range path[:len(path)-1] {
			switch v := at.(type) {
			case map[string]any:
				require.Contains(t, v, step, e.path)
				at = v[step]
			case []any:
				i, err := strconv.Atoi(step)
				require.NoError(t, err)
				at = v[i]
			}
		}
		var value any
		if e.value != "" {
			require.NoError(t, json.Unmarshal([]byte(e.value), &value), e.value)
		}
		last := path[len(path)-1]
		switch v := at.(type) {
		case map[string]any:
			if e.value == "" {
				require.Contains(t, v, last, e.path)
				delete(v, last)
			} else {
				v[last] = value
			}
		case []any:
			i, err := strconv.Atoi(last)
			require.NoError(t, err)
			require.NotEmpty(t, e.value, "an element is replaced, not removed")
			v[i] = value
		default:
			t.Fatalf("%s: nothing to change", e.path)
		}
	}
	b, err := json.Marshal(root)
	require.NoError(t, err)
	return string(b)
}

// deep is an array in an array in an array.
func deep(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
