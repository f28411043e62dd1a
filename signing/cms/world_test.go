package cms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/tbs"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
)

const thePIN = "271828"

var (
	issued = time.Date(2021, 3, 1, 12, 0, 0, 0, time.UTC)
	signed = time.Date(2021, 6, 1, 9, 30, 15, 0, time.UTC)
	text   = []byte("one order, one line\nanother line\n")

	theCA = sync.OnceValue(func() *testcard.CA {
		return must(testcard.NewCA(testcard.CAConfig{CachedKeys: true}))
	})
	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	otherKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ecKey    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// keys are the two kinds that cards have.
func keys() map[string]crypto.Signer {
	return map[string]crypto.Signer{"RSA": rsaKey(), "P-256": ecKey()}
}

// certify issues a signing certificate.
func certify(key crypto.Signer) *x509.Certificate {
	return must(theCA().Issue(testcard.Signing, key.Public(), testcard.IssueOptions{Subject: testcard.Subject("123456789012"), NotBefore: issued, NotAfter: issued.AddDate(60, 0, 0)}))
}

// bind has a document make the message for a certificate, as the Signer does.
func bind(d interface{ ToBeSigned() (tbs.Message, error) }, cert *x509.Certificate, at time.Time) (tbs.Message, error) {
	m, err := d.ToBeSigned()
	if err != nil {
		return m, err
	}
	return tbs.Bind(m, func() *x509.Certificate { return cert }, at)
}

// signAt signs a document as the Signer does, with a key in memory.
func signAt(c *Content, key crypto.Signer, cert *x509.Certificate, at time.Time) (*Signed, error) {
	m, err := bind(c, cert, at)
	if err != nil {
		return nil, err
	}
	value := must(key.Sign(rand.Reader, tbs.Digest(m), tbs.Hash(m)))
	return c.Finish(tbs.Signed(m, value, func() *x509.Certificate { return cert }))
}

// memory is a Recorder.
type memory struct {
	mu      sync.Mutex
	entries []signing.Entry
}

func (m *memory) Record(ctx context.Context, e signing.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries = append(m.entries, e)
	return ctx.Err()
}

func (m *memory) all() []signing.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.entries)
}

// desk is a Signer on a simulated card.
type desk struct {
	sim    *testcard.Card
	cert   *x509.Certificate
	signer *signing.Signer
	record *memory
}

func newDesk(t testing.TB, key crypto.Signer) *desk {
	t.Helper()
	d := &desk{record: &memory{}}
	var err error
	d.sim, err = testcard.New(testcard.Config{Serial: "c0ffee", PIN: []byte(thePIN)})
	require.NoError(t, err)
	_, d.cert, err = d.sim.ProvisionPrescriber(theCA(), testcard.Prescriber{
		UID: "123456789012", NotBefore: issued, NotAfter: issued.AddDate(60, 0, 0), AuthenticationKey: rsaKey(), SigningKey: key,
	})
	require.NoError(t, err)
	c, err := signing.Open(t.Context(), signing.Config{Reader: card.NewReader(d.sim.Token(), t.TempDir()), PIN: passcode})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	g, err := guard.New(guard.Config{})
	require.NoError(t, err)
	d.signer, err = signing.NewAsOf(c, g, d.record, func() time.Time { return signed.Add(123 * time.Millisecond) })
	require.NoError(t, err)
	return d
}

func passcode(context.Context, signing.PINRequest) ([]byte, error) { return []byte(thePIN), nil }

// uses counts the signatures that the card's key made.
func (d *desk) uses() int { return d.sim.Signatures(testcard.SigningID()) }

// opensslVerify has OpenSSL verify a signature: -binary, DER, roots of the test CA.
func opensslVerify(t testing.TB, der, detached []byte, more ...string) ([]byte, error) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, b, 0o600))
		return name
	}
	roots := write("roots.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: theCA().RootCertificate().Raw}))
	args := []string{"cms", "-verify", "-binary", "-inform", "DER", "-in", write("signature", der), "-CAfile", roots, "-no-CApath", "-no-CAstore", "-out", filepath.Join(dir, "out")}
	if detached != nil {
		args = append(args, "-content", write("content", detached))
	}
	said, err := exec.Command(need.Tool(t, "openssl", "openssl"), append(args, more...)...).CombinedOutput()
	if err != nil {
		return said, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "out"))
	require.NoError(t, err)
	return b, nil
}

// authorities are what verifiers need beside the root.
func authorities() []*x509.Certificate { return []*x509.Certificate{theCA().IssuingCertificate()} }

func digestOf(b []byte) []byte {
	d := sha256.Sum256(b)
	return d[:]
}

// vector is a file of testdata, all of which OpenSSL made.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return b
}

func certificate(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(vector(t, name+".pem"))
	require.NotNil(t, block)
	c, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return c
}

func pool(certs ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}
