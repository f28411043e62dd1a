package guard

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/guard/weakkey"
	"github.com/rxguard/rxguard/internal/need"
)

// published is the RSA key of a file of the test data: a certificate, a request, a
// public key, or a modulus in hexadecimal.
func published(t testing.TB, elem ...string) *rsa.PublicKey {
	t.Helper()
	b := need.Read(t, elem...)
	block, _ := pem.Decode(b)
	if block == nil {
		n, ok := new(big.Int).SetString(strings.TrimPrefix(strings.TrimSpace(string(b)), "0x"), 16)
		require.True(t, ok, "a modulus in hexadecimal")
		return &rsa.PublicKey{N: n, E: 65537}
	}
	var pub any
	var err error
	switch block.Type {
	case "CERTIFICATE":
		c, parseErr := x509.ParseCertificate(block.Bytes)
		require.NoError(t, parseErr)
		pub = c.PublicKey
	case "CERTIFICATE REQUEST":
		c, parseErr := x509.ParseCertificateRequest(block.Bytes)
		require.NoError(t, parseErr)
		pub = c.PublicKey
	default:
		pub, err = x509.ParsePKIXPublicKey(block.Bytes)
		require.NoError(t, err)
	}
	require.IsType(t, &rsa.PublicKey{}, pub)
	return pub.(*rsa.PublicKey)
}

func TestPublishedWeakKeysAreRefusedWithTheirSource(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	g := newGuard(t, Config{Issuers: certs(ca)})
	for _, tt := range []struct {
		weakness weakkey.Weakness
		source   string
		files    []string
	}{
		{weakkey.ROCA, "CVE-2017-15361", []string{
			"roca/cert04.pem", "roca/cert05.pem", "roca/csr05.pem", "roca/mod01.txt", "roca/mod02.txt", "roca/mod08.txt", "roca/pubkey03.pem",
		}},
		{weakkey.ClosePrimes, "FIPS 186-5 A.1.3", []string{
			"badkeys/rsa-fermat-hexmodulus.txt", "badkeys/rsa-fermat.crt", "badkeys/rsa-fermat.csr",
		}},
	} {
		for _, file := range tt.files {
			t.Run(file, func(t *testing.T) {
				c := ca.issue(t, at("2026-02-10T12:00:00Z"), withKey(published(t, strings.Split(file, "/")...)))
				for range 2 { // the second answer comes from what is known
					v, err := g.CheckAt(t.Context(), fakeCard{s: Snapshot{Certificate: c}}, judgedThen)
					var refused *Refused
					require.ErrorAs(t, err, &refused)
					f := findingOf(t, v, WeakKey)
					assert.Equal(t, DecisionRefused, f.Effect)
					assert.Contains(t, f.Is, ": weak ("+tt.weakness.String())
					assert.Contains(t, f.Wanted, "a key without this weakness: ")
					assert.Contains(t, f.Wanted, tt.source)
					assert.False(t, refused.RenewalHelps(), "no notice says so")
				}
			})
		}
	}
	for _, file := range []string{"roca/cert01.pem", "roca/cert06.pem", "roca/mod04.txt", "roca/mod05.txt", "roca/pubkey01.pem"} {
		t.Run(file, func(t *testing.T) {
			c := ca.issue(t, at("2026-02-10T12:00:00Z"), withKey(published(t, strings.Split(file, "/")...)))
			v := g.Judge(Snapshot{Certificate: c}, judgedThen)
			assert.Empty(t, slices.DeleteFunc(v.Findings, func(f Finding) bool { return f.Reason == KeySmall }))
		})
	}
}

