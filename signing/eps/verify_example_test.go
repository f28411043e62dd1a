package eps_test

import (
	"fmt"
	"time"

	"github.com/rxguard/rxguard/signing/eps"
	"github.com/rxguard/rxguard/signing/signingtest"
)

func ExampleVerifier() {
	// A message that was not signed; here a synthetic one.
	message := signingtest.Message(signingtest.MessageConfig{At: time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC)})

	// The CAs that the service is configured with, those above them, and their lists.
	// Without them, what needs them is not decidable.
	v := &eps.Verifier{}
	err := v.VerifyMessage(message, eps.ReadOptions{}, func(r eps.Report) error {
		fmt.Println(r.ShortID, "national service:", r.National.Accept, "rxguard:", r.Rxguard.Accept)
		for _, c := range r.National.Checks {
			if c.Result == eps.Failed {
				fmt.Printf("check %d: %s\n", c.Number, c.Text)
			}
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// 000000-Z99999-5EED0X national service: failed rxguard: failed
	// check 1: Invalid signature format
}
