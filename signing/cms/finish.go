package cms

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rxguard/rxguard/internal/tbs"
)

// Signed is a finished signature. Only signing.Sign makes one. It does not change and
// may be used by several goroutines.
type Signed struct {
	der    []byte
	result *Result
}

// DER returns a copy of the SignedData, in a ContentInfo (RFC 5652 3): what is kept
// in files named .p7s, or .p7m where the content is attached.
func (s *Signed) DER() []byte {
	if s == nil {
		return nil
	}
	return bytes.Clone(s.der)
}

// Certificate returns the certificate whose key signed; nil of the zero Signed.
func (s *Signed) Certificate() *x509.Certificate {
	if s == nil || s.result == nil {
		return nil
	}
	return s.result.Certificate
}

// SigningTime returns the signing time attribute, in whole seconds UTC: when the
// Signer's clock said that the guard allowed the signature.
func (s *Signed) SigningTime() time.Time {
	if s == nil || s.result == nil {
		return time.Time{}
	}
	return s.result.SigningTime
}

// Checks returns what was checked on the finished bytes before they were released,
// and what could not be.
func (s *Signed) Checks() []Check {
	if s == nil || s.result == nil {
		return nil
	}
	return slices.Clone(s.result.Checks)
}

// Finish turns the card's signature over c into the SignedData. It takes a signature
// over the signed attributes of this content and of the signature's own certificate
// only, reads the finished bytes back, and releases nothing unless everything that
// Verify checks without roots passes on them; otherwise the error is what Verify
// says. A certificate that Accepts refuses is a *CertificateError.
func (c *Content) Finish(sig tbs.Signature) (*Signed, error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	if sig.IsZero() {
		return nil, errors.New("cms: there is no signature, wanted the card's over this document")
	}
	of, cert := tbs.Of(sig), tbs.Certificate(sig)
	at, err := c.signedAt(of, cert)
	if err != nil {
		return nil, err
	}
	sd, err := c.signedData(cert, at)
	if err != nil {
		return nil, fmt.Errorf("cms: %w", err)
	}
	sd.GetSignedData().SignerInfos[0].EncryptedDigest = tbs.Value(sig)
	if !c.attached {
		sd.Detach()
	}
	der, err := sd.Finish()
	if err != nil {
		return nil, fmt.Errorf("cms: %w", err)
	}
	r, err := Verify(der, VerifyOptions{
		ContentDigest: c.digest[:], Certificate: cert, MinRSABits: minBits, RequireSigningCertificate: true,
	})
	if err != nil {
		return nil, fmt.Errorf("cms: nothing was released: %w", err)
	}
	if r.Attached != c.attached || !bytes.Equal(r.Content, c.content) || !r.SigningTime.Equal(at) {
		return nil, errors.New("cms: the SignedData reads back as something else than what was signed, nothing was released")
	}
	r.Content = nil
	return &Signed{der: der, result: r}, nil
}

// signedAt returns the signing time in a message, which must be this content's, made
// for cert and that time.
func (c *Content) signedAt(of tbs.Message, cert *x509.Certificate) (time.Time, error) {
	other := errors.New("cms: the signature is over another document, wanted one over this content's signed attributes")
	m, err := c.ToBeSigned()
	if err != nil {
		return time.Time{}, err
	}
	set, err := (&reader{in: tbs.Bytes(of)}).take("signedAttrs", tagSet)
	if err != nil {
		return time.Time{}, other
	}
	attrs, err := readAttributes(set)
	if err != nil {
		return time.Time{}, other
	}
	m, err = tbs.Bind(m, func() *x509.Certificate { return cert }, attrs.signingTime)
	if err != nil {
		return time.Time{}, err
	}
	if of != m {
		return time.Time{}, other
	}
	return attrs.signingTime, nil
}
