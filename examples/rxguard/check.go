package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/guard/status"
)

const checkHelp = `check tells for each signing certificate in each CERT (PEM or DER; - is standard
input) what rxguard would say of a card with that certificate: whether it may sign
prescriptions, and if not, why, and what its holder is to do.

The certificate alone is judged. Whether a card is on hold after a renewal is seen
only where the card is.

Without --advisories the notices that come with rxguard are judged by; with it, only
those of the files, each one notice in JSON. A serial file that a notice names is
looked for beside it, under its SHA-256 in hexadecimal, with or without an ending.

Without --roots the chain is not checked, and without --crl revocation is not: the
answer says so. rxguard reaches no network: the lists are files that were fetched
before.

Without --at the certificate is judged as of now, and a clock of this computer that is
behind the notices or the lists is told.
` + timeHelp + `

With --json each line is a JSON document: {"version":1,"file":...,"verdict":...} for a
certificate, {"version":1,"file":...,"error":{"kind":...,"text":...}} for an error.

Exit codes:
  0    every certificate may sign, with warnings or without
  1    a certificate is refused
  2    a certificate cannot be judged, which permits no signature either
  3    the command line was not understood, an input could not be read, or the
       output not be written
  130  interrupted
Where several apply, the first of 130, 3, 1, 2 and 0 is the exit code.`

const checkExample = `  rxguard check card.pem
  rxguard check --at 2020-09-30 card.pem
  rxguard check --roots root.pem --ca sub-ca.pem --crl sub-ca.crl --crl root.crl *.pem
  rxguard check --advisories notice.json --json card.pem`

// The largest files that check reads, in bytes.
const (
	maxAdvisory   = 64 << 20
	maxSerialFile = 64 << 20
)

// checkOptions are the flags of check.
type checkOptions struct {
	at                          time.Time
	advisories, roots, cas, crl []string
	live                        bool
}

