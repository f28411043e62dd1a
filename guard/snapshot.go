package guard

import (
	"context"
	"errors"
	"time"
)

// Card is what Check judges. Package signing's Card is one; its Snapshot is kept
// up to date beside it, so that Check waits for nobody.
type Card interface {
	// Snapshot answers from memory, without card traffic, disk or network. An
	// error means that the card could not be asked at all; what the card shows
	// but cannot be read is Snapshot.Err.
	Snapshot(ctx context.Context) (Snapshot, error)
}

// Snapshot is a card as it was last seen.
type Snapshot struct {
	Certificate *Certificate // the signing certificate; nil: see Err
	// Err says why there is no Certificate; it wraps one of this package's
	// sentinels where one fits.
	Err error

	Serial, Label string // of the token
	Insertion     uint64 // which insertion of the card this is
	Simulated     bool

	Hold Hold
}

// What Snapshot.Err and Card.Snapshot's error may wrap. Each has its own finding;
// any other error is CardUnreadable.
var (
	ErrNoCard               = errors.New("no card is in the reader")
	ErrNoSigningCertificate = errors.New("no signing certificate on the card")
	ErrSeveralCertificates  = errors.New("several signing certificates on the card")
	ErrCertificateDamaged   = errors.New("the certificate cannot be read")
)

// HoldState says whether a card waits for the end of a renewal. A card on hold
// signs nothing.
type HoldState int

// The states of a hold.
const (
	NotHeld     HoldState = iota
	HoldRenewal           // a renewal is not finished
	HoldReseat            // renewed or given up: take the card out and put it back
	HoldLogin             // seen re-seated: the passcode is missing
	HoldUnread            // the holds of this machine could not be read
)

// Hold is a card's hold as it was last read. The zero value is none.
type Hold struct {
	State HoldState
	Since time.Time // zero: not known
	Err   error     // why the hold could not be read, or cannot end as it is; nil: no more is known
}
