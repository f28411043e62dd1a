package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/guard"
	"github.com/rxguard/rxguard/internal/need"
)

// run runs the command in this process.
func run(t *testing.T, ctx context.Context, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	var out, errs bytes.Buffer
	code = command(ctx, args, &out, &errs)
	return code, out.String(), errs.String()
}

// steps reads JSON lines.
func steps(t *testing.T, out string) []event {
	t.Helper()
	var es []event
	for l := range strings.Lines(out) {
		var e event
		require.NoError(t, json.Unmarshal([]byte(l), &e), l)
		es = append(es, e)
	}
	return es
}

func TestTheWholeWay(t *testing.T) {
	code, out, errs := run(t, t.Context())
	require.Equal(t, exitDone, code, out+errs)
	assert.Empty(t, errs)
	last := -1
	for n, title := range []string{"The smartcard is read", "The guard is asked", "An attempt to sign anyway", "The card is renewed",
		"before the card was taken out", "taken out and put back", "A prescription is signed"} {
		at := strings.Index(out, fmt.Sprintf("\n%d. ", n+1))
		require.Greater(t, at, last, "step %d", n+1)
		assert.Contains(t, out[at:], title)
		last = at
	}
	assert.Contains(t, out, "It shows 2 refusals and 1 signature(s).")
	assert.NotContains(t, out, "123456", "the passcode is not printed")
}

func TestTheStepsAsJSON(t *testing.T) {
	code, out, _ := run(t, t.Context(), "--json")
	require.Equal(t, exitDone, code, out)
	var outcomes []string
	share := 0.0
	for _, e := range steps(t, out) {
		if e.Progress != nil {
			assert.Equal(t, 4, e.Step)
			assert.GreaterOrEqual(t, e.Progress.Share, share)
			share = e.Progress.Share
			continue
		}
		outcomes = append(outcomes, fmt.Sprint(e.Step, " ", e.Outcome))
	}
	assert.Equal(t, []string{"1 read", "2 refused", "3 refused", "4 plan", "4 passcode", "4 reseat", "5 refused",
		"6 removed", "6 inserted", "6 passcode", "6 completed", "7 allowed", "7 signed", "7 record", "7 done"}, outcomes)
	assert.InDelta(t, 1, share, 1e-9)
}

// The built-in notice alone: refused while it was in force, allowed and named as
// resolved afterwards.
func TestTheNoticeOf2020(t *testing.T) {
	for _, c := range []struct {
		at       string
		decision guard.Decision
		reason   guard.Reason
	}{
		{"2020-09-30", guard.DecisionRefused, guard.Affected},
		{"2020-09-30T09:00:00Z", guard.DecisionRefused, guard.Affected},
		{"2020-10-01T13:49:00Z", guard.DecisionRefused, guard.Affected},
		{"2020-10-01T13:50:00Z", guard.DecisionAllowed, guard.AffectedEnded},
		{"2020-10-02T09:00:00Z", guard.DecisionAllowed, guard.AffectedEnded},
		{"2020-10-02T10:00:00+01:00", guard.DecisionAllowed, guard.AffectedEnded},
	} {
		t.Run(c.at, func(t *testing.T) {
			dir := t.TempDir()
			code, out, _ := run(t, t.Context(), "--at", c.at, "--issued", "2020-09-29T10:00:00Z", "--out", dir)
			require.Equal(t, exitDone, code, out)
			v := verdicts(t, dir)
			assert.Equal(t, c.decision, v[0].Decision)
			require.NotEmpty(t, v[0].Findings)
			assert.Equal(t, c.reason, v[0].Findings[0].Reason)
			assert.Equal(t, "eps-smartcard-renewal-2020", v[0].Findings[0].Advisory.ID)
			assert.EqualValues(t, "resolved", v[0].Findings[0].Advisory.State)
			assert.Equal(t, guard.DecisionAllowed, v[len(v)-1].Decision)
			if c.decision == guard.DecisionAllowed {
				assert.Len(t, v, 2, "nothing to renew")
				assert.NoFileExists(t, filepath.Join(dir, "new-certificate.pem"))
			} else {
				assert.FileExists(t, filepath.Join(dir, "new-certificate.pem"))
			}
		})
	}
}

func verdicts(t *testing.T, dir string) []guard.Verdict {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "verdicts.jsonl"))
	require.NoError(t, err)
	var vs []guard.Verdict
	for l := range strings.Lines(string(b)) {
		var v guard.Verdict
		require.NoError(t, json.Unmarshal([]byte(l), &v))
		vs = append(vs, v)
	}
	return vs
}

