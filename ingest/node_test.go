package ingest

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/disk/crashdisk"
	"github.com/tidemark-io/tidemark/meta"
	"github.com/tidemark-io/tidemark/meta/metafake"
	"github.com/tidemark-io/tidemark/record"
	"github.com/tidemark-io/tidemark/tier"
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

func TestNodeKeepsWhatItAcknowledged(t *testing.T) {
	for _, durability := range []string{"object", "disk"} {
		t.Run(durability, func(t *testing.T) {
			inNodeWorld(t, nil, func(w *nodeWorld) {
				t := w.t
				w.create("t", map[string]string{"durability": durability})
				for n := range 5 {
					r := w.mustProduce("t", fmt.Sprintf("a%d", n), fmt.Sprintf("b%d", n))
					if r.BaseOffset != int64(2*n) || r.NextOffset != int64(2*n+2) || r.Records != 2 || r.Reached.String() != durability {
						t.Fatalf("answer %d: %+v", n, r)
					}
				}
				before := w.readAll("t", 0)
				w.close()
				w.open()
				if got := w.readAll("t", 0); fmt.Sprint(got) != fmt.Sprint(before) || len(got) != 10 {
					t.Fatalf("before the restart %v, after it %v", before, got)
				}
				if r := w.mustProduce("t", "last"); r.BaseOffset != 10 {
					t.Fatalf("the log goes on at %d", r.BaseOffset)
				}
			})
		})
	}
}

// A kill in the middle: the file system loses what was not synced, the object store nothing.
func TestNodeComesBackFromACrash(t *testing.T) {
	inNodeWorld(t, func(c *Config) { c.IdleFlushInterval = time.Hour }, func(w *nodeWorld) {
		t := w.t
		w.create("t", map[string]string{"durability": "disk"})
		for n := range 20 {
			w.mustProduce("t", fmt.Sprint(n))
		}
		synctest.Wait()
		crashed := w.fs.Crash(crashdisk.KeepNone, 1)
		w.store.Hang(tierfake.Put) // the first node can flush nothing any more
		ctx, cancel := context.WithCancel(w.ctx)
		cancel()
		if err := w.node.Close(ctx); err != nil {
			t.Fatal(err)
		}
		w.fs, w.store = crashed, tierfake.New()
		w.open()
		if got := w.readAll("t", 0); len(got) != 20 || got[19] != "19" {
			t.Fatalf("after the crash: %v", got)
		}
	})
}

func TestNodeWaitsForTheObjectStore(t *testing.T) {
	inNodeWorld(t, func(c *Config) { c.LogBytes = 64 << 10 }, func(w *nodeWorld) {
		t := w.t
		w.create("t", nil)
		for range 60 {
			w.store.FailNext(tierfake.Put, fmt.Errorf("%w: 503 slow down", tier.ErrUnavailable), tierfake.Before)
		}
		var sent []<-chan outcome
		value := strings.Repeat("x", 4000)
		for range 30 {
			sent = append(sent, w.send("t", oneBatch(value)))
		}
		w.pending(sent[0]) // taken; it waits for the store
		w.pending(sent[29])
		w.after(3 * time.Second) // delayed long enough
		refused, taken := 0, []<-chan outcome(nil)
		for _, out := range sent {
			select {
			case o := <-out:
				reasonIs(t, o.err, ReasonBackPressure, "the object store", "503")
				refused++
			default:
				taken = append(taken, out)
			}
		}
		if refused == 0 || len(taken) == 0 {
			t.Fatalf("%d refused, %d taken", refused, len(taken))
		}
		for _, out := range taken {
			if o := <-out; o.err != nil || o.result.Reached != ReachedObject {
				t.Fatalf("what was taken: %+v, %v", o.result, o.err)
			}
		}
		w.mustProduce("t", "again")
		if got := w.readAll("t", 0); len(got) != len(taken)+1 {
			t.Fatalf("%d records for %d that were taken and one more", len(got), len(taken))
		}
	})
}

