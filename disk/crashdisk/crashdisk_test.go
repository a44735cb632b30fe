package crashdisk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/disk/crashdisk"
	"github.com/tidemark-io/tidemark/disk/disktest"
)

func TestContract(t *testing.T) {
	disktest.Run(t, func(t *testing.T) (disk.FS, string) {
		t.Helper()
		fsys := crashdisk.New()
		if err := fsys.MkdirAll("/data/empty"); err != nil {
			t.Fatal(err)
		}
		return fsys, "/data/empty"
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write makes a file with a durable content and leaves it open.
func write(t *testing.T, fsys *crashdisk.FS, name, content string) disk.File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	_, err = f.WriteAt([]byte(content), 0)
	must(t, err)
	must(t, f.Sync())
	must(t, fsys.SyncDir("/"))
	return f
}

// holds says what a file holds, "-" if there is none.
func holds(t *testing.T, fsys *crashdisk.FS, name string) string {
	t.Helper()
	p, err := fsys.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "-"
	}
	must(t, err)
	return string(p)
}

func TestUnsyncedDataIsLost(t *testing.T) {
	fsys := crashdisk.New()
	f := write(t, fsys, "a", "synced")
	_, err := f.WriteAt([]byte("SYN and more"), 0)
	must(t, err)
	if got := holds(t, fsys, "a"); got != "SYN and more" {
		t.Fatalf("sees %q", got)
	}
	if got := holds(t, fsys.Crash(crashdisk.KeepNone, 0), "a"); got != "synced" {
		t.Errorf("keeps %q of none", got)
	}
	if got := holds(t, fsys.Crash(crashdisk.KeepAll, 0), "a"); got != "SYN and more" {
		t.Errorf("keeps %q of all", got)
	}
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, crashdisk.ErrStopped) {
		t.Errorf("a handle survived: %v", err)
	}
	if _, err := fsys.Stat("a"); !errors.Is(err, crashdisk.ErrStopped) {
		t.Errorf("the file system survived: %v", err)
	}
}

// TestHalfIsOutOfOrder: with enough seeds a later block survives without an earlier one, and both ways round, and an older
// version of a block without the newest; never what was not written.
func TestHalfIsOutOfOrder(t *testing.T) {
	fsys := crashdisk.New()
	const block = 4096
	f := write(t, fsys, "a", strings.Repeat(".", 2*block))
	for _, version := range []string{"1", "2"} {
		for n := range int64(2) {
			_, err := f.WriteAt(bytes.Repeat([]byte(version), block), n*block)
			must(t, err)
		}
	}
	must(t, f.Allocate(3*block))
	found := map[string]bool{}
	for seed := range uint64(200) {
		got := holds(t, fsys.Crash(crashdisk.KeepHalf, seed), "a")
		if len(got) != 2*block && len(got) != 3*block {
			t.Fatalf("%d bytes", len(got))
		}
		for n := range 2 {
			if strings.Trim(got[n*block:][:block], got[n*block:][:1]) != "" {
				t.Fatal("a block was torn")
			}
		}
		found[got[:1]+got[block:][:1]] = true
	}
	if len(found) != 9 {
		t.Errorf("found %v, want every pair of versions", found)
	}
}

func TestFailedSyncLosesForGood(t *testing.T) {
	fsys := crashdisk.New()
	f := write(t, fsys, "a", "old")
	_, err := f.WriteAt([]byte("new"), 0)
	must(t, err)
	fsys.FailOn(crashdisk.Fault{Op: crashdisk.Sync})
	if err := f.Sync(); !errors.Is(err, crashdisk.ErrInjected) {
		t.Fatal(err)
	}
	must(t, f.Sync()) // says nothing about what was lost
	if got := holds(t, fsys, "a"); got != "new" {
		t.Errorf("sees %q", got)
	}
	if got := holds(t, fsys.Crash(crashdisk.KeepAll, 0), "a"); got != "old" {
		t.Errorf("keeps %q", got)
	}
}

