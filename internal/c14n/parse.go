package c14n

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	defaultMaxBytes = 1 << 20
	maxDepth        = 64
	largest         = 1024 // elements, nodes or attributes in a chunk
)

// Options limit what Parse reads.
type Options struct {
	// MaxBytes is the size from which on a document is refused unread; 0 stands for
	// 1 MiB. What Parse allocates is a multiple of the size: 10 times at most for real
	// messages, 160 times for one that is made of the smallest elements.
	MaxBytes int
	// MaxElements is how many elements there may be at a time; 0: as many as MaxBytes
	// lets in. ParseEach counts those that it has let go no more.
	MaxElements int
}

// Parse reads a whole document. Every refusal is an *Error, for the first break of a
// rule that it comes to. The Document may refer to doc, which must not change while the
// Document is used.
func Parse(doc []byte, o Options) (*Document, error) {
	return read(doc, o, outermost{})
}

// ParseEach reads a whole document as Parse does, and hands every outermost element
// with a local name to each when its end tag was read. After that the element stays
// where it is without its attributes and children, so that a document of many needs
// the memory of one: each keeps nothing of it. What each was told counts only when
// ParseEach returns no error; an error of each ends it.
func ParseEach(doc []byte, o Options, local string, each func(*Document, *Element) error) (*Document, error) {
	return read(doc, o, outermost{local: local, each: each})
}

func read(doc []byte, o Options, each outermost) (*Document, error) {
	limit := o.MaxBytes
	if limit <= 0 {
		limit = defaultMaxBytes
	}
	if len(doc) > limit {
		line, column := position(doc, limit)
		return nil, &Error{RuleSize, line, column, limit, fmt.Sprintf("%d bytes, expected at most %d", len(doc), limit)}
	}
	d := &Document{source: doc}
	p := parser{source: string(doc), doc: d, outermost: each, maxElements: o.MaxElements}
	if err := p.document(); err != nil {
		return nil, err
	}
	d.Root, d.before, d.after = p.root, p.before, p.after
	return d, nil
}

// outermost is what ParseEach waits for.
type outermost struct {
	local string
	each  func(*Document, *Element) error // nil: nothing

	depth int // of the one that is open; 0: none
	count int // elements when it was opened
	outer chunks
	spare chunks // for the next one
}

// chunks are what elements, nodes and attributes are taken from.
type chunks struct {
	elements []Element
	nodes    []Node
	attrs    []Attr
}

// frame is an element that is open.
type frame struct {
	element *Element
	tag     string // its name as written
	nodes   int    // where its children begin in parser.nodes, after its own node
	rebound int    // and of the namespaces' logs
	used    int
}

// parser goes over the source once. Elements, attributes and nodes live in chunks that
// many of them share.
type parser struct {
	source        string
	root          *Element
	before, after []Node
	open          []frame
	nodes         []Node // children so far of the open elements
	attrs         []Attr // of the tag that is read
	resolved      []byte // of the text or value that is read
	namespaces    namespaces

	chunk chunks

	elements, maxElements int // that there are, and may be; 0: any

	doc *Document
	outermost
}

// fail refuses the document for what is at i. A character that is not allowed anywhere
// is the reason whatever was expected there.
func (p *parser) fail(rule Rule, i int, format string, args ...any) error {
	if i < len(p.source) && class[p.source[i]]&illegal != 0 && rule != RuleEncoding {
		return p.illegal(i)
	}
	line, column := position(p.source, i)
	return &Error{rule, line, column, i, fmt.Sprintf(format, args...)}
}

// document = prolog element Misc* (XML 1.0 production 1) without a document type.
func (p *parser) document() error {
	if err := p.encoding(); err != nil {
		return err
	}
	p.firstChunks()
	i := 0
	if strings.HasPrefix(p.source, byteOrderMark) {
		i = len(byteOrderMark)
	}
	i, err := p.declaration(i)
	if err != nil {
		return err
	}
	if i, err = p.misc(i, &p.before); err != nil {
		return err
	}
	if i == len(p.source) {
		return p.fail(RuleTruncated, i, "the document ends, expected the root element")
	}
	if i, err = p.element(i); err != nil {
		return err
	}
	if i, err = p.misc(i, &p.after); err != nil {
		return err
	}
	if i < len(p.source) {
		return p.fail(RuleRoots, i, "another element after the root %s", quote(p.root.tag(p.source)))
	}
	return nil
}

