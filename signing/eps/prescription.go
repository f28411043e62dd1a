package eps

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rxguard/rxguard/internal/c14n"
	"github.com/rxguard/rxguard/internal/tbs"
)

const parentPrescription = "ParentPrescription"

// shortIDRoot is the root of a prescription's second id, whose extension is what is
// printed under its bar code.
const shortIDRoot = "2.16.840.1.113883.2.1.3.2.4.18.8"

// userRoot is the root of a user's id in the directory that cards are issued from. The
// other ids of an AgentPerson are of the role and of the professional register.
const userRoot = "1.2.826.0.1285.0.2.0.65"

// Prescription is a ParentPrescription in a Message. It is a document for
// signing.Sign, which turns it into a [SignedPrescription]; its SignedInfo is for
// RS256 unless [Prescription.WithAlgorithm] says otherwise. Only ParseMessage makes
// one. A Prescription does not change and may be used by several goroutines.
type Prescription struct {
	doc       *c14n.Document
	algorithm Algorithm

	// What the signature and the service's checks read; nil or empty where err says
	// why.
	parent, author, time *c14n.Element
	signatureText        *c14n.Element // may be missing
	id, shortID          string
	users                []string // who prescribes
	at                   time.Time
	fragments            []byte // canonical

	err *MessageError // the first thing that is wrong
}

// readPrescription finds the parts of a prescription that are signed. What the
// service would read in another way than an XML reader does is a problem, so that
// what is signed and what is shown cannot differ.
func readPrescription(doc *c14n.Document, parent *c14n.Element) *Prescription {
	p := &Prescription{doc: doc, algorithm: RS256, parent: parent}
	r := &reader{doc: doc, space: parent.Name.Space}
	if parent.Name.Space != "" && parent.Name.Space != hl7 {
		r.fail(parent, "is in namespace %s, wanted %s", excerpt(parent.Name.Space), hl7)
	}
	r.noneNested(parent)
	if ids := r.all(parent, "id"); len(ids) != 1 {
		r.refuse(parent, "has %d ids of its own, wanted one", len(ids))
	}
	prescription := r.only(parent, "pertinentInformation1", "pertinentPrescription")
	p.author = r.only(prescription, "author")
	p.time = r.only(p.author, "time")
	p.at = r.instant(p.time)
	id := p.identify(r, prescription)
	agent := r.only(p.author, "AgentPerson")
	p.users = who(agent)
	if p.signatureText = r.atMostOne(p.author, "signatureText"); p.signatureText != nil {
		r.plain(p.signatureText)
	}
	fragments := [][]*c14n.Element{{p.time, id}, {agent}, {r.only(parent, "recordTarget")}}
	for _, information := range r.all(prescription, "pertinentInformation2") {
		fragments = append(fragments, []*c14n.Element{r.only(information, "pertinentLineItem")})
	}
	if len(fragments) == 3 {
		r.fail(prescription, "has no pertinentInformation2, wanted one for each line item")
	}
	if !r.lost {
		p.fragments = r.write(fragments)
	}
	p.err = r.err
	return p
}

// identify returns the first id, which is signed, and keeps both. The service takes
// the first of two: the prescription's UUID, and the short form that is printed.
func (p *Prescription) identify(r *reader, prescription *c14n.Element) *c14n.Element {
	ids := r.all(prescription, "id")
	if prescription == nil {
		return nil
	}
	const wanted = "has %d ids, wanted two: the UUID as root, and the short form as extension of %s"
	switch {
	case len(ids) < 2: // the service takes the first of several, and nothing of one
		r.fail(prescription, wanted, len(ids), shortIDRoot)
		return nil
	case len(ids) > 2:
		r.refuse(prescription, wanted, len(ids), shortIDRoot)
	}
	root, _ := ids[1].Attr("root")
	p.id, _ = ids[0].Attr("root")
	p.shortID, _ = ids[1].Attr("extension")
	if _, extension := ids[0].Attr("extension"); p.id == "" || extension {
		r.refuse(ids[0], "is not the prescription's UUID, wanted it as root, alone, before the short form")
	}
	if root != shortIDRoot || p.shortID == "" {
		r.refuse(ids[1], "is not the prescription's short form, wanted it as extension of root %s", shortIDRoot)
	}
	return ids[0]
}

// who lists the ids that an AgentPerson names the prescriber by in the directory that
// cards are issued from.
func who(agent *c14n.Element) []string {
	var users []string
	var look func(*c14n.Element)
	look = func(e *c14n.Element) {
		for c := range e.Elements() {
			switch c.Name.Local {
			case "id":
				root, _ := c.Attr("root")
				if extension, ok := c.Attr("extension"); ok && root == userRoot {
					users = append(users, extension)
				}
			case "agentPerson":
				look(c)
			}
		}
	}
	if agent != nil {
		look(agent)
	}
	return users
}

