package weakkey

import (
	"crypto/dsa" //lint:ignore SA1019 keys of a kind that cannot be judged
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"math"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
)

func freshKey(t testing.TB, bits int) *rsa.PublicKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	require.NoError(t, err)
	return &k.PublicKey
}

func freshECDSA(t testing.TB) *ecdsa.PublicKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return &k.PublicKey
}

func freshEd25519(t testing.TB) ed25519.PublicKey {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return pub
}

func TestKeysOfCryptoRSAAreNotKnownToBeWeak(t *testing.T) {
	var c Checker
	for bits, count := range map[int]int{1024: 40, 1536: 10, 2048: 6} {
		for range count {
			r := c.Check(freshKey(t, bits))
			assert.True(t, r.Judged)
			assert.False(t, r.Weak(), r)
		}
	}
}

func TestKeysOfWycheproofAreWeakByTheirExponentAlone(t *testing.T) {
	var file struct {
		TestGroups []struct{ PublicKeyDer string }
	}
	require.NoError(t, json.Unmarshal(need.Read(t, "wycheproof", "rsa_signature_2048_sha256_test.json"), &file))
	require.NotEmpty(t, file.TestGroups)
	for _, g := range file.TestGroups {
		der, err := hex.DecodeString(g.PublicKeyDer)
		require.NoError(t, err)
		pub, err := x509.ParsePKIXPublicKey(der)
		require.NoError(t, err)
		r := new(Checker).Check(pub)
		assert.True(t, r.Judged)
		want := WeaknessesOf()
		if pub.(*rsa.PublicKey).E == 3 {
			want = WeaknessesOf(Exponent)
		}
		assert.Equal(t, want, r.Weaknesses, r)
	}
}

func TestExponents(t *testing.T) {
	n := freshKey(t, 1024).N
	for _, row := range []struct {
		name string
		e    int64
		weak bool
		says string
	}{
		{"negative", -65537, true, "-65537, wanted a positive one"},
		{"zero", 0, true, "0, wanted a positive one"},
		{"one", 1, true, "is 1, wanted at least 65537"},
		{"two", 2, true, "2 is even"},
		{"three", 3, true, "is 3, wanted at least 65537"},
		{"one too small", 65535, true, "wanted at least 65537"},
		{"even", 65536, true, "even"},
		{"the usual one", 65537, false, ""},
		{"even and larger", 65538, true, "even"},
		{"larger", 65539, false, ""},
		{"the largest", math.MaxInt32, false, ""},
		{"one too large", math.MaxInt32 + 2, true, "wanted at most 2147483647"},
		{"huge", math.MaxInt64, true, "wanted at most 2147483647"},
	} {
		if int64(int(row.e)) != row.e {
			continue // no such exponent where int has 32 bits
		}
		r := new(Checker).Check(&rsa.PublicKey{N: n, E: int(row.e)})
		assert.True(t, r.Judged, row.name)
		assert.Equal(t, row.weak, r.Weaknesses == WeaknessesOf(Exponent), "%s: %v", row.name, r)
		assert.Equal(t, row.weak, r.Weak(), "%s: %v", row.name, r)
		assert.Contains(t, r.Detail, row.says, row.name)
	}
}

func TestModuli(t *testing.T) {
	rng := seeded(11)
	product := func(bits int) *big.Int {
		for {
			n := new(big.Int).Mul(randomPrime(rng, bits/2), randomPrime(rng, bits-bits/2))
			if n.BitLen() == bits {
				return n
			}
		}
	}
	for _, row := range []struct {
		name string
		n    *big.Int
		want Weaknesses
		says string
	}{
		{"zero", new(big.Int), WeaknessesOf(Modulus), "not positive"},
		{"negative", new(big.Int).Neg(product(1024)), WeaknessesOf(Modulus), "not positive"},
		{"one", big.NewInt(1), WeaknessesOf(Modulus, ROCA), "1 bits"}, // 65537^0
		{"a prime", big.NewInt(7), WeaknessesOf(Modulus, SmallFactor), "7 divides"},
		{"a short one", product(512), WeaknessesOf(Modulus), "512 bits"},
		{"as long as one that was factored", product(829), WeaknessesOf(Modulus), "829 bits"},
		{"longer than that", product(830), 0, ""},
		{"of an odd length", product(1021), 0, ""},
		{"even", new(big.Int).Lsh(product(1024), 1), WeaknessesOf(SmallFactor), "2 divides"},
	} {
		r := new(Checker).Check(keyOf(row.n))
		assert.True(t, r.Judged, row.name)
		assert.Equal(t, row.want, r.Weaknesses, "%s: %v", row.name, r)
		assert.Contains(t, r.Detail, row.says, row.name)
	}
}

