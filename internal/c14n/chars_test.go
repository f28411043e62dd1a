package c14n

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The productions as XML 1.0 (fifth edition) prints them: 2, 4 and 4a.
const (
	productionChar      = `#x9 | #xA | #xD | [#x20-#xD7FF] | [#xE000-#xFFFD] | [#x10000-#x10FFFF]`
	productionNameStart = `":" | [A-Z] | "_" | [a-z] | [#xC0-#xD6] | [#xD8-#xF6] | [#xF8-#x2FF] | [#x370-#x37D] | [#x37F-#x1FFF] | [#x200C-#x200D] | [#x2070-#x218F] | [#x2C00-#x2FEF] | [#x3001-#xD7FF] | [#xF900-#xFDCF] | [#xFDF0-#xFFFD] | [#x10000-#xEFFFF]`
	productionNameChar  = productionNameStart + ` | "-" | "." | [0-9] | #xB7 | [#x0300-#x036F] | [#x203F-#x2040]`
)

type runes struct{ first, last rune }

func production(t testing.TB, s string) []runes {
	t.Helper()
	character := func(s string) rune {
		if hex, found := strings.CutPrefix(s, "#x"); found {
			n, err := strconv.ParseInt(hex, 16, 32)
			require.NoError(t, err)
			return rune(n)
		}
		r, n := utf8.DecodeRuneInString(s)
		require.Len(t, s, n)
		return r
	}
	var ranges []runes
	for part := range strings.SplitSeq(s, " | ") {
		if m := regexp.MustCompile(`^\[(.+)-(.+)\]$`).FindStringSubmatch(part); m != nil {
			ranges = append(ranges, runes{character(m[1]), character(m[2])})
		} else {
			r := character(strings.Trim(part, `"`))
			ranges = append(ranges, runes{r, r})
		}
	}
	return ranges
}

func in(ranges []runes, r rune) bool {
	for _, x := range ranges {
		if r >= x.first && r <= x.last {
			return true
		}
	}
	return false
}

func TestEveryCharacterIsWhatTheProductionsSay(t *testing.T) {
	char, start, name := production(t, productionChar), production(t, productionNameStart), production(t, productionNameChar)
	for r := rune(0); r <= utf8.MaxRune+1; r++ {
		if isChar(r) != in(char, r) {
			t.Errorf("U+%04X is a character: %v", r, isChar(r))
		}
		if r > utf8.MaxRune || r >= 0xD800 && r <= 0xDFFF {
			continue
		}
		s := string(r)
		if begins := ncName(s, 0) == len(s); begins != (in(start, r) && r != ':') {
			t.Errorf("U+%04X begins a name: %v", r, begins)
		}
		if goesOn := ncName("a"+s, 0) == 1+len(s); goesOn != (in(name, r) && r != ':') {
			t.Errorf("U+%04X is of a name: %v", r, goesOn)
		}
	}
}

func TestNamesAtTheLimitsOfTheProductionsAreThoseOfXmllint(t *testing.T) {
	var sources [][]byte
	for _, x := range production(t, productionNameChar) {
		for _, r := range []rune{x.first - 1, x.first, x.last, x.last + 1} {
			for _, document := range []string{"<%c/>", "<a%c/>", "<a>%c</a>", "<a b%c=''/>", "<?%c?><a/>"} {
				sources = append(sources, fmt.Appendf(nil, document, r))
			}
		}
	}
	for i, theirs := range xmllint(t, sources) {
		_, err := canonical(sources[i])
		assert.Equal(t, theirs.form != nil && theirs.complaints == "", err == nil, "%q: %v, %s", sources[i], err, theirs.complaints)
	}
}
