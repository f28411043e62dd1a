package modules

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// eventually polls until an outside program has noticed.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), what)
	}
}

// prescriber is a card with an authentication and a signing pair.
func prescriber(t testing.TB, cfg testcard.Config) (c *testcard.Card, authentication, signing *x509.Certificate) {
	t.Helper()
	ca, err := testcard.NewCA(testcard.CAConfig{CachedKeys: true})
	require.NoError(t, err)
	c, err = testcard.New(cfg)
	require.NoError(t, err)
	keys := testcard.CachedKeys()
	var pair [2]*rsa.PrivateKey
	for i := range pair {
		pair[i], err = keys(2048)
		require.NoError(t, err)
	}
	authentication, signing, err = c.ProvisionPrescriber(ca, testcard.Prescriber{UID: "123456789012", AuthenticationKey: pair[0], SigningKey: pair[1]})
	require.NoError(t, err)
	c.MakeKeys(keys)
	return c, authentication, signing
}

func pemFile(t testing.TB, c *x509.Certificate) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "certificate.pem")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600))
	return path
}

func TestTheCardInBothModules(t *testing.T) {
	d := PCSCD(t, 1)
	c, _, signing := prescriber(t, testcard.Config{Serial: "20200930"})
	retired := testcard.Pair{ID: []byte{0x06}, Label: "retired", Key: signingKey(t), Certificate: signing.Raw}
	require.NoError(t, c.Provision(retired))
	d.Plug(t, 0, c)
	for name, x := range map[string]struct {
		module string
		token  []string
		always int // keys that are shown as always-authenticate
	}{
		// OpenSC shows a retired key as one where its certificate has nonRepudiation.
		"opensc": {OpenSC(t), []string{"123456789012_Simulated_Prescr...", "piv_II"}, 2},
		"ykcs11": {YKCS11(t), []string{"YubiKey PIV #20200930", "serial num         : 20200930"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			slots := pkcs11Tool(t, x.module, "-L")
			assert.Contains(t, slots, d.Name(0))
			for _, want := range x.token {
				assert.Contains(t, slots, want)
			}
			objects := pkcs11Tool(t, x.module, "-O", "-l", "-p", testcard.DefaultPIN)
			for _, kind := range []string{"Private Key", "Public Key", "Certificate"} {
				for _, id := range []string{"01", "02", "06"} {
					assert.Regexp(t, kind+` Object;[^\n]*\n(?: [^\n]*\n)* +ID: +`+id+"\n", objects)
				}
			}
			assert.Regexp(t, `ID: +02\n +Usage:[^\n]*\n +Access: +always authenticate`, objects)
			assert.Equal(t, x.always, strings.Count(objects, "always authenticate"))

			before := c.Signatures(testcard.SigningID())
			assert.Contains(t, pkcs11Tool(t, x.module, "--test", "-l", "-p", testcard.DefaultPIN), "No errors")
			assert.Greater(t, c.Signatures(testcard.SigningID()), before)
		})
	}
}

// signingKey is the key of the signing pair of each prescriber.
func signingKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	keys := testcard.CachedKeys()
	_, err := keys(2048)
	require.NoError(t, err)
	k, err := keys(2048)
	require.NoError(t, err)
	return k
}

// What pkcs11-tool signs with the key of a certificate verifies with the certificate.
func TestSignaturesOfPKCS11Tool(t *testing.T) {
	d := PCSCD(t, 1)
	c, authentication, _ := prescriber(t, testcard.Config{})
	d.Plug(t, 0, c)
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	require.NoError(t, os.WriteFile(in, []byte("a message"), 0o600))
	digest := sha256.Sum256([]byte("a message"))
	for _, module := range []string{OpenSC(t), YKCS11(t)} {
		pkcs11Tool(t, module, "-s", "-m", "SHA256-RSA-PKCS", "--id", "01", "-i", in, "-o", out, "-l", "-p", testcard.DefaultPIN)
		sig, err := os.ReadFile(out)
		require.NoError(t, err)
		assert.NoError(t, rsa.VerifyPKCS1v15(authentication.PublicKey.(*rsa.PublicKey), crypto.SHA256, digest[:], sig))
	}
	assert.Equal(t, 2, c.Signatures(testcard.AuthenticationID()))
}

