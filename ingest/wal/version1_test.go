package wal

import (
	"testing"

	"github.com/tidemark-io/tidemark/disk/crashdisk"
)

// version1 writes a log of the first version, with one frame.
func version1(t *testing.T, fsys *crashdisk.FS) entry {
	t.Helper()
	if err := fsys.MkdirAll(testDir); err != nil {
		t.Fatal(err)
	}
	p := fileHeader{}.encode()
	p[5] = 1
	putHeaderCRC(p)
	first := frameOf(1, 100)
	p = appendFrame(p, 0, 0, 0, first)
	if err := fsys.WriteFile(testDir+"/"+fileName(0), append(p, make([]byte, 4000-len(p))...)); err != nil {
		t.Fatal(err)
	}
	return entry{0, first}
}

// TestVersion1GoesOn: a log of version 1 is recovered, appended to, read, and recovered again and again.
func TestVersion1GoesOn(t *testing.T) {
	fsys := crashdisk.New()
	written := []entry{version1(t, fsys)}
	for life := range 3 {
		l := mustOpen(t, Config{FS: fsys, Dir: testDir, FileBytes: 4000, Salt: uint32(7 + life)})
		if n, err := checkHolds(l, written, l.End()); err != nil || n != len(written) {
			t.Fatal(life, n, err)
		}
		for n := range 7 {
			written = append(written, mustAppend(t, l, frameOf(100*life+n, 500))...)
		}
		mustClose(t, l)
	}
}

// TestVersion1GetsASalt: recovery writes the last file with the salt of its Open, so that nothing that a producer forges passes for a frame from then on.
func TestVersion1GetsASalt(t *testing.T) {
	fsys := crashdisk.New()
	version1(t, fsys)
	config := Config{FS: fsys, Dir: testDir, FileBytes: 4000, Salt: 7}
	l := mustOpen(t, config)
	inside := l.End() + frameHeaderSize
	e := mustAppend(t, l, Frame{Batch: appendFrame(nil, 0, inside, inside, frameOf(2, 10))})
	f := l.files[0]
	mustClose(t, l)
	// The power went before the frame's header was written, and after its batch was.
	p, err := fsys.ReadFile(f.name)
	if err != nil {
		t.Fatal(err)
	}
	clear(p[f.offset(e[0].at):][:frameHeaderSize])
	if err := fsys.WriteFile(f.name, p); err != nil {
		t.Fatal(err)
	}
	config.Salt = 8
	mustClose(t, mustOpen(t, config))
}
