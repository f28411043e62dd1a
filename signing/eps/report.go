package eps

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"time"
)

// ReportVersion is the Version of the reports that this package writes.
const ReportVersion = 1

// Report is what a [Verifier] found out about one prescription: a value, with the
// national service's checks and rxguard's own beside each other. It holds no names of
// persons. Instants are in UTC.
type Report struct {
	Version  int       `json:"version"`            // ReportVersion
	Line     int       `json:"line"`               // of the message, from 1, where the ParentPrescription begins
	ID       string    `json:"id,omitempty"`       // the prescription's UUID, as the message spells it
	ShortID  string    `json:"short_id,omitempty"` // what is printed under its bar code
	SignedAt time.Time `json:"signed_at,omitzero"` // author/time; zero: it cannot be read
	JudgedAt time.Time `json:"judged_at,omitzero"` // the instant of rxguard's own checks: Verifier.At, or SignedAt

	Certificate *CertificateReport `json:"certificate,omitempty"` // nil: none that parses

	National Opinion `json:"national"` // whether the national service would accept
	Rxguard  Opinion `json:"rxguard"`  // whether rxguard would accept
}

// CertificateReport says which certificate a signature came with. Its subject, the
// name of a person, is left out.
type CertificateReport struct {
	Serial    string    `json:"serial"` // hexadecimal
	Issuer    string    `json:"issuer"` // RFC 2253
	SHA256    string    `json:"sha256"` // of the DER, hexadecimal
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

func reportCertificate(cert *x509.Certificate, sum [sha256.Size]byte) CertificateReport {
	return CertificateReport{
		Serial: serialOf(cert), Issuer: cert.Issuer.String(), SHA256: hex.EncodeToString(sum[:]),
		NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(),
	}
}

// Opinion is whether one would accept a prescription's signature, and why.
type Opinion struct {
	// Accept is Passed: would accept; Failed: would not; NotDecidable: what it takes
	// to say so is not at hand.
	Accept Result  `json:"accept"`
	Checks []Check `json:"checks"`
}
