package advisory

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
)

func sum(s string) [32]byte { return sha256.Sum256([]byte(s)) }

// usual are the facts of an ordinary signing certificate, whose issuer is known.
func usual() Facts {
	return Facts{
		NotBefore:  at("2026-02-01T12:00:00Z"),
		Serial:     [20]byte{19: 0x42},
		SPKISHA256: sum("key"), ModulusSHA256: sum("modulus"), HasModulus: true,
		AKI: []byte{1, 2}, IssuerSPKI: [][32]byte{sum("old CA key"), sum("CA key")}, IssuerKnown: true,
		PolicyOID: []string{"1.2.3", "1.2.4"}, KeyUsage: x509.KeyUsageContentCommitment | x509.KeyUsageDigitalSignature,
		SignatureAlgorithm: "SHA256-RSA", KeyBits: 2048,
		WeakKeys: []string{"fermat"}, WeakKeysJudged: true,
	}
}

func TestEachConditionIsAnsweredYesNoOrUnknown(t *testing.T) {
	serials := mustParse(t, withSerials(t, `{"inline": ["42"]}`)).Match[0].Serials
	window := &Window{From: at("2026-02-01T12:00:00Z"), To: at("2026-02-02T12:00:00Z")}
	byKey := &Issuer{SPKISHA256: [][32]byte{sum("other"), sum("CA key")}, Name: "CA"}
	byAKI := &Issuer{AKI: [][]byte{{9}, {1, 2}}}
	byBoth := &Issuer{SPKISHA256: byKey.SPKISHA256, AKI: byAKI.AKI}
	unknown := func(f *Facts) { f.IssuerKnown, f.IssuerSPKI = false, nil }
	for _, tt := range []struct {
		name   string
		clause Clause
		facts  func(f *Facts)
		want   Truth
		says   string
	}{
		{name: "a second before the window", clause: Clause{NotBefore: window}, facts: func(f *Facts) { f.NotBefore = window.From.Add(-time.Second) }, want: No},
		{name: "at the start of the window", clause: Clause{NotBefore: window}, facts: func(f *Facts) { f.NotBefore = window.From }, want: Yes},
		{name: "a second into the window", clause: Clause{NotBefore: window}, facts: func(f *Facts) { f.NotBefore = window.From.Add(time.Second) }, want: Yes},
		{name: "a second before the end of the window", clause: Clause{NotBefore: window}, facts: func(f *Facts) { f.NotBefore = window.To.Add(-time.Second) }, want: Yes},
		{name: "at the end of the window", clause: Clause{NotBefore: window}, facts: func(f *Facts) { f.NotBefore = window.To }, want: No},
		{name: "a second after the window", clause: Clause{NotBefore: window}, facts: func(f *Facts) { f.NotBefore = window.To.Add(time.Second) }, want: No},
		{name: "in the window, told in another time zone", clause: Clause{NotBefore: window}, facts: func(f *Facts) { f.NotBefore = window.From.In(time.FixedZone("", -7200)) }, want: Yes},
		{name: "long after the start of an open-ended window", clause: Clause{NotBefore: &Window{From: window.From}}, facts: func(f *Facts) { f.NotBefore = at("9999-12-31T23:59:59Z") }, want: Yes},
		{name: "a second before an open-ended window", clause: Clause{NotBefore: &Window{From: window.From}}, facts: func(f *Facts) { f.NotBefore = window.From.Add(-time.Second) }, want: No},
		{name: "issued at an unknown instant", clause: Clause{NotBefore: window}, facts: func(f *Facts) { f.NotBefore = time.Time{} }, want: Unknown, says: "when"},

		{name: "any issuer, known", clause: Clause{Issuer: &Issuer{Any: true}}, want: Yes},
		{name: "any issuer, unknown", clause: Clause{Issuer: &Issuer{Any: true}}, facts: func(f *Facts) { unknown(f); f.AKI = nil }, want: Yes},
		{name: "the issuer's key among those that signed", clause: Clause{Issuer: byKey}, want: Yes},
		{name: "an issuer of the same name with another key", clause: Clause{Issuer: byKey}, facts: func(f *Facts) { f.IssuerSPKI = [][32]byte{sum("CA")} }, want: No},
		{name: "an issuer that is not known, by key", clause: Clause{Issuer: byKey}, facts: unknown, want: Unknown, says: "which authority"},
		{name: "an issuer said to be known, without a key", clause: Clause{Issuer: byKey}, facts: func(f *Facts) { f.IssuerSPKI = nil }, want: Unknown, says: "which authority"},
		{name: "an issuer by key identifier", clause: Clause{Issuer: byAKI}, want: Yes},
		{name: "an issuer by key identifier, not known by signature", clause: Clause{Issuer: byAKI}, facts: unknown, want: Yes},
		{name: "an issuer with another key identifier", clause: Clause{Issuer: byAKI}, facts: func(f *Facts) { f.AKI = []byte{1, 2, 3} }, want: No},
		{name: "no key identifier, issuer known by signature", clause: Clause{Issuer: byAKI}, facts: func(f *Facts) { f.AKI = nil }, want: Unknown, says: "which authority"},
		{name: "no key identifier, issuer not known", clause: Clause{Issuer: byAKI}, facts: func(f *Facts) { unknown(f); f.AKI = nil }, want: Unknown, says: "which authority"},
		{name: "key and key identifier: the key decides yes", clause: Clause{Issuer: byBoth}, facts: func(f *Facts) { f.AKI = []byte{7} }, want: Yes},
		{name: "key and key identifier: the key decides no", clause: Clause{Issuer: byBoth}, facts: func(f *Facts) { f.IssuerSPKI = [][32]byte{sum("x")} }, want: No},
		{name: "key and key identifier, not known by signature: the identifier decides yes", clause: Clause{Issuer: byBoth}, facts: unknown, want: Yes},
		{name: "key and key identifier, not known by signature: the identifier decides no", clause: Clause{Issuer: byBoth}, facts: func(f *Facts) { unknown(f); f.AKI = []byte{7} }, want: No},
		{name: "key and key identifier, nothing known", clause: Clause{Issuer: byBoth}, facts: func(f *Facts) { unknown(f); f.AKI = nil }, want: Unknown, says: "which authority"},

		{name: "a listed serial", clause: Clause{Serials: serials}, want: Yes},
		{name: "a serial that is not listed", clause: Clause{Serials: serials}, facts: func(f *Facts) { f.Serial[19]++ }, want: No},
		{name: "a serial that ends like a listed one", clause: Clause{Serials: serials}, facts: func(f *Facts) { f.Serial[0] = 1 }, want: No},
		{name: "an oversize serial", clause: Clause{Serials: serials}, facts: func(f *Facts) { f.SerialOversize = true }, want: No},

		{name: "a listed key", clause: Clause{SPKISHA256: [][32]byte{sum("x"), sum("key")}}, want: Yes},
		{name: "a key that is not listed", clause: Clause{SPKISHA256: [][32]byte{sum("x")}}, want: No},
		{name: "a listed modulus", clause: Clause{ModulusSHA256: [][32]byte{sum("modulus")}}, want: Yes},
		{name: "a modulus that is not listed", clause: Clause{ModulusSHA256: [][32]byte{sum("x")}}, want: No},
		{name: "no modulus", clause: Clause{ModulusSHA256: [][32]byte{{}}}, facts: func(f *Facts) { f.HasModulus, f.ModulusSHA256 = false, [32]byte{} }, want: No},

		{name: "a weakness it has", clause: Clause{WeakKey: []string{"roca", "fermat"}}, want: Yes},
		{name: "a weakness it has not", clause: Clause{WeakKey: []string{"roca"}}, want: No},
		{name: "a weakness nobody looked for", clause: Clause{WeakKey: []string{"roca"}}, facts: func(f *Facts) { f.WeakKeysJudged = false }, want: Unknown, says: "weak"},

		{name: "a policy among others", clause: Clause{PolicyOID: []string{"1.2.9", "1.2.4"}}, want: Yes},
		{name: "another policy", clause: Clause{PolicyOID: []string{"1.2"}}, want: No},
		{name: "no policy", clause: Clause{PolicyOID: []string{"1.2.4"}}, facts: func(f *Facts) { f.PolicyOID = nil }, want: No},

		{name: "all key usages", clause: Clause{KeyUsage: []string{"digitalSignature", "contentCommitment"}}, want: Yes},
		{name: "one of two key usages", clause: Clause{KeyUsage: []string{"contentCommitment", "cRLSign"}}, want: No},
		{name: "no key usage extension", clause: Clause{KeyUsage: []string{"contentCommitment"}}, facts: func(f *Facts) { f.KeyUsage = 0 }, want: No},
		{name: "a key usage that does not exist", clause: Clause{KeyUsage: []string{"nonsense"}}, facts: func(f *Facts) { f.KeyUsage = 1<<9 - 1 }, want: No},

		{name: "the signature algorithm", clause: Clause{SignatureAlgorithm: []string{"SHA1-RSA", "SHA256-RSA"}}, want: Yes},
		{name: "another signature algorithm", clause: Clause{SignatureAlgorithm: []string{"SHA1-RSA"}}, want: No},
		{name: "an unknown signature algorithm", clause: Clause{SignatureAlgorithm: []string{"SHA1-RSA"}}, facts: func(f *Facts) { f.SignatureAlgorithm = "" }, want: Unknown, says: "algorithm"},

		{name: "at the smallest size", clause: Clause{KeyBits: &KeyBits{Min: 2048}}, want: Yes},
		{name: "a bit below the smallest size", clause: Clause{KeyBits: &KeyBits{Min: 2049}}, want: No},
		{name: "at the largest size", clause: Clause{KeyBits: &KeyBits{Max: 2048}}, want: Yes},
		{name: "a bit above the largest size", clause: Clause{KeyBits: &KeyBits{Max: 2047}}, want: No},
		{name: "between two sizes", clause: Clause{KeyBits: &KeyBits{Min: 1024, Max: 4096}}, want: Yes},
		{name: "an unknown size", clause: Clause{KeyBits: &KeyBits{Min: 1}}, facts: func(f *Facts) { f.KeyBits = 0 }, want: Unknown, says: "how long"},

		{name: "every condition at once", clause: Clause{Issuer: byBoth, NotBefore: window, Serials: serials, SPKISHA256: [][32]byte{sum("key")},
			ModulusSHA256: [][32]byte{sum("modulus")}, WeakKey: []string{"fermat"}, PolicyOID: []string{"1.2.3"}, KeyUsage: []string{"contentCommitment"},
			SignatureAlgorithm: []string{"SHA256-RSA"}, KeyBits: &KeyBits{Min: 2048, Max: 2048}}, want: Yes},
		{name: "one no among yes", clause: Clause{NotBefore: window, KeyBits: &KeyBits{Max: 1024}}, want: No},
		{name: "one unknown among yes", clause: Clause{NotBefore: window, Issuer: byKey}, facts: unknown, want: Unknown, says: "which authority"},
		{name: "a no after an unknown", clause: Clause{Issuer: byKey, Serials: serials}, facts: func(f *Facts) { unknown(f); f.Serial[0] = 1 }, want: No},
		{name: "a no before an unknown", clause: Clause{NotBefore: window, WeakKey: []string{"roca"}}, facts: func(f *Facts) { f.NotBefore = window.To; f.WeakKeysJudged = false }, want: No},
		{name: "no condition", clause: Clause{}, want: No},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := usual()
			if tt.facts != nil {
				tt.facts(&f)
			}
			m := (&Advisory{Match: []Clause{tt.clause}}).Judge(&f)
			assert.Equal(t, tt.want, m.In)
			assert.Equal(t, tt.want == Yes, m.Clause == 0)
			assert.False(t, m.Fixed)
			if tt.want == Unknown {
				assert.Contains(t, m.NotKnown, tt.says)
			} else {
				assert.Empty(t, m.NotKnown)
			}
		})
	}
}

