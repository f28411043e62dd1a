package weakkey

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/internal/need"
)

// rocaSizes: the sizes of keys that share a primorial, and how many primes it has, as
// Nemec et al. publish them.
var rocaSizes = []struct{ from, to, primes int }{{512, 960, 39}, {992, 1952, 71}, {1984, 3936, 126}, {3968, 4096, 225}}

var generator = big.NewInt(65537)

func firstPrimes(count int) (primes []int64) {
	for p := int64(2); len(primes) < count; p++ {
		if big.NewInt(p).ProbablyPrime(0) {
			primes = append(primes, p)
		}
	}
	return primes
}

func primorial(count int) *big.Int {
	m := big.NewInt(1)
	for _, p := range firstPrimes(count) {
		m.Mul(m, big.NewInt(p))
	}
	return m
}

// rocaCandidate is k*M + (65537^a mod M), of so many bits, as the library forms it.
func rocaCandidate(rng *rand.Rand, bits int, m *big.Int) *big.Int {
	for {
		p := new(big.Int).Exp(generator, random(rng, m.BitLen()), m)
		k := random(rng, bits)
		k.Div(k, m)
		if p.Add(p, k.Mul(k, m)); p.BitLen() == bits {
			return p
		}
	}
}

// isPowerOf65537 is the published test in big integers, with the published order of
// 65537 modulo the product of the first 39 primes: for each prime power of the order,
// in the subgroup of that order, try every power.
func isPowerOf65537(n *big.Int) bool {
	m := primorial(39)
	order := big.NewInt(2454106387091158800)
	if new(big.Int).Exp(n, order, m).Cmp(big.NewInt(1)) != 0 {
		return false
	}
	for _, q := range []int64{16, 81, 25, 7, 11, 13, 17, 23, 29, 37, 41, 53, 83} {
		cofactor := new(big.Int).Div(order, big.NewInt(q))
		base, wanted := new(big.Int).Exp(generator, cofactor, m), new(big.Int).Exp(n, cofactor, m)
		power, found := big.NewInt(1), false
		for range q {
			found = found || power.Cmp(wanted) == 0
			power.Mul(power, base).Mod(power, m)
		}
		if !found {
			return false
		}
	}
	return true
}

func TestROCAKeysOfPublicVectorsAreFound(t *testing.T) {
	for _, name := range []string{"cert04.pem", "cert05.pem", "csr05.pem", "mod01.txt", "mod02.txt", "mod08.txt", "pubkey03.pem"} {
		r := new(Checker).Check(fileKey(t, "roca", name))
		assert.True(t, r.Judged, name)
		assert.Equal(t, ROCA, r.Weakness(), "%s: %v", name, r)
	}
}

func TestCleanKeysOfPublicVectorsAreNotKnownToBeWeak(t *testing.T) {
	for _, name := range []string{"cert01.pem", "cert06.pem", "mod04.txt", "mod05.txt", "pubkey01.pem"} {
		r := new(Checker).Check(fileKey(t, "roca", name))
		assert.True(t, r.Judged, name)
		assert.False(t, r.Weak(), "%s: %v", name, r)
	}
}

func TestROCAKeysOfEachPrimorialAreFound(t *testing.T) {
	rng := seeded(1)
	for _, s := range rocaSizes {
		for _, bits := range []int{s.from, s.to} {
			if bits > 2048 && bits != 3968 {
				continue // a prime of that length takes seconds; the random keys cover it
			}
			m := primorial(s.primes)
			prime := func() *big.Int {
				for {
					if p := rocaCandidate(rng, bits/2, m); p.ProbablyPrime(0) {
						return p
					}
				}
			}
			r := new(Checker).Check(keyOf(new(big.Int).Mul(prime(), prime())))
			want := WeaknessesOf(ROCA)
			if bits <= factoredBits {
				want |= WeaknessesOf(Modulus)
			}
			assert.Equal(t, want, r.Weaknesses, "%d bits: %v", bits, r)
		}
	}
}

// The structure decides, and a composite p has it too; that saves the search for primes.
func TestROCAKeysOfRandomSizesAreFound(t *testing.T) {
	need.Cases(t, 10_000)
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(rocaSizes).Draw(t, "sizes")
		bits := 32 * rapid.IntRange(s.from/32, s.to/32).Draw(t, "bits in 32s")
		// The library misses the length that it was asked for.
		off := rapid.IntRange(-2, 2).Draw(t, "bits off")
		rng := seeded(rapid.Uint64().Draw(t, "seed"))
		m := primorial(s.primes)
		n := new(big.Int).Mul(rocaCandidate(rng, bits/2+off, m), rocaCandidate(rng, bits/2, m))
		c, found := rocaLogarithm(remaindersOf(limbsOf(n)))
		assert.True(t, found)
		least := primorial(39)
		assert.Equal(t, new(big.Int).Mod(n, least), new(big.Int).Exp(generator, new(big.Int).SetUint64(c), least),
			"65537 to the logarithm is the modulus")
		assert.True(t, new(Checker).Check(keyOf(n)).Weaknesses.Has(ROCA))
	})
}

