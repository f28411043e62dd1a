package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/renewal"
	"github.com/rxguard/rxguard/renewal/est"
	"github.com/rxguard/rxguard/signing"
	"github.com/rxguard/rxguard/signing/eps"
)

type passcodeRequest = signing.PINRequest

// trip is one journey.
type trip struct {
	o    options
	w    *world
	tell *teller
	out  *output

	card     *signing.Card
	g        *guard.Guard
	record   *signing.Record
	signer   *signing.Signer
	prepared *eps.Prepared
	changed  bool        // the card's renewal was begun
	mute     atomic.Bool // nobody may be asked for the passcode
}

// journey goes the whole way. An error has been put in plain words, with the way
// out.
func journey(ctx context.Context, o options, tell *teller) (err error) {
	t, err := pack(ctx, o, tell)
	if err != nil {
		return before(ctx, o, err)
	}
	defer func() {
		err = errors.Join(t.end(ctx, err), tell.failed())
	}()
	if t.w.test != nil {
		if err := t.provision(ctx); err != nil {
			return err
		}
	}
	if err := t.open(ctx); err != nil {
		return err
	}
	affected, err := t.check(ctx)
	if err != nil {
		return err
	}
	if affected {
		for _, step := range []func(context.Context) error{t.signAnyway, t.renew, t.signOnHold, t.reseat} {
			if err := step(ctx); err != nil {
				return err
			}
		}
	}
	return t.sign(ctx)
}

// pack gets ready what the journey needs; nothing is changed on a card.
func pack(ctx context.Context, o options, tell *teller) (*trip, error) {
	t := &trip{o: o, tell: tell}
	var err error
	if o.module == "" {
		if t.out, err = newOutput(o.out, o.resume, o.resume != ""); err != nil {
			return nil, &usageError{err}
		}
		t.w, err = newWorld(o)
		return t, err
	}
	if t.w, err = openToken(ctx, o, tell.err); err != nil {
		return nil, err
	}
	if t.out, err = newOutput(o.out, t.w.dir, t.w.test.underWay()); err != nil {
		return nil, errors.Join(&usageError{err}, t.w.close(false))
	}
	return t, nil
}

// provision comes before the journey on a token.
func (t *trip) provision(ctx context.Context) error {
	if err := t.w.test.provision(ctx, t.tell); err != nil {
		return err
	}
	t.w.World.Issued = t.w.test.file.Issued
	var err error
	t.w.rules, err = t.w.advisories()
	return err
}

// open is step 1: the card is opened and read.
func (t *trip) open(ctx context.Context) error {
	t.tell.begin(1, "read", "The smartcard is read")
	var err error
	if t.card, err = signing.Open(ctx, signing.Config{Reader: t.w.kit.Reader(), PIN: t.ask, LastTry: t.w.lastTry()}); err != nil {
		return err
	}
	if t.g, err = guard.New(guard.Config{Advisories: t.w.rules, Issuers: t.w.kit.Issuers()}); err != nil {
		return err
	}
	if t.record, err = signing.OpenRecord(t.w.file(recordName)); err != nil {
		return err
	}
	if clock := t.w.asOf(); clock != nil {
		t.signer, err = signing.NewAsOf(t.card, t.g, t.record, clock)
	} else {
		t.signer, err = signing.New(t.card, t.g, t.record)
	}
	if err != nil {
		return err
	}
	s, err := t.card.Snapshot(ctx)
	if err != nil {
		return err
	}
	kind := "simulated"
	if t.w.test != nil {
		kind = "a test token"
	}
	text := fmt.Sprintf("Card %s, serial %s (%s).\n", s.Label, s.Serial, kind)
	switch {
	case s.Hold.State != guard.NotHeld:
		t.changed = true // an earlier run began its renewal
		text += "Its renewal was begun and is not finished."
	case s.Err != nil:
		return s.Err
	default:
		c := s.Certificate.Info()
		text += fmt.Sprintf("Its signing certificate: serial %s, issued %s by %s.", c.Serial, c.NotBefore.Format(time.RFC3339), c.Issuer)
	}
	if err := t.keepOld(s.Certificate); err != nil {
		return err
	}
	if !t.w.World.At.IsZero() {
		text += "\nThe simulated clock stands at " + t.w.now().Format(time.RFC3339Nano) + "; only a simulated card allows that. Putting the card back takes a minute of it."
	}
	var detail any
	if s.Certificate != nil {
		detail = s.Certificate.Info()
	}
	t.tell.say("read", text, detail)
	return nil
}

