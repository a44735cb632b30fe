package ingest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk/crashdisk"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier/tierfake"
)

// join opens another node of the same cluster, with a disk of its own.
func (w *nodeWorld) join(name string) *Node {
	w.t.Helper()
	client, err := meta.New(meta.Config{KV: w.kv, Cluster: "test", Clock: clock.System(), Random: rand.Reader})
	if err != nil {
		w.t.Fatal(err)
	}
	config := Config{Node: meta.NodeID(name), Disk: "disk-of-" + name, LogDir: "wal", FlushInterval: 10 * time.Millisecond, LogFileBytes: 1 << 20}
	if w.setup != nil {
		w.setup(&config)
	}
	node, err := Open(config, Dependencies{FS: crashdisk.New(), Clock: clock.System(), Store: w.store, Meta: client, Random: rand.Reader})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	if err := node.WaitReady(ctx); err != nil {
		w.t.Fatal(err)
	}
	return node
}

// led counts the partitions that a node leads.
func led(n *Node) int64 { return n.levels().Partitions }

// writer produces to one partition until it is told to stop, at whichever node takes it, and keeps what was acknowledged in order. Its
// records have no producer id: what it sends again must have been refused, or it would be there twice.
type writer struct {
	topic     string
	partition int32
	nodes     []*Node
	acked     []string
	moved     int           // answers NOT_LEADER
	longest   time.Duration // between two acknowledgements
}

func (p *writer) run(ctx context.Context, t *testing.T, stop <-chan struct{}) {
	clk := clock.System()
	last := clk.Now()
	at := 0
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		value := fmt.Sprintf("%s-%d-%d", p.topic, p.partition, n)
		for {
			_, err := p.nodes[at].Produce(ctx, ProduceRequest{Topic: p.topic, Partition: p.partition, Batch: oneBatch(value)})
			if err == nil {
				break
			}
			switch ReasonOf(err) {
			case ReasonNotLeader, ReasonShuttingDown:
				p.moved++
				at = (at + 1) % len(p.nodes)
			default:
				t.Errorf("%s: %v", value, err)
				return
			}
			pause(ctx, clk, max(AsError(err).RetryAfter, 10*time.Millisecond))
		}
		p.acked = append(p.acked, value)
		now := clk.Now()
		p.longest, last = max(p.longest, now.Sub(last)), now
		pause(ctx, clk, 10*time.Millisecond)
	}
}

// readPartition reads a partition to its high watermark, and what it was told of lost ranges on the way.
func readPartition(ctx context.Context, n *Node, topic string, partition int32, from int64) (values []string, lost []meta.OffsetRange, err error) {
	for {
		got, err := n.Fetch(ctx, FetchRequest{Topic: topic, Partitions: []FetchPartition{{Partition: partition, Offset: from}}})
		if err != nil {
			return nil, nil, err
		}
		lost = append(lost, got[0].Lost...)
		for _, piece := range got[0].Batches {
			for rest := piece; len(rest) > 0; {
				b, after, err := record.Next(rest)
				if err != nil {
					return nil, nil, err
				}
				rest = after
				for r, err := range b.Records(record.DefaultLimits()) {
					if err != nil {
						return nil, nil, err
					}
					if r.Offset >= from {
						values = append(values, string(r.Value))
					}
				}
			}
		}
		from = got[0].NextOffset
		if from >= got[0].HighWatermark {
			return values, lost, nil
		}
	}
}

// Partitions move between nodes while they are written to: first to spread them, then because their node stops. Nothing that was
// acknowledged is lost, nothing that was refused is there, and nobody waits for a lease.
func TestNodesHandOver(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		t := w.t
		const partitions = 4
		for _, durability := range []string{"object", "disk"} {
			if _, _, err := w.node.CreateTopic(w.ctx, durability, partitions, map[string]string{"durability": durability}, false); err != nil {
				t.Fatal(err)
			}
		}
		second := w.join("n2")
		stop := make(chan struct{})
		done := make(chan struct{})
		var writers []*writer
		for _, topic := range []string{"object", "disk"} {
			for p := range int32(partitions) {
				writers = append(writers, &writer{topic: topic, partition: p, nodes: []*Node{w.node, second}})
			}
		}
		go func() {
			defer close(done)
			finished := make(chan struct{}, len(writers))
			for _, p := range writers {
				go func() { p.run(w.ctx, t, stop); finished <- struct{}{} }()
			}
			for range writers {
				<-finished
			}
		}()
		w.after(6 * time.Second)
		if a, b := led(w.node), led(second); a != partitions || b != partitions {
			t.Fatalf("the two lead %d and %d partitions", a, b)
		}
		began := clock.System().Now()
		w.close()
		took := clock.System().Now().Sub(began)
		w.after(time.Second)
		if n := led(second); n != 2*partitions {
			t.Fatalf("%d partitions are led", n)
		}
		w.after(time.Second)
		close(stop)
		<-done
		for _, p := range writers {
			got, lost, err := readPartition(w.ctx, second, p.topic, p.partition, 0)
			if err != nil || len(lost) != 0 {
				t.Fatalf("read %s %d: %v, lost %v", p.topic, p.partition, err, lost)
			}
			if !slices.Equal(got, p.acked) {
				t.Fatalf("%s %d has %d records, %d were acknowledged", p.topic, p.partition, len(got), len(p.acked))
			}
			if p.longest > 500*time.Millisecond {
				t.Errorf("%s %d: %v between two acknowledgements", p.topic, p.partition, p.longest)
			}
		}
		if took > time.Second {
			t.Errorf("the stop took %v", took)
		}
		if err := second.Close(w.ctx); err != nil {
			t.Fatal(err)
		}
		w.open() // the first comes back, and the story's end closes it
	})
}

