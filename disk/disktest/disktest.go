// Package disktest is the contract of disk.FS as a test suite. It checks what can be seen without a crash; what survives one
// is for the tests that run on crashdisk.
package disktest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/tidemark-io/tidemark/disk"
)

// Run checks a file system. open returns one and an empty directory in it, anew for every test.
func Run(t *testing.T, open func(t *testing.T) (fsys disk.FS, dir string)) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"CreateIsExclusive", (*suite).createIsExclusive},
		{"MissingIsErrNotExist", (*suite).missing},
		{"ReadAt", (*suite).readAt},
		{"WriteAt", (*suite).writeAt},
		{"OpenIsForReading", (*suite).openIsForReading},
		{"AllocateKeepsContent", (*suite).allocate},
		{"Truncate", (*suite).truncate},
		{"RenameReplaces", (*suite).renameReplaces},
		{"RenameBetweenDirectories", (*suite).renameBetween},
		{"RemovedFileStaysReadable", (*suite).removedStaysReadable},
		{"MkdirAll", (*suite).mkdirAll},
		{"ReadDirIsOrdered", (*suite).readDir},
		{"Stat", (*suite).stat},
		{"Lock", (*suite).lock},
		{"Free", (*suite).free},
		{"Concurrent", (*suite).concurrent},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys, dir := open(t)
			c.test(&suite{T: t, fs: fsys, dir: dir})
		})
	}
}

type suite struct {
	*testing.T
	fs  disk.FS
	dir string
}

func (s *suite) path(name string) string { return path.Join(s.dir, name) }

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) want(err, target error) {
	s.Helper()
	if !errors.Is(err, target) {
		s.Fatalf("got %v, want %v", err, target)
	}
}

// create makes a file with a content and returns it open, to be closed with the test.
func (s *suite) create(name, content string) disk.File {
	s.Helper()
	f, err := s.fs.Create(s.path(name))
	s.ok(err)
	s.Cleanup(func() {
		if err := f.Close(); err != nil {
			s.Error(err)
		}
	})
	if content != "" {
		n, err := f.WriteAt([]byte(content), 0)
		s.ok(err)
		if n != len(content) {
			s.Fatalf("wrote %d bytes of %d without an error", n, len(content))
		}
	}
	s.ok(f.Sync())
	return f
}

func (s *suite) open(name string) disk.File {
	s.Helper()
	f, err := s.fs.Open(s.path(name))
	s.ok(err)
	s.Cleanup(func() {
		if err := f.Close(); err != nil {
			s.Error(err)
		}
	})
	return f
}

// holds checks a file's whole content.
func (s *suite) holds(f disk.File, want string) {
	s.Helper()
	size, err := f.Size()
	s.ok(err)
	got := make([]byte, size)
	if n, err := f.ReadAt(got, 0); n != len(got) || err != nil && !errors.Is(err, io.EOF) {
		s.Fatalf("read %d bytes of %d: %v", n, len(got), err)
	}
	if string(got) != want {
		s.Fatalf("file holds %q, want %q", got, want)
	}
}

func (s *suite) createIsExclusive() {
	f := s.create("a", "one")
	_, err := s.fs.Create(s.path("a"))
	s.want(err, fs.ErrExist)
	s.holds(f, "one")
	s.ok(s.fs.MkdirAll(s.path("d")))
	_, err = s.fs.Create(s.path("d"))
	s.want(err, fs.ErrExist)
}

func (s *suite) missing() {
	_, err := s.fs.Open(s.path("a"))
	s.want(err, fs.ErrNotExist)
	_, err = s.fs.Stat(s.path("a"))
	s.want(err, fs.ErrNotExist)
	_, err = s.fs.ReadDir(s.path("a"))
	s.want(err, fs.ErrNotExist)
	_, err = s.fs.Create(s.path("a/b"))
	s.want(err, fs.ErrNotExist)
	s.want(s.fs.Remove(s.path("a")), fs.ErrNotExist)
	s.want(s.fs.Rename(s.path("a"), s.path("b")), fs.ErrNotExist)
	s.want(s.fs.SyncDir(s.path("a")), fs.ErrNotExist)
}

