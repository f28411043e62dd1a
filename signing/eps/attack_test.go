package eps

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/signing/signingtest"
)

// TestAttacksInXMLAreNamed changes a good signed message as an attacker would.
func TestAttacksInXMLAreNamed(t *testing.T) {
	w := newPKI(t)
	good := string(w.sample(t))
	require.Equal(t, Passed, judge(t, w.verifier(), []byte(good)).Rxguard.Accept)
	element := func(name string) string { // the first of that name
		found := regexp.MustCompile(`(?s)<` + name + `[ >].*?</` + name + `>`).FindString(good)
		require.NotEmpty(t, found, name)
		return found
	}
	whole := element("ParentPrescription")
	signature, info, value, cert := element("Signature"), element("SignedInfo"), element("SignatureValue"), element("X509Certificate")
	prescription := element("pertinentPrescription")
	item := regexp.MustCompile(`(?s)<pertinentInformation2 contextConductionInd="true" inversionInd.*?</pertinentLineItem>\s*</pertinentInformation2>`).FindString(good)
	require.NotEmpty(t, item)
	const patient, uuid, short = `<id extension="9999999999" root="2.16.840.1.113883.2.1.4.1"/>`, `<id root="00000002-5EED-4000-8000-000000000000"/>`, `<id extension="000000-Z99999-5EED0X" root="2.16.840.1.113883.2.1.3.2.4.18.8"/>`
	evil := func(s string) string { return strings.ReplaceAll(s, `value="100"`, `value="9999"`) }

	for _, c := range []struct {
		name, from, to string
		check          string // that fails
		says           string
		national       Result
	}{
		// A second prescription wrapped in, or around, the signed one.
		{"a forged prescription inside the signed one", `<typeId `, evil(whole) + `<typeId `, "structure", "holds another ParentPrescription", Passed},
		{"the signed prescription inside a forged one", whole, strings.Replace(evil(whole), `<typeId `, `<component>`+whole+`</component><typeId `, 1), "structure", "ParentPrescription/component: holds another ParentPrescription", Failed},
		{"the signed prescription inside the signature", signature, signature + `<x>` + whole + `</x>`, "structure", "holds another ParentPrescription", Passed},
		{"another namespace's ParentPrescription around it", whole, `<x:ParentPrescription xmlns:x="urn:x">` + whole + `</x:ParentPrescription>`, "structure", `namespace "urn:x"`, Failed},

		// Two of what there is one of: readers differ in which they take.
		{"two Signatures", signature, signature + signature, "elements_present", "author/signatureText/Signature: is the second of 2", Failed},
		{"two signatureTexts", `<signatureText>`, `<signatureText/><signatureText>`, "elements_present", "author/signatureText: is the second of 2", Failed},
		{"two signatureTexts, the first signed", `</signatureText>`, `</signatureText><signatureText/>`, "elements_present", "author/signatureText: is the second of 2", Failed},
		{"two SignedInfos", info, evil(info) + info, "elements_present", "SignedInfo: is the second of 2", Failed},
		{"two SignatureValues", value, value + value, "elements_present", "SignatureValue: is the second of 2", Failed},
		{"two certificates", cert, cert + cert, "elements_present", "X509Certificate: is the second of 2", Failed},
		{"two KeyInfos", `<KeyInfo>`, `<KeyInfo/><KeyInfo>`, "elements_present", "KeyInfo: is the second of 2", Failed},
		{"two prescriptions of one parent", prescription, evil(prescription) + prescription, "structure", "pertinentPrescription: is the second of 2", NotDecidable},
		{"two authors", `<author `, `<author/><author `, "elements_present", "author: is the second of 2", Failed},
		{"two authors, the first signed", `</author>`, `</author><author/>`, "elements_present", "author: is the second of 2", Failed},
		{"two times", `<time `, `<time value="20201001000000"/><time `, "structure", "time: is the second of 2", NotDecidable},
		{"two patients", `<recordTarget `, `<recordTarget/><recordTarget `, "structure", "recordTarget: is the second of 2", NotDecidable},
		{"two prescribers", `<AgentPerson `, `<AgentPerson/><AgentPerson `, "structure", "AgentPerson: is the second of 2", NotDecidable},
		{"two line items in one", `<pertinentLineItem `, `<pertinentLineItem/><pertinentLineItem `, "structure", "pertinentLineItem: is the second of 2", NotDecidable},
		{"two UUIDs", uuid, uuid + uuid, "structure", "has 3 ids, wanted two", Passed},
		{"another UUID before the signed one", uuid, `<id root="00000002-5EED-4000-8000-00000000EEEE"/>` + uuid, "structure", "has 3 ids, wanted two", Failed},
		{"another short form", short, short + strings.Replace(short, "000000-", "EEEEEE-", 1), "structure", "has 3 ids, wanted two", Passed},

		// What is signed is cut in two by what is dropped.
		{"a comment inside an id", patient, strings.Replace(patient, "/>", "><!-- x --></id>", 1), "structure", "recordTarget/Patient/id: holds a comment", Passed},
		{"a comment inside a name", `<family>PATIENT`, `<family>PAT<!-- x -->IENT`, "structure", "name/family: holds a comment", Passed},
		{"a comment inside the DigestValue", `<DigestValue>`, `<DigestValue><!-- x -->`, "structure", "SignedInfo/Reference/DigestValue: holds a comment", Passed},
		{"a comment inside the SignatureValue", value, value[:40] + `<!-- x -->` + value[40:], "elements_present", "SignatureValue: is in 2 pieces", Failed},
		{"a comment beside the SignatureValue", value, value + `<!-- x -->`, "structure", "Signature: holds a comment", Passed},
		{"an instruction inside a name", `<family>PATIENT`, `<family>PAT<?x y?>IENT`, "structure", "name/family: holds a processing instruction", NotDecidable},
		{"CDATA in place of text", `<family>PATIENT`, `<family><![CDATA[PATIENT]]>`, "structure", "name/family: holds a CDATA section", NotDecidable},
		{"the certificate as CDATA", cert, strings.NewReplacer(`<X509Certificate>`, `<X509Certificate><![CDATA[`, `</X509Certificate>`, `]]></X509Certificate>`).Replace(cert), "elements_present", "X509Certificate: is empty", Failed},
		{"a carriage return", `<family>PATIENT`, `<family>PAT&#13;IENT`, "structure", "carriage return", NotDecidable},

		// Namespaces that only some readers see.
		{"a line item in another namespace", `<pertinentLineItem `, `<pertinentLineItem xmlns="urn:x" `, "structure", `pertinentLineItem: is in namespace "urn:x"`, NotDecidable},
		{"another namespace inside a line item", `<quantity `, `<quantity xmlns="urn:x" `, "structure", `quantity: is in namespace "urn:x"`, NotDecidable},
		{"a prefix bound anew", `<recordTarget `, `<p:recordTarget xmlns:p="urn:x"/><recordTarget `, "structure", "recordTarget: is the second of 2", NotDecidable},
		{"a line item of another namespace beside them", item, item + `<p:pertinentInformation2 xmlns:p="urn:x"><p:pertinentLineItem/></p:pertinentInformation2>`, "structure", `namespace "urn:x"`, NotDecidable},
		{"no namespace", `<pertinentLineItem `, `<pertinentLineItem xmlns="" `, "structure", "is in no namespace", NotDecidable},
		{"a prefixed attribute that hides one", `<quantity `, `<quantity xmlns:p="urn:x" p:value="1" `, "structure", `attribute "p:value" with a prefix`, NotDecidable},
		{"a Signature of another namespace", `<Signature xmlns="` + dsig + `">`, `<Signature xmlns="urn:x">`, "elements_present", `Signature: is in namespace "urn:x"`, Failed},
		{"a SignedInfo of another namespace", `<SignedInfo>`, `<SignedInfo xmlns="urn:x">`, "elements_present", `SignedInfo: is in namespace "urn:x"`, Failed},
		{"a Reference of another namespace", `<Reference>`, `<Reference xmlns="urn:x">`, "structure", `Reference: is in namespace "urn:x"`, NotDecidable},

		// What is signed is not what is shown.
		{"another dose", good, evil(good), "matches_prescription", "DigestValue is not the hash of the prescription", Failed},
		{"another patient", `extension="9999999999"`, `extension="9999999990"`, "matches_prescription", "DigestValue is not the hash", Failed},
		{"a line item more", item, item + item, "matches_prescription", "DigestValue is not the hash", Failed},
		{"a line item less", item, "", "matches_prescription", "DigestValue is not the hash", Failed},
		{"a nested line item in the part that is left out", `<pertinentItemStatus `, `<pertinentInformation2><pertinentLineItem/></pertinentInformation2><pertinentItemStatus `, "", "", Passed},
		{"the Signature moved to another author", signature, "", "elements_present", "signatureText: has no Signature", Failed},
		{"the Signature beside the signatureText", `<signatureText>` + signature + `</signatureText>`, `<signatureText/>` + signature, "elements_present", "signatureText: has no Signature", Failed},
		{"text beside the Signature", signature, `approved` + signature, "structure", `holds text "approved"`, Passed},

		// Methods other than those of the service.
		{"a Reference to somewhere", `<Reference>`, `<Reference URI="#x">`, "signed_info", "extra attribute URI", Failed},
		{"an Id", info, strings.Replace(info, `<SignedInfo>`, `<SignedInfo Id="x">`, 1), "signed_info", "extra attribute Id", Failed},
		{"a Transform more", `</Transforms>`, `<Transform Algorithm="http://www.w3.org/TR/1999/REC-xslt-19991116"></Transform></Transforms>`, "signed_info", "first difference", Failed},
		{"a second Reference", `</Reference>`, `</Reference><Reference></Reference>`, "structure", "Reference: is the second of 2", NotDecidable},
		{"inclusive canonicalisation", `<CanonicalizationMethod Algorithm="` + excC14N, `<CanonicalizationMethod Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315`, "signed_info", "first difference", NotDecidable},
		{"canonicalisation with comments", `<CanonicalizationMethod Algorithm="` + excC14N, `<CanonicalizationMethod Algorithm="` + excC14N + `WithComments`, "signed_info", "first difference", NotDecidable},
		{"an HMAC", `http://www.w3.org/2001/04/xmldsig-more#rsa-sha256`, dsig + `hmac-sha1`, "signed_info", "names SignatureMethod", Failed},
		{"no signature", `http://www.w3.org/2001/04/xmldsig-more#rsa-sha256`, ``, "signed_info", "names SignatureMethod", Failed},
		{"SHA-1 for the digest", `http://www.w3.org/2001/04/xmlenc#sha256`, dsig + `sha1`, "signed_info", "names DigestMethod", Failed},
		{"MD5 for the digest", `http://www.w3.org/2001/04/xmlenc#sha256`, `http://www.w3.org/2001/04/xmldsig-more#md5`, "signed_info", "names DigestMethod", Failed},
		{"stray bytes in the SignatureValue", value, strings.Replace(value, `</`, `*</`, 1), "structure", "SignatureValue: is not base64", Passed},
		{"stray bytes in the certificate", cert, strings.Replace(cert, `</`, `*</`, 1), "certificate_parses", "X509Certificate: is not base64", Failed},
		{"bytes after the certificate", cert, strings.Replace(cert, `</`, `AAAA</`, 1), "certificate_parses", "X509Certificate: ", Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Contains(t, good, c.from)
			in := strings.Replace(good, c.from, c.to, 1)
			require.NotEqual(t, good, in)
			r := judge(t, w.verifier(), []byte(in))
			assert.Equal(t, c.national, r.National.Accept, "%+v", r.National)
			if c.check == "" {
				assert.Equal(t, Passed, r.Rxguard.Accept)
				return
			}
			assert.Equal(t, Failed, r.Rxguard.Accept)
			got := check(t, r, c.check)
			assert.Equal(t, Failed, got.Result)
			assert.Contains(t, got.Why, c.says)
			if c.check == "structure" || c.check == "elements_present" {
				assert.Regexp(t, `\(line \d+, byte \d+\)$`, got.Why, "it names the place")
			}
		})
	}
}

