package signing

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/signing/eps"
)

// cardOfNow is newCard with certificates issued two years later.
func cardOfNow(t *testing.T) *testcard.Card {
	t.Helper()
	c, err := testcard.New(testcard.Config{Serial: "c0ffee", PIN: []byte(thePIN)})
	require.NoError(t, err)
	_, _, err = c.ProvisionPrescriber(theCA(), testcard.Prescriber{
		NotBefore: issued.AddDate(2, 0, 0), NotAfter: issued.AddDate(4, 0, 0), AuthenticationKey: authKey(), SigningKey: signingKey(),
	})
	require.NoError(t, err)
	return c
}

// notSimulated is a card that says it is a real one.
type notSimulated struct{ card.Token }

func (notSimulated) Simulated() bool { return false }

func TestNewWantsEverything(t *testing.T) {
	w := newWorld(t)
	g := builtin(t)
	live, err := guard.New(guard.Config{Live: true})
	require.NoError(t, err)
	done := w.open(w.sim.Token())
	require.NoError(t, done.Close())
	realCard := card.NewHandle(notSimulated{w.sim.Token()}, card.Options{})
	for _, c := range []struct {
		name string
		make func() (*Signer, error)
		says string
	}{
		{"no card", func() (*Signer, error) { return New(nil, g, w.rec) }, "no card; wanted one from Open"},
		{"a zero card", func() (*Signer, error) { return New(&Card{}, g, w.rec) }, "no card; wanted one from Open"},
		{"a closed card", func() (*Signer, error) { return New(done, g, w.rec) }, "the card was closed; open it again"},
		{"no guard", func() (*Signer, error) { return New(w.card, nil, w.rec) }, "no guard; wanted one from guard.New"},
		{"no recorder", func() (*Signer, error) { return New(w.card, g, nil) }, "no recorder; OpenRecord makes one"},
		{"a live guard and a simulated card", func() (*Signer, error) { return New(w.card, live, w.rec) }, "the guard is live and the card is simulated"},
		{"an instant for a live guard", func() (*Signer, error) { return NewAsOf(w.card, live, w.rec, w.clock) }, "the guard is live and the card is simulated"},
		{"an instant for a real card", func() (*Signer, error) { return NewAsOf(realCard, g, w.rec, w.clock) }, "an as-of instant is for simulated cards"},
		{"no clock", func() (*Signer, error) { return NewAsOf(w.card, g, w.rec, nil) }, "no clock; wanted the instants to judge at"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := c.make()
			assert.ErrorContains(t, err, c.says)
			assert.Nil(t, s)
		})
	}
}

func TestNewJudgesByTheClockOfTheMachine(t *testing.T) {
	w := newWorld(t)
	s, err := New(w.card, builtin(t), w.rec)
	require.NoError(t, err)
	before := time.Now()
	_, err = Sign(t.Context(), s, document(t, "one"))
	var refused *guard.Refused // the certificate ended in 2022
	require.ErrorAs(t, err, &refused)
	assert.True(t, refused.Verdict.Has(guard.Expired))
	assert.False(t, refused.Verdict.At.Before(before))
	assert.False(t, refused.Verdict.At.After(time.Now()))
	w.untouched()
}

