package p11

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/testcard"
	rig "github.com/rxguard/rxguard/internal/testcard/modules"
)

// Passcodes of TestPasscode, which are in no other text by chance.
const (
	firstPIN  = "704139"
	secondPIN = "8315902"
	wrongPIN  = "6027481"
)

// What a person enters, or does in place of that.
const (
	right     = "right"
	wrong     = "wrong"
	empty     = "empty"
	short     = "short"
	long      = "long"      // longer than the card's
	veryLong  = "very long" // longer than any module's
	cancelled = "cancelled" // the prompt answers an error
	given     = "given up"  // the context ends in the prompt
)

// attempt is one login of a person.
type attempt struct {
	enters string
	yes    bool // to spending the last try
	// What another program does to the card while the prompt is open: spend so many
	// tries, or set another passcode, which gives all tries back.
	spends  int
	changes bool
	// before is when it does that before the login begins.
	before bool
}

func (a attempt) String() string {
	return fmt.Sprintf("{%s, yes to the last try: %t, behind our back %d spent, changed %t, before %t}", a.enters, a.yes, a.spends, a.changes, a.before)
}

// holder is a person with a card, and the model of what they are told.
type holder struct {
	token card.Token
	c     *testcard.Card // nil: nobody can look into it, and it never locks
	pin   string
	left  int // tries, as the model counts
	// knows is the count that the module tells. ykcs11 asks the card when it comes, and
	// then goes by the answers to its own logins (deaf). OpenSC asks each time, but a
	// PIV card that was given its passcode does not tell (mute), and OpenSC then tells
	// what it was told last.
	knows      int
	deaf, mute bool
	verified   bool // the card was given its passcode by this module
	counts     bool // CKF_USER_PIN_COUNT_LOW is told
	never      bool // wrong passcodes are never too many
	pad        *shim
	min        int
	max        int

	asked    []card.PINRequest
	lastAsks int
	handed   [][]byte
}

const allTries = 3

var errPrompt = errors.New("the person closed the window")

// changed is a card whose passcode was set anew, which gives it all tries.
func (h *holder) changed(pin string) error {
	h.pin, h.left = pin, allTries
	return h.c.SetPIN([]byte(pin))
}

// behind is another program at work on the card.
func (h *holder) behind(a attempt) error {
	if h.c == nil {
		return nil
	}
	if a.changes {
		other := firstPIN
		if h.pin == firstPIN {
			other = secondPIN
		}
		if err := h.changed(other); err != nil {
			return err
		}
	}
	s, err := h.c.Token().Open(context.Background())
	if err != nil {
		return err
	}
	defer s.Close()
	for range min(a.spends, h.left) {
		h.left--
		if err := s.Login(context.Background(), []byte(wrongPIN)); !card.IsKind(err, card.PINIncorrect) {
			return fmt.Errorf("the other program: %w", err)
		}
	}
	return nil
}

// entry is what reaches the prompt.
func (h *holder) entry(a attempt) string {
	switch a.enters {
	case right:
		return h.pin
	case wrong:
		return wrongPIN
	case short:
		return wrongPIN[:h.min-1]
	case long:
		return "602748135"
	case veryLong:
		return string(bytes.Repeat([]byte("60274813"), 32))
	}
	return ""
}

// flags are what the module can tell of a count.
func (h *holder) flags(left int) (final, locked bool) {
	if h.never {
		return false, false
	}
	return left == 1, left == 0
}

// seen is the count that the module goes by now.
func (h *holder) seen() int {
	if !h.deaf && !(h.mute && h.verified) {
		h.knows = h.left
	}
	return h.knows
}

