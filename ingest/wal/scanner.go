package wal

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/tidemark-io/tidemark/disk"
)

// scanner walks the frames of one file through a window, so that its memory is bounded by the window and one frame.
type scanner struct {
	file   disk.File
	name   string
	first  LSN
	salt   uint32
	size   int64 // of the file
	window []byte
	base   int64 // file offset of the window
}

const scanWindow = 1 << 20

func newScanner(f disk.File, name string, first LSN) (*scanner, error) {
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of log file %s: %w", name, err)
	}
	return &scanner{file: f, name: name, first: first, size: size}, nil
}

// offset is where in the file an LSN lies.
func (s *scanner) offset(at LSN) int64 { return fileHeaderSize + int64(at-s.first) }

func (s *scanner) corruption(at LSN, reason string) error {
	return &CorruptionError{File: s.name, Offset: s.offset(at), LSN: at, Reason: reason}
}

// bytes gives n bytes at an offset, fewer at the file's end. Valid until the next call.
func (s *scanner) bytes(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), max(s.size-off, 0)))
	if off < s.base || off+int64(n) > s.base+int64(len(s.window)) {
		want := int(min(int64(max(n, scanWindow)), s.size-off))
		if cap(s.window) < want {
			s.window = make([]byte, want)
		}
		s.window = s.window[:want]
		s.base = off
		if read, err := s.file.ReadAt(s.window, off); err != nil && !(errors.Is(err, io.EOF) && read == want) {
			return nil, fmt.Errorf("read log file %s at %d: %w", s.name, off, err)
		}
	}
	return s.window[off-s.base:][:n], nil
}

// frame reads the frame at an LSN. A reason says why there is no whole one; the batch is valid until the next call.
func (s *scanner) frame(at LSN) (h frameHeader, batch []byte, reason string, err error) {
	off := s.offset(at)
	head, err := s.bytes(off, frameHeaderSize)
	if err != nil {
		return h, nil, "", err
	}
	if h, reason = decodeFrameHeader(head, s.salt, at, s.size-off); reason != "" {
		return h, nil, reason, nil
	}
	if batch, err = s.bytes(off+frameHeaderSize, h.length); err != nil {
		return h, nil, "", err
	}
	if crc32.Checksum(batch, castagnoli) != h.batchCRC {
		return h, nil, "batch does not match its checksum", nil
	}
	return h, batch, "", nil
}

// walk visits every frame from the file's beginning to end, or to the first that is none, and returns where it stopped.
func (s *scanner) walk(end LSN, visit func(at LSN, h frameHeader, batch []byte) error) (at LSN, reason string, err error) {
	for at = s.first; at < end; {
		h, batch, reason, err := s.frame(at)
		if err != nil || reason != "" {
			return at, reason, err
		}
		if visit != nil {
			if err := visit(at, h, batch); err != nil {
				return at, "", err
			}
		}
		at += LSN(h.size())
	}
	return at, "", nil
}

// framesBehind searches behind a broken place for a readable frame, right for its place, that says more than synced was durable when it was written.
func (s *scanner) framesBehind(broken, synced LSN) (bool, error) {
	for off := s.offset(broken) + 1; off+frameHeaderSize <= s.size; {
		left := s.base + int64(len(s.window)) - off
		if off < s.base || left < frameHeaderSize {
			left = scanWindow
		}
		p, err := s.bytes(off, int(left))
		if err != nil {
			return false, err
		}
		// A file may be full of what begins like a frame and is none: each is looked at where it is.
		for i := bytes.Index(p, frameMagic[:]); i >= 0 && len(p)-i >= frameHeaderSize; i = bytes.Index(p, frameMagic[:]) {
			off, p = off+int64(i), p[i:]
			at := s.first + LSN(off-fileHeaderSize)
			if frameLSN(p) == at {
				if h, reason := decodeFrameHeader(p, s.salt, at, s.size-off); reason == "" && h.synced > synced {
					return true, nil
				}
			}
			off, p = off+1, p[1:]
		}
		// What may begin in what is left of the window is looked at in the next one.
		off += int64(max(len(p)-frameHeaderSize+1, 1))
	}
	return false, nil
}

// tornBytes counts the bytes from an LSN on up to the last that is not zero.
func (s *scanner) tornBytes(from LSN) (int64, error) {
	start := s.offset(from)
	last := start
	for off := start; off < s.size; {
		p, err := s.bytes(off, scanWindow)
		if err != nil {
			return 0, err
		}
		if kept := bytes.TrimRight(p, "\x00"); len(kept) > 0 {
			last = off + int64(len(kept))
		}
		off += int64(len(p))
	}
	return last - start, nil
}

// endsAt tells whether zeros stand where a frame would begin, as they do behind the last group of a file that is recycled.
func (s *scanner) endsAt(at LSN) (bool, error) {
	p, err := s.bytes(s.offset(at), frameHeaderSize)
	return len(bytes.Trim(p, "\x00")) == 0, err
}
