package c14n

import (
	"cmp"
	"slices"
)

// Canonical appends the exclusive canonical form of the element where it stands,
// without comments: Exclusive XML Canonicalization 1.0 with no InclusiveNamespaces
// PrefixList, of the document subset that is the element's subtree.
func (e *Element) Canonical(dst []byte) []byte {
	w := writer{dst: slices.Grow(dst, e.End-e.Start+(e.End-e.Start)/8+16), outermost: e.depth}
	w.element(e)
	return w.dst
}

// Canonical appends the exclusive canonical form of the whole document, with the
// processing instructions outside the root (Canonical XML 1.0 section 2.3).
func (d *Document) Canonical(dst []byte) []byte {
	for i := range d.before {
		if n := &d.before[i]; n.Kind == InstructionNode {
			dst = append(appendInstruction(dst, n), '\n')
		}
	}
	dst = d.Root.Canonical(dst)
	for i := range d.after {
		if n := &d.after[i]; n.Kind == InstructionNode {
			dst = appendInstruction(append(dst, '\n'), n)
		}
	}
	return dst
}

func appendInstruction(dst []byte, n *Node) []byte {
	return append(append(append(dst, "<?"...), n.Text...), "?>"...)
}

type writer struct {
	dst       []byte
	outermost uint8 // depth of the element that is written
	spaces    []declaration
	sorted    []*Attr
}

type declaration struct{ prefix, space string }

// element: Canonical XML 1.0 section 2.3, the namespace axis as Exclusive XML
// Canonicalization 1.0 section 3 has it.
func (w *writer) element(e *Element) {
	dst := append(w.dst, '<')
	dst = appendName(dst, e.Prefix, e.Name.Local)
	if len(e.Attrs) == 0 {
		if e.use.renders(e.Name.Space, w.outermost) {
			dst = appendDeclaration(dst, e.Prefix, e.Name.Space)
		}
	} else {
		w.dst = dst
		w.axes(e)
		dst = w.dst
	}
	dst = append(dst, '>')
	for i := range e.Children {
		switch n := &e.Children[i]; n.Kind {
		case ElementNode:
			w.dst = dst
			w.element(n.Element)
			dst = w.dst
		case TextNode:
			if n.plain {
				dst = append(dst, n.Text...)
			} else {
				dst = AppendText(dst, n.Text)
			}
		case InstructionNode:
			dst = appendInstruction(dst, n)
		}
	}
	dst = append(dst, '<', '/')
	dst = appendName(dst, e.Prefix, e.Name.Local)
	w.dst = append(dst, '>')
}

// axes writes the namespace declarations by prefix, then the attributes by namespace
// name and local name: Canonical XML 1.0 section 2.2, document order.
func (w *writer) axes(e *Element) {
	spaces := w.spaces[:0]
	if e.use.renders(e.Name.Space, w.outermost) {
		spaces = append(spaces, declaration{e.Prefix, e.Name.Space})
	}
	inOrder := true
	for i := range e.Attrs {
		a := &e.Attrs[i]
		if a.Prefix != "" && a.use.renders(a.Name.Space, w.outermost) {
			spaces = append(spaces, declaration{a.Prefix, a.Name.Space})
		}
		inOrder = inOrder && (i == 0 || byName(&e.Attrs[i-1], a) < 0)
	}
	if len(spaces) > 1 {
		slices.SortFunc(spaces, func(a, b declaration) int { return cmp.Compare(a.prefix, b.prefix) })
	}
	for _, s := range spaces {
		w.dst = appendDeclaration(w.dst, s.prefix, s.space)
	}
	w.spaces = spaces
	if inOrder {
		for i := range e.Attrs {
			w.dst = appendAttr(w.dst, &e.Attrs[i])
		}
		return
	}
	sorted := w.sorted[:0]
	for i := range e.Attrs {
		sorted = append(sorted, &e.Attrs[i])
	}
	slices.SortFunc(sorted, byName)
	for _, a := range sorted {
		w.dst = appendAttr(w.dst, a)
	}
	w.sorted = sorted
}

// byName compares as UTF-8, which orders as the code points do.
func byName(a, b *Attr) int {
	if c := cmp.Compare(a.Name.Space, b.Name.Space); c != 0 {
		return c
	}
	return cmp.Compare(a.Name.Local, b.Name.Local)
}

func appendName(dst []byte, prefix, local string) []byte {
	if prefix != "" {
		dst = append(append(dst, prefix...), ':')
	}
	return append(dst, local...)
}

func appendDeclaration(dst []byte, prefix, space string) []byte {
	dst = append(dst, " xmlns"...)
	if prefix != "" {
		dst = append(append(dst, ':'), prefix...)
	}
	dst = append(dst, '=', '"')
	return append(AppendValue(dst, space), '"')
}

func appendAttr(dst []byte, a *Attr) []byte {
	dst = append(dst, ' ')
	dst = append(appendName(dst, a.Prefix, a.Name.Local), '=', '"')
	if a.plain {
		dst = append(dst, a.Value...)
	} else {
		dst = AppendValue(dst, a.Value)
	}
	return append(dst, '"')
}

// What Canonical XML 1.0 section 2.3 replaces in text nodes and in attribute values.
var inText, inValue = func() (text, value [256]string) {
	text['&'], text['<'], text['>'], text['\r'] = "&amp;", "&lt;", "&gt;", "&#xD;"
	value['&'], value['<'], value['"'] = "&amp;", "&lt;", "&quot;"
	value['\t'], value['\n'], value['\r'] = "&#x9;", "&#xA;", "&#xD;"
	return text, value
}()

// AppendText appends a text node as Canonical XML 1.0 section 2.3 writes it. The text
// is UTF-8 of characters that XML 1.0 allows.
func AppendText[S ~string | ~[]byte](dst []byte, text S) []byte {
	return appendEscaped(dst, text, &inText)
}

// AppendValue appends an attribute value as Canonical XML 1.0 section 2.3 writes it,
// without the quotes. The value is normalised, UTF-8, of characters that XML 1.0 allows.
func AppendValue[S ~string | ~[]byte](dst []byte, value S) []byte {
	return appendEscaped(dst, value, &inValue)
}

func appendEscaped[S ~string | ~[]byte](dst []byte, s S, escapes *[256]string) []byte {
	from := 0
	for i := range len(s) {
		if escape := escapes[s[i]]; escape != "" {
			dst = append(append(dst, s[from:i]...), escape...)
			from = i + 1
		}
	}
	return append(dst, s[from:]...)
}
