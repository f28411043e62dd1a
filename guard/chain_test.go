package guard

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/internal/need"
)

// again is the same CA, name and key, certified by another.
func (a authority) again(t testing.TB, by authority, changes ...func(*x509.Certificate)) authority {
	t.Helper()
	c := *a.cert
	c.SerialNumber = new(big.Int).Add(c.SerialNumber, big.NewInt(100))
	c.AuthorityKeyId, c.ExtraExtensions = nil, nil
	for _, change := range changes {
		change(&c)
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, by.cert, a.key.Public(), by.key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return authority{cert, a.key}
}

func from(s string) func(*x509.Certificate) { return func(c *x509.Certificate) { c.NotBefore = at(s) } }
func until(s string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.NotAfter = at(s) }
}

// chainOf is the finding of the chain check, if any.
func chainOf(v Verdict) *Finding {
	for i := range v.Findings {
		if v.Findings[i].Check == CheckChain {
			return &v.Findings[i]
		}
	}
	return nil
}

func TestAChainToARoot(t *testing.T) {
	root, other := newAuthority(t, "Root", []byte{1}), newAuthority(t, "Other", []byte{2})
	middle := root.below(t, "Middle")
	ca := middle.below(t, "CA")
	namesake := middle.below(t, "CA")
	cross := ca.again(t, other)
	unknownCritical := asn1.ObjectIdentifier{1, 2, 3, 4}
	odd := root.below(t, "Odd", extension(unknownCritical, true, []byte{5, 0}))
	oddNamesake := newAuthority(t, "Odd", nil)
	noSign := root.below(t, "No", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })
	short := root.below(t, "Short", func(c *x509.Certificate) { c.MaxPathLenZero = true })
	belowShort := short.below(t, "Below")
	dns := root.below(t, "DNS", func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.org"}, true
	})
	// A directory name: crypto/x509 knows no such constraint.
	directory := root.below(t, "Directory", extension(asn1.ObjectIdentifier{2, 5, 29, 30}, true,
		[]byte{0x30, 0x0c, 0xa0, 0x0a, 0x30, 0x08, 0xa4, 0x06, 0x30, 0x04, 0x31, 0x02, 0x30, 0x00}))
	explicit := root.below(t, "Explicit", extension(asn1.ObjectIdentifier{2, 5, 29, 36}, true, []byte{0x30, 3, 0x80, 1, 0}))
	clients := root.below(t, "Clients", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	renamed := authority{cert: &x509.Certificate{Subject: pkix.Name{CommonName: "Renamed"}, SubjectKeyId: ca.cert.SubjectKeyId}, key: ca.key}
	self := newAuthority(t, "Self", nil)

	names := func(names ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.DNSNames = names }
	}
	for _, tt := range []struct {
		name           string
		roots, issuers []authority
		by             authority
		changes        []func(*x509.Certificate)
		want           Reason // of the chain; Unspecified: it is good
		is             string // a part of it
	}{
		{"the root issued it", certsOf(root), nil, root, nil, Unspecified, ""},
		{"a CA below the root issued it", certsOf(root), certsOf(middle), middle, nil, Unspecified, ""},
		{"a CA two below the root issued it", certsOf(root), certsOf(ca, middle), ca, nil, Unspecified, ""},
		{"the CA that issued it is the root", certsOf(ca), nil, ca, nil, Unspecified, ""},
		{"the root is among the issuers too", certsOf(root), certsOf(root, middle, ca, ca), ca, nil, Unspecified, ""},
		{"every CA is a root", certsOf(root, middle, ca), certsOf(root, middle, ca), ca, nil, Unspecified, ""},
		{"several CAs of one name", certsOf(root), certsOf(namesake, middle, ca), ca, nil, Unspecified, ""},
		{"several CAs of one name, the other one issued it", certsOf(root), certsOf(namesake, middle, ca), namesake, nil, Unspecified, ""},
		{"cross-certified, both roots", certsOf(root, other), certsOf(cross, middle, ca), ca, nil, Unspecified, ""},
		{"cross-certified, one root", certsOf(other), certsOf(ca, middle, cross), ca, nil, Unspecified, ""},
		{"cross-certified, the other root", certsOf(root), certsOf(cross, middle, ca), cross, nil, Unspecified, ""},
		{"an extended key usage that nobody knows", certsOf(root), certsOf(middle), middle,
			[]func(*x509.Certificate){func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} }}, Unspecified, ""},
		{"for time stamps", certsOf(root), certsOf(middle), middle,
			[]func(*x509.Certificate){func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping} }}, Unspecified, ""},
		{"the CA is for clients alone", certsOf(root), certsOf(clients), clients, nil, Unspecified, ""},
		{"a critical extension that nobody knows is the profile's", certsOf(root), certsOf(middle), middle,
			[]func(*x509.Certificate){extension(unknownCritical, true, []byte{5, 0})}, Unspecified, ""},
		{"a name that the CA may issue for", certsOf(root), certsOf(dns), dns, []func(*x509.Certificate){names("card.example.org")}, Unspecified, ""},

		{"nobody knows the CA", certsOf(root), certsOf(middle), other, nil, ChainUntrusted, "x509: certificate signed by unknown authority"},
		{"the CA in between is missing", certsOf(root), certsOf(ca), ca, nil, ChainUntrusted, "x509: certificate signed by unknown authority"},
		{"the issuer is known, its root is not", certsOf(other), certsOf(ca, middle, root), ca, nil, ChainUntrusted, ""},
		{"a CA of the same name has another key", certsOf(root), certsOf(ca, middle), namesake, nil, ChainUntrusted, "unknown authority"},
		{"a CA that certified itself", certsOf(root), certsOf(self), self, nil, ChainUntrusted, ""},
		{"nobody knows the key, and a CA of the same name has an extension that nobody knows", certsOf(root), certsOf(odd), oddNamesake, nil, ChainUntrusted, ""},

		{"too many CAs below one", certsOf(root), certsOf(short, belowShort), belowShort, nil, ChainInvalid, "too many intermediates"},
		{"a CA that may not issue", certsOf(root), certsOf(noSign), noSign, nil, ChainInvalid, ""},
		{"a root that may not issue", certsOf(noSign), nil, noSign, nil, ChainInvalid, ""},
		{"a name that the CA may not issue for", certsOf(root), certsOf(dns), dns, []func(*x509.Certificate){names("card.example.com")}, ChainInvalid, "card.example.com"},
		{"a constraint on directory names", certsOf(root), certsOf(directory), directory, nil, ChainInvalid, "CA CN=Directory,O=test has the critical extension 2.5.29.30, which is not known"},
		{"a CA with a critical extension that nobody knows", certsOf(root), certsOf(odd), odd, nil, ChainInvalid, "CA CN=Odd,O=test has the critical extension 1.2.3.4, which is not known"},
		{"a root with a critical extension that nobody knows", certsOf(odd), nil, odd, nil, ChainInvalid, "CA CN=Odd,O=test has the critical extension 1.2.3.4, which is not known"},
		{"a policy that the CA requires", certsOf(root), certsOf(explicit), explicit, nil, ChainInvalid, "invalid policies"},
		{"another name for the issuer", certsOf(root), certsOf(middle, ca), renamed, nil, ChainInvalid, "unknown authority"},
		{"signed with SHA-1", certsOf(root), certsOf(middle), middle,
			[]func(*x509.Certificate){func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA1 }}, ChainInvalid, "insecure algorithm"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			card := tt.by.issue(t, issuedThen, tt.changes...)
			slices.Reverse(tt.roots)
			for range 2 { // in both orders
				slices.Reverse(tt.roots)
				slices.Reverse(tt.issuers)
				g := newGuard(t, Config{Roots: certs(tt.roots...), Issuers: certs(tt.issuers...)})
				for range 2 {
					v := g.Judge(Snapshot{Certificate: card}, judgedThen)
					f := chainOf(v)
					assert.Equal(t, []NotChecked{{CheckRevocation, notCheckedText[CheckRevocation]}}, v.NotChecked)
					if tt.want == Unspecified {
						require.Nil(t, f, v)
						usual := len(card.x.ExtKeyUsage)+len(card.x.UnknownExtKeyUsage)+len(card.unknownCritical) == 0
						assert.Equal(t, usual, v.Decision == DecisionAllowed, "nothing else speaks against it")
						continue
					}
					require.NotNil(t, f, v)
					require.Equal(t, tt.want, f.Reason, f.Is)
					assert.Equal(t, DecisionRefused, v.Decision)
					assert.Contains(t, f.Is, tt.is)
					assert.Contains(t, f.Is, card.is())
				}
			}
		})
	}
}

