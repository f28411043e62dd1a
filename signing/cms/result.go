package cms

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Outcome is how a Check ended. The zero Outcome is NotDecidable.
type Outcome int

// The outcomes of a Check.
const (
	NotDecidable Outcome = iota // what the check needs is not at hand
	Passed
	Failed
)

var outcomeText = map[Outcome]string{NotDecidable: "not_decidable", Passed: "passed", Failed: "failed"}

// String is the outcome as JSON spells it: not_decidable, passed or failed.
func (o Outcome) String() string {
	if s, ok := outcomeText[o]; ok {
		return s
	}
	return fmt.Sprintf("outcome %d", int(o))
}

// MarshalJSON writes String.
func (o Outcome) MarshalJSON() ([]byte, error) {
	s, ok := outcomeText[o]
	if !ok {
		return nil, fmt.Errorf("cms: %v is not the outcome of a check", o)
	}
	return json.Marshal(s)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (o *Outcome) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("cms: the outcome of a check: %w", err)
	}
	for v, t := range outcomeText {
		if t == s {
			*o = v
			return nil
		}
	}
	return fmt.Errorf("cms: %s is not the outcome of a check, wanted not_decidable, passed or failed", excerpt([]byte(s)))
}

// The names of the checks, in their order.
const (
	// The content type attribute is the type of the content: id-data (RFC 5652 11.1).
	CheckContentType = "content_type"
	// The message digest attribute is the digest of the content (RFC 5652 11.2).
	CheckMessageDigest = "message_digest"
	// The digest is SHA-256, SHA-384 or SHA-512, and the signature is by it, RSASSA-PKCS1-v1_5 or ECDSA.
	CheckAlgorithms = "algorithms"
	// Exactly one certificate is the signer's by issuer and serial number, or by key identifier.
	CheckSignerCertificate = "signer_certificate"
	// The key is RSA of an allowed size, or on P-256, P-384 or P-521.
	CheckKey = "key"
	// The signature over the signed attributes verifies with the certificate's key (RFC 5652 5.6).
	CheckSignature = "signature"
	// signing-certificate-v2 names the signer's certificate (RFC 5035 3).
	CheckSigningCertificate = "signing_certificate"
	// The key usage, where there is one, has digitalSignature or contentCommitment (RFC 5280 4.2.1.3).
	CheckKeyUsage = "key_usage"
	// The signing time, which is the signer's claim, is within the certificate's validity.
	CheckSigningTime = "signing_time"
	// The signer is the one that the caller expects.
	CheckExpectedSigner = "expected_signer"
	// The certificate leads to a root of the caller's at the time that the caller gives (RFC 5280 6).
	CheckChain = "chain"
	// Always not decidable here: revocation lists are not read.
	CheckRevocation = "revocation"
)

var checkNames = []string{
	CheckContentType, CheckMessageDigest, CheckAlgorithms, CheckSignerCertificate, CheckKey, CheckSignature,
	CheckSigningCertificate, CheckKeyUsage, CheckSigningTime, CheckExpectedSigner, CheckChain, CheckRevocation,
}

// Check is one thing that Verify looks at.
type Check struct {
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
	Why     string  `json:"why,omitempty"` // empty where it passed
}

// Result is what Verify found. It belongs to the caller.
type Result struct {
	// Checks holds every check, in the order of their names' constants.
	Checks []Check `json:"checks"`
	// Content is a copy of attached content whose digest and signature are right; nil
	// of detached content, and where any check failed.
	Content []byte `json:"-"`
	// Attached tells whether the content is inside.
	Attached bool `json:"attached"`
	// Certificate is the signer's; nil where it was not found.
	Certificate *x509.Certificate `json:"-"`
	// Chain is Certificate and what leads to a root; nil where that check did not
	// pass.
	Chain []*x509.Certificate `json:"-"`
	// SigningTime is when the signer says it was, in UTC: a claim. Zero: it does not
	// say.
	SigningTime time.Time `json:"signing_time,omitzero"`
}

// Outcome returns how one of the checks ended; NotDecidable of one that is not there.
func (r *Result) Outcome(check string) Outcome {
	if r != nil {
		for _, c := range r.Checks {
			if c.Name == check {
				return c.Outcome
			}
		}
	}
	return NotDecidable
}

func (r *Result) set(check string, o Outcome, why string) {
	for i, c := range r.Checks {
		if c.Name == check {
			r.Checks[i].Outcome, r.Checks[i].Why = o, why
		}
	}
}

// passed sets a check: failed for the reason why, or passed where that is empty.
func (r *Result) passed(check, why string) {
	if why == "" {
		r.set(check, Passed, "")
	} else {
		r.set(check, Failed, why)
	}
}

// needed are the checks that must have passed, beside one that says who signed.
var needed = []string{CheckContentType, CheckMessageDigest, CheckAlgorithms, CheckSignerCertificate, CheckKey, CheckSignature}

// err is nil, *CheckError or *UndecidedError.
func (r *Result) err() error {
	if slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Outcome == Failed }) {
		return &CheckError{Checks: slices.Clone(r.Checks)}
	}
	missing := slices.DeleteFunc(slices.Clone(needed), func(check string) bool { return r.Outcome(check) == Passed })
	if r.Outcome(CheckExpectedSigner) != Passed && r.Outcome(CheckChain) != Passed {
		missing = append(missing, CheckExpectedSigner, CheckChain)
	}
	if len(missing) > 0 {
		return &UndecidedError{Checks: slices.Clone(r.Checks), Missing: missing}
	}
	return nil
}

// CheckError says that a signature is not to be accepted: a check failed.
type CheckError struct {
	Checks []Check // all
}

func (e *CheckError) Error() string {
	return "cms: the signature is not accepted: " + said(e.Checks, func(c Check) bool { return c.Outcome == Failed })
}

// UndecidedError says that nothing is known to be wrong with a signature, but not
// enough is known to accept it: the content of a detached signature is missing, or
// nothing says who may sign.
type UndecidedError struct {
	Checks  []Check  // all
	Missing []string // those that had to pass; of expected_signer and chain, one
}

func (e *UndecidedError) Error() string {
	return "cms: it cannot be told whether the signature is to be accepted: " +
		said(e.Checks, func(c Check) bool { return slices.Contains(e.Missing, c.Name) })
}

func said(checks []Check, which func(Check) bool) string {
	var list []string
	for _, c := range checks {
		if which(c) {
			list = append(list, c.Name+": "+c.Why)
		}
	}
	return strings.Join(list, "; ")
}
