package renewal

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
)

// provision is what the cards of all cases hold.
type provision struct{ auth, old, otherAuth, good *x509.Certificate }

var provisioned = sync.OnceValue(func() provision {
	source := testcard.CachedKeys()
	issue := func(profile testcard.Profile, uid string, at time.Time) *x509.Certificate {
		key, err := source(2048)
		if err != nil {
			panic(err)
		}
		c, err := theCA().Issue(profile, key.Public(), testcard.IssueOptions{Subject: testcard.Subject(uid), NotBefore: at})
		if err != nil {
			panic(err)
		}
		return c
	}
	earlier := issued.AddDate(0, 0, -10)
	return provision{
		issue(testcard.Authentication, uid, issued), issue(testcard.Signing, uid, issued),
		issue(testcard.Authentication, "555000000002", earlier), issue(testcard.Signing, "555000000002", earlier),
	}
})

// put makes a card; each case's has the same keys.
func (p provision) put(t testing.TB, c testcard.Config, auth, sign *x509.Certificate) *testcard.Card {
	sim, err := testcard.New(c)
	require.NoError(t, err)
	source := testcard.CachedKeys()
	for _, k := range []struct {
		cert  *x509.Certificate
		id    []byte
		label string
	}{{p.auth, testcard.AuthenticationID(), testcard.AuthenticationLabel}, {p.old, testcard.SigningID(), testcard.SigningLabel}, {p.otherAuth, testcard.AuthenticationID(), ""}, {p.good, testcard.SigningID(), ""}} {
		key, err := source(2048)
		require.NoError(t, err)
		if k.cert == auth || k.cert == sign {
			require.NoError(t, sim.Provision(testcard.Pair{ID: k.id, Label: k.label, Key: key, Certificate: k.cert.Raw, AlwaysAuthenticate: c.AlwaysAuthenticate && k.cert == sign}))
		}
	}
	sim.MakeKeys(source)
	return sim
}

// play goes the whole way of one case: interrupted, stopped, gone on with, until the
// renewal has ended.
func (r *rig) play() string {
	for stops := 0; !r.live(stops); stops++ {
		require.Less(r.t, stops, 8, "it does not come to an end")
		r.stopped()
	}
	r.stopped()
	r.stop()
	require.Empty(r.t, r.todo, "a fault did not happen")
	end := r.end()
	require.Contains(r.t, r.allowed(), end)
	return end
}

// allowed are the end states that the faults of the case can come to.
func (r *rig) allowed() []string {
	e, isLate := r.s.ends, false
	for _, i := range r.fired {
		if i.fault.ends == late {
			isLate = true
		} else if e != endsOld {
			e = max(e, i.fault.ends)
			if i.fault.ends == endsOld {
				e = endsOld
			}
		}
	}
	switch {
	case isLate && r.s.noRoom:
		return []string{oldLate, newLate, raEnd, personEnd}
	case e != noMatter && r.s.noRoom:
		return []string{oldEnd, renewedEnd, raEnd, personEnd}
	case isLate && e == endsOld:
		return []string{oldLate}
	case isLate:
		return []string{oldLate, newLate}
	case e == endsOld:
		return []string{oldEnd}
	case e == mayEndOld:
		return []string{oldEnd, renewedEnd}
	}
	return []string{renewedEnd}
}

// live is what the person does in one process, until something stops it. It tells
// whether the renewal has come to its end.
func (r *rig) live(stops int) bool {
	r.proved, r.consented, r.there = false, false, false
	if !r.s.random && r.finished() && r.hold() == nil {
		return true
	}
	var res Result
	var err error
	begin := func() {
		// Where nothing but giving up helps any more, the person does.
		if r.s.abandon && stops > 0 || stops > 3 {
			res, err = r.renewal.Abandon(ours)
			if errors.Is(err, errPastSwitch) && r.over {
				r.inPerson()
			}
			if !errors.Is(err, errNothingBegun) && !errors.Is(err, errPastSwitch) {
				return
			}
		}
		r.proved = false
		res, err = r.renewal.Renew(ours, nil)
	}
	begin()
	r.told(res, err)
	if r.dead {
		return false
	}
	if !r.slot.in() || r.slot.card != r.sim {
		return false
	}
	held := r.hold()
	switch {
	case res.Outcome == ReseatCard, (res.Outcome == NotOffered || res.Outcome == GivenUp) && held != nil && held.Phase == state.Reseat:
	case res.Outcome == NotNeeded, res.Outcome == GivenUp && held == nil:
		return true
	case res.Outcome == Refusal && r.over && held != nil && held.Phase == state.Reseat: // no pair is left
		return r.lastRenewal().finished
	case res.Outcome == NotOffered && held == nil:
		return r.rightClock == nil || r.lastRenewal() != nil
	default:
		if res.Outcome == Pending && r.rightClock == nil {
			r.quietly(func() {
				again, err := r.renewal.Renew(ours, nil)
				if again.Outcome != Pending || err == nil {
					r.violated("asked again too early, the renewal is %s", again.Outcome)
				}
			})
		}
		return false
	}
	r.reseat()
	res, err = r.renewal.Finish(ours, r.signs)
	r.told(res, err)
	if r.slot.card != r.sim {
		if !r.dead && res.Outcome == NotNeeded {
			r.violated("with the wrong card put in, its holder is told that nothing is to be done")
		}
		return false
	}
	if res.Outcome == Refusal && r.over && !r.dead { // no pair is left
		return true
	}
	return !r.dead && err == nil && (res.Outcome == Completed || res.Outcome == GivenUp || res.Outcome == NotNeeded)
}

