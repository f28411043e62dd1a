package state

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// named is aHold with names by certificates too.
func named(certificates ...string) Hold {
	h := aHold()
	h.Certificates = certificates
	return h
}

// kept lists the names under which holds are kept.
func kept(t *testing.T, d Dir) []string {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(d.Path(), "holds"))
	require.NoError(t, err)
	names := []string{}
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".json"))
	}
	return names
}

func TestAHoldIsFoundByEachOfItsNames(t *testing.T) {
	d := At(t.TempDir())
	require.NoError(t, d.SetHold(named("c1", "c2")))
	for _, names := range [][]string{{"card"}, {"c1"}, {"other", "c2"}, {"other", "c3", "c1"}, {"c1", "c2", "card"}} {
		h, err := d.Hold(names...)
		require.NoError(t, err)
		require.NotNil(t, h, "%v", names)
		assert.Equal(t, []string{"c1", "c2"}, h.Certificates)
		assert.Equal(t, "card", h.Card)
	}
	for _, names := range [][]string{nil, {"other"}, {"other", "c3"}} {
		h, err := d.Hold(names...)
		require.NoError(t, err)
		assert.Nil(t, h, "%v", names)
	}
}

// What an earlier version wrote, without certificates, binds by its one name.
func TestAHoldWithoutCertificatesIsHonoured(t *testing.T) {
	d := At(t.TempDir())
	require.NoError(t, d.SetHold(aHold()))
	assert.Equal(t, []string{"card"}, kept(t, d))
	h, err := d.Hold("card", "c1")
	require.NoError(t, err)
	assert.NotNil(t, h)
	require.NoError(t, d.ReleaseHold("renewal", "card", "c1"))
	assert.Empty(t, kept(t, d))
}

// A certificate that is known later is added, and none is lost.
func TestAHoldKeepsTheNamesOfTheOneBefore(t *testing.T) {
	d := At(t.TempDir())
	require.NoError(t, d.SetHold(named("c1")))
	next := named("c2")
	next.ID, next.Phase, next.Expect = "another", Renewing, ""
	require.NoError(t, d.SetHold(next))
	assert.Equal(t, []string{"c2"}, next.Certificates, "the caller's is not changed")
	for _, n := range []string{"card", "c1", "c2"} {
		h, err := d.Hold(n)
		require.NoError(t, err)
		require.NotNil(t, h)
		assert.Equal(t, "another", h.ID)
	}
	require.NoError(t, d.ReleaseHold("another", "c1"))
	assert.Empty(t, kept(t, d), "it ends under all names, whichever it was found by")
}

