package card

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAPresenceComesBeforeWhatFollowsIt(t *testing.T) {
	order := []Presence{{Insertion: 0}, {Present: true, Insertion: 1}, {Insertion: 1}, {Present: true, Insertion: 2}, {Insertion: 2}, {Present: true, Insertion: 3}}
	for i, a := range order {
		for j, b := range order {
			assert.Equal(t, i < j, a.Before(b), "%v %v", a, b)
		}
	}
}

// The name of a card is in file names and must not change between versions; the
// digests are of sha256sum.
func TestTheNameOfACard(t *testing.T) {
	// printf 'rxguard\0simulated card\0c0ffee\0' | sha256sum
	assert.Equal(t, "459482ac8aadb22e00bf98ec577b7f0f", Info{Manufacturer: "rxguard", Model: "simulated card", Serial: "c0ffee"}.ID())
	a := Info{Manufacturer: "ab", Model: "c", Serial: "1"}
	for _, b := range []Info{{Manufacturer: "a", Model: "bc", Serial: "1"}, {Manufacturer: "ab", Model: "c", Serial: "2"}, {}} {
		assert.NotEqual(t, a.ID(), b.ID())
	}
	b := a
	b.Label, b.FinalTry, b.Room = "label", true, 3
	assert.Equal(t, a.ID(), b.ID(), "a label can be changed")
}
