package eps

import (
	"crypto/x509"
	"time"
)

// Verifier judges signed prescriptions before they are sent: by the nine checks of the
// national service, and by rxguard's own, stricter ones. It needs neither card nor
// network. The zero Verifier has no CAs and no lists: what needs them is not decidable.
// It may be used by several goroutines, and must not be changed after its first use.
type Verifier struct {
	// CAs are the issuing CAs that the service is configured with. The CAs above them
	// may be among them, for their certificates' and their lists' signatures.
	CAs []*x509.Certificate
	// Lists are CRLs and ARLs in any order. Lists of other issuers are passed over.
	Lists []*x509.RevocationList
	// At is the instant of rxguard's own checks; zero: each prescription's author/time.
	// The service's are always made as of author/time.
	At time.Time
	// MatchPrescriber compares the user in the certificate's subject with the
	// prescriber that the message names.
	MatchPrescriber bool
	// MinRSABits is the key size that is refused below; 0: 1024. Below 2048 is warned
	// of.
	MinRSABits int
}

// Verify judges one prescription.
func (v *Verifier) Verify(p *Prescription) Report {
	r := Report{Version: ReportVersion, Line: p.Line(), ID: p.ID(), ShortID: p.ShortID(), SignedAt: p.Time(), JudgedAt: v.At.UTC()}
	if v.At.IsZero() {
		r.JudgedAt = r.SignedAt
	}
	if p.isZero() {
		return r
	}
	signature, problem := p.signature()
	if problem != nil {
		return r
	}
	checks, found := examine(p.doc, signature, p)
	r.National.Checks = checks
	if found.cert != nil {
		r.Certificate = reportCertificate(found.cert)
	}
	return r
}

// VerifyMessage verifies every prescription of a message in turn.
func (v *Verifier) VerifyMessage(message []byte, o ReadOptions, each func(Report) error) error {
	m, err := ParseMessage(message, o)
	if err != nil {
		return err
	}
	for _, p := range m.Prescriptions() {
		if err := each(v.Verify(p)); err != nil {
			return err
		}
	}
	return nil
}