func TestNodeWaitsForEtcd(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		t := w.t
		w.create("t", nil)
		w.mustProduce("t", "before")
		before := w.node.current.Load()
		w.kv.SetUnavailable(true)
		out := w.send("t", oneBatch("during"))
		w.after(3 * time.Second)
		w.pending(out)
		w.kv.SetUnavailable(false)
		if o := <-out; o.err != nil || o.result.BaseOffset != 1 || o.result.Reached != ReachedObject {
			t.Fatalf("%+v, %v", o.result, o.err)
		}
		if w.node.current.Load() != before {
			t.Fatal("the node began anew for nothing")
		}
		if got := w.readAll("t", 0); fmt.Sprint(got) != "[before during]" {
			t.Fatal(got)
		}
	})
}

// The answers to two commits are lost, and one request never arrives: the outcome is found, nothing is there twice.
func TestNodeInDoubt(t *testing.T) {
	for _, fault := range []metafake.Fault{metafake.LoseReply, metafake.Drop, metafake.Detach} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			inNodeWorld(t, nil, func(w *nodeWorld) {
				t := w.t
				w.create("t", nil)
				w.kv.FailTxns(fault, fault)
				for n := range 5 {
					if r := w.mustProduce("t", fmt.Sprint(n)); r.BaseOffset != int64(n) {
						t.Fatalf("%+v", r)
					}
				}
				for w.kv.Held() > 0 { // the late requests arrive at last
					if r, err := w.kv.Release(0); err != nil || r.Succeeded {
						t.Fatalf("a late commit: %+v, %v", r, err)
					}
				}
				w.mustProduce("t", "5")
				if got := w.readAll("t", 0); fmt.Sprint(got) != "[0 1 2 3 4 5]" {
					t.Fatal(got)
				}
			})
		})
	}
}

func TestNodeBeginsAnewWithoutItsLease(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		t := w.t
		w.create("t", nil)
		id, _, err := w.node.InitProducer(w.ctx)
		if err != nil {
			t.Fatal(err)
		}
		w.mustProduce("t", "before")
		first := w.node.current.Load()
		release := w.store.Hang(tierfake.Put)
		out := w.send("t", testBatch(id, 0, "x", "y"))
		synctest.Wait() // in the log by now
		if !w.kv.Expire(first.registration.Lease) {
			t.Fatal("no lease")
		}
		o := <-out
		reasonIs(t, o.err, ReasonOutcomeUnknown)
		if !ReasonOf(o.err).Retryable() {
			t.Fatal("not retryable")
		}
		release()
		for w.node.current.Load() == first {
			w.after(10 * time.Millisecond)
		}
		w.ready()
		if second := w.node.current.Load(); second == first || second.id == first.id {
			t.Fatal("the same incarnation goes on")
		}
		o = <-w.send("t", testBatch(id, 0, "x", "y"))
		if o.err != nil || o.result.BaseOffset != 1 || !o.result.Duplicate {
			t.Fatalf("the retry: %+v, %v", o.result, o.err)
		}
		if got := w.readAll("t", 0); fmt.Sprint(got) != "[before x y]" {
			t.Fatal(got)
		}
	})
}

func TestNodeWaitsForItsDisk(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		t := w.t
		w.create("t", map[string]string{"durability": "disk"})
		w.mustProduce("t", "before")
		w.store.Hang(tierfake.Put)
		w.fs.SetCapacity(1 << 10)
		value := strings.Repeat("x", 900<<10)
		var sent []<-chan outcome
		for range 45 {
			sent = append(sent, w.send("t", oneBatch(value)))
		}
		w.after(3 * time.Second)
		refused := 0
		var waiting []<-chan outcome
		for _, out := range sent {
			select {
			case o := <-out:
				if o.err != nil {
					reasonIs(t, o.err, ReasonBackPressure, "disk")
					refused++
				}
			default:
				waiting = append(waiting, out)
			}
		}
		if refused == 0 || len(waiting) == 0 {
			t.Fatalf("%d refused, %d wait", refused, len(waiting))
		}
		w.fs.SetCapacity(1 << 40)
		for _, out := range waiting {
			if o := <-out; o.err != nil || o.result.Reached < ReachedDisk {
				t.Fatalf("%+v, %v", o.result, o.err)
			}
		}
		w.mustProduce("t", "again")
		ctx, cancel := context.WithCancel(w.ctx)
		cancel()
		_ = w.node.Close(ctx) // the store hangs: what is on disk stays there
	})
}

