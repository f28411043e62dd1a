package renewaltest_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/rxguard/rxguard/renewal"
)

// authority issues certificates in memory.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate

	mu        sync.Mutex
	issued    map[string][]byte // by Request.ID
	confirmed map[string]bool
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "An authority in memory"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{key: key, cert: cert, issued: map[string][]byte{}, confirmed: map[string]bool{}}, err
}

// issue makes a certificate for a key and a subject.
func (a *authority) issue(subject []byte, key any) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, RawSubject: subject, KeyUsage: x509.KeyUsageContentCommitment,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	}, a.cert, key, a.key)
}

func (a *authority) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.issued)
}

// channel is an Enroller that talks to an authority in memory, or to nobody at an
// address.
type channel struct {
	*authority
	address string
}

// reach fails where there is an address and nobody who answers.
func (c *channel) reach(ctx context.Context) error {
	if ctx.Err() != nil || c.address == "" {
		return ctx.Err()
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", c.address)
	if err == nil {
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		defer conn.Close()
		_, err = io.ReadAll(conn)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &renewal.EnrolError{Kind: renewal.Unreachable, Detail: c.address, Err: err}
}

func (c *channel) Enrol(ctx context.Context, _ *renewal.Transport, r renewal.Request) (renewal.Answer, error) {
	if err := c.reach(ctx); err != nil {
		return renewal.Answer{}, err
	}
	csr, err := x509.ParseCertificateRequest(r.CSR)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return renewal.Answer{}, &renewal.EnrolError{Kind: renewal.Rejected, Err: err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.issued[r.ID] == nil {
		if c.issued[r.ID], err = c.issue(csr.RawSubject, csr.PublicKey); err != nil {
			return renewal.Answer{}, &renewal.EnrolError{Kind: renewal.Unavailable, Err: err}
		}
	}
	return renewal.Answer{Certificate: bytes.Clone(c.issued[r.ID]), Chain: [][]byte{bytes.Clone(c.cert.Raw)}}, nil
}

func (c *channel) Probe(ctx context.Context, _ *renewal.Transport) error { return c.reach(ctx) }

func (c *channel) Confirm(ctx context.Context, _ *renewal.Transport, r renewal.Request, der []byte, p renewal.Proof) error {
	if err := c.reach(ctx); err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return &renewal.EnrolError{Kind: renewal.Rejected, Err: err}
	}
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok || !bytes.HasPrefix(p.Challenge, []byte(renewal.ChallengeDomain)) {
		return &renewal.EnrolError{Kind: renewal.Rejected, Err: errors.New("no proof")}
	}
	sum := sha256.Sum256(p.Challenge)
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], p.Signature); err != nil {
		return &renewal.EnrolError{Kind: renewal.Rejected, Err: err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.confirmed[r.ID] = true
	return nil
}
