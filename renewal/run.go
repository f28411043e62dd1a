package renewal

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/signing"
)

// Confirmer is an Enroller whose authority waits for the card's proof before it
// counts the certificate as delivered. Confirm may be called again with the same
// request.
type Confirmer interface {
	Confirm(ctx context.Context, t *Transport, r Request, certificate []byte, p Proof) error
}

// Renew renews the card that is in the reader, or goes on with its unfinished
// renewal. It asks for the passcode, reports progress (show may be nil; it is
// called from this goroutine), and ends with the card on hold: Result.Outcome is
// then ReseatCard and the error nil, and Finish goes on. For a card that needs
// nothing the outcome is NotNeeded and the error nil. Every other end is an
// *Error, which carries the same Result.
//
// When ctx ends, Renew stops at the next safe point: between two steps, or while
// the authority is asked. What the card does in one step is not broken off.
func (r *Renewer) Renew(ctx context.Context, show func(Progress)) (Result, error) {
	v, err := r.open(ctx)
	if err != nil {
		return ended(Result{Outcome: Resumable, Text: "The card could not be read. " + advice(err), Remedies: []advisory.Remedy{reseat, askIT}}, err)
	}
	defer v.s.Close()
	id := v.info.ID()
	unlock, err := r.dir.TryRenewal(ctx, id)
	if err != nil {
		res := Result{Outcome: Refusal, Text: "This card's renewal cannot start: " + err.Error() + ".", Remedies: []advisory.Remedy{askIT, usePaper}}
		if errors.Is(err, state.ErrBusy) {
			res.Text = "This card is being renewed by another program. Wait until it has finished."
		}
		return ended(r.named(res, v), err)
	}
	defer unlock()
	j, err := openJournal(r.dir.Path(), id)
	if err != nil {
		return ended(r.named(Result{Outcome: Refusal, Text: "What was written down about an earlier renewal cannot be read.", Remedies: []advisory.Remedy{askIT, askRA, usePaper}}, v), err)
	}
	hold, err := r.dir.Hold(id)
	if err != nil {
		return ended(r.named(Result{Outcome: Refusal, Text: "It cannot be told whether this card is on hold.", Remedies: []advisory.Remedy{askIT, askRA, usePaper}}, v), err)
	}
	last := j.last()
	if last != nil && !last.finished && last.done[StepReseat] && hold == nil {
		return r.complete(v, j, last)
	}
	plan := r.plan(v, last, hold)
	if plan.Outcome != Ready {
		res := Result{Outcome: plan.Outcome, Text: plan.Text, Remedies: plan.Remedies, Serial: plan.Serial, Label: plan.Label, Step: plan.Resumes}
		if plan.Old.Serial != "" {
			res.Old = &plan.Old
		}
		if plan.Outcome == NotNeeded || plan.Outcome == ReseatCard {
			return res, nil
		}
		return ended(res, plan.Verdict.Err())
	}
	run := &run{Renewer: r, v: v, j: j, id: id, p: last, m: meter{show: show, start: time.Now()}}
	return run.all(ctx)
}

// run is one call of Renew on one card.
type run struct {
	*Renewer
	v  *view
	j  *journal
	id string // of the card
	p  *progress
	m  meter

	t      *Transport
	closeT func()
	proof  Proof
}

