package cms

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
)

// FuzzVerify states what acceptance means: nobody without a key of the folder's
// authority gets anything accepted but what that authority's holders signed, and
// what is refused is refused with a typed error of bounded size.
func FuzzVerify(f *testing.F) {
	content := vector(f, "content")
	o := trusting(f)
	o.Content = nil
	whose := [][]byte{certificate(f, "rsa").Raw, certificate(f, "ec").Raw}
	f.Fuzz(func(t *testing.T, der []byte, detached bool) {
		o := o
		if detached {
			o.Content = content
		}
		r, err := Verify(der, o)
		var format *FormatError
		var failed *CheckError
		var undecided *UndecidedError
		switch {
		case err == nil:
			if detached != (r.Content == nil) && !bytes.Equal(r.Content, content) {
				t.Fatalf("accepted other content: %q", r.Content)
			}
			if len(r.Chain) != 3 || !bytes.Equal(r.Chain[0].Raw, whose[0]) && !bytes.Equal(r.Chain[0].Raw, whose[1]) {
				t.Fatalf("accepted another signer: %v", r.Chain)
			}
			for _, check := range append([]string{CheckChain}, needed...) {
				if r.Outcome(check) != Passed {
					t.Fatalf("accepted without %s", check)
				}
			}
			if _, err := Verify(append(bytes.Clone(der), 0), o); !errors.As(err, &format) {
				t.Fatalf("with a trailing byte: %v", err)
			}
		case errors.As(err, &format):
			if r != nil || format.Offset < 0 || format.Offset > len(der) {
				t.Fatalf("%v with %v", r, err)
			}
		case errors.As(err, &failed), errors.As(err, &undecided):
			if r == nil || len(r.Checks) != len(checkNames) {
				t.Fatalf("%v with %v", r, err)
			}
			for _, c := range r.Checks {
				if (c.Outcome == Passed) != (c.Why == "") {
					t.Fatalf("%+v", c)
				}
			}
			if _, err := json.Marshal(r); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("%T %v", err, err)
		}
		if err != nil && len(err.Error()) > 4096 {
			t.Fatalf("an error of %d bytes", len(err.Error()))
		}
	})
}
