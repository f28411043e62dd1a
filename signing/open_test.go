package signing

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
)

func TestOpenWantsACardAndAPrompt(t *testing.T) {
	sim := newCard(t, testcard.Config{})
	pin := func(context.Context, PINRequest) ([]byte, error) { return nil, nil }
	reader := card.NewReader(sim.Token(), "x")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		config Config
		says   string
	}{
		{"nothing", t.Context(), Config{PIN: pin}, "neither Config.Module nor Config.Reader is set"},
		{"a card without its module", t.Context(), Config{Token: "card1", ReaderName: "r", PIN: pin}, "neither Config.Module nor Config.Reader is set"},
		{"a module and a reader", t.Context(), Config{Module: "m.so", Reader: reader, PIN: pin}, "does not go together with Module"},
		{"a reader and a module's arguments", t.Context(), Config{ModuleArguments: "a", Reader: reader, PIN: pin}, "does not go together with Module"},
		{"a reader and a card's name", t.Context(), Config{Token: "card1", Reader: reader, PIN: pin}, "does not go together with Module"},
		{"a reader and a reader's name", t.Context(), Config{ReaderName: "r", Reader: reader, PIN: pin}, "does not go together with Module"},
		{"an empty reader", t.Context(), Config{Reader: &Reader{}, PIN: pin}, "Config.Reader is empty; it comes from signing/signingtest"},
		{"a reader without a state folder", t.Context(), Config{Reader: card.NewReader(sim.Token(), ""), PIN: pin}, "Config.Reader is empty"},
		{"no prompt", t.Context(), Config{Reader: reader}, "Config.PIN is nil; wanted a function that asks"},
		{"no prompt for a module", t.Context(), Config{Module: "m.so"}, "Config.PIN is nil; wanted a function that asks"},
		{"an ended context", ended, Config{Reader: reader, PIN: pin}, "context canceled"},
		{"an ended context and a module", ended, Config{Module: "m.so", PIN: pin}, "context canceled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			opened, err := Open(c.ctx, c.config)
			assert.ErrorContains(t, err, c.says)
			assert.Nil(t, opened)
		})
	}
	assert.Empty(t, sim.Trace())
}

// Config has nothing that leads elsewhere; a Reader, which has a folder of its own,
// can be made inside this module alone.
func TestARealCardIsBoundByTheHoldsOfTheMachine(t *testing.T) {
	machine, err := state.Machine()
	require.NoError(t, err)
	sim := newCard(t, testcard.Config{})
	dir, err := stateOf(card.NewHandle(sim.Token(), card.Options{}))
	require.NoError(t, err)
	assert.Equal(t, machine, dir)
	dir, err = stateOf(card.NewHandle(sim.Token(), card.Options{StateDir: "elsewhere"}))
	require.NoError(t, err)
	assert.Equal(t, state.At("elsewhere"), dir)
	for f := range reflect.TypeFor[Config]().Fields() {
		assert.NotContains(t, strings.ToLower(f.Name), "dir")
		assert.True(t, f.IsExported(), f.Name)
	}
}

func TestAReaderWithoutACardIsNoError(t *testing.T) {
	w := newWorld(t, func(u *setUp) {
		u.sim = newCard(t, testcard.Config{Serial: "c0ffee"})
		u.sim.Remove()
	})
	s, err := w.card.Snapshot(t.Context())
	require.NoError(t, err)
	assert.ErrorIs(t, s.Err, guard.ErrNoCard)
	w.sim.Insert()
	s = until(t, w.card, func(s guard.Snapshot) bool { return s.Certificate != nil })
	assert.Equal(t, "c0ffee", s.Serial)
	assert.EqualValues(t, 2, s.Insertion)
}

