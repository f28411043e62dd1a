package renewal

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

// hidingToken is a card behind a module as ykcs11 is: a new key gets a placeholder
// for its certificate, a key without a certificate is not shown, and none can be
// removed.
type hidingToken struct {
	card.Token
	t testing.TB
}

func (h hidingToken) Open(ctx context.Context) (card.Session, error) {
	s, err := h.Token.Open(ctx)
	if err != nil {
		return nil, err
	}
	return hidingSession{s, h.t}, nil
}

type hidingSession struct {
	card.Session
	t testing.TB
}

func (s hidingSession) Objects(ctx context.Context) ([]card.Object, error) {
	all, err := s.Session.Objects(ctx)
	shown := slices.DeleteFunc(slices.Clone(all), func(o card.Object) bool {
		return o.Class != card.CertificateObject && !slices.ContainsFunc(all, func(c card.Object) bool {
			return c.Class == card.CertificateObject && bytes.Equal(c.ID, o.ID)
		})
	})
	return shown, err
}

func (s hidingSession) Generate(ctx context.Context, spec card.KeySpec) (card.Object, error) {
	o, err := s.Session.Generate(ctx, spec)
	if err != nil {
		return o, err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(s.t, err)
	placeholder := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0)}
	der, err := x509.CreateCertificate(rand.Reader, placeholder, placeholder, o.Public, key)
	require.NoError(s.t, err)
	return o, s.Session.WriteCertificate(ctx, spec.ID, "placeholder", der)
}

func (s hidingSession) Destroy(ctx context.Context, c card.Class, id []byte) error {
	if c != card.CertificateObject {
		return card.Errorf(card.Unsupported, "destroy", "no key can be removed")
	}
	return s.Session.Destroy(ctx, c, id)
}

func TestAModuleThatHidesKeysWithoutACertificate(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, w.card.Close())
	w.card = openToken(t, w, hidingToken{w.sim.Token(), t})
	res := w.mustRenew()
	assert.True(t, res.OldKeyKept, "it is hidden, not gone")
	old := w.onCard()[string(testcard.SigningID())]
	assert.True(t, old.key)
	assert.Nil(t, old.cert)
	w.reseat()
	_, err := w.renewer().Finish(t.Context(), w.signer())
	require.NoError(t, err)
	w.mustSign()
}

// Wherever it is stopped, it goes on.
func TestAModuleThatHidesKeysIsRenewedAfterAStop(t *testing.T) {
	for _, last := range Steps[:len(Steps)-1] {
		t.Run(string(last), func(t *testing.T) {
			w := newWorld(t)
			require.NoError(t, w.card.Close())
			w.card = openToken(t, w, hidingToken{w.sim.Token(), t})
			w.mustBegin(last)
			res, err := w.renewer().Renew(t.Context(), nil)
			require.NoError(t, err)
			assert.Equal(t, ReseatCard, res.Outcome)
			w.reseat()
			res, err = w.renewer().Finish(t.Context(), w.signer())
			require.NoError(t, err)
			assert.True(t, res.OldKeyKept)
			w.mustSign()
		})
	}
}
