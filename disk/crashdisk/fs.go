package crashdisk

import (
	"io"
	"io/fs"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tidemark-io/tidemark/disk"
)

// tick is what time does between two calls, so that what is written later is younger.
const tick = time.Second

// FS is a file system in memory. Its methods may be called from any goroutine.
type FS struct {
	mu       sync.Mutex
	root     *inode
	journal  journal
	locks    map[*inode]bool
	capacity int64 // 0: endless
	now      time.Time

	calls   int
	faults  []Fault
	failed  Op
	stopped bool
}

var _ disk.FS = (*FS)(nil)

// New returns an empty file system, whose root is both "/" and ".".
func New() *FS {
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	return &FS{root: newDir(now), locks: map[*inode]bool{}, now: now}
}

// SetCapacity sets how many bytes all files together may be long. Fewer than there are is a full disk; 0 is an endless one.
func (f *FS) SetCapacity(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.capacity = bytes
}

// ReadFile returns what a file holds as it is seen, without that being a call.
func (f *FS) ReadFile(name string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.file(name)
	if err != nil {
		return nil, wrap(Read, name, err)
	}
	return slices.Clone(n.seen), nil
}

// WriteFile gives a file, that need not exist, another content, name and content durable, without that being a call.
func (f *FS) WriteFile(name string, p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, base, err := f.parent(name)
	if err != nil {
		return wrap(Write, name, err)
	}
	n := dir.names[base]
	switch {
	case n == nil:
		n = newFile(f.now)
		f.rename(nameSet{dir, base, n})
	case n.dir:
		return wrap(Write, name, syscall.EISDIR)
	}
	f.syncDir(dir)
	n.content = content{seen: slices.Clone(p), durable: slices.Clone(p)}
	return nil
}

func split(name string) []string {
	return strings.FieldsFunc(path.Clean(name), func(r rune) bool { return r == '/' })
}

// walk finds what a name stands for.
func (f *FS) walk(name string) (*inode, error) {
	n := f.root
	for _, part := range split(name) {
		if part == "." {
			continue
		}
		if !n.dir {
			return nil, syscall.ENOTDIR
		}
		if n = n.names[part]; n == nil {
			return nil, fs.ErrNotExist
		}
	}
	return n, nil
}

// parent finds the directory of a name.
func (f *FS) parent(name string) (dir *inode, base string, err error) {
	if dir, err = f.walk(path.Dir(path.Clean(name))); err != nil {
		return nil, "", err
	}
	if !dir.dir {
		return nil, "", syscall.ENOTDIR
	}
	return dir, path.Base(path.Clean(name)), nil
}

func (f *FS) file(name string) (*inode, error) {
	n, err := f.walk(name)
	if err == nil && n.dir {
		err = syscall.EISDIR
	}
	return n, err
}

func (f *FS) directory(name string) (*inode, error) {
	n, err := f.walk(name)
	if err == nil && !n.dir {
		err = syscall.ENOTDIR
	}
	return n, err
}

// rename makes a change of names that is seen at once, and pending.
func (f *FS) rename(c ...nameSet) {
	nameChange(c).apply(seenNames)
	f.journal = append(f.journal, c)
}

func (f *FS) syncDir(dir *inode) {
	taken, left := f.journal.split(func(_ int, c nameChange) bool {
		return slices.ContainsFunc(c, func(s nameSet) bool { return s.dir == dir })
	})
	for _, c := range taken {
		c.apply(durableNames)
	}
	f.journal = left
}

// used is the length of all files that have a name.
func (f *FS) used(n *inode, counted map[*inode]bool) int64 {
	if counted[n] {
		return 0
	}
	counted[n] = true
	sum := int64(len(n.seen))
	for _, child := range n.names {
		sum += f.used(child, counted)
	}
	return sum
}

// room is how many more bytes fit.
func (f *FS) room() int64 {
	if f.capacity == 0 {
		return math.MaxInt64
	}
	return max(f.capacity-f.used(f.root, map[*inode]bool{}), 0)
}

// MkdirAll implements disk.FS.
func (f *FS) MkdirAll(dir string) error {
	return f.call(MkdirAll, dir, func() error {
		return f.mkdirAll(dir, func(parent *inode) bool {
			f.syncDir(parent)
			return true
		})
	}, func() error {
		return f.mkdirAll(dir, func(*inode) bool { return false })
	}, nil)
}

// mkdirAll calls made with the parent of the deepest directory that was there, and with that of each that it makes. It ends early
// when that is false of one that it made.
func (f *FS) mkdirAll(dir string, made func(parent *inode) bool) error {
	parent, n := f.root, f.root
	there := true
	for _, part := range split(dir) {
		if part == "." {
			continue
		}
		if !n.dir {
			return syscall.ENOTDIR
		}
		child := n.names[part]
		if child == nil {
			if there {
				made(parent)
				there = false
			}
			child = newDir(f.now)
			f.rename(nameSet{n, part, child})
			if !made(n) {
				return nil
			}
		}
		parent, n = n, child
	}
	if !n.dir {
		return syscall.ENOTDIR
	}
	if there {
		made(parent)
	}
	return nil
}