// openssl is the witness: the new key signed, the old one did not.
func TestOpenSSLVerifiesWhatIsWritten(t *testing.T) {
	openssl := need.Tool(t, "openssl", "openssl")
	dir := t.TempDir()
	code, out, _ := run(t, t.Context(), "--out", dir)
	require.Equal(t, exitDone, code, out)
	witness(t, openssl, dir, "-sha256")
	assert.Len(t, verdicts(t, dir), 4)
}

func witness(t *testing.T, openssl, dir, digest string) {
	t.Helper()
	verify := func(certificate string) (string, error) {
		pub := filepath.Join(t.TempDir(), "pub.pem")
		require.NoError(t, exec.Command(openssl, "x509", "-in", filepath.Join(dir, certificate), "-pubkey", "-noout", "-out", pub).Run())
		b, err := exec.Command(openssl, "dgst", digest, "-verify", pub, "-signature", filepath.Join(dir, "signature.bin"), filepath.Join(dir, "signed-info.xml")).CombinedOutput()
		return string(b), err
	}
	words, err := verify("new-certificate.pem")
	assert.NoError(t, err, words)
	words, err = verify("old-certificate.pem")
	assert.Error(t, err)
	assert.Contains(t, words, "Verification failure")

	provenance, err := os.ReadFile(filepath.Join(dir, "provenance.json"))
	require.NoError(t, err)
	var p struct {
		Signature []struct{ When, Data string }
	}
	require.NoError(t, json.Unmarshal(provenance, &p))
	require.Len(t, p.Signature, 1)
	xml, err := base64.StdEncoding.DecodeString(p.Signature[0].Data)
	require.NoError(t, err)
	written, err := os.ReadFile(filepath.Join(dir, "signature.xml"))
	require.NoError(t, err)
	assert.Equal(t, string(written), string(xml))

	b, err := os.ReadFile(filepath.Join(dir, "new-certificate.pem"))
	require.NoError(t, err)
	block, _ := pem.Decode(b)
	c, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	assert.Contains(t, string(xml), base64.StdEncoding.EncodeToString(c.Raw))
}

func TestEveryRealPrepareAnswerIsSigned(t *testing.T) {
	openssl := need.Tool(t, "openssl", "openssl")
	files, err := filepath.Glob(filepath.Join(need.Data(t, "eps", "prepare"), "*Response-200_OK.json"))
	require.NoError(t, err)
	more, err := filepath.Glob(filepath.Join(need.Data(t, "eps", "prepare", "more"), "*200_OK.json"))
	require.NoError(t, err)
	files = append(files, more...)
	require.GreaterOrEqual(t, len(files), 5)
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			dir := t.TempDir()
			code, out, errs := run(t, t.Context(), "--prepare", f, "--out", dir)
			require.Equal(t, exitDone, code, out+errs)
			b, err := os.ReadFile(f)
			require.NoError(t, err)
			digest := "-sha256"
			if strings.Contains(string(b), `"RS1"`) {
				digest = "-sha1"
			}
			witness(t, openssl, dir, digest)
			when := regexp.MustCompile(`"timestamp",\s*"valueString": "([^"]+)"`).FindSubmatch(b)
			require.NotNil(t, when)
			provenance, err := os.ReadFile(filepath.Join(dir, "provenance.json"))
			require.NoError(t, err)
			assert.Contains(t, string(provenance), `"when": "`+string(when[1])+`"`)
		})
	}
}

func TestBadCommandLinesAndFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, []byte(text), 0o600))
		return p
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"an unknown flag":               {[]string{"--nonsense"}, "--help lists the flags"},
		"an argument":                   {[]string{"card"}, `"card" is not understood`},
		"a time that is none":           {[]string{"--at", "yesterday"}, "RFC 3339"},
		"a time outside the simulation": {[]string{"--at", "1920-01-01"}, "years 2001 to 2090"},
		"no such file":                  {[]string{"--prepare", filepath.Join(dir, "none")}, "no such file"},
		"not JSON":                      {[]string{"--prepare", file("a", "hello")}, "JSON"},
		"an OperationOutcome":           {[]string{"--prepare", file("b", `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"invalid","diagnostics":"the dose is missing"}]}`)}, "the dose is missing"},
		"no folder to go on with":       {[]string{"--resume", dir}, "no simulated card"},
		"resume with another instant":   {[]string{"--resume", dir, "--at", "2020-09-30"}, "do not go with it"},
		"an answer without an end":      {[]string{"--prepare", "/dev/zero"}, "longer than"},
		"an empty file name":            {[]string{"--prepare", ""}, "--prepare is empty"},
		"an empty folder name":          {[]string{"--out", ""}, "--out is empty"},
		"out that is a file":            {[]string{"--out", file("c", "")}, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := run(t, t.Context(), c.args...)
			assert.Equal(t, exitUsage, code, out)
			assert.Contains(t, errs+out, c.want)
		})
	}
	t.Run("help", func(t *testing.T) {
		code, _, errs := run(t, t.Context(), "--help")
		assert.Equal(t, exitDone, code)
		assert.Contains(t, errs, "--at")
	})
}

