package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mozilla.org/pkcs7"
)

// VerifyOptions say what a signature must be. Who may sign comes from Roots,
// Certificate or PublicKey; with none of them Verify cannot say yes.
type VerifyOptions struct {
	// Content is what a detached signature is over. Where the content is attached,
	// it may be given too and must be the same. Nil is not given; no bytes are
	// []byte{}.
	Content []byte
	// ContentDigest is the content's digest by the algorithm that the signature
	// names, in place of Content.
	ContentDigest []byte

	// Roots are whom the signer's certificate must lead to. Nil leaves that
	// undecided; it is never the system's list.
	Roots *x509.CertPool
	// Intermediates are authorities in between, beside those in the SignedData.
	Intermediates *x509.CertPool
	// At is the instant at which the certificates must be valid, from a source that
	// the caller trusts, such as its own clock when the signature came in. Wanted
	// with Roots.
	At time.Time

	// Certificate, when set, is the one that must have signed. It need not be in
	// the SignedData.
	Certificate *x509.Certificate
	// PublicKey, when set, is the key that must have signed: its
	// SubjectPublicKeyInfo in DER, as x509.Certificate.RawSubjectPublicKeyInfo.
	PublicKey []byte

	// RequireSigningCertificate refuses a signature without signing-certificate-v2.
	RequireSigningCertificate bool
	// MinRSABits is the least size of an RSA key. Zero is 2048; cards of 2020 to
	// 2022 have keys of 1024, which is the least that can be set.
	MinRSABits int
}

// Verify reads a SignedData in DER and checks its one signature. The error is nil
// only where all that is needed to accept it was checked and passed: the content's
// digest, the signature, and the signer, by Roots or as the expected one.
//
// Otherwise it is a *FormatError where the bytes cannot be read, and there is no
// Result; a *CheckError where a check failed; an *UndecidedError where none did but
// a needed one could not be decided; or an error of its own where the options
// contradict each other. With a *CheckError and an *UndecidedError there is a Result.
// What RFC 5652 leaves to the caller and is not looked at, revocation above all, is
// in Result.Checks as not decidable. Unsigned attributes are not read.
func Verify(der []byte, o VerifyOptions) (*Result, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s, err := parse(der)
	if err != nil {
		return nil, err
	}
	r := &Result{Attached: s.attached, SigningTime: s.signer.attrs.signingTime}
	for _, name := range checkNames {
		r.Checks = append(r.Checks, Check{Name: name})
	}
	r.set(CheckRevocation, NotDecidable, "revocation lists are not read here")

	if s.signer.attrs.contentType.Equal(oidData) {
		r.passed(CheckContentType, "")
	} else {
		r.passed(CheckContentType, fmt.Sprintf("the attribute says %v, the content is id-data (%v)", s.signer.attrs.contentType, oidData))
	}
	digest, scheme := s.signer.algorithms()
	if digest == 0 || scheme == 0 {
		r.passed(CheckAlgorithms, fmt.Sprintf("digest %v with signature %v, wanted SHA-256, SHA-384 or SHA-512 with RSASSA-PKCS1-v1_5 or ECDSA by the same", s.signer.digest.oid, s.signer.method.oid))
	} else {
		r.passed(CheckAlgorithms, "")
	}
	o.messageDigest(r, s, digest)
	if cert := o.signer(r, s); cert != nil {
		r.Certificate = cert
		o.key(r, cert, scheme)
		s.signer.verify(r, cert, digest)
		s.signer.signingCertificate(r, cert, o.RequireSigningCertificate)
		r.passed(CheckKeyUsage, usage(cert))
		s.signer.signingTime(r, cert)
		o.expected(r, cert)
		o.chain(r, s, cert)
	}
	err = r.err()
	var failed *CheckError
	if s.attached && r.Outcome(CheckMessageDigest) == Passed && r.Outcome(CheckSignature) == Passed && !errors.As(err, &failed) {
		r.Content = append([]byte{}, s.content...)
	}
	return r, err
}

func (o *VerifyOptions) check() error {
	switch {
	case o.Roots != nil && o.At.IsZero():
		return errors.New("cms: options: Roots without At, wanted the instant to judge the certificates at")
	case o.MinRSABits != 0 && (o.MinRSABits < minBits || o.MinRSABits > maxBits):
		return fmt.Errorf("cms: options: MinRSABits %d, wanted 0 for 2048, or %d to %d", o.MinRSABits, minBits, maxBits)
	case o.Content != nil && o.ContentDigest != nil:
		return errors.New("cms: options: both Content and ContentDigest, wanted one of them")
	case o.Certificate != nil && len(o.Certificate.Raw) == 0:
		return errors.New("cms: options: Certificate is empty, wanted one that was parsed")
	}
	return nil
}

