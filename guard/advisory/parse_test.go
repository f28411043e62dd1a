package advisory

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseReadsEveryField(t *testing.T) {
	day := func(d, h int) time.Time { return time.Date(2026, 3, d, h, 0, 0, 0, time.UTC) }
	a := mustParse(t, plain)
	sumA := [32]byte(bytes.Repeat([]byte{0xaa}, 32))
	sumB := [32]byte(bytes.Repeat([]byte{0xbb}, 32))
	assert.Equal(t, &Advisory{
		ID: "test-2026", Revision: 3, State: Active, Title: "Cards issued on one day",
		Published: day(1, 9), Modified: day(2, 9), BlockFrom: day(3, 0), RenewBy: day(10, 0),
		Match: []Clause{{
			Issuer:    &Issuer{SPKISHA256: [][32]byte{sumA}, AKI: [][]byte{{1, 2}}, Name: "Test CA"},
			NotBefore: &Window{From: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 2, 2, 0, 0, 0, 0, time.UTC)},
		}},
		FixedWhen: []Clause{{NotBefore: &Window{From: time.Date(2026, 2, 2, 0, 0, 0, 0, time.UTC)}}},
		Basis:     NotBeforeWindow, BasisNote: "log of the authority", CardMayAuthenticate: true,
		Remedies: []Remedy{
			{Kind: Renew, Text: "Renew here."},
			{Kind: Portal, Text: "Use the portal.", URL: "https://portal.example/renew"},
			{Kind: ServiceDesk, Text: "Call.", Phone: "0300 000 0000"},
		},
		Message:    "Please renew your card before you sign again.",
		References: []string{"https://example.org/notice"}, ExpectedCount: 12,
	}, a)

	b := mustParse(t, full)
	assert.Equal(t, Superseded, b.State)
	assert.Equal(t, "test-2026", b.SupersededBy)
	assert.Equal(t, day(4, 0), b.EndedAt)
	assert.Equal(t, [][]byte{{1, 2}, {3, 4}}, b.Match[0].Issuer.AKI)
	assert.Equal(t, 3, b.Match[0].Serials.Len())
	assert.Equal(t, [][32]byte{sumA, sumB}, b.Match[1].SPKISHA256)
	assert.Equal(t, []string{"contentCommitment", "digitalSignature"}, b.Match[1].KeyUsage)
	assert.Equal(t, [][32]byte{sumA}, b.Match[2].ModulusSHA256)
	assert.Equal(t, []string{"1.2.826.0.1275.102.0.3.2.0"}, b.Match[2].PolicyOID)
	assert.Equal(t, []string{"SHA1-RSA", "SHA256-RSA"}, b.Match[2].SignatureAlgorithm)
	assert.Equal(t, &KeyBits{Min: 3072}, b.Except[0].KeyBits)
	assert.Equal(t, weaknesses, b.FixedWhen[0].WeakKey)

	assert.True(t, mustParse(t, openEnded).Match[0].Issuer.Any)
}

func TestParseDoesNotCareForTheOrderOfFields(t *testing.T) {
	for _, doc := range []string{plain, full, openEnded} {
		assert.Equal(t, mustParse(t, doc), mustParse(t, edited(t, doc))) // edited sorts the fields
	}
}

// rejected is a document that Parse refuses, with the path it names and part of
// what it says. schema: the JSON Schema refuses it too.
type rejected struct {
	name   string
	doc    string // empty: plain
	edits  []edit
	path   string
	says   string
	schema bool
}

func structural(name, doc, path, value, wantPath, says string) rejected {
	return rejected{name, doc, []edit{{path, value}}, wantPath, says, true}
}

func contradiction(name, doc, wantPath, says string, edits ...edit) rejected {
	return rejected{name, doc, edits, wantPath, says, false}
}

const (
	clause0  = "match.any[0]"
	anyKey   = `{"spki_sha256": ["` + keyA + `"]}`
	bothKeys = `["` + keyA + `", "` + keyA + `"]`
)

