package p11_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/p11"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
)

// nonsense are answers that no card gives to what it is asked.
var nonsense = []struct {
	name   string
	answer []byte
}{
	{"an unknown status", []byte{0x6F, 0x42}},
	{"no status that there is", []byte{0xDE, 0xAD}},
	{"success and nothing else", []byte{0x90, 0x00}},
	{"noise", append(bytes.Repeat([]byte{0xA5, 0x17, 0x00}, 60), 0x90, 0x00)},
	{"a signature of nothing", append(append([]byte{0x7C, 0x82, 0x01, 0x04, 0x82, 0x82, 0x01, 0x00}, bytes.Repeat([]byte{0x42}, 256)...), 0x90, 0x00)},
	{"a length beyond the end", []byte{0x7C, 0x82, 0x7F, 0xFF, 0x82, 0x82, 0x7F, 0xF0, 0x01, 0x90, 0x00}},
	{"an object of length zero", []byte{0x53, 0x00, 0x90, 0x00}},
}

// TestGarbageReleasesNothing has the card answer nonsense to a prescriber who signs: no
// signature is released, a passcode is presented once, and once the card is itself again
// and was put back, the same Signer signs.
func TestGarbageReleasesNothing(t *testing.T) {
	ops := []testcard.Op{testcard.OpLogin, testcard.OpSign, testcard.OpObjects}
	modules := []string{"opensc", "ykcs11"}
	var names []string
	for _, module := range modules {
		for _, op := range ops {
			names = append(names, module+"/"+string(op))
		}
	}
	elsewhere := p11.Alone(t, names)
	for _, module := range modules {
		for _, op := range ops {
			t.Run(module+"/"+string(op), func(t *testing.T) {
				if !elsewhere(t) {
					garbage(t, p11.NewInReader(t, module), op)
				}
			})
		}
	}
}

func garbage(t *testing.T, r p11.InReader, op testcard.Op) {
	require.NoError(t, r.Card.SetPIN([]byte(thePIN)))
	handle, signer, rec, _ := open(t, r.Token, thePIN)
	_, err := signing.Sign(t.Context(), signer, document(t, "first"))
	require.NoError(t, err)
	presented := func() (n int) {
		for _, c := range r.Card.Commands() {
			if c.Op == testcard.OpLogin && c.Phase == testcard.Before {
				n++
			}
		}
		return n
	}
	for i, x := range nonsense {
		t.Logf("%s answered with %s", op, x.name)
		reseat := func() {
			t.Helper()
			r.Card.Remove()
			r.Reaches(t, false)
			r.Card.Insert()
			r.Reaches(t, true)
		}
		before := len(r.Card.Commands())
		logins := presented()
		r.Card.HookCommands(func(c testcard.Command) []byte {
			if c.Op == op && c.Phase == testcard.Before {
				return bytes.Clone(x.answer)
			}
			return nil
		})
		if op == testcard.OpObjects {
			reseat() // that it is read again
		}
		signed, err := signing.Sign(t.Context(), signer, document(t, "second"))
		r.Card.HookCommands(nil)
		require.Greater(t, len(r.Card.Commands()), before)
		if err == nil { // it was not asked
			assert.Equal(t, testcard.OpObjects, op, x.name)
			assert.NotNil(t, signed)
		} else {
			assert.Nil(t, signed)
			assert.Equal(t, i+1, rec.count(signing.EventSigned), "%s: %v", x.name, err)
			var e *signing.CardError
			var undecided *guard.Undecided
			require.True(t, errors.As(err, &e) || errors.As(err, &undecided), "%s: %v", x.name, err)
			if e != nil {
				assert.NotEqual(t, signing.CardWedged, e.Kind, "%s: %v", x.name, err)
				assert.NotEmpty(t, e.Advice())
			}
			assert.NotContains(t, err.Error(), thePIN)
		}
		assert.LessOrEqual(t, presented()-logins, 2, "%s: one for the session, one for the key", x.name)
		t.Logf("  %v", err)

		reseat()
		until(t, handle, func(s guard.Snapshot) bool { return s.Certificate != nil })
		_, err = signing.Sign(t.Context(), signer, document(t, "third"))
		require.NoError(t, err, x.name)
		assert.Equal(t, 3, r.Card.TriesLeft())
	}
}

// TestALateAnswerReleasesNothing has the card answer after the module's bound: the
// signature that it made is not released, and whoever asks from then on has the answer at
// once, though the module goes on.
func TestALateAnswerReleasesNothing(t *testing.T) {
	modules := []string{"opensc", "ykcs11"}
	elsewhere := p11.Alone(t, modules)
	for _, module := range modules {
		t.Run(module, func(t *testing.T) {
			if elsewhere(t) {
				return
			}
			r := p11.NewInReader(t, module)
			require.NoError(t, r.Card.SetPIN([]byte(thePIN)))
			handle, signer, rec, _ := open(t, r.Token, thePIN)
			_, err := signing.Sign(t.Context(), signer, document(t, "first"))
			require.NoError(t, err)
			made := r.Card.Signatures(testcard.SigningID())
			release := make(chan struct{})
			r.Card.HookCommands(testcard.OnCommand(testcard.OpSign, testcard.During, 1, func() []byte { <-release; return nil }))
			wedged := func(name string) {
				t.Helper()
				signed, err := signing.Sign(t.Context(), signer, document(t, name))
				assert.Nil(t, signed)
				var e *signing.CardError
				require.ErrorAs(t, err, &e)
				assert.Equal(t, signing.CardWedged, e.Kind, "%v", err)
				assert.Equal(t, "restart the application; nothing was signed", e.Advice())
				assert.Equal(t, 1, rec.count(signing.EventSigned))
			}
			wedged("second")
			assert.Equal(t, made+1, r.Card.Signatures(testcard.SigningID()), "the card made it")
			until(t, handle, func(s guard.Snapshot) bool { return s.Err != nil })
			close(release)
			wedged("third")
			assert.Equal(t, made+1, r.Card.Signatures(testcard.SigningID()))
		})
	}
}
