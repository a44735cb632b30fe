package ingest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
)

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
