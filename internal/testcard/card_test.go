package testcard

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
)

// Keys of the tests, made once.
var (
	rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
		k, err := newKey()
		if err != nil {
			panic(err)
		}
		return k
	})
	ecKey = sync.OnceValue(func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		return k
	})
)

var digest = sha256.Sum256([]byte("what the card signs"))

func newCard(t testing.TB, cfg Config) *Card {
	t.Helper()
	c, err := New(cfg)
	require.NoError(t, err)
	return c
}

// withKey is a card with the RSA test key in container 02.
func withKey(t testing.TB, cfg Config) *Card {
	t.Helper()
	c := newCard(t, cfg)
	require.NoError(t, c.Provision(Pair{ID: SigningID(), Label: SigningLabel, Key: rsaKey(), Certificate: []byte("certificate"), AlwaysAuthenticate: cfg.AlwaysAuthenticate}))
	return c
}

func open(t testing.TB, c *Card) card.Session {
	t.Helper()
	s, err := c.Token().Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func login(t testing.TB, c *Card) card.Session {
	t.Helper()
	s := open(t, c)
	require.NoError(t, s.Login(t.Context(), []byte(DefaultPIN)))
	return s
}

func kindOf(t testing.TB, err error) card.Kind {
	t.Helper()
	var e *card.Error
	require.ErrorAs(t, err, &e)
	return e.Kind
}

func trySign(s card.Session) error {
	_, err := s.Sign(context.Background(), SigningID(), digest[:], crypto.SHA256)
	return err
}

func TestNewRefusesWhatNoCardIs(t *testing.T) {
	for name, cfg := range map[string]Config{
		"passcode too short":   {PIN: []byte("123")},
		"passcode too long":    {PIN: []byte("123456789")},
		"empty passcode":       {PIN: []byte{}},
		"too many tries":       {Tries: 16},
		"negative tries":       {Tries: -1},
		"negative containers":  {Containers: -1},
		"too many containers":  {Containers: 65},
		"label without end":    {Label: string(make([]byte, 65))},
		"serial is not UTF-8":  {Serial: "\xff"},
		"label is not a label": {Label: "\xff"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(cfg)
			assert.ErrorContains(t, err, "testcard: ")
			assert.ErrorContains(t, err, "expected")
		})
	}
}

func TestCardSaysThatItIsSimulated(t *testing.T) {
	c := newCard(t, Config{Serial: "0001", PSS: true})
	assert.True(t, c.Token().Simulated())
	info, err := open(t, c).Info(t.Context())
	require.NoError(t, err)
	assert.Equal(t, card.Info{
		Manufacturer: "rxguard", Model: "simulated card", Serial: "0001", Label: "simulated card",
		MinPIN: 4, MaxPIN: 8, PSS: true, Room: 4,
	}, info)

	other, err := open(t, newCard(t, Config{})).Info(t.Context())
	require.NoError(t, err)
	assert.Len(t, other.Serial, 16)
	assert.NotEqual(t, info.ID(), other.ID())
}

func TestObjectsShowPrivateKeysBeforeLoginWithoutTheirPublicKey(t *testing.T) {
	c := withKey(t, Config{AlwaysAuthenticate: true})
	s := open(t, c)
	pub := rsaKey().Public()
	want := []card.Object{
		{Class: card.CertificateObject, ID: SigningID(), Label: SigningLabel, DER: []byte("certificate")},
		{Class: card.PublicKeyObject, ID: SigningID(), Label: SigningLabel, Public: pub},
		{Class: card.PrivateKeyObject, ID: SigningID(), Label: SigningLabel, AlwaysAuthenticate: true},
	}
	got, err := s.Objects(t.Context())
	require.NoError(t, err)
	assert.Equal(t, want, got)
	assert.Equal(t, card.NotLoggedIn, kindOf(t, trySign(s)))

	require.NoError(t, s.Login(t.Context(), []byte(DefaultPIN)))
	got, err = s.Objects(t.Context())
	require.NoError(t, err)
	want[2].Public = pub
	assert.Equal(t, want, got)

	got[0].DER[0], got[0].ID[0] = 'X', 0xff
	again, err := s.Objects(t.Context())
	require.NoError(t, err)
	assert.Equal(t, want, again, "the caller's copy is its own")
}

func TestCardWithoutPublicKeyObjects(t *testing.T) {
	c := withKey(t, Config{NoPublicKeys: true, Containers: 2})
	s := login(t, c)
	_, err := s.Generate(t.Context(), card.KeySpec{ID: []byte{9}, Label: "new"})
	require.NoError(t, err)
	objects, err := s.Objects(t.Context())
	require.NoError(t, err)
	for _, o := range objects {
		assert.NotEqual(t, card.PublicKeyObject, o.Class)
	}
	require.NoError(t, s.Destroy(t.Context(), card.PrivateKeyObject, []byte{9}))
	info, err := s.Info(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 1, info.Room, "nothing unseen keeps the container")
}

