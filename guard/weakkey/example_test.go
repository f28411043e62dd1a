package weakkey_test

import (
	"crypto/rsa"
	"fmt"
	"math/big"

	"github.com/rxguard/rxguard/guard/weakkey"
)

// A key of 512 bits, made for this example as the library of CVE-2017-15361 makes them.
func Example() {
	n, _ := new(big.Int).SetString("6119c1a30f1e81b7d1ab1fb2f30b6d9479c52229945bcb84d14a3b13992c297b53f3dfaffecb73c3a950e7b0d5fbfdc9efa5e71a48664f6d6c97400da5ae70cb", 16)
	checker := weakkey.New(weakkey.Config{})
	switch r := checker.Check(&rsa.PublicKey{N: n, E: 65537}); {
	case r.Weak():
		fmt.Println(r.Weaknesses.Names())
		fmt.Println(r.Weakness().Text())
		fmt.Println(r.Weakness().Source())
	case !r.Judged:
		fmt.Println("cannot be judged:", r.Detail)
	default:
		fmt.Println("not known to be weak")
	}
	// Output:
	// [roca modulus]
	// The key was made by a faulty program in the card (ROCA): its secret can be worked out from what is public.
	// CVE-2017-15361; Nemec et al., The Return of Coppersmith's Attack, ACM CCS 2017; CA/Browser Forum BR 6.1.1.3
}
