package renewal

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
)

func TestARoundOfOneReaderAndCardsChangedOneAfterTheOther(t *testing.T) {
	c := newCounter(t)
	c.affected("a", "c")
	c.good("b")
	c.readers("a")
	c.asks, c.pile = true, []string{"b", "c"}
	res := c.run()
	assert.Equal(t, []string{"a in reader 1: completed", "b in reader 1: not_needed", "c in reader 1: completed"}, told(res))
	assert.Equal(t, []string{"a renew", "a reseat", "c renew", "c reseat"}, c.prompts(), "each card is finished before the next begins")
	c.renewed("a", "c")
	c.untouched("b")
	require.Equal(t, 3, c.asked)
	for i, sofar := range c.sofar {
		assert.Equal(t, res.Cards[:i+1], sofar.Cards)
	}
	assert.Equal(t, 2, c.ca.asked())
}

func TestARoundOfSeveralReadersGoesInTheirOrder(t *testing.T) {
	c := newCounter(t)
	c.affected("a", "d", "c")
	c.good("b")
	c.readers("d", "", "b", "a", "c")
	res := c.run()
	assert.Equal(t, []string{"d in reader 1: completed", "b in reader 3: not_needed", "a in reader 4: completed", "c in reader 5: completed"}, told(res))
	assert.Equal(t, []string{"d renew", "d reseat", "a renew", "a reseat", "c renew", "c reseat"}, c.prompts())
	c.renewed("a", "c", "d")
	c.untouched("b")

	steps := map[string]int{}
	for _, e := range c.events {
		assert.Equal(t, "card "+e.Serial, e.Label)
		assert.NotEmpty(t, e.Text)
		if e.Serial == "b" {
			assert.Zero(t, e.Number+e.Of)
			assert.Equal(t, NotNeeded, e.Outcome)
			continue
		}
		assert.Equal(t, map[string]int{"d": 1, "a": 2, "c": 3}[e.Serial], e.Number)
		assert.Equal(t, 3, e.Of, "card %s", e.Serial)
		if e.Progress != nil {
			steps[e.Serial] = e.Progress.Index
			assert.Empty(t, e.Outcome)
		}
	}
	assert.Equal(t, map[string]int{"d": 11, "a": 11, "c": 11}, steps)
	assert.Equal(t, "1 of 3, Card card d, serial d, in reader 1: It is this card's turn.", c.events[0].String())
	assert.Contains(t, c.events[1].String(), "1 of 3, Card card d, serial d, in reader 1, step 1 of 11: ")
}

// What is put in while another card is worked on is not missed.
func TestACardThatIsChangedMeanwhileIsSeenTo(t *testing.T) {
	c := newCounter(t)
	c.affected("a", "b", "c")
	c.readers("a", "b")
	c.on = func(e RoundEvent) bool {
		if e.Serial == "b" && e.Progress != nil && e.Progress.Step == StepEnrol && c.is(0, "a") {
			c.put(0, "c")
		}
		return false
	}
	res := c.run()
	assert.Equal(t, []string{"a in reader 1: completed", "b in reader 2: completed", "c in reader 1: completed"}, told(res))
	c.renewed("a", "b", "c")
}

func TestACardOfAnotherPersonIsLeftAloneAndNamed(t *testing.T) {
	c := newCounter(t)
	c.affected("a", "c")
	c.others("b")
	c.readers("a", "b", "c")
	res := c.run()
	assert.Equal(t, []string{"a in reader 1: completed", "b in reader 2: wrong_card", "c in reader 3: completed"}, told(res))
	assert.Equal(t, textOthers, res.Cards[1].Text)
	assert.Equal(t, 2, c.events[0].Of, "it is not counted")
	c.untouched("b")
	c.renewed("a", "c")
}

