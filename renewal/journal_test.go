package renewal

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/testcard"
)

// lines are those of the journal of a finished renewal.
func (w *world) lines() (path string, lines []string) {
	w.t.Helper()
	path = journalPath(w.dir.Path(), w.id)
	b, err := os.ReadFile(path)
	require.NoError(w.t, err)
	return path, strings.SplitAfter(strings.TrimSuffix(string(b), "\n"), "\n")
}

func TestAJournalThatCannotBeGoneOnWithIsNamed(t *testing.T) {
	w := newWorld(t)
	w.mustBegin(StepKey)
	path, lines := w.lines()
	whole := strings.Join(lines, "") + "\n"
	edit := func(n int, old, new string) string {
		l := append([]string{}, lines...)
		require.Contains(t, l[n-1], old)
		l[n-1] = strings.Replace(l[n-1], old, new, 1)
		return strings.Join(l, "") + "\n"
	}
	// resealed gives an edited line a checksum that fits.
	resealed := func(n int, change func(*JournalEntry)) string {
		var e JournalEntry
		require.NoError(t, json.Unmarshal([]byte(lines[n-1]), &e))
		change(&e)
		e.Sum = sumOf(e)
		b, err := json.Marshal(e)
		require.NoError(t, err)
		return strings.Join(lines[:n-1], "") + string(b) + "\n" + strings.Join(lines[n:], "")
	}
	for _, x := range []struct {
		name, content string
		line          int
		says          string
	}{
		{"not JSON", "no\n" + whole, 1, "damaged"},
		{"edited", edit(1, "c0ffee", "c0ffff"), 1, "checksum"},
		{"a field added", edit(2, `"sum"`, `"more":1,"sum"`), 2, "not in the form"},
		{"a field twice", edit(2, `"act":"intent"`, `"act":"done","act":"intent"`), 2, "not in the form"},
		{"white space", edit(2, `"act":`, `"act": `), 2, "not in the form"},
		{"text after the object", edit(2, "}\n", "} x\n"), 2, "damaged"},
		{"an empty line", edit(2, "{", "\n{"), 2, "damaged"},
		{"a line removed", strings.Join(append(append([]string{}, lines[:1]...), lines[2:]...), "") + "\n", 2, "removed or put in"},
		{"a line twice", strings.Join(append(append([]string{}, lines[:2]...), lines[1:]...), "") + "\n", 3, "removed or put in"},
		{"the first line removed", strings.Join(lines[1:], "") + "\n", 1, "removed or put in"},
		{"a newer version", edit(2, `"version":1`, `"version":2`), 2, "newer version"},
		{"a newer version of another shape", strings.Join(lines[:1], "") + `{"version":9,"seq":"two"}` + "\n", 2, "newer version"},
		{"no version", edit(2, `"version":1`, `"version":0`), 2, "damaged"},
		{"a line of another card", resealed(2, func(e *JournalEntry) { e.Card = "another" }), 2, "another card"},
		{"a line of another renewal", resealed(2, func(e *JournalEntry) { e.Renewal = "another" }), 2, "not begun"},
		{"a step that does not exist", resealed(2, func(e *JournalEntry) { e.Step = "guess" }), 2, "wanted one of"},
		{"an act that does not exist", resealed(2, func(e *JournalEntry) { e.Act = "guess" }), 2, "its act"},
		{"two entries for one step", resealed(3, func(e *JournalEntry) { e.Act = Intent }), 3, "second intent of step hold"},
		{"done but not begun", resealed(2, func(e *JournalEntry) { e.Act = Done }), 2, "was not begun"},
		{"a plan of nothing", resealed(1, func(e *JournalEntry) { e.OldCertificate = "" }), 1, "without saying of what"},
		{"a plan over the old key", resealed(1, func(e *JournalEntry) { e.NewID = e.OldID }), 1, "container of the old one"},
		{"a new plan before the end", resealed(2, func(e *JournalEntry) { *e = first(t, lines[0]); e.Seq = 2; e.Renewal = "another" }), 2, "before the last one ended"},
		{"too long", strings.Repeat("x", maxJournal+1), 0, "longer than"},
	} {
		t.Run(x.name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(path, []byte(x.content), 0o600))
			_, _, err := ReadJournal(path)
			var je *JournalError
			require.ErrorAs(t, err, &je)
			assert.Equal(t, x.line, je.Line)
			assert.Equal(t, path, je.Path)
			assert.ErrorContains(t, err, x.says)
			if je.Line > 0 {
				assert.Regexp(t, "move the file away|go on with that one", err.Error())
			}

			// Nothing is guessed, asked or touched.
			before := len(w.sim.Trace())
			w.person.take()
			res, err := w.renewer().Renew(t.Context(), nil)
			e := ends(t, res, err, Refusal, "cannot be read")
			require.ErrorAs(t, e, &je)
			_, err = w.renewer().Plan(t.Context())
			require.ErrorAs(t, err, &je)
			res, err = w.renewer().Abandon(t.Context())
			ends(t, res, err, Refusal, "cannot be read")
			assert.Empty(t, w.person.take())
			for _, e := range w.sim.Trace()[before:] {
				assert.NotContains(t, changes, e.Op)
			}
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, x.content, string(after), "the evidence is left as it is")
		})
	}
	require.NoError(t, os.WriteFile(path, []byte(whole), 0o600))
	w.mustRenew()
}

