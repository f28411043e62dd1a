package eps

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzParsePrepared states an identity: what is accepted is, byte for byte, the
// SignedInfo written for its algorithm and digest.
func FuzzParsePrepared(f *testing.F) {
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := ParsePrepared(in)
		if err != nil {
			var format *FormatError
			var outcome *OutcomeError
			if p != nil || !errors.As(err, &format) && !errors.As(err, &outcome) {
				t.Fatalf("%v with %T %v", p, err, err)
			}
			if len(err.Error()) > 4096 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		want, err := SignedInfo(p.Algorithm(), p.DigestValue())
		if err != nil || !bytes.Equal(want, p.SignedInfo()) {
			t.Fatalf("%v: accepted %q, wanted %q", err, p.SignedInfo(), want)
		}
		again, err := ParsePrepared(answer(p.SignedInfo(), p.Timestamp(), p.Algorithm().String()))
		if err != nil || !bytes.Equal(again.SignedInfo(), p.SignedInfo()) || !again.Time().Equal(p.Time()) {
			t.Fatalf("does not parse again: %v", err)
		}
	})
}
