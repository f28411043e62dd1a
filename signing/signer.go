package signing

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
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

	mu  sync.Mutex
	cur *desk
}

// desk is an open session with what was read in it: the card as it is in this
// insertion.
type desk struct {
	s        card.Session
	info     card.Info
	id       string // info.ID()
	pair     card.Pair
	loggedIn bool
}

// New makes a Signer. A live guard and a simulated card do not go together.
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
	}
	dir, err := stateOf(c)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	s := &Signer{card: c, g: g, rec: r, dir: dir, now: time.Now}
	card.OnClose(c, s.Close)
	return s, nil
}

// NewAsOf makes a Signer that judges at the instants of another clock. Only a
// simulated card takes one: for a real card an instant other than now is a
// question for guard.CheckAt, never a clock to sign by.
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
	s.now = clock
	return s, nil
}

// Close ends the session and its login. The Signer can be used again; it then asks
// for the passcode again. Closing the card closes its signers.
func (s *Signer) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
	return nil
}

// drop forgets the session: after a failure its state is not known.
func (s *Signer) drop() {
	if s.cur != nil {
		_ = s.cur.s.Close()
		s.cur = nil
	}
}

// sign is the one way to the key. accepts may be nil.
func (s *Signer) sign(ctx context.Context, m tbs.Message, accepts func(*x509.Certificate) error) (tbs.Signature, error) {
	var none tbs.Signature
	if s == nil || s.card == nil {
		return none, errors.New("signing: no signer; wanted one from New")
	}
	if m.IsZero() {
		return none, ErrNotADocument
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.desk(ctx)
	if err != nil {
		return none, s.refuse(ctx, m, s.g.Judge(s.unread(d, err), s.now()), err)
	}
	if !d.loggedIn {
		// Judged before the passcode is asked, so that nobody enters one for
		// nothing; a hold that only waits for the passcode is no obstacle here.
		snap := s.snapshot(d)
		if snap.Hold.State == guard.HoldLogin {
			snap.Hold = guard.Hold{}
		}
		if v := s.g.Judge(snap, s.now()); !v.Decision.Permits() {
			return none, s.refuse(ctx, m, v, snap.Err)
		}
	}
	if err := suits(d.pair.Certificate.X509(), m, accepts); err != nil {
		return none, s.notSigned(ctx, m, d, err)
	}
	if !d.loggedIn {
		if err := s.login(ctx, d); err != nil {
			s.drop()
			return none, s.notSigned(ctx, m, d, err)
		}
	}
	return s.signNow(ctx, m, d)
}

// signNow judges, signs, verifies and records. The card's lock keeps a renewal in
// another process from beginning between the judgement and the signature.
func (s *Signer) signNow(ctx context.Context, m tbs.Message, d *desk) (tbs.Signature, error) {
	var none tbs.Signature
	unlock, err := s.lock(ctx, d.id)
	if err != nil {
		return none, s.notSigned(ctx, m, d, err)
	}
	defer unlock()
	v := s.g.Judge(s.snapshot(d), s.now())
	if !v.Decision.Permits() {
		return none, s.refuse(ctx, m, v, nil)
	}
	value, err := d.s.Sign(ctx, d.pair.ID, tbs.Digest(m), tbs.Hash(m))
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.drop() // after a failed signature the session's state is not known
		return none, s.notSigned(ctx, m, d, err)
	}
	if d.pair.AlwaysAuthenticate {
		d.loggedIn = false
	}
	x := d.pair.Certificate.X509()
	if err := verify(x.PublicKey, tbs.Hash(m), tbs.Digest(m), value); err != nil {
		s.drop()
		return none, s.notSigned(ctx, m, d, &card.Error{Kind: card.BadSignature, Op: "sign", TriesLeft: -1,
			Detail: "certificate serial " + d.pair.Certificate.Info().Serial, Err: err})
	}
	e := EntryOf(EventSigned, v)
	e.Document, e.SHA256 = m.Kind(), digestOf(m)
	if err := s.rec.Record(ctx, e); err != nil {
		return none, fmt.Errorf("signing: the decision could not be recorded, so the signature was thrown away: %w", err)
	}
	return tbs.Signed(m, value, x), nil
}

// desk returns the session of this insertion, opening one where the card was
// re-seated since. On an error the desk, where there is one, says which card.
func (s *Signer) desk(ctx context.Context) (*desk, error) {
	t := card.TokenOf(s.card)
	if p := t.Presence(); s.cur != nil && (!p.Present || p.Insertion != s.cur.s.Insertion()) {
		s.drop()
	}
	if s.cur != nil {
		return s.cur, nil
	}
	sess, err := t.Open(ctx)
	if err != nil {
		return nil, err
	}
	info, pair, err := readCard(ctx, sess)
	d := &desk{s: sess, info: info, id: info.ID(), pair: pair}
	if err != nil {
		_ = sess.Close()
		return d, err
	}
	s.cur = d
	return d, nil
}

