package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/tbs"
	"github.com/rxguard/rxguard/signing/eps"
	"github.com/rxguard/rxguard/signing/signingtest"
)

// program is the built command.
var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "rxguard-program-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil { // one test runs it as another user
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		program = filepath.Join(dir, "rxguard")
		if runtime.GOOS == "windows" {
			program += ".exe"
		}
		if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, ".").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
			return 1
		}
		return m.Run()
	}())
}

// done is how a run of the program ended.
type done struct {
	code        int
	out, errors string
}

// start prepares a run of the program, which is ended when it takes too long.
func start(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, program, args...)
}

func finish(t *testing.T, cmd *exec.Cmd) done {
	t.Helper()
	return finishWith(t, cmd, make(chan struct{}))
}

// finishWith closes started once the program runs.
func finishWith(t *testing.T, cmd *exec.Cmd, started chan struct{}) done {
	t.Helper()
	var out, errs bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	cmd.Stderr = &errs
	err := cmd.Start()
	require.NoError(t, err)
	close(started)
	err = cmd.Wait()
	if exit := new(exec.ExitError); !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	d := done{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
	require.NotContains(t, d.errors, "goroutine ", "a fault")
	return d
}

func run(t *testing.T, args ...string) done {
	t.Helper()
	return finish(t, start(t, args...))
}

func runWith(t *testing.T, stdin io.Reader, args ...string) done {
	t.Helper()
	cmd := start(t, args...)
	cmd.Stdin = stdin
	return finish(t, cmd)
}

// signedAt is when the synthetic prescriptions are signed.
var signedAt = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

const (
	user          = "555000000001"
	signingPolicy = "1.2.826.0.1275.102.0.3.2.0"
)

// world is a root, an issuing CA below it and a prescriber's signing certificate.
type world struct {
	rootKey, caKey, key *rsa.PrivateKey
	root, ca, leaf      *x509.Certificate
}

// keys are made once.
var keys = sync.OnceValue(func() [4]*rsa.PrivateKey {
	var keys [4]*rsa.PrivateKey
	for i := range keys {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys[i] = k
	}
	return keys
})

func name(cn string) pkix.Name {
	return pkix.Name{Organization: []string{"rxguard simulation"}, CommonName: cn}
}

func issue(t *testing.T, c, parent *x509.Certificate, public crypto.PublicKey, key *rsa.PrivateKey) *x509.Certificate {
	t.Helper()
	sum := sha256.Sum256([]byte(c.Subject.CommonName))
	c.SubjectKeyId = sum[:20]
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert
}

func newWorld(t *testing.T) *world {
	t.Helper()
	k := keys()
	w := &world{rootKey: k[0], caKey: k[1], key: k[2]}
	authority := func(serial int64, cn string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: name(cn), NotBefore: signedAt.AddDate(-5, 0, 0), NotAfter: signedAt.AddDate(5, 0, 0),
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
		}
	}
	root := authority(0x1001, "Simulated Root")
	w.root = issue(t, root, root, &w.rootKey.PublicKey, w.rootKey)
	ca := authority(0x1002, "Simulated Level 1")
	ca.CRLDistributionPoints = []string{"http://crl.example/root.crl"}
	w.ca = issue(t, ca, w.root, &w.caKey.PublicKey, w.rootKey)
	w.leaf = w.issueLeaf(t, w.ca, w.caKey, signingPolicy)
	return w
}

// impostor has the CA's name and key id, and another key.
func (w *world) impostor(t *testing.T) *x509.Certificate {
	t.Helper()
	c := *w.ca
	c.PublicKey = &keys()[3].PublicKey
	return issue(t, &c, &c, &keys()[3].PublicKey, keys()[3])
}

