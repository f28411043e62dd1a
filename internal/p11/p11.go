// Package p11 is a card behind a PKCS#11 module (OASIS PKCS#11 v3.0), as
// internal/card wants it. It is the one place that calls a module, and the one
// that needs cgo; without cgo every call says so ([ErrNoCgo]).
//
// A [Module] is loaded and initialised once for the process and stays so: another
// component may use it too, so it is neither finalised nor unloaded. Every call
// runs under a watchdog on a goroutine of its own; a call that does not answer in
// its bound leaves the module wedged, and from then on every call answers that at
// once. A context that ends is answered at once; the call goes on alone, its
// session is used for nothing else, and what it brings is thrown away.
//
// Presence is the polled slot list (C_GetSlotList); nothing else that a module says
// about removal can be relied on. Handles live for one insertion: objects are found
// again by CKA_ID in each session.
//
// Closing a session or a [Token] waits for nobody, so the module may still be at work
// when its process ends. A Go program ends without a look at what C libraries want done
// at the end (atexit, destructors), and nothing happens. One that was built with -race,
// or that is a library in a C program, runs that, and then the call that is under way
// crashes: such a program calls [Module.Rest] first, as signing does for whoever closes a
// card.
package p11

import (
	"context"
	"errors"
	"time"

	"github.com/rxguard/rxguard/internal/card"
)

// ErrNoCgo is the error of every call in a program built without cgo.
var ErrNoCgo = errors.New("p11: this program was built without cgo, which PKCS#11 modules need; build it with CGO_ENABLED=1 and a C compiler")

// Options are how a module is loaded. The first to load a module decides.
type Options struct {
	// Arguments is what the module wants at its initialisation beyond the standard
	// (CK_C_INITIALIZE_ARGS.pReserved), as NSS softokn does: "configdir='sql:DIR'".
	Arguments string
	// Bound is how long an ordinary call may take. Making a key may take ten times that,
	// a passcode entered on a pad six times. 0 is the one that somebody chose for the
	// module, and 30 seconds where nobody did; another one than was chosen is an error.
	Bound time.Duration
	// Poll is how often the slot list is asked while somebody watches; 0 is 200 ms. A
	// module that takes long to answer is asked less often, every few seconds at least.
	Poll time.Duration
}

// Officer asks for the security officer's secret (CKU_SO), where a module wants
// that to change the card: on a PIV card its management key. The answer is wiped
// after use. Nil: such a module cannot change the card.
type Officer func(ctx context.Context, r card.PINRequest) ([]byte, error)

// Select says which card a Token is. Conditions that are empty fit every card.
type Select struct {
	Token  string // its label or its serial number
	Reader string // the slot's description
}

// Slot is a reader and what is in it.
type Slot struct {
	ID        uint
	Reader    string // the slot's description
	Removable bool   // CKF_REMOVABLE_DEVICE: a card can be taken out of it
	Present   bool
	// Of the token in it, when Present; Err says why it could not be read.
	Manufacturer, Model, Serial, Label string
	Initialized                        bool // CKF_TOKEN_INITIALIZED
	LoginRequired                      bool // CKF_LOGIN_REQUIRED
	Err                                error
}

// Event is a card that was put into a reader, or taken out.
type Event struct {
	Slot  Slot // as it is now
	Reset bool // it was reset: neither out nor in was seen
}
