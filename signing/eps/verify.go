package eps

import (
	"bytes"
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rxguard/rxguard/guard/status"
	"github.com/rxguard/rxguard/internal/c14n"
)

// Verifier judges signed prescriptions before they are sent: by the nine checks of the
// national service, and by rxguard's own, stricter ones. It needs neither card nor
// network. The zero Verifier has no CAs and no lists: what needs them is not decidable.
// It may be used by several goroutines, and must not be changed after its first use,
// nor may the certificates and lists.
type Verifier struct {
	// CAs are the issuing CAs that the service is configured with. The CAs above them
	// may be among them, which verify their certificates and ARLs. All are trusted.
	CAs []*x509.Certificate

	// Lists are CRLs and ARLs in any order, as status.Parse returns them. Of copies of
	// one list the newest counts; lists about other certificates are passed over.
	Lists []*status.List

	// At is the instant of rxguard's own checks; zero: each prescription's author/time.
	// The service's are made as of author/time whatever At is, as the service makes
	// them.
	At time.Time

	// MatchPrescriber adds a check that compares the user in the certificate's subject
	// with the prescriber that the message names.
	MatchPrescriber bool

	// MinRSABits is the key size below which is refused; at most 1024, such as 0, means
	// 1024. Below 2048 is a warning.
	MinRSABits int

	once  sync.Once
	trust *trust
}

func (v *Verifier) prepare() *trust {
	v.once.Do(func() { v.trust = newTrust(v.CAs, v.Lists) })
	return v.trust
}

// Verify judges one prescription.
//
// The national service would accept one of which none of the nine checks failed; where
// it has no list, it passes checks 6 and 7, so those that are not decidable do not
// count. Any other of the nine that is not decidable leaves its opinion not decidable.
//
// rxguard would accept one of which no check failed, neither of the nine nor of its
// own, and of which all are decided; of the nine, 6 and 7 are left to its own checks,
// which go by verified lists alone. A check that passed with a warning passed.
func (v *Verifier) Verify(p *Prescription) Report { return v.verify(p, p.Line()) }

func (v *Verifier) verify(p *Prescription, line int) Report {
	r := Report{Version: ReportVersion, Line: line, ID: strings.Clone(p.ID()), ShortID: strings.Clone(p.ShortID()), // not the message
		SignedAt: p.Time(), JudgedAt: v.At.UTC()}
	if v.At.IsZero() {
		r.JudgedAt = r.SignedAt
	}
	t := v.prepare()
	var signature *c14n.Element
	var problem *MessageError
	if p.isZero() {
		p, problem = &Prescription{}, &MessageError{Problem: "the prescription is empty, wanted one of a Message"}
	} else {
		signature, problem = p.signature()
		if twice := p.twice(); twice != nil {
			problem = twice
		}
	}
	var found signatureParts
	var l *leaf // nil: no certificate that can be read
	if problem != nil {
		r.National.Checks = stopAt(newChecks(), 1, said(problem))
	} else {
		r.National.Checks, found = examineWith(p.doc, signature, p, func(der []byte) (cert *x509.Certificate, err error) {
			if l, err = t.leaf(der); err != nil {
				return nil, err
			}
			return l.cert, nil
		})
	}
	if l != nil {
		certificate := l.report
		r.Certificate = &certificate
		t.national(r.National.Checks, l, p)
	}
	r.Rxguard.Checks = v.own(t, l, p, signature, problem, found, r.JudgedAt)

	r.National.Accept = accept(r.National.Checks, 6, 7)
	r.Rxguard.Accept = finding{result: accept(r.Rxguard.Checks)}.worse(finding{result: r.National.Accept}).result
	return r
}

// twice says which element on the way to the Signature is there twice: the service finds
// no Signature then.
func (p *Prescription) twice() *MessageError {
	r := &reader{doc: p.doc}
	if p.author != nil {
		for _, found := range [][]*c14n.Element{r.all(p.author.Parent, "author"), r.all(p.author, "signatureText")} {
			if len(found) > 1 {
				r.fail(found[1], "is the second of %d, wanted one", len(found))
			}
		}
	}
	return r.err
}