// Every way in which the guard does not say yes: nothing reaches the key, nobody is
// asked for the passcode, and the record says why.
func TestWithoutAYesNothingReachesTheKey(t *testing.T) {
	for _, c := range []struct {
		name   string
		how    func(*setUp)
		before func(*world)
		reason guard.Reason
		none   bool // undecided in place of refused
	}{
		{name: "affected", before: func(w *world) { w.setClock(refusedAt) }, reason: guard.Affected},
		{name: "expired", before: func(w *world) { w.setClock(allowedAt.AddDate(3, 0, 0)) }, reason: guard.Expired},
		{name: "not yet valid", before: func(w *world) { w.setClock(issued.AddDate(-1, 0, 0)) }, reason: guard.NotYetValid},
		{name: "a zero guard", before: func(w *world) { w.signer.g = &guard.Guard{} }, reason: guard.Unspecified},
		{name: "card out", before: func(w *world) { w.sim.Remove() }, reason: guard.CardAbsent, none: true},
		{name: "card out at once", before: func(w *world) {
			w.sim.Hook(func(e testcard.Event) error {
				if e.Op == testcard.OpObjects {
					w.sim.Remove()
				}
				return nil
			})
		}, reason: guard.CardAbsent, none: true},
		{name: "card that cannot be read", before: func(w *world) {
			w.sim.Hook(func(e testcard.Event) error {
				if e.Op == testcard.OpObjects {
					return card.Errorf(card.Fault, "objects", "")
				}
				return nil
			})
		}, reason: guard.CardUnreadable, none: true},
		{name: "empty card", how: func(u *setUp) {
			u.sim, _ = testcard.New(testcard.Config{Serial: "c0ffee"})
		}, reason: guard.NoSigningCertificate, none: true},
		{name: "two signing certificates", before: func(w *world) {
			require.NoError(w.t, w.sim.Provision(testcard.Pair{ID: []byte{9}, Label: "second", Key: otherKey(),
				Certificate: signingCertificate(w.t, otherKey()).Raw}))
		}, reason: guard.SeveralCertificates, none: true},
		{name: "damaged certificate", how: func(u *setUp) {
			u.sim, _ = testcard.New(testcard.Config{Serial: "c0ffee"})
			_ = u.sim.Provision(testcard.Pair{ID: []byte{2}, Key: signingKey(), Certificate: []byte("no certificate")})
		}, reason: guard.CertificateDamaged, none: true},
		{name: "certificate for something else", how: func(u *setUp) {
			u.sim, _ = testcard.New(testcard.Config{Serial: "c0ffee"})
			other, _ := theCA().Issue(testcard.TLSServer, signingKey().Public(), testcard.IssueOptions{
				Subject: testcard.Subject("123456789012"), NotBefore: issued})
			_ = u.sim.Provision(testcard.Pair{ID: []byte{2}, Key: signingKey(), Certificate: other.Raw})
		}, reason: guard.NotForSigning},
	} {
		t.Run(c.name, func(t *testing.T) {
			var how []func(*setUp)
			if c.how != nil {
				how = append(how, c.how)
			}
			w := newWorld(t, how...)
			if c.before != nil {
				c.before(w)
			}
			s, err := Sign(t.Context(), w.signer, document(t, "one"))
			assert.Nil(t, s)
			var v guard.Verdict
			var refused *guard.Refused
			var undecided *guard.Undecided
			if c.none {
				require.ErrorAs(t, err, &undecided)
				v = undecided.Verdict
			} else {
				require.ErrorAs(t, err, &refused)
				v = refused.Verdict
			}
			assert.True(t, v.Has(c.reason), "%v", v)
			w.untouched()
			e := w.only(EventRefused)[0]
			assert.Equal(t, v.Decision, e.Verdict)
			assert.Contains(t, e.Reasons, c.reason)
			assert.NotEmpty(t, e.SHA256)
			assert.Empty(t, e.Cause)
			assert.True(t, e.Simulated)
		})
	}
}

