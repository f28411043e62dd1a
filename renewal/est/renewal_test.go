package est_test

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/renewal"
	"github.com/rxguard/rxguard/renewal/est"
)

// profile has openssl make the attributes of a signing profile (RFC 7030 4.5.2): RSA
// of 2048 bits, SHA-384, a critical key usage of contentCommitment (bit 1), and
// something that nobody knows.
const profile = `asn1 = SEQUENCE:attributes
[attributes]
key = SEQUENCE:rsa
hash = OID:sha384WithRSAEncryption
extensions = SEQUENCE:request
unknown = OID:1.3.6.1.4.1.99999.1
[rsa]
type = OID:rsaEncryption
values = SET:bits
[bits]
n = INTEGER:2048
[request]
type = OID:extReq
values = SET:one
[one]
value = SEQUENCE:extensions
[extensions]
first = SEQUENCE:usage
[usage]
id = OID:keyUsage
critical = BOOLEAN:TRUE
value = OCTWRAP,FORMAT:BITLIST,BITSTRING:1
`

// openssl runs it in a folder, and answers what it said.
func openssl(t *testing.T, dir string, args ...string) string {
	t.Helper()
	c := exec.Command(need.Tool(t, "openssl", "openssl"), args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	require.NoError(t, err, "openssl %s: %s", strings.Join(args, " "), out)
	return string(out)
}

func write(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// A renewal in front of a server that wishes for attributes and lets it wait, once in
// seconds and once with a date: the card authenticates with its authentication
// certificate and no other, over TLS 1.3 where it makes RSASSA-PSS; the request is as
// the server wishes and stays the same; and openssl reads and verifies request and
// certificate.
func TestARenewalAsTheServerWishes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "profile", []byte(profile))
	openssl(t, dir, "asn1parse", "-genconf", "profile", "-noout", "-out", "attributes")
	attributes, err := os.ReadFile(filepath.Join(dir, "attributes"))
	require.NoError(t, err)
	for _, x := range []struct {
		pss     bool
		version uint16
	}{{true, tls.VersionTLS13}, {false, tls.VersionTLS12}} {
		t.Run(fmt.Sprintf("RSASSA-PSS %t, %s", x.pss, tls.VersionName(x.version)), func(t *testing.T) {
			o := newOffice(t, testcard.Config{PSS: x.pss})
			s, err := testcard.NewServer(testcard.ServerConfig{CA: o.ca, Attributes: attributes})
			require.NoError(t, err)
			t.Cleanup(func() { s.Close() })
			s.Script(testcard.Sequence(testcard.Pending(90*time.Second), testcard.PendingUntil(theTime.Add(48*time.Hour))))
			cfg := est.Config{URL: s.URL(), Label: testcard.SigningESTLabel, Roots: s.Roots(), Anchors: o.ca.Roots()}
			for _, wait := range []time.Duration{90 * time.Second, 48 * time.Hour} {
				res, err := o.renew(t, cfg)
				require.Equal(t, renewal.Pending, res.Outcome, "%v", err)
				require.Equal(t, theTime.Add(wait), res.Until)
				o.now = res.Until
			}
			res, err := o.renew(t, cfg)
			require.NoError(t, err)
			require.Equal(t, renewal.ReseatCard, res.Outcome)

			asked := map[string]int{}
			var bodies []string
			for _, q := range s.Requests() {
				if q.Client == nil { // for the plan, before the passcode
					require.Equal(t, "cacerts", q.Operation)
					continue
				}
				asked[q.Operation]++
				require.Equal(t, o.auth.Raw, q.Client.Raw, q.Operation)
				require.Equal(t, x.version, q.TLS)
				if q.Operation == "simplereenroll" {
					bodies = append(bodies, string(q.Body))
				}
			}
			require.Equal(t, map[string]int{"cacerts": 4, "csrattrs": 1, "simplereenroll": 3}, asked)
			require.Equal(t, []string{bodies[0], bodies[0], bodies[0]}, bodies)
			require.Zero(t, o.sim.Signatures(testcard.SigningID()))

			require.Len(t, s.Issued(), 1)
			got := s.Issued()[0]
			write(t, dir, "csr", got.Request)
			said := openssl(t, dir, "req", "-inform", "DER", "-in", "csr", "-noout", "-verify", "-text", "-subject")
			for _, want := range []string{"verify OK", "Public-Key: (2048 bit)", "Signature Algorithm: sha384WithRSAEncryption", "X509v3 Key Usage: critical", "Non Repudiation"} {
				require.Contains(t, said, want)
			}
			write(t, dir, "leaf", certificatePEM(got.Certificate.Raw))
			write(t, dir, "issuing", certificatePEM(o.ca.IssuingCertificate().Raw))
			write(t, dir, "root", certificatePEM(o.ca.RootCertificate().Raw))
			said = openssl(t, dir, "verify", "-attime", fmt.Sprint(o.now.Unix()), "-CAfile", "root", "-untrusted", "issuing", "leaf")
			require.Contains(t, said, "leaf: OK")
			require.Equal(t, openssl(t, dir, "req", "-inform", "DER", "-in", "csr", "-noout", "-pubkey"), openssl(t, dir, "x509", "-in", "leaf", "-noout", "-pubkey"))
		})
	}
}

// A label's profile that is not for signing is told before anything happens.
func TestAProfileThatIsNotForSigningIsToldBeforeTheCardIsTouched(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "profile", []byte(strings.ReplaceAll(profile, "BITSTRING:1", "BITSTRING:0"))) // digitalSignature
	openssl(t, dir, "asn1parse", "-genconf", "profile", "-noout", "-out", "attributes")
	attributes, err := os.ReadFile(filepath.Join(dir, "attributes"))
	require.NoError(t, err)
	o := newOffice(t, testcard.Config{PSS: true})
	s, err := testcard.NewServer(testcard.ServerConfig{CA: o.ca, Attributes: attributes})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	before := o.objects(t)
	res, err := o.renew(t, est.Config{URL: s.URL(), Roots: s.Roots()})
	var ee *renewal.EnrolError
	require.ErrorAs(t, err, &ee)
	require.Equal(t, renewal.Rejected, ee.Kind)
	require.ErrorContains(t, err, "a key usage without contentCommitment")
	require.Contains(t, res.Text, "The card was not changed.")
	o.onlyKeys(t, before, 0)
	require.Zero(t, o.changes(testcard.OpGenerate, testcard.OpDestroy))
	for _, q := range s.Requests() {
		require.NotContains(t, q.Operation, "enroll")
	}
}
