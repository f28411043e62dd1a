package signing

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"time"

	"github.com/rxguard/rxguard/guard"
)

// Recorder keeps the decision record. Record must have stored the entry durably
// when it returns nil: a signature whose entry cannot be recorded is not released.
// It may be called from several goroutines, and must not call the Signer. The
// entries of refusals come with a context that lasts ten seconds, also when the
// caller's has ended. [OpenRecord] is one, on a file.
type Recorder interface {
	Record(ctx context.Context, e Entry) error
}

// Event says what an Entry is about.
type Event string

// The events.
const (
	EventRefused   Event = "refused"    // the guard said no or could not decide
	EventSigned    Event = "signed"     // a signature was made, verified, and is released next
	EventNotSigned Event = "not_signed" // the guard permitted, yet nothing was released
	EventHoldBegun Event = "hold_begun" // a renewal is about to change the card
	EventHoldEnded Event = "hold_ended" // the card was re-seated, its passcode entered
	EventJudgedNew Event = "judged_new" // the certificate of a renewal was judged before it was written
	EventRenewed   Event = "renewed"    // a renewal's new pair replaced the old
	EventGivenUp   Event = "given_up"   // a renewal ended without a new certificate
)

// Entry is one line of the decision record. It holds no passcode and no patient
// data; a certificate is named by issuer, serial and notBefore. Instants are UTC.
type Entry struct {
	ID    string    `json:"id"`   // of the decision
	Time  time.Time `json:"time"` // the machine's clock
	Event Event     `json:"event"`

	At       time.Time      `json:"at"` // the judged instant
	Verdict  guard.Decision `json:"verdict"`
	Reasons  []guard.Reason `json:"reasons,omitempty"`
	Notices  []Notice       `json:"advisories,omitempty"`
	RuleSet  guard.RuleSet  `json:"rule_set"`
	Renewal  string         `json:"renewal,omitempty"` // id of the renewal
	Document string         `json:"document,omitempty"`
	// SHA256 is the digest of the bytes that were signed or asked to be; of a CMS, of
	// its content.
	SHA256 string `json:"sha256,omitempty"`
	Cause  string `json:"cause,omitempty"` // why nothing was released

	Card      string    `json:"card,omitempty"` // token serial number
	Issuer    string    `json:"issuer,omitempty"`
	Serial    string    `json:"serial,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	Simulated bool      `json:"simulated,omitempty"`
}

// Notice names an advisory that a decision rests on.
type Notice struct {
	ID       string       `json:"id"`
	Revision int          `json:"revision"`
	Reason   guard.Reason `json:"reason"`
}

// EntryOf makes an entry of a verdict, with a new random id.
func EntryOf(ev Event, v guard.Verdict) Entry {
	e := Entry{
		ID: newID(), Time: time.Now().UTC().Truncate(time.Millisecond), Event: ev,
		At: v.At, Verdict: v.Decision, RuleSet: v.RuleSet,
		Card: v.Card.Serial, Simulated: v.Card.Simulated,
	}
	for _, f := range v.Findings {
		e.Reasons = append(e.Reasons, f.Reason)
		if f.Advisory != nil {
			e.Notices = append(e.Notices, Notice{f.Advisory.ID, f.Advisory.Revision, f.Reason})
		}
	}
	if c := v.Certificate; c != (guard.CertificateInfo{}) {
		e.Issuer, e.Serial, e.NotBefore = c.Issuer, c.Serial, c.NotBefore
	}
	return e
}

func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
