package eps

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/c14n"
	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/tbs"
	"github.com/rxguard/rxguard/signing/signingtest"
)

// message is a synthetic one, signed at testTime.
func message(c signingtest.MessageConfig) string {
	c.At = testTime
	return string(signingtest.Message(c))
}

func parsed(t testing.TB, b string) *Message {
	t.Helper()
	m, err := ParseMessage([]byte(b), ReadOptions{MaxBytes: 64 << 20})
	require.NoError(t, err)
	return m
}

// signNative does what a card does.
func signNative(t testing.TB, p *Prescription) *SignedPrescription {
	t.Helper()
	msg, err := p.ToBeSigned()
	require.NoError(t, err)
	value, err := rsa.SignPKCS1v15(nil, testKey(), tbs.Hash(msg), tbs.Digest(msg))
	require.NoError(t, err)
	s, err := p.Finish(tbs.Signed(msg, value, parsing(certAt(t, testTime))))
	require.NoError(t, err)
	return s
}

// TestRealPrescriptionsHaveTheFragmentsThatWereSigned compares with bytes that another
// implementation derived from the national test service's prescriptions.
func TestRealPrescriptionsHaveTheFragmentsThatWereSigned(t *testing.T) {
	for _, name := range []string{"release_success", "ValidSignature"} {
		t.Run(name, func(t *testing.T) {
			m, err := ParseMessage(need.Read(t, "eps", "prescriptions", name+".xml"), ReadOptions{})
			require.NoError(t, err)
			require.Len(t, m.Prescriptions(), 1)
			p := m.Prescriptions()[0]
			require.NoError(t, p.Err())
			assert.Equal(t, string(need.Read(t, "eps", "vectors", name+".fragments.c14n.xml")), string(p.Fragments()))
			info, err := p.signedInfo(RS1)
			require.NoError(t, err)
			assert.Equal(t, string(need.Read(t, "eps", "vectors", name+".signedinfo.c14n.xml")), string(info))
		})
	}
}

// TestTheServicesOwnFragmentsCanonicalise takes the service's fragments, indented by
// it, to its canonical ones.
func TestTheServicesOwnFragmentsCanonicalise(t *testing.T) {
	in := need.Read(t, "eps", "vectors", "PrepareIntermediate-Hl7V3SignatureFragments.xml")
	want := bytes.TrimSuffix(need.Read(t, "eps", "vectors", "PrepareIntermediate-Hl7V3SignatureFragmentsCanonicalized.txt"), []byte("\n"))
	doc, err := c14n.Parse(in, c14n.Options{})
	require.NoError(t, err)
	r := &reader{doc: doc, space: hl7}
	var groups [][]*c14n.Element
	for f := range doc.Root.Elements() {
		var group []*c14n.Element
		for e := range f.Elements() {
			group = append(group, e)
		}
		groups = append(groups, group)
	}
	got := r.write(groups)
	require.Nil(t, r.err)
	assert.Equal(t, string(want), string(got))
}

// TestFragmentsAreExclusiveC14N has libxml2 canonicalise them.
func TestFragmentsAreExclusiveC14N(t *testing.T) {
	xmllint := need.Tool(t, "xmllint", "libxml2-utils")
	p := parsed(t, message(signingtest.MessageConfig{Items: 3, Prefix: "hl7"})).Prescriptions()[0]
	require.NoError(t, p.Err())
	cmd := exec.Command(xmllint, "--nonet", "--exc-c14n", "-")
	cmd.Stdin = bytes.NewReader(p.Fragments())
	out, err := cmd.Output()
	require.NoError(t, err)
	assert.Equal(t, string(p.Fragments()), string(out))
}

