package eps

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/status"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing/signingtest"
)

// TestReasonsAndDates: a compromise revokes whatever the date, and everything else what
// is signed from that second on. The national check and rxguard's agree.
func TestReasonsAndDates(t *testing.T) {
	w := newPKI(t)
	in := w.sample(t)
	for reason := range 12 {
		for name, after := range map[string]time.Duration{"a day before": -24 * time.Hour, "in that second": 0, "a second after": time.Second, "a year after": 365 * 24 * time.Hour} {
			t.Run(fmt.Sprintf("reason %d, revoked %s", reason, name), func(t *testing.T) {
				want := Passed
				if reason == 1 || reason == 2 || reason == 10 || after <= 0 {
					want = Failed
				}
				l := w.list(t, testcard.ListOptions{Revoked: revoked(w.leaf, testTime.Add(after), reason)})
				r := judge(t, w.verifier(l, w.arl), in)
				assert.Equal(t, want, check(t, r, "certificate_not_revoked").Result)
				assert.Equal(t, want, check(t, r, "certificate_revocation").Result)
				assert.Equal(t, want, r.National.Accept)
				assert.Equal(t, want, r.Rxguard.Accept)
			})
		}
	}
}

func TestSerialsAreComparedAsIntegers(t *testing.T) {
	w := newPKI(t)
	in := w.sample(t)
	one := big.NewInt(1)
	for _, n := range []*big.Int{new(big.Int).Add(w.leaf.SerialNumber, one), new(big.Int).Rsh(w.leaf.SerialNumber, 8), new(big.Int).Neg(w.leaf.SerialNumber)} {
		crl := w.list(t, testcard.ListOptions{Revoked: []x509.RevocationListEntry{{SerialNumber: n, RevocationTime: testTime.Add(-time.Hour), ReasonCode: 1}}})
		r := judge(t, w.verifier(crl, w.arl), in)
		assert.Equal(t, Passed, r.Rxguard.Accept, n)
		assert.Equal(t, Passed, r.National.Accept, n)
	}
}

// TestOneOfSeveralEntriesIsEnough for rxguard; the service stops at the first.
func TestOneOfSeveralEntriesIsEnough(t *testing.T) {
	w := newPKI(t)
	before, after := revoked(w.leaf, testTime.Add(-time.Hour), 4), revoked(w.leaf, testTime.Add(time.Hour), 4)
	for _, c := range []struct {
		entries  []x509.RevocationListEntry
		national Result
	}{{slices.Concat(after, before), Passed}, {slices.Concat(before, after), Failed}} {
		r := judge(t, w.verifier(w.list(t, testcard.ListOptions{Revoked: c.entries}), w.arl), w.sample(t))
		assert.Equal(t, c.national, check(t, r, "certificate_not_revoked").Result)
		assert.Equal(t, c.national, r.National.Accept)
		assert.Equal(t, Failed, check(t, r, "certificate_revocation").Result)
		assert.Equal(t, Failed, r.Rxguard.Accept)
	}
}

