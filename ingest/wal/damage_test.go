package wal

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tidemark-io/tidemark/disk/crashdisk"
)

// damaged is a log of three files to be damaged: two sealed, and a last one in which a part was synced in the life before, a
// part in this one, and a part not at all.
type damaged struct {
	fsys    *crashdisk.FS
	config  Config
	written []entry
	rewrote LSN // durable when the last file was written anew: its header says so
	durable LSN
	files   []string
}

// damagedLogs are logs to be damaged: one whose last file is new, and one whose last file is recycled, with frames of an earlier life behind its own.
func damagedLogs(t *testing.T, judge func(*testing.T, *damaged)) {
	t.Helper()
	t.Run("new", func(t *testing.T) { judge(t, newDamaged(t)) })
	t.Run("recycled", func(t *testing.T) { judge(t, newDamagedRecycled(t)) })
}

func newDamagedRecycled(t *testing.T) *damaged {
	t.Helper()
	d := &damaged{fsys: crashdisk.New()}
	d.config = Config{FS: d.fsys, Dir: testDir, FileBytes: 2000, Salt: 77}
	l := mustOpen(t, d.config)
	last := l.files[0]
	for n := 0; len(l.files) != 3 || !last.recycled; n++ {
		d.written = append(d.written, mustAppend(t, l, frameOf(n, 150))...)
		if len(l.files) > 3 {
			if err := l.Trim(l.files[0].end); err != nil {
				t.Fatal(err)
			}
		}
		last = l.files[len(l.files)-1]
	}
	d.rewrote = last.first
	d.written = append(d.written, mustAppend(t, l, frameOf(100, 70), frameOf(101, 0))...)
	mustSync(t, l)
	d.written = append(d.written, mustAppend(t, l, frameOf(102, 70))...)
	d.durable = mustSync(t, l)
	d.written = append(d.written, mustAppend(t, l, frameOf(103, 70), frameOf(104, 30))...)
	for _, f := range l.files {
		d.files = append(d.files, f.name)
	}
	d.written = slices.DeleteFunc(d.written, func(e entry) bool { return e.at < l.Start() })
	return d
}

func newDamaged(t *testing.T) *damaged {
	t.Helper()
	d := &damaged{fsys: crashdisk.New()}
	d.config = Config{FS: d.fsys, Dir: testDir, FileBytes: 2000}
	l := mustOpen(t, d.config)
	for n := range 20 {
		d.written = append(d.written, mustAppend(t, l, frameOf(n, 150))...)
	}
	mustClose(t, l)
	l = mustOpen(t, d.config)
	d.rewrote = l.End()
	d.written = append(d.written, mustAppend(t, l, frameOf(100, 70), frameOf(101, 0))...)
	mustSync(t, l)
	d.written = append(d.written, mustAppend(t, l, frameOf(102, 70))...) // says that the two before it are synced
	d.durable = mustSync(t, l)
	d.written = append(d.written, mustAppend(t, l, frameOf(103, 70), frameOf(104, 30))...)
	list, err := d.fsys.ReadDir(testDir)
	if err != nil || len(list) != 3 {
		t.Fatalf("%d files, %v", len(list), err)
	}
	for _, e := range list {
		d.files = append(d.files, testDir+"/"+e.Name)
	}
	return d
}

// judge opens a damaged copy. Damage is reported, or the log ends at or above mustHave and is right up to there.
func (d *damaged) judge(file string, content []byte, mustHave LSN, known LSN) error {
	after := d.fsys.Crash(crashdisk.KeepAll, 0)
	if err := after.WriteFile(file, content); err != nil {
		return err
	}
	config := d.config
	config.FS, config.Durable = after, known
	l, err := Open(config)
	if err != nil {
		if !isCorruption(err) {
			return fmt.Errorf("neither opened nor reported as damage: %w", err)
		}
		return nil
	}
	if _, err := checkHolds(l, d.written, mustHave); err != nil {
		return err
	}
	return l.Close()
}