func (s *suite) readAt() {
	f := s.create("a", "0123456789")
	p := make([]byte, 4)
	n, err := f.ReadAt(p, 3)
	if n != 4 || err != nil || string(p) != "3456" {
		s.Errorf("in the middle: %d %q %v", n, p, err)
	}
	n, err = f.ReadAt(p, 8)
	if n != 2 || !errors.Is(err, io.EOF) || string(p[:2]) != "89" {
		s.Errorf("over the end: %d %q %v", n, p[:n], err)
	}
	if n, err = f.ReadAt(p, 10); n != 0 || !errors.Is(err, io.EOF) {
		s.Errorf("at the end: %d %v", n, err)
	}
	if n, err = f.ReadAt(p, -1); n != 0 || err == nil || errors.Is(err, io.EOF) {
		s.Errorf("before the beginning: %d %v", n, err)
	}
}

func (s *suite) writeAt() {
	f := s.create("a", "0123456789")
	_, err := f.WriteAt([]byte("ab"), 4)
	s.ok(err)
	s.holds(f, "0123ab6789")
	_, err = f.WriteAt([]byte("xyz"), 12) // leaves a gap
	s.ok(err)
	s.holds(f, "0123ab6789\x00\x00xyz")
	s.holds(s.open("a"), "0123ab6789\x00\x00xyz")
	if _, err := f.WriteAt([]byte("a"), -1); err == nil {
		s.Error("wrote before the beginning")
	}
}

func (s *suite) openIsForReading() {
	s.create("a", "one")
	f := s.open("a")
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		s.Error("wrote to a file opened for reading")
	}
	if err := f.Allocate(100); err == nil {
		s.Error("allocated a file opened for reading")
	}
	if err := f.Truncate(0); err == nil {
		s.Error("truncated a file opened for reading")
	}
	s.holds(f, "one")
}

func (s *suite) allocate() {
	f := s.create("a", "one")
	s.ok(f.Allocate(10_000))
	s.holds(f, "one"+string(make([]byte, 9997)))
	s.ok(f.Allocate(5)) // never shrinks
	if size, err := f.Size(); err != nil || size != 10_000 {
		s.Errorf("size %d, %v after a smaller Allocate", size, err)
	}
	_, err := f.WriteAt([]byte("end"), 9997)
	s.ok(err)
	s.ok(f.Sync())
	s.ok(f.Allocate(10_001))
	s.holds(s.open("a"), "one"+string(make([]byte, 9994))+"end\x00")
}

func (s *suite) truncate() {
	f := s.create("a", "0123456789")
	s.ok(f.Truncate(4))
	s.holds(f, "0123")
	s.ok(f.Truncate(6)) // what was cut off does not come back
	s.holds(f, "0123\x00\x00")
	s.ok(f.Truncate(0))
	s.holds(f, "")
}

func (s *suite) renameReplaces() {
	s.create("a", "one")
	s.create("b", "two")
	old := s.open("b")
	s.ok(s.fs.Rename(s.path("a"), s.path("b")))
	s.ok(s.fs.SyncDir(s.dir))
	_, err := s.fs.Stat(s.path("a"))
	s.want(err, fs.ErrNotExist)
	s.holds(s.open("b"), "one")
	s.holds(old, "two")
}

func (s *suite) renameBetween() {
	s.ok(s.fs.MkdirAll(s.path("x")))
	s.ok(s.fs.MkdirAll(s.path("y")))
	f := s.create("x/a", "one")
	s.ok(s.fs.Rename(s.path("x/a"), s.path("y/b")))
	_, err := f.WriteAt([]byte("two"), 3) // a handle follows its file
	s.ok(err)
	s.holds(s.open("y/b"), "onetwo")
	if list, err := s.fs.ReadDir(s.path("x")); err != nil || len(list) != 0 {
		s.Errorf("old directory has %v, %v", list, err)
	}
}

