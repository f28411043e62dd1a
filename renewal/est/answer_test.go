package est

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mozilla.org/pkcs7"

	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/testcard"
)

// certificatesByOpenssl is what openssl lists of a PKCS #7 in DER.
func certificatesByOpenssl(t *testing.T, der []byte) [][]byte {
	t.Helper()
	c := exec.Command(need.Tool(t, "openssl", "openssl"), "pkcs7", "-inform", "DER", "-print_certs")
	c.Stdin = bytes.NewReader(der)
	out, err := c.Output()
	require.NoError(t, err)
	var list [][]byte
	for {
		var b *pem.Block
		if b, out = pem.Decode(out); b == nil {
			return list
		}
		list = append(list, b.Bytes)
	}
}

func raw(certs []*x509.Certificate) (list [][]byte) {
	for _, c := range certs {
		list = append(list, c.Raw)
	}
	return list
}

func TestAnswersOfRealServers(t *testing.T) {
	for _, name := range []string{
		"libest-simpleenroll.b64", "libest-cacerts.b64", "globalsign-simplereenroll.b64", "globalsign-cacerts.b64",
	} {
		t.Run(name, func(t *testing.T) {
			body := need.Read(t, "est", name)
			certs, err := parseAnswer(body)
			require.NoError(t, err)
			der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(body)), ""))
			require.NoError(t, err)
			want := certificatesByOpenssl(t, der)
			require.NotEmpty(t, want)
			require.Equal(t, want, raw(certs))
		})
	}
	for _, name := range []string{"openssl-style-nocrl.p7", "globalsign-cacerts.p7"} {
		t.Run(name, func(t *testing.T) {
			der := need.Read(t, "est", name)
			certs, err := parseCertsOnly(der)
			require.NoError(t, err)
			want := certificatesByOpenssl(t, der)
			require.NotEmpty(t, want)
			require.Equal(t, want, raw(certs))
		})
	}
}

func TestAnswersMadeByOpenssl(t *testing.T) {
	openssl := need.Tool(t, "openssl", "openssl")
	w := newWorld(t)
	dir := t.TempDir()
	args := []string{"crl2pkcs7", "-nocrl", "-outform", "DER"}
	var want [][]byte
	for _, c := range []*x509.Certificate{w.issued(t), w.ca.IssuingCertificate(), w.ca.RootCertificate()} {
		want = append(want, c.Raw)
		file := filepath.Join(dir, c.SerialNumber.String())
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600))
		args = append(args, "-certfile", file)
		der, err := exec.Command(openssl, args...).Output()
		require.NoError(t, err)
		certs, err := parseCertsOnly(der)
		require.NoError(t, err)
		require.ElementsMatch(t, want, raw(certs))
	}
}