// An answer prepared when no certificate of the card was valid would be found
// "expired when signed" at the pharmacy: it is refused at the desk.
func TestAnAnswerFromOutsideTheCertificatesLifeIsNotSigned(t *testing.T) {
	answer := need.Data(t, "eps", "prepare", "more", "4-Prepare-Response-Multiple-Dosages-200_OK.json")
	code, out, _ := run(t, t.Context(), "--prepare", answer, "--issued", "2024-01-01", "--at", "2024-06-01")
	assert.Equal(t, exitNotSigned, code)
	assert.Contains(t, out, "Certificate expired when signed")
	assert.Contains(t, out, "The card was not changed.")
}

func TestAnExpiredCardIsSentToTheRegistrationAuthority(t *testing.T) {
	code, out, _ := run(t, t.Context(), "--issued", "2020-09-29")
	assert.Equal(t, exitNotSigned, code)
	assert.Contains(t, out, "expired")
	assert.Contains(t, out, "Registration Authority")
}

// interrupter cancels at the nth line that is written.
type interrupter struct {
	mu     sync.Mutex
	out    bytes.Buffer
	lines  int
	at     int
	cancel context.CancelFunc
}

func (w *interrupter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lines += bytes.Count(b, []byte("\n")); w.lines >= w.at {
		w.cancel()
	}
	return w.out.Write(b)
}

// Interrupted at any line, the journey says that the card is as it was or how to go
// on, and going on ends with a signature.
func TestInterruptedAtAnyStep(t *testing.T) {
	_, whole, _ := run(t, t.Context(), "--json")
	lines := strings.Count(whole, "\n")
	require.Greater(t, lines, 15)
	resumed := 0
	for at := 1; at <= lines; at++ {
		t.Run(fmt.Sprint("line ", at), func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w := &interrupter{at: at, cancel: cancel}
			code := command(ctx, []string{"--json"}, w, io.Discard)
			if code == exitDone {
				assert.GreaterOrEqual(t, at, lines-4, "only the last lines come too late to interrupt")
				return
			}
			require.Equal(t, exitInterrupted, code, w.out.String())
			es := steps(t, w.out.String())
			text := es[len(es)-1].Text
			assert.Contains(t, text, "Interrupted.")
			if strings.Contains(text, "The card was not changed.") {
				return
			}
			assert.Contains(t, text, "The card is safe.")
			m := regexp.MustCompile(`--resume (\S+)`).FindStringSubmatch(text)
			require.NotNil(t, m, text)
			var out, errs bytes.Buffer
			require.Equal(t, exitDone, command(t.Context(), []string{"--resume", m[1]}, &out, &errs), out.String()+errs.String())
			assert.Contains(t, out.String(), "The decision record verifies.")
			assert.NoDirExists(t, m[1], "a journey that ended leaves nothing behind")
			resumed++
		})
	}
	assert.Greater(t, resumed, 10)
}

// A real process and a real SIGINT, in the middle of the renewal.
func TestSIGINT(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the command: run without -short")
	}
	bin := filepath.Join(t.TempDir(), "prescriber")
	b, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput()
	require.NoError(t, err, string(b))
	t.Setenv("TMPDIR", t.TempDir())
	cmd := exec.Command(bin, "--json", "--pace", "1h")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var told bytes.Buffer
	dec := json.NewDecoder(io.TeeReader(out, &told))
	for {
		var e event
		require.NoError(t, dec.Decode(&e), told.String())
		if e.Progress != nil {
			break
		}
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	_, err = io.Copy(&told, io.MultiReader(dec.Buffered(), out))
	require.NoError(t, err)
	err = cmd.Wait()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, exitInterrupted, exit.ExitCode())
	assert.Contains(t, told.String(), "Interrupted.")
}

// interrupted runs a journey that ends after n lines and returns the folder to go
// on with.
func interrupted(t *testing.T, n int, args ...string) string {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := &interrupter{at: n, cancel: cancel}
	require.Equal(t, exitInterrupted, command(ctx, append(args, "--json"), w, io.Discard), w.out.String())
	m := regexp.MustCompile(`--resume ([^\s"\\]+)`).FindStringSubmatch(w.out.String())
	require.NotNil(t, m, w.out.String())
	return m[1]
}

