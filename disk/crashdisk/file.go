package crashdisk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"syscall"

	"github.com/tidemark-io/tidemark/disk"
)

// file is a handle.
type file struct {
	fs       *FS
	name     string
	inode    *inode
	writable bool
	closed   bool
}

// call checks the handle first.
func (h *file) call(op Op, run, torn func() error, lost func()) error {
	return h.fs.call(op, h.name, func() error {
		switch writes := op == Write || op == Allocate || op == Truncate; {
		case h.closed:
			return fs.ErrClosed
		case h.inode.dir && op == Read:
			return syscall.EISDIR
		case writes && !h.writable:
			return syscall.EBADF
		}
		return run()
	}, torn, lost)
}

// ReadAt implements io.ReaderAt.
func (h *file) ReadAt(p []byte, off int64) (n int, err error) {
	err = h.call(Read, func() error {
		if off < 0 {
			return syscall.EINVAL
		}
		if off < int64(len(h.inode.seen)) {
			n = copy(p, h.inode.seen[off:])
		}
		if n < len(p) {
			return io.EOF
		}
		return nil
	}, nil, nil)
	if errors.Is(err, io.EOF) {
		err = io.EOF // as the contract of io.ReaderAt has it
	}
	return n, err
}

// WriteAt implements io.WriterAt.
func (h *file) WriteAt(p []byte, off int64) (n int, err error) {
	write := func(length int) {
		n = length
		if length > 0 {
			h.inode.change(change{off: off, data: slices.Clone(p[:length])})
			h.inode.modified = h.fs.now
		}
	}
	err = h.call(Write, func() error {
		if off < 0 {
			return syscall.EINVAL
		}
		size := int64(len(h.inode.seen))
		if grow := max(off+int64(len(p))-size, 0); grow > 0 {
			if room := h.fs.room(); grow > room {
				write(int(max(size+room-off, 0)))
				return full(grow, room)
			}
		}
		write(len(p))
		return nil
	}, func() error {
		if !h.closed && h.writable {
			write(len(p) / 2)
		}
		return nil
	}, nil)
	return n, err
}

func full(want, room int64) error {
	return fmt.Errorf("%w: %d bytes more, %d are free", disk.ErrNoSpace, want, room)
}

// Size implements disk.File.
func (h *file) Size() (n int64, err error) {
	err = h.call(Size, func() error {
		n = int64(len(h.inode.seen))
		return nil
	}, nil, nil)
	return n, err
}

// Allocate implements disk.File.
func (h *file) Allocate(size int64) error {
	return h.call(Allocate, func() error {
		grow := size - int64(len(h.inode.seen))
		if grow <= 0 {
			return nil
		}
		if room := h.fs.room(); grow > room {
			return full(grow, room)
		}
		h.inode.change(change{off: size})
		return nil
	}, nil, nil)
}

// Truncate implements disk.File.
func (h *file) Truncate(size int64) error {
	return h.call(Truncate, func() error {
		if size < 0 {
			return syscall.EINVAL
		}
		h.inode.change(change{off: size})
		h.inode.modified = h.fs.now
		return nil
	}, nil, nil)
}

// Sync implements disk.File. One that fails loses what is pending, for good.
func (h *file) Sync() error {
	return h.call(Sync, func() error {
		h.inode.sync()
		return nil
	}, nil, func() { h.inode.pending = nil })
}

// WriteOut implements disk.File. What is pending stays so, and is lost when it fails.
func (h *file) WriteOut(_, _ int64) error {
	return h.call(WriteOut, func() error { return nil }, nil, func() { h.inode.pending = nil })
}

// Close implements disk.File. What is pending stays so.
func (h *file) Close() error {
	return h.call(Close, func() error {
		h.closed = true
		return nil
	}, nil, nil)
}
