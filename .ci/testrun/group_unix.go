//go:build unix

package main

import (
	"os"
	"os/exec"
	"syscall"
)

// ownGroup gives go test a process group of its own, so that a signal reaches the
// tests it started, and reaches each of them once.
func ownGroup(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func signalGroup(p *os.Process, s os.Signal) {
	if n, ok := s.(syscall.Signal); ok {
		_ = syscall.Kill(-p.Pid, n)
	}
}

func killGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
