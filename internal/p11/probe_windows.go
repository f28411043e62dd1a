//go:build cgo

package p11

import (
	"fmt"
	"syscall"
	"unicode"
	"unsafe"

	"golang.org/x/sys/windows"
)

// probe tells whether the library at path is a PKCS#11 module, and by which path the
// binding finds it, which calls LoadLibrary with a path in the process's code page. The
// libraries beside the module are found as its own (LOAD_WITH_ALTERED_SEARCH_PATH),
// once and for all: it stays loaded.
func probe(path string) (string, error) {
	lib, err := windows.LoadLibraryEx(path, 0, windows.LOAD_WITH_ALTERED_SEARCH_PATH)
	if err != nil {
		return "", unloadable(err.Error())
	}
	get, err := windows.GetProcAddress(lib, "C_GetFunctionList")
	if err != nil {
		return "", errNoModule
	}
	var list unsafe.Pointer
	rv, _, _ := syscall.SyscallN(get, uintptr(unsafe.Pointer(&list)))
	if err := answered(uint(uint32(rv))); err != nil { // CK_RV has 32 bits
		return "", err
	}
	if list == nil {
		return "", errNoList
	}
	return narrow(path)
}

// narrow makes a path one that means the same in every code page.
func narrow(path string) (string, error) {
	const utf8 = 65001
	if isASCII(path) || windows.GetACP() == utf8 {
		return path, nil
	}
	wide, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return "", unloadable(err.Error())
	}
	short := make([]uint16, windows.MAX_LONG_PATH)
	n, err := windows.GetShortPathName(wide, &short[0], uint32(len(short)))
	if s := windows.UTF16ToString(short); err == nil && int(n) < len(short) && isASCII(s) {
		return s, nil
	}
	return "", fmt.Errorf("cannot be loaded from a path with characters outside ASCII, on a drive without short names; install it in a folder with a plain name")
}

func isASCII(s string) bool {
	for _, r := range s {
		if r > unicode.MaxASCII {
			return false
		}
	}
	return true
}
