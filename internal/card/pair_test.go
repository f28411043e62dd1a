package card_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

var (
	keyA = sync.OnceValue(rsaKey)
	keyB = sync.OnceValue(rsaKey)
	keyC = sync.OnceValue(rsaKey)
	keyE = sync.OnceValue(func() crypto.Signer {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		return k
	})
	theCA = sync.OnceValues(func() (*testcard.CA, error) { return testcard.NewCA(testcard.CAConfig{CachedKeys: true}) })
)

func rsaKey() crypto.Signer {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

func issue(t *testing.T, p testcard.Profile, k crypto.Signer, serial int64) []byte {
	t.Helper()
	ca, err := theCA()
	require.NoError(t, err)
	c, err := ca.Issue(p, k.Public(), testcard.IssueOptions{Subject: testcard.Subject("123456789012"), Serial: big.NewInt(serial)})
	require.NoError(t, err)
	return c.Raw
}

// both is a self-made certificate of digitalSignature, contentCommitment and
// clientAuth: one for everything.
func both(t *testing.T, k crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(77),
		KeyUsage:    x509.KeyUsageContentCommitment | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, &x509.Certificate{}, k.Public(), k)
	require.NoError(t, err)
	return der
}

func cert(id byte, label string, der []byte) card.Object {
	return card.Object{Class: card.CertificateObject, ID: []byte{id}, Label: label, DER: der}
}

func private(id byte, pub crypto.PublicKey) card.Object {
	return card.Object{Class: card.PrivateKeyObject, ID: []byte{id}, Public: pub}
}

func public(id byte, pub crypto.PublicKey) card.Object {
	return card.Object{Class: card.PublicKeyObject, ID: []byte{id}, Public: pub}
}

func TestSigningPair(t *testing.T) {
	const signing, auth, server = testcard.Signing, testcard.Authentication, testcard.TLSServer
	signA, signB, authB := cert(2, "sign", issue(t, signing, keyA(), 0xa1)), cert(3, "sign too", issue(t, signing, keyB(), 0xb1)), cert(1, "log in", issue(t, auth, keyB(), 0xb2))
	always := private(2, nil)
	always.AlwaysAuthenticate = true
	for _, c := range []struct {
		name    string
		objects []card.Object
		serial  string // of the certificate that is chosen
		always  bool
		kind    card.Kind
		is      error
		says    []string
	}{
		{name: "a card as it should be", objects: []card.Object{authB, private(1, nil), signA, public(2, keyA().Public()), private(2, nil)}, serial: "a1"},
		{name: "whatever the order", objects: []card.Object{private(2, nil), private(1, nil), signA, authB}, serial: "a1"},
		{name: "private keys hidden before the login", objects: []card.Object{authB, signA, public(2, keyA().Public())}, serial: "a1"},
		{name: "private key that shows itself", objects: []card.Object{signA, private(2, keyA().Public())}, serial: "a1"},
		{name: "always-authenticate key", objects: []card.Object{signA, always}, serial: "a1", always: true},
		{name: "an old certificate without its key beside it", objects: []card.Object{signB, signA, private(2, nil)}, serial: "a1"},
		{name: "EC key", objects: []card.Object{cert(2, "ec", issue(t, signing, keyE(), 0xec)), private(2, keyE().Public())}, serial: "ec"},
		{name: "two private keys of one CKA_ID, one of them the certificate's", objects: []card.Object{signA, private(2, keyB().Public()), private(2, keyA().Public())}, serial: "a1"},
		{name: "a damaged certificate beside a good one", objects: []card.Object{cert(4, "bad", []byte("x")), signA, private(2, nil)}, serial: "a1"},
		{name: "no signing certificate but one that the guard can explain", objects: []card.Object{authB, private(1, nil), cert(2, "server", issue(t, server, keyA(), 0xa3)), private(2, nil)}, serial: "a3"},

		{name: "empty card", kind: card.NoCertificate, is: guard.ErrNoSigningCertificate},
		{name: "key alone", objects: []card.Object{private(2, nil), public(2, keyA().Public())}, kind: card.NoCertificate, is: guard.ErrNoSigningCertificate},
		{name: "certificate whose key is not there", objects: []card.Object{signA, private(9, nil)}, kind: card.NoCertificate, is: guard.ErrNoSigningCertificate},
		{name: "authentication alone", objects: []card.Object{authB, private(1, nil)}, kind: card.NoCertificate, is: guard.ErrNoSigningCertificate,
			says: []string{`found for authentication: "log in"`, "serial b2", "CKA_ID 01"}},
		{name: "one certificate for everything", objects: []card.Object{cert(2, "all", both(t, keyA())), private(2, nil)}, kind: card.NoCertificate, is: guard.ErrNoSigningCertificate},
		{name: "two candidates", objects: []card.Object{signA, private(2, nil), signB, private(3, nil)}, kind: card.Ambiguous, is: guard.ErrSeveralCertificates,
			says: []string{`"sign" (issuer`, "serial a1, CKA_ID 02", `"sign too" (issuer`, "serial b1, CKA_ID 03", "rxguard simulation issuing"}},
		{name: "two candidates, keys hidden", objects: []card.Object{signA, signB}, kind: card.Ambiguous, is: guard.ErrSeveralCertificates},
		{name: "two that are neither", objects: []card.Object{cert(2, "s", issue(t, server, keyA(), 1)), cert(3, "t", issue(t, server, keyB(), 2))}, kind: card.Ambiguous, is: guard.ErrSeveralCertificates},
		{name: "the CKA_ID of another key", objects: []card.Object{signA, private(2, keyB().Public())}, kind: card.KeyMismatch,
			says: []string{`certificate "sign", serial a1`, "CKA_ID 02"}},
		{name: "the CKA_ID of another public key object", objects: []card.Object{signA, private(2, nil), public(2, keyB().Public())}, kind: card.KeyMismatch},
		{name: "a key of another kind", objects: []card.Object{signA, private(2, keyE().Public())}, kind: card.KeyMismatch},
		{name: "not a certificate", objects: []card.Object{cert(2, "photo", []byte("JFIF")), private(2, nil)}, kind: card.BadObject, is: guard.ErrCertificateDamaged,
			says: []string{`certificate "photo" (CKA_ID 02)`}},
		{name: "empty certificate", objects: []card.Object{cert(2, "", nil), private(2, nil)}, kind: card.BadObject, is: guard.ErrCertificateDamaged},
		{name: "a damaged certificate beside another that cannot sign", objects: []card.Object{cert(4, "bad", []byte("x")), cert(2, "server", issue(t, server, keyA(), 1)), private(2, nil)},
			kind: card.BadObject, is: guard.ErrCertificateDamaged},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := slices.Clone(c.objects)
			p, err := card.SigningPair(c.objects)
			assert.Equal(t, before, c.objects, "the list is the caller's")
			if c.serial != "" {
				require.NoError(t, err)
				assert.Equal(t, c.serial, p.Certificate.Info().Serial)
				assert.Equal(t, c.always, p.AlwaysAuthenticate)
				return
			}
			assert.True(t, card.IsKind(err, c.kind), "%v", err)
			assert.Nil(t, p.Certificate)
			if c.is != nil {
				assert.ErrorIs(t, err, c.is)
			}
			for _, says := range c.says {
				assert.ErrorContains(t, err, says)
			}
		})
	}
}

