//go:build cgo

package p11

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// What is wrong with a file that is no module, PKCS#11 v3.0 5.4.4.
var (
	errNoModule = errors.New("is no PKCS#11 module: it has no C_GetFunctionList")
	errNoList   = errors.New("is no PKCS#11 module: its C_GetFunctionList gave no list")
)

func unloadable(why string) error {
	return fmt.Errorf("cannot be loaded: %s; wanted a PKCS#11 library for this kind of machine", why)
}

func answered(rv uint) error {
	if rv != pkcs11.CKR_OK {
		return fmt.Errorf("cannot be used: its C_GetFunctionList answered %w", pkcs11.Error(rv))
	}
	return nil
}
