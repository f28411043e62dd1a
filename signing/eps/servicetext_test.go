package eps

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestServiceBase64IsLikeNodes has what Buffer.from(text, "base64") gives.
func TestServiceBase64IsLikeNodes(t *testing.T) {
	for in, want := range map[string]string{
		"":               "",
		"aGVsbG8=":       "hello",
		"aGVsbG8":        "hello",
		" aGV\nsbG8 = ":  "hello",
		"aGVs*bG8=":      "hello",
		"aGVsbG8=aGVs":   "hello",
		"-_-_":           "\xfb\xff\xbf",
		"+/+/":           "\xfb\xff\xbf",
		"a":              "",
		"aGVsbG8=\x00é!": "hello",
		"é":              "",
	} {
		assert.Equal(t, want, string(serviceBase64(in)), "%q", in)
	}
}
