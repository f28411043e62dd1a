//go:build cgo && !windows

package p11

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>

// probe loads a library as the binding will, which neither looks at what
// C_GetFunctionList answers nor says why something cannot be loaded.
static int probe(const char *path, const char **why, unsigned long *rv)
{
	void *lib, *list = NULL;
	unsigned long (*get)(void **);

	lib = dlopen(path, RTLD_LAZY);
	if (lib == NULL) {
		*why = dlerror();
		return 1;
	}
	*(void **)&get = dlsym(lib, "C_GetFunctionList");
	if (get == NULL)
		return 2;
	*rv = get(&list);
	return *rv == 0 && list == NULL ? 3 : 0;
}
*/
import "C"

import (
	"runtime"
	"unsafe"
)

// probe tells whether the library at path is a PKCS#11 module, and by which path the
// binding finds it. It stays loaded.
func probe(path string) (string, error) {
	runtime.LockOSThread() // what dlerror answers is the thread's
	defer runtime.UnlockOSThread()
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var why *C.char
	var rv C.ulong
	switch C.probe(name, &why, &rv) {
	case 1:
		return "", unloadable(C.GoString(why))
	case 2:
		return "", errNoModule
	case 3:
		return "", errNoList
	}
	return path, answered(uint(rv))
}