func first(t *testing.T, line string) JournalEntry {
	t.Helper()
	var e JournalEntry
	require.NoError(t, json.Unmarshal([]byte(line), &e))
	return e
}

func TestAJournalOfAnotherCard(t *testing.T) {
	w := newWorld(t)
	w.mustBegin(StepHold)
	path, _ := w.lines()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	other := newWorld(t, func(u *setUp) { u.dir = w.dir.Path(); u.card.Serial = "other" })
	require.NoError(t, os.WriteFile(journalPath(w.dir.Path(), other.id), b, 0o600))
	res, err := other.renewer().Renew(t.Context(), nil)
	e := ends(t, res, err, Refusal, "cannot be read")
	assert.ErrorContains(t, e, "of another card")
}

func TestATornLastLineIsOverwritten(t *testing.T) {
	for _, torn := range []string{
		`{"version":1,"seq":4,"ren`,
		"\x00\x00\x00\x00",
		`{"version":1,"text":"` + strings.Repeat("x", 1<<16),
		"{\"version\":1,\"seq\":4,\x00\x00\x00\x00}\n", // its length was on disk, its bytes were not
	} {
		w := newWorld(t)
		w.mustBegin(StepKey)
		path, _ := w.lines()
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteString(torn)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		es, size, err := ReadJournal(path)
		require.NoError(t, err)
		fi, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, fi.Size(), size+int64(len(torn)))
		assert.Equal(t, StepKey, es[len(es)-1].Step)

		w.restart()
		w.mustRenew()
		assert.Len(t, w.ops(testcard.OpGenerate), 1)
		es = w.journal()
		assert.Equal(t, StepReseat, es[len(es)-1].Step)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.NotContains(t, string(b), "\x00")
		assert.True(t, bytes.HasSuffix(b, []byte("}\n")))
	}
}

func TestTheJournalIsReadableAndHoldsWhatIsNeeded(t *testing.T) {
	w := newWorld(t)
	w.mustRenew()
	es := w.journal()
	var steps []string
	for i, e := range es {
		assert.Equal(t, 1, e.Version)
		assert.Equal(t, i+1, e.Seq)
		assert.Equal(t, w.id, e.Card)
		assert.False(t, e.Time.IsZero())
		steps = append(steps, string(e.Step)+" "+string(e.Act))
	}
	assert.Equal(t, []string{"planned done", "hold intent", "hold done", "key intent", "key done", "request intent", "request done",
		"enrol intent", "enrol done", "write intent", "write done", "prove intent", "prove done", "confirm intent", "confirm done",
		"switch intent", "switch done", "retire intent", "retire done", "reseat intent", "reseat done"}, steps)
	assert.Equal(t, testcard.SigningID(), es[0].OldID)
	assert.Equal(t, w.ca.requests[0].CSR, es[6].CSR)
	assert.Equal(t, w.ca.issued[0].Raw, es[8].Certificate)

	_, _, err := ReadJournal(filepath.Join(t.TempDir(), "none"))
	var je *JournalError
	require.ErrorAs(t, err, &je)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, _, err = ReadJournal(t.TempDir())
	require.ErrorAs(t, err, &je)
}

func TestAnEntryThatDoesNotFollowIsNotWritten(t *testing.T) {
	j := &journal{path: journalPath(t.TempDir(), "card")}
	plan := JournalEntry{Renewal: "r", Card: "card", Step: StepPlanned, Act: Done, OldID: []byte{1}, NewID: []byte{2}, OldCertificate: "x"}
	require.NoError(t, j.add(plan))
	require.ErrorContains(t, j.add(plan), "before the last one ended")
	require.ErrorContains(t, j.add(JournalEntry{Renewal: "r", Card: "card", Step: StepEnrol, Act: Done}), "was not begun")
	require.NoError(t, j.add(JournalEntry{Renewal: "r", Card: "card", Step: StepEnrol, Act: Intent}))
	require.ErrorContains(t, j.add(JournalEntry{Renewal: "r", Card: "card", Step: StepEnrol, Act: Done}), "is missing")
	es, _, err := ReadJournal(j.path)
	require.NoError(t, err)
	assert.Len(t, es, 2)
}

// FuzzParseJournal: what is read is written again, byte for byte.
func FuzzParseJournal(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		es, size, err := parseJournal("journal", b)
		if err != nil {
			var je *JournalError
			if !errors.As(err, &je) || es != nil || size != 0 {
				t.Fatalf("%v, with %d entries", err, len(es))
			}
			return
		}
		var again bytes.Buffer
		for _, e := range es {
			line, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			again.Write(append(line, '\n'))
		}
		if !bytes.Equal(again.Bytes(), b[:size]) {
			t.Fatalf("read and written again:\n%s\nwanted\n%s", again.Bytes(), b[:size])
		}
		(&journal{entries: es}).last()
	})
}
