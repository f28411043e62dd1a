package c14n

import "strings"

// startTag reads a start tag or an empty element, and opens or adds the element: XML 1.0
// productions 40 and 44, Namespaces in XML 1.0 sections 3 to 6.
func (p *parser) startTag(start int) (int, error) {
	s := p.source
	colon, i, err := p.qName(start+1, "element")
	if err != nil {
		return 0, err
	}
	if len(p.open) == maxDepth {
		return 0, p.fail(RuleDepth, start, "the element %s is %d deep, expected at most %d", quote(s[start+1:i]), maxDepth+1, maxDepth)
	}
	if p.elements++; p.maxElements > 0 && p.elements > p.maxElements {
		return 0, p.fail(RuleSize, start, "more than %d elements", p.maxElements)
	}
	e := p.newElement()
	e.Start = start
	e.depth = uint8(len(p.open) + 1)
	tag := s[start+1 : i]
	if colon == 0 {
		e.Name.Local = tag
	} else {
		e.Prefix, e.Name.Local = s[start+1:colon], s[colon+1:i]
	}
	if len(p.open) > 0 {
		e.Parent = p.open[len(p.open)-1].element
	} else {
		p.root = e
	}
	p.open = append(p.open, frame{element: e, tag: tag, nodes: len(p.nodes) + 1, rebound: len(p.namespaces.rebound), used: len(p.namespaces.used)})
	// Its place among the children of the one around it.
	p.nodes = append(p.nodes, Node{Kind: ElementNode, Element: e, Start: start})
	p.opened(e)

	p.attrs = p.attrs[:0]
	for {
		if i == len(s) {
			return 0, p.truncatedTag(start, tag)
		}
		switch s[i] {
		case '>':
			i++
			e.Inner = i
			return i, p.bind(e)
		case '/':
			if i+1 == len(s) {
				return 0, p.truncatedTag(start, tag)
			}
			if s[i+1] != '>' {
				return 0, p.fail(RuleMarkup, i, "/ in the tag of %s, expected />", quote(tag))
			}
			i += len("/>")
			e.Inner, e.InnerEnd, e.End, e.Empty = i, i, i, true
			if err := p.bind(e); err != nil {
				return 0, err
			}
			return i, p.close()
		}
		next := skipSpace(s, i)
		if next == i {
			return 0, p.fail(RuleAttribute, i, "the tag of %s goes on, expected white space, /> or >", quote(tag))
		}
		if i = next; i < len(s) && s[i] != '>' && s[i] != '/' {
			if i, err = p.attribute(i, start, tag); err != nil {
				return 0, err
			}
		}
	}
}

func (p *parser) truncatedTag(start int, tag string) error {
	return p.fail(RuleTruncated, start, "the document ends inside the tag of %s", quote(tag))
}

// qName returns the offsets of the colon (0: none) and of the end of the qualified name
// at i: Namespaces in XML 1.0 section 4. Its prefix is not looked up.
func (p *parser) qName(i int, of string) (colon, end int, err error) {
	s := p.source
	end = ncName(s, i)
	if end > i && (end == len(s) || s[end] != ':') {
		return 0, end, nil
	}
	if end == i {
		if i == len(s) {
			return 0, 0, p.fail(RuleTruncated, i, "the document ends, expected the name of an %s", of)
		}
		return 0, 0, p.fail(RuleName, i, "no name of an %s: expected a letter, or _", of)
	}
	colon = end
	if end = ncName(s, colon+1); end == colon+1 || end < len(s) && s[end] == ':' {
		return 0, 0, p.fail(RuleName, i, "the name of an %s that begins with %s: expected one colon at most, with a name before and after it", of, quote(s[i:end]))
	}
	return colon, end, nil
}

// attribute reads name, = and value at i; a namespace declaration comes into force, any
// other attribute is added.
func (p *parser) attribute(i, tagStart int, tag string) (int, error) {
	s := p.source
	start := i
	colon, i, err := p.qName(i, "attribute")
	if err != nil {
		return 0, err
	}
	name := s[start:i]
	if i < len(s) && s[i] != '=' {
		i = skipSpace(s, i)
	}
	if i < len(s) && s[i] != '=' {
		return 0, p.fail(RuleAttribute, i, "no = after the name of the attribute %s", quote(name))
	}
	if i < len(s) {
		i++
	}
	if i < len(s) && class[s[i]]&space != 0 {
		i = skipSpace(s, i)
	}
	if i == len(s) {
		return 0, p.truncatedTag(tagStart, tag)
	}
	if s[i] != '"' && s[i] != '\'' {
		return 0, p.fail(RuleAttribute, i, "the value of the attribute %s is not quoted", quote(name))
	}
	value, plain, i, err := p.value(i, name)
	if err != nil {
		return 0, err
	}
	switch {
	case colon == 0 && name == "xmlns":
		return i, p.declare("", value, start)
	case colon == 0:
		p.attrs = append(p.attrs, Attr{Name: Name{Local: name}, Value: value, Start: start, plain: plain, use: useNothing})
	case s[start:colon] == "xmlns":
		return i, p.declare(s[colon+1:start+len(name)], value, start)
	default:
		p.attrs = append(p.attrs, Attr{
			Name: Name{Local: s[colon+1 : start+len(name)]}, Prefix: s[start:colon], Value: value, Start: start, plain: plain,
		})
	}
	return i, nil
}

