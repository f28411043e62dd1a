//go:build cgo

package p11

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
	"unsafe"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

// shimmed is a software token behind a shim of its own, and its signing key.
type shimmed struct {
	*shim
	m   *Module
	tok *Token
	d   deck
}

// behindShim puts a shim before SoftHSM's nth token.
func behindShim(t *testing.T, n int) *shimmed {
	t.Helper()
	s := softHSM(t)
	sh := newShim(t, s.tokens[n].Module)
	m := sh.open(Options{Bound: patience})
	tok, err := m.Token(t.Context(), s.decks[n].sel, nil)
	require.NoError(t, err)
	t.Cleanup(func() { tok.Close() })
	return &shimmed{shim: sh, m: m, tok: tok, d: s.decks[n]}
}

// session opens a session that is logged in.
func (s *shimmed) session(t *testing.T) card.Session {
	t.Helper()
	sess, err := s.tok.Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { sess.Close() })
	require.NoError(t, sess.Login(t.Context(), s.d.pin))
	return sess
}

// signs signs with the signing key and verifies with its certificate.
func (s *shimmed) signs(ctx context.Context, sess card.Session) error {
	return signsWith(ctx, sess, &s.d)
}

// The codes of a module's answers, by what they mean, with what the person is told.
var meanings = []struct {
	means  string
	call   string // where the module answers so
	codes  []uint
	kind   card.Kind // while the card is seen in
	out    card.Kind // when the card turns out to be gone
	jams   bool      // the session is thrown away
	advice string
}{
	{
		means: "card is out", call: "Sign", jams: true,
		codes: []uint{pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_DEVICE_REMOVED},
		kind:  card.Removed, out: card.Absent, advice: "insert your smartcard; nothing was signed",
	},
	{
		means: "slot is gone", call: "Sign", jams: true,
		codes: []uint{pkcs11.CKR_SLOT_ID_INVALID},
		kind:  card.Absent, out: card.Absent, advice: "insert your smartcard; nothing was signed",
	},
	{
		means: "card re-seated or reset", call: "Sign", jams: true,
		codes: []uint{pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_KEY_HANDLE_INVALID},
		kind:  card.Removed, out: card.Absent, advice: "put your card back in; nothing was signed",
	},
	{
		means: "pulled in mid-operation, or a reader fault", call: "Sign", jams: true,
		codes: []uint{pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_TOKEN_NOT_RECOGNIZED},
		kind:  card.Fault, out: card.Absent, advice: "take the card out and put it back; nothing was signed",
	},
	{
		means: "wrong passcode", call: "Login",
		codes: []uint{pkcs11.CKR_PIN_INCORRECT},
		kind:  card.PINIncorrect, out: card.PINIncorrect, advice: "check your passcode and try again",
	},
	{
		means: "no tries left", call: "Login",
		codes: []uint{pkcs11.CKR_PIN_LOCKED},
		kind:  card.PINLocked, out: card.PINLocked, advice: "contact your Registration Authority to have it unlocked",
	},
	{
		means: "card not set up", call: "Login",
		codes: []uint{pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_USER_PIN_NOT_INITIALIZED},
		kind:  card.PINNotSet, out: card.PINNotSet, advice: "contact your Registration Authority",
	},
	{
		means: "a passcode that cannot be right", call: "Login",
		codes: []uint{pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_ARGUMENTS_BAD},
		kind:  card.PINLength, out: card.PINLength, advice: "enter your whole passcode; no try was spent",
	},
	{
		means: "nothing was entered on the pad", call: "Login",
		codes: []uint{pkcs11.CKR_FUNCTION_CANCELED, pkcs11.CKR_FUNCTION_REJECTED, pkcs11.CKR_CANCEL},
		kind:  card.PINCancelled, out: card.PINCancelled, advice: "try again when you are ready; nothing was signed",
	},
	{
		means: "login missing or lost", call: "SignInit", jams: true,
		codes: []uint{pkcs11.CKR_USER_NOT_LOGGED_IN},
		kind:  card.NotLoggedIn, out: card.NotLoggedIn, advice: "enter your passcode",
	},
	{
		means: "jammed session", call: "SignInit", jams: true,
		codes: []uint{pkcs11.CKR_OPERATION_ACTIVE},
		kind:  card.Fault, out: card.Absent, advice: "take the card out and put it back; nothing was signed",
	},
	{
		means: "this module cannot renew", call: "GenerateKeyPair",
		codes: []uint{
			pkcs11.CKR_FUNCTION_NOT_SUPPORTED, pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_MECHANISM_PARAM_INVALID,
			pkcs11.CKR_TEMPLATE_INCOMPLETE, pkcs11.CKR_TEMPLATE_INCONSISTENT,
			pkcs11.CKR_ATTRIBUTE_READ_ONLY, pkcs11.CKR_ATTRIBUTE_SENSITIVE, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID,
			pkcs11.CKR_ACTION_PROHIBITED, pkcs11.CKR_KEY_SIZE_RANGE, pkcs11.CKR_KEY_TYPE_INCONSISTENT, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED,
			pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN,
		},
		kind: card.Unsupported, out: card.Unsupported, advice: "renew at your Registration Authority; the key on the card is untouched",
	},
	{
		means: "its security officer is wanted, and nobody knows the secret", call: "GenerateKeyPair",
		codes: []uint{pkcs11.CKR_USER_TYPE_INVALID, pkcs11.CKR_USER_NOT_LOGGED_IN},
		kind:  card.Unsupported, out: card.Unsupported, advice: "renew at your Registration Authority; the key on the card is untouched",
	},
	{
		means: "card full", call: "GenerateKeyPair",
		codes: []uint{pkcs11.CKR_DEVICE_MEMORY},
		kind:  card.Full, out: card.Full, advice: "renew at your Registration Authority; nothing was removed",
	},
	{
		means: "the module has no memory left on the card", call: "SignInit", jams: true,
		codes: []uint{pkcs11.CKR_DEVICE_MEMORY},
		kind:  card.Other, out: card.Absent, advice: "take the card out, put it back and try again",
	},
	{
		means: "read-only", call: "GenerateKeyPair",
		codes: []uint{pkcs11.CKR_TOKEN_WRITE_PROTECTED, pkcs11.CKR_SESSION_READ_ONLY, pkcs11.CKR_SESSION_READ_ONLY_EXISTS},
		kind:  card.ReadOnly, out: card.ReadOnly, advice: "renew at your Registration Authority",
	},
	{
		means: "none that is known", call: "Sign", jams: true,
		codes: []uint{pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_VENDOR_DEFINED + 7},
		kind:  card.Other, out: card.Absent, advice: "take the card out, put it back and try again",
	},
}

