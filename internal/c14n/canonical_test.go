package c14n

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
)

// The documents of the examples in Canonical XML 1.0 section 3 and Exclusive XML
// Canonicalization 1.0 section 2, without document types; what is expected of them was
// written by xmllint.
func TestTheRecommendationsExamples(t *testing.T) {
	sources, err := filepath.Glob("testdata/w3c/*.xml")
	require.NoError(t, err)
	require.Len(t, sources, 10)
	for _, path := range sources {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".xml"), func(t *testing.T) {
			source, err := os.ReadFile(path)
			require.NoError(t, err)
			expected, err := os.ReadFile(strings.TrimSuffix(path, ".xml") + ".c14n")
			require.NoError(t, err)
			assert.Equal(t, string(expected), string(parse(t, string(source)).Canonical(nil)))
		})
	}
}

// Exclusive XML Canonicalization 1.0 sections 2.1 to 2.3: wherever it stands, the same.
func TestTheRecommendationsElementInPlace(t *testing.T) {
	element := func(file, local string) string {
		source, err := os.ReadFile(filepath.Join("testdata/w3c", file))
		require.NoError(t, err)
		return string(find(parse(t, string(source)).Root, local).Canonical(nil))
	}
	assert.Equal(t, "<n1:elem1 xmlns:n1=\"http://b.example\">\n    content\n</n1:elem1>", element("exc-c14n-2.1-elem1.xml", "elem1"))
	assert.Equal(t, "<n1:elem1 xmlns:n1=\"http://b.example\">\n       content\n   </n1:elem1>", element("exc-c14n-2.1-enveloped.xml", "elem1"))
	assert.Equal(t, `<n1:elem2 xmlns:n1="http://example.net" xml:lang="en">
       <n3:stuff xmlns:n3="ftp://example.org"></n3:stuff>
   </n1:elem2>`, element("exc-c14n-2.2-local.xml", "elem2"))
	assert.Equal(t, `<n1:elem2 xmlns:n1="http://example.net" xml:lang="en">
       <n3:stuff xmlns:n3="ftp://example.org"></n3:stuff>
       <n4:stuff xmlns:n4="http://foo.example"></n4:stuff>
   </n1:elem2>`, element("exc-c14n-2.2-pdu.xml", "elem2"))
	assert.Equal(t, `<e3 id="E3"></e3>`, element("c14n-3.7-document-subset.xml", "e3"))
}

// Canonical XML 1.0 sections 3.5 and 3.6 as they are published cannot be read.
func TestTheRecommendationsExamplesThatAreRefused(t *testing.T) {
	for source, rule := range map[string]Rule{
		"<!DOCTYPE doc [<!ENTITY ent1 \"Hello\">]>\n<doc>&ent1;</doc>":        RuleDoctype,
		"<doc>&ent1;, world!</doc>":                                           RuleEntity,
		`<?xml version="1.0" encoding="ISO-8859-1"?>` + "\n<doc>&#169;</doc>": RuleEncoding,
	} {
		_, err := Parse([]byte(source), Options{})
		assert.Equal(t, rule, ruleOf(t, err), source)
	}
}

// The first of merlin's four references is exclusive C14N without comments and without
// a PrefixList; its digest is in the file.
func TestMerlinsPlainReference(t *testing.T) {
	source := need.Read(t, "c14n", "merlin-exc-c14n-one", "exc-signature.xml")
	d, err := Parse(source, Options{})
	require.NoError(t, err)
	reference, object := find(d.Root, "Reference"), find(d.Root, "Object")
	id, _ := object.Attr("Id")
	uri, _ := reference.Attr("URI")
	require.Equal(t, "#xpointer(id('"+id+"'))", uri)
	transform, _ := find(reference, "Transform").Attr("Algorithm")
	require.Equal(t, "http://www.w3.org/2001/10/xml-exc-c14n#", transform)
	digest := sha1.Sum(object.Canonical(nil))
	assert.Equal(t, find(reference, "DigestValue").Text(), base64.StdEncoding.EncodeToString(digest[:]))
}

func TestAPrescriptionIsCanonicalAsXmllintWritesIt(t *testing.T) {
	sources := [][]byte{prescription(t), many(t, 3)}
	for i, theirs := range xmllint(t, sources) {
		ours, err := canonical(sources[i])
		require.NoError(t, err)
		assert.Equal(t, string(theirs.form), string(ours))
	}
}

