package renewal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/rxguard/rxguard/internal/state"
)

// Step is a step of a renewal, in the order of Steps.
type Step string

// The steps. A journal holds an intent before each act and a done after it.
const (
	StepPlanned Step = "planned"  // the plan is on disk; nothing was touched
	StepHold    Step = "hold"     // the card signs nothing from here on
	StepReplace Step = "replace"  // the old pair given up for the new key, where there is no room for both
	StepKey     Step = "key"      // a key pair in a container of its own
	StepRequest Step = "request"  // the request, signed by the new key
	StepEnrol   Step = "enrol"    // the authority's certificate, judged
	StepWrite   Step = "write"    // the certificate beside the new key, read back
	StepProve   Step = "prove"    // a challenge, signed by the new key and verified
	StepConfirm Step = "confirm"  // the authority told, where it waits for that
	StepSwitch  Step = "switch"   // the old certificate removed: the new pair signs
	StepRetire  Step = "retire"   // the old private key destroyed
	StepReseat  Step = "reseat"   // the card free to be taken out and put back
	StepDone    Step = "done"     // it was taken out and put back
	StepGivenUp Step = "given_up" // ended without a new certificate
)

// Steps are the steps of a renewal in their order. One that gives up the old pair
// before there is a new certificate has StepReplace in the place of StepKey, and neither
// StepSwitch nor StepRetire.
var Steps = []Step{StepPlanned, StepHold, StepKey, StepRequest, StepEnrol, StepWrite, StepProve, StepConfirm, StepSwitch, StepRetire, StepReseat, StepDone}

var stepsOver = []Step{StepPlanned, StepHold, StepReplace, StepRequest, StepEnrol, StepWrite, StepProve, StepConfirm, StepReseat, StepDone}

// stepsOf are the steps of a renewal that replaces the old pair, or makes the new one
// beside it.
func stepsOf(replaces bool) []Step {
	if replaces {
		return stepsOver
	}
	return Steps
}

// Act says which half of a step a journal entry is.
type Act string

// The acts.
const (
	Intent Act = "intent" // about to be done
	Done   Act = "done"   // was done and read back
	Note   Act = "note"   // something to remember: a 202, a stray key
)

// JournalEntry is one line of a journal, whose form the package comment describes. It
// holds nothing secret: a request and certificates are public. Instants are UTC.
type JournalEntry struct {
	Version int       `json:"version"`
	Seq     int       `json:"seq"`     // from 1, in the file
	Renewal string    `json:"renewal"` // id of the renewal
	Card    string    `json:"card"`    // digest of manufacturer, model and serial
	Time    time.Time `json:"time"`
	Step    Step      `json:"step"`
	Act     Act       `json:"act"`

	Serial string `json:"serial,omitempty"` // planned: of the token
	Label  string `json:"label,omitempty"`  // planned: of the token

	OldID          []byte `json:"old_id,omitempty"`          // planned: CKA_ID of the pair to renew
	OldCertificate string `json:"old_certificate,omitempty"` // planned: its SHA-256
	NewID          []byte `json:"new_id,omitempty"`          // planned: CKA_ID of the new container
	// OldKey is set where the new pair takes the place of the old one, in the same
	// container: the SHA-256 of the old key's SubjectPublicKeyInfo (RFC 5280 4.1.2.7).
	OldKey   string `json:"old_key,omitempty"`   // planned
	NewLabel string `json:"new_label,omitempty"` // planned

	CSR         []byte    `json:"csr,omitempty"`         // request: DER
	Certificate []byte    `json:"certificate,omitempty"` // enrol: DER
	Chain       [][]byte  `json:"chain,omitempty"`       // enrol: DER
	AskFrom     time.Time `json:"ask_from,omitzero"`     // enrol note: the authority wants no repetition before
	Text        string    `json:"text,omitempty"`        // note, given_up: why

	// Sum is the first half of the SHA-256, in hexadecimal, of the line as it is
	// with an empty Sum.
	Sum string `json:"sum"`
}

