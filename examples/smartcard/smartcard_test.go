package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/internal/testcard/modules"
)

// vpcd listens as the virtual reader does, and powers each card that comes.
func vpcd(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				conn.Write([]byte{0, 1, 4}) // is a card there?
				head := make([]byte, 2)
				if _, err := io.ReadFull(conn, head); err != nil {
					return
				}
				conn.Write([]byte{0, 1, 4, 0, 1, 1, 0, 1, 4}) // is it there still? power up, and its ATR
				_, _ = io.Copy(io.Discard, conn)
			}()
		}
	}()
	return l.Addr().String()
}

// run runs the command with these lines.
func run(t testing.TB, lines string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = command(t.Context(), args, strings.NewReader(lines), &out, &errs)
	return code, out.String(), errs.String()
}

func TestOutAndIn(t *testing.T) {
	code, out, errs := run(t, "status\nout\nstatus\n\nin\neject\nquit\nout\n", "--vpcd", vpcd(t))
	assert.Equal(t, exitDone, code, errs)
	assert.Empty(t, errs)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	assert.Regexp(t, `^the card \d+ \(simulated card\) is in the reader at 127\.0\.0\.1:\d+; say out, in, status or quit$`, lines[0])
	assert.Equal(t, []string{"in", "in, 3 passcode tries left, signatures by key: 9A 0, 9C 0", "out",
		"out, 3 passcode tries left, signatures by key: 9A 0, 9C 0", "in", `"eject" is not understood; say out, in, status or quit`}, lines[1:])
	assert.NotContains(t, out, testcard.DefaultPIN)
}

func TestTheEndOfTheInputEnds(t *testing.T) {
	code, _, errs := run(t, "", "--vpcd", vpcd(t))
	assert.Equal(t, exitDone, code, errs)
}

func TestACardIsKept(t *testing.T) {
	dir, addr := filepath.Join(t.TempDir(), "card"), vpcd(t)
	code, first, errs := run(t, "out\n", "--vpcd", addr, "--dir", dir)
	require.Equal(t, exitDone, code, errs)
	code, second, errs := run(t, "quit\n", "--vpcd", addr, "--dir", dir)
	require.Equal(t, exitDone, code, errs)
	assert.Equal(t, first[:strings.Index(first, "\n")], second[:strings.Index(second, "\n")])

	c, err := testcard.Load(filepath.Join(dir, cardName))
	require.NoError(t, err)
	s, err := c.Token().Open(t.Context())
	require.NoError(t, err)
	objects, err := s.Objects(t.Context())
	require.NoError(t, err)
	require.Len(t, objects, 6)
	leaf, err := x509.ParseCertificate(objects[3].DER)
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(dir, rootName))
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	root, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	ca, err := testcard.LoadCA(filepath.Join(dir, caName), testcard.CAConfig{})
	require.NoError(t, err)
	assert.Equal(t, ca.RootCertificate().Raw, root.Raw)
	assert.NoError(t, leaf.CheckSignatureFrom(ca.IssuingCertificate()))

	code, _, errs = run(t, "", "--vpcd", addr, "--dir", dir, "--empty")
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, errs, "is there already")
}

func TestAnEmptyCard(t *testing.T) {
	dir := t.TempDir()
	code, out, errs := run(t, "status\n", "--vpcd", vpcd(t), "--dir", dir, "--empty")
	require.Equal(t, exitDone, code, errs)
	assert.Contains(t, out, "signatures by key: none")
	c, err := testcard.Load(filepath.Join(dir, cardName))
	require.NoError(t, err)
	s, err := c.Token().Open(t.Context())
	require.NoError(t, err)
	objects, err := s.Objects(t.Context())
	require.NoError(t, err)
	assert.Empty(t, objects)
}

func TestWhatDoesNotWork(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := l.Addr().String()
	l.Close()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	broken := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(broken, cardName), []byte("{}"), 0o600))
	for name, x := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no reader":           {[]string{"--vpcd", nobody}, exitFailed, "no virtual reader (pcscd with vpcd) listens at " + nobody},
		"no port":             {[]string{"--vpcd", "localhost"}, exitUsage, "wanted host:port"},
		"an empty flag":       {[]string{"--dir", ""}, exitUsage, "--dir is empty"},
		"an unknown flag":     {[]string{"--reader", "x"}, exitUsage, "--help lists the flags"},
		"an argument":         {[]string{"out"}, exitUsage, `"out" is not understood`},
		"a file as folder":    {[]string{"--dir", file}, exitUsage, "not a directory"},
		"a file that is none": {[]string{"--dir", broken}, exitUsage, "not a simulated card"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := run(t, "", x.args...)
			assert.Equal(t, x.code, code)
			assert.Contains(t, errs, x.says)
			assert.Regexp(t, "^smartcard: ", errs)
			assert.Empty(t, out)
		})
	}
	code, _, errs := run(t, "", "--help")
	assert.Equal(t, exitDone, code)
	assert.Contains(t, errs, "-vpcd ADDRESS")
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	out, say := io.Pipe()
	ended := make(chan int, 1)
	go func() { ended <- command(ctx, []string{"--vpcd", vpcd(t)}, r, say, io.Discard) }()
	s := bufio.NewScanner(out)
	for s.Scan() && s.Text() != "in" {
	}
	cancel()
	assert.Equal(t, exitInterrupted, <-ended)
	w.Close()
}

func TestOneProcessAtATime(t *testing.T) {
	dir, addr := t.TempDir(), vpcd(t)
	r, w := io.Pipe()
	out, say := io.Pipe()
	ended := make(chan int, 1)
	go func() { ended <- command(t.Context(), []string{"--vpcd", addr, "--dir", dir}, r, say, io.Discard) }()
	s := bufio.NewScanner(out)
	for s.Scan() && s.Text() != "in" {
	}
	code, _, errs := run(t, "", "--vpcd", addr, "--dir", dir)
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, errs, "another process has the card")
	w.Close()
	assert.Equal(t, exitDone, <-ended)
}

// The reader of a real pcscd notices each step.
func TestInARealReader(t *testing.T) {
	d := modules.PCSCD(t, 1)
	code, out, errs := run(t, "out\nin\n", "--vpcd", d.Addr(0))
	require.Equal(t, exitDone, code, errs)
	assert.Regexp(t, "\nin\nout\nin\n$", out)
	require.Eventually(t, func() bool {
		log := d.Log()
		return strings.Count(log, "Card inserted into") == 2 && strings.Count(log, "Card Removed From") == 2
	}, time.Minute, 10*time.Millisecond, "%s", d.Log())
}
