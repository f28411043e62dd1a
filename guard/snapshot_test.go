package guard

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each sentinel has its finding whether the card's snapshot or the card itself
// says it, bare, wrapped or joined; anything else is unreadable.
func TestEachCardErrorHasItsFinding(t *testing.T) {
	g := newGuard(t, Config{})
	good := testCard(t)
	for _, tt := range []struct {
		err  error
		want Reason
	}{
		{ErrNoCard, CardAbsent},
		{ErrNoSigningCertificate, NoSigningCertificate},
		{ErrSeveralCertificates, SeveralCertificates},
		{ErrCertificateDamaged, CertificateDamaged},
		{errors.New("the reader is on fire"), CardUnreadable},
		{context.DeadlineExceeded, CardUnreadable},
	} {
		for how, err := range map[string]error{
			"bare": tt.err, "wrapped": fmt.Errorf("slot 3: %w", tt.err), "joined": errors.Join(errors.New("first"), tt.err),
		} {
			t.Run(tt.want.String()+" "+how, func(t *testing.T) {
				for who, card := range map[string]fakeCard{
					"snapshot":                  {s: Snapshot{Err: err}},
					"snapshot with certificate": {s: Snapshot{Err: err, Certificate: good}},
					"card":                      {err: err},
					"card with a stale answer":  {s: Snapshot{Certificate: good}, err: err},
				} {
					v, got := g.CheckAt(t.Context(), card, at("2020-11-01T00:00:00Z"))
					var undecided *Undecided
					require.ErrorAs(t, got, &undecided, who)
					require.Equal(t, []Reason{tt.want}, reasonsOf(v), who)
					assert.Zero(t, v.Certificate, "%s: what was not judged is not shown", who)
					assert.Contains(t, oneLine(v.Findings[0].Is), oneLine(err.Error()), who)
				}
			})
		}
	}
}

func TestASnapshotWithoutACertificateIsUndecided(t *testing.T) {
	for _, g := range []*Guard{newGuard(t, Config{}), newGuard(t, Config{Live: true})} {
		for want, s := range map[Reason]Snapshot{
			NoSigningCertificate: {},
			CertificateDamaged:   {Certificate: &Certificate{}}, // not from ParseCertificate
		} {
			v, err := g.CheckAt(t.Context(), fakeCard{s: s}, at("2020-11-01T00:00:00Z"))
			var undecided *Undecided
			require.ErrorAs(t, err, &undecided)
			assert.Equal(t, []Reason{want}, reasonsOf(v))
		}
	}
}

func TestNoCardIsUndecided(t *testing.T) {
	v, err := Check(t.Context(), nil)
	var undecided *Undecided
	require.ErrorAs(t, err, &undecided)
	assert.Equal(t, []Reason{CardUnreadable}, reasonsOf(v))
	assert.Contains(t, err.Error(), "no card was given")
}

func TestTheCardAsItWasSeenIsInTheVerdict(t *testing.T) {
	s := Snapshot{Serial: "0123", Label: "a label", Simulated: true, Err: ErrNoCard}
	v := newGuard(t, Config{}).Judge(s, at("2020-11-01T00:00:00Z"))
	assert.Equal(t, CardInfo{Serial: "0123", Label: "a label", Simulated: true}, v.Card)
}
