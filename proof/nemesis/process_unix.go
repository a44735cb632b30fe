//go:build unix

package nemesis

import (
	"os"
	"syscall"
)

func killGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) } // one that is gone is what was wanted

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

func pauseGroup(p *os.Process, paused bool) error {
	if paused {
		return syscall.Kill(-p.Pid, syscall.SIGSTOP)
	}
	return syscall.Kill(-p.Pid, syscall.SIGCONT)
}
