//go:build cgo

package renewal_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/testcard/modules"
	"github.com/rxguard/rxguard/renewal"
)

// renewed lets a process renew the card as far as it comes.
func (d *desk) renewed(change ...func(*job)) (e ending) {
	d.t.Helper()
	r := d.start("renew", change...)
	r.ended(&e)
	return e
}

// ended lets a process go on to its end. The card is taken out and put back when it may
// be.
func (r *running) ended(e *ending) {
	r.d.t.Helper()
	r.end(func(word, rest string) {
		switch word {
		case sayReseat:
			r.d.sim.Remove()
		case sayOut:
			r.d.sim.Insert()
		case sayEnd:
			unmarshal(r.d.t, rest, e)
		}
	})
}

// through has a process use another module.
func through(module, token, reader string) func(*job) {
	return func(j *job) { j.Module, j.Token, j.Reader = module, token, reader }
}

func stopAt(tick string) func(*job) { return func(j *job) { j.StopAt = tick } }

// stopped starts a renewal in another process, which stops at a tick.
func (d *desk) stopped(tick string) *running {
	d.t.Helper()
	r := d.start("renew", stopAt(tick))
	var at string
	r.until(sayStopped, &at)
	return r
}

// issuedFor counts the certificates that the authority issued for a key on the card
// that was not there at the beginning.
func (p *practice) issuedFor(t *testing.T, d *desk, on []object) (n int) {
	t.Helper()
	fresh := maps.Clone(privateKeys(on))
	for id := range privateKeys(d.before) {
		delete(fresh, id)
	}
	require.Len(t, fresh, 1, "one new key")
	for _, i := range p.server.Issued() {
		for _, k := range fresh {
			if k.Key == sum(i.Certificate.RawSubjectPublicKeyInfo) {
				n++
			}
		}
	}
	return n
}

// One process renews a card, wherever it is in doing so; the other says who does.
func TestTwoProcessesRenewACardAtOnce(t *testing.T) {
	t.Parallel()
	p := newPractice(t)
	desks := p.softDesks(t)
	for _, tick := range []string{"before login", "before probe", "before generate", "before enrol", "after enrol", "after write", "before destroy", tickRetired} {
		t.Run(tick, func(t *testing.T) {
			d := desks(t)
			first := d.stopped(tick)
			before := d.look()
			second := d.renewed()
			assert.Equal(t, renewal.Refusal, second.Outcome)
			assert.Contains(t, second.Text, fmt.Sprintf("This card is being renewed by another program (process %d since ", first.cmd.Process.Pid))
			assert.Contains(t, second.Text, fmt.Sprintf(", %s of ", filepath.Base(os.Args[0])))
			assert.Contains(t, second.Err, "another process renews this card")
			assert.Positive(t, second.Remedies)
			assert.Equal(t, before.Objects, d.look().Objects)

			require.NoError(t, first.goOn())
			var e ending
			first.ended(&e)
			require.Equal(t, renewal.ReseatCard, e.Outcome, e.Err)
			after := d.renewed() // nobody renews it now, and nothing is left to do
			assert.Equal(t, renewal.ReseatCard, after.Outcome, after.Err)
			assert.Equal(t, 1, p.issuedFor(t, d, d.look().Objects))
		})
	}
}

// Of many that start together one renews the card, and every other says who does, or
// that it was done.
func TestManyProcessesRenewACardAtOnce(t *testing.T) {
	t.Parallel()
	p := newPractice(t)
	d := p.softDesks(t)(t)
	const many = 5
	var processes []*running
	for range many {
		r := d.start("renew", stopAt("before open"))
		processes = append(processes, r)
	}
	ends := make([]ending, many)
	for _, r := range processes {
		var at string
		r.until(sayStopped, &at)
	}
	var all sync.WaitGroup
	said := make([][2]string, many)
	for i, r := range processes {
		all.Go(func() {
			_, _ = io.WriteString(r.in, "\n")
			for {
				word, rest := r.next()
				if word == "" {
					return
				}
				said[i] = [2]string{word, rest}
			}
		})
	}
	all.Wait()
	done := 0
	for i, r := range processes {
		r.over()
		require.Equal(t, sayEnd, said[i][0])
		unmarshal(t, said[i][1], &ends[i])
		switch e := ends[i]; e.Outcome {
		case renewal.ReseatCard:
			done++
		default:
			assert.Equal(t, renewal.Refusal, e.Outcome, e.Err)
			assert.Contains(t, e.Text, "This card is being renewed by another program (")
		}
	}
	assert.Positive(t, done)
	f := d.look()
	assert.Equal(t, 1, p.issuedFor(t, d, f.Objects))
	assert.Contains(t, f.Reasons, guard.OnHold)
	assert.Len(t, privateKeys(f.Objects), 2)
}

