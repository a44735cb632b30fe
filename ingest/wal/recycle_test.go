package wal

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/disk/crashdisk"
)

// names lists the log's directory.
func names(t *testing.T, fsys disk.FS) (out []string) {
	t.Helper()
	list, err := fsys.ReadDir(testDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		out = append(out, e.Name)
	}
	return out
}

// TestTrimmedFilesAreWrittenAnew: a log that is trimmed as it grows makes a few files and writes those over and over, and a restart forgets the spare ones.
func TestTrimmedFilesAreWrittenAnew(t *testing.T) {
	fsys := crashdisk.New()
	config := Config{FS: fsys, Dir: testDir, FileBytes: 1500, Salt: 5}
	l := mustOpen(t, config)
	recycled := 0
	for n := range 200 {
		mustAppend(t, l, frameOf(n, 200))
		if l.files[len(l.files)-1].recycled {
			recycled++
		}
		if err := l.Trim(l.End()); err != nil {
			t.Fatal(err)
		}
		if got := names(t, fsys); len(got) > 1+maxSpares {
			t.Fatalf("%d files: %v", len(got), got)
		}
	}
	if recycled < 180 {
		t.Errorf("%d of 200 frames went into files of an earlier life", recycled)
	}
	mustClose(t, l)
	l = mustOpen(t, config)
	if got := names(t, fsys); len(got) != 1 || strings.HasSuffix(got[0], passingSuffix) {
		t.Errorf("after a restart: %v", got)
	}
	mustClose(t, l)
}

// TestFileInUseIsNotWrittenAnew: who reads a file keeps it from being given another life below him.
func TestFileInUseIsNotWrittenAnew(t *testing.T) {
	fsys := crashdisk.New()
	l := mustOpen(t, Config{FS: fsys, Dir: testDir, FileBytes: 1500})
	first := mustAppend(t, l, frameOf(1, 1000))[0]
	mustAppend(t, l, frameOf(2, 1000))
	f, _, err := l.find(first.at) // as Read does
	if err != nil {
		t.Fatal(err)
	}
	trimmed := make(chan error)
	go func() { trimmed <- l.Trim(l.End()) }()
	for {
		if _, _, err := l.find(first.at); errors.Is(err, ErrTrimmed) {
			break // it is not listed any more
		} else if err == nil {
			f.use.RUnlock()
		}
	}
	mustAppend(t, l, frameOf(3, 1000))
	got := make([]byte, len(first.frame.Batch))
	if err := readFull(f.file, got, fileHeaderSize+frameHeaderSize); err != nil || !bytes.Equal(got, first.frame.Batch) {
		t.Errorf("its bytes have changed: %v", err)
	}
	f.use.RUnlock()
	if err := <-trimmed; err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
}

// TestSparesMakeRoom: on a full disk a log gives up its spare files rather than fail for a group that none of them holds.
func TestSparesMakeRoom(t *testing.T) {
	fsys := crashdisk.New()
	l := mustOpen(t, Config{FS: fsys, Dir: testDir, FileBytes: 1500})
	for n := range 3 {
		mustAppend(t, l, frameOf(n, 1000))
	}
	if err := l.Trim(l.End()); err != nil {
		t.Fatal(err)
	}
	if len(l.spares) != 2 {
		t.Fatalf("%d spares", len(l.spares))
	}
	fsys.SetCapacity(1500*3 + 500)
	for l.Append([]Frame{frameOf(9, 3000)}, make([]LSN, 1)) != nil { // one spare less at each try
		if len(l.spares) == 0 {
			t.Fatal("no room although there are no spares any more")
		}
	}
	mustClose(t, l)
}

