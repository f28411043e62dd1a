package card

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
)

// desk is a session that knows its flags and keeps what Login was given.
type desk struct {
	Session
	info   Info
	err    error
	got    []byte
	logins int
	answer error
}

func (d *desk) Info(context.Context) (Info, error) { return d.info, d.err }

func (d *desk) Login(_ context.Context, pin []byte) error {
	d.got, d.logins = bytes.Clone(pin), d.logins+1
	return d.answer
}

func TestLoginPresentsWhatWasEnteredOnce(t *testing.T) {
	handed := []byte("123456")
	var asked PINRequest
	h := NewHandle(nil, Options{PIN: func(_ context.Context, r PINRequest) ([]byte, error) {
		asked = r
		return handed, nil
	}})
	wrong := Errorf(PINIncorrect, "login", "")
	d := &desk{info: Info{Serial: "s", Label: "l", MinPIN: 4, MaxPIN: 8, CountLow: true}, answer: wrong}
	assert.Equal(t, wrong, Login(t.Context(), h, d, ToRenew))
	assert.Equal(t, PINRequest{Serial: "s", Label: "l", Purpose: ToRenew, MinLength: 4, MaxLength: 8, FewTries: true}, asked)
	assert.Equal(t, 1, d.logins)
	assert.Equal(t, []byte("123456"), d.got)
	assert.Equal(t, make([]byte, 6), handed, "wiped")
}

func TestLoginReadsTheFlagsFirst(t *testing.T) {
	never := Options{PIN: func(context.Context, PINRequest) ([]byte, error) { panic("asked") }}
	gone := Errorf(Removed, "info", "")
	assert.Equal(t, gone, Login(t.Context(), NewHandle(nil, never), &desk{err: gone}, ToSign))
	err := Login(t.Context(), NewHandle(nil, never), &desk{info: Info{Serial: "s", Label: "l", Locked: true, FinalTry: true}}, ToSign)
	assert.True(t, IsKind(err, PINLocked))
	assert.ErrorContains(t, err, `card "l", serial s`)
	err = Login(t.Context(), NewHandle(nil, never), &desk{info: Info{FinalTry: true}}, ToSign)
	assert.True(t, IsKind(err, LastTry))
	assert.ErrorContains(t, err, "no callback for the last try is configured")
	err = Login(t.Context(), NewHandle(nil, Options{}), &desk{}, ToSign)
	assert.True(t, IsKind(err, PINCancelled))
	assert.ErrorContains(t, err, "no passcode callback is configured")
}

func TestTheLastTryWantsAYes(t *testing.T) {
	cause := errors.New("the window was closed")
	for _, c := range []struct {
		name string
		yes  bool
		err  error
		says string
	}{
		{"no", false, nil, "the answer was no"},
		{"an error", false, cause, cause.Error()},
		{"yes with an error", true, cause, cause.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &desk{info: Info{FinalTry: true}}
			err := Login(t.Context(), NewHandle(nil, Options{
				PIN:     func(context.Context, PINRequest) ([]byte, error) { panic("asked") },
				LastTry: func(context.Context, PINRequest) (bool, error) { return c.yes, c.err },
			}), d, ToSign)
			assert.True(t, IsKind(err, LastTry))
			assert.ErrorContains(t, err, c.says)
			if c.err != nil {
				assert.ErrorIs(t, err, c.err)
			}
			assert.Zero(t, d.logins)
		})
	}
}

func TestAPasscodeOfTheWrongLengthIsNotPresented(t *testing.T) {
	known, unknown := Info{MinPIN: 4, MaxPIN: 8}, Info{}
	for _, c := range []struct {
		pin  string
		info Info
		says string
	}{
		{"", known, "it is empty"},
		{"", unknown, "it is empty"},
		{"123", known, "it is shorter than 4 characters"},
		{"1234", known, ""},
		{"12345678", known, ""},
		{"123456789", known, "it is longer than 8 characters"},
		{"1", unknown, ""},
		{"1234567890123", unknown, ""},
	} {
		handed := []byte(c.pin)
		d := &desk{info: c.info}
		err := Login(t.Context(), NewHandle(nil, Options{PIN: func(context.Context, PINRequest) ([]byte, error) { return handed, nil }}), d, ToSign)
		if c.says == "" {
			assert.NoError(t, err)
			assert.Equal(t, 1, d.logins)
		} else {
			assert.True(t, IsKind(err, PINLength))
			assert.ErrorContains(t, err, c.says)
			assert.Zero(t, d.logins)
		}
		assert.Equal(t, make([]byte, len(handed)), handed, "wiped")
	}
}

