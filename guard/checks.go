package guard

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// judgeCard finds what keeps the card's certificate from being read, and a
// simulated card before a live Guard.
func (g *Guard) judgeCard(fs []Finding, s Snapshot) []Finding {
	if g.live && (s.Simulated || s.Certificate != nil && s.Certificate.simulated) {
		f := finding(SimulatedCard)
		if s.Certificate != nil {
			f.Is = s.Certificate.is()
		}
		fs = append(fs, f)
	}
	if s.Err == nil && s.Certificate != nil {
		return fs
	}
	r := CardUnreadable
	switch {
	case s.Err == nil:
		r = NoSigningCertificate
	case errors.Is(s.Err, ErrNoCard):
		r = CardAbsent
	case errors.Is(s.Err, ErrNoSigningCertificate):
		r = NoSigningCertificate
	case errors.Is(s.Err, ErrSeveralCertificates):
		r = SeveralCertificates
	case errors.Is(s.Err, ErrCertificateDamaged):
		r = CertificateDamaged
	}
	f := finding(r)
	if s.Err != nil {
		f.Is = s.Err.Error()
	}
	return append(fs, f)
}

// judgeHold finds a renewal that is not at its end: no policy turns this off.
func judgeHold(fs []Finding, h Hold) []Finding {
	var r Reason
	switch h.State {
	case NotHeld:
		return fs
	case HoldRenewal:
		r = OnHoldRenewal
	case HoldReseat:
		r = OnHold
	case HoldLogin:
		r = OnHoldLogin
	default:
		r = HoldUnknown
	}
	f := finding(r)
	if !h.Since.IsZero() {
		f.Is = "on hold since " + instant(h.Since)
	}
	if h.Err != nil {
		f.Is = h.Err.Error()
	}
	return append(fs, f)
}

// judgeValidity compares strictly, notBefore < at < notAfter, as the national
// service does (its check 8): RFC 5280 4.1.2.5 would include both ends, where the
// service finds the signature expired.
func judgeValidity(fs []Finding, c *Certificate, at time.Time) []Finding {
	switch {
	case !c.info.NotBefore.Before(at):
		f := finding(NotYetValid)
		f.Is = "notBefore " + instant(c.info.NotBefore) + ", judged at " + instant(at)
		fs = append(fs, f)
	case !at.Before(c.info.NotAfter):
		f := finding(Expired)
		f.Is = "notAfter " + instant(c.info.NotAfter) + ", judged at " + instant(at)
		fs = append(fs, f)
	case !c.privateKeyUntil.IsZero() && at.After(c.privateKeyUntil):
		// It ends at 70 % of a card's life, before self-renewal opens: a refusal
		// would strand good cards.
		f := finding(PrivateKeyUsagePassed)
		f.Is = "private key usage period ended " + instant(c.privateKeyUntil)
		f.By = c.info.NotAfter
		fs = append(fs, f)
	}
	return fs
}

// judgeProfile compares with the profile of NHS signing certificates: key usage
// critical and contentCommitment alone (RFC 5280 4.2.1.3), no extended key usage,
// the content commitment policy, and a user id. Real cards deviate in all but the
// first, so those warn.
func judgeProfile(fs []Finding, c *Certificate) []Finding {
	if c.x.KeyUsage&x509.KeyUsageContentCommitment == 0 {
		f := finding(NotForSigning)
		f.Is = "key usage " + keyUsageNames(c) + "; " + c.is()
		return append(fs, f)
	}
	if !c.keyUsageCritical {
		fs = append(fs, finding(KeyUsageNotCritical))
	}
	if c.x.KeyUsage != x509.KeyUsageContentCommitment {
		f := finding(KeyUsageExtra)
		f.Is = "key usage " + keyUsageNames(c)
		fs = append(fs, f)
	}
	if len(c.x.ExtKeyUsage)+len(c.x.UnknownExtKeyUsage) > 0 {
		fs = append(fs, finding(ExtendedKeyUsage))
	}
	if !c.hasPolicy {
		fs = append(fs, finding(PolicyMissing))
	}
	if !c.hasUserID {
		f := finding(UserIDMissing)
		f.Is = "subject " + c.info.Subject
		fs = append(fs, f)
	}
	return fs
}

// is says which certificate a finding is about.
func (c *Certificate) is() string {
	return fmt.Sprintf("issuer %s, serial %s, issued %s", c.info.Issuer, c.info.Serial, instant(c.info.NotBefore))
}

var keyUsages = []struct {
	bit  x509.KeyUsage
	name string
}{
	{x509.KeyUsageDigitalSignature, "digitalSignature"},
	{x509.KeyUsageContentCommitment, "contentCommitment"},
	{x509.KeyUsageKeyEncipherment, "keyEncipherment"},
	{x509.KeyUsageDataEncipherment, "dataEncipherment"},
	{x509.KeyUsageKeyAgreement, "keyAgreement"},
	{x509.KeyUsageCertSign, "keyCertSign"},
	{x509.KeyUsageCRLSign, "cRLSign"},
	{x509.KeyUsageEncipherOnly, "encipherOnly"},
	{x509.KeyUsageDecipherOnly, "decipherOnly"},
}

func keyUsageNames(c *Certificate) string {
	if !c.hasKeyUsage {
		return "absent"
	}
	s := ""
	for _, u := range keyUsages {
		if c.x.KeyUsage&u.bit != 0 {
			if s != "" {
				s += ", "
			}
			s += u.name
		}
	}
	return s
}
