package signing

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/tbs"
)

// Signer signs documents with one card, under one guard, into one record. It is
// safe for concurrent use; signatures are made one after the other. It keeps the
// card's session, and with it the login, for one insertion of the card.
type Signer struct {
	card *Card
	g    *guard.Guard
	rec  Recorder
	dir  state.Dir
	now  func() time.Time
	asOf bool // now is a question, not the clock of the machine

	clock *state.Clock // the floor under now, of dir

	turn chan struct{} // whoever works on the card, or closes

	// Guarded by turn.
	cur  *desk
	each map[string]bool // by SHA-256 of the certificate: its key turned out to want the passcode each time

	mu     sync.Mutex
	cancel context.CancelCauseFunc // of the work under way
	closes uint64                  // how often Close was called
}

var (
	errNoSigner = errors.New("signing: no signer; wanted one from New")
	errClosed   = errors.New("signing: the signer was closed meanwhile; nothing was signed")
)

// New makes a Signer. It judges by the clock of this machine, which must not be behind
// the newest decision that was recorded here, whether or not g has that floor (see
// LastRun). A live guard and a simulated card do not go together.
func New(c *Card, g *guard.Guard, r Recorder) (*Signer, error) {
	switch {
	case c == nil || card.TokenOf(c) == nil:
		return nil, errors.New("signing: no card; wanted one from Open")
	case g == nil:
		return nil, errors.New("signing: no guard; wanted one from guard.New")
	case r == nil:
		return nil, errors.New("signing: no recorder; OpenRecord makes one on a file")
	case g.Live() && card.TokenOf(c).Simulated():
		return nil, errors.New("signing: the guard is live and the card is simulated; a simulated card signs nothing for patients")
	case card.Closed(c):
		return nil, fmt.Errorf("signing: %w", card.ErrClosed)
	}
	dir, err := stateOf(c)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	s := &Signer{card: c, g: g, rec: r, dir: dir, now: time.Now, clock: clockOf(dir), turn: make(chan struct{}, 1)}
	card.OnClose(c, s.Close)
	return s, nil
}

// NewAsOf makes a Signer that judges at the instants of another clock, which is
// read for one signature at a time. Only a simulated card takes one: for a real
// card an instant other than now is a question for guard.CheckAt, never a clock to
// sign by.
func NewAsOf(c *Card, g *guard.Guard, r Recorder, clock func() time.Time) (*Signer, error) {
	s, err := New(c, g, r)
	if err != nil {
		return nil, err
	}
	switch {
	case !card.TokenOf(c).Simulated():
		return nil, errors.New("signing: a real card signs by the clock of this machine only; an as-of instant is for simulated cards")
	case clock == nil:
		return nil, errors.New("signing: no clock; wanted the instants to judge at")
	}
	s.now, s.asOf = clock, true
	return s, nil
}

// Close ends the session and its login, and a signature that is under way, which
// is then not released; it waits for its end. The Signer can be used again; it then
// asks for the passcode again. Closing the card closes its signers.
func (s *Signer) Close() error {
	if s == nil || s.card == nil {
		return nil
	}
	s.mu.Lock()
	s.closes++
	if s.cancel != nil {
		s.cancel(errClosed)
	}
	s.mu.Unlock()
	s.turn <- struct{}{}
	s.drop()
	<-s.turn
	return nil
}

// begin waits for the Signer's turn. The context that it returns also ends when
// the Signer is closed; end gives the turn back.
func (s *Signer) begin(ctx context.Context) (_ context.Context, end func(), err error) {
	if s == nil || s.card == nil {
		return nil, nil, errNoSigner
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	closes := s.closes
	s.mu.Unlock()
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s.mu.Lock()
	s.cancel = cancel
	meanwhile := s.closes != closes
	s.mu.Unlock()
	end = func() {
		s.mu.Lock()
		s.cancel = nil
		s.mu.Unlock()
		cancel(nil)
		<-s.turn
	}
	// After cancel is set, so that a card that closes now is seen here or there.
	if meanwhile {
		end()
		return nil, nil, errClosed
	}
	if card.Closed(s.card) {
		end()
		return nil, nil, fmt.Errorf("signing: %w", card.ErrClosed)
	}
	return ctx, end, nil
}

// closed adds to an error that it is Close's doing.
func closed(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) && errors.Is(context.Cause(ctx), errClosed) {
		return fmt.Errorf("%w: %w", errClosed, err)
	}
	return err
}

