package modules

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rxguard/rxguard/internal/need"
	"github.com/rxguard/rxguard/internal/testcard"
)

// patience bounds every wait for an outside program. It is long, because the machine
// may be busy.
const patience = 60 * time.Second

// slotsPerDriver is fixed in vpcd: each loaded copy of it makes two readers, on two
// ports, one after the other.
const slotsPerDriver = 2

// Daemon is a pcscd of the test's own, with virtual readers.
type Daemon struct {
	dir       string // run/ is its /run/pcscd, readers/ its configuration
	namespace []string
	program   string
	drivers   string // the folder of the machine's drivers, which it does not see
	ports     []int  // of the first slot of each driver
	readers   int

	mu      sync.Mutex
	process *process // nil while stopped
}

var running struct {
	sync.Mutex
	test string // which has the daemon; empty: none
}

// script runs in the mount namespace: the machine's pcscd is out of reach, and so
// are its drivers, so that no real reader is taken away from it.
const script = `set -e
mount -t tmpfs tmpfs /run
mkdir /run/pcscd
mount --bind "$1/run" /run/pcscd
mount -t tmpfs tmpfs "$2"
exec "$3" --foreground --info -c "$1/readers"
`

// PCSCD starts a pcscd with at least so many virtual readers and ends it with the
// test. The process's programs and modules reach it, and no other, through
// PCSCLITE_CSOCK_NAME; one at a time runs in a process. vpcd makes readers in pairs:
// an odd number leaves one over, which stays empty.
func PCSCD(t testing.TB, readers int) *Daemon {
	t.Helper()
	running.Lock()
	if running.test != "" {
		defer running.Unlock()
		t.Fatalf("modules: the pcscd of %s is running; one at a time in a process", running.test)
	}
	running.test = t.Name()
	running.Unlock()
	t.Cleanup(func() {
		running.Lock()
		running.test = ""
		running.Unlock()
	})
	d := pcscd(t, readers, "pcscd") // the same for each: clients remember the first socket they saw
	if err := os.Setenv("PCSCLITE_CSOCK_NAME", d.Socket()); err != nil {
		t.Fatal(err)
	}
	return d
}

var apartCount atomic.Int64

// PCSCDApart is PCSCD for other processes, whose environment names its Socket
// (PCSCLITE_CSOCK_NAME). This process's own programs and modules do not reach it, and
// several run at once.
func PCSCDApart(t testing.TB, readers int) *Daemon {
	t.Helper()
	return pcscd(t, readers, fmt.Sprintf("pcscd%d", apartCount.Add(1)))
}

