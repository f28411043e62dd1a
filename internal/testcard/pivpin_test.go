package testcard

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/need"
)

func TestVerify(t *testing.T) {
	c := newCard(t, Config{})
	h := plug(t, c)
	verify := func(s string) string { return h.status(insVerify, 0, 0x80, pin(s)...) }
	ask := func() string { return h.status(insVerify, 0, 0x80) }
	step := func(what, want string, got string, left int) {
		t.Helper()
		assert.Equal(t, want, got, what)
		assert.Equal(t, left, c.TriesLeft(), what)
	}
	step("asked", "63c3", ask(), 3)
	step("wrong", "63c2", verify("000000"), 2)
	step("asked", "63c2", ask(), 2)
	step("right", "9000", verify(DefaultPIN), 3)
	step("asked, logged in", "9000", ask(), 3)
	step("a wrong one ends the login", "63c2", verify("000000"), 2)
	step("asked", "63c2", ask(), 2)
	step("too short to be right", "6a80", h.status(insVerify, 0, 0x80, pin("123")...), 2)
	step("not filled up", "6a80", h.status(insVerify, 0, 0x80, []byte(DefaultPIN)...), 2)
	step("wrong", "63c1", verify("000000"), 1)
	step("the last try", "63c0", verify("000000"), 0)
	step("right, and too late", "6983", verify(DefaultPIN), 0)
	step("asked", "6983", ask(), 0)
	require.NoError(t, c.SetPIN([]byte("2468")))
	step("unlocked", "9000", verify("2468"), 3)
	step("logged out", "9000", h.status(insVerify, 0xFF, 0x80), 3)
	step("asked", "63c3", ask(), 3)
}

func TestChangeReferenceData(t *testing.T) {
	c := newCard(t, Config{PUK: []byte("13571357")})
	h := plug(t, c)
	change := func(reference byte, old, fresh string) string {
		return h.status(insChangeReference, 0, reference, append(pin(old), pin(fresh)...)...)
	}
	assert.Equal(t, "63c2", change(0x80, "000000", "246824"))
	assert.Equal(t, "6a80", change(0x80, DefaultPIN, "12"), "the new one is too short")
	assert.Equal(t, 2, c.TriesLeft())
	assert.Equal(t, "9000", change(0x80, DefaultPIN, "246824"))
	assert.Equal(t, 3, c.TriesLeft())
	h.ok(insVerify, 0, 0x80) // the right old one is a login
	assert.Equal(t, "9000", h.status(insVerify, 0, 0x80, pin("246824")...))

	assert.Equal(t, "63c2", change(0x81, "00000000", "87654321"))
	assert.Equal(t, "9000", change(0x81, "13571357", "87654321"))
	assert.Equal(t, "9000", h.status(insResetRetry, 0, 0x80, append(pin("87654321"), pin("99999999")...)...))
	assert.Equal(t, "6a88", change(0x00, DefaultPIN, "246824"), "no global passcode")
	assert.Equal(t, "6a80", h.status(insChangeReference, 0, 0x80, pin(DefaultPIN)...))
	assert.Equal(t, "6a86", h.status(insChangeReference, 2, 0x80, append(pin(DefaultPIN), pin(DefaultPIN)...)...))
}

func TestUnblock(t *testing.T) {
	c := newCard(t, Config{Tries: 1})
	h := plug(t, c)
	unblock := func(puk, fresh string) string {
		return h.status(insResetRetry, 0, 0x80, append(pin(puk), pin(fresh)...)...)
	}
	h.send(insVerify, 0, 0x80, pin("000000")...)
	assert.Equal(t, "63c2", unblock("00000000", "246824"))
	assert.Equal(t, 0, c.TriesLeft())
	assert.Equal(t, "9000", unblock(DefaultPUK, "246824"))
	assert.Equal(t, 1, c.TriesLeft())
	assert.Equal(t, "9000", h.status(insVerify, 0, 0x80, pin("246824")...))
	for i := range pukTries {
		assert.Equal(t, fmt.Sprintf("63c%d", pukTries-1-i), unblock("00000000", "111111"))
	}
	assert.Equal(t, "6983", unblock(DefaultPUK, "111111"))
	again, err := decode([]byte(state(t, c)))
	require.NoError(t, err)
	assert.Equal(t, 0, again.pukLeft, "its tries are saved with the card")
}

func TestMetadataOfSecrets(t *testing.T) {
	c := newCard(t, Config{Tries: 5})
	h := plug(t, c)
	h.send(insVerify, 0, 0x80, pin("000000")...)
	assert.Equal(t, []byte{1, 1, 0xFF, 5, 1, 1, 6, 2, 5, 4}, h.ok(insMetadata, 0, 0x80))
	assert.Equal(t, []byte{1, 1, 0xFF, 5, 1, 1, 6, 2, 3, 3}, h.ok(insMetadata, 0, 0x81))
	assert.Equal(t, []byte{1, 1, algTripleDES, 2, 2, 0, 1, 5, 1, 1}, h.ok(insMetadata, 0, 0x9B))
	require.NoError(t, c.SetPIN([]byte("2468")))
	assert.Equal(t, []byte{1, 1, 0xFF, 5, 1, 0, 6, 2, 5, 5}, h.ok(insMetadata, 0, 0x80))
}

