package weakkey

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEveryWeaknessHasANameATextAndASource(t *testing.T) {
	names, texts := map[string]bool{}, map[string]bool{}
	for w := None; w < weaknesses; w++ {
		assert.NotEmpty(t, w.String())
		assert.NotEmpty(t, w.Text(), w)
		assert.Equal(t, w != None, w.Source() != "", w)
		assert.False(t, names[w.String()] || texts[w.Text()], "%v is said twice", w)
		names[w.String()], texts[w.Text()] = true, true

		b, err := w.MarshalText()
		require.NoError(t, err)
		var again Weakness
		require.NoError(t, again.UnmarshalText(b))
		assert.Equal(t, w, again)
	}
	_, err := weaknesses.MarshalText()
	assert.Error(t, err)
	assert.Equal(t, "weakness 200", Weakness(200).String())
	assert.Equal(t, "weakness 200", Weakness(200).Text())
	assert.Empty(t, Weakness(200).Source())
	assert.ErrorContains(t, new(Weakness).UnmarshalText([]byte("rocca")), `"rocca"`)
}

func TestAdvisoriesNameWeaknessesThatThereAre(t *testing.T) {
	b, err := os.ReadFile("../advisory/advisory.schema.json")
	require.NoError(t, err)
	var found []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if keys, ok := v["weak_key"].(map[string]any); ok {
				for _, name := range keys["items"].(map[string]any)["enum"].([]any) {
					found = append(found, name.(string))
				}
			}
			for _, member := range v {
				walk(member)
			}
		case []any:
			for _, member := range v {
				walk(member)
			}
		}
	}
	var schema any
	require.NoError(t, json.Unmarshal(b, &schema))
	walk(schema)
	require.NotEmpty(t, found)
	for _, name := range found {
		assert.NoError(t, new(Weakness).UnmarshalText([]byte(name)))
	}
}

func TestASetOfWeaknesses(t *testing.T) {
	var none Weaknesses
	assert.Equal(t, None, none.Gravest())
	assert.Nil(t, none.Names())
	assert.Zero(t, WeaknessesOf(None, weaknesses, 200))
	s := WeaknessesOf(Point, ROCA, Exponent, ROCA)
	assert.Equal(t, ROCA, s.Gravest())
	assert.Equal(t, []string{"roca", "exponent", "point"}, s.Names())
	assert.True(t, s.Has(Exponent))
	assert.False(t, s.Has(ClosePrimes))
	assert.False(t, s.Has(None))
	assert.False(t, s.Has(200))
}

func TestAResultPrintsAndMarshals(t *testing.T) {
	for _, row := range []struct {
		result      Result
		line, bytes string
	}{
		{Result{}, "no key: not judged", `{"key":"","judged":false,"weaknesses":[]}`},
		{Result{Key: "RSA, 2048 bits", Judged: true}, "RSA, 2048 bits: not known to be weak",
			`{"key":"RSA, 2048 bits","judged":true,"weaknesses":[]}`},
		{Result{Key: "Ed25519", Detail: "why"}, "Ed25519: cannot be judged: why",
			`{"key":"Ed25519","judged":false,"weaknesses":[],"detail":"why"}`},
		{Result{Key: "RSA", Judged: true, Weaknesses: WeaknessesOf(ROCA, Exponent), Detail: "what"}, "RSA: weak (roca, exponent): what",
			`{"key":"RSA","judged":true,"weaknesses":["roca","exponent"],"detail":"what"}`},
	} {
		assert.Equal(t, row.line, row.result.String())
		b, err := json.Marshal(row.result)
		require.NoError(t, err)
		assert.Equal(t, row.bytes, string(b))
	}
}