// value reads the quoted value at i, normalised as that of a CDATA attribute: XML 1.0
// section 3.3.3.
func (p *parser) value(i int, name string) (value string, plain bool, end int, err error) {
	s := p.source
	quoted := s[i]
	i++
	start := i
	plain, whole := true, true
	p.resolved = p.resolved[:0]
	from := i
	for {
		for i < len(s) && class[s[i]]&valueStop == 0 {
			i++
		}
		if i == len(s) {
			return "", false, 0, p.fail(RuleTruncated, start-1, "the value of the attribute %s does not end", quote(name))
		}
		switch c := s[i]; c {
		case quoted:
			value = s[start:i]
			if !whole {
				p.resolved = append(p.resolved, s[from:i]...)
				value = string(p.resolved)
			}
			return value, plain, i + 1, nil
		case '"', '\'':
			plain = plain && c != '"'
			i++
			continue
		case '<':
			return "", false, 0, p.fail(RuleAttribute, i, "< in the value of the attribute %s, expected &lt;", quote(name))
		case '&':
			plain, whole = false, false
			p.resolved = append(p.resolved, s[from:i]...)
			if p.resolved, i, err = p.reference(p.resolved, i); err != nil {
				return "", false, 0, err
			}
		case '\t', '\n':
			whole = false
			p.resolved = append(append(p.resolved, s[from:i]...), ' ')
			i++
		case '\r':
			whole = false
			p.resolved = append(append(p.resolved, s[from:i]...), ' ')
			i = afterLineEnd(s, i)
		default:
			return "", false, 0, p.illegal(i)
		}
		from = i
	}
}

// bind gives the element and its attributes their namespaces, once all declarations of
// its tag are known.
func (p *parser) bind(e *Element) error {
	ns := &p.namespaces
	var ok bool
	if e.Name.Space, e.use, ok = ns.look(e.Prefix, e.depth); !ok {
		if e.Prefix == "xmlns" {
			return p.fail(RuleReserved, e.Start+1, "an element with the prefix xmlns, which declares namespaces only")
		}
		return p.fail(RulePrefix, e.Start+1, "the prefix %s of the element %s is not declared", quote(e.Prefix), quote(e.Name.Local))
	}
	if len(p.attrs) == 0 {
		return nil
	}
	e.Attrs = keep(&p.chunk.attrs, p.attrs)
	for i := range e.Attrs {
		a := &e.Attrs[i]
		if a.Prefix == "" {
			continue
		}
		if a.Name.Space, a.use, ok = ns.look(a.Prefix, e.depth); !ok {
			return p.fail(RulePrefix, a.Start, "the prefix %s of the attribute %s is not declared", quote(a.Prefix), quote(a.Name.Local))
		}
	}
	if i, j := duplicate(e.Attrs); j > 0 {
		a, b := &e.Attrs[i], &e.Attrs[j]
		if a.Prefix == b.Prefix {
			return p.fail(RuleDuplicate, b.Start, "a second attribute %s of the element %s", quote(qualified(b.Prefix, b.Name.Local)), quote(e.tag(p.source)))
		}
		return p.fail(RuleDuplicate, b.Start, "the attributes %s and %s of the element %s are both %s in the namespace %s",
			quote(qualified(a.Prefix, a.Name.Local)), quote(qualified(b.Prefix, b.Name.Local)), quote(e.tag(p.source)), quote(b.Name.Local), quote(b.Name.Space))
	}
	return nil
}

func qualified(prefix, local string) string {
	if prefix == "" {
		return local
	}
	return strings.Join([]string{prefix, local}, ":")
}

// duplicate returns the first attribute that has the expanded name of one before it,
// after that one: Namespaces in XML 1.0 section 6.3. The second is 0 if there is none.
func duplicate(attrs []Attr) (first, second int) {
	const few = 12
	if len(attrs) > few {
		names := make(map[Name]int, len(attrs))
		for j := range attrs {
			if i, found := names[attrs[j].Name]; found {
				return i, j
			}
			names[attrs[j].Name] = j
		}
		return 0, 0
	}
	for j := 1; j < len(attrs); j++ {
		for i := range j {
			if attrs[i].Name == attrs[j].Name {
				return i, j
			}
		}
	}
	return 0, 0
}
