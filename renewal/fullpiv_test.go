//go:build cgo

package renewal_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/renewal"
)

// A PIV card whose retired key management slots are all taken has no room for a second
// pair (NIST SP 800-73-4 part 1, 4.3). Without a yes it keeps its only one; with one, the
// new key is made in the slot of the old, through a module that is known for keeping
// keys.
func TestAFullPIVCardIsRenewedOverItsOnlyPairAfterAYes(t *testing.T) {
	t.Parallel()
	p := newPractice(t)
	d := p.pivDesks(t)(t)
	d.sim.Remove()
	keys := testcard.CachedKeys()
	for id := byte(5); id <= 24; id++ { // the retired slots
		key, err := keys(2048)
		require.NoError(t, err)
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(id)), Subject: pkix.Name{CommonName: "for old mail", Organization: []string{testcard.Organization}}}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		require.NoError(t, err)
		require.NoError(t, d.sim.Provision(testcard.Pair{ID: []byte{id}, Key: key, Certificate: der}))
	}
	d.sim.Insert()
	d.before = d.inside()

	e := d.renewed()
	assert.Equal(t, renewal.NotOffered, e.Outcome, e.Err)
	assert.Contains(t, e.Text, "no room")
	assert.Equal(t, d.before, d.inside(), "the only pair stays")

	e = d.renewed(func(j *job) { j.Replace = true })
	require.Equal(t, renewal.Completed, e.Outcome, e.Err)
	was, is := certificates(d.before), certificates(d.inside())
	slot := hex.EncodeToString(testcard.SigningID())
	require.Len(t, is, len(was))
	for id := range was {
		assert.Equal(t, id == slot, was[id] != is[id], "container %s", id)
	}
	assert.NotEqual(t, privateKeys(d.before)[slot].Key, privateKeys(d.inside())[slot].Key)
	f := d.look()
	assert.NotEmpty(t, f.Signed, "%v %s", f.Reasons, f.Err)
	assert.NotEqual(t, d.old, f.Signed)
}
