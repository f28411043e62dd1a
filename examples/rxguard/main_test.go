package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/signing/eps"
	"github.com/rxguard/rxguard/signing/signingtest"
)

func itoa(n int) string { return strconv.Itoa(n) }

// endless gives a start, and then the same again and again.
type endless struct {
	start, then []byte
	left        int
}

func (e *endless) Read(b []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	if len(e.start) == 0 {
		e.start = bytes.Repeat(e.then, 4096)
	}
	n := copy(b[:min(len(b), e.left)], e.start)
	e.start, e.left = e.start[n:], e.left-n
	return n, nil
}

func TestCommandLinesThatAreNotUnderstood(t *testing.T) {
	s := simulate(t, signingtest.MessageConfig{})
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "no command; rxguard --help lists them"},
		{[]string{"verfy", s.message}, "unknown command \"verfy\" for \"rxguard\"\n\nDid you mean this?\n  verify\n"},
		{[]string{"sign"}, `unknown command "sign"`},
		{[]string{"help", "verfy"}, `unknown command "verfy"`},
		{[]string{"help", "verify", "more"}, `unknown command "more"`},
		{[]string{"completion", "bash"}, `unknown command "completion"`},
		{[]string{"--nonsense"}, "unknown flag: --nonsense; rxguard --help lists the flags"},
		{[]string{"version", "more"}, `unknown command "more"`},
		{[]string{"verify"}, "no MESSAGE; rxguard verify --help explains"},
		{[]string{"verify", "--ca", s.ca}, "no MESSAGE"},
		{[]string{"verify", ""}, "a MESSAGE is empty"},
		{[]string{"verify", "-", "-"}, "MESSAGE - is given twice"},
		{[]string{"verify", s.message, "--nonsense"}, "unknown flag: --nonsense; rxguard verify --help lists the flags"},
		{[]string{"verify", s.message, "--ca"}, "flag needs an argument: --ca"},
		{[]string{"verify", s.message, "--ca", ""}, "--ca is empty"},
		{[]string{"verify", s.message, "--crl="}, "--crl is empty"},
		{[]string{"verify", s.message, "--at", "yesterday"}, `"yesterday" is not a time; wanted RFC 3339 as 2020-09-30T09:00:00Z, or a date`},
		{[]string{"verify", s.message, "--at", "2020-02-30"}, `"2020-02-30" is not a time`},
		{[]string{"verify", s.message, "--at", "20200930090000"}, "is not a time"},
		{[]string{"verify", s.message, "--at", "0001-01-01T00:00:00Z"}, "is not of the years 1950 to 9999"},
		{[]string{"verify", s.message, "--at", ""}, "is not a time"},
		{[]string{"verify", s.message, "--max-bytes", "0"}, "--max-bytes 0, wanted a size in bytes"},
		{[]string{"verify", s.message, "--max-bytes", "-1"}, "--max-bytes -1"},
		{[]string{"verify", s.message, "--max-bytes", "9223372036854775807"}, "wanted a size in bytes"},
		{[]string{"verify", s.message, "--max-bytes", "1M"}, "invalid argument"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			d := run(t, c.args...)
			assert.Equal(t, exitNotRead, d.code)
			assert.Empty(t, d.out)
			assert.True(t, strings.HasPrefix(d.errors, "rxguard: "), d.errors)
			assert.Contains(t, d.errors, c.says)
			assert.NotContains(t, d.errors, "Usage:")

			d = run(t, append([]string{"--json"}, c.args...)...)
			assert.Equal(t, exitNotRead, d.code)
			assert.Empty(t, d.errors)
			r := rows(t, d.out)
			require.Len(t, r, 1)
			require.NotNil(t, r[0].Error)
			assert.Equal(t, "usage", r[0].Error.Kind)
		})
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"-h"}, {"help"}, {"check", "--help"}, {"verify", "--help"}, {"help", "verify"}, {"verify", "-h", "--nonsense-after"}} {
		d := run(t, args...)
		if len(args) > 2 {
			assert.Equal(t, exitNotRead, d.code)
			continue
		}
		assert.Equal(t, exitAccepted, d.code, "%v", args)
		assert.Empty(t, d.errors)
		assert.Contains(t, d.out, "Examples:\n")
		for _, line := range []string{"  0    ", "  1    ", "  2    ", "  3    ", "  130  "} {
			assert.Contains(t, d.out, line, "%v lists the exit codes", args)
		}
	}
	assert.Contains(t, run(t, "help", "version").out, "Tell which rxguard this is")
}

func TestVersion(t *testing.T) {
	d := run(t, "version")
	assert.Equal(t, exitAccepted, d.code)
	assert.True(t, strings.HasPrefix(d.out, "rxguard "), d.out)
	assert.Contains(t, d.out, ", go1.")
	assert.Equal(t, exitAccepted, run(t, "--version").code)
	var b build
	d = run(t, "version", "--json")
	require.NoError(t, json.Unmarshal([]byte(d.out), &b))
	assert.Equal(t, 1, b.Version)
	assert.NotEmpty(t, b.Rxguard)
	assert.True(t, strings.HasPrefix(b.Go, "go1."))
}

