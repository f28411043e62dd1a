package signingtest

import (
	"bytes"
	"fmt"
	"time"
)

// MessageConfig says what a Message holds. The zero value is one prescription with
// two line items, of now.
type MessageConfig struct {
	Prescriptions int       // 0 means 1
	Items         int       // line items of each; 0 means 2
	At            time.Time // author/time, written in UTC; zero is now
	User          string    // id of the prescriber, as in the subject of a card's certificates; empty: not named
	Prefix        string    // of every HL7v3 element; empty: the default namespace
}

// Message writes an HL7v3 message with prescriptions that are not signed yet, of the
// shape and size of real ones, for eps.ParseMessage. Patient, prescriber and medicine
// are invented. The same configuration, with an At, gives the same bytes.
func Message(c MessageConfig) []byte {
	if c.Prescriptions == 0 {
		c.Prescriptions = 1
	}
	if c.Items == 0 {
		c.Items = 2
	}
	if c.At.IsZero() {
		c.At = time.Now()
	}
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" +
		`<PORX_IN020101SM31 xmlns="urn:hl7-org:v3">` + "\n" +
		`  <id root="` + uuid(0xF, 0) + `"/>` + "\n" +
		`  <creationTime value="` + instant(c.At) + `"/>` + "\n" +
		`  <ControlActEvent classCode="CACT" moodCode="EVN">` + "\n")
	for i := range c.Prescriptions {
		c.prescription(&b, i)
	}
	b.WriteString("  </ControlActEvent>\n</PORX_IN020101SM31>\n")
	if c.Prefix == "" {
		return b.Bytes()
	}
	p := []byte(c.Prefix + ":")
	out := bytes.ReplaceAll(b.Bytes(), []byte(` xmlns="`), []byte(` xmlns:`+c.Prefix+`="`))
	out = bytes.ReplaceAll(out, []byte("<"), append([]byte("<"), p...))
	out = bytes.ReplaceAll(out, append([]byte("<"), append(p, '/')...), append([]byte("</"), p...))
	return bytes.Replace(out, append([]byte("<"), append(p, '?')...), []byte("<?"), 1)
}

func instant(t time.Time) string { return t.UTC().Format("20060102150405") }

func uuid(kind, n int) string { return fmt.Sprintf("%08X-5EED-4000-8000-%012X", kind, n) }

// agent is who prescribes, and is responsible.
func (c MessageConfig) agent(b *bytes.Buffer) {
	id := `<id extension="C0000000" root="1.2.826.0.1285.0.2.1.54"/>`
	if c.User != "" {
		id = `<id extension="` + c.User + `" root="1.2.826.0.1285.0.2.0.65"/>`
	}
	b.WriteString(`          <AgentPerson classCode="AGNT">
            <id extension="000000000067" root="1.2.826.0.1285.0.2.0.67"/>
            <code code="R8000" codeSystem="1.2.826.0.1285.0.2.1.104"/>
            <telecom use="WP" value="tel:01632960000"/>
            <agentPerson classCode="PSN" determinerCode="INSTANCE">
              ` + id + `
              <name><prefix>DR</prefix><given>SYNTHETIC</given><family>PRESCRIBER</family></name>
            </agentPerson>
            <representedOrganization classCode="ORG" determinerCode="INSTANCE">
              <id extension="Z99999" root="1.2.826.0.1285.0.1.10"/>
              <code code="999" codeSystem="2.16.840.1.113883.2.1.3.2.4.17.94"/>
              <name>NOWHERE SURGERY</name>
              <telecom use="WP" value="tel:01632960001"/>
              <addr use="WP">
                <streetAddressLine>NOWHERE SURGERY</streetAddressLine>
                <streetAddressLine>1 NO STREET</streetAddressLine>
                <streetAddressLine>NOWHERE</streetAddressLine>
                <postalCode>ZZ99 9ZZ</postalCode>
              </addr>
              <healthCareProviderLicense classCode="PROV">
                <Organization classCode="ORG" determinerCode="INSTANCE">
                  <id extension="Z98" root="1.2.826.0.1285.0.1.10"/>
                  <code code="999" codeSystem="2.16.840.1.113883.2.1.3.2.4.17.94"/>
                  <name>NOWHERE &amp; DISTRICT</name>
                </Organization>
              </healthCareProviderLicense>
            </representedOrganization>
          </AgentPerson>
`)
}

