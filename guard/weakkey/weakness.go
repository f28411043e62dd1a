package weakkey

import (
	"encoding/json"
	"fmt"
	"math/bits"
)

// Weakness is a way in which a key is weak.
type Weakness uint8

// The weaknesses, the gravest first. In brackets the names, which advisories use too.
const (
	None        Weakness = iota // [none]: no weakness
	Blocklisted                 // [blocklisted]: on one of the caller's block lists
	ROCA                        // [roca]: made by the library of CVE-2017-15361
	ClosePrimes                 // [fermat]: Fermat's factorisation finds the primes
	SmallFactor                 // [small_factor]: a prime below 752 divides the modulus
	Exponent                    // [exponent]: even, below 65537, or above 2^31-1
	Modulus                     // [modulus]: not positive, or of at most 829 bits
	Point                       // [point]: not a point of its curve
	weaknesses                  // their number
)

// description is all that is said of a weakness, for people to translate.
type description struct{ name, text, source string }

var descriptions = [weaknesses]description{
	None: {"none", "The key is not known to be weak.", ""},
	Blocklisted: {"blocklisted",
		"The key is on a list of keys that must not be used.",
		"block list of this installation; CA/Browser Forum BR 6.1.1.3"},
	ROCA: {"roca",
		"The key was made by a faulty program in the card (ROCA): its secret can be worked out from what is public.",
		"CVE-2017-15361; Nemec et al., The Return of Coppersmith's Attack, ACM CCS 2017; CA/Browser Forum BR 6.1.1.3"},
	ClosePrimes: {"fermat",
		"The key was made from two numbers that are too close together: its secret can be worked out from what is public.",
		"FIPS 186-5 A.1.3; CA/Browser Forum BR 6.1.1.3 (100 rounds of Fermat's factorisation)"},
	SmallFactor: {"small_factor",
		"The key is faulty or damaged: its modulus can be divided by a small number.",
		"NIST SP 800-89 5.3.3; CA/Browser Forum BR 6.1.6"},
	Exponent: {"exponent",
		"The key has a public exponent that a signing key must not have.",
		"FIPS 186-5 A.1.1; CA/Browser Forum BR 6.1.6"},
	Modulus: {"modulus",
		"The key's modulus is impossible, or so short that keys of its length have been broken.",
		"RSA-250 (829 bits), factored by Boudot et al., CRYPTO 2020"},
	Point: {"point",
		"The key is damaged: it is no point of its elliptic curve.",
		"NIST SP 800-56A revision 3, 5.6.2.3.3"},
}

// String is the weakness's name, as JSON, decision records and advisories use it.
func (w Weakness) String() string {
	if w >= weaknesses {
		return fmt.Sprintf("weakness %d", int(w))
	}
	return descriptions[w].name
}

// Text says what the weakness is, in a plain sentence. Every value has one.
func (w Weakness) Text() string {
	if w >= weaknesses {
		return w.String()
	}
	return descriptions[w].text
}

// Source says where the weakness is described: document and section. None has no
// source.
func (w Weakness) Source() string {
	if w >= weaknesses {
		return ""
	}
	return descriptions[w].source
}

// MarshalText writes the weakness's name.
func (w Weakness) MarshalText() ([]byte, error) {
	if w >= weaknesses {
		return nil, fmt.Errorf("weakkey: no weakness has the number %d", int(w))
	}
	return []byte(descriptions[w].name), nil
}

// UnmarshalText reads a weakness's name.
func (w *Weakness) UnmarshalText(b []byte) error {
	for i := range descriptions {
		if descriptions[i].name == string(b) {
			*w = Weakness(i)
			return nil
		}
	}
	return fmt.Errorf("weakkey: %q is no weakness", b)
}

// Weaknesses is a set of them. The zero value is empty.
type Weaknesses uint16

// WeaknessesOf makes a set. None is never in it.
func WeaknessesOf(ws ...Weakness) (s Weaknesses) {
	for _, w := range ws {
		if w > None && w < weaknesses {
			s |= 1 << w
		}
	}
	return s
}

// Has tells whether w is in the set.
func (s Weaknesses) Has(w Weakness) bool { return s&WeaknessesOf(w) != 0 }

// Gravest is the gravest of the set; None if it is empty.
func (s Weaknesses) Gravest() Weakness {
	if s == 0 {
		return None
	}
	return Weakness(bits.TrailingZeros16(uint16(s)))
}

// Names are the names of the set, the gravest first; nil if it is empty.
func (s Weaknesses) Names() []string {
	var names []string
	for w := None + 1; w < weaknesses; w++ {
		if s.Has(w) {
			names = append(names, w.String())
		}
	}
	return names
}

// MarshalJSON writes the names as an array, the gravest first.
func (s Weaknesses) MarshalJSON() ([]byte, error) {
	names := s.Names()
	if names == nil {
		names = []string{}
	}
	return json.Marshal(names)
}
