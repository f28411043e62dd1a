package eps

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
)

var digestValue = regexp.MustCompile(`<DigestValue>(.*)</DigestValue>`)

func TestSignedInfoIsThatOfRealPrescriptions(t *testing.T) {
	for _, name := range []string{"release_success", "ValidSignature"} {
		want := need.Read(t, "eps", "vectors", name+".signedinfo.c14n.xml")
		digest, err := base64.StdEncoding.DecodeString(string(digestValue.FindSubmatch(want)[1]))
		require.NoError(t, err)
		got, err := SignedInfo(RS1, digest)
		require.NoError(t, err)
		assert.Equal(t, string(want), string(got))
	}
}

func TestSignedInfoWantsItsDigestLength(t *testing.T) {
	for _, c := range []struct {
		a    Algorithm
		n    int
		says string
	}{
		{RS256, 20, "20 bytes, wanted the 32"},
		{RS1, 32, "32 bytes, wanted the 20"},
		{RS256, 0, "0 bytes"},
		{0, 32, "algorithm 0"},
		{3, 32, "algorithm 3"},
	} {
		_, err := SignedInfo(c.a, make([]byte, c.n))
		assert.ErrorContains(t, err, c.says)
	}
}

func TestBadDigestsAreNamed(t *testing.T) {
	good := string(testSignedInfo(t, RS256))
	rs1 := string(testSignedInfo(t, RS1))
	b64 := base64.StdEncoding.EncodeToString([]byte(good))
	head := len(methods[RS256].head)
	value := good[head : head+44]
	swap := func(from, to string) string {
		require.Contains(t, good, from)
		return strings.Replace(good, from, to, 1)
	}
	tab := func(n int) string { return b64[:n] + "\t" + b64[n:] }

	t.Run("base64", func(t *testing.T) {
		for _, c := range []struct {
			name, in, says string
			offset         int
		}{
			{"a word", "not base64!", "white space at byte 3", 3},
			{"an underscore", "_" + b64, `"_" at byte 0`, 0},
			{"a line break", b64[:76] + "\n" + b64[76:], "white space at byte 76", 76},
			{"a carriage return", b64[:76] + "\r\n" + b64[76:], "white space at byte 76", 76},
			{"a blank at the end", b64 + " ", "white space", len(b64)},
			{"a tab", tab(5), "white space at byte 5", 5},
			{"one character short", b64[:len(b64)-1], "multiple of four", len(b64) - 1},
			{"padding inside", "QQ==" + b64, "padding", 4},
			{"not ASCII", "é" + b64, `"\xc3" at byte 0`, 0},
			{"trailing bits", "PFN=", "trailing bits", 2},
		} {
			t.Run(c.name, func(t *testing.T) {
				_, err := ParsePrepared(answer64(c.in, testTimestamp, "RS256"))
				f := requireFormatError(t, err, "digest")
				assert.Contains(t, f.Problem, "not base64")
				assert.Contains(t, f.Problem, c.says)
				if c.name != "trailing bits" {
					assert.Equal(t, c.offset, f.Offset)
				}
			})
		}
	})

	const other = "names SignatureMethod"
	for _, c := range []struct {
		name, in string
		says     []string
		offset   int // -2: not compared
	}{
		{"empty", "", []string{"ends after 0 bytes"}, 0},
		{"not XML", "hello", []string{"not XML", "first difference at byte 0", `found "hello"`, `wanted "<SignedInfo`}, 0},
		{"a hash instead", "\x01\x02\xff", []string{"not XML", `found "\x01\x02\xff"`}, 0},
		{"ill-formed", swap("</CanonicalizationMethod>", "</Canon"), []string{"first difference"}, -2},
		{"open angle bracket", swap(`<Reference>`, `<<ference>`), []string{"is not XML: ", "first difference"}, -2},
		{"the fragments", "<FragmentsToBeHashed></FragmentsToBeHashed>", []string{`root element is "FragmentsToBeHashed", wanted SignedInfo`}, 1},
		{"RS1 where RS256 is said", rs1, []string{other, "rsa-sha1", "(RS1)", "algorithm says RS256", "first difference"}, -2},
		{"an unknown SignatureMethod", swap("rsa-sha256", "ecdsa-sha256"), []string{other, `ecdsa-sha256"`, "says RS256"}, -2},
		{"another DigestMethod", swap("http://www.w3.org/2001/04/xmlenc#sha256", "http://www.w3.org/2000/09/xmldsig#sha1"), []string{"names DigestMethod", "(RS1)", "says RS256"}, -2},
		{"an Id on SignedInfo", swap(`xmldsig#">`, `xmldsig#" Id="x">`), []string{"SignedInfo has the extra attribute Id", `found " Id=`, `wanted "><Canon`}, 54},
		{"an Id before xmlns", swap(`<SignedInfo `, `<SignedInfo Id="x" `), []string{"SignedInfo has the extra attribute Id"}, 12},
		{"a URI on Reference", swap("<Reference>", `<Reference URI="">`), []string{"Reference has the extra attribute URI"}, -2},
		{"a second namespace", swap("<Reference>", `<Reference xmlns:x="urn:x">`), []string{"xmlns:x="}, -2},
		{"a line break", swap("<Reference>", "\n<Reference>"), []string{"line break at byte", `found "\n<Reference`}, -2},
		{"a line break at the end", good + "\n", []string{"trailing bytes after </SignedInfo>", "1 in all"}, len(good)},
		{"trailing element", good + "<x/>", []string{"trailing bytes", "4 in all", `"<x/>"`}, len(good)},
		{"trailing NUL", good + "\x00", []string{"trailing bytes", "1 in all", `"\x00"`}, len(good)},
		{"much trailing", good + strings.Repeat("x", 100_000), []string{"trailing bytes", "100000 in all"}, len(good)},
		{"a leading blank", " " + good, []string{"first difference at byte 0"}, 0},
		{"an XML declaration", `<?xml version="1.0"?>` + good, []string{"first difference at byte 1"}, 1},
		{"a prefix", strings.NewReplacer("</", "</ds:", "<", "<ds:").Replace(good), []string{"first difference at byte 1"}, 1},
		{"an empty element", swap(`"></CanonicalizationMethod>`, `"/>`), []string{`found "/><`, `wanted "></Canon`}, -2},
		{"single quotes", strings.ReplaceAll(good, `"`, `'`), []string{"first difference at byte 18"}, 18},
		{"inclusive C14N", swap("2001/10/xml-exc-c14n#", "TR/2001/REC-xml-c14n-20010315"), []string{"first difference"}, -2},
		{"another Transform too", swap("</Transforms>", `<Transform Algorithm="x"></Transform></Transforms>`), []string{"first difference"}, -2},
		{"a comment", swap("<Reference>", "<!-- --><Reference>"), []string{`found "!-- -->`}, -2},
		{"a second Reference", swap("</Reference>", "</Reference><Reference></Reference>"), []string{`found "Reference>`}, -2},
		{"another capital", swap("SignedInfo", "signedInfo"), []string{"first difference at byte 1"}, 1},

		{"an empty DigestValue", swap(value, ""), []string{"holds 0 bytes, wanted the 32 of SHA-256"}, head},
		{"a SHA-1 DigestValue", swap(value, base64.StdEncoding.EncodeToString(testDigest(RS1, 1))), []string{"holds 20 bytes, wanted the 32"}, head},
		{"a hex DigestValue", swap(value, strings.Repeat("0f", 32)), []string{"holds 48 bytes"}, head},
		{"a DigestValue with a line break", swap(value, value[:20]+"\n"+value[20:]), []string{"DigestValue", "white space at byte 20"}, head + 20},
		{"an unpadded DigestValue", swap(value, value[:43]), []string{"DigestValue", "multiple of four"}, -2},
		{"a DigestValue with trailing bits", swap(value, value[:42]+"p="), []string{"DigestValue", "trailing bits"}, -2},
		{"a DigestValue with an entity", swap(value, "&#65;"+value[1:]), []string{"DigestValue", `"&" at byte 0`}, head},
		{"an element in DigestValue", swap(value, value+"<x></x>"), []string{`found "x></x>`}, head + 45},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := ParsePrepared(answer([]byte(c.in), testTimestamp, "RS256"))
			require.Nil(t, p)
			f := requireFormatError(t, err, "digest")
			for _, s := range c.says {
				assert.Contains(t, err.Error(), s)
			}
			if c.offset != -2 {
				assert.Equal(t, c.offset, f.Offset)
			}
		})
	}

	t.Run("RS256 where RS1 is said", func(t *testing.T) {
		_, err := ParsePrepared(answer([]byte(good), testTimestamp, "RS1"))
		requireFormatError(t, err, "digest")
		assert.Contains(t, err.Error(), "(RS256), but algorithm says RS1")
	})
	t.Run("truncated anywhere", func(t *testing.T) {
		for n := range len(good) {
			_, err := ParsePrepared(answer([]byte(good[:n]), testTimestamp, "RS256"))
			f := requireFormatError(t, err, "digest")
			require.Equal(t, n, f.Offset, err)
			require.Contains(t, f.Problem, fmt.Sprintf("ends after %d bytes", n))
		}
	})
	t.Run("much of anything", func(t *testing.T) {
		for _, s := range []string{"<a>", "<", "&", "\n", "<SignedInfo ", `<a b="c">`, "\xff", "x"} {
			_, err := ParsePrepared(answer([]byte(strings.Repeat(s, 700_000/len(s))), testTimestamp, "RS256"))
			requireFormatError(t, err, "digest")
		}
	})
}

