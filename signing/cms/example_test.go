package cms_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"log"
	"path/filepath"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/signing"
	"github.com/rxguard/rxguard/signing/cms"
	"github.com/rxguard/rxguard/signing/signingtest"
)

// A document is signed with a card that the guard allows, and verified by whoever
// knows the authority.
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

	letter := []byte("a referral letter")
	issuing, root := kit.Issuers()[0], kit.Issuers()[1]
	signed, err := signing.Sign(ctx, signer, cms.Detached(letter, cms.Options{Certificates: []*x509.Certificate{issuing}}))
	if err != nil {
		log.Fatal(err)
	}

	// Elsewhere: the letter, the signature, and whom to trust.
	roots := x509.NewCertPool()
	roots.AddCert(root)
	result, err := cms.Verify(signed.DER(), cms.VerifyOptions{Content: letter, Roots: roots, At: time.Now()})
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range result.Checks {
		fmt.Println(c.Name, c.Outcome)
	}
	// Output:
	// content_type passed
	// message_digest passed
	// algorithms passed
	// signer_certificate passed
	// key passed
	// signature passed
	// signing_certificate passed
	// key_usage passed
	// signing_time passed
	// expected_signer not_decidable
	// chain passed
	// revocation not_decidable
}