func TestNamesNeedSyncDir(t *testing.T) {
	fsys := crashdisk.New()
	must(t, fsys.MkdirAll("/d/e"))
	must(t, write(t, fsys, "/a", "a").Close())
	f, err := fsys.Create("/d/b")
	must(t, err)
	must(t, f.Sync()) // the content, not the name
	must(t, fsys.Remove("/a"))
	for keep, want := range map[crashdisk.Keep][2]string{crashdisk.KeepNone: {"a", "-"}, crashdisk.KeepAll: {"-", ""}} {
		after := fsys.Copy().Crash(keep, 0)
		if got := [2]string{holds(t, after, "/a"), holds(t, after, "/d/b")}; got != want {
			t.Errorf("keep %v: %q, want %q", keep, got, want)
		}
		if e, err := after.Stat("/d/e"); err != nil || !e.Dir {
			t.Errorf("MkdirAll is durable by itself: %v", err)
		}
	}
	must(t, fsys.SyncDir("/d"))
	after := fsys.Crash(crashdisk.KeepNone, 0)
	if holds(t, after, "/a") != "a" || holds(t, after, "/d/b") != "" {
		t.Error("SyncDir is about one directory")
	}
}

// TestRenameIsAtomic: whatever survives, the file has one of its names and its old or its new content, also between directories.
func TestRenameIsAtomic(t *testing.T) {
	fsys := crashdisk.New()
	must(t, fsys.MkdirAll("/d"))
	must(t, write(t, fsys, "/a", "new").Close())
	old, err := fsys.Create("/d/a")
	must(t, err)
	_, err = old.WriteAt([]byte("old"), 0)
	must(t, err)
	must(t, old.Sync())
	must(t, fsys.SyncDir("/d"))
	must(t, fsys.Rename("/a", "/d/a"))
	seen := map[string]bool{}
	for seed := range uint64(20) {
		after := fsys.Copy().Crash(crashdisk.KeepHalf, seed)
		seen[holds(t, after, "/a")+holds(t, after, "/d/a")] = true
	}
	if len(seen) != 2 || !seen["newold"] || !seen["-new"] {
		t.Errorf("saw %v", seen)
	}
	must(t, fsys.SyncDir("/d"))
	after := fsys.Crash(crashdisk.KeepNone, 0)
	if holds(t, after, "/a") != "-" || holds(t, after, "/d/a") != "new" {
		t.Error("the new directory's sync did not make the rename durable")
	}
}

// TestNamesAreOrdered: of one directory's changes some first part survives, with what it rests on elsewhere.
func TestNamesAreOrdered(t *testing.T) {
	fsys := crashdisk.New()
	must(t, fsys.MkdirAll("/d"))
	for n := range 5 {
		f, err := fsys.Create(fmt.Sprintf("/%d", n))
		must(t, err)
		must(t, f.Close())
	}
	must(t, fsys.Rename("/4", "/d/4"))
	lengths := map[int]bool{}
	for seed := range uint64(100) {
		after := fsys.Crash(crashdisk.KeepHalf, seed)
		count := 0
		for n := range 5 {
			name := fmt.Sprintf("/%d", n)
			there := holds(t, after, name) != "-" || n == 4 && holds(t, after, "/d/4") != "-"
			if there && count != n {
				t.Fatalf("seed %d: %s survived what was before it", seed, name)
			}
			if there {
				count++
			}
		}
		lengths[count] = true
	}
	if len(lengths) != 6 {
		t.Errorf("survived %v", lengths)
	}
}

