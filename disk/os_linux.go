package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// dataSync makes data and length durable, but not the time of the last change, which nobody needs.
func dataSync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) { // interrupted before it began: nothing was lost
			return err
		}
	}
}

// allocate reserves blocks and sets the length. A file system without fallocate gets zeros written.
func allocate(f *os.File, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP):
			return writeZeros(f, size)
		default:
			return err
		}
	}
}
