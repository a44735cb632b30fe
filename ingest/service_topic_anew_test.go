package ingest

import (
	"context"
	"testing"
	"time"

	"github.com/tidemark-io/tidemark/clock"
	"github.com/tidemark-io/tidemark/meta"
	tidemarkv1 "github.com/tidemark-io/tidemark/proto/tidemark/v1"
)

// behindIndex has a topic that is not there any more until somebody waits for a later revision.
type behindIndex struct {
	clusterIndex
	old    meta.Topic
	caught bool
}

func (i *behindIndex) Topic(name string) (meta.Topic, bool) {
	if !i.caught {
		return i.old, true
	}
	return i.clusterIndex.Topic(name)
}

func (i *behindIndex) WaitFor(ctx context.Context, revision meta.Revision) error {
	i.caught = true
	return i.clusterIndex.WaitFor(ctx, revision)
}

// A topic is made anew, and a client that knows its id comes to a node that has not heard of it yet.
func TestANodeBehindItsCallerLooksAgain(t *testing.T) {
	inRouteWorld(t, 1, func(w *routeWorld) {
		t, router := w.t, w.nodes["n1"].router
		w.create("n1", "a", 1, nil)
		old, err := router.FindTopic(w.ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		if err := router.DeleteTopic(w.ctx, "a"); err != nil {
			t.Fatal(err)
		}
		w.create("n1", "a", 1, nil)
		w.after(time.Second)
		anew, err := router.FindTopic(w.ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		h, refused := router.here(w.ctx)
		if refused != nil {
			t.Fatal(refused)
		}
		h.index = &behindIndex{clusterIndex: h.index, old: old}
		if got, err := h.named(w.ctx, "a", anew.ID, 1); err != nil || got.ID != anew.ID {
			t.Errorf("the new topic is %v, %v", got.ID, err)
		}
		if _, err := h.named(w.ctx, "a", old.ID, 1); ReasonOf(err) != ReasonUnknownTopic {
			t.Errorf("the old topic: %v", err)
		}

		// A stream begins in the new one, though the description of the topic comes from behind.
		service := &consumeService{node: &behindRouter{Router: router, old: old}, clock: clock.System(), closing: make(chan struct{})}
		w.nodes["n1"].mustSend("a", 0, "new")
		w.after(time.Second)
		for id, want := range map[meta.TopicID]Reason{anew.ID: "", old.ID: ReasonUnknownTopic} {
			read := 0
			ctx := context.WithValue(w.ctx, sendRoomKey{}, newSendRoom(sendBytes, clock.System()))
			err := service.consume(ctx, &tidemarkv1.ConsumeRequest{Topic: "a", TopicId: id.String(), UntilEnd: true}, func(m *tidemarkv1.ConsumeResponse) error {
				read += len(m.GetBatches().GetBatches())
				return nil
			})
			if ReasonOf(err) != want || (want == "") != (read > 0) {
				t.Errorf("a stream of the topic %v: %d bytes, %v", id, read, err)
			}
		}
	})
}

// behindRouter describes a topic that is not there any more, until somebody asks where it ends.
type behindRouter struct {
	*Router
	old   meta.Topic
	asked bool
}

func (r *behindRouter) Topic(ctx context.Context, name string) (meta.Topic, []PartitionState, error) {
	topic, states, err := r.Router.Topic(ctx, name)
	if !r.asked {
		topic = r.old
	}
	return topic, states, err
}

func (r *behindRouter) Ends(ctx context.Context, name string) (meta.Topic, []PartitionState, error) {
	r.asked = true
	return r.Router.Ends(ctx, name)
}
