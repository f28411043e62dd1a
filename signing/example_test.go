package signing_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log"
	"path/filepath"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/signing"
	"github.com/rxguard/rxguard/signing/eps"
	"github.com/rxguard/rxguard/signing/signingtest"
)

// answer stands in for what the service's $prepare operation answers.
func answer(at time.Time) []byte {
	digest := sha256.Sum256([]byte("the prescription's canonical fragments"))
	signedInfo, err := eps.SignedInfo(eps.RS256, digest[:])
	if err != nil {
		log.Fatal(err)
	}
	return fmt.Appendf(nil, `{"resourceType": "Parameters", "parameter": [
	  {"name": "digest", "valueString": %q},
	  {"name": "timestamp", "valueString": %q},
	  {"name": "algorithm", "valueString": "RS256"}]}`,
		base64.StdEncoding.EncodeToString(signedInfo), at.Format(time.RFC3339))
}

// A prescription is signed with a card that the guard allows.
func Example() {
	ctx := context.Background()
	kit, err := signingtest.New(signingtest.Config{}) // a simulated card in its reader
	if err != nil {
		log.Fatal(err)
	}
	defer kit.Close()

	g, err := guard.New(guard.Config{})
	if err != nil {
		log.Fatal(err)
	}
	record, err := signing.OpenRecord(filepath.Join(kit.Dir(), "decisions.jsonl"))
	if err != nil {
		log.Fatal(err)
	}
	defer record.Close()
	card, err := signing.Open(ctx, signing.Config{Reader: kit.Reader(), PIN: kit.PIN})
	if err != nil {
		log.Fatal(err)
	}
	defer card.Close()
	signer, err := signing.New(card, g, record)
	if err != nil {
		log.Fatal(err)
	}

	v, _ := g.Check(ctx, card) // for the screen; the signer asks the guard itself
	fmt.Println("the guard says:", v.Decision)

	prepared, err := eps.ParsePrepared(answer(time.Now()))
	if err != nil {
		log.Fatal(err)
	}
	signed, err := signing.Sign(ctx, signer, prepared)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("signature of", len(signed.SignatureValue()), "bytes")
	// Output:
	// the guard says: allowed
	// signature of 256 bytes
}

// A message with several prescriptions is signed under one passcode entry, and keeps
// every byte outside the signatures.
func ExampleSignEach() {
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
	g, err := guard.New(guard.Config{})
	if err != nil {
		log.Fatal(err)
	}
	record, err := signing.OpenRecord(filepath.Join(kit.Dir(), "decisions.jsonl"))
	if err != nil {
		log.Fatal(err)
	}
	defer record.Close()
	signer, err := signing.New(card, g, record)
	if err != nil {
		log.Fatal(err)
	}

	message, err := eps.ParseMessage(signingtest.Message(signingtest.MessageConfig{Prescriptions: 3}), eps.ReadOptions{})
	if err != nil {
		log.Fatal(err)
	}
	outcomes, err := signing.SignEach(ctx, signer, message.Prescriptions(), nil)
	if err != nil {
		log.Fatal(err) // a *signing.BatchError: some may be signed
	}
	var signatures []*eps.SignedPrescription
	for _, o := range outcomes {
		signatures = append(signatures, o.Signed)
	}
	signed, err := message.Fill(signatures...)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(bytes.Count(signed, []byte("<SignatureValue>")))
	// Output: 3
}

