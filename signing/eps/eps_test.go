package eps

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/tbs"
)

const testTimestamp = "2020-10-02T09:00:00+00:00"

var testTime = time.Date(2020, 10, 2, 9, 0, 0, 0, time.UTC)

var newKey = func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

// testKey and otherKey are made once, by the first test that wants them.
var testKey, otherKey = sync.OnceValue(newKey), sync.OnceValue(newKey)

var ecKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

func newCert(t testing.TB, key crypto.Signer, notBefore, notAfter time.Time) *x509.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(0x5eed),
		Subject:      pkix.Name{CommonName: "eps test, not a real card"},
		NotBefore:    notBefore,
		NotAfter:     notAfter,
		KeyUsage:     x509.KeyUsageContentCommitment,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert
}

// certAt is a certificate of testKey that is valid around at.
func certAt(t testing.TB, at time.Time) *x509.Certificate {
	return newCert(t, testKey(), at.Add(-24*time.Hour), at.Add(24*time.Hour))
}

func testDigest(a Algorithm, fill byte) []byte {
	d := make([]byte, methods[a].hash.Size())
	for i := range d {
		d[i] = fill + byte(i)
	}
	return d
}

func testSignedInfo(t testing.TB, a Algorithm) []byte {
	b, err := SignedInfo(a, testDigest(a, 0x5b))
	require.NoError(t, err)
	return b
}

// answer makes a $prepare answer around whatever signedInfo is.
func answer(signedInfo []byte, timestamp, algorithm string) []byte {
	return answer64(base64.StdEncoding.EncodeToString(signedInfo), timestamp, algorithm)
}

func answer64(digest, timestamp, algorithm string) []byte {
	type parameter struct {
		Name        string `json:"name"`
		ValueString string `json:"valueString"`
	}
	b, err := json.Marshal(map[string]any{
		"resourceType": "Parameters",
		"parameter":    []parameter{{"digest", digest}, {"timestamp", timestamp}, {"algorithm", algorithm}},
	})
	if err != nil {
		panic(err)
	}
	return b
}

func prepared(t testing.TB, a Algorithm) *Prepared {
	t.Helper()
	p, err := ParsePrepared(answer(testSignedInfo(t, a), testTimestamp, a.String()))
	require.NoError(t, err)
	return p
}

// sign does what a card does.
func sign(t testing.TB, p *Prepared, key *rsa.PrivateKey, cert *x509.Certificate) tbs.Signature {
	t.Helper()
	msg, err := p.ToBeSigned()
	require.NoError(t, err)
	value, err := rsa.SignPKCS1v15(nil, key, tbs.Hash(msg), tbs.Digest(msg))
	require.NoError(t, err)
	return tbs.Signed(msg, value, parsing(cert))
}

func signed(t testing.TB, a Algorithm) *Signed {
	t.Helper()
	p, cert := prepared(t, a), certAt(t, testTime)
	s, err := p.Finish(sign(t, p, testKey(), cert))
	require.NoError(t, err)
	return s
}

func requireFormatError(t testing.TB, err error, field string) *FormatError {
	t.Helper()
	var f *FormatError
	require.ErrorAs(t, err, &f)
	require.Equal(t, field, f.Field, "%v", err)
	require.Less(t, len(err.Error()), 700, "the error is bounded")
	return f
}

// parsing stands for the parser of a card's certificate.
func parsing(cert *x509.Certificate) func() *x509.Certificate {
	return func() *x509.Certificate { return cert }
}
