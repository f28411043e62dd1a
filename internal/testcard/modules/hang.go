package modules

import (
	"crypto/rsa"
	"crypto/x509"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/testcard"
)

//go:embed hang.c.txt
var hangSource string

// hangFunctions are what the module implements, each of which can be made to hang.
var hangFunctions = []string{
	"C_GetFunctionList", "C_Initialize", "C_Finalize", "C_GetInfo", "C_GetSlotList", "C_GetSlotInfo", "C_GetTokenInfo",
	"C_GetMechanismList", "C_GetMechanismInfo", "C_OpenSession", "C_CloseSession", "C_CloseAllSessions", "C_GetSessionInfo",
	"C_Login", "C_Logout", "C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_GetAttributeValue",
	"C_SignInit", "C_Sign", "C_GenerateKeyPair", "C_CreateObject", "C_DestroyObject", "C_SetAttributeValue",
	"C_GenerateRandom", "C_WaitForSlotEvent",
}

// Hanging is a PKCS#11 module with one token, one of whose functions hangs.
type Hanging struct {
	Token
	Certificate *x509.Certificate // on the token, of the signing profile, with CKA_ID 02

	file string
}

// HangingModule builds a module of which one function, by its PKCS#11 name, does not
// return: from the start, until Release, and again after Hang. What else it is asked
// it answers at once. On its token are a certificate, its public key and, after the
// login, its private key, which signs wrongly; nothing on it can be changed.
//
// The end of the test releases every call that still hangs.
func HangingModule(t testing.TB, function string) *Hanging {
	t.Helper()
	if !slices.Contains(hangFunctions, function) {
		t.Fatalf("modules: function %q, expected one of %s", function, strings.Join(hangFunctions, ", "))
	}
	gcc := need.Tool(t, "gcc", "gcc libc6-dev")
	cert, err := hangCertificate()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	h := &Hanging{
		Token:       Token{Module: filepath.Join(dir, "hanging.so"), Label: "hanging token", PIN: "123456"},
		Certificate: cert, file: filepath.Join(dir, "hang"),
	}
	defines := fmt.Sprintf("#define HANG_FUNCTION %q\n#define HANG_FILE %q\n#define HANG_MET %q\n#define HANG_CERTIFICATE %s\n#define HANG_MODULUS %s\n#define HANG_SUBJECT %s\n",
		function, h.file, h.met(), array(cert.Raw), array(cert.PublicKey.(*rsa.PublicKey).N.Bytes()), array(cert.RawSubject))
	cmd := exec.Command(gcc, "-shared", "-fPIC", "-O1", "-Wall", "-x", "c", "-o", h.Module, "-")
	cmd.Stdin = strings.NewReader(defines + hangSource)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("modules: the module that hangs: %v\n%s", err, out)
	}
	h.Hang(t)
	t.Cleanup(func() { h.Release(t) })
	return h
}

// hangCertificate is made once; its key is thrown away.
var hangCertificate = sync.OnceValues(func() (*x509.Certificate, error) {
	ca, err := testcard.NewCA(testcard.CAConfig{CachedKeys: true})
	if err != nil {
		return nil, err
	}
	key, err := testcard.CachedKeys()(2048)
	if err != nil {
		return nil, err
	}
	return ca.Issue(testcard.Signing, key.Public(), testcard.IssueOptions{Subject: testcard.Subject("999999999999")})
})

// array writes the elements of a C array.
func array(b []byte) string {
	var s strings.Builder
	for _, x := range b {
		fmt.Fprintf(&s, "%d,", x)
	}
	return s.String()
}

func (h *Hanging) met() string { return h.file + ".met" }

// Met waits until a call hangs since the last Hang.
func (h *Hanging) Met(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(h.met()); err == nil {
			return
		} else if time.Now().After(end) {
			t.Fatal("modules: the function that hangs is not called")
		}
	}
}

// Hang has the function hang from now on.
func (h *Hanging) Hang(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(h.met()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Release lets calls that hang go on, and later ones through.
func (h *Hanging) Release(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(h.file); err != nil {
		t.Fatal(err)
	}
}
