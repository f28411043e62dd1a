package renewal

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/testcard"
)

// TestARoundOfRandomCards goes a round with cards of all sorts, spread over readers
// and a pile in any order, broken off once in some way or not at all, and says
// beforehand what becomes of each.
func TestARoundOfRandomCards(t *testing.T) {
	t.Parallel()
	need.Cases(t, 400)
	seen := map[string]int{}
	rapid.Check(t, func(r *rapid.T) {
		c := newCounter(rapidTB{t, r})
		defer func() {
			for _, s := range c.seats {
				_ = s.Renewer.c.Card.Close()
			}
		}()
		want := map[string]Outcome{"first": Completed}
		c.affected("first")
		order := []string{}
		for i := range rapid.IntRange(0, 3).Draw(r, "cards") {
			serial := fmt.Sprintf("card%d", i)
			sort := rapid.SampledFrom([]string{"affected", "affected", "good", "another's", "locked", "full"}).Draw(r, serial)
			seen[sort]++
			order = append(order, serial)
			switch sort {
			case "affected":
				c.affected(serial)
				want[serial] = Completed
			case "good":
				c.good(serial)
				want[serial] = NotNeeded
			case "another's":
				c.others(serial)
				want[serial] = WrongCard
			case "locked":
				c.affected(serial)
				c.cards[serial].Insert()
				lock(c.t, c.cards[serial])
				c.cards[serial].Remove()
				want[serial] = Resumable
			case "full":
				c.make(serial, issued, func(cfg *testcard.Config, _ *testcard.Prescriber) { cfg.Containers = 2 })
				want[serial] = NotOffered
			}
		}
		order = append([]string{"first"}, rapid.Permutation(order).Draw(r, "order")...)
		readers := rapid.IntRange(1, len(order)).Draw(r, "readers")
		c.readers(order[:readers]...)
		c.asks, c.pile = true, slices.Clone(order[readers:])
		if rapid.Bool().Draw(r, "some twice") {
			c.pile = append(c.pile, order[:rapid.IntRange(0, len(order)).Draw(r, "twice")]...)
		}

		fired := ""
		how := rapid.SampledFrom([]string{"nothing", "killed", "pulled", "cancelled"}).Draw(r, "what happens")
		at, n := rapid.IntRange(1, 40).Draw(r, "when"), 0
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		switch how {
		case "killed":
			for _, s := range c.seats {
				s.Renewer.crash = func(string) error {
					if n++; n >= at {
						fired = how
						return errCrash
					}
					return nil
				}
			}
		case "cancelled":
			c.on = func(RoundEvent) bool {
				if n++; n == at {
					fired = how
					cancel()
				}
				return false
			}
		case "pulled":
			c.on = func(e RoundEvent) bool {
				if n++; n == at && e.Progress != nil {
					fired = how
					c.take(c.slot(e.Reader))
				}
				return false
			}
		}
		res, err := c.round().Run(ctx)
		c.on = nil
		if how == "nothing" {
			require.Equal(c.t, slices.ContainsFunc(order, func(s string) bool { return want[s] == Resumable || want[s] == NotOffered }), err != nil, "%v", err)
			require.Equal(c.t, order, serials(res))
		}
		// Whatever happened once, it left one card on hold at most.
		held := 0
		for s := range c.cards {
			if h, err := c.dir.Hold(c.id(s)); err != nil || h != nil {
				held++
			}
		}
		require.LessOrEqual(c.t, held, 1, how)
		seen[fired]++

		if how != "nothing" {
			c.restart()
			c.put(0, "first")
			c.pile = slices.DeleteFunc(slices.Clone(order), func(s string) bool { return slices.ContainsFunc(c.in, func(in string) bool { return in == s }) })
			was := func(s string) Outcome { // in the first of the two
				if i := slices.IndexFunc(res.Cards, func(x CardResult) bool { return x.Serial == s }); i >= 0 {
					return res.Cards[i].Outcome
				}
				return ""
			}
			var before []string
			for _, s := range order {
				if was(s) == Completed {
					before = append(before, s)
				}
			}
			res, _ = c.round().Run(context.Background())
			for _, s := range before {
				want[s] = NotNeeded
			}
			require.ElementsMatch(c.t, order, serials(res))
		}
		require.Empty(c.t, res.Stopped)
		for _, x := range res.Cards {
			// A run may be killed between the end of a hold and the line that says so.
			if x.Outcome != NotNeeded || want[x.Serial] != Completed || how != "killed" {
				require.Equal(c.t, want[x.Serial], x.Outcome, "%s, card %s: %s", how, x.Serial, x.Text)
			}
			require.NotEmpty(c.t, x.Text)
			require.Equal(c.t, x.settled(), len(x.Remedies) == 0)
			switch want[x.Serial] {
			case WrongCard:
				c.untouched(x.Serial)
			case Resumable, NotOffered:
				c.unchanged(x.Serial)
			case Completed:
				c.renewed(x.Serial)
			case NotNeeded:
				if len(c.ops(x.Serial, testcard.OpGenerate)) > 0 {
					c.renewed(x.Serial)
				} else {
					c.untouched(x.Serial)
				}
			}
		}
	})
	t.Log(seen)
	for _, sort := range []string{"affected", "good", "another's", "locked", "full", "", "killed", "pulled", "cancelled"} {
		assert.NotZero(t, seen[sort], sort)
	}
}
