package c14n

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// generated is a document that stays inside the rules, and where others can be broken.
type generated struct {
	source []byte
	prolog int   // offset after byte order mark and XML declaration
	holes  []int // offsets in the content of elements, between nodes
}

// generator writes documents; the same random numbers give the same document.
type generator struct {
	*rand.Rand
	b     []byte
	holes []int
	left  int  // elements that may still be written
	white bool // between nodes too
	ends  []string
}

// documents is how many a test generates: n, and 50 times as many under make soak.
func documents(t testing.TB, n int) int {
	t.Helper()
	const soak = 50
	if os.Getenv("RXGUARD_SOAK") != "" {
		n *= soak
		t.Logf("%d generated documents", n)
	} else {
		t.Logf("%d generated documents (make soak: %d)", n, n*soak)
	}
	return n
}

// generate writes the n-th document of a kind.
func generate(kind func(*generator), n int) generated {
	g := &generator{Rand: rand.New(rand.NewPCG(20201001, uint64(n)))}
	g.left = 1 + g.IntN(40)
	g.white = g.chance(2)
	g.ends = [][]string{{"\n"}, {"\n"}, {"\r\n"}, {"\n", "\r\n", "\r"}}[g.IntN(4)]
	if g.chance(10) {
		g.write("\uFEFF")
	}
	if g.chance(2) {
		g.declaration()
	}
	prolog := len(g.b)
	g.misc()
	kind(g)
	g.misc()
	return generated{g.b, prolog, g.holes}
}

func (g *generator) write(s ...string) {
	for _, s := range s {
		g.b = append(g.b, s...)
	}
}

// chance is true once in n times.
func (g *generator) chance(n int) bool { return g.IntN(n) == 0 }

func pick[T any](g *generator, of ...T) T { return of[g.IntN(len(of))] }

func (g *generator) end() string { return pick(g, g.ends...) }

// space is S, of any length but none.
func (g *generator) space() string {
	s := pick(g, " ", " ", " ", "  ", "\t", g.end(), g.end()+"    ")
	if g.chance(8) {
		s += g.space()
	}
	return s
}

func (g *generator) maybeSpace() string {
	if g.chance(5) {
		return g.space()
	}
	return ""
}

func (g *generator) declaration() {
	q := pick(g, `"`, `'`)
	g.write("<?xml", g.space(), "version", g.maybeSpace(), "=", g.maybeSpace(), q, "1.0", q)
	if g.chance(2) {
		g.write(g.space(), "encoding=", q, pick(g, "UTF-8", "utf-8", "Utf-8"), q)
	}
	if g.chance(3) {
		g.write(g.space(), "standalone=", q, pick(g, "yes", "no"), q)
	}
	g.write(g.maybeSpace(), "?>")
}

// misc is what may stand outside the root.
func (g *generator) misc() {
	for g.chance(2) {
		g.write(g.maybeSpace(), pick(g, g.comment(), g.instruction(), g.end()))
	}
}

func (g *generator) comment() string {
	return "<!--" + pick(g, "", " x ", " <e a=\"&amp;\"> ]]> ", "-"+g.end()+"- é", "&undefined; ?> <?", " xmlns=\"urn:a\" ") + "-->"
}

func (g *generator) instruction() string {
	return "<?" + pick(g, "t", "xml-stylesheet", "é", "_.-") + pick(g, "", " ", g.space()+"data", g.space()+"<!-- d=\"&amp;\" > "+g.end()+"? ", " 漢 \t") + "?>"
}

