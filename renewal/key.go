package renewal

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/rxguard/rxguard/internal/card"
)

// cardKey is a key on the card as crypto/tls and crypto/x509 want it. It never
// leaves this package, and only the new key and the authentication key are ever
// made one.
type cardKey struct {
	ctx    context.Context
	asking context.Context // of the passcode: the person may stop there
	s      card.Session
	id     []byte
	pub    crypto.PublicKey

	// login asks for the passcode: before each signature where each says so, and
	// where the card says that the login was lost.
	login func(context.Context) error
	each  bool

	mu   sync.Mutex
	open bool
	err  error // of the card, the last
}

// Public returns the public key.
func (k *cardKey) Public() crypto.PublicKey { return k.pub }

// Sign has the card sign a digest.
func (k *cardKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.open {
		return nil, errors.New("renewal: the card authenticates only while the authority is asked")
	}
	if k.each {
		if err := k.login(k.asking); err != nil {
			return nil, err
		}
	}
	var sig []byte
	sig, k.err = k.s.Sign(k.ctx, k.id, digest, opts)
	if !k.each && card.IsKind(k.err, card.NotLoggedIn) && k.login != nil {
		// A module that lets only its security officer change the card has logged the
		// person out meanwhile.
		if k.err = k.login(k.asking); k.err == nil {
			sig, k.err = k.s.Sign(k.ctx, k.id, digest, opts)
		}
	}
	return sig, k.err
}

// let opens and closes the key. Closing waits for a signature under way: a TLS
// handshake can go on in the background after its request was given up, and a
// session is used by one goroutine at a time.
func (k *cardKey) let(open bool) {
	k.mu.Lock()
	k.open = open
	k.mu.Unlock()
}

// ask lets f use the transport of this run, which the card authenticates only
// until f returns. RSA client authentication under TLS 1.3 needs RSASSA-PSS of the
// card (RFC 8446 4.2.3); without it TLS 1.2 with RSASSA-PKCS1-v1_5 is used.
func (r *run) ask(ctx context.Context, f func(*Transport) error) error {
	if r.v.aerr != nil {
		return r.v.aerr
	}
	leaf := r.v.auth.Certificate.X509()
	if now := r.now(); now.After(leaf.NotAfter) {
		return fmt.Errorf("%w: its certificate for that ended on %s, and this computer's clock shows %s",
			errLoginEnded, leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	key := &cardKey{
		ctx: ctx, asking: ctx, s: r.v.s, id: r.v.auth.ID, pub: leaf.PublicKey,
		login: r.askAgain, each: r.v.auth.AlwaysAuthenticate,
	}
	t := &Transport{
		certificate: &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf},
		now:         r.now,
	}
	if _, isRSA := key.pub.(*rsa.PublicKey); isRSA && !r.v.info.PSS {
		t.maxVersion = tls.VersionTLS12
		t.certificate.SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512}
	}
	key.let(true)
	defer key.let(false)
	err := f(t)
	key.let(false)
	if err != nil && key.err != nil { // crypto/tls keeps the text alone
		return fmt.Errorf("%w: %w", key.err, err)
	}
	return err
}

var errLoginEnded = errors.New("renewal: the card cannot log in to the authority any more")

// ChallengeDomain begins every challenge. It keeps the signature of a challenge from
// being taken for any document's.
const ChallengeDomain = "rxguard renewal challenge v1\x00"

// Proof shows that the card holds the key of a certificate: the new key's
// RSASSA-PKCS1-v1_5 signature (RFC 8017 8.2), with SHA-256, over Challenge, which is
// ChallengeDomain and 32 random bytes. It is a fresh one for each Confirm. An authority
// checks it with the certificate's key.
type Proof struct {
	Challenge []byte
	Signature []byte
}

// prove has the new key sign a fresh challenge and verifies it with the
// certificate's key.
func prove(k *cardKey, pub crypto.PublicKey) (Proof, error) {
	nonce := make([]byte, 32)
	rand.Read(nonce)
	p := Proof{Challenge: append([]byte(ChallengeDomain), nonce...)}
	sum := sha256.Sum256(p.Challenge)
	sig, err := k.Sign(nil, sum[:], crypto.SHA256)
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