// TestFramesOfAnotherLifeNeverComeBack: a recycled file that lost its last writes, in whatever order, ends where they were lost.
func TestFramesOfAnotherLifeNeverComeBack(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for round := range 300 {
		fsys := crashdisk.New()
		config := Config{FS: fsys, Dir: testDir, FileBytes: 4000, Salt: uint32(round)}
		l := mustOpen(t, config)
		var written []entry
		for n := 0; n < 40 || !l.files[len(l.files)-1].recycled; n++ {
			written = append(written, mustAppend(t, l, frameOf(n, random.IntN(400)))...)
			if err := l.Trim(l.End() - min(l.End(), LSN(random.IntN(3000)))); err != nil {
				t.Fatal(err)
			}
		}
		durable := mustSync(t, l)
		for n := range random.IntN(5) {
			written = append(written, mustAppend(t, l, frameOf(2000+n, random.IntN(300)))...)
		}
		for _, c := range crashes {
			config.FS = fsys.Crash(c.keep, c.seed)
			r := mustOpen(t, config)
			if _, err := checkHolds(r, written, durable); err != nil {
				t.Fatalf("round %d, keep %v, seed %d: %v", round, c.keep, c.seed, err)
			}
			mustClose(t, r)
		}
	}
}

// TestCleanStopIsNotTorn: wherever frames end in a recycled file, it ends there for the next life too, each of which has a salt of its own.
func TestCleanStopIsNotTorn(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	recycled := 0
	for round := range 50 {
		config := Config{FS: crashdisk.New(), Dir: testDir, FileBytes: 2000, Salt: 1}
		l := mustOpen(t, config)
		var written []entry
		for n := range 30 + random.IntN(20) {
			written = append(written, mustAppend(t, l, frameOf(n, random.IntN(300)))...)
			if err := l.Trim(l.End()); err != nil {
				t.Fatal(err)
			}
		}
		if l.files[len(l.files)-1].recycled {
			recycled++
		}
		end := l.End()
		mustClose(t, l)
		for range 2 {
			config.Salt++
			l = mustOpen(t, config)
			if r := l.Recovery(); r.TornBytes != 0 || r.End != end {
				t.Fatalf("round %d: %+v, ended at %d", round, r, end)
			}
			if _, err := checkHolds(l, written, end); err != nil {
				t.Fatal(round, err)
			}
			mustClose(t, l)
		}
	}
	if recycled < 25 {
		t.Errorf("%d rounds ended in a recycled file", recycled)
	}
}

// TestPowerGoesAfterARoll: a recycled file that has its new name and nothing more is empty.
func TestPowerGoesAfterARoll(t *testing.T) {
	fsys := crashdisk.New()
	config := Config{FS: fsys, Dir: testDir, FileBytes: 2000, Salt: 1}
	l := mustOpen(t, config)
	for n := range 3 {
		mustAppend(t, l, frameOf(n, 1500))
	}
	if err := l.Trim(l.End()); err != nil {
		t.Fatal(err)
	}
	mustSync(t, l)
	fsys.FailOn(crashdisk.Fault{Call: fsys.Calls() + 6, Op: crashdisk.Write, Stop: true}) // sync; write, sync, rename and syncdir of the next; write
	if err := l.Append([]Frame{frameOf(7, 1500)}, make([]LSN, 1)); err == nil {
		t.Fatal("it was appended")
	}
	config.FS = fsys.Crash(crashdisk.KeepAll, 0)
	r := mustOpen(t, config)
	if got := r.Recovery(); got.TornBytes != 0 || len(r.files) != 2 || got.End != l.End() {
		t.Errorf("%+v", got)
	}
	mustClose(t, r)
}

// TestTrimOnFullDisk: a disk too full for a rename, as may be where nothing is written in place, is not too full for the removal that makes room.
func TestTrimOnFullDisk(t *testing.T) {
	fsys := crashdisk.New()
	l := mustOpen(t, Config{FS: fsys, Dir: testDir, FileBytes: 1500})
	for n := range 3 {
		mustAppend(t, l, frameOf(n, 1000))
	}
	fsys.FailOn(crashdisk.Fault{Op: crashdisk.Rename, Err: disk.ErrNoSpace})
	if err := l.Trim(l.End()); err != nil {
		t.Fatal(err)
	}
	if len(names(t, fsys)) != 2 {
		t.Errorf("%v", names(t, fsys))
	}
	mustAppend(t, l, frameOf(9, 100))
	mustClose(t, l)
}

