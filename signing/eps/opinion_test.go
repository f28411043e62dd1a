package eps

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing/signingtest"
)

// leafLike makes a certificate as the test CA's, signed by a CA key of this test, and a
// PKI around it.
func leafLike(t testing.TB, key crypto.Signer, change func(leaf, ca *x509.Certificate)) (*Verifier, *x509.Certificate) {
	t.Helper()
	policy, err := x509.ParseOID(testcard.SigningPolicy)
	require.NoError(t, err)
	ca := &x509.Certificate{SerialNumber: serial(1), Subject: pkix.Name{CommonName: "CA of one test"}, NotBefore: testTime.AddDate(-1, 0, 0), NotAfter: testTime.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, SubjectKeyId: []byte{1, 2, 3}}
	leaf := &x509.Certificate{SerialNumber: serial(2), Subject: pkix.Name{CommonName: "leaf of one test"}, NotBefore: testTime.AddDate(0, -1, 0), NotAfter: testTime.AddDate(0, 1, 0),
		KeyUsage: x509.KeyUsageContentCommitment, Policies: []x509.OID{policy}, CRLDistributionPoints: []string{crlURL}}
	change(leaf, ca)
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, otherKey().Public(), otherKey())
	require.NoError(t, err)
	ca, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	der, err = x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), otherKey())
	require.NoError(t, err)
	leaf, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	signer := *ca
	signer.KeyUsage |= x509.KeyUsageCRLSign
	der, err = x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: serial(1), ThisUpdate: testTime.Add(-time.Hour), NextUpdate: testTime.Add(time.Hour)}, &signer, otherKey())
	require.NoError(t, err)
	crl, err := x509.ParseRevocationList(der)
	require.NoError(t, err)
	return &Verifier{CAs: []*x509.Certificate{ca}, Lists: read(crl)}, leaf
}

// TestCertificatesThatTheServiceDoesNotLookInto changes one thing each.
func TestCertificatesThatTheServiceDoesNotLookInto(t *testing.T) {
	in := signedMessage(t, message(signingtest.MessageConfig{}), RS256, testKey(), certAt(t, testTime))
	for _, c := range []struct {
		name     string
		change   func(leaf, ca *x509.Certificate)
		check    string // of rxguard's; "" none
		result   Result
		says     string // in Why or Warning
		national Result
	}{
		{"as it should be", func(_, _ *x509.Certificate) {}, "", Passed, "", Passed},
		{"digitalSignature", func(l, _ *x509.Certificate) { l.KeyUsage = x509.KeyUsageDigitalSignature }, "key_usage", Failed, "no key usage nonRepudiation", Passed},
		{"no key usage", func(l, _ *x509.Certificate) { l.KeyUsage = 0 }, "key_usage", Failed, "no key usage nonRepudiation", Passed},
		{"both usages", func(l, _ *x509.Certificate) { l.KeyUsage |= x509.KeyUsageDigitalSignature }, "key_usage", Passed, "is more than nonRepudiation", Passed},
		{"a key usage that is not critical", func(l, _ *x509.Certificate) {
			l.KeyUsage = 0
			l.ExtraExtensions = []pkix.Extension{{Id: oidKeyUsage, Value: []byte{3, 2, 6, 0x40}}}
		}, "key_usage", Passed, "is not critical", Passed},
		{"an extended key usage", func(l, _ *x509.Certificate) { l.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "key_usage", Passed, "extended key usage", Passed},
		{"an unknown critical extension", func(l, _ *x509.Certificate) {
			l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}, "key_usage", Failed, "critical extension 1.2.3", Passed},
		{"no policy", func(l, _ *x509.Certificate) { l.Policies = nil }, "policy", Passed, "has not the policy 1.2.826.0.1275.102.0.3.2.0", Passed},
		{"another policy", func(l, _ *x509.Certificate) { l.Policies = []x509.OID{oid(t, "1.2.826.0.1275.102.0.3.2.1")} }, "policy", Passed, "has not the policy", Passed},
		{"a CA that is none", func(_, ca *x509.Certificate) { ca.IsCA = false }, "issuer_chain", Failed, "basic constraints", Passed},
		{"a CA without basic constraints", func(_, ca *x509.Certificate) { ca.BasicConstraintsValid, ca.IsCA = false, false }, "issuer_chain", Failed, "basic constraints", Passed},
		{"a CA that may not sign certificates", func(_, ca *x509.Certificate) { ca.KeyUsage = x509.KeyUsageCRLSign }, "issuer_chain", Failed, "no keyCertSign", Failed},
		{"a CA that ended before", func(_, ca *x509.Certificate) { ca.NotAfter = testTime.Add(-time.Second) }, "issuer_chain", Failed, "the instant judged is", Passed},
		{"a CA of later", func(_, ca *x509.Certificate) { ca.NotBefore = testTime.Add(time.Second) }, "issuer_chain", Failed, "the instant judged is", Passed},
		{"a CA with an unknown critical extension", func(_, ca *x509.Certificate) {
			ca.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}, "issuer_chain", Failed, "critical extension 1.2.3", Passed},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, leaf := leafLike(t, testKey(), c.change)
			signed := replaceCert(t, in, leaf)
			r := judge(t, v, signed)
			assert.Equal(t, c.national, r.National.Accept)
			want := c.result
			if c.national == Failed {
				want = Failed
			}
			assert.Equal(t, want, r.Rxguard.Accept, "%+v", r.Rxguard)
			if c.check == "" {
				assert.Empty(t, warnings(r.Rxguard))
				return
			}
			got := check(t, r, c.check)
			assert.Equal(t, c.result, got.Result)
			assert.Contains(t, got.Why+got.Warning, c.says)
			if c.result == Passed {
				assert.Empty(t, got.Why)
				assert.Equal(t, []string{c.check}, warnings(r.Rxguard))
			}
		})
	}
}

