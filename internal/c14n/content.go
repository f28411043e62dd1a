package c14n

import (
	"strings"
	"unicode/utf8"
)

const cdataStart, cdataEnd = "<![CDATA[", "]]>"

// text reads character data, references and CDATA sections up to other markup, as one
// node: XML 1.0 sections 2.4, 2.7, 4.1.
func (p *parser) text(start int) (int, error) {
	s := p.source
	i := start
	plain, whole := true, true // whole: the text is s[start:i] so far
	p.resolved = p.resolved[:0]
	from := i // what is not in resolved yet
	for {
		for i < len(s) && class[s[i]]&textStop == 0 {
			i++
		}
		if i == len(s) {
			break
		}
		switch s[i] {
		case '>':
			plain = false
			i++
			continue
		case ']':
			if strings.HasPrefix(s[i:], cdataEnd) {
				return 0, p.fail(RuleMarkup, i, "]]> in character data, expected ]]&gt;")
			}
			i++
			continue
		case '<':
		case '&', '\r':
		default:
			return 0, p.illegal(i)
		}
		cdata := s[i] == '<' && strings.HasPrefix(s[i:], cdataStart)
		if s[i] == '<' && !cdata {
			break
		}
		// The text is no longer what the source holds.
		plain, whole = false, false
		p.resolved = append(p.resolved, s[from:i]...)
		var err error
		switch {
		case cdata:
			i, err = p.cdata(i)
		case s[i] == '&':
			p.resolved, i, err = p.reference(p.resolved, i)
		default:
			p.resolved = append(p.resolved, '\n')
			i = afterLineEnd(s, i)
		}
		if err != nil {
			return 0, err
		}
		from = i
	}
	text := s[start:i]
	if !whole {
		p.resolved = append(p.resolved, s[from:i]...)
		text = string(p.resolved)
	}
	if text != "" { // an empty CDATA section is no node
		p.nodes = append(p.nodes, Node{Kind: TextNode, Text: text, plain: plain, Start: start, End: i})
	}
	return i, nil
}

// cdata adds the content of a CDATA section to what is resolved.
func (p *parser) cdata(i int) (int, error) {
	start := i + len(cdataStart)
	n := strings.Index(p.source[start:], cdataEnd)
	if n < 0 {
		return 0, p.fail(RuleTruncated, i, "a CDATA section that does not end")
	}
	if err := p.characters(start, start+n); err != nil {
		return 0, err
	}
	p.resolved = appendLines(p.resolved, p.source[start:start+n])
	return start + n + len(cdataEnd), nil
}

// characters checks that there are none that XML 1.0 does not allow.
func (p *parser) characters(from, to int) error {
	for i := from; i < to; i++ {
		if class[p.source[i]]&illegal != 0 {
			return p.illegal(i)
		}
	}
	return nil
}

// afterLineEnd is the offset after the CR or CRLF at i.
func afterLineEnd(s string, i int) int {
	if i+1 < len(s) && s[i+1] == '\n' {
		return i + 2
	}
	return i + 1
}

// appendLines appends s with its line ends as LF: XML 1.0 section 2.11.
func appendLines(dst []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, '\r')
		if i < 0 {
			return append(dst, s...)
		}
		dst = append(append(dst, s[:i]...), '\n')
		s = s[afterLineEnd(s, i):]
	}
}

func (p *parser) lines(s string) string {
	if strings.IndexByte(s, '\r') < 0 {
		return s
	}
	p.resolved = appendLines(p.resolved[:0], s)
	return string(p.resolved)
}

// reference appends the character of the reference at i and returns the offset after
// it: XML 1.0 sections 4.1 and 4.6.
func (p *parser) reference(dst []byte, i int) ([]byte, int, error) {
	s := p.source
	if i+1 < len(s) && s[i+1] == '#' {
		return p.characterReference(dst, i)
	}
	end := ncName(s, i+1)
	switch {
	case end == i+1:
		return dst, 0, p.fail(RuleReference, i, "& that begins no reference, expected &amp;")
	case end == len(s) || s[end] != ';':
		return dst, 0, p.fail(RuleReference, i, "a reference to the entity %s that does not end, expected ;", quote(s[i+1:end]))
	}
	switch name := s[i+1 : end]; name {
	case "amp":
		dst = append(dst, '&')
	case "lt":
		dst = append(dst, '<')
	case "gt":
		dst = append(dst, '>')
	case "apos":
		dst = append(dst, '\'')
	case "quot":
		dst = append(dst, '"')
	default:
		return dst, 0, p.fail(RuleEntity, i, "a reference to the entity %s, expected amp, lt, gt, apos or quot", quote(name))
	}
	return dst, end + 1, nil
}

// maxDigits is enough for every character. XML 1.0 allows any number of zeros before
// them, which not every reader reads: libxml2 2.9 does, or does not, by their number.
const maxDigits = 8

