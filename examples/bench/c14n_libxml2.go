//go:build cgo && unix

package bench

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

// What libxml2 exports, as <libxml/parser.h> and <libxml/c14n.h> declare it; loaded
// when it is asked for, so that the other benchmarks need no libxml2 to build.
static void (*init_parser)(void);
static void *(*read_memory)(const char *buffer, int size, const char *url, const char *encoding, int options);
static void (*free_doc)(void *doc);
static int (*dump_memory)(void *doc, void *nodes, int mode, void *prefixes, int comments, unsigned char **form);
static void (**free_form)(void *); // xmlFree is a variable

static const char *load(const char *path) {
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (library == NULL)
		return dlerror();
	*(void **)&init_parser = dlsym(library, "xmlInitParser");
	*(void **)&read_memory = dlsym(library, "xmlReadMemory");
	*(void **)&free_doc = dlsym(library, "xmlFreeDoc");
	*(void **)&dump_memory = dlsym(library, "xmlC14NDocDumpMemory");
	free_form = (void (**)(void *))dlsym(library, "xmlFree");
	if (!init_parser || !read_memory || !free_doc || !dump_memory || !free_form)
		return "a function is missing";
	init_parser();
	return NULL;
}

enum { NOERROR = 1 << 5, NOWARNING = 1 << 6, NONET = 1 << 11, HUGE_ = 1 << 19, EXCLUSIVE = 1 };

static int canonical(const char *source, int size, unsigned char **form) {
	void *doc = read_memory(source, size, NULL, NULL, NOERROR | NOWARNING | NONET | HUGE_);
	if (doc == NULL)
		return -1;
	int n = dump_memory(doc, NULL, EXCLUSIVE, NULL, 0, form);
	free_doc(doc);
	return n;
}

static void done(unsigned char *form) { (*free_form)(form); }
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"
)

// loadLibxml2 makes the library of a path the one that canonicalLibxml2 calls.
func loadLibxml2(path string) error {
	p := append([]byte(path), 0)
	if why := C.load((*C.char)(unsafe.Pointer(&p[0]))); why != nil {
		return fmt.Errorf("%s: %s", path, C.GoString(why))
	}
	return nil
}

// canonicalLibxml2 has libxml2 read a document, write its exclusive canonical form
// without comments, and hands that to look before it is freed.
func canonicalLibxml2(source []byte, look func(form []byte)) error {
	var form *C.uchar
	n := C.canonical((*C.char)(unsafe.Pointer(&source[0])), C.int(len(source)), &form)
	if n < 0 {
		return errors.New("libxml2 refuses the document")
	}
	if look != nil {
		look(unsafe.Slice((*byte)(form), int(n)))
	}
	C.done(form)
	return nil
}