const (
	journalVersion = 1
	maxJournal     = 16 << 20 // bytes of a journal: of about a thousand renewals
)

// JournalError says what is wrong with a journal and where.
type JournalError struct {
	Path    string
	Line    int // from 1; 0: the file as a whole
	Problem string
	Err     error
}

// Error names the file, the line, the problem and the way out.
func (e *JournalError) Error() string {
	s := "renewal: journal " + e.Path
	if e.Line > 0 {
		s += fmt.Sprintf(": line %d", e.Line)
	}
	s += ": " + e.Problem
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *JournalError) Unwrap() error { return e.Err }

// journal is the journal of one card: an append-only file of JSON lines, synced
// after each. It is a hint; the card is the truth for keys, the authority for what
// was issued.
type journal struct {
	path    string
	entries []JournalEntry
	size    int64 // of the whole lines
}

func journalPath(dir, card string) string { return filepath.Join(dir, "journals", card+".jsonl") }

// openJournal reads a card's journal; an absent file is an empty one. A torn last
// line was never acknowledged and is left out; anything else that does not read
// stops the renewal, because a guess could destroy the wrong key.
func openJournal(dir, card string) (*journal, error) {
	j := &journal{path: journalPath(dir, card)}
	es, size, err := ReadJournal(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, err
	}
	if len(es) > 0 && es[0].Card != card {
		return nil, &JournalError{Path: j.path, Line: 1, Problem: "is of another card" + wayOut}
	}
	j.entries, j.size = es, size
	return j, nil
}

// wayOut is what to do about a journal that cannot be gone on with. A card whose
// journal was moved away can be looked at afresh: see orphaned.
const wayOut = "; move the file away and start the renewal again, or renew at your Registration Authority"

// ReadJournal reads a journal file. It returns the entries of its whole lines and
// the bytes that they take; what follows them was torn by a crash. Errors are a
// *JournalError, which wraps fs.ErrNotExist where there is no such file.
func ReadJournal(path string) ([]JournalEntry, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, &JournalError{Path: path, Problem: "cannot be read", Err: err}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxJournal+1))
	if err != nil {
		return nil, 0, &JournalError{Path: path, Problem: "cannot be read", Err: err}
	}
	return parseJournal(path, b)
}

func parseJournal(path string, b []byte) ([]JournalEntry, int64, error) {
	if len(b) > maxJournal {
		return nil, 0, &JournalError{Path: path, Problem: fmt.Sprintf("is longer than %d bytes%s", maxJournal, wayOut)}
	}
	var out []JournalEntry
	var p *progress // of the last renewal in out
	var size int64
	for len(b) > 0 {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		// A power loss can leave a last line whose length is on disk and whose
		// bytes are not; no line that was written holds a zero byte.
		if !whole || len(rest) == 0 && bytes.IndexByte(line, 0) >= 0 {
			break
		}
		e, err := parseEntry(line)
		if err == nil {
			err = follows(out, p, e)
		}
		if err != nil {
			problem := "is damaged or was edited" + wayOut
			if errors.Is(err, errNewer) {
				problem = "was written by a newer version of this program; go on with that one"
			}
			return nil, 0, &JournalError{Path: path, Line: len(out) + 1, Problem: problem, Err: err}
		}
		out, p = append(out, e), p.with(e)
		size += int64(len(line)) + 1
		b = rest
	}
	return out, size, nil
}

var errNewer = errors.New("its form is not known here")

