package testcard

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/need"
)

// TestCardIsTheStateMachine drives a card at random beside a model of passcode,
// insertion and sessions.
func TestCardIsTheStateMachine(t *testing.T) {
	key, ctx := ecKey(), context.Background()
	need.Cases(t, 5000)
	rapid.Check(t, func(t *rapid.T) {
		tries := rapid.IntRange(1, 4).Draw(t, "tries")
		always := rapid.Bool().Draw(t, "always authenticate")
		c, err := New(Config{Tries: tries})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Provision(Pair{ID: SigningID(), Key: key, AlwaysAuthenticate: always}); err != nil {
			t.Fatal(err)
		}

		type modelSession struct {
			s                       card.Session
			insertion               uint64
			closed, loggedIn, fresh bool
		}
		var (
			pin        = DefaultPIN
			left       = tries
			present    = true
			insertion  = uint64(1)
			signatures = 0
			sessions   []*modelSession
			seen       = card.Presence{Present: true, Insertion: 1} // by the watcher
			unseen     []card.Presence
		)
		expect := func(err error, want card.Kind) {
			t.Helper()
			if want == -1 {
				if err != nil {
					t.Fatalf("got %v, expected no error", err)
				}
			} else if !card.IsKind(err, want) {
				t.Fatalf("got %v, expected kind %v", err, want)
			}
		}
		const fine = card.Kind(-1)
		pick := func() *modelSession {
			if len(sessions) == 0 {
				need.Another(t, "no session is open")
			}
			return rapid.SampledFrom(sessions).Draw(t, "session")
		}
		alive := func(m *modelSession) bool { return !m.closed && present && m.insertion == insertion }
		login := func(m *modelSession, p string) {
			err := m.s.Login(ctx, []byte(p))
			switch {
			case !alive(m):
				expect(err, card.Removed)
			case len(p) < MinPIN || len(p) > MaxPIN:
				expect(err, card.PINLength)
			case left == 0:
				expect(err, card.PINLocked)
			case p != pin:
				left--
				m.loggedIn, m.fresh = false, false
				expect(err, card.PINIncorrect)
				assert.Equal(t, left, err.(*card.Error).TriesLeft)
			default:
				left = tries
				m.loggedIn, m.fresh = true, true
				expect(err, fine)
			}
		}

		t.Repeat(map[string]func(*rapid.T){
			"open": func(t *rapid.T) {
				s, err := c.Token().Open(ctx)
				if !present {
					expect(err, card.Absent)
					return
				}
				expect(err, fine)
				sessions = append(sessions, &modelSession{s: s, insertion: insertion})
			},
			"close": func(t *rapid.T) {
				m := pick()
				expect(m.s.Close(), fine)
				m.closed = m.closed || alive(m)
			},
			"login": func(t *rapid.T) { login(pick(), pin) },
			"login with anything": func(t *rapid.T) {
				login(pick(), rapid.StringMatching(`[0-9]{0,10}`).Draw(t, "passcode"))
			},
			"logout": func(t *rapid.T) {
				m := pick()
				err := m.s.Logout(ctx)
				if !alive(m) {
					expect(err, card.Removed)
					return
				}
				expect(err, fine)
				m.loggedIn, m.fresh = false, false
			},
			"sign": func(t *rapid.T) {
				m := pick()
				sig, err := m.s.Sign(ctx, SigningID(), digest[:], crypto256)
				switch {
				case !alive(m):
					expect(err, card.Removed)
				case left == 0:
					expect(err, card.PINLocked)
				case !m.loggedIn || always && !m.fresh:
					expect(err, card.NotLoggedIn)
				default:
					expect(err, fine)
					signatures++
					m.fresh = false
				}
				assert.Equal(t, err == nil, sig != nil)
			},
			"remove": func(*rapid.T) {
				c.Remove()
				if present {
					present = false
					unseen = append(unseen, card.Presence{Present: false, Insertion: insertion})
				}
			},
			"insert": func(*rapid.T) {
				c.Insert()
				if !present {
					present = true
					insertion++
					unseen = append(unseen, card.Presence{Present: true, Insertion: insertion})
				}
			},
			"watch": func(t *rapid.T) {
				if len(unseen) == 0 {
					need.Another(t, "nothing has changed since")
				}
				p, err := c.Token().Wait(ctx, seen)
				expect(err, fine)
				assert.Equal(t, unseen[0], p)
				seen, unseen = p, unseen[1:]
			},
			"set passcode": func(t *rapid.T) {
				pin = rapid.StringMatching(`[0-9]{4,8}`).Draw(t, "passcode")
				expect(c.SetPIN([]byte(pin)), fine)
				left = tries
			},
			"save and load": func(t *rapid.T) {
				b, err := c.encode()
				expect(err, fine)
				c, err = decode(b)
				expect(err, fine)
				sessions, unseen = nil, nil
				seen = c.Token().Presence()
			},
			"": func(t *rapid.T) {
				assert.Equal(t, left, c.TriesLeft())
				assert.Equal(t, signatures, c.Signatures(SigningID()))
				assert.Equal(t, card.Presence{Present: present, Insertion: insertion}, c.Token().Presence())
				for _, m := range sessions {
					info, err := m.s.Info(ctx)
					if !alive(m) {
						expect(err, card.Removed)
						continue
					}
					expect(err, fine)
					assert.Equal(t, [3]bool{left < tries, left == 1, left == 0}, [3]bool{info.CountLow, info.FinalTry, info.Locked})
				}
			},
		})
	})
}
