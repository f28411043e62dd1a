package testcard

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"slices"

	"github.com/rxguard/rxguard/internal/card"
)

// session is one insertion's connection with a login of its own. Its fields are
// guarded by the card's lock.
type session struct {
	c         *Card
	insertion uint64
	closed    bool
	loggedIn  bool
	fresh     bool // no signature since the login
}

func (s *session) Insertion() uint64 { return s.insertion }

// alive tells whether the session still has its card; dead names the kind of
// error when it has not. The card's lock is held.
func (s *session) alive(op Op, dead card.Kind) error {
	switch {
	case s.closed:
		return card.Errorf(card.Removed, string(op), "the session is closed")
	case s.c.present && s.c.insertion == s.insertion:
		return nil
	case op == OpOpen && !s.c.present:
		return card.Errorf(card.Absent, string(op), "%s", s.c.cfg.Label)
	}
	return card.Errorf(dead, string(op), "%s, insertion %d", s.c.cfg.Label, s.insertion)
}

func (s *session) check(op Op, dead card.Kind) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.alive(op, dead)
}

// with runs act on the living card under its lock.
func (s *session) with(op Op, act func() error) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if err := s.alive(op, card.Fault); err != nil {
		return err
	}
	return act()
}

// do is perform for an operation without an answer.
func (s *session) do(ctx context.Context, e Event, act func() error) error {
	_, err := perform(ctx, s, e, func() (struct{}, error) { return struct{}{}, s.with(e.Op, act) })
	return err
}

func (s *session) Info(ctx context.Context) (card.Info, error) {
	return perform(ctx, s, Event{Op: OpInfo}, func() (info card.Info, err error) {
		c := s.c
		err = s.with(OpInfo, func() error {
			info = card.Info{
				Manufacturer: Manufacturer, Model: Model, Serial: c.cfg.Serial, Label: c.cfg.Label,
				CountLow: c.triesLeft < c.cfg.Tries,
				FinalTry: c.triesLeft == 1,
				Locked:   c.triesLeft == 0,
				MinPIN:   MinPIN, MaxPIN: MaxPIN,
				PSS:        c.cfg.PSS,
				NoKeyPairs: c.cfg.NoGenerate,
				Room:       c.cfg.Containers - len(c.containers),
			}
			return nil
		})
		return info, err
	})
}

// Objects lists certificate, public key and private key of each container in the
// order in which they were made. A private key shows its public key after login.
func (s *session) Objects(ctx context.Context) ([]card.Object, error) {
	return perform(ctx, s, Event{Op: OpObjects}, func() (list []card.Object, err error) {
		err = s.with(OpObjects, func() error {
			for _, k := range s.c.containers {
				if k.certificate != nil {
					list = append(list, card.Object{Class: card.CertificateObject, ID: bytes.Clone(k.id), Label: k.certificateLabel, DER: bytes.Clone(k.certificate)})
				}
				if k.public != nil {
					list = append(list, card.Object{Class: card.PublicKeyObject, ID: bytes.Clone(k.id), Label: k.label, Public: k.public})
				}
				if k.private != nil {
					o := card.Object{Class: card.PrivateKeyObject, ID: bytes.Clone(k.id), Label: k.label, AlwaysAuthenticate: k.alwaysAuthenticate}
					if s.loggedIn {
						o.Public = k.private.Public()
					}
					list = append(list, o)
				}
			}
			return nil
		})
		return list, err
	})
}

