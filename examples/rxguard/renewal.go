package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/renewal"
)

const showHelp = `show tells what is written down in each FILE about the renewals of a card: of which
card and certificates, what was begun and done and when, where the last renewal
stands, and what its holder does next. FILE is a card's journal, journals/*.jsonl in
the folder for the machine's state, on Linux /var/lib/rxguard.

The card itself is not looked at, nor is whether it is on hold: on the card's machine
a renewal that is started again looks there and goes on. Nothing is changed, and
nothing secret is in a journal.

A last line that was torn by a crash is told, and does not matter: nobody counted on
it, and who goes on looks at the card itself. Any other damage is told with its line
and the way out.

Times are printed in UTC, and in the time zone of this computer where that is another.

With --json each line is a JSON document: {"version":1,"file":...,"journal":...} for a
journal, {"version":1,"file":...,"error":{"kind":...,"text":...}} for an error; the
kind of a damaged journal is "journal".

Exit codes:
  0    every renewal is at its end, with a new certificate or without
  1    a journal is damaged, was edited, or is of a newer version
  2    a renewal is not at its end, or its card waits to be taken out and put back in
  3    the command line was not understood, an input could not be read, or the
       output not be written
  130  interrupted
Where several apply, the first of 130, 3, 1, 2 and 0 is the exit code.`

// kindJournal is the kind of a problem with what a journal holds.
const kindJournal = "journal"

func renewalCommand(tell *teller) *cobra.Command {
	parent := &cobra.Command{
		Use:   "renewal",
		Short: "Tell what is written down about the renewals of a card",
		Long:  "renewal tells what is written down about the renewals of a card: rxguard renewal show.\n\n" + rootCodesHelp,
		Example: "  rxguard renewal show /var/lib/rxguard/journals/*.jsonl\n" +
			"  rxguard renewal show --help",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())
			}
			return fmt.Errorf("no command; %s --help lists them", c.CommandPath())
		},
	}
	parent.AddCommand(&cobra.Command{
		Use:                   "show [--json] FILE...",
		DisableFlagsInUseLine: true,
		Short:                 "Tell where the renewals of a card stand, from its journal",
		Long:                  showHelp,
		Example:               "  rxguard renewal show /var/lib/rxguard/journals/*.jsonl",
		RunE: func(c *cobra.Command, files []string) error {
			switch {
			case len(files) == 0:
				return fmt.Errorf("no FILE; %s --help explains", c.CommandPath())
			case slices.Contains(files, ""):
				return fmt.Errorf("a FILE is empty; %s --help explains", c.CommandPath())
			}
			if runtime.GOOS == "windows" {
				files = expand(files)
			}
			if code := showJournals(c.Context(), files, tell); code != exitAccepted {
				return ended(code)
			}
			return nil
		},
	})
	return parent
}

// journalLine is one JSON line: what a journal says.
type journalLine struct {
	Version int            `json:"version"` // lineVersion
	File    string         `json:"file"`
	Journal *journalReport `json:"journal"`
}

// journalReport is what a journal says of one card.
type journalReport struct {
	Card     string          `json:"card,omitempty"` // the name that its renewals are kept under
	Lines    int             `json:"lines"`
	Torn     int64           `json:"torn_bytes,omitempty"` // after the whole lines
	Renewals []renewalReport `json:"renewals"`
}

// renewalReport is what a journal says of one renewal.
type renewalReport struct {
	renewal.Standing
	Serial         string                 `json:"card_serial,omitempty"`
	Label          string                 `json:"card_label,omitempty"`
	OldContainer   string                 `json:"old_container"` // CKA_ID, hexadecimal
	OldCertificate string                 `json:"old_sha256"`
	NewContainer   string                 `json:"new_container"`
	NewLabel       string                 `json:"new_label,omitempty"`
	New            *guard.CertificateInfo `json:"new,omitempty"`
	Entries        []entryReport          `json:"entries"`
}

