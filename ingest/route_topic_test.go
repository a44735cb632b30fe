package ingest

import (
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// A topic is deleted and made again. Whoever names the old one's id, as a node does that has not heard of it, neither reads nor writes the new one.
func TestATopicMadeAgainIsAnother(t *testing.T) {
	inRouteWorld(t, 2, func(w *routeWorld) {
		t := w.t
		w.create("n1", "a", 2, nil)
		near, far := w.ledBy("a", "n1"), w.ledBy("a", "n2")
		old, err := w.nodes["n1"].router.FindTopic(w.ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		if err := w.nodes["n1"].router.DeleteTopic(w.ctx, "a"); err != nil {
			t.Fatal(err)
		}
		w.create("n1", "a", 2, nil)
		w.after(time.Second)
		for _, partition := range []int32{near, far} {
			remade, err := w.nodes["n1"].router.FindTopic(w.ctx, "a")
			if err != nil || remade.ID == old.ID {
				t.Fatal(remade, err)
			}
			for _, forwarded := range []string{"", "1"} { // to whoever is asked, and by one node to the other
				for id, want := range map[meta.TopicID]Reason{old.ID: ReasonUnknownTopic, remade.ID: ""} {
					to := w.nodes["n1"]
					if forwarded != "" {
						to = w.nodes[w.leaders("n1", "a")[partition]]
					}
					produce := connect.NewRequest(&tidemarkv1.ProduceRequest{Topic: "a", TopicId: id.String(), Partition: partition, Batch: oneBatch("x")})
					ctx, call := connect.NewClientContext(w.ctx)
					call.RequestHeader().Set(headerHops, forwarded)
					_, err := to.produce().Produce(ctx, produce.Msg)
					if got, _ := wireReason(err); got != want {
						t.Errorf("produce with hops %q: %v, want %q", forwarded, err, want)
					}
					ctx, call = connect.NewClientContext(w.ctx)
					call.RequestHeader().Set(headerHops, forwarded)
					_, err = to.consume().Fetch(ctx, &tidemarkv1.FetchRequest{Topic: "a", TopicId: id.String(), Partitions: []*tidemarkv1.FetchPartition{{Partition: partition}}})
					if got, _ := wireReason(err); got != want {
						t.Errorf("fetch with hops %q: %v, want %q", forwarded, err, want)
					}
				}
			}
		}
		_, err = w.nodes["n1"].consume().Fetch(w.ctx, &tidemarkv1.FetchRequest{Topic: "a", TopicId: "x", Partitions: []*tidemarkv1.FetchPartition{{}}})
		if got, _ := wireReason(err); got != ReasonInvalidRequest {
			t.Error(err)
		}
	})
}
