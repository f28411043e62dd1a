package card

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files")

// Every kind tells a person what happened and what to do next; the listing is read
// and approved as a whole.
func TestEveryKindHasItsText(t *testing.T) {
	var b strings.Builder
	names := make(map[string]Kind)
	for k := range kinds {
		e := Errorf(k, "", "")
		assert.Regexp(t, regexp.MustCompile(`^[a-z_]+$`), k.String(), "kind %d", int(k))
		assert.NotContains(t, names, k.String(), "a name of its own")
		names[k.String()] = k
		for _, text := range []string{e.What(), e.Advice()} {
			assert.Regexp(t, regexp.MustCompile(`^[a-z].*[^.]$`), text, "lower case, no full stop")
			assert.NotRegexp(t, regexp.MustCompile(`(?i)\b(pin|token|pkcs|ckr|slot|session)\b`), text, "plain words")
		}
		fmt.Fprintf(&b, "%s\n    %s\n    %s\n", k, e.What(), e.Advice())
	}
	const golden = "testdata/kinds.golden"
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Equal(t, string(want), b.String(), "read the change, then: go test ./internal/card -update")
}

func TestAnUnknownKindIsOther(t *testing.T) {
	for _, k := range []Kind{-1, kinds} {
		e := &Error{Kind: k}
		assert.Equal(t, fmt.Sprintf("kind %d", int(k)), k.String())
		assert.Equal(t, Errorf(Other, "", "").What(), e.What())
		assert.Equal(t, Errorf(Other, "", "").Advice(), e.Advice())
	}
}

func TestAnErrorTellsAllItKnows(t *testing.T) {
	cause := errors.New("the cause")
	for _, c := range []struct {
		e    *Error
		says string
	}{
		{Errorf(Absent, "open", "%s", "card one"), "card: open: no card is in the reader: card one"},
		{Errorf(Absent, "", ""), "card: no card is in the reader"},
		{&Error{Kind: Fault, Op: "sign", Code: 0x30, Err: cause}, "card: sign: the card or the reader stopped in the middle of the work (CKR 0x00000030): the cause"},
		{&Error{Kind: PINIncorrect, Op: "login", TriesLeft: 2}, "card: login: wrong passcode, 2 tries left before the card locks"},
		{&Error{Kind: PINIncorrect, Op: "login", TriesLeft: 1}, "card: login: wrong passcode, one try left before the card locks"},
		{&Error{Kind: PINIncorrect, Op: "login"}, "card: login: wrong passcode, no tries left: the card is now locked"},
		{Errorf(PINIncorrect, "login", ""), "card: login: wrong passcode"},
	} {
		assert.EqualError(t, c.e, c.says)
	}
	locked := &Error{Kind: PINIncorrect}
	assert.Equal(t, Errorf(PINLocked, "", "").Advice(), locked.Advice(), "the wrong try that locked the card")
	wrapped := fmt.Errorf("signing: %w", &Error{Kind: Fault, Err: cause})
	assert.ErrorIs(t, wrapped, cause)
	assert.True(t, IsKind(wrapped, Fault))
	assert.False(t, IsKind(wrapped, Other))
	assert.False(t, IsKind(cause, Other))
	assert.False(t, IsKind(nil, Other))
}

// inReader is a token of which the presence alone is asked.
type inReader struct {
	Token
	p Presence
}

func (t inReader) Presence() Presence { return t.p }

func TestPulledLooksAtTheReader(t *testing.T) {
	fault := &Error{Kind: Fault, Op: "sign", Code: 0x30, TriesLeft: -1, Detail: "card one", Err: io.ErrUnexpectedEOF}
	for name, c := range map[string]struct {
		p    Presence
		err  error
		want Kind
	}{
		"still there":              {Presence{Present: true, Insertion: 3}, fault, Fault},
		"out":                      {Presence{Present: false, Insertion: 3}, fault, Absent},
		"put back since":           {Presence{Present: true, Insertion: 4}, fault, Removed},
		"another error, card out":  {Presence{Present: false, Insertion: 3}, Errorf(PINIncorrect, "login", ""), PINIncorrect},
		"wrapped, card out":        {Presence{Present: false, Insertion: 3}, fmt.Errorf("handshake: %w", fault), Absent},
		"an error of unknown kind": {Presence{Present: false, Insertion: 3}, Errorf(Other, "sign", ""), Absent},
	} {
		err := Pulled(inReader{p: c.p}, 3, c.err)
		assert.True(t, IsKind(err, c.want), "%s: %v", name, err)
	}
	var e *Error
	require.ErrorAs(t, Pulled(inReader{p: Presence{Present: false, Insertion: 3}}, 3, fault), &e)
	assert.Equal(t, uint(0x30), e.Code, "the raw code is kept")
	assert.ErrorIs(t, e, io.ErrUnexpectedEOF)
	assert.NoError(t, Pulled(inReader{}, 3, nil))
	assert.Equal(t, io.EOF, Pulled(inReader{}, 3, io.EOF))
}
