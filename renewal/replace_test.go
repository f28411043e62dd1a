package renewal

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
)

// reachable is an authority that can be probed.
type reachable struct {
	*authority
	probe  func(t *Transport) error // nil: it answers
	probed int
}

func (r *reachable) Probe(_ context.Context, t *Transport) error {
	r.probed++
	if r.probe == nil {
		return nil
	}
	return r.probe(t)
}

// yes is a Config.Replace that counts how often it is asked.
type yes struct {
	asked int
	says  bool
	err   error
}

func (y *yes) replace(context.Context, Plan) (bool, error) {
	y.asked++
	return y.says, y.err
}

func withoutRoom(u *setUp) { u.card.Containers = 2 }

// replacer makes a Renewer for a card without room.
func (w *world) replacer(e Enroller, y *yes, crash func(string) error) *Renewer {
	w.t.Helper()
	r, err := New(Config{Card: w.card, Guard: w.g, Recorder: w.rec, Enroller: e, Replace: y.replace, AsOf: w.clock})
	require.NoError(w.t, err)
	if crash != nil {
		r.crash = crash
	}
	return r
}

// newKeys makes others than those of the card.
func newKeys(t *testing.T) func(int) (*rsa.PrivateKey, error) {
	t.Helper()
	keys := testcard.CachedKeys()
	for range 2 {
		_, err := keys(2048)
		require.NoError(t, err)
	}
	return keys
}

// replaced asserts that a new pair is in the container of the old one.
func (w *world) replaced() {
	w.t.Helper()
	p := w.onCard()[string(testcard.SigningID())]
	require.True(w.t, p.key)
	require.NotNil(w.t, p.cert)
	require.False(w.t, p.cert.Equal(w.old))
	require.Len(w.t, w.onCard(), 1)
}

func TestACardWithoutRoomIsRenewedOverItsOldPairAfterAYes(t *testing.T) {
	w := newWorld(t, withoutRoom)
	ca, y := &reachable{authority: w.ca}, &yes{says: true}
	r := w.replacer(ca, y, nil)
	plan, err := r.Plan(t.Context())
	require.NoError(t, err)
	require.Equal(t, Ready, plan.Outcome)
	assert.True(t, plan.Destructive)
	text := plan.String()
	for _, s := range []string{"cannot sign until", "in the old one's place", "before there is a new certificate", "asks: a yes"} {
		assert.Contains(t, text, s)
	}
	assert.Zero(t, y.asked)

	var events []Progress
	res, err := r.Renew(t.Context(), func(p Progress) { events = append(events, p) })
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome)
	assert.Equal(t, 1, y.asked, "once in a run")
	assert.Equal(t, 4, ca.probed, "for two plans, after the passcode, and before the old pair goes")
	w.replaced()
	require.True(t, w.refused().Has(guard.OnHold))
	assert.Empty(t, w.ops(testcard.OpDestroy), "the card gives up the old key when it has the new one")

	steps := []Step{StepPlanned, StepHold, StepReplace, StepRequest, StepEnrol, StepWrite, StepProve, StepConfirm, StepReseat}
	require.Len(t, events, 2*len(steps))
	for i, p := range events {
		assert.Equal(t, steps[i/2], p.Step)
		assert.Equal(t, len(steps), p.Of)
		assert.Equal(t, i/2+1, p.Index)
	}
	assert.InDelta(t, 1, events[len(events)-1].Share, 1e-9)

	w.reseat()
	res, err = w.renewer().Finish(t.Context(), w.signer())
	require.NoError(t, err)
	assert.Equal(t, Completed, res.Outcome)
	w.mustSign()
}

