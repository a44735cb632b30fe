package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"sort"
	"sync"

	"github.com/tidemark-io/tidemark/disk"
)

// Config is what a log is told. FS and Dir are needed; the directory is the log's alone.
type Config struct {
	FS  disk.FS
	Dir string
	// FileBytes is the size of one file, 64 MiB when 0. A group of frames that is larger gets a file of its own size.
	FileBytes int64
	// MaxFrameBytes caps one batch, 16 MiB when 0.
	MaxFrameBytes int
	// Durable is what others know to have been durable here, 0 when nobody knows. A log that ends below it is ErrRolledBack,
	// one that is damaged below it a *CorruptionError.
	Durable LSN
}

// Log is an open log. Append has one caller at a time, and so has Sync; they may run beside each other, and everything else
// beside them. After a failure of either every call but Close, Read and Replay fails with ErrFailed.
type Log struct {
	config   Config
	recovery Recovery
	buffer   []byte // Append's

	mu     sync.Mutex
	files  []*logFile // by first LSN; the last is written to
	end    LSN        // everything appended lies below
	synced LSN        // everything below is durable
	failed error
	closed bool
}

// logFile is one file. use is held for reading while somebody reads or syncs it, and for writing to close it.
type logFile struct {
	first, end LSN // end: of what was appended, guarded by Log.mu
	name       string
	allocated  int64

	use    sync.RWMutex
	file   disk.File
	closed bool
}

// Open recovers the log in a directory, which it makes if need be, and returns it ready to append. Everything that the log
// then holds is durable.
func Open(config Config) (*Log, error) {
	if config.FileBytes <= 0 {
		config.FileBytes = 64 << 20
	}
	if config.MaxFrameBytes <= 0 {
		config.MaxFrameBytes = 16 << 20
	}
	l := &Log{config: config}
	if err := config.FS.MkdirAll(config.Dir); err != nil {
		return nil, fmt.Errorf("make the log's directory: %w", err)
	}
	if err := l.recover(); err != nil {
		return nil, errors.Join(err, l.closeFiles())
	}
	last := l.files[len(l.files)-1]
	l.end, l.synced = last.end, last.end
	l.recovery.Start, l.recovery.End = l.files[0].first, l.end
	return l, nil
}

// Recovery tells what Open found.
func (l *Log) Recovery() Recovery { return l.recovery }

// addFile makes the next file. On ErrNoSpace nothing has changed.
func (l *Log) addFile(first LSN, group int64) error {
	name := path.Join(l.config.Dir, fileName(first))
	size := max(l.config.FileBytes, fileHeaderSize+group)
	f, err := l.config.FS.Create(name)
	if errors.Is(err, fs.ErrExist) { // left behind by an attempt that failed half-way
		if err = l.config.FS.Remove(name); err == nil {
			f, err = l.config.FS.Create(name)
		}
	}
	if err != nil {
		return fmt.Errorf("make log file %s: %w", name, err)
	}
	make := func() error {
		if err := f.Allocate(size); err != nil {
			return err
		}
		if _, err := f.WriteAt(encodeFileHeader(first), 0); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		return l.config.FS.SyncDir(l.config.Dir)
	}
	if err := make(); err != nil {
		err = errors.Join(fmt.Errorf("make log file %s of %d bytes: %w", name, size, err), f.Close())
		// For good: were it to come back after a crash, frames appended to the file before it meanwhile would lie beyond it.
		if removeErr := l.remove(path.Base(name)); removeErr != nil {
			return fmt.Errorf("%v, and then: %w", err, removeErr) //nolint:errorlint // a full disk that cannot be cleaned up is no longer just full
		}
		return err
	}
	l.mu.Lock()
	l.files = append(l.files, &logFile{first: first, end: first, name: name, file: f, allocated: size})
	l.mu.Unlock()
	return nil
}

