//go:build unix && !linux

package nemesis

import "syscall"

// ownGroup puts a child into a group of its own. Only Linux can have it killed when the test is.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func withoutDeath(a *syscall.SysProcAttr) *syscall.SysProcAttr { return a }
