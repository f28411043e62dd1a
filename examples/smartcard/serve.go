package main

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock" // one process at a time on one card

	"github.com/rxguard/rxguard/internal/testcard"
)

// Files of a folder that keeps a card.
const (
	cardName = "card.json"
	caName   = "authority.json"
	rootName = "root.pem" // for programs that check what the card signs
	lockName = "card.lock"
)

// noticing is how long the reader is waited for after the card was put in.
const noticing = 10 * time.Second

// serve keeps the card in the reader and does what the lines say.
func serve(ctx context.Context, o options, stdin io.Reader, stdout io.Writer) (err error) {
	c, end, err := openCard(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.SaveError(), end()) }()
	c.Insert() // as it was left, perhaps out
	reader, err := c.Plug(o.vpcd)
	if err != nil {
		return fmt.Errorf("%w; install and start them: apt-get install pcscd vsmartcard-vpcd", err)
	}
	defer reader.Close()
	say := func(format string, args ...any) { fmt.Fprintf(stdout, format+"\n", args...) }
	in := func() {
		ctx, cancel := context.WithTimeout(ctx, noticing)
		defer cancel()
		if err := reader.Seen(ctx); err != nil {
			say("in; the reader has not noticed it yet: %v", err)
			return
		}
		say("in")
	}
	say("the card %s is in the reader at %s; say out, in, status or quit", description(c), o.vpcd)
	in()

	lines, broken := read(ctx, stdin)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case line, more := <-lines:
			if !more {
				return <-broken
			}
			switch line {
			case "":
			case "out":
				c.Remove()
				say("out")
			case "in":
				c.Insert()
				in()
			case "status":
				say("%s", status(c))
			case "quit":
				return nil
			default:
				say("%q is not understood; say out, in, status or quit", line)
			}
		}
	}
}

// read brings the lines of the input, and then its error.
func read(ctx context.Context, stdin io.Reader) (<-chan string, <-chan error) {
	lines, broken := make(chan string), make(chan error, 1)
	go func() {
		defer close(lines)
		s := bufio.NewScanner(stdin)
		for s.Scan() {
			select {
			case lines <- strings.TrimSpace(s.Text()):
			case <-ctx.Done():
				broken <- ctx.Err()
				return
			}
		}
		broken <- s.Err()
	}()
	return lines, broken
}

func description(c *testcard.Card) string {
	return fmt.Sprintf("%d (%s)", c.PIVSerial(), testcard.Model)
}

func status(c *testcard.Card) string {
	where := "out"
	if c.Token().Presence().Present {
		where = "in"
	}
	var uses []string
	for _, u := range c.KeyUses() {
		uses = append(uses, fmt.Sprintf("%02X %d", u.Reference, u.Signatures))
	}
	if uses == nil {
		uses = []string{"none"}
	}
	return fmt.Sprintf("%s, %d passcode tries left, signatures by key: %s", where, c.TriesLeft(), strings.Join(uses, ", "))
}

// openCard makes a card, or takes the one of the folder. The second result ends the
// work on it.
func openCard(o options) (*testcard.Card, func() error, error) {
	if o.dir == "" {
		ca, err := testcard.NewCA(testcard.CAConfig{})
		if err != nil {
			return nil, nil, err
		}
		c, err := newCard(ca, o)
		return c, func() error { return nil }, err
	}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return nil, nil, &usageError{err}
	}
	lock := flock.New(filepath.Join(o.dir, lockName))
	if free, err := lock.TryLock(); err != nil {
		return nil, nil, &usageError{err}
	} else if !free {
		return nil, nil, &usageError{fmt.Errorf("another process has the card in %s; wait until it has ended", o.dir)}
	}
	c, err := keptCard(o)
	if err != nil {
		return nil, nil, errors.Join(err, lock.Unlock())
	}
	return c, lock.Unlock, nil
}

// keptCard is the card of the folder, which is made where it is not there.
func keptCard(o options) (*testcard.Card, error) {
	path := filepath.Join(o.dir, cardName)
	c, err := testcard.Load(path)
	switch {
	case err == nil && o.empty:
		return nil, &usageError{fmt.Errorf("%s is there already; --empty makes a new card", path)}
	case errors.Is(err, fs.ErrNotExist):
		ca, err := keptCA(o.dir)
		if err != nil {
			return nil, err
		}
		if c, err = newCard(ca, o); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, &usageError{err}
	}
	return c, c.SaveTo(path)
}

// keptCA is the test authority of the folder.
func keptCA(dir string) (*testcard.CA, error) {
	path := filepath.Join(dir, caName)
	ca, err := testcard.LoadCA(path, testcard.CAConfig{})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &usageError{err}
	}
	if err != nil {
		if ca, err = testcard.NewCA(testcard.CAConfig{}); err == nil {
			err = ca.Save(path)
		}
		if err != nil {
			return nil, err
		}
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.RootCertificate().Raw})
	return ca, os.WriteFile(filepath.Join(dir, rootName), root, 0o644)
}

func newCard(ca *testcard.CA, o options) (*testcard.Card, error) {
	c, err := testcard.New(testcard.Config{}) // its key in 9C wants the passcode each time, as that slot's does
	if err == nil && !o.empty {
		_, _, err = c.ProvisionPrescriber(ca, testcard.Prescriber{})
	}
	return c, err
}
