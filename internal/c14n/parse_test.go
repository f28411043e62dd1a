package c14n

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func parse(t testing.TB, source string) *Document {
	t.Helper()
	d, err := Parse([]byte(source), Options{})
	require.NoError(t, err, "%q", source)
	return d
}

// find returns the first element with this local name.
func find(e *Element, local string) *Element {
	if e.Name.Local == local {
		return e
	}
	for c := range e.Elements() {
		if f := find(c, local); f != nil {
			return f
		}
	}
	return nil
}

func TestAnElementKnowsItsNameAndItsPlace(t *testing.T) {
	source := "<?xml version='1.0'?>\n" + `<a:root xmlns:a="urn:a" xmlns="urn:d" x="1" a:x="2"><b/><c >text</c ></a:root>`
	d := parse(t, source)
	root := d.Root
	assert.Equal(t, Name{"urn:a", "root"}, root.Name)
	assert.Equal(t, "a", root.Prefix)
	assert.Nil(t, root.Parent)
	require.Len(t, root.Attrs, 2)
	assert.Equal(t, Name{"", "x"}, root.Attrs[0].Name)
	assert.Equal(t, Name{"urn:a", "x"}, root.Attrs[1].Name)
	assert.True(t, strings.HasPrefix(source[root.Attrs[1].Start:], `a:x="2"`))
	x, found := root.Attr("x")
	assert.Equal(t, "1", x)
	assert.True(t, found)
	_, found = root.Attr("y")
	assert.False(t, found)

	children := slices.Collect(root.Elements())
	require.Len(t, children, 2)
	b, c := children[0], children[1]
	assert.Equal(t, Name{"urn:d", "b"}, b.Name)
	assert.Same(t, root, b.Parent)
	assert.True(t, b.Empty)
	assert.Equal(t, "<b/>", source[b.Start:b.End])
	assert.Equal(t, []int{b.End, b.End}, []int{b.Inner, b.InnerEnd})
	assert.False(t, c.Empty)
	assert.Equal(t, "<c >text</c >", source[c.Start:c.End])
	assert.Equal(t, "text", source[c.Inner:c.InnerEnd])
	assert.Equal(t, source, string(d.Source()))
	line, column := d.Position(root.Start)
	assert.Equal(t, []int{2, 1}, []int{line, column})
}

func TestCharacterDataSideBySideIsOneNode(t *testing.T) {
	source := "<a>one &lt; <![CDATA[two &lt; ]]>&#x33;\r\n<!-- - -->four<?p  d ?><b/>]]&gt;<![CDATA[]]></a>"
	a := parse(t, source).Root
	type node struct {
		kind   Kind
		text   string
		source string
	}
	var nodes []node
	for _, n := range a.Children {
		assert.Equal(t, n.Kind == ElementNode, n.Element != nil)
		nodes = append(nodes, node{n.Kind, n.Text, source[n.Start:n.End]})
	}
	assert.Equal(t, []node{
		{TextNode, "one < two &lt; 3\n", "one &lt; <![CDATA[two &lt; ]]>&#x33;\r\n"},
		{CommentNode, " - ", "<!-- - -->"},
		{TextNode, "four", "four"},
		{InstructionNode, "p d ", "<?p  d ?>"},
		{ElementNode, "", "<b/>"},
		{TextNode, "]]>", "]]&gt;<![CDATA[]]>"},
	}, nodes)
	assert.Equal(t, "one < two &lt; 3\nfour]]>", a.Text())
	assert.Empty(t, parse(t, "<a><![CDATA[]]></a>").Root.Children)
}

func TestTextIsThatOfTheElementItself(t *testing.T) {
	for source, text := range map[string]string{
		"<a/>":                          "",
		"<a>x</a>":                      "x",
		"<a>x<b>y</b>z</a>":             "xz",
		"<a><b>y</b></a>":               "",
		"<a>w<!-- -->x<b>y</b>z</a>":    "wxz",
		"<a><b/><?p?>x<b/><b/>y</a>":    "xy",
		"<a> <b/>\r\n<![CDATA[ ]]></a>": " \n ",
	} {
		assert.Equal(t, text, parse(t, source).Root.Text(), source)
	}
}

