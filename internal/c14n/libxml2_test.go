package c14n

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ownRules are kept by us and not by libxml2.
var ownRules = []Rule{RuleDoctype, RuleDepth, RuleEncoding}

// canonical is the whole way, as a caller goes it.
func canonical(source []byte) ([]byte, error) {
	d, err := Parse(source, Options{})
	if err != nil {
		return nil, err
	}
	return d.Canonical(nil), nil
}

func ruleOf(t testing.TB, err error) Rule {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	return e.Rule
}

// The documents of two kinds stay inside the rules, those of the third break one.
func TestC14NAgainstLibxml2(t *testing.T) {
	n := documents(t, 3000)
	var compared, identical, refused, different int
	for _, kind := range []struct {
		name     string
		generate func(*generator)
		first    int
	}{{"HL7 v3", hl7, 0}, {"general", general, 1e9}} {
		var sources [][]byte
		for i := range n * 2 / 5 {
			sources = append(sources, generate(kind.generate, kind.first+i).source)
		}
		for i, theirs := range xmllint(t, sources) {
			compared++
			ours, err := canonical(sources[i])
			switch {
			case theirs.form == nil:
				t.Fatalf("%s document %d is not inside the rules: %s\n%q", kind.name, i, theirs.complaints, sources[i])
			case err != nil:
				refused++
				t.Errorf("%s document %d is refused: %v\n%q", kind.name, i, err, sources[i])
			case !bytes.Equal(ours, theirs.form):
				different++
				t.Errorf("%s document %d\nis    %q\nours  %q\ntheirs %q", kind.name, i, sources[i], ours, theirs.form)
			default:
				identical++
			}
		}
	}

	var sources [][]byte
	var rules []Rule
	for i := range n / 5 {
		g := &generator{Rand: rand.New(rand.NewPCG(4, uint64(i)))}
		b := breaches[i%len(breaches)]
		kind, d := pick(g, hl7, general), generated{}
		for j := 0; len(d.holes) == 0; j++ {
			d = generate(kind, 2e9+1e3*i+j)
		}
		source := b.apply(g, d)
		sources, rules = append(sources, source), append(rules, b.rule)
	}
	brokenRefused := 0
	for i, theirs := range xmllint(t, sources) {
		compared++
		ours, err := canonical(sources[i])
		var e *Error
		switch {
		case err == nil && theirs.form != nil && !bytes.Equal(ours, theirs.form):
			different++
			t.Errorf("broken document %d (%s)\nis    %q\nours  %q\ntheirs %q", i, rules[i], sources[i], ours, theirs.form)
		case err == nil:
			t.Errorf("broken document %d is not refused: %s\n%q", i, rules[i], sources[i])
		case !errors.As(err, &e) || e.Rule != rules[i]:
			t.Errorf("broken document %d is refused for another rule than %q: %v\n%q", i, rules[i], err, sources[i])
		default:
			brokenRefused++
			if theirs.complaints == "" && !slices.Contains(ownRules, e.Rule) {
				t.Errorf("broken document %d is refused, and libxml2 sees nothing wrong with it: %v\n%q", i, err, sources[i])
			}
		}
	}
	t.Logf("%d documents compared, %d identical, %d inside the rules refused, %d outside them refused by name, %d different",
		compared, identical, refused, brokenRefused, different)
	assert.Zero(t, different)
	assert.Zero(t, refused)
	assert.GreaterOrEqual(t, identical, 2000)
}

func TestEveryElementInPlaceIsCanonicalAsInLibxml2(t *testing.T) {
	var sources [][]byte
	for i := range documents(t, 600) {
		kind := hl7
		if i%2 == 0 {
			kind = general
		}
		sources = append(sources, generate(kind, 3e9+i).source)
	}
	elements := 0
	for i, theirs := range libxml2(t, sources) {
		d, err := Parse(sources[i], Options{})
		require.NoError(t, err, "%q", sources[i])
		ours := [][]byte{d.Canonical(nil)}
		var walk func(*Element)
		walk = func(e *Element) {
			ours = append(ours, e.Canonical(nil))
			for c := range e.Elements() {
				walk(c)
			}
		}
		walk(d.Root)
		require.Len(t, theirs, len(ours), "%q", sources[i])
		for j := range ours {
			require.Equal(t, string(theirs[j]), string(ours[j]), "element %d of %q", j, sources[i])
		}
		elements += len(ours) - 1
	}
	t.Logf("%d elements in place and the %d documents around them, all identical", elements, len(sources))
}