// Every combination of answers of match, except and fixed_when, against a plain
// evaluation over both ways in which each unknown could turn out.
func TestPopulationFollowsKleeneLogic(t *testing.T) {
	clauses := map[Truth]Clause{
		Yes:     {KeyBits: &KeyBits{Min: 2048}},
		No:      {KeyBits: &KeyBits{Min: 4096}},
		Unknown: {WeakKey: []string{"roca"}},
	}
	all := []Truth{Unknown, No, Yes}
	could := func(v Truth, as bool) bool { return v == Unknown || (v == Yes) == as }
	for _, m1 := range all {
		for _, m2 := range all {
			for _, except := range all {
				for _, fixed := range all {
					f := usual()
					f.WeakKeysJudged = false
					a := &Advisory{Match: []Clause{clauses[m1], clauses[m2]}, Except: []Clause{clauses[except]}, FixedWhen: []Clause{clauses[fixed]}}
					got := a.Judge(&f)

					outcomes := map[bool]bool{}
					for bits := range 16 {
						v := [4]bool{bits&1 > 0, bits&2 > 0, bits&4 > 0, bits&8 > 0}
						if could(m1, v[0]) && could(m2, v[1]) && could(except, v[2]) && could(fixed, v[3]) {
							outcomes[(v[0] || v[1]) && !v[2] && !v[3]] = true
						}
					}
					want := Unknown
					if len(outcomes) == 1 {
						want = truth(outcomes[true])
					}
					name := fmt.Sprint("match ", m1, m2, " except ", except, " fixed ", fixed)
					assert.Equal(t, want, got.In, name)
					assert.Equal(t, (m1 == Yes || m2 == Yes) && except == No && fixed == Yes, got.Fixed, name)
					assert.Equal(t, want == Unknown, got.NotKnown != "", name)
					switch {
					case m1 == Yes:
						assert.Equal(t, 0, got.Clause, name)
					case m2 == Yes:
						assert.Equal(t, 1, got.Clause, name)
					default:
						assert.Equal(t, -1, got.Clause, name)
					}
				}
			}
		}
	}
}

