package renewal

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/state"
)

// Plan says what a renewal of the card in the reader would do, before anything
// happens. Making one changes nothing and asks for no passcode.
type Plan struct {
	Outcome  Outcome               `json:"outcome"` // Ready, or why not
	Text     string                `json:"text"`
	Remedies []advisory.Remedy     `json:"remedies,omitempty"`
	Serial   string                `json:"card,omitempty"`
	Label    string                `json:"label,omitempty"`
	Old      guard.CertificateInfo `json:"old,omitzero"`
	Verdict  guard.Verdict         `json:"verdict"`
	Creates  []string              `json:"creates,omitempty"`
	Removes  []string              `json:"removes,omitempty"`
	Asks     []string              `json:"asks,omitempty"` // of the person
	Needs    []string              `json:"needs,omitempty"`
	Takes    time.Duration         `json:"takes_ns,omitempty"` // on a real card, about
	// Destructive: the card has no room for a new pair beside the old one, which is given
	// up before there is a new certificate. Config.Replace is asked first.
	Destructive bool `json:"destructive,omitempty"`
	// Resumes is the step where an unfinished renewal of this card goes on.
	Resumes Step `json:"resumes,omitempty"`
}

// String prints the plan for a person.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", p.Text)
	for _, l := range []struct {
		head  string
		lines []string
	}{{"makes", p.Creates}, {"removes", p.Removes}, {"asks", p.Asks}, {"needs", p.Needs}} {
		for _, s := range l.lines {
			fmt.Fprintf(&b, "  %s: %s\n", l.head, s)
		}
	}
	if p.Takes > 0 {
		fmt.Fprintf(&b, "  takes: about %.0f minutes on a real card\n", p.Takes.Minutes())
	}
	for i, r := range p.Remedies {
		fmt.Fprintf(&b, "  %d. %s\n", i+1, r.Text)
	}
	return b.String()
}

// Plan looks at the card and says whether it can be renewed here, and how. An Enroller
// that is a Prober is asked whether the authority answers, without the card's key;
// where it does not the outcome is Resumable. Errors are those of the card, of the
// journal and of the machine's state folder, and ctx's.
func (r *Renewer) Plan(ctx context.Context) (Plan, error) {
	v, err := r.open(ctx)
	if err != nil {
		return Plan{}, err
	}
	defer v.s.Close()
	j, err := openJournal(r.dir.Path(), v.id)
	if err != nil {
		return Plan{}, err
	}
	hold, err := r.dir.Hold(v.names...)
	if err != nil {
		return Plan{}, err
	}
	if err := r.lookAtClock(); err != nil {
		return Plan{}, err
	}
	p, _ := r.planned(ctx, v, j.last(), hold)
	if err := ctx.Err(); err != nil {
		return Plan{}, err
	}
	return p, nil
}

// planned is plan, and for a renewal that could begin whether the authority answers:
// the error is why not.
func (r *Renewer) planned(ctx context.Context, v *view, last *progress, hold *state.Hold) (Plan, error) {
	p := r.plan(v, last, hold)
	if p.Outcome != Ready || p.Resumes != "" {
		return p, nil
	}
	err := r.reach(ctx)
	if err == nil {
		return p, nil
	}
	return Plan{
		Outcome: Resumable, Text: "The renewal did not begin. The card was not changed. " + advice(err),
		Remedies: noticed(p.Verdict, waysOn(err, false), advisory.Portal, advisory.ServiceDesk),
		Serial:   p.Serial, Label: p.Label, Old: p.Old, Verdict: p.Verdict,
	}, err
}

// full is a plan of a card without room for a second pair, whose old one stays.
func full(p Plan) Plan {
	return Plan{
		Outcome: NotOffered, Text: textFull + " The card was not changed.",
		Remedies: noticed(p.Verdict, []advisory.Remedy{askRA, usePaper}, advisory.Portal, advisory.ServiceDesk),
		Serial:   p.Serial, Label: p.Label, Old: p.Old, Verdict: p.Verdict,
	}
}

// plan is the decision, a pure function of the card, the journal, the hold, the
// clock and the guard's verdict.
func (r *Renewer) plan(v *view, last *progress, hold *state.Hold) Plan {
	p := r.decide(v, last, hold)
	if p.Outcome != Ready && orphaned(v, last, hold) {
		p.Outcome, p.Text, p.Remedies = ReseatCard, textReseat, withReseat(p.Remedies)
	}
	return p
}

// elsewhere tells whether the card's renewal is kept under another name: it was begun
// through another PKCS#11 module, or an earlier version of the one in use, whose
// CKA_IDs need not be the same. Nobody goes on with it here; giving it up and
// re-seating the card are the same through each.
func elsewhere(v *view, h *state.Hold) bool { return h != nil && h.Card != v.id }

const textElsewhere = "A renewal of this card was begun with other card software. Go on with that software, or give the renewal up."

const textFull = "The card has no room for a new key beside the old one."

const (
	textDestructive = " The card has no room for the new key beside the old one: if the renewal fails half way, " +
		"the card cannot sign until it is finished, or until your Registration Authority has renewed it."
	askDestructive = "a yes to giving up the old key first"
)

const textReseat = "This card waits to be taken out and put back in."

const textNotNeeded = "Nothing asks for the renewal of this card. It was left alone."