// parseEntry reads a line, which must be byte for byte what this program would
// write: a field more, another order or a value changed shows.
func parseEntry(line []byte) (JournalEntry, error) {
	var v struct{ Version int }
	if err := json.Unmarshal(line, &v); err != nil {
		return JournalEntry{}, err
	}
	if v.Version > journalVersion {
		return JournalEntry{}, fmt.Errorf("%w: form %d, wanted %d", errNewer, v.Version, journalVersion)
	}
	var e JournalEntry
	if err := json.Unmarshal(line, &e); err != nil {
		return JournalEntry{}, err
	}
	if b, err := json.Marshal(e); err != nil || !bytes.Equal(b, line) {
		return JournalEntry{}, errors.New("it is not in the form that this program writes")
	}
	if sumOf(e) != e.Sum {
		return JournalEntry{}, errors.New("its checksum does not fit")
	}
	return e, nil
}

// sumOf is the checksum of an entry.
func sumOf(e JournalEntry) string {
	e.Sum = ""
	b, err := json.Marshal(e)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// follows tells whether an entry can come after the others, of which p is the last
// renewal: lines are numbered, one renewal follows the other, and no step is done twice.
func follows(before []JournalEntry, p *progress, e JournalEntry) error {
	switch {
	case e.Version != journalVersion:
		return fmt.Errorf("its form is %d, wanted %d", e.Version, journalVersion)
	case e.Seq != len(before)+1:
		return fmt.Errorf("it is numbered %d, wanted %d: a line was removed or put in", e.Seq, len(before)+1)
	case len(before) > 0 && e.Card != before[0].Card:
		return errors.New("it is of another card than the lines before")
	case e.Step != StepGivenUp && e.Step != StepReplace && !slices.Contains(Steps, e.Step):
		return fmt.Errorf("its step is %q, wanted one of %v", e.Step, Steps)
	case e.Act != Intent && e.Act != Done && e.Act != Note:
		return fmt.Errorf("its act is %q, wanted %s, %s or %s", e.Act, Intent, Done, Note)
	case e.Step == StepPlanned:
		switch {
		case e.Act != Done || e.Renewal == "" || len(e.OldID) == 0 || len(e.NewID) == 0 || e.OldCertificate == "":
			return errors.New("it begins a renewal without saying of what")
		case bytes.Equal(e.OldID, e.NewID) && e.OldKey == "":
			return errors.New("it puts the new key in the container of the old one without saying so")
		case !bytes.Equal(e.OldID, e.NewID) && e.OldKey != "":
			return errors.New("it says that the new key takes the place of the old one, and names another container")
		case p != nil && !p.finished:
			return errors.New("it begins a renewal before the last one ended")
		}
		return nil
	case p == nil || p.finished || e.Renewal != p.id:
		return errors.New("it is of a renewal that was not begun")
	case e.Step != StepGivenUp && !slices.Contains(p.steps(), e.Step):
		return fmt.Errorf("step %s is none of this renewal", e.Step)
	case p.done[e.Step], e.Act == Intent && p.begun[e.Step]:
		return fmt.Errorf("it is the second %s of step %s", e.Act, e.Step)
	case e.Act == Done && !p.begun[e.Step] && e.Step != StepDone:
		return fmt.Errorf("step %s is done, but was not begun", e.Step)
	case e.Act == Done && e.Step == StepRequest && len(e.CSR) == 0,
		e.Act == Done && e.Step == StepEnrol && len(e.Certificate) == 0:
		return fmt.Errorf("step %s is done, but what came of it is missing", e.Step)
	}
	return nil
}

// add appends an entry durably: when it returns nil, the entry survives a crash.
func (j *journal) add(e JournalEntry) error {
	e.Version, e.Seq, e.Time = journalVersion, len(j.entries)+1, e.Time.UTC().Truncate(time.Millisecond)
	e.Sum = sumOf(e)
	b, err := json.Marshal(e)
	if err == nil {
		err = follows(j.entries, j.last(), e)
	}
	if err != nil {
		return &JournalError{Path: j.path, Line: e.Seq, Problem: "was not written", Err: err}
	}
	dir := filepath.Dir(j.path)
	const stopped = "; nothing further was done to the card: make room, or make the folder writable for those who prescribe on this machine"
	if err := state.At(filepath.Dir(dir)).Make(filepath.Base(dir)); err != nil {
		return &JournalError{Path: j.path, Problem: "has no folder, and it cannot be made" + stopped, Err: err}
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return &JournalError{Path: j.path, Problem: "cannot be written" + stopped, Err: err}
	}
	defer f.Close()
	if len(j.entries) == 0 {
		_ = os.Chmod(j.path, 0o666) // another person of this machine may go on with it, whatever the umask
	}
	// What follows the whole lines was torn by a crash.
	err = f.Truncate(j.size)
	if err == nil {
		_, err = f.WriteAt(append(b, '\n'), j.size)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil && len(j.entries) == 0 {
		err = state.SyncDir(dir)
	}
	if err != nil {
		_ = f.Truncate(j.size)
		return &JournalError{Path: j.path, Problem: "cannot be written" + stopped, Err: err}
	}
	j.size += int64(len(b)) + 1
	j.entries = append(j.entries, e)
	return nil
}

// progress is what a journal says about its last renewal.
type progress struct {
	id       string
	plan     JournalEntry // the planned entry
	begun    map[Step]bool
	done     map[Step]bool
	csr      []byte
	cert     []byte
	askFrom  time.Time // of a 202
	answered bool      // of the authority: its last answer is known
	finished bool      // done or given up
	givenUp  bool      // given up, and perhaps not yet put back
	why      string    // it was given up
	keptKey  bool      // the old key could not be destroyed
}

// last replays the journal's last renewal; nil when there is none.
func (j *journal) last() *progress {
	first := len(j.entries) - 1
	for first >= 0 && j.entries[first].Step != StepPlanned {
		first--
	}
	if first < 0 {
		return nil
	}
	var p *progress
	for _, e := range j.entries[first:] {
		p = p.with(e)
	}
	return p
}

// with is what is known after one entry more. A plan begins anew; everything else is
// added to p.
func (p *progress) with(e JournalEntry) *progress {
	if e.Step == StepPlanned {
		p = &progress{id: e.Renewal, plan: e, begun: map[Step]bool{}, done: map[Step]bool{}}
	}
	switch e.Act {
	case Intent:
		p.begun[e.Step] = true
	case Done:
		p.begun[e.Step], p.done[e.Step] = true, true
	}
	switch {
	case e.Step == StepRequest && e.Act == Done:
		p.csr = e.CSR
	case e.Step == StepEnrol && e.Act == Done:
		p.cert = e.Certificate
	case e.Step == StepEnrol && e.Act == Note:
		p.askFrom, p.answered = e.AskFrom, !e.AskFrom.IsZero()
	case e.Step == StepRetire && e.Act == Note:
		p.keptKey = true
	case e.Step == StepGivenUp:
		p.givenUp, p.why = true, e.Text
	}
	p.finished = p.done[StepDone] || p.done[StepGivenUp]
	return p
}

// replaces tells whether the new pair takes the place of the old one.
func (p *progress) replaces() bool { return p.plan.OldKey != "" }

// steps are those of this renewal in their order.
func (p *progress) steps() []Step { return stepsOf(p.replaces()) }

// hasNewKey tells whether the new key was made and read back.
func (p *progress) hasNewKey() bool { return p.done[StepKey] || p.done[StepReplace] }

// next is the first step that is not done; StepDone when only the re-seat is left.
func (p *progress) next() Step {
	if p.givenUp {
		return StepGivenUp
	}
	for _, s := range p.steps() {
		if !p.done[s] {
			return s
		}
	}
	return StepDone
}

// reseated tells whether the renewal waits for nothing but its last line: it gave
// the card free for its re-seat, and the hold has been ended since.
func (p *progress) reseated(hold *state.Hold) bool {
	return p != nil && !p.finished && !p.givenUp && p.begun[StepReseat] && hold == nil
}