// Append writes frames behind each other, in one write, and stores where each begins in at, which is as long as frames. They
// are with the operating system then, not durable; the batches are not kept. On disk.ErrNoSpace nothing was appended and the
// call may be repeated; after any other error the log has failed.
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
			return l.fail(fmt.Errorf("append a batch of %d bytes, more than %d", len(f.Batch), l.config.MaxFrameBytes))
		}
		at[n] = end + LSN(size)
		size += frameHeaderSize + int64(len(f.Batch))
	}
	if size == 0 {
		return nil
	}
	if fileHeaderSize+int64(end-current.first)+size > current.allocated {
		if current, err = l.roll(current, end, size); err != nil {
			return err
		}
		synced = end
	}
	l.buffer = l.buffer[:0]
	for n, f := range frames {
		l.buffer = appendFrame(l.buffer, at[n], synced, f)
	}
	if _, err := current.file.WriteAt(l.buffer, fileHeaderSize+int64(end-current.first)); err != nil {
		if errors.Is(err, disk.ErrNoSpace) {
			return fmt.Errorf("append to log file %s: %w", current.name, err) // the next try overwrites what was written
		}
		return l.fail(fmt.Errorf("append to log file %s: %w", current.name, err))
	}
	if cap(l.buffer) > 16<<20 {
		l.buffer = nil
	}
	l.mu.Lock()
	l.end = end + LSN(size)
	current.end = l.end
	l.mu.Unlock()
	return nil
}

