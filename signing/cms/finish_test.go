package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mozilla.org/pkcs7"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/tbs"
	"github.com/rxguard/rxguard/signing"
)

// Through the real Signer: what is released is verified by OpenSSL, by the library
// and by Verify, all three.
func TestWhatACardSignsOthersVerify(t *testing.T) {
	for name, key := range keys() {
		d := newDesk(t, key)
		for form, c := range map[string]*Content{
			"detached":        Detached(text, Options{Certificates: authorities()}),
			"attached":        Attached(text, Options{Certificates: authorities()}),
			"detached digest": DetachedDigest(sha256.Sum256(text), Options{Certificates: authorities()}),
		} {
			t.Run(name+" "+form, func(t *testing.T) {
				s, err := signing.Sign(t.Context(), d.signer, c)
				require.NoError(t, err)
				assert.Equal(t, d.cert.Raw, s.Certificate().Raw)
				assert.Equal(t, signed, s.SigningTime(), "the Signer's clock, in whole seconds")

				var detached []byte
				if !c.attached {
					detached = text
				}
				for _, more := range [][]string{nil, {"-cades"}} { // with it, signing-certificate-v2 is checked
					out, err := opensslVerify(t, s.DER(), detached, more...)
					require.NoError(t, err, "%s", out)
					assert.Equal(t, text, out)
				}
				if detached != nil {
					out, err := opensslVerify(t, s.DER(), append([]byte("x"), text...))
					assert.Error(t, err, "%s", out)
				}

				p7, err := pkcs7.Parse(s.DER())
				require.NoError(t, err)
				p7.Content = text
				assert.NoError(t, p7.VerifyWithChainAtTime(theCA().Roots(), signed))
				require.Len(t, p7.Certificates, 2)

				r, err := Verify(s.DER(), VerifyOptions{Content: text, Roots: theCA().Roots(), At: signed, RequireSigningCertificate: true})
				require.NoError(t, err)
				assert.Equal(t, c.attached, r.Attached)
				assert.Len(t, r.Chain, 3)
				if c.attached {
					assert.Equal(t, text, r.Content)
				} else {
					assert.Nil(t, r.Content)
				}
				for _, check := range s.Checks() {
					undecided := check.Name == CheckChain || check.Name == CheckRevocation
					assert.Equal(t, undecided, check.Outcome == NotDecidable, "%+v", check)
					assert.Equal(t, undecided, check.Why != "", "%+v", check)
					assert.NotEqual(t, Failed, check.Outcome)
				}
			})
		}
	}
}

// What is in the decision record can be found again from the content alone.
func TestTheRecordNamesTheContent(t *testing.T) {
	d := newDesk(t, rsaKey())
	_, err := signing.Sign(t.Context(), d.signer, Detached(text, Options{}))
	require.NoError(t, err)
	d.sim.Remove()
	_, err = signing.Sign(t.Context(), d.signer, Attached(text, Options{}))
	require.Error(t, err)
	entries := d.record.all()
	require.Len(t, entries, 2)
	for i, event := range []signing.Event{signing.EventSigned, signing.EventRefused} {
		assert.Equal(t, event, entries[i].Event)
		assert.Equal(t, "cms", entries[i].Document)
		assert.Equal(t, hex.EncodeToString(digestOf(text)), entries[i].SHA256)
	}
}

