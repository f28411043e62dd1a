package eps

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing/signingtest"
)

// TestRealPrescriptionsAreJudgedAsByTheService gives the service's own verifier's
// verdicts, with one issuing CA and no list.
func TestRealPrescriptionsAreJudgedAsByTheService(t *testing.T) {
	v := &Verifier{CAs: []*x509.Certificate{readCert(t, "eps", "certs", "NHS_INT_Level_1D.pem")}}
	noLists := map[string]Result{"certificate_not_revoked": NotDecidable, "ca_not_revoked": NotDecidable}
	with := func(of map[string]Result, failed ...string) map[string]Result {
		m := map[string]Result{}
		for k, r := range of {
			m[k] = r
		}
		for _, k := range failed {
			m[k] = Failed
		}
		return m
	}
	unlisted := map[string]Result{}
	for _, k := range []string{"crl_signature", "crl_age", "certificate_revocation", "arl_signature", "arl_age", "ca_revocation"} {
		unlisted[k] = NotDecidable
	}
	unknownCA := with(unlisted)
	unknownCA["issuer_signature"], unknownCA["issuer_chain"] = NotDecidable, NotDecidable
	unsigned, unread := map[string]Result{"elements_present": Failed}, map[string]Result{"structure": Failed}
	for _, c := range table[1:] {
		unsigned[c.name] = NotDecidable
	}
	for _, c := range ownTable[1:14] {
		unread[c.name] = NotDecidable
	}
	sha1 := []string{"signed_info", "key_size"}
	level2D := []string{"signed_info", "key_usage", "policy"}

	for _, c := range []struct {
		name             string
		said             []string // by the service
		national, own    map[string]Result
		accept, rxguard  Result
		warned           []string
		serial, signedAt string
	}{
		{"release_success", nil, noLists, unlisted, Passed, NotDecidable, sha1, "61004f5e", "2022-12-12T10:10:55Z"},
		{"release_invalid", []string{"Signature is invalid"}, with(noLists, "signature_valid"), with(unlisted, "structure"), Failed, Failed, sha1, "61004f5e", "2022-12-12T10:10:55Z"},
		{"ValidSignature", []string{"Certificate not trusted"}, with(noLists, "issuer_trusted"), unknownCA, Failed, Failed, level2D, "601af0cc", "2021-07-26T12:05:22Z"},
		{"SignatureIsInvalid", []string{"Signature is invalid"}, with(noLists, "signature_valid"), unlisted, Failed, Failed, sha1, "5dc9ad1f", "2021-07-26T12:05:22Z"},
		{"SignatureDoesNotMatchPrescription", []string{"Signature is invalid", "Signature doesn't match prescription", "Certificate not trusted"},
			with(noLists, "signature_valid", "matches_prescription", "issuer_trusted"), unknownCA, Failed, Failed, level2D, "601af0cc", "2021-07-26T12:05:22Z"},
		{"repeat_prescribing_release_success", []string{"Invalid signature format"}, unsigned, unread, Failed, Failed, nil, "", "2022-02-03T16:25:38Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := judge(t, v, need.Read(t, "eps", "prescriptions", c.name+".xml"))
			var said []string
			for i, k := range r.National.Checks {
				assert.Equal(t, i+1, k.Number)
				assert.Equal(t, k.Result == Passed, k.Why == "", "%+v", k)
				if k.Result == Failed {
					said = append(said, k.Text)
				}
			}
			assert.Equal(t, c.said, said)
			assert.Equal(t, c.national, not(r.National))
			assert.Equal(t, c.own, not(r.Rxguard))
			assert.Equal(t, c.warned, warnings(r.Rxguard))
			assert.Equal(t, c.accept, r.National.Accept)
			assert.Equal(t, c.rxguard, r.Rxguard.Accept)
			assert.Equal(t, c.signedAt, r.SignedAt.Format(time.RFC3339))
			assert.Equal(t, r.SignedAt, r.JudgedAt)
			assert.Positive(t, r.Line)
			assert.Len(t, r.ID, 36)
			assert.Len(t, r.ShortID, 20)
			if c.serial == "" {
				assert.Nil(t, r.Certificate)
				return
			}
			require.NotNil(t, r.Certificate)
			assert.Equal(t, c.serial, r.Certificate.Serial)
			assert.Contains(t, r.Certificate.Issuer, "CN=NHS INT Level")
			assert.Len(t, r.Certificate.SHA256, 64)
		})
	}
}