// A folder that a person named is never removed before its journey has ended well.
func TestAResumedJourneyThatFailsLosesNothing(t *testing.T) {
	const inTheRenewal = 12
	resume := func(t *testing.T, ctx context.Context, dir string, args ...string) (int, string) {
		var out, errs bytes.Buffer
		code := command(ctx, append([]string{"--resume", dir}, args...), &out, &errs)
		return code, out.String() + errs.String()
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string) (mend func())
		args  func(dir string) []string
		ctx   func(context.Context) context.Context
		code  int
		want  string
	}{
		"out that cannot be made": {args: func(dir string) []string { return []string{"--out", filepath.Join(dir, "world.json", "x")} }, code: exitUsage, want: "in the folder of the simulated card"},
		"out in the folder":       {args: func(dir string) []string { return []string{"--out", dir} }, code: exitUsage, want: "in the folder of the simulated card"},
		"out below a file":        {args: func(string) []string { return []string{"--out", "/dev/null/x"} }, code: exitUsage, want: "not a directory"},
		"interrupted at once": {ctx: func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx
		}, code: exitInterrupted, want: "The card is safe."},
		"a record that was altered": {spoil: func(t *testing.T, dir string) func() {
			p := filepath.Join(dir, recordName)
			b, err := os.ReadFile(p)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(p, bytes.Replace(b, []byte("refused"), []byte("allowed"), 1), 0o600))
			return func() { require.NoError(t, os.WriteFile(p, b, 0o600)) }
		}, code: exitNotSigned, want: "altered"},
		"another run on the same card": {spoil: func(t *testing.T, dir string) func() {
			w, err := newWorld(options{resume: dir})
			require.NoError(t, err)
			return func() { require.NoError(t, w.close(false)) }
		}, code: exitUsage, want: "another run"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := interrupted(t, inTheRenewal)
			mend, ctx := func() {}, t.Context()
			if c.spoil != nil {
				mend = c.spoil(t, dir)
			}
			if c.ctx != nil {
				ctx = c.ctx(ctx)
			}
			var args []string
			if c.args != nil {
				args = c.args(dir)
			}
			code, told := resume(t, ctx, dir, args...)
			assert.Equal(t, c.code, code, told)
			assert.Contains(t, told, c.want)
			assert.NotContains(t, told, "was not changed")
			mend()
			code, told = resume(t, t.Context(), dir)
			assert.Equal(t, exitDone, code, told)
			assert.NoDirExists(t, dir)
		})
	}
}

// The simulated clock stands at --at, however long the machine takes, and a later
// run goes on where it stood.
func TestTheSimulatedClock(t *testing.T) {
	t.Run("stands", func(t *testing.T) {
		dir := t.TempDir()
		const at = "2020-10-01T13:49:59.999999999Z"
		code, out, _ := run(t, t.Context(), "--at", at, "--issued", "2020-09-29", "--out", dir)
		require.Equal(t, exitDone, code, out)
		v := verdicts(t, dir)
		assert.Equal(t, guard.DecisionRefused, v[0].Decision)
		assert.Equal(t, at, v[0].At.Format("2006-01-02T15:04:05.999999999Z07:00"))
	})
	t.Run("does not go back", func(t *testing.T) {
		_, whole, _ := run(t, t.Context(), "--json", "--at", "2020-09-30T09:00:00Z")
		all := strings.Split(strings.TrimSpace(whole), "\n")
		var seven int // the first line of step 7
		for i, l := range all {
			if strings.Contains(l, `"step":7`) {
				seven = i + 1
				break
			}
		}
		dir := interrupted(t, seven, "--at", "2020-09-30T09:00:00Z")
		var out, errs bytes.Buffer
		assert.Equal(t, exitDone, command(t.Context(), []string{"--resume", dir}, &out, &errs), out.String()+errs.String())
		assert.Contains(t, out.String(), "ALLOWED as of 2020-09-30 09:01:00 UTC")
	})
}

// A card that must be renewed cannot sign an answer from before its renewal; that is
// said before the card is changed.
func TestAnAnswerFromBeforeTheRenewalIsToldBeforeTheCardIsChanged(t *testing.T) {
	answer := need.Data(t, "eps", "prepare", "more", "4-Prepare-Response-Multiple-Dosages-200_OK.json")
	code, out, _ := run(t, t.Context(), "--prepare", answer, "--issued", "2020-09-29", "--at", "2020-09-30T09:00:00Z")
	assert.Equal(t, exitNotSigned, code)
	assert.Contains(t, out, "Certificate expired when signed")
	assert.Contains(t, out, "The card was not changed.")
	assert.NotContains(t, out, "--resume")
	left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

// An output that takes nothing is a failure, and nothing stays behind.
func TestAnOutputThatFails(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	full := writerFunc(func([]byte) (int, error) { return 0, syscall.ENOSPC })
	var errs bytes.Buffer
	assert.Equal(t, exitNotSigned, command(t.Context(), nil, full, &errs))
	assert.Contains(t, errs.String(), "the output could not be written: no space left on device")
	left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}