// TestCodes gives each code as the module's answer, once with the card in and once
// with the card gone: what it means, that it keeps the module's code, what the person
// is told, and that work goes on in a new session.
func TestCodes(t *testing.T) {
	s := behindShim(t, 1)
	for _, c := range meanings {
		for _, code := range c.codes {
			for _, gone := range []bool{false, true} {
				name, kind := fmt.Sprintf("%s/%#x", c.means, code), c.kind
				if gone {
					name, kind = name+"/out", c.out
				}
				t.Run(name, func(t *testing.T) {
					ctx := t.Context()
					sess, err := s.tok.Open(ctx)
					require.NoError(t, err)
					defer sess.Close()
					if c.call != "Login" {
						require.NoError(t, sess.Login(ctx, s.d.pin))
					}
					s.on(c.call, fault{mode: refuse, code: code})
					s.take(gone)
					defer s.take(false)
					switch c.call {
					case "Login":
						err = sess.Login(ctx, s.d.pin)
					case "GenerateKeyPair":
						_, err = sess.Generate(ctx, card.KeySpec{ID: []byte("never made"), Label: "never made"})
					default:
						err = s.signs(ctx, sess)
					}
					s.well()
					var e *card.Error
					require.ErrorAs(t, err, &e)
					assert.Equal(t, kind, e.Kind, "%v", err)
					assert.Equal(t, code, e.Code)
					assert.NotEmpty(t, e.Op)
					assert.ErrorContains(t, err, fmt.Sprintf("CKR 0x%08x", code))
					assert.ErrorIs(t, err, pkcs11.Error(code))
					assert.NotContains(t, err.Error(), string(s.d.pin))
					switch kind {
					case card.Absent:
						assert.Equal(t, "insert your smartcard; nothing was signed", e.Advice())
					case card.Removed:
						assert.Equal(t, "put your card back in; nothing was signed", e.Advice())
					default:
						assert.Equal(t, c.advice, e.Advice())
					}
					if c.jams {
						n := s.began("SignInit")
						assert.Error(t, s.signs(ctx, sess), "a session that failed is used again")
						assert.Equal(t, n, s.began("SignInit"), "a session that failed is used again")
					}
					s.take(false)
					require.NoError(t, s.signs(ctx, s.session(t)))
				})
			}
		}
	}
	tried := map[pkcs11.Error]bool{pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED: true} // see TestShared
	for _, c := range meanings {
		for _, code := range c.codes {
			tried[pkcs11.Error(code)] = true
		}
	}
	for code, kind := range kinds {
		assert.NotEqual(t, card.Other, kind, "%v", code)
		assert.True(t, tried[code], "no row has %v", code)
	}
	t.Run("a login that another session has already is fine", func(t *testing.T) {
		s.on("Login", fault{mode: lose, code: pkcs11.CKR_USER_ALREADY_LOGGED_IN, times: 1})
		defer s.well()
		require.NoError(t, s.signs(t.Context(), s.session(t)))
	})
	t.Run("no room for a session is no full card", func(t *testing.T) {
		s.on("OpenSession", fault{mode: refuse, code: pkcs11.CKR_DEVICE_MEMORY, times: 1})
		_, err := s.tok.Open(t.Context())
		var e *card.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, card.Other, e.Kind, "%v", err)
		assert.EqualValues(t, pkcs11.CKR_DEVICE_MEMORY, e.Code)
	})
	t.Run("an error that is told already stays", func(t *testing.T) {
		err := &card.Error{Kind: card.Absent, Op: "find", Code: 0x30, TriesLeft: -1, Err: pkcs11.Error(0x30)}
		assert.Same(t, err, typed("sign", err))
		wrapped := fmt.Errorf("more: %w", err)
		assert.Equal(t, wrapped, typed("sign", wrapped))
	})
	t.Run("a login that was lost once does not stay a login for each signature", func(t *testing.T) {
		sess := s.session(t)
		s.on("SignInit", fault{mode: refuse, code: pkcs11.CKR_USER_NOT_LOGGED_IN, times: 1})
		require.True(t, card.IsKind(s.signs(t.Context(), sess), card.NotLoggedIn))
		require.NoError(t, sess.Login(t.Context(), s.d.pin))
		for range 3 {
			require.NoError(t, s.signs(t.Context(), sess))
		}
		for _, o := range objects(t, sess) {
			assert.False(t, o.AlwaysAuthenticate)
		}
	})
	t.Run("errors that are no answer of a module stay", func(t *testing.T) {
		err := errors.New("of somebody else")
		assert.Equal(t, err, typed("sign", err))
		assert.NoError(t, typed("sign", nil))
	})
}

