package advisory

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var issued = at("2026-03-05T00:00:00Z")

func mustSet(t testing.TB, version uint64, issued time.Time, docs ...string) *Set {
	t.Helper()
	var all []*Advisory
	for _, doc := range docs {
		all = append(all, mustParse(t, doc))
	}
	s, err := NewSet(version, issued, all...)
	require.NoError(t, err)
	return s
}

func TestSetHandsOutItsAdvisoriesInOrder(t *testing.T) {
	s := mustSet(t, 7, issued, full, plain)
	assert.Equal(t, uint64(7), s.Version())
	assert.Equal(t, issued, s.Issued())
	assert.Equal(t, 2, s.Len())
	assert.Equal(t, "test-full", s.At(0).ID)
	assert.Equal(t, "test-2026", s.At(1).ID)
	assert.Equal(t, []*Advisory{s.At(0), s.At(1)}, slices.Collect(s.All()))
	assert.Same(t, s.At(1), s.ByID("test-2026"))
	assert.Nil(t, s.ByID("other"))
	assert.Same(t, s, s.Current())
}

func TestSetDoesNotShareTheCallersSlice(t *testing.T) {
	all := []*Advisory{mustParse(t, plain)}
	s, err := NewSet(1, issued, all...)
	require.NoError(t, err)
	all[0] = nil
	assert.NotNil(t, s.At(0))
}

func TestNewSetRejects(t *testing.T) {
	superseded := func(id, by string) *Advisory {
		return mustParse(t, edited(t, full, edit{"id", `"` + id + `"`}, edit{"superseded_by", `"` + by + `"`}))
	}
	inState := func(id string, st State) *Advisory {
		return mustParse(t, edited(t, plain, edit{"id", `"` + id + `"`}, edit{"state", `"` + string(st) + `"`}))
	}
	good := mustParse(t, plain)
	handMade := *good
	handMade.Match = []Clause{{}}
	for _, tt := range []struct {
		name       string
		version    uint64
		issued     time.Time
		advisories []*Advisory
		id, says   string
	}{
		{"version 0", 0, issued, []*Advisory{good}, "", "version 0"},
		{"no instant of issue", 1, time.Time{}, []*Advisory{good}, "", "instant of its issue"},
		{"an empty set", 1, issued, nil, "", "empty set"},
		{"a nil advisory", 1, issued, []*Advisory{good, nil}, "", "nil as the advisory at index 1"},
		{"an id twice", 1, issued, []*Advisory{good, mustParse(t, plain)}, "test-2026", "in two advisories"},
		{"superseded by one that is not there", 1, issued, []*Advisory{good, superseded("test-full", "test-gone")}, "test-full", `found "test-gone", which is not in the set`},
		{"superseded in a circle of two", 1, issued, []*Advisory{superseded("test-one", "test-two"), superseded("test-two", "test-one")}, "test-two", "leads back"},
		{"superseded into a circle", 1, issued, []*Advisory{superseded("test-zero", "test-one"), superseded("test-one", "test-two"), superseded("test-two", "test-one")}, "test-two", "leads back"},
		{"superseded by a draft, which enforces nothing", 1, issued, []*Advisory{superseded("test-full", "test-draft"), inState("test-draft", Draft)}, "test-full", "which is draft"},
		{"superseded by one in shadow, which enforces nothing", 1, issued, []*Advisory{superseded("test-full", "test-shadow"), inState("test-shadow", Shadow)}, "test-full", "which is shadow"},
		{"one that Parse would refuse", 1, issued, []*Advisory{&handMade}, "test-2026", "without any condition"},
		{"the zero advisory", 1, issued, []*Advisory{{}}, "", "wanted 3 to 64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := NewSet(tt.version, tt.issued, tt.advisories...)
			assert.Nil(t, s)
			var e *Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, tt.id, e.ID)
			assert.Contains(t, err.Error(), tt.says)
			assert.Contains(t, err.Error(), tt.id)
		})
	}
	_, err := NewSet(1, issued, superseded("test-one", "test-two"), superseded("test-two", "test-2026"), good)
	assert.NoError(t, err, "a chain that ends")
}

