package advisory

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// serialOf is the big-endian form of a number in hex, made by math/big.
func serialOf(t testing.TB, digits string) (serial [20]byte) {
	t.Helper()
	n, ok := new(big.Int).SetString(digits, 16)
	require.True(t, ok, digits)
	n.FillBytes(serial[:])
	return serial
}

// withSerials is a document whose population is the given serials field.
func withSerials(t testing.TB, field string) string {
	return edited(t, plain, edit{clause0 + ".serials", field})
}

func fileField(content []byte, width, count int) string {
	return fmt.Sprintf(`{"file": {"sha256": "%x", "width": %d, "count": %d}}`, sha256.Sum256(content), width, count)
}

func fixedFile(content []byte) Files {
	return func([32]byte) ([]byte, error) { return content, nil }
}

func TestSerialsAreComparedAsIntegers(t *testing.T) {
	const longest = "abcdef0123456789abcdef0123456789abcdef01"
	a := mustParse(t, withSerials(t, `{
		"inline": ["00ff", "1", "5dc9ad1f", "`+longest+`"],
		"ranges": [{"first": "5000", "last": "5fff"}, {"first": "0100", "last": "010f"}, {"first": "7777", "last": "7777"}]}`))
	s := a.Match[0].Serials
	for serial, want := range map[string]bool{
		"0": false, "1": true, "2": false,
		"fe": false, "ff": true, "000000ff": true, "100": true, "ff00": false,
		"10f": true, "110": false,
		"4fff": false, "5000": true, "5800": true, "5fff": true, "6000": false,
		"7776": false, "7777": true, "7778": false,
		"5dc9ad1e": false, "5dc9ad1f": true, "5dc9ad20": false, "015dc9ad1f": false,
		longest: true, longest[:39] + "0": false, longest[:39] + "2": false, longest[:38]: false,
		strings.Repeat("f", 40): false,
	} {
		b := serialOf(t, serial)
		assert.Equal(t, want, s.Contains(&b), serial)
	}
	assert.Equal(t, 4, s.Len())
	var zero Serials
	assert.False(t, zero.Contains(&[20]byte{}))
}

func TestSerialFileIsFoundByItsHash(t *testing.T) {
	content := []byte{0, 1, 0, 2, 1, 0, 0xff, 0xff}
	var asked [][32]byte
	a, err := Parse([]byte(withSerials(t, fileField(content, 2, 4))), func(sum [32]byte) ([]byte, error) {
		asked = append(asked, sum)
		return content, nil
	})
	require.NoError(t, err)
	assert.Equal(t, [][32]byte{sha256.Sum256([]byte("\x00\x01\x00\x02\x01\x00\xff\xff"))}, asked)
	clear(content) // the advisory has its own copy
	s := a.Match[0].Serials
	assert.Equal(t, 4, s.Len())
	for serial, want := range map[string]bool{"0": false, "1": true, "2": true, "3": false, "ff": false, "100": true, "ffff": true, "10001": false, "1ffff": false} {
		b := serialOf(t, serial)
		assert.Equal(t, want, s.Contains(&b), serial)
	}
}

func TestSerialFileIsRejected(t *testing.T) {
	good := []byte{0, 1, 0, 2, 1, 0, 0xff, 0xff}
	for _, tt := range []struct {
		name         string
		content      []byte
		width, count int
		says         string
	}{
		{"torn inside an entry", good[:7], 2, 4, "end at byte offset 7, in entry 3; wanted 4 entries of 2 bytes"},
		{"torn between entries", good[:6], 2, 4, "end at byte offset 6, in entry 3"},
		{"empty", nil, 2, 4, "end at byte offset 0, in entry 0"},
		{"a byte too long", append(slices.Clone(good), 0), 2, 4, "more at byte offset 8, after the last entry"},
		{"an entry too long", append(slices.Clone(good), 0xff, 0xff), 2, 4, "more at byte offset 8"},
		{"unsorted", []byte{0, 1, 1, 0, 0, 2}, 2, 3, "found 2 in entry 2 at byte offset 4 after 100, wanted strictly ascending"},
		{"an entry twice", []byte{0, 1, 0, 1}, 2, 2, "found 1 in entry 1 at byte offset 2 after 1"},
		{"little-endian", []byte{0xff, 0, 0, 1}, 2, 2, "found 1 in entry 1 at byte offset 2 after ff00"},
		{"half as wide as it is", []byte{0, 0, 0, 1, 0, 0, 0, 2}, 2, 4, "found 0 in entry 2 at byte offset 4 after 1, wanted strictly ascending"},
		{"twice as wide as it is", good, 4, 4, "end at byte offset 8, in entry 2; wanted 4 entries of 4 bytes, 16 bytes in all"},
		{"more serials than there are", bytes.Repeat([]byte{1}, 257), 1, 257, "found 257 serials of width 1, wanted at most the 256 that there are"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(withSerials(t, fileField(tt.content, tt.width, tt.count))), fixedFile(tt.content))
			requireError(t, err, "match.any[0].serials.file", tt.says)
			if tt.count <= len(tt.content) && tt.width > 1 {
				assert.Contains(t, err.Error(), fmt.Sprintf("%x", sha256.Sum256(tt.content)), "which file")
			}
		})
	}
	t.Run("other content than the named one", func(t *testing.T) {
		other := []byte{0, 1, 0, 2, 1, 0, 0xff, 0xfe}
		_, err := Parse([]byte(withSerials(t, fileField(good, 2, 4))), fixedFile(other))
		requireError(t, err, "match.any[0].serials.file", fmt.Sprintf("found content with SHA-256 %x", sha256.Sum256(other)))
	})
	t.Run("not to be had", func(t *testing.T) {
		_, err := Parse([]byte(withSerials(t, fileField(good, 2, 4))), func([32]byte) ([]byte, error) { return nil, errors.New("no such file") })
		requireError(t, err, "match.any[0].serials.file", "could not be read: no such file")
	})
	t.Run("every serial of its width", func(t *testing.T) {
		content := make([]byte, 256)
		for i := range content {
			content[i] = byte(i)
		}
		a, err := Parse([]byte(withSerials(t, fileField(content, 1, 256))), fixedFile(content))
		require.NoError(t, err)
		assert.Equal(t, 256, a.Match[0].Serials.Len())
	})
	t.Run("larger than any file may be", func(t *testing.T) {
		_, err := Parse([]byte(withSerials(t, fileField(good, 20, 1<<31-1))), func([32]byte) ([]byte, error) {
			t.Error("asked for a file that is too large")
			return nil, nil
		})
		requireError(t, err, "match.any[0].serials.file", "at most 268435456 bytes")
	})
}

