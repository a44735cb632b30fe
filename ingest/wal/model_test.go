package wal

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/disk/crashdisk"
)

// machine drives a log and its dumb twin, a history, through any sequence of calls, full disks, restarts and crashes.
type machine struct {
	fsys   *crashdisk.FS
	config Config
	log    *Log
	twin   history
	number int
}

func (m *machine) open(t *rapid.T) {
	m.config.FS = m.fsys
	l, err := Open(m.config)
	if err != nil {
		t.Fatal(err)
	}
	m.log = l
	if err := m.twin.check(l); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) append(t *rapid.T) {
	sizes := rapid.SliceOfN(rapid.IntRange(0, 400), 0, 5).Draw(t, "sizes")
	full := rapid.IntRange(0, 5).Draw(t, "full") // 0: no room; 1: and none to erase
	torn := rapid.Bool().Draw(t, "torn")
	var frames []Frame
	for _, size := range sizes {
		m.number++
		frames = append(frames, frameOf(m.number, size))
	}
	entries := placed(m.log.End(), frames)
	m.twin.tried = append(m.twin.tried, entries...)
	if full < 2 && len(sizes) > 0 {
		for range full + 1 {
			m.fsys.FailOn(crashdisk.Fault{Op: crashdisk.Write, Err: disk.ErrNoSpace, Torn: torn, Done: !torn})
		}
	}
	at := make([]LSN, len(frames))
	err := m.log.Append(frames, at)
	m.fsys.ClearFaults()
	if full < 2 && len(sizes) > 0 {
		if !errors.Is(err, disk.ErrNoSpace) || errors.Is(err, ErrFailed) {
			t.Fatal(err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for n := range at {
		if at[n] != entries[n].at {
			t.Fatalf("frame %d at %d, want %d", n, at[n], entries[n].at)
		}
	}
	m.twin.appended = append(m.twin.appended, entries...)
}

func (m *machine) sync(t *rapid.T) {
	end, err := m.log.Sync()
	if err != nil {
		t.Fatal(err)
	}
	if end != m.log.End() {
		t.Fatalf("synced %d of %d", end, m.log.End())
	}
	m.twin.synced(end)
}

func (m *machine) trim(t *rapid.T) {
	below := LSN(rapid.Uint64Range(0, uint64(m.log.End())+10).Draw(t, "below"))
	if err := m.log.Trim(below); err != nil {
		t.Fatal(err)
	}
	m.twin.trimmed = max(m.twin.trimmed, below)
}

func (m *machine) read(t *rapid.T) {
	if len(m.twin.appended) == 0 {
		return
	}
	e := rapid.SampledFrom(m.twin.appended).Draw(t, "entry")
	f, err := m.log.Read(e.at, make([]byte, 0, 100))
	if e.at < m.log.Start() {
		if !errors.Is(err, ErrTrimmed) {
			t.Fatal(err)
		}
		return
	}
	if err != nil || !sameFrame(f, e.frame) {
		t.Fatal(fmt.Errorf("read %d: %w", e.at, err))
	}
}

func (m *machine) restart(t *rapid.T) {
	if rapid.Bool().Draw(t, "close") {
		if err := m.log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	m.twin.synced(m.log.End()) // what was appended survives a process, if not a machine
	m.fsys = m.fsys.Copy()
	m.open(t)
}

func (m *machine) crash(t *rapid.T) {
	keep := rapid.SampledFrom([]crashdisk.Keep{crashdisk.KeepNone, crashdisk.KeepHalf, crashdisk.KeepAll}).Draw(t, "keep")
	m.fsys = m.fsys.Crash(keep, rapid.Uint64().Draw(t, "seed"))
	m.open(t)
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{fsys: crashdisk.New(), config: Config{Dir: testDir, FileBytes: rapid.Int64Range(1, 5000).Draw(t, "file bytes")}}
		m.open(t)
		t.Repeat(map[string]func(*rapid.T){
			"append": m.append, "append again": m.append, "sync": m.sync, "trim": m.trim, "read": m.read, "restart": m.restart, "crash": m.crash,
			"": func(t *rapid.T) {
				if l := m.log; l.Start() > l.End() || l.Synced() > l.End() || l.Synced() < m.twin.durable {
					t.Fatalf("start %d, synced %d, end %d, durable %d", l.Start(), l.Synced(), l.End(), m.twin.durable)
				}
			},
		})
	})
}