func TestWithoutAYesOrAnAuthorityThatAnswersTheOnlyPairStays(t *testing.T) {
	for _, x := range []struct {
		name     string
		yes      *yes
		enroller func(w *world) Enroller
		outcome  Outcome
		says     string
		pin      bool // the passcode is asked for
		asked    int
	}{
		{name: "no callback", enroller: func(w *world) Enroller { return &reachable{authority: w.ca} }, outcome: NotOffered, says: "no room"},
		{name: "an authority that cannot be asked", yes: &yes{says: true}, enroller: func(w *world) Enroller { return w.ca }, outcome: NotOffered, says: "no room"},
		{name: "no", yes: &yes{}, enroller: func(w *world) Enroller { return &reachable{authority: w.ca} }, outcome: NotOffered, says: "no room", pin: true, asked: 1},
		{name: "an error of the callback", yes: &yes{says: true, err: errors.New("the window was closed")}, enroller: func(w *world) Enroller { return &reachable{authority: w.ca} },
			outcome: NotOffered, says: "the window was closed", pin: true, asked: 1},
		{name: "an authority that does not answer", yes: &yes{says: true}, enroller: func(w *world) Enroller {
			return &reachable{authority: w.ca, probe: func(*Transport) error { return &EnrolError{Kind: Unreachable} }}
		}, outcome: Resumable, says: "cannot be reached"},
		{name: "an authority that does not know the card", yes: &yes{says: true}, enroller: func(w *world) Enroller {
			return &reachable{authority: w.ca, probe: func(*Transport) error { return &EnrolError{Kind: Rejected, Status: 403} }}
		}, outcome: Resumable, says: "said no", pin: true},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, withoutRoom)
			c := Config{Card: w.card, Guard: w.g, Recorder: w.rec, Enroller: x.enroller(w), AsOf: w.clock}
			if x.yes != nil {
				c.Replace = x.yes.replace
			}
			r, err := New(c)
			require.NoError(t, err)
			res, err := r.Renew(t.Context(), nil)
			e := ends(t, res, err, x.outcome)
			assert.Contains(t, res.Text+e.Error(), x.says)
			assert.Contains(t, res.Text, "not changed", "%s", res.Text)
			assert.Equal(t, x.pin, len(w.person.take()) > 0)
			if x.yes != nil {
				assert.Equal(t, x.asked, x.yes.asked)
			}
			assert.Equal(t, x.outcome == NotOffered, slices.Contains(w.rec.events(), signing.EventRefused))
			assert.Empty(t, w.ops(changes...))
			assert.Empty(t, journalOf(w))
			assert.Nil(t, w.hold())
			w.oldAlone()
		})
	}
}

// TestTheOnlyPairStaysUntilTheMomentOfTheNewKey stops the renewal of a card without
// room at each point. The old pair is there until the card is told to make the new
// key, each run that finds it asks anew, and the renewal goes on to its end.
func TestTheOnlyPairStaysUntilTheMomentOfTheNewKey(t *testing.T) {
	var points []string
	first := newWorld(t, withoutRoom)
	_, err := first.replacer(&reachable{authority: first.ca}, &yes{says: true}, func(p string) error { points = append(points, p); return nil }).Renew(t.Context(), nil)
	require.NoError(t, err)
	require.Contains(t, points, "after replace done")
	for i, point := range points {
		t.Run(fmt.Sprintf("%d %s", i+1, point), func(t *testing.T) {
			w := newWorld(t, withoutRoom)
			ca, y, n := &reachable{authority: w.ca}, &yes{says: true}, 0
			_, err := w.replacer(ca, y, func(string) error {
				if n++; n == i+1 {
					return errCrash
				}
				return nil
			}).Renew(t.Context(), nil)
			require.ErrorIs(t, err, errCrash)
			gone := len(w.ops(testcard.OpGenerate)) > 0
			if gone {
				require.NotNil(t, w.hold())
			} else {
				w.oldAlone()
			}
			w.restart()
			again := &yes{says: true}
			res, err := w.replacer(ca, again, nil).Renew(t.Context(), nil)
			require.NoError(t, err)
			require.Equal(t, ReseatCard, res.Outcome, res.Text)
			assert.Equal(t, !gone, again.asked == 1, "asked %d times", again.asked)
			assert.Len(t, w.ops(testcard.OpGenerate), 1)
			w.replaced()
			w.reseat()
			res, err = w.renewer().Finish(t.Context(), w.signer())
			require.NoError(t, err)
			assert.Equal(t, Completed, res.Outcome)
			w.mustSign()
		})
	}
}

