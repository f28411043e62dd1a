package c14n

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// breach is one way of breaking a rule.
type breach struct {
	rule  Rule
	apply func(*generator, generated) []byte
}

// inside puts something into the content of an element.
func inside(rule Rule, something ...string) breach {
	return breach{rule, func(g *generator, d generated) []byte {
		return slices.Insert(slices.Clone(d.source), pick(g, d.holes...), []byte(pick(g, something...))...)
	}}
}

// after puts something after the root.
func after(rule Rule, something ...string) breach {
	return breach{rule, func(g *generator, d generated) []byte {
		return append(slices.Clone(d.source), pick(g, something...)...)
	}}
}

// begin puts something in the place of the XML declaration.
func begin(rule Rule, something ...string) breach {
	return breach{rule, func(g *generator, d generated) []byte {
		return append([]byte(pick(g, something...)), d.source[d.prolog:]...)
	}}
}

func utf16Of(d generated, mark bool, put func(b []byte, u uint16) []byte) []byte {
	var b []byte
	text := strings.TrimPrefix(string(d.source), byteOrderMark)
	if mark {
		text = byteOrderMark + text
	} else {
		text = strings.TrimLeft(text, " \t\r\n")
	}
	for _, u := range utf16.Encode([]rune(text)) {
		b = put(b, u)
	}
	return b
}

func bigEndian(b []byte, u uint16) []byte    { return append(b, byte(u>>8), byte(u)) }
func littleEndian(b []byte, u uint16) []byte { return append(b, byte(u), byte(u>>8)) }