func TestACountThatCannotBeSavedIsTold(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	c := newCard(t, Config{})
	c.path = filepath.Join(dir, "card.json")
	h := plug(t, c)
	assert.Equal(t, "6581", h.status(insVerify, 0, 0x80, pin("000000")...))
	assert.Equal(t, 2, c.TriesLeft())
	assert.Equal(t, "6581", h.status(insVerify, 0, 0x80, pin(DefaultPIN)...))
}

// TestTwoFacesOfOneCard drives both faces of a card at random beside a model: one
// counter, one passcode, one count of signatures, and a login of each face's own.
func TestTwoFacesOfOneCard(t *testing.T) {
	key, ctx := ecKey(), context.Background()
	need.Cases(t, 2000)
	rapid.Check(t, func(t *rapid.T) {
		tries := rapid.IntRange(1, 4).Draw(t, "tries")
		always := rapid.Bool().Draw(t, "always authenticate")
		c, err := New(Config{Tries: tries})
		if err == nil {
			err = c.Provision(Pair{ID: AuthenticationID(), Key: key, AlwaysAuthenticate: always})
		}
		if err != nil {
			t.Fatal(err)
		}
		a := newApplet(c, 1)
		s, err := c.Token().Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		secret, left, signatures := DefaultPIN, tries, 0
		var piv, in struct{ in, fresh bool } // the logins of the two faces
		send := func(ins, p1, p2 byte, data ...byte) SW {
			b := append([]byte{0, ins, p1, p2, byte(len(data))}, data...)
			if len(data) == 0 {
				b = b[:4]
			}
			answer, sent := a.transmit(b)
			sent()
			return SW(answer[len(answer)-2])<<8 | SW(answer[len(answer)-1])
		}
		someSecret := func(t *rapid.T) string {
			return rapid.SampledFrom([]string{secret, secret, "000000", "99999999"}).Draw(t, "passcode")
		}
		t.Repeat(map[string]func(*rapid.T){
			"verify": func(t *rapid.T) {
				p := someSecret(t)
				sw := send(insVerify, 0, 0x80, pin(p)...)
				switch {
				case left == 0:
					assert.Equal(t, SWBlocked, sw)
					piv.in = false
				case p == secret:
					assert.Equal(t, SWOK, sw)
					left = tries
					piv.in, piv.fresh = true, true
				default:
					left--
					assert.Equal(t, SWTries|SW(left), sw)
					piv.in = false
				}
			},
			"log in": func(t *rapid.T) {
				p := someSecret(t)
				err := s.Login(ctx, []byte(p))
				switch {
				case left == 0:
					assert.True(t, card.IsKind(err, card.PINLocked), "%v", err)
				case p == secret:
					assert.NoError(t, err)
					left = tries
					in.in, in.fresh = true, true
				default:
					left--
					assert.True(t, card.IsKind(err, card.PINIncorrect), "%v", err)
					in.in = false
				}
			},
			"change": func(t *rapid.T) {
				fresh := rapid.StringMatching(`[0-9]{4,8}`).Draw(t, "new passcode")
				p := someSecret(t)
				sw := send(insChangeReference, 0, 0x80, append(pin(p), pin(fresh)...)...)
				switch {
				case left == 0:
					assert.Equal(t, SWBlocked, sw)
				case p == secret:
					assert.Equal(t, SWOK, sw)
					secret, left = fresh, tries
					piv.in, piv.fresh = true, true
				default:
					left--
					assert.Equal(t, SWTries|SW(left), sw)
					piv.in = false
				}
			},
			"unblock": func(t *rapid.T) {
				fresh := rapid.StringMatching(`[0-9]{4,8}`).Draw(t, "new passcode")
				assert.Equal(t, SWOK, send(insResetRetry, 0, 0x80, append(pin(DefaultPUK), pin(fresh)...)...))
				secret, left = fresh, tries
			},
			"sign by command": func(t *rapid.T) {
				sw := send(insAuthenticate, algP256, 0x9A, tlv(0x7C, tlv(0x82), tlv(0x81, digest[:]))...)
				if left == 0 || !piv.in || always && !piv.fresh {
					assert.Equal(t, SWSecurity, sw)
					return
				}
				assert.Equal(t, SWOK, sw)
				signatures++
				piv.fresh = false
			},
			"sign in process": func(t *rapid.T) {
				_, err := s.Sign(ctx, AuthenticationID(), digest[:], crypto256)
				if left == 0 || !in.in || always && !in.fresh {
					assert.Error(t, err)
					return
				}
				assert.NoError(t, err)
				signatures++
				in.fresh = false
			},
			"reset": func(*rapid.T) {
				a.reset()
				piv.in = false
			},
			"": func(t *rapid.T) {
				assert.Equal(t, left, c.TriesLeft())
				assert.Equal(t, signatures, c.Signatures(AuthenticationID()))
				sw := send(insVerify, 0, 0x80)
				switch {
				case left == 0:
					assert.Equal(t, SWBlocked, sw)
				case piv.in:
					assert.Equal(t, SWOK, sw)
				default:
					assert.Equal(t, SWTries|SW(left), sw)
				}
			},
		})
	})
}
