package weakkey

import (
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/internal/need"
)

// plainFermat is the textbook's: from the square root upwards, one value of a in each
// round.
func plainFermat(n *big.Int) bool {
	a := new(big.Int).Sqrt(n)
	if new(big.Int).Mul(a, a).Cmp(n) < 0 {
		a.Add(a, big.NewInt(1))
	}
	for range 100 {
		b := new(big.Int).Mul(a, a)
		b.Sub(b, n)
		root := new(big.Int).Sqrt(b)
		if new(big.Int).Mul(root, root).Cmp(b) == 0 {
			return new(big.Int).Sub(a, root).Cmp(big.NewInt(1)) > 0
		}
		a.Add(a, big.NewInt(1))
	}
	return false
}

func TestClosePrimesOfPublicVectorsAreFound(t *testing.T) {
	for _, name := range []string{"rsa-fermat-hexmodulus.txt", "rsa-fermat.crt", "rsa-fermat.csr"} {
		r := new(Checker).Check(fileKey(t, "badkeys", name))
		assert.True(t, r.Judged, name)
		assert.Equal(t, WeaknessesOf(ClosePrimes), r.Weaknesses, "%s: %v", name, r)
	}
}

func TestNeighbouringPrimesAreFound(t *testing.T) {
	p := randomPrime(seeded(3), 1024)
	q := new(big.Int).Add(p, big.NewInt(2))
	for !q.ProbablyPrime(0) {
		q.Add(q, big.NewInt(2))
	}
	r := new(Checker).Check(keyOf(new(big.Int).Mul(p, q)))
	assert.Equal(t, WeaknessesOf(ClosePrimes), r.Weaknesses, r)
	assert.Contains(t, r.Detail, "round 1")
	assert.NotContains(t, r.Detail, p.String(), "the primes are the private key")
}

func TestASquareIsNoModulus(t *testing.T) {
	p := randomPrime(seeded(4), 1024)
	r := new(Checker).Check(keyOf(new(big.Int).Mul(p, p)))
	assert.Equal(t, WeaknessesOf(ClosePrimes), r.Weaknesses, r)
	assert.Equal(t, "the modulus is a square", r.Detail)
}

// Composite factors do as well, and let the distance be any.
func TestPrimesAreFoundUpToTheDocumentedDistance(t *testing.T) {
	need.Cases(t, 10_000)
	rapid.Check(t, func(t *rapid.T) {
		rng := seeded(rapid.Uint64().Draw(t, "seed"))
		bits := rapid.SampledFrom([]int{512, 1024, 1536, 2048}).Draw(t, "bits of a prime")
		p := random(rng, bits)
		p.SetBit(p, 0, 1)
		// 28 times the fourth root of p*p, which is less than that of p*q.
		most := new(big.Int).Sqrt(p)
		most.Mul(most, big.NewInt(28))
		distance := most
		if rapid.Bool().Draw(t, "nearer") {
			distance = random(rng, rapid.IntRange(2, most.BitLen()-1).Draw(t, "bits of the distance"))
		}
		distance.SetBit(distance, 0, 0)
		n := new(big.Int).Mul(p, new(big.Int).Add(p, distance))
		assert.True(t, new(Checker).Check(keyOf(n)).Weaknesses.Has(ClosePrimes), "p %x, distance %x", p, distance)
	})
}

// With a = (p+q)/2 so many above the square root, p and q are found in that round.
func TestThereAreExactlyAHundredRounds(t *testing.T) {
	rng := seeded(5)
	for range 20 {
		p := random(rng, 1024)
		p.SetBit(p, 0, 1)
		for _, round := range []int64{1, 50, 99, 100, 101, 102} {
			q := partnerForRound(t, p, round)
			n := new(big.Int).Mul(p, q)
			found, is := fermat(n, limbsOf(n))
			assert.Equal(t, round <= 100, is, "round %d", round)
			if is {
				assert.EqualValues(t, round, found)
			}
			assert.Equal(t, is, plainFermat(n), "round %d, as the textbook has it", round)
		}
	}
}

// partnerForRound looks for q above p with (p+q)/2 - floor(sqrt(p*q)) = round.
func partnerForRound(t *testing.T, p *big.Int, round int64) *big.Int {
	lo, hi := big.NewInt(0), new(big.Int).Lsh(big.NewInt(1), 600) // half the distance
	for {
		half := new(big.Int).Add(lo, hi)
		half.Rsh(half, 1)
		require.NotEqual(t, lo, half, "there is no such distance")
		a := new(big.Int).Add(p, half)
		q := new(big.Int).Add(a, half)
		root := new(big.Int).Sqrt(new(big.Int).Mul(p, q))
		switch a.Sub(a, root).Cmp(big.NewInt(round)) {
		case 0:
			return q
		case -1:
			lo = half
		default:
			hi = half
		}
	}
}

func TestDistantPrimesAreNotFound(t *testing.T) {
	rng := seeded(6)
	for range 10 {
		n := new(big.Int).Mul(randomPrime(rng, 512), randomPrime(rng, 512))
		_, found := fermat(n, limbsOf(n))
		assert.False(t, found)
	}
}

func TestTheSquareTestsLetEverySquarePass(t *testing.T) {
	require.LessOrEqual(t, len(squareTests), len([16]uint64{}))
	for a := range uint64(70_000) {
		var none [16]uint64 // the square of a, less nothing
		require.True(t, maybeSquare(a, &none), a)
	}
}
