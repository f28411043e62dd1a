package renewal_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/renewal"
	"github.com/rxguard/rxguard/renewal/est"
	"github.com/rxguard/rxguard/signing"
	"github.com/rxguard/rxguard/signing/signingtest"
)

// A card that the notice of autumn 2020 covers is renewed, taken out and put back.
// It is a simulated one, so that it can be renewed as of a day in 2020.
func Example() {
	err := func() error {
		ctx := context.Background()
		clock := func() time.Time { return time.Date(2020, 9, 30, 9, 0, 0, 0, time.UTC) }
		kit, err := signingtest.New(signingtest.Config{Issued: time.Date(2020, 9, 29, 12, 0, 0, 0, time.UTC), Now: clock})
		if err != nil {
			return err
		}
		defer kit.Close()
		server, err := kit.StartEnrolment()
		if err != nil {
			return err
		}
		folder, err := os.MkdirTemp("", "rxguard-example-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(folder)
		record, err := signing.OpenRecord(filepath.Join(folder, "record.jsonl"))
		if err != nil {
			return err
		}
		defer record.Close()
		g, err := guard.New(guard.Config{})
		if err != nil {
			return err
		}
		card, err := signing.Open(ctx, signing.Config{Reader: kit.Reader(), PIN: kit.PIN})
		if err != nil {
			return err
		}
		defer card.Close()

		enroller, err := est.New(est.Config{URL: server.URL, Label: server.Label, Roots: server.Roots, Anchors: server.Roots})
		if err != nil {
			return err
		}
		r, err := renewal.New(renewal.Config{Card: card, Guard: g, Recorder: record, Enroller: enroller, AsOf: clock})
		if err != nil {
			return err
		}
		plan, err := r.Plan(ctx) // shown first; changes nothing
		if err != nil {
			return err
		}
		fmt.Println(plan.Outcome)

		res, err := r.Renew(ctx, func(p renewal.Progress) {
			if p.Share == 1 {
				fmt.Printf("step %d of %d: %s\n", p.Index, p.Of, p.Text)
			}
		})
		if err != nil {
			return err
		}
		fmt.Println(res.Text)

		signer, err := signing.NewAsOf(card, g, record, clock)
		if err != nil {
			return err
		}
		go takeOutAndPutBack(card, kit)
		res, err = r.Finish(ctx, signer) // waits for the person
		if err != nil {
			return err
		}
		fmt.Println(res.Text)
		return nil
	}()
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// ready
	// step 11 of 11: Getting ready for the card to be taken out
	// The card was renewed. Take it out, put it back in and enter your passcode.
	// The card was renewed and put back in. It can sign again.
}

// takeOutAndPutBack is the person.
func takeOutAndPutBack(card *signing.Card, kit *signingtest.Kit) {
	kit.Remove()
	for {
		changed := card.Changed()
		if s, err := card.Snapshot(context.Background()); err != nil || errors.Is(s.Err, guard.ErrNoCard) {
			break
		}
		<-changed
	}
	kit.Insert()
}
