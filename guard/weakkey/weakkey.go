// Package weakkey judges public keys: a key is weak, and in which way; or it is not
// known to be weak; or it is of a kind that cannot be judged here. [Checker.CheckCertificate]
// and [Checker.Check] answer; the zero Checker is ready for use, and [New] makes one
// with block lists.
//
// What is looked for, each with its source:
//
//   - ROCA (CVE-2017-15361): the modulus is a power of 65537 modulo the product of
//     the first 39 primes. Nemec, Sys, Svenda, Klinec, Matyas: The Return of
//     Coppersmith's Attack, ACM CCS 2017, section 2. A good key of any length is taken
//     for one with probability 2^-154.9.
//   - Close primes: 100 rounds of Fermat's factorisation. CA/Browser Forum Baseline
//     Requirements (BR) 6.1.1.3, FIPS 186-5 A.1.3.
//   - Small factors: a prime below 752 divides the modulus. BR 6.1.6, NIST SP 800-89
//     5.3.3.
//   - The public exponent: even, below 65537, or above 2^31-1. FIPS 186-5 A.1.1, BR
//     6.1.6; crypto/rsa verifies with no larger one.
//   - The modulus: not positive, or of at most 829 bits, the length of RSA-250, which
//     was factored in public (Boudot, Gaudry, Guillevic, Heninger, Thomé, Zimmermann,
//     CRYPTO 2020). Which lengths are wanted beyond that is policy and not judged here.
//   - The point of an ECDSA key on P-256, P-384 or P-521: it is on its curve. NIST SP
//     800-56A revision 3, 5.6.2.3.3.
//   - Block lists of the caller's: see [Hashes].
//
// Not judged, besides other kinds of key: RSA moduli of more than 16384 bits, the
// limit of OpenSSL, so that the work has a bound.
//
// A Checker remembers its verdicts by the SHA-256 of the subject public key info
// (SPKI, RFC 5280 4.1.2.7), up to [Remembered] of them. It is safe for concurrent use
// and takes no lock.
package weakkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strings"
)

// Config is what a Checker is made from. The zero value is legal: no block lists.
type Config struct {
	// BlockedSPKI holds SHA-256 hashes of the DER of subject public key infos (RFC
	// 5280 4.1.2.7). They block keys of every kind.
	BlockedSPKI Hashes

	// BlockedModuli holds SHA-256 hashes of RSA moduli, big-endian without leading
	// zeros.
	BlockedModuli Hashes
}

// Checker judges public keys and remembers the verdicts. The zero value has no block
// lists. It must not be copied after first use.
type Checker struct {
	config Config
	memory memory
}

// New returns a Checker with the block lists of c, which stay in force as long as it
// is used: with other lists, make another Checker.
func New(c Config) *Checker { return &Checker{config: c} }

// CheckCertificate judges the key of a certificate that crypto/x509 parsed. For a
// remembered key it allocates nothing. A nil certificate, and one without a key of a
// kind known to crypto/x509, cannot be judged.
func (c *Checker) CheckCertificate(cert *x509.Certificate) Result {
	switch {
	case cert == nil:
		return cannotJudge("no key", "there is no certificate")
	case len(cert.RawSubjectPublicKeyInfo) == 0: // not parsed, but put together
		return c.Check(cert.PublicKey)
	}
	spki := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	if r, ok := c.Known(spki); ok {
		return r
	}
	return c.judge(cert.PublicKey, &spki)
}

// Check judges a public key: [*rsa.PublicKey], [*ecdsa.PublicKey], or another kind,
// which cannot be judged. A key that is broken (nil, off its curve, with an impossible
// modulus) has a verdict like any other. For the hash of its subject public key info it
// encodes the key anew: whoever has a certificate asks CheckCertificate, whoever has the
// hash, Known. A key that has no encoding, or is too long for one to be made, is neither
// looked up in BlockedSPKI nor remembered.
func (c *Checker) Check(pub crypto.PublicKey) Result {
	der := encode(pub)
	if der == nil {
		return c.judge(pub, nil)
	}
	spki := sha256.Sum256(der)
	if r, ok := c.Known(spki); ok {
		return r
	}
	return c.judge(pub, &spki)
}

// Known returns the verdict that is remembered for a key, by the SHA-256 of its
// subject public key info; false: it was not judged yet, or it was forgotten. It
// allocates nothing.
func (c *Checker) Known(spki [32]byte) (Result, bool) {
	if e := c.memory.find(&spki); e != nil {
		return e.result, true
	}
	return Result{}, false
}

// judge makes the verdict and, where the key has a hash, remembers it.
func (c *Checker) judge(pub crypto.PublicKey, spki *[32]byte) Result {
	r := c.judgeKind(pub)
	if spki != nil {
		if c.config.BlockedSPKI.Contains(spki) {
			r.add(Blocklisted, "the SHA-256 of its subject public key info is on the block list")
		}
		c.memory.remember(&entry{spki: *spki, result: r})
	}
	return r
}

func (c *Checker) judgeKind(pub crypto.PublicKey) Result {
	switch key := pub.(type) {
	case *rsa.PublicKey:
		return c.judgeRSA(key)
	case *ecdsa.PublicKey:
		return judgeECDSA(key)
	case ed25519.PublicKey:
		return cannotJudge("Ed25519", "only RSA and ECDSA keys are judged")
	case nil:
		return cannotJudge("no key", "there is no public key of a known kind")
	}
	// The type alone: a method of an unknown type might do anything.
	kind := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", pub), "*"), ".PublicKey")
	return cannotJudge(kind, "only RSA and ECDSA keys are judged")
}

// encode returns the DER of the subject public key info; nil: the key has none, or one
// too large to be worth it.
func encode(pub crypto.PublicKey) []byte {
	switch key := pub.(type) {
	case *rsa.PublicKey:
		if key == nil || key.N == nil || key.N.BitLen() > maxModulusBits {
			return nil
		}
	case *ecdsa.PublicKey:
		if curveOf(key) == "" || !onCurve(key) {
			return nil
		}
	case ed25519.PublicKey:
		if len(key) != ed25519.PublicKeySize {
			return nil
		}
	default:
		return nil
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil
	}
	return der
}