func TestTheCertificateIsJudgedAfreshWhenItSigns(t *testing.T) {
	good := func(t *testing.T) []byte { return signingCertificate(t, otherKey()).Raw }
	ended := func(t *testing.T) []byte {
		c, err := theCA().Issue(testcard.Signing, otherKey().Public(), testcard.IssueOptions{
			Subject: testcard.Subject("123456789012"), NotBefore: issued.AddDate(-3, 0, 0), NotAfter: issued.AddDate(-1, 0, 0)})
		require.NoError(t, err)
		return c.Raw
	}
	swap := func(t *testing.T, c *testcard.Card, der []byte) {
		s, err := c.Token().Open(context.Background())
		require.NoError(t, err)
		require.NoError(t, s.Login(context.Background(), []byte(thePIN)))
		require.NoError(t, s.Destroy(context.Background(), card.CertificateObject, testcard.SigningID()))
		require.NoError(t, s.Close())
		require.NoError(t, c.Provision(testcard.Pair{ID: []byte{7}, Label: "swapped", Key: otherKey(), Certificate: der}))
	}
	t.Run("swapped after the check", func(t *testing.T) {
		w := newWorld(t)
		_, err := builtin(t).CheckAt(t.Context(), w.card, allowedAt)
		require.NoError(t, err)
		swap(t, w.sim, ended(t))
		_, err = Sign(t.Context(), w.signer, document(t, "one"))
		var refused *guard.Refused
		require.ErrorAs(t, err, &refused)
		assert.True(t, refused.Verdict.Has(guard.Expired))
		assert.Zero(t, w.sim.Signatures([]byte{7}))
		assert.Empty(t, w.person.requests())
	})
	t.Run("swapped while the signer opens the card", func(t *testing.T) {
		w := newWorld(t)
		_, err := builtin(t).CheckAt(t.Context(), w.card, allowedAt)
		require.NoError(t, err)
		w.sim.Hook(testcard.On(testcard.OpInfo, false, 1, func() error {
			w.sim.Hook(nil)
			swap(t, w.sim, ended(t))
			return nil
		}))
		_, err = Sign(t.Context(), w.signer, document(t, "one"))
		var refused *guard.Refused
		require.ErrorAs(t, err, &refused)
		assert.Zero(t, w.sim.Signatures([]byte{7}))
	})
	t.Run("put back with another certificate", func(t *testing.T) {
		w := newWorld(t)
		_, err := Sign(t.Context(), w.signer, document(t, "one"))
		require.NoError(t, err)
		swap(t, w.sim, ended(t))
		w.reseat()
		_, err = Sign(t.Context(), w.signer, document(t, "two"))
		var refused *guard.Refused
		require.ErrorAs(t, err, &refused)
		assert.True(t, refused.Verdict.Has(guard.Expired))
		assert.Zero(t, w.sim.Signatures([]byte{7}))
	})
	t.Run("put back with another good certificate", func(t *testing.T) {
		w := newWorld(t)
		_, err := Sign(t.Context(), w.signer, document(t, "one"))
		require.NoError(t, err)
		swap(t, w.sim, good(t))
		w.reseat()
		p := document(t, "two")
		s, err := Sign(t.Context(), w.signer, p)
		require.NoError(t, err)
		assert.True(t, verified(t, s, p))
		assert.Equal(t, otherKey().Public(), s.Certificate().PublicKey)
		assert.Len(t, w.person.requests(), 2)
	})
	t.Run("another key put in its place after the first signature", func(t *testing.T) {
		w := newWorld(t)
		_, err := Sign(t.Context(), w.signer, document(t, "one"))
		require.NoError(t, err)
		s, err := w.sim.Token().Open(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Login(t.Context(), []byte(thePIN)))
		for _, class := range []card.Class{card.CertificateObject, card.PublicKeyObject, card.PrivateKeyObject} {
			require.NoError(t, s.Destroy(t.Context(), class, testcard.SigningID()))
		}
		require.NoError(t, w.sim.Provision(testcard.Pair{ID: testcard.SigningID(), Key: otherKey(), Certificate: good(t)}))
		_, err = Sign(t.Context(), w.signer, document(t, "two"))
		assert.True(t, card.IsKind(err, card.BadSignature), "%v", err)
		p := document(t, "two")
		signed, err := Sign(t.Context(), w.signer, p)
		require.NoError(t, err, "the card is read again")
		assert.Equal(t, otherKey().Public(), signed.Certificate().PublicKey)
	})
}

