package kafka

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk"
	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier"
)

// discard is a log that looks at every batch as a node does, and forgets it.
type discard struct{ Log }

func (discard) ProduceAsync(_ context.Context, r ingest.ProduceRequest, done func(ingest.ProduceResult, error)) {
	b, err := record.Validate(r.Batch, record.DefaultLimits())
	if err != nil {
		done(ingest.ProduceResult{}, ingest.Errorf(ingest.ReasonCorruptBatch, "%w", err))
		return
	}
	done(ingest.ProduceResult{BaseOffset: 0, Records: b.Count()}, nil)
}

// BenchmarkProduce sends requests that are encoded beforehand over several connections with five under way on each, as clients do. An operation is one
// request. log=discard measures the listener and the check of the batches alone; log=disk and log=object a whole node, with its log and its objects
// in files here. The client is part of it.
func BenchmarkProduce(b *testing.B) {
	for _, log := range []string{"discard", "disk", "object"} {
		for _, size := range []int{1024, 100} {
			for _, s := range []struct{ batch, partitions int }{{64 << 10, 1}, {1 << 20, 1}, {16 << 10, 16}} {
				b.Run(fmt.Sprintf("log=%s/record=%d/batch=%dKiB/partitions=%d", log, size, s.batch>>10, s.partitions), func(b *testing.B) {
					benchmarkProduce(b, log, size, s.batch, s.partitions)
				})
			}
		}
	}
}

func benchmarkProduce(b *testing.B, log string, size, batch, partitions int) {
	const connections, underWay = 4, 5
	dir := b.TempDir()
	w := newWorld(b, 0)
	store, err := tier.OpenLocal(disk.OS(), dir+"/objects")
	w.must(err)
	b.Cleanup(func() { _ = store.Close() })
	n := w.open("n1", disk.OS(), store, func(node *ingest.Config, served *Config) {
		*node = ingest.Config{Node: node.Node, Disk: node.Disk, Info: node.Info, LogDir: dir + "/log"}
		if log == "discard" {
			served.Log = func() (Log, error) { return discard{}, nil }
		}
	})
	durability := "object"
	if log == "disk" {
		durability = "disk"
	}
	topic := w.create("bench", int32(partitions), "durability", durability)

	frame, records := benchmarkFrame(b, topic, size, batch, partitions)
	var left atomic.Int64
	left.Store(int64(b.N))
	b.SetBytes(int64(records * size))
	b.ReportAllocs()
	b.ResetTimer()
	var work sync.WaitGroup
	for range connections {
		c, err := net.Dial("tcp", n.address)
		w.must(err)
		b.Cleanup(func() { _ = c.Close() })
		slots := make(chan struct{}, underWay)
		work.Go(func() {
			defer close(slots)
			for left.Add(-1) >= 0 {
				slots <- struct{}{}
				if _, err := c.Write(frame); err != nil {
					b.Error(err)
					return
				}
			}
		})
		work.Go(func() {
			answer := make([]byte, 4096)
			for range slots {
				if err := readAnswer(c, answer, partitions); err != nil {
					b.Error(err)
					_ = c.Close()
					for range slots { // the writer must not wait
						continue
					}
					return
				}
			}
		})
	}
	work.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
}

// benchmarkFrame is a request with a batch of about so many bytes for each partition, and how many records it has.
func benchmarkFrame(b *testing.B, topic meta.Topic, size, batch, partitions int) (frame []byte, records int) {
	b.Helper()
	builder := record.NewBuilder(record.None)
	r := record.Record{Timestamp: clock.System().Now().UnixMilli(), Value: make([]byte, size)}
	for builder.SizeWith(r) <= batch {
		if err := builder.Append(r); err != nil {
			b.Fatal(err)
		}
		records++
	}
	built, err := builder.Build(-1, -1, -1)
	if err != nil {
		b.Fatal(err)
	}
	batches := make([]record.Batch, partitions)
	for n := range batches {
		batches[n] = built
	}
	q := produceOf(topic, -1, batches...)
	q.SetVersion(9)
	return frameOf(q, 1), records * partitions
}

// readAnswer reads one answer of version 9, and looks at the codes.
func readAnswer(r io.Reader, b []byte, partitions int) error {
	if _, err := io.ReadFull(r, b[:4]); err != nil {
		return err
	}
	b = b[:binary.BigEndian.Uint32(b)]
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	const before, each = 4 + 1 + 1 + 1 + len("bench") + 1, 4 + 2 + 8 + 8 + 8 + 1 + 1 + 1
	for n := range partitions {
		if code := binary.BigEndian.Uint16(b[before+n*each+4:]); code != 0 {
			return fmt.Errorf("partition %d: code %d", n, code)
		}
	}
	return nil
}
