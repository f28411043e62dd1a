package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/guard/advisory"
	"github.com/rxguard/rxguard/renewal"
	"github.com/rxguard/rxguard/renewal/est"
	"github.com/rxguard/rxguard/signing"
	"github.com/rxguard/rxguard/signing/signingtest"
)

// sealed is a line of a journal with its checksum, as the package comment of renewal
// describes it.
func sealed(t *testing.T, e renewal.JournalEntry) string {
	t.Helper()
	e.Sum = ""
	b, err := json.Marshal(e)
	require.NoError(t, err)
	sum := sha256.Sum256(b)
	return strings.TrimSuffix(string(b), `""}`) + `"` + hex.EncodeToString(sum[:])[:32] + "\"}\n"
}

const (
	theCard    = "459482ac8aadb22e00bf98ec577b7f0f"
	theRenewal = "d06b6da2c7c88151728aea9da1544ad4"
)

var begunAt = time.Date(2020, 9, 30, 8, 15, 0, 250e6, time.UTC)

// journal makes lines of entries: numbered, a second apart, of one card.
func journal(t *testing.T, entries ...renewal.JournalEntry) string {
	t.Helper()
	var b strings.Builder
	for i, e := range entries {
		e.Version, e.Seq, e.Card, e.Time = 1, i+1, theCard, begunAt.Add(time.Duration(i)*time.Second)
		if e.Renewal == "" {
			e.Renewal = theRenewal
		}
		b.WriteString(sealed(t, e))
	}
	return b.String()
}

// begun are the entries of a renewal up to a step that is done.
func begun(t *testing.T, last renewal.Step) []renewal.JournalEntry {
	t.Helper()
	sum := sha256.Sum256([]byte("the old certificate"))
	all := []renewal.JournalEntry{{
		Step: renewal.StepPlanned, Act: renewal.Done, Serial: "0123456789", Label: "Dr A Prescriber",
		OldID: []byte{2}, OldCertificate: hex.EncodeToString(sum[:]), NewID: []byte{0xe6, 0x33, 0x9b, 6}, NewLabel: "rxguard d06b6da2",
	}}
	text, err := os.ReadFile(noticeCard)
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	require.NotNil(t, block)
	for _, step := range renewal.Steps[1:] {
		if all[len(all)-1].Step == last {
			return all
		}
		if step == renewal.StepDone {
			return append(all, renewal.JournalEntry{Step: step, Act: renewal.Done})
		}
		done := renewal.JournalEntry{Step: step, Act: renewal.Done}
		switch step {
		case renewal.StepRequest:
			done.CSR = []byte("a request")
		case renewal.StepEnrol:
			done.Certificate = block.Bytes
		}
		all = append(all, renewal.JournalEntry{Step: step, Act: renewal.Intent}, done)
	}
	return all
}

func entry(step renewal.Step, act renewal.Act, text string) renewal.JournalEntry {
	return renewal.JournalEntry{Step: step, Act: act, Text: text}
}

// show runs the command in UTC.
func show(t *testing.T, args ...string) done { return showIn(t, "UTC", args...) }

func showIn(t *testing.T, zone string, args ...string) done {
	t.Helper()
	cmd := start(t, append([]string{"renewal", "show"}, args...)...)
	cmd.Env = append(os.Environ(), "TZ="+zone)
	return finish(t, cmd)
}