func TestACardPulledWhileItsOnlyPairIsReplacedIsGoneOnWith(t *testing.T) {
	w := newWorld(t, withoutRoom)
	ca, y := &reachable{authority: w.ca}, &yes{says: true}
	keys := newKeys(t)
	w.sim.MakeKeys(func(bits int) (*rsa.PrivateKey, error) {
		w.sim.Remove() // the old pair is gone, the new one is not there yet
		return keys(bits)
	})
	res, err := w.replacer(ca, y, nil).Renew(t.Context(), nil)
	ends(t, res, err, Resumable)
	require.Empty(t, w.onCard())
	w.sim.MakeKeys(keys)
	w.sim.Insert()
	w.see(func(s guard.Snapshot) bool { return !errors.Is(s.Err, guard.ErrNoCard) })
	again := &yes{}
	res, err = w.replacer(ca, again, nil).Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome)
	assert.Zero(t, again.asked, "there is nothing left to give up")
	w.replaced()
}

func TestARenewalOverTheOldPairIsGivenUp(t *testing.T) {
	for _, x := range []struct {
		name    string
		until   string // point at which it stopped
		no      bool   // by a no of the second run, instead of Abandon
		mute    bool   // the second run's authority cannot be asked whether it answers
		outcome Outcome
	}{
		{"before the old pair was given up", "after replace intent", false, false, ReseatCard},
		{"by a no before the old pair was given up", "after replace intent", true, false, NotOffered},
		{"by an authority that cannot be asked", "after replace intent", false, true, NotOffered},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, withoutRoom)
			ca := &reachable{authority: w.ca}
			_, err := w.replacer(ca, &yes{says: true}, crashAt(x.until)).Renew(t.Context(), nil)
			require.Error(t, err)
			var res Result
			switch {
			case x.no:
				res, err = w.replacer(ca, &yes{}, nil).Renew(t.Context(), nil)
			case x.mute:
				res, err = w.replacer(w.ca, &yes{says: true}, nil).Renew(t.Context(), nil)
			default:
				res, err = w.replacer(ca, &yes{}, nil).Abandon(t.Context())
			}
			assert.Equal(t, x.outcome, res.Outcome, "%s: %v", res.Text, err)
			assert.Equal(t, x.outcome == ReseatCard, err == nil)
			w.reseat()
			w.oldAlone()
			res, err = w.renewer().Finish(t.Context(), w.signer())
			require.NoError(t, err)
			assert.Equal(t, GivenUp, res.Outcome)
			assert.True(t, w.refused().Has(guard.Affected))
		})
	}
}

// The certificate may be one write away: nobody ends with no pair by a press of a button.
func TestARenewalWhoseOldPairIsGoneCanOnlyGoOn(t *testing.T) {
	for _, until := range []string{"after replace done", "after enrol done", "after write done", "after prove done"} {
		t.Run(until, func(t *testing.T) {
			w := newWorld(t, withoutRoom)
			ca := &reachable{authority: w.ca}
			_, err := w.replacer(ca, &yes{says: true}, crashAt(until)).Renew(t.Context(), nil)
			require.Error(t, err)
			before := len(w.ops(changes...))
			res, err := w.replacer(ca, &yes{}, nil).Abandon(t.Context())
			e := ends(t, res, err, Refusal, "can only go on")
			assert.ErrorIs(t, e, errPastSwitch)
			assert.Len(t, w.ops(changes...), before)
			res, err = w.replacer(ca, &yes{}, nil).Renew(t.Context(), nil)
			require.NoError(t, err)
			assert.Equal(t, ReseatCard, res.Outcome)
			w.replaced()
			w.reseat()
			_, err = w.renewer().Finish(t.Context(), w.signer())
			require.NoError(t, err)
			w.mustSign()
		})
	}
}

func TestAnAuthorityThatIssuesAffectedCertificatesOverTheOnlyPairEndsAtTheRegistrationAuthority(t *testing.T) {
	w := newWorld(t, withoutRoom)
	ca := &reachable{authority: w.ca}
	w.ca.order = func(_ *testcard.Profile, _ *any, o *testcard.IssueOptions) { o.NotBefore = issued }
	res, err := w.replacer(ca, &yes{says: true}, nil).Renew(t.Context(), nil)
	ends(t, res, err, NotOffered, "affected by the same problem", "cannot sign now")
	assert.Equal(t, advisory.RegistrationAuthority, res.Remedies[0].Kind)
	assert.Empty(t, w.ops(testcard.OpWriteCertificate))
	w.reseat()
	res, err = w.renewer().Finish(t.Context(), w.signer())
	ends(t, res, err, Refusal, "cannot sign as it is")
	// Nobody is sent to the reader again and again.
	res, err = w.replacer(ca, &yes{says: true}, nil).Renew(t.Context(), nil)
	ends(t, res, err, Refusal, "to sign prescriptions with")
	assert.Equal(t, advisory.RegistrationAuthority, res.Remedies[0].Kind)
}