func TestWhatCannotBeSignedDoesNotReachTheCard(t *testing.T) {
	d := newDesk(t, rsaKey())
	many := make([]*x509.Certificate, 16)
	for i := range many {
		many[i] = d.cert
	}
	big := *d.cert
	big.Raw = make([]byte, MaxRest/2+1)
	for name, row := range map[string]struct {
		c    *Content
		says string
	}{
		"nil":                    {nil, "wanted one made by"},
		"zero":                   {&Content{}, "wanted one made by"},
		"detached, no bytes":     {Detached(nil, Options{}), "there is no content"},
		"attached, no bytes":     {Attached([]byte{}, Options{}), "there is no content"},
		"attached, too large":    {Attached(make([]byte, MaxContent+1), Options{}), "16777217 bytes, wanted at most 16777216"},
		"no digest":              {DetachedDigest([32]byte{}, Options{}), "all zeros"},
		"too many certificates":  {Detached(text, Options{Certificates: many}), "16 more certificates, wanted at most 15"},
		"nil certificate":        {Detached(text, Options{Certificates: []*x509.Certificate{nil}}), "certificate 1 of the options is empty"},
		"certificates too large": {Detached(text, Options{Certificates: []*x509.Certificate{&big}}), "bytes of more certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := signing.Sign(t.Context(), d.signer, row.c)
			assert.ErrorContains(t, err, row.says)
			assert.ErrorContains(t, err, "nothing was signed")
			assert.Nil(t, s)
			assert.Error(t, row.c.Accepts(d.cert))
			_, err = row.c.Finish(tbs.Signature{})
			assert.ErrorContains(t, err, row.says)
		})
	}
	assert.Zero(t, d.uses())
	var none *Signed
	assert.Nil(t, none.DER())
	assert.Nil(t, none.Certificate())
	assert.Nil(t, none.Checks())
	assert.True(t, none.SigningTime().IsZero())
	assert.Zero(t, (*Content)(nil).SHA256())
}

// The largest content that fits in reads back.
func TestTheLargestAttachedContent(t *testing.T) {
	content := make([]byte, MaxContent)
	s, err := signAt(Attached(content, Options{Certificates: authorities()}), ecKey(), certify(ecKey()), signed)
	require.NoError(t, err)
	r, err := Verify(s.DER(), VerifyOptions{Certificate: s.Certificate()})
	require.NoError(t, err)
	assert.Len(t, r.Content, MaxContent)
}

// twoFaced takes the message of one content and finishes another.
type twoFaced struct{ signs, finishes *Content }

func (d twoFaced) ToBeSigned() (tbs.Message, error)        { return d.signs.ToBeSigned() }
func (d twoFaced) Finish(s tbs.Signature) (*Signed, error) { return d.finishes.Finish(s) }

func TestASignatureIsFinishedByItsOwnContentOnly(t *testing.T) {
	d := newDesk(t, rsaKey())
	other := []byte("another order")
	for name, doc := range map[string]twoFaced{
		"other content": {Detached(text, Options{}), Detached(other, Options{})},
		"other digest":  {Attached(text, Options{}), DetachedDigest(sha256.Sum256(other), Options{})},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := signing.Sign(t.Context(), d.signer, doc)
			assert.ErrorContains(t, err, "over another document")
			assert.Nil(t, s)
		})
	}
	// What is signed is the same, inside or apart.
	s, err := signing.Sign(t.Context(), d.signer, twoFaced{Attached(text, Options{}), Detached(text, Options{})})
	require.NoError(t, err)
	_, err = Verify(s.DER(), VerifyOptions{Content: text, Certificate: d.cert})
	assert.NoError(t, err)
}