// snapshot is the card as this session read it, with the hold read from disk now.
func (s *Signer) snapshot(d *desk) guard.Snapshot {
	return guard.Snapshot{
		Certificate: d.pair.Certificate,
		Serial:      d.info.Serial, Label: d.info.Label,
		Insertion: d.s.Insertion(),
		Simulated: card.TokenOf(s.card).Simulated(),
		Hold:      holdOf(s.card, s.dir, d.id, d.pair.Certificate.Info().SHA256),
	}
}

// unread is the snapshot of a card that could not be read.
func (s *Signer) unread(d *desk, err error) guard.Snapshot {
	snap := guard.Snapshot{Err: readError(err), Simulated: card.TokenOf(s.card).Simulated()}
	if d != nil && d.info.Serial != "" {
		snap.Serial, snap.Label = d.info.Serial, d.info.Label
		snap.Hold = holdOf(s.card, s.dir, d.id, "")
	}
	return snap
}

// login asks for the passcode, and ends a hold that waited for it alone.
func (s *Signer) login(ctx context.Context, d *desk) error {
	if holdOf(s.card, s.dir, d.id, d.pair.Certificate.Info().SHA256).State == guard.HoldLogin {
		if err := s.endHold(ctx, d); err != nil {
			return err
		}
	} else if err := card.Login(ctx, s.card, d.s, card.ToSign); err != nil {
		return err
	}
	d.loggedIn = true
	return nil
}

// lock takes the card's lock, shared. A machine without a state folder that this
// user cannot make one on has no holds and nobody to wait for.
func (s *Signer) lock(ctx context.Context, id string) (func(), error) {
	unlock, err := s.dir.Lock(ctx, id, false)
	if err != nil && !s.dir.Exists() {
		return func() {}, nil
	}
	return unlock, err
}

// refuse records a verdict that permits nothing and returns its error.
func (s *Signer) refuse(ctx context.Context, m tbs.Message, v guard.Verdict, cause error) error {
	e := EntryOf(EventRefused, v)
	e.Document, e.SHA256 = m.Kind(), digestOf(m)
	err := v.Err()
	if err == nil {
		err = errors.New("signing: nothing was signed")
	}
	if cause != nil {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return s.record(ctx, e, err)
}

// notSigned records that a signature that the guard would permit was not made.
func (s *Signer) notSigned(ctx context.Context, m tbs.Message, d *desk, cause error) error {
	e := EntryOf(EventNotSigned, s.g.Judge(s.snapshot(d), s.now()))
	e.Document, e.SHA256, e.Cause = m.Kind(), digestOf(m), causeName(cause)
	return s.record(ctx, e, cause)
}

// recordUnfinished records that a signature did not pass its format's checks.
func (s *Signer) recordUnfinished(ctx context.Context, m tbs.Message, sig tbs.Signature, cause error) error {
	e := Entry{ID: newID(), Time: time.Now().UTC().Truncate(time.Millisecond), Event: EventNotSigned, At: s.now().UTC(),
		Document: m.Kind(), SHA256: digestOf(m), Cause: "format: " + cause.Error(),
		Issuer: tbs.Certificate(sig).Issuer.String(), Serial: fmt.Sprintf("%x", tbs.Certificate(sig).SerialNumber)}
	return s.record(ctx, e, nil)
}

// record stores e also when ctx has ended, and adds its failure to err.
func (s *Signer) record(ctx context.Context, e Entry, err error) error {
	if rerr := s.rec.Record(context.WithoutCancel(ctx), e); rerr != nil {
		return errors.Join(err, fmt.Errorf("signing: the decision could not be recorded: %w", rerr))
	}
	return err
}

// causeName names a failure in the record without its detail, which may hold what
// a prompt or a document said.
func causeName(err error) string {
	var ce *card.Error
	switch {
	case errors.As(err, &ce):
		return ce.Kind.String()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "cancelled"
	case errors.Is(err, errUnsuitable):
		return "unsuitable"
	}
	return "error"
}

// errUnsuitable marks a certificate that a document's verifiers would not take.
var errUnsuitable = errors.New("signing: the card's certificate does not suit the document; nothing was signed")

// suits tells before the passcode is asked whether the document can be signed with
// this certificate at all.
func suits(x *x509.Certificate, m tbs.Message, accepts func(*x509.Certificate) error) error {
	if _, ok := x.PublicKey.(*rsa.PublicKey); !ok && tbs.RSAOnly(m) {
		return fmt.Errorf("%w: it has an %v key, and the verifiers of this document know RSA alone", errUnsuitable, x.PublicKeyAlgorithm)
	}
	if accepts != nil {
		if err := accepts(x); err != nil {
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

func digestOf(m tbs.Message) string {
	sum := sha256.Sum256(tbs.Bytes(m))
	return hex.EncodeToString(sum[:])
}