func TestWhatIsNotSignedIsNotInTheFragments(t *testing.T) {
	p := parsed(t, message(signingtest.MessageConfig{})).Prescriptions()[0]
	f := string(p.Fragments())
	assert.NotContains(t, f, "pertinentItemStatus")
	assert.NotContains(t, f, "<low")
	assert.Contains(t, f, `<repeatNumber><high value="6"></high></repeatNumber>`)
	assert.NotContains(t, f, "responsibleParty contextControlCode")
	assert.NotContains(t, f, "signatureText")
	assert.Contains(t, f, `<value> None &lt; one &gt; to be taken, "at 7°" </value>`, "text is not trimmed")
	assert.NotContains(t, f, "\n")

	for name, c := range map[string]struct {
		from, to string
		same     bool
	}{
		"another status":                        {`code="0007"`, `code="0001"`, true},
		"another low":                           {`<low value="1"/>`, `<low value="2"/>`, true},
		"no low":                                {`<low value="1"/>`, ``, true},
		"another high":                          {`<high value="6"/>`, `<high value="7"/>`, false},
		"white space between elements":          {`<birthTime`, "\n\t<birthTime", true},
		"a comment outside what is signed":      {`<effectiveTime value`, `<!-- x --><effectiveTime value`, true},
		"another patient":                       {`extension="9999999999"`, `extension="9999999998"`, false},
		"another dose":                          {`value="100"`, `value="1000"`, false},
		"white space in text":                   {` None `, ` None  `, false},
		"an attribute in another place":         {`unit="1" value="100"`, `value="100" unit="1"`, true},
		"other quotes":                          {`unit="1"`, `unit='1'`, true},
		"another spelling":                      {`unit="1"`, `unit="&#49;"`, true},
		"a line break in an attribute":          {`No medicine 500mg`, "No medicine\n500mg", true},
		"line ends of Windows between elements": {"\n", "\r\n", true},
		"a line end of Windows in an attribute": {`No medicine 500mg`, "No medicine\r\n500mg", true},
		"a tab in an attribute":                 {`No medicine 500mg`, "No medicine\t500mg", true},
		"a tab reference in an attribute":       {`No medicine 500mg`, "No medicine&#9;500mg", true},
		"a second space in an attribute":        {`No medicine 500mg`, "No medicine  500mg", false},
		"a namespace that nothing is in":        {`<quantity `, `<quantity xmlns:x="urn:x" `, true},
		"its own namespace declared once more":  {`<quantity `, `<quantity xmlns="urn:hl7-org:v3" `, true},
	} {
		t.Run(name, func(t *testing.T) {
			in := message(signingtest.MessageConfig{})
			require.Contains(t, in, c.from)
			q := parsed(t, strings.ReplaceAll(in, c.from, c.to)).Prescriptions()[0]
			require.NoError(t, q.Err())
			assert.Equal(t, c.same, string(q.Fragments()) == f)
		})
	}
}

