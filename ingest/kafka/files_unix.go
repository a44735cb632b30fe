//go:build unix

package kafka

import (
	"math"
	"syscall"
)

// openFiles is how many files the process may have open, connections among them.
func openFiles() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return math.MaxInt
	}
	return int(min(uint64(files.Cur), math.MaxInt)) //nolint:unconvert // it is signed on some systems
}
