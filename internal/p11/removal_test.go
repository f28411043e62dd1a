package p11

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
	rig "github.com/rxguard/rxguard/internal/testcard/modules"
)

// pulledBound is the watchdog's bound in TestRemoval. No step may take longer than
// that: one bound is the time of one stuck call, after which the module is wedged.
const pulledBound = 8 * time.Second

// pulls are the moments at which a card is taken out, as seen from the work on it.
var pulls = []string{
	"before",        // and the module has noticed it
	"just before",   // and nobody has noticed it
	"at the start",  // the card has the command and has not done it
	"in the middle", // the card has done it, and its answer is lost
	"at the end",    // its answer has gone
	"after",         // the work is done
}

// removal is work that a card is pulled in.
type removal struct {
	name string
	op   testcard.Op // the card's part of it
	// do does it with a session, which is logged in where login says so.
	login bool
	do    func(ctx context.Context, d *deck, s card.Session) error
	// cannot tells which modules do not do it.
	cannot func(w *world) bool
}

func readOnly(w *world) bool { return w.cannot.change }

var removals = []removal{
	{name: "login", op: testcard.OpLogin, do: func(ctx context.Context, d *deck, s card.Session) error {
		return s.Login(ctx, d.pin)
	}},
	{name: "find", op: testcard.OpObjects, do: func(ctx context.Context, d *deck, _ card.Session) error {
		// Some modules read the card when a session is opened.
		s, err := d.Open(ctx)
		if err != nil {
			return err
		}
		defer s.Close()
		list, err := s.Objects(ctx)
		if err != nil {
			if list != nil {
				panic("objects beside an error")
			}
			return err
		}
		p, err := card.SigningPair(list)
		if err == nil && !p.Certificate.X509().Equal(d.signing) {
			panic("another certificate than the card's")
		}
		return err
	}},
	{name: "sign", op: testcard.OpSign, login: true, do: func(ctx context.Context, d *deck, s card.Session) error {
		m := digest(crypto.SHA256, "a prescription")
		sig, err := s.Sign(ctx, testcard.SigningID(), m, crypto.SHA256)
		if err != nil {
			if sig != nil {
				panic("a signature beside an error")
			}
			return err
		}
		return verify(d.signing.PublicKey, m, sig, crypto.SHA256)
	}},
	{
		name: "generate", op: testcard.OpGenerate, login: true,
		do: generates, cannot: readOnly,
	},
	{
		name: "officer", op: testcard.OpManage, login: true, // who is logged in to change the card
		do: generates, cannot: readOnly,
	},
	{
		name: "write", op: testcard.OpWriteCertificate, login: true,
		do: func(ctx context.Context, d *deck, s card.Session) error {
			return s.WriteCertificate(ctx, testcard.SigningID(), testcard.SigningLabel, d.signing.Raw)
		},
		cannot: readOnly,
	},
}

func generates(ctx context.Context, _ *deck, s card.Session) error {
	id, err := s.Vacant(ctx)
	if err != nil {
		return err
	}
	_, err = s.Generate(ctx, card.KeySpec{ID: id, Label: "new"})
	return err
}

// TestRemoval pulls the card before, in and after each kind of work. Nothing hangs
// longer than the watchdog's bound, no signature comes out of a card that was pulled
// in the middle, the person is told to put the card in, and with that the work goes on
// in the same process.
func TestRemoval(t *testing.T) {
	t.Run("inprocess", func(t *testing.T) {
		w := inProcess(t)
		for _, r := range removals {
			if r.op == testcard.OpManage {
				continue // it has no security officer
			}
			t.Run(r.name, func(t *testing.T) {
				for _, when := range pulls {
					t.Run(when, func(t *testing.T) { r.pulled(t, w, when) })
				}
			})
		}
	})
	for _, m := range []struct {
		name   string
		path   func(testing.TB) string
		limits cannot
	}{
		{"opensc", rig.OpenSC, cannot{change: true}},
		{"ykcs11", rig.YKCS11, cannot{destroyKeys: true}},
	} {
		t.Run(m.name, func(t *testing.T) {
			cells := func(r removal) []string {
				if r.cannot != nil && r.cannot(&world{cannot: m.limits}) {
					return pulls[:1]
				}
				return pulls
			}
			var names []string
			for _, r := range removals {
				for _, when := range cells(r) {
					names = append(names, r.name+"/"+when)
				}
			}
			for _, n := range arrivals {
				names = append(names, fmt.Sprintf("arrival/command %d", n))
			}
			elsewhere := alone(t, names)
			t.Run("arrival", func(t *testing.T) {
				for _, n := range arrivals {
					t.Run(fmt.Sprintf("command %d", n), func(t *testing.T) {
						if !elsewhere(t) {
							pulledOnArrival(t, pulledWorld(t, m.path, m.limits), n)
						}
					})
				}
			})
			for _, r := range removals {
				t.Run(r.name, func(t *testing.T) {
					for _, when := range cells(r) {
						t.Run(when, func(t *testing.T) {
							if !elsewhere(t) {
								r.pulled(t, pulledWorld(t, m.path, m.limits), when)
							}
						})
					}
				})
			}
		})
	}
}