// TestAPrescriptionThatCannotBeReadAsOneThing edits a good message.
func TestAPrescriptionThatCannotBeReadAsOneThing(t *testing.T) {
	const item = "ParentPrescription/pertinentInformation1/pertinentPrescription/pertinentInformation2/pertinentLineItem"
	for _, c := range []struct {
		name, from, to string
		element, says  string
	}{
		{"no author", `author`, `writer`, "ParentPrescription/pertinentInformation1/pertinentPrescription", "has no author"},
		{"no author time", `<time value="20201002090000"/>`, ``, "pertinentPrescription/author", "has no time"},
		{"a time without a value", `<time value=`, `<time valu=`, "author/time", "has no value"},
		{"an impossible date", `value="20201002090000"/>` + "\n          <sig", `value="20201302090000"/>` + "\n          <sig", "author/time", `"20201302090000"`},
		{"the 30th of February", `<time value="20201002090000"/>`, `<time value="20200230090000"/>`, "author/time", "YYYYMMDDhhmmss"},
		{"a date alone", `<time value="20201002090000"/>`, `<time value="20201002"/>`, "author/time", "YYYYMMDDhhmmss"},
		{"a time zone", `<time value="20201002090000"/>`, `<time value="20201002090000+0100"/>`, "author/time", "YYYYMMDDhhmmss"},
		{"two times", `<time value="20201002090000"/>`, `<time value="20201002090000"/><time value="20201002090000"/>`, "author/time", "second of 2"},
		{"one id", `<id extension="000000-Z99999-5EED0X" root="2.16.840.1.113883.2.1.3.2.4.18.8"/>`, ``, "pertinentPrescription", "has 1 ids, wanted two"},
		{"two UUIDs", `<id extension="000000-Z99999-5EED0X" root="2.16.840.1.113883.2.1.3.2.4.18.8"/>`, `<id root="00000002-5EED-4000-8000-000000000009"/>`, "pertinentPrescription/id", "short form"},
		{"three ids", `<id extension="000000-Z99999-5EED0X"`, `<id root="00000002-5EED-4000-8000-000000000009"/><id extension="000000-Z99999-5EED0X"`, "pertinentPrescription", "has 3 ids"},
		{"ids the other way round", `<id root="00000002-5EED-4000-8000-000000000000"/>`, `<id extension="000000-Z99999-5EED0X" root="2.16.840.1.113883.2.1.3.2.4.18.8"/>`, "pertinentPrescription/id", "is not the prescription's UUID"},
		{"two ids of the parent", `<id root="00000001-5EED-4000-8000-000000000000"/>`, `<id root="00000001-5EED-4000-8000-000000000000"/><id root="x"/>`, "ParentPrescription", "has 2 ids of its own"},
		{"no line items", `pertinentInformation2`, `pertinentInformation9`, "pertinentPrescription", "has no pertinentInformation2"},
		{"a pertinentInformation2 without its item", `pertinentLineItem`, `pertinentItem`, "pertinentPrescription/pertinentInformation2", "has no pertinentLineItem"},
		{"no patient", `recordTarget`, `target`, "ParentPrescription", "has no recordTarget"},
		{"two patients", `<pertinentInformation1 contextConductionInd="true" typeCode="PERT">` + "\n        <templateId", `<recordTarget/><pertinentInformation1 contextConductionInd="true" typeCode="PERT">` + "\n        <templateId", "ParentPrescription/recordTarget", "second of 2"},
		{"a second prescription inside one", `<recordTarget`, `<component><ParentPrescription/></component><recordTarget`, "ParentPrescription/component", "holds another ParentPrescription"},
		{"a second pertinentPrescription", `<pertinentPrescription `, `<pertinentPrescription/><pertinentPrescription `, "pertinentInformation1/pertinentPrescription", "second of 2"},
		{"a comment inside an id", `<id extension="9999999999" root="2.16.840.1.113883.2.1.4.1"/>`, `<id extension="9999999999" root="2.16.840.1.113883.2.1.4.1"><!-- --></id>`, "recordTarget/Patient/id", "holds a comment"},
		{"a comment inside text", `<family>PATIENT`, `<family>PAT<!-- -->IENT`, "patientPerson/name/family", "holds a comment"},
		{"an instruction", `<family>PATIENT`, `<family><?x y?>PATIENT`, "patientPerson/name/family", "holds a processing instruction"},
		{"a CDATA section", `<family>PATIENT`, `<family><![CDATA[PAT]]>IENT`, "patientPerson/name/family", "holds a CDATA section"},
		{"a carriage return", `<family>PATIENT`, `<family>PAT&#13;IENT`, "patientPerson/name/family", "carriage return"},
		{"a line end of Windows in text", `one &gt; to`, "one &gt;\r\nto", "pertinentDosageInstructions/value", "carriage return"},
		{"a line end of Windows in an attribute alone", `No medicine 500mg`, "No medicine\r500mg", "manufacturedRequestedMaterial/code", "carriage return"},
		{"two tabs in an attribute", `No medicine 500mg`, "No medicine\t\t500mg", "manufacturedRequestedMaterial/code", "holds tabs"},
		{"two tabs by reference", `No medicine 500mg`, "No medicine&#9;&#9;500mg", "manufacturedRequestedMaterial/code", "holds tabs"},
		{"a carriage return in an attribute", `code="0" `, `code="0&#13;" `, "administrativeGenderCode", "carriage return"},
		{"no-break space alone", `<family>PATIENT`, `<family>&#160;`, "patientPerson/name/family", "white space other than XML's"},
		{"text beside elements", `<name use="L">`, `<name use="L">MX`, "patientPerson/name", "text beside elements"},
		{"another namespace", `<quantity `, `<quantity xmlns="urn:x" `, item + "/component/lineItemQuantity/quantity", `namespace "urn:x"`},
		{"no namespace", `<quantity `, `<quantity xmlns="" `, item + "/component/lineItemQuantity/quantity", "no namespace"},
		{"another namespace in what is left out", `<low `, `<low xmlns="urn:x" `, item + "/repeatNumber/low", `namespace "urn:x"`},
		{"another namespace for the item status", `<pertinentInformation4 `, `<pertinentInformation4 xmlns="urn:x" `, item + "/pertinentInformation4", `namespace "urn:x"`},
		{"another namespace for the whole", `<ParentPrescription `, `<ParentPrescription xmlns="urn:x" `, "ParentPrescription", `namespace "urn:x"`},
		{"a prefixed attribute", `<quantity `, `<quantity xmlns:x="urn:x" x:a="1" `, item + "/component/lineItemQuantity/quantity", `attribute "x:a" with a prefix`},
		{"xml:space", `<quantity `, `<quantity xml:space="preserve" `, item + "/component/lineItemQuantity/quantity", "with a prefix"},
		{"children of one name apart", `<family>PATIENT</family>`, `<family>PATIENT</family><given>ALSO</given>`, "patientPerson/name/given", "comes again"},
		{"text in the signatureText", `<signatureText nullFlavor="NA"/>`, `<signatureText>signed</signatureText>`, "author/signatureText", `holds text "signed"`},
		{"two signatureTexts", `<signatureText nullFlavor="NA"/>`, `<signatureText/><signatureText/>`, "author/signatureText", "second of 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := message(signingtest.MessageConfig{})
			require.Contains(t, in, c.from)
			p := parsed(t, strings.ReplaceAll(in, c.from, c.to)).Prescriptions()[0]
			var me *MessageError
			require.ErrorAs(t, p.Err(), &me)
			assert.True(t, strings.HasSuffix(me.Element, c.element), me.Element)
			assert.Contains(t, me.Problem, c.says)
			assert.Positive(t, me.Line)
			assert.Positive(t, me.Offset)
			assert.Contains(t, me.Error(), fmt.Sprintf("(line %d, byte %d)", me.Line, me.Offset))
			assert.Nil(t, p.Fragments())
			_, err := p.ToBeSigned()
			assert.Equal(t, p.Err(), err, "it is not signed")
			assert.Equal(t, p.Err(), p.Accepts(certAt(t, testTime)))
		})
	}
}

