// Command smartcard is a simulated smartcard in a virtual reader: a PIV card that
// PC/SC and each PKCS#11 module above it take for a real one. With it a developer
// tries a module, pulls the card in the middle of the work and puts it back.
//
//	apt-get install pcscd vsmartcard-vpcd opensc-pkcs11 ykcs11
//	go run ./examples/smartcard --help
//
// tells how to start a card service with a virtual reader.
//
// It reads lines from standard input: out takes the card out, in puts it back, status
// tells how it is, quit ends. A card that is kept in a folder is the same one next
// time.
//
// Exit codes: 0 ended by quit or the end of the input, 1 it did not work (the text
// says why and what to do), 2 the command line or a file was not understood, 130
// interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/rxguard/rxguard/internal/testcard"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(command(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// usageError is an error of the command line or a file that it names.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// command runs the command line and returns the exit code.
func command(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitDone
	}
	if err == nil {
		err = serve(ctx, o, stdin, stdout)
	}
	var usage *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "smartcard: %v\n", err)
		return exitUsage
	case ctx.Err() != nil:
		return exitInterrupted
	default:
		fmt.Fprintf(stderr, "smartcard: %v\n", err)
		return exitFailed
	}
}

// startReader starts a card service of its own with the virtual reader, on Debian 12:
// lines for root's shell, without a here-document, which indented lines would not end.
// ykcs11 takes no reader with another beginning of its name.
const startReader = `mkdir -p /tmp/rxguard-pcscd/run /tmp/rxguard-pcscd/readers /run/pcscd
printf '%s\n' 'FRIENDLYNAME "Yubico YubiKey Virtual"' 'DEVICENAME /dev/null:24000' \
    'LIBPATH /usr/lib/pcsc/drivers/serial/libifdvpcd.so' 'CHANNELID 24000' > /tmp/rxguard-pcscd/readers/vpcd
unshare -m sh -c 'mount --bind /tmp/rxguard-pcscd/run /run/pcscd && exec pcscd --foreground -c /tmp/rxguard-pcscd/readers'
`

// useReader are the lines before a program that uses the card.
const useReader = `export PCSCLITE_CSOCK_NAME=/tmp/rxguard-pcscd/run/pcscd.comm
`

// options is the command line.
type options struct {
	vpcd  string
	dir   string
	empty bool
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("smartcard", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are told once, by command
	fs.StringVar(&o.vpcd, "vpcd", "127.0.0.1:35963", "put the card into the virtual reader that listens at this `ADDRESS`")
	fs.StringVar(&o.dir, "dir", "", "keep the card and its test authority in this `DIR`; without, they are gone afterwards")
	fs.BoolVar(&o.empty, "empty", false, "make the card without keys and certificates")
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		fs.SetOutput(stderr)
		fmt.Fprintln(stderr, "Usage: smartcard [flags]\n\nA simulated PIV smartcard in a virtual reader.")
		fs.PrintDefaults()
		fmt.Fprintf(stderr, "\nThe virtual reader wants pcscd and vsmartcard-vpcd. As root, in a terminal of its own, on Debian 12:\n\n%s\n"+
			"Then, in another one:\n\n    go run ./examples/smartcard --vpcd 127.0.0.1:24000 --empty\n\n"+
			"and for each program that is to use the card:\n\n%s\n"+
			"ykcs11 takes readers alone whose name begins with Yubico, as this one's does; that of the package vsmartcard-vpcd\n"+
			"(/etc/reader.conf.d/vpcd, at 127.0.0.1:35963) does not.\n"+
			"Lines on standard input: out, in, status, quit.\n"+
			"A new card has the passcode %s, the unblocking key %s and the management key %X,\n"+
			"and without --empty an authentication pair in slot 9A (CKA_ID 01) and a signing pair in slot 9C (CKA_ID 02).\n"+
			"Exit codes: 0 ended, 1 it did not work, 2 command line or file not understood, 130 interrupted.\n",
			indented(startReader), indented(useReader), testcard.DefaultPIN, testcard.DefaultPUK, testcard.DefaultManagementKey())
		return o, err
	} else if err != nil {
		return o, &usageError{fmt.Errorf("%w; --help lists the flags", err)}
	}
	if fs.NArg() > 0 {
		return o, &usageError{fmt.Errorf("%q is not understood; --help lists the flags", fs.Arg(0))}
	}
	if _, _, err := net.SplitHostPort(o.vpcd); err != nil {
		return o, &usageError{fmt.Errorf("--vpcd %q: %w; wanted host:port as 127.0.0.1:35963", o.vpcd, err)}
	}
	var empty error
	fs.Visit(func(f *flag.Flag) {
		if f.Value.String() == "" {
			empty = &usageError{fmt.Errorf("--%s is empty", f.Name)}
		}
	})
	return o, empty
}

func indented(lines string) string {
	return "    " + strings.ReplaceAll(strings.TrimSuffix(lines, "\n"), "\n", "\n    ") + "\n"
}
