package advisory_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"

	"github.com/rxguard/rxguard/guard/advisory"
)

const document = `{
  "id": "cards-of-february-2026",
  "revision": 1,
  "state": "active",
  "title": "Smartcards issued on 1 February 2026",
  "published": "2026-02-03T09:00:00Z",
  "modified": "2026-02-03T09:00:00Z",
  "block_from": "2026-02-04T00:00:00Z",
  "renew_by": "2026-02-11T00:00:00Z",
  "match": {"any": [{
    "issuer": {"aki": ["0102030405060708"], "name": "Example Signing CA"},
    "not_before": {"from": "2026-02-01T00:00:00Z", "to": "2026-02-02T00:00:00Z"}
  }]},
  "basis": "not_before_window",
  "card_may_authenticate": true,
  "remedies": [{"kind": "renew", "text": "Renew this card here."}],
  "message": "Please renew your smartcard before you sign another prescription."
}`

// A document is parsed, and a certificate's facts are judged: whether it belongs
// to the population, and what the advisory does today.
func Example() {
	a, err := advisory.Parse([]byte(document), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	facts := advisory.FactsOf(exampleCertificate(time.Date(2026, 2, 1, 10, 21, 55, 0, time.UTC)))
	in := a.Judge(&facts).In == advisory.Yes
	enforced := a.At(time.Date(2026, 2, 5, 8, 0, 0, 0, time.UTC)) == advisory.Enforced
	fmt.Println("in the population:", in)
	fmt.Println("enforced:", enforced)
	if in && enforced {
		fmt.Println(a.Message)
		fmt.Println("1.", a.Remedies[0].Text)
	}
	// Output:
	// in the population: true
	// enforced: true
	// Please renew your smartcard before you sign another prescription.
	// 1. Renew this card here.
}

// A document that contradicts itself is refused with the path of the fault.
func ExampleParse_emptyWindow() {
	_, err := advisory.Parse([]byte(`{
	  "id": "demo-2026", "revision": 1, "state": "draft", "title": "Demo",
	  "published": "2026-02-03T09:00:00Z", "modified": "2026-02-03T09:00:00Z",
	  "match": {"any": [{
	    "issuer": {"aki": ["0102"]},
	    "not_before": {"from": "2026-02-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}
	  }]},
	  "basis": "not_before_window", "card_may_authenticate": true,
	  "remedies": [{"kind": "renew", "text": "Renew."}], "message": "Please renew."
	}`), nil)
	fmt.Println(err)
	// Output:
	// advisory: demo-2026: match.any[0].not_before.to: found an empty window: from and to are both 2026-02-01T00:00:00Z; wanted to after from, because from is inside and to is not
}

// exampleCertificate stands for the certificate read from a card.
func exampleCertificate(notBefore time.Time) *x509.Certificate {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	template := &x509.Certificate{SerialNumber: big.NewInt(0x5dc9), NotBefore: notBefore, NotAfter: notBefore.AddDate(2, 0, 0)}
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "Example Signing CA"}, SubjectKeyId: []byte{1, 2, 3, 4, 5, 6, 7, 8}}
	der, err := x509.CreateCertificate(nil, template, ca, key.Public(), key)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return c
}
