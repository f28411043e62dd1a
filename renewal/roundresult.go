package renewal

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/rxguard/rxguard/guard"
)

// RoundResult is what the cards of a Round came to. It prints as a summary for the
// person and marshals to JSON.
type RoundResult struct {
	// Cards are those that were seen, each once, in the order in which they were seen
	// to.
	Cards []CardResult `json:"cards"`
	// Stopped says in plain words why the Round ended before every card was seen to;
	// empty: it did not.
	Stopped string `json:"stopped,omitempty"`
}

// CardResult is what one card came to: Completed, NotNeeded and WrongCard, of a card
// that is not in the person's name, leave nothing to do.
type CardResult struct {
	Reader string `json:"reader,omitempty"` // where it was seen last
	Result
	Err error `json:"-"` // why the renewal did not do what it is for; nil: it did
}

// settled tells whether a card needs nothing more of the person.
func (c CardResult) settled() bool { return c.Outcome == Completed || c.leftAlone() }

func (c CardResult) leftAlone() bool { return c.Outcome == NotNeeded || c.Outcome == WrongCard }

// String says which cards were renewed, which were left alone and why, and what is
// still to be done. Control characters in what a card or a reader is called are shown
// as U+FFFD.
func (r RoundResult) String() string {
	var b strings.Builder
	for _, part := range []struct {
		head string
		is   func(CardResult) bool
	}{
		{"Renewed:", func(c CardResult) bool { return c.Outcome == Completed }},
		{"Left alone:", CardResult.leftAlone},
		{"Still to be done:", func(c CardResult) bool { return !c.settled() }},
	} {
		head := part.head + "\n"
		for _, c := range r.Cards {
			if !part.is(c) {
				continue
			}
			fmt.Fprintf(&b, "%s  %s: %s\n", head, nameCard(c.Label, c.Serial, c.Reader), c.Text)
			head = ""
			for i, m := range c.Remedies {
				if !c.settled() {
					fmt.Fprintf(&b, "    %d. %s\n", i+1, m.Text)
				}
			}
		}
	}
	switch {
	case r.Stopped != "":
		fmt.Fprintf(&b, "This ended early. %s\n", r.Stopped)
	case len(r.Cards) == 0:
		b.WriteString("No card was put in.\n")
	}
	return b.String()
}

// nameCard names a card for the person.
func nameCard(label, serial, reader string) string {
	s := "Card " + label
	switch {
	case label == "" && serial == "":
		s = "A card"
	case label == "":
		s = "The card"
	}
	if serial != "" {
		s += ", serial " + serial
	}
	if reader != "" {
		s += ", in " + reader
	}
	return oneLine(s)
}

// oneLine keeps what a card, its module or a reader says of itself from looking like a
// line of ours, or doing something to a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// RoundError is a Round after which something is still to be done: the result, and
// the cause. That is what ended the Round early, or else the *Error of the first card
// that has one.
type RoundError struct {
	Result RoundResult
	Err    error
}

// Error counts the cards and gives the cause.
func (e *RoundError) Error() string {
	left := 0
	for _, c := range e.Result.Cards {
		if !c.settled() {
			left++
		}
	}
	s := fmt.Sprintf("renewal: %d of %d cards still to be done", left, len(e.Result.Cards))
	switch {
	case e.Result.Stopped != "":
		s += "; the round ended early"
	case e.Err != nil:
		s += "; the first"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *RoundError) Unwrap() error { return e.Err }

var errNoCardSeen = fmt.Errorf("renewal: %w", guard.ErrNoCard)

// ended makes the result of a run that was ended early by a cause, or not: nil.
func (r *roundRun) ended(cause error) (RoundResult, error) {
	res := r.sofar()
	if cause != nil {
		res.Stopped = advice(cause)
		return res, &RoundError{res, cause}
	}
	if len(res.Cards) == 0 && r.NextCard == nil {
		return res, &RoundError{res, errNoCardSeen}
	}
	for _, c := range res.Cards {
		if c.settled() {
			continue
		}
		err := c.Err
		if err == nil {
			err = errors.New("renewal: " + string(c.Outcome) + ": " + c.Text)
		}
		return res, &RoundError{res, err}
	}
	return res, nil
}