func certsOf(as ...authority) []authority { return as }

// The chain is not said to be good where the signature is not.
func TestAChangedCertificateHasNoChain(t *testing.T) {
	root := newAuthority(t, "Root", []byte{1})
	der := root.issueDER(t, issuedThen)
	g := newGuard(t, Config{Roots: certs(root)})
	for _, change := range [][2]string{{"Test_Card", "Best_Card"}, {"\x5d\xc9\xad\x00", "\x5d\xc9\xad\x01"}, {"260201120000Z", "260201120001Z"}} {
		card, err := ParseCertificate(bytes.Replace(der, []byte(change[0]), []byte(change[1]), 1))
		require.NoError(t, err)
		v := g.Judge(Snapshot{Certificate: card}, judgedThen)
		require.Equal(t, []Reason{ChainUntrusted}, reasonsOf(v), "%q", change[1])
	}
}

// RFC 5280 4.1.2.5: a CA is valid at notBefore and at notAfter.
func TestAChainHoldsWhileItsCAsAreValid(t *testing.T) {
	root := newAuthority(t, "Root", []byte{1})
	ca := root.below(t, "CA", from("2026-03-01T00:00:00Z"), until("2026-05-01T00:00:00Z"))
	again := ca.again(t, root, from("2026-07-01T00:00:00Z"), until("2026-08-01T00:00:00Z"))
	card := ca.issue(t, issuedThen) // for two years
	g := newGuard(t, Config{Roots: certs(root), Issuers: certs(ca, again)})
	first, second := "2026-03-01 00:00:00 UTC until 2026-05-01 00:00:00 UTC", "2026-07-01 00:00:00 UTC until 2026-08-01 00:00:00 UTC"
	for _, tt := range []struct {
		at   time.Time
		want bool
	}{
		{at("2026-02-01T12:00:01Z"), false},
		{at("2026-03-01T00:00:00Z").Add(-time.Second), false},
		{at("2026-03-01T00:00:00Z").Add(-1), false},
		{at("2026-03-01T00:00:00Z"), true},
		{at("2026-03-01T00:00:00Z").Add(time.Second), true},
		{at("2026-05-01T00:00:00Z").Add(-time.Second), true},
		{at("2026-05-01T00:00:00Z"), true},
		{at("2026-05-01T00:00:00Z").Add(1), false},
		{at("2026-05-01T00:00:00Z").Add(time.Second), false},
		{at("2026-07-01T00:00:00Z").Add(-1), false},
		{at("2026-07-01T00:00:00Z"), true},
		{at("2026-08-01T00:00:00Z").In(time.FixedZone("BST", 3600)), true},
		{at("2026-08-01T00:00:00Z").Add(1), false},
		{at("2028-02-01T11:59:59Z"), false},
	} {
		v := g.Judge(Snapshot{Certificate: card}, tt.at)
		if tt.want {
			assert.Empty(t, v.Findings, tt.at)
			continue
		}
		require.Equal(t, []Reason{ChainExpired}, reasonsOf(v), tt.at)
		assert.Contains(t, v.Findings[0].Is, "; judged at "+instant(tt.at)+", while there is a chain from "+first)
		assert.Contains(t, v.Findings[0].Is, "current time "+tt.at.Format(time.RFC3339), "whatever was asked before")
	}

	card = ca.issue(t, at("2026-06-01T00:00:00Z"))
	v := g.Judge(Snapshot{Certificate: card}, at("2026-06-15T00:00:00Z"))
	require.Equal(t, []Reason{ChainExpired}, reasonsOf(v))
	assert.Contains(t, v.Findings[0].Is, second, "in the certificate's own life")

	card = ca.issue(t, at("2026-07-15T00:00:00Z"), until("2026-07-20T00:00:00Z"))
	assert.Empty(t, g.Judge(Snapshot{Certificate: card}, at("2026-07-16T00:00:00Z")).Findings)

	card = ca.issue(t, at("2026-09-01T00:00:00Z"))
	v = g.Judge(Snapshot{Certificate: card}, at("2026-10-01T00:00:00Z"))
	require.Equal(t, []Reason{ChainInvalid}, reasonsOf(v), "never in the certificate's life")
}