// Err says what is wrong with the prescription, as a *MessageError; nil: it can be
// signed, or be compared with its signature.
func (p *Prescription) Err() error {
	switch {
	case p.isZero():
		return errZeroPrescription
	case p.err != nil:
		return p.err
	}
	return nil
}

// ID returns the prescription's UUID, as the message spells it; empty where there is
// none.
func (p *Prescription) ID() string {
	if p == nil {
		return ""
	}
	return p.id
}

// ShortID returns the id that is printed under the prescription's bar code, such as
// 497F5C-A83008-3BDDDE; empty where there is none.
func (p *Prescription) ShortID() string {
	if p == nil {
		return ""
	}
	return p.shortID
}

// Time returns author/time, the instant of signing, in UTC as the service reads it;
// the zero Time where there is none.
func (p *Prescription) Time() time.Time {
	if p == nil {
		return time.Time{}
	}
	return p.at
}

// Line returns the line of the message that the prescription begins on, from 1.
func (p *Prescription) Line() int {
	if p.isZero() {
		return 0
	}
	line, _ := p.doc.Position(p.parent.Start)
	return line
}

// Fragments returns a copy of the canonical FragmentsToBeHashed, of which the
// SignedInfo holds the hash: what a signature over the prescription is over. It is
// nil where Err says why.
func (p *Prescription) Fragments() []byte {
	if p == nil || p.err != nil {
		return nil
	}
	return bytes.Clone(p.fragments)
}

// Algorithm returns what the SignedInfo is for; 0 of the zero Prescription.
func (p *Prescription) Algorithm() Algorithm {
	if p == nil {
		return 0
	}
	return p.algorithm
}

// WithAlgorithm returns the same prescription, to be signed with a.
func (p *Prescription) WithAlgorithm(a Algorithm) (*Prescription, error) {
	if p.isZero() {
		return nil, errZeroPrescription
	}
	if _, ok := methods[a]; !ok {
		return nil, fmt.Errorf("eps: %v is not an algorithm of the service, wanted RS256 or RS1", a)
	}
	other := *p
	other.algorithm = a
	return &other, nil
}

func (p *Prescription) isZero() bool { return p == nil || p.doc == nil }

var errZeroPrescription = errors.New("eps: the prescription is empty, wanted one of a Message; nothing was signed")

// nativeKind names the document type in decision records.
const nativeKind = "eps-prescription"

// signedInfo writes the canonical SignedInfo over the fragments.
func (p *Prescription) signedInfo(a Algorithm) ([]byte, error) {
	h := methods[a].hash.New()
	h.Write(p.fragments)
	return SignedInfo(a, h.Sum(nil))
}

// ToBeSigned returns the SignedInfo over the prescription as a message that only an
// RSA key can sign. A prescription that Err says something about, or that is signed
// already, is an error.
func (p *Prescription) ToBeSigned() (tbs.Message, error) {
	if err := p.Err(); err != nil {
		return tbs.Message{}, err
	}
	if p.signatureText != nil {
		for c := range p.signatureText.Elements() {
			return tbs.Message{}, problem(p.doc, c, "the prescription is signed already; nothing was signed")
		}
	}
	info, err := p.signedInfo(p.algorithm)
	if err != nil {
		return tbs.Message{}, err
	}
	return tbs.New(nativeKind, info, methods[p.algorithm].hash, true), nil
}

// Accepts tells, before anything is signed, whether the national service could
// accept a signature over p made with cert, as [Prepared.Accepts] does: author/time
// must lie strictly between notBefore and notAfter.
func (p *Prescription) Accepts(cert *x509.Certificate) error {
	if err := p.Err(); err != nil {
		return err
	}
	if _, err := rsaKey(cert); err != nil {
		return err
	}
	if why := outsideValidity(cert, p.at); why != "" {
		return &CertificateError{Serial: serialOf(cert), Problem: why + ` (the service would say "` + textExpired + `")`,
			Advice: "make the message anew with author/time of now, or renew the certificate if it has expired"}
	}
	return nil
}

// Finish turns the card's signature over p into its Signature, as [Prepared.Finish]
// does. Here the prescription is at hand, so check 5 is decided too.
func (p *Prescription) Finish(sig tbs.Signature) (*SignedPrescription, error) {
	msg, err := p.ToBeSigned()
	if err != nil {
		return nil, err
	}
	signed, err := finish(msg, sig, p)
	if err != nil {
		return nil, err
	}
	return &SignedPrescription{Signed: *signed, of: p}, nil
}