func (d *damaged) content(t *testing.T, file string) []byte {
	t.Helper()
	p, err := d.fsys.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// end is where the frames of a file end, as an offset.
func (d *damaged) end(n int) (first LSN, end int) {
	for _, e := range d.written {
		if first, _ = parseFileName(d.files[n][len(testDir)+1:]); e.at >= first {
			end = fileHeaderSize + int(e.at-first) + frameHeaderSize + len(e.frame.Batch)
		}
		if n+1 < len(d.files) {
			if next, _ := parseFileName(d.files[n+1][len(testDir)+1:]); e.at >= next {
				return first, fileHeaderSize + int(next-first)
			}
		}
	}
	return first, end
}

// TestEveryByte flips a bit in every byte of every file. What was synced is there, or the damage is reported: a readable frame
// behind it tells. Only what was not synced may be cut off.
func TestEveryByte(t *testing.T) { damagedLogs(t, everyByte) }

func everyByte(t *testing.T, d *damaged) {
	t.Helper()
	for n, file := range d.files {
		clean := d.content(t, file)
		_, end := d.end(n)
		for at := range end {
			if n == 0 && at > 600 && at%7 != 0 {
				continue // the middle of a sealed file is all alike
			}
			for _, known := range []LSN{0, d.durable} {
				p := append([]byte(nil), clean...)
				p[at] ^= 1 << (at % 8)
				if err := d.judge(file, p, d.durable, known); err != nil {
					t.Fatalf("%s, byte %d, durable %d: %v", file, at, known, err)
				}
			}
		}
	}
}

// TestZeroTail cuts the last file off at every byte, and fills it with zeros again or not. Below what its header says, that is
// damage; Durable says more.
func TestZeroTail(t *testing.T) { damagedLogs(t, zeroTail) }

func zeroTail(t *testing.T, d *damaged) {
	t.Helper()
	file := d.files[2]
	clean := d.content(t, file)
	first, end := d.end(2)
	for at := range end + 1 {
		for _, zeros := range []int{0, len(clean) - at, 3} {
			p := append(append([]byte(nil), clean[:at]...), make([]byte, zeros)...)
			if err := d.judge(file, p, d.rewrote, 0); err != nil {
				t.Fatalf("cut at %d, %d zeros: %v", at, zeros, err)
			}
		}
		// What was cut at or above the header's mark is a clean end, of whole frames.
		if at < fileHeaderSize || first+LSN(at-fileHeaderSize) < d.rewrote {
			continue
		}
		after := d.fsys.Crash(crashdisk.KeepAll, 0)
		if err := after.WriteFile(file, clean[:at]); err != nil {
			t.Fatal(err)
		}
		config := d.config
		config.FS = after
		l, err := Open(config)
		if err != nil {
			t.Fatalf("cut at %d: %v", at, err)
		}
		want := 0
		for _, e := range d.written {
			if int(e.at)+frameHeaderSize+len(e.frame.Batch) <= int(first)+at-fileHeaderSize {
				want++
			}
		}
		if n, err := checkHolds(l, d.written, d.rewrote); err != nil || n != want {
			t.Fatalf("cut at %d: %d frames of %d: %v", at, n, want, err)
		}
		mustClose(t, l)
		config.Durable = l.End() + 1
		config.FS = after
		if _, err := Open(config); err == nil {
			t.Fatalf("cut at %d: opened below what was durable", at)
		}
	}
}

// TestDamageBehind fills what lies behind the last frame with rubbish: a torn tail, of which nothing is taken.
func TestDamageBehind(t *testing.T) { damagedLogs(t, damageBehind) }

func damageBehind(t *testing.T, d *damaged) {
	t.Helper()
	file := d.files[2]
	clean := d.content(t, file)
	_, end := d.end(2)
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		p := append([]byte(nil), clean...)
		for at := end; at < len(p); at++ {
			p[at] = byte(random.Uint32())
		}
		switch random.IntN(3) {
		case 0: // a stale frame of the same log, elsewhere
			copy(p[end+random.IntN(len(p)-end):], clean[fileHeaderSize:])
		case 1:
			copy(p[end:], frameMagic[:])
		}
		after := d.fsys.Crash(crashdisk.KeepAll, 0)
		if err := after.WriteFile(file, p); err != nil {
			t.Fatal(err)
		}
		config := d.config
		config.FS, config.Durable = after, d.durable
		l, err := Open(config)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := checkHolds(l, d.written, d.durable); err != nil || n != len(d.written) {
			t.Fatal(n, err)
		}
		if r := l.Recovery(); r.TornBytes == 0 || r.TornBytes > int64(len(p)-end) || r.TornFile != file {
			t.Fatalf("%+v, want up to %d", r, len(p)-end)
		}
		mustClose(t, l)
	}
}

// TestLyingHeaders: headers with a right checksum that cannot be true.
func TestLyingHeaders(t *testing.T) { damagedLogs(t, lyingHeaders) }

func lyingHeaders(t *testing.T, d *damaged) {
	t.Helper()
	second, end := d.end(1)
	last, _ := d.end(2)
	for _, c := range []struct {
		file   int
		header fileHeader
	}{
		{1, fileHeader{first: second, synced: last + 1}},                          // ends below what it says was synced
		{1, fileHeader{first: second, synced: second - 1}},                        // begins behind what was synced
		{1, fileHeader{first: second + 1, synced: last}},                          // is another
		{2, fileHeader{first: last, synced: last + LSN(end) + (1 << 20)}},         // lost its end
		{2, fileHeader{first: last, synced: d.written[len(d.written)-1].at + 95}}, // lost one byte
	} {
		p := d.content(t, d.files[c.file])
		copy(p, c.header.encode())
		after := d.fsys.Crash(crashdisk.KeepAll, 0)
		if err := after.WriteFile(d.files[c.file], p); err != nil {
			t.Fatal(err)
		}
		config := d.config
		config.FS = after
		if _, err := Open(config); !isCorruption(err) {
			t.Errorf("file %d, %+v: %v", c.file, c.header, err)
		}
	}
}
