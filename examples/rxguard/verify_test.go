package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/signing/signingtest"
)

// row is a JSON line as its readers see it. An unknown field is a failure.
type row struct {
	Version int
	File    string
	Report  *struct {
		Version     int
		Line        int
		ID          string
		ShortID     string    `json:"short_id"`
		SignedAt    time.Time `json:"signed_at"`
		JudgedAt    time.Time `json:"judged_at"`
		Certificate *struct {
			Serial, Issuer, SHA256 string
			NotBefore              time.Time `json:"not_before"`
			NotAfter               time.Time `json:"not_after"`
		}
		National, Rxguard opinion
	}
	Error *struct {
		Kind, Text, Element string
		Line, Offset        int
	}
}

type opinion struct {
	Accept string
	Checks []check
}

type check struct {
	Number                           int
	Name, Text, Result, Why, Warning string
}

// rows reads JSON lines, and nothing else.
func rows(t *testing.T, out string) []row {
	t.Helper()
	var rows []row
	for l := range strings.Lines(out) {
		d := json.NewDecoder(strings.NewReader(l))
		d.DisallowUnknownFields()
		var r row
		require.NoError(t, d.Decode(&r), l)
		require.Equal(t, 1, r.Version, l)
		require.True(t, (r.Report == nil) != (r.Error == nil), l)
		rows = append(rows, r)
	}
	return rows
}

// letters shows the nine results as one word: p, f, and - for not decidable.
func letters(o opinion) string {
	var b strings.Builder
	for _, c := range o.Checks {
		b.WriteString(map[string]string{"passed": "p", "failed": "f", "not_decidable": "-"}[c.Result])
	}
	return b.String()
}

// TestEveryRealPrescription goes by what the national verifier answers for them.
func TestEveryRealPrescription(t *testing.T) {
	ca := need.Data(t, "eps", "certs", "NHS_INT_Level_1D.pem")
	all, err := filepath.Glob(filepath.Join(need.Data(t, "eps", "prescriptions"), "*.xml"))
	require.NoError(t, err)
	want := map[string]struct {
		results string
		accept  string
		texts   []string
		code    int
	}{
		"release_success.xml":                    {"ppppp--pp", "passed", nil, exitUndecided},
		"release_invalid.xml":                    {"pppfp--pp", "failed", []string{"Signature is invalid"}, exitRefused},
		"ValidSignature.xml":                     {"ppppp--pf", "failed", []string{"Certificate not trusted"}, exitRefused},
		"SignatureIsInvalid.xml":                 {"pppfp--pp", "failed", []string{"Signature is invalid"}, exitRefused},
		"SignatureDoesNotMatchPrescription.xml":  {"pppff--pf", "failed", []string{"Signature is invalid", "Signature doesn't match prescription", "Certificate not trusted"}, exitRefused},
		"repeat_prescribing_release_success.xml": {"f--------", "failed", []string{"Invalid signature format"}, exitRefused},
	}
	require.Len(t, all, len(want))
	for _, file := range all {
		t.Run(filepath.Base(file), func(t *testing.T) {
			w, ok := want[filepath.Base(file)]
			require.True(t, ok, "a prescription without an expectation")
			d := run(t, "verify", "--json", "--ca", ca, file)
			assert.Equal(t, w.code, d.code, d.errors)
			assert.Empty(t, d.errors)
			got := rows(t, d.out)
			require.Len(t, got, 1)
			r := got[0].Report
			assert.Equal(t, w.results, letters(r.National))
			assert.Equal(t, w.accept, r.National.Accept)
			var texts []string
			for _, c := range r.National.Checks {
				if c.Result == "failed" {
					texts = append(texts, c.Text)
				}
				assert.Equal(t, c.Result != "passed", c.Why != "", "check %d says why unless it passed", c.Number)
			}
			assert.Equal(t, w.texts, texts)

			plain := run(t, "verify", "--ca", ca, file)
			assert.Equal(t, w.code, plain.code)
			if len(w.texts) > 0 {
				assert.Contains(t, plain.out, "The national service would refuse this signature with: "+strings.Join(w.texts, "; ")+".\n")
			}
			if w.accept == "passed" {
				assert.Contains(t, plain.out, "The national service would accept this signature.")
			}
		})
	}
	t.Run("all in one run", func(t *testing.T) {
		d := run(t, append([]string{"verify", "--ca", ca}, all...)...)
		assert.Equal(t, exitRefused, d.code)
		assert.Contains(t, d.out, "6 prescriptions in 6 messages:\n")
	})
}