func TestFixedWhenIsWhatARenewedCertificateMeets(t *testing.T) {
	a := mustParse(t, openEnded)
	for _, tt := range []struct {
		issued string
		want   Membership
	}{
		{"2026-01-31T23:59:59Z", Membership{In: No, Clause: -1}},
		{"2026-02-01T00:00:00Z", Membership{In: Yes}},
		{"2026-02-01T23:59:59Z", Membership{In: Yes}},
		{"2026-02-02T00:00:00Z", Membership{In: No, Fixed: true}},
		{"2030-01-01T00:00:00Z", Membership{In: No, Fixed: true}},
	} {
		f := Facts{NotBefore: at(tt.issued)}
		assert.Equal(t, tt.want, a.Judge(&f), tt.issued)
	}
}

func TestJudgeAllocatesNothing(t *testing.T) {
	window, lists := mustParse(t, plain), mustParse(t, full)
	none, some, unknown := usual(), usual(), usual()
	none.NotBefore = at("2020-01-01T00:00:00Z")
	some.IssuerSPKI = [][32]byte{window.Match[0].Issuer.SPKISHA256[0]}
	unknown.IssuerKnown, unknown.AKI = false, nil
	for _, tt := range []struct {
		name  string
		a     *Advisory
		facts Facts
		want  Truth
	}{
		{"outside the window", window, none, No},
		{"another issuer", window, usual(), No},
		{"not in any list", lists, usual(), No},
		{"a member", window, some, Yes},
		{"not known", window, unknown, Unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, tt.a.Judge(&tt.facts).In)
			assert.Zero(t, testing.AllocsPerRun(100, func() { tt.a.Judge(&tt.facts) }))
		})
	}
	s := Builtin()
	f := usual()
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		for a := range s.All() {
			a.Judge(&f)
		}
	}), "over a whole set")
}