func TestAWrongSecretOfTheSecurityOfficerIsNotAWrongPasscode(t *testing.T) {
	soft := softHSM(t)
	sh := newShim(t, soft.tokens[1].Module)
	asked := 0
	tok, err := sh.open(Options{Bound: patience}).Token(t.Context(), soft.decks[1].sel, func(context.Context, card.PINRequest) ([]byte, error) {
		asked++
		return []byte("87654321"), nil
	})
	require.NoError(t, err)
	defer tok.Close()
	for _, code := range []uint{pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_LEN_RANGE} {
		sess, err := tok.Open(t.Context())
		require.NoError(t, err)
		require.NoError(t, sess.Login(t.Context(), soft.decks[1].pin))
		sh.on("GenerateKeyPair", fault{mode: refuse, code: pkcs11.CKR_USER_TYPE_INVALID})
		sh.on("Login", fault{mode: refuse, code: code})
		_, err = sess.Generate(t.Context(), card.KeySpec{ID: []byte("never made"), Label: "never made"})
		sh.well()
		var e *card.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, card.Unsupported, e.Kind, "%v", err)
		assert.Equal(t, code, e.Code)
		assert.Contains(t, err.Error(), "security officer")
		assert.NotContains(t, err.Error(), "87654321")
		assert.Equal(t, "renew at your Registration Authority; the key on the card is untouched", e.Advice())
		require.NoError(t, sess.Close())
	}
	assert.Equal(t, 3, asked)
}

