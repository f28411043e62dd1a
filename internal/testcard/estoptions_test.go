package testcard

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCSRAttributesAreThoseOfTheServer(t *testing.T) {
	w := newWorld(t)
	attributes := []byte{0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b} // sha256WithRSAEncryption
	s := newServer(t, ServerConfig{CA: w.ca, Attributes: attributes})
	for _, path := range []string{"/.well-known/est/csrattrs", "/.well-known/est/signing/csrattrs"} {
		resp, err := w.http.Get(s.URL() + path)
		require.NoError(t, err)
		a := read(t, resp)
		assert.Equal(t, 200, a.status)
		assert.Equal(t, "application/csrattrs", a.header.Get("Content-Type"))
		assert.Equal(t, base64.StdEncoding.EncodeToString(attributes), a.body)

		resp, err = w.http.Get(w.server.URL() + path)
		require.NoError(t, err)
		assert.Equal(t, 404, read(t, resp).status, "a server that has none")
	}
	resp, err := w.http.Post(s.URL()+"/.well-known/est/csrattrs", "application/pkcs10", strings.NewReader(w.body))
	require.NoError(t, err)
	assert.Equal(t, 405, read(t, resp).status)
}

func TestAPasswordIsForSimpleenrollAlone(t *testing.T) {
	w := newWorld(t)
	s := newServer(t, ServerConfig{CA: w.ca, User: "ward", Password: "a password"})
	nobody := client(t, s, nil, nil)
	for _, x := range []struct {
		name, server, path, user, password string
		client                             *http.Client
		status                             int
	}{
		{"the password", s.URL(), "simpleenroll", "ward", "a password", nobody, 200},
		{"another", s.URL(), "simpleenroll", "ward", "password", nobody, 401},
		{"another user", s.URL(), "simpleenroll", "theatre", "a password", nobody, 401},
		{"none", s.URL(), "simpleenroll", "", "", nobody, 401},
		{"to renew", s.URL(), "simplereenroll", "ward", "a password", nobody, 403},
		{"with a certificate", s.URL(), "simpleenroll", "", "", client(t, s, ecKey(), w.auth), 200},
		{"where there is none", w.server.URL(), "simpleenroll", "", "", client(t, w.server, nil, nil), 403},
	} {
		t.Run(x.name, func(t *testing.T) {
			q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, x.server+"/.well-known/est/"+x.path, strings.NewReader(w.body))
			require.NoError(t, err)
			q.Header.Set("Content-Type", "application/pkcs10")
			if x.user != "" {
				q.SetBasicAuth(x.user, x.password)
			}
			resp, err := x.client.Do(q)
			require.NoError(t, err)
			a := read(t, resp)
			assert.Equal(t, x.status, a.status, a.body)
			assert.Equal(t, x.status == 401, strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic "))
		})
	}
	require.Len(t, s.Issued(), 2)
	assert.Nil(t, s.Issued()[0].Client)
	assert.Equal(t, w.auth.Raw, s.Issued()[1].Client.Raw)
}
