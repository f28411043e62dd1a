package eps

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/c14n"
	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/tbs"
)

func TestEveryCheckIsListed(t *testing.T) {
	want := []struct {
		text   string
		result Result
		why    string
	}{
		{"Invalid signature format", Passed, ""},
		{"Multiple certificates detected", Passed, ""},
		{"Invalid certificate", Passed, ""},
		{"Signature is invalid", Passed, ""},
		{"Signature doesn't match prescription", NotDecidable, "does not hold the prescription"},
		{"Certificate is revoked", NotDecidable, "no CRL"},
		{"CA certificate is revoked", NotDecidable, "no ARL"},
		{"Certificate expired when signed", Passed, ""},
		{"Certificate not trusted", NotDecidable, "no issuing CAs"},
	}
	s := signed(t, RS256)
	checks := s.Checks()
	require.Len(t, checks, len(want))
	for i, w := range want {
		assert.Equal(t, i+1, checks[i].Number)
		assert.NotEmpty(t, checks[i].Name)
		assert.Equal(t, w.text, checks[i].Text)
		assert.Equal(t, w.result, checks[i].Result)
		assert.Contains(t, checks[i].Why, w.why)
		assert.Equal(t, w.result == Passed, checks[i].Why == "")
	}
	checks[0].Result = Failed
	assert.Equal(t, Passed, s.Checks()[0].Result, "Checks gives a copy")
}

func TestChecksGoThroughJSON(t *testing.T) {
	in := signed(t, RS1).Checks()
	in[2].Result = Failed
	b, err := json.Marshal(in)
	require.NoError(t, err)
	assert.Contains(t, string(b), `{"number":1,"name":"elements_present","text":"Invalid signature format","result":"passed"}`)
	var out []Check
	require.NoError(t, json.Unmarshal(b, &out))
	assert.Equal(t, in, out)

	assert.Equal(t, NotDecidable, Check{}.Result, "the zero Result is never Passed")
	_, err = json.Marshal(Result(9))
	assert.ErrorContains(t, err, "result 9")
	var r Result
	assert.ErrorContains(t, json.Unmarshal([]byte(`"fine"`), &r), "wanted not_decidable")
	assert.Error(t, json.Unmarshal([]byte(`1`), &r))
	assert.Equal(t, NotDecidable, r)
}

