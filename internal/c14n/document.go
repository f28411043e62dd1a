package c14n

import (
	"iter"
	"slices"
	"strings"
	"sync"
)

// Document is what Parse read.
type Document struct {
	Root *Element

	source        []byte
	before, after []Node // comments and processing instructions outside the root

	once  sync.Once
	lines []int // where each begins, once Position was asked
}

// Source returns the bytes that were parsed, not a copy.
func (d *Document) Source() []byte { return d.source }

// Position returns the line and the column of an offset in the source: both from 1, the
// column in bytes. The first call goes through the source, and others do not: a message
// may have many places to tell of.
func (d *Document) Position(offset int) (line, column int) {
	d.once.Do(func() {
		d.lines = []int{0}
		for i, c := range d.source {
			if c == '\n' || c == '\r' && (i+1 == len(d.source) || d.source[i+1] != '\n') {
				d.lines = append(d.lines, i+1)
			}
		}
	})
	offset = max(0, min(offset, len(d.source)))
	line, found := slices.BinarySearch(d.lines, offset)
	if found {
		line++
	}
	return line, offset - d.lines[line-1] + 1
}

// Name is an expanded name (Namespaces in XML 1.0 section 2.1).
type Name struct {
	Space string // the namespace name; "" none
	Local string
}

// Element is an element where it stands in its document.
type Element struct {
	Name     Name
	Prefix   string   // as written; "" none
	Attrs    []Attr   // without namespace declarations, in document order
	Children []Node   // in document order
	Parent   *Element // nil: the root

	Start, End      int  // its markup is Source()[Start:End]
	Inner, InnerEnd int  // its content is Source()[Inner:InnerEnd]; of <a/> both are End
	Empty           bool // written <a/>

	depth uint8 // of the root 1
	use   use   // of its prefix
}

// Attr is an attribute that is not a namespace declaration.
type Attr struct {
	Name   Name
	Prefix string // as written; "" none
	Value  string // normalised as a CDATA attribute (XML 1.0 section 3.3.3)
	Start  int    // offset of its name

	use   use
	plain bool // Value needs no escaping
}

// Kind is the kind of a node.
type Kind uint8

const (
	ElementNode Kind = iota
	TextNode
	CommentNode
	InstructionNode
)

// Node is a child of an element. Character data, references and CDATA sections beside
// one another are one TextNode, as in XPath 1.0 section 5.7; a comment or a processing
// instruction between them makes them two.
type Node struct {
	Kind    Kind
	plain   bool     // Text needs no escaping
	Element *Element // of an ElementNode

	// Of a TextNode the resolved character data, of a CommentNode what is between <!--
	// and -->, of an InstructionNode the target and, after one space, the data.
	// Line ends are LF (XML 1.0 section 2.11).
	Text string

	Start, End int // its markup is Source()[Start:End]
}

// Attr returns the value of an attribute in no namespace, and whether it is there.
func (e *Element) Attr(local string) (string, bool) {
	for i := range e.Attrs {
		if a := &e.Attrs[i]; a.Name.Local == local && a.Name.Space == "" {
			return a.Value, true
		}
	}
	return "", false
}

// Elements are the child elements in document order.
func (e *Element) Elements() iter.Seq[*Element] {
	return func(yield func(*Element) bool) {
		for i := range e.Children {
			if c := e.Children[i].Element; c != nil && !yield(c) {
				return
			}
		}
	}
}

// Text returns the element's own text nodes joined, without those of its children.
func (e *Element) Text() string {
	text, joined := "", false
	var b strings.Builder
	for i := range e.Children {
		n := &e.Children[i]
		switch {
		case n.Kind != TextNode:
		case joined:
			b.WriteString(n.Text)
		case text == "":
			text = n.Text
		default:
			joined = true
			b.WriteString(text)
			b.WriteString(n.Text)
		}
	}
	if joined {
		return b.String()
	}
	return text
}
