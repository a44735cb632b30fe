package tier_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/tier"
	"github.com/tidemark-io/tidemark/tier/tiertest"
)

var errInjected = errors.New("injected")

// failing fails the call number failAt of those that change something.
type failing struct {
	disk.FS
	calls, failAt int
	err           error
	failed        string
}

func (f *failing) next(op string) error {
	if f.calls++; f.calls == f.failAt {
		f.failed = op
		return f.err
	}
	return nil
}

func (f *failing) MkdirAll(dir string) error {
	if err := f.next("mkdir"); err != nil {
		return err
	}
	return f.FS.MkdirAll(dir)
}

func (f *failing) Create(name string) (disk.File, error) {
	if err := f.next("create"); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name)
	return &failingFile{file, f}, err
}

func (f *failing) Rename(from, to string) error {
	if err := f.next("rename"); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f *failing) SyncDir(dir string) error {
	if err := f.next("syncdir"); err != nil {
		return err
	}
	return f.FS.SyncDir(dir)
}

func (f *failing) Lock(name string) (io.Closer, error) {
	if err := f.next("lock"); err != nil {
		return nil, err
	}
	return f.FS.Lock(name)
}

type failingFile struct {
	disk.File
	fs *failing
}

func (f *failingFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fs.next("write"); err != nil {
		n, werr := f.File.WriteAt(p[:len(p)/2], off)
		return n, errors.Join(err, werr)
	}
	return f.File.WriteAt(p, off)
}

func (f *failingFile) Sync() error {
	if err := f.fs.next("sync"); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *failingFile) WriteOut(off, length int64) error {
	if err := f.fs.next("writeout"); err != nil {
		return err
	}
	return f.File.WriteOut(off, length)
}

func (f *failingFile) Close() error { return errors.Join(f.fs.next("close"), f.File.Close()) }

// TestLocalFailsEveryCallOnce: a put whose disk fails anywhere reports it and leaves no part of an object; after a failed sync nothing
// is put any more, after a full disk everything is; a new process goes on.
func TestLocalFailsEveryCallOnce(t *testing.T) {
	data := tiertest.Bytes(1, 800_000)
	parts := [][]byte{data[:10], data[10:200_000], data[200_000:]}
	for _, injected := range []error{errInjected, disk.ErrNoSpace} {
		for at := 1; ; at++ {
			dir := t.TempDir()
			f := &failing{FS: disk.OS(), failAt: at, err: injected}
			s, err := tier.OpenLocal(f, dir)
			if err == nil {
				err = s.Put(t.Context(), "a/b/c", parts)
			}
			if f.failed == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				break // every call has failed once
			}
			if !errors.Is(err, injected) {
				t.Fatalf("call %d (%s) failed: %v", at, f.failed, err)
			}
			if errors.Is(injected, disk.ErrNoSpace) && f.failed != "syncdir" && !errors.Is(err, tier.ErrNoSpace) {
				t.Errorf("full disk at %s: %v", f.failed, err)
			}
			if s != nil {
				checkAfterFault(t, s, f.failed, errors.Is(injected, disk.ErrNoSpace), data, parts)
			}
			again, err := tier.OpenLocal(disk.OS(), dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := again.Put(t.Context(), "a/b/c", parts); err != nil {
				t.Errorf("put after a restart: %v", err)
			}
			checkWhole(t, again, data)
			if left, err := disk.OS().ReadDir(dir + "/.tidemark-tmp"); err != nil || countTemps(left) > 0 {
				t.Errorf("call %d (%s): temporary files stayed: %v, %v", at, f.failed, left, err)
			}
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func checkAfterFault(t *testing.T, s *tier.Local, failed string, full bool, data []byte, parts [][]byte) {
	t.Helper()
	if _, err := s.Stat(t.Context(), "a/b/c"); err == nil {
		checkWhole(t, s, data)
	} else if !errors.Is(err, tier.ErrNotFound) {
		t.Error(err)
	}
	err := s.Put(t.Context(), "a/b/c", parts)
	poisoned := failed == "syncdir" || !full && (failed == "sync" || failed == "writeout" || failed == "mkdir")
	if poisoned != errors.Is(err, tier.ErrFailed) || !poisoned && err != nil {
		t.Errorf("put after a failed %s: %v", failed, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func checkWhole(t *testing.T, s tier.Store, data []byte) {
	t.Helper()
	got := make([]byte, len(data))
	if err := s.ReadAt(t.Context(), "a/b/c", got, 0); err != nil || !bytes.Equal(got, data) {
		t.Errorf("object is not whole: %v", err)
	}
}

func countTemps(entries []disk.Entry) int {
	n := 0
	for _, e := range entries {
		if len(e.Name) > 4 && e.Name[len(e.Name)-4:] == ".tmp" {
			n++
		}
	}
	return n
}
