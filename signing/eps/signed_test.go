package eps

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
)

// checkWithTools verifies s with programs that share nothing with this package.
func checkWithTools(t *testing.T, a Algorithm, s *Signed) {
	t.Helper()
	openssl, xmllint := need.Tool(t, "openssl", "openssl"), need.Tool(t, "xmllint", "libxml2-utils")
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, b, 0o600))
		return p
	}
	run := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).CombinedOutput()
		require.NoError(t, err, "%s %v: %s", name, args, out)
		return string(out)
	}
	spki, err := x509.MarshalPKIXPublicKey(s.Certificate().PublicKey)
	require.NoError(t, err)
	key := write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	dgst := map[Algorithm]string{RS256: "-sha256", RS1: "-sha1"}[a]
	info := write("signed-info.xml", s.SignedInfo())
	assert.Contains(t, run(openssl, "dgst", dgst, "-verify", key, "-signature", write("signature.bin", s.SignatureValue()), info), "Verified OK")

	// The Signature is its own canonical form.
	xml := string(s.XML())
	assert.Equal(t, xml, run(xmllint, "--exc-c14n", write("signature.xml", s.XML())))

	// SignedInfo, taken out with the namespace it inherits, and written loosely,
	// canonicalises to the signed bytes.
	start, end := strings.Index(xml, "<SignedInfo>"), strings.Index(xml, "</SignedInfo>")+len("</SignedInfo>")
	require.Positive(t, start)
	inside := "<SignedInfo\n  xmlns='http://www.w3.org/2000/09/xmldsig#' >" + xml[start+len("<SignedInfo>"):end] + "\n"
	inside = strings.Replace(inside, "></Transform>", " />", 1)
	assert.Equal(t, string(s.SignedInfo()), run(xmllint, "--exc-c14n", write("inside.xml", []byte(inside))))
}

func TestSignaturesStandUpToOtherTools(t *testing.T) {
	for _, a := range []Algorithm{RS256, RS1} {
		t.Run(a.String(), func(t *testing.T) { checkWithTools(t, a, signed(t, a)) })
	}
}

func TestSignedEmbedsTheSignedBytes(t *testing.T) {
	s := signed(t, RS256)
	xml := string(s.XML())
	assert.Equal(t, testSignedInfo(t, RS256), s.SignedInfo())
	assert.Contains(t, xml, strings.Replace(string(s.SignedInfo()), ` xmlns="`+dsig+`"`, "", 1))
	assert.True(t, strings.HasPrefix(xml, `<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"><SignedInfo><CanonicalizationMethod `))
	assert.Equal(t, 1, strings.Count(xml, "xmlns"))
	assert.Equal(t, 1, strings.Count(xml, "<X509Certificate>"))
	assert.NotContains(t, xml, "\n")

	s.XML()[0], s.SignedInfo()[0], s.SignatureValue()[0] = 'x', 'x', ^s.SignatureValue()[0]
	assert.Equal(t, xml, string(s.XML()), "accessors give copies")
	assert.Equal(t, testSignedInfo(t, RS256), s.SignedInfo(), "accessors give copies")
}

func TestTheZeroSignedHoldsNothing(t *testing.T) {
	for _, s := range []*Signed{nil, {}} {
		assert.Empty(t, s.XML())
		assert.Empty(t, s.SignedInfo())
		assert.Empty(t, s.SignatureValue())
		assert.Nil(t, s.Certificate())
		assert.Empty(t, s.Checks())
		_, err := s.Provenance(goodInfo())
		assert.ErrorContains(t, err, "nothing is signed")
	}
}
