package guard_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/rxguard/rxguard/guard"
)

// readCard is a card of which one certificate was read from a file. The card of a
// real reader is signing.Open's.
type readCard struct{ certificate *guard.Certificate }

func (c readCard) Snapshot(context.Context) (guard.Snapshot, error) {
	return guard.Snapshot{Certificate: c.certificate, Label: "a card"}, nil
}

func openCard() readCard {
	pem, err := os.ReadFile("testdata/card.pem") // issued on 29 September 2020
	if err != nil {
		log.Fatal(err)
	}
	c, err := guard.ParseCertificate(pem)
	if err != nil {
		log.Fatal(err)
	}
	return readCard{c}
}

// One line with the built-in advisories: may this card sign now?
func ExampleCheck() {
	v, err := guard.Check(context.Background(), openCard())

	var refused *guard.Refused
	var undecided *guard.Undecided
	switch {
	case errors.As(err, &refused):
		fmt.Println("no:", v.Findings[0].Text)
		fmt.Println("renewing helps:", refused.RenewalHelps())
	case errors.As(err, &undecided):
		fmt.Println("could not tell:", v.Findings[0].Text)
	default:
		fmt.Println("yes")
	}
	// Output:
	// no: Your smartcard has expired. It must be renewed in person. Nothing was signed.
	// renewing helps: false
}

// Judged as of another instant: what was said during the notice of 2020, and after
// it was resolved.
func ExampleGuard_CheckAt() {
	g, err := guard.New(guard.Config{})
	if err != nil {
		log.Fatal(err)
	}
	for _, at := range []time.Time{
		time.Date(2020, time.September, 30, 9, 0, 0, 0, time.UTC),
		time.Date(2020, time.October, 2, 9, 0, 0, 0, time.UTC),
	} {
		v, err := g.CheckAt(context.Background(), openCard(), at)
		f := v.Findings[0]
		fmt.Println(v.Decision, f.Reason, f.Advisory.ID, f.Advisory.State, err == nil)
	}
	// Output:
	// refused affected eps-smartcard-renewal-2020 resolved false
	// allowed affected_ended eps-smartcard-renewal-2020 resolved true
}

// With the certificates of the trusted authorities the chain is checked too. What is
// not configured is not checked, and each verdict says so.
func ExampleConfig() {
	pem, err := os.ReadFile("testdata/ca.pem")
	if err != nil {
		log.Fatal(err)
	}
	ca, err := guard.ParseCertificate(pem)
	if err != nil {
		log.Fatal(err)
	}
	g, err := guard.New(guard.Config{Roots: []*x509.Certificate{ca.X509()}})
	if err != nil {
		log.Fatal(err)
	}
	v, err := g.CheckAt(context.Background(), openCard(), time.Date(2020, time.November, 1, 9, 0, 0, 0, time.UTC))
	fmt.Println(v.Decision, err)
	for _, n := range v.NotChecked {
		fmt.Printf("not checked: %s: %s\n", n.Check, n.Why)
	}
	// Output:
	// allowed <nil>
	// not checked: revocation: the guard has no revocation lists to judge by
}

// A setting that is weaker than its default is named so, and shows in every verdict.
func ExamplePolicy() {
	g, err := guard.New(guard.Config{Policy: guard.Policy{
		Validity:       guard.UnsafeWarn,
		RefuseRSABelow: 2048,
		RenewalWindow:  guard.SelfRenewalWindow,
	}})
	if err != nil {
		log.Fatal(err)
	}
	v, err := g.CheckAt(context.Background(), openCard(), time.Date(2024, time.January, 8, 9, 0, 0, 0, time.UTC))
	fmt.Println(v.Decision, v.Findings[0].Reason, err)
	for _, w := range v.Weakened {
		fmt.Printf("%s is %s: %s\n", w.Setting, w.Value, w.Text)
	}

	_, err = guard.New(guard.Config{Policy: guard.Policy{RevocationUnknown: guard.UnsafeOff}})
	fmt.Println(err)
	// Output:
	// warned expired <nil>
	// Policy.Validity is UnsafeWarn: a certificate that is not valid at the judged instant is only warned of
	// guard: Config.Policy.RevocationUnknown is UnsafeOff; wanted ByDefault or Refuse
}

// What a screen shows to the one who holds the card.
func ExampleVerdict_ForPrescriber() {
	v, _ := guard.Check(context.Background(), openCard())
	fmt.Print(v.ForPrescriber())
	// Output:
	// You cannot sign with this smartcard now. Nothing was signed.
	// Your smartcard has expired. It must be renewed in person.
	// What to do now:
	// 1. Contact your Registration Authority.
	// 2. If a patient is waiting, write a paper prescription.
}

// What nobody filled in refuses.
func ExampleVerdict() {
	var nobodyFilledIn guard.Verdict
	fmt.Println(nobodyFilledIn.Decision, nobodyFilledIn.Decision.Permits())
	fmt.Println(nobodyFilledIn.Err())
	// Output:
	// refused false
	// guard: refused: no check was made
}
