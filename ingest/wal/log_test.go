package wal

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/disk/crashdisk"
)

// TestRoundTrip: what is appended is read back, replayed after a restart, and goes on at the same LSN; also on the real disk.
func TestRoundTrip(t *testing.T) {
	for name, config := range map[string]Config{
		"crashdisk": {FS: crashdisk.New(), Dir: testDir, FileBytes: 1000},
		"os":        {FS: disk.OS(), Dir: t.TempDir(), FileBytes: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			var written []entry
			for life := range 4 {
				l := mustOpen(t, config)
				if n, err := checkHolds(l, written, l.End()); err != nil || n != len(written) {
					t.Fatalf("life %d: %d of %d frames: %v", life, n, len(written), err)
				}
				if r := l.Recovery(); r.TornBytes != 0 || r.Frames != len(written) || r.Start != 0 || r.End != l.End() {
					t.Fatalf("life %d: %+v", life, r)
				}
				for n := range 10 {
					number := life*100 + n*3
					written = append(written, mustAppend(t, l, frameOf(number, 10*n), frameOf(number+1, 0), frameOf(number+2, 200*(n%2)))...)
				}
				written = append(written, mustAppend(t, l, frameOf(life*100+99, 5000))...) // larger than a file
				mustAppend(t, l)
				if _, err := checkHolds(l, written, l.Synced()); err != nil {
					t.Fatal(err)
				}
				if end := mustSync(t, l); end != l.End() || end != l.Synced() {
					t.Fatalf("synced %d of %d", end, l.End())
				}
				mustClose(t, l)
				mustClose(t, l)
				if _, err := l.Read(0, nil); !errors.Is(err, ErrClosed) {
					t.Fatal(err)
				}
				if err := l.Append([]Frame{{}}, make([]LSN, 1)); !errors.Is(err, ErrClosed) {
					t.Fatal(err)
				}
				if err := l.Replay(nil); !errors.Is(err, ErrClosed) {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestLargeGroups: groups that take several writes, batches that are written from where they lie, and a disk that fills up in the
// midst of one.
func TestLargeGroups(t *testing.T) {
	fsys := crashdisk.New()
	config := Config{FS: fsys, Dir: testDir, FileBytes: 8 << 20}
	l := mustOpen(t, config)
	group := []Frame{
		frameOf(1, directBytes), frameOf(2, 10), frameOf(3, directBytes-1), frameOf(4, directBytes-1), frameOf(5, directBytes-1),
		frameOf(6, directBytes-1), frameOf(7, directBytes-1), frameOf(8, 0), frameOf(9, writeBytes+1), frameOf(10, 1), frameOf(11, 1),
	}
	written := mustAppend(t, l, group...)
	writes := 0
	for {
		calls := fsys.Calls()
		fsys.FailOn(crashdisk.Fault{Call: calls + writes + 1, Op: crashdisk.Write, Err: disk.ErrNoSpace, Torn: true})
		err := l.Append(group, make([]LSN, len(group)))
		fsys.ClearFaults()
		if err == nil {
			break
		}
		if !errors.Is(err, disk.ErrNoSpace) || errors.Is(err, ErrFailed) {
			t.Fatal(err)
		}
		writes++
		written = append(written, mustAppend(t, l, group[:1+writes%3]...)...) // ends right before a frame of the first attempt
		end := mustSync(t, l)
		config.FS = fsys.Copy().Crash(crashdisk.KeepNone, 0)
		r := mustOpen(t, config)
		if n, err := checkHolds(r, written, end); err != nil || n != len(written) || r.Recovery().TornBytes != 0 {
			t.Fatalf("write %d: %d of %d frames, %+v: %v", writes, n, len(written), r.Recovery(), err)
		}
		mustClose(t, r)
	}
	if writes < 5 {
		t.Fatalf("the group took %d writes", writes)
	}
	mustClose(t, l)
}

// TestTooLarge: a batch over the cap refuses its call alone; one that another cap allowed is still read.
func TestTooLarge(t *testing.T) {
	fsys := crashdisk.New()
	l := mustOpen(t, Config{FS: fsys, Dir: testDir, FileBytes: 1000, MaxFrameBytes: 100})
	written := mustAppend(t, l, frameOf(1, 100))
	if err := l.Append([]Frame{frameOf(2, 5), frameOf(3, 101)}, make([]LSN, 2)); !errors.Is(err, ErrTooLarge) || errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	written = append(written, mustAppend(t, l, frameOf(4, 50))...)
	mustClose(t, l)
	l = mustOpen(t, Config{FS: fsys, Dir: testDir, FileBytes: 1000, MaxFrameBytes: 10})
	if n, err := checkHolds(l, written, l.End()); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	mustClose(t, l)
	if _, err := Open(Config{FS: fsys, Dir: testDir, MaxFrameBytes: 2 << 30}); err == nil {
		t.Fatal("took a cap that no length can hold")
	}
}

// TestTrim: whole files go, oldest first, the current one never; positions stay.
func TestTrim(t *testing.T) {
	fsys := crashdisk.New()
	config := Config{FS: fsys, Dir: testDir, FileBytes: 500}
	l := mustOpen(t, config)
	var written []entry
	for n := range 20 {
		written = append(written, mustAppend(t, l, frameOf(n, 100))...)
	}
	before := l.Size()
	if err := l.Trim(written[9].at); err != nil {
		t.Fatal(err)
	}
	if l.Start() > written[9].at || l.Start() == 0 || l.Size() >= before {
		t.Fatalf("starts at %d, %d bytes of %d", l.Start(), l.Size(), before)
	}
	if _, err := l.Read(0, nil); !errors.Is(err, ErrTrimmed) {
		t.Fatal(err)
	}
	if _, err := l.Read(written[9].at, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Read(written[9].at+1, nil); !isCorruption(err) {
		t.Fatal(err)
	}
	if _, err := l.Read(l.End(), nil); err == nil {
		t.Fatal("read the end")
	}
	end := l.End()
	if err := l.Trim(end + 1000); err != nil {
		t.Fatal(err)
	}
	if l.End() != end {
		t.Fatal("the end moved")
	}
	mustClose(t, l)
	l = mustOpen(t, config)
	if l.End() != end {
		t.Fatalf("ends at %d after a restart, was %d", l.End(), end)
	}
	if n, err := checkHolds(l, written, end); err != nil || n == 0 {
		t.Fatal(n, err)
	}
	mustClose(t, l)
}

// TestRolledBack: a log below what others know of is refused.
func TestRolledBack(t *testing.T) {
	fsys := crashdisk.New()
	if _, err := Open(Config{FS: fsys, Dir: testDir, FileBytes: 1000, Durable: 1}); !errors.Is(err, ErrRolledBack) {
		t.Fatal(err)
	}
	l := mustOpen(t, Config{FS: fsys, Dir: testDir, FileBytes: 1000})
	mustAppend(t, l, frameOf(1, 10))
	end := l.End()
	mustClose(t, l)
	if _, err := Open(Config{FS: fsys, Dir: testDir, FileBytes: 1000, Durable: end + 1}); !errors.Is(err, ErrRolledBack) {
		t.Fatal(err)
	}
	mustClose(t, mustOpen(t, Config{FS: fsys, Dir: testDir, FileBytes: 1000, Durable: end}))
}

// TestForeignFile: what is not the log's is neither read nor removed.
func TestForeignFile(t *testing.T) {
	fsys := crashdisk.New()
	mustClose(t, mustOpen(t, Config{FS: fsys, Dir: testDir, FileBytes: 1000}))
	for _, name := range []string{"notes.txt", "1.wal", "99999999999999999999.wal"} {
		if err := fsys.WriteFile(testDir+"/"+name, []byte("mine")); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{FS: fsys, Dir: testDir, FileBytes: 1000}); err == nil {
			t.Fatalf("opened beside %s", name)
		}
		if p, err := fsys.ReadFile(testDir + "/" + name); err != nil || string(p) != "mine" {
			t.Fatal(p, err)
		}
		if err := fsys.Remove(testDir + "/" + name); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, mustOpen(t, Config{FS: fsys, Dir: testDir, FileBytes: 1000}))
}

// TestUnknownVersion: another format is told apart from damage.
func TestUnknownVersion(t *testing.T) {
	fsys := crashdisk.New()
	mustClose(t, mustOpen(t, Config{FS: fsys, Dir: testDir, FileBytes: 1000}))
	name := lastFile(t, fsys)
	p, err := fsys.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	h := fileHeader{}.encode()
	h[5] = formatVersion + 1
	putHeaderCRC(h)
	copy(p, h)
	if err := fsys.WriteFile(name, p); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{FS: fsys, Dir: testDir, FileBytes: 1000}); !errors.Is(err, ErrVersion) || isCorruption(err) {
		t.Fatal(err)
	}
}

// TestFailedSyncOnlyCloses: after a failed sync nothing is appended, synced or trimmed any more, and Close does not sync.
func TestFailedSyncOnlyCloses(t *testing.T) {
	fsys := crashdisk.New()
	config := Config{FS: fsys, Dir: testDir, FileBytes: 1000}
	l := mustOpen(t, config)
	written := mustAppend(t, l, frameOf(1, 100))
	durable := mustSync(t, l)
	mustAppend(t, l, frameOf(2, 100))
	fsys.FailOn(crashdisk.Fault{Op: crashdisk.Sync})
	if _, err := l.Sync(); !errors.Is(err, ErrFailed) || !errors.Is(err, crashdisk.ErrInjected) {
		t.Fatal(err)
	}
	if _, err := l.Sync(); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	if err := l.Append([]Frame{frameOf(3, 1)}, make([]LSN, 1)); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	if err := l.Trim(l.End()); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	if l.Synced() != durable {
		t.Fatalf("synced %d, want %d", l.Synced(), durable)
	}
	if _, err := l.Read(0, nil); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	after := fsys.Crash(crashdisk.KeepAll, 0) // the second frame was readable, and is lost
	config.FS = after
	l = mustOpen(t, config)
	if n, err := checkHolds(l, written, durable); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	mustClose(t, l)
}

// TestPageCacheIsNotTrusted: a process that follows a failed sync reads from the page cache what the disk does not have, and
// must have it on disk before it says so.
func TestPageCacheIsNotTrusted(t *testing.T) {
	fsys := crashdisk.New()
	config := Config{FS: fsys, Dir: testDir, FileBytes: 1000}
	l := mustOpen(t, config)
	written := mustAppend(t, l, frameOf(1, 100))
	fsys.FailOn(crashdisk.Fault{Op: crashdisk.Sync})
	if _, err := l.Sync(); err == nil {
		t.Fatal("synced")
	}
	mustClose(t, l)
	l = mustOpen(t, config)
	if n, err := checkHolds(l, written, l.End()); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	config.FS = fsys.Crash(crashdisk.KeepNone, 0)
	l = mustOpen(t, config)
	if n, err := checkHolds(l, written, l.End()); n != 1 || err != nil {
		t.Fatalf("%d frames: %v", n, err)
	}
	mustClose(t, l)
}

// TestMissingFile: a gap in the middle is damage.
func TestMissingFile(t *testing.T) {
	fsys := crashdisk.New()
	config := Config{FS: fsys, Dir: testDir, FileBytes: 500}
	l := mustOpen(t, config)
	for n := range 12 {
		mustAppend(t, l, frameOf(n, 150))
	}
	mustClose(t, l)
	list, err := fsys.ReadDir(testDir)
	if err != nil || len(list) < 4 {
		t.Fatal(list, err)
	}
	if err := fsys.Remove(testDir + "/" + list[2].Name); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(config); !isCorruption(err) || errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}
