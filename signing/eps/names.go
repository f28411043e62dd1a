package eps

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"sort"
	"strconv"
	"strings"
)

// foldName is what two spellings of one distinguished name share (RFC 5280 7.1, as far
// as the national service's library goes): of strings the text, whatever the string
// type, without regard to the case of ASCII letters and to how much white space there
// is. A name that cannot be read is itself.
func foldName(der []byte) string {
	var name pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &name); err != nil || len(rest) > 0 {
		return string(der)
	}
	var b strings.Builder
	for _, set := range name {
		var parts []string
		for _, a := range set {
			text, ok := a.Value.(string)
			if !ok {
				return string(der)
			}
			parts = append(parts, a.Type.String()+"="+strings.Join(strings.Fields(strings.Map(lower, text)), " "))
		}
		sort.Strings(parts) // a SET has no order
		for _, p := range parts {
			b.WriteString(strconv.Itoa(len(p)) + ":" + p) // with its length no text passes for two
		}
		b.WriteByte(';')
	}
	return b.String()
}

func lower(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}