func TestGenerateWriteSignDestroy(t *testing.T) {
	c := withKey(t, Config{Containers: 2})
	s, ctx := login(t, c), t.Context()
	id := []byte{0xa0, 1}

	made, err := s.Generate(ctx, card.KeySpec{ID: id, Label: "new"})
	require.NoError(t, err)
	assert.Equal(t, card.PrivateKeyObject, made.Class)
	assert.Equal(t, id, made.ID)
	assert.Equal(t, "new", made.Label)
	pub := made.Public.(*rsa.PublicKey)
	assert.Equal(t, 2048, pub.N.BitLen())

	_, err = s.Generate(ctx, card.KeySpec{ID: []byte{3}, Label: "third"})
	assert.Equal(t, card.Full, kindOf(t, err))
	_, err = s.Generate(ctx, card.KeySpec{ID: id, Label: "again"})
	assert.Equal(t, card.Unsupported, kindOf(t, err), "never over a key that is there")

	require.NoError(t, s.WriteCertificate(ctx, id, "new", []byte("one")))
	require.NoError(t, s.WriteCertificate(ctx, id, "newer", []byte("two")))
	objects, err := s.Objects(ctx)
	require.NoError(t, err)
	require.Len(t, objects, 6)
	assert.Equal(t, card.Object{Class: card.CertificateObject, ID: id, Label: "newer", DER: []byte("two")}, objects[3])

	sig, err := s.Sign(ctx, id, digest[:], crypto.SHA256)
	require.NoError(t, err)
	require.NoError(t, rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig))
	assert.Equal(t, 1, c.Signatures(id))
	assert.Equal(t, 0, c.Signatures(SigningID()))

	for _, class := range []card.Class{card.PrivateKeyObject, card.PublicKeyObject, card.CertificateObject} {
		info, err := s.Info(ctx)
		require.NoError(t, err)
		assert.Equal(t, 0, info.Room, "a container is free when nothing is left in it")
		require.NoError(t, s.Destroy(ctx, class, id))
		assert.Equal(t, card.NotFound, kindOf(t, s.Destroy(ctx, class, id)))
	}
	info, err := s.Info(ctx)
	require.NoError(t, err)
	assert.Equal(t, 1, info.Room)
	_, err = s.Sign(ctx, id, digest[:], crypto.SHA256)
	assert.Equal(t, card.NotFound, kindOf(t, err))
	assert.Equal(t, card.NotFound, kindOf(t, s.WriteCertificate(ctx, id, "", []byte("x"))), "no key to write it beside")
}

func TestGenerateKeySizes(t *testing.T) {
	s := login(t, newCard(t, Config{}))
	for _, bits := range []int{1, 1024, 2047, 4097, 1 << 20} {
		_, err := s.Generate(t.Context(), card.KeySpec{ID: []byte{1}, Bits: bits})
		assert.Equal(t, card.Unsupported, kindOf(t, err), "%d", bits)
	}
	o, err := s.Generate(t.Context(), card.KeySpec{ID: []byte{1}, Bits: 3072})
	require.NoError(t, err)
	assert.Equal(t, 3072, o.Public.(*rsa.PublicKey).N.BitLen())
}