func TestTheCounterThatToolsSeeIsTheCards(t *testing.T) {
	d := PCSCD(t, 1)
	c, _, _ := prescriber(t, testcard.Config{})
	d.Plug(t, 0, c)
	status := func() string {
		out, err := tool(t, "yubico-piv-tool", "yubico-piv-tool", "-a", "status")
		require.NoError(t, err, out)
		m := regexp.MustCompile(`PIN tries left:\s*(\d+)`).FindStringSubmatch(out)
		require.Len(t, m, 2, out)
		return m[1]
	}
	verify := func(pin string) (string, error) {
		return tool(t, "yubico-piv-tool", "yubico-piv-tool", "-a", "verify-pin", "-P", pin)
	}
	for left := 3; left > 0; left-- {
		assert.Equal(t, fmt.Sprint(left), status())
		assert.Equal(t, left, c.TriesLeft())
		out, err := verify("999999")
		assert.Error(t, err)
		assert.Regexp(t, fmt.Sprintf("%d tries left|blocked", left-1), out)
	}
	assert.Equal(t, "0", status())
	assert.Zero(t, c.TriesLeft())
	out, err := verify(testcard.DefaultPIN)
	assert.Error(t, err)
	assert.Contains(t, out, "blocked")

	out, err = tool(t, "yubico-piv-tool", "yubico-piv-tool", "-a", "unblock-pin", "-P", testcard.DefaultPUK, "-N", "246824")
	require.NoError(t, err, out)
	assert.Equal(t, 3, c.TriesLeft())
	out, err = tool(t, "yubico-piv-tool", "yubico-piv-tool", "-a", "change-pin", "-P", "246824", "-N", "135713")
	require.NoError(t, err, out)
	out, err = verify("135713")
	require.NoError(t, err, out)
	require.Error(t, onlyLogin(t, c, testcard.DefaultPIN))
	require.NoError(t, onlyLogin(t, c, "135713"), "and so in process")
}

func onlyLogin(t testing.TB, c *testcard.Card, pin string) error {
	t.Helper()
	s, err := c.Token().Open(t.Context())
	require.NoError(t, err)
	defer s.Close()
	return s.Login(t.Context(), []byte(pin))
}

func TestYubicoPIVToolMakesAPair(t *testing.T) {
	d := PCSCD(t, 1)
	ca, err := testcard.NewCA(testcard.CAConfig{CachedKeys: true})
	require.NoError(t, err)
	c, _, _ := prescriber(t, testcard.Config{})
	d.Plug(t, 0, c)
	dir := t.TempDir()
	piv := func(args ...string) string {
		t.Helper()
		out, err := tool(t, "yubico-piv-tool", "yubico-piv-tool", args...)
		require.NoError(t, err, "%v: %s", args, out)
		return out
	}
	// Its selfsign-certificate does not work with OpenSSL 3, so the test CA certifies.
	key := filepath.Join(dir, "key.pem")
	piv("-a", "generate", "-s", "82", "-A", "RSA2048", "-o", key)
	text, err := os.ReadFile(key)
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	require.NotNil(t, block)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(t, err)
	cert, err := ca.Issue(testcard.Authentication, public, testcard.IssueOptions{Subject: testcard.Subject("000000000001")})
	require.NoError(t, err)
	path := pemFile(t, cert)
	piv("-a", "import-certificate", "-s", "82", "-i", path)
	assert.Regexp(t, `Slot 82:\s+Algorithm:\s+RSA2048\s+Subject DN:\s+[^\n]*CN=000000000001_`, piv("-a", "status"))
	piv("-a", "verify-pin", "-P", testcard.DefaultPIN, "-a", "test-signature", "-s", "82", "-i", path)
	assert.Equal(t, 1, c.Signatures(testcard.PIVID(0x82)))

	s, err := c.Token().Open(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Login(t.Context(), []byte(testcard.DefaultPIN)))
	objects, err := s.Objects(t.Context())
	require.NoError(t, err)
	require.Len(t, objects, 9)
	made := objects[6]
	assert.Equal(t, card.CertificateObject, made.Class)
	assert.Equal(t, testcard.PIVID(0x82), made.ID)
	assert.Equal(t, cert.Raw, made.DER)
	assert.True(t, cert.PublicKey.(*rsa.PublicKey).Equal(objects[8].Public), "the in-process face shows the same pair")
	assert.Regexp(t, `ID: +05`, pkcs11Tool(t, OpenSC(t), "-O"), "OpenSC finds the retired slot by the key history")

	piv("-a", "generate", "-s", "9d", "-A", "ECCP256", "-o", key)
	out, err := tool(t, "yubico-piv-tool", "yubico-piv-tool", "-a", "generate", "-s", "83", "-A", "RSA2048")
	assert.Error(t, err, "four containers are taken: %s", out)
	piv("-a", "delete-certificate", "-s", "82")
	objects, err = s.Objects(t.Context())
	require.NoError(t, err)
	assert.Len(t, objects, 10)

	fresh := "0f0e0d0c0b0a09080706050403020100ffeeddccbbaa9988"
	piv("-a", "set-mgm-key", "-n", fresh)
	out, err = tool(t, "yubico-piv-tool", "yubico-piv-tool", "-a", "set-chuid")
	assert.Error(t, err, "the old management key: %s", out)
	piv("-k"+fresh, "-a", "set-chuid")
}

