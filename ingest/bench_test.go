package ingest

import (
	"context"
	"crypto/rand"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/metafake"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier/tierfake"
)

// BenchmarkNodeAppend appends 1 KiB records in 64 KiB batches, each batch waiting for the fsync, from four callers with four
// batches in flight each. It prints MB/s of record bytes, allocations a record, and beside them what the disk of this machine
// writes in sequence.
func BenchmarkNodeAppend(b *testing.B) {
	const appenders, inFlight, records = 4, 4, 63
	fs, dir := disk.OS(), b.TempDir()
	client, err := meta.New(meta.Config{KV: metafake.New(metafake.Config{Clock: clock.System()}), Cluster: "bench", Clock: clock.System(), Random: rand.Reader})
	if err != nil {
		b.Fatal(err)
	}
	node, err := Open(Config{
		Node: "n1", Disk: "disk-1", LogDir: dir + "/wal", IdleFlushInterval: time.Second,
	}, Dependencies{FS: fs, Clock: clock.System(), Store: forgetful{tierfake.New()}, Meta: client, Random: rand.Reader})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := node.Close(b.Context()); err != nil {
			b.Error(err)
		}
	}()
	if err := node.WaitReady(b.Context()); err != nil {
		b.Fatal(err)
	}
	if _, _, err := node.CreateTopic(b.Context(), "t", appenders, map[string]string{"durability": "disk"}, false); err != nil {
		b.Fatal(err)
	}
	builder := record.NewBuilder(record.None)
	value := make([]byte, 1024)
	for range records {
		if err := builder.Append(record.Record{Timestamp: 1, Value: value}); err != nil {
			b.Fatal(err)
		}
	}
	template, err := builder.Build(-1, -1, -1)
	if err != nil {
		b.Fatal(err)
	}

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.SetBytes(int64(len(template)))
	b.ResetTimer()
	var work sync.WaitGroup
	for a := range appenders {
		n := b.N / appenders
		if a < b.N%appenders {
			n++
		}
		work.Go(func() {
			free := make(chan struct{}, inFlight)
			var answers sync.WaitGroup
			for range n {
				free <- struct{}{}
				answers.Add(1)
				batch := append(record.Batch(nil), template...) // the node owns what it is given
				node.ProduceAsync(b.Context(), ProduceRequest{Topic: "t", Partition: int32(a), Batch: batch}, func(_ ProduceResult, err error) {
					if err != nil {
						b.Error(err)
					}
					<-free
					answers.Done()
				})
			}
			answers.Wait()
		})
	}
	work.Wait()
	b.StopTimer()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(b.N*records), "allocs/record")
	b.ReportMetric(sequentialWrite(b, fs, dir), "disk-MB/s")
}

// forgetful is a store that takes everything and keeps nothing: the benchmark is about the log.
type forgetful struct{ *tierfake.Fake }

func (forgetful) Put(context.Context, string, [][]byte) error { return nil }

// sequentialWrite is what the disk takes in writes of 4 MiB with one sync at the end, the yardstick of the benchmark.
func sequentialWrite(b *testing.B, fs disk.FS, dir string) float64 {
	b.Helper()
	const pieces, piece = 64, 4 << 20
	f, err := fs.Create(dir + "/yardstick")
	if err != nil {
		b.Fatal(err)
	}
	p := make([]byte, piece)
	for i := range p {
		p[i] = byte(i * 7)
	}
	began := clock.System().Now()
	for i := range pieces {
		if _, err := f.WriteAt(p, int64(i)*piece); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	took := clock.System().Now().Sub(began)
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return pieces * piece / 1e6 / took.Seconds()
}