func BenchmarkJudge(b *testing.B) {
	a := mustParse(b, plain)
	f := usual()
	b.ReportAllocs()
	for b.Loop() {
		a.Judge(&f)
	}
}

func certificate(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(need.Read(t, "eps", "certs", name))
	require.NotNil(t, block)
	c, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return c
}

// An advisory keyed to the issuing authority whose window covers 22 October 2020
// has the card issued on that day and not the one issued four days later.
func TestRealCardsAreToldApartByTheWindow(t *testing.T) {
	ca := certificate(t, "NHS_INT_Level_1D.pem")
	first, second := FactsOf(certificate(t, "leaf_5dc9ad1f.pem")), FactsOf(certificate(t, "leaf_5dc9adec.pem"))
	document := func(from, to time.Time) *Advisory {
		return mustParse(t, edited(t, plain,
			edit{clause0, fmt.Sprintf(`{"issuer": {"aki": ["%x"]}, "not_before": {"from": "%s", "to": "%s"}}`, ca.SubjectKeyId, show(from), show(to))},
			edit{"fixed_when", fmt.Sprintf(`[{"not_before": {"from": "%s"}}]`, show(to))}))
	}
	day := at("2020-10-22T00:00:00Z")
	a := document(day, day.AddDate(0, 0, 1))
	assert.Equal(t, Membership{In: Yes}, a.Judge(&first))
	assert.Equal(t, Membership{In: No, Clause: -1}, a.Judge(&second))

	issued := at("2020-10-22T10:21:55Z")
	require.True(t, issued.Equal(first.NotBefore))
	for _, tt := range []struct {
		name     string
		from, to time.Time
		want     Truth
	}{
		{"the window starts a second before the card was issued", issued.Add(-time.Second), day.AddDate(0, 0, 1), Yes},
		{"the window starts when the card was issued", issued, day.AddDate(0, 0, 1), Yes},
		{"the window starts a second after the card was issued", issued.Add(time.Second), day.AddDate(0, 0, 1), No},
		{"the window ends a second before the card was issued", day, issued.Add(-time.Second), No},
		{"the window ends when the card was issued", day, issued, No},
		{"the window ends a second after the card was issued", day, issued.Add(time.Second), Yes},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := document(tt.from, tt.to)
			assert.Equal(t, tt.want, a.Judge(&first).In)
			assert.Equal(t, No, a.Judge(&second).In)
		})
	}

	t.Run("the issuer by its key, known by signature", func(t *testing.T) {
		key := sha256.Sum256(ca.RawSubjectPublicKeyInfo)
		a := mustParse(t, edited(t, plain,
			edit{clause0, fmt.Sprintf(`{"issuer": {"spki_sha256": ["%x"]}, "serials": {"inline": ["5dc9ad1f"]}}`, key)},
			edit{"basis", `"serial_list"`}))
		f := first
		assert.Equal(t, Unknown, a.Judge(&f).In)
		f.IssuerKnown, f.IssuerSPKI = true, [][32]byte{key}
		assert.Equal(t, Yes, a.Judge(&f).In)
		f = second
		assert.Equal(t, No, a.Judge(&f).In, "the serial says no, whoever the issuer is")
	})
}

