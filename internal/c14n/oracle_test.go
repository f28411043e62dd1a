package c14n

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
)

// opinion is what xmllint says of a document.
type opinion struct {
	form       []byte // the exclusive canonical form without comments; nil: it has none
	complaints string // errors and warnings
}

// separator is a document whose canonical form stands between those of others.
const separator = `<separator xmlns="urn:uuid:0b5a8c5e-6a39-4c0e-9f0f-4a0c1d7a5b1e"></separator>`

// xmllint asks for the canonical forms of documents, a hundred in a process.
func xmllint(t testing.TB, documents [][]byte) []opinion {
	t.Helper()
	program := need.Tool(t, "xmllint", "libxml2-utils")
	dir := t.TempDir()
	between := filepath.Join(dir, "separator")
	require.NoError(t, os.WriteFile(between, []byte(separator), 0o600))
	var opinions []opinion
	for len(documents) > 0 {
		batch := documents[:min(100, len(documents))]
		documents = documents[len(batch):]
		args := []string{"--nonet", "--huge", "--exc-c14n"}
		path := func(i int) string { return filepath.Join(dir, fmt.Sprintf("%03d.xml", i)) }
		for i, d := range batch {
			require.NoError(t, os.WriteFile(path(i), d, 0o600))
			args = append(args, path(i), between)
		}
		var stderr bytes.Buffer
		cmd := exec.Command(program, args...)
		cmd.Stderr = &stderr
		stdout, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() < 0) {
			t.Fatalf("xmllint: %v: %s", err, stderr.String())
		}
		forms := bytes.Split(stdout, []byte(separator))
		require.Len(t, forms, len(batch)+1, "xmllint did not come to every document: %s", stderr.String())
		for i := range batch {
			o := opinion{}
			if len(forms[i]) > 0 {
				o.form = withoutComments(forms[i])
			}
			for line := range strings.Lines(stderr.String()) {
				if rest, found := strings.CutPrefix(line, path(i)); found {
					o.complaints += "xmllint" + rest
				}
			}
			opinions = append(opinions, o)
		}
	}
	return opinions
}

// withoutComments takes the comments out of a canonical form that xmllint wrote with
// them. A comment outside the root takes its line end along (Canonical XML 1.0
// section 2.3). Only a processing instruction can hold what looks like one.
func withoutComments(form []byte) []byte {
	var out []byte
	depth, started := 0, false
	for len(form) > 0 {
		after := func(start, end string) int { // the first end behind the start
			return len(start) + bytes.Index(form[len(start):], []byte(end)) + len(end)
		}
		n := 1
		switch {
		case bytes.HasPrefix(form, []byte("\n<!--")) && depth == 0 && started:
			form = form[after("\n<!--", "-->"):]
			continue
		case bytes.HasPrefix(form, []byte("<!--")):
			form = form[after("<!--", "-->"):]
			if depth == 0 {
				form = form[1:]
			}
			continue
		case bytes.HasPrefix(form, []byte("<?")):
			n = after("<?", "?>")
		case bytes.HasPrefix(form, []byte("</")):
			depth--
		case form[0] == '<':
			depth++
			started = true
		}
		out = append(out, form[:n]...)
		form = form[n:]
	}
	return out
}

// libxml2 asks for the canonical forms of documents and of each of their elements in
// place: of a document that it refuses none, of others first that of the whole.
func libxml2(t testing.TB, documents [][]byte) [][][]byte {
	t.Helper()
	cc := need.Tool(t, "cc", "gcc libc6-dev")
	header := need.File(t, "the headers of libxml2", "libxml2-dev",
		"/usr/include/libxml2/libxml/c14n.h", "/usr/local/include/libxml2/libxml/c14n.h", "/opt/homebrew/opt/libxml2/include/libxml2/libxml/c14n.h")
	program := filepath.Join(t.TempDir(), "libxml2")
	words, err := exec.Command(cc, "-O1", "-Wall", "-I", filepath.Dir(filepath.Dir(header)), "-o", program, "testdata/libxml2.c", "-lxml2").CombinedOutput()
	require.NoError(t, err, "testdata/libxml2.c: %s", words)

	var in bytes.Buffer
	for _, d := range documents {
		in.Write(binary.BigEndian.AppendUint32(nil, uint32(len(d))))
		in.Write(d)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(program)
	cmd.Stdin, cmd.Stderr = &in, &stderr
	stdout, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	out := bytes.NewReader(stdout)
	number := func() (n uint32) {
		require.NoError(t, binary.Read(out, binary.BigEndian, &n))
		return n
	}
	forms := make([][][]byte, len(documents))
	for i := range forms {
		for range number() {
			form := make([]byte, number())
			_, err := io.ReadFull(out, form)
			require.NoError(t, err)
			forms[i] = append(forms[i], form)
		}
	}
	require.Zero(t, out.Len())
	return forms
}