// What is said of journals is all in testdata/journals.txt; with UPDATE_GOLDEN set it is
// written.
func TestWhatIsSaidOfJournals(t *testing.T) {
	f := newFiles(t)
	pending := entry(renewal.StepEnrol, renewal.Note, "the authority decides later")
	pending.AskFrom = begunAt.Add(26 * time.Hour)
	second := begun(t, renewal.StepKey)
	for i := range second {
		second[i].Renewal = strings.Repeat("2", 32)
	}
	givenUp := append(begun(t, renewal.StepKey), entry(renewal.StepEnrol, renewal.Intent, ""),
		entry(renewal.StepGivenUp, renewal.Intent, "rejected"), entry(renewal.StepGivenUp, renewal.Done, "rejected"))
	var printed strings.Builder
	for _, c := range []struct {
		name, content string
		code          int
		outcome       renewal.Outcome
		step          renewal.Step
	}{
		{"renewed and put back", journal(t, begun(t, renewal.StepDone)...), exitAccepted, renewal.Completed, ""},
		{"waits to be put back", journal(t, begun(t, renewal.StepReseat)...), exitUndecided, renewal.ReseatCard, renewal.StepDone},
		{"planned alone", journal(t, begun(t, renewal.StepPlanned)...), exitUndecided, renewal.Resumable, renewal.StepHold},
		{"stopped in a step, its last line torn", journal(t, append(begun(t, renewal.StepEnrol), entry(renewal.StepWrite, renewal.Intent, ""))...) + `{"version":1,"seq":11,"ren`, exitUndecided, renewal.Resumable, renewal.StepWrite},
		{"the authority decides later", journal(t, append(begun(t, renewal.StepRequest), entry(renewal.StepEnrol, renewal.Intent, ""), pending)...), exitUndecided, renewal.Pending, renewal.StepEnrol},
		{"given up, and begun again", journal(t, append(givenUp, second...)...), exitUndecided, renewal.Resumable, renewal.StepRequest},
		{"given up", journal(t, givenUp...), exitAccepted, renewal.GivenUp, ""},
		{"given up, and not put back", journal(t, givenUp[:len(givenUp)-1]...), exitUndecided, renewal.GivenUp, renewal.StepGivenUp},
		{"an old key that stayed", journal(t, append(begun(t, renewal.StepSwitch), entry(renewal.StepRetire, renewal.Intent, ""), entry(renewal.StepRetire, renewal.Note, "the card cannot destroy the old key"), entry(renewal.StepRetire, renewal.Done, ""))...), exitUndecided, renewal.Resumable, renewal.StepReseat},
		{"nothing", "", exitAccepted, "", ""},
		{"nothing but a torn line", "\x00\x00\x00", exitAccepted, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := f.write("card.jsonl", []byte(c.content))
			d := show(t, file)
			assert.Equal(t, c.code, d.code)
			assert.Empty(t, d.errors)
			printed.WriteString("### " + c.name + ", exit code " + itoa(d.code) + "\n\n" + strings.ReplaceAll(d.out, f.dir+string(filepath.Separator), ""))

			d = show(t, "--json", file)
			assert.Equal(t, c.code, d.code)
			var line struct {
				Version int
				File    string
				Journal *struct {
					Card     string
					Lines    int
					Torn     int64 `json:"torn_bytes"`
					Renewals []struct {
						Renewal string
						Outcome renewal.Outcome
						Step    renewal.Step
						Text    string
						Entries []struct {
							Line int
							Time time.Time
							Step renewal.Step
							Act  renewal.Act
							Text string
						}
					}
				}
			}
			require.NoError(t, json.Unmarshal([]byte(d.out), &line), d.out)
			assert.Equal(t, 1, line.Version)
			assert.Equal(t, file, line.File)
			require.NotNil(t, line.Journal)
			assert.Equal(t, strings.Count(c.content, "\n"), line.Journal.Lines)
			assert.Equal(t, int64(len(c.content)-1-strings.LastIndex(c.content, "\n")), line.Journal.Torn)
			if c.outcome == "" {
				assert.Empty(t, line.Journal.Renewals)
				return
			}
			assert.Equal(t, theCard, line.Journal.Card)
			n := line.Journal.Renewals
			last := n[len(n)-1]
			assert.Equal(t, c.outcome, last.Outcome)
			assert.Equal(t, c.step, last.Step)
			assert.Equal(t, theRenewal, n[0].Renewal)
			assert.Equal(t, begunAt, n[0].Entries[0].Time)
			for _, r := range n {
				assert.NotEmpty(t, r.Text)
				for _, e := range r.Entries {
					assert.NotEmpty(t, e.Text, "%s in plain words", e.Step)
				}
			}
		})
	}
	golden := filepath.Join("testdata", "journals.txt")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(golden, []byte(printed.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), printed.String())
}

func TestTimesOfJournalsAreOfThisComputerToo(t *testing.T) {
	file := newFiles(t).write("card.jsonl", []byte(journal(t, begun(t, renewal.StepPlanned)...)))
	out := showIn(t, "Europe/London", file).out
	assert.Contains(t, out, "begun 2020-09-30 08:15:00 UTC (09:15:00 BST)\n")
	assert.Contains(t, out, "  1 2020-09-30 08:15:00 UTC (09:15:00 BST)  planned  done: ")
	assert.Contains(t, showIn(t, "Pacific/Auckland", file).out, "2020-09-30 08:15:00 UTC (21:15:00 NZDT)")
	assert.Contains(t, showIn(t, "Pacific/Kiritimati", file).out, "2020-09-30 08:15:00 UTC (22:15:00 +14)")
	assert.Contains(t, showIn(t, "Pacific/Honolulu", file).out, "2020-09-30 08:15:00 UTC (2020-09-29 22:15:00 HST)")
}

