package eps

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// ProvenanceInfo is what a Provenance says besides the signature.
type ProvenanceInfo struct {
	// ID is the resource's id, a UUID (RFC 9562 4). Required.
	ID string
	// Target refers to the MedicationRequests that are signed, each once, as
	// urn:uuid:… or Type/id. At least one.
	Target []string
	// Who refers to the prescriber's PractitionerRole, as urn:uuid:… or
	// PractitionerRole/id. Required.
	Who string
	// Recorded is when the Provenance was recorded, RFC 3339. Empty means the
	// answer's timestamp.
	Recorded string
}

const uuidPattern = `[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}`

var (
	uuidForm = regexp.MustCompile(`^` + uuidPattern + `$`)
	// A literal reference (FHIR R4, References), relative or to an entry of a Bundle.
	referenceForm = regexp.MustCompile(`^(urn:uuid:` + uuidPattern + `|[A-Z][A-Za-z]{0,63}/[A-Za-z0-9.\-]{1,64})$`)
)

func (p ProvenanceInfo) validate() error {
	if !uuidForm.MatchString(p.ID) {
		return fmt.Errorf("eps: provenance: id %s is not a UUID, wanted a form such as 28828c55-8fa7-42d7-916f-fcf076e0c10e", excerpt(p.ID))
	}
	if len(p.Target) == 0 {
		return errors.New("eps: provenance: no target, wanted a reference to each MedicationRequest that is signed")
	}
	for i, t := range p.Target {
		if err := validReference(t); err != nil {
			return fmt.Errorf("eps: provenance: target %d: %w", i, err)
		}
		if slices.Contains(p.Target[:i], t) {
			return fmt.Errorf("eps: provenance: target %d: %s is given twice, wanted each MedicationRequest once", i, excerpt(t))
		}
	}
	if err := validReference(p.Who); err != nil {
		return fmt.Errorf("eps: provenance: who: %w", err)
	}
	if !strings.HasPrefix(p.Who, "urn:uuid:") && !strings.HasPrefix(p.Who, "PractitionerRole/") {
		return fmt.Errorf("eps: provenance: who: %s refers to another resource, wanted the prescriber's PractitionerRole", excerpt(p.Who))
	}
	if p.Recorded != "" {
		if _, err := parseTimestamp(p.Recorded); err != nil {
			return fmt.Errorf("eps: provenance: recorded: %w", err)
		}
	}
	return nil
}

func validReference(s string) error {
	if !referenceForm.MatchString(s) {
		return fmt.Errorf("%s is not a reference, wanted urn:uuid:… or Type/id", excerpt(s))
	}
	return nil
}

// The members of the resource, in the order in which FHIR R4 lists them.
type provenance struct {
	ResourceType string                `json:"resourceType"`
	ID           string                `json:"id"`
	Target       []reference           `json:"target"`
	Recorded     string                `json:"recorded"`
	Agent        []provenanceAgent     `json:"agent"`
	Signature    []provenanceSignature `json:"signature"`
}

type reference struct {
	Reference string `json:"reference"`
}

type provenanceAgent struct {
	Who reference `json:"who"`
}

type provenanceSignature struct {
	Type []signatureType `json:"type"`
	When string          `json:"when"`
	Who  reference       `json:"who"`
	Data []byte          `json:"data"` // base64Binary, which is how encoding/json writes bytes
}

type signatureType struct {
	System string `json:"system"`
	Code   string `json:"code"`
}

// authorsSignature is "Author's Signature" of ASTM E1762.
var authorsSignature = signatureType{System: "urn:iso-astm:E1762-95:2013", Code: "1.2.840.10065.1.12.1.1"}

// Provenance writes the FHIR R4 Provenance resource that carries the
// signature in a prescription's message: JSON, indented by two spaces, without
// final newline, the same bytes for the same input. The signature's when is the
// answer's timestamp, verbatim, as the service wants it. A field of p that is
// missing or malformed is an error that names it; so is the zero Signed.
func (s *Signed) Provenance(p ProvenanceInfo) ([]byte, error) {
	if s == nil || len(s.xml) == 0 {
		return nil, errors.New("eps: provenance: nothing is signed, wanted the result of signing a Prepared")
	}
	if err := p.validate(); err != nil {
		return nil, err
	}
	doc := provenance{
		ResourceType: "Provenance",
		ID:           p.ID,
		Recorded:     p.Recorded,
		Agent:        []provenanceAgent{{Who: reference{p.Who}}},
		Signature: []provenanceSignature{{
			Type: []signatureType{authorsSignature},
			When: s.timestamp,
			Who:  reference{p.Who},
			Data: s.xml,
		}},
	}
	if doc.Recorded == "" {
		doc.Recorded = s.timestamp
	}
	for _, t := range p.Target {
		doc.Target = append(doc.Target, reference{t})
	}
	return json.MarshalIndent(doc, "", "  ")
}