func TestACardThatWasRenewedInPersonMeanwhileKeepsThatPair(t *testing.T) {
	w := newWorld(t, withoutRoom)
	ca := &reachable{authority: w.ca}
	_, err := w.replacer(ca, &yes{says: true}, crashAt("after replace intent")).Renew(t.Context(), nil)
	require.Error(t, err)
	plan, err := w.replacer(ca, &yes{}, nil).Plan(t.Context())
	require.NoError(t, err)
	assert.True(t, plan.Destructive)
	assert.Contains(t, plan.Text, "cannot sign until")

	keys := testcard.CachedKeys()
	var key *rsa.PrivateKey
	for range 3 {
		key, err = keys(2048)
		require.NoError(t, err)
	}
	w.clear(testcard.SigningID())
	c, err := theCA().Issue(testcard.Signing, key.Public(), testcard.IssueOptions{Subject: testcard.Subject(uid)})
	require.NoError(t, err)
	require.NoError(t, w.sim.Provision(testcard.Pair{ID: testcard.SigningID(), Key: key, Certificate: c.Raw}))
	y, before := &yes{says: true}, len(w.ops(changes...))
	res, err := w.replacer(ca, y, nil).Renew(t.Context(), nil)
	ends(t, res, err, GivenUp, "changed elsewhere", "another certificate now")
	assert.Zero(t, y.asked)
	assert.Len(t, w.ops(changes...), before)
	w.reseat()
	_, err = w.renewer().Finish(t.Context(), w.signer())
	require.NoError(t, err)
	w.mustSign()
}

func TestWhatTheAuthoritySaysAfterTheOldPairIsGoneIsNoEnd(t *testing.T) {
	w := newWorld(t, withoutRoom)
	ca := &reachable{authority: w.ca}
	w.ca.answer = func(int, Request) (Answer, error) { return Answer{}, &EnrolError{Kind: Rejected, Status: 400} }
	res, err := w.replacer(ca, &yes{says: true}, nil).Renew(t.Context(), nil)
	ends(t, res, err, Resumable, "said no", "until your Registration Authority has renewed it")
	assert.NotContains(t, res.Text, "given up")
	assert.Equal(t, advisory.RegistrationAuthority, res.Remedies[0].Kind)
	w.ca.answer = nil
	res, err = w.replacer(ca, &yes{}, nil).Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome)
	w.replaced()
}

// A card that gave up its old pair and then made no new one is not told of as one that
// kept it, and is renewed when it can.
func TestACardThatMakesNoKeyAfterItsOnlyPairIsGoneIsGoneOnWith(t *testing.T) {
	for _, x := range []struct {
		name string
		err  error
	}{
		{"it says that it cannot", card.Errorf(card.Unsupported, "generate", "a key of this kind")},
		{"it says that it is full", card.Errorf(card.Full, "generate", "no memory")},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, withoutRoom)
			ca := &reachable{authority: w.ca}
			w.sim.MakeKeys(func(int) (*rsa.PrivateKey, error) { return nil, x.err })
			res, err := w.replacer(ca, &yes{says: true}, nil).Renew(t.Context(), nil)
			e := ends(t, res, err, Resumable, "until your Registration Authority has renewed it")
			require.ErrorIs(t, e, x.err)
			require.Empty(t, w.onCard())
			for _, s := range []string{"untouched", "nothing was removed", "still on the card", "given up", "Nothing is lost"} {
				assert.NotContains(t, res.Text, s)
			}
			assert.Equal(t, advisory.RegistrationAuthority, res.Remedies[0].Kind)
			require.Equal(t, state.Renewing, w.hold().Phase)

			w.sim.MakeKeys(newKeys(t))
			res, err = w.replacer(ca, &yes{}, nil).Renew(t.Context(), nil)
			require.NoError(t, err)
			assert.Equal(t, ReseatCard, res.Outcome, res.Text)
			w.replaced()
		})
	}
}

