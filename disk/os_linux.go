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

// writeOut waits until the pages of a range are written. It learns of errors that a later sync would then not report.
func writeOut(f *os.File, off, length int64) error {
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	for {
		err := unix.SyncFileRange(int(f.Fd()), off, length, all)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ESPIPE), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPERM):
			return nil // not on this file system, or not in this sandbox: then all is left to Sync
		default:
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
