package eps

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/rxguard/rxguard/internal/c14n"
)

// hl7 is the namespace of HL7 Version 3. Messages without any namespace are seen in
// the field, and the service reads them alike.
const hl7 = "urn:hl7-org:v3"

// MessageError says what is wrong with an HL7v3 message or a prescription in it, and
// where.
type MessageError struct {
	// Element is the path of the element, from the ParentPrescription or from the
	// message's root; empty where the message is not the XML that it should be.
	Element string
	Line    int // from 1; 0 where there is no one place
	Offset  int // in bytes, from 0
	Problem string
	Err     error // of the XML reader; nil otherwise
}

func (e *MessageError) Error() string {
	s := "eps: "
	if e.Element != "" {
		s += e.Element + ": "
	}
	s += e.Problem
	if e.Line > 0 {
		s += fmt.Sprintf(" (line %d, byte %d)", e.Line, e.Offset)
	}
	return s
}

func (e *MessageError) Unwrap() error { return e.Err }

// ReadOptions bound what is read.
type ReadOptions struct {
	MaxBytes int // of a message; 0 means 1 MiB
}

// What bounds the memory, beside MaxBytes: a message of real prescriptions has some 400
// elements for each. They take about 300 bytes.
const (
	maxElements      = 1 << 20 // of a message that is kept
	maxElementsOfOne = 1 << 18 // of one prescription at a time, and the message around
)

// Message is an HL7v3 message in XML that was read, with the prescriptions in it. It
// does not change and may be used by several goroutines.
type Message struct {
	doc           *c14n.Document
	prescriptions []*Prescription
}

// ParseMessage reads a message: a ParentPrescription, or a larger HL7v3 message with
// one or more of them in it, in UTF-8. XML that is not well-formed, has a DOCTYPE or
// is larger than allowed, and a message without a prescription, are a *MessageError.
//
// A prescription with something wrong in it is read all the same, so that it can be
// told apart from the others: [Prescription.Err] says what it is, and it is not
// signed.
func ParseMessage(message []byte, o ReadOptions) (*Message, error) {
	doc, err := c14n.Parse(bytes.Clone(message), c14n.Options{MaxBytes: o.MaxBytes, MaxElements: maxElements})
	if err != nil {
		return nil, notXML(err)
	}
	m := &Message{doc: doc}
	m.find(doc.Root)
	if len(m.prescriptions) == 0 {
		return nil, noPrescription(doc)
	}
	return m, nil
}

func notXML(err error) *MessageError {
	e := &MessageError{Problem: "the message cannot be read: " + strings.TrimPrefix(err.Error(), "c14n: "), Err: err}
	return e
}

func noPrescription(doc *c14n.Document) *MessageError {
	return problem(doc, doc.Root, "no ParentPrescription in it; wanted a prescription message")
}

// find collects the outermost ParentPrescriptions, in the order of the message.
func (m *Message) find(e *c14n.Element) {
	if e.Name.Local == parentPrescription {
		m.prescriptions = append(m.prescriptions, readPrescription(m.doc, e))
		return
	}
	for c := range e.Elements() {
		m.find(c)
	}
}

// Prescriptions returns those of the message, in its order.
func (m *Message) Prescriptions() []*Prescription {
	if m == nil {
		return nil
	}
	return append([]*Prescription(nil), m.prescriptions...)
}

// Fill fills the signatures of some or all of m's prescriptions into it and returns
// the whole message. Each Signature becomes the content of its prescription's
// author/signatureText, which is written where it is missing and loses a nullFlavor;
// every other byte stays as it was. Each is read back from the finished message and
// goes through the service's checks again: what would fail is a *CheckError, and
// nothing is returned.
func (m *Message) Fill(signatures ...*SignedPrescription) ([]byte, error) {
	if m == nil || m.doc == nil {
		return nil, errors.New("eps: no message; wanted one from ParseMessage")
	}
	filled := make(map[*c14n.Element]*SignedPrescription, len(signatures))
	for _, s := range signatures {
		switch {
		case s == nil || s.of == nil:
			return nil, errors.New("eps: no signature; wanted one from signing.Sign")
		case s.of.doc != m.doc:
			return nil, fmt.Errorf("eps: the signature is over prescription %s of another message", excerpt(s.of.ID()))
		case filled[s.of.parent] != nil:
			return nil, fmt.Errorf("eps: two signatures over prescription %s; wanted one", excerpt(s.of.ID()))
		}
		filled[s.of.parent] = s
	}
	src := m.doc.Source()
	out := make([]byte, 0, len(src)+4096*len(signatures))
	at := 0
	for _, p := range m.prescriptions {
		s := filled[p.parent]
		if s == nil {
			continue
		}
		from, to, with := p.fill(s.xml)
		out = append(append(out, src[at:from]...), with...)
		at = to
	}
	out = append(out, src[at:]...)
	if err := readBack(out, m, filled); err != nil {
		return nil, err
	}
	return out, nil
}

// readBack checks each filled prescription as it reads in the finished message.
func readBack(out []byte, m *Message, filled map[*c14n.Element]*SignedPrescription) error {
	again, err := ParseMessage(out, ReadOptions{MaxBytes: len(out)})
	if err != nil {
		return fmt.Errorf("eps: the signed message does not read back, nothing was released: %w", err)
	}
	if len(again.prescriptions) != len(m.prescriptions) {
		return errors.New("eps: the signed message reads back with another number of prescriptions, nothing was released")
	}
	for i, p := range m.prescriptions {
		s := filled[p.parent]
		if s == nil {
			continue
		}
		signature, problem := again.prescriptions[i].signature()
		if problem != nil {
			return fmt.Errorf("eps: the signed message does not read back, nothing was released: %w", problem)
		}
		checks, found := examine(again.doc, signature, again.prescriptions[i])
		if failed(checks) {
			return &CheckError{Checks: checks}
		}
		if !found.same(&s.Signed) {
			return errors.New("eps: a signature reads back as something else than what was signed, nothing was released")
		}
	}
	return nil
}

// problem is a MessageError about an element of a document.
func problem(doc *c14n.Document, e *c14n.Element, format string, args ...any) *MessageError {
	line, _ := doc.Position(e.Start)
	return &MessageError{Element: path(e), Line: line, Offset: e.Start, Problem: fmt.Sprintf(format, args...)}
}

// path spells where e is, from the ParentPrescription it is in.
func path(e *c14n.Element) string {
	var names []string
	for ; e != nil; e = e.Parent {
		names = append(names, clip(e.Name.Local, 40))
		if e.Name.Local == parentPrescription {
			break
		}
	}
	var b strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		b.WriteString(names[i])
		if i > 0 {
			b.WriteByte('/')
		}
	}
	return b.String()
}