func TestFactsOfAreWhatOpenSSLReads(t *testing.T) {
	openssl := need.Tool(t, "openssl", "openssl")
	run := func(stdin []byte, args ...string) string {
		cmd := exec.Command(openssl, args...)
		cmd.Stdin = strings.NewReader(string(stdin))
		out, err := cmd.Output()
		require.NoError(t, err, args)
		return strings.TrimSpace(string(out))
	}
	dir := need.Data(t, "eps", "certs")
	files, err := filepath.Glob(filepath.Join(dir, "leaf_*.pem"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			block, _ := pem.Decode(data)
			c, err := x509.ParseCertificate(block.Bytes)
			require.NoError(t, err)
			f := FactsOf(c)

			pub := run(data, "x509", "-noout", "-pubkey")
			spki := filepath.Join(t.TempDir(), "spki.der")
			run([]byte(pub), "pkey", "-pubin", "-outform", "DER", "-out", spki)
			assert.Equal(t, run(nil, "dgst", "-sha256", "-r", spki)[:64], hex.EncodeToString(f.SPKISHA256[:]))

			modulus, err := hex.DecodeString(strings.TrimPrefix(run(data, "x509", "-noout", "-modulus"), "Modulus="))
			require.NoError(t, err)
			bin := filepath.Join(t.TempDir(), "modulus.bin")
			require.NoError(t, os.WriteFile(bin, modulus, 0o600))
			assert.Equal(t, run(nil, "dgst", "-sha256", "-r", bin)[:64], hex.EncodeToString(f.ModulusSHA256[:]))
			assert.True(t, f.HasModulus)

			text := run(data, "x509", "-noout", "-text")
			assert.Contains(t, text, fmt.Sprintf("Public-Key: (%d bit)", f.KeyBits))
			serial, ok := new(big.Int).SetString(strings.TrimPrefix(run(data, "x509", "-noout", "-serial"), "serial="), 16)
			require.True(t, ok)
			assert.Equal(t, serial, new(big.Int).SetBytes(f.Serial[:]))
			assert.False(t, f.SerialOversize)
			start, err := time.Parse("notBefore=Jan _2 15:04:05 2006 MST", run(data, "x509", "-noout", "-startdate"))
			require.NoError(t, err)
			assert.True(t, start.Equal(f.NotBefore))

			colons := strings.ToUpper(hex.EncodeToString(f.AKI))
			for i := len(colons) - 2; i > 0; i -= 2 {
				colons = colons[:i] + ":" + colons[i:]
			}
			assert.Contains(t, run(data, "x509", "-noout", "-ext", "authorityKeyIdentifier"), colons)
			assert.Len(t, f.PolicyOID, strings.Count(text, "Policy: "))
			for _, oid := range f.PolicyOID {
				assert.Contains(t, text, "Policy: "+oid)
			}
			assert.Equal(t, strings.Contains(text, "Non Repudiation"), f.KeyUsage&keyUsageOf([]string{"contentCommitment"}) != 0)
			assert.Equal(t, strings.Contains(text, "Signature Algorithm: sha256WithRSAEncryption"), f.SignatureAlgorithm == "SHA256-RSA")
			assert.Equal(t, strings.Contains(text, "Signature Algorithm: sha1WithRSAEncryption"), f.SignatureAlgorithm == "SHA1-RSA")

			assert.False(t, f.IssuerKnown)
			assert.Nil(t, f.IssuerSPKI)
			assert.False(t, f.WeakKeysJudged)
		})
	}
}