// millionSerials is a serial file of random 20-byte serials.
func millionSerials(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	all := make([][20]byte, n)
	for i := range all {
		for j := 0; j < 16; j += 8 {
			binary.BigEndian.PutUint64(all[i][j:], r.Uint64())
		}
		binary.BigEndian.PutUint32(all[i][16:], uint32(i))
	}
	slices.SortFunc(all, compareSerials)
	content := make([]byte, 0, 20*n)
	for i := range all {
		content = append(content, all[i][:]...)
	}
	return content
}

func TestAMillionSerialsCostTwentyBytesEach(t *testing.T) {
	const n = 1_000_000
	content := millionSerials(n)
	doc := []byte(withSerials(t, fileField(content, 20, n)))
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	a, err := Parse(doc, fixedFile(content))
	require.NoError(t, err)
	after := heap()
	s := a.Match[0].Serials
	assert.Equal(t, n, s.Len())
	assert.Less(t, int(after)-int(before), 20*n)
	t.Logf("%.2f bytes a serial", float64(after-before)/n)
	for _, i := range []int{0, 1, n / 2, n - 2, n - 1} {
		serial := [20]byte(content[20*i:])
		assert.True(t, s.Contains(&serial), i)
		serial[19] ^= 0x80
		assert.False(t, s.Contains(&serial), i)
	}
	runtime.KeepAlive(content)
}

func BenchmarkSerialsContains(b *testing.B) {
	for _, n := range []int{12, 1_000_000} {
		content := millionSerials(n)
		list, err := parseSerialFile(content, sha256.Sum256(content), 20, n)
		require.NoError(b, err)
		s := &Serials{file: list}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			serial := [20]byte{}
			r := rand.New(rand.NewPCG(3, 4))
			for b.Loop() {
				binary.BigEndian.PutUint64(serial[:], r.Uint64())
				s.Contains(&serial)
			}
		})
	}
}

func BenchmarkParseAMillionSerials(b *testing.B) {
	content := millionSerials(1_000_000)
	doc := []byte(withSerials(b, fileField(content, 20, 1_000_000)))
	for b.Loop() {
		_, err := Parse(doc, fixedFile(content))
		require.NoError(b, err)
	}
}

func FuzzSerialFile(f *testing.F) {
	f.Add([]byte{0, 1, 0, 2, 1, 0, 0xff, 0xff}, 2, 4)
	f.Add([]byte{0, 1, 0, 1}, 2, 2)
	f.Add([]byte{}, 1, 1)
	f.Fuzz(func(t *testing.T, content []byte, width, count int) {
		if width < 1 || width > 20 || count < 1 || count > len(content)+1 {
			return // the document's own fields, which FuzzParse has
		}
		sum := sha256.Sum256(content)
		list, err := parseSerialFile(content, sum, width, count)

		// What math/big says of the same bytes.
		good := len(content) == width*count
		last := big.NewInt(-1)
		for i := 0; good && i < count; i++ {
			n := new(big.Int).SetBytes(content[i*width : (i+1)*width])
			good = n.Cmp(last) > 0
			last = n
		}
		if good != (err == nil) {
			t.Fatalf("%s, width %d, count %d: %v", hex.EncodeToString(content), width, count, err)
		}
		if err != nil {
			return
		}
		s := &Serials{file: list}
		for i := 0; i < count; i += 1 + count/64 {
			var serial [20]byte
			copy(serial[20-width:], content[i*width:])
			if !s.Contains(&serial) {
				t.Fatalf("entry %d is not found", i)
			}
			above := new(big.Int).Add(new(big.Int).SetBytes(serial[:]), big.NewInt(1))
			if above.BitLen() > 160 {
				continue
			}
			above.FillBytes(serial[:])
			next := i+1 < count && bytes.Equal(serial[20-width:], content[(i+1)*width:(i+2)*width]) && above.BitLen() <= 8*width
			if s.Contains(&serial) != next {
				t.Fatalf("the integer after entry %d", i)
			}
		}
		if _, err = parseSerialFile(content, [32]byte{}, width, count); err == nil {
			t.Fatal("accepted under another hash")
		}
	})
}
