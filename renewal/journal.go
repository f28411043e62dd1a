package renewal

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rxguard/rxguard/internal/state"
)

// Step is a step of a renewal, in the order of Steps.
type Step string

// The steps. A journal holds an intent before each act and a done after it.
const (
	StepPlanned Step = "planned" // the plan is on disk; nothing was touched
	StepHold    Step = "hold"    // the card signs nothing from here on
	StepKey     Step = "key"     // a key pair in a container of its own
	StepRequest Step = "request" // the request, signed by the new key
	StepEnrol   Step = "enrol"   // the authority's certificate, judged
	StepWrite   Step = "write"   // the certificate beside the new key, read back
	StepProve   Step = "prove"   // a challenge, signed by the new key and verified
	StepConfirm Step = "confirm" // the authority told, where it waits for that
	StepSwitch  Step = "switch"  // the old certificate removed: the new pair signs
	StepRetire  Step = "retire"  // the old private key destroyed
	StepReseat  Step = "reseat"  // waiting for the card to be taken out and put back
	StepDone    Step = "done"
	StepGivenUp Step = "given_up" // ended without a new certificate
)

// Steps are the steps of a renewal in their order.
var Steps = []Step{StepPlanned, StepHold, StepKey, StepRequest, StepEnrol, StepWrite, StepProve, StepConfirm, StepSwitch, StepRetire, StepReseat, StepDone}

// Act says which half of a step a journal entry is.
type Act string

// The acts.
const (
	Intent Act = "intent" // about to be done
	Done   Act = "done"   // was done and read back
	Note   Act = "note"   // something to remember: a 202, a stray key
)

// JournalEntry is one line of a journal. It holds nothing secret: a request and
// certificates are public. Instants are UTC.
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
	NewLabel       string `json:"new_label,omitempty"`       // planned

	CSR         []byte    `json:"csr,omitempty"`         // request: DER
	Certificate []byte    `json:"certificate,omitempty"` // enrol: DER
	Chain       [][]byte  `json:"chain,omitempty"`       // enrol: DER
	NotBefore   time.Time `json:"ask_from,omitzero"`     // enrol note: the authority wants no repetition before
	Text        string    `json:"text,omitempty"`        // note, given_up: why

	// Sum is the first half of the SHA-256 of the line without it.
	Sum string `json:"sum"`
}

const journalVersion = 1

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
	for i, e := range es {
		if e.Card != card {
			return nil, &JournalError{Path: j.path, Line: i + 1, Problem: "is of another card; move the file away and contact your IT support"}
		}
	}
	j.entries, j.size = es, size
	return j, nil
}

// ReadJournal reads a journal file. It returns the entries of its whole lines and
// the bytes that they take. Errors are a *JournalError.
func ReadJournal(path string) ([]JournalEntry, int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, &JournalError{Path: path, Problem: "cannot be read", Err: err}
	}
	return parseJournal(path, b)
}

func parseJournal(path string, b []byte) ([]JournalEntry, int64, error) {
	var out []JournalEntry
	var size int64
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	sc.Split(wholeLines)
	for sc.Scan() {
		line := sc.Bytes()
		n := len(out) + 1
		e, err := parseEntry(line)
		if err != nil {
			return nil, 0, &JournalError{Path: path, Line: n, Err: err,
				Problem: "is damaged or was edited; move the file away, then renew at your Registration Authority or start again"}
		}
		if e.Version > journalVersion {
			return nil, 0, &JournalError{Path: path, Line: n,
				Problem: fmt.Sprintf("was written by a newer version of this program (form %d, this one knows %d); go on with that program", e.Version, journalVersion)}
		}
		if e.Seq != n {
			return nil, 0, &JournalError{Path: path, Line: n,
				Problem: fmt.Sprintf("is numbered %d: a line was removed or put in; move the file away, then start again", e.Seq)}
		}
		out = append(out, e)
		size += int64(len(line)) + 1
	}
	if err := sc.Err(); err != nil {
		return nil, 0, &JournalError{Path: path, Line: len(out) + 1, Problem: "cannot be read", Err: err}
	}
	return out, size, nil
}

// wholeLines splits at line feeds and leaves out what follows the last one.
func wholeLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF {
		return len(data), nil, nil
	}
	return 0, nil, nil
}

func parseEntry(line []byte) (JournalEntry, error) {
	var e JournalEntry
	dec := json.NewDecoder(bytes.NewReader(line))
	if err := dec.Decode(&e); err != nil {
		return e, err
	}
	sum := e.Sum
	e.Sum = ""
	if e.Version <= journalVersion && sumOf(e) != sum {
		return e, errors.New("its checksum does not fit")
	}
	e.Sum = sum
	return e, nil
}

// sumOf is the checksum of an entry whose Sum is empty.
func sumOf(e JournalEntry) string {
	b, err := json.Marshal(e)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// add appends an entry durably: when it returns nil, the entry survives a crash.
func (j *journal) add(e JournalEntry) error {
	e.Version, e.Seq, e.Time = journalVersion, len(j.entries)+1, e.Time.UTC().Truncate(time.Millisecond)
	e.Sum = ""
	e.Sum = sumOf(e)
	b, err := json.Marshal(e)
	if err != nil {
		return &JournalError{Path: j.path, Problem: "entry cannot be written", Err: err}
	}
	dir := filepath.Dir(j.path)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return &JournalError{Path: j.path, Problem: "its folder cannot be made; nothing further was done to the card", Err: err}
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return &JournalError{Path: j.path, Problem: "cannot be written; nothing further was done to the card", Err: err}
	}
	defer f.Close()
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
		return &JournalError{Path: j.path, Problem: "cannot be written; nothing further was done to the card", Err: err}
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
	chain    [][]byte
	askFrom  time.Time // of a 202
	finished bool      // done or given up
	givenUp  bool      // given up, and perhaps not yet re-seated
	why      string
	keptKey  bool // the old key could not be destroyed
}

// last replays the journal's last renewal; nil when there is none.
func (j *journal) last() *progress {
	var p *progress
	for _, e := range j.entries {
		if e.Step == StepPlanned && e.Act == Done {
			p = &progress{id: e.Renewal, plan: e, begun: map[Step]bool{}, done: map[Step]bool{}}
		}
		if p == nil || e.Renewal != p.id {
			continue
		}
		switch e.Act {
		case Intent:
			p.begun[e.Step] = true
		case Done:
			p.begun[e.Step], p.done[e.Step] = true, true
		case Note:
			if e.Step == StepEnrol {
				p.askFrom = e.NotBefore
			}
			if e.Step == StepRetire {
				p.keptKey = true
			}
		}
		switch {
		case e.Step == StepRequest && e.Act == Done:
			p.csr = e.CSR
		case e.Step == StepEnrol && e.Act == Done:
			p.cert, p.chain = e.Certificate, e.Chain
		case e.Step == StepGivenUp && e.Act == Intent:
			p.givenUp, p.why = true, e.Text
		case e.Step == StepDone, e.Step == StepGivenUp && e.Act == Done:
			p.finished = true
		}
	}
	return p
}