// pcscd starts one in a folder of this name.
func pcscd(t testing.TB, readers int, name string) *Daemon {
	t.Helper()
	if readers < 1 || readers > 16 {
		t.Fatalf("modules: %d readers, expected 1 to 16", readers)
	}
	driver := need.File(t, "the virtual smartcard reader vpcd", "vsmartcard-vpcd", "/usr/lib*/pcsc/drivers/serial/libifdvpcd.so")
	d := &Daemon{
		program:   need.File(t, "the program pcscd", "pcscd", "/usr/sbin/pcscd", "/usr/bin/pcscd", "/usr/local/sbin/pcscd"), // not in everybody's PATH
		namespace: need.MountNamespace(t),
		drivers:   filepath.Dir(filepath.Dir(driver)), readers: readers,
	}
	base, err := processDir()
	if err != nil {
		t.Fatalf("modules: %v", err)
	}
	d.dir = filepath.Join(base, name)
	t.Cleanup(d.Stop)
	for range 5 {
		if err = d.configure(driver); err != nil {
			t.Fatalf("modules: %v", err)
		}
		if err = d.Start(); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// errPortTaken: another program, as another package's tests, was given a port that was
// free when it was looked at.
var errPortTaken = errors.New("modules: a port of the virtual readers was taken meanwhile")

// configure writes the readers' configuration, with ports that were free a moment
// ago and that no outgoing connection is given.
func (d *Daemon) configure(driver string) error {
	for _, dir := range []string{"", "run", "readers"} {
		if err := os.MkdirAll(filepath.Join(d.dir, dir), 0o755); err != nil {
			return err
		}
	}
	library, err := os.ReadFile(driver)
	if err != nil {
		return err
	}
	var conf bytes.Buffer
	d.ports = nil
	for i := range (d.readers + slotsPerDriver - 1) / slotsPerDriver {
		// A library that is loaded once keeps one set of slots, so each has a copy.
		lib := filepath.Join(d.dir, fmt.Sprintf("vpcd%d.so", i))
		if err := os.WriteFile(lib, library, 0o755); err != nil {
			return err
		}
		port, err := freePorts(slotsPerDriver)
		if err != nil {
			return err
		}
		d.ports = append(d.ports, port)
		fmt.Fprintf(&conf, "FRIENDLYNAME \"%s %02d\"\nDEVICENAME /dev/null:%d\nLIBPATH %s\nCHANNELID %d\n\n", readerName, i, port, lib, port)
	}
	return os.WriteFile(filepath.Join(d.dir, "readers", "vpcd"), conf.Bytes(), 0o644)
}

// readerName begins as ykcs11 wants it; the number of the driver and pcscd's two
// numbers follow.
const readerName = "Yubico YubiKey Virtual"

// freePorts finds consecutive ports below the dynamic range (RFC 6335 6; Linux's
// begins at 32768), so that a dial that finds nobody cannot meet itself.
func freePorts(n int) (int, error) {
	for range 1000 {
		first := 20000 + rand.IntN(12000)
		free := true
		for port := first; port < first+n && free; port++ {
			l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
			if free = err == nil; free {
				l.Close()
			}
		}
		if free {
			return first, nil
		}
	}
	return 0, fmt.Errorf("no %d consecutive free ports found", n)
}

// Socket is where PC/SC clients reach the daemon.
func (d *Daemon) Socket() string { return filepath.Join(d.dir, "run", "pcscd.comm") }

// Addr is where the card for reader i, from 0, is plugged in.
func (d *Daemon) Addr(i int) string {
	return fmt.Sprintf("127.0.0.1:%d", d.ports[i/slotsPerDriver]+i%slotsPerDriver)
}

// Name is the PC/SC name of reader i, from 0, as a module shows it in its slot's
// description.
func (d *Daemon) Name(i int) string {
	return fmt.Sprintf("%s %02d 00 %02X", readerName, i/slotsPerDriver, i%slotsPerDriver)
}

// Plug plugs a card into reader i, from 0, for the time of the test, and waits until
// the reader has noticed a card that is in.
func (d *Daemon) Plug(t testing.TB, i int, c *testcard.Card) *testcard.Reader {
	t.Helper()
	r, err := c.Plug(d.Addr(i))
	if err != nil {
		t.Fatalf("modules: %v\n%s", err, d.Log())
	}
	t.Cleanup(func() { r.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.Seen(ctx); err != nil {
		t.Fatalf("modules: %v\n%s", err, d.Log())
	}
	return r
}

// Start starts the daemon, where it does not run, with the same socket and the same
// readers, and waits until it is ready.
func (d *Daemon) Start() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.process != nil {
		return nil
	}
	for _, left := range []string{"pcscd.comm", "pcscd.pid"} {
		if err := os.RemoveAll(filepath.Join(d.dir, "run", left)); err != nil {
			return err
		}
	}
	args := append(append([]string{}, d.namespace...), "sh", "-c", script, "sh", d.dir, d.drivers, d.program)
	p, err := start(args)
	if err != nil {
		return fmt.Errorf("modules: pcscd: %w", err)
	}
	taken := func(log string) bool {
		return strings.Contains(log, "Address already in use") || strings.Contains(log, "Could not initialize connection to virtual ICC")
	}
	err = p.wait("pcscd with its virtual readers", func(log string) bool {
		if taken(log) {
			return true
		}
		conn, err := net.Dial("unix", d.Socket())
		if err != nil {
			return false
		}
		conn.Close()
		return strings.Count(log, "Waiting for virtual ICC on port") >= slotsPerDriver*len(d.ports)
	})
	if err == nil && taken(p.log.String()) {
		err = fmt.Errorf("%w\n%s", errPortTaken, p.log.String())
	}
	if err != nil {
		p.kill()
		return err
	}
	d.process = p
	return nil
}

// Stop kills the daemon, as a crash would.
func (d *Daemon) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.process != nil {
		d.process.kill()
		d.process = nil
	}
}

// Restart is Stop and Start. Cards that are plugged in come back by themselves.
func (d *Daemon) Restart() error {
	d.Stop()
	return d.Start()
}

// Log is the end of what the daemon printed since its last start.
func (d *Daemon) Log() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.process == nil {
		return "pcscd is stopped"
	}
	return d.process.log.String()
}

// process is an outside program with what it prints.
type process struct {
	cmd  *exec.Cmd
	log  *tail
	done chan struct{} // closed when it has ended
}

func start(args []string) (*process, error) {
	p := &process{cmd: exec.Command(args[0], args[1:]...), log: &tail{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.WaitDelay = time.Second
	started := make(chan error)
	go func() {
		defer close(p.done)
		endWithUs(p.cmd)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
	}()
	return p, <-started
}

// wait polls until the program is ready, has ended, or patience has.
func (p *process) wait(what string, ready func(log string) bool) error {
	deadline := time.Now().Add(patience)
	for !ready(p.log.String()) {
		select {
		case <-p.done:
			return fmt.Errorf("modules: %s ended: %v\n%s", what, p.cmd.ProcessState, p.log.String())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("modules: %s was not ready within %v\n%s", what, patience, p.log.String())
		}
	}
	return nil
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

var _ io.Writer = (*tail)(nil)

const tailLength = 64 << 10

func (l *tail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, b...)
	if len(l.b) > 2*tailLength {
		l.b = bytes.Clone(l.b[len(l.b)-tailLength:])
	}
	return len(b), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}
