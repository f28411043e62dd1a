package renewal

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing"
)

// What an authority may issue and what it may not: the answer is judged before it
// is written, and the old pair stays.
func TestTheNewCertificateIsJudgedBeforeItIsWritten(t *testing.T) {
	type order = func(*testcard.Profile, *any, *testcard.IssueOptions)
	at := func(t time.Time) order {
		return func(_ *testcard.Profile, _ *any, o *testcard.IssueOptions) { o.NotBefore = t }
	}
	stray, err := testcard.CachedKeys()(2048) // the authentication key of every card here
	require.NoError(t, err)
	for _, x := range []struct {
		name   string
		order  order
		notice noticeConfig
		says   string
		judged bool // by the guard
	}{
		{name: "affected again", order: at(issued), says: "affected by the same problem", judged: true},
		{name: "affected once the notice takes effect", order: at(issued), notice: noticeConfig{blockFrom: "2031-06-01T00:00:00Z"}, says: "affected by the same problem", judged: true},
		{name: "expired", order: func(_ *testcard.Profile, _ *any, o *testcard.IssueOptions) {
			o.NotBefore, o.NotAfter = theTime.AddDate(-3, 0, 0), theTime.AddDate(-1, 0, 0)
		}, says: "has expired already", judged: true},
		{name: "not valid yet", order: at(theTime.Add(skew)), says: "not valid yet", judged: true},
		{name: "another profile", order: func(p *testcard.Profile, _ *any, _ *testcard.IssueOptions) { *p = testcard.Authentication },
			says: "not_for_signing", judged: true},
		{name: "another key", order: func(_ *testcard.Profile, pub *any, _ *testcard.IssueOptions) { *pub = stray.Public() },
			says: "another key"},
		{name: "another subject", order: func(_ *testcard.Profile, _ *any, o *testcard.IssueOptions) {
			o.RawSubject, o.Subject = nil, testcard.Subject("000000000000")
		}, says: "000000000000"},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, func(u *setUp) { u.notice = x.notice })
			w.ca.order = x.order
			res, err := w.renewer().Renew(t.Context(), nil)
			ends(t, res, err, NotOffered, x.says, "It is not used.", "The old certificate is still on the card.")
			assert.Equal(t, advisory.RegistrationAuthority, res.Remedies[0].Kind)
			assert.Equal(t, advisory.Reseat, res.Remedies[1].Kind)
			assert.Nil(t, res.New)
			assert.Empty(t, w.ops(testcard.OpWriteCertificate))
			w.oldAlone()

			events := []signing.Event{signing.EventHoldBegun, signing.EventJudgedNew, signing.EventGivenUp}
			if !x.judged {
				events = []signing.Event{signing.EventHoldBegun, signing.EventGivenUp}
			}
			assert.Equal(t, events, w.rec.events())

			// The card ends with a re-seat and its old certificate, judged as before.
			assert.True(t, w.refused().Has(guard.OnHold))
			res, err = w.renewer().Renew(t.Context(), nil)
			require.NoError(t, err)
			assert.Equal(t, ReseatCard, res.Outcome)
			w.reseat()
			res, err = w.renewer().Finish(t.Context(), w.signer())
			require.NoError(t, err)
			assert.Equal(t, GivenUp, res.Outcome)
			assert.Nil(t, w.hold())
			if x.notice.blockFrom == "" {
				v := w.refused()
				assert.True(t, v.Has(guard.Affected))
				assert.False(t, v.Has(guard.OnHold))
			} else {
				w.mustSign()
			}
			assert.Equal(t, 1, w.ca.asked())
		})
	}
}

func TestAnAuthorityThatIssuesAffectedCertificatesIsNotAskedAgain(t *testing.T) {
	w := newWorld(t)
	w.ca.order = func(_ *testcard.Profile, _ *any, o *testcard.IssueOptions) { o.NotBefore = issued }
	res, err := w.renewer().Renew(t.Context(), nil)
	ends(t, res, err, NotOffered)
	w.reseat()
	_, err = w.renewer().Finish(t.Context(), w.signer())
	require.NoError(t, err)
	w.person.take()
	before := len(w.ops(changes...))
	for range 2 {
		res, err = w.renewer().Renew(t.Context(), nil)
		ends(t, res, err, NotOffered, "must be renewed in person")
		assert.Equal(t, advisory.RegistrationAuthority, res.Remedies[0].Kind)
	}
	assert.Equal(t, 1, w.ca.asked())
	assert.Empty(t, w.person.take())
	assert.Len(t, w.ops(changes...), before)

	// Where it was something else, the person may try again.
	w = newWorld(t)
	w.ca.answer = func(int, Request) (Answer, error) { return Answer{}, &EnrolError{Kind: Rejected, Status: 403} }
	res, err = w.renewer().Renew(t.Context(), nil)
	ends(t, res, err, NotOffered, "said no", "403")
	w.reseat()
	_, err = w.renewer().Finish(t.Context(), w.signer())
	require.NoError(t, err)
	w.ca.answer = nil
	w.mustRenew()
}

