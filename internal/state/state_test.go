package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const childEnv = "RXGUARD_TEST_CHILD"

// TestMain is also another process, which holds a lock until its input ends.
func TestMain(m *testing.M) {
	in := os.Getenv(childEnv)
	if in == "" {
		os.Exit(m.Run())
	}
	kind, path, _ := strings.Cut(in, " ")
	d, ctx := At(path), context.Background()
	var unlock func()
	var err error
	switch kind {
	case "shared":
		unlock, err = d.Lock(ctx, "card", false)
	case "exclusive":
		unlock, err = d.Lock(ctx, "card", true)
	case "renewal":
		unlock, err = d.TryRenewal(ctx, "card")
	case "clock":
		unlock, err = d.Lock(ctx, "clock", true)
	case "raises": // the clock floor, by a minute each
		unlock, err = func() {}, raiseAgainAndAgain(d)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("locked")
	_, _ = os.Stdin.Read(make([]byte, 1))
	unlock()
}

// elsewhere has another process take a lock, which ends with the returned function.
func elsewhere(t *testing.T, kind string, d Dir) (pid int, end func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+kind+" "+d.Path(), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	b := make([]byte, 6)
	_, err = out.Read(b)
	require.NoError(t, err)
	require.Equal(t, "locked", string(b))
	ended := false
	end = func() {
		if !ended {
			ended = true
			require.NoError(t, in.Close())
			_ = cmd.Wait()
		}
	}
	t.Cleanup(end)
	return cmd.Process.Pid, end
}

func aHold() Hold {
	return Hold{ID: "renewal", Card: "card", Serial: "c0ffee", Label: "card one", Phase: Reseat, Expect: "abc",
		Since: time.Date(2020, 10, 1, 14, 50, 0, 0, time.FixedZone("BST", 3600))}
}

func TestAHoldIsReadAsItWasSet(t *testing.T) {
	d := At(filepath.Join(t.TempDir(), "state"))
	h, err := d.Hold("card")
	require.NoError(t, err)
	assert.Nil(t, h, "a folder that is not there holds nothing")
	assert.False(t, d.Exists())

	require.NoError(t, d.SetHold(aHold()))
	assert.True(t, d.Exists())
	h, err = d.Hold("card")
	require.NoError(t, err)
	want := aHold()
	want.Version, want.Since = 1, want.Since.UTC()
	assert.Equal(t, &want, h)
	b, err := os.ReadFile(filepath.Join(d.Path(), "holds", "card.json"))
	require.NoError(t, err)
	assert.JSONEq(t, `{"version":1,"id":"renewal","card":"card","serial":"c0ffee","label":"card one","phase":"reseat","since":"2020-10-01T13:50:00Z","expect":"abc"}`, string(b))

	other, err := d.Hold("another")
	require.NoError(t, err)
	assert.Nil(t, other)

	want.Phase, want.Expect = Renewing, ""
	require.NoError(t, d.SetHold(want))
	h, err = d.Hold("card")
	require.NoError(t, err)
	assert.Equal(t, &want, h)
	left, err := os.ReadDir(filepath.Join(d.Path(), "holds"))
	require.NoError(t, err)
	assert.Len(t, left, 1, "nothing is left beside it")
}

func TestAHoldThatCannotBeReadIsNotNone(t *testing.T) {
	good := aHold()
	good.Version, good.Since = 1, good.Since.UTC()
	b, err := json.Marshal(good)
	require.NoError(t, err)
	text := string(b)
	swap := func(from, to string) string {
		require.Contains(t, text, from)
		return strings.Replace(text, from, to, 1)
	}
	for _, c := range []struct{ name, text, says string }{
		{"empty", "", "EOF"},
		{"cut off", text[:len(text)-1], "unexpected EOF"},
		{"not JSON", "on hold", "invalid character"},
		{"a list", "[" + text + "]", "cannot unmarshal array"},
		{"an unknown field", swap(`{`, `{"until":1,`), `unknown field "until"`},
		{"something behind it", text + "{}", "something follows its JSON object"},
		{"a later version", swap(`"version":1`, `"version":2`), "it has version 2; this program knows 1"},
		{"no version", swap(`"version":1,`, ``), "it has version 0"},
		{"another card", swap(`"card":"card"`, `"card":"other"`), "it is of another card"},
		{"no id", swap(`"renewal"`, `""`), "it has no id"},
		{"an unknown phase", swap(`"reseat"`, `"done"`), `its phase is "done"; wanted renewing or reseat`},
		{"no expected certificate", swap(`,"expect":"abc"`, ``), "it does not say which certificate to expect"},
		{"no instant", swap(`"since":"2020-10-01T13:50:00Z",`, ``), "it does not say since when"},
		{"endless", swap(`{`, `{`+strings.Repeat(" ", maxHold)), "it is longer than 65536 bytes"},
		{"null", "null", "it has version 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := At(t.TempDir())
			file := d.holdFile("card")
			require.NoError(t, os.Mkdir(filepath.Dir(file), 0o700))
			require.NoError(t, os.WriteFile(file, []byte(c.text), 0o600))
			h, err := d.Hold("card")
			assert.Nil(t, h)
			assert.ErrorContains(t, err, "state: hold "+file+" is damaged: ")
			assert.ErrorContains(t, err, c.says)
			assert.ErrorContains(t, d.ReleaseHold("renewal", "card"), c.says, "what is not known is not ended")
			_, err = os.Stat(file)
			assert.NoError(t, err)
		})
	}
	t.Run("a folder in its place", func(t *testing.T) {
		d := At(t.TempDir())
		require.NoError(t, os.MkdirAll(d.holdFile("card"), 0o700))
		_, err := d.Hold("card")
		assert.Error(t, err)
		assert.ErrorContains(t, d.SetHold(aHold()), "state: the hold could not be written")
	})
	t.Run("a file in place of the folder", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "state")
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		_, err := At(file).Hold("card")
		assert.Error(t, err)
		assert.ErrorContains(t, At(file).SetHold(aHold()), "must exist and be writable for those who prescribe on this machine")
		_, err = At(file).Lock(t.Context(), "card", false)
		assert.ErrorContains(t, err, "must exist and be writable")
		assert.True(t, At(file).Exists())
	})
}

