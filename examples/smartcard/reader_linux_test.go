package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/testcard/modules"
)

// What --help and the README tell people to paste starts a reader that ykcs11 takes. It
// is run here with a folder and ports of the test's own.
func TestTheReaderOfTheHelpText(t *testing.T) {
	namespace := need.MountNamespace(t)
	need.File(t, "the virtual smartcard reader vpcd", "vsmartcard-vpcd", "/usr/lib/pcsc/drivers/serial/libifdvpcd.so")
	need.File(t, "the program pcscd", "pcscd", "/usr/sbin/pcscd")
	ykcs11, tool := modules.YKCS11(t), need.Tool(t, "pkcs11-tool", "opensc")

	dir, err := os.MkdirTemp("/tmp", "rxguard-pcscd-") // the path of a socket is short
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	port := fmt.Sprint(20000 + rand.IntN(12000)) // below those that the system gives away
	own := strings.NewReplacer("/tmp/rxguard-pcscd", dir, "24000", port, "unshare -m sh", "exec unshare -m sh")
	lines := "set -e\nPATH=$PATH:/usr/sbin\nmount -t tmpfs tmpfs /run\n" + own.Replace(startReader)
	cmd := exec.Command(namespace[0], append(namespace[1:], "sh", "-c", lines)...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	runtime.LockOSThread() // the program ends with the thread that started it
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Log(log.String())
	}()

	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan int)
	go func() {
		defer close(ended)
		for ctx.Err() == nil { // until the reader is there
			command(ctx, []string{"--vpcd", "127.0.0.1:" + port, "--empty"}, r, io.Discard, io.Discard)
		}
	}()
	defer func() { cancel(); w.Close(); <-ended }()
	require.Eventually(t, func() bool {
		list := exec.Command(tool, "--module", ykcs11, "-L")
		list.Env = append(os.Environ(), strings.TrimPrefix(strings.TrimSpace(own.Replace(useReader)), "export "))
		out, _ := list.CombinedOutput()
		return strings.Contains(string(out), "YubiKey PIV #")
	}, time.Minute, 100*time.Millisecond)
}

func TestTheReadmeHasTheLinesOfTheHelpText(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	require.NoError(t, err)
	assert.Contains(t, string(readme), indented(startReader))
	assert.Contains(t, string(readme), indented(useReader))
	_, _, help := run(t, "", "--help")
	assert.Contains(t, help, indented(startReader))
}
