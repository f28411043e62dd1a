package advisory

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var compileOnce = sync.OnceValues(func() (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("urn:rxguard:advisory:1", doc); err != nil {
		return nil, err
	}
	return c.Compile("urn:rxguard:advisory:1")
})

// compiledSchema also validates the schema against the meta-schema of draft
// 2020-12, which the compiler does.
func compiledSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	s, err := compileOnce()
	require.NoError(t, err)
	return s
}

func validate(t testing.TB, doc string) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(doc)))
	require.NoError(t, err)
	return compiledSchema(t).Validate(v)
}

func requireSchemaAccepts(t testing.TB, doc string) {
	t.Helper()
	require.NoError(t, validate(t, doc))
}

func TestSchemaAcceptsWhatParseAccepts(t *testing.T) {
	for _, doc := range []string{plain, full, openEnded, string(notice2020)} {
		mustParse(t, doc)
		requireSchemaAccepts(t, doc)
	}
}

func TestSchemaRejectsEveryStructuralFault(t *testing.T) {
	for _, r := range rejections {
		t.Run(r.name, func(t *testing.T) {
			err := validate(t, edited(t, r.doc, r.edits...))
			if r.schema {
				assert.Error(t, err)
			} else {
				assert.NoError(t, err, "the schema can tell this one: say so in the table")
			}
		})
	}
}

func TestSchemaKnowsTheSameWords(t *testing.T) {
	var s map[string]any
	require.NoError(t, json.Unmarshal(Schema(), &s))
	dig := func(path ...string) (words []string) {
		var at any = s
		for _, step := range path {
			require.Contains(t, at, step)
			at = at.(map[string]any)[step]
		}
		for _, w := range at.([]any) {
			words = append(words, w.(string))
		}
		return words
	}
	assert.Equal(t, spelled(states), dig("properties", "state", "enum"))
	assert.Equal(t, spelled(bases), dig("properties", "basis", "enum"))
	assert.Equal(t, spelled(remedyKinds), dig("$defs", "remedy", "properties", "kind", "enum"))
	conditions := []string{"$defs", "conditions", "properties"}
	assert.Equal(t, weaknesses, dig(append(slices.Clone(conditions), "weak_key", "items", "enum")...))
	assert.Equal(t, keyUsageNames, dig(append(slices.Clone(conditions), "key_usage", "items", "enum")...))
	assert.Equal(t, signatureAlgorithms, dig(append(slices.Clone(conditions), "signature_algorithm", "items", "enum")...))
}

func spelled[T ~string](words []T) (out []string) {
	for _, w := range words {
		out = append(out, string(w))
	}
	return out
}

// Every object of the schema that lists properties closes itself.
func TestSchemaIsClosedEverywhere(t *testing.T) {
	var s any
	require.NoError(t, json.Unmarshal(Schema(), &s))
	objects := 0
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			if v["type"] == "object" && path != "/$defs/conditions" { // its two users close it
				objects++
				assert.Equal(t, false, v["additionalProperties"], path)
			}
			if v["$ref"] == "#/$defs/conditions" {
				objects++
				assert.Equal(t, false, v["unevaluatedProperties"], path)
			}
			for k, sub := range v {
				walk(path+"/"+k, sub)
			}
		case []any:
			for _, sub := range v {
				walk(path, sub)
			}
		}
	}
	walk("", s)
	assert.Equal(t, 11, objects)
}

func TestSchemaHandsOutACopy(t *testing.T) {
	Schema()[0] = 'x'
	assert.Equal(t, byte('{'), Schema()[0])
}

// Validators differ in their regular expressions: only escapes that ECMA-262, with
// and without its u flag, Python and RE2 read alike are used.
func TestSchemaPatternsArePortable(t *testing.T) {
	patterns := regexp.MustCompile(`"pattern": "((?:[^"\\]|\\.)*)"`).FindAllStringSubmatch(string(Schema()), -1)
	require.NotEmpty(t, patterns)
	for _, p := range patterns {
		for _, escape := range regexp.MustCompile(`\\\\(.)`).FindAllStringSubmatch(p[1], -1) {
			assert.Contains(t, []string{"x", "."}, escape[1], p[1])
		}
	}
}
