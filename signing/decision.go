package signing

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/tbs"
)

// entry is the record's line about a message.
func entry(ev Event, m tbs.Message, v guard.Verdict) Entry {
	e := EntryOf(ev, v)
	e.Document, e.SHA256 = m.Kind(), digestOf(m)
	return e
}

// refuse records a verdict that permits nothing and returns its error. cause may
// be nil.
func (s *Signer) refuse(ctx context.Context, m tbs.Message, v guard.Verdict, cause error) error {
	err := v.Err()
	if err == nil { // cannot be; yet nil would release
		err = errors.New("signing: nothing was signed")
	}
	if cause != nil {
		err = &unreadable{err, readError(cause)}
	}
	return s.record(ctx, entry(EventRefused, m, v), v, err)
}

// unreadable is the verdict on a card that could not be read, whose text tells the
// cause, and the cause itself.
type unreadable struct{ verdict, cause error }

func (e *unreadable) Error() string   { return e.verdict.Error() }
func (e *unreadable) Unwrap() []error { return []error{e.verdict, e.cause} }

// notSigned records that nothing was released for another reason than the verdict.
func (s *Signer) notSigned(ctx context.Context, m tbs.Message, v guard.Verdict, cause error) error {
	e := entry(EventNotSigned, m, v)
	e.Cause = causeName(cause)
	return s.record(ctx, e, v, cause)
}

// unfinished records that a signature did not pass its document's own checks.
func (s *Signer) unfinished(ctx context.Context, m tbs.Message, v guard.Verdict, cause error) error {
	e := entry(EventNotSigned, m, v)
	e.Cause = "format"
	return s.record(ctx, e, v, cause)
}

// record stores e, made of v, also when ctx has ended, raises the clock floor to it, and
// adds what fails to err.
func (s *Signer) record(ctx context.Context, e Entry, v guard.Verdict, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if rerr := s.rec.Record(ctx, e); rerr != nil {
		err = errors.Join(err, fmt.Errorf("signing: the decision could not be recorded: %w", rerr))
	}
	if errors.Is(err, errClockUnknown) { // and so cannot be raised
		return err
	}
	if kerr := s.keep(ctx, v); kerr != nil {
		err = errors.Join(err, kerr)
	}
	return err
}

// causeName names a failure in the record without its detail, which may hold what
// a prompt or a document said.
func causeName(err error) string {
	var ce *card.Error
	switch {
	case errors.As(err, &ce):
		return ce.Kind.String()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "cancelled"
	case errors.Is(err, errUnsuitable):
		return "unsuitable"
	case errors.Is(err, errClockUnknown):
		return "clock_unknown"
	}
	return "error"
}

func digestOf(m tbs.Message) string {
	sum := tbs.Sum(m)
	return hex.EncodeToString(sum[:])
}