func TestImportOfAKeyByYubicoPIVTool(t *testing.T) {
	d := PCSCD(t, 1)
	c, err := testcard.New(testcard.Config{})
	require.NoError(t, err)
	d.Plug(t, 0, c)
	k := signingKey(t)
	path := filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}), 0o600))
	out, err := tool(t, "yubico-piv-tool", "yubico-piv-tool", "-a", "import-key", "-s", "9a", "-i", path)
	require.NoError(t, err, out)
	s, err := c.Token().Open(t.Context())
	require.NoError(t, err)
	objects, err := s.Objects(t.Context())
	require.NoError(t, err)
	require.Len(t, objects, 2)
	assert.True(t, k.PublicKey.Equal(objects[0].Public))
}

func TestRemovalAndInsertionAreNoticed(t *testing.T) {
	d := PCSCD(t, 1)
	c, _, _ := prescriber(t, testcard.Config{})
	r := d.Plug(t, 0, c)
	shown := func(module string) func() bool {
		return func() bool { return strings.Contains(pkcs11Tool(t, module, "-L"), "token label") }
	}
	for _, module := range []string{OpenSC(t), YKCS11(t)} {
		in := shown(module)
		eventually(t, "the card is shown", in)
		c.Remove()
		eventually(t, "the card is gone", func() bool { return !in() })
		c.Insert()
		require.NoError(t, r.Seen(t.Context()))
		eventually(t, "the card is shown again", in)
	}
}

func TestADaemonRestartedFindsItsCards(t *testing.T) {
	d := PCSCD(t, 3)
	var readers []*testcard.Reader
	for i := range 3 {
		c, err := testcard.New(testcard.Config{Serial: fmt.Sprint(1000 + i)})
		require.NoError(t, err)
		readers = append(readers, d.Plug(t, i, c))
	}
	each := func() {
		t.Helper()
		eventually(t, "three cards", func() bool { return strings.Count(pkcs11Tool(t, YKCS11(t), "-L"), "token label") == 3 })
		list := pkcs11Tool(t, YKCS11(t), "-L")
		for i := range 3 {
			assert.Regexp(t, regexp.QuoteMeta(d.Name(i))+fmt.Sprintf("\n +token label +: YubiKey PIV #%d\n", 1000+i), list)
		}
		assert.Equal(t, 1, strings.Count(list, "(empty)"), "readers come in pairs")
	}
	each()
	require.NoError(t, d.Restart())
	for _, r := range readers {
		require.NoError(t, r.Seen(t.Context()))
	}
	each()
	d.Stop()
	d.Stop()
	assert.Equal(t, "pcscd is stopped", d.Log())
	out, err := tool(t, "opensc", "opensc-tool", "-l")
	assert.Contains(t, out, "No smart card readers", "%v", err)
	require.NoError(t, d.Start())
	require.NoError(t, d.Start(), "running already")
}

func TestThePhasesOfASignatureSeenFromOutside(t *testing.T) {
	d := PCSCD(t, 1)
	c, _, _ := prescriber(t, testcard.Config{})
	r := d.Plug(t, 0, c)
	in := filepath.Join(t.TempDir(), "in")
	require.NoError(t, os.WriteFile(in, []byte("a message"), 0o600))
	sign := func() error {
		out, err := tool(t, "opensc", "pkcs11-tool", "--module", YKCS11(t), "-s", "-m", "SHA256-RSA-PKCS", "--id", "01", "-i", in, "-o", os.DevNull, "-l", "-p", testcard.DefaultPIN)
		t.Log(out)
		return err
	}
	for phase, signed := range map[testcard.Phase]int{testcard.Before: 0, testcard.During: 1, testcard.After: 1} {
		before := c.Signatures(testcard.AuthenticationID())
		c.HookCommands(testcard.OnCommand(testcard.OpSign, phase, 1, func() []byte { c.Remove(); return nil }))
		err := sign()
		assert.Equal(t, phase != testcard.After, err != nil, "pulled %v", phase)
		assert.Equal(t, signed, c.Signatures(testcard.AuthenticationID())-before, "pulled %v", phase)
		c.HookCommands(nil)
		c.Insert()
		require.NoError(t, r.Seen(t.Context()))
		eventually(t, "signs again", func() bool { return sign() == nil })
	}

	// Late: the answer comes when the test lets it.
	reached, release := make(chan struct{}), make(chan struct{})
	c.HookCommands(testcard.OnCommand(testcard.OpSign, testcard.During, 1, func() []byte {
		close(reached)
		<-release
		return nil
	}))
	done := make(chan error, 1)
	go func() { done <- sign() }()
	<-reached
	select {
	case err := <-done:
		t.Errorf("it did not wait: %v", err)
	default:
	}
	close(release)
	assert.NoError(t, <-done)
}
