package signing

import (
	"context"
	"fmt"

	"github.com/rxguard/rxguard/internal/card"
)

// Outcome is what became of one document of SignEach.
type Outcome[T any] struct {
	Signed T     // where Err is nil
	Err    error // why it was not signed; a *NotReached: it was not tried
}

// NotReached is the error of a document that SignEach did not try, because one
// before it could not be signed for a reason that holds for all.
type NotReached struct {
	Cause error // of the one before
}

func (e *NotReached) Error() string {
	return "signing: not tried, because an earlier document could not be signed; nothing was signed"
}

// BatchError says that not all documents of SignEach were signed.
type BatchError struct {
	Signed, Documents int   // how many of how many
	Err               error // of the first that was not signed
}

func (e *BatchError) Error() string {
	return fmt.Sprintf("signing: %d of %d documents were signed; the first that was not: %v", e.Signed, e.Documents, e.Err)
}

func (e *BatchError) Unwrap() error { return e.Err }

// SignEach signs documents one after the other under one passcode entry. Each is
// judged, signed, verified and recorded on its own, as Sign does it. The outcomes
// are in the order of the documents, and each, which may be nil, is told every one
// as soon as it is known, in the caller's goroutine.
//
// What is wrong with one document, such as its format, does not keep the others
// from being signed. Anything else ends the batch: a card that was taken out, also
// when it is back, a refusal, a wrong passcode, a record that cannot be kept, the
// end of ctx. The documents after it are not tried and say so with a *NotReached.
// What was signed before stays signed and is in the outcomes.
//
// A key that wants its passcode for each signature is asked for it each time.
//
// The error is nil when all were signed, and a *BatchError otherwise.
func SignEach[T any, D Document[T]](ctx context.Context, s *Signer, documents []D, each func(int, Outcome[T])) ([]Outcome[T], error) {
	outcomes := make([]Outcome[T], len(documents))
	var b batch
	var first, stopped error
	signed := 0
	for i, d := range documents {
		o := &outcomes[i]
		if stopped != nil {
			o.Err = &NotReached{stopped}
		} else {
			var alone bool
			o.Signed, alone, o.Err = sign[T](ctx, s, d, &b)
			if o.Err != nil && !alone {
				stopped = o.Err
			}
		}
		switch {
		case o.Err == nil:
			signed++
		case first == nil:
			first = o.Err
		}
		if each != nil {
			each(i, *o)
		}
	}
	if first != nil {
		return outcomes, &BatchError{Signed: signed, Documents: len(documents), Err: first}
	}
	return outcomes, nil
}

// batch holds the documents of one SignEach to the session that its first one was
// signed in: what comes after another insertion is another passcode entry.
type batch struct {
	desk *desk
}

func (b *batch) stays(d *desk) error {
	switch {
	case b == nil || b.desk == d:
	case b.desk == nil:
		b.desk = d
	default:
		return card.Errorf(card.Removed, "sign", "the card was taken out, or its session ended, in the middle of a batch")
	}
	return nil
}
