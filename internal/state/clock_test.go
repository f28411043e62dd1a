package state

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/rxguard/rxguard/internal/need"
)

var (
	aRun  = time.Date(2020, 10, 2, 9, 30, 40, 123, time.FixedZone("BST", 3600))
	ofRun = time.Date(2020, 10, 2, 8, 29, 0, 0, time.UTC) // the minute before
	// theEnd is of the certificates that these runs are about.
	theEnd = time.Date(2022, 9, 29, 12, 0, 0, 0, time.UTC)
)

// inFile is the floor as a process finds it that was just started.
func inFile(t require.TestingT, d Dir) time.Time {
	c := d.Clock()
	require.NoError(t, c.Refresh())
	return c.Floor()
}

func aClock(t *testing.T) *Clock {
	t.Helper()
	c := At(filepath.Join(t.TempDir(), "state")).Clock()
	require.NoError(t, c.Refresh())
	require.Zero(t, c.Floor(), "a folder that is not there has no floor")
	require.False(t, c.Dir().Exists(), "and is not made by looking")
	return c
}

func TestTheClockFloorIsTheMinuteBefore(t *testing.T) {
	c := aClock(t)
	require.NoError(t, c.Raise(t.Context(), aRun, theEnd))
	assert.Equal(t, ofRun, c.Floor())
	assert.Equal(t, ofRun, inFile(t, c.Dir()), "across a restart")
	b, err := os.ReadFile(c.Path())
	require.NoError(t, err)
	assert.Equal(t, `{"version":1,"floor":"2020-10-02T08:29:00Z"}`+"\n", string(b))
	left, err := os.ReadDir(c.Dir().Path())
	require.NoError(t, err)
	assert.Len(t, left, 2, "clock.json and locks: nothing is left beside them")
	if runtime.GOOS != "windows" {
		i, err := os.Stat(c.Path())
		require.NoError(t, err)
		assert.Equal(t, fs.FileMode(0o666), i.Mode(), "for all who may use the folder")
	}
}

func TestTheClockFloorIsWrittenOnceAMinuteAtMost(t *testing.T) {
	c := aClock(t)
	require.NoError(t, c.Raise(t.Context(), aRun, theEnd))
	first, err := os.Stat(c.Path())
	require.NoError(t, err)
	for _, later := range []time.Duration{0, 1, 19 * time.Second, -time.Second, -40 * time.Second, -24 * time.Hour} {
		require.NoError(t, c.Raise(t.Context(), aRun.Add(later), theEnd))
		again, err := os.Stat(c.Path())
		require.NoError(t, err)
		assert.True(t, os.SameFile(first, again), later)
		assert.Equal(t, ofRun, c.Floor())
	}
	require.NoError(t, c.Raise(t.Context(), ofRun.Add(2*time.Minute), theEnd))
	assert.Equal(t, ofRun.Add(time.Minute), c.Floor())
	assert.Equal(t, ofRun.Add(time.Minute), inFile(t, c.Dir()))
}

// What a process last read may be long ago.
func TestTheClockFloorOfAnotherProcessIsNotLowered(t *testing.T) {
	c := aClock(t)
	late := c.Dir().Clock()
	require.NoError(t, c.Raise(t.Context(), aRun, theEnd))
	require.NoError(t, late.Raise(t.Context(), aRun.Add(-time.Hour), theEnd))
	assert.Equal(t, ofRun, inFile(t, c.Dir()))
	assert.Equal(t, ofRun, late.Floor(), "and is known now")
	require.NoError(t, late.Raise(t.Context(), aRun.Add(time.Hour), theEnd))
	assert.Equal(t, ofRun, c.Floor(), "answers from memory")
	require.NoError(t, c.Refresh())
	assert.Equal(t, ofRun.Add(time.Hour), c.Floor())
}

func TestAClockThatNoCertificateBearsOutIsNotKept(t *testing.T) {
	for _, x := range []struct {
		name     string
		now, end time.Time
		kept     bool
	}{
		{"while it is valid", theEnd.Add(-time.Minute), theEnd, true},
		{"expired", theEnd.AddDate(0, 6, 0), theEnd, true}, // or the clock could be turned back to when it was not
		{"expired for a year", theEnd.Add(clockSlack), theEnd, true},
		{"expired for longer", theEnd.Add(clockSlack + 1), theEnd, false},
		{"far in the future", time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), theEnd, false},
		{"beyond what a date can say", time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC), theEnd, false},
		{"no certificate", theEnd.AddDate(-1, 0, 0), time.Time{}, false},
		{"a certificate without an end", theEnd, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), true},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := aClock(t)
			require.NoError(t, c.Raise(t.Context(), x.now, x.end))
			want := time.Time{}
			if x.kept {
				want = x.now.Truncate(time.Minute).Add(-time.Minute)
			}
			assert.Equal(t, want, c.Floor())
			assert.Equal(t, want, inFile(t, c.Dir()))
			require.NoError(t, c.Raise(t.Context(), theEnd.AddDate(-1, 0, 0), theEnd))
			if !x.kept {
				assert.Equal(t, theEnd.AddDate(-1, 0, 0).Add(-time.Minute), c.Floor(), "the right clock is kept then")
			}
		})
	}
}

