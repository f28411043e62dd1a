package status_test

import (
	"bytes"
	"crypto/x509"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/status"
)

// A relative distribution point is no reason not to read a certificate, and reading it
// changes nothing of what is signed.
func TestACertificateWithARelativePointIsOneLikeAnother(t *testing.T) {
	w := newWorld(t)
	leaf := certify(t, "Leaf", newKey(t), w.ca, leafAt(tlv(0x30, relativeName("point")))).cert
	_, err := x509.ParseCertificate(leaf.Raw)
	require.ErrorContains(t, err, "invalid CRL distribution point")
	verify := func(c *x509.Certificate) error {
		o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
		o.Roots.AddCert(w.root.cert)
		o.Intermediates.AddCert(w.ca.cert)
		_, err := c.Verify(o)
		return err
	}
	require.NoError(t, verify(leaf))
	s := subjectOf(t, leaf, w.ca.cert, w.root.cert)
	require.NoError(t, s.Err())
	assert.Empty(t, s.URLs())
	_, ok := s.ByHTTP()
	assert.False(t, ok)

	changed := bytes.Replace(leaf.Raw, []byte("Leaf"), []byte("Fool"), 1)
	c, err := status.ParseCertificate(changed)
	require.NoError(t, err)
	assert.Error(t, verify(c), "it does not verify any more")

	for name, der := range map[string][]byte{
		"empty":                  nil,
		"truncated":              leaf.Raw[:len(leaf.Raw)-1],
		"more":                   append(bytes.Clone(leaf.Raw), 0),
		"a point without a name": bytes.Replace(leaf.Raw, []byte{0xa1, 0x0e, 0x30}, []byte{0xa2, 0x0e, 0x30}, 1),
		"a list":                 crl{by: w.ca}.der(t),
	} {
		_, err := status.ParseCertificate(der)
		assert.ErrorContains(t, err, "status: x509: ", name)
	}
}

// What is asked over http alone, as the national service does.
func TestByHTTPIsByThePointsThatHaveAURL(t *testing.T) {
	const here, there = "http://lists.example/1.crl", "http://lists.example/2.crl"
	w := newWorld(t,
		tlv(0x30, fullName(dirName(nameOf("Point")))),
		tlv(0x30, fullName(uriName("ldap://lists.example/"), uriName(here))),
		tlv(0x30, fullName(uriName(here), uriName(there))),
	)
	s := w.subject(t)
	assert.Equal(t, []string{here, there}, s.URLs())
	http, ok := s.ByHTTP()
	require.True(t, ok)
	for name, c := range map[string]struct {
		scope    []byte
		all, web bool
	}{
		"of a URL":         {idp(fullName(uriName(there))), true, true},
		"of a directory":   {idp(fullName(dirName(nameOf("Point")))), true, false},
		"of the CA's name": {idp(fullName(dirName(w.ca.cert.RawSubject))), true, false},
		"of all points":    {idp(), true, true},
	} {
		l := crl{by: w.ca, exts: [][]byte{c.scope}}.list(t)
		assert.Equal(t, c.all, l.Covers(s) != 0, name)
		assert.Equal(t, c.web, l.Covers(http) != 0, name)
	}
	_, ok = newWorld(t).subject(t).ByHTTP()
	assert.False(t, ok, "no points")
	tls := newWorld(t, tlv(0x30, fullName(uriName("HTTPS://lists.example/3.crl")))).subject(t)
	_, ok = tls.ByHTTP()
	assert.True(t, ok, "https")
	assert.Empty(t, tls.URLs(), "a Refresher fetches nothing over https")
}