// keepOld writes the certificate that the card had before its renewal, also when
// this run only goes on with one.
func (t *trip) keepOld(c *guard.Certificate) error {
	kept := t.w.file(oldName)
	b, err := os.ReadFile(kept)
	if errors.Is(err, fs.ErrNotExist) && c != nil {
		b = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.X509().Raw})
		err = os.WriteFile(kept, b, 0o600)
	}
	if err != nil {
		return err
	}
	return t.out.oldCertificate(b)
}

// judge asks the guard, as an application does for its screen.
func (t *trip) judge(ctx context.Context) (guard.Verdict, error) {
	v, err := t.g.Check(ctx, t.card)
	if t.w.asOf() != nil {
		v, err = t.g.CheckAt(ctx, t.card, t.w.now())
	}
	return v, errors.Join(err, t.out.verdict(v))
}

// check is step 2: what the guard says before anybody tries to sign.
func (t *trip) check(ctx context.Context) (affected bool, err error) {
	t.tell.begin(2, "check", "The guard is asked")
	v, err := t.judge(ctx)
	var refused *guard.Refused
	switch {
	case err == nil:
		t.tell.say(v.Decision.String(), v.String(), v)
		return false, nil
	case errors.As(err, &refused) && (refused.RenewalHelps() || t.changed):
		t.tell.say(v.Decision.String(), v.String(), v)
		if t.changed {
			return true, nil
		}
		if err := t.w.fits(); err != nil {
			return false, &stopError{text: "This card must be renewed, and then it could not sign this answer: " + err.Error() +
				".\nRenew the card, then ask for a new $prepare answer.", err: err}
		}
		return true, nil
	default:
		t.tell.say(v.Decision.String(), v.String(), v)
		return false, &stopError{text: "This card cannot sign, and renewing it here would not help. " + v.Findings[0].Text, err: err}
	}
}

// ask is the passcode's callback.
func (t *trip) ask(ctx context.Context, r passcodeRequest) ([]byte, error) {
	if t.mute.Load() {
		return nil, errAsked
	}
	if t.w.test != nil {
		return t.w.test.asking(t.tell)(ctx, r)
	}
	return t.w.ask(t.tell)(ctx, r)
}

var errAsked = errors.New("the passcode was asked where it must not be")

// signAnyway is step 3: the Signer asks the guard itself.
func (t *trip) signAnyway(ctx context.Context) error {
	t.tell.begin(3, "sign_refused", "An attempt to sign anyway")
	return t.mustRefuse(ctx)
}

// mustRefuse tries to sign and wants the Signer to refuse before the card's key
// and its holder are asked.
func (t *trip) mustRefuse(ctx context.Context) error {
	p, err := t.w.prepared()
	if err != nil {
		return err
	}
	before := t.w.kit.SigningKeyUses()
	t.mute.Store(true)
	_, err = signing.Sign(ctx, t.signer, p)
	t.mute.Store(false)
	var refused *guard.Refused
	if !errors.As(err, &refused) {
		if err == nil {
			err = errors.New("the Signer signed, though the guard refuses")
		}
		return err
	}
	if err := t.out.verdict(refused.Verdict); err != nil {
		return err
	}
	if n := t.w.kit.SigningKeyUses(); n != before {
		return fmt.Errorf("the card's key was used %d times, though the Signer refused", n-before)
	}
	t.tell.say("refused", "Refused by the Signer itself: "+refused.Verdict.Findings[0].Text+
		"\nThe passcode was not asked, and nothing reached the card's key.", refused.Verdict)
	return nil
}

// renew is step 4: the renewal in process.
func (t *trip) renew(ctx context.Context) error {
	title := "The card is renewed, here and now"
	if t.changed {
		title = "The renewal that was begun goes on"
	}
	t.tell.begin(4, "renew", title)
	server, err := t.w.kit.StartEnrolment()
	if err != nil {
		return err
	}
	enroller, err := est.New(est.Config{URL: server.URL, Label: server.Label, Roots: server.Roots, Anchors: server.Roots})
	if err != nil {
		return err
	}
	r, err := t.renewer(enroller)
	if err != nil {
		return err
	}
	plan, err := r.Plan(ctx)
	if err != nil {
		return err
	}
	if plan.Outcome != renewal.ReseatCard { // which Renew tells, too
		t.tell.say("plan", plan.String(), plan)
	}
	res, err := r.Renew(ctx, func(p renewal.Progress) {
		t.changed = t.changed || p.Step != renewal.StepPlanned
		t.tell.progress(p)
		pause(ctx, t.o.pace)
	})
	t.tell.progressEnds()
	if err != nil {
		return stopOf(err)
	}
	t.tell.say(string(res.Outcome), res.Text, res)
	return nil
}