// accept is Failed where a check failed, NotDecidable where one is not decidable apart
// from those numbered in without, and Passed otherwise.
func accept(checks []Check, without ...int) Result {
	a := Passed
	for _, c := range checks {
		switch {
		case c.Result == Failed:
			return Failed
		case c.Result == NotDecidable && !slices.Contains(without, c.Number):
			a = NotDecidable
		}
	}
	return a
}

// national makes those of the nine that need CAs and lists.
func (t *trust) national(checks []Check, l *leaf, p *Prescription) {
	set := func(number int, f finding) { checks[number-1].Result, checks[number-1].Why = f.result, f.why }
	if signedAt, why := p.signedAt(); why != "" {
		set(6, undecided("%s", why))
		set(7, undecided("%s", why))
	} else {
		set(6, t.onServicesList(&l.listed, "CRL", signedAt))
		set(7, t.issuerOnServicesList(l, signedAt))
	}
	set(9, t.issuedByName(l))
}

// issuerOnServicesList is check 7. The service finds the issuing CA by key id among
// those that it is configured with, and passes a certificate of none.
func (t *trust) issuerOnServicesList(l *leaf, signedAt time.Time) finding {
	switch {
	case len(t.authorities) == 0:
		return undecided("no issuing CAs are configured")
	case len(l.cert.AuthorityKeyId) == 0:
		return undecided("certificate %s has no authority key id, by which the service finds the issuing CA", serialOf(l.cert))
	}
	for _, a := range t.authorities {
		if bytes.Equal(a.cert.SubjectKeyId, l.cert.AuthorityKeyId) {
			return t.onServicesList(&a.listed, "ARL", signedAt)
		}
	}
	return undecided("no configured CA has the key id %x, which certificate %s names as its issuer's; the service passes it without a look",
		l.cert.AuthorityKeyId, serialOf(l.cert))
}

// issuedByName is check 9. The service compares names, and key ids where both are
// there, with CAs that may sign certificates; it never verifies the signature.
func (t *trust) issuedByName(l *leaf) finding {
	if len(t.authorities) == 0 {
		return undecided("no issuing CAs are configured")
	}
	for _, a := range t.authorities {
		id, key := l.cert.AuthorityKeyId, a.cert.SubjectKeyId
		if a.name == l.issuer && (len(id) == 0 || len(key) == 0 || bytes.Equal(id, key)) && maySign(a.cert) {
			return passed
		}
	}
	return refused("certificate %s names %s as its issuer, and its key id %x: none of the %d configured CAs has both and may sign certificates",
		serialOf(l.cert), issuerOf(l.cert), l.cert.AuthorityKeyId, len(t.authorities))
}

// VerifyMessage verifies every prescription of a message in turn, with the memory of
// one, and hands over their reports in its order. They count only where it returns nil:
// the end of the message may not be well-formed. Its errors are those of ParseMessage,
// and each's own, which ends it. The message must not change meanwhile.
func (v *Verifier) VerifyMessage(message []byte, o ReadOptions, each func(Report) error) error {
	found, stopped := false, false
	line, at := 1, 0
	doc, err := c14n.ParseEach(message, c14n.Options{MaxBytes: o.MaxBytes, MaxElements: maxElementsOfOne}, parentPrescription, func(doc *c14n.Document, e *c14n.Element) error {
		found = true
		line += lines(message[at:e.Start])
		at = e.Start
		err := each(v.verify(readPrescription(doc, e), line))
		stopped = err != nil
		return err
	})
	switch {
	case stopped:
		return err
	case err != nil:
		return notXML(err)
	case !found:
		return noPrescription(doc)
	}
	return nil
}

// lines counts line ends: LF, CRLF, or CR (XML 1.0 2.11). A CR at the end of what comes
// before a tag ends a line.
func lines(b []byte) int {
	return bytes.Count(b, []byte("\n")) + bytes.Count(b, []byte("\r")) - bytes.Count(b, []byte("\r\n"))
}