var rejections = []rejected{
	// unknown fields, exact and case-sensitive
	structural("an unknown field", plain, "colour", `1`, "colour", "unknown field"),
	structural("a field in other case", plain, "Title", `"x"`, "Title", "wanted title"),
	structural("an unknown field in match", plain, "match.all", `[]`, "match.all", "wanted any"),
	structural("an unknown field in a clause", plain, clause0+".subject", `"x"`, "match.any[0].subject", "one of issuer, key_bits"),
	structural("an unknown field in a window", plain, clause0+".not_before.until", `"x"`, "match.any[0].not_before.until", "one of from, to"),
	structural("an unknown field in an issuer", plain, clause0+".issuer.dn", `"x"`, "match.any[0].issuer.dn", "one of aki, name, spki_sha256"),
	structural("an unknown field in serials", full, clause0+".serials.list", `[]`, "match.any[0].serials.list", "one of file, inline, ranges"),
	structural("an unknown field in a range", full, clause0+".serials.ranges[1].step", `1`, "match.any[0].serials.ranges[1].step", "one of first, last"),
	structural("an unknown field in key_bits", full, "except[0].key_bits.exact", `1`, "except[0].key_bits.exact", "one of max, min"),
	structural("an unknown field in a remedy", plain, "remedies[1].mail", `"x"`, "remedies[1].mail", "one of kind, phone, text, url"),
	structural("an unknown field with a strange name", plain, "a b", `1`, `["a b"]`, "unknown field"),

	// missing fields
	structural("no id", plain, "id", "", "id", "required"),
	structural("no revision", plain, "revision", "", "revision", "required"),
	structural("no state", plain, "state", "", "state", "required"),
	structural("no title", plain, "title", "", "title", "required"),
	structural("no published", plain, "published", "", "published", "required"),
	structural("no modified", plain, "modified", "", "modified", "required"),
	structural("no match", plain, "match", "", "match", "required"),
	structural("no any in match", plain, "match.any", "", "match.any", "required"),
	structural("no basis", plain, "basis", "", "basis", "required"),
	structural("no card_may_authenticate", plain, "card_may_authenticate", "", "card_may_authenticate", "required"),
	structural("no remedies", plain, "remedies", "", "remedies", "required"),
	structural("no message", plain, "message", "", "message", "required"),
	structural("a window without from", plain, clause0+".not_before.from", "", "match.any[0].not_before.from", "required"),
	structural("a range without last", full, clause0+".serials.ranges[0].last", "", "match.any[0].serials.ranges[0].last", "required"),
	structural("a remedy without text", plain, "remedies[0].text", "", "remedies[0].text", "required"),
	structural("a remedy without kind", plain, "remedies[0].kind", "", "remedies[0].kind", "required"),
	structural("a serial file without width", full, clause0+".serials.file", `{"sha256": "`+keyA+`", "count": 1}`, "match.any[0].serials.file.width", "required"),

	// wrong types
	structural("the document an array", `{"x": [1]}`, "x", `1`, "x", "unknown"),
	structural("id a number", plain, "id", `7`, "id", `found the number "7", wanted a text`),
	structural("id null", plain, "id", `null`, "id", "found null"),
	structural("an optional field null", plain, "renew_by", `null`, "renew_by", "found null"),
	structural("revision a text", plain, "revision", `"3"`, "revision", `found the text "3", wanted a whole number from 1`),
	structural("revision a fraction", plain, "revision", `1.5`, "revision", "wanted a whole number"),
	structural("revision beyond 32 bits", plain, "revision", `2147483648`, "revision", "wanted a whole number"),
	structural("title an object", plain, "title", `{}`, "title", "found an object"),
	structural("published a number", plain, "published", `1`, "published", "RFC 3339"),
	structural("match an array", plain, "match", `[]`, "match", "found an array, wanted an object"),
	structural("a clause a text", plain, clause0, `"all"`, "match.any[0]", "wanted an object"),
	structural("issuer another word", plain, clause0+".issuer", `"all"`, "match.any[0].issuer", `wanted "any" or an object`),
	structural("issuer an array", plain, clause0+".issuer", `["`+keyA+`"]`, "match.any[0].issuer", `wanted "any" or an object`),
	structural("a window an array", plain, clause0+".not_before", `["2026-02-01T00:00:00Z"]`, "match.any[0].not_before", "wanted an object"),
	structural("spki_sha256 a text", plain, clause0+".spki_sha256", `"`+keyA+`"`, "match.any[0].spki_sha256", "wanted an array"),
	structural("card_may_authenticate a text", plain, "card_may_authenticate", `"yes"`, "card_may_authenticate", "wanted true or false"),
	structural("card_may_authenticate null", plain, "card_may_authenticate", `null`, "card_may_authenticate", "wanted true or false"),
	structural("references a text", plain, "references", `"https://example.org"`, "references", "wanted an array"),
	structural("expected_count true", plain, "expected_count", `true`, "expected_count", "found true"),

	// values out of a closed list or form
	structural("an id in capitals", plain, "id", `"Test"`, "id", "wanted 3 to 64"),
	structural("an id of two letters", plain, "id", `"ab"`, "id", "wanted 3 to 64"),
	structural("an id of 65 letters", plain, "id", `"`+strings.Repeat("a", 65)+`"`, "id", "wanted 3 to 64"),
	structural("an id that starts with a hyphen", plain, "id", `"-abc"`, "id", "wanted 3 to 64"),
	structural("an id that ends in a line feed", plain, "id", `"abc\n"`, "id", "wanted 3 to 64"),
	structural("revision 0", plain, "revision", `0`, "revision", "from 1"),
	structural("an unknown state", plain, "state", `"open"`, "state", "one of draft, shadow"),
	structural("a state in capitals", plain, "state", `"Active"`, "state", "one of draft, shadow"),
	structural("an unknown basis", plain, "basis", `"guess"`, "basis", "one of serial_list"),
	structural("an unknown remedy", plain, "remedies[0].kind", `"pray"`, "remedies[0].kind", "one of renew"),
	structural("an unknown weakness", full, "fixed_when[0].weak_key[1]", `"rocca"`, "fixed_when[0].weak_key[1]", "one of roca"),
	structural("key usage nonRepudiation", full, "match.any[1].key_usage[0]", `"nonRepudiation"`, "match.any[1].key_usage[0]", "contentCommitment"),
	structural("an unknown signature algorithm", full, "match.any[2].signature_algorithm[0]", `"sha1WithRSAEncryption"`, "match.any[2].signature_algorithm[0]", "SHA1-RSA"),
	structural("a policy that is a name", full, "match.any[2].policy_oid[0]", `"anyPolicy"`, "match.any[2].policy_oid[0]", "object identifier"),
	structural("a policy with a leading zero", full, "match.any[2].policy_oid[0]", `"1.02"`, "match.any[2].policy_oid[0]", "object identifier"),
	structural("a policy of one arc", full, "match.any[2].policy_oid[0]", `"1"`, "match.any[2].policy_oid[0]", "object identifier"),
	contradiction("a policy with a second arc out of range", full, "match.any[2].policy_oid[0]", "object identifier", edit{"match.any[2].policy_oid[0]", `"1.40.1"`}),
	structural("a hash of 63 digits", plain, clause0+".issuer.spki_sha256[0]", `"`+keyA[:63]+`"`, "match.any[0].issuer.spki_sha256[0]", "64 lower-case hex digits"),
	structural("a hash of 66 digits", plain, clause0+".issuer.spki_sha256[0]", `"`+keyA+`aa"`, "match.any[0].issuer.spki_sha256[0]", "64 lower-case hex digits"),
	structural("a hash in capitals", plain, clause0+".issuer.spki_sha256[0]", `"`+strings.ToUpper(keyA)+`"`, "match.any[0].issuer.spki_sha256[0]", "64 lower-case hex digits"),
	structural("a key identifier with colons", plain, clause0+".issuer.aki[0]", `"01:02"`, "match.any[0].issuer.aki[0]", "without colons"),
	structural("an empty key identifier", plain, clause0+".issuer.aki[0]", `""`, "match.any[0].issuer.aki[0]", "1 to 64 bytes"),
	structural("a serial with 0x", full, clause0+".serials.inline[1]", `"0xff"`, "match.any[0].serials.inline[1]", "without 0x"),
	structural("a serial in capitals", full, clause0+".serials.inline[1]", `"FF"`, "match.any[0].serials.inline[1]", "lower-case"),
	structural("an empty serial", full, clause0+".serials.inline[1]", `""`, "match.any[0].serials.inline[1]", "1 to 40"),
	structural("a serial of 41 digits", full, clause0+".serials.inline[1]", `"0`+strings.Repeat("1", 40)+`"`, "match.any[0].serials.inline[1]", "1 to 40"),
	structural("a serial as a number", full, clause0+".serials.inline[1]", `255`, "match.any[0].serials.inline[1]", "1 to 40"),
	structural("a serial file of width 21", full, clause0+".serials.file", `{"sha256": "`+keyA+`", "count": 1, "width": 21}`, "match.any[0].serials.file.width", "1 to 20"),
	structural("a serial file of no entries", full, clause0+".serials.file", `{"sha256": "`+keyA+`", "count": 0, "width": 4}`, "match.any[0].serials.file.count", "from 1"),
	structural("a negative expected_count", plain, "expected_count", `-1`, "expected_count", "from 0"),
	structural("a remedy URL with ftp", plain, "remedies[1].url", `"ftp://example.org/x"`, "remedies[1].url", "http or https"),
	structural("a remedy URL with javascript", plain, "remedies[1].url", `"javascript:alert(1)"`, "remedies[1].url", "http or https"),
	structural("an empty remedy URL", plain, "remedies[1].url", `""`, "remedies[1].url", "left out"),
	structural("a URL with a space", plain, "references[0]", `"https://example.org/a b"`, "references[0]", "white space"),
	contradiction("a URL without a host", plain, "references[0]", "host", edit{"references[0]", `"https:///x"`}),
	contradiction("a URL with a user name", plain, "references[0]", "user name", edit{"references[0]", `"https://portal.example@evil.example/"`}),

	// instants
	structural("a date alone", plain, "published", `"2026-03-01"`, "published", "RFC 3339"),
	structural("an instant with an offset", plain, "published", `"2026-03-01T09:00:00+00:00"`, "published", "in UTC"),
	structural("an instant with a small z", plain, "published", `"2026-03-01T09:00:00z"`, "published", "in UTC"),
	structural("an instant with a fraction", plain, "published", `"2026-03-01T09:00:00.5Z"`, "published", "whole seconds"),
	structural("an instant with a short hour", plain, "published", `"2026-03-01T9:00:00Z"`, "published", "RFC 3339"),
	structural("a leap second", plain, "published", `"2016-12-31T23:59:60Z"`, "published", "RFC 3339"),
	structural("the year 1949", plain, "published", `"1949-12-31T23:59:59Z"`, "published", "1950 to 9999"),
	structural("the year 10000", plain, "published", `"10000-01-01T00:00:00Z"`, "published", "1950 to 9999"),
	contradiction("30 February", plain, "published", "RFC 3339", edit{"published", `"2026-02-30T00:00:00Z"`}),

	// empty arrays and objects
	structural("no clauses", plain, "match.any", `[]`, "match.any", "empty array"),
	structural("an empty except", plain, "except", `[]`, "except", "empty array"),
	structural("an empty fixed_when", plain, "fixed_when", `[]`, "fixed_when", "empty array"),
	structural("empty remedies", plain, "remedies", `[]`, "remedies", "empty array"),
	structural("empty references", plain, "references", `[]`, "references", "empty array"),
	structural("empty serials inline", full, clause0+".serials.inline", `[]`, "match.any[0].serials.inline", "empty array"),
	structural("empty ranges", full, clause0+".serials.ranges", `[]`, "match.any[0].serials.ranges", "empty array"),
	structural("empty aki", plain, clause0+".issuer.aki", `[]`, "match.any[0].issuer.aki", "empty array"),
	structural("empty serials", full, clause0+".serials", `{}`, "match.any[0].serials", "no serials"),
	structural("empty key_bits", full, "except[0].key_bits", `{}`, "except[0].key_bits", "neither min nor max"),
	structural("a clause without a condition", plain, clause0, `{}`, "match.any[0]", "without any condition"),
	structural("an exception without a condition", full, "except[0]", `{}`, "except[0]", "without any condition"),
	structural("an issuer without a key", plain, clause0+".issuer", `{"name": "Test CA"}`, "match.any[0].issuer", "two CAs may share a name"),

	// texts
	structural("an empty title", plain, "title", `""`, "title", "not blank"),
	structural("a blank message", plain, "message", `"  "`, "message", "not blank"),
	structural("a line feed in the message", plain, "message", `"a\nb"`, "message", "control character U+000A"),
	structural("an escape character in a remedy", plain, "remedies[0].text", `"\u001b[2J"`, "remedies[0].text", "control character U+001B"),
	structural("a control character in a phone number", plain, "remedies[2].phone", `"0300\u0007"`, "remedies[2].phone", "control character U+0007"),
	structural("a C1 control character in an issuer's name", plain, clause0+".issuer.name", `"a\u009bb"`, "match.any[0].issuer.name", "control character U+009B"),
	contradiction("a direction override", plain, "title", "direction control U+202E", edit{"title", `"a\u202eb"`}),
	contradiction("half a surrogate pair", plain, "title", "U+FFFD", edit{"title", `"a\ud800b"`}),

	// states and dates
	structural("ended without ended_at", plain, "state", `"resolved"`, "ended_at", "wanted an instant in state resolved"),
	structural("withdrawn without ended_at", plain, "state", `"withdrawn"`, "ended_at", "wanted an instant in state withdrawn"),
	structural("ended_at while active", plain, "ended_at", `"2026-03-04T00:00:00Z"`, "ended_at", "in state active"),
	structural("superseded without superseded_by", full, "superseded_by", "", "superseded_by", "wanted the id"),
	structural("superseded_by while active", plain, "superseded_by", `"other"`, "superseded_by", "superseded only"),
	contradiction("superseded by itself", full, "superseded_by", "own id", edit{"superseded_by", `"test-full"`}),
	contradiction("modified before published", plain, "modified", "before published", edit{"modified", `"2026-03-01T08:59:59Z"`}),
	contradiction("ended before published", full, "ended_at", "before published", edit{"ended_at", `"2026-03-01T08:59:59Z"`}, edit{"block_from", ""}),
	contradiction("blocking from after the end", full, "block_from", "after ended_at", edit{"block_from", `"2026-03-04T00:00:01Z"`}),
	contradiction("to be renewed before it is enforced", plain, "renew_by", "before the advisory is enforced", edit{"renew_by", `"2026-03-02T23:59:59Z"`}),
	contradiction("to be renewed before it is published", plain, "renew_by", "before the advisory is enforced", edit{"renew_by", `"2026-03-01T08:59:59Z"`}, edit{"block_from", ""}),

	// windows
	contradiction("an empty window", plain, "match.any[0].not_before.to", "empty window", edit{clause0 + ".not_before.to", `"2026-02-01T00:00:00Z"`}),
	contradiction("an inverted window", plain, "match.any[0].not_before.to", "before from", edit{clause0 + ".not_before.to", `"2026-01-31T23:59:59Z"`}),
	contradiction("an empty window in fixed_when", plain, "fixed_when[0].not_before.to", "empty window", edit{"fixed_when[0].not_before.to", `"2026-02-02T00:00:00Z"`}),
	contradiction("an open-ended window without a fix", openEnded, "match.any[0].not_before.to", "fixed_when", edit{"fixed_when", ""}),
	contradiction("a fix of the whole window", plain, "fixed_when[0].not_before", "whole population", edit{"fixed_when[0].not_before.from", `"2026-02-01T00:00:00Z"`}),
	contradiction("a fix of exactly the window", plain, "fixed_when[0].not_before", "whole population",
		edit{"fixed_when[0].not_before", `{"from": "2026-02-01T00:00:00Z", "to": "2026-02-02T00:00:00Z"}`}),
	contradiction("a fix of the whole open-ended window", openEnded, "fixed_when[0].not_before", "whole population", edit{"fixed_when[0].not_before.from", `"2026-02-01T00:00:00Z"`}),
	contradiction("an exception for the whole window", plain, "except[0].not_before", "whole population", edit{"except", `[{"not_before": {"from": "2026-01-01T00:00:00Z"}}]`}),

	// issuers and bases
	contradiction("any issuer with a basis", openEnded, "match.any[0].issuer", "basis assumed only", edit{"basis", `"not_before_window"`}),
	structural("any issuer in fixed_when", openEnded, "fixed_when[0].issuer", `"any"`, "fixed_when[0].issuer", `found "any"`),
	structural("any issuer in except", openEnded, "except", `[{"issuer": "any", "key_bits": {"min": 1024}}]`, "except[0].issuer", `found "any"`),
	structural("a window without an issuer", plain, clause0+".issuer", "", "match.any[0].issuer", "wanted a CA key"),
	structural("serials without an issuer", full, clause0+".issuer", "", "match.any[0].serials", "unique for one CA only"),
	contradiction("serials with any issuer", openEnded, "match.any[0].serials", "unique for one CA only", edit{clause0 + ".serials", `{"inline": ["1"]}`}),
	structural("excepted serials without an issuer", plain, "except", `[{"serials": {"inline": ["1"]}}]`, "except[0].serials", "unique for one CA only"),
	contradiction("a list of serials that is a window", plain, "match.any[0].serials", "basis serial_list", edit{"basis", `"serial_list"`}),
	contradiction("a window that is a list of serials", full, "basis", "no clause of match has not_before", edit{"basis", `"not_before_window"`}),
	contradiction("a window that is a key size", plain, "match.any[0].not_before", "wanted a window", edit{clause0, `{"issuer": ` + anyKey + `, "key_bits": {"max": 1024}}`}),
	structural("assumed by nobody", openEnded, "basis_note", "", "basis_note", "not blank"),

	// numbers and duplicates
	contradiction("key_bits upside down", full, "except[0].key_bits", "min 2048 and max 1024", edit{"except[0].key_bits", `{"min": 2048, "max": 1024}`}),
	structural("key_bits of 0", full, "except[0].key_bits.min", `0`, "except[0].key_bits.min", "from 1"),
	contradiction("a remedy twice", plain, "remedies[1].kind", "each kind once", edit{"remedies[1].kind", `"renew"`}),
	structural("a reference twice", plain, "references", `["https://example.org", "https://example.org"]`, "references[1]", "each once"),
	structural("a CA key twice", plain, clause0+".issuer.spki_sha256", bothKeys, "match.any[0].issuer.spki_sha256[1]", "each once"),
	structural("a key identifier twice", plain, clause0+".issuer.aki", `["01", "02", "01"]`, "match.any[0].issuer.aki[2]", "each once"),
	structural("a key twice", plain, clause0+".spki_sha256", bothKeys, "match.any[0].spki_sha256[1]", "each once"),
	structural("a modulus twice", plain, clause0+".modulus_sha256", bothKeys, "match.any[0].modulus_sha256[1]", "each once"),
	structural("a key usage twice", plain, clause0+".key_usage", `["cRLSign", "cRLSign"]`, "match.any[0].key_usage[1]", "each once"),
	contradiction("a serial twice, spelled differently", full, "match.any[0].serials.inline[3]", "first at index 1", edit{clause0 + ".serials.inline", `["1", "00ff", "2", "ff"]`}),
	contradiction("a range upside down", full, "match.any[0].serials.ranges[1]", "first 20 above last 1f", edit{clause0 + ".serials.ranges[1]", `{"first": "20", "last": "1f"}`}),
	contradiction("ranges that share one serial", full, "match.any[0].serials.ranges[0]", "ends at 20", edit{clause0 + ".serials.ranges[1]", `{"first": "10", "last": "20"}`}),
	contradiction("ranges one inside the other", full, "match.any[0].serials.ranges[1]", "overlap", edit{clause0 + ".serials.ranges[1]", `{"first": "21", "last": "22"}`}),
	contradiction("a range twice", full, "match.any[0].serials.ranges[1]", "overlap", edit{clause0 + ".serials.ranges[1]", `{"first": "20", "last": "2f"}`}),
	contradiction("a serial file without a source of files", full, "match.any[0].serials.file", "no source of files", edit{clause0 + ".serials.file", `{"sha256": "` + keyA + `", "count": 1, "width": 4}`}),
}

