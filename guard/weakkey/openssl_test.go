package weakkey

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
)

// One key in ten has 2048 bits, which openssl takes several times as long for.
func TestFreshKeysOfOpenSSLAreNotKnownToBeWeak(t *testing.T) {
	openssl := need.Tool(t, "openssl", "openssl")
	keys := 500
	if os.Getenv("RXGUARD_SOAK") != "" {
		keys = 10_000
	}
	var c Checker
	numbers := make(chan int)
	var makers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		makers.Go(func() {
			for i := range numbers {
				bits := 1024
				if i%10 == 0 {
					bits = 2048
				}
				key, err := opensslKey(openssl, bits)
				if !assert.NoError(t, err) {
					continue
				}
				assert.Equal(t, bits, key.N.BitLen())
				r := c.Check(key)
				assert.True(t, r.Judged)
				assert.False(t, r.Weak(), "a false alarm: %v: %x", r, key.N)
			}
		})
	}
	for i := range keys {
		numbers <- i
	}
	close(numbers)
	makers.Wait()
	require.False(t, t.Failed())
	t.Logf("%d fresh keys of openssl (make soak: 10000)", keys)
}

func opensslKey(openssl string, bits int) (*rsa.PublicKey, error) {
	out, err := exec.Command(openssl, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:"+strconv.Itoa(bits)).Output()
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(out)
	if block == nil {
		return nil, errors.New("openssl genpkey wrote no PEM block")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	return &key.(*rsa.PrivateKey).PublicKey, nil
}
