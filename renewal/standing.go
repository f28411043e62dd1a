package renewal

import (
	"time"

	"github.com/rxguard/rxguard/guard/advisory"
)

// Standing is where a renewal stands, by its journal alone: the card and the machine's
// holds, which decide what a Renewer does, are not looked at.
type Standing struct {
	Renewal string `json:"renewal"` // id
	// Outcome is Completed, ReseatCard, Pending, Resumable or GivenUp.
	Outcome    Outcome           `json:"outcome"`
	Step       Step              `json:"step,omitempty"` // the one that comes next; empty at the end
	Text       string            `json:"text"`           // for a person, in plain words
	Remedies   []advisory.Remedy `json:"remedies,omitempty"`
	Until      time.Time         `json:"until,omitzero"` // Pending: UTC
	OldKeyKept bool              `json:"old_key_kept,omitempty"`
}

// Ended tells whether nothing more is to be done for the renewal.
func (s Standing) Ended() bool {
	return s.Step == "" && (s.Outcome == Completed || s.Outcome == GivenUp)
}

// StandingOf says where the last renewal stands of which there are entries, as
// ReadJournal returns them or the first of those. false: there is none.
func StandingOf(entries []JournalEntry) (Standing, bool) {
	p := (&journal{entries: entries}).last()
	if p == nil {
		return Standing{}, false
	}
	s := Standing{Renewal: p.id, OldKeyKept: p.keptKey}
	stands := func(o Outcome, text string, rs ...advisory.Remedy) (Standing, bool) {
		s.Outcome, s.Text, s.Remedies = o, text, rs
		return s, true
	}
	switch {
	case p.done[StepGivenUp]:
		return stands(GivenUp, whyGivenUp(p.why)+" It ended without a new certificate. If the card still waits, take it out and put it back in.", askRA)
	case p.givenUp:
		s.Step = StepGivenUp
		return stands(GivenUp, whyGivenUp(p.why)+" What it left on the card is not yet removed.", again, askRA)
	case p.done[StepDone]:
		return stands(Completed, "The card was renewed and put back in.")
	case p.done[StepReseat]:
		s.Step = StepDone
		return stands(ReseatCard, "The card was renewed. It waits to be taken out and put back in.", reseat)
	}
	s.Step = p.next()
	if !p.done[StepEnrol] && !p.askFrom.IsZero() {
		s.Until = p.askFrom.UTC()
		return stands(Pending, "The renewal service has the request and decides later. It is asked again after "+
			s.Until.Format("15:04 on 2 January 2006 UTC")+".", again, askRA, usePaper)
	}
	return stands(Resumable, "The renewal is not finished. It is here: "+s.Step.Text()+". Where no program is at work on it, it stopped.", again, askRA, usePaper)
}

// whyGivenUp is the journal's word for why in plain words.
func whyGivenUp(why string) string {
	if t, ok := whyText[why]; ok {
		return t
	}
	return "The renewal was given up."
}

// Text says in plain words what is done in a step.
func (s Step) Text() string {
	if s == StepDone {
		return "Seeing the card taken out and put back in"
	}
	return stepText[s]
}
