package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/need"
)

// answer is a JSON line of check as its readers see it.
type answer struct {
	Version int
	File    string
	Line    int
	Verdict *guard.Verdict
	Error   *struct{ Kind, Text string }
}

func answers(t *testing.T, out string) []answer {
	t.Helper()
	var all []answer
	for l := range strings.Lines(out) {
		var a answer
		d := json.NewDecoder(strings.NewReader(l))
		d.DisallowUnknownFields()
		require.NoError(t, d.Decode(&a), l)
		require.Equal(t, 1, a.Version, l)
		require.True(t, (a.Verdict == nil) != (a.Error == nil), l)
		all = append(all, a)
	}
	return all
}

// card is a certificate for the card of the notice, in a file.
const noticeCard = "../../guard/testdata/card.pem"

func TestTheNoticeOf2020IsTold(t *testing.T) {
	for _, tt := range []struct {
		at   string
		code int
		want guard.Reason
	}{
		{"2020-09-30", exitRefused, guard.Affected},
		{"2020-10-01T13:49:59Z", exitRefused, guard.Affected},
		{"2020-10-01T14:50:00+01:00", exitAccepted, guard.AffectedEnded},
		{"2020-10-02", exitAccepted, guard.AffectedEnded},
		{"2020-09-29", exitRefused, guard.NotYetValid},
		{"2024-01-01", exitRefused, guard.Expired},
	} {
		d := run(t, "check", "--json", "--at", tt.at, noticeCard)
		assert.Equal(t, tt.code, d.code, tt.at)
		assert.Empty(t, d.errors)
		v := answers(t, d.out)[0].Verdict
		assert.Equal(t, tt.want, v.Findings[0].Reason, tt.at)

		d = run(t, "check", "--at", tt.at, noticeCard)
		assert.Equal(t, tt.code, d.code, tt.at)
		assert.Contains(t, d.out, noticeCard+", line 1\n")
		unindented := strings.ReplaceAll(d.out, "\n  ", "\n")
		assert.Contains(t, unindented, v.ForPrescriber())
		assert.Contains(t, unindented, v.String())
	}
	d := run(t, "check", "--json", "--at", "2020-09-30", "--live", noticeCard)
	assert.Equal(t, exitRefused, d.code)
	assert.True(t, answers(t, d.out)[0].Verdict.Has(guard.SimulatedCard))
}

// checked is a world on disk: the certificate, its CAs and their empty lists.
type checked struct {
	*world
	files
	card, ca, root, crl, arl string
}

func newChecked(t *testing.T, revoked ...x509.RevocationListEntry) *checked {
	t.Helper()
	c := &checked{world: newWorld(t), files: newFiles(t)}
	c.card = c.pem("card.pem", "CERTIFICATE", c.leaf.Raw)
	c.ca, c.root = c.pem("ca.pem", "CERTIFICATE", c.world.ca.Raw), c.pem("root.pem", "CERTIFICATE", c.world.root.Raw)
	c.crl, c.arl = c.pem("ca.crl", "X509 CRL", crl(t, c.world.ca, c.caKey, revoked...)), c.write("root.crl", crl(t, c.world.root, c.rootKey))
	return c
}

func TestWhatACertificateIsJudgedBy(t *testing.T) {
	c := newChecked(t)
	impostor := c.pem("impostor.pem", "CERTIFICATE", c.impostor(t).Raw)
	revoked := c.pem("revoked.crl", "X509 CRL", crl(t, c.world.ca, c.caKey, x509.RevocationListEntry{SerialNumber: c.leaf.SerialNumber, RevocationTime: signedAt.Add(-time.Hour)}))
	at := signedAt.Format(time.RFC3339)
	for _, tt := range []struct {
		name string
		args []string
		code int
		want []guard.Reason
		open []guard.CheckName
	}{
		{"nothing but the certificate", nil, exitAccepted, nil, []guard.CheckName{guard.CheckChain, guard.CheckRevocation}},
		{"a root and what is below it", []string{"--roots", c.root, "--ca", c.ca}, exitAccepted, nil, []guard.CheckName{guard.CheckRevocation}},
		{"both as roots", []string{"--roots", c.root, "--roots", c.ca}, exitAccepted, nil, []guard.CheckName{guard.CheckRevocation}},
		{"the CA in between is missing", []string{"--roots", c.root}, exitRefused, []guard.Reason{guard.ChainUntrusted}, []guard.CheckName{guard.CheckRevocation}},
		{"a CA of the same name", []string{"--roots", impostor}, exitRefused, []guard.Reason{guard.ChainUntrusted}, []guard.CheckName{guard.CheckRevocation}},
		{"all lists", []string{"--roots", c.root, "--ca", c.ca, "--crl", c.crl, "--crl", c.arl}, exitAccepted, nil, nil},
		{"no list of the root", []string{"--roots", c.root, "--ca", c.ca, "--crl", c.crl}, exitAccepted, []guard.Reason{guard.RevocationUnknown}, nil},
		{"revoked", []string{"--roots", c.root, "--ca", c.ca, "--crl", revoked, "--crl", c.arl}, exitRefused, []guard.Reason{guard.Revoked}, nil},
		{"lists that ended", []string{"--at", signedAt.AddDate(0, 2, 0).Format(time.DateOnly), "--roots", c.root, "--ca", c.ca, "--crl", c.crl, "--crl", c.arl}, exitUndecided, []guard.Reason{guard.RevocationLapsed}, nil},
		{"a live guard", []string{"--live"}, exitRefused, []guard.Reason{guard.SimulatedCard}, []guard.CheckName{guard.CheckChain, guard.CheckRevocation}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := run(t, append([]string{"check", "--json", "--at", at}, append(tt.args, c.card)...)...)
			assert.Equal(t, tt.code, d.code, d.out)
			assert.Empty(t, d.errors)
			got := answers(t, d.out)
			require.Len(t, got, 1)
			v := got[0].Verdict
			require.NotNil(t, v, d.out)
			assert.Equal(t, c.card, got[0].File)
			assert.Equal(t, 1, got[0].Line)
			var reasons []guard.Reason
			for _, f := range v.Findings {
				reasons = append(reasons, f.Reason)
			}
			assert.Equal(t, tt.want, reasons)
			var open []guard.CheckName
			for _, n := range v.NotChecked {
				open = append(open, n.Check)
			}
			assert.Equal(t, tt.open, open)
		})
	}
}

