package c14n

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/rxguard/rxguard/internal/need"
)

// FuzzParse: whatever the bytes, a Document that is whole or an *Error with its place;
// and what is written canonically is read again and written the same, the document and
// each element.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, source []byte) {
		d, err := Parse(source, Options{})
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Rule == "" || e.Detail == "" || e.Offset < 0 || e.Offset > len(source) {
				t.Fatalf("not a refusal with its rule and place: %v", err)
			}
			if line, column := position(source, e.Offset); e.Line != line || e.Column != column {
				t.Fatalf("offset %d is line %d, column %d: %v", e.Offset, line, column, err)
			}
			return
		}
		again(t, d.Canonical(nil), func(d *Document) []byte { return d.Canonical(nil) })
		whole(t, d, d.Root, nil)
	})
}

// again reads a canonical form and expects to write the same.
func again(t *testing.T, form []byte, write func(*Document) []byte) {
	t.Helper()
	d, err := Parse(form, Options{MaxBytes: len(form)})
	if err != nil {
		t.Fatalf("a canonical form that is refused: %v\n%q", err, form)
	}
	if second := write(d); !bytes.Equal(second, form) {
		t.Fatalf("another canonical form\nof  %q\nnow %q", form, second)
	}
}

// whole checks that an element and what is in it fit together and into the source.
func whole(t *testing.T, d *Document, e, parent *Element) {
	t.Helper()
	s := d.Source()
	if e.Parent != parent || e.Start >= e.Inner || e.Inner > e.InnerEnd || e.InnerEnd > e.End || e.End > len(s) || s[e.Start] != '<' || s[e.End-1] != '>' {
		t.Fatalf("element %q is not in its place", e.Name.Local)
	}
	if e.Empty != bytes.HasSuffix(s[:e.End], []byte("/>")) || e.Empty != (e.Inner == e.End) {
		t.Fatalf("element %q: empty %v", e.Name.Local, e.Empty)
	}
	for _, a := range e.Attrs {
		name := strings.TrimPrefix(a.Prefix+":"+a.Name.Local, ":")
		if (a.Prefix == "") != (a.Name.Space == "") || !bytes.HasPrefix(s[a.Start:], []byte(name)) {
			t.Fatalf("attribute %q is not in its place", name)
		}
	}
	again(t, e.Canonical(nil), func(d *Document) []byte { return d.Root.Canonical(nil) })
	at := e.Inner
	for i, n := range e.Children {
		if n.Start < at || n.End <= n.Start || n.End > e.InnerEnd {
			t.Fatalf("a child of %q is not in its place", e.Name.Local)
		}
		if n.Kind == TextNode && (n.Text == "" || i > 0 && e.Children[i-1].Kind == TextNode) {
			t.Fatalf("text of %q in more nodes than it needs", e.Name.Local)
		}
		at = n.End
		if (n.Kind == ElementNode) != (n.Element != nil) {
			t.Fatalf("a node of %q that is not what it says", e.Name.Local)
		}
		if n.Element != nil {
			if n.Start != n.Element.Start || n.End != n.Element.End {
				t.Fatalf("element %q is elsewhere than its node", n.Element.Name.Local)
			}
			whole(t, d, n.Element, e)
		}
	}
}

// FuzzAgainstXmllint: what is accepted, xmllint calls well-formed, and writes the same
// canonical form of it.
func FuzzAgainstXmllint(f *testing.F) {
	need.Tool(f, "xmllint", "libxml2-utils")
	f.Fuzz(func(t *testing.T, source []byte) {
		ours, err := canonical(source)
		if err != nil || bareAmpersand(ours) || bytes.Contains(source, []byte(separator)) {
			return
		}
		theirs := xmllint(t, [][]byte{source})[0]
		switch {
		case theirs.form == nil && strings.Contains(theirs.complaints, "is not a valid URI"):
		case theirs.form == nil:
			t.Fatalf("accepted, and refused by xmllint: %s\n%q", theirs.complaints, source)
		case !bytes.Equal(ours, theirs.form):
			t.Fatalf("of %q\nours   %q\ntheirs %q", source, ours, theirs.form)
		}
	})
}