func TestParseRejects(t *testing.T) {
	for _, r := range rejections {
		t.Run(r.name, func(t *testing.T) {
			a, err := Parse([]byte(edited(t, r.doc, r.edits...)), nil)
			assert.Nil(t, a)
			requireError(t, err, r.path, r.says)
		})
	}
}

func requireError(t *testing.T, err error, path, says string) {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, path, e.Path)
	assert.Contains(t, e.Problem, says)
	assert.Contains(t, err.Error(), path)
	assert.Regexp(t, `^advisory: `, err.Error())
}

func TestParseAcceptsAtTheBoundary(t *testing.T) {
	for _, tt := range []struct {
		name  string
		doc   string
		edits []edit
	}{
		{"a window of one second", plain, []edit{{clause0 + ".not_before.to", `"2026-02-01T00:00:01Z"`}}},
		{"a fix one second into the window", plain, []edit{{"fixed_when[0].not_before.from", `"2026-02-01T00:00:01Z"`}}},
		{"a fix that ends one second early", plain, []edit{{"fixed_when[0].not_before", `{"from": "2026-02-01T00:00:00Z", "to": "2026-02-01T23:59:59Z"}`}}},
		{"a fix of the whole window by another issuer", plain, []edit{{"fixed_when[0]", `{"issuer": ` + anyKey + `, "not_before": {"from": "2026-01-01T00:00:00Z"}}`}}},
		{"modified when published", plain, []edit{{"modified", `"2026-03-01T09:00:00Z"`}}},
		{"to be renewed when enforced", plain, []edit{{"renew_by", `"2026-03-03T00:00:00Z"`}}},
		{"ended when it would have started", full, []edit{{"block_from", `"2026-03-04T00:00:00Z"`}}},
		{"ended when published", full, []edit{{"ended_at", `"2026-03-01T09:00:00Z"`}, {"block_from", ""}}},
		{"ranges side by side", full, []edit{{clause0 + ".serials.ranges", `[{"first": "10", "last": "1f"}, {"first": "20", "last": "20"}]`}}},
		{"the first and the last instant", plain, []edit{{"fixed_when[0].not_before", `{"from": "1950-01-01T00:00:00Z", "to": "1950-01-01T00:00:01Z"}`}, {"renew_by", `"9999-12-31T23:59:59Z"`}}},
		{"29 February of a leap year", plain, []edit{{"renew_by", `"2028-02-29T00:00:00Z"`}}},
		{"serial 0", full, []edit{{clause0 + ".serials.inline", `["0"]`}}},
		{"a serial of 40 digits", full, []edit{{clause0 + ".serials.inline", `["` + strings.Repeat("f", 40) + `"]`}}},
		{"key_bits of one size", full, []edit{{"except[0].key_bits", `{"min": 1024, "max": 1024}`}}},
		{"an expected count that is not known", plain, []edit{{"expected_count", `0`}}},
		{"a weak key of any issuer", plain, []edit{{"match.any[0]", `{"weak_key": ["roca"]}`}, {"basis", `"issuance_log"`}}},
		{"an id of 64 letters", plain, []edit{{"id", `"` + strings.Repeat("a", 64) + `"`}}},
		{"a title in another script", plain, []edit{{"title", `"Карта ✓ 😀"`}}},
		{"every other field left out", plain, []edit{{"block_from", ""}, {"renew_by", ""}, {"fixed_when", ""}, {"basis_note", ""}, {"references", ""}, {"expected_count", ""}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc := edited(t, tt.doc, tt.edits...)
			mustParse(t, doc)
			requireSchemaAccepts(t, doc)
		})
	}
}