func TestDamagedJournalsAreNamed(t *testing.T) {
	f := newFiles(t)
	good := journal(t, begun(t, renewal.StepEnrol)...)
	lines := strings.SplitAfter(strings.TrimSuffix(good, "\n"), "\n")
	const moveAway = "move the file away and start the renewal again, or renew at your Registration Authority"
	for _, c := range []struct {
		name, content string
		line          int
		says          []string
	}{
		{"edited", strings.Replace(good, "0123456789", "9876543210", 1), 1, []string{"is damaged or was edited", moveAway, "checksum does not fit"}},
		{"a line removed", lines[0] + strings.Join(lines[2:], "") + "\n", 2, []string{"is damaged or was edited", moveAway, "a line was removed or put in"}},
		{"two intents of one step", journal(t, append(begun(t, renewal.StepHold), entry(renewal.StepHold, renewal.Intent, ""))...), 4, []string{moveAway, "the second intent of step hold"}},
		{"a newer version", good + "\n" + `{"version":2,"seq":11}` + "\n", 10, []string{"is damaged"}},
		{"a newer version in its place", good + `{"version":2,"seq":11}` + "\n", 10, []string{"written by a newer version of this program; go on with that one"}},
		{"of two cards", lines[0] + sealed(t, renewal.JournalEntry{Version: 1, Seq: 2, Renewal: theRenewal, Card: "another", Time: begunAt, Step: renewal.StepHold, Act: renewal.Intent}), 2, []string{"of another card than the lines before", moveAway}},
		{"something else", "Dear support,\n", 1, []string{"is damaged or was edited"}},
		{"a terminal's commands", `{"version":1,"seq":"` + "\x1b[2J" + "\"}\n", 1, []string{"is damaged or was edited"}},
		{"too long", strings.Repeat("x", 16<<20+1), 0, []string{"is longer than 16777216 bytes", moveAway}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := f.write("card.jsonl", []byte(c.content))
			d := show(t, file)
			assert.Equal(t, exitRefused, d.code)
			assert.Empty(t, d.out, "nothing is guessed")
			where := "rxguard: " + file + ": "
			if c.line > 0 {
				where += "line " + itoa(c.line) + ": "
			}
			assert.True(t, strings.HasPrefix(d.errors, where), "%s; wanted %s", d.errors, where)
			assert.Equal(t, 1, strings.Count(d.errors, "\n"), d.errors)
			assert.NotContains(t, d.errors, "\x1b")
			d2 := show(t, "--json", file)
			assert.Equal(t, exitRefused, d2.code)
			assert.Empty(t, d2.errors)
			r := rows(t, d2.out)
			require.Len(t, r, 1)
			require.NotNil(t, r[0].Error)
			assert.Equal(t, "journal", r[0].Error.Kind)
			assert.Equal(t, file, r[0].File)
			for _, says := range c.says {
				assert.Contains(t, d.errors, says)
				assert.Contains(t, r[0].Error.Text, says)
			}
		})
	}
}

func TestJournalsThatCannotBeRead(t *testing.T) {
	f := newFiles(t)
	good := f.write("good.jsonl", []byte(journal(t, begun(t, renewal.StepDone)...)))
	waits := f.write("waits.jsonl", []byte(journal(t, begun(t, renewal.StepKey)...)))
	bad := f.write("bad.jsonl", []byte("no\n"))
	for _, c := range []struct {
		args []string
		says string
		code int
	}{
		{[]string{"renewal"}, "no command; rxguard renewal --help lists them", exitNotRead},
		{[]string{"renewal", "list"}, `unknown command "list" for "rxguard renewal"`, exitNotRead},
		{[]string{"renewal", "show"}, "no FILE; rxguard renewal show --help explains", exitNotRead},
		{[]string{"renewal", "show", ""}, "a FILE is empty", exitNotRead},
		{[]string{"renewal", "show", "--nonsense", good}, "unknown flag: --nonsense; rxguard renewal show --help lists the flags", exitNotRead},
		{[]string{"renewal", "show", filepath.Join(f.dir, "gone.jsonl")}, "gone.jsonl: no such file", exitNotRead},
		{[]string{"renewal", "show", f.dir}, "is a folder, wanted a card's journal", exitNotRead},
		{[]string{"renewal", "show", good, waits}, "", exitUndecided},
		{[]string{"renewal", "show", bad, waits, good}, "bad.jsonl: line 1: ", exitRefused},
		{[]string{"renewal", "show", bad, filepath.Join(f.dir, "gone.jsonl"), good}, "gone.jsonl: ", exitNotRead},
	} {
		d := run(t, c.args...)
		assert.Equal(t, c.code, d.code, "%v", c.args)
		assert.Contains(t, d.errors, c.says)
		if c.args[len(c.args)-1] == good && len(c.args) > 3 && c.code != exitNotRead {
			assert.Contains(t, d.out, "good.jsonl: 1 renewal", "what can be read is told")
		}
	}
	for _, args := range [][]string{{"renewal", "--help"}, {"renewal", "show", "--help"}, {"help", "renewal", "show"}} {
		d := run(t, args...)
		assert.Equal(t, exitAccepted, d.code, "%v", args)
		for _, line := range []string{"Examples:\n", "  0    ", "  1    ", "  2    ", "  3    ", "  130  "} {
			assert.Contains(t, d.out, line, "%v", args)
		}
	}
}

