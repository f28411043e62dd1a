package p11

import (
	"crypto"
	"crypto/rsa"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	rig "github.com/rxguard/rxguard/internal/testcard/modules"
)

// ykcs11 shows CKA_ALWAYS_AUTHENTICATE for slot 9C alone, whatever a key's own PIN
// policy is. Such a key answers "not logged in"; the session goes on, and signs with it
// once for each login from then on.
func TestAKeyWantsThePasscodeEachTimeAndDoesNotSaySo(t *testing.T) {
	w := virtual(rig.YKCS11, cannot{destroyKeys: true, apart: true})(t)
	d := w.card(t, 0) // on which each key that it makes is such a key
	s := d.login(t)
	defer s.Close()
	id, err := s.Vacant(t.Context())
	require.NoError(t, err)
	o, err := s.Generate(t.Context(), card.KeySpec{ID: id})
	require.NoError(t, err)
	require.False(t, o.AlwaysAuthenticate)
	sign := func() error {
		sum := digest(crypto.SHA256, "each time")
		sig, err := s.Sign(t.Context(), id, sum, crypto.SHA256)
		if err == nil {
			require.NoError(t, rsa.VerifyPKCS1v15(o.Public.(*rsa.PublicKey), crypto.SHA256, sum, sig))
		}
		return err
	}
	for err = sign(); err == nil; {
		err = sign() // the first may still have the login to itself
	}
	require.True(t, card.IsKind(err, card.NotLoggedIn), "%v", err)
	made := d.c.Signatures(id)
	for range 3 {
		assert.True(t, card.IsKind(sign(), card.NotLoggedIn))
		require.NoError(t, s.Login(t.Context(), d.pin))
		require.NoError(t, sign())
	}
	assert.Equal(t, made+3, d.c.Signatures(id))

	// Who opens the next session learns of it before signing, while the card is in.
	says := func() bool {
		next := d.login(t)
		defer next.Close()
		list := with(objects(t, next), card.PrivateKeyObject, id)
		require.Len(t, list, 1)
		if list[0].AlwaysAuthenticate {
			sum := digest(crypto.SHA256, "the next")
			_, err := next.Sign(t.Context(), id, sum, crypto.SHA256)
			assert.NoError(t, err)
			_, err = next.Sign(t.Context(), id, sum, crypto.SHA256)
			assert.True(t, card.IsKind(err, card.NotLoggedIn), "%v", err)
		}
		return list[0].AlwaysAuthenticate
	}
	assert.True(t, says())
	require.NoError(t, s.Close())
	assert.True(t, says())
	d.c.Remove()
	d.reaches(t, false)
	d.c.Insert()
	d.reaches(t, true)
	assert.False(t, says(), "of another insertion")
	assert.Equal(t, 3, d.c.TriesLeft())
}
