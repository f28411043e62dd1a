package eps

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/rxguard/rxguard/internal/c14n"
)

// Result is the outcome of a Check. The zero Result is NotDecidable.
type Result int

// The results of a Check.
const (
	NotDecidable Result = iota // what the check needs is not at hand
	Passed
	Failed
)

var resultText = map[Result]string{NotDecidable: "not_decidable", Passed: "passed", Failed: "failed"}

// String is the result as JSON spells it: not_decidable, passed or failed.
func (r Result) String() string {
	if s, ok := resultText[r]; ok {
		return s
	}
	return fmt.Sprintf("result %d", int(r))
}

// MarshalJSON writes String.
func (r Result) MarshalJSON() ([]byte, error) {
	s, ok := resultText[r]
	if !ok {
		return nil, fmt.Errorf("eps: %v is not the result of a check", r)
	}
	return json.Marshal(s)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *Result) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("eps: the result of a check: %w", err)
	}
	for v, t := range resultText {
		if t == s {
			*r = v
			return nil
		}
	}
	return fmt.Errorf("eps: %s is not the result of a check, wanted not_decidable, passed or failed", excerpt(s))
}

// Check is one of the nine that the national service makes of a signature, in its
// order, or one of rxguard's own.
type Check struct {
	Number int    `json:"number"` // from 1, in the order in which they are made
	Name   string `json:"name"`   // stable, in snake_case
	Text   string `json:"text"`   // of the nine: what the service says where the check fails
	Result Result `json:"result"`
	Why    string `json:"why,omitempty"` // empty where it passed

	// Warning is what to see to although the check passed; empty where there is
	// nothing. The nine have none.
	Warning string `json:"warning,omitempty"`
}

const textExpired = "Certificate expired when signed"

// table holds the checks in the service's order.
var table = [9]struct{ name, text string }{
	{"elements_present", "Invalid signature format"},
	{"single_certificate", "Multiple certificates detected"},
	{"certificate_parses", "Invalid certificate"},
	{"signature_valid", "Signature is invalid"},
	{"matches_prescription", "Signature doesn't match prescription"},
	{"certificate_not_revoked", "Certificate is revoked"},
	{"ca_not_revoked", "CA certificate is revoked"},
	{"valid_when_signed", textExpired},
	{"issuer_trusted", "Certificate not trusted"},
}

// CheckError says that the national service would refuse a signature. It holds
// all nine checks; nothing was released.
type CheckError struct {
	Checks []Check
}

func (e *CheckError) Error() string {
	var said []string
	for _, c := range e.Checks {
		if c.Result == Failed {
			said = append(said, fmt.Sprintf("check %d (%s): %s", c.Number, c.Text, c.Why))
		}
	}
	return "eps: the national service would refuse this signature, so it was not released: " + strings.Join(said, "; ")
}

// examined is the document whose Signature is examined.
type examined interface {
	// signedAt is the instant of signing; why, where it is not known.
	signedAt() (at time.Time, why string)
	// rebuilt is the SignedInfo that the service rebuilds from the prescription, and
	// compares; why, where it is not at hand.
	rebuilt(Algorithm) (info []byte, why string)
}

// signatureParts is what the checks found in a Signature.
type signatureParts struct {
	signedInfo []byte // canonical
	hashed     []byte // what the service hashes of it
	value      []byte
	cert       *x509.Certificate
	method     *method // nil: not one of ours
	err        *MessageError
}

func (f signatureParts) same(s *Signed) bool {
	return bytes.Equal(f.signedInfo, s.signedInfo) && bytes.Equal(f.value, s.value) && f.cert != nil && s.cert != nil && bytes.Equal(f.cert.Raw, s.cert.Raw)
}

// newChecks are the nine, none of them decided.
func newChecks() []Check {
	checks := make([]Check, len(table))
	for i, t := range table {
		checks[i] = Check{Number: i + 1, Name: t.name, Text: t.text}
	}
	return checks
}

// stopAt fails the check with a number, after which the service makes none.
func stopAt(checks []Check, number int, why string) []Check {
	checks[number-1].Result, checks[number-1].Why = Failed, why
	for i := number; i < len(checks); i++ {
		checks[i].Result, checks[i].Why = NotDecidable, fmt.Sprintf("not reached: check %d failed", number)
	}
	return checks
}

// examine makes those of the service's checks that need no other certificates or
// lists, on a Signature as it reads. It starts from the element alone, so that a
// fault in writing it shows. The first three checks stop, as the service's do. parse
// reads the certificate.
func examine(doc *c14n.Document, signature *c14n.Element, d examined) ([]Check, signatureParts) {
	return examineWith(doc, signature, d, x509.ParseCertificate)
}

