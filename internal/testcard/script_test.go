package testcard

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mozilla.org/pkcs7"
)

func TestScriptedAnswers(t *testing.T) {
	w := newWorld(t)
	const cms = "application/pkcs7-mime; smime-type=certs-only"
	for _, x := range []struct {
		name   string
		reply  *Reply
		status int
		header map[string]string
		check  func(*testing.T, string)
	}{
		{"202 with seconds", Pending(90*time.Second + time.Nanosecond), 202, map[string]string{"Retry-After": "91"}, nil},
		{"202 with a date", PendingUntil(then.In(time.FixedZone("BST", 3600))), 202, map[string]string{"Retry-After": "Wed, 30 Sep 2020 09:00:00 GMT"}, nil},
		{"4xx", Failure(403, "not entitled"), 403, map[string]string{"Content-Type": "text/plain; charset=utf-8"}, func(t *testing.T, b string) { assert.Equal(t, "not entitled\n", b) }},
		{"5xx", Failure(503, "down"), 503, nil, nil},
		{"an HTML page", Page(), 200, map[string]string{"Content-Type": "text/html; charset=utf-8"}, func(t *testing.T, b string) { assert.Contains(t, b, "<html>") }},
		{"a redirect", Redirect("https://127.0.0.1:1/"), 302, map[string]string{"Location": "https://127.0.0.1:1/"}, nil},
		{"not base64", Garbage(), 200, map[string]string{"Content-Type": cms}, func(t *testing.T, b string) {
			_, err := base64.StdEncoding.DecodeString(b)
			assert.Error(t, err)
		}},
		{"not PKCS #7", NotPKCS7(), 200, map[string]string{"Content-Type": cms}, func(t *testing.T, b string) {
			der, err := base64.StdEncoding.DecodeString(b)
			require.NoError(t, err)
			_, err = pkcs7.Parse(der)
			assert.Error(t, err)
		}},
		{"empty", Empty(), 200, map[string]string{"Content-Type": cms, "Content-Length": "0"}, func(t *testing.T, b string) { assert.Empty(t, b) }},
		{"huge", Huge(), 200, map[string]string{"Content-Type": cms, "Content-Length": "4194304"}, func(t *testing.T, b string) { assert.Len(t, b, 4<<20) }},
		{"no certificate", NoCertificate(), 200, map[string]string{"Content-Type": cms}, func(t *testing.T, b string) {
			der, err := base64.StdEncoding.DecodeString(b)
			require.NoError(t, err)
			p7, err := pkcs7.Parse(der)
			require.NoError(t, err)
			assert.Empty(t, p7.Certificates)
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			w.server.Script(Sequence(x.reply))
			w.server.mu.Lock()
			clear(w.server.count)
			w.server.mu.Unlock()
			a := post(t, w.http, w.server.URL()+reenrolSigning, w.body)
			assert.Equal(t, x.status, a.status)
			for k, v := range x.header {
				assert.Equal(t, v, a.header.Get(k), k)
			}
			if x.check != nil {
				x.check(t, a.body)
			}
		})
	}
	assert.Empty(t, w.server.Issued())
}