// TestWithListsEveryCheckIsDecided has lists of the test CA: all pass, and each of 6
// and 7 fails in its turn.
func TestWithListsEveryCheckIsDecided(t *testing.T) {
	w := newPKI(t)
	in := w.sample(t)
	v := w.verifier()
	v.MatchPrescriber = true
	r := judge(t, v, in)
	assert.Len(t, r.National.Checks, 9)
	assert.Len(t, r.Rxguard.Checks, 15)
	assert.Empty(t, not(r.National), "%+v", r.National)
	assert.Empty(t, not(r.Rxguard), "%+v", r.Rxguard)
	assert.Empty(t, warnings(r.Rxguard))
	assert.Equal(t, Passed, r.National.Accept)
	assert.Equal(t, Passed, r.Rxguard.Accept)

	before := testTime.Add(-24 * time.Hour)
	r = judge(t, w.verifier(w.list(t, testcard.ListOptions{Revoked: revoked(w.leaf, before, 4)}), w.arl), in)
	assert.Equal(t, map[string]Result{"certificate_not_revoked": Failed}, not(r.National))
	assert.Equal(t, map[string]Result{"certificate_revocation": Failed}, not(r.Rxguard))
	assert.Equal(t, "Certificate is revoked", r.National.Checks[5].Text)
	for _, says := range []string{serialOf(w.leaf), "number 1 of 2020-10-02T08:00:00Z", "at 2020-10-01T09:00:00Z", "reason 4 (superseded)"} {
		assert.Contains(t, r.National.Checks[5].Why, says)
	}
	assert.Equal(t, Failed, r.National.Accept)
	assert.Equal(t, Failed, r.Rxguard.Accept)

	r = judge(t, w.verifier(w.crl, w.caList(t, testcard.ListOptions{Revoked: revoked(w.ca.IssuingCertificate(), before, 5)})), in)
	assert.Equal(t, map[string]Result{"ca_not_revoked": Failed}, not(r.National))
	assert.Equal(t, map[string]Result{"ca_revocation": Failed}, not(r.Rxguard))
	assert.Equal(t, "CA certificate is revoked", r.National.Checks[6].Text)
	assert.Equal(t, Failed, r.National.Accept)
	assert.Equal(t, Failed, r.Rxguard.Accept)
}

// TestALeafThatCopiesItsIssuersNames is signed by another key: the service goes by
// names and accepts it.
func TestALeafThatCopiesItsIssuersNames(t *testing.T) {
	w := newPKI(t)
	claimed := *w.ca.IssuingCertificate()
	claimed.PublicKey = otherKey().Public()
	template := *w.leaf
	der, err := x509.CreateCertificate(nil, &template, &claimed, testKey().Public(), otherKey())
	require.NoError(t, err)
	forged, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	require.Equal(t, w.leaf.RawIssuer, forged.RawIssuer)
	require.Equal(t, w.leaf.AuthorityKeyId, forged.AuthorityKeyId)

	r := judge(t, w.verifier(), signedMessage(t, message(signingtest.MessageConfig{User: user}), RS256, testKey(), forged))
	assert.Empty(t, not(r.National))
	assert.Equal(t, Passed, r.National.Accept, "the national service would accept it")
	assert.Equal(t, Failed, r.Rxguard.Accept)
	c := check(t, r, "issuer_signature")
	assert.Equal(t, Failed, c.Result)
	assert.Contains(t, c.Why, "verifies with the key of none of the 1 configured CAs of that name")
	for _, name := range []string{"issuer_chain", "crl_signature", "crl_age", "certificate_revocation", "arl_signature", "arl_age", "ca_revocation"} {
		assert.Equal(t, NotDecidable, check(t, r, name).Result, "nothing is said of a forged certificate by lists: %s", name)
	}
}

