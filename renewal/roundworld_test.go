package renewal

import (
	"context"
	"crypto/rsa"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
)

// counter is a desk with several cards and readers, and the person at it, who takes
// out and puts back what a Round asks for, and has a pile of cards to put in.
type counter struct {
	t     testing.TB
	dir   state.Dir
	ca    *authority
	enrol Enroller // nil: ca
	rec   *memory
	g     *guard.Guard
	keys  func(int) (*rsa.PrivateKey, error)

	cards map[string]*testcard.Card // by serial number
	slots []*testcard.Slot
	hands sync.Mutex
	in    []string // what was put into the slots last; under hands
	seats []Seat
	as    func(card.Token) card.Token // how the module words the cards; nil: as they are
	asks  bool                        // the person is asked for the next card
	pile  []string                    // put into the first reader, one for each question
	asked int                         // questions for the next card
	sofar []RoundResult
	away  func() // is called in place of an answer to that question

	// on is told each event before the person acts on it; true: nothing more is to be
	// done about it.
	on     func(RoundEvent) bool
	events []RoundEvent

	mu        sync.Mutex
	pins      map[string]string // other than thePIN
	passcodes []string          // that were asked for: serial number and purpose
	prompt    func(signing.PINRequest)
}

func newCounter(t testing.TB) *counter {
	return &counter{
		t: t, dir: state.At(filepath.Join(t.TempDir(), "state")), ca: &authority{}, rec: &memory{}, g: guardBy(t, noticeConfig{}),
		keys: testcard.CachedKeys(), cards: map[string]*testcard.Card{}, pins: map[string]string{},
	}
}

// make makes a card that lies beside the readers.
func (c *counter) make(serial string, issuedAt time.Time, how ...func(*testcard.Config, *testcard.Prescriber)) *testcard.Card {
	c.t.Helper()
	cfg := testcard.Config{Serial: serial, Label: "card " + serial, PSS: true, PIN: []byte(thePIN)}
	who := testcard.Prescriber{UID: uid, NotBefore: issuedAt}
	for _, f := range how {
		f(&cfg, &who)
	}
	sim, err := testcard.New(cfg)
	require.NoError(c.t, err)
	sim.MakeKeys(c.keys)
	who.AuthenticationKey, err = c.keys(2048)
	require.NoError(c.t, err)
	who.SigningKey, err = c.keys(2048)
	require.NoError(c.t, err)
	_, _, err = sim.ProvisionPrescriber(theCA(), who)
	require.NoError(c.t, err)
	sim.Remove()
	c.cards[serial] = sim
	return sim
}

func (c *counter) affected(serials ...string) {
	for _, s := range serials {
		c.make(s, issued)
	}
}

func (c *counter) good(serials ...string) {
	for _, s := range serials {
		c.make(s, issued.AddDate(0, 0, -10))
	}
}

// others makes an affected card of another person.
func (c *counter) others(serial string) {
	c.make(serial, issued, func(_ *testcard.Config, p *testcard.Prescriber) { p.UID = "555000000002" })
}

// readers puts a card into each of as many readers; "" leaves one empty.
func (c *counter) readers(serials ...string) *counter {
	c.t.Helper()
	for _, s := range serials {
		c.slots = append(c.slots, testcard.NewSlot(nil))
		c.in = append(c.in, "")
		if s != "" {
			c.put(len(c.slots)-1, s)
		}
	}
	c.start()
	return c
}

// start opens the readers, as a new process would.
func (c *counter) start() {
	c.t.Helper()
	c.seats = nil
	for i, s := range c.slots {
		token := s.Token()
		if c.as != nil {
			token = c.as(token)
		}
		handle, err := signing.Open(context.Background(), signing.Config{Reader: card.NewReader(token, c.dir.Path()), PIN: c.enter})
		require.NoError(c.t, err)
		enrol := c.enrol
		if enrol == nil {
			enrol = c.ca
		}
		r, err := New(Config{Card: handle, Guard: c.g, Recorder: c.rec, Enroller: enrol, AsOf: c.clock})
		require.NoError(c.t, err)
		signer, err := signing.NewAsOf(handle, c.g, c.rec, c.clock)
		require.NoError(c.t, err)
		c.seats = append(c.seats, Seat{Reader: readerName(i), Renewer: r, Signer: signer})
	}
	seats := c.seats
	c.t.Cleanup(func() {
		for _, s := range seats {
			assert.NoError(c.t, s.Renewer.c.Card.Close())
		}
	})
}

// restart ends the process, as far as its cards are concerned, and starts another.
func (c *counter) restart() {
	for _, s := range c.seats {
		require.NoError(c.t, s.Renewer.c.Card.Close())
	}
	c.start()
}

func readerName(i int) string { return "reader " + string(rune('1'+i)) }

func (c *counter) clock() time.Time { return theTime }