// Each path of a signature leaves exactly its line.
func TestEveryPathIsRecorded(t *testing.T) {
	for _, c := range []struct {
		name    string
		before  func(*world)
		event   Event
		verdict guard.Decision
		reason  guard.Reason
		cause   string
	}{
		{name: "signed", event: EventSigned, verdict: guard.DecisionAllowed, reason: guard.AffectedEnded},
		{name: "refused", before: func(w *world) { w.setClock(refusedAt) },
			event: EventRefused, verdict: guard.DecisionRefused, reason: guard.Affected},
		{name: "undecided", before: func(w *world) { w.sim.Remove() },
			event: EventRefused, verdict: guard.DecisionUndecided, reason: guard.CardAbsent},
		{name: "wrong passcode", before: func(w *world) { w.person.pin = wrongPIN },
			event: EventNotSigned, verdict: guard.DecisionAllowed, reason: guard.AffectedEnded, cause: "passcode_incorrect"},
		{name: "no passcode", before: func(w *world) { w.person.err = errors.New("Escape was pressed") },
			event: EventNotSigned, verdict: guard.DecisionAllowed, reason: guard.AffectedEnded, cause: "passcode_cancelled"},
		{name: "card fault", before: func(w *world) {
			w.sim.Hook(testcard.On(testcard.OpSign, false, 1, func() error { return card.Errorf(card.Fault, "sign", "") }))
		}, event: EventNotSigned, verdict: guard.DecisionAllowed, reason: guard.AffectedEnded, cause: "fault"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			if c.before != nil {
				c.before(w)
			}
			p := document(t, "one")
			_, _ = Sign(t.Context(), w.signer, p)
			e := w.only(c.event)[0]
			assert.Equal(t, c.verdict, e.Verdict)
			assert.Contains(t, e.Reasons, c.reason)
			assert.Equal(t, c.cause, e.Cause)
			m, err := p.ToBeSigned()
			require.NoError(t, err)
			assert.Equal(t, digestOf(m), e.SHA256)
			assert.Equal(t, "eps-prepared", e.Document)
			assert.Equal(t, w.clock(), e.At)
			assert.Equal(t, time.UTC, e.Time.Location())
			assert.Len(t, e.ID, 32)
			assert.EqualValues(t, 1, e.RuleSet.Version)
			assert.True(t, e.Simulated)
			if c.reason != guard.CardAbsent {
				require.Len(t, e.Notices, 1)
				assert.NotEmpty(t, e.Notices[0].ID)
				assert.NotZero(t, e.Notices[0].Revision)
				assert.Equal(t, "c0ffee", e.Card)
				assert.Equal(t, w.certificate().Serial, e.Serial)
				assert.Equal(t, w.certificate().Issuer, e.Issuer)
				assert.Equal(t, issued, e.NotBefore)
			}
		})
	}
}

func TestWithoutItsRecordNoSignatureIsReleased(t *testing.T) {
	full := errors.New("the disk is full")
	w := newWorld(t)
	w.rec.fail = full
	s, err := Sign(t.Context(), w.signer, document(t, "one"))
	assert.ErrorIs(t, err, full)
	assert.ErrorContains(t, err, "the signature was thrown away")
	assert.Nil(t, s)
	assert.Equal(t, 1, w.signed())

	w.setClock(refusedAt)
	_, err = Sign(t.Context(), w.signer, document(t, "two"))
	assert.ErrorIs(t, err, full, "a refusal tells it too")
	var refused *guard.Refused
	assert.ErrorAs(t, err, &refused)
}

var _ Document[*eps.Signed] = (*eps.Prepared)(nil)

func TestAnECKeyIsRefusedBeforeThePasscode(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	w := newWorld(t, func(u *setUp) {
		u.sim, _ = testcard.New(testcard.Config{Serial: "c0ffee"})
		_, _, err := u.sim.ProvisionPrescriber(theCA(), testcard.Prescriber{NotBefore: issued, AuthenticationKey: authKey(), SigningKey: key})
		require.NoError(t, err)
	})
	_, err = Sign(t.Context(), w.signer, document(t, "one"))
	assert.ErrorIs(t, err, errUnsuitable)
	assert.ErrorContains(t, err, "it has an ECDSA key")
	w.untouched()
	assert.Equal(t, "unsuitable", w.only(EventNotSigned)[0].Cause)
}

func TestVerifyTakesTheCertificatesKeyAlone(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	digest := bytes.Repeat([]byte{7}, 32)
	value, err := ecdsa.SignASN1(rand.Reader, key, digest)
	require.NoError(t, err)
	assert.NoError(t, verify(key.Public(), 0, digest, value))
	value[len(value)-1] ^= 1
	assert.Error(t, verify(key.Public(), 0, digest, value))
	assert.ErrorContains(t, verify("a key", 0, digest, value), "keys of type string cannot be verified")
}
