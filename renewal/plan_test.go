package renewal

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
)

func TestAPlanChangesNothing(t *testing.T) {
	w := newWorld(t)
	before := len(w.sim.Trace())
	plan, err := w.renewer().Plan(t.Context())
	require.NoError(t, err)
	require.Equal(t, Ready, plan.Outcome)
	for _, e := range w.sim.Trace()[before:] {
		assert.Contains(t, []testcard.Op{testcard.OpOpen, testcard.OpInfo, testcard.OpObjects, testcard.OpClose}, e.Op)
	}
	assert.Empty(t, w.person.take())
	assert.Zero(t, w.ca.asked())
	assert.Empty(t, w.rec.events())
	_, err = os.Stat(w.dir.Path())
	assert.ErrorIs(t, err, os.ErrNotExist, "not even the state folder is made")

	// It says what will happen.
	text := plan.String()
	for _, s := range []string{"card one", "c0ffee", "makes: a new RSA key pair", "removes: the old certificate (serial " + plan.Old.Serial,
		"asks: your passcode", "asks: to take the card out", "needs: the card stays", "about 3 minutes"} {
		assert.Contains(t, text, s)
	}
	assert.True(t, plan.Verdict.Has(guard.Affected))
	b, err := json.Marshal(plan)
	require.NoError(t, err)
	assert.Contains(t, string(b), `"outcome":"ready"`)

	again, err := w.renewer().Plan(t.Context())
	require.NoError(t, err)
	assert.Equal(t, plan, again)
}

func TestPlans(t *testing.T) {
	key, err := testcard.CachedKeys()(2048)
	require.NoError(t, err)
	for _, x := range []struct {
		name    string
		how     func(*setUp)
		then    func(t *testing.T, w *world)
		outcome Outcome
		says    string
		first   advisory.RemedyKind
	}{
		{name: "nothing wrong", how: func(u *setUp) { u.good = true }, outcome: NotNeeded, says: "left alone"},
		{name: "affected soon", how: func(u *setUp) { u.notice.blockFrom = "2031-06-01T00:00:00Z" }, outcome: Ready},
		{name: "the notice wants it in person", how: func(u *setUp) { u.notice.mayNot = true }, outcome: NotOffered, says: "cards-of-may-2031", first: advisory.RegistrationAuthority},
		{name: "full", how: func(u *setUp) { u.card.Containers = 2 }, outcome: NotOffered, says: "no room", first: advisory.RegistrationAuthority},
		{name: "makes no keys", how: func(u *setUp) { u.card.NoGenerate = true }, outcome: NotOffered, says: "makes no new keys", first: advisory.RegistrationAuthority},
		{name: "expired", then: func(_ *testing.T, w *world) { w.now = issued.AddDate(3, 0, 0) }, outcome: NotOffered, says: "expired", first: advisory.RegistrationAuthority},
		{name: "no authentication certificate", then: func(_ *testing.T, w *world) { w.clear(testcard.AuthenticationID()) }, outcome: NotOffered, says: "log in", first: advisory.RegistrationAuthority},
		{name: "nothing to sign with", then: func(_ *testing.T, w *world) { w.clear(testcard.SigningID()) }, outcome: Refusal, says: "to sign prescriptions with"},
		{name: "two certificates to sign with", then: func(t *testing.T, w *world) {
			require.NoError(t, w.sim.Provision(testcard.Pair{ID: []byte{9}, Key: key, Certificate: certificate(t, key, issued).Raw}))
		}, outcome: Refusal, says: "more than one"},
		{name: "the two certificates name different people", then: func(t *testing.T, w *world) {
			w.clear(testcard.AuthenticationID())
			c, err := theCA().Issue(testcard.Authentication, key.Public(), testcard.IssueOptions{Subject: testcard.Subject("999999999999")})
			require.NoError(t, err)
			require.NoError(t, w.sim.Provision(testcard.Pair{ID: testcard.AuthenticationID(), Key: key, Certificate: c.Raw}))
		}, outcome: NotOffered, says: "different people", first: advisory.RegistrationAuthority},
		{name: "the card can no longer log in", then: func(t *testing.T, w *world) {
			w.clear(testcard.AuthenticationID())
			c, err := theCA().Issue(testcard.Authentication, key.Public(), testcard.IssueOptions{Subject: testcard.Subject(uid), NotBefore: theTime.AddDate(-2, 0, 0), NotAfter: theTime.AddDate(-1, 0, 0)})
			require.NoError(t, err)
			require.NoError(t, w.sim.Provision(testcard.Pair{ID: testcard.AuthenticationID(), Key: key, Certificate: c.Raw}))
		}, outcome: NotOffered, says: "no longer log in", first: advisory.RegistrationAuthority},
		{name: "a live guard before a simulated card", then: func(t *testing.T, w *world) {
			g, err := guard.New(guard.Config{Live: true})
			require.NoError(t, err)
			w.g = g
		}, outcome: Refusal, says: "cannot sign prescriptions for patients"},
		{name: "begun", then: func(_ *testing.T, w *world) { w.mustBegin(StepWrite) }, outcome: Ready, says: "Trying the new key"},
		{name: "renewed, not re-seated", then: func(_ *testing.T, w *world) { w.mustRenew() }, outcome: ReseatCard, says: "was renewed", first: advisory.Reseat},
		{name: "given up, not re-seated", then: func(t *testing.T, w *world) {
			w.mustBegin(StepKey)
			_, err := w.renewer().Abandon(t.Context())
			require.NoError(t, err)
		}, outcome: ReseatCard, says: "taken out", first: advisory.Reseat},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, func(u *setUp) {
				if x.how != nil {
					x.how(u)
				}
			})
			if x.then != nil {
				x.then(t, w)
			}
			before, asked := len(w.ops(changes...)), w.ca.asked()
			plan, err := w.renewer().Plan(t.Context())
			require.NoError(t, err)
			assert.Equal(t, x.outcome, plan.Outcome, plan.Text)
			assert.Contains(t, plan.String(), x.says)
			if x.first != "" {
				require.NotEmpty(t, plan.Remedies)
				assert.Equal(t, x.first, plan.Remedies[0].Kind)
			}
			if x.outcome == Ready {
				return
			}
			// Renew comes to the same, and touches nothing.
			w.person.take()
			res, err := w.renewer().Renew(t.Context(), nil)
			assert.Equal(t, x.outcome, res.Outcome)
			assert.Equal(t, plan.Text, res.Text)
			assert.Equal(t, x.outcome != NotNeeded && x.outcome != ReseatCard, err != nil)
			assert.Empty(t, w.person.take())
			assert.Len(t, w.ops(changes...), before)
			assert.Equal(t, asked, w.ca.asked())
		})
	}
}

