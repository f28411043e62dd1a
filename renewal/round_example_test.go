package renewal_test

import (
	"context"
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

// A prescriber has three cards and two readers: two of the cards are covered by the
// notice of autumn 2020. The one that was authenticated with is in the left reader,
// where the last one is put in when the others are done.
func ExampleRound() {
	err := func() error {
		ctx := context.Background()
		clock := func() time.Time { return time.Date(2020, 9, 30, 9, 0, 0, 0, time.UTC) }
		const user = "555000000001"
		affected := time.Date(2020, 9, 29, 12, 0, 0, 0, time.UTC)
		first, err := signingtest.New(signingtest.Config{UserID: user, Issued: affected, Now: clock})
		if err != nil {
			return err
		}
		defer first.Close()
		second, err := signingtest.New(signingtest.Config{UserID: user, Issued: affected.AddDate(-1, 0, 0), Now: clock, Authority: first})
		if err != nil {
			return err
		}
		defer second.Close()
		third, err := signingtest.New(signingtest.Config{UserID: user, Issued: affected, Now: clock, Authority: first})
		if err != nil {
			return err
		}
		defer third.Close()

		server, err := first.StartEnrolment()
		if err != nil {
			return err
		}
		enroller, err := est.New(est.Config{URL: server.URL, Label: server.Label, Roots: server.Roots, Anchors: server.Roots})
		if err != nil {
			return err
		}
		g, err := guard.New(guard.Config{})
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

		// With a module, ReaderName of signing.Config names the reader; the names are those
		// of signing.Cards.
		var cards []*signing.Card
		defer func() {
			for _, c := range cards {
				_ = c.Close()
			}
		}()
		seat := func(name string, reader *signing.Reader) (renewal.Seat, error) {
			card, err := signing.Open(ctx, signing.Config{Reader: reader, PIN: first.PIN})
			if err != nil {
				return renewal.Seat{}, err
			}
			cards = append(cards, card)
			r, err := renewal.New(renewal.Config{Card: card, Guard: g, Recorder: record, Enroller: enroller, AsOf: clock})
			if err != nil {
				return renewal.Seat{}, err
			}
			signer, err := signing.NewAsOf(card, g, record, clock)
			return renewal.Seat{Reader: name, Renewer: r, Signer: signer}, err
		}
		left, err := seat("the left reader", first.Reader())
		if err != nil {
			return err
		}
		right, err := seat("the right reader", second.Reader())
		if err != nil {
			return err
		}

		inLeft, pile := first, []*signingtest.Kit{third}
		round := renewal.Round{
			Seats:  []renewal.Seat{left, right},
			UserID: user,
			Show: func(e renewal.RoundEvent) {
				switch e.Outcome {
				case "": // the card's progress
				case renewal.ReseatCard:
					fmt.Printf("%d of %d, %s: %s\n", e.Number, e.Of, e.Reader, e.Text)
					inLeft.Remove() // which the person does
					inLeft.Insert()
				default:
					fmt.Printf("%s: %s\n", e.Reader, e.Outcome)
				}
			},
			NextCard: func(ctx context.Context, sofar renewal.RoundResult) error {
				fmt.Printf("%d cards were seen to. Put in the next one, or say that was all.\n", len(sofar.Cards))
				if len(pile) == 0 {
					return nil
				}
				inLeft, pile = pile[0], pile[1:]
				first.Put(inLeft)
				<-ctx.Done() // the card was noticed
				return nil
			},
		}
		res, err := round.Run(ctx)
		if err != nil {
			return err
		}
		for _, c := range res.Cards {
			fmt.Println(c.Text) // all of it: fmt.Print(res)
		}
		return nil
	}()
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// the left reader: ready
	// 1 of 1, the left reader: The card was renewed. Take it out, put it back in and enter your passcode.
	// the left reader: completed
	// the right reader: not_needed
	// 2 cards were seen to. Put in the next one, or say that was all.
	// the left reader: ready
	// 2 of 2, the left reader: The card was renewed. Take it out, put it back in and enter your passcode.
	// the left reader: completed
	// 3 cards were seen to. Put in the next one, or say that was all.
	// The card was renewed and put back in. It can sign again.
	// Nothing asks for the renewal of this card. It was left alone.
	// The card was renewed and put back in. It can sign again.
}