func TestParseRejectsWhatIsNotOneJSONObject(t *testing.T) {
	twice := strings.Replace(plain, `"revision": 3,`, `"revision": 3, "revision": 3,`, 1)
	for _, tt := range []struct{ name, doc, path, says string }{
		{"an empty document", "", "$", "empty document"},
		{"white space", " \n", "$", "empty document"},
		{"plain text", "hello", "$", "not JSON"},
		{"an array", "[]", "$", "found an array, wanted an object"},
		{"a text", `"id"`, "$", "wanted an object"},
		{"null", "null", "$", "found null"},
		{"XML", "<advisory/>", "$", "not JSON"},
		{"a byte order mark", "\ufeff" + plain, "$", "not JSON"},
		{"a comment", strings.Replace(plain, `"revision"`, `/* x */ "revision"`, 1), "$", "not JSON"},
		{"a comma too many", strings.Replace(plain, `"expected_count": 12`, `"expected_count": 12,`, 1), "$", "not JSON"},
		{"a comma too few", strings.Replace(plain, `"revision": 3,`, `"revision": 3`, 1), "$", "line 4"},
		{"single quotes", `{'id': 'x'}`, "$", "not JSON"},
		{"a number with a leading zero", strings.Replace(plain, `"expected_count": 12`, `"expected_count": 012`, 1), "$", "not JSON"},
		{"a raw line feed in a text", strings.Replace(plain, "Test CA", "Test\nCA", 1), "match.any[0].issuer.name", "not JSON"},
		{"the end inside an object", plain[:len(plain)-1], "$", "end of the document"},
		{"the end inside a text", plain[:strings.Index(plain, "Test CA")+3], "match.any[0].issuer.name", "end of the document"},
		{"the end inside an array", plain[:strings.Index(plain, `"aki"`)+7], "match.any[0].issuer.aki", "end of the document"},
		{"brackets that do not match", strings.Replace(plain, `["0102"]`, `["0102"}`, 1), "match.any[0].issuer.aki", "not JSON"},
		{"two documents", plain + plain, "$", "more after the end"},
		{"a brace too many", plain + "}", "$", "more after the end"},
		{"invalid UTF-8", strings.Replace(plain, "Test CA", "Test \xff", 1), "$", "invalid UTF-8 at byte offset"},
		{"an overlong encoding", strings.Replace(plain, "Test CA", "Test \xc0\xaf", 1), "$", "invalid UTF-8"},
		{"a field twice", twice, "revision", "the field twice"},
		{"a field twice in a window", strings.Replace(plain, `"from": "2026-02-01`, `"from": "2026-01-01T00:00:00Z", "from": "2026-02-01`, 1), "match.any[0].not_before.from", "the field twice"},
		{"a field twice, once escaped", strings.Replace(plain, `"revision": 3,`, `"revision": 3, "r\u0065vision": 3,`, 1), "revision", "the field twice"},
		{"nesting without end", strings.Replace(plain, `"title": "Cards issued on one day"`, `"title": `+deep(100_000), 1), "title", "found an array"},
		{"nesting without end in an unknown field", `{"x": ` + deep(100_000) + `}`, "x", "unknown field"},
		{"nothing but nesting", deep(100_000), "$", "wanted an object"},
		{"64 MiB and a byte", strings.Repeat(" ", 64<<20) + "1", "$", "wanted at most 67108864"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.doc), nil)
			requireError(t, err, tt.path, tt.says)
		})
	}
}