func TestAgeOfLists(t *testing.T) {
	w := newPKI(t)
	in := w.sample(t)
	const day = 24 * time.Hour
	for _, c := range []struct {
		name       string
		this, next time.Duration // from the instant judged
		result     Result
		warned     bool
		says       string
	}{
		{"in date", -time.Hour, time.Hour, Passed, false, ""},
		{"of that second", 0, time.Hour, Passed, false, ""},
		{"of a second later", time.Second, time.Hour, Passed, false, ""},
		{"of a week later", 7 * day, 8 * day, Passed, false, ""},
		{"in its last second", -time.Hour, 0, Passed, false, ""},
		{"a second after its end", -time.Hour, -time.Second, Passed, true, "fetch a new one"},
		{"a day after its end", -7 * day, -day, Passed, true, "fetch a new one"},
		{"a day and a second after its end", -7 * day, -day - time.Second, NotDecidable, false, "more than 24h0m0s before"},
		{"a year after its end", -366 * day, -365 * day, NotDecidable, false, "more than 24h0m0s before"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := testcard.ListOptions{ThisUpdate: testTime.Add(c.this), NextUpdate: testTime.Add(c.next)}
			for which, lists := range map[string][]*x509.RevocationList{
				"crl": {w.list(t, o), w.arl}, "arl": {w.crl, w.caList(t, o)},
			} {
				r := judge(t, w.verifier(lists...), in)
				age := check(t, r, which+"_age")
				assert.Equal(t, c.result, age.Result)
				assert.Equal(t, c.warned, age.Warning != "")
				assert.Contains(t, age.Why+age.Warning, c.says)
				assert.Equal(t, age.Why, check(t, r, map[string]string{"crl": "certificate_revocation", "arl": "ca_revocation"}[which]).Why)
				assert.Equal(t, c.result, r.Rxguard.Accept)
				assert.Equal(t, Passed, r.National.Accept, "the service never looks")
				assert.Empty(t, not(r.National))
			}
			o.Revoked = revoked(w.leaf, testTime.Add(-400*day), 4)
			r := judge(t, w.verifier(w.list(t, o), w.arl), in)
			assert.Equal(t, Failed, check(t, r, "certificate_revocation").Result, "what is revoked is, however old the list")
			assert.Equal(t, Failed, r.Rxguard.Accept)
		})
	}
	t.Run("later than the certificate's end", func(t *testing.T) {
		crl := w.list(t, testcard.ListOptions{ThisUpdate: w.leaf.NotAfter.Add(time.Second), NextUpdate: w.leaf.NotAfter.Add(day)})
		r := judge(t, w.verifier(crl, w.arl), in)
		assert.Equal(t, NotDecidable, r.Rxguard.Accept)
		assert.Contains(t, check(t, r, "crl_age").Why, "after which lists leave it out")
	})
	t.Run("without nextUpdate", func(t *testing.T) {
		crl := changed(t, w.ca, w.crl, func(l *tbsList) { l.NextUpdate = time.Time{} })
		r := judge(t, w.verifier(crl, w.arl), in)
		assert.Equal(t, NotDecidable, r.Rxguard.Accept)
		assert.Contains(t, check(t, r, "crl_age").Why, "has no nextUpdate")
	})
}

func TestOfCopiesTheNewestCounts(t *testing.T) {
	w := newPKI(t)
	in := w.sample(t)
	on := revoked(w.leaf, testTime.Add(-72*time.Hour), 6)
	at := func(number int64, age time.Duration, entries []x509.RevocationListEntry) *x509.RevocationList {
		return w.list(t, testcard.ListOptions{Number: number, ThisUpdate: testTime.Add(-age), Revoked: entries})
	}
	unnumbered := func(l *x509.RevocationList) *x509.RevocationList {
		return changed(t, w.ca, l, func(l *tbsList) { l.without(oidCRLNumber) })
	}
	old, recent := at(3, 48*time.Hour, on), at(4, time.Hour, nil)
	oldClear, recentOn := at(3, 48*time.Hour, nil), at(4, time.Hour, on)
	for _, c := range []struct {
		name     string
		lists    []*x509.RevocationList
		national Result
		own      Result
	}{
		{"a hold that was lifted", []*x509.RevocationList{old, recent}, Passed, Passed},
		{"in the other order", []*x509.RevocationList{recent, old}, Passed, Passed},
		{"a new revocation", []*x509.RevocationList{oldClear, recentOn}, Failed, Failed},
		{"in the other order", []*x509.RevocationList{recentOn, oldClear}, Failed, Failed},
		{"without numbers", []*x509.RevocationList{unnumbered(recent), unnumbered(old)}, Passed, Passed},
		{"one without number", []*x509.RevocationList{unnumbered(recent), old}, Passed, Passed},
		{"the same one twice", []*x509.RevocationList{recent, recent}, Passed, Passed},
		{"a later one does not clear, the one before does", []*x509.RevocationList{at(5, -time.Hour, nil), recent}, Passed, Passed},
		{"a later one does not clear what was on hold then", []*x509.RevocationList{at(5, -time.Hour, nil), recentOn}, Passed, Failed},
		{"a later one alone", []*x509.RevocationList{at(5, -time.Hour, nil)}, Passed, Passed},
		{"a later one that revokes", []*x509.RevocationList{at(5, -time.Hour, revoked(w.leaf, testTime.Add(time.Minute), 1)), recent}, Failed, Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := judge(t, w.verifier(append(c.lists, w.arl)...), in)
			assert.Equal(t, c.national, check(t, r, "certificate_not_revoked").Result)
			assert.Equal(t, c.own, check(t, r, "certificate_revocation").Result)
		})
	}
}

