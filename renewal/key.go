package renewal

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"sync"

	"github.com/rxguard/rxguard/internal/card"
)

// cardKey is a key on the card as crypto/tls and crypto/x509 want it. It never
// leaves this package, and only the new key and the authentication key are ever
// made one.
type cardKey struct {
	ctx context.Context
	s   card.Session
	id  []byte
	pub crypto.PublicKey

	mu     sync.Mutex
	closed bool
}

// Public returns the public key.
func (k *cardKey) Public() crypto.PublicKey { return k.pub }

// Sign has the card sign a digest.
func (k *cardKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, errors.New("renewal: the card's session has ended")
	}
	return k.s.Sign(k.ctx, k.id, digest, opts)
}

// close keeps a TLS handshake that goes on in the background from the card.
func (k *cardKey) close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
}

// transport is the authenticated channel of one run. RSA client authentication
// under TLS 1.3 needs RSASSA-PSS of the card (RFC 8446 4.2.3); without it TLS 1.2
// with RSASSA-PKCS1-v1_5 is used.
func (r *Renewer) transport(ctx context.Context, v *view) (*Transport, func()) {
	key := &cardKey{ctx: ctx, s: v.s, id: v.auth.ID, pub: v.auth.Certificate.X509().PublicKey}
	leaf := v.auth.Certificate.X509()
	t := &Transport{
		certificate: &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf},
		now:         r.now,
	}
	if _, isRSA := key.pub.(*rsa.PublicKey); isRSA && !v.info.PSS {
		t.maxVersion = tls.VersionTLS12
		t.certificate.SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512}
	}
	return t, key.close
}

// challengeDomain keeps the signature of a challenge from being taken for any
// document's.
const challengeDomain = "rxguard renewal challenge v1\x00"

// Proof shows that the card holds the key of a certificate: the new key's
// RSASSA-PKCS1-v1_5 signature, with SHA-256, over Challenge.
type Proof struct {
	Challenge []byte
	Signature []byte
}

// prove has the new key sign a fresh challenge and verifies it with the
// certificate's key.
func prove(ctx context.Context, s card.Session, id []byte, pub crypto.PublicKey) (Proof, error) {
	nonce := make([]byte, 32)
	rand.Read(nonce)
	p := Proof{Challenge: append([]byte(challengeDomain), nonce...)}
	sum := sha256.Sum256(p.Challenge)
	sig, err := s.Sign(ctx, id, sum[:], crypto.SHA256)
	if err != nil {
		return Proof{}, err
	}
	key, ok := pub.(*rsa.PublicKey)
	if !ok {
		return Proof{}, card.Errorf(card.KeyMismatch, "prove", "the new certificate has no RSA key")
	}
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig); err != nil {
		return Proof{}, &card.Error{Kind: card.BadSignature, Op: "prove", TriesLeft: -1, Err: err}
	}
	p.Signature = sig
	return p, nil
}