// What the validity check says, the chain does not say again.
func TestOutsideItsValidityACertificateKeepsItsChain(t *testing.T) {
	root := newAuthority(t, "Root", []byte{1})
	short := root.below(t, "Short", until("2026-06-01T00:00:00Z"))
	late := root.below(t, "Late", from("2026-03-01T00:00:00Z"))
	card, ofShort, ofLate := root.issue(t, issuedThen), short.issue(t, issuedThen), late.issue(t, issuedThen)
	backwards := root.issue(t, issuedThen, until("2026-01-01T00:00:00Z"))
	moment := root.issue(t, issuedThen, func(c *x509.Certificate) { c.NotAfter = c.NotBefore })
	g := newGuard(t, Config{Roots: certs(root), Issuers: certs(short, late)})
	for _, tt := range []struct {
		name string
		c    *Certificate
		at   time.Time
		want []Reason
	}{
		{"before it", card, issuedThen.Add(-time.Hour), []Reason{NotYetValid}},
		{"at notBefore", card, issuedThen, []Reason{NotYetValid}},
		{"at notAfter", card, issuedThen.AddDate(2, 0, 0), []Reason{Expired}},
		{"after it", card, issuedThen.AddDate(3, 0, 0), []Reason{Expired}},
		{"after its root too", card, at("2041-01-01T00:00:00Z"), []Reason{Expired}},
		{"before its root too", card, at("2018-01-01T00:00:00Z"), []Reason{NotYetValid}},
		{"no instant", card, time.Time{}, []Reason{NotYetValid}},
		{"the year 9999", card, at("9999-12-31T23:59:59Z"), []Reason{Expired}},
		{"a CA that ended before it", ofShort, issuedThen.AddDate(3, 0, 0), []Reason{Expired, ChainExpired}},
		{"a CA that ended before it, earlier", ofShort, issuedThen, []Reason{NotYetValid}},
		{"a CA that began after it", ofLate, issuedThen.Add(-time.Hour), []Reason{NotYetValid, ChainExpired}},
		{"a CA that began after it, later", ofLate, issuedThen.AddDate(3, 0, 0), []Reason{Expired}},
		{"notAfter before notBefore", backwards, at("2026-01-15T00:00:00Z"), []Reason{DatesImpossible}},
		{"notAfter before notBefore, before both", backwards, at("2025-01-15T00:00:00Z"), []Reason{DatesImpossible}},
		{"notAfter before notBefore, after both", backwards, judgedThen, []Reason{DatesImpossible}},
		{"notAfter before notBefore, no instant", backwards, time.Time{}, []Reason{DatesImpossible, ChainInvalid}}, // nor has it a root then
		{"notAfter is notBefore", moment, issuedThen, []Reason{DatesImpossible}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 {
				v := g.Judge(Snapshot{Certificate: tt.c}, tt.at)
				assert.Equal(t, tt.want, reasonsOf(v))
				assert.Equal(t, DecisionRefused, v.Decision)
				if f := chainOf(v); f != nil && f.Reason == ChainExpired {
					assert.Contains(t, f.Is, "; judged at "+instant(tt.at)+", while there is a chain from ")
				}
			}
		})
	}
}