// breaches break every rule but the size, each in every way that comes to mind.
var breaches = []breach{
	inside(RuleEncoding, "\xFF", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE9", "\x80", "\xF0\x9F\x98"),
	begin(RuleEncoding, `<?xml version="1.0" encoding="ISO-8859-1"?>`, `<?xml version="1.0" encoding="UTF-16"?>`, `<?xml version='1.0' encoding='US-ASCII'?>`, `<?xml version="1.0" encoding=""?>`),
	{RuleEncoding, func(g *generator, d generated) []byte {
		return utf16Of(d, g.chance(2), pick(g, bigEndian, littleEndian))
	}},
	begin(RuleDeclaration, `<?xml?>`, `<?xml ?>`, `<?xml version="1.1"?>`, `<?xml version="2.0"?>`, `<?xml encoding="UTF-8"?>`, `<?xml version="1.0" standalone="maybe"?>`,
		`<?xml version="1.0" standalone="yes" encoding="UTF-8"?>`, `<?xml version="1.0"encoding="UTF-8"?>`, `<?xml version="1.0" version="1.0"?>`, `<?xml version=1.0?>`, `<?xml version?>`,
		`<?xml version="1.0" x="y"?>`, `<?xml version="1.0' ?>`, `<?xml version="1.0"? >`, `<?xml version="1.0">`),
	begin(RuleDoctype, `<!DOCTYPE e>`, `<!DOCTYPE e SYSTEM "http://example.org/e.dtd">`, `<!doctype e>`,
		`<?xml version="1.0"?><!DOCTYPE e [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>`,
		`<!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/passwd">]>`, ` <!DOCTYPE e [<!ATTLIST e a CDATA "default">]>`),
	inside(RuleDoctype, `<!DOCTYPE e>`),
	after(RuleDoctype, `<!DOCTYPE e>`),
	inside(RuleCharacter, "\x00", "\x01", "\x0B", "\x0C", "\x1F", "\uFFFE", "\uFFFF"),
	inside(RuleCharacter, "<!-- \x01 -->", "<?t \x02?>", "<![CDATA[\x03]]>", "<e a='\x04'/>", "<e \x05/>", "<\x06/>", "<e></e\x07>"),
	inside(RuleCharacter, "&#0;", "&#x1;", "&#xB;", "&#31;", "&#xD800;", "&#xDFFF;", "&#xFFFE;", "&#xFFFF;", "&#x110000;", "&#99999999;", "&#xFFFFFFFF;", "&#x80000041;", "<e a='&#0;'/>"),
	inside(RuleEntity, "&nbsp;", "&x;", "&AMP;", "&Lt;", "<e a='&eacute;'/>"),
	inside(RuleReference, "&", "& ", "&;", "&amp", "&amp ;", "&#;", "&#x;", "&#X41;", "&#65", "&#6a;", "&#x4G;", "&#-1;", "&1;", "&#99999999999999999999;", "&#xFFFFFFFFFFFFFFFFF;", "<e a='&'/>", "<e a='a&b'/>"),
	inside(RuleName, "<1/>", "<-e/>", "<.e/>", "< e/>", "<:e/>", "<e:/>", "<e:f:g/>", "<e:1/>", "<\u00D7/>", "<\u037E/>", "<\u0300e/>", "<e :a='1'/>", "<e a:='1'/>", "<e a:b:c='1'/>", "<e 1='1'/>", "<e xmlns:='urn:a'/>", "<?a:b c?>", "<e xmlns:a:b='urn:a'/>", "<e></>", "<e></ e>"),
	inside(RuleComment, "<!-- -- -->", "<!--a--b-->", "<!-- --->"),
	inside(RuleInstruction, "<??>", "<? t?>", "<?1 a?>", "<?xml?>", "<?xml version='1.0'?>", "<?XML a?>", "<?Xml?>", "<?t?a?>", "<?t,a?>"),
	begin(RuleInstruction, ` <?xml version="1.0"?>`, "\n"+`<?xml version="1.0"?>`, `<!-- --><?xml version="1.0"?>`, `<?XML version="1.0"?>`, `<?xml version="1.0"?><?xml version="1.0"?>`),
	inside(RuleAttribute, "<e a/>", "<e a></e>", "<e a=1/>", "<e a=/>", `<e a='1' b/>`, "<e a='<'/>", `<e a='1'b='2'/>`, `<e"a"/>`, "<e a 'b'/>", "<e,/>", `<e a="1""/>`),
	inside(RuleDuplicate, `<e a="1" a="2"/>`, `<e a="1" b="" a="1"/>`, `<e xmlns:q="urn:q" q:a="" q:a=""/>`, `<e xmlns:q="urn:q" xmlns:r="urn:q" q:a="" r:a=""/>`,
		`<e r:a="" xmlns:q="urn:q" q:a="" xmlns:r="urn:q"/>`, `<e xmlns="urn:q" xmlns="urn:q"/>`, `<e xmlns:q="urn:q" xmlns:q="urn:r"/>`, `<e xml:lang="en" xml:lang="en"/>`),
	{RuleDuplicate, func(g *generator, d generated) []byte { // among many
		tag := "<e"
		for i := range 20 {
			tag += fmt.Sprintf(" a%d=''", i)
		}
		return inside("", fmt.Sprintf("%s a%d=''/>", tag, g.IntN(20))).apply(g, d)
	}},
	inside(RulePrefix, "<undeclared:e/>", "<e undeclared:a=''/>", "<e><f xmlns:u='urn:u'/><u:f/></e>", "<u:e><f xmlns:u='urn:u'/></u:e>", "<e xmlns:u='urn:u'><f/></e><u:e/>"),
	inside(RuleUndeclared, `<e xmlns:p=""/>`, `<e xmlns:p="urn:a"><e xmlns:p=''/></e>`),
	inside(RuleReserved, `<e xmlns:xml="urn:x"/>`, `<e xmlns:xml=""/>`, `<e xmlns:xmlns="urn:x"/>`, `<e xmlns:xmlns="http://www.w3.org/2000/xmlns/"/>`,
		`<e xmlns="http://www.w3.org/2000/xmlns/"/>`, `<e xmlns:p="http://www.w3.org/2000/xmlns/"/>`, `<e xmlns="http://www.w3.org/XML/1998/namespace"/>`,
		`<e xmlns:p="http://www.w3.org/XML/1998/namespace"/>`, `<e xmlns:p="&#x68;ttp://www.w3.org/XML/1998/namespace"/>`, `<xmlns:e/>`),
	inside(RuleNamespaceURI, `<e xmlns="relative"/>`, `<e xmlns="../a#b"/>`, `<e xmlns="http://h]/"/>`, `<e xmlns="http://h:a/"/>`, `<e xmlns="urn:a#b#c"/>`, `<e xmlns="#a"/>`, `<e xmlns="urn:a b"/>`, `<e xmlns="urn:é"/>`, `<e xmlns="urn:%GG"/>`, `<e xmlns="urn:%4"/>`, `<e xmlns=" urn:a"/>`, `<e xmlns="1a:b"/>`, `<e xmlns=":a"/>`),
	inside(RuleNesting, "</nobody>", "<e><f></e></f>", "<e></E>", "<e></f>", "<e></ee>", "<ee></e>", "<e xmlns:a='urn:a' xmlns:b='urn:a'><a:f></b:f></e>"),
	after(RuleNesting, "</e>", "</"),
	inside(RuleDepth, strings.Repeat("<d>", maxDepth)+strings.Repeat("</d>", maxDepth)),
	after(RuleRoots, "<again/>", "\n<again></again>", "<!-- --><again/>"),
	after(RuleOutside, "text", "&#32;", "&amp;", "\u00A0", "]]>", "<?t?>."),
	begin(RuleOutside, "text", ".", "&lt;", byteOrderMark+byteOrderMark),
	{RuleTruncated, func(g *generator, d generated) []byte { return d.source[:pick(g, d.holes...)] }},
	{RuleTruncated, func(g *generator, d generated) []byte {
		return append(slices.Clone(d.source[:pick(g, d.holes...)]), pick(g, "<", "<e", "<e ", "<e a", "<e a=", "<e a='", "<e a='b", "<e a='b'", "<e/", "<!--", "<!-- -", "<!-- --", "<![CDATA[", "<![CDATA[]]", "<?", "<?t", "<?t a", "<?t a?", "</")...)
	}},
	{RuleTruncated, func(g *generator, d generated) []byte { return nil }},
	after(RuleTruncated, "<!--", "<?t", "<!-- a --"),
	inside(RuleMarkup, "]]>", "a]]>", "]]]>", "<!ELEMENT e ANY>", "<!>", "<![cdata[]]>", "<! -- -->", "<![CDATA []]>", "<e / >", "<e></e a='b'>", "<e a='b'/ >"),
	after(RuleMarkup, "<![CDATA[]]>", "<!ELEMENT e ANY>"),
}
