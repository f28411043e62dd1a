package renewal

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
)

// mustBegin renews until a step is done, and stops there.
func (w *world) mustBegin(last Step) {
	w.t.Helper()
	r := w.renewer()
	r.crash = func(point string) error {
		if point == "after "+string(last)+" done" {
			return errors.New("stopped here")
		}
		return nil
	}
	res, err := r.Renew(w.t.Context(), nil)
	ends(w.t, res, err, Resumable, "stopped here")
}

// selfSigned is a certificate of a usage that the test CA does not issue.
func selfSigned(t *testing.T, subject []byte, pub crypto.PublicKey, usage x509.KeyUsage, ext []x509.ExtKeyUsage) *guard.Certificate {
	t.Helper()
	key, err := testcard.CachedKeys()(2048)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(7), RawSubject: subject, NotBefore: theTime.Add(-time.Hour), NotAfter: theTime.AddDate(2, 0, 0), KeyUsage: usage, ExtKeyUsage: ext}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	require.NoError(t, err)
	c, err := guard.ParseCertificate(der)
	require.NoError(t, err)
	return c
}

// TestTheOldPairStaysUntilTheNewOneIsProved pulls the card, and breaks it, before
// and after each operation of a renewal. Whatever happened, the old key and
// certificate are there until the journal says that the new pair signed and
// verified; then the renewal goes on to its end.
func TestTheOldPairStaysUntilTheNewOneIsProved(t *testing.T) {
	t.Parallel()
	count := func(w *world) (n int) {
		end := w.hook(func(testcard.Event) error { n++; return nil })
		w.mustRenew()
		end()
		return n
	}
	events := count(newWorld(t))
	require.Greater(t, events, 40)
	pulled, proved := 0, 0
	for _, fault := range []string{"pulled", "broken"} {
		for at := 1; at <= events; at++ {
			w := newWorld(t)
			r := w.renewer()
			n, what := 0, ""
			end := w.hook(func(e testcard.Event) error {
				if n++; n != at {
					return nil
				}
				what = fmt.Sprintf("%s at event %d of %d, %s, after %t", fault, at, events, e.Op, e.After)
				if fault == "pulled" {
					w.sim.Remove()
					return nil
				}
				return card.Errorf(card.Fault, string(e.Op), "broken by the test")
			})
			res, err := r.Renew(t.Context(), nil)
			end()
			if err != nil {
				require.Equal(t, Resumable, res.Outcome, "%s: %v", what, err)
				pulled++
			}
			done := false
			for _, e := range journalOf(w) {
				done = done || e.Step == StepProve && e.Act == Done
			}
			if done {
				proved++
			} else {
				w.oldIsThere()
			}
			w.sim.Insert()
			w.see(func(s guard.Snapshot) bool { return s.Err == nil || !errors.Is(s.Err, guard.ErrNoCard) })
			w.restart()
			w.finish(what)
			w.newAlone()
			require.LessOrEqual(t, len(w.ops(testcard.OpGenerate)), 1, what)
			require.LessOrEqual(t, len(w.ca.issued), 2, what)
			require.Zero(t, w.sim.Signatures(testcard.SigningID()))
		}
	}
	t.Logf("%d cases; %d stopped the renewal, %d after the new pair was proved", 2*events, pulled, proved)
}

// journalOf reads the journal, where there is one.
func journalOf(w *world) []JournalEntry {
	es, _, _ := ReadJournal(journalPath(w.dir.Path(), w.id))
	return es
}

// finish goes on with a renewal to its end, as a person would.
func (w *world) finish(what string) Result {
	w.t.Helper()
	ctx := w.t.Context()
	res, err := w.renewer().Renew(ctx, nil)
	require.NoError(w.t, err, what)
	if res.Outcome == NotNeeded {
		return res
	}
	require.Equal(w.t, ReseatCard, res.Outcome, what)
	w.reseat()
	res, err = w.renewer().Finish(ctx, w.signer())
	require.NoError(w.t, err, what)
	require.Nil(w.t, w.hold(), what)
	return res
}

