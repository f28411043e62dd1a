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

// signatureParts is what the checks found in a Signature.
type signatureParts struct {
	signedInfo []byte // canonical
	value      []byte
	cert       *x509.Certificate
}

// examine makes the service's checks on the bytes of a Signature element, made at
// the given instant. It starts from the bytes alone, so that a fault in writing
// them shows. The first three checks stop, as the service's do.
func examine(signature []byte, at time.Time) ([]Check, signatureParts) {
	checks := make([]Check, len(table))
	for i, t := range table {
		checks[i] = Check{Number: i + 1, Name: t.name, Text: t.text}
	}
	set := func(number int, r Result, why string) {
		checks[number-1].Result, checks[number-1].Why = r, why
	}
	var found signatureParts
	stop := func(number int, why string) ([]Check, signatureParts) {
		set(number, Failed, why)
		for n := number + 1; n <= len(checks); n++ {
			set(n, NotDecidable, fmt.Sprintf("not reached: check %d failed", number))
		}
		return checks, found
	}
	decide := func(number int, why string) {
		if why == "" {
			set(number, Passed, "")
		} else {
			set(number, Failed, why)
		}
	}

	root, err := readElement(signature)
	if err != nil {
		return stop(1, "the Signature cannot be read: "+err.Error())
	}
	if root.name != "Signature" {
		return stop(1, fmt.Sprintf("the root element is %s, wanted Signature", excerpt(root.name)))
	}
	signedInfo, err := root.only("SignedInfo")
	if err != nil {
		return stop(1, err.Error())
	}
	value, err := root.onlyText("SignatureValue")
	if err != nil {
		return stop(1, err.Error())
	}
	certificate, err := root.onlyText("KeyInfo", "X509Data", "X509Certificate")
	if err != nil {
		return stop(1, err.Error())
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

	found.signedInfo = signedInfo.canonical()
	if found.value, err = looseBase64(value); err != nil {
		decide(4, fmt.Sprintf("SignatureValue is not base64: %v", err))
	} else {
		decide(4, whyInvalid(signedInfo, found))
	}
	why := outsideValidity(found.cert, at)
	if why != "" {
		why = "certificate " + serialOf(found.cert) + " " + why
	}
	decide(8, why)

	set(5, NotDecidable, "a $prepare answer does not hold the prescription that its digest is of")
	set(6, NotDecidable, "no CRL was given")
	set(7, NotDecidable, "no ARL was given")
	set(9, NotDecidable, "no issuing CAs are configured")
	return checks, found
}

// whyInvalid verifies RSASSA-PKCS1-v1_5 over the canonical SignedInfo. The service
// takes a SignatureMethod it does not know for rsa-sha1, after rewriting it in the
// SignedInfo; nothing that verifies only then is let through here.
func whyInvalid(signedInfo *element, found signatureParts) string {
	sm, err := signedInfo.only("SignatureMethod")
	if err != nil {
		return err.Error()
	}
	var m *method
	for _, known := range methods {
		if sm.attrs["Algorithm"] == known.signatureMethod {
			m = known
		}
	}
	if m == nil {
		return fmt.Sprintf("SignatureMethod %s is not one that the service knows", excerpt(sm.attrs["Algorithm"]))
	}
	key, err := rsaKey(found.cert)
	if err != nil {
		return strings.TrimPrefix(err.Error(), "eps: ")
	}
	h := m.hash.New()
	h.Write(found.signedInfo)
	if err := rsa.VerifyPKCS1v15(key, m.hash, h.Sum(nil), found.value); err != nil {
		return fmt.Sprintf("SignatureValue does not verify over the canonical SignedInfo with the key of certificate %s: %v", serialOf(found.cert), err)
	}
	return ""
}

// outsideValidity is empty if notBefore < at < notAfter, strictly, as the service
// compares, and otherwise names both instants, in UTC.
func outsideValidity(cert *x509.Certificate, at time.Time) string {
	const layout = time.RFC3339Nano
	switch {
	case !at.After(cert.NotBefore):
		return fmt.Sprintf("is valid only after its notBefore %s, and the timestamp is %s",
			cert.NotBefore.UTC().Format(layout), at.UTC().Format(layout))
	case !at.Before(cert.NotAfter):
		return fmt.Sprintf("is valid only before its notAfter %s, and the timestamp is %s",
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
