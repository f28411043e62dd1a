//go:build cgo

package p11

import (
	"context"
	"crypto"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	rig "github.com/rxguard/rxguard/internal/testcard/modules"
)

func init() {
	sessionsOf = func(m *Module) int {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.opened)
	}
}

// A module that closes the sessions of a card that was taken out may give their
// handles to the next ones, of another card too.
func TestASessionThatTheModuleClosedDoesNotCloseTheOneThatHasItsHandle(t *testing.T) {
	soft := softHSM(t)
	sh := newShim(t, soft.tokens[0].Module)
	m := sh.open(Options{Bound: patience})
	var tokens []*Token
	for _, d := range soft.decks {
		tok, err := m.Token(t.Context(), d.sel, nil)
		require.NoError(t, err)
		defer tok.Close()
		tokens = append(tokens, tok)
	}
	a, err := tokens[0].Open(t.Context())
	require.NoError(t, err)
	sh.reuse(uint(a.(*session).h))
	b, err := tokens[1].Open(t.Context())
	require.NoError(t, err)
	require.Equal(t, a.(*session).h, b.(*session).h)
	require.NoError(t, b.Login(t.Context(), soft.decks[1].pin))
	require.NoError(t, a.Close())
	ended(t, a)
	require.NoError(t, signsWith(t.Context(), b, &soft.decks[1]), "the session of the other card")
	assert.Zero(t, sh.began("CloseSession"))
	require.NoError(t, b.Close())
	ended(t, b)
	assert.Equal(t, 1, sh.ended("CloseSession"))
}

// ended waits until a closed session is closed in the module.
func ended(t *testing.T, s card.Session) {
	t.Helper()
	select {
	case <-s.(*session).over:
	case <-time.After(patience):
		require.FailNow(t, "the session is not closed in the module")
	}
}

func TestClosingSessionsOfACardThatIsOutLeavesThoseOfAnother(t *testing.T) {
	for name, path := range map[string]func(testing.TB) string{"opensc": rig.OpenSC, "ykcs11": rig.YKCS11} {
		t.Run(name, func(t *testing.T) {
			w := virtual(path, cannot{})(t)
			a, b := w.card(t, 0), w.card(t, 1)
			clash := 0 // OpenSC's handles are addresses, which come again after a round or two
			for range 4 {
				var gone, others []card.Session
				handles := make(map[pkcs11.SessionHandle]bool)
				for range 4 {
					s := a.open(t)
					handles[s.(*session).h] = true
					gone = append(gone, s)
				}
				a.c.Remove()
				a.reaches(t, false)
				for range 4 {
					s := b.open(t)
					if handles[s.(*session).h] {
						clash++
					}
					others = append(others, s)
				}
				require.NoError(t, others[0].Login(t.Context(), b.pin))
				for _, s := range gone {
					require.NoError(t, s.Close())
					ended(t, s)
				}
				for _, s := range others {
					_, err := s.Objects(t.Context())
					require.NoError(t, err)
				}
				authentication, _ := b.pairs(t, others[0])
				signs(t, others[0], authentication.ID, b.authentication.PublicKey, crypto.SHA256, "beside it")
				for _, s := range others {
					require.NoError(t, s.Close())
				}
				a.c.Insert()
				a.reaches(t, true)
			}
			t.Logf("%d handles were another session's", clash)
		})
	}
}

func TestCloseDoesNotWaitForTheModule(t *testing.T) {
	s := behindShim(t, 1)
	sess := s.session(t)
	s.on("CloseSession", fault{mode: hold})
	defer s.well()
	done := make(chan error, 1)
	go func() { done <- sess.Close() }()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(patience):
		require.FailNow(t, "it waits for C_CloseSession")
	}
	s.held("CloseSession")

	// The next session waits for it, for as long as its caller does: the login ends with
	// the last session.
	opened := s.began("OpenSession")
	ctx, cancel := context.WithCancel(t.Context())
	next := make(chan error, 1)
	go func() {
		_, err := s.tok.Open(ctx)
		next <- err
	}()
	n := s.ended("GetSlotList")
	eventually(t, func() bool { return s.ended("GetSlotList") > n+4 }, "nothing else goes on")
	assert.Equal(t, opened, s.began("OpenSession"))
	cancel()
	assert.ErrorIs(t, <-next, context.Canceled)
	s.well()
	ended(t, sess)
	again, err := s.tok.Open(t.Context())
	require.NoError(t, err)
	defer again.Close()
	err = again.Login(t.Context(), []byte(wrongPIN))
	assert.True(t, card.IsKind(err, card.PINIncorrect), "the login of the session before goes on: %v", err)
}