func TestACardWithoutRoomIsNotTouched(t *testing.T) {
	w := newWorld(t, func(u *setUp) { u.card.Containers = 2 })
	plan, err := w.renewer().Plan(t.Context())
	require.NoError(t, err)
	assert.Equal(t, NotOffered, plan.Outcome)
	res, err := w.renewer().Renew(t.Context(), nil)
	e := ends(t, res, err, NotOffered, "no room")
	assert.Equal(t, advisory.RegistrationAuthority, res.Remedies[0].Kind)
	var refused *guard.Refused
	assert.ErrorAs(t, e, &refused, "the card is affected all the same")
	assert.Empty(t, w.ops(changes...))
	assert.Empty(t, w.person.take())
	assert.Zero(t, w.ca.asked())
	assert.Nil(t, w.hold())
	assert.Empty(t, journalOf(w))
	w.oldAlone()
}

func TestACardThatCannotBeRenewedKeepsItsOldPair(t *testing.T) {
	for _, x := range []struct {
		name string
		card testcard.Config
		as   func(card.Token) card.Token
		kind card.Kind
	}{
		{"read-only", testcard.Config{ReadOnly: true}, nil, card.ReadOnly},
		{"makes no keys, and says so only when it is to", testcard.Config{NoGenerate: true}, silentAboutKeys, card.Unsupported},
		{"removes nothing", testcard.Config{NoDestroy: true}, nil, card.Unsupported},
	} {
		t.Run(x.name, func(t *testing.T) {
			x.card.Serial = "c0ffee"
			w := newWorld(t, func(u *setUp) { u.card, u.as = x.card, x.as })
			res, err := w.renewer().Renew(t.Context(), nil)
			e := ends(t, res, err, NotOffered, "cannot be renewed here", "put it back in")
			assert.True(t, card.IsKind(e, x.kind))
			assert.Empty(t, w.ops(changes...))
			assert.Zero(t, w.ca.asked())
			w.oldAlone()
			w.reseat()
			res, err = w.renewer().Finish(t.Context(), w.signer())
			require.NoError(t, err)
			assert.Equal(t, GivenUp, res.Outcome)
			assert.True(t, w.refused().Has(guard.Affected))
		})
	}
}

func TestACardThatIsFullAfterAllKeepsItsOldPair(t *testing.T) {
	for _, op := range []testcard.Op{testcard.OpGenerate, testcard.OpWriteCertificate} {
		t.Run(string(op), func(t *testing.T) {
			w := newWorld(t)
			w.sim.Hook(testcard.On(op, false, 1, func() error { return card.Errorf(card.Full, string(op), "no room") }))
			res, err := w.renewer().Renew(t.Context(), nil)
			ends(t, res, err, NotOffered, "no room")
			w.oldAlone()
		})
	}
}

// Some modules tell only in the act that they remove nothing.
func TestACardThatCannotRemoveItsOldCertificateAfterAll(t *testing.T) {
	w := newWorld(t)
	w.sim.Hook(func(e testcard.Event) error {
		if e.Op == testcard.OpDestroy && !e.After && len(w.ops(testcard.OpWriteCertificate)) > 0 {
			return card.Errorf(card.Unsupported, "destroy", "")
		}
		return nil
	})
	res, err := w.renewer().Renew(t.Context(), nil)
	ends(t, res, err, NotOffered, "cannot remove its old certificate", "cannot sign now")
	assert.Equal(t, advisory.RegistrationAuthority, res.Remedies[0].Kind)
	w.oldIsThere()

	// Two certificates: nobody guesses which one signs.
	w.reseat()
	assert.True(t, w.refused().Has(guard.SeveralCertificates))
	res, err = w.renewer().Finish(t.Context(), w.signer())
	ends(t, res, err, Refusal)

	// The Registration Authority removes one; the hold ends with the other.
	w.sim.Hook(nil)
	w.clear(testcard.SigningID())
	w.reseat()
	res, err = w.renewer().Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome)
	w.reseat()
	_, err = w.renewer().Finish(t.Context(), w.signer())
	require.NoError(t, err)
	w.mustSign()
	w.newAlone()
}

