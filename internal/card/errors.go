package card

import (
	"errors"
	"fmt"
	"strings"
)

// Kind is the meaning of a card error.
type Kind int

// The kinds of card error. The comments name the PKCS#11 codes (v3.0 5.1) that
// mean them.
const (
	Other         Kind = iota
	Absent             // the card is out: CKR_TOKEN_NOT_PRESENT, CKR_DEVICE_REMOVED, CKR_SLOT_ID_INVALID
	Removed            // the session is of an earlier insertion: CKR_SESSION_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID
	Fault              // pulled in mid-operation, or a reader fault: CKR_DEVICE_ERROR, CKR_GENERAL_ERROR
	Wedged             // the module stopped answering
	PINIncorrect       // CKR_PIN_INCORRECT
	PINLocked          // CKR_PIN_LOCKED
	PINNotSet          // CKR_PIN_EXPIRED, CKR_USER_PIN_NOT_INITIALIZED
	PINLength          // empty, too short or too long; the card was not asked
	PINCancelled       // the prompt gave no passcode
	LastTry            // one try is left and nobody said yes to spending it
	NotLoggedIn        // CKR_USER_NOT_LOGGED_IN
	Unsupported        // CKR_FUNCTION_NOT_SUPPORTED, CKR_MECHANISM_INVALID, CKR_TEMPLATE_*
	Full               // CKR_DEVICE_MEMORY
	ReadOnly           // CKR_TOKEN_WRITE_PROTECTED, CKR_SESSION_READ_ONLY
	NotFound           // no such object
	NoCertificate      // no certificate that could sign
	Ambiguous          // several certificates or keys that could sign
	KeyMismatch        // the certificate and the private key are not a pair
	BadSignature       // the card's signature does not verify
	BadObject          // an object on the card cannot be read as what it is
	Busy               // another program works on this card
	kinds              // their number
)

// kindText holds, for each kind, what happened and what the person should do.
var kindText = [kinds]struct{ name, what, advice string }{
	Other:         {"other", "the card answered with an error", "take the card out, put it back and try again"},
	Absent:        {"absent", "no card is in the reader", "insert your smartcard; nothing was signed"},
	Removed:       {"removed", "the card was taken out or reset", "put your card back in; nothing was signed"},
	Fault:         {"fault", "the card or the reader stopped in the middle of the work", "take the card out and put it back; nothing was signed"},
	Wedged:        {"wedged", "the card software stopped answering", "restart the application; nothing was signed"},
	PINIncorrect:  {"passcode_incorrect", "wrong passcode", "check your passcode and try again"},
	PINLocked:     {"passcode_locked", "the card is locked: no tries are left for its passcode", "contact your Registration Authority to have it unlocked"},
	PINNotSet:     {"passcode_not_set", "the card is not set up: its passcode is expired or was never set", "contact your Registration Authority"},
	PINLength:     {"passcode_length", "a passcode of this length cannot be right", "enter your whole passcode; no try was spent"},
	PINCancelled:  {"passcode_cancelled", "no passcode was entered", "try again when you are ready; nothing was signed"},
	LastTry:       {"last_try", "only one try is left for the passcode", "say yes to spending the last try, or contact your Registration Authority"},
	NotLoggedIn:   {"not_logged_in", "the card wants its passcode", "enter your passcode"},
	Unsupported:   {"unsupported", "this card or its software cannot do that", "renew at your Registration Authority; the key on the card is untouched"},
	Full:          {"full", "the card has no room for another key pair", "renew at your Registration Authority; nothing was removed"},
	ReadOnly:      {"read_only", "the card is read-only", "renew at your Registration Authority"},
	NotFound:      {"not_found", "the object is not on the card", "take the card out, put it back and try again"},
	NoCertificate: {"no_certificate", "no signing certificate is on the card", "contact your Registration Authority"},
	Ambiguous:     {"ambiguous", "more than one signing certificate is on the card", "contact your Registration Authority; nothing was signed"},
	KeyMismatch:   {"key_mismatch", "the certificate and the private key on the card are not a pair", "contact your Registration Authority; nothing was signed"},
	BadSignature:  {"bad_signature", "the card's signature does not verify with its certificate", "take the card out, put it back and try again; the signature was thrown away"},
	BadObject:     {"bad_object", "an object on the card is damaged", "contact your Registration Authority"},
	Busy:          {"busy", "another program is working on this card", "wait until it has finished, then try again"},
}

// String is the kind's name, as decision records use it.
func (k Kind) String() string {
	if k < 0 || k >= kinds {
		return fmt.Sprintf("kind %d", int(k))
	}
	return kindText[k].name
}

// Error is what went wrong with a card: the meaning, and the module's raw code.
type Error struct {
	Kind Kind
	Op   string // what was tried: "login", "sign", "generate", ...
	Code uint   // raw CKR_ code; 0 where there was none
	// TriesLeft counts the passcode tries left where the card tells a number, and
	// is -1 where it does not. It means something for the PIN kinds only.
	TriesLeft int
	Detail    string // names the thing: an object, a label, a limit
	Err       error
}

// Errorf makes an Error without a known number of tries.
func Errorf(k Kind, op, format string, args ...any) *Error {
	return &Error{Kind: k, Op: op, TriesLeft: -1, Detail: fmt.Sprintf(format, args...)}
}

// Error says what happened, with the detail and the raw code.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("card: ")
	if e.Op != "" {
		b.WriteString(e.Op + ": ")
	}
	b.WriteString(e.What())
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Code != 0 {
		fmt.Fprintf(&b, " (CKR 0x%08x)", e.Code)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// What says in plain words what happened.
func (e *Error) What() string {
	k := e.Kind
	if k < 0 || k >= kinds {
		k = Other
	}
	s := kindText[k].what
	if k == PINIncorrect && e.TriesLeft >= 0 {
		s += ", " + tries(e.TriesLeft)
	}
	return s
}

func tries(n int) string {
	switch n {
	case 0:
		return "no tries left: the card is now locked"
	case 1:
		return "one try left before the card locks"
	default:
		return fmt.Sprintf("%d tries left before the card locks", n)
	}
}

// Advice says in plain words what the person should do next.
func (e *Error) Advice() string {
	k := e.Kind
	if k < 0 || k >= kinds {
		k = Other
	}
	if k == PINIncorrect && e.TriesLeft == 0 {
		return kindText[PINLocked].advice
	}
	return kindText[k].advice
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// IsKind tells whether err is or wraps an Error of kind k.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

// Pulled looks at the reader after an error in a session of the given insertion: a
// module that loses its card in the middle of the work often tells no more than a
// general error. A Fault of a card that is out becomes Absent, of one that was put
// back since Removed; both keep the raw code and
// the cause. Other errors stay.
func Pulled(t Token, insertion uint64, err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Kind != Fault && e.Kind != Other {
		return err
	}
	p := t.Presence()
	if p.Present && p.Insertion == insertion {
		return err
	}
	k := Removed
	if !p.Present {
		k = Absent
	}
	return &Error{Kind: k, Op: e.Op, Code: e.Code, TriesLeft: e.TriesLeft, Detail: e.Detail, Err: e.Err}
}
