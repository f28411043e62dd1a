// Command prescriber goes the whole way of the 2020 notice on a simulated smartcard:
// refused, renewed, re-seated, signed. It needs nothing but Go:
//
//	go run ./examples/prescriber
//
// With a PKCS#11 module and an empty token, it goes the same way there. It puts a
// prescriber's two pairs of its own test authority on the token first, and leaves a
// token alone that holds anything else:
//
//	go run ./examples/prescriber --module PATH --token LABEL
//
// It is also the example of how an application embeds the library: journey.go holds
// the calls in their order.
//
// Exit codes: 0 the prescription was signed, 1 it was not (the text says why and
// what to do), 2 the command line or a file was not understood, 3 the card was
// renewed and is on hold until it is taken out and put back, 130 interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	signal.Ignore(syscall.SIGPIPE) // a reader that leaves is an error of the output, told and cleaned up after
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// The exit codes.
const (
	exitDone        = 0
	exitNotSigned   = 1
	exitUsage       = 2
	exitOnHold      = 3
	exitInterrupted = 130
)

// usageError is an error of the command line or a file that it names.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// command runs the command line and returns the exit code.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitDone
	}
	if err != nil {
		fmt.Fprintf(stderr, "prescriber: %v\n", err)
		return exitUsage
	}
	tell := newTeller(stdout, stderr, o.json)
	if o.pace < 0 {
		o.pace = 0
		if tell.terminal && o.module == "" {
			o.pace = 400 * time.Millisecond // a real card takes its time; let the bar be seen
		}
	}
	ctx, o.interrupt = context.WithCancel(ctx)
	defer o.interrupt()
	err = journey(ctx, o, tell)
	var usage *usageError
	if werr := tell.failed(); werr != nil {
		fmt.Fprintf(stderr, "prescriber: %v\n", err)
	}
	switch {
	case err == nil:
		return exitDone
	case ctx.Err() == nil && errors.As(err, &usage):
		fmt.Fprintf(stderr, "prescriber: %v\n", err)
		return exitUsage
	case ctx.Err() != nil:
		tell.problem(err)
		return exitInterrupted
	case errors.Is(err, errOnHold):
		tell.problem(err)
		return exitOnHold
	default:
		tell.problem(err)
		return exitNotSigned
	}
}

