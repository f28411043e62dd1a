package p11

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
)

// shimCalls are the calls that testdata/shim.c can do something to, in its order.
var shimCalls = []string{
	"Initialize", "Finalize", "GetInfo", "GetSlotList", "GetSlotInfo", "GetTokenInfo", "GetMechanismList",
	"OpenSession", "CloseSession", "Login", "Logout", "FindObjectsInit", "FindObjects", "FindObjectsFinal",
	"GetAttributeValue", "SignInit", "Sign", "GenerateKeyPair", "CreateObject", "DestroyObject",
}

// What the shim does with a call.
const (
	pass   = iota
	hang   // sleep for ever
	refuse // answer a code in its place
	lose   // answer a code when it is done
	hold   // wait until it is told to pass
)

// fault says what a call meets.
type fault struct {
	mode  uint32
	code  uint
	skip  uint32 // calls that still pass
	times uint32 // that it is for; 0: for ever
}

// shim is a module of its own in this process, in front of another one: it passes
// calls on, and does to some of them what a test wants.
type shim struct {
	t       testing.TB
	path    string
	control string
	mu      sync.Mutex
	f       *os.File
}

// Offsets of struct control.
const (
	atOut = 512 + 4*iota
	atSet
	atUnset
	atPad
	atPadCode
	atPadPIN
	atBlinks  = atPadPIN + 64
	atSwap    = atBlinks + 4
	atReuse   = atSwap + 8
	atKnobs   = atReuse + 4
	knobWords = 6
)

// compiled is the shim's library, made once for the process.
var compiled struct {
	sync.Once
	so  []byte
	err error
}

// newShim puts a shim in front of the module at a path.
func newShim(t testing.TB, behind string) *shim {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux: the module in front of others is written for it")
	}
	cc := need.Tool(t, "cc", "gcc libc6-dev")
	compiled.Do(func() {
		headers, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
		if err != nil {
			compiled.err = err
			return
		}
		so := filepath.Join(t.TempDir(), "shim.so")
		cmd := exec.Command(cc, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-I", strings.TrimSpace(string(headers)), "-o", so, "testdata/shim.c", "-ldl")
		cmd.Stderr = os.Stderr
		if compiled.err = cmd.Run(); compiled.err == nil {
			compiled.so, compiled.err = os.ReadFile(so)
		}
	})
	require.NoError(t, compiled.err)
	// A file of its own is a library of its own, with its own state.
	dir := t.TempDir()
	s := &shim{t: t, path: filepath.Join(dir, "shim.so"), control: filepath.Join(dir, "control")}
	require.NoError(t, os.WriteFile(s.path, compiled.so, 0o600))
	c := make([]byte, atKnobs+4*knobWords*len(shimCalls))
	copy(c, behind)
	require.NoError(t, os.WriteFile(s.control, c, 0o600))
	var err error
	s.f, err = os.OpenFile(s.control, os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { s.f.Close() })
	return s
}

// open loads the shim as a module.
func (s *shim) open(o Options) *Module {
	s.t.Helper()
	o.Arguments = s.control
	m, err := Open(context.Background(), s.path, o)
	if errors.Is(err, ErrNoCgo) {
		s.t.Skip(err)
	}
	require.NoError(s.t, err)
	return m
}

func (s *shim) word(at int) uint32 {
	var b [4]byte
	_, err := s.f.ReadAt(b[:], int64(at))
	require.NoError(s.t, err)
	return binary.NativeEndian.Uint32(b[:])
}

func (s *shim) setWord(at int, v uint32) {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], v)
	_, err := s.f.WriteAt(b[:], int64(at))
	require.NoError(s.t, err)
}

func (s *shim) knob(call string, word int) int {
	i := slices.Index(shimCalls, call)
	require.GreaterOrEqual(s.t, i, 0, call)
	return atKnobs + 4*(knobWords*i+word)
}

// on has the fault meet a call from now on.
func (s *shim) on(call string, f fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setWord(s.knob(call, 0), pass)
	s.setWord(s.knob(call, 1), uint32(f.code))
	s.setWord(s.knob(call, 2), f.skip)
	s.setWord(s.knob(call, 3), f.times)
	s.setWord(s.knob(call, 0), f.mode)
}

// well lets every call pass.
func (s *shim) well() {
	for _, c := range shimCalls {
		s.on(c, fault{})
	}
}

// began and ended count calls.
func (s *shim) began(call string) int { return int(s.word(s.knob(call, 4))) }
func (s *shim) ended(call string) int { return int(s.word(s.knob(call, 5))) }

// held waits until a call is held up.
func (s *shim) held(call string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.began(call) > s.ended(call) }, time.Minute, time.Millisecond, "%s is not called", call)
}

// take takes the token out of its slot, and puts it back.
func (s *shim) take(out bool) {
	var v uint32
	if out {
		v = 1
	}
	s.setWord(atOut, v)
}

// blink has the next slot lists show no token, though none is out.
func (s *shim) blink(lists uint32) { s.setWord(atBlinks, lists) }

// swap has the tokens in two slots change places, and stay in the lists meanwhile.
func (s *shim) swap(a, b uint) {
	s.setWord(atSwap, uint32(a))
	s.setWord(atSwap+4, uint32(b))
}

// reuse closes a session in the module, as a module may whose card was taken out, and
// has the next one get its handle.
func (s *shim) reuse(h uint) { s.setWord(atReuse, uint32(h)) }

// flags sets and unsets flags that every token shows.
func (s *shim) flags(set, unset uint) {
	s.setWord(atSet, uint32(set))
	s.setWord(atUnset, uint32(unset))
}

// pad says what is entered on the PIN pad, or which code it answers.
func (s *shim) pad(pin string, code uint) {
	b := make([]byte, 64)
	copy(b, pin)
	_, err := s.f.WriteAt(b, atPadPIN)
	require.NoError(s.t, err)
	s.setWord(atPadCode, uint32(code))
}

// padded counts logins on the pad.
func (s *shim) padded() int { return int(s.word(atPad)) }