func TestAnAuthorityWhoseClockIsALittleAheadIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.ca.order = func(_ *testcard.Profile, _ *any, o *testcard.IssueOptions) {
		o.NotBefore = theTime.Add(skew - time.Second)
	}
	w.mustRenew()
	w.newAlone()
}

// A certificate that the card could not sign with is not written, though the guard
// only warns of it: for logging in it would be taken, and the card would have none
// to sign with.
func TestACertificateThatTheCardCouldNotSignWithIsNotWritten(t *testing.T) {
	for _, both := range []bool{false, true} {
		w := newWorld(t)
		// By key, so that a certificate of another issuer can be judged.
		a, err := advisory.Parse(fmt.Appendf(nil, `{
		  "id": "one-card", "revision": 1, "state": "active", "title": "One card",
		  "published": "2031-05-02T09:00:00Z", "modified": "2031-05-02T09:00:00Z",
		  "match": {"any": [{"spki_sha256": ["%x"]}]},
		  "basis": "serial_list", "card_may_authenticate": true,
		  "remedies": [{"kind": "renew", "text": "Renew this card here."}], "message": "Please renew your smartcard."
		}`, testcard.SPKIHash(w.old)), nil)
		require.NoError(t, err)
		set, err := advisory.NewSet(1, theTime, a)
		require.NoError(t, err)
		w.g, err = guard.New(guard.Config{Advisories: set})
		require.NoError(t, err)
		w.ca.answer = func(_ int, r Request) (Answer, error) {
			csr, err := x509.ParseCertificateRequest(r.CSR)
			require.NoError(t, err)
			usage, ext := x509.KeyUsageContentCommitment, []x509.ExtKeyUsage(nil)
			if both {
				usage, ext = usage|x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			}
			c := selfSigned(t, csr.RawSubject, csr.PublicKey, usage, ext)
			require.True(t, w.g.Judge(guard.Snapshot{Certificate: c}, theTime).Decision.Permits(), "the guard alone does not see it")
			return Answer{Certificate: c.X509().Raw}, nil
		}
		if !both {
			w.mustRenew()
			continue
		}
		res, err := w.renewer().Renew(t.Context(), nil)
		ends(t, res, err, NotOffered, "not good enough", "could not sign")
		w.oldAlone()
	}
}

func TestErrorsOfTheAuthority(t *testing.T) {
	pending := theTime.Add(2 * time.Hour)
	for _, x := range []struct {
		name    string
		err     error
		answer  Answer
		outcome Outcome
		step    Step
		says    string
	}{
		{"away", &EnrolError{Kind: Unreachable, Err: errors.New("connection refused")}, Answer{}, Resumable, StepEnrol, "cannot be reached"},
		{"5xx", &EnrolError{Kind: Unavailable, Status: 503}, Answer{}, Resumable, StepEnrol, "busy"},
		{"HTML", &EnrolError{Kind: Malformed, Status: 200, Detail: "text/html"}, Answer{}, Resumable, StepEnrol, "not the renewal service"},
		{"4xx", &EnrolError{Kind: Rejected, Status: 403}, Answer{}, NotOffered, StepGivenUp, "said no"},
		{"wrong certificate", &EnrolError{Kind: WrongCertificate, Status: 200}, Answer{}, NotOffered, StepGivenUp, "not for this card"},
		{"neither certificate nor time", nil, Answer{}, Resumable, StepEnrol, "neither a certificate"},
		{"not a certificate", nil, Answer{Certificate: []byte("no")}, NotOffered, StepGivenUp, "not for this card"},
		{"decides later", nil, Answer{Pending: pending}, Pending, StepEnrol, "11:30 on 6 May 2031 UTC"},
		{"an error of no kind", errors.New("a bug in the Enroller"), Answer{}, Resumable, StepEnrol, "IT support"},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t)
			w.ca.answer = func(int, Request) (Answer, error) { return x.answer, x.err }
			res, err := w.renewer().Renew(t.Context(), nil)
			e := ends(t, res, err, x.outcome, x.says)
			assert.Equal(t, x.step, res.Step)
			if x.err != nil {
				assert.ErrorIs(t, e, x.err)
			}
			w.oldIsThere()
			assert.Empty(t, w.ops(testcard.OpWriteCertificate))
			if x.outcome == NotOffered {
				w.oldAlone()
				return
			}
			assert.True(t, w.refused().Has(guard.OnHoldRenewal))

			// Gone on with, the same bytes are sent.
			w.now = pending
			w.ca.answer = nil
			w.restart()
			w.mustRenew()
			require.Equal(t, 2, w.ca.asked())
			assert.Equal(t, w.ca.requests[0].CSR, w.ca.requests[1].CSR)
			w.newAlone()
		})
	}
}