func examineWith(doc *c14n.Document, signature *c14n.Element, d examined, parse func([]byte) (*x509.Certificate, error)) ([]Check, signatureParts) {
	checks := newChecks()
	set := func(number int, r Result, why string) {
		checks[number-1].Result, checks[number-1].Why = r, why
	}
	r := &reader{doc: doc, space: dsig}
	var found signatureParts
	stop := func(number int, why string) ([]Check, signatureParts) {
		found.err = r.err
		return stopAt(checks, number, why), found
	}

	if signature.Name.Local != "Signature" {
		r.fail(signature, "is no Signature")
	}
	r.inSpace(signature)
	signedInfo := r.only(signature, "SignedInfo")
	valueElement, value := r.serviceText(r.only(signature, "SignatureValue"))
	certElement, certificate := r.serviceText(r.only(signature, "KeyInfo", "X509Data", "X509Certificate"))
	if r.err != nil {
		return stop(1, said(r.err))
	}
	set(1, Passed, "")

	// Not "BEGIN" and "END" alone: base64 can spell those.
	for _, mark := range []string{"BEGIN CERTIFICATE", "END CERTIFICATE"} {
		if strings.Contains(certificate, mark) {
			r.fail(certElement, "holds %s, wanted the base64 of one certificate alone", mark)
			return stop(2, said(r.err))
		}
	}
	set(2, Passed, "")

	der, err := looseBase64(certificate)
	if err != nil {
		r.fail(certElement, "is not base64: %v", err)
		return stop(3, said(r.err))
	}
	if found.cert, err = parse(der); err != nil {
		r.fail(certElement, "does not parse: %v", err)
		return stop(3, said(r.err))
	}
	if blankLine(certificate) { // where the service's PEM reader takes what is before for a header
		r.fail(certElement, "holds a blank line, wanted the base64 of one certificate alone")
		return stop(3, said(r.err))
	}
	set(3, Passed, "")

	found.signedInfo = r.canonical(signedInfo)
	found.match(r, signedInfo, d, set)
	var strict *MessageError
	if found.value, err = looseBase64(value); err != nil {
		strict = problem(doc, valueElement, "is not base64: %v", err)
		found.value = serviceBase64(value)
	}
	if found.method != nil && checks[3].Result == NotDecidable {
		f := found.verify()
		if f.result == Failed && strict != nil {
			f.why = said(strict)
		}
		set(4, f.result, f.why)
	} else if strict != nil && checks[3].Result == NotDecidable {
		set(4, Failed, said(strict))
	}
	if found.err == nil {
		found.err = strict
	}

	set(6, NotDecidable, "no CRL was given")
	set(7, NotDecidable, "no ARL was given")
	switch at, why := d.signedAt(); {
	case why != "":
		set(8, NotDecidable, why)
	default:
		if why = outsideValidity(found.cert, at); why != "" {
			set(8, Failed, "certificate "+serialOf(found.cert)+" "+why)
		} else {
			set(8, Passed, "")
		}
	}
	set(9, NotDecidable, "no issuing CAs are configured")
	return checks, found
}

// said is a problem without the package's name, for a check.
func said(e *MessageError) string { return strings.TrimPrefix(e.Error(), "eps: ") }

// ownNamespace tells whether an element's start tag declares its own namespace, as the
// default one: the service takes the SignedInfo's from there.
func ownNamespace(src []byte, e *c14n.Element) bool {
	for _, a := range tagAttribute.FindAllSubmatch(src[e.Start:e.Inner], -1) {
		if string(a[1]) == "xmlns" {
			return e.Prefix == ""
		}
	}
	return false
}

// tagAttribute is an attribute of a tag that is well-formed.
var tagAttribute = regexp.MustCompile(`[ \t\r\n]([^ \t\r\n=]+)[ \t\r\n]*=[ \t\r\n]*(?:"[^"]*"|'[^']*')`)

// serviceMethod is how the service finds the method in the name of one.
var serviceMethod = regexp.MustCompile(`rsa-sha\w+`)