// What a document of 64 MiB can ask for is bounded before it is in memory.
func TestParseRejectsWhatIsTooMuch(t *testing.T) {
	many := func(path, element string, n int) string {
		all := "[" + strings.Repeat(element+",", n-1) + element + "]"
		return strings.Replace(edited(t, full, edit{path, `["\u0000"]`}), `["\u0000"]`, all, 1)
	}
	for _, tt := range []struct {
		name, doc, path, says string
	}{
		{"serials", many("match.any[0].serials.inline", `"1"`, 2_000_001), "match.any[0].serials.inline", "found more than 2000000 elements, wanted at most as many; a serial file takes more"},
		{"references", many("references", `"a"`, 2_000_001), "references", "found more than 2000000 elements"},
		{"clauses", many("except", `{"key_usage": ["cRLSign"]}`, 10_001), "except", "found more than 10000 clauses"},
		{"clauses, but not too many", many("except", `{"key_usage": ["cRLSigh"]}`, 10_000), "except[0].key_usage[0]", "cRLSigh"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.doc), nil)
			requireError(t, err, tt.path, tt.says)
		})
	}
}

func TestParseErrorNamesTheAdvisoryAndBoundsItsText(t *testing.T) {
	_, err := Parse([]byte(edited(t, plain, edit{clause0 + ".not_before.to", `"2026-02-01T00:00:00Z"`})), nil)
	assert.EqualError(t, err, "advisory: test-2026: match.any[0].not_before.to: found an empty window: from and to are both "+
		"2026-02-01T00:00:00Z; wanted to after from, because from is inside and to is not")

	_, err = Parse([]byte(edited(t, plain, edit{"state", `"` + strings.Repeat("\\u001b", 100_000) + `"`})), nil)
	require.Error(t, err)
	assert.Less(t, len(err.Error()), 1000)
	assert.NotContains(t, err.Error(), "\x1b")
}

