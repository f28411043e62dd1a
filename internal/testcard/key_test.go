package testcard

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha512"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"crypto/x509"
	"encoding/pem"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/need"
)

func TestSignatures(t *testing.T) {
	openssl := need.Tool(t, "openssl", "openssl")
	c := newCard(t, Config{PSS: true})
	require.NoError(t, c.Provision(Pair{ID: []byte{1}, Key: rsaKey()}))
	require.NoError(t, c.Provision(Pair{ID: []byte{2}, Key: ecKey()}))
	s := login(t, c)

	message := []byte("what the card signs")
	d1, d512 := sha1.Sum(message), sha512.Sum512(message)
	for _, x := range []struct {
		name   string
		id     byte
		digest []byte
		opts   crypto.SignerOpts
		flags  []string
	}{
		{"RSA PKCS #1 v1.5 with SHA-256", 1, digest[:], crypto.SHA256, []string{"-sha256"}},
		{"RSA PKCS #1 v1.5 with SHA-1", 1, d1[:], crypto.SHA1, []string{"-sha1"}},
		{"RSA PKCS #1 v1.5 with SHA-512", 1, d512[:], crypto.SHA512, []string{"-sha512"}},
		{"RSASSA-PSS, salt as long as the hash", 1, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256},
			[]string{"-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"}},
		{"ECDSA in DER", 2, digest[:], crypto.SHA256, []string{"-sha256"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			sig, err := s.Sign(t.Context(), []byte{x.id}, x.digest, x.opts)
			require.NoError(t, err)
			var pub crypto.PublicKey = rsaKey().Public()
			if x.id == 2 {
				pub = ecKey().Public()
				assert.True(t, ecdsa.VerifyASN1(&ecKey().PublicKey, x.digest, sig))
			}
			dir := t.TempDir()
			spki, err := x509.MarshalPKIXPublicKey(pub)
			require.NoError(t, err)
			write(t, dir, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
			write(t, dir, "sig", sig)
			write(t, dir, "message", message)
			run(t, dir, openssl, append(append([]string{"dgst", "-verify", "key.pem", "-signature", "sig"}, x.flags...), "message")...)
		})
	}
}

func TestSignRefusesWhatTheCardCannot(t *testing.T) {
	c := newCard(t, Config{})
	require.NoError(t, c.Provision(Pair{ID: []byte{1}, Key: rsaKey()}))
	require.NoError(t, c.Provision(Pair{ID: []byte{2}, Key: ecKey(), AlwaysAuthenticate: true}))
	s := login(t, c)
	pss := &rsa.PSSOptions{Hash: crypto.SHA256}
	for _, x := range []struct {
		name   string
		id     byte
		digest []byte
		opts   crypto.SignerOpts
	}{
		{"PSS on a card without", 1, digest[:], pss},
		{"PSS with an EC key", 2, digest[:], pss},
		{"a nil PSSOptions, which names no hash", 1, digest[:], (*rsa.PSSOptions)(nil)},
		{"no options", 1, digest[:], nil},
		{"no hash", 1, digest[:], crypto.Hash(0)},
		{"an old hash", 1, make([]byte, 16), crypto.MD5},
		{"a short digest", 1, digest[:20], crypto.SHA256},
		{"a long digest with an EC key", 2, make([]byte, 64), crypto.SHA256},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, err := s.Sign(t.Context(), []byte{x.id}, x.digest, x.opts)
			assert.Equal(t, card.Unsupported, kindOf(t, err))
		})
	}
	assert.Zero(t, c.Signatures([]byte{1})+c.Signatures([]byte{2}))
	_, err := s.Sign(t.Context(), []byte{2}, digest[:], crypto.SHA256)
	assert.NoError(t, err, "what was refused spent no login")
}

func TestAlwaysAuthenticate(t *testing.T) {
	c := withKey(t, Config{AlwaysAuthenticate: true})
	require.NoError(t, c.Provision(Pair{ID: AuthenticationID(), Key: ecKey()}))
	s := login(t, c)
	require.NoError(t, trySign(s))
	assert.Equal(t, card.NotLoggedIn, kindOf(t, trySign(s)), "a second signature on one login")
	_, err := s.Sign(t.Context(), AuthenticationID(), digest[:], crypto.SHA256)
	assert.NoError(t, err, "the other key is content with the login")
	require.NoError(t, s.Login(t.Context(), []byte(DefaultPIN)))
	_, err = s.Sign(t.Context(), AuthenticationID(), digest[:], crypto.SHA256)
	require.NoError(t, err)
	assert.Equal(t, card.NotLoggedIn, kindOf(t, trySign(s)), "a signature with another key came between")
	require.NoError(t, s.Login(t.Context(), []byte(DefaultPIN)))
	require.NoError(t, trySign(s))
	assert.Equal(t, 2, c.Signatures(SigningID()))

	require.NoError(t, s.Login(t.Context(), []byte(DefaultPIN)))
	made, err := s.Generate(t.Context(), card.KeySpec{ID: []byte{3}, Label: "new"})
	require.NoError(t, err)
	assert.True(t, made.AlwaysAuthenticate)
}

func write(t testing.TB, dir, name string, b []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
}

// run runs a program in dir and returns what it printed.
func run(t testing.TB, dir, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %v: %s", program, args, out)
	return string(out)
}

func readBytes(t testing.TB, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return b
}

func TestCachedKeysAreTheSameForEachSourceAndOtherWithEachCall(t *testing.T) {
	a, b := CachedKeys(), CachedKeys()
	var keys [2]*rsa.PrivateKey
	for i := range keys {
		k, err := a(2048)
		require.NoError(t, err)
		again, err := b(2048)
		require.NoError(t, err)
		assert.Same(t, k, again)
		keys[i] = k
	}
	assert.False(t, keys[0].Equal(keys[1]))

	c := newCard(t, Config{})
	c.MakeKeys(CachedKeys())
	s := login(t, c)
	o, err := s.Generate(t.Context(), card.KeySpec{ID: []byte{7}, Bits: 2048})
	require.NoError(t, err)
	assert.True(t, keys[0].PublicKey.Equal(o.Public))
	c.MakeKeys(nil)
	o, err = s.Generate(t.Context(), card.KeySpec{ID: []byte{8}, Bits: 2048})
	require.NoError(t, err)
	assert.False(t, keys[1].PublicKey.Equal(o.Public))
}