// options is the command line.
type options struct {
	out     string
	prepare string
	at      time.Time
	issued  time.Time
	json    bool
	pace    time.Duration
	resume  string

	// Of a journey on a PKCS#11 token.
	module    string
	arguments string
	token     string
	dir       string
	pinFile   string
	soFile    string
	wait      time.Duration

	interrupt func() // ends the journey as Ctrl-C does
}

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{pace: -1, wait: 10 * time.Minute}
	fs := flag.NewFlagSet("prescriber", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are told once, by command
	usage := func() {
		fs.SetOutput(stderr)
		fmt.Fprintln(stderr, "Usage: prescriber [flags]\n       prescriber --module PATH --token LABEL [flags]\n\n"+
			"The whole way on a simulated smartcard, or on an empty PKCS#11 token: refused, renewed, re-seated, signed.")
		fs.PrintDefaults()
		fmt.Fprintln(stderr, "\nAn INSTANT is RFC 3339 (2020-09-30T09:00:00Z) or a date (2020-09-30), which is its first instant in UTC.\n"+
			"The passcode of a token comes from --pin-file, else from "+pinEnv+", else it is asked on the terminal;\n"+
			"the security officer's secret, where a module wants one, from --so-file, "+soEnv+" or the terminal.\n"+
			"Exit codes: 0 signed, 1 not signed, 2 command line or file not understood,\n"+
			"3 the token was renewed and is on hold until it is taken out and put back, 130 interrupted.")
	}
	fs.StringVar(&o.out, "out", "", "write certificates, signature, Provenance and verdicts to this `DIR`")
	fs.StringVar(&o.prepare, "prepare", "", "sign the $prepare answer in this `FILE` instead of a synthetic one; the simulated clock starts just before its timestamp, with --issued at it, unless --at is given")
	fs.Func("at", "judge as of this `INSTANT`, where the simulated clock starts, by the built-in notice of 2020 alone", instantFlag(&o.at))
	fs.Func("issued", "the simulated card's certificates were issued at this `INSTANT`; judged by the built-in notice of 2020 alone", instantFlag(&o.issued))
	fs.BoolVar(&o.json, "json", false, "print the steps as JSON lines")
	fs.Func("pace", "pause this `TIME` after each step of the renewal, as a real card would; default 400ms on a terminal, else none", durationFlag(&o.pace))
	fs.StringVar(&o.resume, "resume", "", "go on with the simulated card in this `DIR`, which an interrupted run named")
	fs.StringVar(&o.module, "module", "", "go the way on a token behind this PKCS#11 module, the `PATH` of a shared library; an empty token is provisioned first, one with anything of others on it is left alone")
	fs.StringVar(&o.arguments, "module-arguments", "", "the `TEXT` that the module wants at its initialisation, as NSS softokn does: configdir='sql:FOLDER', the folder of its database")
	fs.StringVar(&o.token, "token", "", "the `LABEL` or serial number of the token")
	fs.StringVar(&o.dir, "dir", "", "keep what belongs to the token (its test authority, hold, journal and record) in this `DIR`; default a folder of the token's in the user's cache")
	fs.StringVar(&o.pinFile, "pin-file", "", "read the token's passcode from this `FILE`")
	fs.StringVar(&o.soFile, "so-file", "", "read the security officer's secret from this `FILE`: on a PIV card its management key")
	fs.Func("wait", "wait this `TIME` for the token to be taken out and put back; 0 stops at once; default 10m", durationFlag(&o.wait))
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		usage()
		return o, err
	} else if err != nil {
		return o, fmt.Errorf("%w; --help lists the flags", err)
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("%q is not understood; --help lists the flags", fs.Arg(0))
	}
	var wrong error
	fs.Visit(func(f *flag.Flag) {
		if f.Value.String() == "" && !slices.Contains([]string{"at", "issued", "pace", "wait"}, f.Name) && wrong == nil {
			wrong = fmt.Errorf("--%s is empty", f.Name)
		}
	})
	fs.Visit(func(f *flag.Flag) {
		switch {
		case wrong != nil:
		case o.module == "" && slices.Contains([]string{"module-arguments", "token", "dir", "pin-file", "so-file", "wait"}, f.Name):
			wrong = fmt.Errorf("--%s is for a PKCS#11 token; --module names its module", f.Name)
		case o.module != "" && (f.Name == "at" || f.Name == "issued"):
			wrong = fmt.Errorf("--%s is for a simulated card; a token is judged by the clock of this machine", f.Name)
		case o.module != "" && f.Name == "resume":
			wrong = errors.New("--resume is for a simulated card; with --module the same command goes on by itself")
		}
	})
	if wrong != nil {
		return o, wrong
	}
	if o.resume != "" && (!o.at.IsZero() || !o.issued.IsZero() || o.prepare != "") {
		return o, errors.New("--resume goes on with what the interrupted run was given; --at, --issued and --prepare do not go with it")
	}
	return o, nil
}

func durationFlag(d *time.Duration) func(string) error {
	return func(s string) error {
		v, err := time.ParseDuration(s)
		switch {
		case err == nil && v < 0:
			return errors.New("it is negative")
		case err == nil:
			*d = v
			return nil
		}
		if _, err := strconv.ParseFloat(s, 64); err == nil {
			return fmt.Errorf("it has no unit; for seconds say %ss", s)
		}
		return errors.New("wanted a number with a unit, as 400ms, 5s or 10m")
	}
}

func instantFlag(t *time.Time) func(string) error {
	return func(s string) error {
		for _, form := range []string{time.RFC3339, time.DateOnly} {
			if v, err := time.Parse(form, s); err == nil {
				if err := simulable(v); err != nil {
					return err
				}
				*t = v.UTC()
				return nil
			}
		}
		return fmt.Errorf("%q is not a time; wanted RFC 3339 as 2020-09-30T09:00:00Z, or a date", s)
	}
}
