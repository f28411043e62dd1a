package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/signing/signingtest"
)

func TestMessagesThatCannotBeRead(t *testing.T) {
	s := simulate(t, signingtest.MessageConfig{})
	message, err := os.ReadFile(s.message)
	require.NoError(t, err)
	laughs := `<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><l>&b;</l>`
	utf16 := []byte{0xff, 0xfe, '<', 0, 'a', 0, '/', 0, '>', 0}
	for _, c := range []struct {
		name, file string
		kind, says string
	}{
		{"missing", filepath.Join(s.dir, "missing.xml"), "file", ""},
		{"a folder", s.dir, "file", "is a folder, wanted a prescription message in XML"},
		{"empty", s.write("empty.xml", nil), "file", "is empty, wanted a prescription message in XML"},
		{"not XML", s.write("note.txt", []byte("Dear support,\n")), "message", "line 1"},
		{"truncated", s.write("truncated.xml", message[:len(message)/2]), "message", "truncated"},
		{"NUL bytes", s.write("nul.xml", bytes.Replace(message, []byte("SYNTHETIC"), []byte("SYN\x00HETIC"), 1)), "message", "illegal character"},
		{"only NUL bytes", s.write("nuls.xml", make([]byte, 4096)), "message", "line 1"},
		{"a billion laughs", s.write("laughs.xml", []byte(laughs)), "message", "document type"},
		{"without a prescription", s.write("other.xml", []byte("<a/>")), "message", "no ParentPrescription"},
		{"JSON", s.write("answer.json", []byte("\n{\"resourceType\": \"Bundle\"}")), "message", "is JSON, wanted a prescription message in HL7v3 XML"},
		{"UTF-16", s.write("utf16.xml", utf16), "message", "is text in UTF-16"},
		{"compressed", s.write("message.zip", []byte("PK\x03\x04....")), "message", "is a compressed file"},
		{"a certificate", s.ca, "message", "is a PEM file, wanted a prescription message in XML; certificates go to --ca"},
		{"a file below a file", filepath.Join(s.message, "x.xml"), "file", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := s.verify(c.file)
			assert.Equal(t, exitNotRead, d.code)
			assert.Empty(t, d.out)
			require.True(t, strings.HasPrefix(d.errors, "rxguard: "+c.file+": "), d.errors)
			assert.Contains(t, d.errors, c.says)
			assert.Equal(t, 1, strings.Count(d.errors, "\n"), d.errors)
			assert.Equal(t, 1, strings.Count(d.errors, c.file), d.errors)

			d = s.verify("--json", c.file)
			assert.Equal(t, exitNotRead, d.code)
			assert.Empty(t, d.errors)
			r := rows(t, d.out)
			require.Len(t, r, 1)
			require.NotNil(t, r[0].Error)
			assert.Equal(t, c.kind, r[0].Error.Kind)
			assert.Equal(t, c.file, r[0].File)
			assert.Contains(t, r[0].Error.Text, c.says)
		})
	}
}

func TestAMessageIsReadUpToItsLimit(t *testing.T) {
	s := simulate(t, signingtest.MessageConfig{})
	message, err := os.ReadFile(s.message)
	require.NoError(t, err)
	size := len(message)
	limit := func(n string) []string { return []string{"--max-bytes", n} }
	assert.Equal(t, exitAccepted, s.verify(append(limit(itoa(size)), s.message)...).code)
	d := s.verify(append(limit(itoa(size-1)), s.message)...)
	assert.Equal(t, exitNotRead, d.code)
	assert.Contains(t, d.errors, "is "+itoa(size)+" bytes large, wanted at most "+itoa(size-1)+"; --max-bytes sets the limit")

	assert.Equal(t, exitAccepted, runWith(t, bytes.NewReader(message), s.args(append(limit(itoa(size)), "-")...)...).code)
	d = runWith(t, bytes.NewReader(message), s.args(append(limit(itoa(size-1)), "-")...)...)
	assert.Equal(t, exitNotRead, d.code)
	assert.Contains(t, d.errors, "standard input: is larger than "+itoa(size-1)+" bytes; --max-bytes sets the limit")

	t.Run("100 MB are not read at all", func(t *testing.T) {
		f, err := os.Create(filepath.Join(s.dir, "large.xml"))
		require.NoError(t, err)
		_, err = f.Write(message)
		require.NoError(t, err)
		require.NoError(t, f.Truncate(100_000_000)) // sparse
		require.NoError(t, f.Close())
		d := s.verify(f.Name())
		assert.Equal(t, exitNotRead, d.code)
		assert.Contains(t, d.errors, "is 100000000 bytes large, wanted at most 33554432")
	})
	t.Run("100 MB of XML through a pipe", func(t *testing.T) {
		d := runWith(t, &endless{start: message, then: []byte("<a>b</a>"), left: 100_000_000}, s.args("-")...)
		assert.Equal(t, exitNotRead, d.code)
		assert.Contains(t, d.errors, "standard input: is larger than 33554432 bytes")
	})
}

