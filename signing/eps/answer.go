package eps

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"
)

// maxAnswer bounds the input; real answers have about 1.2 kB.
const maxAnswer = 1 << 20

// maxDepth bounds nesting; FHIR resources stay far below.
const maxDepth = 64

func formatErrorf(field string, offset int, format string, args ...any) *FormatError {
	return &FormatError{Field: field, Offset: offset, Problem: fmt.Sprintf(format, args...)}
}

// readJSON reads one JSON object into map[string]any, []any, string, json.Number,
// bool and nil. encoding/json alone would take the last of two members of one
// name, names in any case, and repair invalid UTF-8: each lets two readers see
// two documents.
func readJSON(b []byte) (map[string]any, error) {
	if len(b) > maxAnswer {
		return nil, formatErrorf("answer", -1, "is %d bytes, wanted at most %d", len(b), maxAnswer)
	}
	trimmed := bytes.TrimLeft(b, " \t\r\n")
	switch {
	case len(trimmed) == 0:
		return nil, formatErrorf("answer", 0, "is empty, wanted a JSON object")
	case bytes.HasPrefix(b, []byte("\xef\xbb\xbf")):
		return nil, formatErrorf("answer", 0, "begins with a byte order mark, which JSON does not have (RFC 8259 8.1)")
	case trimmed[0] == '<':
		return nil, formatErrorf("answer", len(b)-len(trimmed), "is XML or HTML, wanted JSON: found %s", excerpt(trimmed))
	case trimmed[0] != '{':
		return nil, formatErrorf("answer", len(b)-len(trimmed), "is not a JSON object: found %s, wanted {", excerpt(trimmed))
	}
	if at := invalidUTF8(b); at >= 0 {
		return nil, formatErrorf("answer", at, "is not UTF-8: found %s at byte %d", excerpt(b[at:min(len(b), at+8)]), at)
	}
	var whole json.RawMessage
	if err := json.Unmarshal(b, &whole); err != nil {
		at := -1
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			at = max(int(syntax.Offset)-1, 0)
		}
		return nil, formatErrorf("answer", at, "is not JSON: %s (byte %d)", clip(err.Error(), 120), at)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	v, err := readValue(dec, 0)
	if err != nil {
		return nil, err
	}
	obj, ok := v.(map[string]any)
	if !ok {
		return nil, formatErrorf("answer", 0, "is not a JSON object")
	}
	return obj, nil
}

func readValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, formatErrorf("answer", int(dec.InputOffset()), "is nested more than %d deep at byte %d", maxDepth, dec.InputOffset())
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, formatErrorf("answer", int(dec.InputOffset()), "is not JSON: %s", clip(err.Error(), 120))
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return tok, nil
	}
	var list []any
	obj := map[string]any{}
	for dec.More() {
		var key string
		if delim == '{' {
			at := dec.InputOffset()
			tok, err := dec.Token()
			if err != nil {
				return nil, formatErrorf("answer", int(at), "is not JSON: %s", clip(err.Error(), 120))
			}
			key, _ = tok.(string)
			if _, dup := obj[key]; dup {
				return nil, formatErrorf("answer", int(dec.InputOffset()), "has the member %s twice in one object, the second before byte %d",
					excerpt(key), dec.InputOffset())
			}
		}
		v, err := readValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		if delim == '{' {
			obj[key] = v
		} else {
			list = append(list, v)
		}
	}
	if _, err := dec.Token(); err != nil { // the closing delimiter
		return nil, formatErrorf("answer", int(dec.InputOffset()), "is not JSON: %s", clip(err.Error(), 120))
	}
	if delim == '{' {
		return obj, nil
	}
	return list, nil
}

func invalidUTF8(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// readParameters returns the three strings of a FHIR Parameters resource.
func readParameters(root map[string]any) (map[string]string, error) {
	switch rt, ok := root["resourceType"].(string); {
	case !ok:
		return nil, formatErrorf("resourceType", -1, `found %s, wanted "Parameters"`, kindOf(root, "resourceType"))
	case rt == "OperationOutcome":
		return nil, newOutcomeError(root)
	case rt == "Bundle":
		return nil, formatErrorf("resourceType", -1, `found "Bundle", wanted "Parameters": this looks like the request sent to $prepare, not its answer`)
	case rt != "Parameters":
		return nil, formatErrorf("resourceType", -1, `found %s, wanted "Parameters"`, excerpt(rt))
	}
	list, ok := root["parameter"].([]any)
	if !ok {
		return nil, formatErrorf("parameter", -1, "found %s, wanted a list with digest, timestamp and algorithm", kindOf(root, "parameter"))
	}
	values := map[string]string{}
	for i, v := range list {
		p, ok := v.(map[string]any)
		if !ok {
			return nil, formatErrorf("parameter", -1, "entry %d is not an object", i)
		}
		name, ok := p["name"].(string)
		if !ok {
			return nil, formatErrorf("parameter", -1, "entry %d: name: found %s, wanted a string", i, kindOf(p, "name"))
		}
		if name != "digest" && name != "timestamp" && name != "algorithm" {
			continue // not signed, so harmless
		}
		if _, dup := values[name]; dup {
			return nil, formatErrorf(name, -1, "the parameter is given twice, the second time as entry %d, wanted it once", i)
		}
		for _, key := range slices.Sorted(maps.Keys(p)) {
			switch key {
			case "name", "valueString", "id", "extension":
			default:
				// A second value[x] or a modifierExtension changes the meaning
				// (FHIR R4, Parameters and Extensibility), so the string is not all there is.
				return nil, formatErrorf(name, -1, "the parameter has %s, wanted valueString alone", excerpt(key))
			}
		}
		s, ok := p["valueString"].(string)
		if !ok {
			return nil, formatErrorf(name, -1, "valueString: found %s, wanted a string", kindOf(p, "valueString"))
		}
		values[name] = s
	}
	for _, name := range []string{"algorithm", "timestamp", "digest"} {
		if _, ok := values[name]; !ok {
			return nil, formatErrorf(name, -1, "the parameter is missing")
		}
	}
	return values, nil
}

// kindOf says what stands in a member where something else was wanted.
func kindOf(m map[string]any, key string) string {
	v, ok := m[key]
	if !ok {
		return "nothing"
	}
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return excerpt(v)
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	case bool:
		return "a boolean"
	}
	return "a number"
}
