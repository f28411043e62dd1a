package modules

import (
	"os/exec"
	"runtime"
	"syscall"
)

// endWithUs has the program killed when this process ends, however that happens. The
// kernel ties it to the thread that starts the program: the caller keeps its thread
// until the program has ended.
func endWithUs(cmd *exec.Cmd) {
	runtime.LockOSThread() // for good: the thread ends with the goroutine, after the program
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// apart keeps a signal to this process's group, as a terminal or a test runner sends
// it, from the program.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
