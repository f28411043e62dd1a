package eps

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/rxguard/rxguard/internal/tbs"
)

// Prepared is a $prepare answer that was found to be exactly what may be signed.
// It is a document for signing.Sign, which turns it into a [Signed]. Only
// ParsePrepared makes one; the zero Prepared is refused by every method that can
// say so. A Prepared does not change and may be used by several goroutines.
type Prepared struct {
	algorithm  Algorithm
	timestamp  string
	at         time.Time
	signedInfo []byte // as the service sent it
	digest     []byte
}

// ParsePrepared reads the answer of the service's $prepare operation, a FHIR R4
// Parameters resource in JSON, of at most 1 MiB.
//
// The parameters digest, timestamp and algorithm must be there once each, with a
// valueString. algorithm is RS256 or RS1; timestamp is RFC 3339; digest is the
// padded standard base64 (RFC 4648 4) of the canonical SignedInfo for that
// algorithm, compared byte for byte with what the function SignedInfo writes.
// Other parameters and other members of the resource, such as id and meta, are
// not signed and are passed over.
//
// An OperationOutcome instead of Parameters is an *OutcomeError; anything else
// that differs is a *FormatError that names what and where.
func ParsePrepared(answer []byte) (*Prepared, error) {
	root, err := readJSON(answer)
	if err != nil {
		return nil, err
	}
	values, err := readParameters(root)
	if err != nil {
		return nil, err
	}
	p := &Prepared{timestamp: values["timestamp"]}
	var known bool
	if p.algorithm, known = algorithmNamed(values["algorithm"]); !known {
		return nil, formatErrorf("algorithm", -1, "found %s, wanted RS256 or RS1", excerpt(values["algorithm"]))
	}
	if p.at, err = parseTimestamp(p.timestamp); err != nil {
		return nil, formatErrorf("timestamp", -1, "%v", err)
	}
	var off int
	if p.signedInfo, off, err = strictBase64(values["digest"]); err != nil {
		return nil, formatErrorf("digest", off, "is not base64: %v, found %s", err, excerpt(values["digest"]))
	}
	var ok bool
	if p.digest, ok = digestIn(p.algorithm, p.signedInfo); !ok {
		return nil, diagnose(p.algorithm, p.signedInfo)
	}
	return p, nil
}

// timestampForm is RFC 3339 5.6, which time.Parse reads more loosely: it takes a
// comma before the fraction and hours of one digit.
var timestampForm = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

func parseTimestamp(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || !timestampForm.MatchString(s) {
		return time.Time{}, fmt.Errorf("found %s, wanted an RFC 3339 instant such as 2020-10-02T09:00:00+00:00", excerpt(s))
	}
	return t.UTC(), nil
}

func (p *Prepared) isZero() bool { return p == nil || len(p.signedInfo) == 0 }

// Algorithm returns what the answer wants the SignedInfo signed with; 0 of the
// zero Prepared.
func (p *Prepared) Algorithm() Algorithm {
	if p == nil {
		return 0
	}
	return p.algorithm
}

// Timestamp returns the instant of signing that the service put into the
// prescription, verbatim; the Provenance carries it unchanged.
func (p *Prepared) Timestamp() string {
	if p == nil {
		return ""
	}
	return p.timestamp
}

// Time returns Timestamp as an instant, in UTC.
func (p *Prepared) Time() time.Time {
	if p == nil {
		return time.Time{}
	}
	return p.at
}

// SignedInfo returns a copy of the bytes to be signed, as the service sent them.
func (p *Prepared) SignedInfo() []byte {
	if p == nil {
		return nil
	}
	return bytes.Clone(p.signedInfo)
}

// DigestValue returns a copy of the hash of the prescription's fragments, 32
// bytes for RS256 and 20 for RS1. It is inside the SignedInfo.
func (p *Prepared) DigestValue() []byte {
	if p == nil {
		return nil
	}
	return bytes.Clone(p.digest)
}

var errZeroPrepared = errors.New("eps: the document is empty, wanted one made by ParsePrepared; nothing was signed")

// kind names the document type in decision records.
const kind = "eps-prepared"