// The zero instant is one as any other: it is not taken for the present.
func TestTheZeroInstantIsAnInstant(t *testing.T) {
	root := newAuthority(t, "Root", []byte{1})
	old := root.again(t, root, func(c *x509.Certificate) { c.NotBefore = time.Time{} })
	card := old.issue(t, time.Time{}, until("2028-02-01T12:00:00Z"))
	for ca, want := range map[*x509.Certificate]bool{old.cert: true, root.cert: false} {
		g := newGuard(t, Config{Roots: []*x509.Certificate{ca}})
		v := g.Judge(Snapshot{Certificate: card}, time.Time{})
		assert.True(t, v.Has(NotYetValid))
		assert.Equal(t, !want, v.Has(ChainExpired))
		assert.Equal(t, want, chainOf(v) == nil)
		assert.Nil(t, chainOf(g.Judge(Snapshot{Certificate: card}, judgedThen)))
	}
}

func TestWithoutRootsTheVerdictSaysThatTheChainWasNotChecked(t *testing.T) {
	ca, unknown := newAuthority(t, "CA", []byte{1}), newAuthority(t, "Unknown", nil)
	for name, g := range map[string]*Guard{
		"nothing": newGuard(t, Config{}), "issuers alone": newGuard(t, Config{Issuers: certs(ca)}),
		"issuers and lists": newGuard(t, Config{Issuers: certs(ca), Revocation: &lists{}}),
		"no roots":          newGuard(t, Config{Issuers: certs(ca), Roots: []*x509.Certificate{}}),
	} {
		for _, by := range []authority{ca, unknown} {
			v := g.Judge(Snapshot{Certificate: by.issue(t, issuedThen)}, judgedThen)
			assert.Equal(t, DecisionAllowed, v.Decision, name)
			assert.Contains(t, v.NotChecked, NotChecked{CheckChain, "the guard has no trusted roots to judge by"}, name)
			v = g.Judge(Snapshot{Certificate: by.issue(t, issuedThen)}, issuedThen.AddDate(2, 0, 0))
			assert.Equal(t, DecisionRefused, v.Decision, name)
		}
	}
}

