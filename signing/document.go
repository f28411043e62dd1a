package signing

import (
	"context"
	"crypto/x509"
	"errors"

	"github.com/rxguard/rxguard/internal/tbs"
)

// Document is what can be signed: eps.Prepared and cms.Content are. ToBeSigned gives
// the bytes, which only this module's own types can make; Finish turns the verified
// signature into the document's output and adds its format's checks.
//
// A foreign type may implement Document by forwarding to one of ours. It then
// signs that document and nothing else.
type Document[T any] interface {
	ToBeSigned() (tbs.Message, error)
	Finish(tbs.Signature) (T, error)
}

// accepter is a Document that can tell before the passcode is asked that a
// certificate will not do.
type accepter interface {
	Accepts(*x509.Certificate) error
}

// ErrNotADocument is returned by Sign for a Document whose bytes this module did
// not parse.
var ErrNotADocument = errors.New("signing: not a document: its bytes were not parsed by this module; nothing was signed")

// Sign signs one document: see the package comment for what happens and which
// errors come. It waits for the person and the card, and for other signatures of
// the same Signer; when ctx ends it returns ctx's error and nothing is released.
func Sign[T any](ctx context.Context, s *Signer, d Document[T]) (T, error) {
	out, _, err := sign(ctx, s, d, nil)
	return out, err
}

// sign is Sign, for a document of a batch where b is one. It tells whether an error
// is about this document alone.
func sign[T any](ctx context.Context, s *Signer, d Document[T], b *batch) (out T, alone bool, err error) {
	var none T
	if d == nil {
		return none, true, ErrNotADocument
	}
	m, err := d.ToBeSigned()
	if err != nil {
		return none, true, err
	}
	var accepts func(*x509.Certificate) error
	if a, ok := d.(accepter); ok {
		accepts = a.Accepts
	}
	sig, v, err := s.sign(ctx, m, accepts, b)
	if err != nil {
		return none, errors.Is(err, errUnsuitable) || errors.Is(err, ErrNotADocument), err
	}
	out, err = d.Finish(sig)
	if err != nil {
		return none, true, s.unfinished(ctx, m, v, err)
	}
	return out, false, nil
}
