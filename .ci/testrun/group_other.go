//go:build !unix

package main

import (
	"os"
	"os/exec"
)

// ownGroup does nothing where there are no process groups.
func ownGroup(*exec.Cmd) {}

// signalGroup does nothing: here the console hands ^C to go test itself, and killGroup
// ends it after the grace.
func signalGroup(*os.Process, os.Signal) {}

func killGroup(p *os.Process) { _ = p.Kill() }
