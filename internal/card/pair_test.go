package card_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

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
		name     string
		objects  []card.Object
		loggedIn bool
		serial   string // of the certificate that is chosen
		always   bool
		kind     card.Kind
		is       error
		says     []string
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

		{name: "a key that hides beside one that does not", objects: []card.Object{authB, private(1, nil), signA}, serial: "a1"},
		{name: "a certificate that is listed twice", objects: []card.Object{signA, signA, private(2, nil)}, serial: "a1"},
		{name: "a broken pair beside a good one", objects: []card.Object{signA, private(2, keyB().Public()), signB, private(3, nil)}, serial: "b1"},
		{name: "hidden keys, of which one shows that it is another", objects: []card.Object{signA, public(2, keyC().Public()), signB}, serial: "b1"},

		{name: "empty card", kind: card.NoCertificate, is: guard.ErrNoSigningCertificate},
		{name: "key alone", objects: []card.Object{private(2, nil), public(2, keyA().Public())}, kind: card.NoCertificate, is: guard.ErrNoSigningCertificate},
		{name: "certificate whose key is not there", objects: []card.Object{signA, private(9, nil)}, loggedIn: true, kind: card.NoCertificate, is: guard.ErrNoSigningCertificate,
			says: []string{`"sign" (issuer`, "its private key is not on the card"}},
		{name: "certificates whose keys are not there", objects: []card.Object{signA, signB}, loggedIn: true, kind: card.NoCertificate, is: guard.ErrNoSigningCertificate},
		{name: "a certificate without its key, and one for neither", objects: []card.Object{signA, cert(3, "server", issue(t, server, keyB(), 0xa4)), private(3, nil)}, loggedIn: true,
			kind: card.NoCertificate, is: guard.ErrNoSigningCertificate},
		{name: "authentication alone", objects: []card.Object{authB, private(1, nil)}, kind: card.NoCertificate, is: guard.ErrNoSigningCertificate,
			says: []string{`"log in" (issuer`, "serial b2", "CKA_ID 01", "for authentication by its key usage"}},
		{name: "one certificate for everything", objects: []card.Object{cert(2, "all", both(t, keyA())), private(2, nil)}, kind: card.NoCertificate, is: guard.ErrNoSigningCertificate},
		{name: "two candidates", objects: []card.Object{signA, private(2, nil), signB, private(3, nil)}, kind: card.Ambiguous, is: guard.ErrSeveralCertificates,
			says: []string{`"sign" (issuer`, "serial a1, CKA_ID 02", `"sign too" (issuer`, "serial b1, CKA_ID 03", "rxguard simulation issuing", "its private key is on the card"}},
		{name: "two candidates, keys hidden", objects: []card.Object{signA, signB}, kind: card.Ambiguous, is: guard.ErrSeveralCertificates,
			says: []string{"hidden until the passcode is entered"}},
		{name: "one certificate in two containers", objects: []card.Object{signA, private(2, nil), cert(3, "again", signA.DER), private(3, nil)}, kind: card.Ambiguous, is: guard.ErrSeveralCertificates},
		{name: "two that are neither", objects: []card.Object{cert(2, "s", issue(t, server, keyA(), 1)), cert(3, "t", issue(t, server, keyB(), 2))}, kind: card.Ambiguous, is: guard.ErrSeveralCertificates},
		{name: "the CKA_ID of another key", objects: []card.Object{signA, private(2, keyB().Public())}, kind: card.KeyMismatch,
			says: []string{`certificate "sign" (issuer`, "serial a1, CKA_ID 02", "the key with its CKA_ID is not its own"}},
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
			p, err := card.CertificatesOf(c.objects, c.loggedIn).Signing()
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
		{name: "the signing pair is broken", objects: []card.Object{authB, private(1, nil), signA, private(2, keyC().Public())}, serial: "b2"},
		{name: "a key that was the signing key must not do TLS either", objects: []card.Object{signA, private(2, keyC().Public()), cert(6, "same key", issue(t, auth, keyA(), 3)), private(6, nil)},
			kind: card.NoCertificate, says: "with a key of its own"},
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

