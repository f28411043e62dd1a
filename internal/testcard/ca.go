package testcard

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"sync"
	"time"
)

// Organization is the organisation name in every certificate that this package
// issues.
const Organization = "rxguard simulation"

// SigningPolicy is the certificate policy of the signing profile.
const SigningPolicy = "1.2.826.0.1275.102.0.3.2.0"

// Profile is a kind of certificate that the CA issues.
type Profile int

// The profiles.
const (
	Signing        Profile = iota + 1 // key usage critical, contentCommitment only; no EKU; SigningPolicy
	Authentication                    // key usage digitalSignature; EKU clientAuth
	TLSServer                         // EKU serverAuth; localhost, 127.0.0.1, ::1
)

// String is the profile's name.
func (p Profile) String() string {
	switch p {
	case Signing:
		return "signing"
	case Authentication:
		return "authentication"
	case TLSServer:
		return "server"
	}
	return fmt.Sprintf("profile %d", int(p))
}

// CAConfig says how a CA works. The zero value works.
type CAConfig struct {
	Now      func() time.Time // the CA's clock; nil: time.Now
	Backdate time.Duration    // of notBefore; 0: 5 minutes, negative: none

	// CachedKeys takes the key pairs that this process makes once for all such
	// CAs, which saves time; two of them are then one and the same issuer.
	CachedKeys bool
}

// CA is a root and an issuing authority below it, both RSA-2048 and valid through
// 2000 to 2099, so that the simulated world can be judged as of any instant. Its
// methods may be called from several goroutines.
type CA struct {
	cfg                 CAConfig
	rootKey, issuingKey crypto.Signer
	root, issuing       *x509.Certificate
}

var (
	always = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	end    = time.Date(2099, 12, 31, 23, 59, 59, 0, time.UTC)
)

var (
	cachedRootKey    = sync.OnceValues(newKey)
	cachedIssuingKey = sync.OnceValues(newKey)
)

func newKey() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }

// NewCA makes a CA with keys of its own.
func NewCA(cfg CAConfig) (*CA, error) {
	rootSource, issuingSource := newKey, newKey
	if cfg.CachedKeys {
		rootSource, issuingSource = cachedRootKey, cachedIssuingKey
	}
	rootKey, err := rootSource()
	if err != nil {
		return nil, fmt.Errorf("testcard: key of the root: %w", err)
	}
	issuingKey, err := issuingSource()
	if err != nil {
		return nil, fmt.Errorf("testcard: key of the issuing authority: %w", err)
	}
	return certify(cfg, rootKey, issuingKey)
}

// certify makes the two CA certificates (RFC 5280 4.2.1.9, 4.2.1.3).
func certify(cfg CAConfig, rootKey, issuingKey crypto.Signer) (*CA, error) {
	name := func(cn string) pkix.Name {
		return pkix.Name{CommonName: cn, Organization: []string{Organization}}
	}
	template := func(n pkix.Name) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: randomSerial(), Subject: n, NotBefore: always, NotAfter: end,
			KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
			BasicConstraintsValid: true, IsCA: true,
		}
	}
	rootTemplate := template(name("rxguard simulation root - not trusted"))
	root, err := create(rootTemplate, rootTemplate, rootKey.Public(), rootKey)
	if err != nil {
		return nil, err
	}
	issuingTemplate := template(name("rxguard simulation issuing - not trusted"))
	issuingTemplate.MaxPathLenZero = true
	issuing, err := create(issuingTemplate, root, issuingKey.Public(), rootKey)
	if err != nil {
		return nil, err
	}
	return newCA(cfg, rootKey, issuingKey, root, issuing), nil
}

func newCA(cfg CAConfig, rootKey, issuingKey crypto.Signer, root, issuing *x509.Certificate) *CA {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	switch {
	case cfg.Backdate == 0:
		cfg.Backdate = 5 * time.Minute
	case cfg.Backdate < 0:
		cfg.Backdate = 0
	}
	return &CA{cfg: cfg, rootKey: rootKey, issuingKey: issuingKey, root: root, issuing: issuing}
}

// Now reads the CA's clock.
func (ca *CA) Now() time.Time { return ca.cfg.Now() }

// RootCertificate is the self-signed root.
func (ca *CA) RootCertificate() *x509.Certificate { return ca.root }

// IssuingCertificate is the authority that signs what Issue makes.
func (ca *CA) IssuingCertificate() *x509.Certificate { return ca.issuing }

