package p11

import (
	"testing"

	"github.com/rxguard/rxguard/internal/testcard"
	rig "github.com/rxguard/rxguard/internal/testcard/modules"
)

// What follows is for the tests in package p11_test: those of packages that import
// this one.

// Alone is alone.
func Alone(t testing.TB, subtests []string) func(*testing.T) bool {
	t.Helper()
	return alone(t, subtests)
}

// InReader is a card in a virtual reader, as a module shows it.
type InReader struct {
	*Token
	Card   *testcard.Card
	module *world
	d      *deck
}

// NewInReader puts a card into a virtual reader of a process of its own, see Alone.
func NewInReader(t *testing.T, module string) InReader {
	t.Helper()
	path := map[string]func(testing.TB) string{"opensc": rig.OpenSC, "ykcs11": rig.YKCS11}[module]
	w := pulledWorld(t, path, cannot{})
	d := w.card(t, 0)
	return InReader{Token: d.Token.(*Token), Card: d.c, module: w, d: d}
}

// Reaches waits until the module sees the card in the reader, or out of it.
func (r InReader) Reaches(t *testing.T, present bool) { t.Helper(); r.d.reaches(t, present) }

// PullAt has the card pulled when an operation reaches it.
func (r InReader) PullAt(op testcard.Op, p testcard.Phase) { r.d.pullAt(op, p) }

// SoftToken is SoftHSM's nth token, which holds a person's pairs.
func SoftToken(t *testing.T, n int) *Token {
	t.Helper()
	s := softHSM(t)
	tok, err := load(t, s.tokens[n].Module, "").Token(t.Context(), s.decks[n].sel, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tok.Close() })
	return tok
}
