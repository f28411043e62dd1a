package weakkey

import (
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"math"
)

const (
	// maxModulusBits bounds the work for one key: OPENSSL_RSA_MAX_MODULUS_BITS, beyond
	// which OpenSSL verifies nothing.
	maxModulusBits = 16384

	// factoredBits is the length of RSA-250, the longest modulus without a special form
	// that was factored in public: Boudot et al., Comparing the Difficulty of
	// Factorization and Discrete Logarithm: a 240-digit Experiment, CRYPTO 2020, and
	// their announcement of RSA-250.
	factoredBits = 829

	// leastExponent: FIPS 186-5 A.1.1 wants 2^16 < e < 2^256. BR 6.1.6 allows from 3 on
	// and recommends this range.
	leastExponent = 1<<16 + 1

	// greatestExponent is what crypto/rsa verifies with. Longer ones are legal (FIPS
	// 186-5 A.1.1), but a good key has no use for one, and common verifiers fail on it.
	greatestExponent = math.MaxInt32
)

// judgeRSA makes every check: a key may be weak in more than one way.
func (c *Checker) judgeRSA(key *rsa.PublicKey) Result {
	if key == nil || key.N == nil {
		return cannotJudge("RSA", "the key has no modulus")
	}
	n := key.N
	r := Result{Key: fmt.Sprintf("RSA, %d bits", n.BitLen()), Judged: true}
	if n.BitLen() > maxModulusBits {
		return cannotJudge(r.Key, fmt.Sprintf("the modulus has %d bits; judged are at most %d", n.BitLen(), maxModulusBits))
	}
	judgeExponent(&r, key.E)
	if n.Sign() <= 0 {
		r.add(Modulus, "the modulus is not positive")
		return r
	}
	if n.BitLen() <= factoredBits {
		r.add(Modulus, fmt.Sprintf("the modulus has %d bits, and one of %d bits was factored in public", n.BitLen(), factoredBits))
	}
	limbs := limbsOf(n)
	rem := remaindersOf(limbs)
	if p := smallFactor(rem); p != 0 {
		r.add(SmallFactor, fmt.Sprintf("%d divides the modulus", p))
	}
	if _, found := rocaLogarithm(rem); found {
		r.add(ROCA, "the modulus is a power of 65537 modulo the product of the first 39 primes")
	}
	switch round, found := fermat(n, limbs); {
	case found && round == 0:
		r.add(ClosePrimes, "the modulus is a square")
	case found:
		r.add(ClosePrimes, fmt.Sprintf("Fermat's factorisation finds the primes in round %d", round))
	}
	if c.config.BlockedModuli.Len() > 0 {
		sum := sha256.Sum256(n.Bytes())
		if c.config.BlockedModuli.Contains(&sum) {
			r.add(Blocklisted, "the SHA-256 of its modulus is on the block list")
		}
	}
	return r
}

func judgeExponent(r *Result, e int) {
	switch {
	case e < 1:
		r.add(Exponent, fmt.Sprintf("the public exponent is %d, wanted a positive one", e))
	case e%2 == 0:
		r.add(Exponent, fmt.Sprintf("the public exponent %d is even", e))
	case e < leastExponent:
		r.add(Exponent, fmt.Sprintf("the public exponent is %d, wanted at least %d", e, leastExponent))
	case e > greatestExponent:
		r.add(Exponent, fmt.Sprintf("the public exponent is %d, wanted at most %d", e, greatestExponent))
	}
}