func TestAClockFloorThatCannotBeReadIsNotNone(t *testing.T) {
	const text = `{"version":1,"floor":"2020-10-02T08:30:00Z"}`
	for _, x := range []struct{ name, text, says string }{
		{"empty", "", "EOF"},
		{"torn", text[:20], "unexpected EOF"},
		{"zeros", strings.Repeat("\x00", len(text)), "invalid character"},
		{"a list", "[" + text + "]", "cannot unmarshal array"},
		{"null", "null", "it has version 0"},
		{"something behind it", text + text, "something follows its JSON object"},
		{"an unknown field", strings.Replace(text, "{", `{"ceiling":1,`, 1), `unknown field "ceiling"`},
		{"a later version", strings.Replace(text, "1", "2", 1), "it has version 2; this program knows 1"},
		{"no instant", `{"version":1}`, "it does not say which instant"},
		{"no such day", strings.Replace(text, "10-02", "13-02", 1), "month out of range"},
		{"a year too far", strings.Replace(text, "2020", "12020", 1), "cannot parse"},
		{"endless", "{" + strings.Repeat(" ", maxClock) + text[1:], "it is longer than 1024 bytes"},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := aClock(t)
			require.NoError(t, c.Raise(t.Context(), aRun, theEnd))
			require.NoError(t, os.WriteFile(c.Path(), []byte(x.text), 0o600))
			fresh := c.Dir().Clock()
			for _, c := range []*Clock{c, fresh} {
				for _, err := range []error{c.Refresh(), c.Raise(t.Context(), aRun.Add(time.Hour), theEnd)} {
					assert.ErrorContains(t, err, "state: clock floor "+c.Path()+" is damaged: ")
					assert.ErrorContains(t, err, x.says)
					assert.ErrorContains(t, err, "remove it when the clock of this computer is right")
				}
			}
			assert.Equal(t, ofRun, c.Floor(), "what was known stays known")
			assert.Zero(t, fresh.Floor())
			b, err := os.ReadFile(c.Path())
			require.NoError(t, err)
			assert.Equal(t, x.text, string(b), "the evidence stays")

			require.NoError(t, os.Remove(c.Path()))
			for _, c := range []*Clock{c, fresh} {
				require.NoError(t, c.Refresh())
				assert.Zero(t, c.Floor())
			}
			require.NoError(t, c.Raise(t.Context(), aRun, theEnd))
			assert.Equal(t, ofRun, inFile(t, c.Dir()))
		})
	}
	t.Run("a folder in its place", func(t *testing.T) {
		d := At(t.TempDir())
		require.NoError(t, os.Mkdir(d.Clock().Path(), 0o700))
		assert.ErrorContains(t, d.Clock().Refresh(), "state: clock floor: ")
		assert.ErrorContains(t, d.Clock().Refresh(), d.Clock().Path())
		assert.Error(t, d.Clock().Raise(t.Context(), aRun, theEnd))
	})
	t.Run("a file in place of the folder", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "state")
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		assert.Error(t, At(file).Clock().Refresh())
		assert.ErrorContains(t, At(file).Clock().Raise(t.Context(), aRun, theEnd), "must exist and be writable")
	})
}

// Whoever sets a clock right that was wrong removes the file; nobody has to start again.
func TestAClockFloorThatIsTakenAwayIsNone(t *testing.T) {
	c := aClock(t)
	other := c.Dir().Clock()
	require.NoError(t, c.Raise(t.Context(), aRun.AddDate(1, 0, 0), theEnd))
	require.NoError(t, other.Refresh())
	require.Equal(t, ofRun.AddDate(1, 0, 0), other.Floor())

	require.NoError(t, os.Remove(c.Path()))
	require.NoError(t, c.Refresh())
	require.Zero(t, c.Floor())
	require.NoError(t, c.Raise(t.Context(), aRun, theEnd))
	require.NoError(t, other.Refresh(), "which did not see that it was gone")
	assert.Equal(t, ofRun, other.Floor())
}

func TestWithoutAFolderTheClockFloorIsInMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("of Linux alone: its /proc is a folder in which nobody can make one, root neither")
	}
	c := At("/proc/rxguard/state").Clock()
	require.NoError(t, c.Raise(t.Context(), aRun, theEnd))
	require.NoError(t, c.Refresh())
	assert.Equal(t, ofRun, c.Floor())
	require.NoError(t, c.Raise(t.Context(), aRun.Add(-time.Hour), theEnd))
	assert.Equal(t, ofRun, c.Floor())
	require.NoError(t, c.Raise(t.Context(), aRun.Add(time.Hour), theEnd))
	assert.Equal(t, ofRun.Add(time.Hour), c.Floor())
}

func TestRaisingTheClockFloorWaitsUntilItsContextEnds(t *testing.T) {
	c := aClock(t)
	_, end := elsewhere(t, "clock", c.Dir())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, c.Raise(ended, aRun, theEnd), context.Canceled)
	require.Zero(t, c.Floor(), "what is not on disk is not told")
	done := make(chan error)
	go func() { done <- c.Raise(t.Context(), aRun, theEnd) }()
	end()
	require.NoError(t, <-done)
	assert.Equal(t, ofRun, inFile(t, c.Dir()))
}