func TestWhatIsWorse(t *testing.T) {
	for i, a := range ranks {
		for k, b := range ranks {
			assert.Equal(t, ranks[max(i, k)], worse(a, b))
		}
	}
	assert.Equal(t, []int{0, 2, 1, 3, 130}, ranks)
}

// A fault is not one of the answers.
func TestAFaultIsNotAnAnswer(t *testing.T) {
	var errs bytes.Buffer
	assert.Equal(t, exitNotRead, guarded(&errs, func() int { panic("planted") }))
	assert.Contains(t, errs.String(), "rxguard: a fault in rxguard itself, nothing is decided; please report it: planted\n")
	assert.Equal(t, exitUndecided, guarded(&errs, func() int { return exitUndecided }))
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestAnOutputThatTakesNothing(t *testing.T) {
	s := simulate(t, signingtest.MessageConfig{})
	var errs bytes.Buffer
	code := command(t.Context(), s.args(s.message, s.message), strings.NewReader(""), fullDisk{}, &errs)
	assert.Equal(t, exitNotRead, code)
	assert.Equal(t, "rxguard: the output could not be written: no space left\n", errs.String())
	errs.Reset()
	assert.Equal(t, exitNotRead, command(t.Context(), []string{"version"}, strings.NewReader(""), fullDisk{}, &errs))
	assert.Contains(t, errs.String(), "could not be written")
}

func TestAReaderThatLeaves(t *testing.T) {
	s := simulate(t, signingtest.MessageConfig{Prescriptions: 100})
	for _, args := range [][]string{{s.message, s.message}, {"--json", s.message, s.message}} {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		require.NoError(t, r.Close())
		cmd := start(t, s.args(args...)...)
		cmd.Stdout = w
		d := finish(t, cmd)
		require.NoError(t, w.Close())
		assert.Equal(t, exitNotRead, d.code)
		assert.Empty(t, d.errors)
	}
}

// What is printed cannot steer a terminal.
func TestControlCharactersAreSpelledOut(t *testing.T) {
	s := simulate(t, signingtest.MessageConfig{})
	message, err := os.ReadFile(s.message)
	require.NoError(t, err)
	m, err := eps.ParseMessage(message, eps.ReadOptions{})
	require.NoError(t, err)
	id := m.Prescriptions()[0].ShortID()
	evil := bytes.Replace(message, []byte(id), []byte("\u009b2J\u202e\u0085\U000e0041"), 1)
	file := s.write("evil.xml", evil)
	d := s.verify(file)
	for _, out := range []string{d.out, s.verify("--json", file).out} {
		for _, c := range []string{"\u009b", "\u202e", "\u0085", "\U000e0041", "\x1b"} {
			assert.NotContains(t, out, c)
		}
		assert.Contains(t, out, `\u009b2J\u202e\u0085`)
	}
	t.Run("in names of files", func(t *testing.T) {
		d := s.verify(filepath.Join(s.dir, "a\x1b[2Jb\nc"))
		assert.Contains(t, d.errors, `a\x1b[2Jb\x0ac: `)
		d = run(t, "verify", "--ca", "a\x1b[2Jb", s.message)
		assert.Contains(t, d.errors, `rxguard: --ca a\x1b[2Jb: `)
		d = run(t, "a\x1b[2Jb")
		assert.NotContains(t, d.errors, "\x1b")
	})
}

func FuzzWhatIsPrintedIsHarmless(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range harmless(s) {
			require.True(t, strconv.IsPrint(r), "%q", r)
		}
		b, err := json.Marshal(s)
		require.NoError(t, err)
		out := harmlessJSON(b)
		for _, r := range string(out) {
			require.True(t, strconv.IsPrint(r), "%q", r)
		}
		var before, after string
		require.NoError(t, json.Unmarshal(b, &before))
		require.NoError(t, json.Unmarshal(out, &after))
		require.Equal(t, before, after)
	})
}

func TestWrap(t *testing.T) {
	assert.Equal(t, "one two three", wrap("one two three", 2, 0))
	assert.Equal(t, "one two\n  three", wrap("one two three", 2, 12))
	assert.Equal(t, "one\n  two\n  three", wrap("one two three", 2, 1))
	assert.Equal(t, "", wrap("", 2, 10))
	assert.Equal(t, "öööö öööö", wrap("öööö öööö", 0, 9), "characters count, not bytes")
}

func TestTheBarShowsLongWorkAlone(t *testing.T) {
	var screen bytes.Buffer
	now := signedAt
	b := &bar{w: &screen, now: func() time.Time { return now }}
	b.begin(3, "message", "prescription")
	b.one()
	b.end()
	assert.Empty(t, screen.String())
	now = now.Add(2 * patience)
	b.one()
	assert.Contains(t, screen.String(), "1 of 3 messages, 2 prescriptions judged")
	screen.Reset()
	b.clear()
	assert.NotContains(t, screen.String(), "judged")

	one := &bar{w: &screen, now: func() time.Time { return now }}
	one.begin(1, "message", "prescription")
	now = now.Add(2 * patience)
	one.one()
	assert.Contains(t, screen.String(), "0 of 1 message, 1 prescription judged")

	var none *bar
	none.begin(1, "message", "prescription")
	none.one()
	none.end()
	none.clear()
}
