package clusterbench

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/ingest"
)

// BenchmarkPartitions is one node that takes 10,000 batches of one record a second, from one idempotent producer for each partition: into 1
// partition, into 10, and into 10,000. Batches are due at even distances, in turn to every partition, and each is measured from the moment
// when it is due. So what differs is the number of partitions alone, and
//
//	x-of-10           is the 99th percentile beside that of 10 partitions in the same run
//	puts/s, txns/s    should not differ
//	etcd-B/s          keys and values put into etcd
//	heap-B/partition  what the heap of this process has grown by since before the topic was made, after a collection and under load, divided
//	                  by the partitions; 64 MiB of it are the newest batches, and some are etcd's
//	more-B/partition  what it has grown by more than with 10 partitions, divided by the partitions that are more
func BenchmarkPartitions(b *testing.B) {
	const rate, warmup = 10_000, 2 * time.Second
	var yardstick time.Duration // p99 with 10 partitions
	var least int64             // heap with 10 partitions
	for _, partitions := range []int32{1, 10, 10_000} {
		measured := 20 * time.Second // long enough for objects to be merged
		if partitions == 1 {
			measured = 4 * time.Second
		}
		b.Run(fmt.Sprintf("partitions=%d", partitions), func(b *testing.B) {
			for range b.N {
				w := openWorld(b, "a")
				a := w.nodes["a"]
				before := heap()
				w.create(a, "t", partitions)
				producers := make([]*producer, partitions)
				for n := range producers {
					producers[n] = newProducer(b, a)
				}
				l := &load{node: a, producers: producers}
				l.send(b, rate, warmup)
				puts, txns, bytes := w.store.puts.Load(), a.kv.txns.Load(), a.kv.bytes.Load()
				began := now()
				l.latency = &samples{}
				l.send(b, rate, measured)
				seconds := now().Sub(began).Seconds()
				grown := heap() - before
				puts, txns, bytes = w.store.puts.Load()-puts, a.kv.txns.Load()-txns, a.kv.bytes.Load()-bytes
				l.settle()
				if n := l.failed.Load(); n > 0 {
					b.Fatalf("%d produces failed: %v", n, l.cause.Load())
				}
				p99 := l.latency.at(0.99)
				if partitions == 10 {
					yardstick, least = p99, grown
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(l.latency.count())/seconds, "batches/s")
				b.ReportMetric(milliseconds(l.latency.at(0.5)), "p50-ms")
				b.ReportMetric(milliseconds(p99), "p99-ms")
				if partitions > 10 && yardstick > 0 {
					b.ReportMetric(float64(p99)/float64(yardstick), "x-of-10")
					b.ReportMetric(float64(grown-least)/float64(partitions-10), "more-B/partition")
				}
				b.ReportMetric(float64(puts)/seconds, "puts/s")
				b.ReportMetric(float64(txns)/seconds, "txns/s")
				b.ReportMetric(float64(bytes)/seconds, "etcd-B/s")
				b.ReportMetric(float64(grown)/float64(partitions), "heap-B/partition")
				runtime.KeepAlive(producers)
			}
		})
	}
}

// heap is the heap in use after a collection.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what had a finalizer
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// load sends batches in turn from every producer to the partition with its number.
type load struct {
	node      *node
	producers []*producer
	next      int
	latency   *samples // nil while nothing is measured

	underway, failed atomic.Int64
	cause            atomic.Value
}

// send sends for some time, without waiting for answers.
func (l *load) send(b *testing.B, rate int, d time.Duration) {
	b.Helper()
	latency := l.latency
	begin, total := now(), int(float64(rate)*d.Seconds())
	for n := range total {
		due := begin.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
		if early := due.Sub(now()); early > time.Millisecond {
			wait(early)
		}
		p := l.next % len(l.producers)
		l.next++
		l.underway.Add(1)
		request := ingest.ProduceRequest{Topic: "t", Partition: int32(p), Batch: l.producers[p].batch(), Acks: ingest.AcksAll}
		l.node.ProduceAsync(b.Context(), request, func(_ ingest.ProduceResult, err error) {
			if err != nil {
				l.cause.Store(err.Error())
				l.failed.Add(1)
			} else if latency != nil {
				latency.add(now().Sub(due))
			}
			l.underway.Add(-1)
		})
	}
}

// settle waits until everything is answered.
func (l *load) settle() {
	for l.underway.Load() > 0 {
		wait(5 * time.Millisecond)
	}
}