// What Parse cannot meet, because a document has no way to say it.
func TestNewSetRejectsWhatNoDocumentSays(t *testing.T) {
	for _, tt := range []struct {
		name       string
		change     func(a *Advisory)
		path, says string
	}{
		{"no revision", func(a *Advisory) { a.Revision = 0 }, "revision", "wanted 1 or more"},
		{"fewer than none expected", func(a *Advisory) { a.ExpectedCount = -1 }, "expected_count", "wanted 0"},
		{"no published", func(a *Advisory) { a.Published = time.Time{} }, "published", "wanted an instant"},
		{"no remedies", func(a *Advisory) { a.Remedies = nil }, "remedies", "at least one way out"},
		{"no clause", func(a *Advisory) { a.Match = nil }, "match.any", "wanted at least one"},
		{"any issuer beside a key", func(a *Advisory) { a.Match[0].Issuer.Any = true }, "match.any[0].issuer", "beside keys"},
		{"an empty key identifier", func(a *Advisory) { a.Match[0].Issuer.AKI = [][]byte{{}} }, "match.any[0].issuer.aki[0]", "found 0 bytes"},
		{"a window without from", func(a *Advisory) { a.Match[0].NotBefore.From = time.Time{} }, "match.any[0].not_before.from", "wanted an instant"},
		{"serials without serials", func(a *Advisory) { a.Match[0].Serials = &Serials{} }, "match.any[0].serials", "no serials"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := mustParse(t, plain)
			tt.change(a)
			_, err := NewSet(1, issued, a)
			requireError(t, err, tt.path, tt.says)
			assert.Contains(t, err.Error(), "advisory: test-2026: ")
		})
	}
}

func TestParseSetTakesDocumentsByName(t *testing.T) {
	s, err := ParseSet(2, issued, map[string][]byte{"b.json": []byte(plain), "a.json": []byte(full), "c.json": []byte(openEnded)}, nil)
	require.NoError(t, err)
	var ids []string
	for a := range s.All() {
		ids = append(ids, a.ID)
	}
	assert.Equal(t, []string{"test-full", "test-2026", "test-open"}, ids)
}

func TestOneBadDocumentRejectsTheWholeSet(t *testing.T) {
	for _, tt := range []struct {
		name string
		docs map[string]string
		says string
	}{
		{"an unknown field", map[string]string{"a.json": plain, "b.json": edited(t, openEnded, edit{"zone", `1`})}, "advisory: b.json: test-open: zone: found an unknown field"},
		{"not JSON", map[string]string{"a.json": "<html>", "b.json": plain}, "advisory: a.json: $: not JSON"},
		{"one id in two documents", map[string]string{"a.json": plain, "b.json": plain}, "advisory: b.json: test-2026: id: found in two advisories"},
		{"a successor that is not there", map[string]string{"a.json": full, "b.json": openEnded}, "advisory: a.json: test-full: superseded_by: "},
		{"no document", nil, "advisory: found an empty set"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			docs := map[string][]byte{}
			for name, doc := range tt.docs {
				docs[name] = []byte(doc)
			}
			s, err := ParseSet(1, issued, docs, nil)
			assert.Nil(t, s)
			var e *Error
			require.ErrorAs(t, err, &e)
			assert.Contains(t, err.Error(), tt.says)
		})
	}
}

