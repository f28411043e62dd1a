//go:build cgo

package renewal_test

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/card"
	"github.com/rxguard/rxguard/internal/testcard"
	"github.com/rxguard/rxguard/internal/testcard/modules"
)

// No hexadecimal digits, so that it is in no digest by chance.
const processPIN = "qz7wxk"

const softLabel = "card of processes"

// practice is an authority with its enrolment server, and its card software. The cards
// of its people were issued within the days of a notice, and are renewed after them.
type practice struct {
	ca     *testcard.CA
	server *testcard.Server
	job    job // what all have in common
}

func newPractice(t *testing.T) *practice {
	t.Helper()
	ca, err := testcard.NewCA(testcard.CAConfig{CachedKeys: true})
	require.NoError(t, err)
	p := &practice{ca: ca}
	p.server, err = testcard.NewServer(testcard.ServerConfig{CA: ca})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.server.Close()) })
	p.job = job{
		PIN: processPIN, Authority: filepath.Join(t.TempDir(), "ca.json"), URL: p.server.URL(),
		CAs:    [][]byte{ca.IssuingCertificate().Raw, ca.RootCertificate().Raw},
		Issued: time.Now().Add(-3 * 24 * time.Hour).UTC().Truncate(time.Second),
	}
	require.NoError(t, ca.Save(p.job.Authority))
	day := func(n int) string { return p.job.Issued.AddDate(0, 0, n).Format(time.RFC3339) }
	p.job.Notice = fmt.Appendf(nil, `{
	  "id": "cards-of-that-day", "revision": 1, "state": "active", "title": "Smartcards issued on that day",
	  "published": %[1]q, "modified": %[1]q,
	  "match": {"any": [{"issuer": {"spki_sha256": ["%[2]x"]}, "not_before": {"from": %[3]q, "to": %[4]q}}]},
	  "basis": "not_before_window", "card_may_authenticate": true,
	  "remedies": [{"kind": "renew", "text": "Renew this card here."}],
	  "message": "Please renew your smartcard before you sign another prescription."
	}`, day(0), testcard.SPKIHash(ca.IssuingCertificate()), day(-1), day(1))
	return p
}

// desk is a card, and the folders of the machine that processes renew it on.
type desk struct {
	t   testing.TB
	job job
	env []string
	dir string

	sim    *testcard.Card   // nil: a token of SoftHSM, which cannot be taken out
	reader *testcard.Reader // that the card is in
	before []object         // on the card at the beginning
	old    string           // SHA-256 of the certificate that is renewed
}

func (p *practice) desk(t testing.TB) *desk {
	t.Helper()
	d := &desk{t: t, job: p.job, dir: t.TempDir()}
	d.job.State, d.job.Record = filepath.Join(d.dir, "state"), filepath.Join(d.dir, "record.jsonl")
	return d
}

// softDesks answers what makes desks with a token of SoftHSM each: copies of one that
// was provisioned.
func (p *practice) softDesks(t *testing.T) func(testing.TB) *desk {
	t.Helper()
	dir := t.TempDir()
	conf, err := modules.SoftHSMConfig(dir)
	require.NoError(t, err)
	token := modules.SoftHSMIn(t, conf, softLabel, processPIN, "31415926")
	first := p.desk(t)
	first.job.Module, first.job.Token = token.Module, softLabel
	first.env = []string{"SOFTHSM2_CONF=" + conf}
	first.start("provision").end(nil)
	first.look()
	return func(t testing.TB) *desk {
		t.Helper()
		d := p.desk(t)
		conf, err := modules.SoftHSMConfig(d.dir)
		require.NoError(t, err)
		require.NoError(t, os.Remove(filepath.Join(d.dir, "softhsm")))
		require.NoError(t, os.CopyFS(filepath.Join(d.dir, "softhsm"), os.DirFS(filepath.Join(dir, "softhsm"))))
		d.job.Module, d.job.Token, d.env = token.Module, softLabel, []string{"SOFTHSM2_CONF=" + conf}
		d.before, d.old = first.before, first.old
		return d
	}
}

// pivDesks answers what makes desks with a PIV card each, which is in this process: one
// after the other in a virtual reader of their own.
func (p *practice) pivDesks(t *testing.T) func(testing.TB) *desk {
	t.Helper()
	module := modules.YKCS11(t)
	daemon := modules.PCSCDApart(t, 1)
	keys := testcard.CachedKeys()
	auth, err := keys(2048)
	require.NoError(t, err)
	old, err := keys(2048)
	require.NoError(t, err)
	serial := 1000
	return func(t testing.TB) *desk {
		t.Helper()
		d := p.desk(t)
		serial++
		d.sim, err = testcard.New(testcard.Config{Serial: fmt.Sprint(serial), PIN: []byte(processPIN), Containers: 24, PSS: true})
		require.NoError(t, err)
		next := testcard.CachedKeys()
		for range 2 {
			_, err := next(2048)
			require.NoError(t, err)
		}
		d.sim.MakeKeys(next)
		_, c, err := d.sim.ProvisionPrescriber(p.ca, testcard.Prescriber{UID: "555000000001", NotBefore: p.job.Issued, AuthenticationKey: auth, SigningKey: old})
		require.NoError(t, err)
		d.reader, d.env = daemon.Plug(t, 0, d.sim), []string{"PCSCLITE_CSOCK_NAME=" + daemon.Socket()}
		d.job.Module, d.job.Reader, d.job.Officer = module, daemon.Name(0), modules.ManagementKey
		d.before, d.old = d.inside(), sum(c.Raw)
		return d
	}
}