func (c MessageConfig) prescription(b *bytes.Buffer, i int) {
	fmt.Fprintf(b, `  <subject typeCode="SUBJ" contextConductionInd="false">
    <ParentPrescription classCode="INFO" moodCode="EVN">
      <id root="%s"/>
      <code code="163501000000109" codeSystem="2.16.840.1.113883.2.1.3.2.4.15" displayName="Prescription - FocusActOrEvent (record artifact)"/>
      <effectiveTime value="%s"/>
      <typeId extension="PORX_MT132004UK31" root="2.16.840.1.113883.2.1.3.2.4.18.7"/>
      <recordTarget typeCode="RCT">
        <Patient classCode="PAT">
          <id extension="9999999999" root="2.16.840.1.113883.2.1.4.1"/>
          <addr use="H">
            <streetAddressLine>2 NO STREET</streetAddressLine>
            <streetAddressLine>NOWHERE</streetAddressLine>
            <postalCode>ZZ99 9ZZ</postalCode>
          </addr>
          <patientPerson classCode="PSN" determinerCode="INSTANCE">
            <name use="L"><prefix>MX</prefix><given>SYNTHETIC</given><family>PATIENT</family></name>
            <administrativeGenderCode code="0" codeSystem="2.16.840.1.113883.2.1.3.2.4.16.25"/>
            <birthTime value="19000101"/>
            <playedProviderPatient classCode="PAT">
              <subjectOf typeCode="SBJ">
                <patientCareProvision classCode="PCPR" moodCode="EVN">
                  <code code="1" codeSystem="2.16.840.1.113883.2.1.3.2.4.17.37"/>
                  <responsibleParty typeCode="RESP">
                    <healthCareProvider classCode="PROV">
                      <id extension="Z99999" root="1.2.826.0.1285.0.1.10"/>
                    </healthCareProvider>
                  </responsibleParty>
                </patientCareProvision>
              </subjectOf>
            </playedProviderPatient>
          </patientPerson>
        </Patient>
      </recordTarget>
      <pertinentInformation1 contextConductionInd="true" typeCode="PERT">
        <templateId extension="CSAB_RM-NPfITUK10.pertinentInformation" root="2.16.840.1.113883.2.1.3.2.4.18.2"/>
        <pertinentPrescription classCode="SBADM" moodCode="RQO">
          <id root="%s"/>
          <id extension="%06X-Z99999-5EED0X" root="2.16.840.1.113883.2.1.3.2.4.18.8"/>
          <code code="225426007" codeSystem="2.16.840.1.113883.2.1.3.2.4.15" displayName="Administration of therapeutic substance (procedure)"/>
          <effectiveTime nullFlavor="NA"/>
          <author contextControlCode="OP" typeCode="AUT">
          <time value="%s"/>
          <signatureText nullFlavor="NA"/>
`, uuid(1, i), c.At.UTC().Format("20060102")+"000000", uuid(2, i), i, instant(c.At))
	c.agent(b)
	b.WriteString("          </author>\n          <responsibleParty contextControlCode=\"OP\" typeCode=\"RESP\">\n")
	c.agent(b)
	b.WriteString("          </responsibleParty>\n")
	for n := range c.Items {
		fmt.Fprintf(b, `          <pertinentInformation2 contextConductionInd="true" inversionInd="false" negationInd="false" typeCode="PERT">
            <seperatableInd value="true"/>
            <templateId extension="CSAB_RM-NPfITUK10.sourceOf2" root="2.16.840.1.113883.2.1.3.2.4.18.2"/>
            <pertinentLineItem classCode="SBADM" moodCode="RQO">
              <id root="%s"/>
              <code code="225426007" codeSystem="2.16.840.1.113883.2.1.3.2.4.15" displayName="Administration of therapeutic substance (procedure)"/>
              <effectiveTime nullFlavor="NA"/>
              <repeatNumber><low value="1"/><high value="6"/></repeatNumber>
              <product contextControlCode="OP" typeCode="PRD">
                <manufacturedProduct classCode="MANU">
                  <manufacturedRequestedMaterial classCode="MMAT" determinerCode="KIND">
                    <code code="0000%d" codeSystem="2.16.840.1.113883.2.1.3.2.4.15" displayName="No medicine 500mg tablets"/>
                  </manufacturedRequestedMaterial>
                </manufacturedProduct>
              </product>
              <component typeCode="COMP">
                <seperatableInd value="false"/>
                <lineItemQuantity classCode="SPLY" moodCode="RQO">
                  <code code="373784005" codeSystem="2.16.840.1.113883.2.1.3.2.4.15" displayName="Dispensing medication (procedure)"/>
                  <quantity unit="1" value="100">
                    <translation code="428673006" codeSystem="2.16.840.1.113883.2.1.3.2.4.15" displayName="tablet" value="100"/>
                  </quantity>
                </lineItemQuantity>
              </component>
              <pertinentInformation2 contextConductionInd="true" typeCode="PERT">
                <seperatableInd value="false"/>
                <pertinentDosageInstructions classCode="OBS" moodCode="EVN">
                  <code code="DI" codeSystem="2.16.840.1.113883.2.1.3.2.4.17.30"/>
                  <value> None &lt; one &gt; to be taken, "at 7°" </value>
                </pertinentDosageInstructions>
              </pertinentInformation2>
              <pertinentInformation4 contextConductionInd="true" typeCode="PERT">
                <seperatableInd value="false"/>
                <pertinentItemStatus classCode="OBS" moodCode="EVN">
                  <code code="IS" codeSystem="2.16.840.1.113883.2.1.3.2.4.17.30"/>
                  <value code="0007" codeSystem="2.16.840.1.113883.2.1.3.2.4.17.23"/>
                </pertinentItemStatus>
              </pertinentInformation4>
            </pertinentLineItem>
          </pertinentInformation2>
`, uuid(3, i<<16|n), n)
	}
	b.WriteString(`        </pertinentPrescription>
      </pertinentInformation1>
    </ParentPrescription>
  </subject>
`)
}