func TestWhatACardCannotDo(t *testing.T) {
	generate := func(s card.Session) error {
		_, err := s.Generate(context.Background(), card.KeySpec{ID: []byte{9}, Label: "new"})
		return err
	}
	write := func(s card.Session) error {
		return s.WriteCertificate(context.Background(), SigningID(), "new", []byte("der"))
	}
	destroy := func(s card.Session) error {
		return s.Destroy(context.Background(), card.PrivateKeyObject, SigningID())
	}
	for _, x := range []struct {
		name string
		cfg  Config
		try  func(card.Session) error
		want card.Kind
	}{
		{"generate on a read-only card", Config{ReadOnly: true}, generate, card.ReadOnly},
		{"write on a read-only card", Config{ReadOnly: true}, write, card.ReadOnly},
		{"destroy on a read-only card", Config{ReadOnly: true}, destroy, card.ReadOnly},
		{"generate on a card that makes no keys", Config{NoGenerate: true}, generate, card.Unsupported},
		{"destroy on a card that removes nothing", Config{NoDestroy: true}, destroy, card.Unsupported},
		{"generate on a full card", Config{Containers: 1}, generate, card.Full},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := withKey(t, x.cfg)
			s := login(t, c)
			before, err := s.Objects(t.Context())
			require.NoError(t, err)
			assert.Equal(t, x.want, kindOf(t, x.try(s)))
			after, err := s.Objects(t.Context())
			require.NoError(t, err)
			assert.Equal(t, before, after, "nothing was touched")
			require.NoError(t, trySign(s), "it still signs")
		})
	}
	t.Run("changes want a login", func(t *testing.T) {
		s := open(t, withKey(t, Config{}))
		for _, try := range []func(card.Session) error{generate, write, destroy} {
			assert.Equal(t, card.NotLoggedIn, kindOf(t, try(s)))
		}
	})
	t.Run("malformed requests", func(t *testing.T) {
		s, ctx := login(t, withKey(t, Config{})), t.Context()
		for _, spec := range []card.KeySpec{{}, {ID: make([]byte, 65)}, {ID: []byte{9}, Label: "\xff"}, {ID: []byte{9}, Label: string(make([]byte, 65))}} {
			_, err := s.Generate(ctx, spec)
			assert.Equal(t, card.Unsupported, kindOf(t, err))
		}
		assert.Equal(t, card.Unsupported, kindOf(t, s.WriteCertificate(ctx, SigningID(), "x", nil)))
		assert.Equal(t, card.Full, kindOf(t, s.WriteCertificate(ctx, SigningID(), "x", make([]byte, 20_000))))
		assert.Equal(t, card.NotFound, kindOf(t, s.Destroy(ctx, card.Class(77), SigningID())))
	})
}

func TestProvision(t *testing.T) {
	c := newCard(t, Config{Containers: 2})
	require.NoError(t, c.Provision(Pair{ID: []byte{1}, Certificate: []byte("without key")}))
	require.NoError(t, c.Provision(Pair{ID: []byte{2}, Key: ecKey()}))
	assert.True(t, card.IsKind(c.Provision(Pair{ID: []byte{3}, Key: ecKey()}), card.Full))

	c = newCard(t, Config{})
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	for name, p := range map[string]Pair{
		"nothing to store":      {ID: []byte{1}},
		"no CKA_ID":             {Key: ecKey()},
		"EC key on P-384":       {ID: []byte{1}, Key: p384},
		"not a public key":      {ID: []byte{1}, Key: ecKey(), Public: 7},
		"key of another kind":   {ID: []byte{1}, Key: opaque{ecKey()}},
		"certificate too long":  {ID: []byte{1}, Certificate: make([]byte, 20_000)},
		"label is not a string": {ID: []byte{1}, Key: ecKey(), Label: "\xff"},
	} {
		assert.Error(t, c.Provision(p), name)
	}
	require.NoError(t, c.Provision(Pair{ID: []byte{1}, Key: ecKey()}))
	assert.Error(t, c.Provision(Pair{ID: []byte{1}, Key: ecKey()}), "CKA_ID is taken")
}

type opaque struct{ crypto.Signer }

func TestProvisionPrescriber(t *testing.T) {
	ca := testCA(t, CAConfig{})
	c := newCard(t, Config{AlwaysAuthenticate: true})
	auth, signing, err := c.ProvisionPrescriber(ca, Prescriber{UID: "123456789012", SigningKey: rsaKey()})
	require.NoError(t, err)
	const name = "CN=123456789012_Simulated_Prescriber,OU=rxguard simulation - not for patients,O=rxguard simulation"
	assert.Equal(t, name, auth.Subject.String())
	assert.Equal(t, auth.RawSubject, signing.RawSubject)
	assert.NotEqual(t, auth.PublicKey, signing.PublicKey, "each has a key of its own")

	objects, err := open(t, c).Objects(t.Context())
	require.NoError(t, err)
	require.Len(t, objects, 6)
	for i, cert := range []*x509.Certificate{auth, signing} {
		assert.Equal(t, cert.Raw, objects[3*i].DER)
		assert.Equal(t, cert.PublicKey, objects[3*i+1].Public)
		assert.Equal(t, i == 1, objects[3*i+2].AlwaysAuthenticate, "only the signing key")
	}

	random := newCard(t, Config{})
	_, signing, err = random.ProvisionPrescriber(ca, Prescriber{AuthenticationKey: ecKey(), SigningKey: ecKey()})
	require.NoError(t, err)
	assert.Regexp(t, `^[0-9]{12}_Simulated_Prescriber$`, signing.Subject.CommonName)

	_, _, err = newCard(t, Config{}).ProvisionPrescriber(ca, Prescriber{UID: "12"})
	assert.ErrorContains(t, err, "expected 12 digits")
	_, _, err = newCard(t, Config{Containers: 1}).ProvisionPrescriber(ca, Prescriber{AuthenticationKey: ecKey(), SigningKey: ecKey()})
	assert.True(t, card.IsKind(err, card.Full))
}
