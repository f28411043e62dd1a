package eps

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// element is an element of a Signature as it reads back. All of a Signature is in
// the namespace of XML-DSig, without prefixes; what is not is refused, which
// keeps canonicalisation as small as the format.
type element struct {
	name    string
	attrs   map[string]string // apart from namespace declarations
	content []content
}

// content is a child element, or text where there is none.
type content struct {
	child *element
	text  string
}

func isXMLSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

func onlySpace(s string) bool { return strings.Trim(s, " \t\r\n") == "" }

// readElement reads a document whose root is in the XML-DSig namespace. Text that
// is only white space is dropped, as the service does.
func readElement(b []byte) (*element, error) {
	dec := xml.NewDecoder(bytes.NewReader(b))
	top := &element{}
	open := []*element{top}
	for {
		tok, err := dec.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("not XML: %s", clip(err.Error(), 120))
		}
		in := open[len(open)-1]
		switch tok := tok.(type) {
		case xml.StartElement:
			if len(open) > maxDepth {
				return nil, fmt.Errorf("nested more than %d deep", maxDepth)
			}
			el, err := newElement(tok, in == top)
			if err != nil {
				return nil, err
			}
			in.content = append(in.content, content{child: el})
			open = append(open, el)
		case xml.EndElement:
			if in == top || tok.Name.Space != "" || tok.Name.Local != in.name {
				return nil, fmt.Errorf("not XML: end tag %s does not match", excerpt(tok.Name.Local))
			}
			in.dropSpace()
			open = open[:len(open)-1]
		case xml.CharData:
			in.addText(string(tok))
		default:
			return nil, errors.New("a comment, declaration or processing instruction, wanted elements alone")
		}
	}
	top.dropSpace()
	if len(open) > 1 || len(top.content) != 1 || top.content[0].child == nil {
		return nil, errors.New("not XML: wanted exactly one root element")
	}
	return top.content[0].child, nil
}

func newElement(tok xml.StartElement, root bool) (*element, error) {
	el := &element{name: tok.Name.Local, attrs: map[string]string{}}
	namespace := ""
	if tok.Name.Space != "" {
		return nil, fmt.Errorf("element %s has a namespace prefix, wanted none", excerpt(tok.Name.Local))
	}
	for _, a := range tok.Attr {
		_, dup := el.attrs[a.Name.Local]
		switch {
		case a.Name.Space != "":
			return nil, fmt.Errorf("element %s has the attribute %s with a prefix, wanted none", excerpt(el.name), excerpt(a.Name.Local))
		case dup, a.Name.Local == "xmlns" && namespace != "":
			return nil, fmt.Errorf("not XML: element %s has the attribute %s twice", excerpt(el.name), excerpt(a.Name.Local))
		case a.Name.Local == "xmlns":
			if namespace = a.Value; namespace != dsig {
				return nil, fmt.Errorf("element %s is in namespace %s, wanted %s", excerpt(el.name), excerpt(a.Value), dsig)
			}
		case strings.ContainsAny(a.Value, "\t\r\n"):
			return nil, fmt.Errorf("attribute %s of element %s has a line break or tab, wanted none", excerpt(a.Name.Local), excerpt(el.name))
		default:
			el.attrs[a.Name.Local] = a.Value
		}
	}
	if root && namespace == "" {
		return nil, fmt.Errorf("element %s is in no namespace, wanted %s", excerpt(el.name), dsig)
	}
	return el, nil
}

// addText joins text that a CDATA section divides.
func (e *element) addText(s string) {
	if n := len(e.content); n > 0 && e.content[n-1].child == nil {
		e.content[n-1].text += s
		return
	}
	e.content = append(e.content, content{text: s})
}

func (e *element) dropSpace() {
	e.content = slices.DeleteFunc(e.content, func(c content) bool { return c.child == nil && onlySpace(c.text) })
}

// only returns the one element at a path of child names.
func (e *element) only(path ...string) (*element, error) {
	for _, name := range path {
		var found *element
		for _, c := range e.content {
			if c.child == nil || c.child.name != name {
				continue
			}
			if found != nil {
				return nil, fmt.Errorf("more than one %s in %s, wanted one", name, e.name)
			}
			found = c.child
		}
		if found == nil {
			return nil, fmt.Errorf("no %s in %s, wanted one", name, e.name)
		}
		e = found
	}
	return e, nil
}

// onlyText returns the text of the one element at a path, which must have some.
func (e *element) onlyText(path ...string) (string, error) {
	el, err := e.only(path...)
	if err != nil {
		return "", err
	}
	if len(el.content) != 1 || el.content[0].child != nil {
		return "", fmt.Errorf("%s is empty or holds elements, wanted text", el.name)
	}
	return el.content[0].text, nil
}

var (
	textEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#xD;")
	attrEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", `"`, "&quot;")
)

// canonical is Exclusive XML Canonicalization 1.0 (over Canonical XML 1.0 2.3) of
// e and what is in it: the namespace is declared on e, where it is first visibly
// used, and nowhere below.
func (e *element) canonical() []byte {
	var b bytes.Buffer
	e.write(&b, ` xmlns="`+dsig+`"`)
	return b.Bytes()
}

func (e *element) write(b *bytes.Buffer, namespace string) {
	b.WriteString("<" + e.name + namespace)
	for _, name := range slices.Sorted(maps.Keys(e.attrs)) {
		b.WriteString(" " + name + `="` + attrEscapes.Replace(e.attrs[name]) + `"`)
	}
	b.WriteString(">")
	for _, c := range e.content {
		if c.child != nil {
			c.child.write(b, "")
		} else {
			b.WriteString(textEscapes.Replace(c.text))
		}
	}
	b.WriteString("</" + e.name + ">")
}