// A CA above the issuer can be revoked whether there is a root or not.
func TestWithoutRootsTheCAsAboveAreAskedAboutToo(t *testing.T) {
	root := newAuthority(t, "Root", []byte{1})
	middle := root.below(t, "Middle")
	ca := middle.below(t, "CA")
	odd := middle.below(t, "Odd", extension(asn1.ObjectIdentifier{1, 2, 3}, true, []byte{5, 0}))
	cross := middle.again(t, newAuthority(t, "Other", nil))
	for _, tt := range []struct {
		name string
		by   authority
		c    Config
		want []Reason
	}{
		{"no root is configured", ca, Config{Issuers: certs(root, middle, ca)}, []Reason{CARevoked}},
		{"its issuer is not configured", ca, Config{Issuers: certs(middle, ca)}, []Reason{}},
		{"another root is configured", ca, Config{Issuers: certs(root, middle, ca), Roots: certs(newAuthority(t, "Other", nil))}, []Reason{ChainUntrusted, CARevoked}},
		{"the chain breaks a rule", odd, Config{Issuers: certs(middle, odd), Roots: certs(root)}, []Reason{ChainInvalid, CARevoked}},
		{"of two certificates for it one is revoked", ca, Config{Issuers: certs(root, middle, cross, ca)}, []Reason{}},
	} {
		tt.c.Revocation = about(middle.cert, RevocationStatus{State: StatusRevoked, Reason: "superseded", Since: issuedThen})
		v := newGuard(t, tt.c).Judge(Snapshot{Certificate: tt.by.issue(t, issuedThen)}, judgedThen)
		assert.Equal(t, tt.want, reasonsOf(v), tt.name)
	}
}

// Two CAs that certify each other, and many of one name, end nowhere else.
func TestChainsInCirclesEnd(t *testing.T) {
	a, b := newAuthority(t, "A", []byte{1}), newAuthority(t, "B", []byte{2})
	ab, ba := a.again(t, b), b.again(t, a)
	card := a.issue(t, issuedThen)
	for _, c := range []Config{
		{Issuers: certs(ab, ba), Revocation: &lists{}},
		{Issuers: certs(ab, ba), Roots: certs(newAuthority(t, "Root", nil)), Revocation: &lists{}},
		{Issuers: certs(ab, ba, a, b), Roots: certs(newAuthority(t, "Root", nil)), Revocation: &lists{}},
	} {
		v := newGuard(t, c).Judge(Snapshot{Certificate: card}, judgedThen)
		assert.Equal(t, len(c.Roots) > 0, v.Has(ChainUntrusted))
	}
	v := newGuard(t, Config{Issuers: certs(ab, ba), Roots: certs(b)}).Judge(Snapshot{Certificate: card}, judgedThen)
	assert.Empty(t, v.Findings)

	var all []authority // each certified by each of the level above: far more paths than anybody asks about
	level := certsOf(newAuthority(t, "Top", []byte{9}), newAuthority(t, "Top", []byte{8}), newAuthority(t, "Top", []byte{7}))
	for depth := range 6 {
		var next []authority
		for i := range 3 {
			ca := level[0].below(t, fmt.Sprint("Level ", depth))
			for _, by := range level {
				next = append(next, ca.again(t, by, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(int64(100*depth + 10*i + len(next))) }))
			}
		}
		all = append(all, next...)
		level = certsOf(next[0], next[3], next[6])
	}
	card = level[0].issue(t, issuedThen)
	asked := &lists{}
	g := newGuard(t, Config{Issuers: certs(all...), Roots: certs(newAuthority(t, "Root", nil)), Revocation: asked})
	v = g.Judge(Snapshot{Certificate: card}, judgedThen)
	assert.Equal(t, []Reason{ChainUntrusted}, reasonsOf(v))
	assert.LessOrEqual(t, len(asked.prepared), maxPaths*7)
}