// TestWhoSignedAList: the national service does not look, rxguard goes by no other.
func TestWhoSignedAList(t *testing.T) {
	w := newPKI(t)
	in := w.sample(t)
	forged := func(l *x509.RevocationList) *x509.RevocationList {
		c := *l
		c.Raw = bytes.Clone(l.Raw)
		c.Raw[len(c.Raw)-9] ^= 1
		return &c
	}
	noCRLSign := func(c *x509.Certificate) *x509.Certificate {
		d := *c
		d.KeyUsage = x509.KeyUsageCertSign
		return &d
	}
	cleared := w.list(t, testcard.ListOptions{Number: 9})
	on := w.list(t, testcard.ListOptions{Revoked: revoked(w.leaf, testTime.Add(-time.Hour), 1)})
	for _, c := range []struct {
		name      string
		v         *Verifier
		national  Result // of check 6
		signature string // the check that is not decidable
		own       Result
		says      string
	}{
		{"a signature that does not verify", w.verifier(forged(w.crl), w.arl), Passed, "crl_signature", NotDecidable, "does not verify with the key of certificate"},
		{"one beside a good one", w.verifier(forged(cleared), w.crl, w.arl), Passed, "", Passed, ""},
		{"one that hides a revocation", w.verifier(forged(cleared), on, w.arl), Passed, "", Failed, ""},
		{"one that says revoked", w.verifier(forged(on), w.arl), Failed, "crl_signature", Failed, ""},
		{"a CA that may not sign lists", &Verifier{CAs: []*x509.Certificate{noCRLSign(w.ca.IssuingCertificate()), w.ca.RootCertificate()}, Lists: read(w.crl, w.arl)},
			Passed, "crl_signature", NotDecidable, "may not sign lists"},
		{"an ARL whose signature does not verify", w.verifier(w.crl, forged(w.arl)), Passed, "arl_signature", NotDecidable, "does not verify"},
		{"a root that may not sign lists", &Verifier{CAs: []*x509.Certificate{w.ca.IssuingCertificate(), noCRLSign(w.ca.RootCertificate())}, Lists: read(w.crl, w.arl)},
			Passed, "arl_signature", NotDecidable, "may not sign lists"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := judge(t, c.v, in)
			assert.Equal(t, c.national, check(t, r, "certificate_not_revoked").Result)
			assert.Equal(t, c.own, r.Rxguard.Accept)
			if c.signature != "" {
				assert.Equal(t, NotDecidable, check(t, r, c.signature).Result)
				assert.Contains(t, check(t, r, c.signature).Why, c.says)
			}
		})
	}
}

// The DER of issuing distribution points (RFC 5280 5.2.5), by hand.
func sequence(tag byte, inner ...[]byte) []byte {
	b := bytes.Join(inner, nil)
	if len(b) >= 0x80 {
		panic("too long for a test")
	}
	return append([]byte{tag, byte(len(b))}, b...)
}

