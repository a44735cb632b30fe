package tier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tidemark-io/tidemark/disk"
)

const (
	// localTemp is the folder of unfinished objects. CheckName keeps objects out of it.
	localTemp = ".tidemark-tmp"
	// localSlots is how many processes may have one directory open.
	localSlots = 1024
	// localGather is the size from which a part of a body is written by itself; smaller ones are gathered first, so that
	// ten thousand small batches do not cost ten thousand system calls.
	localGather = 64 << 10
	// localWriteOut is what is written to a file before it is on its way to the device: the sync of a log on the same disk then
	// waits for so much at most, and not for a whole object.
	localWriteOut = 512 << 10
	// localKnownDirs bounds the set of folders known to be durable.
	localKnownDirs = 4096
)

// Local keeps objects as files under one directory, "/" in a name being a folder. An object is written to a file of its
// own in a temporary folder, synced, renamed to its name, and then its folder is synced: it is whole or absent, whatever
// crashes when. Several processes on one machine may share a directory.
//
// After a sync that failed, other than for lack of space in a file that is thrown away, Local only reads: the kernel may have
// dropped what it could not write, and a second sync that succeeds proves nothing.
type Local struct {
	fs   disk.FS
	dir  string
	slot int
	lock io.Closer
	next atomic.Uint64 // temporary files so far

	mu     sync.Mutex
	known  map[string]bool // folders that are durable, relative to dir
	failed error           // the failed sync
	closed bool
}

// OpenLocal opens the object store in dir, makes it if need be, and removes what unfinished Puts of dead processes left.
func OpenLocal(fsys disk.FS, dir string) (*Local, error) {
	l := &Local{fs: fsys, dir: dir, known: map[string]bool{}}
	if err := fsys.MkdirAll(path.Join(dir, localTemp)); err != nil {
		return nil, l.fail("open", localTemp, err)
	}
	if err := l.takeSlot(); err != nil {
		return nil, l.fail("open", localTemp, err)
	}
	if err := l.sweep(); err != nil {
		return nil, errors.Join(l.fail("open", localTemp, err), l.lock.Close())
	}
	return l, nil
}

// takeSlot takes the first free of the numbered locks. It tells the temporary files of living processes from leftovers.
func (l *Local) takeSlot() error {
	for l.slot = range localSlots {
		lock, err := l.fs.Lock(l.lockName(l.slot))
		if err == nil {
			l.lock = lock
			return nil
		}
		if !errors.Is(err, disk.ErrLocked) {
			return err
		}
	}
	return fmt.Errorf("%d processes have it open", localSlots)
}

func (l *Local) lockName(slot int) string {
	return path.Join(l.dir, localTemp, fmt.Sprintf("%04d.lock", slot))
}

// sweep removes the temporary files of this slot and of every slot that nobody holds.
func (l *Local) sweep() error {
	entries, err := l.fs.ReadDir(path.Join(l.dir, localTemp))
	if err != nil {
		return err
	}
	files := map[int][]string{}
	for _, e := range entries {
		var slot int
		var n uint64
		if c, err := fmt.Sscanf(e.Name, "%04d-%d.tmp", &slot, &n); err != nil || c != 2 {
			continue
		}
		files[slot] = append(files[slot], e.Name)
	}
	for slot, names := range files {
		if slot != l.slot {
			lock, err := l.fs.Lock(l.lockName(slot))
			if errors.Is(err, disk.ErrLocked) {
				continue
			}
			if err != nil {
				return err
			}
			if err := errors.Join(l.removeAll(names), lock.Close()); err != nil {
				return err
			}
			continue
		}
		if err := l.removeAll(names); err != nil {
			return err
		}
	}
	return nil
}

func (l *Local) removeAll(names []string) error {
	for _, name := range names {
		if err := l.fs.Remove(path.Join(l.dir, localTemp, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Close gives up the directory. Calls after it fail or are undefined; a second Close does nothing.
func (l *Local) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	return l.lock.Close()
}

// Put implements Store: one new file, one sync of it, one rename, one sync of its folder.
func (l *Local) Put(ctx context.Context, name string, body [][]byte) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if err := l.usable(ctx, "put", name); err != nil {
		return err
	}
	folder := path.Dir(name)
	if err := l.ensureFolder(folder); err != nil {
		return l.fail("put", name, err)
	}
	temp := path.Join(l.dir, localTemp, fmt.Sprintf("%04d-%d.tmp", l.slot, l.next.Add(1)))
	if err := l.writeTemp(ctx, temp, body); err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
			return fmt.Errorf("put %q: %w", name, err)
		}
		return l.fail("put", name, err)
	}
	if err := l.fs.Rename(temp, path.Join(l.dir, name)); err != nil {
		l.forget(folder) // somebody may have removed it under us
		return l.fail("put", name, errors.Join(err, ignoreMissing(l.fs.Remove(temp))))
	}
	if err := l.fs.SyncDir(path.Join(l.dir, folder)); err != nil {
		return l.fail("put", name, l.poison(err))
	}
	return nil
}

