package guard

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// numbered makes certificates that differ in the serial number alone; their signature
// is wrong, but for the first.
func numbered(t *testing.T, ca authority) func(n int) *Certificate {
	der := ca.issueDER(t, issuedThen)
	serial := []byte{0x5d, 0xc9, 0xad, 0x00}
	i := bytes.Index(der, serial)
	require.Positive(t, i)
	return func(n int) *Certificate {
		b := bytes.Clone(der)
		binary.BigEndian.PutUint32(b[i:], binary.BigEndian.Uint32(serial)+uint32(n))
		c, err := ParseCertificate(b)
		require.NoError(t, err)
		return c
	}
}

func TestTheMemoryOfCertificatesIsBounded(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	make := numbered(t, ca)
	first := make(0)
	g := newGuard(t, Config{Issuers: certs(ca), Revocation: about(first.x, lapsed)})
	most := 0
	for n := range 10_000 {
		c := make(n)
		v := g.Judge(Snapshot{Certificate: c}, judgedThen)
		require.Equal(t, n == 0, v.Has(RevocationLapsed), n)
		require.Same(t, g.known(c), g.records[c.info.SHA256])
		most = max(most, len(g.records))
	}
	assert.Equal(t, maxKnown, most)
	assert.NotContains(t, g.records, first.info.SHA256)
	assert.Equal(t, []Reason{RevocationLapsed}, reasonsOf(g.Judge(Snapshot{Certificate: first}, judgedThen)), "one that was forgotten is judged as before")
}

func TestManyGoroutinesSeeACertificateForTheFirstTime(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	make := numbered(t, ca)
	g := newGuard(t, Config{Roots: certs(ca), Revocation: &lists{}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := range 50 {
				v := g.Judge(Snapshot{Certificate: make(n)}, judgedThen)
				assert.Equal(t, n > 0, v.Has(ChainUntrusted))
			}
		})
	}
	wg.Wait()
	assert.Len(t, g.records, 50)
}

// Two Certificates of the same bytes are one.
func TestACertificateIsKnownByItsBytes(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	make := numbered(t, ca)
	g := newGuard(t, Config{Issuers: certs(ca)})
	assert.Same(t, g.known(make(1)), g.known(make(1)))
	assert.NotSame(t, g.known(make(1)), g.known(make(2)))
}

// Who issued a certificate is told by signature; what speaks for a CA that did not
// sign leaves it open.
func TestWhoIssuedACertificate(t *testing.T) {
	a, b := newAuthority(t, "A", []byte{1}), newAuthority(t, "B", []byte{2})
	namesake := newAuthority(t, "A", []byte{3}) // another key id
	twin := newAuthority(t, "A", []byte{1})     // the same
	// It leaves its key identifier out of what it issues.
	silent := authority{cert: &x509.Certificate{Subject: namesake.cert.Subject, PublicKey: namesake.key.Public()}, key: namesake.key}
	nameless := a.withoutKeyID(t)
	anonymous := namesake.withoutKeyID(t)
	again := a.again(t, b)
	renamed := authority{cert: &x509.Certificate{Subject: pkix.Name{CommonName: "Renamed"}}, key: a.key}
	oddKeyID := authority{cert: &x509.Certificate{Subject: a.cert.Subject, SubjectKeyId: []byte{99}}, key: a.key}
	for _, tt := range []struct {
		name    string
		by      authority
		issuers []authority
		is, not []authority // the issuer's keys, and those that are not
	}{
		{"its CA", a, certsOf(a), certsOf(a), nil},
		{"another", b, certsOf(a), nil, certsOf(a)},
		{"its CA and another", b, certsOf(a, b), certsOf(b), certsOf(a)},
		{"one of the same name", a, certsOf(a, namesake), certsOf(a), certsOf(namesake)},
		{"the other of the same name", namesake, certsOf(a, namesake), certsOf(namesake), certsOf(a)},
		{"one that claims the same key identifier", a, certsOf(twin), nil, nil},
		{"without a key identifier, its CA", silent, certsOf(namesake), certsOf(namesake), nil},
		{"without a key identifier, another of the same name", silent, certsOf(a), nil, nil},
		{"without a key identifier, one of another name", silent, certsOf(b), nil, certsOf(b)},
		{"its CA, whose certificate has no key identifier", a, certsOf(nameless), certsOf(a), nil},
		{"one of the same name whose certificate has no key identifier", a, certsOf(anonymous), nil, nil},
		{"one of another name whose certificate has no key identifier", b, certsOf(anonymous), nil, certsOf(namesake)},
		{"two certificates of its CA", a, certsOf(a, again), certsOf(a), nil},
		{"its CA under another name", renamed, certsOf(a, b), certsOf(a), certsOf(b)},
		{"its CA under another key identifier", oddKeyID, certsOf(a, b), certsOf(a), certsOf(b)},
		{"nobody is configured", a, nil, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, c := range []Config{{Issuers: certs(tt.issuers...)}, {Roots: certs(tt.issuers...)}, {Issuers: certs(tt.issuers...), Roots: certs(tt.issuers...)}} {
				g := newGuard(t, c)
				r := g.known(tt.by.issue(t, issuedThen))
				assert.Equal(t, keysOf(tt.is), r.facts.IssuerSPKI)
				assert.Equal(t, keysOf(tt.not), r.facts.NotIssuerSPKI)
				assert.Equal(t, len(tt.is) > 0, r.facts.IssuerKnown)
			}
		})
	}
}