func FuzzParse(f *testing.F) {
	for _, doc := range []string{plain, full, openEnded, string(notice2020)} {
		f.Add([]byte(doc))
	}
	content := []byte{1, 2, 3}
	f.Fuzz(func(t *testing.T, doc []byte) {
		files := func([32]byte) ([]byte, error) { return content, nil }
		a, err := Parse(doc, files)
		if err != nil {
			var e *Error
			if a != nil || !errors.As(err, &e) || e.Path == "" || e.Problem == "" {
				t.Fatalf("advisory %v, error %#v", a, err)
			}
			return
		}
		// An accepted document is JSON, its schema accepts it, and what another
		// writer makes of it means the same.
		var generic any
		dec := json.NewDecoder(bytes.NewReader(doc))
		dec.UseNumber()
		require.NoError(t, dec.Decode(&generic))
		require.True(t, json.Valid(doc))
		require.NoError(t, compiledSchema(t).Validate(generic))
		again, err := json.Marshal(generic)
		require.NoError(t, err)
		b, err := Parse(again, files)
		require.NoError(t, err)
		require.Equal(t, a, b)
		_ = a.Lint()
		_ = a.Judge(&Facts{})
		_, err = NewSet(1, a.Published, a)
		require.True(t, (err == nil) == (a.State != Superseded), "%v", err)
	})
}
