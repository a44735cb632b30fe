package wal

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/tidemark-io/tidemark/disk"
)

// Config is what a log is told. FS and Dir are needed; the directory is the log's alone.
type Config struct {
	FS  disk.FS
	Dir string
	// FileBytes is the size of one file, 64 MiB when 0. A group of frames that is larger gets a file of its own size.
	FileBytes int64
	// MaxFrameBytes caps the batch of a frame that is appended, 16 MiB when 0. Larger ones, of another time, are still read.
	MaxFrameBytes int
	// Durable is what others know to have been durable here, 0 when nobody knows. A log that ends below it is ErrRolledBack,
	// one that is damaged below it a *CorruptionError.
	Durable LSN
	// Salt is a number that who writes batches does not know: see fileHeader. Each Open may have another.
	Salt uint32
}

// greatestFrame bounds Config.MaxFrameBytes.
const greatestFrame = 1 << 30

// Log is an open log. Append has one caller at a time, and so has Sync; they may run beside each other, and everything else
// beside them. After a failure of either, or of Trim, every call but Close, Read and Replay fails with ErrFailed.
type Log struct {
	config   Config
	recovery Recovery

	// Append's own.
	buffer []byte
	stale  int64 // offset in the current file up to which an append that ran out of space may have written; 0: none

	mu     sync.Mutex
	files  []*logFile // by first LSN; the last is written to
	end    LSN        // everything appended lies below
	synced LSN        // everything below is durable
	spares []*logFile // trimmed, to be written anew
	failed error
	closed bool
}

// logFile is one file. use is held for reading while somebody reads or syncs it, and for writing to close it.
type logFile struct {
	first, end LSN // end: of what was appended, guarded by Log.mu
	name       string
	allocated  int64
	salt       uint32
	writable   bool
	recycled   bool // frames of an earlier life lie behind its own

	use    sync.RWMutex
	file   disk.File
	closed bool
}

// offset is where in its file an LSN lies.
func (f *logFile) offset(at LSN) int64 { return fileHeaderSize + int64(at-f.first) }

// Open recovers the log in a directory, which it makes if need be, and returns it ready to append. Everything that the log
// then holds is durable.
func Open(config Config) (*Log, error) {
	if config.FileBytes <= 0 {
		config.FileBytes = 64 << 20
	}
	if config.MaxFrameBytes <= 0 {
		config.MaxFrameBytes = 16 << 20
	}
	if config.MaxFrameBytes > greatestFrame {
		return nil, fmt.Errorf("open the log: frames of %d bytes, at most %d are possible", config.MaxFrameBytes, greatestFrame)
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

func (l *Log) broken() error {
	if l.closed {
		return ErrClosed
	}
	if l.failed != nil {
		return fmt.Errorf("%w: %w", ErrFailed, l.failed)
	}
	return nil
}

// fail makes the log only close. Its error is never disk.ErrNoSpace, which would say that the call may be repeated.
func (l *Log) fail(err error) error {
	if errors.Is(err, disk.ErrNoSpace) {
		err = errors.New(err.Error())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = err
	}
	return fmt.Errorf("%w: %w", ErrFailed, err)
}

// Trim removes the files that lie wholly below an LSN, oldest first and each for good before the next, so that what is left
// is always the end of the log without a gap. The file that is written to stays: its name carries the LSN over a restart.
// Up to maxSpares files stay on disk, to be written anew. After an error the log has failed: with one removal in doubt a second
// one could leave a gap.
func (l *Log) Trim(below LSN) error {
	for {
		l.mu.Lock()
		if err := l.broken(); err != nil {
			l.mu.Unlock()
			return err
		}
		if len(l.files) < 2 || l.files[0].end > below {
			l.mu.Unlock()
			return nil
		}
		oldest := l.files[0]
		l.files = l.files[1:]
		l.mu.Unlock()
		if err := l.retire(oldest); err != nil {
			return l.fail(fmt.Errorf("trim the log: %w", err))
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

// Size is what the log takes on disk, in bytes, spare files aside.
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
		last := l.files[len(l.files)-1]
		if err = l.erase(last, last.offset(l.End())); errors.Is(err, disk.ErrNoSpace) {
			err = nil // nobody was promised that what could not be appended is gone after a restart
		}
		_, syncErr := l.Sync()
		err = errors.Join(err, syncErr)
	}
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	return errors.Join(err, l.closeFiles())
}

func (l *Log) closeFiles() error {
	l.mu.Lock()
	files := slices.Concat(l.files, l.spares)
	l.spares = nil
	l.mu.Unlock()
	var err error
	for _, f := range files {
		err = errors.Join(err, f.close())
	}
	return err
}
