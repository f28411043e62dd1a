package renewal

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

// wishing is an authority that says what requests should carry.
type wishing struct {
	*authority
	asked  int
	wishes func() (Attributes, error)
}

func (a *wishing) Attributes(_ context.Context, t *Transport) (Attributes, error) {
	a.asked++
	if t.AuthenticatesAs() == nil {
		return Attributes{}, errors.New("asked without the card")
	}
	return a.wishes()
}

func (w *world) renewAt(t *testing.T, a *wishing, crash func(string) error) (Result, error) {
	t.Helper()
	r, err := New(Config{Card: w.card, Guard: w.g, Recorder: w.rec, Enroller: a, AsOf: w.clock})
	require.NoError(t, err)
	if crash != nil {
		r.crash = crash
	}
	return r.Renew(t.Context(), nil)
}

func requestOf(t *testing.T, a *authority) *x509.CertificateRequest {
	t.Helper()
	require.Len(t, a.requests, 1)
	csr, err := x509.ParseCertificateRequest(a.requests[0].CSR)
	require.NoError(t, err)
	require.NoError(t, csr.CheckSignature())
	return csr
}

var keyUsage = pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: []byte{3, 2, 6, 0x40}}

func TestTheRequestCarriesWhatTheAuthorityWishesFor(t *testing.T) {
	w := newWorld(t)
	a := &wishing{authority: w.ca, wishes: func() (Attributes, error) {
		return Attributes{KeyBits: 3072, Signature: x509.SHA384WithRSA, Extensions: []pkix.Extension{keyUsage}}, nil
	}}
	res, err := w.renewAt(t, a, nil)
	require.NoError(t, err)
	require.Equal(t, ReseatCard, res.Outcome)
	assert.Equal(t, 1, a.asked, "once in a run")
	csr := requestOf(t, w.ca)
	assert.Equal(t, x509.SHA384WithRSA, csr.SignatureAlgorithm)
	assert.Equal(t, 3072, csr.PublicKey.(*rsa.PublicKey).N.BitLen())
	assert.Equal(t, []pkix.Extension{keyUsage}, csr.Extensions)
	assert.Equal(t, 3072, w.newAlone().PublicKey.(*rsa.PublicKey).N.BitLen())
}

func TestWithoutWishesARequestIsPlain(t *testing.T) {
	for name, wishes := range map[string]func() (Attributes, error){
		"an authority that has none":     func() (Attributes, error) { return Attributes{}, nil },
		"an authority that says no word": nil,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if wishes == nil {
				w.mustRenew()
			} else {
				_, err := w.renewAt(t, &wishing{authority: w.ca, wishes: wishes}, nil)
				require.NoError(t, err)
			}
			csr := requestOf(t, w.ca)
			assert.Equal(t, x509.SHA256WithRSA, csr.SignatureAlgorithm)
			assert.Equal(t, 2048, csr.PublicKey.(*rsa.PublicKey).N.BitLen())
			assert.Empty(t, csr.Extensions)
		})
	}
}

func TestAWishThatIsNoneIsToldBeforeTheCardIsTouched(t *testing.T) {
	for says, wish := range map[string]Attributes{
		"Attributes.KeyBits is 1024; wanted 2048, 3072 or 4096, or 0": {KeyBits: 1024},
		"Attributes.KeyBits is -1;":                                   {KeyBits: -1},
		"Attributes.Signature is ECDSA-SHA256; wanted RSASSA-PKCS1-v1_5 with SHA-256, SHA-384 or SHA-512, or 0": {Signature: x509.ECDSAWithSHA256},
		"Attributes.Signature is SHA1-RSA;": {Signature: x509.SHA1WithRSA},
	} {
		t.Run(says, func(t *testing.T) {
			w := newWorld(t)
			res, err := w.renewAt(t, &wishing{authority: w.ca, wishes: func() (Attributes, error) { return wish, nil }}, nil)
			ends(t, res, err, Resumable, says, "The card was not changed.")
			var e *EnrolError
			require.ErrorAs(t, err, &e)
			assert.Equal(t, Malformed, e.Kind)
			assert.Empty(t, w.ops(changes...))
			assert.Nil(t, w.hold())
			w.oldAlone()
			w.mustRenew()
		})
	}
}

