package guard

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
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
// worked out once. ParseCertificate makes it; the zero value is judged as one that
// cannot be read. It is immutable and safe for concurrent use.
type Certificate struct {
	x     *x509.Certificate // what is judged: only a Revocation sees it
	facts advisory.Facts
	info  CertificateInfo

	// privateKeyUntil is the end of the private key usage period; zero: none.
	privateKeyUntil  time.Time
	unknownCritical  []string // critical extensions that are not known here, as OIDs
	keyUsageCritical bool
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

// ParseCertificate reads one X.509 certificate (RFC 5280 4.1), DER or a single PEM
// block (RFC 7468) with nothing but white space around it. It decides nothing but
// whether it is one: whom it is for, and whether it may sign, is for Check. Errors
// say what was found and what was wanted; there is no sentinel for them. The
// Certificate keeps no reference to b.
func ParseCertificate(b []byte) (*Certificate, error) {
	der, err := certificateDER(b)
	if err != nil {
		return nil, err
	}
	x, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("guard: not a certificate: %w", err)
	}
	return newCertificate(x)
}

var pemBegin = []byte("-----BEGIN")

// certificateDER returns a copy of the DER in b: crypto/x509 keeps what it parses.
func certificateDER(b []byte) ([]byte, error) {
	text := bytes.TrimSpace(b)
	switch {
	case len(text) == 0:
		return nil, errors.New("guard: not a certificate: the input is empty; wanted DER or one PEM block")
	case b[0] == 0x30: // SEQUENCE
		return bytes.Clone(b), nil
	case !bytes.HasPrefix(text, pemBegin):
		return nil, fmt.Errorf("guard: not a certificate: the input starts with %q; wanted DER or one PEM block", b[:min(8, len(b))])
	}
	// Counted first, because pem.Decode passes over damaged blocks in silence.
	if n := bytes.Count(text, pemBegin); n > 1 {
		return nil, fmt.Errorf("guard: not one certificate: the input has %d PEM blocks; wanted one CERTIFICATE block", n)
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, errors.New("guard: not a certificate: the PEM text is damaged; wanted one CERTIFICATE block")
	case block.Type != "CERTIFICATE":
		return nil, fmt.Errorf("guard: not a certificate: the PEM block is %q; wanted CERTIFICATE", block.Type)
	case len(rest) > 0:
		return nil, errors.New("guard: not one certificate: text follows the PEM block; wanted one CERTIFICATE block")
	}
	return block.Bytes, nil
}

var (
	oidKeyUsage              = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidPrivateKeyUsagePeriod = asn1.ObjectIdentifier{2, 5, 29, 16}
)

func newCertificate(x *x509.Certificate) (*Certificate, error) {
	c := &Certificate{
		x:     x,
		facts: advisory.FactsOf(x),
		info: CertificateInfo{
			Subject:   nameOf(x.RawSubject, x.Subject),
			Issuer:    nameOf(x.RawIssuer, x.Issuer),
			Serial:    fmt.Sprintf("%x", x.SerialNumber),
			NotBefore: x.NotBefore.UTC(),
			NotAfter:  x.NotAfter.UTC(),
			SHA256:    fmt.Sprintf("%x", sha256.Sum256(x.Raw)),
		},
		hasUserID: startsWithUserID(x.Subject.CommonName),
		simulated: slices.Contains(x.Subject.Organization, SimulatedOrganization) ||
			slices.Contains(x.Issuer.Organization, SimulatedOrganization),
	}
	c.hasPolicy = slices.Contains(c.facts.PolicyOID, SigningPolicy)
	for _, oid := range x.UnhandledCriticalExtensions {
		if !oid.Equal(oidPrivateKeyUsagePeriod) { // which the validity check knows
			c.unknownCritical = append(c.unknownCritical, oid.String())
		}
	}
	for _, e := range x.Extensions {
		switch {
		case e.Id.Equal(oidKeyUsage):
			c.keyUsageCritical = e.Critical
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

// nameOf writes a distinguished name as RFC 4514 does, whole and in its own order,
// both of which pkix.Name loses.
func nameOf(raw []byte, parsed pkix.Name) string {
	var name pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &name); err != nil || len(rest) > 0 {
		return parsed.String()
	}
	return name.String()
}

// privateKeyUsageEnd reads notAfter of the extension that RFC 3280 4.2.1.4
// defines; zero: it has none.
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
	// RFC 5280 4.1.2.5.2: in UTC, with seconds, without fractions, which
	// time.Parse would take.
	const form = "20060102150405Z"
	t, err := time.Parse(form, string(p.NotAfter.Bytes))
	if err != nil || len(p.NotAfter.Bytes) != len(form) {
		return time.Time{}, fmt.Errorf("notAfter is %q; wanted GeneralizedTime YYYYMMDDHHMMSSZ", p.NotAfter.Bytes)
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

// X509 returns a copy of the parsed certificate, parsed anew for each call, so that
// nothing a caller does to it reaches what is judged; nil of the zero value.
func (c *Certificate) X509() *x509.Certificate {
	if c == nil || c.x == nil {
		return nil
	}
	x, err := x509.ParseCertificate(bytes.Clone(c.x.Raw))
	if err != nil { // it was parsed from the same bytes before
		panic(fmt.Sprintf("guard: certificate %s does not parse again: %v", c.info.Serial, err))
	}
	return x
}

// Info returns what verdicts show of the certificate.
func (c *Certificate) Info() CertificateInfo {
	if c == nil {
		return CertificateInfo{}
	}
	return c.info
}

// Simulated tells whether subject or issuer is marked as the simulation's, by
// SimulatedOrganization.
func (c *Certificate) Simulated() bool { return c.simulated }
