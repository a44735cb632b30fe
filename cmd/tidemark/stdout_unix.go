//go:build unix

package main

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// readerGone returns a channel that is closed when f is a pipe and nobody reads it any more. A command that waits for
// records has nothing to write, and so would not notice before the next one comes.
//
// The goroutine lives as long as the process: a wait for that event cannot be taken back.
func readerGone(f *os.File) <-chan struct{} {
	info, err := f.Stat()
	if err != nil || info.Mode()&(fs.ModeNamedPipe|fs.ModeSocket) == 0 {
		return nil
	}
	gone := make(chan struct{})
	go func() {
		for {
			// No event is asked for: errors and hang-ups are always told.
			fds := []unix.PollFd{{Fd: int32(f.Fd())}}
			n, err := unix.Poll(fds, -1)
			if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
				continue
			}
			if err == nil && n > 0 && fds[0].Revents&unix.POLLNVAL == 0 {
				close(gone)
			}
			return
		}
	}()
	return gone
}
