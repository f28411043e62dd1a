package signing

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/tbs"
	"github.com/rxguard/rxguard/signing/eps"
)

// foreign is a Document of another module.
type foreign struct {
	toBeSigned func() (tbs.Message, error)
	finish     func(tbs.Signature) (*eps.Signed, error)
}

func (f foreign) ToBeSigned() (tbs.Message, error)               { return f.toBeSigned() }
func (f foreign) Finish(s tbs.Signature) (*eps.Signed, error)    { return f.finish(s) }
func forward(a, b *eps.Prepared) foreign                         { return foreign{a.ToBeSigned, b.Finish} }
func nothing(s tbs.Signature) (*eps.Signed, error)               { return &eps.Signed{}, nil }
func verified(t *testing.T, s *eps.Signed, p *eps.Prepared) bool { return verifiedBy(t, s, p) == nil }

// verifiedBy checks what was released without any code of this module.
func verifiedBy(t *testing.T, s *eps.Signed, p *eps.Prepared) error {
	t.Helper()
	sum := sha256.Sum256(p.SignedInfo())
	return rsa.VerifyPKCS1v15(s.Certificate().PublicKey.(*rsa.PublicKey), crypto.SHA256, sum[:], s.SignatureValue())
}

func TestSignReleasesAVerifiedSignature(t *testing.T) {
	w := newWorld(t)
	p := document(t, "one")
	s, err := Sign(t.Context(), w.signer, p)
	require.NoError(t, err)
	assert.True(t, verified(t, s, p))
	assert.Equal(t, signingKey().Public(), s.Certificate().PublicKey)
	assert.Equal(t, 1, w.signed())
}

func TestWhatIsNoDocumentIsNotSigned(t *testing.T) {
	for name, d := range map[string]Document[*eps.Signed]{
		"nil":                  nil,
		"a zero message":       foreign{func() (tbs.Message, error) { return tbs.Message{}, nil }, nothing},
		"a message of no kind": foreign{func() (tbs.Message, error) { return tbs.New("", []byte("x"), crypto.SHA256, false), nil }, nothing},
		"a message of nothing": foreign{func() (tbs.Message, error) { return tbs.New("eps", nil, crypto.SHA256, false), nil }, nothing},
		"a message of no hash": foreign{func() (tbs.Message, error) { return tbs.New("eps", []byte("x"), 0, false), nil }, nothing},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s, err := Sign(t.Context(), w.signer, d)
			assert.ErrorIs(t, err, ErrNotADocument)
			assert.Nil(t, s)
			w.untouched()
			w.only()
		})
	}
	t.Run("its own error", func(t *testing.T) {
		w := newWorld(t)
		for _, p := range []*eps.Prepared{nil, {}} {
			s, err := Sign(t.Context(), w.signer, p)
			assert.ErrorContains(t, err, "wanted one made by ParsePrepared")
			assert.Nil(t, s)
		}
		w.untouched()
	})
}

func TestNoSignerSignsNothing(t *testing.T) {
	for _, s := range []*Signer{nil, {}} {
		_, err := Sign(t.Context(), s, document(t, "one"))
		assert.ErrorIs(t, err, errNoSigner)
		assert.ErrorIs(t, s.EndHold(t.Context()), errNoSigner)
		assert.NoError(t, s.Close())
	}
}

func TestAForwardingDocumentSignsJustThatDocument(t *testing.T) {
	w := newWorld(t)
	a := document(t, "a")
	s, err := Sign(t.Context(), w.signer, forward(a, a))
	require.NoError(t, err)
	assert.True(t, verified(t, s, a))
	assert.Equal(t, a.SignedInfo(), s.SignedInfo())
	assert.False(t, verified(t, s, document(t, "b")))
	assert.Equal(t, 1, w.signed())
}

func TestASignatureIsFinishedByItsOwnDocumentOnly(t *testing.T) {
	w := newWorld(t)
	a, b := document(t, "a"), document(t, "b")
	s, err := Sign(t.Context(), w.signer, forward(a, b))
	assert.ErrorContains(t, err, "over another document")
	assert.Nil(t, s)
	entries := w.only(EventSigned, EventNotSigned)
	assert.Equal(t, "format", entries[1].Cause)
	assert.Equal(t, entries[0].SHA256, entries[1].SHA256)
	assert.Equal(t, entries[0].Serial, entries[1].Serial)
	assert.Equal(t, entries[0].Verdict, entries[1].Verdict)
}

// An embedding type keeps the checks that come before the passcode.
func TestAnEmbeddingDocumentIsAcceptedAsTheEmbeddedOne(t *testing.T) {
	type embedding struct{ *eps.Prepared }
	w := newWorld(t)
	w.setClock(issued.AddDate(1, 0, 0))
	s, err := Sign[*eps.Signed](t.Context(), w.signer, embedding{document(t, "a")})
	require.NoError(t, err)
	assert.NotNil(t, s)

	old := newWorld(t, func(u *setUp) { u.sim = cardOfNow(t) })
	old.setClock(refusedAt.AddDate(2, 0, 0))
	_, err = Sign[*eps.Signed](t.Context(), old.signer, embedding{document(t, "a")})
	assert.ErrorIs(t, err, errUnsuitable)
	old.untouched()
}

func TestAFailedFinishReleasesAndTellsNothing(t *testing.T) {
	const secret = "the patient's name"
	w := newWorld(t)
	a := document(t, "a")
	s, err := Sign(t.Context(), w.signer, foreign{a.ToBeSigned, func(tbs.Signature) (*eps.Signed, error) {
		return &eps.Signed{}, errors.New(secret)
	}})
	assert.ErrorContains(t, err, secret)
	assert.Nil(t, s)
	for _, e := range w.only(EventSigned, EventNotSigned) {
		assert.NotContains(t, e.Cause, secret)
	}
}
