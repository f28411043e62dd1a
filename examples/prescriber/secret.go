package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"
)

// The environment variables with a token's secrets, for where no file has them. The
// variable itself stays as it is: a program cannot wipe it.
const (
	pinEnv = "RXGUARD_EXAMPLE_PIN"
	soEnv  = "RXGUARD_EXAMPLE_SO_PIN"
)

// maxSecret is more than any passcode or management key has, in bytes.
const maxSecret = 1024

// secrets asks for what the token's holder alone knows: of a file, of the
// environment, or on the terminal without echo. A secret is never part of the
// command line, which every user of the machine can read.
type secrets struct {
	pinFile, soFile string
	out             io.Writer // where questions are printed
	interrupt       func()    // Ctrl-C was typed in place of a secret

	mu   sync.Mutex
	echo *term.State // of the terminal before the question that is open
}

// source is where a secret comes from.
type source struct{ what, flag, file, env string }

func (s *secrets) pin() source { return source{"passcode", "--pin-file", s.pinFile, pinEnv} }

func (s *secrets) so() source {
	return source{"security officer's secret", "--so-file", s.soFile, soEnv}
}

// check finds what is wrong with the files and variables before anything is done with
// a token. What it reads is wiped.
func (s *secrets) check() error {
	for _, from := range []source{s.pin(), s.so()} {
		b, err := from.read()
		clear(b)
		if err != nil {
			return err
		}
	}
	return nil
}

// passcode answers a request of the library, which wipes the answer.
func (s *secrets) passcode(ctx context.Context, r passcodeRequest) ([]byte, error) {
	if r.OnPad {
		fmt.Fprintf(s.out, "Enter the passcode of token %s on the reader's pad.\n", r.Label)
		return nil, nil
	}
	return s.secret(ctx, s.pin(), fmt.Sprintf("Passcode of token %s, to %s", r.Label, r.Purpose))
}

// officer is passcode for the security officer's secret.
func (s *secrets) officer(ctx context.Context, r passcodeRequest) ([]byte, error) {
	return s.secret(ctx, s.so(), fmt.Sprintf("Security officer's secret of token %s (of a PIV card: its management key)", r.Label))
}

// lastTry asks for a yes before the last try is spent.
func (s *secrets) lastTry(_ context.Context, r passcodeRequest) (bool, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return false, errors.New("nobody is at a terminal to say yes")
	}
	fmt.Fprintf(s.out, "One try is left before token %s locks. Type yes to spend it: ", r.Label)
	line := make([]byte, 64) // a terminal gives one line at a time
	n, err := os.Stdin.Read(line)
	return strings.TrimSpace(string(line[:n])) == "yes", err
}

func (s *secrets) secret(ctx context.Context, from source, question string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if b, err := from.read(); b != nil || err != nil {
		return b, err
	}
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return nil, fmt.Errorf("the %s is wanted: name a file with %s, set %s, or run this on a terminal", from.what, from.flag, from.env)
	}
	fmt.Fprint(s.out, question+": ")
	s.mu.Lock()
	state, err := term.MakeRaw(fd) // term.ReadPassword does not notice Ctrl-D
	s.echo = state
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	b, err := typed(os.Stdin, s.interrupt)
	s.close()
	fmt.Fprintln(s.out)
	if err != nil {
		err = fmt.Errorf("the %s: %w", from.what, err)
	}
	return b, err
}

// close gives the terminal its echo back, also where the journey ended in a question.
func (s *secrets) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.echo != nil {
		_ = term.Restore(int(os.Stdin.Fd()), s.echo)
		s.echo = nil
	}
}

// What a terminal in raw mode gives for keys that edit a line or end it.
const (
	keyInterrupt = 0x03 // Ctrl-C
	keyEnd       = 0x04 // Ctrl-D
	keyBackspace = 0x08
	keyKill      = 0x15 // Ctrl-U
	keyDelete    = 0x7F
)

// typed reads one line from a terminal in raw mode.
func typed(r io.Reader, interrupt func()) ([]byte, error) {
	line := make([]byte, 0, maxSecret) // in one piece: a buffer that grows leaves copies
	fail := func(text string) ([]byte, error) {
		clear(line[:cap(line)])
		return nil, errors.New(text)
	}
	for key := make([]byte, 1); ; {
		if n, err := r.Read(key); n == 0 {
			if err == nil || errors.Is(err, io.EOF) {
				return fail("the terminal was closed")
			}
			return fail(err.Error())
		}
		switch key[0] {
		case '\r', '\n':
			return line, nil
		case keyInterrupt:
			interrupt()
			return fail("interrupted")
		case keyEnd:
			return fail("nothing was entered")
		case keyBackspace, keyDelete:
			_, n := utf8.DecodeLastRune(line)
			line = line[:len(line)-n]
		case keyKill:
			line = line[:0]
		default:
			if len(line) == maxSecret {
				return fail(fmt.Sprintf("it is longer than %d bytes", maxSecret))
			}
			line = append(line, key[0])
		}
		key[0] = 0
	}
}

// read takes the secret from its file, or else from the environment; nil where neither
// is named. One that cannot be meant so is refused here, because the card would spend a
// try for it.
func (from source) read() ([]byte, error) {
	where := from.flag + ": " + from.file
	var b []byte
	if from.file == "" {
		where = from.env
		b = []byte(os.Getenv(from.env))
		if len(b) == 0 {
			return nil, nil
		}
	} else {
		var err error
		if b, err = secretFrom(from.file); err != nil {
			return nil, fmt.Errorf("%s: %w", from.flag, err)
		}
		b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	}
	if why := unlikely(b); why != "" {
		clear(b)
		return nil, fmt.Errorf("%s %s; expected a %s and nothing else", where, why, from.what)
	}
	return b, nil
}

// unlikely says why a text is no secret that a person has; empty for one that may be.
func unlikely(b []byte) string {
	switch {
	case len(b) == 0:
		return "is empty"
	case len(b) > maxSecret:
		return fmt.Sprintf("is longer than %d bytes", maxSecret)
	case bytes.HasPrefix(b, []byte("\xef\xbb\xbf")), bytes.HasPrefix(b, []byte("\xff\xfe")), bytes.HasPrefix(b, []byte("\xfe\xff")):
		return "begins with a byte order mark"
	case bytes.ContainsAny(b, "\r\n"):
		return "has more than one line"
	case bytes.IndexByte(b, 0) >= 0:
		return "holds a NUL byte"
	case bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' || r == 0x7F }):
		return "holds a control character"
	case b[0] == ' ':
		return "begins with a space"
	case b[len(b)-1] == ' ':
		return "ends with a space"
	}
	return ""
}

// secretFrom reads a file that holds a secret. A pipe would give it once, and it is
// wanted more than once.
func secretFrom(file string) ([]byte, error) {
	if i, err := os.Stat(file); err != nil {
		return nil, err
	} else if i.IsDir() {
		return nil, fmt.Errorf("%s is a folder, expected a file", file)
	} else if !i.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is a device or pipe, expected a file, which is read each time that its secret is wanted", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, maxSecret+3) // in one piece: a buffer that grows leaves copies
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		clear(b)
		return nil, err
	}
	return b[:n], nil
}