// TestExamineFindsWhatTheServiceFinds damages a good Signature.
func TestExamineFindsWhatTheServiceFinds(t *testing.T) {
	s := signed(t, RS256)
	good := string(s.XML())
	cut := func(name string) string {
		i, j := strings.Index(good, "<"+name+">"), strings.Index(good, "</"+name+">")
		return good[i : j+len(name)+3]
	}
	swap := func(from, to string) string {
		require.Contains(t, good, from)
		return strings.Replace(good, from, to, 1)
	}
	cert, value := cut("X509Certificate"), cut("SignatureValue")
	garbage := base64.StdEncoding.EncodeToString([]byte("not a certificate"))
	for _, c := range []struct {
		name, in string
		check    int // that does not pass; 0: none
		says     string
	}{
		{"as it is", good, 0, ""},
		{"indented, as the service stores it", strings.ReplaceAll(good, "><", ">\n  <"), 0, ""},
		{"white space in base64", swap("</X509Certificate>", "\n</X509Certificate>"), 0, ""},
		{"empty elements", swap(`"></Transform>`, `"/>`), 0, ""},
		{"a CDATA section", swap("<SignatureValue>", "<SignatureValue> <![CDATA[]]>"), 0, ""},
		{"a namespace that nothing is in", swap("<KeyInfo>", `<KeyInfo xmlns:x="urn:x">`), 0, ""},
		{"a prefixed attribute", swap("<Reference>", `<Reference xmlns:x="urn:x" x:a="1">`), 4, "prefix"},
		{"another root", strings.NewReplacer("<Signature ", "<Sig ", "</Signature>", "</Sig>").Replace(good), 1, "no Signature"},
		{"no namespace", swap(` xmlns="`+dsig+`"`, ""), 1, "no namespace"},
		{"another namespace", swap(`<SignedInfo>`, `<SignedInfo xmlns="urn:x">`), 1, `namespace "urn:x"`},
		{"a comment outside what is signed", swap("<SignatureValue>", "<!-- --><SignatureValue>"), 0, ""},
		{"a comment in what is signed", swap("<Reference>", "<!-- --><Reference>"), 0, ""},
		{"an instruction in what is signed", swap("<Reference>", "<?x?><Reference>"), 4, "processing instruction"},
		{"text beside elements", swap("<Reference>", "x<Reference>"), 4, "text beside elements"},
		{"has no SignedInfo", swap(cut("SignedInfo"), ""), 1, "has no SignedInfo"},
		{"two SignedInfos", swap(cut("SignedInfo"), cut("SignedInfo")+cut("SignedInfo")), 1, "second of 2"},
		{"no SignatureValue", swap(value, ""), 1, "no SignatureValue"},
		{"an empty SignatureValue", swap(value, "<SignatureValue> \n</SignatureValue>"), 1, "is empty"},
		{"no certificate", swap(cert, ""), 1, "no X509Certificate"},
		{"two certificates", swap(cert, cert+cert), 1, "second of 2"},
		{"PEM lines", swap("<X509Certificate>", "<X509Certificate>-----BEGIN CERTIFICATE-----\n"), 2, "BEGIN CERTIFICATE"},
		{"a PEM end", swap("</X509Certificate>", "-----END CERTIFICATE-----</X509Certificate>"), 2, "END CERTIFICATE"},
		{"not base64", swap(cert, "<X509Certificate>?</X509Certificate>"), 3, "not base64"},
		{"not a certificate", swap(cert, "<X509Certificate>"+garbage+"</X509Certificate>"), 3, "does not parse"},
		{"the word invalid", swap(value, "<SignatureValue>invalid\n  </SignatureValue>"), 4, "not base64"},
		{"another value", swap(value, "<SignatureValue>AAAA</SignatureValue>"), 4, "does not verify"},
		{"another digest", digestValue.ReplaceAllString(good, "<DigestValue>AAAA</DigestValue>"), 4, "does not verify"},
		{"an attribute more", swap("<Reference>", `<Reference URI="">`), 4, "does not verify"},
		{"an unknown SignatureMethod", swap("rsa-sha256", "ecdsa-sha256"), 4, "does not verify"},
		{"a blank line in the certificate", strings.Replace(good, "<X509Certificate>M", "<X509Certificate>M\n \n", 1), 3, "blank line"},
		{"another SignatureMethod", swap("http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", dsig+"rsa-sha1"), 4, "does not verify"},
		{"no SignatureMethod", strings.ReplaceAll(good, "SignatureMethod", "Method"), 4, "no SignatureMethod"},
	} {
		t.Run(c.name, func(t *testing.T) {
			checks := examineXML(t, []byte(c.in), testTime)
			require.Len(t, checks, 9)
			for _, got := range checks {
				switch {
				case got.Number == c.check:
					assert.NotEqual(t, Passed, got.Result)
					assert.Contains(t, got.Why, c.says)
				case c.check > 0 && c.check <= 3 && got.Number > c.check:
					assert.Equal(t, NotDecidable, got.Result, "the first three checks stop")
					assert.Contains(t, got.Why, "not reached")
				default:
					assert.NotEqual(t, Failed, got.Result, "%d: %s", got.Number, got.Why)
				}
			}
		})
	}
}

// TestASignatureDeclaresItsOwnNamespace: the service takes the SignedInfo's from there.
func TestASignatureDeclaresItsOwnNamespace(t *testing.T) {
	good := string(signed(t, RS256).XML())
	for name, in := range map[string]string{
		"a prefix":           strings.NewReplacer("</", "</ds:", "<", "<ds:", "xmlns=", "xmlns:ds=").Replace(good),
		"inherited":          `<x xmlns="` + dsig + `">` + strings.Replace(good, ` xmlns="`+dsig+`"`, "", 1) + `</x>`,
		"in another's value": `<x xmlns="` + dsig + `">` + strings.Replace(good, ` xmlns="`+dsig+`"`, ` a=' xmlns="`+dsig+`"'`, 1) + `</x>`,
	} {
		t.Run(name, func(t *testing.T) {
			doc, err := c14n.Parse([]byte(in), c14n.Options{})
			require.NoError(t, err)
			e := doc.Root
			for c := range doc.Root.Elements() {
				if c.Name.Local == "Signature" {
					e = c
				}
			}
			checks, found := examine(doc, e, &Prepared{at: testTime})
			assert.Equal(t, Failed, checks[3].Result)
			assert.Equal(t, Failed, checks[4].Result)
			assert.ErrorContains(t, found.err, "own default namespace")
		})
	}
}

