package tail

import (
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/record"
)

func benchStore(b *testing.B, change func(*Config)) (*Store, *fakeLog) {
	b.Helper()
	log := newFakeLog()
	c := Config{Dir: b.TempDir(), Memory: memory.NewGoAllocator(), Log: log, Schemas: newFakeSchemas()}
	if change != nil {
		change(&c)
	}
	s, err := Open(c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s, log
}

func benchSnapshot(b *testing.B, s *Store, log *fakeLog) *Snapshot {
	b.Helper()
	snap, err := s.Snapshot(b.Context(), log.topic("orders"), log.ends("orders"), nil)
	if err != nil {
		b.Fatal(err)
	}
	return snap
}

// BenchmarkFollow reads encoded batches of 500 orders of about 200 bytes into a tail, on one core.
func BenchmarkFollow(b *testing.B) {
	for _, budget := range []struct {
		name  string
		bytes int64
	}{{"memory", 4 << 30}, {"spilling", 16 << 20}} {
		b.Run(budget.name, func(b *testing.B) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			_, template := benchStore(b, nil)
			template.create("orders", 4)
			const batches = 400
			for i := range batches {
				template.write("orders", int32(i%4), orders(i*500, 500)...)
			}
			records := 0
			for b.Loop() {
				s, _ := benchStore(b, func(c *Config) { c.Log = template; c.Budget = budget.bytes })
				snap := benchSnapshot(b, s, template)
				records += int(snap.Rows())
				snap.Release()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkVisible is the way of one record from the log into a snapshot while a million others are there.
func BenchmarkVisible(b *testing.B) {
	s, log := benchStore(b, func(c *Config) { c.Budget = 64 << 20 })
	log.create("orders", 4)
	for i := range 400 {
		log.write("orders", int32(i%4), orders(i*500, 500)...)
	}
	benchSnapshot(b, s, log).Release()
	for b.Loop() {
		log.write("orders", 0, "1")
		benchSnapshot(b, s, log).Release()
	}
}

// BenchmarkScan reads one column of integers.
func BenchmarkScan(b *testing.B) {
	for _, budget := range []struct {
		name  string
		bytes int64
	}{{"memory", 4 << 30}, {"spilled", 1 << 20}} {
		b.Run(budget.name, func(b *testing.B) {
			s, log := benchStore(b, func(c *Config) { c.Budget = budget.bytes; c.runBytes = defaultRunBytes })
			log.create("orders", 1)
			for i := range 400 {
				log.write("orders", 0, orders(i*500, 500)...)
			}
			snap := benchSnapshot(b, s, log)
			defer snap.Release()
			amount := snap.Schema().Arrow().FieldIndices("items")
			rows := int64(0)
			for b.Loop() {
				scan, err := snap.Scan(amount)
				if err != nil {
					b.Fatal(err)
				}
				for {
					rec, err := scan.Next(b.Context())
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						b.Fatal(err)
					}
					rows += rec.NumRows()
					rec.Release()
				}
				scan.Close()
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// greatLog is one partition of the same batch again and again.
type greatLog struct {
	batch record.Batch
	end   int64
}

func (l greatLog) Open(Topic, map[int32]int64) (Reader, error) { return &greatReader{greatLog: l}, nil }

type greatReader struct {
	greatLog

	at int64
}

func (r *greatReader) Poll(ctx context.Context) (Piece, error) {
	if r.at >= r.end {
		<-ctx.Done()
		return Piece{}, context.Cause(ctx)
	}
	batch := slices.Clone(r.batch)
	batch.Stamp(r.at, 0)
	r.at = batch.NextOffset()
	return Piece{Next: r.at, Records: batch.Records(record.Limits{})}, nil
}

func (r *greatReader) Close() {}

// BenchmarkGreatLog reads 5 million orders under a budget of 64 MiB and scans two columns of them, once from the log and once more.
func BenchmarkGreatLog(b *testing.B) {
	const records = 5_000_000
	build := record.NewBuilder(record.None)
	for i := range 1000 {
		if err := build.Append(record.Record{Timestamp: int64(i), Value: []byte(order(i))}); err != nil {
			b.Fatal(err)
		}
	}
	batch, err := build.Build(-1, -1, -1)
	if err != nil {
		b.Fatal(err)
	}
	most := &peak{Allocator: memory.NewGoAllocator()}
	for b.Loop() {
		s, _ := benchStore(b, func(c *Config) {
			c.Log, c.Memory, c.Budget = greatLog{batch, records}, most, 64<<20
		})
		began := clock.System().Now()
		snap, err := s.Snapshot(b.Context(), Topic{ID: "great", Name: "great", Partitions: 1}, map[int32]int64{0: records}, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(clock.System().Now().Sub(began).Seconds(), "s/catch-up")
		for range 2 {
			began = clock.System().Now()
			schema := snap.Schema().Arrow()
			scan, err := snap.Scan([]int{schema.FieldIndices("country")[0], schema.FieldIndices("amount")[0]})
			if err != nil {
				b.Fatal(err)
			}
			rows := int64(0)
			for rows < records {
				rec, err := scan.Next(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				rows += rec.NumRows()
				rec.Release()
			}
			scan.Close()
			b.ReportMetric(clock.System().Now().Sub(began).Seconds(), "s/scan")
		}
		b.ReportMetric(float64(s.Stats()[0].Disk)/(1<<20), "MiB-on-disk")
		snap.Release()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(most.most.Load())/(1<<20), "MiB-peak")
}
