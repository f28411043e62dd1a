package est

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/renewal"
)

// enc is an element in DER.
func enc(t testing.TB, tag byte, parts ...[]byte) []byte {
	t.Helper()
	content := bytes.Join(parts, nil)
	switch n := len(content); {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, content...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, content...)
	default:
		require.Less(t, n, 1<<16)
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content...)
	}
}

func oid(t testing.TB, content string) []byte { return enc(t, tagOID, []byte(content)) }

func attribute(t testing.TB, kind string, values ...[]byte) []byte {
	return enc(t, tagSequence, oid(t, kind), enc(t, tagSet, values...))
}

// extension is one that is critical where that is so.
func extension(t testing.TB, id string, critical bool, value []byte) []byte {
	parts := [][]byte{oid(t, id)}
	if critical {
		parts = append(parts, []byte{1, 1, 0xff})
	}
	return enc(t, tagSequence, append(parts, enc(t, tagOctets, value))...)
}

func integer(t testing.TB, n int) []byte {
	b, err := asn1.Marshal(n)
	require.NoError(t, err)
	return b
}

// rfcExample is the example of RFC 7030 4.5.2.
const rfcExample = "MEEGCSqGSIb3DQEJBzASBgcqhkjOPQIBMQcGBSuBBAAiMBYGCSqGSIb3DQEJDjEJBgcrBgEBAQEWBggqhkjOPQQDAw=="

var (
	usageID      = asn1.ObjectIdentifier{2, 5, 29, 15}
	signingUsage = pkix.Extension{Id: usageID, Critical: true, Value: []byte{3, 2, 6, 0x40}}
	sha384       = encoded(1, 2, 840, 113549, 1, 1, 12)
	sha512       = encoded(1, 2, 840, 113549, 1, 1, 13)
	sha1         = encoded(1, 2, 840, 113549, 1, 1, 5)
	pss          = encoded(1, 2, 840, 113549, 1, 1, 10)
	ec           = encoded(1, 2, 840, 10045, 2, 1)
	ecdsa256     = encoded(1, 2, 840, 10045, 4, 3, 2)
	p384         = encoded(1, 3, 132, 0, 34)
	unknown      = encoded(1, 3, 6, 1, 4, 1, 99999, 1)
)

