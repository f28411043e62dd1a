package advisory

import (
	"bytes"
	_ "embed"
)

//go:embed advisory.schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of an advisory document. What
// Parse accepts the schema accepts. What the schema accepts Parse may still
// reject: contradictions between fields, duplicates, the order of dates, and
// serial files are beyond a schema.
func Schema() []byte { return bytes.Clone(schema) }
