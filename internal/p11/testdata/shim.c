// A PKCS#11 module that stands in front of another one, for tests: it passes every
// call on, and at the word of a control file hangs in one, answers a code in its
// place, loses its answer, or holds it up. It can also give the token behind it a PIN
// pad, take it out of its slot, for a moment too, swap two tokens behind its back, set
// its flags, and give the handle of a session that it closed by itself to the next one.
//
// CK_C_INITIALIZE_ARGS.pReserved is the path of the control file, laid out as struct
// control, which is shared with the test for as long as the process lives.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pkcs11go.h"

// The order is that of shimCalls in shim_test.go.
#define CALLS(X) \
	X(Initialize) X(Finalize) X(GetInfo) X(GetSlotList) X(GetSlotInfo) X(GetTokenInfo) X(GetMechanismList) \
	X(OpenSession) X(CloseSession) X(Login) X(Logout) X(FindObjectsInit) X(FindObjects) X(FindObjectsFinal) \
	X(GetAttributeValue) X(SignInit) X(Sign) X(GenerateKeyPair) X(CreateObject) X(DestroyObject)

#define INDEX(name) at_##name,
enum { CALLS(INDEX) calls };

enum { pass, hang, refuse, lose, hold };

struct knob {
	uint32_t mode;
	uint32_t code;
	uint32_t skip;  // calls that still pass
	uint32_t times; // that the mode is for; 0: for ever
	uint32_t began; // calls
	uint32_t ended;
};