// entryReport is what a line of a journal says.
type entryReport struct {
	Line    int          `json:"line"`
	Time    time.Time    `json:"time"`
	Step    renewal.Step `json:"step"`
	Act     renewal.Act  `json:"act"`
	Text    string       `json:"text"`           // what the step is, in plain words
	Note    string       `json:"note,omitempty"` // what was written beside it
	AskFrom time.Time    `json:"ask_from,omitzero"`
}

// showJournals tells of the journals in turn and returns the exit code.
func showJournals(ctx context.Context, files []string, tell *teller) int {
	code := exitAccepted
	for i, file := range files {
		r, err := readJournal(ctx, file)
		switch {
		case ctx.Err() != nil:
			tell.problem(problem{Kind: kindInterrupted, Text: fmt.Sprintf("interrupted; %d of %s shown", i, plural(len(files), "file"))})
			return exitInterrupted
		case err != nil:
			p, c := journalProblem(file, err)
			tell.problem(p)
			code = worse(code, c)
			continue
		}
		if n := len(r.Renewals); n > 0 && !r.Renewals[n-1].Ended() {
			code = worse(code, exitUndecided)
		}
		if tell.json {
			text, err := json.Marshal(journalLine{Version: lineVersion, File: file, Journal: r})
			if err != nil { // cannot be: strings, numbers and instants that were JSON before
				text = []byte(`{}`)
			}
			tell.line(text)
		} else {
			s := &sheet{w: tell, width: tell.width, bold: tell.terminal}
			s.journal(file, r)
		}
		if tell.flush() != nil { // nobody can read what follows
			return worse(code, exitNotRead)
		}
	}
	return code
}