func TestASignatureThatAllAccept(t *testing.T) {
	s := simulate(t, signingtest.MessageConfig{})
	d := s.verify(s.message)
	require.Equal(t, exitAccepted, d.code, d.out+d.errors)
	assert.Empty(t, d.errors)
	assert.Contains(t, d.out, "  The national service would accept this signature.\n  rxguard would accept this signature.\n")

	r := rows(t, s.verify("--json", s.message).out)
	require.Len(t, r, 1)
	assert.Equal(t, s.message, r[0].File)
	assert.Equal(t, "ppppppppp", letters(r[0].Report.National))
	assert.Equal(t, "passed", r[0].Report.National.Accept)
	assert.Equal(t, "passed", r[0].Report.Rxguard.Accept)
	assert.Equal(t, signedAt, r[0].Report.SignedAt)
	assert.Equal(t, signedAt, r[0].Report.JudgedAt)
	assert.Equal(t, "5eed0001", r[0].Report.Certificate.Serial)
}

// TestWhatASignatureIsRefusedFor also compares all that is printed with
// testdata/reports.txt; with UPDATE_GOLDEN set it writes that.
func TestWhatASignatureIsRefusedFor(t *testing.T) {
	s := simulate(t, signingtest.MessageConfig{})
	var printed strings.Builder
	revoked := func(serial *big.Int, at time.Time, reason int) x509.RevocationListEntry {
		return x509.RevocationListEntry{SerialNumber: serial, RevocationTime: at, ReasonCode: reason}
	}
	before, after := signedAt.Add(-30*time.Minute), signedAt.Add(30*time.Minute)
	leafBefore := s.pem("leaf-before.crl", "X509 CRL", crl(t, s.world.ca, s.caKey, revoked(s.leaf.SerialNumber, before, 0)))
	leafAfter := s.pem("leaf-after.crl", "X509 CRL", crl(t, s.world.ca, s.caKey, revoked(s.leaf.SerialNumber, after, 4)))
	leafKey := s.pem("leaf-key.crl", "X509 CRL", crl(t, s.world.ca, s.caKey, revoked(s.leaf.SerialNumber, after, 1)))
	caBefore := s.write("ca-before.crl", crl(t, s.world.root, s.rootKey, revoked(s.world.ca.SerialNumber, before, 0)))
	message, err := os.ReadFile(s.message)
	require.NoError(t, err)
	changed := s.write("changed.xml", bytes.Replace(message, []byte(`value="100"`), []byte(`value="900"`), 1))
	require.NotEqual(t, message, changed)
	s.leaf = s.issueLeaf(t, s.impostor(t), keys()[3], signingPolicy)
	forged := s.write("forged.xml", s.sign(t, signingtest.Message(signingtest.MessageConfig{At: signedAt, User: user})))
	s.leaf = s.issueLeaf(t, s.world.ca, s.caKey)
	warned := s.write("warned.xml", s.sign(t, signingtest.Message(signingtest.MessageConfig{At: signedAt, User: user})))
	unsigned := s.write("unsigned.xml", signingtest.Message(signingtest.MessageConfig{At: signedAt}))

	for _, c := range []struct {
		name     string
		args     []string
		results  string
		national string
		rxguard  string
		code     int
	}{
		{"nothing", s.args(s.message), "ppppppppp", "passed", "passed", exitAccepted},
		{"a revoked certificate", []string{"verify", "--ca", s.ca, "--ca", s.root, "--crl", leafBefore, "--crl", s.arl, s.message}, "pppppfppp", "failed", "failed", exitRefused},
		{"a certificate revoked later", []string{"verify", "--ca", s.ca, "--ca", s.root, "--crl", leafAfter, "--crl", s.arl, s.message}, "ppppppppp", "passed", "passed", exitAccepted},
		{"a key that was compromised later", []string{"verify", "--ca", s.ca, "--ca", s.root, "--crl", leafKey, "--crl", s.arl, s.message}, "pppppfppp", "failed", "failed", exitRefused},
		{"a revoked CA", []string{"verify", "--ca", s.ca, "--ca", s.root, "--crl", s.crl, "--crl", caBefore, s.message}, "ppppppfpp", "failed", "failed", exitRefused},
		{"no lists", []string{"verify", "--ca", s.ca, "--ca", s.root, s.message}, "ppppp--pp", "passed", "not_decidable", exitUndecided},
		{"no CAs", []string{"verify", s.message}, "ppppp--p-", "not_decidable", "not_decidable", exitUndecided},
		{"a changed prescription", s.args(changed), "ppppfpppp", "failed", "failed", exitRefused},
		{"a certificate that only names its issuer", s.args(forged), "ppppppppp", "passed", "failed", exitRefused},
		{"a certificate without the policy", s.args(warned), "ppppppppp", "passed", "passed", exitAccepted},
		{"judged when the lists are old", s.args("--at", "2026-08-01", s.message), "ppppppppp", "passed", "not_decidable", exitUndecided},
		{"no signature", s.args(unsigned), "f--------", "failed", "failed", exitRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := run(t, append(c.args, "--json")...)
			assert.Equal(t, c.code, d.code)
			assert.Empty(t, d.errors)
			r := rows(t, d.out)
			require.Len(t, r, 1)
			assert.Equal(t, c.results, letters(r[0].Report.National))
			assert.Equal(t, c.national, r[0].Report.National.Accept)
			assert.Equal(t, c.rxguard, r[0].Report.Rxguard.Accept)

			plain := run(t, c.args...)
			assert.Equal(t, c.code, plain.code)
			printed.WriteString("### " + c.name + ", exit code " + itoa(plain.code) + "\n\n" + s.plain(plain.out))
		})
	}
	golden := filepath.Join("testdata", "reports.txt")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(golden, []byte(printed.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), printed.String())
}