// Where the application says whose cards they are, the first card decides nothing.
func TestTheUserIDSaysWhoseCardsTheyAre(t *testing.T) {
	c := newCounter(t)
	c.affected("a")
	c.others("b")
	c.readers("b", "a")
	r := c.round()
	r.UserID = uid
	res, err := r.Run(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"b in reader 1: wrong_card", "a in reader 2: completed"}, told(res))
	c.untouched("b")
	c.renewed("a")

	c = newCounter(t)
	c.affected("a")
	c.others("b")
	c.readers("b", "a")
	assert.Equal(t, []string{"b in reader 1: completed", "a in reader 2: wrong_card"}, told(c.run()), "without it, the first")
	c.untouched("a")
}

func TestAPersonIsToldByTheUserIDOrElseByTheSubject(t *testing.T) {
	of := func(cn string) string {
		key, err := testcard.CachedKeys()(2048)
		require.NoError(t, err)
		name := testcard.Subject(uid)
		name.CommonName = cn
		x, err := theCA().Issue(testcard.Signing, key.Public(), testcard.IssueOptions{Subject: name})
		require.NoError(t, err)
		c, err := guard.ParseCertificate(x.Raw)
		require.NoError(t, err)
		return personOf(c)
	}
	assert.Equal(t, "555000000001", of("555000000001_Ann_Other"))
	assert.Equal(t, of("555000000001_Ann_Other"), of("555000000001_Ann_Married"))
	assert.NotEqual(t, of("555000000001_Ann_Other"), of("555000000002_Ann_Other"))
	for _, cn := range []string{"Ann Other", "55500000000_Ann", "5550000000012_Ann", "x55500000001_Ann", "555000000001"} {
		assert.Contains(t, of(cn), cn)
		assert.Contains(t, of(cn), testcard.Organization)
	}
}

// The journal of a card with two signing certificates says that it is in the middle
// of a renewal; whose it is, is told by the certificate that it logs in with.
func TestARoundGoesOnWhereAnEarlierOneStopped(t *testing.T) {
	every, points := 7, 0
	if os.Getenv("RXGUARD_SOAK") != "" {
		every = 1
	}
	for at, more := 1, true; more; at += every {
		c := newCounter(t)
		c.affected("a", "b")
		c.others("z")
		c.readers("a", "z", "b")
		n := 0
		more = false
		crash := func(string) error {
			if n++; n >= at {
				more = true
				return errCrash
			}
			return nil
		}
		for _, s := range c.seats {
			s.Renewer.crash = crash
		}
		res, err := c.round().Run(t.Context())
		if !more {
			require.NoError(t, err)
			break
		}
		points++
		require.ErrorIs(t, err, errCrash)
		require.NotEmpty(t, res.Stopped)
		c.prompts()
		c.restart()
		require.Equal(t, []string{"a", "z", "b"}, serials(c.run()), "point %d", at)
		c.renewed("a", "b")
		c.untouched("z")
		require.LessOrEqual(t, len(c.prompts()), 4, "point %d", at)
	}
	t.Logf("killed at %d points, each %dth (make soak: each)", points, every)
	assert.Greater(t, points*every, 40)
}

func serials(r RoundResult) (list []string) {
	for _, c := range r.Cards {
		list = append(list, c.Serial)
	}
	return list
}