// A token's flags after a wrong passcode, at a login and at a signature with a key that
// wants one each time.
func TestWhatIsLeftAfterAWrongPasscodeIsTold(t *testing.T) {
	s := behindShim(t, 0)
	for _, c := range []struct {
		name  string
		flags uint
		left  int
		what  string
	}{
		{"not told", 0x10000, -1, "wrong passcode"}, // CKF_USER_PIN_COUNT_LOW
		{"one", 0x30000, 1, "wrong passcode, one try left before the card locks"},
		{"none", 0x40000, 0, "wrong passcode, no tries left: the card is now locked"},
		{"none, as some tell it", 0x70000, 0, "wrong passcode, no tries left: the card is now locked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			check := func(err error) {
				t.Helper()
				var e *card.Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, card.PINIncorrect, e.Kind, "%v", err)
				assert.EqualValues(t, 0xa0, e.Code)
				assert.Equal(t, c.left, e.TriesLeft)
				assert.Equal(t, c.what, e.What())
			}
			sess, err := s.tok.Open(t.Context())
			require.NoError(t, err)
			defer sess.Close()
			defer s.flags(0, 0)
			defer s.well()
			s.on("Login", fault{mode: refuse, code: 0xa0, times: 1})
			s.flags(c.flags, 0)
			check(sess.Login(t.Context(), s.d.pin))
			s.flags(0, 0)
			require.NoError(t, sess.Login(t.Context(), s.d.pin))
			s.on("Login", fault{mode: refuse, code: 0xa0, times: 1})
			s.flags(c.flags, 0)
			check(s.signs(t.Context(), sess))
			s.flags(0, 0)
		})
	}
	t.Run("a module is not asked about a card that is out", func(t *testing.T) {
		sess, err := s.tok.Open(t.Context())
		require.NoError(t, err)
		defer sess.Close()
		s.on("Login", fault{mode: hold})
		done := make(chan error, 1)
		go func() { done <- sess.Login(t.Context(), []byte(wrongPIN)) }()
		s.held("Login")
		s.take(true)
		n := s.began("GetTokenInfo")
		s.well()
		assert.Error(t, <-done)
		assert.Equal(t, n, s.began("GetTokenInfo"))
		s.take(false)
	})
}

// TestLost loses the answers of calls that the module did: nothing is believed, and
// nothing is done twice.
func TestLost(t *testing.T) {
	s := behindShim(t, 1)
	ctx := t.Context()
	t.Run("a signature", func(t *testing.T) {
		sess := s.session(t)
		n := s.ended("Sign")
		s.on("Sign", fault{mode: lose, code: pkcs11.CKR_DEVICE_ERROR, skip: 1}) // the first asks for the length
		err := s.signs(ctx, sess)
		s.well()
		assert.True(t, card.IsKind(err, card.Fault), "%v", err)
		assert.Equal(t, n+2, s.ended("Sign"), "it was tried again")
	})
	t.Run("a wrong passcode is presented once", func(t *testing.T) {
		sess, err := s.tok.Open(ctx)
		require.NoError(t, err)
		defer sess.Close()
		n := s.ended("Login")
		assert.True(t, card.IsKind(sess.Login(ctx, []byte("654321")), card.PINIncorrect))
		assert.Equal(t, n+1, s.ended("Login"))
	})
	t.Run("a session that could not be opened is not left open", func(t *testing.T) {
		s.on("OpenSession", fault{mode: refuse, code: pkcs11.CKR_SESSION_COUNT, times: 1})
		_, err := s.tok.Open(ctx)
		var e *card.Error
		require.ErrorAs(t, err, &e)
		assert.EqualValues(t, pkcs11.CKR_SESSION_COUNT, e.Code)
	})
	t.Run("a token that is read-only is read", func(t *testing.T) {
		s.on("OpenSession", fault{mode: refuse, code: pkcs11.CKR_TOKEN_WRITE_PROTECTED, times: 1})
		require.NoError(t, s.signs(ctx, s.session(t)))
	})
}

