package testcard

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
)

const crypto256 = crypto.SHA256

var newID = []byte{0xa0}

// calls is every operation on a session but close, for a card made by withKey.
func calls() map[Op]func(card.Session) error {
	ctx := context.Background()
	return map[Op]func(card.Session) error{
		OpInfo:    func(s card.Session) error { _, err := s.Info(ctx); return err },
		OpObjects: func(s card.Session) error { _, err := s.Objects(ctx); return err },
		OpLogin:   func(s card.Session) error { return s.Login(ctx, []byte(DefaultPIN)) },
		OpLogout:  func(s card.Session) error { return s.Logout(ctx) },
		OpSign:    trySign,
		OpGenerate: func(s card.Session) error {
			_, err := s.Generate(ctx, card.KeySpec{ID: newID, Label: "new"})
			return err
		},
		OpWriteCertificate: func(s card.Session) error { return s.WriteCertificate(ctx, SigningID(), "new", []byte("new")) },
		OpDestroy:          func(s card.Session) error { return s.Destroy(ctx, card.CertificateObject, SigningID()) },
	}
}

// happened tells, for the operations that leave a trace in the card, whether they
// did.
func happened(c *Card) map[Op]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.find(SigningID())
	return map[Op]bool{
		OpSign:             k.signatures > 0,
		OpGenerate:         c.find(newID) != nil,
		OpWriteCertificate: string(k.certificate) == "new",
		OpDestroy:          k.certificate == nil,
	}
}

func TestHookAtEachOperation(t *testing.T) {
	all := calls()
	all[OpClose] = func(s card.Session) error { return s.Close() }
	all[OpOpen] = func(s card.Session) error {
		_, err := s.(*session).c.Token().Open(context.Background())
		return err
	}
	require.Len(t, all, len(Ops()))

	mine := errors.New("mine")
	for _, x := range []struct {
		name  string
		after bool
		act   func(*Card) error
		check func(*testing.T, Op, error)
	}{
		{"refused before", false, func(*Card) error { return mine }, func(t *testing.T, op Op, err error) {
			assert.ErrorIs(t, err, mine)
			assert.Equal(t, card.Other, kindOf(t, err))
		}},
		{"refused before with a card error", false, func(*Card) error { return card.Errorf(card.Full, "x", "y") }, func(t *testing.T, op Op, err error) {
			assert.Equal(t, card.Full, kindOf(t, err))
		}},
		{"answer lost", true, func(*Card) error { return card.Errorf(card.Fault, "x", "y") }, func(t *testing.T, op Op, err error) {
			assert.Equal(t, card.Fault, kindOf(t, err))
		}},
		{"pulled before", false, func(c *Card) error { c.Remove(); return nil }, pulled},
		{"pulled before, as absent", false, func(c *Card) error { c.Remove(); return card.Errorf(card.Absent, "x", "y") }, func(t *testing.T, op Op, err error) {
			assert.Equal(t, card.Absent, kindOf(t, err))
		}},
		{"pulled after", true, func(c *Card) error { c.Remove(); return nil }, func(t *testing.T, op Op, err error) {
			if op == OpClose {
				assert.NoError(t, err)
				return
			}
			pulled(t, op, err)
		}},
		{"re-seated in the middle", false, func(c *Card) error { c.Remove(); c.Insert(); return nil }, func(t *testing.T, op Op, err error) {
			assert.Equal(t, card.Fault, kindOf(t, err))
		}},
	} {
		for op, call := range all {
			t.Run(x.name+"/"+string(op), func(t *testing.T) {
				c := withKey(t, Config{})
				s := login(t, c)
				var told []Event
				nth := On(op, x.after, 1, func() error { return x.act(c) })
				c.Hook(func(e Event) error { told = append(told, e); return nth(e) })
				x.check(t, op, call(s))
				c.Hook(nil)

				phases := 1
				if x.after {
					phases = 2
				}
				require.Len(t, told, phases)
				assert.Equal(t, op, told[0].Op)
				assert.Equal(t, c.Trace()[len(c.Trace())-phases:], told)
				if did, known := happened(c)[op]; known {
					assert.Equal(t, x.after, did, "a hook before keeps it from happening, a hook after only loses the answer")
				}

				c.Remove()
				c.Insert()
				again, err := c.Token().Open(t.Context())
				require.NoError(t, err)
				require.NoError(t, again.Login(t.Context(), []byte(DefaultPIN)))
				require.NoError(t, trySign(again), "it works again once re-seated")
			})
		}
	}
}