func TestAHoldThatCouldNotBeReadIsNotWritten(t *testing.T) {
	for says, change := range map[string]func(*Hold){
		"names no card":   func(h *Hold) { h.Card = "" },
		"it has no id":    func(h *Hold) { h.ID = "" },
		"its phase is":    func(h *Hold) { h.Phase = "" },
		"which certifica": func(h *Hold) { h.Expect = "" },
		"since when":      func(h *Hold) { h.Since = time.Time{} },
	} {
		d, h := At(filepath.Join(t.TempDir(), "state")), aHold()
		change(&h)
		assert.ErrorContains(t, d.SetHold(h), says)
		assert.False(t, d.Exists())
	}
}

func TestOnlyTheHoldThatIsMeantIsReleased(t *testing.T) {
	d := At(t.TempDir())
	require.NoError(t, d.ReleaseHold("renewal", "card"), "none is no error")
	require.NoError(t, d.SetHold(aHold()))
	assert.EqualError(t, d.ReleaseHold("an earlier one", "card"), "state: the card is on another hold since 2020-10-01T13:50:00Z; it was not ended")
	h, err := d.Hold("card")
	require.NoError(t, err)
	require.NotNil(t, h)
	require.NoError(t, d.ReleaseHold("renewal", "card"))
	h, err = d.Hold("card")
	require.NoError(t, err)
	assert.Nil(t, h)
}

func TestTheLockOfACard(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel() // a lock that is free is given all the same
	for _, c := range []struct {
		there, here string
		free        bool
	}{
		{"shared", "shared", true},
		{"shared", "exclusive", false},
		{"exclusive", "shared", false},
		{"exclusive", "exclusive", false},
		{"renewal", "shared", true},
		{"renewal", "exclusive", true},
	} {
		t.Run(c.there+" in another process, "+c.here+" here", func(t *testing.T) {
			d := At(t.TempDir())
			_, end := elsewhere(t, c.there, d)
			unlock, err := d.Lock(ended, "card", c.here == "exclusive")
			if c.free {
				require.NoError(t, err)
				unlock()
				return
			}
			require.ErrorIs(t, err, context.Canceled)
			assert.EqualError(t, err, "state: lock "+filepath.Join(d.Path(), "locks", "card.lock")+": context canceled")
			unlock, err = d.Lock(ended, "another card", true)
			require.NoError(t, err)
			unlock()
			// It waits, and has it when the other process ends.
			got := make(chan error)
			go func() {
				unlock, err := d.Lock(t.Context(), "card", c.here == "exclusive")
				if err == nil {
					defer unlock()
				}
				got <- err
			}()
			end()
			assert.NoError(t, <-got)
		})
	}
	t.Run("two of one process", func(t *testing.T) {
		d := At(t.TempDir())
		unlock, err := d.Lock(t.Context(), "card", true)
		require.NoError(t, err)
		_, err = d.Lock(ended, "card", false)
		assert.ErrorIs(t, err, context.Canceled)
		unlock()
		unlock, err = d.Lock(ended, "card", false)
		require.NoError(t, err)
		unlock()
	})
}