func TestTheWorstOfSeveralMessagesIsTheExitCode(t *testing.T) {
	s := simulate(t, signingtest.MessageConfig{})
	message, err := os.ReadFile(s.message)
	require.NoError(t, err)
	changed := s.write("changed.xml", bytes.Replace(message, []byte(`value="100"`), []byte(`value="900"`), 1))
	broken := s.write("broken.xml", message[:len(message)-10])
	lists := []string{"--crl", s.crl, "--crl", s.arl}
	for _, c := range []struct {
		name     string
		args     []string
		code     int
		rows     int
		errors   int
		messages []string
	}{
		{"accepted twice", lists, exitAccepted, 2, 0, []string{s.message, s.message}},
		{"refused after accepted", lists, exitRefused, 2, 0, []string{s.message, changed}},
		{"refused before not decidable", nil, exitRefused, 2, 0, []string{changed, s.message}},
		{"unreadable between", lists, exitNotRead, 2, 1, []string{s.message, broken, changed}},
		{"unreadable first", nil, exitNotRead, 1, 1, []string{broken, s.message}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append(append([]string{"verify", "--ca", s.ca, "--ca", s.root}, c.args...), c.messages...)
			d := run(t, append(args, "--json")...)
			assert.Equal(t, c.code, d.code)
			assert.Empty(t, d.errors)
			var reports, errors int
			for i, r := range rows(t, d.out) {
				assert.Equal(t, c.messages[i], r.File, "lines come in the order of the messages")
				if r.Error != nil {
					errors++
					assert.Equal(t, "message", r.Error.Kind)
				} else {
					reports++
				}
			}
			assert.Equal(t, c.rows, reports)
			assert.Equal(t, c.errors, errors)

			plain := run(t, args...)
			assert.Equal(t, c.code, plain.code)
			assert.Equal(t, c.errors > 0, plain.errors != "")
		})
	}
}