func TestACardPulledInTheMiddleIsGoneOnWithWhenItIsPutInAgain(t *testing.T) {
	pulling := func() *counter {
		c := newCounter(t)
		c.affected("a", "b")
		c.readers("a", "b")
		c.cards["a"].Hook(testcard.On(testcard.OpGenerate, true, 1, func() error { c.take(0); return nil }))
		return c
	}
	c := pulling()
	res, err := c.round().Run(t.Context())
	var re *RoundError
	require.ErrorAs(t, err, &re)
	assert.Equal(t, res, re.Result)
	assert.True(t, card.IsKind(err, card.Absent), "%v", err)
	assert.Equal(t, []string{"a in reader 1: resumable", "b in reader 2: completed"}, told(res), "the others are not kept waiting")
	assert.Empty(t, res.Stopped)
	assert.Equal(t, advisory.Reseat, res.Cards[0].Remedies[0].Kind)
	assert.Equal(t, StepKey, res.Cards[0].Step)
	c.renewed("b")

	c = pulling()
	c.asks, c.pile = true, []string{"a"}
	res = c.run()
	assert.Equal(t, []string{"a in reader 1: completed", "b in reader 2: completed"}, told(res), "in the order in which they were first seen")
	assert.Equal(t, Resumable, c.sofar[0].Cards[0].Outcome)
	c.renewed("a", "b")
	for _, e := range c.events {
		if e.Serial == "a" && e.Number > 0 {
			assert.Equal(t, 1, e.Number)
		}
	}

	// Without having been told of it, the person is not asked again.
	c = pulling()
	back := c.on
	c.on = func(e RoundEvent) bool {
		if e.Serial == "a" && e.Outcome == Resumable {
			c.put(0, "a")
		}
		return back != nil && back(e)
	}
	res, err = c.round().Run(t.Context())
	require.Error(t, err)
	assert.Equal(t, []string{"a in reader 1: resumable", "b in reader 2: completed"}, told(res))
	assert.Equal(t, []string{"a renew", "b renew", "b reseat"}, c.prompts())
}

func TestALockedCardDoesNotStopTheOthers(t *testing.T) {
	c := newCounter(t)
	c.affected("a", "b")
	c.readers("a", "b")
	lock(t, c.cards["a"])
	res, err := c.round().Run(t.Context())
	require.Error(t, err)
	assert.True(t, card.IsKind(err, card.PINLocked), "%v", err)
	assert.Equal(t, []string{"a in reader 1: resumable", "b in reader 2: completed"}, told(res))
	assert.Equal(t, []string{"b renew", "b reseat"}, c.prompts(), "a locked card's passcode is not asked")
	assert.Equal(t, advisory.RegistrationAuthority, res.Cards[0].Remedies[0].Kind)
	c.unchanged("a")
	c.renewed("b")
}

// lock spends a card's tries.
func lock(t testing.TB, sim *testcard.Card) {
	t.Helper()
	for sim.TriesLeft() > 0 {
		s, err := sim.Token().Open(context.Background())
		require.NoError(t, err)
		require.Error(t, s.Login(context.Background(), []byte("zyxzyx")))
		require.NoError(t, s.Close())
	}
}

func TestAWrongPasscodeIsAskedAgainOnlyWhenTheCardIsPutInAgain(t *testing.T) {
	c := newCounter(t)
	c.affected("a", "b")
	c.readers("a", "b")
	c.pins["a"] = "zyxzyx"
	c.asks = true
	res, err := c.round().Run(t.Context())
	require.Error(t, err)
	assert.True(t, card.IsKind(err, card.PINIncorrect), "%v", err)
	assert.Equal(t, []string{"a in reader 1: resumable", "b in reader 2: completed"}, told(res))
	assert.Equal(t, []string{"a renew", "b renew", "b reseat"}, c.prompts())
	assert.Equal(t, 2, c.cards["a"].TriesLeft())

	// At the re-seat too.
	c.pins, c.pile = map[string]string{}, []string{"a", "a"}
	c.prompt = func(r signing.PINRequest) {
		c.pins = map[string]string{}
		if r.Purpose == signing.ToReseat && c.asked == 2 {
			c.pins["a"] = "zyxzyx"
		}
	}
	res = c.run()
	assert.Equal(t, []string{"a in reader 1: completed", "b in reader 2: not_needed"}, told(res))
	assert.Equal(t, []string{"a renew", "a reseat"}, c.prompts())
}

