package weakkey

import (
	"encoding/binary"
	"math/big"
	"math/bits"
)

// smallFactorBound: a modulus has no factor below it, NIST SP 800-89 5.3.3 and BR
// 6.1.6.
const smallFactorBound = 752

// smallPrimeCount is the number of primes below smallFactorBound.
const smallPrimeCount = 133

var smallPrimes = primesBelow(smallFactorBound)

// primeGroups partitions smallPrimes, in order, into runs whose products fit a word:
// the modulus is reduced by each product once and then, in one word, by each prime.
var primeGroups = groupPrimes(smallPrimes[:])

type primeGroup struct {
	product uint64
	first   int // index of its first prime
	count   int
}

// remainders are those of a modulus by each of smallPrimes.
type remainders [smallPrimeCount]uint16

// limbsOf is n in big-endian words of 64 bits.
func limbsOf(n *big.Int) []byte {
	return n.FillBytes(make([]byte, (n.BitLen()+63)/64*8))
}

// mod is the remainder by m of an integer that limbsOf wrote.
func mod(limbs []byte, m uint64) (r uint64) {
	for ; len(limbs) >= 8; limbs = limbs[8:] {
		_, r = bits.Div64(r, binary.BigEndian.Uint64(limbs), m)
	}
	return r
}

func remaindersOf(limbs []byte) *remainders {
	var rem remainders
	for _, g := range primeGroups {
		r := mod(limbs, g.product)
		for i := g.first; i < g.first+g.count; i++ {
			rem[i] = uint16(r % uint64(smallPrimes[i]))
		}
	}
	return &rem
}

// smallFactor is the least prime below smallFactorBound that divides; 0: none does.
func smallFactor(rem *remainders) uint16 {
	for i, r := range rem {
		if r == 0 {
			return smallPrimes[i]
		}
	}
	return 0
}

func primesBelow(bound uint16) (primes [smallPrimeCount]uint16) {
	found := 0
	for p := uint16(2); p < bound; p++ {
		prime := true
		for _, q := range primes[:found] {
			if p%q == 0 {
				prime = false
				break
			}
		}
		if prime {
			primes[found] = p
			found++
		}
	}
	return primes
}

func groupPrimes(primes []uint16) (groups []primeGroup) {
	g := primeGroup{product: 1}
	for i, p := range primes {
		over, product := bits.Mul64(g.product, uint64(p))
		if over != 0 {
			groups = append(groups, g)
			g, product = primeGroup{first: i}, uint64(p)
		}
		g.product = product
		g.count++
	}
	return append(groups, g)
}
