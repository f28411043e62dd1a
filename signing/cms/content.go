package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/rxguard/rxguard/internal/tbs"
)

const (
	// MaxContent is how many bytes of content a SignedData may hold: 16 MiB.
	MaxContent = 16 << 20
	// MaxRest is how many bytes it may have without its content: 64 KiB.
	MaxRest = 64 << 10
	// maxCertificates is how many certificates it may hold.
	maxCertificates = 16
)

// Options say what goes into a SignedData beside the signature. The zero value
// works.
type Options struct {
	// Certificates are sent along with the signer's own, which is always there: the
	// authorities above it, for verifiers that do not have them. At most 15.
	Certificates []*x509.Certificate
}

// Content is content to be signed. It is a document for signing.Sign, which turns
// it into a [Signed]. The zero Content is refused by every method. A Content does
// not change, may be used by several goroutines, and may be signed more than once.
type Content struct {
	digest   [sha256.Size]byte
	content  []byte // of attached content
	attached bool
	extra    []*x509.Certificate
	err      error // why it cannot be signed
	made     bool
}

var (
	errZeroContent = errors.New("cms: the document is empty, wanted one made by Detached, Attached or DetachedDigest; nothing was signed")
	errNoContent   = errors.New("cms: there is no content, wanted at least one byte; nothing was signed")
)

// Detached is content that is kept apart from its signature. It is hashed here and
// not kept, so its size does not matter. What cannot be signed, such as no bytes, is
// said by signing.Sign.
func Detached(content []byte, o Options) *Content {
	c := DetachedDigest(sha256.Sum256(content), o)
	if len(content) == 0 {
		c.err = errNoContent
	}
	return c
}

// DetachedDigest is Detached for content that the caller hashed with SHA-256, such
// as a stream. The digest becomes the message digest attribute; it is not itself what
// the card signs.
func DetachedDigest(digest [sha256.Size]byte, o Options) *Content {
	c := &Content{digest: digest, extra: slices.Clone(o.Certificates), made: true}
	if digest == ([sha256.Size]byte{}) {
		c.err = errors.New("cms: the digest is all zeros, wanted the SHA-256 of the content; nothing was signed")
	} else {
		c.err = checkExtra(c.extra)
	}
	return c
}

// Attached is content that goes into the SignedData, at most MaxContent bytes. It is
// copied. What cannot be signed is said by signing.Sign.
func Attached(content []byte, o Options) *Content {
	if len(content) > MaxContent {
		return &Content{made: true, err: fmt.Errorf("cms: content of %d bytes, wanted at most %d inside a SignedData: sign it detached; nothing was signed", len(content), MaxContent)}
	}
	c := Detached(content, o)
	c.attached, c.content = true, bytes.Clone(content)
	return c
}

func checkExtra(certs []*x509.Certificate) error {
	if len(certs) >= maxCertificates {
		return fmt.Errorf("cms: %d more certificates, wanted at most %d; nothing was signed", len(certs), maxCertificates-1)
	}
	size := 0
	for i, c := range certs {
		if c == nil || len(c.Raw) == 0 {
			return fmt.Errorf("cms: certificate %d of the options is empty, wanted one that was parsed; nothing was signed", i+1)
		}
		size += len(c.Raw)
	}
	if size > MaxRest/2 {
		return fmt.Errorf("cms: %d bytes of more certificates, wanted at most %d; nothing was signed", size, MaxRest/2)
	}
	return nil
}

// ready tells why c cannot be signed.
func (c *Content) ready() error {
	if c == nil || !c.made {
		return errZeroContent
	}
	return c.err
}

// SHA256 returns the digest of the content, which names it in the decision record;
// zeros of the zero Content.
func (c *Content) SHA256() [sha256.Size]byte {
	if c == nil {
		return [sha256.Size]byte{}
	}
	return c.digest
}

// kind names the document type in decision records.
const kind = "cms"

// ToBeSigned returns a message that becomes the signed attributes when the Signer
// knows the certificate and the time. Content that cannot be signed is an error.
func (c *Content) ToBeSigned() (tbs.Message, error) {
	if err := c.ready(); err != nil {
		return tbs.Message{}, err
	}
	return tbs.Bound(kind, c.digest, crypto.SHA256, c.attributes), nil
}

// CertificateError says that a certificate cannot make a CMS signature that
// verifiers would accept.
type CertificateError struct {
	Serial  string // in hexadecimal; empty where there is no certificate
	Problem string // what is and what was wanted
	Advice  string // what to do
}

func (e *CertificateError) Error() string {
	s := "cms: certificate "
	if e.Serial != "" {
		s += e.Serial + " "
	}
	return s + e.Problem + ": " + e.Advice
}

func serialOf(cert *x509.Certificate) string {
	if cert == nil || cert.SerialNumber == nil {
		return ""
	}
	return clip(cert.SerialNumber.Text(16), 64)
}

const (
	// minBits is what crypto/rsa verifies: signing certificates of 2020 to 2022 have
	// keys of exactly this size. A stricter policy is the guard's.
	minBits = 1024
	// maxBits bounds the time that one verification takes.
	maxBits = 8192
)

// Accepts tells, before anything is signed, whether cert can make a CMS signature:
// its key must be RSA of 1024 to 8192 bits or on P-256, and its key usage, where it
// has one, digitalSignature or contentCommitment (RFC 5280 4.2.1.3). It decides
// nothing about whether cert may be used at all, which is the guard's. What is not
// acceptable is a *CertificateError; content that cannot be signed is an error of
// its own.
func (c *Content) Accepts(cert *x509.Certificate) error {
	if err := c.ready(); err != nil {
		return err
	}
	if cert == nil || len(cert.Raw) == 0 {
		return &CertificateError{Problem: "is missing", Advice: "read the card again"}
	}
	problem := func(p string) error {
		return &CertificateError{Serial: serialOf(cert), Problem: p, Advice: "contact your Registration Authority for another certificate"}
	}
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if why := rsaSize(key, minBits); why != "" {
			return problem("has " + why)
		}
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return problem(fmt.Sprintf("has a key on %s, wanted RSA or P-256", key.Params().Name))
		}
	default:
		return problem(fmt.Sprintf("has a key of type %v, wanted RSA or P-256", cert.PublicKeyAlgorithm))
	}
	if why := usage(cert); why != "" {
		return problem("has " + why)
	}
	return nil
}

// rsaSize says what is wrong with the size of a key; empty: nothing.
func rsaSize(key *rsa.PublicKey, least int) string {
	if bits := key.N.BitLen(); bits < least || bits > maxBits {
		return fmt.Sprintf("an RSA key of %d bits, wanted %d to %d", bits, least, maxBits)
	}
	return ""
}

var oidKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 15}

// usage says why a certificate's key usage forbids signatures over documents (RFC
// 5280 4.2.1.3); empty: it does not, or is not there.
func usage(cert *x509.Certificate) string {
	there := slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidKeyUsage) })
	if there && cert.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0 {
		return "a key usage without digitalSignature and contentCommitment, wanted one of them"
	}
	return ""
}