// XML 1.0 sections 2.11 and 3.3.3.
func TestWhiteSpaceIsNormalised(t *testing.T) {
	for value, normal := range map[string]string{
		"a\tb\nc\r\nd\re":                "a b c d e",
		"  a  ":                          "  a  ",
		"&#9;&#10;&#13;&#32;":            "\t\n\r ",
		"\r\r\n\n":                       "   ",
		"&#13;\n":                        "\r ",
		"&lt;&gt;&amp;&apos;&quot;&#38;": "<>&'\"&",
	} {
		got, _ := parse(t, `<a v="`+value+`"/>`).Root.Attr("v")
		assert.Equal(t, normal, got, "%q", value)
	}
	for text, normal := range map[string]string{
		"a\r\nb\rc\nd\r\r\ne":        "a\nb\nc\nd\n\ne",
		"&#13;\n&#xD;&#xA;":          "\r\n\r\n",
		"<![CDATA[a\r\nb\r]]>\r":     "a\nb\n\n",
		"\t&#9; ":                    "\t\t ",
		"<![CDATA[\r]]>\n":           "\n\n",
		"&#x1F600;&#x10FFFF;&#0065;": "😀\U0010FFFFA",
		"&#x00000041;&#00000066;":    "AB",
	} {
		assert.Equal(t, normal, parse(t, "<a>"+text+"</a>").Root.Text(), "%q", text)
	}
	a := parse(t, "<a><!--x\r\ny\rz--><?p \r\n x\r\ny?></a>").Root
	assert.Equal(t, "x\ny\nz", a.Children[0].Text)
	assert.Equal(t, "p x\ny", a.Children[1].Text)
}

func TestNamespacesHoldFromTheirTagToItsEnd(t *testing.T) {
	root := parse(t, `<a xmlns="urn:1" xmlns:p="urn:p">
		<b xmlns="urn:2" p:x="" xmlns:p="urn:q"><c/><p:d xmlns:p="urn:p"/><e xmlns=""><f/></e></b>
		<g p:x="" x=""/><p:h/><i xml:lang="en"/>
	</a>`).Root
	for local, space := range map[string]string{"a": "urn:1", "b": "urn:2", "c": "urn:2", "d": "urn:p", "e": "", "f": "", "g": "urn:1", "h": "urn:p", "i": "urn:1"} {
		assert.Equal(t, space, find(root, local).Name.Space, local)
	}
	assert.Equal(t, "urn:q", find(root, "b").Attrs[0].Name.Space, "the declaration stands after the attribute")
	assert.Equal(t, "urn:p", find(root, "g").Attrs[0].Name.Space)
	assert.Empty(t, find(root, "g").Attrs[1].Name.Space, "the default namespace is none of attributes")
	assert.Equal(t, Name{"http://www.w3.org/XML/1998/namespace", "lang"}, find(root, "i").Attrs[0].Name)
}

func TestWhatTheStandardsAllowIsRead(t *testing.T) {
	for name, source := range map[string]string{
		"byte order mark":                 "\uFEFF<a/>",
		"declaration after the mark":      "\uFEFF<?xml version=\"1.0\"?><a/>",
		"all of the declaration":          "<?xml\tversion = '1.0'\nencoding=\"uTf-8\" standalone='yes' ?><a/>",
		"target that begins like xml":     "<?xml-stylesheet a?><a/>",
		"names of the fifth edition":      "<Ͱ·\u0300\u203F.-1\U00010000><\U000EFFFF/></Ͱ·\u0300\u203F.-1\U00010000>",
		"xml declared as what it is":      `<a xmlns:xml="http://www.w3.org/XML/1998/namespace" xml:a=""/>`,
		"a prefix that begins with xml":   `<xmla:a xmlns:xmla="urn:a"/>`,
		"same local name, two namespaces": `<a xmlns:p="urn:p" xmlns:q="urn:q" p:x="" q:x="" x=""/>`,
		"the same declaration again":      `<a xmlns="urn:a"><a xmlns="urn:a"/></a>`,
		"nothing undeclared":              `<a xmlns=""/>`,
		"the deepest":                     strings.Repeat("<a>", 64) + strings.Repeat("</a>", 64),
		"deep side by side":               strings.Repeat("<a>", 63) + strings.Repeat("<a/>", 99) + strings.Repeat("</a>", 63),
		"all around the root":             " <!-- -->\n<?p?> <a/> <!-- --> <?p?>\r\n",
		"characters at the limits":        "<a>\t\n\r \uD7FF\uE000\uFFFD\U00010000\U0010FFFF\x7F\u0080</a>",
		"an address as authority":         `<a xmlns="http://u@[::1]:80/p?q/?#f/?"/>`,
		"a scheme and nothing":            `<a xmlns="x-1+.:"/>`,
	} {
		_, err := Parse([]byte(source), Options{})
		assert.NoError(t, err, name)
	}
}
