package ingest

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/disk/crashdisk"
	"github.com/tidemark-io/tidemark/tier/tierfake"
)

// What was acknowledged is there after a node was closed, was killed, or lost its lease and began anew.

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