func TestOneBadPrescriptionLeavesTheOthers(t *testing.T) {
	in := message(signingtest.MessageConfig{Prescriptions: 3})
	i := strings.LastIndex(in, "<time ")
	in = in[:i] + "<tame " + in[i+6:]
	ps := parsed(t, in).Prescriptions()
	require.Len(t, ps, 3)
	assert.NoError(t, ps[0].Err())
	assert.NoError(t, ps[1].Err())
	assert.ErrorContains(t, ps[2].Err(), "has no time")
	assert.Greater(t, ps[2].Line(), ps[1].Line())
}

func TestWhatIsNoMessage(t *testing.T) {
	for name, c := range map[string]struct{ in, says string }{
		"nothing":              {"", "cannot be read"},
		"no XML":               {"hello", "cannot be read"},
		"cut off":              {message(signingtest.MessageConfig{})[:5000], "cannot be read"},
		"no prescription":      {"<a><b/></a>", "no ParentPrescription"},
		"a billion laughs":     {`<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><a>&c;</a>`, "document type declaration"},
		"an entity":            {"<ParentPrescription>&b;</ParentPrescription>", "entity"},
		"UTF-16":               {"\xff\xfe<\x00a\x00/\x00>\x00", "UTF-8"},
		"another encoding":     {`<?xml version="1.0" encoding="ISO-8859-1"?><a/>`, "UTF-8"},
		"more than is allowed": {"<a>" + strings.Repeat(" ", 1<<20) + "</a>", "1048576"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := ParseMessage([]byte(c.in), ReadOptions{})
			assert.Nil(t, m)
			var me *MessageError
			require.ErrorAs(t, err, &me)
			assert.ErrorContains(t, err, c.says)
			assert.True(t, strings.HasPrefix(err.Error(), "eps: "), err.Error())
		})
	}
}