func (t *trip) renewer(e renewal.Enroller) (*renewal.Renewer, error) {
	return renewal.New(renewal.Config{Card: t.card, Guard: t.g, Recorder: t.record, Enroller: e, AsOf: t.w.asOf()})
}

// stopOf puts the end of a renewal in its own words.
func stopOf(err error) error {
	var e *renewal.Error
	if !errors.As(err, &e) {
		return err
	}
	text := e.Result.Text
	for i, r := range e.Result.Remedies {
		text += fmt.Sprintf("\n  %d. %s", i+1, r.Text)
	}
	return &stopError{text: text, err: err}
}

// signOnHold is step 5: renewed, but not yet taken out and put back.
func (t *trip) signOnHold(ctx context.Context) error {
	t.tell.begin(5, "sign_on_hold", "An attempt to sign before the card was taken out")
	err := t.mustRefuse(ctx)
	if t.w.test != nil && isOut(err) {
		t.tell.say("out", "The card is on its way out already, so this was not tried. Nothing was signed.", nil)
		return nil
	}
	return err
}

// sign is step 7: the guard says yes, and a $prepare answer is signed.
func (t *trip) sign(ctx context.Context) error {
	t.tell.begin(7, "sign", "A prescription is signed")
	v, err := t.judge(ctx)
	if err != nil {
		return err
	}
	t.tell.say(v.Decision.String(), v.String(), v)
	if t.prepared, err = t.w.prepared(); err != nil {
		return err
	}
	signed, err := signing.Sign(ctx, t.signer, t.prepared)
	if err != nil {
		return err
	}
	if err := t.show(signed); err != nil {
		return err
	}
	refused, made, err := t.countRecord()
	if err != nil {
		return err
	}
	t.tell.say("record", fmt.Sprintf("The decision record verifies. It shows %d refusals and %d signature(s).", refused, made),
		map[string]int{"refused": refused, "signed": made})
	if t.w.test != nil {
		if err := t.w.test.signed(); err != nil {
			return err
		}
	}
	t.tell.say("done", "Done. What was signed is simulated and worth nothing.", nil)
	return nil
}

// show tells what was signed and writes it out.
func (t *trip) show(signed *eps.Signed) error {
	if err := verify(t.prepared, signed); err != nil {
		return err
	}
	provenance, err := signed.Provenance(eps.ProvenanceInfo{
		ID:     "5f6f8a0e-3c3e-4c1a-9a52-0c8f1e6a7b10",
		Target: []string{"urn:uuid:0d5d2a1e-6f0b-4d0e-8c57-2f6b9d1f3a44"},
		Who:    "urn:uuid:b2a9b1de-8f0a-4d8e-a4f5-77a9b8f1c6d2",
	})
	if err != nil {
		return err
	}
	if err := t.out.signed(signed, provenance); err != nil {
		return err
	}
	text := fmt.Sprintf("Signed with %s, %d bytes; the signature verifies with the key of certificate %x.\n",
		t.prepared.Algorithm(), len(signed.SignatureValue()), signed.Certificate().SerialNumber)
	text += "The national service's checks:\n"
	for _, c := range signed.Checks() {
		text += fmt.Sprintf("  %d. %-13s %s", c.Number, words(c.Result.String()), words(c.Name))
		if c.Why != "" {
			text += ": " + c.Why
		}
		text += "\n"
	}
	text += fmt.Sprintf("FHIR Provenance: %d bytes.", len(provenance))
	if t.o.out != "" {
		text += "\nWritten to " + t.o.out + "."
		if !t.out.renewed {
			text += " The card was not renewed, so there is no new-certificate.pem."
		}
	}
	t.tell.say("signed", text, signed.Checks())
	return nil
}

// words writes a name of a check or a result as people do.
func words(s string) string { return strings.ReplaceAll(s, "_", " ") }

// countRecord verifies the decision record and counts its lines.
func (t *trip) countRecord() (refused, signed int, err error) {
	_, err = signing.VerifyRecord(t.w.file(recordName), func(e signing.Entry) error {
		switch e.Event {
		case signing.EventRefused:
			refused++
		case signing.EventSigned:
			signed++
		}
		return nil
	})
	return refused, signed, err
}

// pause lets a person look, and ends early when the journey is interrupted.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