// TestCAsOfOneNameAreToldApartByKey: two mock CAs share theirs in the field.
func TestCAsOfOneNameAreToldApartByKey(t *testing.T) {
	w := newPKI(t)
	other, err := testcard.NewCA(testcard.CAConfig{Now: func() time.Time { return testTime }})
	require.NoError(t, err)
	require.Equal(t, other.IssuingCertificate().RawSubject, w.ca.IssuingCertificate().RawSubject)
	in := w.sample(t)

	v := w.verifier()
	v.CAs = append([]*x509.Certificate{other.IssuingCertificate(), other.RootCertificate()}, v.CAs...)
	r := judge(t, v, in)
	assert.Equal(t, Passed, r.Rxguard.Accept, "%+v", r)
	assert.Empty(t, not(r.National), "the service finds the issuing CA by key id")

	// The other CA's lists are not this one's, although all names are the same.
	foreign, err := other.CRL(testcard.ListOptions{Number: 9, ThisUpdate: testTime.Add(-time.Minute), Revoked: revoked(w.leaf, testTime.Add(-time.Hour), 1)})
	require.NoError(t, err)
	v = w.verifier(w.crl, w.arl, foreign)
	v.CAs = append(v.CAs, other.IssuingCertificate())
	assert.Equal(t, Passed, judge(t, v, in).Rxguard.Accept)
	v = w.verifier(foreign, w.arl)
	v.CAs = append(v.CAs, other.IssuingCertificate())
	r = judge(t, v, in)
	assert.Equal(t, NotDecidable, check(t, r, "certificate_revocation").Result)

	// Nor is it where it does not say which key it is of.
	unnamed := changed(t, other, foreign, func(l *tbsList) {
		l.without(oidAuthorityKeyID)
		l.Revoked = nil
	})
	v = w.verifier(unnamed, w.arl)
	v.CAs = append(v.CAs, other.IssuingCertificate())
	r = judge(t, v, in)
	assert.Equal(t, Passed, check(t, r, "certificate_not_revoked").Result, "the service does not look")
	assert.Equal(t, NotDecidable, check(t, r, "certificate_revocation").Result)
	assert.Contains(t, check(t, r, "crl_signature").Why, "is signed by another key")

	// Its key did not sign the leaf.
	v = &Verifier{CAs: []*x509.Certificate{other.IssuingCertificate()}}
	r = judge(t, v, in)
	assert.Equal(t, Failed, check(t, r, "issuer_trusted").Result, "key ids differ")
	assert.Equal(t, Failed, check(t, r, "issuer_signature").Result)
}

// TestWhatIsNotAtHandIsNotDecidable takes away one thing after the other.
func TestWhatIsNotAtHandIsNotDecidable(t *testing.T) {
	w := newPKI(t)
	in := w.sample(t)
	issuing := []*x509.Certificate{w.ca.IssuingCertificate()}
	for _, c := range []struct {
		name          string
		v             *Verifier
		national, own []string // not decidable
		accept        Result
	}{
		{"nothing at hand", &Verifier{}, []string{"certificate_not_revoked", "ca_not_revoked", "issuer_trusted"},
			[]string{"issuer_signature", "issuer_chain", "crl_signature", "crl_age", "certificate_revocation", "arl_signature", "arl_age", "ca_revocation"}, NotDecidable},
		{"no lists", w.verifier([]*x509.RevocationList{}...), []string{"certificate_not_revoked", "ca_not_revoked"},
			[]string{"crl_signature", "crl_age", "certificate_revocation", "arl_signature", "arl_age", "ca_revocation"}, Passed},
		{"no CRL", w.verifier(w.arl), []string{"certificate_not_revoked"}, []string{"crl_signature", "crl_age", "certificate_revocation"}, Passed},
		{"no ARL", w.verifier(w.crl), []string{"ca_not_revoked"}, []string{"arl_signature", "arl_age", "ca_revocation"}, Passed},
		{"no root to verify the ARL with", &Verifier{CAs: issuing, Lists: read(w.crl, w.arl)}, nil, []string{"arl_signature", "arl_age", "ca_revocation"}, Passed},
		{"lists and no CAs", &Verifier{Lists: read(w.crl, w.arl)}, []string{"ca_not_revoked", "issuer_trusted"},
			[]string{"issuer_signature", "issuer_chain", "crl_signature", "crl_age", "certificate_revocation", "arl_signature", "arl_age", "ca_revocation"}, NotDecidable},
		{"nils among CAs and lists", &Verifier{CAs: append(w.cas(), nil), Lists: read(nil, w.crl, w.arl)}, nil, nil, Passed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "no lists" {
				c.v.Lists = nil
			}
			r := judge(t, c.v, in)
			want := func(names []string) map[string]Result {
				m := map[string]Result{}
				for _, n := range names {
					m[n] = NotDecidable
				}
				return m
			}
			assert.Equal(t, want(c.national), not(r.National))
			assert.Equal(t, want(c.own), not(r.Rxguard))
			assert.Equal(t, c.accept, r.National.Accept, "the service fails open where lists are missing, and nowhere else")
			if len(c.own) > 0 {
				assert.Equal(t, NotDecidable, r.Rxguard.Accept)
			} else {
				assert.Equal(t, Passed, r.Rxguard.Accept)
			}
			for _, k := range slices.Concat(r.National.Checks, r.Rxguard.Checks) {
				assert.Equal(t, k.Result == Passed, k.Why == "", "%+v", k)
			}
		})
	}
}