func TestAThousandLineItems(t *testing.T) {
	m, err := ParseMessage([]byte(message(signingtest.MessageConfig{Items: 1000})), ReadOptions{MaxBytes: 4 << 20})
	require.NoError(t, err)
	p := m.Prescriptions()[0]
	require.NoError(t, p.Err())
	assert.Equal(t, 1003, bytes.Count(p.Fragments(), []byte("<Fragment>")))
}

// TestASignedMessageKeepsItsBytes: only signatureText changes.
func TestASignedMessageKeepsItsBytes(t *testing.T) {
	for name, c := range map[string]struct{ from, to, before, after string }{
		"nullFlavor":      {`<signatureText nullFlavor="NA"/>`, `<signatureText nullFlavor="NA"/>`, `<signatureText>`, `</signatureText>`},
		"empty":           {`<signatureText nullFlavor="NA"/>`, `<signatureText/>`, `<signatureText>`, `</signatureText>`},
		"start and end":   {`<signatureText nullFlavor="NA"/>`, "<signatureText >\n  <!-- sign here -->\n</signatureText>", ``, ``},
		"white space":     {`<signatureText nullFlavor="NA"/>`, "<signatureText >\n </signatureText >", `<signatureText >`, `</signatureText>`},
		"more attributes": {`<signatureText nullFlavor="NA"/>`, `<signatureText a = "1>"  nullFlavor = 'NA' b='"' />`, `<signatureText a = "1>" b='"'>`, `</signatureText>`},
		"missing":         {`<signatureText nullFlavor="NA"/>`, ``, `<signatureText>`, `</signatureText>`},
	} {
		for _, prefix := range []string{"", "hl7"} {
			t.Run(name+" "+prefix, func(t *testing.T) {
				if c.before == "" {
					in := strings.ReplaceAll(message(signingtest.MessageConfig{}), c.from, c.to)
					assert.ErrorContains(t, parsed(t, in).Prescriptions()[0].Err(), "comment")
					return
				}
				qualify := func(s string) string {
					if prefix == "" {
						return s
					}
					s = strings.ReplaceAll(s, "<", "<"+prefix+":")
					return strings.ReplaceAll(s, "<"+prefix+":/", "</"+prefix+":")
				}
				in := strings.ReplaceAll(message(signingtest.MessageConfig{Prescriptions: 3, Prefix: prefix}), qualify(c.from), qualify(c.to))
				m := parsed(t, in)
				s := signNative(t, m.Prescriptions()[1])
				out, err := m.Fill(s)
				require.NoError(t, err)
				want := qualify(c.before) + string(s.XML()) + qualify(c.after)
				require.Equal(t, 1, strings.Count(string(out), want))
				if c.to == "" {
					assert.Equal(t, in, strings.Replace(string(out), want, "", 1))
				} else {
					assert.Equal(t, in, strings.Replace(string(out), want, qualify(c.to), 1))
				}
			})
		}
	}
}