// notice is an advisory over cards with the serial number of the world's, by a clause.
func notice(id, issuer, serials string) []byte {
	return fmt.Appendf(nil, `{"id": %q, "revision": 1, "state": "active", "title": "Cards of one list", "published": "2026-01-01T00:00:00Z",
		"modified": "2026-01-01T00:00:00Z", "match": {"any": [{"issuer": {"spki_sha256": [%q], "name": "Simulated Level 1"}, "serials": %s}]}, "basis": "serial_list",
		"card_may_authenticate": true, "remedies": [{"kind": "renew", "text": "Renew it now."}], "message": "Please renew it."}`, id, issuer, serials)
}

func TestNoticesOfFilesAreJudgedBy(t *testing.T) {
	c := newChecked(t)
	spki := sha256.Sum256(c.world.ca.RawSubjectPublicKeyInfo)
	issuer := hex.EncodeToString(spki[:])
	serials := make([]byte, 0, 8)
	for _, n := range []int64{0x5eed0000, 0x5eed0001} {
		serials = append(serials, big.NewInt(n).Bytes()...)
	}
	sum := sha256.Sum256(serials)
	c.write(hex.EncodeToString(sum[:])+".bin", serials)
	inFile := fmt.Sprintf(`{"file": {"sha256": %q, "count": 2, "width": 4}}`, hex.EncodeToString(sum[:]))
	one := c.write("one.json", notice("one", issuer, inFile))
	two := c.write("two.json", notice("two", issuer, `{"inline": ["5eed0002"]}`))
	again := c.write("again.json", notice("one", issuer, `{"inline": ["5eed0002"]}`))
	at := signedAt.Format(time.RFC3339)

	d := run(t, "check", "--at", at, "--ca", c.ca, "--advisories", one, "--advisories", two, c.card)
	assert.Equal(t, exitRefused, d.code, d.errors)
	assert.Contains(t, d.out, "Renew it now.")
	assert.Contains(t, d.out, "(one revision 1")
	assert.NotContains(t, d.out, "(two revision 1")
	d = run(t, "check", "--at", at, "--ca", c.ca, "--advisories", two, c.card)
	assert.Equal(t, exitAccepted, d.code, d.out)
	d = run(t, "check", "--at", at, "--advisories", one, c.card)
	assert.Equal(t, exitUndecided, d.code, "without the issuer's certificate it cannot be told: %s", d.out)

	for _, tt := range []struct {
		name string
		args []string
		says string
	}{
		{"one id twice", []string{"--advisories", one, "--advisories", again}, "one"},
		{"no such file", []string{"--advisories", "gone.json"}, "gone.json: no such file"},
		{"no notice", []string{"--advisories", c.card}, "card.pem: "},
		{"a notice without its serial file", []string{"--advisories", newFiles(t).write("alone.json", notice("one", issuer, inFile))}, "no file " + hex.EncodeToString(sum[:])},
		{"an unknown field", []string{"--advisories", c.write("odd.json", []byte(`{"id": "x", "blok_from": 1}`))}, "blok_from"},
	} {
		d := run(t, append([]string{"check"}, append(tt.args, c.card)...)...)
		assert.Equal(t, exitNotRead, d.code, tt.name)
		assert.Contains(t, d.errors, tt.says, tt.name)
		assert.Empty(t, d.out, tt.name)
	}

	torn := newFiles(t)
	doc := torn.write("torn.json", notice("one", issuer, inFile))
	torn.write(hex.EncodeToString(sum[:]), serials[:7])
	d = run(t, "check", "--advisories", doc, c.card)
	assert.Equal(t, exitNotRead, d.code)
	assert.Contains(t, d.errors, "torn.json: ")
}

