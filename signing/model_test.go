package signing

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
)

// modelCard is what the model knows of one card.
type modelCard struct {
	sim     *testcard.Card
	ids     [2]string // by each module
	expect  string    // SHA-256 of its certificate
	hold    *state.Hold
	damaged map[string]bool // hold files, by name
	signed  int

	// What each module's process saw.
	out      [2]string // the hold that it was seen to be taken out under
	reseated [2]string // the hold that it was seen to be put back under
}

// unknown tells whether a module cannot tell the hold.
func (c *modelCard) unknown(m int) bool { return c.damaged[c.ids[m]] || c.damaged[c.expect] }

// held is the hold that a module finds: one that names no certificate is found by the
// name that it was set under.
func (c *modelCard) held(m int) *state.Hold {
	if c.hold == nil || c.hold.Card != c.ids[m] && !slices.Contains(c.hold.Certificates, c.expect) {
		return nil
	}
	return c.hold
}

// may tells whether the card may sign through a module when the right passcode is
// entered.
func (c *modelCard) may(m int) bool {
	h := c.held(m)
	return !c.unknown(m) && (h == nil || h.Phase == state.Reseat && c.reseated[m] == h.ID && h.Expect == c.expect)
}

// machine drives two cards and one reader at random, through two PKCS#11 modules that
// word the cards each in its way and a Signer for each, beside a model of the rule that
// a card on hold signs nothing until it was seen re-seated and its passcode was entered.
type machine struct {
	dir    state.Dir
	reader *slot
	cards  [2]*modelCard
	in     *modelCard
	holds  int

	person  *person
	modules [2]struct {
		card   *Card
		signer *Signer
	}
	stop func()
}

func (m *machine) open(t *rapid.T) {
	// Somebody looks at the card all the time.
	ctx, cancel := context.WithCancel(context.Background())
	var looking sync.WaitGroup
	for i, token := range []card.Token{m.reader, otherwise(m.reader)} {
		c, err := Open(context.Background(), Config{Reader: card.NewReader(token, m.dir.Path()), PIN: m.person.enter})
		require.NoError(t, err)
		m.modules[i].card = c
		m.modules[i].signer, err = NewAsOf(c, builtin(t), &memory{}, func() time.Time { return allowedAt })
		require.NoError(t, err)
		g := builtin(t)
		looking.Go(func() {
			for ctx.Err() == nil {
				changed := c.Changed()
				_, _ = g.CheckAt(ctx, c, allowedAt)
				select {
				case <-changed:
				case <-ctx.Done():
				}
			}
		})
	}
	m.stop = func() {
		cancel()
		looking.Wait()
		for _, p := range m.modules {
			require.NoError(t, p.card.Close())
		}
	}
}

func (m *machine) refresh() {
	for _, p := range m.modules {
		card.Refresh(p.card)
	}
}

// removed and inserted are what the running processes see.
func (m *machine) removed() {
	c := m.in
	m.in, c.reseated = nil, [2]string{}
	for i := range m.modules {
		if h := c.held(i); h != nil && !c.unknown(i) && h.Phase == state.Reseat {
			c.out[i] = h.ID
		}
	}
}

func (m *machine) inserted(c *modelCard) {
	m.in = c
	for i := range m.modules {
		if c.unknown(i) {
			continue // not known, so not forgotten either
		}
		if h := c.held(i); h != nil && h.Phase == state.Reseat && c.out[i] == h.ID {
			c.reseated[i] = h.ID
		}
		c.out[i] = ""
	}
}

func (m *machine) file(name string) string {
	return filepath.Join(m.dir.Path(), "holds", name+".json")
}

func (m *machine) pick(t *rapid.T) *modelCard {
	return m.cards[rapid.IntRange(0, 1).Draw(t, "card")]
}

// through picks a module.
func (m *machine) through(t *rapid.T) (int, *Signer) {
	i := rapid.IntRange(0, 1).Draw(t, "module")
	return i, m.modules[i].signer
}

// set writes a hold.
func (m *machine) set(t *rapid.T, c *modelCard, h state.Hold) {
	require.NoError(t, m.dir.SetHold(h))
	m.refresh()
	c.hold, c.reseated = &h, [2]string{}
	delete(c.damaged, h.Card)
	for _, n := range h.Certificates {
		delete(c.damaged, n)
	}
}

// ended is the model of a hold that came to its end.
func (m *machine) ended(c *modelCard) {
	c.hold, c.reseated = nil, [2]string{}
}

