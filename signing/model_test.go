package signing

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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
	sim      *testcard.Card
	id       string
	expect   string // SHA-256 of its certificate
	hold     *state.Hold
	damaged  bool   // the hold file
	out      string // the hold that it was seen to be taken out under
	reseated string // the hold that it was seen to be put back under
	signed   int
}

// may tells whether the card may sign when the right passcode is entered.
func (c *modelCard) may() bool {
	return !c.damaged && (c.hold == nil || c.hold.Phase == state.Reseat && c.reseated == c.hold.ID && c.hold.Expect == c.expect)
}

// machine drives two cards, one reader and one Signer at random beside a model of
// the rule that a card on hold signs nothing until it was seen re-seated and its
// passcode was entered.
type machine struct {
	dir    state.Dir
	reader *slot
	cards  [2]*modelCard
	in     *modelCard
	ids    int

	person *person
	card   *Card
	signer *Signer
	stop   func()
}

func (m *machine) open(t *rapid.T) {
	var err error
	m.card, err = Open(context.Background(), Config{Reader: card.NewReader(m.reader, m.dir.Path()), PIN: m.person.enter})
	require.NoError(t, err)
	m.signer, err = NewAsOf(m.card, builtin(t), &memory{}, func() time.Time { return allowedAt })
	require.NoError(t, err)
	// Somebody looks at the card all the time.
	ctx, cancel := context.WithCancel(context.Background())
	var looking sync.WaitGroup
	g, c := builtin(t), m.card
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
	m.stop = func() {
		cancel()
		looking.Wait()
		require.NoError(t, c.Close())
	}
}

// removed and inserted are what the running process sees.
func (m *machine) removed() {
	c := m.in
	m.in, c.reseated = nil, ""
	if c.hold != nil && !c.damaged && c.hold.Phase == state.Reseat {
		c.out = c.hold.ID
	}
}

func (m *machine) inserted(c *modelCard) {
	m.in = c
	if c.damaged {
		return // not known, so not forgotten either
	}
	if c.hold != nil && c.hold.Phase == state.Reseat && c.out == c.hold.ID {
		c.reseated = c.hold.ID
	}
	c.out = ""
}

func (m *machine) file(c *modelCard) string {
	return filepath.Join(m.dir.Path(), "holds", c.id+".json")
}

func (m *machine) pick(t *rapid.T) *modelCard {
	return m.cards[rapid.IntRange(0, 1).Draw(t, "card")]
}

// ended is the model of a hold that came to its end.
func (m *machine) ended(c *modelCard) {
	c.hold, c.reseated = nil, ""
}

func (m *machine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"set hold": func(t *rapid.T) {
			c := m.pick(t)
			m.ids++
			h := state.Hold{ID: fmt.Sprint("hold", m.ids), Card: c.id, Phase: state.Renewing, Since: refusedAt}
			if rapid.Bool().Draw(t, "reseat") {
				h.Phase, h.Expect = state.Reseat, c.expect
				if rapid.IntRange(0, 5).Draw(t, "other certificate") == 0 {
					h.Expect = "0123"
				}
			}
			require.NoError(t, m.dir.SetHold(h))
			card.Refresh(m.card)
			c.hold, c.damaged, c.reseated = &h, false, ""
		},
		"go on with renewal": func(t *rapid.T) {
			c := m.in
			if c == nil || c.damaged || c.hold == nil || c.hold.Phase != state.Reseat {
				need.Another(t, "the card has no hold that this can be done to")
			}
			c.hold.Phase, c.hold.Expect, c.reseated = state.Renewing, "", ""
			require.NoError(t, m.dir.SetHold(*c.hold))
			card.Refresh(m.card)
		},
		"finish renewal": func(t *rapid.T) {
			c := m.in
			if c == nil || c.damaged || c.hold == nil || c.hold.Phase != state.Renewing {
				need.Another(t, "the card has no hold that this can be done to")
			}
			c.hold.Phase, c.hold.Expect = state.Reseat, c.expect
			require.NoError(t, m.dir.SetHold(*c.hold))
			card.Refresh(m.card)
		},
		"release": func(t *rapid.T) {
			c := m.pick(t)
			if c.hold == nil || c.damaged {
				need.Another(t, "the card has no hold that this can be done to")
			}
			require.NoError(t, m.dir.ReleaseHold(c.id, c.hold.ID))
			card.Refresh(m.card)
			m.ended(c)
		},
		"damage": func(t *rapid.T) {
			c := m.pick(t)
			if c.hold == nil {
				need.Another(t, "the card has no hold that this can be done to")
			}
			require.NoError(t, os.WriteFile(m.file(c), []byte("?"), 0o600))
			card.Refresh(m.card)
			c.damaged = true
		},
		"remove": func(t *rapid.T) {
			if m.in == nil {
				need.Another(t, "the card is out")
			}
			m.reader.remove()
			card.Refresh(m.card)
			m.removed()
		},
		"insert": func(t *rapid.T) {
			if m.in != nil {
				need.Another(t, "the card is in")
			}
			c := m.pick(t)
			m.reader.insert(c.sim)
			card.Refresh(m.card)
			m.inserted(c)
		},
		"reseat at once": func(t *rapid.T) {
			if m.in == nil {
				need.Another(t, "the card is out")
			}
			// An insertion that nobody had looked at before the next removal does not
			// count: the card is then to be re-seated once more.
			card.Refresh(m.card)
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
				c.out, c.reseated = "", ""
			}
			m.open(t)
		},
		"sign": func(t *rapid.T) {
			_, err := Sign(context.Background(), m.signer, document(t, "one"))
			switch {
			case m.in == nil:
				require.ErrorIs(t, err, guard.ErrNoCard)
			case m.in.may():
				require.NoError(t, err)
				m.in.signed++
				m.ended(m.in)
			default:
				require.Error(t, err)
			}
		},
		"end hold": func(t *rapid.T) {
			err := m.signer.EndHold(context.Background())
			if m.in != nil && m.in.may() {
				require.NoError(t, err)
				m.ended(m.in)
			} else {
				require.Error(t, err)
			}
		},
		"wrong passcode": func(t *rapid.T) {
			m.person.enters(wrongPIN)
			defer m.person.enters(thePIN)
			asked := len(m.person.requests())
			if rapid.Bool().Draw(t, "end hold") {
				err := m.signer.EndHold(context.Background())
				if m.in != nil && m.in.may() && m.in.hold == nil {
					require.NoError(t, err)
				} else {
					require.Error(t, err)
				}
			} else if _, err := Sign(context.Background(), m.signer, document(t, "one")); err == nil {
				require.Equal(t, asked, len(m.person.requests()), "signed with a wrong passcode")
				require.True(t, m.in != nil && m.in.may() && m.in.hold == nil)
				m.in.signed++
			}
			for _, c := range m.cards { // a Registration Authority unlocks it
				require.NoError(t, c.sim.SetPIN([]byte(thePIN)))
			}
		},
		"": func(t *rapid.T) { // what holds at all times
			for _, c := range m.cards {
				require.Equal(t, c.signed, c.sim.Signatures(testcard.SigningID()), "signatures of %s", c.id)
				h, err := m.dir.Hold(c.id)
				if c.damaged {
					require.Error(t, err)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, c.hold == nil, h == nil, "the hold on %s", c.id)
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
			m.cards[i] = &modelCard{sim: c, id: idOf(serial), expect: certificateOn(t, c).SHA256}
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
