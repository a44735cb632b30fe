package wal

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/disk/crashdisk"
)

// history is what a log was told, and what it promised.
type history struct {
	appended []entry // those whose Append returned nil
	tried    []entry // everything that was given to Append at or above durable: a crash may leave any of it
	durable  LSN     // the greatest that a Sync or Open promised
	trimmed  LSN     // the greatest that a Trim was told
}

func (h *history) synced(end LSN) {
	h.durable = max(h.durable, end)
	h.tried = slices.DeleteFunc(h.tried, func(e entry) bool { return e.at < h.durable })
}

// check compares a log that was just opened with the history: below durable it has what was appended, above it a part of what
// was tried. What is there is durable now.
func (h *history) check(l *Log) error {
	if l.Start() > h.trimmed {
		return fmt.Errorf("starts at %d, trimmed were %d", l.Start(), h.trimmed)
	}
	got, err := replayed(l)
	if err != nil {
		return err
	}
	want := slices.DeleteFunc(slices.Clone(h.appended), func(e entry) bool { return e.at >= h.durable })
	for _, e := range got {
		if e.at >= h.durable {
			if !slices.ContainsFunc(h.tried, func(t entry) bool { return t.at == e.at && sameFrame(t.frame, e.frame) }) {
				return fmt.Errorf("the frame at %d was never given to Append there", e.at)
			}
			want = append(want, e)
		}
	}
	if _, err := checkHolds(l, want, h.durable); err != nil {
		return err
	}
	h.appended = want
	h.synced(l.End())
	return nil
}

func (h *history) clone() *history {
	return &history{appended: slices.Clone(h.appended), tried: slices.Clone(h.tried), durable: h.durable, trimmed: h.trimmed}
}

// life runs a script on a log until something fails: appends of all sizes, syncs, rolls, trims, a restart.
func (h *history) life(config Config, number, groups int) (err error) {
	l, err := Open(config)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := l.Close(); err == nil {
			err = closeErr
		}
		if err == nil {
			h.synced(l.End())
		}
	}()
	if err := h.check(l); err != nil {
		if errors.Is(err, crashdisk.ErrStopped) || errors.Is(err, crashdisk.ErrInjected) || errors.Is(err, disk.ErrNoSpace) {
			return err // could not be read
		}
		return &brokenPromiseError{err}
	}
	for n := range groups {
		number := number*1000 + n*10
		frames := []Frame{frameOf(number, n*37%300)}
		switch n % 4 {
		case 1:
			frames = append(frames, frameOf(number+1, 0), frameOf(number+2, 120))
		case 2:
			frames = append(frames, frameOf(number+1, n%3*700))
		}
		at := make([]LSN, len(frames))
		entries := placed(l.End(), frames)
		h.tried = append(h.tried, entries...)
		if err := l.Append(frames, at); err != nil {
			return err
		}
		h.appended = append(h.appended, entries...)
		if n%3 == 2 {
			synced, err := l.Sync()
			if err != nil {
				return err
			}
			h.synced(synced)
		}
		if n%5 == 4 {
			h.trimmed = max(h.trimmed, l.Synced()/2)
			if err := l.Trim(h.trimmed); err != nil {
				return err
			}
		}
	}
	return nil
}

// brokenPromiseError is what no fault excuses.
type brokenPromiseError struct{ error }

// placed says where frames stand that are appended at an LSN.
func placed(at LSN, frames []Frame) []entry {
	out := make([]entry, len(frames))
	for n, f := range frames {
		out[n] = entry{at, f}
		at += LSN(frameHeaderSize + len(f.Batch))
	}
	return out
}

type crash struct {
	keep crashdisk.Keep
	seed uint64
}

var crashes = []crash{
	{crashdisk.KeepNone, 0}, {crashdisk.KeepAll, 0}, {crashdisk.KeepHalf, 1}, {crashdisk.KeepHalf, 2}, {crashdisk.KeepHalf, 3},
}

