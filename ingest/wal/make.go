package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/tidemark-io/tidemark/disk"
)

// maxSpares is how many trimmed files are kept to be written anew. To write where blocks are there and have been written before costs a sync much less, on file
// systems that write in place: they have nothing to note of their own. And a disk that hears of freed blocks is slow for a while, which syncs would wait for.
const maxSpares = 2

// make gives a new log file its name, for good, once it is whole and synced. So a file under its own name has always been whole. It has size bytes, and
// fill, if not nil, writes its frames. On disk.ErrNoSpace it was not made.
func (l *Log) make(h fileHeader, size int64, fill func(disk.File) error) (*logFile, error) {
	name := path.Join(l.config.Dir, fileName(h.first))
	var f *logFile
	var err error
	if spare := l.takeSpare(); spare == nil {
		f, err = l.makeNew(h, size, fill)
	} else if size == spare.allocated && fill == nil {
		f, err = l.makeOfSpare(h, spare)
	} else if err = l.discard(spare); err == nil {
		f, err = l.makeNew(h, size, fill)
	}
	if err != nil {
		return nil, fmt.Errorf("make log file %s of %d bytes: %w", name, size, err)
	}
	err = l.config.FS.Rename(f.name, name)
	if err == nil {
		err = l.config.FS.SyncDir(l.config.Dir)
	}
	if err != nil {
		// Whether the file has its name is open, so this is never just a lack of space: the next Open sees.
		return nil, errors.Join(fmt.Errorf("name log file %s: %v", name, err), f.file.Close()) //nolint:errorlint // on purpose
	}
	f.name = name
	return f, nil
}

// makeNew makes a file under its passing name.
func (l *Log) makeNew(h fileHeader, size int64, fill func(disk.File) error) (*logFile, error) {
	passing := path.Join(l.config.Dir, passingName(fileName(h.first)))
	f, err := l.config.FS.Create(passing)
	if errors.Is(err, fs.ErrExist) { // left behind by an attempt that could not clean up
		if err = l.config.FS.Remove(passing); err == nil {
			f, err = l.config.FS.Create(passing)
		}
	}
	if err != nil {
		return nil, err
	}
	write := func() error {
		if err := f.Allocate(size); err != nil {
			return err
		}
		if _, err := f.WriteAt(h.encode(), 0); err != nil {
			return err
		}
		if fill != nil {
			if err := fill(f); err != nil {
				return err
			}
		}
		return f.Sync()
	}
	if err := write(); err != nil {
		return nil, errors.Join(err, f.Close(), l.config.FS.Remove(passing))
	}
	return &logFile{first: h.first, end: h.first, name: passing, file: f, allocated: size, salt: h.salt, writable: true}, nil
}

// makeOfSpare begins another life of a file that was trimmed, which still has its passing name. The frames of the earlier one stay in it: none has the LSN of
// its place any more, and zeros say where the live ones end.
func (l *Log) makeOfSpare(h fileHeader, spare *logFile) (*logFile, error) {
	h.recycled = true
	_, err := spare.file.WriteAt(append(h.encode(), make([]byte, frameHeaderSize)...), 0)
	if err == nil {
		err = spare.file.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, l.discard(spare))
	}
	return &logFile{first: h.first, end: h.first, name: spare.name, file: spare.file, allocated: spare.allocated, salt: h.salt, writable: true, recycled: true}, nil
}

// discard removes a spare file. It need not be for good: the next Open removes what has a passing name.
func (l *Log) discard(spare *logFile) error {
	return errors.Join(spare.file.Close(), l.config.FS.Remove(spare.name))
}

// retire takes the name of a file that is not listed any more, for good. Few are kept as spares.
func (l *Log) retire(f *logFile) error {
	l.mu.Lock()
	keep := f.writable && f.allocated == l.config.FileBytes && len(l.spares) < maxSpares && !l.closed
	l.mu.Unlock()
	if !keep {
		return errors.Join(f.close(), l.remove(path.Base(f.name)))
	}
	file := f.leave()
	passing := passingName(f.name)
	err := l.config.FS.Rename(f.name, passing)
	if errors.Is(err, disk.ErrNoSpace) { // a removal makes room, and some file systems let it when they let nothing else
		return errors.Join(file.Close(), l.remove(path.Base(f.name)))
	}
	if err == nil {
		err = l.config.FS.SyncDir(l.config.Dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("take the name of log file %s: %w", f.name, err), file.Close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return file.Close()
	}
	l.spares = append(l.spares, &logFile{name: passing, file: file, allocated: f.allocated})
	return nil
}

// leave waits until nobody reads the file, lets nobody begin, and gives it to the caller.
func (f *logFile) leave() disk.File {
	f.use.Lock()
	defer f.use.Unlock()
	f.closed = true
	return f.file
}

func (l *Log) takeSpare() *logFile {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.spares) == 0 {
		return nil
	}
	last := len(l.spares) - 1
	spare := l.spares[last]
	l.spares = l.spares[:last]
	return spare
}