func TestAServiceThatDoesNotAnswerEndsTheRoundBeforeMorePasscodesAreAsked(t *testing.T) {
	for _, x := range []struct {
		name  string
		kind  EnrolKind
		probe bool
		step  Step
	}{
		{"unreachable before the card is touched", Unreachable, true, ""},
		{"unreachable", Unreachable, false, StepEnrol},
		{"busy", Unavailable, false, StepEnrol},
		{"something else answers", Malformed, false, StepEnrol},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := newCounter(t)
			c.affected("a", "b", "n")
			c.good("d")
			c.others("o")
			c.asks, c.pile = true, []string{"n"}
			down := &EnrolError{Kind: x.kind}
			if x.probe {
				c.enrol = &probed{c.ca, down}
			}
			c.ca.answer = func(int, Request) (Answer, error) { return Answer{}, down }
			c.readers("a", "b", "d", "o")
			res, err := c.round().Run(t.Context())
			var ee *EnrolError
			require.ErrorAs(t, err, &ee)
			assert.Equal(t, []string{"a in reader 1: resumable", "b in reader 2: resumable", "d in reader 3: not_needed", "o in reader 4: wrong_card"}, told(res))
			assert.Equal(t, enrolAdvice[x.kind], res.Stopped)
			assert.Equal(t, x.step, res.Cards[0].Step)
			assert.Contains(t, res.Cards[1].Text, "did not begin")
			assert.NotEmpty(t, res.Cards[1].Remedies)
			if x.probe {
				assert.Empty(t, c.prompts())
			} else {
				assert.Equal(t, []string{"a renew"}, c.prompts())
			}
			assert.Zero(t, c.asked, "no card is asked for in vain")
			c.untouched("b", "d", "o")

			c.ca.answer, c.enrol = nil, nil
			c.restart()
			res = c.run()
			assert.Equal(t, []string{"a in reader 1: completed", "b in reader 2: completed", "d in reader 3: not_needed", "o in reader 4: wrong_card", "n in reader 1: completed"}, told(res))
		})
	}
}

// probed is an authority that is asked first whether it answers.
type probed struct {
	*authority
	err error
}

func (p *probed) Probe(context.Context, *Transport) error { return p.err }

// What is wrong with one request is no fault of the others.
func TestACardThatTheServiceRefusesDoesNotStopTheOthers(t *testing.T) {
	c := newCounter(t)
	c.affected("a", "b", "p")
	c.readers("a", "p", "b")
	until := theTime.Add(time.Hour)
	c.ca.answer = func(n int, r Request) (Answer, error) {
		switch n {
		case 1:
			return Answer{}, &EnrolError{Kind: Rejected, Status: 403}
		case 2:
			return Answer{Pending: until}, nil
		}
		return c.ca.issue(r)
	}
	res, err := c.round().Run(t.Context())
	require.Error(t, err)
	assert.Equal(t, []string{"a in reader 1: not_offered", "p in reader 2: pending", "b in reader 3: completed"}, told(res))
	assert.Empty(t, res.Stopped)
	assert.Equal(t, until, res.Cards[1].Until)
	assert.Equal(t, advisory.RegistrationAuthority, res.Cards[0].Remedies[0].Kind)
	c.renewed("b")
	c.prompts()

	res, err = c.round().Run(t.Context())
	require.Error(t, err)
	assert.Equal(t, Pending, res.Cards[1].Outcome)
	assert.Equal(t, 3, c.ca.asked(), "not before the authority's time")
	assert.NotContains(t, c.prompts(), "p renew")
}

// An authority that answers, and does not know one of the cards, knows the others.
func TestACardThatTheServiceDoesNotKnowDoesNotStopTheOthers(t *testing.T) {
	c := newCounter(t)
	c.affected("a", "b")
	var unknown *x509.Certificate
	c.enrol = &reachable{authority: c.ca, probe: func(tr *Transport) error {
		as := tr.AuthenticatesAs()
		if unknown == nil {
			unknown = as // the first card
		}
		if as == nil || !as.Equal(unknown) {
			return nil
		}
		return &EnrolError{Kind: Rejected, Status: 403}
	}}
	c.readers("a", "b")
	res, err := c.round().Run(t.Context())
	require.Error(t, err)
	assert.Equal(t, []string{"a in reader 1: resumable", "b in reader 2: completed"}, told(res))
	assert.Empty(t, res.Stopped)
	assert.Equal(t, advisory.RegistrationAuthority, res.Cards[0].Remedies[0].Kind)
}