func TestKeysByTheirKind(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	curve := func(c elliptic.Curve) any {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		require.NoError(t, err)
		return key.Public()
	}
	odd := new(big.Int).Set(rsaKeyOf(t, 2048).N)
	with := func(e int) any { return &rsa.PublicKey{N: odd, E: e} }
	for _, tt := range []struct {
		name   string
		key    any
		want   []Reason
		is     string
		source string
	}{
		{"RSA, 2048 bits", with(65537), []Reason{}, "", ""},
		{"ECDSA, P-256", curve(elliptic.P256()), []Reason{}, "", ""},
		{"ECDSA, P-384", curve(elliptic.P384()), []Reason{}, "", ""},
		{"ECDSA, P-521", curve(elliptic.P521()), []Reason{}, "", ""},
		{"ECDSA, P-224", curve(elliptic.P224()), []Reason{KeyNotJudged}, "cannot be judged", ""},
		{"Ed25519", ed25519Key(t), []Reason{KeyNotJudged}, "Ed25519: cannot be judged: only RSA and ECDSA keys are judged", ""},
		{"a small factor", divisibleBy3(), []Reason{WeakKey}, "weak (small_factor)", "NIST SP 800-89 5.3.3"},
		{"exponent 3", with(3), []Reason{WeakKey}, "weak (exponent)", "FIPS 186-5 A.1.1"},
		{"exponent 65536", with(65536), []Reason{WeakKey}, "weak (exponent)", "FIPS 186-5 A.1.1"},
		{"exponent 1", with(1), []Reason{WeakKey}, "weak (exponent)", "FIPS 186-5 A.1.1"},
		{"16392 bits", &rsa.PublicKey{N: new(big.Int).SetBit(new(big.Int).Lsh(big.NewInt(1), 16391), 0, 1), E: 65537}, []Reason{KeyNotJudged}, "cannot be judged", ""},
		{"829 bits", rsaKeyOf(t, 829), []Reason{WeakKey, KeyTooSmall}, "weak (modulus)", "RSA-250"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newGuard(t, Config{}).Judge(Snapshot{Certificate: ca.issue(t, at("2026-02-10T12:00:00Z"), withKey(tt.key))}, judgedThen)
			require.Equal(t, tt.want, reasonsOf(v))
			if len(tt.want) == 0 {
				return
			}
			f := v.Findings[0]
			assert.Equal(t, descriptions[tt.want[0]].effect, v.Decision)
			assert.Contains(t, f.Is, tt.is)
			assert.Contains(t, f.Wanted, tt.source)
			assert.Equal(t, CheckStrength, f.Check)
		})
	}
	// Under another object identifier the Ed25519 key is one of another algorithm.
	for name, last := range map[string]byte{"X25519": 0x6e, "an algorithm that nobody knows": 0x7f} {
		t.Run(name, func(t *testing.T) {
			der := ca.issueDER(t, at("2026-02-10T12:00:00Z"), withKey(ed25519Key(t)))
			i := strings.Index(string(der), "\x06\x03\x2b\x65\x70")
			require.Positive(t, i)
			der[i+4] = last
			c, err := ParseCertificate(der)
			require.NoError(t, err)
			v := newGuard(t, Config{}).Judge(Snapshot{Certificate: c}, judgedThen)
			assert.Equal(t, []Reason{KeyNotJudged}, reasonsOf(v))
			assert.Equal(t, DecisionUndecided, v.Decision)
		})
	}
}

func TestABlockListOfTheCallers(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	rsaCard := ca.issue(t, at("2026-02-10T12:00:00Z"))
	edCard := ca.issue(t, at("2026-02-10T12:00:00Z"), withKey(ed25519Key(t)))
	var blocked [][32]byte
	for _, c := range []*Certificate{rsaCard, edCard} {
		blocked = append(blocked, sha256.Sum256(c.x.RawSubjectPublicKeyInfo))
	}
	g := newGuard(t, Config{Keys: weakkey.New(weakkey.Config{BlockedSPKI: weakkey.NewHashes(blocked...)})})
	assert.Equal(t, []Reason{WeakKey}, reasonsOf(g.Judge(Snapshot{Certificate: rsaCard}, judgedThen)))
	v := g.Judge(Snapshot{Certificate: edCard}, judgedThen)
	assert.Equal(t, []Reason{WeakKey, KeyNotJudged}, reasonsOf(v), "what is known speaks, and so does what is not")
	assert.Equal(t, DecisionRefused, v.Decision)
}

// What an advisory says of weak keys is decided by the same look at the key, and
// stands whatever the policy makes of that.
func TestAnAdvisoryOverWeakKeys(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	weak := func(names ...string) func(*advisory.Advisory) {
		return func(a *advisory.Advisory) {
			a.Match[0].NotBefore, a.Match[0].WeakKey, a.Basis = nil, names, advisory.IssuanceLog
		}
	}
	card := func(key any) Snapshot {
		return Snapshot{Certificate: ca.issue(t, at("2026-02-10T12:00:00Z"), withKey(key))}
	}
	small, good, unknown := card(divisibleBy3()), card(rsaKeyOf(t, 2048)), card(ed25519Key(t))
	for _, tt := range []struct {
		name string
		a    func(*advisory.Advisory)
		p    Policy
		seen Snapshot
		want []Reason
	}{
		{"of the weakness", weak("small_factor"), Policy{}, small, []Reason{Affected, WeakKey}},
		{"of one of the weaknesses", weak("roca", "small_factor"), Policy{}, small, []Reason{Affected, WeakKey}},
		{"of another weakness", weak("roca"), Policy{}, small, []Reason{WeakKey}},
		{"a good key", weak("roca", "small_factor"), Policy{}, good, []Reason{}},
		{"a key that cannot be judged", weak("roca"), Policy{}, unknown, []Reason{AffectedUndecidable, KeyNotJudged}},
		{"the check is off", weak("small_factor"), Policy{WeakKey: UnsafeOff}, small, []Reason{Affected}},
		{"the check is off, and the key cannot be judged", weak("roca"), Policy{WeakKey: UnsafeOff}, unknown, []Reason{AffectedUndecidable}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(ca, tt.a)), Issuers: certs(ca), Policy: tt.p})
			v := g.Judge(tt.seen, judgedThen)
			assert.Equal(t, tt.want, reasonsOf(v))
			assert.Equal(t, len(tt.want) == 0, v.Decision.Permits())
			if v.Has(AffectedUndecidable) {
				assert.Contains(t, findingOf(t, v, AffectedUndecidable).Is, "; not known: whether the key is weak")
			}
		})
	}
	t.Run("roca", func(t *testing.T) {
		g := newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(ca, weak("roca"))), Issuers: certs(ca)})
		assert.True(t, g.Judge(card(published(t, "roca", "cert04.pem")), judgedThen).Has(Affected))
		assert.False(t, g.Judge(card(published(t, "roca", "cert01.pem")), judgedThen).Has(Affected))
	})
}
