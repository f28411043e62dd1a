package status_test

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"time"

	"github.com/rxguard/rxguard/guard/status"
)

// A list from a file, and what it says of a certificate at one instant.
func Example() {
	b, _ := os.ReadFile("testdata/ca.pem")
	block, _ := pem.Decode(b)
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		fmt.Println(err)
		return
	}
	trust, err := status.NewTrust([]*x509.Certificate{ca}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	b, _ = os.ReadFile("testdata/plain.crl")
	list, err := status.Parse(b, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	snapshot, err := status.NewSnapshot(trust, 0, list)
	if err != nil {
		fmt.Println(err)
		return
	}

	// The chain of x509.Certificate.Verify; here of a certificate that is made up.
	card := &x509.Certificate{RawIssuer: ca.RawSubject, SerialNumber: big.NewInt(0x5dc9ad1f)}
	subject, err := status.NewSubject([]*x509.Certificate{card, ca})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, day := range []int{2, 20} {
		r := snapshot.Status(subject, time.Date(2026, time.March, day, 9, 0, 0, 0, time.UTC))
		fmt.Printf("%s: %s\n", r.State, r.Entry.Reason)
	}
	// Output:
	// revoked: superseded
	// revoked: superseded
}
