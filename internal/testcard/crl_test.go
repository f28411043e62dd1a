package testcard

import (
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
)

func TestRevocationListsAsOpenSSLSeesThem(t *testing.T) {
	openssl := need.Tool(t, "openssl", "openssl")
	plain := testCA(t, CAConfig{Now: at(then)})
	ca, err := plain.Listed("http://crl.example/arl.crl")
	require.NoError(t, err)
	serials := []*big.Int{big.NewInt(0x5eed), big.NewInt(0xbad)}
	var leaves []*x509.Certificate
	for _, n := range serials {
		c, err := ca.IssueListed(Signing, rsaKey().Public(), IssueOptions{Subject: Subject("123456789012"), Serial: n}, "http://crl.example/crl1.crl")
		require.NoError(t, err)
		leaves = append(leaves, c)
	}
	crl, err := ca.CRL(ListOptions{Number: 7, Revoked: []x509.RevocationListEntry{
		{SerialNumber: serials[1], RevocationTime: then.Add(-time.Hour), ReasonCode: 4},
	}})
	require.NoError(t, err)
	arl, err := ca.ARL(ListOptions{})
	require.NoError(t, err)

	dir := t.TempDir()
	pemList := func(l *x509.RevocationList) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: l.Raw})
	}
	write(t, dir, "root.pem", pemOf(ca.RootCertificate()))
	write(t, dir, "issuing.pem", pemOf(ca.IssuingCertificate()))
	write(t, dir, "lists.pem", append(pemList(crl), pemList(arl)...))
	write(t, dir, "crl.pem", pemList(crl))
	write(t, dir, "good.pem", pemOf(leaves[0]))
	write(t, dir, "revoked.pem", pemOf(leaves[1]))

	text := run(t, dir, openssl, "crl", "-in", "crl.pem", "-noout", "-text")
	for _, want := range []string{"Version 2", "X509v3 CRL Number: \n                7", "Serial Number: 0BAD", "Superseded",
		"Last Update: Sep 30 09:00:00 2020 GMT", "Next Update: Oct  7 09:00:00 2020 GMT"} {
		assert.Contains(t, text, want)
	}
	verify := func(leaf string) []string {
		return []string{"verify", "-x509_strict", "-purpose", "any", "-crl_check_all", "-CRLfile", "lists.pem",
			"-attime", strconv.FormatInt(then.Unix(), 10), "-CAfile", "root.pem", "-untrusted", "issuing.pem", leaf}
	}
	assert.Equal(t, "good.pem: OK\n", run(t, dir, openssl, verify("good.pem")...))
	check := exec.Command(openssl, verify("revoked.pem")...)
	check.Dir = dir
	out, err := check.CombinedOutput()
	assert.Error(t, err)
	assert.Contains(t, string(out), "certificate revoked")
	assert.Contains(t, run(t, dir, openssl, "x509", "-in", "good.pem", "-noout", "-ext", "crlDistributionPoints"), "URI:http://crl.example/crl1.crl")
	assert.Contains(t, run(t, dir, openssl, "x509", "-in", "issuing.pem", "-noout", "-ext", "crlDistributionPoints"), "URI:http://crl.example/arl.crl")

	assert.Equal(t, SPKIHash(plain.IssuingCertificate()), SPKIHash(ca.IssuingCertificate()))
	_, err = ca.Listed()
	assert.ErrorContains(t, err, "expected a URL")
}