// TestLate cancels calls that the module is held up in: the answer is at once, what
// the module still brings is thrown away, and its session is used for nothing else.
func TestLate(t *testing.T) {
	s := behindShim(t, 0) // its signing key wants a login for each signature
	// late holds a call up, cancels whoever makes it, and lets it go on when the
	// caller has its answer.
	late := func(t *testing.T, call string, skip uint32, f func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		s.on(call, fault{mode: hold, skip: skip})
		defer s.well()
		done := make(chan error, 1)
		go func() { done <- f(ctx) }()
		s.held(call)
		cancel(nil)
		select {
		case err := <-done:
			assert.ErrorIs(t, err, context.Canceled)
		case <-time.After(patience):
			require.FailNow(t, "a cancelled call waits for the module")
		}
		assert.Greater(t, s.began(call), s.ended(call), "the module answered before")
	}
	quiet := func(t *testing.T) {
		t.Helper()
		for _, c := range shimCalls {
			eventually(t, func() bool { return s.began(c) == s.ended(c) }, "%s is still at work", c)
		}
	}
	t.Run("sign", func(t *testing.T) {
		sess := s.session(t)
		late(t, "Sign", 1, func(ctx context.Context) error { return s.signs(ctx, sess) })
		quiet(t)
		n := s.began("SignInit")
		err := s.signs(t.Context(), sess)
		assert.True(t, card.IsKind(err, card.Removed), "%v", err)
		assert.True(t, card.IsKind(sess.Login(t.Context(), s.d.pin), card.Removed))
		assert.Equal(t, n, s.began("SignInit"), "its session is used again")
		require.NoError(t, sess.Close())
		require.NoError(t, s.signs(t.Context(), s.session(t)))
	})
	t.Run("the login of a signature", func(t *testing.T) {
		sess := s.session(t)
		n := s.began("Sign")
		late(t, "Login", 0, func(ctx context.Context) error { return s.signs(ctx, sess) })
		quiet(t)
		assert.Equal(t, n+2, s.began("Sign"), "the module's one call was the whole signature")
		assert.True(t, card.IsKind(s.signs(t.Context(), sess), card.Removed))
		require.NoError(t, sess.Close())
		require.NoError(t, s.signs(t.Context(), s.session(t)))
	})
	t.Run("login", func(t *testing.T) {
		sess, err := s.tok.Open(t.Context())
		require.NoError(t, err)
		defer sess.Close()
		pin := []byte(testcard.DefaultPIN)
		n := s.began("Login")
		late(t, "Login", 0, func(ctx context.Context) error {
			defer clear(pin) // as whoever asked for it does
			return sess.Login(ctx, pin)
		})
		quiet(t)
		assert.Equal(t, n+1, s.began("Login"))
		assert.True(t, card.IsKind(s.signs(t.Context(), sess), card.Removed))
		assert.True(t, card.IsKind(sess.Login(t.Context(), s.d.pin), card.Removed))
		require.NoError(t, sess.Close())
		require.NoError(t, s.signs(t.Context(), s.session(t)))
	})
	t.Run("open", func(t *testing.T) {
		eventually(t, func() bool { // those of the tests before are closed, which nobody waited for
			m := s.tok.m
			m.mu.Lock()
			defer m.mu.Unlock()
			return len(m.opened) == 0
		}, "earlier sessions are left open")
		opened, closed := s.ended("OpenSession"), s.ended("CloseSession")
		late(t, "OpenSession", 0, func(ctx context.Context) error {
			_, err := s.tok.Open(ctx)
			return err
		})
		// Nobody has its handle; it is closed.
		eventually(t, func() bool {
			return s.ended("OpenSession")-opened == 1 && s.ended("CloseSession")-closed == 1
		}, "the session that came late is left open")
	})
	t.Run("find", func(t *testing.T) {
		sess := s.session(t)
		late(t, "FindObjects", 0, func(ctx context.Context) error {
			_, err := sess.Objects(ctx)
			return err
		})
		quiet(t)
		_, err := sess.Objects(t.Context())
		assert.True(t, card.IsKind(err, card.Removed), "%v", err)
	})
	t.Run("close while the module is at work", func(t *testing.T) {
		sess := s.session(t)
		closed := s.began("CloseSession")
		late(t, "Sign", 0, func(ctx context.Context) error {
			go func() {
				<-ctx.Done()
				sess.Close()
			}()
			return s.signs(ctx, sess)
		})
		eventually(t, func() bool { return s.ended("CloseSession") == closed+1 }, "the session is not closed after its call")
		quiet(t)
	})
	t.Run("a context that has ended asks nothing", func(t *testing.T) {
		sess := s.session(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		before := s.began("SignInit")
		assert.ErrorIs(t, s.signs(ctx, sess), context.Canceled)
		assert.Equal(t, before, s.began("SignInit"))
		assert.NoError(t, s.signs(t.Context(), sess), "the session was not used")
	})
}

// TestShared shares a module with another component of the process.
func TestShared(t *testing.T) {
	soft := softHSM(t)
	// other loads the same library as another component would.
	other := func(t *testing.T, sh *shim) *pkcs11.Ctx {
		t.Helper()
		c := pkcs11.New(sh.path)
		require.NotNil(t, c)
		return c
	}
	t.Run("initialised by another component", func(t *testing.T) {
		sh := newShim(t, soft.tokens[0].Module)
		c := other(t, sh)
		args := append([]byte(sh.control), 0)
		require.NoError(t, c.Initialize(pkcs11.InitializeWithReserved(unsafe.Pointer(&args[0]))))
		m := sh.open(Options{Bound: patience})
		tok, err := m.Token(t.Context(), soft.decks[0].sel, nil)
		require.NoError(t, err)
		sess, err := tok.Open(t.Context())
		require.NoError(t, err)
		require.NoError(t, sess.Login(t.Context(), soft.decks[0].pin))
		require.NoError(t, signsWith(t.Context(), sess, &soft.decks[0]))
		require.NoError(t, sess.Close())
		require.NoError(t, tok.Close())
		// It is left as it was found.
		assert.Zero(t, sh.began("Finalize"))
		_, err = c.GetSlotList(true)
		assert.NoError(t, err)
	})
	t.Run("opened twice", func(t *testing.T) {
		s := behindShim(t, 1)
		again, err := Open(context.Background(), s.path, Options{Arguments: s.control})
		require.NoError(t, err)
		assert.Same(t, s.m, again)
		assert.Equal(t, 1, s.began("Initialize"))
		_, err = Open(context.Background(), s.path, Options{})
		assert.ErrorContains(t, err, "was loaded with other arguments")
	})
	t.Run("finalised by another component", func(t *testing.T) {
		s := behindShim(t, 1)
		ctx := t.Context()
		sess := s.session(t)
		require.NoError(t, s.signs(ctx, sess))
		before := s.tok.Presence()
		// Behind this shim alone: its module is shared with other tests.
		s.on("Finalize", fault{mode: refuse, code: pkcs11.CKR_OK})
		require.NoError(t, other(t, s.shim).Finalize())
		err := s.signs(ctx, sess)
		assert.True(t, card.IsKind(err, card.Removed), "%v", err)
		require.NoError(t, sess.Close())
		require.NoError(t, s.signs(ctx, s.session(t)))
		assert.Equal(t, 2, s.began("Initialize"))
		// It was not seen out, so that counts for no re-seat.
		after := s.tok.Presence()
		assert.True(t, after.Present && after.Reset && after.Insertion > before.Insertion, "%+v after %+v", after, before)
	})
	t.Run("that cannot lock", func(t *testing.T) {
		sh := newShim(t, soft.tokens[1].Module)
		sh.on("Initialize", fault{mode: refuse, code: pkcs11.CKR_CANT_LOCK, times: 1})
		m := sh.open(Options{Bound: patience})
		assert.Equal(t, 2, sh.began("Initialize"))
		tok, err := m.Token(t.Context(), soft.decks[1].sel, nil)
		require.NoError(t, err)
		defer tok.Close()
		// One call at a time reaches it.
		first, err := tok.Open(t.Context())
		require.NoError(t, err)
		defer first.Close()
		second, err := tok.Open(t.Context())
		require.NoError(t, err)
		defer second.Close()
		require.NoError(t, first.Login(t.Context(), soft.decks[1].pin))
		require.NoError(t, second.Login(t.Context(), soft.decks[1].pin))
		sh.on("Sign", fault{mode: hold})
		done := make(chan error, 2)
		for _, sess := range []card.Session{first, second} {
			go func() { done <- signsWith(t.Context(), sess, &soft.decks[1]) }()
		}
		sh.held("Sign")
		n := sh.began("SignInit")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err = m.Slots(ctx)
		cancel()
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, n, sh.began("SignInit"))
		sh.well()
		assert.NoError(t, <-done)
		assert.NoError(t, <-done)
	})
}