// algorithms returns the digest and the kind of key that the SignerInfo names; zeros
// where they are not known or do not go together.
func (s *signerInfo) algorithms() (crypto.Hash, x509.PublicKeyAlgorithm) {
	h := s.digest.hash()
	known, m := algorithms[h], s.method
	switch {
	case h == 0:
	case (m.null || m.bare) && (m.oid.Equal(pkcs7.OIDEncryptionAlgorithmRSA) || m.oid.Equal(known.rsa)): // RFC 3370 3.2, RFC 5754 3.2
		return h, x509.RSA
	case m.bare && m.oid.Equal(known.ecdsa): // RFC 5754 3.3
		return h, x509.ECDSA
	}
	return h, 0
}

func (o *VerifyOptions) messageDigest(r *Result, s *signature, h crypto.Hash) {
	var digests [][]byte
	hash := func(b []byte) {
		d := h.New()
		d.Write(b)
		digests = append(digests, d.Sum(nil))
	}
	switch {
	case h == 0:
		r.set(CheckMessageDigest, NotDecidable, "the digest algorithm is not known")
		return
	case !s.attached && o.Content == nil && o.ContentDigest == nil:
		r.set(CheckMessageDigest, NotDecidable, "the content is detached and was not given")
		return
	case o.ContentDigest != nil && len(o.ContentDigest) != h.Size():
		r.passed(CheckMessageDigest, fmt.Sprintf("a digest of %d bytes was given, wanted the content's %v of %d", len(o.ContentDigest), h, h.Size()))
		return
	}
	if s.attached {
		hash(s.content)
	}
	if o.Content != nil {
		hash(o.Content)
	}
	if o.ContentDigest != nil {
		digests = append(digests, o.ContentDigest)
	}
	for _, d := range digests {
		if subtle.ConstantTimeCompare(d, s.signer.attrs.messageDigest) != 1 {
			r.passed(CheckMessageDigest, fmt.Sprintf("the content's %v is %x, the signed one %s: it is other content", h, d, clip(hex.EncodeToString(s.signer.attrs.messageDigest), 2*h.Size())))
			return
		}
	}
	r.passed(CheckMessageDigest, "")
}

// signer finds the signer's certificate.
func (o *VerifyOptions) signer(r *Result, s *signature) *x509.Certificate {
	names := func(c *x509.Certificate) bool {
		if s.signer.issuer == nil {
			return len(c.SubjectKeyId) > 0 && bytes.Equal(c.SubjectKeyId, s.signer.keyID)
		}
		return bytes.Equal(c.RawIssuer, s.signer.issuer) && c.SerialNumber.Cmp(s.signer.serial) == 0
	}
	var found []*x509.Certificate
	for _, c := range s.certs {
		if names(c) {
			found = append(found, c)
		}
	}
	if len(found) == 0 && o.Certificate != nil && names(o.Certificate) {
		found = append(found, o.Certificate)
	}
	switch len(found) {
	case 1:
		r.passed(CheckSignerCertificate, "")
		return found[0]
	case 0:
		r.passed(CheckSignerCertificate, fmt.Sprintf("none of the %d certificates is the signer's", len(s.certs)))
	default:
		r.passed(CheckSignerCertificate, fmt.Sprintf("%d certificates are named as the signer's, wanted one", len(found)))
	}
	for _, check := range []string{CheckKey, CheckSignature, CheckSigningCertificate, CheckKeyUsage, CheckSigningTime, CheckExpectedSigner, CheckChain} {
		r.set(check, NotDecidable, "the signer's certificate was not found")
	}
	return nil
}

func (o *VerifyOptions) key(r *Result, cert *x509.Certificate, scheme x509.PublicKeyAlgorithm) {
	least := o.MinRSABits
	if least == 0 {
		least = 2048
	}
	curves := []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}
	why := ""
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		why = rsaSize(key, least)
	case *ecdsa.PublicKey:
		if !slices.Contains(curves, key.Curve) {
			why = "a key on " + key.Params().Name + ", wanted P-256, P-384 or P-521"
		}
	default:
		why = fmt.Sprintf("a key of type %v, wanted RSA or ECDSA", cert.PublicKeyAlgorithm)
	}
	if why == "" && scheme != 0 && scheme != cert.PublicKeyAlgorithm {
		why = fmt.Sprintf("a key of type %v, and the signature is of type %v", cert.PublicKeyAlgorithm, scheme)
	}
	r.passed(CheckKey, why)
}