// What is shown of each certificate: the choice and why, old ones and strays too.
func TestEachCertificateHasItsRole(t *testing.T) {
	const signing, auth, server = testcard.Signing, testcard.Authentication, testcard.TLSServer
	signA, signB := cert(2, "sign", issue(t, signing, keyA(), 0xa1)), cert(3, "old", issue(t, signing, keyB(), 0xb1))
	authB, authC := cert(1, "log in", issue(t, auth, keyB(), 0xb2)), cert(4, "log in", issue(t, auth, keyC(), 0xc2))
	photo, web := cert(8, "photo", []byte("JFIF")), cert(7, "web", issue(t, server, keyC(), 0xc3))
	type row struct {
		role card.Role
		says string
	}
	for _, c := range []struct {
		name     string
		objects  []card.Object
		loggedIn bool
		want     []row // by CKA_ID
	}{
		{"a card as it should be", []card.Object{signA, private(2, nil), authC, private(4, nil)}, true, []row{
			{card.RoleSigning, "for signing by its key usage; its private key is on the card"},
			{card.RoleAuthentication, "for authentication by its key usage; its private key is on the card"}}},
		{"before the login of a card that hides keys", []card.Object{authC, signA}, false, []row{
			{card.RoleSigning, "hidden until the passcode is entered, or not there"}, {card.RoleAuthentication, "hidden"}}},
		{"old and new, keys hidden", []card.Object{signB, signA}, false, []row{{card.RoleCandidate, "hidden"}, {card.RoleCandidate, "hidden"}}},
		{"old and new, logged in", []card.Object{signB, signA, private(2, nil)}, true, []row{{card.RoleSigning, ""}, {card.RoleOld, "its private key is not on the card"}}},
		{"old and new, where keys show without a login", []card.Object{signB, signA, private(2, nil)}, false, []row{{card.RoleSigning, ""}, {card.RoleOld, "another's is on the card"}}},
		{"two whole pairs", []card.Object{signB, private(3, nil), signA, private(2, nil)}, true, []row{{card.RoleCandidate, ""}, {card.RoleCandidate, ""}}},
		{"a key that was made anew under an old certificate", []card.Object{signA, private(2, keyC().Public())}, true, []row{{card.RoleOld, "not its own"}}},
		{"two for logging in, one without its key", []card.Object{authB, authC, private(4, nil)}, true, []row{{card.RoleOld, "not on the card"}, {card.RoleAuthentication, ""}}},
		{"a signing key that logs in", []card.Object{signB, private(3, nil), authB, private(1, nil)}, true, []row{{card.RoleOther, "also that of a signing certificate"}, {card.RoleSigning, ""}}},
		{"something else beside", []card.Object{web, private(7, nil), signA, private(2, nil), photo}, true, []row{
			{card.RoleSigning, ""}, {card.RoleOther, "neither for signing nor for authentication"}, {card.RoleDamaged, "not a certificate"}}},
		{"something else alone", []card.Object{web, private(7, nil)}, true, []row{{card.RoleSigning, "no other could be meant"}}},
		{"nothing", []card.Object{private(1, nil)}, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			cs := card.CertificatesOf(c.objects, c.loggedIn)
			require.Len(t, cs, len(c.want))
			for i, w := range c.want {
				assert.Equal(t, w.role, cs[i].Role, "%s", cs[i].Why)
				assert.Contains(t, cs[i].Why, w.says)
			}
		})
	}
}

func TestRivalsAreThoseWhoseKeysAreHidden(t *testing.T) {
	signA, signB := cert(2, "sign", issue(t, testcard.Signing, keyA(), 0xa1)), cert(3, "old", issue(t, testcard.Signing, keyB(), 0xb1))
	hidden := []card.Object{signB, signA}
	ps := card.CertificatesOf(hidden, false).Rivals()
	require.Len(t, ps, 2)
	assert.Equal(t, []byte{2}, ps[0].ID)
	assert.Empty(t, card.CertificatesOf(hidden, true).Rivals())
	assert.Empty(t, card.CertificatesOf(hidden[:1], false).Rivals())
	assert.Empty(t, card.CertificatesOf(append(hidden, private(2, nil)), false).Rivals())
	assert.Empty(t, card.CertificatesOf(append(hidden, private(2, nil), private(3, nil)), false).Rivals())

	assert.True(t, card.CertificatesOf(append(hidden, private(2, nil), private(3, nil)), false).Settled())
	assert.False(t, card.CertificatesOf(append(hidden, private(2, nil)), false).Settled(), "the other key may be hidden")
	assert.True(t, card.CertificatesOf(append(hidden, private(2, nil)), true).Settled())
}