// writeTemp writes body to a new synced file, or leaves none.
func (l *Local) writeTemp(ctx context.Context, temp string, body [][]byte) error {
	f, err := l.fs.Create(temp)
	if err != nil {
		return err
	}
	err = writeParts(ctx, f, body)
	if err == nil {
		if err = f.Sync(); err != nil {
			err = &syncError{err}
		}
	}
	if _, failed := errors.AsType[*syncError](err); failed && !errors.Is(err, disk.ErrNoSpace) {
		err = l.poison(err)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(l.fs.Remove(temp)))
	}
	return nil
}

var gatherBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 4*localGather); return &b }}

// syncError is a failure to bring to the device what had been written.
type syncError struct{ error }

func (e *syncError) Unwrap() error { return e.error }

// writeParts writes the parts behind each other, gathering small ones. All but the last of it is on the device when it returns.
func writeParts(ctx context.Context, f disk.File, body [][]byte) error {
	held, ok := gatherBuffers.Get().(*[]byte)
	if !ok {
		panic("tier: foreign value in gatherBuffers")
	}
	buf, off, out := (*held)[:0], int64(0), int64(0)
	defer func() { *held = buf[:0]; gatherBuffers.Put(held) }()
	write := func(p []byte) error {
		for len(p) > 0 {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			n, err := f.WriteAt(p[:min(len(p), localWriteOut)], off)
			if err != nil {
				return err
			}
			off += int64(n)
			if p = p[n:]; off-out < localWriteOut {
				continue
			}
			if err := f.WriteOut(out, off-out); err != nil {
				return &syncError{err}
			}
			out = off
		}
		return nil
	}
	for _, part := range body {
		if len(buf)+len(part) > cap(buf) || len(part) >= localGather {
			if err := write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
		if len(part) >= localGather {
			if err := write(part); err != nil {
				return err
			}
			continue
		}
		buf = append(buf, part...)
	}
	return write(buf)
}

// ensureFolder makes the folder and everything above it up to the store's directory, durably. The first use in a process
// syncs the folders above also when they exist: an earlier life may have made them and died before its sync.
func (l *Local) ensureFolder(folder string) error {
	l.mu.Lock()
	known := l.known[folder]
	l.mu.Unlock()
	if known || folder == "." {
		return nil
	}
	if err := l.fs.MkdirAll(path.Join(l.dir, folder)); err != nil {
		if errors.Is(err, disk.ErrNoSpace) || errors.Is(err, fs.ErrPermission) {
			return err
		}
		return l.poison(err) // it may have been the sync inside
	}
	for up := path.Dir(folder); ; up = path.Dir(up) {
		if err := l.fs.SyncDir(path.Join(l.dir, up)); err != nil {
			return l.poison(err)
		}
		if up == "." {
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.known) >= localKnownDirs {
		clear(l.known)
	}
	l.known[folder] = true
	return nil
}

func (l *Local) forget(folder string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, folder)
}

// poison makes every later Put fail.
func (l *Local) poison(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = err
	}
	return fmt.Errorf("%w: %w", ErrFailed, err)
}

func (l *Local) usable(ctx context.Context, op, name string) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s %q: %w", op, name, context.Cause(ctx))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return l.fail(op, name, fmt.Errorf("%w: an earlier sync failed: %w", ErrFailed, l.failed))
	}
	return nil
}