func TestACardThatCannotDestroyTheOldKeyKeepsItWithoutACertificate(t *testing.T) {
	w := newWorld(t)
	w.sim.Hook(func(e testcard.Event) error {
		if e.Op == testcard.OpDestroy && !e.After && e.Class == card.PrivateKeyObject {
			return card.Errorf(card.Unsupported, "destroy", "")
		}
		return nil
	})
	res := w.mustRenew()
	assert.True(t, res.OldKeyKept)
	assert.Contains(t, res.Text, "could not remove the old key")
	old := w.onCard()[string(testcard.SigningID())]
	assert.True(t, old.key)
	assert.Nil(t, old.cert)
	w.reseat()
	res, err := w.renewer().Finish(t.Context(), w.signer())
	require.NoError(t, err)
	assert.Equal(t, Completed, res.Outcome)
	assert.True(t, res.OldKeyKept)
	w.mustSign()
}

// A module may answer that it removed an object and leave it where it is.
func TestADestroyThatDidNothingIsSeen(t *testing.T) {
	w := newWorld(t)
	lie := &lyingToken{Token: w.sim.Token()}
	require.NoError(t, w.card.Close())
	w.card = openToken(t, w, lie)
	res, err := w.renewer().Renew(t.Context(), nil)
	ends(t, res, err, Resumable, "still on the card")
	assert.Equal(t, StepSwitch, res.Step)
	w.oldIsThere()
	lie.honest.Store(true)
	w.mustRenew()
	w.newAlone()
}

func TestHalfAKeyIsMadeAnew(t *testing.T) {
	w := newWorld(t)
	w.mustBegin(StepHold)
	es := w.journal()
	id := es[0].NewID
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	require.NoError(t, w.sim.Provision(testcard.Pair{ID: id, Public: key.Public(), Certificate: nil}))
	w.mustRenew()
	w.newAlone()
}

func TestAPartialCertificateIsReplaced(t *testing.T) {
	w := newWorld(t)
	w.mustBegin(StepEnrol)
	w.write(w.journal()[0].NewID, []byte{0x30, 0x82})
	w.restart()
	w.mustRenew()
	w.newAlone()
}

// A journal that says more than is true destroys nothing: the pair is proved in
// the run that removes the old one.
func TestTheJournalIsAHintAndTheCardTheTruth(t *testing.T) {
	w := newWorld(t)
	w.mustBegin(StepConfirm)
	s, err := w.sim.Token().Open(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Login(t.Context(), []byte(thePIN)))
	require.NoError(t, s.Destroy(t.Context(), card.CertificateObject, w.journal()[0].NewID))
	require.NoError(t, s.Close())
	written, signed := false, false
	w.sim.Hook(func(e testcard.Event) error {
		written = written || e.Op == testcard.OpWriteCertificate && e.After
		signed = signed || e.Op == testcard.OpSign && e.After && written
		if e.Op == testcard.OpDestroy && !e.After {
			assert.True(t, signed, "nothing is removed before the pair that is on the card now has signed")
		}
		return nil
	})
	w.mustRenew()
	w.newAlone()
}