func pointAt(url string) []byte { return sequence(0xa0, sequence(0xa0, sequence(0x86, []byte(url)))) }

func issuing(value ...[]byte) []pkix.Extension {
	return []pkix.Extension{{Id: oidIssuingPoint, Critical: true, Value: sequence(0x30, value...)}}
}

func isTrue(tag byte) []byte { return []byte{tag, 1, 0xff} }

// Extensions of lists and of their entries (RFC 5280 5.2, 5.3).
var (
	oidCRLNumber         = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidDeltaIndicator    = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIssuingPoint      = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidCertificateIssuer = asn1.ObjectIdentifier{2, 5, 29, 29}
	oidAuthorityKeyID    = asn1.ObjectIdentifier{2, 5, 29, 35}
)

// TestWhichListIsTheLeafs: by issuer, distribution point, and kind of certificate.
func TestWhichListIsTheLeafs(t *testing.T) {
	w := newPKI(t)
	in := w.sample(t)
	for _, c := range []struct {
		name          string
		extensions    []pkix.Extension
		national, own Result
		says          string
	}{
		{"no issuing distribution point", nil, Failed, Failed, ""},
		{"its point", issuing(pointAt(crlURL)), Failed, Failed, ""},
		{"another point", issuing(pointAt("http://crl.example/crl2.crl")), NotDecidable, NotDecidable, "no CRL of certificate"},
		{"the same point in capitals", issuing(pointAt(strings.ToUpper(crlURL))), NotDecidable, NotDecidable, "no CRL of certificate"},
		{"several names, its point among them", issuing(sequence(0xa0, sequence(0xa0, sequence(0x86, []byte("ldap://x/")), sequence(0x86, []byte(crlURL))))), Failed, Failed, ""},
		{"user certificates only", issuing(isTrue(0x81)), Failed, Failed, ""},
		{"CA certificates only", issuing(isTrue(0x82)), NotDecidable, NotDecidable, "no CRL of certificate"},
		{"attribute certificates only", issuing(isTrue(0x85)), NotDecidable, NotDecidable, "no CRL of certificate"},
		{"an indirect one of its issuer's", issuing(isTrue(0x84)), Failed, Failed, ""},
		{"some reasons only", issuing([]byte{0x83, 2, 6, 0x40}), Failed, Failed, ""},
		{"no reason", issuing([]byte{0x83, 1, 0}), NotDecidable, NotDecidable, "no CRL of certificate"},
		{"a default spelt out", issuing([]byte{0x81, 1, 0}), Failed, Failed, ""},
		{"an unknown critical extension", []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}, Failed, Failed, ""},
		{"an unknown extension", []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}}, Failed, Failed, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := testcard.ListOptions{Extensions: c.extensions, Revoked: revoked(w.leaf, testTime.Add(-time.Hour), 4)}
			r := judge(t, w.verifier(w.list(t, o), w.arl), in)
			assert.Equal(t, c.national, check(t, r, "certificate_not_revoked").Result)
			own := check(t, r, "certificate_revocation")
			assert.Equal(t, c.own, own.Result)
			assert.Contains(t, own.Why, c.says)

			o.Revoked = nil
			want := map[Result]Result{Failed: Passed, NotDecidable: NotDecidable}
			without := map[string]string{"some reasons only": "some revocation reasons only", "an unknown critical extension": "critical extension 1.2.3 is not known here"}[c.name]
			if without != "" {
				want[Failed] = NotDecidable
			}
			own = check(t, judge(t, w.verifier(w.list(t, o), w.arl), in), "certificate_revocation")
			assert.Equal(t, want[c.own], own.Result, "without the entry")
			assert.Contains(t, own.Why, without)
		})
	}
	for name, extensions := range map[string][]pkix.Extension{
		"parts in the wrong order": issuing(isTrue(0x84), isTrue(0x81)),
		"bytes that are not DER":   {{Id: oidIssuingPoint, Critical: true, Value: []byte{0x30, 0x80, 0, 0}}},
		"a delta":                  {{Id: oidDeltaIndicator, Critical: true, Value: []byte{2, 1, 1}}},
	} {
		_, err := status.Parse(w.list(t, testcard.ListOptions{Extensions: extensions}).Raw, 0)
		assert.Error(t, err, "%s: it is no list", name)
	}

	t.Run("two lists that are about all reasons together", func(t *testing.T) {
		some := w.list(t, testcard.ListOptions{Extensions: issuing([]byte{0x83, 2, 6, 0x40})})
		others := w.list(t, testcard.ListOptions{Extensions: issuing([]byte{0x83, 3, 7, 0x3f, 0x80})})
		assert.Equal(t, Passed, check(t, judge(t, w.verifier(some, others, w.arl), in), "certificate_revocation").Result)
	})
	t.Run("a list that cannot be read beside one that can", func(t *testing.T) {
		for age, want := range map[time.Duration]Result{2 * time.Hour: Passed, time.Minute: NotDecidable} { // w.crl is of an hour
			bad := w.list(t, testcard.ListOptions{ThisUpdate: testTime.Add(-age), Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}})
			assert.Equal(t, want, check(t, judge(t, w.verifier(bad, w.crl, w.arl), in), "certificate_revocation").Result, "of %v ago", age)
		}
	})
	t.Run("an unknown critical extension of any entry", func(t *testing.T) {
		l := w.list(t, testcard.ListOptions{Revoked: []x509.RevocationListEntry{{SerialNumber: big.NewInt(5), RevocationTime: testTime,
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}}}})
		r := judge(t, w.verifier(l, w.arl), in)
		assert.Equal(t, Passed, check(t, r, "certificate_not_revoked").Result, "the service does not look")
		assert.Contains(t, check(t, r, "certificate_revocation").Why, "critical extension 1.2.3 of its entry 05")
	})
	t.Run("a list of another issuer", func(t *testing.T) {
		assert.Equal(t, NotDecidable, check(t, judge(t, w.verifier(w.arl), in), "certificate_revocation").Result)
	})
}

