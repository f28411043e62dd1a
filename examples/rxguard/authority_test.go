package main

import (
	"bytes"
	"encoding/pem"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestADeltaListIsTold(t *testing.T) {
	delta := filepath.Join("..", "..", "guard", "status", "testdata", "delta.crl")
	_, err := readLists(t.Context(), delta)
	assert.EqualError(t, err, "is a CRL that cannot be read: the list is a delta list, which is not used: fetch the complete one")
}

func TestPEMBlocksAreNumberedByTheirLines(t *testing.T) {
	one := pem.EncodeToMemory(&pem.Block{Type: "A", Bytes: []byte("first")})
	two := pem.EncodeToMemory(&pem.Block{Type: "B", Headers: map[string]string{"K": "v"}, Bytes: bytes.Repeat([]byte{1}, 100)})
	blocks, err := pemBlocks(bytes.Join([][]byte{[]byte("text"), one, []byte("more"), two, []byte("end")}, []byte("\n")))
	require.NoError(t, err)
	assert.Equal(t, []pemBlock{{"A", 2, []byte("first")}, {"B", 7, bytes.Repeat([]byte{1}, 100)}}, blocks)

	_, err = pemBlocks(append(one, two[:40]...))
	assert.EqualError(t, err, "line 4: a PEM block that is cut off or broken, wanted base64 between its BEGIN and its END")
	blocks, err = pemBlocks([]byte("no PEM -----BEGIN A-----"))
	require.NoError(t, err)
	assert.Empty(t, blocks)
}

// FuzzPEMBlocks: what is read is what is written, and no block is lost without a word.
func FuzzPEMBlocks(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		blocks, err := pemBlocks(b)
		begins := bytes.Count(append([]byte("\n"), b...), []byte("\n-----BEGIN "))
		if err == nil {
			require.Len(t, blocks, begins)
		}
		var again []byte
		for _, block := range blocks {
			require.LessOrEqual(t, block.line, bytes.Count(b, []byte("\n"))+1)
			again = append(again, pem.EncodeToMemory(&pem.Block{Type: block.label, Bytes: block.der})...)
		}
		read, err := pemBlocks(again)
		require.NoError(t, err)
		require.Len(t, read, len(blocks))
		for i := range read {
			require.Equal(t, blocks[i].label, read[i].label)
			require.True(t, bytes.Equal(blocks[i].der, read[i].der))
		}
		_ = derKind(b)
	})
}
