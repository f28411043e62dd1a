//go:build cgo

package cms

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/p11"
	"github.com/rxguard/rxguard/internal/testcard/modules"
	"github.com/rxguard/rxguard/signing"
)

// soft are the tokens of this process, by their label: SoftHSM does not see those
// that come after it was loaded.
var soft struct {
	module string
	certs  map[string]*x509.Certificate
}

// softTokens makes a token for each kind of key, with a certificate.
func softTokens(t *testing.T) {
	t.Helper()
	if soft.certs != nil {
		return
	}
	util := need.Tool(t, "softhsm2-util", "softhsm2")
	certs := make(map[string]*x509.Certificate)
	for label, key := range keys() {
		soft.module = modules.SoftHSM(t, label, thePIN, "31415926").Module
		file := filepath.Join(t.TempDir(), "key.pem")
		pkcs8 := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))})
		require.NoError(t, os.WriteFile(file, pkcs8, 0o600))
		out, err := exec.Command(util, "--import", file, "--token", label, "--label", "signing", "--id", "02", "--pin", thePIN).CombinedOutput()
		require.NoError(t, err, "%s", out)
		certs[label] = certify(key)
	}
	m, err := p11.Open(context.Background(), soft.module, p11.Options{})
	require.NoError(t, err)
	for label, cert := range certs {
		writeCertificate(t, m, label, cert)
	}
	soft.certs = certs
}

// The real journey: a token of SoftHSM, the Signer by the machine's clock, and
// OpenSSL at the end of it.
func TestSoftHSMSignsWhatOpenSSLVerifies(t *testing.T) {
	softTokens(t)
	for label, cert := range soft.certs {
		t.Run(label, func(t *testing.T) {
			c, err := signing.Open(t.Context(), signing.Config{Module: soft.module, Token: label, PIN: passcode})
			require.NoError(t, err)
			defer c.Close()
			g, err := guard.New(guard.Config{})
			require.NoError(t, err)
			signer, err := signing.New(c, g, &memory{})
			require.NoError(t, err)
			for form, content := range map[string]*Content{
				"detached": Detached(text, Options{Certificates: authorities()}),
				"attached": Attached(text, Options{Certificates: authorities()}),
			} {
				t.Run(form, func(t *testing.T) {
					before := time.Now().Truncate(time.Second)
					s, err := signing.Sign(t.Context(), signer, content)
					require.NoError(t, err)
					assert.WithinRange(t, s.SigningTime(), before, time.Now())
					assert.Equal(t, cert.Raw, s.Certificate().Raw)
					var detached []byte
					if form == "detached" {
						detached = text
					}
					out, err := opensslVerify(t, s.DER(), detached, "-cades")
					require.NoError(t, err, "%s", out)
					assert.Equal(t, text, out)
					r, err := Verify(s.DER(), VerifyOptions{Content: text, Roots: theCA().Roots(), At: time.Now(), RequireSigningCertificate: true})
					require.NoError(t, err)
					assert.Equal(t, form == "attached", r.Attached)
				})
			}
		})
	}
}

// OpenSSL signs with the keys that SoftHSM held, and Verify reads it.
func TestOpenSSLSignsWhatIsVerified(t *testing.T) {
	openssl := need.Tool(t, "openssl", "openssl")
	for label, key := range keys() {
		cert, dir := certify(key), t.TempDir()
		write := func(name, kind string, b []byte) string {
			name = filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600))
			return name
		}
		keyFile := write("key.pem", "PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key)))
		certFile := write("cert.pem", "CERTIFICATE", cert.Raw)
		chainFile := write("chain.pem", "CERTIFICATE", theCA().IssuingCertificate().Raw)
		content := filepath.Join(dir, "content")
		require.NoError(t, os.WriteFile(content, text, 0o600))
		for form, more := range map[string][]string{"detached": nil, "attached": {"-nodetach"}} {
			t.Run(label+" "+form, func(t *testing.T) {
				out := filepath.Join(dir, form)
				said, err := exec.Command(openssl, append([]string{"cms", "-sign", "-binary", "-cades", "-md", "sha256", "-in", content, "-signer", certFile,
					"-inkey", keyFile, "-certfile", chainFile, "-outform", "DER", "-out", out}, more...)...).CombinedOutput()
				require.NoError(t, err, "%s", said)
				r, err := Verify(must(os.ReadFile(out)), VerifyOptions{Content: text, Roots: theCA().Roots(), At: time.Now(), RequireSigningCertificate: true, Certificate: cert})
				require.NoError(t, err)
				assert.Equal(t, form == "attached", r.Attached)
				assert.Equal(t, Passed, r.Outcome(CheckExpectedSigner))
			})
		}
	}
}

// writeCertificate puts a certificate beside the key of a token.
func writeCertificate(t *testing.T, m *p11.Module, label string, cert *x509.Certificate) {
	t.Helper()
	token, err := m.Token(t.Context(), p11.Select{Token: label}, nil)
	require.NoError(t, err)
	defer func() { assert.NoError(t, token.Close()) }()
	var s card.Session
	s, err = token.Open(t.Context())
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Login(t.Context(), []byte(thePIN)))
	require.NoError(t, s.WriteCertificate(t.Context(), []byte{2}, "signing", cert.Raw))
	require.NoError(t, s.Logout(t.Context()))
}
