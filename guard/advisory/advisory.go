// Package advisory holds affected-issuance notices: documents that say which
// certificates were issued badly, from when on they must not sign, and how a
// holder gets a good one.
//
// A document is JSON, one advisory each, and is described by a published JSON
// Schema ([Schema]). [Parse] is strict: an unknown, duplicate or contradictory
// field rejects the document and names its path. [NewSet] puts advisories
// together; a Set is what package guard judges certificates against.
// [Builtin] is the set that comes with the library: the national notice of
// autumn 2020, resolved.
//
// Whether a certificate belongs to an advisory's population has three answers
// ([Truth]): yes, no, and unknown, for instance because the advisory names its
// issuer by a key that nobody configured. Unknown is never taken for no.
//
// All instants are UTC, all intervals of time half-open: from is inside, to is
// not. Values of this package are immutable after parsing and safe for
// concurrent use. The package needs nothing but the standard library and
// touches neither disk nor network.
package advisory

import "time"

// State is the lifecycle state that a document declares. What an advisory does
// at an instant also depends on its dates: see [Advisory.At].
type State string

// The states of an advisory. An ended state (resolved, withdrawn, superseded)
// never comes back under the same id.
const (
	Draft      State = "draft"      // never evaluated
	Shadow     State = "shadow"     // evaluated and recorded, never enforced
	Active     State = "active"     // enforced from BlockFrom on
	Resolved   State = "resolved"   // was right, ended at EndedAt
	Withdrawn  State = "withdrawn"  // was wrong; refuses nobody, at any instant
	Superseded State = "superseded" // replaced by SupersededBy at EndedAt
)

// Basis says what a population rests on, strongest first: a list of serials, a
// log of issuance, a window of notBefore (which a CA can back-date), or an
// assumption.
type Basis string

// The bases, strongest first.
const (
	SerialList      Basis = "serial_list"
	IssuanceLog     Basis = "issuance_log"
	NotBeforeWindow Basis = "not_before_window"
	Assumed         Basis = "assumed"
)

// RemedyKind is a way out for the holder of an affected card.
type RemedyKind string

// The kinds of remedy.
const (
	Renew                 RemedyKind = "renew"                  // renew here, in process
	Portal                RemedyKind = "portal"                 // self-service renewal on a web page
	ITSupport             RemedyKind = "it_support"             // local IT support
	RegistrationAuthority RemedyKind = "registration_authority" // the RA, in person
	ServiceDesk           RemedyKind = "service_desk"           // the national service desk
	Reseat                RemedyKind = "reseat"                 // take the card out and put it back
	Paper                 RemedyKind = "paper"                  // a paper prescription for a waiting patient
)

// Remedy is one way out, in the order in which a holder should try them.
type Remedy struct {
	Kind  RemedyKind `json:"kind"`
	Text  string     `json:"text"`
	URL   string     `json:"url,omitempty"`
	Phone string     `json:"phone,omitempty"`
}

// Advisory is one affected-issuance notice. The zero value matches nothing;
// values come from [Parse].
type Advisory struct {
	ID        string
	Revision  int // counts up from 1 under one id
	State     State
	Title     string
	Published time.Time
	Modified  time.Time
	BlockFrom time.Time // zero: from Published on
	RenewBy   time.Time // zero: no date; once passed, remedies put the RA first
	EndedAt   time.Time // when an ended state took effect; zero otherwise

	// SupersededBy is the id of the advisory that replaces this one.
	SupersededBy string

	Match     []Clause // a certificate is in the population when any clause matches
	Except    []Clause // and no clause here does
	FixedWhen []Clause // what makes a certificate of the population good again

	Basis     Basis
	BasisNote string // what the basis is, and for an assumed one who assumed it

	// CardMayAuthenticate says whether the card's authentication certificate may
	// still be used to ask for the renewal in process.
	CardMayAuthenticate bool

	Remedies      []Remedy
	Message       string // for the prescriber, in plain words
	References    []string
	ExpectedCount int // how many certificates the population has; 0: not known
}

// Clause is a set of conditions that must all hold. An empty condition is not
// asked; a Clause without any condition is rejected by Parse.
type Clause struct {
	Issuer             *Issuer
	NotBefore          *Window
	Serials            *Serials
	SPKISHA256         [][32]byte // any of these subject public key infos
	ModulusSHA256      [][32]byte // any of these RSA moduli, big-endian without leading zeros
	WeakKey            []string   // any of these weaknesses, as package weakkey names them
	PolicyOID          []string   // any of these certificate policies
	KeyUsage           []string   // all of these key usage bits, RFC 5280 4.2.1.3 names
	SignatureAlgorithm []string   // any of these, as crypto/x509 spells them (SHA256-RSA)
	KeyBits            *KeyBits
}

// Issuer names an issuing CA by its key, never by its name alone: two CAs may
// share a name.
type Issuer struct {
	Any        bool       // "any": legal with basis assumed only
	SPKISHA256 [][32]byte // any of these CA keys; RFC 5280 4.1.2.7, SHA-256 of the DER
	AKI        [][]byte   // any of these authority key identifiers, RFC 5280 4.2.1.1
	Name       string     // for people; not compared
}

// Window is a half-open interval of notBefore, UTC. A zero To is open-ended,
// which needs a FixedWhen.
type Window struct {
	From, To time.Time
}

// KeyBits is a range of key sizes in bits, both ends inside; 0 is open.
type KeyBits struct {
	Min, Max int
}

// Truth is the three-valued answer of a match.
type Truth int8

// The truth values. The zero value is Unknown.
const (
	Unknown Truth = iota
	No
	Yes
)

// Phase is what an advisory does at an instant.
type Phase int

// The phases of an advisory at an instant.
const (
	Silent    Phase = iota // draft: not evaluated
	Observed               // shadow: evaluated and recorded only
	Announced              // active, but block_from is not yet reached: allow and warn
	Enforced               // active: refuse
	Ended                  // resolved, withdrawn or superseded: refuse nobody
)

// At tells what the advisory does at the instant t. A resolved or superseded
// advisory still answers for instants before it ended, as it was right then; a
// withdrawn one was wrong and is ended for every instant.
func (a *Advisory) At(t time.Time) Phase {
	switch a.State {
	case Shadow:
		return Observed
	case Active:
	case Resolved, Superseded:
		if !t.Before(a.EndedAt) {
			return Ended
		}
	case Withdrawn:
		return Ended
	default:
		return Silent
	}
	if t.Before(a.EnforcedFrom()) {
		return Announced
	}
	return Enforced
}

// EnforcedFrom is the instant from which an active advisory refuses: BlockFrom,
// or Published where there is none.
func (a *Advisory) EnforcedFrom() time.Time {
	if a.BlockFrom.IsZero() {
		return a.Published
	}
	return a.BlockFrom
}