func TestScriptedCertificates(t *testing.T) {
	w := newWorld(t)
	window := time.Date(2020, 9, 29, 12, 0, 0, 0, time.UTC)
	valid := func(c *x509.Certificate) bool { return !then.Before(c.NotBefore) && !then.After(c.NotAfter) }
	ordinary := []string{"key", "subject", "profile", "issuer", "valid"}
	for _, x := range []struct {
		name  string
		reply *Reply
		wrong string
		check func(*testing.T, *x509.Certificate)
	}{
		{"ordinary", nil, "", nil},
		{"another key", OtherKey(), "key", nil},
		{"another subject", OtherSubject(), "subject", func(t *testing.T, c *x509.Certificate) {
			assert.Equal(t, []string{Organization}, c.Subject.Organization)
		}},
		{"another profile", OtherProfile(), "profile", nil},
		{"another root", OtherRoot(), "issuer", func(t *testing.T, c *x509.Certificate) {
			assert.Equal(t, w.ca.IssuingCertificate().RawSubject, c.RawIssuer)
		}},
		{"affected again", IssuedAt(window), "", func(t *testing.T, c *x509.Certificate) { assert.Equal(t, window, c.NotBefore) }},
		{"expired", Expired(), "valid", func(t *testing.T, c *x509.Certificate) { assert.True(t, c.NotAfter.Before(then)) }},
		{"not yet valid", NotYetValid(), "valid", func(t *testing.T, c *x509.Certificate) { assert.True(t, c.NotBefore.After(then)) }},
	} {
		t.Run(x.name, func(t *testing.T) {
			w.server.Script(func(*http.Request, int) *Reply { return x.reply })
			certs := certsIn(t, post(t, w.http, w.server.URL()+reenrolSigning, w.body))
			require.Len(t, certs, 1)
			c := certs[0]
			is := map[string]bool{
				"key":     w.newKey.PublicKey.Equal(c.PublicKey),
				"subject": string(c.RawSubject) == string(w.auth.RawSubject),
				"profile": c.KeyUsage == x509.KeyUsageContentCommitment,
				"issuer":  c.CheckSignatureFrom(w.ca.IssuingCertificate()) == nil,
				"valid":   valid(c),
			}
			for _, what := range ordinary {
				assert.Equal(t, what != x.wrong, is[what], what)
			}
			if x.check != nil {
				x.check(t, c)
			}
			issued := w.server.Issued()
			assert.Equal(t, c.Raw, issued[len(issued)-1].Certificate.Raw)
		})
	}
}

func TestLostAnswerWasIssued(t *testing.T) {
	w := newWorld(t)
	w.server.Script(Sequence(Lost()))
	_, err := w.http.Post(w.server.URL()+reenrolSigning, "application/pkcs10", strings.NewReader(w.body))
	assert.True(t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF), "%v", err)
	assert.Len(t, w.server.Issued(), 1)
	assert.Len(t, certsIn(t, post(t, w.http, w.server.URL()+reenrolSigning, w.body)), 1, "asked again it issues twice")
	issued := w.server.Issued()
	require.Len(t, issued, 2)
	assert.Equal(t, issued[0].Request, issued[1].Request)
	assert.NotEqual(t, issued[0].Certificate.SerialNumber, issued[1].Certificate.SerialNumber)
}

func TestWrongContentType(t *testing.T) {
	w := newWorld(t)
	w.server.Script(Sequence(WrongType()))
	a := post(t, w.http, w.server.URL()+reenrolSigning, w.body)
	assert.Equal(t, 200, a.status)
	assert.Equal(t, "application/octet-stream", a.header.Get("Content-Type"))
	assert.Len(t, w.server.Issued(), 1)
}

func TestSequenceCountsEnrolmentsAlone(t *testing.T) {
	w := newWorld(t)
	w.server.Script(Sequence(Failure(500, "first"), nil, Pending(time.Second)))
	for _, want := range []int{500, 200, 202, 200, 200} {
		resp, err := w.http.Get(w.server.URL() + "/.well-known/est/cacerts")
		require.NoError(t, err)
		assert.Equal(t, 200, read(t, resp).status)
		assert.Equal(t, want, post(t, w.http, w.server.URL()+reenrolSigning, w.body).status)
	}
}

func TestScriptSeesTheRequest(t *testing.T) {
	w := newWorld(t)
	var seen []string
	w.server.Script(func(r *http.Request, n int) *Reply {
		b, _ := io.ReadAll(r.Body)
		seen = append(seen, r.URL.Path+" "+string(b))
		assert.Equal(t, len(seen), n)
		return &Reply{Alter: func(*Order) error { return refuse(http.StatusConflict, "taken") }}
	})
	a := post(t, w.http, w.server.URL()+reenrolSigning, w.body)
	assert.Equal(t, 409, a.status, "the server read the body too")
	assert.Equal(t, []string{reenrolSigning + " " + w.body}, seen)
	w.server.Script(func(*http.Request, int) *Reply {
		return &Reply{Alter: func(*Order) error { return errors.New("broken") }}
	})
	assert.Equal(t, 500, post(t, w.http, w.server.URL()+reenrolSigning, w.body).status)
	w.server.Script(nil)
	assert.Equal(t, 200, post(t, w.http, w.server.URL()+reenrolSigning, w.body).status)
}