// match makes check 5, and finds out the method for check 4. The service canonicalises
// by the method that the Signature names. A SignatureMethod that it does not know it
// takes for rsa-sha1, and rewrites one that does not look like it; that is refused here
// (err), whatever its checks say.
func (f *signatureParts) match(r *reader, signedInfo *c14n.Element, d examined, set func(int, Result, string)) {
	named := func(names ...string) string {
		if e := r.only(signedInfo, names...); e != nil {
			a, _ := e.Attr("Algorithm")
			return a
		}
		return ""
	}
	c14nMethod, signatureMethod, digestMethod := named("CanonicalizationMethod"), named("SignatureMethod"), named("Reference", "DigestMethod")
	f.err = r.err
	if r.lost {
		why := "the SignedInfo cannot be read as the service reads it: " + said(r.err)
		set(4, NotDecidable, why)
		set(5, NotDecidable, why)
		return
	}
	if !ownNamespace(r.doc.Source(), signedInfo.Parent) {
		f.err = problem(r.doc, signedInfo.Parent, "does not declare %s as its own default namespace, from which the service takes the SignedInfo's", dsig)
		set(4, Failed, said(f.err))
		set(5, Failed, said(f.err))
		return
	}
	if c14nMethod != excC14N {
		why := fmt.Sprintf("CanonicalizationMethod is %s, wanted %s, which is the only one that is done here", excerpt(c14nMethod), excC14N)
		set(4, NotDecidable, why)
		set(5, NotDecidable, why)
		return
	}
	// Check 5 goes by the DigestMethod.
	a := RS1
	for known, m := range methods {
		if m.signatureMethod == signatureMethod {
			f.method = m
		}
		if m.digestMethod == digestMethod {
			a = known
		}
	}
	f.hashed = f.signedInfo
	if f.method == nil {
		e := r.only(signedInfo, "SignatureMethod")
		f.err = problem(r.doc, e, "names %s, which is no method of the service; it takes it for %v", excerpt(signatureMethod), RS1)
		f.method = methods[RS1]
		switch known := serviceMethod.FindString(signatureMethod); known {
		case "rsa-sha256":
			f.method = methods[RS256]
		case "":
			a = RS1
			f.hashed = rewritten(rewritten(f.signedInfo, "SignatureMethod", signatureMethod, f.method.signatureMethod), "DigestMethod", digestMethod, f.method.digestMethod)
		}
	}
	switch info, why := d.rebuilt(a); {
	case why != "":
		set(5, NotDecidable, why)
	case !bytes.Equal(info, f.hashed):
		set(5, Failed, unlike(a, f.hashed))
	default:
		set(5, Passed, "")
	}
}

// rewritten names another Algorithm in an element of a canonical SignedInfo.
func rewritten(info []byte, element, from, to string) []byte {
	tag := func(algorithm string) []byte {
		return append(c14n.AppendValue([]byte("<"+element+` Algorithm="`), algorithm), '"')
	}
	return bytes.Replace(info, tag(from), tag(to), 1)
}

// unlike says how a SignedInfo differs from the one that the service rebuilds.
func unlike(a Algorithm, info []byte) string {
	if _, ok := digestIn(a, info); ok {
		return "DigestValue is not the hash of the prescription: the prescription or the digest was changed after it was signed"
	}
	return diagnose(a, info).Problem
}

// verify makes check 4: RSASSA-PKCS1-v1_5 over the canonical SignedInfo.
func (f *signatureParts) verify() finding {
	key, err := rsaKey(f.cert)
	if err != nil {
		why := strings.TrimPrefix(err.Error(), "eps: ")
		if _, small := f.cert.PublicKey.(*rsa.PublicKey); small { // the service would verify it
			return undecided("%s", why)
		}
		return refused("%s", why)
	}
	h := f.method.hash.New()
	h.Write(f.hashed)
	if err := rsa.VerifyPKCS1v15(key, f.method.hash, h.Sum(nil), f.value); err != nil {
		return refused("SignatureValue does not verify over the canonical SignedInfo with the key of certificate %s: %v", serialOf(f.cert), err)
	}
	return passed
}

// outsideValidity is empty if notBefore < at < notAfter, strictly, as the service
// compares, and otherwise names both instants, in UTC.
func outsideValidity(cert *x509.Certificate, at time.Time) string {
	return outside(cert, at, "the time of signing")
}

func outside(cert *x509.Certificate, at time.Time, what string) string {
	switch {
	case !at.After(cert.NotBefore):
		return fmt.Sprintf("is valid only after its notBefore %s, and %s is %s", instant(cert.NotBefore), what, instant(at))
	case !at.Before(cert.NotAfter):
		return fmt.Sprintf("is valid only before its notAfter %s, and %s is %s", instant(cert.NotAfter), what, instant(at))
	}
	return ""
}
