package cms

import (
	"bytes"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// received is when the signatures of testdata are judged.
var received = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// trusting is what a caller asks for who knows the root and the authority below it.
func trusting(t testing.TB) VerifyOptions {
	return VerifyOptions{Content: vector(t, "content"), Roots: pool(certificate(t, "root")), Intermediates: pool(certificate(t, "issuing")), At: received}
}

func TestSignaturesOfOpenSSL(t *testing.T) {
	for file, row := range map[string]struct {
		attached, ess, chain bool
	}{
		"rsa-detached": {},
		"rsa-attached": {attached: true},
		"ec-detached":  {},
		"ec-attached":  {attached: true},
		"rsa-cades":    {ess: true},
		"ec-cades":     {attached: true, ess: true},
		"rsa-keyid":    {attached: true},
		"rsa-sha512":   {},
		"ec384-sha384": {ess: true},
		"rsa-chain":    {chain: true},
	} {
		t.Run(file, func(t *testing.T) {
			der, o := vector(t, file+".der"), trusting(t)
			if row.chain {
				o.Intermediates = nil
			}
			r, err := Verify(der, o)
			require.NoError(t, err)
			assert.Equal(t, row.attached, r.Attached)
			require.Len(t, r.Chain, 3)
			assert.Equal(t, certificate(t, "issuing").Raw, r.Chain[1].Raw)
			assert.Equal(t, r.Certificate, r.Chain[0])
			assert.WithinRange(t, r.SigningTime, time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), received)
			want := map[string]Outcome{CheckExpectedSigner: NotDecidable, CheckRevocation: NotDecidable}
			if !row.ess {
				want[CheckSigningCertificate] = NotDecidable
			}
			for _, c := range r.Checks {
				o, other := want[c.Name]
				if !other {
					o = Passed
				}
				assert.Equal(t, o, c.Outcome, "%+v", c)
				assert.Equal(t, o == Passed, c.Why == "", "%+v", c)
			}

			o.RequireSigningCertificate = true
			_, err = Verify(der, o)
			assert.Equal(t, row.ess, err == nil, "%v", err)

			o = trusting(t)
			o.Content = append(o.Content, '\n')
			_, err = Verify(der, o)
			var ce *CheckError
			require.ErrorAs(t, err, &ce)
			assert.ErrorContains(t, err, "message_digest: the content's SHA-")
			assert.Len(t, ce.Checks, len(checkNames))

			o = trusting(t)
			o.Content = nil
			r, err = Verify(der, o)
			if row.attached {
				require.NoError(t, err)
				assert.Equal(t, vector(t, "content"), r.Content)
				return
			}
			var ue *UndecidedError
			require.ErrorAs(t, err, &ue)
			assert.Equal(t, []string{CheckMessageDigest}, ue.Missing)
			assert.EqualError(t, err, "cms: it cannot be told whether the signature is to be accepted: message_digest: the content is detached and was not given")
			assert.Equal(t, Passed, r.Outcome(CheckSignature))
		})
	}
}

func TestSignaturesOfOpenSSLThatAreRefused(t *testing.T) {
	for file, says := range map[string]string{
		"bad-no-attributes":       "signedAttrs at byte 993: are missing: a signature over the content alone is not accepted",
		"bad-two-signers":         "more than one signer, wanted exactly one",
		"bad-no-signer":           "no signer, wanted exactly one",
		"bad-streamed":            "ContentInfo at byte 0: an indefinite length, wanted DER, which has definite lengths only",
		"bad-enveloped":           "contentType at byte 4: 1.2.840.113549.1.7.3, wanted id-signedData",
		"bad-content-type":        "1.2.3.4, wanted id-data",
		"bad-sha1":                "algorithms: digest 1.3.14.3.2.26 with signature 1.2.840.113549.1.1.1, wanted SHA-256",
		"bad-pss":                 "algorithms: digest 2.16.840.1.101.3.4.2.1 with signature 1.2.840.113549.1.1.10, wanted SHA-256",
		"bad-small-key":           "key: an RSA key of 1024 bits, wanted 2048 to 8192",
		"bad-expired":             "signing_time: 20",
		"bad-key-usage":           "key_usage: a key usage without digitalSignature and contentCommitment",
		"rsa-without-certificate": "signer_certificate: none of the 0 certificates is the signer's",
	} {
		t.Run(file, func(t *testing.T) {
			r, err := Verify(vector(t, file+".der"), trusting(t))
			assert.ErrorContains(t, err, says)
			var fe *FormatError
			var ce *CheckError
			require.True(t, asEither(err, &fe, &ce), "%T", err)
			assert.Equal(t, fe != nil, r == nil)
			if r != nil {
				assert.Nil(t, r.Content)
			}
		})
	}
}

