package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rxguard/rxguard/internal/c14n"
	"github.com/rxguard/rxguard/signing/eps"
)

const verifyHelp = `verify tells for each signed prescription in each MESSAGE (HL7v3 XML; - is standard
input) whether the national service would accept its signature, and whether
rxguard would.

The national service makes nine checks. Each is listed with the text that the
service refuses with, and with its result: passed, failed, or not decidable. Where
the service cannot decide whether a certificate was revoked, it accepts; rxguard
wants to know. rxguard's own checks are stricter: they go by the issuer's signature
instead of its name, and look at the lists' own signatures and age, and at the
key's use and size.

Without --ca the issuer is not decidable; without the CRL of the issuing CA and the
ARL, the list of the CA above it, revocation is not. rxguard reaches no network: the
lists are files that were fetched before. "not decidable" is not "accepted".

A message is judged as a whole: where its XML is broken, none of its prescriptions is.

The service judges a prescription as of the time it says that it was signed, and so
does rxguard unless --at says otherwise.
` + timeHelp + `

With --json each line is a JSON document: {"version":1,"file":...,"report":...} for a
prescription, {"version":1,"file":...,"error":{"kind":...,"text":...}} for an error.

` + exitCodesHelp

const verifyExample = `  rxguard verify --ca NHS_INT_Level_1D.pem prescription.xml
  rxguard verify --ca sub-ca.pem --ca root.pem --crl sub-ca.crl --crl root.crl *.xml
  rxguard verify --at 2020-09-30 --json prescription.xml
  vendor-export | rxguard verify --ca sub-ca.pem -`

// defaultMaxBytes bounds a message: some 2,000 prescriptions.
const defaultMaxBytes = 32 << 20

// verifyOptions are the flags of verify.
type verifyOptions struct {
	cas, crls  []string
	at         time.Time
	prescriber bool
	maxBytes   int64
}