func TestAnAbsurdlyLongModulusIsNotWorkedOn(t *testing.T) {
	longest := random(seeded(12), 16384)
	assert.True(t, new(Checker).Check(keyOf(longest)).Judged)
	for _, n := range []*big.Int{new(big.Int).Lsh(longest, 1), new(big.Int).Lsh(longest, 1<<23)} {
		r := new(Checker).Check(keyOf(n))
		assert.False(t, r.Judged)
		assert.False(t, r.Weak())
		assert.Contains(t, r.Detail, "at most 16384")
	}
}

func TestPointsAreOnTheirCurve(t *testing.T) {
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		require.NoError(t, err)
		r := new(Checker).Check(&k.PublicKey)
		assert.Equal(t, Result{Key: "ECDSA, " + name, Judged: true}, r)

		x, y := k.X, k.Y
		p := curve.Params().P
		for what, pub := range map[string]*ecdsa.PublicKey{
			"off the curve":        {Curve: curve, X: x, Y: new(big.Int).Add(y, big.NewInt(1))},
			"at infinity":          {Curve: curve, X: new(big.Int), Y: new(big.Int)},
			"negative":             {Curve: curve, X: x, Y: new(big.Int).Neg(y)},
			"not reduced":          {Curve: curve, X: new(big.Int).Add(x, p), Y: y},
			"of another curve":     {Curve: curve, X: big.NewInt(5), Y: big.NewInt(7)},
			"far too large":        {Curve: curve, X: new(big.Int).Lsh(x, 9999), Y: y},
			"without coordinates":  {Curve: curve},
			"without one of those": {Curve: curve, X: x},
		} {
			r := new(Checker).Check(pub)
			assert.True(t, r.Judged, "%s, %s", name, what)
			assert.Equal(t, WeaknessesOf(Point), r.Weaknesses, "%s, %s: %v", name, what, r)
		}
	}
}

// foreign is a curve and a kind of key whose methods must not be called.
type foreign struct {
	elliptic.Curve
	_ []byte // not comparable
}

func TestWhatCannotBeJudgedIsSaid(t *testing.T) {
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	require.NoError(t, err)
	for _, row := range []struct {
		name string
		pub  any
		key  string
		says string
	}{
		{"nil", nil, "no key", "no public key"},
		{"no RSA key", (*rsa.PublicKey)(nil), "RSA", "no modulus"},
		{"an RSA key without a modulus", &rsa.PublicKey{E: 65537}, "RSA", "no modulus"},
		{"no ECDSA key", (*ecdsa.PublicKey)(nil), "ECDSA", "no curve"},
		{"an ECDSA key without a curve", &ecdsa.PublicKey{}, "ECDSA", "no curve"},
		{"a small curve", &p224.PublicKey, "ECDSA, P-224", "P-256, P-384 and P-521"},
		{"a foreign curve", &ecdsa.PublicKey{Curve: foreign{}}, "ECDSA, an unknown curve", "P-256, P-384 and P-521"},
		{"Ed25519", freshEd25519(t), "Ed25519", "only RSA and ECDSA"},
		{"a short Ed25519 key", ed25519.PublicKey{1}, "Ed25519", "only RSA and ECDSA"},
		{"X25519", x25519.PublicKey(), "ecdh", "only RSA and ECDSA"},
		{"no X25519 key", (*ecdh.PublicKey)(nil), "ecdh", "only RSA and ECDSA"},
		{"DSA", &dsa.PublicKey{}, "dsa", "only RSA and ECDSA"},
		{"something else", foreign{}, "weakkey.foreign", "only RSA and ECDSA"},
	} {
		var c Checker
		for range 2 {
			r := c.Check(row.pub)
			assert.False(t, r.Judged, row.name)
			assert.False(t, r.Weak(), row.name)
			assert.Equal(t, row.key, r.Key, row.name)
			assert.Contains(t, r.Detail, row.says, row.name)
			assert.Contains(t, r.String(), "cannot be judged", row.name)
		}
	}
	r := new(Checker).CheckCertificate(nil)
	assert.Equal(t, Result{Key: "no key", Detail: "there is no certificate"}, r)
	assert.Equal(t, "no key", new(Checker).CheckCertificate(&x509.Certificate{}).Key)
}

func TestACertificateIsJudgedAsItsKeyIs(t *testing.T) {
	var c, byHand Checker
	for _, pub := range []any{freshKey(t, 1024), freshECDSA(t), freshEd25519(t), &rsa.PublicKey{N: freshKey(t, 1024).N, E: 3}} {
		parsed := certificateOf(t, pub)
		byCertificate := c.CheckCertificate(parsed)
		assert.Equal(t, byCertificate, c.Check(pub))
		assert.Equal(t, byCertificate, new(Checker).Check(pub))
		assert.Equal(t, byCertificate, byHand.CheckCertificate(&x509.Certificate{PublicKey: pub}), "put together by hand")
	}
}

func TestAKeyIsNotChangedByTheCheck(t *testing.T) {
	n := new(big.Int).Mul(randomPrime(seeded(13), 512), big.NewInt(3*5*7))
	before := new(big.Int).Set(n)
	new(Checker).Check(keyOf(n))
	assert.Equal(t, before, n)
}
