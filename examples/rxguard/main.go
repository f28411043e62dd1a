// Command rxguard answers questions about prescriptions and their signatures from
// files, without a card and without the network, for those who support prescribers
// and for build pipelines.
//
//	rxguard check --roots root.pem --crl sub-ca.crl card.pem
//	rxguard verify --ca ca.pem --crl ca.crl prescription.xml
//	rxguard renewal show /var/lib/rxguard/journals/*.jsonl
//
// check tells whether a signing certificate may sign prescriptions, and if not, why and
// what to do. verify tells whether the national service would accept a signed prescription, and
// whether rxguard would. renewal show tells what is written down about the renewals of a
// card, and what to do next. version tells which rxguard this is. Each command explains
// itself: rxguard COMMAND --help.
//
// Exit codes: 0 everything is accepted, 1 something is refused (by verify: by the
// national service or by rxguard), 2 for something that cannot be decided (by renewal
// show: that is not at its end), 3 the
// command line was not understood, an input could not be read or the output not be
// written, 130 interrupted. Where several apply, the first of 130, 3, 1, 2 and 0 is
// the exit code.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra" // subcommands, their help and suggestions for mistyped ones; kept by its community since 2013, needs pflag, and mousetrap on Windows
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	signal.Ignore(syscall.SIGPIPE) // a reader that leaves is an error of the output
	os.Exit(guarded(os.Stderr, func() int { return command(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr) }))
}

// The exit codes.
const (
	exitAccepted    = 0
	exitRefused     = 1
	exitUndecided   = 2
	exitNotRead     = 3
	exitInterrupted = 130
)

// ranks orders the exit codes, the worst last.
var ranks = []int{exitAccepted, exitUndecided, exitRefused, exitNotRead, exitInterrupted}

// worse returns the exit code for two things together.
func worse(a, b int) int {
	if slices.Index(ranks, a) > slices.Index(ranks, b) {
		return a
	}
	return b
}

const rootCodesHelp = `Exit codes:
  0    everything is accepted
  1    something is refused
  2    something cannot be decided
  3    the command line was not understood, an input could not be read, or the
       output not be written
  130  interrupted
Where several apply, the first of 130, 3, 1, 2 and 0 is the exit code.`

const exitCodesHelp = `Exit codes:
  0    the national service and rxguard would accept everything
  1    one of them would not accept something
  2    for something it cannot be decided, such as revocation without a CRL
  3    the command line was not understood, an input could not be read, or the
       output not be written
  130  interrupted
Where several apply, the first of 130, 3, 1, 2 and 0 is the exit code.`

const timeHelp = `TIME is RFC 3339 (2020-09-30T09:00:00Z, 2020-09-30T10:00:00+01:00) or a date
(2020-09-30), which is its first instant in UTC. Times are printed in UTC.`

// ended is the end of a command that has told all there is to tell: its exit code.
type ended int

func (e ended) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// guarded keeps a fault in this program from ending with the exit code of Go, which
// is that of "cannot be decided".
func guarded(stderr io.Writer, run func() int) (code int) {
	defer func() {
		if fault := recover(); fault != nil {
			fmt.Fprintf(stderr, "rxguard: a fault in rxguard itself, nothing is decided; please report it: %v\n%s", fault, debug.Stack())
			code = exitNotRead
		}
	}()
	return run()
}

// command runs the command line and returns the exit code.
func command(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	tell := newTeller(stdout, stderr)
	// An error of the command line comes before its flags are known.
	asked := args
	if end := slices.Index(args, "--"); end >= 0 {
		asked = args[:end]
	}
	tell.json = slices.Contains(asked, "--json") || slices.Contains(asked, "--json=true")

	root := newRoot(tell)
	root.SetArgs(append([]string{}, args...)) // never nil, which cobra takes for os.Args
	root.SetIn(stdin)
	root.SetOut(tell)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	code, isEnd := exitAccepted, ended(0)
	switch {
	case errors.As(err, &isEnd):
		code = int(isEnd)
	case err != nil:
		tell.problem(problem{Kind: kindUsage, Text: err.Error()})
		code = exitNotRead
	}
	if ctx.Err() != nil {
		code = exitInterrupted
	}
	tell.bar.clear()
	if err := tell.flush(); err != nil {
		if !errors.Is(err, syscall.EPIPE) { // who closes a pipe has read enough
			fmt.Fprintf(stderr, "rxguard: the output could not be written: %v\n", err)
		}
		code = worse(code, exitNotRead)
	}
	return code
}

// newRoot is the command without a subcommand, which holds them all. An error that a
// subcommand returns is one of the command line, unless it is an ended.
func newRoot(tell *teller) *cobra.Command {
	cobra.MousetrapHelpText = "rxguard is a command line tool: open a command prompt (cmd.exe) and run it there.\n"
	root := &cobra.Command{
		Use:   "rxguard",
		Short: "May this card sign? Would this prescription's signature be accepted?",
		Long: "rxguard tells from files, without a card and without the network, whether a signing\n" +
			"certificate may sign prescriptions, and whether signed prescriptions would be\naccepted.\n\n" + rootCodesHelp,
		Example: "  rxguard check card.pem\n" +
			"  rxguard verify --ca ca.pem --crl ca.crl prescription.xml\n" +
			"  rxguard renewal show /var/lib/rxguard/journals/*.jsonl\n  rxguard verify --help",
		Version:       thisBuild().Rxguard,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("no command; rxguard --help lists them")
		},
	}
	var asJSON bool
	root.PersistentFlags().BoolVar(&asJSON, "json", false, "print JSON lines, errors too")
	root.PersistentPreRun = func(*cobra.Command, []string) { tell.json = asJSON }
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; %s --help lists the flags", err, c.CommandPath())
	})
	root.SetHelpCommand(helpCommand())
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(checkCommand(tell), verifyCommand(tell), renewalCommand(tell), versionCommand(tell))
	return root
}

// helpCommand is cobra's, but fails on an unknown command.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command",
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := c.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = fmt.Errorf("unknown command %q for %q", strings.Join(rest, " "), about.CommandPath())
			}
			if err != nil {
				return err
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}