func TestNodeDeletesATopicUnderProduce(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		t := w.t
		w.create("t", nil)
		w.create("other", nil)
		release := w.store.Hang(tierfake.Put)
		out := w.send("t", oneBatch("x"))
		kept := w.send("other", oneBatch("y"))
		w.pending(out)
		if err := w.node.DeleteTopic(w.ctx, "t"); err != nil {
			t.Fatal(err)
		}
		o := <-out
		reasonIs(t, o.err, ReasonUnknownTopic, "t")
		release()
		if o := <-kept; o.err != nil || o.result.BaseOffset != 0 {
			t.Fatalf("the other topic in the same object: %+v, %v", o.result, o.err)
		}
		_, err := w.produce("t", "z")
		reasonIs(t, err, ReasonUnknownTopic)
		_, err = w.node.Fetch(w.ctx, FetchRequest{Topic: "t", Partitions: []FetchPartition{{}}})
		reasonIs(t, err, ReasonUnknownTopic)
		w.create("t", nil) // the same name, another topic
		if got := w.readAll("t", 0); len(got) != 0 {
			t.Fatalf("the new topic has %v", got)
		}
	})
}

func TestNodeFolds(t *testing.T) {
	const flushes = 2000
	setup := func(c *Config) { c.FlushInterval, c.TailBytes = time.Millisecond, 1 }
	inNodeWorld(t, setup, func(w *nodeWorld) {
		t := w.t
		w.create("t", nil)
		// An object that an earlier incarnation left behind, and that no record ever named.
		orphan := meta.L0ObjectName("n1", 1, 7, 0)
		if err := w.store.Put(w.ctx, orphan, [][]byte{[]byte("nobody's")}); err != nil {
			t.Fatal(err)
		}
		var end atomic.Int64
		stop := make(chan struct{})
		var readers sync.WaitGroup
		readers.Go(func() { // reads everything, again and again, while it is being folded
			for {
				select {
				case <-stop:
					return
				case <-clock.System().NewTimer(100 * time.Millisecond).C():
				}
				want := end.Load()
				if got := w.readAll("t", 0); int64(len(got)) < want {
					t.Errorf("%d records where %d are acknowledged", len(got), want)
				}
			}
		})
		for n := range flushes {
			w.mustProduce("t", fmt.Sprint(n))
			end.Store(int64(n + 1))
		}
		close(stop)
		readers.Wait()
		synctest.Wait()
		i := w.node.current.Load()
		records := i.follower.Records("n1")
		if len(records) > 200 {
			t.Fatalf("%d flushes have left %d records", flushes, len(records))
		}
		for n, got := range w.readAll("t", 0) {
			if got != fmt.Sprint(n) {
				t.Fatalf("offset %d has %s", n, got)
			}
		}
		for _, offset := range []int64{0, 1, 700, flushes - 1} {
			if got := w.readAll("t", offset); len(got) != int(flushes-offset) || got[0] != fmt.Sprint(offset) {
				t.Fatalf("from %d: %d records", offset, len(got))
			}
		}
		w.garbage(flushes/2, orphan)
		w.after(2*time.Hour + 11*time.Minute)
		synctest.Wait()
		w.garbage(0, "")
	})
}

// garbage checks the store against the records: every object that a record names is there, and besides them at least so
// many, or none at all when least is 0.
func (w *nodeWorld) garbage(least int, orphan string) {
	w.t.Helper()
	there := make(map[string]bool)
	for _, name := range w.store.Names() {
		there[name] = true
	}
	if orphan != "" && !there[orphan] {
		w.t.Fatal("the object that nobody names has gone before its time")
	}
	named := 0
	for _, r := range w.node.current.Load().follower.Records("n1") {
		if !there[r.Object] {
			w.t.Fatalf("record %d names object %s, which is gone", r.Seq, r.Object)
		}
		named++
	}
	if extra := len(there) - named; extra < least || (least == 0 && extra != 0) {
		w.t.Fatalf("%d objects, %d of them named by records", len(there), named)
	}
}