// ReadAt implements Store.
func (l *Local) ReadAt(ctx context.Context, name string, p []byte, off int64) (err error) {
	if err := errors.Join(CheckName(name), checkRange(p, off)); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("read %q: %w", name, context.Cause(ctx))
	}
	file := path.Join(l.dir, name)
	f, err := l.fs.Open(file)
	if err != nil {
		return l.failRead("read", name, err)
	}
	defer func() {
		if cerr := f.Close(); cerr != nil && err == nil {
			err = l.fail("read", name, cerr)
		}
	}()
	if len(p) == 0 {
		o, err := l.Stat(ctx, name)
		if err == nil && o.Size < off {
			err = l.fail("read", name, io.ErrUnexpectedEOF)
		}
		return err
	}
	switch n, err := f.ReadAt(p, off); {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return l.fail("read", name, fmt.Errorf("want %d bytes at %d, have %d: %w", len(p), off, n, io.ErrUnexpectedEOF))
	default:
		if l.isFolder(name) {
			err = fs.ErrNotExist
		}
		return l.failRead("read", name, err)
	}
}

// isFolder says whether name is a folder of other objects, and so no object.
func (l *Local) isFolder(name string) bool {
	e, err := l.fs.Stat(path.Join(l.dir, name))
	return err == nil && e.Dir
}

// Stat implements Store.
func (l *Local) Stat(ctx context.Context, name string) (Object, error) {
	if err := CheckName(name); err != nil {
		return Object{}, err
	}
	if ctx.Err() != nil {
		return Object{}, fmt.Errorf("stat %q: %w", name, context.Cause(ctx))
	}
	e, err := l.fs.Stat(path.Join(l.dir, name))
	if err == nil && e.Dir {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Object{}, l.failRead("stat", name, err)
	}
	return Object{Name: name, Size: e.Size, Modified: e.ModTime}, nil
}

// List implements Store. It reads one folder after the other; what is made or removed meanwhile may show or not.
func (l *Local) List(ctx context.Context, prefix string, fn func(Object) error) error {
	folder := "."
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		folder = prefix[:i]
		if err := CheckName(folder); err != nil {
			return err
		}
	}
	return l.walk(ctx, folder, prefix, fn)
}

func (l *Local) walk(ctx context.Context, folder, prefix string, fn func(Object) error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("list %q: %w", prefix, context.Cause(ctx))
	}
	entries, err := l.fs.ReadDir(path.Join(l.dir, folder))
	if errors.Is(err, fs.ErrNotExist) || isNotFolder(err) {
		return nil
	}
	if err != nil {
		return l.fail("list", prefix, err)
	}
	key := func(e disk.Entry) string {
		if e.Dir {
			return e.Name + "/" // so that "a-b" comes before "a/c", as in a bucket
		}
		return e.Name
	}
	slices.SortFunc(entries, func(a, b disk.Entry) int { return strings.Compare(key(a), key(b)) })
	for _, e := range entries {
		name := path.Join(folder, e.Name)
		if strings.HasPrefix(e.Name, ".") {
			continue
		}
		if e.Dir {
			if within := name + "/"; strings.HasPrefix(within, prefix) || strings.HasPrefix(prefix, within) {
				if err := l.walk(ctx, name, prefix, fn); err != nil {
					return err
				}
			}
			continue
		}
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		if err := fn(Object{Name: name, Size: e.Size, Modified: e.ModTime}); err != nil {
			return err
		}
	}
	return nil
}

// Delete implements Store.
func (l *Local) Delete(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("delete %q: %w", name, context.Cause(ctx))
	}
	if err := l.fs.Remove(path.Join(l.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) && !isNotFolder(err) && !l.isFolder(name) {
		return l.fail("delete", name, err)
	}
	return nil
}

func (l *Local) String() string { return fmt.Sprintf("directory %q", l.dir) }

// failRead is fail for calls that look one name up: what has a file for a folder does not exist either.
func (l *Local) failRead(op, name string, err error) error {
	if isNotFolder(err) {
		err = errors.Join(fs.ErrNotExist, err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return &Error{Op: op, Name: name, Store: l.String(), Kind: ErrNotFound}
	}
	return l.fail(op, name, err)
}

func (l *Local) fail(op, name string, err error) error {
	e := &Error{Op: op, Name: name, Store: l.String(), Cause: err}
	switch {
	case errors.Is(err, ErrFailed):
		e.Hint = "check the disk, then start the process anew"
	case errors.Is(err, disk.ErrNoSpace):
		e.Kind, e.Hint = ErrNoSpace, "free space on that disk; writing goes on by itself"
	case errors.Is(err, fs.ErrPermission):
		e.Kind, e.Hint = ErrDenied, "let this user read and write that directory"
	}
	return e
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
