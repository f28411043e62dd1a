package status

import (
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
	"unicode"
)

// nameKey stands for a name: two spellings of one name have the same.
type nameKey [sha256.Size]byte

// keyOfName is the key of a distinguished name in DER, compared as RFC 5280 7.1 asks:
// of strings the text, whatever the string type, without regard to case and to how
// much white space there is. Unicode is not normalised. A name that cannot be read is
// itself.
func keyOfName(der []byte) nameKey { return sha256.Sum256([]byte("name\x00" + foldName(der))) }

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
			parts = append(parts, a.Type.String()+"="+strings.Join(strings.Fields(strings.Map(foldRune, text)), " "))
		}
		slices.Sort(parts) // a SET has no order
		for _, p := range parts {
			b.WriteByte(0) // in no text that is printed
			b.WriteString(p)
		}
		b.WriteByte(1)
	}
	return b.String()
}

func foldRune(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }

// The context tags of a GeneralName (RFC 5280 4.2.1.6). That of a directory name is
// explicit, as a Name is a CHOICE.
const (
	tagDirectoryName = tagContextOf | 4
	tagURI           = tagContext | 6
)

// keyOfGeneralName is the key of a GeneralName.
func keyOfGeneralName(e element) nameKey {
	switch e.tag {
	case tagDirectoryName:
		return keyOfName(e.body)
	case tagURI:
		return sha256.Sum256([]byte("uri\x00" + foldURI(string(e.body))))
	}
	return sha256.Sum256(append([]byte("other\x00"), e.full...))
}

// foldURI lowers scheme and host, which alone have no case (RFC 5280 7.4).
func foldURI(uri string) string {
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return uri
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	return strings.ToLower(scheme) + "://" + strings.ToLower(rest[:end]) + rest[end:]
}

// generalNames reads the content of GeneralNames, which holds at least one.
func generalNames(r reader, what string) ([]element, error) {
	var names []element
	for {
		e, err := r.any(what)
		if err != nil {
			return nil, err
		}
		if names = append(names, e); r.empty() {
			return names, nil
		}
	}
}

// textOf writes a distinguished name in DER as RFC 4514 does, at most about 200 bytes
// of it.
func textOf(der []byte) string {
	var name pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &name); err != nil || len(rest) > 0 {
		return "an issuer whose name cannot be read"
	}
	s := name.String()
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