func TestFinishReleasesNothingThatIsNotRight(t *testing.T) {
	c := Detached(text, Options{})
	cert, other := certify(rsaKey()), certify(rsaKey()) // of one key
	m, err := bind(c, cert, signed)
	require.NoError(t, err)
	of := func(m tbs.Message, cert *x509.Certificate) tbs.Signature {
		value := must(rsaKey().Sign(rand.Reader, digestOf(tbs.Bytes(m)), crypto.SHA256))
		return tbs.Signed(m, value, func() *x509.Certificate { return cert })
	}
	waiting, err := c.ToBeSigned()
	require.NoError(t, err)
	broken := must(rsaKey().Sign(rand.Reader, digestOf(tbs.Bytes(m)), crypto.SHA256))
	broken[10] ^= 1
	for name, row := range map[string]struct {
		sig  tbs.Signature
		says string
	}{
		"none":                         {tbs.Signature{}, "there is no signature"},
		"of the content itself":        {of(tbs.New(kind, text, crypto.SHA256, false), cert), "over another document"},
		"before it was bound":          {of(waiting, cert), "over another document"},
		"of another kind":              {of(tbs.New("eps", tbs.Bytes(m), crypto.SHA256, false), cert), "over another document"},
		"another certificate's":        {of(m, other), "over another document"},
		"a certificate of no use":      {of(m, &x509.Certificate{}), "is missing"},
		"that does not verify":         {tbs.Signed(m, broken, func() *x509.Certificate { return cert }), "signature: it does not verify with the key of certificate"},
		"before the certificate's day": {of(must(bind(c, cert, issued.AddDate(0, 0, -1))), cert), "signing_time: "},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := c.Finish(row.sig)
			assert.ErrorContains(t, err, row.says)
			assert.Nil(t, s)
		})
	}
	s, err := c.Finish(of(m, cert))
	require.NoError(t, err)
	assert.NotEmpty(t, s.DER())
}

func TestACertificateThatWillNotDoIsRefusedBeforeThePasscode(t *testing.T) {
	made := func(key crypto.Signer, usage x509.KeyUsage) *x509.Certificate {
		template := &x509.Certificate{SerialNumber: big.NewInt(0xabc), Subject: pkix.Name{CommonName: "x"}, NotBefore: issued, NotAfter: issued.AddDate(1, 0, 0), KeyUsage: usage}
		return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))))
	}
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	c := Detached(text, Options{})
	for name, row := range map[string]struct {
		cert *x509.Certificate
		says string
	}{
		"none":       {nil, "is missing"},
		"P-384":      {made(p384, x509.KeyUsageContentCommitment), "certificate abc has a key on P-384, wanted RSA or P-256"},
		"key usage":  {made(ecKey(), x509.KeyUsageKeyAgreement), "a key usage without digitalSignature and contentCommitment"},
		"tiny RSA":   {&x509.Certificate{Raw: []byte{1}, PublicKey: &rsa.PublicKey{N: big.NewInt(77), E: 3}}, "an RSA key of 7 bits, wanted 1024 to 8192"},
		"giant RSA":  {&x509.Certificate{Raw: []byte{1}, PublicKey: &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 8192), E: 3}}, "an RSA key of 8193 bits"},
		"other kind": {&x509.Certificate{Raw: []byte{1}, PublicKey: 1, PublicKeyAlgorithm: x509.Ed25519}, "a key of type Ed25519"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.Accepts(row.cert)
			assert.ErrorContains(t, err, row.says)
			var ce *CertificateError
			assert.ErrorAs(t, err, &ce)
			assert.NotEmpty(t, ce.Advice)
			_, err = bind(c, row.cert, signed)
			assert.ErrorAs(t, err, &ce, "nor are there bytes to sign")
		})
	}
	assert.NoError(t, c.Accepts(made(ecKey(), 0)), "no key usage sets no limit")
	assert.NoError(t, c.Accepts(made(rsaKey(), x509.KeyUsageDigitalSignature)))
}

// RFC 3370 3.2 and RFC 5754 3.3: rsaEncryption has NULL parameters, ecdsa-with-SHA256
// none.
func TestTheSignatureAlgorithmIsWrittenAsItsStandardSays(t *testing.T) {
	for name, want := range map[string][]byte{
		"RSA":   tlv(0x30, oid(rsaOID), []byte{5, 0}),
		"P-256": tlv(0x30, oid("1.2.840.10045.4.3.2")),
	} {
		s, err := signAt(Detached(text, Options{}), keys()[name], certify(keys()[name]), signed)
		require.NoError(t, err)
		p7, err := pkcs7.Parse(s.DER())
		require.NoError(t, err)
		assert.True(t, bytes.HasSuffix(s.DER(), append(want, tlv(4, p7.Signers[0].EncryptedDigest)...)), name)
	}
}