// TestMessagesThatAreNoXML are refused as a whole, by name.
func TestMessagesThatAreNoXML(t *testing.T) {
	w := newPKI(t)
	good := string(w.sample(t))
	for _, c := range []struct{ name, from, to, says string }{
		{"an entity of its own", `<PORX_IN020101SM31 `, `<!DOCTYPE x [<!ENTITY dose "9999">]><PORX_IN020101SM31 `, "document type"},
		{"a billion laughs", `<PORX_IN020101SM31 `, `<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><PORX_IN020101SM31 `, "document type"},
		{"an external entity", `<PORX_IN020101SM31 `, `<!DOCTYPE x SYSTEM "file:///etc/passwd"><PORX_IN020101SM31 `, "document type"},
		{"an entity that is not declared", `PATIENT`, `&dose;`, "entity"},
		{"an attribute twice", `<quantity unit="1" `, `<quantity unit="1" unit="2" `, "duplicate attribute"},
		{"an attribute twice by namespace", `<quantity `, `<quantity xmlns:a="urn:x" xmlns:b="urn:x" a:v="1" b:v="2" `, "duplicate attribute"},
		{"a prefix that is not declared", `<quantity `, `<quantity x:y="z" `, "undeclared prefix"},
		{"cut off", `</PORX_IN020101SM31>`, ``, "truncated"},
		{"a second root", `</PORX_IN020101SM31>`, `</PORX_IN020101SM31><x/>`, "more than one root"},
		{"an encoding", `encoding="UTF-8"`, `encoding="UTF-16"`, "encoding"},
		{"a NUL", `PATIENT`, "PAT\x00IENT", "illegal character"},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Contains(t, good, c.from)
			err := w.verifier().VerifyMessage([]byte(strings.Replace(good, c.from, c.to, 1)), ReadOptions{}, func(Report) error { return nil })
			var me *MessageError
			require.ErrorAs(t, err, &me)
			assert.ErrorContains(t, err, c.says)
			assert.Regexp(t, `line \d+, .*offset \d+`, err.Error())
		})
	}
}