func TestACardThatCannotBeRenewedHereIsNamedAndTheRoundGoesOn(t *testing.T) {
	c := newCounter(t)
	c.affected("b")
	c.make("full", issued, func(cfg *testcard.Config, _ *testcard.Prescriber) { cfg.Containers = 2 })
	blank, err := testcard.New(testcard.Config{Serial: "blank", PIN: []byte(thePIN)})
	require.NoError(t, err)
	blank.Remove()
	c.cards["blank"] = blank
	c.readers("full", "blank", "b")
	res, err := c.round().Run(t.Context())
	require.Error(t, err)
	assert.Equal(t, []string{"full in reader 1: not_offered", "blank in reader 2: refused", "b in reader 3: completed"}, told(res))
	for _, x := range res.Cards[:2] {
		assert.NotEmpty(t, x.Remedies)
		assert.NotEmpty(t, x.Text)
		assert.Error(t, x.Err)
	}
	assert.NoError(t, res.Cards[2].Err)
	c.untouched("full", "blank")
}

func TestAnotherCardPutBackWaitsForTheRightOne(t *testing.T) {
	c := newCounter(t)
	c.affected("a", "b", "x")
	c.readers("a")
	c.asks, c.pile = true, []string{"b"}
	var said []string
	c.on = func(e RoundEvent) bool {
		if e.Serial != "a" || e.Progress != nil {
			return false
		}
		said = append(said, string(e.Outcome))
		switch {
		case e.Outcome == ReseatCard:
			c.put(0, "b")
			return true
		case e.Outcome == WrongCard && len(said) == 3:
			assert.Contains(t, e.Text, "serial a")
			c.put(0, "x")
		case e.Outcome == WrongCard:
			c.take(0)
			c.put(0, "a")
		}
		return false
	}
	res := c.run()
	assert.Equal(t, []string{"ready", "reseat", "wrong_card", "wrong_card", "completed"}, said)
	assert.Equal(t, []string{"a in reader 1: completed", "b in reader 1: completed"}, told(res))
	assert.Equal(t, []string{"a renew", "a reseat", "b renew", "b reseat"}, c.prompts(), "the wrong card's passcode is not asked")
	c.untouched("x")
	c.renewed("a", "b")
}

// Cards that do not say their serial numbers are told apart by their certificates.
func TestCardsWithoutSerialNumbersAreNotTakenForEachOther(t *testing.T) {
	c := newCounter(t)
	c.as = serialless
	c.affected("a", "b")
	c.readers("b")
	assert.Equal(t, []Outcome{ReseatCard}, func() (list []Outcome) {
		c.on = func(e RoundEvent) bool {
			if e.Outcome == ReseatCard {
				list = append(list, e.Outcome)
				c.put(0, "b")
			}
			return true
		}
		c.run()
		return list
	}(), "b is renewed")
	c.renewed("b")

	c.put(0, "a")
	var said []Outcome
	c.on = func(e RoundEvent) bool {
		if e.Progress == nil {
			said = append(said, e.Outcome)
		}
		switch e.Outcome {
		case ReseatCard:
			c.put(0, "b")
		case WrongCard:
			c.put(0, "a")
		}
		return true
	}
	res := c.run()
	assert.Equal(t, []Outcome{Ready, ReseatCard, WrongCard, Completed}, said)
	require.Len(t, res.Cards, 1)
	c.renewed("a")
}

