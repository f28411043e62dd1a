package testcard

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
)

// strongSwan is the EST client of strongSwan in front of a server, in a folder of its
// own. It goes by the machine's clock, and takes answers on one line alone.
type strongSwan struct {
	t      *testing.T
	dir    string
	server *Server
	pki    string
}

func newStrongSwan(t *testing.T, cfg ServerConfig) *strongSwan {
	t.Helper()
	const packages = "strongswan-pki libstrongswan-standard-plugins"
	p := &strongSwan{t: t, dir: t.TempDir(), pki: need.Tool(t, "pki", packages)}
	need.File(t, "the openssl plugin of strongSwan, for the curves of TLS", packages,
		"/usr/lib/ipsec/plugins/libstrongswan-openssl.so", "/usr/lib/*-linux-gnu*/ipsec/plugins/libstrongswan-openssl.so",
		"/usr/lib64/*swan/plugins/libstrongswan-openssl.so", "/usr/libexec/ipsec/plugins/libstrongswan-openssl.so")
	cfg.CA = testCA(t, CAConfig{})
	p.server = newServer(t, cfg)
	p.write("root.pem", cfg.CA.RootCertificate().Raw)
	p.write("issuing.pem", cfg.CA.IssuingCertificate().Raw)
	return p
}

func (p *strongSwan) write(name string, der []byte) {
	p.t.Helper()
	write(p.t, p.dir, name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// run runs pki, and answers what it printed.
func (p *strongSwan) run(args ...string) ([]byte, error) {
	p.t.Helper()
	c := exec.CommandContext(p.t.Context(), p.pki, args...)
	c.Dir = p.dir
	var said strings.Builder
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("pki %s: %w: %s", strings.Join(args, " "), err, said.String())
	}
	return out, err
}

func (p *strongSwan) must(args ...string) []byte {
	p.t.Helper()
	out, err := p.run(args...)
	require.NoError(p.t, err)
	return out
}

// request makes a key and a request for it, and answers the request.
func (p *strongSwan) request(name string) *x509.CertificateRequest {
	p.t.Helper()
	write(p.t, p.dir, name+".key", p.must("--gen", "--type", "rsa", "--size", "2048"))
	der := p.must("--req", "--in", name+".key", "--dn", "O="+Organization+", CN=123456789012_Simulated_Prescriber")
	write(p.t, p.dir, name+".req", der)
	csr, err := x509.ParseCertificateRequest(der)
	require.NoError(p.t, err)
	return csr
}

// est enrols the request name, and answers the certificate that pki trusts.
func (p *strongSwan) est(name string, args ...string) ([]byte, error) {
	p.t.Helper()
	return p.run(append([]string{"--est", "--url", p.server.URL(), "--in", name + ".req", "--cacert", "root.pem", "--cacert", "issuing.pem"}, args...)...)
}

// verified has openssl read and verify the request as it arrived and the certificate
// as it came.
func (p *strongSwan) verified(name string, der []byte, profile Profile) *x509.Certificate {
	p.t.Helper()
	t, openssl := p.t, need.Tool(p.t, "openssl", "openssl")
	issued := p.server.Issued()
	last := issued[len(issued)-1]
	assert.Equal(t, last.Certificate.Raw, der)
	assert.Equal(t, profile, last.Profile)
	write(t, p.dir, "arrived.req", last.Request)
	assert.Contains(t, run(t, p.dir, openssl, "req", "-inform", "DER", "-in", "arrived.req", "-noout", "-verify"), "verify OK")
	p.write(name+".pem", der)
	assert.Contains(t, run(t, p.dir, openssl, "verify", "-CAfile", "root.pem", "-untrusted", "issuing.pem", name+".pem"), "OK")
	assert.Equal(t,
		run(t, p.dir, openssl, "pkey", "-inform", "DER", "-in", name+".key", "-pubout"),
		run(t, p.dir, openssl, "x509", "-in", name+".pem", "-noout", "-pubkey"))
	return last.Certificate
}

func TestStrongSwanReadsTheAuthorities(t *testing.T) {
	p := newStrongSwan(t, ServerConfig{})
	p.must("--estca", "--url", p.server.URL(), "--cacert", "root.pem", "--cacert", "issuing.pem", "--caout", "came.pem", "--outform", "pem")
	for file, want := range map[string]*x509.Certificate{"came.pem": p.server.cfg.CA.RootCertificate(), "came-1.pem": p.server.cfg.CA.IssuingCertificate()} {
		b, err := os.ReadFile(filepath.Join(p.dir, file))
		require.NoError(t, err)
		block, _ := pem.Decode(b)
		require.NotNil(t, block)
		assert.Equal(t, want.Raw, block.Bytes)
	}
	openssl := need.Tool(t, "openssl", "openssl")
	assert.Contains(t, run(t, p.dir, openssl, "verify", "-CAfile", "came.pem", "came-1.pem"), "OK")
}

// From a first certificate, by a password, to the next, by the one before.
func TestStrongSwanEnrols(t *testing.T) {
	for _, chain := range []bool{false, true} {
		t.Run(fmt.Sprintf("the authority in the answer %t", chain), func(t *testing.T) {
			p := newStrongSwan(t, ServerConfig{User: "ward", Password: "a password", Chain: chain})
			csr := p.request("first")
			_, err := p.est("first")
			require.ErrorContains(t, err, "HTTP 401", "without a password")
			_, err = p.est("first", "--userpass", "ward:another")
			require.ErrorContains(t, err, "HTTP 401", "with another")
			require.Empty(t, p.server.Issued())

			der, err := p.est("first", "--userpass", "ward:a password")
			require.NoError(t, err)
			first := p.verified("first", der, Authentication)
			assert.Equal(t, csr.RawSubject, first.RawSubject)

			p.request("second")
			der, err = p.est("second", "--cert", "first.pem", "--key", "first.key")
			require.NoError(t, err)
			second := p.verified("second", der, Authentication)
			assert.NotEqual(t, first.PublicKey, second.PublicKey)
			requests := p.server.Requests()
			last := requests[len(requests)-1]
			assert.Equal(t, "simplereenroll", last.Operation)
			assert.Equal(t, first.Raw, last.Client.Raw, "TLS client authentication")

			// Of somebody else's key there is no certificate in one's name.
			write(t, p.dir, "second.key", readBytes(t, p.dir, "first.key"))
			_, err = p.est("second", "--cert", "second.pem", "--key", "second.key")
			require.Error(t, err)
			require.Len(t, p.server.Issued(), 2)
		})
	}
}

// Told to come back, the client asks again.
func TestStrongSwanWaits(t *testing.T) {
	p := newStrongSwan(t, ServerConfig{})
	csr := p.request("first")
	c, err := p.server.cfg.CA.Issue(Authentication, csr.PublicKey, IssueOptions{RawSubject: csr.RawSubject})
	require.NoError(t, err)
	p.write("old.pem", c.Raw)
	p.server.Script(Sequence(Pending(time.Second)))
	der, err := p.est("first", "--cert", "old.pem", "--key", "first.key", "--interval", "1") // Retry-After it does not read
	require.NoError(t, err)
	p.verified("first", der, Authentication)
	requests := p.server.Requests()
	require.Len(t, requests, 2)
	assert.Equal(t, requests[0].Body, requests[1].Body)
}
