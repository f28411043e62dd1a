package renewal

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

// tlsServer wants clients to authenticate, and tells who did and how.
func tlsServer(t *testing.T, maxVersion uint16, serve http.HandlerFunc) *httptest.Server {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ca := theCA()
	c, err := ca.Issue(testcard.TLSServer, key.Public(), testcard.IssueOptions{Subject: testcard.Subject("localhost"), NotBefore: theTime.AddDate(-10, 0, 0), NotAfter: theTime.AddDate(10, 0, 0)})
	require.NoError(t, err)
	clients := ca.Roots()
	clients.AddCert(ca.IssuingCertificate())
	s := httptest.NewUnstartedServer(serve)
	s.TLS = &tls.Config{
		MinVersion: tls.VersionTLS12, MaxVersion: maxVersion,
		Certificates: []tls.Certificate{{Certificate: [][]byte{c.Raw, ca.IssuingCertificate().Raw}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: clients,
	}
	s.TLS.Time = ca.Now
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what tests are about
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// overTLS is an Enroller that does something with the transport before it answers.
type overTLS struct {
	*authority
	do func(context.Context, *Transport) error
}

func (o overTLS) Enrol(ctx context.Context, t *Transport, r Request) (Answer, error) {
	if err := o.do(ctx, t); err != nil {
		return Answer{}, err
	}
	return o.issue(r)
}

func (w *world) renewOver(t *testing.T, do func(context.Context, *Transport) error) (Result, error) {
	t.Helper()
	r, err := New(Config{Card: w.card, Guard: w.g, Recorder: w.rec, Enroller: overTLS{w.ca, do}, AsOf: w.clock})
	require.NoError(t, err)
	return r.Renew(t.Context(), nil)
}

func fetch(ctx context.Context, c *http.Client, url string) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(q)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

func TestTheCardAuthenticatesInTLSWithItsAuthenticationKey(t *testing.T) {
	for _, x := range []struct {
		name   string
		pss    bool
		server uint16 // the highest version it speaks; 0: all
		wanted uint16
	}{
		{"a card with RSASSA-PSS", true, 0, tls.VersionTLS13},
		{"a card without", false, 0, tls.VersionTLS12},
		{"a card with RSASSA-PSS, an old server", true, tls.VersionTLS12, tls.VersionTLS12},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, func(u *setUp) { u.card.PSS = x.pss })
			var who *x509.Certificate
			var version uint16
			s := tlsServer(t, x.server, func(_ http.ResponseWriter, r *http.Request) {
				who, version = r.TLS.PeerCertificates[0], r.TLS.Version
			})
			var as *x509.Certificate
			res, err := w.renewOver(t, func(ctx context.Context, tr *Transport) error {
				as = tr.AuthenticatesAs()
				return fetch(ctx, tr.Client(theCA().Roots()), s.URL)
			})
			require.NoError(t, err, res.Text)
			assert.Equal(t, x.wanted, version)
			require.NotNil(t, who)
			assert.True(t, who.Equal(as))
			assert.Equal(t, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, who.ExtKeyUsage)
			assert.Equal(t, 1, w.sim.Signatures(testcard.AuthenticationID()))
			assert.Zero(t, w.sim.Signatures(testcard.SigningID()), "never the signing key")
		})
	}
	t.Run("a card without, a server of TLS 1.3 alone", func(t *testing.T) {
		w := newWorld(t, func(u *setUp) { u.card.PSS = false })
		s := tlsServer(t, 0, func(http.ResponseWriter, *http.Request) {})
		s.TLS.MinVersion = tls.VersionTLS13
		res, err := w.renewOver(t, func(ctx context.Context, tr *Transport) error {
			return fetch(ctx, tr.Client(theCA().Roots()), s.URL)
		})
		ends(t, res, err, Resumable)
		assert.Zero(t, w.sim.Signatures(testcard.AuthenticationID()))
	})
}

