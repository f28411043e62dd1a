package guard

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/weakkey"
	"github.com/rxguard/rxguard/internal/need"
)

func block(kind string, b []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestParseCertificateTakesDERAndOnePEMBlock(t *testing.T) {
	der := newAuthority(t, "CA", []byte{1}).issueDER(t, at("2026-02-01T12:00:00Z"))
	want, err := ParseCertificate(der)
	require.NoError(t, err)
	text := block("CERTIFICATE", der)
	for name, in := range map[string][]byte{
		"PEM":                        text,
		"PEM, white space around it": join([]byte("\r\n \t"), text, []byte("\n\n")),
		"PEM, no line break at last": bytes.TrimSpace(text),
		"PEM with CRLF":              bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")),
	} {
		c, err := ParseCertificate(in)
		require.NoError(t, err, name)
		assert.Equal(t, want.Info(), c.Info(), name)
	}
}

func TestParseCertificateSaysWhatItFoundInstead(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	issued := at("2026-02-01T12:00:00Z")
	der := ca.issueDER(t, issued)
	text := block("CERTIFICATE", der)
	damaged := bytes.Replace(text, []byte("-----BEGIN CERTIFICATE-----\n"), []byte("-----BEGIN CERTIFICATE-----\n!!!!"), 1)
	usage := func(value string) []byte {
		v, err := hex.DecodeString(value)
		require.NoError(t, err)
		return ca.issueDER(t, issued, extension(oidPrivateKeyUsagePeriod, false, v))
	}
	ascii := func(s string) string { return hex.EncodeToString([]byte(s)) }
	for _, tt := range []struct {
		name string
		in   []byte
		want string
	}{
		{"nothing", nil, "guard: not a certificate: the input is empty; wanted DER or one PEM block"},
		{"white space", []byte(" \r\n"), "guard: not a certificate: the input is empty"},
		{"text", []byte("hello world"), `guard: not a certificate: the input starts with "hello wo"; wanted DER or one PEM block`},
		{"bare base64", []byte("MIIC"), `the input starts with "MIIC"; wanted DER or one PEM block`},
		{"hostile bytes", []byte("\x1b[2J\x00"), `the input starts with "\x1b[2J\x00"`},
		{"text before the block", join([]byte("Certificate:\n"), text), `the input starts with "Certific"; wanted DER or one PEM block`},
		{"text after the block", join(text, []byte("more")), "guard: not one certificate: text follows the PEM block; wanted one CERTIFICATE block"},
		{"two blocks", join(text, text), "guard: not one certificate: the input has 2 PEM blocks; wanted one CERTIFICATE block"},
		{"a damaged block before a good one", join(damaged, text), "the input has 2 PEM blocks"},
		{"a key after the certificate", join(text, block("PRIVATE KEY", []byte("x"))), "the input has 2 PEM blocks"},
		{"a damaged block", damaged, "guard: not a certificate: the PEM text is damaged; wanted one CERTIFICATE block"},
		{"a block that does not end", text[:len(text)/2], "the PEM text is damaged"},
		{"a key", block("PRIVATE KEY", []byte("x")), `guard: not a certificate: the PEM block is "PRIVATE KEY"; wanted CERTIFICATE`},
		{"a request", block("CERTIFICATE REQUEST", der), `the PEM block is "CERTIFICATE REQUEST"; wanted CERTIFICATE`},
		{"an empty block", block("CERTIFICATE", nil), "guard: not a certificate: x509: "},
		{"DER of something else", x509.MarshalPKCS1PublicKey(&cardKey().PublicKey), "guard: not a certificate: x509: "},
		{"DER that is cut off", der[:len(der)-1], "guard: not a certificate: x509: "},
		{"DER with trailing bytes", join(der, []byte{0}), "guard: not a certificate: x509: trailing data"},
		{"DER with a line break after it", join(der, []byte("\n")), "guard: not a certificate: x509: trailing data"},
		{"two in DER", join(der, der), "guard: not a certificate: x509: trailing data"},
		{"trailing bytes in a block", block("CERTIFICATE", join(der, []byte{0})), "guard: not a certificate: x509: trailing data"},
		{"private key usage period that is no sequence", usage("0500"), "guard: certificate 5dc9ad00: private key usage period: "},
		{"private key usage period that is empty", usage(""), "guard: certificate 5dc9ad00: private key usage period: "},
		{"private key usage period with trailing bytes", usage("30000500"), "private key usage period: bytes follow the extension's value"},
		{"private key usage period with a fraction", usage("3013" + "8111" + ascii("20270625000000.5Z")), `private key usage period: notAfter is "20270625000000.5Z"; wanted GeneralizedTime YYYYMMDDHHMMSSZ`},
		{"private key usage period in a time zone", usage("3015" + "8113" + ascii("20270625000000+0100")), `notAfter is "20270625000000+0100"`},
		{"private key usage period in UTCTime", usage("300f" + "810d" + ascii("270625000000Z")), `notAfter is "270625000000Z"`},
		{"private key usage period on 30 February", usage("3011" + "810f" + ascii("20270230000000Z")), `notAfter is "20270230000000Z"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseCertificate(tt.in)
			assert.Nil(t, c)
			require.ErrorContains(t, err, tt.want)
			assert.Equal(t, 1, strings.Count(err.Error(), "guard: "))
			assert.Less(t, len(err.Error()), 300)
		})
	}
}

func TestPrivateKeyUsagePeriodMayBeHalfOrEmpty(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	issued := at("2026-02-01T12:00:00Z")
	from := append([]byte{0x30, 17, 0x80, 15}, "20260201120000Z"...)
	for name, value := range map[string][]byte{"neither end": {0x30, 0}, "a start alone": from} {
		c := ca.issue(t, issued, extension(oidPrivateKeyUsagePeriod, false, value))
		assert.Zero(t, c.privateKeyUntil, name)
	}
	c := ca.issue(t, issued, privateKeyUsage("20270625123456Z"))
	assert.Equal(t, at("2027-06-25T12:34:56Z"), c.privateKeyUntil)
}

// ParseCertificate decides nothing but whether it is a certificate.
func TestParseCertificateTakesWhatTheChecksRefuse(t *testing.T) {
	ca := newAuthority(t, "CA", []byte{1})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := ca.issue(t, at("2026-02-01T12:00:00Z"), func(x *x509.Certificate) { x.PublicKey = key.Public() })
	assert.False(t, c.facts.HasModulus)
	assert.Equal(t, 256, c.facts.KeyBits)
	assert.Equal(t, DecisionAllowed, newGuard(t, Config{}).Judge(Snapshot{Certificate: c}, at("2026-03-01T00:00:00Z")).Decision,
		"which keys a format can be signed with is for the format")
}

func TestACertificateDoesNotChangeWithTheBufferItCameFrom(t *testing.T) {
	b := newAuthority(t, "CA", []byte{1}).issueDER(t, at("2026-02-01T12:00:00Z"))
	c, err := ParseCertificate(b)
	require.NoError(t, err)
	raw, aki := bytes.Clone(c.X509().Raw), bytes.Clone(c.facts.AKI)
	clear(b)
	assert.Equal(t, raw, c.X509().Raw)
	assert.Equal(t, aki, c.facts.AKI)
}

func TestTheZeroCertificate(t *testing.T) {
	c := &Certificate{}
	assert.Nil(t, c.X509())
	assert.Zero(t, c.Info())
	assert.False(t, c.Simulated())
}

// pkix.Name would lose a second common name, and the order.
func TestNamesAreWholeAndInTheirOwnOrder(t *testing.T) {
	attribute := func(oid asn1.ObjectIdentifier, value string) pkix.RelativeDistinguishedNameSET {
		return pkix.RelativeDistinguishedNameSET{{Type: oid, Value: value}}
	}
	cn, o := asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.ObjectIdentifier{2, 5, 4, 10}
	raw, err := asn1.Marshal(pkix.RDNSequence{attribute(cn, "first, of two"), attribute(o, "org"), attribute(cn, "second")})
	require.NoError(t, err)
	c := newAuthority(t, "CA", []byte{1}).issue(t, at("2026-02-01T12:00:00Z"), func(x *x509.Certificate) { x.RawSubject = raw })
	assert.Equal(t, `CN=second,O=org,CN=first\, of two`, c.Info().Subject)
	assert.Equal(t, "CN=x", nameOf([]byte{0x30}, pkix.Name{CommonName: "x"}), "what asn1 does not read")
}

// What the checks go by is what openssl reads from the same certificate.
func TestFactsAreThoseOfOpenSSL(t *testing.T) {
	for _, file := range []string{"card.pem", "ca.pem"} {
		t.Run(file, func(t *testing.T) { sameFactsAsOpenSSL(t, filepath.Join("testdata", file)) })
	}
}

func TestFactsOfRealCertificatesAreThoseOfOpenSSL(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(need.Data(t, "eps", "certs"), "*.pem"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { sameFactsAsOpenSSL(t, file) })
	}
}

func sameFactsAsOpenSSL(t *testing.T, file string) {
	tool := need.Tool(t, "openssl", "openssl")
	run := func(stdin []byte, args ...string) []byte {
		cmd := exec.Command(tool, args...)
		cmd.Stdin = bytes.NewReader(stdin)
		out, err := cmd.Output()
		require.NoError(t, err, args)
		return out
	}
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	c, err := ParseCertificate(b)
	require.NoError(t, err)
	got := map[string]string{}
	out := run(b, "x509", "-noout", "-serial", "-fingerprint", "-sha256", "-startdate", "-enddate", "-dateopt", "iso_8601", "-modulus", "-issuer", "-subject", "-nameopt", "RFC2253")
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		got[strings.ToLower(name)] = value
	}
	lower := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, ":", "")) }
	assert.Equal(t, strings.TrimLeft(lower(got["serial"]), "0"), c.Info().Serial)
	assert.Equal(t, lower(got["sha256 fingerprint"]), c.Info().SHA256)
	assert.Equal(t, got["notbefore"], c.Info().NotBefore.Format("2006-01-02 15:04:05Z"))
	assert.Equal(t, got["notafter"], c.Info().NotAfter.Format("2006-01-02 15:04:05Z"))
	assert.Equal(t, got["issuer"], c.Info().Issuer)
	assert.Equal(t, got["subject"], c.Info().Subject)
	serial, err := hex.DecodeString(strings.Repeat("0", 40-len(c.Info().Serial)) + c.Info().Serial)
	require.NoError(t, err)
	assert.Equal(t, serial, c.facts.Serial[:])
	modulus, err := hex.DecodeString(got["modulus"])
	require.NoError(t, err)
	assert.Equal(t, sha256.Sum256(modulus), c.facts.ModulusSHA256)
	assert.Equal(t, 8*len(modulus), c.facts.KeyBits)
	spki := run(run(b, "x509", "-noout", "-pubkey"), "pkey", "-pubin", "-outform", "DER")
	assert.Equal(t, sha256.Sum256(spki), c.facts.SPKISHA256)
	text := string(run(b, "x509", "-noout", "-text", "-certopt", "no_sigdump,no_pubkey"))
	_, usage, has := strings.Cut(text, "Private Key Usage Period: \n")
	assert.Equal(t, has, !c.privateKeyUntil.IsZero())
	if has {
		assert.Contains(t, usage, "Not After: "+c.privateKeyUntil.Format("Jan _2 15:04:05 2006")+" GMT")
	}
	assert.Equal(t, strings.Contains(text, "Key Usage: critical"), c.keyUsageCritical)
	assert.Equal(t, strings.Contains(text, SigningPolicy), c.hasPolicy)
}

// FuzzParseCertificate states that whatever is taken is one certificate: its own
// DER, in a PEM block too, gives the same again. And nothing that is taken makes a
// check panic, or a verdict that cannot be written.
func FuzzParseCertificate(f *testing.F) {
	ca, err := os.ReadFile("testdata/ca.pem")
	require.NoError(f, err)
	authority, err := ParseCertificate(ca)
	require.NoError(f, err)
	g := newGuard(f, Config{Live: true, Issuers: []*x509.Certificate{authority.X509()}})
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := ParseCertificate(in)
		if err != nil {
			require.Nil(t, c)
			require.True(t, strings.HasPrefix(err.Error(), "guard: "), err)
			require.Less(t, len(err.Error()), 4096+4*len(in))
			return
		}
		for _, same := range [][]byte{c.X509().Raw, block("CERTIFICATE", c.X509().Raw)} {
			again, err := ParseCertificate(same)
			require.NoError(t, err)
			require.Equal(t, c.Info(), again.Info())
		}
		for _, when := range []string{"2020-10-01T00:00:00Z", "2026-01-01T00:00:00Z"} {
			v := g.Judge(Snapshot{Certificate: c}, at(when))
			_, err = json.Marshal(v)
			require.NoError(t, err)
			_ = v.String()
			if v.Decision.Permits() {
				require.NotZero(t, c.X509().KeyUsage&x509.KeyUsageContentCommitment)
				require.True(t, c.Info().NotBefore.Before(v.At) && v.At.Before(c.Info().NotAfter))
			}
		}
	})
}

// fuzzCA is an authority whose key and certificate are the same in every run.
func fuzzCA(t testing.TB) authority {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Fuzz CA"}, NotBefore: at("2019-01-01T00:00:00Z"), NotAfter: at("2040-01-01T00:00:00Z"),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte{1},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return authority{cert, key}
}

// reissued is a certificate with the same content that the authority signed.
func (a authority) reissued(der []byte) (*Certificate, error) {
	der, err := a.sign(der, func(fields []asn1.RawValue) []asn1.RawValue {
		shift := 0
		if fields[0].Class != asn1.ClassContextSpecific { // version 1
			shift = 1
		}
		algorithm, _ := asn1.Marshal(pkix.AlgorithmIdentifier{Algorithm: signedWith(a.key)})
		fields[tbsAlgorithm-shift] = asn1.RawValue{FullBytes: algorithm}
		fields[tbsIssuer-shift] = asn1.RawValue{FullBytes: a.cert.RawSubject}
		return fields
	})
	if err != nil {
		return nil, err
	}
	return ParseCertificate(der)
}

// fuzzPolicies are policies of every kind of strictness; the first is the default.
var fuzzPolicies = []Policy{
	{},
	{ProfileDetails: Refuse, RevocationUnknown: Refuse, KeySize: Refuse, StaleRules: Refuse, RefuseRSABelow: 3072, RenewalWindow: SelfRenewalWindow},
	{Validity: UnsafeWarn, Profile: UnsafeWarn, Chain: UnsafeWarn, Revocation: UnsafeWarn, RevocationLapsed: UnsafeWarn, WeakKey: UnsafeWarn, KeySize: UnsafeWarn},
	{Validity: UnsafeOff, Profile: UnsafeOff, ProfileDetails: UnsafeOff, Chain: UnsafeOff, Revocation: UnsafeOff, WeakKey: UnsafeOff, KeySize: UnsafeOff},
}

// FuzzCertificate judges whatever is a certificate, as it is and as if a trusted CA had
// issued it, at an instant, by a policy and with a revocation status. It states that a
// verdict comes twice the same and can be written; that affected issuance refuses
// whatever the policy; and that by the default policy no signature is permitted with a
// certificate that the standard library finds no chain for, that is revoked, out of
// date or not for signing, or whose key is not known to be good.
func FuzzCertificate(f *testing.F) {
	ca := fuzzCA(f)
	rules := newSet(f, 1, noticeBy(ca))
	statuses := []RevocationStatus{{State: StatusGood}, revoked, late1, lapsed, unknown}
	guards := map[[2]int]*Guard{}
	for p, policy := range fuzzPolicies {
		for s, status := range statuses {
			says := func([]*x509.Certificate) RevocationStatus { return status }
			guards[[2]int{p, s}] = newGuard(f, Config{Advisories: rules, Roots: certs(ca), Revocation: byChain(says), Policy: policy, Live: true})
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	f.Fuzz(func(t *testing.T, in []byte, seconds int64, policy, status byte) {
		c, err := ParseCertificate(in)
		if err != nil {
			return
		}
		all := []*Certificate{c}
		if again, err := ca.reissued(c.X509().Raw); err == nil {
			all = append(all, again)
		}
		const year9999 = 253402300799
		when := time.Unix(min(max(seconds, -year9999), year9999), 0).UTC()
		p, s := int(policy)%len(fuzzPolicies), int(status)%len(statuses)
		for i, c := range all {
			g := guards[[2]int{p, s}]
			v := g.Judge(Snapshot{Certificate: c}, when)
			written, err := json.Marshal(v)
			require.NoError(t, err)
			again, err := json.Marshal(g.Judge(Snapshot{Certificate: c}, when))
			require.NoError(t, err)
			require.JSONEq(t, string(written), string(again))
			require.NotEmpty(t, v.String())
			require.NotEmpty(t, v.ForPrescriber())
			require.Equal(t, v.Decision.Permits(), v.Err() == nil)

			x := c.X509()
			if issued := x.NotBefore; i == 1 && !issued.Before(at("2026-02-01T00:00:00Z")) && issued.Before(at("2026-02-02T00:00:00Z")) && !when.Before(at("2026-03-03T00:00:00Z")) {
				require.True(t, v.Has(Affected), v)
				require.Equal(t, DecisionRefused, v.Decision)
			}
			if p != 0 {
				continue
			}
			x.UnhandledCriticalExtensions = nil
			_, err = x.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: when, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			if !when.IsZero() && !when.Before(x.NotBefore) && !when.After(x.NotAfter) {
				require.Equal(t, err == nil, chainOf(v) == nil, v)
			}
			if v.Decision.Permits() {
				require.NoError(t, err)
				require.True(t, x.NotBefore.Before(when) && when.Before(x.NotAfter))
				require.NotZero(t, x.KeyUsage&x509.KeyUsageContentCommitment)
				require.Empty(t, c.unknownCritical)
				key := new(weakkey.Checker).Check(x.PublicKey)
				require.True(t, key.Judged && !key.Weak(), key)
				require.NotContains(t, []int{1, 3}, s)
			}
		}
	})
}