// tag is the element's name as written.
func (e *Element) tag(source string) string {
	n := len(e.Name.Local)
	if e.Prefix != "" {
		n += len(e.Prefix) + 1
	}
	return source[e.Start+1 : e.Start+1+n]
}

// misc reads white space, comments and processing instructions up to an element or the
// end of the document.
func (p *parser) misc(i int, nodes *[]Node) (int, error) {
	s := p.source
	for {
		if i = skipSpace(s, i); i == len(s) {
			return i, nil
		}
		rest := s[i:]
		switch {
		case strings.HasPrefix(rest, "<!--"), strings.HasPrefix(rest, "<?"):
			var node Node
			var err error
			if node, i, err = p.commentOrInstruction(i); err != nil {
				return 0, err
			}
			*nodes = append(*nodes, node)
		case len(rest) >= 9 && strings.EqualFold(rest[:9], "<!DOCTYPE"):
			return 0, p.fail(RuleDoctype, i, "a document type declaration, expected none")
		case strings.HasPrefix(rest, "<!"):
			return 0, p.fail(RuleMarkup, i, "a declaration outside the root, expected a comment, a processing instruction or an element")
		case strings.HasPrefix(rest, "</"):
			return 0, p.fail(RuleNesting, i, "an end tag outside the root")
		case rest[0] == '<':
			return i, nil
		default:
			return 0, p.fail(RuleOutside, i, "text outside the root element, expected markup or white space")
		}
	}
}

// element reads the root from its < to after its end tag.
func (p *parser) element(i int) (int, error) {
	s := p.source
	i, err := p.startTag(i)
	for err == nil && len(p.open) > 0 {
		switch {
		case i == len(s):
			f := &p.open[len(p.open)-1]
			line, _ := position(s, f.element.Start)
			return 0, p.fail(RuleTruncated, i, "the document ends inside the element %s of line %d", quote(f.tag), line)
		case s[i] != '<', i+1 < len(s) && s[i+1] == '!' && strings.HasPrefix(s[i:], cdataStart):
			i, err = p.text(i)
		case i+1 == len(s):
			return 0, p.fail(RuleTruncated, i, "the document ends inside a tag")
		case s[i+1] == '/':
			i, err = p.endTag(i)
		case s[i+1] == '!', s[i+1] == '?':
			var node Node
			if node, i, err = p.commentOrInstruction(i); err == nil {
				p.nodes = append(p.nodes, node)
			}
		default:
			i, err = p.startTag(i)
		}
	}
	return i, err
}

// endTag: XML 1.0 production 42.
func (p *parser) endTag(i int) (int, error) {
	s, f := p.source, &p.open[len(p.open)-1]
	j := i + len("</")
	if !strings.HasPrefix(s[j:], f.tag) {
		return 0, p.badEndTag(i)
	}
	j += len(f.tag)
	if j < len(s) && s[j] != '>' {
		j = skipSpace(s, j)
	}
	if j == len(s) || s[j] != '>' {
		return 0, p.badEndTag(i)
	}
	f.element.InnerEnd, f.element.End = i, j+1
	return j + 1, p.close()
}

func (p *parser) badEndTag(i int) error {
	s, f := p.source, &p.open[len(p.open)-1]
	_, j, err := p.qName(i+len("</"), "element")
	if err != nil {
		return err
	}
	if tag := s[i+len("</") : j]; tag != f.tag {
		if j == len(s) && strings.HasPrefix(f.tag, tag) {
			return p.fail(RuleTruncated, i, "the document ends inside the end tag of %s", quote(f.tag))
		}
		line, _ := position(s, f.element.Start)
		return p.fail(RuleNesting, i, "the end tag of %s, expected that of %s of line %d", quote(tag), quote(f.tag), line)
	}
	if j = skipSpace(s, j); j == len(s) {
		return p.fail(RuleTruncated, i, "the document ends inside the end tag of %s", quote(f.tag))
	}
	return p.fail(RuleMarkup, j, "the end tag of %s goes on, expected >", quote(f.tag))
}