func TestAttributesThatACardCanDo(t *testing.T) {
	policies := enc(t, tagSequence, enc(t, tagSequence, oid(t, encoded(1, 2, 826, 0, 1275, 102, 0, 3, 2, 0))))
	request := func(values ...[]byte) []byte { return attribute(t, oidExtensionRequest, values...) }
	huge := append([]byte{tagOID, 21}, append(bytes.Repeat([]byte{0xff}, 20), 0x7f)...) // arcs beyond any integer
	for name, row := range map[string]struct {
		entries [][]byte
		want    renewal.Attributes
	}{
		"nothing":                       {nil, renewal.Attributes{}},
		"what is not known":             {[][]byte{oid(t, unknown), huge, attribute(t, unknown, []byte{5, 0}), attribute(t, unknown)}, renewal.Attributes{}},
		"a name of the person":          {[][]byte{oid(t, encoded(2, 5, 4, 5))}, renewal.Attributes{}},
		"an RSA key":                    {[][]byte{oid(t, oidRSA)}, renewal.Attributes{}},
		"an RSA key, parameters NULL":   {[][]byte{attribute(t, oidRSA, []byte{5, 0})}, renewal.Attributes{}},
		"an RSA key of 3072 bits":       {[][]byte{attribute(t, oidRSA, integer(t, 3072))}, renewal.Attributes{KeyBits: 3072}},
		"the least of several sizes":    {[][]byte{attribute(t, oidRSA, integer(t, 8192), integer(t, 4096), integer(t, 3072))}, renewal.Attributes{KeyBits: 3072}},
		"one of several kinds of key":   {[][]byte{attribute(t, ec, oid(t, p384)), oid(t, ecdsa256), attribute(t, oidRSA, integer(t, 2048))}, renewal.Attributes{KeyBits: 2048}},
		"SHA-512":                       {[][]byte{oid(t, sha512)}, renewal.Attributes{Signature: x509.SHA512WithRSA}},
		"the first hash that is known":  {[][]byte{oid(t, sha1), oid(t, pss), oid(t, sha384), oid(t, sha512)}, renewal.Attributes{Signature: x509.SHA384WithRSA}},
		"a signature that is RSA's too": {[][]byte{oid(t, ecdsa256), oid(t, sha384)}, renewal.Attributes{Signature: x509.SHA384WithRSA}},
		"key usage, without a value":    {[][]byte{request(oid(t, oidKeyUsage))}, renewal.Attributes{Extensions: []pkix.Extension{signingUsage}}},
		"key usage, in a sequence":      {[][]byte{request(enc(t, tagSequence, oid(t, unknown), oid(t, oidKeyUsage)))}, renewal.Attributes{Extensions: []pkix.Extension{signingUsage}}},
		"key usage, an empty value":     {[][]byte{request(enc(t, tagSequence, extension(t, oidKeyUsage, false, nil)))}, renewal.Attributes{Extensions: []pkix.Extension{signingUsage}}},
		"key usage, critical":           {[][]byte{request(enc(t, tagSequence, extension(t, oidKeyUsage, true, []byte{3, 2, 6, 0x40})))}, renewal.Attributes{Extensions: []pkix.Extension{signingUsage}}},
		"key usage, more and twice":     {[][]byte{request(enc(t, tagSequence, extension(t, oidKeyUsage, false, []byte{3, 2, 6, 0xc0}), extension(t, oidKeyUsage, true, []byte{3, 2, 6, 0x40})))}, renewal.Attributes{Extensions: []pkix.Extension{{Id: usageID, Value: []byte{3, 2, 6, 0xc0}}}}},
		"certificate policies":          {[][]byte{request(enc(t, tagSequence, extension(t, oidPolicies, false, policies)))}, renewal.Attributes{Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 32}, Value: policies}}}},
		"policies without a value":      {[][]byte{request(oid(t, oidPolicies))}, renewal.Attributes{}},
		"extensions that are not asked": {[][]byte{request(enc(t, tagSequence, extension(t, encoded(2, 5, 29, 19), true, []byte{0x30, 3, 1, 1, 0xff}), extension(t, encoded(2, 5, 29, 17), false, []byte{0x30, 0})))}, renewal.Attributes{}},
		"extensions that are none":      {[][]byte{request([]byte{5, 0}, enc(t, tagSequence, enc(t, tagSequence), []byte{5, 0}), enc(t, tagSequence))}, renewal.Attributes{}},
		"all of it, of a signing profile": {
			[][]byte{attribute(t, oidRSA, integer(t, 2048)), oid(t, sha384), request(enc(t, tagSequence, extension(t, oidKeyUsage, true, []byte{3, 2, 6, 0x40}))), oid(t, unknown)},
			renewal.Attributes{KeyBits: 2048, Signature: x509.SHA384WithRSA, Extensions: []pkix.Extension{signingUsage}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := parseCSRAttrs(enc(t, tagSequence, row.entries...))
			require.NoError(t, err)
			got, err := w.choose()
			require.NoError(t, err)
			require.Equal(t, row.want, got)
		})
	}
}

