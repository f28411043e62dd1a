package eps

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNamesAreComparedAsTheServiceCompares: RFC 5280 7.1.
func TestNamesAreComparedAsTheServiceCompares(t *testing.T) {
	name := func(cn string, tag int) []byte {
		b, err := asn1.Marshal(pkix.RDNSequence{
			{{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "nhs"}},
			{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: asn1.RawValue{Tag: tag, Bytes: []byte(cn)}}},
		})
		require.NoError(t, err)
		return b
	}
	const printable, utf8 = asn1.TagPrintableString, asn1.TagUTF8String
	of := foldName(name("NHS INT Level 1D", printable))
	for _, c := range []struct {
		name string
		der  []byte
		same bool
	}{
		{"the same", name("NHS INT Level 1D", printable), true},
		{"another string type", name("NHS INT Level 1D", utf8), true},
		{"another case", name("nhs int LEVEL 1d", printable), true},
		{"more white space", name("  NHS INT  Level 1D ", printable), true},
		{"less white space", name("NHSINT Level 1D", printable), false},
		{"another name", name("NHS INT Level 2D", printable), false},
		{"bytes after it", append(name("NHS INT Level 1D", printable), 0), false},
		{"nothing", nil, false},
	} {
		assert.Equal(t, c.same, foldName(c.der) == of, c.name)
	}

	two := foldName(name("a", utf8)) // O=nhs, CN=a
	for _, forged := range []string{"nhs;8:2.5.4.3=a", "nhs\x00\x012.5.4.3=a", "nhs9:2.5.4.3=a;"} {
		b, err := asn1.Marshal(pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: forged}}})
		require.NoError(t, err)
		assert.NotEqual(t, two, foldName(b), "one attribute does not pass for two")
	}

	set := func(reverse bool) []byte { // an RDN of two attributes, in DER order or not
		a := sequence(0x30, []byte{6, 3, 0x55, 4, 3}, []byte{12, 1, 'a'})
		b := sequence(0x30, []byte{6, 3, 0x55, 4, 10}, []byte{12, 1, 'b'})
		if reverse {
			a, b = b, a
		}
		return sequence(0x30, sequence(0x31, a, b))
	}
	assert.Equal(t, foldName(set(false)), foldName(set(true)), "a SET has no order")
	assert.NotEqual(t, foldName(name("É", utf8)), foldName(name("é", utf8)), "letters other than ASCII are as they are")
}

// FuzzName: whatever is in a name, it has a form to be compared by.
func FuzzName(f *testing.F) {
	f.Fuzz(func(t *testing.T, der []byte) {
		if foldName(der) == "" && len(der) > 0 && der[0] != 0x30 {
			t.Fatalf("%x has no name", der)
		}
	})
}