func TestAnAuthorityThatDecidesLaterIsNotAskedBefore(t *testing.T) {
	w := newWorld(t)
	until := theTime.Add(time.Hour).In(time.FixedZone("CEST", 7200))
	w.ca.answer = func(n int, r Request) (Answer, error) {
		if n == 1 {
			return Answer{Pending: until}, nil
		}
		return w.ca.issue(r)
	}
	res, err := w.renewer().Renew(t.Context(), nil)
	ends(t, res, err, Pending)
	assert.True(t, until.Equal(res.Until))
	assert.Equal(t, time.UTC, res.Until.Location())
	w.person.take()

	w.restart()
	w.now = until.Add(-time.Second)
	res, err = w.renewer().Renew(t.Context(), nil)
	ends(t, res, err, Pending)
	assert.True(t, until.Equal(res.Until))
	assert.Equal(t, 1, w.ca.asked())
	assert.Empty(t, w.person.take(), "no passcode is asked for nothing")

	w.now = until
	w.mustRenew()
	require.Equal(t, 2, w.ca.asked())
	assert.Equal(t, w.ca.requests[0].CSR, w.ca.requests[1].CSR)
	assert.Equal(t, w.ca.requests[0].ID, w.ca.requests[1].ID)
	for _, r := range w.ca.requests {
		require.NotNil(t, r.Current)
		assert.True(t, r.Current.Equal(w.old))
	}
	assert.Equal(t, w.now, w.ca.requests[1].Now)
}

func TestALostAnswerIsAskedForWithTheSameBytesAndTheOrphanWrittenDown(t *testing.T) {
	w := newWorld(t)
	w.ca.answer = func(n int, r Request) (Answer, error) {
		a, err := w.ca.issue(r)
		if n == 1 {
			return Answer{}, &EnrolError{Kind: Unreachable, Detail: "the connection was lost within the answer"}
		}
		return a, err
	}
	res, err := w.renewer().Renew(t.Context(), nil)
	ends(t, res, err, Resumable)
	w.mustRenew()
	require.Len(t, w.ca.issued, 2)
	assert.Equal(t, w.ca.requests[0].CSR, w.ca.requests[1].CSR)
	assert.True(t, w.newAlone().Equal(w.ca.issued[1]))
	found := false
	for _, e := range w.journal() {
		found = found || e.Step == StepEnrol && e.Act == Note && bytes.Contains([]byte(e.Text), []byte("that nobody has"))
	}
	assert.True(t, found)
}

// prober is an authority that can be asked whether it answers.
type prober struct {
	*authority
	err error
}

func (p prober) Probe(context.Context, *Transport) error { return p.err }

func TestAnAuthorityThatDoesNotAnswerIsToldBeforeTheCardIsTouched(t *testing.T) {
	w := newWorld(t)
	away := prober{w.ca, &EnrolError{Kind: Unreachable, Detail: "connection refused"}}
	r, err := New(Config{Card: w.card, Guard: w.g, Recorder: w.rec, Enroller: away, AsOf: w.clock})
	require.NoError(t, err)
	res, err := r.Renew(t.Context(), nil)
	e := ends(t, res, err, Resumable, "did not begin", "cannot be reached")
	assert.ErrorIs(t, e, away.err)
	assert.Empty(t, res.Step)
	assert.Empty(t, w.ops(changes...))
	assert.Nil(t, w.hold())
	assert.Zero(t, w.ca.asked())
	w.oldAlone()
}

// confirmer is an authority that waits for the card's proof.
type confirmer struct {
	*authority
	w      *world
	fail   error
	proofs []Proof
}

func (c *confirmer) Confirm(_ context.Context, t *Transport, r Request, certificate []byte, p Proof) error {
	c.proofs = append(c.proofs, p)
	x, err := x509.ParseCertificate(certificate)
	if err != nil {
		return err
	}
	if err := x.CheckSignature(x509.SHA256WithRSA, p.Challenge, p.Signature); err != nil {
		return err
	}
	c.w.oldIsThere()
	if r.Current == nil || !r.Current.Equal(c.w.old) || t.AuthenticatesAs() == nil {
		return errors.New("not told which certificate is renewed, or by whom")
	}
	return c.fail
}

func TestAnAuthorityThatWaitsForTheProofGetsItBeforeTheOldPairGoes(t *testing.T) {
	w := newWorld(t)
	c := &confirmer{authority: w.ca, w: w, fail: &EnrolError{Kind: Unavailable, Status: 503}}
	renew := func() (Result, error) {
		r, err := New(Config{Card: w.card, Guard: w.g, Recorder: w.rec, Enroller: c, AsOf: w.clock})
		require.NoError(t, err)
		return r.Renew(t.Context(), nil)
	}
	res, err := renew()
	ends(t, res, err, Resumable, "busy")
	assert.Equal(t, StepConfirm, res.Step)
	w.oldIsThere()

	w.restart()
	c.fail = nil
	_, err = renew()
	require.NoError(t, err)
	require.Len(t, c.proofs, 2)
	for _, p := range c.proofs {
		assert.True(t, bytes.HasPrefix(p.Challenge, []byte(ChallengeDomain)))
	}
	assert.NotEqual(t, c.proofs[0].Challenge, c.proofs[1].Challenge)
	w.newAlone()

	// Where the authority says no, the new pair goes and the old one stays.
	w = newWorld(t)
	c = &confirmer{authority: w.ca, w: w, fail: &EnrolError{Kind: Rejected, Status: 409}}
	res, err = renew()
	ends(t, res, err, NotOffered, "said no")
	w.oldAlone()
}
