//go:build cgo

package bench

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/p11"
	"github.com/rxguard/rxguard/internal/tbs"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/internal/testcard/modules"
	"github.com/rxguard/rxguard/signing"
	"github.com/rxguard/rxguard/signing/eps"
)

// world is a token with one signing pair, and each peer's way to it.
type world struct {
	certificate *x509.Certificate
	public      *rsa.PublicKey
	message     []byte
	document    *eps.Prepared

	token *p11.Token
	guard *guard.Guard

	crypto11 *crypto11.Context

	bare *pkcs11.Ctx
	slot uint
	key  pkcs11.ObjectHandle
}

// one is the world of this process, in which a module is initialised once.
var one struct {
	sync.Mutex
	*world
}

func theWorld(b *testing.B) *world {
	b.Helper()
	one.Lock()
	defer one.Unlock()
	if one.world == nil {
		one.world = newWorld(b)
	}
	return one.world
}

func newWorld(b *testing.B) *world {
	b.Helper()
	t := modules.SoftHSM(b, "bench", "123456", "12345678")
	w := &world{}
	var err error
	// crypto11 does not share a module that another initialised; rxguard does.
	w.crypto11, err = crypto11.Configure(&crypto11.Config{Path: t.Module, TokenLabel: t.Label, Pin: t.PIN})
	require.NoError(b, err)
	w.provision(b, t)
	w.public = w.certificate.PublicKey.(*rsa.PublicKey)
	w.guard, err = guard.New(guard.Config{})
	require.NoError(b, err)
	w.prepare(b)

	w.bare = pkcs11.New(t.Module)
	slots, err := w.bare.GetSlotList(true)
	require.NoError(b, err)
	i := slices.IndexFunc(slots, func(s uint) bool {
		info, err := w.bare.GetTokenInfo(s)
		return err == nil && info.Label == t.Label
	})
	require.GreaterOrEqual(b, i, 0)
	w.slot = slots[i]
	s := w.session(b)
	require.NoError(b, w.bare.FindObjectsInit(s, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_ID, testcard.SigningID()),
	}))
	keys, _, err := w.bare.FindObjects(s, 2)
	require.NoError(b, err)
	require.Len(b, keys, 1)
	require.NoError(b, w.bare.FindObjectsFinal(s))
	w.key = keys[0]
	return w
}

// provision makes the key pair on the token, and its certificate.
func (w *world) provision(b *testing.B, t modules.Token) {
	b.Helper()
	ctx := context.Background()
	m, err := p11.Open(context.Background(), t.Module, p11.Options{})
	require.NoError(b, err)
	w.token, err = m.Token(ctx, p11.Select{Token: t.Label}, nil)
	require.NoError(b, err)
	s, err := w.token.Open(ctx)
	require.NoError(b, err)
	defer s.Close()
	require.NoError(b, s.Login(ctx, []byte(t.PIN)))
	key, err := s.Generate(ctx, card.KeySpec{ID: testcard.SigningID(), Label: testcard.SigningLabel, Bits: 2048})
	require.NoError(b, err)
	ca, err := testcard.NewCA(testcard.CAConfig{})
	require.NoError(b, err)
	w.certificate, err = ca.Issue(testcard.Signing, key.Public, testcard.IssueOptions{
		Subject: testcard.Subject("000000000001"), NotBefore: time.Now().Add(-time.Hour),
	})
	require.NoError(b, err)
	require.NoError(b, s.WriteCertificate(ctx, testcard.SigningID(), testcard.SigningLabel, w.certificate.Raw))
}

// prepare makes a $prepare answer of now.
func (w *world) prepare(b *testing.B) {
	b.Helper()
	digest := sha256.Sum256([]byte("a synthetic prescription: no patient, no medicine"))
	var err error
	w.message, err = eps.SignedInfo(eps.RS256, digest[:])
	require.NoError(b, err)
	answer, err := json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": []any{
		map[string]any{"name": "digest", "valueString": base64.StdEncoding.EncodeToString(w.message)},
		map[string]any{"name": "timestamp", "valueString": time.Now().UTC().Format(time.RFC3339)},
		map[string]any{"name": "algorithm", "valueString": "RS256"},
	}})
	require.NoError(b, err)
	w.document, err = eps.ParsePrepared(answer)
	require.NoError(b, err)
}