// TestSearchReadsOnce: what lies behind the end of a recycled file is read a few times in all, though every fourth byte of it begins like a frame.
func TestSearchReadsOnce(t *testing.T) {
	fsys := crashdisk.New()
	config := Config{FS: fsys, Dir: testDir, FileBytes: 8 << 20, Salt: 7}
	l := mustOpen(t, config)
	for range 3 {
		mustAppend(t, l, Frame{Batch: bytes.Repeat(frameMagic[:], 1<<20)}, Frame{Batch: bytes.Repeat(frameMagic[:], 1<<19)})
		if err := l.Trim(l.End()); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, l, frameOf(1, 3<<20)) // in a file of an earlier life
	if err := l.Trim(l.End()); err != nil || !l.files[0].recycled {
		t.Fatal("not the file that the test is about", err)
	}
	mustClose(t, l)
	before := fsys.Calls()
	l = mustOpen(t, config)
	if calls := fsys.Calls() - before; calls > 60 {
		t.Errorf("%d calls to open a log of one file of 8 MiB", calls)
	}
	mustClose(t, l)
}

// TestZeroedFrameIsDamage: zeros in the place of a frame that was durable end a recycled file, as after a clean stop; but what is behind them tells that it is
// damaged, and not an older copy.
func TestZeroedFrameIsDamage(t *testing.T) {
	fsys := crashdisk.New()
	config := Config{FS: fsys, Dir: testDir, FileBytes: 4000, Salt: 7}
	l := mustOpen(t, config)
	for n := 0; !l.files[len(l.files)-1].recycled; n++ {
		mustAppend(t, l, frameOf(n, 1000))
		if err := l.Trim(l.End()); err != nil {
			t.Fatal(err)
		}
	}
	e := mustAppend(t, l, frameOf(100, 100), frameOf(101, 100), frameOf(102, 100))
	config.Durable = mustSync(t, l)
	f := l.files[len(l.files)-1]
	mustClose(t, l)
	p, err := fsys.ReadFile(f.name)
	if err != nil {
		t.Fatal(err)
	}
	clear(p[f.offset(e[1].at):][:frameHeaderSize])
	if err := fsys.WriteFile(f.name, p); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(config); !isCorruption(err) {
		t.Errorf("%v", err)
	}
}

// TestForgedFrames: a producer puts into its batches what would be frames in the next life of their file, which say that more was synced than the log has. Only
// one who knew the salt could have the log taken for damaged.
func TestForgedFrames(t *testing.T) {
	const size = 1000 + frameHeaderSize // one a file, so that places can be foretold
	for _, known := range []bool{false, true} {
		fsys := crashdisk.New()
		config := Config{FS: fsys, Dir: testDir, FileBytes: fileHeaderSize + size, Salt: 7}
		salt := uint32(0)
		if known {
			salt = config.Salt
		}
		l := mustOpen(t, config)
		for range 10 {
			var batch []byte
			for ahead := range LSN(6) {
				place := l.End() + frameHeaderSize + LSN(len(batch)) + ahead*size
				batch = appendFrame(batch, salt, place, place, frameOf(1, 0))
			}
			mustAppend(t, l, Frame{Batch: append(batch, make([]byte, 1000-len(batch))...)})
			if err := l.Trim(l.End()); err != nil {
				t.Fatal(err)
			}
		}
		mustAppend(t, l, frameOf(2, 0))
		if !l.files[len(l.files)-1].recycled {
			t.Fatal("not the file that the test is about")
		}
		config.FS = fsys.Crash(crashdisk.KeepAll, 0)
		r, err := Open(config)
		if isCorruption(err) != known {
			t.Errorf("with the salt known %v: %v", known, err)
		}
		if err == nil {
			mustClose(t, r)
		}
	}
}
