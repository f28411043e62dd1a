package weakkey

// The library of CVE-2017-15361 makes primes p = k*M + (65537^a mod M), where M, a
// primorial, is the product of the first primes: 39 of them for keys of 512 to 960
// bits, 71 for 992 to 1952, 126 for 1984 to 3936, 225 for 3968 to 4096 (Nemec et al.
// 2017, section 2). So is the modulus a power of 65537 modulo M, and a discrete
// logarithm tells whether it is: M is smooth, and so is the order of 65537 modulo M.
//
// The product of the first 39 primes divides all four, so it finds the keys of every
// size, also where the library misses the nominal length by a few bits, as it does.
// And it suffices: 65537 has order 2^61.1 modulo it, and 2^216.0 remainders are prime to
// it, so that a modulus made otherwise is a power of 65537 with probability 2^-154.9.
// The larger ones would only make that 2^-337.8, 2^-712.6 and 2^-1524.8.

// rocaPrimes is how many primes the least of the primorials has.
const rocaPrimes = 39

// rocaGenerator is the base of the powers.
const rocaGenerator = 65537

// rocaGroup is the group that 65537 generates modulo one prime.
type rocaGroup struct {
	order uint64  // of 65537 modulo the prime
	log   []uint8 // of each remainder, to the base 65537; notAPower: it has none

	period uint64 // the least common multiple of the orders of all primes before
	steps  uint64 // by how much this order multiplies it
}

const notAPower = 0xff // orders are below 167

var rocaGroups = makeROCAGroups()

func makeROCAGroups() (groups [rocaPrimes]rocaGroup) {
	period := uint64(1)
	for i := range groups {
		p := uint64(smallPrimes[i])
		g := rocaGroup{log: make([]uint8, p), period: period}
		for r := range g.log {
			g.log[r] = notAPower
		}
		for power := uint64(1); g.log[power] == notAPower; power = power * rocaGenerator % p {
			g.log[power] = uint8(g.order)
			g.order++
		}
		g.steps = g.order / gcd(g.order, period)
		period *= g.steps
		groups[i] = g
	}
	return groups
}

// rocaLogarithm finds c with 65537^c equal to the modulus, modulo the first 39 primes,
// by Pohlig and Hellman's way: the logarithm modulo each prime, known modulo the order
// of 65537 there, and the Chinese remainder theorem. A remainder outside the group of
// one prime ends it, as do logarithms that contradict each other modulo a common factor
// of their orders. The bit masks of the first published test do not see the latter: they
// pass one good key in 2^27.8. A good key rarely gets past the sixth prime.
func rocaLogarithm(rem *remainders) (c uint64, found bool) {
	for i := range rocaGroups {
		g := &rocaGroups[i]
		log := g.log[rem[i]]
		if log == notAPower {
			return 0, false
		}
		// c is right for all primes before, and so is c plus any multiple of the period.
		for step := uint64(1); c%g.order != uint64(log); step++ {
			if step == g.steps {
				return 0, false
			}
			c += g.period
		}
	}
	return c, true
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