func TestManyPrescriptionsInOneMessage(t *testing.T) {
	s := simulate(t, signingtest.MessageConfig{Prescriptions: 300})
	d := s.verify(s.message)
	assert.Equal(t, exitAccepted, d.code, d.errors)
	assert.Contains(t, d.out, "300 prescriptions in 1 message:\n     300 would be accepted by the national service and by rxguard\n")
	assert.Len(t, rows(t, s.verify("--json", s.message).out), 300)

	message, err := os.ReadFile(s.message)
	require.NoError(t, err)
	t.Run("nothing counts when the end is broken", func(t *testing.T) {
		cut := s.write("cut.xml", message[:len(message)-5])
		d := s.verify("--json", cut)
		assert.Equal(t, exitNotRead, d.code)
		r := rows(t, d.out)
		require.Len(t, r, 1)
		require.NotNil(t, r[0].Error)
		assert.Equal(t, bytes.Count(message, []byte("\n")), r[0].Error.Line)
		plain := s.verify(cut)
		assert.Equal(t, exitNotRead, plain.code)
		assert.Empty(t, plain.out)
		assert.Contains(t, plain.errors, "truncated")
	})
	t.Run("from standard input", func(t *testing.T) {
		d := runWith(t, bytes.NewReader(message), s.args("--json", "-")...)
		assert.Equal(t, exitAccepted, d.code, d.errors)
		r := rows(t, d.out)
		assert.Len(t, r, 300)
		assert.Equal(t, "-", r[0].File)
		plain := runWith(t, bytes.NewReader(message), s.args("-")...)
		assert.True(t, strings.HasPrefix(plain.out, "standard input, line "), plain.out[:min(200, len(plain.out))])
	})
}

func TestJudgedAsOfAnotherTime(t *testing.T) {
	s := simulate(t, signingtest.MessageConfig{})
	for _, c := range []struct{ at, judged string }{
		{"2026-03-05T10:00:00Z", "2026-03-05T10:00:00Z"},
		{"2026-03-05T10:00:00+01:00", "2026-03-05T09:00:00Z"},
		{"2026-03-05", "2026-03-05T00:00:00Z"},
	} {
		d := s.verify("--at", c.at, "--json", s.message)
		r := rows(t, d.out)
		require.Len(t, r, 1, d.errors)
		assert.Equal(t, c.judged, r[0].Report.JudgedAt.Format(time.RFC3339))
		assert.Equal(t, signedAt, r[0].Report.SignedAt)
		assert.Equal(t, exitAccepted, d.code)
	}
	d := s.verify("--at", "2026-03-05T10:00:00+01:00", s.message)
	assert.Contains(t, d.out, "judged as of  2026-03-05 09:00:00 UTC by rxguard")
	// The lists of then have run out by now.
	d = s.verify("--at", "2026-08-01", s.message)
	assert.NotEqual(t, exitAccepted, d.code)
	assert.Contains(t, d.out, "The national service would accept this signature.")
}

func TestThePrescriberIsComparedWhenAsked(t *testing.T) {
	s := simulate(t, signingtest.MessageConfig{})
	assert.Equal(t, exitAccepted, s.verify("--prescriber", s.message).code)
	other := s.write("other.xml", s.sign(t, signingtest.Message(signingtest.MessageConfig{At: signedAt, User: "555000000002"})))
	assert.Equal(t, exitAccepted, s.verify(other).code)
	d := s.verify("--prescriber", other)
	assert.Equal(t, exitRefused, d.code, d.out)
}