// verify checks the signature over the attributes as they came (RFC 5652 5.6).
func (s *signerInfo) verify(r *Result, cert *x509.Certificate, h crypto.Hash) {
	if r.Outcome(CheckAlgorithms) != Passed || r.Outcome(CheckKey) != Passed {
		r.set(CheckSignature, NotDecidable, "not tried with this algorithm and key")
		return
	}
	d := h.New()
	d.Write(s.attrs.der)
	ok := false
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(key, h, d.Sum(nil), s.value) == nil
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(key, d.Sum(nil), s.value)
	}
	if ok {
		r.passed(CheckSignature, "")
	} else {
		r.passed(CheckSignature, "it does not verify with the key of certificate "+serialOf(cert))
	}
}

func (s *signerInfo) signingCertificate(r *Result, cert *x509.Certificate, required bool) {
	id := s.attrs.certificate
	if id == nil {
		o := NotDecidable
		if required {
			o = Failed
		}
		r.set(CheckSigningCertificate, o, "the attribute is not there")
		return
	}
	h := id.hash.hash()
	if h == 0 {
		r.passed(CheckSigningCertificate, fmt.Sprintf("digest %v, wanted SHA-256, SHA-384 or SHA-512", id.hash.oid))
		return
	}
	d := h.New()
	d.Write(cert.Raw)
	switch {
	case !bytes.Equal(d.Sum(nil), id.digest):
		r.passed(CheckSigningCertificate, "it names another certificate than "+serialOf(cert)+" by its hash")
	case id.issuer != nil && (!bytes.Equal(id.issuer, cert.RawIssuer) || id.serial.Cmp(cert.SerialNumber) != 0):
		r.passed(CheckSigningCertificate, "it names another certificate than "+serialOf(cert)+" by issuer and serial number")
	default:
		r.passed(CheckSigningCertificate, "")
	}
}

func (s *signerInfo) signingTime(r *Result, cert *x509.Certificate) {
	t := s.attrs.signingTime
	switch {
	case t.IsZero():
		r.set(CheckSigningTime, NotDecidable, "the attribute is not there")
	case t.Before(cert.NotBefore) || t.After(cert.NotAfter):
		r.passed(CheckSigningTime, fmt.Sprintf("%s, and the certificate is valid from %s to %s",
			stamp(t), stamp(cert.NotBefore), stamp(cert.NotAfter)))
	default:
		r.passed(CheckSigningTime, "")
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (o *VerifyOptions) expected(r *Result, cert *x509.Certificate) {
	switch {
	case o.Certificate == nil && o.PublicKey == nil:
		r.set(CheckExpectedSigner, NotDecidable, "no signer was named")
	case o.Certificate != nil && !o.Certificate.Equal(cert):
		r.passed(CheckExpectedSigner, fmt.Sprintf("certificate %s, wanted %s", serialOf(cert), serialOf(o.Certificate)))
	case o.PublicKey != nil && !bytes.Equal(o.PublicKey, cert.RawSubjectPublicKeyInfo):
		r.passed(CheckExpectedSigner, "certificate "+serialOf(cert)+" has another key than the expected one")
	default:
		r.passed(CheckExpectedSigner, "")
	}
}

func (o *VerifyOptions) chain(r *Result, s *signature, cert *x509.Certificate) {
	if o.Roots == nil {
		r.set(CheckChain, NotDecidable, "no roots were given")
		return
	}
	intermediates := x509.NewCertPool()
	if o.Intermediates != nil {
		intermediates = o.Intermediates.Clone()
	}
	for _, c := range s.certs {
		intermediates.AddCert(c)
	}
	chains, err := cert.Verify(x509.VerifyOptions{
		Roots: o.Roots, Intermediates: intermediates, CurrentTime: o.At,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		r.passed(CheckChain, clip(fmt.Sprintf("at %s: %v", stamp(o.At), err), 512))
		return
	}
	r.Chain = chains[0]
	r.passed(CheckChain, "")
}