// roll seals the current file and makes the next. A file is durable before the next one exists.
func (l *Log) roll(current *logFile, end LSN, group int64) (*logFile, error) {
	if end == current.first {
		// Nothing in it yet, and too small for this group: make it larger.
		if err := current.file.Allocate(fileHeaderSize + group); err != nil {
			if errors.Is(err, disk.ErrNoSpace) {
				return nil, fmt.Errorf("enlarge log file %s: %w", current.name, err)
			}
			return nil, l.fail(fmt.Errorf("enlarge log file %s: %w", current.name, err))
		}
		l.mu.Lock()
		current.allocated = fileHeaderSize + group
		l.mu.Unlock()
		return current, nil
	}
	if err := current.file.Sync(); err != nil {
		return nil, l.fail(fmt.Errorf("sync log file %s: %w", current.name, err))
	}
	l.mu.Lock()
	l.synced = max(l.synced, end)
	l.mu.Unlock()
	if err := l.addFile(end, group); err != nil {
		if errors.Is(err, disk.ErrNoSpace) {
			return nil, err
		}
		return nil, l.fail(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.files[len(l.files)-1], nil
}

// Sync makes everything appended before the call durable and returns the LSN below which that holds. After an error the log
// has failed: the sync is never repeated.
func (l *Log) Sync() (LSN, error) {
	l.mu.Lock()
	err, end, synced, current := l.broken(), l.end, l.synced, l.files[len(l.files)-1]
	l.mu.Unlock()
	switch {
	case err != nil:
		return 0, err
	case synced >= end:
		return synced, nil
	}
	current.use.RLock()
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

func (l *Log) broken() error {
	if l.closed {
		return ErrClosed
	}
	if l.failed != nil {
		return fmt.Errorf("%w: %w", ErrFailed, l.failed)
	}
	return nil
}

func (l *Log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = err
	}
	return fmt.Errorf("%w: %w", ErrFailed, err)
}

// find returns the file that holds an LSN, locked for use.
func (l *Log) find(at LSN) (*logFile, LSN, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, 0, ErrClosed
	}
	n := sort.Search(len(l.files), func(n int) bool { return l.files[n].end > at })
	switch {
	case n == len(l.files):
		return nil, 0, fmt.Errorf("read LSN %d: the log ends at %d", at, l.end)
	case l.files[n].first > at:
		return nil, 0, fmt.Errorf("read LSN %d: %w", at, ErrTrimmed)
	}
	f := l.files[n]
	f.use.RLock()
	return f, f.end, nil
}

// Read gives the frame at an LSN, checked against its checksums. The batch is placed in buf when it fits, and is the
// caller's. ErrTrimmed when it is gone; *CorruptionError when it cannot be read back.
func (l *Log) Read(at LSN, buf []byte) (Frame, error) {
	f, _, err := l.find(at)
	if err != nil {
		return Frame{}, err
	}
	defer f.use.RUnlock()
	off := fileHeaderSize + int64(at-f.first)
	corrupt := func(reason string) error {
		return &CorruptionError{File: f.name, Offset: off, LSN: at, Reason: reason}
	}
	var head [frameHeaderSize]byte
	if err := readFull(f.file, head[:], off); err != nil {
		return Frame{}, fmt.Errorf("read log file %s at %d: %w", f.name, off, err)
	}
	h, reason := decodeFrameHeader(head[:], l.config.MaxFrameBytes)
	if reason == "" && h.lsn != at {
		reason = fmt.Sprintf("frame says LSN %d", h.lsn)
	}
	if reason != "" {
		return Frame{}, corrupt(reason)
	}
	if cap(buf) < h.length {
		buf = make([]byte, h.length)
	}
	buf = buf[:h.length]
	if err := readFull(f.file, buf, off+frameHeaderSize); err != nil {
		return Frame{}, fmt.Errorf("read log file %s at %d: %w", f.name, off, err)
	}
	if crc32.Checksum(buf, castagnoli) != h.batchCRC {
		return Frame{}, corrupt("batch does not match its checksum")
	}
	out := h.frame
	out.Batch = buf
	return out, nil
}

func readFull(f disk.File, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if n == len(p) || (err == nil && n == len(p)) {
		return nil
	}
	if errors.Is(err, io.EOF) || err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Replay calls fn for every frame from the log's start to its end, in order; f.Batch is valid during the call only. It is
// meant for the time before the first Append.
func (l *Log) Replay(fn func(at LSN, f Frame) error) error {
	l.mu.Lock()
	files := append([]*logFile(nil), l.files...)
	l.mu.Unlock()
	for _, f := range files {
		s, err := newScanner(f.file, f.name, f.first, l.config.MaxFrameBytes)
		if err != nil {
			return err
		}
		at, reason, err := s.walk(f.end, func(at LSN, h frameHeader, batch []byte) error {
			frame := h.frame
			frame.Batch = batch
			return fn(at, frame)
		})
		if err != nil {
			return err
		}
		if reason != "" {
			return &CorruptionError{File: f.name, Offset: fileHeaderSize + int64(at-f.first), LSN: at, Reason: reason}
		}
	}
	return nil
}

// Trim removes the files that lie wholly below an LSN, oldest first and each for good before the next, so that what is left
// is always the end of the log without a gap. The file that is written to stays: its name carries the LSN over a restart.
func (l *Log) Trim(below LSN) error {
	for {
		l.mu.Lock()
		if l.closed || len(l.files) < 2 || l.files[0].end > below {
			l.mu.Unlock()
			return nil
		}
		oldest := l.files[0]
		l.files = l.files[1:]
		l.mu.Unlock()
		if err := errors.Join(oldest.close(), l.remove(path.Base(oldest.name))); err != nil {
			return fmt.Errorf("trim the log: %w", err)
		}
	}
}

func (f *logFile) close() error {
	f.use.Lock()
	defer f.use.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	return f.file.Close()
}

// Start is the first LSN that the log holds.
func (l *Log) Start() LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.files[0].first
}

// End is the LSN of the next frame.
func (l *Log) End() LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

// Synced is the LSN below which everything is durable.
func (l *Log) Synced() LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.synced
}

// Size is what the log takes on disk, in bytes.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := int64(0)
	for _, f := range l.files {
		n += f.allocated
	}
	return n
}

// Close syncs what was appended, unless the log has failed, and closes the files. Safe to call twice.
func (l *Log) Close() error {
	l.mu.Lock()
	closed, failed := l.closed, l.failed
	l.mu.Unlock()
	if closed {
		return nil
	}
	var err error
	if failed == nil {
		_, err = l.Sync()
	}
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	return errors.Join(err, l.closeFiles())
}

func (l *Log) closeFiles() error {
	var err error
	for _, f := range l.files {
		err = errors.Join(err, f.close())
	}
	return err
}