func checkCommand(tell *teller) *cobra.Command {
	var o checkOptions
	c := &cobra.Command{
		Use:                   "check [--at TIME] [--advisories FILE]... [--roots PEM] [--crl FILE]... [--json] CERT...",
		DisableFlagsInUseLine: true,
		Short:                 "Tell whether a signing certificate may sign prescriptions",
		Long:                  checkHelp,
		Example:               checkExample,
		RunE: func(c *cobra.Command, certs []string) error {
			if err := o.check(certs); err != nil {
				return fmt.Errorf("%w; %s --help explains", err, c.CommandPath())
			}
			if runtime.GOOS == "windows" {
				certs = expand(certs)
			}
			if code := checkFiles(c.Context(), o, certs, c.InOrStdin(), tell); code != exitAccepted {
				return ended(code)
			}
			return nil
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.Func("at", "judge as of this `TIME`, not as of now", instant(&o.at))
	f.StringArrayVar(&o.advisories, "advisories", nil, "judge by the notice in this `FILE` (JSON), not by those that come with rxguard; repeatable")
	f.StringArrayVar(&o.roots, "roots", nil, "trust the CA certificates in this `FILE` (PEM or DER); repeatable")
	f.StringArrayVar(&o.cas, "ca", nil, "certificates of CAs between those and the card, in this `FILE` (PEM or DER); repeatable")
	f.StringArrayVar(&o.crl, "crl", nil, "CRLs and ARLs in this `FILE` (PEM or DER); repeatable")
	f.BoolVar(&o.live, "live", false, "refuse certificates of simulated cards, as for prescriptions of patients")
	return c
}

// check looks for what is wrong with the command line itself.
func (o checkOptions) check(certs []string) error {
	if len(certs) == 0 {
		return errors.New("no CERT")
	}
	for _, given := range []struct {
		what  string
		files []string
	}{{"a CERT", certs}, {"--advisories", o.advisories}, {"--roots", o.roots}, {"--ca", o.cas}, {"--crl", o.crl}} {
		if slices.Contains(given.files, "") {
			return fmt.Errorf("%s is empty", given.what)
		}
	}
	if i := slices.Index(certs, "-"); i >= 0 && slices.Contains(certs[i+1:], "-") {
		return errors.New("CERT - is given twice, and standard input can be read once")
	}
	if len(o.crl) > 0 && len(o.roots)+len(o.cas) == 0 {
		return errors.New("--crl without --roots and --ca: a list is told by the key of the CA that signed it")
	}
	return nil
}

// verdictLine is one JSON line: what is said of a certificate.
type verdictLine struct {
	Version int            `json:"version"`        // lineVersion
	File    string         `json:"file"`           // as on the command line; - is standard input
	Line    int            `json:"line,omitempty"` // of its PEM block, from 1; 0: DER
	Verdict *guard.Verdict `json:"verdict"`
}

// checkFiles judges the certificates in turn and returns the exit code.
func checkFiles(ctx context.Context, o checkOptions, files []string, stdin io.Reader, tell *teller) int {
	g, ok := o.guard(ctx, tell)
	if !ok {
		return exitNotRead
	}
	r := &rater{g: g, at: o.at, tell: tell}
	tell.bar.begin(len(files), "file", "certificate")
	for i, file := range files {
		r.file(ctx, file, stdin)
		if ctx.Err() != nil {
			tell.problem(problem{Kind: kindInterrupted, Text: fmt.Sprintf("interrupted; %d of %s judged", i, plural(len(files), "file"))})
			return exitInterrupted
		}
		if tell.flush() != nil { // nobody can read what follows
			return worse(r.code, exitNotRead)
		}
		tell.bar.end()
	}
	if !tell.json && r.judged+r.unread > 1 {
		r.summary(tell)
	}
	return r.code
}

// guard is a Guard by the files of the flags. It tells each that is not as it should be.
func (o checkOptions) guard(ctx context.Context, tell *teller) (*guard.Guard, bool) {
	ok := true
	wrong := func(flag, file string, err error) {
		ok = false
		if ctx.Err() != nil {
			return
		}
		if !tell.json && flag != "" {
			file = strings.TrimSpace("--" + flag + " " + file)
		}
		tell.problem(problem{Kind: kindFile, File: file, Text: err.Error()})
	}
	authorities := func(flag string, files []string) (all []*x509.Certificate) {
		for _, file := range files {
			certs, err := readCertificates(ctx, file)
			if err != nil {
				wrong(flag, file, err)
			}
			all = append(all, certs...)
		}
		return all
	}
	c := guard.Config{Roots: authorities("roots", o.roots), Issuers: authorities("ca", o.cas), Live: o.live}
	if len(o.advisories) > 0 {
		set, file, err := readAdvisories(ctx, o.advisories)
		if err != nil {
			wrong("advisories", file, err)
		} else {
			c.Advisories = set
		}
	}
	if len(o.crl) > 0 && ok {
		lists, err := o.lists(ctx, c.Roots, c.Issuers, wrong)
		if err != nil {
			wrong("crl", "", err)
		} else {
			c.Revocation = lists
		}
	}
	if ctx.Err() != nil {
		tell.problem(problem{Kind: kindInterrupted, Text: "interrupted; nothing was judged"})
		return nil, false
	}
	if !ok {
		return nil, false
	}
	g, err := guard.New(c)
	if err != nil {
		wrong("", "", errors.New(strings.TrimPrefix(err.Error(), "guard: ")))
	}
	return g, ok
}

// lists reads the lists of --crl. A list that nobody of --roots and --ca signed is an
// error: whoever gives it wants it to count.
func (o checkOptions) lists(ctx context.Context, roots, below []*x509.Certificate, wrong func(flag, file string, err error)) (*status.Snapshot, error) {
	trust, err := status.NewTrust(roots, below)
	if err != nil {
		return nil, err
	}
	var all []*status.List
	for _, file := range o.crl {
		err := readObjects(ctx, file, maxLists, aList, func(der []byte) error {
			l, err := status.Parse(der, maxLists)
			if err == nil {
				err = trust.Verify(l)
			}
			if err != nil {
				return errors.New(strings.TrimPrefix(err.Error(), "status: "))
			}
			all = append(all, l)
			return nil
		})
		if err != nil {
			wrong("crl", file, err)
		}
	}
	return status.NewSnapshot(trust, 0, all...)
}

// readAdvisories reads one notice from each file, and its serial files from the folder
// that it is in. file is the one that the error is of; empty: of all together.
func readAdvisories(ctx context.Context, files []string) (set *advisory.Set, file string, err error) {
	var all []*advisory.Advisory
	issued := time.Time{}
	for _, file := range files {
		doc, err := read(ctx, file, nil, maxAdvisory, "a notice in JSON")
		if err != nil {
			return nil, file, err
		}
		a, err := advisory.Parse(bytes.TrimPrefix(doc, []byte("\ufeff")), serialFiles(ctx, filepath.Dir(file)))
		if err != nil {
			return nil, file, errors.New(strings.TrimPrefix(err.Error(), "advisory: "))
		}
		if a.Modified.After(issued) {
			issued = a.Modified
		}
		all = append(all, a)
	}
	set, err = advisory.NewSet(1, issued, all...)
	if err != nil {
		return nil, "", errors.New(strings.TrimPrefix(err.Error(), "advisory: "))
	}
	return set, "", nil
}

// serialFiles finds serial files in a folder, by their names.
func serialFiles(ctx context.Context, folder string) advisory.Files {
	return func(sum [32]byte) ([]byte, error) {
		name := hex.EncodeToString(sum[:])
		entries, err := os.ReadDir(folder)
		if err != nil {
			return nil, bare(err)
		}
		for _, e := range entries {
			if strings.EqualFold(strings.TrimSuffix(e.Name(), filepath.Ext(e.Name())), name) {
				return read(ctx, filepath.Join(folder, e.Name()), nil, maxSerialFile, "a serial file")
			}
		}
		return nil, fmt.Errorf("no file %s, with or without an ending, is in %s", name, folder)
	}
}

// rater judges certificates one after the other.
type rater struct {
	g    *guard.Guard
	at   time.Time // zero: now
	tell *teller
	code int

	judged, unread int
	decisions      [guard.DecisionAllowed + 1]int
}

// file judges every certificate of a file. Nothing of it is told before all of it was
// read.
func (r *rater) file(ctx context.Context, file string, stdin io.Reader) {
	type found struct {
		c    *guard.Certificate
		line int
	}
	var all []found
	b, err := read(ctx, file, stdin, maxCertificates, "a certificate in PEM or DER")
	if err == nil {
		err = objects(b, aCertificate, func(der []byte) error {
			c, err := guard.ParseCertificate(der)
			if err != nil {
				return errors.New(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "guard: "), "not a certificate: "))
			}
			all = append(all, found{c: c})
			return nil
		})
	}
	if err != nil {
		if ctx.Err() == nil {
			r.unread++
			r.code = worse(r.code, exitNotRead)
			r.tell.problem(problem{Kind: kindFile, File: file, Text: err.Error()})
		}
		return
	}
	if blocks, err := pemBlocks(bytes.TrimPrefix(b, []byte("\ufeff"))); err == nil && len(blocks) == len(all) {
		for i, block := range blocks {
			all[i].line = block.line
		}
	}
	for _, f := range all {
		if ctx.Err() != nil {
			return
		}
		v := r.judge(f.c)
		r.judged++
		r.decisions[v.Decision]++
		r.code = worse(r.code, decisionCodes[v.Decision])
		r.tell.bar.one()
		r.say(file, f.line, &v)
	}
}