// What the person enters, what the card's counter says then, and what is told.
func TestThePasscode(t *testing.T) {
	cause := errors.New("Escape was pressed")
	for _, c := range []struct {
		name   string
		wrong  int // wrong tries before
		pin    string
		err    error
		yes    bool
		noCall bool // no LastTry callback is configured
		kind   card.Kind
		fine   bool
		what   string
		left   int // tries left afterwards
		asked  int
		logins int
	}{
		{name: "right", pin: thePIN, fine: true, left: 3, asked: 1, logins: 1},
		{name: "wrong", pin: wrongPIN, kind: card.PINIncorrect, what: "wrong passcode, 2 tries left before the card locks", left: 2, asked: 1, logins: 1},
		{name: "wrong again", wrong: 1, pin: wrongPIN, kind: card.PINIncorrect, what: "wrong passcode, one try left before the card locks", left: 1, asked: 1, logins: 1},
		{name: "right after a wrong one", wrong: 1, pin: thePIN, fine: true, left: 3, asked: 1, logins: 1},
		{name: "last try without a callback", wrong: 2, pin: thePIN, noCall: true, kind: card.LastTry, what: "only one try is left for the passcode", left: 1},
		{name: "last try, no", wrong: 2, pin: thePIN, kind: card.LastTry, what: "only one try is left for the passcode", left: 1},
		{name: "last try, yes, right", wrong: 2, pin: thePIN, yes: true, fine: true, left: 3, asked: 1, logins: 1},
		{name: "last try, yes, wrong", wrong: 2, pin: wrongPIN, yes: true, kind: card.PINIncorrect, what: "wrong passcode, no tries left: the card is now locked", left: 0, asked: 1, logins: 1},
		{name: "locked", wrong: 3, pin: thePIN, yes: true, kind: card.PINLocked, what: "the card is locked: no tries are left for its passcode", left: 0},
		{name: "empty", pin: "", kind: card.PINLength, what: "a passcode of this length cannot be right", left: 3, asked: 1},
		{name: "too short", pin: "123", kind: card.PINLength, what: "a passcode of this length cannot be right", left: 3, asked: 1},
		{name: "too long", pin: "123456789", kind: card.PINLength, what: "a passcode of this length cannot be right", left: 3, asked: 1},
		{name: "cancelled prompt", pin: thePIN, err: cause, kind: card.PINCancelled, what: "no passcode was entered", left: 3, asked: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(u *setUp) {
				u.sim = newCard(t, testcard.Config{Serial: "c0ffee", Label: "card one"})
				s, err := u.sim.Token().Open(t.Context())
				require.NoError(t, err)
				for range c.wrong {
					require.Error(t, s.Login(t.Context(), []byte(wrongPIN)))
				}
			})
			if c.noCall {
				h, err := Open(t.Context(), Config{Reader: card.NewReader(w.sim.Token(), w.dir.Path()), PIN: w.person.enter})
				require.NoError(t, err)
				defer h.Close()
				w.signer = w.sign(h)
			}
			before := reached(w.sim, testcard.OpLogin)
			w.person.pin, w.person.err, w.person.yes = c.pin, c.err, c.yes
			_, err := Sign(t.Context(), w.signer, document(t, "one"))
			if c.fine {
				require.NoError(t, err)
			} else {
				var ce *CardError
				require.ErrorAs(t, err, &ce)
				assert.Equal(t, c.kind, ce.Kind, "%v", err)
				assert.Equal(t, c.what, ce.What())
				assert.Equal(t, c.kind.String(), w.only(EventNotSigned)[0].Cause)
				assert.Zero(t, w.signed())
			}
			if c.err != nil {
				assert.ErrorIs(t, err, c.err)
			}
			if err != nil && c.pin != "" {
				assert.NotContains(t, err.Error(), c.pin)
			}
			assert.Equal(t, c.left, w.sim.TriesLeft(), "the counter inside the card")
			assert.Equal(t, c.logins, reached(w.sim, testcard.OpLogin)-before, "nothing is tried again")
			require.Len(t, w.person.requests(), c.asked)
			for _, r := range w.person.requests() {
				assert.Equal(t, PINRequest{Serial: "c0ffee", Label: "card one", Purpose: ToSign, MinLength: 4, MaxLength: 8,
					FewTries: c.wrong > 0, LastTry: c.wrong == 2}, r)
			}
			w.person.wiped(t)
		})
	}
}

func TestAPromptIsLeftWhenItsContextEnds(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	late := make(chan struct{})
	w.person.during = func(context.Context) {
		cancel()
		<-late // it does not heed its context
	}
	_, err := Sign(ctx, w.signer, document(t, "one"))
	assert.ErrorIs(t, err, context.Canceled)
	assert.True(t, card.IsKind(err, card.PINCancelled), "%v", err)
	assert.Zero(t, reached(w.sim, testcard.OpLogin))
	assert.Equal(t, 3, w.sim.TriesLeft())
	assert.Equal(t, "passcode_cancelled", w.only(EventNotSigned)[0].Cause)
	close(late)
}

func TestOneLoginServesOneInsertion(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"one", "two", "three"} {
		_, err := Sign(t.Context(), w.signer, document(t, name))
		require.NoError(t, err)
	}
	assert.Len(t, w.person.requests(), 1)
	w.reseat()
	_, err := Sign(t.Context(), w.signer, document(t, "four"))
	require.NoError(t, err)
	assert.Len(t, w.person.requests(), 2)
	require.NoError(t, w.signer.Close())
	_, err = Sign(t.Context(), w.signer, document(t, "five"))
	require.NoError(t, err)
	assert.Len(t, w.person.requests(), 3)
	w.person.wiped(t)
}

func TestAnAlwaysAuthenticateKeyAsksForEachSignature(t *testing.T) {
	w := newWorld(t, func(u *setUp) { u.config.AlwaysAuthenticate = true })
	for i, name := range []string{"one", "two", "three"} {
		_, err := Sign(t.Context(), w.signer, document(t, name))
		require.NoError(t, err)
		assert.Len(t, w.person.requests(), i+1)
	}
	w.seenHold(state.Reseat)
	w.reseat()
	require.NoError(t, w.signer.EndHold(t.Context()))
	_, err := Sign(t.Context(), w.signer, document(t, "four"))
	require.NoError(t, err)
	assert.Len(t, w.person.requests(), 5)
}

// The passcode is in no error, in no file and in no entry, whatever happened to it.
func TestThePasscodeIsNowhere(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(filepath.Dir(w.dir.Path()), "decisions.jsonl")
	r, err := OpenRecord(path)
	require.NoError(t, err)
	w.signer.rec = r
	var told strings.Builder
	try := func() {
		if _, err := Sign(t.Context(), w.signer, document(t, "one")); err != nil {
			told.WriteString(err.Error() + "\n")
		}
	}
	try()
	w.seenHold(state.Reseat)
	try()
	w.reseat()
	for _, pin := range []string{wrongPIN, thePIN + "0000", thePIN} {
		w.person.enters(pin)
		try()
	}
	w.person.err = errors.New("Escape was pressed")
	w.reseat()
	try()
	require.NoError(t, r.Close())
	n, err := VerifyRecord(path, nil)
	require.NoError(t, err)
	assert.EqualValues(t, 7, n)
	for _, secret := range []string{thePIN, wrongPIN} {
		assert.NotContains(t, told.String(), secret)
		nowhere(t, secret, filepath.Dir(w.dir.Path()))
	}
	// The record also holds nothing of whom the certificate names.
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.NotContains(t, string(b), "123456789012")
	assert.NotContains(t, string(b), "Prescriber")
	w.person.wiped(t)
}
