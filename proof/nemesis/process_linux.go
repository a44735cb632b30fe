package nemesis

import "syscall"

// ownGroup puts a child into a group of its own, so that a Ctrl-C in the terminal reaches only the test, and has the system kill
// it when the test dies.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// withoutDeath is for the one child that must outlive the test.
func withoutDeath(a *syscall.SysProcAttr) *syscall.SysProcAttr {
	a.Pdeathsig = 0
	return a
}