// mutate changes a byte or a few, mostly to what means something in XML.
func mutate(r *rand.Rand, source []byte) []byte {
	b := slices.Clone(source)
	pieces := []string{"<", ">", "&", "\"", "'", "]", "]]>", "-", "--", "?", "!", "/", ":", "=", ";", "#", " ", "\r", "\n", "\t", "a", "x", "xml", "xmlns", "xmlns:a", "\u00E9", "\u0300", "\u00B7", "\x01", "\xC3", "<!--", "<?", "<![CDATA[", "&#", "&amp;"}
	for range 1 + r.IntN(3) {
		i := r.IntN(len(b) + 1)
		j := min(len(b), i+r.IntN(4))
		switch r.IntN(4) {
		case 0:
			b = slices.Delete(b, i, j)
		case 1:
			b = slices.Insert(b, i, b[i:j]...)
		case 2:
			b = slices.Insert(b, i, []byte(pieces[r.IntN(len(pieces))])...)
		default:
			b = slices.Replace(b, i, j, []byte(pieces[r.IntN(len(pieces))])...)
		}
	}
	return b
}

var (
	unspaced      = regexp.MustCompile(`^\x{FEFF}?<\?xml[^>]*["']standalone`) // which libxml2 takes
	longReference = regexp.MustCompile(`&#x?[0-9A-Fa-f]{9}`)
)

func TestMutatedDocumentsAreJudgedAsByXmllint(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	var sources [][]byte
	for i := range documents(t, 2000) {
		kind := general
		if i%3 == 0 {
			kind = hl7
		}
		sources = append(sources, mutate(r, generate(kind, 4e9+i).source))
	}
	accepted := 0
	for i, theirs := range xmllint(t, sources) {
		ours, err := canonical(sources[i])
		if err == nil {
			accepted++
			if theirs.form == nil && strings.Contains(theirs.complaints, "is not a valid URI") {
				continue // http://:/, which RFC 3986 does not rule out
			}
			require.NotNil(t, theirs.form, "accepted, and refused by xmllint: %s\n%q", theirs.complaints, sources[i])
			if !bareAmpersand(ours) {
				require.Equal(t, string(theirs.form), string(ours), "%q", sources[i])
			}
			continue
		}
		if theirs.form != nil && theirs.complaints == "" && !slices.Contains(ownRules, ruleOf(t, err)) &&
			!unspaced.Match(sources[i]) && !longReference.Match(sources[i]) {
			t.Errorf("refused, and xmllint sees nothing wrong with it: %v\n%q", err, sources[i])
		}
	}
	t.Logf("%d accepted with identical bytes, %d refused", accepted, len(sources)-accepted)
}

// bareAmpersand reports whether libxml2 gets a canonical form wrong: it does not escape
// namespace names, and what it writes for one with an ampersand is not XML.
func bareAmpersand(form []byte) bool {
	return regexp.MustCompile(` xmlns(:[^=]*)?="[^"]*&amp;`).Match(form)
}

// Canonical XML 1.0 section 2.3 has namespace nodes written as attributes are.
func TestAnAmpersandInANamespaceNameIsEscaped(t *testing.T) {
	source := []byte(`<a xmlns="http://example.org/?a=1&amp;b=2"/>`)
	form, err := canonical(source)
	require.NoError(t, err)
	assert.Equal(t, `<a xmlns="http://example.org/?a=1&amp;b=2"></a>`, string(form))
	assert.True(t, bareAmpersand(form))
	if theirs := xmllint(t, [][]byte{source, form}); bytes.Contains(theirs[0].form, []byte("1&b")) {
		assert.Equal(t, theirs[0].form, theirs[1].form)
		again := xmllint(t, [][]byte{theirs[0].form})
		assert.Nil(t, again[0].form, "libxml2 does not read what it wrote itself")
	}
}

func TestCommentsAreTakenOutOfWhatXmllintWrites(t *testing.T) {
	for with, without := range map[string]string{
		"<a><!-- x --></a>":                          "<a></a>",
		"<!-- x -->\n<!---->\n<a>\n<!--\n-->\n</a>":  "<a>\n\n</a>",
		"<a></a>\n<!-- x -->\n<?p?>\n<!-- <?q?> -->": "<a></a>\n<?p?>",
		"<?p <!-- x -->?>\n<a><?p <!-- ?></a>":       "<?p <!-- x -->?>\n<a><?p <!-- ?></a>",
		"<a><!--> x --></a>\n<!-->-->":               "<a></a>",
		"<a><b></b><!-- </a> --></a>\n<!--<a>-->":    "<a><b></b></a>",
	} {
		assert.Equal(t, without, string(withoutComments([]byte(with))), fmt.Sprintf("%q", with))
	}
}
