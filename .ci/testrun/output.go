package main

import (
	"regexp"
	"strings"
)

// keep is how much is kept of each end of one test's output: enough for any report,
// and a bound for a test that prints without end.
const keep = 512 << 10

// output is what a test, a package or a build printed; its middle is dropped when it
// grows beyond twice keep.
type output struct {
	head, tail []byte
	dropped    int
}

func (o *output) write(s string) {
	if room := keep - len(o.head); room > 0 {
		n := min(room, len(s))
		o.head = append(o.head, s[:n]...)
		s = s[n:]
	}
	o.tail = append(o.tail, s...)
	if over := len(o.tail) - keep; over > keep {
		o.tail = append(o.tail[:0], o.tail[over:]...)
		o.dropped += over
	}
}

// lines returns the output without the lines that only steer or repeat go test's own
// protocol.
func (o *output) lines() []string {
	text := string(o.head)
	if o.dropped > 0 {
		text += "\n[... output left out ...]\n"
	}
	text += string(o.tail)
	var kept []string
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, "\r\n")
		if !protocol.MatchString(l) {
			kept = append(kept, l)
		}
	}
	for len(kept) > 0 && strings.TrimSpace(kept[0]) == "" {
		kept = kept[1:]
	}
	for len(kept) > 0 && strings.TrimSpace(kept[len(kept)-1]) == "" {
		kept = kept[:len(kept)-1]
	}
	return kept
}

var (
	protocol = regexp.MustCompile(`^(=== (RUN|PAUSE|CONT|NAME|ATTR|ARTIFACTS) .*|\s*--- (PASS|FAIL|SKIP): .*|PASS|FAIL|(ok  |FAIL|\?   |---)\t.*|exit status 1|testing: warning: no tests to run)$`)
	logged   = regexp.MustCompile(`^\s+[^\s:]+\.go:\d+: ?(.*)$`)
)

// reason returns what a skipped test said last: the text of t.Skip, on one line.
func (o *output) reason() string {
	lines := o.lines()
	for i := len(lines) - 1; i >= 0; i-- {
		if m := logged.FindStringSubmatch(lines[i]); m != nil {
			lines = append([]string{m[1]}, lines[i+1:]...)
			break
		}
	}
	words := strings.Fields(strings.Join(lines, " "))
	if len(words) == 0 {
		return "the test gave no reason"
	}
	return strings.Join(words, " ")
}