func TestASessionThatCameLateIsClosedInTheModulesTurnAndUnderTheWatchdog(t *testing.T) {
	sh := newShim(t, softHSM(t).tokens[0].Module)
	sh.on("Initialize", fault{mode: refuse, code: pkcs11.CKR_CANT_LOCK, times: 1})
	m := sh.open(Options{Bound: patience, Poll: time.Hour})
	require.True(t, m.single.Load())
	tok, err := m.Token(t.Context(), Select{Token: "token 0"}, nil)
	require.NoError(t, err)
	defer tok.Close()
	sh.on("OpenSession", fault{mode: hold})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := tok.Open(ctx)
		done <- err
	}()
	sh.held("OpenSession")
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	sh.on("CloseSession", fault{mode: hold})
	defer sh.well()
	sh.on("OpenSession", fault{mode: pass})
	sh.held("CloseSession")
	m.mu.Lock()
	assert.Len(t, m.calls, 1, "the watchdog does not know of it")
	m.mu.Unlock()
	n := sh.began("GetSlotList")
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = m.Slots(short)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, n, sh.began("GetSlotList"), "a module that cannot lock has two calls at once")
}

func TestAnEarlierOpenDoesNotEndALaterSession(t *testing.T) {
	s := behindShim(t, 0)
	// Somebody saw the card's slot, and is held up ...
	s.m.mu.Lock()
	slot, arrivals := s.tok.slot, s.tok.arrivals
	s.m.mu.Unlock()
	s.take(true)
	eventually(t, func() bool { return !s.tok.Presence().Present }, "out")
	s.take(false)
	eventually(t, func() bool { return s.tok.Presence().Present }, "in")
	good := s.session(t)
	// ... and goes on.
	require.NoError(t, s.m.endEarlier(t.Context(), slot, arrivals))
	_, err := good.Info(t.Context())
	assert.NoError(t, err)
}

// kept answers the passcode that a session keeps.
func keptBy(s card.Session) []byte {
	l := &s.(*session).login
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pin
}

func TestNoPasscodeIsKeptOfACardThatIsOut(t *testing.T) {
	for _, watched := range []bool{true, false} {
		s := behindShim(t, 0) // its signing key wants the passcode again
		sess := s.session(t)
		pin := keptBy(sess)
		require.NotEmpty(t, pin)
		if !watched {
			require.NoError(t, s.tok.Close())
		}
		s.take(true)
		eventually(t, func() bool {
			_, err := s.m.Slots(t.Context())
			return err == nil && keptBy(sess) == nil
		}, "the passcode is kept")
		assert.Equal(t, make([]byte, len(pin)), pin)
		s.take(false)
	}
}

func TestNoPasscodeIsKeptInASessionThatIsOfNoUse(t *testing.T) {
	s := behindShim(t, 0)
	sess := s.session(t)
	pin := keptBy(sess)
	require.NotEmpty(t, pin)
	s.on("FindObjects", fault{mode: refuse, code: pkcs11.CKR_DEVICE_ERROR, times: 1})
	_, err := sess.Objects(t.Context())
	require.True(t, card.IsKind(err, card.Fault), "%v", err)
	assert.Nil(t, keptBy(sess))
	assert.Equal(t, make([]byte, len(pin)), pin)
}

// A card may stay open to other programs as long as nobody logs out, and a logout ends
// the login of every session.
func TestTheLastLoginThatEndsLogsOut(t *testing.T) {
	soft := softHSM(t)
	d := soft.decks[0]
	sh := newShim(t, soft.tokens[0].Module)
	sh.on("Initialize", fault{mode: lose, code: pkcs11.CKR_OK}) // SoftHSM is initialised already, and not by another component
	m := sh.open(Options{Bound: patience})
	tok, err := m.Token(t.Context(), d.sel, nil)
	require.NoError(t, err)
	defer tok.Close()
	open := func() card.Session {
		s, err := tok.Open(t.Context())
		require.NoError(t, err)
		return s
	}
	first, second, reader := open(), open(), open()
	require.NoError(t, first.Login(t.Context(), d.pin))
	require.NoError(t, second.Login(t.Context(), d.pin))
	require.NoError(t, first.Close())
	ended(t, first)
	assert.Zero(t, sh.began("Logout"), "another one is logged in")
	require.NoError(t, signsWith(t.Context(), second, &d))
	require.NoError(t, second.Close())
	ended(t, second)
	assert.Equal(t, 1, sh.ended("Logout"), "though a session is open that nobody logged in to")
	require.NoError(t, reader.Close())
	ended(t, reader)
	assert.Equal(t, 1, sh.ended("Logout"))
	assert.Equal(t, 3, sh.ended("CloseSession"))
}