func TestParseCertsOnlyRefuses(t *testing.T) {
	w := newWorld(t)
	good := certsOnly(t, w.issued(t))
	// within puts bytes into a SEQUENCE of their length.
	within := func(b []byte) []byte {
		require.Less(t, len(b), 1<<16)
		return append([]byte{0x30, 0x82, byte(len(b) >> 8), byte(len(b))}, b...)
	}
	deep := []byte{}
	for range 1000 {
		switch n := len(deep); {
		case n < 0x80:
			deep = append([]byte{0x30, byte(n)}, deep...)
		case n < 0x100:
			deep = append([]byte{0x30, 0x81, byte(n)}, deep...)
		default:
			deep = append([]byte{0x30, 0x82, byte(n >> 8), byte(n)}, deep...)
		}
	}
	pad := bytes.Repeat([]byte{0x05, 0x00}, 200)
	for name, row := range map[string]struct {
		der  []byte
		says string
	}{
		"nothing":                              {nil, "an element is cut off"},
		"one byte":                             {[]byte{0x30}, "an element is cut off"},
		"a SET":                                {[]byte{0x31, 0}, "tag 0x31, expected a SEQUENCE"},
		"cut off":                              {good[:len(good)-1], "more than the"},
		"bytes after it":                       {append(bytes.Clone(good), 0, 0), "2 bytes after the PKCS #7"},
		"an indefinite length outside":         {[]byte{0x30, 0x80, 0, 0}, "an indefinite length"},
		"an indefinite length deep inside":     {within(append(bytes.Clone(pad), 0x30, 4, 0x30, 2, 0x24, 0x80)), "an indefinite length"},
		"an indefinite length, primitive":      {within(append(bytes.Clone(pad), 0x04, 0x80)), "an indefinite length"},
		"a length of five bytes":               {[]byte{0x30, 0x85, 0, 0, 0, 0, 1}, "a length of 5 bytes"},
		"the reserved length":                  {[]byte{0x30, 0xff, 0}, "a length of 127 bytes"},
		"a length cut off":                     {[]byte{0x30, 0x84, 1}, "a length is cut off"},
		"a length of 4 GiB":                    {[]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, "an element of 4294967295 bytes, more than are there"},
		"a length with a leading zero":         {append([]byte{0x30, 0x83, 0}, within(pad)[2:]...), "in more bytes than it needs"},
		"a long length for a short one":        {[]byte{0x30, 0x81, 0}, "in more bytes than it needs"},
		"a child that reaches beyond":          {within(append([]byte{0x30, 2, 0x30, 8}, pad...)), "more than the 0 that are there"},
		"a high tag number":                    {within(append([]byte{0x3f, 0x81, 1, 0}, pad...)), "a tag number above 30"},
		"elements a thousand deep":             {deep, "nested deeper than 32"},
		"a SEQUENCE of nothing":                {[]byte{0x30, 0}, "not PKCS #7"},
		"a SEQUENCE of something else":         {within(pad), "not PKCS #7"},
		"no certificate":                       {certsOnly(t), "no certificate in the PKCS #7"},
		"certificates that are not":            {notCertificates(t), "not PKCS #7: x509:"},
		"a key that would take seconds to try": {certsOnly(t, hugeKey(t, w)), "RSA key of 16384 bits, expected at most 8192"},
	} {
		t.Run(name, func(t *testing.T) {
			certs, err := parseCertsOnly(row.der)
			require.ErrorContains(t, err, row.says)
			require.Nil(t, certs)
		})
	}
}

func notCertificates(t *testing.T) []byte {
	t.Helper()
	der, err := pkcs7.DegenerateCertificate([]byte{0x30, 3, 0x02, 1, 7})
	require.NoError(t, err)
	return der
}

func hugeKey(t *testing.T, w *world) *x509.Certificate {
	t.Helper()
	n := new(big.Int).Lsh(big.NewInt(1), 16383)
	n.SetBit(n, 0, 1)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: testcard.Subject("555000000001"),
		NotBefore: instant, NotAfter: instant.AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &rsa.PublicKey{N: n, E: 65537}, newKey(t))
	require.NoError(t, err)
	c, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return c
}

// FuzzParseAnswer: what is accepted holds at least one certificate, each of them
// byte for byte in the input, and is accepted in every form of base64; what is
// refused is refused in every form.
func FuzzParseAnswer(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxAnswer {
			return
		}
		if _, err := parseAnswer(b); err != nil {
			require.NotContains(t, err.Error(), "\n")
		}
		certs, err := parseCertsOnly(b)
		if err == nil {
			require.NotEmpty(t, certs)
			for _, c := range certs {
				require.True(t, bytes.Contains(b, c.Raw))
			}
			again, err := parseCertsOnly(certsOnly(t, certs...))
			require.NoError(t, err)
			require.Equal(t, raw(certs), raw(again))
		}
		text := lines(b)
		for _, form := range [][]byte{text, bytes.ReplaceAll(text, []byte("\n"), nil), bytes.ReplaceAll(text, []byte("\n"), []byte(" \r\n\t"))} {
			same, e := parseAnswer(form)
			require.Equal(t, err == nil, e == nil)
			require.Equal(t, raw(certs), raw(same))
		}
	})
}