// withoutKeyID is the same CA without a subject key identifier, which crypto/x509 always
// makes.
func (a authority) withoutKeyID(t *testing.T) authority {
	der := a.rewrite(t, a.cert.Raw, func(fields []asn1.RawValue) []asn1.RawValue {
		var all []pkix.Extension
		_, err := asn1.Unmarshal(fields[tbsExtensions].Bytes, &all)
		require.NoError(t, err)
		all = slices.DeleteFunc(all, func(e pkix.Extension) bool { return e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 14}) })
		fields[tbsExtensions].FullBytes = nil
		fields[tbsExtensions].Bytes, err = asn1.Marshal(all)
		require.NoError(t, err)
		return fields
	})
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	require.Empty(t, cert.SubjectKeyId)
	return authority{cert, a.key}
}

func keysOf(as []authority) (keys [][32]byte) {
	for _, a := range as {
		keys = append(keys, a.spki())
	}
	return keys
}

// A certificate that contradicts itself is neither affected nor fine.
func TestASelfContradictionIsUndecided(t *testing.T) {
	a := newAuthority(t, "A", []byte{1})
	g := newGuard(t, Config{Advisories: newSet(t, 1, noticeBy(a)), Issuers: certs(a)})
	forged := newAuthority(t, "A", []byte{1}).issue(t, issuedThen)
	v := g.Judge(Snapshot{Certificate: forged}, judgedThen)
	assert.Equal(t, []Reason{AffectedUndecidable}, reasonsOf(v))
	assert.Equal(t, DecisionUndecided, v.Decision)
}

// What a record holds of a certificate does not change with the Config it was made by.
func TestAGuardKeepsItsOwnCAs(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	roots := certs(ca)
	g := newGuard(t, Config{Roots: roots, Issuers: roots})
	raw := bytes.Clone(ca.cert.Raw)
	clear(ca.cert.Raw)
	*roots[0], roots[0] = x509.Certificate{}, nil
	again, err := x509.ParseCertificate(raw)
	require.NoError(t, err)
	assert.Empty(t, g.Judge(Snapshot{Certificate: authority{again, ca.key}.issue(t, issuedThen)}, judgedThen).Findings)
}

func TestConfiguredCAsAreNamedWhereTheyAreWrong(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	for field, config := range map[string]func(cas []*x509.Certificate) Config{
		"Roots":   func(cas []*x509.Certificate) Config { return Config{Roots: cas} },
		"Issuers": func(cas []*x509.Certificate) Config { return Config{Issuers: cas} },
	} {
		for want, bad := range map[string]*x509.Certificate{
			"is nil; wanted a CA certificate":                                                                nil,
			"does not parse; wanted a certificate from x509.ParseCertificate: x509: ":                        {Raw: []byte{0x30}},
			"(CN=123456789012_Test_Card,OU=People,O=test) is not a CA certificate; wanted basic constraints": ca.issue(t, issuedThen).X509(),
		} {
			_, err := New(config([]*x509.Certificate{ca.cert, bad}))
			assert.ErrorContains(t, err, fmt.Sprintf("guard: Config.%s[1] %s", field, want))
		}
	}
}

// The serials of CAs are nobody's to compare: two of one key are two.
func TestDistinctCAsAreToldByTheirBytes(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	other := ca.again(t, ca, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) })
	g := newGuard(t, Config{Roots: certs(ca, ca), Issuers: certs(other, ca, other)})
	assert.Len(t, g.authorities, 2)
}
