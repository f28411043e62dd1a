package eps

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/c14n"
	"github.com/rxguard/rxguard/signing/signingtest"
)

// tree is an element as encoding/xml reads it, which shares nothing with this package.
type tree struct {
	name     string
	attrs    []string
	text     string
	children []*tree
}

// readTree returns nil for what encoding/xml refuses.
func readTree(b []byte) *tree {
	root := &tree{}
	open := []*tree{root}
	dec := xml.NewDecoder(bytes.NewReader(b))
	for {
		tok, err := dec.Token()
		if err != nil {
			if err.Error() == "EOF" {
				return root
			}
			return nil
		}
		last := open[len(open)-1]
		switch tok := tok.(type) {
		case xml.StartElement:
			e := &tree{name: tok.Name.Local}
			for _, a := range tok.Attr {
				if a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns" {
					continue
				}
				e.attrs = append(e.attrs, a.Name.Local+"="+strings.NewReplacer("\t", " ", "\n", " ").Replace(a.Value))
			}
			slices.Sort(e.attrs)
			last.children = append(last.children, e)
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			last.text += string(tok)
		}
	}
}

func (e *tree) all(path ...string) []*tree {
	if e == nil {
		return nil
	}
	if len(path) == 0 {
		return []*tree{e}
	}
	var found []*tree
	for _, c := range e.children {
		if c.name == path[0] {
			found = append(found, c.all(path[1:]...)...)
		}
	}
	return found
}

// write spells what of an element is signed.
func (e *tree) write(b *strings.Builder, inItem bool) {
	attrs := e.attrs
	if inItem && e.name == "repeatNumber" {
		attrs = nil
	}
	text := e.text
	if strings.TrimSpace(text) == "" {
		text = ""
	}
	fmt.Fprintf(b, "(%s %q %q", e.name, attrs, text)
	for _, c := range e.children {
		if e.name == "pertinentLineItem" && c.name == "pertinentInformation4" || inItem && e.name == "repeatNumber" && c.name != "high" {
			continue
		}
		c.write(b, e.name == "pertinentLineItem")
	}
	b.WriteString(")")
}

// meaning spells all that a signature over the first prescription is over: the parts of
// the prescription, and the SignedInfo; empty where the message cannot be read.
func meaning(message []byte) string {
	root := readTree(message)
	parents := root.all("PORX_IN020101SM31", "ControlActEvent", "subject", "ParentPrescription")
	if len(parents) != 1 {
		return ""
	}
	p := parents[0]
	const i, q = "pertinentInformation1", "pertinentPrescription"
	var b strings.Builder
	ids := p.all(i, q, "id")
	for _, part := range [][]*tree{p.all(i, q, "author", "time"), ids[:min(1, len(ids))], p.all(i, q, "author", "AgentPerson"), p.all("recordTarget"),
		p.all(i, q, "pertinentInformation2", "pertinentLineItem"), p.all(i, q, "author", "signatureText", "Signature", "SignedInfo")} {
		for _, e := range part {
			e.write(&b, false)
		}
		b.WriteString("|")
	}
	return b.String()
}

// sealed is a signed message and where its signed part is: the bytes of the elements
// that the fragments are made of, and those of the SignedInfo.
type sealed struct {
	v       *Verifier
	message []byte
	signed  []int // offsets
	meaning string
}

func newSealed(t testing.TB, c signingtest.MessageConfig) *sealed {
	w := newPKI(t)
	s := &sealed{v: w.verifier(), message: signedMessage(t, message(c), RS256, testKey(), w.leaf)}
	p := parsed(t, string(s.message)).Prescriptions()[0]
	r := &reader{doc: p.doc, space: hl7}
	q := r.only(p.parent, "pertinentInformation1", "pertinentPrescription")
	parts := []*c14n.Element{p.time, r.all(q, "id")[0], r.only(p.author, "AgentPerson"), r.only(p.parent, "recordTarget")}
	for _, i := range r.all(q, "pertinentInformation2") {
		parts = append(parts, r.only(i, "pertinentLineItem"))
	}
	require.Nil(t, r.err)
	r.space = dsig
	parts = append(parts, r.only(p.signatureText, "Signature", "SignedInfo"))
	for _, e := range parts {
		for i := e.Start; i < e.End; i++ {
			s.signed = append(s.signed, i)
		}
	}
	s.meaning = meaning(s.message)
	require.NotEmpty(t, s.meaning)
	require.Equal(t, Passed, judge(t, s.v, s.message).Rxguard.Accept)
	return s
}

// inside tells whether a place is in an element of a name.
func (s *sealed) inside(at int, name string) bool {
	before := s.message[:at]
	return bytes.LastIndex(before, []byte("<"+name)) > bytes.LastIndex(before, []byte("</"+name+">"))
}

