package clusterbench

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/ingest"
	"github.com/tidemark-io/tidemark/meta"
)

// BenchmarkTakeover kills one of three nodes that lead 1,000 partitions each, the one that gives out partitions, and measures how long it
// takes until each of its partitions has acknowledged a batch at another node: from the moment when etcd has noticed, and from the kill.
// Clients look up who leads and send again when they are refused, as those of the product do.
func BenchmarkTakeover(b *testing.B) {
	const lost = 1000
	for range b.N {
		w := openWorld(b, "a", "b", "c")
		victim, via := w.nodes["a"], w.nodes["b"]
		topic := w.create(via, "t", 3*lost)
		partitions := w.led(topic, victim.id)
		producers := make([]*producer, topic.Partitions)
		var first sync.WaitGroup
		for n := range producers {
			producers[n] = newProducer(b, via)
			first.Go(func() {
				if err := w.produce(b.Context(), via, topic, int32(n), producers[n]); err != nil {
					b.Error(err)
				}
			})
		}
		first.Wait()

		killed := now()
		victim.kill()
		registered := via.client.Keys().Node(victim.id)
		for {
			kv, _, err := via.client.KV().Get(b.Context(), registered)
			if err != nil {
				b.Fatal(err)
			}
			if kv == nil {
				break
			}
			wait(2 * time.Millisecond)
		}
		gone := now()
		var each samples
		var answers sync.WaitGroup
		for _, p := range partitions {
			answers.Go(func() {
				if err := w.produce(b.Context(), via, topic, p.Partition, producers[p.Partition]); err != nil {
					b.Error(err)
				}
				each.add(now().Sub(gone))
			})
		}
		answers.Wait()
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(len(partitions)), "partitions")
		b.ReportMetric(milliseconds(each.at(0.5)), "half-ms")
		b.ReportMetric(milliseconds(each.at(1)), "all-ms")
		b.ReportMetric(milliseconds(gone.Sub(killed)+each.at(1)), "from-kill-ms")
	}
}

// BenchmarkDrain drains one of two nodes that lead 1,000 partitions each, while every partition of it takes a batch each half second, and
// measures how long the longest of them waited for its acknowledgement, sent again as often as it takes; beside it the longest before
// the drain began, and how long it took until the node led nothing.
func BenchmarkDrain(b *testing.B) {
	const moved, pace = 1000, 500 * time.Millisecond
	for range b.N {
		w := openWorld(b, "a", "b")
		from, via := w.nodes["a"], w.nodes["b"]
		topic := w.create(via, "t", 2*moved)
		partitions := w.led(topic, from.id)
		var calm, during samples
		var drain, stop = make(chan struct{}), make(chan struct{})
		var work sync.WaitGroup
		for n, p := range partitions {
			producer := newProducer(b, via)
			work.Go(func() {
				due := now().Add(pace * time.Duration(n) / moved)
				for {
					wait(due.Sub(now()))
					if err := w.produce(b.Context(), via, topic, p.Partition, producer); err != nil {
						b.Error(err)
						return
					}
					into := &calm
					select {
					case <-drain:
						into = &during
					default:
					}
					into.add(now().Sub(due))
					due = due.Add(pace)
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		wait(5 * time.Second)
		close(drain)
		began := now()
		if err := via.client.Drain(b.Context(), via.index(), from.id, false); err != nil {
			b.Fatal(err)
		}
		via.until(b, func(f *meta.Follower) bool { a, _ := f.Assignment(from.id); return len(a.Epochs) == 0 })
		took := now().Sub(began)
		wait(5 * time.Second)
		close(stop)
		work.Wait()
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(len(partitions)), "partitions")
		b.ReportMetric(milliseconds(took), "drained-ms")
		b.ReportMetric(milliseconds(during.at(1)), "stall-ms")
		b.ReportMetric(milliseconds(during.at(0.99)), "p99-ms")
		b.ReportMetric(milliseconds(calm.at(1)), "before-ms")
	}
}

// produce sends the next batch of a producer until it is acknowledged, each time to the node that via knows as the leader.
func (w *world) produce(ctx context.Context, via *node, topic meta.Topic, partition int32, p *producer) error {
	batch := p.batch()
	for {
		pause := 20 * time.Millisecond
		if leader := w.leader(via, meta.Partition{Topic: topic.ID, Partition: partition}); leader != nil {
			_, err := leader.Produce(ctx, ingest.ProduceRequest{Topic: topic.Name, Partition: partition, Batch: batch, Acks: ingest.AcksAll})
			if err == nil {
				return nil
			}
			if !ingest.ReasonOf(err).Retryable() {
				return err
			}
			batch, pause = p.again(), max(ingest.AsError(err).RetryAfter, pause)
		}
		wait(pause)
	}
}