func TestAttributesThatNoSigningCardCanDo(t *testing.T) {
	example, err := base64.StdEncoding.DecodeString(rfcExample)
	require.NoError(t, err)
	list := func(entries ...[]byte) []byte { return enc(t, tagSequence, entries...) }
	usage := func(value ...byte) []byte {
		return list(attribute(t, oidExtensionRequest, enc(t, tagSequence, extension(t, oidKeyUsage, true, value))))
	}
	for name, row := range map[string]struct {
		der  []byte
		says string
	}{
		"the example of RFC 7030":         {example, "linked to its TLS connection (challengePassword, RFC 7030 3.5), but TLS 1.3 has no tls-unique"},
		"a password, as an attribute":     {list(attribute(t, oidChallengePassword, []byte{0x0c, 1, 'x'})), "challengePassword"},
		"an EC key":                       {list(attribute(t, ec, oid(t, p384))), "a key or signature of another kind, id-ecPublicKey, expected rsaEncryption"},
		"an EC key, by its signature":     {list(oid(t, ecdsa256)), "ecdsa-with-SHA256, expected rsaEncryption"},
		"a key of Edwards' curve":         {list(oid(t, encoded(1, 3, 101, 112))), "id-Ed25519"},
		"an RSA key of 1024 bits":         {list(attribute(t, oidRSA, integer(t, 1024))), "an RSA key of [1024] bits, expected one of [2048 3072 4096]"},
		"an RSA key of 16384 bits":        {list(attribute(t, oidRSA, integer(t, 16384))), "of [16384] bits"},
		"an RSA key of no size":           {list(attribute(t, oidRSA, integer(t, -1), integer(t, 1<<40), []byte{2, 0})), "of [-1 -1 -1] bits"},
		"SHA-1":                           {list(oid(t, sha1)), "signed with sha1WithRSAEncryption, expected RSASSA-PKCS1-v1_5 with SHA-256"},
		"RSASSA-PSS":                      {list(oid(t, pss)), "signed with id-RSASSA-PSS"},
		"a key usage to log in":           {usage(3, 2, 7, 0x80), "a key usage without contentCommitment"},
		"a key usage of nothing":          {usage(3, 1, 0), "a key usage without contentCommitment"},
		"a key usage after a good one":    {list(attribute(t, oidExtensionRequest, oid(t, oidKeyUsage), enc(t, tagSequence, extension(t, oidKeyUsage, true, []byte{3, 2, 7, 0x80})))), "without contentCommitment"},
		"what it cannot do, with unknown": {list(oid(t, unknown), oid(t, oidChallengePassword)), "challengePassword"},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := parseCSRAttrs(row.der)
			require.NoError(t, err)
			got, err := w.choose()
			require.ErrorContains(t, err, row.says)
			require.ErrorContains(t, err, "ask the authority")
			require.Zero(t, got)
		})
	}
}

func TestParseCSRAttrsRefuses(t *testing.T) {
	list := func(entries ...[]byte) []byte { return enc(t, tagSequence, entries...) }
	deep := []byte{tagInteger, 1, 1}
	for range 40 {
		deep = enc(t, tagSequence, deep)
	}
	for name, row := range map[string]struct {
		der  []byte
		says string
	}{
		"nothing":                         {nil, "not CSR attributes: an element is cut off"},
		"a SET":                           {[]byte{0x31, 0}, "not CSR attributes: tag 0x31, expected a SEQUENCE"},
		"bytes after it":                  {append(list(), 0, 0), "2 bytes after the CSR attributes"},
		"cut off":                         {list(oid(t, unknown))[:5], "more than the"},
		"an indefinite length":            {[]byte{0x30, 0x80, 0, 0}, "an indefinite length"},
		"an indefinite length in unknown": {list(attribute(t, unknown, []byte{0x24, 0x80, 0, 0})), "an indefinite length"},
		"elements that are deep":          {list(attribute(t, unknown, deep)), "nested deeper than 32"},
		"neither of the two":              {list([]byte{2, 1, 1}), "tag 0x02, expected an OBJECT IDENTIFIER or an attribute"},
		"an attribute without values":     {list(enc(t, tagSequence, oid(t, unknown))), "an attribute that is not a type and a SET of values"},
		"an attribute without a type":     {list(enc(t, tagSequence, enc(t, tagSet))), "an attribute that is not a type"},
		"an attribute of three":           {list(enc(t, tagSequence, oid(t, unknown), enc(t, tagSet), enc(t, tagSet))), "an attribute that is not a type"},
		"a key usage that is none":        {list(attribute(t, oidExtensionRequest, enc(t, tagSequence, extension(t, oidKeyUsage, true, []byte{4, 1, 1})))), "a key usage that is not a BIT STRING"},
		"a key usage with more after it":  {list(attribute(t, oidExtensionRequest, enc(t, tagSequence, extension(t, oidKeyUsage, true, []byte{3, 2, 6, 0x40, 0})))), "a key usage that is not a BIT STRING"},
		"policies that are none":          {list(attribute(t, oidExtensionRequest, enc(t, tagSequence, extension(t, oidPolicies, false, []byte{0x30, 0x80, 0, 0})))), "certificate policies: an indefinite length"},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := parseCSRAttrs(row.der)
			require.ErrorContains(t, err, row.says)
			require.Zero(t, w)
		})
	}
}

