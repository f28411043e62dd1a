package est_test

import (
	"fmt"
	"time"

	"github.com/rxguard/rxguard/renewal"
	"github.com/rxguard/rxguard/renewal/est"
)

// A client is made once and given to package renewal as its Enroller.
func ExampleNew() {
	client, err := est.New(est.Config{
		URL:     "https://est.example.org:8443",
		Label:   "signing",
		Timeout: 30 * time.Second,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	var _ renewal.Enroller = client

	_, err = est.New(est.Config{URL: "http://est.example.org"})
	fmt.Println(err)
	// Output:
	// est: Config.URL: scheme "http", expected https: EST is spoken over TLS only (RFC 7030 3.3)
}
