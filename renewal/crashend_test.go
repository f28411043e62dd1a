package renewal

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/state"
	"github.com/rxguard/rxguard/internal/testcard"
)

// secrets looks for the passcode and for private keys in every file and record.
func (r *rig) secrets() {
	look := func(where string, b []byte) {
		for _, n := range needles(len(r.generated)) {
			if bytes.Contains(b, n.bytes) {
				r.violated("%s is in %s", n.name, where)
			}
		}
		if inBase64(b, []byte(thePIN)) {
			r.violated("the passcode in base64 is in %s", where)
		}
	}
	require.NoError(r.t, filepath.WalkDir(r.dir.Path(), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
			return nil
		}
		b, rerr := os.ReadFile(path)
		look(path, b)
		return errors.Join(err, rerr)
	}))
	b, err := json.Marshal(r.rec.entries)
	require.NoError(r.t, err)
	look("the decision record", b)
}

// inBase64 tells whether a secret is in something that may be base64, from whichever of
// its characters it is decoded. What a short secret looks like there is in every other
// certificate by chance.
func inBase64(b, secret []byte) bool {
	const other = "+/"
	runs := bytes.FieldsFunc(b, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && !strings.ContainsRune(other, c)
	})
	for _, run := range runs {
		for from := range min(4, len(run)) {
			raw, err := base64.RawStdEncoding.DecodeString(string(run[from : from+(len(run)-from)/4*4]))
			if err == nil && bytes.Contains(raw, secret) {
				return true
			}
		}
	}
	return false
}

type needle struct {
	name  string
	bytes []byte
}

var soughtFor sync.Map

// needles are the secrets of a case in which so many keys were made, as they would
// stand in a file.
func needles(made int) []needle {
	if l, ok := soughtFor.Load(made); ok {
		return l.([]needle)
	}
	list := []needle{{"the passcode", []byte(thePIN)}, {"the passcode in hexadecimal", []byte(hex.EncodeToString([]byte(thePIN)))}}
	wherever := func(name string, secret []byte) { // base64 depends on where the bytes stand
		for at := range 3 {
			list = append(list, needle{name + " in base64", []byte(base64.RawStdEncoding.EncodeToString(secret[at : at+(len(secret)-at)/3*3]))})
		}
	}
	source := testcard.CachedKeys()
	for i := range 4 + made {
		k, err := source(2048)
		if err != nil {
			panic(err)
		}
		for name, n := range map[string][]byte{
			"d": k.D.Bytes(), "p": k.Primes[0].Bytes(), "q": k.Primes[1].Bytes(),
			"dp": k.Precomputed.Dp.Bytes(), "dq": k.Precomputed.Dq.Bytes(), "qinv": k.Precomputed.Qinv.Bytes(),
		} {
			name, part := fmt.Sprintf("%s of key %d", name, i), n[8:40]
			list = append(list, needle{name, part}, needle{name + " in hexadecimal", []byte(hex.EncodeToString(part))})
			wherever(name, part)
		}
	}
	soughtFor.Store(made, list)
	return list
}

// The end states of a renewal.
const (
	renewedEnd = "renewed: the new pair alone, signs"
	oldEnd     = "given up: the old pair alone, refused as affected"
	newLate    = "too late: the new pair alone, refused as expired"
	oldLate    = "too late: the old pair alone, refused as expired"
	personEnd  = "Registration Authority: renewed in person, after a yes to giving up the old pair"
	raEnd      = "Registration Authority: no pair, on a hold that says so, after a yes to giving up the old one"
)

// end asserts that the card is in exactly one of the end states, and says in which. It is
// on no hold, unless it has no pair any more.
func (r *rig) end() string {
	r.secrets()
	r.stops()
	all, last := r.look(), r.lastRenewal()
	require.Len(r.t, all, 1, "one pair alone is on the card")
	var p pair
	for _, p = range all {
		if r.over && p.cert == nil {
			h := r.hold()
			require.True(r.t, h != nil && h.Phase == state.Reseat && last.finished && last.givenUp)
			v, signed := r.stranger()
			require.False(r.t, signed || v.Decision.Permits())
			return raEnd
		}
		require.True(r.t, p.key && p.cert != nil, "the one pair on the card is whole")
	}
	_, there := all[string(testcard.SigningID())]
	old := p.cert.Equal(r.old)
	require.Equal(r.t, there, old || r.over)
	require.Nil(r.t, r.hold())
	for _, n := range []string{sumOfDER(r.old.Raw), sumOfDER(p.cert.Raw)} {
		h, err := r.dir.Hold(n)
		require.NoError(r.t, err)
		require.Nil(r.t, h, "a hold is left by a certificate")
	}
	v, signed := r.stranger()
	switch {
	case old:
		if last != nil {
			require.True(r.t, last.finished && last.givenUp, "the journal says that it was given up")
		}
		require.False(r.t, signed)
		require.False(r.t, onHold(v))
		if v.Has(guard.Expired) {
			return oldLate
		}
		require.True(r.t, v.Has(guard.Affected), "%v", v.Findings)
		return oldEnd
	case !signed:
		require.True(r.t, last.finished && (!last.givenUp || r.over))
		require.True(r.t, v.Has(guard.Expired) && !onHold(v) && !v.Has(guard.Affected), "%v", v.Findings)
		return newLate
	}
	require.True(r.t, last.finished && (!last.givenUp || r.over))
	require.True(r.t, p.cert.NotBefore.After(issued))
	if r.renewedInPerson {
		return personEnd
	}
	require.Equal(r.t, !r.over, r.retired == 1, "the old key was retired once")
	return renewedEnd
}