// RFC 5652 11.3: UTCTime through 2049, GeneralizedTime from 2050.
func TestTheSigningTimeIsWrittenAsTheYearWantsIt(t *testing.T) {
	cert := certify(ecKey()) // until 2081
	for _, at := range []time.Time{
		signed, time.Date(2049, 12, 31, 23, 59, 59, 999e6, time.UTC), time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2060, 2, 29, 12, 0, 0, 0, time.FixedZone("", 3600)),
	} {
		t.Run(at.String(), func(t *testing.T) {
			s, err := signAt(Detached(text, Options{Certificates: authorities()}), ecKey(), cert, at)
			require.NoError(t, err)
			assert.Equal(t, at.UTC().Truncate(time.Second), s.SigningTime())
			out, err := opensslVerify(t, s.DER(), text, "-cades")
			require.NoError(t, err, "%s", out)
		})
	}
}

// The certificates are a SET OF in the order of DER, each once.
func TestCertificatesAreInOrderAndOnce(t *testing.T) {
	cert := certify(rsaKey())
	root, issuing := theCA().RootCertificate(), theCA().IssuingCertificate()
	for _, extra := range [][]*x509.Certificate{{root, issuing}, {issuing, cert, root, cert, issuing}} {
		s, err := signAt(Detached(text, Options{Certificates: extra}), rsaKey(), cert, signed)
		require.NoError(t, err)
		p7, err := pkcs7.Parse(s.DER())
		require.NoError(t, err)
		require.Len(t, p7.Certificates, 3)
		for i := range 2 {
			assert.Negative(t, bytes.Compare(p7.Certificates[i].Raw, p7.Certificates[i+1].Raw))
		}
	}
}

func TestAContentIsWhatItWasWhenItWasMade(t *testing.T) {
	content, extra := append([]byte{}, text...), []*x509.Certificate{theCA().IssuingCertificate()}
	c := Attached(content, Options{Certificates: extra})
	content[0], extra[0] = 'x', nil
	s, err := signAt(c, ecKey(), certify(ecKey()), signed)
	require.NoError(t, err)
	der := s.DER()
	der[0] = 0
	s.Checks()[0].Outcome = Failed
	r, err := Verify(s.DER(), VerifyOptions{Roots: theCA().Roots(), At: signed})
	require.NoError(t, err)
	assert.Equal(t, text, r.Content)
	assert.Equal(t, Passed, s.Checks()[0].Outcome)
	assert.Equal(t, [32]byte(digestOf(text)), c.SHA256())
}

// Whatever the content: it verifies, and with another byte it does not.
func TestAnyContentVerifiesAndNoOther(t *testing.T) {
	need.Cases(t, 2000)
	certs := map[bool]*x509.Certificate{true: certify(rsaKey()), false: certify(ecKey())}
	rapid.Check(t, func(t *rapid.T) {
		content := rapid.SliceOfN(rapid.Byte(), 1, 3000).Draw(t, "content")
		isRSA, attached := rapid.Bool().Draw(t, "RSA"), rapid.Bool().Draw(t, "attached")
		at := issued.Add(time.Duration(rapid.Int64Range(0, int64(50*365*24*time.Hour)).Draw(t, "after")))
		var key crypto.Signer = ecKey()
		if isRSA {
			key = rsaKey()
		}
		c := Detached(content, Options{})
		if attached {
			c = Attached(content, Options{})
		}
		s, err := signAt(c, key, certs[isRSA], at)
		require.NoError(t, err)
		r, err := Verify(s.DER(), VerifyOptions{Content: content, Certificate: certs[isRSA]})
		require.NoError(t, err)
		assert.True(t, r.SigningTime.Equal(at.Truncate(time.Second)))
		i := rapid.IntRange(0, len(content)-1).Draw(t, "byte")
		content[i] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		_, err = Verify(s.DER(), VerifyOptions{Content: content, Certificate: certs[isRSA]})
		assert.ErrorContains(t, err, CheckMessageDigest)
	})
}