// TestOneOfTwoPrescriptionsDoesNotSpeakForTheOther: an unsigned one beside it.
func TestOneOfTwoPrescriptionsDoesNotSpeakForTheOther(t *testing.T) {
	w := newPKI(t)
	m := parsed(t, message(signingtest.MessageConfig{Prescriptions: 2}))
	both := signedMessage(t, message(signingtest.MessageConfig{Prescriptions: 2}), RS256, testKey(), w.leaf)
	first := regexp.MustCompile(`(?s)<Signature .*?</Signature>`).Find(both)
	// The first one's Signature in both.
	swapped := regexp.MustCompile(`(?s)<Signature .*?</Signature>`).ReplaceAll(both, first)
	require.Len(t, m.Prescriptions(), 2)
	var got []Result
	require.NoError(t, w.verifier().VerifyMessage(swapped, ReadOptions{}, func(r Report) error {
		got = append(got, r.Rxguard.Accept)
		return nil
	}))
	assert.Equal(t, []Result{Passed, Failed}, got)
}

// TestBadMessagesAreToldByElementAndPlace is about what is wrong without intent.
func TestBadMessagesAreToldByElementAndPlace(t *testing.T) {
	w := newPKI(t)
	good := string(w.sample(t))
	item := regexp.MustCompile(`(?s)\s*<pertinentInformation2 contextConductionInd="true" inversionInd.*</pertinentLineItem>\s*</pertinentInformation2>`).FindString(good)
	require.NotEmpty(t, item)
	for _, c := range []struct{ name, from, to, check, says string }{
		{"without line items", item, "", "structure", "pertinentPrescription: has no pertinentInformation2"},
		{"without author time", `<time value="20201002090000"/>`, ``, "structure", "author: has no time"},
		{"an impossible date", `<time value="20201002090000"/>`, `<time value="20200230090000"/>`, "structure", `time: has the value "20200230090000"`},
		{"a date too long", `<time value="20201002090000"/>`, `<time value="20201002090000.000"/>`, "structure", "time: has the value"},
		{"without id", `<id root="00000002-5EED-4000-8000-000000000000"/>`, ``, "structure", "has 1 ids"},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Contains(t, good, c.from)
			r := judge(t, w.verifier(), []byte(strings.Replace(good, c.from, c.to, 1)))
			got := check(t, r, c.check)
			assert.Equal(t, Failed, got.Result)
			assert.Contains(t, got.Why, c.says)
			assert.Regexp(t, `\(line \d+, byte \d+\)$`, got.Why)
			assert.Equal(t, Failed, r.Rxguard.Accept)
			assert.NotEqual(t, Passed, r.National.Accept)
			if strings.Contains(c.name, "author time") {
				assert.Equal(t, NotDecidable, check(t, r, "validity").Result)
				assert.Equal(t, NotDecidable, check(t, r, "valid_when_signed").Result)
			}
		})
	}
	t.Run("with a thousand line items", func(t *testing.T) {
		in := signedMessage(t, message(signingtest.MessageConfig{Items: 1000}), RS256, testKey(), w.leaf)
		assert.Equal(t, Passed, judge(t, w.verifier(), in).Rxguard.Accept)
	})
	t.Run("with prefixes on every element", func(t *testing.T) {
		in := signedMessage(t, message(signingtest.MessageConfig{Prefix: "hl7"}), RS256, testKey(), w.leaf)
		r := judge(t, w.verifier(), in)
		assert.Equal(t, Passed, r.Rxguard.Accept, "%+v", r)
		assert.Equal(t, Passed, r.National.Accept)
	})
	t.Run("of 100 MB", func(t *testing.T) {
		err := w.verifier().VerifyMessage([]byte("<a>"+strings.Repeat(" ", 100<<20)), ReadOptions{}, nil)
		assert.ErrorContains(t, err, "expected at most 1048576")
	})
	t.Run("without a prescription", func(t *testing.T) {
		assert.ErrorContains(t, w.verifier().VerifyMessage([]byte("<a/>"), ReadOptions{}, nil), "no ParentPrescription in it")
	})
}
