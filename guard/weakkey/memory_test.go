package weakkey

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAVerdictIsRememberedByItsKey(t *testing.T) {
	var c Checker
	weak, good := &rsa.PublicKey{N: freshKey(t, 1024).N, E: 3}, freshKey(t, 1024)
	for _, pub := range []any{weak, good, freshECDSA(t), freshEd25519(t)} {
		spki := spkiOf(t, pub)
		_, known := c.Known(spki)
		require.False(t, known)
		r := c.CheckCertificate(certificateOf(t, pub))
		again, known := c.Known(spki)
		assert.True(t, known)
		assert.Equal(t, r, again)
	}
	r, known := c.Known(hash(0))
	assert.False(t, known)
	assert.Zero(t, r)
}

// The second time nothing is worked out: here it would come out otherwise.
func TestAKeyIsJudgedOnce(t *testing.T) {
	var c Checker
	cert := certificateOf(t, freshKey(t, 1024))
	first := c.CheckCertificate(cert)
	cert.PublicKey = nil
	assert.Equal(t, first, c.CheckCertificate(cert))
}

func TestARememberedKeyCostsNoAllocation(t *testing.T) {
	var c Checker
	for _, pub := range []any{freshKey(t, 2048), &rsa.PublicKey{N: freshKey(t, 1024).N, E: 3}, freshECDSA(t)} {
		cert, spki := certificateOf(t, pub), spkiOf(t, pub)
		c.CheckCertificate(cert)
		var r Result
		assert.Zero(t, testing.AllocsPerRun(100, func() { r = c.CheckCertificate(cert) }))
		assert.Zero(t, testing.AllocsPerRun(100, func() { r, _ = c.Known(spki) }))
		assert.NotZero(t, r)
	}
}

func (m *memory) count() (n int) {
	for i := range m {
		for j := range m[i] {
			if m[i][j].Load() != nil {
				n++
			}
		}
	}
	return n
}

func TestTheMemoryIsBounded(t *testing.T) {
	var m memory
	const keys = 3 * Remembered
	for i := range uint64(keys) {
		e := &entry{spki: hash(i), result: Result{Key: "key", Detail: string(rune(i))}}
		m.remember(e)
		require.Same(t, e, m.find(&e.spki), "the newest is always known")
		m.remember(&entry{spki: e.spki})
		require.Same(t, e, m.find(&e.spki), "one place for a key")
	}
	assert.LessOrEqual(t, m.count(), Remembered)
	assert.Greater(t, m.count(), Remembered*9/10, "and it is used")
	known := 0
	for i := range uint64(keys) {
		spki := hash(i)
		if e := m.find(&spki); e != nil {
			known++
			require.Equal(t, string(rune(i)), e.result.Detail)
		}
	}
	assert.Equal(t, m.count(), known, "no key is there twice")
}

func TestKeysOfOneSetDoNotPushEachOtherOutBeforeItIsFull(t *testing.T) {
	var m memory
	for i := range byte(memoryWays) {
		m.remember(&entry{spki: [32]byte{31: 4 * i, 30: i}}) // the hash chooses the same place for all
	}
	for i := range byte(memoryWays) {
		assert.NotNil(t, m.find(&[32]byte{31: 4 * i, 30: i}))
	}
}

func TestManyAskAtOnce(t *testing.T) {
	var c Checker
	weak, good := &rsa.PublicKey{N: freshKey(t, 1024).N, E: 3}, freshKey(t, 1024)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 500 {
				// Under several hundred hashes, each by several of them: even ones are weak.
				n := i * (1 + g%2)
				cert := &x509.Certificate{
					PublicKey:               []*rsa.PublicKey{weak, good}[n%2],
					RawSubjectPublicKeyInfo: binary.BigEndian.AppendUint16(nil, uint16(n)),
				}
				assert.Equal(t, n%2 == 0, c.CheckCertificate(cert).Weak())
			}
		})
	}
	all.Wait()
}
