package wal

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/tidemark-io/tidemark/disk"
)

// Recovery tells what Open found.
type Recovery struct {
	Start, End LSN
	Frames     int
	// TornBytes is what was cut off behind the last whole frame, and TornFile where; 0 after a clean stop.
	TornBytes int64
	TornFile  string
}

// scanner walks the frames of one file through a window, so that its memory is bounded by the window and one frame.
type scanner struct {
	file   disk.File
	name   string
	first  LSN
	size   int64 // of the file
	max    int   // greatest batch
	window []byte
	base   int64 // file offset of the window
}

const scanWindow = 1 << 20

func newScanner(f disk.File, name string, first LSN, max int) (*scanner, error) {
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of log file %s: %w", name, err)
	}
	return &scanner{file: f, name: name, first: first, size: size, max: max}, nil
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
	off := fileHeaderSize + int64(at-s.first)
	head, err := s.bytes(off, frameHeaderSize)
	if err != nil {
		return h, nil, "", err
	}
	if h, reason = decodeFrameHeader(head, s.max); reason != "" {
		return h, nil, reason, nil
	}
	if h.lsn != at {
		return h, nil, fmt.Sprintf("frame says LSN %d", h.lsn), nil
	}
	if batch, err = s.bytes(off+frameHeaderSize, h.length); err != nil {
		return h, nil, "", err
	}
	if len(batch) < h.length {
		return h, nil, "batch ends too early", nil
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

// syncedBeyond searches behind a broken place for a readable frame which says that the place had been synced.
func (s *scanner) syncedBeyond(broken LSN) (bool, error) {
	for off := fileHeaderSize + int64(broken-s.first) + 1; off+frameHeaderSize <= s.size; {
		p, err := s.bytes(off, scanWindow)
		if err != nil {
			return false, err
		}
		i := bytes.Index(p, frameMagic[:])
		if i < 0 {
			off += int64(max(len(p)-len(frameMagic)+1, 1))
			continue
		}
		off += int64(i)
		head, err := s.bytes(off, frameHeaderSize)
		if err != nil {
			return false, err
		}
		h, reason := decodeFrameHeader(head, s.max)
		if reason == "" && h.lsn == s.first+LSN(off-fileHeaderSize) && h.synced > broken {
			return true, nil
		}
		off++
	}
	return false, nil
}

// tornBytes counts the bytes from an LSN on up to the last that is not zero.
func (s *scanner) tornBytes(from LSN) (int64, error) {
	start := fileHeaderSize + int64(from-s.first)
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

// recover finds the log's files, checks every frame, and leaves the last file written anew and synced.
func (l *Log) recover() error {
	firsts, err := l.listFiles()
	if err != nil {
		return err
	}
	for n, first := range firsts {
		if n == len(firsts)-1 {
			break
		}
		if err := l.recoverSealed(first, firsts[n+1]); err != nil {
			return err
		}
	}
	if len(firsts) > 0 {
		if err := l.recoverLast(firsts[len(firsts)-1]); err != nil {
			return err
		}
	}
	if len(l.files) == 0 {
		if l.config.Durable > 0 {
			return fmt.Errorf("%w: %s is empty, but LSN %d was durable", ErrRolledBack, l.config.Dir, l.config.Durable)
		}
		return l.addFile(0, 0)
	}
	return nil
}

// listFiles returns the first LSNs of the log's files in order, and removes rewrites that a crash has left.
func (l *Log) listFiles() ([]LSN, error) {
	entries, err := l.config.FS.ReadDir(l.config.Dir)
	if err != nil {
		return nil, fmt.Errorf("list the log's directory: %w", err)
	}
	var firsts []LSN
	for _, e := range entries {
		if strings.HasSuffix(e.Name, rewriteSuffix) {
			if err := l.remove(e.Name); err != nil {
				return nil, err
			}
			continue
		}
		first, ok := parseFileName(e.Name)
		if !ok {
			return nil, fmt.Errorf("%s is no file of the log: move it out of the log's directory", path.Join(l.config.Dir, e.Name))
		}
		firsts = append(firsts, first)
	}
	slices.Sort(firsts)
	return firsts, nil
}

// remove removes a file for good.
func (l *Log) remove(name string) error {
	if err := l.config.FS.Remove(path.Join(l.config.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove log file %s: %w", name, err)
	}
	if err := l.config.FS.SyncDir(l.config.Dir); err != nil {
		return fmt.Errorf("sync the log's directory: %w", err)
	}
	return nil
}

// open opens a file and checks its header.
func (l *Log) open(first LSN) (f disk.File, s *scanner, reason string, err error) {
	name := path.Join(l.config.Dir, fileName(first))
	if f, err = l.config.FS.Open(name); err != nil {
		return nil, nil, "", fmt.Errorf("open log file: %w", err)
	}
	if s, err = newScanner(f, name, first, l.config.MaxFrameBytes); err == nil {
		var head []byte
		if head, err = s.bytes(0, fileHeaderSize); err == nil {
			var unknown bool
			if reason, unknown = checkFileHeader(head, first); unknown {
				err = fmt.Errorf("%w: %s: %s", ErrVersion, name, reason)
			}
		}
	}
	if err != nil {
		return nil, nil, "", errors.Join(err, f.Close())
	}
	return f, s, reason, nil
}

// recoverSealed checks a file that was synced before the next began: every byte of it must be right.
func (l *Log) recoverSealed(first, next LSN) error {
	f, s, reason, err := l.open(first)
	if err != nil {
		return err
	}
	at := first
	frames := 0
	if reason == "" {
		at, reason, err = s.walk(next, func(LSN, frameHeader, []byte) error { frames++; return nil })
	}
	if err == nil && reason == "" && at != next {
		reason = fmt.Sprintf("a frame ends at LSN %d, where the next file begins at %d", at, next)
	}
	if err == nil && reason != "" {
		err = &CorruptionError{File: s.name, Offset: fileHeaderSize + int64(at-first), LSN: at, Reason: reason}
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.recovery.Frames += frames
	l.files = append(l.files, &logFile{first: first, end: next, name: s.name, file: f, allocated: s.size})
	return nil
}

// recoverLast keeps the longest valid prefix of the last file, in a file that is written and synced anew.
func (l *Log) recoverLast(first LSN) error {
	f, s, reason, err := l.open(first)
	if err != nil {
		return err
	}
	at := first
	frames := 0
	if reason == "" {
		at, reason, err = s.walk(LSN(1<<63), func(LSN, frameHeader, []byte) error { frames++; return nil })
	} else if _, _, frameReason, frameErr := s.frame(first); frameErr != nil || frameReason == "" {
		// The header is broken, but a frame stands behind it: damage, not a file that was being made.
		err = errors.Join(frameErr, &CorruptionError{File: s.name, LSN: first, Reason: reason})
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	torn, err := s.tornBytes(at)
	if err == nil && torn > 0 {
		var beyond bool
		if beyond, err = s.syncedBeyond(at); err == nil && (beyond || at < l.config.Durable) {
			err = &CorruptionError{File: s.name, Offset: fileHeaderSize + int64(at-first), LSN: at, Reason: reason}
		}
	}
	if err == nil && at < l.config.Durable {
		err = fmt.Errorf("%w: %s ends at LSN %d, but LSN %d was durable: an older copy of the disk", ErrRolledBack, l.config.Dir, at, l.config.Durable)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.recovery.Frames += frames
	if torn > 0 {
		l.recovery.TornBytes, l.recovery.TornFile = torn, s.name
	}
	return errors.Join(l.rewrite(s, at), f.Close())
}

// rewrite writes the frames of a file below end anew, under a passing name, syncs them, and puts them in the old one's place.
func (l *Log) rewrite(s *scanner, end LSN) error {
	name := path.Join(l.config.Dir, fileName(s.first))
	passing := strings.TrimSuffix(name, fileSuffix) + rewriteSuffix
	size := max(l.config.FileBytes, fileHeaderSize+int64(end-s.first))
	f, err := l.config.FS.Create(passing)
	if err != nil {
		return fmt.Errorf("write the recovered log anew: %w", err)
	}
	write := func() error {
		if err := f.Allocate(size); err != nil {
			return err
		}
		if _, err := f.WriteAt(encodeFileHeader(s.first), 0); err != nil {
			return err
		}
		stop := fileHeaderSize + int64(end-s.first)
		for off := int64(fileHeaderSize); off < stop; {
			p, err := s.bytes(off, int(min(scanWindow, stop-off)))
			if err != nil {
				return err
			}
			if _, err := f.WriteAt(p, off); err != nil {
				return err
			}
			off += int64(len(p))
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if err := l.config.FS.Rename(passing, name); err != nil {
			return err
		}
		return l.config.FS.SyncDir(l.config.Dir)
	}
	if err := write(); err != nil {
		return errors.Join(fmt.Errorf("write the recovered log anew: %w", err), f.Close())
	}
	l.files = append(l.files, &logFile{first: s.first, end: end, name: name, file: f, allocated: size})
	return nil
}