// put puts a card into a reader, and takes out what was in.
func (c *counter) put(slot int, serial string) {
	c.hands.Lock()
	defer c.hands.Unlock()
	for i, in := range c.in { // wherever it is
		if in == serial {
			c.slots[i].Take()
			c.in[i] = ""
		}
	}
	c.in[slot] = serial
	c.slots[slot].Put(c.cards[serial])
}

func (c *counter) take(slot int) {
	c.hands.Lock()
	defer c.hands.Unlock()
	c.slots[slot].Take()
	c.in[slot] = ""
}

// is tells whether a card is in a reader.
func (c *counter) is(slot int, serial string) bool {
	c.hands.Lock()
	defer c.hands.Unlock()
	return c.in[slot] == serial
}

// slot finds a reader by its name.
func (c *counter) slot(reader string) int {
	return slices.IndexFunc(c.seats, func(s Seat) bool { return s.Reader == reader })
}

func (c *counter) enter(ctx context.Context, r signing.PINRequest) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passcodes = append(c.passcodes, r.Serial+" "+string(r.Purpose))
	if c.prompt != nil {
		c.prompt(r)
	}
	pin := thePIN
	if p, other := c.pins[r.Serial]; other {
		pin = p
	}
	return []byte(pin), ctx.Err()
}

// take returns the questions for passcodes since it was called last.
func (c *counter) prompts() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.passcodes
	c.passcodes = nil
	return p
}

// round is the Round with its person.
func (c *counter) round() *Round {
	r := &Round{Seats: c.seats, Show: c.show}
	if c.asks {
		r.NextCard = c.next
	}
	return r
}

func (c *counter) show(e RoundEvent) {
	c.events = append(c.events, e)
	if c.on != nil && c.on(e) || e.Outcome != ReseatCard || e.Progress != nil || e.Text == "" {
		return
	}
	if at := c.slot(e.Reader); c.is(at, e.Serial) || c.is(at, "") { // out already, it is put in
		c.put(at, e.Serial)
	}
}

func (c *counter) next(ctx context.Context, sofar RoundResult) error {
	c.asked++
	c.sofar = append(c.sofar, sofar)
	switch {
	case c.away != nil:
		c.away()
		<-ctx.Done()
		return ctx.Err()
	case len(c.pile) == 0:
		return nil
	}
	serial := c.pile[0]
	c.pile = c.pile[1:]
	c.put(0, serial)
	<-ctx.Done()
	return ctx.Err()
}

// run goes a round in which nothing is left to be done.
func (c *counter) run() RoundResult {
	c.t.Helper()
	res, err := c.round().Run(context.Background())
	require.NoError(c.t, err)
	return res
}

// told is what the cards came to: serial number, reader and outcome.
func told(r RoundResult) (list []string) {
	for _, c := range r.Cards {
		list = append(list, c.Serial+" in "+c.Reader+": "+string(c.Outcome))
	}
	return list
}

// ops lists the operations of these kinds that a card did.
func (c *counter) ops(serial string, kinds ...testcard.Op) (out []testcard.Op) {
	for _, e := range c.cards[serial].Trace() {
		if e.After && slices.Contains(kinds, e.Op) {
			out = append(out, e.Op)
		}
	}
	return out
}

// untouched asserts that a card was only read, and its passcode not asked.
func (c *counter) untouched(serials ...string) {
	c.t.Helper()
	reads := []testcard.Op{testcard.OpOpen, testcard.OpInfo, testcard.OpObjects, testcard.OpClose}
	for _, s := range serials {
		for _, e := range c.cards[s].Trace() {
			require.Contains(c.t, reads, e.Op, "card %s", s)
		}
	}
}

// unchanged asserts that a card has the pair that it was made with, and no other.
func (c *counter) unchanged(serials ...string) {
	c.t.Helper()
	for _, s := range serials {
		require.Empty(c.t, c.ops(s, changes...), "card %s", s)
	}
}

// renewed asserts that a card has a new pair alone, was asked for one certificate
// and is on no hold.
func (c *counter) renewed(serials ...string) {
	c.t.Helper()
	for _, s := range serials {
		all := onCard(c.t, c.cards[s])
		require.Len(c.t, all, 1, "card %s", s)
		for id, p := range all {
			require.NotEqual(c.t, string(testcard.SigningID()), id, "card %s", s)
			require.True(c.t, p.key && p.cert != nil && p.cert.NotBefore.After(issued.AddDate(0, 0, 1)), "card %s", s)
		}
		require.Len(c.t, c.ops(s, testcard.OpGenerate), 1, "card %s", s)
		h, err := c.dir.Hold(c.id(s))
		require.NoError(c.t, err)
		require.Nil(c.t, h, "card %s", s)
	}
}

func (c *counter) id(serial string) string {
	return card.Info{Manufacturer: testcard.Manufacturer, Model: testcard.Model, Serial: serial}.ID()
}
