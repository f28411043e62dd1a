package weakkey

import (
	"math/big"
	"math/bits"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSmallPrimesAreAllBelow752(t *testing.T) {
	var want []uint16
	for n := int64(0); n < 752; n++ {
		if big.NewInt(n).ProbablyPrime(0) {
			want = append(want, uint16(n))
		}
	}
	assert.Equal(t, want, smallPrimes[:])
}

func TestGroupsHoldEachPrimeOnce(t *testing.T) {
	next := 0
	for _, g := range primeGroups {
		require.Equal(t, next, g.first)
		product := uint64(1)
		for _, p := range smallPrimes[g.first:][:g.count] {
			over, low := bits.Mul64(product, uint64(p))
			require.Zero(t, over)
			product = low
		}
		assert.Equal(t, product, g.product)
		next += g.count
	}
	assert.Equal(t, smallPrimeCount, next)
}

func TestEachSmallFactorIsFound(t *testing.T) {
	rng := seeded(7)
	p, q := randomPrime(rng, 1024), randomPrime(rng, 1014)
	for _, small := range smallPrimes {
		r := new(Checker).Check(keyOf(new(big.Int).Mul(p, new(big.Int).Mul(q, big.NewInt(int64(small))))))
		assert.Equal(t, WeaknessesOf(SmallFactor), r.Weaknesses, "%d: %v", small, r)
	}
	r := new(Checker).Check(keyOf(new(big.Int).Lsh(p, 1025)))
	assert.Contains(t, r.Detail, "2 divides the modulus")
}

func TestFactorsFrom752OnAreNotSmall(t *testing.T) {
	rng := seeded(8)
	r := new(Checker).Check(keyOf(new(big.Int).Mul(randomPrime(rng, 2038), big.NewInt(757))))
	assert.False(t, r.Weak(), r)
}

func TestRemaindersAreThoseOfTheModulus(t *testing.T) {
	rng := seeded(9)
	for _, length := range []int{1, 2, 63, 64, 65, 127, 128, 129, 1021, 2048, 2050, 16384} {
		n := random(rng, length)
		rem := remaindersOf(limbsOf(n))
		for i, p := range smallPrimes {
			require.EqualValues(t, new(big.Int).Mod(n, big.NewInt(int64(p))).Int64(), rem[i], "%d bits by %d", length, p)
		}
	}
}
