package main

import (
	"context"
	"errors"
	"strings"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/renewal"
	"github.com/rxguard/rxguard/signing"
	"github.com/rxguard/rxguard/signing/eps"
)

// end closes what is open, and on a failure says what the card's state is. A world
// that can be gone on with stays.
func (t *trip) end(ctx context.Context, err error) error {
	if t.card != nil {
		_ = t.card.Close()
	}
	if t.record != nil {
		_ = t.record.Close()
	}
	resumed := t.o.resume != ""
	keep := t.w.test != nil || err != nil && (resumed || t.changed && !hopeless(err))
	if cerr := t.w.close(!keep); err == nil {
		err = cerr
	}
	if err == nil {
		return nil
	}
	text := ending(ctx, err)
	if t.w.test != nil {
		return &stopError{text: text + t.goOn(err), err: err}
	}
	switch {
	case keep && !hopeless(err):
		text += "\nThe card is safe. To go on where this stopped:\n  go run ./examples/prescriber --resume " + t.w.dir
		if t.o.out != "" {
			text += " --out " + t.o.out
		}
		if t.o.json {
			text += " --json"
		}
	case keep:
		text += "\nThe simulated card stays in " + t.w.dir + "."
	case !t.changed:
		text += "\nThe card was not changed."
	}
	return &stopError{text: text, err: err}
}

// ending puts an error in plain words, with the way out that it names.
func ending(ctx context.Context, err error) string {
	if ctx.Err() != nil {
		return "Interrupted."
	}
	var stop *stopError
	told := errors.As(err, &stop)
	switch {
	case told && refusedOfficer(err):
		return stop.text + "\n" + textOfficer
	case told:
		return stop.text
	case refusedOfficer(err):
		return textOfficer
	}
	text := "This did not work: " + err.Error()
	var ce *signing.CardError
	if errors.As(err, &ce) {
		text += "\n" + upper(ce.Advice()) + "."
	}
	return text
}

// before is the end of a journey that could not begin. An error of the command line or a
// file that it names stays.
func before(ctx context.Context, o options, err error) error {
	var usage *usageError
	if errors.As(err, &usage) && ctx.Err() == nil {
		return err
	}
	text := ending(ctx, err)
	if o.resume == "" {
		text += "\nThe card was not changed."
	}
	return &stopError{text: text, err: err}
}

const textOfficer = "The token refused its security officer's secret. Of a PIV card that is the management key, 48 hexadecimal digits. " +
	"It comes from --so-file, " + soEnv + " or the terminal."

// refusedOfficer tells whether it was the security officer's secret that was wrong, and
// not that nobody entered one or that the token was pulled meanwhile.
func refusedOfficer(err error) bool {
	var ce *signing.CardError
	if !errors.As(err, &ce) || !strings.Contains(ce.Detail, "security officer") {
		return false
	}
	switch ce.Kind {
	case signing.PINCancelled, signing.CardAbsent, signing.CardRemoved, signing.CardFault, signing.CardWedged, signing.CardOther:
		return false
	}
	return true
}

// goOn says how a journey on a token goes on.
func (t *trip) goOn(err error) string {
	switch {
	case hopeless(err) && (t.changed || t.w.test.touched):
		text := "\nThe token stays as it is; what belongs to it is in " + t.w.dir + "."
		if unreadable(err) {
			text += "\nTo begin again, empty the token with its own software, and run the same command: what is in that folder is then given up."
		}
		return text
	case !hopeless(err) && (t.changed || t.w.test.touched):
		return "\nThe card is safe. To go on where this stopped:\n  " + t.w.test.again()
	}
	return "\nThe card was not changed."
}

// hopeless tells whether going on cannot help: a renewal that was given up, an
// answer that the card can never sign, what was written down and cannot be read.
func hopeless(err error) bool {
	var stop *stopError
	if errors.As(err, &stop) && stop.final {
		return true
	}
	if unreadable(err) {
		return true
	}
	var e *renewal.Error
	var cert *eps.CertificateError
	var checks *eps.CheckError
	return errors.As(err, &e) && e.Result.Outcome == renewal.NotOffered || errors.As(err, &cert) || errors.As(err, &checks)
}

// unreadable tells whether what was written down of the card's hold or its renewal cannot
// be read.
func unreadable(err error) bool {
	var journal *renewal.JournalError
	var undecided *guard.Undecided
	return errors.As(err, &journal) || errors.As(err, &undecided) && undecided.Verdict.Has(guard.HoldUnknown)
}