func TestTheTransportLeadsNowhereElse(t *testing.T) {
	w := newWorld(t)
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked over plain http") }))
	t.Cleanup(plain.Close)
	hits := 0
	s := tlsServer(t, 0, func(rw http.ResponseWriter, r *http.Request) {
		if hits++; r.URL.Path == "/there" {
			t.Error("the redirect was followed")
		}
		http.Redirect(rw, r, "/there", http.StatusFound)
	})
	_, err := w.renewOver(t, func(ctx context.Context, tr *Transport) error {
		c := tr.Client(theCA().Roots())
		_, leads := c.Transport.(*http.Transport)
		assert.False(t, leads, "its TLS configuration would lead to the key")
		assert.ErrorContains(t, fetch(ctx, c, plain.URL), "https only")
		assert.ErrorContains(t, fetch(ctx, c, s.URL), "302")
		assert.ErrorContains(t, fetch(ctx, tr.Client(x509.NewCertPool()), s.URL), "unknown authority")
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, 1, hits)
}

func TestTheTransportEndsWithTheCall(t *testing.T) {
	w := newWorld(t)
	s := tlsServer(t, 0, func(http.ResponseWriter, *http.Request) {})
	var kept *Transport
	var client *http.Client
	_, err := w.renewOver(t, func(ctx context.Context, tr *Transport) error {
		kept, client = tr, tr.Client(theCA().Roots())
		return fetch(ctx, client, s.URL)
	})
	require.NoError(t, err)
	before := w.sim.Signatures(testcard.AuthenticationID())
	for _, c := range []*http.Client{client, kept.Client(theCA().Roots())} {
		assert.ErrorContains(t, fetch(t.Context(), c, s.URL), "only while the authority is asked")
	}
	assert.Equal(t, before, w.sim.Signatures(testcard.AuthenticationID()))
}

// A handshake that goes on in the background reaches the card no more once Enrol
// has returned, and is waited for where the card is at work in it.
func TestAHandshakeInTheBackgroundIsWaitedForAndEnds(t *testing.T) {
	w := newWorld(t)
	s := tlsServer(t, 0, func(http.ResponseWriter, *http.Request) {})
	signs, goOn := make(chan struct{}), make(chan struct{})
	w.sim.Hook(testcard.On(testcard.OpSign, false, 2, func() error { // the first is the request's
		close(signs)
		<-goOn
		return nil
	}))
	signed := false
	res, err := w.renewOver(t, func(ctx context.Context, tr *Transport) error {
		go fetch(ctx, tr.Client(theCA().Roots()), s.URL)
		<-signs
		w.sim.Hook(func(e testcard.Event) error {
			if e.Op == testcard.OpSign && e.After {
				signed = true
				return nil
			}
			assert.True(t, signed, "%s while a signature is under way", e.Op)
			return nil
		})
		close(goOn)
		return &EnrolError{Kind: Unreachable}
	})
	w.sim.Hook(nil)
	ends(t, res, err, Resumable)
	assert.True(t, signed)
}

func TestACardThatIsPulledInTheHandshakeIsNamed(t *testing.T) {
	w := newWorld(t)
	s := tlsServer(t, 0, func(http.ResponseWriter, *http.Request) {})
	w.sim.Hook(testcard.On(testcard.OpSign, false, 2, func() error { w.sim.Remove(); return nil }))
	res, err := w.renewOver(t, func(ctx context.Context, tr *Transport) error {
		if err := fetch(ctx, tr.Client(theCA().Roots()), s.URL); err != nil {
			return &EnrolError{Kind: Unreachable, Err: err}
		}
		return nil
	})
	e := ends(t, res, err, Resumable, "card")
	assert.True(t, card.IsKind(e, card.Absent))
}

func TestSoftwareTransportAuthenticatesAsItIsTold(t *testing.T) {
	assert.Nil(t, SoftwareTransport(nil, theCA().Now).AuthenticatesAs())
	key, err := testcard.CachedKeys()(2048)
	require.NoError(t, err)
	c, err := theCA().Issue(testcard.Authentication, key.Public(), testcard.IssueOptions{Subject: testcard.Subject(uid)})
	require.NoError(t, err)
	s := tlsServer(t, 0, func(_ http.ResponseWriter, r *http.Request) {
		assert.True(t, r.TLS.PeerCertificates[0].Equal(c))
	})
	tr := SoftwareTransport(&tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}, theCA().Now)
	require.NoError(t, fetch(t.Context(), tr.Client(theCA().Roots()), s.URL))
	assert.Equal(t, c, tr.AuthenticatesAs())
}

// A challenge that does not verify is no proof.
func TestAProofVerifies(t *testing.T) {
	w := newWorld(t)
	source := testcard.CachedKeys()
	auth, err := source(2048)
	require.NoError(t, err)
	other, err := source(2048)
	require.NoError(t, err)
	ss, err := w.sim.Token().Open(t.Context())
	require.NoError(t, err)
	require.NoError(t, ss.Login(t.Context(), []byte(thePIN)))
	k := &cardKey{ctx: t.Context(), s: ss, id: testcard.AuthenticationID(), pub: auth.Public(), open: true}
	p, err := prove(k, auth.Public())
	require.NoError(t, err)
	assert.NotEmpty(t, p.Signature)
	_, err = prove(k, other.Public())
	assert.True(t, card.IsKind(err, card.BadSignature), "%v", err)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	_, err = prove(k, crypto.PublicKey(ec.Public()))
	assert.True(t, card.IsKind(err, card.KeyMismatch))
}
