package eps

import (
	"crypto/x509"
	"encoding/json"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/status"
	"github.com/rxguard/rxguard/internal/need"
)

// TestListsMadeByOpenSSL are read as what openssl was told to write.
func TestListsMadeByOpenSSL(t *testing.T) {
	openssl := need.Tool(t, "openssl", "openssl")
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	run := func(args ...string) {
		cmd := exec.Command(openssl, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%v: %s", args, out)
	}
	const point = "http://crl.example/int/crlc3.crl"
	write("ca.cnf", `[ca]
default_ca = d
[d]
database = index.txt
crlnumber = number
default_md = sha256
default_crl_days = 7
[partition]
authorityKeyIdentifier = keyid
issuingDistributionPoint = critical,@idp
[idp]
fullname = URI:`+point+`
onlyuser = TRUE
[relative]
authorityKeyIdentifier = keyid
issuingDistributionPoint = critical,@rel
[rel]
relativename = rdn
[rdn]
CN = CRL1
[other]
authorityKeyIdentifier = keyid
issuingDistributionPoint = critical,@idp2
[idp2]
fullname = URI:http://crl.example/int/crlc4.crl
[attributes]
issuingDistributionPoint = critical,@idp3
[idp3]
onlyAA = TRUE
[cas]
issuingDistributionPoint = critical,@idp4
[idp4]
onlyCA = TRUE
[req]
distinguished_name = dn
[dn]
[v3]
basicConstraints = critical,CA:TRUE
keyUsage = keyCertSign,cRLSign
subjectKeyIdentifier = hash
[leaf]
authorityKeyIdentifier = keyid
keyUsage = critical,nonRepudiation
crlDistributionPoints = p1,p2
[p1]
fullname = URI:`+point+`
[p2]
fullname = dirName:point
[point]
O = rxguard simulation
CN = openssl CA
1.CN = CRL1
`)
	write("index.txt", strings.Join([]string{
		"R\t300101000000Z\t200930000000Z,keyCompromise\t5EED\tunknown\t/CN=x",
		"R\t300101000000Z\t200930000000Z,superseded\t5EEE\tunknown\t/CN=x",
		"R\t300101000000Z\t200930000000Z\t5EEF\tunknown\t/CN=x",
		"R\t300101000000Z\t200930000000Z,holdInstruction,holdInstructionReject\t5EF0\tunknown\t/CN=x", ""}, "\n"))
	write("number", "0A\n")
	run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/O=rxguard simulation/CN=openssl CA", "-config", "ca.cnf", "-extensions", "v3", "-days", "9000")
	run("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/O=rxguard simulation/CN=leaf", "-config", "ca.cnf")
	run("x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", "leaf.der", "-outform", "DER", "-set_serial", "0x5EED", "-extfile", "ca.cnf", "-extensions", "leaf", "-days", "9000")
	der := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return b
	}
	run("x509", "-in", "ca.pem", "-out", "ca.der", "-outform", "DER")
	ca, err := x509.ParseCertificate(der("ca.der"))
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der("leaf.der"))
	require.NoError(t, err)

	for _, c := range []struct {
		section string
		covers  bool
	}{{"partition", true}, {"relative", true}, {"other", false}, {"attributes", false}, {"cas", false}} {
		t.Run(c.section, func(t *testing.T) {
			run("ca", "-gencrl", "-config", "ca.cnf", "-keyfile", "ca.key", "-cert", "ca.pem", "-crlexts", c.section, "-out", "crl.pem")
			run("crl", "-in", "crl.pem", "-out", "crl.der", "-outform", "DER")
			crl, err := status.Parse(der("crl.der"), 0)
			require.NoError(t, err)
			trust := newTrust([]*x509.Certificate{ca}, []*status.List{crl})
			l, err := trust.leaf(leaf.Raw)
			require.NoError(t, err)
			require.Len(t, l.by, 1)
			at := crl.ThisUpdate().Add(time.Minute)
			s := trust.statusOf(&l.listed, "CRL", at)
			if !c.covers {
				assert.Equal(t, NotDecidable, s.revoked.result)
				return
			}
			assert.Equal(t, Passed, s.signature.result)
			assert.Equal(t, Passed, s.age.result)
			assert.Equal(t, Failed, s.revoked.result)
			assert.Contains(t, s.revoked.why, "at 2020-09-30T00:00:00Z, reason 1 (keyCompromise)")
			with := func(serial int64) *listed {
				other := *leaf
				other.SerialNumber = big.NewInt(serial)
				c := newListed(&other)
				c.prepare(l.by)
				return &c
			}
			for serial, reason := range map[int64]status.Reason{0x5eee: status.Superseded, 0x5eef: status.Unspecified, 0x5ef0: status.CertificateHold} {
				e, ok := crl.Find(with(serial).subject)
				require.True(t, ok)
				assert.Equal(t, reason, e.Reason)
			}
			assert.Equal(t, passed, trust.statusOf(with(7), "CRL", at).revoked)
		})
	}
}

