package wal

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/tidemark-io/tidemark/disk/crashdisk"
)

// FuzzRecover opens any bytes as a log file: it recovers a prefix of whole frames or reports damage, takes memory in proportion
// to the file and not to what the file claims, and what it recovered it recovers again.
func FuzzRecover(f *testing.F) {
	seed := fileHeader{}.encode()
	f.Add(seed)
	seed = appendFrame(seed, 0, 0, 0, frameOf(1, 10))
	f.Add(seed)
	seed = appendFrame(seed, 0, 74, 74, frameOf(2, 0))
	f.Add(append(seed, make([]byte, 100)...))
	long := appendFrame(bytes.Clone(seed), 0, 138, 0, frameOf(3, 5))
	f.Add(long[:len(long)-1])
	f.Add([]byte("TMWL"))
	f.Fuzz(func(t *testing.T, p []byte) {
		fsys := crashdisk.New()
		if err := fsys.MkdirAll(testDir); err != nil {
			t.Fatal(err)
		}
		if len(p) >= fileHeaderSize { // let the fuzzer get past the header
			putHeaderCRC(p)
		}
		if err := fsys.WriteFile(testDir+"/"+fileName(0), p); err != nil {
			t.Fatal(err)
		}
		config := Config{FS: fsys, Dir: testDir, FileBytes: 1}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		l, err := Open(config)
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > uint64(20*len(p)+1<<20) {
			t.Fatalf("took %d bytes for a file of %d", took, len(p))
		}
		if err != nil {
			if !isCorruption(err) && !errors.Is(err, ErrVersion) {
				t.Fatal(err)
			}
			return
		}
		first, err := replayed(l)
		if err != nil {
			t.Fatal(err)
		}
		if r := l.Recovery(); len(first) != r.Frames || fileHeaderSize+int(r.End)+int(r.TornBytes) > len(p) {
			t.Fatalf("%+v of %d bytes", r, len(p))
		}
		end := l.End()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l, err = Open(config)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := checkHolds(l, first, end); err != nil || n != len(first) || l.Recovery().TornBytes != 0 {
			t.Fatal(n, err, l.Recovery())
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