func (p *parser) characterReference(dst []byte, i int) ([]byte, int, error) {
	s := p.source
	j, base := i+len("&#"), rune(10)
	if j < len(s) && s[j] == 'x' {
		j, base = j+1, 16
	}
	first, r := j, rune(0)
	for ; j < len(s); j++ {
		digit := rune(s[j])
		switch {
		case digit >= '0' && digit <= '9':
			digit -= '0'
		case base == 16 && digit|0x20 >= 'a' && digit|0x20 <= 'f':
			digit = digit | 0x20 - 'a' + 10
		default:
			digit = -1
		}
		if digit < 0 {
			break
		}
		if j-first == maxDigits {
			return dst, 0, p.fail(RuleReference, i, "a character reference of more than %d digits", maxDigits)
		}
		r = r*base + digit // at most 32 bits: negative is beyond too
	}
	switch {
	case j == first:
		return dst, 0, p.fail(RuleReference, i, "a character reference without digits")
	case j == len(s) || s[j] != ';':
		return dst, 0, p.fail(RuleReference, i, "a character reference that does not end, expected ;")
	case r < 0 || r > utf8.MaxRune:
		return dst, 0, p.fail(RuleCharacter, i, "a reference to a character beyond U+10FFFF")
	case !isChar(r):
		return dst, 0, p.fail(RuleCharacter, i, "a reference to the character U+%04X, which XML 1.0 does not allow", r)
	}
	return utf8.AppendRune(dst, r), j + 1, nil
}

// commentOrInstruction reads what begins with <! or <?.
func (p *parser) commentOrInstruction(i int) (Node, int, error) {
	s := p.source
	switch {
	case s[i+1] == '?':
		return p.instruction(i)
	case strings.HasPrefix(s[i:], "<!--"):
		return p.comment(i)
	case len(s)-i >= 9 && strings.EqualFold(s[i:i+9], "<!DOCTYPE"):
		return Node{}, 0, p.fail(RuleDoctype, i, "a document type declaration, expected none")
	}
	return Node{}, 0, p.fail(RuleMarkup, i, "<! that begins neither a comment nor a CDATA section")
}

// comment: XML 1.0 section 2.5.
func (p *parser) comment(i int) (Node, int, error) {
	s := p.source
	start := i + len("<!--")
	n := strings.Index(s[start:], "--")
	if n < 0 {
		return Node{}, 0, p.fail(RuleTruncated, i, "a comment that does not end")
	}
	end := start + n
	if err := p.characters(start, end); err != nil {
		return Node{}, 0, err
	}
	if !strings.HasPrefix(s[end:], "-->") {
		if end+len("--") == len(s) {
			return Node{}, 0, p.fail(RuleTruncated, i, "a comment that does not end")
		}
		return Node{}, 0, p.fail(RuleComment, end, "-- in a comment, expected it at the end only, as -->")
	}
	after := end + len("-->")
	return Node{Kind: CommentNode, Text: p.lines(s[start:end]), Start: i, End: after}, after, nil
}

// instruction: XML 1.0 section 2.6; the target is an NCName (Namespaces in XML 1.0
// section 7).
func (p *parser) instruction(i int) (Node, int, error) {
	s := p.source
	start := i + len("<?")
	target := ncName(s, start)
	name := s[start:target]
	switch {
	case target == start && start == len(s):
		return Node{}, 0, p.fail(RuleTruncated, i, "the document ends inside a processing instruction")
	case target == start:
		return Node{}, 0, p.fail(RuleInstruction, i, "a processing instruction without a target")
	case strings.EqualFold(name, "xml"):
		if i > 0 && name == "xml" {
			return Node{}, 0, p.fail(RuleInstruction, i, "an XML declaration, expected it at the very start of the document only")
		}
		return Node{}, 0, p.fail(RuleInstruction, i, "the target %s, which is reserved", quote(name))
	case target < len(s) && s[target] == ':':
		return Node{}, 0, p.fail(RuleName, start, "a colon in the target of a processing instruction after %s", quote(name))
	}
	n := strings.Index(s[target:], "?>")
	if n < 0 {
		return Node{}, 0, p.fail(RuleTruncated, i, "a processing instruction that does not end")
	}
	end := target + n
	data := skipSpace(s, target)
	if data == target && data < end {
		return Node{}, 0, p.fail(RuleInstruction, target, "the target %s goes on, expected white space or ?>", quote(name))
	}
	if err := p.characters(data, end); err != nil {
		return Node{}, 0, err
	}
	text := name
	switch {
	case data == end:
	case data == target+1 && s[target] == ' ':
		text = p.lines(s[start:end])
	default:
		text = name + " " + p.lines(s[data:end])
	}
	after := end + len("?>")
	return Node{Kind: InstructionNode, Text: text, Start: i, End: after}, after, nil
}
