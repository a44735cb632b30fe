package ingest

import (
	"testing"

	"github.com/tidemark-io/tidemark/tier/tierfake"
)

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
