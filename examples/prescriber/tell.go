package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term" // tells a terminal, where a bar is wanted, and its width; kept by the Go team, needs x/sys only

	"github.com/schollz/progressbar/v3" // the bar on a terminal; kept since 2017, needs uniseg, colorstring and x/term

	"github.com/rxguard/rxguard/renewal"
)

// event is one JSON line.
type event struct {
	Step     int       `json:"step"`
	Name     string    `json:"name"`
	Outcome  string    `json:"outcome,omitempty"`
	Text     string    `json:"text,omitempty"`
	Detail   any       `json:"detail,omitempty"`
	Progress *progress `json:"progress,omitempty"`
}

type progress struct {
	Step          string  `json:"step"`
	Index         int     `json:"index"`
	Of            int     `json:"of"`
	Share         float64 `json:"share"`
	ElapsedMS     int64   `json:"elapsed_ms"`
	LeftMS        int64   `json:"left_ms"`
	Uninterrupted bool    `json:"uninterrupted,omitempty"`
}

// teller tells the steps: plain words, or JSON lines.
type teller struct {
	out, err io.Writer
	json     bool
	terminal bool
	width    int // of the text on a terminal; 0: lines are left as they are
	step     int
	name     string
	werr     error // the first failure of out
	bar      *progressbar.ProgressBar
	shown    int // the renewal's step that has its line
}

func newTeller(out, err io.Writer, asJSON bool) *teller {
	t := &teller{err: err, json: asJSON}
	t.out = writerFunc(func(b []byte) (int, error) {
		n, err := out.Write(b)
		if err != nil && t.werr == nil {
			t.werr = err
		}
		return n, err
	})
	if f, ok := out.(*os.File); ok && !asJSON && term.IsTerminal(int(f.Fd())) {
		t.terminal = true
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			t.width = min(max(w-4, 40), 96)
		}
	}
	return t
}

// failed tells whether something could not be told.
func (t *teller) failed() error {
	if t.werr != nil {
		return fmt.Errorf("the output could not be written: %w", t.werr)
	}
	return nil
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// begin starts a step.
func (t *teller) begin(step int, name, title string) {
	t.step, t.name = step, name
	if t.json {
		return
	}
	if t.terminal {
		title = "\x1b[1m" + title + "\x1b[0m"
	}
	fmt.Fprintf(t.out, "\n%d. %s\n", step, title)
}

// say tells what happened in the step: in plain words, and for programs with its
// detail.
func (t *teller) say(outcome, text string, detail any) {
	if t.json {
		t.line(event{Step: t.step, Name: t.name, Outcome: outcome, Text: text, Detail: detail})
		return
	}
	for _, l := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		for _, part := range wrap(l, t.width) {
			fmt.Fprintf(t.out, "   %s\n", part)
		}
	}
}

// wrap breaks a line between words; what follows is indented a little deeper. Width
// 0 breaks nothing.
func wrap(line string, width int) []string {
	words := strings.Fields(line)
	if width == 0 || len(line) <= width || len(words) == 0 {
		return []string{line}
	}
	indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
	out := []string{indent + words[0]}
	for _, w := range words[1:] {
		if last := &out[len(out)-1]; len(*last)+1+len(w) <= width {
			*last += " " + w
		} else {
			out = append(out, indent+"  "+w)
		}
	}
	return out
}

func (t *teller) line(e event) {
	b, err := json.Marshal(e)
	if err != nil {
		fmt.Fprintln(t.err, "prescriber:", err)
		return
	}
	fmt.Fprintf(t.out, "%s\n", b)
}

// progress shows a renewal's progress: a bar on a terminal, lines elsewhere.
func (t *teller) progress(p renewal.Progress) {
	switch {
	case t.json:
		t.line(event{Step: t.step, Name: t.name, Text: p.Text, Progress: &progress{
			Step: string(p.Step), Index: p.Index, Of: p.Of, Share: p.Share,
			ElapsedMS: p.Elapsed.Milliseconds(), LeftMS: p.Remaining.Milliseconds(), Uninterrupted: p.Uninterrupted,
		}})
	case t.terminal:
		if t.bar == nil {
			t.bar = progressbar.NewOptions(1000, progressbar.OptionSetWriter(t.out), progressbar.OptionSetWidth(12),
				progressbar.OptionSetPredictTime(false), progressbar.OptionShowDescriptionAtLineEnd())
		}
		t.bar.Describe(fmt.Sprintf("%-52s", fmt.Sprintf("%d/%d, %s left: %s", p.Index, p.Of, left(p.Remaining), short(p.Text))))
		_ = t.bar.Set(int(p.Share * 1000))
	case p.Index != t.shown:
		t.shown = p.Index
		fmt.Fprintf(t.out, "   [%2d/%d] %3.0f %%  %s left  %s%s\n", p.Index, p.Of, p.Share*100, left(p.Remaining), p.Text, stoppable(p))
	}
}

// asked tells that the passcode is wanted.
func (t *teller) asked(r passcodeRequest, who string) {
	t.progressEnds()
	t.say("passcode", fmt.Sprintf("Passcode for card %s, to %s: %s.", r.Label, r.Purpose, who), nil)
}

// progressEnds leaves the bar's line.
func (t *teller) progressEnds() {
	if t.bar != nil {
		fmt.Fprintln(t.out)
		t.bar = nil
	}
}

// stoppable says where a renewal cannot be stopped.
func stoppable(p renewal.Progress) string {
	if p.Uninterrupted {
		return " (this step cannot be stopped)"
	}
	return ""
}

func left(d time.Duration) string {
	if d < time.Second {
		return "<1s"
	}
	return d.Round(time.Second).String()
}

// short keeps the bar on one line of a narrow terminal.
func short(s string) string {
	if len(s) > 36 {
		return s[:35] + "…"
	}
	return s
}

// problem tells why the journey did not end well, with the way out.
func (t *teller) problem(err error) {
	t.progressEnds()
	text := err.Error()
	var stop *stopError
	if errors.As(err, &stop) {
		text = stop.text
	}
	if t.json {
		outcome := "stopped"
		if errors.Is(err, errOnHold) {
			outcome = "on_hold"
		}
		t.line(event{Step: t.step, Name: t.name, Outcome: outcome, Text: text, Detail: map[string]string{"error": err.Error()}})
		return
	}
	fmt.Fprintf(t.out, "\n%s\n", text)
}

// stopError is an end of the journey that has been put in plain words.
type stopError struct {
	text  string
	err   error
	final bool // the same command would end the same way: the text says what helps
}

func (e *stopError) Error() string {
	if e.err == nil {
		return e.text
	}
	return e.err.Error()
}
func (e *stopError) Unwrap() error { return e.err }