func TestFactsOfKeysOtherThanRSA(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	for _, tt := range []struct {
		key  any
		bits int
	}{{p384.Public(), 384}, {edwards, 256}, {nil, 0}} {
		f := FactsOf(&x509.Certificate{PublicKey: tt.key})
		assert.Equal(t, tt.bits, f.KeyBits)
		assert.False(t, f.HasModulus)
		assert.Empty(t, f.SignatureAlgorithm, "unknown, not none")
	}
}

func TestFactsOfMarkASerialThatIsTooLarge(t *testing.T) {
	c := &x509.Certificate{}
	assert.True(t, FactsOf(c).SerialOversize, "no serial at all")
	most := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 160), big.NewInt(1))
	c.SerialNumber = most
	assert.False(t, FactsOf(c).SerialOversize)
	assert.Equal(t, byte(0xff), FactsOf(c).Serial[0])
	c.SerialNumber = new(big.Int).Add(most, big.NewInt(1))
	assert.True(t, FactsOf(c).SerialOversize)
	c.SerialNumber = big.NewInt(-1)
	assert.True(t, FactsOf(c).SerialOversize)
}

func TestKeyUsageNamesAreThoseOfRFC5280(t *testing.T) {
	for name, bit := range map[string]x509.KeyUsage{
		"digitalSignature": x509.KeyUsageDigitalSignature, "contentCommitment": x509.KeyUsageContentCommitment,
		"keyEncipherment": x509.KeyUsageKeyEncipherment, "dataEncipherment": x509.KeyUsageDataEncipherment,
		"keyAgreement": x509.KeyUsageKeyAgreement, "keyCertSign": x509.KeyUsageCertSign, "cRLSign": x509.KeyUsageCRLSign,
		"encipherOnly": x509.KeyUsageEncipherOnly, "decipherOnly": x509.KeyUsageDecipherOnly,
	} {
		assert.Equal(t, bit, keyUsageOf([]string{name}), name)
	}
	assert.Len(t, keyUsageNames, 9)
}

func TestSignatureAlgorithmsAreThoseOfTheStandardLibrary(t *testing.T) {
	var spelled []string
	for a := x509.SignatureAlgorithm(1); a < 64; a++ {
		if s := a.String(); strings.Trim(s, "0123456789") != "" {
			spelled = append(spelled, s)
		}
	}
	assert.ElementsMatch(t, spelled, signatureAlgorithms)
}
