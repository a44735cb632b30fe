package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// OS returns the file system of this machine.
func OS() FS { return osFS{} }

type osFS struct{}

// Permissions: data is nobody else's business.
const (
	dirMode  fs.FileMode = 0o750
	fileMode fs.FileMode = 0o640
)

// classify maps what the operating system says to the errors of this package.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.ENOSPC) || isQuota(err) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

func (osFS) MkdirAll(dir string) error {
	var missing []string
	there := filepath.Clean(dir)
	for ; ; there = filepath.Dir(there) {
		info, err := os.Stat(there)
		if err == nil {
			if !info.IsDir() {
				return fmt.Errorf("make directory %s: %s is a file", dir, there)
			}
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || there == filepath.Dir(there) {
			return err
		}
		missing = append(missing, there)
	}
	// Somebody may have made this one and ended before it was durable. Where this process may not, or cannot, sync the
	// directory above, it was none of ours.
	if err := syncDir(filepath.Dir(there)); err != nil && !errors.Is(err, fs.ErrPermission) && !cannotSync(err) {
		return err
	}
	for _, d := range slices.Backward(missing) {
		if err := os.Mkdir(d, dirMode); err != nil && !errors.Is(err, fs.ErrExist) { // somebody else may make it too
			return classify(err)
		}
		if err := syncDir(filepath.Dir(d)); err != nil {
			return err
		}
	}
	return nil
}

func (osFS) Create(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, classify(err)
	}
	return &osFile{f}, nil
}

func (osFS) Open(name string) (File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return &osFile{f}, nil
}

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) Rename(oldName, newName string) error { return classify(os.Rename(oldName, newName)) }

func (osFS) ReadDir(dir string) ([]Entry, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := make([]Entry, 0, len(list))
	for _, d := range list {
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since the directory was read
		}
		if err != nil {
			return nil, err
		}
		out = append(out, entryOf(info))
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (osFS) Stat(name string) (Entry, error) {
	info, err := os.Stat(name)
	if err != nil {
		return Entry{}, err
	}
	return entryOf(info), nil
}

func entryOf(info fs.FileInfo) Entry {
	e := Entry{Name: info.Name(), Dir: info.IsDir(), ModTime: info.ModTime()}
	if !e.Dir {
		e.Size = info.Size()
	}
	return e
}

func (osFS) SyncDir(dir string) error { return syncDir(dir) }

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, classify(err)
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
	}
	return f, nil
}

func (osFS) Free(dir string) (int64, error) { return free(dir) }

type osFile struct{ f *os.File }

func (o *osFile) ReadAt(p []byte, off int64) (int, error) { return o.f.ReadAt(p, off) }

func (o *osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := o.f.WriteAt(p, off)
	return n, classify(err)
}

func (o *osFile) Size() (int64, error) {
	info, err := o.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (o *osFile) Allocate(size int64) error { return classify(allocate(o.f, size)) }

func (o *osFile) WriteOut(off, length int64) error { return classify(writeOut(o.f, off, length)) }

func (o *osFile) Truncate(size int64) error { return classify(o.f.Truncate(size)) }

func (o *osFile) Sync() error { return classify(dataSync(o.f)) }

func (o *osFile) Close() error { return o.f.Close() }
