package eps

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/tbs"
)

// document is the interface that the Signer takes.
type document interface {
	ToBeSigned() (tbs.Message, error)
	Finish(tbs.Signature) (*Signed, error)
}

var _ document = (*Prepared)(nil)

func TestParsePreparedReadsWhatWasSent(t *testing.T) {
	for _, a := range []Algorithm{RS256, RS1} {
		p := prepared(t, a)
		assert.Equal(t, a, p.Algorithm())
		assert.Equal(t, testTimestamp, p.Timestamp())
		assert.True(t, p.Time().Equal(testTime))
		assert.Equal(t, testDigest(a, 0x5b), p.DigestValue())
		assert.Equal(t, testSignedInfo(t, a), p.SignedInfo())

		msg, err := p.ToBeSigned()
		require.NoError(t, err)
		assert.Equal(t, "eps-prepared", msg.Kind())
		assert.Equal(t, p.SignedInfo(), tbs.Bytes(msg))
		assert.Equal(t, map[Algorithm]crypto.Hash{RS256: crypto.SHA256, RS1: crypto.SHA1}[a], tbs.Hash(msg))
		assert.True(t, tbs.RSAOnly(msg))

		p.SignedInfo()[0] = 'x'
		p.DigestValue()[0] ^= 1
		assert.Equal(t, testSignedInfo(t, a), p.SignedInfo(), "accessors give copies")
		assert.Equal(t, testDigest(a, 0x5b), p.DigestValue(), "accessors give copies")
	}
}

func TestWhatIsNotSignedIsTolerated(t *testing.T) {
	good := string(answer(testSignedInfo(t, RS256), testTimestamp, "RS256"))
	for name, in := range map[string]string{
		"id and meta":         strings.Replace(good, `{`, `{"id":"1","meta":{"versionId":"2"},`, 1),
		"another parameter":   strings.Replace(good, `[`, `[{"name":"display","valueBoolean":true,"part":[{"name":"digest"}]},`, 1),
		"id of a parameter":   strings.Replace(good, `"name":"digest"`, `"id":"p1","name":"digest"`, 1),
		"white space":         "\r\n\t " + good + "\n",
		"escapes":             strings.Replace(good, `"digest"`, `"d\u0069gest"`, 1),
		"fractional seconds":  strings.Replace(good, testTimestamp, "2020-10-02T09:00:00.123+00:00", 1),
		"another time offset": strings.Replace(good, testTimestamp, "2020-10-02T10:00:00+01:00", 1),
	} {
		t.Run(name, func(t *testing.T) {
			require.NotEqual(t, good, in)
			p, err := ParsePrepared([]byte(in))
			require.NoError(t, err)
			assert.Equal(t, testSignedInfo(t, RS256), p.SignedInfo())
		})
	}
}

