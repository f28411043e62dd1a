package eps

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/rxguard/rxguard/internal/c14n"
)

func isXMLSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

func onlySpace(s string) bool {
	for i := range len(s) {
		if !isXMLSpace(s[i]) {
			return false
		}
	}
	return true
}

// reader reads the parts of one prescription and keeps the first thing that is wrong.
type reader struct {
	doc   *c14n.Document
	space string // of the prescription; all that is signed is in it
	err   *MessageError
	lost  bool // the bytes that the service hashes are not known
}

// fail keeps a problem after which it is not known what the service hashes.
func (r *reader) fail(e *c14n.Element, format string, args ...any) {
	r.lost = true
	r.refuse(e, format, args...)
}

// refuse keeps a problem that changes nothing for the service.
func (r *reader) refuse(e *c14n.Element, format string, args ...any) {
	if r.err == nil {
		r.err = problem(r.doc, e, format, args...)
	}
}

// all returns the children with a name.
func (r *reader) all(e *c14n.Element, name string) []*c14n.Element {
	if e == nil {
		return nil
	}
	var found []*c14n.Element
	for c := range e.Elements() {
		if c.Name.Local == name {
			found = append(found, c)
		}
	}
	return found
}

// only returns the one element at a path of child names. More than one is a problem:
// readers differ in which they take.
func (r *reader) only(e *c14n.Element, names ...string) *c14n.Element {
	for _, name := range names {
		if e == nil {
			return nil
		}
		found := r.atMostOne(e, name)
		if found == nil {
			r.fail(e, "has no %s, wanted one", name)
		}
		e = found
	}
	return e
}

func (r *reader) atMostOne(e *c14n.Element, name string) *c14n.Element {
	found := r.all(e, name)
	switch {
	case len(found) == 0:
		return nil
	case len(found) > 1:
		r.fail(found[1], "is the second of %d in %s, wanted one", len(found), e.Name.Local)
	}
	r.inSpace(found[0])
	return found[0]
}

// inSpace wants an element in the namespace of its prescription: the service looks at
// names alone, others at namespaces.
func (r *reader) inSpace(e *c14n.Element) {
	if e.Name.Space == r.space {
		return
	}
	in, wanted := "no namespace", r.space
	if e.Name.Space != "" {
		in = "namespace " + excerpt(e.Name.Space)
	}
	if wanted == "" {
		wanted = "none, as its ParentPrescription"
	}
	r.fail(e, "is in %s, wanted %s", in, wanted)
}

// noneNested wants no second prescription inside one.
func (r *reader) noneNested(e *c14n.Element) {
	for c := range e.Elements() {
		if c.Name.Local == parentPrescription {
			line, _ := r.doc.Position(c.Start)
			r.refuse(e, "holds another ParentPrescription, on line %d; wanted one beside the other", line)
			return
		}
		r.noneNested(c)
	}
}

// plain wants nothing but elements and white space in an element that is written anew.
func (r *reader) plain(e *c14n.Element) {
	for _, n := range e.Children {
		switch n.Kind {
		case c14n.ElementNode:
		case c14n.TextNode:
			if !onlySpace(n.Text) {
				r.refuse(e, "holds text %s, wanted a Signature or nothing", excerpt(n.Text))
			}
		default:
			r.refuse(e, "holds a comment or processing instruction, wanted a Signature or nothing")
		}
	}
}

// instant reads the value of an element as HL7 writes an instant: YYYYMMDDhhmmss,
// which the service takes for UTC.
func (r *reader) instant(e *c14n.Element) time.Time {
	if e == nil {
		return time.Time{}
	}
	value, ok := e.Attr("value")
	if !ok {
		r.refuse(e, "has no value, wanted YYYYMMDDhhmmss")
		return time.Time{}
	}
	t, err := time.Parse("20060102150405", value)
	if err != nil || len(value) != 14 {
		r.refuse(e, "has the value %s, wanted an instant in UTC as YYYYMMDDhhmmss, such as 20201002090000", excerpt(value))
		return time.Time{}
	}
	return t
}

// write writes the canonical FragmentsToBeHashed: each group of elements in a
// Fragment, re-rooted into HL7's namespace without prefixes.
func (r *reader) write(fragments [][]*c14n.Element) []byte {
	size := 64
	for _, f := range fragments {
		for _, e := range f {
			size += (e.End-e.Start)*5/4 + 64
		}
	}
	b := make([]byte, 0, size)
	b = append(b, "<FragmentsToBeHashed>"...)
	for _, f := range fragments {
		b = append(b, "<Fragment>"...)
		for _, e := range f {
			b = r.element(b, e, nil, hl7)
		}
		b = append(b, "</Fragment>"...)
	}
	b = append(b, "</FragmentsToBeHashed>"...)
	if r.lost {
		return nil
	}
	return b
}

// canonical writes a SignedInfo as the service canonicalises it.
func (r *reader) canonical(e *c14n.Element) []byte {
	b := r.element(make([]byte, 0, e.End-e.Start+64), e, nil, dsig)
	if r.lost {
		return nil
	}
	return b
}

