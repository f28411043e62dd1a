package renewal

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/signing"
)

// hold keeps the card from signing, here and in every other process, from before
// its first change on.
func (r *run) hold(ctx context.Context) error {
	if err := r.setHold(ctx, r.p.id, state.Renewing, ""); err != nil {
		return err
	}
	return r.record(r.p.id, signing.EventHoldBegun, r.judge(), "")
}

// keepHold puts the hold of an unfinished renewal back where it was lost: the card
// is about to be changed.
func (r *run) keepHold(ctx context.Context) error {
	if !r.p.done[StepHold] || r.p.begun[StepReseat] {
		return nil
	}
	if held, err := r.heldBy(r.v.certs...); err != nil || held {
		return err
	}
	return r.hold(ctx)
}

// heldBy tells whether this renewal's hold is on disk under the card's own name and
// under each of these certificates. One file does not answer for the others: a crash
// or a full disk can come between them.
func (r *run) heldBy(certificates ...string) (bool, error) {
	for _, name := range append([]string{r.id}, certificates...) {
		h, err := r.dir.Hold(name)
		if err != nil || h == nil || h.ID != r.p.id || h.Phase != state.Renewing {
			return false, err
		}
	}
	return true, nil
}

// nameNew adds the new certificate to the card's hold, before it is on the card: to
// another module the card goes by its certificates.
func (r *run) nameNew(ctx context.Context) error {
	if held, err := r.heldBy(sumOfDER(r.p.cert)); err != nil || held {
		return err
	}
	return r.setHold(ctx, r.p.id, state.Renewing, "")
}

// sumOfDER names a certificate.
func sumOfDER(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// certificates are those that the card has or gets in this renewal to sign with.
func (r *run) certificates() []string {
	sums := slices.Clone(r.v.certs)
	if r.p != nil {
		sums = append(sums, r.p.plan.OldCertificate)
		if len(r.p.cert) > 0 {
			sums = append(sums, sumOfDER(r.p.cert))
		}
	}
	slices.Sort(sums)
	return slices.Compact(sums)
}

// setHold writes a hold under the exclusive locks of the card's names, which wait for a
// signature under way, through whatever module.
func (r *run) setHold(ctx context.Context, id string, phase state.Phase, expect string) error {
	h := state.Hold{ID: id, Card: r.id, Certificates: r.certificates(), Serial: r.v.info.Serial, Label: r.v.info.Label,
		Phase: phase, Since: time.Now(), Expect: expect}
	if elsewhere(r.v, r.held) {
		h.Card = r.held.Card
	}
	unlock, err := r.dir.LockAll(ctx, append([]string{h.Card}, h.Certificates...)...)
	if err != nil {
		return err
	}
	defer unlock()
	if old, err := r.dir.Hold(r.v.names...); err == nil && old != nil && old.ID == id {
		h.Since = old.Since
	}
	if err := r.crash("before hold " + string(phase)); err != nil {
		return err
	}
	if err := r.dir.SetHold(h); err != nil {
		return err
	}
	if err := r.crash("after hold " + string(phase)); err != nil {
		return err
	}
	card.Reread(r.c.Card)
	return nil
}

// release turns the hold into one that re-seating ends, with the new certificate.
func (r *run) release(ctx context.Context) error {
	if err := r.v.look(ctx); err != nil {
		return err
	}
	if err := r.writeCertificate(context.WithoutCancel(ctx)); err != nil { // it is there
		return err
	}
	if r.v.serr != nil {
		return r.v.serr
	}
	if err := r.record(r.p.id, signing.EventRenewed, r.judge(), ""); err != nil {
		return err
	}
	return r.setHold(ctx, r.p.id, state.Reseat, r.v.signing.Certificate.Info().SHA256)
}

// orphaned tells whether the hold could never end as it stands, though no renewal
// works on the card: its journal is gone, or somebody else gave the card another
// certificate since. The old certificate of a card that was renewed, seen again,
// is no such one.
func orphaned(v *view, p *progress, h *state.Hold) bool {
	if h == nil || elsewhere(v, h) || v.serr != nil || p != nil && !p.finished && !p.done[StepReseat] {
		return false
	}
	sum := v.signing.Certificate.Info().SHA256
	back := p != nil && !p.givenUp && sum == p.plan.OldCertificate
	return h.Phase == state.Renewing || h.Expect != sum && !back
}

// reexpect lets an orphaned hold end with the certificate that is on the card now,
// which the guard judges as ever.
func (r *run) reexpect(ctx context.Context, why string) error {
	if err := r.record(r.held.ID, signing.EventGivenUp, r.judge(), why); err != nil {
		return err
	}
	// Under another id: a re-seat that was seen under the hold as it was, here or in
	// another process, does not count for this one.
	var id [16]byte
	rand.Read(id[:])
	return r.setHold(ctx, hex.EncodeToString(id[:]), state.Reseat, r.v.signing.Certificate.Info().SHA256)
}