// After a card lost power between its two pairs, no word of the authority's is an end.
func TestAnAuthorityThatRefusesACardBetweenTwoPairsIsAskedAgain(t *testing.T) {
	w := newWorld(t, withoutRoom)
	ca := &reachable{authority: w.ca}
	w.sim.MakeKeys(func(int) (*rsa.PrivateKey, error) {
		w.sim.Remove()
		return nil, errCrash
	})
	res, err := w.replacer(ca, &yes{says: true}, nil).Renew(t.Context(), nil)
	ends(t, res, err, Resumable)
	w.sim.MakeKeys(newKeys(t))
	w.sim.Insert()
	w.see(func(s guard.Snapshot) bool { return !errors.Is(s.Err, guard.ErrNoCard) })
	res, err = w.replacer(refusingWishes{ca}, &yes{}, nil).Renew(t.Context(), nil)
	ends(t, res, err, Resumable, "said no", "until your Registration Authority has renewed it")
	res, err = w.replacer(ca, &yes{}, nil).Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome, res.Text)
	w.replaced()
}

// refusingWishes is an authority that answers, and refuses to say what it wishes for.
type refusingWishes struct{ *reachable }

func (refusingWishes) Attributes(context.Context, *Transport) (Attributes, error) {
	return Attributes{}, &EnrolError{Kind: Rejected, Status: 403}
}

func TestACertificateThatIsNotYetValidIsAskedForAgainWhereTheOldPairIsGone(t *testing.T) {
	w := newWorld(t, withoutRoom)
	ca := &reachable{authority: w.ca}
	w.ca.order = func(_ *testcard.Profile, _ *any, o *testcard.IssueOptions) { o.NotBefore = theTime.Add(time.Hour) }
	res, err := w.replacer(ca, &yes{says: true}, nil).Renew(t.Context(), nil)
	ends(t, res, err, Resumable, "not valid yet")
	w.now = theTime.Add(2 * time.Hour)
	res, err = w.replacer(ca, &yes{}, nil).Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome, res.Text)
	w.replaced()
}

// A card that does not tell how much room it has is found full when the key is to be
// made; the next renewal may then ask.
func TestACardThatIsFoundFullMayBeRenewedOverItsOldPairNextTime(t *testing.T) {
	w := newWorld(t, func(u *setUp) { u.as = silentAboutRoom })
	ca, y := &reachable{authority: w.ca}, &yes{says: true}
	end := w.hook(func(e testcard.Event) error {
		if e.Op == testcard.OpGenerate && !e.After {
			return card.Errorf(card.Full, "generate", "the card's memory is full")
		}
		return nil
	})
	res, err := w.replacer(ca, y, nil).Renew(t.Context(), nil)
	ends(t, res, err, NotOffered, "no room")
	end()
	assert.Zero(t, y.asked)
	w.oldAlone()
	w.reseat()
	_, err = w.renewer().Finish(t.Context(), w.signer())
	require.NoError(t, err)

	plan, err := w.renewer().Plan(t.Context())
	require.NoError(t, err)
	assert.Equal(t, NotOffered, plan.Outcome)
	plan, err = w.replacer(ca, y, nil).Plan(t.Context())
	require.NoError(t, err)
	assert.True(t, plan.Outcome == Ready && plan.Destructive)

	// A no, or giving the renewal up, does not make it roomier.
	for _, end := range []func() (Result, error){
		func() (Result, error) { return w.replacer(ca, &yes{}, nil).Renew(t.Context(), nil) },
		func() (Result, error) { return w.renewer().Abandon(t.Context()) },
	} {
		_, err = w.replacer(ca, y, crashAt("after replace intent")).Renew(t.Context(), nil)
		require.Error(t, err)
		_, _ = end()
		w.oldAlone()
		w.reseat()
		_, err = w.renewer().Finish(t.Context(), w.signer())
		require.NoError(t, err)
		plan, err = w.replacer(ca, y, nil).Plan(t.Context())
		require.NoError(t, err)
		assert.True(t, plan.Outcome == Ready && plan.Destructive, plan.Text)
	}
	y.asked = 0
	res, err = w.replacer(ca, y, nil).Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome)
	assert.Equal(t, 1, y.asked)
	w.replaced()
}