// inPerson is what the Registration Authority does for a card whose old pair is gone and
// whose renewal does not come to its end: a new pair, with a certificate that is good.
func (r *rig) inPerson() {
	r.quietly(func() {
		require.NoError(r.t, r.sim.SetPIN([]byte(thePIN)))
		s, err := r.sim.Token().Open(ours)
		require.NoError(r.t, err)
		defer s.Close()
		require.NoError(r.t, s.Login(ours, []byte(thePIN)))
		for _, c := range classes {
			if err := s.Destroy(ours, c, testcard.SigningID()); !card.IsKind(err, card.NotFound) {
				require.NoError(r.t, err)
			}
		}
		var key *rsa.PrivateKey
		for source, i := testcard.CachedKeys(), 0; i < 7; i++ { // one that the card has not had
			key, err = source(2048)
			require.NoError(r.t, err)
		}
		c, err := theCA().Issue(testcard.Signing, key.Public(), testcard.IssueOptions{Subject: testcard.Subject(uid), NotBefore: issued.AddDate(0, 0, 2), NotAfter: r.now.AddDate(1, 0, 0)})
		require.NoError(r.t, err)
		require.NoError(r.t, r.sim.Provision(testcard.Pair{ID: testcard.SigningID(), Key: key, Certificate: c.Raw}))
	})
	r.renewedInPerson = true
}

// told asserts that the person is told the next step.
func (r *rig) told(res Result, err error) {
	if r.dead {
		return
	}
	var e *Error
	if err != nil && (!errors.As(err, &e) || len(res.Remedies) == 0) || res.Text == "" {
		r.violated("the person is not told the next step: %+v, %v", res, err)
	}
}

// stopped looks at everything, and makes it possible to go on: the card back in and
// unlocked, the clock right, time passed, another process where this one is gone.
func (r *rig) stopped() {
	dead := r.dead
	leave := dead || r.leave
	r.leave = false
	if leave {
		r.stop()
	} else if r.slot.card == r.other && r.slot.in() {
		r.wrongCard()
	}
	if r.slot.card != r.sim && r.slot.in() {
		r.slot.Take()
	}
	back := !r.slot.in()
	if leave {
		r.outUnder = ""
	}
	r.putBack()
	if back && !leave {
		r.see(func(s guard.Snapshot) bool {
			return s.Serial == "c0ffee" && s.Err == nil || s.Insertion == r.slot.Token().Presence().Insertion
		})
	}
	if r.sim.TriesLeft() < 3 && (r.sim.TriesLeft() == 0 || !r.asks.yes) {
		require.NoError(r.t, r.sim.SetPIN([]byte(thePIN)))
	}
	r.asks.yes, r.asks.wrong = true, false
	passes := time.Hour
	if leave {
		passes = 25 * time.Hour
	}
	r.now = r.now.Add(passes)
	if r.rightClock != nil {
		r.now = r.now.Add(*r.rightClock)
		r.rightClock = nil
		if c := r.dir.Clock(); c.Refresh() == nil && c.Floor().After(r.now) {
			require.NoError(r.t, os.Remove(c.Path())) // as its text says
		}
	}
	r.dead = dead || leave
	r.sound()
	if r.keep && r.firstStop == 0 && len(r.fired) > 0 {
		r.firstStop, r.left = r.n, r.leaves(leave)
	}
	if leave {
		r.start()
	}
}

// wrongCard is what the person is told with the wrong card in the reader.
func (r *rig) wrongCard() {
	r.see(func(s guard.Snapshot) bool { return s.Insertion == r.slot.Token().Presence().Insertion })
	r.quietly(func() {
		if r.renewal.last.serial == "c0ffee" {
			res, _ := r.renewal.Finish(ours, r.signs)
			if res.Outcome != WrongCard {
				r.violated("with the wrong card in the reader the end of the renewal is %s", res.Outcome)
			}
		}
		res, err := r.renewal.Renew(ours, nil)
		if r.now.Before(theTime.Add(ahead/2)) && r.rightClock == nil && (err != nil || res.Outcome != NotNeeded) {
			r.violated("the renewal of a card that needs none is %s, %v", res.Outcome, err)
		}
	})
}

// caseTB makes a rig fail its case alone.
type caseTB struct {
	testing.TB
	failures *[]string
}

func (t caseTB) Name() string { return "" }

func (t caseTB) Helper() {}

func (t caseTB) Errorf(f string, a ...any) { *t.failures = append(*t.failures, fmt.Sprintf(f, a...)) }

func (t caseTB) FailNow() { runtime.Goexit() }

func (t caseTB) Fatalf(f string, a ...any) { t.Errorf(f, a...); t.FailNow() }

// panicTB is for what is made once for all tests.
type panicTB struct{ testing.TB }

func (panicTB) Helper() {}

func (panicTB) Errorf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

func (panicTB) FailNow() {}