// Of many chains some are asked about, and each begins with the certificate as it is.
func TestLessIsAskedThanThereAreChains(t *testing.T) {
	root := newAuthority(t, "Root", []byte{1})
	ca := root.below(t, "CA")
	card := ca.issue(t, issuedThen, extension(asn1.ObjectIdentifier{1, 2, 3}, true, []byte{5, 0}))
	var all []authority
	for i := range 20 {
		all = append(all, ca.again(t, root, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(int64(i + 10)) }))
	}
	leaves := 0
	asked := byChain(func(chain []*x509.Certificate) RevocationStatus {
		if chain[0].Equal(card.x) {
			leaves++
			assert.Equal(t, card.x, chain[0])
		}
		return RevocationStatus{State: StatusGood}
	})
	v := newGuard(t, Config{Roots: certs(root), Issuers: certs(all...), Revocation: asked}).Judge(Snapshot{Certificate: card}, judgedThen)
	assert.Equal(t, []Reason{CriticalExtension}, reasonsOf(v))
	assert.Equal(t, maxPaths, leaves)
}

// A hundred CAs of one name with keys of their own.
func TestManyCAsOfOneName(t *testing.T) {
	root := newAuthority(t, "Root", []byte{1})
	var all []authority
	for range 100 {
		all = append(all, root.below(t, "CA"))
	}
	g := newGuard(t, Config{Roots: certs(root), Issuers: certs(all...)})
	for _, ca := range certsOf(all[0], all[50], all[99]) {
		assert.Empty(t, g.Judge(Snapshot{Certificate: ca.issue(t, issuedThen)}, judgedThen).Findings)
	}
	v := g.Judge(Snapshot{Certificate: root.below(t, "CA").issue(t, issuedThen)}, judgedThen)
	assert.Equal(t, []Reason{ChainUntrusted}, reasonsOf(v))
}

// patchwork is a certificate whose CA is certified for every second month alone.
func patchwork(t *testing.T) (g *Guard, card *Certificate, months []time.Time) {
	root := newAuthority(t, "Root", []byte{1})
	ca := root.below(t, "CA")
	var all []authority
	card = ca.issue(t, issuedThen, until("2031-01-01T00:00:00Z"))
	for i := range 24 {
		month := at("2026-03-01T00:00:00Z").AddDate(0, 2*i, 0)
		months = append(months, month, month.AddDate(0, 1, 0))
		all = append(all, ca.again(t, root, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = month, month.AddDate(0, 1, 0).Add(-time.Second) }))
	}
	return newGuard(t, Config{Roots: certs(root), Issuers: certs(all...)}), card, months
}

func TestAnswersStayRightForMoreSpansThanAreKept(t *testing.T) {
	g, card, months := patchwork(t)
	judge := func(i int, off time.Duration) {
		t.Helper()
		v := g.Judge(Snapshot{Certificate: card}, months[i].Add(off))
		assert.Equal(t, (i%2 == 0) == (off >= 0), !v.Has(ChainExpired), "%d %s", i, off)
	}
	for range 2 {
		for i := range months {
			judge(i, -time.Second)
			judge(i, 0)
		}
		for i := len(months) - 1; i >= 0; i-- {
			judge(i, time.Second)
		}
		assert.LessOrEqual(t, len(*g.known(card).spans.Load()), maxSpans)
	}
}

func TestChainsAreForManyGoroutines(t *testing.T) {
	g, card, months := patchwork(t)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range len(months) {
				i = (i*7 + n*5) % len(months)
				v := g.Judge(Snapshot{Certificate: card}, months[i].Add(time.Duration(n)*time.Hour))
				assert.Equal(t, i%2 == 1, v.Has(ChainExpired))
			}
		})
	}
	wg.Wait()
}

