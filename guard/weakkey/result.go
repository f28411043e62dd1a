package weakkey

import "strings"

// Result is the verdict on a key. It prints, and it marshals to JSON. The zero value
// says that nothing was judged.
type Result struct {
	// Key is the kind of key: "RSA, 2048 bits", "ECDSA, P-256", "Ed25519".
	Key string `json:"key"`

	// Judged: every check for this kind of key was made. A key that was not judged may
	// be weak all the same: it may be on a block list.
	Judged bool `json:"judged"`

	// Weaknesses are all that were found.
	Weaknesses Weaknesses `json:"weaknesses"`

	// Detail says what was found, or why the key cannot be judged. It never holds a
	// large factor of a modulus: that would be the private key.
	Detail string `json:"detail,omitempty"`
}

// Weak tells whether a weakness was found. Where it is false, Judged tells a key that
// is not known to be weak from one that cannot be judged.
func (r Result) Weak() bool { return r.Weaknesses != 0 }

// Weakness is the gravest that was found; None if there is none.
func (r Result) Weakness() Weakness { return r.Weaknesses.Gravest() }

// String says all of it in one line.
func (r Result) String() string {
	key := r.Key
	if key == "" {
		key = "no key"
	}
	switch {
	case r.Weak():
		return key + ": weak (" + strings.Join(r.Weaknesses.Names(), ", ") + "): " + r.Detail
	case r.Judged:
		return key + ": not known to be weak"
	case r.Detail != "":
		return key + ": cannot be judged: " + r.Detail
	}
	return key + ": not judged"
}

func cannotJudge(key, why string) Result { return Result{Key: key, Detail: why} }

// add notes a weakness.
func (r *Result) add(w Weakness, detail string) {
	r.Weaknesses |= WeaknessesOf(w)
	if r.Detail != "" {
		detail = r.Detail + "; " + detail
	}
	r.Detail = detail
}