// attributesServer answers csrattrs alone.
func attributesServer(t *testing.T, w *world, answer http.HandlerFunc) *httptest.Server {
	t.Helper()
	return w.server(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/est/signing/csrattrs" || r.Method != http.MethodGet {
			t.Errorf("%s %s was asked", r.Method, r.URL.Path)
		}
		answer(rw, r)
	}, nil)
}

func TestAttributesOverTLS(t *testing.T) {
	w := newWorld(t)
	const media = "application/csrattrs"
	der := enc(t, tagSequence, attribute(t, oidRSA, integer(t, 4096)), oid(t, sha512))
	good := string(lines(der))
	wanted := renewal.Attributes{KeyBits: 4096, Signature: x509.SHA512WithRSA}
	for name, row := range map[string]struct {
		handler http.HandlerFunc
		want    renewal.Attributes
	}{
		"in lines":          {reply(200, media, good), wanted},
		"on one line":       {reply(200, media+"; charset=us-ascii", strings.ReplaceAll(good, "\n", "")), wanted},
		"with white space":  {reply(200, media, " \r\n"+strings.ReplaceAll(good, "\n", "\r\n\t")), wanted},
		"at the limit":      {reply(200, media, good+strings.Repeat("\n", maxAnswer-len(good))), wanted},
		"an empty list":     {reply(200, media, "MAA="), renewal.Attributes{}},
		"an empty answer":   {reply(200, media, ""), renewal.Attributes{}},
		"white space alone": {reply(200, media, "\r\n"), renewal.Attributes{}},
		"no content":        {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(204) }, renewal.Attributes{}},
		"not found":         {reply(404, "text/html", "<html>no such page"), renewal.Attributes{}},
		"status 501":        {reply(501, "text/plain", "later"), renewal.Attributes{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := attributesServer(t, w, row.handler)
			got, err := w.client(t, s.URL, nil).Attributes(t.Context(), w.transport)
			require.NoError(t, err)
			require.Equal(t, row.want, got)
		})
	}
	encoded := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	for name, row := range map[string]struct {
		handler http.HandlerFunc
		kind    renewal.EnrolKind
		status  int
		says    string
	}{
		"what no card can do":         {reply(200, media, rfcExample), renewal.Rejected, 0, "challengePassword"},
		"under another type":          {reply(200, pkcs7Type, good), renewal.Malformed, 200, `content type "application/pkcs7-mime", expected application/csrattrs`},
		"a page":                      {reply(200, "text/html", "<html>"), renewal.Malformed, 200, "text/html page instead of CSR attributes: a proxy or portal may stand between"},
		"not base64":                  {reply(200, media, "****"), renewal.Malformed, 200, "not base64, expected base64 of CSR attributes"},
		"something else":              {reply(200, media, encoded([]byte("hello"))), renewal.Malformed, 200, "not CSR attributes"},
		"indefinite lengths":          {reply(200, media, encoded(bytes.Repeat([]byte{0x30, 0x80}, 20_000))), renewal.Malformed, 200, "an indefinite length"},
		"4 MB of them":                {reply(200, media, encoded(bytes.Repeat([]byte{0x30, 0x80}, 2_000_000))), renewal.Malformed, 200, "longer than the limit of 65536 bytes"},
		"white space, over the limit": {reply(200, media, strings.Repeat("\n", maxAnswer+1)), renewal.Malformed, 200, "an empty answer"},
		"pending":                     {reply(202, "text/plain", ""), renewal.Malformed, 202, "expected its CSR attributes now"},
		"a redirect":                  {redirect(301, "http://evil.example/?token=hunter2"), renewal.Malformed, 301, `a redirect to "http://evil.example/"`},
		"forbidden":                   {reply(403, "text/plain", "not you"), renewal.Rejected, 403, `"not you"`},
		"busy":                        {reply(503, "text/plain", ""), renewal.Unavailable, 503, "(HTTP 503)"},
	} {
		t.Run(name, func(t *testing.T) {
			s := attributesServer(t, w, row.handler)
			got, err := w.client(t, s.URL, nil).Attributes(t.Context(), w.transport)
			e := enrolment(t, err, row.kind, row.says, "GET "+s.URL+"/.well-known/est/signing/csrattrs")
			require.Equal(t, row.status, e.Status)
			require.NotContains(t, err.Error(), "hunter2")
			require.Zero(t, got)
		})
	}
	t.Run("a slow drip", func(t *testing.T) {
		s := attributesServer(t, w, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Type", media)
			rw.Write([]byte("M"))
			rw.(http.Flusher).Flush()
			<-r.Context().Done()
		})
		c := w.client(t, s.URL, func(c *Config) { c.Timeout = 200 * time.Millisecond })
		_, err := c.Attributes(t.Context(), w.transport)
		enrolment(t, err, renewal.Unreachable, "no whole answer in time")
	})
	t.Run("the test server's", func(t *testing.T) {
		s, err := testcard.NewServer(testcard.ServerConfig{CA: w.ca, Attributes: der})
		require.NoError(t, err)
		t.Cleanup(func() { s.Close() })
		got, err := w.client(t, s.URL(), nil).Attributes(t.Context(), w.transport)
		require.NoError(t, err)
		require.Equal(t, wanted, got)
		got, err = w.client(t, testServer(t, w, false).URL(), nil).Attributes(t.Context(), w.transport)
		require.NoError(t, err)
		require.Zero(t, got)
	})
}

