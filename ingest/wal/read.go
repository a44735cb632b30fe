package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sort"

	"github.com/tidemark-io/tidemark/disk"
)

// find returns the file that holds an LSN, locked for use, and where its frames end.
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
// caller's. ErrTrimmed when it is gone; *CorruptionError when it cannot be read back, also when no frame begins there.
func (l *Log) Read(at LSN, buf []byte) (Frame, error) {
	f, end, err := l.find(at)
	if err != nil {
		return Frame{}, err
	}
	defer f.use.RUnlock()
	off := f.offset(at)
	var head [frameHeaderSize]byte
	left := int64(end - at)
	if left < frameHeaderSize {
		return Frame{}, &CorruptionError{File: f.name, Offset: off, LSN: at, Reason: "no frame header"}
	}
	if err := readFull(f.file, head[:], off); err != nil {
		return Frame{}, fmt.Errorf("read log file %s at %d: %w", f.name, off, err)
	}
	h, reason := decodeFrameHeader(head[:], f.salt, at, left)
	if reason != "" {
		return Frame{}, &CorruptionError{File: f.name, Offset: off, LSN: at, Reason: reason}
	}
	if cap(buf) < h.length {
		buf = make([]byte, h.length)
	}
	buf = buf[:h.length]
	if err := readFull(f.file, buf, off+frameHeaderSize); err != nil {
		return Frame{}, fmt.Errorf("read log file %s at %d: %w", f.name, off, err)
	}
	if crc32.Checksum(buf, castagnoli) != h.batchCRC {
		return Frame{}, &CorruptionError{File: f.name, Offset: off, LSN: at, Reason: "batch does not match its checksum"}
	}
	out := h.frame
	out.Batch = buf
	return out, nil
}

func readFull(f disk.File, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// Replay calls fn for every frame from the log's start to its end, in order; f.Batch is valid during the call only. It is
// meant for the time before the first Append. An error of fn ends it and is returned.
func (l *Log) Replay(fn func(at LSN, f Frame) error) error {
	l.mu.Lock()
	closed, files, end := l.closed, slices.Clone(l.files), l.end
	l.mu.Unlock()
	if closed {
		return ErrClosed
	}
	for n, f := range files {
		stop := end
		if n+1 < len(files) {
			stop = files[n+1].first
		}
		if err := f.replay(stop, fn); err != nil {
			return err
		}
	}
	return nil
}

func (f *logFile) replay(end LSN, fn func(at LSN, f Frame) error) error {
	f.use.RLock()
	defer f.use.RUnlock()
	if f.closed {
		return fmt.Errorf("replay log file %s: %w", f.name, ErrTrimmed)
	}
	s, err := newScanner(f.file, f.name, f.first)
	if err != nil {
		return err
	}
	s.salt = f.salt
	at, reason, err := s.walk(end, func(at LSN, h frameHeader, batch []byte) error {
		frame := h.frame
		frame.Batch = batch
		return fn(at, frame)
	})
	if err != nil {
		return err
	}
	if reason != "" {
		return s.corruption(at, reason)
	}
	return nil
}
