//go:build cgo

package p11

import (
	"errors"

	"github.com/miekg/pkcs11" // the binding of PKCS#11 v2.40 and v3.0 that Boulder and piv-go's peers use; kept since 2013

	"github.com/rxguard/rxguard/internal/card"
)

// kinds gives the meaning of a module's answer, PKCS#11 v3.0 5.1. What is not here
// is card.Other.
var kinds = map[pkcs11.Error]card.Kind{
	pkcs11.CKR_TOKEN_NOT_PRESENT: card.Absent,
	pkcs11.CKR_DEVICE_REMOVED:    card.Absent,
	pkcs11.CKR_SLOT_ID_INVALID:   card.Absent,

	pkcs11.CKR_SESSION_HANDLE_INVALID:   card.Removed,
	pkcs11.CKR_SESSION_CLOSED:           card.Removed,
	pkcs11.CKR_OBJECT_HANDLE_INVALID:    card.Removed,
	pkcs11.CKR_KEY_HANDLE_INVALID:       card.Removed,
	pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED: card.Removed, // another component finalised it

	pkcs11.CKR_DEVICE_ERROR:         card.Fault,
	pkcs11.CKR_GENERAL_ERROR:        card.Fault,
	pkcs11.CKR_FUNCTION_FAILED:      card.Fault,
	pkcs11.CKR_TOKEN_NOT_RECOGNIZED: card.Fault,
	pkcs11.CKR_OPERATION_ACTIVE:     card.Fault, // a jammed session, which is thrown away

	pkcs11.CKR_PIN_INCORRECT:            card.PINIncorrect,
	pkcs11.CKR_PIN_LOCKED:               card.PINLocked,
	pkcs11.CKR_PIN_EXPIRED:              card.PINNotSet,
	pkcs11.CKR_USER_PIN_NOT_INITIALIZED: card.PINNotSet,
	pkcs11.CKR_PIN_LEN_RANGE:            card.PINLength,
	pkcs11.CKR_PIN_INVALID:              card.PINLength,
	pkcs11.CKR_FUNCTION_CANCELED:        card.PINCancelled,
	pkcs11.CKR_FUNCTION_REJECTED:        card.PINCancelled,
	pkcs11.CKR_CANCEL:                   card.PINCancelled,
	pkcs11.CKR_USER_NOT_LOGGED_IN:       card.NotLoggedIn,

	pkcs11.CKR_FUNCTION_NOT_SUPPORTED:         card.Unsupported,
	pkcs11.CKR_MECHANISM_INVALID:              card.Unsupported,
	pkcs11.CKR_MECHANISM_PARAM_INVALID:        card.Unsupported,
	pkcs11.CKR_TEMPLATE_INCOMPLETE:            card.Unsupported,
	pkcs11.CKR_TEMPLATE_INCONSISTENT:          card.Unsupported,
	pkcs11.CKR_ATTRIBUTE_READ_ONLY:            card.Unsupported,
	pkcs11.CKR_ATTRIBUTE_SENSITIVE:            card.Unsupported,
	pkcs11.CKR_ATTRIBUTE_TYPE_INVALID:         card.Unsupported,
	pkcs11.CKR_ATTRIBUTE_VALUE_INVALID:        card.Unsupported,
	pkcs11.CKR_ACTION_PROHIBITED:              card.Unsupported,
	pkcs11.CKR_KEY_SIZE_RANGE:                 card.Unsupported,
	pkcs11.CKR_KEY_TYPE_INCONSISTENT:          card.Unsupported,
	pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED:     card.Unsupported,
	pkcs11.CKR_USER_TYPE_INVALID:              card.Unsupported,
	pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN: card.Unsupported,

	pkcs11.CKR_DEVICE_MEMORY: card.Full,

	pkcs11.CKR_TOKEN_WRITE_PROTECTED:    card.ReadOnly,
	pkcs11.CKR_SESSION_READ_ONLY:        card.ReadOnly,
	pkcs11.CKR_SESSION_READ_ONLY_EXISTS: card.ReadOnly,
}

// typed makes a module's answer a *card.Error with its raw code; other errors stay, and
// those that are one already.
func typed(op string, err error) error {
	var told *card.Error
	var code pkcs11.Error
	if err == nil || errors.As(err, &told) || !errors.As(err, &code) {
		return err
	}
	k := kinds[code]
	switch {
	case op == "login" && code == pkcs11.CKR_ARGUMENTS_BAD:
		k = card.PINLength // as some modules call a passcode of a bad length
	case k == card.Full && op != "generate" && op != "write_certificate":
		k = card.Other // it has nothing to do with room for a key pair
	}
	return &card.Error{Kind: k, Op: op, Code: uint(code), TriesLeft: -1, Err: err}
}

// is tells whether err is one of these answers.
func is(err error, codes ...pkcs11.Error) bool {
	var code pkcs11.Error
	if !errors.As(err, &code) {
		return false
	}
	for _, c := range codes {
		if code == c {
			return true
		}
	}
	return false
}
