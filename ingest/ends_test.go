package ingest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemark-io/tidemark/meta"
)

func TestEndsCoverEverythingAcknowledged(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		w.create("on-object", nil)
		w.create("on-disk", map[string]string{"durability": "disk"})
		for n := range 20 {
			for _, topic := range []string{"on-object", "on-disk"} {
				acked := w.mustProduce(topic, "a", "b")
				found, states, err := w.node.Ends(w.ctx, topic)
				if err != nil || found.Name != topic || len(states) != 1 {
					t.Fatalf("ends of %s: %v %v %v", topic, found, states, err)
				}
				if states[0].HighWatermark < acked.BaseOffset+2 {
					t.Errorf("produce %d to %s was acknowledged at %d, the end is %d", n, topic, acked.BaseOffset, states[0].HighWatermark)
				}
			}
		}
		if _, _, err := w.node.Ends(w.ctx, "nobody"); ReasonOf(err) != ReasonUnknownTopic {
			t.Errorf("a topic that is not there: %v", err)
		}
	})
}

func TestEndsAreNeverGivenFromAnIndexThatLags(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		w.create("a", nil)
		w.mustProduce("a", "1")
		w.kv.HoldWatches()
		acked := w.mustProduce("a", "2")
		type answer struct {
			states []PartitionState
			err    error
		}
		answers := make(chan answer, 1)
		go func() {
			_, states, err := w.node.Ends(w.ctx, "a")
			answers <- answer{states, err}
		}()
		synctest.Wait()
		select {
		case a := <-answers:
			t.Errorf("answered %v %v while the index lags", a.states, a.err)
		default:
		}
		w.kv.ReleaseWatches(meta.Revision(1) << 40)
		if a := <-answers; a.err != nil || a.states[0].HighWatermark < acked.BaseOffset+1 {
			t.Errorf("afterwards: %v %v, acknowledged was %d", a.states, a.err, acked.BaseOffset)
		}
	})
}

func TestEndsNeedEtcd(t *testing.T) {
	inNodeWorld(t, nil, func(w *nodeWorld) {
		w.create("a", nil)
		w.mustProduce("a", "1")
		w.kv.SetUnavailable(true)
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		if _, _, err := w.node.Ends(ctx, "a"); err == nil {
			t.Error("ends were given without asking etcd")
		}
		w.kv.SetUnavailable(false)
	})
}