// raises is how often another process raises the floor, by a minute each.
const raises = 40

// raiseAgainAndAgain is what that process does.
func raiseAgainAndAgain(d Dir) error {
	c := d.Clock()
	for i := range raises {
		if err := c.Raise(context.Background(), ofRun.Add(time.Duration(i)*time.Minute), theEnd); err != nil {
			return fmt.Errorf("minute %d: %w", i, err)
		}
	}
	return nil
}

func TestManyProcessesRaiseTheClockFloorAtOnce(t *testing.T) {
	c := aClock(t)
	var working sync.WaitGroup
	over := make(chan struct{})
	for range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"=raises "+c.Dir().Path(), "GORACE=atexit_sleep_ms=0")
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		working.Go(func() { assert.NoError(t, cmd.Wait()) })
		working.Go(func() { assert.NoError(t, raiseAgainAndAgain(c.Dir())) })
	}
	go func() {
		working.Wait()
		close(over)
	}()
	var last time.Time
	for looking := true; looking; {
		select {
		case <-over:
			looking = false
		default:
		}
		require.NoError(t, c.Refresh(), "never torn")
		now := c.Floor()
		require.False(t, now.Before(last), "%s after %s", now, last)
		last = now
	}
	assert.Equal(t, ofRun.Add((raises-2)*time.Minute), last)
}

// A walk of several processes beside a model of the one rule: the floor is the newest
// that was kept since the file was last removed.
func TestTheClockFloorWhateverHappens(t *testing.T) {
	need.Cases(t, 2000)
	rapid.Check(t, func(t *rapid.T) {
		root, err := os.MkdirTemp("", "rxguard-clock-")
		require.NoError(t, err)
		defer os.RemoveAll(root)
		d := At(root)
		processes := []*Clock{d.Clock(), d.Clock(), d.Clock()}
		var want time.Time
		damaged := false
		pick := func(t *rapid.T) int { return rapid.IntRange(0, len(processes)-1).Draw(t, "process") }
		t.Repeat(map[string]func(*rapid.T){
			"raise": func(t *rapid.T) {
				c := processes[pick(t)]
				now := aRun.Add(time.Duration(rapid.Int64Range(-3600, 3600).Draw(t, "seconds")) * time.Second)
				end := rapid.SampledFrom([]time.Time{theEnd, {}, aRun.Add(-clockSlack)}).Draw(t, "end")
				if !damaged { // as a Signer does
					require.NoError(t, c.Refresh())
				}
				to := now.UTC().Truncate(time.Minute).Add(-time.Minute)
				counts := !end.IsZero() && !now.After(end.Add(clockSlack)) && to.After(c.Floor())
				err := c.Raise(context.Background(), now, end)
				if damaged && counts {
					require.Error(t, err)
					return
				}
				require.NoError(t, err)
				if counts && to.After(want) {
					want = to
				}
			},
			"restart": func(t *rapid.T) { processes[pick(t)] = d.Clock() },
			"remove": func(t *rapid.T) {
				_ = os.Remove(d.Clock().Path())
				want, damaged = time.Time{}, false
			},
			"damage": func(t *rapid.T) {
				require.NoError(t, os.WriteFile(d.Clock().Path(), []byte("?"), 0o600))
				want, damaged = time.Time{}, true
			},
			"": func(t *rapid.T) {
				c := processes[pick(t)]
				if err := c.Refresh(); damaged {
					require.Error(t, err)
					return
				}
				require.NoError(t, c.Refresh())
				require.Equal(t, want, c.Floor())
			},
		})
	})
}

// FuzzClock: a floor that is read can be written and read again, the same.
func FuzzClock(f *testing.F) {
	for _, s := range []string{
		`{"version":1,"floor":"2020-10-02T08:30:00Z"}`,
		`{"version":1,"floor":"2020-10-02T09:30:00.5+01:00"}`,
		`{"version":1,"floor":"9999-12-31T23:59:00Z"}`,
		`{"version":2,"floor":"2020-10-02T08:30:00Z"}`,
		`{"version":1,"floor":"2020-10-02T08:3`,
		`{}`, `null`, ``,
	} {
		f.Add([]byte(s))
	}
	d := At(filepath.Join(f.TempDir(), "state"))
	require.NoError(f, os.Mkdir(d.Path(), 0o700))
	f.Fuzz(func(t *testing.T, b []byte) {
		at, err := parseClock(b)
		if err != nil {
			return
		}
		require.Equal(t, time.UTC, at.Location())
		if y := at.Year(); y < 1 || y > 9999 { // RFC 3339 has no others; UTC may move a day
			return
		}
		c := d.Clock()
		_ = os.Remove(c.Path())
		require.NoError(t, c.Raise(t.Context(), at.Add(clockStep), at))
		require.Equal(t, at.Truncate(clockStep), inFile(t, d))
	})
}