// faults are the ways in which one call goes wrong.
var faults = map[string]crashdisk.Fault{
	"error":        {},
	"errorAfter":   {Done: true},
	"torn":         {Torn: true},
	"power":        {Stop: true},
	"powerAfter":   {Stop: true, Done: true},
	"powerTorn":    {Stop: true, Torn: true},
	"noSpace":      {Err: disk.ErrNoSpace},
	"noSpaceTorn":  {Err: disk.ErrNoSpace, Torn: true},
	"noSpaceAfter": {Err: disk.ErrNoSpace, Done: true},
}

// TestEveryCallFails lets every call of a log's two lives go wrong in every way, ends the process or the machine there, and
// opens the log again: what was promised is there.
func TestEveryCallFails(t *testing.T) {
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			for call := 1; ; call++ {
				fsys := crashdisk.New()
				fault.Call = call
				fsys.FailOn(fault)
				config := Config{FS: fsys, Dir: testDir, FileBytes: 1500}
				h := &history{}
				err := h.life(config, 1, 14)
				if err == nil {
					err = h.life(config, 2, 6)
				}
				if _, ok := errors.AsType[*brokenPromiseError](err); ok {
					t.Fatalf("call %d (%s): %v", call, fsys.Failed(), err)
				}
				if fsys.Failed() == "" {
					if err != nil {
						t.Fatal(err)
					}
					break // every call has failed once
				}
				if !fault.Stop {
					// The process ends, the machine goes on.
					again := h.clone()
					next := fsys.Copy()
					config.FS = next
					if err := again.life(config, 3, 3); err != nil {
						t.Fatalf("call %d (%s), then a restart: %v", call, fsys.Failed(), err)
					}
					config.FS = next.Crash(crashdisk.KeepNone, 0)
					if err := again.life(config, 4, 3); err != nil {
						t.Fatalf("call %d (%s), then a restart and a crash: %v", call, fsys.Failed(), err)
					}
				}
				for _, c := range crashes {
					again := h.clone()
					config.FS = fsys.Crash(c.keep, c.seed)
					if err := again.life(config, 3, 3); err != nil {
						t.Fatalf("call %d (%s), then a crash that keeps %v, seed %d: %v", call, fsys.Failed(), c.keep, c.seed, err)
					}
				}
			}
		})
	}
}

// TestCrashInRecovery lets the power go at every call of a recovery, and of the recovery from that, and so on.
func TestCrashInRecovery(t *testing.T) {
	base := crashdisk.New()
	h := &history{}
	base.FailOn(crashdisk.Fault{Call: 100, Stop: true, Torn: true})
	if err := h.life(Config{FS: base, Dir: testDir, FileBytes: 1500}, 1, 30); !errors.Is(err, crashdisk.ErrStopped) {
		t.Fatal(err)
	}
	for _, c := range crashes {
		fsys := base.Crash(c.keep, c.seed)
		again := h.clone()
		for call := 1; ; call++ {
			fsys.FailOn(crashdisk.Fault{Call: call, Stop: true, Torn: true, Done: call%2 == 0})
			err := again.life(Config{FS: fsys, Dir: testDir, FileBytes: 1500}, 2, 0)
			if _, ok := errors.AsType[*brokenPromiseError](err); ok {
				t.Fatalf("keep %v, call %d: %v", c.keep, call, err)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, crashdisk.ErrStopped) {
				t.Fatalf("keep %v, call %d: %v", c.keep, call, err)
			}
			fsys = fsys.Crash(crashdisk.KeepHalf, uint64(call))
		}
		if err := again.life(Config{FS: fsys.Crash(crashdisk.KeepNone, 0), Dir: testDir, FileBytes: 1500}, 3, 3); err != nil {
			t.Fatalf("keep %v: %v", c.keep, err)
		}
	}
}