// verdict tells whether anybody would accept the message with a byte changed, and
// whether encoding/xml still reads the same in what is signed.
func (s *sealed) verdict(t testing.TB, at int, b byte) (accepted, same bool) {
	in := bytes.Clone(s.message)
	in[at] = b
	err := s.v.VerifyMessage(in, ReadOptions{}, func(r Report) error {
		accepted = accepted || r.Rxguard.Accept == Passed || r.National.Accept == Passed
		return nil
	})
	if err != nil {
		return false, false
	}
	return accepted, accepted && meaning(in) == s.meaning
}

// TestNoByteOfTheSignedPartCanBeChanged changes each byte of a small prescription. What
// is still accepted reads the same in all that is signed: blanks between tags and in
// them, and what the service leaves out.
func TestNoByteOfTheSignedPartCanBeChanged(t *testing.T) {
	s := newSealed(t, signingtest.MessageConfig{Items: 1})
	harmless := map[string]int{}
	changes := 0
	for _, at := range s.signed {
		was := s.message[at]
		for _, b := range []byte{was ^ 1, " \n"[at%2]} {
			if b == was {
				continue
			}
			changes++
			accepted, same := s.verdict(t, at, b)
			if !accepted {
				continue
			}
			require.True(t, same, "byte %d changed from %q to %q is accepted: …%s…", at, was, b, s.message[max(0, at-60):at+60])
			blank := func(c byte) bool { return c == ' ' || c == '\n' }
			switch {
			case blank(was) && blank(b):
				harmless["blanks"]++
			default:
				require.True(t, s.inside(at, "repeatNumber") || s.inside(at, "pertinentInformation4"), "byte %d from %q to %q", at, was, b)
				harmless["left out"]++
			}
		}
	}
	t.Logf("%d changes of %d bytes; accepted: %v", changes, len(s.signed), harmless)
	assert.Positive(t, harmless["blanks"], "control: the oracle sees harmless changes")
	assert.Positive(t, harmless["left out"])
	assert.Less(t, harmless["left out"], changes/8)
}

// TestNoByteOfSignatureAndCertificateCanBeChanged: rxguard verifies both. A change that
// base64 does not show is none.
func TestNoByteOfSignatureAndCertificateCanBeChanged(t *testing.T) {
	s := newSealed(t, signingtest.MessageConfig{Items: 1})
	from := bytes.Index(s.message, []byte("<SignatureValue>"))
	to := bytes.Index(s.message, []byte("</Signature>"))
	for at := from; at < to; at++ {
		for _, b := range []byte{s.message[at] ^ 1, "A "[at%2]} {
			if b == s.message[at] {
				continue
			}
			in := bytes.Clone(s.message)
			in[at] = b
			accepted := false
			_ = s.v.VerifyMessage(in, ReadOptions{}, func(r Report) error {
				accepted = r.Rxguard.Accept == Passed
				return nil
			})
			if accepted { // the last character before padding has bits that count for nothing
				require.Contains(t, string(s.message[at:at+3]), "=", "byte %d from %q to %q", at, s.message[at], b)
			}
		}
	}
}

// FuzzOneByteOfWhatIsSigned: a prescription with any one byte of its signed part
// changed never verifies, unless what is signed reads the same to another XML reader.
func FuzzOneByteOfWhatIsSigned(f *testing.F) {
	s := newSealed(f, signingtest.MessageConfig{})
	f.Fuzz(func(t *testing.T, n uint, b byte) {
		at := s.signed[n%uint(len(s.signed))]
		if accepted, same := s.verdict(t, at, b); accepted && !same {
			t.Fatalf("byte %d changed from %q to %q is accepted: …%s…", at, s.message[at], b, s.message[max(0, at-60):at+60])
		}
	})
}

// FuzzVerify: any bytes give an error or whole reports.
func FuzzVerify(f *testing.F) {
	w := newPKI(f)
	f.Add(w.sample(f))
	v := w.verifier()
	v.MatchPrescriber = true
	f.Fuzz(func(t *testing.T, in []byte) {
		err := v.VerifyMessage(in, ReadOptions{}, func(r Report) error {
			if len(r.National.Checks) != 9 || len(r.Rxguard.Checks) != 15 || r.Line < 1 {
				t.Fatalf("%+v", r)
			}
			if r.Rxguard.Accept == Passed && r.National.Accept != Passed {
				t.Fatalf("rxguard accepts what the service does not: %+v", r)
			}
			for _, c := range slices.Concat(r.National.Checks, r.Rxguard.Checks) {
				if (c.Result == Passed) != (c.Why == "") || len(c.Why)+len(c.Warning) > 4096 {
					t.Fatalf("%+v", c)
				}
			}
			_, err := json.Marshal(r)
			return err
		})
		var me *MessageError
		if err != nil && !errors.As(err, &me) {
			t.Fatalf("%T %v", err, err)
		}
	})
}