func TestRulesNeverGoBackwards(t *testing.T) {
	next := edit{"revision", `4`}
	end := edit{"ended_at", `"2026-03-06T00:00:00Z"`}
	state := func(s string) edit { return edit{"state", `"` + s + `"`} }
	resolved := edited(t, plain, state("resolved"), end)
	old := mustSet(t, 5, issued, plain, openEnded)
	ended := mustSet(t, 5, issued, resolved, openEnded)
	for _, tt := range []struct {
		name    string
		old     *Set
		version uint64
		issued  time.Time
		docs    []string
		id      string
		says    string // empty: the set may follow
	}{
		{"the same set again", old, 5, issued, []string{plain, openEnded}, "", ""},
		{"the same advisories in another order", old, 5, issued, []string{openEnded, plain}, "", ""},
		{"a higher version with the same content", old, 6, issued, []string{plain, openEnded}, "", ""},
		{"a higher revision", old, 6, issued, []string{edited(t, plain, next, edit{"title", `"Other"`}), openEnded}, "", ""},
		{"a new advisory", old, 6, issued, []string{plain, openEnded, edited(t, plain, edit{"id", `"test-new"`})}, "", ""},
		{"an active one resolved", old, 6, issued, []string{edited(t, resolved, next), openEnded}, "", ""},
		{"an active one withdrawn", old, 6, issued, []string{edited(t, plain, next, state("withdrawn"), end), openEnded}, "", ""},
		{"a resolved one withdrawn", ended, 6, issued, []string{edited(t, resolved, next, state("withdrawn")), openEnded}, "", ""},
		{"a shadow gone", old, 6, issued, []string{plain}, "", ""},
		{"a shadow made active", old, 6, issued, []string{plain, edited(t, openEnded, state("active"), edit{"revision", `2`})}, "", ""},
		{"a shadow back in draft", old, 6, issued, []string{plain, edited(t, openEnded, state("draft"), edit{"revision", `2`})}, "", ""},
		{"an ended one gone", ended, 6, issued, []string{openEnded}, "", ""},

		{"a lower version", old, 4, issued, []string{plain, openEnded}, "", "version 4 after version 5"},
		{"an earlier issue, by a second", old, 6, issued.Add(-time.Second), []string{plain, openEnded}, "", "found a set issued 2026-03-04T23:59:59Z"},
		{"other content in the same version", old, 5, issued, []string{edited(t, plain, next), openEnded}, "test-2026", "same version"},
		{"one more in the same version", old, 5, issued, []string{plain, openEnded, edited(t, plain, edit{"id", `"test-new"`})}, "test-new", "same version"},
		{"one less in the same version", old, 5, issued, []string{plain}, "test-open", "same version"},
		{"a lower revision", old, 6, issued, []string{edited(t, plain, edit{"revision", `2`}), openEnded}, "test-2026", "found 2 after 3"},
		{"other content in the same revision", old, 6, issued, []string{edited(t, plain, edit{"title", `"Other"`}), openEnded}, "test-2026", "found 3 again with other content"},
		{"an active one gone", old, 6, issued, []string{openEnded}, "test-2026", "gone while it is active"},
		{"an active one back in shadow", old, 6, issued, []string{edited(t, plain, next, state("shadow")), openEnded}, "test-2026", "found shadow after active"},
		{"an active one back in draft", old, 6, issued, []string{edited(t, plain, next, state("draft")), openEnded}, "test-2026", "found draft after active"},
		{"an ended one active again", ended, 6, issued, []string{edited(t, plain, next), openEnded}, "test-2026", "does not come back"},
		{"an ended one in draft again", ended, 6, issued, []string{edited(t, plain, next, state("draft")), openEnded}, "test-2026", "does not come back"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := mustSet(t, tt.version, tt.issued, tt.docs...).Follows(tt.old)
			if tt.says == "" {
				assert.NoError(t, err)
				return
			}
			var e *Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, tt.id, e.ID)
			assert.Contains(t, err.Error(), tt.says)
			assert.Contains(t, err.Error(), tt.id)
		})
	}
	assert.NoError(t, old.Follows(nil), "the first set follows nothing")
}

// Clone shares nothing that can be changed: every exported field of the copy is
// altered, and the original still is what it was.
func TestCloneSharesNothing(t *testing.T) {
	s := mustSet(t, 1, issued, full, plain)
	want := mustSet(t, 1, issued, full, plain)
	c := s.Clone()
	require.Equal(t, want, c)
	for a := range c.All() {
		spoil(reflect.ValueOf(a).Elem())
	}
	assert.NotEqual(t, want, c)
	assert.Equal(t, want, s)
}

// spoil changes everything in place that can be reached from v.
func spoil(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			spoil(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			spoil(v.Index(i))
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1, 0)))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				spoil(v.Field(i))
			}
		}
	case reflect.String:
		v.SetString("spoilt")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Uint8:
		v.SetUint(v.Uint() ^ 1)
	}
}