// examineXML examines the Signature of a $prepare answer.
func examineXML(t testing.TB, b []byte, at time.Time) []Check {
	t.Helper()
	doc, err := c14n.Parse(b, c14n.Options{})
	require.NoError(t, err)
	checks, _ := examine(doc, doc.Root, &Prepared{at: at})
	return checks
}

func TestExamineRefusesAnECKey(t *testing.T) {
	ec := newCert(t, ecKey(), testTime.Add(-time.Hour), testTime.Add(time.Hour))
	checks := examineXML(t, writeSignature(testSignedInfo(t, RS256), []byte("value"), ec.Raw), testTime)
	assert.Equal(t, Failed, checks[3].Result)
	assert.Contains(t, checks[3].Why, "wanted RSA")
	assert.Equal(t, Passed, checks[7].Result, "the checks after the third accumulate")
}

// TestRealSignatures has the signatures of the national test service's own
// prescriptions examined.
func TestRealSignatures(t *testing.T) {
	july := time.Date(2021, 7, 26, 12, 5, 22, 0, time.UTC)
	december := time.Date(2022, 12, 12, 10, 10, 55, 0, time.UTC)
	for _, c := range []struct {
		name   string
		at     time.Time
		failed []int
	}{
		{"release_success", december, nil},
		{"release_invalid", december, []int{4}},
		{"ValidSignature", july, nil},
		{"SignatureIsInvalid", july, []int{4}},
		{"SignatureDoesNotMatchPrescription", july, []int{4}},
		{"repeat_prescribing_release_success", july, []int{1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := string(need.Read(t, "eps", "prescriptions", c.name+".xml"))
			const end = "</Signature>"
			b = b[strings.Index(b, "<Signature "):]
			b = b[:strings.Index(b, end)+len(end)]
			checks := examineXML(t, []byte(b), c.at)
			var failed []int
			for _, got := range checks {
				if got.Result == Failed {
					failed = append(failed, got.Number)
				}
			}
			assert.Equal(t, c.failed, failed, "%+v", checks)
		})
	}
}

// TestRealVectors finishes documents with signatures that real cards made: SHA-1,
// one of them with an RSA key of 1024 bits.
func TestRealVectors(t *testing.T) {
	for name, bits := range map[string]int{"release_success": 1024, "ValidSignature": 2048} {
		t.Run(name, func(t *testing.T) {
			var facts struct{ SignedAt string }
			require.NoError(t, json.Unmarshal(need.Read(t, "eps", "vectors", name+".json"), &facts))
			info := need.Read(t, "eps", "vectors", name+".signedinfo.c14n.xml")
			block, _ := pem.Decode(need.Read(t, "eps", "vectors", name+".cert.pem"))
			require.NotNil(t, block)
			cert, err := x509.ParseCertificate(block.Bytes)
			require.NoError(t, err)
			key, err := rsaKey(cert)
			require.NoError(t, err)
			require.Equal(t, bits, key.N.BitLen())

			p, err := ParsePrepared(answer(info, facts.SignedAt, "RS1"))
			require.NoError(t, err)
			require.NoError(t, p.Accepts(cert))
			msg, err := p.ToBeSigned()
			require.NoError(t, err)
			s, err := p.Finish(tbs.Signed(msg, need.Read(t, "eps", "vectors", name+".sig.bin"), parsing(cert)))
			require.NoError(t, err)
			assert.Equal(t, info, s.SignedInfo())
			for _, n := range []int{1, 2, 3, 4, 8} {
				assert.Equal(t, Passed, s.Checks()[n-1].Result, n)
			}
			checkWithTools(t, RS1, s)
		})
	}
}
