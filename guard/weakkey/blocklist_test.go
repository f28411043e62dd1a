package weakkey

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func hash(i uint64) [32]byte { return sha256.Sum256(binary.BigEndian.AppendUint64(nil, i)) }

func hashes(from, to uint64) (all [][32]byte) {
	for i := from; i < to; i++ {
		all = append(all, hash(i))
	}
	return all
}

func TestABlockListIsExact(t *testing.T) {
	for _, count := range []uint64{0, 1, 2, 3, 1000} {
		h := NewHashes(append(hashes(0, count), hashes(0, count/2)...)...)
		require.EqualValues(t, count, h.Len())
		for i := range count + 1000 {
			sum := hash(i)
			require.Equal(t, i < count, h.Contains(&sum), "%d of %d", i, count)
		}
	}
}

func TestABlockListOfAMillionIsExactAndAllocatesNothing(t *testing.T) {
	const count = 1_000_000
	b := make([]byte, count*32)
	for i := range uint64(count) { // every other integer
		binary.BigEndian.PutUint64(b[i*32:], 2*i+1)
	}
	h, err := ParseHashes(b)
	require.NoError(t, err)
	require.Equal(t, count, h.Len())
	var sum [32]byte
	for i := range uint64(2*count + 2) {
		binary.BigEndian.PutUint64(sum[:], i)
		if found := h.Contains(&sum); found != (i%2 == 1 && i < 2*count) {
			require.Failf(t, "wrong", "%d: %t", i, found)
		}
	}
	assert.Zero(t, testing.AllocsPerRun(100, func() { h.Contains(&sum) }))
}

func TestABlockListAgreesWithASearchFromEndToEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		small := rapid.Custom(func(t *rapid.T) (h [32]byte) {
			h[0], h[31] = rapid.Byte().Draw(t, "first"), rapid.ByteRange(0, 3).Draw(t, "last")
			return h
		})
		all := rapid.SliceOf(small).Draw(t, "hashes")
		asked := small.Draw(t, "asked")
		before := slices.Clone(all)
		assert.Equal(t, slices.Contains(all, asked), NewHashes(all...).Contains(&asked))
		assert.Equal(t, before, all, "the caller's slice")
	})
}

func TestADamagedBlockListIsRefusedWithItsPlace(t *testing.T) {
	sorted := NewHashes(hashes(0, 4)...).sorted
	swapped := slices.Concat(sorted[:32], sorted[64:96], sorted[32:64])
	for _, row := range []struct {
		name  string
		bytes []byte
		says  []string
	}{
		{"a torn end", sorted[:100], []string{"100 bytes", "4 bytes into entry 3", "offset 96", "entries of 32 bytes"}},
		{"hashes out of order", swapped, []string{"entry 2", "offset 64", "strictly ascending"}},
		{"a hash twice", slices.Concat(sorted[:32], sorted[:32]), []string{"entry 1", "offset 32", "strictly ascending"}},
	} {
		_, err := ParseHashes(row.bytes)
		require.Error(t, err, row.name)
		for _, s := range row.says {
			assert.ErrorContains(t, err, s, row.name)
		}
	}
	for _, b := range [][]byte{nil, sorted, sorted[:32]} {
		h, err := ParseHashes(b)
		require.NoError(t, err)
		assert.Equal(t, len(b)/32, h.Len())
	}
}

func TestBlockedKeysAreWeak(t *testing.T) {
	rsaKey := freshKey(t, 1024)
	ecKey := freshECDSA(t)
	edKey := freshEd25519(t)
	bySPKI := New(Config{BlockedSPKI: NewHashes(spkiOf(t, rsaKey), spkiOf(t, ecKey), spkiOf(t, edKey))})
	for _, pub := range []any{rsaKey, ecKey, edKey} {
		for _, r := range []Result{bySPKI.Check(pub), bySPKI.CheckCertificate(certificateOf(t, pub)), bySPKI.Check(pub)} {
			assert.Equal(t, WeaknessesOf(Blocklisted), r.Weaknesses, r)
			assert.Contains(t, r.Detail, "block list")
		}
	}
	assert.True(t, bySPKI.Check(ecKey).Judged)
	assert.False(t, bySPKI.Check(edKey).Judged, "blocked, but not judged")
	assert.False(t, bySPKI.Check(freshKey(t, 1024)).Weak())

	byModulus := New(Config{BlockedModuli: NewHashes(sha256.Sum256(rsaKey.N.Bytes()))})
	assert.Equal(t, WeaknessesOf(Blocklisted), byModulus.Check(rsaKey).Weaknesses)
	other := &rsa.PublicKey{N: rsaKey.N, E: 65539}
	assert.Equal(t, WeaknessesOf(Blocklisted), byModulus.Check(other).Weaknesses, "the same modulus, another exponent")
	assert.False(t, byModulus.Check(freshKey(t, 1024)).Weak())
	assert.False(t, byModulus.Check(ecKey).Weak())
}

func TestABlockedKeyIsGravestAsBlocked(t *testing.T) {
	even := new(big.Int).Lsh(randomPrime(seeded(10), 1024), 1024)
	c := New(Config{BlockedModuli: NewHashes(sha256.Sum256(even.Bytes()))})
	r := c.Check(&rsa.PublicKey{N: even, E: 3})
	assert.Equal(t, Blocklisted, r.Weakness())
	assert.Equal(t, []string{"blocklisted", "small_factor", "exponent"}, r.Weaknesses.Names())
}