// TestIndirectEntriesAreByCertificateIssuer: RFC 5280 5.3.3, it holds until another is
// named.
func TestIndirectEntriesAreByCertificateIssuer(t *testing.T) {
	w := newPKI(t)
	in := w.sample(t)
	other, err := asn1.Marshal(pkix.Name{CommonName: "Another CA"}.ToRDNSequence())
	require.NoError(t, err)
	of := func(name []byte) []pkix.Extension {
		return []pkix.Extension{{Id: oidCertificateIssuer, Critical: true, Value: sequence(0x30, append([]byte{0xa4, byte(len(name))}, name...))}}
	}
	filler := x509.RevocationListEntry{SerialNumber: big.NewInt(77), RevocationTime: testTime.Add(-time.Hour)}
	entry := revoked(w.leaf, testTime.Add(-time.Hour), 4)[0]
	with := func(e x509.RevocationListEntry, x []pkix.Extension) x509.RevocationListEntry {
		e.ExtraExtensions = x
		return e
	}
	for _, c := range []struct {
		name    string
		entries []x509.RevocationListEntry
		want    Result
	}{
		{"the list's issuer where none is named", []x509.RevocationListEntry{entry}, Failed},
		{"another issuer's", []x509.RevocationListEntry{with(entry, of(other))}, Passed},
		{"after another issuer's", []x509.RevocationListEntry{with(filler, of(other)), entry}, Passed},
		{"named again", []x509.RevocationListEntry{with(filler, of(other)), with(entry, of(w.leaf.RawIssuer))}, Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := w.list(t, testcard.ListOptions{Extensions: issuing(isTrue(0x84)), Revoked: c.entries})
			assert.Equal(t, c.want, check(t, judge(t, w.verifier(l, w.arl), in), "certificate_revocation").Result)
		})
	}
	t.Run("an issuer that cannot be read", func(t *testing.T) {
		l := w.list(t, testcard.ListOptions{Extensions: issuing(isTrue(0x84)),
			Revoked: []x509.RevocationListEntry{with(filler, []pkix.Extension{{Id: oidCertificateIssuer, Critical: true, Value: []byte{0x30, 0}}})}})
		_, err := status.Parse(l.Raw, 0)
		assert.Error(t, err)
	})
	t.Run("a list that is not indirect", func(t *testing.T) {
		l := w.list(t, testcard.ListOptions{Revoked: []x509.RevocationListEntry{with(entry, of(other))}})
		assert.Equal(t, Failed, check(t, judge(t, w.verifier(l, w.arl), in), "certificate_revocation").Result)
		l = w.list(t, testcard.ListOptions{Revoked: []x509.RevocationListEntry{with(filler, of(other))}})
		r := judge(t, w.verifier(l, w.arl), in)
		assert.Equal(t, NotDecidable, check(t, r, "certificate_revocation").Result)
		assert.Contains(t, check(t, r, "certificate_revocation").Why, "2.5.29.29")
	})
}