func TestACardSeenTwiceIsRenewedOnce(t *testing.T) {
	c := newCounter(t)
	c.affected("a")
	c.good("g")
	c.readers("a")
	c.asks, c.pile = true, []string{"a", "g", "g", "a"}
	res := c.run()
	assert.Equal(t, []string{"a in reader 1: completed", "g in reader 1: not_needed"}, told(res))
	assert.Equal(t, []string{"a renew", "a reseat"}, c.prompts())
	assert.Equal(t, 5, c.asked)
	c.renewed("a")
	again := 0
	for _, e := range c.events {
		if strings.HasPrefix(e.Text, "This card was seen to before.") {
			again++
			assert.Contains(t, []Outcome{Completed, NotNeeded}, e.Outcome)
		}
	}
	assert.Equal(t, 3, again, "and the person is told")
}

// Between the look at a card and its renewal another one can be put in.
func TestACardThatIsSwappedAtTheLastMomentIsLookedAtFirst(t *testing.T) {
	c := newCounter(t)
	c.affected("a", "b")
	c.others("o")
	c.readers("a", "b")
	c.asks, c.pile = true, []string{"a"}
	swapped := false
	c.on = func(e RoundEvent) bool {
		if e.Serial == "a" && e.Outcome == Ready && !swapped {
			swapped = true
			c.put(0, "o")
		}
		return false
	}
	res := c.run()
	assert.Equal(t, []string{"b in reader 2: completed", "o in reader 1: wrong_card", "a in reader 1: completed"}, told(res))
	c.untouched("o")
	for _, e := range c.events {
		if e.Outcome == Completed {
			assert.Equal(t, map[string]int{"b": 1, "a": 2}[e.Serial], e.Number, "it counts when it is renewed")
		}
	}
}

// An application may have opened the same reader twice: by its name, and for whatever
// card there is.
func TestACardInTwoSeatsIsRenewedOnce(t *testing.T) {
	for _, wrong := range []bool{false, true} {
		c := newCounter(t)
		c.affected("a", "b")
		c.readers("a")
		c.slots = append(c.slots, c.slots[0])
		c.restart()
		c.in = append(c.in, "")
		c.asks, c.pile = true, []string{"b"}
		if wrong {
			c.pins["a"] = "zyxzyx"
		}
		res, err := c.round().Run(t.Context())
		want := []string{"a renew", "a reseat", "b renew", "b reseat"}
		if wrong {
			want = slicesDelete(want, 1)
		}
		require.Equal(t, wrong, err != nil, "%v", err)
		assert.Equal(t, []string{"a", "b"}, serials(res))
		assert.Equal(t, want, c.prompts())
	}
}

func slicesDelete(s []string, i int) []string {
	return append(append([]string{}, s[:i]...), s[i+1:]...)
}

