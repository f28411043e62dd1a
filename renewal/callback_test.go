package renewal

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"math/big"
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

// Between a crash and the next run a notice may come to cover what was issued: it is
// judged by the rules of now, and the old pair stays.
func TestACertificateThatWaitedIsJudgedAgain(t *testing.T) {
	for _, point := range []string{"after enrol done", "after write done", "after prove done"} {
		t.Run(point, func(t *testing.T) {
			w := newWorld(t)
			r := w.renewer()
			r.crash = crashAt(point)
			_, err := r.Renew(t.Context(), nil)
			require.Error(t, err)

			ca := theCA().IssuingCertificate()
			doc := bytes.Replace(fmt.Appendf(nil, notice, "2031-05-02T09:00:00Z", testcard.SPKIHash(ca), true),
				[]byte(`"to": "2031-05-02T00:00:00Z"`), []byte(`"to": "2031-06-02T00:00:00Z"`), 1)
			a, err := advisory.Parse(doc, nil)
			require.NoError(t, err)
			set, err := advisory.NewSet(2, time.Date(2031, 5, 6, 9, 0, 0, 0, time.UTC), a)
			require.NoError(t, err)
			w.g, err = guard.New(guard.Config{Advisories: set, Issuers: []*x509.Certificate{ca}})
			require.NoError(t, err)

			res, err := w.renewer().Renew(t.Context(), nil)
			require.Error(t, err)
			assert.Equal(t, NotOffered, res.Outcome)
			assert.Contains(t, res.Text, "affected by the same problem")
			pairs := w.onCard()
			require.Contains(t, pairs, string(testcard.SigningID()))
		})
	}
}

// second is another certificate for the request's key, an affected one, that takes
// as many bytes as the first, whose serial number is as long.
func second(t *testing.T, q Request, length int) []byte {
	t.Helper()
	csr, err := x509.ParseCertificateRequest(q.CSR)
	require.NoError(t, err)
	x, err := theCA().Issue(testcard.Signing, csr.PublicKey, testcard.IssueOptions{RawSubject: csr.RawSubject, NotBefore: issued, Serial: big.NewInt(0x1235)})
	require.NoError(t, err)
	require.Len(t, x.Raw, length)
	return x.Raw
}

func serial1234(_ *testcard.Profile, _ *any, o *testcard.IssueOptions) {
	o.Serial = big.NewInt(0x1234)
}

// scrawler is an Enroller that writes over everything that it is handed.
type scrawler struct {
	*authority
	over []byte
}

func (s *scrawler) Confirm(_ context.Context, _ *Transport, q Request, certificate []byte, p Proof) error {
	copy(certificate, s.over)
	clear(q.CSR)
	clear(p.Challenge)
	clear(p.Signature)
	return nil
}

// What was judged is what is written, whatever an Enroller or a Recorder does with
// the slices that it was handed or has handed in.
func TestWhatWasJudgedIsWhatIsWritten(t *testing.T) {
	t.Run("Confirm writes over what it got", func(t *testing.T) {
		w := newWorld(t)
		w.ca.order = serial1234
		s := &scrawler{authority: w.ca}
		w.ca.answer = func(_ int, q Request) (Answer, error) {
			a, err := w.ca.issue(q)
			s.over = second(t, q, len(a.Certificate))
			return a, err
		}
		r, err := New(Config{Card: w.card, Guard: w.g, Recorder: w.rec, Enroller: s, AsOf: w.clock})
		require.NoError(t, err)
		res, err := r.Renew(t.Context(), nil)
		require.NoError(t, err)
		assert.Equal(t, ReseatCard, res.Outcome)
		for _, p := range w.onCard() {
			assert.False(t, p.cert != nil && p.cert.NotBefore.Equal(issued), "an affected certificate is on the card")
		}
	})
	t.Run("the answer changes after it was judged", func(t *testing.T) {
		w := newWorld(t)
		w.ca.order = serial1234
		var handedIn, over []byte
		w.ca.answer = func(_ int, q Request) (Answer, error) {
			a, err := w.ca.issue(q)
			over = second(t, q, len(a.Certificate))
			handedIn = a.Certificate
			return a, err
		}
		w.rec.fail = func(e signing.Entry) error {
			if e.Event == signing.EventJudgedNew {
				copy(handedIn, over)
			}
			return nil
		}
		res, err := w.renewer().Renew(t.Context(), nil)
		require.NoError(t, err)
		assert.Equal(t, ReseatCard, res.Outcome)
		for _, p := range w.onCard() {
			assert.False(t, p.cert != nil && p.cert.NotBefore.Equal(issued), "an affected certificate is on the card")
		}
	})
}

func TestAClosedCardIsNotRenewed(t *testing.T) {
	t.Run("closed before", func(t *testing.T) {
		w := newWorld(t)
		r := w.renewer()
		require.NoError(t, w.card.Close())
		_, err := r.Plan(t.Context())
		assert.ErrorIs(t, err, card.ErrClosed)
		_, err = r.Renew(t.Context(), nil)
		assert.ErrorIs(t, err, card.ErrClosed)
	})
	t.Run("closed meanwhile", func(t *testing.T) {
		w := newWorld(t)
		var later []Step
		closed := false
		res, err := w.renewer().Renew(t.Context(), func(p Progress) {
			if closed && p.Step != StepKey {
				later = append(later, p.Step)
			}
			if p.Step == StepKey && !closed {
				closed = true
				_ = w.card.Close()
			}
		})
		assert.ErrorIs(t, err, card.ErrClosed)
		assert.Equal(t, Resumable, res.Outcome)
		assert.Empty(t, later)
	})
}

// A renewal that the guard's verdict forbids is a decision, and recorded.
func TestARefusedRenewalIsRecorded(t *testing.T) {
	w := newWorld(t, func(u *setUp) { u.notice.mayNot = true })
	res, err := w.renewer().Renew(t.Context(), nil)
	require.Error(t, err)
	assert.Equal(t, NotOffered, res.Outcome)
	require.Len(t, w.rec.entries, 1)
	assert.Equal(t, signing.EventRefused, w.rec.entries[0].Event)
}

// A re-seat that was seen while the hold expected another certificate does not count
// for the hold that expects the one on the card.
func TestAReseatOfBeforeDoesNotCountForAnotherExpectation(t *testing.T) {
	w := newWorld(t, func(u *setUp) { u.good = true })
	require.NoError(t, w.dir.SetHold(state.Hold{ID: "aa", Card: w.id, Serial: "c0ffee", Phase: state.Reseat, Since: time.Now(), Expect: "beef"}))
	card.Refresh(w.card)
	w.reseat()
	res, err := w.renewer().Renew(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, ReseatCard, res.Outcome)
	s, err := w.card.Snapshot(t.Context())
	require.NoError(t, err)
	assert.Equal(t, guard.HoldReseat, s.Hold.State)
}

func TestTheZeroRenewerRefuses(t *testing.T) {
	for _, r := range []*Renewer{nil, {}} {
		_, err := r.Plan(t.Context())
		assert.Error(t, err)
		_, err = r.Renew(t.Context(), nil)
		assert.Error(t, err)
		_, err = r.Abandon(t.Context())
		assert.Error(t, err)
		_, err = r.Finish(t.Context(), &signing.Signer{})
		assert.Error(t, err)
	}
	assert.Nil(t, (*Transport)(nil).AuthenticatesAs())
}