func TestBadAnswersAreNamed(t *testing.T) {
	good := string(answer(testSignedInfo(t, RS256), testTimestamp, "RS256"))
	swap := func(from, to string) string {
		require.Contains(t, good, from)
		return strings.Replace(good, from, to, 1)
	}
	parameter := func(name string) string {
		i := strings.Index(good, `{"name":"`+name+`"`)
		return good[i : i+strings.Index(good[i:], "}")+1]
	}
	algorithm := parameter("algorithm")
	for _, c := range []struct {
		name, in, field, says string
	}{
		{"empty", "", "answer", "is empty"},
		{"white space", " \n", "answer", "is empty"},
		{"an HTML page", "<html>gateway</html>", "answer", "XML or HTML"},
		{"a word", "hello", "answer", "not a JSON object"},
		{"a list", "[" + good + "]", "answer", "not a JSON object"},
		{"truncated", good[:len(good)-1], "answer", "unexpected end"},
		{"trailing data", good + "{}", "answer", "after top-level value"},
		{"a trailing comma", swap(`]`, `,]`), "answer", "not JSON"},
		{"byte order mark", "\xef\xbb\xbf" + good, "answer", "byte order mark"},
		{"invalid UTF-8", swap(`"digest"`, "\"dig\xffest\""), "answer", "not UTF-8"},
		{"2 MB", good + strings.Repeat(" ", 2_000_000), "answer", "at most 1048576"},
		{"deep nesting", swap(`{`, `{"x":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+`,`), "answer", "nested more than 64"},
		{"very deep nesting", `{"x":` + strings.Repeat("[", 500_000), "answer", ""},
		{"duplicate top-level key", swap(`{`, `{"resourceType":"Parameters",`), "answer", `"resourceType" twice`},
		{"duplicate key, one escaped", swap(`"name":"digest"`, `"name":"digest","valueStrin\u0067":""`), "answer", `"valueString" twice`},
		{"duplicate key deep in what is not signed", swap(`{`, `{"meta":{"tag":[{"a":1,"a":2}]},`), "answer", `"a" twice`},

		{"no resourceType", swap(`"resourceType":"Parameters"`, `"x":1`), "resourceType", "found nothing"},
		{"resourceType in another case", swap(`"resourceType"`, `"ResourceType"`), "resourceType", "found nothing"},
		{"resourceType null", swap(`"Parameters"`, `null`), "resourceType", "found null"},
		{"another resource", swap(`"Parameters"`, `"Patient"`), "resourceType", `found "Patient", wanted "Parameters"`},
		{"the request", swap(`"Parameters"`, `"Bundle"`), "resourceType", "the request sent to $prepare"},

		{"no parameter list", `{"resourceType":"Parameters"}`, "parameter", "found nothing"},
		{"parameter an object", `{"resourceType":"Parameters","parameter":{}}`, "parameter", "found an object"},
		{"parameter a number", `{"resourceType":"Parameters","parameter":1}`, "parameter", "found a number"},
		{"an entry that is no object", swap(`[`, `[1,`), "parameter", "entry 0"},
		{"an entry without name", swap(`[`, `[{},`), "parameter", "name: found nothing"},

		{"no digest", swap(parameter("digest")+",", ""), "digest", "missing"},
		{"no timestamp", swap(parameter("timestamp")+",", ""), "timestamp", "missing"},
		{"no algorithm", swap(","+algorithm, ""), "algorithm", "missing"},
		{"digest in another case", swap(`"digest"`, `"Digest"`), "digest", "missing"},
		{"digest twice", swap(parameter("digest"), parameter("digest")+","+parameter("digest")), "digest", "twice"},
		{"timestamp twice", swap(parameter("timestamp"), parameter("timestamp")+","+parameter("timestamp")), "timestamp", "twice"},
		{"algorithm twice", swap(algorithm, algorithm+","+strings.Replace(algorithm, "RS256", "RS1", 1)), "algorithm", "twice"},
		{"null valueString", swap(`"valueString":"RS256"`, `"valueString":null`), "algorithm", "found null"},
		{"number valueString", swap(`"valueString":"RS256"`, `"valueString":256`), "algorithm", "found a number"},
		{"boolean valueString", swap(`"valueString":"RS256"`, `"valueString":true`), "algorithm", "found a boolean"},
		{"list valueString", swap(`"valueString":"RS256"`, `"valueString":["RS256"]`), "algorithm", "found a list"},
		{"no valueString", swap(`,"valueString":"RS256"`, ``), "algorithm", "found nothing"},
		{"valueBase64Binary", swap(`"name":"digest","valueString"`, `"name":"digest","valueBase64Binary"`), "digest", `"valueBase64Binary"`},
		{"two values", swap(`"name":"digest"`, `"name":"digest","valueCode":"x"`), "digest", `"valueCode"`},
		{"modifierExtension", swap(`"name":"digest"`, `"name":"digest","modifierExtension":[]`), "digest", `"modifierExtension"`},

		{"algorithm RS512", swap(`"RS256"`, `"RS512"`), "algorithm", `found "RS512", wanted RS256 or RS1`},
		{"algorithm empty", swap(`"RS256"`, `""`), "algorithm", `found ""`},
		{"algorithm in lower case", swap(`"RS256"`, `"rs256"`), "algorithm", `found "rs256"`},
		{"algorithm none", swap(`"RS256"`, `"none"`), "algorithm", `found "none"`},
		{"algorithm very long", swap(`"RS256"`, `"`+strings.Repeat("A", 100_000)+`"`), "algorithm", "…"},

		{"timestamp empty", swap(testTimestamp, ""), "timestamp", "RFC 3339"},
		{"timestamp without zone", swap(testTimestamp, "2020-10-02T09:00:00"), "timestamp", "RFC 3339"},
		{"timestamp of HL7v3", swap(testTimestamp, "20201002090000"), "timestamp", "RFC 3339"},
		{"timestamp with a blank", swap(testTimestamp, "2020-10-02 09:00:00Z"), "timestamp", "RFC 3339"},
		{"timestamp padded", swap(testTimestamp, testTimestamp+" "), "timestamp", "RFC 3339"},
		{"timestamp with a comma", swap(testTimestamp, "2020-10-02T09:00:00,5Z"), "timestamp", "RFC 3339"},
		{"timestamp with one digit", swap(testTimestamp, "2020-10-02T9:00:00Z"), "timestamp", "RFC 3339"},
		{"timestamp that is no day", swap(testTimestamp, "2020-02-30T09:00:00Z"), "timestamp", "RFC 3339"},
		{"timestamp with a control character", swap(testTimestamp, `2020-10-02T09:00:00Z\u0000`), "timestamp", `\x00`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := ParsePrepared([]byte(c.in))
			require.Nil(t, p)
			requireFormatError(t, err, c.field)
			assert.Contains(t, err.Error(), c.says)
		})
	}
}

func TestOffsetsPointIntoTheAnswer(t *testing.T) {
	good := string(answer(testSignedInfo(t, RS1), testTimestamp, "RS1"))
	_, err := ParsePrepared([]byte(good + "\n?"))
	assert.Equal(t, len(good)+1, requireFormatError(t, err, "answer").Offset)

	at := strings.Index(good, "timestamp")
	_, err = ParsePrepared([]byte(good[:at] + "\xc3" + good[at:]))
	assert.Equal(t, at, requireFormatError(t, err, "answer").Offset)

	_, err = ParsePrepared([]byte(`{"resourceType":"Parameters"}`))
	assert.Equal(t, -1, requireFormatError(t, err, "parameter").Offset)
}

// TestRealAnswers walks every $prepare answer there is.
func TestRealAnswers(t *testing.T) {
	var parsed, refused, requests int
	var algorithms = map[Algorithm]int{}
	root := need.Data(t, "eps", "prepare")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			p, err := ParsePrepared(b)
			switch {
			case strings.Contains(name, "Request"):
				requests++
				assert.Contains(t, requireFormatError(t, err, "resourceType").Problem, "the request sent to $prepare")
			case strings.Contains(name, "200"):
				parsed++
				require.NoError(t, err)
				algorithms[p.Algorithm()]++
				cert := certAt(t, p.Time())
				require.NoError(t, p.Accepts(cert))
				s, err := p.Finish(sign(t, p, testKey(), cert))
				require.NoError(t, err)
				checkWithTools(t, p.Algorithm(), s)
				out, err := s.Provenance(goodInfo())
				require.NoError(t, err)
				assert.Contains(t, string(out), `"when": "`+p.Timestamp()+`"`)
			default:
				refused++
				var outcome *OutcomeError
				require.ErrorAs(t, err, &outcome)
				require.Len(t, outcome.Issues, 1)
				is := outcome.Issues[0]
				assert.Equal(t, "fatal", is.Severity)
				assert.Equal(t, "invalid", is.Code)
				require.Len(t, is.Codings, 1)
				assert.Equal(t, "INVALID_VALUE", is.Codings[0].Code)
				assert.Contains(t, err.Error(), "refused to prepare")
				assert.Contains(t, err.Error(), is.Codings[0].Display)
				assert.Contains(t, err.Error(), "MedicationRequest.courseOfTherapyType.coding")
			}
		})
		return nil
	})
	require.NoError(t, err)
	assert.NotZero(t, requests)
	assert.NotZero(t, refused)
	assert.NotZero(t, algorithms[RS1], "an RS1 answer")
	assert.NotZero(t, algorithms[RS256], "an RS256 answer")
	assert.GreaterOrEqual(t, parsed, 5)
}

func TestOutcomeErrorsAreReadAsFarAsTheyGo(t *testing.T) {
	for _, c := range []struct{ name, in, says string }{
		{"no issue", `{"resourceType":"OperationOutcome"}`, "it gave no reason"},
		{"issue not a list", `{"resourceType":"OperationOutcome","issue":"x"}`, "it gave no reason"},
		{"diagnostics", `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"processing","diagnostics":"upstream\nclosed"}]}`, "error processing: upstream closed"},
		{"details text", `{"resourceType":"OperationOutcome","issue":[{"details":{"text":"no such site"}}]}`, "no such site"},
		{"malformed details", `{"resourceType":"OperationOutcome","issue":[{"severity":1,"code":"invalid","details":[],"expression":[1,"Bundle.entry"]},2]}`, "invalid (Bundle.entry)"},
		{"many", `{"resourceType":"OperationOutcome","issue":[` + strings.Repeat(`{"code":"invalid"},`, 99) + `{}]}`, "and 95 more"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParsePrepared([]byte(c.in))
			var outcome *OutcomeError
			require.ErrorAs(t, err, &outcome)
			assert.Contains(t, err.Error(), "the service refused to prepare the prescription")
			assert.Contains(t, err.Error(), c.says)
			_, err = json.Marshal(outcome)
			assert.NoError(t, err)
		})
	}
	long := &OutcomeError{Issues: []Issue{{Text: strings.Repeat("x", 1<<20), Expression: []string{strings.Repeat("y", 1<<20)}}}}
	assert.Less(t, len(long.Error()), 700)
}

func TestTheZeroDocumentIsRefused(t *testing.T) {
	for name, p := range map[string]*Prepared{"nil": nil, "zero": {}} {
		t.Run(name, func(t *testing.T) {
			_, err := p.ToBeSigned()
			assert.ErrorIs(t, err, errZeroPrepared)
			_, err = p.Finish(tbs.Signature{})
			assert.ErrorIs(t, err, errZeroPrepared)
			good := prepared(t, RS256)
			_, err = p.Finish(sign(t, good, testKey(), certAt(t, testTime)))
			assert.ErrorIs(t, err, errZeroPrepared)
			assert.ErrorIs(t, p.Accepts(certAt(t, testTime)), errZeroPrepared)
			assert.Zero(t, p.Algorithm())
			assert.Empty(t, p.Timestamp())
			assert.True(t, p.Time().IsZero())
			assert.Empty(t, p.SignedInfo())
			assert.Empty(t, p.DigestValue())
		})
	}
}

// validities are rows of notBefore and notAfter, relative to the timestamp.
var validities = []struct {
	name          string
	before, after time.Duration
	ok            bool
	says          string
}{
	{"well inside", -time.Hour, time.Hour, true, ""},
	{"one second inside", -time.Second, time.Second, true, ""},
	{"notBefore equal", 0, time.Hour, false, "notBefore 2020-10-02T09:00:00Z, and the time of signing is 2020-10-02T09:00:00Z"},
	{"notAfter equal", -time.Hour, 0, false, "notAfter 2020-10-02T09:00:00Z, and the time of signing is 2020-10-02T09:00:00Z"},
	{"not yet valid", time.Second, time.Hour, false, "notBefore 2020-10-02T09:00:01Z"},
	{"expired", -time.Hour, -time.Second, false, "notAfter 2020-10-02T08:59:59Z"},
}

func TestAcceptsComparesStrictly(t *testing.T) {
	p := prepared(t, RS256)
	for _, c := range validities {
		t.Run(c.name, func(t *testing.T) {
			cert := newCert(t, testKey(), testTime.Add(c.before), testTime.Add(c.after))
			err := p.Accepts(cert)
			if c.ok {
				require.NoError(t, err)
				return
			}
			var ce *CertificateError
			require.ErrorAs(t, err, &ce)
			assert.Equal(t, "5eed", ce.Serial)
			assert.Contains(t, err.Error(), c.says)
			assert.Contains(t, err.Error(), "Certificate expired when signed")
			assert.Contains(t, err.Error(), "new $prepare answer")
		})
	}
}

func TestAcceptsRSAAlone(t *testing.T) {
	p := prepared(t, RS256)
	small := certAt(t, testTime)
	small.PublicKey = &rsa.PublicKey{N: small.PublicKey.(*rsa.PublicKey).N, E: 65537}
	small.PublicKey.(*rsa.PublicKey).N.SetBit(small.PublicKey.(*rsa.PublicKey).N, 2047, 0)
	small.PublicKey.(*rsa.PublicKey).N.Rsh(small.PublicKey.(*rsa.PublicKey).N, 1100)
	for _, c := range []struct {
		name string
		cert *x509.Certificate
		says string
	}{
		{"an EC key", newCert(t, ecKey(), testTime.Add(-time.Hour), testTime.Add(time.Hour)), "key of type ECDSA, wanted RSA"},
		{"no certificate", nil, "is missing"},
		{"an empty certificate", &x509.Certificate{}, "wanted RSA"},
		{"a key too small to verify", small, "wanted at least 1024"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ce *CertificateError
			err := p.Accepts(c.cert)
			require.ErrorAs(t, err, &ce)
			assert.Contains(t, err.Error(), c.says)
			assert.NotEmpty(t, ce.Advice)
		})
	}
}

func TestFinishTakesItsOwnSignatureOnly(t *testing.T) {
	p, cert := prepared(t, RS256), certAt(t, testTime)
	good := sign(t, p, testKey(), cert)
	msg, err := p.ToBeSigned()
	require.NoError(t, err)

	other, err := SignedInfo(RS256, testDigest(RS256, 0x77))
	require.NoError(t, err)
	otherDoc, err := ParsePrepared(answer(other, testTimestamp, "RS256"))
	require.NoError(t, err)
	flipped := bytes.Clone(tbs.Value(good))
	flipped[17] ^= 1
	ecCert := newCert(t, ecKey(), testTime.Add(-time.Hour), testTime.Add(time.Hour))
	ecValue, err := ecdsa.SignASN1(rand.Reader, ecKey(), tbs.Digest(msg))
	require.NoError(t, err)
	otherHash := tbs.New("eps-prepared", tbs.Bytes(msg), crypto.SHA1, true)
	otherKind := tbs.New("another", tbs.Bytes(msg), crypto.SHA256, true)

	for _, c := range []struct {
		name, says string
		sig        tbs.Signature
	}{
		{"the zero signature", "no signature", tbs.Signature{}},
		{"no value", "no signature", tbs.Signed(msg, nil, parsing(cert))},
		{"no certificate", "no signature", tbs.Signed(msg, tbs.Value(good), nil)},
		{"another document's", "another document", sign(t, otherDoc, testKey(), cert)},
		{"over the zero message", "another document", tbs.Signed(tbs.Message{}, tbs.Value(good), parsing(cert))},
		{"with another hash", "another document", tbs.Signed(otherHash, tbs.Value(good), parsing(cert))},
		{"of another kind", "another document", tbs.Signed(otherKind, tbs.Value(good), parsing(cert))},
		{"another document's value under this message", "does not verify", tbs.Signed(msg, tbs.Value(sign(t, otherDoc, testKey(), cert)), parsing(cert))},
		{"another key's", "does not verify", sign(t, p, otherKey(), cert)},
		{"one bit changed", "does not verify", tbs.Signed(msg, flipped, parsing(cert))},
		{"truncated", "does not verify", tbs.Signed(msg, flipped[1:], parsing(cert))},
		{"an EC key's", "wanted RSA", tbs.Signed(msg, ecValue, parsing(ecCert))},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := p.Finish(c.sig)
			require.ErrorContains(t, err, c.says)
			require.Nil(t, s)
		})
	}
	s, err := p.Finish(sign(t, p, otherKey(), cert))
	require.Nil(t, s)
	require.ErrorIs(t, err, rsa.ErrVerification)
	_, err = p.Finish(good)
	require.NoError(t, err, "control")
}

func TestFinishReleasesNothingThatACheckFails(t *testing.T) {
	p := prepared(t, RS256)
	for _, c := range validities {
		t.Run(c.name, func(t *testing.T) {
			cert := newCert(t, testKey(), testTime.Add(c.before), testTime.Add(c.after))
			s, err := p.Finish(sign(t, p, testKey(), cert))
			if c.ok {
				require.NoError(t, err)
				require.NotNil(t, s)
				return
			}
			require.Nil(t, s)
			var ce *CheckError
			require.ErrorAs(t, err, &ce)
			require.Len(t, ce.Checks, 9)
			assert.Equal(t, Failed, ce.Checks[7].Result)
			assert.Contains(t, err.Error(), "check 8 (Certificate expired when signed)")
			assert.Contains(t, err.Error(), c.says)
		})
	}
	t.Run("a certificate whose bytes do not parse", func(t *testing.T) {
		cert := certAt(t, testTime)
		cert.Raw = cert.Raw[:len(cert.Raw)-1]
		_, err := p.Finish(sign(t, p, testKey(), cert))
		var ce *CheckError
		require.ErrorAs(t, err, &ce)
		assert.Equal(t, Failed, ce.Checks[2].Result)
	})
	t.Run("a certificate whose bytes hold another key", func(t *testing.T) {
		cert := certAt(t, testTime)
		cert.Raw = newCert(t, otherKey(), testTime.Add(-time.Hour), testTime.Add(time.Hour)).Raw
		_, err := p.Finish(sign(t, p, testKey(), cert))
		var ce *CheckError
		require.True(t, errors.As(err, &ce))
		assert.Equal(t, Failed, ce.Checks[3].Result)
	})
}
