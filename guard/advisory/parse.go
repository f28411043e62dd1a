package advisory

import (
	"encoding/json"
)

// Files hands Parse the content of a serial file by its SHA-256. It is asked once
// for each place that names a file; Parse verifies what it gets, which must not change
// meanwhile, and keeps none of it.
type Files func(sha256 [32]byte) ([]byte, error)

// Parse reads one advisory, a JSON object as [Schema] describes it. It is
// stricter than JSON asks: unknown fields, duplicate fields, null, text after the
// object, invalid UTF-8, more than 64 MiB, an array of more than 2,000,000 elements
// or 10,000 clauses, and fields that contradict one another reject the document. The
// error is an *[Error], which names the path, what was found and what was wanted; an
// error of files is part of its text.
//
// A million serials take about half a second inline, where they stand in ascending
// order, and a twentieth of that in a serial file. While they are read, some 200 MB
// of memory are in use beside the document; a serial file needs what is kept of it.
//
// With files nil a document that names a serial file is rejected.
func Parse(doc []byte, files Files) (*Advisory, error) {
	a, err := parse(doc, files)
	if err != nil {
		if idPattern.MatchString(a.ID) {
			err.ID = a.ID
		}
		return nil, err
	}
	return a, nil
}

// parse returns what was read so far also with an error.
func parse(doc []byte, files Files) (*Advisory, *Error) {
	a := &Advisory{}
	d := newDecoder(doc)
	d.object(nil, fields{
		"id":            func(at *place) { a.ID = d.text(at, "a text") },
		"revision":      func(at *place) { a.Revision = d.integer(at, 1) },
		"state":         func(at *place) { a.State = State(d.text(at, oneOf(states))) },
		"title":         func(at *place) { a.Title = d.text(at, "a text") },
		"published":     func(at *place) { a.Published = d.instant(at) },
		"modified":      func(at *place) { a.Modified = d.instant(at) },
		"block_from":    func(at *place) { a.BlockFrom = d.instant(at) },
		"renew_by":      func(at *place) { a.RenewBy = d.instant(at) },
		"ended_at":      func(at *place) { a.EndedAt = d.instant(at) },
		"superseded_by": func(at *place) { a.SupersededBy = d.text(at, "the id of an advisory") },
		"match": func(at *place) {
			d.object(at, fields{
				"any": func(at *place) { a.Match = d.clauses(at, files) },
			}, "any")
		},
		"except":                func(at *place) { a.Except = d.clauses(at, files) },
		"fixed_when":            func(at *place) { a.FixedWhen = d.clauses(at, files) },
		"basis":                 func(at *place) { a.Basis = Basis(d.text(at, oneOf(bases))) },
		"basis_note":            func(at *place) { a.BasisNote = d.text(at, "a text") },
		"card_may_authenticate": func(at *place) { a.CardMayAuthenticate = d.boolean(at) },
		"remedies": func(at *place) {
			d.array(at, func(at *place) { a.Remedies = append(a.Remedies, d.remedy(at)) })
		},
		"message":        func(at *place) { a.Message = d.text(at, "a text") },
		"references":     func(at *place) { a.References = d.texts(at) },
		"expected_count": func(at *place) { a.ExpectedCount = d.integer(at, 0) },
	}, "id", "revision", "state", "title", "published", "modified", "match", "basis",
		"card_may_authenticate", "remedies", "message")
	d.end()
	if d.err != nil {
		return a, d.err
	}
	return a, a.check()
}

func (d *decoder) remedy(at *place) (r Remedy) {
	d.object(at, fields{
		"kind":  func(at *place) { r.Kind = RemedyKind(d.text(at, oneOf(remedyKinds))) },
		"text":  func(at *place) { r.Text = d.text(at, "a text") },
		"url":   func(at *place) { r.URL = d.filled(at, "an http or https URL") },
		"phone": func(at *place) { r.Phone = d.filled(at, "a phone number") },
	}, "kind", "text")
	return r
}

// filled is text for optional fields, whose empty value means that they are
// absent.
func (d *decoder) filled(at *place, want string) string {
	s := d.text(at, want)
	if s == "" {
		d.wrong(at, s, want+", or the field left out")
	}
	return s
}

func (d *decoder) clauses(at *place, files Files) (clauses []Clause) {
	d.array(at, func(here *place) {
		if len(clauses) == maxClauses {
			d.fail(at, "found more than %d clauses, wanted at most as many", maxClauses)
			return
		}
		clauses = append(clauses, d.clause(here, files))
	})
	return clauses
}

func (d *decoder) clause(at *place, files Files) (c Clause) {
	d.object(at, fields{
		"issuer": func(at *place) { c.Issuer = d.issuer(at) },
		"not_before": func(at *place) {
			c.NotBefore = &Window{}
			d.object(at, fields{
				"from": func(at *place) { c.NotBefore.From = d.instant(at) },
				"to":   func(at *place) { c.NotBefore.To = d.instant(at) },
			}, "from")
		},
		"serials":             func(at *place) { c.Serials = d.serials(at, files) },
		"spki_sha256":         func(at *place) { c.SPKISHA256 = d.sha256s(at) },
		"modulus_sha256":      func(at *place) { c.ModulusSHA256 = d.sha256s(at) },
		"weak_key":            func(at *place) { c.WeakKey = d.texts(at) },
		"policy_oid":          func(at *place) { c.PolicyOID = d.texts(at) },
		"key_usage":           func(at *place) { c.KeyUsage = d.texts(at) },
		"signature_algorithm": func(at *place) { c.SignatureAlgorithm = d.texts(at) },
		"key_bits": func(at *place) {
			c.KeyBits = &KeyBits{}
			d.object(at, fields{
				"min": func(at *place) { c.KeyBits.Min = d.integer(at, 1) },
				"max": func(at *place) { c.KeyBits.Max = d.integer(at, 1) },
			})
		},
	})
	return c
}

func (d *decoder) issuer(at *place) *Issuer {
	i := &Issuer{}
	switch t := d.token(at); t {
	case "any":
		i.Any = true
	case json.Delim('{'):
		d.members(at, fields{
			"spki_sha256": func(at *place) { i.SPKISHA256 = d.sha256s(at) },
			"aki": func(at *place) {
				d.array(at, func(at *place) {
					i.AKI = append(i.AKI, d.hex(at, 1, maxAKI, "a key identifier of 1 to 64 bytes in lower-case hex digits, without colons"))
				})
			},
			"name": func(at *place) { i.Name = d.filled(at, "a text") },
		})
	default:
		d.wrong(at, t, `"any" or an object with spki_sha256 or aki`)
	}
	return i
}
