package c14n

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestARefusalNamesRuleAndPlace(t *testing.T) {
	for _, c := range []struct {
		name, source string
		rule         Rule
		place        string // line:column, offset
		detail       string
	}{
		{"nothing", "", RuleTruncated, "1:1, 0", "the document ends, expected the root element"},
		{"white space only", "\n \n", RuleTruncated, "3:1, 3", "the document ends, expected the root element"},
		{"Latin-1", "<a>\n\xE9</a>", RuleEncoding, "2:1, 4", "the byte 0xE9, expected UTF-8"},
		{"declared Latin-1", `<?xml version="1.0" encoding="latin1"?><a/>`, RuleEncoding, "1:31, 30", `the declared encoding "latin1", expected UTF-8`},
		{"UTF-16", "\xFF\xFE<\x00a\x00", RuleEncoding, "1:1, 0", "a byte order mark of UTF-16, expected UTF-8"},
		{"UTF-16 without a mark", "\x00<\x00a\x00/\x00>", RuleEncoding, "1:1, 0", "UTF-16 without a byte order mark, expected UTF-8"},
		{"UTF-32", "\x00\x00\xFE\xFF\x00\x00\x00<", RuleEncoding, "1:1, 0", "a byte order mark of UTF-32, expected UTF-8"},
		{"a second byte order mark", "\uFEFF\uFEFF<a/>", RuleOutside, "1:4, 3", "text outside the root element, expected markup or white space"},
		{"XML 1.1", `<?xml version="1.1"?><a/>`, RuleDeclaration, "1:16, 15", `version "1.1", expected 1.0`},
		{"a late declaration", "\n<?xml version='1.0'?><a/>", RuleInstruction, "2:1, 1", "an XML declaration, expected it at the very start of the document only"},
		{"billion laughs", "<?xml version='1.0'?>\r\n<!DOCTYPE lolz [<!ENTITY lol \"lol\"><!ENTITY lol2 \"&lol;&lol;\">]><lolz>&lol2;</lolz>", RuleDoctype, "2:1, 23", "a document type declaration, expected none"},
		{"an entity of nobody's", "<a>&nbsp;</a>", RuleEntity, "1:4, 3", `a reference to the entity "nbsp", expected amp, lt, gt, apos or quot`},
		{"a bare ampersand", "<a>R & D</a>", RuleReference, "1:6, 5", "& that begins no reference, expected &amp;"},
		{"NUL", "<a>\r\x00</a>", RuleCharacter, "2:1, 4", "the character U+0000, which XML 1.0 does not allow"},
		{"NUL as a reference", "<a>&#0;</a>", RuleCharacter, "1:4, 3", "a reference to the character U+0000, which XML 1.0 does not allow"},
		{"no character", "<a>\uFFFF</a>", RuleCharacter, "1:4, 3", "the character U+FFFF, which XML 1.0 does not allow"},
		{"a surrogate as a reference", "<a>&#xD83D;&#xDE00;</a>", RuleCharacter, "1:4, 3", "a reference to the character U+D83D, which XML 1.0 does not allow"},
		{"a number beyond the characters", "<a>&#x110000;</a>", RuleCharacter, "1:4, 3", "a reference to a character beyond U+10FFFF"},
		{"a number beyond 31 bits", "<a>&#xFFFFFFFF;</a>", RuleCharacter, "1:4, 3", "a reference to a character beyond U+10FFFF"},
		{"a number without end", "<a>&#" + strings.Repeat("0", 1000) + "65;</a>", RuleReference, "1:4, 3", "a character reference of more than 8 digits"},
		{"an undeclared prefix", "<a>\n <p:b/></a>", RulePrefix, "2:3, 6", `the prefix "p" of the element "b" is not declared`},
		{"an undeclared prefix of an attribute", "<a p:b=''/>", RulePrefix, "1:4, 3", `the prefix "p" of the attribute "b" is not declared`},
		{"a prefix that is no longer declared", "<a><b xmlns:p='urn:p'/><p:c/></a>", RulePrefix, "1:25, 24", `the prefix "p" of the element "c" is not declared`},
		{"xmlns as a prefix", "<xmlns:a/>", RuleReserved, "1:2, 1", "an element with the prefix xmlns, which declares namespaces only"},
		{"xml bound elsewhere", "<a xmlns:xml='urn:x'/>", RuleReserved, "1:4, 3", "the prefix xml bound to another namespace than http://www.w3.org/XML/1998/namespace"},
		{"the namespace of xml for another", "<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>", RuleReserved, "1:4, 3", "the namespace http://www.w3.org/XML/1998/namespace bound to another prefix than xml"},
		{"xmlns declared", "<a xmlns:xmlns='http://www.w3.org/2000/xmlns/'/>", RuleReserved, "1:4, 3", "a declaration of the prefix xmlns, which cannot be declared"},
		{"a prefix undeclared", "<a xmlns:p=''/>", RuleUndeclared, "1:4, 3", `the prefix "p" bound to no namespace, which only xmlns="" can do`},
		{"a relative namespace name", "<a xmlns='hl7'/>", RuleNamespaceURI, "1:4, 3", `the namespace name "hl7" is not an absolute URI, as Canonical XML needs it`},
		{"a network path as one", "<a xmlns='//h/p'/>", RuleNamespaceURI, "1:4, 3", `the namespace name "//h/p" is not an absolute URI, as Canonical XML needs it`},
		{"an attribute twice", "<a b='1'\nb='1'/>", RuleDuplicate, "2:1, 9", `a second attribute "b" of the element "a"`},
		{"an expanded name twice", "<a xmlns:p='urn:x' xmlns:q='urn:x' p:b='' q:b=''/>", RuleDuplicate, "1:43, 42", `the attributes "p:b" and "q:b" of the element "a" are both "b" in the namespace "urn:x"`},
		{"a declaration twice", "<a xmlns:p='urn:x' xmlns:p='urn:x'/>", RuleDuplicate, "1:20, 19", `a second declaration "xmlns:p"`},
		{"an unquoted value", "<a b=1/>", RuleAttribute, "1:6, 5", `the value of the attribute "b" is not quoted`},
		{"< in a value", "<a b='<'/>", RuleAttribute, "1:7, 6", `< in the value of the attribute "b", expected &lt;`},
		{"two colons", "<a:b:c/>", RuleName, "1:2, 1", `the name of an element that begins with "a:b": expected one colon at most, with a name before and after it`},
		{"tags that cross", "<a>\n<b>\n</a></b>", RuleNesting, "3:1, 8", `the end tag of "a", expected that of "b" of line 2`},
		{"CDATA end", "<a>]]></a>", RuleMarkup, "1:4, 3", "]]> in character data, expected ]]&gt;"},
		{"-- in a comment", "<a><!-- -- --></a>", RuleComment, "1:9, 8", "-- in a comment, expected it at the end only, as -->"},
		{"too deep", strings.Repeat("<a>", 64) + "<b>", RuleDepth, "1:193, 192", `the element "b" is 65 deep, expected at most 64`},
		{"two roots", "<a/>\n<b/>", RuleRoots, "2:1, 5", `another element after the root "a"`},
		{"text after the root", "<a/>b", RuleOutside, "1:5, 4", "text outside the root element, expected markup or white space"},
		{"cut off in content", "<a>\n <b>text", RuleTruncated, "2:9, 12", `the document ends inside the element "b" of line 2`},
		{"cut off in a tag", "<a><b c='d'", RuleTruncated, "1:4, 3", `the document ends inside the tag of "b"`},
		{"cut off in an end tag", "<a><long></lo", RuleTruncated, "1:10, 9", `the document ends inside the end tag of "long"`},
		{"cut off in a value", "<a b='c", RuleTruncated, "1:6, 5", `the value of the attribute "b" does not end`},
		{"cut off in a comment", "<a><!-- ", RuleTruncated, "1:4, 3", "a comment that does not end"},
		{"a name without end", "<a><b></" + strings.Repeat("n", 1e5) + ">", RuleNesting, "1:7, 6", `the end tag of "` + strings.Repeat("n", 60) + `"…, expected that of "b" of line 1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.source), Options{})
			var e *Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, c.rule, e.Rule)
			assert.Equal(t, c.place, fmt.Sprintf("%d:%d, %d", e.Line, e.Column, e.Offset))
			assert.Equal(t, c.detail, e.Detail)
			assert.Equal(t, fmt.Sprintf("c14n: line %d, column %d, offset %d: %s: %s", e.Line, e.Column, e.Offset, c.rule, c.detail), err.Error())
		})
	}
}

func TestARefusalShowsNoText(t *testing.T) {
	for _, source := range []string{
		"<a>9990000000 & </a>", "<a>9990000000\x00</a>", "<a b='9990000000<'/>", "<a>9990000000", "<a/>9990000000", "<!-- 9990000000 -- -->", "<a b='9990000000'b='9990000000'/>", "<a>9990000000]]></a>",
	} {
		_, err := Parse([]byte(source), Options{})
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "999", source)
	}
}

func TestADocumentOverTheLimitIsRefusedUnread(t *testing.T) {
	exact := append([]byte("<a>"), append(bytes.Repeat([]byte("\n"), 1<<20-7), "</a>"...)...)
	_, err := Parse(exact, Options{})
	require.NoError(t, err)
	_, err = Parse(append(exact, '\n'), Options{})
	assert.EqualError(t, err, "c14n: line 1048570, column 5, offset 1048576: document too large: 1048577 bytes, expected at most 1048576")
	_, err = Parse([]byte("<a/>"), Options{MaxBytes: 3})
	assert.Equal(t, RuleSize, ruleOf(t, err))
	_, err = Parse([]byte("<a/>"), Options{MaxBytes: 4})
	assert.NoError(t, err)

	huge := bytes.Repeat([]byte("<a>"), 100<<20/3)
	spent := allocated(func() { _, err = Parse(huge, Options{}) })
	assert.Equal(t, RuleSize, ruleOf(t, err))
	assert.Less(t, spent, uint64(1<<16))
}

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestMemoryIsAMultipleOfTheSource(t *testing.T) {
	fill := func(head, body, tail string) []byte {
		return []byte(head + strings.Repeat(body, (1<<20-len(head)-len(tail))/len(body)) + tail)
	}
	attributes := []byte("<a")
	for i := 0; len(attributes) < 1<<20-20; i++ {
		attributes = fmt.Appendf(attributes, " %c%x=''", 'a'+i%26, i)
	}
	for name, c := range map[string]struct {
		source []byte
		most   int
	}{
		"prescriptions":         {many(t, 85), 10},
		"elements":              {fill("<a>", "<a/>", "</a>"), 160},
		"elements and text":     {fill("<a>", "<a/>.", "</a>"), 160},
		"comments":              {fill("<a>", "<!---->", "</a>"), 160},
		"attributes":            {append(attributes, "/>"...), 160},
		"references":            {fill("<a>", "&#65;", "</a>"), 10},
		"references and markup": {fill("<a>", "&lt;<?p?>", "</a>"), 160},
		"line ends":             {fill("<a>", "\r", "</a>"), 10},
		"text":                  {fill("<a>", ".", "</a>"), 10},
	} {
		var err error
		spent := allocated(func() { _, err = Parse(c.source, Options{}) })
		require.NoError(t, err, name)
		assert.LessOrEqual(t, float64(spent)/float64(len(c.source)), float64(c.most), name)
	}
}

// So many that what takes the square of them would not end within the test's time.
func TestManyAttributesAndDeclarationsTakeNoMoreThanTheirShare(t *testing.T) {
	const n = 300_000
	for name, write := range map[string]func(b []byte, i int) []byte{
		"attributes in no order": func(b []byte, i int) []byte { return fmt.Appendf(b, " a%d=''", i*7919%n) },
		"declarations":           func(b []byte, i int) []byte { return fmt.Appendf(b, " xmlns:p%d='urn:p'", i) },
		"declarations used by attributes": func(b []byte, i int) []byte {
			return fmt.Appendf(b, " xmlns:p%d='urn:%d' p%d:a=''", i, i, n-1-i)
		},
	} {
		source := []byte("<a")
		for i := range n {
			source = write(source, i)
		}
		source = append(source, "><b/></a>"...)
		d, err := Parse(source, Options{MaxBytes: len(source)})
		require.NoError(t, err, name)
		assert.NotEmpty(t, d.Canonical(nil), name)

		source = append(source[:len(source)-len("><b/></a>")], " last='' last=''/>"...)
		_, err = Parse(source, Options{MaxBytes: len(source)})
		assert.Equal(t, RuleDuplicate, ruleOf(t, err), name)
	}

	// Many prefixes around many elements that use one of them each.
	source := []byte("<a")
	for i := range n / 5 {
		source = fmt.Appendf(source, " xmlns:p%d='urn:%d'", i, i)
	}
	source = append(source, '>')
	for i := range n {
		source = fmt.Appendf(source, "<p%d:b/>", i%(n/5))
	}
	d, err := Parse(append(source, "</a>"...), Options{MaxBytes: 1 << 30})
	require.NoError(t, err)
	forms := 0
	for e := range d.Root.Elements() {
		forms += len(e.Canonical(nil))
	}
	assert.Equal(t, len(d.Canonical(nil)), forms+len("<a></a>"), "each declares its own")
}

func TestEveryRuleIsBrokenBySomeTest(t *testing.T) {
	broken := map[Rule]bool{RuleSize: true} // above
	for _, b := range breaches {
		broken[b.rule] = true
	}
	source, err := os.ReadFile("error.go")
	require.NoError(t, err)
	rules := regexp.MustCompile(`(?m)^\tRule\w+ +Rule = "([^"]+)"`).FindAllSubmatch(source, -1)
	assert.Len(t, rules, 22)
	for _, r := range rules {
		assert.True(t, broken[Rule(r[1])], "%s", r[1])
	}
}

// Cut off anywhere, a document is refused: nothing but a whole one passes for one.
func TestATruncatedPrescriptionIsRefused(t *testing.T) {
	source := bytes.TrimSpace(prescription(t))
	for i := range source {
		_, err := Parse(source[:i], Options{})
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("cut off after %d bytes: %v", i, err)
		}
		assert.LessOrEqual(t, e.Offset, i)
	}
}

func TestElementsAreCounted(t *testing.T) {
	_, err := Parse([]byte("<a><b/><b/></a>"), Options{MaxElements: 3})
	require.NoError(t, err)
	_, err = Parse([]byte("<a><b/><b/><b/></a>"), Options{MaxElements: 3})
	var e *Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, RuleSize, e.Rule)
	assert.Equal(t, 11, e.Offset)

	none := func(*Document, *Element) error { return nil }
	many := "<a>" + strings.Repeat("<p><b/></p>", 100) + "</a>"
	_, err = ParseEach([]byte(many), Options{MaxElements: 103}, "p", none)
	assert.NoError(t, err, "the root, 100 that stay, and what is in one at a time")
	_, err = ParseEach([]byte("<a><p><b/><b/></p></a>"), Options{MaxElements: 3}, "p", none)
	assert.ErrorAs(t, err, &e)
}