func (s *suite) removedStaysReadable() {
	s.create("a", "one")
	f := s.open("a")
	s.ok(s.fs.Remove(s.path("a")))
	s.ok(s.fs.SyncDir(s.dir))
	_, err := s.fs.Open(s.path("a"))
	s.want(err, fs.ErrNotExist)
	s.holds(f, "one")
	s.create("a", "two")
	s.holds(f, "one")
}

func (s *suite) mkdirAll() {
	s.ok(s.fs.MkdirAll(s.path("a/b/c")))
	s.ok(s.fs.MkdirAll(s.path("a/b/c"))) // is there
	s.ok(s.fs.MkdirAll(s.path("a/b/d")))
	e, err := s.fs.Stat(s.path("a/b/c"))
	s.ok(err)
	if !e.Dir || e.Name != "c" || e.Size != 0 {
		s.Errorf("entry of a directory: %+v", e)
	}
	s.create("a/f", "")
	if err := s.fs.MkdirAll(s.path("a/f")); err == nil {
		s.Error("made a directory in place of a file")
	}
	if err := s.fs.MkdirAll(s.path("a/f/g")); err == nil {
		s.Error("made a directory in a file")
	}
}

func (s *suite) readDir() {
	list, err := s.fs.ReadDir(s.dir)
	if err != nil || len(list) != 0 {
		s.Fatalf("an empty directory has %v, %v", list, err)
	}
	for _, name := range []string{"b", "a-", "B", "a", "a.x"} {
		s.create(name, name)
	}
	s.ok(s.fs.MkdirAll(s.path("ab")))
	list, err = s.fs.ReadDir(s.dir)
	s.ok(err)
	var got strings.Builder
	for _, e := range list {
		fmt.Fprintf(&got, "%s:%d:%v ", e.Name, e.Size, e.Dir)
	}
	if want := "B:1:false a:1:false a-:2:false a.x:3:false ab:0:true b:1:false "; got.String() != want {
		s.Errorf("got %s, want %s", got.String(), want)
	}
}

func (s *suite) stat() {
	f := s.create("a", "one")
	e, err := s.fs.Stat(s.path("a"))
	s.ok(err)
	if e.Name != "a" || e.Size != 3 || e.Dir || e.ModTime.IsZero() {
		s.Errorf("entry of a file: %+v", e)
	}
	s.ok(f.Allocate(100))
	if e, err = s.fs.Stat(s.path("a")); err != nil || e.Size != 100 {
		s.Errorf("after Allocate: %+v, %v", e, err)
	}
}

func (s *suite) lock() {
	l, err := s.fs.Lock(s.path("l"))
	s.ok(err)
	_, err = s.fs.Lock(s.path("l"))
	s.want(err, disk.ErrLocked)
	other, err := s.fs.Lock(s.path("m"))
	s.ok(err)
	s.ok(other.Close())
	s.ok(l.Close())
	l, err = s.fs.Lock(s.path("l")) // the file stays, the lock does not
	s.ok(err)
	s.ok(l.Close())
}

func (s *suite) free() {
	if n, err := s.fs.Free(s.dir); err != nil || n <= 0 {
		s.Errorf("free: %d, %v", n, err)
	}
	if _, err := s.fs.Free(s.path("missing")); err == nil {
		s.Error("told what is free in a directory that is not there")
	}
}

// concurrent writes, reads and syncs at once, at offsets that do not touch.
func (s *suite) concurrent() {
	f := s.create("a", "")
	const part, parts = 5000, 8
	s.ok(f.Allocate(part * parts))
	var group sync.WaitGroup
	for n := range parts {
		group.Go(func() {
			want := bytes.Repeat([]byte{byte(n + 1)}, part)
			got := make([]byte, part)
			for range 20 {
				if _, err := f.WriteAt(want, int64(n*part)); err != nil {
					s.Error(err)
				}
				if _, err := f.ReadAt(got, int64(n*part)); err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(got, want) {
					s.Errorf("part %d: %v", n, err)
				}
				if err := f.Sync(); err != nil {
					s.Error(err)
				}
			}
		})
	}
	group.Wait()
}