// Login compares the passcode and counts. A wrong one ends the login that there
// was; one of the wrong length reaches the card's counter no more than it would
// on a real card. The last wrong try is told as PINIncorrect with no tries left,
// each one after it as PINLocked.
func (s *session) Login(ctx context.Context, pin []byte) error {
	mine := bytes.Clone(pin) // the caller wipes its own when ctx ends early
	return s.do(ctx, Event{Op: OpLogin}, func() error {
		defer clear(mine)
		c := s.c
		refuse := func(k card.Kind) error {
			return &card.Error{Kind: k, Op: string(OpLogin), TriesLeft: c.triesLeft}
		}
		switch {
		case len(mine) < MinPIN || len(mine) > MaxPIN:
			return refuse(card.PINLength)
		case c.triesLeft == 0:
			return refuse(card.PINLocked)
		}
		right, _ := c.try(mine) // perform looks at what saving it came to
		s.loggedIn, s.fresh = right, right
		if !right {
			return refuse(card.PINIncorrect)
		}
		return nil
	})
}

func (s *session) Logout(ctx context.Context) error {
	return s.do(ctx, Event{Op: OpLogout}, func() error {
		s.loggedIn, s.fresh = false, false
		return nil
	})
}

// authorised tells whether the login still counts: not on a card that was locked
// from elsewhere meanwhile.
func (s *session) authorised(op Op) error {
	switch {
	case s.c.triesLeft == 0:
		return &card.Error{Kind: card.PINLocked, Op: string(op)}
	case !s.loggedIn:
		return card.Errorf(card.NotLoggedIn, string(op), "")
	}
	return nil
}

// private returns the container of a private key that this login may use now.
func (s *session) private(op Op, id []byte) (*container, error) {
	k := s.c.find(id)
	if k == nil || k.private == nil {
		return nil, card.Errorf(card.NotFound, string(op), "private key with CKA_ID %x", id)
	}
	if err := s.authorised(op); err != nil {
		return nil, err
	}
	if k.alwaysAuthenticate && !s.fresh {
		return nil, card.Errorf(card.NotLoggedIn, string(op), "the key %q wants a login for each signature", k.label)
	}
	return k, nil
}

func (s *session) Sign(ctx context.Context, id, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	id, digest = bytes.Clone(id), bytes.Clone(digest)
	return perform(ctx, s, Event{Op: OpSign, ID: id, Class: card.PrivateKeyObject}, func() (sig []byte, err error) {
		err = s.with(OpSign, func() error {
			k, err := s.private(OpSign, id)
			if err != nil {
				return err
			}
			sig, err = sign(k.private, digest, opts, s.c.cfg.PSS)
			if err != nil {
				return err
			}
			s.fresh = false
			k.signatures++
			s.c.changed()
			return nil
		})
		return sig, err
	})
}

// writable tells whether this login may change the card.
func (s *session) writable(op Op) error {
	if s.c.cfg.ReadOnly {
		return card.Errorf(card.ReadOnly, string(op), "")
	}
	return s.authorised(op)
}

// Vacant answers a random CKA_ID, as a card does that leaves it to its software.
func (s *session) Vacant(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var id []byte
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	err := s.alive(OpGenerate, card.Removed)
	if err == nil {
		id = make([]byte, 16)
		rand.Read(id)
		err = s.c.room(OpGenerate, id, "")
	}
	return id, err
}