// all does the steps that are not done yet.
func (r *run) all(ctx context.Context) (Result, error) {
	fresh := r.p == nil || r.p.finished
	if err := ctx.Err(); err != nil {
		return r.stopped(err)
	}
	if !fresh && r.now().Before(r.p.askFrom) && !r.p.done[StepEnrol] && !r.p.givenUp {
		return r.pending(r.p.askFrom)
	}
	if err := card.Login(ctx, r.c.Card, r.v.s, card.ToRenew); err != nil {
		return r.stopped(err)
	}
	// Private keys may be visible only now.
	if err := r.v.look(ctx); err != nil {
		return r.stopped(err)
	}
	r.t, r.closeT = r.transport(ctx, r.v)
	defer r.closeT()
	if fresh {
		// The authority must answer before the card is touched.
		if pr, ok := r.c.Enroller.(Prober); ok {
			if err := pr.Probe(ctx, r.t); err != nil {
				return ended(r.named(Result{Outcome: Refusal, Text: "The renewal service does not answer. The card was not changed. Try again later.",
					Remedies: []advisory.Remedy{again, askIT, usePaper}}, r.v), err)
			}
		}
		if err := r.plant(); err != nil {
			return r.stopped(err)
		}
	}
	if r.p.givenUp {
		return r.putBack(ctx)
	}
	for _, step := range Steps {
		if r.p.done[step] {
			r.m.skipped += typical[step]
		}
	}
	for _, step := range Steps[1 : len(Steps)-1] {
		if r.p.done[step] {
			continue
		}
		// A safe point: what is done is written down, what is not was not begun.
		if err := ctx.Err(); err != nil {
			return r.stopped(err)
		}
		r.m.at(step, false)
		err := r.step(ctx, step)
		var up *giveUp
		var wait *pendingError
		switch {
		case errors.As(err, &wait):
			return r.pending(wait.until)
		case errors.As(err, &up):
			return r.abandon(ctx, up)
		case err != nil:
			return r.stopped(err)
		}
		r.m.at(step, true)
	}
	return r.reseatResult(), nil
}

// plant begins a renewal: the plan is on disk before anything is touched.
func (r *run) plant() error {
	var id, keyID [16]byte
	rand.Read(id[:])
	rand.Read(keyID[:])
	e := JournalEntry{
		Renewal: hex.EncodeToString(id[:]), Card: r.id, Step: StepPlanned, Act: Done,
		Serial: r.v.info.Serial, Label: r.v.info.Label,
		OldID: r.v.signing.ID, OldCertificate: r.v.signing.Certificate.Info().SHA256,
		NewID: keyID[:], NewLabel: "rxguard " + hex.EncodeToString(id[:4]),
	}
	r.m.at(StepPlanned, false)
	if err := r.write(e); err != nil {
		return err
	}
	r.p = r.j.last()
	r.m.at(StepPlanned, true)
	return nil
}

// write appends to the journal, with the points at which tests crash.
func (r *run) write(e JournalEntry) error {
	e.Card, e.Time = r.id, time.Now()
	if e.Renewal == "" {
		e.Renewal = r.p.id
	}
	point := string(e.Step) + " " + string(e.Act)
	if err := r.crash("before " + point); err != nil {
		return err
	}
	if err := r.j.add(e); err != nil {
		return err
	}
	return r.crash("after " + point)
}

// step does one step: intent, probe, act, read back, done.
func (r *run) step(ctx context.Context, step Step) error {
	if !r.p.begun[step] {
		if err := r.write(JournalEntry{Step: step, Act: Intent}); err != nil {
			return err
		}
	}
	hard := context.WithoutCancel(ctx) // the card's part of a step is not broken off
	done := JournalEntry{Step: step, Act: Done}
	var err error
	switch step {
	case StepHold:
		err = r.hold(ctx)
	case StepKey:
		err = r.key(hard)
	case StepRequest:
		done.CSR, err = r.request()
	case StepEnrol:
		done.Certificate, done.Chain, err = r.enrol(ctx)
	case StepWrite:
		err = r.writeCertificate(hard)
	case StepProve:
		r.proof, err = prove(hard, r.v.s, r.p.plan.NewID, r.newCertificate().PublicKey)
	case StepConfirm:
		err = r.confirm(ctx)
	case StepSwitch:
		err = r.switchPair(hard)
	case StepRetire:
		err = r.retire(hard)
	case StepReseat:
		err = r.release(ctx)
	}
	if err != nil {
		return err
	}
	if err := r.write(done); err != nil {
		return err
	}
	r.p = r.j.last()
	return nil
}

// hold keeps the card from signing, here and in every other process, from before
// its first change on. The exclusive lock waits for a signature under way.
func (r *run) hold(ctx context.Context) error {
	return r.setHold(ctx, state.Renewing, "")
}

