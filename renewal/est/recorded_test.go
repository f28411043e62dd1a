package est

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/renewal"
)

// byOpenssl runs openssl in a folder with these files.
func byOpenssl(t *testing.T, files map[string][]byte, args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	c := exec.Command(need.Tool(t, "openssl", "openssl"), args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	return string(out), err
}

func pemOf(ders ...[]byte) []byte {
	var b bytes.Buffer
	for _, der := range ders {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return b.Bytes()
}

// opensslAgrees has openssl verify the request, and the certificate up to the last of
// the chain at an instant.
func opensslAgrees(t *testing.T, csr []byte, a renewal.Answer, at time.Time) {
	t.Helper()
	out, err := byOpenssl(t, map[string][]byte{"csr": csr}, "req", "-inform", "DER", "-in", "csr", "-noout", "-verify")
	require.NoError(t, err, out)
	require.Contains(t, out, "verify OK")
	require.NotEmpty(t, a.Chain)
	anchor := a.Chain[len(a.Chain)-1]
	out, err = byOpenssl(t, map[string][]byte{"leaf": pemOf(a.Certificate), "chain": pemOf(a.Chain...), "anchor": pemOf(anchor)},
		"verify", "-attime", fmt.Sprint(at.Unix()), "-CAfile", "anchor", "-untrusted", "chain", "leaf")
	require.NoError(t, err, out)
	require.Contains(t, out, "leaf: OK")
}

// nameIs is a transport whose certificate has a subject, of no authority.
func nameIs(t *testing.T, subject []byte) *renewal.Transport {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), RawSubject: subject, NotBefore: instant, NotAfter: instant.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	c, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return renewal.SoftwareTransport(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: c}, clock)
}

// What two other EST servers sent, byte for byte and over TLS, to this client.
func TestRecordedAnswersOverTLS(t *testing.T) {
	w := newWorld(t)
	block, _ := pem.Decode(need.Read(t, "est", "new.csr"))
	require.NotNil(t, block)
	recorded, err := x509.ParseCertificateRequest(block.Bytes)
	require.NoError(t, err)
	then := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC) // the certificates are of November 2026
	as := nameIs(t, recorded.RawSubject)
	served := func(t *testing.T, cacerts, enrol []byte) string {
		give := func(b []byte) http.HandlerFunc {
			return reply(200, "application/pkcs7-mime; smime-type=certs-only", string(b))
		}
		return w.serverOf(t, give(cacerts), give(enrol), func(c *tls.Config) { c.ClientAuth = tls.RequestClientCert }).URL
	}
	file := func(name string) []byte { return need.Read(t, "est", name) }

	for name, row := range map[string]struct {
		cacerts, enrol []byte
		subjects       []string // of cacerts
		now            time.Time
		anchors        *x509.CertPool
		serial         string // of the certificate, which is good; "": refused
		kind           renewal.EnrolKind
		says           string
	}{
		"a Go server's, in lines of CRLF, to its own request": {
			file("globalsign-cacerts.b64"), file("globalsign-simplereenroll.b64"), []string{"CN=Test Level 1D CA,O=NHS,C=GB"},
			then, nil, "73eecc2a92f4141827bc57a452ef03ab", 0, "",
		},
		"the same, after its certificate expired": {
			file("globalsign-cacerts.b64"), file("globalsign-simplereenroll.b64"), []string{"CN=Test Level 1D CA,O=NHS,C=GB"},
			then.AddDate(1, 0, 0), nil, "", renewal.WrongCertificate, "the certificate has expired: notAfter 2027-02-21T12:21:14Z",
		},
		"the same, where another authority is trusted": {
			file("globalsign-cacerts.b64"), file("globalsign-simplereenroll.b64"), []string{"CN=Test Level 1D CA,O=NHS,C=GB"},
			then, w.ca.Roots(), "", renewal.WrongCertificate, `the certificate of issuer "CN=Test Level 1D CA,O=NHS,C=GB" does not chain to Config.Anchors`,
		},
		"a C server's, in lines of LF, to another's request": {
			file("libest-cacerts.b64"), file("libest-simpleenroll.b64"), []string{"CN=estExampleCA"},
			then, nil, "", renewal.WrongCertificate, `a certificate for another key: key sha256:`,
		},
		"authorities in place of a certificate": {
			file("globalsign-cacerts.b64"), file("globalsign-cacerts.b64"), []string{"CN=Test Level 1D CA,O=NHS,C=GB"},
			then, nil, "", renewal.WrongCertificate, `a certificate for another key: key sha256:`,
		},
		"certificates without the field of lists, in base64": {
			lines(file("openssl-style-nocrl.p7")), file("globalsign-simplereenroll.b64"), []string{"CN=Test Level 1D CA,O=NHS,C=GB"},
			then, nil, "73eecc2a92f4141827bc57a452ef03ab", 0, "",
		},
		"authorities in DER": {
			file("globalsign-cacerts.p7"), nil, nil, then, nil, "", renewal.Malformed, "not base64, expected base64 of PKCS #7",
		},
		"a certificate in DER": {
			file("globalsign-cacerts.b64"), file("openssl-style-nocrl.p7"), []string{"CN=Test Level 1D CA,O=NHS,C=GB"},
			then, nil, "", renewal.Malformed, "not base64, expected base64 of PKCS #7",
		},
	} {
		t.Run(name, func(t *testing.T) {
			url := served(t, row.cacerts, row.enrol)
			c := w.client(t, url, func(c *Config) { c.Anchors = row.anchors })
			if row.subjects != nil {
				certs, err := c.CACerts(t.Context(), as)
				require.NoError(t, err)
				var subjects []string
				for _, c := range certs {
					subjects = append(subjects, c.Subject.String())
				}
				require.Equal(t, row.subjects, subjects)
			}
			a, err := c.Enrol(t.Context(), as, renewal.Request{ID: "one", CSR: recorded.Raw, Now: row.now})
			if row.serial == "" {
				enrolment(t, err, row.kind, row.says)
				require.Zero(t, a)
				return
			}
			require.NoError(t, err)
			got, err := x509.ParseCertificate(a.Certificate)
			require.NoError(t, err)
			require.Equal(t, row.serial, fmt.Sprintf("%x", got.SerialNumber))
			opensslAgrees(t, recorded.Raw, a, row.now)
		})
	}

	// The request that the C server answered was not kept: only whom its answer is from.
	t.Run("a C server's, up to its own root", func(t *testing.T) {
		c := w.client(t, served(t, file("libest-cacerts.b64"), nil), nil)
		authorities, err := c.CACerts(t.Context(), as)
		require.NoError(t, err)
		certs, err := parseAnswer(file("libest-simpleenroll.b64"))
		require.NoError(t, err)
		require.Len(t, certs, 1)
		chain, err := c.verify(certs[0], authorities, authorities, then)
		require.NoError(t, err)
		require.Equal(t, authorities, chain[1:])
		opensslAgrees(t, recorded.Raw, renewal.Answer{Certificate: certs[0].Raw, Chain: raw(chain[1:])}, then)
	})
}