// TestAnIndirectListCountsBelowTheSameRoot: a CA that is configured for others, and has
// the name that the certificate gives, may not speak for it.
func TestAnIndirectListCountsBelowTheSameRoot(t *testing.T) {
	name, err := asn1.Marshal(pkix.Name{CommonName: "Lists"}.ToRDNSequence())
	require.NoError(t, err)
	at := sequence(0x30, sequence(0x30, pointAt(crlURL), sequence(0xa2, sequence(0xa4, name))))
	v, leaf := leafLike(t, testKey(), func(leaf, _ *x509.Certificate) {
		leaf.CRLDistributionPoints = nil
		leaf.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 31}, Value: at}}
	})
	ca, own := v.CAs[0], v.Lists[0]
	in := replaceCert(t, signedMessage(t, message(signingtest.MessageConfig{}), RS256, testKey(), certAt(t, testTime)), leaf)
	template := &x509.Certificate{SerialNumber: serial(3), RawSubject: name, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, SubjectKeyId: []byte{4, 5, 6}}
	issuerOf := sequence(0x30, append([]byte{0xa4, byte(len(ca.RawSubject))}, ca.RawSubject...))
	for _, c := range []struct {
		name             string
		by               *x509.Certificate
		key              crypto.Signer
		revoked, without Result
	}{
		{"of the CA", ca, otherKey(), Failed, Passed},
		{"of itself", template, ecKey(), Passed, NotDecidable},
	} {
		t.Run(c.name, func(t *testing.T) {
			der, err := x509.CreateCertificate(rand.Reader, template, c.by, ecKey().Public(), c.key)
			require.NoError(t, err)
			lists, err := x509.ParseCertificate(der)
			require.NoError(t, err)
			indirect := func(entries []x509.RevocationListEntry) *status.List {
				der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: serial(1), ThisUpdate: testTime.Add(-time.Hour), NextUpdate: testTime.Add(time.Hour),
					ExtraExtensions: issuing(pointAt(crlURL), isTrue(0x84)), RevokedCertificateEntries: entries}, lists, ecKey())
				require.NoError(t, err)
				l, err := status.Parse(der, 0)
				require.NoError(t, err)
				return l
			}
			entry := revoked(leaf, testTime.Add(-time.Hour), 4)
			entry[0].ExtraExtensions = []pkix.Extension{{Id: oidCertificateIssuer, Critical: true, Value: issuerOf}}
			r := judge(t, &Verifier{CAs: []*x509.Certificate{ca, lists}, Lists: []*status.List{own, indirect(entry)}}, in)
			assert.Equal(t, Failed, check(t, r, "certificate_not_revoked").Result, "the service does not look who signed it")
			assert.Equal(t, c.revoked, check(t, r, "certificate_revocation").Result)

			about := own // the CA's own list, about the indirect one's issuer
			if c.without == NotDecidable {
				about = nil
			}
			r = judge(t, &Verifier{CAs: []*x509.Certificate{ca, lists}, Lists: []*status.List{about, indirect(nil)}}, in)
			assert.Equal(t, c.without, check(t, r, "certificate_revocation").Result)
		})
	}
}