func (r *run) setHold(ctx context.Context, phase state.Phase, expect string) error {
	unlock, err := r.dir.Lock(ctx, r.id, true)
	if err != nil {
		return err
	}
	h := state.Hold{ID: r.p.id, Card: r.id, Serial: r.v.info.Serial, Label: r.v.info.Label, Phase: phase, Since: time.Now(), Expect: expect}
	if old, err := r.dir.Hold(r.id); err == nil && old != nil && old.ID == h.ID {
		h.Since = old.Since
	}
	if err := r.crash("before hold " + string(phase)); err != nil {
		unlock()
		return err
	}
	err = r.dir.SetHold(h)
	unlock()
	if err != nil {
		return err
	}
	if err := r.crash("after hold " + string(phase)); err != nil {
		return err
	}
	card.Refresh(r.c.Card)
	if phase == state.Renewing {
		return r.record(signing.EventHoldBegun, r.c.Guard.Judge(r.v.snapshot(r.simulated()), r.now()), "")
	}
	return nil
}

// key makes the new pair in a container of its own, or adopts the one that an
// earlier run made.
func (r *run) key(ctx context.Context) error {
	if len(r.find(card.PrivateKeyObject, r.p.plan.NewID)) > 0 {
		return nil
	}
	if _, err := r.v.s.Generate(ctx, card.KeySpec{ID: r.p.plan.NewID, Label: r.p.plan.NewLabel, Bits: 2048}); err != nil {
		if card.IsKind(err, card.Full) || card.IsKind(err, card.Unsupported) || card.IsKind(err, card.ReadOnly) {
			return &giveUp{NotOffered, "This card cannot take a new key here. Its old key and certificate are untouched.", "no_room", err}
		}
		return err
	}
	if err := r.v.look(ctx); err != nil {
		return err
	}
	if len(r.find(card.PrivateKeyObject, r.p.plan.NewID)) == 0 {
		return card.Errorf(card.NotFound, "generate", "the new key is not on the card, though the card said so")
	}
	return nil
}

// find lists the card's objects of a class with a CKA_ID.
func (r *run) find(class card.Class, id []byte) []card.Object {
	var out []card.Object
	for _, o := range r.v.objects {
		if o.Class == class && bytes.Equal(o.ID, id) {
			out = append(out, o)
		}
	}
	return out
}

// newKey is the new key for the request.
func (r *run) newKey() (*cardKey, error) {
	for _, class := range []card.Class{card.PrivateKeyObject, card.PublicKeyObject} {
		for _, o := range r.find(class, r.p.plan.NewID) {
			if o.Public != nil {
				return &cardKey{ctx: context.Background(), s: r.v.s, id: o.ID, pub: o.Public}, nil
			}
		}
	}
	return nil, card.Errorf(card.NotFound, "request", "the new key, or its public half, is not on the card")
}

// request makes the PKCS #10 request, signed by the new key, with the subject of
// the certificate that authenticates (RFC 7030 4.2.2).
func (r *run) request() ([]byte, error) {
	k, err := r.newKey()
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		RawSubject:         r.v.auth.Certificate.X509().RawSubject,
		SignatureAlgorithm: x509.SHA256WithRSA,
	}, k)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificateRequest(csr)
	if err == nil {
		err = parsed.CheckSignature()
	}
	if err != nil {
		return nil, &card.Error{Kind: card.BadSignature, Op: "request", TriesLeft: -1, Err: err}
	}
	return csr, nil
}

// asked is the request as the authority gets it, the same in each repetition.
func (r *run) asked() Request {
	q := Request{ID: r.p.id, CSR: r.p.csr, Now: r.now()}
	if c := r.v.signing.Certificate; c != nil {
		q.Current = c.X509()
	}
	return q
}