// inside lists what is in the card itself, of a PIV card.
func (d *desk) inside() []object {
	d.t.Helper()
	file := filepath.Join(d.dir, "card.json")
	require.NoError(d.t, d.sim.Save(file))
	copied, err := testcard.Load(file)
	require.NoError(d.t, err)
	copied.Insert()
	s, err := copied.Token().Open(d.t.Context())
	require.NoError(d.t, err)
	require.NoError(d.t, s.Login(d.t.Context(), []byte(processPIN)))
	list, err := s.Objects(d.t.Context())
	require.NoError(d.t, err)
	return objectsOf(list)
}

// running is a process at work.
type running struct {
	d    *desk
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	errs bytes.Buffer
}

// start starts a process with the desk's job.
func (d *desk) start(do string, change ...func(*job)) *running {
	d.t.Helper()
	j := d.job
	j.Do = do
	for _, f := range change {
		f(&j)
	}
	in, err := json.Marshal(j)
	require.NoError(d.t, err)
	r := &running{d: d, cmd: exec.Command(os.Args[0])}
	r.cmd.Env = slices.Concat(os.Environ(), d.env, []string{jobEnv + "=" + string(in), "GORACE=atexit_sleep_ms=0"})
	r.cmd.Stderr = &r.errs
	r.in, err = r.cmd.StdinPipe()
	require.NoError(d.t, err)
	out, err := r.cmd.StdoutPipe()
	require.NoError(d.t, err)
	r.out = bufio.NewReader(out)
	require.NoError(d.t, r.cmd.Start())
	d.t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			_ = r.cmd.Process.Kill()
			_ = r.cmd.Wait()
		}
	})
	return r
}

// next reads what the process says next; an empty word at its end. A line that a kill
// tore was not said.
func (r *running) next() (word, rest string) {
	line, err := r.out.ReadString('\n')
	if err != nil {
		return "", ""
	}
	word, rest, _ = strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	return word, rest
}

// until reads up to a word, and takes what goes with it.
func (r *running) until(word string, v any) {
	r.d.t.Helper()
	for {
		w, rest := r.next()
		if w == "" {
			r.over()
			require.FailNow(r.d.t, "the process ended before it said "+word)
		}
		if w == word {
			require.NoError(r.d.t, json.Unmarshal([]byte(rest), v))
			return
		}
	}
}

// goOn has a process that waits for a line go on.
func (r *running) goOn() error {
	_, err := io.WriteString(r.in, "\n")
	return err
}

// end reads to the end, and asserts that the process ended well. each may be nil.
func (r *running) end(each func(word, rest string)) {
	r.d.t.Helper()
	for {
		word, rest := r.next()
		if word == "" {
			break
		}
		if each != nil {
			each(word, rest)
		}
	}
	r.over()
}

// over waits for the end of a process that nobody killed.
func (r *running) over() {
	r.d.t.Helper()
	err := r.cmd.Wait()
	require.NoError(r.d.t, err, "%s", &r.errs)
	require.Empty(r.d.t, r.errs.String())
}

// look has another process look at the card, and remembers the first look.
func (d *desk) look() findings {
	d.t.Helper()
	var f findings
	r := d.start("look")
	r.until(sayFound, &f)
	r.end(nil)
	if d.before == nil {
		d.before, d.old = f.Objects, f.Signed
		require.NotEmpty(d.t, d.old, "before its renewal it signs: %v %s", f.Reasons, f.Err)
	}
	return f
}

// whole leaves out what SoftHSM leaves of an object when the process that makes it is
// killed: it has neither CKA_ID nor a key, so that nothing goes by it and nobody could
// tell whose it is.
func whole(list []object) []object {
	return slices.DeleteFunc(slices.Clone(list), func(o object) bool { return o.ID == "" && o.Key == "" })
}

// certificates lists, by CKA_ID, the certificates among objects, and keys the private
// keys, with the public key of each.
func certificates(list []object) map[string]object { return ofClass(list, card.CertificateObject) }
func privateKeys(list []object) map[string]object  { return ofClass(list, card.PrivateKeyObject) }

func ofClass(list []object, c card.Class) map[string]object {
	out := map[string]object{}
	for _, o := range list {
		if o.Class == c {
			out[o.ID] = o
		}
	}
	return out
}

// parsed is a certificate on its way from another process.
func parsed(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return c
}

func unmarshal(t testing.TB, text string, v any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), v))
}