// pulledWorld is virtual with a bound of its own.
func pulledWorld(t *testing.T, path func(testing.TB) string, limits cannot) *world {
	t.Helper()
	service := rig.PCSCD(t, 2)
	m, err := Open(context.Background(), path(t), Options{Bound: pulledBound, Poll: 50 * time.Millisecond})
	if errors.Is(err, ErrNoCgo) {
		t.Skip(err)
	}
	require.NoError(t, err)
	w := &world{cannot: limits, module: m, service: service}
	w.card = func(t *testing.T, reader int) *deck {
		d := newCard(t, reader)
		w.plug(t, reader, d)
		d.sel = Select{Reader: service.Name(reader)}
		d.Token = w.token(t, d.sel)
		return d
	}
	return w
}

// pullAt has the card pulled when an operation reaches it.
func (d *deck) pullAt(op testcard.Op, p testcard.Phase) *atomic.Bool {
	var pulled atomic.Bool
	pull := func() {
		if pulled.CompareAndSwap(false, true) {
			d.c.Remove()
		}
	}
	d.c.HookCommands(func(c testcard.Command) []byte {
		if c.Op == op && c.Phase == p {
			pull()
		}
		return nil
	})
	d.c.Hook(func(e testcard.Event) error {
		if e.Op == op && e.After == (p != testcard.Before) {
			pull()
		}
		return nil
	})
	return &pulled
}

// after is work that asks the card anew, once r was done.
func (r removal) after(ctx context.Context, d *deck, s card.Session) error {
	if r.name != "login" && r.name != "sign" {
		return r.do(ctx, d, s)
	}
	if err := s.Login(ctx, d.pin); err != nil {
		return err
	}
	return signsWith(ctx, s, d)
}

func (r removal) pulled(t *testing.T, w *world, when string) {
	ctx := t.Context()
	d := w.card(t, 0)
	var s card.Session
	if r.name != "find" { // which opens one
		s = d.open(t)
		if r.login {
			require.NoError(t, s.Login(ctx, d.pin))
		}
	}
	unsupported := r.cannot != nil && r.cannot(w)
	if unsupported {
		e := refused(t, w, r.do(ctx, d, s), card.Unsupported, false)
		assert.Equal(t, "renew at your Registration Authority; the key on the card is untouched", e.Advice())
	}
	before := d.Presence()
	signed := d.c.Signatures(testcard.SigningID())
	pulled := new(atomic.Bool)
	switch when {
	case "before":
		d.c.Remove()
		d.reaches(t, false)
		pulled.Store(true)
	case "just before":
		d.c.Remove()
		pulled.Store(true)
	case "at the start":
		pulled = d.pullAt(r.op, testcard.Before)
	case "in the middle":
		pulled = d.pullAt(r.op, testcard.During)
	case "at the end":
		pulled = d.pullAt(r.op, testcard.After)
	}
	began := time.Now()
	err := r.do(ctx, d, s)
	took := time.Since(began)
	d.c.HookCommands(nil)
	d.c.Hook(nil)
	if !card.IsKind(err, card.Wedged) {
		assert.Less(t, took, pulledBound, "longer than one stuck call may take")
	}
	// Another call that began before its bound ended has its own bound too.
	assert.Less(t, took, 3*pulledBound)
	if when == "after" {
		require.NoError(t, err)
		d.c.Remove()
		pulled.Store(true)
		// The next work meets the card that is out.
		err = r.after(ctx, d, s)
	}
	switch {
	case card.IsKind(err, card.Wedged):
		r.wedged(t, w, d, s, when, err)
		return
	case when == "at the end" && err == nil:
		// The answer was whole. What r.do answers was verified.
	case err == nil && r.name == "find" && strings.Contains(t.Name(), "/opensc/"):
		// It has read the card when it came, and answers from memory.
	case err == nil && !pulled.Load():
		t.Fatalf("the card was not asked for %s", r.op)
	default:
		r.told(t, d, before, err)
	}
	if !pulled.Load() {
		d.c.Remove()
	}
	if r.name == "sign" {
		// What the card may have signed did not come out.
		limit := signed
		if when == "in the middle" || when == "at the end" || when == "after" {
			limit++
		}
		assert.LessOrEqual(t, d.c.Signatures(testcard.SigningID()), limit, "it was tried again")
	}
	if s != nil { // the session of before is of no use
		out := d.c.Signatures(testcard.SigningID())
		err := r.after(ctx, d, s)
		assert.Error(t, err)
		if card.IsKind(err, card.Wedged) {
			r.wedged(t, w, d, s, when, err)
			return
		}
		assert.Equal(t, out, d.c.Signatures(testcard.SigningID()))
	}

	// Back in, the work goes on, without a restart; the session of before does not.
	d.reaches(t, false)
	d.c.Insert()
	now := d.reaches(t, true)
	assert.Greater(t, now.Insertion, before.Insertion)
	assert.False(t, now.Reset, "it was seen to be out")
	if s != nil {
		err := card.Pulled(d.Token, before.Insertion, r.after(ctx, d, s))
		var e *card.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, card.Removed, e.Kind, "%v", err)
		assert.Equal(t, "put your card back in; nothing was signed", e.Advice())
		require.NoError(t, s.Close())
	}
	d.works(t)
	if !unsupported {
		require.NoError(t, r.do(ctx, d, d.login(t)))
		d.works(t)
	}
	t.Logf("%v in %v", err, took.Round(time.Millisecond))
}