var decisionCodes = [...]int{
	guard.DecisionRefused: exitRefused, guard.DecisionUndecided: exitUndecided,
	guard.DecisionWarned: exitAccepted, guard.DecisionAllowed: exitAccepted,
}

func (r *rater) judge(c *guard.Certificate) guard.Verdict {
	s := guard.Snapshot{Certificate: c, Simulated: c.Simulated()}
	if r.at.IsZero() {
		return r.g.JudgeNow(s, time.Now())
	}
	return r.g.Judge(s, r.at)
}

// say tells a verdict: first what its holder needs, then everything.
func (r *rater) say(file string, line int, v *guard.Verdict) {
	if r.tell.json {
		text, err := json.Marshal(verdictLine{Version: lineVersion, File: file, Line: line, Verdict: v})
		if err != nil { // cannot be: a verdict of a Guard marshals
			text = []byte(`{}`)
		}
		r.tell.line(text)
		return
	}
	s := &sheet{w: r.tell, width: r.tell.width, bold: r.tell.terminal}
	name := shown(file)
	if line > 0 {
		name += fmt.Sprintf(", line %d", line)
	}
	s.line("%s", s.strong(harmless(name)))
	for l := range strings.Lines(v.ForPrescriber()) {
		s.line("  %s", wrap(harmless(strings.TrimRight(l, "\n")), 2, s.width))
	}
	s.line("")
	s.line("  For those who look after the card:")
	for l := range strings.Lines(v.String()) {
		l = strings.TrimRight(l, "\n")
		text := strings.TrimLeft(l, " ")
		indent := 2 + len(l) - len(text)
		s.line("%s%s", strings.Repeat(" ", indent), wrap(harmless(text), indent+2, s.width))
	}
	s.line("")
}

// summary writes how many of several came out how.
func (r *rater) summary(w io.Writer) {
	s := &sheet{w: w, bold: r.tell.terminal}
	s.line("%s", s.strong(plural(r.judged, "certificate")+":"))
	for d, n := range r.decisions {
		s.line("  %6d %s", n, guard.Decision(d))
	}
	if r.unread > 0 {
		s.line("  %6d of the files could not be read, and nothing is said of what is in them", r.unread)
	}
}