// withRemainders is a modulus that has a given remainder by each of the first 39 primes.
func withRemainders(rng *rand.Rand, remainder func(p int64) *big.Int) *big.Int {
	m, n := primorial(39), new(big.Int)
	for _, p := range firstPrimes(39) {
		rest := new(big.Int).Div(m, big.NewInt(p))
		inverse := new(big.Int).ModInverse(rest, big.NewInt(p))
		n.Add(n, inverse.Mul(inverse, rest).Mul(inverse, remainder(p)))
	}
	return n.Mod(n, m).Add(n, m.Mul(m, random(rng, 1800)))
}

func TestOneRemainderThatIsNoPowerClears(t *testing.T) {
	rng := seeded(15)
	c := random(rng, 60)
	power := func(p int64) *big.Int { return new(big.Int).Exp(generator, c, big.NewInt(p)) }
	n := withRemainders(rng, power)
	_, found := rocaLogarithm(remaindersOf(limbsOf(n)))
	require.True(t, found)
	cleared := 0
	for i, odd := range firstPrimes(39) {
		for r, log := range rocaGroups[i].log {
			if log != notAPower {
				continue
			}
			n := withRemainders(rng, func(p int64) *big.Int {
				if p == odd {
					return big.NewInt(int64(r))
				}
				return power(p)
			})
			_, found := rocaLogarithm(remaindersOf(limbsOf(n)))
			require.False(t, found, "remainder %d by %d", r, odd)
			cleared++
		}
	}
	assert.Greater(t, cleared, 39, "0 by each prime, and others")
}

// Each remainder is a power of 65537, but not the same one: what bit masks take for a
// weak key.
func TestTheFingerprintAloneIsNotEnough(t *testing.T) {
	rng := seeded(2)
	found := 0
	for range 200 {
		n := withRemainders(rng, func(p int64) *big.Int {
			return new(big.Int).Exp(generator, random(rng, 32), big.NewInt(p))
		})
		for _, p := range firstPrimes(39) {
			i := new(big.Int).Mod(n, big.NewInt(p)).Int64()
			require.NotEqual(t, uint8(notAPower), rocaGroups[indexOf(t, p)].log[i], "the fingerprint modulo %d", p)
		}
		if _, is := rocaLogarithm(remaindersOf(limbsOf(n))); is {
			found++
		}
		require.False(t, isPowerOf65537(n))
	}
	assert.Zero(t, found, "of 200 moduli with the fingerprint alone")
}

func indexOf(t *testing.T, p int64) int {
	for i, q := range smallPrimes {
		if int64(q) == p {
			return i
		}
	}
	require.FailNow(t, "not a small prime", p)
	return 0
}

// The numbers that the documentation gives.
func TestProbabilityOfAFalseAlarmIsTheOneWrittenDown(t *testing.T) {
	want := map[int]string{39: "2^-154.9", 71: "2^-337.8", 126: "2^-712.6", 225: "2^-1524.8"}
	for _, s := range rocaSizes {
		prime, order, fingerprint := big.NewInt(1), big.NewInt(1), 0.0
		for _, p := range firstPrimes(s.primes) {
			o := int64(1)
			for x := int64(65537) % p; x != 1%p; x = x * 65537 % p {
				o++
			}
			prime.Mul(prime, big.NewInt(p-1))
			order.Mul(order, new(big.Int).Div(big.NewInt(o), new(big.Int).GCD(nil, nil, order, big.NewInt(o))))
			fingerprint += math.Log2(float64(o) / float64(p-1))
		}
		assert.Equal(t, want[s.primes], fmt.Sprintf("2^%.1f", log2(order)-log2(prime)))
		if s.primes == 39 {
			assert.Equal(t, "2454106387091158800", order.String(), "as published")
			last := rocaGroups[rocaPrimes-1]
			assert.Equal(t, order.Uint64(), last.period*last.steps)
			assert.Equal(t, "61.1 of 216.0", fmt.Sprintf("%.1f of %.1f", log2(order), log2(prime)))
			assert.Equal(t, "2^-27.8", fmt.Sprintf("2^%.1f", fingerprint), "of the bit masks")
		}
	}
}

func log2(n *big.Int) float64 {
	mantissa := new(big.Float).SetInt(n)
	exponent := mantissa.MantExp(mantissa)
	f, _ := mantissa.Float64()
	return math.Log2(f) + float64(exponent)
}