// A node with a thousand partitions, half of them with records that wait, hands over with one object and two commits.
func TestNodeHandsOverAtOnce(t *testing.T) {
	setup := func(c *Config) { c.FlushInterval = time.Hour }
	inNodeWorld(t, setup, func(w *nodeWorld) {
		t := w.t
		const partitions = 1000
		if _, _, err := w.node.CreateTopic(w.ctx, "t", partitions, nil, false); err != nil {
			t.Fatal(err)
		}
		var waiting []<-chan outcome
		for p := range int32(partitions / 2) {
			out := make(chan outcome, 1)
			w.node.ProduceAsync(w.ctx, ProduceRequest{Topic: "t", Partition: p, Batch: oneBatch(fmt.Sprint(p))}, func(r ProduceResult, err error) { out <- outcome{r, err} })
			waiting = append(waiting, out)
		}
		synctest.Wait()
		second := w.join("n2")
		first := w.node.current.Load()
		before := first.core.commit.seq
		began := clock.System().Now()
		w.close()
		took := clock.System().Now().Sub(began)
		for _, out := range waiting {
			if o := <-out; o.err != nil || o.result.Reached != ReachedObject {
				t.Fatalf("%+v, %v", o.result, o.err)
			}
		}
		if commits := first.core.commit.seq - before; commits > 2 || len(w.store.Names()) != 1 {
			t.Fatalf("%d commits, %d objects", commits, len(w.store.Names()))
		}
		w.after(time.Second)
		if n := led(second); n != partitions {
			t.Fatalf("%d partitions are led; the stop took %v", n, took)
		}
		if err := second.Close(w.ctx); err != nil {
			t.Fatal(err)
		}
		w.open()
	})
}

// A node and its disk are given up. Readers of the next leader are sent behind what is lost, and told.
func TestNodeSkipsWhatIsLost(t *testing.T) {
	setup := func(c *Config) { c.IdleFlushInterval = time.Hour }
	inNodeWorld(t, setup, func(w *nodeWorld) {
		t := w.t
		w.create("t", map[string]string{"durability": "disk"})
		w.mustProduce("t", "a", "b")
		topic, _, err := w.node.Topic(w.ctx, "t")
		if err != nil {
			t.Fatal(err)
		}
		if err := w.node.current.Load().flush(w.ctx, topic); err != nil {
			t.Fatal(err)
		}
		w.mustProduce("t", "lost") // on the disk of n1 alone
		release := w.store.Hang(tierfake.Put)
		ctx, cancel := context.WithCancel(w.ctx)
		cancel()
		if err := w.node.Close(ctx); err != nil {
			t.Fatal(err)
		}
		release()
		second := w.join("n2")
		w.after(time.Second)
		if n := led(second); n != 0 {
			t.Fatal("a disk partition has moved without its disk")
		}
		i := second.current.Load()
		result, err := second.deps.Meta.Forget(w.ctx, i.follower, "n1", false)
		if err != nil || len(result.Lost) != 1 {
			t.Fatalf("%+v, %v", result, err)
		}
		w.after(time.Second)
		if _, err := second.Produce(w.ctx, ProduceRequest{Topic: "t", Batch: oneBatch("behind")}); err != nil {
			t.Fatal(err)
		}
		want := meta.OffsetRange{From: 2, To: 2 + meta.LostGap}
		values, lost, err := readPartition(w.ctx, second, "t", 0, 0)
		if err != nil || fmt.Sprint(values) != "[a b behind]" || len(lost) != 1 || lost[0] != want {
			t.Fatalf("%v, lost %v: %v", values, lost, err)
		}
		for _, offset := range []int64{2, 3, want.To - 1} {
			got, err := second.Fetch(w.ctx, FetchRequest{Topic: "t", Partitions: []FetchPartition{{Offset: offset}}, MaxWait: time.Hour})
			if err != nil || len(got[0].Batches) != 0 || got[0].NextOffset != want.To || len(got[0].Lost) != 1 || got[0].HighWatermark != want.To+1 {
				t.Fatalf("from %d: %+v, %v", offset, got, err)
			}
		}
		for at, offset := range map[int64]int64{0: 0, 1001: 1, 1002: want.To + 1} {
			if got, err := second.OffsetForTime(w.ctx, "t", 0, at); err != nil || got != offset {
				t.Errorf("since %d: %d, %v; want %d", at, got, err, offset)
			}
		}
		_, err = second.Fetch(w.ctx, FetchRequest{Topic: "t", Partitions: []FetchPartition{{Offset: want.To + 2}}})
		reasonIs(t, err, ReasonOffsetOutOfRange)
		if err := second.Close(w.ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		w.open()
	})
}