func TestAPromptThatFailsIsWipedToo(t *testing.T) {
	cause := errors.New("Escape was pressed")
	handed := []byte("123456")
	d := &desk{}
	err := Login(t.Context(), NewHandle(nil, Options{PIN: func(context.Context, PINRequest) ([]byte, error) { return handed, cause }}), d, ToSign)
	assert.True(t, IsKind(err, PINCancelled))
	assert.ErrorIs(t, err, cause)
	assert.Equal(t, make([]byte, 6), handed)
	assert.Zero(t, d.logins)
}

func TestLoginLeavesAPromptWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, leavesAPrompt)
}

func leavesAPrompt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	handed, entered := []byte("123456"), make(chan struct{})
	d := &desk{}
	err := Login(ctx, NewHandle(nil, Options{PIN: func(context.Context, PINRequest) ([]byte, error) {
		cancel()
		<-entered
		return handed, nil
	}}), d, ToSign)
	assert.True(t, IsKind(err, PINCancelled))
	assert.ErrorIs(t, err, context.Canceled)
	assert.Zero(t, d.logins)

	// The same for the question before the last try.
	d.info.FinalTry = true
	ctx, cancel = context.WithCancel(t.Context())
	err = Login(ctx, NewHandle(nil, Options{LastTry: func(context.Context, PINRequest) (bool, error) {
		cancel()
		<-entered
		return true, nil
	}}), d, ToSign)
	assert.True(t, IsKind(err, LastTry))
	assert.ErrorIs(t, err, context.Canceled)
	close(entered)
	synctest.Wait() // until the callbacks returned
	assert.Equal(t, make([]byte, 6), handed, "what came too late is wiped")

	// Nobody is asked when it has ended before.
	_, err = Ask(ctx, func() (int, error) { panic("asked") }, nil)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestACallbackThatDoesNotReturn(t *testing.T) {
	assert.PanicsWithValue(t, "out of paper", func() {
		_, _ = Ask(t.Context(), func() (int, error) { panic("out of paper") }, nil)
	})
	_, err := Ask(t.Context(), func() (int, error) {
		runtime.Goexit()
		return 0, nil
	}, nil)
	assert.ErrorContains(t, err, "the callback did not return")
}

// The passcode is entered on the reader's own pad (protected authentication path):
// the callback tells the person, and what it returns reaches nobody.
func TestOnAPadThePasscodeNeverPassesThroughHere(t *testing.T) {
	cause := errors.New("Escape was pressed")
	wrong := Errorf(PINIncorrect, "login", "")
	for _, c := range []struct {
		name   string
		info   Info
		handed string
		prompt error
		answer error
		yes    bool
		kind   Kind
		is     error
		asked  int
		logins int
	}{
		{name: "told, and nothing returned", asked: 1, logins: 1},
		{name: "what is returned is ignored", handed: "123456", asked: 1, logins: 1},
		{name: "of whatever length", info: Info{MinPIN: 4, MaxPIN: 8}, handed: "1", asked: 1, logins: 1},
		{name: "wrong on the pad", answer: wrong, kind: PINIncorrect, is: wrong, asked: 1, logins: 1},
		{name: "the person gave up", handed: "123456", prompt: cause, kind: PINCancelled, is: cause, asked: 1},
		{name: "the last try, no", info: Info{FinalTry: true}, kind: LastTry},
		{name: "the last try, yes", info: Info{FinalTry: true}, yes: true, asked: 1, logins: 1},
		{name: "locked", info: Info{Locked: true}, yes: true, kind: PINLocked},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.info.ProtectedPath = true
			handed := []byte(c.handed)
			var asked []PINRequest
			d := &desk{info: c.info, answer: c.answer, got: []byte("never asked")}
			err := Login(t.Context(), NewHandle(nil, Options{
				PIN: func(_ context.Context, r PINRequest) ([]byte, error) {
					asked = append(asked, r)
					return handed, c.prompt
				},
				LastTry: func(_ context.Context, r PINRequest) (bool, error) {
					assert.True(t, r.OnPad)
					return c.yes, nil
				},
			}), d, ToSign)
			if c.kind == Other {
				assert.NoError(t, err)
			} else {
				assert.True(t, IsKind(err, c.kind), "%v", err)
			}
			if c.is != nil {
				assert.ErrorIs(t, err, c.is)
			}
			assert.Equal(t, make([]byte, len(handed)), handed, "wiped")
			assert.Len(t, asked, c.asked)
			for _, r := range asked {
				assert.True(t, r.OnPad)
			}
			assert.Equal(t, c.logins, d.logins)
			if c.logins > 0 {
				assert.Nil(t, d.got, "the module asks")
			}
		})
	}
}