// sign is the one way to the key. The verdict is the one that permitted the
// signature. accepts may be nil. b is the batch that the signature belongs to; nil:
// it stands alone.
func (s *Signer) sign(ctx context.Context, m tbs.Message, accepts func(*x509.Certificate) error, b *batch) (tbs.Signature, guard.Verdict, error) {
	if m.IsZero() {
		return tbs.Signature{}, guard.Verdict{}, ErrNotADocument
	}
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return tbs.Signature{}, guard.Verdict{}, err
	}
	defer end()
	sig, v, err := s.signInTurn(ctx, m, accepts, b)
	return sig, v, closed(ctx, err)
}

func (s *Signer) signInTurn(ctx context.Context, m tbs.Message, accepts func(*x509.Certificate) error, b *batch) (tbs.Signature, guard.Verdict, error) {
	var none tbs.Signature
	d, err := s.desk(ctx)
	if err != nil {
		v, _ := s.judge(s.unread(d, err), s.now())
		if ctx.Err() != nil { // the card was not asked to the end
			return none, v, s.notSigned(ctx, m, v, err)
		}
		return none, v, s.refuse(ctx, m, v, err)
	}
	if err := b.stays(d); err != nil {
		v, _ := s.judge(s.snapshot(d), s.now())
		return none, v, s.notSigned(ctx, m, v, err)
	}
	var unsuited error
	if d.loggedIn {
		unsuited = suits(ctx, d, m, accepts)
	} else {
		// Judged before the passcode is asked, so that nobody enters one for
		// nothing; a hold that only waits for the passcode is no obstacle here.
		before := d.pair.Certificate.Info().SHA256
		if !s.onePermitted(d) {
			snap := s.snapshot(d)
			if snap.Hold.State == guard.HoldLogin {
				snap.Hold = guard.Hold{}
			}
			v, unknown := s.judge(snap, s.now())
			switch {
			case !v.Decision.Permits():
				return none, v, s.refuse(ctx, m, v, d.err)
			case unknown != nil:
				return none, v, s.notSigned(ctx, m, v, unknown)
			}
			if err := suits(ctx, d, m, accepts); err != nil {
				return none, v, s.notSigned(ctx, m, v, err)
			}
		}
		if err := s.login(ctx, d); err != nil {
			err = card.Pulled(card.TokenOf(s.card), d.s.Insertion(), err)
			s.drop()
			v, _ := s.judge(s.snapshot(d), s.now())
			if d.err != nil && errors.Is(err, d.err) {
				return none, v, s.refuse(ctx, m, v, err)
			}
			return none, v, s.notSigned(ctx, m, v, err)
		}
		if d.pair.Certificate.Info().SHA256 != before {
			unsuited = suits(ctx, d, m, accepts)
		}
	}
	return s.signNow(ctx, m, d, unsuited)
}

// onePermitted tells whether one of several certificates, of which only the login
// shows which is the card's, would be permitted.
func (s *Signer) onePermitted(d *desk) bool {
	return slices.ContainsFunc(d.several, func(p card.Pair) bool {
		snap := s.snapshot(&desk{s: d.s, info: d.info, names: d.names, pair: p})
		v, err := s.judge(snap, s.now())
		return err == nil && v.Decision.Permits()
	})
}