func TestWhatAJournalSaysIsHarmless(t *testing.T) {
	all := begun(t, renewal.StepPlanned)
	all[0].Label, all[0].Serial = "a\x1b[2Jb\u202ec", "1\n2"
	all = append(all, entry(renewal.StepHold, renewal.Note, "\x1b]0;title\a"))
	d := show(t, newFiles(t).write("card.jsonl", []byte(journal(t, all...))))
	assert.Equal(t, exitUndecided, d.code)
	assert.Contains(t, d.out, `serial 1\x0a2, label a\x1b[2Jb\u202ec`)
	assert.NotContains(t, d.out, "\x1b")
}

// A journal that a renewal of a simulated card wrote is read by the description of its
// form alone, and by the command; it holds neither the passcode nor a key.
func TestAJournalOfARealRenewal(t *testing.T) {
	ctx := t.Context()
	now := time.Now()
	kit, err := signingtest.New(signingtest.Config{Dir: t.TempDir(), Passcode: []byte("qz7wxk"), Issued: now.Add(-30 * time.Hour)})
	require.NoError(t, err)
	defer kit.Close()
	doc := notice("of-now", spkiOf(kit.Issuers()[0].RawSubjectPublicKeyInfo), `{"inline": ["00"]}`)
	doc = []byte(strings.Replace(string(doc), `"serials": {"inline": ["00"]}`,
		`"not_before": {"from": "2020-01-01T00:00:00Z", "to": "`+now.Add(-20*time.Hour).UTC().Format(time.RFC3339)+`"}`, 1))
	doc = []byte(strings.Replace(string(doc), `"basis": "serial_list"`, `"basis": "not_before_window"`, 1))
	a, err := advisory.Parse(doc, nil)
	require.NoError(t, err)
	set, err := advisory.NewSet(1, now.Add(-time.Hour), a)
	require.NoError(t, err)
	g, err := guard.New(guard.Config{Advisories: set, Issuers: kit.Issuers()})
	require.NoError(t, err)
	card, err := signing.Open(ctx, signing.Config{Reader: kit.Reader(), PIN: kit.PIN})
	require.NoError(t, err)
	defer card.Close()
	record, err := signing.OpenRecord(filepath.Join(t.TempDir(), "decisions.jsonl"))
	require.NoError(t, err)
	defer record.Close()
	server, err := kit.StartEnrolment()
	require.NoError(t, err)
	client, err := est.New(est.Config{URL: server.URL, Label: server.Label, Roots: server.Roots})
	require.NoError(t, err)
	r, err := renewal.New(renewal.Config{Card: card, Guard: g, Recorder: record, Enroller: client})
	require.NoError(t, err)
	res, err := r.Renew(ctx, nil)
	require.NoError(t, err)
	require.Equal(t, renewal.ReseatCard, res.Outcome)

	found, err := filepath.Glob(filepath.Join(kit.Dir(), "state", "journals", "*.jsonl"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	b, err := os.ReadFile(found[0])
	require.NoError(t, err)
	assert.NotContains(t, string(b), "qz7wxk")
	assert.NotContains(t, string(b), "PRIVATE")
	lines := 0
	for line := range strings.Lines(string(b)) {
		lines++
		var e struct {
			Version, Seq int
			Card, Sum    string
		}
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		assert.Equal(t, 1, e.Version)
		assert.Equal(t, lines, e.Seq)
		assert.Equal(t, e.Card+".jsonl", filepath.Base(found[0]))
		bare := strings.TrimSuffix(line, `"`+e.Sum+"\"}\n") + `""}`
		sum := sha256.Sum256([]byte(bare))
		assert.Equal(t, e.Sum, hex.EncodeToString(sum[:])[:32], "line %d", lines)
	}
	d := run(t, "renewal", "show", found[0])
	assert.Equal(t, exitUndecided, d.code, d.errors)
	assert.Contains(t, d.out, "It waits to be taken out and put back in.")
	assert.Contains(t, d.out, "serial number "+res.New.Serial+" (hexadecimal)")
}

// spkiOf is how a notice names an issuer's key.
func spkiOf(spki []byte) string {
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}