// element writes e as Exclusive XML Canonicalization 1.0 would after the service's
// changes: no prefixes, no text that is only white space, no item status, and of a
// line item's repeatNumber only high. root is the element that is written, nil for
// that itself, which declares the namespace.
func (r *reader) element(b []byte, e, root *c14n.Element, namespace string) []byte {
	r.inSpace(e)
	name := e.Name.Local
	b = append(append(b, '<'), name...)
	if root == nil {
		b = append(append(append(b, ` xmlns="`...), namespace...), '"')
	}
	inItem := root != nil && e.Parent == root && root.Name.Local == "pertinentLineItem"
	repeat := inItem && name == "repeatNumber"
	if !repeat {
		b = r.attributes(b, e)
	}
	b = append(b, '>')
	if root == nil {
		root = e
	}
	texts, elements := 0, 0
	var names names
	for i := range e.Children {
		if r.lost {
			return b
		}
		n := &e.Children[i]
		switch n.Kind {
		case c14n.ElementNode:
			elements++
			c := n.Element
			// The service moves children of one name together, so what it hashes would be
			// in another order.
			if names.again(c.Name.Local) {
				r.fail(c, "comes again after another element, wanted it beside the others of its name")
			}
			if repeat && c.Name.Local != "high" || e == root && root.Name.Local == "pertinentLineItem" && c.Name.Local == "pertinentInformation4" {
				r.inSpace(c)
				continue
			}
			b = r.element(b, c, root, namespace)
		case c14n.TextNode:
			if onlySpace(n.Text) {
				continue
			}
			texts++
			b = c14n.AppendText(b, n.Text)
			r.text(e, n)
		case c14n.CommentNode:
			r.refuse(e, "holds a comment, wanted none in what is signed")
		default:
			r.fail(e, "holds a processing instruction, wanted none in what is signed")
		}
	}
	if texts > 0 && elements > 0 {
		r.fail(e, "holds text beside elements, wanted one or the other in what is signed")
	}
	b = append(append(b, "</"...), name...)
	return append(b, '>')
}

// names are those of an element's children so far.
type names struct {
	few  []string
	many map[string]bool // in place of few, once they are not
}

// again tells whether a name comes again after another one.
func (n *names) again(name string) bool {
	if k := len(n.few); k > 0 && n.few[k-1] == name {
		return false
	}
	seen := n.many[name] || n.many == nil && slices.Contains(n.few, name)
	n.few = append(n.few, name)
	switch {
	case n.many != nil:
		n.many[name] = true
	case len(n.few) > 16:
		n.many = make(map[string]bool)
		for _, s := range n.few {
			n.many[s] = true
		}
	}
	return seen
}

// text wants none that the service's reader would take otherwise.
func (r *reader) text(e *c14n.Element, n *c14n.Node) {
	raw := r.doc.Source()[n.Start:n.End]
	switch {
	case strings.IndexByte(n.Text, '\r') >= 0, bytes.IndexByte(raw, '\r') >= 0: // as CRLF too: the service does not read it as a line feed
		r.fail(e, "holds a carriage return, wanted none in what is signed: line ends are LF alone")
	case bytes.IndexByte(raw, '<') >= 0:
		r.fail(e, "holds a CDATA section, wanted text in what is signed")
	case n.Text[0] >= 0x80 && strings.TrimFunc(n.Text, serviceSpace) == "":
		r.fail(e, "holds white space other than XML's alone, wanted text in what is signed")
	}
}

// serviceSpace is white space as the service's reader knows it (ECMA-262 12.2, 12.3).
func serviceSpace(c rune) bool {
	return c == '\uFEFF' || c == '\u2028' || c == '\u2029' || unicode.Is(unicode.Zs, c) || '\t' <= c && c <= '\r'
}

// attributes writes e's attributes in canonical order.
func (r *reader) attributes(b []byte, e *c14n.Element) []byte {
	attrs := e.Attrs
	byName := func(x, y c14n.Attr) int { return cmp.Compare(x.Name.Local, y.Name.Local) }
	if !slices.IsSortedFunc(attrs, byName) {
		attrs = slices.SortedFunc(slices.Values(attrs), byName)
	}
	tag := r.doc.Source()[e.Start:e.Inner]
	blanks := bytes.ContainsAny(tag, "\t\r")
	for _, a := range attrs {
		if blanks {
			r.blank(e, a)
		}
		if a.Prefix != "" {
			r.fail(e, "has the attribute %s with a prefix, wanted none in what is signed", excerpt(a.Prefix+":"+a.Name.Local))
		}
		value := a.Value
		if strings.ContainsAny(value, "\t\n\r") {
			if strings.IndexByte(value, '\r') >= 0 {
				r.fail(e, "holds a carriage return in its attribute %s, wanted none in what is signed", excerpt(a.Name.Local))
			}
			if strings.Contains(value, "\t\t") { // by reference; it makes one space of them
				r.fail(e, "holds tabs in its attribute %s, wanted spaces in what is signed", excerpt(a.Name.Local))
			}
			value = lineless.Replace(value)
		}
		b = append(append(append(b, ' '), a.Name.Local...), `="`...)
		b = append(c14n.AppendValue(b, value), '"')
	}
	return b
}

// blank wants no white space as written in an attribute that the service takes in
// another way than an XML reader: it makes one space of several tabs, and does not
// know a carriage return alone.
func (r *reader) blank(e *c14n.Element, a c14n.Attr) {
	src := r.doc.Source()[a.Start:e.Inner]
	open := bytes.IndexAny(src, `"'`)
	value := src[open+1:]
	value = value[:bytes.IndexByte(value, src[open])]
	if bytes.Contains(value, []byte("\t\t")) || bytes.Contains(bytes.ReplaceAll(value, []byte("\r\n"), nil), []byte("\r")) {
		r.fail(e, "holds tabs or a carriage return in its attribute %s, wanted spaces in what is signed", excerpt(a.Name.Local))
	}
}

// lineless is what the service does with line ends and tabs in attribute values.
var lineless = strings.NewReplacer("\t", " ", "\n", " ")