func verifyCommand(tell *teller) *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{
		Use:                   "verify [--ca PEM]... [--crl FILE]... [--at TIME] [--json] MESSAGE...",
		DisableFlagsInUseLine: true,
		Short:                 "Tell whether signed prescriptions would be accepted",
		Long:                  verifyHelp,
		Example:               verifyExample,
		RunE: func(c *cobra.Command, messages []string) error {
			if err := o.check(c, messages); err != nil {
				return fmt.Errorf("%w; %s --help explains", err, c.CommandPath())
			}
			if runtime.GOOS == "windows" {
				messages = expand(messages)
			}
			if code := verify(c.Context(), o, messages, c.InOrStdin(), tell); code != exitAccepted {
				return ended(code)
			}
			return nil
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringArrayVar(&o.cas, "ca", nil, "certificates of issuing CAs, and of those above them, in this `FILE` (PEM or DER); repeatable")
	f.StringArrayVar(&o.crls, "crl", nil, "CRLs and ARLs in this `FILE` (PEM or DER); repeatable")
	f.Func("at", "rxguard judges as of this `TIME`, not as of the time of signing", instant(&o.at))
	f.BoolVar(&o.prescriber, "prescriber", false, "also compare the certificate's user with the prescriber in the message")
	f.Int64Var(&o.maxBytes, "max-bytes", defaultMaxBytes, "read no message larger than this `SIZE` in bytes")
	return c
}

// check looks for what is wrong with the command line itself.
func (o verifyOptions) check(c *cobra.Command, messages []string) error {
	switch {
	case len(messages) == 0:
		return errors.New("no MESSAGE")
	case slices.Contains(messages, ""):
		return errors.New("a MESSAGE is empty")
	case slices.Contains(o.cas, ""):
		return errors.New("--ca is empty")
	case slices.Contains(o.crls, ""):
		return errors.New("--crl is empty")
	case o.maxBytes < 1 || o.maxBytes > math.MaxInt/2:
		return fmt.Errorf("--max-bytes %d, wanted a size in bytes", o.maxBytes)
	}
	if i := slices.Index(messages, "-"); i >= 0 && slices.Contains(messages[i+1:], "-") {
		return errors.New("MESSAGE - is given twice, and standard input can be read once")
	}
	return nil
}

// instant is the value of a flag that takes a time.
func instant(t *time.Time) func(string) error {
	return func(s string) error {
		for _, form := range []string{time.RFC3339, time.DateOnly} {
			v, err := time.Parse(form, s)
			if err != nil {
				continue
			}
			if v = v.UTC(); v.Year() < 1950 || v.Year() > 9999 { // what certificates can say (RFC 5280 4.1.2.5)
				return fmt.Errorf("%q is not of the years 1950 to 9999", s)
			}
			*t = v
			return nil
		}
		return fmt.Errorf("%q is not a time; wanted RFC 3339 as 2020-09-30T09:00:00Z, or a date", s)
	}
}

// verify judges the messages in turn and returns the exit code.
func verify(ctx context.Context, o verifyOptions, messages []string, stdin io.Reader, tell *teller) int {
	v, ok := o.verifier(ctx, tell)
	if !ok {
		return exitNotRead
	}
	j := &judge{verifier: v, options: o, tell: tell}
	tell.bar.begin(len(messages), "message", "prescription")
	for _, m := range messages {
		j.message(ctx, m, stdin)
		if ctx.Err() != nil {
			tell.problem(problem{Kind: kindInterrupted, Text: fmt.Sprintf("interrupted; %d of %s judged", j.messages, plural(len(messages), "message"))})
			return exitInterrupted
		}
		if tell.flush() != nil { // nobody can read what follows
			return worse(j.code, exitNotRead)
		}
		tell.bar.end()
	}
	if !tell.json && (len(messages) > 1 || j.count.prescriptions > 1) {
		j.sheet(tell).summary(len(messages), j.count)
	}
	return j.code
}

// verifier reads the files of --ca and --crl. It tells each that is not as it should
// be.
func (o verifyOptions) verifier(ctx context.Context, tell *teller) (*eps.Verifier, bool) {
	v := &eps.Verifier{At: o.at, MatchPrescriber: o.prescriber}
	ok := true
	wrong := func(flag, file string, err error) {
		ok = false
		if ctx.Err() != nil {
			return
		}
		if !tell.json {
			file = "--" + flag + " " + file
		}
		tell.problem(problem{Kind: kindFile, File: file, Text: err.Error()})
	}
	for _, file := range o.cas {
		certs, err := readCertificates(ctx, file)
		if err != nil {
			wrong("ca", file, err)
			continue
		}
		for _, c := range certs {
			if !slices.ContainsFunc(v.CAs, c.Equal) {
				v.CAs = append(v.CAs, c)
			}
		}
	}
	for _, file := range o.crls {
		lists, err := readLists(ctx, file)
		if err != nil {
			wrong("crl", file, err)
			continue
		}
		v.Lists = append(v.Lists, lists...)
	}
	if ctx.Err() != nil {
		tell.problem(problem{Kind: kindInterrupted, Text: "interrupted; nothing was judged"})
	}
	return v, ok && ctx.Err() == nil
}

// judge judges messages one after the other.
type judge struct {
	verifier *eps.Verifier
	options  verifyOptions
	tell     *teller
	code     int
	messages int // judged
	count    count
}

// count is how many prescriptions came out how.
type count struct {
	prescriptions, accepted, refused, undecided, unread int
}

func (c *count) add(n count) {
	c.prescriptions += n.prescriptions
	c.accepted += n.accepted
	c.refused += n.refused
	c.undecided += n.undecided
	c.unread += n.unread
}

// exitCode is that of one report.
func exitCode(r eps.Report) int {
	switch accepted := []eps.Result{r.National.Accept, r.Rxguard.Accept}; {
	case slices.Contains(accepted, eps.Failed):
		return exitRefused
	case slices.Contains(accepted, eps.NotDecidable):
		return exitUndecided
	}
	return exitAccepted
}

// message judges every prescription of one message. Nothing of it is told before its
// end was read: the reports do not count where the message turns out to be broken.
func (j *judge) message(ctx context.Context, file string, stdin io.Reader) {
	fail := func(p problem) {
		if ctx.Err() != nil {
			return
		}
		j.count.unread++
		j.code = worse(j.code, exitNotRead)
		p.File = file
		j.tell.problem(p)
	}
	b, err := read(ctx, file, stdin, j.options.maxBytes, "a prescription message in XML")
	if err != nil {
		text := err.Error()
		if size := new(sizeError); errors.As(err, &size) {
			text += "; --max-bytes sets the limit"
		}
		fail(problem{Kind: kindFile, Text: text})
		return
	}
	options := eps.ReadOptions{MaxBytes: int(j.options.maxBytes)}
	// Once to its end, and again to tell: kept, the reports could be a thousand times as
	// large as the message.
	err = j.verifier.VerifyMessage(b, options, func(eps.Report) error { return ctx.Err() })
	if err != nil {
		fail(messageProblem(b, err))
		return
	}
	var n count
	code := exitAccepted
	sheet := j.sheet(j.tell)
	err = j.verifier.VerifyMessage(b, options, func(r eps.Report) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		one := exitCode(r)
		code = worse(code, one)
		n.prescriptions++
		switch one {
		case exitAccepted:
			n.accepted++
		case exitRefused:
			n.refused++
		default:
			n.undecided++
		}
		j.tell.bar.one()
		if !j.tell.json {
			sheet.report(shown(file), r)
			return nil
		}
		text, err := json.Marshal(line{Version: lineVersion, File: file, Report: &r})
		if err != nil {
			return err
		}
		j.tell.Write(append(harmlessJSON(text), '\n'))
		return nil
	})
	if err != nil {
		fail(messageProblem(b, err))
		return
	}
	j.messages++
	j.count.add(n)
	j.code = worse(j.code, code)
}

// messageProblem says what is wrong with a message, and what it seems to be in place
// of one.
func messageProblem(b []byte, err error) problem {
	p := problem{Kind: kindMessage, Text: strings.TrimPrefix(err.Error(), "eps: ")}
	if m := new(eps.MessageError); errors.As(err, &m) {
		p.Element, p.Line, p.Offset = m.Element, m.Line, m.Offset
	}
	if x := new(c14n.Error); errors.As(err, &x) && p.Line == 0 {
		p.Line, p.Offset = x.Line, x.Offset
	}
	start := bytes.TrimLeft(b[:min(len(b), 4096)], "\ufeff \t\r\n")
	switch {
	case bytes.Contains(start, begin):
		p.Text = "is a PEM file, wanted a prescription message in XML; certificates go to --ca and lists to --crl, with the flag before each file"
	case bytes.HasPrefix(start, []byte("{")) || bytes.HasPrefix(start, []byte("[")):
		p.Text = "is JSON, wanted a prescription message in HL7v3 XML"
	case bytes.HasPrefix(start, []byte{0xff, 0xfe}) || bytes.HasPrefix(start, []byte{0xfe, 0xff}):
		p.Text = "is text in UTF-16, wanted a prescription message in XML in UTF-8"
	case bytes.HasPrefix(start, []byte("PK\x03\x04")) || bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		p.Text = "is a compressed file, wanted a prescription message in XML; unpack it first"
	}
	return p
}

func (j *judge) sheet(w io.Writer) *sheet {
	return &sheet{w: w, width: j.tell.width, bold: j.tell.terminal}
}