// unchecked is the document without its format's own checks, which the peers do not
// make either.
type unchecked struct{ p *eps.Prepared }

func (u unchecked) ToBeSigned() (tbs.Message, error)              { return u.p.ToBeSigned() }
func (u unchecked) Finish(s tbs.Signature) (tbs.Signature, error) { return s, nil }

// card opens the token's card, whose holds are in a folder of its own.
func (w *world) card(b *testing.B) *signing.Card {
	b.Helper()
	c, err := signing.Open(b.Context(), signing.Config{
		Reader: card.NewReader(w.token, b.TempDir()),
		PIN:    func(context.Context, signing.PINRequest) ([]byte, error) { return []byte("123456"), nil },
	})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, c.Close()) })
	return c
}

// noRecord is a Recorder that keeps nothing: what the disk costs is told apart.
type noRecord struct{}

func (noRecord) Record(context.Context, signing.Entry) error { return nil }

// guarded signs with a Signer of its own.
func guarded[T any](b *testing.B, w *world, c *signing.Card, r signing.Recorder, d signing.Document[T]) func() error {
	b.Helper()
	s, err := signing.New(c, w.guard, r)
	require.NoError(b, err)
	return func() error {
		_, err := signing.Sign(context.Background(), s, d)
		return err
	}
}

func (w *world) session(b *testing.B) pkcs11.SessionHandle {
	b.Helper()
	s, err := w.bare.OpenSession(w.slot, pkcs11.CKF_SERIAL_SESSION)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, w.bare.CloseSession(s)) })
	return s
}

// digestInfo is the DER before a SHA-256 digest in a DigestInfo, RFC 8017 9.2 note 1.
var digestInfo = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}

// bareSign is C_SignInit and C_Sign in a session of its own, and the verification.
func (w *world) bareSign(b *testing.B) func() error {
	b.Helper()
	s := w.session(b)
	return func() error {
		digest := sha256.Sum256(w.message)
		if err := w.bare.SignInit(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil)}, w.key); err != nil {
			return err
		}
		value, err := w.bare.Sign(s, slices.Concat(digestInfo, digest[:]))
		if err != nil {
			return err
		}
		return rsa.VerifyPKCS1v15(w.public, crypto.SHA256, digest[:], value)
	}
}

// handedOver has a goroutine sign that waits for the next one.
func handedOver(b *testing.B, sign func() error) func() error {
	b.Helper()
	next, done := make(chan struct{}), make(chan error)
	go func() {
		for range next {
			done <- sign()
		}
	}()
	b.Cleanup(func() { close(next) })
	return func() error {
		next <- struct{}{}
		return <-done
	}
}

// moduleSign is the signature of internal/p11, which lets go of a module that hangs,
// and the verification.
func (w *world) moduleSign(b *testing.B) func() error {
	b.Helper()
	ctx := context.Background()
	s, err := w.token.Open(ctx)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	require.NoError(b, s.Login(ctx, []byte("123456")))
	return func() error {
		digest := sha256.Sum256(w.message)
		value, err := s.Sign(ctx, testcard.SigningID(), digest[:], crypto.SHA256)
		if err != nil {
			return err
		}
		return rsa.VerifyPKCS1v15(w.public, crypto.SHA256, digest[:], value)
	}
}

// crypto11Sign is crypto11's signature, and the verification.
func (w *world) crypto11Sign(b *testing.B) func() error {
	b.Helper()
	k, err := w.crypto11.FindKeyPair(testcard.SigningID(), nil)
	require.NoError(b, err)
	require.NotNil(b, k)
	return func() error {
		digest := sha256.Sum256(w.message)
		value, err := k.Sign(nil, digest[:], crypto.SHA256)
		if err != nil {
			return err
		}
		return rsa.VerifyPKCS1v15(w.public, crypto.SHA256, digest[:], value)
	}
}