func TestAuthenticationPair(t *testing.T) {
	const signing, auth = testcard.Signing, testcard.Authentication
	authB, authC := cert(1, "log in", issue(t, auth, keyB(), 0xb2)), cert(5, "log in too", issue(t, auth, keyC(), 0xc2))
	signA := cert(2, "sign", issue(t, signing, keyA(), 0xa1))
	for _, c := range []struct {
		name    string
		objects []card.Object
		serial  string
		kind    card.Kind
		says    string
	}{
		{name: "a card as it should be", objects: []card.Object{signA, authB, private(1, nil), private(2, nil)}, serial: "b2"},
		{name: "private keys hidden", objects: []card.Object{signA, authB}, serial: "b2"},
		{name: "one without its key beside it", objects: []card.Object{authB, private(1, nil), authC}, serial: "b2"},
		{name: "a mismatch is not a candidate", objects: []card.Object{authB, private(1, nil), authC, private(5, keyA().Public())}, serial: "b2"},
		{name: "several", objects: []card.Object{authB, private(1, nil), authC, private(5, nil)}, kind: card.Ambiguous, says: `"log in too"`},
		{name: "signing alone", objects: []card.Object{signA, private(2, nil)}, kind: card.NoCertificate, says: "with a key of its own"},
		{name: "the signing key must not do TLS", objects: []card.Object{signA, private(2, nil), cert(6, "same key", issue(t, auth, keyA(), 3)), private(6, nil)},
			kind: card.NoCertificate, says: "with a key of its own"},
		{name: "the signing pair is broken", objects: []card.Object{authB, private(1, nil), signA, private(2, keyC().Public())}, kind: card.KeyMismatch},
		{name: "empty card", kind: card.NoCertificate},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := card.AuthenticationPair(c.objects)
			if c.serial != "" {
				require.NoError(t, err)
				assert.Equal(t, c.serial, p.Certificate.Info().Serial)
				return
			}
			assert.True(t, card.IsKind(err, c.kind), "%v", err)
			assert.ErrorContains(t, err, c.says)
		})
	}
}

func TestSameKey(t *testing.T) {
	assert.True(t, card.SameKey(keyA().Public(), keyA().Public()))
	assert.False(t, card.SameKey(keyA().Public(), keyB().Public()))
	assert.False(t, card.SameKey(keyA().Public(), keyE().Public()))
	assert.False(t, card.SameKey(nil, keyA().Public()))
	assert.False(t, card.SameKey("key", "key"))
}