// The signature of an expired certificate is refused at the time that the caller
// trusts, whatever it says itself.
func TestTheTrustedTimeDecides(t *testing.T) {
	der, o := vector(t, "rsa-detached.der"), trusting(t)
	for at, says := range map[time.Time]string{
		time.Date(2019, 12, 31, 23, 59, 59, 0, time.UTC): "chain: at 2019-12-31T23:59:59Z: ",
		time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC):      "chain: at 2100-01-01T00:00:00Z: ",
	} {
		o.At = at
		_, err := Verify(der, o)
		assert.ErrorContains(t, err, says)
		var ce *CheckError
		assert.ErrorAs(t, err, &ce)
	}
	r, err := Verify(vector(t, "bad-expired.der"), trusting(t))
	require.Error(t, err)
	assert.Equal(t, Failed, r.Outcome(CheckChain))
	assert.Equal(t, Passed, r.Outcome(CheckSignature))
}

func TestWhoMaySign(t *testing.T) {
	content, rsaCert, ecCert := vector(t, "content"), certificate(t, "rsa"), certificate(t, "ec")
	der := vector(t, "rsa-detached.der")
	only := func(f func(*VerifyOptions)) VerifyOptions {
		o := VerifyOptions{Content: content}
		f(&o)
		return o
	}
	t.Run("nobody was named, the content is inside", func(t *testing.T) {
		r, err := Verify(vector(t, "rsa-attached.der"), VerifyOptions{})
		var ue *UndecidedError
		require.ErrorAs(t, err, &ue)
		assert.Equal(t, content, r.Content)
	})
	t.Run("nobody was named", func(t *testing.T) {
		r, err := Verify(der, only(func(*VerifyOptions) {}))
		var ue *UndecidedError
		require.ErrorAs(t, err, &ue)
		assert.Equal(t, []string{CheckExpectedSigner, CheckChain}, ue.Missing)
		assert.Equal(t, r.Checks, ue.Checks)
		assert.EqualError(t, err, "cms: it cannot be told whether the signature is to be accepted: expected_signer: no signer was named; chain: no roots were given")
	})
	for name, o := range map[string]VerifyOptions{
		"its certificate": only(func(o *VerifyOptions) { o.Certificate = rsaCert }),
		"its key":         only(func(o *VerifyOptions) { o.PublicKey = rsaCert.RawSubjectPublicKeyInfo }),
		"both":            only(func(o *VerifyOptions) { o.Certificate, o.PublicKey = rsaCert, rsaCert.RawSubjectPublicKeyInfo }),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Verify(der, o)
			require.NoError(t, err)
			assert.Equal(t, Passed, r.Outcome(CheckExpectedSigner))
			assert.Equal(t, NotDecidable, r.Outcome(CheckChain), "not decidable is not passed")
			assert.Nil(t, r.Chain)
		})
	}
	for name, row := range map[string]struct {
		o    VerifyOptions
		says string
	}{
		"another certificate": {only(func(o *VerifyOptions) { o.Certificate = ecCert }), "expected_signer: certificate "},
		"another key":         {only(func(o *VerifyOptions) { o.PublicKey = ecCert.RawSubjectPublicKeyInfo }), "has another key than the expected one"},
		"another root":        {only(func(o *VerifyOptions) { o.Roots, o.At = theCA().Roots(), received }), "chain: at 2030-01-01T00:00:00Z: x509: "},
		"no root at all":      {only(func(o *VerifyOptions) { o.Roots, o.At = x509.NewCertPool(), received }), "chain: "},
		"no way to the root":  {only(func(o *VerifyOptions) { o.Roots, o.At = pool(certificate(t, "root")), received }), "chain: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Verify(der, row.o)
			assert.ErrorContains(t, err, row.says)
			var ce *CheckError
			assert.ErrorAs(t, err, &ce)
		})
	}
	t.Run("a certificate that is not inside", func(t *testing.T) {
		r, err := Verify(vector(t, "rsa-without-certificate.der"), only(func(o *VerifyOptions) { o.Certificate = rsaCert }))
		require.NoError(t, err)
		assert.Equal(t, rsaCert, r.Certificate)
		_, err = Verify(vector(t, "rsa-without-certificate.der"), only(func(o *VerifyOptions) { o.Certificate = ecCert }))
		assert.ErrorContains(t, err, CheckSignerCertificate)
	})
}

