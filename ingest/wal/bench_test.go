package wal

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/disk"
)

const (
	benchBatch  = 64 << 10 // one batch of 1 KiB records
	benchGroup  = 4 << 20  // the most that one append writes, as in the node
	benchFrames = benchGroup / benchBatch
)

// BenchmarkAppendSynced is the node's write path at full load: one goroutine appends groups, another syncs what is there, so
// that the next group is written while a sync runs. Beside it, for the same bytes, stands what the disk does by itself, in
// writes of 1 MiB: raw4 with an fdatasync behind each 4 MiB, as the log at full load, and raw64 with one behind each 64 MiB,
// where latency no longer counts. An iteration is one batch of 64 KiB.
func BenchmarkAppendSynced(b *testing.B) {
	fsys, dir := disk.OS(), b.TempDir()
	l, err := Open(Config{FS: fsys, Dir: dir + "/wal"})
	if err != nil {
		b.Fatal(err)
	}
	frames := make([]Frame, benchFrames)
	for n := range frames {
		frames[n] = frameOf(n, benchBatch)
	}
	at := make([]LSN, benchFrames)
	due := make(chan struct{}, 1)
	window := make(chan struct{}, 1) // groups between append and sync
	var done sync.WaitGroup
	var syncs atomic.Int64
	b.SetBytes(benchBatch)
	b.ReportAllocs()
	b.ResetTimer()
	done.Go(func() {
		for range due {
			end, err := l.Sync()
			if err != nil {
				b.Error(err)
				return
			}
			syncs.Add(1)
			if err := l.Trim(end - min(end, 256<<20)); err != nil {
				b.Error(err)
				return
			}
			<-window
		}
	})
	for left := b.N; left > 0; {
		n := min(left, benchFrames)
		if err := l.Append(frames[:n], at[:n]); err != nil {
			b.Fatal(err)
		}
		left -= n
		window <- struct{}{}
		due <- struct{}{}
	}
	close(due)
	done.Wait()
	took := b.Elapsed()
	b.StopTimer()
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	ours := float64(b.N) * benchBatch / 1e6 / took.Seconds()
	for _, raw := range []struct {
		name  string
		every int64
	}{{"raw4", benchGroup}, {"raw64", 64 << 20}} {
		rate := rawRate(b, fsys, dir+"/raw", int64(b.N)*benchBatch, raw.every)
		b.ReportMetric(rate, raw.name+"-MB/s")
		b.ReportMetric(100*ours/rate, "%of-"+raw.name)
	}
	b.ReportMetric(float64(b.N)*benchBatch/1e6/float64(max(syncs.Load(), 1)), "MB/sync")
}

// rawRate writes bytes to one growing file, and syncs it every so many.
func rawRate(b *testing.B, fsys disk.FS, name string, bytes, every int64) float64 {
	b.Helper()
	f, err := fsys.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	p := frameOf(1, 1<<20).Batch
	began := time.Now() //nolint:forbidigo // a benchmark measures real time
	for off := int64(0); off < bytes; off += int64(len(p)) {
		n := min(int64(len(p)), bytes-off)
		if _, err := f.WriteAt(p[:n], off); err != nil {
			b.Fatal(err)
		}
		if (off+n)%every == 0 || off+n == bytes {
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
		}
	}
	took := time.Since(began) //nolint:forbidigo // see above
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	if err := fsys.Remove(name); err != nil {
		b.Fatal(err)
	}
	return float64(bytes) / 1e6 / took.Seconds()
}