func TestEveryPrescriptionOfAMessageIsSigned(t *testing.T) {
	m := parsed(t, message(signingtest.MessageConfig{Prescriptions: 4}))
	var all []*SignedPrescription
	for i, p := range m.Prescriptions() {
		if i%2 == 1 {
			var err error
			p, err = p.WithAlgorithm(RS1)
			require.NoError(t, err)
			assert.Equal(t, RS1, p.Algorithm())
		}
		all = append(all, signNative(t, p))
	}
	out, err := m.Fill(all...)
	require.NoError(t, err)
	for i, p := range parsed(t, string(out)).Prescriptions() {
		require.NoError(t, p.Err())
		signature, problem := p.signature()
		require.Nil(t, problem)
		checks, found := examine(p.doc, signature, p)
		for _, c := range checks {
			if c.Number == 5 {
				assert.Equal(t, Passed, c.Result)
			}
			assert.NotEqual(t, Failed, c.Result, "%+v", c)
		}
		assert.Equal(t, []crypto.Hash{crypto.SHA256, crypto.SHA1}[i%2], found.method.hash)
		assert.Same(t, m.Prescriptions()[i].doc, all[i].Prescription().doc)
	}
}

func TestSignTakesItsOwnSignaturesOnly(t *testing.T) {
	m := parsed(t, message(signingtest.MessageConfig{Prescriptions: 2}))
	s := signNative(t, m.Prescriptions()[0])
	other := parsed(t, message(signingtest.MessageConfig{Prescriptions: 2}))
	for says, call := range map[string]func() ([]byte, error){
		"no signature":                 func() ([]byte, error) { return m.Fill(nil) },
		"wanted one from signing.Sign": func() ([]byte, error) { return m.Fill(&SignedPrescription{}) },
		"another message":              func() ([]byte, error) { return other.Fill(s) },
		"two signatures":               func() ([]byte, error) { return m.Fill(s, s) },
		"wanted one from ParseMessage": func() ([]byte, error) { return (*Message)(nil).Fill(s) },
		"no message; wanted one":       func() ([]byte, error) { return (&Message{}).Fill(s) },
	} {
		out, err := call()
		assert.ErrorContains(t, err, says)
		assert.Nil(t, out)
	}
	out, err := m.Fill()
	require.NoError(t, err)
	assert.Equal(t, message(signingtest.MessageConfig{Prescriptions: 2}), string(out), "nothing to fill in")
}

func TestANativeSignatureIsTheDocumentsOwn(t *testing.T) {
	ps := parsed(t, message(signingtest.MessageConfig{Prescriptions: 2})).Prescriptions()
	msg, err := ps[0].ToBeSigned()
	require.NoError(t, err)
	assert.Equal(t, "eps-prescription", msg.Kind())
	assert.True(t, tbs.RSAOnly(msg))
	value, err := rsa.SignPKCS1v15(nil, testKey(), tbs.Hash(msg), tbs.Digest(msg))
	require.NoError(t, err)
	sig := tbs.Signed(msg, value, parsing(certAt(t, testTime)))
	_, err = ps[1].Finish(sig)
	assert.ErrorContains(t, err, "another document")
	_, err = ps[0].Finish(tbs.Signature{})
	assert.ErrorContains(t, err, "no signature")
	late := tbs.Signed(msg, value, parsing(certAt(t, testTime.Add(48*time.Hour))))
	_, err = ps[0].Finish(late)
	var ce *CheckError
	require.ErrorAs(t, err, &ce)
	assert.ErrorContains(t, err, textExpired)
	var bad *CertificateError
	assert.ErrorAs(t, ps[0].Accepts(certAt(t, testTime.Add(48*time.Hour))), &bad)
	assert.NoError(t, ps[0].Accepts(certAt(t, testTime)))

	s, err := ps[0].Finish(sig)
	require.NoError(t, err)
	assert.Equal(t, Passed, s.Checks()[4].Result, "the prescription is at hand")
	assert.Contains(t, string(s.XML()), base64.StdEncoding.EncodeToString(value))
	assert.Empty(t, (&SignedPrescription{}).XML())
	assert.Nil(t, (*SignedPrescription)(nil).Prescription())
}