// FuzzParseAttributes: what is accepted is accepted in every form of base64, whatever
// unknown stands beside it, and what is refused is refused in every form. A request
// carries no extension but these two, with what the server sent or a signing
// certificate has.
func FuzzParseAttributes(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxAnswer {
			return
		}
		if _, err := parseAttributes(b); err != nil {
			require.NotContains(t, err.Error(), "\n")
		}
		w, err := parseCSRAttrs(b)
		text := lines(b)
		for _, form := range [][]byte{text, bytes.ReplaceAll(text, []byte("\n"), nil), bytes.ReplaceAll(text, []byte("\n"), []byte(" \r\n\t"))} {
			if len(b) == 0 { // no wishes
				break
			}
			same, e := parseAttributes(form)
			require.Equal(t, err == nil, e == nil)
			require.Equal(t, w, same)
		}
		if err != nil {
			return
		}
		e, _, err := element(b)
		require.NoError(t, err)
		if len(e.content) < 1<<15 {
			more, err := parseCSRAttrs(enc(t, tagSequence, e.content, oid(t, unknown), attribute(t, unknown, []byte{5, 0})))
			require.NoError(t, err)
			require.Equal(t, w, more)
		}
		a, err := w.choose()
		if err != nil {
			require.Zero(t, a)
			return
		}
		require.Contains(t, []int{0, 2048, 3072, 4096}, a.KeyBits)
		require.LessOrEqual(t, len(a.Extensions), 2)
		for _, x := range a.Extensions {
			require.True(t, x.Id.Equal(usageID) || x.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 32}))
			require.True(t, bytes.Contains(b, x.Value) || bytes.Equal(x.Value, signingUsage.Value))
		}
	})
}
