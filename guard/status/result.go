package status

import (
	"fmt"
	"time"
)

// State says what is known of a certificate's revocation. The zero value is Unknown.
type State int

// The states.
const (
	Unknown State = iota // see Why
	Good                 // lists that are verified and in date cover it, and none revokes it
	Revoked              // a verified list revokes it, however old that is
)

var stateNames = [...]string{"unknown", "good", "revoked"}

// String returns unknown, good or revoked.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("state %d", int(s))
	}
	return stateNames[s]
}

// MarshalText writes the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Why says why a status is unknown. Of several lists it is of the one that came nearest
// to good; the order is that of nearness.
type Why int

// Why a status is unknown.
const (
	NoList        Why = iota // no list covers the certificate: it was never fetched, or is another's
	BadPoints                // the certificate's distribution points cannot be read
	NoIssuer                 // the certificate's issuer is not known
	Unverified               // the list is not signed by who may sign it
	AnotherCA                // the list is signed by another key than the certificate
	Unusable                 // the list holds what is not known here and must be
	SignerPath               // no path of the CRL issuer to the certificate's root is valid at the instant
	SignerStatus             // the CRL issuer's own status is revoked or unknown
	Future                   // the list was issued after the instant judged
	NoNextUpdate             // the list does not say how long it counts
	Ended                    // the list's nextUpdate and the grace are over
	PartOfReasons            // the lists are about some reasons for revocation only
	whys                     // their number
)

var whyNames = [...]string{"no_list", "bad_points", "no_issuer", "unverified", "another_ca", "unusable", "signer_path",
	"signer_status", "future", "no_next_update", "ended", "part_of_reasons"}

// String is the name that JSON has.
func (w Why) String() string {
	if w < 0 || w >= whys {
		return fmt.Sprintf("why %d", int(w))
	}
	return whyNames[w]
}

// MarshalText writes the name.
func (w Why) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// Result is what lists say of a certificate as of an instant. The zero value is
// unknown: there is no list.
type Result struct {
	State State
	Why   Why // of Unknown

	// Late says that the status is good only by a list that is past its nextUpdate, but
	// not by more than the grace: fetch a new one.
	Late bool

	// List is the list that revokes; of Good, the one that ends first; of Unknown, the
	// one that Why is of. Nil: there is none.
	List *List

	Entry Entry // of Revoked

	at     time.Time
	detail string // why the list is not verified, or is not usable
}

// String says it in one sentence, for those who look after the lists.
func (r Result) String() string {
	switch {
	case r.State == Revoked:
		return fmt.Sprintf("on %s, %s", r.List, r.Entry)
	case r.State == Good && r.Late:
		return fmt.Sprintf("not on %s, which ended with its nextUpdate %s, before the instant judged, %s: fetch a new one", r.List, r.ends(), text(r.at))
	case r.State == Good:
		return fmt.Sprintf("not on %s, in date until %s", r.List, r.ends())
	}
	switch r.Why {
	case BadPoints:
		return "the certificate's CRL distribution points cannot be read: " + r.detail
	case NoIssuer:
		return "the certificate of the CA that issued it was not given, so no list can be relied on"
	case Unverified, Unusable:
		return fmt.Sprintf("of %s, %s", r.List, r.detail)
	case AnotherCA:
		return fmt.Sprintf("%s is signed by another key than the certificate, and it is not shown that both are of one CA", r.List)
	case SignerPath:
		return fmt.Sprintf("%s is signed by a CRL issuer of whom no path to the certificate's root is valid at the instant judged, %s", r.List, text(r.at))
	case SignerStatus:
		return fmt.Sprintf("%s is signed by a CRL issuer whose own certificate is revoked, or of unknown status: wanted a list about it too", r.List)
	case Future:
		return fmt.Sprintf("%s is later than the instant judged, %s", r.List, text(r.at))
	case NoNextUpdate:
		return fmt.Sprintf("%s has no nextUpdate, so nobody knows how long it counts", r.List)
	case Ended:
		return fmt.Sprintf("%s ended with its nextUpdate %s, longer ago than the grace allows at the instant judged, %s", r.List, r.ends(), text(r.at))
	case PartOfReasons:
		return fmt.Sprintf("%s and the others that were found are about some revocation reasons only", r.List)
	}
	return "no list covers the certificate: wanted one of its issuer, or of its distribution points"
}

// ends is when the list's nextUpdate is.
func (r Result) ends() string {
	if r.List == nil {
		return "(none)"
	}
	return text(r.List.nextUpdate)
}
