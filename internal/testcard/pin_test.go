package testcard

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
)

func TestPIN(t *testing.T) {
	const right, wrong = DefaultPIN, "000000"
	ok := card.Kind(-1)
	type step struct {
		pin  string
		want card.Kind
		left int // inside the card afterwards
	}
	for _, x := range []struct {
		name  string
		steps []step
	}{
		{"right", []step{{right, ok, 3}}},
		{"wrong once, then right", []step{{wrong, card.PINIncorrect, 2}, {right, ok, 3}}},
		{"right resets the count", []step{{wrong, card.PINIncorrect, 2}, {wrong, card.PINIncorrect, 1}, {right, ok, 3}, {wrong, card.PINIncorrect, 2}}},
		{"the third wrong one locks", []step{{wrong, card.PINIncorrect, 2}, {wrong, card.PINIncorrect, 1}, {wrong, card.PINIncorrect, 0}, {right, card.PINLocked, 0}, {wrong, card.PINLocked, 0}}},
		{"empty costs no try", []step{{"", card.PINLength, 3}}},
		{"three digits cost no try", []step{{"123", card.PINLength, 3}}},
		{"nine digits cost no try", []step{{"123456789", card.PINLength, 3}, {right, ok, 3}}},
		{"four and eight digits are compared", []step{{"1234", card.PINIncorrect, 2}, {"12345678", card.PINIncorrect, 1}}},
		{"a prefix is wrong", []step{{right[:5], card.PINIncorrect, 2}}},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := newCard(t, Config{})
			s := open(t, c)
			wasWrong := false
			for i, step := range x.steps {
				err := s.Login(t.Context(), []byte(step.pin))
				if step.want == ok {
					require.NoError(t, err)
					wasWrong = false
				} else {
					var e *card.Error
					require.ErrorAs(t, err, &e)
					assert.Equal(t, step.want, e.Kind, "step %d", i)
					assert.Equal(t, step.left, e.TriesLeft, "step %d: what the error tells", i)
					if step.pin != "" {
						assert.NotContains(t, err.Error(), step.pin)
					}
					wasWrong = wasWrong || step.want == card.PINIncorrect
				}
				assert.Equal(t, step.left, c.TriesLeft(), "step %d: inside the card", i)
				info, err := s.Info(t.Context())
				require.NoError(t, err)
				assert.Equal(t, wasWrong, info.CountLow, "step %d: count low", i)
				assert.Equal(t, step.left == 1, info.FinalTry, "step %d: final try", i)
				assert.Equal(t, step.left == 0, info.Locked, "step %d: locked", i)
			}
		})
	}
}

func TestLoginIsTheSessions(t *testing.T) {
	c := withKey(t, Config{})
	mine, other := login(t, c), open(t, c)
	require.NoError(t, trySign(mine))
	assert.Equal(t, card.NotLoggedIn, kindOf(t, trySign(other)))
	require.NoError(t, mine.Logout(t.Context()))
	require.NoError(t, mine.Logout(t.Context()), "there may be no login")
	assert.Equal(t, card.NotLoggedIn, kindOf(t, trySign(mine)))

	require.NoError(t, mine.Login(t.Context(), []byte(DefaultPIN)))
	require.Error(t, mine.Login(t.Context(), []byte("000000")))
	assert.Equal(t, card.NotLoggedIn, kindOf(t, trySign(mine)), "a wrong passcode ends the login")
}

func TestLockedCardSignsNothingForALoginOfBefore(t *testing.T) {
	c := withKey(t, Config{Tries: 1})
	s, other := login(t, c), open(t, c)
	require.Error(t, other.Login(t.Context(), []byte("000000")))
	assert.Equal(t, card.PINLocked, kindOf(t, trySign(s)))
	_, err := s.Generate(t.Context(), card.KeySpec{ID: []byte{3}})
	assert.Equal(t, card.PINLocked, kindOf(t, err))
}

func TestSetPINUnlocks(t *testing.T) {
	c := newCard(t, Config{Tries: 1})
	s := open(t, c)
	require.Error(t, s.Login(t.Context(), []byte("000000")))
	pin := []byte("87654321")
	require.NoError(t, c.SetPIN(pin))
	clear(pin)
	assert.Equal(t, 1, c.TriesLeft())
	require.NoError(t, s.Login(t.Context(), []byte("87654321")))
	for _, bad := range []string{"", "123", strings.Repeat("1", 9)} {
		assert.ErrorContains(t, c.SetPIN([]byte(bad)), "expected 4 to 8")
	}
}