// A crash in the middle of a change leaves the card on hold: in phase renewing where
// one of its names says so.
func TestAHoldThatWasHalfChangedIsTheStricter(t *testing.T) {
	d := At(t.TempDir())
	h := named("c1")
	h.Phase, h.Expect = Renewing, ""
	require.NoError(t, d.SetHold(h))
	late := t.TempDir()
	require.NoError(t, At(late).SetHold(named("c1")))
	b, err := os.ReadFile(At(late).holdFile("card"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(d.holdFile("card"), b, 0o600))
	for _, names := range [][]string{{"card", "c1"}, {"c1", "card"}} {
		h, err := d.Hold(names...)
		require.NoError(t, err)
		assert.Equal(t, Renewing, h.Phase)
	}
	// Half ended: what is left ends it once more.
	require.NoError(t, os.Remove(d.holdFile("card")))
	left, err := d.Hold("card", "c1")
	require.NoError(t, err)
	require.NotNil(t, left)
	require.NoError(t, d.ReleaseHold("renewal", "card", "c1"))
	assert.Empty(t, kept(t, d))
}

// Which card a damaged file is of, only its name tells.
func TestADamagedHoldIsOfTheCardThatGoesByItsName(t *testing.T) {
	d := At(t.TempDir())
	require.NoError(t, d.SetHold(named("c1")))
	require.NoError(t, os.WriteFile(d.holdFile("c1"), []byte("?"), 0o600))
	for _, names := range [][]string{{"card", "c1"}, {"c1"}, {"other", "c1"}} {
		_, err := d.Hold(names...)
		assert.ErrorContains(t, err, "is damaged", "%v", names)
	}
	h, err := d.Hold("card")
	require.NoError(t, err)
	assert.NotNil(t, h)
	h, err = d.Hold("other", "c2")
	require.NoError(t, err)
	assert.Nil(t, h)
	require.NoError(t, d.SetHold(named("c1")), "it is written anew")
	_, err = d.Hold("card", "c1")
	require.NoError(t, err)
}

// Only what is still the hold that ends is removed.
func TestTheEndOfAHoldLeavesAnother(t *testing.T) {
	d := At(t.TempDir())
	require.NoError(t, d.SetHold(named("c1")))
	other := named("c1")
	other.Card, other.ID = "second", "another" // by the same certificate
	require.NoError(t, d.SetHold(other))
	require.NoError(t, d.ReleaseHold("renewal", "card"))
	assert.Equal(t, []string{"c1", "second"}, kept(t, d))
}

func TestNamesAreNoPaths(t *testing.T) {
	d := At(filepath.Join(t.TempDir(), "state"))
	for _, n := range []string{"", "../card", "a/b", `a\b`, "A", "a.b", strings.Repeat("a", 129)} {
		assert.ErrorContains(t, d.SetHold(named(n)), "it names the card", "%q", n)
	}
	assert.ErrorContains(t, d.SetHold(named("c1", "c1")), "twice")
	assert.ErrorContains(t, d.SetHold(named("card")), "twice")
	assert.False(t, d.Exists())
	var many []string
	for i := range 2000 {
		many = append(many, fmt.Sprintf("%064d", i))
	}
	assert.ErrorContains(t, d.SetHold(named(many...)), "longer than")
}

// The exclusive locks of a card keep out who has one of them, and none is kept when
// they are not all had.
func TestAllLocksOfACardOrNone(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	d := At(t.TempDir())
	unlock, err := d.LockAll(t.Context(), "c2", "card", "c1", "c2")
	require.NoError(t, err)
	for _, n := range []string{"card", "c1", "c2"} {
		_, err := d.Lock(ended, n, false)
		assert.ErrorIs(t, err, context.Canceled, n)
	}
	unlock()
	shared, err := d.Lock(t.Context(), "c2", false)
	require.NoError(t, err)
	_, err = d.LockAll(ended, "c1", "c2", "card")
	require.ErrorIs(t, err, context.Canceled)
	for _, n := range []string{"card", "c1"} {
		free, err := d.Lock(ended, n, true)
		require.NoError(t, err, n)
		free()
	}
	shared()
}

func TestOneRenewalOfACardThroughWhateverModule(t *testing.T) {
	d := At(t.TempDir())
	unlock, err := d.TryRenewal(t.Context(), "card", "c1")
	require.NoError(t, err)
	_, err = d.TryRenewal(t.Context(), "other", "c1")
	require.ErrorIs(t, err, ErrBusy)
	free, err := d.TryRenewal(t.Context(), "other", "c2")
	require.NoError(t, err, "nothing was kept of the attempt")
	free()
	unlock()
	free, err = d.TryRenewal(t.Context(), "other", "c1")
	require.NoError(t, err)
	free()
}

// BenchmarkHold is what a signature pays to learn that no hold is on its card.
func BenchmarkHold(b *testing.B) {
	id, sum := strings.Repeat("a", 32), strings.Repeat("b", 64)
	for _, holds := range []int{0, 10} {
		d := At(b.TempDir())
		require.NoError(b, os.MkdirAll(filepath.Join(d.Path(), "holds"), 0o700))
		for i := range holds {
			h := named(fmt.Sprint("c", i))
			h.Card = fmt.Sprint("card", i)
			require.NoError(b, d.SetHold(h))
		}
		for name, names := range map[string][]string{"by id": {id}, "by id and certificate": {id, sum}} {
			b.Run(fmt.Sprintf("%s, %d others", name, holds), func(b *testing.B) {
				for b.Loop() {
					if h, err := d.Hold(names...); h != nil || err != nil {
						b.Fatal(h, err)
					}
				}
			})
		}
	}
}