// arrivals are the commands at which a card is pulled that has just been put in, while
// the module reads who it is.
var arrivals = []int32{1, 2, 3, 4, 6, 9, 13}

func pulledOnArrival(t *testing.T, w *world, nth int32) {
	ctx := t.Context()
	d := w.card(t, 0)
	info, err := d.open(t).Info(ctx)
	require.NoError(t, err)
	d.c.Remove()
	d.reaches(t, false)
	var commands atomic.Int32
	var pulled atomic.Bool
	d.c.HookCommands(func(c testcard.Command) []byte {
		if c.Phase == testcard.During && commands.Add(1) == nth {
			d.c.Remove()
			pulled.Store(true)
		}
		return nil
	})
	began := time.Now()
	d.c.Insert()
	eventually(t, func() bool {
		if d.Presence().Present && !pulled.Load() { // it reads more when it is used
			if s, err := d.Open(ctx); err == nil {
				_, _ = s.Objects(ctx)
				s.Close()
			}
		}
		return pulled.Load()
	}, "the module asks for no %d commands", nth)
	d.c.HookCommands(nil)
	eventually(t, func() bool {
		_, err = d.Open(ctx)
		return card.IsKind(err, card.Absent) || card.IsKind(err, card.Wedged)
	}, "that the card is out: %v", &err)
	assert.Less(t, time.Since(began), 3*pulledBound)
	if card.IsKind(err, card.Wedged) {
		removal{name: "arrival"}.wedged(t, w, d, nil, "just before", err) // before the next command
		return
	}
	slots, err := w.module.Slots(ctx)
	require.NoError(t, err)
	for _, s := range slots {
		assert.False(t, s.Present, "%+v", s)
	}
	d.c.Insert()
	d.reaches(t, true)
	again, err := d.open(t).Info(ctx)
	require.NoError(t, err)
	assert.Equal(t, info.ID(), again.ID())
	assert.Equal(t, info.Label, again.Label)
	d.works(t)
}

// wedged checks a module that stopped answering, which OpenSC does before 0.24 when it
// is asked for something between the removal of the card and the moment at which the
// card service has noticed that (it waits for a lock that it holds itself): it says so,
// from then on at once, and nobody waits for it to close.
func (r removal) wedged(t *testing.T, w *world, d *deck, s card.Session, when string, err error) {
	t.Helper()
	var e *card.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "restart the application; nothing was signed", e.Advice())
	assert.NotContains(t, err.Error(), string(d.pin))
	signed := d.c.Signatures(testcard.SigningID())
	began := time.Now()
	if s != nil {
		assert.True(t, card.IsKind(r.after(t.Context(), d, s), card.Wedged))
		assert.NoError(t, s.Close())
	}
	_, err = d.Open(t.Context())
	assert.True(t, card.IsKind(err, card.Wedged), "%v", err)
	_, err = w.module.Slots(t.Context())
	assert.True(t, card.IsKind(err, card.Wedged), "%v", err)
	_, err = d.Wait(t.Context(), d.Presence())
	assert.True(t, card.IsKind(err, card.Wedged), "%v", err)
	assert.NoError(t, d.Token.(*Token).Close())
	assert.Less(t, time.Since(began), pulledBound)
	assert.Equal(t, signed, d.c.Signatures(testcard.SigningID()))
	opensc := strings.Contains(t.Name(), "/opensc/") && slices.Contains([]string{"just before", "at the end", "after"}, when)
	assert.True(t, opensc, "the module is wedged: %v", err)
	t.Logf("OpenSC is wedged by %s with the card pulled %s", r.name, when)
}

// told checks what somebody is told whose card was pulled.
func (r removal) told(t *testing.T, d *deck, before card.Presence, err error) {
	t.Helper()
	require.Error(t, err)
	err = card.Pulled(d.Token, before.Insertion, err)
	var e *card.Error
	require.ErrorAs(t, err, &e)
	assert.Contains(t, []card.Kind{card.Absent, card.Removed, card.Fault}, e.Kind, "%v", err)
	assert.Contains(t, e.Advice(), "nothing was signed")
	assert.NotContains(t, err.Error(), string(d.pin))
	if e.Kind == card.Absent {
		assert.Equal(t, "insert your smartcard; nothing was signed", e.Advice())
	}
	// Once the module has noticed, everybody is told to insert the card.
	d.reaches(t, false)
	_, err = d.Open(t.Context())
	require.ErrorAs(t, err, &e)
	assert.Equal(t, card.Absent, e.Kind, "%v", err)
	assert.Equal(t, "insert your smartcard; nothing was signed", e.Advice())
}