// readJournal returns early when ctx ends, also from a pipe into which nobody writes.
func readJournal(ctx context.Context, file string) (*journalReport, error) {
	type result struct {
		r   *journalReport
		err error
	}
	done := make(chan result, 1)
	go func() {
		r, err := readJournalNow(file)
		done <- result{r, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-done:
		return r.r, r.err
	}
}

func readJournalNow(file string) (*journalReport, error) {
	about, err := os.Stat(file)
	switch {
	case err != nil:
		return nil, bare(err)
	case about.IsDir():
		return nil, fmt.Errorf("is a folder, wanted a card's journal, as %s in it", filepath.Join("journals", "*.jsonl"))
	}
	entries, size, err := renewal.ReadJournal(file)
	if err != nil {
		return nil, err
	}
	r := &journalReport{Lines: len(entries), Renewals: []renewalReport{}}
	if about.Mode().IsRegular() {
		r.Torn = max(0, about.Size()-size)
	}
	for i, e := range entries {
		if e.Step == renewal.StepPlanned {
			r.Card = e.Card
			r.Renewals = append(r.Renewals, renewalReport{
				Serial: e.Serial, Label: e.Label,
				OldContainer: hex.EncodeToString(e.OldID), OldCertificate: e.OldCertificate,
				NewContainer: hex.EncodeToString(e.NewID), NewLabel: e.NewLabel,
			})
		}
		last := &r.Renewals[len(r.Renewals)-1] // a journal that reads begins with a plan
		last.Entries = append(last.Entries, entryReport{
			Line: e.Seq, Time: e.Time, Step: e.Step, Act: e.Act, Text: e.Step.Text(), Note: e.Text, AskFrom: e.AskFrom,
		})
		if c, err := guard.ParseCertificate(e.Certificate); err == nil {
			about := c.Info()
			last.New = &about
		}
		if i+1 == len(entries) || entries[i+1].Step == renewal.StepPlanned { // its last line
			last.Standing, _ = renewal.StandingOf(entries[:i+1])
		}
	}
	return r, nil
}

// journalProblem says what is wrong with a file, and the exit code for it.
func journalProblem(file string, err error) (problem, int) {
	p := problem{Kind: kindFile, File: file, Text: bare(err).Error()}
	var je *renewal.JournalError
	if !errors.As(err, &je) {
		return p, exitNotRead
	}
	p.Text = je.Problem
	if je.Err != nil {
		p.Text += ": " + bare(je.Err).Error()
	}
	if je.Line == 0 && je.Err != nil {
		return p, exitNotRead
	}
	if je.Line > 0 {
		p.Text = fmt.Sprintf("line %d: %s", je.Line, p.Text)
	}
	p.Kind, p.Line = kindJournal, je.Line
	return p, exitRefused
}

// journal writes what a journal says for people.
func (s *sheet) journal(file string, r *journalReport) {
	s.line("%s", s.strong(harmless(file)+": "+plural(len(r.Renewals), "renewal")+", "+plural(r.Lines, "line")))
	if r.Card != "" {
		s.field("card", r.Card+" (a digest)")
	}
	if r.Torn > 0 {
		s.line("  %s", wrap(fmt.Sprintf("After the last line %d bytes were torn by a crash. They do not matter: nobody counted on them, and who goes on looks at the card itself.", r.Torn), 4, s.width))
	}
	if len(r.Renewals) == 0 {
		s.line("  Nothing was begun.")
	}
	s.line("")
	for _, n := range r.Renewals {
		s.renewal(n)
	}
}

func (s *sheet) renewal(n renewalReport) {
	s.line("  %s", s.strong("Renewal "+harmless(n.Renewal)+", begun "+moment(n.Entries[0].Time)))
	s.row("card", "serial "+orUnknown(n.Serial)+", label "+orUnknown(n.Label))
	s.row("old pair", "container "+n.OldContainer+", certificate SHA-256 "+n.OldCertificate)
	s.row("new pair", "container "+n.NewContainer+", label "+orUnknown(n.NewLabel))
	if c := n.New; c != nil {
		s.row("certificate", fmt.Sprintf("serial number %s (hexadecimal), %s to %s", c.Serial, date(c.NotBefore), date(c.NotAfter)))
		s.row("for", c.Subject)
		s.row("issued by", c.Issuer)
	}
	s.line("")
	for _, e := range n.Entries {
		text := acts[e.Act] + ": " + e.Text
		if e.Act == renewal.Note {
			text = "note: " + e.Note
		} else if e.Note != "" {
			text += " (" + e.Note + ")"
		}
		if !e.AskFrom.IsZero() {
			text += "; not to be asked before " + moment(e.AskFrom)
		}
		s.line("    %4d %s  %-8s %s", e.Line, moment(e.Time), harmless(string(e.Step)), wrap(harmless(text), 9, s.width))
	}
	s.line("")
	s.line("    %s", wrap(harmless(n.Text), 6, s.width))
	if n.OldKeyKept {
		s.line("    %s", wrap("The card could not remove the old key; it is there without a certificate and signs nothing.", 6, s.width))
	}
	for i, m := range n.Remedies {
		s.line("    %d. %s", i+1, wrap(harmless(m.Text), 7, s.width))
	}
	s.line("")
}

func (s *sheet) row(name, value string) {
	if value != "" {
		s.line("    %-11s %s", name, wrap(harmless(value), 16, s.width))
	}
}

var acts = map[renewal.Act]string{renewal.Intent: "begun", renewal.Done: "done"}

func orUnknown(s string) string {
	if s == "" {
		return "not known"
	}
	return s
}

// moment is an instant in UTC, and by this computer's zone where that is another.
func moment(t time.Time) string {
	text := t.UTC().Format("2006-01-02 15:04:05 UTC")
	local := t.Local()
	if _, offset := local.Zone(); offset == 0 {
		return text
	}
	form := "15:04:05 MST"
	if local.Format(time.DateOnly) != t.UTC().Format(time.DateOnly) {
		form = "2006-01-02 15:04:05 MST"
	}
	return text + " (" + strings.TrimSpace(local.Format(form)) + ")"
}
