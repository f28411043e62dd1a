package p11

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

// listed splits the tool's list: an object's other lines are indented.
func listed(list string) (objects []string) {
	for line := range strings.Lines(list) {
		if strings.HasPrefix(line, " ") && len(objects) > 0 {
			objects[len(objects)-1] += line
			continue
		}
		objects = append(objects, line)
	}
	return objects
}

// witnessCases look at what was written with another program, in another process.
var witnessCases = []clause{
	{"pkcs11-tool finds what was written and verifies what was signed", func(t *testing.T, w *world) {
		if w.tool == nil {
			return
		}
		d := w.card(t, 0)
		s := d.login(t)
		id, err := s.Vacant(t.Context())
		require.NoError(t, err)
		d.clean(t, id)
		o, err := s.Generate(t.Context(), card.KeySpec{ID: id, Label: "made here"})
		require.NoError(t, err)
		c, err := issuer(t).Issue(testcard.Signing, o.Public, testcard.IssueOptions{Subject: testcard.Subject("999999999999")})
		require.NoError(t, err)
		require.NoError(t, s.WriteCertificate(t.Context(), id, "written here", c.Raw))

		list := w.tool(t, d, "--list-objects")
		for _, want := range [][]string{
			{"Certificate Object; type = X.509 cert", "written here", "999999999999_Simulated_Prescriber"},
			{"Public Key Object; RSA 2048 bits", "made here", "verify"},
			{"Private Key Object; RSA", "made here", "sign", "sensitive, always sensitive, never extractable, local"},
		} {
			found := 0
			for _, object := range listed(list) {
				if !strings.Contains(object, hex.EncodeToString(id)) || !strings.HasPrefix(object, want[0]) {
					continue
				}
				found++
				for _, text := range want[1:] {
					assert.Contains(t, object, text)
				}
			}
			assert.Equal(t, 1, found, "%s in\n%s", want[0], list)
		}

		dir := t.TempDir()
		path := func(name string) string { return filepath.Join(dir, name) }
		w.tool(t, d, "--read-object", "--type", "cert", "--id", hex.EncodeToString(id), "--output-file", path("cert"))
		read, err := os.ReadFile(path("cert"))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(c.Raw, read))

		text := "a prescription"
		file(t, path("text"), []byte(text))
		sig, err := s.Sign(t.Context(), id, digest(crypto.SHA256, text), crypto.SHA256)
		require.NoError(t, err)
		file(t, path("ours"), sig)
		assert.Contains(t, w.tool(t, d, "--verify", "--mechanism", "SHA256-RSA-PKCS", "--id", hex.EncodeToString(id),
			"--input-file", path("text"), "--signature-file", path("ours")), "Signature is valid")
		w.tool(t, d, "--sign", "--mechanism", "SHA256-RSA-PKCS", "--id", hex.EncodeToString(id), "--input-file", path("text"), "--output-file", path("theirs"))
		theirs, err := os.ReadFile(path("theirs"))
		require.NoError(t, err)
		require.NoError(t, verify(o.Public, digest(crypto.SHA256, text), theirs, crypto.SHA256))

		require.NoError(t, s.Destroy(t.Context(), card.CertificateObject, id))
		require.NoError(t, s.Destroy(t.Context(), card.PublicKeyObject, id))
		require.NoError(t, s.Destroy(t.Context(), card.PrivateKeyObject, id))
		assert.NotContains(t, w.tool(t, d, "--list-objects"), hex.EncodeToString(id))
	}},
}
