package renewal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/internal/card"
)

// Outcome is what a renewal came to: each is something a person can act on.
type Outcome string

// The outcomes.
const (
	Ready      Outcome = "ready"       // of a Plan: the card can be renewed here
	Completed  Outcome = "completed"   // renewed and re-seated; the card may sign
	ReseatCard Outcome = "reseat"      // take the card out and put it back
	Pending    Outcome = "pending"     // the authority decides later; renew again at Result.Until
	Resumable  Outcome = "resumable"   // stopped at Result.Step, or before the first; renew again
	NotNeeded  Outcome = "not_needed"  // nothing asks for this card's renewal
	NotOffered Outcome = "not_offered" // cannot be renewed here: Registration Authority
	GivenUp    Outcome = "given_up"    // ended without a new certificate
	WrongCard  Outcome = "wrong_card"  // another card is in the reader
	Refusal    Outcome = "refused"     // the guard or the card's state forbids it
)

// Result is the end of a call.
type Result struct {
	Outcome Outcome `json:"outcome"`
	// Step is the one that the renewal stands at, or ended with; empty when none is
	// known.
	Step     Step                   `json:"step,omitempty"`
	Text     string                 `json:"text"` // for the person, in plain words
	Remedies []advisory.Remedy      `json:"remedies,omitempty"`
	Until    time.Time              `json:"until,omitzero"` // Pending: ask again then, UTC
	Serial   string                 `json:"card,omitempty"` // token serial number
	Label    string                 `json:"label,omitempty"`
	Old      *guard.CertificateInfo `json:"old,omitempty"`
	New      *guard.CertificateInfo `json:"new,omitempty"`
	// OldKeyKept: the card could not destroy the old key; its certificate is gone.
	OldKeyKept bool `json:"old_key_kept,omitempty"`
}

// Error is a call that did not do what it is for: the result, and the cause where
// there is one (a *signing.CardError, an *EnrolError, a *JournalError, a
// *guard.Refused or *guard.Undecided, ctx's error).
type Error struct {
	Result Result
	Err    error
}

