package eps

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/rxguard/rxguard/internal/c14n"
)

// FormatError says that a $prepare answer is not what may be signed.
type FormatError struct {
	// Field is what differs: "answer" for the JSON as a whole, "resourceType",
	// "parameter", or the parameter's name: "digest", "timestamp", "algorithm".
	Field string
	// Problem is what was found and what was wanted, with short excerpts, quoted.
	Problem string
	// Offset is where, in bytes from 0: in the answer where Field is "answer"; for
	// "digest" in the SignedInfo it decodes to, or in the base64 text if it does
	// not decode. It is -1 where there is no one place.
	Offset int
}

func (e *FormatError) Error() string {
	what := ""
	if e.Field != "answer" {
		what = e.Field + ": "
	}
	return "eps: $prepare answer: " + what + e.Problem +
		"; it cannot be signed: hand over the service's answer unchanged, or ask for a new one"
}

// diagnose says how d differs from the SignedInfo for a, which digestIn found that
// it does.
func diagnose(a Algorithm, d []byte) *FormatError {
	m := methods[a]
	rest, ok := bytes.CutPrefix(d, m.head)
	if !ok {
		return mismatch(a, d, m.head, 0)
	}
	start, n := len(m.head), base64.StdEncoding.EncodedLen(m.hash.Size())
	if len(rest) < n && bytes.IndexByte(rest, '<') < 0 {
		return formatErrorf("digest", len(d), "the SignedInfo ends after %d bytes inside its DigestValue", len(d))
	}
	if digest, _, err := strictBase64(string(rest[:min(n, len(rest))])); err == nil && len(digest) == m.hash.Size() {
		after, ok := bytes.CutPrefix(rest[n:], m.tail)
		if !ok {
			return mismatch(a, d, m.tail, start+n)
		}
		at := len(d) - len(after)
		return formatErrorf("digest", at, "trailing bytes after </SignedInfo> at byte %d, %d in all: %s", at, len(after), excerpt(after))
	}
	value := rest
	if end := bytes.IndexByte(rest, '<'); end >= 0 {
		value = rest[:end]
	}
	digest, off, err := strictBase64(string(value))
	if err != nil {
		return formatErrorf("digest", start+off, "at byte %d of the SignedInfo: DigestValue %s is not base64: %v", start+off, excerpt(value), err)
	}
	return formatErrorf("digest", start, "at byte %d of the SignedInfo: DigestValue %s holds %d bytes, wanted the %d of %v",
		start, excerpt(value), len(digest), m.hash.Size(), m.hash)
}

// mismatch describes how d, which should hold template at byte from, differs: the
// likeliest cause first, then the first byte that is another.
func mismatch(a Algorithm, d, template []byte, from int) *FormatError {
	n := 0
	for from+n < len(d) && n < len(template) && d[from+n] == template[n] {
		n++
	}
	at := from + n
	if at == len(d) {
		return &FormatError{Field: "digest", Offset: at,
			Problem: fmt.Sprintf("the SignedInfo ends after %d bytes, wanted %s next", at, excerpt(template[n:]))}
	}
	where := fmt.Sprintf("first difference at byte %d of the SignedInfo: found %s, wanted %s", at, excerpt(d[at:]), excerpt(template[n:]))
	if c := cause(a, d); c != "" {
		where = c + "; " + where
	}
	return &FormatError{Field: "digest", Problem: where, Offset: at}
}

// attributes lists what each element of a SignedInfo may carry.
var attributes = map[string]string{
	"CanonicalizationMethod": "Algorithm",
	"SignatureMethod":        "Algorithm",
	"Transform":              "Algorithm",
	"DigestMethod":           "Algorithm",
}

// cause finds out why d is not a SignedInfo for a, or returns "" where nothing
// better than the position can be said. It serves the error text only: what is
// accepted was decided bytewise.
func cause(a Algorithm, d []byte) string {
	if !bytes.HasPrefix(bytes.TrimLeft(d, " \t\r\n"), []byte("<")) {
		return "the decoded digest is not XML"
	}
	want := methods[a]
	uris := map[string]string{"SignatureMethod": want.signatureMethod, "DigestMethod": want.digestMethod}
	doc, err := c14n.Parse(d, c14n.Options{})
	if err != nil {
		return "the decoded digest is not XML: " + clip(strings.TrimPrefix(err.Error(), "c14n: "), 120)
	}
	var otherMethod, extra string
	var look func(*c14n.Element)
	look = func(e *c14n.Element) {
		for _, at := range e.Attrs {
			name := at.Name.Local
			if at.Prefix != "" {
				name = at.Prefix + ":" + name
			}
			uri := uris[e.Name.Local]
			switch {
			case attributes[e.Name.Local] != name && extra == "":
				extra = fmt.Sprintf("element %s has the extra attribute %s", clip(e.Name.Local, 40), clip(name, 40))
			case name == "Algorithm" && uri != "" && at.Value != uri && otherMethod == "":
				otherMethod = fmt.Sprintf("the SignedInfo names %s %s%s, but algorithm says %v", e.Name.Local, excerpt(at.Value), named(at.Value), a)
			}
		}
		for c := range e.Elements() {
			look(c)
		}
	}
	look(doc.Root)
	root := doc.Root.Name.Local
	switch nl := bytes.IndexAny(d, "\r\n"); {
	case root != "SignedInfo":
		return fmt.Sprintf("the decoded digest's root element is %s, wanted SignedInfo", excerpt(root))
	case otherMethod != "":
		return otherMethod
	case extra != "":
		return extra
	case nl >= 0:
		return fmt.Sprintf("it has a line break at byte %d, wanted one line", nl)
	}
	return ""
}

// named is the Algorithm that an identifier belongs to, in brackets.
func named(uri string) string {
	for a, m := range methods {
		if uri == m.signatureMethod || uri == m.digestMethod {
			return " (" + a.String() + ")"
		}
	}
	return ""
}

// excerptLen is how much of what was found an error shows: enough for an
// algorithm identifier to the end.
const excerptLen = 56

// excerpt quotes the beginning of s in ASCII, so that an error text stays short
// and on one line.
func excerpt[S string | []byte](s S) string {
	if len(s) > excerptLen {
		return strconv.QuoteToASCII(string(s[:excerptLen])) + "…"
	}
	return strconv.QuoteToASCII(string(s))
}

// clip makes foreign text fit into an error: one line, at most n characters.
func clip(s string, n int) string {
	var b strings.Builder
	for _, r := range s {
		if n--; n < 0 {
			b.WriteString("…")
			break
		}
		if !unicode.IsPrint(r) {
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String()
}
