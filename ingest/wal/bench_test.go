package wal

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/disk"
)

const benchBatch = 64 << 10 // one batch of 1 KiB records

// BenchmarkAppendSynced is the node's write path: one goroutine appends groups of so many bytes, another syncs what is there, so
// that the next group is written while a sync runs. 4 MiB are the most that the node writes at once, at full load.
//
// Beside it, for the same bytes, stands what the disk does by itself with a file that grows, in writes of 1 MiB at most: raw with an
// fdatasync behind each so many bytes too, and best with one behind each 64 MiB, where latency does not count. An iteration is
// one batch of 64 KiB.
func BenchmarkAppendSynced(b *testing.B) {
	for _, group := range []int{64 << 10, 512 << 10, 4 << 20} {
		b.Run(fmt.Sprintf("group=%dKiB", group>>10), func(b *testing.B) { benchmarkAppendSynced(b, group) })
	}
}

func benchmarkAppendSynced(b *testing.B, group int) {
	b.Helper()
	fsys, dir := disk.OS(), b.TempDir()
	l, err := Open(Config{FS: fsys, Dir: dir + "/wal"})
	if err != nil {
		b.Fatal(err)
	}
	frames := make([]Frame, group/benchBatch)
	for n := range frames {
		frames[n] = frameOf(n, benchBatch)
	}
	at := make([]LSN, len(frames))
	due := make(chan struct{}, 1)
	window := make(chan struct{}, 1) // groups between append and sync
	var done sync.WaitGroup
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
			if err := l.Trim(end - min(end, 256<<20)); err != nil {
				b.Error(err)
				return
			}
			<-window
		}
	})
	for left := b.N; left > 0; {
		n := min(left, len(frames))
		if err := l.Append(frames[:n], at[:n]); err != nil {
			b.Fatal(err)
		}
		left -= n
		window <- struct{}{}
		due <- struct{}{}
	}
	close(due)
	done.Wait()
	b.StopTimer()
	ours := float64(b.N) * benchBatch / 1e6 / b.Elapsed().Seconds()
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	raw := rawRate(b, fsys, dir+"/raw", int64(b.N)*benchBatch, int64(group))
	best := rawRate(b, fsys, dir+"/raw", int64(b.N)*benchBatch, 64<<20)
	b.ReportMetric(raw, "raw-MB/s")
	b.ReportMetric(100*ours/raw, "%of-raw")
	b.ReportMetric(best, "best-MB/s")
	b.ReportMetric(100*ours/best, "%of-best")
}

// rawRate writes bytes to one growing file, and syncs it every so many.
func rawRate(b *testing.B, fsys disk.FS, name string, bytes, every int64) float64 {
	b.Helper()
	f, err := fsys.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	p := frameOf(1, int(min(1<<20, every))).Batch
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