// Modules list objects in any order, and not always in the same one.
func TestTheOrderOfTheObjectsDecidesNothing(t *testing.T) {
	keys := []crypto.Signer{keyA(), keyB(), keyC()}
	var ders [][]byte
	for i, k := range keys {
		for _, p := range []testcard.Profile{testcard.Signing, testcard.Authentication, testcard.TLSServer} {
			ders = append(ders, issue(t, p, k, int64(0x10*i)+int64(len(ders))+1))
		}
	}
	ders = append(ders, both(t, keyA()), []byte("photo"), []byte("another photo"))
	object := rapid.Custom(func(t *rapid.T) card.Object {
		id := rapid.ByteRange(1, 4).Draw(t, "id")
		var pub crypto.PublicKey
		if i := rapid.IntRange(-1, len(keys)-1).Draw(t, "key"); i >= 0 {
			pub = keys[i].Public()
		}
		switch rapid.SampledFrom([]string{"certificate", "certificate", "private", "public"}).Draw(t, "class") {
		case "certificate":
			return cert(id, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "label"), rapid.SampledFrom(ders).Draw(t, "der"))
		case "private":
			o := private(id, pub)
			o.AlwaysAuthenticate = rapid.Bool().Draw(t, "always")
			return o
		}
		return public(id, pub)
	})
	rapid.Check(t, func(t *rapid.T) {
		objects := rapid.SliceOfN(object, 0, 8).Draw(t, "objects")
		shuffled := rapid.Permutation(objects).Draw(t, "shuffled")
		loggedIn := rapid.Bool().Draw(t, "logged in")
		a, b := card.CertificatesOf(objects, loggedIn), card.CertificatesOf(shuffled, loggedIn)
		require.Equal(t, summary(a), summary(b))
		require.Equal(t, chosen(a.Signing()), chosen(b.Signing()))
		require.Equal(t, chosen(a.Authentication()), chosen(b.Authentication()))
		require.Equal(t, len(a.Rivals()), len(b.Rivals()))
		require.Equal(t, a.Settled(), b.Settled())
		require.True(t, a.Settled() || !loggedIn, "after a login nothing is hidden")

		// Roles and choice say the same.
		p, err := a.Signing()
		n := map[card.Role]int{}
		for _, c := range a {
			n[c.Role]++
			if c.Role == card.RoleSigning {
				require.NoError(t, err)
				require.Equal(t, p, c.Pair)
				require.False(t, loggedIn && !p.KeyShown, "a key that is not there signs nothing")
			}
			require.NotEmpty(t, c.Why)
		}
		require.Equal(t, err == nil, n[card.RoleSigning] == 1)
		require.Equal(t, card.IsKind(err, card.Ambiguous), n[card.RoleCandidate] > 1)
		require.NotEqual(t, 1, n[card.RoleCandidate])
	})
}

func summary(cs card.Certificates) []string {
	var list []string
	for _, c := range cs {
		list = append(list, fmt.Sprintf("%x %s %s %s", c.ID, c.Label, c.Role, c.Why))
	}
	return list
}

func chosen(p card.Pair, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%x %s %s %t %t", p.ID, p.Label, p.Certificate.Info().SHA256, p.KeyShown, p.AlwaysAuthenticate)
}

func TestSameKey(t *testing.T) {
	assert.True(t, card.SameKey(keyA().Public(), keyA().Public()))
	assert.False(t, card.SameKey(keyA().Public(), keyB().Public()))
	assert.False(t, card.SameKey(keyA().Public(), keyE().Public()))
	assert.False(t, card.SameKey(nil, keyA().Public()))
	assert.False(t, card.SameKey("key", "key"))
}
