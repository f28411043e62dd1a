package testcard

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"sync"

	"github.com/rxguard/rxguard/internal/card"
)

// MakeKeys has the card take the keys that it generates from f, in place of making
// them; nil ends that. It is for tests that make many.
func (c *Card) MakeKeys(f func(bits int) (*rsa.PrivateKey, error)) {
	if f == nil {
		f = generate
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.makeKey = f
}

// make answers what makes keys, for a call outside the card's lock.
func (c *Card) make() func(bits int) (*rsa.PrivateKey, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.makeKey
}

func generate(bits int) (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) }

var cached struct {
	sync.Mutex
	keys []*rsa.PrivateKey
}

// CachedKeys answers a source of RSA-2048 keys for MakeKeys and Prescriber. Each
// source gives other keys with each call; all sources give the same ones in the
// same order, which this process makes once.
func CachedKeys() func(bits int) (*rsa.PrivateKey, error) {
	var mu sync.Mutex
	next := 0
	return func(bits int) (*rsa.PrivateKey, error) {
		if bits != 2048 {
			return generate(bits)
		}
		mu.Lock()
		defer mu.Unlock()
		cached.Lock()
		defer cached.Unlock()
		if next == len(cached.keys) {
			key, err := generate(bits)
			if err != nil {
				return nil, err
			}
			cached.keys = append(cached.keys, key)
		}
		next++
		return cached.keys[next-1], nil
	}
}

// usable tells whether a card and the test CA take this public key.
func usable(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 1024 || n > 4096 {
			return fmt.Errorf("RSA key of %d bits, expected 1024 to 4096", n)
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return fmt.Errorf("EC key on %s, expected P-256", k.Curve.Params().Name)
		}
	default:
		return fmt.Errorf("%T, expected an RSA or EC public key", pub)
	}
	return nil
}

// sign is what a card's chip does with a digest: PKCS#1 v1.5 and, where it can,
// PSS (RFC 8017 8.1, 8.2) for RSA; ECDSA as DER (RFC 3279 2.2.3).
func sign(key crypto.Signer, digest []byte, opts crypto.SignerOpts, pss bool) ([]byte, error) {
	unsupported := func(format string, args ...any) ([]byte, error) {
		return nil, card.Errorf(card.Unsupported, string(OpSign), format, args...)
	}
	p, isPSS := opts.(*rsa.PSSOptions)
	if opts == nil || isPSS && p == nil {
		return unsupported("no hash is named, expected one in the options")
	}
	h := opts.HashFunc()
	switch h {
	case crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512:
	default:
		return unsupported("hash %v, expected SHA-1, SHA-256, SHA-384 or SHA-512", h)
	}
	if len(digest) != h.Size() {
		return unsupported("digest of %d bytes, expected the %d of %v", len(digest), h.Size(), h)
	}
	switch key.(type) {
	case *rsa.PrivateKey:
		if isPSS && !pss {
			return unsupported("RSASSA-PSS, expected PKCS #1 v1.5")
		}
	default:
		if isPSS {
			return unsupported("RSASSA-PSS with an EC key")
		}
	}
	sig, err := key.Sign(rand.Reader, digest, opts)
	if err != nil {
		return nil, &card.Error{Kind: card.Unsupported, Op: string(OpSign), TriesLeft: -1, Err: err}
	}
	return sig, nil
}
