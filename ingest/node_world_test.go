package ingest

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk/crashdisk"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/metafake"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier/tierfake"
)

// nodeWorld is a real node on fakes of the four outside things. It lives in a synctest bubble, so that minutes of waiting
// take no time, and nothing depends on how fast the machine is.
type nodeWorld struct {
	t     *testing.T
	ctx   context.Context //nolint:containedctx // the test's
	fs    *crashdisk.FS
	store *tierfake.Fake
	kv    *metafake.Store
	node  *Node
	setup func(*Config)
}

// inNodeWorld runs a story with a node that is ready, and closes the node behind it.
func inNodeWorld(t *testing.T, setup func(*Config), story func(w *nodeWorld)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &nodeWorld{t: t, ctx: t.Context(), fs: crashdisk.New(), store: tierfake.New(), kv: metafake.New(metafake.Config{Clock: clock.System()}), setup: setup}
		w.open()
		defer w.close()
		story(w)
	})
}

func (w *nodeWorld) open() {
	w.t.Helper()
	client, err := meta.New(meta.Config{KV: w.kv, Cluster: "test", Clock: clock.System(), Random: rand.Reader})
	if err != nil {
		w.t.Fatal(err)
	}
	config := Config{Node: "n1", Disk: "disk-1", LogDir: "wal", FlushInterval: 10 * time.Millisecond, LogFileBytes: 1 << 20}
	if w.setup != nil {
		w.setup(&config)
	}
	w.node, err = Open(config, Dependencies{FS: w.fs, Clock: clock.System(), Store: w.store, Meta: client, Random: rand.Reader})
	if err != nil {
		w.t.Fatal(err)
	}
	w.ready()
}

func (w *nodeWorld) ready() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 2*time.Minute)
	defer cancel()
	if err := w.node.WaitReady(ctx); err != nil {
		w.t.Fatal(err)
	}
}

func (w *nodeWorld) close() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.node.Close(ctx); err != nil {
		w.t.Errorf("close: %v", err)
	}
}

func (w *nodeWorld) create(topic string, settings map[string]string) {
	w.t.Helper()
	if _, _, err := w.node.CreateTopic(w.ctx, topic, 1, settings, false); err != nil {
		w.t.Fatal(err)
	}
}

// after lets time pass.
func (w *nodeWorld) after(d time.Duration) { <-clock.System().NewTimer(d).C() }

func (w *nodeWorld) produce(topic string, values ...string) (ProduceResult, error) {
	return w.node.Produce(w.ctx, ProduceRequest{Topic: topic, Batch: oneBatch(values...)})
}

func (w *nodeWorld) mustProduce(topic string, values ...string) ProduceResult {
	w.t.Helper()
	r, err := w.produce(topic, values...)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// outcome is how one produce ended.
type outcome struct {
	result ProduceResult
	err    error
}

// send begins a produce and gives its outcome later.
func (w *nodeWorld) send(topic string, batch record.Batch) <-chan outcome {
	out := make(chan outcome, 1)
	w.node.ProduceAsync(w.ctx, ProduceRequest{Topic: topic, Batch: batch}, func(r ProduceResult, err error) { out <- outcome{r, err} })
	return out
}

// pending says that a produce is not answered once everything in the bubble has come to rest.
func (w *nodeWorld) pending(out <-chan outcome) {
	w.t.Helper()
	synctest.Wait()
	select {
	case o := <-out:
		w.t.Fatalf("answered already: %+v, %v", o.result, o.err)
	default:
	}
}

func oneBatch(values ...string) record.Batch { return testBatch(-1, -1, values...) }

func testBatch(producer int64, sequence int32, values ...string) record.Batch {
	b := record.NewBuilder(record.None)
	for i, v := range values {
		if err := b.Append(record.Record{Timestamp: int64(1000 + i), Value: []byte(v)}); err != nil {
			panic(err)
		}
	}
	epoch := int16(0)
	if producer < 0 {
		epoch = -1
	}
	out, err := b.Build(producer, epoch, sequence)
	if err != nil {
		panic(err)
	}
	return out
}

// readAll reads a partition from an offset to its high watermark and checks that offsets join.
func (w *nodeWorld) readAll(topic string, from int64) []string {
	w.t.Helper()
	var out []string
	for {
		got, err := w.node.Fetch(w.ctx, FetchRequest{Topic: topic, Partitions: []FetchPartition{{Offset: from}}})
		if err != nil {
			w.t.Fatalf("fetch from %d: %v", from, err)
		}
		for _, piece := range got[0].Batches {
			for rest := piece; len(rest) > 0; {
				b, after, err := record.Next(rest)
				if err != nil {
					w.t.Fatal(err)
				}
				rest = after
				for r, err := range b.Records(record.DefaultLimits()) {
					if err != nil {
						w.t.Fatal(err)
					}
					if r.Offset < from {
						continue
					}
					if r.Offset != from {
						w.t.Fatalf("offset %d where %d comes next", r.Offset, from)
					}
					out = append(out, string(r.Value))
					from++
				}
			}
		}
		if from >= got[0].HighWatermark {
			return out
		}
	}
}

func reasonIs(t *testing.T, err error, want Reason, words ...string) {
	t.Helper()
	if ReasonOf(err) != want {
		t.Fatalf("got %s (%v), want %s", ReasonOf(err), err, want)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Fatalf("%q does not name %q", err, word)
		}
	}
}