func TestFaults(t *testing.T) {
	fsys := crashdisk.New()
	f := write(t, fsys, "/log.wal", "0123456789")
	own := errors.New("own")
	calls := fsys.Calls()
	fsys.FailOn(crashdisk.Fault{Op: crashdisk.Write, Name: "*.txt"}) // strikes nobody
	fsys.FailOn(crashdisk.Fault{Op: crashdisk.Write, Name: "*.wal", Err: own, Torn: true})
	fsys.FailOn(crashdisk.Fault{Call: calls + 4, Done: true})
	if n, err := f.WriteAt([]byte("abcd"), 0); n != 2 || !errors.Is(err, own) {
		t.Error(n, err)
	}
	if _, err := f.Size(); err != nil {
		t.Error(err)
	}
	if got := holds(t, fsys, "/log.wal"); got != "ab23456789" {
		t.Errorf("torn: %q", got)
	}
	_, err := f.WriteAt([]byte("A"), 0)
	must(t, err)
	if err := f.Sync(); !errors.Is(err, crashdisk.ErrInjected) || fsys.Calls() != calls+4 || fsys.Failed() != crashdisk.Sync {
		t.Error(err, fsys.Calls(), fsys.Failed())
	}
	if got := holds(t, fsys.Copy().Crash(crashdisk.KeepNone, 0), "/log.wal"); got != "Ab23456789" {
		t.Errorf("done and failed: %q", got)
	}
	_, err = f.WriteAt([]byte("B"), 0)
	must(t, err)
	fsys.FailOn(crashdisk.Fault{Op: crashdisk.Sync, Stop: true})
	if err := f.Sync(); !errors.Is(err, crashdisk.ErrStopped) {
		t.Error(err)
	}
	if err := fsys.SyncDir("/"); !errors.Is(err, crashdisk.ErrStopped) {
		t.Error(err)
	}
	if got := holds(t, fsys.Crash(crashdisk.KeepAll, 0), "/log.wal"); got != "Bb23456789" {
		t.Errorf("the power went before the sync: %q", got)
	}
}

// TestHalfMadeDirectory: a directory that a failed MkdirAll left is not durable until a second one returns.
func TestHalfMadeDirectory(t *testing.T) {
	fsys := crashdisk.New()
	fsys.FailOn(crashdisk.Fault{Op: crashdisk.MkdirAll, Torn: true})
	if err := fsys.MkdirAll("/a/b"); !errors.Is(err, crashdisk.ErrInjected) {
		t.Fatal(err)
	}
	if e, err := fsys.Stat("/a"); err != nil || !e.Dir {
		t.Error(err)
	}
	if _, err := fsys.Copy().Crash(crashdisk.KeepNone, 0).Stat("/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	must(t, fsys.MkdirAll("/a/b"))
	if _, err := fsys.Crash(crashdisk.KeepNone, 0).Stat("/a/b"); err != nil {
		t.Error(err)
	}
}

func TestCapacity(t *testing.T) {
	fsys := crashdisk.New()
	fsys.SetCapacity(10)
	f := write(t, fsys, "/a", "012345")
	if n, err := f.WriteAt([]byte("abcdefgh"), 4); n != 6 || !errors.Is(err, disk.ErrNoSpace) {
		t.Error(n, err)
	}
	if got := holds(t, fsys, "/a"); got != "0123abcdef" {
		t.Errorf("%q", got)
	}
	_, err := f.WriteAt([]byte("ABCD"), 0) // has its place already
	must(t, err)
	if err := f.Allocate(11); !errors.Is(err, disk.ErrNoSpace) {
		t.Error(err)
	}
	if n, err := fsys.Free("/"); n != 0 || err != nil {
		t.Error(n, err)
	}
	must(t, fsys.Remove("/a"))
	if n, err := fsys.Free("/"); n != 10 || err != nil {
		t.Error(n, err)
	}
}

func TestLocksEndWithTheMachine(t *testing.T) {
	fsys := crashdisk.New()
	_, err := fsys.Lock("/l")
	must(t, err)
	_, err = fsys.Copy().Lock("/l")
	must(t, err)
	_, err = fsys.Crash(crashdisk.KeepAll, 0).Lock("/l")
	must(t, err)
}

func TestWriteFileIsDurable(t *testing.T) {
	fsys := crashdisk.New()
	must(t, fsys.WriteFile("/a", []byte("one")))
	must(t, fsys.WriteFile("/a", []byte("two")))
	if fsys.Calls() != 0 {
		t.Error("counted")
	}
	if got := holds(t, fsys.Crash(crashdisk.KeepNone, 0), "/a"); got != "two" {
		t.Errorf("%q", got)
	}
}