// SignedPrescription is a prescription's signature that was verified. The signed
// message is [Message.Fill]'s. Only Finish makes one, and it does not change.
type SignedPrescription struct {
	Signed
	of *Prescription
}

// Prescription returns what was signed; nil of the zero SignedPrescription.
func (s *SignedPrescription) Prescription() *Prescription {
	if s == nil {
		return nil
	}
	return s.of
}

// finish verifies a signature over msg and writes its XML. d is what the checks know
// of the document.
func finish(msg tbs.Message, sig tbs.Signature, d examined) (*Signed, error) {
	if sig.IsZero() {
		return nil, errors.New("eps: there is no signature, wanted the card's over this document")
	}
	if tbs.Of(sig) != msg {
		return nil, errors.New("eps: the signature is over another document, wanted one over this document's SignedInfo")
	}
	cert, value, info := tbs.Certificate(sig), tbs.Value(sig), tbs.Bytes(msg)
	key, err := rsaKey(cert)
	if err != nil {
		return nil, err
	}
	if err := rsa.VerifyPKCS1v15(key, tbs.Hash(msg), tbs.Digest(msg), value); err != nil {
		return nil, fmt.Errorf("eps: the signature does not verify with the key of certificate %s, nothing was released: %w", serialOf(cert), err)
	}
	s := &Signed{
		xml:        writeSignature(info, value, cert.Raw),
		signedInfo: info,
		value:      bytes.Clone(value),
		cert:       cert,
	}
	doc, err := c14n.Parse(s.xml, c14n.Options{MaxBytes: len(s.xml)})
	if err != nil {
		return nil, fmt.Errorf("eps: the Signature does not read back, nothing was released: %w", err)
	}
	checks, found := examine(doc, doc.Root, d)
	if failed(checks) {
		return nil, &CheckError{Checks: checks}
	}
	if !found.same(s) {
		return nil, errors.New("eps: the Signature XML reads back as something else than what was signed, nothing was released")
	}
	s.checks = checks
	return s, nil
}

// signature returns the one Signature in author/signatureText.
func (p *Prescription) signature() (*c14n.Element, *MessageError) {
	r := &reader{doc: p.doc, space: dsig}
	switch {
	case p.author == nil:
		return nil, p.err
	case p.signatureText == nil:
		r.fail(p.author, "has no signatureText, wanted one with a Signature")
		return nil, r.err
	}
	s := r.only(p.signatureText, "Signature")
	return s, r.err
}

func (p *Prescription) signedAt() (time.Time, string) {
	if p.at.IsZero() {
		return time.Time{}, "the prescription has no author/time that can be read"
	}
	return p.at, ""
}

func (p *Prescription) rebuilt(a Algorithm) ([]byte, string) {
	if p.fragments == nil {
		return nil, "the prescription cannot be read as the service reads it: " + p.err.Element + " " + p.err.Problem
	}
	info, err := p.signedInfo(a)
	if err != nil { // cannot be
		return nil, err.Error()
	}
	return info, ""
}

func failed(checks []Check) bool {
	return slices.ContainsFunc(checks, func(c Check) bool { return c.Result == Failed })
}

// fill says which bytes of the message make place for the signatureText with a
// Signature in it.
func (p *Prescription) fill(signature []byte) (from, to int, with []byte) {
	src := p.doc.Source()
	e := p.signatureText
	if e == nil { // after time, as the schema orders them, in time's spelling
		name := "signatureText"
		if p.time.Prefix != "" {
			name = p.time.Prefix + ":" + name
		}
		return p.time.End, p.time.End, slices.Concat([]byte("<"+name+">"), signature, []byte("</"+name+">"))
	}
	name := "signatureText"
	if e.Prefix != "" {
		name = e.Prefix + ":" + name
	}
	tag := src[e.Start:e.Inner]
	if e.Empty {
		tag = bytes.TrimRight(bytes.TrimSuffix(src[e.Start:e.End], []byte("/>")), " \t\r\n")
		tag = append(bytes.Clone(tag), '>')
	}
	for _, a := range e.Attrs {
		if a.Name.Space == "" && a.Name.Local == "nullFlavor" {
			tag = without(tag, a.Start-e.Start)
		}
	}
	return e.Start, e.End, slices.Concat(tag, signature, []byte("</"+name+">"))
}

// without cuts the attribute that begins at a place out of a start tag, with the
// white space before it.
func without(tag []byte, start int) []byte {
	value := start + bytes.IndexAny(tag[start:], `"'`)
	end := value + 1 + bytes.IndexByte(tag[value+1:], tag[value]) + 1
	return slices.Concat(bytes.TrimRight(tag[:start], " \t\r\n"), tag[end:])
}