func TestTheWorstOfSeveralCertificatesIsTheExitCode(t *testing.T) {
	c := newChecked(t)
	at := signedAt.Format(time.RFC3339)
	bad := c.write("bad.pem", []byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"))
	both := c.pem("both.pem", "CERTIFICATE", c.leaf.Raw, c.world.ca.Raw)
	for _, tt := range []struct {
		files []string
		code  int
		lines int
	}{
		{[]string{c.card, c.card}, exitAccepted, 2},
		{[]string{c.card, c.ca}, exitRefused, 2}, // the CA's is not for signing
		{[]string{both}, exitRefused, 2},
		{[]string{c.ca, bad, c.card}, exitNotRead, 3},
	} {
		d := run(t, append([]string{"check", "--json", "--at", at}, tt.files...)...)
		assert.Equal(t, tt.code, d.code, "%v", tt.files)
		assert.Len(t, answers(t, d.out), tt.lines)
	}
	d := run(t, "check", "--at", at, c.ca, bad, c.card)
	assert.Contains(t, d.out, "2 certificates:\n       1 refused\n       0 undecided\n       0 warned\n       1 allowed\n       1 of the files could not be read")
	assert.Contains(t, d.errors, "bad.pem: line 1: ")

	d = runWith(t, strings.NewReader(string(c.leaf.Raw)), "check", "--json", "--at", at, "-")
	assert.Equal(t, exitAccepted, d.code, d.errors)
	assert.Equal(t, "-", answers(t, d.out)[0].File)
	assert.Zero(t, answers(t, d.out)[0].Line)
}

func TestCertificatesThatCannotBeJudged(t *testing.T) {
	c := newChecked(t)
	for _, tt := range []struct {
		name string
		args []string
		says string
	}{
		{"no certificate", []string{"check"}, "no CERT"},
		{"an empty name", []string{"check", ""}, "a CERT is empty"},
		{"standard input twice", []string{"check", "-", "-"}, "given twice"},
		{"a list without a CA", []string{"check", "--crl", c.crl, c.card}, "--crl without --roots and --ca"},
		{"no time", []string{"check", "--at", "yesterday", c.card}, "is not a time"},
		{"a list that a stranger signed", []string{"check", "--roots", c.root, "--crl", c.crl, c.card}, "--crl " + c.crl + ": line 1: "},
		{"a list in the place of a certificate", []string{"check", c.crl}, "is a CRL"},
		{"a key", []string{"check", c.pem("key.pem", "PRIVATE KEY", []byte{1})}, "is a private key"},
		{"a certificate in the place of a list", []string{"check", "--roots", c.root, "--crl", c.card, c.card}, "--crl " + c.card},
		{"a card's certificate as a root", []string{"check", "--roots", c.card, c.card}, "is not a CA's"},
		{"an empty file", []string{"check", c.write("empty", nil)}, "is empty"},
		{"a folder", []string{"check", c.dir}, "is a folder"},
		{"bytes behind it", []string{"check", c.write("more", append(c.leaf.Raw[:len(c.leaf.Raw):len(c.leaf.Raw)], 0))}, "is not a certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := run(t, tt.args...)
			assert.Equal(t, exitNotRead, d.code)
			assert.Contains(t, d.errors, tt.says)
			assert.Empty(t, d.out)
		})
	}
}

// A clock behind the evidence is told where it is a clock that is judged by.
func TestAClockThatIsBehindIsTold(t *testing.T) {
	c := newChecked(t)
	future := time.Now().AddDate(1, 0, 0).UTC().Format(time.RFC3339)
	doc := strings.ReplaceAll(string(notice("one", strings.Repeat("00", 32), `{"inline": ["01"]}`)), `"modified": "2026-01-01T00:00:00Z"`, `"modified": "`+future+`"`)
	file := c.write("notice.json", []byte(doc))
	d := run(t, "check", "--json", "--advisories", file, c.card)
	require.Contains(t, []int{exitUndecided, exitRefused}, d.code, d.errors)
	assert.True(t, answers(t, d.out)[0].Verdict.Has(guard.ClockBehind))
	d = run(t, "check", "--json", "--at", signedAt.Format(time.RFC3339), "--advisories", file, c.card)
	assert.False(t, answers(t, d.out)[0].Verdict.Has(guard.ClockBehind), "a question is no clock")
}

func TestRealCertificatesAreJudged(t *testing.T) {
	leaf := need.Data(t, "eps", "certs", "leaf_5dc9ad1f.pem")
	ca := need.Data(t, "eps", "certs", "NHS_INT_Level_1D.pem")
	d := run(t, "check", "--json", "--at", "2020-11-01", "--roots", ca, leaf)
	v := answers(t, d.out)[0].Verdict
	require.NotNil(t, v)
	assert.Equal(t, exitAccepted, d.code, v)
	assert.Equal(t, guard.DecisionWarned, v.Decision)
	assert.True(t, v.Has(guard.KeySmall), v)
}
