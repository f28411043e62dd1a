package main

import (
	"context"
	"errors"

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
	text := "This did not work: " + err.Error()
	var ce *signing.CardError
	if errors.As(err, &ce) {
		text += "\n" + upper(ce.Advice()) + "."
	}
	var stop *stopError
	if errors.As(err, &stop) {
		text = stop.text
	}
	if ctx.Err() != nil {
		text = "Interrupted."
	}
	if t.w.test != nil {
		return &stopError{text + t.goOn(err), err}
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
	return &stopError{text, err}
}

// goOn says how a journey on a token goes on.
func (t *trip) goOn(err error) string {
	switch {
	case hopeless(err):
		return "\nThe token stays as it is; what belongs to it is in " + t.w.dir + "."
	case t.changed, t.w.test.touched:
		return "\nThe card is safe. To go on where this stopped:\n  " + t.w.test.again()
	}
	return "\nThe card was not changed."
}

// hopeless tells whether going on cannot help: a renewal that was given up, an
// answer that the card can never sign.
func hopeless(err error) bool {
	var e *renewal.Error
	var cert *eps.CertificateError
	var checks *eps.CheckError
	return errors.As(err, &e) && e.Result.Outcome == renewal.NotOffered || errors.As(err, &cert) || errors.As(err, &checks)
}