struct control {
	char behind[512]; // path of the module behind
	uint32_t out;     // the slots are empty
	uint32_t set;     // flags of every token
	uint32_t unset;
	uint32_t pad;     // logins without a passcode so far
	uint32_t pad_code;
	char pad_pin[64]; // what is entered on the pad
	uint32_t blinks;  // slot lists in which the slots are empty
	uint32_t swap[2]; // slots whose tokens are each in the other
	uint32_t reuse;   // handle of a session that is closed, and is the next one's
	struct knob knobs[calls];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct control *control;
static CK_FUNCTION_LIST_PTR behind;
static CK_FUNCTION_LIST list;
static int ready;

// knock says what to do with a call: pass, refuse or lose. It does not come back from
// a call that hangs, and late from one that is held up.
static uint32_t knock(int i, CK_RV *code)
{
	struct knob *k = &control->knobs[i];
	uint32_t mode;

	pthread_mutex_lock(&mutex);
	__atomic_add_fetch(&k->began, 1, __ATOMIC_SEQ_CST);
	mode = __atomic_load_n(&k->mode, __ATOMIC_SEQ_CST);
	*code = k->code;
	if (mode != pass && k->skip > 0) {
		k->skip--;
		mode = pass;
	} else if (mode != pass && k->times > 0 && --k->times == 0) {
		if (mode != hold)
			__atomic_store_n(&k->mode, pass, __ATOMIC_SEQ_CST);
	}
	pthread_mutex_unlock(&mutex);
	if (mode == hang)
		for (;;)
			pause();
	if (mode == hold) {
		while (__atomic_load_n(&k->mode, __ATOMIC_SEQ_CST) == hold)
			usleep(1000);
		return pass;
	}
	return mode;
}

// at is the slot behind in which a slot's token is.
static CK_SLOT_ID at(CK_SLOT_ID id)
{
	uint32_t a = control->swap[0], b = control->swap[1];

	if (a == b)
		return id;
	return id == a ? b : id == b ? a : id;
}

static CK_SESSION_HANDLE alias, aliased; // a handle that was given again, and whose it is

static CK_SESSION_HANDLE of(CK_SESSION_HANDLE s) { return alias && s == alias ? aliased : s; }

static CK_RV leave(int i, uint32_t mode, CK_RV code, CK_RV rv)
{
	__atomic_add_fetch(&control->knobs[i].ended, 1, __ATOMIC_SEQ_CST);
	return mode == lose && rv == CKR_OK ? code : rv;
}

#define CALL(name, params, args) \
	static CK_RV my_##name params \
	{ \
		CK_RV code; \
		uint32_t mode; \
		if (!ready) \
			return CKR_CRYPTOKI_NOT_INITIALIZED; \
		mode = knock(at_##name, &code); \
		return leave(at_##name, mode, code, mode == refuse ? code : behind->C_##name args); \
	}

static CK_RV my_Initialize(CK_VOID_PTR p)
{
	CK_C_INITIALIZE_ARGS args;
	CK_C_GetFunctionList get;
	CK_RV code, rv;
	uint32_t mode;
	void *lib;

	if (!control) {
		CK_C_INITIALIZE_ARGS_PTR a = p;
		int fd = a && a->pReserved ? open(a->pReserved, O_RDWR) : -1;
		void *m = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (fd >= 0)
			close(fd);
		if (m == MAP_FAILED)
			return CKR_ARGUMENTS_BAD;
		control = m;
	}
	mode = knock(at_Initialize, &code);
	if (mode == refuse)
		return leave(at_Initialize, mode, code, code);
	if (ready)
		return leave(at_Initialize, mode, code, CKR_CRYPTOKI_ALREADY_INITIALIZED);
	if (!behind) {
		lib = dlopen(control->behind, RTLD_NOW | RTLD_LOCAL);
		get = lib ? (CK_C_GetFunctionList)dlsym(lib, "C_GetFunctionList") : NULL;
		if (!get || get(&behind) != CKR_OK)
			return leave(at_Initialize, mode, code, CKR_GENERAL_ERROR);
	}
	memset(&args, 0, sizeof args);
	args.flags = CKF_OS_LOCKING_OK;
	rv = behind->C_Initialize(&args);
	if (rv == CKR_CRYPTOKI_ALREADY_INITIALIZED)
		rv = CKR_OK;
	ready = rv == CKR_OK;
	return leave(at_Initialize, mode, code, rv);
}

static CK_RV my_Finalize(CK_VOID_PTR p)
{
	CK_RV code, rv;
	uint32_t mode;

	if (!ready)
		return CKR_CRYPTOKI_NOT_INITIALIZED;
	mode = knock(at_Finalize, &code);
	rv = mode == refuse ? code : behind->C_Finalize(p);
	if (rv == CKR_OK)
		ready = 0;
	return leave(at_Finalize, mode, code, rv);
}

static CK_RV my_GetSlotList(CK_BBOOL present, CK_SLOT_ID_PTR ids, CK_ULONG_PTR n)
{
	CK_RV code;
	uint32_t mode;

	if (!ready)
		return CKR_CRYPTOKI_NOT_INITIALIZED;
	mode = knock(at_GetSlotList, &code);
	if (mode != refuse && present && control->out) {
		*n = 0;
		return leave(at_GetSlotList, mode, code, CKR_OK);
	}
	if (mode != refuse && present && control->blinks > 0) {
		if (ids) // a list is two calls, of which the first asks how many there are
			control->blinks--;
		*n = 0;
		return leave(at_GetSlotList, mode, code, CKR_OK);
	}
	return leave(at_GetSlotList, mode, code, mode == refuse ? code : behind->C_GetSlotList(present, ids, n));
}

static CK_RV my_GetTokenInfo(CK_SLOT_ID id, CK_TOKEN_INFO_PTR info)
{
	CK_RV code, rv;
	uint32_t mode;

	if (!ready)
		return CKR_CRYPTOKI_NOT_INITIALIZED;
	mode = knock(at_GetTokenInfo, &code);
	rv = mode == refuse ? code : behind->C_GetTokenInfo(at(id), info);
	if (rv == CKR_OK) {
		info->flags |= control->set;
		info->flags &= ~(CK_FLAGS)control->unset;
	}
	return leave(at_GetTokenInfo, mode, code, rv);
}

static CK_RV my_Login(CK_SESSION_HANDLE s, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin, CK_ULONG n)
{
	CK_RV code, rv;
	uint32_t mode;

	if (!ready)
		return CKR_CRYPTOKI_NOT_INITIALIZED;
	mode = knock(at_Login, &code);
	if (mode == refuse)
		return leave(at_Login, mode, code, code);
	if (!(control->set & CKF_PROTECTED_AUTHENTICATION_PATH))
		return leave(at_Login, mode, code, behind->C_Login(of(s), user, pin, n));
	if (pin)
		return leave(at_Login, mode, code, CKR_ARGUMENTS_BAD);
	control->pad++;
	rv = control->pad_code;
	if (rv == CKR_OK)
		rv = behind->C_Login(of(s), user, (CK_UTF8CHAR_PTR)control->pad_pin, strlen(control->pad_pin));
	return leave(at_Login, mode, code, rv);
}

static CK_RV my_OpenSession(CK_SLOT_ID id, CK_FLAGS flags, CK_VOID_PTR app, CK_NOTIFY notify, CK_SESSION_HANDLE_PTR s)
{
	CK_RV code, rv;
	uint32_t mode;

	if (!ready)
		return CKR_CRYPTOKI_NOT_INITIALIZED;
	mode = knock(at_OpenSession, &code);
	if (mode == refuse)
		return leave(at_OpenSession, mode, code, code);
	rv = behind->C_OpenSession(at(id), flags, app, notify, s);
	if (rv == CKR_OK && control->reuse) {
		alias = control->reuse;
		behind->C_CloseSession(alias);
		aliased = *s;
		*s = alias;
		control->reuse = 0;
	}
	return leave(at_OpenSession, mode, code, rv);
}

CALL(GetInfo, (CK_INFO_PTR a), (a))
CALL(GetSlotInfo, (CK_SLOT_ID a, CK_SLOT_INFO_PTR b), (a, b))
CALL(GetMechanismList, (CK_SLOT_ID a, CK_MECHANISM_TYPE_PTR b, CK_ULONG_PTR c), (at(a), b, c))
CALL(CloseSession, (CK_SESSION_HANDLE a), (of(a)))
CALL(Logout, (CK_SESSION_HANDLE a), (of(a)))
CALL(FindObjectsInit, (CK_SESSION_HANDLE a, CK_ATTRIBUTE_PTR b, CK_ULONG c), (of(a), b, c))
CALL(FindObjects, (CK_SESSION_HANDLE a, CK_OBJECT_HANDLE_PTR b, CK_ULONG c, CK_ULONG_PTR d), (of(a), b, c, d))
CALL(FindObjectsFinal, (CK_SESSION_HANDLE a), (of(a)))
CALL(GetAttributeValue, (CK_SESSION_HANDLE a, CK_OBJECT_HANDLE b, CK_ATTRIBUTE_PTR c, CK_ULONG d), (of(a), b, c, d))
CALL(SignInit, (CK_SESSION_HANDLE a, CK_MECHANISM_PTR b, CK_OBJECT_HANDLE c), (of(a), b, c))
CALL(Sign, (CK_SESSION_HANDLE a, CK_BYTE_PTR b, CK_ULONG c, CK_BYTE_PTR d, CK_ULONG_PTR e), (of(a), b, c, d, e))
CALL(GenerateKeyPair, (CK_SESSION_HANDLE a, CK_MECHANISM_PTR b, CK_ATTRIBUTE_PTR c, CK_ULONG d, CK_ATTRIBUTE_PTR e, CK_ULONG f, CK_OBJECT_HANDLE_PTR g, CK_OBJECT_HANDLE_PTR h), (of(a), b, c, d, e, f, g, h))
CALL(CreateObject, (CK_SESSION_HANDLE a, CK_ATTRIBUTE_PTR b, CK_ULONG c, CK_OBJECT_HANDLE_PTR d), (of(a), b, c, d))
CALL(DestroyObject, (CK_SESSION_HANDLE a, CK_OBJECT_HANDLE b), (of(a), b))

static CK_RV my_GetSessionInfo(CK_SESSION_HANDLE s, CK_SESSION_INFO_PTR info)
{
	return ready ? behind->C_GetSessionInfo(of(s), info) : CKR_CRYPTOKI_NOT_INITIALIZED;
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR out)
{
	list.version.major = 2;
	list.version.minor = 40;
#define SET(name) list.C_##name = my_##name;
	CALLS(SET)
	list.C_GetSessionInfo = my_GetSessionInfo;
	list.C_GetFunctionList = C_GetFunctionList;
	*out = &list;
	return CKR_OK;
}