func TestNodeFindsOffsetsByTime(t *testing.T) {
	for _, where := range []string{"tier", "tail"} {
		t.Run(where, func(t *testing.T) {
			setup := func(c *Config) {
				if where == "tail" {
					c.IdleFlushInterval = time.Hour
				}
			}
			inNodeWorld(t, setup, func(w *nodeWorld) {
				t := w.t
				w.create("t", map[string]string{"durability": map[string]string{"tier": "object", "tail": "disk"}[where]})
				w.mustProduce("t", "a", "b", "c") // at 1000, 1001, 1002
				w.mustProduce("t", "d", "e", "f", "g")
				synctest.Wait()
				for at, want := range map[int64]int64{0: 0, 1000: 0, 1001: 1, 1002: 2, 1003: 6, 1004: 7} {
					if got, err := w.node.OffsetForTime(w.ctx, "t", 0, at); err != nil || got != want {
						t.Errorf("since %d: %d, %v; want %d", at, got, err, want)
					}
				}
			})
		})
	}
}

func TestNodePlansAReadAgain(t *testing.T) {
	inNodeWorld(t, func(c *Config) { c.TailBytes = 1 }, func(w *nodeWorld) {
		t := w.t
		w.create("t", nil)
		w.mustProduce("t", "a")
		w.mustProduce("t", "b")
		synctest.Wait()
		gone := fmt.Errorf("%w: folded away", tier.ErrNotFound)
		w.store.FailNext(tierfake.ReadAt, gone, tierfake.Before)
		if got := w.readAll("t", 0); fmt.Sprint(got) != "[a b]" {
			t.Fatal(got)
		}
		if w.store.Count(tierfake.ReadAt) < 2 {
			t.Fatal("the story did not touch the store")
		}
		for range 20 {
			w.store.FailNext(tierfake.ReadAt, gone, tierfake.Before)
		}
		_, err := w.node.Fetch(w.ctx, FetchRequest{Topic: "t", Partitions: []FetchPartition{{}}})
		reasonIs(t, err, ReasonCorruptData, "l0/n1/")
	})
}

func TestNodeFetchWaits(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		t := w.t
		w.create("t", map[string]string{"durability": "disk"})
		began := clock.System().Now()
		got, err := w.node.Fetch(w.ctx, FetchRequest{Topic: "t", Partitions: []FetchPartition{{}}, MaxWait: 5 * time.Second})
		if waited := clock.System().Now().Sub(began); err != nil || len(got[0].Batches) != 0 || waited != 5*time.Second {
			t.Fatalf("%v, %v after %v", got, err, waited)
		}
		answer := make(chan []PartitionBatches, 1)
		go func() {
			got, err := w.node.Fetch(w.ctx, FetchRequest{Topic: "t", Partitions: []FetchPartition{{}}, MaxWait: time.Hour})
			if err != nil {
				t.Error(err)
			}
			answer <- got
		}()
		synctest.Wait()
		w.mustProduce("t", "x")
		if got := <-answer; len(got[0].Batches) != 1 || got[0].NextOffset != 1 {
			t.Fatalf("%+v", got)
		}
		_, err = w.node.Fetch(w.ctx, FetchRequest{Topic: "t", Partitions: []FetchPartition{{Offset: 9}}})
		reasonIs(t, err, ReasonOffsetOutOfRange)
		if m := AsError(err).Metadata; m["high_watermark"] != "1" || m["log_start_offset"] != "0" {
			t.Fatal(m)
		}
		ctx, cancel := context.WithCancel(w.ctx)
		go func() { <-clock.System().NewTimer(time.Second).C(); cancel() }()
		_, err = w.node.Fetch(ctx, FetchRequest{Topic: "t", Partitions: []FetchPartition{{Offset: 1}}, MaxWait: time.Hour})
		reasonIs(t, err, ReasonCanceled)
	})
}

func TestNodeCloseDrains(t *testing.T) {
	inNodeWorld(t, func(c *Config) { c.FlushInterval = time.Hour }, func(w *nodeWorld) {
		t := w.t
		w.create("t", nil)
		out := w.send("t", oneBatch("x"))
		w.pending(out)
		w.close()
		if o := <-out; o.err != nil || o.result.Reached != ReachedObject {
			t.Fatalf("%+v, %v", o.result, o.err)
		}
		_, err := w.produce("t", "y")
		reasonIs(t, err, ReasonShuttingDown)
		w.open()
		if i := w.node.current.Load(); i.replayedBatches != 0 && len(i.core.partitions) == 0 {
			t.Fatal("nothing is led")
		}
		if got := w.readAll("t", 0); fmt.Sprint(got) != "[x]" {
			t.Fatal(got)
		}
	})
}
