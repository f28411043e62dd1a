package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/schollz/progressbar/v3" // the bar on a terminal; kept since 2017, needs uniseg, colorstring and x/term
)

// bar shows how far long work is, on a terminal. The nil bar shows nothing.
type bar struct {
	w       io.Writer
	now     func() time.Time
	started time.Time
	of      int // inputs
	done    int // inputs
	judged  int // what is in them

	input, part string // what these are: message and prescription, for instance
	shown       *progressbar.ProgressBar
}

// patience is how long work may take before the bar shows.
const patience = time.Second

// newBar returns the bar of standard error, or nil where that is no terminal.
func newBar(w io.Writer) *bar {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return &bar{w: w, now: time.Now}
}

// begin starts anew, with so many inputs. input and part name one of them and one of
// what is judged in them.
func (b *bar) begin(of int, input, part string) {
	if b != nil {
		b.started, b.of, b.input, b.part = b.now(), of, input, part
	}
}

// one counts a part that was judged.
func (b *bar) one() {
	if b != nil {
		b.judged++
		b.show()
	}
}

// end counts an input that was read to its end.
func (b *bar) end() {
	if b != nil {
		b.done++
		b.show()
	}
}

func (b *bar) show() {
	if b.shown == nil {
		if b.now().Sub(b.started) < patience {
			return
		}
		total := b.of
		if total == 1 {
			total = -1 // how much is in it is seen at its end
		}
		b.shown = progressbar.NewOptions(total, progressbar.OptionSetWriter(b.w), progressbar.OptionSetWidth(20),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetSpinnerChangeInterval(0),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionShowDescriptionAtLineEnd())
	}
	b.shown.Describe(fmt.Sprintf("%d of %s, %s judged", b.done, plural(b.of, b.input), plural(b.judged, b.part)))
	if b.of > 1 {
		_ = b.shown.Set(b.done)
	}
}

// clear takes the bar off the terminal, before anything else is written.
func (b *bar) clear() {
	if b != nil && b.shown != nil {
		_ = b.shown.Clear()
	}
}

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
