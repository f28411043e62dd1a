package signing

import (
	"context"
	"crypto/x509"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
)

// desk is an open session with what was read in it: the card as it is in this
// insertion.
type desk struct {
	s        card.Session
	info     card.Info
	names    []string // by which a hold on the card is found
	pair     card.Pair
	own      *x509.Certificate // of pair, with which signatures are verified: nobody else has it
	err      error             // why there is no pair
	several  []card.Pair       // one of which may turn out as the pair after the login
	settled  bool              // the login shows nothing new
	lock     *state.SharedLock // by pair's certificate; nil before the first signature
	loggedIn bool
	signed   int // signatures under this login
}

// drop forgets the session: after a failure its state is not known.
func (s *Signer) drop() {
	if s.cur != nil {
		_ = s.cur.s.Close()
		s.cur.lock.Close()
		s.cur = nil
	}
}

// loginLost has the next signature ask for the passcode. The session stays: a key that
// wants it each time and does not say so is known to its module now, and needs one. One
// that signed twice under a login is none of these; its login was ended from elsewhere.
func (s *Signer) loginLost(d *desk) {
	d.loggedIn = false
	if d.signed < 2 {
		d.pair.AlwaysAuthenticate = true
		if s.each == nil {
			s.each = make(map[string]bool)
		}
		s.each[d.pair.Certificate.Info().SHA256] = true
	}
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
	d := &desk{}
	_, err := card.Read(ctx, t, func(sess card.Session) error {
		// The watcher must have seen what led to this insertion, or a card that was
		// just put back would count as one that was not.
		err := refreshed(ctx, s.card)
		if err != nil {
			return err
		}
		var certificates card.Certificates
		d.info, certificates, err = readCard(ctx, sess)
		d.s, d.several, d.settled = sess, certificates.Rivals(), certificates.Settled()
		s.take(d, certificates)
		if err == nil && len(d.several) == 0 {
			err = d.err
		}
		return err
	})
	if err != nil {
		return d, err
	}
	s.cur = d
	return d, nil
}

// take chooses the pair.
func (s *Signer) take(d *desk, cs card.Certificates) {
	d.pair, d.err = cs.Signing()
	d.own = d.pair.Certificate.X509()
	d.names = cs.Names(d.info)
	d.pair.AlwaysAuthenticate = d.pair.AlwaysAuthenticate || s.each[d.pair.Certificate.Info().SHA256]
}

// enter asks for the passcode. A card that may have hidden private keys until then is
// read again: the keys prove which certificate it signs with.
func (s *Signer) enter(ctx context.Context, d *desk, why card.Purpose) error {
	if err := card.Login(ctx, s.card, d.s, why); err != nil || d.settled {
		return err
	}
	objects, err := d.s.Objects(ctx)
	if err != nil {
		return err
	}
	d.several, d.settled = nil, true
	s.take(d, card.CertificatesOf(objects, true))
	return d.err
}

// refreshed waits for card.Refresh, which may read the card, or for ctx.
func refreshed(ctx context.Context, c *Card) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		card.Refresh(c)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// snapshot is the card as this session read it, with the hold read from disk now.
func (s *Signer) snapshot(d *desk) guard.Snapshot {
	snap := s.unheld(d)
	snap.Hold = holdOf(s.card, s.dir, d.names, d.pair.Certificate.Info().SHA256)
	return snap
}

// unheld is the card as this session read it, without its hold.
func (s *Signer) unheld(d *desk) guard.Snapshot {
	return guard.Snapshot{
		Certificate: d.pair.Certificate, Err: d.err,
		Serial: d.info.Serial, Label: d.info.Label,
		Insertion: d.s.Insertion(),
		Simulated: card.TokenOf(s.card).Simulated(),
	}
}

// unread is the snapshot of a card that could not be read.
func (s *Signer) unread(d *desk, err error) guard.Snapshot {
	snap := guard.Snapshot{Err: readError(err), Simulated: card.TokenOf(s.card).Simulated()}
	if d != nil {
		snap.Serial, snap.Label = d.info.Serial, d.info.Label
		snap.Hold = holdOf(s.card, s.dir, d.names, "")
	}
	return snap
}

// login asks for the passcode, and ends a hold that waited for it alone.
func (s *Signer) login(ctx context.Context, d *desk) error {
	if s.snapshot(d).Hold.State == guard.HoldLogin {
		if err := s.endHold(ctx, d); err != nil {
			return err
		}
	} else if err := s.enter(ctx, d, card.ToSign); err != nil {
		return err
	}
	d.loggedIn, d.signed = true, 0
	return nil
}

// lock takes the lock of the certificate that d signs with, shared. A machine without a state folder that this
// user cannot make one on has no holds and nobody to wait for.
func (s *Signer) lock(ctx context.Context, d *desk) (func(), error) {
	if d.lock == nil {
		d.lock = s.dir.Shared(d.pair.Certificate.Info().SHA256)
	}
	unlock, err := d.lock.Lock(ctx)
	if err != nil && !s.dir.Exists() {
		return func() {}, nil
	}
	return unlock, err
}
