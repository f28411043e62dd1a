package weakkey

import "math/big"

// fermatRounds is what BR 6.1.1.3 asks for, and what public scanners use. The first few
// rounds find every such key that was ever met in the field (CVE-2022-26320), and more
// buy little: the distance that is covered grows with the square root of the rounds.
//
// Found is every N = p*q with |p-q| <= 28*N^(1/4), because (p+q)/2 exceeds the square
// root of N by at most (p-q)^2 / (8*N^(1/2)): for 2048 bits, primes that agree in about
// their upper half. FIPS 186-5 A.1.3 wants them to differ in the first 100 bits.
const fermatRounds = 100

// squareTest tells most integers from squares modulo a small number: bit r of squares
// is set if r is a square modulo m.
type squareTest struct{ m, squares uint64 }

// The moduli are prime to each other and their product fits a word. Squares apart, one
// integer in 5 passes the first, one in 13,744 all.
var (
	squareTests   = makeSquareTests(64, 63, 61, 59, 55, 53, 47, 43, 41, 37, 31)
	squareProduct = productOf(squareTests)
)

func makeSquareTests(moduli ...uint64) (tests []squareTest) {
	for _, m := range moduli {
		t := squareTest{m: m}
		for r := range m {
			t.squares |= 1 << (r * r % m)
		}
		tests = append(tests, t)
	}
	return tests
}

func productOf(tests []squareTest) uint64 {
	product := uint64(1)
	for _, t := range tests {
		product *= t.m
	}
	return product
}

// fermat looks for a and b with n = a^2 - b^2 = (a-b)(a+b), from the square root of n
// upwards. Rounds are counted from 1; round 0: n is a square. limbs is n.
func fermat(n *big.Int, limbs []byte) (round int, found bool) {
	a := new(big.Int).Sqrt(n)
	b := new(big.Int).Mul(a, a)
	if b.Cmp(n) == 0 {
		return 0, n.BitLen() > 1
	}
	// The integer a is reduced once; the rounds then work on words.
	aRest, nRest := mod(limbsOf(a), squareProduct), mod(limbs, squareProduct)
	var nRests [16]uint64
	for i, t := range squareTests {
		nRests[i] = nRest % t.m
	}
	for round := 1; round <= fermatRounds; round++ {
		if !maybeSquare(aRest+uint64(round), &nRests) {
			continue
		}
		at := new(big.Int).Add(a, big.NewInt(int64(round)))
		b.Mul(at, at).Sub(b, n)
		root := new(big.Int).Sqrt(b)
		if new(big.Int).Mul(root, root).Cmp(b) == 0 {
			// A tiny modulus also gets to 1*n, which factors nothing.
			return round, at.Sub(at, root).Cmp(big.NewInt(1)) > 0
		}
	}
	return 0, false
}

// maybeSquare is false only if a^2 - n is no square.
func maybeSquare(a uint64, nRests *[16]uint64) bool {
	for i, t := range squareTests {
		r := a % t.m
		if t.squares>>((r*r+t.m-nRests[i])%t.m)&1 == 0 {
			return false
		}
	}
	return true
}
