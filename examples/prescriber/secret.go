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

	mu   sync.Mutex
	echo *term.State // of the terminal before the question that is open
}

// passcode answers a request of the library, which wipes the answer.
func (s *secrets) passcode(ctx context.Context, r passcodeRequest) ([]byte, error) {
	if r.OnPad {
		fmt.Fprintf(s.out, "Enter the passcode of token %s on the reader's pad.\n", r.Label)
		return nil, nil
	}
	return s.secret(ctx, "passcode", "--pin-file", s.pinFile, pinEnv, fmt.Sprintf("Passcode of token %s, to %s", r.Label, r.Purpose))
}

// officer is passcode for the security officer's secret.
func (s *secrets) officer(ctx context.Context, r passcodeRequest) ([]byte, error) {
	return s.secret(ctx, "security officer's secret", "--so-file", s.soFile, soEnv,
		fmt.Sprintf("Security officer's secret of token %s (of a PIV card: its management key)", r.Label))
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

func (s *secrets) secret(ctx context.Context, what, flag, file, env, question string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if file != "" {
		return secretOf(what, file)
	}
	if v := os.Getenv(env); v != "" {
		if len(v) > maxSecret {
			return nil, fmt.Errorf("the %s in %s is longer than %d bytes", what, env, maxSecret)
		}
		return []byte(v), nil
	}
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return nil, fmt.Errorf("the %s is wanted: name a file with %s, set %s, or run this on a terminal", what, flag, env)
	}
	state, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.echo = state
	s.mu.Unlock()
	fmt.Fprint(s.out, question+": ")
	b, err := term.ReadPassword(fd)
	fmt.Fprintln(s.out)
	s.mu.Lock()
	s.echo = nil
	s.mu.Unlock()
	if err == nil && len(b) > maxSecret {
		clear(b)
		err = fmt.Errorf("the %s is longer than %d bytes", what, maxSecret)
	}
	return b, err
}

// close gives the terminal its echo back where the journey ended in a question.
func (s *secrets) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.echo != nil {
		_ = term.Restore(int(os.Stdin.Fd()), s.echo)
		s.echo = nil
	}
}

// secretOf reads a file that holds a secret, and a line end after it.
func secretOf(what, file string) ([]byte, error) {
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
	secret := bytes.TrimSuffix(bytes.TrimSuffix(b[:n], []byte("\n")), []byte("\r"))
	switch {
	case len(secret) > maxSecret:
		err = fmt.Errorf("%s is longer than %d bytes, expected a %s", file, maxSecret, what)
	case len(secret) == 0:
		err = fmt.Errorf("%s is empty, expected a %s", file, what)
	default:
		return secret, nil
	}
	clear(b)
	return nil, err
}