// attempts logs in and compares what the person was told, the error, and the counter
// inside the card with the model.
func (h *holder) attempts(t require.TestingT, a attempt) {
	if a.before {
		require.NoError(t, h.behind(a))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := h.token.Open(ctx)
	require.NoError(t, err)
	defer s.Close()
	h.asked, h.lastAsks, h.handed = nil, 0, nil
	var behind error
	handle := card.NewHandle(h.token, card.Options{
		PIN: func(_ context.Context, r card.PINRequest) ([]byte, error) {
			h.asked = append(h.asked, r)
			if !a.before {
				behind = h.behind(a)
			}
			pin := []byte(h.entry(a))
			if h.pad != nil {
				h.pad.pad(h.entry(a), 0)
				if a.enters == cancelled {
					h.pad.pad("", 0x50) // CKR_FUNCTION_CANCELED
				}
				pin = []byte("of no meaning")
			}
			h.handed = append(h.handed, pin)
			switch {
			case a.enters == cancelled && h.pad == nil:
				return pin, errPrompt
			case a.enters == given:
				cancel()
			}
			return pin, nil
		},
		LastTry: func(_ context.Context, r card.PINRequest) (bool, error) {
			h.lastAsks++
			if !r.LastTry {
				return false, errors.New("asked for the last try though it is not")
			}
			return a.yes, nil
		},
	})

	// The model: what has to happen.
	final, locked := h.flags(h.seen())
	few := h.seen() < allTries
	pads := 0
	if h.pad != nil {
		pads = h.pad.padded()
	}
	err = card.Login(ctx, handle, s, card.ToSign)
	require.NoError(t, behind)
	want, reached := h.expect(a, final, locked)
	var e *card.Error
	if want == nil {
		require.NoErrorf(t, err, "%v", a)
	} else {
		require.ErrorAsf(t, err, &e, "%v", a)
		require.Containsf(t, want, e.Kind, "%v: %v", a, err)
		for _, secret := range []string{firstPIN, secondPIN, wrongPIN, "602748"} {
			require.NotContains(t, err.Error(), secret)
		}
		h.told(t, a, e)
	}
	switch {
	case locked, final && !a.yes:
		require.Emptyf(t, h.asked, "%v: the person enters a passcode for nothing", a)
	default:
		require.Lenf(t, h.asked, 1, "%v", a)
		r := h.asked[0]
		require.Equal(t, card.ToSign, r.Purpose)
		require.Equalf(t, final, r.LastTry, "%v: %+v with %d tries left", a, r, h.seen())
		require.Equal(t, h.pad != nil, r.OnPad)
		require.Equal(t, h.min, r.MinLength)
		require.Equal(t, h.max, r.MaxLength)
		require.NotEmpty(t, r.Serial)
		switch {
		case h.counts && !final:
			require.Equalf(t, few, r.FewTries, "%v: %+v with %d tries left", a, r, h.seen())
		case !few:
			require.Falsef(t, r.FewTries, "%v: %+v with all tries left", a, r)
		}
	}
	if a.enters == cancelled && h.pad == nil && len(h.asked) > 0 {
		require.ErrorIs(t, err, errPrompt)
	}
	if a.enters == given && len(h.asked) > 0 {
		require.ErrorIs(t, err, context.Canceled)
	}
	for _, b := range h.handed {
		if a.enters == given {
			break // it came when nobody waited any more, and is wiped then
		}
		require.Equal(t, make([]byte, len(b)), b, "a passcode is left in memory")
	}
	if h.c != nil {
		require.Equalf(t, h.left, h.c.TriesLeft(), "%v: tries left inside the card", a)
	}
	if h.pad != nil {
		require.Equalf(t, reached, h.pad.padded() == pads+1, "%v", a)
	}
}

// told compares the tries that a person is told of, after a passcode that was wrong or
// came too late, with the counter inside the card.
func (h *holder) told(t require.TestingT, a attempt, e *card.Error) {
	switch {
	case e.Kind == card.PINLocked:
		// A module that does not notice what others do tells what it knows.
		require.Zerof(t, min(h.left, h.knows), "%v: %v", a, e)
		require.Equal(t, "contact your Registration Authority to have it unlocked", e.Advice())
	case e.Kind != card.PINIncorrect:
	case h.never:
		require.Equal(t, -1, e.TriesLeft)
	default:
		if h.left <= 1 || e.TriesLeft >= 0 { // flags tell no more
			require.Equalf(t, h.left, e.TriesLeft, "%v: %v", a, e)
		}
		advice := "check your passcode and try again"
		switch {
		case h.left == 0:
			require.Containsf(t, e.What(), "the card is now locked", "%v", a)
			advice = "contact your Registration Authority to have it unlocked"
		case h.left == 1:
			require.Containsf(t, e.What(), "one try left before the card locks", "%v", a)
		}
		require.Equalf(t, advice, e.Advice(), "%v", a)
	}
}

// expect says which kinds of error a login may end with, none for one that succeeds,
// and whether a passcode reaches the card. It counts.
func (h *holder) expect(a attempt, final, locked bool) (kinds []card.Kind, reached bool) {
	asks := final
	defer func() {
		if want := 0; asks {
			want = 1
			if h.lastAsks != want {
				kinds = []card.Kind{-1} // which no error has
			}
		} else if h.lastAsks != want {
			kinds = []card.Kind{-1}
		}
	}()
	switch {
	case locked:
		asks = false
		return []card.Kind{card.PINLocked}, false
	case final && !a.yes:
		return []card.Kind{card.LastTry}, false
	case a.enters == given, a.enters == cancelled && h.pad == nil:
		return []card.Kind{card.PINCancelled}, false
	}
	entry := h.entry(a)
	if h.pad == nil && (len(entry) < h.min || len(entry) > h.max) {
		return []card.Kind{card.PINLength}, false
	}
	// The prompt took its time.
	now, gone := h.flags(h.seen())
	switch {
	case gone:
		return []card.Kind{card.PINLocked}, false
	case now && !final:
		asks = true
		if !a.yes {
			return []card.Kind{card.LastTry}, false
		}
	}
	switch {
	case a.enters == cancelled:
		return []card.Kind{card.PINCancelled}, true
	case len(entry) < testcard.MinPIN || len(entry) > testcard.MaxPIN && h.c != nil:
		return []card.Kind{card.PINLength}, true
	case h.left == 0:
		h.answered(false)
		return []card.Kind{card.PINLocked}, true
	case entry == h.pin:
		h.answered(true)
		return nil, true
	}
	h.answered(false)
	if h.left == 0 {
		return []card.Kind{card.PINIncorrect, card.PINLocked}, true
	}
	return []card.Kind{card.PINIncorrect}, true
}

// answered counts what the card says to a passcode.
func (h *holder) answered(right bool) {
	switch {
	case right:
		h.left = allTries
	case h.never:
		h.left = allTries - 1 // as far as is told
	case h.left > 0:
		h.left--
	}
	h.verified = right
	if h.deaf {
		h.knows = h.left
	}
}

// fresh gives the card its first passcode and all tries, and brings the module to a
// state that does not depend on what was before.
func (h *holder) fresh(t require.TestingT) {
	if h.c != nil {
		require.NoError(t, h.changed(firstPIN))
	}
	s, err := h.token.Open(context.Background())
	require.NoError(t, err)
	defer s.Close()
	enter := func(entry string) error {
		if h.pad != nil {
			h.pad.pad(entry, 0)
			return s.Login(context.Background(), nil)
		}
		return s.Login(context.Background(), []byte(entry))
	}
	require.True(t, card.IsKind(enter(wrongPIN), card.PINIncorrect))
	h.answered(false)
	_, err = s.Info(context.Background())
	require.NoError(t, err)
	h.seen()
	require.NoError(t, enter(h.pin))
	h.answered(true)
}

// stories are logins with a name.
var stories = []struct {
	name string
	card bool // what happens to the card can be seen and done
	as   []attempt
}{
	{"wrong", false, []attempt{{enters: wrong}, {enters: right}, {enters: right}}},
	{"last try, not spent", true, []attempt{{enters: wrong}, {enters: wrong}, {enters: right}, {enters: right}}},
	{"last try, spent well", true, []attempt{{enters: wrong}, {enters: wrong}, {enters: right, yes: true}, {enters: right}}},
	{"locked", true, []attempt{{enters: wrong}, {enters: wrong}, {enters: wrong, yes: true}, {enters: right, yes: true}, {enters: wrong, yes: true}}},
	{"unlocked again", true, []attempt{{enters: wrong}, {enters: wrong}, {enters: wrong, yes: true}, {enters: right, yes: true}}},
	{"changed behind our back", true, []attempt{{enters: right}, {enters: right, changes: true}, {enters: wrong, changes: true, before: true}, {enters: right}}},
	{"spent behind our back", true, []attempt{{enters: right}, {enters: right, spends: 2, before: true, yes: true}, {enters: wrong, spends: 1, yes: true}, {enters: right, yes: true}}},
	{"locked behind our back", true, []attempt{{enters: right, spends: 3}, {enters: right}}},
	{"cancelled prompt", false, []attempt{{enters: cancelled}, {enters: given}, {enters: right}}},
	{"empty", false, []attempt{{enters: empty}, {enters: right}}},
	{"too short", false, []attempt{{enters: short}, {enters: right}}},
	{"too long", false, []attempt{{enters: long}, {enters: veryLong}, {enters: right}}},
}

// TestPasscode compares, at every step of a login, what the person is told with the
// counter inside the card.
func TestPasscode(t *testing.T) {
	t.Run("inprocess", func(t *testing.T) {
		c := passcodeCard(t)
		passcode(t, &holder{token: c.Token(), c: c, counts: true, min: testcard.MinPIN, max: testcard.MaxPIN})
	})
	others := []struct {
		name string
		f    func(t *testing.T)
	}{
		{"opensc", func(t *testing.T) {
			w := virtual(rig.OpenSC, cannot{})(t)
			passcode(t, virtualHolder(t, w, w.module, &holder{mute: true, min: 4, max: 8}))
		}},
		{"ykcs11", func(t *testing.T) {
			w := virtual(rig.YKCS11, cannot{})(t)
			passcode(t, virtualHolder(t, w, w.module, &holder{deaf: true, counts: true, min: 6, max: 48}))
		}},
		{"pad", func(t *testing.T) {
			w := virtual(rig.OpenSC, cannot{})(t)
			sh := newShim(t, rig.OpenSC(t))
			sh.flags(0x100, 0) // CKF_PROTECTED_AUTHENTICATION_PATH
			h := virtualHolder(t, w, sh.open(Options{}), &holder{mute: true, pad: sh, min: 4, max: 8})
			passcode(t, h)
			t.Run("each signature on the pad", func(t *testing.T) { h.padSigns(t) })
		}},
	}
	var names []string
	for _, o := range others {
		names = append(names, o.name)
	}
	elsewhere := alone(t, names)
	t.Run("softhsm", func(t *testing.T) {
		s := softHSM(t)
		tok, err := load(t, s.tokens[3].Module, "").Token(t.Context(), Select{Token: s.tokens[3].Label}, nil)
		require.NoError(t, err)
		defer tok.Close()
		passcode(t, &holder{token: tok, pin: testcard.DefaultPIN, never: true, counts: true, min: 4, max: 255})
	})
	for _, o := range others {
		t.Run(o.name, func(t *testing.T) {
			if !elsewhere(t) {
				o.f(t)
			}
		})
	}
}

func passcodeCard(t *testing.T) *testcard.Card {
	t.Helper()
	d := newCard(t, 0)
	require.NoError(t, d.c.SetPIN([]byte(firstPIN)))
	return d.c
}

// virtualHolder is somebody with a card in a virtual reader.
func virtualHolder(t *testing.T, w *world, m *Module, h *holder) *holder {
	t.Helper()
	h.c = passcodeCard(t)
	w.plug(t, 0, &deck{c: h.c})
	tok, err := m.Token(t.Context(), Select{Reader: w.service.Name(0)}, managementKey)
	require.NoError(t, err)
	t.Cleanup(func() { tok.Close() })
	eventually(t, func() bool { return tok.Presence().Present }, "the card is not seen")
	h.token = tok
	return h
}

func passcode(t *testing.T, h *holder) {
	for _, s := range stories {
		if s.card && h.c == nil {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			h.fresh(t)
			for _, a := range s.as {
				h.attempts(t, a)
			}
		})
	}
	t.Run("model", func(t *testing.T) {
		need.Cases(t, 500)
		enters := []string{right, right, right, wrong, wrong, wrong, empty, short, long, veryLong, cancelled, given}
		if h.pad != nil { // it sends nothing that is empty
			enters = slices.DeleteFunc(enters, func(s string) bool { return s == empty })
		}
		rapid.Check(t, func(t *rapid.T) {
			h.fresh(t)
			steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) attempt {
				a := attempt{enters: rapid.SampledFrom(enters).Draw(t, "enters"), yes: rapid.Bool().Draw(t, "yes")}
				if h.c != nil {
					a.spends = rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3}).Draw(t, "spends")
					a.changes = rapid.IntRange(0, 4).Draw(t, "changes") == 0
					a.before = rapid.Bool().Draw(t, "before")
				}
				return a
			}), 1, 6).Draw(t, "attempts")
			for _, a := range steps {
				h.attempts(t, a)
			}
		})
	})
}

// padSigns signs with a key that wants the passcode for each signature: the pad asks
// for each, and nothing is kept.
func (h *holder) padSigns(t *testing.T) {
	h.fresh(t)
	s, err := h.token.Open(t.Context())
	require.NoError(t, err)
	defer s.Close()
	list := objects(t, s)
	pair, err := card.SigningPair(list)
	require.NoError(t, err)
	d := &deck{signing: pair.Certificate.X509()}
	asked := h.pad.padded()
	h.pad.pad(h.pin, 0)
	require.NoError(t, s.Login(t.Context(), nil))
	require.Equal(t, asked+1, h.pad.padded())
	require.NoError(t, signsWith(t.Context(), s, d))
	assert.Equal(t, asked+2, h.pad.padded(), "the signature's own login")
	h.pad.pad(wrongPIN, 0)
	again, err := h.token.Open(t.Context())
	require.NoError(t, err)
	defer again.Close()
	err = again.Login(t.Context(), nil) // the process is logged in
	if err == nil {
		err = signsWith(t.Context(), again, d)
	}
	assert.True(t, card.IsKind(err, card.PINIncorrect), "%v", err)
	assert.NotContains(t, err.Error(), wrongPIN)
}