func TestARoundIsCancelledAnywhere(t *testing.T) {
	for _, x := range []struct {
		name    string
		when    func(c *counter, cancel func())
		cards   []string
		renewed []string
	}{
		{"before it begins", func(_ *counter, cancel func()) { cancel() },
			[]string{"a in reader 1: resumable", "b in reader 2: resumable", "g in reader 3: not_needed"}, nil},
		{"while the passcode is asked", func(c *counter, cancel func()) { c.prompt = func(signing.PINRequest) { cancel() } },
			[]string{"a in reader 1: resumable", "b in reader 2: resumable", "g in reader 3: not_needed"}, nil},
		{"in the middle of a card", func(c *counter, cancel func()) {
			c.on = func(e RoundEvent) bool {
				if e.Progress != nil && e.Progress.Step == StepWrite {
					cancel()
				}
				return false
			}
		}, []string{"a in reader 1: resumable", "b in reader 2: resumable", "g in reader 3: not_needed"}, nil},
		{"while the card is to be taken out", func(c *counter, cancel func()) {
			c.on = func(e RoundEvent) bool {
				if e.Outcome == ReseatCard {
					cancel()
				}
				return true
			}
		}, []string{"a in reader 1: reseat", "b in reader 2: resumable", "g in reader 3: not_needed"}, nil},
		{"while another card is in its place", func(c *counter, cancel func()) {
			c.affected("x")
			c.on = func(e RoundEvent) bool {
				switch e.Outcome {
				case ReseatCard:
					c.put(0, "x")
				case WrongCard:
					cancel()
				}
				return true
			}
		}, []string{"a in reader 1: reseat", "x in reader 1: resumable", "b in reader 2: resumable", "g in reader 3: not_needed"}, nil},
		{"between two cards", func(c *counter, cancel func()) {
			c.on = func(e RoundEvent) bool {
				if e.Outcome == Completed {
					cancel()
				}
				return false
			}
		}, []string{"a in reader 1: completed", "b in reader 2: resumable", "g in reader 3: not_needed"}, []string{"a"}},
		{"while the next card is asked for", func(c *counter, cancel func()) { c.asks, c.away = true, cancel },
			[]string{"a in reader 1: completed", "b in reader 2: completed", "g in reader 3: not_needed"}, []string{"a", "b"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := newCounter(t)
			c.affected("a", "b")
			c.good("g")
			c.readers("a", "b", "g")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			x.when(c, cancel)
			res, err := c.round().Run(ctx)
			require.ErrorIs(t, err, context.Canceled)
			var re *RoundError
			require.ErrorAs(t, err, &re)
			assert.Equal(t, x.cards, told(res))
			assert.Equal(t, "It was stopped on request.", res.Stopped)
			c.renewed(x.renewed...)
			c.untouched("g")

			c.prompt, c.on, c.asks, c.away = nil, nil, false, nil
			c.put(0, "a")
			res = c.run()
			assert.Equal(t, []string{"a", "b", "g"}, serials(res))
			c.renewed("a", "b")
		})
	}
}

func TestTheQuestionForTheNextCardCanFail(t *testing.T) {
	c := newCounter(t)
	c.affected("a")
	c.readers("a")
	r := c.round()
	broken := errors.New("the window was closed")
	r.NextCard = func(context.Context, RoundResult) error { return broken }
	res, err := r.Run(t.Context())
	require.ErrorIs(t, err, broken)
	assert.NotEmpty(t, res.Stopped)
	assert.Equal(t, []string{"a in reader 1: completed"}, told(res))

	// One that does not return is left behind when a card is put in.
	c = newCounter(t)
	c.affected("a", "b")
	c.readers("a")
	r = c.round()
	asked := 0
	r.NextCard = func(context.Context, RoundResult) error {
		if asked++; asked == 1 {
			c.put(0, "b")
			<-t.Context().Done() // deaf to its context
		}
		return nil
	}
	res, err = r.Run(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"a in reader 1: completed", "b in reader 1: completed"}, told(res))
}

func TestARoundWithoutACard(t *testing.T) {
	c := newCounter(t)
	c.affected("a")
	c.readers("", "")
	res, err := c.round().Run(t.Context())
	require.ErrorIs(t, err, guard.ErrNoCard)
	assert.Equal(t, "No card was put in.\n", res.String())
	b, err := json.Marshal(res)
	require.NoError(t, err)
	assert.JSONEq(t, `{"cards": []}`, string(b))

	c.asks, c.pile = true, []string{"a"}
	assert.Equal(t, []string{"a in reader 1: completed"}, told(c.run()), "the person is asked for the first card too")
	c.asks, c.pile = true, nil
	c.take(0)
	assert.Empty(t, c.run().Cards, "that was all, the person said")
}

func TestARecordThatCannotBeKeptEndsTheRound(t *testing.T) {
	c := newCounter(t)
	c.affected("a", "b")
	c.readers("a", "b")
	full := errors.New("the record is full")
	c.rec.fail = func(signing.Entry) error { return full }
	res, err := c.round().Run(t.Context())
	require.ErrorIs(t, err, full)
	assert.Equal(t, []string{"a in reader 1: resumable", "b in reader 2: resumable"}, told(res))
	assert.Equal(t, []string{"a renew"}, c.prompts())
	c.unchanged("a", "b")
}