// Error gives the outcome, the step and the cause.
func (e *Error) Error() string {
	s := "renewal: " + string(e.Result.Outcome)
	if e.Result.Step != "" {
		s += " at step " + string(e.Result.Step)
	}
	if e.Err != nil {
		return s + ": " + e.Err.Error()
	}
	return s + ": " + e.Result.Text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

var (
	askRA    = advisory.Remedy{Kind: advisory.RegistrationAuthority, Text: "Contact your Registration Authority."}
	askIT    = advisory.Remedy{Kind: advisory.ITSupport, Text: "Contact your local IT support."}
	again    = advisory.Remedy{Kind: advisory.Renew, Text: "Start the renewal again. It goes on where it stopped."}
	later    = advisory.Remedy{Kind: advisory.Renew, Text: "Try again later."}
	reseat   = advisory.Remedy{Kind: advisory.Reseat, Text: "Take your smartcard out, put it back in and enter your passcode."}
	insert   = advisory.Remedy{Kind: advisory.Reseat, Text: "Put your smartcard into the reader."}
	usePaper = advisory.Remedy{Kind: advisory.Paper, Text: "If a patient is waiting, write a paper prescription."}
)

// noticed gives remedies the words of the notice that covers the card, where it has some
// of the same kind, and adds those of the kinds in more that it has: the way through the
// portal, the number of the service desk. Paper stays last.
func noticed(v guard.Verdict, rs []advisory.Remedy, more ...advisory.RemedyKind) []advisory.Remedy {
	rs = slices.Clone(rs)
	of := func(rs []advisory.Remedy, k advisory.RemedyKind) int {
		return slices.IndexFunc(rs, func(r advisory.Remedy) bool { return r.Kind == k })
	}
	for _, f := range v.Findings {
		if f.Reason != guard.Affected && f.Reason != guard.AffectedSoon {
			continue
		}
		for _, r := range f.Remedies {
			i := of(rs, r.Kind)
			switch {
			case i >= 0 && (r.Kind == advisory.RegistrationAuthority || r.Kind == advisory.ServiceDesk || r.Kind == advisory.Portal):
				rs[i] = r
			case i < 0 && slices.Contains(more, r.Kind):
				if i = of(rs, advisory.Paper); i < 0 {
					i = len(rs)
				}
				rs = slices.Insert(rs, i, r)
			}
		}
		break // one notice's words; the verdict has those of each
	}
	return rs
}

// ended makes the error of a result that is no success.
func ended(res Result, cause error) (Result, error) {
	return res, &Error{Result: res, Err: cause}
}

// Progress is an event of a running renewal.
type Progress struct {
	Step    Step          // what is being done
	Index   int           // of Step, from 1
	Of      int           // how many steps
	Share   float64       // of the whole that is behind, 0 to 1
	Elapsed time.Duration // since the passcode was entered
	// Remaining is an estimate, learnt from the steps that are done.
	Remaining time.Duration
	Text      string // what is being done, in plain words
	// Uninterrupted tells that the card is changed in this step. Ending the context stops
	// the renewal before the card is at work or when the step is done, and nothing in
	// between; in every other step it stops the renewal there.
	Uninterrupted bool
}

// uninterrupted are the steps in which the card is changed.
var uninterrupted = map[Step]bool{StepReplace: true, StepKey: true, StepWrite: true, StepSwitch: true, StepRetire: true}

// typical says how long steps take on a real card: about three minutes in all, as
// the notice of 2020 says. Only the proportions matter once a step was measured.
var typical = map[Step]time.Duration{
	StepPlanned: 2 * time.Second, StepHold: time.Second, StepReplace: 60 * time.Second, StepKey: 60 * time.Second,
	StepRequest: 5 * time.Second, StepEnrol: 60 * time.Second, StepWrite: 20 * time.Second,
	StepProve: 5 * time.Second, StepConfirm: 5 * time.Second, StepSwitch: 10 * time.Second,
	StepRetire: 10 * time.Second, StepReseat: 2 * time.Second,
}

var stepText = map[Step]string{
	StepPlanned: "Writing down what will be done",
	StepHold:    "Keeping the card from signing while it changes",
	StepReplace: "Making a new key in the old one's place on the card",
	StepKey:     "Making a new key on the card",
	StepRequest: "Asking in the new key's name",
	StepEnrol:   "Getting a new certificate",
	StepWrite:   "Writing the new certificate to the card",
	StepProve:   "Trying the new key",
	StepConfirm: "Telling the authority",
	StepSwitch:  "Putting the new certificate in the old one's place",
	StepRetire:  "Removing the old key",
	StepReseat:  "Getting ready for the card to be taken out",
	StepGivenUp: "Putting the card back as it was",
}

// takes is how long the steps of a renewal take on a real card.
func takes(replaces bool) (all time.Duration) {
	for _, s := range stepsOf(replaces) {
		all += typical[s]
	}
	return all
}

// meter turns steps into progress.
type meter struct {
	show    func(Progress)
	start   time.Time     // when the passcode was entered
	steps   []Step        // of this renewal, StepPlanned first
	skipped time.Duration // typical time of steps that were done when the run began
	done    time.Duration // typical time of steps that this run did
	all     time.Duration
}

// of says which steps the renewal has, and which of them were done before this run.
func (m *meter) of(replaces bool, done map[Step]bool) {
	steps := stepsOf(replaces)
	m.steps, m.all = steps[:len(steps)-1], takes(replaces)
	for _, s := range m.steps {
		if done[s] {
			m.skipped += typical[s]
		}
	}
}

func (m *meter) at(step Step, finished bool) {
	if m.show == nil {
		return
	}
	if finished {
		m.done += typical[step]
	}
	behind := m.skipped + m.done
	p := Progress{
		Step: step, Index: slices.Index(m.steps, step) + 1, Of: len(m.steps), Text: stepText[step],
		Elapsed: time.Since(m.start), Share: float64(behind) / float64(m.all), Remaining: m.all - behind,
		Uninterrupted: uninterrupted[step],
	}
	if m.done > 0 {
		p.Remaining = time.Duration(float64(p.Remaining) * float64(p.Elapsed) / float64(m.done))
	}
	m.show(p)
}

// atStep says in plain words where a renewal stopped.
func atStep(s Step) string {
	if t, ok := stepText[s]; ok {
		return fmt.Sprintf("It stopped here: %s.", t)
	}
	return "It stopped."
}

// advice is the next step that an error has for a person.
func advice(err error) string {
	var ce *card.Error
	var ee *EnrolError
	var je *JournalError
	var up *giveUp
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "It was stopped on request."
	case errors.As(err, &up):
		return whyText[up.why] + " Try again later, or contact your local IT support."
	case errors.Is(err, errLoginEnded):
		return "The card can no longer log in to the renewal service, or the date of this computer is wrong."
	case errors.Is(err, syscall.ENOSPC):
		return "This computer's disk is full. Make room, or contact your local IT support."
	case errors.As(err, &je), errors.Is(err, syscall.EROFS):
		return "This computer could not write down what is done. Contact your local IT support."
	case errors.As(err, &ce):
		return upper(ce.What()) + ": " + ce.Advice() + "."
	case errors.As(err, &ee):
		return enrolAdvice[ee.Kind]
	}
	return "Try again, or contact your local IT support."
}

var enrolAdvice = map[EnrolKind]string{
	Unreachable:      "The renewal service cannot be reached. Try again later.",
	Unavailable:      "The renewal service is busy. Try again later.",
	Rejected:         "The renewal service said no. Contact your Registration Authority.",
	Malformed:        "What answered was not the renewal service. Contact your local IT support.",
	WrongCertificate: "The renewal service sent what was not asked for. Contact your local IT support.",
}

func upper(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return string(s[0]-'a'+'A') + s[1:]
}

// waysOn are the remedies for an error that stops a renewal, the likeliest first. begun
// says whether there is a renewal to go on with.
func waysOn(err error, begun bool) []advisory.Remedy {
	retry := later
	if begun {
		retry = again
	}
	var ee *EnrolError
	if errors.As(err, &ee) && ee.Kind == Rejected || errors.Is(err, errLoginEnded) {
		return []advisory.Remedy{askRA, askIT, usePaper}
	}
	var ce *card.Error
	if errors.As(err, &ce) {
		switch ce.Kind {
		case card.Absent, card.Removed:
			return []advisory.Remedy{insert, retry, askIT, usePaper}
		case card.PINLocked, card.PINNotSet, card.LastTry:
			return []advisory.Remedy{askRA, usePaper}
		case card.PINIncorrect:
			if ce.TriesLeft == 0 {
				return []advisory.Remedy{askRA, usePaper}
			}
		}
	}
	return []advisory.Remedy{retry, askIT, usePaper}
}

// resultOf takes the result out of an *Error.
func resultOf(err error) (Result, error) {
	var e *Error
	if errors.As(err, &e) {
		return e.Result, err
	}
	return ended(Result{Outcome: Resumable, Text: advice(err)}, err)
}