// ToBeSigned returns the SignedInfo as a message that only an RSA key can sign.
// The zero Prepared is an error.
func (p *Prepared) ToBeSigned() (tbs.Message, error) {
	if p.isZero() {
		return tbs.Message{}, errZeroPrepared
	}
	return tbs.New(kind, p.signedInfo, methods[p.algorithm].hash, true), nil
}

// CertificateError says that a certificate cannot make a signature over this
// document that the national service would accept.
type CertificateError struct {
	Serial  string // in hexadecimal; empty where there is no certificate
	Problem string // what is and what was wanted
	Advice  string // what to do
}

func (e *CertificateError) Error() string {
	s := "eps: certificate "
	if e.Serial != "" {
		s += e.Serial + " "
	}
	return s + e.Problem + ": " + e.Advice
}

func serialOf(cert *x509.Certificate) string {
	if cert == nil || cert.SerialNumber == nil {
		return ""
	}
	return cert.SerialNumber.Text(16)
}

// minBits is what crypto/rsa verifies; signing certificates of 2020 to 2022 have
// keys of exactly this size.
const minBits = 1024

// rsaKey returns the certificate's key, or a *CertificateError.
func rsaKey(cert *x509.Certificate) (*rsa.PublicKey, error) {
	if cert == nil {
		return nil, &CertificateError{Problem: "is missing", Advice: "read the card again"}
	}
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	switch {
	case !ok || key == nil || key.N == nil:
		what := cert.PublicKeyAlgorithm.String()
		if cert.PublicKeyAlgorithm == x509.UnknownPublicKeyAlgorithm {
			what = fmt.Sprintf("%T", cert.PublicKey)
		}
		return nil, &CertificateError{Serial: serialOf(cert),
			Problem: "has a key of type " + what + ", wanted RSA, the only type that the national service can verify",
			Advice:  "sign with a card that has an RSA signing key, or contact your Registration Authority"}
	case key.N.BitLen() < minBits:
		return nil, &CertificateError{Serial: serialOf(cert),
			Problem: fmt.Sprintf("has an RSA key of %d bits, wanted at least %d", key.N.BitLen(), minBits),
			Advice:  "contact your Registration Authority for a new certificate"}
	}
	return key, nil
}

// Accepts tells, before anything is signed, whether the national service could
// accept a signature over p made with cert: the key must be RSA, of at least 1024
// bits, and the answer's timestamp must lie strictly between notBefore and
// notAfter. It decides nothing about whether cert may be used at all, which is
// the guard's. What is not acceptable is a *CertificateError; the zero Prepared is
// an error of its own.
func (p *Prepared) Accepts(cert *x509.Certificate) error {
	if p.isZero() {
		return errZeroPrepared
	}
	if _, err := rsaKey(cert); err != nil {
		return err
	}
	if why := outsideValidity(cert, p.at); why != "" {
		advice := "ask the service for a new $prepare answer, or renew the certificate if it has expired"
		if !p.at.After(cert.NotBefore) {
			advice = "the certificate was not valid yet when the answer was prepared: ask the service for a new $prepare answer"
		}
		return &CertificateError{Serial: serialOf(cert), Problem: why + ` (the service would say "` + textExpired + `")`, Advice: advice}
	}
	return nil
}

// Finish turns the card's signature over p into the Signature XML. It takes a
// signature over p's own SignedInfo only, verifies it with the certificate's key,
// and releases nothing unless every check of the national service that can be
// decided passes on the finished bytes; otherwise the error is a *CheckError. A
// certificate whose key is not RSA is a *CertificateError.
func (p *Prepared) Finish(sig tbs.Signature) (*Signed, error) {
	msg, err := p.ToBeSigned()
	if err != nil {
		return nil, err
	}
	s, err := finish(msg, sig, p)
	if err != nil {
		return nil, err
	}
	s.timestamp = p.timestamp
	return s, nil
}

func (p *Prepared) signedAt() (time.Time, string) { return p.at, "" }

func (p *Prepared) rebuilt(Algorithm) ([]byte, string) {
	return nil, "a $prepare answer does not hold the prescription that its digest is of"
}