func TestAWishThatNoCardFulfilsIsToldBeforeTheCardIsTouched(t *testing.T) {
	for name, x := range map[string]struct {
		err  error
		says string
		way  advisory.RemedyKind
	}{
		"what no card can do": {&EnrolError{Kind: Rejected, Detail: "the authority wants an EC key"}, "wants an EC key", advisory.RegistrationAuthority},
		"no answer":           {&EnrolError{Kind: Unreachable}, "cannot be reached", advisory.Renew},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			res, err := w.renewAt(t, &wishing{authority: w.ca, wishes: func() (Attributes, error) { return Attributes{}, x.err }}, nil)
			ends(t, res, err, Resumable, x.says, "The card was not changed.")
			assert.Equal(t, x.way, res.Remedies[0].Kind)
			assert.Empty(t, w.ops(changes...))
			assert.Nil(t, w.hold())
			assert.Zero(t, w.ca.asked())
			w.oldAlone()
			w.mustRenew()
		})
	}
}

// A run that goes on before the request is made does not know what an earlier one
// was told.
func TestALaterRunAsksForTheWishesAgain(t *testing.T) {
	for name, x := range map[string]struct {
		crash string
		asked int
		bits  int
	}{
		"before the key":      {"after key intent", 1, 4096},
		"before the request":  {"after key done", 1, 3072},
		"before it is stored": {"before request done", 1, 3072},
		"after the request":   {"after request done", 0, 3072},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			bits := 3072
			a := &wishing{authority: w.ca, wishes: func() (Attributes, error) { return Attributes{KeyBits: bits}, nil }}
			res, err := w.renewAt(t, a, crashAt(x.crash))
			ends(t, res, err, Resumable)
			a.asked, bits = 0, x.bits
			res, err = w.renewAt(t, a, nil)
			require.NoError(t, err)
			require.Equal(t, ReseatCard, res.Outcome)
			assert.Equal(t, x.asked, a.asked)
			assert.Equal(t, x.bits, requestOf(t, w.ca).PublicKey.(*rsa.PublicKey).N.BitLen())
		})
	}
}

func TestAnAuthorityThatChangesItsMindAboutTheKeyEndsTheRenewal(t *testing.T) {
	w := newWorld(t)
	bits := 2048
	a := &wishing{authority: w.ca, wishes: func() (Attributes, error) { return Attributes{KeyBits: bits}, nil }}
	res, err := w.renewAt(t, a, crashAt("after key done"))
	ends(t, res, err, Resumable)
	bits = 3072
	res, err = w.renewAt(t, a, nil)
	ends(t, res, err, NotOffered, "RSA keys of 3072 bits, and the card's new key has 2048")
	w.oldAlone()
}

func TestACardThatCannotMakeTheKeyIsSentToTheRA(t *testing.T) {
	w := newWorld(t)
	a := &wishing{authority: w.ca, wishes: func() (Attributes, error) { return Attributes{KeyBits: 4096}, nil }}
	w.sim.Hook(testcard.On(testcard.OpGenerate, false, 1, func() error {
		return card.Errorf(card.Unsupported, "generate", "RSA key of 4096 bits, expected at most 3072")
	}))
	res, err := w.renewAt(t, a, nil)
	ends(t, res, err, NotOffered, "This card cannot be renewed here", "4096 bits")
	w.oldAlone()
}

// wishingReachable can be probed too, as a card without room wants.
type wishingReachable struct {
	*reachable
	*wishing
}

func (a wishingReachable) Enrol(ctx context.Context, t *Transport, r Request) (Answer, error) {
	return a.reachable.Enrol(ctx, t, r)
}

func TestACardWithoutRoomMakesTheKeyThatTheAuthorityWishesFor(t *testing.T) {
	w := newWorld(t, withoutRoom)
	bits := 3072
	a := wishingReachable{&reachable{authority: w.ca}, &wishing{wishes: func() (Attributes, error) { return Attributes{KeyBits: bits}, nil }}}
	res, err := w.replacer(a, &yes{says: true}, crashAt("after replace done")).Renew(t.Context(), nil)
	ends(t, res, err, Resumable)
	bits = 4096 // too late: the old pair is gone, so that the authority decides about the new one
	res, err = w.replacer(a, &yes{}, nil).Renew(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, ReseatCard, res.Outcome)
	assert.Equal(t, 3072, requestOf(t, w.ca).PublicKey.(*rsa.PublicKey).N.BitLen())
	w.replaced()
}