func TestTheZeroPrescriptionIsNone(t *testing.T) {
	for _, p := range []*Prescription{nil, {}} {
		assert.ErrorIs(t, p.Err(), errZeroPrescription)
		_, err := p.ToBeSigned()
		assert.ErrorIs(t, err, errZeroPrescription)
		_, err = p.Finish(tbs.Signature{})
		assert.ErrorIs(t, err, errZeroPrescription)
		_, err = p.WithAlgorithm(RS1)
		assert.ErrorIs(t, err, errZeroPrescription)
		assert.ErrorIs(t, p.Accepts(nil), errZeroPrescription)
		assert.Zero(t, p.Line())
		assert.Empty(t, p.ID()+p.ShortID())
		assert.Nil(t, p.Fragments())
		assert.True(t, p.Time().IsZero())
	}
	p := parsed(t, message(signingtest.MessageConfig{})).Prescriptions()[0]
	_, err := p.WithAlgorithm(0)
	assert.ErrorContains(t, err, "wanted RS256 or RS1")
	assert.Nil(t, (*Message)(nil).Prescriptions())
}

// TestManyNamesTakeNoTime: what changes name with every child, behind many comments.
func TestManyNamesTakeNoTime(t *testing.T) {
	var b strings.Builder
	b.WriteString(strings.Repeat("<!---->", 50000))
	for i := range 50000 {
		fmt.Fprintf(&b, "<a%d/>", i)
	}
	in := strings.Replace(message(signingtest.MessageConfig{}), `<Patient classCode="PAT">`, `<Patient classCode="PAT">`+b.String(), 1)
	p := parsed(t, in).Prescriptions()[0]
	assert.ErrorContains(t, p.Err(), "holds a comment")

	again := strings.Replace(message(signingtest.MessageConfig{}), `<Patient classCode="PAT">`, `<Patient classCode="PAT">`+strings.Repeat("<a/><b/>", 100000), 1)
	assert.ErrorContains(t, parsed(t, again).Prescriptions()[0].Err(), "comes again")
}

// TestASignatureMethodThatTheServiceRewrites: it verifies what is not there.
func TestASignatureMethodThatTheServiceRewrites(t *testing.T) {
	m := parsed(t, message(signingtest.MessageConfig{}))
	p, err := m.Prescriptions()[0].WithAlgorithm(RS1)
	require.NoError(t, err)
	out, err := m.Fill(signNative(t, p))
	require.NoError(t, err)
	other := strings.NewReplacer(dsig+"rsa-sha1", dsig, dsig+"sha1", dsig).Replace(string(out))
	q := parsed(t, other).Prescriptions()[0]
	require.NoError(t, q.Err())
	r := new(Verifier).Verify(q)
	assert.Equal(t, Passed, r.National.Checks[3].Result, "%+v", r.National.Checks[3])
	assert.Equal(t, Passed, r.National.Checks[4].Result, "%+v", r.National.Checks[4])
	assert.Equal(t, Failed, r.Rxguard.Accept)

	// One that only looks like a method is taken for rsa-sha1 as it is.
	like := strings.Replace(string(out), dsig+"rsa-sha1", dsig+"rsa-sha512", 1)
	r = new(Verifier).Verify(parsed(t, like).Prescriptions()[0])
	assert.Equal(t, Failed, r.National.Checks[3].Result)
	assert.Equal(t, Failed, r.National.Checks[4].Result)
	assert.Equal(t, Failed, r.Rxguard.Accept)
}