// TestAtMovesOwnChecksOnly: the service's are always as of author/time.
func TestAtMovesOwnChecksOnly(t *testing.T) {
	w := newPKI(t)
	in := w.sample(t)
	later := w.leaf.NotAfter.Add(time.Hour)
	crl, arl := w.list(t, testcard.ListOptions{ThisUpdate: later.Add(-time.Hour)}), w.caList(t, testcard.ListOptions{ThisUpdate: later.Add(-time.Hour)})
	v := w.verifier(crl, arl)
	v.At = later
	r := judge(t, v, in)
	assert.Equal(t, testTime, r.SignedAt)
	assert.Equal(t, later, r.JudgedAt)
	assert.Empty(t, not(r.National))
	assert.Equal(t, map[string]Result{"validity": Failed}, not(r.Rxguard))
	assert.Contains(t, check(t, r, "validity").Why, "the instant judged is "+instant(later))

	// Superseded after it was signed: it stands as of then, and not as of now.
	crl = w.list(t, testcard.ListOptions{ThisUpdate: testTime.Add(2 * time.Hour), Revoked: revoked(w.leaf, testTime.Add(time.Hour), 4)})
	arl = w.caList(t, testcard.ListOptions{ThisUpdate: testTime.Add(2 * time.Hour)})
	v = w.verifier(crl, arl, w.crl, w.arl)
	assert.Equal(t, Passed, judge(t, v, in).Rxguard.Accept)
	v = w.verifier(crl, arl, w.crl, w.arl)
	v.At = testTime.Add(3 * time.Hour)
	r = judge(t, v, in)
	assert.Equal(t, Passed, r.National.Accept)
	assert.Equal(t, map[string]Result{"certificate_revocation": Failed}, not(r.Rxguard))
}

func TestValidityIsStrictToTheSecond(t *testing.T) {
	w := newPKI(t)
	for _, c := range []struct {
		name                string
		notBefore, notAfter time.Duration // from testTime
		ok                  bool
	}{
		{"from a second before", -time.Second, time.Hour, true},
		{"from that second", 0, time.Hour, false},
		{"to a second after", -time.Hour, time.Second, true},
		{"to that second", -time.Hour, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			leaf, err := w.ca.IssueListed(testcard.Signing, testKey().Public(), testcard.IssueOptions{
				Subject: testcard.Subject(user), NotBefore: testTime.Add(c.notBefore), NotAfter: testTime.Add(c.notAfter)}, crlURL)
			require.NoError(t, err)
			r := judge(t, w.verifier(), w.signedWith(t, leaf))
			if c.ok {
				assert.Equal(t, Passed, r.Rxguard.Accept)
				return
			}
			assert.Equal(t, map[string]Result{"valid_when_signed": Failed}, not(r.National))
			assert.Equal(t, map[string]Result{"validity": Failed}, not(r.Rxguard))
		})
	}
}

// signedWith is a signed message with another certificate of testKey.
func (w *pki) signedWith(t testing.TB, leaf *x509.Certificate) []byte {
	t.Helper()
	return replaceCert(t, w.sample(t), leaf)
}

func TestPrescriberIsTheSubjectsUser(t *testing.T) {
	w := newPKI(t)
	for _, c := range []struct {
		name, user, cn string
		result         Result
		says           string
	}{
		{"the same", user, user + "_Simulated_Prescriber", Passed, ""},
		{"another", "210987654321", user + "_Simulated_Prescriber", Failed, "is user 123456789012's, and the message names \"210987654321\""},
		{"none in the message", "", user + "_Simulated_Prescriber", NotDecidable, "names no user id"},
		{"none in the subject", user, "Simulated Prescriber", NotDecidable, "does not begin with a user id"},
		{"eleven digits", user, "12345678901_Simulated_Prescriber", NotDecidable, "does not begin with a user id"},
		{"no digits", user, "ABCDEFGHIJKL_Simulated_Prescriber", NotDecidable, "does not begin with a user id"},
		{"a longer one in the message", user + "0", user + "_Simulated_Prescriber", Failed, "names"},
	} {
		t.Run(c.name, func(t *testing.T) {
			subject := testcard.Subject(user)
			subject.CommonName = c.cn
			leaf, err := w.ca.IssueListed(testcard.Signing, testKey().Public(), testcard.IssueOptions{Subject: subject, NotBefore: testTime.AddDate(0, -1, 0)}, crlURL)
			require.NoError(t, err)
			in := signedMessage(t, message(signingtest.MessageConfig{User: c.user}), RS256, testKey(), leaf)
			v := w.verifier()
			assert.Equal(t, Passed, judge(t, v, in).Rxguard.Accept, "only when asked")
			v = w.verifier()
			v.MatchPrescriber = true
			r := judge(t, v, in)
			assert.Equal(t, c.result, r.Rxguard.Accept)
			assert.Equal(t, c.result, check(t, r, "prescriber").Result)
			assert.Contains(t, check(t, r, "prescriber").Why, c.says)
			assert.Equal(t, Passed, r.National.Accept)
		})
	}

	// A second user beside the right one is another.
	in := message(signingtest.MessageConfig{User: user})
	id := `<id extension="` + user + `" root="1.2.826.0.1285.0.2.0.65"/>`
	require.Contains(t, in, id)
	in = strings.Replace(in, id, id+strings.Replace(id, user, "210987654321", 1), 1)
	v := w.verifier()
	v.MatchPrescriber = true
	assert.Equal(t, Failed, check(t, judge(t, v, signedMessage(t, in, RS256, testKey(), w.leaf)), "prescriber").Result)
}