// A refusal carries the verdict, with what the person should do; the record keeps
// it.
func ExampleSign_refused() {
	ctx := context.Background()
	issued := time.Date(2020, time.September, 29, 12, 0, 0, 0, time.UTC)
	kit, err := signingtest.New(signingtest.Config{Issued: issued})
	if err != nil {
		log.Fatal(err)
	}
	defer kit.Close()
	g, err := guard.New(guard.Config{})
	if err != nil {
		log.Fatal(err)
	}
	path := filepath.Join(kit.Dir(), "decisions.jsonl")
	record, err := signing.OpenRecord(path)
	if err != nil {
		log.Fatal(err)
	}
	defer record.Close()
	card, err := signing.Open(ctx, signing.Config{Reader: kit.Reader(), PIN: kit.PIN})
	if err != nil {
		log.Fatal(err)
	}
	defer card.Close()

	// As on the morning of 30 September 2020, which a simulated card allows.
	at := time.Date(2020, time.September, 30, 9, 0, 0, 0, time.UTC)
	signer, err := signing.NewAsOf(card, g, record, func() time.Time { return at })
	if err != nil {
		log.Fatal(err)
	}
	prepared, err := eps.ParsePrepared(answer(at))
	if err != nil {
		log.Fatal(err)
	}
	_, err = signing.Sign(ctx, signer, prepared)
	var refused *guard.Refused
	if errors.As(err, &refused) {
		fmt.Println("refused because:", refused.Verdict.Findings[0].Reason)
		fmt.Println("renewal helps:", refused.RenewalHelps())
	}
	fmt.Println("signatures by the card's key:", kit.SigningKeyUses())
	_, err = signing.VerifyRecord(path, func(e signing.Entry) error {
		fmt.Println("in the record:", e.Event, e.Verdict, e.Reasons)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// refused because: affected
	// renewal helps: true
	// signatures by the card's key: 0
	// in the record: refused refused [affected]
}

// A card error says what happened and what to do, in words for the person.
func ExampleCardError() {
	ctx := context.Background()
	kit, err := signingtest.New(signingtest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer kit.Close()
	g, err := guard.New(guard.Config{})
	if err != nil {
		log.Fatal(err)
	}
	record, err := signing.OpenRecord(filepath.Join(kit.Dir(), "decisions.jsonl"))
	if err != nil {
		log.Fatal(err)
	}
	defer record.Close()
	card, err := signing.Open(ctx, signing.Config{
		Reader: kit.Reader(),
		PIN: func(context.Context, signing.PINRequest) ([]byte, error) {
			return []byte("000000"), nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer card.Close()
	signer, err := signing.New(card, g, record)
	if err != nil {
		log.Fatal(err)
	}
	prepared, err := eps.ParsePrepared(answer(time.Now()))
	if err != nil {
		log.Fatal(err)
	}
	_, err = signing.Sign(ctx, signer, prepared)
	var ce *signing.CardError
	if errors.As(err, &ce) && ce.Kind == signing.PINIncorrect {
		fmt.Println(ce.What())
		fmt.Println(ce.Advice())
	}
	// Output:
	// wrong passcode, 2 tries left before the card locks
	// check your passcode and try again
}

// The cards in the readers are shown without a passcode.
func ExampleCards() {
	ctx := context.Background()
	kit, err := signingtest.New(signingtest.Config{}) // a simulated card in its reader
	if err != nil {
		log.Fatal(err)
	}
	defer kit.Close()

	// Of real cards: signing.CardsConfig{Module: path, Guard: g}
	cards, err := signing.Cards(ctx, signing.CardsConfig{Readers: []*signing.Reader{kit.Reader()}})
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range cards {
		if !c.Present {
			continue
		}
		fmt.Printf("%s: %s: %s\n", c.Reader, c.Label, c.Verdict.Decision)
		for _, x := range c.Certificates {
			fmt.Printf("  %s: %s: %s\n", x.Label, x.Role, x.Why)
		}
	}
	// Output:
	// simulated reader 1: simulated card: allowed
	//   Authentication: authentication: for authentication by its key usage; its private key is on the card
	//   Digital signature: signing: for signing by its key usage; its private key is on the card
}

// A user interface is told which cards are put in and taken out.
func ExampleWatchCards() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	kit, err := signingtest.New(signingtest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer kit.Close()
	err = signing.WatchCards(ctx, signing.CardsConfig{Readers: []*signing.Reader{kit.Reader()}}, func(e signing.CardEvent) {
		fmt.Println(e.Reader, e.Change, e.Label)
		switch e.Change {
		case signing.CardIn:
			kit.Remove() // as a person does
		case signing.CardOut:
			cancel() // the window is closed
		}
	})
	fmt.Println(errors.Is(err, context.Canceled))
	// Output:
	// simulated reader 1 in simulated card
	// simulated reader 1 out simulated card
	// true
}
