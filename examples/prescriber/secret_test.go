package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What an editor or a copy leaves beside a passcode is named before a try is spent.
func TestTextsThatAreNoSecret(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "is empty",
		"\ufeff123456":             "begins with a byte order mark",
		"\xff\xfe1\x002\x00":       "begins with a byte order mark",
		"\xfe\xff\x001\x002":       "begins with a byte order mark",
		"123456\x00":               "holds a NUL byte",
		"123456\n999999":           "has more than one line",
		"123456\r999999":           "has more than one line",
		"123456\n":                 "has more than one line",
		"123456\t":                 "holds a control character",
		"123456 ":                  "ends with a space",
		" 123456":                  "begins with a space",
		strings.Repeat("1", 1025):  "is longer than 1024 bytes",
		strings.Repeat("1", 1024):  "",
		"a passcode of more words": "",
		"pässwörd":                 "",
	} {
		assert.Equal(t, want, unlikely([]byte(text)), "%q", text)
	}
}

func TestASecretsFileMayEndItsLine(t *testing.T) {
	for _, end := range []string{"", "\n", "\r\n"} {
		file := filepath.Join(t.TempDir(), "passcode")
		require.NoError(t, os.WriteFile(file, []byte("123456"+end), 0o600))
		b, err := source{what: "passcode", flag: "--pin-file", file: file}.read()
		require.NoError(t, err)
		assert.Equal(t, "123456", string(b))
	}
	t.Setenv(pinEnv, "123456 ")
	assert.ErrorContains(t, (&secrets{}).check(), pinEnv+" ends with a space")
}

func TestTypedLines(t *testing.T) {
	interrupted := 0
	for keys, want := range map[string]string{
		"123456\r":                "123456",
		"123456\n7":               "123456",
		"12\x7f\x083456\r":        "3456",
		"\x7f12\r":                "12",
		"1ä\x7f2\r":               "12",
		"wrong\x15right\r":        "right",
		"\r":                      "",
		"12\x04":                  "!nothing was entered",
		"12\x03":                  "!interrupted",
		"12":                      "!the terminal was closed",
		strings.Repeat("1", 1025): "!it is longer than 1024 bytes",
	} {
		b, err := typed(strings.NewReader(keys), func() { interrupted++ })
		if text, bad := strings.CutPrefix(want, "!"); bad {
			assert.EqualError(t, err, text, "%q", keys)
			continue
		}
		assert.NoError(t, err, "%q", keys)
		assert.Equal(t, want, string(b), "%q", keys)
	}
	assert.Equal(t, 1, interrupted)
}