func (m *machine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"set hold": func(t *rapid.T) {
			c := m.pick(t)
			m.holds++
			h := state.Hold{ID: fmt.Sprint("hold", m.holds), Card: c.ids[rapid.IntRange(0, 1).Draw(t, "set through")], Phase: state.Renewing, Since: refusedAt}
			if rapid.IntRange(0, 3).Draw(t, "an earlier version") > 0 {
				h.Certificates = []string{c.expect}
			}
			if c.hold != nil { // by who set that one
				h.Card, h.Certificates = c.hold.Card, c.hold.Certificates
			}
			if rapid.Bool().Draw(t, "reseat") {
				h.Phase, h.Expect = state.Reseat, c.expect
				if rapid.IntRange(0, 5).Draw(t, "other certificate") == 0 {
					h.Expect = "0123"
				}
			}
			m.set(t, c, h)
		},
		"go on with renewal": func(t *rapid.T) {
			c := m.in
			if c == nil || len(c.damaged) > 0 || c.hold == nil || c.hold.Phase != state.Reseat {
				need.Another(t, "the card has no hold that this can be done to")
			}
			h := *c.hold
			h.Phase, h.Expect = state.Renewing, ""
			m.set(t, c, h)
		},
		"finish renewal": func(t *rapid.T) {
			c := m.in
			if c == nil || len(c.damaged) > 0 || c.hold == nil || c.hold.Phase != state.Renewing {
				need.Another(t, "the card has no hold that this can be done to")
			}
			h := *c.hold
			h.Phase, h.Expect = state.Reseat, c.expect
			m.set(t, c, h)
		},
		"release": func(t *rapid.T) {
			c := m.pick(t)
			if c.hold == nil || len(c.damaged) > 0 {
				need.Another(t, "the card has no hold that this can be done to")
			}
			require.NoError(t, m.dir.ReleaseHold(c.hold.ID, c.hold.Card))
			m.refresh()
			m.ended(c)
		},
		"damage": func(t *rapid.T) {
			c := m.pick(t)
			if c.hold == nil {
				need.Another(t, "the card has no hold that this can be done to")
			}
			name := rapid.SampledFrom(append([]string{c.hold.Card}, c.hold.Certificates...)).Draw(t, "name")
			require.NoError(t, os.WriteFile(m.file(name), []byte("?"), 0o600))
			m.refresh()
			c.damaged[name] = true
		},
		"remove": func(t *rapid.T) {
			if m.in == nil {
				need.Another(t, "the card is out")
			}
			m.reader.remove()
			m.refresh()
			m.removed()
		},
		"insert": func(t *rapid.T) {
			if m.in != nil {
				need.Another(t, "the card is in")
			}
			c := m.pick(t)
			m.reader.insert(c.sim)
			m.refresh()
			m.inserted(c)
		},
		"reseat at once": func(t *rapid.T) {
			if m.in == nil {
				need.Another(t, "the card is out")
			}
			// An insertion that nobody had looked at before the next removal does not
			// count: the card is then to be re-seated once more.
			m.refresh()
			c := m.in
			m.reader.remove()
			m.reader.insert(c.sim)
			m.removed()
			m.inserted(c)
		},
		"unseen reseat": func(t *rapid.T) {
			m.stop()
			if m.in != nil {
				c := m.in
				m.reader.remove()
				m.reader.insert(c.sim)
			}
			for _, c := range m.cards { // what was seen was in memory only
				c.out, c.reseated = [2]string{}, [2]string{}
			}
			m.open(t)
		},
		"sign": func(t *rapid.T) {
			i, signer := m.through(t)
			_, err := Sign(context.Background(), signer, document(t, "one"))
			switch {
			case m.in == nil:
				require.ErrorIs(t, err, guard.ErrNoCard)
			case m.in.may(i):
				require.NoError(t, err)
				m.in.signed++
				if m.in.held(i) != nil {
					m.ended(m.in)
				}
			default:
				require.Error(t, err)
			}
		},
		"end hold": func(t *rapid.T) {
			i, signer := m.through(t)
			err := signer.EndHold(context.Background())
			if m.in == nil || !m.in.may(i) {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			if m.in.held(i) != nil {
				m.ended(m.in)
			}
		},
		"wrong passcode": func(t *rapid.T) {
			i, signer := m.through(t)
			free := m.in != nil && m.in.may(i) && m.in.held(i) == nil
			m.person.enters(wrongPIN)
			defer m.person.enters(thePIN)
			asked := len(m.person.requests())
			if rapid.Bool().Draw(t, "end hold") {
				err := signer.EndHold(context.Background())
				if free {
					require.NoError(t, err)
				} else {
					require.Error(t, err)
				}
			} else if _, err := Sign(context.Background(), signer, document(t, "one")); err == nil {
				require.Equal(t, asked, len(m.person.requests()), "signed with a wrong passcode")
				require.True(t, free)
				m.in.signed++
			}
			for _, c := range m.cards { // a Registration Authority unlocks it
				require.NoError(t, c.sim.SetPIN([]byte(thePIN)))
			}
		},
		"": func(t *rapid.T) { // what holds at all times
			for _, c := range m.cards {
				require.Equal(t, c.signed, c.sim.Signatures(testcard.SigningID()), "signatures of %s", c.ids[0])
				for i, id := range c.ids {
					h, err := m.dir.Hold(id, c.expect)
					if c.unknown(i) {
						require.Error(t, err)
						continue
					}
					require.NoError(t, err)
					require.Equal(t, c.held(i) == nil, h == nil, "the hold on %s", id)
				}
			}
		},
	}
}

func TestNoCardOnHoldSignsWhateverHappens(t *testing.T) {
	tickEvery(t, time.Millisecond)
	need.Cases(t, 1000)
	rapid.Check(t, func(t *rapid.T) {
		root, err := os.MkdirTemp("", "rxguard-model-")
		require.NoError(t, err)
		defer os.RemoveAll(root)
		m := &machine{dir: state.At(root), person: &person{pin: thePIN}}
		for i, serial := range []string{"c0ffee", "decade"} {
			c := newCard(t, testcard.Config{Serial: serial})
			m.cards[i] = &modelCard{sim: c, ids: [2]string{idOf(serial), otherwiseID(serial)}, expect: certificateOn(t, c).SHA256, damaged: map[string]bool{}}
		}
		m.cards[1].sim.Remove()
		m.in, m.reader = m.cards[0], newSlot(m.cards[0].sim)
		m.open(t)
		defer func() { m.stop() }()
		t.Repeat(m.actions())
	})
}

// certificateOn reads the signing certificate of a card.
func certificateOn(t fataler, c *testcard.Card) guard.CertificateInfo {
	s, err := c.Token().Open(context.Background())
	require.NoError(t, err)
	defer s.Close()
	_, certificates, err := readCard(context.Background(), s)
	require.NoError(t, err)
	p, err := certificates.Signing()
	require.NoError(t, err)
	return p.Certificate.Info()
}