// TestPKITS has the paths and lists of NIST's Public Key Interoperability Test Suite:
// none that is to be refused passes, and those that are to be accepted do, apart from
// what is left out by design.
func TestPKITS(t *testing.T) {
	var cases []struct {
		Name              string
		CertPath, CRLPath []string
		ShouldValidate    bool
	}
	require.NoError(t, json.Unmarshal(need.Read(t, "pkits", "vectors.json"), &cases))
	at := time.Date(2011, 4, 15, 0, 0, 0, 0, time.UTC)
	leftOut := map[string]string{
		"4.1.4 Valid DSA Signatures Test4":            "DSA",
		"4.1.5 Valid DSA Parameter Inheritance Test5": "DSA",
		"4.14.4 Valid distributionPoint Test4":        "crypto/x509 reads no relative distribution points",
		"4.14.5 Valid distributionPoint Test5":        "crypto/x509 reads no relative distribution points",
		"4.14.29 Valid cRLIssuer Test29":              "crypto/x509 reads no relative distribution points",
	}
	counted := map[bool]int{}
	for _, c := range cases {
		section := ""
		for _, s := range []string{"4.1.", "4.2.", "4.3.", "4.4.", "4.6.", "4.7.", "4.14."} {
			if strings.HasPrefix(c.Name, s) {
				section = s
			}
		}
		if section == "" {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			var certs []*x509.Certificate
			for _, name := range c.CertPath {
				cert, err := x509.ParseCertificate(need.Read(t, "pkits", "certs", name))
				if err != nil {
					left := leftOut[c.Name] != ""
					assert.Equal(t, c.ShouldValidate, left, "%s: %v", name, err)
					return
				}
				certs = append(certs, cert)
			}
			var lists []*status.List
			for _, name := range c.CRLPath {
				if l, err := status.Parse(need.Read(t, "pkits", "crls", name), 0); err == nil {
					lists = append(lists, l)
				}
			}
			n := len(certs) - 1
			trust := newTrust(certs[:n], lists)
			l, err := trust.leaf(certs[n].Raw)
			require.NoError(t, err)
			issuing := best(l.by, at)
			cas := chain(issuing, at)
			all := trust.issuerSignature(l).worse(issuerChain(cas, at)).worse(validity(l.cert, at))
			if c.ShouldValidate && leftOut[c.Name] != "DSA" {
				assert.Equal(t, passed, issuerChain(cas, at))
			}
			if len(cas) > 0 && !cas[len(cas)-1].root {
				all = all.worse(undecided("the path does not end at the root"))
			}
			all = all.worse(trust.statusOf(&l.listed, "CRL", at).revoked).worse(trust.statusOfChain(cas, at).revoked)
			accepted := all.result == Passed
			if _, left := leftOut[c.Name]; left {
				assert.False(t, accepted)
				return
			}
			assert.Equal(t, c.ShouldValidate, accepted, all.why)
			counted[c.ShouldValidate]++
		})
	}
	t.Logf("%d that are good and %d that are not", counted[true], counted[false])
}