// The certificates of the national test service, under their own CA.
func TestRealCertificatesHaveTheirChain(t *testing.T) {
	ca, err := ParseCertificate(need.Read(t, "eps", "certs", "NHS_INT_Level_1D.pem"))
	require.NoError(t, err)
	g := newGuard(t, Config{Roots: []*x509.Certificate{ca.X509()}})
	for name, want := range map[string][]Reason{
		"leaf_5dc9ad1f": {KeySmall}, "leaf_5dc9adec": {KeySmall}, "leaf_61004f5e": {KeySmall},
		"leaf_601af0cc": {ChainUntrusted, KeyUsageNotCritical, PolicyMissing, UserIDMissing},
	} {
		card := leaf(t, name)
		v := g.Judge(Snapshot{Certificate: card}, card.Info().NotBefore.AddDate(0, 1, 0))
		assert.Equal(t, want, reasonsOf(v), name)
	}
}

// pki is a little public key infrastructure, and what is known of how it was made.
type pki struct {
	roots, issuers []*x509.Certificate
	made           []madeCA
	card           *Certificate
	by             madeCA
}

type madeCA struct {
	cert            *x509.Certificate
	name, issuer    string
	key, signedBy   int
	isRoot, isKnown bool
}

var pkiStart = at("2026-01-01T00:00:00Z")

func pkiDay(n int) time.Time { return pkiStart.AddDate(0, 0, n) }

const pkiDays = 8

// drawPKI makes one to seven CAs of three names and four keys, each certified by
// itself or by one before it, and a card of one of them.
func drawPKI(t *rapid.T, keys []*ecdsa.PrivateKey) *pki {
	p := &pki{}
	dates := func(c *x509.Certificate, early int) {
		first := rapid.IntRange(0, pkiDays).Draw(t, "notBefore")
		first -= rapid.IntRange(0, 1).Draw(t, "early") * early
		c.NotBefore, c.NotAfter = pkiDay(first), pkiDay(rapid.IntRange(max(first, 0), pkiDays).Draw(t, "notAfter"))
	}
	rarely := func(what string) bool { return rapid.IntRange(0, 9).Draw(t, what) == 9 }
	serial := int64(0)
	create := func(c *x509.Certificate, by int, public crypto.PublicKey, self madeCA) *x509.Certificate {
		parent := self
		if by >= 0 {
			parent = p.made[by]
		}
		serial++
		c.SerialNumber = big.NewInt(serial)
		der, err := x509.CreateCertificate(rand.Reader, c, &x509.Certificate{Subject: pkix.Name{CommonName: parent.name}, SubjectKeyId: keyID(c, parent)}, public, keys[parent.key])
		require.NoError(t, err)
		cert, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		return cert
	}
	for i := range rapid.IntRange(1, 7).Draw(t, "CAs") {
		ca := madeCA{name: rapid.SampledFrom([]string{"A", "B", "C"}).Draw(t, "name"), key: rapid.IntRange(0, len(keys)-1).Draw(t, "key")}
		by := max(-1, rapid.IntRange(-2, i-1).Draw(t, "by"))
		ca.issuer, ca.signedBy = ca.name, ca.key
		if by >= 0 {
			ca.issuer, ca.signedBy = p.made[by].name, p.made[by].key
		}
		c := &x509.Certificate{
			Subject: pkix.Name{CommonName: ca.name}, BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
			MaxPathLen: rapid.SampledFrom([]int{-1, -1, -1, 0, 1}).Draw(t, "path length"),
		}
		c.MaxPathLenZero = c.MaxPathLen == 0
		dates(c, pkiDays)
		if rarely("no certSign") {
			c.KeyUsage = x509.KeyUsageCRLSign
		}
		if rarely("unknown critical") {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}
		if rarely("name constraints") {
			c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.org"}, true
		}
		ca.cert = create(c, by, keys[ca.key].Public(), ca)
		switch ca.isRoot = i == 0 || rarely("root"); {
		case ca.isRoot:
			p.roots = append(p.roots, ca.cert)
			ca.isKnown = true
		case !rarely("not configured"):
			p.issuers = append(p.issuers, ca.cert)
			ca.isKnown = true
		}
		p.made = append(p.made, ca)
	}
	c := &x509.Certificate{Subject: pkix.Name{CommonName: "123456789012_Card"}, KeyUsage: x509.KeyUsageContentCommitment}
	dates(c, 0)
	c.DNSNames = rapid.SampledFrom([][]string{nil, nil, {"example.org"}, {"example.com"}}).Draw(t, "names")
	c.ExtKeyUsage = rapid.SampledFrom([][]x509.ExtKeyUsage{nil, nil, {x509.ExtKeyUsageTimeStamping}}).Draw(t, "extended key usage")
	by := rapid.IntRange(0, len(p.made)-1).Draw(t, "the card by")
	p.by = p.made[by]
	var err error
	p.card, err = ParseCertificate(create(c, by, cardKey().Public(), madeCA{}).Raw)
	require.NoError(t, err)
	return p
}