func TestOneRenewalOfACardAtATime(t *testing.T) {
	d := At(t.TempDir())
	pid, end := elsewhere(t, "renewal", d)
	_, err := d.TryRenewal(t.Context(), "card")
	require.ErrorIs(t, err, ErrBusy)
	assert.ErrorContains(t, err, fmt.Sprintf("state: another process renews this card: process %d since 2", pid))
	unlock, err := d.TryRenewal(t.Context(), "another")
	require.NoError(t, err)
	unlock()
	end()
	unlock, err = d.TryRenewal(t.Context(), "card")
	require.NoError(t, err)
	_, err = d.TryRenewal(t.Context(), "card")
	require.ErrorIs(t, err, ErrBusy)
	assert.ErrorContains(t, err, fmt.Sprintf("process %d since", os.Getpid()))
	host, err := os.Hostname()
	require.NoError(t, err)
	_, err = d.TryRenewal(t.Context(), "card")
	assert.ErrorContains(t, err, fmt.Sprintf(", %s of ", filepath.Base(os.Args[0])))
	assert.ErrorContains(t, err, " on "+host)
	owner := filepath.Join(d.Path(), "locks", "card.renewal.owner")
	require.NoError(t, os.Remove(owner))
	_, err = d.TryRenewal(t.Context(), "card")
	assert.ErrorContains(t, err, "which process is not known")
	require.NoError(t, os.WriteFile(owner, nil, 0o600))
	_, err = d.TryRenewal(t.Context(), "card")
	assert.ErrorContains(t, err, "which process is not known")
	require.NoError(t, os.WriteFile(owner, []byte("process 1\n\x1b[2J"+strings.Repeat("x", 2*maxOwner)), 0o600))
	_, err = d.TryRenewal(t.Context(), "card")
	assert.ErrorContains(t, err, ": process 1[2Jxxx", "nothing but what can be printed")
	assert.Less(t, len(err.Error()), 2*maxOwner)
	unlock()
	_, err = os.Stat(owner)
	assert.True(t, errors.Is(err, fs.ErrNotExist), "nobody renews it now")
}

func TestTheFolderOfTheMachine(t *testing.T) {
	want := map[string]string{"linux": "/var/lib/rxguard", "darwin": "/Library/Application Support/rxguard"}[runtime.GOOS]
	if want == "" {
		t.Skipf("needs Linux or macOS, which have a fixed path: %s looks its folder up", runtime.GOOS)
	}
	t.Setenv("ProgramData", "/elsewhere")
	t.Setenv("HOME", "/elsewhere")
	d, err := Machine()
	require.NoError(t, err)
	assert.Equal(t, At(want), d, "the environment does not move it")
}

func TestSyncDir(t *testing.T) {
	require.NoError(t, SyncDir(t.TempDir()))
	if runtime.GOOS == "windows" { // nothing is to be done there
		return
	}
	assert.ErrorIs(t, SyncDir(filepath.Join(t.TempDir(), "missing")), fs.ErrNotExist)
}

// FuzzHold: a hold that is read can be written and read again, the same.
func FuzzHold(f *testing.F) {
	h := aHold()
	h.Version, h.Since = 1, h.Since.UTC()
	b, _ := json.Marshal(h)
	f.Add(b)
	h.Certificates = []string{"c1", "c2"}
	more, _ := json.Marshal(h)
	f.Add(more)
	f.Add(b[:len(b)-2])
	f.Add([]byte(`{"version":1,"id":"x","card":"card","phase":"renewing","since":"2020-10-01T00:00:00+01:00"}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`null`))
	d := At(filepath.Join(f.TempDir(), "state"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHold(b)
		if err != nil {
			return
		}
		if year := h.Since.UTC().Year(); h.Card != "card" || year < 0 || year > 9999 { // RFC 3339 has no others
			return
		}
		require.NoError(t, os.RemoveAll(d.Path())) // a hold keeps the names of the one before
		require.NoError(t, d.SetHold(*h))
		h.Since = h.Since.UTC()
		if len(h.Certificates) == 0 {
			h.Certificates = nil
		}
		for _, n := range h.names() {
			again, err := d.Hold(n)
			require.NoError(t, err)
			require.Equal(t, h, again)
		}
	})
}
