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