// text is character data, with references and CDATA sections.
func (g *generator) text() {
	for range 1 + g.IntN(4) {
		switch g.IntN(8) {
		case 0:
			g.write(pick(g, "&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "&#38;", "&#x3C;", "&#62;"))
		case 1:
			g.write(pick(g, "&#13;", "&#xD;", "&#10;", "&#9;", "&#x20;", "&#xE9;", "&#x1F600;", "&#x10FFFF;", "&#xFFFD;", "&#0000065;", "&#x0000D7FF;"))
		case 2:
			g.write("<![CDATA[", pick(g, "", "x", "<e a='&amp;'>", "]]", "]]]", ">", "\t"+g.end()+"\"", "&#13;", "<!-- -->", "<![CDATA["), "]]>")
		case 3:
			if s := string(g.b); strings.HasSuffix(s, "]]") {
				g.write("&gt;")
			} else {
				g.write(">")
			}
		case 4:
			g.write(g.space())
		default:
			g.write(pick(g, "word", "two words", "é漢字😀", "\u0085\u2028\u00A0\uFEFF", `"'`, "]", "]]", "a=b", "\uFFFD\U0010FFFD", "\x7F", "--", "?>", "/>"))
		}
	}
}

// value is a quoted attribute value.
func (g *generator) value() string {
	var b strings.Builder
	for g.chance(2) || b.Len() == 0 && g.chance(2) {
		b.WriteString(pick(g, "word", "two  words", "é漢😀", "\t", g.end(), " ", "&amp;", "&lt;", ">", "&gt;", "&quot;", "&apos;",
			"&#9;", "&#xA;", "&#13;", "&#x20;", "&#x1F600;", "]]>", "\u0085", "--", "{}", "&#13;\r\n&#10;"))
	}
	return g.quoted(b.String())
}

// quoted puts quotes around a value, with the other quotes inside now and then.
func (g *generator) quoted(value string) string {
	if g.chance(2) {
		return `"` + value + pick(g, "", "", "", "'") + `"`
	}
	return "'" + value + pick(g, "", "", "", `"`) + "'"
}

// attributes writes those of a tag in any order.
func (g *generator) attributes(of []string) {
	g.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
	for _, a := range of {
		name, value, _ := strings.Cut(a, "=")
		g.write(g.space(), name, g.maybeSpace(), "=", g.maybeSpace(), value)
	}
	g.write(g.maybeSpace())
}

// content writes nodes and child elements. Each element that is written takes from
// what is left.
func (g *generator) content(child func()) {
	g.holes = append(g.holes, len(g.b))
	for range g.IntN(6) {
		if g.white {
			g.write(g.end(), "  ")
		}
		switch g.IntN(9) {
		case 0:
			g.write(g.comment())
		case 1:
			g.write(g.instruction())
		case 2, 3, 4:
			g.text()
		default:
			if g.left > 0 {
				child()
			}
		}
		g.holes = append(g.holes, len(g.b))
	}
}

// element writes one with a tag and content.
func (g *generator) element(tag string, attributes []string, content func()) {
	g.left--
	g.write("<", tag)
	g.attributes(attributes)
	start := len(g.b)
	g.write(">")
	content()
	if len(g.b) == start+1 && g.chance(2) {
		g.holes = slices.DeleteFunc(g.holes, func(h int) bool { return h > start })
		g.b = append(g.b[:start], "/>"...)
		return
	}
	g.write("</", tag, g.maybeSpace(), ">")
}

// general is the kind of document that mixes everything: prefixes, default namespaces
// that come and go, attributes of several namespaces.
func general(g *generator) { g.generalElement(map[string]string{"": ""}, 0) }

func (g *generator) generalElement(around map[string]string, depth int) {
	spaces := make(map[string]string, len(around)) // in force here
	for prefix, space := range around {
		spaces[prefix] = space
	}
	var attributes []string
	for _, i := range g.Perm(6)[:pick(g, 0, 0, 0, 1, 2, 3)] {
		prefix := []string{"", "", "a", "b", "é", "x-1.y"}[i]
		space := pick(g, "urn:a", "urn:b", "http://example.org/%C3%A9", "http://example.org/?a=1;b='", "ftp://h", "urn:B", "")
		name := "xmlns:" + prefix
		if prefix == "" {
			if name = "xmlns"; i == 1 {
				continue
			}
		} else if space == "" {
			space = "urn:a"
		}
		spaces[prefix] = space
		attributes = append(attributes, name+`="`+space+`"`)
	}
	if g.chance(40) {
		attributes = append(attributes, `xmlns:xml="http://www.w3.org/XML/1998/namespace"`)
	}
	prefixes := make([]string, 0, len(spaces))
	for prefix := range spaces {
		prefixes = append(prefixes, prefix)
	}
	slices.Sort(prefixes)
	name := func(prefix, local string) string {
		if prefix == "" {
			return local
		}
		return prefix + ":" + local
	}
	taken := map[[2]string]bool{}
	for range pick(g, 0, 0, 1, 2, 4, 14) {
		prefix, space := "", ""
		if g.chance(2) {
			if prefix = pick(g, prefixes...); prefix != "" {
				space = spaces[prefix]
			}
		}
		local := pick(g, "a", "b", "c", "A", "é", "xmlnsx", "a.b", "a-b", "aa", "_", "Z9")
		if g.chance(8) {
			prefix, space, local = "xml", "xml", pick(g, "lang", "space", "base", "other")
		}
		if key := [2]string{space, local}; !taken[key] {
			taken[key] = true
			attributes = append(attributes, name(prefix, local)+"="+g.value())
		}
	}
	child := func() { g.generalElement(spaces, depth+1) }
	g.element(name(pick(g, prefixes...), pick(g, "e", "f", "G", "é", "a.b", "_x", "xml", "漢")), attributes, func() {
		if depth < 20 {
			g.content(child)
		}
	})
}

// hl7 is the kind that looks like an HL7 v3 message: names, data types and structural
// attributes of prescriptions, in one namespace with or without a prefix, perhaps in
// an envelope.
func hl7(g *generator) {
	prefix := pick(g, "", "", "", "hl7:", "v3:")
	message := func() {
		declare := "xmlns=\"urn:hl7-org:v3\""
		if prefix != "" {
			declare = "xmlns:" + strings.TrimSuffix(prefix, ":") + "=\"urn:hl7-org:v3\""
		}
		attributes := []string{declare, `classCode="INFO"`, `moodCode="EVN"`}
		if g.chance(2) {
			attributes = append(attributes, `xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"`, `xsi:schemaLocation="urn:hl7-org:v3 ../Schemas/message.xsd"`)
		}
		g.element(prefix+"ParentPrescription", attributes, func() { g.hl7Content(prefix, 0) })
	}
	if !g.chance(3) {
		message()
		return
	}
	g.element("soap:Envelope", []string{`xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"`, `xmlns:crs="http://national.carerecords.nhs.uk/schema/"`}, func() {
		g.element("soap:Body", nil, func() {
			g.holes = append(g.holes, len(g.b))
			for range 1 + g.IntN(2) {
				message()
			}
		})
	})
}

var (
	hl7Acts  = []string{"pertinentPrescription", "author", "AgentPerson", "recordTarget", "Patient", "pertinentLineItem", "product", "manufacturedProduct", "component", "lineItemQuantity"}
	hl7Leafs = []string{"id", "code", "effectiveTime", "time", "value", "quantity", "repeatNumber", "statusCode", "telecom", "signatureText"}
)

func (g *generator) hl7Content(prefix string, depth int) {
	g.content(func() {
		if depth > 12 || g.chance(2) {
			attributes := pick(g,
				[]string{fmt.Sprintf(`root="2.16.840.1.113883.2.1.3.2.4.%d"`, g.IntN(90)), fmt.Sprintf(`extension="%08X"`, g.Uint32())},
				[]string{`code="15517911000001104"`, `displayName=` + g.value(), `codeSystem="2.16.840.1.113883.2.1.3.2.4.15"`},
				[]string{fmt.Sprintf(`value="%d"`, g.IntN(1e6)), `unit="1"`},
				[]string{`nullFlavor="NA"`, `xsi:type="hl7:CE"`, `xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"`},
				[]string{`use=` + g.value(), `xml:lang="en-GB"`},
				nil)
			g.element(prefix+pick(g, hl7Leafs...), slices.Clone(attributes), func() {
				if g.chance(3) {
					g.text()
				}
			})
			return
		}
		attributes := []string{`classCode="` + pick(g, "SBADM", "AGNT", "PSN") + `"`}
		if g.chance(2) {
			attributes = append(attributes, `typeCode="COMP"`, `contextConductionInd="`+pick(g, "true", "false")+`"`)
		}
		g.element(prefix+pick(g, hl7Acts...), attributes, func() { g.hl7Content(prefix, depth+1) })
	})
}
