package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/tidemark-io/tidemark/disk"
)

// Recovery tells what Open found.
type Recovery struct {
	Start, End LSN
	Frames     int
	// TornBytes is what was cut off behind the last whole frame, at most, and TornFile where; 0 after a clean stop.
	TornBytes int64
	TornFile  string
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
		f, err := l.make(fileHeader{salt: l.config.Salt}, l.config.FileBytes, nil)
		if err != nil {
			return err
		}
		l.files = append(l.files, f)
	}
	return nil
}

// listFiles returns the first LSNs of the log's files in order, and removes the unfinished ones that a crash has left.
func (l *Log) listFiles() ([]LSN, error) {
	entries, err := l.config.FS.ReadDir(l.config.Dir)
	if err != nil {
		return nil, fmt.Errorf("list the log's directory: %w", err)
	}
	var firsts []LSN
	for _, e := range entries {
		if strings.HasSuffix(e.Name, passingSuffix) {
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

// open opens a file and reads its header.
func (l *Log) open(first LSN) (f disk.File, s *scanner, h fileHeader, err error) {
	name := path.Join(l.config.Dir, fileName(first))
	if f, err = l.config.FS.Open(name); err != nil {
		return nil, nil, h, fmt.Errorf("open log file: %w", err)
	}
	if s, err = newScanner(f, name, first); err == nil {
		var head []byte
		if head, err = s.bytes(0, fileHeaderSize); err == nil {
			var reason string
			var unknown bool
			switch h, reason, unknown = decodeFileHeader(head, first); {
			case unknown:
				err = fmt.Errorf("%w: %s: %s", ErrVersion, name, reason)
			case reason != "":
				err = &CorruptionError{File: name, LSN: first, Reason: reason}
			}
			s.salt = h.salt
		}
	}
	if err != nil {
		return nil, nil, h, errors.Join(err, f.Close())
	}
	return f, s, h, nil
}

// recoverSealed checks a file that was synced before the next began: every byte of it must be right.
func (l *Log) recoverSealed(first, next LSN) error {
	f, s, h, err := l.open(first)
	if err != nil {
		return err
	}
	frames := 0
	at, reason, err := s.walk(next, func(LSN, frameHeader, []byte) error { frames++; return nil })
	switch {
	case err != nil || reason != "":
	case at != next:
		reason = fmt.Sprintf("a frame ends at LSN %d, where the next file begins at %d", at, next)
	case at < h.synced:
		reason = fmt.Sprintf("the next file begins there, but up to LSN %d this one was synced", h.synced)
	}
	if reason != "" {
		err = s.corruption(at, reason)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.recovery.Frames += frames
	l.files = append(l.files, &logFile{first: first, end: next, name: s.name, file: f, allocated: s.size, salt: h.salt})
	return nil
}

// recoverLast keeps the longest valid prefix of the last file, in a file that is written and synced anew.
func (l *Log) recoverLast(first LSN) error {
	f, s, h, err := l.open(first)
	if err != nil {
		return err
	}
	frames := 0
	at, reason, err := s.walk(math.MaxUint64, func(LSN, frameHeader, []byte) error { frames++; return nil })
	var torn int64
	if err == nil {
		torn, err = l.judgeTail(s, h, at, reason)
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

// judgeTail says how many bytes a crash has torn off behind the last whole frame, or that it was no crash: what is missing
// there was durable.
func (l *Log) judgeTail(s *scanner, h fileHeader, at LSN, reason string) (torn int64, err error) {
	if at < h.synced {
		return 0, s.corruption(at, fmt.Sprintf("%s, but up to LSN %d it was synced", reason, h.synced))
	}
	if torn, err = s.tornBytes(at); err != nil {
		return 0, err
	}
	if torn > 0 {
		synced := at
		if at < l.config.Durable {
			synced = 0 // any frame behind it shows that it was there
		}
		damaged, err := s.framesBehind(at, synced)
		if err != nil {
			return 0, err
		}
		if damaged {
			return 0, s.corruption(at, reason)
		}
	}
	if h.recycled {
		ended, err := s.endsAt(at)
		if err != nil {
			return 0, err
		}
		if ended {
			torn = 0
		}
	}
	if torn > 0 && at < l.config.Durable {
		return 0, s.corruption(at, reason)
	}
	if at < l.config.Durable {
		return 0, fmt.Errorf("%w: %s ends at LSN %d, but LSN %d was durable: an older copy of the disk", ErrRolledBack, l.config.Dir, at, l.config.Durable)
	}
	return torn, nil
}

// rewrite writes the frames of a file below end anew and puts them in the old one's place. What a process reads after a crash
// of the one before may be in the page cache only; what it wrote and synced itself is not.
func (l *Log) rewrite(s *scanner, end LSN) error {
	stop := s.offset(end)
	fill := func(f disk.File) error {
		off := int64(fileHeaderSize)
		var p []byte
		flush := func() error {
			_, err := f.WriteAt(p, off)
			off += int64(len(p))
			p = p[:0]
			return err
		}
		_, reason, err := s.walk(end, func(at LSN, h frameHeader, batch []byte) error {
			frame := h.frame
			frame.Batch = batch
			p = append(appendFrameHeader(p, l.config.Salt, at, h.synced, frame), batch...)
			if len(p) < scanWindow {
				return nil
			}
			return flush()
		})
		if err == nil && reason != "" {
			err = io.ErrUnexpectedEOF // it was read a moment ago
		}
		if err != nil {
			return err
		}
		return flush()
	}
	header := fileHeader{first: s.first, synced: end, salt: l.config.Salt}
	f, err := l.make(header, max(l.config.FileBytes, stop), fill)
	if errors.Is(err, disk.ErrNoSpace) {
		// Room for what is there is enough to start with: the flush of it is what makes room.
		f, err = l.make(header, stop, fill)
	}
	if err != nil {
		return fmt.Errorf("write the recovered log anew: %w", err)
	}
	f.end = end
	l.files = append(l.files, f)
	return nil
}
