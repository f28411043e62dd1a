package eps

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/rxguard/rxguard/internal/c14n"
)

// looseBase64 decodes base64 with XML white space in it, which XML-DSig allows
// (1.1 4.3, RFC 2045 6.8) and the service passes over.
func looseBase64(s string) ([]byte, error) {
	for _, blank := range []string{" ", "\t", "\r", "\n"} {
		if strings.Contains(s, blank) {
			s = strings.ReplaceAll(s, blank, "")
		}
	}
	return base64.StdEncoding.DecodeString(s)
}

// blankLine tells whether a text has one between others.
func blankLine(s string) bool {
	s = strings.ReplaceAll(strings.ReplaceAll(strings.Trim(s, " \t\r\n"), "\r\n", "\n"), "\r", "\n")
	for line := range strings.Lines(s) {
		if onlySpace(line) {
			return true
		}
	}
	return false
}

// serviceBase64 decodes as the service does a SignatureValue: it passes over every
// other character, ends with the padding, and takes both alphabets (RFC 4648 4, 5).
func serviceBase64(s string) []byte {
	s, _, _ = strings.Cut(s, "=")
	b := make([]byte, 0, len(s))
	for _, c := range []byte(s) {
		switch {
		case c == '-':
			c = '+'
		case c == '_':
			c = '/'
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '+', c == '/':
		default:
			continue
		}
		b = append(b, c)
	}
	if len(b)%4 == 1 {
		b = b[:len(b)-1]
	}
	decoded, err := base64.RawStdEncoding.DecodeString(string(b))
	if err != nil { // nothing but the alphabet is left
		return nil
	}
	return decoded
}

// serviceText returns the text of an element as the service reads it. A comment or an
// instruction in it makes two texts of it, and a CDATA section is not text: no one
// text that is not blank is a problem.
func (r *reader) serviceText(e *c14n.Element) (*c14n.Element, string) {
	if e == nil {
		return nil, ""
	}
	var texts []string
	for i := range e.Children {
		n := &e.Children[i]
		switch n.Kind {
		case c14n.ElementNode:
			r.fail(e, "holds elements, wanted text")
			return e, ""
		case c14n.TextNode:
			texts = append(texts, r.outsideCDATA(n)...)
		}
	}
	switch len(texts) {
	case 0:
		r.fail(e, "is empty, wanted text")
		return e, ""
	case 1:
		return e, texts[0]
	}
	r.fail(e, "is in %d pieces, by comments, instructions or CDATA sections, wanted one text", len(texts))
	return e, ""
}

// outsideCDATA splits a text where CDATA sections are, and leaves out what they hold
// and what is blank.
func (r *reader) outsideCDATA(n *c14n.Node) []string {
	pieces := []string{n.Text}
	if source := r.doc.Source()[n.Start:n.End]; bytes.IndexByte(source, '<') >= 0 {
		pieces = nil
		for rest, more := string(source), true; more; {
			var piece string
			piece, rest, more = strings.Cut(rest, "<![CDATA[")
			pieces = append(pieces, piece)
			_, rest, _ = strings.Cut(rest, "]]>")
		}
	}
	return slices.DeleteFunc(pieces, onlySpace)
}