func TestAWindowOfSelfRenewal(t *testing.T) {
	w := newWorld(t)
	end := w.old.NotAfter
	for _, x := range []struct {
		window time.Duration
		at     time.Time
		want   Outcome
	}{
		{0, theTime, Ready},
		{90 * 24 * time.Hour, theTime, NotOffered},
		{90 * 24 * time.Hour, end.AddDate(0, 0, -90).Add(-time.Second), NotOffered},
		{90 * 24 * time.Hour, end.AddDate(0, 0, -90), Ready},
	} {
		w.now = x.at
		r, err := New(Config{Card: w.card, Guard: w.g, Recorder: w.rec, Enroller: w.ca, Window: x.window, AsOf: w.clock})
		require.NoError(t, err)
		plan, err := r.Plan(t.Context())
		require.NoError(t, err)
		assert.Equal(t, x.want, plan.Outcome, "%s at %s: %s", x.window, x.at, plan.Text)
		if x.want == NotOffered {
			assert.Contains(t, plan.Text, "only from "+end.AddDate(0, 0, -90).UTC().Format("2 January 2006"))
			assert.Equal(t, advisory.RegistrationAuthority, plan.Remedies[0].Kind)
		}
	}
	_, err := New(Config{Card: w.card, Guard: w.g, Recorder: w.rec, Enroller: w.ca, Window: -1})
	assert.ErrorContains(t, err, "Config.Window")
}