// close ends the innermost open element.
func (p *parser) close() error {
	f := &p.open[len(p.open)-1]
	p.nodes[f.nodes-1].End = f.element.End
	f.element.Children = keep(&p.chunk.nodes, p.nodes[f.nodes:])
	clear(p.nodes[f.nodes:])
	p.nodes = p.nodes[:f.nodes]
	p.namespaces.leave(f.rebound, f.used)
	var err error
	if len(p.open) == p.depth {
		err = p.each(p.doc, f.element)
		f.element.Attrs, f.element.Children = nil, nil
		p.depth, p.chunk, p.elements = 0, p.outer, p.count
	}
	p.open = p.open[:len(p.open)-1]
	return err
}

// opened notes an element that ParseEach waits for. What is in it comes from chunks of
// its own, which are let go with it.
func (p *parser) opened(e *Element) {
	if p.each != nil && p.depth == 0 && e.Name.Local == p.local {
		p.depth, p.count, p.outer, p.chunk = len(p.open), p.elements, p.chunk, p.spare
		p.spare = chunks{}
	}
}

// firstChunks makes the first chunks of a size that does for most documents of this kind.
func (p *parser) firstChunks() {
	tags := strings.Count(p.source, "<")
	elements := tags - strings.Count(p.source, "</")
	first := chunks{
		elements: make([]Element, 0, min(elements, largest)),
		nodes:    make([]Node, 0, min(elements+tags, largest)), // with text before each tag
		attrs:    make([]Attr, 0, min(strings.Count(p.source, "="), largest)),
	}
	if p.each != nil {
		p.spare = first
	} else {
		p.chunk = first
	}
	p.nodes = make([]Node, 0, 64)
	p.open = make([]frame, 0, 16)
}

func (p *parser) newElement() *Element {
	if len(p.chunk.elements) == cap(p.chunk.elements) {
		p.chunk.elements = make([]Element, 0, larger(p.chunk.elements))
	}
	p.chunk.elements = p.chunk.elements[:len(p.chunk.elements)+1]
	return &p.chunk.elements[len(p.chunk.elements)-1]
}

// larger is the size of the chunk after this one.
func larger[T any](chunk []T) int { return min(2*cap(chunk)+8, largest) }

// keep copies to the chunk, or to a new one if the chunk is too small.
func keep[T any](chunk *[]T, from []T) []T {
	if len(from) == 0 {
		return nil
	}
	start := len(*chunk)
	if cap(*chunk)-start < len(from) {
		*chunk, start = make([]T, 0, max(len(from), larger(*chunk))), 0
	}
	*chunk = append(*chunk, from...)
	return slices.Clip((*chunk)[start:])
}

// encoding checks that every byte is part of UTF-8, and of a character that XML allows
// where the scanner, which looks at bytes, would not see it.
func (p *parser) encoding() error {
	s := p.source
	for _, mark := range foreignMarks {
		if strings.HasPrefix(s, mark.bytes) {
			return p.fail(RuleEncoding, 0, "%s, expected UTF-8", mark.name)
		}
	}
	if !utf8.ValidString(s) {
		i := 0
		for i < len(s) {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			i += n
		}
		return p.fail(RuleEncoding, i, "the byte 0x%02X, expected UTF-8", s[i])
	}
	for _, c := range []string{"\uFFFE", "\uFFFF"} {
		if i := strings.Index(s, c); i >= 0 {
			return p.illegal(i)
		}
	}
	return nil
}

func (p *parser) illegal(i int) error {
	r, _ := utf8.DecodeRuneInString(p.source[i:])
	line, column := position(p.source, i)
	return &Error{RuleCharacter, line, column, i, fmt.Sprintf("the character U+%04X, which XML 1.0 does not allow", r)}
}

const byteOrderMark = "\uFEFF"

// foreignMarks: XML 1.0 appendix F. The longer ones come first.
var foreignMarks = []struct{ bytes, name string }{
	{"\x00\x00\xFE\xFF", "a byte order mark of UTF-32"},
	{"\xFF\xFE\x00\x00", "a byte order mark of UTF-32"},
	{"\xFE\xFF", "a byte order mark of UTF-16"},
	{"\xFF\xFE", "a byte order mark of UTF-16"},
	{"\x00\x00\x00<", "UTF-32 without a byte order mark"},
	{"<\x00\x00\x00", "UTF-32 without a byte order mark"},
	{"\x00<", "UTF-16 without a byte order mark"},
	{"<\x00", "UTF-16 without a byte order mark"},
	{"\x4C\x6F\xA7\x94", "EBCDIC"},
}