// A card on hold signs nothing in another vendor's application, which loads a module of
// its own and knows of no notice.
func TestAnotherApplicationSignsNothingOnACardOnHold(t *testing.T) {
	t.Parallel()
	p := newPractice(t)
	d := p.softDesks(t)(t)
	other := filepath.Join(t.TempDir(), "libother.so")
	b, err := os.ReadFile(d.job.Module)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(other, b, 0o700))
	apps := []func(*job){through(d.job.Module, softLabel, ""), through(other, softLabel, "")}

	for _, app := range apps {
		assert.Equal(t, d.old, d.seen(app).Signed, "before the renewal it signs")
	}
	r := d.stopped("before generate")
	for _, app := range apps {
		f := d.seen(app)
		assert.Empty(t, f.Signed)
		assert.Equal(t, []guard.Reason{guard.OnHoldRenewal}, f.Reasons)
	}
	require.NoError(t, r.cmd.Process.Kill()) // whoever set the hold need not be there
	_ = r.cmd.Wait()
	for _, app := range apps {
		f := d.seen(app)
		assert.Empty(t, f.Signed)
		assert.Equal(t, []guard.Reason{guard.OnHoldRenewal}, f.Reasons)
	}
	require.Equal(t, renewal.ReseatCard, d.renewed(apps[1]).Outcome, "another application can go on")
	for _, app := range apps {
		f := d.seen(app)
		assert.Empty(t, f.Signed)
		assert.Equal(t, []guard.Reason{guard.OnHold}, f.Reasons)
	}
}

// The same with a PIV card, which two makers' modules word otherwise.
func TestAnotherMakersModuleSignsNothingOnACardOnHold(t *testing.T) {
	p := newPractice(t)
	opensc := modules.OpenSC(t)
	d := p.pivDesks(t)(t)
	app := through(opensc, "", d.job.Reader)
	assert.Equal(t, d.old, d.seen(app).Signed, "before the renewal it signs")

	r := d.stopped("before generate")
	f := d.seen(app)
	assert.Empty(t, f.Signed)
	assert.Equal(t, []guard.Reason{guard.OnHoldRenewal}, f.Reasons)
	e := d.renewed(app)
	assert.Equal(t, renewal.Refusal, e.Outcome, e.Err)
	assert.Contains(t, e.Text, fmt.Sprintf("This card is being renewed by another program (process %d since ", r.cmd.Process.Pid))

	require.NoError(t, r.cmd.Process.Kill())
	_ = r.cmd.Wait()
	f = d.seen(app)
	assert.Empty(t, f.Signed)
	assert.Equal(t, []guard.Reason{guard.OnHoldRenewal}, f.Reasons)
	e = d.renewed(app)
	assert.Equal(t, renewal.Refusal, e.Outcome, e.Err)
	assert.Contains(t, e.Text, "was begun with other card software")
	assert.Equal(t, d.before, d.inside(), "nothing was changed yet")

	e = d.renewed() // re-seated, as this process sees
	require.Equal(t, renewal.Completed, e.Outcome, e.Err)
	f = d.seen(app)
	assert.Equal(t, sum(e.Certificate), f.Signed, "%v %s", f.Reasons, f.Err)
	id := slices.Collect(maps.Keys(certificates(d.inside())))
	assert.NotContains(t, id, hex.EncodeToString([]byte{2}))
	assert.Equal(t, 1, p.issuedFor(t, d, d.inside()))
}

// seen has another application look at the card.
func (d *desk) seen(app func(*job)) (f findings) {
	d.t.Helper()
	r := d.start("look", app)
	r.until(sayFound, &f)
	r.end(nil)
	require.Empty(d.t, f.Err)
	return f
}
