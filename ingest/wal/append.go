package wal

import (
	"errors"
	"fmt"

	"github.com/tidemark-io/tidemark/disk"
)

const (
	// writeBytes is what one write gathers. It fits a processor's cache, which makes larger ones slower.
	writeBytes = 1 << 20
	// directBytes is the length from which a batch is written from where it lies.
	directBytes = 256 << 10
)

// Append writes frames behind each other and stores where each begins in at, which is as long as frames. They
// are with the operating system then, not durable; the batches are not kept.
//
// On ErrTooLarge and disk.ErrNoSpace nothing was appended, and the log goes on: on a full disk the caller tries again when
// there is room. After any other error the log has failed. A crash may leave frames of any call, failed or not, that no later
// Sync has covered; after a Sync only what was appended is there.
func (l *Log) Append(frames []Frame, at []LSN) error {
	if len(at) != len(frames) {
		panic("wal: Append wants a place for every frame")
	}
	l.mu.Lock()
	err, end, synced, current := l.broken(), l.end, l.synced, l.files[len(l.files)-1]
	l.mu.Unlock()
	if err != nil {
		return err
	}
	size := int64(0)
	for n, f := range frames {
		if len(f.Batch) > l.config.MaxFrameBytes {
			return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(f.Batch), l.config.MaxFrameBytes)
		}
		at[n] = end + LSN(size)
		size += frameHeaderSize + int64(len(f.Batch))
	}
	if size == 0 {
		return nil
	}
	if current.offset(end)+size > current.allocated {
		if current, err = l.roll(current, end, size); err != nil {
			return err
		}
		synced = end
	}
	off := current.offset(end)
	stop := max(off+size, l.stale)
	if err := l.write(current, off, frames, at, synced); err != nil {
		err = fmt.Errorf("append to log file %s: %w", current.name, err)
		if !errors.Is(err, disk.ErrNoSpace) {
			return l.fail(err)
		}
		l.stale = stop
		if eraseErr := l.erase(current, off); eraseErr != nil && !errors.Is(eraseErr, disk.ErrNoSpace) {
			return l.fail(errors.Join(err, eraseErr))
		}
		return err
	}
	l.stale = 0
	l.mu.Lock()
	l.end = end + LSN(size)
	current.end = l.end
	l.mu.Unlock()
	return nil
}

// write encodes frames to a file from off on, and zeros behind them: over what an append before left there, and where the next frame will stand in a file
// whose bytes are of an earlier life.
func (l *Log) write(f *logFile, off int64, frames []Frame, at []LSN, synced LSN) error {
	flush := func(p []byte) error {
		if len(p) == 0 {
			return nil
		}
		_, err := f.file.WriteAt(p, off)
		off += int64(len(p))
		return err
	}
	l.buffer = l.buffer[:0]
	for n, frame := range frames {
		l.buffer = appendFrameHeader(l.buffer, f.salt, at[n], synced, frame)
		direct := len(frame.Batch) >= directBytes
		if !direct {
			l.buffer = append(l.buffer, frame.Batch...)
		}
		if direct || len(l.buffer) >= writeBytes {
			if err := flush(l.buffer); err != nil {
				return err
			}
			l.buffer = l.buffer[:0]
		}
		if direct {
			if err := flush(frame.Batch); err != nil {
				return err
			}
		}
	}
	if f.recycled {
		l.buffer = append(l.buffer, make([]byte, min(frameHeaderSize, f.allocated-off-int64(len(l.buffer))))...)
	}
	if err := flush(l.buffer); err != nil {
		return err
	}
	return flush(make([]byte, max(l.stale-off, 0)))
}

// erase overwrites what a write that failed for lack of space may have left behind off. A shorter retry would else bring the
// next LSN right before a whole frame of the first try, which a recovery would take for a live one. While even that fails for
// lack of space, the next write carries the zeros.
func (l *Log) erase(f *logFile, off int64) error {
	if l.stale == 0 {
		return nil
	}
	size, err := f.file.Size()
	if err != nil {
		return fmt.Errorf("size of log file %s: %w", f.name, err)
	}
	l.stale = min(l.stale, size) // the write did not come farther
	if l.stale > off {
		if _, err := f.file.WriteAt(make([]byte, l.stale-off), off); err != nil {
			return fmt.Errorf("erase half an append in log file %s: %w", f.name, err)
		}
	}
	l.stale = 0
	return nil
}

// roll seals the current file and makes the next. A file is durable before the next one exists.
func (l *Log) roll(current *logFile, end LSN, group int64) (*logFile, error) {
	if err := l.erase(current, current.offset(end)); err != nil {
		if errors.Is(err, disk.ErrNoSpace) {
			return nil, err
		}
		return nil, l.fail(err)
	}
	if end == current.first {
		// Nothing in it yet, and too small for this group: make it larger.
		size := max(l.config.FileBytes, fileHeaderSize+group)
		if err := current.file.Allocate(size); err != nil {
			err = fmt.Errorf("enlarge log file %s: %w", current.name, err)
			if errors.Is(err, disk.ErrNoSpace) {
				return nil, err
			}
			return nil, l.fail(err)
		}
		l.mu.Lock()
		current.allocated = size
		l.mu.Unlock()
		return current, nil
	}
	if err := current.file.Sync(); err != nil {
		return nil, l.fail(fmt.Errorf("sync log file %s: %w", current.name, err))
	}
	l.mu.Lock()
	l.synced = max(l.synced, end)
	l.mu.Unlock()
	next, err := l.make(fileHeader{first: end, synced: end, salt: l.config.Salt}, max(l.config.FileBytes, fileHeaderSize+group), nil)
	if err != nil {
		if errors.Is(err, disk.ErrNoSpace) {
			return nil, err
		}
		return nil, l.fail(err)
	}
	l.mu.Lock()
	l.files = append(l.files, next)
	l.mu.Unlock()
	return next, nil
}

// Sync makes everything appended before the call durable and returns the LSN below which that holds. After an error the log
// has failed: the sync is never repeated.
func (l *Log) Sync() (LSN, error) {
	l.mu.Lock()
	err, end, synced, current := l.broken(), l.end, l.synced, l.files[len(l.files)-1]
	if err != nil || synced >= end {
		l.mu.Unlock()
		return synced, err
	}
	current.use.RLock() // under mu: a file that is still listed is not being closed
	l.mu.Unlock()
	err = current.file.Sync()
	current.use.RUnlock()
	if err != nil {
		return 0, l.fail(fmt.Errorf("sync log file %s: %w", current.name, err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.synced = max(l.synced, end)
	return l.synced, nil
}