// TestNoOtherByteIsAccepted changes each byte of a SignedInfo to each other value:
// only another canonical digest of the right length may pass.
func TestNoOtherByteIsAccepted(t *testing.T) {
	for _, a := range []Algorithm{RS256, RS1} {
		good := testSignedInfo(t, a)
		head, tail := len(methods[a].head), len(good)-len(methods[a].tail)
		d := bytes.Clone(good)
		accepted := 0
		for i := range good {
			for v := range 256 {
				if d[i] = byte(v); d[i] == good[i] {
					continue
				}
				digest, ok := digestIn(a, d)
				if !ok {
					continue
				}
				accepted++
				if i < head || i >= tail {
					t.Fatalf("byte %d changed to %q was accepted", i, byte(v))
				}
				want, err := SignedInfo(a, digest)
				require.NoError(t, err)
				require.Equal(t, want, d)
			}
			d[i] = good[i]
		}
		assert.Positive(t, accepted, "control: another digest is accepted")
	}
}

// TestAChangedByteIsNamed has a few changes of each byte go the whole way.
func TestAChangedByteIsNamed(t *testing.T) {
	for _, a := range []Algorithm{RS256, RS1} {
		good := testSignedInfo(t, a)
		head, tail := len(methods[a].head), len(good)-len(methods[a].tail)
		for i := range good {
			for _, v := range []byte{good[i] ^ 1, good[i] ^ 0x20, good[i] ^ 0x80, 0, '\n', '<', '&', 'A'} {
				d := bytes.Clone(good)
				if d[i] = v; v == good[i] {
					continue
				}
				p, err := ParsePrepared(answer(d, testTimestamp, a.String()))
				if inside := i >= head && i < tail; !inside {
					require.Nil(t, p)
					require.Equal(t, i, requireFormatError(t, err, "digest").Offset, "byte %d: %v", i, err)
				} else if err == nil {
					require.Equal(t, d, p.SignedInfo())
				} else {
					f := requireFormatError(t, err, "digest")
					require.True(t, f.Offset >= head && f.Offset <= tail, "byte %d: %v", i, err)
				}
			}
		}
	}
}

func TestAlgorithmNames(t *testing.T) {
	assert.Equal(t, "RS256", RS256.String())
	assert.Equal(t, "RS1", RS1.String())
	assert.Equal(t, "algorithm 0", Algorithm(0).String())
}
