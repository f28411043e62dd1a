package signing

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/tbs"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing/eps"
)

// bound is a document whose bytes name the certificate and the instant.
func bound(bytes func(*x509.Certificate, time.Time) ([]byte, error), sig *tbs.Signature) foreign {
	return foreign{
		func() (tbs.Message, error) { return tbs.Bound("bound", [32]byte{7}, crypto.SHA256, bytes), nil },
		func(s tbs.Signature) (*eps.Signed, error) { *sig = s; return &eps.Signed{}, nil },
	}
}

var contentDigest = "07" + hex.EncodeToString(make([]byte, 31))

func TestABoundDocumentIsToldTheCertificateAndTheInstant(t *testing.T) {
	w := newWorld(t)
	var told *x509.Certificate
	var at time.Time
	var sig tbs.Signature
	_, err := Sign(t.Context(), w.signer, bound(func(c *x509.Certificate, now time.Time) ([]byte, error) {
		told, at = c, now
		return append([]byte("signed by "), c.Raw...), nil
	}, &sig))
	require.NoError(t, err)
	assert.Equal(t, signingKey().Public(), told.PublicKey)
	assert.Equal(t, w.clock(), at)
	assert.Equal(t, append([]byte("signed by "), told.Raw...), tbs.Bytes(tbs.Of(sig)))
	assert.Equal(t, told.Raw, tbs.Certificate(sig).Raw)
	e := w.only(EventSigned)[0]
	assert.True(t, e.At.Equal(at), "the instant that was judged at")
	assert.Equal(t, "bound", e.Document)
	assert.Equal(t, contentDigest, e.SHA256)
	assert.Equal(t, 1, w.signed())
}

func TestABoundDocumentThatCannotBeMadeIsNotSigned(t *testing.T) {
	for name, bytes := range map[string]func(*x509.Certificate, time.Time) ([]byte, error){
		"an error": func(*x509.Certificate, time.Time) ([]byte, error) { return nil, errors.New("not with this") },
		"no bytes": func(*x509.Certificate, time.Time) ([]byte, error) { return nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var sig tbs.Signature
			s, err := Sign(t.Context(), w.signer, bound(bytes, &sig))
			assert.ErrorIs(t, err, errUnsuitable)
			assert.Nil(t, s)
			assert.True(t, sig.IsZero())
			assert.Zero(t, reached(w.sim, testcard.OpSign))
			e := w.only(EventNotSigned)[0]
			assert.Equal(t, "unsuitable", e.Cause)
			assert.Equal(t, contentDigest, e.SHA256)
		})
	}
}

func TestARefusedBoundDocumentIsNotMade(t *testing.T) {
	w := newWorld(t)
	w.sim.Remove()
	var sig tbs.Signature
	_, err := Sign(t.Context(), w.signer, bound(func(*x509.Certificate, time.Time) ([]byte, error) {
		t.Error("made without a card")
		return []byte{1}, nil
	}, &sig))
	assert.Error(t, err)
	assert.Equal(t, contentDigest, w.only(EventRefused)[0].SHA256)
}