// signNow judges, signs, verifies and records. The certificate's lock keeps a renewal in
// another process, through whatever module, from beginning between the judgement and
// the signature. unsuited
// is why the document is not signed though the verdict may permit it; nil: it suits.
func (s *Signer) signNow(ctx context.Context, m tbs.Message, d *desk, unsuited error) (tbs.Signature, guard.Verdict, error) {
	var none tbs.Signature
	unlock, lockErr := s.lock(ctx, d)
	if lockErr == nil {
		defer unlock()
	}
	at := s.now()
	m, unbound := tbs.Bind(m, d.pair.Certificate.X509, at)
	if unbound != nil && unsuited == nil {
		unsuited = fmt.Errorf("%w: %w", errUnsuitable, unbound)
	}
	// Judged directly before the key is used, with nobody else's code in between.
	v, unknown := s.judge(s.snapshot(d), at)
	switch {
	case !v.Decision.Permits():
		return none, v, s.refuse(ctx, m, v, nil)
	case unsuited != nil:
		return none, v, s.notSigned(ctx, m, v, unsuited)
	case lockErr != nil:
		return none, v, s.notSigned(ctx, m, v, lockErr)
	case unknown != nil:
		return none, v, s.notSigned(ctx, m, v, unknown)
	}
	// Before the key is used: no crash leaves a signature that the clock can be turned
	// back past.
	if err := s.keep(ctx, v); err != nil {
		return none, v, s.notSigned(ctx, m, v, err)
	}
	digest := tbs.Digest(m)
	value, err := d.s.Sign(ctx, d.pair.ID, digest, tbs.Hash(m))
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		if verr := verify(d.own.PublicKey, tbs.Hash(m), digest, value); verr != nil {
			err = &card.Error{Kind: card.BadSignature, Op: "sign", TriesLeft: -1,
				Detail: "certificate serial " + d.pair.Certificate.Info().Serial, Err: verr}
		}
	}
	if err != nil {
		err = card.Pulled(card.TokenOf(s.card), d.s.Insertion(), err)
		if card.IsKind(err, card.NotLoggedIn) {
			s.loginLost(d)
		} else {
			s.drop() // after a failed signature the session's state is not known
		}
		return none, v, s.notSigned(ctx, m, v, err)
	}
	d.signed++
	if d.pair.AlwaysAuthenticate {
		d.loggedIn = false
	}
	if err := s.rec.Record(ctx, entry(EventSigned, m, v)); err != nil {
		return none, v, fmt.Errorf("signing: the decision could not be recorded, so the signature was thrown away: %w", err)
	}
	return tbs.Signed(m, value, d.pair.Certificate.X509), v, nil
}

// errUnsuitable marks a certificate that a document's verifiers would not take.
var errUnsuitable = errors.New("signing: the card's certificate does not suit the document; nothing was signed")

// suits tells before the passcode is asked whether the document can be signed with
// this certificate at all.
func suits(ctx context.Context, d *desk, m tbs.Message, accepts func(*x509.Certificate) error) error {
	if _, ok := d.own.PublicKey.(*rsa.PublicKey); !ok && tbs.RSAOnly(m) {
		return fmt.Errorf("%w: it has an %v key, and the verifiers of this document know RSA alone; a card with an RSA signing key is needed, from the Registration Authority", errUnsuitable, d.own.PublicKeyAlgorithm)
	}
	if accepts != nil {
		x := d.pair.Certificate.X509() // one that it may change
		// Another's code: it may call Close, which waits for this signature's end.
		_, err := card.Ask(ctx, func() (struct{}, error) { return struct{}{}, accepts(x) }, nil)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errUnsuitable, err)
		}
	}
	return nil
}

// verify checks a raw signature with the certificate's key, never with a key that
// the card names: RFC 8017 8.2.2, or ECDSA in the DER of RFC 3279 2.2.3.
func verify(pub crypto.PublicKey, h crypto.Hash, digest, value []byte) error {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, h, digest, value)
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(k, digest, value) {
			return errors.New("ecdsa: verification error")
		}
		return nil
	}
	return fmt.Errorf("keys of type %T cannot be verified", pub)
}
