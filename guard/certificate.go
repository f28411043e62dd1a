package guard

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rxguard/rxguard/guard/advisory"
)

// SigningPolicy is the certificate policy of NHS content commitment certificates.
const SigningPolicy = "1.2.826.0.1275.102.0.3.2.0"

// SimulatedOrganization is the organizationName (RFC 5280 4.1.2.4) of everything
// that the simulated card and its test CA are named with. A live Guard refuses it.
const SimulatedOrganization = "rxguard simulation"

// Certificate is a parsed signing certificate with all that the checks ask of it
// worked out once. It is immutable and safe for concurrent use.
type Certificate struct {
	x     *x509.Certificate
	facts advisory.Facts
	info  CertificateInfo

	// privateKeyUntil is the end of the private key usage period; zero: none.
	privateKeyUntil  time.Time
	keyUsageCritical bool
	hasKeyUsage      bool
	hasPolicy        bool
	hasUserID        bool
	simulated        bool
}

// CertificateInfo is how verdicts show a certificate. Instants are UTC.
type CertificateInfo struct {
	Subject   string    `json:"subject"`    // RFC 4514
	Issuer    string    `json:"issuer"`     // RFC 4514
	Serial    string    `json:"serial"`     // lower-case hexadecimal
	NotBefore time.Time `json:"not_before"` // issued when
	NotAfter  time.Time `json:"not_after"`
	SHA256    string    `json:"sha256"` // of the DER, lower-case hexadecimal
}

// ParseCertificate reads one certificate, DER or a single PEM block. It decides
// nothing but whether it is one: errors say what was found instead.
func ParseCertificate(b []byte) (*Certificate, error) {
	der := b
	if trimmed := bytes.TrimSpace(b); bytes.HasPrefix(trimmed, []byte("-----BEGIN")) {
		block, rest := pem.Decode(trimmed)
		switch {
		case block == nil:
			return nil, errors.New("guard: the PEM text is damaged; wanted one CERTIFICATE block")
		case block.Type != "CERTIFICATE":
			return nil, fmt.Errorf("guard: the PEM block is %q; wanted CERTIFICATE", block.Type)
		case len(bytes.TrimSpace(rest)) > 0:
			return nil, errors.New("guard: text follows the PEM block; wanted one CERTIFICATE block")
		}
		der = block.Bytes
	}
	if len(der) == 0 {
		return nil, errors.New("guard: no certificate: the input is empty")
	}
	x, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("guard: not a certificate: %w", err)
	}
	return newCertificate(x)
}

var (
	oidKeyUsage              = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidPrivateKeyUsagePeriod = asn1.ObjectIdentifier{2, 5, 29, 16}
)

func newCertificate(x *x509.Certificate) (*Certificate, error) {
	sum := sha256.Sum256(x.Raw)
	c := &Certificate{
		x:     x,
		facts: advisory.FactsOf(x),
		info: CertificateInfo{
			Subject:   x.Subject.String(),
			Issuer:    x.Issuer.String(),
			Serial:    fmt.Sprintf("%x", x.SerialNumber),
			NotBefore: x.NotBefore.UTC(),
			NotAfter:  x.NotAfter.UTC(),
			SHA256:    fmt.Sprintf("%x", sum),
		},
		hasUserID: startsWithUserID(x.Subject.CommonName),
		simulated: contains(x.Subject.Organization, SimulatedOrganization) ||
			contains(x.Issuer.Organization, SimulatedOrganization),
	}
	for _, oid := range x.Policies {
		c.hasPolicy = c.hasPolicy || oid.String() == SigningPolicy
	}
	for _, e := range x.Extensions {
		switch {
		case e.Id.Equal(oidKeyUsage):
			c.hasKeyUsage, c.keyUsageCritical = true, e.Critical
		case e.Id.Equal(oidPrivateKeyUsagePeriod):
			until, err := privateKeyUsageEnd(e.Value)
			if err != nil {
				return nil, fmt.Errorf("guard: certificate %s: private key usage period: %w", c.info.Serial, err)
			}
			c.privateKeyUntil = until
		}
	}
	return c, nil
}

// privateKeyUsageEnd reads notAfter of the extension that RFC 3280 4.2.1.4
// defines.
func privateKeyUsageEnd(der []byte) (time.Time, error) {
	var p struct {
		NotBefore asn1.RawValue `asn1:"optional,tag:0"`
		NotAfter  asn1.RawValue `asn1:"optional,tag:1"`
	}
	if rest, err := asn1.Unmarshal(der, &p); err != nil {
		return time.Time{}, err
	} else if len(rest) > 0 {
		return time.Time{}, errors.New("bytes follow the extension's value")
	}
	if len(p.NotAfter.Bytes) == 0 {
		return time.Time{}, nil
	}
	t, err := time.Parse("20060102150405Z", string(p.NotAfter.Bytes))
	if err != nil {
		return time.Time{}, fmt.Errorf("notAfter %q is not GeneralizedTime", p.NotAfter.Bytes)
	}
	return t, nil
}

// startsWithUserID tells whether a common name is <12 digits>_Name.
func startsWithUserID(cn string) bool {
	id, _, found := strings.Cut(cn, "_")
	if !found || len(id) != 12 {
		return false
	}
	return strings.Trim(id, "0123456789") == ""
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// X509 returns the parsed certificate. The caller must not change it.
func (c *Certificate) X509() *x509.Certificate { return c.x }

// Info returns what verdicts show of the certificate.
func (c *Certificate) Info() CertificateInfo { return c.info }

// Simulated tells whether subject or issuer are marked as the simulation's.
func (c *Certificate) Simulated() bool { return c.simulated }