// Nobody enters a passcode for a renewal that cannot begin.
func TestAPlanAsksWhetherTheAuthorityAnswers(t *testing.T) {
	for _, x := range []struct {
		name string
		err  error
		want Outcome
		says string
	}{
		{"it answers", nil, Ready, ""},
		{"no answer", &EnrolError{Kind: Unreachable}, Resumable, "cannot be reached"},
		{"busy", &EnrolError{Kind: Unavailable, Status: 503}, Resumable, "busy"},
		{"a page of a portal in between", &EnrolError{Kind: Malformed, Status: 200}, Resumable, "not the renewal service"},
		{"it wants the card to authenticate", &EnrolError{Kind: Rejected, Status: 401}, Ready, ""},
		{"it wants the card to authenticate in TLS", &EnrolError{Kind: Unreachable, Err: &net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}}, Ready, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t)
			ca := &reachable{authority: w.ca, probe: func(tr *Transport) error {
				assert.Nil(t, tr.AuthenticatesAs())
				return x.err
			}}
			r, err := New(Config{Card: w.card, Guard: w.g, Recorder: w.rec, Enroller: ca, AsOf: w.clock})
			require.NoError(t, err)
			plan, err := r.Plan(t.Context())
			require.NoError(t, err)
			assert.Equal(t, x.want, plan.Outcome)
			assert.Contains(t, plan.Text, x.says)
			if x.want == Ready {
				return
			}
			res, err := r.Renew(t.Context(), nil)
			e := ends(t, res, err, x.want, x.says, "not changed")
			assert.ErrorIs(t, e, x.err)
			assert.Empty(t, w.person.take())
			assert.Empty(t, journalOf(w))
			kinds := []advisory.RemedyKind{}
			for _, m := range res.Remedies {
				kinds = append(kinds, m.Kind)
			}
			assert.Equal(t, []advisory.RemedyKind{advisory.Renew, advisory.ITSupport, advisory.Portal, advisory.ServiceDesk, advisory.Paper}, kinds)
		})
	}
}

func TestAPlanThatIsStoppedIsNone(t *testing.T) {
	w := newWorld(t)
	for _, answer := range []error{context.Canceled, nil, &EnrolError{Kind: Unreachable}} {
		ctx, cancel := context.WithCancel(t.Context())
		ca := &reachable{authority: w.ca, probe: func(*Transport) error { cancel(); return answer }}
		r, err := New(Config{Card: w.card, Guard: w.g, Recorder: w.rec, Enroller: ca, AsOf: w.clock})
		require.NoError(t, err)
		_, err = r.Plan(ctx)
		assert.ErrorIs(t, err, context.Canceled, "the authority said %v", answer)
	}
}

func TestWaysOutAreInTheWordsOfTheNotice(t *testing.T) {
	full := newWorld(t, withoutRoom)
	plan, err := full.renewer().Plan(t.Context())
	require.NoError(t, err)
	texts := plan.String()
	for _, s := range []string{"Ask the Registration Authority of the notice.", "choose \"Renew Certificate\"", "service desk of the notice"} {
		assert.Contains(t, texts, s)
	}
	assert.Equal(t, advisory.Paper, plan.Remedies[len(plan.Remedies)-1].Kind)
	assert.Equal(t, "0300 303 5035", plan.Remedies[len(plan.Remedies)-2].Phone)

	// Where the card may not authenticate, the portal is no way.
	may := newWorld(t, func(u *setUp) { u.notice.mayNot = true })
	plan, err = may.renewer().Plan(t.Context())
	require.NoError(t, err)
	for _, r := range plan.Remedies {
		assert.NotEqual(t, advisory.Portal, r.Kind)
	}
}

// A journal that does not read may be moved away; the card can be used again.
func TestAHoldWithoutAJournalEnds(t *testing.T) {
	for _, step := range []Step{StepKey, StepProve, StepSwitch, StepRetire, StepReseat} {
		t.Run(string(step), func(t *testing.T) {
			w := newWorld(t)
			w.mustBegin(step)
			require.NoError(t, os.Remove(journalPath(w.dir.Path(), w.id)))
			w.restart()
			plan, err := w.renewer().Plan(t.Context())
			require.NoError(t, err)
			res, err := w.renewer().Renew(t.Context(), nil)
			if plan.Outcome != Ready {
				assert.Equal(t, plan.Outcome, res.Outcome)
			}
			if step == StepProve { // two pairs: nobody guesses
				ends(t, res, err, Refusal, "more than one")
				return
			}
			require.NoError(t, err)
			require.Equal(t, ReseatCard, res.Outcome, res.Text)
			assert.Equal(t, state.Reseat, w.hold().Phase)
			w.reseat()
			_, err = w.renewer().Finish(t.Context(), w.signer())
			require.NoError(t, err)
			w.mustSign()
		})
	}
}