func TestSHA1IsAWarning(t *testing.T) {
	w := newPKI(t)
	r := judge(t, w.verifier(), signedMessage(t, message(signingtest.MessageConfig{}), RS1, testKey(), w.leaf))
	assert.Equal(t, Passed, r.Rxguard.Accept)
	assert.Equal(t, []string{"signed_info"}, warnings(r.Rxguard))
	assert.Contains(t, check(t, r, "signed_info").Warning, "SHA-1")
}

func TestReportGoesThroughJSON(t *testing.T) {
	w := newPKI(t)
	in := judge(t, w.verifier(), w.sample(t))
	b, err := json.Marshal(in)
	require.NoError(t, err)
	var out Report
	require.NoError(t, json.Unmarshal(b, &out))
	assert.Equal(t, in, out)
	for _, s := range []string{`"version":1`, `"signed_at":"2020-10-02T09:00:00Z"`, `"accept":"passed"`, `"short_id":"000000-Z99999-5EED0X"`,
		`"serial":"` + serialOf(w.leaf) + `"`, `{"number":12,"name":"key_usage","text":"Certificate is not for signing","result":"passed"}`} {
		assert.Contains(t, string(b), s)
	}
	assert.NotContains(t, string(b), w.leaf.Subject.CommonName, "no name of a person")
}

func TestTheZeroVerifierAndPrescription(t *testing.T) {
	for _, p := range []*Prescription{nil, {}} {
		r := (&Verifier{}).Verify(p)
		assert.Equal(t, Failed, r.National.Accept)
		assert.Equal(t, Failed, r.Rxguard.Accept)
		assert.Len(t, r.National.Checks, 9)
		assert.Len(t, r.Rxguard.Checks, 14)
		assert.Contains(t, r.National.Checks[0].Why, "empty")
	}
	p := parsed(t, message(signingtest.MessageConfig{})).Prescriptions()[0]
	r := (&Verifier{}).Verify(p)
	assert.Equal(t, Failed, r.National.Accept, "it is not signed")
	assert.Contains(t, r.National.Checks[0].Why, "has no Signature")
}

func TestVerifyMessageStopsWhereItIsTold(t *testing.T) {
	w := newPKI(t)
	in := signedMessage(t, message(signingtest.MessageConfig{Prescriptions: 5, Items: 1}), RS256, testKey(), w.leaf)
	v := w.verifier()
	enough := fmt.Errorf("enough")
	seen := 0
	err := v.VerifyMessage(in, ReadOptions{}, func(r Report) error {
		if seen++; seen == 2 {
			return enough
		}
		return nil
	})
	assert.Equal(t, enough, err)
	assert.Equal(t, 2, seen)

	// Both ways to the reports give the same.
	var reports []Report
	require.NoError(t, v.VerifyMessage(in, ReadOptions{}, func(r Report) error {
		reports = append(reports, r)
		return nil
	}))
	for i, p := range parsed(t, string(in)).Prescriptions() {
		r := v.Verify(p)
		assert.Equal(t, r, reports[i])
		assert.Equal(t, Passed, r.Rxguard.Accept)
		assert.Equal(t, p.Line(), r.Line)
	}
	require.Len(t, reports, 5)
}

func TestAVerifierIsForSeveralGoroutines(t *testing.T) {
	w := newPKI(t)
	in := w.sample(t)
	v := w.verifier()
	p := parsed(t, string(in)).Prescriptions()[0]
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			assert.Equal(t, Passed, v.Verify(p).Rxguard.Accept)
		})
	}
	all.Wait()
}