// keyID is by name and key, and now and then there is none.
func keyID(c *x509.Certificate, ca madeCA) []byte {
	if c.NotAfter.Day()%3 == 0 {
		return nil
	}
	id := sha256.Sum256(fmt.Append(nil, ca.name, ca.key))
	return id[:8]
}

// verifies is the oracle.
func (p *pki) verifies(t *rapid.T, when time.Time) bool {
	roots, below := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range p.roots {
		roots.AddCert(c)
	}
	for _, c := range p.issuers {
		below.AddCert(c)
	}
	_, err := p.card.X509().Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: below, CurrentTime: when, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err == nil
}

// signed tells, by how it was made, whether signatures lead from a CA to a root; the
// name that the card has for its CA is not asked.
func (p *pki) signed(ca madeCA, seen []madeCA) bool {
	for _, o := range p.made {
		if !o.isKnown || len(seen) > 0 && o.name != ca.issuer || o.key != ca.signedBy || slices.ContainsFunc(seen, func(s madeCA) bool { return s.name == o.name && s.key == o.key }) {
			continue
		}
		if o.isRoot || p.signed(o, append(slices.Clone(seen), o)) {
			return true
		}
	}
	return false
}

// The chain check has something to say exactly when crypto/x509 finds no chain at the
// instant; and what it says is so.
func TestTheChainIsWhatCryptoX509Finds(t *testing.T) {
	var keys []*ecdsa.PrivateKey
	for range 4 {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		keys = append(keys, key)
	}
	found := map[Reason]int{}
	need.Cases(t, 5000)
	rapid.Check(t, func(t *rapid.T) {
		p := drawPKI(t, keys)
		g, err := New(Config{Roots: p.roots, Issuers: p.issuers})
		require.NoError(t, err)
		first, last := p.card.Info().NotBefore, p.card.Info().NotAfter
		ever := false
		for d := range pkiDays + 1 {
			if when := pkiDay(d); !when.Before(first) && !when.After(last) {
				ever = ever || p.verifies(t, when)
			}
		}
		signed := p.signed(madeCA{issuer: p.by.name, signedBy: p.by.key}, nil)
		instants := []time.Time{{}, pkiStart.AddDate(-50, 0, 0), pkiStart.AddDate(50, 0, 0)}
		for d := range pkiDays + 1 {
			for _, off := range []time.Duration{-time.Second, -1, 0, 1, time.Second} {
				instants = append(instants, pkiDay(d).Add(off))
			}
		}
		for _, when := range rapid.Permutation(instants).Draw(t, "instants") {
			inLife := when
			switch { // outside its own validity: the nearest instant inside
			case when.Before(first):
				inLife = first
			case when.After(last):
				inLife = last
			}
			good := p.verifies(t, inLife)
			v := g.Judge(Snapshot{Certificate: p.card}, when)
			f := chainOf(v)
			require.Equal(t, good, f == nil, "%s %s", when, v)
			if f == nil {
				found[Unspecified]++
				continue
			}
			found[f.Reason]++
			switch {
			case ever:
				require.Equal(t, ChainExpired, f.Reason, v)
			case signed:
				require.Equal(t, ChainInvalid, f.Reason, v)
			default:
				require.Equal(t, ChainUntrusted, f.Reason, v)
			}
		}
	})
	t.Logf("%d with a chain, %v", found[Unspecified], found)
	for _, r := range []Reason{Unspecified, ChainExpired, ChainInvalid, ChainUntrusted} {
		assert.NotZero(t, found[r], r)
	}
}