func TestARoundSaysWhatIsWrongWithItsFields(t *testing.T) {
	c := newCounter(t)
	c.affected("a")
	c.readers("a")
	s := c.seats[0]
	for _, x := range []struct {
		name string
		r    *Round
		says string
	}{
		{"nil", nil, "Seats is empty"},
		{"no seats", &Round{}, "Seats is empty"},
		{"no renewer", &Round{Seats: []Seat{s, {Signer: s.Signer}}}, "Seats[1] has no Renewer"},
		{"a zero renewer", &Round{Seats: []Seat{{Signer: s.Signer, Renewer: &Renewer{}}}}, "Seats[0] has no Renewer"},
		{"no signer", &Round{Seats: []Seat{{Renewer: s.Renewer}}}, "Seats[0] has no Signer"},
		{"one card twice", &Round{Seats: []Seat{s, s}}, "Seats[1] has the same card"},
		{"no user id", &Round{Seats: []Seat{s}, UserID: "12345"}, `UserID is "12345"; wanted 12 digits`},
	} {
		t.Run(x.name, func(t *testing.T) {
			res, err := x.r.Run(t.Context())
			require.ErrorContains(t, err, x.says)
			assert.True(t, strings.HasPrefix(err.Error(), "renewal: "))
			assert.Empty(t, res)
		})
	}
	c.untouched("a")
}

func TestTheSummaryOfARound(t *testing.T) {
	c := newCounter(t)
	c.affected("a", "l")
	c.good("g")
	c.others("o")
	c.readers("a", "g", "o", "l")
	lock(t, c.cards["l"])
	res, err := c.round().Run(t.Context())
	require.Error(t, err)
	assert.Equal(t, `Renewed:
  Card card a, serial a, in reader 1: The card was renewed and put back in. It can sign again.
Left alone:
  Card card g, serial g, in reader 2: Nothing asks for the renewal of this card. It was left alone.
  Card card o, serial o, in reader 3: This card is not in the same person's name. It was left alone.
Still to be done:
  Card card l, serial l, in reader 4: The renewal did not begin. The card was not changed. The card is locked: no tries are left for its passcode: contact your Registration Authority to have it unlocked.
    1. Ask the Registration Authority of the notice.
    2. Call the service desk of the notice.
    3. If a patient is waiting, write a paper prescription.
`, res.String())
	assert.Contains(t, err.Error(), "renewal: 1 of 4 cards still to be done; the first: ")

	b, err := json.Marshal(res)
	require.NoError(t, err)
	var back struct {
		Cards []struct {
			Reader, Card, Label, Outcome, Text string
			Remedies                           []struct{ Kind, Text string }
			New                                *struct{ Serial string }
		}
	}
	require.NoError(t, json.Unmarshal(b, &back))
	require.Len(t, back.Cards, 4)
	assert.Equal(t, "reader 1", back.Cards[0].Reader)
	assert.Equal(t, "a", back.Cards[0].Card)
	assert.Equal(t, "completed", back.Cards[0].Outcome)
	assert.NotEmpty(t, back.Cards[0].New.Serial)
	assert.Equal(t, "registration_authority", back.Cards[3].Remedies[0].Kind)

	stopped := RoundResult{Stopped: "It was stopped on request."}
	assert.Equal(t, "This ended early. It was stopped on request.\n", stopped.String())
	anonymous := RoundResult{Cards: []CardResult{{Reader: "reader 9", Result: Result{Outcome: Resumable, Text: "The card could not be read."}}, {Result: Result{Outcome: Completed, Serial: "7", Text: "Done."}}}}
	assert.Equal(t, "Renewed:\n  The card, serial 7: Done.\nStill to be done:\n  A card, in reader 9: The card could not be read.\n", anonymous.String())
}
