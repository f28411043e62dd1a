package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/term" // tells a terminal and its width; kept by the Go team, needs x/sys only

	"github.com/rxguard/rxguard/signing/eps"
)

// lineVersion is the version of the JSON lines.
const lineVersion = 1

// line is one JSON line: a report on a prescription, or an error.
type line struct {
	Version int         `json:"version"`        // lineVersion
	File    string      `json:"file,omitempty"` // as on the command line; - is standard input
	Report  *eps.Report `json:"report,omitempty"`
	Error   *problem    `json:"error,omitempty"`
}

// problem is what keeps something from being judged.
type problem struct {
	Kind    string `json:"kind"`
	Text    string `json:"text"`
	Element string `json:"element,omitempty"` // of the message, where one is to blame
	Line    int    `json:"line,omitempty"`    // from 1; 0: no one place
	Offset  int    `json:"offset,omitempty"`  // in bytes, from 0; with Line
	File    string `json:"-"`
}

// The kinds of a problem.
const (
	kindUsage       = "usage"       // the command line
	kindFile        = "file"        // a file that cannot be read, or is not what it should be
	kindMessage     = "message"     // a message that was read and is no prescription message
	kindInterrupted = "interrupted" // by the user
)

// teller tells what comes out, in plain words or as JSON lines.
type teller struct {
	out      *bufio.Writer
	err      io.Writer
	json     bool
	terminal bool // out is one
	width    int  // of text on a terminal; 0: lines are left as they are
	failed   error
	bar      *bar
}

func newTeller(out, err io.Writer) *teller {
	t := &teller{out: bufio.NewWriter(out), err: err, bar: newBar(err)}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		t.terminal = true
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			t.width = min(max(w-1, 60), 110)
		}
	}
	return t
}

// Write writes to the output. It keeps the first failure for flush and does not fail
// itself.
func (t *teller) Write(b []byte) (int, error) {
	t.bar.clear()
	if t.failed == nil {
		_, t.failed = t.out.Write(b)
	}
	return len(b), nil
}

// flush brings out what was written, and returns the first failure.
func (t *teller) flush() error {
	if t.failed == nil {
		t.failed = t.out.Flush()
	}
	return t.failed
}

// line writes JSON as a line.
func (t *teller) line(b []byte) {
	t.Write(append(harmlessJSON(b), '\n'))
}

// problem tells a problem: on standard error, or as a JSON line.
func (t *teller) problem(p problem) {
	if !t.json {
		_ = t.flush() // what was said before comes before
		t.bar.clear()
		where := ""
		if p.File != "" {
			where = harmless(shown(p.File)) + ": "
		}
		for i, l := range strings.Split(strings.TrimRight(p.Text, "\n"), "\n") {
			if i == 0 {
				l = "rxguard: " + where + harmless(l)
			} else {
				l = harmless(strings.ReplaceAll(l, "\t", "  "))
			}
			fmt.Fprintln(t.err, l)
		}
		return
	}
	b, err := json.Marshal(line{Version: lineVersion, File: p.File, Error: &p})
	if err != nil { // cannot be: all are strings and numbers
		b = []byte(`{}`)
	}
	t.line(b)
}

// shown is how text names an input.
func shown(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}

// harmless makes text from outside fit for a terminal: control characters, what
// turns the direction of writing and what is not UTF-8 are spelled out.
func harmless(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case strconv.IsPrint(r):
			b.WriteString(s[:n])
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		s = s[n:]
	}
	return b.String()
}

// harmlessJSON does the same to JSON, which has such characters in strings alone, and
// does not change its meaning.
func harmlessJSON(b []byte) []byte {
	out := make([]byte, 0, len(b)+1)
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r < 0x7f || strconv.IsPrint(r) || r == utf8.RuneError:
			out = append(out, b[:n]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		b = b[n:]
	}
	return out
}

// wrap breaks a line between words, and indents what follows. Width 0 breaks nothing.
func wrap(text string, indent, width int) string {
	if width == 0 {
		return text
	}
	var b strings.Builder
	column := 0
	for i, w := range strings.Fields(text) {
		n := utf8.RuneCountInString(w)
		switch {
		case i == 0:
		case column+1+n > width-indent:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(w)
		column += n
	}
	return b.String()
}
