package est

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/rxguard/rxguard/renewal"
)

// clockSkew is how far in the future a new certificate's notBefore may lie: the
// authority's clock may be that much before the card's desk.
const clockSkew = 10 * time.Minute

// Enrol asks for a certificate for r.CSR. It may be called again with the same
// Request; an EST server may then issue twice (RFC 7030 has no way to ask first).
//
// Before anything is sent, a request that the server would have to refuse is
// Rejected: without TLS client authentication, with another subject than the TLS
// certificate's (RFC 7030 4.2.2), or not signed by its own key.
//
// The certificate that is returned is for the key and the subject of r.CSR, chains
// by signature to the anchors, and is valid at r.Now, or begins to be within 10
// minutes of it; else the error's kind is WrongCertificate. The chain is what it was
// verified with, the anchor last.
//
// Answer.Pending is the server's Retry-After counted from r.Now: a minute when it
// named no time to come, at most 30 days.
//
// Errors are an *renewal.EnrolError, or ctx's, wrapped. Status 408 (the server gave
// up waiting) is Unavailable, as 429 and 5xx are.
func (c *Client) Enrol(ctx context.Context, t *renewal.Transport, r renewal.Request) (renewal.Answer, error) {
	csr, err := checkRequest(t, r)
	if err != nil {
		return renewal.Answer{}, &renewal.EnrolError{Kind: renewal.Rejected, Detail: "nothing was sent", Err: err}
	}
	authorities, err := c.CACerts(ctx, t)
	if err != nil {
		return renewal.Answer{}, err
	}
	a, err := c.exchange(ctx, t, http.MethodPost, "simplereenroll", lines(r.CSR))
	if err != nil {
		return renewal.Answer{}, err
	}
	if a.pending {
		return renewal.Answer{Pending: pendingUntil(a.retryAfter, r.Now)}, nil
	}
	certs, err := parseAnswer(a.body)
	if err != nil {
		return renewal.Answer{}, a.malformed("", err)
	}
	leaf, err := choose(certs, csr)
	if err != nil {
		return renewal.Answer{}, a.wrong(err)
	}
	chain, err := c.verify(leaf, append(certs, authorities...), authorities, r.Now)
	if err != nil {
		return renewal.Answer{}, a.wrong(err)
	}
	found := renewal.Answer{Certificate: leaf.Raw}
	for _, ca := range chain[1:] {
		found.Chain = append(found.Chain, ca.Raw)
	}
	return found, nil
}

func (a *answer) wrong(err error) error {
	return &renewal.EnrolError{Kind: renewal.WrongCertificate, Status: http.StatusOK, Detail: a.what, Err: err}
}

// checkRequest refuses what need not be sent.
func checkRequest(t *renewal.Transport, r renewal.Request) (*x509.CertificateRequest, error) {
	if t == nil || t.AuthenticatesAs() == nil {
		return nil, fmt.Errorf("the transport has no TLS client certificate, expected the card's authentication certificate (RFC 7030 3.3.2)")
	}
	if r.Now.IsZero() {
		return nil, fmt.Errorf("Request.Now is zero, expected the instant to judge validity at")
	}
	csr, err := x509.ParseCertificateRequest(r.CSR)
	if err != nil {
		return nil, fmt.Errorf("Request.CSR is not PKCS #10 in DER: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("Request.CSR is not signed by the key that it names: %w", err)
	}
	if as := t.AuthenticatesAs(); !bytes.Equal(csr.RawSubject, as.RawSubject) {
		return nil, fmt.Errorf("the request's subject is %q, expected that of the TLS client certificate, %q, byte for byte (RFC 7030 4.2.2)",
			excerpt([]byte(csr.Subject.String())), excerpt([]byte(as.Subject.String())))
	}
	return csr, nil
}

// lines is base64 wrapped as openssl wraps it: some servers refuse one long line.
func lines(der []byte) []byte {
	const width = 64
	text := base64.StdEncoding.AppendEncode(nil, der)
	var b bytes.Buffer
	for len(text) > 0 {
		n := min(width, len(text))
		b.Write(text[:n])
		b.WriteByte('\n')
		text = text[n:]
	}
	return b.Bytes()
}

// choose finds the one certificate for the request's key and subject.
func choose(certs []*x509.Certificate, csr *x509.CertificateRequest) (*x509.Certificate, error) {
	key, ok := csr.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return nil, fmt.Errorf("the request's key is of a kind that cannot be compared: %T", csr.PublicKey)
	}
	var leaf *x509.Certificate
	for _, c := range certs {
		switch {
		case !key.Equal(c.PublicKey):
		case leaf == nil:
			leaf = c
		case !leaf.Equal(c):
			return nil, fmt.Errorf("two certificates for the request's key, serials %x and %x, expected one", leaf.SerialNumber, c.SerialNumber)
		}
	}
	if leaf == nil {
		return nil, fmt.Errorf("a certificate for another key: %s; expected one for the request's key %s, subject %q",
			describe(certs), keyHash(csr.RawSubjectPublicKeyInfo), excerpt([]byte(csr.Subject.String())))
	}
	if !bytes.Equal(leaf.RawSubject, csr.RawSubject) {
		return nil, fmt.Errorf("a certificate for another subject: %q, expected the request's, %q, byte for byte",
			excerpt([]byte(leaf.Subject.String())), excerpt([]byte(csr.Subject.String())))
	}
	return leaf, nil
}

// describe names the first certificates of an answer.
func describe(certs []*x509.Certificate) string {
	const most = 3
	var s []string
	for _, c := range certs[:min(most, len(certs))] {
		s = append(s, fmt.Sprintf("key %s, subject %q", keyHash(c.RawSubjectPublicKeyInfo), excerpt([]byte(c.Subject.String()))))
	}
	if n := len(certs) - most; n > 0 {
		s = append(s, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(s, "; ")
}

// keyHash is the beginning of the SHA-256 of a SubjectPublicKeyInfo.
func keyHash(spki []byte) string {
	h := sha256.Sum256(spki)
	return fmt.Sprintf("sha256:%x…", h[:8])
}

// verify finds a chain from the leaf to an anchor by signatures (RFC 5280 6.1). Key
// usage, policy and status of the leaf are the guard's to judge.
func (c *Client) verify(leaf *x509.Certificate, others, authorities []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	at := now
	switch {
	case now.After(leaf.NotAfter):
		return nil, fmt.Errorf("the certificate has expired: notAfter %s, judged at %s", stamp(leaf.NotAfter), stamp(now))
	case leaf.NotBefore.After(now.Add(clockSkew)):
		return nil, fmt.Errorf("the certificate is not yet valid: notBefore %s, judged at %s, expected at most %s later",
			stamp(leaf.NotBefore), stamp(now), clockSkew)
	case leaf.NotBefore.After(now):
		at = leaf.NotBefore.Add(time.Second)
	}
	roots, source := c.anchors, "Config.Anchors"
	if roots == nil {
		roots, source = poolOf(anchorsOf(authorities, at)), "the roots that cacerts sends"
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: poolOf(others),
		CurrentTime:   at,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, fmt.Errorf("the certificate of issuer %q does not chain to %s: %w", excerpt([]byte(leaf.Issuer.String())), source, told{err})
	}
	return chains[0], nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func poolOf(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}
