package guard

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
)

// judgeCard finds what keeps the card's certificate from being read, and a
// simulated card before a live Guard.
func (g *Guard) judgeCard(fs []Finding, s Snapshot) []Finding {
	if g.live && (s.Simulated || s.Certificate.readable() && s.Certificate.simulated) {
		f := finding(SimulatedCard)
		if s.Certificate.readable() {
			f.Is = s.Certificate.is()
		}
		fs = append(fs, f)
	}
	r := CardUnreadable
	switch {
	case s.Err == nil && s.Certificate.readable():
		return fs
	case s.Err == nil && s.Certificate != nil:
		r = CertificateDamaged
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
	switch {
	case h.Err != nil && !h.Since.IsZero():
		f.Is = fmt.Sprintf(isHeld, instant(h.Since)) + "; " + h.Err.Error()
	case h.Err != nil:
		f.Is = h.Err.Error()
	case !h.Since.IsZero():
		f.Is = fmt.Sprintf(isHeld, instant(h.Since))
	}
	return append(fs, f)
}

// judgeValidity compares strictly, notBefore < at < notAfter, as the national
// service does (its check 8): RFC 5280 4.1.2.5 would include both ends, where the
// service finds the signature expired.
func judgeValidity(fs []Finding, c *Certificate, at time.Time) []Finding {
	if !c.info.NotBefore.Before(c.info.NotAfter) {
		f := finding(DatesImpossible)
		f.Is = fmt.Sprintf(isDates, instant(c.info.NotBefore), instant(c.info.NotAfter))
		return append(fs, f)
	}
	if c.info.NotAfter.Year()-c.info.NotBefore.Year() > maxLifeYears {
		f := finding(LifetimeUnusual)
		f.Is = fmt.Sprintf(isDates, instant(c.info.NotBefore), instant(c.info.NotAfter))
		fs = append(fs, f)
	}
	switch {
	case !c.info.NotBefore.Before(at):
		f := finding(NotYetValid)
		f.Is = fmt.Sprintf(isNotBefore, instant(c.info.NotBefore), instant(at))
		fs = append(fs, f)
	case !at.Before(c.info.NotAfter):
		f := finding(Expired)
		f.Is = fmt.Sprintf(isNotAfter, instant(c.info.NotAfter), instant(at))
		fs = append(fs, f)
	case !c.privateKeyUntil.IsZero() && at.After(c.privateKeyUntil):
		// RFC 3280 4.2.1.4. It ends at 70 % of a card's life, before self-renewal
		// opens: a refusal would strand good cards.
		f := finding(PrivateKeyUsagePassed)
		f.Is = fmt.Sprintf(isUsageEnded, instant(c.privateKeyUntil))
		f.By = c.info.NotAfter
		fs = append(fs, f)
	}
	return fs
}

// judgeProfile compares with the profile of NHS signing certificates: key usage
// critical and contentCommitment alone (RFC 5280 4.2.1.3), no extended key usage,
// the content commitment policy, and a user id. A key usage without
// contentCommitment refuses, and so does a critical extension that is not known
// (RFC 5280 4.2); everything else real cards are seen to lack or to have too much of,
// so it warns.
func judgeProfile(fs []Finding, c *Certificate) []Finding {
	if len(c.unknownCritical) > 0 {
		f := finding(CriticalExtension)
		f.Is = fmt.Sprintf(isCritical, listed(c.unknownCritical), c.is())
		fs = append(fs, f)
	}
	if c.x.KeyUsage&x509.KeyUsageContentCommitment == 0 {
		f := finding(NotForSigning)
		f.Is = fmt.Sprintf(isKeyUsage, keyUsageNames(c)) + "; " + c.is()
		return append(fs, f)
	}
	if !c.keyUsageCritical {
		fs = append(fs, finding(KeyUsageNotCritical))
	}
	if c.x.KeyUsage != x509.KeyUsageContentCommitment {
		f := finding(KeyUsageExtra)
		f.Is = fmt.Sprintf(isKeyUsage, keyUsageNames(c))
		fs = append(fs, f)
	}
	if len(c.x.ExtKeyUsage)+len(c.x.UnknownExtKeyUsage) > 0 {
		f := finding(ExtendedKeyUsage)
		f.Is = fmt.Sprintf(isExtKeyUsage, extKeyUsageNames(c))
		fs = append(fs, f)
	}
	if !c.hasPolicy {
		f := finding(PolicyMissing)
		f.Is = fmt.Sprintf(isPolicies, listed(c.facts.PolicyOID))
		fs = append(fs, f)
	}
	if !c.hasUserID {
		f := finding(UserIDMissing)
		f.Is = fmt.Sprintf(isSubject, c.info.Subject)
		fs = append(fs, f)
	}
	// RFC 5280 4.1.2.2 and 4.1.2.4: issuer name and serial number together identify it.
	if c.facts.SerialOversize || c.x.SerialNumber.Sign() <= 0 || c.info.Issuer == "" {
		f := finding(SerialUnusual)
		f.Is = c.is()
		fs = append(fs, f)
	}
	return fs
}

// maxLifeYears is how long, by the years of its dates, a certificate lasts before it
// is remarked on. Signing certificates of the national service last up to three.
const maxLifeYears = 5

// readable tells whether ParseCertificate made c.
func (c *Certificate) readable() bool { return c != nil && c.x != nil }

// is says which certificate a finding is about.
func (c *Certificate) is() string {
	return fmt.Sprintf(isIssued, cmp.Or(c.info.Issuer, isNone), c.info.Serial, instant(c.info.NotBefore))
}

// keyUsageNames spells the bits as RFC 5280 4.2.1.3 does, in the order of the bits.
func keyUsageNames(c *Certificate) string {
	var names []string
	for bit := x509.KeyUsageDigitalSignature; bit <= x509.KeyUsageDecipherOnly; bit <<= 1 {
		if c.x.KeyUsage&bit != 0 {
			names = append(names, bit.String())
		}
	}
	return listed(names)
}

func extKeyUsageNames(c *Certificate) string {
	var names []string
	for _, u := range c.x.ExtKeyUsage {
		names = append(names, u.String())
	}
	for _, oid := range c.x.UnknownExtKeyUsage {
		names = append(names, oid.String())
	}
	return listed(names)
}

func listed(names []string) string {
	if len(names) == 0 {
		return isNone
	}
	return strings.Join(names, ", ")
}