func TestACardThatWasChangedElsewhereEndsItsRenewal(t *testing.T) {
	other := testcard.CachedKeys()
	for range 5 {
		other(2048)
	}
	key, err := other(2048)
	require.NoError(t, err)
	for _, step := range []Step{StepHold, StepKey, StepEnrol, StepProve, StepSwitch, StepReseat} {
		t.Run("the Registration Authority renewed it after "+string(step), func(t *testing.T) {
			w := newWorld(t)
			w.mustBegin(step)
			third := certificate(t, key, theTime.Add(-3*time.Minute))
			w.clear(testcard.SigningID())
			if step == StepReseat { // it found the new pair and replaced it
				w.clear(w.journal()[0].NewID)
			}
			require.NoError(t, w.sim.Provision(testcard.Pair{ID: []byte{9}, Label: "third", Key: key, Certificate: third.Raw}))
			w.reseat()

			res, err := w.renewer().Renew(t.Context(), nil)
			if step == StepReseat {
				require.NoError(t, err)
				assert.Equal(t, ReseatCard, res.Outcome)
			} else {
				e := ends(t, res, err, GivenUp, "changed elsewhere", "another certificate now")
				assert.ErrorIs(t, e, errChanged)
				assert.Equal(t, advisory.RegistrationAuthority, res.Remedies[0].Kind)
			}
			all := w.onCard()
			require.Len(t, all, 1)
			assert.True(t, all["\x09"].cert.Equal(third))

			w.reseat()
			_, err = w.renewer().Finish(t.Context(), w.signer())
			require.NoError(t, err)
			w.mustSign()
			assert.Nil(t, w.hold())
			res, err = w.renewer().Renew(t.Context(), nil)
			require.NoError(t, err)
			assert.Equal(t, NotNeeded, res.Outcome)
		})
	}
	t.Run("the new key is gone", func(t *testing.T) {
		w := newWorld(t)
		w.mustBegin(StepRequest)
		w.clear(w.journal()[0].NewID)
		res, err := w.renewer().Renew(t.Context(), nil)
		ends(t, res, err, GivenUp, "changed elsewhere", "old certificate is still on the card")
		w.oldAlone()
		w.reseat()
		_, err = w.renewer().Finish(t.Context(), w.signer())
		require.NoError(t, err)
		w.mustRenew()
	})
}

// Other software may write to the card in the middle of a renewal.
func TestACertificateThatAppearsInTheOldContainerIsNotRemoved(t *testing.T) {
	w := newWorld(t)
	source := testcard.CachedKeys()
	_, err := source(2048)
	require.NoError(t, err)
	key, err := source(2048) // the old one
	require.NoError(t, err)
	third := certificate(t, key, theTime.Add(-3*time.Minute))
	w.mustBegin(StepWrite)
	w.sim.Hook(testcard.On(testcard.OpSign, true, 1, func() error {
		w.sim.Hook(nil)
		w.write(testcard.SigningID(), third.Raw)
		return nil
	}))
	res, err := w.renewer().Renew(t.Context(), nil)
	ends(t, res, err, Resumable, "another one")
	p := w.onCard()[string(testcard.SigningID())]
	assert.True(t, p.key && p.cert.Equal(third))

	// Looked at again, it is the Registration Authority's.
	res, err = w.renewer().Renew(t.Context(), nil)
	ends(t, res, err, GivenUp, "changed elsewhere")
	require.Len(t, w.onCard(), 1)
	w.reseat()
	_, err = w.renewer().Finish(t.Context(), w.signer())
	require.NoError(t, err)
	w.mustSign()
}

func TestACertificateThatWasReplacedAtTheEndIsWrittenAgain(t *testing.T) {
	w := newWorld(t)
	w.mustBegin(StepRetire)
	w.write(w.journal()[0].NewID, w.old.Raw)
	w.mustRenew()
	assert.True(t, w.newAlone().Equal(w.ca.issued[0]))
}

// write writes a certificate, as other software does.
func (w *world) write(id, der []byte) {
	w.t.Helper()
	s, err := w.sim.Token().Open(w.t.Context())
	require.NoError(w.t, err)
	defer s.Close()
	require.NoError(w.t, s.Login(w.t.Context(), []byte(thePIN)))
	require.NoError(w.t, s.WriteCertificate(w.t.Context(), id, "other", der))
}

// clear removes a container, as other software does.
func (w *world) clear(id []byte) {
	w.t.Helper()
	ctx := w.t.Context()
	s, err := w.sim.Token().Open(ctx)
	require.NoError(w.t, err)
	defer s.Close()
	require.NoError(w.t, s.Login(ctx, []byte(thePIN)))
	for _, c := range classes {
		if err := s.Destroy(ctx, c, id); !card.IsKind(err, card.NotFound) {
			require.NoError(w.t, err)
		}
	}
}