// Create implements disk.FS.
func (f *FS) Create(name string) (disk.File, error) {
	var out disk.File
	err := f.call(Create, name, func() error {
		dir, base, err := f.parent(name)
		if err != nil {
			return err
		}
		if dir.names[base] != nil {
			return fs.ErrExist
		}
		n := newFile(f.now)
		f.rename(nameSet{dir, base, n})
		out = &file{fs: f, name: name, inode: n, writable: true}
		return nil
	}, nil, nil)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Open implements disk.FS.
func (f *FS) Open(name string) (disk.File, error) {
	var out disk.File
	err := f.call(Open, name, func() error {
		n, err := f.walk(name)
		if err != nil {
			return err
		}
		out = &file{fs: f, name: name, inode: n}
		return nil
	}, nil, nil)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Remove implements disk.FS.
func (f *FS) Remove(name string) error {
	return f.call(Remove, name, func() error {
		dir, base, err := f.parent(name)
		if err != nil {
			return err
		}
		switch n := dir.names[base]; {
		case n == nil:
			return fs.ErrNotExist
		case n.dir && len(n.names) > 0:
			return syscall.ENOTEMPTY
		}
		f.rename(nameSet{dir, base, nil})
		return nil
	}, nil, nil)
}

// Rename implements disk.FS.
func (f *FS) Rename(oldName, newName string) error {
	return f.call(Rename, oldName, func() error {
		from, fromBase, err := f.parent(oldName)
		if err != nil {
			return err
		}
		to, toBase, err := f.parent(newName)
		if err != nil {
			return err
		}
		n := from.names[fromBase]
		if n == nil {
			return fs.ErrNotExist
		}
		if there := to.names[toBase]; there != nil && there.dir {
			return fs.ErrExist
		}
		f.rename(nameSet{from, fromBase, nil}, nameSet{to, toBase, n})
		return nil
	}, nil, nil)
}

func entryOf(name string, n *inode) disk.Entry {
	return disk.Entry{Name: name, Size: int64(len(n.seen)), Dir: n.dir, ModTime: n.modified}
}

// ReadDir implements disk.FS.
func (f *FS) ReadDir(dir string) ([]disk.Entry, error) {
	var out []disk.Entry
	err := f.call(ReadDir, dir, func() error {
		n, err := f.directory(dir)
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(n.names)) {
			out = append(out, entryOf(name, n.names[name]))
		}
		return nil
	}, nil, nil)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Stat implements disk.FS.
func (f *FS) Stat(name string) (disk.Entry, error) {
	var out disk.Entry
	err := f.call(Stat, name, func() error {
		n, err := f.walk(name)
		if err != nil {
			return err
		}
		out = entryOf(path.Base(path.Clean(name)), n)
		return nil
	}, nil, nil)
	if err != nil {
		return disk.Entry{}, err
	}
	return out, nil
}

// SyncDir implements disk.FS.
func (f *FS) SyncDir(dir string) error {
	return f.call(SyncDir, dir, func() error {
		n, err := f.directory(dir)
		if err == nil {
			f.syncDir(n)
		}
		return err
	}, nil, nil)
}

// Lock implements disk.FS.
func (f *FS) Lock(name string) (io.Closer, error) {
	var out io.Closer
	err := f.call(Lock, name, func() error {
		dir, base, err := f.parent(name)
		if err != nil {
			return err
		}
		n := dir.names[base]
		if n == nil {
			n = newFile(f.now)
			f.rename(nameSet{dir, base, n})
		}
		if f.locks[n] {
			return disk.ErrLocked
		}
		f.locks[n] = true
		out = &lock{fs: f, name: name, inode: n}
		return nil
	}, nil, nil)
	if err != nil {
		return nil, err
	}
	return out, nil
}

type lock struct {
	fs    *FS
	name  string
	inode *inode
}

func (l *lock) Close() error {
	return l.fs.call(Close, l.name, func() error {
		if !l.fs.locks[l.inode] {
			return fs.ErrClosed
		}
		delete(l.fs.locks, l.inode)
		return nil
	}, nil, nil)
}

// Free implements disk.FS.
func (f *FS) Free(dir string) (int64, error) {
	var out int64
	err := f.call(Free, dir, func() error {
		_, err := f.directory(dir)
		out = f.room()
		return err
	}, nil, nil)
	if err != nil {
		return 0, err
	}
	return out, nil
}
