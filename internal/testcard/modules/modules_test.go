package modules

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/testcard"
)

// tool runs an outside program within patience and returns what it printed.
func tool(t testing.TB, debian, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, need.Tool(t, name, debian), args...).CombinedOutput()
	return string(out), err
}

func pkcs11Tool(t testing.TB, module string, args ...string) string {
	t.Helper()
	out, err := tool(t, "opensc", "pkcs11-tool", append([]string{"--module", module}, args...)...)
	require.NoError(t, err, "%v: %s", args, out)
	return out
}

func TestSoftHSM(t *testing.T) {
	one := SoftHSM(t, "card one", "1234", "12345678")
	two := SoftHSM(t, "card two", "5678", "12345678")
	assert.Equal(t, Token{Module: one.Module, Label: "card one", PIN: "1234", SOPIN: "12345678"}, one)
	list := pkcs11Tool(t, one.Module, "-L")
	assert.Contains(t, list, "card one")
	assert.Contains(t, list, "card two")
	pkcs11Tool(t, two.Module, "--token-label", two.Label, "--login", "--pin", two.PIN, "--keypairgen", "--key-type", "rsa:2048", "--id", "07")
	assert.Regexp(t, `ID: +07`, pkcs11Tool(t, two.Module, "--token-label", two.Label, "-O"))
	assert.NotRegexp(t, `ID: +07`, pkcs11Tool(t, one.Module, "--token-label", one.Label, "-O"))
}

func TestNSS(t *testing.T) {
	token := NSS(t)
	dir := regexp.MustCompile(`^configdir='(sql:[^']+)' certPrefix='' keyPrefix='' secmod='secmod.db' flags=$`).FindStringSubmatch(token.Init)
	require.Len(t, dir, 2)
	passcode := filepath.Join(t.TempDir(), "passcode")
	for pin, want := range map[string]string{token.PIN: "no keys found", "another": "incorrect"} {
		require.NoError(t, os.WriteFile(passcode, []byte(pin+"\n"), 0o600))
		out, _ := tool(t, "libnss3-tools", "certutil", "-K", "-d", dir[1], "-f", passcode)
		assert.Contains(t, out, want)
	}
}

func TestModulesAreFound(t *testing.T) {
	for _, path := range []string{OpenSC(t), YKCS11(t)} {
		assert.FileExists(t, path)
	}
	assert.FileExists(t, os.Getenv("OPENSC_CONF"))
	assert.Equal(t, testcard.DefaultManagementKey(), unhex(t, ManagementKey))
}

func TestHangingModule(t *testing.T) {
	h := HangingModule(t, "C_GetTokenInfo")
	gone := make(chan error, 1)
	var out strings.Builder
	cmd := exec.Command(need.Tool(t, "pkcs11-tool", "opensc"), "--module", h.Module, "-L")
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	go func() { gone <- cmd.Wait() }()
	h.Met(t)
	stuck := time.After(100 * time.Millisecond) // a look at what does not happen: a slow machine sees it no better
	select {
	case err := <-gone:
		t.Fatalf("it did not hang: %v\n%s", err, &out)
	case <-stuck:
	}
	h.Release(t)
	require.NoError(t, <-gone)
	assert.Contains(t, out.String(), "hanging token")

	objects := pkcs11Tool(t, h.Module, "-O", "-l", "-p", h.PIN)
	assert.Regexp(t, `Certificate Object; type = X.509 cert(?s:.*)ID: +02`, objects)
	assert.Contains(t, objects, "Private Key Object; RSA")
	h.Hang(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	assert.Error(t, exec.CommandContext(ctx, cmd.Path, "--module", h.Module, "-L").Run())
}

func TestEveryFunctionOfTheModuleThatHangsCanHang(t *testing.T) {
	found := regexp.MustCompile(`(?m)^(?:CK_RV |CANNOT\()(C_\w+)`).FindAllStringSubmatch(hangSource, -1)
	var names []string
	for _, m := range found {
		names = append(names, m[1])
	}
	assert.ElementsMatch(t, names, hangFunctions)
}

// child is set in the process that TestWhatAProcessStartedGoesWithIt starts and kills.
const child = "RXGUARD_TEST_CHILD"

func TestWhatAProcessStartedGoesWithIt(t *testing.T) {
	if os.Getenv(child) != "" {
		d := PCSCD(t, 1)
		SoftHSM(t, "card", "1234", "12345678")
		_, err := os.Stdout.WriteString("\nready " + d.dir + "\n")
		require.NoError(t, err)
		select {} // until killed
	}
	PCSCD(t, 1).Stop() // skips where it cannot run
	need.Tool(t, "softhsm2-util", "softhsm2")
	cmd := exec.Command(os.Args[0], "-test.run=^TestWhatAProcessStartedGoesWithIt$", "-test.v")
	cmd.Env = append(os.Environ(), child+"=1")
	log := &tail{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.WaitDelay = time.Second
	apart(cmd)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	ready := regexp.MustCompile(`(?m)^ready (\S+)$`)
	eventually(t, "the child is ready", func() bool { return ready.MatchString(log.String()) })
	dir := ready.FindStringSubmatch(log.String())[1]
	pid, err := os.ReadFile(filepath.Join(dir, "run", "pcscd.pid"))
	require.NoError(t, err)
	assert.FileExists(t, filepath.Join("/proc", strings.Trim(string(pid), "\x00\n"), "status"))
	require.NoError(t, cmd.Process.Kill())
	eventually(t, "the folder goes", func() bool {
		_, err := os.Stat(filepath.Dir(dir))
		return os.IsNotExist(err)
	})
	eventually(t, "pcscd goes", func() bool {
		name, err := os.ReadFile(filepath.Join("/proc", strings.Trim(string(pid), "\x00\n"), "comm"))
		return err != nil || string(name) != "pcscd\n"
	})
}