// TestKeySize: the least is a setting, and RSA is all that the service verifies.
func TestKeySize(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	for _, c := range []struct {
		name   string
		key    crypto.Signer
		least  int
		result Result
		warned bool
		says   string
	}{
		{"1024", small, 0, Passed, true, "has 1024 bits, wanted 2048"},
		{"1024 and 2048 wanted", small, 2048, Failed, false, "1024 bits, wanted at least 2048"},
		{"2048", testKey(), 0, Passed, false, ""},
		{"2048 and 2048 wanted", testKey(), 2048, Passed, false, ""},
		{"2048 and 3072 wanted", testKey(), 3072, Failed, false, "2048 bits, wanted at least 3072"},
		{"less than the least cannot be asked for", small, 512, Passed, true, "1024 bits"},
		{"EC", ecKey(), 0, Failed, false, "key of type ECDSA, wanted RSA"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, leaf := leafLike(t, c.key, func(_, _ *x509.Certificate) {})
			v.MinRSABits = c.least
			in := signedMessage(t, message(signingtest.MessageConfig{}), RS256, testKey(), certAt(t, testTime))
			if key, ok := c.key.(*rsa.PrivateKey); ok {
				in = signedMessage(t, message(signingtest.MessageConfig{}), RS256, key, leaf)
			} else {
				in = replaceCert(t, in, leaf)
			}
			r := judge(t, v, in)
			got := check(t, r, "key_size")
			assert.Equal(t, c.result, got.Result)
			assert.Equal(t, c.warned, got.Warning != "")
			assert.Contains(t, got.Why+got.Warning, c.says)
			assert.Equal(t, c.result, r.Rxguard.Accept)
		})
	}
}

// TestKeysBelowWhatIsVerifiedHere: the service would verify them, so its check is not
// decidable; rxguard refuses them.
func TestKeysBelowWhatIsVerifiedHere(t *testing.T) {
	tiny := &rsa.PublicKey{N: new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 512), big.NewInt(569)), E: 65537}
	w := newPKI(t)
	leaf, err := w.ca.Issue(testcard.Authentication, testKey().Public(), testcard.IssueOptions{Subject: testcard.Subject(user)})
	require.NoError(t, err)
	template := *leaf
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageContentCommitment, nil
	claimed := *w.ca.IssuingCertificate()
	claimed.PublicKey = otherKey().Public()
	der, err := x509.CreateCertificate(rand.Reader, &template, &claimed, tiny, otherKey())
	require.NoError(t, err)
	leaf, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	r := judge(t, w.verifier(), w.signedWith(t, leaf))
	assert.Equal(t, NotDecidable, check(t, r, "signature_valid").Result)
	assert.Contains(t, check(t, r, "signature_valid").Why, "RSA key of 512 bits, wanted at least 1024")
	assert.Equal(t, Failed, check(t, r, "key_size").Result)
	assert.Equal(t, NotDecidable, r.National.Accept)
	assert.Equal(t, Failed, r.Rxguard.Accept)
}

// TestRealLeaves are the test leaves of the field.
func TestRealLeaves(t *testing.T) {
	v := &Verifier{}
	trust := newTrust([]*x509.Certificate{readCert(t, "eps", "certs", "NHS_INT_Level_1D.pem")}, nil)
	for _, c := range []struct {
		name                        string
		issuer, usage, policy, size Result
		usageWarned, policyWarned   bool
		sizeWarned                  bool
		says                        string
	}{
		{"5dc9ad1f", Passed, Passed, Passed, Passed, false, false, true, ""},
		{"5dc9adec", Passed, Passed, Passed, Passed, false, false, true, ""},
		{"61004f5e", Passed, Passed, Passed, Passed, false, false, true, ""},
		{"601af0cc", NotDecidable, Passed, Passed, Passed, true, true, false, "no configured CA is named"},
		{"2b7c641149518573c928d570af2a8b651a0d4d04", NotDecidable, Failed, Passed, Passed, false, true, false, "no configured CA is named"},
		{"1b", NotDecidable, Failed, Passed, Passed, false, true, false, "no configured CA is named"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cert := readCert(t, "eps", "certs", "leaf_"+c.name+".pem")
			l, err := trust.leaf(cert.Raw)
			require.NoError(t, err)
			again, err := trust.leaf(cert.Raw)
			require.NoError(t, err)
			assert.Same(t, l, again, "it is looked into once")
			issuer, usage, pol, size := trust.issuerSignature(l), keyUsage(cert), policy(cert), v.keySize(cert)
			assert.Equal(t, []Result{c.issuer, c.usage, c.policy, c.size}, []Result{issuer.result, usage.result, pol.result, size.result})
			assert.Equal(t, []bool{c.usageWarned, c.policyWarned, c.sizeWarned}, []bool{usage.warning != "", pol.warning != "", size.warning != ""})
			assert.Contains(t, issuer.why, c.says)
		})
	}
}

func TestKeptLeavesAreBounded(t *testing.T) {
	trust := newTrust(nil, nil)
	cert := certAt(t, testTime)
	for i := range 3 * maxLeaves {
		der := bytes.Clone(cert.Raw) // with another signature
		der[len(der)-1], der[len(der)-2] = byte(i), byte(i>>8)
		_, err := trust.leaf(der)
		require.NoError(t, err)
		require.LessOrEqual(t, len(trust.leaves), maxLeaves)
	}
}