// issueLeaf makes a certificate for the prescriber.
func (w *world) issueLeaf(t *testing.T, ca *x509.Certificate, key *rsa.PrivateKey, policies ...string) *x509.Certificate {
	t.Helper()
	var oids []x509.OID
	for _, p := range policies {
		oid, err := x509.ParseOID(p)
		require.NoError(t, err)
		oids = append(oids, oid)
	}
	subject := name(user + "_Simulated_Prescriber")
	subject.OrganizationalUnit = []string{"People"}
	return issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(0x5eed0001), Subject: subject,
		NotBefore: signedAt.AddDate(-1, 0, 0), NotAfter: signedAt.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageContentCommitment, Policies: oids,
		CRLDistributionPoints: []string{"http://crl.example/level1.crl"},
	}, ca, &w.key.PublicKey, key)
}

// crl makes a list.
func crl(t *testing.T, issuer *x509.Certificate, key *rsa.PrivateKey, revoked ...x509.RevocationListEntry) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: signedAt.Add(-time.Hour), NextUpdate: signedAt.AddDate(0, 0, 30), RevokedCertificateEntries: revoked,
	}, issuer, key)
	require.NoError(t, err)
	return der
}

// sign signs every prescription of a message with the leaf.
func (w *world) sign(t *testing.T, message []byte) []byte {
	t.Helper()
	m, err := eps.ParseMessage(message, eps.ReadOptions{MaxBytes: len(message)})
	require.NoError(t, err)
	var signed []*eps.SignedPrescription
	for _, p := range m.Prescriptions() {
		msg, err := p.ToBeSigned()
		require.NoError(t, err)
		value, err := rsa.SignPKCS1v15(nil, w.key, tbs.Hash(msg), tbs.Digest(msg))
		require.NoError(t, err)
		s, err := p.Finish(tbs.Signed(msg, value, func() *x509.Certificate { return w.leaf }))
		require.NoError(t, err)
		signed = append(signed, s)
	}
	out, err := m.Fill(signed...)
	require.NoError(t, err)
	return out
}

// files is a folder with what a run needs.
type files struct {
	t   *testing.T
	dir string
}

func newFiles(t *testing.T) files { return files{t, t.TempDir()} }

func (f files) write(name string, b []byte) string {
	f.t.Helper()
	p := filepath.Join(f.dir, name)
	require.NoError(f.t, os.WriteFile(p, b, 0o644))
	return p
}

func (f files) pem(name, label string, ders ...[]byte) string {
	f.t.Helper()
	var b bytes.Buffer
	for _, der := range ders {
		require.NoError(f.t, pem.Encode(&b, &pem.Block{Type: label, Bytes: der}))
	}
	return f.write(name, b.Bytes())
}

// simulation is a world on disk: a signed message, its CAs and their empty lists.
type simulation struct {
	*world
	files
	message  string
	ca, root string
	crl, arl string
}

func simulate(t *testing.T, c signingtest.MessageConfig) *simulation {
	t.Helper()
	w, f := newWorld(t), newFiles(t)
	c.At, c.User = signedAt, user
	return &simulation{
		world: w, files: f,
		message: f.write("message.xml", w.sign(t, signingtest.Message(c))),
		ca:      f.pem("ca.pem", "CERTIFICATE", w.ca.Raw), root: f.pem("root.pem", "CERTIFICATE", w.root.Raw),
		crl: f.pem("ca.crl", "X509 CRL", crl(t, w.ca, w.caKey)), arl: f.write("root.crl", crl(t, w.root, w.rootKey)),
	}
}

// verify runs it with all that it needs, and more arguments.
func (s *simulation) verify(more ...string) done {
	s.t.Helper()
	return run(s.t, s.args(more...)...)
}

func (s *simulation) args(more ...string) []string {
	return append([]string{"verify", "--ca", s.ca, "--ca", s.root, "--crl", s.crl, "--crl", s.arl}, more...)
}

// plain takes the folder out of what was printed, to compare it.
func (s *simulation) plain(out string) string {
	return strings.ReplaceAll(out, s.dir+string(filepath.Separator), "")
}
