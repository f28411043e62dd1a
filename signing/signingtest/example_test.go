package signingtest_test

import (
	"context"
	"fmt"
	"log"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/signing"
	"github.com/rxguard/rxguard/signing/signingtest"
)

func Example() {
	ctx := context.Background()
	kit, err := signingtest.New(signingtest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer kit.Close()
	card, err := signing.Open(ctx, signing.Config{Reader: kit.Reader(), PIN: kit.PIN})
	if err != nil {
		log.Fatal(err)
	}
	defer card.Close()

	v, _ := guard.Check(ctx, card)
	fmt.Println(v.Decision)

	live, err := guard.New(guard.Config{Live: true})
	if err != nil {
		log.Fatal(err)
	}
	v, _ = live.Check(ctx, card)
	fmt.Println(v.Decision, v.Findings[0].Reason)

	changed := card.Changed()
	kit.Remove()
	<-changed // the reader has told
	v, _ = guard.Check(ctx, card)
	fmt.Println(v.Decision, v.Findings[0].Reason)
	// Output:
	// allowed
	// refused simulated_card
	// undecided card_absent
}

// A hook makes the card fail at a chosen moment.
func ExampleKit_Hook() {
	kit, err := signingtest.New(signingtest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer kit.Close()
	kit.Hook(func(op string, after bool) error {
		if op == "info" && !after {
			kit.Remove() // pulled while it is read
		}
		return nil
	})
	ctx := context.Background()
	card, err := signing.Open(ctx, signing.Config{Reader: kit.Reader(), PIN: kit.PIN})
	if err != nil {
		log.Fatal(err)
	}
	defer card.Close()
	v, _ := guard.Check(ctx, card)
	fmt.Println(v.Decision)
	// Output: undecided
}