// Roots holds the root alone.
func (ca *CA) Roots() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.root)
	return p
}

// SPKIHash is the SHA-256 of a certificate's SubjectPublicKeyInfo: of an issuing
// certificate, what an advisory names its issuer by.
func SPKIHash(c *x509.Certificate) [sha256.Size]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// IssueOptions are the fields of one certificate. The subject's organisation must
// be Organization.
type IssueOptions struct {
	Subject             pkix.Name
	RawSubject          []byte    // DER; used in place of Subject where it is there
	NotBefore, NotAfter time.Time // zero: the CA's clock less Backdate; two years later
	Serial              *big.Int  // nil: 128 random bits
}

// Issue makes a certificate for an RSA or P-256 key: notBefore and notAfter in
// whole seconds UTC, authority and subject key identifiers set.
func (ca *CA) Issue(p Profile, pub crypto.PublicKey, o IssueOptions) (*x509.Certificate, error) {
	if err := usable(pub); err != nil {
		return nil, fmt.Errorf("testcard: issue: %w", err)
	}
	raw, err := markedSubject(o)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: o.Serial, RawSubject: raw, NotBefore: o.NotBefore, NotAfter: o.NotAfter}
	if t.NotBefore.IsZero() {
		t.NotBefore = ca.Now().Add(-ca.cfg.Backdate)
	}
	t.NotBefore = t.NotBefore.UTC().Truncate(time.Second)
	if t.NotAfter.IsZero() {
		t.NotAfter = t.NotBefore.AddDate(2, 0, 0)
	}
	t.NotAfter = t.NotAfter.UTC().Truncate(time.Second)
	if !t.NotAfter.After(t.NotBefore) {
		return nil, fmt.Errorf("testcard: issue: notAfter %s, expected one after notBefore %s",
			t.NotAfter.Format(time.RFC3339), t.NotBefore.Format(time.RFC3339))
	}
	if t.SerialNumber == nil {
		t.SerialNumber = randomSerial()
	}
	switch p {
	case Signing:
		policy, err := x509.ParseOID(SigningPolicy)
		if err != nil {
			return nil, fmt.Errorf("testcard: issue: %w", err)
		}
		t.KeyUsage = x509.KeyUsageContentCommitment
		t.Policies = []x509.OID{policy}
	case Authentication:
		t.KeyUsage = x509.KeyUsageDigitalSignature
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case TLSServer:
		t.KeyUsage = x509.KeyUsageDigitalSignature
		if _, ok := pub.(*rsa.PublicKey); ok {
			t.KeyUsage |= x509.KeyUsageKeyEncipherment // TLS 1.2 key transport
		}
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		t.DNSNames = []string{"localhost"}
		t.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	default:
		return nil, fmt.Errorf("testcard: issue: %v, expected Signing, Authentication or TLSServer", p)
	}
	return create(t, ca.issuing, pub, ca.issuingKey)
}

// markedSubject answers the DER subject, which says that it is a simulation.
func markedSubject(o IssueOptions) ([]byte, error) {
	raw := o.RawSubject
	if raw == nil {
		var err error
		if raw, err = asn1.Marshal(o.Subject.ToRDNSequence()); err != nil {
			return nil, fmt.Errorf("testcard: issue: subject: %w", err)
		}
	}
	var rdn pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &rdn); err != nil || len(rest) > 0 {
		return nil, errors.New("testcard: issue: subject is not a name in DER")
	}
	var n pkix.Name
	n.FillFromRDNSequence(&rdn)
	if !slices.Equal(n.Organization, []string{Organization}) {
		return nil, fmt.Errorf("testcard: issue: subject organisation %q, expected %q", n.Organization, Organization)
	}
	return raw, nil
}

func create(t, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("testcard: issue: %w", err)
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return nil, fmt.Errorf("testcard: issue: %w", err)
	}
	digest := sha256.Sum256(info.Key.Bytes)
	t.SubjectKeyId = digest[:20] // RFC 7093 2, method 1
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("testcard: issue: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("testcard: issue: %w", err)
	}
	return c, nil
}

// randomSerial makes 128 random bits, never zero (RFC 5280 4.1.2.2).
func randomSerial() *big.Int {
	for {
		var b [16]byte
		rand.Read(b[:])
		if n := new(big.Int).SetBytes(b[:]); n.Sign() > 0 {
			return n
		}
	}
}