func TestCertificatesAndListsThatCannotBeRead(t *testing.T) {
	s := simulate(t, signingtest.MessageConfig{})
	key, err := x509.MarshalPKCS8PrivateKey(s.key)
	require.NoError(t, err)
	request, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{}, s.key)
	require.NoError(t, err)
	cert, list := s.world.ca.Raw, crl(t, s.world.ca, s.caKey)
	whole := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	keyText := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))

	for _, c := range []struct {
		name, flag string
		file       []byte
		says       string
	}{
		{"a key as a CA", "--ca", []byte(keyText), "line 1: is a private key (BEGIN PRIVATE KEY), wanted a certificate; rxguard needs no key"},
		{"a key beside a CA", "--ca", append(bytes.Clone(whole), keyText...), "is a private key"},
		{"a key in DER", "--ca", key, "is a private key, wanted a certificate"},
		{"a key as a CRL", "--crl", []byte(keyText), "is a private key (BEGIN PRIVATE KEY), wanted a CRL"},
		{"an old key", "--ca", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(s.key)}), "is a private key (BEGIN RSA PRIVATE KEY)"},
		{"a CRL as a CA", "--ca", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list}), "is a CRL (BEGIN X509 CRL), wanted a certificate; --crl takes it"},
		{"a CRL in DER as a CA", "--ca", list, "is a CRL, wanted a certificate; --crl takes it"},
		{"a CA as a CRL", "--crl", whole, "is a certificate (BEGIN CERTIFICATE), wanted a CRL; --ca takes it"},
		{"a CA in DER as a CRL", "--crl", cert, "is a certificate, wanted a CRL; --ca takes it"},
		{"a request", "--ca", request, "is a certificate request, wanted a certificate"},
		{"a prescriber's certificate", "--ca", s.leaf.Raw, "certificate 5eed0001 is not a CA's"},
		{"cut off", "--ca", whole[:len(whole)/2], "line 1: a PEM block that is cut off"},
		{"cut off before a good one", "--ca", append([]byte("text\n"+string(whole[:len(whole)/2])+"\n"), whole...), "line 2: a PEM block that is cut off"},
		{"broken base64", "--ca", bytes.Replace(whole, []byte("MII"), []byte("M*I"), 1), "line 1: a PEM block that is cut off or broken"},
		{"DER that is cut off", "--ca", cert[:len(cert)-1], "is not a certificate in PEM or DER"},
		{"PEM around nothing", "--crl", []byte("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"), "line 1: a CRL that cannot be read"},
		{"an unknown label", "--ca", []byte("-----BEGIN A\x1b[31mB-----\nAAAA\n-----END A\x1b[31mB-----\n"), `is something else (BEGIN A\x1b[31mB), wanted a certificate`},
		{"text", "--ca", []byte("none"), "is not a certificate in PEM or DER"},
		{"empty", "--ca", nil, "is empty, wanted a certificate in PEM or DER"},
		{"UTF-16", "--ca", []byte("\xff\xfe-\x00-\x00"), "is text in UTF-16"},
		{"NUL bytes", "--crl", make([]byte, 100), "is not a CRL in PEM or DER"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := s.write("wrong", c.file)
			d := run(t, "verify", c.flag, file, s.message)
			assert.Equal(t, exitNotRead, d.code)
			assert.Empty(t, d.out, "nothing is judged without it")
			assert.True(t, strings.HasPrefix(d.errors, "rxguard: "+c.flag+" "+file+": "), d.errors)
			assert.Contains(t, d.errors, c.says)
			assert.Equal(t, 1, strings.Count(d.errors, "\n"), d.errors)
			for l := range strings.Lines(keyText) {
				assert.NotContains(t, d.errors, l, "the key is not printed")
			}
			d = run(t, "verify", "--json", c.flag, file, s.message)
			assert.Equal(t, exitNotRead, d.code)
			r := rows(t, d.out)
			require.Len(t, r, 1)
			assert.Equal(t, "file", r[0].Error.Kind)
			assert.Equal(t, file, r[0].File)
		})
	}
	t.Run("each of several is told", func(t *testing.T) {
		d := run(t, "verify", "--ca", filepath.Join(s.dir, "none.pem"), "--crl", s.dir, s.message)
		assert.Equal(t, exitNotRead, d.code)
		assert.Equal(t, 2, strings.Count(d.errors, "\n"))
		assert.Contains(t, d.errors, "is a folder, wanted a CRL in PEM or DER")
	})
}

func TestFormsOfCertificatesAndLists(t *testing.T) {
	s := simulate(t, signingtest.MessageConfig{})
	cas := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.world.ca.Raw})
	cas = append([]byte("subject=O = rxguard simulation\nissuer=-----\n\n"), cas...)
	cas = append(append(cas, "\nanother\n"...), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.world.root.Raw})...)
	crls := s.pem("both.pem", "X509 CRL", crl(t, s.world.ca, s.caKey), crl(t, s.world.root, s.rootKey))
	for name, ca := range map[string][]byte{
		"text before PEM":        cas,
		"a byte order mark":      append([]byte("\ufeff"), bytes.TrimLeft(cas[bytes.Index(cas, begin):], "")...),
		"CRLF":                   bytes.ReplaceAll(cas, []byte("\n"), []byte("\r\n")),
		"no line end at the end": bytes.TrimRight(cas, "\n"),
		"both in DER":            append(bytes.Clone(s.world.ca.Raw), s.world.root.Raw...),
		"one of them twice":      append(bytes.Clone(cas), cas...),
	} {
		t.Run(name, func(t *testing.T) {
			d := run(t, "verify", "--ca", s.write("cas", ca), "--crl", crls, s.message)
			assert.Equal(t, exitAccepted, d.code, d.out+d.errors)
		})
	}
}

func TestPatternsAreExpanded(t *testing.T) {
	f := newFiles(t)
	a, b := f.write("a.xml", nil), f.write("b.xml", nil)
	bracket := f.write("[ab].txt", nil)
	in := func(name string) string { return filepath.Join(f.dir, name) }
	assert.Equal(t, []string{a, b, in("*.none"), bracket, "-", a}, expand([]string{in("*.xml"), in("*.none"), bracket, "-", a}))
}
