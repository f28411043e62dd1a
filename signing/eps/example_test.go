package eps_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/rxguard/rxguard/signing/eps"
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
