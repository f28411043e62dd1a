package guard

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// incomplete says what a reason's description lacks.
func incomplete(d description) string {
	switch {
	case !regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`).MatchString(d.name):
		return "name"
	case d.text == "":
		return "text"
	case d.check == "":
		return "check"
	case !d.effect.Permits() && d.wanted == "":
		return "wanted"
	case !d.effect.Permits() && len(d.remedies) == 0:
		return "remedies"
	}
	return ""
}

func TestEveryReasonIsDescribed(t *testing.T) {
	names := map[string]Reason{}
	for r := Unspecified; r < reasons; r++ {
		assert.Empty(t, incomplete(descriptions[r]), "of %s (%d)", r, r)
		other, taken := names[r.String()]
		assert.False(t, taken, "%d and %d are both named %s", r, other, r)
		names[r.String()] = r
	}
}

func TestAReasonWithoutTextIsFound(t *testing.T) {
	whole := descriptions[Affected]
	for lacks, d := range map[string]description{
		"name":     {"", whole.check, whole.effect, whole.text, whole.wanted, whole.remedies},
		"text":     {whole.name, whole.check, whole.effect, "", whole.wanted, whole.remedies},
		"check":    {whole.name, "", whole.effect, whole.text, whole.wanted, whole.remedies},
		"wanted":   {whole.name, whole.check, whole.effect, whole.text, "", whole.remedies},
		"remedies": {whole.name, whole.check, whole.effect, whole.text, whole.wanted, nil},
	} {
		assert.Equal(t, lacks, incomplete(d))
	}
}

// The comments beside the constants are what a reader of the documentation goes by.
func TestEveryReasonHasTheEffectOfItsComment(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, parser.ParseComments)
	require.NoError(t, err)
	said := map[string]string{}
	var order []string
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			if name := v.Names[0].Name; v.Comment != nil && len(v.Values) == 0 || name == "Unspecified" {
				said[name] = regexp.MustCompile(`^[a-z]+`).FindString(v.Comment.Text())
				order = append(order, name)
			}
		}
	}
	require.Equal(t, "reasons", order[len(order)-1])
	order = order[:len(order)-1]
	require.Len(t, order, int(reasons), "each reason has a comment")
	for r, name := range order {
		assert.Equal(t, descriptions[r].effect.String(), said[name], name)
	}
}

func TestReasonAsText(t *testing.T) {
	for r := Unspecified; r < reasons; r++ {
		b, err := r.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, r.String(), string(b))
		back := Reason(-1)
		require.NoError(t, back.UnmarshalText(b))
		assert.Equal(t, r, back)
	}
	for _, r := range []Reason{-1, reasons} {
		_, err := r.MarshalText()
		assert.ErrorContains(t, err, "guard: no reason has the number")
		assert.Contains(t, r.String(), "reason ")
	}
	var r Reason
	assert.EqualError(t, r.UnmarshalText([]byte("bad")), `guard: "bad" is no reason`)
	assert.Error(t, r.UnmarshalText(nil))
}