func TestOptionsThatContradictThemselvesAreRefused(t *testing.T) {
	content, cert := vector(t, "content"), certificate(t, "rsa")
	for says, o := range map[string]VerifyOptions{
		"Roots without At":     {Content: content, Roots: theCA().Roots()},
		"MinRSABits 1023":      {Content: content, Certificate: cert, MinRSABits: 1023},
		"MinRSABits 8193":      {Content: content, Certificate: cert, MinRSABits: 8193},
		"both Content":         {Content: content, ContentDigest: digestOf(content), Certificate: cert},
		"Certificate is empty": {Content: content, Certificate: &x509.Certificate{}},
	} {
		r, err := Verify(vector(t, "rsa-detached.der"), o)
		assert.ErrorContains(t, err, says)
		assert.Nil(t, r)
	}
}

func TestAKeyOf1024BitsHasToBeAllowed(t *testing.T) {
	o := trusting(t)
	o.MinRSABits = 1024
	_, err := Verify(vector(t, "bad-small-key.der"), o)
	assert.NoError(t, err)
	o.MinRSABits = 3072
	_, err = Verify(vector(t, "rsa-detached.der"), o)
	assert.ErrorContains(t, err, "an RSA key of 2048 bits, wanted 3072 to 8192")
}

func TestTheContentAsItsDigest(t *testing.T) {
	content, o := vector(t, "content"), trusting(t)
	o.Content, o.ContentDigest = nil, digestOf(content)
	for _, file := range []string{"rsa-detached.der", "ec-attached.der"} {
		_, err := Verify(vector(t, file), o)
		assert.NoError(t, err, file)
	}
	_, err := Verify(vector(t, "rsa-sha512.der"), o)
	assert.ErrorContains(t, err, "a digest of 32 bytes was given, wanted the content's SHA-512 of 64")
	sum := sha512.Sum512(content)
	o.ContentDigest = sum[:]
	_, err = Verify(vector(t, "rsa-sha512.der"), o)
	assert.NoError(t, err)
	o.ContentDigest = digestOf([]byte("other"))
	for _, file := range []string{"rsa-detached.der", "ec-attached.der"} {
		r, err := Verify(vector(t, file), o)
		assert.ErrorContains(t, err, "it is other content", file)
		assert.Nil(t, r.Content)
	}
}

// Whatever byte is changed: it is refused, or nothing that counts has changed.
func TestAChangedByteIsSeen(t *testing.T) {
	for _, file := range []string{"rsa-cades.der", "ec-cades.der", "rsa-chain.der"} {
		der, o := vector(t, file), trusting(t)
		was, err := Verify(der, o)
		require.NoError(t, err)
		harmless := 0
		for i := range der {
			for _, flip := range []byte{1, 0x20, 0x80} {
				changed := bytes.Clone(der)
				changed[i] ^= flip
				r, err := Verify(changed, o)
				if err != nil {
					continue
				}
				harmless++
				assert.Equal(t, was.Content, r.Content, "byte %d", i)
				assert.Equal(t, was.SigningTime, r.SigningTime, "byte %d", i)
				assert.Equal(t, was.Certificate.Raw, r.Certificate.Raw, "byte %d", i)
			}
		}
		// The digestAlgorithms, which nothing relies on, the version, and of
		// rsa-chain the certificate of the authority, which the caller has too.
		assert.Less(t, harmless, 3*(20+len(certificate(t, "issuing").Raw)), file)
	}
}

func TestAResultTellsItselfInJSON(t *testing.T) {
	r, err := Verify(vector(t, "ec-cades.der"), trusting(t))
	require.NoError(t, err)
	b, err := json.Marshal(r)
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(string(b), `{"checks":[{"name":"content_type","outcome":"passed"},`), "%s", b)
	assert.Contains(t, string(b), `{"name":"revocation","outcome":"not_decidable","why":"revocation lists are not read here"}`)
	var back Result
	require.NoError(t, json.Unmarshal(b, &back))
	assert.Equal(t, r.Checks, back.Checks)
	assert.Equal(t, r.SigningTime, back.SigningTime)

	var o Outcome
	assert.Error(t, json.Unmarshal([]byte(`"fine"`), &o))
	assert.Error(t, json.Unmarshal([]byte(`1`), &o))
	_, err = json.Marshal(Outcome(7))
	assert.Error(t, err)
	assert.Equal(t, "outcome 7", Outcome(7).String())
	assert.Equal(t, NotDecidable, r.Outcome("no such check"))
	assert.Equal(t, NotDecidable, (*Result)(nil).Outcome(CheckChain))
	for i, name := range checkNames {
		assert.Equal(t, name, r.Checks[i].Name)
	}
}