// enrol asks the authority and judges its answer before anything is written.
func (r *run) enrol(ctx context.Context) ([]byte, [][]byte, error) {
	csr, err := x509.ParseCertificateRequest(r.p.csr)
	if err != nil {
		return nil, nil, &JournalError{Path: r.j.path, Problem: "holds a request that does not read", Err: err}
	}
	if k, err := r.newKey(); err != nil {
		return nil, nil, err
	} else if !card.SameKey(k.pub, csr.PublicKey) {
		return nil, nil, &JournalError{Path: r.j.path, Problem: "holds a request for another key than the one on the card; give the renewal up and start again"}
	}
	if err := r.crash("before authority"); err != nil {
		return nil, nil, err
	}
	a, err := r.c.Enroller.Enrol(ctx, r.t, r.asked())
	if err == nil {
		err = r.crash("after authority")
	}
	var ee *EnrolError
	switch {
	case errors.As(err, &ee) && ee.Kind == Rejected:
		return nil, nil, &giveUp{NotOffered, "The renewal service said no.", "rejected", err}
	case errors.As(err, &ee) && ee.Kind == WrongCertificate:
		return nil, nil, &giveUp{NotOffered, "The renewal service sent a certificate that is not for this card. It was not written.", "wrong_certificate", err}
	case err != nil:
		return nil, nil, err
	case len(a.Certificate) == 0:
		if a.Pending.IsZero() {
			return nil, nil, &EnrolError{Kind: Malformed, Detail: "neither a certificate nor a time to ask again"}
		}
		if err := r.write(JournalEntry{Step: StepEnrol, Act: Note, NotBefore: a.Pending.UTC(), Text: "the authority decides later"}); err != nil {
			return nil, nil, err
		}
		return nil, nil, &pendingError{a.Pending.UTC()}
	}
	if err := r.judgeNew(a.Certificate, csr); err != nil {
		return nil, nil, err
	}
	return a.Certificate, a.Chain, nil
}

// skew is how far an authority's clock may be ahead of this machine's.
const skew = 10 * time.Minute

// judgeNew asks of the new certificate what is asked of every one: the guard's
// verdict, by the same rules.
func (r *run) judgeNew(der []byte, csr *x509.CertificateRequest) error {
	wrong := func(format string, args ...any) error {
		err := &EnrolError{Kind: WrongCertificate, Detail: fmt.Sprintf(format, args...)}
		return &giveUp{NotOffered, "The renewal service sent a certificate that is not for this card. It was not written.", "wrong_certificate", err}
	}
	c, err := guard.ParseCertificate(der)
	switch {
	case err != nil:
		return wrong("%v", err)
	case !card.SameKey(csr.PublicKey, c.X509().PublicKey):
		return wrong("it is for another key than the card's new one")
	case !bytes.Equal(c.X509().RawSubject, csr.RawSubject):
		return wrong("its subject is %s; wanted %s", c.Info().Subject, csr.Subject)
	}
	at := r.now()
	if nb := c.Info().NotBefore; !nb.Before(at) && nb.Before(at.Add(skew)) {
		at = nb.Add(time.Second) // valid by the time the card was re-seated
	}
	s := r.v.snapshot(r.simulated())
	s.Certificate, s.Err = c, nil
	v := r.c.Guard.Judge(s, at)
	if err := r.record(signing.EventJudgedNew, v, ""); err != nil {
		return err
	}
	if err := v.Err(); err != nil {
		why := "judged_bad"
		text := "The new certificate is not good enough: " + v.Findings[0].Text
		if v.Has(guard.Affected) {
			why = whyAffectedAgain
			text = "The new certificate is affected by the same problem. It was not written."
		}
		return &giveUp{NotOffered, text, why, err}
	}
	return nil
}

func (r *run) newCertificate() *x509.Certificate {
	c, err := x509.ParseCertificate(r.p.cert)
	if err != nil {
		return &x509.Certificate{}
	}
	return c
}

// writeCertificate puts the certificate beside the new key and reads it back. A
// partial one of an earlier run is replaced.
func (r *run) writeCertificate(ctx context.Context) error {
	id := r.p.plan.NewID
	there := r.find(card.CertificateObject, id)
	if len(there) == 1 && bytes.Equal(there[0].DER, r.p.cert) {
		return nil
	}
	if len(there) > 0 {
		if err := r.v.s.Destroy(ctx, card.CertificateObject, id); err != nil {
			return err
		}
	}
	if err := r.v.s.WriteCertificate(ctx, id, r.p.plan.NewLabel, r.p.cert); err != nil {
		return err
	}
	if err := r.v.look(ctx); err != nil {
		return err
	}
	there = r.find(card.CertificateObject, id)
	if len(there) != 1 || !bytes.Equal(there[0].DER, r.p.cert) {
		return card.Errorf(card.BadObject, "write_certificate", "what was read back is not what was written")
	}
	return nil
}