func (r *Renewer) decide(v *view, last *progress, hold *state.Hold) Plan {
	p := Plan{Serial: v.info.Serial, Label: v.info.Label}
	p.Verdict = r.judgeNow(v.snapshot(r.simulated()))
	if v.signing.Certificate != nil {
		p.Old = v.signing.Certificate.Info()
	}
	no := func(o Outcome, text string, rs ...advisory.Remedy) Plan {
		p.Outcome, p.Text, p.Remedies = o, text, rs
		return p
	}
	switch {
	case elsewhere(v, hold) && hold.Phase == state.Renewing:
		return no(Refusal, textElsewhere, askIT, askRA, usePaper)
	case elsewhere(v, hold):
		return no(ReseatCard, textReseat, reseat)
	case last.reseated(hold): // finished but for the last line of its journal
	case last != nil && !last.finished && !last.done[StepReseat]:
		p.Resumes = last.next()
		// By a clock that is behind the new certificate would not be valid yet, and the
		// renewal be given up.
		for _, f := range p.Verdict.Findings {
			if f.Reason == guard.ClockBehind {
				return no(Refusal, f.Text, f.Remedies...)
			}
		}
		p.Asks = []string{"your passcode"}
		p.Outcome, p.Text = Ready, "A renewal of this card was begun and goes on. "+atStep(p.Resumes)
		if p.Destructive = last.replaces() && v.hasCertificate(last.plan.OldCertificate); p.Destructive {
			p.Text += textDestructive
			p.Asks = append(p.Asks, askDestructive)
		}
		return p
	case last != nil && !last.finished:
		return no(ReseatCard, "This card was renewed. Take it out and put it back in.", reseat)
	case last != nil && last.givenUp && last.replaces() && v.serr != nil: // a re-seat ends no hold on it
	case hold != nil && hold.Phase == state.Reseat:
		return no(ReseatCard, textReseat, reseat)
	}
	if v.serr != nil {
		f := p.Verdict.Findings[0]
		return no(Refusal, f.Text, f.Remedies...)
	}
	affected, forbidden := false, ""
	for _, f := range p.Verdict.Findings {
		switch {
		case f.Reason == guard.Affected || f.Reason == guard.AffectedSoon:
			affected = true
			if !f.Advisory.CardMayAuthenticate {
				forbidden = f.Advisory.ID
			}
		case f.Reason == guard.Expired:
			return no(NotOffered, "This card has expired. It must be renewed in person.", askRA, usePaper)
		case !f.Effect.Permits():
			return no(Refusal, f.Text, f.Remedies...)
		}
	}
	// What the portal can do for the card, too, is said where it can.
	desk, portal := []advisory.RemedyKind{advisory.ServiceDesk}, []advisory.RemedyKind{advisory.Portal, advisory.ServiceDesk}
	notOffered := func(text string, more []advisory.RemedyKind) Plan {
		return no(NotOffered, text, noticed(p.Verdict, []advisory.Remedy{askRA, usePaper}, more...)...)
	}
	given := func(why string) bool { // an earlier renewal of the same certificate ended so
		return last != nil && last.givenUp && last.why == why && last.plan.OldCertificate == p.Old.SHA256
	}
	_, canAsk := r.c.Enroller.(Prober)
	noRoom := v.info.Room == 0 || given(whyFull) || last != nil && last.replaces() && given(last.why)
	switch {
	case !affected:
		return no(NotNeeded, textNotNeeded)
	case forbidden != "":
		return notOffered("The notice "+forbidden+" wants this card renewed in person.", desk)
	case given(whyAffectedAgain):
		// Asking again would be a loop.
		return notOffered("The last renewal of this card brought a certificate that is affected too. It must be renewed in person.", desk)
	case v.aerr != nil:
		return notOffered("This card has nothing to log in to the renewal service with.", desk)
	case r.now().After(v.auth.Certificate.Info().NotAfter):
		return notOffered("This card can no longer log in to the renewal service. It must be renewed in person.", desk)
	case bytes.Equal(v.auth.ID, v.signing.ID):
		return notOffered("On this card logging in and signing share one container, so it cannot be renewed here.", portal)
	case !bytes.Equal(v.auth.Certificate.X509().RawSubject, v.signing.Certificate.X509().RawSubject):
		return notOffered("The card's two certificates name different people, so it cannot be renewed here.", desk)
	case r.c.Window > 0 && r.now().Before(p.Old.NotAfter.Add(-r.c.Window)):
		from := p.Old.NotAfter.Add(-r.c.Window).UTC().Format("2 January 2006")
		return notOffered("The renewal service renews this card only from "+from+" on. Until then it must be renewed in person.", desk)
	case v.info.NoKeyPairs:
		return notOffered("This card, or its software, makes no new keys, so it cannot be renewed here.", portal)
	case noRoom && (r.c.Replace == nil || !canAsk):
		return full(p)
	}
	name := nameCard(v.info.Label, v.info.Serial, "")
	if v.info.Serial != "" {
		name += ","
	}
	p.Outcome, p.Text = Ready, name+" will get a new signing certificate."
	p.Creates = []string{"a new RSA key pair in a container of its own", "a new signing certificate"}
	p.Removes = []string{"the old certificate (serial " + p.Old.Serial + ") and its key, once the new pair has signed and verified"}
	p.Asks = []string{"your passcode", "to take the card out and put it back in", "your passcode again"}
	if v.signing.AlwaysAuthenticate {
		p.Asks[0] = "your passcode, up to three times"
	}
	if p.Destructive = noRoom; noRoom {
		p.Text += textDestructive
		p.Creates[0] = "a new RSA key pair in the old one's place"
		p.Removes[0] = "the old certificate (serial " + p.Old.Serial + ") and its key, before there is a new certificate"
		p.Asks = slices.Insert(p.Asks, 1, askDestructive)
	}
	p.Needs = []string{"the card stays in the reader", "the enrolment server answers"}
	p.Takes = takes(noRoom)
	return p
}