func pulled(t *testing.T, op Op, err error) {
	t.Helper()
	want := card.Fault
	if op == OpOpen {
		want = card.Absent
	}
	assert.Equal(t, want, kindOf(t, err))
}

func TestCardPulledWhileItMakesAKeyHasNone(t *testing.T) {
	c := withKey(t, Config{})
	s := login(t, c)
	c.makeKey = func(int) (*rsa.PrivateKey, error) {
		c.Remove()
		return rsaKey(), nil
	}
	_, err := s.Generate(t.Context(), card.KeySpec{ID: newID})
	assert.Equal(t, card.Fault, kindOf(t, err))
	assert.False(t, happened(c)[OpGenerate])

	c.Insert()
	s = login(t, c)
	c.makeKey = func(int) (*rsa.PrivateKey, error) { return nil, errors.New("no entropy") }
	_, err = s.Generate(t.Context(), card.KeySpec{ID: newID})
	assert.ErrorContains(t, err, "no entropy")
}

func TestTwoSessionsDoNotShareTheLastContainer(t *testing.T) {
	c := withKey(t, Config{Containers: 2})
	s, other := login(t, c), login(t, c)
	quick := func(int) (*rsa.PrivateKey, error) { return rsaKey(), nil }
	c.makeKey = func(int) (*rsa.PrivateKey, error) {
		c.makeKey = quick
		_, err := other.Generate(t.Context(), card.KeySpec{ID: newID})
		require.NoError(t, err)
		return rsaKey(), nil
	}
	_, err := s.Generate(t.Context(), card.KeySpec{ID: []byte{0xb0}})
	assert.Equal(t, card.Full, kindOf(t, err))
	info, err := s.Info(t.Context())
	require.NoError(t, err)
	assert.Zero(t, info.Room)
}

func TestTrace(t *testing.T) {
	c := withKey(t, Config{})
	s := open(t, c)
	require.Error(t, trySign(s))
	require.NoError(t, s.Login(t.Context(), []byte(DefaultPIN)))
	require.NoError(t, trySign(s))
	assert.Equal(t, []Event{
		{Op: OpOpen, Insertion: 1, N: 1},
		{Op: OpOpen, Insertion: 1, After: true, N: 2},
		{Op: OpSign, Insertion: 1, ID: SigningID(), Class: card.PrivateKeyObject, N: 3}, // refused: not logged in
		{Op: OpLogin, Insertion: 1, N: 4},
		{Op: OpLogin, Insertion: 1, After: true, N: 5},
		{Op: OpSign, Insertion: 1, ID: SigningID(), Class: card.PrivateKeyObject, N: 6},
		{Op: OpSign, Insertion: 1, After: true, ID: SigningID(), Class: card.PrivateKeyObject, N: 7},
	}, c.Trace())
	assert.Equal(t, 1, c.Signatures(SigningID()))
}

func TestTraceIsBounded(t *testing.T) {
	c := newCard(t, Config{})
	s := open(t, c)
	ctx := context.Background()
	for range 2 * keptEvents {
		_, err := s.Info(ctx)
		require.NoError(t, err)
	}
	trace := c.Trace()
	assert.GreaterOrEqual(t, len(trace), keptEvents)
	assert.Less(t, len(trace), 2*keptEvents)
	assert.Equal(t, 4*keptEvents+2, trace[len(trace)-1].N)
}

func TestHookMayUseTheCard(t *testing.T) {
	c := withKey(t, Config{})
	inside := false
	c.Hook(func(e Event) error {
		if inside {
			return nil
		}
		inside = true
		defer func() { inside = false }()
		s, err := c.Token().Open(context.Background())
		if err != nil {
			return err
		}
		defer s.Close()
		_, err = s.Objects(context.Background())
		c.Trace()
		c.Signatures(SigningID())
		return err
	})
	s, err := c.Token().Open(t.Context())
	require.NoError(t, err)
	_, err = s.Info(t.Context())
	require.NoError(t, err)
}
