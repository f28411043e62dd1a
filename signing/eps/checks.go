package eps

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
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
// order.
type Check struct {
	Number int    `json:"number"`
	Name   string `json:"name"`
	Text   string `json:"text"` // what the service says where the check fails
	Result Result `json:"result"`
	Why    string `json:"why,omitempty"` // empty where it passed
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
	value      []byte
	cert       *x509.Certificate
	method     *method // nil: not one of ours
	err        *MessageError
}

func (f signatureParts) same(s *Signed) bool {
	return bytes.Equal(f.signedInfo, s.signedInfo) && bytes.Equal(f.value, s.value) && f.cert != nil && s.cert != nil && bytes.Equal(f.cert.Raw, s.cert.Raw)
}

// examine makes those of the service's checks that need no other certificates or
// lists, on a Signature as it reads. It starts from the element alone, so that a
// fault in writing it shows. The first three checks stop, as the service's do.
func examine(doc *c14n.Document, signature *c14n.Element, d examined) ([]Check, signatureParts) {
	checks := make([]Check, len(table))
	for i, t := range table {
		checks[i] = Check{Number: i + 1, Name: t.name, Text: t.text}
	}
	set := func(number int, r Result, why string) {
		checks[number-1].Result, checks[number-1].Why = r, why
	}
	r := &reader{doc: doc, space: dsig}
	var found signatureParts
	stop := func(number int, why string) ([]Check, signatureParts) {
		set(number, Failed, why)
		for n := number + 1; n <= len(checks); n++ {
			set(n, NotDecidable, fmt.Sprintf("not reached: check %d failed", number))
		}
		found.err = r.err
		return checks, found
	}

	if signature.Name.Local != "Signature" {
		r.fail(signature, "is no Signature")
	}
	r.inSpace(signature)
	signedInfo := r.only(signature, "SignedInfo")
	value := r.onlyText(signature, "SignatureValue")
	certificate := r.onlyText(signature, "KeyInfo", "X509Data", "X509Certificate")
	if r.err != nil {
		return stop(1, r.err.Element+" "+r.err.Problem)
	}
	set(1, Passed, "")

	// Not "BEGIN" and "END" alone: base64 can spell those.
	for _, mark := range []string{"BEGIN CERTIFICATE", "END CERTIFICATE"} {
		if strings.Contains(certificate, mark) {
			return stop(2, "X509Certificate holds "+mark+", wanted the base64 of one certificate alone")
		}
	}
	set(2, Passed, "")

	der, err := looseBase64(certificate)
	if err != nil {
		return stop(3, fmt.Sprintf("X509Certificate is not base64: %v", err))
	}
	if found.cert, err = x509.ParseCertificate(der); err != nil {
		return stop(3, fmt.Sprintf("X509Certificate does not parse: %v", err))
	}
	set(3, Passed, "")

	found.signedInfo = r.canonical(signedInfo)
	found.match(r, signedInfo, d, set)
	if found.value, err = looseBase64(value); err != nil {
		found.value = nil
		set(4, Failed, fmt.Sprintf("SignatureValue is not base64: %v", err))
	} else if found.method != nil {
		if why := found.whyInvalid(); why != "" {
			set(4, Failed, why)
		} else {
			set(4, Passed, "")
		}
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

// match makes check 5, and finds out the method for check 4. The service canonicalises
// by the method that the Signature names, and takes a SignatureMethod that it does not
// know for rsa-sha1 after rewriting it; nothing that verifies only then passes here.
func (f *signatureParts) match(r *reader, signedInfo *c14n.Element, d examined, set func(int, Result, string)) {
	named := func(names ...string) string {
		if e := r.only(signedInfo, names...); e != nil {
			a, _ := e.Attr("Algorithm")
			return a
		}
		return ""
	}
	c14nMethod, signatureMethod, digestMethod := named("CanonicalizationMethod"), named("SignatureMethod"), named("Reference", "DigestMethod")
	if r.err != nil {
		why := "the SignedInfo cannot be read as the service reads it: " + r.err.Element + " " + r.err.Problem
		set(4, NotDecidable, why)
		set(5, NotDecidable, why)
		f.err = r.err
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
	if f.method == nil {
		why := fmt.Sprintf("SignatureMethod %s is not one that the service knows; it takes it for rsa-sha1 and rewrites it, which is not done here", excerpt(signatureMethod))
		set(4, NotDecidable, why)
		set(5, NotDecidable, why)
		return
	}
	switch info, why := d.rebuilt(a); {
	case why != "":
		set(5, NotDecidable, why)
	case !bytes.Equal(info, f.signedInfo):
		set(5, Failed, unlike(a, f.signedInfo))
	default:
		set(5, Passed, "")
	}
}

// unlike says how a SignedInfo differs from the one that the service rebuilds.
func unlike(a Algorithm, info []byte) string {
	if _, ok := digestIn(a, info); ok {
		return "DigestValue is not the hash of the prescription: the prescription or the digest was changed after it was signed"
	}
	return diagnose(a, info).Problem
}

// whyInvalid verifies RSASSA-PKCS1-v1_5 over the canonical SignedInfo.
func (f *signatureParts) whyInvalid() string {
	key, err := rsaKey(f.cert)
	if err != nil {
		return strings.TrimPrefix(err.Error(), "eps: ")
	}
	h := f.method.hash.New()
	h.Write(f.signedInfo)
	if err := rsa.VerifyPKCS1v15(key, f.method.hash, h.Sum(nil), f.value); err != nil {
		return fmt.Sprintf("SignatureValue does not verify over the canonical SignedInfo with the key of certificate %s: %v", serialOf(f.cert), err)
	}
	return ""
}

// outsideValidity is empty if notBefore < at < notAfter, strictly, as the service
// compares, and otherwise names both instants, in UTC.
func outsideValidity(cert *x509.Certificate, at time.Time) string {
	const layout = time.RFC3339Nano
	switch {
	case !at.After(cert.NotBefore):
		return fmt.Sprintf("is valid only after its notBefore %s, and the time of signing is %s",
			cert.NotBefore.UTC().Format(layout), at.UTC().Format(layout))
	case !at.Before(cert.NotAfter):
		return fmt.Sprintf("is valid only before its notAfter %s, and the time of signing is %s",
			cert.NotAfter.UTC().Format(layout), at.UTC().Format(layout))
	}
	return ""
}

// looseBase64 decodes base64 with XML white space in it, which XML-DSig allows
// (1.1 4.3, RFC 2045 6.8) and the service passes over.
func looseBase64(s string) ([]byte, error) {
	b := []byte(s)
	b = bytes.Join(bytes.FieldsFunc(b, func(r rune) bool { return r < 0x80 && isXMLSpace(byte(r)) }), nil)
	return base64.StdEncoding.DecodeString(string(b))
}