// TestFullDisk: a full disk refuses appends, which go on when there is room; a restart meanwhile needs room for what is there.
func TestFullDisk(t *testing.T) {
	fsys := crashdisk.New()
	fsys.SetCapacity(4000)
	config := Config{FS: fsys, Dir: testDir, FileBytes: 1500}
	l := mustOpen(t, config)
	var written []entry
	at := make([]LSN, 1)
	var full error
	for n := 0; full == nil; n++ {
		if full = l.Append([]Frame{frameOf(n, 200)}, at); full == nil {
			written = append(written, entry{at[0], frameOf(n, 200)})
		}
	}
	if !errors.Is(full, disk.ErrNoSpace) || errors.Is(full, ErrFailed) {
		t.Fatal(full)
	}
	if err := l.Append([]Frame{frameOf(900, 300)}, at); !errors.Is(err, disk.ErrNoSpace) {
		t.Fatal(err)
	}
	if n, err := checkHolds(l, written, mustSync(t, l)); err != nil || n != len(written) {
		t.Fatal(n, err)
	}
	if list, err := fsys.ReadDir(testDir); err != nil || len(list) != 2 {
		t.Fatalf("%v, %v: an attempt was not cleaned up", list, err)
	}
	fsys.SetCapacity(6000)
	written = append(written, mustAppend(t, l, frameOf(1000, 300))...) // in a third file
	mustClose(t, l)

	fsys.SetCapacity(1500*3 + 400) // no room for a whole file, but for the frames of the last
	l = mustOpen(t, config)
	if n, err := checkHolds(l, written, l.End()); err != nil || n != len(written) {
		t.Fatal(n, err)
	}
	fsys.SetCapacity(1500*2 + 400)
	if err := l.Append([]Frame{frameOf(1001, 100)}, at); !errors.Is(err, disk.ErrNoSpace) {
		t.Fatal(err)
	}
	if err := l.Trim(l.End()); err != nil { // what was flushed makes room
		t.Fatal(err)
	}
	written = append(written, mustAppend(t, l, frameOf(1002, 100))...)
	mustClose(t, l)

	fsys.SetCapacity(1) // not even for those
	before, err := fsys.ReadDir(testDir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(config); !errors.Is(err, disk.ErrNoSpace) {
		t.Fatal(err)
	}
	if after, err := fsys.ReadDir(testDir); err != nil || len(after) != len(before) {
		t.Fatalf("%v, %v: before %v", after, err, before)
	}
	fsys.SetCapacity(0)
	l = mustOpen(t, config)
	if n, err := checkHolds(l, written, l.End()); err != nil || n == 0 {
		t.Fatal(n, err)
	}
	mustClose(t, l)
}

// TestShorterRetry: what a write that ran out of space left is never taken for a frame, though a shorter retry ends right before
// it; also when it cannot be erased at once.
func TestShorterRetry(t *testing.T) {
	for _, c := range []struct {
		name   string
		faults []crashdisk.Fault
	}{
		{"erased", []crashdisk.Fault{{Op: crashdisk.Write, Err: disk.ErrNoSpace, Done: true}}},
		{"carried", []crashdisk.Fault{
			{Op: crashdisk.Write, Err: disk.ErrNoSpace, Done: true}, {Op: crashdisk.Write, Err: disk.ErrNoSpace},
		}},
		{"carriedTorn", []crashdisk.Fault{
			{Op: crashdisk.Write, Err: disk.ErrNoSpace, Torn: true}, {Op: crashdisk.Write, Err: disk.ErrNoSpace},
		}},
	} {
		for _, retry := range []int{100, 2000} { // in the same file, or in the next
			t.Run(fmt.Sprint(c.name, retry), func(t *testing.T) {
				fsys := crashdisk.New()
				config := Config{FS: fsys, Dir: testDir, FileBytes: 1500}
				l := mustOpen(t, config)
				written := mustAppend(t, l, frameOf(1, 50))
				for _, f := range c.faults {
					fsys.FailOn(f)
				}
				lost := []Frame{frameOf(2, 100), frameOf(3, 10), frameOf(4, 10), frameOf(5, 10)}
				if err := l.Append(lost, make([]LSN, 4)); !errors.Is(err, disk.ErrNoSpace) {
					t.Fatal(err)
				}
				written = append(written, mustAppend(t, l, frameOf(6, retry))...)
				mustSync(t, l)
				for _, k := range crashes {
					again := config
					again.FS = fsys.Crash(k.keep, k.seed)
					r := mustOpen(t, again)
					if n, err := checkHolds(r, written, l.End()); err != nil || n != len(written) {
						t.Fatal(n, err)
					}
					if r.Recovery().TornBytes != 0 {
						t.Fatalf("%+v", r.Recovery())
					}
					mustClose(t, r)
				}
			})
		}
	}
}

// TestRollAfterHalfAnAppend: what could not be erased at once is erased before its file is sealed, so that it does not come
// back when the next file cannot be made.
func TestRollAfterHalfAnAppend(t *testing.T) {
	fsys := crashdisk.New()
	config := Config{FS: fsys, Dir: testDir, FileBytes: 1500}
	l := mustOpen(t, config)
	written := mustAppend(t, l, frameOf(1, 50))
	fsys.FailOn(crashdisk.Fault{Op: crashdisk.Write, Err: disk.ErrNoSpace, Done: true})
	fsys.FailOn(crashdisk.Fault{Op: crashdisk.Write, Err: disk.ErrNoSpace})
	for n, size := range []int{100, 2000} {
		if n == 1 {
			fsys.FailOn(crashdisk.Fault{Op: crashdisk.Allocate, Err: disk.ErrNoSpace})
		}
		if err := l.Append([]Frame{frameOf(2, size)}, make([]LSN, 1)); !errors.Is(err, disk.ErrNoSpace) {
			t.Fatal(err)
		}
	}
	for _, k := range crashes {
		again := config
		again.FS = fsys.Crash(k.keep, k.seed)
		r := mustOpen(t, again)
		if n, err := checkHolds(r, written, l.End()); err != nil || n != 1 || r.End() != l.End() {
			t.Fatal(n, err)
		}
		mustClose(t, r)
	}
}

// TestTrimIsForGood: what was trimmed does not come back.
func TestTrimIsForGood(t *testing.T) {
	fsys := crashdisk.New()
	config := Config{FS: fsys, Dir: testDir, FileBytes: 1500}
	l := mustOpen(t, config)
	for n := range 20 {
		mustAppend(t, l, frameOf(n, 200))
	}
	if err := l.Trim(l.End()); err != nil {
		t.Fatal(err)
	}
	config.FS = fsys.Crash(crashdisk.KeepNone, 0)
	r := mustOpen(t, config)
	if r.Start() != l.Start() || r.Start() == 0 {
		t.Fatalf("starts at %d, was trimmed to %d", r.Start(), l.Start())
	}
	mustClose(t, r)
}

// TestNamingInDoubt: a next file that may or may not have its name is no mere lack of space: frames appended to the file before
// it would lie beyond its end. Nor is a sync that failed for it.
func TestNamingInDoubt(t *testing.T) {
	for _, op := range []crashdisk.Op{crashdisk.Rename, crashdisk.SyncDir, crashdisk.Sync} {
		fsys := crashdisk.New()
		config := Config{FS: fsys, Dir: testDir, FileBytes: 1500}
		l := mustOpen(t, config)
		written := mustAppend(t, l, frameOf(1, 1300))
		fsys.FailOn(crashdisk.Fault{Op: op, Err: disk.ErrNoSpace, Done: true})
		err := l.Append([]Frame{frameOf(2, 500)}, make([]LSN, 1))
		if !errors.Is(err, ErrFailed) || errors.Is(err, disk.ErrNoSpace) {
			t.Errorf("%s: %v", op, err)
		}
		if err := l.Append([]Frame{frameOf(3, 10)}, make([]LSN, 1)); !errors.Is(err, ErrFailed) || errors.Is(err, disk.ErrNoSpace) {
			t.Errorf("%s: %v", op, err)
		}
		mustClose(t, l)
		config.FS = fsys.Copy()
		l = mustOpen(t, config)
		if n, err := checkHolds(l, written, l.End()); n != 1 || err != nil {
			t.Errorf("%s: %d frames: %v", op, n, err)
		}
		mustClose(t, l)
	}
}