// TestDistributionPointsOfTheLeaf: the service fetches http URLs and nothing else.
func TestDistributionPointsOfTheLeaf(t *testing.T) {
	w := newPKI(t)
	on := func(c *x509.Certificate) *x509.RevocationList {
		return w.list(t, testcard.ListOptions{Revoked: revoked(c, testTime.Add(-time.Hour), 1)})
	}
	for _, c := range []struct {
		name     string
		urls     []string
		national Result
		says     string
	}{
		{"http", []string{crlURL}, Failed, "is on the list"},
		{"a second one", []string{"ldap://x/", crlURL}, Failed, "is on the list"},
		{"https", []string{"https://crl.example/crl1.crl"}, Failed, "is on the list"},
		{"ldap alone", []string{"ldap://x/"}, NotDecidable, "names no http CRL distribution point; the service passes it without a look"},
	} {
		t.Run(c.name, func(t *testing.T) {
			leaf := w.issue(t, c.urls...)
			r := judge(t, w.verifier(on(leaf), w.arl), w.signedWith(t, leaf))
			six := check(t, r, "certificate_not_revoked")
			assert.Equal(t, c.national, six.Result)
			assert.Contains(t, six.Why, c.says)
			assert.Equal(t, Failed, check(t, r, "certificate_revocation").Result)
			assert.Equal(t, Failed, r.Rxguard.Accept)
			if c.national == NotDecidable {
				assert.Equal(t, Passed, r.National.Accept, "it fails open")
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		leaf, err := w.ca.Issue(testcard.Signing, testKey().Public(), testcard.IssueOptions{Subject: testcard.Subject(user), NotBefore: testTime.AddDate(0, -1, 0)})
		require.NoError(t, err)
		in := w.signedWith(t, leaf)
		r := judge(t, w.verifier(), in)
		assert.Equal(t, map[string]Result{"certificate_not_revoked": NotDecidable}, not(r.National))
		assert.Equal(t, Passed, r.Rxguard.Accept)
		assert.Equal(t, Failed, judge(t, w.verifier(on(leaf), w.arl), in).Rxguard.Accept)
	})
}

// TestAListOfAHundredThousand is looked through once: a second look allocates nothing
// that grows with it.
func TestAListOfAHundredThousand(t *testing.T) {
	w := newPKI(t)
	entries := make([]x509.RevocationListEntry, 100_000)
	for i := range entries {
		entries[i] = x509.RevocationListEntry{SerialNumber: big.NewInt(int64(0x5dc90000 + i)), RevocationTime: testTime.Add(-time.Hour)}
	}
	in := w.sample(t)
	clear := w.list(t, testcard.ListOptions{Revoked: entries})
	v := w.verifier(clear, w.arl)
	assert.Equal(t, Passed, judge(t, v, in).Rxguard.Accept)
	require.Equal(t, 100_000, v.Lists[0].Len())
	few := w.verifier()
	judge(t, few, in)
	p := parsed(t, string(in)).Prescriptions()[0]
	assert.InDelta(t, testing.AllocsPerRun(20, func() { few.Verify(p) }), testing.AllocsPerRun(20, func() { v.Verify(p) }), 2)

	entries[99_999].SerialNumber = w.leaf.SerialNumber
	assert.Equal(t, Failed, judge(t, w.verifier(w.list(t, testcard.ListOptions{Revoked: entries}), w.arl), in).Rxguard.Accept)
}
