//go:build !unix

package nemesis

import (
	"errors"
	"os"
	"syscall"
)

func ownGroup() *syscall.SysProcAttr { return nil }

func killGroup(p *os.Process) { _ = p.Kill() }

func terminate(p *os.Process) error { return p.Kill() } // there is nothing gentler

func pauseGroup(*os.Process, bool) error {
	return errors.New("this system cannot stop a process and let it go on")
}

func withoutDeath(a *syscall.SysProcAttr) *syscall.SysProcAttr { return a }