// confirm tells an authority that waits for the card's proof.
func (r *run) confirm(ctx context.Context) error {
	c, ok := r.c.Enroller.(Confirmer)
	if !ok {
		return nil
	}
	if r.proof.Signature == nil { // proved by an earlier run
		p, err := prove(context.WithoutCancel(ctx), r.v.s, r.p.plan.NewID, r.newCertificate().PublicKey)
		if err != nil {
			return err
		}
		r.proof = p
	}
	return c.Confirm(ctx, r.t, r.asked(), r.p.cert, r.proof)
}

// switchPair removes the old certificate: from then on the new pair is the one
// that can sign. It happens only after the new pair has signed and verified.
func (r *run) switchPair(ctx context.Context) error {
	if err := r.mayRemoveOld(); err != nil {
		return err
	}
	old := r.find(card.CertificateObject, r.p.plan.OldID)
	if len(old) == 0 {
		return nil
	}
	if c, err := guard.ParseCertificate(old[0].DER); err != nil || c.Info().SHA256 != r.p.plan.OldCertificate {
		return card.Errorf(card.Ambiguous, "destroy", "the container of the old certificate holds another one; it was left alone")
	}
	if err := r.v.s.Destroy(ctx, card.CertificateObject, r.p.plan.OldID); err != nil && !card.IsKind(err, card.NotFound) {
		return err
	}
	if err := r.v.look(ctx); err != nil {
		return err
	}
	if len(r.find(card.CertificateObject, r.p.plan.OldID)) > 0 {
		return card.Errorf(card.Fault, "destroy", "the old certificate is still on the card, though the card said it was removed")
	}
	return nil
}

// mayRemoveOld is P5's last look: the new pair was proved and is on the card.
func (r *run) mayRemoveOld() error {
	if !r.p.done[StepProve] {
		return errors.New("renewal: the new pair was not proved; the old one stays")
	}
	if len(r.find(card.PrivateKeyObject, r.p.plan.NewID)) == 0 || len(r.find(card.CertificateObject, r.p.plan.NewID)) == 0 {
		return card.Errorf(card.NotFound, "destroy", "the new pair is not on the card; the old one stays")
	}
	return nil
}

// retire destroys the old key. A card that cannot keeps it, without a certificate,
// and the result says so.
func (r *run) retire(ctx context.Context) error {
	if err := r.mayRemoveOld(); err != nil {
		return err
	}
	for _, class := range []card.Class{card.PrivateKeyObject, card.PublicKeyObject} {
		if len(r.find(class, r.p.plan.OldID)) == 0 {
			continue
		}
		err := r.v.s.Destroy(ctx, class, r.p.plan.OldID)
		if card.IsKind(err, card.Unsupported) {
			return r.write(JournalEntry{Step: StepRetire, Act: Note, Text: "the card cannot destroy the old key"})
		}
		if err != nil && !card.IsKind(err, card.NotFound) {
			return err
		}
	}
	if err := r.v.look(ctx); err != nil {
		return err
	}
	if len(r.find(card.PrivateKeyObject, r.p.plan.OldID)) > 0 {
		return card.Errorf(card.Fault, "destroy", "the old key is still on the card, though the card said it was removed")
	}
	return nil
}

// release turns the hold into one that re-seating ends. Where the hold is gone
// already, an earlier run did this and the card was re-seated since.
func (r *run) release(ctx context.Context) error {
	if err := r.v.look(ctx); err != nil {
		return err
	}
	if r.v.serr != nil {
		return r.v.serr
	}
	sum := r.v.signing.Certificate.Info().SHA256
	if hold, err := r.dir.Hold(r.id); err != nil {
		return err
	} else if hold == nil {
		return nil
	}
	s := r.v.snapshot(r.simulated())
	if err := r.record(signing.EventRenewed, r.c.Guard.Judge(s, r.now()), ""); err != nil {
		return err
	}
	return r.setHold(ctx, state.Reseat, sum)
}

// record adds a line to the decision record.
func (r *run) record(ev signing.Event, v guard.Verdict, cause string) error {
	e := signing.EntryOf(ev, v)
	e.Cause = cause
	if r.p != nil {
		e.Renewal = r.p.id
	}
	if err := r.c.Recorder.Record(context.Background(), e); err != nil {
		return fmt.Errorf("renewal: the decision could not be recorded; nothing further was done to the card: %w", err)
	}
	return nil
}