// Generate makes the key outside the card's lock, so that the card can be pulled
// while it does.
func (s *session) Generate(ctx context.Context, spec card.KeySpec) (card.Object, error) {
	spec.ID = bytes.Clone(spec.ID)
	if spec.Bits == 0 {
		spec.Bits = 2048
	}
	possible := func() error {
		if s.c.cfg.NoGenerate {
			return card.Errorf(card.Unsupported, string(OpGenerate), "the card makes no keys")
		}
		if err := s.writable(OpGenerate); err != nil {
			return err
		}
		if spec.Bits < 2048 || spec.Bits > 4096 {
			return card.Errorf(card.Unsupported, string(OpGenerate), "RSA key of %d bits, expected 2048 to 4096", spec.Bits)
		}
		if spec.Over && s.c.find(spec.ID) != nil {
			return nil
		}
		return s.c.room(OpGenerate, spec.ID, spec.Label)
	}
	e := Event{Op: OpGenerate, ID: spec.ID, Label: spec.Label, Class: card.PrivateKeyObject}
	return perform(ctx, s, e, func() (o card.Object, err error) {
		err = s.with(OpGenerate, func() error {
			err := possible()
			if err == nil && spec.Over { // pulled now, the card has neither pair
				s.c.containers = slices.DeleteFunc(s.c.containers, func(k *container) bool { return bytes.Equal(k.id, spec.ID) })
				s.c.changed()
			}
			return err
		})
		if err != nil {
			return o, err
		}
		key, err := s.c.make()(spec.Bits)
		if err != nil {
			return o, &card.Error{Kind: card.Unsupported, Op: string(OpGenerate), TriesLeft: -1, Err: err}
		}
		err = s.with(OpGenerate, func() error {
			if err := possible(); err != nil {
				return err
			}
			k := &container{id: spec.ID, label: spec.Label, private: key, alwaysAuthenticate: s.c.cfg.AlwaysAuthenticate, local: true}
			if !s.c.cfg.NoPublicKeys {
				k.public = key.Public()
			}
			s.c.containers = append(s.c.containers, k)
			s.c.changed()
			o = card.Object{
				Class: card.PrivateKeyObject, ID: bytes.Clone(spec.ID), Label: spec.Label,
				Public: key.Public(), AlwaysAuthenticate: k.alwaysAuthenticate,
			}
			return nil
		})
		return o, err
	})
}

// WriteCertificate replaces the certificate that the container had. The card does
// not look into der.
func (s *session) WriteCertificate(ctx context.Context, id []byte, label string, der []byte) error {
	id, der = bytes.Clone(id), bytes.Clone(der)
	e := Event{Op: OpWriteCertificate, ID: id, Label: label, Class: card.CertificateObject}
	return s.do(ctx, e, func() error {
		if err := s.writable(e.Op); err != nil {
			return err
		}
		k := s.c.find(id)
		switch {
		case k == nil || k.private == nil:
			return card.Errorf(card.NotFound, string(e.Op), "private key with CKA_ID %x, beside which the certificate belongs", id)
		case len(der) == 0 || badLabel(label):
			return card.Errorf(card.Unsupported, string(e.Op), "certificate of %d bytes, label %q, expected a certificate and UTF-8 of at most %d bytes", len(der), label, maxLabel)
		case len(der) > maxCertificate:
			return card.Errorf(card.Full, string(e.Op), "certificate of %d bytes, expected at most %d", len(der), maxCertificate)
		}
		k.certificate, k.certificateLabel = der, label
		s.c.changed()
		return nil
	})
}

func (s *session) Destroy(ctx context.Context, class card.Class, id []byte) error {
	id = bytes.Clone(id)
	e := Event{Op: OpDestroy, ID: id, Class: class}
	return s.do(ctx, e, func() error {
		if s.c.cfg.NoDestroy {
			return card.Errorf(card.Unsupported, string(e.Op), "the card removes no objects")
		}
		if err := s.writable(e.Op); err != nil {
			return err
		}
		k, found := s.c.find(id), false
		if k != nil {
			switch class {
			case card.CertificateObject:
				found = k.certificate != nil
				k.certificate, k.certificateLabel = nil, ""
			case card.PublicKeyObject:
				found = k.public != nil
				k.public = nil
			case card.PrivateKeyObject:
				found = k.private != nil
				k.private = nil
			}
		}
		if !found {
			return card.Errorf(card.NotFound, string(e.Op), "object of class %d with CKA_ID %x", class, id)
		}
		s.c.drop(k)
		s.c.changed()
		return nil
	})
}

// Close ends the session; closed already, or with the card gone, it does nothing.
func (s *session) Close() error {
	if s.check(OpClose, card.Removed) != nil {
		return nil
	}
	return s.do(context.Background(), Event{Op: OpClose}, func() error {
		s.closed, s.loggedIn, s.fresh = true, false, false
		return nil
	})
}
