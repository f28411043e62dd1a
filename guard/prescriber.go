package guard

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rxguard/rxguard/guard/advisory"
)

// ForPrescriber is the verdict in plain words for the one who holds the card: whether
// the card can sign, what happened, and what to do now, in that order, each once. It
// says nothing of what is for others to look after; that is in String. Dates are in
// the time of the United Kingdom.
func (v Verdict) ForPrescriber() string {
	if len(v.Findings) == 0 && !v.Decision.Permits() { // nobody made this verdict
		v.Findings = []Finding{finding(Unspecified)}
	}
	var b strings.Builder
	line := func(s string) {
		b.WriteString(oneLine(s))
		b.WriteByte('\n')
	}
	line(v.heading())
	said := map[string]bool{}
	for i := range v.Findings {
		if f := &v.Findings[i]; v.concerns(f) {
			if s := plain(f, v.At); !said[s] {
				said[s] = true
				line(s)
			}
		}
	}
	if remedies := v.remedies(); len(remedies) > 0 {
		line(whatNow)
		for i, r := range remedies {
			line(fmt.Sprintf("%d. %s", i+1, remedyText(r)))
		}
	}
	return b.String()
}

func (v *Verdict) heading() string {
	switch v.Decision {
	case DecisionUndecided:
		return headUndecided
	case DecisionWarned:
		return headWarned
	case DecisionAllowed:
		return headAllowed
	}
	return headRefused
}

// concerns tells whether the prescriber is to hear of a finding now: while something
// stops the work, only of that.
func (v *Verdict) concerns(f *Finding) bool {
	switch {
	case !v.Decision.Permits():
		return !f.Effect.Permits()
	case f.Effect == DecisionWarned:
		return true
	}
	return f.Reason == AffectedEnded || f.Reason == AffectedFixed
}

// plain is a finding's text without what the heading says already, and by when to act
// unless that is over.
func plain(f *Finding, at time.Time) string {
	s := f.Text
	for _, e := range []Decision{DecisionRefused, DecisionWarned} {
		s = strings.Replace(s, endings[e], "", 1)
	}
	s = strings.Join(strings.Fields(s), " ")
	if f.By.After(at) {
		s += " " + fmt.Sprintf(doThisBy, day(f.By))
	}
	return s
}

// remedies are those of all findings that concern the prescriber: whom to turn to each
// once, what to try in all its ways, and paper last.
func (v *Verdict) remedies() []advisory.Remedy {
	var all []advisory.Remedy
	var paper []advisory.Remedy
	for i := range v.Findings {
		f := &v.Findings[i]
		if !v.concerns(f) {
			continue
		}
		for _, r := range f.Remedies {
			switch {
			case r.Kind == advisory.Paper:
				paper = []advisory.Remedy{r}
			case f.Reason == Affected && v.standsInTheWay(r.Kind):
			case !slices.ContainsFunc(all, func(o advisory.Remedy) bool {
				return o.Kind == r.Kind && (o.Text == r.Text || o.Kind != advisory.Reseat && o.Kind != advisory.ITSupport)
			}):
				all = append(all, r)
			}
		}
	}
	return append(all, paper...)
}

// standsInTheWay tells whether something else than the notice, or another notice,
// keeps the holder from being helped by a renewal.
func (v *Verdict) standsInTheWay(k advisory.RemedyKind) bool {
	switch k {
	case advisory.Renew:
		return !v.renewalHelps()
	case advisory.Portal:
		return slices.ContainsFunc(v.Findings, func(f Finding) bool { return !f.Effect.Permits() && f.Reason != Affected })
	}
	return false
}

func remedyText(r advisory.Remedy) string {
	text := r.Text
	if r.Phone != "" {
		text += " (" + r.Phone + ")"
	}
	if r.URL != "" {
		text += " " + r.URL
	}
	return text
}

// day writes an instant for prescribers.
func day(t time.Time) string {
	t = ukTime(t)
	if t.Hour() == 0 && t.Minute() == 0 && t.Second() == 0 {
		return t.Format(dayForm)
	}
	return t.Format(dayTimeForm)
}

// ukTime is the time on British clocks: summer time, an hour ahead, is from 01:00 UTC on
// the last Sunday in March until 01:00 UTC on the last Sunday in October (Summer Time
// Order 2002, SI 2002/262). The standard library would read time zones from a disk.
func ukTime(t time.Time) time.Time {
	t = t.UTC()
	change := func(m time.Month) time.Time {
		last := time.Date(t.Year(), m, 31, 1, 0, 0, 0, time.UTC)
		return last.AddDate(0, 0, -int(last.Weekday()))
	}
	if !t.Before(change(time.March)) && t.Before(change(time.October)) {
		t = t.Add(time.Hour)
	}
	return t
}
