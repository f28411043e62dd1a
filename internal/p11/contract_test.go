package p11

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha1" // cards sign it, and old software asks for it
	_ "crypto/sha256"
	_ "crypto/sha512"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	rig "github.com/rxguard/rxguard/internal/testcard/modules"
)

// TestContract has every implementation of the card interfaces keep what
// internal/card promises, or say clearly what it cannot do.
func TestContract(t *testing.T) {
	rounds := 1
	if os.Getenv("RXGUARD_SOAK") != "" {
		rounds = 20
	}
	t.Logf("%d rounds (make soak: 20)", rounds)
	for _, i := range []struct {
		name string
		make func(*testing.T) *world
	}{
		{"inprocess", inProcess},
		{"softhsm", software(softHSM, cannot{lock: true, move: true, apart: true})},
		{"nss", software(nss, cannot{lock: true, move: true, always: true, apart: true})},
		{"opensc", virtual(rig.OpenSC, cannot{change: true, moment: true, tellService: true, apart: true})},
		{"ykcs11", virtual(rig.YKCS11, cannot{destroyKeys: true, apart: true})},
	} {
		t.Run(i.name, func(t *testing.T) {
			for round := range rounds {
				if rounds == 1 {
					contract(t, i.make(t))
					continue
				}
				t.Run(fmt.Sprintf("round %d", round+1), func(t *testing.T) { contract(t, i.make(t)) })
			}
		})
	}
}

func contract(t *testing.T, w *world) {
	for _, c := range slices.Concat(readCases, loginCases, signCases, changeCases, sessionCases, readerCases, contextCases, witnessCases) {
		t.Run(c.name, func(t *testing.T) { c.f(t, w) })
		w.others = !w.others
	}
}

// clause is one thing that the contract wants.
type clause struct {
	name string
	f    func(t *testing.T, w *world)
}

// open opens a session for the time of the test.
func (d *deck) open(t testing.TB) card.Session {
	t.Helper()
	s, err := d.Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// login opens a session and logs in.
func (d *deck) login(t testing.TB) card.Session {
	t.Helper()
	s := d.open(t)
	require.NoError(t, s.Login(t.Context(), d.pin))
	return s
}

// tries are those left inside the card; -1 where nobody can look.
func (d *deck) tries() int {
	if d.c == nil {
		return -1
	}
	return d.c.TriesLeft()
}

// wrong is a passcode of the right length.
func (d *deck) wrong() []byte {
	b := slices.Clone(d.pin)
	slices.Reverse(b)
	return b
}

func objects(t testing.TB, s card.Session) []card.Object {
	t.Helper()
	list, err := s.Objects(t.Context())
	require.NoError(t, err)
	return list
}

// with lists the objects of one CKA_ID, and of one class where that is not 0.
func with(list []card.Object, class card.Class, id []byte) []card.Object {
	return slices.DeleteFunc(slices.Clone(list), func(o card.Object) bool {
		return string(o.ID) != string(id) || class != 0 && o.Class != class
	})
}

// pairs finds the card's pairs, which must be the person's.
func (d *deck) pairs(t testing.TB, s card.Session) (authentication, signing card.Pair) {
	t.Helper()
	list := objects(t, s)
	authentication, err := card.AuthenticationPair(list)
	require.NoError(t, err)
	require.True(t, d.authentication.Equal(authentication.Certificate.X509()), "of %s, expected %s", authentication.Certificate.X509().Subject, d.authentication.Subject)
	signing, err = card.SigningPair(list)
	require.NoError(t, err)
	require.True(t, d.signing.Equal(signing.Certificate.X509()), "of %s, expected %s", signing.Certificate.X509().Subject, d.signing.Subject)
	return authentication, signing
}

// refused checks a clear error, and returns it: its kind, something that the person
// can do, and the module's own code where that was asked.
func refused(t testing.TB, w *world, err error, kind card.Kind, coded bool) *card.Error {
	t.Helper()
	var e *card.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, kind, e.Kind, "%v", err)
	assert.NotEmpty(t, e.Op, "%v", err)
	assert.NotEmpty(t, e.Advice(), "%v", err)
	if coded && !w.cannot.code {
		assert.NotZero(t, e.Code, "%v", err)
		assert.Contains(t, err.Error(), fmt.Sprintf("0x%08x", e.Code))
	}
	return e
}

// digest is of something else for each text.
func digest(h crypto.Hash, text string) []byte {
	x := h.New()
	x.Write([]byte(text))
	return x.Sum(nil)
}

// signs has the card sign and verifies that with Go.
func signs(t testing.TB, s card.Session, id []byte, pub crypto.PublicKey, opts crypto.SignerOpts, text string) {
	t.Helper()
	d := digest(opts.HashFunc(), text)
	sig, err := s.Sign(t.Context(), id, d, opts)
	require.NoError(t, err)
	require.NoError(t, verify(pub, d, sig, opts))
}

func verify(pub crypto.PublicKey, digest, sig []byte, opts crypto.SignerOpts) error {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			return rsa.VerifyPSS(k, opts.HashFunc(), digest, sig, pss)
		}
		return rsa.VerifyPKCS1v15(k, opts.HashFunc(), digest, sig)
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(k, digest, sig) {
			return errors.New("the ECDSA signature does not verify")
		}
		return nil
	}
	return fmt.Errorf("%T cannot be verified with", pub)
}

// works shows that the card does what it is there for: a session, a login and a
// signature of each pair.
func (d *deck) works(t testing.TB) {
	t.Helper()
	s, err := d.Open(t.Context())
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Login(t.Context(), d.pin))
	authentication, signing := d.pairs(t, s)
	signs(t, s, signing.ID, d.signing.PublicKey, crypto.SHA256, "works")
	require.NoError(t, s.Login(t.Context(), d.pin))
	signs(t, s, authentication.ID, d.authentication.PublicKey, crypto.SHA256, "works")
}

// reaches waits until the token's presence is so.
func (d *deck) reaches(t testing.TB, present bool) card.Presence {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := d.Presence()
	for p.Present != present {
		var err error
		p, err = d.Wait(ctx, p)
		require.NoError(t, err, "waiting for a card that is in: %t", present)
	}
	return p
}