func (r *rig) journalBytes() []byte {
	b, err := os.ReadFile(journalPath(r.dir.Path(), r.id))
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(r.t, err)
	}
	return b
}

// finished tells whether the journal's last line ends a renewal.
func (r *rig) finished() bool {
	b := r.journalBytes()
	last := b[bytes.LastIndexByte(bytes.TrimSuffix(b, []byte("\n")), '\n')+1:]
	return bytes.HasSuffix(b, []byte("\n")) &&
		(bytes.Contains(last, []byte(`"step":"done","act":"done"`)) || bytes.Contains(last, []byte(`"step":"given_up","act":"done"`)))
}

// leaves tells all that a stop left behind on which what follows depends, but for what
// each case has of its own: random names, keys and instants. It is empty where the
// process has seen something that it keeps in its memory.
func (r *rig) leaves(another bool) string {
	var b bytes.Buffer
	role := func(s string) string { // of a name or id
		switch s {
		case "":
			return ""
		case r.id:
			return "card"
		case sumOfDER(r.old.Raw):
			return "old"
		}
		return "new"
	}
	fmt.Fprintf(&b, "%s: another process %t, at %s, clock floor %s", r.s.name, another, r.now, filesIn(r.dir.Path())["clock.json"])
	es, whole, err := ReadJournal(journalPath(r.dir.Path(), r.id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	for _, e := range es {
		fmt.Fprintf(&b, "\n%s %s %s %s %x", e.Step, e.Act, e.Text, e.AskFrom, sumOfDER(e.Certificate))
	}
	fmt.Fprintf(&b, "\ntorn %t", int(whole) < len(r.journalBytes()))
	last := (&journal{entries: es}).last()
	holds, err := os.ReadDir(filepath.Join(r.dir.Path(), "holds"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if !another && len(holds) == 0 && len(es) > 0 {
		return ""
	}
	for _, f := range holds {
		name := strings.TrimSuffix(f.Name(), ".json")
		h, err := r.dir.Hold(name)
		if err != nil || h == nil || h.Phase == state.Reseat && !another {
			return ""
		}
		fmt.Fprintf(&b, "\nhold %s %s expects %s, this renewal's %t, names", role(name), h.Phase, role(h.Expect), last != nil && last.id == h.ID)
		for _, c := range h.Certificates {
			fmt.Fprintf(&b, " %s", role(c))
		}
	}
	s, err := r.sim.Token().Open(context.Background())
	require.NoError(r.t, err)
	defer s.Close()
	objects, err := s.Objects(context.Background())
	require.NoError(r.t, err)
	for _, o := range objects {
		ours := last != nil && bytes.Equal(o.ID, last.plan.NewID)
		fmt.Fprintf(&b, "\non the card %d new %t %s", o.Class, ours, sumOfDER(o.DER))
	}
	fmt.Fprintf(&b, "\ntries %d, full %t, changed %t, may end %t, retired %d, over %t, says %t", r.sim.TriesLeft(), r.full, r.changed, r.mayEnd, r.retired, r.over, r.says)
	o := r.enrols
	fmt.Fprintf(&b, "\nauthority issued %d, asked %d, mood %q, refuses %v, loses %v, answers %t", o.issued, o.asked, o.mood, o.refuse, o.lose, o.answer != nil)
	for _, i := range r.fired {
		fmt.Fprintf(&b, "\nends %d", i.fault.ends)
	}
	return b.String()
}

func TestASecretIsFoundWhereverItStandsInBase64(t *testing.T) {
	for _, before := range []string{"", "a", "ab", "abc"} {
		text := base64.StdEncoding.EncodeToString([]byte(before + thePIN + "behind it"))
		require.True(t, inBase64([]byte(`{"csr":"`+text+`"}`), []byte(thePIN)), before)
		require.True(t, inBase64([]byte("xy"+text), []byte(thePIN)), before)
	}
	require.False(t, inBase64([]byte(base64.StdEncoding.EncodeToString([]byte(thePIN[:5]+"another"))), []byte(thePIN)))
}