func TestDeclarationsAreWrittenWhereTheyAreUsed(t *testing.T) {
	for source, expected := range map[string]string{
		`<a xmlns="urn:1"><b xmlns="urn:1"/></a>`:                                      `<a xmlns="urn:1"><b></b></a>`,
		`<a xmlns="urn:1"><b xmlns=""><c/></b></a>`:                                    `<a xmlns="urn:1"><b xmlns=""><c></c></b></a>`,
		`<a xmlns="urn:1"><p:b xmlns:p="urn:p"><c xmlns=""/><c/></p:b></a>`:            `<a xmlns="urn:1"><p:b xmlns:p="urn:p"><c xmlns=""></c><c></c></p:b></a>`,
		`<p:a xmlns:p="urn:p" xmlns="urn:1"><b/><b xmlns=""/></p:a>`:                   `<p:a xmlns:p="urn:p"><b xmlns="urn:1"></b><b></b></p:a>`,
		`<a xmlns:q="urn:q" xmlns:p="urn:p" q:x="" p:x=""/>`:                           `<a xmlns:p="urn:p" xmlns:q="urn:q" p:x="" q:x=""></a>`,
		`<a xmlns:q="urn:1" xmlns:p="urn:2" q:x="" p:x=""/>`:                           `<a xmlns:p="urn:2" xmlns:q="urn:1" q:x="" p:x=""></a>`,
		`<a xmlns:p="urn:p"><p:b><p:c/><c><p:d/></c></p:b><p:b/></a>`:                  `<a><p:b xmlns:p="urn:p"><p:c></p:c><c><p:d></p:d></c></p:b><p:b xmlns:p="urn:p"></p:b></a>`,
		`<p:a xmlns:p="urn:1"><b xmlns:p="urn:2"><p:c/></b><p:c/></p:a>`:               `<p:a xmlns:p="urn:1"><b><p:c xmlns:p="urn:2"></p:c></b><p:c></p:c></p:a>`,
		`<p:a xmlns:p="urn:1"><p:b xmlns:p="urn:2"><p:c xmlns:p="urn:1"/></p:b></p:a>`: `<p:a xmlns:p="urn:1"><p:b xmlns:p="urn:2"><p:c xmlns:p="urn:1"></p:c></p:b></p:a>`,
		`<a xmlns:p="urn:p" p:x="" p:y=""><b p:x=""/></a>`:                             `<a xmlns:p="urn:p" p:x="" p:y=""><b p:x=""></b></a>`,
		`<a xml:lang="en"><b xml:lang="fr" a=""/></a>`:                                 `<a xml:lang="en"><b a="" xml:lang="fr"></b></a>`,
		`<a xmlns="urn:1" b="" a="" B="" é="" _=""/>`:                                  `<a xmlns="urn:1" B="" _="" a="" b="" é=""></a>`,
	} {
		assert.Equal(t, expected, string(parse(t, source).Canonical(nil)), source)
	}
}

func TestCanonicalAppends(t *testing.T) {
	d := parse(t, "<?p?><!-- --><a>&gt;</a><?q  r?>")
	assert.Equal(t, "x<?p?>\n<a>&gt;</a>\n<?q r?>", string(d.Canonical([]byte("x"))))
	assert.Equal(t, "x<a>&gt;</a>", string(d.Root.Canonical([]byte("x"))))
	dst := make([]byte, 0, 1000)
	assert.Same(t, &dst[:1][0], &d.Root.Canonical(dst)[0], "room is used")
}

// Canonical XML 1.0 section 2.3.
func TestWhatIsEscaped(t *testing.T) {
	const all = "a&b<c>d\"e'f\tg\nh\ri é😀"
	assert.Equal(t, "a&amp;b&lt;c&gt;d\"e'f\tg\nh&#xD;i é😀", string(AppendText(nil, all)))
	assert.Equal(t, "a&amp;b&lt;c>d&quot;e'f&#x9;g&#xA;h&#xD;i é😀", string(AppendValue(nil, all)))
	assert.Equal(t, "xa&amp;", string(AppendText([]byte("x"), []byte("a&"))))
	assert.Equal(t, "x", string(AppendValue([]byte("x"), "")))
	d := parse(t, `<a>`+string(AppendText(nil, all))+`<b c="`+string(AppendValue(nil, all))+`"/></a>`)
	value, _ := find(d.Root, "b").Attr("c")
	assert.Equal(t, []string{all, all}, []string{d.Root.Text(), value}, "and read again, the same")
}

func TestDocumentsAreReadByManyAtATime(t *testing.T) {
	d := parse(t, string(prescription(t)))
	expected := d.Canonical(nil)
	done := make(chan bool)
	for range 4 {
		go func() {
			same := true
			for range 20 {
				same = same && bytes.Equal(expected, d.Canonical(nil)) && d.Root.Text() != ""
			}
			done <- same
		}()
	}
	for range 4 {
		assert.True(t, <-done)
	}
}
