package eps_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/rxguard/rxguard/signing/eps"
	"github.com/rxguard/rxguard/signing/signingtest"
)

func ExampleParsePrepared() {
	// What the service's $prepare operation answers; here a synthetic one.
	digest := sha256.Sum256([]byte("the prescription's canonical fragments"))
	signedInfo, err := eps.SignedInfo(eps.RS256, digest[:])
	if err != nil {
		fmt.Println(err)
		return
	}
	answer := fmt.Appendf(nil, `{
	  "resourceType": "Parameters",
	  "parameter": [
	    {"name": "digest", "valueString": %q},
	    {"name": "timestamp", "valueString": "2020-10-02T09:00:00+00:00"},
	    {"name": "algorithm", "valueString": "RS256"}
	  ]
	}`, base64.StdEncoding.EncodeToString(signedInfo))

	prepared, err := eps.ParsePrepared(answer)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(prepared.Algorithm(), prepared.Timestamp())
	// signing.Sign takes prepared from here.
	// Output: RS256 2020-10-02T09:00:00+00:00
}

func ExampleOutcomeError() {
	_, err := eps.ParsePrepared([]byte(`{
	  "resourceType": "OperationOutcome",
	  "issue": [{
	    "severity": "fatal", "code": "invalid",
	    "details": {"coding": [{"code": "INVALID_VALUE", "display": "Quantity is missing."}]}
	  }]
	}`))
	var outcome *eps.OutcomeError
	if errors.As(err, &outcome) {
		fmt.Println(outcome.Issues[0])
	}
	// Output: fatal invalid: INVALID_VALUE Quantity is missing.
}

func ExampleParseMessage() {
	// An HL7v3 message as an application makes it; here a synthetic one.
	message := signingtest.Message(signingtest.MessageConfig{
		Prescriptions: 2, At: time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC),
	})
	m, err := eps.ParseMessage(message, eps.ReadOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, p := range m.Prescriptions() {
		fmt.Println(p.ShortID(), p.Time().Format(time.RFC3339), p.Err())
	}
	// signing.SignEach takes m.Prescriptions() from here, and m.Fill fills in what it
	// gives.
	// Output:
	// 000000-Z99999-5EED0X 2026-11-02T09:30:00Z <nil>
	// 000001-Z99999-5EED0X 2026-11-02T09:30:00Z <nil>
}
